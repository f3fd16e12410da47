/* SPDX-License-Identifier: Apache-2.0 */
#include "virt/image_qcow2.h"

#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "lib/text.h"

enum {
    HEADER_SIZE = 104,
    HEADER_V2_SIZE = 72,
    BACKING_NAME_MAX = 1023,
    BACKING_FORMAT_MAX = 15, /* what QEMU takes */
    EXTENSIONS_MAX = 64,
};
#define EXTENSION_BACKING_FORMAT UINT32_C(0xe2792aca)

static const unsigned char magic[4] = {'Q', 'F', 'I', 0xfb};

static uint64_t big64(const unsigned char *p)
{
    uint64_t value = 0;

    memcpy(&value, p, sizeof(value));
    return be64toh(value);
}

static uint32_t big32(const unsigned char *p)
{
    uint32_t value = 0;

    memcpy(&value, p, sizeof(value));
    return be32toh(value);
}

/* --- reading ---------------------------------------------------------------------------------- */

bool image_has_qcow2_magic(int fd)
{
    unsigned char found[sizeof(magic)];

    return pread(fd, found, sizeof(found), 0) == (ssize_t)sizeof(found) &&
           memcmp(found, magic, sizeof(magic)) == 0;
}

int image_read_header(int fd, const char *path, struct image_header *out, struct err *e)
{
    unsigned char header[HEADER_SIZE] = {0};
    ssize_t length = pread(fd, header, sizeof(header), 0);
    uint32_t version = big32(header + 4);
    uint64_t size = big64(header + 24), incompatible = 0;

    if (length < HEADER_V2_SIZE || !image_has_qcow2_magic(fd) || version < 2 || version > 3)
        return err_set(e, ERR_DISK, "%s is recorded as qcow2 but has no header of one", path);
    if (version == 3 && length < 80)
        return err_set(e, ERR_DISK, "%s has a qcow2 header that is cut short", path);
    if (size > INT64_MAX)
        return err_set(e, ERR_DISK, "%s claims a size of %" PRIu64 " bytes", path, size);
    incompatible = version == 3 ? big64(header + 72) : 0;
    *out = (struct image_header){
        .virtual_size = (int64_t)size,
        .has_backing = big64(header + 8) != 0,
        .has_data_file = (incompatible & 4) != 0,
    };
    return 0;
}

int image_read_backing_name(int fd, const char *path, char **name, struct err *e)
{
    unsigned char fields[12] = {0};
    char text[BACKING_NAME_MAX + 1] = {0};
    struct image_header header;
    uint32_t length = 0;
    uint64_t offset = 0;

    if (image_read_header(fd, path, &header, e) < 0)
        return -1;
    if (!header.has_backing) {
        *name = NULL;
        return 0;
    }
    if (pread(fd, fields, sizeof(fields), 8) == (ssize_t)sizeof(fields)) {
        offset = big64(fields);
        length = big32(fields + 8);
    }
    if (length == 0 || length > BACKING_NAME_MAX || offset > INT32_MAX ||
        pread(fd, text, length, (off_t)offset) != (ssize_t)length)
        return err_set(e, ERR_DISK, "%s has a qcow2 header whose backing file cannot be read",
                       path);
    *name = text_dup(text);
    return 0;
}

/* Extensions lie between the header and the backing file's name; 0 ends them. */
static int read_backing_format(int fd, char **format)
{
    unsigned char header[HEADER_SIZE] = {0}, extension[8];
    char text[BACKING_FORMAT_MAX + 1] = {0};
    ssize_t got = pread(fd, header, sizeof(header), 0);
    uint64_t end = big64(header + 8), at = HEADER_V2_SIZE;

    if (big32(header + 4) == 3) {
        if (got < HEADER_SIZE)
            return -1;
        at = big32(header + 100);
    }
    for (int i = 0; i < EXTENSIONS_MAX && at + sizeof(extension) <= end; i++) {
        if (pread(fd, extension, sizeof(extension), (off_t)at) != (ssize_t)sizeof(extension))
            return -1;
        uint32_t type = big32(extension), length = big32(extension + 4);
        at += sizeof(extension);
        if (type == 0)
            return 0;
        if (length > end - at || (type == EXTENSION_BACKING_FORMAT && length > BACKING_FORMAT_MAX))
            return -1;
        if (type == EXTENSION_BACKING_FORMAT) {
            if (pread(fd, text, length, (off_t)at) != (ssize_t)length)
                return -1;
            *format = length ? text_dup(text) : NULL;
            return 0;
        }
        at += (length + UINT64_C(7)) & ~UINT64_C(7);
    }
    return 0;
}

int image_qcow2_backing(int fd, const char *path, char **name, char **format, struct err *e)
{
    _cleanup_(str_freep) char *found = NULL;
    _cleanup_(str_freep) char *told = NULL;

    if (image_read_backing_name(fd, path, &found, e) < 0)
        return -1;
    if (found && read_backing_format(fd, &told) < 0)
        return err_set(e, ERR_DISK, "%s has a qcow2 header whose extensions cannot be read", path);
    *name = STEAL(found);
    *format = STEAL(told);
    return 0;
}

/* --- making ----------------------------------------------------------------------------------- */

/*
 * Cluster 0 is the header, 1 the table of refcount blocks, 2 the only one of these, from 3 on the L1 table, of which
 * an entry stands for 512 MiB of the guest. What is zero is a hole.
 */
enum {
    CLUSTER_BITS = 16,
    CLUSTER = 1 << CLUSTER_BITS,
    L1_CLUSTER = 3,
    L1_ENTRY_BITS = CLUSTER_BITS + CLUSTER_BITS - 3,
    REFCOUNT_ORDER = 4,      /* 16 bits */
    L1_ENTRIES_MAX = 1 << 22 /* QEMU's limit of 32 MiB */
};
enum { MADE_HEADER_SIZE = 112, MADE_MAX = CLUSTER / 16, SECTOR = 512, EXTENT_HINT = 1 << 20 };

static void put64(unsigned char *p, uint64_t value)
{
    uint64_t big = htobe64(value);

    memcpy(p, &big, sizeof(big));
}

static void put32(unsigned char *p, uint32_t value)
{
    uint32_t big = htobe32(value);

    memcpy(p, &big, sizeof(big));
}

/* As qemu-img does it, against the fragments of what grows by clusters; XFS alone takes it. */
static void hint_extents(int fd)
{
    struct fsxattr attributes = {0};

    if (ioctl(fd, FS_IOC_FSGETXATTR, &attributes) < 0)
        return;
    attributes.fsx_xflags |= FS_XFLAG_EXTSIZE;
    attributes.fsx_extsize = EXTENT_HINT;
    (void)ioctl(fd, FS_IOC_FSSETXATTR, &attributes);
}

/* The header of what has no backing file yet. */
static void fill_header(unsigned char *p, int64_t virtual_size, uint32_t l1_entries)
{
    memcpy(p, magic, sizeof(magic));
    put32(p + 4, 3);
    put32(p + 20, CLUSTER_BITS);
    put64(p + 24, (uint64_t)virtual_size);
    put32(p + 36, l1_entries);
    put64(p + 40, L1_CLUSTER * CLUSTER);
    put64(p + 48, CLUSTER);
    put32(p + 56, 1); /* cluster of refcount blocks' table */
    put32(p + 96, REFCOUNT_ORDER);
    put32(p + 100, MADE_HEADER_SIZE);
}

/* The extension, the empty one that ends them, and the name after that; how long it is in all. */
static size_t fill_backing(unsigned char *p, const char *file, const char *format)
{
    size_t length = strlen(file), at = MADE_HEADER_SIZE;

    put32(p + at, EXTENSION_BACKING_FORMAT);
    put32(p + at + 4, (uint32_t)strlen(format));
    memcpy(p + at + 8, format, strlen(format));
    at += 8 + ((strlen(format) + 7) & ~(size_t)7) + 8;
    put64(p + 8, at);
    put32(p + 16, (uint32_t)length);
    memcpy(p + at, file, length);
    return at + length;
}

static int put(int fd, const unsigned char *data, size_t length, off_t at)
{
    ssize_t written = pwrite(fd, data, length, at);

    if (written >= 0 && written != (ssize_t)length)
        errno = ENOSPC;
    return written == (ssize_t)length ? 0 : -1;
}

static int put_refcounts(int fd, size_t clusters)
{
    unsigned char counts[2 * (L1_CLUSTER + L1_ENTRIES_MAX * 8 / CLUSTER)] = {0}, block[8];

    for (size_t i = 0; i < clusters; i++)
        counts[2 * i + 1] = 1;
    put64(block, 2 * CLUSTER);
    if (put(fd, block, sizeof(block), CLUSTER) < 0)
        return -1;
    return put(fd, counts, 2 * clusters, 2 * CLUSTER);
}

static int check_spec(const struct image_spec *spec, struct err *e)
{
    if (spec->virtual_size < 0 || spec->virtual_size % SECTOR != 0 ||
        spec->virtual_size > (int64_t)L1_ENTRIES_MAX << L1_ENTRY_BITS)
        return err_set(e, ERR_DISK,
                       "%s cannot have %jd bytes: allowed are multiples of %d up to %jd",
                       spec->path, (intmax_t)spec->virtual_size, SECTOR,
                       (intmax_t)L1_ENTRIES_MAX << L1_ENTRY_BITS);
    if (spec->backing_file && strlen(spec->backing_file) > BACKING_NAME_MAX)
        return err_set(e, ERR_DISK, "%s cannot have a backing file whose path has %zu bytes",
                       spec->path, strlen(spec->backing_file));
    return 0;
}

int image_qcow2_make(int fd, const struct image_spec *spec, struct err *e)
{
    unsigned char header[MADE_MAX] = {0};
    size_t length = MADE_HEADER_SIZE + 8;

    if (check_spec(spec, e) < 0)
        return -1;
    int64_t entry_bytes = INT64_C(1) << L1_ENTRY_BITS;
    size_t l1_entries = (size_t)((spec->virtual_size + entry_bytes - 1) / entry_bytes);
    if (l1_entries == 0)
        l1_entries = 1;
    size_t clusters = L1_CLUSTER + (l1_entries * 8 + CLUSTER - 1) / CLUSTER;
    fill_header(header, spec->virtual_size, (uint32_t)l1_entries);
    if (spec->backing_file)
        length = fill_backing(header, spec->backing_file, spec->backing_format);
    hint_extents(fd);
    if (ftruncate(fd, (off_t)clusters * CLUSTER) == 0 && put_refcounts(fd, clusters) == 0 &&
        put(fd, header, length, 0) == 0)
        return 0;
    if (errno == ENOSPC || errno == EDQUOT)
        return image_no_space(fd, spec->path, (int64_t)clusters * CLUSTER, e);
    return err_set_errno(e, ERR_DISK, errno, "%s cannot be written", spec->path);
}
