/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For those who implement a control plane. Users call cloud/cloud.h, whose contracts hold here word for
 * word; the wrapper in cloud.c guarantees that `done` is never NULL and never runs before the call
 * returned (a provider may call it at once). What a provider has not ended when it is closed, it ends in
 * close(), with ERR_CANCELLED.
 */
#pragma once

#include "cloud/cloud.h"
#include "cloud/images.h"
#include "cloud/instances.h"
#include "cloud/moves.h"
#include "cloud/node.h"
#include "cloud/ports.h"

/* Rows after `migrate` may be NULL: the wrapper then answers ERR_NOT_IMPLEMENTED (best-effort calls are
 * left out, the node's calls and cloud_instances() succeed). */
struct cloud_ops {
    const char *name;
    int (*open)(struct cloud *cloud, struct err *e);
    void (*close)(struct cloud *cloud); /* also of a half-open one */
    void (*migration_save)(struct cloud *cloud, struct json_object *context,
                           struct migration_record *record, const char *role,
                           struct json_object *details, cloud_done_fn done, void *aux);
    void (*instance_save)(struct cloud *cloud, struct json_object *context,
                          struct instance *instance, const char *expected_task_state,
                          cloud_done_fn done, void *aux);
    void (*event)(struct cloud *cloud, struct json_object *context, const char *instance_uuid,
                  const char *event, bool finished, const struct err *failure);
    void (*fault)(struct cloud *cloud, struct json_object *context, const char *instance_uuid,
                  const struct err *failure);
    void (*block_devices)(struct cloud *cloud, struct json_object *context,
                          const struct instance *instance, cloud_result_fn done, void *aux);
    /* what: one of the three calls on bindings */
    void (*bindings)(struct cloud *cloud, struct json_object *context,
                     const struct instance *instance, const struct migrate_data *data,
                     const char *host, enum cloud_binding_change what, cloud_done_fn done,
                     void *aux);
    /* record's allocation back to the instance, or away when instance is NULL */
    void (*allocations)(struct cloud *cloud, struct json_object *context,
                        const struct instance *instance, const struct migration_record *record,
                        cloud_done_fn done, void *aux);
    void (*migrations)(struct cloud *cloud, const char *key, const char *status, int limit,
                       cloud_result_fn done, void *aux);
    void (*story_add)(struct cloud *cloud, const char *uuid, const char *role, const char *kind,
                      int64_t at_us, struct json_object *entry);
    void (*story_thin)(struct cloud *cloud, const char *uuid, const char *role, const char *kind,
                       int64_t from_us, int64_t every_s);
    void (*story)(struct cloud *cloud, const char *uuid, const char *role, cloud_result_fn done,
                  void *aux);
    void (*migrate)(struct cloud *cloud, const struct cloud_migrate_request *request,
                    cloud_result_fn done, void *aux);

    void (*reload)(struct cloud *cloud); /* there is another cloud->conf */
    void (*node_start)(struct cloud *cloud, const struct cloud_node_facts *facts,
                       cloud_done_fn done, void *aux);
    void (*node_update)(struct cloud *cloud, const struct cloud_node_facts *facts,
                        cloud_done_fn done, void *aux);
    void (*node_set_enabled)(struct cloud *cloud, bool enabled, cloud_done_fn done, void *aux);
    void (*node_set_fault)(struct cloud *cloud, const char *reason, cloud_done_fn done, void *aux);
    void (*node_service_read)(struct cloud *cloud, cloud_result_fn done, void *aux);
    void (*node_records_read)(struct cloud *cloud, cloud_result_fn done, void *aux);
    void (*node_evacuations)(struct cloud *cloud, struct json_object *context, cloud_result_fn done,
                             void *aux);
    int64_t (*node_id)(const struct cloud *cloud);
    struct json_object *(*node_status)(const struct cloud *cloud);
    void (*bindings_warm)(struct cloud *cloud);

    void (*instances)(struct cloud *cloud, cloud_result_fn done, void *aux);
    void (*instance_get)(struct cloud *cloud, struct json_object *context, const char *uuid,
                         cloud_result_fn done, void *aux);
    void (*instance_destroy)(struct cloud *cloud, struct json_object *context,
                             const struct instance *instance, cloud_done_fn done, void *aux);
    void (*info_cache_save)(struct cloud *cloud, struct json_object *context,
                            const char *instance_uuid, struct json_object *network_info,
                            cloud_done_fn done, void *aux);
    void (*block_device)(struct cloud *cloud, struct json_object *context,
                         struct json_object *block_device, bool destroy, cloud_done_fn done,
                         void *aux);
    void (*virtual_interface_create)(struct cloud *cloud, struct json_object *context,
                                     const char *instance_uuid, const char *port_id,
                                     const char *mac, const char *tag, cloud_done_fn done,
                                     void *aux);
    void (*virtual_interfaces_delete)(struct cloud *cloud, struct json_object *context,
                                      const char *instance_uuid, cloud_done_fn done, void *aux);
    void (*virtual_interface_delete)(struct cloud *cloud, struct json_object *context,
                                     const char *port_id, cloud_done_fn done, void *aux);
    void (*migration_get)(struct cloud *cloud, struct json_object *context, const char *uuid,
                          cloud_result_fn done, void *aux);
    void (*migration_context_drop)(struct cloud *cloud, struct json_object *context,
                                   const struct instance *instance, cloud_done_fn done, void *aux);
    void (*action_start)(struct cloud *cloud, struct json_object *context,
                         const char *instance_uuid, const char *action, cloud_done_fn done,
                         void *aux);
    void (*server_group_check)(struct cloud *cloud, struct json_object *context,
                               const char *instance_uuid, const char *hint, cloud_done_fn done,
                               void *aux);
    void (*reschedule)(struct cloud *cloud, struct json_object *context, struct json_object *args,
                       cloud_done_fn done, void *aux);
    void (*console_token)(struct cloud *cloud, struct json_object *context,
                          const struct cloud_console *console, cloud_result_fn done, void *aux);
    void (*console_tokens_clean)(struct cloud *cloud, struct json_object *context,
                                 const char *instance_uuid);
    void (*allocations_delete)(struct cloud *cloud, struct json_object *context,
                               const char *consumer_uuid, cloud_done_fn done, void *aux);
    void (*allocations_leave)(struct cloud *cloud, struct json_object *context,
                              const char *consumer_uuid, cloud_done_fn done, void *aux);
    void (*allocations_here)(struct cloud *cloud, cloud_result_fn done, void *aux);

    void (*ports_allocate)(struct cloud *cloud, struct json_object *context,
                           const struct instance *instance, struct json_object *requested,
                           struct json_object *security_groups, cloud_result_fn done, void *aux);
    void (*ports_release)(struct cloud *cloud, struct json_object *context,
                          const struct instance *instance, cloud_done_fn done, void *aux);
    void (*ports_refresh)(struct cloud *cloud, struct json_object *context,
                          const struct instance *instance, cloud_result_fn done, void *aux);
    void (*port_attach)(struct cloud *cloud, struct json_object *context,
                        const struct instance *instance, const char *network_id,
                        const char *port_id, const char *fixed_ip, const char *tag,
                        cloud_result_fn done, void *aux);
    void (*port_detach)(struct cloud *cloud, struct json_object *context,
                        const struct instance *instance, const char *port_id, cloud_result_fn done,
                        void *aux);
    void (*ports_move_here)(struct cloud *cloud, struct json_object *context,
                            const struct instance *instance, cloud_result_fn done, void *aux);

    void (*move)(struct cloud *cloud, const char *instance_uuid, const char *destination,
                 cloud_result_fn done, void *aux);
    void (*whereabouts)(struct cloud *cloud, const char *instance_uuid, const char *from,
                        const char *request, cloud_result_fn done, void *aux);
    void (*service_enable)(struct cloud *cloud, bool enabled, const char *reason,
                           cloud_result_fn done, void *aux);

    void (*image_get)(struct cloud *cloud, struct json_object *context, const char *image_id,
                      cloud_result_fn done, void *aux);
    void (*image_download)(struct cloud *cloud, struct json_object *context, const char *image_id,
                           int fd, cloud_result_fn done, void *aux);
    void (*image_upload)(struct cloud *cloud, struct json_object *context, const char *image_id,
                         struct json_object *fields, int fd, cloud_done_fn done, void *aux);
    void (*image_delete)(struct cloud *cloud, struct json_object *context, const char *image_id);
    void (*image_backups)(struct cloud *cloud, struct json_object *context,
                          const char *instance_uuid, const char *backup_type, cloud_result_fn done,
                          void *aux);
};

/* As cloud_new() with the provider that it would choose; for tests, with their own. */
int cloud_new_of(struct cloud **out, const struct cloud_ops *ops, struct loop *loop,
                 const struct conf *conf, struct rpc *rpc, const char *host, struct err *e);

struct cloud_end;

struct cloud {
    const struct cloud_ops *ops;
    struct loop *loop;
    struct conf *conf;
    struct rpc *rpc;
    char *host;
    void *state; /* the provider's */
    /* the wrapper's: what is to be told to users, oldest first, and the timer that tells it */
    struct cloud_end *ends;
    struct loop_timer *timer;
};

extern const struct cloud_ops cloud_standalone_ops;
extern const struct cloud_ops cloud_nova_ops;
