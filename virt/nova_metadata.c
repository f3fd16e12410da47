/* SPDX-License-Identifier: Apache-2.0 */
#include "virt/nova_metadata.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <libxml/tree.h>

#include "lib/clock.h"
#include "lib/text.h"

#define NOVA_NS "http://openstack.org/xmlns/libvirt/nova/1.1"

struct writer {
    xmlNode *root;
    xmlNs *ns;
};

/* U+FFFE and U+FFFF, which are well-formed UTF-8. */
static bool is_no_character(const char *s, size_t length)
{
    return length == 3 && memcmp(s, "\xef\xbf", 2) == 0 && (unsigned char)s[2] >= 0xbe;
}

/* libxml2 writes what it is given: characters that XML 1.0 does not know, and bytes that are no UTF-8,
 * would make libvirt refuse the whole domain. */
static char *xml_safe(const char *s)
{
    struct text_buffer out = TEXT_BUFFER_INIT;
    size_t length = strlen(s);

    for (size_t at = 0; at < length;) {
        size_t n = text_printable(s + at, length - at);
        bool blank = s[at] == '\t' || s[at] == '\n';

        if (blank || (n > 0 && !is_no_character(s + at, n)))
            text_buffer_add_n(&out, s + at, blank ? 1 : n);
        else
            text_buffer_add(&out, "?");
        at += n > 0 ? n : 1;
    }
    return text_buffer_take(&out);
}

static xmlNode *add(const struct writer *w, xmlNode *parent, const char *name, const char *text)
{
    _cleanup_(str_freep) char *safe = text ? xml_safe(text) : NULL;

    return xmlNewTextChild(parent, w->ns, (const xmlChar *)name, (const xmlChar *)safe);
}

static void add_number(const struct writer *w, xmlNode *parent, const char *name, int64_t number)
{
    char text[32];

    (void)snprintf(text, sizeof(text), "%" PRId64, number);
    (void)add(w, parent, name, text);
}

static void attribute(xmlNode *node, const char *name, const char *value)
{
    _cleanup_(str_freep) char *safe = xml_safe(value ? value : "");

    (void)xmlNewProp(node, (const xmlChar *)name, (const xmlChar *)safe);
}

static void add_flavor(const struct writer *w, const struct nova_metadata *m)
{
    xmlNode *flavor = NULL;

    if (!m->flavor)
        return;
    flavor = add(w, w->root, "flavor", NULL);
    attribute(flavor, "name", m->flavor);
    add_number(w, flavor, "memory", m->memory_mb);
    add_number(w, flavor, "disk", m->disk_gb);
    add_number(w, flavor, "swap", m->swap_mb);
    add_number(w, flavor, "ephemeral", m->ephemeral_gb);
    add_number(w, flavor, "vcpus", m->vcpus);
}

static void add_owner(const struct writer *w, const struct nova_metadata *m)
{
    xmlNode *owner = add(w, w->root, "owner", NULL);

    if (m->user_id && m->user_name)
        attribute(add(w, owner, "user", m->user_name), "uuid", m->user_id);
    if (m->project_id && m->project_name)
        attribute(add(w, owner, "project", m->project_name), "uuid", m->project_id);
}

static void add_port(const struct writer *w, xmlNode *ports, const struct nova_metadata_port *port)
{
    xmlNode *node = add(w, ports, "port", NULL);

    attribute(node, "uuid", port->uuid);
    for (size_t i = 0; i < port->ip_count; i++) {
        const struct nova_metadata_ip *ip = &port->ips[i];
        xmlNode *address = add(w, node, "ip", NULL);
        char version[16];

        (void)snprintf(version, sizeof(version), "%d", ip->version);
        attribute(address, "type", ip->type);
        attribute(address, "address", ip->address);
        attribute(address, "ipVersion", version);
    }
}

static void fill(const struct writer *w, const struct nova_metadata *m)
{
    time_t seconds = (time_t)(m->created_us / USEC_PER_SEC);
    char when[32] = "";
    xmlNode *ports = NULL;
    struct tm tm;

    attribute(add(w, w->root, "package", NULL), "version", m->package);
    if (m->name)
        (void)add(w, w->root, "name", m->name);
    if (gmtime_r(&seconds, &tm) && strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S", &tm) > 0)
        (void)add(w, w->root, "creationTime", when);
    add_flavor(w, m);
    add_owner(w, m);
    if (m->image_id) {
        xmlNode *root = add(w, w->root, "root", NULL);

        attribute(root, "type", "image");
        attribute(root, "uuid", m->image_id);
    }
    ports = add(w, w->root, "ports", NULL);
    for (size_t i = 0; i < m->port_count; i++)
        add_port(w, ports, &m->ports[i]);
}

char *nova_metadata_xml(const struct nova_metadata *metadata)
{
    xmlDoc *doc = xmlNewDoc((const xmlChar *)"1.0");
    xmlBuffer *buffer = xmlBufferCreate();
    struct writer w = {.root = xmlNewDocNode(doc, NULL, (const xmlChar *)"instance", NULL)};
    char *text = NULL;

    w.ns = xmlNewNs(w.root, (const xmlChar *)NOVA_NS, (const xmlChar *)"nova");
    xmlSetNs(w.root, w.ns);
    (void)xmlDocSetRootElement(doc, w.root);
    fill(&w, metadata);
    (void)xmlNodeDump(buffer, doc, w.root, 0, 0);
    text = text_dup((const char *)xmlBufferContent(buffer));
    xmlBufferFree(buffer);
    xmlFreeDoc(doc);
    return text;
}
