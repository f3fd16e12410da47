/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the policy knows before the start. The dirty rate is measured from the check on (agent/measure_early.h), or
 * from the request on, while the destination prepares itself; what is left of that second when all else is ready is
 * waited for, where the figure may decide something (policy_needs_no_rate()), and no longer. Where it cannot, the
 * guest is moved at once, and the figure, which is in QEMU then, is taken when it is there (agent/monitor.c). The
 * stepped policy never waits; what is measured serves its forecast alone. A measurement that fails costs nothing but
 * the figure.
 *
 * One that was waited for is followed by a second one, which goes on while the guest is moved already: what the guest
 * dirties in a longer time tells how large the part of memory is that it keeps on writing, which decides how long all
 * of it takes. libvirt begins none once it moves the guest, so there is this one.
 */
#include "agent/source.h"

#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "agent/host_pair.h"
#include "agent/measure_early.h"
#include "lib/clock.h"
#include "lib/log.h"

LOG_MODULE(source);

enum { MEASURE_LATE_US = 1500000, BEGIN_LATE_US = 1400000, MIB = 1 << 20 };

struct measure {
    struct virt *virt;
    char *uuid;
    struct policy_limits limits;
    struct policy_outlook outlook;
    struct measure_begun begun; /* by the check already, unless at_us is 0 */
    int ready_fd;               /* the loop tells the worker that all else is ready */
    struct measurement found;
    const char *needless; /* why it was not waited for; NULL */
    int long_s;           /* over which one goes on in QEMU; 0 = none */
    int64_t long_due_us;
};

/* ---- the outlook ---- */

static unsigned copied_disks(const struct outlook_facts *facts, int64_t *sizes, unsigned most)
{
    const struct virt_guest *guest = facts->guest;
    unsigned count = 0;
    char **copied = facts->block_migration && guest ? virt_guest_disks_to_copy(guest) : NULL;

    for (size_t i = 0; copied && i < guest->disk_count; i++) {
        for (size_t k = 0; copied[k] && count < most; k++)
            if (text_equal(copied[k], guest->disks[i].target))
                sizes[count++] = guest->disks[i].allocated;
    }
    text_vector_free(copied);
    return count;
}

static int64_t bandwidth_to(const struct agent *agent, const struct outlook_facts *facts)
{
    int64_t mib = facts->bandwidth_mib;
    int64_t limit = source_bandwidth_bytes(mib);
    int64_t seen = host_pair_known(agent, facts->destination).bandwidth;

    if (limit == 0)
        return seen;
    return seen > 0 && seen < limit ? seen : limit;
}

struct policy_outlook source_outlook_of(const struct agent *agent,
                                        const struct outlook_facts *facts)
{
    const struct host_pair_known known = host_pair_known(agent, facts->destination);
    const struct conf *conf = agent->conf;
    const struct virt_guest *guest = facts->guest;
    int64_t sizes[64], memory_mb = instance_flavor_memory_mb(facts->instance);
    unsigned count = copied_disks(facts, sizes, ARRAY_LEN(sizes));

    if (memory_mb == 0 && guest)
        memory_mb = guest->memory_kib / 1024;
    struct policy_outlook outlook = {
        .data_gib = policy_data_gib(memory_mb, sizes, count),
        .memory_bytes = guest ? guest->memory_kib * 1024 : memory_mb * MIB,
        .touched_bytes = facts->measured.touched_bytes,
        .dirty_rate = facts->measured.dirty_rate,
        .busy_percent = facts->measured.busy_percent,
        .bandwidth = bandwidth_to(agent, facts),
        .bandwidth_limit = source_bandwidth_bytes(facts->bandwidth_mib),
        .link = known.link,
        .pause_stray_ms = known.pause_stray_ms,
        .overhead_ms = known.overhead_ms,
        .begin_ms = known.begin_ms,
        .finish_ms = known.finish_ms,
        .throttle_initial = (int)conf_int(conf, CONF_libvirt_live_migration_auto_converge_initial),
        .throttle_increment =
            (int)conf_int(conf, CONF_libvirt_live_migration_auto_converge_increment),
    };
    for (unsigned i = 0; i < count; i++)
        outlook.disk_bytes += sizes[i] > 0 ? sizes[i] : 0;
    return outlook;
}

struct policy_outlook source_outlook(const struct migration *m)
{
    const struct outlook_facts facts = {
        .instance = m->instance,
        .guest = m->guest,
        .destination = m->destination_host,
        .block_migration = m->block_migration,
        .bandwidth_mib = m->bandwidth_mib,
        .measured = m->measured,
    };

    return source_outlook_of(m->agent, &facts);
}

/* ---- the choice ---- */

static void rate_text(int64_t bytes_per_s, char *out, size_t size)
{
    text_bytes((double)bytes_per_s, out, size);
}

/* Only a start that was chosen is worth a line in the account. */
static void tell_start(struct migration *m, const struct policy_outlook *outlook)
{
    char dirty[32], bandwidth[32] = "unknown", busy[48] = "";

    if (outlook->dirty_rate < 0)
        return;
    if (outlook->busy_percent > 0)
        (void)snprintf(busy, sizeof(busy), ", busiest processor at %d %%", outlook->busy_percent);
    rate_text(outlook->dirty_rate, dirty, sizeof(dirty));
    if (outlook->bandwidth > 0)
        rate_text(outlook->bandwidth, bandwidth, sizeof(bandwidth));
    if (m->settings.auto_converge && m->start.throttle_initial > 0)
        migration_note(
            m,
            "auto-converge begins with %d %%, then %d %% more: dirty rate %s/s before the "
            "start, bandwidth %s%s%s",
            m->start.throttle_initial, m->start.throttle_increment, dirty, bandwidth,
            outlook->bandwidth > 0 ? "/s" : "", busy);
    else
        log_info("migration %s: dirty rate %s/s before the start, bandwidth %s%s%s", m->uuid, dirty,
                 bandwidth, outlook->bandwidth > 0 ? "/s" : "", busy);
}

int source_hopeless(const char *uuid, const char *destination, int64_t downtime_ms,
                    const struct policy_outlook *outlook, struct err *e)
{
    char dirty[32], bandwidth[32];

    rate_text(outlook->dirty_rate, dirty, sizeof(dirty));
    rate_text(outlook->bandwidth, bandwidth, sizeof(bandwidth));
    return err_set(
        e, ERR_PRECHECK,
        "instance %s dirties %s/s of memory, only %s/s can be sent and the pause may last %lld ms: "
        "it cannot be moved to %s while neither auto_converge nor post_copy is permitted and the "
        "timeout aborts",
        uuid, dirty, bandwidth, (long long)downtime_ms, destination);
}

/* True if the migration is to be refused. */
static bool refuses(struct migration *m, const struct policy_outlook *outlook)
{
    struct err e = ERR_INIT;

    if (!m->start.hopeless)
        return false;
    (void)source_hopeless(m->instance_uuid, m->destination_host, m->settings.downtime_ms, outlook,
                          &e);
    if (!conf_bool(m->agent->conf, CONF_libvirt_live_migration_refuse_hopeless)) {
        log_warning("migration %s: %s; it is tried all the same (live_migration_refuse_hopeless)",
                    m->uuid, e.text);
        return false;
    }
    migration_fail(m, &e);
    return true;
}

static void choose_start(struct migration *m)
{
    struct policy_limits limits = settings_limits(&m->settings, m->agent->conf);
    struct policy_outlook outlook = source_outlook(m);

    m->start = policy_start(&limits, &outlook);
    tell_start(m, &outlook);
    machine_event(m, refuses(m, &outlook) ? MACHINE_EVENT_START_FAILED : MACHINE_EVENT_STARTED);
}

/* ---- measuring ---- */

static void measure_release(struct migration_job *job)
{
    struct measure *measure = job->aux;

    if (job->migration->measuring == measure)
        job->migration->measuring = NULL;
    if (measure->ready_fd >= 0)
        close(measure->ready_fd);
    measure_begun_clear(&measure->begun);
    free(measure->uuid);
    free(measure);
}

static void goes_on(struct measure *measure, int seconds, int64_t begun_us)
{
    measure->long_s = seconds;
    measure->long_due_us = begun_us + seconds * USEC_PER_SEC;
}

/* Not when it is so late that libvirt may be moving the guest: it would make us wait for it. */
static void begin_long(struct measure *measure, int64_t started_us)
{
    int64_t now_us = clock_monotonic_us();

    if (now_us - started_us > BEGIN_LATE_US)
        return;
    int seconds = policy_measure_s(&measure->outlook);
    if (virt_dirty_rate_begin(measure->virt, measure->uuid, seconds, NULL) == 0)
        goes_on(measure, seconds, now_us);
}

static bool is_needless(double processors, void *aux)
{
    struct measure *measure = aux;

    measure->needless = policy_needs_no_rate(&measure->limits, &measure->outlook, processors);
    return measure->needless != NULL;
}

static int measure_run(struct migration_job *job, struct err *e)
{
    struct measure *measure = job->aux;
    struct measure_begun *begun = &measure->begun;
    const struct measure_watch watch = {measure->ready_fd, is_needless, measure};
    int64_t started_us = clock_monotonic_us();
    bool begins = begun->at_us > 0 || measure_begin(measure->virt, measure->uuid,
                                                    measure->outlook.memory_bytes, begun, e) == 0;

    measure->found = (struct measurement){-1, begun->touched_bytes, 0};
    measure->outlook.touched_bytes = begun->touched_bytes;
    if (!begins || measure_end(measure->virt, measure->uuid, begun, &watch, &measure->found, e) < 0)
        return -1;
    if (measure->found.dirty_rate >= 0)
        begin_long(measure, started_us);
    else
        goes_on(measure, MEASURE_S, begun->at_us);
    return 0;
}

/* The end of the wait, by the measurement or by the time. */
static void wait_ended(struct migration *m)
{
    if (!m->start_held)
        return;
    m->start_held = false;
    migration_wait_end(m);
    if (m->state == MACHINE_SOURCE_STARTING)
        choose_start(m);
}

static void measured(struct migration_job *job)
{
    struct migration *m = job->migration;
    const struct measure *measure = job->aux;

    m->measuring = NULL;
    if (job->result < 0)
        log_info("migration %s goes on without its dirty rate: %s", m->uuid, job->e.text);
    else if (measure->found.dirty_rate < 0)
        log_info("migration %s does not wait for the guest's dirty rate: %s", m->uuid,
                 measure->needless);
    if (m->progress.started_us == 0)
        m->measured = measure->found;
    m->long_measure_s = measure->long_s;
    m->long_measure_due_us = measure->long_due_us;
    wait_ended(m);
}

static void measured_late(void *aux)
{
    wait_ended(aux);
}

void source_measure(struct migration *m)
{
    struct migration_job job = {.name = "measure the dirty rate",
                                .run = measure_run,
                                .done = measured,
                                .release = measure_release};

    m->measured = (struct measurement){.dirty_rate = -1};
    m->long_measure_s = 0;
    if (m->initially_paused || m->measuring)
        return;
    struct measure *measure = NEW(struct measure);
    measure->virt = m->agent->virt;
    measure->uuid = text_dup(m->instance_uuid);
    measure->limits = settings_limits(&m->settings, m->agent->conf);
    measure->outlook = source_outlook(m);
    measure->ready_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    (void)measure_early_take(m->agent, m->instance_uuid, &measure->begun);
    job.aux = measure;
    m->measuring = measure;
    migration_submit(m, &job, false, false);
}

void source_ready(struct migration *m)
{
    if (!m->measuring) {
        choose_start(m);
        return;
    }
    if (m->measuring->ready_fd >= 0)
        (void)eventfd_write(m->measuring->ready_fd, 1);
    m->start_held = true;
    migration_wait(m, "the dirty rate's measurement", MEASURE_LATE_US, measured_late);
}
