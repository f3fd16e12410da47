/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of instance specs share; nothing for others. */
#pragma once

#include "agent/instance_metadata.h"
#include "agent/instance_spec.h"
#include "virt/build_options.h"

struct instance_spec {
    struct conf *conf;
    char *uuid, *name, *title, *metadata_xml;
    char *image_id, *kernel_id, *ramdisk_id, *os_type, *ephemeral_format;
    char *disk_format;              /* of the image; NULL = not known */
    char *root_device;              /* "/dev/vda" */
    struct json_object *properties; /* of the image */
    struct json_object *network_info;
    struct vif_list vifs;
    struct port_list ports;
    struct instance_disks_plan plan;
    struct virt_build_options *options;
};
