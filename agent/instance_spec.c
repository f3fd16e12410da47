/* SPDX-License-Identifier: Apache-2.0 */
/* An instance's parts, read from Nova's records. The XML that comes of them: instance_spec_xml.c. */
#include "agent/instance_spec.h"

#include <stdio.h>
#include <string.h>
#include <json-c/linkhash.h>

#include "agent/instance_spec_internal.h"
#include "lib/json.h"

#define IMAGE_PREFIX "image_"

static struct json_object *nested(struct json_object *primitive)
{
    return json_get(primitive, "nova_object.data");
}

static const char *text_of(const struct instance *instance, const char *field)
{
    const char *text = object_string(instance->object, field, NULL);

    return text && *text ? text : NULL;
}

char *instance_name(const struct conf *conf, const struct instance *instance)
{
    const char *template = conf_string(conf, CONF_DEFAULT_instance_name_template);
    struct text_buffer b = TEXT_BUFFER_INIT;

    /* the form was checked when the configuration was read (conf/rules.c) */
    for (const char *p = template; *p; p++) {
        if (p[0] != '%') {
            text_buffer_add_n(&b, p, 1);
            continue;
        }
        if (*++p == '%') {
            text_buffer_add(&b, "%");
            continue;
        }
        if (text_starts_with(p, "(uuid)s")) {
            text_buffer_add(&b, instance_uuid(instance));
            p += strlen("(uuid)s") - 1;
            continue;
        }
        bool zeros = *p == '0';
        int width = (int)strtol(p, (char **)&p, 10);
        const char *form = *p == 'x'   ? (zeros ? "%0*llx" : "%*llx")
                           : *p == 'X' ? (zeros ? "%0*llX" : "%*llX")
                                       : (zeros ? "%0*lld" : "%*lld");
        char number[128];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        snprintf(number, sizeof(number), form, width, (long long)instance_id(instance));
#pragma GCC diagnostic pop
        text_buffer_add(&b, number);
    }
    return text_buffer_take(&b);
}

/* ---- the image ---- */

static void add_property(struct json_object *properties, const char *name,
                         struct json_object *value)
{
    json_add(properties, name, json_copy(value));
}

/* system_metadata keeps image_<name> for fields and properties alike; the fields are never properties that
 * anybody reads. */
static struct json_object *properties_of_metadata(const struct instance *instance)
{
    struct json_object *metadata = instance_system_metadata(instance);
    struct json_object *properties = json_object_new_object();

    if (!json_object_is_type(metadata, json_type_object))
        return properties;
    json_object_object_foreach (metadata, name, value) {
        if (text_starts_with(name, IMAGE_PREFIX))
            add_property(properties, name + strlen(IMAGE_PREFIX), value);
    }
    return properties;
}

/* What the image says now, over what was kept of it at an earlier build. */
static void read_image(struct instance_spec *spec, const struct instance_spec_source *source)
{
    struct json_object *own = json_get(source->image, "properties");
    const char *format = json_get_string(source->image, "disk_format", NULL);

    spec->properties = properties_of_metadata(source->instance);
    if (json_object_is_type(own, json_type_object)) {
        json_object_object_foreach (own, name, value) {
            add_property(spec->properties, name, value);
        }
    }
    if (!format)
        format = json_get_string(spec->properties, "disk_format", NULL);
    spec->disk_format = text_dup(format);
}

/* ---- block devices ---- */

static bool is_swap(struct json_object *device)
{
    return text_equal(json_get_string(device, "guest_format", NULL), "swap");
}

static int read_block_device(struct instance_spec *spec, struct json_object *device,
                             unsigned *ephemerals, struct err *e)
{
    const char *from = json_get_string(device, "source_type", "");
    const char *to = json_get_string(device, "destination_type", "");

    if (json_get_bool(device, "no_device", false))
        return 0;
    if (!text_equal(to, "local"))
        return err_set(
            e, ERR_NOT_IMPLEMENTED,
            "a block device of instance %s is a %s made of %s; this agent has local disks "
            "only",
            spec->uuid, *to ? to : "volume", *from ? from : "?");
    if (!text_equal(from, "blank"))
        return 0;
    if (is_swap(device)) {
        spec->plan.swap_mb = json_get_int(device, "volume_size", 0);
        return 0;
    }
    if (++*ephemerals > 1)
        return err_set(e, ERR_NOT_IMPLEMENTED,
                       "instance %s has more than one ephemeral disk; this agent makes one",
                       spec->uuid);
    spec->plan.ephemeral_gb = json_get_int(device, "volume_size", 0);
    spec->ephemeral_format = text_dup(json_get_string(device, "guest_format", NULL));
    return 0;
}

static int read_block_devices(struct instance_spec *spec, struct json_object *devices,
                              struct err *e)
{
    unsigned ephemerals = 0;

    for (size_t i = 0; i < json_object_array_length(devices); i++)
        if (read_block_device(spec, nested(json_object_array_get_idx(devices, i)), &ephemerals, e) <
            0)
            return -1;
    return 0;
}

static int read_disks(struct instance_spec *spec, const struct instance_spec_source *source,
                      struct err *e)
{
    const struct instance *instance = source->instance;
    struct json_object *flavor = nested(object_json(instance->object, "flavor"));

    spec->image_id = text_dup(text_of(instance, "image_ref"));
    spec->kernel_id = text_dup(text_of(instance, "kernel_id"));
    spec->ramdisk_id = text_dup(text_of(instance, "ramdisk_id"));
    spec->os_type = text_dup(text_of(instance, "os_type"));
    if (!spec->image_id)
        return err_set(e, ERR_NOT_IMPLEMENTED,
                       "instance %s has no image: it boots from a volume, which this agent cannot "
                       "connect",
                       spec->uuid);
    spec->plan = (struct instance_disks_plan){
        .instance_uuid = spec->uuid,
        .image_id = spec->image_id,
        .kernel_id = spec->kernel_id,
        .ramdisk_id = spec->ramdisk_id,
        .root_gb = json_get_int(flavor, "root_gb", instance_root_gb(instance)),
        .os_type = spec->os_type,
        .root_is_cdrom = text_equal(spec->disk_format, "iso"),
    };
    if (source->block_devices)
        return read_block_devices(spec, source->block_devices, e);
    spec->plan.ephemeral_gb = json_get_int(flavor, "ephemeral_gb", 0);
    spec->plan.swap_mb = json_get_int(flavor, "swap", 0);
    return 0;
}

/* ---- ports ---- */

static int read_ports(struct instance_spec *spec, const struct instance_spec_source *source,
                      struct err *e)
{
    if (source->network_info)
        spec->network_info = json_copy(source->network_info);
    else if (instance_network_info(source->instance, &spec->network_info, e) < 0)
        return -1;
    return vif_list_of_network_info(spec->network_info, &spec->vifs, e) < 0 ||
                   ports_of_network_info(spec->network_info, spec->uuid, &spec->ports, e) < 0
               ? -1
               : 0;
}

/* ---- all of it ---- */

static int read_options(struct instance_spec *spec, const struct instance_spec_source *source,
                        struct err *e)
{
    const struct instance *instance = source->instance;
    struct json_object *flavor = nested(object_json(instance->object, "flavor"));
    struct virt_build_request request = {
        .conf = spec->conf,
        .extra_specs = instance_extra_specs(instance),
        .image_properties = spec->properties,
        .os_type = spec->os_type,
        .vcpus = (int)json_get_int(flavor, "vcpus", instance_vcpus(instance)),
        .memory_mb = instance_flavor_memory_mb(instance),
        .is_iso = spec->plan.root_is_cdrom,
        .has_kernel = spec->kernel_id != NULL,
        .root_device = text_of(instance, "root_device_name"),
        .instance_uuid = spec->uuid,
    };

    if (virt_build_options_make(&request, &spec->options, e) < 0)
        return -1;
    spec->plan.bus = spec->options->disk_bus;
    spec->plan.cdrom_bus = spec->options->cdrom_bus;
    spec->plan.ephemeral_format = spec->ephemeral_format;
    spec->root_device =
        text_format("/dev/%sa", spec->plan.root_is_cdrom ? spec->options->cdrom_prefix
                                                         : spec->options->disk_prefix);
    return 0;
}

/* virtio-net queues are made with the tap where the tap is ours. */
static void set_queues(struct instance_spec *spec)
{
    for (size_t i = 0; i < spec->ports.count; i++)
        spec->ports.items[i]->multiqueue = spec->options->interface.queues > 1;
}

int instance_spec_make(const struct instance_spec_source *source, struct instance_spec **out,
                       struct err *e)
{
    _cleanup_(instance_spec_freep) struct instance_spec *spec = NEW(struct instance_spec);

    spec->conf = conf_ref((struct conf *)source->conf);
    spec->uuid = text_dup(instance_uuid(source->instance));
    spec->name = instance_name(source->conf, source->instance);
    spec->title = text_dup(instance_display_name(source->instance));
    read_image(spec, source);
    if (read_disks(spec, source, e) < 0 || read_ports(spec, source, e) < 0 ||
        read_options(spec, source, e) < 0)
        return -1;
    set_queues(spec);
    spec->metadata_xml = instance_metadata_xml(source->instance, spec->network_info);
    *out = STEAL(spec);
    return 0;
}

void instance_spec_free(struct instance_spec *spec)
{
    if (!spec)
        return;
    virt_build_options_free(spec->options);
    port_list_clear(&spec->ports);
    vif_list_clear(&spec->vifs);
    json_object_put(spec->properties);
    json_object_put(spec->network_info);
    free(spec->uuid);
    free(spec->name);
    free(spec->title);
    free(spec->image_id);
    free(spec->kernel_id);
    free(spec->ramdisk_id);
    free(spec->os_type);
    free(spec->ephemeral_format);
    free(spec->disk_format);
    free(spec->root_device);
    free(spec->metadata_xml);
    conf_unref(spec->conf);
    free(spec);
}

/* ---- looking ---- */

struct instance_disks_plan *instance_spec_disks(struct instance_spec *spec)
{
    return &spec->plan;
}

const struct port_list *instance_spec_ports(const struct instance_spec *spec)
{
    return &spec->ports;
}

struct json_object *instance_spec_network_info(const struct instance_spec *spec)
{
    return spec->network_info;
}

const char *instance_spec_name(const struct instance_spec *spec)
{
    return spec->name;
}

const char *instance_spec_root_device(const struct instance_spec *spec)
{
    return spec->root_device;
}

const char *instance_spec_disk_bus(const struct instance_spec *spec)
{
    return spec->plan.root_is_cdrom ? spec->options->cdrom_bus : spec->options->disk_bus;
}

const char *instance_spec_disk_prefix(const struct instance_spec *spec)
{
    return spec->options->disk_prefix;
}

const char *instance_spec_disk_format(const struct instance_spec *spec)
{
    return spec->disk_format;
}

struct json_object *instance_spec_defaults(const struct instance_spec *spec,
                                           const struct instance *instance)
{
    const struct virt_build *build = &spec->options->build;
    const struct {
        const char *name, *value;
    } rows[] = {
        {"image_hw_machine_type", build->machine},
        {"image_hw_cdrom_bus", spec->options->cdrom_bus},
        {"image_hw_disk_bus", spec->options->disk_bus},
        {"image_hw_input_bus", build->input_bus},
        {"image_hw_pointer_model", build->pointer},
        {"image_hw_video_model", build->video},
        {"image_hw_vif_model", spec->options->interface.model},
    };
    struct json_object *had = instance_system_metadata(instance);
    struct json_object *fresh = json_object_new_object();

    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (rows[i].value && !json_has(had, rows[i].name))
            json_add_string(fresh, rows[i].name, rows[i].value);
    return fresh;
}
