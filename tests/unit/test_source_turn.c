/* SPDX-License-Identifier: Apache-2.0 */
/* Two migrations to one host in a source's agent: what libvirt is told so that they switch over one at a time. */
#include "tests/unit/unit.h"

#include <string.h>

#include "agent/host_pair.h"
#include "agent/source.h"
#include "conf/load.h"
#include "lib/clock.h"
#include "lib/json.h"
#include "tests/unit/agent_world.h"
#include "virt/fake.h"

#define OTHER_INSTANCE "22222222-2222-4333-8444-555555555555"
#define MIB            (INT64_C(1) << 20)
#define SECOND         USEC_PER_SEC

static struct world *w;

static void close_world(void)
{
    world_close(w);
    w = NULL;
}

static struct migration *first(void)
{
    return world_migration(w, MIGRATION_SOURCE);
}

static struct migration *other(void)
{
    return migration_find(&w->agent, MIGRATION_SOURCE, WORLD_OTHER);
}

static void answer_preparation(void)
{
    WORLD_UNTIL(w, fake_rpc_waiting(w->agent.rpc, RPC_METHOD_pre_live_migration));
    fake_rpc_answer(fake_rpc_waiting(w->agent.rpc, RPC_METHOD_pre_live_migration),
                    world_result("063"));
}

static void begin_other(void)
{
    struct json_object *args = world_args("030");

    json_add_string(world_data(args, "migration"), "uuid", WORLD_OTHER);
    json_add_string(world_data(args, "instance"), "uuid", OTHER_INSTANCE);
    virt_fake_add(w->agent.virt, OTHER_INSTANCE, "other", NULL, VIRT_STATE_RUNNING);
    world_ask(w, RPC_METHOD_live_migration, args);
    answer_preparation();
    WORLD_UNTIL(w, virt_fake_wait_migrating(w->agent.virt, OTHER_INSTANCE, 0));
    world_settle(w);
}

/* So much is left after so much was sent. */
static void copies(const char *uuid, int64_t left_mib, int64_t sent_mib)
{
    struct virt_job job = {.active = true,
                           .memory_total = 4096 * MIB,
                           .memory_remaining = left_mib * MIB,
                           .memory_processed = sent_mib * MIB,
                           .memory_bps = 40 * MIB,
                           .iteration = 1,
                           .downtime_ms = -1};

    virt_fake_samples(w->agent.virt, uuid, &job, 1);
}

static void pass(int64_t us)
{
    world_pass(w, us, SECOND / 2);
}

/* The first one copies much; the other one, if there is to be one, the same. */
static void open_with(bool both, const char *in_turn)
{
    w = world_open(&(struct world_options){
        .settings = {"libvirt.live_migration_host_bandwidth", "80",
                     "DEFAULT.max_concurrent_live_migrations", "2",
                     "libvirt.live_migration_switchover_in_turn", in_turn}});
    world_add_guest(w, VIRT_STATE_RUNNING);
    world_begin_source(w);
    world_run_source(w);
    if (both)
        begin_other();
    for (int64_t i = 1; i <= 4; i++) {
        copies(WORLD_INSTANCE, 4000 - 20 * i, 20 * i);
        if (both)
            copies(OTHER_INSTANCE, 4000 - 20 * i, 20 * i);
        pass(SECOND / 2);
    }
    virt_fake_forget_calls(w->agent.virt);
}

static void first_is_near(void)
{
    copies(WORLD_INSTANCE, 10, 100);
    copies(OTHER_INSTANCE, 3900, 100);
    pass(SECOND / 2);
}
UNIT_FIXTURE(NULL, close_world)

UNIT_TEST(gives_way, "while one is at its end the other one is slowed down, and told to wait")
{
    open_with(true, "true");
    UNIT_EQ(first()->bandwidth_mib, 40);
    first_is_near();
    UNIT_TRUE(world_hypervisor_was_told(w, "set_bandwidth " OTHER_INSTANCE " 1"));
    UNIT_TRUE(world_hypervisor_was_told(w, "set_bandwidth " WORLD_INSTANCE " 79"));
    UNIT_TRUE(world_logged(w, "has the turn to switch over: 10.0 MiB left"));
    UNIT_TRUE(world_logged(w, "waits for its turn to switch over: another one to os-hostb"));
    _cleanup_(json_putp) struct json_object *account = migration_account(other());
    UNIT_TRUE(json_get_bool(account, "waits_to_switch_over", false));
}

UNIT_TEST(goes_on, "when the one has moved the other one has its bandwidth back")
{
    open_with(true, "true");
    first_is_near();
    virt_fake_event(w->agent.virt, WORLD_INSTANCE, VIRT_EVENT_PAUSED_MIGRATION);
    pass(SECOND / 2);
    UNIT_EQ(other()->bandwidth_mib, 1);
    virt_fake_finish(w->agent.virt, WORLD_INSTANCE, VIRT_OUTCOME_COMPLETED, NULL);
    WORLD_UNTIL(w, first()->state != MACHINE_SOURCE_RUNNING);
    world_settle(w);
    UNIT_TRUE(other()->bandwidth_mib >= 40);
    UNIT_TRUE(world_hypervisor_was_told(w, "set_bandwidth " OTHER_INSTANCE " 40") ||
              world_hypervisor_was_told(w, "set_bandwidth " OTHER_INSTANCE " 80"));
    _cleanup_(json_putp) struct json_object *account = migration_account(other());
    UNIT_TRUE(!json_get_bool(account, "waits_to_switch_over", true));
}

UNIT_TEST(in_the_pause, "nothing is told to libvirt of a guest that has stopped")
{
    open_with(true, "true");
    virt_fake_event(w->agent.virt, WORLD_INSTANCE, VIRT_EVENT_PAUSED_MIGRATION);
    pass(SECOND / 2);
    UNIT_TRUE(world_hypervisor_was_told(w, "set_bandwidth " OTHER_INSTANCE " 1"));
    UNIT_EQ(first()->bandwidth_mib, 79);
    UNIT_TRUE(!world_hypervisor_was_told(w, "set_bandwidth " WORLD_INSTANCE " 79"));
    virt_fake_event(w->agent.virt, WORLD_INSTANCE, VIRT_EVENT_RESUMED);
    pass(SECOND);
    UNIT_TRUE(world_hypervisor_was_told(w, "set_bandwidth " WORLD_INSTANCE " 40"));
    UNIT_TRUE(world_hypervisor_was_told(w, "set_bandwidth " OTHER_INSTANCE " 40"));
}

UNIT_TEST(learns_nothing,
          "how fast one was before its turn is not taken for what the network carries")
{
    struct virt_job job = {.completed = true, .downtime_ms = 90, .memory_processed = 4096 * MIB};

    open_with(true, "true");
    first_is_near();
    UNIT_TRUE(first()->policy.usual_throughput > 0.0);
    virt_fake_job_completed(w->agent.virt, WORLD_INSTANCE, &job);
    world_settle(w);
    UNIT_EQ(first()->progress.downtime_ms, 90);
    UNIT_EQ(host_pair_known(&w->agent, first()->destination_host).bandwidth, 0);
}

UNIT_TEST(does_not_end, "one that does not stop holds the other one up for two seconds")
{
    open_with(true, "true");
    first_is_near();
    pass(3 * SECOND);
    UNIT_TRUE(world_logged(w, "passes the turn to switch over on"));
    UNIT_EQ(other()->bandwidth_mib, 40);
    UNIT_TRUE(world_hypervisor_was_told(w, "set_bandwidth " OTHER_INSTANCE " 40"));
    virt_fake_forget_calls(w->agent.virt);
    pass(10 * SECOND);
    UNIT_EQ(virt_fake_count(w->agent.virt, "set_bandwidth"), 0);
}

UNIT_TEST(told_again, "a libvirt that does not take the bandwidth back is told until it does")
{
    open_with(true, "true");
    first_is_near();
    virt_fake_fail(w->agent.virt, "set_bandwidth", ERR_VIRT, "busy", 3);
    pass(5 * SECOND);
    UNIT_TRUE(world_hypervisor_was_told(w, "set_bandwidth " OTHER_INSTANCE " 40"));
    UNIT_TRUE(!other()->bandwidth_unsure);
}

UNIT_TEST(raised_again, "a bandwidth that libvirt refused once is told again, without any turn")
{
    open_with(true, "false");
    virt_fake_fail(w->agent.virt, "set_bandwidth", ERR_VIRT, "busy", 2);
    _cleanup_(json_putp) struct json_object *changes = json_object_new_object();
    json_add_int(changes, "bandwidth_mib", 20);
    UNIT_OK(source_change_settings(first(), changes, &unit_err));
    world_settle(w);
    virt_fake_forget_calls(w->agent.virt);
    pass(2 * SECOND);
    UNIT_TRUE(world_hypervisor_was_told(w, "set_bandwidth " WORLD_INSTANCE " 20"));
    UNIT_TRUE(!first()->bandwidth_unsure);
}

UNIT_TEST(force_refused,
          "one that could not be completed by force while it waited is not left slow")
{
    open_with(true, "true");
    first_is_near();
    UNIT_EQ(other()->bandwidth_mib, 1);
    virt_fake_fail(w->agent.virt, "suspend", ERR_VIRT, "not now", 1);
    virt_fake_fail(w->agent.virt, "set_bandwidth", ERR_VIRT, "busy", 8);
    UNIT_OK(source_force_complete(other(), &unit_err));
    pass(4 * SECOND);
    UNIT_TRUE(other()->suspended_by_us);
    UNIT_TRUE(world_hypervisor_was_told(w, "set_bandwidth " OTHER_INSTANCE " 40"));
    UNIT_TRUE(!other()->bandwidth_unsure);
}

UNIT_TEST(taken_back, "libvirt keeps nothing of a turn when the guest stays")
{
    open_with(true, "true");
    first_is_near();
    UNIT_EQ(other()->bandwidth_mib, 1);
    virt_fake_finish(w->agent.virt, OTHER_INSTANCE, VIRT_OUTCOME_FAILED, "the network broke");
    WORLD_UNTIL(w, world_hypervisor_was_told(w, "set_bandwidth " OTHER_INSTANCE " 0"));
}

UNIT_TEST(alone, "a migration that is alone hears nothing of turns")
{
    open_with(false, "true");
    copies(WORLD_INSTANCE, 10, 100);
    pass(SECOND);
    virt_fake_event(w->agent.virt, WORLD_INSTANCE, VIRT_EVENT_PAUSED_MIGRATION);
    pass(SECOND);
    UNIT_EQ(virt_fake_count(w->agent.virt, "set_bandwidth"), 0);
    UNIT_TRUE(!world_logged(w, "turn to switch over"));
}

UNIT_TEST(off, "without live_migration_switchover_in_turn all go on")
{
    open_with(true, "false");
    first_is_near();
    UNIT_EQ(virt_fake_count(w->agent.virt, "set_bandwidth"), 0);
    UNIT_EQ(other()->bandwidth_mib, 40);
}

UNIT_TEST(switched_off, "when the option is switched off all go on, and nothing is left of turns")
{
    open_with(true, "true");
    first_is_near();
    UNIT_EQ(other()->bandwidth_mib, 1);
    _cleanup_(conf_unrefp) struct conf *fresh = conf_for_test(
        "libvirt.live_migration_host_bandwidth", "80", "DEFAULT.max_concurrent_live_migrations",
        "2", "libvirt.live_migration_switchover_in_turn", "false", NULL);
    struct conf *merged = conf_reload_merge(w->agent.conf, fresh, NULL, NULL);
    conf_unref(w->agent.conf);
    w->agent.conf = merged;
    pass(SECOND);
    UNIT_EQ(other()->bandwidth_mib, 40);
    UNIT_EQ(first()->turn.given_us, 0);
    UNIT_EQ(first()->turn.rests_us, 0);
}

UNIT_TEST(long_finish,
          "what libvirt takes after the switch-over does not keep a guest from its turn")
{
    open_with(true, "true");
    first()->policy.finish_ms = 2000;
    first_is_near();
    UNIT_TRUE(first()->progress.told.time_left_ms > 2000);
    UNIT_EQ(first()->turn.turn, TURN_ITS_OWN);
    UNIT_EQ(other()->bandwidth_mib, 1);
}

static int64_t turn_notes(const struct migration *m)
{
    int64_t count = 0;

    for (size_t i = 0; i < json_object_array_length(m->progress.actions); i++) {
        struct json_object *note = json_object_array_get_idx(m->progress.actions, i);
        count += strstr(json_object_to_json_string(note), "switch over") != NULL;
    }
    return count;
}

UNIT_TEST(few_notes, "turns that come again and again do not fill the account")
{
    open_with(true, "true");
    for (int64_t i = 0; i < 12; i++) {
        first()->turn.rests_us = other()->turn.rests_us = 0;
        copies(WORLD_INSTANCE, 10, 100 + 40 * i);
        copies(OTHER_INSTANCE, 3900 - i, 100 + i);
        pass(3 * SECOND);
    }
    UNIT_TRUE(turn_notes(first()) + turn_notes(other()) > 4);
    UNIT_TRUE(turn_notes(first()) <= 6);
    UNIT_TRUE(turn_notes(other()) <= 6);
}

UNIT_TEST(operator_learns,
          "an operator's change teaches no rate: nothing moved since the newest sample")
{
    open_with(true, "true");
    double before = first()->policy.memory_throughput;
    world_pass(w, 45 * SECOND / 100, 45 * SECOND / 100);
    _cleanup_(json_putp) struct json_object *changes = json_object_new_object();
    json_add_int(changes, "downtime_ms", 700);
    UNIT_OK(source_change_settings(first(), changes, &unit_err));
    UNIT_TRUE(first()->policy.memory_throughput == before);
    copies(WORLD_INSTANCE, 4000 - 100, 100);
    world_pass(w, SECOND / 5, SECOND / 5);
    UNIT_TRUE(before > 30.0 * MIB);
    UNIT_TRUE(first()->policy.memory_throughput < 1.2 * before);
}

UNIT_TEST(plan_meanwhile, "a share that is foreseen while one gives way is that of its usual claim")
{
    open_with(true, "true");
    UNIT_EQ(source_bandwidth_foreseen(&w->agent, 0), 40);
    first_is_near();
    UNIT_EQ(source_bandwidth_foreseen(&w->agent, 0), 40);
}

UNIT_TEST(operator_first, "one that an operator changes gives way to nobody for a while")
{
    open_with(true, "true");
    first_is_near();
    UNIT_EQ(other()->bandwidth_mib, 1);
    _cleanup_(json_putp) struct json_object *changes = json_object_new_object();
    json_add_int(changes, "downtime_ms", 700);
    UNIT_OK(source_change_settings(other(), changes, &unit_err));
    world_settle(w);
    UNIT_EQ(other()->bandwidth_mib, 40);
}

UNIT_TEST(force_first, "one that is completed by force while it waits is not limited")
{
    open_with(true, "true");
    first_is_near();
    UNIT_OK(source_force_complete(other(), &unit_err));
    pass(SECOND);
    UNIT_EQ(other()->turn.turn, TURN_NOBODYS);
    UNIT_TRUE(other()->suspended_by_us);
    char **calls = virt_fake_calls(w->agent.virt);
    const char *last = NULL;
    for (size_t i = 0; calls[i]; i++)
        if (text_starts_with(calls[i], "set_bandwidth " OTHER_INSTANCE))
            last = calls[i];
    UNIT_STR(last, "set_bandwidth " OTHER_INSTANCE " 0");
    text_vector_free(calls);
}

UNIT_TEST(deadline_first, "one in the second half of its completion timeout does not wait")
{
    open_with(true, "true");
    other()->settings.completion_timeout_s = 4;
    other()->settings.timeout_is_total = true;
    first_is_near();
    UNIT_EQ(other()->bandwidth_mib, 40);
    UNIT_EQ(other()->turn.turn, TURN_NOBODYS);
}
