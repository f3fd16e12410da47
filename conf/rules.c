/* SPDX-License-Identifier: Apache-2.0 */
/* What must hold between options, and what is permitted but unwise. */
#include "conf/internal.h"

#include <string.h>

#include "lib/text.h"

static const char *text_of(const struct conf *c, enum conf_id id)
{
    const char *text = conf_string(c, id);
    return text ? text : "";
}

static void error(struct conf_report *report, const char *text)
{
    conf_report_add(report, CONF_ERROR, NULL, 0, "%s", text);
}

static void warning(struct conf_report *report, const char *text)
{
    conf_report_add(report, CONF_WARNING, NULL, 0, "%s", text);
}

static void bus_rules(const struct conf *c, struct conf_report *report)
{
    if (conf_bool(c, CONF_oslo_messaging_rabbit_rabbit_ha_queues) &&
        conf_bool(c, CONF_oslo_messaging_rabbit_rabbit_quorum_queue))
        error(report,
              "oslo_messaging_rabbit: rabbit_ha_queues and rabbit_quorum_queue exclude each other");
    if (conf_bool(c, CONF_oslo_messaging_rabbit_rabbit_stream_fanout) &&
        (!conf_bool(c, CONF_oslo_messaging_rabbit_rabbit_transient_quorum_queue) ||
         conf_int(c, CONF_oslo_messaging_rabbit_rabbit_qos_prefetch_count) == 0))
        error(
            report,
            "oslo_messaging_rabbit: rabbit_stream_fanout needs rabbit_transient_quorum_queue true "
            "and rabbit_qos_prefetch_count above 0");
    if (!*text_of(c, CONF_oslo_messaging_rabbit_ssl_cert_file) !=
        !*text_of(c, CONF_oslo_messaging_rabbit_ssl_key_file))
        error(
            report,
            "oslo_messaging_rabbit: ssl_cert_file and ssl_key_file are needed both or not at all");
    const char *login = text_of(c, CONF_oslo_messaging_rabbit_rabbit_login_method);
    if (strcmp(login, "RABBIT-CR-DEMO") == 0)
        error(report, "oslo_messaging_rabbit: rabbit_login_method RABBIT-CR-DEMO is not supported, "
                      "use AMQPLAIN");
    if (strcmp(login, "EXTERNAL") == 0 && !*text_of(c, CONF_oslo_messaging_rabbit_ssl_cert_file))
        error(report, "oslo_messaging_rabbit: rabbit_login_method EXTERNAL needs ssl_cert_file");
    if (conf_bool(c, CONF_oslo_messaging_rabbit_ssl) &&
        (!conf_bool(c, CONF_oslo_messaging_rabbit_ssl_verify_peer) ||
         !conf_bool(c, CONF_oslo_messaging_rabbit_ssl_enforce_hostname_verification)))
        warning(report, "oslo_messaging_rabbit: the broker's certificate is not fully checked; "
                        "anybody on the path "
                        "can take the broker's place");
}

static void hard_limit(const struct conf *c, struct conf_report *report, enum conf_id value,
                       enum conf_id limit)
{
    if (conf_int(c, limit) > 0 && conf_int(c, value) > conf_int(c, limit))
        conf_report_add(report, CONF_WARNING, NULL, 0,
                        "libvirt: %s %lld is above %s, which wins with %lld", conf_row(value)->name,
                        (long long)conf_int(c, value), conf_row(limit)->name,
                        (long long)conf_int(c, limit));
}

static void migration_rules(const struct conf *c, struct conf_report *report)
{
    bool tunnelled = conf_bool(c, CONF_libvirt_live_migration_tunnelled);
    const char *uri = text_of(c, CONF_libvirt_live_migration_uri);

    const char *scheme = text_of(c, CONF_libvirt_live_migration_scheme);

    if (text_starts_with(uri, "qemu+tcp:") || (!*uri && text_equal(scheme, "tcp")))
        warning(report, "libvirt: migrations reach the other libvirtd by TCP without TLS; that is "
                        "safe only on a network that nobody else reaches (live_migration_scheme)");
    if (tunnelled && conf_bool(c, CONF_libvirt_live_migration_with_native_tls))
        error(report, "libvirt: live_migration_tunnelled and live_migration_with_native_tls "
                      "exclude each other");
    if (tunnelled && conf_int(c, CONF_libvirt_live_migration_parallel_connections) > 1)
        error(report, "libvirt: live_migration_tunnelled and live_migration_parallel_connections "
                      "above 1 exclude each other");
    if (*uri && !strstr(uri, "%s"))
        error(report,
              "libvirt: live_migration_uri must contain %s, which stands for the destination");
    if (conf_int(c, CONF_libvirt_live_migration_post_copy_after_iterations) > 0 &&
        !conf_bool(c, CONF_libvirt_live_migration_permit_post_copy))
        warning(report, "libvirt: live_migration_post_copy_after_iterations has no effect, "
                        "live_migration_permit_post_copy is false");
    hard_limit(c, report, CONF_libvirt_live_migration_downtime,
               CONF_libvirt_live_migration_downtime_hard_limit);
    hard_limit(c, report, CONF_libvirt_live_migration_bandwidth,
               CONF_libvirt_live_migration_bandwidth_hard_limit);
    const char *type = text_of(c, CONF_libvirt_virt_type);
    if (strcmp(type, "kvm") != 0 && strcmp(type, "qemu") != 0)
        conf_report_add(report, CONF_WARNING, NULL, 0,
                        "libvirt: instances of virt_type %s cannot be live-migrated", type);
}

/* The template becomes a name that is looked up: one conversion of known form, nothing else. */
static bool template_is_good(const char *text)
{
    unsigned conversions = 0;

    for (const char *p = strchr(text, '%'); p; p = strchr(p, '%')) {
        p++;
        if (*p == '%') {
            p++;
            continue;
        }
        conversions++;
        if (strncmp(p, "(uuid)s", 7) == 0) {
            p += 7;
            continue;
        }
        size_t digits = strspn(p, "0123456789");
        if (digits > 2 || !p[digits] || !strchr("xXdi", p[digits]))
            return false;
        p += digits + 1;
    }
    return conversions == 1;
}

static void name_rules(const struct conf *c, struct conf_report *report)
{
    if (!template_is_good(text_of(c, CONF_DEFAULT_instance_name_template)))
        error(report, "DEFAULT: instance_name_template must hold exactly one of %x, %08x, %d (with "
                      "up to two digits) or %(uuid)s");
}

bool conf_is_mapping(const char *text)
{
    const char *colon = strchr(text, ':');
    struct err ignored = ERR_INIT;

    return colon && colon > text && text_check_ifname(colon + 1, "interface", &ignored) == 0;
}

static void mapping_rules(const struct conf *c, struct conf_report *report, enum conf_id id)
{
    size_t count;
    const char *const *items = conf_list(c, id, &count);

    for (size_t i = 0; i < count; i++) {
        if (!conf_is_mapping(items[i])) {
            _cleanup_(str_freep) char *shown = text_escape(items[i], 60);
            conf_report_add(report, CONF_ERROR, NULL, 0, "net.%s: \"%s\" is not network:interface",
                            conf_row(id)->name, shown);
        }
    }
}

void conf_rules(const struct conf *conf, struct conf_report *report)
{
    bus_rules(conf, report);
    migration_rules(conf, report);
    name_rules(conf, report);
    mapping_rules(conf, report, CONF_net_physical_interface_mappings);
}
