/* SPDX-License-Identifier: Apache-2.0 */
#include "virt/device_match.h"

#include <strings.h>

#include "lib/text.h"
#include "virt/xml.h"

/* What tells a device of a kind from the others: an attribute of itself (".") or of a child. */
static const struct {
    const char *kind, *child, *attribute;
} keys[] = {
    {"disk", "target", "dev"},
    {"interface", "mac", "address"},
};

static char *key_of(const xmlNode *device)
{
    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        if (text_equal((const char *)device->name, keys[i].kind))
            return xml_find_attr(device, keys[i].child, keys[i].attribute);
    return xml_find_attr(device, "alias", "name");
}

int virt_device_find(const char *domain_xml, const char *device_xml, char **alias, struct err *e)
{
    _cleanup_(xml_doc_freep) xmlDoc *domain = NULL, *device = NULL;
    if (xml_parse(device_xml, "device XML", NULL, &device, e) < 0 ||
        xml_parse(domain_xml, "domain XML", "domain", &domain, e) < 0)
        return -1;
    const char *kind = (const char *)xmlDocGetRootElement(device)->name;
    _cleanup_(str_freep) char *wanted = key_of(xmlDocGetRootElement(device));
    if (!wanted)
        return err_set(e, ERR_INVALID, "the <%.32s> has nothing by which it could be found", kind);
    const xmlNode *devices = xml_child(xmlDocGetRootElement(domain), "devices");
    for (const xmlNode *d = xml_child(devices, kind); d; d = xml_next(d, kind)) {
        _cleanup_(str_freep) char *key = key_of(d);
        if (!key || strcasecmp(key, wanted) != 0)
            continue;
        if (alias)
            *alias = xml_find_attr(d, "alias", "name");
        return 1;
    }
    return 0;
}
