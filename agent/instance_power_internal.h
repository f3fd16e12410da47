/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of power share: the data of their operations, and steps that several kinds have. */
#pragma once

#include "agent/instance_power.h"
#include "virt/virt.h"

struct instance_launch;

/* The domain stopped: registered before the guest is asked. */
#define POWER_STOPPED_EVENT "virt-stopped"

struct power {
    char *uuid;            /* for jobs */
    enum virt_state state; /* as last read */
    bool hard;             /* the domain is made anew */
    bool taken;            /* the task state is ours */
    int64_t deadline_us;   /* of the guest's own shutdown */
    int64_t retry_us;      /* ask again after so long; 0 = ask once */
    int64_t ask_again_us;
    struct instance_launch *launch;
};

/* The operation's data, with the uuid. */
struct power *power_of(struct operation *operation);
/* operation_kind's. */
void power_release(struct operation *operation);
/* A job: into `state`. */
int power_read_state(struct agent *agent, void *data, struct err *e);

/* Asks a guest that runs to shut itself down, for power_step_wait(), again every retry_s (0 = once). With no time, or
 * a guest that is off, the step ends at once. */
void power_await_shutdown(struct operation *operation, int64_t timeout_s, int64_t retry_s);
/* Until the guest is off, or its time is over. */
void power_step_wait(struct operation *operation);
/* The domain's ports and files, and then the domain, made anew. */
void power_step_ports(struct operation *operation);
void power_step_launch(struct operation *operation);
/* A kind's `failed`: the instance is in error. */
void power_save_error(struct operation *operation);
