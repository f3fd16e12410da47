/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rest of the interface, called through: the node, instances, ports, images (cloud/node.h and so on).
 * A provider that lacks a row has none of it.
 */
#include "cloud/cloud_provider.h"

#include "cloud/later.h"
#include "lib/json.h"

static void has_none(struct cloud_end *end, const struct cloud *cloud, const char *what)
{
    struct err e = ERR_INIT;

    err_set(&e, ERR_NOT_IMPLEMENTED, "the control plane %s has no %s", cloud->ops->name, what);
    later_end(end, NULL, &e);
}

void cloud_node_start(struct cloud *cloud, const struct cloud_node_facts *facts, cloud_done_fn done,
                      void *aux)
{
    struct cloud_end *end = later_new(cloud, done, NULL, aux);

    if (cloud->ops->node_start)
        cloud->ops->node_start(cloud, facts, later_done, end);
    else
        later_end(end, NULL, NULL);
}

void cloud_node_update(struct cloud *cloud, const struct cloud_node_facts *facts,
                       cloud_done_fn done, void *aux)
{
    struct cloud_end *end = later_new(cloud, done, NULL, aux);

    if (cloud->ops->node_update)
        cloud->ops->node_update(cloud, facts, later_done, end);
    else
        later_end(end, NULL, NULL);
}

void cloud_node_set_enabled(struct cloud *cloud, bool enabled, cloud_done_fn done, void *aux)
{
    struct cloud_end *end = later_new(cloud, done, NULL, aux);

    if (cloud->ops->node_set_enabled)
        cloud->ops->node_set_enabled(cloud, enabled, later_done, end);
    else
        later_end(end, NULL, NULL);
}

void cloud_node_set_fault(struct cloud *cloud, const char *reason, cloud_done_fn done, void *aux)
{
    struct cloud_end *end = later_new(cloud, done, NULL, aux);

    if (cloud->ops->node_set_fault)
        cloud->ops->node_set_fault(cloud, reason, later_done, end);
    else
        later_end(end, NULL, NULL);
}

void cloud_node_service_read(struct cloud *cloud, cloud_result_fn done, void *aux)
{
    struct cloud_end *end = later_new(cloud, NULL, done, aux);

    if (cloud->ops->node_service_read)
        cloud->ops->node_service_read(cloud, later_result, end);
    else
        has_none(end, cloud, "node_service_read");
}

void cloud_node_records_read(struct cloud *cloud, cloud_result_fn done, void *aux)
{
    struct cloud_end *end = later_new(cloud, NULL, done, aux);

    if (cloud->ops->node_records_read)
        cloud->ops->node_records_read(cloud, later_result, end);
    else
        has_none(end, cloud, "node_records_read");
}

void cloud_node_evacuations(struct cloud *cloud, struct json_object *context, cloud_result_fn done,
                            void *aux)
{
    struct cloud_end *end = later_new(cloud, NULL, done, aux);

    if (cloud->ops->node_evacuations)
        cloud->ops->node_evacuations(cloud, context, later_result, end);
    else
        later_empty(end);
}

void cloud_instances(struct cloud *cloud, cloud_result_fn done, void *aux)
{
    struct cloud_end *end = later_new(cloud, NULL, done, aux);

    if (cloud->ops->instances)
        cloud->ops->instances(cloud, later_result, end);
    else
        later_empty(end);
}

void cloud_instance_get(struct cloud *cloud, struct json_object *context, const char *uuid,
                        cloud_result_fn done, void *aux)
{
    struct cloud_end *end = later_new(cloud, NULL, done, aux);

    if (cloud->ops->instance_get)
        cloud->ops->instance_get(cloud, context, uuid, later_result, end);
    else
        has_none(end, cloud, "instance_get");
}

void cloud_instance_destroy(struct cloud *cloud, struct json_object *context,
                            const struct instance *instance, cloud_done_fn done, void *aux)
{
    struct cloud_end *end = later_new(cloud, done, NULL, aux);

    if (cloud->ops->instance_destroy)
        cloud->ops->instance_destroy(cloud, context, instance, later_done, end);
    else
        has_none(end, cloud, "instance_destroy");
}

void cloud_info_cache_save(struct cloud *cloud, struct json_object *context,
                           const char *instance_uuid, struct json_object *network_info,
                           cloud_done_fn done, void *aux)
{
    struct cloud_end *end = later_new(cloud, done, NULL, aux);

    if (cloud->ops->info_cache_save)
        cloud->ops->info_cache_save(cloud, context, instance_uuid, network_info, later_done, end);
    else
        has_none(end, cloud, "info_cache_save");
}

void cloud_block_device_save(struct cloud *cloud, struct json_object *context,
                             struct json_object *block_device, cloud_done_fn done, void *aux)
{
    struct cloud_end *end = later_new(cloud, done, NULL, aux);

    if (cloud->ops->block_device)
        cloud->ops->block_device(cloud, context, block_device, false, later_done, end);
    else
        has_none(end, cloud, "block_device_save");
}

void cloud_block_device_destroy(struct cloud *cloud, struct json_object *context,
                                struct json_object *block_device, cloud_done_fn done, void *aux)
{
    struct cloud_end *end = later_new(cloud, done, NULL, aux);

    if (cloud->ops->block_device)
        cloud->ops->block_device(cloud, context, block_device, true, later_done, end);
    else
        has_none(end, cloud, "block_device_destroy");
}

void cloud_virtual_interface_create(struct cloud *cloud, struct json_object *context,
                                    const char *instance_uuid, const char *port_id, const char *mac,
                                    const char *tag, cloud_done_fn done, void *aux)
{
    struct cloud_end *end = later_new(cloud, done, NULL, aux);

    if (cloud->ops->virtual_interface_create)
        cloud->ops->virtual_interface_create(cloud, context, instance_uuid, port_id, mac, tag,
                                             later_done, end);
    else
        has_none(end, cloud, "virtual_interface_create");
}

void cloud_virtual_interfaces_delete(struct cloud *cloud, struct json_object *context,
                                     const char *instance_uuid, cloud_done_fn done, void *aux)
{
    struct cloud_end *end = later_new(cloud, done, NULL, aux);

    if (cloud->ops->virtual_interfaces_delete)
        cloud->ops->virtual_interfaces_delete(cloud, context, instance_uuid, later_done, end);
    else
        has_none(end, cloud, "virtual_interfaces_delete");
}

void cloud_virtual_interface_delete(struct cloud *cloud, struct json_object *context,
                                    const char *port_id, cloud_done_fn done, void *aux)
{
    struct cloud_end *end = later_new(cloud, done, NULL, aux);

    if (cloud->ops->virtual_interface_delete)
        cloud->ops->virtual_interface_delete(cloud, context, port_id, later_done, end);
    else
        has_none(end, cloud, "virtual_interface_delete");
}

void cloud_migration_get(struct cloud *cloud, struct json_object *context, const char *uuid,
                         cloud_result_fn done, void *aux)
{
    struct cloud_end *end = later_new(cloud, NULL, done, aux);

    if (cloud->ops->migration_get)
        cloud->ops->migration_get(cloud, context, uuid, later_result, end);
    else
        has_none(end, cloud, "migration_get");
}

void cloud_migration_context_drop(struct cloud *cloud, struct json_object *context,
                                  const struct instance *instance, cloud_done_fn done, void *aux)
{
    struct cloud_end *end = later_new(cloud, done, NULL, aux);

    if (cloud->ops->migration_context_drop)
        cloud->ops->migration_context_drop(cloud, context, instance, later_done, end);
    else
        has_none(end, cloud, "migration_context_drop");
}

void cloud_action_start(struct cloud *cloud, struct json_object *context, const char *instance_uuid,
                        const char *action, cloud_done_fn done, void *aux)
{
    struct cloud_end *end = later_new(cloud, done, NULL, aux);

    if (cloud->ops->action_start)
        cloud->ops->action_start(cloud, context, instance_uuid, action, later_done, end);
    else
        has_none(end, cloud, "action_start");
}

void cloud_console_token(struct cloud *cloud, struct json_object *context,
                         const struct cloud_console *console, cloud_result_fn done, void *aux)
{
    struct cloud_end *end = later_new(cloud, NULL, done, aux);

    if (cloud->ops->console_token)
        cloud->ops->console_token(cloud, context, console, later_result, end);
    else
        has_none(end, cloud, "console_token");
}

void cloud_allocations_delete(struct cloud *cloud, struct json_object *context,
                              const char *consumer_uuid, cloud_done_fn done, void *aux)
{
    struct cloud_end *end = later_new(cloud, done, NULL, aux);

    if (cloud->ops->allocations_delete)
        cloud->ops->allocations_delete(cloud, context, consumer_uuid, later_done, end);
    else
        has_none(end, cloud, "allocations_delete");
}

void cloud_allocations_leave(struct cloud *cloud, struct json_object *context,
                             const char *consumer_uuid, cloud_done_fn done, void *aux)
{
    struct cloud_end *end = later_new(cloud, done, NULL, aux);

    if (cloud->ops->allocations_leave)
        cloud->ops->allocations_leave(cloud, context, consumer_uuid, later_done, end);
    else
        has_none(end, cloud, "allocations_leave");
}

void cloud_allocations_here(struct cloud *cloud, cloud_result_fn done, void *aux)
{
    struct cloud_end *end = later_new(cloud, NULL, done, aux);

    if (cloud->ops->allocations_here)
        cloud->ops->allocations_here(cloud, later_result, end);
    else
        has_none(end, cloud, "allocations_here");
}

void cloud_ports_allocate(struct cloud *cloud, struct json_object *context,
                          const struct instance *instance, struct json_object *requested,
                          struct json_object *security_groups, cloud_result_fn done, void *aux)
{
    struct cloud_end *end = later_new(cloud, NULL, done, aux);

    if (cloud->ops->ports_allocate)
        cloud->ops->ports_allocate(cloud, context, instance, requested, security_groups,
                                   later_result, end);
    else
        has_none(end, cloud, "ports_allocate");
}

void cloud_ports_release(struct cloud *cloud, struct json_object *context,
                         const struct instance *instance, cloud_done_fn done, void *aux)
{
    struct cloud_end *end = later_new(cloud, done, NULL, aux);

    if (cloud->ops->ports_release)
        cloud->ops->ports_release(cloud, context, instance, later_done, end);
    else
        has_none(end, cloud, "ports_release");
}

void cloud_ports_refresh(struct cloud *cloud, struct json_object *context,
                         const struct instance *instance, cloud_result_fn done, void *aux)
{
    struct cloud_end *end = later_new(cloud, NULL, done, aux);

    if (cloud->ops->ports_refresh)
        cloud->ops->ports_refresh(cloud, context, instance, later_result, end);
    else
        has_none(end, cloud, "ports_refresh");
}

void cloud_port_attach(struct cloud *cloud, struct json_object *context,
                       const struct instance *instance, const char *network_id, const char *port_id,
                       const char *fixed_ip, const char *tag, cloud_result_fn done, void *aux)
{
    struct cloud_end *end = later_new(cloud, NULL, done, aux);

    if (cloud->ops->port_attach)
        cloud->ops->port_attach(cloud, context, instance, network_id, port_id, fixed_ip, tag,
                                later_result, end);
    else
        has_none(end, cloud, "port_attach");
}

void cloud_port_detach(struct cloud *cloud, struct json_object *context,
                       const struct instance *instance, const char *port_id, cloud_result_fn done,
                       void *aux)
{
    struct cloud_end *end = later_new(cloud, NULL, done, aux);

    if (cloud->ops->port_detach)
        cloud->ops->port_detach(cloud, context, instance, port_id, later_result, end);
    else
        has_none(end, cloud, "port_detach");
}

void cloud_ports_move_here(struct cloud *cloud, struct json_object *context,
                           const struct instance *instance, cloud_result_fn done, void *aux)
{
    struct cloud_end *end = later_new(cloud, NULL, done, aux);

    if (cloud->ops->ports_move_here)
        cloud->ops->ports_move_here(cloud, context, instance, later_result, end);
    else
        has_none(end, cloud, "ports_move_here");
}

void cloud_image_get(struct cloud *cloud, struct json_object *context, const char *image_id,
                     cloud_result_fn done, void *aux)
{
    struct cloud_end *end = later_new(cloud, NULL, done, aux);

    if (cloud->ops->image_get)
        cloud->ops->image_get(cloud, context, image_id, later_result, end);
    else
        has_none(end, cloud, "image_get");
}

void cloud_image_download(struct cloud *cloud, struct json_object *context, const char *image_id,
                          int fd, cloud_result_fn done, void *aux)
{
    struct cloud_end *end = later_new(cloud, NULL, done, aux);

    if (cloud->ops->image_download)
        cloud->ops->image_download(cloud, context, image_id, fd, later_result, end);
    else
        has_none(end, cloud, "image_download");
}

void cloud_image_upload(struct cloud *cloud, struct json_object *context, const char *image_id,
                        struct json_object *fields, int fd, cloud_done_fn done, void *aux)
{
    struct cloud_end *end = later_new(cloud, done, NULL, aux);

    if (cloud->ops->image_upload)
        cloud->ops->image_upload(cloud, context, image_id, fields, fd, later_done, end);
    else
        has_none(end, cloud, "image_upload");
}

void cloud_image_backups(struct cloud *cloud, struct json_object *context,
                         const char *instance_uuid, const char *backup_type, cloud_result_fn done,
                         void *aux)
{
    struct cloud_end *end = later_new(cloud, NULL, done, aux);

    if (cloud->ops->image_backups)
        cloud->ops->image_backups(cloud, context, instance_uuid, backup_type, later_result, end);
    else
        has_none(end, cloud, "image_backups");
}

void cloud_server_group_check(struct cloud *cloud, struct json_object *context,
                              const char *instance_uuid, const char *hint, cloud_done_fn done,
                              void *aux)
{
    struct cloud_end *end = later_new(cloud, done, NULL, aux);

    if (cloud->ops->server_group_check)
        cloud->ops->server_group_check(cloud, context, instance_uuid, hint, later_done, end);
    else
        later_end(end, NULL, NULL);
}

void cloud_reschedule(struct cloud *cloud, struct json_object *context, struct json_object *args,
                      cloud_done_fn done, void *aux)
{
    struct cloud_end *end = later_new(cloud, done, NULL, aux);

    if (cloud->ops->reschedule) {
        cloud->ops->reschedule(cloud, context, args, later_done, end);
        return;
    }
    json_object_put(args);
    has_none(end, cloud, "reschedule");
}

void cloud_console_tokens_clean(struct cloud *cloud, struct json_object *context,
                                const char *instance_uuid)
{
    if (cloud->ops->console_tokens_clean)
        cloud->ops->console_tokens_clean(cloud, context, instance_uuid);
}

void cloud_image_delete(struct cloud *cloud, struct json_object *context, const char *image_id)
{
    if (cloud->ops->image_delete)
        cloud->ops->image_delete(cloud, context, image_id);
}

int64_t cloud_node_id(const struct cloud *cloud)
{
    return cloud->ops->node_id ? cloud->ops->node_id(cloud) : 0;
}

struct json_object *cloud_node_status(const struct cloud *cloud)
{
    return cloud->ops->node_status ? cloud->ops->node_status(cloud) : NULL;
}

void cloud_bindings_warm(struct cloud *cloud)
{
    if (cloud->ops->bindings_warm)
        cloud->ops->bindings_warm(cloud);
}

bool cloud_has_api(const struct cloud *cloud)
{
    return cloud->ops->move != NULL;
}

void cloud_move(struct cloud *cloud, const char *instance_uuid, const char *destination,
                cloud_result_fn done, void *aux)
{
    struct cloud_end *end = later_new(cloud, NULL, done, aux);

    if (cloud->ops->move)
        cloud->ops->move(cloud, instance_uuid, destination, later_result, end);
    else
        has_none(end, cloud, "move");
}

void cloud_whereabouts(struct cloud *cloud, const char *instance_uuid, const char *from,
                       const char *request, cloud_result_fn done, void *aux)
{
    struct cloud_end *end = later_new(cloud, NULL, done, aux);

    if (cloud->ops->whereabouts)
        cloud->ops->whereabouts(cloud, instance_uuid, from, request, later_result, end);
    else
        has_none(end, cloud, "whereabouts");
}

void cloud_service_enable(struct cloud *cloud, bool enabled, const char *reason,
                          cloud_result_fn done, void *aux)
{
    struct cloud_end *end = later_new(cloud, NULL, done, aux);

    if (cloud->ops->service_enable)
        cloud->ops->service_enable(cloud, enabled, reason, later_result, end);
    else
        has_none(end, cloud, "service_enable");
}
