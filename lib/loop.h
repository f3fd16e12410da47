/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event loop: epoll, timers, signals and an inbox that other threads post to. One thread runs it
 * and owns all agent state; nothing called from it may block. A callback that takes longer than
 * LOOP_SLOW_US is logged with its name, and the slowest ones are shown by `computectl stats`.
 *
 * All functions belong to the loop's thread unless they say otherwise.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "lib/err.h"

enum { LOOP_SLOW_US = 20000 };

struct loop;
struct loop_source;
struct loop_timer;

typedef void (*loop_fd_fn)(void *aux, uint32_t epoll_events);
typedef void (*loop_fn)(void *aux);
typedef void (*loop_signal_fn)(void *aux, int signal_number);

int loop_new(struct loop **out, struct err *e);
/* Frees the loop and what is left of its sources and timers; posts not yet run are dropped. */
void loop_free(struct loop *loop);
DEFINE_CLEANUP(struct loop *, loop_free)

/* Runs until loop_quit(). Binds the loop to the calling thread. */
int loop_run(struct loop *loop, struct err *e);
/* One turn, waiting at most timeout_ms (-1 = for ever); for tests. */
int loop_turn(struct loop *loop, int timeout_ms, struct err *e);
void loop_quit(struct loop *loop); /* any thread */

/*
 * Watches a descriptor (level-triggered unless EPOLLET is given), which stays the caller's and must be
 * closed only after loop_source_free(). `name` is static text for the log. NULL on error.
 */
struct loop_source *loop_add_fd(struct loop *loop, int fd, uint32_t epoll_events, const char *name,
                                loop_fd_fn fn, void *aux, struct err *e);
int loop_source_set_events(struct loop_source *source, uint32_t epoll_events, struct err *e);
/* Safe inside any callback, also its own: the function is not called again. NULL is accepted. */
void loop_source_free(struct loop_source *source);

/*
 * One-shot timers on the monotonic clock; due ones run in order of their deadlines. A timer that its
 * own function arms again runs at the next turn at the earliest.
 */
struct loop_timer *loop_timer_new(struct loop *loop, const char *name, loop_fn fn, void *aux);
void loop_timer_arm(struct loop_timer *timer, int64_t delay_us); /* re-arming moves it */
void loop_timer_disarm(struct loop_timer *timer);
bool loop_timer_armed(const struct loop_timer *timer);
/* When the first armed timer is due; INT64_MAX = none is armed. */
int64_t loop_next_due_us(const struct loop *loop);
void loop_timer_free(struct loop_timer *timer); /* NULL is accepted; safe in its own callback */

/*
 * Signals by signalfd; they are blocked in the calling thread, so call before threads start. They stay
 * blocked when the loop is freed. One function a signal: the last one given is called.
 */
int loop_add_signal(struct loop *loop, int signal_number, loop_signal_fn fn, void *aux,
                    struct err *e);

/* Runs fn(aux) on the loop's thread, in order of posting. Any thread. */
void loop_post(struct loop *loop, const char *name, loop_fn fn, void *aux);

/* True on the thread that runs the loop; before it runs, on the one that made it (for assertions). */
bool loop_is_current(const struct loop *loop);

/* Longest callbacks so far, worst first; names are static. Returns how many were written. */
struct loop_slow {
    const char *name;
    int64_t longest_us;
    uint64_t calls;
};
unsigned loop_slowest(const struct loop *loop, struct loop_slow *out, unsigned capacity);
