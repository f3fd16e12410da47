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
#include "virt/image_transfer.h"
#include "virt/virt.h"

/*
 * Fills virtual_size, allocated and backing_size of the guest's local disks. The images' own headers must say the same
 * as the XML: a backing file that the XML does not name, another one, a chain of more than one, a data file, or a
 * format other than raw and qcow2 is ERR_DISK naming both.
 */
int virt_storage_measure(struct virt_guest *guest, struct err *e);

/*
 * Nova's `disk` argument (4.5): JSON array of {type, path, virt_disk_size, backing_file, disk_size,
 * over_committed_disk_size} for each local file or block disk, plus our own keys, which Python ignores:
 * "target", "device", "read_only", "backing_path", "backing_format", "backing_size", and on the first
 * entry "computed_files", the names of a kernel and ramdisk in the instance's directory. Needs
 * virt_storage_measure(). New reference.
 */
struct json_object *virt_storage_disk_info(const struct virt_guest *guest);
/* Bytes a copy needs on the destination: allocated (over-commit) or virtual sizes. */
int64_t virt_storage_need(const struct virt_guest *guest, bool disk_over_commit);
/* Bytes free below instances_path less reserved_host_disk_mb, never below 0; `disk_over_commit` false
 * also takes off what sparse images of this host may still grow to (by the instances' disk.info). */
int virt_storage_free(const struct conf *conf, bool disk_over_commit, int64_t *out, struct err *e);
/* Bytes that sparse images of this host may still grow to. */
int virt_storage_growth(const struct conf *conf, int64_t *out, struct err *e);

/* The instance's directory must be free here (absent or empty), or be a marked leftover of an earlier
 * attempt, which is then removed (only if no domain of that uuid exists here: the caller says so).
 * ERR_DISK_EXISTS. */
int virt_storage_check_directory(const struct conf *conf, const char *instance_uuid,
                                 bool domain_exists_here, struct err *e);

/* The same look, which removes nothing: *found says in words what is there (static text). */
int virt_storage_look_directory(const struct conf *conf, const char *instance_uuid,
                                const char **found, struct err *e);
/*
 * How the instance's directory (instance_uuid NULL: instances_path itself) is told from another one of that name:
 * the same on both hosts means one file system, without a probe file. On a network file system it may lag by what
 * its clients cache.
 */
struct virt_storage_identity {
    bool present;
    int64_t inode, changed_s, changed_ns;
};
int virt_storage_identity(const struct conf *conf, const char *instance_uuid,
                          struct virt_storage_identity *out, struct err *e);

/* Shared storage by file: the destination makes a probe file, the source looks for its name. Nova's evacuation
 * gives a path instead, "<instances_path>/<uuid>/<probe>". */
int virt_storage_probe_create(const struct conf *conf, char **name, struct err *e);
/* One in an instance's directory; *name is such a path then, NULL when there is no directory. */
int virt_storage_probe_create_in(const struct conf *conf, const char *instance_uuid, char **name,
                                 struct err *e);
int virt_storage_probe_seen(const struct conf *conf, const char *name, bool *seen, struct err *e);
void virt_storage_probe_remove(const struct conf *conf, const char *name);

struct virt_storage_plan {
    const char *instance_uuid;
    const char *migration_uuid;    /* written into the marker file */
    struct json_object *disk_info; /* the peer's `disk` argument */
    const char *source_uri; /* libvirt URI of the source, for image bases; NULL = none to be had */
    const atomic_bool *called_off; /* as image_transfer's; NULL */
    image_transfer_fn transfer;    /* NULL = image_transfer_libvirt() */
    void *transfer_aux;
    /*
     * If not NULL, *paths gets a new JSON object {path on the source: path here} of the files whose path
     * differs: what virt_destination.disk_paths must say. With NULL (the source cannot be told, as a
     * Python peer) a path that differs is ERR_DISK.
     */
    struct json_object **paths;
};
/*
 * Destination: makes the directory with its marker, disk.info, image bases, empty disks with the right
 * format, size and backing file, and an empty console.log; copies read-only files of the instance that
 * libvirt does not copy (config drive, kernel, ramdisk).
 *
 * An image base is kept if it is here with the size announced, else copied from the source. Bases named
 * ephemeral* and swap* are made anew by each host, so equal names do not mean equal content, and the
 * guest's overlay fits only that of its source: these are always compared with the source's, and kept
 * beside one another under a name with a digest if they differ. A base whose format the source does not
 * tell (a Python peer) is raw; one that looks like qcow2 is then refused.
 *
 * A source's file is only ever taken from the instance's directory and from _base beside it. Read-only
 * disks elsewhere (an ISO library) are left alone: they must be on the destination under the same path.
 *
 * Undo: "storage.remove_directory", "storage.remove_file". After a failure nothing is left once undo has
 * run. ERR_DISK_EXISTS, ERR_NO_SPACE (before anything is made, where sizes are known), ERR_DISK.
 * `virt` is not used by the transfer, which has a connection of its own; it may be NULL.
 */
int virt_storage_prepare(struct virt *virt, const struct conf *conf,
                         const struct virt_storage_plan *plan, struct undo *undo, struct err *e);

/*
 * What virt_storage_prepare() would find, changing nothing: its refusals that are known beforehand (the list
 * itself, the room), *needed bytes, and for each image base {path on the source: {"name", "here", "bytes"}}, in
 * which bytes are those that would be copied. A base that each host makes for itself may turn out to differ.
 */
int virt_storage_foresee(const struct conf *conf, const char *instance_uuid,
                         struct json_object *disk_info, int64_t *needed, struct json_object **bases,
                         struct err *e);

/* The migration has ended here: the marker goes, the directory is the guest's. Idempotent. */
int virt_storage_settle(const struct conf *conf, const char *instance_uuid, struct err *e);
/* Source, after the move: removes the instance's directory (symlink-safe, only below instances_path).
 * Idempotent. The room is free a little later (paths_remove_tree_aside()). */
int virt_storage_remove(const struct conf *conf, const char *instance_uuid, struct err *e);

/* uuids of instances whose directory has a marker (clean-up after a restart). Caller frees with
 * text_vector_free(); NULL on error. */
char **virt_storage_leftovers(const struct conf *conf, struct err *e);
/* The migration that such a directory belongs to: "" if a crash cut its marker short; ERR_NO_MIGRATION if
 * it has no marker. The caller frees. */
int virt_storage_leftover_migration(const struct conf *conf, const char *instance_uuid, char **out,
                                    struct err *e);

/* Rows for the undo table, ended by a row with name NULL. aux of the rows is `conf`, which must outlive
 * the table; the caller frees the table with free(). */
struct undo_handler *virt_storage_undo_handlers(const struct conf *conf);
