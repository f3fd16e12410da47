/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An instance's files as Nova lays them out below instances_path, for guests that begin here:
 *
 *     _base/<sha1 of the image id>            image in raw (force_raw_images) or as it came
 *     _base/swap_<MiB>, ephemeral_<GiB>_<7 hex>   what overlays of such disks lie on
 *     <uuid>/disk, disk.eph0, disk.swap, disk.config, kernel, ramdisk, console.log, disk.info
 *
 * Everything here blocks: call it on a worker. Names go through virt/paths.c. Steps that change the disk
 * push their undo step first.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <json-c/json_object.h>

#include "conf/conf.h"
#include "lib/err.h"
#include "lib/undo.h"

/*
 * The image cache, in the directory [image_cache] subdirectory_name, which PATHS_BASE stands for. A base
 * that is there is used and its time of last use renewed; one that is not is made by the caller: it
 * gets a file to fill and, when that is done, gives it back. Two who want the same image at the same time:
 * the second gets IMAGE_CACHE_BUSY and asks again later. The lock is flock(2) of the unfinished file
 * itself, computed-<sha1>.part, so that a crash leaves no lock behind; nova-compute's lock files are others.
 */
enum image_cache_state { IMAGE_CACHE_HERE, IMAGE_CACHE_TO_FETCH, IMAGE_CACHE_BUSY };
struct image_cache_fetch;
int image_cache_look(const struct conf *conf, const char *image_id, enum image_cache_state *state,
                     struct image_cache_fetch **fetch, struct err *e);
int image_cache_fd(const struct image_cache_fetch *fetch); /* an empty file to write to */
/*
 * The data is there: checks that it is what `disk_format` says (raw, iso, ami, aki, ari: must not look like
 * a format that QEMU would follow; qcow2: no backing file, no data file, a size within reason), converts
 * to raw when force_raw_images is set, and puts it in place. Other formats, and what fails these checks, are
 * ERR_DISK with the wire class ImageUnacceptable. Consumes `fetch`, also on failure: nothing is left then.
 * kernel: kernels and ramdisks (disk_format aki, ari or raw) are kept as they are. May take minutes.
 */
int image_cache_put(struct image_cache_fetch *fetch, const char *disk_format, bool kernel,
                    struct err *e);
void image_cache_abandon(struct image_cache_fetch *fetch);
/*
 * Removes bases that no instance uses and that are older than remove_unused_original_minimum_age_seconds
 * (resized ones, <sha1>_<size>: ..._resized_...), and unfinished files of yesterday. `in_use` = image,
 * kernel and ramdisk ids of instances here, NULL-terminated; what any instance's overlay lies on is in use
 * too, whatever the list says. Does nothing without remove_unused_base_images.
 */
int image_cache_prune(const struct conf *conf, const char *const *in_use, unsigned *removed,
                      struct err *e);

struct instance_disks_plan {
    const char *instance_uuid;
    const char *image_id; /* NULL = none (boot from volume) */
    const char *kernel_id, *ramdisk_id;
    int64_t root_gb, ephemeral_gb, swap_mb; /* root 0 = the image's size */
    const char *ephemeral_format;           /* "ext4", ...; NULL = by default_ephemeral_format */
    const char *os_type;
    /* config drive: files by name, bytes each (agent/config_drive.h); NULL = none. instance_disks_find()
     * tells of one that is there in any case */
    struct json_object *config_drive;
    const char *bus;       /* of the disks; NULL = "virtio" */
    const char *cdrom_bus; /* of the config drive and of ISO images; NULL = "ide" */
    bool root_is_cdrom;    /* the image's disk_format is iso */
};
struct instance_disk {
    char *name; /* "disk", "disk.eph0", "disk.swap", "disk.config" */
    char *path, *format, *target, *bus, *device;
    int64_t virtual_size;
};
struct instance_disks {
    struct instance_disk *items;
    size_t count;
    char *kernel, *ramdisk; /* files; NULL */
    char *console_log;
};
void instance_disks_clear(struct instance_disks *disks);
/*
 * Makes the directory (which must be absent, empty or a marked leftover), the disks over the cached bases
 * (overlay when images_type is qcow2, or default with use_cow_images; else flat raw copies), disk.info,
 * kernel, ramdisk, console.log. All bases must be in the cache. ERR_INVALID (FlavorDiskSmallerThanImage)
 * when the image does not fit the flavor; ERR_NO_SPACE before anything is made; ERR_DISK_EXISTS.
 *
 * Undo: "storage.remove_directory", with the instance's own uuid in the place of a migration's. The directory
 * has its marker until virt_storage_settle(): the caller calls that when the guest is defined and the
 * directory must stay. Until then a restart finds it by virt_storage_leftovers().
 *
 * Device names are given as Nova gives them: root, ephemeral, swap, then the config drive, the first free
 * letter of the bus's prefix (vd, sd, hd) each.
 */
int instance_disks_make(const struct conf *conf, const struct instance_disks_plan *plan,
                        struct undo *undo, struct instance_disks *out, struct err *e);
/* What is there already, as instance_disks_make() would tell it (start after a stop, hard reboot); makes
 * nothing. ERR_DISK names the file that is missing. */
int instance_disks_find(const struct conf *conf, const struct instance_disks_plan *plan,
                        struct instance_disks *out, struct err *e);
/* The last `bytes` of console.log (and of console.log.0, ... when it was rotated), as UTF-8: bytes that are
 * none, and NUL, are U+FFFD; control characters stay, for JSON escapes them. No log yet is "". Caller
 * frees. */
int instance_console_tail(const struct conf *conf, const char *instance_uuid, int64_t bytes,
                          char **out, struct err *e);
/*
 * A flat copy of a disk that nobody writes to: qemu-img convert to `out_format` (raw, qcow2, vmdk, vdi;
 * NULL = [libvirt] snapshot_image_format, else the disk's), qcow2 compressed if snapshot_compression. The
 * disk is a file of the instance's directory or of the snapshots'. Writes below <instances_path>/snapshots;
 * the caller closes *fd, which stands at the beginning, and unlinks with instance_snapshot_remove(). May
 * take minutes.
 */
int instance_snapshot_make(const struct conf *conf, const char *instance_uuid,
                           const char *disk_path, const char *disk_format, const char *out_format,
                           int *fd, char **name, struct err *e);
/* A name below <instances_path>/snapshots for virt_guest_copy_disk() to write to; nothing is made but the
 * directory. Then instance_snapshot_open(); remove as above. */
int instance_snapshot_reserve(const struct conf *conf, char **name, char **path, struct err *e);
int instance_snapshot_open(const struct conf *conf, const char *name, int *fd, struct err *e);
void instance_snapshot_remove(const struct conf *conf, const char *name);
