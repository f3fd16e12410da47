/* SPDX-License-Identifier: Apache-2.0 */
/*
 * This host as Nova knows it: its service record and heartbeat, its compute node record, its Placement
 * provider. Agents measure (struct cloud_node_facts), the control plane writes down. Standalone keeps
 * nothing of it and succeeds at once.
 *
 * Threads and ends: as cloud/cloud.h says.
 */
#pragma once

#include "cloud/cloud.h"

/* All that Nova's resource tracker says of a host. Strings are borrowed for the call. */
struct cloud_node_facts {
    const char *hypervisor_hostname; /* libvirt's host name: the provider's name too */
    const char *hypervisor_type;     /* "QEMU", also for kvm */
    int64_t hypervisor_version;      /* major*1000000 + minor*1000 + micro */
    const char *host_ip;             /* my_ip */
    int vcpus;                       /* CPUs that guests may use */
    int64_t memory_mb, local_gb;     /* all there is */
    int64_t free_disk_gb, disk_available_least_gb;
    /* what the instances of this host take, by their flavors */
    int vcpus_used;
    int64_t memory_mb_used; /* with reserved_host_memory_mb, as Nova counts */
    int64_t local_gb_used;
    int running_vms;
    int current_workload;      /* instances that have a task */
    struct json_object *stats; /* {name of nova/compute/stats.py: count}; borrowed, NULL = none */
    struct json_object *cpu_info;            /* object, contract 2.3; borrowed */
    struct json_object *supported_instances; /* [[arch, hypervisor type, vm mode], ...]; borrowed */
    const char *const *traits;               /* what works here, NULL-terminated */
    size_t guests;      /* domains of the hypervisor: a new host must have none */
    const char *uptime; /* text of get_host_uptime; NULL = not known */
};

/*
 * Registers the host (contract 3.1): waits for a conductor, checks versions, finds or makes the node's
 * uuid (the file compute_id), service record, compute node, Placement provider with inventories and
 * traits; from then on the heartbeat runs. Faults that pass by themselves (no conductor, Placement away)
 * are tried again for ever and logged once; what no patience cures (another host's compute_id, a new host
 * that has guests, a record without the file) is ERR_CONFIG, for the agent to end with.
 */
void cloud_node_start(struct cloud *cloud, const struct cloud_node_facts *facts, cloud_done_fn done,
                      void *aux);
/* New figures: writes what changed, to Placement first, then to the compute node record. */
void cloud_node_update(struct cloud *cloud, const struct cloud_node_facts *facts,
                       cloud_done_fn done, void *aux);
/* set_host_enabled: the trait COMPUTE_STATUS_DISABLED on the provider goes or comes. */
void cloud_node_set_enabled(struct cloud *cloud, bool enabled, cloud_done_fn done, void *aux);
/*
 * The hypervisor is away (reason, one sentence) or back (NULL): the service record is disabled with
 * "AUTO: <reason>" and enabled again, as nova's libvirt driver does. A record that an operator disabled
 * is left as it is.
 */
void cloud_node_set_fault(struct cloud *cloud, const char *reason, cloud_done_fn done, void *aux);
/*
 * What the control plane has of this host, for a look that changes nothing: the Service primitive of its
 * nova-compute (NULL = none); array of its ComputeNode primitives. Standalone: ERR_NOT_IMPLEMENTED.
 */
void cloud_node_service_read(struct cloud *cloud, cloud_result_fn done, void *aux);
void cloud_node_records_read(struct cloud *cloud, cloud_result_fn done, void *aux);
/*
 * Evacuations away from this host whose guests it has not done away with: array of Migration primitives with
 * the status accepted, pre-migrating (both: under way) or done. Of deleted instances too when the context says
 * so (read_deleted). Without a control plane that evacuates: an empty array.
 */
void cloud_node_evacuations(struct cloud *cloud, struct json_object *context, cloud_result_fn done,
                            void *aux);
/* Database id of our compute node (Instance.compute_id); 0 = not known. */
int64_t cloud_node_id(const struct cloud *cloud);
/* {"service_id", "version", "up", "compute_id", ...} for status; NULL in standalone. New reference. */
struct json_object *cloud_node_status(const struct cloud *cloud);
