/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/instance_launch.h"

#include "agent/instance_spec.h"
#include "cloud/instances.h"
#include "cloud/ports.h"
#include "lib/json.h"
#include "lib/log.h"

LOG_MODULE(power);

struct instance_launch {
    struct operation *operation; /* while the step asks the control plane */
    struct conf *conf;
    struct instance *instance;
    struct json_object *network_info;  /* NULL = the cache's */
    struct json_object *block_devices; /* NULL = not asked for */
};

struct instance_launch *instance_launch_new(const struct operation *op)
{
    struct instance_launch *l = NEW(struct instance_launch);

    l->conf = conf_ref(op->agent->conf);
    l->instance = instance_copy(op->instance);
    return l;
}

void instance_launch_free(struct instance_launch *l)
{
    if (!l)
        return;
    conf_unref(l->conf);
    instance_free(l->instance);
    json_object_put(l->network_info);
    json_object_put(l->block_devices);
    free(l);
}

/* ---- asking ---- */

static void block_devices_read(void *aux, struct json_object *result, const struct err *failure)
{
    struct instance_launch *l = aux;

    if (!failure)
        l->block_devices = json_copy(result);
    operation_cloud_done(l->operation, failure);
}

static void ask_for_block_devices(struct instance_launch *l)
{
    struct operation *op = l->operation;

    cloud_block_devices(op->agent->cloud, op->context, l->instance, block_devices_read, l);
}

static void cache_saved(void *aux, const struct err *failure)
{
    if (failure)
        log_err(LOG_LEVEL_WARNING, failure, "the info cache could not be saved");
    ask_for_block_devices(aux);
}

static bool is_cached(const struct instance_launch *l)
{
    _cleanup_(json_putp) struct json_object *cached = NULL;

    return instance_network_info(l->instance, &cached, NULL) == 0 &&
           json_same(cached, l->network_info);
}

static void ports_read(void *aux, struct json_object *result, const struct err *failure)
{
    struct instance_launch *l = aux;
    struct operation *op = l->operation;

    if (op->agent->closing)
        return;
    if (failure) {
        log_err(LOG_LEVEL_WARNING, failure, "the ports are taken from the info cache");
        ask_for_block_devices(l);
        return;
    }
    l->network_info = json_copy(result);
    if (is_cached(l))
        ask_for_block_devices(l);
    else
        cloud_info_cache_save(op->agent->cloud, op->context, op->uuid, l->network_info, cache_saved,
                              l);
}

void instance_launch_ports(struct instance_launch *l, struct operation *op)
{
    l->operation = op;
    cloud_ports_refresh(op->agent->cloud, op->context, l->instance, ports_read, l);
}

/* ---- starting ---- */

static int make_spec(const struct instance_launch *l, struct instance_spec **spec, struct err *e)
{
    struct instance_spec_source source = {.conf = l->conf,
                                          .instance = l->instance,
                                          .network_info = l->network_info,
                                          .block_devices = l->block_devices};

    return instance_spec_make(&source, spec, e);
}

/* What was made stays when the start fails: a port that is wired for nothing harms nobody, and the next
 * start wires it all the same. */
static int plug_ports(const struct instance_spec *spec, struct agent *agent, struct err *e)
{
    const struct port_list *ports = instance_spec_ports(spec);
    struct undo *undo = undo_new(agent->undo_handlers, NULL, NULL);
    int result = 0;

    for (size_t i = 0; i < ports->count && result == 0; i++)
        result = net_plug(agent->net, ports->items[i], undo, e);
    undo_free(undo);
    return result;
}

static int unplug_ports(const struct instance_spec *spec, struct agent *agent, struct err *e)
{
    const struct port_list *ports = instance_spec_ports(spec);

    for (size_t i = 0; i < ports->count; i++)
        if (net_unplug(agent->net, ports->items[i], e) < 0)
            return -1;
    return 0;
}

/* Off, without saved memory: the guest begins from its disks. */
static int end_domain(struct agent *agent, const char *uuid, struct err *e)
{
    enum virt_state state = VIRT_STATE_NONE;

    if (virt_guest_state(agent->virt, uuid, &state, e) < 0)
        return -1;
    if (state == VIRT_STATE_NONE)
        return 0;
    if (virt_guest_power_off(agent->virt, uuid, e) < 0)
        return -1;
    return virt_guest_save_remove(agent->virt, uuid, e);
}

int instance_launch_run(struct instance_launch *l, struct agent *agent, struct err *e)
{
    _cleanup_(instance_spec_freep) struct instance_spec *spec = NULL;
    _cleanup_(str_freep) char *xml = NULL;
    struct instance_disks disks = {0};
    int result = -1;

    if (make_spec(l, &spec, e) < 0)
        return -1;
    if (instance_disks_find(l->conf, instance_spec_disks(spec), &disks, e) == 0 &&
        end_domain(agent, instance_uuid(l->instance), e) == 0 &&
        unplug_ports(spec, agent, e) == 0 && instance_spec_xml(spec, &disks, &xml, e) == 0 &&
        plug_ports(spec, agent, e) == 0)
        result = virt_guest_create(agent->virt, xml, false, e);
    instance_disks_clear(&disks);
    return result;
}

int instance_launch_plug(struct instance_launch *l, struct agent *agent, struct err *e)
{
    _cleanup_(instance_spec_freep) struct instance_spec *spec = NULL;

    if (make_spec(l, &spec, e) < 0)
        return -1;
    return plug_ports(spec, agent, e);
}
