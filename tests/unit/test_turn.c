/* SPDX-License-Identifier: Apache-2.0 */
/* Whose turn it is to switch over. */
#include "tests/unit/unit.h"

#include "agent/turn.h"

#define SEC INT64_C(1000000)

enum { CLAIMS_MAX = 8 };

static struct turn_claim copying(const char *destination)
{
    return (struct turn_claim){.destination = destination, .yields = true, .left = 100};
}

static struct turn_claim ending(const char *destination, int64_t left)
{
    return (struct turn_claim){
        .destination = destination, .yields = true, .near = true, .left = left};
}

UNIT_TEST(alone, "an only migration to a host has no turn, however near it is")
{
    struct turn_claim claims[] = {ending("b", 5), copying("c"), copying("c")};

    turn_decide(SEC, claims, 3);
    for (size_t i = 0; i < 3; i++) {
        UNIT_EQ(claims[i].turn, TURN_NOBODYS);
        UNIT_EQ(claims[i].given_us, 0);
    }
}

UNIT_TEST(nobody, "while nobody is near its end, nobody gives way")
{
    struct turn_claim claims[] = {copying("b"), copying("b")};

    turn_decide(SEC, claims, 2);
    UNIT_EQ(claims[0].turn, TURN_NOBODYS);
    UNIT_EQ(claims[1].turn, TURN_NOBODYS);
}

UNIT_TEST(nearest, "the nearest to its end has the turn, and those to the same host give way")
{
    struct turn_claim claims[] = {ending("b", 9), ending("b", 5), copying("b"), copying("c"),
                                  ending("c", 1)};

    turn_decide(SEC, claims, 5);
    UNIT_EQ(claims[0].turn, TURN_ANOTHERS);
    UNIT_EQ(claims[1].turn, TURN_ITS_OWN);
    UNIT_EQ(claims[1].given_us, SEC);
    UNIT_EQ(claims[2].turn, TURN_ANOTHERS);
    UNIT_EQ(claims[3].turn, TURN_ANOTHERS);
    UNIT_EQ(claims[4].turn, TURN_ITS_OWN);
}

UNIT_TEST(kept, "a turn is not taken away by one that came nearer")
{
    struct turn_claim claims[] = {ending("b", 9), copying("b")};

    turn_decide(SEC, claims, 2);
    claims[1] = ending("b", 1);
    turn_decide(SEC + TURN_NEAR_US - 1, claims, 2);
    UNIT_EQ(claims[0].turn, TURN_ITS_OWN);
    UNIT_EQ(claims[0].given_us, SEC);
    UNIT_EQ(claims[1].turn, TURN_ANOTHERS);
}

UNIT_TEST(bounded, "one that does not stop in time passes the turn on, and rests")
{
    struct turn_claim claims[] = {ending("b", 1), ending("b", 9)};

    turn_decide(SEC, claims, 2);
    turn_decide(SEC + TURN_NEAR_US, claims, 2);
    UNIT_EQ(claims[0].turn, TURN_ANOTHERS);
    UNIT_EQ(claims[0].rests_us, SEC + TURN_NEAR_US + TURN_REST_US);
    UNIT_EQ(claims[1].turn, TURN_ITS_OWN);
    turn_decide(SEC + 2 * TURN_NEAR_US, claims, 2);
    UNIT_EQ(claims[0].turn, TURN_NOBODYS);
    UNIT_EQ(claims[1].turn, TURN_NOBODYS);
    turn_decide(SEC + TURN_NEAR_US + TURN_REST_US, claims, 2);
    UNIT_EQ(claims[0].turn, TURN_ITS_OWN);
    UNIT_EQ(claims[1].turn, TURN_ANOTHERS);
}

UNIT_TEST(farther,
          "one that turns out to be farther from its end gives the turn back at once, and rests")
{
    struct turn_claim claims[] = {ending("b", 1), ending("b", 9)};

    turn_decide(SEC, claims, 2);
    claims[0].near = false;
    turn_decide(2 * SEC, claims, 2);
    UNIT_EQ(claims[0].turn, TURN_ANOTHERS);
    UNIT_EQ(claims[0].rests_us, 2 * SEC + TURN_REST_US / 2);
    UNIT_EQ(claims[1].turn, TURN_ITS_OWN);
}

UNIT_TEST(swings, "one whose forecast swings leaves the others most of the time, too")
{
    struct turn_claim claims[] = {ending("b", 1), copying("b")};
    int64_t held_us = 0, step_us = SEC / 2, total_us = 600 * SEC;

    for (int64_t us = SEC; us < total_us; us += step_us) {
        claims[0].near = us / step_us % 2;
        turn_decide(us, claims, 2);
        held_us += claims[1].turn == TURN_ANOTHERS ? step_us : 0;
    }
    UNIT_TRUE(held_us > 0);
    UNIT_TRUE(held_us <= total_us / 10);
}

UNIT_TEST(forgotten, "where nobody waits any more nothing is left of turns")
{
    struct turn_claim claims[] = {ending("b", 1), ending("b", 2)};

    turn_decide(SEC, claims, 2);
    turn_decide(SEC + TURN_NEAR_US, claims, 2);
    turn_forget(claims, 2);
    for (size_t i = 0; i < 2; i++) {
        UNIT_EQ(claims[i].turn, TURN_NOBODYS);
        UNIT_EQ(claims[i].given_us, 0);
        UNIT_EQ(claims[i].rests_us, 0);
    }
}

UNIT_TEST(stopped, "a guest that has stopped has the turn, whoever had it before")
{
    struct turn_claim claims[] = {ending("b", 1), copying("b"), copying("b")};

    turn_decide(SEC, claims, 3);
    claims[1].paused_us = SEC + 1;
    turn_decide(SEC + 2, claims, 3);
    UNIT_EQ(claims[0].turn, TURN_ANOTHERS);
    UNIT_EQ(claims[0].rests_us, 0);
    UNIT_EQ(claims[1].turn, TURN_ITS_OWN);
    UNIT_EQ(claims[2].turn, TURN_ANOTHERS);
}

UNIT_TEST(both_stopped, "of two that have stopped neither gives way")
{
    struct turn_claim claims[] = {copying("b"), copying("b")};

    claims[0].paused_us = claims[1].paused_us = SEC;
    turn_decide(2 * SEC, claims, 2);
    UNIT_EQ(claims[0].turn, TURN_ITS_OWN);
    UNIT_EQ(claims[1].turn, TURN_ITS_OWN);
}

UNIT_TEST(long_pause, "a guest that stays stopped holds the others up for a bounded time")
{
    struct turn_claim claims[] = {copying("b"), copying("b")};

    claims[0].paused_us = SEC;
    turn_decide(SEC + TURN_PAUSE_US - 1, claims, 2);
    UNIT_EQ(claims[1].turn, TURN_ANOTHERS);
    turn_decide(SEC + TURN_PAUSE_US, claims, 2);
    UNIT_EQ(claims[0].turn, TURN_NOBODYS);
    UNIT_EQ(claims[1].turn, TURN_NOBODYS);
}

UNIT_TEST(in_a_hurry, "one that does not yield is never held up")
{
    struct turn_claim claims[] = {ending("b", 1), ending("b", 9), copying("b")};

    claims[1].yields = false;
    turn_decide(SEC, claims, 3);
    UNIT_EQ(claims[0].turn, TURN_ITS_OWN);
    UNIT_EQ(claims[1].turn, TURN_NOBODYS);
    UNIT_EQ(claims[2].turn, TURN_ANOTHERS);
}

UNIT_TEST(no_starvation,
          "guests that never end though they always seem to, leave the others most of the time")
{
    struct turn_claim claims[CLAIMS_MAX];
    int64_t held_us = 0, step_us = SEC / 10, total_us = 600 * SEC;

    for (size_t i = 0; i < 3; i++)
        claims[i] = ending("b", (int64_t)i);
    claims[3] = copying("b");
    for (int64_t us = SEC; us < total_us; us += step_us) {
        turn_decide(us, claims, 4);
        held_us += claims[3].turn == TURN_ANOTHERS ? step_us : 0;
    }
    UNIT_TRUE(held_us > 0);
    UNIT_TRUE(held_us <= total_us * 3 / 10);
}

UNIT_TEST(all_of_them, "of many that are at their end, each has its turn, one at a time")
{
    struct turn_claim claims[CLAIMS_MAX];
    bool had[CLAIMS_MAX] = {false};

    for (size_t i = 0; i < CLAIMS_MAX; i++)
        claims[i] = ending("b", 50 - (int64_t)i);
    for (int64_t us = SEC; us < SEC + CLAIMS_MAX * TURN_NEAR_US; us += SEC / 4) {
        unsigned holders = 0;
        turn_decide(us, claims, CLAIMS_MAX);
        for (size_t i = 0; i < CLAIMS_MAX; i++) {
            holders += claims[i].turn == TURN_ITS_OWN;
            had[i] |= claims[i].turn == TURN_ITS_OWN;
        }
        UNIT_EQ(holders, 1);
    }
    for (size_t i = 0; i < CLAIMS_MAX; i++)
        UNIT_TRUE(had[i]);
}
