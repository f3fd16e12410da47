/* SPDX-License-Identifier: Apache-2.0 */
/* The rewriting of domain XML (virt/domain_xml.c) and the proof that it did no more than it was asked to
 * (virt/domain_xml_diff.c). */
#pragma once

#include "virt/domain_xml.h"
#include "virt/xml.h"

/* The row of a disk's serial or an interface's MAC, or NULL. */
const struct virt_volume *domain_xml_volume(const struct virt_destination *to, const xmlNode *disk);
const struct virt_interface *domain_xml_interface(const struct virt_destination *to,
                                                  const xmlNode *interface);
/* Checks every value by its type; ERR_INVALID names it. */
int domain_xml_check_values(const struct virt_destination *to, struct err *e);
/*
 * Compares the source's XML with the result, both parsed afresh, leaving out exactly what `to` lets
 * change. ERR_INTERNAL naming the place of any other difference.
 */
int domain_xml_check_changes(const char *source, const char *result,
                             const struct virt_destination *to, struct err *e);
