/* SPDX-License-Identifier: Apache-2.0 */
#include "virt/config_drive_image.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <json-c/linkhash.h>

#include "lib/clock.h"
#include "lib/fault.h"
#include "lib/json.h"
#include "lib/process.h"
#include "lib/text.h"
#include "virt/paths.h"

#define TREE_NAME "config-drive.tmp"

enum {
    DEPTH_MAX = 8,
    FILES_MAX = 4096,
    BYTES_MAX = 64 << 20, /* also the size of a vfat drive (nova: CONFIGDRIVESIZE_BYTES) */
    TOP_MAX = 16,
    ISO_MAGIC_OFFSET = 0x8001
};

static const struct process_limits limits = {
    .timeout_us = 60 * USEC_PER_SEC,
    .cpu_seconds = 30,
    .address_space = UINT64_C(1) << 30,
};

struct drive {
    const struct conf *conf;
    const char *instance_uuid;
    int directory_fd, tree_fd;
    struct json_object *files;
    char *path, *tree_path;
};

static void drive_clear(struct drive *d)
{
    fd_closep(&d->tree_fd);
    free(d->path);
    free(d->tree_path);
}

/* --- the tree --------------------------------------------------------------------------------- */

static int check_name(const char *name, struct err *e)
{
    char **parts = text_split(name, '/');
    size_t depth = text_vector_length(parts);
    int result = 0;

    if (depth > DEPTH_MAX)
        result = err_set(e, ERR_INVALID, "a file of a config drive lies %zu deep; %d are allowed",
                         depth, DEPTH_MAX);
    for (size_t i = 0; parts[i] && result == 0; i++)
        result = paths_check_file(parts[i], "file of a config drive", e);
    text_vector_free(parts);
    return result;
}

static int check_files(struct json_object *files, struct err *e)
{
    int64_t bytes = 0;

    if (!json_object_is_type(files, json_type_object))
        return err_set(e, ERR_INVALID, "the files of a config drive are no JSON object");
    if (json_object_object_length(files) > FILES_MAX)
        return err_set(e, ERR_INVALID, "a config drive of %d files; %d are allowed",
                       json_object_object_length(files), FILES_MAX);
    json_object_object_foreach (files, name, content) {
        if (check_name(name, e) < 0)
            return -1;
        if (!json_object_is_type(content, json_type_string))
            return err_set(e, ERR_INVALID, "%s of a config drive is no text", name);
        bytes += json_object_get_string_len(content);
    }
    if (bytes > BYTES_MAX)
        return err_set(e, ERR_INVALID, "a config drive of %jd bytes; %d are allowed",
                       (intmax_t)bytes, BYTES_MAX);
    return 0;
}

static int make_parents(int tree_fd, const char *name, struct err *e)
{
    for (const char *slash = strchr(name, '/'); slash; slash = strchr(slash + 1, '/')) {
        _cleanup_(str_freep) char *parent = text_dup_n(name, (size_t)(slash - name));

        if (mkdirat(tree_fd, parent, 0700) < 0 && errno != EEXIST)
            return err_set_errno(e, ERR_SYSTEM, errno, "%s of a config drive cannot be made",
                                 parent);
    }
    return 0;
}

static int write_file(int tree_fd, const char *name, struct json_object *content, struct err *e)
{
    const char *data = json_object_get_string(content);
    size_t length = (size_t)json_object_get_string_len(content);
    _cleanup_(fd_closep) int fd = -1;

    if (make_parents(tree_fd, name, e) < 0)
        return -1;
    fd = paths_open_beneath(tree_fd, name, O_WRONLY | O_CREAT | O_EXCL, 0600);
    if (fd < 0)
        return err_set_errno(e, ERR_SYSTEM, errno, "%s of a config drive cannot be made", name);
    while (length > 0) {
        ssize_t n = write(fd, data, length);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_set_errno(e, errno == ENOSPC ? ERR_NO_SPACE : ERR_SYSTEM, errno,
                                 "%s of a config drive cannot be written", name);
        data += n;
        length -= (size_t)n;
    }
    return 0;
}

static int make_tree(struct drive *d, struct err *e)
{
    if (paths_remove_below(d->directory_fd, TREE_NAME, e) < 0)
        return -1;
    if (mkdirat(d->directory_fd, TREE_NAME, 0700) < 0)
        return err_set_errno(e, ERR_SYSTEM, errno, "%s cannot be made", d->tree_path);
    d->tree_fd = paths_open_beneath(d->directory_fd, TREE_NAME, O_RDONLY | O_DIRECTORY, 0);
    if (d->tree_fd < 0)
        return err_set_errno(e, ERR_SYSTEM, errno, "%s cannot be opened", d->tree_path);
    json_object_object_foreach (d->files, name, content)
        if (write_file(d->tree_fd, name, content, e) < 0)
            return -1;
    return 0;
}

/* --- the image -------------------------------------------------------------------------------- */

static int make_iso(const struct drive *d, int fd, struct err *e)
{
    const char *program = conf_string(d->conf, CONF_DEFAULT_mkisofs_cmd);
    const char *const argv[] = {program,
                                "-o",
                                d->path,
                                "-ldots",
                                "-allow-lowercase",
                                "-allow-multidot",
                                "-l",
                                "-publisher",
                                "computed",
                                "-quiet",
                                "-J",
                                "-r",
                                "-V",
                                "config-2",
                                d->tree_path,
                                NULL};
    char magic[5] = {0};

    if (process_run(argv, &limits, NULL, e) < 0)
        return err_prefix(e, "DEFAULT.mkisofs_cmd: ");
    if (pread(fd, magic, sizeof(magic), ISO_MAGIC_OFFSET) != (ssize_t)sizeof(magic) ||
        memcmp(magic, "CD001", sizeof(magic)) != 0)
        return err_set(e, ERR_DISK, "%s made no ISO 9660 image of %s", program, d->path);
    return 0;
}

/* The first components of the names, each once. */
static size_t top_names(const struct drive *d, char *top[TOP_MAX])
{
    size_t count = 0;

    json_object_object_foreach (d->files, name, content) {
        _cleanup_(str_freep) char *first = text_dup_n(name, strcspn(name, "/"));
        size_t i = 0;

        (void)content;
        while (i < count && strcmp(top[i], first) != 0)
            i++;
        if (i == count && count < TOP_MAX)
            top[count++] = STEAL(first);
    }
    return count;
}

static int copy_into_vfat(const struct drive *d, struct err *e)
{
    char *top[TOP_MAX] = {NULL};
    size_t count = top_names(d, top);
    int result = 0;

    for (size_t i = 0; i < count; i++) {
        _cleanup_(str_freep) char *from = text_format("%s/%s", d->tree_path, top[i]);
        const char *const argv[] = {"mcopy", "-s", "-m", "-i", d->path, from, "::", NULL};

        if (result == 0)
            result = process_run(argv, &limits, NULL, e);
        free(top[i]);
    }
    return result;
}

static int make_vfat(const struct drive *d, int fd, struct err *e)
{
    const char *const argv[] = {"mkfs.vfat", "-n", "config-2", d->path, NULL};

    if (ftruncate(fd, BYTES_MAX) < 0)
        return err_set_errno(e, ERR_DISK, errno, "%s cannot be made %d bytes long", d->path,
                             BYTES_MAX);
    if (process_run(argv, &limits, NULL, e) < 0 || copy_into_vfat(d, e) < 0)
        return err_prefix(e, "DEFAULT.config_drive_format vfat: ");
    return 0;
}

static int make_image(struct drive *d, struct err *e)
{
    bool vfat = text_equal(conf_string(d->conf, CONF_DEFAULT_config_drive_format), "vfat");
    _cleanup_(fd_closep) int fd = -1;

    if (make_tree(d, e) < 0 || fault_point("config_drive.make", e) < 0 ||
        paths_open_file(d->directory_fd, d->instance_uuid, CONFIG_DRIVE_NAME,
                        O_RDWR | O_CREAT | O_EXCL, 0600, &fd, e) < 0 ||
        (vfat ? make_vfat(d, fd, e) : make_iso(d, fd, e)) < 0)
        return -1;
    if (fsync(fd) < 0)
        return err_set_errno(e, errno == ENOSPC ? ERR_NO_SPACE : ERR_DISK, errno,
                             "%s cannot be flushed", d->path);
    return 0;
}

int config_drive_image_make(const struct conf *conf, const char *instance_uuid, int directory_fd,
                            struct json_object *files, struct err *e)
{
    _cleanup_(drive_clear) struct drive d = {
        .conf = conf,
        .instance_uuid = instance_uuid,
        .directory_fd = directory_fd,
        .tree_fd = -1,
        .files = files,
    };
    struct err reason = ERR_INIT;
    int result = 0;

    if (check_files(files, e) < 0)
        return -1;
    d.path = paths_text(conf, instance_uuid, CONFIG_DRIVE_NAME);
    d.tree_path = paths_text(conf, instance_uuid, TREE_NAME);
    result = make_image(&d, e);
    /* what lay in it may be secret: not to be rid of it is a failure too */
    if (paths_remove_below(directory_fd, TREE_NAME, &reason) < 0 && result == 0) {
        if (e)
            *e = reason;
        result = -1;
    }
    return result < 0 ? err_prefix(e, "config drive: ") : 0;
}
