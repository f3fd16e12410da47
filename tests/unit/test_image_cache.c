/* SPDX-License-Identifier: Apache-2.0 */
/* The image cache, with real files and the real qemu-img. */
#include "tests/unit/unit.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "lib/process.h"
#include "lib/text.h"
#include "virt/image.h"
#include "virt/image_check.h"
#include "virt/instance_disks.h"

#define IMAGE    "b7c668fe-90f7-4470-b48c-2337a02ca73b"
#define NAME     "aeb5c9bb9d2c3f0ca1d6fa2f7fe5a3a0d1d5e6b8"
#define INSTANCE "6f1b7c7e-6d0b-4c5e-9a57-0d2f1c3b4a5e"
#define MIB      (INT64_C(1024) * 1024)

static struct conf *conf;
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

static void make_dir(const char *relative)
{
    _cleanup_(str_freep) char *path = in(relative);

    (void)mkdir(path, 0755);
}

static void make_old(const char *relative, time_t age)
{
    _cleanup_(str_freep) char *path = in(relative);
    struct timespec times[2];

    if (!exists(relative))
        unit_write_file(path, "content");
    (void)clock_gettime(CLOCK_REALTIME, &times[0]);
    times[0].tv_sec -= age;
    times[1] = times[0];
    UNIT_EQ(utimensat(AT_FDCWD, path, times, 0), 0);
}

static time_t age_of(const char *relative)
{
    _cleanup_(str_freep) char *path = in(relative);
    struct timespec now;
    struct stat st;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    return stat(path, &st) == 0 ? now.tv_sec - st.st_mtim.tv_sec : -1;
}

static unsigned count_files(const char *relative)
{
    _cleanup_(str_freep) char *path = in(relative);
    const char *const argv[] = {"find", path, "-type", "f", NULL};
    _cleanup_(str_freep) char *out = NULL;
    unsigned n = 0;

    UNIT_OK(process_run(argv, NULL, &out, &unit_err));
    for (const char *c = out; c && *c; c++)
        n += *c == '\n';
    return n;
}

static void setup(void)
{
    static unsigned n;

    root = text_format("%s/%u", unit_directory(), n++);
    (void)mkdir(root, 0755);
    conf = conf_for_test("DEFAULT.instances_path", root, NULL);
}

static void teardown(void)
{
    conf_unref(conf);
    free(root);
}

UNIT_FIXTURE(setup, teardown)

static void use_conf(const char *name, const char *value)
{
    conf_unref(conf);
    conf = conf_for_test("DEFAULT.instances_path", root, name, value, NULL);
}

static struct image_cache_fetch *look(enum image_cache_state expected)
{
    struct image_cache_fetch *fetch = NULL;
    enum image_cache_state state = IMAGE_CACHE_BUSY;

    UNIT_OK(image_cache_look(conf, IMAGE, &state, &fetch, &unit_err));
    UNIT_EQ(state, expected);
    UNIT_EQ(fetch != NULL, expected == IMAGE_CACHE_TO_FETCH);
    return fetch;
}

static struct image_cache_fetch *fetch_bytes(const char *data, size_t length)
{
    struct image_cache_fetch *fetch = look(IMAGE_CACHE_TO_FETCH);

    if (fetch)
        UNIT_EQ(write(image_cache_fd(fetch), data, length), (ssize_t)length);
    return fetch;
}

/* A file made by qemu-img, then given to the cache as a download would. */
static struct image_cache_fetch *fetch_made(const char *const *create_arguments)
{
    _cleanup_(str_freep) char *path = in("made");
    _cleanup_(str_freep) char *data = NULL;
    const char *argv[16] = {"qemu-img", "create", "-q"};
    size_t n = 3, length = 0;

    for (; *create_arguments; create_arguments++)
        argv[n++] = strcmp(*create_arguments, "@") == 0 ? path : *create_arguments;
    UNIT_OK(process_run(argv, NULL, NULL, &unit_err));
    data = unit_read_file(path, &length);
    (void)unlink(path);
    return fetch_bytes(data, length);
}

static char *base_path(void)
{
    char *path = NULL;
    _cleanup_(str_freep) char *directory = in("_base");
    const char *const argv[] = {"find", directory, "-type", "f", NULL};

    UNIT_OK(process_run(argv, NULL, &path, &unit_err));
    if (path)
        path[strcspn(path, "\n")] = '\0';
    return path;
}

static void refused(struct image_cache_fetch *fetch, const char *format, const char *words)
{
    if (!fetch)
        return;
    UNIT_FAILS(image_cache_put(fetch, format, false, &unit_err), ERR_DISK);
    UNIT_STR(err_wire_class(&unit_err), "ImageUnacceptable");
    UNIT_HAS(unit_err.text, words);
    UNIT_EQ(count_files("_base"), 0);
}

/* --- fetching ---------------------------------------------------------------------------------- */

UNIT_TEST(raw, "an image is stored under the SHA-1 of its id, readable for all, and found then")
{
    struct image_cache_fetch *fetch = fetch_bytes("the image", 9);
    _cleanup_(str_freep) char *path = NULL;
    _cleanup_(str_freep) char *content = NULL;
    struct stat st;

    UNIT_OK(image_cache_put(fetch, "raw", false, &unit_err));
    path = base_path();
    content = unit_read_file(path, NULL);
    UNIT_STR(content, "the image");
    UNIT_HAS(path, "/_base/a892a4710316eb95555f6ca88860c82372c22f03");
    UNIT_EQ(count_files("_base"), 1);
    UNIT_TRUE(stat(path, &st) == 0 && (st.st_mode & 0777) == 0644);
    (void)look(IMAGE_CACHE_HERE);
}

UNIT_TEST(busy, "who wants an image that is being fetched is told to come again, then finds it")
{
    struct image_cache_fetch *fetch = fetch_bytes("the image", 9);

    (void)look(IMAGE_CACHE_BUSY);
    (void)look(IMAGE_CACHE_BUSY);
    UNIT_OK(image_cache_put(fetch, "raw", false, &unit_err));
    (void)look(IMAGE_CACHE_HERE);
}

UNIT_TEST(abandoned, "after a fetch that is given up nothing is left and the next one begins anew")
{
    struct image_cache_fetch *fetch = fetch_bytes("half", 4);

    image_cache_abandon(fetch);
    UNIT_EQ(count_files("_base"), 0);
    fetch = look(IMAGE_CACHE_TO_FETCH);
    UNIT_EQ(lseek(image_cache_fd(fetch), 0, SEEK_END), 0);
    image_cache_abandon(fetch);
    image_cache_abandon(NULL);
}

UNIT_TEST(crashed, "an unfinished file of an agent that died is no lock and is emptied")
{
    struct image_cache_fetch *fetch = look(IMAGE_CACHE_TO_FETCH);
    _cleanup_(str_freep) char *part = base_path();

    image_cache_abandon(fetch);
    unit_write_file(part, "half of it");
    fetch = look(IMAGE_CACHE_TO_FETCH);
    UNIT_EQ(lseek(image_cache_fd(fetch), 0, SEEK_END), 0);
    image_cache_abandon(fetch);
}

UNIT_TEST(names, "an image id that is no UUID is refused before any file is touched")
{
    enum image_cache_state state = IMAGE_CACHE_HERE;
    struct image_cache_fetch *fetch = NULL;

    UNIT_FAILS(image_cache_look(conf, "../../etc/passwd", &state, &fetch, &unit_err), ERR_INVALID);
    UNIT_TRUE(!exists("_base"));
}

UNIT_TEST(directory, "the cache's directory has the configured name, which cannot lead elsewhere")
{
    enum image_cache_state state = IMAGE_CACHE_HERE;
    struct image_cache_fetch *fetch = NULL;

    use_conf("image_cache.subdirectory_name", "_base_here");
    image_cache_abandon(look(IMAGE_CACHE_TO_FETCH));
    UNIT_TRUE(exists("_base_here") && !exists("_base"));
    use_conf("image_cache.subdirectory_name", "../elsewhere");
    UNIT_FAILS(image_cache_look(conf, IMAGE, &state, &fetch, &unit_err), ERR_INVALID);
    UNIT_HAS(unit_err.text, "subdirectory_name");
}

/* --- formats ----------------------------------------------------------------------------------- */

UNIT_TEST(converted,
          "a qcow2 image becomes a raw one of its virtual size, and nothing else is left")
{
    const char *const make[] = {"-f", "qcow2", "@", "3M", NULL};
    struct image_cache_fetch *fetch = fetch_made(make);
    _cleanup_(str_freep) char *path = NULL;
    struct stat st;

    UNIT_OK(image_cache_put(fetch, "qcow2", false, &unit_err));
    path = base_path();
    UNIT_TRUE(stat(path, &st) == 0 && st.st_size == 3 * MIB);
    UNIT_EQ(count_files("_base"), 1);
}

UNIT_TEST(kept, "without force_raw_images a qcow2 image stays one, and is known as one")
{
    const char *const make[] = {"-f", "qcow2", "@", "3M", NULL};
    _cleanup_(str_freep) char *path = NULL;
    _cleanup_(fd_closep) int fd = -1;
    const char *format = NULL;

    use_conf("DEFAULT.force_raw_images", "false");
    UNIT_OK(image_cache_put(fetch_made(make), "qcow2", false, &unit_err));
    path = base_path();
    fd = open(path, O_RDONLY | O_CLOEXEC);
    UNIT_OK(image_base_format(fd, path, &format, &unit_err));
    UNIT_STR(format, "qcow2");
}

UNIT_TEST(backing, "a qcow2 image that names a backing file is refused and leaves nothing")
{
    const char *const make[] = {"-u", "-f",  "qcow2", "-b", "/etc/passwd",
                                "-F", "raw", "@",     "1M", NULL};

    refused(fetch_made(make), "qcow2", "names a backing file");
}

UNIT_TEST(data_file, "a qcow2 image that keeps its data in another file is refused")
{
    _cleanup_(str_freep) char *data = in("data");
    _cleanup_(str_freep) char *option = text_format("data_file=%s", data);
    const char *const make[] = {"-f", "qcow2", "-o", option, "@", "1M", NULL};

    refused(fetch_made(make), "qcow2", "names a data file");
}

UNIT_TEST(huge, "a qcow2 image that claims more than 32 TiB is refused")
{
    const char *const make[] = {"-f", "qcow2", "@", "40T", NULL};

    refused(fetch_made(make), "qcow2", "are allowed");
}

UNIT_TEST(disguised, "what is said to be raw but looks like another format is refused")
{
    static const struct {
        const char *bytes;
        size_t length;
        const char *name;
    } rows[] = {
        {"QFI\xfb\0\0\0\3", 8, "qcow2"},
        {"KDMV\1\0\0\0", 8, "vmdk"},
        {"# Disk DescriptorFile\nversion=1\n", 32, "vmdk"},
        {"vhdxfile", 8, "vhdx"},
        {"conectix", 8, "vpc"},
        {"LUKS\xba\xbe\0\1", 8, "luks"},
        {"QED\0\0\0\0\0", 8, "qed"},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        refused(fetch_bytes(rows[i].bytes, rows[i].length), "raw", rows[i].name);
        refused(fetch_bytes(rows[i].bytes, rows[i].length), "iso", rows[i].name);
    }
}

UNIT_TEST(undisguised,
          "what is said to be qcow2 but is none, is empty or of another format is refused")
{
    refused(fetch_bytes("no header", 9), "qcow2", "no header");
    refused(fetch_bytes("", 0), "raw", "empty");
    refused(fetch_bytes("x", 1), "vmdk", "vmdk; raw, qcow2");
    refused(fetch_bytes("x", 1), "a\nb", "a\\x0ab");
    refused(fetch_bytes("x", 1), NULL, "(none)");
}

UNIT_TEST(kernels, "kernels are kept as they are, whatever they look like")
{
    UNIT_OK(image_cache_put(fetch_bytes("KDMV kernel", 11), "aki", true, &unit_err));
    UNIT_EQ(count_files("_base"), 1);
}

/* --- pruning ----------------------------------------------------------------------------------- */

static unsigned prune(const char *const *used)
{
    unsigned removed = 99;

    UNIT_OK(image_cache_prune(conf, used, &removed, &unit_err));
    return removed;
}

UNIT_TEST(no_cache, "pruning a host without a cache does nothing")
{
    UNIT_EQ(prune(NULL), 0);
}

UNIT_TEST(ages, "unused files go by the age of their kind, younger ones and strangers stay")
{
    make_dir("_base");
    make_old("_base/" NAME, 90000);
    make_old("_base/" NAME "_10", 4000);
    make_old("_base/swap_512", 90000);
    make_old("_base/ephemeral_1_40d1d2c", 90000);
    make_old("_base/computed-0123.part", 90000);
    make_old("_base/bbb5c9bb9d2c3f0ca1d6fa2f7fe5a3a0d1d5e6b8", 80000);
    make_old("_base/bbb5c9bb9d2c3f0ca1d6fa2f7fe5a3a0d1d5e6b8_10", 3000);
    make_old("_base/computed-4567.part", 80000);
    make_old("_base/README", 900000);
    UNIT_EQ(prune(NULL), 5);
    UNIT_EQ(count_files("_base"), 4);
    UNIT_TRUE(exists("_base/README") && exists("_base/computed-4567.part"));
}

UNIT_TEST(in_use, "an image in use stays and is as new")
{
    static const char *const used[] = {IMAGE, NULL};
    _cleanup_(str_freep) char *path = NULL;

    UNIT_OK(image_cache_put(fetch_bytes("image", 5), "raw", false, &unit_err));
    path = base_path();
    make_old(path + strlen(root) + 1, 90000);
    UNIT_EQ(prune(used), 0);
    UNIT_TRUE(age_of(path + strlen(root) + 1) < 1000);
    make_old(path + strlen(root) + 1, 90000);
    UNIT_EQ(prune(NULL), 1);
}

UNIT_TEST(backing_in_use, "what a disk lies on stays, whatever the list of images says")
{
    _cleanup_(str_freep) char *base = in("_base/" NAME);
    _cleanup_(str_freep) char *disk = in(INSTANCE "/disk");
    const char *const argv[] = {"qemu-img", "create", "-q",  "-u", "-f", "qcow2", "-b",
                                base,       "-F",     "raw", disk, "1M", NULL};

    make_dir("_base");
    make_dir(INSTANCE);
    make_old("_base/" NAME, 90000);
    UNIT_OK(process_run(argv, NULL, NULL, &unit_err));
    UNIT_EQ(prune(NULL), 0);
    UNIT_TRUE(exists("_base/" NAME));
    (void)unlink(disk);
    make_old("_base/" NAME, 90000);
    UNIT_EQ(prune(NULL), 1);
}

UNIT_TEST(fetched_now, "an unfinished file that is being filled is never pruned")
{
    struct image_cache_fetch *fetch = fetch_bytes("half", 4);
    _cleanup_(str_freep) char *part = base_path();

    make_old(part + strlen(root) + 1, 900000);
    UNIT_EQ(prune(NULL), 0);
    UNIT_OK(image_cache_put(fetch, "raw", false, &unit_err));
}

UNIT_TEST(switched_off, "without remove_unused_base_images nothing is removed")
{
    use_conf("image_cache.remove_unused_base_images", "false");
    make_dir("_base");
    make_old("_base/" NAME, 9000000);
    UNIT_EQ(prune(NULL), 0);
    UNIT_TRUE(exists("_base/" NAME));
}
