/* SPDX-License-Identifier: Apache-2.0 */
/* The account of a migration: what computectl shows of it. */
#include "tests/unit/agent_world.h"

#include "lib/clock.h"
#include "lib/json.h"

static struct world *w;
static struct json_object *account;

static void open_world(void)
{
    w = world_open(NULL);
    world_add_guest(w, VIRT_STATE_RUNNING);
    world_begin_source(w);
}

static void close_world(void)
{
    json_object_put(account);
    account = NULL;
    world_close(w);
    w = NULL;
}
UNIT_FIXTURE(open_world, close_world)

static struct migration *source(void)
{
    return world_migration(w, MIGRATION_SOURCE);
}

static void take(void)
{
    json_object_put(account);
    account = migration_account(source());
}

UNIT_TEST(identity, "who, from where, to where, in Nova's word and in ours")
{
    take();
    UNIT_EQ(json_get_int(account, "id", 0), 1);
    UNIT_STR(json_get_string(account, "uuid", ""), WORLD_MIGRATION);
    UNIT_STR(json_get_string(account, "instance", ""), WORLD_INSTANCE);
    UNIT_STR(json_get_string(account, "name", ""), "instance-00000001");
    UNIT_STR(json_get_string(account, "role", ""), "source");
    UNIT_STR(json_get_string(account, "source", ""), "os-hosta");
    UNIT_STR(json_get_string(account, "dest", ""), "os-hostb");
    UNIT_STR(json_get_string(account, "status", ""), "preparing");
    UNIT_STR(json_get_string(account, "phase", ""), "preparing");
    UNIT_TRUE(json_has(account, "message") && json_get(account, "message") == NULL);
    UNIT_HAS(json_get_string(account, "created_at", ""), "2026-");
}

UNIT_TEST(before, "before libvirt's call nothing is measured, and nothing pretends to be")
{
    take();
    UNIT_TRUE(json_get_double(account, "elapsed_s", -1) == 0.0);
    UNIT_TRUE(json_get(account, "expected_downtime_ms") == NULL);
    UNIT_TRUE(json_get(account, "time_left_s") == NULL);
    UNIT_TRUE(json_has(account, "time_left_low_s") && json_has(account, "time_left_high_s"));
    UNIT_TRUE(json_has(account, "expected_downtime_low_ms"));
    UNIT_TRUE(json_get(account, "result") == NULL);
}

UNIT_TEST(running, "while it runs: the newest sample, the limits in force, the actions")
{
    const struct virt_job job = {.active = true,
                                 .memory_total = 1000,
                                 .memory_processed = 600,
                                 .memory_remaining = 400,
                                 .disk_total = 50,
                                 .disk_processed = 50,
                                 .dirty_rate = 7,
                                 .iteration = 3,
                                 .throttle_percent = 30,
                                 .downtime_ms = -1};
    virt_fake_samples(w->agent.virt, WORLD_INSTANCE, &job, 1);
    world_run_source(w);
    world_pass(w, 3 * USEC_PER_SEC, USEC_PER_SEC);
    take();
    UNIT_STR(json_get_string(account, "phase", ""), "running");
    UNIT_TRUE(json_get_double(account, "elapsed_s", 0) == 3.0);
    UNIT_EQ(json_get_int(json_get(account, "memory"), "total", 0), 1000);
    UNIT_EQ(json_get_int(json_get(account, "memory"), "processed", 0), 600);
    UNIT_EQ(json_get_int(json_get(account, "memory"), "remaining", 0), 400);
    UNIT_EQ(json_get_int(json_get(account, "disk"), "processed", 0), 50);
    UNIT_EQ(json_get_int(account, "dirty_rate_bytes_s", 0), 7);
    UNIT_EQ(json_get_int(account, "iteration", 0), 3);
    UNIT_EQ(json_get_int(account, "throttle_percent", 0), 30);
    UNIT_EQ(json_get_int(account, "downtime_limit_ms", 0), 50);
    UNIT_STR(json_get_string(account, "timeout_action", ""), "abort");
    UNIT_TRUE(json_get_bool(account, "auto_converge", false));
    UNIT_TRUE(json_get(account, "result") == NULL);
}

UNIT_TEST(actions, "what operators did is in it, in order, and bounded")
{
    world_run_source(w);
    for (int i = 0; i < 150; i++)
        migration_note(source(), "note %d", i);
    take();
    struct json_object *list = json_get(account, "actions");
    UNIT_EQ(json_object_array_length(list), 100);
    UNIT_STR(json_object_get_string(json_object_array_get_idx(list, 1)), "note 1");
}

UNIT_TEST(failure, "the first failure is the message, later ones do not hide it")
{
    struct err first = ERR_INIT, second = ERR_INIT;
    err_set(&first, ERR_MIGRATION, "the first");
    err_set(&second, ERR_MIGRATION, "the second");
    migration_fail(source(), NULL);
    migration_fail(source(), &first);
    migration_fail(source(), &second);
    take();
    UNIT_STR(json_get_string(account, "message", ""), "the first");
}

UNIT_TEST(result, "at the end: time, throughput, pause, what was done")
{
    const struct virt_job job = {.completed = true,
                                 .elapsed_ms = 4000,
                                 .memory_processed = 8000,
                                 .disk_processed = 4000,
                                 .downtime_ms = 42};
    world_run_source(w);
    world_pass(w, 4 * USEC_PER_SEC, USEC_PER_SEC);
    virt_fake_job_completed(w->agent.virt, WORLD_INSTANCE, &job);
    virt_fake_finish(w->agent.virt, WORLD_INSTANCE, VIRT_OUTCOME_COMPLETED, NULL);
    WORLD_UNTIL(w, fake_rpc_waiting(w->agent.rpc, RPC_METHOD_post_live_migration_at_destination));
    world_pass(w, 10 * USEC_PER_SEC, 10 * USEC_PER_SEC);
    take();
    struct json_object *r = json_get(account, "result");
    UNIT_EQ(json_get_int(r, "total_time_ms", 0), 4000); /* not the time of the questions after it */
    UNIT_EQ(json_get_int(r, "average_throughput_bytes_s", 0), 3000);
    UNIT_EQ(json_get_int(r, "downtime_ms", 0), 42);
    UNIT_TRUE(!json_get_bool(r, "switchover_announced", true));
    UNIT_STR(json_get_string(account, "phase", ""), "finishing");
    UNIT_STR(json_get_string(account, "status", ""), "running");
}

UNIT_TEST(no_pause_known, "a pause that nobody measured is null, not a number")
{
    world_run_source(w);
    world_pass(w, USEC_PER_SEC, USEC_PER_SEC);
    virt_fake_finish(w->agent.virt, WORLD_INSTANCE, VIRT_OUTCOME_COMPLETED, NULL);
    WORLD_UNTIL(w, fake_rpc_waiting(w->agent.rpc, RPC_METHOD_post_live_migration_at_destination));
    take();
    struct json_object *r = json_get(account, "result");
    UNIT_TRUE(json_has(r, "downtime_ms") && json_get(r, "downtime_ms") == NULL);
}
