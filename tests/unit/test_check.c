/* SPDX-License-Identifier: Apache-2.0 */
/* The checks of both sides before anything is touched. */
#include "tests/unit/agent_world.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>
#include <json-c/linkhash.h>

#include "agent/check_answer.h"
#include "agent/measure_early.h"
#include "lib/fault.h"
#include "lib/json.h"

static struct world *here, *there; /* destination, source */

static void open_worlds(void)
{
    there = world_open(&(struct world_options){.host = "os-hosta"});
    here = world_open(&(struct world_options){.host = "os-hostb"});
    world_add_guest(there, VIRT_STATE_RUNNING);
}

static void close_worlds(void)
{
    world_close(here);
    world_close(there);
    here = there = NULL;
}
UNIT_FIXTURE(open_worlds, close_worlds)

/* ---- shorthand ---- */

static struct fake_asked *check(struct json_object *args)
{
    struct fake_asked *a = world_ask(here, RPC_METHOD_check_can_live_migrate_destination, args);

    world_settle(here);
    return a;
}

static struct fake_call *question(void)
{
    return fake_rpc_waiting(here->agent.rpc, RPC_METHOD_check_can_live_migrate_source);
}

static struct fake_asked *check_there(struct json_object *args)
{
    struct fake_asked *a = world_ask(there, RPC_METHOD_check_can_live_migrate_source, args);

    world_settle(there);
    return a;
}

/* The real source's answer to the question that waits, whatever it is. */
static void let_source_answer(void)
{
    struct fake_call *call = question();
    struct fake_asked *a = call ? check_there(json_object_get(call->args)) : NULL;

    if (!UNIT_TRUE(a != NULL))
        return;
    if (a->end == FAKE_REPLIED)
        fake_rpc_answer(call, json_object_get(a->result));
    else
        fake_rpc_fail(call, a->e.code, a->e.text);
    world_settle(here);
}

static unsigned files_in(const struct world *w)
{
    DIR *dir = opendir(w->instances);
    unsigned n = 0;

    for (struct dirent *d = dir ? readdir(dir) : NULL; d; d = readdir(dir))
        n += d->d_name[0] != '.';
    closedir(dir);
    return n;
}

/* Refused as the conductor needs it to try the next host, with all parts in the sentence. */
static void refused(const struct fake_asked *a, const char *one, const char *other)
{
    UNIT_EQ(a->end, FAKE_FAILED);
    UNIT_STR(err_wire_class(&a->e), "MigrationPreCheckError");
    UNIT_STR(err_wire_module(&a->e), "nova.exception");
    UNIT_HAS(a->e.text, one);
    UNIT_HAS(a->e.text, other);
    UNIT_EQ(files_in(here), 0);
    UNIT_EQ(world_count(here, "event compute_check_can_live_migrate_destination failed: "), 1);
}

/* Each field of the recorded message is in ours, of the same type. */
static void has_all_of(struct json_object *ours, struct json_object *recorded)
{
    json_object_object_foreach (recorded, key, value) {
        unit_check(json_has(ours, key) &&
                       json_object_get_type(json_get(ours, key)) == json_object_get_type(value),
                   __LINE__, __FILE__, "field %s is missing or of another type", key);
    }
}

/* ---- both sides ---- */

UNIT_TEST(fits, "a guest that fits: the answer has every field of the recorded one")
{
    struct fake_asked *a = check(world_args("008"));
    UNIT_EQ(files_in(here), 1); /* the probe */
    let_source_answer();
    UNIT_EQ(a->end, FAKE_REPLIED);
    UNIT_EQ(files_in(here), 0);
    _cleanup_(json_putp) struct json_object *recorded = world_result("029");
    struct json_object *ours = world_data(a->result, NULL);
    has_all_of(ours, world_data(recorded, NULL));
    UNIT_TRUE(json_get_bool(ours, "block_migration", false));
    UNIT_TRUE(!json_get_bool(ours, "is_shared_instance_path", true));
    UNIT_STR(json_get_string(ours, "instance_relative_path", ""), WORLD_INSTANCE);
    UNIT_TRUE(!json_has(ours, "computed_guest")); /* that was between the agents */
    UNIT_EQ(world_count(here, "event compute_check_can_live_migrate_destination done"), 1);
    UNIT_EQ(virt_fake_count(here->agent.virt, "host_facts"), 1);
}

UNIT_TEST(measures, "the source begins to measure the guest, for the migration that may follow")
{
    struct measure_begun begun = {.processor_ns = -1};

    check(world_args("008"));
    let_source_answer();
    UNIT_EQ(virt_fake_count(there->agent.virt, "dirty_rate_begin"), 1);
    UNIT_TRUE(measure_early_take(&there->agent, WORLD_INSTANCE, &begun));
    UNIT_TRUE(begun.at_us > 0);
    UNIT_TRUE(!measure_early_take(&there->agent, WORLD_INSTANCE, &begun));
    measure_begun_clear(&begun);
}

UNIT_TEST(measures_not,
          "a paused guest is not measured, and one that cannot be is checked all the same")
{
    virt_fake_fail(there->agent.virt, "dirty_rate_begin", ERR_NOT_IMPLEMENTED, "too old", 1);
    struct fake_asked *a = check(world_args("008"));
    let_source_answer();
    UNIT_EQ(a->end, FAKE_REPLIED);
    UNIT_TRUE(!there->agent.measured_early);
    virt_fake_set_state(there->agent.virt, WORLD_INSTANCE, VIRT_STATE_PAUSED);
    a = check(world_args("008"));
    let_source_answer();
    UNIT_EQ(a->end, FAKE_REPLIED);
    UNIT_TRUE(!there->agent.measured_early);
    UNIT_EQ(virt_fake_count(there->agent.virt, "dirty_rate_begin"), 1);
}

UNIT_TEST(group_refuses,
          "a guest whose server group does not permit this host is refused, nobody else asked")
{
    UNIT_OK(fault_arm("world.server_group_check=error", &unit_err));
    struct fake_asked *a = check(world_args("008"));
    refused(a, "server group of instance " WORLD_INSTANCE, "world.server_group_check");
    UNIT_TRUE(question() == NULL);
    UNIT_EQ(world_count(here, "server group of the instance looked at"), 1);
}

UNIT_TEST(asks_source, "the question to the source has every field of the recorded one")
{
    check(world_args("008"));
    struct fake_call *call = question();
    _cleanup_(json_putp) struct json_object *recorded = world_args("019");
    UNIT_STR(call->server, "os-hosta");
    struct json_object *ours = world_data(call->args, "dest_check_data");
    has_all_of(ours, world_data(recorded, "dest_check_data"));
    struct json_object *vif = json_object_array_get_idx(json_get(ours, "vifs"), 0);
    struct json_object *nova =
        json_object_array_get_idx(json_get(world_data(recorded, "dest_check_data"), "vifs"), 0);
    has_all_of(world_data(vif, NULL), world_data(nova, NULL));
    UNIT_STR(json_get_string(world_data(vif, NULL), "port_id", ""),
             "9cf193f1-870b-4829-8081-1945ddc3e3fc");
}

UNIT_TEST(source_answers, "the source's answer to a recorded question has every recorded field")
{
    struct fake_asked *a = check_there(world_args("019"));
    UNIT_EQ(a->end, FAKE_REPLIED);
    _cleanup_(json_putp) struct json_object *recorded = world_result("026");
    has_all_of(world_data(a->result, NULL), world_data(recorded, NULL));
    UNIT_STR(json_get_string(world_data(a->result, NULL), "filename", ""), "tmpgp69verc");
    UNIT_EQ(virt_fake_count(there->agent.virt, "migrate"), 0);
}

UNIT_TEST(python_source, "the recorded answer of a Python source is enough")
{
    struct fake_asked *a = check(world_args("008"));
    fake_rpc_answer(question(), world_result("026"));
    world_settle(here);
    UNIT_EQ(a->end, FAKE_REPLIED);
    _cleanup_(json_putp) struct json_object *recorded = world_result("029");
    has_all_of(world_data(a->result, NULL), world_data(recorded, NULL));
}

UNIT_TEST(finds_out, "without a word on block migration the hosts find out")
{
    struct json_object *args = world_args("008");
    json_add(args, "block_migration", NULL);
    struct fake_asked *a = check(args);
    UNIT_TRUE(!json_has(world_data(question()->args, "dest_check_data"), "block_migration"));
    let_source_answer();
    UNIT_EQ(a->end, FAKE_REPLIED);
    UNIT_TRUE(json_get_bool(world_data(a->result, NULL), "block_migration", false));
}

/* The source sees the destination's probe: one file system. */
static struct fake_asked *check_shared(struct json_object *block)
{
    struct json_object *args = world_args("008");

    json_add(args, "block_migration", block);
    struct fake_asked *a = check(args);
    const char *name =
        json_get_string(world_data(question()->args, "dest_check_data"), "filename", "");
    _cleanup_(str_freep) char *path = text_format("%s/%s", there->instances, name);
    unit_write_file(path, "");
    let_source_answer();
    return a;
}

UNIT_TEST(shared, "on shared storage nothing is copied, found out by the probe file")
{
    struct fake_asked *a = check_shared(NULL);
    UNIT_EQ(a->end, FAKE_REPLIED);
    struct json_object *ours = world_data(a->result, NULL);
    UNIT_TRUE(!json_get_bool(ours, "block_migration", true));
    UNIT_TRUE(json_get_bool(ours, "is_shared_instance_path", false));
    UNIT_TRUE(json_get_bool(ours, "is_shared_block_storage", false));
}

UNIT_TEST(shared_block, "a block migration on shared storage is refused")
{
    refused(check_shared(json_object_new_boolean(1)), "storage that both hosts share",
            WORLD_INSTANCE);
}

UNIT_TEST(local_no_block, "a migration of local disks without a copy is refused with the host")
{
    struct json_object *args = world_args("008");
    json_add(args, "block_migration", json_object_new_boolean(0));
    struct fake_asked *a = check(args);
    let_source_answer();
    refused(a, "has local disks on os-hosta", "needs shared storage");
}

/* ---- this host refuses before anybody is asked ---- */

static struct fake_asked *check_with(const char *field, struct json_object *value)
{
    struct json_object *args = world_args("008");

    json_add(world_data(args, "instance"), field, value);
    struct fake_asked *a = check(args);
    UNIT_TRUE(question() == NULL);
    return a;
}

UNIT_TEST(same_host, "source and destination must differ")
{
    refused(check_with("host", json_object_new_string("os-hostb")), "is on os-hostb already",
            "the same");
}

UNIT_TEST(bad_host, "a host name that is none is refused and shown")
{
    refused(check_with("host", json_object_new_string("os host/..")), "os host/..", "host");
}

UNIT_TEST(numa, "a NUMA topology is refused")
{
    struct object *o = object_new("InstanceNUMATopology", "1.3");
    refused(check_with("numa_topology", object_to_json(o)), "NUMA topology", WORLD_INSTANCE);
    object_free(o);
}

UNIT_TEST(pci, "PCI devices of the flavor are refused, ports' devices are the binding's matter")
{
    struct json_object *args = world_args("008");
    struct json_object *list = json_object_new_array();
    struct object *o = object_new("InstancePCIRequest", "1.3");
    object_set_string(o, "alias_name", "gpu");
    json_object_array_add(list, object_to_json(o));
    object_free(o);
    json_add(world_data(json_get(world_data(args, "instance"), "pci_requests"), NULL), "requests",
             list);
    refused(check(args), "PCI devices of its flavor", WORLD_INSTANCE);
}

UNIT_TEST(draining, "an agent that stops takes no guest")
{
    here->agent.draining = true;
    refused(check(world_args("008")), "os-hostb is stopping", "takes no guests");
}

UNIT_TEST(no_storage, "an instances directory that is away is refused with its path")
{
    UNIT_EQ(rmdir(here->instances), 0);
    struct fake_asked *a = check(world_args("008"));
    UNIT_EQ(a->end, FAKE_FAILED);
    UNIT_STR(err_wire_class(&a->e), "MigrationPreCheckError");
    UNIT_HAS(a->e.text, here->instances);
    UNIT_EQ(mkdir(here->instances, 0755), 0);
}

/* ---- the source refuses ---- */

UNIT_TEST(source_dead, "a source that does not answer is told by name, the next host is tried")
{
    struct fake_asked *a = check(world_args("008"));
    fake_rpc_fail(question(), ERR_TIMEOUT, "no reply within 60.0 s");
    world_settle(here);
    refused(a, "source os-hosta: ", "no reply within 60.0 s");
}

UNIT_TEST(source_nonsense, "a source's answer that cannot be read is refused")
{
    struct fake_asked *a = check(world_args("008"));
    fake_rpc_answer(question(), json_object_new_array());
    world_settle(here);
    UNIT_EQ(a->end, FAKE_FAILED);
    UNIT_STR(err_wire_class(&a->e), "MigrationPreCheckError");
}

UNIT_TEST(source_volume,
          "a guest whose root disk is a volume is refused, as nobody would connect it")
{
    struct json_object *answer = world_result("026");
    json_add_bool(world_data(answer, NULL), "is_volume_backed", true);
    struct fake_asked *a = check(world_args("008"));
    fake_rpc_answer(question(), answer);
    world_settle(here);
    refused(a, "connects no volumes", WORLD_INSTANCE);
}

UNIT_TEST(source_guest_away, "a guest that the source does not have is refused with its uuid")
{
    virt_fake_remove(there->agent.virt, WORLD_INSTANCE);
    struct fake_asked *a = check(world_args("008"));
    let_source_answer();
    refused(a, "source os-hosta: ", "no domain " WORLD_INSTANCE);
}

UNIT_TEST(source_guest_off, "a guest that is shut off is refused with its state")
{
    virt_fake_set_state(there->agent.virt, WORLD_INSTANCE, VIRT_STATE_SHUTOFF);
    struct fake_asked *a = check(world_args("008"));
    let_source_answer();
    refused(a, "is shutoff on os-hosta", "only a running or paused guest");
}

UNIT_TEST(source_bad_probe, "a probe name that is a path is never looked for")
{
    struct json_object *args = world_args("019");
    json_add_string(world_data(args, "dest_check_data"), "filename", "../../etc/passwd");
    struct fake_asked *a = check_there(args);
    UNIT_EQ(a->end, FAKE_FAILED);
    UNIT_HAS(a->e.text, "../../etc/passwd");
}

/* ---- this host refuses the guest ---- */

static struct fake_asked *check_whole(void)
{
    struct fake_asked *a = check(world_args("008"));

    let_source_answer();
    return a;
}

UNIT_TEST(memory, "too little memory is refused with both amounts")
{
    virt_fake_set_memory(here->agent.virt, INT64_C(1) << 30, 100 << 20);
    refused(check_whole(), "256.0 MiB", "100.0 MiB");
}

static void older(void *aux, const struct virt_guest *guest, struct virt_host_facts *facts)
{
    (void)aux;
    (void)guest;
    facts->hypervisor_version = 6002001;
}

UNIT_TEST(version, "an older hypervisor is refused with both versions")
{
    virt_fake_set_facts(here->agent.virt, older, NULL);
    refused(check_whole(), "6.2.1", "7.2.0");
}

static void cpu_less(void *aux, const struct virt_guest *guest, struct virt_host_facts *facts)
{
    (void)aux;
    (void)guest;
    facts->cpu_match = VIRT_CPU_DIFFERS;
    facts->cpu_error = text_dup("avx512f is missing");
}

UNIT_TEST(cpu, "a CPU that does not fit is refused with what is missing")
{
    virt_fake_set_facts(here->agent.virt, cpu_less, NULL);
    struct fake_asked *a = check_whole();
    UNIT_EQ(a->end, FAKE_FAILED);
    UNIT_HAS(a->e.text, "avx512f is missing");
}

UNIT_TEST(twice, "a domain of that uuid here is refused with its state")
{
    world_add_guest(here, VIRT_STATE_SHUTOFF);
    refused(check_whole(), WORLD_INSTANCE, "shutoff");
}

UNIT_TEST(bridge, "a bridge that is missing and cannot be made is refused with its name")
{
    net_fake_bridge_missing(here->agent.net, "brq83fa7b67-c9", false);
    refused(check_whole(), "brq83fa7b67-c9", "missing");
}

UNIT_TEST(directory, "a directory of that instance is refused as Nova names it, and stays")
{
    world_add_file(here, "disk");
    struct fake_asked *a = check_whole();
    UNIT_EQ(a->end, FAKE_FAILED);
    UNIT_STR(err_wire_class(&a->e), "DestinationDiskExists");
    UNIT_TRUE(world_has_file(here, WORLD_INSTANCE "/disk"));
    UNIT_EQ(files_in(here), 1);
}

UNIT_TEST(room, "too little room for the disks is refused with both amounts")
{
    struct fake_asked *a = check(world_args("008"));
    struct fake_asked *told = check_there(json_object_get(question()->args));
    struct json_object *result = json_object_get(told->result);
    struct virt_guest *guest = NULL;
    UNIT_OK(virt_guest_from_json(json_get(world_data(result, NULL), "computed_guest"), &guest,
                                 &unit_err));
    free(guest->disks);
    guest->disks = NEW_ARRAY(struct virt_disk, 1);
    guest->disk_count = 1;
    guest->disks[0] = (struct virt_disk){.target = text_dup("vda"),
                                         .bus = text_dup("virtio"),
                                         .kind = text_dup("file"),
                                         .device = text_dup("disk"),
                                         .path = text_dup("/srv/disk"),
                                         .format = text_dup("raw"),
                                         .virtual_size = INT64_C(1) << 50,
                                         .allocated = INT64_C(1) << 50,
                                         .backing_size = -1};
    json_add(world_data(result, NULL), "computed_guest", virt_guest_to_json(guest));
    virt_guest_free(guest);
    fake_rpc_answer(question(), result);
    world_settle(here);
    refused(a, "needs 1.0 PiB of disk on os-hostb", "are free");
}

UNIT_TEST(libvirt_away, "a hypervisor that is away is a reason to try the next host")
{
    virt_fake_fail(here->agent.virt, "host_facts", ERR_HYPERVISOR, "libvirt is away", -1);
    refused(check_whole(), "libvirt is away", "");
}

/* ---- the end of the agent ---- */

UNIT_TEST(cut_short, "a check that is under way when the agent ends leaves no probe behind")
{
    struct fake_asked *a = check(world_args("008"));
    UNIT_EQ(a->end, FAKE_OPEN);
    UNIT_EQ(files_in(here), 1);
    world_restart(here);
    UNIT_EQ(files_in(here), 0);
}

/* ---- check_instance_shared_storage ---- */

static struct fake_asked *look_for(const char *name)
{
    struct json_object *args = json_object_new_object(), *data = json_object_new_object();

    json_add_string(data, "filename", name);
    json_add(args, "data", data);
    struct fake_asked *a = world_ask(here, RPC_METHOD_check_instance_shared_storage, args);
    world_settle(here);
    return a;
}

UNIT_TEST(probe, "a probe file is seen, another one is not, a path is refused")
{
    _cleanup_(str_freep) char *path = text_format("%s/tmp01234567", here->instances);
    unit_write_file(path, "");
    UNIT_TRUE(json_object_get_boolean(look_for("tmp01234567")->result));
    struct fake_asked *other = look_for("tmp76543210");
    UNIT_EQ(other->end, FAKE_REPLIED);
    UNIT_TRUE(!json_object_get_boolean(other->result));
    UNIT_EQ(look_for("../tmp01234567")->end, FAKE_FAILED);
    UNIT_EQ(look_for(NULL)->end, FAKE_FAILED);
}

/* ---- the rules alone ---- */

UNIT_TEST(rules, "block migration follows from what is shared when nobody says")
{
    struct check_storage s = {.block_migration = -1,
                              .disk_over_commit = -1,
                              .available_mb = -1,
                              .instance_uuid = "i",
                              .host = "h"};
    bool block = false;
    UNIT_OK(check_answer_storage(&s, &block, &unit_err));
    UNIT_TRUE(block);
    s.shared_block = true;
    UNIT_OK(check_answer_storage(&s, &block, &unit_err));
    UNIT_TRUE(!block);
    s.block_migration = 1;
    UNIT_FAILS(check_answer_storage(&s, &block, &unit_err), ERR_PRECHECK);
    UNIT_STR(err_wire_class(&unit_err), "InvalidLocalStorage");
    s = (struct check_storage){.instance_uuid = "i", .host = "h", .available_mb = -1};
    UNIT_FAILS(check_answer_storage(&s, &block, &unit_err), ERR_PRECHECK);
    UNIT_STR(err_wire_class(&unit_err), "InvalidSharedStorage");
}

UNIT_TEST(rule_room, "room at the destination counts when over-commit was spoken of")
{
    struct check_storage s = {.block_migration = 1,
                              .disk_over_commit = 0,
                              .need = INT64_C(3) << 30,
                              .available_mb = 2048,
                              .instance_uuid = "i",
                              .host = "h"};
    bool block = false;
    UNIT_FAILS(check_answer_storage(&s, &block, &unit_err), ERR_NO_SPACE);
    UNIT_HAS(unit_err.text, "3.0 GiB");
    UNIT_HAS(unit_err.text, "2.0 GiB");
    s.disk_over_commit = -1;
    UNIT_OK(check_answer_storage(&s, &block, &unit_err));
}

UNIT_TEST(classes, "only classes that let the conductor go on pass, the sentence stays")
{
    struct err e = ERR_INIT;
    err_set(&e, ERR_TIMEOUT, "no reply");
    check_answer_error(&e);
    UNIT_STR(err_wire_class(&e), "MigrationPreCheckError");
    UNIT_STR(e.text, "no reply");
    e = ERR_INIT;
    err_set(&e, ERR_DISK_EXISTS, "it is there");
    check_answer_error(&e);
    UNIT_STR(err_wire_class(&e), "DestinationDiskExists");
}
