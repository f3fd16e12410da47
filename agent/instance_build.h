/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Instances that begin and end here: build, terminate, rebuild (in place, and evacuated from a dead host),
 * snapshot. Operations (agent/operation.h) with the events, expected task states and resulting states of
 * nova-compute (nova/compute/manager.py). The handlers own their request. Loop thread only.
 */
#pragma once

#include "agent/operation.h"

void instance_build(struct agent *agent, struct rpc_request *request); /* build_and_run_instance */
void instance_terminate(struct agent *agent, struct rpc_request *request); /* terminate_instance */
void instance_rebuild(struct agent *agent, struct rpc_request *request);   /* rebuild_instance */
void instance_snapshot(struct agent *agent, struct rpc_request *request);  /* snapshot_instance */
void instance_backup(struct agent *agent, struct rpc_request *request);    /* backup_instance */

/* Deletion by the agent itself: one that a former agent began (task state "deleting"), a soft-deleted instance
 * whose time is over. */
extern const struct operation_kind instance_terminate_kind;

/*
 * Instances of this host, before requests are taken up: true if the instance is looked after and nobody else
 * is to repair it. A deletion that was cut off is finished; a build or rebuild that was cut off (what it had
 * made was taken back with the journal, agent/recovery.c) ends in ERROR. `instance` is borrowed.
 */
bool instance_recover(struct agent *agent, const struct instance *instance);

/* What unfinished builds had made on this host is taken back: records of the journal, at the agent's start
 * (agent/recovery.c); tried again when libvirt comes, with NULL. */
void instance_builds_take_back(struct agent *agent, struct json_object *records);
