/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/failure.h"

#include "lib/json.h"
#include "lib/text.h"
#include "tests/unit/capture.h"
#include "tests/unit/unit.h"

static struct json_object *encoded(enum err_code code, const char *text)
{
    struct err e = ERR_INIT;
    err_set(&e, code, "%s", text);
    _cleanup_(str_freep) char *failure = failure_encode(&e);
    struct json_object *o = NULL;
    UNIT_OK(json_parse(failure, strlen(failure), &o, &unit_err));
    return o;
}

UNIT_TEST(precheck, "a refused check is nova's MigrationPreCheckError with its reason and code")
{
    _cleanup_(json_putp) struct json_object *f = encoded(ERR_PRECHECK, "cpu differs");
    UNIT_STR(json_get_string(f, "class", NULL), "MigrationPreCheckError");
    UNIT_STR(json_get_string(f, "module", NULL), "nova.exception");
    UNIT_STR(json_get_string(f, "message", NULL), "Migration pre-check error: cpu differs");
    struct json_object *args = json_get(f, "args"), *kwargs = json_get(f, "kwargs");
    UNIT_EQ(json_object_array_length(args), 1);
    UNIT_STR(json_object_get_string(json_object_array_get_idx(args, 0)),
             "Migration pre-check error: cpu differs");
    UNIT_STR(json_get_string(kwargs, "reason", NULL), "cpu differs");
    UNIT_EQ(json_get_int(kwargs, "code", 0), 400);
    UNIT_TRUE(!json_has(kwargs, "message"));
    UNIT_EQ(json_object_array_length(json_get(f, "tb")), 1);
}

UNIT_TEST(named, "an identifier in the sentence becomes the keyword that nova's class has for it")
{
    _cleanup_(json_putp) struct json_object *f = encoded(
        ERR_NO_INSTANCE, "instance fa70925f-2d0d-4024-871f-903f3c94d32b is not on os-hosta");
    struct json_object *kwargs = json_get(f, "kwargs");
    UNIT_STR(json_get_string(kwargs, "instance_id", NULL), "fa70925f-2d0d-4024-871f-903f3c94d32b");
    UNIT_EQ(json_get_int(kwargs, "code", 0), 404);
}

UNIT_TEST(builtin, "builtin and dispatcher classes carry no keyword arguments")
{
    _cleanup_(json_putp) struct json_object *a = encoded(ERR_NOT_IMPLEMENTED, "no resize here");
    _cleanup_(json_putp) struct json_object *b = encoded(ERR_NO_METHOD, "no such");
    UNIT_STR(json_get_string(a, "module", NULL), "builtins");
    UNIT_EQ(json_object_object_length(json_get(a, "kwargs")), 0);
    UNIT_STR(json_get_string(b, "class", NULL), "NoSuchMethod");
    UNIT_STR(json_get_string(b, "module", NULL), "oslo_messaging.rpc.dispatcher");
    UNIT_EQ(json_object_object_length(json_get(b, "kwargs")), 0);
}

UNIT_TEST(all_codes, "every error goes out and comes back with its class, module and text")
{
    for (int code = ERR_NONE + 1; code < ERR_CODE_COUNT; code++) {
        struct err e = ERR_INIT, back = ERR_INIT;
        err_set(&e, (enum err_code)code, "what happened");
        _cleanup_(str_freep) char *failure = failure_encode(&e);
        failure_decode(failure, &back);
        UNIT_STR(err_wire_class(&back), err_wire_class(&e));
        UNIT_STR(err_wire_module(&back), err_wire_module(&e));
        UNIT_HAS(back.text, "what happened");
    }
}

UNIT_TEST(relay, "a peer's failure that is passed on keeps class, module and text")
{
    struct err e = ERR_INIT, again = ERR_INIT;
    failure_decode("{\"class\":\"PortBindingFailed_Remote\",\"module\":\"nova.exception_Remote\","
                   "\"message\":\"Binding failed for port 1\",\"tb\":[],\"args\":[],\"kwargs\":{}}",
                   &e);
    UNIT_EQ(e.code, ERR_REMOTE);
    UNIT_STR(err_wire_class(&e), "PortBindingFailed");
    UNIT_STR(err_wire_module(&e), "nova.exception");
    _cleanup_(str_freep) char *failure = failure_encode(&e);
    failure_decode(failure, &again);
    UNIT_STR(again.text, "Binding failed for port 1");
    UNIT_STR(err_wire_class(&again), "PortBindingFailed");
}

UNIT_TEST(relay_prefix, "passing a refused check on twice does not repeat its introduction")
{
    struct err e = ERR_INIT, peer = ERR_INIT;
    err_set(&e, ERR_PRECHECK, "cpu differs");
    _cleanup_(str_freep) char *first = failure_encode(&e);
    failure_decode(first, &peer);
    UNIT_EQ(peer.code, ERR_PRECHECK);
    _cleanup_(str_freep) char *second = failure_encode(&peer);
    _cleanup_(json_putp) struct json_object *f = NULL;
    UNIT_OK(json_parse(second, strlen(second), &f, &unit_err));
    UNIT_STR(json_get_string(f, "message", NULL), "Migration pre-check error: cpu differs");
    UNIT_STR(json_get_string(json_get(f, "kwargs"), "reason", NULL), "cpu differs");
}

UNIT_TEST(known, "a class is taken for ours only from the module where it lives")
{
    struct err e = ERR_INIT;
    failure_decode("{\"class\":\"InstanceNotFound\",\"module\":\"nova.exception\","
                   "\"message\":\"Instance x could not be found.\"}",
                   &e);
    UNIT_EQ(e.code, ERR_NO_INSTANCE);
    failure_decode("{\"class\":\"InstanceNotFound\",\"module\":\"evil\",\"message\":\"x\"}", &e);
    UNIT_EQ(e.code, ERR_REMOTE);
    failure_decode("{\"class\":\"ValueError\",\"module\":\"builtins\",\"message\":\"\"}", &e);
    UNIT_EQ(e.code, ERR_REMOTE);
    UNIT_STR(e.text, "ValueError");
}

UNIT_TEST(unreadable, "a failure that cannot be read is a remote error that shows its beginning")
{
    static const char *const texts[] = {"", "boom", "[]", "{\"class\":1}", "{\"message\":\"x\"}"};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct err e = ERR_INIT;
        failure_decode(texts[i], &e);
        UNIT_EQ(e.code, ERR_REMOTE);
        UNIT_HAS(e.text, "cannot be read");
        UNIT_HAS(e.text, texts[i]);
    }
}

UNIT_TEST(bounded, "texts and names beyond their limits are cut")
{
    char *name = mem_new(100001);
    memset(name, 'x', 100000);
    _cleanup_(str_freep) char *text =
        text_format("{\"class\":\"%s\",\"module\":\"%s\",\"message\":\"%s\"}", name, name, name);
    struct err e = ERR_INIT;
    failure_decode(text, &e);
    UNIT_EQ(strlen(e.wire_class), ERR_CLASS_SIZE - 1);
    UNIT_EQ(strlen(e.wire_module), ERR_MODULE_SIZE - 1);
    UNIT_TRUE(strlen(e.text) < ERR_TEXT_SIZE);
    free(name);
}

static void scrubbed(const char *in, const char *out)
{
    _cleanup_(str_freep) char *text = text_dup(in);
    failure_scrub(text);
    UNIT_STR(text, out);
}

UNIT_TEST(secrets, "credentials are hidden in what goes to a peer")
{
    scrubbed("cannot reach rabbit://nova:pw1@h:5672/ now",
             "cannot reach rabbit://********@h:5672/ now");
    scrubbed("http://host/path@x", "http://host/path@x");
    scrubbed("password=abc, user=x", "password=***, user=x");
    scrubbed("{\"auth_token\": \"gAAA\", \"a\": 1}", "{\"auth_token\": \"****\", \"a\": 1}");
    scrubbed("{\\\"auth_token\\\": \\\"gAAA\\\"}", "{\\\"auth_token\\\": \\\"****\\\"}");
    scrubbed("'admin_password': 'x y'", "'admin_password': '***'");
    scrubbed("secret_key:abc", "secret_key:***");
    scrubbed("\"auth_token\": null", "\"auth_token\": null");
    scrubbed("the token is bad", "the token is bad");
}

UNIT_TEST(secret_out,
          "a password in an error never leaves in the failure's text, args or traceback")
{
    struct err e = ERR_INIT;
    err_set(&e, ERR_INTERNAL, "no broker at amqp://nova:hunter2@broker:5672");
    _cleanup_(str_freep) char *failure = failure_encode(&e);
    UNIT_TRUE(!strstr(failure, "hunter2"));
    UNIT_HAS(failure, "broker:5672");
}

static unsigned failures;

static void decode_recorded(const char *name, struct json_object *inner)
{
    const char *text = json_get_string(inner, "failure", NULL);
    if (!text)
        return;
    struct err e = ERR_INIT;
    failure_decode(text, &e);
    unit_check(e.code != ERR_NONE && e.wire_class[0] &&
                   strcmp(e.wire_module, "nova.exception") == 0,
               __LINE__, __FILE__, "%s: %s %s", name, e.wire_class, e.text);
    failures++;
}

UNIT_TEST(recorded, "nova's recorded failures are read with class and module")
{
    failures = 0;
    capture_each(decode_recorded);
    UNIT_EQ(failures, 6);
}
