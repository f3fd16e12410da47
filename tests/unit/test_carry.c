/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A network that follows late (net/carry.h), as far as it needs no tap: who carries when, what the ends say to each
 * other over a stream of this host's loopback, and what each does when the other one falls silent. Frames are carried
 * in tests/lab/test_net.py.
 */
#include "net/carry.h"

#include <signal.h>
#include <stdio.h>

#include "net/forward_internal.h"
#include "tests/unit/unit.h"

#define MIGRATION "6c5ba3f7-2d1e-4a8b-9c0d-1e2f3a4b5c6d"
#define KEY       "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"

enum { TURNS_MAX = 20000, LONG_US = 60000000 };

/* The destination is played; the source is the real one. */
static struct world {
    struct loop *loop;
    struct channel_listener *listener;
    struct channel *here, *there;
    struct carry_source *carry;
    unsigned offers, marks, turned, ended;
    bool wired;
    char why[80];
} w;

static void on_carry(void *aux _unused_, enum forward_carry_event event, bool wired,
                     const char *why)
{
    w.turned += event == FORWARD_CARRY_TURNED;
    w.ended += event == FORWARD_CARRY_ENDED;
    if (event != FORWARD_CARRY_TURNED)
        return;
    w.wired = wired;
    (void)snprintf(w.why, sizeof(w.why), "%s", why);
}

static void opened_here(void *aux _unused_, struct channel *channel)
{
    carry_source_channel(w.carry, channel);
}

static void message_here(void *aux _unused_, uint8_t type, const uint8_t *data, size_t length)
{
    carry_source_message(w.carry, type, data, length);
}

static void closed_here(void *aux _unused_, const struct err *why _unused_)
{
    channel_free(STEAL(w.here));
    carry_source_channel(w.carry, NULL);
}

static void opened_there(void *aux _unused_, struct channel *channel)
{
    w.there = channel;
}

static void message_there(void *aux _unused_, uint8_t type, const uint8_t *data _unused_,
                          size_t length _unused_)
{
    w.offers += type == FORWARD_CARRIES;
    w.marks += type == FORWARD_MARK;
}

static void closed_there(void *aux _unused_, const struct err *why _unused_)
{
    w.there = NULL;
}

static bool turns_until(const unsigned *count, unsigned wanted)
{
    for (int i = 0; i < TURNS_MAX && *count < wanted; i++)
        if (loop_turn(w.loop, 1, &unit_err) < 0)
            return false;
    return *count >= wanted;
}

static void begin(int64_t limit_us)
{
    static const struct channel_fns here = {opened_here, message_here, closed_here},
                                    there = {opened_there, message_there, closed_there};

    (void)signal(SIGPIPE, SIG_IGN);
    w = (struct world){0};
    UNIT_EQ(loop_new(&w.loop, &unit_err), 0);
    UNIT_EQ(channel_listener_new(&w.listener, w.loop, "127.0.0.1", 0, &unit_err), 0);
    w.carry = carry_source_new(w.loop, MIGRATION, NULL, NULL, 0, limit_us, on_carry, NULL);
    UNIT_EQ(channel_expect(w.listener, MIGRATION, KEY, &there, NULL, &unit_err), 0);
    UNIT_EQ(channel_connect(&w.here, w.loop, "127.0.0.1", channel_listener_port(w.listener),
                            MIGRATION, KEY, &here, NULL, &unit_err),
            0);
    UNIT_TRUE(turns_until(&w.offers, 1));
}

static void end(void)
{
    carry_source_free(w.carry);
    channel_free(w.here);
    channel_listener_free(w.listener);
    loop_free(w.loop);
}

/* Says where the port stands and comes back when the source has heard it: marks are answered in order. */
static void say_way(uint8_t way)
{
    const struct iovec part = {&way, 1};
    unsigned wanted = w.marks + 1;

    UNIT_TRUE(channel_send(w.there, FORWARD_WAY, &part, 1));
    UNIT_TRUE(channel_send(w.there, FORWARD_MARK, NULL, 0));
    UNIT_TRUE(turns_until(&w.marks, wanted));
}

UNIT_TEST(offered, "a source that keeps its taps says so, and carries nothing by itself")
{
    begin(LONG_US);
    UNIT_TRUE(!carry_source_is_active(w.carry));
    carry_source_paused(w.carry);
    UNIT_TRUE(!carry_source_is_active(w.carry)); /* nobody said that the port has no way */
    end();
}

UNIT_TEST(carried, "it carries from the pause until the destination's port is wired")
{
    begin(LONG_US);
    say_way(FORWARD_WAY_NONE);
    UNIT_TRUE(!carry_source_is_active(w.carry));
    carry_source_paused(w.carry);
    UNIT_TRUE(carry_source_is_active(w.carry));
    say_way(FORWARD_WAY_WIRED);
    UNIT_TRUE(!carry_source_is_active(w.carry));
    UNIT_EQ(w.turned, 1);
    UNIT_TRUE(w.wired);
    UNIT_EQ(w.ended, 0);
    end();
}

UNIT_TEST(wired_before, "a port that was wired before the pause is not carried")
{
    begin(LONG_US);
    say_way(FORWARD_WAY_NONE);
    say_way(FORWARD_WAY_WIRED);
    carry_source_paused(w.carry);
    UNIT_TRUE(!carry_source_is_active(w.carry));
    UNIT_EQ(w.turned, 0);
    end();
}

UNIT_TEST(crossed, "a word that was on its way when the guest stopped counts")
{
    begin(LONG_US);
    carry_source_paused(w.carry);
    UNIT_TRUE(!carry_source_is_active(w.carry));
    say_way(FORWARD_WAY_NONE);
    UNIT_TRUE(carry_source_is_active(w.carry));
    carry_source_reverted(w.carry);
    say_way(FORWARD_WAY_NONE);
    UNIT_TRUE(!carry_source_is_active(w.carry)); /* the guest runs here again */
    end();
}

UNIT_TEST(given_up, "a destination that gives up says so, and the source ends without a way")
{
    begin(LONG_US);
    say_way(FORWARD_WAY_NONE);
    carry_source_paused(w.carry);
    say_way(FORWARD_WAY_GIVEN_UP);
    UNIT_EQ(w.turned, 1);
    UNIT_TRUE(!w.wired);
    end();
}

UNIT_TEST(silent, "a stream that ends while frames are carried ends that, at once and for good")
{
    begin(LONG_US);
    say_way(FORWARD_WAY_NONE);
    carry_source_paused(w.carry);
    channel_forget(w.listener, MIGRATION);
    UNIT_TRUE(turns_until(&w.ended, 1));
    UNIT_EQ(w.turned, 1);
    UNIT_TRUE(!w.wired && strstr(w.why, "the stream to the destination ended") != NULL);
    end();
}

UNIT_TEST(reverted,
          "a switch-over that fails ends it without a word, and the next pause carries again")
{
    begin(LONG_US);
    say_way(FORWARD_WAY_NONE);
    carry_source_paused(w.carry);
    carry_source_reverted(w.carry);
    UNIT_TRUE(!carry_source_is_active(w.carry));
    UNIT_EQ(w.turned, 0);
    carry_source_paused(w.carry);
    UNIT_TRUE(carry_source_is_active(w.carry));
    end();
}

UNIT_TEST(asked_to_end, "it can be given up, once")
{
    begin(LONG_US);
    say_way(FORWARD_WAY_NONE);
    carry_source_give_up(w.carry);
    UNIT_EQ(w.turned, 0);
    carry_source_paused(w.carry);
    carry_source_give_up(w.carry);
    carry_source_give_up(w.carry);
    UNIT_EQ(w.turned, 1);
    end();
}

UNIT_TEST(frames_of_nobody,
          "frames for a port that is not carried, and ones that are too short, do no harm")
{
    uint8_t message[FORWARD_FRAME_MIN + 46] = {2, 0, 0, 0, 0, 1};
    struct forward_counts counts = {0};

    begin(LONG_US);
    say_way(FORWARD_WAY_NONE);
    carry_source_paused(w.carry);
    carry_source_message(w.carry, FORWARD_GUEST_FRAME, message, sizeof(message));
    carry_source_message(w.carry, FORWARD_GUEST_FRAME, message, 3);
    carry_source_message(w.carry, FORWARD_WAY, message, 0);
    carry_source_message(w.carry, 200, message, 1);
    carry_source_counts(w.carry, &counts);
    UNIT_EQ(counts.carried + counts.foreign + counts.dropped, 0);
    UNIT_TRUE(carry_source_is_active(w.carry));
    end();
}

UNIT_TEST(own_address, "a frame is the guest's by its source address alone")
{
    static const uint8_t mac[FRAME_MAC_SIZE] = {2, 0, 0, 0, 0, 1}, other[] = {2, 0, 0, 0, 0, 2};
    uint8_t frame[CAPTURE_FRAME_MIN] = {0};

    memcpy(frame + CAPTURE_HEADER_SIZE + FRAME_MAC_SIZE, mac, FRAME_MAC_SIZE);
    UNIT_TRUE(forward_is_from(frame, sizeof(frame), mac));
    UNIT_TRUE(!forward_is_from(frame, sizeof(frame), other));
    UNIT_TRUE(!forward_is_from(frame, sizeof(frame) - 1, mac));
}

/* ---- the destination ---- */

static unsigned held, turned_there, ended_there;

static void on_hold(void *aux _unused_)
{
    held++;
}

static void on_turned(void *aux _unused_, bool wired _unused_, const char *why _unused_)
{
    turned_there++;
}

static void on_ended(void *aux _unused_)
{
    ended_there++;
}

UNIT_TEST(nothing_to_carry,
          "without a stream, or without taps, a destination carries nothing and holds nothing")
{
    static const struct carry_hooks hooks = {on_hold, on_turned, on_ended};
    static const uint8_t mac[FRAME_MAC_SIZE] = {2, 0, 0, 0, 0, 1};

    begin(LONG_US);
    struct carry_destination *c = carry_destination_new(w.loop, MIGRATION, LONG_US, &hooks, NULL);
    carry_destination_way(c, false);
    carry_destination_channel(c, w.there);
    carry_destination_message(c, FORWARD_CARRIES);
    UNIT_TRUE(!carry_destination_paused(c)); /* no port */
    carry_destination_add(c, "tapcarry0", mac);
    carry_destination_way(c, false);
    UNIT_TRUE(!carry_destination_paused(c)); /* no tap yet */
    carry_destination_channel(c, NULL);
    carry_destination_tap(c, "tapcarry0", true);
    UNIT_TRUE(!carry_destination_paused(c)); /* no stream */
    carry_destination_channel(c, w.there);
    carry_destination_message(c, FORWARD_CARRIES); /* too late: it would be made ready for nobody */
    UNIT_TRUE(!carry_destination_is_active(c));
    carry_destination_give_up(c);
    carry_destination_reverted(c);
    carry_destination_message(c, FORWARD_MARK);
    UNIT_EQ(held + turned_there + ended_there, 0);
    carry_destination_free(c);
    end();
}
