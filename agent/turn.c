/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/turn.h"

#include "lib/text.h"

static bool is_stopped(const struct turn_claim *claim, int64_t now_us)
{
    return claim->paused_us > 0 && now_us - claim->paused_us < TURN_PAUSE_US;
}

static bool same_pair(const struct turn_claim *a, const struct turn_claim *b)
{
    return text_equal(a->destination, b->destination);
}

/* One that ran out of its time rests; one that turned out to be farther from its end rests in proportion, as one whose
 * forecast swings would hold up the others time and again. */
static void end_turn(struct turn_claim *claim, int64_t now_us)
{
    if (claim->given_us == 0 || is_stopped(claim, now_us))
        return;
    bool over = claim->paused_us > 0 || now_us - claim->given_us >= TURN_NEAR_US;
    if (claim->near && !over)
        return;
    int64_t had_us = over ? TURN_NEAR_US : now_us - claim->given_us;
    claim->given_us = 0;
    claim->rests_us = now_us + had_us * (TURN_REST_US / TURN_NEAR_US);
}

static bool may_have(const struct turn_claim *claim, int64_t now_us)
{
    return claim->near && claim->paused_us == 0 && now_us >= claim->rests_us;
}

/* Who is first to have it: who has stopped, who has it, who has the least left. */
static bool goes_before(const struct turn_claim *a, const struct turn_claim *b, int64_t now_us)
{
    if (is_stopped(a, now_us) != is_stopped(b, now_us))
        return is_stopped(a, now_us);
    if ((a->given_us > 0) != (b->given_us > 0))
        return a->given_us > 0;
    return a->left < b->left;
}

/* NULL = nobody is so far, or there is nobody else. */
static struct turn_claim *whose(const struct turn_claim *of, struct turn_claim *claims,
                                size_t count, int64_t now_us)
{
    struct turn_claim *first = NULL;
    size_t others = 0;

    for (size_t i = 0; i < count; i++) {
        struct turn_claim *claim = &claims[i];
        if (!same_pair(of, claim))
            continue;
        others += claim != of;
        if (!is_stopped(claim, now_us) && !(claim->given_us > 0) && !may_have(claim, now_us))
            continue;
        if (!first || goes_before(claim, first, now_us))
            first = claim;
    }
    return others > 0 ? first : NULL;
}

static enum turn turn_of(const struct turn_claim *claim, const struct turn_claim *first,
                         int64_t now_us)
{
    if (!first)
        return TURN_NOBODYS;
    if (claim == first || is_stopped(claim, now_us))
        return TURN_ITS_OWN;
    return claim->yields ? TURN_ANOTHERS : TURN_NOBODYS;
}

void turn_decide(int64_t now_us, struct turn_claim *claims, size_t count)
{
    for (size_t i = 0; i < count; i++)
        end_turn(&claims[i], now_us);
    for (size_t i = 0; i < count; i++)
        claims[i].turn = turn_of(&claims[i], whose(&claims[i], claims, count, now_us), now_us);
    for (size_t i = 0; i < count; i++) {
        struct turn_claim *claim = &claims[i];
        if (claim->turn != TURN_ITS_OWN)
            claim->given_us = 0;
        else if (claim->given_us == 0)
            claim->given_us = now_us;
    }
}

void turn_forget(struct turn_claim *claims, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        claims[i].turn = TURN_NOBODYS;
        claims[i].given_us = claims[i].rests_us = 0;
    }
}
