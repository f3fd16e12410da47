/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The instance's files on this host: sizes, the destination's disks and image bases, shared-storage
 * detection, leftovers of an earlier attempt. Formats always come from records (the XML, disk.info, the
 * peer's list), never from looking into what a guest wrote (reliability.md, threat 2).
 *
 * Everything here blocks: call it on a worker. Steps that change the disk push their undo step first.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <json-c/json_object.h>

#include "conf/conf.h"
#include "lib/err.h"
#include "lib/undo.h"
#include "virt/guest.h"
#include "virt/virt.h"

/* Fills virtual_size, allocated, backing_file and _format of the guest's local disks (qemu-img info -U
 * with the format given, limits on time and memory). */
int virt_storage_measure(struct virt_guest *guest, struct err *e);

/*
 * Nova's `disk` argument (4.5): JSON array of {type, path, virt_disk_size, backing_file, disk_size,
 * over_committed_disk_size} for each local file or block disk, plus our own keys "target", "device" and
 * "backing_format", which Python ignores. Needs virt_storage_measure(). New reference.
 */
struct json_object *virt_storage_disk_info(const struct virt_guest *guest);
/* Bytes a copy needs on the destination: allocated (over-commit) or virtual sizes. */
int64_t virt_storage_need(const struct virt_guest *guest, bool disk_over_commit);
/* Bytes free below instances_path less reserved_host_disk_mb; `disk_over_commit` false also takes off
 * what sparse images of this host may still grow to. */
int virt_storage_free(const struct conf *conf, bool disk_over_commit, int64_t *out, struct err *e);

/* The instance's directory must be free here, or be a marked leftover of an earlier attempt, which is
 * then removed (only if no domain of that uuid exists here: the caller says so). */
int virt_storage_check_directory(const struct conf *conf, const char *instance_uuid,
                                 bool domain_exists_here, struct err *e);

/* Shared storage by file: the destination makes a probe file, the source looks for its name. */
int virt_storage_probe_create(const struct conf *conf, char **name, struct err *e);
int virt_storage_probe_seen(const struct conf *conf, const char *name, bool *seen, struct err *e);
void virt_storage_probe_remove(const struct conf *conf, const char *name);

struct virt_storage_plan {
    const char *instance_uuid;
    const char *migration_uuid;    /* written into the marker file */
    struct json_object *disk_info; /* the peer's `disk` argument */
    const char *source_uri; /* libvirt URI of the source, for image bases; NULL = none to be had */
};
/*
 * Destination: makes the directory with its marker, disk.info, image bases (kept if present and of the
 * right size, else recreated for ephemeral/swap or copied from the source by libvirt's storage streams,
 * which keep TLS and authentication those of libvirt), and empty disks with the right format, size and
 * backing file. Undo: "storage.remove_directory", "storage.remove_file".
 */
int virt_storage_prepare(struct virt *virt, const struct conf *conf,
                         const struct virt_storage_plan *plan, struct undo *undo, struct err *e);
/* Read-only files of the instance that libvirt does not copy (config drive ISO, console.log is made
 * empty): copied from the source the same way. Part of virt_storage_prepare(). */

/* The migration has ended here: the marker goes, the directory is the guest's. */
int virt_storage_settle(const struct conf *conf, const char *instance_uuid, struct err *e);
/* Source, after the move: removes the instance's directory (symlink-safe, only below instances_path). */
int virt_storage_remove(const struct conf *conf, const char *instance_uuid, struct err *e);

/* Names with a marker whose migration is given up (clean-up after a restart). Caller frees. */
char **virt_storage_leftovers(const struct conf *conf, struct err *e);

/* Rows for the undo table; ended by a row with name NULL. aux of the rows is `conf`. */
const struct undo_handler *virt_storage_undo_handlers(const struct conf *conf);
