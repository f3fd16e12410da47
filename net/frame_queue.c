/* SPDX-License-Identifier: Apache-2.0 */
#include "net/frame_queue.h"

#include <stdlib.h>
#include <string.h>

static size_t weight(size_t length)
{
    return sizeof(struct queued_frame) + length;
}

unsigned frame_queue_add(struct frame_queue *queue, const uint8_t *data, size_t length,
                         int64_t at_us)
{
    struct queued_frame *f = malloc(weight(length));
    unsigned gone = 0;

    if (!f)
        abort();
    while (queue->first && queue->bytes + weight(length) > queue->limit) {
        free(frame_queue_take(queue));
        gone++;
    }
    f->next = NULL;
    f->at_us = at_us;
    f->length = length;
    memcpy(f->data, data, length);
    if (queue->last)
        queue->last->next = f;
    else
        queue->first = f;
    queue->last = f;
    queue->count++;
    queue->bytes += weight(length);
    return gone;
}

struct queued_frame *frame_queue_take(struct frame_queue *queue)
{
    struct queued_frame *f = queue->first;

    if (!f)
        return NULL;
    queue->first = f->next;
    if (!queue->first)
        queue->last = NULL;
    queue->count--;
    queue->bytes -= weight(f->length);
    return f;
}

void frame_queue_shrink(struct frame_queue *queue, size_t count)
{
    while (queue->count > count)
        free(frame_queue_take(queue));
}

void frame_queue_clear(struct frame_queue *queue)
{
    frame_queue_shrink(queue, 0);
}
