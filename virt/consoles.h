/* SPDX-License-Identifier: Apache-2.0 */
/* Where a running guest's consoles listen, as its XML says. Pure, any thread. */
#pragma once

#include "lib/err.h"
#include "virt/virt.h"

/* Ports of VNC, SPICE and TCP serial consoles; -1 and 0 for what it has not. ERR_PARSE. */
int virt_consoles_from_xml(const char *xml, struct virt_consoles *out, struct err *e);
