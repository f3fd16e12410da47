/* SPDX-License-Identifier: Apache-2.0 */
/*
 * No frame is lost at the switch-over: what reaches the source's tap and the guest does not take any more is sent to
 * the destination's tap over the agents' encrypted stream (net/channel.h), from the guest's pause until the fabric has
 * learned its new place.
 *
 * The source sees every frame that the host gives to the tap (net/capture.h) and keeps the newest. The kernel counts
 * what QEMU has read from the tap; when the guest has stopped, the frames above that count are those that it never
 * saw, whatever time passed until libvirt told us. They go first, in order; from then on each frame goes at once.
 *
 * The destination holds what the fabric already gives to its tap (net/hold.h) while older frames are still coming by
 * the stream, puts these into the tap's own queue, and lets the held ones follow: the guest, which does not run yet,
 * finds them in the order in which they were sent. Holding ends a few milliseconds after the stream fell silent, at
 * the latest HOLD_MAX after the pause, and shortly after the guest runs, whatever is missing.
 *
 * A switch-over that fails gives back what reached the destination's tap since the pause; what reached the source's
 * tap is still in its queue. Frames for groups are never forwarded, as each host has its own copy.
 *
 * Without the stream (another release, a Python peer, a port that is firewalled) nothing of this happens, and the
 * network turns by announcement alone. All functions belong to the loop's thread; nothing blocks.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/err.h"
#include "lib/loop.h"
#include "net/channel.h"
#include "net/net.h"

enum forward_mode {
    FORWARD_LIVE, /* from the moment we hear of the pause; may overtake */
    FORWARD_HELD, /* from the pause itself, in order */
};

/* What became of frames. */
struct forward_counts {
    uint64_t forwarded; /* sent (source) or put into the tap (destination) */
    uint64_t held;      /* of them: were waiting when the source heard of the pause */
    uint64_t dropped;   /* did not fit into a queue, or the tap did not take them */
    uint64_t returned;  /* given back after a failed switch-over */
    uint64_t carried;   /* that the guest sent here (destination) and that left there (source) */
    uint64_t foreign;   /* not carried: they had another source address than the guest's */
    int64_t
        carried_us; /* from the pause until the port at the destination had its way; 0 = never */
};

/* A guest whose port is wired late keeps the way that it had (net/carry.h). */
enum forward_carry_event {
    FORWARD_CARRY_TURNED, /* it speaks at the destination now: wired, or without a way and `why` */
    FORWARD_CARRY_ENDED   /* nothing of it is needed any more; wired and why say nothing */
};
typedef void (*forward_carry_fn)(void *aux, enum forward_carry_event event, bool wired,
                                 const char *why);
struct tap_end;

/* ---- the source ---- */

struct forward_source;
/* Watches the taps of `ports` from now on and opens the stream to the destination (port 0 of it is an error). */
int forward_source_new(struct forward_source **out, struct loop *loop,
                       struct net_port *const *ports, size_t count, enum forward_mode mode,
                       const char *address, int port, const char *migration_uuid,
                       const char *key_hex, struct err *e);
/* Takes it off the loop: nothing more happens, and forward_source_free() may be called on another thread. */
void forward_source_detach(struct forward_source *source);
/* Closing its sockets takes the kernel some 10 ms each. */
void forward_source_free(struct forward_source *source);
DEFINE_CLEANUP(struct forward_source *, forward_source_free)
/* The guest has stopped here: all that it did not take goes over. May be called again after a return. */
void forward_source_paused(struct forward_source *source);
/* The guest runs here again: what the destination gives back goes into the taps. */
void forward_source_reverted(struct forward_source *source);
void forward_source_counts(const struct forward_source *source, struct forward_counts *out);
/*
 * Offers to carry frames both ways for limit_us after the pause: `ends` are those of `ports`, in their order, and are
 * taken (net/tap_end.h), unless the guest has stopped already. Once at most. fn is called from the loop, after a pause
 * that began a carry; both events come.
 */
void forward_source_keep(struct forward_source *source, struct net_port *const *ports,
                         struct tap_end **ends, size_t count, int64_t limit_us, forward_carry_fn fn,
                         void *aux);
/* From the pause to FORWARD_CARRY_TURNED. */
bool forward_source_is_carrying(const struct forward_source *source);
/* From forward_source_keep() until it is freed, carrying or not: nobody can take these taps away. */
bool forward_source_keeps_taps(const struct forward_source *source);
/* Ends it before its time. Nothing is carried: success. */
void forward_source_give_up(struct forward_source *source);

/* ---- the destination ---- */

struct forward_destination;
/* Waits for the source's stream. A tap is got ready when it appears; FORWARD_HELD wants net_hold_make() before. */
int forward_destination_new(struct forward_destination **out, struct loop *loop,
                            struct channel_listener *listener, struct net_port *const *ports,
                            size_t count, enum forward_mode mode, const char *migration_uuid,
                            const char *key_hex, struct err *e);
/* As forward_source_detach(). What is held stays so until it is freed. */
void forward_destination_detach(struct forward_destination *destination);
/* Lets everything flow that is held. */
void forward_destination_free(struct forward_destination *destination);
DEFINE_CLEANUP(struct forward_destination *, forward_destination_free)
/* The source said that the guest stopped: just before the network is turned, by net_teach_and_announce() if it says
 * true: what comes by the old way comes here. */
bool forward_destination_paused(struct forward_destination *destination);
/* The fabric was told, where a switch was taught before (net_kind_is_taught()): older frames come for a moment yet. */
void forward_destination_told(struct forward_destination *destination);
/* The guest runs here: nothing is held for long any more. */
void forward_destination_resumed(struct forward_destination *destination);
/* It runs at the source again: what came here since the pause is given back. */
void forward_destination_reverted(struct forward_destination *destination);
/*
 * Lets frames be carried for limit_us after the pause if the ports have no way out of this host then, and the source
 * offers it. Once at most; fn as above. At FORWARD_CARRY_TURNED the ports are to be announced.
 */
void forward_destination_may_carry(struct forward_destination *destination, int64_t limit_us,
                                   forward_carry_fn fn, void *aux);
/* Whether all ports have their way out; they are believed to have it until this was said. */
void forward_destination_way(struct forward_destination *destination, bool has_way);
/* From the pause to FORWARD_CARRY_TURNED: nothing may be announced. */
bool forward_destination_is_carrying(const struct forward_destination *destination);
void forward_destination_give_up(struct forward_destination *destination);
void forward_destination_counts(const struct forward_destination *destination,
                                struct forward_counts *out);
