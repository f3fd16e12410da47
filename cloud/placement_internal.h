/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What placement.c (the provider) and placement_allocations.c share: an operation, which is a row of
 * requests. Each request names the function that takes its reply; that function asks the next one or ends
 * the operation. Implemented in placement.c.
 */
#pragma once

#include <sys/queue.h>

#include "cloud/placement.h"

enum placement_status { PLACEMENT_STATUS_UNKNOWN, PLACEMENT_ENABLED, PLACEMENT_DISABLED };

struct placement_op;
typedef void (*placement_step_fn)(struct placement_op *op);
typedef void (*placement_reply_fn)(struct placement_op *op, const struct http_reply *reply);

LIST_HEAD(placement_op_list, placement_op);

struct placement {
    struct cloud *cloud;
    struct service *service;
    struct placement_op_list ops;
    struct placement_op *writing; /* the one that changes the provider now */
    char *uuid;                   /* NULL before the first update */
    struct json_object *traits;   /* {name: true} of all that Placement has; NULL = not asked yet */
    int64_t traits_us;            /* when that was */
    enum placement_status status;
    bool closing;
};

struct placement_op {
    LIST_ENTRY(placement_op) link;
    struct placement *placement; /* NULL: closed while somebody else still owes an answer */
    const char *what;            /* static, for messages */
    placement_step_fn start;     /* begun anew after a conflict */
    struct service_call *call;
    struct loop_timer *timer;
    unsigned tries;
    char *request_id;
    placement_reply_fn take;
    cloud_done_fn done;
    cloud_result_fn result_done;
    void *aux;

    /* the provider */
    bool waiting, status_only;
    char *uuid, *name;
    int64_t vcpus, memory_mb, disk_gb;
    struct json_object *wanted_traits; /* array; NULL = left alone */

    /* allocations */
    bool persists; /* after its failure was told, it goes on in the background */
    bool told, asking;
    int64_t until_us;
    char *consumer, *target; /* the target is the instance of a revert */
    struct json_object *context, *source;
};

struct placement_op *placement_op_new(struct placement *placement, const char *what,
                                      placement_step_fn start);
/* Only of one that was ended while `asking`. */
void placement_op_free(struct placement_op *op);
/* body is consumed. */
void placement_ask(struct placement_op *op, const char *method, const char *path,
                   struct json_object *body, placement_reply_fn take);
/* After a 409: begins anew if the other side changed something meanwhile, else fails with the reply. */
void placement_conflict(struct placement_op *op, const struct http_reply *reply);
void placement_refused(struct placement_op *op, const struct http_reply *reply);
void placement_fail(struct placement_op *op, const struct err *failure);
/* Tells and frees; result is borrowed, may be NULL. */
void placement_end(struct placement_op *op, struct json_object *result, const struct err *failure);
