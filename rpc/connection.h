/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A thread that keeps one session with one of the brokers alive for ever: connects, fails over in the
 * order of transport_url, waits longer after each round in which none could be reached
 * (rabbit_retry_interval, _backoff, _interval_max), reads frames, sends heartbeats, and lets its role
 * (consumer or publisher) do the rest. Everything of a role runs on this thread.
 *
 * The thread sleeps in one poll() over the socket and its inbox; an idle one wakes for heartbeats only.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "lib/err.h"
#include "rpc/bus_internal.h"
#include "rpc/session.h"

struct connection;

struct connection_role {
    const char *name; /* "requests": in the thread's name and at the broker */
    const struct session_handler *handler;
    /* A session is there: declare what is needed. SESSION_OK or SESSION_DEAD. */
    enum session_end (*ready)(void *aux, struct session *session, struct err *e);
    /*
     * Called whenever the thread is awake: reads the inbox and acts. `session` is NULL while there is
     * none. *next_us: when to call again at the latest (preset to never). SESSION_OK or SESSION_DEAD.
     */
    enum session_end (*work)(void *aux, struct session *session, int64_t now_us, int64_t *next_us,
                             struct err *e);
    bool (*paused)(void *aux); /* true: read nothing more for now; the loop is behind */
    bool (*idle)(void *aux);   /* true: nothing is left to do before leaving */
    void (*leaving)(void *aux, struct session *session); /* a last word, the session still stands */
    /* The session is gone, or none could be made (`why`). Nothing of it is valid any more. */
    void (*lost)(void *aux, const char *why);
    void (*free)(void *aux); /* last of all */
};

/* Starts the thread. `inbox` and `setup` are referenced; `aux` is freed by the role's free(), always. */
int connection_new(struct connection **out, const struct connection_role *role, void *aux,
                   struct bus_setup *setup, struct mailbox *inbox, struct err *e);
/* Asks the thread to leave when its role is idle, at deadline_us at the latest. */
void connection_stop(struct connection *connection, int64_t deadline_us);
/*
 * Waits for the thread until deadline_us, then cuts its socket and waits a little more; a thread that still
 * hangs (in a name look-up) is left behind with all that it uses. Frees the handle.
 */
void connection_join(struct connection *connection, int64_t deadline_us);
