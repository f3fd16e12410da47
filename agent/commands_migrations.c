/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The commands about migrations: those in memory first, as they are newest, then the history that the
 * control plane keeps. Nothing here asks libvirt, so all of it works while libvirtd hangs.
 */
#include "agent/commands_internal.h"

#include <string.h>

#include "agent/source.h"
#include "lib/json.h"

enum { LIMIT_DEFAULT = 100, LIMIT_MAX = 1000 };

/* ---- which one ---- */

/* What a command names: a migration by number or uuid, or an instance by uuid or name. */
struct choice {
    int64_t id;           /* -1 = not by number */
    const char *uuid;     /* of the migration; NULL */
    const char *instance; /* NULL */
};

static int read_choice(const struct command *command, struct choice *out, struct err *e)
{
    struct json_object *o = json_get(command->args, "migration");
    struct choice choice = {.id = -1};

    if (command_opt_string(command, "instance", &choice.instance, e) < 0)
        return -1;
    if (choice.instance && (o || !*choice.instance))
        return err_set(e, ERR_USAGE, "command %s: give an instance or a migration%s", command->name,
                       o ? ", not both" : "");
    if (json_object_is_type(o, json_type_int) && json_object_get_int64(o) >= 0) {
        choice.id = json_object_get_int64(o);
    } else if (json_object_is_type(o, json_type_string)) {
        choice.uuid = json_object_get_string(o);
        if (text_check_uuid(choice.uuid, "migration", e) < 0)
            return -1;
    } else if (o) {
        return err_set(e, ERR_USAGE, "command %s: migration must be a number or a UUID",
                       command->name);
    }
    *out = choice;
    return 0;
}

static bool choice_is_open(const struct choice *choice)
{
    return choice->id < 0 && !choice->uuid && !choice->instance;
}

static bool is_instance(const char *wanted, const char *uuid, const char *name)
{
    return text_equal(wanted, uuid) || text_equal(wanted, name);
}

static bool choice_is(const struct choice *choice, const struct migration *m)
{
    if (choice->instance)
        return is_instance(choice->instance, m->instance_uuid, m->instance_name);
    return choice->uuid ? text_equal(choice->uuid, m->uuid) : choice->id == m->id;
}

static bool choice_is_account(const struct choice *choice, struct json_object *account)
{
    if (choice->instance)
        return is_instance(choice->instance, json_get_string(account, "instance", NULL),
                           json_get_string(account, "name", NULL));
    if (choice->uuid)
        return text_equal(choice->uuid, json_get_string(account, "uuid", NULL));
    return choice->id == json_get_int(account, "id", -1);
}

bool command_is_under_way(const struct migration *m)
{
    return !machine_state_is_final(m->state) && m->state != MACHINE_SOURCE_PARKED &&
           m->state != MACHINE_DESTINATION_PARKED;
}

struct migration *command_newest(const struct agent *agent, const char *instance_uuid)
{
    for (struct migration *m = agent->migrations; m; m = m->next)
        if (text_equal(m->instance_uuid, instance_uuid))
            return m;
    return NULL;
}

/* Without a name: the one that is under way. Several: the command must say which. */
static int find_the_one(const struct command *command, struct migration **out, struct err *e)
{
    struct agent *agent = command->agent;
    struct migration *found = NULL;
    int count = 0;

    for (struct migration *m = agent->migrations; m; m = m->next) {
        if (!command_is_under_way(m))
            continue;
        found = m;
        count++;
    }
    if (count == 0)
        return err_set(e, ERR_NO_MIGRATION, "no migration is under way on %s", agent->host);
    if (count > 1)
        return err_set(e, ERR_USAGE, "%d migrations are under way on %s; name one of them", count,
                       agent->host);
    *out = found;
    return 0;
}

static struct migration *find_chosen(const struct agent *agent, const struct choice *choice)
{
    for (struct migration *m = agent->migrations; m; m = m->next)
        if (choice_is(choice, m))
            return m;
    return NULL;
}

/* "migration 7", "migration <uuid>", "a migration of vm-a" */
static char *choice_text(const struct choice *choice)
{
    _cleanup_(str_freep) char *shown = text_escape(choice->instance ? choice->instance : "", 80);

    if (choice->instance)
        return text_format("a migration of %s", shown);
    if (choice->uuid)
        return text_format("migration %s", choice->uuid);
    return text_format("migration %lld", (long long)choice->id);
}

static int not_found(const struct agent *agent, const struct choice *choice, const char *what,
                     struct err *e)
{
    _cleanup_(str_freep) char *text = choice_text(choice);

    return err_set(e, ERR_NO_MIGRATION, "%s %s on %s", text, what, agent->host);
}

/* ---- with what happened ---- */

struct telling {
    struct command *command;
    struct json_object *answer, *account; /* the account is the answer or within it */
    bool with_samples;
};

static void told(void *aux, struct json_object *entries, const struct err *failure)
{
    struct telling *telling = aux;

    if (failure) {
        json_object_put(telling->answer);
        command_fail(telling->command, failure);
    } else {
        story_tell(telling->account, entries, telling->with_samples);
        command_reply(telling->command, telling->answer);
    }
    free(telling);
}

void command_reply_story(struct command *command, struct json_object *answer,
                         struct json_object *account, bool with_samples)
{
    struct telling *telling = NEW(struct telling);
    const char *uuid = json_get_string(account, "uuid", "");
    const char *role = json_get_string(account, "role", "source");
    enum migration_role in = text_equal(role, "source") ? MIGRATION_SOURCE : MIGRATION_DESTINATION;
    struct migration *m = migration_find(command->agent, in, uuid);

    if (m)
        migration_story_flush(m);
    *telling = (struct telling){command, answer, account, with_samples};
    cloud_story(command->agent->cloud, uuid, role, told, telling);
}

/* The account alone or, when the command asks for it, with its story. Consumes the account. */
static void reply_account(struct command *command, struct json_object *account)
{
    if (json_get_bool(command->args, "story", false))
        command_reply_story(command, account, account, true);
    else
        command_reply(command, account);
}

/* ---- migrations ---- */

struct listing {
    struct command *command;
    const char *instance, *status; /* in the command's arguments */
    int64_t limit;
    struct json_object *list;
};

static bool is_listed(const struct listing *l, struct json_object *account)
{
    if (l->status && !text_equal(l->status, json_get_string(account, "status", NULL)))
        return false;
    return !l->instance || is_instance(l->instance, json_get_string(account, "instance", NULL),
                                       json_get_string(account, "name", NULL));
}

/* Consumes the account. */
static void list_account(struct listing *l, struct json_object *account)
{
    if (is_listed(l, account) && (int64_t)json_object_array_length(l->list) < l->limit)
        json_object_array_add(l->list, account);
    else
        json_object_put(account);
}

static bool is_in_memory(const struct agent *agent, struct json_object *account)
{
    const char *uuid = json_get_string(account, "uuid", NULL);
    const char *role = json_get_string(account, "role", "source");

    for (const struct migration *m = agent->migrations; m; m = m->next)
        if (text_equal(m->uuid, uuid) && text_equal(migration_role_name(m->role), role))
            return true;
    return false;
}

static void list_memory(struct listing *l)
{
    for (struct migration *m = l->command->agent->migrations; m; m = m->next)
        list_account(l, migration_account(m));
}

static void listed(void *aux, struct json_object *result, const struct err *failure)
{
    struct listing *l = aux;
    struct command *command = l->command;
    struct json_object *list = l->list, *o;

    list_memory(l);
    for (size_t i = 0; i < json_array_length(result); i++) {
        struct json_object *account = json_object_array_get_idx(result, i);
        if (!is_in_memory(command->agent, account))
            list_account(l, json_object_get(account));
    }
    free(l);
    if (failure) {
        json_object_put(list);
        command_fail(command, failure);
        return;
    }
    o = json_object_new_object();
    json_add(o, "migrations", list);
    command_reply(command, o);
}

static int read_listing(struct listing *l, struct err *e)
{
    struct json_object *limit = json_get(l->command->args, "limit");

    if (command_opt_string(l->command, "instance", &l->instance, e) < 0 ||
        command_opt_string(l->command, "status", &l->status, e) < 0)
        return -1;
    l->limit = limit ? json_object_get_int64(limit) : LIMIT_DEFAULT;
    if ((limit && !json_object_is_type(limit, json_type_int)) || l->limit < 1 ||
        l->limit > LIMIT_MAX)
        return err_set(e, ERR_USAGE, "command migrations: limit must be a number from 1 to %d",
                       LIMIT_MAX);
    return 0;
}

void command_migrations(struct command *command)
{
    struct listing *l = NEW(struct listing);
    struct err e = ERR_INIT;

    l->command = command;
    if (read_listing(l, &e) < 0) {
        free(l);
        command_fail(command, &e);
        return;
    }
    bool by_uuid = l->instance && text_check_uuid(l->instance, "instance", NULL) == 0;
    bool by_name = l->instance && !by_uuid;
    l->list = json_object_new_array();
    /* the history knows uuids alone: a name is looked for in what it tells */
    cloud_migrations(command->agent->cloud, by_uuid ? l->instance : NULL, l->status,
                     by_name ? LIMIT_MAX : (int)l->limit, listed, l);
}

/* ---- migration ---- */

struct search {
    struct command *command;
    struct choice choice; /* texts in the command's arguments */
};

static bool began_later(struct json_object *a, struct json_object *b)
{
    return strcmp(json_get_string(a, "created_at", ""), json_get_string(b, "created_at", "")) > 0;
}

/* Of one guest's migrations the one that began last: what is in memory still may be older than what has left it. */
static void searched(void *aux, struct json_object *result, const struct err *failure)
{
    struct search *search = aux;
    struct command *command = search->command;
    const struct migration *ended = find_chosen(command->agent, &search->choice);
    _cleanup_(json_putp) struct json_object *own = ended ? migration_account(ended) : NULL;
    struct json_object *found = own;
    struct err e = ERR_INIT;

    for (size_t i = 0; i < json_array_length(result); i++) {
        struct json_object *account = json_object_array_get_idx(result, i);
        if (choice_is_account(&search->choice, account) &&
            (!found || (search->choice.instance && began_later(account, found))))
            found = account;
    }
    if (!found && !failure)
        not_found(command->agent, &search->choice, "is not known", &e);
    free(search);
    if (found)
        reply_account(command, json_object_get(found));
    else
        command_fail(command, failure ? failure : &e);
}

static void search_history(struct command *command, const struct choice *choice)
{
    struct search *search = NEW(struct search);
    _cleanup_(str_freep) char *number = text_format("%lld", (long long)choice->id);
    const char *key = choice->instance ? choice->instance : choice->uuid;

    search->command = command;
    search->choice = *choice;
    cloud_migrations(command->agent->cloud, key ? key : number, NULL, LIMIT_MAX, searched, search);
}

void command_migration(struct command *command)
{
    struct choice choice = {.id = -1};
    struct migration *m = NULL;
    int story = -1; /* looked at again in the answer */
    struct err e = ERR_INIT;

    if (read_choice(command, &choice, &e) < 0 ||
        command_opt_choice(command, "story", &story, &e) < 0 ||
        (choice_is_open(&choice) && find_the_one(command, &m, &e) < 0)) {
        command_fail(command, &e);
        return;
    }
    if (!m)
        m = find_chosen(command->agent, &choice);
    if (m && (!choice.instance || command_is_under_way(m))) {
        struct json_object *account = migration_account(m);
        source_add_streams(m, account);
        if (json_get_bool(command->args, "post_copy_lost", false)) /* a destination of ours asks */
            source_post_copy_ready(m);
        if (json_get_bool(command->args, "post_copy_gone", false))
            source_post_copy_gone(m);
        reply_account(command, account);
    } else {
        search_history(command, &choice);
    }
}

/* ---- abort, force-complete, set ---- */

static int need_source(const struct command *command, struct migration **out, struct err *e)
{
    struct agent *agent = command->agent;
    struct choice choice = {.id = -1};
    struct migration *m = NULL;

    if (read_choice(command, &choice, e) < 0)
        return -1;
    if (choice_is_open(&choice) && find_the_one(command, &m, e) < 0)
        return -1;
    if (!m)
        m = find_chosen(agent, &choice);
    if (!m)
        return not_found(agent, &choice, "is not under way", e);
    if (m->role != MIGRATION_SOURCE)
        return err_set(e, ERR_MIGRATION_STATE,
                       "migration %s comes to %s; its source %s has to be asked", m->uuid,
                       agent->host, m->source_host ? m->source_host : "(not known)");
    *out = m;
    return 0;
}

static void act(struct command *command, int (*action)(struct migration *m, struct err *e))
{
    struct migration *m = NULL;
    struct err e = ERR_INIT;

    if (need_source(command, &m, &e) < 0) {
        command_fail(command, &e);
        return;
    }
    migration_ref(m); /* an action may end it */
    if (action(m, &e) < 0) {
        command_fail(command, &e);
    } else {
        struct json_object *o = json_object_new_object();
        json_add(o, "migration", migration_account(m));
        command_reply(command, o);
    }
    migration_unref(m);
}

void command_abort(struct command *command)
{
    act(command, source_abort);
}

void command_force_complete(struct command *command)
{
    act(command, source_force_complete);
}

void command_set(struct command *command)
{
    struct json_object *settings = json_get(command->args, "settings");
    struct migration *m = NULL;
    struct err e = ERR_INIT;

    if (!json_object_is_type(settings, json_type_object))
        err_set(&e, ERR_USAGE, "command set: settings must be an object with what shall change");
    if (err_is_set(&e) || need_source(command, &m, &e) < 0 ||
        source_change_settings(m, settings, &e) < 0)
        command_fail(command, &e);
    else
        command_reply(command, migration_account(m));
}
