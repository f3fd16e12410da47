/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Emptying this host: a job that moves its guests away, a few at a time, and can bring them back. It belongs
 * to the agent, not to the computectl that asked for it, and goes on after a restart: what it does is in the
 * journal (role "drain", one record a host) before it is done. The record stays when the job has ended, for
 * `drain status` and `drain undo`, until another job takes its place or all is undone.
 *
 * Under Nova the API is asked (cloud/moves.h), so that the scheduler chooses; in standalone the agents
 * are, as `computectl migrate` asks them (agent/drain_ways.c). A guest that cannot move is told with its
 * reason, and the others go on. Loop thread.
 */
#pragma once

#include <json-c/json_object.h>

#include "agent/agent.h"

enum drain_order { DRAIN_LARGEST, DRAIN_SMALLEST, DRAIN_NAME };
/* -1 = no such word. */
int drain_order_parse(const char *word);

struct drain_request {
    const char *destination; /* NULL: the scheduler chooses; standalone needs one */
    enum drain_order order;
    int64_t parallel; /* at a time; 0 = as many as max_concurrent_live_migrations lets run */
    bool disable;     /* the compute service first: nothing new comes meanwhile */
};

/*
 * Begins. A job under way is joined if it is asked for the same, else ERR_INSTANCE_STATE. One that was stopped, or that
 * left guests behind, is continued: what it moved stays among what can be undone.
 */
int drain_begin(struct agent *agent, const struct drain_request *request, struct err *e);
/* Lets those end that move, and moves no more. */
int drain_stop(struct agent *agent, struct err *e);
/* Brings back those that the job moved and that still are where it put them; not while it runs. The service
 * is enabled again first, if the job had disabled it. */
int drain_undo(struct agent *agent, struct err *e);
/* What is known of the job, as computectl shows it (lib/control.h has the protocol); NULL = there was none. New
 * reference. */
struct json_object *drain_status(const struct agent *agent);

/* Goes on with what the journal has (agent/recovery.c); record is borrowed. */
void drain_resume(struct agent *agent, struct json_object *record);
/* A migration of this host changed its status: the job looks at once. */
void drain_wake(struct agent *agent);
/* The agent ends; the record stays. */
void drain_close(struct agent *agent);
