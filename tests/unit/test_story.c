/* SPDX-License-Identifier: Apache-2.0 */
/* The story of a migration on a host with the real history: stamps, notes and samples, told and restored. */
#include "tests/unit/agent_world.h"

#include "lib/clock.h"
#include "lib/json.h"

static struct world *w;
static struct json_object *account;

static void open_world(void)
{
    w = world_open(&(struct world_options){.standalone = true});
    world_add_guest(w, VIRT_STATE_RUNNING);
}

static void close_world(void)
{
    json_object_put(account);
    account = NULL;
    world_close(w);
    w = NULL;
}
UNIT_FIXTURE(open_world, close_world)

/* ---- shorthand ---- */

static struct migration *source(void)
{
    return world_migration(w, MIGRATION_SOURCE);
}

static void take(void *aux, struct json_object *entries, const struct err *failure)
{
    UNIT_TRUE(!failure);
    story_tell(account, entries, true);
    *(bool *)aux = true;
}

/* The account with the story as the history has it. */
static struct json_object *tell(const char *role)
{
    bool done = false;

    json_object_put(account);
    account = json_object_new_object();
    json_add_string(account, "role", role);
    json_add_string(account, "source", "os-hosta");
    json_add_string(account, "dest", "os-hostb");
    cloud_story(w->agent.cloud, WORLD_MIGRATION, role, take, &done);
    WORLD_UNTIL(w, done);
    return account;
}

static size_t length(const char *list)
{
    return json_object_array_length(json_get(account, list));
}

static struct json_object *stamp(const char *name, const char *host)
{
    struct json_object *list = json_get(json_get(account, "timeline"), "stamps");

    for (size_t i = 0; i < json_object_array_length(list); i++) {
        struct json_object *o = json_object_array_get_idx(list, i);
        if (text_equal(json_get_string(o, "name", ""), name) &&
            text_equal(json_get_string(o, "host", ""), host))
            return o;
    }
    return NULL;
}

static double since_start(const char *name, const char *host)
{
    return json_get_double(stamp(name, host), "since_start_ms", -1);
}

static struct virt_job job_with(int64_t remaining, int64_t processed)
{
    return (struct virt_job){.active = true,
                             .memory_total = 1000,
                             .memory_processed = processed,
                             .memory_remaining = remaining,
                             .dirty_rate = 7,
                             .iteration = 1,
                             .downtime_ms = -1};
}

static void run_with(const struct virt_job *jobs, size_t count)
{
    virt_fake_samples(w->agent.virt, WORLD_INSTANCE, jobs, count);
    world_begin_source(w);
    world_pass(w, 2 * USEC_PER_SEC, USEC_PER_SEC); /* the destination takes its time */
    world_run_source(w);
}

/* ---- the source ---- */

UNIT_TEST(whole, "from the request to the end each step is stamped, the destination's beside them")
{
    struct virt_job job = job_with(400, 600);
    run_with(&job, 1);
    world_pass(w, 3 * USEC_PER_SEC, USEC_PER_SEC / 2);
    virt_fake_iteration(w->agent.virt, WORLD_INSTANCE, 2);
    virt_fake_event(w->agent.virt, WORLD_INSTANCE, VIRT_EVENT_PAUSED_MIGRATION);
    world_pass(w, USEC_PER_SEC / 10, USEC_PER_SEC / 10);
    virt_fake_job_completed(w->agent.virt, WORLD_INSTANCE,
                            &(struct virt_job){.completed = true, .downtime_ms = 100});
    virt_fake_finish(w->agent.virt, WORLD_INSTANCE, VIRT_OUTCOME_COMPLETED, NULL);
    WORLD_UNTIL(w, fake_rpc_waiting(w->agent.rpc, RPC_METHOD_post_live_migration_at_destination));
    _cleanup_(json_putp) struct json_object *answer = json_object_new_object();
    struct timeline there = {0};
    timeline_begin(&there, clock_monotonic_us(), clock_realtime_us());
    timeline_stamp(&there, TIMELINE_RESUMED, clock_monotonic_us(), 0);
    json_add(answer, "computed_timeline", timeline_to_peer(&there));
    fake_rpc_answer(fake_rpc_waiting(w->agent.rpc, RPC_METHOD_post_live_migration_at_destination),
                    json_object_get(answer));
    world_settle(w);
    tell("source");
    static const char *const names[] = {
        "accepted",      "place",     "prepare_asked", "prepared",       "called",
        "first_byte",    "iteration", "paused",        "bindings_asked", "bindings_active",
        "job_completed", "returned",  "confirmed",     "cleaned",        "ended"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        UNIT_TRUE(stamp(names[i], "os-hosta") != NULL);
    UNIT_TRUE(since_start("accepted", "os-hosta") == 0.0);
    UNIT_TRUE(since_start("prepared", "os-hosta") == 2000.0);
    UNIT_TRUE(since_start("paused", "os-hosta") == 5000.0);
    UNIT_TRUE(since_start("resumed", "os-hostb") == 5100.0);
    UNIT_TRUE(json_get_double(stamp("resumed", "os-hostb"), "since_pause_ms", -1) == 100.0);
    UNIT_EQ(json_get_int(stamp("iteration", "os-hosta"), "iteration", 0), 2);
}

UNIT_TEST(silent, "between the pause and its outcome nothing is written, and nothing is lost")
{
    struct virt_job job = job_with(400, 600);
    run_with(&job, 1);
    virt_fake_event(w->agent.virt, WORLD_INSTANCE, VIRT_EVENT_PAUSED_MIGRATION);
    world_settle(w);
    tell("source");
    UNIT_TRUE(stamp("paused", "os-hosta") == NULL);
    virt_fake_finish(w->agent.virt, WORLD_INSTANCE, VIRT_OUTCOME_COMPLETED, NULL);
    /* libvirt's call ends on a thread of its own */
    WORLD_UNTIL(w, (tell("source"), stamp("paused", "os-hosta") != NULL));
}

UNIT_TEST(sampled, "a sample a second, with the figures of that moment")
{
    struct virt_job jobs[8];
    for (int i = 0; i < 8; i++)
        jobs[i] = job_with(1000 - 100 * i, 100 * i);
    run_with(jobs, 8);
    world_pass(w, 3 * USEC_PER_SEC + USEC_PER_SEC / 10, USEC_PER_SEC / 10);
    tell("source");
    UNIT_EQ(length("samples"), 4);
    struct json_object *first = json_object_array_get_idx(json_get(account, "samples"), 0);
    struct json_object *last = json_object_array_get_idx(json_get(account, "samples"), 3);
    UNIT_EQ(json_get_int(first, "memory_remaining", 0), 1000);
    UNIT_TRUE(json_get_int(last, "memory_remaining", 0) < 700);
    UNIT_EQ(json_get_int(last, "dirty_rate_bytes_s", 0), 7);
    UNIT_TRUE(json_get_double(last, "since_start_ms", 0) >= 5000.0);
    UNIT_TRUE(!json_has(last, "kind") && !json_has(last, "at_us"));
    /* no data had moved at the first look */
    UNIT_TRUE(since_start("first_byte", "os-hosta") > json_get_double(first, "since_start_ms", 0));
}

UNIT_TEST(
    not_begun,
    "what libvirt had not begun to copy is null in a sample, and no sample is kept of nothing")
{
    struct virt_job jobs[2] = {{.active = true, .downtime_ms = -1}, job_with(400, 600)};
    run_with(jobs, 2);
    world_pass(w, 2 * USEC_PER_SEC, USEC_PER_SEC / 10);
    tell("source");
    struct json_object *first = json_object_array_get_idx(json_get(account, "samples"), 0);
    UNIT_EQ(json_get_int(first, "memory_remaining", 0), 400);
    UNIT_TRUE(json_has(first, "disk_remaining") && !json_get(first, "disk_remaining"));
}

UNIT_TEST(long_one, "a migration of hours keeps at most 600 samples, spread evenly")
{
    struct virt_job job = job_with(400, 600);
    run_with(&job, 1);
    struct migration *m = source();
    m->progress.job = job;
    for (int second = 0; second < 3000; second++) {
        clock_fake_set(clock_monotonic_us() + USEC_PER_SEC);
        migration_story_sample(m);
    }
    tell("source");
    UNIT_TRUE(length("samples") > 300 && length("samples") <= STORY_SAMPLES_MAX);
    struct json_object *samples = json_get(account, "samples");
    double widest = 0, before = 0;
    for (size_t i = 0; i < length("samples"); i++) {
        double at = json_get_double(json_object_array_get_idx(samples, i), "since_start_ms", 0);
        if (i > 0 && at - before > widest)
            widest = at - before;
        before = at;
    }
    UNIT_TRUE(widest <= 9000.0); /* every 8th second */
}

UNIT_TEST(noted, "what policy and operators did is told with its time")
{
    struct virt_job job = job_with(400, 600);
    run_with(&job, 1);
    migration_note(source(), "raised \"it\" to %d ms", 90);
    world_pass(w, USEC_PER_SEC, USEC_PER_SEC);
    tell("source");
    struct json_object *note = json_object_array_get_idx(json_get(account, "notes"), 0);
    UNIT_STR(json_get_string(note, "text", ""), "raised \"it\" to 90 ms");
    UNIT_TRUE(json_get_double(note, "since_start_ms", 0) == 2000.0);
}

UNIT_TEST(survives, "a restart in the middle loses neither notes nor stamps nor samples")
{
    struct virt_job job = job_with(400, 600);
    close_world(); /* the adaptive policy would add notes of its own */
    w = world_open(&(struct world_options){
        .standalone = true, .settings = {"libvirt.live_migration_policy", "stepped"}});
    world_add_guest(w, VIRT_STATE_RUNNING);
    run_with(&job, 1);
    world_pass(w, 2 * USEC_PER_SEC, USEC_PER_SEC / 10);
    migration_note(source(), "before");
    world_restart(w);
    migration_note(source(), "after");
    _cleanup_(json_putp) struct json_object *now = migration_account(source());
    UNIT_EQ(json_object_array_length(json_get(now, "actions")), 2);
    UNIT_STR(json_object_get_string(json_object_array_get_idx(json_get(now, "actions"), 0)),
             "before");
    world_pass(w, 2 * USEC_PER_SEC, USEC_PER_SEC / 10);
    tell("source");
    UNIT_EQ(length("notes"), 2);
    UNIT_TRUE(length("samples") >= 3);
    UNIT_TRUE(stamp("called", "os-hosta") != NULL);
    UNIT_TRUE(since_start("accepted", "os-hosta") == 0.0);
}

/* ---- the destination ---- */

static void own_source(struct json_object *args)
{
    json_add_string(world_data(args, "migrate_data"), "computed_source_uri", "qemu+tcp://a/system");
}

UNIT_TEST(sent_back, "an agent of ours is told what the destination saw, a nova-compute nothing")
{
    for (int ours = 0; ours < 2; ours++) {
        close_world();
        w = world_open(&(struct world_options){.host = "os-hostb", .standalone = true});
        struct json_object *args = world_pre_args(WORLD_MIGRATION);
        if (ours)
            own_source(args);
        struct fake_asked *asked = world_ask(w, RPC_METHOD_pre_live_migration, args);
        WORLD_UNTIL(w, asked->end != FAKE_OPEN);
        struct json_object *stamps = json_get(world_data(asked->result, NULL), "computed_timeline");
        UNIT_EQ(stamps != NULL, ours);
        if (ours)
            UNIT_STR(json_get_string(json_object_array_get_idx(stamps, 0), "name", ""), "accepted");
    }
}
