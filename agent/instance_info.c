/* SPDX-License-Identifier: Apache-2.0 */
/* What is told of a guest and of the host: diagnostics, uptime, set_host_enabled. */
#include "agent/instance_console.h"

#include <json-c/linkhash.h>

#include "agent/instance_ask.h"
#include "agent/node.h"
#include "cloud/node.h"
#include "lib/clock.h"
#include "lib/json.h"
#include "lib/log.h"

LOG_MODULE(info);

/* ---- diagnostics ---- */

static int diagnostics_run(struct instance_ask *ask, struct err *e)
{
    if (virt_guest_state(ask->virt, ask->uuid, &ask->state, e) < 0)
        return -1;
    if (ask->state != VIRT_STATE_RUNNING)
        return err_set(e, ERR_INSTANCE_STATE,
                       "Instance %s in power state %s. Cannot get_diagnostics while the instance "
                       "is in this state.",
                       ask->uuid, virt_state_name(ask->state));
    return virt_guest_diagnostics(ask->virt, ask->uuid, &ask->result, e);
}

/* Without "name", which only the flat form has. */
static struct json_object *object_of(const char *class_name, struct json_object *data)
{
    _cleanup_(object_freep) struct object *object = object_new(class_name, "1.0");

    for (struct lh_entry *entry = json_object_is_type(data, json_type_object)
                                      ? lh_table_head(json_object_get_object(data))
                                      : NULL;
         entry; entry = lh_entry_next(entry))
        if (!text_equal(lh_entry_k(entry), "name"))
            object_set_json(object, lh_entry_k(entry), json_object_get(lh_entry_v(entry)));
    object_clear_changes(object);
    return object_to_json(object);
}

static struct json_object *objects_of(const char *class_name, struct json_object *array)
{
    struct json_object *list = json_object_new_array();
    size_t count =
        json_object_is_type(array, json_type_array) ? json_object_array_length(array) : 0;

    for (size_t i = 0; i < count; i++)
        json_object_array_add(list, object_of(class_name, json_object_array_get_idx(array, i)));
    return list;
}

/* The plain figures in the classes of nova/objects/diagnostics.py. */
static struct json_object *diagnostics_object(struct json_object *plain)
{
    static const struct {
        const char *key, *class_name, *count;
    } lists[] = {{"cpu_details", "CpuDiagnostics", "num_cpus"},
                 {"disk_details", "DiskDiagnostics", "num_disks"},
                 {"nic_details", "NicDiagnostics", "num_nics"}};
    struct json_object *data = json_copy(plain);

    json_object_object_del(data, "memory_statistics");
    for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
        struct json_object *list = objects_of(lists[i].class_name, json_get(data, lists[i].key));
        json_add_int(data, lists[i].count, (int64_t)json_object_array_length(list));
        json_add(data, lists[i].key, list);
    }
    json_add(data, "memory_details",
             object_of("MemoryDiagnostics", json_get(data, "memory_details")));
    struct json_object *object = object_of("Diagnostics", data);
    json_object_put(data);
    return object;
}

static void diagnostics_reply(struct instance_ask *ask)
{
    const char *drive = instance_config_drive(ask->instance);
    int64_t launched_s = clock_parse_s(object_string(ask->instance->object, "launched_at", NULL));

    json_add_bool(ask->result, "config_drive", drive && *drive);
    if (launched_s >= 0) /* from Nova's word, as there: a guest may have been started anew since */
        json_add_int(ask->result, "uptime", clock_realtime_us() / USEC_PER_SEC - launched_s);
    else
        json_add(ask->result, "uptime", NULL);
    instance_ask_reply(ask, diagnostics_object(ask->result));
}

void instance_diagnostics(struct agent *agent, struct rpc_request *request)
{
    struct instance_ask *ask = instance_ask_new(agent, request, true);

    if (!ask)
        return;
    ask->run = diagnostics_run;
    ask->then = diagnostics_reply;
    instance_ask_submit(ask, "read diagnostics");
}

/* The flat form of API versions before 2.48: names and numbers, as far as they can be told. */
struct flat_row {
    const char *key, *suffix;
};

static void add_flat(struct json_object *out, struct json_object *array, const char *name_key,
                     const char *prefix, const struct flat_row *rows, size_t row_count)
{
    size_t count =
        json_object_is_type(array, json_type_array) ? json_object_array_length(array) : 0;

    for (size_t i = 0; i < count; i++) {
        struct json_object *o = json_object_array_get_idx(array, i);
        _cleanup_(str_freep) char *number = text_format("%s%zu", prefix, i);
        const char *name = name_key ? json_get_string(o, name_key, number) : number;
        for (size_t r = 0; r < row_count; r++) {
            _cleanup_(str_freep) char *key = text_format("%s%s", name, rows[r].suffix);
            if (json_has(o, rows[r].key))
                json_add(out, key, json_object_get(json_get(o, rows[r].key)));
        }
    }
}

static void add_memory(struct json_object *out, struct json_object *in)
{
    struct json_object *statistics = json_get(in, "memory_statistics");

    json_add_int(out, "memory",
                 json_get_int(json_get(in, "memory_details"), "maximum", 0) * 1024); /* KiB */
    if (!json_object_is_type(statistics, json_type_object))
        return;
    json_object_object_foreach (statistics, name, value) {
        _cleanup_(str_freep) char *key = text_format("memory-%s", name);
        json_add(out, key, json_object_get(value));
    }
}

static void flat_reply(struct instance_ask *ask)
{
    static const struct flat_row cpu[] = {{"time", "_time"}};
    static const struct flat_row disk[] = {{"read_requests", "_read_req"},
                                           {"read_bytes", "_read"},
                                           {"write_requests", "_write_req"},
                                           {"write_bytes", "_write"},
                                           {"errors_count", "_errors"}};
    static const struct flat_row nic[] = {
        {"rx_octets", "_rx"},        {"rx_packets", "_rx_packets"}, {"rx_errors", "_rx_errors"},
        {"rx_drop", "_rx_drop"},     {"tx_octets", "_tx"},          {"tx_packets", "_tx_packets"},
        {"tx_errors", "_tx_errors"}, {"tx_drop", "_tx_drop"}};
    struct json_object *o = json_object_new_object(), *in = ask->result;

    add_flat(o, json_get(in, "cpu_details"), NULL, "cpu", cpu, ARRAY_LEN(cpu));
    add_flat(o, json_get(in, "disk_details"), "name", "disk", disk, ARRAY_LEN(disk));
    add_flat(o, json_get(in, "nic_details"), "name", "nic", nic, ARRAY_LEN(nic));
    add_memory(o, in);
    instance_ask_reply(ask, o);
}

void instance_diagnostics_old(struct agent *agent, struct rpc_request *request)
{
    struct instance_ask *ask = instance_ask_new(agent, request, true);

    if (!ask)
        return;
    ask->run = diagnostics_run;
    ask->then = flat_reply;
    instance_ask_submit(ask, "read diagnostics");
}

/* ---- the host ---- */

static int uptime_run(struct instance_ask *ask, struct err *e)
{
    struct virt_resources *resources = NULL;

    if (virt_resources_read(ask->virt, &resources, e) < 0)
        return -1;
    ask->result = json_object_new_string(resources->uptime ? resources->uptime : "");
    virt_resources_free(resources);
    return 0;
}

void host_uptime(struct agent *agent, struct rpc_request *request)
{
    struct instance_ask *ask = instance_ask_new(agent, request, false);

    ask->run = uptime_run;
    instance_ask_submit(ask, "read the host's uptime");
}

struct enabling {
    struct rpc_request *request;
    bool enabled;
};

/* The trait is best effort, as in Nova: the next audit writes it. */
static void enabled_set(void *aux, const struct err *failure)
{
    struct enabling *enabling = aux;

    if (failure)
        log_err(LOG_LEVEL_WARNING, failure, "COMPUTE_STATUS_DISABLED could not be written now");
    rpc_reply(enabling->request,
              json_object_new_string(enabling->enabled ? "enabled" : "disabled"));
    free(enabling);
}

void host_set_enabled(struct agent *agent, struct rpc_request *request)
{
    struct enabling *enabling = NEW(struct enabling);

    enabling->request = request;
    enabling->enabled = json_object_get_boolean(rpc_request_arg(request, "enabled"));
    log_info("this host is %s by the control plane", enabling->enabled ? "enabled" : "disabled");
    cloud_node_set_enabled(agent->cloud, enabling->enabled, enabled_set, enabling);
}
