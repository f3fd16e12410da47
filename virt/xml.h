/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XML behind one door: libxml2 with the network off, document types (and with them entities) refused,
 * and limits on size and depth. Trees are plain libxml2 nodes, values are always set through the DOM,
 * so that nothing is ever escaped by hand. Names without a namespace only: elements of a guest's
 * <metadata> are never mistaken for libvirt's own. Any thread, one at a time for each document.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <libxml/tree.h>

#include "lib/attributes.h"
#include "lib/err.h"

enum { XML_SIZE_MAX = 4 * 1024 * 1024, XML_DEPTH_MAX = 64 };

static inline void xml_doc_freep(xmlDoc **doc)
{
    if (*doc)
        xmlFreeDoc(*doc);
}

/*
 * Parses a whole document whose root must be <root> (NULL = any). ERR_PARSE with libxml2's reason and
 * line. `what` names the input in the message ("domain XML").
 */
int xml_parse(const char *text, const char *what, const char *root, xmlDoc **out, struct err *e);
/* The text of a node and all below it, without an XML declaration; the caller frees. */
char *xml_text_of(xmlDoc *doc, xmlNode *node);

/* First child element of that name, and the next sibling of the same name; NULL when there is none.
 * A NULL parent gives NULL, a NULL name any element. */
xmlNode *xml_child(const xmlNode *parent, const char *name);
xmlNode *xml_next(const xmlNode *node, const char *name);
/* First element of a path of child names, "devices/emulator". */
xmlNode *xml_find(const xmlNode *parent, const char *path);

/* Value of an attribute or the text of an element; the caller frees; NULL when it is not there. */
char *xml_attr(const xmlNode *node, const char *name);
char *xml_content(const xmlNode *node);
/* xml_content() of xml_find(), and xml_attr() of it. */
char *xml_find_content(const xmlNode *parent, const char *path);
char *xml_find_attr(const xmlNode *parent, const char *path, const char *name);
bool xml_attr_is(const xmlNode *node, const char *name, const char *value);

/* Changes. A NULL value removes the attribute; values may hold any character that XML allows. */
void xml_set_attr(xmlNode *node, const char *name, const char *value);
void xml_set_content(xmlNode *node, const char *value);
xmlNode *xml_add_child(xmlNode *parent, const char *name);
void xml_remove(xmlNode *node); /* with all below it and the blank text before it */
void xml_remove_children(xmlNode *parent, const char *name);
/* True if nothing but blanks and comments is below it (attributes do not count). */
bool xml_is_empty(const xmlNode *node);

/*
 * Compares two elements: names, attributes in any order, text with outer blanks ignored, children in
 * order. Returns NULL when they are the same, else where they differ ("/domain/devices/disk[2]/@type"),
 * which the caller frees.
 */
char *xml_difference(const xmlNode *a, const xmlNode *b);
