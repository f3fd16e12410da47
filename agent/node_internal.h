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

struct node_leaks;
struct node_service;

struct node {
    struct agent *agent;
    enum node_state state;
    struct virt_resources *resources; /* newest; NULL = not read yet */
    struct json_object *instances;    /* of this host, uuid -> primitive, as last listed */
    struct node_usage usage;
    struct node_claim *claims;
    struct json_object *written; /* the figures that the control plane has; NULL = none yet */
    int64_t written_us;
    bool registered; /* cloud_node_start() succeeded */
    bool busy;       /* an audit is under way */
    bool again;      /* another one is wanted */
    int64_t full_us; /* when leaks were looked for last; audits between only count */
    unsigned failures;
    struct loop_timer *timer;
    struct node_leaks *leaks;
    struct node_service *service;
};

/* agent/node_usage.c */
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

/* agent/node_service.c: the service record's `disabled`, by libvirt's presence. */
struct node_service *node_service_new(struct node *node);
void node_service_free(struct node_service *service);
/* As it should be from now on; written as soon as the host is registered and the control plane is there. */
void node_service_want(struct node_service *service, bool enabled, const char *why);
/* Writes what could not be written so far. */
void node_service_settle(struct node_service *service);
