/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Placement for the control plane `nova`: this host's resource provider (contract 6.1) and the allocations
 * that a compute node moves and drops (4.6, 4.7). Only what differs is written; a generation conflict is
 * read again and repeated, four tries in all. Loop thread only.
 */
#pragma once

#include "cloud/nova.h"

/* The service is borrowed and must outlive it; `cloud` gives loop, options and instances. */
struct placement *placement_new(struct cloud *cloud, struct service *service);
/* Calls under way end with ERR_CANCELLED. NULL is accepted. */
void placement_free(struct placement *placement);

/*
 * The provider `uuid` is found or made (name: the hypervisor's host name), its inventories of VCPU,
 * MEMORY_MB and DISK_GB and its traits are brought up to date. Ratios that are there stay, unless the
 * configuration gives one. Of the traits only those are ours that name what a hypervisor can do
 * (COMPUTE_*, HW_CPU_*, HW_ARCH_*, OWNER_NOVA); of ours only those are written that Placement knows;
 * facts->traits NULL leaves them all. ERR_CONFIG: a provider of that name has another uuid (the text says
 * which); it is never deleted. One update runs at a time, others wait.
 */
void placement_update(struct placement *placement, const char *uuid,
                      const struct cloud_node_facts *facts, cloud_done_fn done, void *aux);
/* What the next updates make of COMPUTE_STATUS_DISABLED; until this was said they leave it alone. */
void placement_expect_enabled(struct placement *placement, bool enabled);
/* The same, and it goes or comes now, if there has been an update. */
void placement_set_enabled(struct placement *placement, bool enabled, cloud_done_fn done,
                           void *aux);
/* Asks which traits this Placement has, unless that is known; an update does it too. */
void placement_learn_traits(struct placement *placement, cloud_done_fn done, void *aux);
/* False also as long as nothing was learnt. */
bool placement_knows_trait(const struct placement *placement, const char *trait);

/*
 * Rows of cloud/cloud_provider.h. Each may be repeated: what is done already is success. Where Placement
 * cannot be reached in time, the failure is told, and the revert, the drop or the deletion is tried on for
 * an hour, so that nothing leaks.
 *
 * placement_allocations() with an instance: the migration's allocations become the instance's (which held
 * the destination's); an instance that was deleted meanwhile gets none. Without: the migration's go.
 */
void placement_allocations(struct cloud *cloud, struct json_object *context,
                           const struct instance *instance, const struct migration_record *record,
                           cloud_done_fn done, void *aux);
void placement_allocations_delete(struct cloud *cloud, struct json_object *context,
                                  const char *consumer_uuid, cloud_done_fn done, void *aux);
void placement_allocations_leave(struct cloud *cloud, struct json_object *context,
                                 const char *consumer_uuid, cloud_done_fn done, void *aux);
void placement_allocations_here(struct cloud *cloud, cloud_result_fn done, void *aux);
