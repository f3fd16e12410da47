/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `plan INSTANCE --to HOST`: what would become of a migration, found out without changing anything. The source
 * gathers (plan.c): the guest, its disks, its dirty rate, what the policy would choose, the queue; the destination
 * is asked by its own command `plan-destination` (plan_destination.c), which the agents relay as any other;
 * plan_checks.c and plan_tell.c make the document of it. The commands stand in the table of
 * agent/commands_internal.h. Loop thread.
 *
 * A guest that writes is measured for a second (virt_dirty_rate()): it is not slowed down by that, and nothing of it
 * stays.
 */
#pragma once

#include <json-c/json_object.h>

#include "agent/migration.h"
#include "virt/storage.h"

struct plan {
    struct command *command;
    struct agent *agent;
    const char *destination; /* in the command's arguments */
    int block_migration, disk_over_commit;
    /* the guest, as a worker read it */
    struct virt_guest *guest;
    struct json_object *disk_info, *identity; /* NULL = could not be had */
    int64_t touched;       /* bytes of memory that it has used so far; 0 = not known */
    struct err unmeasured; /* its disks */
    struct instance *instance;
    struct settings settings;
    struct measurement measured;
    struct err no_rate;
    struct json_object *answer; /* of the destination; NULL */
    struct err no_answer;
    unsigned open; /* questions under way */
};

/* What follows from all answers, before it is put into words. */
struct plan_sums {
    bool block; /* disks are copied */
    int shared; /* 1, 0, -1 = not known */
    int64_t disk_bytes, base_bytes;
    struct policy_limits limits;
    struct policy_outlook outlook;
    struct policy_start start;
    int64_t timeout_s;
    int64_t bandwidth_mib; /* in force; 0 = none */
    bool post_copy;
};

/* plan_checks.c: each appends to the list of checks. What this host's own table says; what the destination said,
 * or that it does not tell; by both, how the disks go (sets block) and whether they can; whether it would end. */
void plan_check_source(const struct plan *plan, struct json_object *checks);
void plan_check_destination(const struct plan *plan, struct json_object *checks);
void plan_check_storage(const struct plan *plan, struct plan_sums *sums,
                        struct json_object *checks);
void plan_check_images(const struct plan *plan, const struct plan_sums *sums,
                       struct json_object *checks);
void plan_check_end(const struct plan *plan, const struct plan_sums *sums,
                    struct json_object *checks);
/* Do both hosts see one directory of the instance? 1, 0, -1 = not known. */
int plan_shared_path(const struct plan *plan);

/* plan_tell.c: the document (docs/OPERATIONS.md says what is in it), when all questions have ended. */
struct json_object *plan_document(const struct plan *plan);

/* plan_destination.c: how the destination recognises the instance's directory (of_all: instances_path). */
struct json_object *plan_identity_to_json(const struct virt_storage_identity *identity,
                                          bool of_all);
