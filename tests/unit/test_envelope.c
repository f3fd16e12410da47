/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/envelope.h"

#include "lib/json.h"
#include "lib/text.h"
#include "rpc/context.h"
#include "rpc/rpc.h"
#include "tests/unit/capture.h"
#include "tests/unit/unit.h"

static struct json_object *parse(const char *text)
{
    struct json_object *o = NULL;
    UNIT_OK(json_parse(text, strlen(text), &o, &unit_err));
    return o;
}

/* A message must survive the way through the structs and the envelope. */
static void goes_round(const char *name, struct json_object *inner)
{
    _cleanup_(json_putp) struct json_object *made = NULL, *decoded = NULL;
    if (json_has(inner, "method")) {
        struct envelope_request request;
        if (!UNIT_OK(envelope_read_request(inner, &request, &unit_err)))
            return;
        made = envelope_make_request(&request);
        envelope_request_clear(&request);
    } else {
        struct envelope_reply reply;
        if (!UNIT_OK(envelope_read_reply(inner, &reply, &unit_err)))
            return;
        made = envelope_make_reply(&reply);
    }
    size_t length;
    _cleanup_(str_freep) char *body = envelope_encode(made, &length);
    if (UNIT_OK(envelope_decode(body, length, &decoded, &unit_err)))
        unit_check(json_same(decoded, inner), __LINE__, __FILE__, "%s is changed", name);
}

UNIT_TEST(capture, "every recorded message comes out of the envelope as it went in")
{
    UNIT_EQ(capture_each(goes_round), CAPTURE_COUNT);
}

UNIT_TEST(double_encoded, "an envelope holds the inner message as text beside version 2.0")
{
    _cleanup_(json_putp) struct json_object *inner = parse("{\"method\":\"x\"}");
    size_t length;
    _cleanup_(str_freep) char *body = envelope_encode(inner, &length);
    UNIT_STR(body, "{\"oslo.version\":\"2.0\",\"oslo.message\":\"{\\\"method\\\":\\\"x\\\"}\"}");
    UNIT_EQ(length, strlen(body));
}

static int decode(const char *body)
{
    _cleanup_(json_putp) struct json_object *inner = NULL;
    return envelope_decode(body, strlen(body), &inner, &unit_err);
}

UNIT_TEST(bare, "a bare object without an envelope is taken as the message")
{
    UNIT_OK(decode("{\"method\":\"x\",\"args\":{}}"));
    UNIT_OK(decode("{\"oslo.version\":\"2.0\",\"method\":\"x\"}"));
}

UNIT_TEST(versions, "an envelope of another version is refused")
{
    UNIT_OK(decode("{\"oslo.version\":\"2.0\",\"oslo.message\":\"{}\"}"));
    UNIT_OK(decode("{\"oslo.version\":\"2.0.7\",\"oslo.message\":\"{}\"}"));
    UNIT_FAILS(decode("{\"oslo.version\":\"2.1\",\"oslo.message\":\"{}\"}"), ERR_PARSE);
    UNIT_HAS(unit_err.text, "2.1");
    UNIT_FAILS(decode("{\"oslo.version\":\"3.0\",\"oslo.message\":\"{}\"}"), ERR_PARSE);
    UNIT_FAILS(decode("{\"oslo.version\":\"1.0\",\"oslo.message\":\"{}\"}"), ERR_PARSE);
    UNIT_FAILS(decode("{\"oslo.version\":2.0,\"oslo.message\":\"{}\"}"), ERR_PARSE);
    UNIT_FAILS(decode("{\"oslo.version\":\"two\",\"oslo.message\":\"{}\"}"), ERR_PARSE);
}

UNIT_TEST(malformed, "malformed bodies and JSON bombs are refused with a reason")
{
    static const char *const bodies[] = {
        "",
        "null",
        "[]",
        "\"text\"",
        "{",
        "{\"oslo.version\":\"2.0\",\"oslo.message\":{}}",
        "{\"oslo.version\":\"2.0\",\"oslo.message\":null}",
        "{\"oslo.version\":\"2.0\",\"oslo.message\":\"\"}",
        "{\"oslo.version\":\"2.0\",\"oslo.message\":\"[]\"}",
        "{\"oslo.version\":\"2.0\",\"oslo.message\":\"{\\\"a\\\":1,\\\"a\\\":2}\"}",
        "{\"method\":\"x\",\"method\":\"y\"}",
        "{\"method\":\"\xff\xfe\"}",
        "{\"a\":NaN}",
        "{\"a\":1} trailing",
    };
    for (size_t i = 0; i < ARRAY_LEN(bodies); i++) {
        UNIT_FAILS(decode(bodies[i]), ERR_PARSE);
        UNIT_TRUE(unit_err.text[0] != '\0');
    }
}

static char *nested(size_t depth)
{
    struct text_buffer b = TEXT_BUFFER_INIT;
    text_buffer_add(&b, "{\"a\":");
    for (size_t i = 0; i < depth; i++)
        text_buffer_add(&b, "[");
    for (size_t i = 0; i < depth; i++)
        text_buffer_add(&b, "]");
    text_buffer_add(&b, "}");
    return text_buffer_take(&b);
}

UNIT_TEST(depth, "nesting beyond the limit is refused, outside and inside the envelope")
{
    _cleanup_(str_freep) char *deep = nested(100000);
    _cleanup_(str_freep) char *inside = text_format(
        "{\"oslo.version\":\"2.0\",\"oslo.message\":\"{\\\"a\\\":%.*s\"}", 1000, deep + 5);
    UNIT_FAILS(decode(deep), ERR_PARSE);
    UNIT_FAILS(decode(inside), ERR_PARSE);
}

UNIT_TEST(size, "a body beyond the size limit is refused before it is parsed")
{
    size_t length = (size_t)JSON_SIZE_MAX + 1;
    _cleanup_(str_freep) char *body = mem_new(length + 1);
    _cleanup_(json_putp) struct json_object *inner = NULL;
    memset(body, 'x', length);
    UNIT_FAILS(envelope_decode(body, length, &inner, &unit_err), ERR_PARSE);
    UNIT_HAS(unit_err.text, "16777217");
}

static int read_request(const char *text)
{
    _cleanup_(json_putp) struct json_object *inner = parse(text);
    struct envelope_request request;
    if (envelope_read_request(inner, &request, &unit_err))
        return -1;
    envelope_request_clear(&request);
    return 0;
}

UNIT_TEST(request_members, "a request's members must have their types")
{
    UNIT_OK(read_request("{\"method\":\"x\"}"));
    UNIT_OK(read_request("{\"method\":\"x\",\"namespace\":null,\"_msg_id\":null}"));
    UNIT_FAILS(read_request("{}"), ERR_PARSE);
    UNIT_HAS(unit_err.text, "method");
    UNIT_FAILS(read_request("{\"method\":7}"), ERR_PARSE);
    UNIT_FAILS(read_request("{\"method\":\"x\",\"args\":[]}"), ERR_PARSE);
    UNIT_HAS(unit_err.text, "args");
    UNIT_FAILS(read_request("{\"method\":\"x\",\"args\":null}"), ERR_PARSE);
    UNIT_FAILS(read_request("{\"method\":\"x\",\"version\":6}"), ERR_PARSE);
    UNIT_FAILS(read_request("{\"method\":\"x\",\"namespace\":{}}"), ERR_PARSE);
    UNIT_FAILS(read_request("{\"method\":\"x\",\"_unique_id\":1}"), ERR_PARSE);
    UNIT_FAILS(read_request("{\"method\":\"x\",\"_msg_id\":\"1\"}"), ERR_PARSE);
    UNIT_HAS(unit_err.text, "_reply_q");
}

UNIT_TEST(request_bounds, "names longer than an AMQP short string are refused")
{
    char name[300];
    memset(name, 'a', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    _cleanup_(str_freep) char *method = text_format("{\"method\":\"%s\"}", name);
    _cleanup_(str_freep) char *queue =
        text_format("{\"method\":\"x\",\"_msg_id\":\"1\",\"_reply_q\":\"%s\"}", name);
    UNIT_FAILS(read_request(method), ERR_PARSE);
    UNIT_FAILS(read_request(queue), ERR_PARSE);
}

static int64_t monitor_of(const char *timeout)
{
    _cleanup_(str_freep) char *text = text_format(
        "{\"method\":\"x\",\"_msg_id\":\"1\",\"_reply_q\":\"q\",\"_timeout\":%s}", timeout);
    _cleanup_(json_putp) struct json_object *inner = parse(text);
    struct envelope_request request;
    if (!UNIT_OK(envelope_read_request(inner, &request, &unit_err)))
        return -1;
    int64_t seconds = request.monitor_s;
    envelope_request_clear(&request);
    return seconds;
}

UNIT_TEST(monitor, "a monitor period is a positive whole number, anything else is none")
{
    UNIT_EQ(monitor_of("60"), 60);
    UNIT_EQ(monitor_of("2.9"), 2);
    UNIT_EQ(monitor_of("\"30\""), 30);
    UNIT_EQ(monitor_of("null"), 0);
    UNIT_EQ(monitor_of("-4"), 0);
    UNIT_EQ(monitor_of("1e300"), 0);
    UNIT_EQ(monitor_of("\"soon\""), 0);
    UNIT_EQ(monitor_of("[]"), 0);
}

UNIT_TEST(return_path, "the way back is found in a call that cannot be read otherwise")
{
    _cleanup_(json_putp) struct json_object *call =
        parse("{\"method\":7,\"_msg_id\":\"m\",\"_reply_q\":\"q\"}");
    _cleanup_(json_putp) struct json_object *cast = parse("{\"method\":7}");
    const char *msg_id, *queue;
    if (UNIT_TRUE(envelope_read_return(call, &msg_id, &queue))) {
        UNIT_STR(msg_id, "m");
        UNIT_STR(queue, "q");
    }
    UNIT_TRUE(!envelope_read_return(cast, &msg_id, &queue));
}

UNIT_TEST(context, "a context goes through with keys that nobody knows")
{
    _cleanup_(json_putp) struct json_object *context =
        parse("{\"request_id\":\"req-1\",\"new key\":[1,{\"a\":null}],\"roles\":[]}");
    _cleanup_(json_putp) struct json_object *inner = parse("{\"method\":\"x\"}");
    context_pack(inner, context);
    UNIT_TRUE(json_has(inner, "_context_new key"));
    _cleanup_(json_putp) struct json_object *back = context_unpack(inner);
    UNIT_TRUE(json_same(context, back));
    UNIT_STR(context_request_id(back), "req-1");
}

UNIT_TEST(admin, "the agent's own context is an administrator's with a request id of its own")
{
    _cleanup_(json_putp) struct json_object *a = rpc_context_admin();
    _cleanup_(json_putp) struct json_object *b = rpc_context_admin();
    UNIT_TRUE(json_get_bool(a, "is_admin", false));
    UNIT_TRUE(json_has(a, "user_id") && !json_get(a, "user_id"));
    UNIT_TRUE(strncmp(context_request_id(a), "req-", 4) == 0);
    UNIT_TRUE(strcmp(context_request_id(a), context_request_id(b)) != 0);
    UNIT_EQ(strlen(json_get_string(a, "timestamp", "")), strlen("2026-11-21T12:00:00.123456"));
}

UNIT_TEST(unique, "each publishing gets a new unique id of 32 hexadecimal digits")
{
    _cleanup_(json_putp) struct json_object *inner = parse("{\"_unique_id\":\"old\"}");
    envelope_renew_unique_id(inner);
    const char *id = json_get_string(inner, "_unique_id", "");
    UNIT_EQ(strlen(id), 32);
    UNIT_EQ(strspn(id, "0123456789abcdef"), 32);
}

UNIT_TEST(version_text, "a version is two numbers, a third one is ignored")
{
    int major, minor;
    UNIT_TRUE(envelope_parse_version("6.5", &major, &minor) && major == 6 && minor == 5);
    UNIT_TRUE(envelope_parse_version("1.2.3", &major, &minor) && major == 1 && minor == 2);
    static const char *const bad[] = {"",     "6",    "6.",      ".5",  "6.x",
                                      "-1.0", "6.5.", "99999.0", " 6.0"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        UNIT_TRUE(!envelope_parse_version(bad[i], &major, &minor));
    UNIT_TRUE(!envelope_parse_version(NULL, &major, &minor));
}
