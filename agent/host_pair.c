/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/host_pair.h"

#include "agent/migration.h"
#include "lib/clock.h"

struct host_pair {
    char *host;
    struct host_pair_known known;
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

struct host_pair_known host_pair_known(const struct agent *agent, const char *host)
{
    const struct host_pair *pair = find(agent, host);
    struct host_pair_known known = pair ? pair->known : (struct host_pair_known){0};

    if (known.bandwidth > 0)
        known.link = known.bandwidth;
    return known;
}

bool host_pair_is_ours(const struct agent *agent, const char *host)
{
    const struct host_pair *pair = find(agent, host);

    return pair && pair->is_ours;
}

void host_pair_answered(struct agent *agent, const char *host, bool is_ours)
{
    need(agent, host)->is_ours = is_ours;
}

/* What goes as fast as it may tells nothing of the network. A limit that was raised for its turn to switch over was
 * another one until then. */
static bool was_limited(const struct migration *m)
{
    int64_t limit = migration_bandwidth_limit(m);

    return policy_is_limited(&m->policy, limit) || (limit > 0 && m->turn.given_us > 0);
}

/* With a limit, and a network that was never seen without, nobody knows which part of a pause took the longer: it is
 * taken for the memory's. */
static void learn_pause(struct host_pair *pair, const struct migration *m, int64_t measured_ms)
{
    const struct policy_told *told = &m->progress.told;
    int64_t known_ms = m->policy.overhead_ms > 0 ? m->policy.overhead_ms : POLICY_OVERHEAD_MS;

    if (measured_ms < 0 || told->pause_ms < 0)
        return;
    if (was_limited(m) && pair->known.bandwidth == 0) {
        if (told->pause_rest > 0)
            pair->known.link =
                policy_learn_link(pair->known.link, told->pause_rest, known_ms, measured_ms);
        return;
    }
    pair->known.overhead_ms =
        policy_learn_overhead_ms(m->policy.overhead_ms, told->pause_ms, measured_ms);
    pair->known.pause_stray_ms =
        policy_learn_stray_ms(m->policy.pause_stray_ms, told->pause_ms, measured_ms);
}

/* How long libvirt took before it copied anything and, once the guest ran again, until the job had ended. */
static void learn_around(struct host_pair *pair, const struct migration *m, int64_t measured_ms)
{
    const struct migration_progress *p = &m->progress;

    if (m->policy.copied_us > 0)
        pair->known.begin_ms =
            policy_learn_time_ms(pair->known.begin_ms, m->policy.copied_us / USEC_PER_MSEC);
    if (p->paused_us == 0 || p->ended_us < p->paused_us || measured_ms < 0)
        return;
    int64_t finish_ms = (p->ended_us - p->paused_us) / USEC_PER_MSEC - measured_ms;
    pair->known.finish_ms = policy_learn_time_ms(pair->known.finish_ms, finish_ms);
}

void host_pair_learn(struct migration *m, int64_t measured_ms)
{
    struct host_pair *pair = need(m->agent, m->destination_host);

    if (m->policy.forced || m->policy.post_copy_started)
        return; /* the pause was another */
    learn_pause(pair, m, measured_ms);
    learn_around(pair, m, measured_ms);
    if (m->policy.usual_throughput > 0.0 && !was_limited(m) &&
        m->progress.job.memory_processed >= ENOUGH_BYTES)
        pair->known.bandwidth = (int64_t)m->policy.usual_throughput;
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
