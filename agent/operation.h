/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An operation on one instance: build, terminate, stop, snapshot ... It is a list of steps, each begun on
 * the loop and ended by a callback (a worker's job, a call of the control plane, an event, a timer). Steps
 * that changed something have an undo; when a step fails, those of the steps before it run, last first.
 *
 * Operations on one instance run one after the other, in order of arrival; `terminate` and an operation that
 * says so (`interrupts`) first asks those before it to give up: the next step is not begun, a wait is ended
 * with ERR_CANCELLED. Live migrations are no operations (agent/migration.h).
 *
 * Around the steps, as nova-compute has it: the action event starts and finishes with the outcome
 * (kind->event), a failure becomes an InstanceFault and kind->failed says what state the instance gets; for
 * kinds without `failed` the task state is cleared, so that nothing hangs for ever. An operation that was
 * interrupted undoes its steps and leaves the instance's state to the interrupter: no fault, no `failed`.
 *
 * A request is acknowledged to the broker when it is taken on: what a crash ends is repaired from the task
 * state at the next start (instance_recover()), not begun again.
 * Each step is a fault point, "operation.<kind>.<name of the step>" (lib/fault.h).
 *
 * Loop thread only.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "agent/agent.h"

struct operation;

struct operation_step {
    const char *name; /* for the log and for errors: "wire the ports" */
    /* Ends by exactly one operation_next/fail/skip_to_end, perhaps later; the operation may be gone then. */
    void (*run)(struct operation *operation);
    /* The same. Runs when a step after this one failed; failures are logged, undo goes on. */
    void (*undo)(struct operation *operation);
};

struct operation_kind {
    const char *name;                   /* "build", "stop": for the log and computectl */
    const char *event;                  /* action event, "compute_stop_instance"; NULL = none */
    const struct operation_step *steps; /* ended by name NULL */
    size_t data_size;                   /* of operation->data, zeroed */
    void (*release)(struct operation *operation); /* frees what data holds; may be NULL */
    /* After the undos: what the instance is now; ends by operation_next(). NULL: task_state null. */
    void (*failed)(struct operation *operation);
    bool interrupts; /* asks what runs and waits before it to give up (terminate) */
    bool no_fault;   /* a failure is told to the caller alone (calls that only look) */
};

struct operation {
    struct agent *agent;
    const struct operation_kind *kind;
    char *uuid;                  /* the instance's */
    struct instance *instance;   /* the view that is saved; change set as setters made it */
    struct json_object *context; /* of the request */
    struct rpc_request
        *request; /* answered at the end: with `result`, or the failure; NULL = none */
    struct json_object *result; /* of a call; set by a step */
    struct err failure;         /* first failure; code ERR_NONE = none */
    bool cancelled;             /* somebody interrupts: give up soon */
    bool passed_on;             /* what failed here goes on elsewhere: the event ends well */
    void *data;                 /* the kind's own */
    int64_t started_us;
    /* operation.c's own */
    size_t step;
    int phase;
    bool job_runs, waiting, wait_fatal, pausing, repeats;
    struct operation *next;
    struct loop_timer *timer;
    struct event_wait *waits;
};

/* A request whose argument `instance` it is about; owns the request. Fails it when the argument is bad. */
void operation_request(struct agent *agent, struct rpc_request *request,
                       const struct operation_kind *kind);
/* Work of our own (power sync, start of the host): `instance` is taken; context NULL = an admin's. Nothing runs
 * before this returned, so the caller may fill `data`. */
struct operation *operation_start(struct agent *agent, struct instance *instance,
                                  const struct operation_kind *kind, struct json_object *context);

/* Ends of a step. In an undo and in `failed` all three go on; a failure is logged there. */
void operation_next(struct operation *operation);
void operation_fail(struct operation *operation, const struct err *failure);
void operation_skip_to_end(struct operation *operation); /* nothing more to do; no failure */

/* Runs the present step again in a while (what it needs is busy); an interruption ends the pause. */
void operation_again(struct operation *operation, int64_t delay_us);
/* A first step for kinds of which only so many run at the same time: waits for a place; limit 0 = none. */
void operation_wait_for_place(struct operation *operation, int64_t limit);
/* A ready-made callback for calls of the control plane; aux is the operation: next or fail. */
void operation_cloud_done(void *aux, const struct err *failure);

/* Saves the instance's changes (cloud_instance_save) and ends the step. expected_task_state as there. */
void operation_save(struct operation *operation, const char *expected_task_state);
/* vm_state (NULL = leave), task_state ("" = leave, NULL = null), power_state read from the hypervisor, then
 * saves and ends the step. */
void operation_save_state(struct operation *operation, const char *vm_state, const char *task_state,
                          const char *expected_task_state);

/* A job on a worker: `run` gets operation->data and must touch nothing else of the operation, and of the agent
 * only virt, net and journal; the step ends with its result, or with `then` (which ends the step) on success.
 * `name` is static text. */
typedef int (*operation_job_fn)(struct agent *agent, void *data, struct err *e);
void operation_job(struct operation *operation, const char *name, operation_job_fn run,
                   void (*then)(struct operation *operation));

/*
 * External events ("network-vif-plugged-<port>", libvirt's own as "virt-stopped", "virt-paused", ...: see
 * virt_event_name()): register before what causes them is done, then wait for all registered so far. `fatal`
 * false: late ones are logged and the step goes on; operation_event_came() tells. With nothing to wait for the
 * step ends at once.
 */
void operation_expect(struct operation *operation, const char *event_key);
void operation_wait(struct operation *operation, int64_t timeout_us, bool fatal);
bool operation_event_came(const struct operation *operation, const char *event_key);
/* From endpoints and virt's events; true if an operation waited for it. A status "failed" fails it. */
bool operation_event(struct agent *agent, const char *instance_uuid, const char *event_key,
                     const char *status);

/* Is something being done to the instance? For power sync, audits, migrations. Name of the kind, NULL. */
const char *operation_running(const struct agent *agent, const char *instance_uuid);
/* [{"instance_uuid", "operation", "step", "since_s"}] for computectl. New reference. */
struct json_object *operation_list(const struct agent *agent);
/* At the agent's end, when the workers and the control plane are closed: what runs is ended where it is; the
 * next start repairs it. While agent->closing is set no step begins. */
void operation_close(struct agent *agent);
