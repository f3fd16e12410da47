/* SPDX-License-Identifier: Apache-2.0 */
/* The messages of a channel in its stream; see channel_frame.h. */
#include "net/channel_frame.h"

#include <assert.h>

#include "net/channel.h"

enum { LENGTH_SIZE = 4 };

void channel_frame_header(uint8_t header[CHANNEL_FRAME_HEADER], uint8_t type, size_t length)
{
    uint32_t value = (uint32_t)length + 1;

    assert(length <= CHANNEL_MESSAGE_MAX);
    for (int i = LENGTH_SIZE - 1; i >= 0; i--, value >>= 8)
        header[i] = (uint8_t)value;
    header[LENGTH_SIZE] = type;
}

int channel_frame_next(const uint8_t *bytes, size_t length, struct channel_frame *out)
{
    uint32_t follows = 0;

    if (length < LENGTH_SIZE)
        return 0;
    for (int i = 0; i < LENGTH_SIZE; i++)
        follows = follows << 8 | bytes[i];
    if (follows == 0 || follows > 1 + CHANNEL_MESSAGE_MAX)
        return -1;
    if (length - LENGTH_SIZE < follows)
        return 0;
    *out = (struct channel_frame){.type = bytes[LENGTH_SIZE],
                                  .data = bytes + CHANNEL_FRAME_HEADER,
                                  .length = follows - 1,
                                  .size = LENGTH_SIZE + follows};
    return 1;
}
