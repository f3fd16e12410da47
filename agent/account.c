/* SPDX-License-Identifier: Apache-2.0 */
/* Status words, Nova's counters, and the account of a migration that people and computectl read. */
#include "agent/migration.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "agent/drain.h"
#include "agent/forwarding.h"
#include "lib/clock.h"
#include "lib/json.h"
#include "lib/log.h"

LOG_MODULE(migration);

/* ---- saving ---- */

static void saved(void *aux, const struct err *failure)
{
    struct migration *m = aux;

    m->save_outstanding = false;
    if (failure)
        log_err(LOG_LEVEL_WARNING, failure, "migration %s: its record could not be saved", m->uuid);
    migration_unref(m);
}

static void save(struct migration *m, cloud_done_fn done)
{
    _cleanup_(json_putp) struct json_object *account = migration_account(m);

    m->save_outstanding = true;
    m->last_saved_us = clock_monotonic_us();
    migration_story_flush(m);
    cloud_migration_save(m->agent->cloud, m->context, m->record, migration_role_name(m->role),
                         account, done, migration_ref(m));
}

static void change_status(struct migration *m, const char *status, cloud_done_fn done)
{
    snprintf(m->status, sizeof(m->status), "%s", status);
    m->updated_us = clock_realtime_us();
    if (m->record && m->role == MIGRATION_SOURCE)
        migration_record_set_status(m->record, status);
    log_info("migration %s of %s from %s to %s is %s (%s)", m->uuid,
             m->instance_name ? m->instance_name : m->instance_uuid,
             m->source_host ? m->source_host : "?", m->destination_host, status,
             migration_role_name(m->role));
    save(m, done);
    drain_wake(m->agent);
}

void migration_set_status(struct migration *m, const char *status)
{
    change_status(m, status, saved);
}

static void last_saved(void *aux, const struct err *failure)
{
    struct migration *m = migration_ref(aux);

    saved(aux, failure);
    if (!m->agent->closing) /* else the next start tells it again */
        migration_remove_record(m, m->then);
    migration_unref(m);
}

void migration_end(struct migration *m, const char *status, void (*then)(struct migration *m))
{
    m->then = then;
    change_status(m, status, last_saved);
}

/* Instance.progress: what the clients of Nova's API show, 100 less the percentage that is left. */
static void save_progress(struct migration *m)
{
    const struct virt_job *j = &m->progress.job;
    int64_t total = j->memory_total + j->disk_total;
    int64_t left = j->memory_remaining + j->disk_remaining;
    int64_t progress = total > 0 ? 100 - left * 100 / total : 0;

    if (instance_progress(m->instance) == progress)
        return;
    instance_set_progress(m->instance, progress);
    _cleanup_(instance_freep) struct instance *fields = instance_copy(m->instance);
    object_clear_changes(fields->object);
    instance_set_progress(fields, progress);
    cloud_instance_save(m->agent->cloud, m->context, fields, "migrating", NULL, NULL);
}

/* Only what moved by a percent is worth a save (Nova's own saves the whole object every 5 s). */
static bool moved_a_percent(int64_t before, int64_t now, int64_t total)
{
    return llabs(now - before) * 100 >= (total > 0 ? total : 1);
}

void migration_save_counters(struct migration *m)
{
    const struct virt_job *j = &m->progress.job;
    struct migration_record *r = m->record;

    int64_t period_us =
        conf_int(m->agent->conf, CONF_libvirt_live_migration_monitor_interval) * USEC_PER_SEC;

    if (m->save_outstanding || clock_monotonic_us() - m->last_saved_us < period_us || !r)
        return;
    if (!moved_a_percent(migration_record_memory_remaining(r), j->memory_remaining,
                         j->memory_total) &&
        !moved_a_percent(migration_record_memory_processed(r), j->memory_processed,
                         j->memory_total) &&
        !moved_a_percent(migration_record_disk_remaining(r), j->disk_remaining, j->disk_total))
        return;
    migration_record_set_memory_total(r, j->memory_total);
    migration_record_set_memory_processed(r, j->memory_processed);
    migration_record_set_memory_remaining(r, j->memory_remaining);
    migration_record_set_disk_total(r, j->disk_total);
    migration_record_set_disk_processed(r, j->disk_processed);
    migration_record_set_disk_remaining(r, j->disk_remaining);
    m->updated_us = clock_realtime_us();
    save(m, saved);
    save_progress(m);
}

/* ---- notes ---- */

void migration_fail(struct migration *m, const struct err *failure)
{
    if (!failure || !err_is_set(failure) || err_is_set(&m->failure))
        return;
    m->failure = *failure;
    text_replace(&m->message, failure->text);
}

void migration_note(struct migration *m, const char *format, ...)
{
    char text[ERR_TEXT_SIZE];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    log_info("migration %s: %s", m->uuid, text);
    migration_story_note(m, text);
}

/* ---- the account ---- */

static void add_time(struct json_object *o, const char *key, int64_t realtime_us)
{
    char text[CLOCK_TEXT_SIZE];

    clock_format_object(realtime_us, text);
    json_add_string(o, key, text);
}

static struct json_object *triple(int64_t total, int64_t processed, int64_t remaining)
{
    struct json_object *o = json_object_new_object();

    json_add_int(o, "total", total);
    json_add_int(o, "processed", processed);
    json_add_int(o, "remaining", remaining);
    return o;
}

static void add_optional(struct json_object *o, const char *key, int64_t value)
{
    if (value < 0)
        json_add(o, key, NULL);
    else
        json_add_int(o, key, value);
}

static void add_identity(struct json_object *o, const struct migration *m)
{
    json_add_int(o, "id", m->id);
    json_add_string(o, "uuid", m->uuid);
    json_add_string(o, "instance", m->instance_uuid);
    json_add_string(o, "name", m->instance_name);
    json_add_string(o, "role", migration_role_name(m->role));
    json_add_string(o, "source", m->source_host);
    json_add_string(o, "dest", m->destination_host);
    json_add_string(o, "status", m->status);
    json_add_string(o, "phase", machine_state_text(m->state));
    json_add_string(o, "message", m->message);
    add_time(o, "created_at", m->created_us);
    add_time(o, "updated_at", m->updated_us);
}

struct policy_told migration_told(const struct migration *m)
{
    const struct migration_progress *p = &m->progress;
    int64_t now_us = p->ended_us ? p->ended_us : clock_monotonic_us();

    if (p->told_us == 0 || now_us < p->told_us)
        return p->told;
    return policy_told_later(p->told, (now_us - p->told_us) / USEC_PER_MSEC);
}

static void add_told(struct json_object *o, const struct policy_told *t)
{
    add_optional(o, "expected_downtime_ms", t->pause_ms);
    add_optional(o, "expected_downtime_low_ms", t->pause_low_ms);
    add_optional(o, "expected_downtime_high_ms", t->pause_high_ms);
    add_optional(o, "time_left_ms", t->time_left_ms);
    add_optional(o, "time_left_low_ms", t->time_left_low_ms);
    add_optional(o, "time_left_high_ms", t->time_left_high_ms);
    add_optional(o, "time_left_s", policy_told_s(t->time_left_ms));
    add_optional(o, "time_left_low_s", policy_told_low_s(t->time_left_low_ms));
    add_optional(o, "time_left_high_s", policy_told_high_s(t->time_left_high_ms));
}

static void add_progress(struct json_object *o, const struct migration *m)
{
    const struct migration_progress *p = &m->progress;
    const struct policy_told told = migration_told(m);
    const struct virt_job *j = &p->job;
    int64_t end_us = p->ended_us ? p->ended_us : clock_monotonic_us();

    json_add_double(o, "elapsed_s",
                    p->started_us ? (double)(end_us - p->started_us) / USEC_PER_SEC : 0.0);
    json_add(o, "memory", triple(j->memory_total, j->memory_processed, j->memory_remaining));
    json_add(o, "disk", triple(j->disk_total, j->disk_processed, j->disk_remaining));
    json_add_int(o, "throughput_bytes_s", (int64_t)p->throughput);
    json_add_int(o, "dirty_rate_bytes_s", j->dirty_rate);
    json_add_int(o, "iteration", j->iteration);
    json_add_int(o, "throttle_percent", j->throttle_percent);
    json_add_int(o, "downtime_limit_ms", p->downtime_limit_ms);
    add_told(o, &told);
}

/* For people: the time of the whole migration, as soon as its size is known. */
static int64_t timeout_of(const struct migration *m)
{
    struct policy_limits limits = settings_limits(&m->settings, m->agent->conf);

    if (m->policy.data_gib <= 0.0)
        return m->settings.completion_timeout_s;
    return policy_timeout_s(&m->policy, &limits);
}

static struct json_object *result_of(const struct migration *m)
{
    const struct migration_progress *p = &m->progress;

    if (p->started_us == 0 || p->ended_us == 0)
        return NULL;
    struct json_object *o = json_object_new_object();
    json_add_int(o, "total_time_ms", (p->ended_us - p->started_us) / USEC_PER_MSEC);
    json_add_int(o, "average_throughput_bytes_s", p->average_throughput);
    add_optional(o, "downtime_ms", p->downtime_ms);
    json_add_bool(o, "switchover_announced", m->peer != NULL || p->announced > 0);
    json_add(o, "switchover", forwarding_account(m));
    json_add(o, "actions", json_copy(p->actions));
    return o;
}

struct json_object *migration_account(const struct migration *m)
{
    struct json_object *o = json_object_new_object();
    const struct settings *s = &m->settings;

    add_identity(o, m);
    add_progress(o, m);
    json_add_int(o, "completion_timeout_s", timeout_of(m));
    json_add_string(o, "timeout_action", settings_action_name(s->timeout_action));
    json_add_bool(o, "auto_converge", s->auto_converge);
    json_add_bool(o, "post_copy", s->post_copy);
    json_add_int(o, "bandwidth_mib", s->bandwidth_mib);
    json_add_int(o, "bandwidth_in_force_mib", m->bandwidth_mib);
    json_add_bool(o, "waits_to_switch_over", m->turn.turn == TURN_ANOTHERS);
    json_add_string(o, "policy", settings_policy_name(s->policy));
    add_optional(o, "dirty_rate_before_bytes_s", m->measured.dirty_rate);
    json_add(o, "actions", json_copy(m->progress.actions));
    json_add(o, "result", result_of(m));
    return o;
}
