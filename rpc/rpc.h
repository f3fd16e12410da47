/* SPDX-License-Identifier: Apache-2.0 */
/*
 * RPC as oslo.messaging speaks it: requests in, requests out, on one bus. This is what cloud and agent
 * use; envelope, failure, bus and the method table are behind it.
 *
 * Server: a message becomes a `struct rpc_request` when its envelope, version, namespace, method and
 * arguments passed the checks of the method table (rpc/methods.def.h); what does not pass is answered
 * with the failure class that oslo.messaging's dispatcher uses and never reaches a handler.
 * Client: calls with overall timeout and call monitor (nova-contract 1.6), casts, fanout casts.
 *
 * All functions belong to the loop's thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <json-c/json_object.h>

#include "conf/conf.h"
#include "lib/err.h"
#include "lib/loop.h"

struct rpc;
struct rpc_request;

enum rpc_kind { RPC_KIND_CALL, RPC_KIND_CAST };
enum rpc_namespace { RPC_NAMESPACE_COMPUTE, RPC_NAMESPACE_BASEAPI, RPC_NAMESPACE_COMPUTED };

/* One row of rpc/methods.def.h; `rpc_method_id` is RPC_METHOD_<name>. */
enum rpc_method_id {
#define METHOD(name, ...) RPC_METHOD_##name,
#include "rpc/methods.def.h"
#undef METHOD
    RPC_METHOD_COUNT
};
const char *rpc_method_name(enum rpc_method_id id);
bool rpc_method_is_alt(enum rpc_method_id id); /* goes to compute-alt of peers that have it (6.5) */

/* ---- server ---- */

typedef void (*rpc_handler)(void *aux, struct rpc_request *request);

struct rpc_callbacks {
    /*
     * A valid request; the handler owns it and ends it with rpc_reply, rpc_fail or rpc_request_free. The
     * namespace baseapi and oslo_rpc_server_ping are answered by the room itself. NULL = client only.
     */
    rpc_handler request;
    void (*state)(void *aux, bool up, const char *why);
};

int rpc_new(struct rpc **out, struct loop *loop, const struct conf *conf, const char *host,
            const struct rpc_callbacks *callbacks, void *aux, struct err *e);
void rpc_free(struct rpc *rpc, int64_t wait_us);
/* Takes over a new snapshot's reloadable options (timeouts); connections stay as they are. */
void rpc_reload(struct rpc *rpc, const struct conf *conf);

bool rpc_is_up(const struct rpc *rpc);
/* {"up": bool, "broker": "host:port", "queued": n, "waiting_calls": n, ...} for status. New reference. */
struct json_object *rpc_status(struct rpc *rpc);
/* Drain: no new requests from `compute`; `compute-alt` is served on. */
void rpc_drain(struct rpc *rpc);

enum rpc_method_id rpc_request_method(const struct rpc_request *request);
enum rpc_kind rpc_request_kind(const struct rpc_request *request);
/* Wire version of the request, e.g. major 6, minor 0. */
void rpc_request_version(const struct rpc_request *request, int *major, int *minor);
/* Argument by name: checked against the table, borrowed, NULL when absent or null. */
struct json_object *rpc_request_arg(const struct rpc_request *request, const char *name);
/* The context, verbatim, for every RPC made on the request's behalf. Borrowed. */
struct json_object *rpc_request_context(const struct rpc_request *request);
const char *
rpc_request_id(const struct rpc_request *request); /* context's request_id, "" if none */
const char *rpc_request_unique_id(const struct rpc_request *request);

/*
 * The request is ours: acknowledge it to the broker. A handler whose work must survive a crash writes
 * its journal first and then accepts; until then a crash gives the message back to the queue. Replying,
 * failing and freeing accept too. Redeliveries of a request that is being worked on are recognised.
 */
void rpc_request_accept(struct rpc_request *request);
/* End a request. Consumes request and result. For casts nothing is sent; rpc_fail logs. */
void rpc_reply(struct rpc_request *request, struct json_object *result);
void rpc_fail(struct rpc_request *request, const struct err *e);
/* Passes another host's failure on as it came, with args, kwargs and traceback (rpc_failure_raw()). */
void rpc_fail_raw(struct rpc_request *request, const char *failure);
void rpc_request_free(struct rpc_request *request); /* without an answer: casts, shutdown */
DEFINE_CLEANUP(struct rpc_request *, rpc_request_free)

/* ---- client ---- */

struct rpc_target {
    const char *topic;  /* "compute", "compute-alt", "conductor" */
    const char *server; /* host, or NULL = any server of the topic */
    bool fanout;
};

/*
 * The end of a call, on the loop, exactly once. Success: failure is NULL, result is borrowed (may be
 * NULL = None). Failure: *failure has the peer's class, module and message passed through, or
 * ERR_TIMEOUT, ERR_UNREACHABLE, ERR_CANCELLED.
 */
typedef void (*rpc_reply_fn)(void *aux, struct json_object *result, const struct err *failure);

/*
 * The failure that a peer sent, as JSON text, while rpc_reply_fn runs for it: for rpc_fail_raw(). NULL when
 * the failure is our own (timeout, unreachable, cancelled). Borrowed until the callback returns.
 */
const char *rpc_failure_raw(const struct rpc *rpc);

struct rpc_call; /* a call under way */

struct rpc_options {
    const char *version; /* wire version, NULL = "6.0", other namespaces "1.0" */
    int64_t timeout_us;  /* overall; 0 = rpc_response_timeout */
    int64_t monitor_us;  /* call monitor period; 0 = none (`_timeout` null) */
};

/* Calls. `args` is consumed, `context` borrowed. The handle is valid until the callback; may be NULL. */
struct rpc_call *rpc_call(struct rpc *rpc, const struct rpc_target *target,
                          enum rpc_method_id method, struct json_object *args,
                          struct json_object *context, const struct rpc_options *options,
                          rpc_reply_fn done, void *aux);
/* Forgets a call: the callback runs with ERR_CANCELLED before this returns. */
void rpc_call_cancel(struct rpc_call *call);
/*
 * Casts: `done` (may be NULL) tells with failure NULL that the broker has it (confirmed and routed to
 * a queue when the target is a server), else ERR_UNREACHABLE. Deadline: options->timeout_us.
 */
void rpc_cast(struct rpc *rpc, const struct rpc_target *target, enum rpc_method_id method,
              struct json_object *args, struct json_object *context,
              const struct rpc_options *options, rpc_reply_fn done, void *aux);
/* Calls of methods that are not rows of our table (conductor's, for cloud/): by name. */
struct rpc_call *rpc_call_named(struct rpc *rpc, const struct rpc_target *target,
                                const char *method, const char *namespace_name,
                                struct json_object *args, struct json_object *context,
                                const struct rpc_options *options, rpc_reply_fn done, void *aux);
/* Casts likewise; `done` as rpc_cast(). */
struct rpc_call *rpc_cast_named(struct rpc *rpc, const struct rpc_target *target,
                                const char *method, const char *namespace_name,
                                struct json_object *args, struct json_object *context,
                                const struct rpc_options *options, rpc_reply_fn done, void *aux);

/* A context for the agent's own work: admin, no user, fresh request_id (1.5). New reference. */
struct json_object *rpc_context_admin(void);
