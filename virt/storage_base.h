/* SPDX-License-Identifier: Apache-2.0 */
/* Image bases: the read-only files in instances_path/_base below the guests' overlays. */
#pragma once

#include "conf/conf.h"
#include "lib/err.h"
#include "lib/undo.h"
#include "virt/storage.h"
#include "virt/storage_plan.h"

/*
 * Makes sure that the disk's base is here, as virt_storage_prepare() says; *path is its name here, which
 * the caller frees. A copy that is not finished has a name of its own (virt/base_part.h); a finished base
 * stays, also when the migration fails.
 */
int storage_base_prepare(const struct conf *conf, const struct virt_storage_plan *plan,
                         const struct storage_disk *disk, struct undo *undo, char **path,
                         struct err *e);
/* Runs the plan's transfer and flushes the file. */
int storage_transfer(const struct virt_storage_plan *plan, const struct image_transfer *transfer,
                     struct err *e);
