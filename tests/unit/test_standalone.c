/* SPDX-License-Identifier: Apache-2.0 */
/* The control plane of one file: the conductor's part, and what it keeps. */
#include "tests/unit/agent_world.h"

#include <sys/stat.h>

#include "lib/clock.h"
#include "lib/json.h"

static struct world *w;

static void open_world(void)
{
    w = world_open(&(struct world_options){.standalone = true});
}

static void close_world(void)
{
    world_close(w);
    w = NULL;
}
UNIT_FIXTURE(open_world, close_world)

/* ---- shorthand ---- */

static struct answer {
    unsigned calls;
    struct json_object *result;
    struct err e;
} last;

static void take_result(void *aux, struct json_object *result, const struct err *failure)
{
    (void)aux;
    last.calls++;
    json_object_put(last.result);
    last.result = json_copy(result);
    last.e = failure ? *failure : ERR_INIT;
}

static void forget_answer(void)
{
    json_object_put(last.result);
    last = (struct answer){0};
}

static struct instance *instance(void)
{
    _cleanup_(json_putp) struct json_object *args = world_args("030");
    struct instance *out = NULL;

    UNIT_OK(instance_from_json(json_get(args, "instance"), &out, &unit_err));
    return out;
}

static void migrate_to(const char *destination)
{
    _cleanup_(instance_freep) struct instance *i = instance();
    struct cloud_migrate_request request = {
        .instance = i, .destination = destination, .block_migration = 1, .disk_over_commit = -1};

    forget_answer();
    cloud_migrate(w->agent.cloud, &request, take_result, NULL);
    UNIT_EQ(last.calls, 0); /* never before it returned */
    world_settle(w);
}

static struct fake_call *question(void)
{
    return fake_rpc_waiting(w->agent.rpc, RPC_METHOD_check_can_live_migrate_destination);
}

/* What the file has, newest first; borrowed until the next call. */
static struct json_object *kept(const char *filter, const char *status)
{
    static struct answer before;

    before = last;
    last = (struct answer){0};
    cloud_migrations(w->agent.cloud, filter, status, 0, take_result, NULL);
    world_settle(w);
    static struct json_object *list;
    json_object_put(list);
    list = last.result;
    last = before;
    return list;
}

static struct json_object *newest(void)
{
    return json_object_array_get_idx(kept(NULL, NULL), 0);
}

static void failed_with(const char *part)
{
    UNIT_EQ(last.calls, 1);
    UNIT_HAS(last.e.text, part);
    UNIT_STR(json_get_string(newest(), "status", ""), "failed");
    UNIT_HAS(json_get_string(newest(), "message", ""), part);
    UNIT_EQ(fake_rpc_count(w->agent.rpc, RPC_METHOD_live_migration), 0);
    forget_answer();
    (void)kept("nobody", NULL);
}

/* ---- the conductor's part ---- */

UNIT_TEST(conducts, "the destination is asked, then the source is told, as nova-conductor does it")
{
    migrate_to("os-hostb");
    struct fake_call *call = question();
    UNIT_STR(call->server, "os-hostb");
    UNIT_TRUE(json_object_get_boolean(json_get(call->args, "block_migration")));
    UNIT_TRUE(json_has(call->args, "disk_over_commit") && json_has(call->args, "limits"));
    UNIT_STR(json_get_string(newest(), "status", ""), "accepted");
    fake_rpc_answer(call, world_result("029"));
    struct fake_call *cast = fake_rpc_waiting(w->agent.rpc, RPC_METHOD_live_migration);
    UNIT_STR(cast->server, "os-hosta");
    UNIT_STR(json_get_string(cast->args, "dest", ""), "os-hostb");
    struct json_object *record = world_data(cast->args, "migration");
    UNIT_EQ(json_get_int(record, "id", 0), 1);
    UNIT_STR(json_get_string(record, "dest_compute", ""), "os-hostb");
    UNIT_STR(json_get_string(record, "migration_type", ""), "live-migration");
    UNIT_EQ(last.calls, 0);
    fake_rpc_answer(cast, NULL);
    world_settle(w);
    UNIT_EQ(last.calls, 1);
    UNIT_TRUE(!err_is_set(&last.e));
    UNIT_STR(json_get_string(world_data(last.result, NULL), "uuid", "?"),
             json_get_string(record, "uuid", ""));
    forget_answer();
    (void)kept("nobody", NULL);
}

UNIT_TEST(bindings, "the VIFs get the binding's fields, and keep the source's details")
{
    migrate_to("os-hostb");
    fake_rpc_answer(question(), world_result("029"));
    struct fake_call *cast = fake_rpc_waiting(w->agent.rpc, RPC_METHOD_live_migration);
    struct json_object *vif = world_data(
        json_object_array_get_idx(json_get(world_data(cast->args, "migrate_data"), "vifs"), 0),
        NULL);
    UNIT_STR(json_get_string(vif, "vif_type", ""), "bridge");
    UNIT_STR(json_get_string(vif, "vnic_type", ""), "normal");
    UNIT_STR(json_get_string(vif, "host", ""), "os-hostb");
    UNIT_HAS(json_get_string(vif, "vif_details_json", ""), "port_filter");
    fake_rpc_answer(cast, NULL);
    world_settle(w);
    forget_answer();
}

UNIT_TEST(numbers, "each migration gets the next number, also after a restart")
{
    migrate_to("os-hostb");
    migrate_to("os-hostb");
    UNIT_EQ(json_get_int(newest(), "id", 0), 2);
    world_restart(w);
    migrate_to("os-hostb");
    UNIT_EQ(json_get_int(newest(), "id", 0), 3);
    forget_answer();
    (void)kept("nobody", NULL);
}

UNIT_TEST(refused, "a refusal is told and recorded as failed with its reason")
{
    migrate_to("os-hostb");
    fake_rpc_fail(question(), ERR_PRECHECK, "too little memory");
    world_settle(w);
    failed_with("too little memory");
}

UNIT_TEST(dead, "a destination that is dead is told by name and recorded as failed")
{
    migrate_to("os-hostb");
    UNIT_TRUE(question()->options.monitor_us > 0); /* noticed early */
    fake_rpc_fail(question(), ERR_TIMEOUT, "no sign of life for 30.0 s");
    world_settle(w);
    failed_with("host os-hostb does not answer: no sign of life");
}

UNIT_TEST(nobody, "a destination that nobody serves is told by name")
{
    migrate_to("os-hostx");
    fake_rpc_fail(question(), ERR_UNREACHABLE, "the broker has no such queue");
    world_settle(w);
    failed_with("host os-hostx does not answer");
}

UNIT_TEST(nonsense, "an answer that is no migrate data is a failure of that host")
{
    migrate_to("os-hostb");
    fake_rpc_answer(question(), json_object_new_string("yes"));
    world_settle(w);
    failed_with("answer of os-hostb");
}

UNIT_TEST(source_lost, "a source that cannot be told is recorded as failed")
{
    migrate_to("os-hostb");
    fake_rpc_answer(question(), world_result("029"));
    fake_rpc_fail(fake_rpc_waiting(w->agent.rpc, RPC_METHOD_live_migration), ERR_UNREACHABLE,
                  "no broker took the message");
    world_settle(w);
    UNIT_STR(json_get_string(newest(), "status", ""), "failed");
    UNIT_HAS(last.e.text, "no broker took the message");
    forget_answer();
    (void)kept("nobody", NULL);
}

static void not_begun(const char *destination, enum err_code code)
{
    migrate_to(destination);
    UNIT_EQ(last.calls, 1);
    UNIT_EQ(last.e.code, code);
    UNIT_EQ(json_object_array_length(kept(NULL, NULL)), 0);
    forget_answer();
}

UNIT_TEST(bad_destinations, "no destination, a bad name and this host are refused at once")
{
    not_begun(NULL, ERR_USAGE);
    not_begun("bad host/..", ERR_INVALID);
    not_begun("os-hosta", ERR_PRECHECK);
    (void)kept("nobody", NULL);
}

UNIT_TEST(cut_off, "an end of the agent in the middle ends the question, recorded as failed")
{
    migrate_to("os-hostb");
    world_restart(w);
    UNIT_EQ(last.calls, 1);
    UNIT_STR(json_get_string(newest(), "status", ""), "failed");
    forget_answer();
    (void)kept("nobody", NULL);
}

/* ---- what is kept ---- */

UNIT_TEST(whole_life, "a migration that the conductor began is kept with its end by the source")
{
    world_add_guest(w, VIRT_STATE_RUNNING);
    migrate_to("os-hostb");
    fake_rpc_answer(question(), world_result("029"));
    struct fake_call *cast = fake_rpc_waiting(w->agent.rpc, RPC_METHOD_live_migration);
    struct json_object *args = json_copy(cast->args);
    fake_rpc_answer(cast, NULL);
    world_ask(w, RPC_METHOD_live_migration, args);
    world_settle(w);
    UNIT_STR(json_get_string(newest(), "status", ""), "preparing");
    world_run_source(w);
    virt_fake_finish(w->agent.virt, WORLD_INSTANCE, VIRT_OUTCOME_COMPLETED, NULL);
    WORLD_UNTIL(w, fake_rpc_waiting(w->agent.rpc, RPC_METHOD_post_live_migration_at_destination));
    fake_rpc_answer(fake_rpc_waiting(w->agent.rpc, RPC_METHOD_post_live_migration_at_destination),
                    NULL);
    world_settle(w);
    UNIT_EQ(json_object_array_length(kept(NULL, NULL)), 1);
    UNIT_STR(json_get_string(newest(), "status", ""), "completed");
    UNIT_STR(json_get_string(newest(), "phase", ""), "completed");
    UNIT_TRUE(json_get(newest(), "result") != NULL);
    forget_answer();
    (void)kept("nobody", NULL);
}

UNIT_TEST(refused_by_source, "a migration that the source refuses is kept as error with the reason")
{
    w->agent.draining = true;
    world_begin_source(w);
    UNIT_STR(json_get_string(newest(), "status", ""), "error");
    UNIT_HAS(json_get_string(newest(), "message", ""), "is stopping");
    (void)kept("nobody", NULL);
}

UNIT_TEST(filters, "history is found by instance, migration and status, newest first")
{
    migrate_to("os-hostb");
    fake_rpc_fail(question(), ERR_PRECHECK, "no");
    world_settle(w);
    migrate_to("os-hostb");
    UNIT_EQ(json_object_array_length(kept(NULL, "failed")), 1);
    UNIT_EQ(json_object_array_length(kept(NULL, "accepted")), 1);
    UNIT_EQ(json_object_array_length(kept(WORLD_INSTANCE, NULL)), 2);
    UNIT_EQ(json_object_array_length(kept("nobody", NULL)), 0);
    _cleanup_(str_freep) char *uuid = text_dup(json_get_string(newest(), "uuid", ""));
    UNIT_EQ(json_object_array_length(kept(uuid, NULL)), 1);
    UNIT_EQ(json_get_int(newest(), "id", 0), 2);
    forget_answer();
    (void)kept("nobody", NULL);
}

static unsigned done_calls;
static void take_done(void *aux, const struct err *failure)
{
    (void)aux;
    (void)failure;
    done_calls++;
}

UNIT_TEST(nothing_to_do, "bindings and allocations succeed, and not before the call returned")
{
    _cleanup_(instance_freep) struct instance *i = instance();
    _cleanup_(json_putp) struct json_object *context = rpc_context_admin();
    done_calls = 0;
    cloud_bindings(w->agent.cloud, context, i, NULL, "os-hostb", CLOUD_BINDING_ACTIVATE, take_done,
                   NULL);
    cloud_allocations_revert(w->agent.cloud, context, i, NULL, take_done, NULL);
    cloud_allocations_drop(w->agent.cloud, context, NULL, take_done, NULL);
    cloud_instance_save(w->agent.cloud, context, i, NULL, take_done, NULL);
    UNIT_EQ(done_calls, 0);
    world_settle(w);
    UNIT_EQ(done_calls, 4);
}

UNIT_TEST(ends_at_close, "what is open when the control plane is freed ends then, once")
{
    _cleanup_(json_putp) struct json_object *context = rpc_context_admin();
    done_calls = 0;
    cloud_allocations_drop(w->agent.cloud, context, NULL, take_done, NULL);
    forget_answer();
    cloud_migrations(w->agent.cloud, NULL, NULL, 0, take_result, NULL);
    close_world();
    UNIT_EQ(done_calls, 1);
    UNIT_EQ(last.calls, 1);
    forget_answer();
}

UNIT_TEST(bad_file, "a database that cannot be made is refused with its path")
{
    _cleanup_(str_freep) char *path = text_format("%s/migrations.sqlite", unit_directory());
    UNIT_EQ(mkdir(path, 0700), 0);
    struct conf *conf = conf_for_test("agent.state_directory", unit_directory(), NULL);
    struct cloud *cloud = NULL;
    UNIT_FAILS(cloud_new(&cloud, w->agent.loop, conf, w->agent.rpc, "h", &unit_err), ERR_SYSTEM);
    UNIT_HAS(unit_err.text, "migrations.sqlite");
    conf_unref(conf);
}
