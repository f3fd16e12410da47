/* SPDX-License-Identifier: Apache-2.0 */
/* What both ends of the stream agree on; for forward_source.c and forward_destination.c. */
#pragma once

#include <string.h>

#include "net/capture.h"
#include "net/forward.h"
#include "net/frames.h"

/*
 * Messages of the stream. A port is named by its MAC address, as the two hosts may list ports differently.
 * A release that knows further types sends them only to one that said so; unknown ones are left out.
 */
enum forward_message {
    FORWARD_FRAME =
        1, /* MAC of the port, then the frame as net/capture.h gives it; in either direction */
    FORWARD_CAUGHT_UP = 2, /* all that waited at the pause has been sent; nothing follows */
    /* net/carry.h: */
    FORWARD_CARRIES =
        3, /* from the source: it keeps the guest's taps; the destination may say and send what follows */
    FORWARD_WAY = 4, /* from the destination: one byte of enum forward_way */
    FORWARD_MARK =
        5, /* from the destination, and back when all before it has left the source's host */
    FORWARD_GUEST_FRAME = 6, /* from the destination: as FORWARD_FRAME; the guest sent it */
};

enum forward_way {
    FORWARD_WAY_NONE = 0,    /* if the guest stops now, its frames are carried */
    FORWARD_WAY_WIRED = 1,   /* the port has its way there, and the guest uses it */
    FORWARD_WAY_GIVEN_UP = 2 /* it has none, and is not carried any more */
};

enum { FORWARD_FRAME_MIN = FRAME_MAC_SIZE + CAPTURE_FRAME_MIN };

static inline bool forward_send(struct channel *channel, enum forward_message type,
                                const uint8_t mac[FRAME_MAC_SIZE], const uint8_t *frame,
                                size_t length)
{
    const struct iovec parts[] = {{(void *)mac, FRAME_MAC_SIZE}, {(void *)frame, length}};

    return channel_send(channel, (uint8_t)type, parts, 2);
}

static inline bool forward_send_frame(struct channel *channel, const uint8_t mac[FRAME_MAC_SIZE],
                                      const uint8_t *frame, size_t length)
{
    return forward_send(channel, FORWARD_FRAME, mac, frame, length);
}

/* Has the frame this source address? */
static inline bool forward_is_from(const uint8_t *frame, size_t length,
                                   const uint8_t mac[FRAME_MAC_SIZE])
{
    return length >= CAPTURE_FRAME_MIN &&
           memcmp(frame + CAPTURE_HEADER_SIZE + FRAME_MAC_SIZE, mac, FRAME_MAC_SIZE) == 0;
}
