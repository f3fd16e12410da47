/* SPDX-License-Identifier: Apache-2.0 */
/*
 * After a restart: each record of the journal becomes a migration again and enters the machine where it
 * stood (reliability.md 3.2). libvirt's peer-to-peer migrations went on without us; where they stand is
 * read from the domains. A destination asks the source what became of the migration, for as long as it
 * takes: what was prepared is taken back only when the source says that it is over.
 */
#include "agent/destination.h"
#include "agent/drain.h"
#include "agent/instance_build.h"
#include "agent/migration.h"
#include "cloud/instances.h"
#include "lib/clock.h"
#include "lib/json.h"
#include "lib/log.h"

LOG_MODULE(recovery);

enum {
    ASK_PERIOD_US = 5000000,
    ASK_PERIOD_MAX_US = 60000000,
    ASK_LOST_US = 2000000,
    ASK_TIMEOUT_US = 10000000
};

struct load {
    struct agent *agent;
    struct json_object *records, *builds, *drain;
    size_t parked;
    struct err e;
};

/* ---- the source's records ---- */

static void resume_source(struct migration *m)
{
    struct err e = ERR_INIT;

    switch (m->state) {
    case MACHINE_SOURCE_ACCEPTED:
    case MACHINE_SOURCE_QUEUED: /* nothing was begun: it queues again, until all are here */
        m->state = MACHINE_SOURCE_QUEUED;
        migration_set_status(m, "queued");
        return;
    case MACHINE_SOURCE_PREPARING:
    case MACHINE_SOURCE_WAITING_VIFS:
    case MACHINE_SOURCE_STARTING:
        err_set(&e, ERR_MIGRATION, "the agent of %s was restarted while the migration was %s",
                m->source_host, machine_state_text(m->state));
        migration_fail(m, &e);
        m->destination_prepared = true;
        m->final_state = MACHINE_SOURCE_ERROR;
        m->state = MACHINE_SOURCE_ROLLING_BACK;
        source_roll_back(m);
        return;
    case MACHINE_SOURCE_RUNNING:
    case MACHINE_SOURCE_OBSERVING:
    case MACHINE_SOURCE_RECOVERING:
        m->destination_prepared = true;
        m->holds_place = true;
        m->bandwidth_unsure = true; /* it may have given way when the agent died */
        m->agent->running_out++;
        m->state = MACHINE_SOURCE_OBSERVING;
        source_observe(m);
        return;
    case MACHINE_SOURCE_FINISHING:
        source_finish(m);
        return;
    case MACHINE_SOURCE_CLEANING:
        source_clean(m);
        return;
    case MACHINE_SOURCE_ROLLING_BACK:
        source_roll_back(m);
        return;
    case MACHINE_SOURCE_PARKED:
        log_error("migration %s of %s is parked since before the restart: %s", m->uuid,
                  m->instance_uuid, m->message ? m->message : "look at both hosts");
        return;
    default: /* ended; only its record was left */
        source_end(m);
    }
}

/* ---- the destination's records ---- */

static void ask_source(void *aux);

void recovery_watch(struct migration *m, int64_t delay_us)
{
    if (!m->wait_timer)
        m->wait_timer = loop_timer_new(m->agent->loop, "ask the source", ask_source, m);
    loop_timer_arm(m->wait_timer, delay_us);
}

/* A source that cannot answer (Python, or away for long) is asked less and less often. */
static void ask_source_later(struct migration *m)
{
    int64_t period_us = ASK_PERIOD_US * (int64_t)(1 + m->confirm_attempts);

    m->confirm_attempts++;
    recovery_watch(m, period_us < ASK_PERIOD_MAX_US ? period_us : ASK_PERIOD_MAX_US);
}

/*
 * The source's word on a migration: is it over without a move? Not its status: one that is parked has the
 * status "error" too, and there nobody knows where the guest is.
 */
static bool is_over(struct json_object *account)
{
    const char *phase = json_get_string(account, "phase", "");

    return text_equal(phase, "failed") || text_equal(phase, "cancelled") ||
           text_equal(phase, "error");
}

static bool still_prepared(const struct migration *m)
{
    return m->state == MACHINE_DESTINATION_PREPARED || m->state == MACHINE_DESTINATION_HERE;
}

static void take_back(struct migration *m, const char *what)
{
    struct err e = ERR_INIT;

    err_set(&e, ERR_MIGRATION, "%s says that the migration is over (%s)", m->source_host, what);
    migration_fail(m, &e);
    /* takes back only what no running domain uses */
    machine_event(m, MACHINE_EVENT_ROLLBACK);
}

/* The source knows nothing of it (any more): what is here decides. */
struct look {
    struct virt *virt;
    char *uuid;
    enum virt_state state;
};

static void look_release(struct migration_job *job)
{
    struct look *look = job->aux;

    free(look->uuid);
    free(look);
}

static int look_run(struct migration_job *job, struct err *e)
{
    struct look *look = job->aux;

    return virt_guest_state(look->virt, look->uuid, &look->state, e);
}

static void looked(struct migration_job *job)
{
    struct migration *m = job->migration;
    const struct look *look = job->aux;

    if (!still_prepared(m))
        return;
    if (job->result == 0 && look->state == VIRT_STATE_NONE) {
        take_back(m, "not known there");
    } else if (job->result == 0 && look->state == VIRT_STATE_RUNNING) {
        machine_event(m, MACHINE_EVENT_POST);
    } else {
        log_error("migration %s: %s knows nothing of it, and instance %s is %s here; nothing is "
                  "done, look at both hosts",
                  m->uuid, m->source_host, m->instance_uuid,
                  job->result < 0 ? job->e.text : virt_state_name(look->state));
        ask_source_later(m);
    }
}

static void look_here(struct migration *m)
{
    struct look *look = NEW(struct look);
    struct migration_job job = {.name = "look at the guest",
                                .run = look_run,
                                .done = looked,
                                .release = look_release,
                                .aux = look};

    look->virt = m->agent->virt;
    look->uuid = text_dup(m->instance_uuid);
    migration_submit(m, &job, false, false);
}

/* ---- a source that is nova-compute ---- */

/* It answers no questions of ours: no endpoint of that namespace. */
static bool is_nova_compute(const struct err *failure)
{
    return failure->code == ERR_RPC_VERSION || failure->code == ERR_NO_METHOD;
}

/* Its record of the instance tells: while the migration is under way the task state is "migrating". After
 * it, and with another host, the guest stayed there; with this host, it is ours. */
static void nova_told(void *aux, struct json_object *result, const struct err *failure)
{
    struct migration *m = aux;
    _cleanup_(instance_freep) struct instance *instance = NULL;

    if (still_prepared(m) && !m->agent->closing) {
        if (failure && failure->code == ERR_NO_INSTANCE) /* deleted meanwhile */
            take_back(m, "the instance is gone");
        else if (failure || instance_from_json(result, &instance, NULL) < 0 ||
                 text_equal(instance_task_state(instance), "migrating"))
            ask_source_later(m);
        else if (text_equal(instance_host(instance), m->agent->host))
            machine_event(m, MACHINE_EVENT_POST);
        else
            take_back(m, "over");
    }
    migration_unref(m);
}

static void ask_nova(struct migration *m)
{
    cloud_instance_get(m->agent->cloud, m->context, m->instance_uuid, nova_told, migration_ref(m));
}

/* It is asked more often: the guest stands still. */
static void post_copy_lost(struct migration *m, struct json_object *account)
{
    m->confirm_attempts = 0;
    destination_post_copy_look(m, account);
    recovery_watch(m, ASK_LOST_US);
}

static void source_told(void *aux, struct json_object *result, const struct err *failure)
{
    struct migration *m = aux;

    if (still_prepared(m) && !m->agent->closing) {
        if (failure && failure->code == ERR_NO_MIGRATION)
            look_here(m);
        else if (!failure && is_over(result))
            take_back(m, json_get_string(result, "phase", ""));
        else if (!failure && text_equal(json_get_string(result, "phase", ""), "completed"))
            machine_event(m, MACHINE_EVENT_POST);
        else if (failure && is_nova_compute(failure))
            ask_nova(m);
        else if (!failure && json_has(result, "streams"))
            post_copy_lost(m, result);
        else
            ask_source_later(m);
    }
    migration_unref(m);
}

static void ask_source(void *aux)
{
    struct migration *m = aux;
    struct json_object *args = json_object_new_object();
    struct json_object *inner = json_object_new_object();
    struct rpc_target target = {.topic = "compute", .server = m->source_host};
    struct rpc_options options = {.version = "1.0", .timeout_us = ASK_TIMEOUT_US};

    if (!still_prepared(m))
        return;
    json_add_string(inner, "migration", m->uuid);
    if (m->post_copy_lost) /* the source may try to recover it */
        json_add_bool(inner, "post_copy_lost", true);
    if (m->post_copy_gone) /* or need not any more */
        json_add_bool(inner, "post_copy_gone", true);
    json_add_string(args, "command", "migration");
    json_add(args, "args", inner);
    _cleanup_(json_putp) struct json_object *context = rpc_context_admin();
    rpc_call(m->agent->rpc, &target, RPC_METHOD_control, args, context, &options, source_told,
             migration_ref(m));
}

static void resume_destination(struct migration *m)
{
    struct err e = ERR_INIT;

    switch (m->state) {
    case MACHINE_DESTINATION_ACCEPTED:
    case MACHINE_DESTINATION_PREPARING:
    case MACHINE_DESTINATION_ROLLING_BACK: /* whether a guest may have come is in the record */
        err_set(&e, ERR_MIGRATION, "the agent of %s was restarted while it prepared",
                m->destination_host);
        migration_fail(m, &e);
        m->state = MACHINE_DESTINATION_ROLLING_BACK;
        destination_roll_back(m);
        return;
    case MACHINE_DESTINATION_PREPARED:
    case MACHINE_DESTINATION_HERE:
    case MACHINE_DESTINATION_SETTLING:
        m->state = MACHINE_DESTINATION_PREPARED;
        m->destination_prepared = true;
        destination_rearm(m);
        ask_source(m);
        return;
    case MACHINE_DESTINATION_PARKED:
        log_error("migration %s of %s is parked since before the restart: %s", m->uuid,
                  m->instance_uuid, m->message ? m->message : "look at this host");
        return;
    default:
        destination_end(m);
    }
}

/* ---- loading ---- */

static void take_record(void *aux, const char *uuid, const char *role, struct json_object *record)
{
    struct load *load = aux;

    if (!text_equal(json_get_string(record, "uuid", ""), uuid) ||
        !text_equal(json_get_string(record, "role", ""), role)) {
        log_error("journal record %s.%s is about another one and is left alone", uuid, role);
        return;
    }
    if (text_equal(role, "drain")) {
        json_object_put(load->drain);
        load->drain = json_object_get(record);
        return;
    }
    json_object_array_add(text_equal(role, "build") ? load->builds : load->records,
                          json_object_get(record));
}

static void load_run(void *aux)
{
    struct load *load = aux;

    (void)journal_load(load->agent->journal, take_record, load, NULL, &load->parked, &load->e);
}

static void resume(struct agent *agent, struct json_object *record)
{
    struct migration *m = NULL;
    struct err e = ERR_INIT;

    if (migration_from_record(agent, record, &m, &e) < 0) {
        log_err(LOG_LEVEL_ERROR, &e, "a journal record is left alone");
        return;
    }
    log_warning("migration %s of %s (%s) was unfinished at the last end: it was %s", m->uuid,
                m->instance_uuid, migration_role_name(m->role), machine_state_text(m->state));
    migration_story_restore(m);
    if (m->role == MIGRATION_SOURCE)
        resume_source(m);
    else
        resume_destination(m);
}

static void load_done(void *aux, enum work_end end)
{
    struct load *load = aux;

    if (end != WORK_DONE || load->agent->closing)
        return;
    if (err_is_set(&load->e))
        log_err(LOG_LEVEL_ERROR, &load->e, "unfinished migrations cannot be looked at");
    for (size_t i = 0; i < json_object_array_length(load->records); i++)
        resume(load->agent, json_object_array_get_idx(load->records, i));
    if (load->parked > 0)
        log_error("%zu journal record(s) cannot be read and are parked", load->parked);
    instance_builds_take_back(load->agent, load->builds);
    load->agent->recovered = true;
    source_next(load->agent);
    agent_rpc_release(load->agent);
    if (load->drain)
        drain_resume(load->agent, load->drain);
}

static void load_release(void *aux)
{
    struct load *load = aux;

    json_object_put(load->records);
    json_object_put(load->builds);
    json_object_put(load->drain);
    free(load);
}

void recovery_start(struct agent *agent)
{
    struct load *load = NEW(struct load);
    struct work work = {.name = "read the journal",
                        .run = load_run,
                        .done = load_done,
                        .release = load_release,
                        .aux = load};

    load->agent = agent;
    load->records = json_object_new_array();
    load->builds = json_object_new_array();
    workers_submit(agent->workers, &work);
}
