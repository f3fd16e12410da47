/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/unit.h"

#include <pthread.h>

#include "lib/metrics.h"

enum { THREADS = 4, TIMES = 10000 };

static void *count(void *aux)
{
    for (int i = 0; i < TIMES; i++)
        metric_inc(METRIC_RPC_SENT);
    return aux;
}

UNIT_TEST(counts, "no increment of any thread is lost")
{
    pthread_t threads[THREADS];
    uint64_t before = metric_get(METRIC_RPC_SENT), other = metric_get(METRIC_RPC_RECEIVED);

    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, count, NULL);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    metric_add(METRIC_RPC_SENT, 5);
    UNIT_EQ(metric_get(METRIC_RPC_SENT), before + THREADS * TIMES + 5);
    UNIT_EQ(metric_get(METRIC_RPC_RECEIVED), other);
}

UNIT_TEST(names, "each metric has a name of its own and a help text")
{
    for (int i = 0; i < METRIC_COUNT; i++) {
        const char *name = metric_name((enum metric)i);

        UNIT_EQ(strspn(name, "abcdefghijklmnopqrstuvwxyz_"), strlen(name));
        UNIT_TRUE(metric_help((enum metric)i)[0] != '\0');
        for (int k = 0; k < i; k++)
            UNIT_TRUE(strcmp(name, metric_name((enum metric)k)) != 0);
    }
}
