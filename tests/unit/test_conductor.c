/* SPDX-License-Identifier: Apache-2.0 */
/* Calls of nova-conductor: what they look like on the wire, and what happens when nobody answers. */
#include "tests/unit/unit.h"

#include "cloud/conductor.h"
#include "lib/clock.h"
#include "lib/json.h"
#include "lib/text.h"
#include "rpc/object.h"
#include "tests/unit/capture.h"
#include "tests/unit/fake_rpc.h"

static struct loop *loop;
static struct conf *conf;
static struct rpc *rpc;
static struct conductor *conductor;

static struct answer {
    unsigned calls;
    struct json_object *result;
    struct err e;
} last;

static void open_all(void)
{
    clock_fake_set(1000 * USEC_PER_SEC);
    UNIT_OK(loop_new(&loop, &unit_err));
    conf = conf_for_test("agent.conductor_patience", "60", NULL);
    rpc = fake_rpc_new();
    conductor = conductor_new(loop, conf, rpc);
    last = (struct answer){0};
}

static void close_all(void)
{
    if (rpc)
        fake_rpc_free(rpc);
    conductor_free(conductor);
    conf_unref(conf);
    loop_free(loop);
    json_object_put(last.result);
    last.result = NULL;
    clock_fake_stop();
}
UNIT_FIXTURE(open_all, close_all)

static void take(void *aux, struct json_object *result, const struct err *failure)
{
    (void)aux;
    last.calls++;
    json_object_put(last.result);
    last.result = json_copy(result);
    last.e = failure ? *failure : ERR_INIT;
}

static void pass(int64_t us)
{
    clock_fake_set(clock_monotonic_us() + us);
    UNIT_EQ(loop_turn(loop, 0, &unit_err) < 0, false);
}

static struct json_object *one(const char *text)
{
    struct json_object *array = json_object_new_array();

    json_object_array_add(array, json_object_new_string(text));
    return array;
}

static struct json_object *migration(const char *uuid, const char *status)
{
    struct object *o = object_new("Migration", "1.8");
    object_set_string(o, "uuid", uuid);
    object_clear_changes(o);
    object_set_string(o, "status", status);
    struct json_object *primitive = object_to_json(o);
    object_free(o);
    return primitive;
}

static void save(const char *uuid, const char *status)
{
    conductor_object_action(conductor, NULL, migration(uuid, status), "save", NULL, NULL, take,
                            NULL);
}

/* ---- the wire ---- */

static unsigned compared;

static void compare_manifest(const char *name, struct json_object *inner)
{
    if (!text_equal(json_get_string(inner, "method", NULL), "object_class_action_versions"))
        return;
    struct json_object *args = json_get(inner, "args");
    const char *class_name = json_get_string(args, "objname", NULL);
    if (!unit_check(conductor_class_version(class_name) != NULL, __LINE__, __FILE__,
                    "%s: class %s is not in the table", name, class_name))
        return;
    _cleanup_(json_putp) struct json_object *manifest = conductor_manifest(class_name);
    unit_check(json_same(manifest, json_get(args, "object_versions")), __LINE__, __FILE__,
               "%s: the manifest of %s is another one", name, class_name);
    compared++;
}

UNIT_TEST(manifests, "manifests are those that nova-compute of Zed sends, class by class")
{
    compared = 0;
    UNIT_EQ(capture_each(compare_manifest), CAPTURE_COUNT);
    UNIT_TRUE(compared > 50);
}

UNIT_TEST(class_action, "a class action is sent as it was recorded, but for its ids")
{
    _cleanup_(json_putp) struct json_object *recorded = capture_load(
        "startup-fresh/"
        "013-conductor-object_class_action_versions_ComputeNode.get_by_host_and_nodename.json");
    struct json_object *args = one("os-hosta");

    json_object_array_add(args, json_object_new_string("os-hosta"));
    conductor_class_action(conductor, NULL, "ComputeNode", "get_by_host_and_nodename", args, NULL,
                           take, NULL);
    struct fake_call *call = fake_rpc_waiting_named(rpc, "object_class_action_versions");
    if (!UNIT_TRUE(call != NULL))
        return;
    UNIT_STR(call->topic, "conductor");
    UNIT_STR(call->server, NULL);
    UNIT_STR(call->namespace_name, NULL);
    UNIT_STR(call->version, "3.0");
    UNIT_TRUE(json_same(call->args, json_get(recorded, "args")));
    UNIT_TRUE(json_get_bool(call->context, "is_admin", false));
    fake_rpc_answer(call, json_object_new_int(64));
    UNIT_EQ(last.calls, 1);
    UNIT_EQ(json_object_get_int(last.result), 64);
}

UNIT_TEST(object_action, "an object action is stamped with Zed's version and answers with names")
{
    _cleanup_(json_putp) struct json_object *context = rpc_context_admin();
    struct json_object *pair = json_object_new_array();
    struct json_object *kwargs = json_object_new_object();

    json_add_string(kwargs, "expected", "x");
    conductor_object_action(conductor, context, migration("u", "running"), "save", NULL, kwargs,
                            take, NULL);
    struct fake_call *call = fake_rpc_waiting_object(rpc, "Migration.save");
    if (!UNIT_TRUE(call != NULL))
        return;
    UNIT_STR(json_get_string(json_get(call->args, "objinst"), "nova_object.version", NULL), "1.7");
    UNIT_STR(json_get_string(json_get(call->args, "kwargs"), "expected", NULL), "x");
    UNIT_STR(json_get_string(call->context, "request_id", NULL),
             json_get_string(context, "request_id", NULL));
    json_object_array_add(pair, json_object_new_object());
    json_object_array_add(pair, json_object_new_string("token"));
    fake_rpc_answer(call, pair);
    UNIT_TRUE(json_object_is_type(json_get(last.result, "updates"), json_type_object));
    UNIT_STR(json_get_string(last.result, "result", NULL), "token");
}

static void pinged(void *aux, const struct err *failure)
{
    (void)aux;
    last.calls++;
    last.e = failure ? *failure : ERR_INIT;
}

UNIT_TEST(ping, "ping is a call of baseapi with its own timeout, and one attempt")
{
    conductor_ping(conductor, 10 * USEC_PER_SEC, pinged, NULL);
    struct fake_call *call = fake_rpc_waiting_named(rpc, "ping");
    if (!UNIT_TRUE(call != NULL))
        return;
    UNIT_STR(call->namespace_name, "baseapi");
    UNIT_STR(call->version, "1.0");
    UNIT_EQ(call->options.timeout_us, 10 * USEC_PER_SEC);
    fake_rpc_fail(call, ERR_TIMEOUT, "no reply");
    UNIT_EQ(last.calls, 1);
    UNIT_EQ(last.e.code, ERR_TIMEOUT);
}

UNIT_TEST(task_cast, "a build goes back to the conductor as a cast of namespace compute_task")
{
    struct json_object *args = json_object_new_object();

    json_add_string(args, "admin_password", "x");
    conductor_task_cast(conductor, NULL, "build_instances", "1.19", args, take, NULL);
    struct fake_call *call = fake_rpc_waiting_named(rpc, "build_instances");
    if (!UNIT_TRUE(call != NULL))
        return;
    UNIT_TRUE(call->cast);
    UNIT_STR(call->topic, "conductor");
    UNIT_STR(call->namespace_name, "compute_task");
    UNIT_STR(call->version, "1.19");
    fake_rpc_answer(call, NULL);
    UNIT_EQ(last.calls, 1);
    UNIT_EQ(last.e.code, ERR_NONE);
}

/* ---- nobody answers ---- */

UNIT_TEST(repeats, "a save that found no conductor is repeated until one answers")
{
    save("u", "running");
    fake_rpc_fail(fake_rpc_waiting_object(rpc, "Migration.save"), ERR_UNREACHABLE, "nobody");
    UNIT_EQ(last.calls, 0);
    UNIT_TRUE(fake_rpc_waiting_object(rpc, "Migration.save") == NULL);
    pass(USEC_PER_SEC);
    fake_rpc_fail(fake_rpc_waiting_object(rpc, "Migration.save"), ERR_TIMEOUT, "no reply");
    pass(2 * USEC_PER_SEC);
    struct fake_call *third = fake_rpc_waiting_object(rpc, "Migration.save");
    if (!UNIT_TRUE(third != NULL))
        return;
    UNIT_STR(json_get_string(json_get(json_get(third->args, "objinst"), "nova_object.data"),
                             "status", NULL),
             "running");
    fake_rpc_answer(third, NULL);
    UNIT_EQ(last.calls, 1);
    UNIT_EQ(last.e.code, ERR_NONE);
}

UNIT_TEST(database_away, "a conductor without its database is asked again")
{
    save("u", "running");
    fake_rpc_fail_as(fake_rpc_waiting_object(rpc, "Migration.save"), "DBConnectionError", "gone");
    UNIT_EQ(last.calls, 0);
    pass(USEC_PER_SEC);
    fake_rpc_answer(fake_rpc_waiting_object(rpc, "Migration.save"), NULL);
    UNIT_EQ(last.calls, 1);
}

UNIT_TEST(patience, "when patience is over the failure says what was asked and why")
{
    save("u", "running");
    for (int i = 0; i < 100 && last.calls == 0; i++) {
        struct fake_call *call = fake_rpc_waiting_object(rpc, "Migration.save");
        if (call)
            fake_rpc_fail(call, ERR_UNREACHABLE, "nobody serves it");
        pass(USEC_PER_SEC);
    }
    UNIT_EQ(last.calls, 1);
    UNIT_EQ(last.e.code, ERR_UNREACHABLE);
    UNIT_STR(last.e.text, "Migration.save: nobody serves it");
    int64_t waited_us = clock_monotonic_us() - 1000 * USEC_PER_SEC;
    UNIT_TRUE(waited_us > 50 * USEC_PER_SEC && waited_us <= 61 * USEC_PER_SEC);
}

UNIT_TEST(refusals, "a refusal of the conductor is told at once, with its class")
{
    save("u", "running");
    fake_rpc_fail_as(fake_rpc_waiting_object(rpc, "Migration.save"), "UnexpectedTaskStateError",
                     "Conflict");
    UNIT_EQ(last.calls, 1);
    UNIT_EQ(last.e.code, ERR_TASK_STATE);
    UNIT_TRUE(conductor_failed_with(&last.e, "UnexpectedTaskStateError"));
    UNIT_TRUE(!conductor_failed_with(NULL, "UnexpectedTaskStateError"));
}

UNIT_TEST(order, "saves of one object run in their order, also over repeats; others do not wait")
{
    save("u", "preparing");
    save("u", "running");
    save("v", "queued");
    UNIT_EQ(fake_rpc_count_object(rpc, "Migration.save"), 2);
    fake_rpc_fail(fake_rpc_waiting_object(rpc, "Migration.save"), ERR_UNREACHABLE, "nobody");
    pass(USEC_PER_SEC);
    UNIT_EQ(fake_rpc_count_object(rpc, "Migration.save"), 3);
    fake_rpc_answer(fake_rpc_waiting_object(rpc, "Migration.save"), NULL); /* v */
    fake_rpc_answer(fake_rpc_waiting_object(rpc, "Migration.save"), NULL); /* preparing */
    UNIT_EQ(last.calls, 2);
    pass(0);
    struct fake_call *running = fake_rpc_waiting_object(rpc, "Migration.save");
    if (!UNIT_TRUE(running != NULL))
        return;
    UNIT_STR(json_get_string(json_get(json_get(running->args, "objinst"), "nova_object.data"),
                             "status", NULL),
             "running");
}

UNIT_TEST(stop, "what is open ends when the agent stops, and nothing more is asked")
{
    save("u", "preparing");
    save("u", "running");
    fake_rpc_free(rpc);
    rpc = NULL;
    UNIT_EQ(last.calls, 1);
    UNIT_EQ(last.e.code, ERR_CANCELLED);
    save("u", "late");
    conductor_free(conductor);
    conductor = NULL;
    UNIT_EQ(last.calls, 3);
    UNIT_EQ(last.e.code, ERR_CANCELLED);
}
