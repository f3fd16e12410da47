/* SPDX-License-Identifier: Apache-2.0 */
/* What Neutron's Linux bridge agent on this host knows of its physical networks. */
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "conf/internal.h"
#include "lib/text.h"

/* The last one counts, as with oslo.config. */
static const struct conf_entry *find_mappings(const struct conf_entries *entries)
{
    const struct conf_entry *found = NULL;

    for (size_t i = 0; i < entries->length; i++)
        if (strcasecmp(entries->items[i].group, "linux_bridge") == 0 &&
            text_equal(entries->items[i].name, "physical_interface_mappings"))
            found = &entries->items[i];
    return found;
}

/* Good pairs joined by commas; each bad one is told and passed over. */
static char *good_mappings(const char *file, const struct conf_entry *entry,
                           struct conf_report *report)
{
    const struct conf_row *row = conf_row(CONF_net_physical_interface_mappings);
    size_t count = text_vector_length(entry->values);
    struct text_buffer b = TEXT_BUFFER_INIT;
    struct conf_value pairs = {0};

    (void)conf_value_parse(row, count ? entry->values[count - 1] : "", &pairs, NULL);
    for (size_t i = 0; i < pairs.count; i++) {
        if (conf_is_mapping(pairs.list[i])) {
            text_buffer_printf(&b, "%s%s", b.length ? "," : "", pairs.list[i]);
        } else {
            _cleanup_(str_freep) char *shown = text_escape(pairs.list[i], 60);
            conf_report_add(report, CONF_WARNING, file, entry->line,
                            "linux_bridge.physical_interface_mappings: \"%s\" is not "
                            "network:interface and is not used",
                            shown);
        }
    }
    conf_value_clear(&pairs);
    return text_buffer_take(&b);
}

char *conf_neutron_mappings(const char *file, bool asked, char **origin, struct conf_report *report)
{
    struct conf_entries entries = {0};
    struct conf_report own = {0};
    struct err e = ERR_INIT;
    char *text = NULL;

    if (!asked && access(file, F_OK) < 0)
        return NULL;
    (void)conf_read_entries(file, &entries, &own, &e);
    if (!err_is_set(&e) && (entries.mode & 0002))
        (void)err_set(&e, ERR_CONFIG, "%s has mode %04o, everybody may write it", file,
                      entries.mode);
    const struct conf_entry *entry = err_is_set(&e) ? NULL : find_mappings(&entries);
    if (err_is_set(&e))
        conf_report_add(report, CONF_WARNING, NULL, 0,
                        "net.linuxbridge_agent_file: nothing is taken from it: %s", e.text);
    if (entry) {
        text = good_mappings(file, entry, report);
        *origin = text_format("%s:%d", file, entry->line);
    }
    conf_entries_clear(&entries);
    conf_report_clear(&own);
    return text;
}
