/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How messages stand in the stream of a channel (channel.h), inside TLS:
 *
 *     0  length   32 bits, big-endian; of what follows: 1 to 1 + CHANNEL_MESSAGE_MAX
 *     4  type     8 bits
 *     5  data     length - 1 bytes
 *
 * Pure functions; any thread. Internal to net/.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum { CHANNEL_FRAME_HEADER = 5 };

struct channel_frame {
    uint8_t type;
    const uint8_t *data; /* within what was read */
    size_t length;       /* of the data */
    size_t size;         /* of the frame */
};

void channel_frame_header(uint8_t header[CHANNEL_FRAME_HEADER], uint8_t type, size_t length);
/*
 * The frame at the start of the bytes: 1 = it is whole and in *out; 0 = more bytes are needed;
 * -1 = no frame begins like this, and nothing after it can be read.
 */
int channel_frame_next(const uint8_t *bytes, size_t length, struct channel_frame *out);
