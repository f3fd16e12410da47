/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a guest fits a host: comparison of facts that others gathered. Pure; any thread. */
#pragma once

#include "lib/err.h"
#include "virt/guest.h"
#include "virt/virt_provider.h"

/*
 * The rules of virt_check_destination(). The first that fails is told, in one sentence with both
 * values: ERR_PRECHECK, or ERR_NO_SPACE for memory. *warning (NULL when there is none, caller frees)
 * is what an operator should know though the guest may come.
 */
int virt_host_check(const struct virt_guest *guest, const struct virt_host_facts *facts,
                    char **warning, struct err *e);
/*
 * The same rules, none left out: each is told once, in the same order, with both values or with the sentence that
 * refuses. -1 only when the facts themselves cannot be read.
 */
int virt_host_check_each(const struct virt_guest *guest, const struct virt_host_facts *facts,
                         virt_tell_fn tell, void *aux, struct err *e);
