/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Neutron for the control plane `nova`: its rows of cloud/cloud_provider.h (contracts: cloud/ports.h and
 * cloud/cloud.h) and what its files share.
 *
 *   neutron.c           the state of the session: extensions, warm connection
 *   neutron_info.c      network_info of an instance as Neutron has it now
 *   neutron_ports.c     ports of a build and of attach_interface, made and taken
 *   neutron_leave.c     ports released, detached, moved here
 *   neutron_bindings.c  bindings of live migration: announced, activated, deleted
 *   network_info.h      one VIF from Neutron's records, without I/O
 *
 * All requests use the agent's own session (an administrator), so what Neutron would check of a user's
 * token is checked here: a port or network of another project is refused.
 */
#pragma once

#include "cloud/nova.h"

/* Called by the provider's open() and, after its services are freed, by its close(). */
struct neutron *neutron_new(struct nova *nova);
void neutron_free(struct neutron *neutron); /* NULL is accepted */

/*
 * Makes sure of token, endpoint and an open connection, and keeps them for the next two minutes, so that
 * an activation leaves as one packet. Cheap when all is warm. For the beginning of a migration and each
 * save of its progress.
 */
void neutron_warm(struct nova *nova);

/* ---- rows ---- */
void neutron_bindings(struct cloud *cloud, struct json_object *context,
                      const struct instance *instance, const struct migrate_data *data,
                      const char *host, enum cloud_binding_change what, cloud_done_fn done,
                      void *aux);
void neutron_bindings_warm(struct cloud *cloud);
void neutron_ports_allocate(struct cloud *cloud, struct json_object *context,
                            const struct instance *instance, struct json_object *requested,
                            struct json_object *security_groups, cloud_result_fn done, void *aux);
void neutron_ports_release(struct cloud *cloud, struct json_object *context,
                           const struct instance *instance, cloud_done_fn done, void *aux);
void neutron_ports_refresh(struct cloud *cloud, struct json_object *context,
                           const struct instance *instance, cloud_result_fn done, void *aux);
void neutron_port_attach(struct cloud *cloud, struct json_object *context,
                         const struct instance *instance, const char *network_id,
                         const char *port_id, const char *fixed_ip, const char *tag,
                         cloud_result_fn done, void *aux);
void neutron_port_detach(struct cloud *cloud, struct json_object *context,
                         const struct instance *instance, const char *port_id, cloud_result_fn done,
                         void *aux);
void neutron_ports_move_here(struct cloud *cloud, struct json_object *context,
                             const struct instance *instance, cloud_result_fn done, void *aux);
