/* SPDX-License-Identifier: Apache-2.0 */
#include "virt/take_over.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <json-c/linkhash.h>

#include "lib/json.h"
#include "lib/text.h"
#include "virt/disk_info.h"
#include "virt/image.h"
#include "virt/paths.h"

enum { UUID_LENGTH = 36, BASE_NAME_LENGTH = 40 };

struct look {
    const struct conf *conf;
    int cache_fd; /* -1 = no cache */
    struct json_object *instances, *bases, *others, *problems, *notes;
};

static void tell(struct json_object *list, char *sentence)
{
    json_object_array_add(list, json_object_new_string(sentence));
    free(sentence);
}

static const char *file_of(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

/* --- one disk --------------------------------------------------------------------------------- */

static void check_backing(const struct look *l, const char *uuid, const char *name,
                          const char *backing, struct json_object *problems)
{
    const char *base = file_of(backing);
    _cleanup_(str_freep) char *shown = text_escape(backing, 160);
    _cleanup_(str_freep) char *expected = NULL;

    if (paths_check_file(base, "base", NULL) == 0)
        expected = paths_text(l->conf, PATHS_BASE, base);
    if (!text_equal(expected, backing))
        tell(problems, text_format("%s of instance %s lies on %s, which is not in the image cache",
                                   name, uuid, shown));
    else if (l->cache_fd < 0 || !paths_exists(l->cache_fd, base))
        tell(problems,
             text_format("%s of instance %s lies on %s, which is missing", name, uuid, shown));
}

static void check_qcow2(const struct look *l, const char *uuid, const char *name, int fd,
                        struct json_object *problems)
{
    _cleanup_(str_freep) char *backing = NULL;
    struct image_header header;
    struct err e = ERR_INIT;

    if (image_read_header(fd, name, &header, &e) < 0 ||
        image_read_backing_name(fd, name, &backing, &e) < 0)
        tell(problems, text_format("instance %s: %s", uuid, e.text));
    else if (header.has_data_file)
        tell(problems, text_format("%s of instance %s keeps its data in another file, which is not "
                                   "handled",
                                   name, uuid));
    else if (backing)
        check_backing(l, uuid, name, backing, problems);
}

static void look_at_disk(const struct look *l, const char *uuid, int directory_fd, const char *name,
                         const char *format, struct json_object *problems)
{
    _cleanup_(fd_closep) int fd = -1;
    struct err e = ERR_INIT;

    if (image_check_format(format, name, &e) < 0 ||
        paths_open_file(directory_fd, uuid, name, O_RDONLY, 0, &fd, &e) < 0)
        tell(problems, text_format("instance %s: %s", uuid, e.text));
    else if (strcmp(format, "qcow2") == 0)
        check_qcow2(l, uuid, name, fd, problems);
}

/* --- one instance ----------------------------------------------------------------------------- */

static struct json_object *list_files(int directory_fd)
{
    struct json_object *files = json_object_new_array();
    _cleanup_(paths_list_closep) DIR *dir = paths_list(directory_fd);

    for (const struct dirent *d = dir ? readdir(dir) : NULL; d; d = readdir(dir)) {
        _cleanup_(str_freep) char *shown = text_escape(d->d_name, 80);

        if (strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0)
            json_object_array_add(files, json_object_new_string(shown));
    }
    return files;
}

static struct json_object *list_disks(const struct look *l, const char *uuid, int directory_fd,
                                      struct json_object *problems)
{
    _cleanup_(json_putp) struct json_object *info = disk_info_read(directory_fd);
    struct json_object *disks = json_object_new_array();

    if (!info) {
        if (paths_exists(directory_fd, "disk"))
            tell(problems, text_format("instance %s has a disk but no disk.info that tells its "
                                       "format",
                                       uuid));
        return disks;
    }
    json_object_object_foreach (info, path, format) {
        struct json_object *disk = json_object_new_object();
        const char *name = file_of(path), *text = json_object_get_string(format);

        json_add_string(disk, "name", name);
        json_add_string(disk, "format", text);
        json_object_array_add(disks, disk);
        look_at_disk(l, uuid, directory_fd, name, text, problems);
    }
    return disks;
}

static void look_at_instance(const struct look *l, int root, const char *uuid)
{
    struct json_object *instance = json_object_new_object();
    struct json_object *problems = json_object_new_array();
    _cleanup_(fd_closep) int fd = paths_open_beneath(root, uuid, O_RDONLY | O_DIRECTORY, 0);

    json_add_string(instance, "uuid", uuid);
    if (fd < 0) {
        tell(problems, text_format("the directory of instance %s cannot be opened: %s", uuid,
                                   strerrordesc_np(errno)));
    } else {
        json_add(instance, "disks", list_disks(l, uuid, fd, problems));
        json_add(instance, "files", list_files(fd));
        if (paths_exists(fd, PATHS_MARKER))
            tell(l->notes, text_format("the directory of instance %s is of a migration or a build "
                                       "that has not ended",
                                       uuid));
    }
    for (size_t i = 0; i < json_object_array_length(problems); i++)
        json_object_array_add(l->problems, json_object_get(json_object_array_get_idx(problems, i)));
    json_add(instance, "problems", problems);
    json_object_array_add(l->instances, instance);
}

/* --- the image cache -------------------------------------------------------------------------- */

static const char *base_kind(const char *name)
{
    size_t hex = strspn(name, "0123456789abcdef");

    if (text_ends_with(name, ".part") || text_ends_with(name, ".converted"))
        return "unfinished";
    if (text_starts_with(name, "swap_"))
        return "swap";
    if (text_starts_with(name, "ephemeral_"))
        return "ephemeral";
    if (hex != BASE_NAME_LENGTH)
        return "other";
    return name[hex] == '\0' ? "images" : name[hex] == '_' ? "resized" : "other";
}

static void count(struct json_object *o, const char *key, int64_t more)
{
    json_add_int(o, key, json_get_int(o, key, 0) + more);
}

static void look_at_bases(const struct look *l)
{
    static const char *const kinds[] = {"images", "resized",    "ephemeral",
                                        "swap",   "unfinished", "other"};
    _cleanup_(paths_list_closep) DIR *dir = l->cache_fd < 0 ? NULL : paths_list(l->cache_fd);
    struct stat st;

    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        json_add_int(l->bases, kinds[i], 0);
    json_add_int(l->bases, "bytes", 0);
    for (const struct dirent *d = dir ? readdir(dir) : NULL; d; d = readdir(dir)) {
        if (fstatat(l->cache_fd, d->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
            continue;
        count(l->bases, base_kind(d->d_name), 1);
        count(l->bases, "bytes", (int64_t)st.st_blocks * 512);
    }
}

/* --- instances_path --------------------------------------------------------------------------- */

/* "<uuid>_resize" is the old disk of a resize that nobody confirmed, "<uuid>_del" a removal cut short. */
static bool look_at_suffixed(const struct look *l, const char *name)
{
    _cleanup_(str_freep) char *uuid = text_dup_n(name, strnlen(name, UUID_LENGTH));

    if (text_check_uuid(uuid, "instance", NULL) < 0)
        return false;
    if (text_equal(name + UUID_LENGTH, "_resize"))
        tell(l->problems, text_format("instance %s was resized: confirm or revert that before, "
                                      "this agent cannot",
                                      uuid));
    else if (text_equal(name + UUID_LENGTH, "_del"))
        tell(l->notes,
             text_format("instance %s was deleted, its directory %s_del is left over", uuid, uuid));
    return true;
}

/* What Nova keeps beside: lock files, running snapshots, a register of hosts, probes of shared storage. */
static bool is_known(const struct conf *conf, const char *name)
{
    return strcmp(name, "locks") == 0 || strcmp(name, PATHS_SNAPSHOTS) == 0 ||
           strcmp(name, "compute_nodes") == 0 || text_starts_with(name, "tmp") ||
           strcmp(name, conf_string(conf, CONF_image_cache_subdirectory_name)) == 0;
}

static void look_at_entry(const struct look *l, int root, const char *name)
{
    _cleanup_(str_freep) char *shown = NULL;

    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || is_known(l->conf, name))
        return;
    if (text_check_uuid(name, "instance", NULL) == 0) {
        look_at_instance(l, root, name);
        return;
    }
    shown = text_escape(name, 80);
    json_object_array_add(l->others, json_object_new_string(shown));
    if (!look_at_suffixed(l, name))
        tell(l->notes, text_format("%s in instances_path is not known", shown));
}

static void look_at_options(const struct look *l)
{
    const char *images = conf_string(l->conf, CONF_libvirt_images_type);
    const char *virt = conf_string(l->conf, CONF_libvirt_virt_type);

    if (strcmp(images, "lvm") == 0 || strcmp(images, "rbd") == 0 || strcmp(images, "ploop") == 0)
        tell(l->problems, text_format("libvirt.images_type is %s; disks in files (default, qcow2, "
                                      "raw, flat) are handled",
                                      images));
    if (strcmp(virt, "kvm") != 0 && strcmp(virt, "qemu") != 0)
        tell(l->problems, text_format("libvirt.virt_type is %s; kvm and qemu are handled", virt));
}

static struct json_object *member(struct json_object *report, const char *name,
                                  struct json_object *value)
{
    json_add(report, name, value);
    return value;
}

int virt_takeover_look(const struct conf *conf, struct json_object **report, struct err *e)
{
    _cleanup_(json_putp) struct json_object *o = json_object_new_object();
    _cleanup_(fd_closep) int root = -1;
    _cleanup_(fd_closep) int cache = -1;
    _cleanup_(paths_list_closep) DIR *dir = NULL;
    struct look l = {.conf = conf};

    if (paths_open_root(conf, &root, e) < 0)
        return -1;
    dir = paths_list(root);
    if (!dir)
        return err_set_errno(e, ERR_SYSTEM, errno, "instances_path cannot be read");
    (void)paths_open_directory(conf, PATHS_BASE, false, &cache, NULL);
    l.cache_fd = cache;
    json_add_string(o, "instances_path", conf_string(conf, CONF_DEFAULT_instances_path));
    l.instances = member(o, "instances", json_object_new_array());
    l.bases = member(o, "bases", json_object_new_object());
    l.others = member(o, "others", json_object_new_array());
    l.problems = member(o, "problems", json_object_new_array());
    l.notes = member(o, "notes", json_object_new_array());
    look_at_options(&l);
    look_at_bases(&l);
    for (const struct dirent *d = readdir(dir); d; d = readdir(dir))
        look_at_entry(&l, root, d->d_name);
    *report = STEAL(o);
    return 0;
}
