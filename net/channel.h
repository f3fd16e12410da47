/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The encrypted stream between the agents of two hosts for one migration: messages of a type and up to
 * CHANNEL_MESSAGE_MAX bytes, in order, both ways. Frames for a guest that still reach the source are
 * forwarded over it at the switch-over, so it is made for latency: a message leaves within the call that
 * sends it if the socket takes it.
 *
 * TCP with TLS 1.3 and an external pre-shared key (RFC 8446, section 2.2), no certificates: identity is
 * the migration's uuid, the key is derived (HKDF-SHA256) from the migration's switch-over key, which both
 * agents have already (switchover.h). psk_dhe_ke and TLS_AES_128_GCM_SHA256 are all that is spoken; no
 * tickets, no resumption, no early data. Both sides prove the key before opened() is called.
 *
 * A stranger costs little: at most CHANNEL_UNPROVEN_MAX connections that have not proven a key are kept,
 * each for CHANNEL_HANDSHAKE_US; when one more comes, the oldest goes. What does not prove a key is counted
 * (METRIC_CHANNEL_REFUSED) and closed. The addresses of peers are not looked at: the key is the proof.
 *
 * A peer whose host is gone is noticed after about 5 s when something was sent to it, and after about
 * 35 s when nothing was. What a turn of the loop reads and writes is bounded.
 *
 * Everything belongs to the loop's thread; nothing blocks. The process must ignore SIGPIPE. Callbacks
 * come from the loop only, never from inside a function of this header, and may call any of them.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "lib/err.h"
#include "lib/loop.h"

enum {
    CHANNEL_MESSAGE_MAX = 72 * 1024,       /* bytes of a message, the type not counted */
    CHANNEL_QUEUE_MAX = 32 * 1024 * 1024,  /* bytes that wait for the socket */
    CHANNEL_UNPROVEN_MAX = 64,             /* connections of one listener */
    CHANNEL_HANDSHAKE_US = 5 * 1000 * 1000 /* from the connection to the proven key */
};

struct channel; /* one stream */

/* All three are given; the struct is copied. */
struct channel_fns {
    /*
     * The peer has proven the key, messages may be sent. At the destination this is where the stream
     * is handed out; it is the listener's and valid until closed() or channel_forget().
     */
    void (*opened)(void *aux, struct channel *channel);
    /* The data is valid for the call, also if the call frees the channel. length may be 0. */
    void (*message)(void *aux, uint8_t type, const uint8_t *data, size_t length);
    /*
     * Once an opened stream ended, or a connect failed: then no other function is called any more.
     * What was still queued is lost. The source must channel_free() its stream, here or later; the
     * destination's is gone, and the next one may be opened. Not called after channel_free(),
     * channel_forget() or channel_listener_free().
     */
    void (*closed)(void *aux, const struct err *why);
};

/* --- destination ----------------------------------------------------------------------------- */

struct channel_listener; /* this host's socket, shared by all migrations */

/* Listens at a numeric address (IPv4 or IPv6) and port (0 = any). ERR_INVALID, ERR_SYSTEM. */
int channel_listener_new(struct channel_listener **out, struct loop *loop, const char *address,
                         int port, struct err *e);
/* Closes all its streams without a call. */
void channel_listener_free(struct channel_listener *l);
DEFINE_CLEANUP(struct channel_listener *, channel_listener_free)
int channel_listener_port(const struct channel_listener *l);

/*
 * Accepts the stream of this migration. There is one at a time: the newest that is proven replaces the one
 * before, for which closed() is called first. Expecting a migration that is expected already forgets it
 * first. ERR_INVALID: no uuid, no key (64 hexadecimal digits), or more than 1024 are expected.
 */
int channel_expect(struct channel_listener *l, const char *migration_uuid, const char *key_hex,
                   const struct channel_fns *fns, void *aux, struct err *e);
/* Closes the migration's stream too, without a call. One that is not expected is left alone. */
void channel_forget(struct channel_listener *l, const char *migration_uuid);

/* --- source ---------------------------------------------------------------------------------- */

/*
 * Begins to connect to a destination's listener; opened() or closed() follows within
 * CHANNEL_HANDSHAKE_US. ERR_INVALID names the argument that is wrong, ERR_SYSTEM what the kernel refused.
 */
int channel_connect(struct channel **out, struct loop *loop, const char *address, int port,
                    const char *migration_uuid, const char *key_hex, const struct channel_fns *fns,
                    void *aux, struct err *e);
/* Only for what channel_connect() made. What is queued is lost; what the kernel has is still sent. */
void channel_free(struct channel *channel);
DEFINE_CLEANUP(struct channel *, channel_free)

/* --- both ------------------------------------------------------------------------------------ */

/* True from opened() on until the stream ended, which may be known a little before closed(). */
bool channel_is_open(const struct channel *channel);

/*
 * Queues a message, put together of the parts, and writes what the socket takes now. False, and the
 * message is dropped (METRIC_CHANNEL_DROPPED), if the stream is not open, if the message is longer than
 * CHANNEL_MESSAGE_MAX, or if more than CHANNEL_QUEUE_MAX bytes would wait. An error of the socket ends the
 * stream; closed() is called from the loop.
 */
bool channel_send(struct channel *channel, uint8_t type, const struct iovec *parts, size_t count);
/* Bytes that were not yet given to the kernel, headers included. */
size_t channel_queued(const struct channel *channel);
