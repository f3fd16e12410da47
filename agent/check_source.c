/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check_can_live_migrate_source and check_instance_shared_storage: looks only, changes nothing. Beside it the guest's
 * dirty rate begins to be measured, for the migration that may follow (agent/measure_early.h).
 */
#include "agent/check.h"

#include "agent/check_answer.h"
#include "agent/checks.h"
#include "agent/measure_early.h"
#include "agent/migration.h"
#include "lib/json.h"
#include "lib/log.h"
#include "virt/storage.h"

LOG_MODULE(check);

struct check {
    struct agent *agent;
    struct rpc_request *request;
    struct conf *conf;
    struct instance *instance;
    struct migrate_data *data;
    struct virt_guest *guest;
    bool seen, measures;
    struct measure_begun begun; /* at_us 0 = nothing was */
    int result;
    struct err e;
};

static void check_release(void *aux)
{
    struct check *check = aux;

    conf_unref(check->conf);
    instance_free(check->instance);
    migrate_data_free(check->data);
    virt_guest_free(check->guest);
    measure_begun_clear(&check->begun);
    free(check);
}

static void begin_measuring(struct check *check)
{
    const struct virt_guest *guest = check->guest;

    if (check->measures && guest->state == VIRT_STATE_RUNNING &&
        measure_begin(check->agent->virt, guest->uuid, guest->memory_kib * 1024, &check->begun,
                      NULL) < 0)
        measure_begun_clear(&check->begun);
}

static void look_run(void *aux)
{
    struct check *check = aux;
    const char *probe = migrate_data_filename(check->data);

    check->result = -1;
    if (virt_guest_read(check->agent->virt, instance_uuid(check->instance), &check->guest,
                        &check->e) < 0)
        return;
    const struct check_subject subject = {.host = check->agent->host, .guest = check->guest};
    if (checks_run(CHECK_SOURCE_GUEST, &subject, &check->e) < 0 ||
        virt_storage_probe_seen(check->conf, probe, &check->seen, &check->e) < 0)
        return;
    /* what is not copied need not be of a kind that can be copied */
    if (!check->seen && virt_storage_measure(check->guest, &check->e) < 0)
        return;
    begin_measuring(check);
    check->result = 0;
}

static int fill_answer(struct check *check, struct err *e)
{
    struct migrate_data *d = check->data;
    const struct virt_guest *guest = check->guest;
    bool over_commit = migrate_data_disk_over_commit(d);
    bool block = false;
    struct check_storage storage = {
        .volume_backed = check_answer_is_volume_backed(guest),
        .shared_path = check->seen,
        .block_migration = check_answer_tristate(object_json(d->object, "block_migration")),
        .disk_over_commit = check_answer_tristate(object_json(d->object, "disk_over_commit")),
        .need = virt_storage_need(guest, over_commit),
        .available_mb = object_int(d->object, "disk_available_mb", -1),
        .instance_uuid = guest->uuid,
        .host = check->agent->host,
    };

    storage.shared_block =
        check_answer_shares_block(guest, conf_string(check->conf, CONF_libvirt_images_type),
                                  migrate_data_image_type(d), storage.shared_path);
    if (check_answer_storage(&storage, &block, e) < 0)
        return -1;
    migrate_data_set_is_volume_backed(d, storage.volume_backed);
    migrate_data_set_is_shared_instance_path(d, storage.shared_path);
    migrate_data_set_is_shared_block_storage(d, storage.shared_block);
    migrate_data_set_block_migration(d, block);
    migrate_data_set_instance_relative_path(d, guest->uuid);
    migrate_data_set_computed_guest(d, virt_guest_to_json(guest));
    return 0;
}

static void look_done(void *aux, enum work_end end)
{
    struct check *check = aux;
    struct err *failure = NULL;

    if (end != WORK_DONE) {
        rpc_request_free(check->request);
        return;
    }
    if (check->result < 0 || fill_answer(check, &check->e) < 0)
        failure = &check->e;
    cloud_event_finish(check->agent->cloud, rpc_request_context(check->request),
                       instance_uuid(check->instance), "compute_check_can_live_migrate_source",
                       failure);
    if (failure) {
        rpc_fail(check->request, failure);
        return;
    }
    if (check->begun.at_us > 0)
        measure_early_keep(check->agent, check->guest->uuid, &check->begun);
    rpc_reply(check->request, migrate_data_to_json(check->data));
}

/* Not while the guest is moved: that measures for itself. */
static bool measures(struct agent *agent, const struct instance *instance)
{
    return !migration_find_instance(agent, MIGRATION_SOURCE, instance_uuid(instance));
}

void check_source(struct agent *agent, struct rpc_request *request)
{
    struct err e = ERR_INIT;
    struct check *check = NEW(struct check);
    struct work work = {.name = "check the guest here",
                        .run = look_run,
                        .done = look_done,
                        .release = check_release,
                        .aux = check};

    check->agent = agent;
    check->request = request;
    check->conf = conf_ref(agent->conf);
    if (instance_from_json(rpc_request_arg(request, "instance"), &check->instance, &e) < 0 ||
        migrate_data_from_json(rpc_request_arg(request, "dest_check_data"), &check->data, &e) < 0 ||
        text_check_uuid(instance_uuid(check->instance), "instance uuid", &e) < 0) {
        rpc_fail(request, &e);
        check_release(check);
        return;
    }
    check->measures = measures(agent, check->instance);
    cloud_event_start(agent->cloud, rpc_request_context(request), instance_uuid(check->instance),
                      "compute_check_can_live_migrate_source");
    workers_submit(agent->workers, &work);
}

/* ---- check_instance_shared_storage ---- */

struct shared {
    struct rpc_request *request;
    struct conf *conf;
    char *name;
    bool seen;
    int result;
    struct err e;
};

static void shared_release(void *aux)
{
    struct shared *shared = aux;

    conf_unref(shared->conf);
    free(shared->name);
    free(shared);
}

static void shared_run(void *aux)
{
    struct shared *shared = aux;

    shared->result = virt_storage_probe_seen(shared->conf, shared->name, &shared->seen, &shared->e);
}

static void shared_done(void *aux, enum work_end end)
{
    struct shared *shared = aux;

    if (end != WORK_DONE)
        rpc_request_free(shared->request);
    else if (shared->result < 0)
        rpc_fail(shared->request, &shared->e);
    else
        rpc_reply(shared->request, json_object_new_boolean(shared->seen));
}

void check_shared_storage(struct agent *agent, struct rpc_request *request)
{
    struct err e = ERR_INIT;
    const char *name;

    if (json_need_string(rpc_request_arg(request, "data"), "filename", &name, &e) < 0) {
        rpc_fail(request, &e);
        return;
    }
    struct shared *shared = NEW(struct shared);
    struct work work = {.name = "look for the probe file",
                        .run = shared_run,
                        .done = shared_done,
                        .release = shared_release,
                        .aux = shared};
    shared->request = request;
    shared->conf = conf_ref(agent->conf);
    shared->name = text_dup(name);
    workers_submit(agent->workers, &work);
}
