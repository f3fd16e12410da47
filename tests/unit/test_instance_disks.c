/* SPDX-License-Identifier: Apache-2.0 */
/* The files of an instance that begins here; real qemu-img, mkfs and genisoimage, no root. */
#include "tests/unit/unit.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/fault.h"
#include "lib/json.h"
#include "lib/process.h"
#include "lib/text.h"
#include "virt/config_drive_image.h"
#include "virt/image.h"
#include "virt/instance_base.h"
#include "virt/instance_disks.h"
#include "virt/storage.h"

#define UUID    "6f1b7c7e-6d0b-4c5e-9a57-0d2f1c3b4a5e"
#define IMAGE   "b7c668fe-90f7-4470-b48c-2337a02ca73b"
#define KERNEL  "d782a6bb-9b62-4297-bc4a-c28df29a27fa"
#define RAMDISK "7b1bf26a-54bc-46f0-bc3e-ea99d54d31b9"
#define MIB     (INT64_C(1024) * 1024)
#define GIB     (1024 * MIB)

static struct conf *conf;
static struct undo_handler *handlers;
static struct undo *undo;
static struct instance_disks disks;
static char *root;

static char *in(const char *relative)
{
    return text_format("%s/%s", root, relative);
}

static bool exists(const char *relative)
{
    _cleanup_(str_freep) char *path = in(relative);
    struct stat st;

    return lstat(path, &st) == 0;
}

static int64_t size_of(const char *relative)
{
    _cleanup_(str_freep) char *path = in(relative);
    struct stat st;

    return stat(path, &st) == 0 ? st.st_size : -1;
}

static char *content_of(const char *relative)
{
    _cleanup_(str_freep) char *path = in(relative);

    return unit_read_file(path, NULL);
}

static void use_conf(const char *name, const char *value)
{
    undo_free(undo);
    free(handlers);
    conf_unref(conf);
    conf = conf_for_test("DEFAULT.instances_path", root, name, value, NULL);
    handlers = virt_storage_undo_handlers(conf);
    undo = undo_new(handlers, NULL, NULL);
}

static void setup(void)
{
    static unsigned n;

    root = text_format("%s/%u", unit_directory(), n++);
    (void)mkdir(root, 0755);
    use_conf("DEFAULT.debug", "false");
}

static void teardown(void)
{
    fault_disarm_all();
    instance_disks_clear(&disks);
    undo_free(undo);
    undo = NULL;
    free(handlers);
    handlers = NULL;
    conf_unref(conf);
    conf = NULL;
    free(root);
}

UNIT_FIXTURE(setup, teardown)

static void cache(const char *image_id, const char *data, int64_t size, bool kernel)
{
    enum image_cache_state state = IMAGE_CACHE_HERE;
    struct image_cache_fetch *fetch = NULL;

    UNIT_OK(image_cache_look(conf, image_id, &state, &fetch, &unit_err));
    if (!fetch)
        return;
    UNIT_EQ(write(image_cache_fd(fetch), data, strlen(data)), (ssize_t)strlen(data));
    UNIT_EQ(ftruncate(image_cache_fd(fetch), (off_t)size), 0);
    UNIT_OK(image_cache_put(fetch, kernel ? "aki" : "raw", kernel, &unit_err));
}

static int make(const struct instance_disks_plan *plan)
{
    instance_disks_clear(&disks);
    return instance_disks_make(conf, plan, undo, &disks, &unit_err);
}

static int find(const struct instance_disks_plan *plan)
{
    instance_disks_clear(&disks);
    return instance_disks_find(conf, plan, &disks, &unit_err);
}

static void check_disk(size_t i, const char *name, const char *format, const char *target,
                       const char *device, int64_t size)
{
    _cleanup_(str_freep) char *relative = text_format(UUID "/%s", name);
    _cleanup_(str_freep) char *path = in(relative);

    if (!UNIT_TRUE(i < disks.count))
        return;
    UNIT_STR(disks.items[i].name, name);
    UNIT_STR(disks.items[i].path, path);
    UNIT_STR(disks.items[i].format, format);
    UNIT_STR(disks.items[i].target, target);
    UNIT_STR(disks.items[i].device, device);
    UNIT_EQ(disks.items[i].virtual_size, size);
    UNIT_TRUE(exists(relative));
}

static bool has_program(const char *name)
{
    static const char *const directories[] = {"/usr/sbin", "/usr/bin", "/sbin", "/bin"};

    for (size_t i = 0; i < ARRAY_LEN(directories); i++) {
        _cleanup_(str_freep) char *path = text_format("%s/%s", directories[i], name);

        if (access(path, X_OK) == 0)
            return true;
    }
    return false;
}

#define NEEDS(program)                                                                             \
    do {                                                                                           \
        if (!has_program(program))                                                                 \
            UNIT_SKIP(program " is not installed");                                                \
    } while (0)

/* --- root disks -------------------------------------------------------------------------------- */

static const struct instance_disks_plan small = {
    .instance_uuid = UUID, .image_id = IMAGE, .root_gb = 1};

UNIT_TEST(overlay, "the root disk is an overlay of the flavor's size over the raw base")
{
    struct image_info info = {0};

    cache(IMAGE, "image", 4 * MIB, false);
    UNIT_OK(make(&small));
    UNIT_EQ(disks.count, 1);
    check_disk(0, "disk", "qcow2", "vda", "disk", GIB);
    UNIT_STR(disks.items[0].bus, "virtio");
    UNIT_OK(image_read(disks.items[0].path, "qcow2", &info, &unit_err));
    UNIT_EQ(info.virtual_size, GIB);
    UNIT_STR(info.backing_format, "raw");
    UNIT_HAS(info.backing_file, "/_base/");
    image_info_clear(&info);
    UNIT_EQ(size_of(UUID "/console.log"), 0);
    UNIT_TRUE(text_ends_with(disks.console_log, UUID "/console.log"));
}

UNIT_TEST(image_size, "a flavor without a root size gives the image's")
{
    struct instance_disks_plan plan = small;

    cache(IMAGE, "image", 4 * MIB, false);
    plan.root_gb = 0;
    UNIT_OK(make(&plan));
    check_disk(0, "disk", "qcow2", "vda", "disk", 4 * MIB);
}

UNIT_TEST(flat, "with images_type raw the root disk is a sparse copy, stretched")
{
    _cleanup_(str_freep) char *text = NULL;
    _cleanup_(str_freep) char *path = in(UUID "/disk");
    struct instance_disks_plan plan = small;
    struct stat st;

    use_conf("libvirt.images_type", "raw");
    cache(IMAGE, "the image", 4 * MIB, false);
    UNIT_OK(make(&plan));
    check_disk(0, "disk", "raw", "vda", "disk", GIB);
    UNIT_TRUE(stat(path, &st) == 0 && st.st_size == GIB && st.st_blocks < 4096);
    plan.root_gb = 0;
    UNIT_OK(undo_run(undo, &unit_err));
    UNIT_OK(make(&plan));
    text = content_of(UUID "/disk");
    UNIT_STR(text, "the image");
}

UNIT_TEST(no_cow, "use_cow_images = false means copies, but not where images_type says qcow2")
{
    use_conf("DEFAULT.use_cow_images", "false");
    cache(IMAGE, "image", 4 * MIB, false);
    UNIT_OK(make(&small));
    UNIT_STR(disks.items[0].format, "raw");
}

UNIT_TEST(qcow2_base, "over a base that stayed qcow2 lies an overlay that says so, or a raw copy")
{
    _cleanup_(str_freep) char *source = in("source");
    _cleanup_(str_freep) char *data = NULL;
    const char *const argv[] = {"qemu-img", "create", "-q", "-f", "qcow2", source, "8M", NULL};
    enum image_cache_state state = IMAGE_CACHE_HERE;
    struct image_cache_fetch *fetch = NULL;
    struct instance_disks_plan plan = small;
    struct image_info info = {0};
    size_t length = 0;

    use_conf("DEFAULT.force_raw_images", "false");
    UNIT_OK(process_run(argv, NULL, NULL, &unit_err));
    data = unit_read_file(source, &length);
    UNIT_OK(image_cache_look(conf, IMAGE, &state, &fetch, &unit_err));
    UNIT_EQ(write(image_cache_fd(fetch), data, length), (ssize_t)length);
    UNIT_OK(image_cache_put(fetch, "qcow2", false, &unit_err));
    plan.root_gb = 0;
    UNIT_OK(make(&plan));
    check_disk(0, "disk", "qcow2", "vda", "disk", 8 * MIB);
    UNIT_OK(image_read(disks.items[0].path, "qcow2", &info, &unit_err));
    UNIT_STR(info.backing_format, "qcow2");
    image_info_clear(&info);
    UNIT_OK(undo_run(undo, &unit_err));
    use_conf("libvirt.images_type", "flat");
    UNIT_OK(make(&plan));
    check_disk(0, "disk", "raw", "vda", "disk", 8 * MIB);
    UNIT_EQ(size_of(UUID "/disk"), 8 * MIB);
}

UNIT_TEST(too_small,
          "an image that does not fit the flavor is refused with Nova's class, nothing made")
{
    cache(IMAGE, "image", GIB + 1, false);
    UNIT_FAILS(make(&small), ERR_INVALID);
    UNIT_STR(err_wire_class(&unit_err), "FlavorDiskSmallerThanImage");
    UNIT_TRUE(!exists(UUID));
    UNIT_EQ(undo_length(undo), 0);
}

UNIT_TEST(not_cached, "an image that is not in the cache is told by its id")
{
    UNIT_FAILS(make(&small), ERR_SYSTEM);
    UNIT_HAS(unit_err.text, IMAGE);
    UNIT_TRUE(!exists(UUID));
}

UNIT_TEST(other_types, "images_type lvm is refused, as are sizes and buses that make no sense")
{
    struct instance_disks_plan plan = small;

    cache(IMAGE, "image", MIB, false);
    plan.root_gb = -1;
    UNIT_FAILS(make(&plan), ERR_INVALID);
    plan = small;
    plan.swap_mb = INT64_MAX;
    UNIT_FAILS(make(&plan), ERR_INVALID);
    plan = small;
    plan.bus = "nubus";
    UNIT_FAILS(make(&plan), ERR_INVALID);
    UNIT_OK(undo_run(undo, &unit_err));
    plan.instance_uuid = "../" UUID;
    UNIT_FAILS(make(&plan), ERR_INVALID);
    use_conf("libvirt.images_type", "lvm");
    UNIT_FAILS(make(&small), ERR_INVALID);
    UNIT_HAS(unit_err.text, "lvm");
}

UNIT_TEST(iso, "an ISO image is a CD-ROM on the bus of those")
{
    struct instance_disks_plan plan = small;

    cache(IMAGE, "image", MIB, false);
    plan.root_is_cdrom = true;
    plan.cdrom_bus = "sata";
    UNIT_OK(make(&plan));
    check_disk(0, "disk", "qcow2", "sda", "cdrom", GIB);
}

/* --- other disks ------------------------------------------------------------------------------- */

UNIT_TEST(blank_names, "bases of file systems and swap have Nova's names")
{
    struct blank ephemeral = {.kind = BLANK_EPHEMERAL, .amount = 20, .fs = "ext4"};
    struct blank swap = {.kind = BLANK_SWAP, .amount = 512};
    _cleanup_(str_freep) char *a = blank_name(&ephemeral);
    _cleanup_(str_freep) char *b = blank_name(&swap);

    UNIT_STR(a, "ephemeral_20_40d1d2c");
    UNIT_STR(b, "swap_512");
    UNIT_EQ(blank_size(&ephemeral), 20 * GIB);
    UNIT_EQ(blank_size(&swap), 512 * MIB);
}

UNIT_TEST(file_systems, "the file system is the one asked for, the configured one, or by os_type")
{
    const char *fs = NULL;

    UNIT_OK(blank_file_system(conf, NULL, "linux", &fs, &unit_err));
    UNIT_STR(fs, "ext4");
    UNIT_OK(blank_file_system(conf, NULL, NULL, &fs, &unit_err));
    UNIT_STR(fs, "vfat");
    UNIT_OK(blank_file_system(conf, "xfs", "linux", &fs, &unit_err));
    UNIT_STR(fs, "xfs");
    UNIT_FAILS(blank_file_system(conf, "-oops", NULL, &fs, &unit_err), ERR_INVALID);
    use_conf("DEFAULT.default_ephemeral_format", "ext3");
    UNIT_OK(blank_file_system(conf, NULL, "linux", &fs, &unit_err));
    UNIT_STR(fs, "ext3");
    use_conf("DEFAULT.default_ephemeral_format", "ntfs");
    UNIT_FAILS(blank_file_system(conf, NULL, NULL, &fs, &unit_err), ERR_INVALID);
}

static const struct instance_disks_plan all = {
    .instance_uuid = UUID,
    .image_id = IMAGE,
    .kernel_id = KERNEL,
    .ramdisk_id = RAMDISK,
    .root_gb = 1,
    .ephemeral_gb = 1,
    .swap_mb = 64,
    .os_type = "linux",
};

static void cache_all(void)
{
    cache(IMAGE, "image", MIB, false);
    cache(KERNEL, "vmlinuz", 7, true);
    cache(RAMDISK, "initrd", 6, true);
}

/* The label of ext2, ext3, ext4: 16 bytes at 0x478 of the file system. */
static void check_label(const char *relative)
{
    _cleanup_(str_freep) char *path = in(relative);
    _cleanup_(fd_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    char label[17] = "";

    UNIT_EQ(pread(fd, label, 16, 0x478), 16);
    UNIT_STR(label, "ephemeral0");
}

static void check_swap(const char *relative)
{
    _cleanup_(str_freep) char *path = in(relative);
    _cleanup_(fd_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    char magic[11] = "";

    UNIT_EQ(pread(fd, magic, 10, 4086), 10);
    UNIT_STR(magic, "SWAPSPACE2");
}

UNIT_TEST(overlays, "ephemeral and swap disks are overlays over bases made once")
{
    NEEDS("mke2fs");
    NEEDS("mkswap");
    cache_all();
    UNIT_OK(make(&all));
    UNIT_EQ(disks.count, 3);
    check_disk(0, "disk", "qcow2", "vda", "disk", GIB);
    check_disk(1, "disk.eph0", "qcow2", "vdb", "disk", GIB);
    check_disk(2, "disk.swap", "qcow2", "vdc", "disk", 64 * MIB);
    check_label("_base/ephemeral_1_40d1d2c");
    check_swap("_base/swap_64");
    UNIT_OK(undo_run(undo, &unit_err));
    UNIT_TRUE(!exists(UUID) && exists("_base/swap_64"));
    UNIT_OK(make(&all));
}

UNIT_TEST(flats, "with images_type raw they are made in the instance's directory alone")
{
    NEEDS("mke2fs");
    NEEDS("mkswap");
    use_conf("libvirt.images_type", "raw");
    cache_all();
    UNIT_OK(make(&all));
    check_disk(1, "disk.eph0", "raw", "vdb", "disk", GIB);
    check_disk(2, "disk.swap", "raw", "vdc", "disk", 64 * MIB);
    check_label(UUID "/disk.eph0");
    check_swap(UUID "/disk.swap");
    UNIT_TRUE(!exists("_base/swap_64"));
}

UNIT_TEST(boot_files, "kernel and ramdisk are copied, and disk.info knows all files by path")
{
    _cleanup_(str_freep) char *kernel = NULL;
    _cleanup_(str_freep) char *ramdisk = NULL;
    _cleanup_(str_freep) char *info = NULL;
    _cleanup_(str_freep) char *expected = NULL;
    struct instance_disks_plan plan = all;

    plan.ephemeral_gb = plan.swap_mb = 0;
    cache_all();
    UNIT_OK(make(&plan));
    kernel = content_of(UUID "/kernel");
    ramdisk = content_of(UUID "/ramdisk");
    info = content_of(UUID "/disk.info");
    expected = text_format("{\"%s\":\"raw\",\"%s\":\"raw\",\"%s\":\"qcow2\"}\n", disks.kernel,
                           disks.ramdisk, disks.items[0].path);
    UNIT_STR(kernel, "vmlinuz");
    UNIT_STR(ramdisk, "initrd");
    UNIT_STR(info, expected);
}

/* --- the directory ----------------------------------------------------------------------------- */

UNIT_TEST(foreign, "a directory with somebody's files is refused and stays")
{
    _cleanup_(str_freep) char *directory = in(UUID);
    _cleanup_(str_freep) char *file = in(UUID "/disk");

    cache(IMAGE, "image", MIB, false);
    (void)mkdir(directory, 0755);
    unit_write_file(file, "precious");
    UNIT_FAILS(make(&small), ERR_DISK_EXISTS);
    UNIT_OK(undo_run(undo, &unit_err));
    UNIT_TRUE(exists(UUID "/disk"));
}

UNIT_TEST(again, "a build that was cut short is done anew; one that is settled is not undone")
{
    cache(IMAGE, "image", MIB, false);
    UNIT_OK(make(&small));
    UNIT_OK(make(&small));
    UNIT_OK(virt_storage_settle(conf, UUID, &unit_err));
    UNIT_OK(undo_run(undo, &unit_err));
    UNIT_TRUE(exists(UUID "/disk"));
    UNIT_FAILS(make(&small), ERR_DISK_EXISTS);
}

UNIT_TEST(failures, "wherever making fails, undo leaves nothing")
{
    static const char *const points[] = {"instance.make_directory", "instance.make_disk",
                                         "image_cache.make_blank", "instance.disks_made"};

    NEEDS("mkswap");
    cache_all();
    for (size_t i = 0; i < ARRAY_LEN(points); i++) {
        _cleanup_(str_freep) char *armed = text_format("%s=error", points[i]);
        struct instance_disks_plan plan = all;

        plan.ephemeral_gb = 0;
        fault_disarm_all();
        UNIT_OK(fault_arm(armed, &unit_err));
        UNIT_EQ(make(&plan), -1);
        fault_disarm_all();
        UNIT_OK(undo_run(undo, &unit_err));
        UNIT_TRUE(!exists(UUID));
    }
}

/* --- what is there ----------------------------------------------------------------------------- */

UNIT_TEST(found, "what was made is found as it was told")
{
    cache_all();
    struct instance_disks_plan plan = all;

    NEEDS("mkswap");
    plan.ephemeral_gb = 0;
    UNIT_OK(make(&plan));
    UNIT_OK(find(&plan));
    UNIT_EQ(disks.count, 2);
    check_disk(0, "disk", "qcow2", "vda", "disk", GIB);
    check_disk(1, "disk.swap", "qcow2", "vdb", "disk", 64 * MIB);
    UNIT_TRUE(text_ends_with(disks.kernel, UUID "/kernel"));
    UNIT_TRUE(text_ends_with(disks.ramdisk, UUID "/ramdisk"));
}

UNIT_TEST(missing, "what is missing is told by its name")
{
    _cleanup_(str_freep) char *disk = in(UUID "/disk");
    _cleanup_(str_freep) char *kernel = in(UUID "/kernel");
    struct instance_disks_plan plan = all;

    UNIT_FAILS(find(&all), ERR_DISK);
    UNIT_HAS(unit_err.text, "directory");
    plan.ephemeral_gb = plan.swap_mb = 0;
    cache_all();
    UNIT_OK(make(&plan));
    (void)unlink(kernel);
    UNIT_FAILS(find(&plan), ERR_DISK);
    UNIT_HAS(unit_err.text, "kernel");
    (void)unlink(disk);
    UNIT_FAILS(find(&plan), ERR_DISK);
    UNIT_HAS(unit_err.text, "disk of instance");
}

UNIT_TEST(recorded, "a disk's format is what disk.info says, not what the disk looks like")
{
    _cleanup_(str_freep) char *directory = in(UUID);
    _cleanup_(str_freep) char *disk = in(UUID "/disk");
    _cleanup_(str_freep) char *info = in(UUID "/disk.info");
    _cleanup_(str_freep) char *raw = text_format("{\"%s\": \"raw\"}", disk);
    _cleanup_(str_freep) char *other = text_format("{\"%s\": \"vmdk\"}", disk);
    const char *const argv[] = {"qemu-img", "create", "-q", "-f", "qcow2", disk, "1G", NULL};

    (void)mkdir(directory, 0755);
    UNIT_OK(process_run(argv, NULL, NULL, &unit_err));
    unit_write_file(info, raw);
    UNIT_OK(find(&small));
    check_disk(0, "disk", "raw", "vda", "disk", size_of(UUID "/disk"));
    unit_write_file(info, other);
    UNIT_FAILS(find(&small), ERR_DISK);
}

/* --- config drives ----------------------------------------------------------------------------- */

static struct json_object *drive_files(void)
{
    struct json_object *files = json_object_new_object();

    json_add_string(files, "openstack/latest/meta_data.json", "{\"uuid\":\"" UUID "\"}");
    json_add_string(files, "openstack/content/0000", "a file");
    json_add(files, "openstack/latest/user_data", json_object_new_string_len("a\0b", 3));
    json_add_string(files, "ec2/2009-04-04/meta-data.json", "{}");
    return files;
}

static char *read_iso(const char *name)
{
    _cleanup_(str_freep) char *path = in(UUID "/disk.config");
    const char *const argv[] = {"isoinfo", "-R", "-i", path, "-x", name, NULL};
    char *out = NULL;

    UNIT_OK(process_run(argv, NULL, &out, &unit_err));
    return out;
}

UNIT_TEST(config_drive,
          "a config drive is an ISO image named config-2 on a CD-ROM, for its owner alone")
{
    _cleanup_(json_putp) struct json_object *files = drive_files();
    _cleanup_(str_freep) char *image = NULL;
    _cleanup_(str_freep) char *text = NULL;
    _cleanup_(str_freep) char *path = in(UUID "/disk.config");
    _cleanup_(fd_closep) int fd = -1;
    struct instance_disks_plan plan = small;
    char label[9] = "";
    struct stat st;

    NEEDS("genisoimage");
    NEEDS("isoinfo");
    cache(IMAGE, "image", MIB, false);
    plan.config_drive = files;
    UNIT_OK(make(&plan));
    check_disk(1, "disk.config", "raw", "hda", "cdrom", size_of(UUID "/disk.config"));
    fd = open(path, O_RDONLY | O_CLOEXEC);
    UNIT_EQ(pread(fd, label, 8, 0x8028), 8);
    UNIT_STR(label, "config-2");
    UNIT_TRUE(fstat(fd, &st) == 0 && (st.st_mode & 0777) == 0600);
    text = read_iso("/openstack/latest/meta_data.json");
    UNIT_STR(text, "{\"uuid\":\"" UUID "\"}");
    image = read_iso("/openstack/content/0000");
    UNIT_STR(image, "a file");
    UNIT_TRUE(!exists(UUID "/config-drive.tmp"));
    plan.config_drive = NULL;
    UNIT_OK(find(&plan));
    check_disk(1, "disk.config", "raw", "hda", "cdrom", size_of(UUID "/disk.config"));
}

UNIT_TEST(vfat_drive, "with config_drive_format vfat it is a disk with a FAT file system")
{
    _cleanup_(json_putp) struct json_object *files = drive_files();
    struct instance_disks_plan plan = small;

    NEEDS("mkfs.vfat");
    NEEDS("mcopy");
    use_conf("DEFAULT.config_drive_format", "vfat");
    cache(IMAGE, "image", MIB, false);
    plan.config_drive = files;
    UNIT_OK(make(&plan));
    check_disk(1, "disk.config", "raw", "vdb", "disk", 64 * MIB);
}

UNIT_TEST(drive_names, "names that lead out of a config drive are refused, and no file is left")
{
    static const char *const names[] = {
        "../x", "/etc/x", "a/../x", "a//b", "a/", "", ".hidden", "a/b/c/d/e/f/g/h/i", "a b"};

    cache(IMAGE, "image", MIB, false);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        _cleanup_(json_putp) struct json_object *files = json_object_new_object();
        struct instance_disks_plan plan = small;

        json_add_string(files, names[i], "x");
        plan.config_drive = files;
        UNIT_FAILS(make(&plan), ERR_INVALID);
        UNIT_TRUE(!exists(UUID "/config-drive.tmp") && !exists(UUID "/disk.config"));
        UNIT_OK(undo_run(undo, &unit_err));
    }
}

UNIT_TEST(drive_program, "a program that is missing is told, and no secret stays behind")
{
    _cleanup_(json_putp) struct json_object *files = drive_files();
    struct instance_disks_plan plan = small;

    use_conf("DEFAULT.mkisofs_cmd", "no-such-mkisofs");
    cache(IMAGE, "image", MIB, false);
    plan.config_drive = files;
    UNIT_FAILS(make(&plan), ERR_SYSTEM);
    UNIT_HAS(unit_err.text, "no-such-mkisofs");
    UNIT_TRUE(!exists(UUID "/config-drive.tmp"));
}

/* --- console ----------------------------------------------------------------------------------- */

static void write_console(const char *name, const char *text)
{
    _cleanup_(str_freep) char *relative = text_format(UUID "/%s", name);
    _cleanup_(str_freep) char *directory = in(UUID);
    _cleanup_(str_freep) char *path = in(relative);

    (void)mkdir(directory, 0755);
    unit_write_file(path, text);
}

static void check_console(int64_t bytes, const char *expected)
{
    _cleanup_(str_freep) char *text = NULL;

    UNIT_OK(instance_console_tail(conf, UUID, bytes, &text, &unit_err));
    UNIT_STR(text, expected);
}

UNIT_TEST(console, "the console's tail goes back over rotated logs, in the order of time")
{
    check_console(100, "");
    write_console("console.log", "third");
    check_console(100, "third");
    check_console(3, "ird");
    check_console(0, "");
    check_console(-5, "");
    write_console("console.log.0", "second ");
    write_console("console.log.1", "first ");
    write_console("console.log.3", "never ");
    check_console(100, "first second third");
    check_console(8, "nd third");
    write_console("console.log", "");
    check_console(100, "first second ");
}

UNIT_TEST(console_bytes, "bytes that are no UTF-8 are replaced, control characters stay")
{
    write_console("console.log", "a\xff\xc3\xa4\x1b[0m\n\xe2\x82");
    check_console(100, "a\xef\xbf\xbd\xc3\xa4\x1b[0m\n\xef\xbf\xbd\xef\xbf\xbd");
}

UNIT_TEST(console_names, "a console is asked for by a UUID")
{
    char *text = NULL;

    UNIT_FAILS(instance_console_tail(conf, "..", 10, &text, &unit_err), ERR_INVALID);
}

/* --- snapshots --------------------------------------------------------------------------------- */

UNIT_TEST(snapshot, "a snapshot is a flat copy in the format asked for, for its owner alone")
{
    _cleanup_(str_freep) char *name = NULL;
    _cleanup_(str_freep) char *relative = NULL;
    _cleanup_(str_freep) char *path = NULL;
    _cleanup_(fd_closep) int fd = -1;
    struct image_info info = {0};
    struct stat st;

    cache(IMAGE, "the image", MIB, false);
    UNIT_OK(make(&small));
    UNIT_OK(instance_snapshot_make(conf, UUID, disks.items[0].path, "qcow2", NULL, &fd, &name,
                                   &unit_err));
    relative = text_format("snapshots/%s", name);
    path = in(relative);
    UNIT_OK(image_read(path, "qcow2", &info, &unit_err));
    UNIT_EQ(info.virtual_size, GIB);
    UNIT_TRUE(info.backing_file == NULL);
    image_info_clear(&info);
    UNIT_TRUE(fstat(fd, &st) == 0 && (st.st_mode & 0777) == 0600);
    UNIT_EQ(lseek(fd, 0, SEEK_CUR), 0);
    instance_snapshot_remove(conf, name);
    UNIT_TRUE(!exists(relative));
    instance_snapshot_remove(conf, NULL);
}

UNIT_TEST(snapshot_formats,
          "the configured format counts where none is asked for; odd ones are refused")
{
    _cleanup_(str_freep) char *name = NULL;
    _cleanup_(fd_closep) int fd = -1;
    char begin[10] = "";

    use_conf("libvirt.snapshot_image_format", "raw");
    cache(IMAGE, "the image", MIB, false);
    UNIT_OK(make(&small));
    UNIT_OK(instance_snapshot_make(conf, UUID, disks.items[0].path, "qcow2", NULL, &fd, &name,
                                   &unit_err));
    UNIT_EQ(read(fd, begin, 9), 9);
    UNIT_STR(begin, "the image");
    UNIT_FAILS(instance_snapshot_make(conf, UUID, disks.items[0].path, "qcow2", "tar", &fd, &name,
                                      &unit_err),
               ERR_INVALID);
}

UNIT_TEST(snapshot_paths,
          "only files of the instance's directory are copied, on bases of the cache")
{
    _cleanup_(str_freep) char *outside = in("secret");
    _cleanup_(str_freep) char *directory = in(UUID);
    _cleanup_(str_freep) char *disk = in(UUID "/disk");
    _cleanup_(str_freep) char *dots = in(UUID "/../secret");
    const char *const argv[] = {"qemu-img", "create", "-q",  "-u", "-f", "qcow2", "-b",
                                outside,    "-F",     "raw", disk, "1M", NULL};
    const char *const paths[] = {outside, dots, "disk", ""};
    char *name = NULL;
    int fd = -1;

    (void)mkdir(directory, 0755);
    unit_write_file(outside, "secret");
    UNIT_OK(process_run(argv, NULL, NULL, &unit_err));
    for (size_t i = 0; i < ARRAY_LEN(paths); i++)
        UNIT_FAILS(instance_snapshot_make(conf, UUID, paths[i], "raw", NULL, &fd, &name, &unit_err),
                   ERR_DISK);
    UNIT_FAILS(instance_snapshot_make(conf, UUID, disk, "qcow2", NULL, &fd, &name, &unit_err),
               ERR_DISK);
    UNIT_HAS(unit_err.text, "backing file");
}

UNIT_TEST(reserved, "a name can be had for a copy that the hypervisor makes")
{
    _cleanup_(str_freep) char *name = NULL;
    _cleanup_(str_freep) char *path = NULL;
    _cleanup_(fd_closep) int fd = -1;

    UNIT_OK(instance_snapshot_reserve(conf, &name, &path, &unit_err));
    UNIT_TRUE(exists("snapshots"));
    UNIT_FAILS(instance_snapshot_open(conf, name, &fd, &unit_err), ERR_SYSTEM);
    unit_write_file(path, "copy");
    UNIT_OK(instance_snapshot_open(conf, name, &fd, &unit_err));
    instance_snapshot_remove(conf, name);
}
