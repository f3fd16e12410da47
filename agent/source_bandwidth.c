/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bandwidth of each migration that leaves this host: its own limit, or its share of
 * live_migration_host_bandwidth (agent/budget.h). Shares are made anew when a migration gets or gives up a
 * place, when its setting or the configuration changes, when the turn to switch over goes to another one
 * (source_turn.c), and when its disks are copied: until then libvirt cannot change their rate
 * (virt/libvirt_migrate.c), so they count with the one that they began with.
 */
#include "agent/source.h"

#include "agent/budget.h"
#include "lib/log.h"

LOG_MODULE(source);

/* What is left to one while it is another's turn to switch over; libvirt knows no less. */
enum { GIVES_WAY_MIB = 1 };

enum { MIB = 1 << 20 };

int64_t source_bandwidth_bytes(int64_t mib)
{
    return mib > INT64_MAX / MIB ? INT64_MAX : mib * MIB;
}

int64_t migration_bandwidth_limit(const struct migration *m)
{
    return source_bandwidth_bytes(m->bandwidth_mib);
}

static bool counts(const struct migration *m)
{
    return m->role == MIGRATION_SOURCE && m->holds_place;
}

static bool copies_disks(const struct migration *m)
{
    return m->state == MACHINE_SOURCE_RUNNING && m->disks_bandwidth_mib > 0;
}

static size_t count_holders(const struct agent *agent)
{
    size_t count = 0;

    for (const struct migration *m = agent->migrations; m; m = m->next)
        count += counts(m);
    return count;
}

static int64_t limit_of(const struct migration *m)
{
    return m->turn.turn == TURN_ANOTHERS ? GIVES_WAY_MIB : m->settings.bandwidth_mib;
}

static int64_t limit_without_turns(const struct migration *m)
{
    return m->settings.bandwidth_mib;
}

static struct budget_claim *make_claims(const struct agent *agent, size_t count,
                                        int64_t (*limit)(const struct migration *m))
{
    struct budget_claim *claims = NEW_ARRAY(struct budget_claim, count + 1);
    size_t i = 0;

    for (const struct migration *m = agent->migrations; m; m = m->next) {
        if (!counts(m))
            continue;
        claims[i].limit_mib = limit(m);
        claims[i++].fixed_mib = copies_disks(m) ? m->disks_bandwidth_mib : 0;
    }
    return claims;
}

/* True if it is another one. A guest that was paused by force must not wait behind a limit again. */
static bool give(struct migration *m, int64_t mib)
{
    if (m->suspended_by_us || mib == m->bandwidth_mib)
        return false;
    m->bandwidth_mib = mib;
    m->bandwidth_unsure |= m->turn.turn == TURN_ANOTHERS;
    source_bandwidth_changed(m);
    return true;
}

static void tell_shares(const struct budget_claim *claims, size_t count, int64_t total_mib)
{
    struct text_buffer b = TEXT_BUFFER_INIT;

    for (size_t i = 0; i < count; i++)
        text_buffer_printf(&b, "%s%lld", i ? ", " : "", (long long)claims[i].share_mib);
    log_info("bandwidth for migrations of this host, %lld MiB/s, shared by %zu, newest first: %s",
             (long long)total_mib, count, b.data);
    text_buffer_free(&b);
}

/* Where all places are taken, one of them ends before this one begins: which, nobody knows. A turn is over by then. */
int64_t source_bandwidth_foreseen(const struct agent *agent, int64_t limit_mib)
{
    int64_t total_mib = conf_int(agent->conf, CONF_libvirt_live_migration_host_bandwidth);
    int64_t places = conf_int(agent->conf, CONF_DEFAULT_max_concurrent_live_migrations);
    size_t count = count_holders(agent);
    _cleanup_(mem_freep) struct budget_claim *claims =
        make_claims(agent, count, limit_without_turns);

    if (total_mib <= 0)
        return limit_mib;
    if (places > 0 && count >= (size_t)places)
        count = (size_t)places - 1;
    claims[count] = (struct budget_claim){.limit_mib = limit_mib};
    budget_share(total_mib, claims, count + 1);
    return claims[count].share_mib;
}

void source_share_bandwidth(struct agent *agent)
{
    int64_t total_mib = conf_int(agent->conf, CONF_libvirt_live_migration_host_bandwidth);
    size_t count = count_holders(agent), i = 0;
    _cleanup_(mem_freep) struct budget_claim *claims = make_claims(agent, count, limit_of);
    bool changed = false;

    if (total_mib > 0)
        budget_share(total_mib, claims, count);
    for (struct migration *m = agent->migrations; m; m = m->next) {
        if (!counts(m))
            continue;
        const struct budget_claim *claim = &claims[i++];
        if (total_mib <= 0)
            changed |= give(m, claim->limit_mib);
        else if (!copies_disks(m))
            changed |= give(m, claim->share_mib);
    }
    if (changed && total_mib > 0)
        tell_shares(claims, count, total_mib);
}
