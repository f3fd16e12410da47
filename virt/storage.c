/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Directories of instances: are they free, whose are they, taking them away. Sizes are in
 * virt/storage_measure.c, the destination's preparation in virt/storage_prepare.c.
 */
#include "virt/storage.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/fault.h"
#include "lib/json.h"
#include "lib/text.h"
#include "virt/base_part.h"
#include "virt/marker.h"
#include "virt/paths.h"

/* --- the instance's directory ----------------------------------------------------------------- */

enum directory_kind { ABSENT, EMPTY, MARKED, FOREIGN };

static bool has_entries(int directory_fd)
{
    _cleanup_(paths_list_closep) DIR *dir = paths_list(directory_fd);

    for (const struct dirent *d = dir ? readdir(dir) : NULL; d; d = readdir(dir))
        if (strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0)
            return true;
    return !dir; /* what cannot be looked into is not ours to take */
}

static int look_at(const struct conf *conf, const char *uuid, enum directory_kind *kind,
                   char migration[MARKER_UUID_SIZE], struct err *e)
{
    _cleanup_(fd_closep) int fd = -1;
    struct err reason = ERR_INIT;
    bool marked = false;

    migration[0] = '\0';
    if (text_check_uuid(uuid, "instance", e) < 0)
        return -1;
    if (paths_open_directory(conf, uuid, false, &fd, &reason) < 0) {
        if (reason.sys == ENOENT) {
            *kind = ABSENT;
            return 0;
        }
        if (e)
            *e = reason;
        return -1;
    }
    if (marker_read(fd, uuid, &marked, migration, e) < 0)
        return -1;
    *kind = marked ? MARKED : has_entries(fd) ? FOREIGN : EMPTY;
    return 0;
}

static int foreign_directory(const struct conf *conf, const char *uuid, bool foreign, struct err *e)
{
    _cleanup_(str_freep) char *path = paths_text(conf, uuid, NULL);

    return err_set(e, ERR_DISK_EXISTS, "%s exists here and %s", path,
                   foreign ? "is not a leftover of a migration"
                           : "a domain of that instance is here");
}

int virt_storage_check_directory(const struct conf *conf, const char *instance_uuid,
                                 bool domain_exists_here, struct err *e)
{
    enum directory_kind kind = ABSENT;
    char migration[MARKER_UUID_SIZE];

    if (look_at(conf, instance_uuid, &kind, migration, e) < 0)
        return -1;
    if (kind == ABSENT || kind == EMPTY)
        return 0;
    if (kind == FOREIGN || domain_exists_here)
        return foreign_directory(conf, instance_uuid, kind == FOREIGN, e);
    return paths_remove_tree(conf, instance_uuid, e);
}

int virt_storage_look_directory(const struct conf *conf, const char *instance_uuid,
                                const char **found, struct err *e)
{
    enum directory_kind kind = ABSENT;
    char migration[MARKER_UUID_SIZE];

    if (look_at(conf, instance_uuid, &kind, migration, e) < 0)
        return -1;
    if (kind == FOREIGN)
        return foreign_directory(conf, instance_uuid, true, e);
    *found = kind == ABSENT  ? "there is none of the instance"
             : kind == EMPTY ? "it is there and empty"
                             : "a leftover of an earlier migration is there and would be removed";
    return 0;
}

int virt_storage_identity(const struct conf *conf, const char *instance_uuid,
                          struct virt_storage_identity *out, struct err *e)
{
    _cleanup_(fd_closep) int fd = -1;
    struct err reason = ERR_INIT;
    struct stat st;

    if (instance_uuid && text_check_uuid(instance_uuid, "instance", e) < 0)
        return -1;
    if ((instance_uuid ? paths_open_directory(conf, instance_uuid, false, &fd, &reason)
                       : paths_open_root(conf, &fd, &reason)) < 0) {
        if (instance_uuid && reason.sys == ENOENT) {
            *out = (struct virt_storage_identity){0};
            return 0;
        }
        if (e)
            *e = reason;
        return -1;
    }
    if (fstat(fd, &st) < 0)
        return err_set_errno(e, ERR_SYSTEM, errno, "the directory of instance %s cannot be read",
                             instance_uuid ? instance_uuid : "(all)");
    *out = (struct virt_storage_identity){
        .present = true,
        .inode = (int64_t)st.st_ino,
        .changed_s = (int64_t)st.st_mtim.tv_sec,
        .changed_ns = (int64_t)st.st_mtim.tv_nsec,
    };
    return 0;
}

int virt_storage_settle(const struct conf *conf, const char *instance_uuid, struct err *e)
{
    _cleanup_(fd_closep) int fd = -1;

    if (text_check_uuid(instance_uuid, "instance", e) < 0 ||
        paths_open_directory(conf, instance_uuid, false, &fd, e) < 0 ||
        fault_point("storage.settle", e) < 0)
        return -1;
    return marker_remove(fd, instance_uuid, e);
}

int virt_storage_remove(const struct conf *conf, const char *instance_uuid, struct err *e)
{
    if (fault_point("storage.remove", e) < 0)
        return -1;
    return paths_remove_tree_aside(conf, instance_uuid, e);
}

/* --- leftovers -------------------------------------------------------------------------------- */

int virt_storage_leftover_migration(const struct conf *conf, const char *instance_uuid, char **out,
                                    struct err *e)
{
    enum directory_kind kind = ABSENT;
    char migration[MARKER_UUID_SIZE];

    if (look_at(conf, instance_uuid, &kind, migration, e) < 0)
        return -1;
    if (kind != MARKED)
        return err_set(e, ERR_NO_MIGRATION, "the directory of instance %s belongs to no migration",
                       instance_uuid);
    *out = text_dup(migration);
    return 0;
}

char **virt_storage_leftovers(const struct conf *conf, struct err *e)
{
    _cleanup_(paths_list_closep) DIR *dir = NULL;
    _cleanup_(fd_closep) int root = -1;
    size_t count = 0;

    if (paths_open_root(conf, &root, e) < 0)
        return NULL;
    dir = paths_list(root);
    if (!dir) {
        err_set_errno(e, ERR_SYSTEM, errno, "instances_path cannot be read");
        return NULL;
    }
    char **names = NEW_ARRAY(char *, 1);
    for (const struct dirent *d = readdir(dir); d; d = readdir(dir)) {
        enum directory_kind kind = ABSENT;
        char migration[MARKER_UUID_SIZE];

        if (look_at(conf, d->d_name, &kind, migration, NULL) < 0 || kind != MARKED)
            continue;
        names = mem_resize(names, (count + 2) * sizeof(*names));
        names[count++] = text_dup(d->d_name);
        names[count] = NULL;
    }
    return names;
}

/* --- shared storage --------------------------------------------------------------------------- */

static int make_probe(int directory_fd, const char *directory, char **name, struct err *e)
{
    _cleanup_(fd_closep) int fd = -1;
    _cleanup_(str_freep) char *made = NULL;
    char random[17];

    text_random_hex(8, random);
    made = text_format("tmp%s", random);
    if (paths_open_file(directory_fd, directory, made, O_WRONLY | O_CREAT | O_EXCL, 0644, &fd, e) <
        0)
        return -1;
    *name = STEAL(made);
    return 0;
}

int virt_storage_probe_create(const struct conf *conf, char **name, struct err *e)
{
    _cleanup_(fd_closep) int root = -1;

    if (paths_open_root(conf, &root, e) < 0)
        return -1;
    return make_probe(root, "instances_path", name, e);
}

int virt_storage_probe_create_in(const struct conf *conf, const char *instance_uuid, char **name,
                                 struct err *e)
{
    _cleanup_(fd_closep) int fd = -1;
    _cleanup_(str_freep) char *made = NULL;
    struct err failure = ERR_INIT;

    if (paths_open_directory(conf, instance_uuid, false, &fd, &failure) < 0) {
        if (failure.sys != ENOENT) {
            if (e)
                *e = failure;
            return -1;
        }
        *name = NULL;
        return 0;
    }
    if (make_probe(fd, instance_uuid, &made, e) < 0)
        return -1;
    *name = paths_text(conf, instance_uuid, made);
    return 0;
}

/* "<instances_path>/<uuid>/<probe>": an evacuation's probe lies in the instance's directory (Nova's
 * check_instance_shared_storage); *probe is borrowed of `path`. An instances_path of another name is not shared. */
static bool split_probe(const struct conf *conf, const char *path, char uuid[37],
                        const char **probe)
{
    const char *root = conf_string(conf, CONF_DEFAULT_instances_path);
    size_t length = strlen(root);

    if (!text_starts_with(path, root) || path[length] != '/' || strlen(path) < length + 1 + 36 + 2)
        return false;
    snprintf(uuid, 37, "%.36s", path + length + 1);
    *probe = path + length + 1 + 36 + 1;
    return path[length + 1 + 36] == '/' && paths_check_directory(uuid, NULL) == 0;
}

static int open_probe_directory(const struct conf *conf, const char **name, int *fd, struct err *e)
{
    char uuid[37];
    struct err failure = ERR_INIT;

    if ((*name)[0] != '/')
        return paths_open_root(conf, fd, e);
    if (!split_probe(conf, *name, uuid, name))
        return 0;
    if (paths_open_directory(conf, uuid, false, fd, &failure) == 0 || failure.sys == ENOENT)
        return 0;
    if (e)
        *e = failure;
    return -1;
}

int virt_storage_probe_seen(const struct conf *conf, const char *name, bool *seen, struct err *e)
{
    _cleanup_(fd_closep) int root = -1;
    struct stat st;

    if (open_probe_directory(conf, &name, &root, e) < 0)
        return -1;
    if (root < 0) {
        *seen = false;
        return 0;
    }
    if (paths_check_probe(name, e) < 0)
        return -1;
    (void)futimens(root, NULL); /* a changed directory makes an NFS client look again */
    if (fstatat(root, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
        *seen = S_ISREG(st.st_mode);
    else if (errno == ENOENT)
        *seen = false;
    else
        return err_set_errno(e, ERR_SYSTEM, errno, "the probe file %s cannot be looked for", name);
    return 0;
}

void virt_storage_probe_remove(const struct conf *conf, const char *name)
{
    _cleanup_(fd_closep) int root = -1;

    if (open_probe_directory(conf, &name, &root, NULL) == 0 && root >= 0 &&
        paths_check_probe(name, NULL) == 0)
        (void)unlinkat(root, name, 0);
}

/* --- undo ------------------------------------------------------------------------------------- */

/* Only a directory that still has this migration's marker is removed: once the guest has it (settled), or
 * another migration has made it anew, the step has nothing to take back. */
static int undo_directory(void *aux, struct json_object *args, struct err *e)
{
    const struct conf *conf = aux;
    const char *instance = NULL, *migration = NULL;
    enum directory_kind kind = ABSENT;
    char owner[MARKER_UUID_SIZE];

    if (json_need_string(args, "instance", &instance, e) < 0 ||
        json_need_string(args, "migration", &migration, e) < 0 ||
        look_at(conf, instance, &kind, owner, e) < 0)
        return -1;
    if (kind == EMPTY || (kind == MARKED && (!*owner || strcmp(owner, migration) == 0)))
        return paths_remove_tree_aside(conf, instance, e);
    return 0;
}

static int undo_file(void *aux, struct json_object *args, struct err *e)
{
    const char *directory = NULL, *name = NULL;

    if (json_need_string(args, "directory", &directory, e) < 0 ||
        json_need_string(args, "name", &name, e) < 0)
        return -1;
    if (!base_part_is(name))
        return err_set(e, ERR_JOURNAL, "the undo step would remove %s, which is no unfinished copy",
                       name);
    return paths_remove_file(aux, directory, name, e);
}

struct undo_handler *virt_storage_undo_handlers(const struct conf *conf)
{
    struct undo_handler *rows = NEW_ARRAY(struct undo_handler, 3);

    rows[0] =
        (struct undo_handler){"storage.remove_directory", undo_directory, (void *)(uintptr_t)conf};
    rows[1] = (struct undo_handler){"storage.remove_file", undo_file, (void *)(uintptr_t)conf};
    return rows;
}
