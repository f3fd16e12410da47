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
};

enum { FORWARD_FRAME_MIN = FRAME_MAC_SIZE + CAPTURE_FRAME_MIN };

static inline bool forward_send_frame(struct channel *channel, const uint8_t mac[FRAME_MAC_SIZE],
                                      const uint8_t *frame, size_t length)
{
    const struct iovec parts[] = {{(void *)mac, FRAME_MAC_SIZE}, {(void *)frame, length}};

    return channel_send(channel, FORWARD_FRAME, parts, 2);
}
