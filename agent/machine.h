/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The migration machine: one table of {state, event, guard, action, next} (agent/machine.c). An event
 * that the table does not have for a state is a logged fault, never silently dropped.
 *
 * Source. What is true on each host, and what a crash of the agent here means:
 *
 *   ACCEPTED     nothing was done; the record is being written. Crash: the broker gives the request again.
 *   QUEUED       waits for a place (max_concurrent_live_migrations). Crash: it queues again.
 *   PREPARING    the destination prepares (disks, ports). The guest runs here, untouched. Crash: the
 *                destination is told to take back.
 *   WAITING_VIFS the destination is ready; network-vif-plugged events are awaited. Crash: as PREPARING.
 *   STARTING     the destination's XML is made, the record says RUNNING. Crash: as RUNNING.
 *   RUNNING      libvirt moves the guest, peer to peer. Crash: libvirt goes on; the restarted agent
 *                comes back in OBSERVING.
 *   OBSERVING    it runs, or ran, without our call's result: the domain on this host tells (running with
 *                a job, running without one, gone). A paused domain without a job is never resumed: only
 *                the destination's word decides (promise S1).
 *   RECOVERING   post-copy lost its connection: the guest's memory lies on both hosts, neither is touched. libvirt
 *                is asked to go on with it, again and again; without a guest at the destination it is parked. Crash: as
 *                OBSERVING, which finds it so.
 *   FINISHING    libvirt says that it moved. Bindings are activated, the destination confirms that the
 *                guest runs there. Crash: continued here.
 *   CLEANING     the destination's word is in the record; this host's files and ports go. Crash: continued.
 *   ROLLING_BACK the guest is here and stays; the destination is told to take back. Crash: continued.
 *   COMPLETED, FAILED, CANCELLED, ERROR: the end; no record is left.
 *   PARKED       an operator must look: what is true cannot be told. The record stays.
 *
 * Destination:
 *
 *   ACCEPTED     nothing was done.
 *   PREPARING    directories, disks, ports are made, each after its undo step. Crash: undone.
 *   PREPARED     the source may send. Crash: kept; the source is asked what became of it.
 *   HERE         the guest runs here (seen by event, or read back).
 *   SETTLING     the source called post_live_migration_at_destination.
 *   ROLLING_BACK what was made is taken away; a domain that runs is never destroyed.
 *   COMPLETED, FAILED: the end.
 */
#pragma once

#include <stdbool.h>

#include "lib/text.h"

#define MACHINE_STATES(X)                                                                          \
    X(SOURCE_ACCEPTED, "accepted")                                                                 \
    X(SOURCE_QUEUED, "queued")                                                                     \
    X(SOURCE_PREPARING, "preparing")                                                               \
    X(SOURCE_WAITING_VIFS, "waiting for ports")                                                    \
    X(SOURCE_STARTING, "starting")                                                                 \
    X(SOURCE_RUNNING, "running")                                                                   \
    X(SOURCE_OBSERVING, "observing")                                                               \
    X(SOURCE_RECOVERING, "recovering post-copy")                                                   \
    X(SOURCE_FINISHING, "finishing")                                                               \
    X(SOURCE_CLEANING, "cleaning up")                                                              \
    X(SOURCE_ROLLING_BACK, "rolling back")                                                         \
    X(SOURCE_COMPLETED, "completed")                                                               \
    X(SOURCE_FAILED, "failed")                                                                     \
    X(SOURCE_CANCELLED, "cancelled")                                                               \
    X(SOURCE_ERROR, "error")                                                                       \
    X(SOURCE_PARKED, "parked")                                                                     \
    X(DESTINATION_ACCEPTED, "accepted")                                                            \
    X(DESTINATION_PREPARING, "preparing")                                                          \
    X(DESTINATION_PREPARED, "prepared")                                                            \
    X(DESTINATION_HERE, "here")                                                                    \
    X(DESTINATION_SETTLING, "settling")                                                            \
    X(DESTINATION_ROLLING_BACK, "rolling back")                                                    \
    X(DESTINATION_COMPLETED, "completed")                                                          \
    X(DESTINATION_FAILED, "failed")                                                                \
    X(DESTINATION_PARKED, "parked")

#define MACHINE_EVENTS(X)                                                                          \
    X(JOURNALED, "journaled") /* the record is on disk */                                          \
    X(REFUSED, "refused")     /* it could not be taken on */                                       \
    X(PLACE, "place")         /* a place in the queue of running ones */                           \
    X(PREPARED, "prepared")   /* the destination answered, or our own preparation ended */         \
    X(PREPARE_FAILED, "prepare failed")                                                            \
    X(PORTS_PLUGGED, "ports plugged")                                                              \
    X(PORTS_LATE, "ports late")                                                                    \
    X(STARTED, "started") /* ready for libvirt's call */                                           \
    X(START_FAILED, "start failed")                                                                \
    X(MOVED, "moved")         /* libvirt: completed */                                             \
    X(NOT_MOVED, "not moved") /* libvirt: failed or cancelled; the guest is here */                \
    X(UNKNOWN, "unknown")     /* the connection to libvirt broke in the call */                    \
    X(AMBIGUOUS, "ambiguous") /* paused here, no job */                                            \
    X(LOST, "lost")           /* paused here: post-copy lost its connection */                     \
    X(ABORT, "abort")                                                                              \
    X(CONFIRMED, "confirmed")     /* the destination says: it runs here */                         \
    X(UNCONFIRMED, "unconfirmed") /* no such word within the time */                               \
    X(DENIED, "denied")           /* the destination says: it does not run here */                 \
    X(CLEANED, "cleaned")                                                                          \
    X(ROLLED_BACK, "rolled back")                                                                  \
    X(ARRIVED, "arrived") /* destination: libvirt's resumed event */                               \
    X(POST, "post")       /* destination: post_live_migration_at_destination */                    \
    X(SETTLED, "settled")                                                                          \
    X(SETTLE_FAILED, "settle failed")                                                              \
    X(ROLLBACK, "rollback") /* destination: rollback_live_migration_at_destination */              \
    X(ROLLBACK_FAILED, "rollback failed")

enum machine_state {
#define X(id, text) MACHINE_##id,
    MACHINE_STATES(X)
#undef X
        MACHINE_STATE_COUNT
};
enum machine_event {
#define X(id, text) MACHINE_EVENT_##id,
    MACHINE_EVENTS(X)
#undef X
        MACHINE_EVENT_COUNT
};

struct migration;

typedef bool (*machine_guard)(const struct migration *migration);
typedef void (*machine_action)(struct migration *migration);

struct machine_row {
    enum machine_state state;
    enum machine_event event;
    machine_guard guard;   /* NULL = always */
    machine_action action; /* NULL = none; runs after the state changed */
    enum machine_state next;
    const char *guard_name, *action_name; /* for the picture */
};

/* The table, for the machine itself, its tests and `computed --print-machine`. */
const struct machine_row *machine_table(size_t *count);

/* Takes the event: the first row of {state, event} whose guard holds. Loop thread. */
void machine_event(struct migration *migration, enum machine_event event);

const char *machine_state_name(enum machine_state state); /* "SOURCE_RUNNING" */
const char *machine_state_text(enum machine_state state); /* "running", for people */
const char *machine_event_name(enum machine_event event);
int machine_state_parse(const char *name, enum machine_state *out);
bool machine_state_is_final(enum machine_state state); /* no record is left */
/* The table as a graph for dot(1). */
char *machine_dot(void);
