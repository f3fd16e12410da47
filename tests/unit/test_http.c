/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/unit.h"

#include "cloud/http.h"
#include "lib/clock.h"
#include "lib/json.h"
#include "lib/text.h"
#include "tests/unit/fake_http.h"

enum { TURNS_MAX = 500, TURN_MS = 20 };

struct end {
    bool called, sent;
    int status;
    char body[64], header[64];
    struct json_object *json;
    struct err e;
    struct http_call *call;
};

static struct loop *loop;
static struct http *http;
static struct fake_http *server;

static void setup(void)
{
    struct err e;

    if (loop_new(&loop, &e) < 0 || http_new(&http, loop, &e) < 0)
        abort();
    server = fake_http_new(NULL);
}

static void teardown(void)
{
    http_free(http);
    fake_http_free(server);
    loop_free(loop);
    http = NULL;
    server = NULL;
}

UNIT_FIXTURE(setup, teardown)

static void ended(void *aux, const struct http_reply *reply, const struct err *failure)
{
    struct end *end = aux;

    UNIT_TRUE(!end->called);
    end->called = true;
    if (failure) {
        end->e = *failure;
        end->sent = end->call && http_was_sent(end->call);
        return;
    }
    end->status = reply->status;
    (void)snprintf(end->body, sizeof(end->body), "%s", reply->body);
    const char *header = reply->header(reply, "x-test");
    (void)snprintf(end->header, sizeof(end->header), "%s", header ? header : "(none)");
    UNIT_TRUE(reply->header(reply, "X-Absent") == NULL);
    end->json = json_object_get(reply->json);
}

static void wait_for(const struct end *end)
{
    for (int i = 0; i < TURNS_MAX && !end->called; i++)
        UNIT_OK(loop_turn(loop, TURN_MS, &unit_err));
    UNIT_TRUE(end->called);
}

static void send_to(struct end *end, const char *base, const char *method, const char *path,
                    const struct http_request *more)
{
    _cleanup_(str_freep) char *url = text_format("%s%s", base, path);
    struct http_request request = more ? *more : (struct http_request){0};

    *end = (struct end){0};
    request.method = method;
    request.url = url;
    end->call = http_send(http, &request, ended, end);
    UNIT_TRUE(!end->called);
}

static struct end get(const char *path)
{
    struct end end;

    send_to(&end, fake_http_url(server), "GET", path, NULL);
    wait_for(&end);
    return end;
}

UNIT_TEST(reply_whole, "a reply has status, body, headers of any case and the parsed JSON")
{
    fake_http_add(server, &(struct fake_answer){"GET", "/a?b=c", 200, .body = "{\"n\": 7}",
                                                .headers = "X-TEST: yes\r\n"});
    struct end end = get("/a?b=c");
    UNIT_EQ(end.status, 200);
    UNIT_STR(end.body, "{\"n\": 7}");
    UNIT_STR(end.header, "yes");
    UNIT_EQ(json_get_int(end.json, "n", 0), 7);
    json_object_put(end.json);
}

UNIT_TEST(any_status, "any status is a reply, also redirects, which are not followed, and no body")
{
    fake_http_add(server, &(struct fake_answer){NULL, "/500", 500, .body = "no json {"});
    fake_http_add(server,
                  &(struct fake_answer){NULL, "/302", 302, .headers = "Location: /500\r\n"});
    fake_http_add(server, &(struct fake_answer){NULL, "/204", 204});
    struct end end = get("/500");
    UNIT_EQ(end.status, 500);
    UNIT_TRUE(end.json == NULL);
    UNIT_EQ(get("/302").status, 302);
    end = get("/204");
    UNIT_EQ(end.status, 204);
    UNIT_STR(end.body, "");
}

UNIT_TEST(sent_as_told, "method, headers and body arrive as they were given, without extras")
{
    static const char *const headers[] = {"X-One: 1", "Content-Type: application/json", NULL};
    const struct http_request more = {.headers = headers, .body = "{\"a\":1}"};
    struct end end;

    fake_http_add(server, &(struct fake_answer){NULL, "/x", 200, .times = -1});
    send_to(&end, fake_http_url(server), "PUT", "/x", &more);
    wait_for(&end);
    const struct fake_request *request = fake_http_request(server, "PUT", "/x", 0);
    if (!UNIT_TRUE(request != NULL))
        return;
    _cleanup_(str_freep) char *one = fake_http_header(request, "X-One");
    _cleanup_(str_freep) char *type = fake_http_header(request, "Content-Type");
    _cleanup_(str_freep) char *expect = fake_http_header(request, "Expect");
    UNIT_STR(one, "1");
    UNIT_STR(type, "application/json");
    UNIT_STR(expect, NULL);
    UNIT_STR(request->body, "{\"a\":1}");
    send_to(&end, fake_http_url(server), "DELETE", "/x", NULL);
    wait_for(&end);
    UNIT_EQ(fake_http_count(server, "DELETE", "/x"), 1);
    send_to(&end, fake_http_url(server), "POST", "/x", NULL);
    wait_for(&end);
    request = fake_http_request(server, "POST", "/x", 0);
    _cleanup_(str_freep) char *length =
        request ? fake_http_header(request, "Content-Length") : NULL;
    UNIT_STR(length, "0");
}

UNIT_TEST(warm, "requests one after the other share a connection, `once` takes one of its own")
{
    const struct http_request once = {.once = true};
    struct end end;

    fake_http_add(server, &(struct fake_answer){NULL, "/w", 200, .times = -1});
    for (int i = 0; i < 5; i++)
        UNIT_EQ(get("/w").status, 200);
    UNIT_EQ(fake_http_connections(server), 1);
    send_to(&end, fake_http_url(server), "POST", "/w", &once);
    wait_for(&end);
    UNIT_EQ(fake_http_connections(server), 2);
}

UNIT_TEST(parallel, "requests at the same time do not wait for one another")
{
    struct end slow, fast;

    fake_http_add(server, &(struct fake_answer){NULL, "/slow", 200, .delay_ms = 400});
    fake_http_add(server, &(struct fake_answer){NULL, "/fast", 200});
    send_to(&slow, fake_http_url(server), "GET", "/slow", NULL);
    send_to(&fast, fake_http_url(server), "GET", "/fast", NULL);
    wait_for(&fast);
    UNIT_TRUE(!slow.called);
    wait_for(&slow);
    UNIT_EQ(slow.status, 200);
}

UNIT_TEST(times_out, "a server that is silent is a timeout with host, port and limit, sent or not")
{
    const struct http_request more = {.timeout_us = 150 * USEC_PER_MSEC};
    struct end end;

    fake_http_add(server, &(struct fake_answer){NULL, "/s*", .silent = true});
    send_to(&end, fake_http_url(server), "GET", "/s?secret", &more);
    wait_for(&end);
    UNIT_EQ(end.e.code, ERR_TIMEOUT);
    UNIT_TRUE(end.sent);
    UNIT_HAS(end.e.text, fake_http_url(server) + strlen("http://"));
    UNIT_HAS(end.e.text, "did not answer GET /s within 150 ms");
}

UNIT_TEST(refused, "a refused connection is unreachable with host and port, and nothing was sent")
{
    struct fake_http *other = fake_http_new(NULL);
    _cleanup_(str_freep) char *url = text_dup(fake_http_url(other));
    struct end end;

    fake_http_free(other);
    send_to(&end, url, "GET", "/", NULL);
    wait_for(&end);
    UNIT_EQ(end.e.code, ERR_UNREACHABLE);
    UNIT_TRUE(!end.sent);
    UNIT_HAS(end.e.text, url + strlen("http://"));
    send_to(&end, "http://no-such-host.invalid:81", "GET", "/", NULL);
    wait_for(&end);
    UNIT_EQ(end.e.code, ERR_UNREACHABLE);
    UNIT_HAS(end.e.text, "no-such-host.invalid:81");
}

UNIT_TEST(dropped, "a connection that breaks before the answer is unreachable, and it was sent")
{
    struct end end;

    fake_http_add(server, &(struct fake_answer){NULL, "/d", .drop = true, .times = -1});
    send_to(&end, fake_http_url(server), "GET", "/d", NULL);
    wait_for(&end);
    UNIT_EQ(end.e.code, ERR_UNREACHABLE);
    UNIT_TRUE(end.sent);
}

UNIT_TEST(bad_url,
          "a URL that is none, or of another scheme, is invalid, told after the call returned")
{
    struct end end;

    send_to(&end, "http://[::::", "GET", "/", NULL);
    wait_for(&end);
    UNIT_EQ(end.e.code, ERR_INVALID);
    send_to(&end, "file://", "GET", "/etc/passwd", NULL);
    wait_for(&end);
    UNIT_EQ(end.e.code, ERR_INVALID);
}

UNIT_TEST(bounded, "a body above the limit ends the call")
{
    struct end end;

    fake_http_add(server, &(struct fake_answer){NULL, "/big", 200, .pad = HTTP_BODY_MAX + 1});
    send_to(&end, fake_http_url(server), "GET", "/big", NULL);
    wait_for(&end);
    UNIT_EQ(end.e.code, ERR_REMOTE);
    UNIT_HAS(end.e.text, "33554432 bytes");
}

UNIT_TEST(cancels, "a cancelled call ends at once, and so do those of a service that is closed")
{
    struct end one, two;

    fake_http_add(server, &(struct fake_answer){NULL, "/s", .silent = true, .times = 2});
    send_to(&one, fake_http_url(server), "GET", "/s", NULL);
    send_to(&two, fake_http_url(server), "GET", "/s", NULL);
    for (int i = 0; i < TURNS_MAX && fake_http_count(server, "GET", "/s") < 2; i++)
        (void)loop_turn(loop, TURN_MS, NULL);
    http_cancel(one.call);
    UNIT_TRUE(one.called);
    UNIT_EQ(one.e.code, ERR_CANCELLED);
    http_free(STEAL(http));
    UNIT_EQ(two.e.code, ERR_CANCELLED);
    UNIT_OK(loop_turn(loop, 0, &unit_err));
}

UNIT_TEST(tls,
          "a certificate is checked: our authority's is good, an unknown one's only if insecure")
{
    const char *directory = unit_directory();
    struct fake_http *secure = fake_http_new(directory);
    _cleanup_(str_freep) char *ca = text_format("%s/ca.pem", directory);
    _cleanup_(str_freep) char *named = text_dup(fake_http_url(secure));
    struct http_request more = {.tls.ca_file = ca};
    struct end end;

    fake_http_add(secure, &(struct fake_answer){NULL, "/t", 200, .times = -1});
    send_to(&end, fake_http_url(secure), "GET", "/t", &more);
    wait_for(&end);
    UNIT_EQ(end.status, 200);
    send_to(&end, fake_http_url(secure), "GET", "/t", NULL);
    wait_for(&end);
    UNIT_EQ(end.e.code, ERR_UNREACHABLE);
    UNIT_TRUE(!end.sent);
    UNIT_HAS(end.e.text, "certificate");
    /* the right authority, but another name than the certificate's */
    _cleanup_(str_freep) char *other = text_format("https://localhost%s", strrchr(named, ':'));
    send_to(&end, other, "GET", "/t", &more);
    wait_for(&end);
    UNIT_EQ(end.e.code, ERR_UNREACHABLE);
    more.tls = (struct http_tls){.insecure = true};
    send_to(&end, fake_http_url(secure), "GET", "/t", &more);
    wait_for(&end);
    UNIT_EQ(end.status, 200);
    UNIT_EQ(fake_http_count(secure, NULL, NULL), 2);
    http_free(STEAL(http));
    fake_http_free(secure);
}
