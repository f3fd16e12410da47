/* SPDX-License-Identifier: Apache-2.0 */
/* The commands of the drain (agent/drain.h): each answers with the job as it stands then. */
#include "agent/commands_internal.h"

#include "agent/drain.h"
#include "lib/json.h"

enum { PARALLEL_MAX = 1000 };

static int read_request(const struct command *command, struct drain_request *out, struct err *e)
{
    struct json_object *parallel = json_get(command->args, "parallel");
    const char *order;
    int disable;

    if (command_opt_string(command, "dest", &out->destination, e) < 0 ||
        command_opt_string(command, "order", &order, e) < 0 ||
        command_opt_choice(command, "disable", &disable, e) < 0)
        return -1;
    int number = order ? drain_order_parse(order) : DRAIN_LARGEST;
    if (number < 0)
        return err_set(e, ERR_USAGE, "command drain: order must be largest, smallest or name");
    out->order = (enum drain_order)number;
    out->disable = disable == 1;
    out->parallel = parallel ? json_object_get_int64(parallel) : 0;
    if (parallel && (!json_object_is_type(parallel, json_type_int) || out->parallel < 1 ||
                     out->parallel > PARALLEL_MAX))
        return err_set(e, ERR_USAGE, "command drain: parallel must be a number from 1 to %d",
                       PARALLEL_MAX);
    return 0;
}

static void answer(struct command *command, int result, const struct err *failure)
{
    if (result < 0)
        command_fail(command, failure);
    else
        command_reply(command, drain_status(command->agent));
}

void command_drain(struct command *command)
{
    struct drain_request request = {0};
    struct err e = ERR_INIT;
    int result = read_request(command, &request, &e);

    if (result == 0)
        result = drain_begin(command->agent, &request, &e);
    answer(command, result, &e);
}

void command_drain_stop(struct command *command)
{
    struct err e = ERR_INIT;

    answer(command, drain_stop(command->agent, &e), &e);
}

void command_drain_undo(struct command *command)
{
    struct err e = ERR_INIT;

    answer(command, drain_undo(command->agent, &e), &e);
}

void command_drain_status(struct command *command)
{
    struct err e = ERR_INIT;
    int result = 0;

    if (!command->agent->drain)
        result = err_set(&e, ERR_INSTANCE_STATE, "%s was not drained", command->agent->host);
    answer(command, result, &e);
}
