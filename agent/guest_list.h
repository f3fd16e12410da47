/* SPDX-License-Identifier: Apache-2.0 */
/* The domains of this host, listed on a worker: for those that compare them with what the control plane has. */
#pragma once

#include "agent/agent.h"
#include "virt/virt.h"

struct guest_list {
    struct virt_guest **guests; /* short form: no disks, no interfaces */
    size_t count;
};

/* failure is NULL on success; the list is borrowed. */
typedef void (*guest_list_fn)(void *aux, const struct guest_list *list, const struct err *failure);

/* `done` is called on the loop, once, unless the agent is closed before; then `release`, which may be NULL, in
 * any case. `name` is for the log. */
void guest_list_read(struct agent *agent, const char *name, guest_list_fn done,
                     void (*release)(void *aux), void *aux);
/* VIRT_STATE_NONE for a domain that is not in the list. */
enum virt_state guest_list_state(const struct guest_list *list, const char *uuid);
