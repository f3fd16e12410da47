/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A call that only looks at an instance: one job on a worker, then perhaps the control plane, then the answer.
 * It is no operation: it waits for nothing that is done to the instance, and changes nothing. Loop thread, but
 * for `run`.
 */
#pragma once

#include "agent/agent.h"

struct instance_ask {
    struct agent *agent;
    struct rpc_request *request; /* answered exactly once */
    struct instance *instance;   /* of the argument `instance`; NULL when the method has none */
    const char *uuid;            /* the instance's, or NULL */
    struct conf *conf;           /* for the worker */
    struct virt *virt;
    /* worker: fills result, text or consoles */
    int (*run)(struct instance_ask *ask, struct err *e);
    /* loop, after run's success: answers; NULL = instance_ask_reply(ask, result) */
    void (*then)(struct instance_ask *ask);
    struct json_object *result;
    char *text;
    struct virt_consoles consoles;
    enum virt_state state;
    int job_result;
    struct err e;
};

/* Owns the request; fails it when the instance cannot be read. NULL then. */
struct instance_ask *instance_ask_new(struct agent *agent, struct rpc_request *request,
                                      bool needs_instance);
void instance_ask_submit(struct instance_ask *ask, const char *name);
/* The end: consumes the result, frees the ask. */
void instance_ask_reply(struct instance_ask *ask, struct json_object *result);
void instance_ask_fail(struct instance_ask *ask, const struct err *failure);

/* err_set() with a class of nova.exception that the table has no row for. Returns -1. */
int instance_refuse(struct err *e, enum err_code code, const char *wire_class, const char *format,
                    ...) _printf_(4, 5);
