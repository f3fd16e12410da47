/* SPDX-License-Identifier: Apache-2.0 */
/* Server and client on a bus that the test plays. */
#include "rpc/rpc.h"

#include "lib/clock.h"
#include "lib/json.h"
#include "lib/log.h"
#include "lib/metrics.h"
#include "lib/text.h"
#include "rpc/client.h"
#include "rpc/server.h"
#include "tests/unit/fake_bus.h"
#include "tests/unit/unit.h"

static struct loop *loop;
static struct conf *conf;
static struct rpc *rpc;
static int64_t now_us;
static struct rpc_request *requests[16]; /* what handlers got and still own */
static unsigned request_count;

static void on_request(void *aux, struct rpc_request *request)
{
    (void)aux;
    if (request_count < ARRAY_LEN(requests))
        requests[request_count++] = request;
    else
        rpc_request_free(request);
}

static void setup(void)
{
    static const struct rpc_callbacks callbacks = {.request = on_request};
    now_us = 1000 * USEC_PER_SEC;
    clock_fake_set(now_us);
    log_set_level(NULL, LOG_LEVEL_ERROR);
    request_count = 0;
    UNIT_OK(loop_new(&loop, &unit_err));
    conf = conf_for_test("DEFAULT.rpc_ping_enabled", "true", NULL);
    UNIT_OK(rpc_new(&rpc, loop, conf, "os-hosta", &callbacks, NULL, &unit_err));
}

static void teardown(void)
{
    for (unsigned i = 0; i < request_count; i++)
        rpc_request_free(requests[i]);
    rpc_free(rpc, 0);
    rpc = NULL;
    conf_unref(conf);
    loop_free(loop);
    clock_fake_stop();
}

UNIT_FIXTURE(setup, teardown)

/* Lets time pass in steps, so that timers run in their order. */
static void pass_ms(int64_t ms)
{
    for (int64_t left = ms; left > 0; left -= 50) {
        now_us += (left < 50 ? left : 50) * USEC_PER_MSEC;
        clock_fake_set(now_us);
        (void)loop_turn(loop, 0, &unit_err);
    }
}

static struct json_object *parse(const char *text)
{
    struct json_object *o = NULL;
    UNIT_OK(json_parse(text, strlen(text), &o, &unit_err));
    return o;
}

static uint64_t deliver(const char *inner, bool redelivered)
{
    _cleanup_(json_putp) struct json_object *o = parse(inner);
    return fake_bus_deliver(o, false, redelivered);
}

static void deliver_reply(struct json_object *taken)
{
    fake_bus_deliver(taken, true, false);
    json_object_put(taken);
}

/* The n-th published message. */
static struct json_object *sent(size_t index)
{
    UNIT_TRUE(index < fake_bus.sent_count);
    return index < fake_bus.sent_count ? fake_bus.sent[index].inner : NULL;
}

/* Takes a request from the handler's list: the test ends it itself. */
static struct rpc_request *take(void)
{
    return request_count ? requests[--request_count] : NULL;
}

#define CONTROL_ARGS "\"args\":{\"command\":\"list\",\"args\":{}}"
#define CONTROL                                                                                    \
    "\"method\":\"control\",\"namespace\":\"computed\",\"version\":\"1.0\"," CONTROL_ARGS
#define BACK(id) "\"_msg_id\":\"" id "\",\"_reply_q\":\"reply_q1\""
#define CALL(unique, more)                                                                         \
    "{" CONTROL ",\"_unique_id\":\"" unique "\"," BACK("m1") ",\"_timeout\":null" more "}"
#define CAST(unique) "{" CONTROL ",\"_unique_id\":\"" unique "\"}"

/* ---- serving ---- */

UNIT_TEST(call, "a call reaches the handler and its reply goes to the reply queue, mandatory")
{
    uint64_t tag =
        deliver(CALL("u1", ",\"_context_request_id\":\"req-1\",\"_context_new\":[1]"), false);
    if (!UNIT_EQ(request_count, 1))
        return;
    struct rpc_request *request = take();
    int major, minor;
    rpc_request_version(request, &major, &minor);
    UNIT_EQ(rpc_request_method(request), RPC_METHOD_control);
    UNIT_EQ(rpc_request_kind(request), RPC_KIND_CALL);
    UNIT_TRUE(major == 1 && minor == 0);
    UNIT_STR(json_object_get_string(rpc_request_arg(request, "command")), "list");
    UNIT_STR(rpc_request_id(request), "req-1");
    UNIT_STR(rpc_request_unique_id(request), "u1");
    UNIT_TRUE(json_has(rpc_request_context(request), "new"));
    UNIT_TRUE(!fake_bus_acked(tag));

    rpc_reply(request, json_object_new_int(42));
    UNIT_TRUE(fake_bus_acked(tag));
    UNIT_EQ(fake_bus.sent_count, 1);
    UNIT_STR(fake_bus.sent[0].exchange, "");
    UNIT_STR(fake_bus.sent[0].routing_key, "reply_q1");
    UNIT_TRUE(fake_bus.sent[0].mandatory);
    UNIT_EQ(fake_bus.sent[0].expiration_ms, 0);
    UNIT_STR(json_get_string(sent(0), "_msg_id", NULL), "m1");
    UNIT_EQ(json_get_int(sent(0), "result", 0), 42);
    UNIT_TRUE(json_get_bool(sent(0), "ending", false));
    UNIT_TRUE(json_has(sent(0), "failure") && !json_get(sent(0), "failure"));
    UNIT_EQ(strlen(json_get_string(sent(0), "_unique_id", "")), 32);
}

UNIT_TEST(cast, "a cast is never answered, whether it succeeds or fails")
{
    struct err e = ERR_INIT;
    deliver(CAST("u1"), false);
    UNIT_EQ(rpc_request_kind(requests[0]), RPC_KIND_CAST);
    rpc_reply(take(), NULL);
    deliver(CAST("u2"), false);
    err_set(&e, ERR_INVALID, "no");
    rpc_fail(take(), &e);
    deliver("{\"method\":\"nothing\",\"version\":\"6.0\"}", false);
    UNIT_EQ(fake_bus.sent_count, 0);
    UNIT_EQ(fake_bus.acked_count, 3);
}

static struct json_object *failure_of(size_t index)
{
    const char *text = json_get_string(sent(index), "failure", "");
    return parse(text);
}

static void fails_with(const char *call, const char *wire_class, const char *words)
{
    size_t before = fake_bus.sent_count;
    uint64_t tag = deliver(call, false);
    UNIT_EQ(request_count, 0);
    UNIT_TRUE(fake_bus_acked(tag));
    if (!UNIT_EQ(fake_bus.sent_count, before + 1))
        return;
    _cleanup_(json_putp) struct json_object *failure = failure_of(before);
    UNIT_STR(json_get_string(failure, "class", NULL), wire_class);
    UNIT_HAS(json_get_string(failure, "message", NULL), words);
    UNIT_TRUE(json_get_bool(sent(before), "ending", false));
}

UNIT_TEST(refusals, "a call that is not allowed is answered with the class of oslo's dispatcher")
{
    uint64_t refused = metric_get(METRIC_RPC_REFUSED);
    fails_with("{\"method\":\"x\",\"version\":\"6.0\"," BACK("1") "}", "NoSuchMethod", "x");
    fails_with("{\"method\":\"live_migration\",\"version\":\"6.9\"," BACK("2") "}",
               "UnsupportedVersion", "6.9");
    fails_with(
        "{\"method\":\"live_migration\",\"namespace\":\"n\",\"version\":\"6.0\"," BACK("3") "}",
        "UnsupportedVersion", "6.0");
    fails_with(
        "{\"method\":\"live_migration_abort\",\"version\":\"6.0\",\"args\":{}," BACK("4") "}",
        "Invalid", "misses its argument instance");
    fails_with(
        "{\"method\":\"live_migration_abort\",\"version\":\"6.0\",\"args\":[]," BACK("5") "}",
        "Invalid", "args");
    fails_with("{\"method\":{},\"version\":\"6.0\"," BACK("6") "}", "Invalid", "method");
    UNIT_EQ(metric_get(METRIC_RPC_REFUSED), refused + 6);
}

UNIT_TEST(garbage,
          "what cannot be read is acknowledged, counted and dropped, and the next is served")
{
    static const char *const bodies[] = {"",
                                         "\xff\xfe\x00",
                                         "{",
                                         "[]",
                                         "7",
                                         "{\"oslo.version\":\"9.0\",\"oslo.message\":\"{}\"}",
                                         "{\"oslo.version\":\"2.0\",\"oslo.message\":\"\"}",
                                         "{}"};
    uint64_t refused = metric_get(METRIC_RPC_REFUSED);
    for (size_t i = 0; i < ARRAY_LEN(bodies); i++)
        UNIT_TRUE(
            fake_bus_acked(fake_bus_deliver_text(bodies[i], strlen(bodies[i]), false, false)));
    UNIT_EQ(metric_get(METRIC_RPC_REFUSED), refused + ARRAY_LEN(bodies));
    UNIT_EQ(fake_bus.sent_count, 0);
    deliver(CAST("u1"), false);
    UNIT_EQ(request_count, 1);
}

UNIT_TEST(base_api, "ping and get_backdoor_port are answered here, as nova does")
{
    deliver("{\"method\":\"ping\",\"namespace\":\"baseapi\",\"version\":\"1.1\","
            "\"args\":{\"arg\":\"hello\"}," BACK("1") "}",
            false);
    deliver("{\"method\":\"get_backdoor_port\",\"namespace\":\"baseapi\",\"version\":\"1.1\","
            "\"args\":{}," BACK("2") "}",
            false);
    deliver("{\"method\":\"oslo_rpc_server_ping\",\"args\":{}," BACK("3") "}", false);
    UNIT_EQ(request_count, 0);
    UNIT_STR(json_get_string(json_get(sent(0), "result"), "service", NULL), "compute");
    UNIT_STR(json_get_string(json_get(sent(0), "result"), "arg", NULL), "hello");
    UNIT_TRUE(json_has(sent(1), "result") && !json_get(sent(1), "result"));
    UNIT_STR(json_get_string(sent(2), "result", NULL), "pong");
}

UNIT_TEST(failure, "a handler's failure goes out as a string of JSON with a null result")
{
    struct err e = ERR_INIT;
    err_set(&e, ERR_PRECHECK, "no room");
    deliver(CALL("u1", ""), false);
    rpc_fail(take(), &e);
    _cleanup_(json_putp) struct json_object *failure = failure_of(0);
    UNIT_STR(json_get_string(failure, "class", NULL), "MigrationPreCheckError");
    UNIT_TRUE(json_has(sent(0), "result") && !json_get(sent(0), "result"));
}

UNIT_TEST(accepting, "a request is acknowledged once, at the handler's word")
{
    uint64_t tag = deliver(CALL("u1", ""), false);
    UNIT_TRUE(!fake_bus_acked(tag));
    rpc_request_accept(requests[0]);
    UNIT_TRUE(fake_bus_acked(tag));
    rpc_request_accept(requests[0]);
    rpc_reply(take(), NULL);
    UNIT_TRUE(fake_bus_acked(tag));
}

/* ---- duplicates ---- */

UNIT_TEST(duplicate_working, "a request that comes again while it is worked on runs once")
{
    uint64_t first = deliver(CALL("u1", ""), false);
    fake_bus_state(false);
    fake_bus_state(true);
    uint64_t second = deliver(CALL("u1", ""), true);
    UNIT_EQ(request_count, 1);
    UNIT_TRUE(!fake_bus_acked(second));
    rpc_reply(take(), NULL);
    UNIT_TRUE(fake_bus_acked(second) && !fake_bus_acked(first));
    UNIT_EQ(fake_bus.sent_count, 1);
}

UNIT_TEST(duplicate_accepted,
          "a request that was accepted is acknowledged again when it comes again")
{
    deliver(CAST("u1"), false);
    rpc_request_accept(requests[0]);
    fake_bus_state(false);
    fake_bus_state(true);
    UNIT_TRUE(fake_bus_acked(deliver(CAST("u1"), true)));
    UNIT_EQ(request_count, 1);
}

UNIT_TEST(duplicate_done, "a request that was answered is not run again, even long after")
{
    uint64_t before = metric_get(METRIC_RPC_DUPLICATE);
    deliver(CALL("u1", ""), false);
    rpc_reply(take(), NULL);
    for (int i = 0; i < 1000; i++) {
        _cleanup_(str_freep) char *other = text_format("{" CONTROL ",\"_unique_id\":\"o%d\"}", i);
        deliver(other, false);
        rpc_request_free(take());
    }
    UNIT_TRUE(fake_bus_acked(deliver(CALL("u1", ""), true)));
    UNIT_EQ(request_count, 0);
    UNIT_EQ(metric_get(METRIC_RPC_DUPLICATE), before + 1);
}

UNIT_TEST(duplicate_twice, "two copies on one connection are both acknowledged and run once")
{
    uint64_t first = deliver(CAST("u1"), false), second = deliver(CAST("u1"), false);
    UNIT_EQ(request_count, 1);
    UNIT_TRUE(fake_bus_acked(second) && !fake_bus_acked(first));
    rpc_reply(take(), NULL);
    UNIT_TRUE(fake_bus_acked(first));
}

UNIT_TEST(no_unique_id, "messages without a unique id are each taken")
{
    deliver("{" CONTROL "}", false);
    deliver("{" CONTROL "}", false);
    UNIT_EQ(request_count, 2);
}

/* ---- call monitor ---- */

static unsigned heartbeats(size_t from)
{
    unsigned count = 0;
    for (size_t i = from; i < fake_bus.sent_count; i++)
        count += !json_get_bool(sent(i), "ending", true) && !json_get(sent(i), "result") &&
                 !json_get(sent(i), "failure");
    return count;
}

#define MONITORED(seconds)                                                                         \
    "{" CONTROL ",\"_unique_id\":\"u1\"," BACK("m1") ",\"_timeout\":" seconds "}"

UNIT_TEST(heartbeat, "while a monitored call is worked on, a heartbeat goes out every half period")
{
    deliver(MONITORED("4"), false);
    pass_ms(1900);
    UNIT_EQ(heartbeats(0), 0);
    pass_ms(200);
    UNIT_EQ(heartbeats(0), 1);
    pass_ms(6000);
    UNIT_EQ(heartbeats(0), 4);
    UNIT_STR(json_get_string(sent(0), "_msg_id", NULL), "m1");
    UNIT_TRUE(strcmp(json_get_string(sent(0), "_unique_id", ""),
                     json_get_string(sent(1), "_unique_id", "")) != 0);
    rpc_reply(take(), NULL);
    size_t count = fake_bus.sent_count;
    pass_ms(10000);
    UNIT_EQ(fake_bus.sent_count, count);
}

UNIT_TEST(no_heartbeat, "no heartbeats for casts, unmonitored calls and periods below two seconds")
{
    deliver(MONITORED("null"), false);
    deliver(MONITORED("1"), false);
    deliver(CAST("u7"), false);
    pass_ms(10000);
    UNIT_EQ(fake_bus.sent_count, 0);
}

/* ---- lost replies ---- */

UNIT_TEST(reply_retry, "a reply whose queue is missing is tried again with a new unique id")
{
    deliver(CALL("u1", ""), false);
    rpc_reply(take(), json_object_new_int(5));
    fake_bus_tell(0, BUS_UNROUTABLE);
    UNIT_EQ(fake_bus.sent_count, 1);
    pass_ms(300);
    if (!UNIT_EQ(fake_bus.sent_count, 2))
        return;
    UNIT_EQ(json_get_int(sent(1), "result", 0), 5);
    UNIT_TRUE(strcmp(json_get_string(sent(0), "_unique_id", ""),
                     json_get_string(sent(1), "_unique_id", "")) != 0);
    fake_bus_tell(1, BUS_CONFIRMED);
    pass_ms(2000);
    UNIT_EQ(fake_bus.sent_count, 2);
}

/* Has the n-th message and all its retries come back for so long. */
static void unroutable_for(int64_t ms)
{
    for (int64_t passed = 0; passed < ms; passed += 250) {
        for (size_t i = 0; i < fake_bus.sent_count; i++)
            fake_bus_tell(i, BUS_UNROUTABLE);
        pass_ms(250);
    }
}

UNIT_TEST(dead_queue, "a reply queue that is missing for a minute counts as dead for a minute")
{
    uint64_t lost = metric_get(METRIC_RPC_REPLY_LOST);
    deliver(CALL("u1", ""), false);
    rpc_reply(take(), NULL);
    unroutable_for(59000);
    UNIT_EQ(metric_get(METRIC_RPC_REPLY_LOST), lost);
    unroutable_for(2000);
    UNIT_EQ(metric_get(METRIC_RPC_REPLY_LOST), lost + 1);
    size_t count = fake_bus.sent_count;
    deliver(CALL("u2", ""), false);
    rpc_reply(take(), NULL);
    UNIT_EQ(fake_bus.sent_count, count);
    pass_ms(61000);
    deliver(CALL("u3", ""), false);
    rpc_reply(take(), NULL);
    UNIT_EQ(fake_bus.sent_count, count + 1);
}

UNIT_TEST(refused_reply, "a bus that refuses at once does not confuse the server")
{
    uint64_t lost = metric_get(METRIC_RPC_REPLY_LOST);
    fake_bus.refuse = true;
    deliver(CALL("u1", ""), false);
    rpc_reply(take(), NULL);
    pass_ms(50);
    UNIT_EQ(metric_get(METRIC_RPC_REPLY_LOST), lost + 1);
}

UNIT_TEST(outlives, "requests that outlive the server can still be ended")
{
    deliver(MONITORED("4"), false);
    struct rpc_request *request = take();
    rpc_free(rpc, 0);
    rpc = NULL;
    rpc_request_accept(request);
    rpc_reply(request, json_object_new_int(1));
    pass_ms(5000);
    UNIT_EQ(fake_bus.acked_count, 0);
}

/* ---- calling ---- */

static struct {
    unsigned count;
    struct json_object *result;
    struct err failure;
    char raw[512];
} answer;

static void on_answer(void *aux, struct json_object *result, const struct err *failure)
{
    (void)aux;
    answer.count++;
    json_object_put(answer.result);
    answer.result = json_object_get(result);
    answer.failure = failure ? *failure : ERR_INIT;
    const char *raw = rpc_failure_raw(rpc);
    snprintf(answer.raw, sizeof(answer.raw), "%s", raw ? raw : "");
}

static void forget_answer(void)
{
    json_object_put(answer.result);
    memset(&answer, 0, sizeof(answer));
}

static const struct rpc_target host_b = {.topic = "compute", .server = "os-hostb"};

static struct rpc_call *call_b(const struct rpc_options *options)
{
    forget_answer();
    return rpc_call(rpc, &host_b, RPC_METHOD_drop_move_claim_at_destination,
                    json_object_new_object(), NULL, options, on_answer, NULL);
}

static struct json_object *reply_to(size_t index, const char *members)
{
    _cleanup_(str_freep) char *text = text_format(
        "{\"_msg_id\":\"%s\",%s}", json_get_string(sent(index), "_msg_id", ""), members);
    return parse(text);
}

UNIT_TEST(call_out,
          "a call goes to the host's queue with the way back, the context and an expiration")
{
    forget_answer();
    _cleanup_(json_putp) struct json_object *context =
        parse("{\"request_id\":\"req-9\",\"odd\":{}}");
    struct rpc_options options = {.timeout_us = 90 * USEC_PER_SEC, .monitor_us = 60 * USEC_PER_SEC};
    rpc_call(rpc, &host_b, RPC_METHOD_drop_move_claim_at_destination, parse("{\"instance\":1}"),
             context, &options, on_answer, NULL);
    const struct fake_message *m = &fake_bus.sent[0];
    UNIT_STR(m->exchange, "nova");
    UNIT_STR(m->routing_key, "compute.os-hostb");
    UNIT_EQ(m->expiration_ms, 90000);
    UNIT_STR(json_get_string(m->inner, "method", NULL), "drop_move_claim_at_destination");
    UNIT_STR(json_get_string(m->inner, "version", NULL), "6.0");
    UNIT_TRUE(!json_has(m->inner, "namespace"));
    UNIT_STR(json_get_string(m->inner, "_reply_q", NULL), "reply_0123456789abcdef0123456789abcdef");
    UNIT_EQ(strlen(json_get_string(m->inner, "_msg_id", "")), 32);
    UNIT_EQ(json_get_int(m->inner, "_timeout", 0), 60);
    UNIT_STR(json_get_string(m->inner, "_context_request_id", NULL), "req-9");
    UNIT_TRUE(json_has(m->inner, "_context_odd"));
    UNIT_EQ(json_get_int(json_get(m->inner, "args"), "instance", 0), 1);

    fake_bus_tell(0, BUS_CONFIRMED);
    UNIT_EQ(answer.count, 0);
    deliver_reply(reply_to(0, "\"result\":{\"a\":1},\"failure\":null,\"ending\":true"));
    UNIT_EQ(answer.count, 1);
    UNIT_EQ(json_get_int(answer.result, "a", 0), 1);
    UNIT_TRUE(!err_is_set(&answer.failure));
    UNIT_EQ(fake_bus.acked_count, 1);
    deliver_reply(reply_to(0, "\"result\":2,\"failure\":null,\"ending\":true"));
    UNIT_EQ(answer.count, 1);
    forget_answer();
}

UNIT_TEST(early_reply, "a reply that overtakes the broker's confirmation is a reply")
{
    call_b(NULL);
    deliver_reply(reply_to(0, "\"result\":null,\"failure\":null,\"ending\":true"));
    UNIT_EQ(answer.count, 1);
    fake_bus_tell(0, BUS_CONFIRMED);
    UNIT_EQ(answer.count, 1);
    UNIT_TRUE(answer.result == NULL);
}

UNIT_TEST(peer_failure, "a peer's failure comes with its class, its text and as it was sent")
{
    call_b(NULL);
    deliver_reply(reply_to(
        0, "\"result\":null,\"ending\":true,\"failure\":\"{\\\"class\\\":\\\"InstanceNotFound\\\","
           "\\\"module\\\":\\\"nova.exception\\\",\\\"message\\\":\\\"gone\\\"}\""));
    UNIT_EQ(answer.failure.code, ERR_NO_INSTANCE);
    UNIT_STR(answer.failure.text, "gone");
    UNIT_HAS(answer.raw, "InstanceNotFound");
    UNIT_TRUE(rpc_failure_raw(rpc) == NULL);
    deliver(CALL("u1", ""), false);
    rpc_fail_raw(take(), answer.raw);
    UNIT_STR(json_get_string(sent(1), "failure", NULL), answer.raw);
}

UNIT_TEST(timeout, "a call without a reply ends at its timeout, the configured one by default")
{
    struct rpc_options options = {.timeout_us = 5 * USEC_PER_SEC};
    call_b(&options);
    fake_bus_tell(0, BUS_CONFIRMED);
    pass_ms(4900);
    UNIT_EQ(answer.count, 0);
    pass_ms(200);
    UNIT_EQ(answer.count, 1);
    UNIT_EQ(answer.failure.code, ERR_TIMEOUT);
    UNIT_HAS(answer.failure.text, "compute.os-hostb");
    call_b(NULL);
    fake_bus_tell(1, BUS_CONFIRMED);
    pass_ms(59000);
    UNIT_EQ(answer.count, 0);
    pass_ms(1100);
    UNIT_EQ(answer.failure.code, ERR_TIMEOUT);
}

UNIT_TEST(reload, "a reload changes the timeout of the calls that follow")
{
    _cleanup_(conf_unrefp) struct conf *fresh =
        conf_for_test("DEFAULT.rpc_response_timeout", "7", NULL);
    rpc_reload(rpc, fresh);
    call_b(NULL);
    fake_bus_tell(0, BUS_CONFIRMED);
    UNIT_EQ(fake_bus.sent[0].expiration_ms, 7000);
    pass_ms(7100);
    UNIT_EQ(answer.count, 1);
}

UNIT_TEST(monitor, "heartbeats keep a monitored call alive up to its overall timeout only")
{
    struct rpc_options options = {.timeout_us = 20 * USEC_PER_SEC, .monitor_us = 4 * USEC_PER_SEC};
    call_b(&options);
    fake_bus_tell(0, BUS_CONFIRMED);
    for (int i = 0; i < 6; i++) {
        pass_ms(3000);
        deliver_reply(reply_to(0, "\"result\":null,\"failure\":null,\"ending\":false"));
        UNIT_EQ(answer.count, 0);
    }
    pass_ms(2100);
    UNIT_EQ(answer.count, 1);
    UNIT_EQ(answer.failure.code, ERR_TIMEOUT);
}

UNIT_TEST(monitor_silence, "a monitored call ends when no heartbeat comes for a whole period")
{
    struct rpc_options options = {.timeout_us = 100 * USEC_PER_SEC, .monitor_us = 4 * USEC_PER_SEC};
    call_b(&options);
    fake_bus_tell(0, BUS_CONFIRMED);
    pass_ms(4100);
    UNIT_EQ(answer.count, 1);
    UNIT_EQ(answer.failure.code, ERR_TIMEOUT);
    UNIT_HAS(answer.failure.text, "no sign of life");
}

UNIT_TEST(monitor_down, "the monitor rests while the bus is down and starts anew when it is back")
{
    struct rpc_options options = {.timeout_us = 100 * USEC_PER_SEC, .monitor_us = 4 * USEC_PER_SEC};
    call_b(&options);
    fake_bus_tell(0, BUS_CONFIRMED);
    pass_ms(3000);
    fake_bus_state(false);
    pass_ms(10000);
    fake_bus_state(true);
    pass_ms(3900);
    UNIT_EQ(answer.count, 0);
    pass_ms(200);
    UNIT_EQ(answer.count, 1);
}

UNIT_TEST(two_part, "the two-part reply of old peers gives its result at the ending")
{
    call_b(NULL);
    deliver_reply(reply_to(0, "\"result\":7,\"failure\":null,\"ending\":false"));
    UNIT_EQ(answer.count, 0);
    deliver_reply(reply_to(0, "\"ending\":true"));
    UNIT_EQ(json_object_get_int(answer.result), 7);
    forget_answer();
}

UNIT_TEST(bad_reply, "a malformed reply ends its call with an error, strangers' are dropped")
{
    call_b(NULL);
    fake_bus_deliver_text("{", 1, true, false);
    deliver_reply(parse("{\"_msg_id\":\"unknown\",\"ending\":true}"));
    deliver_reply(parse("{\"_msg_id\":{},\"ending\":true}"));
    UNIT_EQ(answer.count, 0);
    deliver_reply(reply_to(0, "\"failure\":7,\"ending\":true"));
    UNIT_EQ(answer.count, 1);
    UNIT_EQ(answer.failure.code, ERR_PARSE);
    UNIT_EQ(fake_bus.acked_count, 4);
}

UNIT_TEST(unroutable_call,
          "a host that nobody serves is tried for ten seconds, then it is unreachable")
{
    call_b(NULL);
    unroutable_for(9000);
    UNIT_EQ(answer.count, 0);
    unroutable_for(2000);
    UNIT_EQ(answer.count, 1);
    UNIT_EQ(answer.failure.code, ERR_UNREACHABLE);
}

UNIT_TEST(refused_call, "a call that the bus refuses fails, but never before rpc_call has returned")
{
    fake_bus.refuse = true;
    UNIT_TRUE(call_b(NULL) != NULL);
    UNIT_EQ(answer.count, 0);
    pass_ms(50);
    UNIT_EQ(answer.count, 1);
    UNIT_EQ(answer.failure.code, ERR_UNREACHABLE);
}

UNIT_TEST(cancel, "a cancelled call ends at once and its reply is dropped")
{
    struct rpc_call *call = call_b(NULL);
    rpc_call_cancel(call);
    UNIT_EQ(answer.count, 1);
    UNIT_EQ(answer.failure.code, ERR_CANCELLED);
    fake_bus_tell(0, BUS_CONFIRMED);
    deliver_reply(reply_to(0, "\"result\":1,\"failure\":null,\"ending\":true"));
    pass_ms(100000);
    UNIT_EQ(answer.count, 1);
}

UNIT_TEST(many_calls, "more calls than may wait fail with a reason")
{
    for (int i = 0; i < CLIENT_CALLS_MAX; i++)
        rpc_call(rpc, &host_b, RPC_METHOD_ping, json_object_new_object(), NULL, NULL, NULL, NULL);
    call_b(NULL);
    pass_ms(50);
    UNIT_EQ(answer.count, 1);
    UNIT_EQ(answer.failure.code, ERR_UNREACHABLE);
    UNIT_EQ(fake_bus.sent_count, CLIENT_CALLS_MAX);
}

UNIT_TEST(closing, "what waits when the room is closed ends as cancelled")
{
    call_b(NULL);
    rpc_free(rpc, 0);
    rpc = NULL;
    UNIT_EQ(answer.count, 1);
    UNIT_EQ(answer.failure.code, ERR_CANCELLED);
}

UNIT_TEST(cast_out, "a cast has no way back and is done when the broker has it")
{
    forget_answer();
    rpc_cast(rpc, &host_b, RPC_METHOD_live_migration_abort, json_object_new_object(), NULL, NULL,
             on_answer, NULL);
    UNIT_TRUE(!json_has(sent(0), "_msg_id") && !json_has(sent(0), "_reply_q") &&
              !json_has(sent(0), "_timeout"));
    UNIT_TRUE(fake_bus.sent[0].mandatory);
    UNIT_EQ(fake_bus.sent[0].expiration_ms, 0);
    UNIT_EQ(answer.count, 0);
    fake_bus_tell(0, BUS_CONFIRMED);
    UNIT_EQ(answer.count, 1);
    UNIT_TRUE(!err_is_set(&answer.failure));
}

UNIT_TEST(fanout_out, "a fanout cast goes to the topic's fanout exchange without a key")
{
    static const struct rpc_target all = {.topic = "scheduler", .fanout = true};
    rpc_cast(rpc, &all, RPC_METHOD_live_migration_abort, NULL, NULL, NULL, NULL, NULL);
    UNIT_STR(fake_bus.sent[0].exchange, "scheduler_fanout");
    UNIT_STR(fake_bus.sent[0].routing_key, "");
    UNIT_TRUE(!fake_bus.sent[0].mandatory);
    fake_bus_tell(0, BUS_CONFIRMED);
}

UNIT_TEST(named, "a call by name goes with its namespace and version")
{
    static const struct rpc_target conductor = {.topic = "conductor"};
    struct rpc_options options = {.version = "3.0"};
    rpc_call_named(rpc, &conductor, "object_action", NULL, NULL, NULL, &options, NULL, NULL);
    rpc_call(rpc, &host_b, RPC_METHOD_control, NULL, NULL, NULL, NULL, NULL);
    UNIT_STR(fake_bus.sent[0].routing_key, "conductor");
    UNIT_STR(json_get_string(sent(0), "version", NULL), "3.0");
    UNIT_TRUE(json_object_is_type(json_get(sent(0), "args"), json_type_object));
    UNIT_STR(json_get_string(sent(1), "namespace", NULL), "computed");
    UNIT_STR(json_get_string(sent(1), "version", NULL), "1.0");
}

UNIT_TEST(status, "the status tells broker, waiting calls and requests")
{
    call_b(NULL);
    deliver(CALL("u1", ""), false);
    _cleanup_(json_putp) struct json_object *status = rpc_status(rpc);
    UNIT_TRUE(json_get_bool(status, "up", false));
    UNIT_STR(json_get_string(status, "broker", NULL), "broker:5672");
    UNIT_EQ(json_get_int(status, "waiting_calls", -1), 1);
    UNIT_EQ(json_get_int(status, "requests", -1), 1);
    UNIT_EQ(json_get_int(status, "queued", -1), 1);
    rpc_drain(rpc);
    UNIT_STR(fake_bus.stopped_topic, "compute");
}

UNIT_TEST(no_bus, "a bus that cannot be made is an error without leftovers")
{
    static const struct rpc_callbacks callbacks = {.request = on_request};
    struct rpc *none = NULL;
    UNIT_FAILS(rpc_new(&none, loop, conf, "refused", &callbacks, NULL, &unit_err), ERR_CONFIG);
    UNIT_TRUE(none == NULL);
}
