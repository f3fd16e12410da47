/* SPDX-License-Identifier: Apache-2.0 */
/*
 * This host under the control plane `nova`: rows of cloud/node.h and what other files ask of it.
 *
 *   nova_node.c      the start-up (contract 3.1), updates, the rows
 *   nova_service.c   the service record: version rule, heartbeat, disabling
 *   nova_identity.c  the node's uuid and its file, without I/O to the cloud
 *   nova_compute.c   the compute node record out of facts
 */
#pragma once

#include "cloud/nova.h"

struct nova_node *nova_node_new(struct nova *nova);
/* What waits ends with ERR_CANCELLED. NULL is accepted. */
void nova_node_free(struct nova_node *node);
/* Our hypervisor_hostname; NULL before the start. */
const char *nova_node_name(const struct nova_node *node);

/* ---- rows ---- */
void nova_node_start(struct cloud *cloud, const struct cloud_node_facts *facts, cloud_done_fn done,
                     void *aux);
void nova_node_update(struct cloud *cloud, const struct cloud_node_facts *facts, cloud_done_fn done,
                      void *aux);
void nova_node_set_enabled(struct cloud *cloud, bool enabled, cloud_done_fn done, void *aux);
void nova_node_set_fault(struct cloud *cloud, const char *reason, cloud_done_fn done, void *aux);
int64_t nova_node_id(const struct cloud *cloud);
struct json_object *nova_node_status(const struct cloud *cloud);

/* ---- nova_identity.c ---- */

/* A compute node that the database has for this host. */
struct nova_identity_node {
    const char *uuid, *name; /* name: hypervisor_hostname */
};
struct nova_identity {
    const char *file_uuid;   /* what the file says; NULL = there is none */
    int64_t service_version; /* of our service record; 0 = none */
    const char *host, *name; /* ours */
    struct nova_identity_node *nodes;
    size_t node_count;
    size_t guests; /* domains of the hypervisor */
    bool adopt;    /* [agent] adopt_node */
};
/*
 * Which uuid our compute node has (contract 3.1, step 3; a fresh one when it is the first start). ERR_CONFIG
 * when the records are not of this host, in words for the operator. A pure function.
 */
int nova_identity_decide(const struct nova_identity *in, char uuid[37], struct err *e);
/*
 * The uuid in the file compute_id of any of these directories (NULL-terminated); *uuid is NULL when there is
 * none. ERR_CONFIG when two disagree or one is not a UUID. Blocks shortly.
 */
int nova_identity_read(const char *const *directories, char **uuid, struct err *e);
/* Writes <directory>/compute_id, which must not be there. Readable by all, as Nova writes it. */
int nova_identity_write(const char *directory, const char *uuid, struct err *e);
/* Directories of the files that the configuration came from, then state_path. text_vector_free(). */
char **nova_identity_directories(const struct conf *conf);

/* ---- nova_service.c ---- */

enum {
    NOVA_SERVICE_VERSION = 74,          /* what we do of Nova's list (contract 3.2) */
    NOVA_SERVICE_VERSION_NO_OWNER = 72, /* without the trait OWNER_NOVA */
};
/* The version to report: ours, at most the oldest conductor's, at least the oldest compute's (both 0 = not
 * known). `ours` is one of the two above. */
int64_t nova_service_version(int64_t ours, int64_t conductor_minimum, int64_t compute_minimum);

struct nova_service;
struct nova_service *nova_service_new(struct nova *nova);
void nova_service_free(struct nova_service *service); /* NULL is accepted */
/* Reads our record and the versions of the others. */
void nova_service_read(struct nova_service *service, cloud_done_fn done, void *aux);
/* Our record as last read or saved; NULL = none. Borrowed. */
const struct object *nova_service_record(const struct nova_service *service);
/* Makes the record when there is none. */
void nova_service_ensure(struct nova_service *service, cloud_done_fn done, void *aux);
/* The heartbeat, from now on; the first at once. */
void nova_service_beat(struct nova_service *service);
/* Placement has the trait OWNER_NOVA of us: the higher version may be reported. */
void nova_service_set_owner(struct nova_service *service);
/* Reads the record again, for what operators change: disabled. */
void nova_service_refresh(struct nova_service *service, cloud_done_fn done, void *aux);
/* cloud_node_set_fault(). */
void nova_service_set_fault(struct nova_service *service, const char *reason, cloud_done_fn done,
                            void *aux);
bool nova_service_is_disabled(const struct nova_service *service);
void nova_service_status(const struct nova_service *service, struct json_object *status);

/* ---- nova_compute.c ---- */

/* Sets the fields that differ; object_changed() tells whether there is anything to save. */
void nova_compute_fill(struct object *compute, const char *host,
                       const struct cloud_node_facts *facts);
