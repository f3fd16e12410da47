/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/instance_devices.h"

#include "cloud/instances.h"

#include "lib/json.h"

static struct json_object *data_of(const struct instance_devices *devices, size_t index)
{
    return json_get(json_object_array_get_idx(devices->items, index), "nova_object.data");
}

void instance_devices_clear(struct instance_devices *devices)
{
    json_object_put(devices->items);
}

struct json_object *instance_devices_json(const struct instance_devices *devices)
{
    return json_object_get(devices->items);
}

/* ---- loading ---- */

/* The handle is found again by the callback: one load an operation. */
struct load {
    struct operation *operation;
    struct instance_devices *devices;
};

static void loaded(void *aux, struct json_object *result, const struct err *failure)
{
    struct load load = *(struct load *)aux;

    free(aux);
    if (failure) {
        operation_fail(load.operation, failure);
        return;
    }
    load.devices->items = json_copy(result);
    load.devices->then(load.operation);
}

void instance_devices_load(struct operation *op, struct instance_devices *devices,
                           struct json_object *list, void (*then)(struct operation *op))
{
    struct json_object *items = json_get(json_get(list, "nova_object.data"), "objects");

    devices->then = then;
    if (items) {
        devices->items = json_copy(items);
        then(op);
        return;
    }
    struct load *load = NEW(struct load);
    *load = (struct load){.operation = op, .devices = devices};
    cloud_block_devices(op->agent->cloud, op->context, op->instance, loaded, load);
}

/* ---- names ---- */

static void set_field(struct json_object *device, const char *field, const char *value)
{
    struct json_object *changes = json_get(device, "nova_object.changes");

    if (!changes) {
        changes = json_object_new_array();
        json_add(device, "nova_object.changes", changes);
    }
    json_add_string(json_get(device, "nova_object.data"), field, value);
    json_object_array_add(changes, json_object_new_string(field));
}

static bool is_local(struct json_object *data)
{
    return text_equal(json_get_string(data, "destination_type", NULL), "local") &&
           !json_get_bool(data, "no_device", false);
}

static bool is_swap(struct json_object *data)
{
    return text_equal(json_get_string(data, "guest_format", NULL), "swap");
}

static bool is_root(struct json_object *data)
{
    return text_equal(json_get_string(data, "source_type", NULL), "image");
}

/* Places as instance_disks_make() gives them: root, ephemeral, swap. */
static unsigned place_of(const struct instance_devices *devices, struct json_object *data)
{
    bool ephemeral = false;

    if (is_root(data))
        return 0;
    for (size_t i = 0; i < json_object_array_length(devices->items); i++) {
        struct json_object *other = data_of(devices, i);
        ephemeral = ephemeral || (is_local(other) && !is_root(other) && !is_swap(other));
    }
    return is_swap(data) && ephemeral ? 2 : 1;
}

static void name_device(const struct instance_devices *devices, struct json_object *device,
                        const struct instance_spec *spec)
{
    struct json_object *data = json_get(device, "nova_object.data");
    unsigned place = place_of(devices, data);
    _cleanup_(str_freep) char *name =
        place == 0
            ? text_dup(instance_spec_root_device(spec))
            : text_format("/dev/%s%c", instance_spec_disk_prefix(spec), (int)('a' + (int)place));

    json_object_object_del(device, "nova_object.changes");
    if (!json_get_string(data, "device_name", NULL))
        set_field(device, "device_name", name);
    if (!json_get_string(data, "disk_bus", NULL))
        set_field(device, "disk_bus", instance_spec_disk_bus(spec));
    if (!json_get_string(data, "device_type", NULL))
        set_field(device, "device_type", "disk");
}

/* ---- saving, destroying ---- */

struct round {
    struct operation *operation;
    struct instance_devices *devices;
    bool destroys;
};

static bool has_work(const struct round *round, struct json_object *device)
{
    return round->destroys || json_get(device, "nova_object.changes");
}

static void next_device(void *aux, const struct err *failure)
{
    struct round *round = aux;
    struct instance_devices *devices = round->devices;
    struct operation *op = round->operation;
    size_t count = json_object_array_length(devices->items);

    while (!failure && devices->index < count &&
           !has_work(round, json_object_array_get_idx(devices->items, devices->index)))
        devices->index++;
    if (failure || devices->index >= count) {
        free(round);
        if (failure)
            operation_fail(op, failure);
        else
            operation_next(op);
        return;
    }
    struct json_object *device = json_object_array_get_idx(devices->items, devices->index++);
    if (round->destroys)
        cloud_block_device_destroy(op->agent->cloud, op->context, device, next_device, round);
    else
        cloud_block_device_save(op->agent->cloud, op->context, device, next_device, round);
}

static void begin_round(struct operation *op, struct instance_devices *devices, bool destroys)
{
    struct round *round = NEW(struct round);

    *round = (struct round){.operation = op, .devices = devices, .destroys = destroys};
    devices->index = 0;
    next_device(round, NULL);
}

void instance_devices_name(struct operation *op, struct instance_devices *devices,
                           const struct instance_spec *spec)
{
    for (size_t i = 0; i < json_object_array_length(devices->items); i++)
        if (is_local(data_of(devices, i)))
            name_device(devices, json_object_array_get_idx(devices->items, i), spec);
    begin_round(op, devices, false);
}

void instance_devices_destroy(struct operation *op, struct instance_devices *devices)
{
    begin_round(op, devices, true);
}
