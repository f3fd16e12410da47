/* SPDX-License-Identifier: Apache-2.0 */
/* What virt/guest.c (XML) and virt/guest_json.c (JSON) share. */
#pragma once

#include "virt/guest.h"

enum { GUEST_CPU_XML_MAX = 65536, GUEST_TITLE_MAX = 4096, GUEST_PATH_MAX = 4095 };

/* Checks the form of every value of a guest that came from outside. ERR_INVALID names the field. */
int virt_guest_check(const struct virt_guest *guest, struct err *e);
int virt_state_parse(const char *name, enum virt_state *out);
