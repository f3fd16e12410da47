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

/* ---- the message bus ---- */

/* Looks at a nova.conf with these lines in [oslo_messaging_rabbit], this query in the URL. */
static void look_bus_of(const char *query, const char *lines)
{
    _cleanup_(str_freep) char *file = text_format("%s/nova.conf", unit_directory());
    _cleanup_(str_freep) char *text =
        text_format("[DEFAULT]\nhost = h1\n"
                    "transport_url = rabbit://nova:secret@broker:5672/%s\n"
                    "compute_driver = libvirt.LibvirtDriver\n"
                    "[oslo_messaging_rabbit]\n%s\n[libvirt]\nvirt_type = qemu\n",
                    query, lines);
    const char *const files[] = {file, NULL};
    const struct conf_sources sources = {.config_files = files};
    struct conf *conf = NULL;

    unit_write_file(file, text);
    UNIT_EQ(chmod(file, 0600), 0);
    if (!UNIT_OK(conf_load(&sources, &conf, NULL, &unit_err)))
        return;
    takeover_look_bus(report, conf);
    conf_unref(conf);
}

static void look_bus(const char *lines)
{
    look_bus_of("", lines);
}

static void row_has(size_t index, const char *result, const char *what)
{
    _cleanup_(str_freep) char *text = row(index);

    UNIT_TRUE(text_starts_with(text, result));
    UNIT_HAS(text, what);
}

UNIT_TEST(bus_plain, "a plain message bus is good, in one line")
{
    look_bus("");
    UNIT_EQ(rows(), 1);
    row_has(0,
            "good: ", "topic queues are transient classic ones, the fanout queue is a transient");
}

UNIT_TEST(bus_flags, "flags of queues that Zed knows are honoured: told, without a warning")
{
    look_bus("amqp_durable_queues = true\namqp_auto_delete = true\nrabbit_ha_queues = true");
    UNIT_EQ(rows(), 1);
    row_has(0, "good: ", "topic queues are durable, auto-deleted classic ones");
    row_has(0, "good: ", "all with x-ha-policy");
    look_bus("rabbit_quorum_queue = true");
    UNIT_EQ(rows(), 2);
    row_has(1, "good: ", "topic queues are durable quorum ones");
}

UNIT_TEST(bus_newer, "flags that Zed does not know are noted, since its exchange would differ")
{
    look_bus("rabbit_quorum_queue = true\nrabbit_transient_quorum_queue = true");
    UNIT_EQ(rows(), 2);
    row_has(0, "good: ", "the fanout queue is a durable quorum one");
    row_has(1, "note: ", "rabbit_transient_quorum_queue is set: Zed");
    look_bus("rabbit_transient_quorum_queue = true\nrabbit_stream_fanout = true\n"
             "rabbit_qos_prefetch_count = 10");
    row_has(2, "good: ", "durable stream");
    row_has(3, "note: ", "rabbit_stream_fanout");
}

UNIT_TEST(bus_both, "mirrored and quorum queues at once are a problem, as for nova-compute")
{
    look_bus_of("?rabbit_ha_queues=true", "rabbit_quorum_queue = true");
    UNIT_EQ(rows(), 1);
    row_has(0, "problem: ", "rabbit_ha_queues and rabbit_quorum_queue are both on");
}

UNIT_TEST(bus_tls, "TLS without an authority, which nova-compute does not check, is noted")
{
    look_bus("ssl = true\nssl_version = SSLv23");
    UNIT_EQ(rows(), 3);
    row_has(1, "note: ", "ssl is set without ssl_ca_file");
    row_has(2, "note: ", "must name the host of transport_url");
}

UNIT_TEST(bus_tls_known, "TLS whose options say all is not noted")
{
    look_bus("ssl = true\nssl_ca_file = /etc/ca.pem\n"
             "ssl_enforce_hostname_verification = true");
    UNIT_EQ(rows(), 1);
    look_bus("rabbit_use_ssl = true\nkombu_ssl_ca_certs = /etc/ca.pem\n"
             "ssl_enforce_hostname_verification = false");
    UNIT_EQ(rows(), 2);
}

UNIT_TEST(bus_compressed, "compressed messages are a problem, for they are not understood here")
{
    look_bus("kombu_compression = gzip");
    UNIT_EQ(rows(), 2);
    row_has(1, "problem: ", "kombu_compression is set");
    UNIT_EQ(json_get_int(report, "problems", 0), 1);
    look_bus_of("?kombu_compression=bz2", "");
    UNIT_EQ(json_get_int(report, "problems", 0), 2);
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
