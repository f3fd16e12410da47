/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control plane as a node sees it. Behind it is cloud/cloud_provider.h; `standalone` is a control
 * plane of one SQLite file (cloud/store.h) for hosts without OpenStack: it plays the conductor's part
 * for `computectl migrate` and keeps what Nova's database would keep.
 *
 * All functions belong to the loop's thread and return at once; `done` is called later, on the loop,
 * exactly once, never before the function returned; what is open when the cloud is freed ends then, with
 * ERR_CANCELLED unless it was done. The context is the request's, verbatim; it is
 * borrowed for the call.
 */
#pragma once

#include <stdbool.h>
#include <json-c/json_object.h>

#include "cloud/views.h"
#include "conf/conf.h"
#include "lib/err.h"
#include "lib/loop.h"
#include "rpc/rpc.h"

struct cloud;
/* failure is NULL on success. */
typedef void (*cloud_done_fn)(void *aux, const struct err *failure);
/* result is borrowed, NULL with a failure. */
typedef void (*cloud_result_fn)(void *aux, struct json_object *result, const struct err *failure);

/* The provider is chosen by [agent] control_plane. `host` is our service host name. */
int cloud_new(struct cloud **out, struct loop *loop, const struct conf *conf, struct rpc *rpc,
              const char *host, struct err *e);
void cloud_free(struct cloud *cloud);
/* Takes over a new snapshot's reloadable options. */
void cloud_reload(struct cloud *cloud, const struct conf *conf);
const char *cloud_provider_name(const struct cloud *cloud);
/* There is no control plane but this project's own agents. */
bool cloud_is_standalone(const struct cloud *cloud);

/*
 * Saves a migration's changed fields (status, counters: Nova's Migration.save) and, beside it, the
 * agent's own account of it (`details`, the record that computectl shows; borrowed, may be NULL).
 * `role` is "source" or "destination": only the source writes Nova's record, each keeps its account.
 */
void cloud_migration_save(struct cloud *cloud, struct json_object *context,
                          struct migration_record *record, const char *role,
                          struct json_object *details, cloud_done_fn done, void *aux);
/* Saves the instance's changed fields; expected_task_state NULL = any (Instance.save), else one or more words
 * divided by "|", of which "-" means none: "powering-off|-". */
void cloud_instance_save(struct cloud *cloud, struct json_object *context,
                         struct instance *instance, const char *expected_task_state,
                         cloud_done_fn done, void *aux);
/* Instance action events (InstanceActionEvent.event_start, event_finish_with_failure). Best effort. */
void cloud_event_start(struct cloud *cloud, struct json_object *context, const char *instance_uuid,
                       const char *event);
void cloud_event_finish(struct cloud *cloud, struct json_object *context, const char *instance_uuid,
                        const char *event, const struct err *failure);
/* InstanceFault.create. Best effort. */
void cloud_fault(struct cloud *cloud, struct json_object *context, const char *instance_uuid,
                 const struct err *failure);

/* Block device mappings of the instance: array of BlockDeviceMapping primitives. */
void cloud_block_devices(struct cloud *cloud, struct json_object *context,
                         const struct instance *instance, cloud_result_fn done, void *aux);

/* Port bindings of the instance on `host` (Neutron; none in standalone, where these succeed at once):
 * binding:profile.migrating_to = host; the inactive binding made active; the binding deleted. */
enum cloud_binding_change {
    CLOUD_BINDING_ANNOUNCE,
    CLOUD_BINDING_ACTIVATE,
    CLOUD_BINDING_DELETE,
};
void cloud_bindings(struct cloud *cloud, struct json_object *context,
                    const struct instance *instance, const struct migrate_data *data,
                    const char *host, enum cloud_binding_change what, cloud_done_fn done,
                    void *aux);

/* A migration is about to switch over: token, endpoint and connection for its bindings are made ready, so
 * that the activation leaves at once. Best effort, cheap to repeat. */
void cloud_bindings_warm(struct cloud *cloud);

/* Placement: migration uuid -> instance uuid (rollback), or away with the migration's (success). */
void cloud_allocations_revert(struct cloud *cloud, struct json_object *context,
                              const struct instance *instance,
                              const struct migration_record *record, cloud_done_fn done, void *aux);
void cloud_allocations_drop(struct cloud *cloud, struct json_object *context,
                            const struct migration_record *record, cloud_done_fn done, void *aux);

/* Accounts of migrations, newest first: array of `details`. Filters may be NULL; `key` is a uuid or name of
 * the instance, or a uuid or number of the migration; limit 0 = 100. */
void cloud_migrations(struct cloud *cloud, const char *key, const char *status, int limit,
                      cloud_result_fn done, void *aux);

/*
 * What happened during a migration, kept beside its account for as long: entries (objects, borrowed) of
 * a kind at a time. Best effort; the same entry is kept once. thin: of that kind only the first of each
 * every_s seconds, counted from from_us, stays. cloud_story() gives an array in the order of
 * time, each entry with "kind" and "at_us" added.
 */
void cloud_story_add(struct cloud *cloud, const char *uuid, const char *role, const char *kind,
                     int64_t at_us, struct json_object *entry);
void cloud_story_thin(struct cloud *cloud, const char *uuid, const char *role, const char *kind,
                      int64_t from_us, int64_t every_s);
void cloud_story(struct cloud *cloud, const char *uuid, const char *role, cloud_result_fn done,
                 void *aux);

/* What the conductor is asked for; standalone plays that part. */
struct cloud_migrate_request {
    struct instance *instance; /* borrowed; as cloud_instance_from_facts() makes it */
    const char *destination;   /* service host */
    int block_migration;       /* 1, 0 or -1 = let the hosts find out */
    int disk_over_commit;      /* 1, 0 or -1 = not given */
};
/*
 * Makes the Migration record, asks the destination (check_can_live_migrate_destination), fills the
 * binding facts of the VIFs and casts live_migration to the source, as nova-conductor does (4.1). done
 * gets the Migration primitive when the broker has the cast; a refusal is the failure, and the record
 * is saved with status "failed" and the reason. ERR_NOT_IMPLEMENTED under the nova control plane.
 */
void cloud_migrate(struct cloud *cloud, const struct cloud_migrate_request *request,
                   cloud_result_fn done, void *aux);

/* An Instance object made from what the hypervisor says of a domain, for standalone. */
struct cloud_interface_facts {
    const char *mac, *bridge, *tap, *model;
    bool openvswitch;         /* bridge is an Open vSwitch one */
    const char *interface_id; /* NULL = made from the MAC */
    int mtu;
};
struct cloud_instance_facts {
    const char *uuid, *name, *title, *host;
    int64_t memory_mb;
    int vcpus;
    int power_state; /* Nova's number */
    const struct cloud_interface_facts *interfaces;
    size_t interface_count;
    struct json_object
        *settings; /* borrowed: per-instance overrides, put into metadata as "computed:<key>" */
    const char *const
        *addresses; /* guest IPs by MAC are unknown without Neutron; reserved, may be NULL */
};
struct instance *cloud_instance_from_facts(const struct cloud_instance_facts *facts);
