/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Several requests to one service at once, answered together: the steps of what Neutron's files do. Loop
 * thread only. A batch frees itself after its function ran.
 */
#pragma once

#include "cloud/service.h"

struct batch;
typedef void (*batch_fn)(struct batch *batch, void *aux);

struct batch *batch_new(struct service *service, const char *request_id);
/*
 * Returns the request's number. `path` (allocated) and `body` are consumed; `what` says what was wanted,
 * for error texts ("port 1234": copied).
 */
size_t batch_get(struct batch *batch, char *path, const char *what);
size_t batch_add(struct batch *batch, const char *method, char *path, struct json_object *body,
                 const char *what);
/* The last one added is not sent again once it may have arrived (it makes something). */
void batch_once(struct batch *batch);
/* Sends all; fn when all have ended, at once when there are none. */
void batch_run(struct batch *batch, batch_fn fn, void *aux);

/* For fn: how request i ended. Status 0 = no answer. */
size_t batch_length(const struct batch *batch);
int batch_status(const struct batch *batch, size_t i);
/* The member `key` of the answer (NULL: the answer); NULL when there is none. Borrowed. */
struct json_object *batch_json(const struct batch *batch, size_t i, const char *key);
/* 0 for 2xx; else -1 and a sentence. ERR_REMOTE, ERR_TIMEOUT..., ERR_CANCELLED at the end of the agent. */
int batch_expect(const struct batch *batch, size_t i, struct err *e);
int batch_expect_all(const struct batch *batch, struct err *e);
/* True if one was never answered: what it was to do may have been done. */
bool batch_in_doubt(const struct batch *batch, size_t i);
/* True if the agent ends: no more requests. */
bool batch_cancelled(const struct batch *batch);
/* "NeutronError": {"type"} of an error's answer; "" when there is none. */
const char *batch_error_type(const struct batch *batch, size_t i);
