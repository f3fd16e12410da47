/* SPDX-License-Identifier: Apache-2.0 */
/* What is seen of a host on which nova-compute ran. */
#include "tests/unit/unit.h"

#include <sys/stat.h>
#include <unistd.h>

#include "lib/json.h"
#include "lib/process.h"
#include "lib/text.h"
#include "virt/take_over.h"

#define UUID  "6f1b7c7e-6d0b-4c5e-9a57-0d2f1c3b4a5e"
#define OTHER "fa70925f-2d0d-4024-871f-903f3c94d32b"
#define BASE  "a892a4710316eb95555f6ca88860c82372c22f03"

static struct conf *conf;
static struct json_object *report;
static char *root;

static char *in(const char *relative)
{
    return text_format("%s/%s", root, relative);
}

static void make_dir(const char *relative)
{
    _cleanup_(str_freep) char *path = in(relative);

    (void)mkdir(path, 0755);
}

static void make_file(const char *relative, const char *text)
{
    _cleanup_(str_freep) char *path = in(relative);

    unit_write_file(path, text);
}

/* An instance as nova-compute leaves it: an overlay on the base given, and its record. */
static void make_instance(const char *uuid, const char *base, const char *format)
{
    _cleanup_(str_freep) char *disk_name = text_format("%s/disk", uuid);
    _cleanup_(str_freep) char *info_name = text_format("%s/disk.info", uuid);
    _cleanup_(str_freep) char *disk = in(disk_name);
    _cleanup_(str_freep) char *info = text_format("{\"%s\": \"%s\"}\n", disk, format);
    const char *const argv[] = {"qemu-img", "create", "-q",  "-u", "-f", "qcow2", "-b",
                                base,       "-F",     "raw", disk, "1M", NULL};

    make_dir(uuid);
    UNIT_OK(process_run(argv, NULL, NULL, &unit_err));
    make_file(info_name, info);
}

static void setup(void)
{
    static unsigned n;

    root = text_format("%s/%u", unit_directory(), n++);
    (void)mkdir(root, 0755);
    conf = conf_for_test("DEFAULT.instances_path", root, NULL);
    make_dir("_base");
    make_dir("locks");
    make_file("compute_nodes", "{}");
    make_file("_base/" BASE, "image");
}

static void teardown(void)
{
    json_object_put(report);
    report = NULL;
    conf_unref(conf);
    free(root);
}

UNIT_FIXTURE(setup, teardown)

static void look(void)
{
    json_object_put(report);
    report = NULL;
    UNIT_OK(virt_takeover_look(conf, &report, &unit_err));
}

static size_t count(const char *list)
{
    struct json_object *array = json_get(report, list);

    return array ? json_object_array_length(array) : 99;
}

static const char *problem(size_t i)
{
    return json_object_get_string(json_object_array_get_idx(json_get(report, "problems"), i));
}

UNIT_TEST(clean, "a host with a guest, its base and Nova's own files has no problem")
{
    _cleanup_(str_freep) char *base = in("_base/" BASE);
    struct json_object *instance = NULL, *disk = NULL;

    make_instance(UUID, base, "qcow2");
    make_file(UUID "/console.log", "");
    look();
    UNIT_EQ(count("problems"), 0);
    UNIT_EQ(count("notes"), 0);
    UNIT_EQ(count("others"), 0);
    UNIT_EQ(count("instances"), 1);
    instance = json_object_array_get_idx(json_get(report, "instances"), 0);
    UNIT_STR(json_get_string(instance, "uuid", NULL), UUID);
    UNIT_EQ(json_object_array_length(json_get(instance, "files")), 3);
    disk = json_object_array_get_idx(json_get(instance, "disks"), 0);
    UNIT_STR(json_get_string(disk, "name", NULL), "disk");
    UNIT_STR(json_get_string(disk, "format", NULL), "qcow2");
}

UNIT_TEST(bases, "the image cache's files are counted by kind")
{
    struct json_object *o = NULL;

    make_file("_base/swap_512", "");
    make_file("_base/ephemeral_20_40d1d2c", "");
    make_file("_base/" BASE "_20", "");
    make_file("_base/" BASE ".part", "");
    make_file("_base/computed-1.part", "");
    make_file("_base/README", "");
    look();
    o = json_get(report, "bases");
    UNIT_EQ(json_get_int(o, "images", 0), 1);
    UNIT_EQ(json_get_int(o, "resized", 0), 1);
    UNIT_EQ(json_get_int(o, "swap", 0), 1);
    UNIT_EQ(json_get_int(o, "ephemeral", 0), 1);
    UNIT_EQ(json_get_int(o, "unfinished", 0), 2);
    UNIT_EQ(json_get_int(o, "other", 0), 1);
}

UNIT_TEST(backing, "a disk on a base that is missing or lies elsewhere is a problem, with its path")
{
    _cleanup_(str_freep) char *gone = in("_base/0123");

    make_instance(UUID, gone, "qcow2");
    look();
    UNIT_EQ(count("problems"), 1);
    UNIT_HAS(problem(0), "/_base/0123, which is missing");
    make_instance(UUID, "/srv/images/base", "qcow2");
    look();
    UNIT_EQ(count("problems"), 1);
    UNIT_HAS(problem(0), "/srv/images/base, which is not in the image cache");
}

UNIT_TEST(formats, "formats that are not handled, missing disks and missing records are problems")
{
    _cleanup_(str_freep) char *base = in("_base/" BASE);
    _cleanup_(str_freep) char *info = in(UUID "/disk.info");
    _cleanup_(str_freep) char *disk = in(OTHER "/disk");

    make_instance(UUID, base, "ploop");
    look();
    UNIT_HAS(problem(0), "ploop");
    (void)unlink(info);
    look();
    UNIT_EQ(count("problems"), 1);
    UNIT_HAS(problem(0), "no disk.info");
    make_instance(OTHER, base, "raw");
    (void)unlink(disk);
    look();
    UNIT_EQ(count("problems"), 2);
}

UNIT_TEST(layouts, "disks that are no files and guests that are no machines are problems")
{
    conf_unref(conf);
    conf = conf_for_test("DEFAULT.instances_path", root, "libvirt.images_type", "rbd",
                         "libvirt.virt_type", "lxc", NULL);
    look();
    UNIT_EQ(count("problems"), 2);
    UNIT_HAS(problem(0), "rbd");
    UNIT_HAS(problem(1), "lxc");
}

UNIT_TEST(others, "a resize under way is a problem; leftovers, strangers and markers are noted")
{
    _cleanup_(str_freep) char *base = in("_base/" BASE);

    make_dir(UUID "_resize");
    make_dir(OTHER "_del");
    make_dir("lost+found");
    make_instance(OTHER, base, "qcow2");
    make_file(OTHER "/.computed-migration", "{}");
    look();
    UNIT_EQ(count("problems"), 1);
    UNIT_HAS(problem(0), UUID " was resized");
    UNIT_EQ(count("others"), 3);
    UNIT_EQ(count("notes"), 3);
}

UNIT_TEST(no_directory, "without instances_path there is nothing to look at, and that is told")
{
    conf_unref(conf);
    conf = conf_for_test("DEFAULT.instances_path", "/nonexistent/instances", NULL);
    UNIT_FAILS(virt_takeover_look(conf, &report, &unit_err), ERR_SYSTEM);
}
