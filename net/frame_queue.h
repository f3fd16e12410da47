/* SPDX-License-Identifier: Apache-2.0 */
/* Captured frames (net/capture.h) in the order in which they came, bounded in bytes: the oldest go first. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "lib/attributes.h"

struct queued_frame {
    struct queued_frame *next;
    int64_t at_us; /* realtime */
    size_t length;
    uint8_t data[];
};

/* Zeroed with .limit set is ready for use. */
struct frame_queue {
    struct queued_frame *first, *last;
    size_t count, bytes, limit;
};

/* Copies a frame to the end; the number of old ones that had to go for it. */
unsigned frame_queue_add(struct frame_queue *queue, const uint8_t *data, size_t length,
                         int64_t at_us);
/* Takes the oldest out: the caller's, to be freed; NULL if there is none. */
struct queued_frame *frame_queue_take(struct frame_queue *queue);
/* Forgets the oldest until `count` are left. */
void frame_queue_shrink(struct frame_queue *queue, size_t count);
void frame_queue_clear(struct frame_queue *queue);
