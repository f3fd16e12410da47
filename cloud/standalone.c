/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control plane without OpenStack. What Nova's database keeps is in one SQLite file (cloud/store.c);
 * what nova-conductor does for a live migration is done here, with the very same requests. There are no
 * port bindings, allocations and volumes, so the calls on them have nothing to do and succeed.
 */
#include "cloud/cloud_provider.h"

#include <stdlib.h>
#include <string.h>

#include "cloud/store.h"
#include "lib/clock.h"
#include "lib/json.h"
#include "lib/log.h"

LOG_MODULE(standalone);

/* How much of the history stays. */
static void standalone_keep(struct cloud *cloud)
{
    store_keep(cloud->state, conf_int(cloud->conf, CONF_agent_history_days),
               conf_int(cloud->conf, CONF_agent_history_max));
}

static int standalone_open(struct cloud *cloud, struct err *e)
{
    const char *directory = conf_string(cloud->conf, CONF_agent_state_directory);
    _cleanup_(str_freep) char *path = text_format("%s/migrations.sqlite", directory);
    struct store *store = NULL;

    if (store_open(&store, cloud->loop, path, e) < 0)
        return -1;
    cloud->state = store;
    standalone_keep(cloud);
    return 0;
}

static void standalone_close(struct cloud *cloud)
{
    store_close(cloud->state);
}

static void standalone_migration_save(struct cloud *cloud, struct json_object *context,
                                      struct migration_record *record, const char *role,
                                      struct json_object *details, cloud_done_fn done, void *aux)
{
    (void)context;
    if (record)
        object_clear_changes(record->object);
    if (!details) {
        done(aux, NULL);
        return;
    }
    store_save_migration(cloud->state, json_get_string(details, "uuid", ""), role, details, done,
                         aux);
}

/* Where an instance is, is libvirt's to say; there is no second place that could differ. */
static void standalone_instance_save(struct cloud *cloud, struct json_object *context,
                                     struct instance *instance, const char *expected_task_state,
                                     cloud_done_fn done, void *aux)
{
    (void)cloud;
    (void)context;
    (void)expected_task_state;
    object_clear_changes(instance->object);
    done(aux, NULL);
}

static void standalone_event(struct cloud *cloud, struct json_object *context,
                             const char *instance_uuid, const char *event, bool finished,
                             const struct err *failure)
{
    store_add_event(cloud->state, instance_uuid, json_get_string(context, "request_id", NULL),
                    event, finished, failure ? failure->text : NULL);
}

static void standalone_fault(struct cloud *cloud, struct json_object *context,
                             const char *instance_uuid, const struct err *failure)
{
    (void)context;
    store_add_fault(cloud->state, instance_uuid, err_wire_class(failure), failure->text);
}

static void standalone_block_devices(struct cloud *cloud, struct json_object *context,
                                     const struct instance *instance, cloud_result_fn done,
                                     void *aux)
{
    _cleanup_(json_putp) struct json_object *none = json_object_new_array();

    (void)cloud;
    (void)context;
    (void)instance;
    done(aux, none, NULL);
}

static void standalone_bindings(struct cloud *cloud, struct json_object *context,
                                const struct instance *instance, const struct migrate_data *data,
                                const char *host, enum cloud_binding_change what,
                                cloud_done_fn done, void *aux)
{
    (void)cloud;
    (void)context;
    (void)instance;
    (void)data;
    (void)host;
    (void)what;
    done(aux, NULL);
}

static void standalone_allocations(struct cloud *cloud, struct json_object *context,
                                   const struct instance *instance,
                                   const struct migration_record *record, cloud_done_fn done,
                                   void *aux)
{
    (void)cloud;
    (void)context;
    (void)instance;
    (void)record;
    done(aux, NULL);
}

static void standalone_migrations(struct cloud *cloud, const char *key, const char *status,
                                  int limit, cloud_result_fn done, void *aux)
{
    store_migrations(cloud->state, key, status, limit, done, aux);
}

static void standalone_story_add(struct cloud *cloud, const char *uuid, const char *role,
                                 const char *kind, int64_t at_us, struct json_object *entry)
{
    store_story_add(cloud->state, uuid, role, kind, at_us, entry);
}

static void standalone_story_thin(struct cloud *cloud, const char *uuid, const char *role,
                                  const char *kind, int64_t from_us, int64_t every_s)
{
    store_story_thin(cloud->state, uuid, role, kind, from_us, every_s);
}

static void standalone_story(struct cloud *cloud, const char *uuid, const char *role,
                             cloud_result_fn done, void *aux)
{
    store_story(cloud->state, uuid, role, done, aux);
}

/* ---- the conductor's part ---- */

struct conduct {
    struct cloud *cloud;
    struct instance *instance;
    struct migration_record *record;
    struct migrate_data *data;
    struct json_object *context;
    char *destination;
    int block_migration, disk_over_commit;
    cloud_result_fn done;
    void *aux;
};

static void conduct_free(struct conduct *c)
{
    instance_free(c->instance);
    migration_record_free(c->record);
    migrate_data_free(c->data);
    json_object_put(c->context);
    free(c->destination);
    free(c);
}

/* The account until the source's agent takes it over. */
static struct json_object *first_account(const struct conduct *c, const char *message)
{
    struct json_object *o = json_object_new_object();
    char now[CLOCK_TEXT_SIZE];

    clock_format_object(clock_realtime_us(), now);
    json_add_int(o, "id", migration_record_id(c->record));
    json_add_string(o, "uuid", migration_record_uuid(c->record));
    json_add_string(o, "instance", instance_uuid(c->instance));
    /* the domain's name, as the later accounts have it */
    json_add_string(o, "name", object_string(c->instance->object, "hostname", NULL));
    json_add_string(o, "role", "source");
    json_add_string(o, "source", instance_host(c->instance));
    json_add_string(o, "dest", c->destination);
    json_add_string(o, "status", migration_record_status(c->record));
    json_add_string(o, "phase", "checking");
    json_add_string(o, "message", message);
    json_add_string(o, "created_at", now);
    json_add_string(o, "updated_at", now);
    return o;
}

static void save_account(const struct conduct *c, const char *message)
{
    _cleanup_(json_putp) struct json_object *account = first_account(c, message);

    store_save_migration(c->cloud->state, migration_record_uuid(c->record), "source", account, NULL,
                         NULL);
}

static void conduct_failed(struct conduct *c, const struct err *failure)
{
    if (c->record) {
        migration_record_set_status(c->record, "failed");
        save_account(c, failure->text);
    }
    c->done(c->aux, NULL, failure);
    conduct_free(c);
}

static struct json_object *tristate(int value)
{
    return value < 0 ? NULL : json_object_new_boolean(value);
}

static void cast_taken(void *aux, struct json_object *result, const struct err *failure)
{
    struct conduct *c = aux;

    (void)result;
    if (failure) {
        conduct_failed(c, failure);
        return;
    }
    _cleanup_(json_putp) struct json_object *primitive = migration_record_to_json(c->record);
    c->done(c->aux, primitive, NULL);
    conduct_free(c);
}

/* nova-conductor copies the new bindings into the VIFs; without Neutron they are the source's own. */
static void fill_bindings(struct conduct *c)
{
    struct json_object *filled = json_object_new_array();
    struct json_object *vifs = migrate_data_vifs(c->data);

    size_t count = json_object_is_type(vifs, json_type_array) ? json_object_array_length(vifs) : 0;

    for (size_t i = 0; i < count; i++) {
        _cleanup_(vif_migrate_data_freep) struct vif_migrate_data *v = NULL;
        _cleanup_(json_putp) struct json_object *source = NULL;
        if (vif_migrate_data_from_json(json_object_array_get_idx(vifs, i), &v, NULL) < 0)
            continue;
        const char *text = vif_migrate_data_source_vif(v);
        if (text && json_parse(text, strlen(text), &source, NULL) == 0) {
            vif_migrate_data_set_vif_type(v, json_get_string(source, "type", NULL));
            vif_migrate_data_set_vnic_type(v, json_get_string(source, "vnic_type", "normal"));
            _cleanup_(str_freep) char *details =
                json_get(source, "details") ? json_text(json_get(source, "details")) : NULL;
            vif_migrate_data_set_vif_details_json(v, details ? details : "{}");
            /* no delegation: the domain's XML is the only record, it must keep bridge and port */
            vif_migrate_data_set_profile_json(v, "{}");
        }
        vif_migrate_data_set_host(v, c->destination);
        json_object_array_add(filled, vif_migrate_data_to_json(v));
    }
    migrate_data_set_vifs(c->data, filled);
}

static void cast_to_source(struct conduct *c)
{
    struct json_object *args = json_object_new_object();
    struct rpc_target target = {.topic = "compute", .server = instance_host(c->instance)};
    struct rpc_options options = {
        .timeout_us = conf_int(c->cloud->conf, CONF_DEFAULT_rpc_response_timeout) * USEC_PER_SEC};

    json_add(args, "instance", instance_to_json(c->instance));
    json_add_string(args, "dest", c->destination);
    json_add(args, "block_migration",
             json_object_new_boolean(migrate_data_block_migration(c->data)));
    json_add(args, "migration", migration_record_to_json(c->record));
    json_add(args, "migrate_data", migrate_data_to_json(c->data));
    rpc_cast(c->cloud->rpc, &target, RPC_METHOD_live_migration, args, c->context, &options,
             cast_taken, c);
}

static void checked(void *aux, struct json_object *result, const struct err *failure)
{
    struct conduct *c = aux;
    struct err e = ERR_INIT;

    if (failure) {
        e = *failure;
        if (e.code == ERR_TIMEOUT || e.code == ERR_UNREACHABLE)
            err_prefix(&e, "host %s does not answer: ", c->destination);
        conduct_failed(c, &e);
        return;
    }
    if (migrate_data_from_json(result, &c->data, &e) < 0) {
        err_prefix(&e, "answer of %s: ", c->destination);
        conduct_failed(c, &e);
        return;
    }
    fill_bindings(c);
    cast_to_source(c);
}

static void ask_destination(struct conduct *c)
{
    const struct conf *conf = c->cloud->conf;
    struct json_object *args = json_object_new_object();
    struct rpc_target target = {.topic = "compute", .server = c->destination};
    struct rpc_options options = {
        /* a dead destination is noticed by the monitor, a slow one may take its time */
        .timeout_us = conf_int(conf, CONF_DEFAULT_long_rpc_timeout) * USEC_PER_SEC,
        .monitor_us = conf_int(conf, CONF_DEFAULT_rpc_response_timeout) * USEC_PER_SEC / 2,
    };

    json_add(args, "instance", instance_to_json(c->instance));
    json_add(args, "block_migration", tristate(c->block_migration));
    json_add(args, "disk_over_commit", tristate(c->disk_over_commit));
    json_add(args, "migration", migration_record_to_json(c->record));
    json_add(args, "limits", NULL);
    rpc_call(c->cloud->rpc, &target, RPC_METHOD_check_can_live_migrate_destination, args,
             c->context, &options, checked, c);
}

static struct migration_record *make_record(const struct conduct *c, int64_t id)
{
    struct object *o = object_new("Migration", "1.7");
    char uuid[37], now[CLOCK_TEXT_SIZE];

    text_new_uuid(uuid);
    clock_format_object(clock_realtime_us(), now);
    object_set_int(o, "id", id);
    object_set_string(o, "uuid", uuid);
    object_set_string(o, "source_compute", instance_host(c->instance));
    object_set_string(o, "source_node", instance_node(c->instance));
    object_set_string(o, "dest_compute", c->destination);
    object_set_string(o, "dest_node", c->destination);
    object_set_string(o, "instance_uuid", instance_uuid(c->instance));
    object_set_string(o, "status", "accepted");
    object_set_string(o, "migration_type", "live-migration");
    object_set_bool(o, "hidden", false);
    object_set_bool(o, "cross_cell_move", false);
    object_set_string(o, "created_at", now);
    object_clear_changes(o);
    return migration_record_wrap(o);
}

static void numbered(void *aux, struct json_object *result, const struct err *failure)
{
    struct conduct *c = aux;

    if (failure) {
        conduct_failed(c, failure);
        return;
    }
    if (!c->cloud->rpc) {
        struct err e = ERR_INIT;
        err_set(&e, ERR_CANCELLED, "the agent stops");
        conduct_failed(c, &e);
        return;
    }
    c->record = make_record(c, json_object_get_int64(result));
    save_account(c, NULL);
    ask_destination(c);
}

static int check_request(const struct cloud *cloud, const struct cloud_migrate_request *request,
                         struct err *e)
{
    if (!request->destination)
        return err_set(e, ERR_USAGE, "no destination is given; name the host to migrate to");
    if (text_check_hostname(request->destination, "destination", e) < 0)
        return -1;
    if (text_equal(request->destination, cloud->host))
        return err_set(e, ERR_PRECHECK, "instance %s is on %s already",
                       instance_uuid(request->instance), cloud->host);
    return 0;
}

static void standalone_migrate(struct cloud *cloud, const struct cloud_migrate_request *request,
                               cloud_result_fn done, void *aux)
{
    struct err e = ERR_INIT;

    if (check_request(cloud, request, &e) < 0) {
        done(aux, NULL, &e);
        return;
    }
    struct conduct *c = NEW(struct conduct);
    c->cloud = cloud;
    c->instance = instance_copy(request->instance);
    instance_set_task_state(c->instance, "migrating");
    object_clear_changes(c->instance->object);
    c->context = rpc_context_admin();
    c->destination = text_dup(request->destination);
    c->block_migration = request->block_migration;
    c->disk_over_commit = request->disk_over_commit;
    c->done = done;
    c->aux = aux;
    store_next_id(cloud->state, numbered, c);
}

const struct cloud_ops cloud_standalone_ops = {
    .name = "standalone",
    .open = standalone_open,
    .close = standalone_close,
    .migration_save = standalone_migration_save,
    .instance_save = standalone_instance_save,
    .event = standalone_event,
    .fault = standalone_fault,
    .block_devices = standalone_block_devices,
    .bindings = standalone_bindings,
    .allocations = standalone_allocations,
    .migrations = standalone_migrations,
    .story_add = standalone_story_add,
    .story_thin = standalone_story_thin,
    .story = standalone_story,
    .reload = standalone_keep,
    .migrate = standalone_migrate,
};
