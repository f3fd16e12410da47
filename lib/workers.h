/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A pool of threads for calls that block: libvirt, disks, programs, name look-ups. One job runs on one
 * thread and its end is told on the loop. Threads are made on demand up to a limit and leave when idle,
 * so that an idle agent has few.
 *
 * A job past its deadline is written off: `done` is called with WORK_OVERDUE, the stuck thread no longer
 * counts against the limit (a new one may start), and `workers_stuck()` and the metrics show it. When
 * the call does return later, only `release` is called.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "lib/err.h"
#include "lib/loop.h"

enum work_end { WORK_DONE, WORK_OVERDUE, WORK_DROPPED /* the pool was closed before it ran */ };

struct work {
    const char *name;                           /* static text, for logs and metrics */
    int64_t deadline_us;                        /* from submission; 0 = none */
    void (*run)(void *aux);                     /* on a pool thread */
    void (*done)(void *aux, enum work_end end); /* on the loop, exactly once; may be NULL */
    void (*release)(
        void *
            aux); /* on the loop, exactly once, last of all: nobody uses aux any more; may be NULL */
    void *aux;
};

struct workers;
int workers_new(struct workers **out, struct loop *loop, unsigned threads_max, struct err *e);
/*
 * On the loop's thread, not inside `done` or `release`. Queued jobs end as WORK_DROPPED. Waits at most
 * wait_us for running ones, then leaves stuck threads behind (they hold no agent state): their jobs end
 * as WORK_OVERDUE, and `release` is never called for them, since the thread may still use aux.
 * NULL is accepted.
 */
void workers_free(struct workers *workers, int64_t wait_us);

/* Queues a job; never blocks. The struct is copied. Any thread. */
void workers_submit(struct workers *workers, const struct work *work);
unsigned workers_stuck(const struct workers *workers);
unsigned workers_running(const struct workers *workers);
