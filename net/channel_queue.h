/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes that wait for a socket, in pieces, so that neither growing nor taking from the front moves them.
 * Not thread-safe. Internal to net/.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

struct channel_piece;
struct channel_queue {
    TAILQ_HEAD(channel_pieces, channel_piece) pieces;
    size_t bytes;
};

void channel_queue_init(struct channel_queue *q);
void channel_queue_add(struct channel_queue *q, const void *bytes, size_t length);
/*
 * The run of bytes at the front and its length, 0 if the queue is empty. Adding makes the run longer or
 * leaves it as it is, and it stays at its place.
 */
const uint8_t *channel_queue_front(const struct channel_queue *q, size_t *length);
/* Removes from the front, at most the run's length. */
void channel_queue_remove(struct channel_queue *q, size_t length);
void channel_queue_free(struct channel_queue *q); /* frees what it holds; it is empty then */
