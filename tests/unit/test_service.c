/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/unit.h"

#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include "cloud/service.h"
#include "lib/clock.h"
#include "lib/json.h"
#include "lib/text.h"
#include "tests/unit/fake_http.h"

enum { TURNS_MAX = 500, TURN_MS = 20 };

#define TOKENS "/v3/auth/tokens"

struct end {
    unsigned calls;
    int status;
    struct err e, refusal;
    struct service_ticket *ticket;
};

static struct loop *loop;
static struct http *http;
static struct fake_http *server;
static struct service *service;
static char *tokens_body;

static void setup(void)
{
    struct err e;

    if (loop_new(&loop, &e) < 0 || http_new(&http, loop, &e) < 0)
        abort();
    server = fake_http_new(NULL);
}

static void teardown(void)
{
    service_free(STEAL(service));
    http_free(STEAL(http));
    fake_http_free(server);
    loop_free(loop);
    free(STEAL(tokens_body));
}

UNIT_FIXTURE(setup, teardown)

/* Options of one group: as nova.conf has them, with this test's Keystone, and four of its own. */
static struct conf *conf_of(const char *group, const char *more[4][2])
{
    _cleanup_(str_freep) char *type = text_format("%s.auth_type", group);
    _cleanup_(str_freep) char *url = text_format("%s.auth_url", group);
    _cleanup_(str_freep) char *user = text_format("%s.username", group);
    _cleanup_(str_freep) char *password = text_format("%s.password", group);
    _cleanup_(str_freep) char *project = text_format("%s.project_name", group);

    return conf_for_test(type, "password", url, fake_http_url(server), user, "nova", password,
                         "hush", project, "service", more[0][0], more[0][1], more[1][0], more[1][1],
                         more[2][0], more[2][1], more[3][0], more[3][1], NULL);
}

static void open_with(enum service_kind kind, const char *group, const char *more[4][2])
{
    _cleanup_(conf_unrefp) struct conf *conf = conf_of(group, more);

    UNIT_OK(service_new(&service, kind, http, loop, conf, &unit_err));
}

static void open_placement(void)
{
    const char *none[4][2] = {{NULL}};

    open_with(SERVICE_PLACEMENT, "placement", none);
}

static void ended(void *aux, const struct http_reply *reply, const struct err *failure)
{
    struct end *end = aux;

    end->calls++;
    if (failure)
        end->e = *failure;
    else
        end->status = reply->status;
    if (reply)
        (void)service_refused(reply, service, "making a port", ERR_REMOTE, &end->refusal);
}

static void wait_for(const struct end *end)
{
    for (int i = 0; i < TURNS_MAX && !end->calls; i++)
        UNIT_OK(loop_turn(loop, TURN_MS, &unit_err));
    UNIT_EQ(end->calls, 1);
}

static struct end ask(const struct service_request *request)
{
    struct end end = {0};

    service_send(service, request, ended, &end);
    UNIT_EQ(end.calls, 0);
    wait_for(&end);
    return end;
}

static struct end get(const char *path)
{
    return ask(&(struct service_request){.method = "GET", .path = path});
}

static void header_is(const struct fake_request *request, const char *name, const char *value)
{
    _cleanup_(str_freep) char *got = request ? fake_http_header(request, name) : NULL;

    UNIT_STR(got, value);
}

/* A token with a life in seconds, once. */
static void add_token(const char *token, int seconds, int status)
{
    _cleanup_(str_freep) char *header = text_format("X-Subject-Token: %s\r\n", token);
    _cleanup_(str_freep) char *body = text_format(
        "{\"token\": {\"issued_at\": \"2026-01-01T00:00:00.0Z\", \"expires_at\": "
        "\"2026-01-01T00:%02d:%02d.0Z\", \"catalog\": [{\"type\": \"placement\", \"endpoints\": "
        "[{\"interface\": \"public\", \"region\": \"R1\", \"url\": \"%s/p/\"}, "
        "{\"interface\": \"public\", \"region\": \"R2\", \"url\": \"%s/p2\"}]}]}, "
        "\"error\": {\"message\": \"go away\"}}",
        seconds / 60, seconds % 60, fake_http_url(server), fake_http_url(server));

    fake_http_add(server, &(struct fake_answer){"POST", TOKENS, status, body, header});
}

UNIT_TEST(with_token, "a request carries the account's token, its request id and microversion")
{
    open_placement();
    fake_http_keystone(server);
    fake_http_add(server, &(struct fake_answer){"PUT", "/x?y=1", 200, "{}"});
    _cleanup_(json_putp) struct json_object *body = json_object_new_object();
    json_add_int(body, "a", 1);
    struct end end = ask(&(struct service_request){.method = "PUT",
                                                   .path = "/x?y=1",
                                                   .body = body,
                                                   .microversion = "placement 1.28",
                                                   .request_id = "req-1"});
    UNIT_EQ(end.status, 200);
    const struct fake_request *put = fake_http_request(server, "PUT", NULL, 0);
    header_is(put, "X-Auth-Token", "token-1");
    header_is(put, "OpenStack-API-Version", "placement 1.28");
    header_is(put, "X-Openstack-Request-Id", "req-1");
    header_is(put, "Content-Type", "application/json");
    UNIT_STR(put ? put->body : NULL, "{\"a\":1}");
    const struct fake_request *token = fake_http_request(server, "POST", TOKENS, 0);
    UNIT_STR(token ? token->body : NULL,
             "{\"auth\":{\"identity\":{\"methods\":[\"password\"],\"password\":{\"user\":{\"name\":"
             "\"nova\",\"domain\":{\"name\":\"Default\"},\"password\":\"hush\"}}},\"scope\":{"
             "\"project\":{\"name\":\"service\",\"domain\":{\"name\":\"Default\"}}}}}");
}

UNIT_TEST(credential, "an application credential logs in without scope")
{
    const char *more[4][2] = {{"neutron.auth_type", "v3applicationcredential"},
                              {"neutron.application_credential_id", "ac"},
                              {"neutron.application_credential_secret", "hush"},
                              {"neutron.auth_url", NULL}};
    _cleanup_(str_freep) char *url = text_format("%s/v3/", fake_http_url(server));

    more[3][1] = url;
    open_with(SERVICE_NEUTRON, "neutron", more);
    fake_http_keystone(server);
    fake_http_add(server, &(struct fake_answer){"GET", "/v2.0/ports", 200, "{}"});
    UNIT_EQ(get("/v2.0/ports").status, 200);
    const struct fake_request *token = fake_http_request(server, "POST", TOKENS, 0);
    UNIT_STR(token ? token->body : NULL,
             "{\"auth\":{\"identity\":{\"methods\":[\"application_credential\"],"
             "\"application_credential\":{\"secret\":\"hush\",\"id\":\"ac\"}}}}");
}

UNIT_TEST(config, "options that are missing or not supported are named")
{
    _cleanup_(conf_unrefp) struct conf *none = conf_for_test(NULL, NULL);
    _cleanup_(conf_unrefp) struct conf *other =
        conf_for_test("placement.auth_type", "v3kerberos", NULL);
    _cleanup_(conf_unrefp) struct conf *half =
        conf_for_test("placement.auth_type", "password", "placement.auth_url", "http://h", NULL);

    UNIT_FAILS(service_new(&service, SERVICE_PLACEMENT, http, loop, none, &unit_err), ERR_CONFIG);
    UNIT_HAS(unit_err.text, "[placement] auth_type is not set");
    UNIT_FAILS(service_new(&service, SERVICE_PLACEMENT, http, loop, other, &unit_err), ERR_CONFIG);
    UNIT_HAS(unit_err.text, "v3kerberos");
    UNIT_FAILS(service_new(&service, SERVICE_PLACEMENT, http, loop, half, &unit_err), ERR_CONFIG);
    UNIT_HAS(unit_err.text, "[placement] password");
}

UNIT_TEST(one_token, "calls that wait share one request for a token, and later ones its answer")
{
    struct end ends[5] = {0};

    open_placement();
    fake_http_keystone(server);
    fake_http_add(server, &(struct fake_answer){"GET", "/x", 200, "{}", .times = -1});
    for (int i = 0; i < 5; i++)
        service_send(service, &(struct service_request){.method = "GET", .path = "/x"}, ended,
                     &ends[i]);
    for (int i = 0; i < 5; i++)
        wait_for(&ends[i]);
    UNIT_EQ(get("/x").status, 200);
    UNIT_EQ(fake_http_count(server, "POST", TOKENS), 1);
    UNIT_EQ(fake_http_count(server, "GET", "/x"), 6);
}

UNIT_TEST(renewed_401, "after a 401 another token is asked for, once; a second 401 is the reply")
{
    open_placement();
    add_token("old", 3599, 201);
    add_token("new", 3599, 201);
    fake_http_add(server, &(struct fake_answer){"POST", "/p/x", 401});
    fake_http_add(server, &(struct fake_answer){"POST", "/p/x", 204});
    struct end end = ask(&(struct service_request){.method = "POST", .path = "/x", .once = true});
    UNIT_EQ(end.status, 204);
    header_is(fake_http_request(server, "POST", "/p/x", 0), "X-Auth-Token", "old");
    header_is(fake_http_request(server, "POST", "/p/x", 1), "X-Auth-Token", "new");
    fake_http_add(server, &(struct fake_answer){"GET", "/p/y", 401, .times = 2});
    add_token("third", 3599, 201);
    UNIT_EQ(get("/y").status, 401);
    UNIT_EQ(fake_http_count(server, "POST", TOKENS), 3);
}

UNIT_TEST(renewed_early, "a token is renewed in the background before it ends")
{
    open_placement();
    add_token("short", 11, 201); /* good for 1 s, renewed after 8.8 s */
    add_token("long", 3599, 201);
    fake_http_add(server, &(struct fake_answer){"GET", "/p/x", 200, "{}", .times = -1});
    int64_t now = clock_monotonic_us();
    clock_fake_set(now);
    UNIT_EQ(get("/x").status, 200);
    UNIT_EQ(fake_http_count(server, "POST", TOKENS), 1);
    clock_fake_set(now + 9 * USEC_PER_SEC);
    for (int i = 0; i < TURNS_MAX && fake_http_count(server, "POST", TOKENS) < 2; i++)
        (void)loop_turn(loop, TURN_MS, NULL);
    UNIT_EQ(fake_http_count(server, "POST", TOKENS), 2);
    clock_fake_stop();
}

UNIT_TEST(denied, "an account that Keystone refuses is denied at once, with Keystone's words")
{
    open_placement();
    add_token("none", 60, 401);
    struct end end = get("/x");
    UNIT_EQ(end.e.code, ERR_DENIED);
    UNIT_HAS(end.e.text, "[placement]");
    UNIT_HAS(end.e.text, "go away");
    UNIT_TRUE(!strstr(end.e.text, "hush"));
}

UNIT_TEST(keystone_away, "a Keystone that fails for a moment is asked again")
{
    open_placement();
    add_token("none", 60, 503);
    fake_http_add(server, &(struct fake_answer){"POST", TOKENS, .drop = true});
    add_token("good", 3599, 201);
    fake_http_add(server, &(struct fake_answer){"GET", "/p/x", 200, "{}"});
    UNIT_EQ(get("/x").status, 200);
}

UNIT_TEST(retries, "5xx, 429 and broken connections are tried again, other statuses are not")
{
    open_placement();
    fake_http_keystone(server);
    fake_http_add(server, &(struct fake_answer){"GET", "/x", 503, .headers = "Retry-After: 0\r\n"});
    fake_http_add(server, &(struct fake_answer){"GET", "/x", 500});
    fake_http_add(server, &(struct fake_answer){"GET", "/x", 429});
    fake_http_add(server, &(struct fake_answer){"GET", "/x", .drop = true});
    fake_http_add(server, &(struct fake_answer){"GET", "/x", 200, "{}"});
    UNIT_EQ(get("/x").status, 200);
    fake_http_add(server, &(struct fake_answer){"GET", "/y", 409});
    UNIT_EQ(get("/y").status, 409);
    fake_http_add(server, &(struct fake_answer){"GET", "/z", 501});
    UNIT_EQ(get("/z").status, 501);
}

UNIT_TEST(gives_up, "when the time is up the last answer is the reply, or the last failure")
{
    const struct service_request short_one = {
        .method = "GET", .path = "/x", .timeout_us = 400 * USEC_PER_MSEC};

    open_placement();
    fake_http_keystone(server);
    fake_http_add(server, &(struct fake_answer){"GET", "/x", 502, .times = -1});
    UNIT_EQ(ask(&short_one).status, 502);
    UNIT_TRUE(fake_http_count(server, "GET", "/x") >= 2);
    fake_http_forget(server, "/x");
    fake_http_add(server, &(struct fake_answer){"GET", "/x", .silent = true, .times = -1});
    struct end end = ask(&short_one);
    UNIT_EQ(end.e.code, ERR_TIMEOUT);
    UNIT_HAS(end.e.text, "placement: 127.0.0.1:");
}

UNIT_TEST(limits, "status_code_retries limits the repetitions")
{
    const char *more[4][2] = {{"placement.status_code_retries", "1"}};

    open_with(SERVICE_PLACEMENT, "placement", more);
    fake_http_keystone(server);
    fake_http_add(server, &(struct fake_answer){"GET", "/x", 500, .times = 2});
    UNIT_EQ(get("/x").status, 500);
    UNIT_EQ(fake_http_count(server, "GET", "/x"), 2);
}

UNIT_TEST(only_once, "what must not happen twice is not sent again once it may have arrived")
{
    const struct service_request once = {.method = "POST", .path = "/x", .once = true};

    open_placement();
    fake_http_keystone(server);
    fake_http_add(server, &(struct fake_answer){"POST", "/x", .drop = true});
    UNIT_EQ(ask(&once).e.code, ERR_UNREACHABLE);
    fake_http_add(server, &(struct fake_answer){"POST", "/x", 503});
    UNIT_EQ(ask(&once).status, 503);
    UNIT_EQ(fake_http_count(server, "POST", "/x"), 2);
}

UNIT_TEST(catalogue, "the endpoint is the first interface's of our region; none is a clear error")
{
    const char *more[4][2] = {{"placement.region_name", "R2"}};
    const char *wrong[4][2] = {{"placement.region_name", "R9"}};

    open_with(SERVICE_PLACEMENT, "placement", more);
    add_token("t", 3599, 201);
    fake_http_add(server, &(struct fake_answer){"GET", "/p2/x", 200, "{}"});
    UNIT_EQ(get("/x").status, 200);
    service_free(STEAL(service));
    open_with(SERVICE_PLACEMENT, "placement", wrong);
    add_token("t", 3599, 201);
    struct end end = get("/x");
    UNIT_EQ(end.e.code, ERR_CONFIG);
    UNIT_HAS(end.e.text, "type placement, interface internal, public, in region R9");
}

UNIT_TEST(overridden, "an override with a version at its end is the same as one without")
{
    _cleanup_(str_freep) char *url = text_format("%s/net/v2.0/", fake_http_url(server));
    const char *more[4][2] = {{"neutron.endpoint_override", url}};

    open_with(SERVICE_NEUTRON, "neutron", more);
    fake_http_keystone(server);
    fake_http_add(server, &(struct fake_answer){"GET", "/net/v2.0/ports", 200, "{}"});
    UNIT_EQ(get("/v2.0/ports").status, 200);
}

UNIT_TEST(glance_servers, "Glance's servers are tried in turn, with Neutron's account if need be")
{
    struct fake_http *gone = fake_http_new(NULL);
    _cleanup_(str_freep) char *servers =
        text_format("%s,%s", fake_http_url(gone), fake_http_url(server));
    const char *more[4][2] = {{"glance.api_servers", servers}};

    fake_http_free(gone);
    open_with(SERVICE_GLANCE, "neutron", more);
    fake_http_keystone(server);
    fake_http_add(server, &(struct fake_answer){"GET", "/v2/images/i", 200, "{}"});
    UNIT_EQ(get("/v2/images/i").status, 200);
}

UNIT_TEST(as_user, "a request in a user's name has a service token beside; after 401 it is our own")
{
    _cleanup_(conf_unrefp) struct conf *conf = conf_for_test(
        "neutron.auth_type", "password", "neutron.auth_url", fake_http_url(server),
        "neutron.username", "n", "neutron.password", "p", "service_user.auth_type", "password",
        "service_user.auth_url", fake_http_url(server), "service_user.username", "s",
        "service_user.password", "p", "service_user.send_service_user_token", "true", NULL);

    UNIT_OK(service_new(&service, SERVICE_NEUTRON, http, loop, conf, &unit_err));
    fake_http_keystone(server);
    fake_http_add(server, &(struct fake_answer){"GET", "/x", 401});
    fake_http_add(server, &(struct fake_answer){"GET", "/x", 200, "{}"});
    struct end end =
        ask(&(struct service_request){.method = "GET", .path = "/x", .user_token = "theirs"});
    UNIT_EQ(end.status, 200);
    header_is(fake_http_request(server, "GET", "/x", 0), "X-Auth-Token", "theirs");
    header_is(fake_http_request(server, "GET", "/x", 0), "X-Service-Token", "token-1");
    header_is(fake_http_request(server, "GET", "/x", 1), "X-Auth-Token", "token-1");
    header_is(fake_http_request(server, "GET", "/x", 1), "X-Service-Token", NULL);
}

UNIT_TEST(refusals, "a refusal is told with the service's own sentence")
{
    open_placement();
    fake_http_keystone(server);
    fake_http_add(server, &(struct fake_answer){"GET", "/n", 409,
                                                "{\"NeutronError\": {\"message\": \"in use\"}}"});
    fake_http_add(server, &(struct fake_answer){"GET", "/p", 409,
                                                "{\"errors\": [{\"detail\": \"conflict\"}]}"});
    fake_http_add(server, &(struct fake_answer){"GET", "/t", 403, "denied\n",
                                                .headers = "Content-Type: text/plain\r\n"});
    UNIT_STR(get("/n").refusal.text, "making a port: placement answered 409: in use");
    UNIT_STR(get("/p").refusal.text, "making a port: placement answered 409: conflict");
    UNIT_STR(get("/t").refusal.text, "making a port: placement answered 403: denied\\x0a");
}

UNIT_TEST(closing, "a service that is closed ends its calls, waiting for a token, paused or sent")
{
    struct end ends[3] = {0};

    open_placement();
    fake_http_add(server, &(struct fake_answer){"POST", TOKENS, .silent = true});
    service_send(service, &(struct service_request){.method = "GET", .path = "/x"}, ended,
                 &ends[0]);
    for (int i = 0; i < TURNS_MAX && fake_http_count(server, "POST", TOKENS) < 1; i++)
        (void)loop_turn(loop, TURN_MS, NULL);
    service_free(STEAL(service));
    UNIT_EQ(ends[0].e.code, ERR_CANCELLED);
    fake_http_forget(server, NULL);
    open_placement();
    fake_http_keystone(server);
    fake_http_add(server, &(struct fake_answer){"GET", "/s", .silent = true});
    fake_http_add(server, &(struct fake_answer){"GET", "/p", 503, .headers = "Retry-After: 5\r\n"});
    service_send(service, &(struct service_request){.method = "GET", .path = "/s"}, ended,
                 &ends[1]);
    struct service_call *paused = service_send(
        service, &(struct service_request){.method = "GET", .path = "/p"}, ended, &ends[2]);
    for (int i = 0; i < TURNS_MAX && fake_http_count(server, "GET", NULL) < 2; i++)
        (void)loop_turn(loop, TURN_MS, NULL);
    (void)loop_turn(loop, TURN_MS, NULL);
    service_cancel(paused);
    UNIT_EQ(ends[2].e.code, ERR_CANCELLED);
    service_free(STEAL(service));
    UNIT_EQ(ends[1].e.code, ERR_CANCELLED);
}

/* ---- files ---- */

static void got_ticket(void *aux, struct service_ticket *ticket, const struct err *failure)
{
    struct end *end = aux;

    end->calls++;
    end->ticket = ticket;
    if (failure)
        end->e = *failure;
}

static struct service_ticket *ticket_for(const char *path, const char *user_token)
{
    struct end end = {0};

    service_ticket(service, path, "req-9", user_token, got_ticket, &end);
    wait_for(&end);
    UNIT_STR(end.e.text, "");
    return end.ticket;
}

static int count_sink(void *aux, const void *data, size_t size, struct err *e)
{
    (void)data;
    (void)e;
    *(size_t *)aux += size;
    return 0;
}

static int full_sink(void *aux, const void *data, size_t size, struct err *e)
{
    (void)aux;
    (void)data;
    (void)size;
    return err_set(e, ERR_INVALID, "the digest is another");
}

static void open_glance(void)
{
    const char *more[4][2] = {{"glance.api_servers", fake_http_url(server)}};

    open_with(SERVICE_GLANCE, "glance", more);
    fake_http_keystone(server);
}

UNIT_TEST(downloads, "a file comes whole; a refusal or a sink's no leaves the reason")
{
    _cleanup_(str_freep) char *path = text_format("%s/image", unit_directory());
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    size_t seen = 0, length = 0;

    open_glance();
    fake_http_add(server, &(struct fake_answer){"GET", "/v2/images/i/file", 401, "{}"});
    fake_http_add(server, &(struct fake_answer){"GET", "/v2/images/i/file", 200, "data",
                                                .pad = 300000, .times = 2});
    fake_http_add(server, &(struct fake_answer){"GET", "/v2/images/i/file", 404, "gone"});
    struct service_ticket *ticket = ticket_for("/v2/images/i/file", "theirs");
    UNIT_OK(service_download(ticket, fd, count_sink, &seen, &unit_err));
    UNIT_EQ(seen, 300004);
    _cleanup_(str_freep) char *content = unit_read_file(path, &length);
    UNIT_EQ(length, 300004);
    UNIT_TRUE(content && strncmp(content, "data ", 5) == 0);
    const struct fake_request *own = fake_http_request(server, "GET", NULL, 1);
    header_is(fake_http_request(server, "GET", NULL, 0), "X-Auth-Token", "theirs");
    header_is(own, "X-Auth-Token", "token-1");
    header_is(own, "X-Openstack-Request-Id", "req-9");
    service_ticket_free(ticket);
    ticket = ticket_for("/v2/images/i/file", NULL);
    UNIT_FAILS(service_download(ticket, fd, full_sink, NULL, &unit_err), ERR_INVALID);
    UNIT_FAILS(service_download(ticket, fd, NULL, NULL, &unit_err), ERR_REMOTE);
    UNIT_HAS(unit_err.text, "glance answered 404");
    service_ticket_free(ticket);
    (void)close(fd);
}

UNIT_TEST(uploads, "a file goes whole, from the descriptor's place")
{
    _cleanup_(str_freep) char *path = text_format("%s/up", unit_directory());

    unit_write_file(path, "skipped, then the content");
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    (void)lseek(fd, 14, SEEK_SET);
    open_glance();
    fake_http_add(server, &(struct fake_answer){"PUT", "/v2/images/i/file", 204});
    struct service_ticket *ticket = ticket_for("/v2/images/i/file", NULL);
    UNIT_OK(service_upload(ticket, fd, &unit_err));
    const struct fake_request *put = fake_http_request(server, "PUT", NULL, 0);
    UNIT_STR(put ? put->body : NULL, "the content");
    header_is(put, "Content-Type", "application/octet-stream");
    service_ticket_free(ticket);
    (void)close(fd);
}
