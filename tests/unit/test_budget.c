/* SPDX-License-Identifier: Apache-2.0 */
/* The host's bandwidth shared among its migrations. */
#include "tests/unit/unit.h"

#include "agent/budget.h"

enum { CLAIMS_MAX = 64 };

static struct budget_claim claims[CLAIMS_MAX];

static void share(int64_t total_mib, size_t count, const int64_t *limits_mib)
{
    for (size_t i = 0; i < count; i++)
        claims[i] = (struct budget_claim){.limit_mib = limits_mib ? limits_mib[i] : 0};
    budget_share(total_mib, claims, count);
}

static int64_t sum(size_t count)
{
    int64_t mib = 0;

    for (size_t i = 0; i < count; i++)
        mib += claims[i].share_mib;
    return mib;
}

UNIT_TEST(alone, "one migration gets everything, or its own limit")
{
    share(1000, 1, NULL);
    UNIT_EQ(claims[0].share_mib, 1000);
    share(1000, 1, (int64_t[]){300});
    UNIT_EQ(claims[0].share_mib, 300);
    share(1000, 1, (int64_t[]){3000});
    UNIT_EQ(claims[0].share_mib, 1000);
}

UNIT_TEST(equal, "without own limits all get the same, and nothing is left over")
{
    share(1000, 3, NULL);
    UNIT_EQ(claims[0].share_mib, 334);
    UNIT_EQ(claims[1].share_mib, 333);
    UNIT_EQ(claims[2].share_mib, 333);
}

UNIT_TEST(limited, "what one does not use goes to the others in equal parts")
{
    share(1000, 3, (int64_t[]){100, 0, 0});
    UNIT_EQ(claims[0].share_mib, 100);
    UNIT_EQ(claims[1].share_mib, 450);
    UNIT_EQ(claims[2].share_mib, 450);
}

UNIT_TEST(cascade, "a limit that only matters because of another one's rest is respected")
{
    /* an equal part is 250; with the 50 of the first it is 316, above the 300 of the second */
    share(1000, 4, (int64_t[]){0, 300, 50, 0});
    UNIT_EQ(claims[0].share_mib, 325);
    UNIT_EQ(claims[1].share_mib, 300);
    UNIT_EQ(claims[2].share_mib, 50);
    UNIT_EQ(claims[3].share_mib, 325);
}

UNIT_TEST(all_limited, "limits that fit in together are all given in full")
{
    share(1000, 3, (int64_t[]){100, 200, 300});
    UNIT_EQ(sum(3), 600);
    UNIT_EQ(claims[2].share_mib, 300);
}

UNIT_TEST(scarce, "with less than 1 MiB/s for each, each gets 1: 0 would mean no limit")
{
    share(2, 5, NULL);
    for (size_t i = 0; i < 5; i++)
        UNIT_EQ(claims[i].share_mib, 1);
}

UNIT_TEST(none, "no migrations and only fixed ones are no trouble")
{
    budget_share(100, claims, 0);
    claims[0] = (struct budget_claim){.fixed_mib = 70};
    budget_share(100, claims, 1);
    UNIT_EQ(claims[0].share_mib, 70);
}

UNIT_TEST(fixed, "a disk copy keeps its rate, the others share what it leaves")
{
    claims[0] = (struct budget_claim){.fixed_mib = 40};
    claims[1] = claims[2] = (struct budget_claim){0};
    budget_share(100, claims, 3);
    UNIT_EQ(claims[0].share_mib, 40);
    UNIT_EQ(claims[1].share_mib, 30);
    UNIT_EQ(claims[2].share_mib, 30);
}

UNIT_TEST(fixed_all, "a disk copy that began with everything leaves the others half of their part")
{
    claims[0] = (struct budget_claim){.fixed_mib = 100};
    claims[1] = (struct budget_claim){0};
    budget_share(100, claims, 2);
    UNIT_EQ(claims[0].share_mib, 100);
    UNIT_EQ(claims[1].share_mib, 25);
}

/* Nobody could get more without somebody who has no more than that getting less. */
static void is_fair(int64_t total_mib, size_t count)
{
    int64_t most = 0;

    for (size_t i = 0; i < count; i++)
        most = claims[i].share_mib > most ? claims[i].share_mib : most;
    for (size_t i = 0; i < count; i++) {
        bool sated = claims[i].limit_mib > 0 && claims[i].share_mib == claims[i].limit_mib;
        UNIT_TRUE(claims[i].limit_mib == 0 || claims[i].share_mib <= claims[i].limit_mib);
        UNIT_TRUE(sated || claims[i].share_mib >= most - 1);
    }
    UNIT_TRUE(sum(count) <= total_mib);
}

UNIT_TEST(fair, "whatever the limits are, the shares are fair and fit in")
{
    uint64_t random = 88172645463325252u;

    for (int round = 0; round < 2000; round++) {
        int64_t limits[CLAIMS_MAX];
        size_t count = 1 + (size_t)(round % (CLAIMS_MAX - 1));
        for (size_t i = 0; i < count; i++) {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            limits[i] = random % 3 ? (int64_t)(random % 200) : 0;
        }
        int64_t total_mib = (int64_t)count + (int64_t)(random % 5000);
        share(total_mib, count, limits);
        is_fair(total_mib, count);
    }
}
