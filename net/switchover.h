/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agents' direct line for the switch-over: the source tells "it stopped" (or "it runs here again")
 * to the destination on the migration network, one datagram, authenticated by HMAC-SHA256 with a key
 * that the destination made for this one migration and gave away in its answer to pre_live_migration.
 * Datagrams carry the migration's uuid, a kind and a sequence number; replays and strangers are counted
 * and dropped, never answered. Each signal is sent three times within 20 ms; the receiver acts once.
 *
 * The hosts' clocks must agree within 60 s; a signal from further off is refused, and the network then
 * turns at the guest's resume, as it does without this line.
 *
 * Everything belongs to the loop's thread; nothing blocks.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/err.h"
#include "lib/loop.h"

enum switchover_signal {
    SWITCHOVER_PAUSED = 1,  /* the guest stopped at the source: the network may turn */
    SWITCHOVER_REVERTED = 2 /* it runs at the source again: do nothing more */
};

enum { SWITCHOVER_KEY_SIZE = 32, SWITCHOVER_KEY_HEX = 65 };

struct switchover; /* this host's socket, shared by all migrations */
/* at_us: monotonic, when the datagram was read. */
typedef void (*switchover_fn)(void *aux, const char *migration_uuid, enum switchover_signal signal,
                              int64_t at_us);

/* Binds a UDP socket to address (IPv4 or IPv6) and port (0 = any). */
int switchover_new(struct switchover **out, struct loop *loop, const char *address, int port,
                   switchover_fn fn, void *aux, struct err *e);
void switchover_free(struct switchover *s);
DEFINE_CLEANUP(struct switchover *, switchover_free)
int switchover_port(const struct switchover *s);

/* Destination: accept signals of this migration; makes the key (hex) to be given to the source. */
int switchover_expect(struct switchover *s, const char *migration_uuid,
                      char key_hex[SWITCHOVER_KEY_HEX], struct err *e);
/* The same with a key that is there already (after a restart). */
int switchover_expect_key(struct switchover *s, const char *migration_uuid, const char *key_hex,
                          struct err *e);
void switchover_forget(struct switchover *s, const char *migration_uuid);

/* Source: a prepared way to one destination. The address is resolved (numeric) and connected now. */
struct switchover_peer;
int switchover_peer_new(struct switchover *s, const char *address, int port,
                        const char *migration_uuid, const char *key_hex,
                        struct switchover_peer **out, struct err *e);
void switchover_peer_free(struct switchover_peer *peer);
DEFINE_CLEANUP(struct switchover_peer *, switchover_peer_free)
/* Sends now and repeats twice; never blocks, errors are counted only. */
void switchover_peer_send(struct switchover_peer *peer, enum switchover_signal signal);
