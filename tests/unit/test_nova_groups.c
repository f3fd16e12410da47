/* SPDX-License-Identifier: Apache-2.0 */
/* The late check of server groups: what the conductor is asked, and what follows from its answers. */
#include "tests/unit/nova_world.h"

#include "cloud/instances.h"
#include "lib/json.h"

#define GROUP "7a3c2a51-8c47-4f0b-9a3e-2f4c25a6a1b0"
#define FIRST "f54599db-972c-4dc7-83a7-e708e83972ff"
#define OTHER "11111111-2222-4333-8444-555555555555"
#define THIRD "99999999-2222-4333-8444-555555555555"

static struct nova_world *w;

static struct answer {
    unsigned calls;
    struct err e;
} first, second;

static void open_world(void)
{
    w = nova_world_open();
    first = second = (struct answer){0};
}

static void close_world(void)
{
    nova_world_close(w);
}
UNIT_FIXTURE(open_world, close_world)

static void take(void *aux, const struct err *failure)
{
    struct answer *answer = aux;

    answer->calls++;
    answer->e = failure ? *failure : ERR_INIT;
}

static void ask(const char *instance, const char *hint, struct answer *answer)
{
    cloud_server_group_check(w->cloud, NULL, instance, hint, take, answer);
    nova_world_pass(w, 0);
}

static struct json_object *texts(const char *one, const char *two)
{
    struct json_object *array = json_object_new_array();

    if (one)
        json_object_array_add(array, json_object_new_string(one));
    if (two)
        json_object_array_add(array, json_object_new_string(two));
    return array;
}

static struct json_object *group(const char *policy, const char *most)
{
    struct object *o = object_new("InstanceGroup", "1.11");
    struct json_object *rules = json_object_new_object(), *members = texts(FIRST, OTHER);

    if (most)
        json_add_string(rules, "max_server_per_host", most);
    json_object_array_add(members, json_object_new_string(THIRD));
    object_set_string(o, "uuid", GROUP);
    object_set_string(o, "policy", policy);
    object_set_json(o, "_rules", rules);
    object_set_json(o, "members", members);
    object_clear_changes(o);
    struct json_object *primitive = object_to_json(o);
    object_free(o);
    return primitive;
}

static void reply(const char *what, struct json_object *result)
{
    struct fake_call *call = nova_world_call(w, what);

    if (call)
        fake_rpc_answer(call, result);
    nova_world_pass(w, 0);
}

static struct json_object *migrations(const char *instance)
{
    struct json_object *list = json_object_new_array();
    struct object *o = object_new("MigrationList", "1.5");

    if (instance) {
        struct object *migration = object_new("Migration", "1.7");
        object_set_string(migration, "instance_uuid", instance);
        json_object_array_add(list, object_to_json(migration));
        object_free(migration);
    }
    object_set_json(o, "objects", list);
    struct json_object *primitive = object_to_json(o);
    object_free(o);
    return primitive;
}

/* All that is asked when the group is known. */
static void look(struct json_object *instances, const char *migrating, const char *most)
{
    reply("InstanceList.get_uuids_by_host", instances);
    reply("MigrationList.get_in_progress_by_host_and_node", migrations(migrating));
    reply("InstanceGroup.get_by_uuid", group("anti-affinity", most));
}

static void refused(const struct answer *answer, const char *what)
{
    UNIT_EQ(answer->calls, 1);
    UNIT_EQ(answer->e.code, ERR_PRECHECK);
    UNIT_STR(err_wire_class(&answer->e), "GroupAffinityViolation");
    UNIT_STR(err_wire_module(&answer->e), "nova.exception");
    UNIT_HAS(answer->e.text, what);
    UNIT_HAS(answer->e.text, GROUP);
}

static void permitted(const struct answer *answer)
{
    UNIT_EQ(answer->calls, 1);
    UNIT_STR(answer->e.text, "");
}

/* ---- anti-affinity ---- */

UNIT_TEST(violated, "another member on this host: refused with the class that Nova has for it")
{
    ask(FIRST, GROUP, &first);
    reply("InstanceGroup.get_by_uuid", group("anti-affinity", NULL));
    struct fake_call *call = nova_world_call(w, "InstanceList.get_uuids_by_host");
    UNIT_STR(json_object_to_json_string(json_get(call->args, "args")), "[ \"os-hosta\" ]");
    look(texts(FIRST, OTHER), NULL, NULL);
    refused(&first, "Anti-affinity instance group policy was violated");
    UNIT_EQ(fake_rpc_count_named(w->rpc, NULL), 4);
}

UNIT_TEST(alone, "an instance itself and those of other groups do not count")
{
    ask(FIRST, GROUP, &first);
    reply("InstanceGroup.get_by_uuid", group("anti-affinity", NULL));
    look(texts(FIRST, "aaaaaaaa-2222-4333-8444-555555555555"), NULL, NULL);
    permitted(&first);
}

UNIT_TEST(coming, "a member that migrates to this host counts")
{
    ask(FIRST, GROUP, &first);
    reply("InstanceGroup.get_by_uuid", group("anti-affinity", NULL));
    look(texts(FIRST, NULL), OTHER, NULL);
    refused(&first, "Anti-affinity");
}

UNIT_TEST(rule, "max_server_per_host says how many members a host takes, as it is at the end")
{
    ask(FIRST, GROUP, &first);
    reply("InstanceGroup.get_by_uuid", group("anti-affinity", NULL));
    look(texts(FIRST, OTHER), NULL, "2");
    permitted(&first);
    ask(FIRST, GROUP, &second);
    reply("InstanceGroup.get_by_uuid", group("anti-affinity", "2"));
    look(texts(FIRST, OTHER), THIRD, "2");
    refused(&second, "permits 2");
}

UNIT_TEST(bad_rule, "a rule that is no number is a failure that names it")
{
    ask(FIRST, GROUP, &first);
    reply("InstanceGroup.get_by_uuid", group("anti-affinity", NULL));
    look(texts(FIRST, OTHER), NULL, "many");
    UNIT_EQ(first.calls, 1);
    UNIT_HAS(first.e.text, "max_server_per_host of server group " GROUP);
    UNIT_HAS(first.e.text, "many");
}

UNIT_TEST(two_at_once, "of two that come at once one stays and one goes")
{
    ask(FIRST, GROUP, &first);
    ask(OTHER, GROUP, &second);
    reply("InstanceGroup.get_by_uuid", group("anti-affinity", NULL));
    reply("InstanceGroup.get_by_uuid", group("anti-affinity", NULL));
    UNIT_EQ(fake_rpc_count_object(w->rpc, "InstanceList.get_uuids_by_host"), 1);
    look(texts(FIRST, OTHER), NULL, NULL);
    permitted(&first);
    UNIT_EQ(second.calls, 0);
    look(texts(FIRST, OTHER), NULL, NULL);
    refused(&second, "Anti-affinity");
}

UNIT_TEST(other_group, "checks of other groups do not wait")
{
    struct json_object *other = group("anti-affinity", NULL);

    json_add_string(json_get(other, "nova_object.data"), "uuid", THIRD);
    ask(FIRST, GROUP, &first);
    ask(OTHER, THIRD, &second);
    reply("InstanceGroup.get_by_uuid", group("anti-affinity", NULL));
    reply("InstanceGroup.get_by_uuid", other);
    UNIT_EQ(fake_rpc_count_object(w->rpc, "InstanceList.get_uuids_by_host"), 2);
}

UNIT_TEST(waiting_goes_on, "when the first check fails the one that waits has its turn")
{
    ask(FIRST, GROUP, &first);
    ask(OTHER, GROUP, &second);
    reply("InstanceGroup.get_by_uuid", group("anti-affinity", NULL));
    reply("InstanceGroup.get_by_uuid", group("anti-affinity", NULL));
    struct fake_call *call = nova_world_call(w, "InstanceList.get_uuids_by_host");
    fake_rpc_fail(call, ERR_REMOTE, "no database");
    nova_world_pass(w, 0);
    UNIT_EQ(first.calls, 1);
    UNIT_HAS(first.e.text, "no database");
    look(texts(FIRST, OTHER), NULL, NULL);
    refused(&second, "Anti-affinity");
}

/* ---- affinity ---- */

static void affinity(const char *host)
{
    ask(FIRST, GROUP, &first);
    reply("InstanceGroup.get_by_uuid", group("affinity", NULL));
    struct fake_call *call = nova_world_call(w, "InstanceGroup.get_hosts");
    UNIT_STR(json_object_to_json_string(json_get(call->args, "kwargs")),
             "{ \"exclude\": [ \"" FIRST "\" ] }");
    nova_world_acted(w, "InstanceGroup.get_hosts", NULL, texts(host, NULL));
}

UNIT_TEST(apart, "members of an affinity group on another host: refused")
{
    affinity("os-hostb");
    refused(&first, "Affinity instance group policy was violated");
}

UNIT_TEST(together, "members of an affinity group on this host: permitted")
{
    affinity("os-hosta");
    permitted(&first);
}

UNIT_TEST(first_member, "the first member of an affinity group may be anywhere")
{
    affinity(NULL);
    permitted(&first);
}

/* ---- the group ---- */

UNIT_TEST(soft, "soft policies are the scheduler's alone")
{
    ask(FIRST, GROUP, &first);
    reply("InstanceGroup.get_by_uuid", group("soft-anti-affinity", NULL));
    permitted(&first);
    UNIT_EQ(fake_rpc_count_named(w->rpc, NULL), 1);
}

UNIT_TEST(by_name, "a hint that is no uuid is a name; a group that is gone permits all")
{
    ask(FIRST, "web", &first);
    struct fake_call *call = nova_world_call(w, "InstanceGroup.get_by_name");
    UNIT_STR(json_object_to_json_string(json_get(call->args, "args")), "[ \"web\" ]");
    fake_rpc_fail_as(call, "InstanceGroupNotFound", "Instance group web could not be found.");
    nova_world_pass(w, 0);
    permitted(&first);
}

UNIT_TEST(by_instance, "without a hint the question is the recorded one, and so is its answer")
{
    ask("fa70925f-2d0d-4024-871f-903f3c94d32b", NULL, &first);
    struct fake_call *call = nova_world_call(w, "InstanceGroup.get_by_instance_uuid");
    _cleanup_(json_putp) struct json_object *recorded = capture_load(
        "live-migration/"
        "011-conductor-object_class_action_versions_InstanceGroup.get_by_instance_uuid.json");
    UNIT_TRUE(json_same(call->args, json_get(recorded, "args")));
    nova_world_answer(
        w, "InstanceGroup.get_by_instance_uuid",
        "live-migration/"
        "012-reply-object_class_action_versions_InstanceGroup.get_by_instance_uuid.json");
    permitted(&first);
}

UNIT_TEST(off, "with disable_group_policy_check_upcall nobody is asked")
{
    struct conf *conf =
        conf_for_test("DEFAULT.host", "os-hosta", "workarounds.disable_group_policy_check_upcall",
                      "true", "agent.state_directory", w->directory, NULL);

    cloud_reload(w->cloud, conf);
    ask(FIRST, GROUP, &first);
    permitted(&first);
    UNIT_EQ(fake_rpc_count_named(w->rpc, NULL), 0);
    conf_unref(conf);
}

UNIT_TEST(stops, "at the agent's end checks end, those that wait too")
{
    ask(FIRST, GROUP, &first);
    ask(OTHER, GROUP, &second);
    reply("InstanceGroup.get_by_uuid", group("anti-affinity", NULL));
    reply("InstanceGroup.get_by_uuid", group("anti-affinity", NULL));
    nova_world_close(w);
    UNIT_EQ(first.calls, 1);
    UNIT_EQ(second.calls, 1);
    UNIT_EQ(second.e.code, ERR_CANCELLED);
    w = nova_world_open();
}
