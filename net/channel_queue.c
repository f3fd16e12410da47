/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes that wait for a socket; see channel_queue.h. An empty piece is kept for what comes next. */
#include "net/channel_queue.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "lib/text.h"

enum { PIECE_SIZE = 64 * 1024 };

struct channel_piece {
    TAILQ_ENTRY(channel_piece) link;
    size_t start, end;
    uint8_t bytes[PIECE_SIZE];
};

void channel_queue_init(struct channel_queue *q)
{
    TAILQ_INIT(&q->pieces);
    q->bytes = 0;
}

static struct channel_piece *piece_with_room(struct channel_queue *q)
{
    struct channel_piece *last = TAILQ_LAST(&q->pieces, channel_pieces);

    if (last && last->end < PIECE_SIZE)
        return last;
    last = NEW(struct channel_piece);
    TAILQ_INSERT_TAIL(&q->pieces, last, link);
    return last;
}

void channel_queue_add(struct channel_queue *q, const void *bytes, size_t length)
{
    for (const uint8_t *p = bytes; length > 0;) {
        struct channel_piece *piece = piece_with_room(q);
        size_t room = PIECE_SIZE - piece->end, n = length < room ? length : room;

        memcpy(piece->bytes + piece->end, p, n);
        piece->end += n;
        q->bytes += n;
        p += n;
        length -= n;
    }
}

const uint8_t *channel_queue_front(const struct channel_queue *q, size_t *length)
{
    const struct channel_piece *first = TAILQ_FIRST(&q->pieces);

    *length = first ? first->end - first->start : 0;
    return first ? first->bytes + first->start : NULL;
}

void channel_queue_remove(struct channel_queue *q, size_t length)
{
    struct channel_piece *first = TAILQ_FIRST(&q->pieces);

    assert(first && length <= first->end - first->start);
    first->start += length;
    q->bytes -= length;
    if (first->start < first->end)
        return;
    first->start = first->end = 0;
    if (!TAILQ_NEXT(first, link))
        return;
    TAILQ_REMOVE(&q->pieces, first, link);
    free(first);
}

void channel_queue_free(struct channel_queue *q)
{
    struct channel_piece *piece;

    while ((piece = TAILQ_FIRST(&q->pieces))) {
        TAILQ_REMOVE(&q->pieces, piece, link);
        free(piece);
    }
    q->bytes = 0;
}
