/* SPDX-License-Identifier: Apache-2.0 */
/* The destination's side of a migration: preparing, arrival, taking back. */
#include "tests/unit/agent_world.h"

#include <json-c/linkhash.h>
#include <string.h>

#include "cloud/cloud_provider.h"
#include "lib/clock.h"
#include "lib/fault.h"
#include "lib/json.h"

static struct world *w;

static void open_world(void)
{
    w = world_open(&(struct world_options){.host = "os-hostb"});
}

static void close_world(void)
{
    world_close(w);
    w = NULL;
}
UNIT_FIXTURE(open_world, close_world)

/* ---- shorthand ---- */

static struct migration *destination(void)
{
    return world_migration(w, MIGRATION_DESTINATION);
}

static const char *state(void)
{
    return destination() ? machine_state_name(destination()->state) : "-";
}

static unsigned did(const char *op)
{
    return virt_fake_count(w->agent.virt, op);
}

static bool has_directory(void)
{
    return world_has_file(w, WORLD_INSTANCE);
}

static struct fake_asked *post(void)
{
    struct fake_asked *a =
        world_ask(w, RPC_METHOD_post_live_migration_at_destination, world_args("099"));

    world_settle(w);
    return a;
}

/* A rollback for the migration of that uuid; NULL = without one, as a Python source may send. */
static struct fake_asked *roll_back(const char *uuid)
{
    struct json_object *args = world_pre_args(uuid);

    json_object_object_del(args, "disk");
    json_add(args, "destroy_disks", json_object_new_boolean(1));
    struct fake_asked *a = world_ask(w, RPC_METHOD_rollback_live_migration_at_destination, args);
    world_settle(w);
    return a;
}

static void arrive(enum virt_state guest)
{
    world_add_guest(w, guest);
    virt_fake_event(w->agent.virt, WORLD_INSTANCE, VIRT_EVENT_RESUMED_MIGRATION);
    world_settle(w);
}

static void words_are(const char *words)
{
    _cleanup_(str_freep) char *text = world_words(w, "destination");

    UNIT_STR(text, words);
}

/* As before the migration: no directory, no port, no record, nothing in memory. */
static void nothing_left(void)
{
    world_pass(w, 10000, 10000);
    UNIT_TRUE(!has_directory());
    UNIT_EQ(net_fake_plugged(w->agent.net), 0);
    UNIT_STR(world_state(w, WORLD_MIGRATION, "destination"), "-");
    UNIT_STR(state(), "-");
}

/* The names of the journal's undo steps, joined. */
static char *undo_names(void)
{
    _cleanup_(json_putp) struct json_object *record =
        world_record(w, WORLD_MIGRATION, "destination");
    struct json_object *steps = json_get(record, "undo");
    struct text_buffer b = TEXT_BUFFER_INIT;

    for (size_t i = 0; steps && i < json_object_array_length(steps); i++)
        text_buffer_printf(&b, "%s%s", i ? " " : "",
                           json_object_get_string(
                               json_object_array_get_idx(json_object_array_get_idx(steps, i), 0)));
    return b.length ? text_buffer_take(&b) : text_dup("");
}

/* ---- the happy path ---- */

UNIT_TEST(prepares, "a guest is prepared for: acknowledged at once, answered when all is there")
{
    struct fake_asked *a =
        world_ask(w, RPC_METHOD_pre_live_migration, world_pre_args(WORLD_MIGRATION));
    UNIT_TRUE(!a->accepted);
    world_settle(w);
    UNIT_EQ(a->end, FAKE_REPLIED);
    UNIT_TRUE(has_directory());
    UNIT_EQ(net_fake_plugged(w->agent.net), 1);
    UNIT_STR(world_state(w, WORLD_MIGRATION, "destination"), "DESTINATION_PREPARED");
    _cleanup_(str_freep) char *names = undo_names();
    UNIT_STR(names, "storage.remove_directory net.unplug");
    words_are("preparing prepared");
    UNIT_EQ(world_count(w, "event compute_pre_live_migration done"), 1);
}

UNIT_TEST(group_refuses, "a guest whose server group does not permit it here finds nothing made")
{
    UNIT_OK(fault_arm("world.server_group_check=error", &unit_err));
    struct fake_asked *a = world_prepare_destination(w);
    UNIT_EQ(a->end, FAKE_FAILED);
    UNIT_STR(err_wire_class(&a->e), "GroupAffinityViolation");
    UNIT_EQ(world_count(w, "event compute_pre_live_migration failed: "), 1);
    UNIT_EQ(world_count(w, "bindings"), 0);
    nothing_left();
}

static struct {
    cloud_done_fn done;
    void *aux;
} held_check;

static void hold_check(struct cloud *cloud, struct json_object *context, const char *instance_uuid,
                       const char *hint, cloud_done_fn done, void *aux)
{
    (void)cloud;
    (void)context;
    (void)instance_uuid;
    (void)hint;
    held_check.done = done;
    held_check.aux = aux;
}

UNIT_TEST(rollback_in_group_check, "a rollback while the server group is looked at is not lost")
{
    struct cloud_ops ops = *w->agent.cloud->ops;
    const struct cloud_ops *before = w->agent.cloud->ops;

    held_check.done = NULL;
    ops.server_group_check = hold_check;
    w->agent.cloud->ops = &ops;
    struct fake_asked *a = world_prepare_destination(w);
    UNIT_STR(state(), "DESTINATION_ACCEPTED");
    roll_back(WORLD_MIGRATION);
    UNIT_EQ(a->end, FAKE_OPEN);
    if (UNIT_TRUE(held_check.done != NULL))
        held_check.done(held_check.aux, NULL);
    w->agent.cloud->ops = before;
    world_settle(w);
    UNIT_EQ(a->end, FAKE_FAILED);
    nothing_left();
}

static bool wiring_was_asked(void)
{
    _cleanup_(str_freep) char *calls = net_fake_calls(w->agent.net);

    return strstr(calls, "wired " WORLD_TAP) != NULL;
}

/* A world under Nova whose tap nobody has wired; its request for preparation. */
static struct fake_asked *prepare_unwired(const char *timeout_ms)
{
    world_close(w);
    w = world_open(&(struct world_options){
        .host = "os-hostb",
        .settings = {"agent.control_plane", "nova", "net.wiring_timeout", timeout_ms}});
    net_fake_set_unwired(w->agent.net, WORLD_TAP, true);
    struct fake_asked *a = world_prepare_destination(w);
    if (!text_equal(timeout_ms,
                    "0")) /* the time counts from the moment when a worker takes it up */
        WORLD_UNTIL(w, wiring_was_asked());
    return a;
}

UNIT_TEST(wired_first, "the source is answered when Neutron's agent has wired the ports")
{
    struct fake_asked *a = prepare_unwired("60000");

    UNIT_EQ(a->end, FAKE_OPEN);
    UNIT_STR(state(), "DESTINATION_PREPARED");
    net_fake_set_unwired(w->agent.net, WORLD_TAP, false);
    WORLD_UNTIL(w, a->end == FAKE_REPLIED);
    UNIT_EQ(world_count(w, "bindings announce"), 1);
}

UNIT_TEST(never_wired, "a network that stays away costs wiring_timeout and a warning, not the move")
{
    struct fake_asked *a = prepare_unwired("4000");

    world_pass(w, 3 * USEC_PER_SEC, USEC_PER_SEC);
    UNIT_EQ(a->end, FAKE_OPEN);
    world_pass(w, USEC_PER_SEC, USEC_PER_SEC);
    WORLD_UNTIL(w, a->end == FAKE_REPLIED);
    UNIT_TRUE(world_logged(w, "has no way out of this host after 4000 ms"));
    arrive(VIRT_STATE_RUNNING);
    UNIT_STR(state(), "DESTINATION_HERE");
}

UNIT_TEST(wired_late, "a wait that takes long is told, and goes on")
{
    struct fake_asked *a = prepare_unwired("60000");

    world_pass(w, 5 * USEC_PER_SEC, USEC_PER_SEC);
    WORLD_UNTIL(w, world_logged(w, "the copy waits 56 s more at most"));
    UNIT_EQ(a->end, FAKE_OPEN);
    net_fake_set_unwired(w->agent.net, WORLD_TAP, false);
    WORLD_UNTIL(w, a->end == FAKE_REPLIED);
    UNIT_TRUE(!world_logged(w, "has no way out of this host"));
}

UNIT_TEST(unwired_there, "a port that has no way at the source either is not waited for")
{
    struct json_object *args = world_pre_args(WORLD_MIGRATION), *there = json_object_new_array();

    json_object_array_add(there, json_object_new_int(1));
    json_object_array_add(there, json_object_new_string(WORLD_PORT));
    json_add(world_data(args, "migrate_data"), "computed_unwired", there);
    world_close(w);
    w = world_open(
        &(struct world_options){.host = "os-hostb", .settings = {"agent.control_plane", "nova"}});
    net_fake_set_unwired(w->agent.net, WORLD_TAP, true);
    struct fake_asked *a = world_ask(w, RPC_METHOD_pre_live_migration, args);
    WORLD_UNTIL(w, a->end == FAKE_REPLIED);
    UNIT_TRUE(!wiring_was_asked());
}

UNIT_TEST(rollback_while_unwired, "a rollback does not wait for the network")
{
    struct fake_asked *a = prepare_unwired("60000");

    UNIT_EQ(roll_back(WORLD_MIGRATION)->end, FAKE_FREED);
    UNIT_EQ(a->end, FAKE_FAILED);
    net_fake_set_unwired(w->agent.net, WORLD_TAP, false);
    nothing_left();
}

UNIT_TEST(wiring_is_neutrons, "nobody is waited for with wiring_timeout 0, nor in standalone")
{
    UNIT_EQ(prepare_unwired("0")->end, FAKE_REPLIED);
    UNIT_TRUE(!wiring_was_asked());
    close_world();
    open_world();
    UNIT_EQ(world_prepare_destination(w)->end, FAKE_REPLIED);
    UNIT_TRUE(!wiring_was_asked());
}

UNIT_TEST(recorded_answer, "the answer has every field of the recorded one, of the same type")
{
    world_close(w);
    w = world_open(&(struct world_options){
        .host = "os-hostb", .settings = {"libvirt.live_migration_inbound_addr", "198.51.100.12"}});
    struct fake_asked *a = world_prepare_destination(w);
    _cleanup_(json_putp) struct json_object *recorded = world_result("063");
    struct json_object *ours = world_data(a->result, NULL), *nova = world_data(recorded, NULL);

    json_object_object_foreach (nova, key, value) {
        struct json_object *own = json_get(ours, key);
        unit_check(json_has(ours, key) && json_object_get_type(own) == json_object_get_type(value),
                   __LINE__, __FILE__, "field %s is missing or of another type", key);
    }
    UNIT_STR(json_get_string(a->result, "nova_object.name", ""), "LibvirtLiveMigrateData");
    /* with a true we would promise an event that nobody sends */
    UNIT_TRUE(!json_get_bool(ours, "wait_for_vif_plugged", true));
}

UNIT_TEST(told_in_order,
          "Nova has the host first, and the end of the task when the bindings are gone")
{
    w->network_info = json_object_new_array();
    world_prepare_destination(w);
    arrive(VIRT_STATE_RUNNING);
    post();
    size_t host = world_place(w, "instance saved on os-hostb");
    size_t moved = world_place(w, "ports moved here");
    size_t removed = world_place(w, "bindings delete os-hosta");
    size_t ended =
        world_place(w, "instance saved on os-hosta"); /* the fields of its end name no host */
    UNIT_TRUE(host < moved && moved < removed && removed < ended && ended != SIZE_MAX);
}

UNIT_TEST(arrives, "the guest arrives, the source's word settles it, nothing of ours is left")
{
    world_prepare_destination(w);
    arrive(VIRT_STATE_RUNNING);
    UNIT_STR(state(), "DESTINATION_HERE");
    UNIT_TRUE(net_fake_announced(w->agent.net, WORLD_TAP) > 0);
    UNIT_EQ(post()->end, FAKE_REPLIED);
    words_are("preparing prepared running completed");
    UNIT_EQ(world_count(w, "instance saved on os-hostb"), 1);
    UNIT_STR(world_state(w, WORLD_MIGRATION, "destination"), "-");
    UNIT_TRUE(has_directory());
    UNIT_TRUE(!world_has_file(w, WORLD_INSTANCE "/.computed-migration"));
    UNIT_EQ(net_fake_plugged(w->agent.net), 1);
    world_pass(w, 3 * USEC_PER_SEC, USEC_PER_SEC);
    UNIT_STR(state(), "-");
    UNIT_EQ(did("destroy") + did("destroy_incoming") + did("resume"), 0);
}

UNIT_TEST(announces_on, "announcements go on for a moment after the end")
{
    world_prepare_destination(w);
    arrive(VIRT_STATE_RUNNING);
    post();
    unsigned before = net_fake_announced(w->agent.net, WORLD_TAP);
    world_pass(w, USEC_PER_SEC, USEC_PER_SEC / 20);
    UNIT_TRUE(net_fake_announced(w->agent.net, WORLD_TAP) > before);
}

UNIT_TEST(python_source, "a source that names no migration is served as well")
{
    struct fake_asked *a = world_ask(w, RPC_METHOD_pre_live_migration, world_pre_args(NULL));
    world_settle(w);
    UNIT_EQ(a->end, FAKE_REPLIED);
    world_add_guest(w, VIRT_STATE_RUNNING);
    UNIT_EQ(post()->end, FAKE_REPLIED);
    words_are("preparing prepared completed");
}

UNIT_TEST(shared_path, "on a shared instances path no directory is made")
{
    struct json_object *args = world_pre_args(WORLD_MIGRATION);
    json_add_bool(world_data(args, "migrate_data"), "is_shared_instance_path", true);
    struct fake_asked *a = world_ask(w, RPC_METHOD_pre_live_migration, args);
    world_settle(w);
    UNIT_EQ(a->end, FAKE_REPLIED);
    UNIT_TRUE(!has_directory());
    world_add_guest(w, VIRT_STATE_RUNNING);
    UNIT_EQ(post()->end, FAKE_REPLIED);
    words_are("preparing prepared completed");
}

UNIT_TEST(paused_guest, "a guest that was paused may arrive paused, another one may not")
{
    struct json_object *args = world_pre_args(WORLD_MIGRATION);
    json_add_int(world_data(args, "instance"), "power_state", 3);
    world_ask(w, RPC_METHOD_pre_live_migration, args);
    world_settle(w);
    world_add_guest(w, VIRT_STATE_PAUSED);
    UNIT_EQ(post()->end, FAKE_REPLIED);
}

UNIT_TEST(paused_is_no_arrival, "the word is only given for a guest that runs, read back now")
{
    world_prepare_destination(w);
    world_add_guest(w, VIRT_STATE_PAUSED);
    struct fake_asked *a = post();
    UNIT_EQ(a->end, FAKE_FAILED);
    UNIT_EQ(a->e.code, ERR_INSTANCE_STATE);
    UNIT_HAS(a->e.text, "does not run here: it is paused");
    UNIT_STR(state(), "DESTINATION_PREPARED");
    virt_fake_set_state(w->agent.virt, WORLD_INSTANCE, VIRT_STATE_RUNNING);
    UNIT_EQ(post()->end, FAKE_REPLIED);
}

UNIT_TEST(part_is_no_arrival,
          "without all of its memory a guest that runs is not confirmed, it is asked for again")
{
    static const struct virt_job comes = {.post_copy = true};
    static const struct virt_job lost = {.post_copy = true, .post_copy_failed = true};

    world_prepare_destination(w);
    arrive(VIRT_STATE_RUNNING);
    virt_fake_samples(w->agent.virt, WORLD_INSTANCE, &comes, 1);
    struct fake_asked *a = post();
    UNIT_EQ(a->end, FAKE_FAILED);
    UNIT_EQ(a->e.code, ERR_TIMEOUT); /* no word, not a no */
    UNIT_HAS(a->e.text, "without a part of its memory: its post-copy has not ended");
    virt_fake_samples(w->agent.virt, WORLD_INSTANCE, &lost, 1);
    a = post();
    UNIT_EQ(a->e.code, ERR_TIMEOUT);
    UNIT_HAS(a->e.text, "its post-copy failed");
    UNIT_TRUE(world_has_file(w, WORLD_INSTANCE "/.computed-migration"));
    virt_fake_samples(w->agent.virt, WORLD_INSTANCE, NULL, 0);
    UNIT_EQ(post()->end, FAKE_REPLIED);
}

UNIT_TEST(libvirt_away_at_post,
          "without libvirt the question is answered by a failure to ask again")
{
    world_prepare_destination(w);
    arrive(VIRT_STATE_RUNNING);
    virt_fake_fail(w->agent.virt, "state", ERR_HYPERVISOR, "libvirt is away", 1);
    struct fake_asked *a = post();
    UNIT_EQ(a->end, FAKE_FAILED);
    UNIT_EQ(a->e.code, ERR_HYPERVISOR); /* the source takes it as no word, not as a no */
    UNIT_EQ(post()->end, FAKE_REPLIED);
}

UNIT_TEST(post_again, "the question that comes again after the end is answered again")
{
    world_prepare_destination(w);
    arrive(VIRT_STATE_RUNNING);
    UNIT_EQ(post()->end, FAKE_REPLIED);
    UNIT_EQ(post()->end, FAKE_REPLIED);
    world_pass(w, 5 * USEC_PER_SEC, USEC_PER_SEC);
    UNIT_EQ(post()->end, FAKE_REPLIED);
    UNIT_EQ(world_count(w, "instance saved on os-hostb"), 1);
}

UNIT_TEST(post_stranger, "asked for a guest that is not here the answer is no")
{
    struct fake_asked *a = post();
    UNIT_EQ(a->end, FAKE_FAILED);
    UNIT_EQ(a->e.code, ERR_INSTANCE_STATE);
}

UNIT_TEST(post_twice_at_once, "a question while the first one is looked into is asked to wait")
{
    world_prepare_destination(w);
    arrive(VIRT_STATE_RUNNING);
    struct fake_asked *first =
        world_ask(w, RPC_METHOD_post_live_migration_at_destination, world_args("099"));
    struct fake_asked *second =
        world_ask(w, RPC_METHOD_post_live_migration_at_destination, world_args("099"));
    UNIT_EQ(second->end, FAKE_FAILED);
    UNIT_EQ(second->e.code, ERR_TIMEOUT);
    world_settle(w);
    UNIT_EQ(first->end, FAKE_REPLIED);
}

/* ---- requests that come again ---- */

UNIT_TEST(pre_again, "a request that comes again is answered again and makes nothing twice")
{
    world_prepare_destination(w);
    struct fake_asked *a = world_prepare_destination(w);
    UNIT_EQ(a->end, FAKE_REPLIED);
    _cleanup_(str_freep) char *calls = net_fake_calls(w->agent.net);
    char *first = strstr(calls, "plug ");
    UNIT_TRUE(first && strstr(first + 1, "\nplug ") == NULL);
    words_are("preparing prepared");
}

UNIT_TEST(pre_while_preparing, "who asks again while it is prepared gets the answer")
{
    struct fake_asked *first =
        world_ask(w, RPC_METHOD_pre_live_migration, world_pre_args(WORLD_MIGRATION));
    struct fake_asked *second =
        world_ask(w, RPC_METHOD_pre_live_migration, world_pre_args(WORLD_MIGRATION));
    world_settle(w);
    UNIT_EQ(first->end, FAKE_FAILED);
    UNIT_EQ(second->end, FAKE_REPLIED);
    words_are("preparing prepared");
}

UNIT_TEST(pre_other, "another migration of the instance is refused with the state of the first")
{
    world_prepare_destination(w);
    struct fake_asked *a = world_ask(w, RPC_METHOD_pre_live_migration, world_pre_args(WORLD_OTHER));
    world_settle(w);
    UNIT_EQ(a->end, FAKE_FAILED);
    UNIT_HAS(a->e.text, "migration " WORLD_MIGRATION " is prepared on os-hostb already");
    UNIT_TRUE(has_directory());
    UNIT_EQ(net_fake_plugged(w->agent.net), 1);
}

UNIT_TEST(draining, "an agent that stops takes no guest")
{
    w->agent.draining = true;
    struct fake_asked *a = world_prepare_destination(w);
    UNIT_EQ(a->end, FAKE_FAILED);
    nothing_left();
}

/* ---- failures of the preparation ---- */

static void fails_at(const char *fault)
{
    UNIT_OK(fault_arm(fault, &unit_err));
    struct fake_asked *a = world_prepare_destination(w);
    unit_check(a->end == FAKE_FAILED, __LINE__, __FILE__, "%s: no failure was answered", fault);
    fault_disarm_all();
    nothing_left();
    words_are("preparing failed");
    UNIT_EQ(world_count(w, "event compute_pre_live_migration failed: "), 1);
    UNIT_EQ(did("destroy") + did("destroy_incoming"), 0);
}

UNIT_TEST(fails_state, "libvirt away at the preparation leaves nothing")
{
    fails_at("virt.guest_state=error");
}
UNIT_TEST(fails_directory, "no directory: nothing is left")
{
    fails_at("storage.make_directory=error");
}
UNIT_TEST(fails_storage, "storage that fails at its end leaves nothing")
{
    fails_at("storage.prepared=error");
}
UNIT_TEST(fails_journal_prepare, "a journal that fails at the first step leaves nothing")
{
    fails_at("journal.write=error@2");
}
UNIT_TEST(fails_journal_undo, "a journal that cannot take an undo step leaves nothing")
{
    fails_at("journal.write=error@3");
}
UNIT_TEST(fails_journal_undo_port, "a journal that cannot take the port's undo step leaves nothing")
{
    fails_at("journal.write=error@4");
}

UNIT_TEST(fails_journal_at_first, "without a journal a request is refused and nothing is left")
{
    UNIT_OK(fault_arm("journal.write=error", &unit_err));
    struct fake_asked *a = world_prepare_destination(w);
    UNIT_EQ(a->end, FAKE_FAILED);
    UNIT_EQ(a->e.code, ERR_SYSTEM);
    fault_disarm_all();
    nothing_left();
}

UNIT_TEST(fails_plug, "a port that cannot be plugged leaves nothing, and its sentence names it")
{
    net_fake_fail(w->agent.net, "plug", 1, ERR_NET_PLUG, "no bridge of that name");
    struct fake_asked *a = world_prepare_destination(w);
    UNIT_EQ(a->end, FAKE_FAILED);
    UNIT_EQ(a->e.code, ERR_NET_PLUG);
    UNIT_HAS(a->e.text, "9cf193f1-870b-4829-8081-1945ddc3e3fc");
    UNIT_HAS(a->e.text, "no bridge of that name");
    nothing_left();
}

UNIT_TEST(fails_vif, "a kind of port that this agent does not wire is refused with its name")
{
    struct json_object *args = world_pre_args(WORLD_MIGRATION);
    struct json_object *vifs = json_get(world_data(args, "migrate_data"), "vifs");
    json_add_string(world_data(json_object_array_get_idx(vifs, 0), NULL), "vif_type", "hw_veb");
    struct fake_asked *a = world_ask(w, RPC_METHOD_pre_live_migration, args);
    world_settle(w);
    UNIT_EQ(a->end, FAKE_FAILED);
    UNIT_HAS(a->e.text, "has VIF type hw_veb");
    nothing_left();
}

UNIT_TEST(fails_hybrid, "a port that wants a firewall bridge is refused, not wired without it")
{
    struct json_object *args = world_pre_args(WORLD_MIGRATION);
    struct json_object *vifs = json_get(world_data(args, "migrate_data"), "vifs");
    struct json_object *vif = world_data(json_object_array_get_idx(vifs, 0), NULL);
    json_add_string(vif, "vif_type", "ovs");
    json_add_string(vif, "vif_details_json", "{\"ovs_hybrid_plug\": true}");
    struct fake_asked *a = world_ask(w, RPC_METHOD_pre_live_migration, args);
    world_settle(w);
    UNIT_EQ(a->end, FAKE_FAILED);
    UNIT_HAS(a->e.text, "wants a hybrid plug");
    nothing_left();
}

UNIT_TEST(exists, "a guest that exists here is refused, never touched, and nothing is parked")
{
    world_add_guest(w, VIRT_STATE_SHUTOFF);
    world_add_file(w, "disk");
    struct fake_asked *a = world_prepare_destination(w);
    UNIT_EQ(a->end, FAKE_FAILED);
    UNIT_HAS(a->e.text, "exists here already and is shutoff");
    words_are("preparing failed");
    UNIT_EQ(did("destroy") + did("destroy_incoming") + did("undefine"), 0);
    UNIT_TRUE(world_has_file(w, WORLD_INSTANCE "/disk"));
    world_pass(w, 10000, 10000);
    UNIT_STR(state(), "-");
}

UNIT_TEST(foreign_directory, "somebody's directory is refused and stays")
{
    world_add_file(w, "disk");
    struct fake_asked *a = world_prepare_destination(w);
    UNIT_EQ(a->end, FAKE_FAILED);
    UNIT_EQ(a->e.code, ERR_DISK_EXISTS);
    UNIT_TRUE(world_has_file(w, WORLD_INSTANCE "/disk"));
    words_are("preparing failed");
}

UNIT_TEST(journal_before, "each undo step is in the journal before its effect")
{
    UNIT_OK(fault_arm("storage.make_directory=hang", &unit_err));
    world_ask(w, RPC_METHOD_pre_live_migration, world_pre_args(WORLD_MIGRATION));
    WORLD_UNTIL(w, ({
                    _cleanup_(str_freep) char *names = undo_names();
                    text_equal(names, "storage.remove_directory");
                }));
    UNIT_TRUE(!has_directory());
    fault_disarm_all();
    world_settle(w);
    UNIT_TRUE(has_directory());
}

/* ---- taking back ---- */

UNIT_TEST(takes_back, "a rollback takes everything back, newest first")
{
    world_prepare_destination(w);
    UNIT_EQ(roll_back(WORLD_MIGRATION)->end, FAKE_FREED);
    words_are("preparing prepared failed");
    UNIT_EQ(did("destroy_incoming"), 1);
    nothing_left();
}

UNIT_TEST(takes_back_in_order,
          "the newest step is undone first; what fails is kept and tried again")
{
    world_prepare_destination(w);
    struct json_object *args = world_pre_args(WORLD_MIGRATION);
    json_object_object_del(args, "disk");
    json_add(args, "destroy_disks", json_object_new_boolean(1));
    net_fake_fail(w->agent.net, "unplug", 100, ERR_NET_PLUG, "busy");
    world_ask(w, RPC_METHOD_rollback_live_migration_at_destination, args);
    world_settle(w);
    UNIT_STR(state(), "DESTINATION_ROLLING_BACK");
    world_pass(w, 300 * USEC_PER_SEC, 3 * USEC_PER_SEC);
    UNIT_STR(state(), "DESTINATION_PARKED");
    UNIT_TRUE(!has_directory()); /* the other step went on */
    _cleanup_(str_freep) char *names = undo_names();
    UNIT_STR(names, "net.unplug");
    words_are("preparing prepared error");
    roll_back(WORLD_MIGRATION);
    words_are("preparing prepared error failed");
    nothing_left();
}

UNIT_TEST(takes_back_again, "what could not be taken back at once is taken back a moment later")
{
    world_prepare_destination(w);
    net_fake_fail(w->agent.net, "unplug", 1, ERR_NET_PLUG, "busy");
    roll_back(WORLD_MIGRATION);
    world_pass(w, 3 * USEC_PER_SEC, USEC_PER_SEC);
    words_are("preparing prepared failed");
    nothing_left();
}

UNIT_TEST(ready_unwritten, "a source gets no word to send that is not in the journal")
{
    unsigned writes = 0;

    for (const char *state_word = "-"; text_equal(state_word, "-") && writes < 20;) {
        _cleanup_(str_freep) char *spec = text_format("journal.write=error@%u", ++writes);
        close_world();
        open_world();
        UNIT_OK(fault_arm(spec, &unit_err));
        struct fake_asked *asked = world_prepare_destination(w);
        fault_disarm_all();
        if (asked->end == FAKE_REPLIED)
            state_word = world_state(w, WORLD_MIGRATION, "destination");
        else
            nothing_left();
    }
    UNIT_STR(world_state(w, WORLD_MIGRATION, "destination"), "DESTINATION_PREPARED");
    UNIT_TRUE(writes > 3);
}

UNIT_TEST(incoming_goes, "a guest that never ran here goes with the rollback")
{
    world_prepare_destination(w);
    world_add_guest(w, VIRT_STATE_PAUSED);
    virt_fake_set_incoming(w->agent.virt, WORLD_INSTANCE);
    roll_back(WORLD_MIGRATION);
    UNIT_EQ(virt_fake_state(w->agent.virt, WORLD_INSTANCE), VIRT_STATE_NONE);
    words_are("preparing prepared failed");
    nothing_left();
}

UNIT_TEST(running_stays, "a rollback while the guest runs here destroys nothing and parks (S1)")
{
    world_prepare_destination(w);
    arrive(VIRT_STATE_RUNNING);
    roll_back(WORLD_MIGRATION);
    UNIT_STR(state(), "DESTINATION_PARKED");
    words_are("preparing prepared running error");
    UNIT_EQ(virt_fake_state(w->agent.virt, WORLD_INSTANCE), VIRT_STATE_RUNNING);
    UNIT_TRUE(has_directory());
    UNIT_EQ(net_fake_plugged(w->agent.net), 1);
    /* and the source may still find that it is here */
    UNIT_EQ(post()->end, FAKE_REPLIED);
    words_are("preparing prepared running error completed");
}

UNIT_TEST(late_rollback, "a late rollback of another migration is left out")
{
    world_prepare_destination(w);
    UNIT_EQ(roll_back(WORLD_OTHER)->end, FAKE_FREED);
    UNIT_STR(state(), "DESTINATION_PREPARED");
    UNIT_TRUE(has_directory());
    UNIT_TRUE(world_logged(w, "left out"));
}

UNIT_TEST(rollback_while_preparing, "a rollback while it is prepared is done when that has ended")
{
    struct fake_asked *a =
        world_ask(w, RPC_METHOD_pre_live_migration, world_pre_args(WORLD_MIGRATION));
    while (!text_equal(state(), "DESTINATION_PREPARING"))
        world_turn(w);
    roll_back(WORLD_MIGRATION);
    UNIT_EQ(a->end, FAKE_FAILED);
    nothing_left();
    words_are("preparing failed");
}

UNIT_TEST(called_off,
          "a preparation that is called off makes nothing more, and what it made is taken back")
{
    world_close(w);
    w = world_open(&(struct world_options){.host = "os-hostb", .threads = 4});
    UNIT_OK(fault_arm("storage.prepared=hang", &unit_err));
    struct fake_asked *a =
        world_ask(w, RPC_METHOD_pre_live_migration, world_pre_args(WORLD_MIGRATION));
    WORLD_UNTIL(w, has_directory());
    roll_back(WORLD_MIGRATION);
    UNIT_STR(state(), "DESTINATION_PREPARING");
    fault_disarm_all();
    WORLD_UNTIL(w, a->end == FAKE_FAILED);
    UNIT_HAS(a->e.text, "the source took the migration back");
    WORLD_UNTIL(w, !destination());
    _cleanup_(str_freep) char *calls = net_fake_calls(w->agent.net);
    UNIT_TRUE(strstr(calls, "plug ") == NULL);
    nothing_left();
}

UNIT_TEST(rollback_at_once, "a rollback before the record is written is not lost")
{
    struct fake_asked *a =
        world_ask(w, RPC_METHOD_pre_live_migration, world_pre_args(WORLD_MIGRATION));
    UNIT_STR(state(), "DESTINATION_ACCEPTED");
    roll_back(WORLD_MIGRATION);
    UNIT_EQ(a->end, FAKE_FAILED);
    nothing_left();
}

UNIT_TEST(rollback_while_settling, "a rollback while the last word is looked into is left out")
{
    world_prepare_destination(w);
    arrive(VIRT_STATE_RUNNING);
    struct fake_asked *a =
        world_ask(w, RPC_METHOD_post_live_migration_at_destination, world_args("099"));
    roll_back(WORLD_MIGRATION);
    UNIT_EQ(a->end, FAKE_REPLIED);
    words_are("preparing prepared running completed");
}

UNIT_TEST(rollback_stranger, "a rollback of what is not known removes only a marked leftover")
{
    world_add_file(w, "disk");
    UNIT_EQ(roll_back(WORLD_MIGRATION)->end, FAKE_FAILED);
    UNIT_TRUE(world_has_file(w, WORLD_INSTANCE "/disk"));
}

UNIT_TEST(rollback_full_disk, "a journal that cannot be written does not hold up taking back")
{
    world_prepare_destination(w);
    UNIT_OK(fault_arm("journal.write=error", &unit_err));
    roll_back(WORLD_MIGRATION);
    fault_disarm_all();
    words_are("preparing prepared failed");
    nothing_left();
}

UNIT_TEST(libvirt_away_at_rollback, "without libvirt nothing is taken from a guest that may run")
{
    world_prepare_destination(w);
    virt_fake_fail(w->agent.virt, "destroy_incoming", ERR_HYPERVISOR, "libvirt is away", 1);
    roll_back(WORLD_MIGRATION);
    UNIT_STR(state(), "DESTINATION_ROLLING_BACK");
    UNIT_TRUE(has_directory());
    world_pass(w, 4 * USEC_PER_SEC, USEC_PER_SEC); /* nobody has to ask again */
    nothing_left();
}

/* ---- a source that is gone ---- */

static void source_says(const char *phase, const char *status)
{
    struct json_object *account = json_object_new_object();
    struct fake_call *call = fake_rpc_waiting(w->agent.rpc, RPC_METHOD_control);

    json_add_string(account, "phase", phase);
    json_add_string(account, "status", status);
    fake_rpc_answer(call, account);
    world_settle(w);
}

UNIT_TEST(watches, "a source that says nothing for long is asked, and believed")
{
    world_prepare_destination(w);
    UNIT_EQ(fake_rpc_count(w->agent.rpc, RPC_METHOD_control), 0);
    world_pass(w, 301 * USEC_PER_SEC, 301 * USEC_PER_SEC);
    struct fake_call *call = fake_rpc_waiting(w->agent.rpc, RPC_METHOD_control);
    UNIT_STR(call->server, "os-hosta");
    UNIT_STR(json_get_string(call->args, "command", ""), "migration");
    source_says("running", "running");
    UNIT_STR(state(), "DESTINATION_PREPARED");
    world_pass(w, 61 * USEC_PER_SEC, 61 * USEC_PER_SEC);
    source_says("failed", "failed");
    words_are("preparing prepared failed");
    nothing_left();
}

/* ---- the direct line ---- */

static struct json_object *line_facts(struct fake_asked *a)
{
    return json_get(world_data(a->result, NULL), "computed_switchover");
}

UNIT_TEST(line, "the direct line's facts are in the answer, and its signal announces at once")
{
    world_close(w);
    w = world_open(&(struct world_options){.host = "os-hostb", .switchover = true});
    struct json_object *facts = line_facts(world_prepare_destination(w));
    UNIT_STR(json_get_string(facts, "address", ""),
             "198.51.100.11"); /* my_ip: nothing else is set */
    UNIT_EQ(json_get_int(facts, "port", 0), switchover_port(w->agent.switchover));
    struct switchover *other = NULL;
    struct switchover_peer *peer = NULL;
    UNIT_OK(switchover_new(&other, w->agent.loop, "127.0.0.1", 0, NULL, NULL, &unit_err));
    UNIT_OK(switchover_peer_new(other, "127.0.0.1", switchover_port(w->agent.switchover),
                                WORLD_MIGRATION, json_get_string(facts, "key", ""), &peer,
                                &unit_err));
    switchover_peer_send(peer, SWITCHOVER_PAUSED);
    WORLD_UNTIL(w, net_fake_announced(w->agent.net, WORLD_TAP) > 0);
    UNIT_TRUE(destination()->progress.paused_us > 0);
    /* the source took it back: what was to be repeated is not */
    switchover_peer_send(peer, SWITCHOVER_REVERTED);
    WORLD_UNTIL(w, world_logged(w, "runs on os-hosta again"));
    unsigned before = net_fake_announced(w->agent.net, WORLD_TAP);
    world_pass(w, 2 * USEC_PER_SEC, USEC_PER_SEC / 20);
    UNIT_EQ(net_fake_announced(w->agent.net, WORLD_TAP), before);
    switchover_peer_free(peer);
    switchover_free(other);
}

/* What the answer says of the stream to a source of ours, or to a nova-compute. */
static struct json_object *stream_facts(bool ours, const char *mode)
{
    struct json_object *args = world_pre_args(WORLD_MIGRATION);

    world_close(w);
    w = world_open(&(struct world_options){
        .host = "os-hostb", .switchover = true, .settings = {"net.switchover", mode}});
    if (ours)
        json_add_string(world_data(args, "migrate_data"), "computed_source_uri",
                        "qemu+tcp://a/system");
    struct fake_asked *asked = world_ask(w, RPC_METHOD_pre_live_migration, args);
    WORLD_UNTIL(w, asked->end != FAKE_OPEN);
    return line_facts(asked);
}

UNIT_TEST(stream, "a source of ours is told how frames are forwarded, in the mode that is set here")
{
    static const struct {
        const char *set, *told;
        bool holds;
    } modes[] = {{"hold", "hold", true}, {"forward", "forward", false}, {"announce", NULL, false}};

    for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
        struct json_object *facts = stream_facts(true, modes[i].set);
        int port = modes[i].told ? channel_listener_port(w->agent.streams) : 0;
        UNIT_STR(json_get_string(facts, "mode", NULL), modes[i].told);
        UNIT_EQ(json_get_int(facts, "stream_port", 0), port);
        _cleanup_(str_freep) char *calls = net_fake_calls(w->agent.net);
        UNIT_EQ(strstr(calls, "hold " WORLD_TAP) != NULL, modes[i].holds);
    }
}

UNIT_TEST(stream_stranger,
          "a nova-compute is told nothing of forwarding, and nothing is made to hold")
{
    struct json_object *facts = stream_facts(false, "hold");
    _cleanup_(str_freep) char *calls = net_fake_calls(w->agent.net);

    UNIT_TRUE(json_get(facts, "mode") == NULL && json_get(facts, "stream_port") == NULL);
    UNIT_TRUE(strstr(calls, "hold ") == NULL);
}

UNIT_TEST(line_off, "without the direct line the answer has no facts of it")
{
    UNIT_TRUE(line_facts(world_prepare_destination(w)) == NULL);
}
