/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "net/frame_queue.h"
#include "tests/unit/unit.h"

static unsigned add(struct frame_queue *q, uint8_t mark, size_t length)
{
    uint8_t data[512] = {mark};

    return frame_queue_add(q, data, length, mark);
}

/* Takes one out: its first byte, or -1. */
static int take(struct frame_queue *q)
{
    struct queued_frame *f = frame_queue_take(q);
    int mark = f ? f->data[0] : -1;

    free(f);
    return mark;
}

UNIT_TEST(frames_come_out_as_they_went_in, "frames come out in the order in which they went in")
{
    struct frame_queue q = {.limit = 4096};

    for (uint8_t i = 1; i <= 3; i++)
        UNIT_EQ(add(&q, i, 60), 0);
    UNIT_EQ(q.count, 3);
    UNIT_EQ(q.last->at_us, 3);
    UNIT_EQ(q.last->length, 60);
    for (int i = 1; i <= 3; i++)
        UNIT_EQ(take(&q), i);
    UNIT_EQ(take(&q), -1);
    UNIT_EQ(q.bytes, 0);
    UNIT_TRUE(q.last == NULL);
}

UNIT_TEST(the_oldest_go_when_the_limit_is_reached, "the oldest frames go when the limit is reached")
{
    struct frame_queue q = {.limit = 3 * (sizeof(struct queued_frame) + 100)};

    for (uint8_t i = 1; i <= 3; i++)
        UNIT_EQ(add(&q, i, 100), 0);
    UNIT_EQ(add(&q, 4, 100), 1);
    UNIT_EQ(add(&q, 5, 150), 2);
    UNIT_EQ(take(&q), 4);
    UNIT_EQ(take(&q), 5);
    UNIT_EQ(take(&q), -1);
}

UNIT_TEST(a_frame_above_the_limit_stands_alone, "a frame above the limit stands alone")
{
    struct frame_queue q = {.limit = 10};

    UNIT_EQ(add(&q, 1, 60), 0);
    UNIT_EQ(add(&q, 2, 60), 1);
    UNIT_EQ(q.count, 1);
    UNIT_EQ(take(&q), 2);
}

UNIT_TEST(shrinking_leaves_the_newest, "shrinking leaves the newest frames")
{
    struct frame_queue q = {.limit = 1 << 20};

    for (uint8_t i = 1; i <= 9; i++)
        (void)add(&q, i, 60);
    frame_queue_shrink(&q, 20);
    UNIT_EQ(q.count, 9);
    frame_queue_shrink(&q, 2);
    UNIT_EQ(take(&q), 8);
    frame_queue_clear(&q);
    UNIT_EQ(q.count, 0);
    UNIT_EQ(q.bytes, 0);
    UNIT_TRUE(q.first == NULL);
}
