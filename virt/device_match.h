/* SPDX-License-Identifier: Apache-2.0 */
/* Which device of a domain a piece of device XML means. Pure, any thread. */
#pragma once

#include "lib/err.h"

/*
 * True if the domain has the device: a disk by its target, an interface by its MAC address, others by kind
 * and alias. *alias, which the caller frees, is the name that libvirt gave it (NULL while the domain is
 * off); alias may be NULL. ERR_PARSE and ERR_INVALID give -1.
 */
int virt_device_find(const char *domain_xml, const char *device_xml, char **alias, struct err *e);
