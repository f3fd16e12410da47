/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/agent_world.h"

#include "agent/operation.h"
#include "lib/fault.h"
#include "lib/json.h"
#include "lib/log.h"

static struct world *w;
static struct text_buffer trace; /* "a b -b -a " */
static struct operation *held;   /* the operation whose step waits for the test */
static bool job_fails;

static void setup(void)
{
    log_set_level(NULL, LOG_LEVEL_DEBUG);
    w = world_open(NULL);
    text_buffer_free(&trace);
    text_buffer_add(&trace, "");
    held = NULL;
    job_fails = false;
}

static void teardown(void)
{
    world_close(w);
    w = NULL;
    text_buffer_free(&trace);
}

UNIT_FIXTURE(setup, teardown)

static void note(const char *word)
{
    text_buffer_printf(&trace, "%s ", word);
}

static void step_a(struct operation *op)
{
    note("a");
    operation_next(op);
}
static void undo_a(struct operation *op)
{
    note("-a");
    operation_next(op);
}
static void step_hold(struct operation *op)
{
    note("hold");
    held = op;
}
static void undo_hold(struct operation *op)
{
    struct err e = ERR_INIT;

    note("-hold");
    err_set(&e, ERR_SYSTEM, "undoing failed too");
    operation_fail(op, &e);
}
static void step_c(struct operation *op)
{
    note("c");
    operation_next(op);
}
static void undo_c(struct operation *op)
{
    note("-c");
    operation_next(op);
}
static void failed(struct operation *op)
{
    note("failed");
    operation_next(op);
}
static void released(struct operation *op)
{
    (void)op;
    note("released");
}

static const struct operation_step plain_steps[] = {
    {"first", step_a, undo_a},
    {"hold", step_hold, undo_hold},
    {"last", step_c, undo_c},
    {NULL, NULL, NULL},
};
static const struct operation_kind plain = {.name = "plain",
                                            .event = "compute_plain",
                                            .steps = plain_steps,
                                            .failed = failed,
                                            .release = released};
static const struct operation_kind simple = {
    .name = "simple", .event = "compute_simple", .steps = plain_steps};
static const struct operation_step delete_steps[] = {{"delete", step_c, NULL}, {NULL, NULL, NULL}};
static const struct operation_kind delete_kind = {
    .name = "delete", .steps = delete_steps, .interrupts = true};

static struct instance *instance_here(const char *uuid)
{
    _cleanup_(json_putp) struct json_object *args = world_args("030");
    struct instance *instance = NULL;

    if (uuid)
        json_add_string(world_data(args, "instance"), "uuid", uuid);
    UNIT_OK(instance_from_json(json_get(args, "instance"), &instance, &unit_err));
    object_clear_changes(instance->object);
    return instance;
}

static struct operation *start(const struct operation_kind *kind, const char *uuid)
{
    struct operation *op = operation_start(&w->agent, instance_here(uuid), kind, NULL);

    world_settle(w);
    return op;
}

UNIT_TEST(in_order, "steps run in order, and the action event begins before and ends after them")
{
    start(&plain, NULL);
    UNIT_STR(trace.data, "a hold ");
    UNIT_EQ(world_count(w, "event compute_plain"), 1);
    UNIT_STR(operation_running(&w->agent, WORLD_INSTANCE), "plain");
    operation_next(held);
    world_settle(w);
    UNIT_STR(trace.data, "a hold c released ");
    UNIT_EQ(world_count(w, "event compute_plain done"), 1);
    UNIT_TRUE(operation_running(&w->agent, WORLD_INSTANCE) == NULL);
    UNIT_EQ(world_count(w, "fault"), 0);
}

UNIT_TEST(undone,
          "a failed step undoes those before it, last first, and goes on when an undo fails")
{
    struct err e = ERR_INIT;

    UNIT_OK(fault_arm("operation.plain.last=error", &e));
    start(&plain, NULL);
    operation_next(held);
    world_settle(w);
    UNIT_STR(trace.data, "a hold -hold -a failed released ");
    UNIT_EQ(world_count(w, "fault "), 1);
    UNIT_EQ(world_count(w, "event compute_plain failed: "), 1);
}

UNIT_TEST(task_state,
          "a kind without a state for failures has its task state cleared, and only that")
{
    struct err e = ERR_INIT;

    start(&simple, NULL);
    instance_set_vm_state(held->instance, "stopped");
    err_set(&e, ERR_VIRT, "libvirt says no");
    operation_fail(held, &e);
    world_settle(w);
    UNIT_STR(trace.data, "a hold -a ");
    UNIT_EQ(world_count(w, "instance saved on os-hosta: task_state=null"), 1);
    UNIT_EQ(world_count(w, "instance saved"), 1);
    UNIT_EQ(world_count(w, "fault libvirt says no"), 1);
}

UNIT_TEST(one_by_one, "operations on one instance run one by one, on two instances side by side")
{
    start(&plain, NULL);
    struct operation *first = held;
    start(&plain, NULL);
    UNIT_STR(trace.data, "a hold ");
    start(&plain, "22222222-2222-4333-8444-555555555555");
    UNIT_STR(trace.data, "a hold a hold ");
    _cleanup_(json_putp) struct json_object *rows = operation_list(&w->agent);
    UNIT_EQ(json_object_array_length(rows), 3);
    UNIT_STR(json_get_string(json_object_array_get_idx(rows, 1), "step", ""), "waiting");
    operation_next(held);
    operation_next(first);
    world_settle(w);
    operation_next(held);
    world_settle(w);
    UNIT_TRUE(w->agent.operations == NULL);
}

UNIT_TEST(interrupted, "a deletion makes the running one undo itself and leave the state alone")
{
    start(&plain, NULL);
    start(&plain, NULL); /* waits, and never begins */
    start(&delete_kind, NULL);
    UNIT_STR(trace.data, "a hold "); /* a step that runs is let run */
    operation_next(held);
    world_settle(w);
    UNIT_STR(trace.data, "a hold -hold -a released released c ");
    UNIT_EQ(world_count(w, "fault"), 0);
    UNIT_EQ(world_count(w, "instance saved"), 0);
}

UNIT_TEST(twice, "a second deletion does not interrupt the first")
{
    static const struct operation_kind slow = {
        .name = "slow delete", .steps = plain_steps, .interrupts = true, .release = released};

    start(&slow, NULL);
    struct operation *first = held;
    start(&slow, NULL);
    operation_next(first);
    world_settle(w);
    UNIT_STR(trace.data, "a hold c released a hold ");
    operation_next(held);
    world_settle(w);
}

/* ---- events ---- */

static bool wait_fatal;

static void step_expect(struct operation *op)
{
    operation_expect(op, "network-vif-plugged-1");
    operation_expect(op, "virt-stopped");
    operation_next(op);
}
static void step_wait(struct operation *op)
{
    operation_wait(op, 60 * INT64_C(1000000), wait_fatal);
}
static void step_told(struct operation *op)
{
    note(operation_event_came(op, "network-vif-plugged-1") ? "plugged" : "not plugged");
    operation_next(op);
}

static const struct operation_step wait_steps[] = {
    {"first", step_a, undo_a}, {"expect", step_expect, NULL}, {"hold", step_hold, NULL},
    {"wait", step_wait, NULL}, {"told", step_told, NULL},     {NULL, NULL, NULL},
};
static const struct operation_kind waiter = {
    .name = "waiter", .steps = wait_steps, .failed = failed, .release = released};

static bool plugged(const char *status)
{
    bool taken = operation_event(&w->agent, WORLD_INSTANCE, "network-vif-plugged-1", status);
    world_settle(w);
    return taken;
}

UNIT_TEST(early_event,
          "an event that comes before the wait counts, one that nobody expects does not")
{
    wait_fatal = true;
    start(&waiter, NULL);
    UNIT_TRUE(plugged("completed"));
    UNIT_TRUE(!plugged("completed"));
    UNIT_TRUE(!operation_event(&w->agent, WORLD_INSTANCE, "network-vif-plugged-2", "completed"));
    operation_next(held);
    world_settle(w);
    UNIT_STR(trace.data, "a hold ");
    agent_virt_event(&w->agent, WORLD_INSTANCE, VIRT_EVENT_STOPPED, 0);
    world_settle(w);
    UNIT_STR(trace.data, "a hold plugged released ");
}

UNIT_TEST(late_event, "a wait that is fatal fails at its time, another goes on")
{
    wait_fatal = false;
    start(&waiter, NULL);
    operation_next(held);
    world_pass(w, 59000000, 59000000);
    UNIT_STR(trace.data, "a hold ");
    world_pass(w, 2000000, 2000000);
    UNIT_STR(trace.data, "a hold not plugged released ");
    text_buffer_free(&trace);
    wait_fatal = true;
    start(&waiter, NULL);
    operation_next(held);
    world_pass(w, 61000000, 61000000);
    UNIT_STR(trace.data, "a hold -a failed released ");
    UNIT_TRUE(world_logged(w, "network-vif-plugged-1"));
}

UNIT_TEST(failed_event, "an event with status failed ends a fatal wait at once")
{
    wait_fatal = true;
    start(&waiter, NULL);
    operation_next(held);
    UNIT_TRUE(plugged("failed"));
    UNIT_STR(trace.data, "a hold -a failed released ");
}

UNIT_TEST(wait_interrupted, "a deletion ends a wait at once")
{
    wait_fatal = true;
    start(&waiter, NULL);
    operation_next(held);
    start(&delete_kind, NULL);
    UNIT_STR(trace.data, "a hold -a released c ");
}

/* ---- jobs, pauses, ends ---- */

struct numbers {
    int in, out;
};

static int double_it(struct agent *agent, void *data, struct err *e)
{
    struct numbers *n = data;

    (void)agent;
    if (job_fails)
        return err_set(e, ERR_DISK, "the disk is full");
    n->out = 2 * n->in;
    return 0;
}
static void doubled(struct operation *op)
{
    UNIT_EQ(((struct numbers *)op->data)->out, 42);
    note("doubled");
    operation_next(op);
}
static void step_job(struct operation *op)
{
    operation_job(op, "double", double_it, doubled);
}
static int pauses;
static void step_pause(struct operation *op)
{
    note("look");
    if (pauses-- > 0)
        operation_again(op, 500000);
    else
        operation_next(op);
}
static void step_state(struct operation *op)
{
    operation_save_state(op, "active", NULL, "spawning");
}
static void step_skip(struct operation *op)
{
    operation_skip_to_end(op);
}

static const struct operation_step job_steps[] = {
    {"first", step_a, undo_a},   {"job", step_job, NULL},   {"pause", step_pause, NULL},
    {"state", step_state, NULL}, {"skip", step_skip, NULL}, {"never", step_hold, NULL},
    {NULL, NULL, NULL},
};
static const struct operation_kind worker_kind = {
    .name = "worker", .steps = job_steps, .data_size = sizeof(struct numbers), .release = released};

UNIT_TEST(jobs, "a job works on the data, a pause runs its step again, the state is read and saved")
{
    pauses = 2;
    struct operation *op = operation_start(&w->agent, instance_here(NULL), &worker_kind, NULL);
    ((struct numbers *)op->data)->in = 21;
    world_add_guest(w, VIRT_STATE_RUNNING);
    world_settle(w);
    UNIT_STR(trace.data, "a doubled look ");
    world_pass(w, 1100000, 500000);
    UNIT_STR(trace.data, "a doubled look look look released ");
    UNIT_EQ(world_count(w, "instance saved on os-hosta:"), 1);
    UNIT_HAS(w->lines[world_place(w, "instance saved")], "vm_state=\"active\"");
    UNIT_HAS(w->lines[world_place(w, "instance saved")], "task_state=null");
    UNIT_HAS(w->lines[world_place(w, "instance saved")], "power_state=1");
    UNIT_HAS(w->lines[world_place(w, "instance saved")], ", expecting spawning");
}

UNIT_TEST(job_failed, "a job's failure fails its step")
{
    job_fails = true;
    start(&worker_kind, NULL);
    UNIT_STR(trace.data, "a -a released ");
    UNIT_EQ(world_count(w, "fault the disk is full"), 1);
}

static void step_two_places(struct operation *op)
{
    operation_wait_for_place(op, 2);
}

static const struct operation_step place_steps[] = {
    {"place", step_two_places, NULL}, {"hold", step_hold, NULL}, {NULL, NULL, NULL}};
static const struct operation_kind place_kind = {.name = "placed", .steps = place_steps};

UNIT_TEST(places,
          "of a kind with a limit so many run at the same time, the others wait for a place")
{
    static const char *const uuids[] = {"22222222-2222-4333-8444-555555555551",
                                        "22222222-2222-4333-8444-555555555552",
                                        "22222222-2222-4333-8444-555555555553"};

    for (size_t i = 0; i < ARRAY_LEN(uuids); i++)
        start(&place_kind, uuids[i]);
    world_pass(w, 1000000, 250000);
    UNIT_STR(trace.data, "hold hold ");
    operation_next(held);
    world_pass(w, 1000000, 250000);
    UNIT_STR(trace.data, "hold hold hold ");
}

UNIT_TEST(closed, "what runs when the agent ends is ended where it is, and nothing is undone")
{
    start(&plain, NULL);
    start(&plain, NULL);
    world_restart(w);
    UNIT_STR(trace.data, "a hold released released ");
    UNIT_TRUE(w->agent.operations == NULL);
    UNIT_EQ(world_count(w, "fault"), 0);
}

static void take_request(void *aux, struct rpc_request *request)
{
    operation_request(aux, request, &plain);
}

static struct fake_asked *ask(enum rpc_method_id method)
{
    _cleanup_(json_putp) struct json_object *recorded = world_args("030");
    struct json_object *args = json_object_new_object();

    json_add(args, "instance", json_object_get(json_get(recorded, "instance")));
    struct fake_asked *asked =
        fake_rpc_ask(w->agent.rpc, take_request, &w->agent, method, args, NULL);
    world_settle(w);
    return asked;
}

UNIT_TEST(request, "a cast is acknowledged when it is taken on, a call is answered at the end")
{
    struct fake_asked *cast = ask(RPC_METHOD_live_migration_force_complete);
    UNIT_TRUE(cast->accepted);
    operation_next(held);
    world_settle(w);
    UNIT_EQ(cast->end, FAKE_FREED);
    struct fake_asked *call = ask(RPC_METHOD_drop_move_claim_at_destination);
    UNIT_TRUE(!call->accepted);
    held->result = json_object_new_string("answer");
    operation_next(held);
    world_settle(w);
    UNIT_EQ(call->end, FAKE_REPLIED);
    UNIT_STR(json_object_get_string(call->result), "answer");
    struct err e = ERR_INIT;
    UNIT_OK(fault_arm("operation.plain.hold=error", &e));
    call = ask(RPC_METHOD_drop_move_claim_at_destination);
    UNIT_EQ(call->end, FAKE_FAILED);
}
