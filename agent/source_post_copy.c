/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Post-copy at the source: once the guest was stopped for it, it runs at the destination with a part of its
 * memory while the rest lies here. When the connection in between is lost neither side can run it alone, so
 * neither is touched: the guest waits, and libvirt is asked to go on with the transfer (VIR_MIGRATE_POSTCOPY_RESUME)
 * until it does. There is no end to the trying, only to how often, unless the destination says that its guest is
 * gone: then nobody can recover it, and it is parked. What a restart finds is the domain's state, so
 * nothing of this depends on what was journaled.
 *
 * When to try. libvirt must not be asked before the destination's QEMU noticed the loss too (virt/libvirt_migrate.c
 * says why), and the agent there knows: it asks here every few seconds what becomes of the migration, and says so in
 * its question, which also shows that the hosts reach each other again. A destination that is nova-compute says
 * nothing; with it the clock decides.
 *
 * QEMU may also go on by itself: libvirt gives its own connection up after half a minute, TCP keeps QEMU's for a
 * quarter of an hour. Then the destination never says that it failed, and at the end the domain here is gone.
 */
#include "agent/source.h"

#include "lib/clock.h"
#include "lib/json.h"
#include "lib/log.h"
#include "lib/text.h"
#include "net/streams.h"

LOG_MODULE(source);

enum { PERIOD_MAX_S = 60, DOUBLINGS_MAX = 6 };
/* TCP gives up after a quarter of an hour. A destination of ours that has seen nothing by then may never do so. */
enum { UNSEEN_MINUTES = 20 };

void source_post_copy_began(struct migration *m)
{
    if (m->post_copy_running)
        return;
    m->post_copy_running = true;
    m->policy.post_copy_started = true; /* by others too: there is nothing left to decide */
    migration_set_status(m, "running (post-copy)");
}

void source_post_copy_lost(struct migration *m, int64_t at_us)
{
    source_post_copy_began(m);
    if (m->post_copy_lost)
        return;
    m->post_copy_lost = true;
    m->post_copy_lost_us = at_us;
    m->post_copy_unseen = false;
    m->recovery_tries = 0;
    migration_stamp_at(m, TIMELINE_POST_COPY_LOST, at_us, 0);
    migration_note(m,
                   "post-copy lost its connection to %s: the guest waits there for the memory that "
                   "is left here, nothing is taken back on either host, and the transfer is tried "
                   "again until it goes on",
                   m->destination_host);
    if (!m->message)
        m->message = text_format("post-copy lost its connection to %s, which is waited for",
                                 m->destination_host);
}

void source_post_copy_recovered(struct migration *m, int64_t at_us)
{
    source_post_copy_began(m);
    if (!m->post_copy_lost)
        return;
    m->post_copy_lost = m->post_copy_gone = false;
    monitor_look_now(m);
    migration_stamp_at(m, TIMELINE_POST_COPY_RECOVERED, at_us, 0);
    if (m->recovery_tries == 0)
        migration_note(m, "post-copy went on by itself");
    else
        migration_note(m, "post-copy goes on after %d %s to recover it", m->recovery_tries,
                       m->recovery_tries == 1 ? "try" : "tries");
    if (!err_is_set(&m->failure)) {
        text_replace(&m->message, NULL);
    }
}

/* A few system calls that never wait: the answer is as old as the question at most, which the destination counts on. */
void source_add_streams(const struct migration *m, struct json_object *account)
{
    _cleanup_(json_putp) struct json_object *addresses = NULL, *streams = NULL;
    struct err e = ERR_INIT;

    if (m->state != MACHINE_SOURCE_RECOVERING)
        return;
    if (net_own_addresses(&addresses, &e) < 0 || net_streams(false, &streams, &e) < 0) {
        log_err(LOG_LEVEL_WARNING, &e, "migration %s", m->uuid);
        return;
    }
    json_add(account, "addresses", STEAL(addresses));
    json_add(account, "streams", STEAL(streams));
}

/* ---- trying ---- */

static void look(struct migration *m)
{
    m->recovery_waits = false;
    machine_event(m, MACHINE_EVENT_UNKNOWN);
}

static void look_again(void *aux)
{
    look(aux);
}

static void try_again(void *aux)
{
    struct migration *m = aux;

    if (!virt_is_up(m->agent->virt)) {
        look(m); /* which waits for libvirt */
        return;
    }
    migration_wait_end(m);
    m->recovery_waits = false;
    m->recovery_tries++;
    m->recovery_tried_us = clock_monotonic_us();
    log_info("migration %s: try %d to go on with post-copy to %s", m->uuid, m->recovery_tries,
             m->destination_host);
    source_call_again(m);
}

/* After how long the next one may be: each time twice as long. */
static int64_t period_us(const struct migration *m)
{
    int64_t first_s =
        conf_int(m->agent->conf, CONF_libvirt_live_migration_post_copy_recovery_interval);
    int64_t max_s = first_s > PERIOD_MAX_S ? first_s : PERIOD_MAX_S;
    int doublings = m->recovery_tries < DOUBLINGS_MAX ? m->recovery_tries : DOUBLINGS_MAX;
    int64_t period_s = first_s << (doublings > 0 ? doublings - 1 : 0);

    return (period_s < max_s ? period_s : max_s) * USEC_PER_SEC;
}

static void journaled(struct migration_job *job)
{
    if (job->result < 0)
        log_err(LOG_LEVEL_WARNING, &job->e, "migration %s", job->migration->uuid);
}

/* What is left here cannot run alone: the guest's newer memory went with the destination's QEMU. */
static void give_up(struct migration *m)
{
    struct err e = ERR_INIT;

    err_set(&e, ERR_MIGRATION,
            "post-copy cannot be recovered: on %s the guest is gone or was never started, and "
            "what is left on %s cannot run alone",
            m->destination_host, m->source_host);
    m->failure = ERR_INIT; /* this one is the reason, whatever there was before */
    migration_fail(m, &e);
    machine_event(m, MACHINE_EVENT_DENIED);
}

/* libvirt there (9.0) never hears of the loss while the guest waits inside a device's emulation, which holds QEMU. */
static void tell_unseen(struct migration *m)
{
    int64_t lost_us = clock_monotonic_us() - m->post_copy_lost_us;

    if (m->post_copy_unseen || !m->peer_is_ours || m->recovery_tries > 0 ||
        lost_us < UNSEEN_MINUTES * (60 * USEC_PER_SEC))
        return;
    m->post_copy_unseen = true;
    _cleanup_(str_freep) char *text = text_format(
        "post-copy lost its connection %d minutes ago, and %s has not said that it saw it: its "
        "agent is away, or the guest there holds QEMU while it waits. It is waited for without an "
        "end; to give the guest up, destroy its domain on %s, and the migration is parked",
        UNSEEN_MINUTES, m->destination_host, m->source_host);
    log_warning("migration %s: %s", m->uuid, text);
    if (!err_is_set(&m->failure))
        text_replace(&m->message, text);
}

void source_recover(struct migration *m)
{
    struct migration_job job = {.name = "journal", .done = journaled};

    source_post_copy_lost(m, clock_monotonic_us());
    if (m->post_copy_gone) {
        give_up(m);
        return;
    }
    tell_unseen(m);
    source_give_up_place(m); /* it may last: others need not wait for this network */
    migration_submit(m, &job, false, true);
    m->recovery_waits = true;
    if (m->peer_is_ours) /* it tells when; here only what no event told would be seen */
        migration_wait(m, "look at post-copy", PERIOD_MAX_S * USEC_PER_SEC, look_again);
    else
        migration_wait(m, "recover post-copy", period_us(m), try_again);
}

void source_post_copy_ready(struct migration *m)
{
    if (m->state != MACHINE_SOURCE_RECOVERING || !m->recovery_waits)
        return;
    if (m->recovery_tries == 0 || clock_monotonic_us() - m->recovery_tried_us >= period_us(m))
        try_again(m);
}

/* Only if it is still lost here: it may have gone on by itself, to its end, and the guest been shut down then. */
void source_post_copy_gone(struct migration *m)
{
    m->post_copy_gone = m->state == MACHINE_SOURCE_RECOVERING;
    source_post_copy_look(m);
}

void source_post_copy_look(struct migration *m)
{
    if (m->state != MACHINE_SOURCE_RECOVERING || !m->recovery_waits)
        return;
    migration_wait_end(m);
    look(m);
}
