/* SPDX-License-Identifier: Apache-2.0 */
/* Nova's own API, as the agent asks it to move instances. */
#include "tests/unit/rest_world.h"

#include "cloud/nova_api.h"
#include "lib/json.h"
#include "lib/text.h"

#define UUID    "fa70925f-2d0d-4024-871f-903f3c94d32b"
#define SERVICE "99999999-2222-4333-8444-555555555555"
#define SERVER  "/v2.1/servers/" UUID
#define ACTION  SERVER "/action"

static struct rest_world *w;

static void setup(void)
{
    w = rest_world_new();
}

static void teardown(void)
{
    rest_world_free(w);
    w = NULL;
}
UNIT_FIXTURE(setup, teardown)

static void open_api(void)
{
    rest_world_open(w, SERVICE_NOVA, "nova", "nova.endpoint_override", fake_http_url(w->server),
                    NULL, NULL);
}

static void header_is(const char *method, const char *path, const char *name, const char *value)
{
    const struct fake_request *request = fake_http_request(w->server, method, path, 0);
    _cleanup_(str_freep) char *got = request ? fake_http_header(request, name) : NULL;

    UNIT_STR(got, value);
}

static void move(const char *destination)
{
    nova_api_move(&w->cloud, UUID, destination, rest_result, &w->end);
    rest_world_run(w, 1);
}

static void look(const char *request)
{
    nova_api_whereabouts(&w->cloud, UUID, "here", request, rest_result, &w->end);
    rest_world_run(w, 1);
}

/* ---- moving ---- */

UNIT_TEST(moves, "a move without a destination leaves the choice to the scheduler")
{
    open_api();
    fake_http_add(w->server,
                  &(struct fake_answer){"POST", ACTION, 202,
                                        .headers = "X-Openstack-Request-Id: req-77\r\n"});
    move(NULL);
    UNIT_STR(json_get_string(w->end.result, "request", NULL), "req-77");
    const struct fake_request *post = fake_http_request(w->server, "POST", ACTION, 0);
    struct json_object *asked = json_get(post->json, "os-migrateLive");
    UNIT_TRUE(json_has(asked, "host") && json_get(asked, "host") == NULL);
    UNIT_STR(json_get_string(asked, "block_migration", NULL), "auto");
    header_is("POST", ACTION, "OpenStack-API-Version", "compute 2.34");
    header_is("POST", ACTION, "X-Auth-Token", "token-1");
}

UNIT_TEST(moves_to, "a destination is passed on, for the scheduler to look at")
{
    open_api();
    rest_world_answer(w, "POST", ACTION, 202, NULL);
    move("hostb");
    UNIT_EQ(w->end.e.code, ERR_NONE);
    const struct fake_request *post = fake_http_request(w->server, "POST", ACTION, 0);
    struct json_object *asked = json_get(post->json, "os-migrateLive");
    UNIT_STR(json_get_string(asked, "host", NULL), "hostb");
    UNIT_TRUE(!json_get_bool(asked, "force", true));
}

UNIT_TEST(refused, "what the API refuses is told in its own words")
{
    open_api();
    rest_world_answer(w, "POST", ACTION, 409,
                      "{\"conflictingRequest\": {\"message\": \"it is locked\"}}");
    move(NULL);
    UNIT_EQ(w->end.e.code, ERR_PRECHECK);
    UNIT_HAS(w->end.e.text, "nova answered 409: it is locked");
}

UNIT_TEST(gone, "a server that Nova does not know is told as such")
{
    open_api();
    rest_world_answer(w, "POST", ACTION, 404, "{\"itemNotFound\": {\"message\": \"not found\"}}");
    move(NULL);
    UNIT_EQ(w->end.e.code, ERR_NO_INSTANCE);
}

UNIT_TEST(denied, "an account that may not ask is told which section to fill in")
{
    open_api();
    rest_world_answer(w, "POST", ACTION, 403,
                      "{\"forbidden\": {\"message\": \"Policy doesn't allow it\"}}");
    move(NULL);
    UNIT_EQ(w->end.e.code, ERR_DENIED);
    UNIT_HAS(w->end.e.text, "Policy doesn't allow it");
    UNIT_HAS(w->end.e.text, "give one of an administrator in [nova]");
}

UNIT_TEST(once, "a request to move is not repeated when it may have been taken")
{
    open_api();
    rest_world_answer(w, "POST", ACTION, 503, "{}");
    move(NULL);
    UNIT_EQ(w->end.e.code, ERR_REMOTE);
    UNIT_EQ(fake_http_count(w->server, "POST", ACTION), 1);
}

UNIT_TEST(other_account, "without [nova] the account of another section asks")
{
    rest_world_open(w, SERVICE_NOVA, "service_user", "nova.endpoint_override",
                    fake_http_url(w->server), NULL, NULL);
    rest_world_answer(w, "POST", ACTION, 202, NULL);
    move(NULL);
    UNIT_EQ(w->end.e.code, ERR_NONE);
}

UNIT_TEST(old_endpoint, "an endpoint that goes on with a project's id is cut before its version")
{
    _cleanup_(str_freep) char *url = text_format("%s/v2.1/0123abcd", fake_http_url(w->server));

    rest_world_open(w, SERVICE_NOVA, "nova", "nova.endpoint_override", url, NULL, NULL);
    rest_world_answer(w, "POST", ACTION, 202, NULL);
    move(NULL);
    UNIT_EQ(w->end.e.code, ERR_NONE);
}

/* ---- where it is ---- */

UNIT_TEST(elsewhere, "a server's host and whether something is done to it are told")
{
    open_api();
    rest_world_answer(w, "GET", SERVER, 200,
                      "{\"server\": {\"OS-EXT-SRV-ATTR:host\": \"hostb\", \"status\": \"ACTIVE\", "
                      "\"OS-EXT-STS:task_state\": null}}");
    look("req-77");
    UNIT_STR(json_get_string(w->end.result, "host", NULL), "hostb");
    UNIT_TRUE(!json_get_bool(w->end.result, "busy", true));
}

UNIT_TEST(busy, "a server that is migrating is busy, and nothing more is asked")
{
    open_api();
    rest_world_answer(w, "GET", SERVER, 200,
                      "{\"server\": {\"OS-EXT-SRV-ATTR:host\": \"here\", \"status\": "
                      "\"MIGRATING\", \"OS-EXT-STS:task_state\": \"migrating\"}}");
    look("req-77");
    UNIT_TRUE(json_get_bool(w->end.result, "busy", false));
}

#define IDLE_HERE                                                                                  \
    "{\"server\": {\"OS-EXT-SRV-ATTR:host\": \"here\", \"status\": \"ACTIVE\", "                   \
    "\"OS-EXT-STS:task_state\": null}}"

UNIT_TEST(why, "why an attempt left a server where it was is read from its action")
{
    open_api();
    rest_world_answer(w, "GET", SERVER, 200, IDLE_HERE);
    rest_world_answer(
        w, "GET", SERVER "/os-instance-actions/req-77", 200,
        "{\"instanceAction\": {\"message\": \"Error\", \"events\": [{\"result\": \"Success\", "
        "\"details\": null}, {\"result\": \"Error\", \"traceback\": \"  File x\\n    raise "
        "result\\n\", "
        "\"details\": \"No valid host was found.\"}]}}");
    look("req-77");
    UNIT_STR(json_get_string(w->end.result, "reason", NULL), "No valid host was found.");
}

UNIT_TEST(why_unknown, "an action that cannot be read leaves the place known and the reason open")
{
    open_api();
    rest_world_answer(w, "GET", SERVER, 200, IDLE_HERE);
    rest_world_answer(w, "GET", SERVER "/os-instance-actions/req-77", 404, "{}");
    look("req-77");
    UNIT_STR(json_get_string(w->end.result, "host", NULL), "here");
    UNIT_TRUE(json_get(w->end.result, "reason") == NULL);
}

UNIT_TEST(no_host, "an account that does not see the host is told what it needs")
{
    open_api();
    rest_world_answer(w, "GET", SERVER, 200, "{\"server\": {\"status\": \"ACTIVE\"}}");
    look(NULL);
    UNIT_EQ(w->end.e.code, ERR_DENIED);
    UNIT_HAS(w->end.e.text, "administrator");
}

/* ---- the service ---- */

#define SERVICES "/v2.1/os-services?binary=nova-compute&host=here"

static void services(const char *status, const char *reason)
{
    _cleanup_(str_freep) char *body = text_format(
        "{\"services\": [{\"id\": \"" SERVICE "\", \"status\": \"%s\", \"disabled_reason\": %s}]}",
        status, reason);

    rest_world_answer(w, "GET", SERVICES, 200, body);
}

static bool changed(bool enabled)
{
    nova_api_service_enable(&w->cloud, enabled, "drained", rest_result, &w->end);
    rest_world_run(w, w->end.calls + 1);
    UNIT_EQ(w->end.e.code, ERR_NONE);
    return json_get_bool(w->end.result, "changed", false);
}

UNIT_TEST(disables, "the service is disabled with the reason")
{
    open_api();
    services("enabled", "null");
    rest_world_answer(w, "PUT", "/v2.1/os-services/" SERVICE, 200, "{}");
    UNIT_TRUE(changed(false));
    const struct fake_request *put = fake_http_request(w->server, "PUT", NULL, 0);
    UNIT_STR(json_get_string(put->json, "status", NULL), "disabled");
    UNIT_STR(json_get_string(put->json, "disabled_reason", NULL), "drained");
}

UNIT_TEST(leaves, "a service that is disabled already is left alone")
{
    open_api();
    services("disabled", "\"a new disk\"");
    UNIT_TRUE(!changed(false));
}

UNIT_TEST(disabled_before, "a service that was disabled for the same reason counts as changed")
{
    open_api();
    services("disabled", "\"drained\"");
    UNIT_TRUE(changed(false));
}

UNIT_TEST(enables, "what was disabled for this reason is enabled, and nothing else")
{
    open_api();
    services("disabled", "\"a new disk\"");
    UNIT_TRUE(!changed(true));
    services("disabled", "\"drained\"");
    rest_world_answer(w, "PUT", "/v2.1/os-services/" SERVICE, 200, "{}");
    UNIT_TRUE(changed(true));
}

UNIT_TEST(no_service, "a host without a service is told")
{
    open_api();
    rest_world_answer(w, "GET", SERVICES, 200, "{\"services\": []}");
    nova_api_service_enable(&w->cloud, false, "drained", rest_result, &w->end);
    rest_world_run(w, 1);
    UNIT_EQ(w->end.e.code, ERR_REMOTE);
}
