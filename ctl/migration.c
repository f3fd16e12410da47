/* SPDX-License-Identifier: Apache-2.0 */
/* Commands about migrations: migrate, migrations, abort, force-complete, set. */
#include "ctl/ctl.h"

#include <inttypes.h>
#include <string.h>

#include "ctl/handlers.h"
#include "ctl/view.h"
#include "lib/json.h"

/* A number or a UUID of a migration. Numbers go as numbers. */
static struct json_object *migration_key(const char *text)
{
    struct json_object *key = json_object_new_object();
    int64_t number;

    if (text_to_int64(text, 1, INT64_MAX, &number, NULL) == 0)
        json_add_int(key, "migration", number);
    else
        json_add_string(key, "migration", text);
    return key;
}

/* The one migration under way, asked from the agent. */
static int only_one(struct ctl *ctl, struct json_object **out, struct err *e)
{
    _cleanup_(json_putp) struct json_object *result = NULL;
    struct json_object *found = NULL;
    size_t active = 0;

    if (ctl_call(ctl, "migrations", NULL, &result, e) < 0)
        return -1;
    struct json_object *list = json_get(result, "migrations");
    size_t count = json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;
    for (size_t i = 0; i < count; i++) {
        struct json_object *m = json_object_array_get_idx(list, i);
        if (view_is_active(m)) {
            found = m;
            active++;
        }
    }
    if (active == 0)
        return err_set(e, ERR_NO_MIGRATION, "no migration is running");
    if (active > 1)
        return err_set(e, ERR_USAGE, "%zu migrations are running, name an instance or a migration",
                       active);
    struct json_object *key = json_object_new_object();
    json_add(key, "migration", json_object_get(json_get(found, "id")));
    *out = key;
    return 0;
}

int ctl_target(struct ctl *ctl, const char *argument, struct json_object **out, struct err *e)
{
    const char *migration = ctl->values[CTL_OPTION_MIGRATION];

    if (migration && argument)
        return err_set(e, ERR_USAGE, "--migration and \"%s\" exclude each other", argument);
    if (migration ||
        (argument && *argument && strspn(argument, "0123456789") == strlen(argument))) {
        *out = migration_key(migration ? migration : argument);
        return 0;
    }
    if (!argument)
        return only_one(ctl, out, e);
    *out = json_object_new_object();
    json_add_string(*out, "instance", argument);
    return 0;
}

/* --- migrate ---------------------------------------------------------------------------------- */

int ctl_move_args(struct ctl *ctl, struct json_object **out, struct err *e)
{
    const char *to = ctl->values[CTL_OPTION_TO];
    struct json_object *settings;

    if (ctl_parse_settings(ctl, 1, &settings, e) < 0)
        return -1;
    struct json_object *args = json_object_new_object();
    bool block = ctl->values[CTL_OPTION_BLOCK], shared = ctl->values[CTL_OPTION_SHARED];
    json_add_string(args, "instance", ctl->arguments[0]);
    json_add_string(args, "dest", to);
    json_add(args, "block_migration", block || shared ? json_object_new_boolean(block) : NULL);
    json_add(args, "disk_over_commit",
             ctl->values[CTL_OPTION_OVERCOMMIT] ? json_object_new_boolean(true) : NULL);
    json_add(args, "settings", settings);
    *out = args;
    return 0;
}

static int tell_started(struct ctl *ctl, struct json_object *m, struct err *e)
{
    struct text_buffer text = TEXT_BUFFER_INIT;
    _cleanup_(str_freep) char *name = text_escape(json_get_string(m, "name", "-"), 80);
    _cleanup_(str_freep) char *dest = text_escape(json_get_string(m, "dest", "-"), 80);

    if (ctl_wants_json(ctl))
        return ctl_print_json(ctl, m, e);
    text_buffer_printf(&text,
                       "migration %" PRId64 " of %s to %s has started; computectl watch %" PRId64
                       " shows it\n",
                       json_get_int(m, "id", 0), name, dest, json_get_int(m, "id", 0));
    return ctl_print(ctl, &text, e);
}

int ctl_run_migrate(struct ctl *ctl, struct err *e)
{
    struct json_object *args;
    _cleanup_(json_putp) struct json_object *m = NULL;
    bool watch = ctl->values[CTL_OPTION_WATCH], wait = ctl->values[CTL_OPTION_WAIT];

    if (ctl_move_args(ctl, &args, e) < 0 || ctl_call(ctl, "migrate", args, &m, e) < 0)
        return -1;
    if (!watch && !wait)
        return tell_started(ctl, m, e);
    _cleanup_(json_putp) struct json_object *target = json_object_new_object();
    json_add(target, "migration", json_object_get(json_get(m, "id")));
    return ctl_follow(ctl, target, !watch, e);
}

/* --- the others ------------------------------------------------------------------------------- */

int ctl_run_migrations(struct ctl *ctl, struct err *e)
{
    struct json_object *args = json_object_new_object();
    _cleanup_(json_putp) struct json_object *result = NULL;
    struct text_buffer text = TEXT_BUFFER_INIT;
    const char *limit = ctl->values[CTL_OPTION_LIMIT];
    int64_t number;

    if (limit) {
        if (text_to_int64(limit, 1, 100000, &number, NULL) < 0) {
            json_object_put(args);
            return err_set(e, ERR_USAGE, "--limit %s: it must be an integer from 1 to 100000",
                           limit);
        }
        json_add_int(args, "limit", number);
    }
    if (ctl->argument_count)
        json_add_string(args, "instance", ctl->arguments[0]);
    if (ctl->values[CTL_OPTION_STATUS])
        json_add_string(args, "status", ctl->values[CTL_OPTION_STATUS]);
    if (ctl_call(ctl, "migrations", args, &result, e) < 0)
        return -1;
    if (ctl_wants_json(ctl))
        return ctl_print_json(ctl, result, e);
    view_table(&text, json_get(result, "migrations"));
    return ctl_print(ctl, &text, e);
}

/* abort and force-complete: the same request with another word. */
static int act_on(struct ctl *ctl, const char *command, const char *done, struct err *e)
{
    struct json_object *target;
    _cleanup_(json_putp) struct json_object *result = NULL;
    struct text_buffer text = TEXT_BUFFER_INIT;

    if (ctl_target(ctl, ctl->argument_count ? ctl->arguments[0] : NULL, &target, e) < 0 ||
        ctl_call(ctl, command, target, &result, e) < 0)
        return -1;
    if (ctl_wants_json(ctl))
        return ctl_print_json(ctl, result, e);
    struct json_object *m = json_get(result, "migration");
    _cleanup_(str_freep) char *name = text_escape(json_get_string(m, "name", "-"), 80);
    _cleanup_(str_freep) char *status = text_escape(json_get_string(m, "status", "-"), 80);
    text_buffer_printf(&text, "migration %" PRId64 " of %s %s; its status is %s\n",
                       json_get_int(m, "id", 0), name, done, status);
    return ctl_print(ctl, &text, e);
}

int ctl_run_abort(struct ctl *ctl, struct err *e)
{
    return act_on(ctl, "abort", "is being aborted", e);
}

int ctl_run_force_complete(struct ctl *ctl, struct err *e)
{
    return act_on(ctl, "force-complete", "is being completed", e);
}

int ctl_run_set(struct ctl *ctl, struct err *e)
{
    bool named = !strchr(ctl->arguments[0], '=');
    struct json_object *settings = NULL, *target;
    _cleanup_(json_putp) struct json_object *m = NULL;
    struct text_buffer text = TEXT_BUFFER_INIT;

    if (named && ctl->argument_count == 1)
        return err_set(e, ERR_USAGE, "a setting is missing: computectl set %s SETTING=VALUE...",
                       ctl->arguments[0]);
    if (ctl_parse_settings(ctl, named, &settings, e) < 0)
        return -1;
    if (ctl_target(ctl, named ? ctl->arguments[0] : NULL, &target, e) < 0) {
        json_object_put(settings);
        return -1;
    }
    json_add(target, "settings", settings);
    if (ctl_call(ctl, "set", target, &m, e) < 0)
        return -1;
    if (ctl_wants_json(ctl))
        return ctl_print_json(ctl, m, e);
    view_settings(&text, m);
    return ctl_print(ctl, &text, e);
}
