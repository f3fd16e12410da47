/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One switch-over at a time of the migrations from this host to another (agent/turn.h decides). Libvirt has no way to
 * hold one back; but one that is slowed down does not come to its end, and leaves the link to the one whose turn it is.
 * The slowing down is a share of the bandwidth (source_bandwidth.c). A guest that leaves nothing to send stops all the
 * same. Nobody is slowed down who is in a hurry, and while it lasts the policy judges nothing (policy_skip()).
 */
#include "agent/source.h"

#include <stdarg.h>
#include <stdio.h>

#include "agent/turn.h"
#include "lib/clock.h"
#include "lib/log.h"
#include "lib/text.h"

LOG_MODULE(source);

/*
 * Two samples: less is seen too late, as a last pass often takes no more than a tenth of a second; more takes from the
 * others for too long. Who has the turn keeps it if it takes a little longer.
 */
enum { NEAR_MS = 1000, STILL_NEAR_MS = 2000 };

/* Of one migration: the account holds so many notes of all kinds, and those of its end are worth more. */
enum { NOTES_MAX = 6 };

#define SPARE_US (5 * USEC_PER_SEC)

static bool counts(const struct migration *m)
{
    return m->role == MIGRATION_SOURCE && m->holds_place && source_is_running(m);
}

/* By force or in post-copy. */
static bool ends_otherwise(const struct migration *m)
{
    return m->suspended_by_us || m->force_waits || m->post_copy_running || m->policy.forced ||
           m->policy.post_copy_started || m->policy.timeout_fired;
}

/* Until the guest stops: what people are told ends when libvirt's job has ended. -1 = not known. */
static int64_t until_the_pause_ms(const struct migration *m)
{
    const struct policy_told *told = &m->progress.told;

    if (told->time_left_ms < 0)
        return -1;
    int64_t after_ms = (told->pause_ms > 0 ? told->pause_ms : 0) + m->policy.finish_ms;
    return told->time_left_ms > after_ms ? told->time_left_ms - after_ms : 0;
}

static bool is_near(const struct migration *m)
{
    int64_t left_ms = until_the_pause_ms(m);

    return m->progress.has_job && m->memory_begun && !m->abort_requested && !ends_otherwise(m) &&
           left_ms >= 0 && left_ms <= (m->turn.given_us > 0 ? STILL_NEAR_MS : NEAR_MS);
}

/* Until half of its completion timeout. */
static bool has_time(const struct migration *m, int64_t now_us)
{
    struct policy_limits limits = settings_limits(&m->settings, m->agent->conf);
    int64_t timeout_s = policy_timeout_s(&m->policy, &limits);

    return timeout_s == 0 || (now_us - m->progress.started_us) / USEC_PER_SEC < timeout_s / 2;
}

static bool yields(const struct migration *m, int64_t now_us)
{
    return m->state == MACHINE_SOURCE_RUNNING && m->memory_begun && m->disks_bandwidth_mib == 0 &&
           m->progress.has_job && !m->switching && !ends_otherwise(m) &&
           now_us >= m->turn.spared_us && has_time(m, now_us);
}

static struct turn_claim claim_of(const struct migration *m, int64_t now_us)
{
    return (struct turn_claim){
        .destination = m->destination_host,
        .near = is_near(m),
        .paused_us = m->switching ? m->progress.paused_us : 0,
        .yields = yields(m, now_us),
        .left = m->progress.job.memory_remaining,
        .given_us = m->turn.given_us,
        .rests_us = m->turn.rests_us,
    };
}

static size_t claim_all(const struct agent *agent, struct turn_claim **out, int64_t now_us)
{
    struct turn_claim *claims;
    size_t count = 0, i = 0;

    for (const struct migration *m = agent->migrations; m; m = m->next)
        count += counts(m);
    *out = claims = NEW_ARRAY(struct turn_claim, count + 1);
    for (const struct migration *m = agent->migrations; m; m = m->next)
        if (counts(m))
            claims[i++] = claim_of(m, now_us);
    return count;
}

static void _printf_(2, 3) note(struct migration *m, const char *format, ...)
{
    char text[256];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (m->turn.notes++ < NOTES_MAX)
        migration_note(m, "%s", text);
    else
        log_info("migration %s: %s", m->uuid, text);
}

static void tell(struct migration *m, const struct turn_claim *claim)
{
    char left[32];

    text_bytes((double)claim->left, left, sizeof(left));
    if (claim->turn == TURN_ITS_OWN && claim->paused_us)
        note(m, "takes the turn to switch over: it has stopped");
    else if (claim->turn == TURN_ITS_OWN)
        note(m, "has the turn to switch over: %s left, expected to take %lld ms", left,
             (long long)m->progress.told.time_left_ms);
    else if (claim->turn == TURN_ANOTHERS)
        note(m, "waits for its turn to switch over: another one to %s is at its end",
             m->destination_host);
    else if (m->turn.turn == TURN_ITS_OWN && !claim->near)
        note(m, "gives the turn to switch over back: it is farther from its end");
    else if (claim->rests_us > m->turn.rests_us)
        note(m, "passes the turn to switch over on: it did not end within %lld s",
             (long long)(TURN_NEAR_US / USEC_PER_SEC));
    else if (m->turn.turn == TURN_ANOTHERS)
        log_info("migration %s: goes on, nobody to %s is at its end any more", m->uuid,
                 m->destination_host);
}

static bool take(struct migration *m, const struct turn_claim *claim)
{
    bool changed = m->turn.turn != claim->turn;

    if (changed)
        tell(m, claim);
    m->turn.turn = claim->turn;
    m->turn.given_us = claim->given_us;
    m->turn.rests_us = claim->rests_us;
    m->turn.disturbed |= claim->turn == TURN_ANOTHERS;
    return changed;
}

void source_turns(struct agent *agent)
{
    _cleanup_(mem_freep) struct turn_claim *claims = NULL;
    int64_t now_us = clock_monotonic_us();
    size_t count = claim_all(agent, &claims, now_us), i = 0;
    bool changed = false;

    if (conf_bool(agent->conf, CONF_libvirt_live_migration_switchover_in_turn))
        turn_decide(now_us, claims, count);
    else
        turn_forget(claims, count);
    for (struct migration *m = agent->migrations; m; m = m->next)
        if (counts(m))
            changed |= take(m, &claims[i++]);
        else
            m->turn.turn = TURN_NOBODYS; /* what it left to others is shared anew by its own end */
    if (changed)
        source_share_bandwidth(agent);
}

void source_turn_spare(struct migration *m)
{
    m->turn.spared_us = clock_monotonic_us() + SPARE_US;
    source_turns(m->agent);
}
