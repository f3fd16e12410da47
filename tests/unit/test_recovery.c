/* SPDX-License-Identifier: Apache-2.0 */
/* After a restart: a record of each state, on both sides, with each answer of the peer. */
#include "agent/host_pair.h"
#include "cloud/cloud_provider.h"
#include "tests/unit/agent_world.h"

#include "lib/clock.h"
#include "lib/fault.h"
#include "lib/json.h"

static struct world *w;

static void close_world(void)
{
    world_close(w);
    w = NULL;
}

static void open_nothing(void)
{
}
UNIT_FIXTURE(open_nothing, close_world)

/* ---- shorthand ---- */

static struct migration *any(void)
{
    struct migration *m = world_migration(w, MIGRATION_SOURCE);

    return m ? m : world_migration(w, MIGRATION_DESTINATION);
}

static const char *state(void)
{
    return any() ? machine_state_name(any()->state) : "-";
}

static struct fake_call *waits(enum rpc_method_id method)
{
    return fake_rpc_waiting(w->agent.rpc, method);
}

static unsigned did(const char *op)
{
    return virt_fake_count(w->agent.virt, op);
}

static void last_word(const char *role, const char *word)
{
    _cleanup_(str_freep) char *words = world_words(w, role);

    unit_check(text_ends_with(words, word), __LINE__, __FILE__,
               "the words are \"%s\", not .. \"%s\"", words, word);
}

static void answer(enum rpc_method_id method)
{
    fake_rpc_answer(waits(method), NULL);
    world_settle(w);
}

/* ---- the source ---- */

/* A former agent ran a migration up to libvirt's call, and left this state behind. */
static void source_left(const char *left, enum virt_state guest)
{
    w = world_open(NULL);
    world_add_guest(w, VIRT_STATE_RUNNING);
    world_add_file(w, "disk");
    world_begin_source(w);
    world_run_source(w);
    _cleanup_(json_putp) struct json_object *record = world_record(w, WORLD_MIGRATION, "source");
    json_add_string(record, "state", left);
    world_leave_record(w, WORLD_MIGRATION, "source", record);
    if (guest == VIRT_STATE_NONE)
        virt_fake_remove(w->agent.virt, WORLD_INSTANCE);
    else
        virt_fake_set_state(w->agent.virt, WORLD_INSTANCE, guest);
    world_restart(w);
}

static void taken_back(const char *word)
{
    answer(RPC_METHOD_rollback_live_migration_at_destination);
    last_word("source", word);
    UNIT_STR(world_state(w, WORLD_MIGRATION, "source"), "-");
    UNIT_STR(state(), "-");
    UNIT_TRUE(world_has_file(w, WORLD_INSTANCE "/disk"));
    UNIT_EQ(virt_fake_state(w->agent.virt, WORLD_INSTANCE), VIRT_STATE_RUNNING);
    UNIT_EQ(w->agent.running_out, 0);
}

UNIT_TEST(nothing, "an empty journal is no work")
{
    w = world_open(&(struct world_options){0});
    world_restart(w);
    UNIT_TRUE(w->agent.recovered);
    UNIT_TRUE(w->agent.migrations == NULL);
}

UNIT_TEST(accepted, "what was only accepted queues again and runs")
{
    source_left("SOURCE_ACCEPTED", VIRT_STATE_RUNNING);
    UNIT_STR(state(), "SOURCE_PREPARING");
    UNIT_TRUE(waits(RPC_METHOD_pre_live_migration) != NULL);
    UNIT_EQ(w->agent.running_out, 1);
}

UNIT_TEST(queued, "what was queued queues again; the oldest runs first")
{
    w = world_open(NULL);
    w->agent.running_out = 1;
    world_add_guest(w, VIRT_STATE_RUNNING);
    world_begin_source(w);
    _cleanup_(json_putp) struct json_object *first = world_record(w, WORLD_MIGRATION, "source");
    _cleanup_(json_putp) struct json_object *second = json_copy(first);
    json_add_string(second, "uuid", WORLD_OTHER);
    json_add_int(second, "created_us", json_get_int(first, "created_us", 0) - 1000000);
    json_add_string(world_data(second, "instance"), "uuid", "22222222-2222-4333-8444-555555555555");
    virt_fake_add(w->agent.virt, "22222222-2222-4333-8444-555555555555", "other", NULL,
                  VIRT_STATE_RUNNING);
    world_leave_record(w, WORLD_OTHER, "source", second);
    world_restart(w);
    UNIT_STR(state(), "SOURCE_QUEUED");
    UNIT_EQ(fake_rpc_count(w->agent.rpc, RPC_METHOD_pre_live_migration), 1);
    UNIT_STR(machine_state_name(migration_find(&w->agent, MIGRATION_SOURCE, WORLD_OTHER)->state),
             "SOURCE_PREPARING");
}

UNIT_TEST(preparing, "a preparation that was cut off is taken back, the guest stays")
{
    source_left("SOURCE_PREPARING", VIRT_STATE_RUNNING);
    UNIT_STR(state(), "SOURCE_ROLLING_BACK");
    taken_back("error");
    UNIT_EQ(world_count(w, "event compute_live_migration failed: the agent of os-hosta was "
                           "restarted while the migration was preparing"),
            1);
}

UNIT_TEST(waiting, "a wait for ports that was cut off is taken back")
{
    source_left("SOURCE_WAITING_VIFS", VIRT_STATE_RUNNING);
    taken_back("error");
}

UNIT_TEST(starting, "a start that was cut off is taken back")
{
    source_left("SOURCE_STARTING", VIRT_STATE_RUNNING);
    taken_back("error");
}

UNIT_TEST(rolling_back, "a roll-back that was cut off goes on")
{
    w = world_open(NULL);
    world_add_guest(w, VIRT_STATE_RUNNING);
    world_add_file(w, "disk");
    world_begin_source(w);
    world_run_source(w);
    virt_fake_finish(w->agent.virt, WORLD_INSTANCE, VIRT_OUTCOME_FAILED, "no");
    WORLD_UNTIL(w, waits(RPC_METHOD_rollback_live_migration_at_destination));
    world_restart(w);
    UNIT_STR(state(), "SOURCE_ROLLING_BACK");
    taken_back("failed");
}

UNIT_TEST(rolling_back_queued, "an abort of a queued one that was cut off tells nobody")
{
    w = world_open(NULL);
    w->agent.running_out = 1;
    world_add_guest(w, VIRT_STATE_RUNNING);
    world_begin_source(w);
    _cleanup_(json_putp) struct json_object *record = world_record(w, WORLD_MIGRATION, "source");
    json_add_string(record, "state", "SOURCE_ROLLING_BACK");
    json_add_string(record, "final_state", "SOURCE_CANCELLED");
    world_leave_record(w, WORLD_MIGRATION, "source", record);
    world_restart(w);
    UNIT_EQ(fake_rpc_count(w->agent.rpc, RPC_METHOD_rollback_live_migration_at_destination), 0);
    last_word("source", "cancelled");
    UNIT_STR(state(), "-");
}

static const struct virt_job running_job = {
    .active = true, .memory_total = 100, .memory_remaining = 50, .downtime_ms = -1};

UNIT_TEST(running_goes_on, "a job that runs on is watched again and may be aborted")
{
    w = world_open(NULL);
    world_add_guest(w, VIRT_STATE_RUNNING);
    virt_fake_samples(w->agent.virt, WORLD_INSTANCE, &running_job, 1);
    world_begin_source(w);
    world_run_source(w);
    world_restart(w);
    UNIT_STR(state(), "SOURCE_OBSERVING");
    world_pass(w, 2 * USEC_PER_SEC, USEC_PER_SEC);
    UNIT_TRUE(any()->progress.has_job);
    UNIT_OK(source_abort(any(), &unit_err));
    world_settle(w);
    UNIT_EQ(did("abort"), 1);
}

UNIT_TEST(running_disks,
          "the limit is told again when memory's turn is, which libvirt sets anew then")
{
    struct virt_job job = running_job;

    w = world_open(NULL);
    world_add_guest(w, VIRT_STATE_RUNNING);
    job.iteration = 0;
    virt_fake_samples(w->agent.virt, WORLD_INSTANCE, &job, 1);
    world_begin_source(w);
    world_run_source(w);
    world_restart(w);
    world_pass(w, 2 * USEC_PER_SEC, USEC_PER_SEC / 2);
    UNIT_TRUE(world_hypervisor_was_told(w, "set_bandwidth " WORLD_INSTANCE " 0"));
    virt_fake_forget_calls(w->agent.virt);
    world_pass(w, 2 * USEC_PER_SEC, USEC_PER_SEC / 2);
    UNIT_TRUE(!world_hypervisor_was_told(w, "set_bandwidth " WORLD_INSTANCE " 0"));
    job.iteration = 1;
    virt_fake_samples(w->agent.virt, WORLD_INSTANCE, &job, 1);
    world_pass(w, 2 * USEC_PER_SEC, USEC_PER_SEC / 2);
    UNIT_TRUE(world_hypervisor_was_told(w, "set_bandwidth " WORLD_INSTANCE " 0"));
}

UNIT_TEST(running_learns, "when libvirt's call began is not known after a restart, and not learned")
{
    struct virt_job job = running_job, end = {.completed = true, .downtime_ms = 90};

    job.iteration = 1;
    w = world_open(NULL);
    world_add_guest(w, VIRT_STATE_RUNNING);
    virt_fake_samples(w->agent.virt, WORLD_INSTANCE, &job, 1);
    world_begin_source(w);
    world_run_source(w);
    world_restart(w);
    world_pass(w, 2 * USEC_PER_SEC, USEC_PER_SEC);
    UNIT_TRUE(any()->progress.has_job);
    virt_fake_job_completed(w->agent.virt, WORLD_INSTANCE, &end);
    world_settle(w);
    UNIT_EQ(host_pair_known(&w->agent, any()->destination_host).begin_ms, 0);
}

UNIT_TEST(running_aborted, "an abort that the former agent did not get rid of is told to libvirt")
{
    w = world_open(NULL);
    world_add_guest(w, VIRT_STATE_RUNNING);
    virt_fake_samples(w->agent.virt, WORLD_INSTANCE, &running_job, 1);
    world_begin_source(w);
    world_run_source(w);
    _cleanup_(json_putp) struct json_object *record = world_record(w, WORLD_MIGRATION, "source");
    json_add_bool(record, "abort_requested", true);
    world_leave_record(w, WORLD_MIGRATION, "source", record);
    world_restart(w);
    UNIT_STR(state(), "SOURCE_OBSERVING");
    UNIT_EQ(did("abort"), 0);
    world_pass(w, USEC_PER_SEC, USEC_PER_SEC / 10);
    UNIT_TRUE(did("abort") > 0);
}

UNIT_TEST(running_failed, "running here, no job: it failed while the agent was away")
{
    source_left("SOURCE_RUNNING", VIRT_STATE_RUNNING);
    taken_back("failed");
}

UNIT_TEST(running_moved, "gone here: the destination's word completes it, then the files go")
{
    source_left("SOURCE_RUNNING", VIRT_STATE_NONE);
    UNIT_STR(state(), "SOURCE_FINISHING");
    UNIT_TRUE(world_has_file(w, WORLD_INSTANCE "/disk"));
    answer(RPC_METHOD_post_live_migration_at_destination);
    last_word("source", "completed");
    UNIT_TRUE(!world_has_file(w, WORLD_INSTANCE));
    UNIT_TRUE(world_logged(w, "completed"));
    UNIT_EQ(w->agent.running_out, 0);
}

UNIT_TEST(running_shut_off, "shut off here counts as gone: only a word removes anything")
{
    source_left("SOURCE_RUNNING", VIRT_STATE_SHUTOFF);
    fake_rpc_fail(waits(RPC_METHOD_post_live_migration_at_destination), ERR_INSTANCE_STATE, "no");
    world_settle(w);
    UNIT_STR(state(), "SOURCE_PARKED");
    UNIT_TRUE(world_has_file(w, WORLD_INSTANCE "/disk"));
    UNIT_EQ(did("destroy") + did("undefine"), 0);
}

/* As it was before the agent's end, and as libvirt has it now. */
static void left_in_post_copy(const char *left)
{
    static const struct virt_job lost = {
        .active = true, .post_copy = true, .post_copy_failed = true, .memory_total = 100};

    w = world_open(NULL);
    world_add_guest(w, VIRT_STATE_RUNNING);
    world_begin_source(w);
    world_run_source(w);
    virt_fake_set_state(w->agent.virt, WORLD_INSTANCE, VIRT_STATE_PAUSED);
    virt_fake_samples(w->agent.virt, WORLD_INSTANCE, &lost, 1);
    _cleanup_(json_putp) struct json_object *record = world_record(w, WORLD_MIGRATION, "source");
    json_add_string(record, "state", left);
    world_leave_record(w, WORLD_MIGRATION, "source", record);
    world_restart(w);
    UNIT_STR(state(), "SOURCE_RECOVERING");
    unsigned before = did("migrate");
    world_pass(w, 6 * USEC_PER_SEC, USEC_PER_SEC);
    WORLD_UNTIL(w, did("migrate") == before + 1);
    UNIT_TRUE(virt_fake_migration(w->agent.virt, WORLD_INSTANCE)->resume_post_copy);
    UNIT_TRUE(virt_fake_migration(w->agent.virt, WORLD_INSTANCE)->post_copy);
    virt_fake_finish(w->agent.virt, WORLD_INSTANCE, VIRT_OUTCOME_COMPLETED, NULL);
    WORLD_UNTIL(w, waits(RPC_METHOD_post_live_migration_at_destination));
    answer(RPC_METHOD_post_live_migration_at_destination);
    last_word("source", "completed");
    UNIT_EQ(did("resume") + did("abort"), 0);
}

UNIT_TEST(recovering, "post-copy that was being recovered is recovered")
{
    left_in_post_copy("SOURCE_RECOVERING");
}

UNIT_TEST(running_lost, "post-copy that lost its connection unseen is recovered")
{
    left_in_post_copy("SOURCE_RUNNING");
}

UNIT_TEST(running_paused, "paused here without a job: asked, never resumed")
{
    source_left("SOURCE_RUNNING", VIRT_STATE_PAUSED);
    UNIT_STR(state(), "SOURCE_OBSERVING");
    answer(RPC_METHOD_post_live_migration_at_destination);
    last_word("source", "completed");
    UNIT_EQ(did("resume"), 0);
}

UNIT_TEST(running_paused_denied, "paused here, not there: parked, and parked after the next start")
{
    source_left("SOURCE_RUNNING", VIRT_STATE_PAUSED);
    fake_rpc_fail(waits(RPC_METHOD_post_live_migration_at_destination), ERR_INSTANCE_STATE, "no");
    world_settle(w);
    UNIT_STR(state(), "SOURCE_PARKED");
    world_restart(w);
    UNIT_STR(state(), "SOURCE_PARKED");
    UNIT_TRUE(world_logged(w, "is parked since before the restart"));
    UNIT_EQ(did("resume") + did("destroy"), 0);
}

UNIT_TEST(running_libvirt_away, "without libvirt at the start it is looked at again")
{
    w = world_open(NULL);
    world_add_guest(w, VIRT_STATE_RUNNING);
    world_begin_source(w);
    world_run_source(w);
    virt_fake_fail(w->agent.virt, "state", ERR_HYPERVISOR, "not yet", 3);
    world_restart(w);
    UNIT_STR(state(), "SOURCE_OBSERVING");
    world_pass(w, 5 * USEC_PER_SEC, USEC_PER_SEC);
    UNIT_TRUE(waits(RPC_METHOD_rollback_live_migration_at_destination) != NULL);
}

UNIT_TEST(finishing, "a question that was cut off is asked again")
{
    source_left("SOURCE_FINISHING", VIRT_STATE_NONE);
    answer(RPC_METHOD_post_live_migration_at_destination);
    last_word("source", "completed");
    UNIT_TRUE(!world_has_file(w, WORLD_INSTANCE));
}

UNIT_TEST(cleaning, "a clean-up that was cut off goes on without another question")
{
    source_left("SOURCE_CLEANING", VIRT_STATE_NONE);
    UNIT_EQ(fake_rpc_count(w->agent.rpc, RPC_METHOD_post_live_migration_at_destination), 0);
    last_word("source", "completed");
    UNIT_TRUE(!world_has_file(w, WORLD_INSTANCE));
    UNIT_STR(world_state(w, WORLD_MIGRATION, "source"), "-");
}

UNIT_TEST(ended, "a record that an end left behind goes")
{
    source_left("SOURCE_COMPLETED", VIRT_STATE_NONE);
    UNIT_STR(world_state(w, WORLD_MIGRATION, "source"), "-");
    UNIT_STR(state(), "-");
}

UNIT_TEST(again, "the request that comes again after the restart does nothing twice")
{
    source_left("SOURCE_RUNNING", VIRT_STATE_NONE);
    world_begin_source(w);
    UNIT_EQ(fake_rpc_count(w->agent.rpc, RPC_METHOD_pre_live_migration), 0);
    UNIT_STR(state(), "SOURCE_FINISHING");
}

/* ---- the destination ---- */

enum arrival { NOBODY, INCOMING, ARRIVED };

static void destination_left(const char *left, enum arrival guest)
{
    w = world_open(&(struct world_options){.host = "os-hostb"});
    world_prepare_destination(w);
    _cleanup_(json_putp) struct json_object *record =
        world_record(w, WORLD_MIGRATION, "destination");
    if (!text_equal(left, "DESTINATION_PREPARED")) {
        json_add_string(record, "state", left);
        json_add_bool(record, "destination_prepared", !text_equal(left, "DESTINATION_PREPARING"));
        world_leave_record(w, WORLD_MIGRATION, "destination", record);
    }
    if (guest != NOBODY)
        world_add_guest(w, guest == ARRIVED ? VIRT_STATE_RUNNING : VIRT_STATE_PAUSED);
    if (guest == INCOMING)
        virt_fake_set_incoming(w->agent.virt, WORLD_INSTANCE);
    world_restart(w);
}

static void source_says(const char *phase, const char *status)
{
    struct json_object *account = json_object_new_object();

    json_add_string(account, "phase", phase);
    json_add_string(account, "status", status);
    fake_rpc_answer(waits(RPC_METHOD_control), account);
    world_settle(w);
}

static void source_fails(enum err_code code)
{
    fake_rpc_fail(waits(RPC_METHOD_control), code, "scripted");
    world_settle(w);
}

static void all_gone(void)
{
    world_pass(w, 10000, 10000);
    last_word("destination", "failed");
    UNIT_TRUE(!world_has_file(w, WORLD_INSTANCE));
    UNIT_EQ(net_fake_plugged(w->agent.net), 0);
    UNIT_STR(world_state(w, WORLD_MIGRATION, "destination"), "-");
    UNIT_STR(state(), "-");
}

/* Whatever was said: nothing was taken, it is still prepared and will ask again. */
static void all_there(void)
{
    UNIT_STR(state(), "DESTINATION_PREPARED");
    UNIT_TRUE(world_has_file(w, WORLD_INSTANCE));
    UNIT_EQ(net_fake_plugged(w->agent.net), 1);
    UNIT_EQ(did("destroy") + did("destroy_incoming"), 0);
    world_pass(w, 61 * USEC_PER_SEC, 61 * USEC_PER_SEC);
    UNIT_TRUE(waits(RPC_METHOD_control) != NULL);
}

UNIT_TEST(d_preparing, "a preparation that was cut off is undone")
{
    destination_left("DESTINATION_PREPARING", NOBODY);
    UNIT_EQ(did("destroy_incoming"), 0);
    all_gone();
}

UNIT_TEST(d_preparing_here,
          "a guest that runs here keeps its disks, whatever the record says of them")
{
    destination_left("DESTINATION_PREPARING", ARRIVED);
    UNIT_STR(state(), "DESTINATION_PARKED");
    UNIT_TRUE(world_has_file(w, WORLD_INSTANCE));
    UNIT_EQ(net_fake_plugged(w->agent.net), 1);
}

UNIT_TEST(d_accepted, "what was only accepted is forgotten")
{
    destination_left("DESTINATION_ACCEPTED", NOBODY);
    all_gone();
}

UNIT_TEST(d_rolling_back,
          "a roll-back that was cut off goes on, an unfinished arrival goes with it")
{
    destination_left("DESTINATION_ROLLING_BACK", INCOMING);
    UNIT_EQ(virt_fake_state(w->agent.virt, WORLD_INSTANCE), VIRT_STATE_NONE);
    all_gone();
}

UNIT_TEST(d_rolling_back_runs, "a roll-back finds that the guest runs: parked, nothing destroyed")
{
    destination_left("DESTINATION_ROLLING_BACK", ARRIVED);
    UNIT_STR(state(), "DESTINATION_PARKED");
    UNIT_EQ(virt_fake_state(w->agent.virt, WORLD_INSTANCE), VIRT_STATE_RUNNING);
    UNIT_TRUE(world_has_file(w, WORLD_INSTANCE));
}

UNIT_TEST(d_prepared_running, "prepared, the source is at it: kept, and asked again")
{
    destination_left("DESTINATION_PREPARED", NOBODY);
    UNIT_STR(waits(RPC_METHOD_control)->server, "os-hosta");
    source_says("running", "running");
    all_there();
}

UNIT_TEST(d_post_copy_lost,
          "a source that recovers post-copy is asked soon again, nothing is taken back")
{
    static const struct virt_job lost = {.post_copy_failed = true};

    destination_left("DESTINATION_PREPARED", ARRIVED);
    for (int i = 0; i < 3; i++) {
        struct json_object *asked = json_get(waits(RPC_METHOD_control)->args, "args");
        UNIT_EQ(json_get_bool(asked, "post_copy_lost", false), i == 2);
        if (i == 1)
            virt_fake_samples(w->agent.virt, WORLD_INSTANCE, &lost, 1);
        struct json_object *account = json_object_new_object();
        json_add_string(account, "phase", "recovering post-copy");
        json_add_string(account, "status", "running (post-copy)");
        json_add(account, "addresses", json_object_new_array());
        json_add(account, "streams", json_object_new_array());
        fake_rpc_answer(waits(RPC_METHOD_control), account);
        world_settle(w);
        UNIT_TRUE(waits(RPC_METHOD_control) == NULL);
        world_pass(w, 3 * USEC_PER_SEC, USEC_PER_SEC);
    }
    all_there();
}

/* The account of a source that recovers post-copy and has no connection (any more). */
static void source_recovers(void)
{
    struct json_object *account = json_object_new_object();
    struct json_object *addresses = json_object_new_array();

    json_object_array_add(addresses, json_object_new_string("198.51.100.1"));
    json_add_string(account, "phase", "recovering post-copy");
    json_add(account, "addresses", addresses);
    json_add(account, "streams", json_object_new_array());
    fake_rpc_answer(waits(RPC_METHOD_control), account);
    world_settle(w);
    world_pass(w, 3 * USEC_PER_SEC, USEC_PER_SEC);
}

static bool destination_says(const char *word)
{
    struct json_object *asked = json_get(waits(RPC_METHOD_control)->args, "args");

    return json_get_bool(asked, word, false);
}

UNIT_TEST(d_post_copy_unseen, "that post-copy was lost is not told again by one who cannot look")
{
    static const struct virt_job lost = {.post_copy = true, .post_copy_failed = true};

    destination_left("DESTINATION_PREPARED", ARRIVED);
    virt_fake_samples(w->agent.virt, WORLD_INSTANCE, &lost, 1);
    source_recovers();
    UNIT_TRUE(destination_says("post_copy_lost"));
    virt_fake_fail(w->agent.virt, "state", ERR_HYPERVISOR, "libvirt is away", 1);
    source_recovers();
    UNIT_TRUE(!destination_says("post_copy_lost"));
    source_recovers();
    UNIT_TRUE(destination_says("post_copy_lost"));
}

UNIT_TEST(d_post_copy_gone, "a guest that is gone in post-copy is told to the source")
{
    destination_left("DESTINATION_PREPARED", ARRIVED);
    source_recovers();
    UNIT_TRUE(!destination_says("post_copy_gone"));
    virt_fake_set_state(w->agent.virt, WORLD_INSTANCE, VIRT_STATE_SHUTOFF);
    source_recovers();
    UNIT_TRUE(destination_says("post_copy_gone"));
    virt_fake_remove(w->agent.virt, WORLD_INSTANCE);
    source_recovers();
    UNIT_TRUE(destination_says("post_copy_gone"));
    all_there();
}

UNIT_TEST(d_post_copy_unstarted,
          "a guest that stays paused at its arrival in post-copy is told as gone, and kept")
{
    destination_left("DESTINATION_PREPARED", INCOMING);
    source_recovers();
    UNIT_TRUE(!destination_says("post_copy_gone")); /* its start may be under way */
    source_recovers();
    UNIT_TRUE(destination_says("post_copy_gone"));
    all_there();
}

static const char *stream; /* of this host; NULL = none */

int __wrap_net_streams(bool listened, struct json_object **out, struct err *e);
int __wrap_net_stream_break(const char *name, struct err *e);

int __wrap_net_streams(bool listened, struct json_object **out, struct err *e)
{
    (void)listened;
    (void)e;
    *out = json_object_new_array();
    if (stream)
        json_object_array_add(*out, json_object_new_string(stream));
    return 0;
}

int __wrap_net_stream_break(const char *name, struct err *e)
{
    (void)e;
    UNIT_STR(name, stream);
    stream = NULL;
    return 0;
}

UNIT_TEST(
    d_post_copy_half,
    "half a connection is broken, also where a libvirt that was restarted says that it failed")
{
    static const struct virt_job states[] = {{.post_copy = true},
                                             {.post_copy = true, .post_copy_failed = true}};

    for (size_t i = 0; i < ARRAY_LEN(states); i++) {
        destination_left("DESTINATION_PREPARED", ARRIVED);
        virt_fake_samples(w->agent.virt, WORLD_INSTANCE, &states[i], 1);
        stream = "198.51.100.2 49152 198.51.100.1 40000";
        source_recovers();
        UNIT_TRUE(stream != NULL); /* it may have come after the source's look */
        UNIT_EQ(destination_says("post_copy_lost"), i == 1);
        source_recovers();
        UNIT_TRUE(stream == NULL);
        all_there();
        world_close(w);
        w = NULL;
    }
}

UNIT_TEST(d_prepared_failed, "prepared, the source says failed: taken back")
{
    destination_left("DESTINATION_PREPARED", NOBODY);
    source_says("failed", "failed");
    all_gone();
}

UNIT_TEST(d_prepared_cancelled, "prepared, the source says cancelled: taken back")
{
    destination_left("DESTINATION_PREPARED", INCOMING);
    source_says("cancelled", "cancelled");
    all_gone();
}

UNIT_TEST(d_prepared_parked, "prepared, the source is parked: nobody knows, nothing is touched")
{
    destination_left("DESTINATION_PREPARED", INCOMING);
    source_says("parked", "error");
    all_there();
}

UNIT_TEST(d_prepared_silent, "prepared, the source is away: kept, and asked again")
{
    destination_left("DESTINATION_PREPARED", INCOMING);
    source_fails(ERR_TIMEOUT);
    all_there();
}

UNIT_TEST(d_prepared_python, "prepared by a Python source, which has no such method: kept")
{
    destination_left("DESTINATION_PREPARED", NOBODY);
    source_fails(ERR_RPC_VERSION);
    all_there();
}

UNIT_TEST(d_unknown_nobody, "the source knows nothing, and nobody came: taken back")
{
    destination_left("DESTINATION_PREPARED", NOBODY);
    source_fails(ERR_NO_MIGRATION);
    all_gone();
}

UNIT_TEST(d_unknown_paused, "the source knows nothing, a guest waits here: nothing is touched")
{
    destination_left("DESTINATION_PREPARED", INCOMING);
    source_fails(ERR_NO_MIGRATION);
    all_there();
}

UNIT_TEST(d_unknown_runs, "the source knows nothing, the guest runs here: it has arrived")
{
    destination_left("DESTINATION_PREPARED", ARRIVED);
    source_fails(ERR_NO_MIGRATION);
    last_word("destination", "completed");
    UNIT_TRUE(world_has_file(w, WORLD_INSTANCE));
    UNIT_STR(world_state(w, WORLD_MIGRATION, "destination"), "-");
}

/* ---- a source that is nova-compute: Nova's record of the instance tells ---- */

static const char *nova_host, *nova_task; /* NULL host: the instance is gone */

static void nova_says(struct cloud *cloud, struct json_object *context, const char *uuid,
                      cloud_result_fn done, void *aux)
{
    _cleanup_(object_freep) struct object *o = object_new("Instance", "2.7");
    struct err e = ERR_INIT;

    (void)cloud;
    (void)context;
    if (!nova_host) {
        err_set(&e, ERR_NO_INSTANCE, "instance %s is gone", uuid);
        done(aux, NULL, &e);
        return;
    }
    object_set_string(o, "uuid", uuid);
    object_set_string(o, "host", nova_host);
    object_set_string(o, "task_state", nova_task);
    _cleanup_(json_putp) struct json_object *primitive = object_to_json(o);
    done(aux, primitive, NULL);
}

static void nova_compute_left(enum arrival guest, const char *host, const char *task)
{
    static struct cloud_ops ops;

    destination_left("DESTINATION_PREPARED", guest);
    ops = *w->agent.cloud->ops;
    ops.instance_get = nova_says;
    w->agent.cloud->ops = &ops;
    nova_host = host;
    nova_task = task;
    source_fails(ERR_RPC_VERSION);
}

UNIT_TEST(d_nova_migrating, "nova-compute's instance migrates yet: kept")
{
    nova_compute_left(NOBODY, "os-hosta", "migrating");
    all_there();
}

UNIT_TEST(d_nova_stayed, "nova-compute's instance stayed there: taken back")
{
    nova_compute_left(NOBODY, "os-hosta", NULL);
    all_gone();
}

UNIT_TEST(d_nova_gone, "nova-compute's instance is gone: taken back")
{
    nova_compute_left(NOBODY, NULL, NULL);
    all_gone();
}

UNIT_TEST(d_completed, "the source says completed: settled, if it runs here")
{
    destination_left("DESTINATION_HERE", ARRIVED);
    source_says("completed", "completed");
    last_word("destination", "completed");
}

UNIT_TEST(d_completed_paused,
          "the source says completed, but it does not run here: kept, asked again")
{
    destination_left("DESTINATION_PREPARED", INCOMING);
    source_says("completed", "completed");
    all_there();
}

UNIT_TEST(d_failed_runs, "the source says failed, but the guest runs here: parked")
{
    destination_left("DESTINATION_HERE", ARRIVED);
    source_says("failed", "failed");
    UNIT_STR(state(), "DESTINATION_PARKED");
    UNIT_EQ(virt_fake_state(w->agent.virt, WORLD_INSTANCE), VIRT_STATE_RUNNING);
    UNIT_TRUE(world_has_file(w, WORLD_INSTANCE));
}

UNIT_TEST(d_settling, "a settling that was cut off is done when the source asks again")
{
    destination_left("DESTINATION_SETTLING", ARRIVED);
    struct fake_asked *a =
        world_ask(w, RPC_METHOD_post_live_migration_at_destination, world_args("099"));
    world_settle(w);
    UNIT_EQ(a->end, FAKE_REPLIED);
    last_word("destination", "completed");
}

UNIT_TEST(d_asked_while_settling,
          "a source that asks while its own word is acted on is asked to wait")
{
    destination_left("DESTINATION_HERE", ARRIVED);
    struct json_object *account = json_object_new_object();
    json_add_string(account, "phase", "completed");
    fake_rpc_answer(waits(RPC_METHOD_control), account);
    UNIT_STR(state(), "DESTINATION_SETTLING");
    struct fake_asked *a =
        world_ask(w, RPC_METHOD_post_live_migration_at_destination, world_args("099"));
    UNIT_EQ(a->e.code, ERR_TIMEOUT); /* a "no" would park the source */
    world_settle(w);
    last_word("destination", "completed");
}

UNIT_TEST(d_same_request,
          "the request that comes again after the restart is answered from the record")
{
    destination_left("DESTINATION_PREPARED", NOBODY);
    struct fake_asked *a = world_prepare_destination(w);
    UNIT_EQ(a->end, FAKE_REPLIED);
    UNIT_EQ(net_fake_plugged(w->agent.net), 1);
}

UNIT_TEST(d_announces, "ports are armed again: an arrival after the restart is announced")
{
    destination_left("DESTINATION_PREPARED", NOBODY);
    world_add_guest(w, VIRT_STATE_RUNNING);
    virt_fake_event(w->agent.virt, WORLD_INSTANCE, VIRT_EVENT_RESUMED_MIGRATION);
    world_settle(w);
    UNIT_TRUE(net_fake_announced(w->agent.net, WORLD_TAP) > 0);
}

UNIT_TEST(d_key, "the direct line is open again with the key of before")
{
    w = world_open(&(struct world_options){.host = "os-hostb", .switchover = true});
    world_prepare_destination(w);
    char key[SWITCHOVER_KEY_HEX];
    snprintf(key, sizeof(key), "%s", any()->switchover_key);
    world_restart(w);
    struct switchover *other = NULL;
    struct switchover_peer *peer = NULL;
    UNIT_OK(switchover_new(&other, w->agent.loop, "127.0.0.1", 0, NULL, NULL, &unit_err));
    UNIT_OK(switchover_peer_new(other, "127.0.0.1", switchover_port(w->agent.switchover),
                                WORLD_MIGRATION, key, &peer, &unit_err));
    switchover_peer_send(peer, SWITCHOVER_PAUSED);
    WORLD_UNTIL(w, net_fake_announced(w->agent.net, WORLD_TAP) > 0);
    switchover_peer_free(peer);
    switchover_free(other);
}

/* ---- records that cannot be used ---- */

static void record_without(const char *key)
{
    w = world_open(&(struct world_options){.host = "os-hostb"});
    world_prepare_destination(w);
    _cleanup_(json_putp) struct json_object *record =
        world_record(w, WORLD_MIGRATION, "destination");
    json_object_object_del(record, key);
    world_leave_record(w, WORLD_MIGRATION, "destination", record);
    world_restart(w);
    UNIT_STR(state(), "-");
    UNIT_TRUE(world_has_file(w, WORLD_INSTANCE)); /* never guess */
    UNIT_TRUE(world_logged(w, "a journal record is left alone"));
    UNIT_STR(world_state(w, WORLD_MIGRATION, "destination"),
             text_equal(key, "state") ? "-" : "DESTINATION_PREPARED");
    UNIT_TRUE(w->agent.recovered);
    close_world();
}

UNIT_TEST(not_whole, "a record that is not whole is left alone and told, whatever is missing")
{
    static const char *const keys[] = {"version", "state",    "settings",
                                       "context", "instance", "migrate_data"};
    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        record_without(keys[i]);
}

UNIT_TEST(unknown_undo, "an undo step that nobody knows is never guessed at")
{
    w = world_open(&(struct world_options){.host = "os-hostb"});
    world_prepare_destination(w);
    _cleanup_(json_putp) struct json_object *record =
        world_record(w, WORLD_MIGRATION, "destination");
    struct json_object *step = json_object_new_array(), *steps = json_get(record, "undo");
    json_object_array_add(step, json_object_new_string("disk.explode"));
    json_object_array_add(step, NULL);
    json_object_array_add(steps, step);
    world_leave_record(w, WORLD_MIGRATION, "destination", record);
    world_restart(w);
    UNIT_STR(state(), "-");
    UNIT_TRUE(world_logged(w, "disk.explode"));
    UNIT_TRUE(world_has_file(w, WORLD_INSTANCE));
}

UNIT_TEST(same_record, "a migration that is read from its record writes the same record")
{
    w = world_open(&(struct world_options){.host = "os-hostb"});
    world_prepare_destination(w);
    _cleanup_(json_putp) struct json_object *record =
        world_record(w, WORLD_MIGRATION, "destination");
    struct migration *m = NULL;
    UNIT_OK(migration_from_record(&w->agent, record, &m, &unit_err));
    _cleanup_(json_putp) struct json_object *again = migration_to_record(m);
    UNIT_TRUE(json_same(record, again));
    migration_forget(m);
}
