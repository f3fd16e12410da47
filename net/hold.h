/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Holding frames in the kernel: what the fabric already sends to a guest's tap at the destination of a
 * live migration waits until older frames, which the source forwarded, were put in front of it.
 *
 * Beside the tap is an intermediate device (IFB), "hld" and what follows the tap's first three characters,
 * whose token bucket lets nothing pass. A filter on the way out of the tap sends every frame there: the
 * hold begins. Frames that a packet socket with PACKET_QDISC_BYPASS sends on the tap pass by the filter and
 * go straight into the tap's ring: that is how older frames come first. Release opens the bucket: what
 * waits goes to the tap in its order, and what comes new follows by the same way. When all that is through
 * (hold_backlog() gives 0 frames) the filter is taken away: the hold has ended. The tap's own queueing
 * discipline is never touched, for the kernel drops frames while it changes one.
 *
 *     hold_make (worker, early) ... tap appears ... hold_open -> hold_begin -> [frames by the bypass]
 *         -> hold_release -> hold_backlog until 0 -> hold_end -> hold_close ... hold_remove (worker)
 *
 * Bounds: `limit_bytes` of frames wait, counted as long as they are (the kernel needs up to 1 KB more for
 * each); more are dropped. The bucket stays closed for 18 hours at least. At release all goes into the tap's
 * ring at once, which takes as many frames as the tap's txqueuelen less what the guest did not read yet;
 * what does not fit is dropped by the tap, as always.
 * GSO frames stay whole.
 *
 * Others at the same tap: the filter hook (clsact) and the "ingress" of traffic policing exclude each other in
 * the kernel, so a tap that is policed cannot be held, and hold_open() says so. Open vSwitch takes away any such
 * hook when it takes a tap in: hold_begin() puts it there again; if it goes during a hold, new frames pass.
 *
 * Failures are ERR_NET_PLUG unless said otherwise. A failure never leaves frames held that were not before.
 */
#pragma once

#include <linux/if.h>
#include <stdint.h>

#include "lib/attributes.h"
#include "lib/err.h"

enum { HOLD_TX_QUEUE_LENGTH = 4096, HOLD_LIMIT_MIN = 65536 };

/* The name of the tap's IFB. ERR_INVALID for a name that can have none: not an interface's name, none
 * left after its first three characters, or the result is itself. Any thread. */
int hold_name(const char *tap, char name[IFNAMSIZ], struct err *e);

/*
 * BLOCKS. Makes the tap's IFB, up, its bucket one that hold_open() closes; the tap need not exist. Also tries on the
 * IFB all that hold_begin() needs of the kernel, so that a kernel without it says so here, and its modules are loaded.
 * mtu: of the network, 0 = not known. limit_bytes: HOLD_LIMIT_MIN to UINT32_MAX, else ERR_INVALID.
 * Idempotent; a hold that somebody left behind ends. After a failure there is no IFB that was not there before.
 */
int hold_make(const char *tap, int mtu, int64_t limit_bytes, struct err *e);
/*
 * BLOCKS, at most about a second. Lets out what is held if the tap exists, takes off the filter, deletes the
 * IFB. The filter's hook goes as well, unless others have filters there or a process holds the tap open: frames
 * of a guest that runs would be lost, and it goes with the tap. Whether the tap exists or not; nothing there is
 * success; a name that can have no hold has none. No `struct hold` of the tap is used afterwards, but may be
 * closed.
 */
int hold_remove(const char *tap, struct err *e);

/*
 * Loop thread, as all that follows. Begin, release, end and backlog take some 100 us each (measured with 6.18).
 * Open and close are not for the pause: the kernel waits for its readers, 8 and 15 ms on a busy machine. A hold
 * that was opened knows its tap and IFB by index: devices of the same name that come later are not meant.
 */
struct hold;
/*
 * Both devices must exist. Hooks clsact to the tap and makes its txqueuelen HOLD_TX_QUEUE_LENGTH if it is less:
 * that drops what reaches the tap in that moment, so open before the guest's frames come here. A hold that
 * somebody who died left open or closed is let out and ended.
 */
int hold_open(struct hold **out, const char *tap, struct err *e);
/* NULL is accepted. What is held is let out, and new frames go directly: it fails open. Never fails. */
void hold_close(struct hold *h);
DEFINE_CLEANUP(struct hold *, hold_close)

/*
 * From here on frames wait. One netlink request (some more if the bucket must be closed again, or the hook
 * was taken away).
 * Frames that the tap's ring or queueing discipline has already stay in front. Begun already: success.
 *
 * The first of begin, release, end and backlog that finds that tap or IFB went away fails; from then on all
 * of them do nothing and succeed.
 */
int hold_begin(struct hold *h, struct err *e);
/* Lets go of what waits, in order, and of what comes then behind it. Not begun, or released: success. */
int hold_release(struct hold *h, struct err *e);
/*
 * Takes the filter away. Call it when hold_backlog() is 0, else new frames overtake what is on its way; even
 * then two frames that come within the same few microseconds as the end may change places. Releases first if
 * that was not done. Not begun: success.
 */
int hold_end(struct hold *h, struct err *e);
/*
 * What waits: frames in the bucket and on their way back to the tap, and the bytes of those in the bucket.
 * bytes or frames may be NULL.
 */
int hold_backlog(struct hold *h, int64_t *bytes, int64_t *frames, struct err *e);
