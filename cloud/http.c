/* SPDX-License-Identifier: Apache-2.0 */
/*
 * curl's multi interface on the loop. curl tells which sockets to watch (socket_wanted) and when to call it
 * (timer_wanted); each event is one curl_multi_socket_action(), after which ended transfers are collected
 * outside curl, so that callbacks may send and cancel. Names are looked up by curl's own threads; QUICK_EXIT
 * keeps a cancelled call from waiting for such a thread.
 */
#include "cloud/http.h"

#include <assert.h>
#include <curl/curl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/queue.h>
#include <sys/socket.h>

#include "lib/clock.h"
#include "lib/json.h"
#include "lib/text.h"

enum {
    CONNECT_MS = 5000,     /* a host that does not answer at all: the caller can try another time */
    UNACKED_MS = 10000,    /* a warm connection whose peer vanished breaks after this */
    CONNECTIONS_KEPT = 16, /* idle ones */
    TIMEOUT_US = 60000000
};

struct watch {
    LIST_ENTRY(watch) link;
    struct http *http;
    curl_socket_t fd;
    struct loop_source *source;
};

struct http_call {
    LIST_ENTRY(http_call) link;
    struct http *http;
    CURL *easy;
    struct curl_slist *headers;
    struct text_buffer body;
    char *where; /* "host:port" */
    char *what;  /* "GET /path" */
    char detail[CURL_ERROR_SIZE];
    int64_t timeout_us;
    bool too_big, sent;
    CURLcode early; /* setting the request up failed: told from the timer */
    struct http_reply reply;
    http_done_fn done;
    void *aux;
};

LIST_HEAD(call_list, http_call);
LIST_HEAD(watch_list, watch);

struct http {
    struct loop *loop;
    CURLM *multi;
    struct loop_timer *timer, *early_timer;
    struct call_list calls;
    struct watch_list watches;
};

/* ---- the end of a call ---- */

static const char *reply_header(const struct http_reply *reply, const char *name)
{
    const struct http_call *call =
        (const void *)((const char *)reply - offsetof(struct http_call, reply));
    struct curl_header *header;

    if (curl_easy_header(call->easy, name, 0, CURLH_HEADER, -1, &header) != CURLHE_OK)
        return NULL;
    return header->value;
}

static void call_free(struct http_call *call)
{
    curl_easy_cleanup(call->easy);
    curl_slist_free_all(call->headers);
    text_buffer_free(&call->body);
    free(call->where);
    free(call->what);
    free(call);
}

static void explain(const struct http_call *call, CURLcode code, struct err *e)
{
    const char *text = *call->detail ? call->detail : curl_easy_strerror(code);

    if (call->too_big)
        err_set(e, ERR_REMOTE, "%s: %s was answered with more than %d bytes", call->where,
                call->what, HTTP_BODY_MAX);
    else if (code == CURLE_OPERATION_TIMEDOUT && call->sent)
        err_set(e, ERR_TIMEOUT, "%s did not answer %s within %lld ms", call->where, call->what,
                (long long)(call->timeout_us / USEC_PER_MSEC));
    else if (code == CURLE_OPERATION_TIMEDOUT)
        err_set(e, ERR_TIMEOUT, "%s cannot be reached: no connection in time (%s)", call->where,
                text);
    else if (code == CURLE_URL_MALFORMAT || code == CURLE_UNSUPPORTED_PROTOCOL)
        err_set(e, ERR_INVALID, "%s: %s: the URL is not valid, it must be http:// or https:// (%s)",
                call->where, call->what, text);
    else if (code == CURLE_OUT_OF_MEMORY)
        err_set(e, ERR_NOMEM, "%s: %s: out of memory", call->where, call->what);
    else
        err_set(e, ERR_UNREACHABLE, "%s cannot be reached for %s: %s", call->where, call->what,
                text);
}

static void tell_reply(struct http_call *call)
{
    _cleanup_(json_putp) struct json_object *json = NULL;
    const char *type = NULL;
    long status = 0;

    curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(call->easy, CURLINFO_CONTENT_TYPE, &type);
    if (type && call->body.length && strcasestr(type, "json"))
        (void)json_parse(call->body.data, call->body.length, &json, NULL);
    call->reply.status = (int)status;
    call->reply.body = call->body.length ? call->body.data : "";
    call->reply.json = json;
    call->reply.header = reply_header;
    call->done(call->aux, &call->reply, NULL);
}

static void call_end(struct http_call *call, CURLcode code, bool cancelled)
{
    struct err e = ERR_INIT;
    long sent = 0;

    LIST_REMOVE(call, link);
    if (call->easy && !call->early)
        curl_multi_remove_handle(call->http->multi, call->easy);
    if (call->easy)
        curl_easy_getinfo(call->easy, CURLINFO_REQUEST_SIZE, &sent);
    call->sent = sent > 0;
    if (cancelled)
        err_set(&e, ERR_CANCELLED, "%s: %s was cancelled", call->where, call->what);
    else if (code != CURLE_OK)
        explain(call, code, &e);
    if (err_is_set(&e))
        call->done(call->aux, NULL, &e);
    else
        tell_reply(call);
    call_free(call);
}

static void collect(struct http *http)
{
    CURLMsg *message;
    int left;

    while ((message = curl_multi_info_read(http->multi, &left))) {
        struct http_call *call = NULL;
        CURLcode code = message->data.result;
        if (message->msg != CURLMSG_DONE)
            continue;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&call);
        call_end(call, code, false);
    }
}

static void tell_early(void *aux)
{
    struct http *http = aux;
    struct http_call *call, *next;

    for (call = LIST_FIRST(&http->calls); call; call = next) {
        next = LIST_NEXT(call, link);
        if (!call->early)
            continue;
        call_end(call, call->early, false);
        next = LIST_FIRST(&http->calls); /* the callback may have ended others */
    }
}

/* ---- curl's sockets and timer ---- */

static void socket_ready(void *aux, uint32_t events)
{
    const struct watch *watch = aux;
    struct http *http = watch->http;
    int running, ready = 0;

    if (events & EPOLLIN)
        ready |= CURL_CSELECT_IN;
    if (events & EPOLLOUT)
        ready |= CURL_CSELECT_OUT;
    if (events & (EPOLLERR | EPOLLHUP))
        ready |= CURL_CSELECT_ERR;
    curl_multi_socket_action(http->multi, watch->fd, ready, &running);
    collect(http);
}

static void watch_free(struct watch *watch)
{
    LIST_REMOVE(watch, link);
    loop_source_free(watch->source);
    free(watch);
}

static int socket_wanted(CURL *easy, curl_socket_t fd, int what, void *aux, void *socket_aux)
{
    struct http *http = aux;
    struct watch *watch = socket_aux;
    uint32_t events = (what & CURL_POLL_IN ? EPOLLIN : 0U) | (what & CURL_POLL_OUT ? EPOLLOUT : 0U);

    (void)easy;
    if (what == CURL_POLL_REMOVE) {
        if (watch)
            watch_free(watch);
        curl_multi_assign(http->multi, fd, NULL);
        return 0;
    }
    if (watch)
        return loop_source_set_events(watch->source, events, NULL);
    watch = NEW(struct watch);
    watch->http = http;
    watch->fd = fd;
    LIST_INSERT_HEAD(&http->watches, watch, link);
    watch->source = loop_add_fd(http->loop, fd, events, "http", socket_ready, watch, NULL);
    if (!watch->source) {
        watch_free(watch);
        return -1;
    }
    curl_multi_assign(http->multi, fd, watch);
    return 0;
}

static int timer_wanted(CURLM *multi, long timeout_ms, void *aux)
{
    struct http *http = aux;

    (void)multi;
    if (timeout_ms < 0)
        loop_timer_disarm(http->timer);
    else
        loop_timer_arm(http->timer, timeout_ms * USEC_PER_MSEC);
    return 0;
}

static void timer_due(void *aux)
{
    struct http *http = aux;
    int running;

    curl_multi_socket_action(http->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    collect(http);
}

int http_new(struct http **out, struct loop *loop, struct err *e)
{
    struct http *http;

    /* never cleaned up: a worker may still move a file when the agent ends */
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        return err_set(e, ERR_INTERNAL, "libcurl cannot be initialised");
    http = NEW(struct http);
    http->loop = loop;
    http->multi = curl_multi_init();
    if (!http->multi) {
        free(http);
        return err_set(e, ERR_NOMEM, "libcurl cannot make its multi handle");
    }
    http->timer = loop_timer_new(loop, "http timer", timer_due, http);
    http->early_timer = loop_timer_new(loop, "http refused", tell_early, http);
    curl_multi_setopt(http->multi, CURLMOPT_SOCKETFUNCTION, socket_wanted);
    curl_multi_setopt(http->multi, CURLMOPT_SOCKETDATA, http);
    curl_multi_setopt(http->multi, CURLMOPT_TIMERFUNCTION, timer_wanted);
    curl_multi_setopt(http->multi, CURLMOPT_TIMERDATA, http);
    curl_multi_setopt(http->multi, CURLMOPT_MAXCONNECTS, (long)CONNECTIONS_KEPT);
    *out = http;
    return 0;
}

void http_free(struct http *http)
{
    if (!http)
        return;
    while (!LIST_EMPTY(&http->calls))
        http_cancel(LIST_FIRST(&http->calls));
    curl_multi_cleanup(http->multi);
    while (!LIST_EMPTY(&http->watches))
        watch_free(LIST_FIRST(&http->watches));
    loop_timer_free(http->timer);
    loop_timer_free(http->early_timer);
    free(http);
}

/* ---- one call ---- */

static size_t body_came(char *data, size_t size, size_t count, void *aux)
{
    struct http_call *call = aux;

    if (call->body.length + size * count > HTTP_BODY_MAX) {
        call->too_big = true;
        return 0;
    }
    text_buffer_add_n(&call->body, data, size * count);
    return size * count;
}

static int socket_made(void *aux, curl_socket_t fd, curlsocktype purpose)
{
    unsigned unacked_ms = UNACKED_MS;

    (void)aux;
    (void)purpose;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &unacked_ms, sizeof(unacked_ms));
    return CURL_SOCKOPT_OK;
}

/* For messages: host and port of the URL, and the request without the query. */
static void name_call(struct http_call *call, const struct http_request *request)
{
    CURLU *url = curl_url();
    char *host = NULL, *port = NULL, *path = NULL;

    if (url && curl_url_set(url, CURLUPART_URL, request->url, 0) == CURLUE_OK) {
        curl_url_get(url, CURLUPART_HOST, &host, 0);
        curl_url_get(url, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT);
        curl_url_get(url, CURLUPART_PATH, &path, 0);
    }
    call->where = host && port ? text_format("%s:%s", host, port) : text_dup(request->url);
    call->what = text_format("%s %s", request->method, path ? path : "/");
    curl_free(host);
    curl_free(port);
    curl_free(path);
    curl_url_cleanup(url);
}

/* The method: curl's own ways for GET and HEAD, else a body (perhaps none) under a custom name. */
static CURLcode set_method(CURL *easy, const struct http_request *request)
{
    const char *body = request->body ? request->body : "";

    if (strcmp(request->method, "GET") == 0)
        return curl_easy_setopt(easy, CURLOPT_HTTPGET, 1L);
    if (strcmp(request->method, "HEAD") == 0)
        return curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
    if (request->body || strcmp(request->method, "DELETE") != 0) {
        curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(body));
        curl_easy_setopt(easy, CURLOPT_COPYPOSTFIELDS, body);
    }
    return curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, request->method);
}

static void set_tls(CURL *easy, const struct http_tls *tls)
{
    curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    if (tls->ca_file)
        curl_easy_setopt(easy, CURLOPT_CAINFO, tls->ca_file);
    if (tls->cert_file)
        curl_easy_setopt(easy, CURLOPT_SSLCERT, tls->cert_file);
    if (tls->key_file)
        curl_easy_setopt(easy, CURLOPT_SSLKEY, tls->key_file);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, tls->insecure ? 0L : 1L);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, tls->insecure ? 0L : 2L);
}

static bool has_header(const char *const *headers, const char *name)
{
    size_t length = strlen(name);

    for (; headers && *headers; headers++)
        if (strncasecmp(*headers, name, length) == 0)
            return true;
    return false;
}

static void set_headers(struct http_call *call, const struct http_request *request)
{
    /* without these curl waits for "100 Continue" and calls every body a form */
    call->headers = curl_slist_append(call->headers, "Expect:");
    if (!has_header(request->headers, "Content-Type:"))
        call->headers = curl_slist_append(call->headers, "Content-Type:");
    for (const char *const *header = request->headers; header && *header; header++)
        call->headers = curl_slist_append(call->headers, *header);
    curl_easy_setopt(call->easy, CURLOPT_HTTPHEADER, call->headers);
}

static CURLcode set_up(struct http_call *call, const struct http_request *request)
{
    CURL *easy = call->easy;
    CURLcode code = curl_easy_setopt(easy, CURLOPT_URL, request->url);

    if (code == CURLE_OK)
        code = curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    if (code == CURLE_OK)
        code = set_method(easy, request);
    if (code != CURLE_OK)
        return code;
    set_headers(call, request);
    set_tls(easy, &request->tls);
    curl_easy_setopt(easy, CURLOPT_PRIVATE, call);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, call->detail);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, body_came);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, call);
    curl_easy_setopt(easy, CURLOPT_SOCKOPTFUNCTION, socket_made);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_PROXY, "");
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_MS);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)(call->timeout_us / USEC_PER_MSEC + 1));
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "computed");
    curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, request->once ? 1L : 0L);
    return CURLE_OK;
}

struct http_call *http_send(struct http *http, const struct http_request *request,
                            http_done_fn done, void *aux)
{
    struct http_call *call = NEW(struct http_call);

    assert(loop_is_current(http->loop));
    call->http = http;
    call->done = done;
    call->aux = aux;
    call->timeout_us = request->timeout_us > 0 ? request->timeout_us : TIMEOUT_US;
    name_call(call, request);
    LIST_INSERT_HEAD(&http->calls, call, link);
    call->easy = curl_easy_init();
    call->early = call->easy ? set_up(call, request) : CURLE_OUT_OF_MEMORY;
    if (!call->early && curl_multi_add_handle(http->multi, call->easy) != CURLM_OK)
        call->early = CURLE_OUT_OF_MEMORY;
    if (call->early)
        loop_timer_arm(http->early_timer, 0);
    return call;
}

void http_cancel(struct http_call *call)
{
    call_end(call, CURLE_OK, true);
}

bool http_was_sent(const struct http_call *call)
{
    return call->sent;
}
