/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/relay.h"

#include "lib/clock.h"
#include "lib/json.h"
#include "lib/text.h"

#define RELAY_TIMEOUT_US (30 * USEC_PER_SEC)

struct relay {
    char *host;
    commands_done_fn done;
    void *aux;
};

static void relayed(void *aux, struct json_object *result, const struct err *failure)
{
    struct relay *relay = aux;

    if (failure) {
        struct err told = *failure;
        err_prefix(&told, "agent on %s: ", relay->host);
        relay->done(relay->aux, NULL, &told);
    } else {
        relay->done(relay->aux, result, NULL);
    }
    free(relay->host);
    free(relay);
}

/* The agent's own, in the name of the project that [standalone] gives. */
static struct json_object *relay_context(const struct conf *conf)
{
    struct json_object *context = rpc_context_admin();
    const char *project = conf_string(conf, CONF_standalone_project_id);

    json_add_string(context, "project", project);
    json_add_string(context, "project_id", project);
    return context;
}

/* A plan's asker waits no longer, and says then that the host is dead. */
#define PLAN_TIMEOUT_US (20 * USEC_PER_SEC)

/* `migrate` lasts as long as the destination's check; the other side tells meanwhile that it is at it. */
static struct rpc_options relay_options(const struct conf *conf, const char *command)
{
    struct rpc_options options = {.timeout_us = RELAY_TIMEOUT_US};

    if (text_equal(command, "migrate")) {
        options.timeout_us = conf_int(conf, CONF_DEFAULT_long_rpc_timeout) * USEC_PER_SEC;
        options.monitor_us = conf_int(conf, CONF_DEFAULT_rpc_response_timeout) * USEC_PER_SEC;
    }
    if (text_equal(command, "plan-destination"))
        options.timeout_us = PLAN_TIMEOUT_US;
    return options;
}

void relay_run(struct agent *agent, const char *host, const char *command, struct json_object *args,
               commands_done_fn done, void *aux)
{
    struct err e = ERR_INIT;
    struct rpc_target target = {.topic = "compute", .server = host};
    struct rpc_options options = relay_options(agent->conf, command);

    if (text_check_hostname(host, "host", &e) < 0) {
        done(aux, NULL, &e);
        return;
    }
    _cleanup_(json_putp) struct json_object *context = relay_context(agent->conf);
    struct json_object *message = json_object_new_object();
    struct relay *relay = NEW(struct relay);
    json_add_string(message, "command", command);
    json_add(message, "args", args ? json_copy(args) : json_object_new_object());
    relay->host = text_dup(host);
    relay->done = done;
    relay->aux = aux;
    rpc_call(agent->rpc, &target, RPC_METHOD_control, message, context, &options, relayed, relay);
}
