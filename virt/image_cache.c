/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Images of Glance below _base. The unfinished file is its own lock: whoever has computed-<sha1>.part
 * flocked fills it. Its name goes away with the lock held, so one who waited for a lock looks whether the
 * file it has got is still the one of that name.
 */
#include "virt/instance_disks.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/fault.h"
#include "lib/text.h"
#include "virt/base_part.h"
#include "virt/image.h"
#include "virt/image_check.h"
#include "virt/instance_base.h"
#include "virt/paths.h"

enum { LOCK_TRIES = 8 };

struct image_cache_fetch {
    struct conf *conf;
    char *image_id;
    char *name, *part, *raw_part; /* below _base */
    int directory_fd, fd;
};

static void fetch_free(struct image_cache_fetch *fetch)
{
    fd_closep(&fetch->fd); /* and with it the lock */
    fd_closep(&fetch->directory_fd);
    conf_unref(fetch->conf);
    free(fetch->image_id);
    free(fetch->name);
    free(fetch->part);
    free(fetch->raw_part);
    free(fetch);
}

static void fetch_freep(struct image_cache_fetch **fetch)
{
    if (*fetch)
        fetch_free(*fetch);
}

/* --- looking ---------------------------------------------------------------------------------- */

static bool is_here(const struct image_cache_fetch *fetch)
{
    _cleanup_(fd_closep) int fd = -1;

    if (!paths_exists(fetch->directory_fd, fetch->name) ||
        paths_open_file(fetch->directory_fd, PATHS_BASE, fetch->name, O_RDONLY, 0, &fd, NULL) < 0)
        return false;
    (void)futimens(fd, NULL);
    return true;
}

static bool still_named(const struct image_cache_fetch *fetch, int fd)
{
    struct stat mine, named;

    return fstat(fd, &mine) == 0 &&
           fstatat(fetch->directory_fd, fetch->part, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
           mine.st_dev == named.st_dev && mine.st_ino == named.st_ino;
}

/* *fd stays -1 when somebody else has the lock. */
static int lock_part(const struct image_cache_fetch *fetch, int *fd, struct err *e)
{
    for (int i = 0; i < LOCK_TRIES; i++) {
        _cleanup_(fd_closep) int part = -1;

        if (paths_open_file(fetch->directory_fd, PATHS_BASE, fetch->part, O_RDWR | O_CREAT, 0600,
                            &part, e) < 0)
            return -1;
        if (flock(part, LOCK_EX | LOCK_NB) < 0)
            return errno == EWOULDBLOCK
                       ? 0
                       : err_set_errno(e, ERR_SYSTEM, errno, "%s cannot be locked", fetch->part);
        if (!still_named(fetch, part))
            continue;
        *fd = part;
        part = -1;
        return 0;
    }
    return 0;
}

static int start_fetch(struct image_cache_fetch *fetch, enum image_cache_state *state,
                       struct err *e)
{
    int fd = -1;

    if (lock_part(fetch, &fd, e) < 0)
        return -1;
    fetch->fd = fd;
    *state = fd < 0 ? IMAGE_CACHE_BUSY : IMAGE_CACHE_TO_FETCH;
    if (fd < 0)
        return 0;
    if (is_here(fetch)) { /* somebody has just ended */
        (void)unlinkat(fetch->directory_fd, fetch->part, 0);
        *state = IMAGE_CACHE_HERE;
        return 0;
    }
    if (ftruncate(fd, 0) < 0)
        return err_set_errno(e, ERR_SYSTEM, errno, "%s cannot be emptied", fetch->part);
    return 0;
}

int image_cache_look(const struct conf *conf, const char *image_id, enum image_cache_state *state,
                     struct image_cache_fetch **fetch, struct err *e)
{
    _cleanup_(fetch_freep) struct image_cache_fetch *f = NULL;
    _cleanup_(str_freep) char *raw_name = NULL;
    enum image_cache_state found = IMAGE_CACHE_HERE;
    char name[IMAGE_CACHE_NAME_SIZE];

    if (image_cache_name(image_id, name, e) < 0)
        return -1;
    f = NEW(struct image_cache_fetch);
    f->conf = conf_ref(conf);
    f->image_id = text_dup(image_id);
    f->name = text_dup(name);
    f->part = base_part_name(name);
    raw_name = text_format("%s-raw", name);
    f->raw_part = base_part_name(raw_name);
    f->directory_fd = f->fd = -1;
    if (paths_open_directory(conf, PATHS_BASE, true, &f->directory_fd, e) < 0 ||
        (!is_here(f) && start_fetch(f, &found, e) < 0))
        return err_prefix(e, "image %s: ", image_id);
    *state = found;
    *fetch = found == IMAGE_CACHE_TO_FETCH ? STEAL(f) : NULL;
    return 0;
}

int image_cache_fd(const struct image_cache_fetch *fetch)
{
    return fetch->fd;
}

/* --- putting in place ------------------------------------------------------------------------- */

static void remove_parts(const struct image_cache_fetch *fetch)
{
    (void)unlinkat(fetch->directory_fd, fetch->raw_part, 0);
    (void)unlinkat(fetch->directory_fd, fetch->part, 0);
}

static int publish(const struct image_cache_fetch *fetch, const char *part, struct err *e)
{
    _cleanup_(fd_closep) int fd = -1;

    if (paths_open_file(fetch->directory_fd, PATHS_BASE, part, O_RDONLY, 0, &fd, e) < 0)
        return -1;
    if (fchmod(fd, 0644) < 0 || fsync(fd) < 0)
        return err_set_errno(e, errno == ENOSPC ? ERR_NO_SPACE : ERR_DISK, errno,
                             "%s cannot be flushed", part);
    if (fault_point("image_cache.publish", e) < 0)
        return -1;
    return base_part_publish(fetch->directory_fd, part, fetch->name, e);
}

static int convert(const struct image_cache_fetch *fetch, const char *format, struct err *e)
{
    _cleanup_(str_freep) char *source = paths_text(fetch->conf, PATHS_BASE, fetch->part);
    _cleanup_(str_freep) char *target = paths_text(fetch->conf, PATHS_BASE, fetch->raw_part);
    const struct image_conversion conversion = {
        .source = source,
        .source_format = format,
        .target = target,
        .target_format = "raw",
    };
    _cleanup_(fd_closep) int fd = -1;

    (void)unlinkat(fetch->directory_fd, fetch->raw_part, 0);
    if (paths_open_file(fetch->directory_fd, PATHS_BASE, fetch->raw_part, O_RDWR | O_CREAT | O_EXCL,
                        0600, &fd, e) < 0 ||
        fault_point("image_cache.convert", e) < 0)
        return -1;
    return image_convert(&conversion, e);
}

static int put(const struct image_cache_fetch *fetch, const char *disk_format, bool kernel,
               struct err *e)
{
    _cleanup_(str_freep) char *path = paths_text(fetch->conf, PATHS_BASE, fetch->part);
    const char *format = NULL;

    if (image_check_upload(fetch->fd, path, fetch->image_id, disk_format, kernel, &format, e) < 0)
        return -1;
    if (strcmp(format, "raw") == 0 || !conf_bool(fetch->conf, CONF_DEFAULT_force_raw_images))
        return publish(fetch, fetch->part, e);
    if (convert(fetch, format, e) < 0)
        return -1;
    return publish(fetch, fetch->raw_part, e);
}

int image_cache_put(struct image_cache_fetch *fetch, const char *disk_format, bool kernel,
                    struct err *e)
{
    int result = put(fetch, disk_format, kernel, e);

    remove_parts(fetch);
    fetch_free(fetch);
    return result;
}

void image_cache_abandon(struct image_cache_fetch *fetch)
{
    if (!fetch)
        return;
    remove_parts(fetch);
    fetch_free(fetch);
}
