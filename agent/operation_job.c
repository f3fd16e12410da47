/* SPDX-License-Identifier: Apache-2.0 */
/* What a step of an operation has done elsewhere: jobs on workers, and saving the instance's new state. */
#include "agent/operation_internal.h"

#include "lib/log.h"

LOG_MODULE(operation);

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
