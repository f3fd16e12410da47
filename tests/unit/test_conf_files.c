/* SPDX-License-Identifier: Apache-2.0 */
/* Files: YAML, nova.conf, several of them, bad and hostile ones. */
#include "tests/unit/unit.h"

#include <sys/stat.h>

#include "conf/load.h"
#include "lib/text.h"

static struct conf_report report;
static struct conf *conf;

static void clear(void)
{
    conf_report_clear(&report);
    conf_unref(conf);
    conf = NULL;
}

UNIT_FIXTURE(NULL, clear)

static char *file_in_directory(const char *name)
{
    return text_format("%s/%s", unit_directory(), name);
}

/* Writes the content with mode 0600 and loads it as the only file. */
static int load_text(const char *name, const char *content, struct err *e)
{
    _cleanup_(str_freep) char *file = file_in_directory(name);
    const char *const files[] = {file, NULL};
    const struct conf_sources sources = {.config_files = files};

    clear();
    unit_write_file(file, content);
    (void)chmod(file, 0600);
    return conf_load(&sources, &conf, &report, e);
}

static int load_file(const char *relative, struct err *e)
{
    _cleanup_(str_freep) char *file = unit_source_path(relative);
    const char *const files[] = {file, NULL};
    const struct conf_sources sources = {.config_files = files, .no_permission_check = true};

    clear();
    return conf_load(&sources, &conf, &report, e);
}

UNIT_TEST(yaml_values, "YAML gives groups, options and lists, and remembers file and line")
{
    UNIT_OK(
        load_text("a.conf",
                  "# first\nlibvirt:\n  virt_type: qemu\n  live_migration_downtime: 300\n"
                  "net:\n  physical_interface_mappings: [physnet1:br-ex, \"physnet2:br-b\"]\nvnc:\n"
                  "DEFAULT:\n  debug: yes\n  log_dir: ~\n",
                  &unit_err));
    if (!conf)
        return;
    size_t count;
    UNIT_STR(conf_string(conf, CONF_libvirt_virt_type), "qemu");
    UNIT_EQ(conf_int(conf, CONF_libvirt_live_migration_downtime), 300);
    UNIT_STR(conf_list(conf, CONF_net_physical_interface_mappings, &count)[1], "physnet2:br-b");
    UNIT_EQ(count, 2);
    UNIT_TRUE(conf_bool(conf, CONF_DEFAULT_debug));
    UNIT_TRUE(!conf_is_set(conf, CONF_DEFAULT_log_dir));
    UNIT_HAS(conf_origin(conf, CONF_libvirt_live_migration_downtime), "a.conf:4");
    UNIT_EQ(conf_int(conf, CONF_libvirt_live_migration_completion_timeout), 180);
}

/* Loads a host's file that names `content` as the file of Neutron's agent. */
static int load_beside_neutron(const char *content, mode_t mode, const char *more)
{
    _cleanup_(str_freep) char *neutron = file_in_directory("linuxbridge_agent.ini");
    _cleanup_(str_freep) char *own = text_format(
        "agent:\n  control_plane: nova\nnet:\n  linuxbridge_agent_file: %s\n%s", neutron, more);

    if (content) {
        unit_write_file(neutron, content);
        (void)chmod(neutron, mode);
    } else {
        (void)unlink(neutron);
    }
    return load_text("nova.yaml", own, &unit_err);
}

#define NEUTRON_FILE                                                                               \
    "[DEFAULT]\n[linux_bridge]\nphysical_interface_mappings = physnet0:eth1, bad,physnet1:eth2\n"

UNIT_TEST(neutron_agent, "the interfaces of physical networks are those of Neutron's agent")
{
    size_t count = 0;

    UNIT_OK(load_beside_neutron(NEUTRON_FILE, 0640, ""));
    if (!conf)
        return;
    const char *const *rows = conf_list(conf, CONF_net_physical_interface_mappings, &count);
    UNIT_EQ(count, 2);
    UNIT_STR(rows[0], "physnet0:eth1");
    UNIT_STR(rows[1], "physnet1:eth2");
    UNIT_HAS(conf_origin(conf, CONF_net_physical_interface_mappings), "linuxbridge_agent.ini:3");
    UNIT_EQ(report.warnings, 1);
    UNIT_HAS(report.items[0].text, "\"bad\" is not network:interface");
}

UNIT_TEST(neutron_given, "what the host's own file gives goes before Neutron's")
{
    size_t count = 0;

    UNIT_OK(
        load_beside_neutron(NEUTRON_FILE, 0640, "  physical_interface_mappings: [other:eth9]\n"));
    if (!conf)
        return;
    UNIT_STR(conf_list(conf, CONF_net_physical_interface_mappings, &count)[0], "other:eth9");
    UNIT_EQ(count, 1);
    UNIT_EQ(report.warnings, 0);
}

static void takes_nothing(const char *content, mode_t mode, const char *why)
{
    size_t count = 9;

    UNIT_OK(load_beside_neutron(content, mode, ""));
    if (!conf)
        return;
    (void)conf_list(conf, CONF_net_physical_interface_mappings, &count);
    UNIT_EQ(count, 0);
    UNIT_EQ(report.warnings, why ? 1 : 0);
    if (why && report.length)
        UNIT_HAS(report.items[0].text, why);
}

UNIT_TEST(neutron_told, "a file of Neutron's that cannot be used is told and stops nothing")
{
    takes_nothing(NULL, 0, "linuxbridge_agent.ini cannot be read");
    takes_nothing("\xff\xff", 0640, "is not text in UTF-8");
    takes_nothing(NEUTRON_FILE, 0646, "mode 0646, everybody may write it");
    takes_nothing("[vxlan]\nenable_vxlan = false\n", 0640, NULL);
}

UNIT_TEST(devstack, "a nova.conf of devstack is read as it is, with Nova's own defaults")
{
    UNIT_OK(load_file("tests/data/conf/nova-devstack.conf", &unit_err));
    if (!conf)
        return;
    UNIT_EQ(report.errors, 0);
    UNIT_EQ(report.warnings, 1); /* live_migration_uri is deprecated */
    UNIT_TRUE(report.ignored > 12);
    UNIT_STR(conf_string(conf, CONF_DEFAULT_instances_path), "/opt/stack/data/nova/instances");
    UNIT_STR(conf_string(conf, CONF_DEFAULT_transport_url),
             "rabbit://stackrabbit:s3cr3t-word@192.0.2.10:5672/");
    UNIT_EQ(conf_int(conf, CONF_libvirt_live_migration_completion_timeout), 600);
    UNIT_STR(conf_string(conf, CONF_libvirt_live_migration_timeout_action), "force_complete");
    UNIT_TRUE(!conf_bool(conf, CONF_libvirt_live_migration_permit_auto_converge));
    UNIT_STR(conf_origin(conf, CONF_libvirt_live_migration_permit_auto_converge), "Nova's default");
    UNIT_STR(conf_string(conf, CONF_net_ovs_database), "tcp:127.0.0.1:6640");
}

UNIT_TEST(kolla, "a nova.conf of Kolla is read as it is, with continued lines and old spellings")
{
    UNIT_OK(load_file("tests/data/conf/nova-kolla.conf", &unit_err));
    if (!conf)
        return;
    UNIT_EQ(report.warnings, 1);
    UNIT_EQ(conf_int(conf, CONF_libvirt_live_migration_completion_timeout), 800);
    UNIT_EQ(conf_int(conf, CONF_oslo_messaging_rabbit_rabbit_quorum_max_memory_bytes), 1048576);
    UNIT_TRUE(conf_bool(conf, CONF_oslo_messaging_rabbit_use_queue_manager));
    UNIT_HAS(conf_string(conf, CONF_DEFAULT_transport_url), "198.51.100.13:5672//");
    UNIT_STR(conf_string(conf, CONF_serial_console_proxyclient_address), "198.51.100.21");
}

UNIT_TEST(ini_forms,
          "INI takes quotes, colons, comments, repeats and continued lists like oslo.config")
{
    UNIT_OK(load_text("b.conf",
                      "; comment\n[Libvirt]\nvirt_type: \"qemu\"\nconnection_uri = qemu:///a=b:c\n"
                      "[net]\nphysical_interface_mappings = a:b,\n  c:d,\n\te:f\n\n"
                      "[DEFAULT]\ndebug = true\ndebug = false\nhost=x\r\n",
                      &unit_err));
    if (!conf)
        return;
    size_t count;
    UNIT_STR(conf_string(conf, CONF_libvirt_virt_type), "qemu");
    UNIT_STR(conf_string(conf, CONF_libvirt_connection_uri), "qemu:///a=b:c");
    UNIT_STR(conf_list(conf, CONF_net_physical_interface_mappings, &count)[2], "e:f");
    UNIT_EQ(count, 3);
    UNIT_TRUE(!conf_bool(conf, CONF_DEFAULT_debug));
    UNIT_STR(conf_string(conf, CONF_DEFAULT_host), "x");
    UNIT_EQ(report.warnings, 1); /* debug twice */
}

UNIT_TEST(byte_order_mark, "a byte order mark is passed over")
{
    UNIT_OK(load_text("bom.conf",
                      "\xef\xbb\xbf"
                      "[DEFAULT]\nhost = y\n",
                      &unit_err));
    if (conf)
        UNIT_STR(conf_string(conf, CONF_DEFAULT_host), "y");
}

UNIT_TEST(files_in_order, "later files, directories and the command line win over earlier ones")
{
    _cleanup_(str_freep) char *first = file_in_directory("1.conf"),
                              *second = file_in_directory("2.conf");
    _cleanup_(str_freep) char *directory = file_in_directory("d"),
                              *part = file_in_directory("d/x.yaml");
    _cleanup_(str_freep) char *other = file_in_directory("d/readme.txt");
    char program[] = "computed", file_option[] = "--config-file", dir_option[] = "--config-dir",
         debug[] = "--debug", rest[] = "rest";
    _cleanup_(str_freep) char *joined = text_format("--config-file=%s", second);
    _cleanup_(str_freep) char *log = text_dup("--log-file=/tmp/x.log");
    char *argv[] = {program,   file_option, first, joined, dir_option,
                    directory, debug,       rest,  log,    NULL};
    int argc = 9;
    struct conf_sources sources = {0};

    (void)mkdir(directory, 0700);
    unit_write_file(first, "[DEFAULT]\nhost = one\ncontrol_exchange = one\nreport_interval = 11\n");
    unit_write_file(second, "DEFAULT:\n  host: two\n  control_exchange: two\n");
    unit_write_file(part, "DEFAULT: {host: three}\n");
    unit_write_file(other, "nonsense");
    (void)chmod(first, 0600);
    (void)chmod(second, 0600);
    (void)chmod(part, 0600);
    UNIT_OK(conf_sources_from_argv(&sources, &argc, argv, &unit_err));
    UNIT_EQ(argc, 2);
    UNIT_STR(argv[1], "rest");
    UNIT_OK(conf_load(&sources, &conf, &report, &unit_err));
    if (conf) {
        UNIT_STR(conf_string(conf, CONF_DEFAULT_host), "three");
        UNIT_STR(conf_string(conf, CONF_DEFAULT_control_exchange), "two");
        UNIT_EQ(conf_int(conf, CONF_DEFAULT_report_interval), 11);
        UNIT_STR(conf_string(conf, CONF_DEFAULT_log_file), "/tmp/x.log");
        UNIT_TRUE(conf_bool(conf, CONF_DEFAULT_debug));
    }
    conf_sources_clear(&sources);
}

UNIT_TEST(argument_missing, "--config-file without a file is a usage error")
{
    char program[] = "computed", option[] = "--config-file";
    char *argv[] = {program, option, NULL};
    int argc = 2;
    struct conf_sources sources = {0};

    UNIT_FAILS(conf_sources_from_argv(&sources, &argc, argv, &unit_err), ERR_USAGE);
    UNIT_HAS(unit_err.text, "--config-file");
    conf_sources_clear(&sources);
}

static const struct {
    const char *content, *place, *text;
} bad[] = {
    {"libvirt:\n  live_migration_downtme: 5\n", ":2: error",
     "did you mean libvirt.live_migration_downtime?"},
    {"libvrit:\n  virt_type: kvm\n", ":2: error", "did you mean libvirt.virt_type?"},
    {"libvirt:\n  cpu_mode: none\n  cheese: 1\n", ":3: error", "libvirt.cheese is not an option"},
    {"libvirt:\n  virt_type: kvm\n  live_migration_downtime: fast\n", ":3: error",
     "\"fast\" is not allowed, it must be an integer from 20 to 2000000 (ms)"},
    {"libvirt:\n  virt_type: xen\n", ":2: error",
     "\"xen\" is not allowed, it must be kvm, lxc, qemu or parallels"},
    {"libvirt:\n  virt_type: kvm\n  virt_type: qemu\n", ":3: error",
     "given twice in this file, first in line 2"},
    {"libvirt:\n  virt_type: kvm\nlibvirt:\n  images_type: raw\n", ":3: error",
     "group libvirt is given twice"},
    {"libvirt:\n  virt_type: [kvm]\n", ":2: error", "a list is not allowed"},
    {"libvirt:\n  virt_type: {a: b}\n", ":2: error", "not further options"},
    {"libvirt: kvm\n", ":1: error", "a group that holds options must stand here"},
    {"host: kvm\n", ":1: error", "did you mean DEFAULT.host?"},
    {"- libvirt\n", ":1: error", "a mapping of groups is needed here"},
    {"libvirt:\n\tvirt_type: kvm\n", ":2: error", "this is not YAML"},
    {"libvirt:\n  virt_type: \"kvm\n", ": error", "this is not YAML"},
    {"libvirt:\n  virt_type: kvm\n---\nlibvirt: {}\n", ":3: error", "second YAML document"},
    {"libvirt: &a\n  virt_type: kvm\n", ":1: error", "anchors"},
    {"libvirt:\n  virt_type: !!str kvm\n", ":2: error", "tags"},
    {"libvirt:\n  virt_type: *b\n", ":2: error", "aliases"},
    {"[libvirt]\nlive_migration_downtime = 19\n", ":2: error", "\"19\" is not allowed"},
    {"[libvirt\nvirt_type = kvm\n", ":1: error", "a section is written [name]"},
    {"[libvirt]\n= kvm\n", ":2: error", "a name of 1 to 128 characters"},
    {"[libvirt]\nrabbit hush\n", ":2: error", "neither a [group], a comment nor name = value"},
    {"[libvirt]\n  virt_type = kvm\n", ":2: error", "no value that it could continue"},
    {"virt_type = kvm\n", ":1: error", "stands before the first [group]"},
    {"[DEFAULT]\ntransport_url = amqp://u:hush@h/\n", ":2: error",
     "must be a URL of scheme rabbit"},
    {"[DEFAULT]\nmy_ip = a.b\n", ":2: error", "an IPv4 or IPv6 address"},
    {"[DEFAULT]\nvif_plugging_is_fatal = perhaps\n", ":2: error", "true or false"},
    {"[libvirt]\nlive_migration_tunnelled=1\nlive_migration_with_native_tls=1\n", "error",
     "exclude each other"},
    {"libvirt:\n  virt_type: \"a\\0b\"\n", ":2: error", "NUL"},
};

UNIT_TEST(bad_input,
          "each kind of bad input gives file, line and what is allowed, and never a secret")
{
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        UNIT_FAILS(load_text("bad.conf", bad[i].content, &unit_err), ERR_CONFIG);
        UNIT_TRUE(conf == NULL);
        bool found = false;
        for (size_t j = 0; j < report.length; j++) {
            _cleanup_(str_freep) char *text = conf_problem_text(&report.items[j]);
            found |= strstr(text, bad[i].place) && strstr(text, bad[i].text);
            UNIT_TRUE(!strstr(text, "hush"));
        }
        unit_check(found, __LINE__, __FILE__, "case %zu (%s) gives: %s", i, bad[i].text,
                   report.length ? report.items[0].text : "nothing");
    }
}

UNIT_TEST(all_errors, "all errors are told, not only the first")
{
    UNIT_FAILS(
        load_text("many.conf",
                  "libvirt:\n  virt_type: a\n  images_type: b\n  cheese: c\nvnc:\n  enabled: d\n",
                  &unit_err),
        ERR_CONFIG);
    UNIT_EQ(report.errors, 4);
    UNIT_HAS(unit_err.text, "4 errors in the configuration, the first: ");
}

UNIT_TEST(unknown_in_nova_conf,
          "an unknown option is a warning in a nova.conf, with the name that was meant")
{
    UNIT_OK(load_text("w.conf", "[libvirt]\nlive_migration_downtme = 5\n", &unit_err));
    UNIT_EQ(report.warnings, 1);
    UNIT_EQ(report.errors, 0);
    UNIT_HAS(report.items[0].text, "did you mean libvirt.live_migration_downtime?");
}

static int load_with_mode(const char *content, mode_t mode, struct err *e)
{
    _cleanup_(str_freep) char *file = file_in_directory("mode.conf");
    const char *const files[] = {file, NULL};
    const struct conf_sources sources = {.config_files = files};

    clear();
    unit_write_file(file, content);
    (void)chmod(file, mode);
    return conf_load(&sources, &conf, &report, e);
}

UNIT_TEST(permissions,
          "a file that others may write, or read although it holds a password, is refused")
{
    static const char secret[] = "[DEFAULT]\ntransport_url = rabbit://u:hush@192.0.2.1/\n";

    UNIT_FAILS(load_with_mode(secret, 0644, &unit_err), ERR_CONFIG);
    UNIT_HAS(unit_err.text, "mode is 0644, everybody may read transport_url");
    UNIT_FAILS(load_with_mode("[neutron]\npassword = hush\n", 0604, &unit_err), ERR_CONFIG);
    UNIT_FAILS(load_with_mode("[DEFAULT]\nhost = a\n", 0664, &unit_err), ERR_CONFIG);
    UNIT_HAS(unit_err.text, "others than its owner may write it");
    UNIT_FAILS(load_with_mode("[DEFAULT]\nhost = a\n", 0602, &unit_err), ERR_CONFIG);
    UNIT_OK(load_with_mode(secret, 0640, &unit_err));
    UNIT_OK(load_with_mode("[DEFAULT]\nhost = a\n", 0644, &unit_err));
}

UNIT_TEST(unreadable, "a file that is missing, a directory or a FIFO is an error at once")
{
    _cleanup_(str_freep) char *missing = file_in_directory("missing"),
                              *fifo = file_in_directory("fifo");
    const char *const names[] = {missing, unit_directory(), fifo};

    (void)mkfifo(fifo, 0600);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        const char *const files[] = {names[i], NULL};
        const struct conf_sources sources = {.config_files = files};
        clear();
        UNIT_FAILS(conf_load(&sources, &conf, &report, &unit_err), ERR_CONFIG);
        UNIT_HAS(unit_err.text, names[i]);
    }
    const char *const directories[] = {missing, NULL};
    const struct conf_sources sources = {.config_dirs = directories};
    clear();
    UNIT_FAILS(conf_load(&sources, &conf, &report, &unit_err), ERR_CONFIG);
}

static void refused(const char *content, const char *text)
{
    UNIT_FAILS(load_text("hostile.conf", content, &unit_err), ERR_CONFIG);
    UNIT_HAS(unit_err.text, text);
}

UNIT_TEST(laughs, "a billion laughs are refused at the first anchor")
{
    refused("a: &a [\"lol\",\"lol\"]\nb: &b [*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b]\n", "anchors");
}

static char *repeated(const char *head, const char *part, size_t count)
{
    struct text_buffer b = TEXT_BUFFER_INIT;
    text_buffer_add(&b, head);
    for (size_t i = 0; i < count; i++)
        text_buffer_add(&b, part);
    return text_buffer_take(&b);
}

UNIT_TEST(deep, "deep nesting is refused in both styles")
{
    _cleanup_(str_freep) char *flow = repeated("libvirt:\n  virt_type: ", "[", 100000);
    _cleanup_(str_freep) char *braces = repeated("", "{a: ", 50000);
    _cleanup_(str_freep) char *block = repeated("libvirt:\n  virt_type: ", "- ", 1000);

    UNIT_FAILS(load_text("hostile.conf", flow, &unit_err), ERR_CONFIG);
    UNIT_FAILS(load_text("hostile.conf", braces, &unit_err), ERR_CONFIG);
    UNIT_FAILS(load_text("hostile.conf", block, &unit_err), ERR_CONFIG);
}

UNIT_TEST(large, "10 MB are refused by size, and many options by number")
{
    _cleanup_(str_freep) char *huge = repeated("# comment\n", "0123456789abcdef", 655360);
    _cleanup_(str_freep) char *many = repeated("[DEFAULT]\n", "a=b\n", 20000);
    _cleanup_(str_freep) char *many_yaml = repeated("DEFAULT:\n", "  a: b\n", 60000);
    _cleanup_(str_freep) char *groups = repeated("", "a: {}\n", 1000);
    _cleanup_(str_freep) char *value =
        repeated("libvirt:\n  virt_type: ", "aaaaaaaaaaaaaaaa", 2000);

    refused(huge, "larger than 1 MiB");
    UNIT_FAILS(load_text("hostile.conf", many, &unit_err), ERR_CONFIG);
    UNIT_FAILS(load_text("hostile.conf", many_yaml, &unit_err), ERR_CONFIG);
    UNIT_FAILS(load_text("hostile.conf", groups, &unit_err), ERR_CONFIG);
    refused(value, "longer than 16384 bytes");
}

UNIT_TEST(not_text, "invalid UTF-8 and control characters are refused or shown harmless")
{
    refused("[DEFAULT]\nhost = \xff\xfe\n", "not text in UTF-8");
    refused("[DEFAULT]\nhost = a\x1b[31m\n", "a\\x1b[31m");
    UNIT_OK(load_text("escape.conf", "[DEFAULT]\nna\x1b[31mme = 1\n", &unit_err));
    if (UNIT_EQ(report.length, 1))
        UNIT_HAS(report.items[0].text, "na\\x1b[31mme");
}

UNIT_TEST(empty, "empty files and files of comments are all defaults")
{
    UNIT_OK(load_text("empty.conf", "", &unit_err));
    UNIT_OK(load_text("empty.conf", "# nothing\n\n", &unit_err));
    UNIT_OK(load_text("empty.conf", "---\n...\n", &unit_err));
}
