/* SPDX-License-Identifier: Apache-2.0 */
/* The look before a take-over: its parts that need no connection. */
#include "agent/takeover.h"

#include <sys/stat.h>

#include "lib/json.h"
#include "lib/text.h"
#include "tests/unit/unit.h"

static struct json_object *report;

static void setup(void)
{
    report = json_object_new_object();
}

static void teardown(void)
{
    json_object_put(report);
}

UNIT_FIXTURE(setup, teardown)

/* "<result>: <text>" of a row; the caller frees. */
static char *row(size_t index)
{
    struct json_object *o = json_object_array_get_idx(json_get(report, "checks"), index);

    return text_format("%s: %s", json_get_string(o, "result", "-"),
                       json_get_string(o, "text", "-"));
}

static size_t rows(void)
{
    struct json_object *checks = json_get(report, "checks");

    return checks ? json_object_array_length(checks) : 0;
}

static struct json_object *parsed(const char *text)
{
    struct json_object *o = NULL;

    UNIT_OK(json_parse(text, strlen(text), &o, &unit_err));
    return o;
}

static void compare(const char *instances, const char *domains)
{
    _cleanup_(json_putp) struct json_object *a = parsed(instances), *b = parsed(domains);

    takeover_compare(report, a, b);
}

UNIT_TEST(all_fits, "instances that have their domains are good")
{
    compare("[{\"uuid\":\"u1\",\"vm_state\":\"active\",\"task_state\":null}]",
            "[{\"uuid\":\"u1\"}]");
    _cleanup_(str_freep) char *text = row(0);
    UNIT_HAS(text, "good: 1 instance(s)");
    UNIT_EQ(json_get_int(report, "problems", 0), 0);
}

UNIT_TEST(domain_missing, "an active instance without a domain is a problem, a building one is not")
{
    compare(
        "[{\"uuid\":\"u1\",\"vm_state\":\"active\"},{\"uuid\":\"u2\",\"vm_state\":\"building\"}]",
        "[]");
    _cleanup_(str_freep) char *text = row(0);
    UNIT_HAS(text, "problem: u1 is active in Nova, but there is no domain");
    UNIT_EQ(json_get_int(report, "problems", 0), 1);
}

UNIT_TEST(busy_instance, "an instance with a task is a problem that names the task")
{
    compare("[{\"uuid\":\"u1\",\"vm_state\":\"active\",\"task_state\":\"migrating\"}]",
            "[{\"uuid\":\"u1\"}]");
    _cleanup_(str_freep) char *text = row(0);
    UNIT_HAS(text, "the task migrating");
}

UNIT_TEST(resized_instance, "a resize that waits for its confirmation is a problem")
{
    compare("[{\"uuid\":\"u1\",\"vm_state\":\"resized\"}]", "[{\"uuid\":\"u1\"}]");
    _cleanup_(str_freep) char *text = row(0);
    UNIT_HAS(text, "confirm or revert the resize of it with nova-compute first");
}

UNIT_TEST(strangers, "domains that are not Nova's are noted, not refused")
{
    compare("[]", "[{\"uuid\":\"u1\"},{\"uuid\":\"u2\"}]");
    _cleanup_(str_freep) char *text = row(0);
    UNIT_HAS(text, "note: 2 domain(s)");
    UNIT_EQ(json_get_int(report, "problems", 0), 0);
}

UNIT_TEST(refused_features, "each feature that is refused is told of its domain")
{
    _cleanup_(json_putp) struct json_object *guest =
        parsed("{\"has_pci_device\":true,\"has_mdev\":true,"
               "\"disks\":[{\"is_volume\":false},{\"is_volume\":true},{\"is_volume\":true}]}");

    takeover_look_domain(report, "instance-1", guest,
                         "<domain><numatune/><memoryBacking><hugepages/></memoryBacking>"
                         "<devices><tpm model='tpm-crb'/></devices></domain>");
    UNIT_EQ(rows(), 6);
    UNIT_EQ(json_get_int(report, "problems", 0), 6);
    _cleanup_(str_freep) char *last = row(5);
    UNIT_HAS(last, "instance-1 has an attached volume");
}

UNIT_TEST(plain_domain, "a plain domain says nothing")
{
    _cleanup_(json_putp) struct json_object *guest = parsed("{\"disks\":[{\"is_volume\":false}]}");

    takeover_look_domain(report, "instance-1", guest,
                         "<domain><title>&lt;numatune&gt;</title></domain>");
    UNIT_EQ(rows(), 0);
}

static void make_process(const char *proc, const char *pid, const char *command)
{
    _cleanup_(str_freep) char *directory = text_format("%s/%s", proc, pid);
    _cleanup_(str_freep) char *path = text_format("%s/cmdline", directory);

    UNIT_EQ(mkdir(directory, 0700), 0);
    unit_write_file(path, command);
}

UNIT_TEST(processes, "a nova-compute is found by its name, whatever Python runs it")
{
    _cleanup_(str_freep) char *proc = text_format("%s/proc", unit_directory());

    UNIT_EQ(mkdir(proc, 0700), 0);
    make_process(proc, "12", "/usr/bin/python3 /usr/bin/nova-compute --config-file x");
    make_process(proc, "13", "vi /etc/nova/nova-compute.conf");
    make_process(proc, "14", "nova-conductor");
    make_process(proc, "self", "nova-compute");
    takeover_look_processes(report, proc);
    UNIT_EQ(json_object_array_length(json_get(report, "nova_compute")), 1);
    _cleanup_(str_freep) char *text = row(0);
    UNIT_HAS(text, "note: nova-compute runs (1 process(es))");
}

UNIT_TEST(idle_options, "options that are set and do nothing are named")
{
    struct conf *conf = conf_for_test("neutron.ovs_bridge", "br-int",
                                      "compute.live_migration_wait_for_vif_plug", "true", NULL);

    takeover_look_options(report, conf, NULL);
    for (size_t i = 0; i < rows(); i++) {
        _cleanup_(str_freep) char *text = row(i);
        UNIT_TRUE(text_starts_with(text, "note: ") || text_starts_with(text, "good: "));
    }
    conf_unref(conf);
}
