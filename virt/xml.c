/* SPDX-License-Identifier: Apache-2.0 */
#include "virt/xml.h"

#include <ctype.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <libxml/parser.h>

#include "lib/text.h"

static void init_once(void)
{
    xmlInitParser();
}

static void init_library(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    (void)pthread_once(&once, init_once);
}

static void parser_freep(xmlParserCtxtPtr *ctxt)
{
    if (*ctxt)
        xmlFreeParserCtxt(*ctxt);
}

static void buffer_freep(xmlBufferPtr *buffer)
{
    if (*buffer)
        xmlBufferFree(*buffer);
}

/* A document type is the only door to entities and external files: the parser stops at its name. */
static void refuse_document_type(void *aux, const xmlChar *name, const xmlChar *external_id,
                                 const xmlChar *system_id)
{
    xmlParserCtxtPtr ctxt = aux;

    (void)name;
    (void)external_id;
    (void)system_id;
    *(bool *)ctxt->_private = true;
    xmlStopParser(ctxt);
}

/* Walks without recursion: the depth of a hostile document must not be the depth of our stack. */
static bool is_too_deep(const xmlNode *root)
{
    const xmlNode *node = root;
    int depth = 1;

    while (node) {
        if (depth > XML_DEPTH_MAX)
            return true;
        if (node->children && node->type == XML_ELEMENT_NODE) {
            node = node->children;
            depth++;
            continue;
        }
        while (node != root && !node->next) {
            node = node->parent;
            depth--;
        }
        node = node == root ? NULL : node->next;
    }
    return false;
}

static int set_parse_error(xmlParserCtxtPtr ctxt, const char *what, struct err *e)
{
    const xmlError *last = xmlCtxtGetLastError(ctxt);
    _cleanup_(str_freep) char *reason = text_dup(last && last->message ? last->message : "");

    for (size_t n = strlen(reason); n > 0 && isspace((unsigned char)reason[n - 1]); n--)
        reason[n - 1] = '\0';
    return err_set(e, ERR_PARSE, "the %s is not well-formed: line %d: %s", what,
                   last ? last->line : 0, *reason ? reason : "unknown reason");
}

static int check_document(xmlDoc *doc, const char *what, const char *root, struct err *e)
{
    const xmlNode *node = xmlDocGetRootElement(doc);

    if (!node || doc->intSubset || doc->extSubset)
        return err_set(e, ERR_PARSE, "the %s has no root element or a document type", what);
    if (root && (!text_equal((const char *)node->name, root) || node->ns))
        return err_set(e, ERR_PARSE, "the %s begins with <%.64s> where <%s> is expected", what,
                       (const char *)node->name, root);
    if (is_too_deep(node))
        return err_set(e, ERR_PARSE, "the %s is nested deeper than the %d levels allowed", what,
                       XML_DEPTH_MAX);
    return 0;
}

int xml_parse(const char *text, const char *what, const char *root, xmlDoc **out, struct err *e)
{
    _cleanup_(parser_freep) xmlParserCtxtPtr ctxt = NULL;
    _cleanup_(xml_doc_freep) xmlDoc *doc = NULL;
    size_t length = strnlen(text, (size_t)XML_SIZE_MAX + 1);
    bool has_document_type = false;

    if (length > XML_SIZE_MAX)
        return err_set(e, ERR_PARSE, "the %s is larger than the %d bytes allowed", what,
                       XML_SIZE_MAX);
    init_library();
    ctxt = xmlNewParserCtxt();
    if (!ctxt)
        return err_set(e, ERR_NOMEM, "no memory for the parser of the %s", what);
    ctxt->_private = &has_document_type;
    ctxt->sax->internalSubset = refuse_document_type;
    doc = xmlCtxtReadMemory(ctxt, text, (int)length, NULL, "UTF-8",
                            XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
    if (has_document_type)
        return err_set(e, ERR_PARSE, "the %s has a document type, which is not allowed", what);
    if (!doc)
        return set_parse_error(ctxt, what, e);
    if (check_document(doc, what, root, e) < 0)
        return -1;
    *out = STEAL(doc);
    return 0;
}

char *xml_text_of(xmlDoc *doc, xmlNode *node)
{
    _cleanup_(buffer_freep) xmlBufferPtr buffer = xmlBufferCreate();

    if (!buffer || xmlNodeDump(buffer, doc, node, 0, 0) < 0)
        return NULL;
    return text_dup_n((const char *)xmlBufferContent(buffer), (size_t)xmlBufferLength(buffer));
}

static bool is_element(const xmlNode *node, const char *name)
{
    if (node->type != XML_ELEMENT_NODE)
        return false;
    return !name || (!node->ns && text_equal((const char *)node->name, name));
}

static xmlNode *first_from(xmlNode *node, const char *name)
{
    while (node && !is_element(node, name))
        node = node->next;
    return node;
}

xmlNode *xml_child(const xmlNode *parent, const char *name)
{
    return parent ? first_from(parent->children, name) : NULL;
}

xmlNode *xml_next(const xmlNode *node, const char *name)
{
    return node ? first_from(node->next, name) : NULL;
}

xmlNode *xml_find(const xmlNode *parent, const char *path)
{
    char **parts = text_split(path, '/');
    xmlNode *node = NULL;

    for (size_t i = 0; parts[i]; i++) {
        node = xml_child(i == 0 ? parent : node, parts[i]);
        if (!node)
            break;
    }
    text_vector_free(parts);
    return node;
}

/* Values leave with malloc's ownership, so that callers need one kind of cleanup only. */
static char *own(xmlChar *value)
{
    char *copy = text_dup((const char *)value);

    xmlFree(value);
    return copy;
}

char *xml_attr(const xmlNode *node, const char *name)
{
    return node ? own(xmlGetNoNsProp(node, (const xmlChar *)name)) : NULL;
}

char *xml_content(const xmlNode *node)
{
    return node ? own(xmlNodeGetContent(node)) : NULL;
}

char *xml_find_content(const xmlNode *parent, const char *path)
{
    return xml_content(xml_find(parent, path));
}

char *xml_find_attr(const xmlNode *parent, const char *path, const char *name)
{
    return xml_attr(xml_find(parent, path), name);
}

bool xml_attr_is(const xmlNode *node, const char *name, const char *value)
{
    _cleanup_(str_freep) char *text = xml_attr(node, name);

    return text && text_equal(text, value);
}

void xml_set_attr(xmlNode *node, const char *name, const char *value)
{
    if (value)
        (void)xmlSetProp(node, (const xmlChar *)name, (const xmlChar *)value);
    else
        (void)xmlUnsetProp(node, (const xmlChar *)name);
}

void xml_set_content(xmlNode *node, const char *value)
{
    xmlNode *text = xmlNewDocText(node->doc, (const xmlChar *)value);

    while (node->children) {
        xmlNode *child = node->children;

        xmlUnlinkNode(child);
        xmlFreeNode(child);
    }
    (void)xmlAddChild(node, text);
}

xmlNode *xml_add_child(xmlNode *parent, const char *name)
{
    return xmlAddChild(parent, xmlNewDocNode(parent->doc, NULL, (const xmlChar *)name, NULL));
}

void xml_remove(xmlNode *node)
{
    xmlNode *blank = node->prev;

    if (blank && xmlIsBlankNode(blank)) {
        xmlUnlinkNode(blank);
        xmlFreeNode(blank);
    }
    xmlUnlinkNode(node);
    xmlFreeNode(node);
}

void xml_remove_children(xmlNode *parent, const char *name)
{
    xmlNode *next = NULL;

    for (xmlNode *child = xml_child(parent, name); child; child = next) {
        next = xml_next(child, name);
        xml_remove(child);
    }
}

bool xml_is_empty(const xmlNode *node)
{
    for (const xmlNode *child = node->children; child; child = child->next)
        if (child->type != XML_COMMENT_NODE && !xmlIsBlankNode(child))
            return false;
    return true;
}

/* --- comparing -------------------------------------------------------------------------------- */

static bool same_namespace(const xmlNs *a, const xmlNs *b)
{
    return text_equal(a ? (const char *)a->href : NULL, b ? (const char *)b->href : NULL);
}

/* Attributes of `a` that `b` has not or has otherwise; NULL when there is none. */
static const char *attribute_difference(const xmlNode *a, const xmlNode *b)
{
    for (const xmlAttr *attr = a->properties; attr; attr = attr->next) {
        const xmlChar *uri = attr->ns ? attr->ns->href : NULL;
        _cleanup_(str_freep) char *mine = own(xmlNodeGetContent((const xmlNode *)attr));
        _cleanup_(str_freep) char *other =
            own(uri ? xmlGetNsProp(b, attr->name, uri) : xmlGetNoNsProp(b, attr->name));

        if (!text_equal(mine, other))
            return (const char *)attr->name;
    }
    return NULL;
}

/* Text directly inside the element, outer blanks cut. */
static char *own_text(const xmlNode *node)
{
    struct text_buffer text = TEXT_BUFFER_INIT;
    _cleanup_(str_freep) char *all = NULL;
    size_t start = 0, end = 0;

    for (const xmlNode *child = node->children; child; child = child->next)
        if (child->type == XML_TEXT_NODE || child->type == XML_CDATA_SECTION_NODE)
            text_buffer_add(&text, (const char *)child->content);
    all = text_buffer_take(&text);
    end = strlen(all);
    while (end > 0 && isspace((unsigned char)all[end - 1]))
        end--;
    while (start < end && isspace((unsigned char)all[start]))
        start++;
    return text_dup_n(all + start, end - start);
}

static int position_of(const xmlNode *node)
{
    int position = 1;

    for (const xmlNode *s = node->prev; s; s = s->prev)
        if (s->type == XML_ELEMENT_NODE && xmlStrEqual(s->name, node->name))
            position++;
    return position;
}

/* "/domain/devices/disk[2]": made only for the one place that is reported. */
static char *path_of(const xmlNode *node)
{
    _cleanup_(str_freep) char *parent = NULL;
    int position = position_of(node);

    if (node->parent && node->parent->type == XML_ELEMENT_NODE)
        parent = path_of(node->parent);
    if (position > 1)
        return text_format("%s/%s[%d]", parent ? parent : "", (const char *)node->name, position);
    return text_format("%s/%s", parent ? parent : "", (const char *)node->name);
}

static bool same_text(const xmlNode *a, const xmlNode *b)
{
    _cleanup_(str_freep) char *text_a = own_text(a);
    _cleanup_(str_freep) char *text_b = own_text(b);

    return text_equal(text_a, text_b);
}

/* The first node that differs, of `a` where it has it; *attribute is set if it is one of its attributes.
 * Recursion is bounded by XML_DEPTH_MAX. */
static const xmlNode *find_difference(const xmlNode *a, const xmlNode *b, const char **attribute)
{
    const xmlNode *x = xml_child(a, NULL), *y = xml_child(b, NULL);

    if (!xmlStrEqual(a->name, b->name) || !same_namespace(a->ns, b->ns))
        return a;
    *attribute = attribute_difference(a, b);
    if (!*attribute)
        *attribute = attribute_difference(b, a);
    if (*attribute || !same_text(a, b))
        return a;
    for (; x && y; x = xml_next(x, NULL), y = xml_next(y, NULL)) {
        const xmlNode *found = find_difference(x, y, attribute);

        if (found)
            return found;
    }
    return x ? x : y;
}

char *xml_difference(const xmlNode *a, const xmlNode *b)
{
    const char *attribute = NULL;
    const xmlNode *node = find_difference(a, b, &attribute);
    _cleanup_(str_freep) char *path = NULL;

    if (!node)
        return NULL;
    path = path_of(node);
    return attribute ? text_format("%s/@%s", path, attribute) : STEAL(path);
}
