/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest whose port at the destination has no way out of the host yet keeps the way that it had: what its network at
 * the source has for it, and what it sends itself, goes between the hosts over the stream (net/forward.h) until the
 * port is wired. So it has no outage, whoever wires the port, and whenever.
 *
 * The source keeps the guest's tap (net/tap_end.h): same bridge or switch port, same table entries, and the rules of
 * security groups that name it. What the network has for the guest is seen at that tap behind those rules, groups
 * included; what the guest sent is put into it in front of them. So nothing is carried around a rule: the source's
 * rules hold until the destination's port is wired, and the destination's from then on.
 * Frames that do not have the guest's own source address are not carried.
 *
 * The destination raises a barrier (net/barrier.h) at its tap, before the pause, so that the guest is heard at one
 * place only, and does not announce. When the port has its way:
 *
 *     what the network gives to the tap is held -> MARK to the source and back: all that the guest sent before has left
 *     there -> the barrier is lowered -> WAY, announcement -> older frames by the stream, then the held ones
 *
 * A guest that sends without a pause may have some frames of that last moment overtaken: after ROUNDS marks the barrier
 * is lowered anyway. Time ends it, too; then the guest is cut off until its port is wired, as without all this.
 *
 * Everything ends with the processes' descriptors and sockets. Loop's thread. For forward_source.c and
 * forward_destination.c, which own these and tell them what happens.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/loop.h"
#include "net/channel.h"
#include "net/forward.h"
#include "net/netlink.h"

/* ---- the destination ---- */

struct carry_hooks {
    void (*hold)(void *aux); /* what the network gives to the taps waits from here on */
    /* The guest speaks here now, on its own way or without one (`why`); what is held may follow in order. */
    void (*turned)(void *aux, bool wired, const char *why);
    void (*ended)(void *aux); /* last call */
};

struct carry_destination;
struct carry_destination *carry_destination_new(struct loop *loop, const char *migration_uuid,
                                                int64_t limit_us, const struct carry_hooks *hooks,
                                                void *aux);
/* Lowers the barriers without a word. NULL is accepted. */
void carry_destination_free(struct carry_destination *c);
DEFINE_CLEANUP(struct carry_destination *, carry_destination_free)
void carry_destination_detach(struct carry_destination *c); /* takes it off the loop */
void carry_destination_add(struct carry_destination *c, const char *tap,
                           const uint8_t mac[FRAME_MAC_SIZE]);

void carry_destination_way(struct carry_destination *c, bool has_way);
void carry_destination_channel(struct carry_destination *c,
                               struct channel *channel); /* NULL: closed */
void carry_destination_message(struct carry_destination *c, uint8_t type);
void carry_destination_tap(struct carry_destination *c, const char *tap, bool there);
/* True if the guest's frames are carried from here on. */
bool carry_destination_paused(struct carry_destination *c);
void carry_destination_reverted(struct carry_destination *c);
bool carry_destination_is_active(
    const struct carry_destination *c); /* from the pause to the turn */
void carry_destination_give_up(struct carry_destination *c);
void carry_destination_counts(const struct carry_destination *c, struct forward_counts *out);

/* ---- the source ---- */

struct carry_source;
/* Takes the ends, one of each port. */
struct carry_source *carry_source_new(struct loop *loop, const char *migration_uuid,
                                      struct net_port *const *ports, struct tap_end **ends,
                                      size_t count, int64_t limit_us, forward_carry_fn fn,
                                      void *aux);
/* Lets the taps go, which takes the kernel some 10 ms each. NULL is accepted. */
void carry_source_free(struct carry_source *c);
DEFINE_CLEANUP(struct carry_source *, carry_source_free)
void carry_source_detach(struct carry_source *c);

void carry_source_channel(struct carry_source *c, struct channel *channel);
void carry_source_message(struct carry_source *c, uint8_t type, const uint8_t *data, size_t length);
void carry_source_paused(struct carry_source *c);
void carry_source_reverted(struct carry_source *c);
bool carry_source_is_active(const struct carry_source *c); /* groups' frames are carried, too */
void carry_source_give_up(struct carry_source *c);
void carry_source_counts(const struct carry_source *c, struct forward_counts *out);
