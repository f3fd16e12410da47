/* SPDX-License-Identifier: Apache-2.0 */
#include "virt/image_check.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/attributes.h"
#include "lib/log.h"
#include "lib/text.h"
#include "virt/image.h"

LOG_MODULE(virt);

#define IMAGE_SIZE_MAX (INT64_C(1) << 45)

enum { MAGIC_SIZE = 16, KERNEL_SIZE_MAX = 1 << 30 };

/* Formats that QEMU knows by these bytes, from its block drivers' probe functions. */
static const struct magic {
    off_t offset;
    size_t length;
    const char *bytes, *name;
} magics[] = {
    {0, 4, "QFI\xfb", "qcow2"},
    {0, 4, "QED\0", "qed"},
    {0, 4, "KDMV", "vmdk"},
    {0, 4, "COWD", "vmdk"},
    {0, 16, "# Disk Descripto", "vmdk"},
    {0, 8, "vhdxfile", "vhdx"},
    {0, 8, "conectix", "vpc"},
    {0x40, 4, "\x7f\x10\xda\xbe", "vdi"},
    {0, 6, "LUKS\xba\xbe", "luks"},
    {0, 15, "WithoutFreeSpac", "parallels"},
    {0, 15, "WithouFreSpacEx", "parallels"},
    {0, 15, "#!/bin/sh\n#V2.0", "cloop"},
    {0, 9, "Bochs Vir", "bochs"},
};

static const char *const formats[][2] = {
    {"raw", "raw"}, {"qcow2", "qcow2"}, {"iso", "raw"},
    {"ami", "raw"}, {"aki", "raw"},     {"ari", "raw"},
};

static int unacceptable(struct err *e)
{
    return err_set_class(e, "ImageUnacceptable", NULL);
}

static const char *looks_like(int fd)
{
    for (size_t i = 0; i < ARRAY_LEN(magics); i++) {
        char found[MAGIC_SIZE];

        if (pread(fd, found, magics[i].length, magics[i].offset) == (ssize_t)magics[i].length &&
            memcmp(found, magics[i].bytes, magics[i].length) == 0)
            return magics[i].name;
    }
    return NULL;
}

static const char *qemu_format(const char *disk_format)
{
    for (size_t i = 0; i < ARRAY_LEN(formats); i++)
        if (text_equal(formats[i][0], disk_format))
            return formats[i][1];
    return NULL;
}

static int check_header(int fd, const char *path, struct err *e)
{
    struct image_header header;

    if (image_read_header(fd, path, &header, e) < 0)
        return -1;
    if (header.has_backing || header.has_data_file)
        return err_set(e, ERR_DISK, "image %s names a %s file, which is not allowed", path,
                       header.has_backing ? "backing" : "data");
    if (header.virtual_size > IMAGE_SIZE_MAX)
        return err_set(e, ERR_DISK, "image %s claims a size of %jd bytes; %jd are allowed", path,
                       (intmax_t)header.virtual_size, (intmax_t)IMAGE_SIZE_MAX);
    return 0;
}

/* The header alone can lie about what follows; qemu-img opens what it describes. */
static int check_qcow2(int fd, const char *path, const char *image, struct err *e)
{
    struct image_info info = {0};
    struct err why = ERR_INIT;
    bool has_backing = false;

    if (!image_has_qcow2_magic(fd))
        return err_set(e, ERR_DISK, "image %s is recorded as qcow2 but has no header of one",
                       image);
    if (check_header(fd, image, e) < 0)
        return -1;
    if (image_read_by_qemu(path, &info, &why) < 0) {
        log_err(LOG_LEVEL_WARNING, &why, "image %s", image);
        return err_set(e, ERR_DISK, "image %s cannot be read as qcow2", image);
    }
    has_backing = info.backing_file != NULL;
    image_info_clear(&info);
    if (has_backing)
        return err_set(e, ERR_DISK, "image %s names a backing file, which is not allowed", image);
    return 0;
}

static int check_raw(int fd, const char *path, const char *disk_format, struct err *e)
{
    const char *other = looks_like(fd);

    if (other)
        return err_set(e, ERR_DISK, "image %s has the disk format %s but looks like %s", path,
                       disk_format, other);
    return 0;
}

static int check_size(int fd, const char *path, bool kernel, struct err *e)
{
    intmax_t allowed = kernel ? (intmax_t)KERNEL_SIZE_MAX : (intmax_t)IMAGE_SIZE_MAX;
    struct stat st;

    if (fstat(fd, &st) < 0)
        return err_set_errno(e, ERR_DISK, errno, "image %s cannot be read", path);
    if (st.st_size == 0)
        return err_set(e, ERR_DISK, "image %s is empty", path);
    if (st.st_size > allowed)
        return err_set(e, ERR_DISK, "image %s has %jd bytes; %jd are allowed", path,
                       (intmax_t)st.st_size, allowed);
    return 0;
}

int image_check_upload(int fd, const char *path, const char *image, const char *disk_format,
                       bool kernel, const char **format, struct err *e)
{
    const char *found = qemu_format(disk_format);
    int result = 0;

    if (!found) {
        _cleanup_(str_freep) char *shown = text_escape(disk_format ? disk_format : "(none)", 32);

        err_set(e, ERR_DISK,
                "image %s has the disk format %s; raw, qcow2, iso, ami, aki and ari can be used",
                image, shown);
        return unacceptable(e);
    }
    if (kernel)
        found = "raw";
    if (check_size(fd, image, kernel, e) < 0)
        return unacceptable(e);
    if (strcmp(found, "qcow2") == 0)
        result = check_qcow2(fd, path, image, e);
    else if (!kernel)
        result = check_raw(fd, image, disk_format, e);
    if (result < 0)
        return unacceptable(e);
    *format = found;
    return 0;
}

int image_base_format(int fd, const char *path, const char **format, struct err *e)
{
    if (!image_has_qcow2_magic(fd)) {
        *format = "raw";
        return 0;
    }
    if (check_header(fd, path, e) < 0)
        return -1;
    *format = "qcow2";
    return 0;
}
