/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of commands share. A handler gets a command that it owns and ends it exactly once, at
 * once or later, with command_reply() or command_fail(). Loop thread.
 */
#pragma once

#include "agent/commands.h"
#include "agent/migration.h"

struct command {
    struct agent *agent;
    const char *name;         /* of the table */
    struct json_object *args; /* an object with keys that the table knows; own reference */
    commands_done_fn done;
    void *aux;
};

/*  name               changes?  handler                 arguments */
#define COMMANDS_LIST(X)                                                                           \
    X("status", false, command_status, "methods")                                                  \
    X("stats", false, command_stats, "")                                                           \
    X("operations", false, command_operations, "")                                                 \
    X("list", false, command_list, "")                                                             \
    X("show", false, command_show, "instance timeline")                                            \
    X("migrations", false, command_migrations, "instance status limit")                            \
    X("migration", false, command_migration,                                                       \
      "migration instance story post_copy_lost post_copy_gone")                                    \
    X("migrate", true, command_migrate, "instance dest block_migration disk_over_commit settings") \
    X("plan", false, command_plan, "instance dest block_migration disk_over_commit settings")      \
    X("plan-destination", false, command_plan_destination,                                         \
      "instance guest disks identity images_type block_migration disk_over_commit")                \
    X("abort", true, command_abort, "migration instance")                                          \
    X("force-complete", true, command_force_complete, "migration instance")                        \
    X("set", true, command_set, "migration instance settings")                                     \
    X("drain", true, command_drain, "dest order parallel disable")                                 \
    X("drain-status", false, command_drain_status, "")                                             \
    X("drain-stop", true, command_drain_stop, "")                                                  \
    X("drain-undo", true, command_drain_undo, "")                                                  \
    X("conf-get", false, command_conf_get, "name")                                                 \
    X("conf-list", false, command_conf_list, "")                                                   \
    X("conf-reload", true, command_conf_reload, "")                                                \
    X("log-level", true, command_log_level, "module level")                                        \
    X("debug-machine", false, command_debug_machine, "")
#define X(name, writes, handler, args) void handler(struct command *command);
COMMANDS_LIST(X)
#undef X

/* End a command. The result is consumed; the failure is copied. */
void command_reply(struct command *command, struct json_object *result);
void command_fail(struct command *command, const struct err *failure);

/* Arguments: ERR_USAGE names the argument and what it may be. */
int command_need_string(const struct command *command, const char *key, const char **out,
                        struct err *e);
int command_opt_string(const struct command *command, const char *key, const char **out,
                       struct err *e);
/* 1, 0, or -1 when it is missing or null. */
int command_opt_choice(const struct command *command, const char *key, int *out, struct err *e);

/* ---- migrations (agent/commands_migrations.c) ---- */

/* True if the migration goes on here: neither at its end nor parked. */
bool command_is_under_way(const struct migration *migration);
/* The newest migration of an instance in memory, by its uuid; NULL if none. */
struct migration *command_newest(const struct agent *agent, const char *instance_uuid);
/* Replies with `answer` (consumed) when the story of the account's migration (agent/story.h) is added to
 * `account`, which is the answer or lies within it. */
void command_reply_story(struct command *command, struct json_object *answer,
                         struct json_object *account, bool with_samples);

/* ---- moving (agent/commands_instances.c) ---- */

/* The arguments of `migrate` and `plan`: instance, dest, how disks go, settings. */
int command_check_move(const struct command *command, const char **instance, struct err *e);
/*
 * What this migration may do beside the configuration: the domain's own settings (its metadata, a JSON object),
 * overridden by those of the command (`given`). Both are an operator's. `name` is the guest's.
 */
int command_join_settings(const struct agent *agent, const char *name, const char *metadata,
                          struct json_object *given, struct json_object **out, struct err *e);
/* Standalone: the Instance that a guest's facts make. */
struct instance *command_instance_of(const struct agent *agent, const struct virt_guest *guest,
                                     struct json_object *settings);
