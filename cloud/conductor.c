/* SPDX-License-Identifier: Apache-2.0 */
/* Calls of nova-conductor: see the header. */
#include "cloud/conductor.h"

#include <stdlib.h>
#include <sys/queue.h>

#include "lib/clock.h"
#include "lib/json.h"
#include "lib/log.h"
#include "lib/text.h"

LOG_MODULE(conductor);

/* Pauses between attempts: the first is short, since a conductor that restarts is away for seconds. */
#define PAUSE_FIRST_US (500 * USEC_PER_MSEC)
#define PAUSE_MAX_US   (5 * USEC_PER_SEC)

struct conductor_call {
    TAILQ_ENTRY(conductor_call) link;
    struct conductor *conductor;
    char *what; /* "Instance.save", for the log */
    char *key;  /* calls of one key run in order; NULL = free */
    const char *method, *namespace_name, *version;
    char *named_method;
    struct json_object *args, *context;
    bool cast, once;
    bool running;             /* had its turn: an attempt is under way or a pause */
    bool asked;               /* an attempt is under way */
    struct rpc_call *attempt; /* its handle */
    int64_t deadline_us, timeout_us, pause_us;
    struct loop_timer *timer;
    cloud_result_fn done;
    void *aux;
};

struct conductor {
    struct loop *loop;
    struct rpc *rpc;
    int64_t patience_us, timeout_us;
    TAILQ_HEAD(calls, conductor_call) calls; /* in the order in which they were made */
    bool away;                               /* said so in the log */
    bool stopped;                            /* the bus ends its calls: nothing is asked any more */
};

static void attempt(struct conductor_call *call);

void conductor_reload(struct conductor *conductor, const struct conf *conf)
{
    conductor->patience_us = conf_int(conf, CONF_agent_conductor_patience) * USEC_PER_SEC;
    conductor->timeout_us = conf_int(conf, CONF_DEFAULT_rpc_response_timeout) * USEC_PER_SEC;
}

struct conductor *conductor_new(struct loop *loop, const struct conf *conf, struct rpc *rpc)
{
    struct conductor *conductor = NEW(struct conductor);

    conductor->loop = loop;
    conductor->rpc = rpc;
    TAILQ_INIT(&conductor->calls);
    conductor_reload(conductor, conf);
    return conductor;
}

/* ---- the end of a call ---- */

static void call_free(struct conductor_call *call)
{
    TAILQ_REMOVE(&call->conductor->calls, call, link);
    loop_timer_free(call->timer);
    json_object_put(call->args);
    json_object_put(call->context);
    free(call->named_method);
    free(call->what);
    free(call->key);
    free(call);
}

/* The next one that waits for this key has its turn. */
static void run_next(struct conductor *conductor, const char *key)
{
    struct conductor_call *call;

    TAILQ_FOREACH(call, &conductor->calls, link)
    {
        if (!text_equal(call->key, key))
            continue;
        if (!call->running) {
            call->running = true;
            loop_timer_arm(call->timer, 0);
        }
        return;
    }
}

static void call_end(struct conductor_call *call, struct json_object *result,
                     const struct err *failure)
{
    struct conductor *conductor = call->conductor;
    cloud_result_fn done = call->done;
    void *aux = call->aux;
    _cleanup_(str_freep) char *key = STEAL(call->key);

    if (failure && failure->code != ERR_CANCELLED && !done)
        log_err(LOG_LEVEL_WARNING, failure, "%s", call->what);
    call_free(call);
    if (key && !conductor->stopped)
        run_next(conductor, key);
    if (done)
        done(aux, failure ? NULL : result, failure);
}

static void call_cancel(struct conductor_call *call)
{
    struct err e = ERR_INIT;

    err_set(&e, ERR_CANCELLED, "%s: the agent stops", call->what);
    call_end(call, NULL, &e);
}

void conductor_free(struct conductor *conductor)
{
    if (!conductor)
        return;
    conductor->stopped = true;
    for (struct conductor_call *call; (call = TAILQ_FIRST(&conductor->calls));) {
        if (call->asked)
            rpc_call_cancel(call->attempt);
        else
            call_cancel(call);
    }
    free(conductor);
}

/* ---- attempts ---- */

/* No conductor was found, or the one that was had no database: another attempt may help. */
static bool is_passing(const struct err *failure)
{
    static const char *const classes[] = {"DBConnectionError", "DBDeadlock"};

    if (failure->code == ERR_TIMEOUT || failure->code == ERR_UNREACHABLE)
        return true;
    for (size_t i = 0; i < ARRAY_LEN(classes); i++)
        if (conductor_failed_with(failure, classes[i]))
            return true;
    return false;
}

static void tell_away(struct conductor *conductor, const struct conductor_call *call,
                      const struct err *failure)
{
    if (conductor->away)
        return;
    conductor->away = true;
    log_err(LOG_LEVEL_WARNING, failure, "nova-conductor is away, %s and others are tried again",
            call->what);
}

static void tell_back(struct conductor *conductor)
{
    if (conductor->away)
        log_info("nova-conductor answers again");
    conductor->away = false;
}

/* False when patience is over. */
static bool try_again(struct conductor_call *call, const struct err *failure)
{
    if (call->once || clock_monotonic_us() + call->pause_us >= call->deadline_us)
        return false;
    tell_away(call->conductor, call, failure);
    loop_timer_arm(call->timer, call->pause_us);
    call->pause_us = call->pause_us * 2 > PAUSE_MAX_US ? PAUSE_MAX_US : call->pause_us * 2;
    return true;
}

static void answered(void *aux, struct json_object *result, const struct err *failure)
{
    struct conductor_call *call = aux;

    call->asked = false;
    if (!failure) {
        tell_back(call->conductor);
        call_end(call, result, NULL);
        return;
    }
    if (failure->code == ERR_CANCELLED)
        call->conductor->stopped = true;
    else if (is_passing(failure) && try_again(call, failure))
        return;
    struct err e = *failure;
    err_prefix(&e, "%s: ", call->what);
    call_end(call, NULL, &e);
}

static int64_t attempt_timeout(const struct conductor_call *call)
{
    int64_t left_us = call->deadline_us - clock_monotonic_us();
    int64_t timeout_us = call->timeout_us < left_us ? call->timeout_us : left_us;

    return timeout_us > USEC_PER_SEC ? timeout_us : USEC_PER_SEC;
}

static void attempt(struct conductor_call *call)
{
    static const struct rpc_target target = {.topic = "conductor"};
    struct rpc_options options = {.version = call->version, .timeout_us = attempt_timeout(call)};
    struct rpc *rpc = call->conductor->rpc;

    call->asked = true;
    call->attempt = (call->cast ? rpc_cast_named : rpc_call_named)(
        rpc, &target, call->method, call->namespace_name, json_object_get(call->args),
        call->context, &options, answered, call);
}

static void on_timer(void *aux)
{
    struct conductor_call *call = aux;

    if (call->conductor->stopped)
        call_cancel(call);
    else
        attempt(call);
}

/* ---- making calls ---- */

static bool key_is_busy(const struct conductor *conductor, const char *key)
{
    const struct conductor_call *call;

    TAILQ_FOREACH(call, &conductor->calls, link)
    {
        if (text_equal(call->key, key))
            return true;
    }
    return false;
}

static struct conductor_call *call_new(struct conductor *conductor, struct json_object *context,
                                       struct json_object *args, cloud_result_fn done, void *aux)
{
    struct conductor_call *call = NEW(struct conductor_call);

    call->conductor = conductor;
    call->args = args;
    call->context = context ? json_object_get(context) : rpc_context_admin();
    call->timeout_us = conductor->timeout_us;
    call->pause_us = PAUSE_FIRST_US;
    call->deadline_us = clock_monotonic_us() + conductor->patience_us;
    call->timer = loop_timer_new(conductor->loop, "conductor", on_timer, call);
    call->done = done;
    call->aux = aux;
    return call;
}

/* Its first attempt, when its key is free. */
static void call_start(struct conductor_call *call)
{
    struct conductor *conductor = call->conductor;

    call->running = !call->key || !key_is_busy(conductor, call->key);
    TAILQ_INSERT_TAIL(&conductor->calls, call, link);
    if (conductor->stopped)
        loop_timer_arm(call->timer, 0);
    else if (call->running)
        attempt(call);
}

static struct json_object *object_or_new(struct json_object *o)
{
    return o ? o : json_object_new_object();
}

static struct json_object *array_or_new(struct json_object *o)
{
    return o ? o : json_object_new_array();
}

/* Starts and ends of one event must not overtake one another: a start that is not there has no end. */
static char *class_key(const char *class_name, struct json_object *args)
{
    if (!text_equal(class_name, "InstanceActionEvent"))
        return NULL;
    _cleanup_(str_freep) char *text = args ? json_text(args) : NULL;
    return text_format("%s %s", class_name, text ? text : "");
}

void conductor_class_action(struct conductor *conductor, struct json_object *context,
                            const char *class_name, const char *method, struct json_object *args,
                            struct json_object *kwargs, cloud_result_fn done, void *aux)
{
    struct json_object *message = json_object_new_object();
    struct conductor_call *call = call_new(conductor, context, message, done, aux);

    call->what = text_format("%s.%s", class_name, method);
    call->key = class_key(class_name, args);
    call->method = "object_class_action_versions";
    call->version = "3.0";
    json_add_string(message, "objname", class_name);
    json_add_string(message, "objmethod", method);
    json_add(message, "object_versions", conductor_manifest(class_name));
    json_add(message, "args", array_or_new(args));
    json_add(message, "kwargs", object_or_new(kwargs));
    call_start(call);
}

static char *object_key(struct json_object *objinst)
{
    struct json_object *data = json_get(objinst, "nova_object.data");
    const char *uuid = json_get_string(data, "uuid", json_get_string(data, "instance_uuid", NULL));

    return uuid ? text_format("%s %s", json_get_string(objinst, "nova_object.name", "?"), uuid)
                : NULL;
}

static struct conductor_call *object_call_new(struct conductor *conductor,
                                              struct json_object *context,
                                              struct json_object *objinst, const char *method,
                                              struct json_object *args, struct json_object *kwargs,
                                              cloud_result_fn done, void *aux)
{
    struct json_object *message = json_object_new_object();
    struct conductor_call *call = call_new(conductor, context, message, done, aux);

    call->what = text_format("%s.%s", json_get_string(objinst, "nova_object.name", "?"), method);
    call->key = object_key(objinst);
    call->method = "object_action";
    call->version = "3.0";
    json_add(message, "objinst", conductor_stamp(objinst));
    json_add_string(message, "objmethod", method);
    json_add(message, "args", array_or_new(args));
    json_add(message, "kwargs", object_or_new(kwargs));
    return call;
}

/* [updates, result], with names. */
struct object_end {
    cloud_result_fn done;
    void *aux;
};

static void object_answered(void *aux, struct json_object *result, const struct err *failure)
{
    struct object_end end = *(struct object_end *)aux;

    free(aux);
    if (!end.done)
        return;
    if (failure) {
        end.done(end.aux, NULL, failure);
        return;
    }
    _cleanup_(json_putp) struct json_object *named = json_object_new_object();
    if (json_object_is_type(result, json_type_array)) {
        json_add(named, "updates", json_object_get(json_object_array_get_idx(result, 0)));
        json_add(named, "result", json_object_get(json_object_array_get_idx(result, 1)));
    }
    end.done(end.aux, named, NULL);
}

static struct object_end *object_end_new(cloud_result_fn done, void *aux)
{
    struct object_end *end = NEW(struct object_end);

    end->done = done;
    end->aux = aux;
    return end;
}

void conductor_object_action(struct conductor *conductor, struct json_object *context,
                             struct json_object *objinst, const char *method,
                             struct json_object *args, struct json_object *kwargs,
                             cloud_result_fn done, void *aux)
{
    cloud_result_fn named = done ? object_answered : NULL;

    call_start(object_call_new(conductor, context, objinst, method, args, kwargs, named,
                               done ? object_end_new(done, aux) : NULL));
}

void conductor_object_try(struct conductor *conductor, struct json_object *objinst,
                          const char *method, int64_t timeout_us, cloud_result_fn done, void *aux)
{
    struct conductor_call *call = object_call_new(conductor, NULL, objinst, method, NULL, NULL,
                                                  object_answered, object_end_new(done, aux));

    call->once = true;
    call->timeout_us = timeout_us;
    call_start(call);
}

void conductor_task_cast(struct conductor *conductor, struct json_object *context,
                         const char *method, const char *version, struct json_object *args,
                         cloud_result_fn done, void *aux)
{
    struct conductor_call *call = call_new(conductor, context, args, done, aux);

    call->what = text_format("compute_task.%s", method);
    call->named_method = text_dup(method);
    call->method = call->named_method;
    call->namespace_name = "compute_task";
    call->version = version;
    call->cast = true;
    call_start(call);
}

/* ---- ping ---- */

struct ping {
    cloud_done_fn done;
    void *aux;
};

static void ponged(void *aux, struct json_object *result, const struct err *failure)
{
    struct ping ping = *(struct ping *)aux;

    (void)result;
    free(aux);
    ping.done(ping.aux, failure);
}

void conductor_ping(struct conductor *conductor, int64_t timeout_us, cloud_done_fn done, void *aux)
{
    struct json_object *args = json_object_new_object();
    struct ping *ping = NEW(struct ping);
    struct conductor_call *call = call_new(conductor, NULL, args, ponged, ping);

    ping->done = done;
    ping->aux = aux;
    json_add_string(args, "arg", "computed");
    call->what = text_dup("ping");
    call->method = "ping";
    call->namespace_name = "baseapi";
    call->version = "1.0";
    call->once = true;
    call->timeout_us = timeout_us;
    call_start(call);
}
