/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/fake_rpc.h"

#include "lib/json.h"
#include "lib/text.h"
#include "lib/vector.h"
#include "rpc/methods.h"
#include "tests/unit/unit.h"

struct rpc_request {
    struct fake_asked *asked;
    enum rpc_method_id method;
    struct json_object *args, *context;
};

DEFINE_VECTOR(calls, struct fake_call *)
DEFINE_VECTOR(answers, struct fake_asked *)

struct rpc {
    struct calls calls;
    struct answers answers;
    void (*watch)(void *aux, const struct fake_call *call);
    void *watch_aux;
};

/* Requests may be ended after the rpc is freed, as with the real one: their answers outlive it. */
static struct answers former;
static unsigned rpc_count;

static void free_former(void)
{
    for (size_t i = 0; i < former.length; i++) {
        json_object_put(former.items[i]->result);
        free(former.items[i]);
    }
    free(former.items);
    former = (struct answers){0};
}

struct rpc *fake_rpc_new(void)
{
    if (rpc_count++ == 0)
        free_former();
    return NEW(struct rpc);
}

static void end_call(struct fake_call *call, struct json_object *result, const struct err *failure)
{
    UNIT_TRUE(!call->ended);
    call->ended = true;
    if (call->done)
        call->done(call->aux, result, failure);
    json_object_put(result);
}

static void free_call(struct fake_call *call)
{
    json_object_put(call->args);
    json_object_put(call->context);
    free(call->name);
    free(call->namespace_name);
    free(call->version);
    free(call->topic);
    free(call->server);
    free(call);
}

static void forget_answers(struct answers *answers)
{
    size_t kept = 0;

    for (size_t i = 0; i < answers->length; i++) {
        struct fake_asked *asked = answers->items[i];
        if (asked->end == FAKE_OPEN) {
            answers->items[kept++] = asked;
            continue;
        }
        json_object_put(asked->result);
        free(asked);
    }
    answers->length = kept;
}

void fake_rpc_forget(struct rpc *rpc)
{
    size_t kept = 0;

    for (size_t i = 0; i < rpc->calls.length; i++) {
        if (rpc->calls.items[i]->ended)
            free_call(rpc->calls.items[i]);
        else
            rpc->calls.items[kept++] = rpc->calls.items[i];
    }
    rpc->calls.length = kept;
    forget_answers(&rpc->answers);
}

void fake_rpc_free(struct rpc *rpc)
{
    for (size_t i = 0; i < rpc->calls.length; i++) {
        if (!rpc->calls.items[i]->ended)
            fake_rpc_fail(rpc->calls.items[i], ERR_CANCELLED, "the agent stops");
        free_call(rpc->calls.items[i]);
    }
    free(rpc->calls.items);
    for (size_t i = 0; i < rpc->answers.length; i++)
        *answers_add(&former) = rpc->answers.items[i];
    free(rpc->answers.items);
    free(rpc);
    rpc_count--;
}

/* ---- client ---- */

struct fake_call *fake_rpc_waiting(struct rpc *rpc, enum rpc_method_id method)
{
    for (size_t i = 0; i < rpc->calls.length; i++)
        if (rpc->calls.items[i]->method == method && !rpc->calls.items[i]->ended)
            return rpc->calls.items[i];
    return NULL;
}

struct fake_call *fake_rpc_last(struct rpc *rpc, enum rpc_method_id method)
{
    for (size_t i = rpc->calls.length; i-- > 0;)
        if (rpc->calls.items[i]->method == method)
            return rpc->calls.items[i];
    return NULL;
}

unsigned fake_rpc_count(struct rpc *rpc, enum rpc_method_id method)
{
    unsigned n = 0;

    for (size_t i = 0; i < rpc->calls.length; i++)
        n += rpc->calls.items[i]->method == method;
    return n;
}

void fake_rpc_answer(struct fake_call *call, struct json_object *result)
{
    if (!UNIT_TRUE(call != NULL)) {
        json_object_put(result);
        return;
    }
    end_call(call, result, NULL);
}

void fake_rpc_fail(struct fake_call *call, enum err_code code, const char *text)
{
    struct err e = ERR_INIT;

    if (!UNIT_TRUE(call != NULL))
        return;
    err_set(&e, code, "%s", text);
    end_call(call, NULL, &e);
}

void fake_rpc_watch(struct rpc *rpc, void (*fn)(void *aux, const struct fake_call *call), void *aux)
{
    rpc->watch = fn;
    rpc->watch_aux = aux;
}

void fake_rpc_fail_as(struct fake_call *call, const char *wire_class, const char *text)
{
    struct err e = ERR_INIT;

    if (!UNIT_TRUE(call != NULL))
        return;
    err_set(&e, err_code_by_wire_class(wire_class), "%s", text);
    snprintf(e.wire_class, sizeof(e.wire_class), "%s", wire_class);
    end_call(call, NULL, &e);
}

static bool is_named(const struct fake_call *call, const char *name)
{
    return call->name && (!name || text_equal(call->name, name));
}

struct fake_call *fake_rpc_waiting_named(struct rpc *rpc, const char *name)
{
    for (size_t i = 0; i < rpc->calls.length; i++)
        if (is_named(rpc->calls.items[i], name) && !rpc->calls.items[i]->ended)
            return rpc->calls.items[i];
    return NULL;
}

unsigned fake_rpc_count_named(struct rpc *rpc, const char *name)
{
    unsigned n = 0;

    for (size_t i = 0; i < rpc->calls.length; i++)
        n += is_named(rpc->calls.items[i], name);
    return n;
}

static bool is_object(const struct fake_call *call, const char *what)
{
    if (!call->name)
        return false;
    const char *class_name =
        json_get_string(call->args, "objname",
                        json_get_string(json_get(call->args, "objinst"), "nova_object.name", "?"));
    _cleanup_(str_freep) char *is =
        text_format("%s.%s", class_name, json_get_string(call->args, "objmethod", "?"));
    return text_equal(is, what);
}

struct fake_call *fake_rpc_waiting_object(struct rpc *rpc, const char *what)
{
    for (size_t i = 0; i < rpc->calls.length; i++)
        if (is_object(rpc->calls.items[i], what) && !rpc->calls.items[i]->ended)
            return rpc->calls.items[i];
    return NULL;
}

unsigned fake_rpc_count_object(struct rpc *rpc, const char *what)
{
    unsigned n = 0;

    for (size_t i = 0; i < rpc->calls.length; i++)
        n += is_object(rpc->calls.items[i], what);
    return n;
}

static struct fake_call *keep_call(struct rpc *rpc, bool cast, const struct rpc_target *target,
                                   struct json_object *args, struct json_object *context,
                                   const struct rpc_options *options, rpc_reply_fn done, void *aux)
{
    struct fake_call *call = NEW(struct fake_call);

    call->cast = cast;
    call->topic = text_dup(target->topic);
    call->server = text_dup(target->server);
    call->args = json_copy(args); /* as it is on the wire now */
    call->context = json_object_get(context);
    call->options = options ? *options : (struct rpc_options){0};
    call->done = done;
    call->aux = aux;
    json_object_put(args);
    *calls_add(&rpc->calls) = call;
    return call;
}

static void send_named(struct rpc *rpc, bool cast, const struct rpc_target *target,
                       const char *method, const char *namespace_name, struct json_object *args,
                       struct json_object *context, const struct rpc_options *options,
                       rpc_reply_fn done, void *aux)
{
    struct fake_call *call = keep_call(rpc, cast, target, args, context, options, done, aux);

    call->method = RPC_METHOD_COUNT;
    call->name = text_dup(method);
    call->namespace_name = text_dup(namespace_name);
    call->version = text_dup(options ? options->version : NULL);
    if (rpc->watch)
        rpc->watch(rpc->watch_aux, call);
}

struct rpc_call *rpc_call_named(struct rpc *rpc, const struct rpc_target *target,
                                const char *method, const char *namespace_name,
                                struct json_object *args, struct json_object *context,
                                const struct rpc_options *options, rpc_reply_fn done, void *aux)
{
    send_named(rpc, false, target, method, namespace_name, args, context, options, done, aux);
    return NULL;
}

struct rpc_call *rpc_cast_named(struct rpc *rpc, const struct rpc_target *target,
                                const char *method, const char *namespace_name,
                                struct json_object *args, struct json_object *context,
                                const struct rpc_options *options, rpc_reply_fn done, void *aux)
{
    send_named(rpc, true, target, method, namespace_name, args, context, options, done, aux);
    return NULL;
}

void rpc_call_cancel(struct rpc_call *call)
{
    /* handles are NULL here: the rpc is freed before what uses it, and ends its calls */
    UNIT_TRUE(call != NULL);
}

static void send_one(struct rpc *rpc, bool cast, const struct rpc_target *target,
                     enum rpc_method_id method, struct json_object *args,
                     struct json_object *context, const struct rpc_options *options,
                     rpc_reply_fn done, void *aux)
{
    struct fake_call *call = keep_call(rpc, cast, target, args, context, options, done, aux);

    call->method = method;
    UNIT_OK(methods_check_args(method_by_id(method), 6, call->args, &unit_err));
    if (rpc->watch)
        rpc->watch(rpc->watch_aux, call);
}

struct rpc_call *rpc_call(struct rpc *rpc, const struct rpc_target *target,
                          enum rpc_method_id method, struct json_object *args,
                          struct json_object *context, const struct rpc_options *options,
                          rpc_reply_fn done, void *aux)
{
    send_one(rpc, false, target, method, args, context, options, done, aux);
    return NULL;
}

void rpc_cast(struct rpc *rpc, const struct rpc_target *target, enum rpc_method_id method,
              struct json_object *args, struct json_object *context,
              const struct rpc_options *options, rpc_reply_fn done, void *aux)
{
    send_one(rpc, true, target, method, args, context, options, done, aux);
}

const char *rpc_failure_raw(const struct rpc *rpc)
{
    (void)rpc;
    return NULL;
}

bool rpc_is_up(const struct rpc *rpc)
{
    return rpc != NULL;
}

struct json_object *rpc_status(struct rpc *rpc)
{
    (void)rpc;
    return json_object_new_object();
}

/* ---- server ---- */

struct fake_asked *fake_rpc_ask(struct rpc *rpc, rpc_handler handler, void *aux,
                                enum rpc_method_id method, struct json_object *args,
                                struct json_object *context)
{
    struct rpc_request *request = NEW(struct rpc_request);

    request->asked = NEW(struct fake_asked);
    request->method = method;
    request->args = args;
    request->context = context ? context : rpc_context_admin();
    *answers_add(&rpc->answers) = request->asked;
    UNIT_OK(methods_check_args(method_by_id(method), 6, args, &unit_err));
    struct fake_asked *asked = request->asked;
    handler(aux, request);
    return asked;
}

static void end_request(struct rpc_request *request, enum fake_end end)
{
    UNIT_EQ(request->asked->end, FAKE_OPEN);
    request->asked->end = end;
    request->asked->accepted = true;
    json_object_put(request->args);
    json_object_put(request->context);
    free(request);
}

enum rpc_method_id rpc_request_method(const struct rpc_request *request)
{
    return request->method;
}

enum rpc_kind rpc_request_kind(const struct rpc_request *request)
{
    return method_by_id(request->method)->kind;
}

struct json_object *rpc_request_arg(const struct rpc_request *request, const char *name)
{
    return json_get(request->args, name);
}

struct json_object *rpc_request_context(const struct rpc_request *request)
{
    return request->context;
}

const char *rpc_request_id(const struct rpc_request *request)
{
    return json_get_string(request->context, "request_id", "");
}

void rpc_request_accept(struct rpc_request *request)
{
    request->asked->accepted = true;
}

void rpc_reply(struct rpc_request *request, struct json_object *result)
{
    request->asked->result = json_copy(result);
    json_object_put(result);
    end_request(request, FAKE_REPLIED);
}

void rpc_fail(struct rpc_request *request, const struct err *e)
{
    request->asked->e = *e;
    end_request(request, FAKE_FAILED);
}

void rpc_fail_raw(struct rpc_request *request, const char *failure)
{
    err_set(&request->asked->e, ERR_REMOTE, "%s", failure);
    end_request(request, FAKE_FAILED);
}

void rpc_request_free(struct rpc_request *request)
{
    if (request)
        end_request(request, FAKE_FREED);
}
