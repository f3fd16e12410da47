/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/agent_world.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/drain.h"
#include "agent/host_pair.h"
#include "agent/measure_early.h"
#include "agent/instance_make.h"
#include "agent/operation.h"
#include "cloud/cloud_provider.h"
#include "lib/clock.h"
#include "lib/fault.h"
#include "lib/json.h"
#include "lib/log.h"
#include "net/net_provider.h"
#include "tests/unit/capture.h"
#include "virt/storage.h"

#define EPOCH_US INT64_C(1795000000000000)

static int64_t now_us;
static int (*gate)(void *aux, struct err *e);
static void *gate_aux;

void world_gate(int (*fn)(void *aux, struct err *e), void *aux)
{
    gate = fn;
    gate_aux = aux;
}

static int pass_gate(struct err *e)
{
    return gate ? gate(gate_aux, e) : 0;
}

/* ---- Linux bridges are the fake's ---- */

static int bridge_check(const struct net_look *look, const struct net_port *port, struct err *e)
{
    return net_fake_ops.check(look, port, e);
}
static int bridge_ready(const struct net_look *look, const struct net_port *port, struct err *e)
{
    return net_fake_ops.ready(look, port, e);
}
static int bridge_wired(const struct net_look *look, const struct net_port *port, bool *wired,
                        struct err *e)
{
    return net_fake_ops.wired(look, port, wired, e);
}
static int bridge_present(const struct net_look *look, const struct net_port *port, bool *present,
                          struct err *e)
{
    return net_fake_ops.present(look, port, present, e);
}
static int bridge_plug(const struct net_look *look, const struct net_port *port, struct undo *undo,
                       struct err *e)
{
    return pass_gate(e) < 0 ? -1 : net_fake_ops.plug(look, port, undo, e);
}
static int bridge_unplug(const struct net_look *look, const struct net_port *port, struct err *e)
{
    return pass_gate(e) < 0 ? -1 : net_fake_ops.unplug(look, port, e);
}
static int bridge_hold(const struct net_look *look, const struct net_port *port, struct err *e)
{
    return net_fake_ops.hold(look, port, e);
}
static int bridge_audit(const struct net_look *look, struct net_audit_rows *rows, struct err *e)
{
    return net_fake_ops.audit(look, rows, e);
}
static int bridge_arm(struct net_armed_port *p, struct err *e)
{
    return net_fake_ops.arm(p, e);
}
static void bridge_disarm(struct net_armed_port *p)
{
    net_fake_ops.disarm(p);
}
static unsigned bridge_announce(struct net_armed_port *p, struct err *e)
{
    return net_fake_ops.announce(p, e);
}
const struct net_ops net_bridge_ops = {
    .name = "bridge",
    .check = bridge_check,
    .ready = bridge_ready,
    .wired = bridge_wired,
    .present = bridge_present,
    .plug = bridge_plug,
    .unplug = bridge_unplug,
    .hold = bridge_hold,
    .audit = bridge_audit,
    .arm = bridge_arm,
    .disarm = bridge_disarm,
    .announce = bridge_announce,
};

/* ---- lines ---- */

/* Of an effect that does not take place no line tells. */
static void add_line(struct world *w, char *line)
{
    if (pass_gate(NULL) < 0) {
        free(line);
        return;
    }
    w->lines = mem_resize(w->lines, (w->line_count + 1) * sizeof(char *));
    w->lines[w->line_count++] = line;
}

void world_forget(struct world *w)
{
    for (size_t i = 0; i < w->line_count; i++)
        free(w->lines[i]);
    w->line_count = 0;
    fake_rpc_forget(w->agent.rpc);
    virt_fake_forget_calls(w->agent.virt);
    net_fake_forget_calls(w->agent.net);
}

unsigned world_count(const struct world *w, const char *beginning)
{
    unsigned n = 0;

    for (size_t i = 0; i < w->line_count; i++)
        n += text_starts_with(w->lines[i], beginning);
    return n;
}

bool world_hypervisor_was_told(const struct world *w, const char *call)
{
    char **calls = virt_fake_calls(w->agent.virt);
    bool found = false;

    for (size_t i = 0; calls[i]; i++)
        found = found || text_equal(calls[i], call);
    text_vector_free(calls);
    return found;
}

size_t world_place(const struct world *w, const char *beginning)
{
    for (size_t i = 0; i < w->line_count; i++)
        if (text_starts_with(w->lines[i], beginning))
            return i;
    return SIZE_MAX;
}

void world_in_order(const struct world *w, const char *const *beginnings)
{
    size_t at = 0;

    for (; *beginnings; beginnings++) {
        size_t i = at;
        while (i < w->line_count && !text_starts_with(w->lines[i], *beginnings))
            i++;
        if (unit_check(i < w->line_count, __LINE__, __FILE__, "missing or too early: %s",
                       *beginnings))
            at = i + 1;
        else
            world_print(w);
    }
}

void world_print(const struct world *w)
{
    for (size_t i = 0; i < w->line_count; i++)
        printf("# %s\n", w->lines[i]);
}

char *world_words(const struct world *w, const char *role)
{
    struct text_buffer b = TEXT_BUFFER_INIT;
    _cleanup_(str_freep) char *beginning = text_format("status %s ", role);

    for (size_t i = 0; i < w->line_count; i++)
        if (text_starts_with(w->lines[i], beginning))
            text_buffer_printf(&b, "%s%s", b.length ? " " : "", w->lines[i] + strlen(beginning));
    return b.length ? text_buffer_take(&b) : text_dup("");
}

/* ---- the control plane that writes down ---- */

static int fake_open(struct cloud *cloud, struct err *e)
{
    (void)cloud;
    (void)e;
    return 0;
}

static void fake_close(struct cloud *cloud)
{
    (void)cloud;
}

/* The world is set right after opening. */
static struct world *world_of(const struct cloud *cloud)
{
    return cloud->state;
}

static void fake_save(struct cloud *cloud, struct json_object *context,
                      struct migration_record *record, const char *role,
                      struct json_object *details, cloud_done_fn done, void *aux)
{
    struct world *w = world_of(cloud);
    _cleanup_(str_freep) char *line =
        text_format("status %s %s", role, json_get_string(details, "status", "?"));
    bool counters = record && object_changed(record->object, "memory_remaining");

    (void)context;
    if (counters)
        add_line(w, text_dup("counters"));
    else
        add_line(w, STEAL(line));
    if (record)
        object_clear_changes(record->object);
    done(aux, NULL);
}

/* "instance saved on <host>: <field>=<value> ..., expecting <task state>" */
static void add_saved(struct world *w, const struct instance *instance, const char *expected)
{
    _cleanup_(json_putp) struct json_object *primitive = instance_to_json(instance);
    struct json_object *changes = json_get(primitive, "nova_object.changes");
    struct text_buffer b = TEXT_BUFFER_INIT;

    const char *host = instance_host(instance);
    text_buffer_printf(&b, "instance saved on %s:", host ? host : "null");
    for (size_t i = 0; changes && i < json_object_array_length(changes); i++) {
        const char *field = json_object_get_string(json_object_array_get_idx(changes, i));
        _cleanup_(str_freep) char *value =
            json_text(json_get(json_get(primitive, "nova_object.data"), field));
        text_buffer_printf(&b, " %s=%s", field, value);
    }
    if (expected)
        text_buffer_printf(&b, ", expecting %s", expected);
    add_line(w, text_buffer_take(&b));
}

static void fake_instance_save(struct cloud *cloud, struct json_object *context,
                               struct instance *instance, const char *expected_task_state,
                               cloud_done_fn done, void *aux)
{
    struct err e = ERR_INIT;

    (void)context;
    add_saved(world_of(cloud), instance, expected_task_state);
    if (fault_point("world.instance_save", &e) == 0)
        object_clear_changes(instance->object);
    done(aux, err_is_set(&e) ? &e : NULL);
}

static void fake_event(struct cloud *cloud, struct json_object *context, const char *instance_uuid,
                       const char *event, bool finished, const struct err *failure)
{
    (void)context;
    (void)instance_uuid;
    add_line(world_of(cloud), text_format("event %s%s%s", event,
                                          failure    ? " failed: "
                                          : finished ? " done"
                                                     : "",
                                          failure ? failure->text : ""));
}

static void fake_fault(struct cloud *cloud, struct json_object *context, const char *instance_uuid,
                       const struct err *failure)
{
    (void)context;
    (void)instance_uuid;
    UNIT_TRUE(err_is_set(failure));
    add_line(world_of(cloud), text_format("fault %s", failure->text));
}

static void fake_block_devices(struct cloud *cloud, struct json_object *context,
                               const struct instance *instance, cloud_result_fn done, void *aux)
{
    _cleanup_(json_putp) struct json_object *none = json_object_new_array();

    (void)cloud;
    (void)context;
    (void)instance;
    done(aux, none, NULL);
}

static void fake_bindings(struct cloud *cloud, struct json_object *context,
                          const struct instance *instance, const struct migrate_data *data,
                          const char *host, enum cloud_binding_change what, cloud_done_fn done,
                          void *aux)
{
    static const char *const words[] = {[CLOUD_BINDING_ANNOUNCE] = "announce",
                                        [CLOUD_BINDING_ACTIVATE] = "activate",
                                        [CLOUD_BINDING_DELETE] = "delete"};

    struct world *w = world_of(cloud);
    struct err e = ERR_INIT;

    (void)context;
    (void)instance;
    (void)data;
    add_line(w, text_format("bindings %s %s", words[what], host));
    if (w->bindings_fail == 0) {
        done(aux, NULL);
        return;
    }
    w->bindings_fail--;
    err_set(&e, ERR_UNREACHABLE, "scripted");
    done(aux, &e);
}

static void fake_allocations(struct cloud *cloud, struct json_object *context,
                             const struct instance *instance, const struct migration_record *record,
                             cloud_done_fn done, void *aux)
{
    (void)context;
    (void)record;
    add_line(world_of(cloud), text_format("allocations %s", instance ? "revert" : "drop"));
    done(aux, NULL);
}

static void fake_migrations(struct cloud *cloud, const char *instance_uuid, const char *status,
                            int limit, cloud_result_fn done, void *aux)
{
    _cleanup_(json_putp) struct json_object *none = json_object_new_array();

    (void)cloud;
    (void)instance_uuid;
    (void)status;
    (void)limit;
    done(aux, none, NULL);
}

static void fake_story_add(struct cloud *cloud, const char *uuid, const char *role,
                           const char *kind, int64_t at_us, struct json_object *entry)
{
    (void)cloud;
    (void)uuid;
    (void)role;
    (void)kind;
    (void)at_us;
    (void)entry;
}

static void fake_story_thin(struct cloud *cloud, const char *uuid, const char *role,
                            const char *kind, int64_t from_us, int64_t every_s)
{
    (void)cloud;
    (void)uuid;
    (void)role;
    (void)kind;
    (void)from_us;
    (void)every_s;
}

static void fake_story(struct cloud *cloud, const char *uuid, const char *role,
                       cloud_result_fn done, void *aux)
{
    fake_migrations(cloud, uuid, role, 0, done, aux);
}

static void fake_migrate(struct cloud *cloud, const struct cloud_migrate_request *request,
                         cloud_result_fn done, void *aux)
{
    struct err e = ERR_INIT;

    (void)cloud;
    (void)request;
    err_set(&e, ERR_NOT_IMPLEMENTED, "not in this world");
    done(aux, NULL, &e);
}

/* ---- instances, ports, images ---- */

/* Writes the line and ends the call; a fault point "world.<word>" makes it fail. */
static bool told(struct cloud *cloud, const char *word, char *line, struct err *e)
{
    _cleanup_(str_freep) char *point = text_format("world.%s", word);

    add_line(world_of(cloud), line);
    return fault_point(point, e) == 0;
}

static void tell_done(struct cloud *cloud, const char *word, char *line, cloud_done_fn done,
                      void *aux)
{
    struct err e = ERR_INIT;

    done(aux, told(cloud, word, line, &e) ? NULL : &e);
}

static void tell_result(struct cloud *cloud, const char *word, char *line,
                        struct json_object *result, cloud_result_fn done, void *aux)
{
    struct err e = ERR_INIT;

    if (!result)
        err_set(&e, ERR_NOT_IMPLEMENTED, "this world has no %s", word);
    if (told(cloud, word, line, &e) && result)
        done(aux, result, NULL);
    else
        done(aux, NULL, &e);
}

static void fake_instance_destroy(struct cloud *cloud, struct json_object *context,
                                  const struct instance *instance, cloud_done_fn done, void *aux)
{
    (void)context;
    (void)instance;
    tell_done(cloud, "instance_destroy", text_dup("instance destroyed"), done, aux);
}

static void fake_info_cache_save(struct cloud *cloud, struct json_object *context,
                                 const char *instance_uuid, struct json_object *network_info,
                                 cloud_done_fn done, void *aux)
{
    (void)context;
    (void)instance_uuid;
    tell_done(cloud, "info_cache_save",
              text_format("info cache of %zu", json_object_array_length(network_info)), done, aux);
}

static void fake_block_device(struct cloud *cloud, struct json_object *context,
                              struct json_object *block_device, bool destroy, cloud_done_fn done,
                              void *aux)
{
    struct json_object *data = json_get(block_device, "nova_object.data");

    (void)context;
    tell_done(cloud, "block_device",
              text_format("block device %s %s", destroy ? "destroyed" : "saved",
                          json_get_string(data, "device_name", "-")),
              done, aux);
}

static void fake_vif_create(struct cloud *cloud, struct json_object *context,
                            const char *instance_uuid, const char *port_id, const char *mac,
                            const char *tag, cloud_done_fn done, void *aux)
{
    (void)context;
    (void)instance_uuid;
    (void)tag;
    tell_done(cloud, "vif_create", text_format("vif %s %s", port_id, mac), done, aux);
}

static void fake_vifs_delete(struct cloud *cloud, struct json_object *context,
                             const char *instance_uuid, cloud_done_fn done, void *aux)
{
    (void)context;
    (void)instance_uuid;
    tell_done(cloud, "vifs_delete", text_dup("vifs deleted"), done, aux);
}

static void fake_server_group_check(struct cloud *cloud, struct json_object *context,
                                    const char *instance_uuid, const char *hint, cloud_done_fn done,
                                    void *aux)
{
    struct err e = ERR_INIT;

    (void)context;
    (void)instance_uuid;
    if (told(cloud, "server_group_check",
             text_format("server group %s looked at", hint ? hint : "of the instance"), &e)) {
        done(aux, NULL);
        return;
    }
    snprintf(e.wire_class, sizeof(e.wire_class), "GroupAffinityViolation");
    done(aux, &e);
}

static void fake_instance_get(struct cloud *cloud, struct json_object *context, const char *uuid,
                              cloud_result_fn done, void *aux)
{
    _cleanup_(json_putp) struct json_object *args = world_args("008");
    struct err e = ERR_INIT;

    (void)context;
    if (!world_of(cloud)->knows_instance) {
        err_set(&e, ERR_NOT_IMPLEMENTED, "nobody knows instance %s", uuid);
        done(aux, NULL, &e);
        return;
    }
    json_add_string(world_data(args, "instance"), "task_state", world_of(cloud)->task_state);
    tell_result(cloud, "instance_get", text_dup("instance read"), json_get(args, "instance"), done,
                aux);
}

static void fake_reschedule(struct cloud *cloud, struct json_object *context,
                            struct json_object *args, cloud_done_fn done, void *aux)
{
    struct json_object *retry = json_get(json_get(args, "filter_properties"), "retry");

    (void)context;
    json_object_put(world_of(cloud)->rescheduled);
    world_of(cloud)->rescheduled = args;
    tell_done(cloud, "reschedule",
              text_format("reschedule: %s", json_get_string(retry, "exc_reason", "-")), done, aux);
}

static void fake_allocations_delete(struct cloud *cloud, struct json_object *context,
                                    const char *consumer_uuid, cloud_done_fn done, void *aux)
{
    (void)context;
    (void)consumer_uuid;
    tell_done(cloud, "allocations_delete", text_dup("allocation deleted"), done, aux);
}

static void fake_allocations_leave(struct cloud *cloud, struct json_object *context,
                                   const char *consumer_uuid, cloud_done_fn done, void *aux)
{
    (void)context;
    (void)consumer_uuid;
    tell_done(cloud, "allocations_leave", text_dup("allocation of this host left"), done, aux);
}

static void fake_migration_context_drop(struct cloud *cloud, struct json_object *context,
                                        const struct instance *instance, cloud_done_fn done,
                                        void *aux)
{
    (void)context;
    (void)instance;
    tell_done(cloud, "migration_context_drop", text_dup("migration context dropped"), done, aux);
}

static void fake_ports_allocate(struct cloud *cloud, struct json_object *context,
                                const struct instance *instance, struct json_object *requested,
                                struct json_object *security_groups, cloud_result_fn done,
                                void *aux)
{
    (void)context;
    (void)instance;
    (void)requested;
    (void)security_groups;
    tell_result(cloud, "ports_allocate", text_dup("ports allocated"), world_of(cloud)->network_info,
                done, aux);
}

static void fake_ports_release(struct cloud *cloud, struct json_object *context,
                               const struct instance *instance, cloud_done_fn done, void *aux)
{
    (void)context;
    (void)instance;
    tell_done(cloud, "ports_release", text_dup("ports released"), done, aux);
}

static void fake_ports_refresh(struct cloud *cloud, struct json_object *context,
                               const struct instance *instance, cloud_result_fn done, void *aux)
{
    (void)context;
    (void)instance;
    tell_result(cloud, "ports_refresh", text_dup("ports read"), world_of(cloud)->network_info, done,
                aux);
}

static void fake_ports_move_here(struct cloud *cloud, struct json_object *context,
                                 const struct instance *instance, cloud_result_fn done, void *aux)
{
    (void)context;
    (void)instance;
    tell_result(cloud, "ports_move_here", text_dup("ports moved here"),
                world_of(cloud)->network_info, done, aux);
}

static void fake_image_get(struct cloud *cloud, struct json_object *context, const char *image_id,
                           cloud_result_fn done, void *aux)
{
    _cleanup_(json_putp) struct json_object *record = json_object_new_object();

    (void)context;
    json_add_string(record, "id", image_id);
    json_add_string(record, "disk_format", "raw");
    tell_result(cloud, "image_get", text_format("image %s read", image_id), record, done, aux);
}

static void fake_image_download(struct cloud *cloud, struct json_object *context,
                                const char *image_id, int fd, cloud_result_fn done, void *aux)
{
    _cleanup_(json_putp) struct json_object *record = json_object_new_object();
    static const char data[] = "an image that any guest would boot";

    (void)context;
    UNIT_EQ(write(fd, data, sizeof(data)), (ssize_t)sizeof(data));
    UNIT_EQ(ftruncate(fd, 65536), 0);
    const char *format = world_of(cloud)->image_format;
    json_add_string(record, "disk_format", format ? format : "raw");
    tell_result(cloud, "image_download", text_format("image %s downloaded", image_id), record, done,
                aux);
}

static void fake_image_upload(struct cloud *cloud, struct json_object *context,
                              const char *image_id, struct json_object *fields, int fd,
                              cloud_done_fn done, void *aux)
{
    (void)context;
    (void)fd;
    tell_done(cloud, "image_upload",
              text_format("image %s uploaded as %s", image_id,
                          json_get_string(fields, "disk_format", "-")),
              done, aux);
}

static void fake_image_delete(struct cloud *cloud, struct json_object *context,
                              const char *image_id)
{
    (void)context;
    add_line(world_of(cloud), text_format("image %s deleted", image_id));
}

static void fake_image_backups(struct cloud *cloud, struct json_object *context,
                               const char *instance_uuid, const char *backup_type,
                               cloud_result_fn done, void *aux)
{
    (void)context;
    (void)instance_uuid;
    tell_result(cloud, "image_backups", text_format("backups of type %s read", backup_type),
                world_of(cloud)->backups, done, aux);
}

/* ---- the API ---- */

static void fake_move(struct cloud *cloud, const char *instance_uuid, const char *destination,
                      cloud_result_fn done, void *aux)
{
    _cleanup_(json_putp) struct json_object *taken = json_object_new_object();

    json_add_string(taken, "request", "req-1");
    if (world_of(cloud)->places)
        json_object_object_del(world_of(cloud)->places, instance_uuid);
    tell_result(cloud, "move",
                text_format("move %s to %s", instance_uuid, destination ? destination : "any"),
                taken, done, aux);
}

static void fake_whereabouts(struct cloud *cloud, const char *instance_uuid, const char *from,
                             const char *request, cloud_result_fn done, void *aux)
{
    struct json_object *place = json_get(world_of(cloud)->places, instance_uuid);
    _cleanup_(json_putp) struct json_object *busy = json_object_new_object();

    (void)request;
    json_add_string(busy, "host", from);
    json_add_bool(busy, "busy", true);
    tell_result(cloud, "whereabouts", text_format("whereabouts %s", instance_uuid),
                place ? place : busy, done, aux);
}

static void fake_service_enable(struct cloud *cloud, bool enabled, const char *reason,
                                cloud_result_fn done, void *aux)
{
    _cleanup_(json_putp) struct json_object *changed = json_object_new_object();

    (void)reason;
    json_add_bool(changed, "changed", true);
    tell_result(cloud, "service_enable",
                text_format("service %s", enabled ? "enabled" : "disabled"), changed, done, aux);
}

static const struct cloud_ops fake_cloud_ops = {
    .name = "fake",
    .open = fake_open,
    .close = fake_close,
    .migration_save = fake_save,
    .instance_save = fake_instance_save,
    .event = fake_event,
    .fault = fake_fault,
    .block_devices = fake_block_devices,
    .bindings = fake_bindings,
    .allocations = fake_allocations,
    .migrations = fake_migrations,
    .story_add = fake_story_add,
    .story_thin = fake_story_thin,
    .story = fake_story,
    .migrate = fake_migrate,
    .instance_destroy = fake_instance_destroy,
    .instance_get = fake_instance_get,
    .info_cache_save = fake_info_cache_save,
    .block_device = fake_block_device,
    .virtual_interface_create = fake_vif_create,
    .virtual_interfaces_delete = fake_vifs_delete,
    .server_group_check = fake_server_group_check,
    .reschedule = fake_reschedule,
    .allocations_delete = fake_allocations_delete,
    .allocations_leave = fake_allocations_leave,
    .migration_context_drop = fake_migration_context_drop,
    .ports_allocate = fake_ports_allocate,
    .ports_release = fake_ports_release,
    .ports_refresh = fake_ports_refresh,
    .ports_move_here = fake_ports_move_here,
    .move = fake_move,
    .whereabouts = fake_whereabouts,
    .service_enable = fake_service_enable,
    .image_get = fake_image_get,
    .image_download = fake_image_download,
    .image_upload = fake_image_upload,
    .image_delete = fake_image_delete,
    .image_backups = fake_image_backups,
};

/* ---- opening ---- */

static void watch_call(void *aux, const struct fake_call *call)
{
    struct world *w = aux;
    const char *source = world_state(w, WORLD_MIGRATION, "source");
    const char *state =
        text_equal(source, "-") ? world_state(w, WORLD_MIGRATION, "destination") : source;

    add_line(w, text_format("%s %s %s [%s]", call->cast ? "cast" : "call",
                            rpc_method_name(call->method), call->server, state));
}

static const struct undo_handler *join_handlers(struct agent *agent)
{
    struct undo_handler *disks = virt_storage_undo_handlers(agent->conf);
    const struct undo_handler *ports = net_undo_handlers(agent->net);
    struct undo_handler *rows = NEW_ARRAY(struct undo_handler, 16);
    size_t n = 0;

    for (const struct undo_handler *row = disks; row->name; row++)
        rows[n++] = *row;
    for (const struct undo_handler *row = ports; row->name && n < 14; row++)
        rows[n++] = *row;
    rows[n++] = instance_make_undo_handler(agent->virt);
    free(disks);
    return rows;
}

static void open_conf(struct world *w, const struct world_options *o)
{
    const char *const *s = o->settings;

    w->agent.host = text_dup(o->host ? o->host : "os-hosta");
    w->agent.conf = conf_for_test(
        "DEFAULT.host", w->agent.host, "DEFAULT.my_ip", "198.51.100.11", "DEFAULT.instances_path",
        w->instances, "agent.state_directory", w->directory, "agent.control_plane", "standalone",
        "DEFAULT.live_migration_retry_count", "1", "libvirt.live_migration_scheme", "tcp", s[0],
        s[1], s[2], s[3], s[4], s[5], s[6], s[7], s[8], s[9], s[10], s[11], NULL);
    UNIT_TRUE(w->agent.conf != NULL);
}

/* The half of a world that a restart makes anew. */
static void open_agent(struct world *w, struct virt *virt, struct net *net, struct rpc *rpc)
{
    const struct world_options *o = &w->options;
    struct agent *agent = &w->agent;
    _cleanup_(str_freep) char *journal = text_format("%s/journal", w->directory);

    agent->virt = virt;
    agent->net = net;
    agent->rpc = rpc;
    UNIT_OK(journal_open(&agent->journal, journal, &unit_err));
    UNIT_OK(workers_new(&agent->workers, agent->loop, o->threads ? o->threads : 1, &unit_err));
    UNIT_OK(workers_new(&agent->migrators, agent->loop, 8, &unit_err));
    if (!net)
        UNIT_OK(net_new(&agent->net, agent->loop, agent->conf, &unit_err));
    agent->undo_handlers = join_handlers(agent);
    if (o->switchover) {
        UNIT_OK(switchover_new(&agent->switchover, agent->loop, "127.0.0.1", 0,
                               agent_switchover_signal, agent, &unit_err));
        UNIT_OK(channel_listener_new(&agent->streams, agent->loop, "127.0.0.1", 0, &unit_err));
    }
    if (o->standalone) {
        UNIT_OK(
            cloud_new(&agent->cloud, agent->loop, agent->conf, agent->rpc, agent->host, &unit_err));
        return;
    }
    UNIT_OK(cloud_new_of(&agent->cloud, &fake_cloud_ops, agent->loop, agent->conf, agent->rpc,
                         agent->host, &unit_err));
    agent->cloud->state = w;
}

static void open_log(struct world *w)
{
    _cleanup_(str_freep) char *path = text_format("%s/log", w->directory);

    UNIT_OK(log_open(path, LOG_FORMAT_TEXT, &unit_err));
}

bool world_logged(struct world *w, const char *part)
{
    _cleanup_(str_freep) char *path = text_format("%s/log", w->directory);
    _cleanup_(str_freep) char *text = unit_read_file(path, NULL);

    return text && strstr(text, part) != NULL;
}

struct world *world_open(const struct world_options *options)
{
    static const struct virt_callbacks callbacks = {
        .connection = agent_virt_connection,
        .event = agent_virt_event,
        .iteration = agent_virt_iteration,
        .job_completed = agent_virt_job_completed,
    };
    static unsigned number;
    struct world *w = NEW(struct world);
    struct virt *virt = NULL;

    w->options = options ? *options : (struct world_options){0};
    now_us = EPOCH_US;
    clock_fake_set(now_us);
    w->directory = text_format("%s/world%u", unit_directory(), ++number);
    w->instances = text_format("%s/instances", w->directory);
    UNIT_EQ(mkdir(w->directory, 0700), 0);
    UNIT_EQ(mkdir(w->instances, 0755), 0);
    UNIT_OK(loop_new(&w->agent.loop, &unit_err));
    if (!w->options.quiet)
        open_log(w);
    open_conf(w, &w->options);
    UNIT_OK(virt_fake_new(&virt, w->agent.loop, &callbacks, &w->agent, &unit_err));
    struct rpc *rpc = fake_rpc_new();
    fake_rpc_watch(rpc, watch_call, w);
    open_agent(w, virt, NULL, rpc);
    w->agent.recovered = true;
    return w;
}

/* ---- closing ---- */

/* As agent/main.c does it. */
static void close_agent(struct world *w)
{
    struct agent *agent = &w->agent;

    agent->closing = true;
    drain_close(agent);
    fake_rpc_free(agent->rpc);
    agent_rpc_release(agent);
    workers_free(agent->workers, 3000000);
    virt_fake_set_up(agent->virt, false, "the world ends"); /* so that migrate calls return */
    workers_free(agent->migrators, 3000000);
    while (agent->migrations) {
        migration_drop_waiting(agent->migrations);
        migration_forget(agent->migrations);
    }
    cloud_free(agent->cloud);
    operation_close(agent);
    host_pairs_close(agent);
    measure_early_close(agent);
    json_object_put(agent->unfinished_builds);
    agent->unfinished_builds = NULL;
    switchover_free(agent->switchover);
    channel_listener_free(agent->streams);
    journal_free(agent->journal);
    free((void *)agent->undo_handlers);
    agent->cloud = NULL;
    agent->switchover = NULL;
    agent->streams = NULL;
}

void world_close(struct world *w)
{
    if (!w)
        return;
    fault_disarm_all();
    if (w->agent.rpc) /* not between the halves of a restart */
        close_agent(w);
    net_free(w->agent.net);
    virt_free(w->agent.virt);
    loop_turn(w->agent.loop, 0, NULL); /* the fake's last news */
    loop_free(w->agent.loop);
    conf_unref(w->agent.conf);
    free(w->agent.host);
    for (size_t i = 0; i < w->line_count; i++)
        free(w->lines[i]);
    free(w->lines);
    free(w->directory);
    free(w->instances);
    json_object_put(w->network_info);
    json_object_put(w->rescheduled);
    json_object_put(w->backups);
    json_object_put(w->places);
    if (!w->options.quiet)
        log_close();
    free(w);
    clock_fake_stop();
}

void world_crash(struct world *w)
{
    close_agent(w);
    w->agent.rpc = NULL;
}

void world_start(struct world *w)
{
    struct agent *agent = &w->agent;

    virt_fake_set_up(agent->virt, true, "");
    agent->closing = agent->recovered = agent->draining = false;
    agent->running_out = 0;
    struct rpc *rpc = fake_rpc_new();
    fake_rpc_watch(rpc, watch_call, w);
    open_agent(w, agent->virt, agent->net, rpc);
    recovery_start(agent);
}

void world_restart(struct world *w)
{
    world_settle(w);
    world_crash(w);
    world_start(w);
    world_settle(w);
}

/* ---- time and work ---- */

void world_turn(struct world *w)
{
    UNIT_EQ(loop_turn(w->agent.loop, 1, &unit_err) < 0, false);
}

static void barrier_run(void *aux)
{
    (void)aux;
}

static void barrier_done(void *aux, enum work_end end)
{
    (void)end;
    *(bool *)aux = true;
}

static void store_barrier_done(void *aux, struct json_object *result, const struct err *failure)
{
    (void)result;
    (void)failure;
    *(bool *)aux = true;
}

void world_settle(struct world *w)
{
    for (int i = 0; i < 12; i++) {
        bool done = false, stored = false;
        struct work work = {
            .name = "barrier", .run = barrier_run, .done = barrier_done, .aux = &done};
        workers_submit(w->agent.workers, &work);
        cloud_migrations(w->agent.cloud, NULL, NULL, 1, store_barrier_done, &stored);
        WORLD_UNTIL(w, done && stored);
        UNIT_EQ(loop_turn(w->agent.loop, 0, &unit_err) < 0, false);
    }
}

void world_pass(struct world *w, int64_t us, int64_t step_us)
{
    while (us > 0) {
        int64_t step = us < step_us ? us : step_us;
        now_us += step;
        us -= step;
        clock_fake_set(now_us);
        world_settle(w);
    }
}

/* ---- the journal ---- */

static char *record_path(struct world *w, const char *uuid, const char *role)
{
    return text_format("%s/journal/%s.%s.json", w->directory, uuid, role);
}

struct json_object *world_record(struct world *w, const char *uuid, const char *role)
{
    _cleanup_(str_freep) char *path = record_path(w, uuid, role);
    size_t length = 0;
    _cleanup_(str_freep) char *text = unit_read_file(path, &length);
    struct json_object *record = NULL;

    if (text)
        UNIT_EQ(json_parse(text, length, &record, &unit_err), 0);
    return record;
}

const char *world_state(struct world *w, const char *uuid, const char *role)
{
    static char state[64];
    _cleanup_(json_putp) struct json_object *record = world_record(w, uuid, role);

    snprintf(state, sizeof(state), "%s", json_get_string(record, "state", "-"));
    return state;
}

void world_leave_record(struct world *w, const char *uuid, const char *role,
                        struct json_object *record)
{
    UNIT_OK(journal_write(w->agent.journal, uuid, role, record, &unit_err));
}

struct migration *world_migration(struct world *w, enum migration_role role)
{
    return migration_find(&w->agent, role, WORLD_MIGRATION);
}

/* ---- messages ---- */

static char *recorded_name(const char *scene, const char *number)
{
    _cleanup_(str_freep) char *relative = text_format("tests/data/capture/%s", scene);
    _cleanup_(str_freep) char *folder = unit_source_path(relative);
    DIR *dir = opendir(folder);
    char *name = NULL;

    if (!UNIT_TRUE(dir != NULL))
        return NULL;
    for (struct dirent *d = readdir(dir); d && !name; d = readdir(dir))
        if (text_starts_with(d->d_name, number))
            name = text_format("%s/%s", scene, d->d_name);
    closedir(dir);
    return name;
}

static struct json_object *recorded(const char *scene, const char *number, const char *member)
{
    _cleanup_(str_freep) char *name = recorded_name(scene, number);
    _cleanup_(json_putp) struct json_object *message = name ? capture_load(name) : NULL;

    UNIT_TRUE(message != NULL);
    return json_copy(json_get(message, member));
}

struct json_object *world_args(const char *number)
{
    return recorded("live-migration", number, "args");
}

struct json_object *world_result(const char *number)
{
    return recorded("live-migration", number, "result");
}

struct json_object *world_boot_args(const char *number)
{
    return recorded("boot-delete", number, "args");
}

struct json_object *world_data(struct json_object *args, const char *object)
{
    return json_get(object ? json_get(args, object) : args, "nova_object.data");
}

struct fake_asked *world_ask(struct world *w, enum rpc_method_id method, struct json_object *args)
{
    return fake_rpc_ask(w->agent.rpc, agent_rpc_request, &w->agent, method, args, NULL);
}

/* ---- scenes ---- */

void world_add_guest(struct world *w, enum virt_state state)
{
    virt_fake_add(
        w->agent.virt, WORLD_INSTANCE, "instance-00000001",
        "<domain type='qemu'><name>instance-00000001</name><uuid>" WORLD_INSTANCE "</uuid>"
        "<memory unit='KiB'>262144</memory><vcpu>1</vcpu><os>"
        "<type arch='x86_64' machine='pc-i440fx-7.2'>hvm</type></os><devices>"
        "<emulator>/usr/bin/qemu-system-x86_64</emulator><interface type='bridge'>"
        "<mac address='fa:16:3e:00:00:3d'/><source bridge='brq83fa7b67-c9'/>"
        "<target dev='" WORLD_TAP "'/><model type='virtio'/></interface></devices></domain>",
        state);
}

void world_add_file(struct world *w, const char *name)
{
    _cleanup_(str_freep) char *directory = text_format("%s/" WORLD_INSTANCE, w->instances);
    _cleanup_(str_freep) char *path = text_format("%s/%s", directory, name);

    (void)mkdir(directory, 0755);
    unit_write_file(path, "the guest's data");
}

bool world_has_file(struct world *w, const char *name)
{
    _cleanup_(str_freep) char *path = text_format("%s/%s", w->instances, name);

    return access(path, F_OK) == 0;
}

struct fake_asked *world_begin_source(struct world *w)
{
    struct fake_asked *asked = world_ask(w, RPC_METHOD_live_migration, world_args("030"));

    world_settle(w);
    return asked;
}

void world_run_source(struct world *w)
{
    WORLD_UNTIL(w, fake_rpc_waiting(w->agent.rpc, RPC_METHOD_pre_live_migration));
    fake_rpc_answer(fake_rpc_waiting(w->agent.rpc, RPC_METHOD_pre_live_migration),
                    world_result("063"));
    WORLD_UNTIL(w, virt_fake_wait_migrating(w->agent.virt, WORLD_INSTANCE, 0));
    world_settle(w);
}

struct json_object *world_pre_args(const char *uuid)
{
    struct json_object *args = world_args("041");

    json_add(args, "disk", NULL);
    if (uuid) {
        _cleanup_(json_putp) struct json_object *other = world_args("030");
        struct json_object *migration = json_copy(json_get(other, "migration"));
        json_add_string(world_data(migration, NULL), "uuid", uuid);
        json_add(world_data(args, "migrate_data"), "migration", migration);
    }
    return args;
}

struct fake_asked *world_prepare_destination(struct world *w)
{
    struct fake_asked *asked =
        world_ask(w, RPC_METHOD_pre_live_migration, world_pre_args(WORLD_MIGRATION));

    world_settle(w);
    return asked;
}
