/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command `plan-destination`: what this host would say to a guest that another agent plans to send. The checks
 * are those of check_can_live_migrate_destination and of the preparation (agent/checks.h), all of them told; no
 * probe file is made, no leftover removed. Whether both hosts share their storage shows in the instance's directory:
 * the source tells how to recognise its own.
 */
#include "agent/plan.h"

#include <config.h>

#include "agent/checks.h"
#include "agent/commands_internal.h"
#include "agent/forwarding.h"
#include "cloud/instances.h"
#include "lib/clock.h"
#include "lib/json.h"
#include "virt/storage.h"

#define LOOK_DEADLINE_US (15 * USEC_PER_SEC)

struct visit {
    struct command *command; /* NULL once it is answered */
    struct agent *agent;     /* not looked into by the worker, but for what never changes */
    struct conf *conf;
    struct instance *instance;
    struct virt_guest *guest;
    struct port_list ports;
    struct json_object *args, *checks, *bases;
    int block_migration, disk_over_commit; /* 1, 0, -1 = not given */
    int64_t disk_free, needed;             /* -1 = not known */
    int shared;                            /* 1, 0, -1 = cannot be told */
};

static void visit_free(void *aux)
{
    struct visit *v = aux;

    conf_unref(v->conf);
    instance_free(v->instance);
    virt_guest_free(v->guest);
    port_list_clear(&v->ports);
    json_object_put(v->args);
    json_object_put(v->checks);
    json_object_put(v->bases);
    free(v);
}

/* ---- on a worker ---- */

struct json_object *plan_identity_to_json(const struct virt_storage_identity *identity, bool of_all)
{
    struct json_object *o = json_object_new_object();

    json_add_bool(o, "of_all", of_all);
    json_add_int(o, "inode", identity->inode);
    json_add_int(o, "changed_s", identity->changed_s);
    json_add_int(o, "changed_ns", identity->changed_ns);
    return o;
}

/* The directory here is the source's own, or it is not, or the source could not show its own. */
static int look_shared(const struct visit *v)
{
    struct virt_storage_identity here = {0};
    struct json_object *told = json_get(v->args, "identity");

    if (!json_object_is_type(told, json_type_object) ||
        virt_storage_identity(
            v->conf, json_get_bool(told, "of_all", false) ? NULL : instance_uuid(v->instance),
            &here, NULL) < 0)
        return -1;
    return here.present && here.inode == json_get_int(told, "inode", -1) &&
           here.changed_s == json_get_int(told, "changed_s", -1) &&
           here.changed_ns == json_get_int(told, "changed_ns", -1);
}

static void look_room(struct visit *v)
{
    const char *path = conf_string(v->conf, CONF_DEFAULT_instances_path);
    struct err e = ERR_INIT;

    if (virt_storage_free(v->conf, v->disk_over_commit == 1, &v->disk_free, &e) < 0)
        v->disk_free = -1;
    checks_add_outcome(v->checks, v->agent->host, "storage", &e, path);
}

/* What the preparation refuses beforehand, once it is known that disks are made here. */
static void look_preparation(struct visit *v)
{
    struct json_object *disks = json_get(v->args, "disks");
    struct err e = ERR_INIT;
    char text[32];

    if (!json_object_is_type(disks, json_type_array))
        return;
    if (virt_storage_foresee(v->conf, instance_uuid(v->instance), disks, &v->needed, &v->bases,
                             &e) < 0)
        v->needed = -1;
    text_bytes((double)v->needed, text, sizeof(text));
    _cleanup_(str_freep) char *found = text_format("disks and image bases take %s now", text);
    checks_add_outcome(v->checks, v->agent->host, "preparation", &e, found);
}

static bool copies(const struct visit *v)
{
    return v->block_migration >= 0 ? v->block_migration == 1 : v->shared != 1;
}

static void visit_run(void *aux)
{
    struct visit *v = aux;

    v->shared = look_shared(v);
    look_room(v);
    const struct check_subject subject = {
        .host = v->agent->host,
        .instance = v->instance,
        .guest = v->guest,
        .virt = v->agent->virt,
        .net = v->agent->net,
        .conf = v->conf,
        .ports = &v->ports,
        .block_migration = copies(v),
        .over_commit = v->disk_over_commit == 1,
        .own_directory = v->shared != 1,
        .disk_free = v->disk_free,
    };
    checks_tell(CHECK_DESTINATION_FITS, &subject, v->checks);
    if (v->shared != 1 && copies(v))
        look_preparation(v);
}

/* ---- the answer ---- */

static struct json_object *visit_answer(const struct visit *v)
{
    struct json_object *o = json_object_new_object();

    json_add_string(o, "host", v->agent->host);
    json_add_string(o, "version", PACKAGE_VERSION);
    json_add(o, "checks", json_object_get(v->checks));
    json_add(o, "shared", v->shared < 0 ? NULL : json_object_new_boolean(v->shared == 1));
    json_add(o, "disk_free", v->disk_free < 0 ? NULL : json_object_new_int64(v->disk_free));
    json_add(o, "bases", json_object_get(v->bases));
    json_add_string(o, "images_type", conf_string(v->conf, CONF_libvirt_images_type));
    json_add_string(o, "switchover", switchover_mode_name(switchover_mode_here(v->agent)));
    json_add_string(o, "late_wiring", conf_string(v->conf, CONF_net_late_wiring));
    return o;
}

static void visit_done(void *aux, enum work_end end)
{
    struct visit *v = aux;
    struct command *command = STEAL(v->command);
    struct err e = ERR_INIT;

    if (end == WORK_OVERDUE)
        err_set(&e, ERR_TIMEOUT, "%s did not look at itself within %d s", v->agent->host,
                (int)(LOOK_DEADLINE_US / USEC_PER_SEC));
    else if (end == WORK_DROPPED)
        err_set(&e, ERR_CANCELLED, "the agent on %s stops", v->agent->host);
    if (err_is_set(&e))
        command_fail(command, &e);
    else
        command_reply(command, visit_answer(v));
}

/* ---- on the loop ---- */

static void group_checked(void *aux, const struct err *failure)
{
    struct visit *v = aux;
    struct work work = {.name = "look at this host for a plan",
                        .deadline_us = LOOK_DEADLINE_US,
                        .run = visit_run,
                        .done = visit_done,
                        .release = visit_free,
                        .aux = v};

    if (!cloud_is_standalone(v->agent->cloud))
        checks_add_outcome(v->checks, v->agent->host, "server group", failure,
                           "its policy permits this host");
    workers_submit(v->agent->workers, &work);
}

/* As the answer to the conductor has them: the source's ports, without a binding here. */
static int visit_ports(struct visit *v, struct err *e)
{
    _cleanup_(json_putp) struct json_object *info = NULL;
    _cleanup_(migrate_data_freep) struct migrate_data *data = migrate_data_new();

    if (instance_network_info(v->instance, &info, e) < 0)
        return -1;
    migrate_data_set_vifs(data, vif_migrate_data_skeletons(info));
    return ports_of_destination(v->instance, data, &v->ports, e);
}

static int visit_read(struct visit *v, struct err *e)
{
    if (command_opt_choice(v->command, "block_migration", &v->block_migration, e) < 0 ||
        command_opt_choice(v->command, "disk_over_commit", &v->disk_over_commit, e) < 0 ||
        instance_from_json(json_get(v->args, "instance"), &v->instance, e) < 0 ||
        text_check_uuid(instance_uuid(v->instance), "instance uuid", e) < 0 ||
        text_check_hostname(instance_host(v->instance), "host of the instance", e) < 0)
        return -1;
    if (virt_guest_from_json(json_get(v->args, "guest"), &v->guest, e) < 0)
        return err_prefix(e, "the guest as the source describes it: ");
    if (!text_equal(v->guest->uuid, instance_uuid(v->instance)))
        return err_set(e, ERR_INVALID, "the guest is %s and not instance %s", v->guest->uuid,
                       instance_uuid(v->instance));
    return 0;
}

void command_plan_destination(struct command *command)
{
    struct visit *v = NEW(struct visit);
    struct agent *agent = command->agent;
    struct err e = ERR_INIT;

    v->command = command;
    v->agent = agent;
    v->conf = conf_ref(agent->conf);
    v->args = json_object_get(command->args);
    v->checks = json_object_new_array();
    v->disk_free = v->needed = v->shared = -1;
    if (visit_read(v, &e) < 0) {
        command_fail(command, &e);
        visit_free(v);
        return;
    }
    const struct check_subject subject = {
        .agent = agent, .host = agent->host, .instance = v->instance};
    checks_tell(CHECK_DESTINATION_ASKED | CHECK_DESTINATION_TAKES, &subject, v->checks);
    if (visit_ports(v, &e) < 0)
        checks_add_outcome(v->checks, agent->host, "ports", &e, NULL);
    _cleanup_(json_putp) struct json_object *context = rpc_context_admin();
    cloud_server_group_check(agent->cloud, context, instance_uuid(v->instance), NULL, group_checked,
                             v);
}
