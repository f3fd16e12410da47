/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For those who implement a control plane. Users call cloud/cloud.h, whose contracts hold here word for
 * word; the wrapper in cloud.c guarantees that `done` is never NULL and never runs before the call
 * returned (a provider may call it at once). What a provider has not ended when it is closed, it ends in
 * close(), with ERR_CANCELLED.
 */
#pragma once

#include "cloud/cloud.h"

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
    void (*migrations)(struct cloud *cloud, const char *instance_uuid, const char *status,
                       int limit, cloud_result_fn done, void *aux);
    void (*migrate)(struct cloud *cloud, const struct cloud_migrate_request *request,
                    cloud_result_fn done, void *aux);
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
