/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP by libcurl on the loop: curl's multi interface, its sockets and timers watched by the loop, so that
 * connections stay warm and nothing blocks. Users are the control plane's files; others see cloud/cloud.h.
 * http and https only, no redirects, no proxies (the services of a cloud are reached directly), bounded
 * bodies. SIGPIPE must be ignored (OpenSSL writes to sockets that are closed). Loop thread only.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <json-c/json_object.h>

#include "lib/err.h"
#include "lib/loop.h"

struct http;
struct http_call;

/* How a service is reached; strings are copied by http_send(). */
struct http_tls {
    const char *ca_file;   /* NULL = the system's */
    const char *cert_file; /* NULL = none */
    const char *key_file;
    bool insecure;
};

struct http_request {
    const char *method; /* "GET", "PUT", ... */
    const char *url;
    const char *const *headers; /* "Name: value", NULL-terminated; NULL = none */
    const char *body;           /* NULL = none */
    int64_t timeout_us;         /* the whole request; 0 = 60 s */
    bool
        once; /* never sent twice: on a connection of its own, since curl repeats what broke on an old one */
    struct http_tls tls;
};

enum { HTTP_BODY_MAX = 32 * 1024 * 1024 };

struct http_reply {
    int status;
    const char *body;         /* terminated; "" when there is none */
    struct json_object *json; /* the body parsed when its type says JSON; else NULL */
    /* Value of a header of the reply, NULL when it is not there; borrowed for the callback. */
    const char *(*header)(const struct http_reply *reply, const char *name);
};

/* Any answer is a reply, whatever its status; failure: no answer (ERR_TIMEOUT, ERR_UNREACHABLE for
 * refused or broken connections and TLS, ERR_REMOTE for a body above HTTP_BODY_MAX, each with the URL's
 * host and port named; ERR_INVALID for a URL that is none, ERR_CANCELLED). */
typedef void (*http_done_fn)(void *aux, const struct http_reply *reply, const struct err *failure);

int http_new(struct http **out, struct loop *loop, struct err *e);
/* Calls under way end with ERR_CANCELLED before this returns. NULL is accepted. Not inside a callback. */
void http_free(struct http *http);
/* `done` is never called before this returned. The handle is valid until the callback. */
struct http_call *http_send(struct http *http, const struct http_request *request,
                            http_done_fn done, void *aux);
/* The callback runs with ERR_CANCELLED before it returns. */
void http_cancel(struct http_call *call);
/* Inside the callback, after a failure: false = not a byte of the request left this host. */
bool http_was_sent(const struct http_call *call);
