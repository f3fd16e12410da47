/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Image files: what they are, making empty ones. The format is always given, never found out: a guest can
 * write into a raw disk whatever another format's header looks like. A qcow2 image's own header is read
 * here, with bounds, before any program sees the file, so that one with an external data file is refused
 * before one could open what it names.
 *
 * Formats are "raw" and "qcow2"; everything else is ERR_DISK. Functions block; any thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "lib/attributes.h"
#include "lib/err.h"

struct image_info {
    int64_t virtual_size, allocated, file_size; /* bytes */
    char *backing_file, *backing_format;        /* as the header says, resolved; NULL = none */
};
void image_info_clear(struct image_info *info);

int image_check_format(const char *format, const char *path, struct err *e);
/* True if the file begins as a qcow2 image does. Never used to choose a format, only to refuse. */
bool image_has_qcow2_magic(int fd);

struct image_header {
    int64_t virtual_size;
    bool has_backing, has_data_file;
};
/* qcow2 versions 2 and 3 (QEMU docs/interop/qcow2.txt). ERR_DISK if it is none. */
int image_read_header(int fd, const char *path, struct image_header *out, struct err *e);

/* The name of the backing file as the header has it, not resolved; *name is NULL if there is none. */
int image_read_backing_name(int fd, const char *path, char **name, struct err *e);

/* By the header for qcow2, by the file system for raw files and block devices. */
int image_read(const char *path, const char *format, struct image_info *out, struct err *e);
/* The same of a qcow2 file, but file_size, by `qemu-img info -U` with limits on time, CPU, memory and output: it opens
 * what the header describes, which in a file from outside may be anything. */
int image_read_by_qemu(const char *path, struct image_info *out, struct err *e);

struct image_spec {
    const char *path, *format;
    int64_t virtual_size;
    const char *backing_file, *backing_format; /* NULL = none; raw has none */
    bool preallocate;
};
/*
 * Makes an empty image in `fd`, an empty file that was opened for writing and is known as spec->path, and
 * flushes it. No program is run. A full disk is ERR_NO_SPACE that names path, bytes needed and bytes free.
 */
int image_create(int fd, const struct image_spec *spec, struct err *e);

struct image_conversion {
    const char *source,
        *source_format; /* "raw", "qcow2"; its backing chain must have been checked */
    const char *target, *target_format; /* "raw", "qcow2", "vmdk", "vdi" */
    bool compress;
};
/* A flat copy by qemu-img convert, flushed; `target` may exist and is then overwritten. ERR_NO_SPACE. Takes
 * as long as it takes, two hours at most. */
int image_convert(const struct image_conversion *conversion, struct err *e);

/* Bytes by which a sparse image of this length may still grow; 0 for what cannot be read. */
int64_t image_growth(int fd, const char *format);
/* ERR_NO_SPACE for a file on this file system. */
int image_no_space(int fd, const char *path, int64_t needed, struct err *e);
