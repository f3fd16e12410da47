/* SPDX-License-Identifier: Apache-2.0 */
/* A plan of a migration: all checks of both sides, and nothing changed on either. */
#include "tests/unit/agent_world.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/commands.h"
#include "lib/fault.h"
#include "lib/json.h"

#define MIB (INT64_C(1) << 20)

static struct world *there, *here; /* source, destination */

static struct answer {
    unsigned calls;
    struct json_object *result;
    struct err e;
} last;

static void forget(void)
{
    json_object_put(last.result);
    last = (struct answer){0};
}

static void open_with(const char *const *settings, bool standalone)
{
    struct world_options from = {.host = "os-hosta", .standalone = standalone};
    struct world_options to = {.host = "os-hostb", .standalone = standalone};

    for (size_t i = 0; settings && settings[i]; i++)
        from.settings[i] = settings[i];
    there = world_open(&from);
    here = world_open(&to);
    there->knows_instance = true;
    world_add_guest(there, VIRT_STATE_RUNNING);
    virt_fake_set_memory(here->agent.virt, INT64_C(4) << 30, INT64_C(2) << 30);
}

static void close_worlds(void)
{
    forget();
    if (here)
        world_close(here);
    if (there)
        world_close(there);
    here = there = NULL;
}
UNIT_FIXTURE(NULL, close_worlds)

/* ---- shorthand ---- */

static void take(void *aux, struct json_object *result, const struct err *failure)
{
    struct answer *answer = aux;

    answer->calls++;
    answer->result = json_copy(result);
    answer->e = failure ? *failure : ERR_INIT;
}

static struct fake_call *question(void)
{
    return fake_rpc_waiting(there->agent.rpc, RPC_METHOD_control);
}

static void begin(const char *more)
{
    _cleanup_(str_freep) char *text =
        text_format("{\"instance\":\"instance-00000001\",\"dest\":\"os-hostb\"%s}", more);
    _cleanup_(json_putp) struct json_object *args = NULL;

    forget();
    UNIT_OK(json_parse(text, strlen(text), &args, &unit_err));
    commands_run(&there->agent, "plan", args, take, &last);
    world_settle(there);
}

/* The destination's own answer to the question that waits. */
static void let_destination_answer(void)
{
    struct answer told = {0};
    struct fake_call *call = question();

    UNIT_TRUE(call != NULL);
    if (!call)
        return;
    UNIT_STR(call->server, "os-hostb");
    UNIT_STR(json_get_string(call->args, "command", ""), "plan-destination");
    commands_run(&here->agent, "plan-destination", json_get(call->args, "args"), take, &told);
    world_settle(here);
    UNIT_EQ(told.calls, 1);
    if (told.result)
        fake_rpc_answer(call, told.result);
    else
        fake_rpc_fail(call, told.e.code, told.e.text);
    world_settle(there);
}

static struct json_object *plan(const char *more)
{
    begin(more);
    let_destination_answer();
    UNIT_EQ(last.calls, 1);
    unit_check(!err_is_set(&last.e), __LINE__, __FILE__, "%s", last.e.text);
    return last.result;
}

static struct json_object *row(const char *host, const char *check)
{
    struct json_object *rows = json_get(last.result, "checks");

    for (size_t i = 0; rows && i < json_object_array_length(rows); i++) {
        struct json_object *o = json_object_array_get_idx(rows, i);
        if (text_equal(json_get_string(o, "at", ""), host) &&
            text_equal(json_get_string(o, "check", ""), check))
            return o;
    }
    unit_check(false, __LINE__, __FILE__, "no check %s at %s", check, host);
    return NULL;
}

static void is(const char *host, const char *check, const char *result, const char *part)
{
    struct json_object *o = row(host, check);

    UNIT_STR(json_get_string(o, "result", ""), result);
    UNIT_HAS(json_get_string(o, "text", ""), part);
}

static void verdict(const char *word, size_t reasons)
{
    UNIT_STR(json_get_string(last.result, "verdict", ""), word);
    UNIT_EQ(json_object_array_length(json_get(last.result, "reasons")), reasons);
}

static unsigned files_below(const char *path)
{
    DIR *dir = opendir(path);
    unsigned n = 0;

    for (struct dirent *d = dir ? readdir(dir) : NULL; d; d = readdir(dir)) {
        _cleanup_(str_freep) char *inner = text_format("%s/%s", path, d->d_name);
        if (d->d_name[0] != '.')
            n += 1 + (d->d_type == DT_DIR ? files_below(inner) : 0);
    }
    if (dir)
        closedir(dir);
    return n;
}

static int64_t changed_ns(const char *path)
{
    struct stat st = {0};

    UNIT_EQ(stat(path, &st), 0);
    return st.st_mtim.tv_sec * INT64_C(1000000000) + st.st_mtim.tv_nsec;
}

/* The guest gets a raw disk of 4 MiB in its directory. */
static void add_disk(struct world *w, const char *path)
{
    _cleanup_(str_freep) char *xml = text_format(
        "<domain type='qemu'><name>instance-00000001</name><uuid>" WORLD_INSTANCE "</uuid>"
        "<memory unit='KiB'>262144</memory><vcpu>1</vcpu><os>"
        "<type arch='x86_64' machine='pc-i440fx-7.2'>hvm</type></os><devices>"
        "<emulator>/usr/bin/qemu-system-x86_64</emulator><disk type='file' device='disk'>"
        "<driver name='qemu' type='raw'/><source file='%s'/><target dev='vda' bus='virtio'/></disk>"
        "</devices></domain>",
        path);

    virt_fake_remove(w->agent.virt, WORLD_INSTANCE);
    virt_fake_add(w->agent.virt, WORLD_INSTANCE, "instance-00000001", xml, VIRT_STATE_RUNNING);
}

static void add_own_disk(void)
{
    _cleanup_(str_freep) char *path = text_format("%s/" WORLD_INSTANCE "/disk", there->instances);

    world_add_file(there, "disk");
    UNIT_EQ(truncate(path, 4 * MIB), 0);
    add_disk(there, path);
}

/* ---- a guest that fits ---- */

UNIT_TEST(goes, "a guest that fits: every check is told with its values, and the verdict is go")
{
    open_with(NULL, false);
    virt_fake_set_dirty_rate(there->agent.virt, WORLD_INSTANCE, 3 * MIB);
    struct json_object *o = plan("");
    verdict("go", 0);
    UNIT_STR(json_get_string(o, "instance", ""), WORLD_INSTANCE);
    UNIT_STR(json_get_string(o, "source", ""), "os-hosta");
    is("os-hosta", "state", "passed", "running");
    is("os-hosta", "other migration", "passed", "none");
    is("os-hosta", "task", "passed", "none");
    is("os-hostb", "server group", "passed", "permits");
    is("os-hostb", "hypervisor version", "passed", "7.2.0");
    is("os-hostb", "machine type", "passed", "pc-i440fx-7.2");
    is("os-hostb", "memory", "passed", "256.0 MiB; 2.0 GiB are available");
    is("os-hostb", "disk", "passed", "are free");
    is("os-hostb", "directory", "passed", "there is none");
    is("os-hostb", "network", "passed", "brq83fa7b67-c9");
    struct json_object *expected = json_get(o, "expected");
    UNIT_EQ(json_get_int(expected, "dirty_rate_bytes_s", -1), 3 * MIB);
    UNIT_STR(json_get_string(expected, "bandwidth_from", ""), "unknown");
    UNIT_TRUE(json_has(expected, "time_s") && !json_get(expected, "time_s"));
    struct json_object *memory = json_get(json_get(o, "to_move"), "memory");
    UNIT_EQ(json_get_int(memory, "total", 0), 256 * MIB);
    UNIT_EQ(json_get_int(memory, "touched", 0), 96 * MIB);
}

UNIT_TEST(changes_nothing, "a plan writes no file, no journal, no record, and makes no migration")
{
    open_with(NULL, false);
    add_own_disk();
    int64_t before = changed_ns(here->instances), source = changed_ns(there->instances);
    unsigned files = files_below(there->directory), files_here = files_below(here->directory);
    plan("");
    verdict("go", 0);
    UNIT_EQ(changed_ns(here->instances), before);
    UNIT_EQ(changed_ns(there->instances), source);
    UNIT_EQ(files_below(there->directory), files);
    UNIT_EQ(files_below(here->directory), files_here);
    UNIT_TRUE(!there->agent.migrations && !here->agent.migrations);
    UNIT_EQ(virt_fake_count(there->agent.virt, "migrate"), 0);
    UNIT_EQ(fake_rpc_count(there->agent.rpc, RPC_METHOD_check_can_live_migrate_destination), 0);
    UNIT_EQ(world_count(there, "status") + world_count(here, "status"), 0);
    UNIT_EQ(world_count(there, "event") + world_count(here, "event"), 0);
    UNIT_EQ(world_count(there, "bindings") + world_count(here, "bindings"), 0);
}

UNIT_TEST(twice_same, "the same plan twice says the same")
{
    open_with(NULL, false);
    _cleanup_(json_putp) struct json_object *first = json_copy(plan(""));
    UNIT_TRUE(json_same(first, plan("")));
}

UNIT_TEST(leftover, "what another migration made at the destination is told and stays")
{
    open_with(NULL, false);
    world_prepare_destination(here);
    world_settle(here);
    unsigned files = files_below(here->instances);
    UNIT_TRUE(files > 0);
    plan("");
    verdict("refused", 1);
    is("os-hostb", "other migration", "refused", WORLD_MIGRATION);
    is("os-hostb", "directory", "passed", "leftover");
    UNIT_EQ(files_below(here->instances), files);
}

/* ---- what is moved, and how fast ---- */

UNIT_TEST(disks, "local disks are copied, and their bytes are those that are used")
{
    open_with(NULL, false);
    add_own_disk();
    struct json_object *o = plan("");
    struct json_object *disk =
        json_object_array_get_idx(json_get(json_get(o, "to_move"), "disks"), 0);
    is("os-hosta", "storage", "passed", "are copied");
    is("os-hosta", "images", "passed", "");
    is("os-hostb", "preparation", "passed", "take");
    UNIT_STR(json_get_string(disk, "how", ""), "copied");
    UNIT_EQ(json_get_int(disk, "virtual_size", 0), 4 * MIB);
    UNIT_TRUE(json_get_int(disk, "bytes", -1) < 4 * MIB);
    UNIT_EQ(json_get_int(json_get(o, "to_move"), "total_bytes", 0),
            96 * MIB + json_get_int(disk, "bytes", 0)); /* what the emulator holds of 256 MiB */
}

UNIT_TEST(shared, "the same directory on both hosts is shared storage, and nothing is copied")
{
    open_with(NULL, false);
    add_own_disk();
    UNIT_EQ(rmdir(here->instances), 0);
    UNIT_EQ(symlink(there->instances, here->instances), 0);
    struct json_object *o = plan("");
    is("os-hosta", "storage", "passed", "none is copied");
    is("os-hostb", "directory", "passed", "both hosts share");
    UNIT_EQ(json_get_int(json_get(o, "to_move"), "disk_bytes", -1), 0);
    plan(",\"block_migration\":true");
    is("os-hosta", "storage", "refused", "block migration is for local disks");
    UNIT_EQ(unlink(here->instances), 0);
    UNIT_EQ(mkdir(here->instances, 0755), 0);
}

UNIT_TEST(limit, "a bandwidth that is known gives time and pause, and where it comes from is told")
{
    open_with(NULL, false);
    virt_fake_set_dirty_rate(there->agent.virt, WORLD_INSTANCE, MIB);
    struct json_object *expected =
        json_get(plan(",\"settings\":{\"bandwidth_mib\":64}"), "expected");
    UNIT_STR(json_get_string(expected, "bandwidth_from", ""), "limit");
    UNIT_EQ(json_get_int(expected, "bandwidth_bytes_s", 0), 64 * MIB);
    UNIT_TRUE(json_get_int(expected, "time_s", -1) >= 1 &&
              json_get_int(expected, "time_s", -1) <= 3);
    UNIT_TRUE(json_get_int(expected, "pause_ms", -1) >= 60);
    UNIT_TRUE(json_get_bool(expected, "ends_by_itself", false));
}

UNIT_TEST(budget, "the share of the host's bandwidth is that beside the migrations that run")
{
    open_with((const char *const[]){"DEFAULT.max_concurrent_live_migrations", "2",
                                    "libvirt.live_migration_host_bandwidth", "100", NULL},
              false);
    struct json_object *expected = json_get(plan(""), "expected");
    UNIT_STR(json_get_string(expected, "bandwidth_from", ""), "share");
    UNIT_EQ(json_get_int(expected, "bandwidth_bytes_s", 0), 100 * MIB);
    world_begin_source(there);
    plan("");
    UNIT_EQ(json_get_int(json_get(last.result, "expected"), "bandwidth_bytes_s", 0), 50 * MIB);
    verdict("refused", 1);
    is("os-hosta", "other migration", "refused", WORLD_MIGRATION);
    struct json_object *queue = json_get(last.result, "queue");
    UNIT_EQ(json_get_int(queue, "in_use", -1), 1);
    UNIT_TRUE(json_get_bool(queue, "at_once", false));
}

UNIT_TEST(queue, "with all places taken it would wait")
{
    open_with(NULL, false);
    UNIT_TRUE(json_get_bool(json_get(plan(""), "queue"), "at_once", false));
    world_begin_source(there);
    struct json_object *queue = json_get(plan(""), "queue");
    UNIT_TRUE(!json_get_bool(queue, "at_once", true));
    UNIT_EQ(json_get_int(queue, "places", -1), 1);
    UNIT_EQ(json_get_int(queue, "in_use", -1), 1);
}

UNIT_TEST(paused, "a paused guest is not measured and dirties nothing")
{
    open_with(NULL, false);
    virt_fake_set_state(there->agent.virt, WORLD_INSTANCE, VIRT_STATE_PAUSED);
    plan("");
    verdict("go", 0);
    UNIT_EQ(virt_fake_count(there->agent.virt, "dirty_rate_begin"), 0);
    UNIT_EQ(json_get_int(json_get(last.result, "expected"), "dirty_rate_bytes_s", -1), 0);
}

UNIT_TEST(unmeasurable, "where the dirty rate cannot be measured the plan says so and goes on")
{
    open_with(NULL, false);
    virt_fake_fail(there->agent.virt, "dirty_rate_begin", ERR_NOT_IMPLEMENTED, "QEMU is too old",
                   -1);
    plan("");
    verdict("go", 0);
    UNIT_HAS(json_get_string(json_get(last.result, "expected"), "dirty_rate_text", ""),
             "QEMU is too old");
}

UNIT_TEST(hopeless,
          "what nothing that is permitted can end is told, and refused where that is so set")
{
    const char *const settings[] = {"libvirt.live_migration_refuse_hopeless",
                                    "true",
                                    "libvirt.live_migration_policy",
                                    "adaptive",
                                    "libvirt.live_migration_timeout_action",
                                    "abort",
                                    NULL};
    open_with(settings, false);
    virt_fake_set_dirty_rate(there->agent.virt, WORLD_INSTANCE, 900 * MIB);
    plan(",\"settings\":{\"bandwidth_mib\":10,\"auto_converge\":false,\"post_copy\":false}");
    verdict("refused", 1);
    is("os-hosta", "convergence", "refused", "dirties 900.0 MiB/s");
    plan(",\"settings\":{\"bandwidth_mib\":10,\"auto_converge\":true}");
    verdict("go", 0);
    UNIT_TRUE(json_get_int(json_get(last.result, "policy"), "throttle_initial", 0) > 90);
}

UNIT_TEST(moving, "a guest that is being moved is not measured a second time")
{
    open_with(NULL, false);
    world_begin_source(there);
    unsigned before = virt_fake_count(there->agent.virt, "dirty_rate_begin");
    plan("");
    UNIT_EQ(virt_fake_count(there->agent.virt, "dirty_rate_begin"), before);
    UNIT_HAS(json_get_string(json_get(last.result, "expected"), "dirty_rate_text", ""),
             "is being moved");
}

UNIT_TEST(huge, "with huge pages nobody knows what the guest has written to")
{
    open_with(NULL, false);
    char *xml = virt_fake_xml(there->agent.virt, WORLD_INSTANCE);
    char *rest = strstr(xml, "<vcpu>");
    _cleanup_(str_freep) char *more = text_format(
        "%.*s<memoryBacking><hugepages/></memoryBacking>%s", (int)(rest - xml), xml, rest);
    free(xml);
    virt_fake_remove(there->agent.virt, WORLD_INSTANCE);
    virt_fake_add(there->agent.virt, WORLD_INSTANCE, "instance-00000001", more, VIRT_STATE_RUNNING);
    struct json_object *memory = json_get(json_get(plan(""), "to_move"), "memory");
    UNIT_TRUE(json_has(memory, "touched") && !json_get(memory, "touched"));
}

/* ---- refusals ---- */

static void cpu_less(void *aux, const struct virt_guest *guest, struct virt_host_facts *facts)
{
    (void)aux;
    (void)guest;
    facts->cpu_match = VIRT_CPU_DIFFERS;
    facts->cpu_error = text_dup("avx512f is missing");
}

UNIT_TEST(many, "all that refuses is told at once, not the first alone")
{
    open_with(NULL, false);
    virt_fake_set_facts(here->agent.virt, cpu_less, NULL);
    virt_fake_set_memory(here->agent.virt, INT64_C(1) << 30, 100 << 20);
    net_fake_bridge_missing(here->agent.net, "brq83fa7b67-c9", false);
    world_add_file(here, "disk");
    UNIT_OK(fault_arm("world.server_group_check=error", &unit_err));
    there->task_state = "rebuilding";
    plan("");
    is("os-hostb", "CPU", "refused", "avx512f is missing");
    is("os-hostb", "memory", "refused", "100.0 MiB");
    is("os-hostb", "network", "refused", "missing");
    is("os-hostb", "directory", "refused", "is not a leftover");
    is("os-hostb", "server group", "refused", "world.server_group_check");
    is("os-hosta", "task", "refused", "rebuilding");
    verdict("refused", 6);
    UNIT_TRUE(world_has_file(here, WORLD_INSTANCE "/disk"));
}

UNIT_TEST(shut_off, "a guest that does not run is refused, the other checks are made")
{
    open_with(NULL, false);
    virt_fake_set_state(there->agent.virt, WORLD_INSTANCE, VIRT_STATE_SHUTOFF);
    plan("");
    verdict("refused", 1);
    is("os-hosta", "state", "refused", "shutoff");
    is("os-hostb", "CPU", "passed", "");
}

UNIT_TEST(draining, "an agent that stops refuses, on either side")
{
    open_with(NULL, false);
    there->agent.draining = here->agent.draining = true;
    plan("");
    verdict("refused", 2);
    is("os-hosta", "agent", "refused", "takes no new migration");
    is("os-hostb", "agent", "refused", "takes no guests");
}

UNIT_TEST(no_storage,
          "a destination without its directory is refused, its memory is told all the same")
{
    open_with(NULL, false);
    UNIT_EQ(rmdir(here->instances), 0);
    plan("");
    UNIT_STR(json_get_string(last.result, "verdict", ""), "refused");
    is("os-hostb", "storage", "refused", here->instances);
    is("os-hostb", "memory", "passed", "needs");
    UNIT_EQ(mkdir(here->instances, 0755), 0);
}

/* ---- a destination that does not tell ---- */

static void not_answered(enum err_code code, const char *text)
{
    begin("");
    fake_rpc_fail(question(), code, text);
    world_settle(there);
    UNIT_EQ(last.calls, 1);
}

UNIT_TEST(nova_compute, "of a host that nova-compute runs is said what cannot be asked")
{
    open_with(NULL, false);
    not_answered(ERR_RPC_VERSION, "Endpoint does not support RPC version 1.0");
    verdict("unknown", 0);
    is("os-hostb", "agent", "unknown", "is run by nova-compute");
    is("os-hosta", "storage", "unknown", "is not known");
    is("os-hosta", "state", "passed", "running");
    UNIT_TRUE(!json_get(json_get(last.result, "switchover"), "mode"));
}

UNIT_TEST(dead, "a host that does not answer would be refused")
{
    open_with(NULL, false);
    not_answered(ERR_UNREACHABLE, "nobody reads compute.os-hostb");
    verdict("refused", 1);
    is("os-hostb", "agent", "refused", "does not answer");
}

UNIT_TEST(closed, "a host that takes no commands of others is not known, and not refused")
{
    open_with(NULL, false);
    not_answered(ERR_DENIED, "os-hostb takes no commands from other hosts");
    verdict("unknown", 0);
    is("os-hostb", "agent", "unknown", "takes no commands");
}

UNIT_TEST(nonsense, "an answer that is none is told as such")
{
    open_with(NULL, false);
    begin("");
    fake_rpc_answer(question(), json_object_new_array());
    world_settle(there);
    verdict("unknown", 0);
    begin("");
    struct json_object *odd = json_object_new_object();
    json_add(odd, "checks", json_object_new_string("all"));
    json_add(odd, "bases", json_object_new_array());
    fake_rpc_answer(question(), odd);
    world_settle(there);
    UNIT_EQ(last.calls, 1);
}

/* ---- the command itself ---- */

static void fails(const char *text, enum err_code code, const char *part)
{
    _cleanup_(json_putp) struct json_object *args = NULL;

    forget();
    UNIT_OK(json_parse(text, strlen(text), &args, &unit_err));
    commands_run(&there->agent, "plan", args, take, &last);
    world_settle(there);
    UNIT_EQ(last.calls, 1);
    UNIT_EQ(last.e.code, code);
    UNIT_HAS(last.e.text, part);
    UNIT_TRUE(question() == NULL);
}

UNIT_TEST(wrong, "a command that cannot be understood fails before anybody is asked")
{
    open_with(NULL, false);
    fails("{\"instance\":\"x\",\"dest\":\"os-hostb\"}", ERR_NO_INSTANCE, "x");
    fails("{\"instance\":\"x\",\"dest\":\"os-hosta\"}", ERR_USAGE, "os-hosta already");
    fails("{\"instance\":\"x\",\"dest\":\"../x\"}", ERR_INVALID, "../x");
    fails("{\"dest\":\"os-hostb\"}", ERR_USAGE, "instance");
    fails("{\"instance\":\"x\",\"dest\":\"os-hostb\",\"settings\":{\"cheese\":1}}", ERR_INVALID,
          "cheese");
    UNIT_TRUE(!commands_writes("plan") && !commands_writes("plan-destination"));
}

UNIT_TEST(hostile, "a destination is not misled by a guest that is not the instance's")
{
    open_with(NULL, false);
    begin("");
    struct json_object *args = json_copy(json_get(question()->args, "args"));
    struct answer told = {0};
    json_add_string(json_get(args, "guest"), "uuid", WORLD_OTHER);
    commands_run(&here->agent, "plan-destination", args, take, &told);
    world_settle(here);
    UNIT_EQ(told.e.code, ERR_INVALID);
    json_object_put(args);
    let_destination_answer();
}

UNIT_TEST(standalone, "in standalone the guest's own metadata counts, and interfaces are looked at")
{
    open_with(NULL, true);
    virt_fake_set_metadata(there->agent.virt, WORLD_INSTANCE, "{\"bandwidth_mib\": 32}");
    plan("");
    verdict("go", 0);
    is("os-hosta", "interfaces", "passed", "1, each on a bridge");
    UNIT_EQ(json_get_int(json_get(last.result, "expected"), "bandwidth_bytes_s", 0), 32 * MIB);
    UNIT_STR(json_get_string(last.result, "control_plane", ""), "standalone");
    plan(",\"settings\":{\"bandwidth_mib\":16}");
    UNIT_EQ(json_get_int(json_get(last.result, "expected"), "bandwidth_bytes_s", 0), 16 * MIB);
}
