/* SPDX-License-Identifier: Apache-2.0 */
/* The <nova:instance> element of a domain's <metadata>, from what Nova knows of the instance. */
#pragma once

#include <json-c/json_object.h>

#include "cloud/views.h"

/* As nova-compute writes it (virt/nova_metadata.h); network_info is the array of VIFs, NULL = the info
 * cache's. For struct virt_build.metadata_xml. The caller frees; never NULL. Any thread. */
char *instance_metadata_xml(const struct instance *instance, struct json_object *network_info);
