/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a channel's peer sends, as its framing reads it (net/channel_frame.h). Every frame lies within what
 * was read and is written again as the bytes that it was; a frame is found with its last byte and not
 * before; a length that is not allowed is seen as soon as it is there.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "net/channel.h"
#include "net/channel_frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { LENGTH_SIZE = 4 };

static void expect(int condition)
{
    if (!condition)
        abort();
}

static void check_frame(const uint8_t *data, size_t size, const struct channel_frame *frame)
{
    uint8_t header[CHANNEL_FRAME_HEADER];
    struct channel_frame cut;

    expect(frame->size <= size && frame->size == CHANNEL_FRAME_HEADER + frame->length);
    expect(frame->length <= CHANNEL_MESSAGE_MAX);
    expect(frame->data == data + CHANNEL_FRAME_HEADER);
    channel_frame_header(header, frame->type, frame->length);
    expect(memcmp(header, data, sizeof(header)) == 0);
    expect(channel_frame_next(data, frame->size, &cut) == 1 && cut.size == frame->size);
    for (size_t length = 0; length < frame->size; length += 1 + frame->size / 64)
        expect(channel_frame_next(data, length, &cut) == 0);
    expect(channel_frame_next(data, frame->size - 1, &cut) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct channel_frame frame;
    int rc;

    while ((rc = channel_frame_next(data, size, &frame)) > 0) {
        check_frame(data, size, &frame);
        data += frame.size;
        size -= frame.size;
    }
    if (rc < 0)
        expect(size >= LENGTH_SIZE && channel_frame_next(data, LENGTH_SIZE, &frame) == -1);
    else
        expect(size < CHANNEL_FRAME_HEADER + CHANNEL_MESSAGE_MAX);
    return 0;
}
