/* SPDX-License-Identifier: Apache-2.0 */
/* Checks of what the destination gives, before any of it goes into a document. */
#include "virt/domain_xml_internal.h"

#include <string.h>
#include <strings.h>

#include "lib/text.h"

static int check_text(const char *value, const char *what, struct err *e)
{
    if (!text_is_utf8(value, strlen(value)))
        return err_set(e, ERR_INVALID, "%s is not UTF-8", what);
    for (const char *c = value; *c; c++)
        if ((unsigned char)*c < 0x20)
            return err_set(e, ERR_INVALID, "%s has a control character", what);
    return 0;
}

static int check_of(const char *value, const char *what, const char *characters, struct err *e)
{
    _cleanup_(str_freep) char *shown = NULL;

    if (value[strspn(value, characters)] == '\0')
        return 0;
    shown = text_escape(value, 80);
    return err_set(e, ERR_INVALID, "%s \"%s\" may have only characters of %s", what, shown,
                   characters);
}

static int check_word(const char *value, const char *what, struct err *e)
{
    return check_of(value, what, "abcdefghijklmnopqrstuvwxyz0123456789_-", e);
}

static int check_ranges(const char *value, const char *what, struct err *e)
{
    return check_of(value, what, "0123456789,-^", e);
}

static int check_address(const char *value, const char *what, struct err *e)
{
    if (text_check_ip(value, what, NULL) == 0)
        return 0;
    return text_check_hostname(value, what, e);
}

struct checked {
    const char *value, *what;
    int (*check)(const char *value, const char *what, struct err *e);
};

static int check_all(const struct checked *rows, size_t n, struct err *e)
{
    for (size_t i = 0; i < n; i++)
        if (rows[i].value && rows[i].check(rows[i].value, rows[i].what, e) < 0)
            return -1;
    return 0;
}

static int check_new_interface(const struct virt_interface *i, struct err *e)
{
    const struct checked rows[] = {
        {i->type, "interface type", check_word},
        {i->bridge, "bridge", text_check_ifname},
        {i->target, "interface name", text_check_ifname},
        {i->virtualport, "virtual port type", check_word},
        {i->interface_id, "interface id", text_check_uuid},
    };

    if (text_check_mac(i->mac, "MAC of a prepared port", e) < 0)
        return -1;
    return check_all(rows, ARRAY_LEN(rows), e);
}

static int check_interfaces(const struct virt_destination *to, struct err *e)
{
    for (size_t i = 0; i < to->interface_count; i++) {
        if (check_new_interface(&to->interfaces[i], e) < 0)
            return -1;
        for (size_t k = 0; k < i; k++)
            if (strcasecmp(to->interfaces[i].mac, to->interfaces[k].mac) == 0)
                return err_set(e, ERR_INVALID, "the destination gives two ports with MAC %s",
                               to->interfaces[i].mac);
    }
    return 0;
}

static int check_volumes(const struct virt_destination *to, struct err *e)
{
    for (size_t i = 0; i < to->volume_count; i++) {
        const struct virt_volume *v = &to->volumes[i];
        const struct checked rows[] = {
            {v->format, "format of a volume", check_word},
            {v->source, "source of a volume", check_text},
            {v->boot_order, "boot order of a volume", check_ranges},
        };

        if (check_all(rows, ARRAY_LEN(rows), e) < 0)
            return -1;
    }
    return 0;
}

/* Every value that goes into the document is checked by its type first, wherever it came from. */
int domain_xml_check_values(const struct virt_destination *to, struct err *e)
{
    const struct checked rows[] = {
        {to->vnc_address, "VNC listen address", text_check_ip},
        {to->spice_address, "SPICE listen address", text_check_ip},
        {to->serial_address, "serial console address", check_address},
        {to->cpuset, "CPU set", check_ranges},
    };

    if (check_all(rows, ARRAY_LEN(rows), e) < 0 || check_interfaces(to, e) < 0 ||
        check_volumes(to, e) < 0)
        return -1;
    for (size_t i = 0; i < to->perf_event_count; i++)
        if (check_word(to->perf_events[i], "perf event", e) < 0)
            return -1;
    for (size_t i = 0; i < to->disk_path_count; i++)
        if (check_text(to->disk_paths[i].to, "path of a file on the destination", e) < 0)
            return -1;
    return 0;
}
