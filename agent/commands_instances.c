/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The commands that look at guests, and `migrate`. What asks libvirt is a job on a worker with a deadline:
 * when libvirtd hangs the asker is told so, and all other commands go on.
 */
#include "agent/commands_internal.h"

#include <json-c/linkhash.h>
#include <string.h>

#include "agent/checks.h"
#include "agent/operation.h"
#include "lib/clock.h"
#include "lib/json.h"

#define LOOK_DEADLINE_US (8 * USEC_PER_SEC)

/* ---- a job of a command ---- */

/*
 * Between submission and its end `name`, `list`, `guest` and `e` are the worker's. Past the deadline the
 * command is answered, but the job stays until the worker gives it back.
 */
struct look {
    struct command *command; /* NULL once it is answered */
    struct virt *virt;
    char *name; /* uuid or name of the guest; NULL = all guests */
    struct virt_guest *guest;
    char *metadata; /* the guest's, if `found` wants it */
    bool wants_metadata;
    struct virt_guest **list;
    size_t count;
    int result;
    struct err e;
    void (*found)(struct command *command, struct look *look); /* ends the command */
    /* the same for a guest that is not here; NULL = the command fails */
    void (*gone)(struct command *command, const struct err *e);
};

static void look_run(void *aux)
{
    struct look *look = aux;

    look->result = look->name ? virt_guest_read(look->virt, look->name, &look->guest, &look->e)
                              : virt_guest_list(look->virt, &look->list, &look->count, &look->e);
    if (look->result == 0 && look->wants_metadata)
        look->result =
            virt_guest_metadata(look->virt, look->guest->uuid, &look->metadata, &look->e);
}

static void look_done(void *aux, enum work_end end)
{
    struct look *look = aux;
    struct command *command = STEAL(look->command);
    struct err e = ERR_INIT;

    if (end == WORK_OVERDUE)
        err_set(&e, ERR_TIMEOUT, "libvirt on %s did not answer within %d s", command->agent->host,
                (int)(LOOK_DEADLINE_US / USEC_PER_SEC));
    else if (end == WORK_DROPPED)
        err_set(&e, ERR_CANCELLED, "the agent on %s stops", command->agent->host);
    else if (look->result < 0)
        e = look->e;
    if (e.code == ERR_NO_INSTANCE && look->gone)
        look->gone(command, &e);
    else if (err_is_set(&e))
        command_fail(command, &e);
    else
        look->found(command, look);
}

static void look_release(void *aux)
{
    struct look *look = aux;

    virt_guest_free(look->guest);
    if (look->list)
        virt_guest_list_free(look->list, look->count);
    free(look->metadata);
    free(look->name);
    free(look);
}

static void migrate_found(struct command *command, struct look *look);

static struct look *look_at(struct command *command, const char *name,
                            void (*found)(struct command *command, struct look *look))
{
    struct look *look = NEW(struct look);
    struct work work = {.name = "look for a command",
                        .deadline_us = LOOK_DEADLINE_US,
                        .run = look_run,
                        .done = look_done,
                        .release = look_release,
                        .aux = look};

    look->command = command;
    look->virt = command->agent->virt;
    look->name = text_dup(name);
    look->wants_metadata = found == migrate_found;
    look->found = found;
    workers_submit(command->agent->workers, &work);
    return look;
}

static const char *task_of(const struct agent *agent, const char *uuid)
{
    for (const struct migration *m = agent->migrations; m; m = m->next)
        if (text_equal(m->instance_uuid, uuid) && command_is_under_way(m))
            return "migrating";
    return operation_running(agent, uuid);
}

/* ---- list ---- */

static void listed(struct command *command, struct look *look)
{
    struct json_object *o = json_object_new_object(), *list = json_object_new_array();

    for (size_t i = 0; i < look->count; i++) {
        const struct virt_guest *guest = look->list[i];
        struct json_object *row = json_object_new_object();
        json_add_string(row, "uuid", guest->uuid);
        json_add_string(row, "name", guest->name);
        json_add_string(row, "state", virt_state_name(guest->state));
        json_add_int(row, "memory_mb", guest->memory_kib / 1024);
        json_add_int(row, "vcpus", guest->vcpus);
        json_add_string(row, "task", task_of(command->agent, guest->uuid));
        json_object_array_add(list, row);
    }
    json_add(o, "instances", list);
    command_reply(command, o);
}

void command_list(struct command *command)
{
    (void)look_at(command, NULL, listed);
}

/* ---- show ---- */

struct show {
    struct command *command;
    struct json_object *result;
    struct err gone; /* why there is no instance to show: its migration alone, or this */
};

/* Consumes the account, which may be NULL. */
static void show_reply(struct command *command, struct json_object *o, struct json_object *account)
{
    json_add(o, "migration", account);
    if (account && json_get_bool(command->args, "timeline", false))
        command_reply_story(command, o, account, false);
    else
        command_reply(command, o);
}

static void show_ended(void *aux, struct json_object *result, const struct err *failure)
{
    struct show *show = aux;
    struct command *command = show->command;
    struct json_object *newest = NULL;

    /* the instance is what was asked for: without its history it is shown still */
    if (!failure && json_object_is_type(result, json_type_array))
        newest = json_object_array_get_idx(result, 0);
    if (!newest && err_is_set(&show->gone)) {
        command_fail(command, &show->gone);
        json_object_put(show->result);
        free(show);
        return;
    }
    show_reply(command, show->result, json_object_get(newest));
    free(show);
}

static struct json_object *guest_details(const struct agent *agent, const struct virt_guest *guest)
{
    struct json_object *o = virt_guest_to_json(guest);

    json_object_object_del(o, "cpu_xml"); /* for the other host, not for people */
    json_add_int(o, "memory_mb", guest->memory_kib / 1024);
    json_add_string(o, "host", agent->host);
    json_add_string(o, "task", task_of(agent, guest->uuid));
    return o;
}

static void shown(struct command *command, struct look *look)
{
    struct migration *m = command_newest(command->agent, look->guest->uuid);
    struct json_object *o = guest_details(command->agent, look->guest);

    if (m) {
        show_reply(command, o, migration_account(m));
        return;
    }
    struct show *show = NEW(struct show);
    show->command = command;
    show->result = o;
    cloud_migrations(command->agent->cloud, look->guest->uuid, NULL, 1, show_ended, show);
}

/* It may have left by the very migration whose timeline is asked for. */
static void show_gone(struct command *command, const struct err *e)
{
    const char *instance = json_get_string(command->args, "instance", "");
    struct show *show = NEW(struct show);

    *show = (struct show){command, json_object_new_object(), *e};
    cloud_migrations(command->agent->cloud, instance, NULL, 1, show_ended, show);
}

void command_show(struct command *command)
{
    const char *instance = NULL;
    int timeline = -1;
    struct err e = ERR_INIT;

    if (command_need_string(command, "instance", &instance, &e) < 0 ||
        command_opt_choice(command, "timeline", &timeline, &e) < 0)
        command_fail(command, &e);
    else if (timeline == 1)
        look_at(command, instance, shown)->gone = show_gone;
    else
        (void)look_at(command, instance, shown);
}

/* ---- migrate ---- */

struct migrate {
    struct command *command;
    char *instance_uuid, *instance_name;
};

/* What computectl shows of a migration, from the record that was just made. */
static struct json_object *new_account(const struct migrate *migrate, const char *host,
                                       const struct migration_record *record)
{
    struct json_object *o = json_object_new_object();

    json_add_int(o, "id", migration_record_id(record));
    json_add_string(o, "uuid", migration_record_uuid(record));
    json_add_string(o, "instance", migrate->instance_uuid);
    json_add_string(o, "name", migrate->instance_name);
    json_add_string(o, "role", migration_role_name(MIGRATION_SOURCE));
    json_add_string(o, "source", host);
    json_add_string(o, "dest", migration_record_dest_compute(record));
    json_add_string(o, "status", migration_record_status(record));
    json_add_string(o, "phase", machine_state_text(MACHINE_SOURCE_ACCEPTED));
    return o;
}

static void migrate_started(const struct migrate *migrate, struct json_object *primitive)
{
    struct agent *agent = migrate->command->agent;
    _cleanup_(migration_record_freep) struct migration_record *record = NULL;
    struct err e = ERR_INIT;

    if (migration_record_from_json(primitive, &record, &e) < 0) {
        command_fail(migrate->command, &e);
        return;
    }
    struct migration *m = migration_find(agent, MIGRATION_SOURCE, migration_record_uuid(record));
    command_reply(migrate->command,
                  m ? migration_account(m) : new_account(migrate, agent->host, record));
}

static void migrate_ended(void *aux, struct json_object *result, const struct err *failure)
{
    struct migrate *migrate = aux;

    if (failure)
        command_fail(migrate->command, failure);
    else
        migrate_started(migrate, result);
    free(migrate->instance_uuid);
    free(migrate->instance_name);
    free(migrate);
}

static int check_guest(const struct agent *agent, const struct virt_guest *guest, struct err *e)
{
    const struct migration *m =
        migration_find_instance((struct agent *)(uintptr_t)agent, MIGRATION_SOURCE, guest->uuid);

    if (m)
        return err_set(e, ERR_INSTANCE_STATE, "instance %s is being migrated to %s already",
                       guest->name, m->destination_host);
    if (guest->state != VIRT_STATE_RUNNING && guest->state != VIRT_STATE_PAUSED)
        return err_set(e, ERR_INSTANCE_STATE,
                       "instance %s is %s; only a running or paused one can be moved live",
                       guest->name, virt_state_name(guest->state));
    const struct check_subject subject = {.host = agent->host, .guest = guest};
    return checks_run(CHECK_SOURCE_COMMAND, &subject, e);
}

static struct cloud_interface_facts *interface_facts(const struct virt_guest *guest)
{
    struct cloud_interface_facts *facts =
        NEW_ARRAY(struct cloud_interface_facts, guest->interface_count + 1);

    for (size_t i = 0; i < guest->interface_count; i++) {
        const struct virt_interface *nic = &guest->interfaces[i];
        facts[i] = (struct cloud_interface_facts){
            .mac = nic->mac,
            .bridge = nic->bridge,
            .tap = nic->target,
            .model = nic->model,
            .openvswitch = text_equal(nic->virtualport, "openvswitch"),
            .interface_id = nic->interface_id,
            .mtu = nic->mtu,
        };
    }
    return facts;
}

struct instance *command_instance_of(const struct agent *agent, const struct virt_guest *guest,
                                     struct json_object *settings)
{
    _cleanup_(mem_freep) struct cloud_interface_facts *interfaces = interface_facts(guest);
    struct cloud_instance_facts facts = {
        .uuid = guest->uuid,
        .name = guest->name,
        .title = guest->title,
        .host = agent->host,
        .memory_mb = guest->memory_kib / 1024,
        .vcpus = guest->vcpus,
        .power_state = virt_state_nova(guest->state),
        .interfaces = interfaces,
        .interface_count = guest->interface_count,
        .settings = settings,
    };

    return cloud_instance_from_facts(&facts);
}

int command_join_settings(const struct agent *agent, const char *name, const char *metadata,
                          struct json_object *given, struct json_object **out, struct err *e)
{
    _cleanup_(json_putp) struct json_object *own = NULL;
    struct settings unused = {0};

    if (metadata && json_parse(metadata, strlen(metadata), &own, e) < 0)
        return err_prefix(e, "settings in the metadata of %s: ", name);
    if (own && settings_change(agent->conf, &unused, own, e) < 0)
        return err_prefix(e, "settings in the metadata of %s: ", name);
    if (!own)
        own = json_object_new_object();
    if (given) {
        json_object_object_foreach (given, key, value) {
            json_object_object_add(own, key, json_object_get(value));
        }
    }
    *out = STEAL(own);
    return 0;
}

static void migrate_found(struct command *command, struct look *look)
{
    struct agent *agent = command->agent;
    struct virt_guest *guest = look->guest;
    struct err e = ERR_INIT;
    struct cloud_migrate_request request = {.destination =
                                                json_get_string(command->args, "dest", NULL)};

    _cleanup_(json_putp) struct json_object *settings = NULL;

    if (check_guest(agent, guest, &e) < 0 ||
        command_join_settings(agent, guest->name, look->metadata,
                              json_get(command->args, "settings"), &settings, &e) < 0 ||
        command_opt_choice(command, "block_migration", &request.block_migration, &e) < 0 ||
        command_opt_choice(command, "disk_over_commit", &request.disk_over_commit, &e) < 0) {
        command_fail(command, &e);
        return;
    }
    struct migrate *migrate = NEW(struct migrate);
    _cleanup_(instance_freep) struct instance *instance =
        command_instance_of(agent, guest, settings);
    migrate->command = command;
    migrate->instance_uuid = text_dup(guest->uuid);
    migrate->instance_name = text_dup(guest->name);
    request.instance = instance;
    cloud_migrate(agent->cloud, &request, migrate_ended, migrate);
}

static int check_destination_host(const struct agent *agent, const char *dest, struct err *e)
{
    if (!dest || !*dest)
        return err_set(e, ERR_USAGE,
                       "no destination is given; standalone has no scheduler, so dest must name "
                       "the host to which the instance shall move");
    if (text_check_hostname(dest, "destination", e) < 0)
        return -1;
    if (text_equal(dest, agent->host))
        return err_set(e, ERR_USAGE, "the instance is on %s already; dest must be another host",
                       dest);
    return 0;
}

/* Judged here, where the operator sees the answer; on the way they are the flavor's extra specs. */
static int check_settings(const struct command *command, struct json_object *changes, struct err *e)
{
    struct settings settings = {0};

    if (!changes)
        return 0;
    if (!json_object_is_type(changes, json_type_object))
        return err_set(e, ERR_USAGE, "command %s: settings must be an object", command->name);
    if (json_object_object_length(changes) == 0)
        return 0;
    return settings_change(command->agent->conf, &settings, changes, e);
}

int command_check_move(const struct command *command, const char **instance, struct err *e)
{
    const struct agent *agent = command->agent;
    const char *dest;
    int unused;

    if (command_need_string(command, "instance", instance, e) < 0 ||
        command_opt_string(command, "dest", &dest, e) < 0 ||
        check_destination_host(agent, dest, e) < 0 ||
        command_opt_choice(command, "block_migration", &unused, e) < 0 ||
        command_opt_choice(command, "disk_over_commit", &unused, e) < 0)
        return -1;
    return check_settings(command, json_get(command->args, "settings"), e);
}

static int check_migrate(const struct command *command, const char **instance, struct err *e)
{
    if (command_check_move(command, instance, e) < 0)
        return -1;
    if (command->agent->draining)
        return err_set(e, ERR_MIGRATION, "%s is stopping and takes no new migration",
                       command->agent->host);
    return 0;
}

void command_migrate(struct command *command)
{
    const char *instance = NULL;
    struct err e = ERR_INIT;

    if (check_migrate(command, &instance, &e) < 0)
        command_fail(command, &e);
    else
        (void)look_at(command, instance, migrate_found);
}
