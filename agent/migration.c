/* SPDX-License-Identifier: Apache-2.0 */
/* Making, finding and ending migrations; jobs of migrations. Status and account: account.c. */
#include "agent/migration.h"

#include <assert.h>

#include "agent/carrying.h"
#include "agent/forwarding.h"
#include "agent/parts.h"
#include "lib/clock.h"
#include "lib/json.h"
#include "lib/log.h"

LOG_MODULE(migration);

enum { TRIES_MAX = 100 }; /* 3 s apart: as patient as parts.c */
#define FORGET_PAUSE_US (10 * USEC_PER_SEC)

struct migration *migration_new(struct agent *agent, enum migration_role role, const char *uuid,
                                const struct instance *instance)
{
    struct migration *m = NEW(struct migration);

    m->references = 1;
    m->agent = agent;
    m->role = role;
    m->state = role == MIGRATION_SOURCE ? MACHINE_SOURCE_ACCEPTED : MACHINE_DESTINATION_ACCEPTED;
    m->uuid = text_dup(uuid);
    m->instance_uuid = text_dup(instance_uuid(instance));
    m->instance_name = text_dup(instance_display_name(instance));
    m->instance = instance_copy(instance);
    m->progress.downtime_ms = -1;
    m->measured.dirty_rate = -1;
    m->progress.told = POLICY_TOLD_NOTHING;
    m->progress.actions = json_object_new_array();
    m->final_state = MACHINE_SOURCE_FAILED;
    m->created_us = m->updated_us = clock_realtime_us();
    timeline_begin(&m->timeline, clock_monotonic_us(), m->created_us);
    m->next = agent->migrations;
    agent->migrations = m;
    return m;
}

struct migration *migration_ref(struct migration *migration)
{
    migration->references++;
    return migration;
}

static void migration_free(struct migration *m)
{
    loop_timer_free(m->monitor_timer);
    loop_timer_free(m->log_timer);
    loop_timer_free(m->wait_timer);
    net_disarm(m->armed);
    switchover_peer_free(m->peer);
    forwarding_free(m);
    loop_timer_free(m->carrying.timer);
    undo_free(m->undo);
    rpc_request_freep(&m->request);
    instance_freep(&m->instance);
    migration_record_freep(&m->record);
    migrate_data_freep(&m->data);
    virt_guest_freep(&m->guest);
    json_object_put(m->context);
    json_object_put(m->disk_info);
    json_object_put(m->ports_awaited);
    json_object_put(m->streams);
    json_object_put(m->progress.actions);
    free(m->uuid);
    free(m->instance_uuid);
    free(m->instance_name);
    free(m->source_host);
    free(m->destination_host);
    free(m->message);
    free(m->destination_xml);
    free(m);
    mem_give_back();
}

void migration_unref(struct migration *migration)
{
    assert(migration->references > 0);
    if (--migration->references == 0)
        migration_free(migration);
}

void migration_wait_end(struct migration *migration)
{
    loop_timer_free(STEAL(migration->wait_timer));
}

void migration_wait(struct migration *migration, const char *what, int64_t us,
                    void (*then)(void *aux))
{
    migration_wait_end(migration);
    migration->wait_timer = loop_timer_new(migration->agent->loop, what, then, migration);
    loop_timer_arm(migration->wait_timer, us);
}

void migration_forget(struct migration *migration)
{
    for (struct migration **p = &migration->agent->migrations; *p; p = &(*p)->next) {
        if (*p == migration) {
            *p = migration->next;
            migration->next = NULL;
            migration_unref(migration);
            return;
        }
    }
}

static void forget(void *aux)
{
    migration_forget(aux);
}

void migration_forget_in(struct migration *migration, int64_t us)
{
    migration_wait(migration, "linger", us, forget);
}

struct migration *migration_find(struct agent *agent, enum migration_role role, const char *uuid)
{
    for (struct migration *m = agent->migrations; m; m = m->next)
        if (m->role == role && text_equal(m->uuid, uuid))
            return m;
    return NULL;
}

struct migration *migration_find_instance(struct agent *agent, enum migration_role role,
                                          const char *instance_uuid)
{
    for (struct migration *m = agent->migrations; m; m = m->next)
        if (m->role == role && text_equal(m->instance_uuid, instance_uuid) &&
            !machine_state_is_final(m->state))
            return m;
    return NULL;
}

void migration_silence_others(struct migration *migration)
{
    for (struct migration *m = migration->agent->migrations; m; m = m->next) {
        if (m == migration || !text_equal(m->instance_uuid, migration->instance_uuid))
            continue;
        net_disarm(m->armed);
        m->armed = NULL;
    }
}

const char *migration_role_name(enum migration_role role)
{
    return role == MIGRATION_SOURCE ? "source" : "destination";
}

/* ---- jobs ---- */

/* The record of the job's moment; false if the job must not go on without it. */
static bool write_record(struct migration_job *job)
{
    struct err e = ERR_INIT;

    if (!job->record || journal_write(job->journal, job->uuid, job->role, job->record, &e) == 0)
        return true;
    if (!job->goes_on_without_record) {
        job->e = e;
        return false;
    }
    log_err(LOG_LEVEL_ERROR, &e, "migration %s: %s goes on without its record", job->uuid,
            job->name);
    return true;
}

static void job_run(void *aux)
{
    struct migration_job *job = aux;

    if (!write_record(job))
        job->result = -1;
    else
        job->result = job->run ? job->run(job, &job->e) : 0;
}

static void start_job(struct migration_job *job);

/* The next writer of the record may begin. */
static void writer_ended(struct migration *m)
{
    struct migration_job *next = m->writers_waiting;

    m->writer_runs = false;
    if (!next)
        return;
    m->writers_waiting = next->next;
    start_job(next);
}

static void job_done(void *aux, enum work_end end)
{
    struct migration_job *job = aux;

    /* the agent stops: the journal has what the next start needs */
    if (end != WORK_DONE || job->migration->agent->closing)
        return;
    if (job->writes)
        writer_ended(job->migration);
    if (job->done)
        job->done(job);
}

static void job_release(void *aux)
{
    struct migration_job *job = aux;

    if (job->release)
        job->release(job);
    json_object_put(job->record);
    free(job->uuid);
    migration_unref(job->migration);
    free(job);
}

static void start_job(struct migration_job *job)
{
    struct agent *agent = job->migration->agent;
    struct work work = {
        .name = job->name, .run = job_run, .done = job_done, .release = job_release, .aux = job};

    if (job->writes)
        job->migration->writer_runs = true;
    workers_submit(job->long_call ? agent->migrators : agent->workers, &work);
}

/* Two writers of one record at a time would mix their files, or bring an old state back. */
static void wait_for_writer(struct migration_job *job)
{
    struct migration_job **last = &job->migration->writers_waiting;

    while (*last)
        last = &(*last)->next;
    *last = job;
}

void migration_submit(struct migration *migration, const struct migration_job *template,
                      bool long_call, bool journal_first)
{
    struct migration_job *job = NEW(struct migration_job);

    *job = *template;
    job->migration = migration_ref(migration);
    job->journal = migration->agent->journal;
    job->uuid = text_dup(migration->uuid);
    job->role = migration_role_name(migration->role);
    job->record = journal_first ? migration_to_record(migration) : NULL;
    job->long_call = long_call;
    job->writes = journal_first || template->removes_record;
    if (job->writes && migration->writer_runs)
        wait_for_writer(job);
    else
        start_job(job);
}

void migration_drop_waiting(struct migration *migration)
{
    while (migration->writers_waiting) {
        struct migration_job *job = migration->writers_waiting;
        migration->writers_waiting = job->next;
        job_release(job);
    }
    carrying_drop_waiting(migration);
    parts_drop_waiting(migration);
}

bool migration_tries_again(struct migration *migration, const struct err *failure)
{
    if (failure->code == ERR_HYPERVISOR)
        return true;
    return failure->code != ERR_INSTANCE_STATE && ++migration->tries < TRIES_MAX;
}

static int forget_run(struct migration_job *job, struct err *e)
{
    return journal_remove(job->journal, job->uuid, job->role, e);
}

static void submit_forget(void *aux);

static void forgotten(struct migration_job *job)
{
    struct migration *m = job->migration;

    if (job->result == 0) {
        m->then(m);
        return;
    }
    if (m->tries++ == 0)
        log_err(LOG_LEVEL_ERROR, &job->e, "migration %s: its journal record stays for now",
                m->uuid);
    migration_wait(m, "forget again", FORGET_PAUSE_US, submit_forget);
}

static void submit_forget(void *aux)
{
    struct migration_job job = {
        .name = "forget", .run = forget_run, .done = forgotten, .removes_record = true};

    migration_submit(aux, &job, false, false);
}

void migration_remove_record(struct migration *migration, void (*then)(struct migration *migration))
{
    migration->then = then;
    migration->tries = 0;
    submit_forget(migration);
}
