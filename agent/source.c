/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The source's side of a migration, as it begins: taking the request on, waiting for a place. What follows is
 * source_prepare.c (the destination prepares), source_run.c (libvirt's call), monitor.c (while it runs) and
 * source_end.c (the outcome).
 */
#include "agent/source.h"

#include "agent/checks.h"
#include "lib/log.h"
#include "lib/metrics.h"

LOG_MODULE(source);

/* ---- taking it on ---- */

static int check_request(struct agent *agent, const struct instance *instance, const char *dest,
                         struct err *e)
{
    const struct check_subject subject = {
        .agent = agent, .host = agent->host, .destination = dest, .instance = instance};

    return checks_run(CHECK_SOURCE_TAKES, &subject, e);
}

static void accepted(struct migration_job *job)
{
    struct migration *m = job->migration;

    if (m->request) {
        rpc_request_free(m->request); /* accepts: from here on the journal has it */
        m->request = NULL;
    }
    if (job->result < 0)
        migration_fail(m, &job->e);
    machine_event(m, job->result < 0 ? MACHINE_EVENT_REFUSED : MACHINE_EVENT_JOURNALED);
}

static struct migration *make_migration(struct agent *agent, struct rpc_request *request,
                                        const struct instance *instance,
                                        struct migration_record *record, struct migrate_data *data,
                                        const char *dest)
{
    struct json_object *block = rpc_request_arg(request, "block_migration");
    struct migration *m =
        migration_new(agent, MIGRATION_SOURCE, migration_record_uuid(record), instance);

    m->id = migration_record_id(record);
    m->record = record;
    m->data = data;
    m->context = json_object_get(rpc_request_context(request));
    m->source_host = text_dup(agent->host);
    m->destination_host = text_dup(dest);
    m->block_migration =
        block ? json_object_get_boolean(block) : migrate_data_block_migration(data);
    settings_for_instance(agent->conf, instance, &m->settings);
    /* Nova sets it only after pre_live_migration; given at once, the other side has its fence */
    migrate_data_set_migration(data, migration_record_to_json(record));
    return m;
}

/* A cast cannot be answered: what refuses it goes to Nova's record, to the account and to the log. */
static void refuse_cast(struct migration *m, struct rpc_request *request, const struct err *e)
{
    migration_fail(m, e);
    m->state = MACHINE_SOURCE_ERROR;
    cloud_fault(m->agent->cloud, m->context, m->instance_uuid, e);
    migration_set_status(m, "error");
    rpc_fail(request, e);
    migration_forget(m);
}

void source_accept(struct agent *agent, struct rpc_request *request)
{
    struct err e = ERR_INIT;
    _cleanup_(instance_freep) struct instance *instance = NULL;
    _cleanup_(migration_record_freep) struct migration_record *record = NULL;
    _cleanup_(migrate_data_freep) struct migrate_data *data = NULL;
    const char *dest = json_object_get_string(rpc_request_arg(request, "dest"));

    if (instance_from_json(rpc_request_arg(request, "instance"), &instance, &e) < 0 ||
        migration_record_from_json(rpc_request_arg(request, "migration"), &record, &e) < 0 ||
        migrate_data_from_json(rpc_request_arg(request, "migrate_data"), &data, &e) < 0 ||
        text_check_uuid(migration_record_uuid(record), "migration uuid", &e) < 0 ||
        text_check_uuid(instance_uuid(instance), "instance uuid", &e) < 0) {
        rpc_fail(request, &e);
        return;
    }
    if (migration_find(agent, MIGRATION_SOURCE, migration_record_uuid(record))) {
        log_info("migration %s is known already: the request is a repetition",
                 migration_record_uuid(record));
        rpc_request_free(request);
        return;
    }
    int allowed = check_request(agent, instance, dest, &e);
    struct migration *m =
        make_migration(agent, request, instance, STEAL(record), STEAL(data), dest);
    if (allowed < 0) {
        refuse_cast(m, request, &e);
        return;
    }
    m->request = request;
    migration_stamp(m, TIMELINE_ACCEPTED);
    struct migration_job job = {.name = "journal", .done = accepted};
    migration_submit(m, &job, false, true);
}

/* The record may be on the disk although writing it failed: it must not run after a restart. */
void source_refuse(struct migration *m)
{
    cloud_fault(m->agent->cloud, m->context, m->instance_uuid, &m->failure);
    migration_end(m, "error", migration_forget);
}

/* ---- a place ---- */

void source_enqueue(struct migration *m)
{
    metric_inc(METRIC_MIGRATIONS_OUT);
    cloud_event_start(m->agent->cloud, m->context, m->instance_uuid, "compute_live_migration");
    migration_set_status(m, "queued");
    source_next(m->agent);
}

/* Disks are measured when it is their turn: until then memory stands for the size. */
static bool goes_before(const struct migration *m, const struct migration *other, bool largest)
{
    int64_t size_mb = instance_flavor_memory_mb(m->instance);
    int64_t other_mb = instance_flavor_memory_mb(other->instance);

    if (largest && size_mb != other_mb)
        return size_mb > other_mb;
    return m->created_us <= other->created_us;
}

static struct migration *first_queued(struct agent *agent)
{
    struct migration *first = NULL;
    bool largest =
        text_equal(conf_string(agent->conf, CONF_libvirt_live_migration_order), "largest");

    for (struct migration *m = agent->migrations; m; m = m->next)
        if (m->state == MACHINE_SOURCE_QUEUED && (!first || goes_before(m, first, largest)))
            first = m;
    return first;
}

/* Among equals the newest is the last. */
struct source_queue source_queue_foreseen(struct agent *agent, int64_t memory_mb)
{
    struct source_queue queue = {
        .places = conf_int(agent->conf, CONF_DEFAULT_max_concurrent_live_migrations),
        .in_use = agent->running_out,
    };
    bool largest =
        text_equal(conf_string(agent->conf, CONF_libvirt_live_migration_order), "largest");

    for (const struct migration *m = agent->migrations; m; m = m->next)
        if (m->role == MIGRATION_SOURCE &&
            (m->state == MACHINE_SOURCE_QUEUED || m->state == MACHINE_SOURCE_ACCEPTED))
            queue.ahead += !largest || instance_flavor_memory_mb(m->instance) >= memory_mb;
    queue.at_once = queue.ahead == 0 && virt_is_up(agent->virt) &&
                    (queue.places == 0 || queue.in_use < (unsigned)queue.places);
    return queue;
}

void source_next(struct agent *agent)
{
    int64_t places = conf_int(agent->conf, CONF_DEFAULT_max_concurrent_live_migrations);

    /* while libvirtd is away they wait, also after a start */
    while (!agent->draining && virt_is_up(agent->virt) &&
           (places == 0 || agent->running_out < (unsigned)places)) {
        struct migration *m = first_queued(agent);
        if (!m)
            break;
        m->holds_place = true;
        agent->running_out++;
        migration_stamp(m, TIMELINE_PLACE);
        machine_event(m, MACHINE_EVENT_PLACE);
    }
    source_share_bandwidth(agent);
}

void source_give_up_place(struct migration *m)
{
    if (!m->holds_place)
        return;
    m->holds_place = false;
    m->agent->running_out--;
    source_next(m->agent);
}
