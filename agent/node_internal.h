/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the node share; agent/node.h is for others. */
#pragma once

#include "agent/migration.h"
#include "agent/node.h"
#include "cloud/node.h"

enum node_state {
    NODE_READS,     /* the hypervisor is asked what it has */
    NODE_REGISTERS, /* the control plane is told */
    NODE_LOOKS,     /* the instances are asked for, for the first time */
    NODE_CLEARS,    /* what was evacuated from here while the host was away goes */
    NODE_READY,
    NODE_FAILED, /* no patience cures it: the agent ends */
};

/* What instances take, by their flavors. */
struct node_usage {
    unsigned instances;
    int64_t vcpus, memory_mb, disk_mb;
};

struct node_claim {
    struct node_claim *next;
    char *uuid;
    struct node_usage usage;
};

struct node_evacuated;
struct node_leaks;
struct node_service;
struct node_strangers;

struct node {
    struct agent *agent;
    enum node_state state;
    struct virt_resources *resources; /* newest; NULL = not read yet */
    struct json_object *instances;    /* of this host, uuid -> primitive, as last listed */
    struct node_usage usage;
    struct node_claim *claims;
    struct json_object *listed; /* the first such list, until the host is ready */
    struct json_object
        *stats;             /* of the instances, see node_stats_count(); NULL = not counted yet */
    int workload;           /* instances that have a task */
    unsigned failed_builds; /* since the last good one, or since the start */
    struct json_object *written; /* the figures that the control plane has; NULL = none yet */
    int64_t written_us;
    bool registered;    /* cloud_node_start() succeeded */
    bool busy;          /* an audit is under way */
    bool again;         /* another one is wanted */
    int64_t full_us;    /* when leaks were looked for last; audits between only count */
    int64_t cleared_us; /* when guests that were evacuated were looked for last */
    unsigned failures;
    struct loop_timer *timer;
    struct node_evacuated *evacuated;
    struct node_strangers *strangers;
    struct node_leaks *leaks;
    struct node_service *service;
};

/* agent/node_stats.c: counts what `instances` says into `stats` and `workload`. */
void node_stats_count(struct node *node);

/* agent/node_usage.c */
/* Instances that keep their record but take nothing. */
bool node_usage_is_none(const struct instance *instance);
struct node_usage node_usage_of(const struct instance *instance);
/* Of all that counts here: instances, claims that they do not cover, incoming migrations. */
struct node_usage node_usage_sum(const struct node *node);
void node_usage_facts(const struct node *node, struct cloud_node_facts *facts);
/* The facts as JSON, to see whether anything changed. New reference. */
struct json_object *node_usage_figures(const struct cloud_node_facts *facts);

/*
 * agent/node_leaks.c: allocations of our provider whose consumer is neither an instance of this host nor on
 * its way. Who is found twice in a row is looked up: allocations of migrations that have ended go back to the
 * instance or away, those of deleted instances away, the rest is reported. `done` runs at the end.
 */
struct node_leaks *node_leaks_new(struct node *node);
void node_leaks_free(struct node_leaks *leaks);
void node_leaks_look(struct node_leaks *leaks, void (*done)(struct node *node));
/* [{"consumer", "kind", "why", "action", "resources"}] of the last look. Borrowed. */
struct json_object *node_leaks_report(const struct node_leaks *leaks);

/*
 * agent/node_evacuated.c: guests that were evacuated from here do not run here, and what is left of them goes;
 * looked for at the start and then with the audits, since an agent that was cut off from Nova lives on while its
 * guests are evacuated. `done` runs at the end: failure NULL even if some could not be removed (they are tried
 * again by the next look); a failure means that nothing is known, so nothing was done.
 */
struct node_evacuated *node_evacuated_new(struct node *node);
void node_evacuated_free(struct node_evacuated *evacuated);
void node_evacuated_look(struct node_evacuated *evacuated,
                         void (*done)(struct node *node, const struct err *failure));
/* Nobody may start this one: by the last look it was evacuated, or is being evacuated. */
bool node_evacuated_holds(const struct node_evacuated *evacuated, const char *instance_uuid);
/* The list of Instance primitives without such ones. New reference. */
struct json_object *node_evacuated_without(const struct node_evacuated *evacuated,
                                           struct json_object *list);
/* [{"instance", "host", "why"}] of what is left. Borrowed. */
struct json_object *node_evacuated_report(const struct node_evacuated *evacuated);

/*
 * agent/node_strangers.c: domains that the control plane does not have on this host, looked at once, when the
 * host is ready. They are reported and never started; only one whose instance was deleted is dealt with
 * (running_deleted_instance_action).
 */
struct node_strangers *node_strangers_new(struct node *node);
void node_strangers_free(struct node_strangers *strangers);
void node_strangers_look(struct node_strangers *strangers);

/* agent/node_service.c: the service record's `disabled`, by libvirt's presence. */
struct node_service *node_service_new(struct node *node);
void node_service_free(struct node_service *service);
/* As it should be from now on; written as soon as the host is registered and the control plane is there. */
void node_service_want(struct node_service *service, bool enabled, const char *why);
/* Writes what could not be written so far. */
void node_service_settle(struct node_service *service);
