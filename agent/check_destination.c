/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check_can_live_migrate_destination: look at this host, ask the source, look again with what the source
 * said of the guest. The probe file for shared storage is removed on every way out.
 */
#include "agent/check.h"

#include "agent/check_answer.h"
#include "agent/checks.h"
#include "agent/migration.h"
#include "cloud/instances.h"
#include "lib/clock.h"
#include "lib/json.h"
#include "lib/log.h"
#include "virt/storage.h"

LOG_MODULE(check);

enum { SOURCE_CHECK_S = 60 };

struct check {
    struct agent *agent;
    struct rpc_request *request;
    struct conf *conf;
    struct instance *instance;
    struct migrate_data *data;
    int block_migration, disk_over_commit; /* 1, 0, -1 = not given */
    struct port_list ports;
    struct virt_guest *guest;
    char *probe, *warning;
    int64_t disk_free;
    int result;
    struct err e;
};

static void check_free(struct check *check)
{
    if (check->probe)
        virt_storage_probe_remove(check->conf, check->probe);
    conf_unref(check->conf);
    instance_free(check->instance);
    migrate_data_free(check->data);
    port_list_clear(&check->ports);
    virt_guest_free(check->guest);
    free(check->probe);
    free(check->warning);
    free(check);
}

/* Removing the probe file touches the disk: the last step is a job too. */
static void end_run(void *aux)
{
    struct check *check = aux;

    if (check->probe)
        virt_storage_probe_remove(check->conf, check->probe);
    free(check->probe);
    check->probe = NULL;
}

static void end_release(void *aux)
{
    check_free(aux);
}

static void answer(struct check *check, const struct err *failure)
{
    struct work work = {
        .name = "end of check", .run = end_run, .release = end_release, .aux = check};

    cloud_event_finish(check->agent->cloud, rpc_request_context(check->request),
                       instance_uuid(check->instance), "compute_check_can_live_migrate_destination",
                       failure);
    if (failure) {
        struct err told = *failure;
        check_answer_error(&told);
        log_err(LOG_LEVEL_INFO, &told, "instance %s cannot come here",
                instance_uuid(check->instance));
        rpc_fail(check->request, &told);
    } else {
        rpc_reply(check->request, migrate_data_to_json(check->data));
    }
    check->request = NULL;
    workers_submit(check->agent->workers, &work);
}

/* ---- with what the source said ---- */

static void second_run(void *aux)
{
    struct check *check = aux;
    const struct check_subject subject = {
        .host = check->agent->host,
        .instance = check->instance,
        .guest = check->guest,
        .virt = check->agent->virt,
        .net = check->agent->net,
        .conf = check->conf,
        .ports = &check->ports,
        .block_migration = migrate_data_block_migration(check->data),
        .over_commit = check->disk_over_commit == 1,
        .own_directory = !migrate_data_is_shared_instance_path(check->data),
        .disk_free = check->disk_free,
        .warning = &check->warning,
    };

    check->result = checks_run(CHECK_DESTINATION_FITS, &subject, &check->e);
}

/* The agent stops: true if the check goes no further. What a thread still uses is left to it. */
static bool is_cut_short(struct check *check, enum work_end end)
{
    if (end == WORK_DONE && !check->agent->closing)
        return false;
    rpc_request_free(check->request);
    if (end != WORK_OVERDUE)
        check_free(check);
    return true;
}

static void second_done(void *aux, enum work_end end)
{
    struct check *check = aux;

    if (is_cut_short(check, end))
        return;
    if (check->result == 0 && check->warning)
        log_warning("instance %s: %s", instance_uuid(check->instance), check->warning);
    answer(check, check->result < 0 ? &check->e : NULL);
}

/* A Python source says nothing of the guest: memory and name are known from the instance. */
static struct virt_guest *guest_of_instance(const struct instance *instance)
{
    struct virt_guest *guest = NEW(struct virt_guest);

    guest->uuid = text_dup(instance_uuid(instance));
    guest->name = text_format("instance-%08llx", (unsigned long long)instance_id(instance));
    guest->memory_kib = instance_flavor_memory_mb(instance) * 1024;
    guest->vcpus = (int)instance_vcpus(instance);
    return guest;
}

static int take_source_answer(struct check *check, struct json_object *result, struct err *e)
{
    struct migrate_data *data = NULL;

    if (migrate_data_from_json(result, &data, e) < 0)
        return -1;
    migrate_data_free(check->data);
    check->data = data;
    if (migrate_data_is_volume_backed(data))
        return err_set(e, ERR_PRECHECK,
                       "instance %s has its root disk on a volume; this agent connects no volumes",
                       instance_uuid(check->instance));
    struct json_object *guest = migrate_data_computed_guest(data);
    if (guest) {
        if (virt_guest_from_json(guest, &check->guest, e) < 0)
            return err_prefix(e, "the guest as the source describes it: ");
        object_unset(data->object, "computed_guest"); /* for us only, not for the conductor */
    } else {
        check->guest = guest_of_instance(check->instance);
    }
    return ports_of_destination(check->instance, data, &check->ports, e);
}

static void source_answered(void *aux, struct json_object *result, const struct err *failure)
{
    struct check *check = aux;
    struct err e = ERR_INIT;
    struct work work = {
        .name = "check the guest", .run = second_run, .done = second_done, .aux = check};

    if (failure) {
        e = *failure;
        err_prefix(&e, "source %s: ", instance_host(check->instance));
        answer(check, &e);
        return;
    }
    if (take_source_answer(check, result, &e) < 0) {
        answer(check, &e);
        return;
    }
    workers_submit(check->agent->workers, &work);
}

/* ---- this host first ---- */

static const char *listen_address(const struct conf *conf, enum conf_id id)
{
    const char *address = conf_string(conf, id);

    return address ? address : "127.0.0.1";
}

static int fill_data(struct check *check, struct err *e)
{
    _cleanup_(json_putp) struct json_object *info = NULL;
    struct migrate_data *d = check->data = migrate_data_new();

    if (instance_network_info(check->instance, &info, e) < 0)
        return -1;
    migrate_data_set_filename(d, check->probe);
    migrate_data_set_image_type(d, conf_string(check->conf, CONF_libvirt_images_type));
    if (check->block_migration >= 0)
        migrate_data_set_block_migration(d, check->block_migration);
    if (check->disk_over_commit >= 0)
        migrate_data_set_disk_over_commit(d, check->disk_over_commit);
    migrate_data_set_disk_available_mb(d, check->disk_free / (INT64_C(1024) * 1024));
    migrate_data_set_graphics_listen_addr_vnc(d,
                                              listen_address(check->conf, CONF_vnc_server_listen));
    migrate_data_set_graphics_listen_addr_spice(
        d, listen_address(check->conf, CONF_spice_server_listen));
    migrate_data_set_serial_listen_addr(d, NULL);
    migrate_data_set_dst_wants_file_backed_memory(d, false);
    migrate_data_set_dst_cpu_shared_set_info(d, json_object_new_array());
    migrate_data_set_pci_dev_map_src_dst(d, json_object_new_object());
    migrate_data_set_vifs(d, vif_migrate_data_skeletons(info));
    return 0;
}

static void ask_source(struct check *check)
{
    struct agent *agent = check->agent;
    struct json_object *args = json_object_new_object();
    struct rpc_target target = {.topic = "compute", .server = instance_host(check->instance)};
    struct rpc_options options = {.timeout_us = SOURCE_CHECK_S * USEC_PER_SEC};

    json_add(args, "instance", instance_to_json(check->instance));
    json_add(args, "dest_check_data", migrate_data_to_json(check->data));
    rpc_call(agent->rpc, &target, RPC_METHOD_check_can_live_migrate_source, args,
             rpc_request_context(check->request), &options, source_answered, check);
}

static void first_run(void *aux)
{
    struct check *check = aux;

    check->result =
        virt_storage_free(check->conf, check->disk_over_commit == 1, &check->disk_free, &check->e);
    if (check->result == 0)
        check->result = virt_storage_probe_create(check->conf, &check->probe, &check->e);
}

static void first_done(void *aux, enum work_end end)
{
    struct check *check = aux;

    if (is_cut_short(check, end))
        return;
    if (check->result < 0 || fill_data(check, &check->e) < 0)
        answer(check, &check->e);
    else
        ask_source(check);
}

static int check_instance(const struct check *check, struct err *e)
{
    const struct check_subject subject = {
        .agent = check->agent, .host = check->agent->host, .instance = check->instance};

    return checks_run(CHECK_DESTINATION_ASKED, &subject, e);
}

/* Not the last word: the migration is not seen to come here yet (agent/destination.c asks again). */
static void group_checked(void *aux, const struct err *failure)
{
    struct check *check = aux;
    struct err e = ERR_INIT;
    struct work work = {
        .name = "check this host", .run = first_run, .done = first_done, .aux = check};

    if (is_cut_short(check, WORK_DONE))
        return;
    if (failure) {
        e = *failure;
        err_prefix(&e, "server group of instance %s: ", instance_uuid(check->instance));
        answer(check, &e);
        return;
    }
    workers_submit(check->agent->workers, &work);
}

void check_destination(struct agent *agent, struct rpc_request *request)
{
    struct err e = ERR_INIT;
    struct check *check = NEW(struct check);

    check->agent = agent;
    check->request = request;
    check->conf = conf_ref(agent->conf);
    check->block_migration = check_answer_tristate(rpc_request_arg(request, "block_migration"));
    check->disk_over_commit = check_answer_tristate(rpc_request_arg(request, "disk_over_commit"));
    if (instance_from_json(rpc_request_arg(request, "instance"), &check->instance, &e) < 0) {
        check_answer_error(&e);
        rpc_fail(request, &e);
        check_free(check);
        return;
    }
    cloud_event_start(agent->cloud, rpc_request_context(request), instance_uuid(check->instance),
                      "compute_check_can_live_migrate_destination");
    if (check_instance(check, &e) < 0)
        answer(check, &e);
    else
        cloud_server_group_check(agent->cloud, rpc_request_context(request),
                                 instance_uuid(check->instance), NULL, group_checked, check);
}
