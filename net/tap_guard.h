/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Taps that are taken down just after they were made.
 *
 * A port of Open vSwitch is there before its tap (net/ovs.c). On the userspace datapath ovs-vswitchd therefore makes
 * a new tap promiscuous in the same moment in which libvirt puts it up. Each of them reads the tap's flags
 * (SIOCGIFFLAGS, or Open vSwitch its own copy of them), changes its own and writes all (SIOCSIFFLAGS): who writes
 * last undoes what the other did. A tap that lost IFF_UP so takes no frame any more, and nobody looks again: one
 * guest in some twenty had no network (measured with Open vSwitch 3.1 and libvirt 9.0 on a busy machine).
 *
 * A guard sees it in the kernel's link events and puts the tap up again, naming that flag alone. What goes down
 * later than TAP_GUARD_US after the tap appeared was somebody's wish and stays down.
 */
#pragma once

#include "lib/attributes.h"
#include "lib/err.h"
#include "lib/loop.h"

enum { TAP_GUARD_US = 30000000 };

struct tap_guard;
/* Loop's thread, as tap_guard_free(). */
int tap_guard_new(struct tap_guard **out, struct loop *loop, struct err *e);
void tap_guard_free(struct tap_guard *guard);
DEFINE_CLEANUP(struct tap_guard *, tap_guard_free)

/* From before a tap is made until it is not wanted any more; each twice is as good as once. Any thread. */
void tap_guard_watch(struct tap_guard *guard, const char *tap);
void tap_guard_forget(struct tap_guard *guard, const char *tap);

/* The tap ought to be up by now: looks, and puts it up if it is there and down. Two netlink requests; any thread. */
void tap_guard_check(const char *tap);
