/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an instance is made of, read once from what Nova says of it: Instance with its flavor, the image's
 * properties, network_info. Disks (virt/instance_disks.h), ports (net/net.h) and the domain's XML
 * (virt/build.h) come of it. Build, rebuild, start and hard reboot have it in common.
 *
 *     struct instance_spec *spec;                         worker
 *     instance_spec_make(&source, &spec, e)
 *     instance_disks_make(conf, instance_spec_disks(spec), undo, &disks, e)    or instance_disks_find()
 *     ports: instance_spec_ports(spec)
 *     instance_spec_xml(spec, &disks, &xml, e)
 *
 * A spec belongs to one thread at a time, and so does what it is made of: give it copies.
 */
#pragma once

#include "agent/migration.h"
#include "virt/instance_disks.h"

struct instance_spec;

/* All borrowed for the call, but for `conf`, of which a reference is kept. */
struct instance_spec_source {
    const struct conf *conf;
    const struct instance *instance;
    struct json_object
        *image; /* the image's record; NULL = as system_metadata keeps it (image_*) */
    struct json_object *network_info; /* array of VIFs; NULL = the info cache's */
    struct json_object
        *block_devices; /* array of BlockDeviceMapping primitives; NULL = not known: the disks
                                          are those of the flavor */
};

/*
 * BLOCKS for one look at a file. ERR_INVALID and ERR_NOT_IMPLEMENTED as virt_build_options_make();
 * ERR_NOT_IMPLEMENTED too for volumes and for more than one ephemeral disk.
 */
int instance_spec_make(const struct instance_spec_source *source, struct instance_spec **out,
                       struct err *e);
void instance_spec_free(struct instance_spec *spec);
DEFINE_CLEANUP(struct instance_spec *, instance_spec_free)

/* Borrowed, all of them. The plan has no config drive yet: the caller of a new guest sets it. */
struct instance_disks_plan *instance_spec_disks(struct instance_spec *spec);
const struct port_list *instance_spec_ports(const struct instance_spec *spec);
/* The array of VIFs that the ports were made of. */
struct json_object *instance_spec_network_info(const struct instance_spec *spec);
const char *instance_spec_name(const struct instance_spec *spec);        /* "instance-0000002a" */
const char *instance_spec_root_device(const struct instance_spec *spec); /* "/dev/vda" */
const char *instance_spec_disk_bus(const struct instance_spec *spec);    /* "virtio" */
const char *instance_spec_disk_format(const struct instance_spec *spec); /* of the image; NULL */
const char *instance_spec_disk_prefix(const struct instance_spec *spec); /* "vd" */
/*
 * What configuration decided and image and flavor left open, as image_* of system_metadata
 * (image_hw_machine_type ...): nova-compute keeps it with the instance, so that the guest stays the same when
 * the configuration changes. New object; keys that the instance has already are left out.
 */
struct json_object *instance_spec_defaults(const struct instance_spec *spec,
                                           const struct instance *instance);

/* XML of one interface of the spec, for attach and detach; the caller frees. */
int instance_spec_interface_xml(const struct instance_spec *spec, size_t index, char **xml,
                                struct err *e);

/*
 * BLOCKS shortly (TCP ports for serial consoles are looked for). The domain's XML with these disks; the
 * caller frees.
 */
int instance_spec_xml(struct instance_spec *spec, const struct instance_disks *disks, char **xml,
                      struct err *e);

/* The instance's name after [DEFAULT] instance_name_template; the caller frees. Any thread. */
char *instance_name(const struct conf *conf, const struct instance *instance);
