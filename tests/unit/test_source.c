/* SPDX-License-Identifier: Apache-2.0 */
/* The source's side of a migration, from the request to the end. */
#include "tests/unit/agent_world.h"

#include "agent/host_pair.h"
#include "agent/measure_early.h"
#include "lib/clock.h"
#include "lib/fault.h"
#include "lib/json.h"

static struct world *w;

static void open_world(void)
{
    w = world_open(NULL);
}

static void close_world(void)
{
    world_close(w);
    w = NULL;
}
UNIT_FIXTURE(open_world, close_world)

static void reopen(const struct world_options *options)
{
    world_close(w);
    w = world_open(options);
}

/* ---- shorthand ---- */

static struct migration *source(void)
{
    return world_migration(w, MIGRATION_SOURCE);
}

static const char *state(void)
{
    return source() ? machine_state_name(source()->state) : "-";
}

static struct fake_call *waits(enum rpc_method_id method)
{
    return fake_rpc_waiting(w->agent.rpc, method);
}

static unsigned asked(enum rpc_method_id method)
{
    return fake_rpc_count(w->agent.rpc, method);
}

static unsigned did(const char *op)
{
    return virt_fake_count(w->agent.virt, op);
}

static void start(void)
{
    world_add_guest(w, VIRT_STATE_RUNNING);
    world_begin_source(w);
    world_run_source(w);
}

static void finish(enum virt_outcome outcome, const char *text)
{
    virt_fake_finish(w->agent.virt, WORLD_INSTANCE, outcome, text);
    WORLD_UNTIL(w, !source() || source()->state != MACHINE_SOURCE_RUNNING);
    world_settle(w);
}

/* The destination confirms or takes back, whatever it is asked for. */
static void confirm(void)
{
    fake_rpc_answer(waits(RPC_METHOD_post_live_migration_at_destination), NULL);
    world_settle(w);
}

static void take_back(void)
{
    fake_rpc_answer(waits(RPC_METHOD_rollback_live_migration_at_destination), NULL);
    world_settle(w);
}

static void words_are(const char *words)
{
    _cleanup_(str_freep) char *text = world_words(w, "source");

    UNIT_STR(text, words);
}

/* Nothing is left of the migration here, and the guest runs. */
static void ended_here(void)
{
    UNIT_STR(world_state(w, WORLD_MIGRATION, "source"), "-");
    UNIT_TRUE(source() == NULL);
    UNIT_EQ(w->agent.running_out, 0);
    UNIT_EQ(virt_fake_state(w->agent.virt, WORLD_INSTANCE), VIRT_STATE_RUNNING);
}

static void abort_it(void)
{
    struct json_object *args = world_args("030"), *o = json_object_new_object();

    json_add(o, "instance", json_object_get(json_get(args, "instance")));
    json_add_int(o, "migration_id", 1);
    json_object_put(args);
    struct fake_asked *a = world_ask(w, RPC_METHOD_live_migration_abort, o);
    UNIT_EQ(a->end, FAKE_REPLIED);
    world_settle(w);
}

static struct json_object *force_args(void)
{
    struct json_object *args = world_args("030"), *o = json_object_new_object();

    json_add(o, "instance", json_object_get(json_get(args, "instance")));
    json_object_put(args);
    return o;
}

static struct fake_asked *force_it(void)
{
    struct fake_asked *a = world_ask(w, RPC_METHOD_live_migration_force_complete, force_args());

    world_settle(w);
    return a;
}

static void event(enum virt_event what)
{
    virt_fake_event(w->agent.virt, WORLD_INSTANCE, what);
    world_settle(w);
}

#define MIB (INT64_C(1) << 20)

/* A running job with so much memory left of 256 MiB. */
static struct virt_job job_with(int64_t remaining_mib)
{
    return (struct virt_job){.active = true,
                             .memory_total = 256 * MIB,
                             .memory_remaining = remaining_mib * MIB,
                             .memory_processed = (256 - remaining_mib) * MIB,
                             .memory_bps = 64 * MIB,
                             .dirty_rate = 8 * MIB,
                             .iteration = 2,
                             .downtime_ms = -1};
}

static void sample_is(struct virt_job job)
{
    virt_fake_samples(w->agent.virt, WORLD_INSTANCE, &job, 1);
}

/* Libvirt has begun, and it was seen. */
static void start_copy(void)
{
    start();
    sample_is(job_with(128));
    world_pass(w, USEC_PER_SEC / 5, USEC_PER_SEC / 10);
}

/* ---- the happy path ---- */

UNIT_TEST(moves, "a guest moves; the words are Nova's, the journal is before each question")
{
    world_add_guest(w, VIRT_STATE_RUNNING);
    struct fake_asked *request = world_begin_source(w);
    UNIT_EQ(request->end, FAKE_FREED);
    UNIT_TRUE(world_place(w, "call pre_live_migration os-hostb [SOURCE_PREPARING]") != SIZE_MAX);
    world_run_source(w);
    UNIT_STR(world_state(w, WORLD_MIGRATION, "source"), "SOURCE_RUNNING");
    UNIT_EQ(w->agent.running_out, 1);
    finish(VIRT_OUTCOME_COMPLETED, NULL);
    UNIT_TRUE(
        world_place(w, "bindings activate os-hostb") <
        world_place(w, "call post_live_migration_at_destination os-hostb [SOURCE_FINISHING]"));
    confirm();
    words_are("queued preparing running completed");
    UNIT_STR(world_state(w, WORLD_MIGRATION, "source"), "-");
    UNIT_TRUE(source() == NULL);
    UNIT_EQ(w->agent.running_out, 0);
    UNIT_EQ(world_count(w, "allocations drop"), 1);
    UNIT_EQ(world_count(w, "event compute_live_migration done"), 1);
    UNIT_EQ(asked(RPC_METHOD_rollback_live_migration_at_destination), 0);
    UNIT_EQ(did("resume"), 0);
}

/* ---- port bindings ---- */

UNIT_TEST(bindings_at_the_pause, "the bindings are activated when the guest stops, and only once")
{
    start();
    UNIT_EQ(world_count(w, "bindings activate os-hostb"), 0);
    event(VIRT_EVENT_PAUSED_MIGRATION);
    UNIT_EQ(world_count(w, "bindings activate os-hostb"), 1);
    finish(VIRT_OUTCOME_COMPLETED, NULL);
    confirm();
    UNIT_EQ(world_count(w, "bindings activate os-hostb"), 1);
    UNIT_EQ(world_count(w, "bindings activate os-hosta"), 0);
    words_are("queued preparing running completed");
}

UNIT_TEST(bindings_return,
          "a failed switch-over activates the source's bindings, then the others go")
{
    start();
    event(VIRT_EVENT_PAUSED_MIGRATION);
    event(VIRT_EVENT_RESUMED);
    finish(VIRT_OUTCOME_FAILED, "no");
    take_back();
    UNIT_EQ(world_count(w, "bindings activate os-hosta"), 1);
    UNIT_TRUE(world_place(w, "bindings activate os-hosta") <
              world_place(w, "bindings delete os-hostb"));
    words_are("queued preparing running failed");
    world_pass(w, 3000000, 500000); /* the network that is turned back is told of for a moment */
    ended_here();
}

UNIT_TEST(bindings_again, "an activation that failed is tried again before the migration ends")
{
    start();
    w->bindings_fail = 2;
    event(VIRT_EVENT_PAUSED_MIGRATION);
    finish(VIRT_OUTCOME_COMPLETED, NULL);
    UNIT_EQ(world_count(w, "bindings activate os-hostb"), 2);
    confirm();
    world_pass(w, 2000000, 500000);
    UNIT_EQ(world_count(w, "bindings activate os-hostb"), 3);
    words_are("queued preparing running completed");
}

UNIT_TEST(bindings_never, "a Neutron that never answers does not hold a migration up for ever")
{
    start();
    w->bindings_fail = 1000;
    finish(VIRT_OUTCOME_COMPLETED, NULL);
    confirm();
    UNIT_STR(world_state(w, WORLD_MIGRATION, "source"), "SOURCE_CLEANING");
    world_pass(w, INT64_C(400000000), 5000000);
    words_are("queued preparing running completed");
    UNIT_TRUE(source() == NULL);
}

UNIT_TEST(host_saved, "Nova's record has the new host before the destination's word")
{
    start();
    finish(VIRT_OUTCOME_COMPLETED, NULL);
    UNIT_EQ(world_count(w, "instance saved on os-hostb"), 1);
    UNIT_TRUE(waits(RPC_METHOD_post_live_migration_at_destination) != NULL);
    confirm();
}

UNIT_TEST(libvirt_is_told, "libvirt is told where to, over what, and the destination's interfaces")
{
    start();
    const struct virt_migration *v = virt_fake_migration(w->agent.virt, WORLD_INSTANCE);
    UNIT_STR(v->destination_uri, "qemu+tcp://198.51.100.12/system");
    UNIT_STR(v->migrate_uri, "tcp://198.51.100.12");
    UNIT_HAS(v->destination_xml, WORLD_TAP);
    UNIT_TRUE(!v->block_migration); /* it has no disk to copy */
    UNIT_TRUE(!v->post_copy && v->auto_converge);
}

UNIT_TEST(files_after_word, "files go only after the destination's word is in the journal")
{
    world_add_file(w, "disk");
    start();
    finish(VIRT_OUTCOME_COMPLETED, NULL);
    UNIT_TRUE(world_has_file(w, WORLD_INSTANCE "/disk"));
    UNIT_OK(fault_arm("storage.remove=hang", &unit_err));
    fake_rpc_answer(waits(RPC_METHOD_post_live_migration_at_destination), NULL);
    WORLD_UNTIL(w, text_equal(world_state(w, WORLD_MIGRATION, "source"), "SOURCE_CLEANING"));
    UNIT_TRUE(world_has_file(w, WORLD_INSTANCE "/disk"));
    fault_disarm_all();
    world_settle(w);
    UNIT_TRUE(!world_has_file(w, WORLD_INSTANCE));
    words_are("queued preparing running completed");
}

static void run_with_storage(bool block, bool shared_path, bool shared_block)
{
    struct json_object *args = world_args("030"), *answer = world_result("063");

    world_add_file(w, "disk");
    world_add_guest(w, VIRT_STATE_RUNNING);
    json_add(args, "block_migration", json_object_new_boolean(block));
    json_add_bool(world_data(answer, NULL), "is_shared_instance_path", shared_path);
    json_add_bool(world_data(answer, NULL), "is_shared_block_storage", shared_block);
    world_ask(w, RPC_METHOD_live_migration, args);
    world_settle(w);
    fake_rpc_answer(waits(RPC_METHOD_pre_live_migration), answer);
    world_settle(w);
    UNIT_TRUE(virt_fake_wait_migrating(w->agent.virt, WORLD_INSTANCE, 5000));
    finish(VIRT_OUTCOME_COMPLETED, NULL);
    confirm();
    words_are("queued preparing running completed");
    UNIT_TRUE(world_has_file(w, WORLD_INSTANCE "/disk"));
}

UNIT_TEST(shared_path_stays, "files on a shared instances path are never removed")
{
    run_with_storage(true, true, true);
}

UNIT_TEST(shared_block_stays, "files are not removed when block storage is shared")
{
    run_with_storage(true, false, true);
}

UNIT_TEST(no_block_stays, "files are not removed when no block migration copied them")
{
    run_with_storage(false, false, false);
}

UNIT_TEST(clean_up_fails, "what could not be removed is told, the migration is completed")
{
    world_add_file(w, "disk");
    start();
    finish(VIRT_OUTCOME_COMPLETED, NULL);
    UNIT_OK(fault_arm("storage.remove=error", &unit_err));
    confirm();
    words_are("queued preparing running");
    world_pass(w, 300 * USEC_PER_SEC, 3 * USEC_PER_SEC);
    words_are("queued preparing running completed");
    UNIT_TRUE(world_logged(w, "something is left on os-hosta"));
}

UNIT_TEST(clean_up_again, "what could not be removed at once is removed a moment later")
{
    world_add_file(w, "disk");
    start();
    finish(VIRT_OUTCOME_COMPLETED, NULL);
    UNIT_OK(fault_arm("storage.remove=error@1", &unit_err));
    confirm();
    UNIT_TRUE(world_has_file(w, WORLD_INSTANCE "/disk"));
    world_pass(w, 3 * USEC_PER_SEC, USEC_PER_SEC);
    words_are("queued preparing running completed");
    UNIT_TRUE(!world_has_file(w, WORLD_INSTANCE "/disk"));
}

UNIT_TEST(forgotten_again, "a journal record that could not be removed is removed later")
{
    start();
    finish(VIRT_OUTCOME_COMPLETED, NULL);
    UNIT_OK(fault_arm("journal.remove=error@1", &unit_err));
    confirm();
    UNIT_STR(world_state(w, WORLD_MIGRATION, "source"), "SOURCE_CLEANING");
    world_pass(w, 10 * USEC_PER_SEC, 5 * USEC_PER_SEC);
    UNIT_STR(world_state(w, WORLD_MIGRATION, "source"), "-");
    UNIT_TRUE(source() == NULL);
}

UNIT_TEST(still_here, "files stay when the guest runs here although the destination says it came")
{
    world_add_file(w, "disk");
    start();
    finish(VIRT_OUTCOME_COMPLETED, NULL);
    world_add_guest(w, VIRT_STATE_RUNNING);
    confirm();
    UNIT_TRUE(world_has_file(w, WORLD_INSTANCE "/disk"));
    UNIT_EQ(did("destroy"), 0);
    UNIT_TRUE(world_logged(w, "runs here although the destination says that it runs there"));
}

static int change(const char *key, struct json_object *value, struct err *e)
{
    _cleanup_(json_putp) struct json_object *changes = json_object_new_object();

    json_add(changes, key, value);
    int result = source_change_settings(source(), changes, e);
    world_settle(w);
    return result;
}

/* ---- the queue ---- */

#define WORLD_THIRD "55555555-2222-4333-8444-555555555555"

static struct json_object *second_args(void)
{
    struct json_object *args = world_args("030");

    json_add_string(world_data(args, "migration"), "uuid", WORLD_OTHER);
    json_add_string(world_data(args, "instance"), "uuid", "22222222-2222-4333-8444-555555555555");
    return args;
}

UNIT_TEST(place, "a second migration waits for a place and gets it when the first one ends")
{
    start();
    virt_fake_add(w->agent.virt, "22222222-2222-4333-8444-555555555555", "other", NULL,
                  VIRT_STATE_RUNNING);
    world_ask(w, RPC_METHOD_live_migration, second_args());
    world_settle(w);
    UNIT_STR(world_state(w, WORLD_OTHER, "source"), "SOURCE_ACCEPTED");
    UNIT_EQ(asked(RPC_METHOD_pre_live_migration), 1);
    words_are("queued preparing running queued");
    finish(VIRT_OUTCOME_FAILED, "the destination went away");
    UNIT_EQ(asked(RPC_METHOD_pre_live_migration), 1);
    take_back();
    UNIT_EQ(asked(RPC_METHOD_pre_live_migration), 2);
    UNIT_EQ(w->agent.running_out, 1);
}

UNIT_TEST(place_after_move, "a guest that has moved gives its place away, confirmed or not yet")
{
    start();
    virt_fake_add(w->agent.virt, "22222222-2222-4333-8444-555555555555", "other", NULL,
                  VIRT_STATE_RUNNING);
    world_ask(w, RPC_METHOD_live_migration, second_args());
    finish(VIRT_OUTCOME_COMPLETED, NULL);
    WORLD_UNTIL(w, asked(RPC_METHOD_pre_live_migration) == 2);
    UNIT_EQ(w->agent.running_out, 1);
    confirm();
    UNIT_EQ(w->agent.running_out, 1);
}

static void second(void)
{
    virt_fake_add(w->agent.virt, "22222222-2222-4333-8444-555555555555", "other", NULL,
                  VIRT_STATE_RUNNING);
    world_ask(w, RPC_METHOD_live_migration, second_args());
    world_settle(w);
}

UNIT_TEST(largest_first, "with live_migration_order largest, the largest that waits is next")
{
    reopen(&(struct world_options){.settings = {"libvirt.live_migration_order", "largest"}});
    start();
    second();
    struct json_object *args = second_args();
    virt_fake_add(w->agent.virt, "33333333-2222-4333-8444-555555555555", "third", NULL,
                  VIRT_STATE_RUNNING);
    json_add_string(world_data(args, "migration"), "uuid", WORLD_THIRD);
    json_add_string(world_data(args, "instance"), "uuid", "33333333-2222-4333-8444-555555555555");
    json_add_int(world_data(world_data(args, "instance"), "flavor"), "memory_mb", 4096);
    world_ask(w, RPC_METHOD_live_migration, args);
    world_settle(w);
    finish(VIRT_OUTCOME_FAILED, "the destination went away");
    take_back();
    UNIT_STR(world_state(w, WORLD_OTHER, "source"), "SOURCE_ACCEPTED");
    UNIT_STR(world_state(w, WORLD_THIRD, "source"), "SOURCE_PREPARING");
}

/* ---- the host's bandwidth ---- */

static void open_shared(void)
{
    reopen(&(struct world_options){.settings = {"libvirt.live_migration_host_bandwidth", "100",
                                                "DEFAULT.max_concurrent_live_migrations", "2"}});
    start();
}

UNIT_TEST(shared_bandwidth, "the host's bandwidth is shared anew when a migration comes or goes")
{
    open_shared();
    UNIT_EQ(virt_fake_migration(w->agent.virt, WORLD_INSTANCE)->bandwidth_mib, 100);
    second();
    UNIT_TRUE(world_hypervisor_was_told(w, "set_bandwidth " WORLD_INSTANCE " 50"));
    UNIT_TRUE(world_logged(w, "100 MiB/s, shared by 2, newest first: 50, 50"));
    migration_find(&w->agent, MIGRATION_SOURCE, WORLD_OTHER)->abort_requested = true;
    fake_rpc_fail(waits(RPC_METHOD_pre_live_migration), ERR_REMOTE, "no room");
    world_settle(w);
    take_back();
    UNIT_TRUE(world_hypervisor_was_told(w, "set_bandwidth " WORLD_INSTANCE " 100"));
}

UNIT_TEST(shared_early, "a share that changed before libvirt was seen at work is told once more")
{
    open_shared();
    second();
    UNIT_EQ(did("set_bandwidth"), 1);
    struct virt_job job = job_with(128);
    virt_fake_samples(w->agent.virt, WORLD_INSTANCE, &job, 1);
    world_pass(w, 2000000, 500000);
    UNIT_EQ(did("set_bandwidth"), 2);
}

UNIT_TEST(shared_setting, "an own limit below the share is kept, and the rest is the others'")
{
    open_shared();
    second();
    UNIT_OK(change("bandwidth_mib", json_object_new_int(20), &unit_err));
    UNIT_TRUE(world_hypervisor_was_told(w, "set_bandwidth " WORLD_INSTANCE " 20"));
    UNIT_EQ(migration_find(&w->agent, MIGRATION_SOURCE, WORLD_OTHER)->bandwidth_mib, 80);
    UNIT_OK(change("bandwidth_mib", json_object_new_int(70), &unit_err));
    UNIT_TRUE(world_hypervisor_was_told(w, "set_bandwidth " WORLD_INSTANCE " 50"));
}

UNIT_TEST(shared_disks,
          "a disk copy keeps its rate, and gives what it need not when memory's turn is")
{
    open_shared();
    source()->disks_bandwidth_mib = 100; /* as if it copied disks */
    second();
    UNIT_EQ(did("set_bandwidth"), 0);
    UNIT_EQ(migration_find(&w->agent, MIGRATION_SOURCE, WORLD_OTHER)->bandwidth_mib, 25);
    agent_virt_iteration(&w->agent, WORLD_INSTANCE, 1, clock_monotonic_us());
    world_settle(w);
    UNIT_TRUE(world_hypervisor_was_told(w, "set_bandwidth " WORLD_INSTANCE " 50"));
    UNIT_EQ(migration_find(&w->agent, MIGRATION_SOURCE, WORLD_OTHER)->bandwidth_mib, 50);
}

UNIT_TEST(shared_forced, "a guest that was paused by force is not limited again")
{
    open_shared();
    sample_is(job_with(128));
    world_pass(w, USEC_PER_SEC / 5, USEC_PER_SEC / 10);
    force_it();
    UNIT_TRUE(world_hypervisor_was_told(w, "set_bandwidth " WORLD_INSTANCE " 0"));
    second();
    UNIT_TRUE(!world_hypervisor_was_told(w, "set_bandwidth " WORLD_INSTANCE " 50"));
}

/* ---- requests that are refused or come again ---- */

UNIT_TEST(repeated, "a request that comes again does nothing twice")
{
    start();
    struct fake_asked *again = world_begin_source(w);
    UNIT_EQ(again->end, FAKE_FREED);
    UNIT_EQ(asked(RPC_METHOD_pre_live_migration), 1);
    UNIT_EQ(did("migrate"), 1);
    words_are("queued preparing running");
}

UNIT_TEST(busy, "a second migration of an instance is refused, recorded, and hurts nothing")
{
    start();
    struct json_object *args = world_args("030");
    json_add_string(world_data(args, "migration"), "uuid", WORLD_OTHER);
    struct fake_asked *other = world_ask(w, RPC_METHOD_live_migration, args);
    world_settle(w);
    UNIT_EQ(other->end, FAKE_FAILED);
    UNIT_HAS(other->e.text, "migration " WORLD_MIGRATION " is running on os-hosta already");
    words_are("queued preparing running error");
    UNIT_EQ(world_count(w, "fault instance " WORLD_INSTANCE), 1);
    UNIT_STR(world_state(w, WORLD_OTHER, "source"), "-");
    UNIT_STR(state(), "SOURCE_RUNNING");
}

UNIT_TEST(to_itself, "a migration to this very host is refused")
{
    struct json_object *args = world_args("030");
    json_add_string(args, "dest", "os-hosta");
    struct fake_asked *a = world_ask(w, RPC_METHOD_live_migration, args);
    world_settle(w);
    UNIT_EQ(a->end, FAKE_FAILED);
    words_are("error");
    UNIT_HAS(a->e.text, "destination and source are the same");
}

UNIT_TEST(draining, "an agent that stops takes no migration")
{
    w->agent.draining = true;
    struct fake_asked *a = world_begin_source(w);
    UNIT_EQ(a->end, FAKE_FAILED);
    words_are("error");
}

UNIT_TEST(held, "requests wait until the journal was looked at")
{
    world_add_guest(w, VIRT_STATE_RUNNING);
    w->agent.recovered = false;
    struct fake_asked *a = world_begin_source(w);
    UNIT_EQ(a->end, FAKE_OPEN);
    recovery_start(&w->agent);
    world_settle(w);
    UNIT_EQ(a->end, FAKE_FREED);
    UNIT_EQ(asked(RPC_METHOD_pre_live_migration), 1);
}

/* ---- the journal fails ---- */

UNIT_TEST(journal_at_first, "without a journal a migration is refused and nothing is left")
{
    world_add_guest(w, VIRT_STATE_RUNNING);
    UNIT_OK(fault_arm("journal.write=error", &unit_err));
    struct fake_asked *a = world_begin_source(w);
    UNIT_EQ(a->end, FAKE_FREED);
    words_are("error");
    ended_here();
    UNIT_EQ(world_count(w, "fault "), 1);
}

UNIT_TEST(journal_half_written, "a record that may be on the disk goes when it was refused")
{
    world_add_guest(w, VIRT_STATE_RUNNING);
    UNIT_OK(fault_arm("journal.written=error", &unit_err));
    world_begin_source(w);
    words_are("error");
    ended_here();
}

UNIT_TEST(journal_at_prepare, "a journal that fails later takes the migration back, not the guest")
{
    world_add_guest(w, VIRT_STATE_RUNNING);
    UNIT_OK(fault_arm("journal.write=error@2", &unit_err));
    world_begin_source(w);
    UNIT_EQ(asked(RPC_METHOD_pre_live_migration), 0);
    words_are("queued preparing error");
    ended_here();
}

UNIT_TEST(journal_at_run, "libvirt is not called when the journal cannot say so")
{
    world_add_guest(w, VIRT_STATE_RUNNING);
    world_begin_source(w);
    UNIT_OK(fault_arm("journal.write=error", &unit_err)); /* for good: the disk is full */
    fake_rpc_answer(waits(RPC_METHOD_pre_live_migration), world_result("063"));
    WORLD_UNTIL(w, waits(RPC_METHOD_rollback_live_migration_at_destination));
    UNIT_EQ(did("migrate"), 0);
    take_back();
    words_are("queued preparing running failed");
    ended_here();
}

UNIT_TEST(writers_wait, "two writers of one record run one after the other, in order")
{
    reopen(&(struct world_options){.threads = 4});
    world_add_guest(w, VIRT_STATE_RUNNING);
    world_ask(w, RPC_METHOD_live_migration, world_args("030"));
    struct migration *m = source();
    UNIT_OK(fault_arm("journal.fsync=hang", &unit_err));
    struct migration_job job = {.name = "second"};
    migration_submit(m, &job, false, true);
    UNIT_TRUE(m->writers_waiting != NULL);
    fault_disarm_all();
    WORLD_UNTIL(w, !m->writer_runs && waits(RPC_METHOD_pre_live_migration));
    UNIT_STR(world_state(w, WORLD_MIGRATION, "source"), "SOURCE_PREPARING");
}

/* ---- before libvirt's call ---- */

UNIT_TEST(guest_away, "a guest that is not here ends in error before the destination is asked")
{
    world_begin_source(w);
    UNIT_EQ(asked(RPC_METHOD_pre_live_migration), 0);
    UNIT_EQ(asked(RPC_METHOD_rollback_live_migration_at_destination), 0);
    words_are("queued preparing error");
    UNIT_TRUE(source() == NULL);
}

UNIT_TEST(guest_off, "a guest that is shut off is refused with its state")
{
    world_add_guest(w, VIRT_STATE_SHUTOFF);
    world_begin_source(w);
    words_are("queued preparing error");
    UNIT_TRUE(world_place(w, "event compute_live_migration failed: instance " WORLD_INSTANCE
                             " is shutoff") != SIZE_MAX);
}

static void destination_fails(enum err_code code)
{
    world_add_guest(w, VIRT_STATE_RUNNING);
    world_begin_source(w);
    fake_rpc_fail(waits(RPC_METHOD_pre_live_migration), code, "scripted");
    world_settle(w);
    UNIT_TRUE(waits(RPC_METHOD_rollback_live_migration_at_destination) != NULL);
    UNIT_EQ(did("migrate"), 0);
    UNIT_EQ(world_count(w, "bindings delete os-hostb"), 1);
    UNIT_EQ(world_count(w, "allocations revert"), 1);
}

UNIT_TEST(destination_refuses, "a destination that refuses ends in error and is told to take back")
{
    destination_fails(ERR_NO_SPACE);
    take_back();
    words_are("queued preparing error");
    UNIT_TRUE(world_place(w, "event compute_live_migration failed: pre_live_migration on "
                             "os-hostb: scripted") != SIZE_MAX);
    ended_here();
}

UNIT_TEST(destination_dead, "a dead destination ends in error, also when it cannot be told")
{
    destination_fails(ERR_TIMEOUT);
    fake_rpc_fail(waits(RPC_METHOD_rollback_live_migration_at_destination), ERR_UNREACHABLE,
                  "no such queue");
    world_settle(w);
    words_are("queued preparing error");
    ended_here();
}

UNIT_TEST(answer_unreadable, "an answer that is no migrate data is a failure of the destination")
{
    world_add_guest(w, VIRT_STATE_RUNNING);
    world_begin_source(w);
    fake_rpc_answer(waits(RPC_METHOD_pre_live_migration), json_object_new_int(7));
    world_settle(w);
    take_back();
    words_are("queued preparing error");
    ended_here();
}

UNIT_TEST(fence,
          "the question and the rollback carry the migration, so the other side has its fence")
{
    destination_fails(ERR_TIMEOUT);
    const enum rpc_method_id methods[] = {RPC_METHOD_pre_live_migration,
                                          RPC_METHOD_rollback_live_migration_at_destination};
    for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
        struct fake_call *call = fake_rpc_last(w->agent.rpc, methods[i]);
        struct json_object *migration =
            json_get(world_data(call->args, "migrate_data"), "migration");
        UNIT_STR(json_get_string(world_data(migration, NULL), "uuid", ""), WORLD_MIGRATION);
    }
}

/* What the destination is told of the port at the source. */
static const char *unwired_here(bool unwired)
{
    world_add_guest(w, VIRT_STATE_RUNNING);
    net_fake_set_unwired(w->agent.net, WORLD_TAP, unwired);
    world_begin_source(w);
    struct fake_call *call = waits(RPC_METHOD_pre_live_migration);
    struct json_object *ports =
        json_get(world_data(call->args, "migrate_data"), "computed_unwired");
    return ports ? json_object_to_json_string_ext(ports, JSON_C_TO_STRING_PLAIN) : NULL;
}

UNIT_TEST(tells_unwired, "the destination is told which ports have no way here")
{
    UNIT_STR(unwired_here(true), "[\"" WORLD_PORT "\"]");
    close_world();
    open_world();
    UNIT_STR(unwired_here(false), "[]");
}

UNIT_TEST(xml_fails, "without the destination's XML nothing is started")
{
    world_add_guest(w, VIRT_STATE_RUNNING);
    virt_fake_fail(w->agent.virt, "migratable_xml", ERR_HYPERVISOR, "libvirt is away", 1);
    world_begin_source(w);
    fake_rpc_answer(waits(RPC_METHOD_pre_live_migration), world_result("063"));
    world_settle(w);
    take_back();
    UNIT_EQ(did("migrate"), 0);
    words_are("queued preparing failed");
    ended_here();
}

/* ---- ports ---- */

/* Recorded, with a port whose backend tells when it is plugged. */
static void begin_with_hybrid_port(void)
{
    struct json_object *args = world_args("030"), *answer = world_result("063");
    static const char details[] = "{\"ovs_hybrid_plug\": true}";

    world_add_guest(w, VIRT_STATE_RUNNING);
    struct json_object *asked_vifs = json_get(world_data(args, "migrate_data"), "vifs");
    struct json_object *told_vifs = json_get(world_data(answer, NULL), "vifs");
    json_add_string(world_data(json_object_array_get_idx(asked_vifs, 0), NULL), "vif_details_json",
                    details);
    json_add_string(world_data(json_object_array_get_idx(told_vifs, 0), NULL), "vif_details_json",
                    details);
    world_ask(w, RPC_METHOD_live_migration, args);
    world_settle(w);
    fake_rpc_answer(waits(RPC_METHOD_pre_live_migration), answer);
    world_settle(w);
}

static void tell_plugged(void)
{
    struct json_object *args = json_object_new_object(), *events = json_object_new_array();
    struct object *o = object_new("InstanceExternalEvent", "1.5");
    struct json_object *recorded = world_args("030"), *instances = json_object_new_array();

    object_set_string(o, "instance_uuid", WORLD_INSTANCE);
    object_set_string(o, "name", "network-vif-plugged");
    object_set_string(o, "status", "completed");
    object_set_string(o, "tag", "9cf193f1-870b-4829-8081-1945ddc3e3fc");
    json_object_array_add(events, object_to_json(o));
    object_free(o);
    json_object_array_add(instances, json_object_get(json_get(recorded, "instance")));
    json_object_put(recorded);
    json_add(args, "instances", instances);
    json_add(args, "events", events);
    world_ask(w, RPC_METHOD_external_instance_event, args);
    world_settle(w);
}

UNIT_TEST(ports_plugged, "libvirt is called when the awaited ports are plugged, not before")
{
    begin_with_hybrid_port();
    UNIT_STR(state(), "SOURCE_WAITING_VIFS");
    UNIT_EQ(did("migrate"), 0);
    tell_plugged();
    UNIT_TRUE(virt_fake_wait_migrating(w->agent.virt, WORLD_INSTANCE, 5000));
    UNIT_STR(state(), "SOURCE_RUNNING");
}

UNIT_TEST(ports_late, "ports that are not plugged in time end the migration")
{
    begin_with_hybrid_port();
    world_pass(w, 301 * USEC_PER_SEC, 301 * USEC_PER_SEC);
    take_back();
    words_are("queued preparing error");
    UNIT_TRUE(world_place(w, "event compute_live_migration failed: no network-vif-plugged event "
                             "for 1 port(s) within 300 s") != SIZE_MAX);
    ended_here();
}

UNIT_TEST(ports_not_fatal, "late ports are no failure when vif_plugging_is_fatal is off")
{
    reopen(&(struct world_options){.settings = {"DEFAULT.vif_plugging_is_fatal", "false"}});
    begin_with_hybrid_port();
    world_pass(w, 301 * USEC_PER_SEC, 301 * USEC_PER_SEC);
    UNIT_TRUE(virt_fake_wait_migrating(w->agent.virt, WORLD_INSTANCE, 5000));
}

/* ---- abort ---- */

UNIT_TEST(abort_queued, "an abort of a queued one ends it; the destination hears nothing")
{
    reopen(&(struct world_options){.settings = {"DEFAULT.max_concurrent_live_migrations", "1"}});
    w->agent.running_out = 1; /* somebody else's */
    world_add_guest(w, VIRT_STATE_RUNNING);
    world_begin_source(w);
    UNIT_STR(state(), "SOURCE_QUEUED");
    abort_it();
    UNIT_EQ(asked(RPC_METHOD_rollback_live_migration_at_destination), 0);
    w->agent.running_out = 0;
    words_are("queued cancelled");
    ended_here();
}

UNIT_TEST(abort_looking,
          "an abort before the destination was asked ends it; the destination hears nothing")
{
    reopen(&(struct world_options){.threads = 4});
    virt_fake_hang(w->agent.virt, "describe", true);
    world_add_guest(w, VIRT_STATE_RUNNING);
    world_begin_source(w);
    WORLD_UNTIL(w, text_equal(state(), "SOURCE_PREPARING"));
    UNIT_OK(source_abort(source(), &unit_err));
    UNIT_STR(state(), "SOURCE_ROLLING_BACK");
    virt_fake_hang(w->agent.virt, "describe", false);
    virt_fake_set_memory(w->agent.virt, 1, 1);
    WORLD_UNTIL(w, !source());
    UNIT_EQ(asked(RPC_METHOD_pre_live_migration), 0);
    UNIT_EQ(asked(RPC_METHOD_rollback_live_migration_at_destination), 0);
    words_are("queued preparing cancelled");
    ended_here();
}

UNIT_TEST(abort_preparing,
          "an abort while a destination that may not be ours prepares is done when it answers")
{
    reopen(&(struct world_options){.settings = {"agent.control_plane", "nova"}});
    world_add_guest(w, VIRT_STATE_RUNNING);
    world_begin_source(w);
    abort_it();
    UNIT_OK(source_abort(source(), &unit_err)); /* once more: it is asked for already */
    UNIT_STR(state(), "SOURCE_PREPARING");
    UNIT_EQ(asked(RPC_METHOD_rollback_live_migration_at_destination), 0);
    fake_rpc_answer(waits(RPC_METHOD_pre_live_migration), world_result("063"));
    world_settle(w);
    take_back();
    UNIT_EQ(did("migrate"), 0);
    words_are("queued preparing cancelled");
    ended_here();
}

UNIT_TEST(abort_calls_off,
          "an abort while a destination of ours prepares calls that off; its refusal is no failure")
{
    reopen(&(struct world_options){.settings = {"agent.control_plane", "nova"}});
    host_pair_answered(&w->agent, "os-hostb", true);
    world_add_guest(w, VIRT_STATE_RUNNING);
    world_begin_source(w);
    abort_it();
    UNIT_OK(source_abort(source(), &unit_err));
    UNIT_STR(state(), "SOURCE_PREPARING");
    UNIT_EQ(asked(RPC_METHOD_rollback_live_migration_at_destination), 1);
    take_back();
    fake_rpc_fail(waits(RPC_METHOD_pre_live_migration), ERR_MIGRATION,
                  "the source took the migration back");
    world_settle(w);
    UNIT_TRUE(source()->message == NULL);
    take_back();
    UNIT_EQ(did("migrate"), 0);
    words_are("queued preparing cancelled");
    ended_here();
}

UNIT_TEST(abort_ports, "an abort while ports are awaited is done at once")
{
    begin_with_hybrid_port();
    abort_it();
    take_back();
    words_are("queued preparing cancelled");
    ended_here();
}

UNIT_TEST(abort_starting, "an abort while libvirt's call is made ready is done at once")
{
    reopen(&(struct world_options){.threads = 4});
    world_add_guest(w, VIRT_STATE_RUNNING);
    world_begin_source(w);
    WORLD_UNTIL(w, waits(RPC_METHOD_pre_live_migration));
    virt_fake_hang(w->agent.virt, "migratable_xml", true);
    fake_rpc_answer(waits(RPC_METHOD_pre_live_migration), world_result("063"));
    WORLD_UNTIL(w, text_equal(state(), "SOURCE_STARTING"));
    struct err e = ERR_INIT;
    UNIT_OK(source_abort(source(), &e));
    WORLD_UNTIL(w, waits(RPC_METHOD_rollback_live_migration_at_destination));
    take_back();
    WORLD_UNTIL(w, !source());
    virt_fake_hang(w->agent.virt, "migratable_xml", false);
    /* the fake's waiters look when anything changes */
    virt_fake_set_memory(w->agent.virt, 1, 1);
    world_settle(w);
    UNIT_EQ(did("migrate"), 0);
    words_are("queued preparing cancelled");
    ended_here();
}

UNIT_TEST(abort_running, "an abort of a running one goes to libvirt and ends as cancelled")
{
    start();
    abort_it();
    WORLD_UNTIL(w, waits(RPC_METHOD_rollback_live_migration_at_destination));
    take_back();
    words_are("queued preparing running cancelled");
    ended_here();
}

UNIT_TEST(abort_in_pause, "an abort while the guest is switched over does not reach libvirt")
{
    start();
    event(VIRT_EVENT_PAUSED_MIGRATION);
    abort_it();
    world_pass(w, USEC_PER_SEC, USEC_PER_SEC / 10);
    UNIT_EQ(did("abort"), 0);
    _cleanup_(str_freep) char *actions = json_text(source()->progress.actions);
    UNIT_HAS(actions, "is not broken off");
    event(VIRT_EVENT_RESUMED);
    finish(VIRT_OUTCOME_FAILED, "the switch-over failed");
    take_back();
    words_are("queued preparing running cancelled");
    world_pass(w, 3 * USEC_PER_SEC, USEC_PER_SEC); /* the network is turned back */
    ended_here();
}

UNIT_TEST(abort_overtaken,
          "an abort that the pause overtakes while it is journaled does not reach libvirt")
{
    const struct migration_job before = {.name = "journal"};

    start();
    sample_is(job_with(128));
    migration_submit(source(), &before, false, true); /* the abort's record waits for this one */
    UNIT_OK(source_abort(source(), &unit_err));
    agent_virt_event(&w->agent, WORLD_INSTANCE, VIRT_EVENT_PAUSED_MIGRATION, clock_monotonic_us());
    world_settle(w);
    UNIT_EQ(did("abort"), 0);
    event(VIRT_EVENT_RESUMED);
    world_pass(w, USEC_PER_SEC, USEC_PER_SEC / 10);
    WORLD_UNTIL(w, waits(RPC_METHOD_rollback_live_migration_at_destination));
    UNIT_EQ(did("abort"), 1);
    take_back();
    words_are("queued preparing running cancelled");
}

UNIT_TEST(abort_long_pause, "a pause that does not end is aborted after all")
{
    start();
    event(VIRT_EVENT_PAUSED_MIGRATION);
    abort_it();
    world_pass(w, 6 * USEC_PER_SEC, USEC_PER_SEC / 10);
    WORLD_UNTIL(w, waits(RPC_METHOD_rollback_live_migration_at_destination));
    UNIT_EQ(did("abort"), 1);
    take_back();
    words_are("queued preparing running cancelled");
}

UNIT_TEST(abort_too_late, "a migration that completes in spite of an abort is completed")
{
    start();
    virt_fake_fail(w->agent.virt, "abort", ERR_VIRT, "too late", 1);
    abort_it();
    finish(VIRT_OUTCOME_COMPLETED, NULL);
    _cleanup_(str_freep) char *actions = json_text(source()->progress.actions);
    UNIT_HAS(actions, "the abort came too late: the guest is on os-hostb");
    confirm();
    words_are("queued preparing running completed");
}

UNIT_TEST(abort_refused, "an abort that libvirt refused is asked for again until it is taken")
{
    start();
    sample_is(job_with(128));
    virt_fake_fail(w->agent.virt, "abort", ERR_VIRT, "not now", 3);
    abort_it();
    UNIT_EQ(did("abort"), 1);
    world_pass(w, USEC_PER_SEC, USEC_PER_SEC / 10);
    WORLD_UNTIL(w, waits(RPC_METHOD_rollback_live_migration_at_destination));
    UNIT_EQ(did("abort"), 4);
    UNIT_EQ(did("set_downtime"), 0);
    take_back();
    words_are("queued preparing running cancelled");
}

UNIT_TEST(abort_early,
          "an abort before libvirt's job is in the journal and told again when the job is seen")
{
    start();
    virt_fake_samples(w->agent.virt, WORLD_INSTANCE, &(struct virt_job){.active = false}, 1);
    virt_fake_fail(w->agent.virt, "abort", ERR_VIRT, "no job is active", 1);
    abort_it();
    world_pass(w, 2 * USEC_PER_SEC, USEC_PER_SEC / 10);
    UNIT_EQ(did("abort"), 1);
    _cleanup_(json_putp) struct json_object *record = world_record(w, WORLD_MIGRATION, "source");
    UNIT_TRUE(json_get_bool(record, "abort_requested", false));
    _cleanup_(str_freep) char *actions = json_text(source()->progress.actions);
    UNIT_HAS(actions, "no job is active");
    sample_is(job_with(250));
    virt_fake_iteration(w->agent.virt, WORLD_INSTANCE, 1);
    WORLD_UNTIL(w, waits(RPC_METHOD_rollback_live_migration_at_destination));
    UNIT_EQ(did("abort"), 2);
    take_back();
    words_are("queued preparing running cancelled");
    ended_here();
}

UNIT_TEST(abort_before_call,
          "an abort while the record of libvirt's call is written starts nothing")
{
    reopen(&(struct world_options){.threads = 4});
    world_add_guest(w, VIRT_STATE_RUNNING);
    world_begin_source(w);
    WORLD_UNTIL(w, waits(RPC_METHOD_pre_live_migration));
    UNIT_OK(fault_arm("journal.fsync=hang", &unit_err));
    fake_rpc_answer(waits(RPC_METHOD_pre_live_migration), world_result("063"));
    WORLD_UNTIL(w, text_equal(state(), "SOURCE_RUNNING"));
    UNIT_OK(source_abort(source(), &unit_err));
    fault_disarm_all();
    WORLD_UNTIL(w, waits(RPC_METHOD_rollback_live_migration_at_destination));
    UNIT_EQ(did("migrate"), 0);
    take_back();
    WORLD_UNTIL(w, !source());
    words_are("queued preparing running cancelled");
    ended_here();
}

UNIT_TEST(abort_finished, "an abort after the move is refused with the state")
{
    start();
    finish(VIRT_OUTCOME_COMPLETED, NULL);
    UNIT_FAILS(source_abort(source(), &unit_err), ERR_MIGRATION_STATE);
    UNIT_HAS(unit_err.text, "is finishing");
}

UNIT_TEST(abort_wrong_number, "an abort with another migration's number does nothing")
{
    start();
    struct json_object *args = world_args("030"), *o = json_object_new_object();
    json_add(o, "instance", json_object_get(json_get(args, "instance")));
    json_add_int(o, "migration_id", 99);
    json_object_put(args);
    struct fake_asked *a = world_ask(w, RPC_METHOD_live_migration_abort, o);
    UNIT_EQ(a->end, FAKE_FAILED);
    UNIT_HAS(a->e.text, "is in migration 1, not in migration 99");
    UNIT_EQ(did("abort"), 0);
}

UNIT_TEST(abort_post_copy, "in post-copy nothing can be called back")
{
    start();
    event(VIRT_EVENT_PAUSED_POSTCOPY);
    UNIT_FAILS(source_abort(source(), &unit_err), ERR_MIGRATION_STATE);
    UNIT_HAS(unit_err.text, "runs on os-hostb already");
}

/* ---- force-complete ---- */

UNIT_TEST(force_pauses, "force-complete lifts the bandwidth limit, then pauses the guest")
{
    start_copy();
    UNIT_EQ(force_it()->end, FAKE_REPLIED);
    char **calls = virt_fake_calls(w->agent.virt);
    size_t lifted = 0, paused = 0;
    for (size_t i = 0; calls[i]; i++) {
        if (text_equal(calls[i], "set_bandwidth " WORLD_INSTANCE " 0"))
            lifted = i;
        if (text_starts_with(calls[i], "suspend"))
            paused = i;
    }
    text_vector_free(calls);
    UNIT_TRUE(lifted > 0 && lifted < paused);
    UNIT_EQ(force_it()->end, FAKE_FAILED); /* once is enough */
    UNIT_EQ(did("suspend"), 1);
}

UNIT_TEST(force_failed, "a guest that was paused by force runs again when the move failed")
{
    start_copy();
    force_it();
    UNIT_EQ(virt_fake_state(w->agent.virt, WORLD_INSTANCE), VIRT_STATE_PAUSED);
    finish(VIRT_OUTCOME_FAILED, "the connection broke");
    take_back();
    words_are("queued preparing running failed");
    ended_here();
}

UNIT_TEST(force_late, "a guest that is being paused by force when the move fails runs again")
{
    reopen(&(struct world_options){.threads = 2});
    start_copy();
    virt_fake_hang(w->agent.virt, "suspend", true);
    world_ask(w, RPC_METHOD_live_migration_force_complete, force_args());
    WORLD_UNTIL(w, did("suspend") == 1);
    virt_fake_finish(w->agent.virt, WORLD_INSTANCE, VIRT_OUTCOME_FAILED, "the connection broke");
    WORLD_UNTIL(w, source()->state == MACHINE_SOURCE_ROLLING_BACK);
    virt_fake_hang(w->agent.virt, "suspend", false);
    WORLD_UNTIL(w, did("resume") == 1);
    WORLD_UNTIL(w, asked(RPC_METHOD_rollback_live_migration_at_destination) == 1);
    UNIT_EQ(virt_fake_state(w->agent.virt, WORLD_INSTANCE), VIRT_STATE_RUNNING);
    take_back();
    WORLD_UNTIL(w, !source());
    words_are("queued preparing running failed");
    ended_here();
}

UNIT_TEST(force_journaled, "that the guest is paused by force is in the journal before it is")
{
    start_copy();
    virt_fake_hang(w->agent.virt, "suspend", true);
    world_ask(w, RPC_METHOD_live_migration_force_complete, force_args());
    WORLD_UNTIL(w, did("suspend") == 1);
    _cleanup_(json_putp) struct json_object *record = world_record(w, WORLD_MIGRATION, "source");
    UNIT_TRUE(json_get_bool(record, "suspended_by_us", false));
    virt_fake_hang(w->agent.virt, "suspend", false);
    world_settle(w);
}

UNIT_TEST(force_unclear,
          "a guest that was paused although libvirt said no runs again at the source")
{
    start_copy();
    UNIT_OK(fault_arm("virt.suspend.after=error@1", &unit_err));
    force_it();
    UNIT_EQ(virt_fake_state(w->agent.virt, WORLD_INSTANCE), VIRT_STATE_PAUSED);
    finish(VIRT_OUTCOME_FAILED, "the connection broke");
    take_back();
    UNIT_EQ(virt_fake_state(w->agent.virt, WORLD_INSTANCE), VIRT_STATE_RUNNING);
}

UNIT_TEST(paused_late, "the news of a pause that came after the failure turns no network")
{
    start();
    finish(VIRT_OUTCOME_FAILED, "the connection broke");
    UNIT_EQ(source()->state, MACHINE_SOURCE_ROLLING_BACK);
    virt_fake_event(w->agent.virt, WORLD_INSTANCE, VIRT_EVENT_PAUSED_MIGRATION);
    take_back();
    UNIT_EQ(world_count(w, "bindings activate os-hostb"), 0);
}

UNIT_TEST(force_refused, "force-complete that libvirt refused may be asked for again")
{
    start_copy();
    virt_fake_fail(w->agent.virt, "suspend", ERR_VIRT, "not now", 1);
    force_it();
    UNIT_EQ(force_it()->end, FAKE_REPLIED);
    UNIT_EQ(virt_fake_state(w->agent.virt, WORLD_INSTANCE), VIRT_STATE_PAUSED);
}

/* The second worker, as the record that is written first takes its time. */
UNIT_TEST(force_overtaken,
          "a guest that stopped to be switched over before it was paused by force is left in peace")
{
    start_copy();
    sample_is(job_with(128));
    world_pass(w, USEC_PER_SEC, USEC_PER_SEC / 2);
    UNIT_OK(source_force_complete(source(), &unit_err)); /* nothing of it is done yet */
    virt_fake_event(w->agent.virt, WORLD_INSTANCE, VIRT_EVENT_PAUSED_MIGRATION);
    UNIT_TRUE(source()->switching);
    world_settle(w);
    UNIT_EQ(did("suspend"), 0);
    UNIT_TRUE(!world_hypervisor_was_told(w, "set_bandwidth " WORLD_INSTANCE " 0"));
    UNIT_OK(source_abort(source(), &unit_err));
    world_pass(w, USEC_PER_SEC, USEC_PER_SEC / 10);
    UNIT_EQ(did("abort"), 0);
}

UNIT_TEST(force_post_copy, "with post-copy force-complete switches to it and pauses nothing")
{
    reopen(
        &(struct world_options){.settings = {"libvirt.live_migration_permit_post_copy", "true"}});
    start_copy();
    UNIT_TRUE(virt_fake_migration(w->agent.virt, WORLD_INSTANCE)->post_copy);
    force_it();
    UNIT_EQ(did("start_post_copy"), 1);
    UNIT_EQ(did("suspend"), 0);
    words_are("queued preparing running running (post-copy)");
    finish(VIRT_OUTCOME_COMPLETED, NULL);
    confirm();
    words_are("queued preparing running running (post-copy) completed");
}

UNIT_TEST(force_early, "force-complete of one that does not run yet is refused")
{
    world_add_guest(w, VIRT_STATE_RUNNING);
    world_begin_source(w);
    struct fake_asked *a = force_it();
    UNIT_EQ(a->end, FAKE_FAILED);
    UNIT_HAS(a->e.text, "is preparing; only a running one can be forced");
}

UNIT_TEST(force_before_job,
          "what is forced before libvirt's job is there is forced when it is, and unlimited")
{
    start();
    UNIT_EQ(force_it()->end, FAKE_REPLIED);
    world_pass(w, USEC_PER_SEC, USEC_PER_SEC / 10);
    UNIT_EQ(did("suspend"), 0); /* a job without figures: libvirt has not looked at the guest yet */
    UNIT_EQ(force_it()->end, FAKE_FAILED);
    struct virt_job disks = job_with(128);
    disks.iteration = 0;
    sample_is(disks);
    world_pass(w, USEC_PER_SEC, USEC_PER_SEC / 10);
    UNIT_EQ(did("suspend"), 1);
    UNIT_EQ(did("set_bandwidth"), 1);
    virt_fake_iteration(w->agent.virt, WORLD_INSTANCE, 1);
    world_settle(w);
    UNIT_EQ(did("set_bandwidth"), 2);
}

/* ---- the policy's actions ---- */

static void run_past_timeout(void)
{
    sample_is(job_with(128));
    world_pass(w, 2 * USEC_PER_SEC, USEC_PER_SEC / 2);
    UNIT_EQ(did("abort") + did("suspend") + did("start_post_copy"), 0);
    world_pass(w, 3 * USEC_PER_SEC, USEC_PER_SEC / 2);
}

UNIT_TEST(timeout_aborts, "the timeout aborts once, and the migration is cancelled with the reason")
{
    reopen(&(struct world_options){.settings = {"libvirt.live_migration_completion_timeout", "3",
                                                "libvirt.live_migration_timeout_scale", "total"}});
    start();
    run_past_timeout();
    UNIT_EQ(did("abort"), 1);
    WORLD_UNTIL(w, waits(RPC_METHOD_rollback_live_migration_at_destination));
    UNIT_HAS(source()->message, "live_migration_completion_timeout");
    take_back();
    words_are("queued preparing running cancelled");
    ended_here();
}

UNIT_TEST(timeout_forces, "the timeout's force-complete happens once")
{
    reopen(&(struct world_options){.settings = {"libvirt.live_migration_completion_timeout", "3",
                                                "libvirt.live_migration_timeout_scale", "total",
                                                "libvirt.live_migration_timeout_action",
                                                "force_complete"}});
    start();
    run_past_timeout();
    world_pass(w, 5 * USEC_PER_SEC, USEC_PER_SEC / 2);
    UNIT_EQ(did("suspend"), 1);
    UNIT_EQ(did("abort"), 0);
}

UNIT_TEST(post_copy_refused,
          "a post-copy that libvirt refuses leaves the forced pause as the way out")
{
    reopen(&(struct world_options){
        .settings = {"libvirt.live_migration_completion_timeout", "3",
                     "libvirt.live_migration_timeout_scale", "total",
                     "libvirt.live_migration_timeout_action", "force_complete",
                     "libvirt.live_migration_policy", "stepped",
                     "libvirt.live_migration_permit_post_copy", "true"}});
    start();
    virt_fake_fail(w->agent.virt, "start_post_copy", ERR_VIRT, "userfaultfd is off", -1);
    run_past_timeout();
    UNIT_EQ(did("start_post_copy"), 1);
    UNIT_EQ(did("suspend"), 1);
}

UNIT_TEST(downtime_steps, "the stepped downtime limit is set in steps that are due, each once")
{
    reopen(&(struct world_options){.settings = {"libvirt.live_migration_policy", "stepped"}});
    start();
    sample_is(job_with(128));
    world_pass(w, USEC_PER_SEC, USEC_PER_SEC / 2);
    UNIT_EQ(did("set_downtime"), 1);
    world_pass(w, 10 * USEC_PER_SEC, USEC_PER_SEC / 2);
    UNIT_EQ(did("set_downtime"), 1);
    world_pass(w, 150 * USEC_PER_SEC, 10 * USEC_PER_SEC);
    UNIT_EQ(did("set_downtime"), 2);
}

/* ---- settings while it runs ---- */

UNIT_TEST(change_bandwidth, "a new bandwidth is given to libvirt at once")
{
    start();
    UNIT_OK(change("bandwidth_mib", json_object_new_int(40), &unit_err));
    UNIT_TRUE(world_hypervisor_was_told(w, "set_bandwidth " WORLD_INSTANCE " 40"));
}

UNIT_TEST(change_downtime, "a new downtime limit is in force at the next step")
{
    reopen(&(struct world_options){.settings = {"libvirt.live_migration_policy", "stepped",
                                                "libvirt.live_migration_downtime_steps", "3",
                                                "libvirt.live_migration_downtime_delay", "3"}});
    start();
    sample_is(job_with(128));
    world_pass(w, USEC_PER_SEC, USEC_PER_SEC / 2);
    UNIT_OK(change("downtime_ms", json_object_new_int(900), &unit_err));
    UNIT_TRUE(world_hypervisor_was_told(w, "set_downtime " WORLD_INSTANCE " 300"));
    world_pass(w, 60 * USEC_PER_SEC, USEC_PER_SEC);
    UNIT_TRUE(world_hypervisor_was_told(w, "set_downtime " WORLD_INSTANCE " 900"));
    UNIT_EQ(source()->progress.downtime_limit_ms, 900);
}

UNIT_TEST(change_timeout, "a new timeout counts from the beginning of the migration")
{
    reopen(&(struct world_options){.settings = {"libvirt.live_migration_timeout_scale", "total"}});
    start();
    sample_is(job_with(128));
    world_pass(w, 5 * USEC_PER_SEC, USEC_PER_SEC / 2);
    UNIT_EQ(did("abort"), 0);
    UNIT_OK(change("completion_timeout_s", json_object_new_int(3), &unit_err));
    UNIT_EQ(did("abort"), 1);
}

UNIT_TEST(change_refused, "settings that libvirt fixes at the start are refused, nothing changes")
{
    start();
    UNIT_FAILS(change("auto_converge", json_object_new_boolean(0), &unit_err), ERR_MIGRATION_STATE);
    UNIT_FAILS(change("post_copy", json_object_new_boolean(1), &unit_err), ERR_MIGRATION_STATE);
    UNIT_FAILS(change("downtime_ms", json_object_new_int(1), &unit_err), ERR_INVALID);
    UNIT_FAILS(change("nonsense", json_object_new_int(1), &unit_err), ERR_INVALID);
    UNIT_TRUE(source()->settings.auto_converge && !source()->settings.post_copy);
}

UNIT_TEST(change_paused, "other settings of a paused guest change although post-copy is permitted")
{
    reopen(
        &(struct world_options){.settings = {"libvirt.live_migration_permit_post_copy", "true"}});
    world_add_guest(w, VIRT_STATE_PAUSED);
    world_begin_source(w);
    world_run_source(w);
    UNIT_TRUE(!virt_fake_migration(w->agent.virt, WORLD_INSTANCE)->post_copy);
    UNIT_OK(change("downtime_ms", json_object_new_int(900), &unit_err));
}

/* ---- outcomes ---- */

UNIT_TEST(failed,
          "a failure of libvirt ends as failed, the guest stays, the destination takes back")
{
    start();
    finish(VIRT_OUTCOME_FAILED, "qemu said no");
    UNIT_STR(world_state(w, WORLD_MIGRATION, "source"), "SOURCE_ROLLING_BACK");
    /* at once: the record of the rollback is written meanwhile */
    UNIT_EQ(world_count(w, "cast rollback_live_migration_at_destination os-hostb "
                           "[SOURCE_RUNNING]"),
            1);
    take_back();
    words_are("queued preparing running failed");
    UNIT_EQ(world_count(w, "event compute_live_migration failed: domain"), 1);
    ended_here();
}

UNIT_TEST(paused_stays_paused, "a guest that was paused before is paused afterwards")
{
    world_add_guest(w, VIRT_STATE_PAUSED);
    world_begin_source(w);
    struct fake_call *call = fake_rpc_last(w->agent.rpc, RPC_METHOD_pre_live_migration);
    /* the destination must know, or it would not take it as arrived */
    UNIT_EQ(json_get_int(world_data(call->args, "instance"), "power_state", 0), 3);
    world_run_source(w);
    finish(VIRT_OUTCOME_FAILED, "no");
    take_back();
    UNIT_EQ(did("resume"), 0);
    UNIT_EQ(virt_fake_state(w->agent.virt, WORLD_INSTANCE), VIRT_STATE_PAUSED);
}

/* libvirt is away in the call, and back again. */
static void lose_libvirt(void)
{
    virt_fake_set_up(w->agent.virt, false, "libvirtd was restarted");
    WORLD_UNTIL(w, text_equal(state(), "SOURCE_OBSERVING"));
    virt_fake_set_up(w->agent.virt, true, "");
}

static void look(void)
{
    world_settle(w);
    world_pass(w, 2 * USEC_PER_SEC, USEC_PER_SEC);
}

UNIT_TEST(observe_goes_on, "without libvirt's answer a running job is watched until it ends")
{
    start();
    sample_is(job_with(64));
    lose_libvirt();
    look();
    look();
    UNIT_STR(state(), "SOURCE_OBSERVING");
    UNIT_TRUE(source()->progress.has_job);
    virt_fake_remove(w->agent.virt, WORLD_INSTANCE);
    look();
    confirm();
    words_are("queued preparing running completed");
}

UNIT_TEST(observe_failed, "a guest that runs without a job did not move")
{
    start();
    lose_libvirt();
    look();
    take_back();
    words_are("queued preparing running failed");
    ended_here();
}

UNIT_TEST(observe_aborted, "an abort while observing ends as cancelled")
{
    start();
    sample_is(job_with(64));
    lose_libvirt();
    world_settle(w);
    abort_it();
    sample_is((struct virt_job){.active = false});
    look();
    take_back();
    words_are("queued preparing running cancelled");
    ended_here();
}

/* Paused here without a job: only the destination's word decides. */
static void become_ambiguous(void)
{
    start();
    sample_is((struct virt_job){.active = false});
    virt_fake_set_state(w->agent.virt, WORLD_INSTANCE, VIRT_STATE_PAUSED);
    lose_libvirt();
    look();
    UNIT_STR(state(), "SOURCE_OBSERVING");
    UNIT_TRUE(waits(RPC_METHOD_post_live_migration_at_destination) != NULL);
}

UNIT_TEST(ambiguous_confirmed, "paused here, running there: the shell here goes")
{
    become_ambiguous();
    confirm();
    words_are("queued preparing running completed");
    UNIT_EQ(did("destroy"), 1);
    UNIT_EQ(did("resume"), 0);
}

UNIT_TEST(ambiguous_denied,
          "paused here, not running there: nothing is resumed, an operator is called")
{
    world_add_file(w, "disk");
    become_ambiguous();
    fake_rpc_fail(waits(RPC_METHOD_post_live_migration_at_destination), ERR_INSTANCE_STATE,
                  "it does not run here");
    world_settle(w);
    UNIT_STR(state(), "SOURCE_PARKED");
    UNIT_STR(world_state(w, WORLD_MIGRATION, "source"), "SOURCE_PARKED");
    words_are("queued preparing running error");
    UNIT_EQ(did("resume") + did("destroy"), 0);
    UNIT_TRUE(world_has_file(w, WORLD_INSTANCE "/disk"));
    UNIT_EQ(w->agent.running_out, 0);
}

static void answer_nothing(void)
{
    for (int i = 0; i < 25 && waits(RPC_METHOD_post_live_migration_at_destination); i++) {
        fake_rpc_fail(waits(RPC_METHOD_post_live_migration_at_destination), ERR_TIMEOUT,
                      "no reply");
        world_pass(w, 4 * USEC_PER_SEC, 4 * USEC_PER_SEC);
    }
}

UNIT_TEST(ambiguous_silent, "no word from the destination: it is asked 20 times, then parked")
{
    become_ambiguous();
    answer_nothing();
    UNIT_STR(state(), "SOURCE_PARKED");
    UNIT_EQ(asked(RPC_METHOD_post_live_migration_at_destination), 20);
    UNIT_EQ(did("resume") + did("destroy"), 0);
}

UNIT_TEST(moved_unconfirmed, "moved, but the destination is dead: the files stay")
{
    world_add_file(w, "disk");
    start();
    finish(VIRT_OUTCOME_COMPLETED, NULL);
    answer_nothing();
    UNIT_STR(state(), "SOURCE_PARKED");
    words_are("queued preparing running error");
    UNIT_TRUE(world_has_file(w, WORLD_INSTANCE "/disk"));
}

UNIT_TEST(moved_confirmed_late, "a destination that answers at the third question is enough")
{
    start();
    finish(VIRT_OUTCOME_COMPLETED, NULL);
    for (int i = 0; i < 2; i++) {
        fake_rpc_fail(waits(RPC_METHOD_post_live_migration_at_destination), ERR_TIMEOUT, "busy");
        world_pass(w, 4 * USEC_PER_SEC, 4 * USEC_PER_SEC);
    }
    confirm();
    words_are("queued preparing running completed");
}

UNIT_TEST(moved_denied, "libvirt says moved, the destination says no: parked, files stay")
{
    world_add_file(w, "disk");
    start();
    finish(VIRT_OUTCOME_COMPLETED, NULL);
    fake_rpc_fail(waits(RPC_METHOD_post_live_migration_at_destination), ERR_NO_INSTANCE, "no");
    world_settle(w);
    UNIT_STR(state(), "SOURCE_PARKED");
    UNIT_TRUE(world_has_file(w, WORLD_INSTANCE "/disk"));
    UNIT_EQ(world_count(w, "fault "), 1);
}

UNIT_TEST(post_copy_failed_running, "post-copy that never switched: the guest runs here, it failed")
{
    reopen(
        &(struct world_options){.settings = {"libvirt.live_migration_permit_post_copy", "true"}});
    start_copy();
    force_it();
    UNIT_TRUE(source()->post_copy_running);
    sample_is((struct virt_job){.active = false});
    finish(VIRT_OUTCOME_FAILED, "the connection broke");
    look();
    take_back();
    words_are("queued preparing running running (post-copy) failed");
    ended_here();
}

UNIT_TEST(post_copy_failed_paused, "post-copy that lost its connection: the destination decides")
{
    start();
    event(VIRT_EVENT_PAUSED_POSTCOPY);
    sample_is((struct virt_job){.active = false});
    virt_fake_set_state(w->agent.virt, WORLD_INSTANCE, VIRT_STATE_PAUSED);
    finish(VIRT_OUTCOME_FAILED, "the connection broke");
    UNIT_TRUE(waits(RPC_METHOD_post_live_migration_at_destination) != NULL);
    UNIT_EQ(did("resume"), 0);
    UNIT_EQ(asked(RPC_METHOD_rollback_live_migration_at_destination), 0);
}

/* ---- post-copy that loses its connection ---- */

static const struct virt_job lost_job = {
    .active = true, .post_copy = true, .post_copy_failed = true, .memory_total = 100};

/* The try that is under way ends in vain. */
static void fail_try(void)
{
    UNIT_TRUE(virt_fake_wait_migrating(w->agent.virt, WORLD_INSTANCE, 5000));
    virt_fake_finish(w->agent.virt, WORLD_INSTANCE, VIRT_OUTCOME_UNKNOWN, "no route to host");
    WORLD_UNTIL(w, source()->recovery_waits);
    world_settle(w);
}

static void lose_post_copy(void)
{
    reopen(
        &(struct world_options){.settings = {"libvirt.live_migration_permit_post_copy", "true"}});
    start();
    event(VIRT_EVENT_PAUSED_POSTCOPY);
    sample_is(lost_job);
    virt_fake_set_state(w->agent.virt, WORLD_INSTANCE, VIRT_STATE_PAUSED);
    event(VIRT_EVENT_POSTCOPY_FAILED);
    fail_try();
    UNIT_STR(state(), "SOURCE_RECOVERING");
}

static void pass_s(int seconds)
{
    world_pass(w, seconds * USEC_PER_SEC, USEC_PER_SEC);
}

UNIT_TEST(lost_ours, "a destination of ours says when to try, and not before that is tried")
{
    lose_post_copy();
    source()->peer_is_ours = true;
    pass_s(6);
    fail_try();
    UNIT_EQ(did("migrate"), 2);
    pass_s(65); /* looked at, no more */
    UNIT_EQ(did("migrate"), 2);
    UNIT_STR(state(), "SOURCE_RECOVERING");
    source_post_copy_ready(source());
    UNIT_TRUE(virt_fake_wait_migrating(w->agent.virt, WORLD_INSTANCE, 5000));
    UNIT_EQ(did("migrate"), 3);
    source_post_copy_ready(source()); /* under way already */
    fail_try();
    source_post_copy_ready(source()); /* just now */
    UNIT_EQ(did("migrate"), 3);
    pass_s(11);
    source_post_copy_ready(source());
    UNIT_TRUE(virt_fake_wait_migrating(w->agent.virt, WORLD_INSTANCE, 5000));
    UNIT_EQ(did("migrate"), 4);
}

UNIT_TEST(lost_samples,
          "a lost post-copy is sampled ever more rarely, and as usual when it goes on")
{
    lose_post_copy();
    source()->peer_is_ours = true;
    pass_s(6);
    fail_try();
    unsigned before = did("sample");
    pass_s(600);
    UNIT_TRUE(did("sample") - before <= 45); /* a look each minute is among them */
    event(VIRT_EVENT_PAUSED_POSTCOPY);
    before = did("sample");
    pass_s(6);
    UNIT_TRUE(did("sample") - before >= 5);
}

UNIT_TEST(lost_unseen,
          "a destination that does not see the loss is waited for, and the operator told a way out")
{
    lose_post_copy();
    source()->peer_is_ours = true;
    source()->recovery_waits = false; /* as if it had been ours all the time */
    machine_event(source(), MACHINE_EVENT_UNKNOWN);
    world_settle(w);
    pass_s(1100);
    UNIT_HAS(source()->message, "which is waited for");
    pass_s(200);
    UNIT_HAS(source()->message, "os-hostb has not said that it saw it");
    UNIT_HAS(source()->message, "destroy its domain on os-hosta");
    UNIT_STR(state(), "SOURCE_RECOVERING");
    UNIT_EQ(did("migrate"), 1);
    event(VIRT_EVENT_PAUSED_POSTCOPY);
    UNIT_TRUE(!source()->message);
}

UNIT_TEST(lost_recovered,
          "post-copy that lost its connection is tried ever more rarely, until it goes on")
{
    lose_post_copy();
    UNIT_HAS(source()->message, "post-copy lost its connection to os-hostb");
    UNIT_STR(source()->status, "running (post-copy)");
    UNIT_EQ(did("migrate"), 1);
    pass_s(6); /* 5 s after the loss */
    WORLD_UNTIL(w, did("migrate") == 2);
    const struct virt_migration *call = virt_fake_migration(w->agent.virt, WORLD_INSTANCE);
    UNIT_TRUE(call->resume_post_copy && call->post_copy);
    fail_try();
    pass_s(6); /* after the first try as long */
    WORLD_UNTIL(w, did("migrate") == 3);
    fail_try();
    pass_s(8); /* then 10 s */
    UNIT_EQ(did("migrate"), 3);
    pass_s(4);
    WORLD_UNTIL(w, did("migrate") == 4);
    event(VIRT_EVENT_PAUSED_POSTCOPY);
    UNIT_TRUE(!source()->post_copy_lost && !source()->message);
    virt_fake_finish(w->agent.virt, WORLD_INSTANCE, VIRT_OUTCOME_COMPLETED, NULL);
    WORLD_UNTIL(w, waits(RPC_METHOD_post_live_migration_at_destination));
    UNIT_EQ(did("resume") + did("abort") + did("destroy"), 0);
    UNIT_EQ(asked(RPC_METHOD_rollback_live_migration_at_destination), 0);
    confirm();
    words_are("queued preparing running running (post-copy) completed");
}

UNIT_TEST(lost_bounded, "tries are a minute apart at most, however many there were")
{
    lose_post_copy();
    for (int i = 0; i < 8; i++) {
        pass_s(61);
        fail_try();
    }
    UNIT_EQ(did("migrate"), 9);
    UNIT_STR(world_state(w, WORLD_MIGRATION, "source"), "SOURCE_RECOVERING");
    UNIT_EQ(did("resume") + did("abort") + did("destroy"), 0);
}

UNIT_TEST(lost_no_abort, "it cannot be called back, and others need not wait for it")
{
    lose_post_copy();
    UNIT_EQ(w->agent.running_out, 0);
    UNIT_FAILS(source_abort(source(), &unit_err), ERR_MIGRATION_STATE);
    UNIT_HAS(unit_err.text, "cannot be called back");
    UNIT_FAILS(source_force_complete(source(), &unit_err), ERR_MIGRATION_STATE);
    UNIT_EQ(did("abort"), 0);
}

UNIT_TEST(lost_by_itself,
          "a transfer that went on by itself is seen at its end, not at the next try")
{
    lose_post_copy();
    virt_fake_remove(w->agent.virt, WORLD_INSTANCE);
    event(VIRT_EVENT_STOPPED_MIGRATION);
    UNIT_STR(state(), "SOURCE_FINISHING");
    UNIT_EQ(did("migrate"), 1);
    confirm();
    words_are("queued preparing running running (post-copy) completed");
}

UNIT_TEST(lost_for_good,
          "post-copy whose guest is gone from the destination is parked, and says so")
{
    lose_post_copy();
    source_post_copy_gone(source());
    world_settle(w);
    UNIT_STR(state(), "SOURCE_PARKED");
    UNIT_HAS(source()->message, "on os-hostb the guest is gone or was never started");
    UNIT_STR(source()->status, "error");
    pass_s(300);
    UNIT_EQ(did("migrate"), 1);
    UNIT_EQ(did("resume") + did("abort") + did("destroy"), 0);
    UNIT_EQ(asked(RPC_METHOD_rollback_live_migration_at_destination), 0);
}

UNIT_TEST(lost_gone_after,
          "a guest that went on by itself and was shut down then is not taken for lost")
{
    lose_post_copy();
    virt_fake_remove(w->agent.virt, WORLD_INSTANCE);
    source_post_copy_gone(source());
    world_settle(w);
    UNIT_STR(state(), "SOURCE_FINISHING");
}

UNIT_TEST(lost_libvirt, "without libvirt nothing is tried, and it is found again with it")
{
    lose_post_copy();
    virt_fake_set_up(w->agent.virt, false, "libvirtd was restarted");
    pass_s(6);
    UNIT_STR(state(), "SOURCE_OBSERVING");
    UNIT_EQ(did("migrate"), 1);
    virt_fake_set_up(w->agent.virt, true, "");
    pass_s(2);
    UNIT_STR(state(), "SOURCE_RECOVERING");
}

/* ---- the switch-over ---- */

static enum switchover_signal last_signal;
static unsigned signals;

static void take_signal(void *aux, const char *migration_uuid, enum switchover_signal signal,
                        int64_t at_us)
{
    (void)aux;
    (void)at_us;
    UNIT_STR(migration_uuid, WORLD_MIGRATION);
    last_signal = signal;
    signals++;
}

/* A destination that has the direct line. */
static void start_with_line(struct switchover **other)
{
    struct json_object *answer = world_result("063"), *facts = json_object_new_object();
    char key[SWITCHOVER_KEY_HEX];

    signals = 0;
    reopen(&(struct world_options){.switchover = true});
    UNIT_OK(switchover_new(other, w->agent.loop, "127.0.0.1", 0, take_signal, NULL, &unit_err));
    UNIT_OK(switchover_expect(*other, WORLD_MIGRATION, key, &unit_err));
    json_add_string(facts, "address", "127.0.0.1");
    json_add_int(facts, "port", switchover_port(*other));
    json_add_string(facts, "key", key);
    json_add(world_data(answer, NULL), "computed_switchover", facts);
    world_add_guest(w, VIRT_STATE_RUNNING);
    world_begin_source(w);
    fake_rpc_answer(waits(RPC_METHOD_pre_live_migration), answer);
    world_settle(w);
    UNIT_TRUE(virt_fake_wait_migrating(w->agent.virt, WORLD_INSTANCE, 5000));
}

UNIT_TEST(line_at_pause, "the destination hears of the pause over the direct line")
{
    struct switchover *other = NULL;
    start_with_line(&other);
    virt_fake_event(w->agent.virt, WORLD_INSTANCE, VIRT_EVENT_PAUSED_MIGRATION);
    WORLD_UNTIL(w, signals == 1);
    UNIT_EQ(last_signal, SWITCHOVER_PAUSED);
    UNIT_EQ(net_fake_announced(w->agent.net, WORLD_TAP), 0);
    switchover_free(other);
}

UNIT_TEST(line_at_failure, "a switch-over that fails turns the network back here and is told")
{
    struct switchover *other = NULL;
    start_with_line(&other);
    virt_fake_event(w->agent.virt, WORLD_INSTANCE, VIRT_EVENT_PAUSED_MIGRATION);
    WORLD_UNTIL(w, signals == 1);
    virt_fake_event(w->agent.virt, WORLD_INSTANCE, VIRT_EVENT_RESUMED);
    WORLD_UNTIL(w, signals == 2);
    UNIT_EQ(last_signal, SWITCHOVER_REVERTED);
    UNIT_TRUE(net_fake_announced(w->agent.net, WORLD_TAP) > 0);
    switchover_free(other);
}

UNIT_TEST(no_event_at_failure,
          "without libvirt's event the network is turned back at the roll-back")
{
    start();
    event(VIRT_EVENT_PAUSED_MIGRATION);
    UNIT_EQ(net_fake_announced(w->agent.net, WORLD_TAP), 0);
    finish(VIRT_OUTCOME_FAILED, "the destination could not resume it");
    UNIT_TRUE(net_fake_announced(w->agent.net, WORLD_TAP) > 0);
    unsigned before = net_fake_announced(w->agent.net, WORLD_TAP);
    take_back();
    words_are("queued preparing running failed");
    /* the end of the migration does not cut the announcements short */
    world_pass(w, USEC_PER_SEC, USEC_PER_SEC / 20);
    UNIT_TRUE(net_fake_announced(w->agent.net, WORLD_TAP) > before);
    world_pass(w, 3 * USEC_PER_SEC, USEC_PER_SEC);
    ended_here();
}

UNIT_TEST(not_announced, "a migration that never paused the guest announces nothing here")
{
    start();
    finish(VIRT_OUTCOME_FAILED, "no");
    take_back();
    UNIT_EQ(net_fake_announced(w->agent.net, WORLD_TAP), 0);
    ended_here();
}

UNIT_TEST(silent, "between the pause and the outcome libvirt is asked for nothing")
{
    start();
    sample_is(job_with(128));
    world_pass(w, USEC_PER_SEC, USEC_PER_SEC / 2);
    unsigned samples = did("sample"), tunings = did("set_downtime");
    UNIT_TRUE(samples > 0);
    event(VIRT_EVENT_PAUSED_MIGRATION);
    world_pass(w, 200 * USEC_PER_SEC, 20 * USEC_PER_SEC);
    UNIT_EQ(did("sample"), samples);
    UNIT_EQ(did("set_downtime"), tunings);
}

UNIT_TEST(forced_is_watched, "a guest that was paused by force is watched on, as much may be left")
{
    start_copy();
    sample_is(job_with(128));
    force_it();
    event(VIRT_EVENT_PAUSED_MIGRATION);
    unsigned samples = did("sample");
    world_pass(w, 2 * USEC_PER_SEC, USEC_PER_SEC / 2);
    UNIT_TRUE(did("sample") > samples);
    event(VIRT_EVENT_RESUMED); /* it failed */
    UNIT_TRUE(net_fake_announced(w->agent.net, WORLD_TAP) > 0);
}

/* ---- figures ---- */

UNIT_TEST(line, "the period's line tells everything once a period")
{
    start();
    struct virt_job job = job_with(64);
    job.throttle_percent = 20;
    job.disk_total = 1000;
    job.disk_remaining = 250;
    sample_is(job);
    world_pass(w, 4 * USEC_PER_SEC, USEC_PER_SEC / 2);
    UNIT_TRUE(!world_logged(w, "running for"));
    world_pass(w, 2 * USEC_PER_SEC, USEC_PER_SEC / 2);
    UNIT_TRUE(world_logged(w, "migration " WORLD_MIGRATION " running for 5 s: memory 25% left "
                              "(67108864 of 268435456 bytes), disk 25% left (250 of 1000 bytes), "
                              "throughput "));
    UNIT_TRUE(
        world_logged(w, "dirty rate 8.0 MiB/s, iteration 2, throttle 20%, expected downtime "));
    UNIT_TRUE(world_logged(w, "limit 50 ms, time left "));
    UNIT_TRUE(world_logged(w, WORLD_INSTANCE "] migration " WORLD_MIGRATION " running for"));
}

UNIT_TEST(line_off, "a period of 0 means no line")
{
    reopen(&(struct world_options){.settings = {"libvirt.live_migration_log_period", "0"}});
    start();
    sample_is(job_with(64));
    world_pass(w, 20 * USEC_PER_SEC, USEC_PER_SEC);
    UNIT_TRUE(!world_logged(w, "running for"));
}

UNIT_TEST(counters, "counters are saved when they moved and a period went by, else not")
{
    start();
    sample_is(job_with(128));
    world_pass(w, 4 * USEC_PER_SEC, USEC_PER_SEC / 2);
    UNIT_EQ(world_count(w, "counters"), 0);
    world_pass(w, 2 * USEC_PER_SEC, USEC_PER_SEC / 2);
    UNIT_EQ(world_count(w, "counters"), 1);
    world_pass(w, 20 * USEC_PER_SEC, USEC_PER_SEC); /* the figures stand still */
    UNIT_EQ(world_count(w, "counters"), 1);
    sample_is(job_with(100));
    world_pass(w, 6 * USEC_PER_SEC, USEC_PER_SEC);
    UNIT_EQ(world_count(w, "counters"), 2);
    UNIT_EQ(migration_record_memory_remaining(source()->record), 100 * MIB);
}

UNIT_TEST(samples_fail, "a sample that fails is left out, the migration goes on")
{
    start();
    virt_fake_fail(w->agent.virt, "sample", ERR_HYPERVISOR, "busy", -1);
    world_pass(w, 5 * USEC_PER_SEC, USEC_PER_SEC);
    UNIT_STR(state(), "SOURCE_RUNNING");
    UNIT_TRUE(!source()->progress.has_job);
}

UNIT_TEST(silence, "what still announces that the guest is here falls silent when it leaves")
{
    _cleanup_(json_putp) struct json_object *args = world_args("030");
    _cleanup_(instance_freep) struct instance *instance = NULL;
    struct port_list ports = {0};

    UNIT_OK(instance_from_json(json_get(args, "instance"), &instance, &unit_err));
    UNIT_OK(ports_of_instance(instance, &ports, &unit_err));
    struct migration *arrival =
        migration_new(&w->agent, MIGRATION_DESTINATION, WORLD_OTHER, instance);
    arrival->state = MACHINE_DESTINATION_COMPLETED; /* it lingers, and repeats itself */
    UNIT_OK(net_arm(w->agent.net, ports.items, ports.count, &arrival->armed, &unit_err));
    start();
    UNIT_TRUE(arrival->armed == NULL);
    UNIT_TRUE(source()->armed != NULL);
    migration_forget(arrival);
    port_list_clear(&ports);
}

UNIT_TEST(one_sample, "a sample that hangs is the only one, and holds up nothing else")
{
    reopen(&(struct world_options){.threads = 4});
    start();
    virt_fake_hang(w->agent.virt, "sample", true);
    world_pass(w, 5 * USEC_PER_SEC, USEC_PER_SEC);
    WORLD_UNTIL(w, did("sample") > 0); /* its thread may not have had its turn yet */
    UNIT_EQ(did("sample"), 1);
    virt_fake_finish(w->agent.virt, WORLD_INSTANCE, VIRT_OUTCOME_COMPLETED, NULL);
    WORLD_UNTIL(w, waits(RPC_METHOD_post_live_migration_at_destination));
    confirm();
    WORLD_UNTIL(w, text_equal(world_state(w, WORLD_MIGRATION, "source"), "-"));
    words_are("queued preparing running completed");
    virt_fake_hang(w->agent.virt, "sample", false);
    virt_fake_set_memory(w->agent.virt, 1, 1);
}

UNIT_TEST(final_figures, "the completed job's figures are the result")
{
    start();
    struct virt_job job = {.completed = true,
                           .elapsed_ms = 2000,
                           .memory_total = 256 * MIB,
                           .memory_processed = 200 * MIB,
                           .downtime_ms = 37};
    world_pass(w, 2 * USEC_PER_SEC, USEC_PER_SEC);
    virt_fake_job_completed(w->agent.virt, WORLD_INSTANCE, &job);
    finish(VIRT_OUTCOME_COMPLETED, NULL);
    UNIT_EQ(source()->progress.downtime_ms, 37);
    UNIT_EQ(source()->progress.average_throughput, 100 * MIB);
    confirm();
    UNIT_TRUE(world_logged(w, "completed: 2.000 s in all, 100.0 MiB/s on average, pause 37 ms"));
}

/* ---- the agent stops ---- */

UNIT_TEST(stop_preparing,
          "stopping in the middle of a question leaves the record for the next start")
{
    world_add_guest(w, VIRT_STATE_RUNNING);
    world_begin_source(w);
    world_restart(w);
    UNIT_TRUE(waits(RPC_METHOD_rollback_live_migration_at_destination) != NULL);
    words_are("queued preparing");
}

UNIT_TEST(stop_running, "stopping while libvirt migrates does not stop it")
{
    start();
    sample_is(job_with(128));
    world_restart(w);
    UNIT_STR(state(), "SOURCE_OBSERVING");
    UNIT_EQ(did("abort"), 0);
    UNIT_EQ(w->agent.running_out, 1);
}

UNIT_TEST(silent_look,
          "a guest that is here is not taken for one that stayed while libvirt does not tell")
{
    start();
    sample_is(job_with(128));
    virt_fake_fail(w->agent.virt, "sample", ERR_VIRT, "no", -1);
    world_restart(w);
    world_pass(w, 10 * USEC_PER_SEC, USEC_PER_SEC);
    UNIT_STR(state(), "SOURCE_OBSERVING");
    UNIT_EQ(did("destroy"), 0);
}

/* ---- the dirty rate before the start ---- */

static bool noted(const char *part)
{
    _cleanup_(str_freep) char *text = json_text(source()->progress.actions);

    return strstr(text, part) != NULL;
}

static void start_dirtying(int64_t mib_s, const struct world_options *options)
{
    reopen(options);
    virt_fake_set_dirty_rate(w->agent.virt, WORLD_INSTANCE, mib_s * MIB);
    world_add_guest(w, VIRT_STATE_RUNNING);
    world_begin_source(w);
}

UNIT_TEST(measured_start, "auto-converge begins with what the measured dirty rate asks for")
{
    start_dirtying(
        150, &(struct world_options){.settings = {"libvirt.live_migration_bandwidth", "100"}});
    world_run_source(w);
    const struct virt_migration *asked_for = virt_fake_migration(w->agent.virt, WORLD_INSTANCE);
    UNIT_EQ(asked_for->auto_converge_initial, 75);
    UNIT_EQ(asked_for->auto_converge_increment, 12);
    UNIT_TRUE(noted("auto-converge begins with 75 %, then 12 % more: dirty rate 150.0 MiB/s before "
                    "the start, bandwidth 100.0 MiB/s"));
    UNIT_EQ(source()->measured.dirty_rate, 150 * MIB);
}

UNIT_TEST(measured_on,
          "a second measurement begins before libvirt's call, and is taken while the guest moves")
{
    start_dirtying(150,
                   &(struct world_options){.settings = {"libvirt.live_migration_bandwidth", "10"}});
    world_run_source(w);
    UNIT_EQ(did("dirty_rate_begin"), 2);
    UNIT_TRUE(source()->long_measure_s >= 2);
    UNIT_EQ(source()->policy.dirtying.count, 1);
    int64_t seconds = source()->long_measure_s;
    unsigned looks = did("dirty_rate_look");
    sample_is(job_with(128));
    world_pass(w, (seconds - 1) * USEC_PER_SEC, USEC_PER_SEC / 4);
    UNIT_EQ(did("dirty_rate_look"), looks); /* it goes on */
    world_pass(w, 2 * USEC_PER_SEC, USEC_PER_SEC / 4);
    UNIT_EQ(did("dirty_rate_look"), looks + 1);
    UNIT_EQ(source()->policy.dirtying.count, 2);
    UNIT_TRUE(source()->policy.dirtying.points[1].seconds == (double)seconds);
    UNIT_EQ(source()->long_measure_s, 0);
}

UNIT_TEST(measured_never,
          "a second measurement that tells nothing is looked for some seconds and no longer")
{
    start_dirtying(
        150, &(struct world_options){.settings = {"libvirt.live_migration_bandwidth", "100"}});
    world_run_source(w);
    virt_fake_fail(w->agent.virt, "dirty_rate_look", ERR_VIRT, "no", -1);
    sample_is(job_with(128));
    world_pass(w, 60 * USEC_PER_SEC, USEC_PER_SEC / 4);
    int looks = did("dirty_rate_look");
    UNIT_TRUE(looks > 1 && looks < 20);
    UNIT_EQ(source()->policy.dirtying.count, 1);
    UNIT_EQ(source()->long_measure_s, 0);
}

UNIT_TEST(measured_own, "an operator's start of auto-converge stands")
{
    start_dirtying(150, &(struct world_options){
                            .settings = {"libvirt.live_migration_bandwidth", "100",
                                         "libvirt.live_migration_auto_converge_initial", "30"}});
    world_run_source(w);
    UNIT_EQ(virt_fake_migration(w->agent.virt, WORLD_INSTANCE)->auto_converge_initial, 30);
    UNIT_EQ(virt_fake_migration(w->agent.virt, WORLD_INSTANCE)->auto_converge_increment, 0);
}

UNIT_TEST(not_measured,
          "the stepped policy measures and never waits; nobody measures a paused guest")
{
    start_dirtying(
        150, &(struct world_options){.settings = {"libvirt.live_migration_policy", "stepped",
                                                  "libvirt.live_migration_bandwidth", "100"}});
    world_run_source(w);
    UNIT_EQ(did("dirty_rate_begin"), 2); /* for the forecast */
    UNIT_EQ(virt_fake_migration(w->agent.virt, WORLD_INSTANCE)->auto_converge_initial, 0);
    reopen(NULL);
    world_add_guest(w, VIRT_STATE_PAUSED);
    world_begin_source(w);
    world_run_source(w);
    UNIT_EQ(did("dirty_rate_begin"), 0);
}

/* All is ready but for the dirty rate, which takes its time; the guest used `processor_ns` so far. */
static void start_unmeasured_by(const char *policy, const char *bandwidth, int64_t processor_ns)
{
    reopen(&(struct world_options){.threads = 4,
                                   .settings = {"libvirt.live_migration_bandwidth", bandwidth,
                                                "libvirt.live_migration_policy", policy}});
    virt_fake_set_dirty_rate(w->agent.virt, WORLD_INSTANCE, -1);
    virt_fake_set_processor_ns(w->agent.virt, WORLD_INSTANCE, processor_ns);
    world_add_guest(w, VIRT_STATE_RUNNING);
    world_begin_source(w);
    WORLD_UNTIL(w, waits(RPC_METHOD_pre_live_migration));
    WORLD_UNTIL(w, did("dirty_rate_begin") == 1);
    fake_rpc_answer(waits(RPC_METHOD_pre_live_migration), world_result("063"));
}

static void start_unmeasured(const char *bandwidth, int64_t processor_ns)
{
    start_unmeasured_by("adaptive", bandwidth, processor_ns);
}

static bool is_moved(void)
{
    return virt_fake_wait_migrating(w->agent.virt, WORLD_INSTANCE, 0);
}

UNIT_TEST(not_awaited,
          "a dirty rate that decides nothing is not waited for, and taken when it is there")
{
    start_unmeasured("0", 0);
    WORLD_UNTIL(w, is_moved());
    world_settle(w);
    UNIT_EQ(source()->measured.dirty_rate, -1);
    UNIT_EQ(source()->policy.dirtying.count, 0);
    UNIT_EQ(virt_fake_migration(w->agent.virt, WORLD_INSTANCE)->auto_converge_initial, 0);
    virt_fake_set_dirty_rate(w->agent.virt, WORLD_INSTANCE, 30 * MIB);
    sample_is(job_with(128));
    world_pass(w, 2 * USEC_PER_SEC, USEC_PER_SEC / 4);
    UNIT_EQ(source()->measured.dirty_rate, 30 * MIB);
    UNIT_EQ(source()->policy.dirtying.count, 1);
    UNIT_EQ(did("dirty_rate_begin"), 1); /* no other while the guest is moved */
}

UNIT_TEST(not_awaited_stepped, "the stepped policy waits for no dirty rate, however it turns out")
{
    start_unmeasured_by("stepped", "80", 1);
    WORLD_UNTIL(w, is_moved());
    UNIT_EQ(source()->measured.dirty_rate, -1);
}

UNIT_TEST(not_awaited_idle, "a guest whose processors stand nearly still is not waited for either")
{
    start_unmeasured("80", 1000001);
    WORLD_UNTIL(w, source()->start_held);
    UNIT_TRUE(!is_moved()); /* that it is idle is not to be seen at once */
    world_pass(w, USEC_PER_SEC / 5, USEC_PER_SEC / 5);
    WORLD_UNTIL(w, is_moved());
    UNIT_EQ(source()->measured.dirty_rate, -1);
}

UNIT_TEST(awaited, "a guest whose processors run is waited for, and gets its throttle")
{
    start_unmeasured("80", 1);
    WORLD_UNTIL(w, source()->start_held);
    virt_fake_set_processor_ns(w->agent.virt, WORLD_INSTANCE, 250000001);
    unsigned looks = did("processor_ns");
    world_pass(w, USEC_PER_SEC / 2, USEC_PER_SEC / 2);
    WORLD_UNTIL(w, did("processor_ns") > looks + 1);
    UNIT_TRUE(!is_moved());
    virt_fake_set_dirty_rate(w->agent.virt, WORLD_INSTANCE, 150 * MIB);
    WORLD_UNTIL(w, is_moved());
    UNIT_EQ(virt_fake_migration(w->agent.virt, WORLD_INSTANCE)->auto_converge_initial, 80);
}

UNIT_TEST(awaited_ticks, "processor time that is told in ticks may be two of them more")
{
    start_unmeasured("80", 1000000000);
    WORLD_UNTIL(w, source()->start_held);
    unsigned looks = did("processor_ns");
    world_pass(w, USEC_PER_SEC / 2, USEC_PER_SEC / 2); /* 4 % of a processor are too much */
    WORLD_UNTIL(w, did("processor_ns") > looks + 1);
    UNIT_TRUE(!is_moved());
    virt_fake_set_dirty_rate(w->agent.virt, WORLD_INSTANCE, 0);
    WORLD_UNTIL(w, is_moved());
}

UNIT_TEST(measured_beside, "a preparation that takes its time gets the figure, whatever it decides")
{
    reopen(&(struct world_options){.threads = 4});
    virt_fake_set_dirty_rate(w->agent.virt, WORLD_INSTANCE, -1);
    world_add_guest(w, VIRT_STATE_RUNNING);
    world_begin_source(w);
    WORLD_UNTIL(w, waits(RPC_METHOD_pre_live_migration));
    WORLD_UNTIL(w, did("dirty_rate_look") >= 2);
    UNIT_TRUE(source()->measuring);
    virt_fake_set_dirty_rate(w->agent.virt, WORLD_INSTANCE, 30 * MIB);
    WORLD_UNTIL(w, !source()->measuring);
    UNIT_EQ(source()->measured.dirty_rate, 30 * MIB);
    UNIT_EQ(did("dirty_rate_begin"), 2); /* and a longer one goes on */
    world_run_source(w);
    UNIT_EQ(source()->policy.dirtying.count, 1);
}

static void measure_before(int64_t dirty_rate)
{
    struct measure_begun begun;

    virt_fake_set_dirty_rate(w->agent.virt, WORLD_INSTANCE, dirty_rate);
    world_add_guest(w, VIRT_STATE_RUNNING);
    UNIT_OK(measure_begin(w->agent.virt, WORLD_INSTANCE, 1024 * MIB, &begun, &unit_err));
    measure_early_keep(&w->agent, WORLD_INSTANCE, &begun);
}

UNIT_TEST(measured_early, "what the check began to measure is taken, and not measured again")
{
    reopen(&(struct world_options){.settings = {"libvirt.live_migration_bandwidth", "100"}});
    measure_before(150 * MIB);
    world_pass(w, 3 * USEC_PER_SEC, USEC_PER_SEC);
    world_begin_source(w);
    world_run_source(w);
    UNIT_EQ(source()->measured.dirty_rate, 150 * MIB);
    UNIT_EQ(virt_fake_migration(w->agent.virt, WORLD_INSTANCE)->auto_converge_initial, 75);
    UNIT_EQ(did("dirty_rate_begin"), 2); /* the second one is the longer */
    UNIT_TRUE(source()->long_measure_s >= 2);
    UNIT_TRUE(w->agent.measured_early == NULL);
}

UNIT_TEST(measured_too_early, "what was measured longer than ten seconds ago counts no more")
{
    reopen(&(struct world_options){.settings = {"libvirt.live_migration_bandwidth", "100"}});
    measure_before(150 * MIB);
    world_pass(w, 11 * USEC_PER_SEC, USEC_PER_SEC);
    world_begin_source(w);
    world_run_source(w);
    UNIT_EQ(did("dirty_rate_begin"), 3);
    UNIT_TRUE(w->agent.measured_early == NULL);
}

UNIT_TEST(measure_failed, "a dirty rate that cannot be measured stops nothing")
{
    reopen(NULL);
    virt_fake_fail(w->agent.virt, "dirty_rate_begin", ERR_TIMEOUT, "no figure", -1);
    start();
    UNIT_EQ(virt_fake_migration(w->agent.virt, WORLD_INSTANCE)->auto_converge_initial, 0);
    UNIT_EQ(source()->measured.dirty_rate, -1);
}

UNIT_TEST(measure_hangs,
          "a measurement that hangs is waited for no longer than it should have taken")
{
    reopen(&(struct world_options){.threads = 4});
    virt_fake_hang(w->agent.virt, "dirty_rate_begin", true);
    world_add_guest(w, VIRT_STATE_RUNNING);
    world_begin_source(w);
    WORLD_UNTIL(w, waits(RPC_METHOD_pre_live_migration));
    fake_rpc_answer(waits(RPC_METHOD_pre_live_migration), world_result("063"));
    WORLD_UNTIL(w, source()->start_held);
    world_pass(w, USEC_PER_SEC, USEC_PER_SEC / 4);
    UNIT_STR(state(), "SOURCE_STARTING");
    UNIT_EQ(did("migrate"), 0);
    world_pass(w, USEC_PER_SEC, USEC_PER_SEC / 4);
    UNIT_STR(state(), "SOURCE_RUNNING");
    virt_fake_hang(w->agent.virt, "dirty_rate_begin", false);
    WORLD_UNTIL(w, !source()->measuring);
    UNIT_EQ(source()->measured.dirty_rate, -1); /* too late: the guest is being moved */
}

UNIT_TEST(measure_aborted, "an abort while the measurement is waited for does not wait for it")
{
    reopen(&(struct world_options){.threads = 4});
    virt_fake_hang(w->agent.virt, "dirty_rate_begin", true);
    world_add_guest(w, VIRT_STATE_RUNNING);
    world_begin_source(w);
    WORLD_UNTIL(w, waits(RPC_METHOD_pre_live_migration));
    fake_rpc_answer(waits(RPC_METHOD_pre_live_migration), world_result("063"));
    WORLD_UNTIL(w, source()->start_held);
    abort_it();
    WORLD_UNTIL(w, waits(RPC_METHOD_rollback_live_migration_at_destination));
    take_back();
    WORLD_UNTIL(w, !source());
    virt_fake_hang(w->agent.virt, "dirty_rate_begin", false);
    virt_fake_set_memory(w->agent.virt, 1, 1);
    world_settle(w);
    UNIT_EQ(did("migrate"), 0);
    words_are("queued preparing cancelled");
    ended_here();
}

/* Neither throttle nor post-copy is permitted, and the timeout aborts. */
#define HOPELESS                                                                                   \
    "libvirt.live_migration_permit_auto_converge", "false", "libvirt.live_migration_bandwidth",    \
        "100"

UNIT_TEST(hopeless_refused,
          "what nothing permitted could end is refused before the start, if so wanted")
{
    start_dirtying(300,
                   &(struct world_options){
                       .settings = {HOPELESS, "libvirt.live_migration_refuse_hopeless", "true"}});
    WORLD_UNTIL(w, waits(RPC_METHOD_pre_live_migration));
    fake_rpc_answer(waits(RPC_METHOD_pre_live_migration), world_result("063"));
    WORLD_UNTIL(w, waits(RPC_METHOD_rollback_live_migration_at_destination));
    UNIT_HAS(source()->message, "dirties 300.0 MiB/s of memory, only 100.0 MiB/s can be sent and "
                                "the pause may last 500 ms");
    take_back();
    UNIT_EQ(did("migrate"), 0);
    words_are("queued preparing failed");
    ended_here();
}

UNIT_TEST(hopeless_tried, "else it is tried, and the warning has the figures")
{
    start_dirtying(300, &(struct world_options){.settings = {HOPELESS}});
    world_run_source(w);
    UNIT_STR(state(), "SOURCE_RUNNING");
    UNIT_TRUE(source()->start.hopeless);
}

/* ---- what a migration teaches about the way to its host ---- */

UNIT_TEST(learned,
          "a measured pause and an unlimited throughput are kept for the next one to that host")
{
    const char *host;

    start();
    struct virt_job job = {.active = true, .downtime_ms = -1, .memory_total = 900 * MIB};
    for (int i = 1; i <= 10; i++) {
        job.iteration = i < 5 ? 1 : 2;
        job.memory_processed = i * 50 * MIB;
        job.memory_remaining = i < 5 ? (900 - i * 50) * MIB : (20 - i) * MIB;
        sample_is(job);
        world_pass(w, USEC_PER_SEC / 2, USEC_PER_SEC / 2);
    }
    host = source()->destination_host;
    UNIT_EQ(host_pair_known(&w->agent, host).bandwidth, 0);
    int64_t expected_ms = source()->progress.told.pause_ms;
    UNIT_TRUE(expected_ms > 0);
    job.active = false;
    job.completed = true;
    job.downtime_ms = expected_ms + 40;
    monitor_completed(source(), &job);
    UNIT_EQ(host_pair_known(&w->agent, host).overhead_ms, 60 + 20);
    UNIT_TRUE(llabs(host_pair_known(&w->agent, host).bandwidth - 100 * MIB) < 2 * MIB);
    UNIT_EQ(host_pair_known(&w->agent, "another").bandwidth, 0);
    finish(VIRT_OUTCOME_COMPLETED, NULL);
    confirm();
}
