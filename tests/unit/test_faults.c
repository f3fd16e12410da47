/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loops over fault points: the n-th time that each of them is passed, it fails, for all n that a
 * preparation with its rollback has. Whatever happens, after the rollback nothing is left on the host.
 * A rollback that failed itself may be asked for again, once; a record whose removal failed goes with the
 * next start.
 */
#include "tests/unit/agent_world.h"

#include "lib/fault.h"
#include "lib/json.h"
#include "lib/log.h"

enum { TIMES_MAX = 3 };

/* What a destination passes; "virt.state" and the like stand for their .before and .after too. */
static const char *const points[] = {
    "journal.write",
    "journal.fsync",
    "journal.written",
    "journal.remove",
    "net.check",
    "net.hold.make",
    "net.plug",
    "net.plugged",
    "net.ready",
    "net.unplug",
    "net.unplugged",
    "net.announce",
    "storage.make_directory",
    "storage.make_disk",
    "storage.copy_file",
    "storage.publish_base",
    "storage.prepared",
    "storage.settle",
    "storage.remove",
    "virt.guest_state",
    "virt.guest_read",
    "virt.guest_list",
    "virt.guest_metadata",
    "virt.guest_xml",
    "virt.host_read",
    "virt.check_destination",
    "virt.destroy_incoming.before",
    "virt.destroy_incoming.after",
    "virt.destroy.before",
    "virt.destroy.after",
    "virt.undefine.before",
    "virt.undefine.after",
};

static struct world *w;

static void close_world(void)
{
    fault_disarm_all();
    world_close(w);
    w = NULL;
}
UNIT_FIXTURE(NULL, close_world)

static void prepare(void)
{
    w = world_open(&(struct world_options){.host = "os-hostb", .switchover = true});
    log_set_level(NULL, LOG_LEVEL_ERROR);
    world_prepare_destination(w);
}

static void roll_back(void)
{
    struct json_object *args = world_pre_args(WORLD_MIGRATION);

    json_object_object_del(args, "disk");
    json_add(args, "destroy_disks", json_object_new_boolean(1));
    (void)world_ask(w, RPC_METHOD_rollback_live_migration_at_destination, args);
    world_settle(w);
    world_pass(w, 10000, 10000);
}

static const char *left_over(void)
{
    if (world_migration(w, MIGRATION_DESTINATION))
        return "the migration";
    if (world_has_file(w, WORLD_INSTANCE))
        return "the instance's directory";
    if (net_fake_plugged(w->agent.net) > 0)
        return "a port";
    return text_equal(world_state(w, WORLD_MIGRATION, "destination"), "-") ? NULL : "a record";
}

static void try_point(const char *point, unsigned n, bool restart)
{
    _cleanup_(str_freep) char *spec = text_format("%s=error@%u", point, n);

    UNIT_OK(fault_arm(spec, &unit_err));
    prepare();
    if (restart)
        world_restart(w);
    roll_back();
    fault_disarm_all();
    if (left_over())
        roll_back();
    if (left_over())
        world_restart(w);
    const char *left = left_over();
    unit_check(!left, __LINE__, __FILE__, "%s%s: %s is left", spec, restart ? ", restart" : "",
               left ? left : "nothing");
    close_world();
}

UNIT_TEST(rolled_back, "whatever fails in a preparation or its rollback, nothing is left behind")
{
    for (size_t i = 0; i < ARRAY_LEN(points); i++)
        for (unsigned n = 1; n <= TIMES_MAX; n++)
            try_point(points[i], n, false);
}

UNIT_TEST(restarted, "nor when the agent was restarted between the two")
{
    for (size_t i = 0; i < ARRAY_LEN(points); i++)
        try_point(points[i], 1, true);
}
