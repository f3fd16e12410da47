/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine of operations. The agent's list is in order of arrival; the first one of an instance is the one
 * that runs, the others of that instance wait for it. Whatever ends a step comes through end_step(), which
 * looks at the phase to say what is next: steps upwards, undos downwards, the kind's `failed`, the end.
 */
#include "agent/operation_internal.h"

#include "lib/clock.h"
#include "lib/fault.h"
#include "lib/json.h"
#include "lib/log.h"

LOG_MODULE(operation);

static void begin_posted(void *aux);

/* ---- list ---- */

struct operation *operation_first(const struct agent *agent, const char *uuid)
{
    for (struct operation *op = agent->operations; op; op = op->next)
        if (text_equal(op->uuid, uuid))
            return op;
    return NULL;
}

static void unlink_operation(struct operation *op)
{
    struct operation **place = &op->agent->operations;

    while (*place != op)
        place = &(*place)->next;
    *place = op->next;
}

static void append(struct operation *op)
{
    struct operation **place = &op->agent->operations;

    while (*place)
        place = &(*place)->next;
    *place = op;
}

static void free_operation(struct operation *op)
{
    if (op->kind->release)
        op->kind->release(op);
    loop_timer_free(op->timer);
    operation_waits_free(op);
    instance_free(op->instance);
    json_object_put(op->context);
    json_object_put(op->result);
    free(op->data);
    free(op->uuid);
    free(op);
}

struct log_scope operation_scope(const struct operation *op)
{
    return log_scope_begin(json_get_string(op->context, "request_id", NULL), op->uuid);
}

/* ---- taking on ---- */

static void begin_soon(struct operation *op)
{
    op->phase = OPERATION_BEGINNING;
    loop_post(op->agent->loop, "operation", begin_posted, op);
}

void operation_interrupt(struct operation *op)
{
    op->cancelled = true;
    if (op->phase != OPERATION_STEPS || !(op->waiting || op->pausing))
        return;
    struct err e = ERR_INIT;
    err_set(&e, ERR_CANCELLED, "%s of instance %s was interrupted", op->kind->name, op->uuid);
    operation_fail(op, &e);
}

static void interrupt_others(struct operation *op)
{
    struct operation *next;

    for (struct operation *other = op->agent->operations; other; other = next) {
        next = other->next;
        /* a second request to delete lets the first one end */
        if (other != op && !other->kind->interrupts && text_equal(other->uuid, op->uuid))
            operation_interrupt(other);
    }
}

static struct operation *take_on(struct agent *agent, struct instance *instance,
                                 const struct operation_kind *kind, struct json_object *context)
{
    struct operation *op = NEW(struct operation);
    bool first;

    op->agent = agent;
    op->kind = kind;
    op->uuid = text_dup(instance_uuid(instance));
    op->instance = instance;
    op->context = context ? json_object_get(context) : rpc_context_admin();
    op->data = mem_new(kind->data_size ? kind->data_size : 1);
    op->started_us = clock_monotonic_us();
    first = !operation_first(agent, op->uuid);
    append(op);
    if (first)
        begin_soon(op);
    if (kind->interrupts)
        interrupt_others(op);
    return op;
}

void operation_request(struct agent *agent, struct rpc_request *request,
                       const struct operation_kind *kind)
{
    struct instance *instance = NULL;
    struct err e = ERR_INIT;

    if (instance_from_json(rpc_request_arg(request, "instance"), &instance, &e) < 0 ||
        text_check_uuid(instance_uuid(instance), "instance uuid", &e) < 0) {
        instance_free(instance);
        rpc_fail(request, &e);
        return;
    }
    object_clear_changes(instance->object);
    struct operation *op = take_on(agent, instance, kind, rpc_request_context(request));
    op->request = request;
    if (rpc_request_kind(request) == RPC_KIND_CAST)
        rpc_request_accept(request);
}

struct operation *operation_start(struct agent *agent, struct instance *instance,
                                  const struct operation_kind *kind, struct json_object *context)
{
    return take_on(agent, instance, kind, context);
}

/* ---- the end ---- */

static void answer(struct operation *op)
{
    struct rpc_request *request = STEAL(op->request);

    if (op->passed_on)
        log_err(LOG_LEVEL_WARNING, &op->failure, "%s failed here and goes on elsewhere",
                op->kind->name);
    else if (!err_is_set(&op->failure))
        log_info("%s: done", op->kind->name);
    else if (op->failure.code == ERR_CANCELLED)
        log_info("%s was interrupted", op->kind->name);
    else
        log_err(LOG_LEVEL_ERROR, &op->failure, "%s failed", op->kind->name);
    if (!request)
        return;
    /* a cast has nobody who waits: its failure is in the log, the fault and the event */
    if (rpc_request_kind(request) == RPC_KIND_CAST)
        rpc_request_free(request);
    else if (err_is_set(&op->failure))
        rpc_fail(request, &op->failure);
    else
        rpc_reply(request, STEAL(op->result));
}

static void end_operation(struct operation *op)
{
    struct agent *agent = op->agent;

    op->phase = OPERATION_ENDED;
    if (op->kind->event)
        cloud_event_finish(agent->cloud, op->context, op->uuid, op->kind->event,
                           err_is_set(&op->failure) && !op->passed_on ? &op->failure : NULL);
    answer(op);
    unlink_operation(op);
    struct operation *next = operation_first(agent, op->uuid);
    free_operation(op);
    if (next && next->phase == OPERATION_WAITING)
        begin_soon(next);
}

/* The task state alone: what the failed steps meant to change is not so. */
static void clear_task_state(struct operation *op)
{
    object_clear_changes(op->instance->object);
    instance_set_task_state(op->instance, NULL);
    operation_save(op, NULL);
}

static void after_undo(struct operation *op)
{
    op->phase = OPERATION_FAILED;
    if (op->failure.code == ERR_CANCELLED && op->cancelled) {
        end_operation(op);
        return;
    }
    if (!op->kind->no_fault && op->failure.code != ERR_NO_INSTANCE)
        cloud_fault(op->agent->cloud, op->context, op->uuid, &op->failure);
    if (op->kind->failed)
        op->kind->failed(op);
    else if (op->kind->no_fault || op->failure.code == ERR_NO_INSTANCE)
        end_operation(op);
    else
        clear_task_state(op);
}

/* ---- steps ---- */

/* Undoes the next one below; `step` counts those that are done and not undone. */
static void undo_next(struct operation *op)
{
    while (op->step > 0) {
        const struct operation_step *step = &op->kind->steps[--op->step];
        if (!step->undo)
            continue;
        log_debug("%s: taking back: %s", op->kind->name, step->name);
        step->undo(op);
        return;
    }
    after_undo(op);
}

static void fail_steps(struct operation *op, const struct err *failure)
{
    const char *name = op->kind->steps[op->step].name;

    if (!err_is_set(&op->failure)) {
        op->failure = *failure;
        log_debug("%s failed in step \"%s\"", op->kind->name, name ? name : "-");
    }
    op->phase = OPERATION_UNDOING;
    undo_next(op);
}

static void fail_cancelled(struct operation *op)
{
    struct err e = ERR_INIT;

    err_set(&e, ERR_CANCELLED, "%s of instance %s was interrupted", op->kind->name, op->uuid);
    fail_steps(op, &e);
}

void operation_run_step(struct operation *op)
{
    const struct operation_step *step = &op->kind->steps[op->step];
    struct err e = ERR_INIT;

    if (!step->name) {
        end_operation(op);
        return;
    }
    if (op->cancelled) {
        fail_cancelled(op);
        return;
    }
    _cleanup_(str_freep) char *point = text_format("operation.%s.%s", op->kind->name, step->name);
    if (!op->repeats)
        log_debug("%s: %s", op->kind->name, step->name);
    op->repeats = false;
    if (fault_point(point, &e) < 0)
        fail_steps(op, &e);
    else
        step->run(op);
}

static void begin_posted(void *aux)
{
    struct operation *op = aux;
    struct agent *agent = op->agent;

    if (agent->closing)
        return;
    _cleanup_(log_scope_end) struct log_scope scope = operation_scope(op);
    op->phase = OPERATION_STEPS;
    log_info("%s", op->kind->name);
    if (op->kind->event)
        cloud_event_start(agent->cloud, op->context, op->uuid, op->kind->event);
    operation_run_step(op);
}

/* failure NULL = the step is done. */
static void end_step(struct operation *op, const struct err *failure)
{
    if (op->agent->closing)
        return;
    _cleanup_(log_scope_end) struct log_scope scope = operation_scope(op);
    operation_stop_waiting(op);
    if (op->phase == OPERATION_STEPS) {
        if (failure) {
            fail_steps(op, failure);
            return;
        }
        op->step++;
        operation_run_step(op);
        return;
    }
    if (failure)
        log_err(LOG_LEVEL_WARNING, failure, "%s: taking back", op->kind->name);
    if (op->phase == OPERATION_UNDOING)
        undo_next(op);
    else
        end_operation(op);
}

void operation_next(struct operation *op)
{
    end_step(op, NULL);
}

void operation_fail(struct operation *op, const struct err *failure)
{
    end_step(op, failure);
}

void operation_skip_to_end(struct operation *op)
{
    if (op->phase == OPERATION_STEPS)
        while (op->kind->steps[op->step + 1].name)
            op->step++;
    end_step(op, NULL);
}

void operation_cloud_done(void *aux, const struct err *failure)
{
    end_step(aux, failure);
}

/* ---- looking ---- */

const char *operation_running(const struct agent *agent, const char *uuid)
{
    const struct operation *op = operation_first(agent, uuid);

    return op ? op->kind->name : NULL;
}

static const char *step_name(const struct operation *op)
{
    switch (op->phase) {
    case OPERATION_WAITING:
        return "waiting";
    case OPERATION_BEGINNING:
        return "beginning";
    case OPERATION_STEPS:
        return op->kind->steps[op->step].name;
    default:
        return "taking back";
    }
}

struct json_object *operation_list(const struct agent *agent)
{
    struct json_object *rows = json_object_new_array();

    for (const struct operation *op = agent->operations; op; op = op->next) {
        struct json_object *row = json_object_new_object();
        json_add_string(row, "instance_uuid", op->uuid);
        json_add_string(row, "operation", op->kind->name);
        json_add_string(row, "step", step_name(op));
        json_add_int(row, "since_s", (clock_monotonic_us() - op->started_us) / USEC_PER_SEC);
        json_object_array_add(rows, row);
    }
    return rows;
}

void operation_close(struct agent *agent)
{
    while (agent->operations) {
        struct operation *op = agent->operations;
        agent->operations = op->next;
        rpc_request_free(STEAL(op->request));
        if (!op->job_runs) /* else a thread that is stuck still uses its data */
            free_operation(op);
    }
}
