/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an instance's disks lie on: names of bases as Nova gives them, file systems and swap areas made
 * here. virt/image_cache.c brings the images. All functions but the names' block; any thread.
 */
#pragma once

#include <stdint.h>

#include "conf/conf.h"
#include "lib/err.h"
#include "lib/undo.h"

enum { IMAGE_CACHE_NAME_SIZE = 41 };

/* SHA-1 of the image's id in hex (nova.virt.libvirt.imagecache.get_cache_fname). */
int image_cache_name(const char *image_id, char name[IMAGE_CACHE_NAME_SIZE], struct err *e);

enum blank_kind { BLANK_EPHEMERAL, BLANK_SWAP };
struct blank {
    enum blank_kind kind;
    int64_t amount; /* GiB of ephemeral disks, MiB of swap */
    const char *fs; /* of ephemeral disks: "ext2", "ext3", "ext4", "xfs", "vfat" */
    const char *label;
};
int64_t blank_size(const struct blank *blank); /* bytes */
/*
 * The file system of an ephemeral disk: the given one, else default_ephemeral_format, else by os_type.
 * Static or the configuration's string; ERR_INVALID for what is not made here.
 */
int blank_file_system(const struct conf *conf, const char *wanted, const char *os_type,
                      const char **fs, struct err *e);
/* "ephemeral_<GiB>_<7 hex of the MD5 of the file system's name>", "swap_<MiB>"; the caller frees. */
char *blank_name(const struct blank *blank);
/* Fills the empty file `fd`, known as `path`, with an empty file system or swap area, sparse. */
int blank_make(const struct blank *blank, int fd, const char *path, struct err *e);
/* Makes sure that the base is in the cache; what is not finished is pushed as "storage.remove_file". */
int blank_base(const struct conf *conf, const struct blank *blank, struct undo *undo,
               struct err *e);
