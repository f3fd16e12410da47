/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A channel's stream as its two owners see it: channel.c for one that connects, channel_listener.c for those
 * that are accepted. Internal to net/; the loop's thread.
 *
 * A stream that a callback frees while one of its functions runs is only closed (CHANNEL_GONE); its memory
 * goes when that function is left, so the code after a callback looks at the state first.
 */
#pragma once

#include <sys/queue.h>

#include "net/channel.h"
#include "net/channel_queue.h"
#include "net/channel_tls.h"

enum channel_state {
    CHANNEL_CONNECTING, /* TCP */
    CHANNEL_SHAKING_HANDS,
    CHANNEL_OPEN,
    CHANNEL_FAILED, /* an error is to be told from the loop */
    CHANNEL_ENDED,  /* it was told */
    CHANNEL_GONE    /* freed, but in use further up the stack */
};

struct channel_owner {
    void (*proven)(struct channel *channel);                       /* the state is OPEN */
    void (*ended)(struct channel *channel, const struct err *why); /* the state is ENDED */
};

struct channel_expected;

struct channel {
    struct loop *loop;
    const struct channel_owner *owner;
    enum channel_state state;
    unsigned in_use; /* functions of it on the stack */
    int fd;
    struct loop_source *source;
    uint32_t watched;
    struct loop_timer *deadline; /* of the handshake */
    struct loop_timer *again;    /* there is more to do, whatever the socket says */
    SSL *ssl;
    bool blocked; /* the socket takes nothing until it is writable */
    struct err why;

    struct channel_queue queue;
    uint8_t *in; /* what was read and is no whole frame yet; from the handshake's end on */
    size_t in_start, in_end;

    struct channel_fns fns;
    void *aux;

    /* connecting */
    char uuid[DIRECT_UUID_TEXT];
    uint8_t psk[CHANNEL_PSK_SIZE];

    /* accepted */
    TAILQ_ENTRY(channel) link; /* among the unproven */
    struct channel_listener *listener;
    struct channel_expected *expected; /* set when the peer has named its migration */
};

/*
 * Makes the stream of a connected or connecting socket, which becomes its own, also on failure. The
 * context is referred to.
 */
struct channel *channel_stream_new(struct loop *loop, int fd, SSL_CTX *context,
                                   const struct channel_owner *owner, enum channel_state state,
                                   struct err *e);
/* Closes it, without a call. */
void channel_stream_free(struct channel *channel);
