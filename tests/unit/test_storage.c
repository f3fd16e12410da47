/* SPDX-License-Identifier: Apache-2.0 */
/* The instance's files. Real qemu-img; the copy from the source is a function of the test. */
#include "tests/unit/unit.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/fault.h"
#include "lib/json.h"
#include "lib/process.h"
#include "lib/text.h"
#include "virt/image.h"
#include "virt/marker.h"
#include "virt/storage.h"

#define UUID      "6f1b7c7e-6d0b-4c5e-9a57-0d2f1c3b4a5e"
#define MIGRATION "11111111-2222-4333-8444-555555555555"
#define OTHER     "99999999-2222-4333-8444-555555555555"
#define MIB       (INT64_C(1024) * 1024)

static struct conf *conf;
static struct undo_handler *handlers;
static struct undo *undo;
static struct json_object *paths;
static char *here, *source; /* instances_path of this host and of "the source" */

static char *in(const char *root, const char *relative)
{
    return text_format("%s/%s", root, relative);
}

static void make_dir(const char *root, const char *relative)
{
    _cleanup_(str_freep) char *path = in(root, relative);

    UNIT_TRUE(mkdir(path, 0755) == 0 || errno == EEXIST);
}

static void make_file(const char *root, const char *relative, const char *content)
{
    _cleanup_(str_freep) char *path = in(root, relative);

    unit_write_file(path, content);
}

static bool exists(const char *root, const char *relative)
{
    _cleanup_(str_freep) char *path = in(root, relative);
    struct stat st;

    return lstat(path, &st) == 0;
}

static int64_t size_of(const char *root, const char *relative)
{
    _cleanup_(str_freep) char *path = in(root, relative);
    struct stat st;

    return stat(path, &st) == 0 ? st.st_size : -1;
}

static char *content_of(const char *root, const char *relative)
{
    _cleanup_(str_freep) char *path = in(root, relative);

    return unit_read_file(path, NULL);
}

static void qemu_img(const char *const *argv)
{
    UNIT_OK(process_run(argv, NULL, NULL, &unit_err));
}

static unsigned count_entries(const char *root, const char *relative)
{
    _cleanup_(str_freep) char *path = in(root, relative);
    DIR *dir = opendir(path);
    unsigned n = 0;

    for (const struct dirent *d = dir ? readdir(dir) : NULL; d; d = readdir(dir))
        n += strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0;
    if (dir)
        (void)closedir(dir);
    return n;
}

static void setup(void)
{
    static unsigned n;
    _cleanup_(str_freep) char *parent = text_format("%s/%u", unit_directory(), n++);

    here = text_format("%s/here", parent);
    source = text_format("%s/source", parent);
    (void)mkdir(parent, 0755);
    (void)mkdir(here, 0755);
    (void)mkdir(source, 0755);
    make_dir(source, "_base");
    make_dir(source, UUID);
    conf = conf_for_test("DEFAULT.instances_path", here, NULL);
    handlers = virt_storage_undo_handlers(conf);
    undo = undo_new(handlers, NULL, NULL);
}

static void teardown(void)
{
    fault_disarm_all();
    undo_free(undo);
    free(handlers);
    conf_unref(conf);
    json_object_put(paths);
    paths = NULL;
    free(here);
    free(source);
}

UNIT_FIXTURE(setup, teardown)

/* --- the copy ---------------------------------------------------------------------------------- */

struct copies {
    unsigned count;
    const char *last_name;
    bool fail, cut;
};

static int copy_from_source(void *aux, const struct image_transfer *t, struct err *e)
{
    struct copies *copies = aux;
    _cleanup_(str_freep) char *path = text_format("%s/%s", t->directory, t->name);
    _cleanup_(str_freep) char *data = NULL;
    size_t length = 0;

    copies->count++;
    if (copies->fail)
        return err_set(e, ERR_HYPERVISOR, "the source does not answer");
    data = unit_read_file(path, &length);
    if (!data)
        return err_set(e, ERR_DISK, "%s is not there", path);
    if (copies->cut)
        length /= 2;
    return write(t->fd, data, length) == (ssize_t)length
               ? 0
               : err_set_errno(e, ERR_DISK, errno, "%s", t->path);
}

static struct json_object *disk(const char *name, const char *type, int64_t size, const char *base)
{
    struct json_object *o = json_object_new_object();
    _cleanup_(str_freep) char *path = text_format("%s/" UUID "/%s", source, name);

    json_add_string(o, "type", type);
    json_add_string(o, "path", path);
    json_add_int(o, "virt_disk_size", size);
    json_add_string(o, "backing_file", base);
    json_add_int(o, "disk_size", 200704);
    json_add_int(o, "over_committed_disk_size", size - 200704);
    return o;
}

static int prepare(struct json_object *list, struct copies *copies)
{
    const struct virt_storage_plan plan = {
        .instance_uuid = UUID,
        .migration_uuid = MIGRATION,
        .disk_info = list,
        .source_uri = "test",
        .transfer = copy_from_source,
        .transfer_aux = copies,
        .paths = &paths,
    };

    err_clear(&unit_err);
    json_object_put(paths);
    paths = NULL;
    return virt_storage_prepare(NULL, conf, &plan, undo, &unit_err);
}

static int prepare_one(struct json_object *entry, struct copies *copies)
{
    _cleanup_(json_putp) struct json_object *list = json_object_new_array();

    json_object_array_add(list, entry);
    return prepare(list, copies);
}

static void check_clean(void)
{
    UNIT_OK(undo_run(undo, &unit_err));
    UNIT_TRUE(!exists(here, UUID));
    if (exists(here, "_base"))
        UNIT_EQ(count_entries(here, "_base"), 0);
}

/* --- preparing --------------------------------------------------------------------------------- */

UNIT_TEST(overlay,
          "an overlay is made on the base that was copied, under the marker, with Nova's disk.info")
{
    struct copies copies = {0};
    struct image_info info = {0};
    _cleanup_(str_freep) char *path = in(here, UUID "/disk");
    _cleanup_(str_freep) char *base = in(here, "_base/a892a471");
    _cleanup_(str_freep) char *source_base = in(source, "_base/a892a471");
    _cleanup_(str_freep) char *text = NULL;
    _cleanup_(str_freep) char *expected = text_format("{\"%s\":\"qcow2\"}\n", path);

    make_file(source, "_base/a892a471", "base image");
    if (!UNIT_EQ(prepare_one(disk("disk", "qcow2", 64 * MIB, "a892a471"), &copies), 0))
        return;
    UNIT_OK(image_read(path, "qcow2", &info, &unit_err));
    UNIT_EQ(info.virtual_size, 64 * MIB);
    UNIT_STR(info.backing_file, base);
    UNIT_STR(info.backing_format, "raw");
    image_info_clear(&info);
    UNIT_EQ(size_of(here, "_base/a892a471"), 10);
    UNIT_EQ(count_entries(here, "_base"), 1);
    UNIT_EQ(size_of(here, UUID "/console.log"), 0);
    UNIT_TRUE(exists(here, UUID "/.computed-migration"));
    text = content_of(here, UUID "/disk.info");
    UNIT_STR(text, expected);
    UNIT_STR(json_get_string(paths, source_base, NULL), base);
    UNIT_EQ(json_object_object_length(paths), 3);
    UNIT_OK(undo_run(undo, &unit_err));
    UNIT_TRUE(!exists(here, UUID));
    UNIT_TRUE(exists(here, "_base/a892a471"));
}

UNIT_TEST(base_kept, "a base that is here is not copied again, and one of another size is refused")
{
    struct copies copies = {0};
    struct json_object *entry = disk("disk", "qcow2", MIB, "b1");

    make_dir(here, "_base");
    make_file(here, "_base/b1", "base image");
    json_add_int(entry, "backing_size", 10);
    UNIT_EQ(prepare_one(entry, &copies), 0);
    UNIT_EQ(copies.count, 0);
    UNIT_OK(undo_run(undo, &unit_err));
    entry = disk("disk", "qcow2", MIB, "b1");
    json_add_int(entry, "backing_size", 11);
    UNIT_EQ(prepare_one(entry, &copies), -1);
    UNIT_EQ(unit_err.code, ERR_DISK);
    UNIT_HAS(unit_err.text, "10 bytes here and 11");
    UNIT_OK(undo_run(undo, &unit_err));
    UNIT_TRUE(!exists(here, UUID) && exists(here, "_base/b1"));
}

UNIT_TEST(raw, "raw disks are sparse files of the full size, several disks are told apart")
{
    struct copies copies = {0};
    _cleanup_(json_putp) struct json_object *list = json_object_new_array();
    struct stat st;
    _cleanup_(str_freep) char *path = in(here, UUID "/disk");

    json_object_array_add(list, disk("disk", "raw", 1024 * MIB, ""));
    json_object_array_add(list, disk("disk.eph0", "qcow2", 5 * MIB, ""));
    if (!UNIT_EQ(prepare(list, &copies), 0))
        return;
    UNIT_EQ(stat(path, &st), 0);
    UNIT_EQ(st.st_size, 1024 * MIB);
    UNIT_TRUE(st.st_blocks < 100);
    UNIT_TRUE(size_of(here, UUID "/disk.eph0") > 0);
    check_clean();
}

UNIT_TEST(config_drive, "a config drive, kernel and ramdisk are copied byte by byte")
{
    struct copies copies = {0};
    _cleanup_(json_putp) struct json_object *list = json_object_new_array();
    struct json_object *files = json_object_new_array();
    struct json_object *drive = disk("disk.config", "raw", 9, "");
    _cleanup_(str_freep) char *drive_text = NULL;
    _cleanup_(str_freep) char *kernel_text = NULL;

    make_file(source, UUID "/disk.config", "iso image");
    make_file(source, UUID "/kernel", "vmlinuz");
    make_file(source, UUID "/ramdisk", "initrd");
    json_add_string(drive, "device", "cdrom");
    json_object_array_add(files, json_object_new_string("kernel"));
    json_object_array_add(files, json_object_new_string("ramdisk"));
    json_object_array_add(list, disk("disk", "qcow2", MIB, ""));
    json_add(json_object_array_get_idx(list, 0), "computed_files", files);
    json_object_array_add(list, drive);
    if (!UNIT_EQ(prepare(list, &copies), 0))
        return;
    UNIT_EQ(copies.count, 3);
    drive_text = content_of(here, UUID "/disk.config");
    kernel_text = content_of(here, UUID "/kernel");
    UNIT_STR(drive_text, "iso image");
    UNIT_STR(kernel_text, "vmlinuz");
    UNIT_EQ(size_of(here, UUID "/ramdisk"), 6);
    check_clean();
}

UNIT_TEST(elsewhere,
          "a disk outside the instance's directory moves into it; an ISO of a library stays")
{
    struct copies copies = {0};
    _cleanup_(json_putp) struct json_object *list = json_object_new_array();
    struct json_object *image = disk("x", "qcow2", MIB, "");
    struct json_object *iso = disk("y", "raw", 100, "");
    _cleanup_(str_freep) char *path = in(here, UUID "/vm.qcow2");

    json_add_string(image, "path", "/var/lib/libvirt/images/vm.qcow2");
    json_add_string(iso, "path", "/srv/iso/debian.iso");
    json_add_bool(iso, "read_only", true);
    json_object_array_add(list, image);
    json_object_array_add(list, iso);
    if (!UNIT_EQ(prepare(list, &copies), 0))
        return;
    UNIT_EQ(copies.count, 0);
    UNIT_STR(json_get_string(paths, "/var/lib/libvirt/images/vm.qcow2", NULL), path);
    UNIT_EQ(json_object_object_length(paths), 1);
    UNIT_TRUE(!exists(here, UUID "/debian.iso"));
    check_clean();
}

UNIT_TEST(ephemeral, "an ephemeral base of the same name but other content is kept beside ours")
{
    struct copies copies = {0};
    struct image_info info = {0};
    _cleanup_(str_freep) char *path = in(here, UUID "/disk.eph0");
    _cleanup_(str_freep) char *ours = NULL;

    make_dir(here, "_base");
    make_file(here, "_base/ephemeral_1_40d1d2c", "our file system");
    make_file(source, "_base/ephemeral_1_40d1d2c", "its file system");
    if (!UNIT_EQ(prepare_one(disk("disk.eph0", "qcow2", MIB, "ephemeral_1_40d1d2c"), &copies), 0))
        return;
    UNIT_OK(image_read(path, "qcow2", &info, &unit_err));
    UNIT_HAS(info.backing_file, "/_base/ephemeral_1_40d1d2c_");
    ours = content_of(here, "_base/ephemeral_1_40d1d2c");
    UNIT_STR(ours, "our file system");
    UNIT_EQ(count_entries(here, "_base"), 2);
    image_info_clear(&info);
    UNIT_OK(undo_run(undo, &unit_err));
    make_file(source, "_base/ephemeral_1_40d1d2c", "our file system");
    if (!UNIT_EQ(prepare_one(disk("disk.eph0", "qcow2", MIB, "ephemeral_1_40d1d2c"), &copies), 0))
        return;
    UNIT_OK(image_read(path, "qcow2", &info, &unit_err));
    UNIT_TRUE(text_ends_with(info.backing_file, "/_base/ephemeral_1_40d1d2c"));
    image_info_clear(&info);
    UNIT_EQ(count_entries(here, "_base"), 2);
}

UNIT_TEST(holes, "two ephemeral bases are the same when only their holes differ")
{
    struct copies copies = {0};
    _cleanup_(str_freep) char *mine = in(here, "_base/swap_1");
    _cleanup_(str_freep) char *its = in(source, "_base/swap_1");
    _cleanup_(str_freep) char *zeroes = mem_new(2 * MIB);
    int fd = -1;

    make_dir(here, "_base");
    fd = open(mine, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
    UNIT_TRUE(pwrite(fd, "swap", 4, 1000000) == 4 && ftruncate(fd, 2 * MIB) == 0);
    (void)close(fd);
    fd = open(its, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
    memcpy(zeroes + 1000000, "swap", 4);
    UNIT_TRUE(write(fd, zeroes, 2 * MIB) == 2 * MIB);
    (void)close(fd);
    UNIT_EQ(prepare_one(disk("disk.swap", "qcow2", 2 * MIB, "swap_1"), &copies), 0);
    UNIT_EQ(copies.count, 1);
    UNIT_EQ(count_entries(here, "_base"), 1);
}

UNIT_TEST(untold_format,
          "a base of untold format that looks like qcow2 is refused, a told one is taken")
{
    struct copies copies = {0};
    _cleanup_(str_freep) char *base = in(source, "_base/q");
    const char *const argv[] = {"qemu-img", "create", "-q", "-f", "qcow2", base, "1M", NULL};
    struct json_object *entry = NULL;

    qemu_img(argv);
    UNIT_EQ(prepare_one(disk("disk", "qcow2", MIB, "q"), &copies), -1);
    UNIT_EQ(unit_err.code, ERR_DISK);
    check_clean();
    entry = disk("disk", "qcow2", MIB, "q");
    json_add_string(entry, "backing_format", "qcow2");
    UNIT_EQ(prepare_one(entry, &copies), 0);
}

UNIT_TEST(evil_base, "a base that names a backing file of its own is refused")
{
    struct copies copies = {0};
    _cleanup_(str_freep) char *base = in(source, "_base/evil");
    const char *const argv[] = {"qemu-img",    "create", "-q",  "-u", "-f", "qcow2", "-b",
                                "/etc/passwd", "-F",     "raw", base, "1M", NULL};
    struct json_object *entry = disk("disk", "qcow2", MIB, "evil");

    qemu_img(argv);
    json_add_string(entry, "backing_format", "qcow2");
    UNIT_EQ(prepare_one(entry, &copies), -1);
    UNIT_EQ(unit_err.code, ERR_DISK);
    UNIT_HAS(unit_err.text, "backing file of its own");
    check_clean();
}

UNIT_TEST(copy_fails, "after a copy that fails or stops half-way nothing is left")
{
    struct copies copies = {.fail = true};
    struct json_object *entry = NULL;

    make_file(source, "_base/b1", "base image");
    UNIT_EQ(prepare_one(disk("disk", "qcow2", MIB, "b1"), &copies), -1);
    UNIT_EQ(unit_err.code, ERR_HYPERVISOR);
    check_clean();
    copies = (struct copies){.cut = true};
    entry = disk("disk", "qcow2", MIB, "b1");
    json_add_int(entry, "backing_size", 10);
    UNIT_EQ(prepare_one(entry, &copies), -1);
    UNIT_EQ(unit_err.code, ERR_DISK);
    check_clean();
    copies = (struct copies){0};
    UNIT_EQ(prepare_one(disk("disk", "qcow2", MIB, "missing"), &copies), -1);
    check_clean();
}

UNIT_TEST(every_step, "a failure at each step of the preparation leaves nothing once undo has run")
{
    static const char *const points[] = {"storage.make_directory", "storage.publish_base",
                                         "storage.make_disk", "storage.copy_file",
                                         "storage.prepared"};

    make_file(source, "_base/ephemeral_1", "base image");
    make_file(source, UUID "/disk.config", "iso");
    for (size_t i = 0; i < ARRAY_LEN(points); i++) {
        struct copies copies = {0};
        _cleanup_(json_putp) struct json_object *list = json_object_new_array();
        _cleanup_(str_freep) char *spec = text_format("%s=error", points[i]);
        _cleanup_(str_freep) char *base = in(here, "_base/ephemeral_1");

        json_object_array_add(list, disk("disk", "qcow2", MIB, "ephemeral_1"));
        json_object_array_add(list, disk("disk.config", "raw", 3, ""));
        UNIT_OK(fault_arm(spec, &unit_err));
        UNIT_EQ(prepare(list, &copies), -1);
        fault_disarm_all();
        (void)unlink(base);
        check_clean();
    }
}

UNIT_TEST(no_source, "without a connection to the source a missing base or config drive is refused")
{
    _cleanup_(json_putp) struct json_object *list = json_object_new_array();
    struct virt_storage_plan plan = {
        .instance_uuid = UUID, .migration_uuid = MIGRATION, .disk_info = list, .paths = &paths};

    json_object_array_add(list, disk("disk", "qcow2", MIB, "b1"));
    UNIT_FAILS(virt_storage_prepare(NULL, conf, &plan, undo, &unit_err), ERR_DISK);
    UNIT_HAS(unit_err.text, "no connection to the source");
    check_clean();
}

UNIT_TEST(python_source, "a source that cannot be told of other paths must have the same ones")
{
    struct copies copies = {0};
    _cleanup_(json_putp) struct json_object *list = json_object_new_array();
    struct json_object *entry = disk("disk", "qcow2", MIB, "");
    _cleanup_(str_freep) char *same = in(here, UUID "/disk");
    struct virt_storage_plan plan = {.instance_uuid = UUID,
                                     .migration_uuid = MIGRATION,
                                     .disk_info = list,
                                     .transfer = copy_from_source,
                                     .transfer_aux = &copies};

    json_object_array_add(list, entry);
    UNIT_FAILS(virt_storage_prepare(NULL, conf, &plan, undo, &unit_err), ERR_DISK);
    check_clean();
    json_add_string(entry, "path", same);
    UNIT_OK(virt_storage_prepare(NULL, conf, &plan, undo, &unit_err));
}

UNIT_TEST(no_room, "disks for which there is no room are refused before anything is made")
{
    struct copies copies = {0};
    struct json_object *entry = disk("disk", "qcow2", INT64_C(1) << 50, "");

    json_add_int(entry, "disk_size", INT64_C(1) << 50);
    UNIT_EQ(prepare_one(entry, &copies), -1);
    UNIT_EQ(unit_err.code, ERR_NO_SPACE);
    UNIT_HAS(unit_err.text, here);
    UNIT_HAS(unit_err.text, "1125899906842624 bytes");
    UNIT_EQ(undo_length(undo), 0);
    UNIT_TRUE(!exists(here, UUID));
}

UNIT_TEST(bad_lists, "a list of disks with a bad entry is refused and nothing is made")
{
    static const struct {
        const char *key, *value;
    } rows[] = {
        {"type", "vmdk"},
        {"type", "qcow2,x"},
        {"path", "/a/../" UUID "/disk"},
        {"path", "disk"},
        {"path", "/srv/" UUID "/.computed-migration"},
        {"path", "/srv/" UUID "/disk.info"},
        {"path", "/srv/" UUID "/console.log"},
        {"path", "/srv/" UUID "/a b"},
        {"backing_file", "../../etc/shadow"},
        {"backing_file", "/etc/shadow"},
        {"backing_file", "json:{}"},
        {"backing_format", "vmdk"},
        {"backing_path", "relative/b1"},
        {"backing_path", "/etc/shadow"},
        {"virt_disk_size", "big"},
        {"computed_files", "kernel"},
        {"read_only", "yes"},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct copies copies = {0};
        struct json_object *entry = disk("disk", "qcow2", MIB, "b1");

        json_add_string(entry, rows[i].key, rows[i].value);
        UNIT_EQ(prepare_one(entry, &copies), -1);
        UNIT_TRUE(unit_err.code == ERR_DISK || unit_err.code == ERR_INVALID ||
                  unit_err.code == ERR_PARSE);
        UNIT_EQ(copies.count, 0);
        UNIT_EQ(count_entries(here, "."), 0);
    }
}

UNIT_TEST(bad_sizes, "sizes that cannot be, and two disks of one name, are refused")
{
    struct copies copies = {0};
    _cleanup_(json_putp) struct json_object *list = json_object_new_array();
    struct json_object *entry = disk("disk", "raw", -2, "");

    UNIT_EQ(prepare_one(entry, &copies), -1);
    entry = disk("disk", "raw", INT64_MAX, "");
    UNIT_EQ(prepare_one(entry, &copies), -1);
    json_object_array_add(list, disk("disk", "raw", 1, ""));
    json_object_array_add(list, disk("disk", "raw", 1, ""));
    UNIT_EQ(prepare(list, &copies), -1);
    UNIT_EQ(unit_err.code, ERR_DISK);
    UNIT_EQ(count_entries(here, "."), 0);
}

UNIT_TEST(base_outside, "a base that is not in _base beside the instance is never asked for")
{
    struct copies copies = {0};
    struct json_object *entry = disk("disk", "qcow2", MIB, "shadow");

    json_add_string(entry, "backing_path", "/etc/shadow");
    UNIT_EQ(prepare_one(entry, &copies), -1);
    UNIT_EQ(unit_err.code, ERR_DISK);
    UNIT_EQ(copies.count, 0);
    check_clean();
}

UNIT_TEST(preallocated, "with preallocate_images = space a raw disk has its space at once")
{
    struct copies copies = {0};
    _cleanup_(str_freep) char *path = in(here, UUID "/disk");
    struct stat st = {0};

    undo_free(undo);
    free(handlers);
    conf_unref(conf);
    conf =
        conf_for_test("DEFAULT.instances_path", here, "DEFAULT.preallocate_images", "space", NULL);
    handlers = virt_storage_undo_handlers(conf);
    undo = undo_new(handlers, NULL, NULL);
    UNIT_EQ(prepare_one(disk("disk", "raw", MIB, ""), &copies), 0);
    UNIT_EQ(stat(path, &st), 0);
    UNIT_TRUE(st.st_blocks * 512 >= MIB);
}

/* --- directories ------------------------------------------------------------------------------- */

UNIT_TEST(foreign, "a directory without a marker is never taken, whatever asks for it")
{
    struct copies copies = {0};

    make_dir(here, UUID);
    make_file(here, UUID "/disk", "somebody's");
    UNIT_FAILS(virt_storage_check_directory(conf, UUID, false, &unit_err), ERR_DISK_EXISTS);
    UNIT_EQ(prepare_one(disk("disk", "qcow2", MIB, ""), &copies), -1);
    UNIT_EQ(unit_err.code, ERR_DISK_EXISTS);
    UNIT_OK(undo_run(undo, &unit_err));
    UNIT_TRUE(exists(here, UUID "/disk"));
}

UNIT_TEST(leftover, "a marked leftover is removed, but not while a domain of that instance is here")
{
    struct copies copies = {0};
    char *owner = NULL;
    char **list = NULL;

    UNIT_EQ(prepare_one(disk("disk", "qcow2", MIB, ""), &copies), 0);
    make_dir(here, "_base");
    make_dir(here, OTHER);
    list = virt_storage_leftovers(conf, &unit_err);
    UNIT_EQ(text_vector_length(list), 1);
    UNIT_STR(list ? list[0] : NULL, UUID);
    text_vector_free(list);
    UNIT_OK(virt_storage_leftover_migration(conf, UUID, &owner, &unit_err));
    UNIT_STR(owner, MIGRATION);
    free(owner);
    UNIT_FAILS(virt_storage_leftover_migration(conf, OTHER, &owner, &unit_err), ERR_NO_MIGRATION);
    UNIT_FAILS(virt_storage_check_directory(conf, UUID, true, &unit_err), ERR_DISK_EXISTS);
    UNIT_TRUE(exists(here, UUID "/disk"));
    UNIT_OK(virt_storage_check_directory(conf, UUID, false, &unit_err));
    UNIT_TRUE(!exists(here, UUID));
    UNIT_OK(virt_storage_check_directory(conf, UUID, false, &unit_err));
}

UNIT_TEST(look_only, "a look at the directory tells what is there and removes nothing")
{
    struct copies copies = {0};
    const char *found = NULL;

    UNIT_OK(virt_storage_look_directory(conf, UUID, &found, &unit_err));
    UNIT_HAS(found, "there is none");
    UNIT_EQ(prepare_one(disk("disk", "qcow2", MIB, ""), &copies), 0);
    UNIT_OK(virt_storage_look_directory(conf, UUID, &found, &unit_err));
    UNIT_HAS(found, "leftover");
    UNIT_TRUE(exists(here, UUID "/disk"));
    make_dir(here, OTHER);
    UNIT_OK(virt_storage_look_directory(conf, OTHER, &found, &unit_err));
    UNIT_HAS(found, "empty");
    make_file(here, OTHER "/disk", "somebody's");
    UNIT_FAILS(virt_storage_look_directory(conf, OTHER, &found, &unit_err), ERR_DISK_EXISTS);
}

UNIT_TEST(identity, "a directory is recognised again, and told from others")
{
    struct virt_storage_identity one = {0}, again = {0}, all = {0};

    UNIT_OK(virt_storage_identity(conf, UUID, &one, &unit_err));
    UNIT_TRUE(!one.present);
    make_dir(here, UUID);
    UNIT_OK(virt_storage_identity(conf, UUID, &one, &unit_err));
    UNIT_OK(virt_storage_identity(conf, UUID, &again, &unit_err));
    UNIT_OK(virt_storage_identity(conf, NULL, &all, &unit_err));
    UNIT_TRUE(one.present && one.inode == again.inode && one.changed_ns == again.changed_ns);
    UNIT_TRUE(all.present && all.inode != one.inode);
    UNIT_FAILS(virt_storage_identity(conf, "../x", &one, &unit_err), ERR_INVALID);
}

UNIT_TEST(foreseen, "bases that are here and bases that would be copied are told, nothing is made")
{
    _cleanup_(json_putp) struct json_object *list = json_object_new_array(), *bases = NULL;
    struct json_object *one = disk("disk", "qcow2", MIB, "base1");
    _cleanup_(str_freep) char *path = text_dup(json_get_string(one, "path", ""));
    int64_t needed = -1;

    json_add_int(one, "backing_size", 4096);
    json_add_string(one, "backing_format", "raw");
    json_object_array_add(list, one);
    UNIT_OK(virt_storage_foresee(conf, UUID, list, &needed, &bases, &unit_err));
    UNIT_EQ(needed, 200704 + 4096);
    UNIT_TRUE(!json_get_bool(json_get(bases, path), "here", true));
    UNIT_EQ(json_get_int(json_get(bases, path), "bytes", -1), 4096);
    UNIT_TRUE(!exists(here, "_base"));
    make_dir(here, "_base");
    make_file(here, "_base/base1", "image");
    json_object_put(STEAL(bases));
    UNIT_OK(virt_storage_foresee(conf, UUID, list, &needed, &bases, &unit_err));
    UNIT_EQ(needed, 200704);
    UNIT_TRUE(json_get_bool(json_get(bases, path), "here", false));
    UNIT_TRUE(!exists(here, UUID));
    json_add_int(one, "disk_size", INT64_C(1) << 52);
    json_add_int(one, "virt_disk_size", INT64_C(1) << 52);
    json_object_put(STEAL(bases));
    UNIT_FAILS(virt_storage_foresee(conf, UUID, list, &needed, &bases, &unit_err), ERR_NO_SPACE);
}

UNIT_TEST(twice, "the same request twice makes the directory anew; another migration's is refused")
{
    struct copies copies = {0};

    UNIT_EQ(prepare_one(disk("disk", "qcow2", MIB, ""), &copies), 0);
    make_file(here, UUID "/old", "x");
    UNIT_EQ(prepare_one(disk("disk", "qcow2", MIB, ""), &copies), 0);
    UNIT_TRUE(!exists(here, UUID "/old") && exists(here, UUID "/disk"));
    make_file(here, UUID "/.computed-migration", "{\"migration\":\"" OTHER "\"}");
    UNIT_EQ(prepare_one(disk("disk", "qcow2", MIB, ""), &copies), -1);
    UNIT_EQ(unit_err.code, ERR_DISK_EXISTS);
    UNIT_OK(undo_run(undo, &unit_err));
    UNIT_TRUE(exists(here, UUID "/disk"));
}

UNIT_TEST(settled, "once the guest has its directory no undo step removes it")
{
    struct copies copies = {0};

    UNIT_EQ(prepare_one(disk("disk", "qcow2", MIB, ""), &copies), 0);
    UNIT_OK(virt_storage_settle(conf, UUID, &unit_err));
    UNIT_OK(virt_storage_settle(conf, UUID, &unit_err));
    UNIT_TRUE(!exists(here, UUID "/.computed-migration"));
    UNIT_OK(undo_run(undo, &unit_err));
    UNIT_TRUE(exists(here, UUID "/disk"));
    UNIT_OK(virt_storage_remove(conf, UUID, &unit_err));
    UNIT_TRUE(!exists(here, UUID));
    UNIT_OK(virt_storage_remove(conf, UUID, &unit_err));
}

UNIT_TEST(cut_marker, "a marker that a crash cut short still says that the directory is ours")
{
    make_dir(here, UUID);
    make_file(here, UUID "/.computed-migration", "{\"migr");
    UNIT_OK(virt_storage_check_directory(conf, UUID, false, &unit_err));
    UNIT_TRUE(!exists(here, UUID));
}

UNIT_TEST(undo_confined,
          "an undo step with forged arguments removes nothing outside and no finished base")
{
    static const char *const steps[] = {
        "[[\"storage.remove_file\",{\"directory\":\"_base\",\"name\":\"b1\"}]]",
        "[[\"storage.remove_file\",{\"directory\":\"..\",\"name\":\"computed-1.part\"}]]",
        "[[\"storage.remove_file\",{\"directory\":\"_base\",\"name\":\"computed-/../b1.part\"}]]",
        "[[\"storage.remove_directory\",{\"instance\":\"..\",\"migration\":\"x\"}]]",
        "[[\"storage.remove_directory\",{\"instance\":\"_base\",\"migration\":\"x\"}]]",
        "[[\"storage.remove_directory\",{}]]",
    };

    make_dir(here, "_base");
    make_file(here, "_base/b1", "base");
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        _cleanup_(json_putp) struct json_object *o = NULL;
        _cleanup_(undo_freep) struct undo *list = undo_new(handlers, NULL, NULL);

        UNIT_OK(json_parse(steps[i], strlen(steps[i]), &o, &unit_err));
        UNIT_OK(undo_from_json(list, o, &unit_err));
        err_clear(&unit_err);
        UNIT_EQ(undo_run(list, &unit_err), -1);
        UNIT_TRUE(exists(here, "_base/b1"));
    }
}

/* --- shared storage ---------------------------------------------------------------------------- */

UNIT_TEST(probe, "a probe file is seen where the directory is shared and nowhere else")
{
    _cleanup_(str_freep) char *name = NULL;
    struct conf *other = conf_for_test("DEFAULT.instances_path", source, NULL);
    bool seen = false;

    UNIT_OK(virt_storage_probe_create(conf, &name, &unit_err));
    UNIT_TRUE(name && strncmp(name, "tmp", 3) == 0);
    UNIT_OK(virt_storage_probe_seen(conf, name, &seen, &unit_err));
    UNIT_TRUE(seen);
    UNIT_OK(virt_storage_probe_seen(other, name, &seen, &unit_err));
    UNIT_TRUE(!seen);
    UNIT_FAILS(virt_storage_probe_seen(conf, "../source/x", &seen, &unit_err), ERR_INVALID);
    virt_storage_probe_remove(conf, "../../x");
    virt_storage_probe_remove(conf, name);
    UNIT_EQ(count_entries(here, "."), 0);
    conf_unref(other);
}

UNIT_TEST(probe_in_directory,
          "a probe in an instance's directory is seen by its path, and removed by it")
{
    _cleanup_(str_freep) char *none = NULL;
    _cleanup_(str_freep) char *path = NULL;
    bool seen = false;

    UNIT_OK(virt_storage_probe_create_in(conf, OTHER, &none, &unit_err));
    UNIT_TRUE(none == NULL);
    make_dir(here, OTHER);
    UNIT_OK(virt_storage_probe_create_in(conf, OTHER, &path, &unit_err));
    UNIT_OK(virt_storage_probe_seen(conf, path, &seen, &unit_err));
    UNIT_TRUE(seen);
    virt_storage_probe_remove(conf, path);
    UNIT_OK(virt_storage_probe_seen(conf, path, &seen, &unit_err));
    UNIT_TRUE(!seen);
    UNIT_EQ(count_entries(here, OTHER), 0);
    UNIT_FAILS(virt_storage_probe_create_in(conf, "../x", &path, &unit_err), ERR_INVALID);
}

UNIT_TEST(probe_path,
          "an evacuation's probe is looked for in the instance's directory, and only there")
{
    static const char uuid[] = "12345678-1234-4234-8234-123456789abc";
    _cleanup_(str_freep) char *directory = text_format("%s/%s", here, uuid);
    _cleanup_(str_freep) char *path = text_format("%s/tmpekr2hwfs", directory);
    _cleanup_(str_freep) char *out = text_format("%s/../x", directory);
    bool seen = true;

    UNIT_OK(virt_storage_probe_seen(conf, path, &seen, &unit_err));
    UNIT_TRUE(!seen);
    UNIT_EQ(mkdir(directory, 0755), 0);
    UNIT_OK(virt_storage_probe_seen(conf, path, &seen, &unit_err));
    UNIT_TRUE(!seen);
    unit_write_file(path, "");
    UNIT_OK(virt_storage_probe_seen(conf, path, &seen, &unit_err));
    UNIT_TRUE(seen);
    UNIT_OK(virt_storage_probe_seen(conf, "/etc/passwd", &seen, &unit_err));
    UNIT_TRUE(!seen);
    UNIT_FAILS(virt_storage_probe_seen(conf, out, &seen, &unit_err), ERR_INVALID);
}

/* --- sizes ------------------------------------------------------------------------------------- */

static struct virt_guest *one_disk_guest(const char *path, const char *format, const char *backing,
                                         const char *backing_format)
{
    struct virt_guest *guest = NEW(struct virt_guest);

    guest->uuid = text_dup(UUID);
    guest->name = text_dup("x");
    guest->disks = NEW_ARRAY(struct virt_disk, 1);
    guest->disk_count = 1;
    guest->disks[0] = (struct virt_disk){.target = text_dup("vda"),
                                         .kind = text_dup("file"),
                                         .device = text_dup("disk"),
                                         .path = text_dup(path),
                                         .format = text_dup(format),
                                         .backing_file = text_dup(backing),
                                         .backing_format = text_dup(backing_format),
                                         .virtual_size = -1,
                                         .allocated = -1,
                                         .backing_size = -1};
    return guest;
}

static void make_overlay(const char *path, const char *base, const char *base_format)
{
    const char *const argv[] = {"qemu-img", "create", "-q",        "-f", "qcow2", "-b",
                                base,       "-F",     base_format, path, "8M",    NULL};

    qemu_img(argv);
}

UNIT_TEST(measure, "sizes and the chain are those of the images; Nova's list is made of them")
{
    _cleanup_(str_freep) char *path = in(here, "disk");
    _cleanup_(str_freep) char *base = in(here, "base0");
    _cleanup_(virt_guest_freep) struct virt_guest *guest = NULL;
    _cleanup_(json_putp) struct json_object *list = NULL;
    struct json_object *o = NULL;

    make_file(here, "base0", "content of the base");
    make_overlay(path, base, "raw");
    guest = one_disk_guest(path, "qcow2", base, "raw");
    if (!UNIT_OK(virt_storage_measure(guest, &unit_err)))
        return;
    UNIT_EQ(guest->disks[0].virtual_size, 8 * MIB);
    UNIT_TRUE(guest->disks[0].allocated > 0 && guest->disks[0].allocated < MIB);
    UNIT_EQ(guest->disks[0].backing_size, 19);
    UNIT_EQ(virt_storage_need(guest, true), guest->disks[0].allocated);
    UNIT_EQ(virt_storage_need(guest, false), 8 * MIB);
    list = virt_storage_disk_info(guest);
    o = json_object_array_get_idx(list, 0);
    UNIT_STR(json_get_string(o, "type", NULL), "qcow2");
    UNIT_STR(json_get_string(o, "path", NULL), path);
    UNIT_STR(json_get_string(o, "backing_file", NULL), "base0");
    UNIT_EQ(json_get_int(o, "virt_disk_size", 0), 8 * MIB);
    UNIT_EQ(json_get_int(o, "over_committed_disk_size", 0), 8 * MIB - guest->disks[0].allocated);
    UNIT_STR(json_get_string(o, "target", NULL), "vda");
}

UNIT_TEST(wrong_chain,
          "an image whose header names another chain than the record is refused, naming both")
{
    _cleanup_(str_freep) char *path = in(here, "disk");
    _cleanup_(str_freep) char *base = in(here, "base0");
    static const char *const records[] = {NULL, "/some/other/base"};

    make_file(here, "base0", "x");
    make_overlay(path, base, "raw");
    for (size_t i = 0; i < ARRAY_LEN(records); i++) {
        _cleanup_(virt_guest_freep) struct virt_guest *guest =
            one_disk_guest(path, "qcow2", records[i], records[i] ? "raw" : NULL);

        UNIT_FAILS(virt_storage_measure(guest, &unit_err), ERR_DISK);
        UNIT_HAS(unit_err.text, base);
        UNIT_HAS(unit_err.text, records[i] ? records[i] : "(none)");
    }
}

UNIT_TEST(raw_is_raw, "a raw disk into which its guest wrote a qcow2 header is still raw")
{
    _cleanup_(str_freep) char *path = in(here, "disk");
    const char *const argv[] = {"qemu-img",    "create", "-q",  "-u", "-f",   "qcow2", "-b",
                                "/etc/shadow", "-F",     "raw", path, "100G", NULL};
    _cleanup_(virt_guest_freep) struct virt_guest *guest = NULL;

    qemu_img(argv);
    guest = one_disk_guest(path, "raw", NULL, NULL);
    UNIT_OK(virt_storage_measure(guest, &unit_err));
    UNIT_TRUE(guest->disks[0].virtual_size < MIB);
    UNIT_TRUE(guest->disks[0].backing_file == NULL);
}

UNIT_TEST(deep, "a base that has a base itself is refused")
{
    _cleanup_(str_freep) char *path = in(here, "disk");
    _cleanup_(str_freep) char *middle = in(here, "middle");
    _cleanup_(str_freep) char *base = in(here, "base0");
    _cleanup_(virt_guest_freep) struct virt_guest *guest = NULL;

    make_file(here, "base0", "x");
    make_overlay(middle, base, "raw");
    make_overlay(path, middle, "qcow2");
    guest = one_disk_guest(path, "qcow2", middle, "qcow2");
    UNIT_FAILS(virt_storage_measure(guest, &unit_err), ERR_DISK);
    UNIT_HAS(unit_err.text, "only one is allowed");
}

UNIT_TEST(data_file,
          "an image that keeps its data in another file is refused before qemu-img sees it")
{
    _cleanup_(str_freep) char *path = in(here, "disk");
    _cleanup_(str_freep) char *option = text_format("data_file=%s/secret", here);
    const char *const argv[] = {"qemu-img", "create", "-q", "-f", "qcow2",
                                "-o",       option,   path, "1M", NULL};
    _cleanup_(virt_guest_freep) struct virt_guest *guest = NULL;

    qemu_img(argv);
    guest = one_disk_guest(path, "qcow2", NULL, NULL);
    UNIT_FAILS(virt_storage_measure(guest, &unit_err), ERR_DISK);
    UNIT_HAS(unit_err.text, "data in another file");
}

UNIT_TEST(bad_images,
          "missing, cut and foreign images and unknown formats are refused with the path")
{
    static const struct {
        const char *content, *format;
    } rows[] = {{NULL, "raw"},     {NULL, "qcow2"}, {"", "qcow2"}, {"QFI\xfb", "qcow2"},
                {"KDMV", "qcow2"}, {"x", "vmdk"},   {"x", "luks"}};

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        _cleanup_(str_freep) char *name = text_format("disk%zu", i);
        _cleanup_(str_freep) char *path = in(here, name);
        _cleanup_(virt_guest_freep) struct virt_guest *guest =
            one_disk_guest(path, rows[i].format, NULL, NULL);

        if (rows[i].content)
            unit_write_file(path, rows[i].content);
        UNIT_FAILS(virt_storage_measure(guest, &unit_err), ERR_DISK);
        UNIT_HAS(unit_err.text, path);
    }
}

UNIT_TEST(boot_files, "kernel and ramdisk travel only if they lie in the instance's directory")
{
    _cleanup_(str_freep) char *path = in(here, UUID "/disk");
    _cleanup_(virt_guest_freep) struct virt_guest *guest = one_disk_guest(path, "raw", NULL, NULL);
    _cleanup_(json_putp) struct json_object *list = NULL;
    struct json_object *files = NULL;

    guest->kernel = in(here, UUID "/kernel");
    guest->initrd = text_dup("/boot/initrd.img");
    list = virt_storage_disk_info(guest);
    files = json_get(json_object_array_get_idx(list, 0), "computed_files");
    UNIT_EQ(json_object_array_length(files), 1);
    UNIT_STR(json_object_get_string(json_object_array_get_idx(files, 0)), "kernel");
}

UNIT_TEST(free_space,
          "free space is less the reserve, and without over-commit less what images may grow")
{
    _cleanup_(str_freep) char *path = in(here, UUID "/disk");
    _cleanup_(str_freep) char *info = text_format("{\"%s\":\"qcow2\",\"/x/raw\":\"raw\"}", path);
    _cleanup_(str_freep) char *raw_path = in(here, UUID "/raw");
    const char *const argv[] = {"qemu-img", "create", "-q", "-f", "qcow2", path, "100M", NULL};
    const struct conf *reserved = NULL;
    int64_t with = 0, without = 0, less = 0;

    make_dir(here, UUID);
    qemu_img(argv);
    make_file(here, UUID "/raw", "");
    UNIT_EQ(truncate(raw_path, 50 * MIB), 0);
    make_file(here, UUID "/disk.info", info);
    UNIT_OK(virt_storage_free(conf, true, &with, &unit_err));
    UNIT_OK(virt_storage_free(conf, false, &without, &unit_err));
    UNIT_TRUE(with - without > 140 * MIB && with - without < 160 * MIB);
    reserved = conf_for_test("DEFAULT.instances_path", here, "DEFAULT.reserved_host_disk_mb",
                             "1000000000", NULL);
    UNIT_OK(virt_storage_free(reserved, true, &less, &unit_err));
    UNIT_EQ(less, 0);
    conf_unref((struct conf *)(uintptr_t)reserved);
}
