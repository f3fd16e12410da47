/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An operation on one instance: build, terminate, stop, snapshot ... It is a list of steps, each begun on
 * the loop and ended by a callback (a worker's job, a call of the control plane, an event, a timer). Steps
 * that changed something have an undo; when a step fails, those of the steps before it run, last first.
 *
 * Operations on one instance run one after the other, in order of arrival; `terminate` and an operation that
 * says so (`interrupts`) first asks the running one to give up: its next step is not begun, what it waits
 * for is ended with ERR_CANCELLED. A live migration of the instance holds the same lock where it must
 * (operation_begin_foreign()).
 *
 * Around the steps, as nova-compute has it: the action event starts and finishes with the outcome
 * (kind->event), a failure becomes an InstanceFault and kind->failed says what state the instance gets; for
 * kinds without `failed` the task state is cleared, so that nothing hangs for ever.
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
    void (*run)(
        struct operation *operation); /* ends by exactly one operation_next/fail/skip_to_end */
    void (*undo)(struct operation *operation); /* the same; failures are logged, undo goes on */
};

struct operation_kind {
    const char *name;                   /* "build", "stop": for the log and computectl */
    const char *event;                  /* action event, "compute_stop_instance"; NULL = none */
    const struct operation_step *steps; /* ended by name NULL */
    size_t data_size;                   /* of operation->data, zeroed */
    void (*release)(struct operation *operation); /* frees what data holds; may be NULL */
    /* After the undos: what the instance is now; ends by operation_next(). NULL: task_state null. */
    void (*failed)(struct operation *operation);
    bool interrupts; /* does not wait for what runs: asks it to give up (terminate) */
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
    void *data;                 /* the kind's own */
    int64_t started_us;
    /* operation.c's own */
    size_t step;
    int phase;
    struct operation *next;
    struct loop_timer *timer;
    struct event_wait *waits;
};

/* A request whose argument `instance` it is about; owns the request. Fails it when the argument is bad. */
void operation_request(struct agent *agent, struct rpc_request *request,
                       const struct operation_kind *kind);
/* Work of our own (power sync, start of the host): `instance` is taken. */
struct operation *operation_start(struct agent *agent, struct instance *instance,
                                  const struct operation_kind *kind, struct json_object *context);

/* Ends of a step. */
void operation_next(struct operation *operation);
void operation_fail(struct operation *operation, const struct err *failure);
void operation_skip_to_end(struct operation *operation); /* nothing more to do; no failure */

/* Ready-made callbacks; aux is the operation. The second keeps the result in operation->result's place
 * for the step's own `then`. */
void operation_cloud_done(void *aux, const struct err *failure); /* next or fail */

/* Saves the instance's changes (cloud_instance_save) and ends the step. expected_task_state as there. */
void operation_save(struct operation *operation, const char *expected_task_state);
/* vm_state, task_state ("" = leave, NULL = null), power_state read from the hypervisor, then saves. */
void operation_save_state(struct operation *operation, const char *vm_state, const char *task_state,
                          const char *expected_task_state);

/* A job on a worker: `run` gets operation->data and must touch nothing else; the step ends with its result,
 * or with `then` (which ends the step) on success. */
typedef int (*operation_job_fn)(struct agent *agent, void *data, struct err *e);
void operation_job(struct operation *operation, const char *name, operation_job_fn run,
                   void (*then)(struct operation *operation));

/*
 * External events ("network-vif-plugged-<port>", virt's own as "virt-stopped"): register before what causes
 * them is done, then wait. `fatal` false: late ones are logged and the step goes on.
 */
void operation_expect(struct operation *operation, const char *event_key);
void operation_wait(struct operation *operation, int64_t timeout_us, bool fatal);
/* From endpoints and virt's events; true if an operation waited for it. A status "failed" fails it. */
bool operation_event(struct agent *agent, const char *instance_uuid, const char *event_key,
                     const char *status);

/* Is something being done to the instance? For power sync, audits, migrations. Name of the kind, NULL. */
const char *operation_running(const struct agent *agent, const char *instance_uuid);
/* [{"instance_uuid", "operation", "step", "since_s"}] for computectl. New reference. */
struct json_object *operation_list(const struct agent *agent);
/* At the agent's end: what runs is ended where it is; the next start repairs it (task states). */
void operation_close(struct agent *agent);
