/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/instance_ask.h"

#include <stdarg.h>
#include <stdio.h>

#include "lib/clock.h"
#include "lib/json.h"

#define ASK_DEADLINE_US (50 * USEC_PER_SEC) /* callers wait 60 s */

int instance_refuse(struct err *e, enum err_code code, const char *wire_class, const char *format,
                    ...)
{
    char text[ERR_TEXT_SIZE];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    err_set(e, code, "%s", text);
    return err_set_class(e, wire_class, ERR_MODULE_NOVA);
}

static void free_ask(struct instance_ask *ask)
{
    instance_free(ask->instance);
    conf_unref(ask->conf);
    json_object_put(ask->result);
    free(ask->text);
    free(ask);
}

/* The answer is given; the worker may still have the ask (a job past its deadline). */
static struct rpc_request *take_request(struct instance_ask *ask)
{
    return STEAL(ask->request);
}

struct instance_ask *instance_ask_new(struct agent *agent, struct rpc_request *request,
                                      bool needs_instance)
{
    struct instance_ask *ask = NEW(struct instance_ask);
    struct err e = ERR_INIT;

    ask->agent = agent;
    ask->request = request;
    ask->conf = conf_ref(agent->conf);
    ask->virt = agent->virt;
    if (!needs_instance)
        return ask;
    if (instance_from_json(rpc_request_arg(request, "instance"), &ask->instance, &e) < 0 ||
        text_check_uuid(instance_uuid(ask->instance), "instance uuid", &e) < 0) {
        instance_ask_fail(ask, &e);
        return NULL;
    }
    ask->uuid = instance_uuid(ask->instance);
    return ask;
}

static void run(void *aux)
{
    struct instance_ask *ask = aux;

    ask->job_result = ask->run(ask, &ask->e);
}

/* Past its deadline a job leaves the ask behind: the thread still uses it. */
static void done(void *aux, enum work_end end)
{
    struct instance_ask *ask = aux;
    struct err e = ERR_INIT;

    if (end == WORK_OVERDUE) {
        err_set(&e, ERR_TIMEOUT, "the hypervisor did not answer within %d s",
                (int)(ASK_DEADLINE_US / USEC_PER_SEC));
        rpc_fail(take_request(ask), &e);
    } else if (end == WORK_DROPPED) {
        err_set(&e, ERR_CANCELLED, "the agent on %s stops", ask->agent->host);
        rpc_fail(take_request(ask), &e);
    }
}

static void finish(void *aux)
{
    struct instance_ask *ask = aux;

    if (!ask->request)
        free_ask(ask);
    else if (ask->job_result < 0)
        instance_ask_fail(ask, &ask->e);
    else if (ask->then)
        ask->then(ask);
    else
        instance_ask_reply(ask, STEAL(ask->result));
}

void instance_ask_submit(struct instance_ask *ask, const char *name)
{
    struct work work = {.name = name,
                        .deadline_us = ASK_DEADLINE_US,
                        .run = run,
                        .done = done,
                        .release = finish,
                        .aux = ask};

    workers_submit(ask->agent->workers, &work);
}

void instance_ask_reply(struct instance_ask *ask, struct json_object *result)
{
    rpc_reply(take_request(ask), result);
    free_ask(ask);
}

void instance_ask_fail(struct instance_ask *ask, const struct err *failure)
{
    struct err copy = *failure;

    rpc_fail(take_request(ask), &copy);
    free_ask(ask);
}
