/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libvirt's event implementation, bound to the agent's loop (virEventRegisterImpl).
 *
 * Theory of operation. libvirt registers and changes its descriptors and timers from any thread, while
 * our loop belongs to one. So libvirt's things live in an epoll set of their own, with one timerfd, both
 * of which the kernel lets any thread change at once; the loop watches that set as one descriptor. No
 * change needs a message to the loop, and what becomes ready is dispatched within the same turn.
 *
 * libvirt offers no argument for its implementation's state, so there is one per process, here, under a
 * mutex that is never held while anything is called. Only what runs on the loop calls back. What libvirt
 * removes is freed (its free function called) at the end of a later turn, never inside libvirt's own
 * call, because libvirt holds locks there.
 *
 * Two additions bound what libvirt leaves unbounded (read in libvirt 9.0):
 * - virConnectOpen() talks to the server before keepalive can be switched on, so a stopped server would
 *   hold the caller for ever. libvirt_loop_guard_begin() puts a time limit on the connections that this
 *   thread opens: their sockets are shut down when it is over.
 * - when keepalive gives a connection up, libvirt wakes one of the waiting threads and that one the
 *   next, which then waits on a socket that nobody watches any more. A removed socket is therefore
 *   shut down as well: libvirt removes it only when it gives the connection up.
 */
#pragma once

#include <stdint.h>

#include "lib/err.h"
#include "lib/loop.h"

/* Registers the implementation (the first time; SIGPIPE is ignored from then on) and lets the loop
 * dispatch. Loop thread. */
int libvirt_loop_bind(struct loop *loop, struct err *e);
/* The loop dispatches no more; removed things are freed. Loop thread, not inside a callback. */
void libvirt_loop_unbind(void);

/* Sockets that libvirt registers on this thread from now on are shut after `timeout_us`, until _end(),
 * which lifts the limit of those that came to be. Any thread; does not nest. */
void libvirt_loop_guard_begin(int64_t timeout_us);
void libvirt_loop_guard_end(void);

/* Shuts every socket that libvirt has registered: each blocked libvirt call returns soon. Any thread. */
void libvirt_loop_break_all(void);

/* Waits until a dispatch that runs now has ended; for other threads than the loop's. */
void libvirt_loop_barrier(void);
