/* SPDX-License-Identifier: Apache-2.0 */
/* Rules shared by both checks. Pure. */
#pragma once

#include <json-c/json_object.h>

#include "lib/err.h"
#include "virt/guest.h"

/* 1, 0, or -1 for null and absent. */
int check_answer_tristate(struct json_object *value);
/*
 * Makes a failure one that lets the conductor try the next host: classes derived from Invalid stay,
 * everything else (also a source's InvalidSharedStorage) becomes MigrationPreCheckError with the same
 * sentence, as 2026.2 does for every release (nova-contract 4.1, 8.3).
 */
void check_answer_error(struct err *e);

/* What the source found out about storage, and what the request said. */
struct check_storage {
    bool volume_backed, shared_path, shared_block;
    int block_migration;  /* as asked: 1, 0, -1 */
    int disk_over_commit; /* 1, 0, -1 */
    int64_t need;         /* bytes a copy needs */
    int64_t available_mb; /* destination's; -1 = not said */
    const char *instance_uuid, *host;
};
/* What follows from the guest and what both hosts have configured as images_type. */
bool check_answer_is_volume_backed(const struct virt_guest *guest);
bool check_answer_shares_block(const struct virt_guest *guest, const char *images_type_here,
                               const char *images_type_there, bool shared_path);
/* Nova's rules of 4.4; on success *block_migration says whether disks are copied. */
int check_answer_storage(const struct check_storage *storage, bool *block_migration, struct err *e);
