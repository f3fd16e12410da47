/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The only code that turns names that came over the wire into files. A name is one path component, checked
 * by its type; the kernel then resolves it below an open directory with openat2(RESOLVE_BENEATH |
 * RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV), so that neither "..", nor a planted symlink, nor a mount can lead
 * out of instances_path, however fast somebody renames things meanwhile. Where the kernel or a sandbox has
 * no openat2 the same is done component by component with O_NOFOLLOW.
 *
 *     instances_path/                 paths_open_root()
 *       _base/<image>                 PATHS_BASE, whatever [image_cache] subdirectory_name calls it
 *       snapshots/<name>              PATHS_SNAPSHOTS
 *       <instance uuid>/<file>        the uuid
 *       tmp<name>                     probe files of shared storage
 *
 * All functions block on the disk; any thread.
 */
#pragma once

#include <stdbool.h>
#include <dirent.h>
#include <stdint.h>
#include <sys/types.h>

#include "conf/conf.h"
#include "lib/err.h"

#define PATHS_BASE      "_base"
#define PATHS_SNAPSHOTS "snapshots"
#define PATHS_MARKER    ".computed-migration"

/* Name checks; ERR_INVALID names `what`. */
int paths_check_file(const char *name, const char *what, struct err *e);
int paths_check_probe(const char *name, struct err *e); /* tmp + 1 to 60 of [A-Za-z0-9_] */
/* The name of a directory below instances_path: a UUID in lower case, PATHS_BASE or PATHS_SNAPSHOTS. */
int paths_check_directory(const char *name, struct err *e);

/* instances_path itself, which the administrator may have made a symlink. */
int paths_open_root(const struct conf *conf, int *fd, struct err *e);
/*
 * A directory below it. ERR_SYSTEM with sys ENOENT when it is not there. With `create` it is made first
 * (mode 0755), which is no error if it exists.
 */
int paths_open_directory(const struct conf *conf, const char *name, bool create, int *fd,
                         struct err *e);
/*
 * A regular file below an open directory; `flags` as for open(2), O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK are
 * added; anything else than a regular file is refused. `directory` is only for messages.
 */
int paths_open_file(int directory_fd, const char *directory, const char *name, int flags,
                    mode_t mode, int *fd, struct err *e);
/* The kernel's part of it, for any relative path; returns an fd or -1 with errno. Exposed for tests. */
int paths_open_beneath(int directory_fd, const char *relative, int flags, mode_t mode);

/* True if something of that name is in the directory, whatever it is. */
bool paths_exists(int directory_fd, const char *name);

/* The entries of an open directory from the first one on, by a descriptor of its own; NULL with errno. */
DIR *paths_list(int directory_fd);
static inline void paths_list_closep(DIR **dir)
{
    if (*dir)
        (void)closedir(*dir);
}

/* The file's name for other programs and for domain XML: "<instances_path>/<directory>/<name>", or the
 * directory itself when name is NULL. Names must have been checked; the caller frees. */
char *paths_text(const struct conf *conf, const char *directory, const char *name);

/*
 * Takes the peer's path of an instance's file apart: "<anything>/<uuid>/<name>". *root is what stands
 * before the uuid, which must be absolute and without "." and "..", *name is checked. NULLs are left out.
 * ERR_DISK if the path has another form; *root alone stays NULL if only the directory is not the uuid's.
 */
int paths_split_peer(const char *path, const char *instance_uuid, char **root, char **name,
                     struct err *e);

/* Flushes names of a directory. */
int paths_sync(int directory_fd, const char *directory, struct err *e);

/*
 * Removes what is below an open directory and then the directory itself from its parent: never follows a
 * symlink, never leaves the file system, at most 16 levels deep. What is not there is success.
 */
int paths_remove_tree(const struct conf *conf, const char *name, struct err *e);
/* The same, but on local file systems the room that the files took is given back a little later, on other threads: that
 * of a disk of some GiB takes a while. */
int paths_remove_tree_aside(const struct conf *conf, const char *name, struct err *e);
/* The same for one directory (or file) of an open directory. */
int paths_remove_below(int directory_fd, const char *name, struct err *e);
/* Removes one file of a directory below instances_path; what is not there is success. */
int paths_remove_file(const struct conf *conf, const char *directory, const char *name,
                      struct err *e);
