/* SPDX-License-Identifier: Apache-2.0 */
/* Call-through to the provider, whose ends are told to users from a timer, in order, never at once. */
#include "cloud/cloud.h"

#include <assert.h>
#include <string.h>

#include "cloud/later.h"
#include "lib/json.h"

static void tell_ends(void *aux);

int cloud_new_of(struct cloud **out, const struct cloud_ops *ops, struct loop *loop,
                 const struct conf *conf, struct rpc *rpc, const char *host, struct err *e)
{
    struct cloud *cloud = NEW(struct cloud);

    cloud->ops = ops;
    cloud->loop = loop;
    cloud->timer = loop_timer_new(loop, "cloud", tell_ends, cloud);
    cloud->conf = conf_ref(conf);
    cloud->rpc = rpc;
    cloud->host = text_dup(host);
    if (cloud->ops->open(cloud, e) < 0) {
        cloud_free(cloud);
        return -1;
    }
    *out = cloud;
    return 0;
}

int cloud_new(struct cloud **out, struct loop *loop, const struct conf *conf, struct rpc *rpc,
              const char *host, struct err *e)
{
    bool nova = text_equal(conf_string(conf, CONF_agent_control_plane), "nova");

    return cloud_new_of(out, nova ? &cloud_nova_ops : &cloud_standalone_ops, loop, conf, rpc, host,
                        e);
}

void cloud_free(struct cloud *cloud)
{
    if (!cloud)
        return;
    cloud->rpc = NULL; /* it may be gone already: nothing is asked any more */
    cloud->ops->close(cloud);
    tell_ends(cloud);
    loop_timer_free(cloud->timer);
    conf_unref(cloud->conf);
    free(cloud->host);
    free(cloud);
}

void cloud_reload(struct cloud *cloud, const struct conf *conf)
{
    conf_unref(cloud->conf);
    cloud->conf = conf_ref(conf);
    if (cloud->ops->reload)
        cloud->ops->reload(cloud);
}

const char *cloud_provider_name(const struct cloud *cloud)
{
    return cloud->ops->name;
}

bool cloud_is_standalone(const struct cloud *cloud)
{
    return cloud->ops == &cloud_standalone_ops;
}

/* ---- ends that come later ---- */

struct cloud_end {
    struct cloud *cloud;
    struct cloud_end *next;
    cloud_done_fn done;
    cloud_result_fn result_done;
    void *aux;
    bool failed;
    struct err e;
    struct json_object *result;
};

static void tell(struct cloud_end *end)
{
    const struct err *failure = end->failed ? &end->e : NULL;

    if (end->done)
        end->done(end->aux, failure);
    else if (end->result_done)
        end->result_done(end->aux, failure ? NULL : end->result, failure);
    json_object_put(end->result);
    free(end);
}

static void tell_ends(void *aux)
{
    struct cloud *cloud = aux;

    while (cloud->ends) {
        struct cloud_end *end = cloud->ends;
        cloud->ends = end->next;
        tell(end);
    }
}

void later_end(struct cloud_end *end, struct json_object *result, const struct err *failure)
{
    struct cloud_end **last = &end->cloud->ends;

    if (failure) {
        end->failed = true;
        end->e = *failure;
    }
    end->result = json_object_get(result);
    while (*last)
        last = &(*last)->next;
    *last = end;
    loop_timer_arm(end->cloud->timer, 0);
}

void later_empty(struct cloud_end *end)
{
    _cleanup_(json_putp) struct json_object *none = json_object_new_array();

    later_end(end, none, NULL);
}

void later_done(void *aux, const struct err *failure)
{
    later_end(aux, NULL, failure);
}

void later_result(void *aux, struct json_object *result, const struct err *failure)
{
    later_end(aux, result, failure);
}

struct cloud_end *later_new(struct cloud *cloud, cloud_done_fn done, cloud_result_fn result_done,
                            void *aux)
{
    struct cloud_end *end = NEW(struct cloud_end);

    assert(loop_is_current(cloud->loop));
    end->cloud = cloud;
    end->done = done;
    end->result_done = result_done;
    end->aux = aux;
    return end;
}

/* ---- the interface ---- */

void cloud_migration_save(struct cloud *cloud, struct json_object *context,
                          struct migration_record *record, const char *role,
                          struct json_object *details, cloud_done_fn done, void *aux)
{
    cloud->ops->migration_save(cloud, context, record, role, details, later_done,
                               later_new(cloud, done, NULL, aux));
}

void cloud_instance_save(struct cloud *cloud, struct json_object *context,
                         struct instance *instance, const char *expected_task_state,
                         cloud_done_fn done, void *aux)
{
    cloud->ops->instance_save(cloud, context, instance, expected_task_state, later_done,
                              later_new(cloud, done, NULL, aux));
}

void cloud_event_start(struct cloud *cloud, struct json_object *context, const char *instance_uuid,
                       const char *event)
{
    cloud->ops->event(cloud, context, instance_uuid, event, false, NULL);
}

void cloud_event_finish(struct cloud *cloud, struct json_object *context, const char *instance_uuid,
                        const char *event, const struct err *failure)
{
    cloud->ops->event(cloud, context, instance_uuid, event, true, failure);
}

void cloud_fault(struct cloud *cloud, struct json_object *context, const char *instance_uuid,
                 const struct err *failure)
{
    cloud->ops->fault(cloud, context, instance_uuid, failure);
}

void cloud_block_devices(struct cloud *cloud, struct json_object *context,
                         const struct instance *instance, cloud_result_fn done, void *aux)
{
    cloud->ops->block_devices(cloud, context, instance, later_result,
                              later_new(cloud, NULL, done, aux));
}

void cloud_bindings(struct cloud *cloud, struct json_object *context,
                    const struct instance *instance, const struct migrate_data *data,
                    const char *host, enum cloud_binding_change what, cloud_done_fn done, void *aux)
{
    cloud->ops->bindings(cloud, context, instance, data, host, what, later_done,
                         later_new(cloud, done, NULL, aux));
}

void cloud_allocations_revert(struct cloud *cloud, struct json_object *context,
                              const struct instance *instance,
                              const struct migration_record *record, cloud_done_fn done, void *aux)
{
    cloud->ops->allocations(cloud, context, instance, record, later_done,
                            later_new(cloud, done, NULL, aux));
}

void cloud_allocations_drop(struct cloud *cloud, struct json_object *context,
                            const struct migration_record *record, cloud_done_fn done, void *aux)
{
    cloud->ops->allocations(cloud, context, NULL, record, later_done,
                            later_new(cloud, done, NULL, aux));
}

void cloud_migrations(struct cloud *cloud, const char *key, const char *status, int limit,
                      cloud_result_fn done, void *aux)
{
    cloud->ops->migrations(cloud, key, status, limit > 0 ? limit : 100, later_result,
                           later_new(cloud, NULL, done, aux));
}

void cloud_story_add(struct cloud *cloud, const char *uuid, const char *role, const char *kind,
                     int64_t at_us, struct json_object *entry)
{
    cloud->ops->story_add(cloud, uuid, role, kind, at_us, entry);
}

void cloud_story_thin(struct cloud *cloud, const char *uuid, const char *role, const char *kind,
                      int64_t from_us, int64_t every_s)
{
    cloud->ops->story_thin(cloud, uuid, role, kind, from_us, every_s);
}

void cloud_story(struct cloud *cloud, const char *uuid, const char *role, cloud_result_fn done,
                 void *aux)
{
    cloud->ops->story(cloud, uuid, role, later_result, later_new(cloud, NULL, done, aux));
}

void cloud_migrate(struct cloud *cloud, const struct cloud_migrate_request *request,
                   cloud_result_fn done, void *aux)
{
    cloud->ops->migrate(cloud, request, later_result, later_new(cloud, NULL, done, aux));
}
