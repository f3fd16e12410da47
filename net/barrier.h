/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keeps what a guest sends from this host's network: as long as a barrier is up, every frame that comes from the
 * guest's tap goes to us instead of into the tap's bridge or switch, in order.
 *
 * It is a rule of nftables at the tap's ingress hook, in a table that belongs to our socket ("computed-" and the tap's
 * name), which forwards to a tap of ours, "cry" and what follows the tap's first three characters. Both end with
 * their descriptors: an agent that dies leaves nothing behind, and the guest speaks to this host's network again.
 *
 * A switch that is a process (Open vSwitch's userspace datapath) reads taps before that hook: it gets each frame too.
 *
 * Needs the kernel's nf_tables with NFT_TABLE_F_OWNER (5.12) and nft_fwd_netdev. Any thread, one at a time.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/err.h"

struct barrier;
/* Raises it; the tap must be there. Some netlink requests, the first of a host may take some 10 ms. ERR_NET_PLUG. */
int barrier_raise(struct barrier **out, const char *tap, struct err *e);
int barrier_fd(const struct barrier *b); /* readable when a frame waits */
/* The next frame in the form of net/capture.h, which the buffer has room for. False if none waits. */
bool barrier_read(const struct barrier *b, uint8_t *frame, size_t *length);
/* From here on the guest's frames take their own way. What came before can still be read. One netlink request. */
void barrier_lower(struct barrier *b);
/* Lowers it; what was not read is lost. NULL is accepted. */
void barrier_free(struct barrier *b);
DEFINE_CLEANUP(struct barrier *, barrier_free)
