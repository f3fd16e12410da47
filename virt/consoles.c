/* SPDX-License-Identifier: Apache-2.0 */
#include "virt/consoles.h"

#include <string.h>

#include "lib/text.h"
#include "virt/xml.h"

/* libvirt writes -1 for a port that is not chosen yet. */
static int port_of(const xmlNode *node, const char *attribute)
{
    _cleanup_(str_freep) char *text = xml_attr(node, attribute);
    int64_t port = -1;
    if (!text || text_to_int64(text, 1, 65535, &port, NULL) < 0)
        return -1;
    return (int)port;
}

static void read_graphics(const xmlNode *devices, struct virt_consoles *out)
{
    for (const xmlNode *g = xml_child(devices, "graphics"); g; g = xml_next(g, "graphics")) {
        if (xml_attr_is(g, "type", "vnc")) {
            out->vnc_port = port_of(g, "port");
        } else if (xml_attr_is(g, "type", "spice")) {
            out->spice_port = port_of(g, "port");
            out->spice_tls_port = port_of(g, "tlsPort");
        }
    }
}

/* Only those where the guest's side listens: Nova's proxy connects to them. */
static void read_serial(const xmlNode *devices, const char *name, struct virt_consoles *out)
{
    for (const xmlNode *s = xml_child(devices, name); s; s = xml_next(s, name)) {
        const xmlNode *source = xml_child(s, "source");
        if (!xml_attr_is(s, "type", "tcp") || !xml_attr_is(source, "mode", "bind"))
            continue;
        int port = port_of(source, "service");
        if (port > 0 && out->serial_count < (int)ARRAY_LEN(out->serial_ports))
            out->serial_ports[out->serial_count++] = port;
    }
}

int virt_consoles_from_xml(const char *xml, struct virt_consoles *out, struct err *e)
{
    _cleanup_(xml_doc_freep) xmlDoc *doc = NULL;
    if (xml_parse(xml, "domain XML", "domain", &doc, e) < 0)
        return -1;
    const xmlNode *devices = xml_child(xmlDocGetRootElement(doc), "devices");
    struct virt_consoles found = {.vnc_port = -1, .spice_port = -1, .spice_tls_port = -1};
    read_graphics(devices, &found);
    read_serial(devices, "serial", &found);
    if (!found.serial_count) /* s390x has them as consoles; elsewhere they repeat the serials */
        read_serial(devices, "console", &found);
    *out = found;
    return 0;
}
