/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is left on this host of an instance that lives elsewhere (it was evacuated while the host was dead), or
 * nowhere (deleted meanwhile), goes: nova/compute/manager.py, _destroy_evacuated_instances() and
 * _cleanup_running_deleted_instances(). Who may be removed is not decided here (agent/node_evacuated.c,
 * agent/node_strangers.c).
 *
 * Steps, each done already is success: the domain is powered off and undefined; its ports are unplugged here,
 * in Neutron they stay as they are, for they are the other host's; its files go, unless the host where the
 * instance lives sees them too (check_instance_shared_storage); what it holds of this host in Placement goes;
 * the records of its evacuation become `completed`. The first step that fails ends it: the records stay, so
 * that it is tried again, and files that nobody could be asked about stay as well. Loop thread only.
 */
#pragma once

#include "agent/operation.h"

struct instance_removal {
    const struct instance *instance; /* as the control plane has it now; copied */
    struct json_object *records;     /* array of Migration primitives; borrowed; NULL = none */
    bool deleted;      /* it lives nowhere: no shared storage, no allocation to be looked after */
    bool only_records; /* the guest came back since: nothing but the records is touched */
    /* The end, which is in the log; failure NULL = all is done. Not called when the agent ends before. May be
     * NULL. */
    void (*ended)(struct agent *agent, const char *instance_uuid, const struct err *failure);
};
void instance_remove_here(struct agent *agent, const struct instance_removal *removal);
