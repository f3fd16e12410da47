/* SPDX-License-Identifier: Apache-2.0 */
#include "virt/instance_base.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <openssl/evp.h>

#include "lib/clock.h"
#include "lib/fault.h"
#include "lib/process.h"
#include "lib/text.h"
#include "virt/base_part.h"
#include "virt/image.h"
#include "virt/paths.h"

static const struct process_limits mkfs_limits = {
    .timeout_us = 600 * USEC_PER_SEC,
    .address_space = UINT64_C(2) << 30,
};

/* --- names ------------------------------------------------------------------------------------ */

/* MD5 and SHA-1 name files here, they protect nothing. */
static void hex_digest(const EVP_MD *type, const char *text, size_t bytes, char *hex)
{
    unsigned char value[EVP_MAX_MD_SIZE] = {0};
    unsigned length = 0;

    (void)EVP_Digest(text, strlen(text), value, &length, type, NULL);
    for (size_t i = 0; i < bytes; i++)
        (void)snprintf(hex + 2 * i, 3, "%02x", value[i]);
}

int image_cache_name(const char *image_id, char name[IMAGE_CACHE_NAME_SIZE], struct err *e)
{
    if (text_check_uuid(image_id, "image", e) < 0)
        return -1;
    hex_digest(EVP_sha1(), image_id, 20, name);
    return 0;
}

int64_t blank_size(const struct blank *blank)
{
    return blank->amount * 1024 * 1024 * (blank->kind == BLANK_SWAP ? 1 : 1024);
}

int blank_file_system(const struct conf *conf, const char *wanted, const char *os_type,
                      const char **fs, struct err *e)
{
    static const char *const made[] = {"ext2", "ext3", "ext4", "xfs", "vfat"};
    const char *by_conf = conf_string(conf, CONF_DEFAULT_default_ephemeral_format);
    const char *chosen = wanted && *wanted ? wanted : by_conf;

    if (!chosen || !*chosen)
        chosen = text_equal(os_type, "linux") ? "ext4" : "vfat";
    for (size_t i = 0; i < ARRAY_LEN(made); i++)
        if (strcmp(made[i], chosen) == 0) {
            *fs = made[i];
            return 0;
        }
    _cleanup_(str_freep) char *shown = text_escape(chosen, 32);
    return err_set(e, ERR_INVALID,
                   "an ephemeral disk cannot be made with %s: ext2, ext3, ext4, xfs and vfat can",
                   shown);
}

char *blank_name(const struct blank *blank)
{
    char hex[9];

    if (blank->kind == BLANK_SWAP)
        return text_format("swap_%" PRId64, blank->amount);
    hex_digest(EVP_md5(), blank->fs, 4, hex);
    return text_format("ephemeral_%" PRId64 "_%.7s", blank->amount, hex);
}

/* --- making ----------------------------------------------------------------------------------- */

static int run(const char *const argv[], int fd, const char *path, struct err *e)
{
    if (process_run(argv, &mkfs_limits, NULL, e) < 0) {
        if (e && strstr(e->text, "No space left"))
            return image_no_space(fd, path, INT64_C(1) << 26, e);
        return err_prefix(e, "%s of %s: ", argv[0], path);
    }
    return 0;
}

static int make_fs(const struct blank *blank, int fd, const char *path, struct err *e)
{
    const char *const swap[] = {"mkswap", path, NULL};
    const char *const vfat[] = {"mkfs.vfat", "-n", blank->label, path, NULL};
    const char *const xfs[] = {"mkfs.xfs", "-q", "-f", "-L", blank->label, path, NULL};
    const char *const ext[] = {"mke2fs", "-q",         "-F", "-t", blank->fs,
                               "-L",     blank->label, path, NULL};

    if (blank->kind == BLANK_SWAP)
        return run(swap, fd, path, e);
    if (strcmp(blank->fs, "vfat") == 0)
        return run(vfat, fd, path, e);
    return run(strcmp(blank->fs, "xfs") == 0 ? xfs : ext, fd, path, e);
}

int blank_make(const struct blank *blank, int fd, const char *path, struct err *e)
{
    if (ftruncate(fd, (off_t)blank_size(blank)) < 0)
        return err_set_errno(e, ERR_DISK, errno, "%s cannot be made %" PRId64 " bytes long", path,
                             blank_size(blank));
    if (make_fs(blank, fd, path, e) < 0)
        return -1;
    if (fsync(fd) < 0)
        return err_set_errno(e, errno == ENOSPC ? ERR_NO_SPACE : ERR_DISK, errno,
                             "%s cannot be flushed", path);
    return 0;
}

/* --- in the cache ----------------------------------------------------------------------------- */

static int make_part(const struct conf *conf, const struct blank *blank, int directory_fd,
                     const char *part, struct err *e)
{
    _cleanup_(str_freep) char *path = paths_text(conf, PATHS_BASE, part);
    _cleanup_(str_freep) char *name = blank_name(blank);
    _cleanup_(fd_closep) int fd = -1;

    if (paths_open_file(directory_fd, PATHS_BASE, part, O_RDWR | O_CREAT | O_EXCL, 0644, &fd, e) <
            0 ||
        fault_point("image_cache.make_blank", e) < 0 || blank_make(blank, fd, path, e) < 0)
        return -1;
    return base_part_publish(directory_fd, part, name, e);
}

int blank_base(const struct conf *conf, const struct blank *blank, struct undo *undo, struct err *e)
{
    _cleanup_(str_freep) char *name = blank_name(blank);
    _cleanup_(str_freep) char *part = NULL;
    _cleanup_(fd_closep) int directory_fd = -1;
    int result = 0;

    if (paths_open_directory(conf, PATHS_BASE, true, &directory_fd, e) < 0)
        return -1;
    if (paths_exists(directory_fd, name))
        return 0;
    if (base_part_begin(undo, &part, e) < 0)
        return -1;
    result = make_part(conf, blank, directory_fd, part, e);
    (void)unlinkat(directory_fd, part, 0);
    return result;
}
