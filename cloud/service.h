/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One REST service of the cloud with its session: Keystone token (password, v3 application credential),
 * renewed before it ends and once after a 401; endpoint by override or catalogue (service type, interfaces
 * in order, region); TLS; retries with back-off on 5xx, 429 and broken connections; request ids.
 * Options are those of nova.conf's own section (keystoneauth's names): [placement], [neutron], [glance],
 * and [service_user] for X-Service-Token; [nova] is ours. Where [glance] or [nova] has no auth_type (as in most
 * nova.conf, since Nova goes to Glance with the user's token and never to itself), the account of [service_user] or
 * else of [neutron] asks.
 * Loop thread only, but for transfers.
 */
#pragma once

#include "cloud/http.h"
#include "conf/conf.h"

enum service_kind {
    SERVICE_PLACEMENT,
    SERVICE_NEUTRON,
    SERVICE_GLANCE,
    SERVICE_NOVA,
    SERVICE_KIND_COUNT
};

struct service;
struct service_call;

/* ERR_CONFIG names the option that is missing or not supported (auth_type). */
int service_new(struct service **out, enum service_kind kind, struct http *http, struct loop *loop,
                const struct conf *conf, struct err *e);
void service_free(struct service *service); /* calls end with ERR_CANCELLED; NULL is accepted */
/* Options that are not valid leave the service as it was. */
void service_reload(struct service *service, const struct conf *conf);

struct service_request {
    const char *method;
    const char
        *path; /* below the endpoint, with version and query: "/v2.0/ports?...", "/v2/images/..." */
    struct json_object *body; /* borrowed; NULL = none */
    const char *content_type; /* NULL = application/json */
    const char *microversion; /* "placement 1.28": OpenStack-API-Version; NULL = none */
    const char *request_id;   /* X-Openstack-Request-Id: "req-..."; NULL = none */
    const char
        *user_token; /* the request context's auth_token: ask in the user's name, and after a 401 in
                               our own; NULL = our own account */
    bool once; /* no retry once the request may have reached the service (it is not idempotent) */
    bool
        warm; /* with `once`: an open connection may be used, whose break curl may repeat once; for a
                  request that must leave at once and whose caller looks what became of it */
    int64_t timeout_us; /* all attempts together; 0 = the section's timeout, else 60 s */
};

/* Any status below 500 is a reply; 5xx after the last retry too. failure: as http_done_fn, or ERR_DENIED
 * when Keystone refuses, ERR_CONFIG when the catalogue lacks the service. */
typedef void (*service_done_fn)(void *aux, const struct http_reply *reply,
                                const struct err *failure);
struct service_call *service_send(struct service *service, const struct service_request *request,
                                  service_done_fn done, void *aux);
void service_cancel(struct service_call *call);
/* A sentence about a reply that is not what was hoped for: "<what>: neutron answered 409: <its text>". */
int service_refused(const struct http_reply *reply, struct service *service, const char *what,
                    enum err_code code, struct err *e);
const char *service_name(const struct service *service); /* "neutron" */

/*
 * What a worker needs to move a file: URL, headers with the token, TLS. Made on the loop, used on any
 * thread, freed by the caller. user_token: as in a request, may be NULL.
 */
struct service_ticket;
typedef void (*service_ticket_fn)(void *aux, struct service_ticket *ticket,
                                  const struct err *failure); /* ticket is the callee's */
void service_ticket(struct service *service, const char *path, const char *request_id,
                    const char *user_token, service_ticket_fn done, void *aux);
void service_ticket_free(struct service_ticket *ticket);
/* BLOCKS. GET into fd / PUT from fd (octets), from the descriptor's place on. `sink` sees each piece first
 * (digests); may be NULL. Stalls of 60 s end it. ERR_REMOTE names the status. */
typedef int (*service_sink_fn)(void *aux, const void *data, size_t size, struct err *e);
int service_download(const struct service_ticket *ticket, int fd, service_sink_fn sink, void *aux,
                     struct err *e);
int service_upload(const struct service_ticket *ticket, int fd, struct err *e);
