/* SPDX-License-Identifier: Apache-2.0 */
#include "virt/paths.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "lib/close_aside.h"
#include "lib/text.h"

enum { TREE_DEPTH_MAX = 16, RACE_TRIES = 32, LARGE_BLOCKS = 1 << 11 /* 1 MiB */ };

#define DIRECTORY_FLAGS (O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW)

/* --- names ------------------------------------------------------------------------------------ */

int paths_check_file(const char *name, const char *what, struct err *e)
{
    return text_check_filename(name, what, e);
}

int paths_check_probe(const char *name, struct err *e)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_";
    _cleanup_(str_freep) char *shown = NULL;
    size_t length = name ? strnlen(name, 64) : 0;

    if (length > 3 && length < 64 && strncmp(name, "tmp", 3) == 0 &&
        strspn(name + 3, allowed) == length - 3)
        return 0;
    shown = name ? text_escape(name, 80) : text_dup("");
    return err_set(e, ERR_INVALID,
                   "the probe file \"%s\" is not \"tmp\" and 1 to 60 letters, digits and \"_\"",
                   shown);
}

int paths_check_directory(const char *name, struct err *e)
{
    if (text_equal(name, PATHS_BASE) || text_equal(name, PATHS_SNAPSHOTS))
        return 0;
    if (text_check_uuid(name, "instance", e) < 0)
        return -1;
    if (strpbrk(name, "ABCDEF"))
        return err_set(e, ERR_INVALID, "instance \"%s\" is not a UUID in lower case", name);
    return 0;
}

/* The image cache has the name that the administrator gave it, which paths_open_directory() checks. */
static const char *name_on_disk(const struct conf *conf, const char *directory)
{
    return text_equal(directory, PATHS_BASE) ? conf_string(conf, CONF_image_cache_subdirectory_name)
                                             : directory;
}

char *paths_text(const struct conf *conf, const char *directory, const char *name)
{
    const char *root = conf_string(conf, CONF_DEFAULT_instances_path);
    size_t length = strlen(root);

    while (length > 1 && root[length - 1] == '/')
        length--;
    directory = name_on_disk(conf, directory);
    if (!name)
        return text_format("%.*s/%s", (int)length, root, directory);
    return text_format("%.*s/%s/%s", (int)length, root, directory, name);
}

static int check_peer_root(const char *root, struct err *e)
{
    char **parts = text_split(root, '/');
    bool good = root[0] == '/' && strlen(root) < 4096;

    for (size_t i = 1; good && parts[i]; i++) {
        good = *parts[i] && strcmp(parts[i], ".") != 0 && strcmp(parts[i], "..") != 0;
        for (const char *c = parts[i]; good && *c; c++)
            good = (unsigned char)*c >= 0x20 && *c != 0x7f;
    }
    text_vector_free(parts);
    if (good)
        return 0;
    _cleanup_(str_freep) char *shown = text_escape(root, 120);
    return err_set(e, ERR_DISK, "the source's directory \"%s\" is not a plain absolute path",
                   shown);
}

int paths_split_peer(const char *path, const char *instance_uuid, char **root, char **name,
                     struct err *e)
{
    const char *slash = strrchr(path, '/');
    _cleanup_(str_freep) char *directory = NULL;
    _cleanup_(str_freep) char *found = NULL;
    char *parent = NULL;

    if (!slash || slash == path)
        return err_set(e, ERR_DISK, "the disk's path on the source is not an absolute path");
    directory = text_dup_n(path, (size_t)(slash - path));
    if (check_peer_root(directory, e) < 0 || paths_check_file(slash + 1, "file of a disk", e) < 0)
        return -1;
    parent = strrchr(directory, '/');
    if (parent != directory && strcmp(parent + 1, instance_uuid) == 0)
        found = text_dup_n(directory, (size_t)(parent - directory));
    if (root)
        *root = STEAL(found);
    if (name)
        *name = text_dup(slash + 1);
    return 0;
}

/* --- opening ---------------------------------------------------------------------------------- */

/* Without openat2: every component by itself, none of them a symlink, none of them upwards. */
static int walk_beneath(int directory_fd, const char *relative, int flags, mode_t mode)
{
    char **parts = text_split(relative, '/');
    int fd = -1, at = directory_fd;

    if (!*relative || *relative == '/')
        errno = EXDEV;
    for (size_t i = 0; parts[i] && *relative && *relative != '/'; i++) {
        bool last = !parts[i + 1];

        if (!*parts[i] || strcmp(parts[i], ".") == 0 || strcmp(parts[i], "..") == 0) {
            errno = EXDEV;
            fd = -1;
        } else {
            fd = openat(at, parts[i], last ? flags | O_NOFOLLOW | O_CLOEXEC : DIRECTORY_FLAGS,
                        last ? mode : 0);
        }
        if (at != directory_fd)
            (void)close(at);
        at = fd;
        if (fd < 0 || last)
            break;
    }
    text_vector_free(parts);
    return fd;
}

/* The kernel gives EAGAIN when something was renamed under its eyes; it is tried a bounded number of
 * times, because a renamer must not be able to hold us. */
int paths_open_beneath(int directory_fd, const char *relative, int flags, mode_t mode)
{
    struct open_how how = {
        .flags = (uint64_t)(unsigned)(flags | O_CLOEXEC | O_NOFOLLOW),
        .mode = flags & O_CREAT ? mode : 0,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV,
    };
    int fd = -1;

    for (int i = 0; i < RACE_TRIES; i++) {
        fd = (int)syscall(SYS_openat2, directory_fd, relative, &how, sizeof(how));
        if (fd >= 0 || (errno != EAGAIN && errno != EINTR))
            break;
    }
    if (fd < 0 && (errno == ENOSYS || errno == EPERM))
        return walk_beneath(directory_fd, relative, flags, mode);
    return fd;
}

int paths_open_root(const struct conf *conf, int *fd, struct err *e)
{
    const char *path = conf_string(conf, CONF_DEFAULT_instances_path);
    int result = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (result < 0)
        return err_set_errno(e, ERR_SYSTEM, errno, "instances_path %s cannot be opened", path);
    *fd = result;
    return 0;
}

int paths_open_directory(const struct conf *conf, const char *name, bool create, int *fd,
                         struct err *e)
{
    bool base = text_equal(name, PATHS_BASE);
    _cleanup_(fd_closep) int root = -1;
    int result = -1;

    if (paths_check_directory(name, e) < 0)
        return -1;
    name = name_on_disk(conf, name);
    if ((base && paths_check_file(name, "image_cache.subdirectory_name", e) < 0) ||
        paths_open_root(conf, &root, e) < 0)
        return -1;
    if (create && mkdirat(root, name, 0755) < 0 && errno != EEXIST)
        return err_set_errno(e, ERR_SYSTEM, errno, "directory %s cannot be made below %s", name,
                             conf_string(conf, CONF_DEFAULT_instances_path));
    /* The image cache has a name of ours and may be a file system of its own. */
    result = base ? openat(root, name, DIRECTORY_FLAGS)
                  : paths_open_beneath(root, name, DIRECTORY_FLAGS, 0);
    if (result < 0)
        return err_set_errno(e, ERR_SYSTEM, errno, "directory %s below %s cannot be opened", name,
                             conf_string(conf, CONF_DEFAULT_instances_path));
    *fd = result;
    return 0;
}

int paths_open_file(int directory_fd, const char *directory, const char *name, int flags,
                    mode_t mode, int *fd, struct err *e)
{
    _cleanup_(fd_closep) int result = -1;
    struct stat st;

    if (!text_equal(name, PATHS_MARKER) && paths_check_file(name, "file", e) < 0)
        return -1;
    result = paths_open_beneath(directory_fd, name, flags | O_NONBLOCK, mode);
    if (result < 0)
        return err_set_errno(e, errno == ENOSPC || errno == EDQUOT ? ERR_NO_SPACE : ERR_SYSTEM,
                             errno, "file %s/%s cannot be opened", directory, name);
    if (fstat(result, &st) < 0)
        return err_set_errno(e, ERR_SYSTEM, errno, "file %s/%s cannot be read", directory, name);
    if (!S_ISREG(st.st_mode))
        return err_set(e, ERR_DISK, "%s/%s is not a regular file", directory, name);
    *fd = result;
    result = -1;
    return 0;
}

bool paths_exists(int directory_fd, const char *name)
{
    struct stat st;

    return fstatat(directory_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

DIR *paths_list(int directory_fd)
{
    int copy = openat(directory_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = copy < 0 ? NULL : fdopendir(copy);

    if (!dir)
        fd_closep(&copy);
    return dir;
}

int paths_sync(int directory_fd, const char *directory, struct err *e)
{
    if (fsync(directory_fd) < 0)
        return err_set_errno(e, ERR_SYSTEM, errno, "directory %s cannot be flushed", directory);
    return 0;
}

/* --- removing --------------------------------------------------------------------------------- */

static bool is_dots(const char *name)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

static int remove_below(int directory_fd, int depth, bool aside, struct err *e);

/* On a file system of the network a file that somebody holds keeps a name, and its directory cannot go. */
static bool is_large_and_local(int fd)
{
    static const __fsword_t local[] = {EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC, BTRFS_SUPER_MAGIC,
                                       F2FS_SUPER_MAGIC, TMPFS_MAGIC};
    struct statfs fs;
    struct stat st;

    if (fstatfs(fd, &fs) < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) ||
        st.st_blocks < LARGE_BLOCKS)
        return false;
    for (size_t i = 0; i < ARRAY_LEN(local); i++)
        if (fs.f_type == local[i])
            return true;
    return false;
}

/* The content of a file that is held by its path goes when that is closed. */
static int unlink_aside(int directory_fd, const char *name)
{
    _cleanup_(fd_closep) int held = openat(directory_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);

    if (held < 0 || !is_large_and_local(held))
        return unlinkat(directory_fd, name, 0);
    if (unlinkat(directory_fd, name, 0) < 0)
        return -1;
    close_aside(held);
    held = -1;
    return 0;
}

/* unlinkat() removes a symlink itself; only what is a directory by O_NOFOLLOW is gone into. */
static int remove_entry(int directory_fd, const char *name, int depth, bool aside, struct err *e)
{
    _cleanup_(str_freep) char *shown = text_escape(name, 80);
    _cleanup_(fd_closep) int below = -1;

    if ((aside ? unlink_aside(directory_fd, name) : unlinkat(directory_fd, name, 0)) == 0 ||
        errno == ENOENT)
        return 0;
    if (errno != EISDIR && errno != EPERM)
        return err_set_errno(e, ERR_SYSTEM, errno, "\"%s\" cannot be removed", shown);
    if (depth >= TREE_DEPTH_MAX)
        return err_set(e, ERR_DISK, "\"%s\" lies deeper than the %d levels that are removed", shown,
                       TREE_DEPTH_MAX);
    below = paths_open_beneath(directory_fd, name, DIRECTORY_FLAGS, 0);
    if (below < 0)
        return err_set_errno(e, ERR_SYSTEM, errno, "\"%s\" cannot be removed", shown);
    if (remove_below(below, depth + 1, aside, e) < 0)
        return -1;
    if (unlinkat(directory_fd, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
        return err_set_errno(e, ERR_SYSTEM, errno, "directory \"%s\" cannot be removed", shown);
    return 0;
}

/* The marker goes last: a removal that is cut short leaves a directory that is still known as ours. */
static int remove_below(int directory_fd, int depth, bool aside, struct err *e)
{
    _cleanup_(paths_list_closep) DIR *dir = NULL;
    int copy = paths_open_beneath(directory_fd, ".", DIRECTORY_FLAGS, 0);

    if (copy < 0)
        copy = fcntl(directory_fd, F_DUPFD_CLOEXEC, 0);
    dir = copy < 0 ? NULL : fdopendir(copy);
    if (!dir) {
        int reason = errno;

        if (copy >= 0)
            (void)close(copy);
        return err_set_errno(e, ERR_SYSTEM, reason, "a directory cannot be read");
    }
    for (const struct dirent *entry = readdir(dir); entry; entry = readdir(dir))
        if (!is_dots(entry->d_name) && strcmp(entry->d_name, PATHS_MARKER) != 0 &&
            remove_entry(directory_fd, entry->d_name, depth, aside, e) < 0)
            return -1;
    return remove_entry(directory_fd, PATHS_MARKER, depth, aside, e);
}

static int remove_tree(const struct conf *conf, const char *name, bool aside, struct err *e)
{
    const char *path = conf_string(conf, CONF_DEFAULT_instances_path);
    _cleanup_(fd_closep) int root = -1;
    _cleanup_(fd_closep) int directory = -1;

    if (text_check_uuid(name, "instance", e) < 0 || paths_check_directory(name, e) < 0 ||
        paths_open_root(conf, &root, e) < 0)
        return -1;
    directory = paths_open_beneath(root, name, DIRECTORY_FLAGS, 0);
    if (directory < 0 && errno == ENOENT)
        return 0;
    if (directory < 0)
        return err_set_errno(e, ERR_SYSTEM, errno, "directory %s below %s cannot be opened", name,
                             path);
    if (remove_below(directory, 1, aside, e) < 0)
        return err_prefix(e, "removing %s/%s: ", path, name);
    if (unlinkat(root, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
        return err_set_errno(e, ERR_SYSTEM, errno, "directory %s/%s cannot be removed", path, name);
    return paths_sync(root, path, e);
}

int paths_remove_tree(const struct conf *conf, const char *name, struct err *e)
{
    return remove_tree(conf, name, false, e);
}

int paths_remove_tree_aside(const struct conf *conf, const char *name, struct err *e)
{
    return remove_tree(conf, name, true, e);
}

int paths_remove_below(int directory_fd, const char *name, struct err *e)
{
    if (paths_check_file(name, "file", e) < 0)
        return -1;
    return remove_entry(directory_fd, name, 1, false, e);
}

int paths_remove_file(const struct conf *conf, const char *directory, const char *name,
                      struct err *e)
{
    _cleanup_(fd_closep) int fd = -1;
    struct err reason = ERR_INIT;

    if (paths_check_directory(directory, e) < 0 || paths_check_file(name, "file", e) < 0)
        return -1;
    if (paths_open_directory(conf, directory, false, &fd, &reason) < 0) {
        if (reason.sys == ENOENT)
            return 0;
        if (e)
            *e = reason;
        return -1;
    }
    if (unlinkat(fd, name, 0) < 0 && errno != ENOENT)
        return err_set_errno(e, ERR_SYSTEM, errno, "file %s/%s cannot be removed", directory, name);
    return 0;
}
