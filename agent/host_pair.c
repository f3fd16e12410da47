/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/host_pair.h"

#include "agent/migration.h"

struct host_pair {
    char *host;
    int64_t overhead_ms, bandwidth;
    struct host_pair *next;
};

/* Less than that tells more of zero pages than of the network. */
enum { ENOUGH_BYTES = 64 << 20 };

static struct host_pair *find(const struct agent *agent, const char *host)
{
    struct host_pair *pair = agent->host_pairs;

    while (pair && !text_equal(pair->host, host))
        pair = pair->next;
    return pair;
}

static struct host_pair *need(struct agent *agent, const char *host)
{
    struct host_pair *pair = find(agent, host);

    if (pair)
        return pair;
    pair = NEW(struct host_pair);
    pair->host = text_dup(host);
    pair->next = agent->host_pairs;
    agent->host_pairs = pair;
    return pair;
}

int64_t host_pair_overhead_ms(const struct agent *agent, const char *host)
{
    const struct host_pair *pair = find(agent, host);

    return pair ? pair->overhead_ms : 0;
}

int64_t host_pair_bandwidth(const struct agent *agent, const char *host)
{
    const struct host_pair *pair = find(agent, host);

    return pair ? pair->bandwidth : 0;
}

/* What goes as fast as it may tells nothing of the network. */
static bool was_limited(const struct migration *m)
{
    double limit = (double)m->bandwidth_mib * (1 << 20);

    return limit > 0.0 && m->policy.usual_throughput >= 0.8 * limit;
}

void host_pair_learn(struct migration *m, int64_t measured_ms)
{
    struct host_pair *pair = need(m->agent, m->destination_host);

    if (m->policy.forced || m->policy.post_copy_started)
        return; /* the pause was another */
    if (measured_ms >= 0 && m->progress.expected_downtime_ms >= 0)
        pair->overhead_ms = policy_learn_overhead_ms(m->policy.overhead_ms,
                                                     m->progress.expected_downtime_ms, measured_ms);
    if (m->policy.usual_throughput > 0.0 && !was_limited(m) &&
        m->progress.job.memory_processed >= ENOUGH_BYTES)
        pair->bandwidth = (int64_t)m->policy.usual_throughput;
}

void host_pairs_close(struct agent *agent)
{
    while (agent->host_pairs) {
        struct host_pair *pair = agent->host_pairs;
        agent->host_pairs = pair->next;
        free(pair->host);
        free(pair);
    }
}
