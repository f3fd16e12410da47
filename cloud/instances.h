/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Instances as the control plane's database has them, beyond what live migration needs (cloud/cloud.h).
 * Standalone has no such database: ERR_NOT_IMPLEMENTED, unless said otherwise.
 *
 * Threads and ends: as cloud/cloud.h says. Objects go in and out as primitives (JSON).
 */
#pragma once

#include "cloud/cloud.h"

/* Instances of this host (InstanceList.get_by_host): array of Instance primitives with flavor, metadata,
 * system_metadata, info_cache. Standalone: an empty array. */
void cloud_instances(struct cloud *cloud, cloud_result_fn done, void *aux);
/* Instance.get_by_uuid with the fields that the agent reads, all loaded; ERR_NO_INSTANCE. */
void cloud_instance_get(struct cloud *cloud, struct json_object *context, const char *uuid,
                        cloud_result_fn done, void *aux);
/* Instance.destroy; an instance that is gone already is success. */
void cloud_instance_destroy(struct cloud *cloud, struct json_object *context,
                            const struct instance *instance, cloud_done_fn done, void *aux);
/* InstanceInfoCache.save: network_info is the array of VIFs. */
void cloud_info_cache_save(struct cloud *cloud, struct json_object *context,
                           const char *instance_uuid, struct json_object *network_info,
                           cloud_done_fn done, void *aux);
/* BlockDeviceMapping.save or .destroy of a primitive; its `nova_object.changes` say what is saved. */
void cloud_block_device_save(struct cloud *cloud, struct json_object *context,
                             struct json_object *block_device, cloud_done_fn done, void *aux);
void cloud_block_device_destroy(struct cloud *cloud, struct json_object *context,
                                struct json_object *block_device, cloud_done_fn done, void *aux);
/* VirtualInterface rows, which device tags are found by: create; delete of all of an instance's. */
void cloud_virtual_interface_create(struct cloud *cloud, struct json_object *context,
                                    const char *instance_uuid, const char *port_id, const char *mac,
                                    const char *tag, cloud_done_fn done, void *aux);
void cloud_virtual_interfaces_delete(struct cloud *cloud, struct json_object *context,
                                     const char *instance_uuid, cloud_done_fn done, void *aux);
/* The row of one port; none is success. */
void cloud_virtual_interface_delete(struct cloud *cloud, struct json_object *context,
                                    const char *port_id, cloud_done_fn done, void *aux);
/* Migration.get_by_uuid: the primitive; ERR_NO_MIGRATION. */
void cloud_migration_get(struct cloud *cloud, struct json_object *context, const char *uuid,
                         cloud_result_fn done, void *aux);
/* Instance.drop_migration_context: events of the instance go to instance.host alone again. */
void cloud_migration_context_drop(struct cloud *cloud, struct json_object *context,
                                  const struct instance *instance, cloud_done_fn done, void *aux);
/* InstanceAction.action_start, as the API does it before it asks a host: `action` is "stop" and so on. */
void cloud_action_start(struct cloud *cloud, struct json_object *context, const char *instance_uuid,
                        const char *action, cloud_done_fn done, void *aux);
/*
 * May the instance be on this host, as its server group's policy is? To be asked when the control plane says
 * already that it comes: the host is saved, a migration record names this one. The group is that of the
 * scheduler's hint (its uuid or name), with hint NULL that which has the instance as a member; one that does not
 * exist permits all. A refusal is ERR_PRECHECK of the class GroupAffinityViolation. Two that ask at once are
 * looked at one after the other. Standalone has no groups; [workarounds] disable_group_policy_check_upcall.
 */
void cloud_server_group_check(struct cloud *cloud, struct json_object *context,
                              const char *instance_uuid, const char *hint, cloud_done_fn done,
                              void *aux);
/* Gives a failed build back to the conductor (compute_task build_instances): `args` are the arguments
 * of the cast, consumed. */
void cloud_reschedule(struct cloud *cloud, struct json_object *context, struct json_object *args,
                      cloud_done_fn done, void *aux);
/* ConsoleAuthToken: a token for a console here. type "novnc", "serial", "spice-html5". Result:
 * {"host", "port", "internal_access_path", "token", "access_url"}. */
struct cloud_console {
    const char *instance_uuid, *type, *host;
    int port;
    const char *access_url_base;
};
void cloud_console_token(struct cloud *cloud, struct json_object *context,
                         const struct cloud_console *console, cloud_result_fn done, void *aux);
/* ConsoleAuthToken rows of an instance go (it moved or was deleted). Best effort. */
void cloud_console_tokens_clean(struct cloud *cloud, struct json_object *context,
                                const char *instance_uuid);

/* Placement: the allocation of an instance goes (after terminate; a failed build). */
void cloud_allocations_delete(struct cloud *cloud, struct json_object *context,
                              const char *consumer_uuid, cloud_done_fn done, void *aux);
/* What it holds of this host alone goes: an evacuation to here that failed. */
void cloud_allocations_leave(struct cloud *cloud, struct json_object *context,
                             const char *consumer_uuid, cloud_done_fn done, void *aux);
/* {consumer uuid: {resource class: amount}} of this host's provider. */
void cloud_allocations_here(struct cloud *cloud, cloud_result_fn done, void *aux);
