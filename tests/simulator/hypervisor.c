/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libvirt and QEMU on both hosts: one peer-to-peer migration at a time, which goes on whatever becomes of
 * the agents. It copies in passes, stops the guest, starts it at the destination, and goes. Until it runs
 * there it may fail or be cancelled, and the guest goes on here. Its news reach the agents before and after
 * the call's end.
 *
 * The loss of an agent's connection ends its call without an outcome; the migration goes on. The restart of
 * a libvirtd ends the migration: while it copies the guest goes on at the source. In the switch-over it is
 * as libvirt has it: either it is cancelled, or the last word is missing and the guest stays paused at the
 * source, running or not at the other. What is different in post-copy is in post_copy.c.
 */
#include "lib/clock.h"
#include "tests/simulator/hypervisor_internal.h"

static const int64_t guest_bytes = INT64_C(268435456);

struct hypervisor *hypervisor_new(void)
{
    return NEW(struct hypervisor);
}

void hypervisor_free(struct hypervisor *hypervisor)
{
    free(hypervisor);
}

struct virt *hypervisor_virt_of(const struct host *host)
{
    return host->world->agent.virt;
}

enum virt_state hypervisor_state(const struct host *host)
{
    return virt_fake_state(hypervisor_virt_of(host), WORLD_INSTANCE);
}

void hypervisor_tell(struct host *host, enum virt_event event, int iteration)
{
    struct hypervisor *h = sim->hypervisor;

    if (host->up && host->libvirt_up && h->news_count < NEWS_MAX)
        h->news[h->news_count++] = (struct news){host, event, iteration};
}

/* ---- the agent's calls ---- */

static void ask_for_post_copy(void)
{
    struct hypervisor *h = sim->hypervisor;

    if (h->phase != COPYING || !h->may_post_copy || h->post_copy_asked)
        return;
    sim_trace("libvirt: post-copy is asked for");
    sim->coverage->post_copy[POST_COPY_BY_POLICY] += !sim->force_asked;
    h->post_copy_asked = true;
}

static int enter(void *aux, const char *op, const char *uuid, struct err *e)
{
    struct host *host = aux;

    (void)uuid;
    if (host->dead)
        return err_set(e, ERR_HYPERVISOR, "this agent is dead");
    if (text_equal(op, "state"))
        promises_read(host);
    if (text_equal(op, "suspend"))
        sim->hypervisor->forced = true;
    if (text_equal(op, "abort") && hypervisor_is_in_post_copy())
        return err_set(e, ERR_VIRT, "a migration in post-copy cannot be aborted");
    if (text_equal(op, "start_post_copy"))
        ask_for_post_copy();
    return 0;
}

static void show_progress(void)
{
    struct hypervisor *h = sim->hypervisor;
    struct virt_job job = {
        .active = true,
        .memory_total = guest_bytes,
        .memory_remaining = guest_bytes / PASSES_MAX * (int64_t)h->left,
        .memory_bps = 100000000,
        .dirty_rate = 20000000,
        .page_size = 4096,
        .iteration = (int)(h->passes - h->left) + 1,
        .downtime_ms = 300,
    };

    job.memory_processed = guest_bytes - job.memory_remaining;
    virt_fake_samples(hypervisor_virt_of(&sim->hosts[SOURCE]), WORLD_INSTANCE, &job, 1);
    virt_fake_set_job(hypervisor_virt_of(&sim->hosts[SOURCE]), WORLD_INSTANCE, true);
}

static bool begin(struct host *host, const struct virt_migration *migration)
{
    struct hypervisor *h = sim->hypervisor;
    struct host *to = &sim->hosts[DESTINATION];

    if (host != &sim->hosts[SOURCE] || h->phase != NO_JOB ||
        hypervisor_state(to) != VIRT_STATE_NONE)
        return false;
    h->phase = COPYING;
    h->left = h->passes = 1 + (unsigned)sim_below(PASSES_MAX);
    h->aborted = h->post_copy_asked = false;
    h->may_post_copy = migration->post_copy;
    h->suspended_before = hypervisor_state(host) == VIRT_STATE_PAUSED;
    virt_fake_set_incoming(hypervisor_virt_of(to), WORLD_INSTANCE);
    hypervisor_tell(to, VIRT_EVENT_STARTED, 0);
    show_progress();
    return true;
}

/* On the call's own thread. */
static enum virt_outcome migrate(void *aux, const struct virt_migration *migration)
{
    struct hypervisor *h = sim->hypervisor;
    struct host *host = aux;

    if (!(migration->resume_post_copy ? post_copy_resume(host) : begin(host, migration)))
        return VIRT_OUTCOME_FAILED;
    if (!migration->resume_post_copy)
        sim_trace("libvirt: a migration of %u passes begins", h->passes);
    h->call_waits = true;
    h->call_over = false;
    sim_job_pause();
    h->call_waits = false;
    return h->call_over ? h->call_outcome : VIRT_OUTCOME_UNKNOWN;
}

static void aborted(void *aux, const char *uuid)
{
    (void)aux;
    (void)uuid;
    sim->hypervisor->aborted = true;
    sim_trace("libvirt: the migration is to be cancelled");
}

void hypervisor_attach(struct host *host)
{
    struct virt_fake_player player = {
        .enter = enter, .migrate = migrate, .abort = aborted, .aux = host};

    virt_fake_play(hypervisor_virt_of(host), &player);
    host->libvirt_up = true;
}

/* ---- the migration ---- */

void hypervisor_call_ends(enum virt_outcome outcome)
{
    struct hypervisor *h = sim->hypervisor;

    if (!h->call_waits || h->call_over)
        return;
    h->call_over = true;
    h->call_outcome = outcome;
}

static void job_over(enum virt_outcome outcome)
{
    sim->hypervisor->phase = NO_JOB;
    virt_fake_samples(hypervisor_virt_of(&sim->hosts[SOURCE]), WORLD_INSTANCE, NULL, 0);
    virt_fake_set_job(hypervisor_virt_of(&sim->hosts[SOURCE]), WORLD_INSTANCE, false);
    hypervisor_call_ends(outcome);
}

static void remove_arrival(void)
{
    struct host *to = &sim->hosts[DESTINATION];

    virt_fake_remove(hypervisor_virt_of(to), WORLD_INSTANCE);
    hypervisor_tell(to, VIRT_EVENT_STOPPED, 0);
}

/* The guest goes on at the source, as it was before the switch-over. */
static void give_back(enum virt_outcome outcome)
{
    struct hypervisor *h = sim->hypervisor;
    struct host *from = &sim->hosts[SOURCE];

    sim_trace("libvirt: the migration ends, the guest stays");
    remove_arrival();
    if (h->phase == SWITCHING && !h->suspended_before) {
        virt_fake_set_state(hypervisor_virt_of(from), WORLD_INSTANCE, VIRT_STATE_RUNNING);
        hypervisor_tell(from, VIRT_EVENT_RESUMED, 0);
    }
    job_over(outcome);
}

static void copy(void)
{
    struct hypervisor *h = sim->hypervisor;
    struct host *from = &sim->hosts[SOURCE];
    bool suspended = hypervisor_state(from) == VIRT_STATE_PAUSED;

    if (h->post_copy_asked && !suspended) {
        post_copy_leave();
        return;
    }
    if (sim->calm && sim->by_policy && h->left <= 1)
        return; /* it does not converge: the policy has to end it */
    if (!suspended && h->left > 0) {
        h->left--;
        hypervisor_tell(from, VIRT_EVENT_STARTED, (int)(h->passes - h->left));
        show_progress();
        return;
    }
    sim_trace("libvirt: the guest stops at the source");
    h->phase = SWITCHING;
    h->suspended_before = suspended; /* that is not taken back by itself */
    virt_fake_set_state(hypervisor_virt_of(from), WORLD_INSTANCE, VIRT_STATE_PAUSED);
    hypervisor_tell(from, VIRT_EVENT_PAUSED_MIGRATION, 0);
}

static void arrive(void)
{
    struct host *to = &sim->hosts[DESTINATION];

    sim_trace("libvirt: the guest runs at the destination");
    sim->hypervisor->phase = ARRIVED;
    virt_fake_set_state(hypervisor_virt_of(to), WORLD_INSTANCE, VIRT_STATE_RUNNING);
    hypervisor_tell(to, VIRT_EVENT_RESUMED_MIGRATION, 0);
    if (sim_below(4) == 0)
        hypervisor_tell(to, VIRT_EVENT_RESUMED_MIGRATION, 0);
}

static void complete(void)
{
    struct host *from = &sim->hosts[SOURCE];

    sim_trace("libvirt: the migration is complete");
    virt_fake_remove(hypervisor_virt_of(from), WORLD_INSTANCE);
    hypervisor_tell(from, VIRT_EVENT_STOPPED_MIGRATION, 0);
    job_over(VIRT_OUTCOME_COMPLETED);
}

static void advance(void)
{
    struct hypervisor *h = sim->hypervisor;
    bool arrival_is_here = hypervisor_state(&sim->hosts[DESTINATION]) != VIRT_STATE_NONE;

    if (hypervisor_switches() && sim_below(3) > 0)
        return; /* it takes its time */
    if (hypervisor_is_in_post_copy())
        post_copy_advance();
    else if (h->phase == ARRIVED)
        complete();
    else if (h->aborted)
        give_back(VIRT_OUTCOME_CANCELLED);
    else if (!arrival_is_here)
        give_back(VIRT_OUTCOME_FAILED);
    else if (h->phase == COPYING)
        copy();
    else
        arrive();
}

static void die_at(struct host *host)
{
    sim_trace("%s: the guest's QEMU dies", host->name);
    sim->hypervisor->guest_died = true;
    sim->coverage->guests_died++;
    virt_fake_set_state(hypervisor_virt_of(host), WORLD_INSTANCE, VIRT_STATE_SHUTOFF);
    hypervisor_tell(host, VIRT_EVENT_STOPPED, 0);
}

void hypervisor_guest_dies(void)
{
    struct hypervisor *h = sim->hypervisor;
    bool arrived = hypervisor_state(&sim->hosts[DESTINATION]) == VIRT_STATE_RUNNING;

    if (h->guest_died || h->phase == ARRIVED)
        return;
    if (hypervisor_is_in_post_copy()) {
        post_copy_guest_dies();
        return;
    }
    if (h->phase != NO_JOB)
        give_back(VIRT_OUTCOME_FAILED);
    die_at(&sim->hosts[arrived ? DESTINATION : SOURCE]);
}

bool hypervisor_guest_died(void)
{
    return sim->hypervisor->guest_died;
}

bool hypervisor_has_paused_by_force(void)
{
    return sim->hypervisor->forced;
}

/* Libvirt's, or the answer to a call on a guest that was paused by force: it is paused either way. */
bool hypervisor_last_word_missing(void)
{
    return sim->hypervisor->last_word_missing || sim->hypervisor->forced;
}

bool hypervisor_switches(void)
{
    return sim->hypervisor->phase == SWITCHING || sim->hypervisor->phase == ARRIVED ||
           sim->hypervisor->phase == LEAVING;
}

bool hypervisor_has_job(void)
{
    return sim->hypervisor->phase != NO_JOB;
}

void hypervisor_job_fails(void)
{
    if (sim->hypervisor->phase == COPYING || sim->hypervisor->phase == SWITCHING)
        give_back(VIRT_OUTCOME_FAILED);
}

/* ---- steps: the job, the call's end, each of the news ---- */

static bool can_return(void)
{
    const struct hypervisor *h = sim->hypervisor;

    return h->call_waits && h->call_over;
}

static bool can_advance(void)
{
    return hypervisor_has_job() && (!hypervisor_is_in_post_copy() || post_copy_can_advance());
}

/* One connection keeps the order of its news; NEWS_MAX = there are none. */
static unsigned first_news(const struct host *host)
{
    const struct hypervisor *h = sim->hypervisor;

    for (unsigned i = 0; i < h->news_count; i++)
        if (h->news[i].host == host)
            return i;
    return NEWS_MAX;
}

unsigned hypervisor_count(void)
{
    return can_advance() + can_return() + (first_news(&sim->hosts[SOURCE]) < NEWS_MAX) +
           (first_news(&sim->hosts[DESTINATION]) < NEWS_MAX);
}

static void bring_news(unsigned n)
{
    struct hypervisor *h = sim->hypervisor;
    struct news news = h->news[n];

    memmove(&h->news[n], &h->news[n + 1], (h->news_count - n - 1) * sizeof(news));
    h->news_count--;
    sim_trace("%s: libvirt tells: %s", news.host->name,
              news.iteration ? "iteration" : virt_event_name(news.event));
    sim->acting = news.host;
    if (news.iteration)
        virt_fake_iteration(hypervisor_virt_of(news.host), WORLD_INSTANCE, news.iteration);
    else
        virt_fake_event(hypervisor_virt_of(news.host), WORLD_INSTANCE, news.event);
    sim->acting = NULL;
}

static void let_return(void)
{
    struct host *host = &sim->hosts[SOURCE];

    sim_trace("%s: libvirt's call returns", host->name);
    sim->acting = host;
    sim_jobs_resume(host->world->agent.loop);
    sim->acting = NULL;
}

void hypervisor_step(unsigned n)
{
    if (can_advance() && n-- == 0)
        advance();
    else if (can_return() && n-- == 0)
        let_return();
    else if (first_news(&sim->hosts[SOURCE]) < NEWS_MAX && n-- == 0)
        bring_news(first_news(&sim->hosts[SOURCE]));
    else
        bring_news(first_news(&sim->hosts[DESTINATION]));
}

/* ---- connections and daemons ---- */

static void drop_news(const struct host *host)
{
    struct hypervisor *h = sim->hypervisor;
    unsigned kept = 0;

    for (unsigned i = 0; i < h->news_count; i++)
        if (h->news[i].host != host)
            h->news[kept++] = h->news[i];
    h->news_count = kept;
}

void hypervisor_host_gone(struct host *host)
{
    drop_news(host);
}

void hypervisor_lose_connection(struct host *host)
{
    sim_trace("%s: the connection to libvirt is lost", host->name);
    drop_news(host);
    host->libvirt_up = false;
    sim->acting = host;
    virt_fake_set_up(hypervisor_virt_of(host), false, "the connection was lost");
    sim->acting = NULL;
    if (host == &sim->hosts[SOURCE])
        hypervisor_call_ends(VIRT_OUTCOME_UNKNOWN);
}

/* The last word was missing: the source keeps a paused guest, the other one has it or has not. */
static void end_without_last_word(void)
{
    struct hypervisor *h = sim->hypervisor;

    sim_trace("libvirt: the migration ends without its last word");
    h->last_word_missing = true;
    if (!sim->plan && !sim->healing && sim_below(2) == 0)
        sim->bus_is_cut = true; /* nor can the destination be asked */
    if (h->phase == SWITCHING && sim_below(2) == 0)
        arrive();
    else if (h->phase == SWITCHING)
        remove_arrival();
    job_over(VIRT_OUTCOME_UNKNOWN);
}

void hypervisor_restart(struct host *host)
{
    struct hypervisor *h = sim->hypervisor;
    bool source = host == &sim->hosts[SOURCE];

    sim_trace("%s: libvirtd is restarted", host->name);
    if (host->libvirt_up)
        hypervisor_lose_connection(host);
    if (hypervisor_is_in_post_copy())
        post_copy_restart(host);
    else if (h->phase == COPYING || (h->phase == SWITCHING && sim_below(2) == 0))
        give_back(VIRT_OUTCOME_FAILED);
    else if (h->phase == ARRIVED && h->ends[SOURCE])
        hypervisor_call_ends(VIRT_OUTCOME_UNKNOWN); /* after post-copy QEMU ends it by itself */
    else if (h->phase != NO_JOB && source)
        end_without_last_word();
}

void hypervisor_back(struct host *host)
{
    sim_trace("%s: libvirt is connected again", host->name);
    host->libvirt_up = true;
    sim->acting = host;
    virt_fake_set_up(hypervisor_virt_of(host), true, "");
    sim->acting = NULL;
}
