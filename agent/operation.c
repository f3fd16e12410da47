/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine of operations. The agent's list is in order of arrival; the first one of an instance is the one
 * that runs, the others of that instance wait for it. Whatever ends a step comes through end_step(), which
 * looks at the phase to say what is next: steps upwards, undos downwards, the kind's `failed`, the end.
 */
#include "agent/operation.h"

#include <assert.h>

#include "lib/clock.h"
#include "lib/fault.h"
#include "lib/json.h"
#include "lib/log.h"

LOG_MODULE(operation);

enum { PHASE_WAITING, PHASE_BEGINNING, PHASE_STEPS, PHASE_UNDOING, PHASE_FAILED, PHASE_ENDED };

enum { PLACE_PAUSE_US = 250000 };

struct event_wait {
    struct event_wait *next;
    char *key;
    bool came, given_up;
    char *failure; /* status of an event that says that it failed; NULL */
};

static void run_step(struct operation *op);
static void begin_posted(void *aux);

/* ---- list ---- */

static struct operation *first_of(const struct agent *agent, const char *uuid)
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

static void free_waits(struct operation *op)
{
    while (op->waits) {
        struct event_wait *wait = op->waits;
        op->waits = wait->next;
        free(wait->key);
        free(wait->failure);
        free(wait);
    }
}

static void free_operation(struct operation *op)
{
    if (op->kind->release)
        op->kind->release(op);
    loop_timer_free(op->timer);
    free_waits(op);
    instance_free(op->instance);
    json_object_put(op->context);
    json_object_put(op->result);
    free(op->data);
    free(op->uuid);
    free(op);
}

static struct log_scope scope_of(const struct operation *op)
{
    return log_scope_begin(json_get_string(op->context, "request_id", NULL), op->uuid);
}

/* ---- taking on ---- */

static void begin_soon(struct operation *op)
{
    op->phase = PHASE_BEGINNING;
    loop_post(op->agent->loop, "operation", begin_posted, op);
}

static void interrupt(struct operation *op)
{
    op->cancelled = true;
    if (op->phase != PHASE_STEPS || !(op->waiting || op->pausing))
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
            interrupt(other);
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
    first = !first_of(agent, op->uuid);
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

    op->phase = PHASE_ENDED;
    if (op->kind->event)
        cloud_event_finish(agent->cloud, op->context, op->uuid, op->kind->event,
                           err_is_set(&op->failure) && !op->passed_on ? &op->failure : NULL);
    answer(op);
    unlink_operation(op);
    struct operation *next = first_of(agent, op->uuid);
    free_operation(op);
    if (next && next->phase == PHASE_WAITING)
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
    op->phase = PHASE_FAILED;
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

static void stop_waiting(struct operation *op)
{
    op->waiting = op->pausing = false;
    if (op->timer)
        loop_timer_disarm(op->timer);
}

static void fail_steps(struct operation *op, const struct err *failure)
{
    const char *name = op->kind->steps[op->step].name;

    if (!err_is_set(&op->failure)) {
        op->failure = *failure;
        log_debug("%s failed in step \"%s\"", op->kind->name, name ? name : "-");
    }
    op->phase = PHASE_UNDOING;
    undo_next(op);
}

static void fail_cancelled(struct operation *op)
{
    struct err e = ERR_INIT;

    err_set(&e, ERR_CANCELLED, "%s of instance %s was interrupted", op->kind->name, op->uuid);
    fail_steps(op, &e);
}

static void run_step(struct operation *op)
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
    _cleanup_(log_scope_end) struct log_scope scope = scope_of(op);
    op->phase = PHASE_STEPS;
    log_info("%s", op->kind->name);
    if (op->kind->event)
        cloud_event_start(agent->cloud, op->context, op->uuid, op->kind->event);
    run_step(op);
}

/* failure NULL = the step is done. */
static void end_step(struct operation *op, const struct err *failure)
{
    if (op->agent->closing)
        return;
    _cleanup_(log_scope_end) struct log_scope scope = scope_of(op);
    stop_waiting(op);
    if (op->phase == PHASE_STEPS) {
        if (failure) {
            fail_steps(op, failure);
            return;
        }
        op->step++;
        run_step(op);
        return;
    }
    if (failure)
        log_err(LOG_LEVEL_WARNING, failure, "%s: taking back", op->kind->name);
    if (op->phase == PHASE_UNDOING)
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
    if (op->phase == PHASE_STEPS)
        while (op->kind->steps[op->step + 1].name)
            op->step++;
    end_step(op, NULL);
}

void operation_cloud_done(void *aux, const struct err *failure)
{
    end_step(aux, failure);
}

/* ---- timers and events ---- */

static bool all_came(const struct operation *op)
{
    for (const struct event_wait *wait = op->waits; wait; wait = wait->next)
        if (!wait->came && !wait->given_up)
            return false;
    return true;
}

static char *missing_keys(const struct operation *op)
{
    struct text_buffer b = TEXT_BUFFER_INIT;

    for (const struct event_wait *wait = op->waits; wait; wait = wait->next)
        if (!wait->came && !wait->given_up)
            text_buffer_printf(&b, "%s%s", b.length ? ", " : "", wait->key);
    return text_buffer_take(&b);
}

static void give_up_waits(struct operation *op)
{
    for (struct event_wait *wait = op->waits; wait; wait = wait->next)
        wait->given_up = !wait->came;
}

static void waited_long(struct operation *op)
{
    struct err e = ERR_INIT;
    _cleanup_(str_freep) char *missing = missing_keys(op);

    give_up_waits(op);
    err_set(&e, ERR_TIMEOUT, "%s of instance %s: the event did not come in time: %s",
            op->kind->name, op->uuid, missing);
    if (op->wait_fatal) {
        operation_fail(op, &e);
        return;
    }
    log_info("%s", e.text);
    operation_next(op);
}

static void due(void *aux)
{
    struct operation *op = aux;

    if (op->agent->closing)
        return;
    _cleanup_(log_scope_end) struct log_scope scope = scope_of(op);
    if (op->waiting) {
        waited_long(op);
        return;
    }
    stop_waiting(op);
    run_step(op);
}

static void arm(struct operation *op, int64_t delay_us)
{
    assert(op->phase == PHASE_STEPS);
    if (!op->timer)
        op->timer = loop_timer_new(op->agent->loop, "operation", due, op);
    loop_timer_arm(op->timer, delay_us);
}

void operation_again(struct operation *op, int64_t delay_us)
{
    op->pausing = op->repeats = true;
    arm(op, delay_us);
    if (op->cancelled)
        interrupt(op);
}

static int64_t count_places(const struct operation *op)
{
    int64_t count = 0;

    for (const struct operation *other = op->agent->operations; other; other = other->next)
        count += other->kind == op->kind && other->step > 0 && other->phase >= PHASE_STEPS;
    return count;
}

void operation_wait_for_place(struct operation *op, int64_t limit)
{
    assert(op->step == 0);
    if (limit > 0 && count_places(op) >= limit)
        operation_again(op, PLACE_PAUSE_US);
    else
        operation_next(op);
}

static struct event_wait *find_wait(const struct operation *op, const char *key)
{
    for (struct event_wait *wait = op->waits; wait; wait = wait->next)
        if (text_equal(wait->key, key))
            return wait;
    return NULL;
}

void operation_expect(struct operation *op, const char *key)
{
    struct event_wait *wait = find_wait(op, key);

    if (!wait) {
        wait = NEW(struct event_wait);
        wait->key = text_dup(key);
        wait->next = op->waits;
        op->waits = wait;
    }
    wait->came = wait->given_up = false;
    free(STEAL(wait->failure));
}

static const struct event_wait *failed_wait(const struct operation *op)
{
    for (const struct event_wait *wait = op->waits; wait; wait = wait->next)
        if (wait->failure)
            return wait;
    return NULL;
}

/* Ends the wait if there is nothing more to wait for. */
static bool wait_is_over(struct operation *op)
{
    const struct event_wait *failed = failed_wait(op);
    struct err e = ERR_INIT;

    if (failed && op->wait_fatal) {
        err_set(&e, ERR_NET_PLUG, "%s of instance %s: event %s came with status %s", op->kind->name,
                op->uuid, failed->key, failed->failure);
        operation_fail(op, &e);
        return true;
    }
    if (!all_came(op))
        return false;
    operation_next(op);
    return true;
}

void operation_wait(struct operation *op, int64_t timeout_us, bool fatal)
{
    op->wait_fatal = fatal;
    if (wait_is_over(op))
        return;
    op->waiting = true;
    arm(op, timeout_us);
    if (op->cancelled)
        interrupt(op);
}

bool operation_event_came(const struct operation *op, const char *key)
{
    const struct event_wait *wait = find_wait(op, key);

    return wait && wait->came;
}

bool operation_event(struct agent *agent, const char *uuid, const char *key, const char *status)
{
    struct operation *op = first_of(agent, uuid);
    struct event_wait *wait = op ? find_wait(op, key) : NULL;

    if (!wait || wait->came)
        return false;
    wait->came = true;
    if (text_equal(status, "failed"))
        wait->failure = text_dup(status);
    if (op->waiting)
        (void)wait_is_over(op);
    return true;
}

/* ---- jobs ---- */

struct job {
    struct operation *operation;
    struct agent *agent;
    void *data;
    operation_job_fn run;
    void (*then)(struct operation *operation);
    const char *name;
    struct err e;
    int result;
};

static void job_run(void *aux)
{
    struct job *job = aux;

    job->result = job->run(job->agent, job->data, &job->e);
}

static void job_done(void *aux, enum work_end end)
{
    struct job *job = aux;
    struct operation *op = job->operation;

    if (end == WORK_OVERDUE) /* only at the agent's end: the thread still uses the data */
        return;
    op->job_runs = false;
    if (op->agent->closing)
        return;
    if (end == WORK_DROPPED)
        job->result = err_set(&job->e, ERR_CANCELLED, "%s: the agent is stopping", job->name);
    if (job->result < 0)
        operation_fail(op, &job->e);
    else if (job->then)
        job->then(op);
    else
        operation_next(op);
}

static void job_release(void *aux)
{
    free(aux);
}

void operation_job(struct operation *op, const char *name, operation_job_fn run,
                   void (*then)(struct operation *operation))
{
    struct job *job = NEW(struct job);
    struct work work = {
        .name = name, .run = job_run, .done = job_done, .release = job_release, .aux = job};

    *job = (struct job){.operation = op,
                        .agent = op->agent,
                        .data = op->data,
                        .run = run,
                        .then = then,
                        .name = name};
    op->job_runs = true;
    workers_submit(op->agent->workers, &work);
}

/* ---- saving ---- */

void operation_save(struct operation *op, const char *expected_task_state)
{
    cloud_instance_save(op->agent->cloud, op->context, op->instance, expected_task_state,
                        operation_cloud_done, op);
}

/* Reading the state is a job of its own: it needs no data of the kind. */
struct state_job {
    struct operation *operation;
    struct virt *virt;
    char *uuid, *vm_state, *task_state, *expected;
    bool sets_task_state;
    enum virt_state state;
    int result;
    struct err e;
};

static void state_run(void *aux)
{
    struct state_job *job = aux;

    job->result = virt_guest_state(job->virt, job->uuid, &job->state, &job->e);
}

static void state_done(void *aux, enum work_end end)
{
    struct state_job *job = aux;
    struct operation *op = job->operation;

    if (end == WORK_OVERDUE)
        return;
    op->job_runs = false;
    if (op->agent->closing)
        return;
    if (end != WORK_DONE || job->result < 0) /* the state is corrected by the next power sync */
        log_err(LOG_LEVEL_WARNING, &job->e, "%s: power state", op->kind->name);
    else
        instance_set_power_state(op->instance, virt_state_nova(job->state));
    if (job->vm_state)
        instance_set_vm_state(op->instance, job->vm_state);
    if (job->sets_task_state)
        instance_set_task_state(op->instance, job->task_state);
    operation_save(op, job->expected);
}

static void state_release(void *aux)
{
    struct state_job *job = aux;

    free(job->uuid);
    free(job->vm_state);
    free(job->task_state);
    free(job->expected);
    free(job);
}

void operation_save_state(struct operation *op, const char *vm_state, const char *task_state,
                          const char *expected_task_state)
{
    struct state_job *job = NEW(struct state_job);
    struct work work = {.name = "power state",
                        .run = state_run,
                        .done = state_done,
                        .release = state_release,
                        .aux = job};

    job->operation = op;
    job->virt = op->agent->virt;
    job->uuid = text_dup(op->uuid);
    job->vm_state = text_dup(vm_state);
    job->sets_task_state = !text_equal(task_state, "");
    job->task_state = text_dup(task_state);
    job->expected = text_dup(expected_task_state);
    op->job_runs = true;
    workers_submit(op->agent->workers, &work);
}

/* ---- looking ---- */

const char *operation_running(const struct agent *agent, const char *uuid)
{
    const struct operation *op = first_of(agent, uuid);

    return op ? op->kind->name : NULL;
}

static const char *step_name(const struct operation *op)
{
    switch (op->phase) {
    case PHASE_WAITING:
        return "waiting";
    case PHASE_BEGINNING:
        return "beginning";
    case PHASE_STEPS:
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
