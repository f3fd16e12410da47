/* SPDX-License-Identifier: Apache-2.0 */
#include "cloud/neutron_batch.h"

#include <stdlib.h>

#include "lib/json.h"
#include "lib/text.h"
#include "lib/vector.h"

struct batch_request {
    const char *method; /* static */
    char *path, *what;
    struct json_object *body;
    bool once;
    /* the end */
    int status;
    struct json_object *json;
    bool failed; /* no answer, or one outside 2xx */
    struct err e;
    struct batch *batch;
};
DEFINE_VECTOR(batch_requests, struct batch_request)

struct batch {
    struct service *service;
    char *request_id;
    struct batch_requests requests;
    size_t open;
    batch_fn fn;
    void *aux;
};

struct batch *batch_new(struct service *service, const char *request_id)
{
    struct batch *batch = NEW(struct batch);

    batch->service = service;
    batch->request_id = text_dup(request_id);
    return batch;
}

static void batch_free(struct batch *batch)
{
    for (size_t i = 0; i < batch->requests.length; i++) {
        struct batch_request *r = &batch->requests.items[i];
        free(r->path);
        free(r->what);
        json_object_put(r->body);
        json_object_put(r->json);
    }
    free(batch->requests.items);
    free(batch->request_id);
    free(batch);
}

size_t batch_add(struct batch *batch, const char *method, char *path, struct json_object *body,
                 const char *what)
{
    struct batch_request *r = batch_requests_add(&batch->requests);

    r->method = method;
    r->path = path;
    r->body = body;
    r->what = text_dup(what);
    return batch->requests.length - 1;
}

size_t batch_get(struct batch *batch, char *path, const char *what)
{
    return batch_add(batch, "GET", path, NULL, what);
}

void batch_once(struct batch *batch)
{
    batch->requests.items[batch->requests.length - 1].once = true;
}

static void finish(struct batch *batch)
{
    batch->fn(batch, batch->aux);
    batch_free(batch);
}

static void request_ended(void *aux, const struct http_reply *reply, const struct err *failure)
{
    struct batch_request *r = aux;
    struct batch *batch = r->batch;

    r->failed = !reply || reply->status < 200 || reply->status > 299;
    if (reply) {
        r->status = reply->status;
        r->json = json_object_get(reply->json);
    }
    if (reply && r->failed)
        service_refused(reply, batch->service, r->what, ERR_REMOTE, &r->e);
    else if (!reply) {
        r->e = *failure;
        err_prefix(&r->e, "%s", r->what);
    }
    if (--batch->open == 0)
        finish(batch);
}

void batch_run(struct batch *batch, batch_fn fn, void *aux)
{
    size_t n = batch->requests.length;

    batch->fn = fn;
    batch->aux = aux;
    batch->open = n;
    if (n == 0)
        finish(batch);
    for (size_t i = 0; i < n; i++) {
        struct batch_request *r = &batch->requests.items[i];
        struct service_request request = {
            .method = r->method,
            .path = r->path,
            .body = r->body,
            .request_id = batch->request_id,
            .once = r->once,
        };
        r->batch = batch;
        service_send(batch->service, &request, request_ended, r);
    }
}

size_t batch_length(const struct batch *batch)
{
    return batch->requests.length;
}

int batch_status(const struct batch *batch, size_t i)
{
    return batch->requests.items[i].status;
}

struct json_object *batch_json(const struct batch *batch, size_t i, const char *key)
{
    struct json_object *json = batch->requests.items[i].json;

    return key ? json_get(json, key) : json;
}

int batch_expect(const struct batch *batch, size_t i, struct err *e)
{
    const struct batch_request *r = &batch->requests.items[i];

    if (!r->failed)
        return 0;
    if (e)
        *e = r->e;
    return -1;
}

int batch_expect_all(const struct batch *batch, struct err *e)
{
    for (size_t i = 0; i < batch->requests.length; i++)
        if (batch_expect(batch, i, e) < 0)
            return -1;
    return 0;
}

bool batch_in_doubt(const struct batch *batch, size_t i)
{
    return batch->requests.items[i].status == 0 || batch->requests.items[i].status >= 500;
}

bool batch_cancelled(const struct batch *batch)
{
    for (size_t i = 0; i < batch->requests.length; i++)
        if (batch->requests.items[i].failed && batch->requests.items[i].e.code == ERR_CANCELLED)
            return true;
    return false;
}

const char *batch_error_type(const struct batch *batch, size_t i)
{
    return json_get_string(batch_json(batch, i, "NeutronError"), "type", "");
}
