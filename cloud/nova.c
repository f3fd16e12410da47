/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control plane of OpenStack: the provider's table, and what is asked of nova-conductor for
 * instances and migrations. Saves are reduced to what changed (contract 3). The agent's own accounts of
 * migrations are kept as in standalone.
 */
#include "cloud/nova.h"

#include <stdlib.h>
#include <string.h>

#include "cloud/glance.h"
#include "cloud/neutron.h"
#include "cloud/nova_api.h"
#include "cloud/nova_console.h"
#include "cloud/nova_groups.h"
#include "cloud/nova_node.h"
#include "cloud/placement.h"
#include "lib/clock.h"
#include "lib/json.h"
#include "lib/log.h"

LOG_MODULE(nova);

enum { TRANSFER_THREADS = 4, FAULT_MESSAGE_MAX = 255 };

/* How much of the history stays. */
static void keep_history(struct nova *nova)
{
    const struct conf *conf = nova->cloud->conf;

    store_keep(nova->store, conf_int(conf, CONF_agent_history_days),
               conf_int(conf, CONF_agent_history_max));
}

static int open_store(struct nova *nova, struct err *e)
{
    const struct conf *conf = nova->cloud->conf;
    _cleanup_(str_freep) char *path =
        text_format("%s/migrations.sqlite", conf_string(conf, CONF_agent_state_directory));

    if (store_open(&nova->store, nova->cloud->loop, path, e) < 0)
        return -1;
    keep_history(nova);
    return 0;
}

static int open_services(struct nova *nova, struct err *e)
{
    if (http_new(&nova->http, nova->cloud->loop, e) < 0)
        return -1;
    for (int kind = 0; kind < SERVICE_KIND_COUNT; kind++)
        if (service_new(&nova->services[kind], (enum service_kind)kind, nova->http,
                        nova->cloud->loop, nova->cloud->conf, e) < 0)
            return -1;
    nova->placement = placement_new(nova->cloud, nova->services[SERVICE_PLACEMENT]);
    nova->neutron = neutron_new(nova);
    return 0;
}

static int nova_open(struct cloud *cloud, struct err *e)
{
    struct nova *nova = NEW(struct nova);

    cloud->state = nova;
    nova->cloud = cloud;
    nova->conductor = conductor_new(cloud->loop, cloud->conf, cloud->rpc);
    nova->node = nova_node_new(nova);
    nova->groups = nova_groups_new(nova);
    if (workers_new(&nova->workers, cloud->loop, TRANSFER_THREADS, e) < 0)
        return -1;
    return open_services(nova, e) < 0 ? -1 : open_store(nova, e);
}

static void nova_close(struct cloud *cloud)
{
    struct nova *nova = nova_of(cloud);

    if (!nova)
        return;
    if (nova->workers)
        workers_free(nova->workers, 2 * USEC_PER_SEC);
    placement_free(nova->placement);
    nova_groups_stop(nova->groups);
    conductor_free(nova->conductor);
    nova_groups_free(nova->groups);
    for (int kind = 0; kind < SERVICE_KIND_COUNT; kind++)
        service_free(nova->services[kind]);
    neutron_free(nova->neutron);
    http_free(nova->http);
    nova_node_free(nova->node);
    store_close(nova->store);
    free(nova);
    cloud->state = NULL;
}

static void nova_reload(struct cloud *cloud)
{
    struct nova *nova = nova_of(cloud);

    conductor_reload(nova->conductor, cloud->conf);
    if (nova->store)
        keep_history(nova);
    for (int kind = 0; kind < SERVICE_KIND_COUNT; kind++)
        if (nova->services[kind])
            service_reload(nova->services[kind], cloud->conf);
}

const char *nova_request_id(struct json_object *context)
{
    const char *id = json_get_string(context, "global_request_id", NULL);

    return id ? id : json_get_string(context, "request_id", NULL);
}

/* ---- ends ---- */

/* How an answer of the conductor is told to a user of the interface. */
struct end {
    cloud_done_fn done;
    cloud_result_fn result_done;
    void *aux;
    const char *const *fine; /* classes of failures that mean: it is done already */
};

static struct end *end_new(cloud_done_fn done, void *aux, const char *const *fine)
{
    struct end *end = NEW(struct end);

    end->done = done;
    end->aux = aux;
    end->fine = fine;
    return end;
}

static struct end *result_end_new(cloud_result_fn done, void *aux)
{
    struct end *end = end_new(NULL, aux, NULL);

    end->result_done = done;
    return end;
}

static bool is_fine(const struct end *end, const struct err *failure)
{
    for (const char *const *name = end->fine; failure && name && *name; name++)
        if (conductor_failed_with(failure, *name))
            return true;
    return false;
}

static void end_done(void *aux, struct json_object *result, const struct err *failure)
{
    struct end end = *(struct end *)aux;

    (void)result;
    free(aux);
    end.done(end.aux, is_fine(&end, failure) ? NULL : failure);
}

/* A list object: its items. A failure that is fine is a list without any. */
static void end_list(void *aux, struct json_object *result, const struct err *failure)
{
    struct end end = *(struct end *)aux;
    struct json_object *items = json_get(json_get(result, "nova_object.data"), "objects");

    free(aux);
    if (is_fine(&end, failure)) {
        _cleanup_(json_putp) struct json_object *none = json_object_new_array();
        end.result_done(end.aux, none, NULL);
        return;
    }
    if (!failure && !json_object_is_type(items, json_type_array)) {
        struct err e = ERR_INIT;
        err_set(&e, ERR_PARSE, "nova-conductor's answer is not a list of objects");
        end.result_done(end.aux, NULL, &e);
        return;
    }
    end.result_done(end.aux, failure ? NULL : items, failure);
}

static struct json_object *array_of(const char *const *texts, size_t count)
{
    struct json_object *array = json_object_new_array();

    for (size_t i = 0; i < count; i++)
        json_object_array_add(array, texts[i] ? json_object_new_string(texts[i]) : NULL);
    return array;
}

static struct json_object *one(const char *text)
{
    return array_of(&text, 1);
}

/* ---- migrations ---- */

/* Nova's record and our account are saved side by side; the first failure is told when both ended. */
struct two_saves {
    int open;
    struct err e;
    cloud_done_fn done;
    void *aux;
};

static void one_saved(void *aux, const struct err *failure)
{
    struct two_saves *saves = aux;

    if (failure && !err_is_set(&saves->e))
        saves->e = *failure;
    if (--saves->open > 0)
        return;
    struct two_saves end = *saves;
    free(saves);
    end.done(end.aux, err_is_set(&end.e) ? &end.e : NULL);
}

static void add_change(struct json_object *primitive, const char *field, struct json_object *value)
{
    struct json_object *changes = json_get(primitive, "nova_object.changes");

    json_add(json_get(primitive, "nova_object.data"), field, value);
    json_object_array_add(changes, json_object_new_string(field));
}

/* What newer conductors want beside a node's name: its database id (contract 2.3). */
static void add_node_id(const struct nova *nova, const struct object *object, const char *name,
                        const char *id, struct json_object *primitive)
{
    int64_t node_id = nova_node_id(nova->cloud);

    if (node_id > 0 && object_changed(object, name) && !object_changed(object, id) &&
        text_equal(object_string(object, name, NULL), nova_node_name(nova->node)))
        add_change(primitive, id, json_object_new_int64(node_id));
}

static void save_record(struct nova *nova, struct json_object *context,
                        const struct migration_record *record, struct two_saves *saves)
{
    static const char *const keep[] = {"id", "uuid", NULL};
    struct json_object *primitive = object_to_json_reduced(record->object, keep);

    add_node_id(nova, record->object, "dest_node", "dest_compute_id", primitive);
    conductor_object_action(nova->conductor, context, primitive, "save", NULL, NULL, end_done,
                            end_new(one_saved, saves, NULL));
}

static void nova_migration_save(struct cloud *cloud, struct json_object *context,
                                struct migration_record *record, const char *role,
                                struct json_object *details, cloud_done_fn done, void *aux)
{
    struct nova *nova = nova_of(cloud);
    struct two_saves *saves = NEW(struct two_saves);
    bool write = record && text_equal(role, "source") && object_changed(record->object, NULL);

    saves->open = 1;
    saves->done = done;
    saves->aux = aux;
    if (write) {
        saves->open++;
        save_record(nova, context, record, saves);
    }
    if (record)
        object_clear_changes(record->object);
    if (details) {
        saves->open++;
        store_save_migration(nova->store, json_get_string(details, "uuid", ""), role, details,
                             one_saved, saves);
    }
    one_saved(saves, NULL);
}

static void nova_migrations(struct cloud *cloud, const char *key, const char *status, int limit,
                            cloud_result_fn done, void *aux)
{
    store_migrations(nova_of(cloud)->store, key, status, limit, done, aux);
}

static void nova_story_add(struct cloud *cloud, const char *uuid, const char *role,
                           const char *kind, int64_t at_us, struct json_object *entry)
{
    store_story_add(nova_of(cloud)->store, uuid, role, kind, at_us, entry);
}

static void nova_story_thin(struct cloud *cloud, const char *uuid, const char *role,
                            const char *kind, int64_t from_us, int64_t every_s)
{
    store_story_thin(nova_of(cloud)->store, uuid, role, kind, from_us, every_s);
}

static void nova_story(struct cloud *cloud, const char *uuid, const char *role,
                       cloud_result_fn done, void *aux)
{
    store_story(nova_of(cloud)->store, uuid, role, done, aux);
}

static void nova_migrate(struct cloud *cloud, const struct cloud_migrate_request *request,
                         cloud_result_fn done, void *aux)
{
    struct err e = ERR_INIT;

    (void)cloud;
    (void)request;
    err_set(&e, ERR_NOT_IMPLEMENTED,
            "live migrations of this host are asked for by Nova's API (openstack server migrate "
            "--live-migration); computectl migrate is for the control plane standalone");
    done(aux, NULL, &e);
}

/* ---- saving instances ---- */

struct instance_save {
    struct nova *nova;
    struct json_object *primitive; /* reduced */
    struct json_object *context;
    struct err conflict;
    cloud_done_fn done;
    void *aux;
};

static void save_end(struct instance_save *save, const struct err *failure)
{
    struct instance_save end = *save;

    free(save);
    end.done(end.aux, failure);
    json_object_put(end.primitive);
    json_object_put(end.context);
}

static bool is_nested(struct json_object *value)
{
    return json_has(value, "nova_object.name");
}

/* True if the record has all that the save was to write; nested objects are not compared. */
static bool is_saved(struct json_object *primitive, struct json_object *record)
{
    struct json_object *changes = json_get(primitive, "nova_object.changes");
    struct json_object *wanted = json_get(primitive, "nova_object.data");
    struct json_object *is = json_get(record, "nova_object.data");

    for (size_t i = 0; changes && i < json_object_array_length(changes); i++) {
        const char *field = json_object_get_string(json_object_array_get_idx(changes, i));
        if (is_nested(json_get(wanted, field)) || text_equal(field, "compute_id"))
            continue;
        if (!json_has(is, field) || !json_same(json_get(wanted, field), json_get(is, field)))
            return false;
    }
    return true;
}

static void read_back(void *aux, struct json_object *result, const struct err *failure)
{
    struct instance_save *save = aux;

    if (!failure && is_saved(save->primitive, result)) {
        log_debug("the instance's record has what was to be saved: an earlier attempt did it");
        save_end(save, NULL);
        return;
    }
    struct err conflict = save->conflict;
    save_end(save, &conflict);
}

/*
 * A task state that is not the expected one is a conflict, unless the record says what it was to say: then
 * an earlier attempt, whose answer was lost, has done it.
 */
static void instance_saved(void *aux, struct json_object *result, const struct err *failure)
{
    struct instance_save *save = aux;
    struct json_object *data = json_get(save->primitive, "nova_object.data");

    (void)result;
    if (!failure || failure->code != ERR_TASK_STATE) {
        save_end(save, failure);
        return;
    }
    save->conflict = *failure;
    conductor_class_action(save->nova->conductor, save->context, "Instance", "get_by_uuid",
                           one(json_get_string(data, "uuid", NULL)), NULL, read_back, save);
}

/* "a|b|-" as Nova takes it: a name, null or several of them. */
static struct json_object *expected_states(const char *text)
{
    char **words = text_split(text, '|');
    size_t count = text_vector_length(words);

    for (size_t i = 0; i < count; i++) {
        if (!text_equal(words[i], "-"))
            continue;
        free(words[i]);
        words[i] = NULL;
    }
    struct json_object *states = array_of((const char *const *)words, count);
    for (size_t i = 0; i < count; i++)
        free(words[i]);
    free(words);
    return states;
}

static void nova_instance_save(struct cloud *cloud, struct json_object *context,
                               struct instance *instance, const char *expected_task_state,
                               cloud_done_fn done, void *aux)
{
    static const char *const keep[] = {"id", "uuid", NULL};
    struct nova *nova = nova_of(cloud);
    struct json_object *kwargs = json_object_new_object();

    if (!object_changed(instance->object, NULL)) {
        json_object_put(kwargs);
        done(aux, NULL);
        return;
    }
    struct instance_save *save = NEW(struct instance_save);
    save->nova = nova;
    save->context = json_object_get(context);
    save->done = done;
    save->aux = aux;
    save->primitive = object_to_json_reduced(instance->object, keep);
    add_node_id(nova, instance->object, "node", "compute_id", save->primitive);
    object_clear_changes(instance->object);
    if (expected_task_state)
        json_add(kwargs, "expected_task_state", expected_states(expected_task_state));
    conductor_object_action(nova->conductor, context, json_object_get(save->primitive), "save",
                            NULL, kwargs, instance_saved, save);
}

/* ---- events and faults ---- */

static void nova_event(struct cloud *cloud, struct json_object *context, const char *instance_uuid,
                       const char *event, bool finished, const struct err *failure)
{
    const char *const args[] = {instance_uuid, event};
    struct json_object *kwargs = json_object_new_object();

    json_add_bool(kwargs, "want_result", false);
    if (finished) {
        /* a traceback makes it an error, the value is what users read */
        _cleanup_(str_freep) char *trace =
            failure ? text_format("%s: %s", err_wire_class(failure), failure->text) : NULL;
        json_add_string(kwargs, "exc_val", failure ? failure->text : NULL);
        json_add_string(kwargs, "exc_tb", trace);
    } else {
        json_add_string(kwargs, "host", cloud->host);
    }
    conductor_class_action(nova_of(cloud)->conductor, context, "InstanceActionEvent",
                           finished ? "event_finish_with_failure" : "event_start",
                           array_of(args, ARRAY_LEN(args)), kwargs, NULL, NULL);
}

static void nova_fault(struct cloud *cloud, struct json_object *context, const char *instance_uuid,
                       const struct err *failure)
{
    struct object *fault = conductor_object_new("InstanceFault");
    _cleanup_(str_freep) char *message = text_escape(failure->text, FAULT_MESSAGE_MAX - 3);
    _cleanup_(str_freep) char *details =
        text_format("%s: %s", err_wire_class(failure), failure->text);

    object_set_string(fault, "instance_uuid", instance_uuid);
    object_set_int(fault, "code", err_http_code(failure->code));
    object_set_string(fault, "message", message);
    object_set_string(fault, "details", details);
    object_set_string(fault, "host", cloud->host);
    conductor_object_action(nova_of(cloud)->conductor, context, object_to_json(fault), "create",
                            NULL, NULL, NULL, NULL);
    object_free(fault);
}

/* ---- reading ---- */

static void nova_block_devices(struct cloud *cloud, struct json_object *context,
                               const struct instance *instance, cloud_result_fn done, void *aux)
{
    conductor_class_action(nova_of(cloud)->conductor, context, "BlockDeviceMappingList",
                           "get_by_instance_uuid", one(instance_uuid(instance)), NULL, end_list,
                           result_end_new(done, aux));
}

static struct json_object *expected_attrs(const char *const *names, size_t count)
{
    struct json_object *kwargs = json_object_new_object();

    json_add(kwargs, "expected_attrs", array_of(names, count));
    return kwargs;
}

static void nova_instances(struct cloud *cloud, cloud_result_fn done, void *aux)
{
    static const char *const attrs[] = {"flavor", "metadata", "system_metadata", "info_cache",
                                        "numa_topology"};

    conductor_class_action(nova_of(cloud)->conductor, NULL, "InstanceList", "get_by_host",
                           one(cloud->host), expected_attrs(attrs, ARRAY_LEN(attrs)), end_list,
                           result_end_new(done, aux));
}

/* What nova-compute looks for in _destroy_evacuated_instances(). */
static void nova_evacuations(struct cloud *cloud, struct json_object *context, cloud_result_fn done,
                             void *aux)
{
    static const char *const statuses[] = {"accepted", "pre-migrating", "done"};
    struct json_object *filters = json_object_new_object(), *args = json_object_new_array();

    json_add_string(filters, "source_compute", cloud->host);
    json_add(filters, "status", array_of(statuses, ARRAY_LEN(statuses)));
    json_add_string(filters, "migration_type", "evacuation");
    json_object_array_add(args, filters);
    conductor_class_action(nova_of(cloud)->conductor, context, "MigrationList", "get_by_filters",
                           args, NULL, end_list, result_end_new(done, aux));
}

static void nova_instance_get(struct cloud *cloud, struct json_object *context, const char *uuid,
                              cloud_result_fn done, void *aux)
{
    static const char *const attrs[] = {
        "flavor",      "metadata",      "system_metadata", "info_cache", "security_groups",
        "pci_devices", "pci_requests",  "numa_topology",   "vcpu_model", "migration_context",
        "resources",   "trusted_certs", "device_metadata", "tags",
    };

    conductor_class_action(nova_of(cloud)->conductor, context, "Instance", "get_by_uuid", one(uuid),
                           expected_attrs(attrs, ARRAY_LEN(attrs)), done, aux);
}

static void nova_migration_get(struct cloud *cloud, struct json_object *context, const char *uuid,
                               cloud_result_fn done, void *aux)
{
    conductor_class_action(nova_of(cloud)->conductor, context, "Migration", "get_by_uuid",
                           one(uuid), NULL, done, aux);
}

static void nova_node_service_read(struct cloud *cloud, cloud_result_fn done, void *aux)
{
    const char *const args[] = {cloud->host, "nova-compute"};

    conductor_class_action(nova_of(cloud)->conductor, NULL, "Service", "get_by_host_and_binary",
                           array_of(args, ARRAY_LEN(args)), NULL, done, aux);
}

static void nova_node_records_read(struct cloud *cloud, cloud_result_fn done, void *aux)
{
    static const char *const none[] = {"ComputeHostNotFound", NULL};
    struct end *end = result_end_new(done, aux);

    end->fine = none;
    conductor_class_action(nova_of(cloud)->conductor, NULL, "ComputeNodeList", "get_all_by_host",
                           one(cloud->host), NULL, end_list, end);
}

/* ---- writing ---- */

static void nova_instance_destroy(struct cloud *cloud, struct json_object *context,
                                  const struct instance *instance, cloud_done_fn done, void *aux)
{
    static const char *const keep[] = {"id", "uuid", "host", NULL};
    static const char *const gone[] = {"InstanceNotFound", NULL};
    struct object *copy = object_copy(instance->object);

    object_clear_changes(copy);
    conductor_object_action(nova_of(cloud)->conductor, context, object_to_json_reduced(copy, keep),
                            "destroy", NULL, NULL, end_done, end_new(done, aux, gone));
    object_free(copy);
}

static void nova_info_cache_save(struct cloud *cloud, struct json_object *context,
                                 const char *instance_uuid, struct json_object *network_info,
                                 cloud_done_fn done, void *aux)
{
    struct object *cache = conductor_object_new("InstanceInfoCache");
    _cleanup_(str_freep) char *text = network_info ? json_text(network_info) : text_dup("[]");

    object_set_string(cache, "instance_uuid", instance_uuid);
    object_set_string(cache, "network_info", text);
    conductor_object_action(nova_of(cloud)->conductor, context, object_to_json(cache), "save", NULL,
                            NULL, end_done, end_new(done, aux, NULL));
    object_free(cache);
}

static void nova_block_device(struct cloud *cloud, struct json_object *context,
                              struct json_object *block_device, bool destroy, cloud_done_fn done,
                              void *aux)
{
    static const char *const gone[] = {"NotFound", "InstanceNotFound", NULL};
    struct json_object *primitive = json_copy(block_device);

    /* the instance is no column of the mapping */
    json_object_object_del(json_get(primitive, "nova_object.data"), "instance");
    if (destroy)
        json_object_object_del(primitive, "nova_object.changes");
    conductor_object_action(nova_of(cloud)->conductor, context, primitive,
                            destroy ? "destroy" : "save", NULL, NULL, end_done,
                            end_new(done, aux, destroy ? gone : NULL));
}

static void nova_virtual_interface_create(struct cloud *cloud, struct json_object *context,
                                          const char *instance_uuid, const char *port_id,
                                          const char *mac, const char *tag, cloud_done_fn done,
                                          void *aux)
{
    /* the database refuses a second row of one port: a repeated attempt, or a port attached again */
    static const char *const there[] = {"VirtualInterfaceCreateException", NULL};
    struct object *vif = conductor_object_new("VirtualInterface");
    _cleanup_(str_freep) char *address = text_format("%s/%s", mac, port_id);

    object_set_string(vif, "address", address);
    object_set_string(vif, "instance_uuid", instance_uuid);
    object_set_string(vif, "uuid", port_id);
    object_set_string(vif, "tag", tag);
    conductor_object_action(nova_of(cloud)->conductor, context, object_to_json(vif), "create", NULL,
                            NULL, end_done, end_new(done, aux, there));
    object_free(vif);
}

static void nova_virtual_interfaces_delete(struct cloud *cloud, struct json_object *context,
                                           const char *instance_uuid, cloud_done_fn done, void *aux)
{
    conductor_class_action(nova_of(cloud)->conductor, context, "VirtualInterface",
                           "delete_by_instance_uuid", one(instance_uuid), NULL, end_done,
                           end_new(done, aux, NULL));
}

struct row_delete {
    struct nova *nova;
    struct json_object *context;
    cloud_done_fn done;
    void *aux;
};

static void row_found(void *aux, struct json_object *result, const struct err *failure)
{
    struct row_delete row = *(struct row_delete *)aux;

    free(aux);
    if (failure || !result)
        row.done(row.aux, failure);
    else
        conductor_object_action(row.nova->conductor, row.context, json_copy(result), "destroy",
                                NULL, NULL, end_done, end_new(row.done, row.aux, NULL));
    json_object_put(row.context);
}

static void nova_virtual_interface_delete(struct cloud *cloud, struct json_object *context,
                                          const char *port_id, cloud_done_fn done, void *aux)
{
    struct row_delete *row = NEW(struct row_delete);

    row->nova = nova_of(cloud);
    row->context = json_object_get(context);
    row->done = done;
    row->aux = aux;
    conductor_class_action(row->nova->conductor, context, "VirtualInterface", "get_by_uuid",
                           one(port_id), NULL, row_found, row);
}

static void nova_migration_context_drop(struct cloud *cloud, struct json_object *context,
                                        const struct instance *instance, cloud_done_fn done,
                                        void *aux)
{
    struct json_object *primitive = instance_to_json(instance);

    json_object_object_del(primitive, "nova_object.changes");
    conductor_object_action(nova_of(cloud)->conductor, context, primitive, "drop_migration_context",
                            NULL, NULL, end_done, end_new(done, aux, NULL));
}

static void nova_action_start(struct cloud *cloud, struct json_object *context,
                              const char *instance_uuid, const char *action, cloud_done_fn done,
                              void *aux)
{
    const char *const args[] = {instance_uuid, action};
    struct json_object *kwargs = json_object_new_object();

    json_add_bool(kwargs, "want_result", false);
    conductor_class_action(nova_of(cloud)->conductor, context, "InstanceAction", "action_start",
                           array_of(args, ARRAY_LEN(args)), kwargs, end_done,
                           end_new(done, aux, NULL));
}

static void nova_reschedule(struct cloud *cloud, struct json_object *context,
                            struct json_object *args, cloud_done_fn done, void *aux)
{
    /* 1.19: with request_spec and host_lists; newer conductors take it */
    conductor_task_cast(nova_of(cloud)->conductor, context, "build_instances", "1.19", args,
                        end_done, end_new(done, aux, NULL));
}

const struct cloud_ops cloud_nova_ops = {
    .name = "nova",
    .open = nova_open,
    .close = nova_close,
    .migration_save = nova_migration_save,
    .instance_save = nova_instance_save,
    .event = nova_event,
    .fault = nova_fault,
    .block_devices = nova_block_devices,
    .bindings = neutron_bindings,
    .bindings_warm = neutron_bindings_warm,
    .allocations = placement_allocations,
    .migrations = nova_migrations,
    .story_add = nova_story_add,
    .story_thin = nova_story_thin,
    .story = nova_story,
    .migrate = nova_migrate,
    .reload = nova_reload,
    .node_start = nova_node_start,
    .node_update = nova_node_update,
    .node_set_enabled = nova_node_set_enabled,
    .node_set_fault = nova_node_set_fault,
    .node_service_read = nova_node_service_read,
    .node_records_read = nova_node_records_read,
    .node_evacuations = nova_evacuations,
    .node_id = nova_node_id,
    .node_status = nova_node_status,
    .instances = nova_instances,
    .instance_get = nova_instance_get,
    .instance_destroy = nova_instance_destroy,
    .info_cache_save = nova_info_cache_save,
    .block_device = nova_block_device,
    .virtual_interface_create = nova_virtual_interface_create,
    .virtual_interfaces_delete = nova_virtual_interfaces_delete,
    .virtual_interface_delete = nova_virtual_interface_delete,
    .migration_get = nova_migration_get,
    .migration_context_drop = nova_migration_context_drop,
    .action_start = nova_action_start,
    .server_group_check = nova_server_group_check,
    .reschedule = nova_reschedule,
    .console_token = nova_console_token,
    .console_tokens_clean = nova_console_tokens_clean,
    .allocations_delete = placement_allocations_delete,
    .allocations_leave = placement_allocations_leave,
    .allocations_here = placement_allocations_here,
    .ports_allocate = neutron_ports_allocate,
    .ports_release = neutron_ports_release,
    .ports_refresh = neutron_ports_refresh,
    .port_attach = neutron_port_attach,
    .port_detach = neutron_port_detach,
    .ports_move_here = neutron_ports_move_here,
    .move = nova_api_move,
    .whereabouts = nova_api_whereabouts,
    .service_enable = nova_api_service_enable,
    .image_get = glance_image_get,
    .image_download = glance_image_download,
    .image_upload = glance_image_upload,
    .image_delete = glance_image_delete,
    .image_backups = glance_image_backups,
};
