/* SPDX-License-Identifier: Apache-2.0 */
/* Domain XML for the log: what may be a secret is replaced, the rest is left as it is. */
#include "virt/domain_xml.h"

#include <string.h>
#include <strings.h>

#include "lib/text.h"
#include "virt/xml.h"

static bool is_named(const xmlNode *node, const char *name)
{
    return strcasecmp((const char *)node->name, name) == 0;
}

/* Elements whose text may hold a secret that somebody put into the guest's firmware or its sources. */
static bool holds_secret(const xmlNode *node)
{
    static const char *const parents[] = {"sysinfo", "oemStrings", "cookies", "launchSecurity"};
    const xmlNode *parent = node->parent;

    if (!parent || parent->type != XML_ELEMENT_NODE)
        return false;
    for (size_t i = 0; i < ARRAY_LEN(parents); i++)
        if (is_named(parent, parents[i]))
            return true;
    return false;
}

static bool is_secret_attribute(const xmlNode *node, const xmlAttr *attr)
{
    static const char *const names[] = {"passwd", "password", "secret", "token", "keycode"};

    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (strcasecmp((const char *)attr->name, names[i]) == 0)
            return true;
    return (is_named(node, "env") || is_named(node, "arg")) &&
           strcmp((const char *)attr->name, "value") == 0;
}

static void redact_node(xmlNode *node)
{
    for (xmlAttr *attr = node->properties; attr; attr = attr->next)
        if (is_secret_attribute(node, attr))
            (void)xmlSetNsProp(node, attr->ns, attr->name, (const xmlChar *)"***");
    if (holds_secret(node) && !xml_child(node, NULL))
        xml_set_content(node, "***");
    for (xmlNode *child = node->children; child; child = child->next)
        if (child->type == XML_ELEMENT_NODE)
            redact_node(child);
}

int virt_domain_xml_redact(const char *xml, char **out, struct err *e)
{
    _cleanup_(xml_doc_freep) xmlDoc *doc = NULL;
    char *result = NULL;

    if (xml_parse(xml, "domain XML", NULL, &doc, e) < 0)
        return -1;
    redact_node(xmlDocGetRootElement(doc));
    result = xml_text_of(doc, xmlDocGetRootElement(doc));
    if (!result)
        return err_set(e, ERR_NOMEM, "no memory for the redacted domain XML");
    *out = result;
    return 0;
}
