/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The directory of an instance whose disks are made here: those of a guest that arrives
 * (virt/storage_prepare.c) and of one that begins (virt/instance_disks_make.c). All of it blocks.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "conf/conf.h"
#include "lib/err.h"
#include "lib/undo.h"

/* True if [DEFAULT] preallocate_images wants disks that have all their blocks from the beginning. */
bool instance_directory_preallocates(const struct conf *conf);
/* ERR_NO_SPACE if there is no room for disks of `needed` bytes. */
int instance_directory_check_space(const struct conf *conf, const char *instance_uuid,
                                   int64_t needed, struct err *e);
/*
 * Makes the directory with the marker of `migration_uuid` (virt/marker.h; an instance that begins here has its
 * own uuid for it) and flushes their names; the caller closes *fd. Undo: "storage.remove_directory", pushed
 * first. `point` is the fault point between the two.
 */
int instance_directory_make(const struct conf *conf, const char *instance_uuid,
                            const char *migration_uuid, const char *point, struct undo *undo,
                            int *fd, struct err *e);
/* A new file of mode 0644 in it, for reading and writing; one that is there is refused. */
int instance_directory_open_new(int directory_fd, const char *instance_uuid, const char *name,
                                int *fd, struct err *e);
/* The empty console.log that libvirt writes to. */
int instance_directory_make_console(int directory_fd, const char *instance_uuid, struct err *e);
