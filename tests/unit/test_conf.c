/* SPDX-License-Identifier: Apache-2.0 */
/* The option table and snapshots, without files. */
#include "tests/unit/unit.h"

#include "conf/internal.h"
#include "conf/load.h"
#include "lib/text.h"

#define EACH_ROW(i) for (unsigned i = 0; i < CONF_COUNT; i++)

UNIT_TEST(help_sentences, "every option has a help of one sentence, a word on Nova and a release")
{
    EACH_ROW(i)
    {
        const struct conf_row *row = conf_row((enum conf_id)i);
        bool good = row->help && row->help[0] >= 'A' && row->help[0] <= 'Z' &&
                    text_ends_with(row->help, ".") && row->since && row->nova &&
                    (strcmp(row->nova, "same") == 0 || strcmp(row->nova, "none") == 0 ||
                     text_starts_with(row->nova, "differs: "));
        unit_check(good, __LINE__, __FILE__, "row %s.%s is not complete", row->group, row->name);
        unit_check(!row->more || text_ends_with(row->more, "."), __LINE__, __FILE__,
                   "%s.%s: more does not end in a full stop", row->group, row->name);
        unit_check(conf_group_help(row->group) != NULL, __LINE__, __FILE__, "%s has no GROUP",
                   row->group);
    }
}

UNIT_TEST(defaults_pass, "the defaults of both kinds pass their own types and bounds")
{
    EACH_ROW(i)
    {
        const struct conf_row *row = conf_row((enum conf_id)i);
        struct conf_value value = {0};
        if (row->default_text && !strchr(row->default_text, '$'))
            UNIT_OK(conf_value_parse(row, row->default_text, &value, &unit_err));
        conf_value_clear(&value);
        if (row->nova_default)
            UNIT_OK(conf_value_parse(row, row->nova_default, &value, &unit_err));
        conf_value_clear(&value);
        unit_check(row->type != CONF_TYPE_ENUM || row->words, __LINE__, __FILE__,
                   "%s.%s has no words", row->group, row->name);
    }
}

UNIT_TEST(names_unique, "no option, alias or name of Nova's list means two things")
{
    EACH_ROW(i)
    {
        const struct conf_row *row = conf_row((enum conf_id)i);
        UNIT_EQ(conf_find(row->group, row->name), i);
        unit_check(!conf_is_known_to_nova(row->group, row->name), __LINE__, __FILE__,
                   "%s.%s is in nova_options.def.h too", row->group, row->name);
        char **aliases = text_split(row->alias ? row->alias : "", ' ');
        for (char **alias = aliases; *alias && **alias; alias++)
            UNIT_EQ(conf_find_dotted(*alias), i);
        text_vector_free(aliases);
    }
}

UNIT_TEST(nova_names_sorted, "the names that only Nova uses are sorted, as the search needs")
{
    static const char *const names[] = {
#define NOVA_OPTION(name) name,
#include "conf/nova_options.def.h"
#undef NOVA_OPTION
    };
    for (size_t i = 1; i < ARRAY_LEN(names); i++)
        unit_check(strcmp(names[i - 1], names[i]) < 0, __LINE__, __FILE__, "%s is out of order",
                   names[i]);
    UNIT_TRUE(conf_is_known_to_nova("DEFAULT", "compute_driver"));
    UNIT_TRUE(conf_is_known_to_nova("keystone", "auth_url"));
    UNIT_TRUE(conf_is_known_to_nova("oslo_concurrency", "lock_path"));
    UNIT_TRUE(!conf_is_known_to_nova("libvirt", "live_migration_downtme"));
}

UNIT_TEST(typed_defaults, "defaults have the values of the contract")
{
    _cleanup_(conf_unrefp) struct conf *conf = conf_for_test(NULL, NULL);

    UNIT_EQ(conf_int(conf, CONF_libvirt_live_migration_downtime), 500);
    UNIT_EQ(conf_int(conf, CONF_libvirt_live_migration_completion_timeout), 180);
    UNIT_TRUE(conf_bool(conf, CONF_libvirt_live_migration_permit_auto_converge));
    UNIT_TRUE(!conf_bool(conf, CONF_libvirt_live_migration_permit_post_copy));
    UNIT_STR(conf_string(conf, CONF_DEFAULT_instances_path), "/var/lib/nova/instances");
    UNIT_STR(conf_string(conf, CONF_DEFAULT_transport_url), NULL);
    UNIT_STR(conf_string(conf, CONF_libvirt_live_migration_scheme), NULL);
    UNIT_EQ(conf_int(conf, CONF_libvirt_live_migration_scheme), -1);
    UNIT_STR(conf_string(conf, CONF_agent_migration_address), "127.0.0.1");
    UNIT_TRUE(conf_double(conf, CONF_oslo_messaging_rabbit_kombu_reconnect_delay) == 1.0);
    size_t count = 9;
    UNIT_TRUE(conf_list(conf, CONF_net_physical_interface_mappings, &count)[0] == NULL);
    UNIT_EQ(count, 0);
    UNIT_TRUE(!conf_is_set(conf, CONF_libvirt_live_migration_downtime));
    UNIT_STR(conf_origin(conf, CONF_libvirt_live_migration_downtime), "default");
}

UNIT_TEST(enum_values, "an enumerated option reads as word and as index")
{
    _cleanup_(conf_unrefp) struct conf *conf =
        conf_for_test("libvirt.live_migration_timeout_action", "force_complete", NULL);

    UNIT_STR(conf_string(conf, CONF_libvirt_live_migration_timeout_action), "force_complete");
    UNIT_EQ(conf_int(conf, CONF_libvirt_live_migration_timeout_action), 1);
    UNIT_TRUE(conf_is_set(conf, CONF_libvirt_live_migration_timeout_action));
}

UNIT_TEST(lists, "a list is split at commas and trimmed")
{
    size_t count;
    _cleanup_(conf_unrefp) struct conf *conf = conf_for_test(
        "net.physical_interface_mappings", " physnet1:br-ex ,, physnet2:br-data\n", NULL);
    const char *const *items = conf_list(conf, CONF_net_physical_interface_mappings, &count);

    UNIT_EQ(count, 2);
    UNIT_STR(items[0], "physnet1:br-ex");
    UNIT_STR(items[1], "physnet2:br-data");
    UNIT_STR(items[2], NULL);
}

UNIT_TEST(interpolation, "options refer to options of their group, of DEFAULT and of named groups")
{
    _cleanup_(conf_unrefp) struct conf *conf =
        conf_for_test("DEFAULT.state_path", "/srv/nova", "vnc.server_listen", "$my_ip",
                      "spice.server_listen", "${vnc.server_listen}", "neutron.ovs_bridge",
                      "a$$b\\$c$unknown", "DEFAULT.control_exchange", "${unclosed $", NULL);

    UNIT_STR(conf_string(conf, CONF_DEFAULT_instances_path), "/srv/nova/instances");
    UNIT_STR(conf_string(conf, CONF_vnc_server_listen), "127.0.0.1");
    UNIT_STR(conf_string(conf, CONF_spice_server_listen), "127.0.0.1");
    UNIT_STR(conf_string(conf, CONF_neutron_ovs_bridge), "a$b$c$unknown");
    UNIT_STR(conf_string(conf, CONF_DEFAULT_control_exchange), "${unclosed $");
}

UNIT_TEST(inbound_address,
          "the agents' address follows live_migration_inbound_addr, %s being the host")
{
    _cleanup_(conf_unrefp) struct conf *conf =
        conf_for_test("libvirt.live_migration_inbound_addr", "%s.migration.example", NULL);

    UNIT_STR(conf_string(conf, CONF_agent_migration_address), "testhost.migration.example");
}

static void resolve_fails(enum conf_id first, const char *one, enum conf_id second, const char *two,
                          const char *text)
{
    struct conf_raw raw[CONF_COUNT] = {0};
    struct conf_report report = {0};

    raw[first].text = text_dup(one);
    raw[second].text = text_dup(two);
    struct conf *conf = conf_resolve(raw, false, &report);
    if (UNIT_TRUE(report.errors > 0))
        UNIT_HAS(report.items[0].text, text);
    conf_unref(conf);
    conf_report_clear(&report);
    free(raw[first].text);
    free(raw[second].text);
}

UNIT_TEST(circles, "options that refer to each other in a circle are an error")
{
    resolve_fails(CONF_vnc_server_listen, "${spice.server_listen}", CONF_spice_server_listen,
                  "$vnc.server_listen", "refers to itself");
}

UNIT_TEST(secrets_stay, "a secret cannot be copied into an option that is shown")
{
    resolve_fails(CONF_DEFAULT_transport_url, "rabbit://u:hush@h/", CONF_vnc_server_listen,
                  "$transport_url", "is a secret");
}

UNIT_TEST(expansion_bounded, "references cannot expand without bound")
{
    struct conf_raw raw[CONF_COUNT] = {0};
    struct conf_report report = {0};
    static const enum conf_id chain[] = {CONF_DEFAULT_control_exchange, CONF_vnc_server_listen,
                                         CONF_spice_server_listen, CONF_neutron_ovs_bridge,
                                         CONF_standalone_project_id};

    for (size_t i = 0; i < ARRAY_LEN(chain); i++) {
        struct text_buffer b = TEXT_BUFFER_INIT;
        for (int n = 0; n < 64; n++) {
            if (i)
                text_buffer_printf(&b, "${%s.%s}", conf_row(chain[i - 1])->group,
                                   conf_row(chain[i - 1])->name);
            else
                text_buffer_add(&b, "lol");
        }
        raw[chain[i]].text = text_buffer_take(&b);
    }
    struct conf *conf = conf_resolve(raw, false, &report);
    if (UNIT_TRUE(report.errors > 0))
        UNIT_HAS(report.items[0].text, "longer than 16384 bytes");
    conf_unref(conf);
    conf_report_clear(&report);
    for (size_t i = 0; i < ARRAY_LEN(chain); i++)
        free(raw[chain[i]].text);
}

/* A valid value that is not the default. */
static char *other_value(const struct conf_row *row)
{
    switch (row->type) {
    case CONF_TYPE_BOOL:
        return text_dup(text_equal(row->default_text, "true") ? "false" : "true");
    case CONF_TYPE_INT:
    case CONF_TYPE_FLOAT:
        return text_format("%.0f",
                           strtod(row->default_text ? row->default_text : "0", NULL) == row->min
                               ? row->min + 1
                               : row->min);
    case CONF_TYPE_ENUM: {
        char **words = text_split(row->words, '|');
        char *word = text_dup(text_equal(words[0], row->default_text) ? words[1] : words[0]);
        text_vector_free(words);
        return word;
    }
    case CONF_TYPE_IP:
        return text_dup("2001:db8::7");
    case CONF_TYPE_PATH:
        return text_dup("/another/path");
    case CONF_TYPE_URL:
        return text_format("%.*s://u:hush@192.0.2.1/", (int)strcspn(row->words, "|"), row->words);
    default:
        return text_dup("another:value");
    }
}

UNIT_TEST(reload_all,
          "on reload every RELOAD option changes live and every other one asks for a restart")
{
    _cleanup_(conf_unrefp) struct conf *old = conf_for_test(NULL, NULL);

    EACH_ROW(i)
    {
        enum conf_id id = (enum conf_id)i;
        const struct conf_row *row = conf_row(id);
        bool changed[CONF_COUNT], restart[CONF_COUNT];
        _cleanup_(str_freep) char *name = text_format("%s.%s", row->group, row->name);
        _cleanup_(str_freep) char *value =
            row->type == CONF_TYPE_HOST ? text_dup("other") : other_value(row);
        _cleanup_(conf_unrefp) struct conf *fresh = conf_for_test(name, value, NULL);
        _cleanup_(conf_unrefp) struct conf *merged =
            conf_reload_merge(old, fresh, changed, restart);
        bool live = row->flags & CONF_RELOAD;
        unit_check(!conf_equal(old, fresh, id), __LINE__, __FILE__, "%s has no other value", name);
        unit_check(changed[i] == live && restart[i] == !live, __LINE__, __FILE__, "%s: wrong list",
                   name);
        unit_check(conf_equal(merged, live ? fresh : old, id), __LINE__, __FILE__,
                   "%s: wrong value", name);
    }
}

UNIT_TEST(secrets_masked, "a secret is shown as three stars, and as nothing when it is not set")
{
    _cleanup_(conf_unrefp) struct conf *conf =
        conf_for_test("DEFAULT.transport_url", "rabbit://u:hush@192.0.2.1/", NULL);
    _cleanup_(conf_unrefp) struct conf *none = conf_for_test(NULL, NULL);
    _cleanup_(str_freep) char *shown = conf_text(conf, CONF_DEFAULT_transport_url);
    _cleanup_(str_freep) char *unset = conf_text(none, CONF_DEFAULT_transport_url);
    _cleanup_(str_freep) char *secret = conf_text_secret(conf, CONF_DEFAULT_transport_url);

    UNIT_STR(shown, "***");
    UNIT_STR(unset, "");
    UNIT_STR(secret, "rabbit://u:hush@192.0.2.1/");
}

static void log_path_is(const char *file, const char *directory, const char *journal,
                        const char *expected)
{
    _cleanup_(conf_unrefp) struct conf *conf =
        conf_for_test("DEFAULT.log_file", file, "DEFAULT.log_dir", directory, "DEFAULT.use_journal",
                      journal, NULL);
    _cleanup_(str_freep) char *path = conf_log_path(conf);
    UNIT_STR(path, expected);
}

UNIT_TEST(log_path, "the log goes where oslo.log would put it")
{
    _cleanup_(conf_unrefp) struct conf *none = conf_for_test(NULL, NULL);

    UNIT_STR(conf_log_path(none), NULL);
    log_path_is("a.log", "/var/log/nova", "false", "/var/log/nova/a.log");
    log_path_is("/tmp/a.log", "/var/log/nova", "false", "/tmp/a.log");
    log_path_is("", "/var/log/nova", "false", "/var/log/nova/computed.log");
    log_path_is("/tmp/a.log", "/var/log/nova", "true", NULL);
}

UNIT_TEST(references, "a snapshot lives until its last reference is given back")
{
    struct conf *conf = conf_for_test(NULL, NULL);
    struct conf *other = conf_ref(conf);

    conf_unref(conf);
    UNIT_STR(conf_string(other, CONF_DEFAULT_host), "testhost");
    conf_unref(other);
    conf_unref(NULL);
}

static const struct {
    enum conf_id id;
    const char *text;
} bad_values[] = {
    {CONF_libvirt_live_migration_downtime, "19"},
    {CONF_libvirt_live_migration_downtime, "2000001"},
    {CONF_libvirt_live_migration_downtime, "500ms"},
    {CONF_libvirt_live_migration_downtime, ""},
    {CONF_libvirt_live_migration_downtime, "99999999999999999999"},
    {CONF_libvirt_live_migration_downtime, "0x20"},
    {CONF_libvirt_live_migration_downtime, " 500"},
    {CONF_oslo_messaging_rabbit_kombu_reconnect_delay, "4.6"},
    {CONF_oslo_messaging_rabbit_kombu_reconnect_delay, "nan"},
    {CONF_oslo_messaging_rabbit_kombu_reconnect_delay, "1,5"},
    {CONF_DEFAULT_debug, "maybe"},
    {CONF_DEFAULT_debug, ""},
    {CONF_libvirt_virt_type, "KVM"},
    {CONF_libvirt_virt_type, "kvm|lxc"},
    {CONF_libvirt_virt_type, ""},
    {CONF_DEFAULT_my_ip, "192.0.2.300"},
    {CONF_DEFAULT_my_ip, "hosta"},
    {CONF_DEFAULT_host, "a/b"},
    {CONF_DEFAULT_host, ""},
    {CONF_DEFAULT_host, "a..b"},
    {CONF_DEFAULT_host, "-a"},
    {CONF_DEFAULT_state_path, "nova"},
    {CONF_DEFAULT_state_path, "/var/../etc"},
    {CONF_DEFAULT_state_path, "/var/./nova"},
    {CONF_DEFAULT_state_path, "/var/li\nb"},
    {CONF_DEFAULT_transport_url, "amqp://u:hush@h/"},
    {CONF_DEFAULT_transport_url, "rabbit:u:hush@h/"},
    {CONF_DEFAULT_transport_url, "kombu+://u:hush@h/"},
    {CONF_vnc_server_listen, "a\nb"},
    {CONF_vnc_server_listen, "a\x1b[31m"},
};

UNIT_TEST(bad_types,
          "a value of the wrong type or out of range says what is allowed, never a secret")
{
    for (size_t i = 0; i < ARRAY_LEN(bad_values); i++) {
        const struct conf_row *row = conf_row(bad_values[i].id);
        struct conf_value value = {0};
        char allowed[256];
        conf_row_allowed(row, allowed, sizeof(allowed));
        UNIT_FAILS(conf_value_parse(row, bad_values[i].text, &value, &unit_err), ERR_INVALID);
        UNIT_HAS(unit_err.text, row->name);
        UNIT_HAS(unit_err.text, allowed);
        UNIT_TRUE(!strstr(unit_err.text, "hush"));
    }
}

UNIT_TEST(good_types, "the spellings that oslo.config takes are taken")
{
    static const struct {
        enum conf_id id;
        const char *text, *normal;
    } good[] = {
        {CONF_DEFAULT_debug, "True", "true"},
        {CONF_DEFAULT_debug, "ON", "true"},
        {CONF_DEFAULT_debug, "0", "false"},
        {CONF_DEFAULT_my_ip, "::1", "::1"},
        {CONF_DEFAULT_host, "node_7.rack", "node_7.rack"},
        {CONF_DEFAULT_transport_url, "kombu+amqp://h/", "kombu+amqp://h/"},
        {CONF_libvirt_live_migration_downtime, "20", "20"},
        {CONF_oslo_messaging_rabbit_ssl_version, "", ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        struct conf_value value = {0};
        UNIT_OK(conf_value_parse(conf_row(good[i].id), good[i].text, &value, &unit_err));
        UNIT_STR(value.text, good[i].normal);
        conf_value_clear(&value);
    }
}

UNIT_TEST(nearest, "a mistyped name finds its neighbour, nonsense finds none")
{
    UNIT_STR(conf_nearest("libvirt", "live_migration_downtme"), "live_migration_downtime");
    UNIT_STR(conf_nearest("libvirt", "virt_tpye"), "virt_type");
    UNIT_STR(conf_nearest(NULL, "libvrit"), "libvirt");
    UNIT_STR(conf_nearest("libvirt", "cheese"), NULL);
    UNIT_STR(conf_nearest(NULL, ""), NULL);
    char longer[300];
    memset(longer, 'a', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = '\0';
    UNIT_STR(conf_nearest("libvirt", longer), NULL);
}

static unsigned rule_errors(const char *a, const char *av, const char *b, const char *bv,
                            unsigned *warnings)
{
    struct conf_report report = {0};
    struct conf *conf = conf_for_test(a, av, b, bv, NULL);
    conf_rules(conf, &report);
    unsigned errors = report.errors;
    if (warnings)
        *warnings = report.warnings;
    conf_report_clear(&report);
    conf_unref(conf);
    return errors;
}

UNIT_TEST(rules, "options that exclude or need each other are told")
{
    unsigned warnings;

    UNIT_EQ(rule_errors("oslo_messaging_rabbit.rabbit_ha_queues", "true",
                        "oslo_messaging_rabbit.rabbit_quorum_queue", "true", NULL),
            1);
    UNIT_EQ(rule_errors("oslo_messaging_rabbit.rabbit_stream_fanout", "true",
                        "oslo_messaging_rabbit.rabbit_transient_quorum_queue", "true", NULL),
            1);
    UNIT_EQ(rule_errors("oslo_messaging_rabbit.ssl", "true", "oslo_messaging_rabbit.ssl_cert_file",
                        "/c", NULL),
            1);
    UNIT_EQ(rule_errors("oslo_messaging_rabbit.ssl", "true",
                        "oslo_messaging_rabbit.ssl_enforce_hostname_verification", "false",
                        &warnings),
            0);
    UNIT_EQ(warnings, 1);
    UNIT_EQ(rule_errors("libvirt.live_migration_tunnelled", "true",
                        "libvirt.live_migration_with_native_tls", "true", NULL),
            1);
    UNIT_EQ(rule_errors("libvirt.live_migration_uri", "qemu+tls://h/system", "DEFAULT.debug",
                        "true", NULL),
            1);
    UNIT_EQ(rule_errors("DEFAULT.instance_name_template", "vm-%s", "DEFAULT.debug", "true", NULL),
            1);
    UNIT_EQ(rule_errors("DEFAULT.instance_name_template", "%x%x", "DEFAULT.debug", "true", NULL),
            1);
    UNIT_EQ(
        rule_errors("DEFAULT.instance_name_template", "%(uuid)s", "DEFAULT.debug", "true", NULL),
        0);
    UNIT_EQ(
        rule_errors("DEFAULT.instance_name_template", "100%%-%d", "DEFAULT.debug", "true", NULL),
        0);
    UNIT_EQ(
        rule_errors("net.physical_interface_mappings", "physnet1", "DEFAULT.debug", "true", NULL),
        1);
    UNIT_EQ(rule_errors("net.physical_interface_mappings", "p:eth1,q:averyveryverylongname",
                        "DEFAULT.debug", "true", NULL),
            1);
    UNIT_EQ(rule_errors("libvirt.live_migration_downtime_hard_limit", "100", "DEFAULT.debug",
                        "true", &warnings),
            0);
    UNIT_EQ(warnings, 1);
}
