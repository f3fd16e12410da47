/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Neutron ports of instances of this host. Results are network_info: the array of VIFs that Nova's info
 * cache holds (contract 2.3). Standalone has no Neutron: ERR_NOT_IMPLEMENTED.
 *
 * Threads and ends: as cloud/cloud.h says. Port bindings of live migration: cloud_bindings().
 */
#pragma once

#include "cloud/cloud.h"

/*
 * Ports for a new guest, bound to this host. `requested` is NetworkRequestList (a port, or a network with
 * perhaps an address, a tag; "auto"/"none" as Nova has them), `security_groups` the list of names. Made
 * ports are deleted and taken ones released again if any fails. Result: network_info. A port asked for
 * that is another instance's is ERR_INVALID (PortInUse); no network at all is an empty array.
 */
void cloud_ports_allocate(struct cloud *cloud, struct json_object *context,
                          const struct instance *instance, struct json_object *requested,
                          struct json_object *security_groups, cloud_result_fn done, void *aux);
/* The instance leaves: ports that Nova made are deleted, those it was given are unbound. Success also
 * when they are gone. */
void cloud_ports_release(struct cloud *cloud, struct json_object *context,
                         const struct instance *instance, cloud_done_fn done, void *aux);
/*
 * network_info as Neutron has it now, for all ports of the instance. The instance's own cache gives the
 * order and what Neutron does not know (preserve_on_delete). A port that Neutron did not list is looked up
 * by its id before it leaves the cache.
 */
void cloud_ports_refresh(struct cloud *cloud, struct json_object *context,
                         const struct instance *instance, cloud_result_fn done, void *aux);
/* attach_interface: one more port, by id or on a network (both NULL: the only network of the project);
 * fixed_ip and tag may be NULL. Result: the array of VIFs with the new one, which is last. */
void cloud_port_attach(struct cloud *cloud, struct json_object *context,
                       const struct instance *instance, const char *network_id, const char *port_id,
                       const char *fixed_ip, const char *tag, cloud_result_fn done, void *aux);
/* detach_interface: released or deleted. Result: network_info without it. */
void cloud_port_detach(struct cloud *cloud, struct json_object *context,
                       const struct instance *instance, const char *port_id, cloud_result_fn done,
                       void *aux);
/*
 * The guest runs here now (post_live_migration_at_destination, evacuation): binding:host_id, device_owner
 * and profile without migrating_to for each port that is not bound here. Result: network_info.
 */
void cloud_ports_move_here(struct cloud *cloud, struct json_object *context,
                           const struct instance *instance, cloud_result_fn done, void *aux);
