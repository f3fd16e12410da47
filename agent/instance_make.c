/* SPDX-License-Identifier: Apache-2.0 */
/* Guests made and taken down: see the header. Images: instance_images.c. */
#include "agent/instance_make.h"

#include "agent/config_drive.h"
#include "cloud/images.h"
#include "lib/json.h"
#include "lib/log.h"
#include "virt/storage.h"

LOG_MODULE(build);

#define ROLE "build"

static struct instance_make *make_of(const struct operation *op)
{
    return op->data;
}

/* ---- what it works with ---- */

void instance_make_begin(struct operation *op)
{
    struct instance_make *make = make_of(op);

    make->conf = conf_ref(op->agent->conf);
    make->undo_handlers = op->agent->undo_handlers;
    instance_make_renew(op);
}

void instance_make_renew(struct operation *op)
{
    struct instance_make *make = make_of(op);

    instance_free(make->instance);
    make->instance = instance_copy(op->instance);
}

void instance_make_clear(struct instance_make *make)
{
    instance_spec_free(make->spec);
    undo_free(make->undo);
    instance_disks_clear(&make->disks);
    if (make->fetch)
        image_cache_abandon(make->fetch);
    instance_free(make->instance);
    json_object_put(make->image);
    json_object_put(make->network_info);
    json_object_put(make->block_devices);
    json_object_put(make->injected_files);
    free(make->admin_password);
    free(make->image_format);
    conf_unref(make->conf);
}

static void set_info_cache(struct instance *instance, struct json_object *network_info)
{
    struct json_object *cache =
        json_get(object_json(instance->object, "info_cache"), "nova_object.data");
    _cleanup_(str_freep) char *text = json_text(network_info);

    if (cache)
        json_add_string(cache, "network_info", text);
}

void instance_make_set_network(struct operation *op, struct json_object *network_info)
{
    struct instance_make *make = make_of(op);
    struct json_object *copy = json_copy(network_info);

    json_object_put(make->network_info);
    make->network_info = copy;
    set_info_cache(op->instance, network_info);
    set_info_cache(make->instance, network_info);
}

/* ---- the spec ---- */

static int run_spec(struct agent *agent, void *data, struct err *e)
{
    struct instance_make *make = data;
    struct instance_spec_source source = {
        .conf = make->conf,
        .instance = make->instance,
        .image = make->image,
        .network_info = make->network_info,
        .block_devices = make->block_devices,
    };

    (void)agent;
    return instance_spec_make(&source, &make->spec, e);
}

void instance_make_spec(struct operation *op)
{
    operation_job(op, "instance spec", run_spec, NULL);
}

/* ---- the journal ---- */

/* What the undo list saves through: the data outlives the list. */
struct saver {
    struct journal *journal;
    const char *uuid;
};

static int save_record(struct journal *journal, const char *uuid, struct json_object *steps,
                       struct err *e)
{
    _cleanup_(json_putp) struct json_object *record = json_object_new_object();

    json_add_string(record, "uuid", uuid);
    json_add_string(record, "role", ROLE);
    json_add(record, "undo", json_copy(steps));
    return journal_write(journal, uuid, ROLE, record, e);
}

static int save_steps(void *aux, struct json_object *steps, struct err *e)
{
    const struct saver *saver = aux;

    return save_record(saver->journal, saver->uuid, steps, e);
}

/* The list of the steps so far, saved through `saver`, which lives as long as the job. */
static struct undo *open_undo(struct instance_make *make, struct saver *saver)
{
    struct undo *undo = undo_new(make->undo_handlers, save_steps, saver);
    _cleanup_(json_putp) struct json_object *steps = make->undo ? undo_to_json(make->undo) : NULL;

    if (steps)
        (void)undo_from_json(undo, steps, NULL); /* its own output */
    return undo;
}

static void keep_undo(struct instance_make *make, struct undo *undo)
{
    _cleanup_(json_putp) struct json_object *steps = undo_to_json(undo);

    undo_free(undo);
    undo_free(make->undo);
    make->undo = undo_new(make->undo_handlers, NULL, NULL);
    (void)undo_from_json(make->undo, steps, NULL);
}

static struct saver saver_of(struct agent *agent, const struct instance_make *make)
{
    return (struct saver){.journal = agent->journal, .uuid = instance_uuid(make->instance)};
}

/* ---- disks and ports ---- */

static int check_absent(struct agent *agent, const char *uuid, struct err *e)
{
    enum virt_state state = VIRT_STATE_NONE;

    if (virt_guest_state(agent->virt, uuid, &state, e) < 0)
        return -1;
    if (state != VIRT_STATE_NONE)
        return err_set(e, ERR_INSTANCE_STATE, "instance %s exists on %s already and is %s", uuid,
                       agent->host, virt_state_name(state));
    return 0;
}

static int make_disks(struct instance_make *make, struct undo *undo, struct err *e)
{
    struct instance_disks_plan *plan = instance_spec_disks(make->spec);
    _cleanup_(json_putp) struct json_object *files = NULL;

    if (make->keep_disks)
        return instance_disks_find(make->conf, plan, &make->disks, e);
    if (config_drive_wanted(make->conf, make->instance) &&
        config_drive_files(make->conf, make->instance, instance_spec_network_info(make->spec),
                           make->admin_password, make->injected_files, &files, e) < 0)
        return -1;
    plan->config_drive = files;
    int result = instance_disks_make(make->conf, plan, undo, &make->disks, e);
    plan->config_drive = NULL;
    return result;
}

static int plug_ports(struct agent *agent, struct instance_make *make, struct undo *undo,
                      struct err *e)
{
    const struct port_list *ports = instance_spec_ports(make->spec);

    for (size_t i = 0; i < ports->count; i++)
        if (net_plug(agent->net, ports->items[i], undo, e) < 0)
            return err_prefix(e, "port %s: ", ports->items[i]->port_id);
    return 0;
}

static int run_parts(struct agent *agent, void *data, struct err *e)
{
    struct instance_make *make = data;
    struct saver saver = saver_of(agent, make);
    struct undo *undo;
    int result;

    if (check_absent(agent, saver.uuid, e) < 0)
        return -1;
    undo = open_undo(make, &saver);
    result = make_disks(make, undo, e);
    if (result == 0)
        result = plug_ports(agent, make, undo, e);
    keep_undo(make, undo);
    return result;
}

static int run_undo(struct agent *agent, void *data, struct err *e)
{
    struct instance_make *make = data;
    struct saver saver = saver_of(agent, make);

    if (!make->undo)
        return 0;
    struct undo *undo = open_undo(make, &saver);
    int result = undo_run(undo, e);
    keep_undo(make, undo);
    if (result == 0)
        result = journal_remove(agent->journal, saver.uuid, ROLE, e);
    return result;
}

/* A step that failed half-way is not undone by the engine: its own undo runs here, then the failure goes up. */
static int run_parts_or_nothing(struct agent *agent, void *data, struct err *e)
{
    struct err later = ERR_INIT;

    if (run_parts(agent, data, e) == 0)
        return 0;
    if (run_undo(agent, data, &later) < 0)
        log_err(LOG_LEVEL_WARNING, &later, "taking back what was made");
    return -1;
}

void instance_make_parts(struct operation *op)
{
    operation_job(op, "instance parts", run_parts_or_nothing, NULL);
}

void instance_make_undo(struct operation *op)
{
    operation_job(op, "instance undo", run_undo, NULL);
}

void instance_make_nothing(struct operation *op)
{
    operation_next(op);
}

/* ---- the domain ---- */

static int start_guest(struct agent *agent, struct instance_make *make, const char *xml,
                       struct err *e)
{
    if (make->power_off)
        return virt_guest_define(agent->virt, xml, e);
    return virt_guest_create(agent->virt, xml, make->waits, e);
}

static int run_start(struct agent *agent, void *data, struct err *e)
{
    struct instance_make *make = data;
    struct saver saver = saver_of(agent, make);
    struct json_object *args = json_object_new_object();
    _cleanup_(str_freep) char *xml = NULL;

    json_add_string(args, "uuid", saver.uuid);
    if (instance_spec_xml(make->spec, &make->disks, &xml, e) < 0) {
        json_object_put(args);
        return -1;
    }
    struct undo *undo = open_undo(make, &saver);
    int result = undo_push(undo, "guest.destroy", args, e);
    if (result == 0)
        result = start_guest(agent, make, xml, e);
    keep_undo(make, undo);
    return result;
}

/* VIFs that are not active yet: those that are will not change, and what is not known is taken for active
 * (nova/virt/libvirt/driver.py, _get_neutron_events). */
static void expect_ports(struct operation *op, struct json_object *network_info)
{
    struct instance_make *make = make_of(op);

    for (size_t i = 0; i < json_object_array_length(network_info); i++) {
        struct json_object *vif = json_object_array_get_idx(network_info, i);
        const char *id = json_get_string(vif, "id", NULL);
        if (!id || json_get_bool(vif, "active", true))
            continue;
        _cleanup_(str_freep) char *key = text_format("network-vif-plugged-%s", id);
        operation_expect(op, key);
        make->waits = true;
    }
}

void instance_make_start(struct operation *op)
{
    struct instance_make *make = make_of(op);

    if (!make->power_off && conf_int(make->conf, CONF_DEFAULT_vif_plugging_timeout) > 0)
        expect_ports(op, instance_spec_network_info(make->spec));
    operation_job(op, "start the guest", run_start, NULL);
}

void instance_make_wait(struct operation *op)
{
    struct instance_make *make = make_of(op);

    if (!make->waits)
        operation_next(op);
    else
        operation_wait(op,
                       conf_int(make->conf, CONF_DEFAULT_vif_plugging_timeout) * INT64_C(1000000),
                       conf_bool(make->conf, CONF_DEFAULT_vif_plugging_is_fatal));
}

static int run_resume(struct agent *agent, void *data, struct err *e)
{
    struct instance_make *make = data;

    return virt_guest_resume(agent->virt, instance_uuid(make->instance), e);
}

void instance_make_resume(struct operation *op)
{
    struct instance_make *make = make_of(op);

    if (!make->waits) {
        operation_next(op);
        return;
    }
    make->waits = false;
    operation_job(op, "resume the guest", run_resume, NULL);
}

static int run_keep(struct agent *agent, void *data, struct err *e)
{
    struct instance_make *make = data;
    struct saver saver = saver_of(agent, make);

    /* first the directory's marker: until the record is gone a crash still takes all back */
    if (virt_storage_settle(make->conf, saver.uuid, e) < 0 ||
        journal_remove(agent->journal, saver.uuid, ROLE, e) < 0)
        return -1;
    undo_free(make->undo);
    make->undo = NULL;
    return 0;
}

void instance_make_keep(struct operation *op)
{
    operation_job(op, "keep the guest", run_keep, NULL);
}

/* ---- taking back ---- */

static int destroy_guest(void *aux, struct json_object *args, struct err *e)
{
    const char *uuid;

    if (json_need_string(args, "uuid", &uuid, e) < 0 || text_check_uuid(uuid, "uuid", e) < 0)
        return -1;
    return virt_guest_destroy(aux, uuid, e);
}

struct undo_handler instance_make_undo_handler(struct virt *virt)
{
    return (struct undo_handler){.name = "guest.destroy", .run = destroy_guest, .aux = virt};
}

int instance_make_recover(struct journal *journal, const struct undo_handler *handlers,
                          struct json_object *record, struct err *e)
{
    const char *uuid;

    if (json_need_string(record, "uuid", &uuid, e) < 0 || text_check_uuid(uuid, "uuid", e) < 0)
        return -1;
    struct saver saver = {.journal = journal, .uuid = uuid};
    _cleanup_(undo_freep) struct undo *undo = undo_new(handlers, save_steps, &saver);
    if (undo_from_json(undo, json_get(record, "undo"), e) < 0 || undo_run(undo, e) < 0)
        return -1;
    return journal_remove(journal, uuid, ROLE, e);
}

static void keep_first(struct err *e, int *result, int now, const struct err *failure)
{
    if (now == 0)
        return;
    if (*result == 0 && e)
        *e = *failure;
    *result = -1;
}

int instance_tear_down(struct agent *agent, const struct conf *conf, const char *uuid,
                       const struct port_list *ports, bool keep_files, struct err *e)
{
    struct err failure = ERR_INIT;
    int result = virt_guest_destroy(agent->virt, uuid, e);

    if (result < 0) /* it may run: its disks and ports stay */
        return -1;
    for (size_t i = 0; i < ports->count; i++)
        keep_first(e, &result, net_unplug(agent->net, ports->items[i], &failure), &failure);
    if (!keep_files)
        keep_first(e, &result, virt_storage_remove(conf, uuid, &failure), &failure);
    return result;
}
