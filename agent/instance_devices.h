/* SPDX-License-Identifier: Apache-2.0 */
/* Block device mappings of an instance that is built: loaded, given their device names, saved, destroyed. */
#pragma once

#include "agent/instance_spec.h"
#include "agent/operation.h"

struct instance_devices {
    struct json_object *items; /* array of BlockDeviceMapping primitives */
    size_t index;              /* of the one that is being saved or destroyed */
    void (*then)(struct operation *operation);
};

/* From `list`, a BlockDeviceMappingList, or from the control plane when it is NULL; `then` ends the step. */
void instance_devices_load(struct operation *operation, struct instance_devices *devices,
                           struct json_object *list, void (*then)(struct operation *operation));
/* Device names and buses where there are none: root, ephemeral, swap, as the disks get them; saved one by one.
 * Ends the step. */
void instance_devices_name(struct operation *operation, struct instance_devices *devices,
                           const struct instance_spec *spec);
/* All of them go. Ends the step. */
void instance_devices_destroy(struct operation *operation, struct instance_devices *devices);
/* The array of primitives; new reference. */
struct json_object *instance_devices_json(const struct instance_devices *devices);
void instance_devices_clear(struct instance_devices *devices);
