/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the engine of operations share; nothing for others. */
#pragma once

#include "agent/operation.h"
#include "lib/log.h"

/* Of operation->phase, in order. */
enum operation_phase {
    OPERATION_WAITING,
    OPERATION_BEGINNING,
    OPERATION_STEPS,
    OPERATION_UNDOING,
    OPERATION_FAILED,
    OPERATION_ENDED
};

/* agent/operation.c */
/* The one of the instance that runs; NULL. */
struct operation *operation_first(const struct agent *agent, const char *uuid);
struct log_scope operation_scope(const struct operation *operation);
/* Begins the present step, or does so again. */
void operation_run_step(struct operation *operation);
/* Gives up soon: a wait or a pause ends now, anything else where its step ends. */
void operation_interrupt(struct operation *operation);

/* agent/operation_wait.c */
/* What the present step waits for counts no more. */
void operation_stop_waiting(struct operation *operation);
/* With the operation. */
void operation_waits_free(struct operation *operation);
