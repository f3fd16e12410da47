/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a drain moves a guest and finds out what became of it. By Nova's API: one request, and then the
 * server's own record tells. By the agents: the command `migrate` of the host where the guest is, as
 * computectl gives it, and the account of that migration tells.
 */
#include "agent/drain_internal.h"

#include <string.h>

#include "agent/commands_internal.h"
#include "agent/relay.h"
#include "cloud/moves.h"
#include "lib/clock.h"
#include "lib/json.h"

#define API_PERIOD_US   (2 * USEC_PER_SEC)
#define AGENT_PERIOD_US (1 * USEC_PER_SEC)

/* ---- Nova's API ---- */

static void api_taken(void *aux, struct json_object *result, const struct err *failure)
{
    bool perhaps = failure && (failure->code == ERR_TIMEOUT || failure->code == ERR_UNREACHABLE);

    drain_asked(aux, json_get_string(result, "request", "-"), failure, perhaps);
}

static void api_move(struct drain_call *call)
{
    cloud_move(call->drain->agent->cloud, drain_call_guest(call)->uuid, call->to, api_taken, call);
}

/* Somebody may have moved it on since: then it is no business of the undoing. */
static void api_place_read(void *aux, struct json_object *result, const struct err *failure)
{
    struct drain_call *call = aux;
    const char *host = json_get_string(result, "host", NULL);
    struct err e = ERR_INIT;

    if (!failure && text_equal(host, call->from)) {
        api_move(call);
        return;
    }
    if (!failure)
        err_set(&e, ERR_NO_INSTANCE, "it is on %s now, where this drain did not put it", host);
    drain_asked(call, NULL, failure ? failure : &e, false);
}

static void api_ask(struct drain_call *call)
{
    if (call->drain->undoing)
        cloud_whereabouts(call->drain->agent->cloud, drain_call_guest(call)->uuid, call->from, NULL,
                          api_place_read, call);
    else
        api_move(call);
}

/* Our own account of the migration, while it starts here. */
static struct json_object *own_account(const struct drain_call *call)
{
    const struct migration *m = command_newest(call->drain->agent, drain_call_guest(call)->uuid);

    return m && m->role == MIGRATION_SOURCE ? migration_account(m) : NULL;
}

static void api_seen(void *aux, struct json_object *result, const struct err *failure)
{
    struct drain_call *call = aux;
    const char *host = json_get_string(result, "host", NULL);
    const char *reason = json_get_string(result, "reason", NULL);
    _cleanup_(json_putp) struct json_object *account = own_account(call);

    if (failure && failure->code == ERR_NO_INSTANCE)
        drain_looked(call, DRAIN_LOST, NULL, "it was deleted", NULL);
    else if (failure)
        drain_looked(call, DRAIN_UNKNOWN, NULL, failure->text, account);
    else if (json_get_bool(result, "busy", false))
        drain_looked(call, DRAIN_GOES_ON, NULL, NULL, account);
    else if (!text_equal(host, call->from))
        drain_looked(call, DRAIN_ARRIVED, host, NULL, account);
    else if (!drain_call_guest(call)->attempt)
        drain_looked(call, DRAIN_NEVER, NULL, reason, NULL);
    else
        drain_looked(call, DRAIN_REFUSED, NULL,
                     reason ? reason : json_get_string(account, "message", NULL), account);
}

static void api_look(struct drain_call *call)
{
    const struct drain_guest *g = drain_call_guest(call);
    const char *request = g->attempt && text_starts_with(g->attempt, "req-") ? g->attempt : NULL;

    cloud_whereabouts(call->drain->agent->cloud, g->uuid, call->from, request, api_seen, call);
}

const struct drain_way drain_way_api = {
    .period_us = API_PERIOD_US, .ask = api_ask, .look = api_look};

/* ---- the agents ---- */

/* Consumes args. */
static void run_command(struct drain_call *call, const char *command, struct json_object *args,
                        commands_done_fn done)
{
    struct agent *agent = call->drain->agent;

    if (text_equal(call->from, agent->host))
        commands_run(agent, command, args, done, call);
    else
        relay_run(agent, call->from, command, args, done, call);
    json_object_put(args);
}

static void agent_taken(void *aux, struct json_object *result, const struct err *failure)
{
    drain_asked(aux, json_get_string(result, "uuid", NULL), failure, false);
}

static void agent_ask(struct drain_call *call)
{
    struct json_object *args = json_object_new_object();

    json_add_string(args, "instance", drain_call_guest(call)->uuid);
    json_add_string(args, "dest", call->to);
    run_command(call, "migrate", args, agent_taken);
}

/*
 * After a restart the name of the attempt may be missing. The newest migration of the guest is ours if it was
 * made since, unless it is one that an agent's end cut off before it became the machine's.
 */
static bool adopt(const struct drain_call *call, struct json_object *account)
{
    struct drain_guest *g = drain_call_guest(call);
    const char *uuid = json_get_string(account, "uuid", "");
    bool cut_off = text_equal(json_get_string(account, "phase", NULL), "checking");
    char asked[CLOCK_TEXT_SIZE];

    clock_format_object(g->asked_us, asked);
    if (cut_off || strcmp(json_get_string(account, "created_at", ""), asked) < 0)
        return false;
    g->attempt = text_dup(uuid);
    return true;
}

static enum drain_sight sight_of(const char *status)
{
    static const char *const bad[] = {"failed", "cancelled", "error", NULL};

    if (text_equal(status, "completed"))
        return DRAIN_ARRIVED;
    return text_is_one_of(status, bad) ? DRAIN_REFUSED : DRAIN_GOES_ON;
}

static void agent_seen(void *aux, struct json_object *result, const struct err *failure)
{
    struct drain_call *call = aux;
    bool named = drain_call_guest(call)->attempt != NULL;

    if (failure && failure->code == ERR_NO_MIGRATION)
        drain_looked(call, named ? DRAIN_REFUSED : DRAIN_NEVER, NULL, failure->text, NULL);
    else if (failure)
        drain_looked(call, DRAIN_UNKNOWN, NULL, failure->text, NULL);
    else if (!named && !adopt(call, result))
        drain_looked(call, DRAIN_NEVER, NULL, NULL, NULL);
    else
        drain_looked(call, sight_of(json_get_string(result, "status", NULL)),
                     json_get_string(result, "dest", NULL),
                     json_get_string(result, "message", NULL), result);
}

static void agent_look(struct drain_call *call)
{
    const struct drain_guest *g = drain_call_guest(call);
    struct json_object *args = json_object_new_object();

    if (g->attempt)
        json_add_string(args, "migration", g->attempt);
    else
        json_add_string(args, "instance", g->uuid);
    run_command(call, "migration", args, agent_seen);
}

const struct drain_way drain_way_agents = {
    .period_us = AGENT_PERIOD_US, .ask = agent_ask, .look = agent_look};
