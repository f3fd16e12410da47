/* SPDX-License-Identifier: Apache-2.0 */
#include "virt/storage_base.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <openssl/evp.h>

#include "lib/fault.h"
#include "lib/text.h"
#include "virt/base_part.h"
#include "virt/image.h"
#include "virt/paths.h"

#define BASE_SIZE_MAX (INT64_C(1) << 45)

enum { BLOCK_SIZE = 64 * 1024, DIGEST_BYTES_SHOWN = 8 };

struct base {
    const struct conf *conf;
    const struct virt_storage_plan *plan;
    const struct storage_disk *disk;
    int directory_fd;
};

int storage_transfer(const struct virt_storage_plan *plan, const struct image_transfer *transfer,
                     struct err *e)
{
    image_transfer_fn run = plan->transfer ? plan->transfer : image_transfer_libvirt;
    struct image_transfer wanted = *transfer;
    struct stat st;

    wanted.called_off = plan->called_off;
    if (run(plan->transfer_aux, &wanted, e) < 0)
        return -1;
    if (fsync(transfer->fd) < 0 && (errno == ENOSPC || errno == EDQUOT))
        return image_no_space(transfer->fd, transfer->path, transfer->size_max, e);
    if (fstat(transfer->fd, &st) < 0)
        return err_set_errno(e, ERR_DISK, errno, "%s cannot be read", transfer->path);
    if (transfer->size >= 0 && st.st_size != transfer->size)
        return err_set(e, ERR_DISK, "%s has %jd bytes after the copy, expected were %jd",
                       transfer->path, (intmax_t)st.st_size, (intmax_t)transfer->size);
    return 0;
}

/* --- checks of a base ------------------------------------------------------------------------- */

static int check_format(const struct base *b, int fd, struct err *e)
{
    const struct storage_disk *d = b->disk;
    struct image_header header;

    if (strcmp(d->base_format, "raw") == 0) {
        if (!d->base_format_told && image_has_qcow2_magic(fd))
            return err_set(e, ERR_DISK,
                           "image base %s looks like qcow2 and the source does not tell its format",
                           d->base);
        return 0;
    }
    if (image_read_header(fd, d->base, &header, e) < 0)
        return -1;
    if (header.has_backing || header.has_data_file)
        return err_set(e, ERR_DISK, "image base %s has a %s of its own, which is not allowed",
                       d->base, header.has_backing ? "backing file" : "data file");
    return 0;
}

/* A base that is here is used by other guests: it is taken as it is or not at all. */
static int check_present(const struct base *b, int fd, struct err *e)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        return err_set_errno(e, ERR_DISK, errno, "image base %s cannot be read", b->disk->base);
    if (b->disk->base_size >= 0 && st.st_size != b->disk->base_size)
        return err_set(e, ERR_DISK, "image base %s has %jd bytes here and %jd on the source",
                       b->disk->base, (intmax_t)st.st_size, (intmax_t)b->disk->base_size);
    return check_format(b, fd, e);
}

/* --- content ---------------------------------------------------------------------------------- */

static bool is_zero(const unsigned char *block, size_t length)
{
    return length == 0 || (block[0] == 0 && memcmp(block, block + 1, length - 1) == 0);
}

static bool digest_number(EVP_MD_CTX *ctx, int64_t number)
{
    return EVP_DigestUpdate(ctx, &number, sizeof(number)) == 1;
}

/* The start of the next data at or after `offset`, down to a whole block; holes are passed over. */
static off_t next_data(int fd, off_t offset)
{
    off_t data = lseek(fd, offset, SEEK_DATA);

    if (data < 0)
        return errno == ENXIO ? -1 : offset;
    return data - data % BLOCK_SIZE < offset ? offset : data - data % BLOCK_SIZE;
}

static bool digest_blocks(int fd, off_t size, EVP_MD_CTX *ctx, unsigned char *block)
{
    for (off_t at = next_data(fd, 0); at >= 0 && at < size; at = next_data(fd, at)) {
        ssize_t n = pread(fd, block, BLOCK_SIZE, at);

        if (n < 0)
            return false;
        if (n == 0)
            break;
        if (!is_zero(block, (size_t)n) &&
            (!digest_number(ctx, at) || EVP_DigestUpdate(ctx, block, (size_t)n) != 1))
            return false;
        at += BLOCK_SIZE;
    }
    return true;
}

/* SHA-256 over length and all blocks that are not zero, so that holes and zeroes are the same. */
static int digest(int fd, const char *name, char hex[2 * EVP_MAX_MD_SIZE + 1], struct err *e)
{
    _cleanup_(mem_freep) unsigned char *block = mem_new(BLOCK_SIZE);
    unsigned char value[EVP_MAX_MD_SIZE];
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    unsigned length = 0;
    struct stat st;
    bool good = ctx && fstat(fd, &st) == 0 && EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) == 1 &&
                digest_number(ctx, st.st_size) && digest_blocks(fd, st.st_size, ctx, block) &&
                EVP_DigestFinal_ex(ctx, value, &length) == 1;

    EVP_MD_CTX_free(ctx);
    if (!good)
        return err_set_errno(e, ERR_DISK, errno, "image base %s cannot be read", name);
    for (unsigned i = 0; i < length; i++)
        (void)snprintf(hex + 2 * (size_t)i, 3, "%02x", value[i]);
    return 0;
}

/* --- copying ---------------------------------------------------------------------------------- */

static int download(const struct base *b, int fd, const char *part, struct err *e)
{
    _cleanup_(str_freep) char *directory = NULL;
    _cleanup_(str_freep) char *expected = NULL;
    struct image_transfer transfer = {
        .source_uri = b->plan->source_uri,
        .name = b->disk->base,
        .size = b->disk->base_size,
        .size_max = BASE_SIZE_MAX,
        .fd = fd,
        .path = part,
    };

    directory = text_format("%s/%s", b->disk->root ? b->disk->root : "", PATHS_BASE);
    expected = text_format("%s/%s", directory, b->disk->base);
    if (!b->disk->root || !text_equal(expected, b->disk->base_path))
        return err_set(e, ERR_DISK,
                       "image base %s is not here and lies outside the source's %s directory, from "
                       "where alone it may be copied",
                       b->disk->base, PATHS_BASE);
    if (!b->plan->source_uri)
        return err_set(e, ERR_DISK,
                       "image base %s cannot be copied: no connection to the source's libvirt",
                       b->disk->base);
    transfer.directory = directory;
    if (storage_transfer(b->plan, &transfer, e) < 0)
        return -1;
    return check_format(b, fd, e);
}

/* The name under which a base that each host makes for itself is kept: its own if nothing or the same
 * content is there, else one with a digest. */
static int choose_name(const struct base *b, int part_fd, char **name, struct err *e)
{
    char mine[2 * EVP_MAX_MD_SIZE + 1], other[2 * EVP_MAX_MD_SIZE + 1];
    _cleanup_(fd_closep) int fd = -1;
    const char *base = b->disk->base;

    if (!storage_base_is_local(base) || !paths_exists(b->directory_fd, base)) {
        *name = text_dup(base);
        return 0;
    }
    if (paths_open_file(b->directory_fd, PATHS_BASE, base, O_RDONLY, 0, &fd, e) < 0 ||
        digest(part_fd, base, mine, e) < 0 || digest(fd, base, other, e) < 0)
        return -1;
    *name = strcmp(mine, other) == 0 ? text_dup(base)
                                     : text_format("%s_%.*s", base, 2 * DIGEST_BYTES_SHOWN, mine);
    return paths_check_file(*name, "image base", e);
}

static int copy_to_part(const struct base *b, const char *part, char **name, struct err *e)
{
    _cleanup_(fd_closep) int fd = -1;

    if (paths_open_file(b->directory_fd, PATHS_BASE, part, O_RDWR | O_CREAT | O_EXCL, 0644, &fd,
                        e) < 0 ||
        download(b, fd, part, e) < 0 || choose_name(b, fd, name, e) < 0 ||
        fault_point("storage.publish_base", e) < 0)
        return -1;
    return base_part_publish(b->directory_fd, part, *name, e);
}

static int copy_base(const struct base *b, struct undo *undo, char **name, struct err *e)
{
    _cleanup_(str_freep) char *part = NULL;
    _cleanup_(str_freep) char *chosen = NULL;
    int result = 0;

    if (base_part_begin(undo, &part, e) < 0)
        return -1;
    result = copy_to_part(b, part, &chosen, e);
    (void)unlinkat(b->directory_fd, part, 0);
    if (result < 0)
        return -1;
    *name = STEAL(chosen);
    return 0;
}

int storage_base_prepare(const struct conf *conf, const struct virt_storage_plan *plan,
                         const struct storage_disk *disk, struct undo *undo, char **path,
                         struct err *e)
{
    struct base b = {.conf = conf, .plan = plan, .disk = disk};
    _cleanup_(fd_closep) int directory_fd = -1;
    _cleanup_(fd_closep) int fd = -1;
    _cleanup_(str_freep) char *name = NULL;

    if (paths_open_directory(conf, PATHS_BASE, true, &directory_fd, e) < 0)
        return -1;
    b.directory_fd = directory_fd;
    if (!paths_exists(directory_fd, disk->base) || storage_base_is_local(disk->base)) {
        if (copy_base(&b, undo, &name, e) < 0)
            return -1;
    } else {
        name = text_dup(disk->base);
    }
    if (paths_open_file(directory_fd, PATHS_BASE, name, O_RDONLY, 0, &fd, e) < 0 ||
        check_present(&b, fd, e) < 0)
        return -1;
    (void)futimens(fd, NULL); /* an image cache removes what was not used for long */
    *path = paths_text(conf, PATHS_BASE, name);
    return 0;
}
