/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/host_pair.h"

#include "agent/migration.h"

struct host_pair {
    char *host;
    int64_t overhead_ms, bandwidth, link, pause_stray_ms;
    bool is_ours;
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

int64_t host_pair_link(const struct agent *agent, const char *host)
{
    const struct host_pair *pair = find(agent, host);

    return !pair ? 0 : pair->bandwidth > 0 ? pair->bandwidth : pair->link;
}

int64_t host_pair_pause_stray_ms(const struct agent *agent, const char *host)
{
    const struct host_pair *pair = find(agent, host);

    return pair ? pair->pause_stray_ms : 0;
}

bool host_pair_is_ours(const struct agent *agent, const char *host)
{
    const struct host_pair *pair = find(agent, host);

    return (pair && pair->is_ours) ||
           text_equal(conf_string(agent->conf, CONF_agent_control_plane), "standalone");
}

void host_pair_answered(struct agent *agent, const char *host, bool is_ours)
{
    need(agent, host)->is_ours = is_ours;
}

/* What goes as fast as it may tells nothing of the network. */
static bool was_limited(const struct migration *m)
{
    return policy_is_limited(&m->policy, migration_bandwidth_limit(m));
}

/* With a limit, and a network that was never seen without, nobody knows which part of a pause took the longer: it is
 * taken for the memory's. */
static void learn_pause(struct host_pair *pair, const struct migration *m, int64_t measured_ms)
{
    const struct policy_told *told = &m->progress.told;
    int64_t known_ms = m->policy.overhead_ms > 0 ? m->policy.overhead_ms : POLICY_OVERHEAD_MS;

    if (measured_ms < 0 || told->pause_ms < 0)
        return;
    if (was_limited(m) && pair->bandwidth == 0) {
        if (told->pause_rest > 0)
            pair->link = policy_learn_link(pair->link, told->pause_rest, known_ms, measured_ms);
        return;
    }
    pair->overhead_ms =
        policy_learn_overhead_ms(m->policy.overhead_ms, told->pause_ms, measured_ms);
    pair->pause_stray_ms =
        policy_learn_stray_ms(m->policy.pause_stray_ms, told->pause_ms, measured_ms);
}

void host_pair_learn(struct migration *m, int64_t measured_ms)
{
    struct host_pair *pair = need(m->agent, m->destination_host);

    if (m->policy.forced || m->policy.post_copy_started)
        return; /* the pause was another */
    learn_pause(pair, m, measured_ms);
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
