/* SPDX-License-Identifier: Apache-2.0 */
/* Emptying a host: the job from the request to its end, by Nova's API and by the agents. */
#include "tests/unit/agent_world.h"

#include "agent/commands.h"
#include "agent/drain_internal.h"
#include "lib/clock.h"
#include "lib/fault.h"
#include "lib/json.h"

#define SMALL "10000000-0000-4000-8000-000000000001"
#define LARGE "10000000-0000-4000-8000-000000000002"
#define THIRD "10000000-0000-4000-8000-000000000003"

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

/* ---- shorthand ---- */

static void add(const char *uuid, const char *name, enum virt_state state)
{
    virt_fake_add(w->agent.virt, uuid, name, NULL, state);
}

static void three(void)
{
    add(SMALL, "small", VIRT_STATE_RUNNING);
    add(LARGE, "large", VIRT_STATE_PAUSED);
    add(THIRD, "third", VIRT_STATE_RUNNING);
}

static int begin(const char *to, int64_t parallel, bool disable)
{
    struct drain_request request = {
        .destination = to, .order = DRAIN_NAME, .parallel = parallel, .disable = disable};

    err_clear(&unit_err);
    int result = drain_begin(&w->agent, &request, &unit_err);
    world_settle(w);
    return result;
}

/* What the API says of a guest from now on. */
static void place(const char *uuid, const char *host, const char *reason)
{
    struct json_object *o = json_object_new_object();

    if (!w->places)
        w->places = json_object_new_object();
    json_add_string(o, "host", host);
    json_add_bool(o, "busy", false);
    json_add_string(o, "reason", reason);
    json_add(w->places, uuid, o);
}

static void pass(int seconds)
{
    world_pass(w, seconds * USEC_PER_SEC, USEC_PER_SEC);
}

static const char *job(void)
{
    return drain_state_word(w->agent.drain->state);
}

static const struct drain_guest *guest(const char *uuid)
{
    static const struct drain_guest none;

    for (size_t i = 0; i < w->agent.drain->count; i++)
        if (text_equal(w->agent.drain->guests[i].uuid, uuid))
            return &w->agent.drain->guests[i];
    UNIT_TRUE(!"the guest is in the list");
    return &none;
}

static bool is(const char *uuid, enum drain_guest_state state)
{
    return guest(uuid)->state == state;
}

/* Each place is news once a guest was asked for: what is asked for is busy first. */
static void all_moved(void)
{
    for (int round = 0; round < 4; round++) {
        place(SMALL, "os-hostb", NULL);
        place(LARGE, "os-hostb", NULL);
        place(THIRD, "os-hostc", NULL);
        pass(3);
    }
}

/* ---- the way out ---- */

UNIT_TEST(moves_all, "all guests move, so many at a time, in the order asked for")
{
    three();
    UNIT_EQ(begin(NULL, 2, false), 0);
    UNIT_STR(job(), "moving");
    UNIT_EQ(world_count(w, "move "), 2);
    UNIT_EQ(world_count(w, "move " LARGE " to any"), 1);
    place(LARGE, "os-hostb", NULL);
    pass(3);
    UNIT_EQ(world_count(w, "move "), 3);
    world_in_order(w, (const char *[]){"move " LARGE, "move " SMALL, "move " THIRD, NULL});
    all_moved();
    UNIT_STR(job(), "done");
    UNIT_STR(guest(THIRD)->at, "os-hostc");
    UNIT_TRUE(world_logged(w, "drain: done; 3 moved"));
}

UNIT_TEST(one_at_a_time, "without a number max_concurrent_live_migrations counts")
{
    three();
    UNIT_EQ(begin("os-hostb", 0, false), 0);
    UNIT_EQ(world_count(w, "move "), 1);
    UNIT_EQ(world_count(w, "move " LARGE " to os-hostb"), 1);
}

UNIT_TEST(largest, "the largest or the smallest may go first")
{
    struct drain_request request = {.order = DRAIN_SMALLEST, .parallel = 1};

    three();
    UNIT_OK(drain_begin(&w->agent, &request, &unit_err));
    world_settle(w);
    /* the fake's guests are equal in size: then the name counts, and no order loses one */
    UNIT_EQ(w->agent.drain->count, 3);
    UNIT_STR(w->agent.drain->guests[0].name, "large");
    UNIT_EQ(drain_order_parse("largest"), DRAIN_LARGEST);
    UNIT_EQ(drain_order_parse("any"), -1);
}

UNIT_TEST(empty, "a host without guests is drained at once")
{
    UNIT_EQ(begin(NULL, 0, false), 0);
    UNIT_STR(job(), "done");
}

UNIT_TEST(one_stays, "a guest that cannot move is told with its reason, and the others go on")
{
    three();
    UNIT_EQ(begin(NULL, 3, false), 0);
    place(LARGE, "os-hosta", "nova.exception.NoValidHost: No valid host was found.");
    pass(3);
    UNIT_TRUE(is(LARGE, DRAIN_GUEST_STAYS));
    UNIT_HAS(guest(LARGE)->reason, "No valid host");
    place(SMALL, "os-hostb", NULL);
    place(THIRD, "os-hostb", NULL);
    pass(10);
    UNIT_STR(job(), "done");
    UNIT_EQ(drain_count(w->agent.drain, DRAIN_GUEST_MOVED), 2);
}

UNIT_TEST(one_refused, "a guest whose move is refused at once is told with the words of the API")
{
    three();
    UNIT_OK(fault_arm("world.move=error@1", &unit_err));
    UNIT_EQ(begin(NULL, 0, false), 0);
    UNIT_TRUE(is(LARGE, DRAIN_GUEST_STAYS));
    UNIT_HAS(guest(LARGE)->reason, "world.move");
    UNIT_EQ(world_count(w, "move " SMALL), 1);
}

UNIT_TEST(shut_off, "a guest that is shut off is left alone and told")
{
    add(SMALL, "small", VIRT_STATE_SHUTOFF);
    UNIT_EQ(begin(NULL, 0, false), 0);
    UNIT_STR(job(), "done");
    UNIT_TRUE(is(SMALL, DRAIN_GUEST_SKIPPED));
    UNIT_HAS(guest(SMALL)->reason, "shut");
}

UNIT_TEST(looks_fail,
          "a look that fails for a while changes nothing, and one that fails for ever ends")
{
    add(SMALL, "small", VIRT_STATE_RUNNING);
    UNIT_EQ(begin(NULL, 0, false), 0);
    UNIT_OK(fault_arm("world.whereabouts=error", &unit_err));
    pass(60);
    UNIT_TRUE(is(SMALL, DRAIN_GUEST_MOVING));
    UNIT_HAS(guest(SMALL)->reason, "world.whereabouts");
    world_pass(w, 700 * USEC_PER_SEC, 2 * USEC_PER_SEC);
    UNIT_TRUE(is(SMALL, DRAIN_GUEST_STAYS));
    UNIT_STR(job(), "done");
}

UNIT_TEST(no_journal, "without a journal nothing is asked for, and the reason is told")
{
    add(SMALL, "small", VIRT_STATE_RUNNING);
    UNIT_OK(fault_arm("journal.write=error", &unit_err));
    UNIT_EQ(begin(NULL, 0, false), 0);
    pass(3);
    UNIT_EQ(world_count(w, "move "), 0);
    UNIT_TRUE(is(SMALL, DRAIN_GUEST_STAYS));
    UNIT_STR(job(), "done");
}

UNIT_TEST(refusals, "a destination that cannot be one is refused with the reason")
{
    UNIT_EQ(begin("os-hosta", 0, false), -1);
    UNIT_HAS(unit_err.text, "is the host that is to be drained");
    UNIT_EQ(begin("no host", 0, false), -1);
    w->agent.draining = true;
    UNIT_EQ(begin(NULL, 0, false), -1);
    UNIT_HAS(unit_err.text, "is stopping");
}

UNIT_TEST(service_first, "the service is disabled before the first guest moves")
{
    three();
    UNIT_EQ(begin(NULL, 0, true), 0);
    world_in_order(w, (const char *[]){"service disabled", "move ", NULL});
    UNIT_TRUE(w->agent.drain->disabled);
}

UNIT_TEST(service_fails, "a service that cannot be disabled ends the drain before anything moved")
{
    three();
    UNIT_OK(fault_arm("world.service_enable=error", &unit_err));
    UNIT_EQ(begin(NULL, 0, true), 0);
    UNIT_STR(job(), "failed");
    UNIT_HAS(w->agent.drain->reason, "world.service_enable");
    UNIT_EQ(world_count(w, "move "), 0);
}

UNIT_TEST(denied, "an account that may not ask ends the drain at the first guest, with the reason")
{
    struct drain_call *call = NEW(struct drain_call);
    struct err e = ERR_INIT;

    three();
    UNIT_EQ(begin(NULL, 1, false), 0);
    call->drain = w->agent.drain;
    call->drain->references++;
    err_set(&e, ERR_DENIED, "give one of an administrator in [nova]");
    drain_asked(call, NULL, &e, false);
    pass(3);
    UNIT_STR(job(), "stopped");
    UNIT_HAS(w->agent.drain->reason, "administrator");
    UNIT_EQ(world_count(w, "move "), 1);
}

/* ---- joining, stopping, continuing ---- */

UNIT_TEST(joined, "a second request joins the drain under way; another destination is refused")
{
    three();
    UNIT_EQ(begin(NULL, 1, false), 0);
    UNIT_EQ(begin(NULL, 2, false), 0);
    UNIT_EQ(world_count(w, "move "), 2); /* with its new number */
    UNIT_EQ(begin("os-hostb", 0, false), -1);
    UNIT_EQ(unit_err.code, ERR_INSTANCE_STATE);
}

UNIT_TEST(stopped, "a drain that is stopped lets those end that move, and a second one goes on")
{
    three();
    UNIT_EQ(begin(NULL, 1, false), 0);
    UNIT_OK(drain_stop(&w->agent, &unit_err));
    UNIT_STR(job(), "stopping");
    place(LARGE, "os-hostb", NULL);
    virt_fake_remove(w->agent.virt, LARGE);
    pass(3);
    UNIT_STR(job(), "stopped");
    UNIT_EQ(world_count(w, "move "), 1);
    UNIT_FAILS(drain_stop(&w->agent, &unit_err), ERR_INSTANCE_STATE);
    UNIT_EQ(begin(NULL, 3, false), 0);
    UNIT_EQ(world_count(w, "move "), 3);
    UNIT_TRUE(is(LARGE, DRAIN_GUEST_MOVED)); /* can still be undone */
    all_moved();
    UNIT_EQ(drain_count(w->agent.drain, DRAIN_GUEST_MOVED), 3);
}

UNIT_TEST(goes_on_after_stop, "the same request takes a stop back")
{
    three();
    UNIT_EQ(begin(NULL, 1, false), 0);
    UNIT_OK(drain_stop(&w->agent, &unit_err));
    UNIT_EQ(begin(NULL, 1, false), 0);
    UNIT_STR(job(), "moving");
}

/* ---- restarts ---- */

UNIT_TEST(restarted, "a drain goes on after a restart and asks for nothing twice")
{
    three();
    UNIT_EQ(begin(NULL, 1, false), 0);
    world_restart(w);
    UNIT_STR(job(), "moving");
    pass(6);
    UNIT_EQ(world_count(w, "move " LARGE), 1);
    all_moved();
    UNIT_STR(job(), "done");
    UNIT_EQ(world_count(w, "move "), 3);
}

UNIT_TEST(asked_unsent, "a move that a restart cut off before it was asked for is asked for again")
{
    add(SMALL, "small", VIRT_STATE_RUNNING);
    UNIT_EQ(begin(NULL, 1, false), 0);
    struct drain_guest *g = &w->agent.drain->guests[0];
    free(STEAL(g->attempt));
    g->state = DRAIN_GUEST_ASKED;
    _cleanup_(json_putp) struct json_object *record = drain_to_record(w->agent.drain);
    UNIT_OK(journal_write(w->agent.journal, w->agent.drain->uuid, "drain", record, &unit_err));
    world_restart(w);
    place(SMALL, "os-hosta", NULL);
    pass(6);
    UNIT_EQ(world_count(w, "move " SMALL), 2);
    place(SMALL, "os-hostb", NULL);
    pass(6);
    UNIT_STR(job(), "done");
    UNIT_TRUE(is(SMALL, DRAIN_GUEST_MOVED));
}

UNIT_TEST(ended_remembered, "after a restart the ended drain is known, and can be undone")
{
    three();
    UNIT_EQ(begin(NULL, 3, true), 0);
    all_moved();
    world_restart(w);
    UNIT_STR(job(), "done");
    UNIT_OK(drain_undo(&w->agent, &unit_err));
    world_settle(w);
    UNIT_EQ(world_count(w, "service enabled"), 1);
    UNIT_EQ(world_count(w, "move " SMALL " to os-hosta"), 1);
}

UNIT_TEST(bad_record, "a record that cannot be read is told and hurts nothing")
{
    _cleanup_(json_putp) struct json_object *record = json_object_new_object();

    json_add_int(record, "version", 1);
    json_add_string(record, "uuid", SMALL);
    json_add_string(record, "state", "sleeping");
    json_add_string(record, "order", "name");
    drain_resume(&w->agent, record);
    UNIT_TRUE(w->agent.drain == NULL);
    UNIT_TRUE(world_logged(w, "state sleeping"));
}

UNIT_TEST(libvirt_away, "while libvirt is away the drain waits, and nobody is left out for that")
{
    three();
    virt_fake_set_up(w->agent.virt, false, "libvirtd was restarted");
    world_settle(w);
    UNIT_EQ(begin(NULL, 1, false), 0);
    pass(10);
    UNIT_STR(job(), "starting");
    virt_fake_set_up(w->agent.virt, true, "");
    world_settle(w);
    pass(4);
    UNIT_STR(job(), "moving");
    UNIT_EQ(world_count(w, "move "), 1);
    virt_fake_set_up(w->agent.virt, false, "again");
    place(LARGE, "os-hostb", NULL);
    pass(10);
    UNIT_STR(job(), "moving");
    UNIT_EQ(world_count(w, "move "), 1);
    virt_fake_set_up(w->agent.virt, true, "");
    pass(4);
    UNIT_EQ(world_count(w, "move "), 2);
}

/* ---- undoing ---- */

UNIT_TEST(undone, "undo enables the service and brings back what is where it was put")
{
    three();
    UNIT_EQ(begin(NULL, 3, true), 0);
    all_moved();
    place(THIRD, "os-hostd", NULL); /* somebody moved it on */
    UNIT_OK(drain_undo(&w->agent, &unit_err));
    pass(1);
    UNIT_EQ(world_count(w, "service enabled"), 1);
    UNIT_TRUE(is(THIRD, DRAIN_GUEST_GONE));
    UNIT_HAS(guest(THIRD)->reason, "it is on os-hostd now");
    place(SMALL, "os-hosta", NULL);
    place(LARGE, "os-hostb", "nova.exception.NoValidHost");
    pass(6);
    UNIT_STR(job(), "done");
    UNIT_TRUE(is(SMALL, DRAIN_GUEST_RETURNED));
    UNIT_TRUE(is(LARGE, DRAIN_GUEST_STAYS));
    UNIT_OK(drain_undo(&w->agent, &unit_err)); /* the one that stayed, again */
    pass(1);
    place(LARGE, "os-hosta", NULL);
    pass(6);
    UNIT_TRUE(is(LARGE, DRAIN_GUEST_RETURNED));
    world_restart(w); /* nothing is left of it */
    UNIT_TRUE(w->agent.drain == NULL);
    UNIT_FAILS(drain_undo(&w->agent, &unit_err), ERR_INSTANCE_STATE);
}

UNIT_TEST(undo_refused, "undo is refused while the drain runs, and where there was none")
{
    UNIT_FAILS(drain_undo(&w->agent, &unit_err), ERR_INSTANCE_STATE);
    three();
    UNIT_EQ(begin(NULL, 1, false), 0);
    UNIT_FAILS(drain_undo(&w->agent, &unit_err), ERR_INSTANCE_STATE);
    UNIT_HAS(unit_err.text, "stop it first");
}

/* ---- commands ---- */

static void replied(void *aux, struct json_object *result, const struct err *failure)
{
    if (failure)
        unit_err = *failure;
    *(struct json_object **)aux = json_object_get(result);
}

static struct json_object *command(const char *name, const char *args)
{
    _cleanup_(json_putp) struct json_object *o = NULL;
    struct json_object *result = NULL;

    err_clear(&unit_err);
    UNIT_OK(json_parse(args, strlen(args), &o, &unit_err));
    commands_run(&w->agent, name, o, replied, &result);
    world_settle(w);
    return result;
}

UNIT_TEST(status, "the status tells each guest, the counts and how long it will take")
{
    three();
    json_object_put(command("drain", "{\"parallel\": 2, \"order\": \"name\"}"));
    place(LARGE, "os-hostb", NULL);
    pass(4);
    _cleanup_(json_putp) struct json_object *o = command("drain-status", "{}");
    UNIT_STR(json_get_string(o, "state", NULL), "moving");
    UNIT_STR(json_get_string(o, "host", NULL), "os-hosta");
    UNIT_EQ(json_get_int(json_get(o, "counts"), "moved", -1), 1);
    UNIT_EQ(json_get_int(json_get(o, "counts"), "moving", -1), 2);
    UNIT_EQ(json_object_array_length(json_get(o, "guests")), 3);
    int64_t size = json_get_int(o, "size_bytes", 0), left = json_get_int(o, "left_bytes", 0);
    UNIT_EQ(left * 3, size * 2);
    int64_t elapsed = json_get_int(o, "elapsed_s", 0);
    UNIT_EQ(json_get_int(o, "time_left_s", -1), elapsed * 2);
}

UNIT_TEST(bad_arguments, "arguments that are none are refused by name")
{
    UNIT_TRUE(command("drain", "{\"order\": \"best\"}") == NULL);
    UNIT_HAS(unit_err.text, "largest, smallest or name");
    UNIT_TRUE(command("drain", "{\"parallel\": 0}") == NULL);
    UNIT_TRUE(command("drain-status", "{}") == NULL);
    UNIT_HAS(unit_err.text, "was not drained");
    UNIT_TRUE(command("drain-stop", "{}") == NULL);
}

/* ---- by the agents ---- */

static void open_standalone(void)
{
    world_close(w);
    w = world_open(&(struct world_options){.standalone = true});
    add(SMALL, "small", VIRT_STATE_RUNNING);
}

static struct fake_call *waits(enum rpc_method_id method)
{
    return fake_rpc_waiting(w->agent.rpc, method);
}

UNIT_TEST(standalone_needs_to, "standalone needs a destination, and has no service to disable")
{
    open_standalone();
    UNIT_EQ(begin(NULL, 0, false), -1);
    UNIT_HAS(unit_err.text, "--to must name the host");
    UNIT_EQ(begin("os-hostb", 0, true), -1);
    UNIT_HAS(unit_err.text, "no compute service");
}

UNIT_TEST(standalone_refused,
          "in standalone the destination is asked, and its refusal is the reason")
{
    open_standalone();
    UNIT_EQ(begin("os-hostb", 0, false), 0);
    WORLD_UNTIL(w, waits(RPC_METHOD_check_can_live_migrate_destination));
    fake_rpc_fail(waits(RPC_METHOD_check_can_live_migrate_destination), ERR_PRECHECK, "no room");
    WORLD_UNTIL(w, is(SMALL, DRAIN_GUEST_STAYS));
    UNIT_HAS(guest(SMALL)->reason, "no room");
    WORLD_UNTIL(w, text_equal(job(), "done"));
}

UNIT_TEST(standalone_one_by_one,
          "with one at a time the next guest has its turn when one has ended")
{
    open_standalone();
    add(LARGE, "large", VIRT_STATE_RUNNING);
    UNIT_EQ(begin("os-hostb", 1, false), 0);
    struct drain_guest *first = &w->agent.drain->guests[0];
    WORLD_UNTIL(w, waits(RPC_METHOD_check_can_live_migrate_destination));
    first->state = DRAIN_GUEST_MOVING; /* its record says that it is there: the look ends it */
    first->attempt = text_dup(WORLD_OTHER);
    pass(2);
    UNIT_TRUE(first->state == DRAIN_GUEST_STAYS);
    UNIT_STR(job(), "moving");
    UNIT_EQ(drain_count(w->agent.drain, DRAIN_GUEST_ASKED), 1);
    fake_rpc_fail(waits(RPC_METHOD_check_can_live_migrate_destination), ERR_PRECHECK, "no room");
    world_settle(w);
}

/* As if the drain had put it there. */
static void moved_to_b(void)
{
    open_standalone();
    UNIT_EQ(begin("os-hostb", 0, false), 0);
    struct drain *d = w->agent.drain;
    d->guests[0].state = DRAIN_GUEST_MOVED;
    d->guests[0].at = text_dup("os-hostb");
    d->state = DRAIN_DONE;
    UNIT_OK(drain_undo(&w->agent, &unit_err));
    WORLD_UNTIL(w, waits(RPC_METHOD_control));
}

static struct json_object *account(const char *status)
{
    struct json_object *o = json_object_new_object();

    json_add_string(o, "uuid", WORLD_MIGRATION);
    json_add_string(o, "status", status);
    json_add_string(o, "dest", "os-hosta");
    return o;
}

UNIT_TEST(standalone_undone, "in standalone the agent that has the guest is asked to send it back")
{
    moved_to_b();
    struct fake_call *call = waits(RPC_METHOD_control);
    UNIT_STR(call->server, "os-hostb");
    UNIT_STR(json_get_string(call->args, "command", NULL), "migrate");
    UNIT_STR(json_get_string(json_get(call->args, "args"), "dest", NULL), "os-hosta");
    fake_rpc_answer(call, account("accepted"));
    world_settle(w);
    pass(2);
    WORLD_UNTIL(w, waits(RPC_METHOD_control));
    UNIT_STR(json_get_string(waits(RPC_METHOD_control)->args, "command", NULL), "migration");
    fake_rpc_answer(waits(RPC_METHOD_control), account("completed"));
    world_settle(w);
    pass(1);
    UNIT_TRUE(is(SMALL, DRAIN_GUEST_RETURNED));
    UNIT_STR(job(), "done");
}

UNIT_TEST(standalone_moved_on, "a guest that the other agent does not have is left alone")
{
    moved_to_b();
    fake_rpc_fail(waits(RPC_METHOD_control), ERR_NO_INSTANCE, "instance small is not known");
    world_settle(w);
    pass(1);
    UNIT_TRUE(is(SMALL, DRAIN_GUEST_GONE));
    UNIT_STR(job(), "done");
}
