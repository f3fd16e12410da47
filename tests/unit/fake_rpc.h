/* SPDX-License-Identifier: Apache-2.0 */
/*
 * RPC in memory, linked in place of rpc/rpc.c, server.c and client.c: the test plays every peer. Calls and
 * casts are kept until the test ends them; requests are made by the test, and how they ended is kept for
 * it. Arguments are checked against the method table on both ways, as the real ones do.
 */
#pragma once

#include <json-c/json_object.h>

#include "rpc/rpc.h"

/* Answers to requests stay readable until the first rpc after the last one was freed. */
struct rpc *fake_rpc_new(void);
void fake_rpc_free(struct rpc *rpc);
/* As if what has ended had never been: its calls and answers are freed. */
void fake_rpc_forget(struct rpc *rpc);

/* --- what the agent asks of others --- */

struct fake_call {
    enum rpc_method_id method;             /* RPC_METHOD_COUNT for calls by name */
    char *name, *namespace_name, *version; /* of calls by name */
    bool cast;
    char *topic, *server;
    struct json_object *args, *context;
    struct rpc_options options;
    bool ended; /* told */
    rpc_reply_fn done;
    void *aux;
};
/* The oldest one of a method that waits for its end; NULL. */
struct fake_call *fake_rpc_waiting(struct rpc *rpc, enum rpc_method_id method);
/* The newest one, ended or not; NULL. How many there were. */
struct fake_call *fake_rpc_last(struct rpc *rpc, enum rpc_method_id method);
unsigned fake_rpc_count(struct rpc *rpc, enum rpc_method_id method);
/* The oldest call by name that waits for its end (name NULL: any); NULL. How many of it there were. */
struct fake_call *fake_rpc_waiting_named(struct rpc *rpc, const char *name);
unsigned fake_rpc_count_named(struct rpc *rpc, const char *name);
/* The oldest waiting object call, "Class.method" (contract 3); NULL. */
struct fake_call *fake_rpc_waiting_object(struct rpc *rpc, const char *what);
unsigned fake_rpc_count_object(struct rpc *rpc, const char *what);
/* Ends it; result is consumed. For a cast: the broker has it. */
void fake_rpc_answer(struct fake_call *call, struct json_object *result);
void fake_rpc_fail(struct fake_call *call, enum err_code code, const char *text);
/* With a class of Nova's exceptions. */
void fake_rpc_fail_as(struct fake_call *call, const char *wire_class, const char *text);
/* Called at each call and cast, before anything else. */
void fake_rpc_watch(struct rpc *rpc, void (*fn)(void *aux, const struct fake_call *call),
                    void *aux);

/* --- what others ask of the agent --- */

enum fake_end { FAKE_OPEN, FAKE_REPLIED, FAKE_FAILED, FAKE_FREED };
struct fake_asked {
    enum fake_end end;
    bool accepted; /* acknowledged */
    struct json_object *result;
    struct err e;
};
/* Hands a request to the handler; args and context are consumed (context NULL = an admin's). */
struct fake_asked *fake_rpc_ask(struct rpc *rpc, rpc_handler handler, void *aux,
                                enum rpc_method_id method, struct json_object *args,
                                struct json_object *context);
