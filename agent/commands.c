/* SPDX-License-Identifier: Apache-2.0 */
/* The table of commands, the check of their arguments, and those that tell of the agent itself. */
#include "agent/commands.h"

#include <config.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <json-c/linkhash.h>

#include "agent/commands_internal.h"
#include "agent/node.h"
#include "agent/operation.h"
#include "lib/clock.h"
#include "lib/json.h"
#include "lib/log.h"
#include "lib/metrics.h"
#include "rpc/methods.h"

static const struct {
    const char *name;
    bool writes;
    void (*handler)(struct command *command);
    const char *args; /* words */
} rows[] = {
#define X(word, changes, function, words)                                                          \
    {.name = word, .writes = changes, .handler = function, .args = words},
    COMMANDS_LIST(X)
#undef X
};

/* ---- running ---- */

static int find_command(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (text_equal(name, rows[i].name))
            return (int)i;
    return -1;
}

bool commands_writes(const char *command)
{
    int i = find_command(command);

    return i < 0 || rows[i].writes;
}

static bool is_word_of(const char *words, const char *word)
{
    size_t length = strlen(word);

    for (const char *p = words; *p; p += strspn(p, " ")) {
        size_t n = strcspn(p, " ");
        if (n == length && memcmp(p, word, n) == 0)
            return true;
        p += n;
    }
    return false;
}

static int check_args(const char *name, const char *words, struct json_object *args, struct err *e)
{
    if (args && !json_object_is_type(args, json_type_object))
        return err_set(e, ERR_USAGE, "command %s: the arguments must be an object", name);
    if (!args)
        return 0;
    json_object_object_foreach (args, key, value) {
        _cleanup_(str_freep) char *shown = text_escape(key, 40);
        (void)value;
        if (!is_word_of(words, key))
            return err_set(e, ERR_USAGE, "command %s has no argument \"%s\"; it takes %s", name,
                           shown, *words ? words : "none");
    }
    return 0;
}

void commands_run(struct agent *agent, const char *name, struct json_object *args,
                  commands_done_fn done, void *aux)
{
    struct err e = ERR_INIT;
    int i = find_command(name);
    _cleanup_(str_freep) char *shown = text_escape(name ? name : "", 40);

    if (i < 0)
        err_set(&e, ERR_USAGE, "there is no command \"%s\"", shown);
    if (i < 0 || check_args(rows[i].name, rows[i].args, args, &e) < 0) {
        done(aux, NULL, &e);
        return;
    }
    struct command *command = NEW(struct command);
    *command = (struct command){
        .agent = agent,
        .name = rows[i].name,
        .args = args ? json_object_get(args) : json_object_new_object(),
        .done = done,
        .aux = aux,
    };
    rows[i].handler(command);
}

static void command_end(struct command *command, struct json_object *result,
                        const struct err *failure)
{
    command->done(command->aux, result, failure);
    json_object_put(result);
    json_object_put(command->args);
    free(command);
}

void command_reply(struct command *command, struct json_object *result)
{
    command_end(command, result, NULL);
}

void command_fail(struct command *command, const struct err *failure)
{
    command_end(command, NULL, failure);
}

/* ---- arguments ---- */

int command_opt_string(const struct command *command, const char *key, const char **out,
                       struct err *e)
{
    struct json_object *o = json_get(command->args, key);

    if (o && (!json_object_is_type(o, json_type_string) ||
              strlen(json_object_get_string(o)) != (size_t)json_object_get_string_len(o)))
        return err_set(e, ERR_USAGE, "command %s: %s must be a text", command->name, key);
    *out = o ? json_object_get_string(o) : NULL;
    return 0;
}

int command_need_string(const struct command *command, const char *key, const char **out,
                        struct err *e)
{
    const char *text;

    if (command_opt_string(command, key, &text, e) < 0)
        return -1;
    if (!text || !*text)
        return err_set(e, ERR_USAGE, "command %s: %s is missing", command->name, key);
    *out = text;
    return 0;
}

int command_opt_choice(const struct command *command, const char *key, int *out, struct err *e)
{
    struct json_object *o = json_get(command->args, key);

    if (o && !json_object_is_type(o, json_type_boolean))
        return err_set(e, ERR_USAGE, "command %s: %s must be true, false or null", command->name,
                       key);
    *out = o ? json_object_get_boolean(o) : -1;
    return 0;
}

/* ---- status ---- */

static struct json_object *status_agent(const struct agent *agent)
{
    struct json_object *o = json_object_new_object();

    json_add_string(o, "version", PACKAGE_VERSION);
    json_add_string(o, "host", agent->host);
    json_add_int(o, "uptime_s", (clock_monotonic_us() - agent->started_us) / USEC_PER_SEC);
    json_add_string(o, "control_plane", cloud_provider_name(agent->cloud));
    json_add_int(o, "pid", getpid());
    json_add_bool(o, "draining", agent->draining);
    return o;
}

static struct json_object *status_migrations(const struct agent *agent)
{
    struct json_object *o = json_object_new_object();
    int running = 0, queued = 0, incoming = 0, parked = 0;

    for (const struct migration *m = agent->migrations; m; m = m->next) {
        if (m->state == MACHINE_SOURCE_PARKED || m->state == MACHINE_DESTINATION_PARKED)
            parked++;
        else if (m->state == MACHINE_SOURCE_ACCEPTED || m->state == MACHINE_SOURCE_QUEUED)
            queued++;
        else if (!machine_state_is_final(m->state))
            *(m->role == MIGRATION_SOURCE ? &running : &incoming) += 1;
    }
    json_add_int(o, "running", running);
    json_add_int(o, "queued", queued);
    json_add_int(o, "incoming", incoming);
    json_add_int(o, "parked", parked);
    return o;
}

static struct json_object *status_methods(void)
{
    struct json_object *list = json_object_new_array();

    for (unsigned id = 0; id < RPC_METHOD_COUNT; id++) {
        const struct method *method = method_by_id((enum rpc_method_id)id);
        struct json_object *o = json_object_new_object();
        char version[24];
        snprintf(version, sizeof(version), "%d.%d", method->major, method->minor);
        json_add_string(o, "name", method->name);
        json_add_bool(o, "served", method->served);
        json_add_string(o, "version", version);
        json_add_string(o, "kind", method->kind == RPC_KIND_CALL ? "call" : "cast");
        json_add_string(o, "topic", method->alt ? "compute-alt" : "compute");
        json_add_string(o, "namespace", method_namespace_name(method->name_space));
        json_object_array_add(list, o);
    }
    return list;
}

void command_status(struct command *command)
{
    struct agent *agent = command->agent;
    struct err e = ERR_INIT;
    int methods;

    if (command_opt_choice(command, "methods", &methods, &e) < 0) {
        command_fail(command, &e);
        return;
    }
    struct json_object *o = json_object_new_object();
    json_add(o, "agent", status_agent(agent));
    json_add(o, "rpc", rpc_status(agent->rpc));
    json_add(o, "hypervisor", virt_status(agent->virt));
    json_add(o, "migrations", status_migrations(agent));
    if (agent->node)
        json_add(o, "node", node_status(agent));
    _cleanup_(json_putp) struct json_object *operations = operation_list(agent);
    json_add_int(o, "operations", (int64_t)json_object_array_length(operations));
    json_add_int(o, "stuck_workers",
                 workers_stuck(agent->workers) + workers_stuck(agent->migrators));
    if (methods == 1)
        json_add(o, "methods", status_methods());
    command_reply(command, o);
}

void command_operations(struct command *command)
{
    struct json_object *o = json_object_new_object();

    json_add(o, "operations", operation_list(command->agent));
    command_reply(command, o);
}

/* ---- stats ---- */

static struct json_object *stats_loop(const struct loop *loop)
{
    struct loop_slow slowest[16];
    struct json_object *list = json_object_new_array();
    unsigned count = loop_slowest(loop, slowest, ARRAY_LEN(slowest));

    for (unsigned i = 0; i < count; i++) {
        struct json_object *o = json_object_new_object();
        json_add_string(o, "name", slowest[i].name);
        json_add_int(o, "longest_us", slowest[i].longest_us);
        json_add_int(o, "calls", (int64_t)slowest[i].calls);
        json_object_array_add(list, o);
    }
    return list;
}

/* Our share of the memory in use (PSS: shared pages are divided among their users); -1 = not told. */
static int64_t memory_kib(void)
{
    char line[128];
    int64_t kib = -1;
    FILE *f = fopen("/proc/self/smaps_rollup", "re");

    while (f && kib < 0 && fgets(line, sizeof(line), f))
        if (text_starts_with(line, "Pss:"))
            kib = strtoll(line + strlen("Pss:"), NULL, 10);
    if (f)
        (void)fclose(f);
    return kib;
}

void command_stats(struct command *command)
{
    struct json_object *o = json_object_new_object(), *counters = json_object_new_object();

    for (unsigned i = 0; i < METRIC_COUNT; i++)
        json_add_int(counters, metric_name((enum metric)i), (int64_t)metric_get((enum metric)i));
    json_add(o, "counters", counters);
    json_add(o, "loop", stats_loop(command->agent->loop));
    json_add_int(o, "memory_kib", memory_kib());
    json_add_int(o, "allocated_kib", (int64_t)(mem_in_use() / 1024));
    command_reply(command, o);
}

/* ---- the log ---- */

static void add_level(void *aux, const char *module, enum log_level level)
{
    json_add_string(aux, module ? module : "all", log_level_name(level));
}

static int change_level(const struct command *command, struct err *e)
{
    const char *module, *word;
    enum log_level level;

    if (command_opt_string(command, "module", &module, e) < 0 ||
        command_opt_string(command, "level", &word, e) < 0)
        return -1;
    if (module && (!*module || strlen(module) > 31))
        return err_set(e, ERR_USAGE, "command log-level: module must have 1 to 31 characters");
    if (!word)
        return 0;
    _cleanup_(str_freep) char *shown = text_escape(word, 40);
    if (log_level_parse(word, &level) < 0)
        return err_set(e, ERR_USAGE,
                       "\"%s\" is not a level; it must be debug, info, warning or error", shown);
    log_set_level(module && !text_equal(module, "all") ? module : NULL, level);
    return 0;
}

static struct json_object *levels(const char *module)
{
    struct json_object *o = json_object_new_object();

    if (module && !text_equal(module, "all"))
        json_add_string(o, module, log_level_name(log_get_level(module)));
    else
        log_each_level(add_level, o);
    return o;
}

void command_log_level(struct command *command)
{
    struct err e = ERR_INIT;
    struct json_object *o;

    if (change_level(command, &e) < 0) {
        command_fail(command, &e);
        return;
    }
    o = json_object_new_object();
    json_add(o, "levels", levels(json_get_string(command->args, "module", NULL)));
    command_reply(command, o);
}

void command_debug_machine(struct command *command)
{
    _cleanup_(str_freep) char *dot = machine_dot();
    struct json_object *o = json_object_new_object();

    json_add_string(o, "dot", dot);
    command_reply(command, o);
}
