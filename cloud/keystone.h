/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who we are to Keystone: the token of one group's account with the catalogue that comes with it. Renewed in
 * the background before it ends, so that nothing on a migration's way waits for it; one request at a time,
 * shared by all who wait. Loop thread only.
 */
#pragma once

#include "cloud/http.h"
#include "conf/conf.h"

/* Groups of the configuration with AUTH_ROWS. */
enum session_group {
    SESSION_PLACEMENT,
    SESSION_NEUTRON,
    SESSION_GLANCE,
    SESSION_SERVICE_USER,
    SESSION_NOVA,
    SESSION_GROUP_COUNT
};

struct session;
struct session_wait;

/* True if the group says how to log in. */
bool session_is_configured(const struct conf *conf, enum session_group group);
/* ERR_CONFIG names the option that is missing or not supported. */
int session_new(struct session **out, enum session_group group, struct http *http,
                struct loop *loop, const struct conf *conf, struct err *e);
struct session *session_ref(struct session *session);
/* Who waits must have cancelled before the last reference goes. NULL is accepted. */
void session_unref(struct session *session);

/* The token; NULL when there is none that is good for a while. Borrowed until the next turn of the loop. */
const char *session_token(const struct session *session);
/* Asks for a token. done: never before this returned; failure: ERR_DENIED when Keystone refuses the account,
 * else ERR_UNREACHABLE or ERR_TIMEOUT, which may pass. */
struct session_wait *session_acquire(struct session *session,
                                     void (*done)(void *aux, const struct err *failure), void *aux);
void session_wait_cancel(struct session_wait *wait); /* done is not called */
/* A service answered 401 to this token: another one is asked for the next time. */
void session_reject(struct session *session, const char *token);

struct session_endpoint {
    const char *type, *name, *region; /* name and region may be NULL: any */
    const char *const *interfaces;    /* best first */
    size_t interface_count;
};
/* URL from the catalogue (there must be a token), borrowed like the token; ERR_CONFIG lists what is there. */
int session_find_endpoint(const struct session *session, const struct session_endpoint *want,
                          const char **url, struct err *e);
/* TLS options of a group, borrowed from the configuration. */
struct http_tls session_tls(const struct conf *conf, enum session_group group);
/* The group's `timeout` in microseconds. */
int64_t session_timeout_us(const struct conf *conf, enum session_group group);
