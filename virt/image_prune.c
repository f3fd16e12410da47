/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Removing what the image cache has no use for. In use is what the caller's images are named by, and what
 * any disk below instances_path lies on: other hosts may share the directory, and an instance may have
 * been rebuilt from another image since its record was read.
 */
#include "virt/instance_disks.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/fault.h"
#include "lib/text.h"
#include "virt/base_part.h"
#include "virt/image.h"
#include "virt/instance_base.h"
#include "virt/paths.h"

enum { UNFINISHED_AGE_S = 86400 };

struct prune {
    const struct conf *conf;
    int directory_fd;
    char **used; /* names below _base */
    size_t used_count;
    unsigned removed;
};

/* --- what is used ----------------------------------------------------------------------------- */

static void use(struct prune *p, const char *name)
{
    p->used = mem_resize(p->used, (p->used_count + 1) * sizeof(*p->used));
    p->used[p->used_count++] = text_dup(name);
}

static bool is_used(const struct prune *p, const char *name)
{
    for (size_t i = 0; i < p->used_count; i++)
        if (strcmp(p->used[i], name) == 0)
            return true;
    return false;
}

/* A guest that writes a header of qcow2 into its raw disk can keep a base here by that, nothing else. */
static void use_backing(struct prune *p, int directory_fd, const char *name)
{
    _cleanup_(fd_closep) int fd = -1;
    _cleanup_(str_freep) char *backing = NULL;
    const char *base = NULL;

    if (paths_open_file(directory_fd, "instance", name, O_RDONLY, 0, &fd, NULL) < 0 ||
        !image_has_qcow2_magic(fd) || image_read_backing_name(fd, name, &backing, NULL) < 0 ||
        !backing)
        return;
    base = strrchr(backing, '/');
    use(p, base ? base + 1 : backing);
}

static void use_disks_of(struct prune *p, int directory_fd)
{
    _cleanup_(paths_list_closep) DIR *dir = paths_list(directory_fd);

    for (const struct dirent *d = dir ? readdir(dir) : NULL; d; d = readdir(dir))
        if (text_check_filename(d->d_name, "file", NULL) == 0)
            use_backing(p, directory_fd, d->d_name);
}

/* Directories of instances and those that Nova makes of them: <uuid>_resize, <uuid>_del. */
static bool is_instance(const char *name)
{
    _cleanup_(str_freep) char *uuid = text_dup_n(name, strnlen(name, 36));

    return text_check_uuid(uuid, "instance", NULL) == 0;
}

static int use_all_disks(struct prune *p, struct err *e)
{
    _cleanup_(fd_closep) int root = -1;
    _cleanup_(paths_list_closep) DIR *dir = NULL;

    if (paths_open_root(p->conf, &root, e) < 0)
        return -1;
    dir = paths_list(root);
    if (!dir)
        return err_set_errno(e, ERR_SYSTEM, errno, "instances_path cannot be read");
    for (const struct dirent *d = readdir(dir); d; d = readdir(dir)) {
        _cleanup_(fd_closep) int fd = -1;

        if (!is_instance(d->d_name))
            continue;
        fd = paths_open_beneath(root, d->d_name, O_RDONLY | O_DIRECTORY, 0);
        if (fd >= 0)
            use_disks_of(p, fd);
        else if (errno != ENOENT)
            return err_set_errno(e, ERR_SYSTEM, errno, "directory %s cannot be read", d->d_name);
    }
    return 0;
}

static int use_images(struct prune *p, const char *const *ids, struct err *e)
{
    char name[IMAGE_CACHE_NAME_SIZE];

    for (size_t i = 0; ids && ids[i]; i++) {
        if (image_cache_name(ids[i], name, e) < 0)
            return -1;
        use(p, name);
    }
    return 0;
}

/* --- what goes -------------------------------------------------------------------------------- */

static bool is_original(const char *name)
{
    return strspn(name, "0123456789abcdef") == IMAGE_CACHE_NAME_SIZE - 1 &&
           name[IMAGE_CACHE_NAME_SIZE - 1] == '\0';
}

static bool is_resized(const char *name)
{
    return strspn(name, "0123456789abcdef") == IMAGE_CACHE_NAME_SIZE - 1 &&
           name[IMAGE_CACHE_NAME_SIZE - 1] == '_';
}

/* Seconds without use after which a file goes; -1 for what is none of ours. */
static int64_t age_limit(const struct prune *p, const char *name)
{
    if (base_part_is(name))
        return UNFINISHED_AGE_S;
    if (is_resized(name))
        return conf_int(p->conf, CONF_image_cache_remove_unused_resized_minimum_age_seconds);
    if (is_original(name) || text_starts_with(name, "swap_") ||
        text_starts_with(name, "ephemeral_"))
        return conf_int(p->conf, CONF_image_cache_remove_unused_original_minimum_age_seconds);
    return -1;
}

static bool is_older(int fd, int64_t seconds)
{
    struct stat st;

    return fstat(fd, &st) == 0 &&
           clock_realtime_us() / USEC_PER_SEC - (int64_t)st.st_mtim.tv_sec >= seconds;
}

/* Somebody who makes an overlay holds a shared lock, somebody who fetches an exclusive one. */
static int remove_old(struct prune *p, const char *name, int64_t limit, struct err *e)
{
    _cleanup_(fd_closep) int fd = -1;

    if (paths_open_file(p->directory_fd, PATHS_BASE, name, O_RDONLY, 0, &fd, NULL) < 0 ||
        flock(fd, LOCK_EX | LOCK_NB) < 0 || !is_older(fd, limit))
        return 0;
    if (fault_point("image_cache.remove", e) < 0)
        return -1;
    if (unlinkat(p->directory_fd, name, 0) < 0 && errno != ENOENT)
        return err_set_errno(e, ERR_SYSTEM, errno, "image base %s cannot be removed", name);
    p->removed++;
    return 0;
}

static void renew(const struct prune *p, const char *name)
{
    (void)utimensat(p->directory_fd, name, NULL, AT_SYMLINK_NOFOLLOW);
}

static int sweep(struct prune *p, struct err *e)
{
    _cleanup_(paths_list_closep) DIR *dir = paths_list(p->directory_fd);

    if (!dir)
        return err_set_errno(e, ERR_SYSTEM, errno, "the image cache cannot be read");
    for (const struct dirent *d = readdir(dir); d; d = readdir(dir)) {
        int64_t limit = age_limit(p, d->d_name);

        if (limit >= 0 && is_used(p, d->d_name))
            renew(p, d->d_name);
        else if (limit >= 0 && remove_old(p, d->d_name, limit, e) < 0)
            return -1;
    }
    return 0;
}

static void prune_clear(struct prune *p)
{
    for (size_t i = 0; i < p->used_count; i++)
        free(p->used[i]);
    free(p->used);
    fd_closep(&p->directory_fd);
}

int image_cache_prune(const struct conf *conf, const char *const *in_use, unsigned *removed,
                      struct err *e)
{
    _cleanup_(prune_clear) struct prune p = {.conf = conf, .directory_fd = -1};
    struct err reason = ERR_INIT;

    if (conf_bool(conf, CONF_image_cache_remove_unused_base_images) &&
        paths_open_directory(conf, PATHS_BASE, false, &p.directory_fd, &reason) < 0 &&
        reason.sys != ENOENT) {
        if (e)
            *e = reason;
        return -1;
    }
    if (p.directory_fd >= 0 &&
        (use_images(&p, in_use, e) < 0 || use_all_disks(&p, e) < 0 || sweep(&p, e) < 0))
        return -1;
    if (removed)
        *removed = p.removed;
    return 0;
}
