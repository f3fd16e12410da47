/* SPDX-License-Identifier: Apache-2.0 */
/* Tokens by Keystone's API v3: POST /v3/auth/tokens. */
#include "cloud/keystone.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <sys/queue.h>

#include "lib/clock.h"
#include "lib/json.h"
#include "lib/text.h"

enum {
    REQUEST_US = 20000000,      /* one request for a token */
    UNUSABLE_US = 10000000,     /* a token is not used in its last seconds */
    RENEW_EARLY_US = 300000000, /* renewed so long before its end, or after 4/5 of a short life */
    RENEW_AGAIN_US = 30000000,  /* after a renewal in the background failed */
    LIFETIME_US_IF_UNKNOWN = 600000000
};

struct group_ids {
    const char *name;
    enum conf_id auth_type, auth_url, username, user_id, password, user_domain_name, user_domain_id;
    enum conf_id project_name, project_id, project_domain_name, project_domain_id;
    enum conf_id default_domain_name, default_domain_id, system_scope;
    enum conf_id application_credential_id, application_credential_name;
    enum conf_id application_credential_secret, cafile, certfile, keyfile, insecure, timeout;
};

#define GROUP_IDS(group)                                                                           \
    {                                                                                              \
        .name = #group, .auth_type = CONF_##group##_auth_type,                                     \
        .auth_url = CONF_##group##_auth_url, .username = CONF_##group##_username,                  \
        .user_id = CONF_##group##_user_id, .password = CONF_##group##_password,                    \
        .user_domain_name = CONF_##group##_user_domain_name,                                       \
        .user_domain_id = CONF_##group##_user_domain_id,                                           \
        .project_name = CONF_##group##_project_name, .project_id = CONF_##group##_project_id,      \
        .project_domain_name = CONF_##group##_project_domain_name,                                 \
        .project_domain_id = CONF_##group##_project_domain_id,                                     \
        .default_domain_name = CONF_##group##_default_domain_name,                                 \
        .default_domain_id = CONF_##group##_default_domain_id,                                     \
        .system_scope = CONF_##group##_system_scope,                                               \
        .application_credential_id = CONF_##group##_application_credential_id,                     \
        .application_credential_name = CONF_##group##_application_credential_name,                 \
        .application_credential_secret = CONF_##group##_application_credential_secret,             \
        .cafile = CONF_##group##_cafile, .certfile = CONF_##group##_certfile,                      \
        .keyfile = CONF_##group##_keyfile, .insecure = CONF_##group##_insecure,                    \
        .timeout = CONF_##group##_timeout                                                          \
    }

static const struct group_ids groups[SESSION_GROUP_COUNT] = {
    [SESSION_PLACEMENT] = GROUP_IDS(placement), [SESSION_NEUTRON] = GROUP_IDS(neutron),
    [SESSION_GLANCE] = GROUP_IDS(glance),       [SESSION_SERVICE_USER] = GROUP_IDS(service_user),
    [SESSION_NOVA] = GROUP_IDS(nova),
};

struct session_wait {
    LIST_ENTRY(session_wait) link;
    void (*done)(void *aux, const struct err *failure);
    void *aux;
};
LIST_HEAD(wait_list, session_wait);

struct session {
    unsigned references;
    const struct group_ids *ids;
    enum session_group group;
    struct http *http;
    struct conf *conf;
    char *url;  /* .../v3/auth/tokens */
    char *body; /* what asks for a token; holds the secret */
    struct http_call *call;
    struct loop_timer *timer; /* renewal */
    struct wait_list waits;
    char *token;
    int64_t end_us; /* monotonic; the token's */
    struct json_object *catalogue;
};

static const char *value(const struct conf *conf, enum conf_id id)
{
    const char *text = conf_string(conf, id);

    return text && *text ? text : NULL;
}

bool session_is_configured(const struct conf *conf, enum session_group group)
{
    return value(conf, groups[group].auth_type) != NULL;
}

struct http_tls session_tls(const struct conf *conf, enum session_group group)
{
    const struct group_ids *ids = &groups[group];

    return (struct http_tls){
        .ca_file = value(conf, ids->cafile),
        .cert_file = value(conf, ids->certfile),
        .key_file = value(conf, ids->keyfile),
        .insecure = conf_bool(conf, ids->insecure),
    };
}

int64_t session_timeout_us(const struct conf *conf, enum session_group group)
{
    return conf_int(conf, groups[group].timeout) * USEC_PER_SEC;
}

/* ---- what is sent ---- */

static int need(const struct conf *conf, const struct group_ids *ids, enum conf_id id,
                const char *name, const char **out, struct err *e)
{
    *out = value(conf, id);
    if (!*out)
        return err_set(e, ERR_CONFIG, "[%s] %s is not set; auth_type %s needs it", ids->name, name,
                       value(conf, ids->auth_type));
    return 0;
}

/* {"domain": {"id" or "name": ...}} into an object that is named, not numbered. */
static void add_domain(struct json_object *to, const struct conf *conf, const struct group_ids *ids,
                       enum conf_id by_id, enum conf_id by_name)
{
    struct json_object *domain = json_object_new_object();
    const char *id = value(conf, by_id), *name = value(conf, by_name);

    if (!id && !name) {
        id = value(conf, ids->default_domain_id);
        name = value(conf, ids->default_domain_name);
    }
    if (id)
        json_add_string(domain, "id", id);
    else
        json_add_string(domain, "name", name ? name : "Default");
    json_add(to, "domain", domain);
}

static struct json_object *user_of(const struct conf *conf, const struct group_ids *ids,
                                   struct err *e)
{
    struct json_object *user = NULL;
    const char *id = value(conf, ids->user_id), *name;

    if (!id && need(conf, ids, ids->username, "username", &name, e) < 0)
        return NULL;
    user = json_object_new_object();
    if (id) {
        json_add_string(user, "id", id);
        return user;
    }
    json_add_string(user, "name", name);
    add_domain(user, conf, ids, ids->user_domain_id, ids->user_domain_name);
    return user;
}

static int password_identity(struct json_object *identity, const struct conf *conf,
                             const struct group_ids *ids, struct err *e)
{
    struct json_object *user, *password;
    const char *secret;

    if (need(conf, ids, ids->password, "password", &secret, e) < 0)
        return -1;
    user = user_of(conf, ids, e);
    if (!user)
        return -1;
    json_add_string(user, "password", secret);
    password = json_object_new_object();
    json_add(password, "user", user);
    json_add(identity, "password", password);
    return 0;
}

static int credential_identity(struct json_object *identity, const struct conf *conf,
                               const struct group_ids *ids, struct err *e)
{
    const char *id = value(conf, ids->application_credential_id), *name = NULL, *secret;
    struct json_object *credential, *user = NULL;

    if (need(conf, ids, ids->application_credential_secret, "application_credential_secret",
             &secret, e) < 0 ||
        (!id && need(conf, ids, ids->application_credential_name, "application_credential_id",
                     &name, e) < 0))
        return -1;
    if (!id) {
        user = user_of(conf, ids, e);
        if (!user)
            return -1;
    }
    credential = json_object_new_object();
    json_add_string(credential, "secret", secret);
    json_add_string(credential, id ? "id" : "name", id ? id : name);
    if (user)
        json_add(credential, "user", user);
    json_add(identity, "application_credential", credential);
    return 0;
}

/* NULL: no scope, the account's default project. */
static struct json_object *scope_of(const struct conf *conf, const struct group_ids *ids)
{
    const char *id = value(conf, ids->project_id), *name = value(conf, ids->project_name);
    struct json_object *scope, *project;

    if (!id && !name && !value(conf, ids->system_scope))
        return NULL;
    scope = json_object_new_object();
    project = json_object_new_object();
    if (!id && !name) {
        json_add_bool(project, "all", true);
        json_add(scope, "system", project);
        return scope;
    }
    json_add_string(project, id ? "id" : "name", id ? id : name);
    if (!id)
        add_domain(project, conf, ids, ids->project_domain_id, ids->project_domain_name);
    json_add(scope, "project", project);
    return scope;
}

static int make_body(char **out, const struct conf *conf, const struct group_ids *ids,
                     struct err *e)
{
    _cleanup_(json_putp) struct json_object *body = json_object_new_object();
    struct json_object *auth = json_object_new_object(), *identity = json_object_new_object();
    struct json_object *methods = json_object_new_array();
    const char *type = value(conf, ids->auth_type);
    bool password = text_equal(type, "password") || text_equal(type, "v3password");

    json_add(body, "auth", auth);
    json_add(auth, "identity", identity);
    json_add(identity, "methods", methods);
    if (!password && !text_equal(type, "v3applicationcredential"))
        return err_set(e, ERR_CONFIG,
                       "[%s] auth_type is %s; it must be password, v3password or "
                       "v3applicationcredential",
                       ids->name, type ? type : "not set");
    json_object_array_add(methods,
                          json_object_new_string(password ? "password" : "application_credential"));
    if ((password ? password_identity(identity, conf, ids, e)
                  : credential_identity(identity, conf, ids, e)) < 0)
        return -1;
    struct json_object *scope = password ? scope_of(conf, ids) : NULL;
    if (scope)
        json_add(auth, "scope", scope);
    *out = json_text(body);
    return 0;
}

/* auth_url may be Keystone's root or one of its versions. */
static char *tokens_url(const char *auth_url)
{
    size_t length = strlen(auth_url);

    while (length && auth_url[length - 1] == '/')
        length--;
    _cleanup_(str_freep) char *root = text_dup_n(auth_url, length);
    if (text_ends_with(root, "/v3"))
        root[length - 3] = '\0';
    else if (text_ends_with(root, "/v2.0"))
        root[length - 5] = '\0';
    return text_format("%s/v3/auth/tokens", root);
}

/* ---- the session ---- */

static void ask(struct session *session);

static void renew(void *aux)
{
    struct session *session = aux;

    if (!session->call)
        ask(session);
}

int session_new(struct session **out, enum session_group group, struct http *http,
                struct loop *loop, const struct conf *conf, struct err *e)
{
    const struct group_ids *ids = &groups[group];
    _cleanup_(str_freep) char *body = NULL;
    const char *url;
    struct session *session;

    if (make_body(&body, conf, ids, e) < 0 ||
        need(conf, ids, ids->auth_url, "auth_url", &url, e) < 0)
        return -1;
    session = NEW(struct session);
    session->references = 1;
    session->ids = ids;
    session->group = group;
    session->http = http;
    session->conf = conf_ref(conf);
    session->url = tokens_url(url);
    session->body = STEAL(body);
    session->timer = loop_timer_new(loop, "keystone token", renew, session);
    *out = session;
    return 0;
}

struct session *session_ref(struct session *session)
{
    session->references++;
    return session;
}

void session_unref(struct session *session)
{
    if (!session || --session->references > 0)
        return;
    assert(LIST_EMPTY(&session->waits));
    session->references = 1; /* the cancelled call looks at it once more */
    if (session->call)
        http_cancel(session->call);
    loop_timer_free(session->timer);
    conf_unref(session->conf);
    json_object_put(session->catalogue);
    free(session->url);
    free(session->body);
    free(session->token);
    free(session);
}

const char *session_token(const struct session *session)
{
    if (!session->token || clock_monotonic_us() >= session->end_us - UNUSABLE_US)
        return NULL;
    return session->token;
}

void session_reject(struct session *session, const char *token)
{
    if (!text_equal(session->token, token))
        return; /* renewed meanwhile */
    free(session->token);
    session->token = NULL;
}

struct session_wait *session_acquire(struct session *session,
                                     void (*done)(void *aux, const struct err *failure), void *aux)
{
    struct session_wait *wait = NEW(struct session_wait);

    wait->done = done;
    wait->aux = aux;
    LIST_INSERT_HEAD(&session->waits, wait, link);
    if (!session->call)
        ask(session);
    return wait;
}

void session_wait_cancel(struct session_wait *wait)
{
    LIST_REMOVE(wait, link);
    free(wait);
}

/* ---- the answer ---- */

/* By Keystone's own clock, which need not agree with ours. */
static int64_t lifetime_us(struct json_object *token)
{
    int64_t issued = clock_parse_s(json_get_string(token, "issued_at", NULL));
    int64_t end = clock_parse_s(json_get_string(token, "expires_at", NULL));

    if (issued < 0 || end <= issued)
        return LIFETIME_US_IF_UNKNOWN;
    return (end - issued) * USEC_PER_SEC;
}

static int take_token(struct session *session, const struct http_reply *reply, struct err *e)
{
    struct json_object *token = json_get(reply->json, "token");
    const char *text = reply->header(reply, "X-Subject-Token");
    const char *detail = json_get_string(json_get(reply->json, "error"), "message", "");

    if (reply->status >= 500 || reply->status == 429)
        return err_set(e, ERR_UNREACHABLE, "Keystone (%s) answered %d: %s", session->url,
                       reply->status, detail);
    if (reply->status >= 300)
        return err_set(e, ERR_DENIED, "Keystone (%s) refused the account of [%s] with %d: %s",
                       session->url, session->ids->name, reply->status, detail);
    if (!text || !token)
        return err_set(e, ERR_REMOTE, "Keystone (%s) answered %d without a token", session->url,
                       reply->status);
    int64_t lifetime = lifetime_us(token), early = lifetime / 5;
    text_replace(&session->token, text);
    session->end_us = clock_monotonic_us() + lifetime;
    json_object_put(session->catalogue);
    session->catalogue = json_object_get(json_get(token, "catalog"));
    loop_timer_arm(session->timer, lifetime - (early < RENEW_EARLY_US ? early : RENEW_EARLY_US));
    return 0;
}

static void tell_waits(struct session *session, const struct err *failure)
{
    struct wait_list told = session->waits;

    /* a new list: who is told may wait again */
    if (!LIST_EMPTY(&told))
        LIST_FIRST(&told)->link.le_prev = &LIST_FIRST(&told);
    LIST_INIT(&session->waits);
    while (!LIST_EMPTY(&told)) {
        struct session_wait *wait = LIST_FIRST(&told);
        LIST_REMOVE(wait, link);
        wait->done(wait->aux, failure);
        free(wait);
    }
}

static void answered(void *aux, const struct http_reply *reply, const struct err *failure)
{
    struct session *session = session_ref(aux);
    struct err e = ERR_INIT;

    session->call = NULL;
    if (failure) {
        e = *failure;
        err_prefix(&e, "Keystone");
    } else {
        (void)take_token(session, reply, &e);
    }
    if (err_is_set(&e) && session->token && e.code != ERR_CANCELLED)
        loop_timer_arm(session->timer, RENEW_AGAIN_US);
    tell_waits(session, err_is_set(&e) ? &e : NULL);
    session_unref(session);
}

static void ask(struct session *session)
{
    static const char *const headers[] = {"Content-Type: application/json",
                                          "Accept: application/json", NULL};
    struct http_request request = {
        .method = "POST",
        .url = session->url,
        .headers = headers,
        .body = session->body,
        .timeout_us = REQUEST_US,
        .tls = session_tls(session->conf, session->group),
    };

    session->call = http_send(session->http, &request, answered, session);
}

/* ---- the catalogue ---- */

static bool is_wanted(struct json_object *endpoint, const char *interface, const char *region)
{
    return text_equal(json_get_string(endpoint, "interface", NULL), interface) &&
           (!region || text_equal(json_get_string(endpoint, "region", NULL), region) ||
            text_equal(json_get_string(endpoint, "region_id", NULL), region));
}

static const char *url_in(struct json_object *endpoints, const char *interface, const char *region)
{
    for (size_t i = 0; endpoints && i < json_object_array_length(endpoints); i++) {
        struct json_object *endpoint = json_object_array_get_idx(endpoints, i);
        if (is_wanted(endpoint, interface, region))
            return json_get_string(endpoint, "url", NULL);
    }
    return NULL;
}

static const char *find_url(struct json_object *catalogue, const struct session_endpoint *want,
                            const char *interface)
{
    for (size_t i = 0; catalogue && i < json_object_array_length(catalogue); i++) {
        struct json_object *service = json_object_array_get_idx(catalogue, i);
        struct json_object *endpoints = json_get(service, "endpoints");
        if (!text_equal(json_get_string(service, "type", NULL), want->type) ||
            (want->name && !text_equal(json_get_string(service, "name", NULL), want->name)) ||
            !json_object_is_type(endpoints, json_type_array))
            continue;
        const char *url = url_in(endpoints, interface, want->region);
        if (url)
            return url;
    }
    return NULL;
}

int session_find_endpoint(const struct session *session, const struct session_endpoint *want,
                          const char **url, struct err *e)
{
    struct json_object *catalogue =
        json_object_is_type(session->catalogue, json_type_array) ? session->catalogue : NULL;
    struct text_buffer tried = TEXT_BUFFER_INIT;

    for (size_t i = 0; i < want->interface_count; i++) {
        const char *found = find_url(catalogue, want, want->interfaces[i]);
        if (found) {
            text_buffer_free(&tried);
            *url = found;
            return 0;
        }
        text_buffer_printf(&tried, "%s%s", i ? ", " : "", want->interfaces[i]);
    }
    err_set(e, ERR_CONFIG,
            "Keystone's catalogue has no endpoint of type %s, interface %s, in region %s "
            "(endpoint_override can name it)",
            want->type, tried.length ? tried.data : "(none)", want->region ? want->region : "any");
    text_buffer_free(&tried);
    return -1;
}
