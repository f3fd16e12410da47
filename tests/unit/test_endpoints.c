/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/agent_world.h"

#include "lib/json.h"
#include "rpc/methods.h"

static struct world *w;

static void setup(void)
{
    w = world_open(NULL);
}

static void teardown(void)
{
    world_close(w);
    w = NULL;
}

UNIT_FIXTURE(setup, teardown)

static struct json_object *instance_args(const char *task_state)
{
    _cleanup_(json_putp) struct json_object *recorded = world_args("030");
    struct json_object *args = json_object_new_object();

    json_add_string(world_data(recorded, "instance"), "task_state", task_state);
    json_add(args, "instance", json_object_get(json_get(recorded, "instance")));
    return args;
}

UNIT_TEST(cast, "a cast that is not served sets a fault and clears the task state it was sent with")
{
    struct json_object *args = instance_args("shelving");

    json_add_string(args, "image_id", "b7c668fe-90f7-4470-b48c-2337a02ca73b");
    json_add_bool(args, "clean_shutdown", true);
    UNIT_TRUE(!method_by_id(RPC_METHOD_shelve_instance)->served);
    struct fake_asked *asked = world_ask(w, RPC_METHOD_shelve_instance, args);
    world_settle(w);
    UNIT_EQ(asked->end, FAKE_FREED);
    UNIT_EQ(world_count(w, "event compute_shelve_instance failed: shelve_instance is not"), 1);
    UNIT_EQ(world_count(w, "fault shelve_instance is not implemented on host os-hosta"), 1);
    UNIT_EQ(world_count(w, "instance saved on os-hosta: task_state=null, expecting shelving"), 1);
}

UNIT_TEST(resize, "a resize that is not served gives its allocations back and ends its migration")
{
    _cleanup_(json_putp) struct json_object *recorded = world_args("030");
    struct json_object *args = instance_args("resize_prep");
    static const char *const nulls[] = {"image", "request_spec",   "filter_properties",
                                        "node",  "clean_shutdown", "host_list"};

    for (size_t i = 0; i < ARRAY_LEN(nulls); i++)
        json_add(args, nulls[i], NULL);
    json_add(args, "migration", json_object_get(json_get(recorded, "migration")));
    world_ask(w, RPC_METHOD_prep_resize, args);
    world_settle(w);
    UNIT_EQ(world_count(w, "allocations revert"), 1);
    UNIT_EQ(world_count(w, "status source"), 1);
    UNIT_EQ(world_count(w, "instance saved on os-hosta: task_state=null"), 1);
}

UNIT_TEST(call, "a call that is not served is answered with the class that Nova's API knows")
{
    struct json_object *args = instance_args(NULL);

    json_add_string(args, "console_type", "webmks");
    struct fake_asked *asked = world_ask(w, RPC_METHOD_get_mks_console, args);
    world_settle(w);
    UNIT_EQ(asked->end, FAKE_FAILED);
    UNIT_STR(err_wire_class(&asked->e), "ConsoleTypeUnavailable");
    args = instance_args(NULL);
    asked = world_ask(w, RPC_METHOD_quiesce_instance, args);
    world_settle(w);
    UNIT_STR(err_wire_class(&asked->e), "NotImplementedError");
    UNIT_EQ(world_count(w, "fault"), 0);
    UNIT_EQ(world_count(w, "instance saved"), 0);
}
