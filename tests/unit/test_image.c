/* SPDX-License-Identifier: Apache-2.0 */
/* qcow2 images that we make and read by ourselves, against the real qemu-img. */
#include "tests/unit/unit.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/process.h"
#include "lib/text.h"
#include "virt/image.h"
#include "virt/image_qcow2.h"

#define MIB (INT64_C(1) << 20)
#define GIB (INT64_C(1) << 30)
#define TIB (INT64_C(1) << 40)

static char *in(const char *name)
{
    return text_format("%s/%s", unit_directory(), name);
}

static int make(const char *path, int64_t size, const char *backing, const char *format,
                struct err *e)
{
    const struct image_spec spec = {.path = path,
                                    .format = "qcow2",
                                    .virtual_size = size,
                                    .backing_file = backing,
                                    .backing_format = format};
    _cleanup_(fd_closep) int fd = -1;

    (void)unlink(path);
    fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    return image_create(fd, &spec, e);
}

static void check_same(const char *path)
{
    struct image_info ours = {0}, qemus = {0};

    UNIT_OK(image_read(path, "qcow2", &ours, &unit_err));
    UNIT_OK(image_read_by_qemu(path, &qemus, &unit_err));
    UNIT_EQ(ours.virtual_size, qemus.virtual_size);
    UNIT_EQ(ours.allocated, qemus.allocated);
    UNIT_STR(ours.backing_file, qemus.backing_file);
    UNIT_STR(ours.backing_format, qemus.backing_format);
    image_info_clear(&ours);
    image_info_clear(&qemus);
}

static void run(const char *const argv[])
{
    UNIT_OK(process_run(argv, NULL, NULL, &unit_err));
}

/* No cluster is leaked or counted twice, also after the guest wrote. */
static void check_whole(const char *path, const char *last_mib)
{
    _cleanup_(str_freep) char *write_last = text_format("write -P 7 %s 1M", last_mib);
    const char *const check[] = {"qemu-img", "check", "-q", "-f", "qcow2", path, NULL};
    const char *const writes[] = {"qemu-io", "-f",       "qcow2", "-c", "write -P 9 0 64k",
                                  "-c",      write_last, path,    NULL};

    run(check);
    run(writes);
    run(check);
}

UNIT_TEST(made, "an image that we make is whole to QEMU, from one sector to 8 TiB")
{
    static const int64_t sizes[] = {0,        512,    64 * MIB, 512 * MIB, 512 * MIB + 512,
                                    20 * GIB, 8 * TIB};
    _cleanup_(str_freep) char *path = in("made");
    const char *const check[] = {"qemu-img", "check", "-q", "-f", "qcow2", path, NULL};
    struct image_info info = {0};

    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        UNIT_OK(make(path, sizes[i], NULL, NULL, &unit_err));
        check_same(path);
        UNIT_OK(image_read(path, "qcow2", &info, &unit_err));
        UNIT_EQ(info.virtual_size, sizes[i]);
        UNIT_TRUE(info.backing_file == NULL && info.backing_format == NULL);
        image_info_clear(&info);
        run(check);
    }
    UNIT_OK(make(path, 20 * GIB, NULL, NULL, &unit_err));
    check_whole(path, "20479M");
    UNIT_OK(make(path, 8 * TIB, NULL, NULL, &unit_err));
    check_whole(path, "8388607M");
}

UNIT_TEST(overlay, "an overlay that we make shows QEMU its base, and takes writes")
{
    _cleanup_(str_freep) char *path = in("overlay");
    _cleanup_(str_freep) char *base = in("base-of-the-overlay");
    const char *const read_base[] = {"qemu-io", "-f", "qcow2", "-c", "read -P 0x61 65536 512",
                                     path,      NULL};
    _cleanup_(str_freep) char *content = mem_new(MIB + 1);

    memset(content, 'a', MIB);
    unit_write_file(base, content);
    UNIT_OK(make(path, 3 * GIB, base, "raw", &unit_err));
    check_same(path);
    check_whole(path, "3071M");
    run(read_base);
    UNIT_OK(make(base, 3 * GIB, NULL, NULL, &unit_err));
    UNIT_OK(make(path, 3 * GIB, base, "qcow2", &unit_err));
    check_same(path);
}

UNIT_TEST(refused,
          "a size that QEMU would not take, and a base whose path is too long, are refused")
{
    _cleanup_(str_freep) char *path = in("refused");
    char base[1025] = {'/'};

    UNIT_FAILS(make(path, 1000, NULL, NULL, &unit_err), ERR_DISK);
    UNIT_HAS(unit_err.text, "1000");
    UNIT_FAILS(make(path, 2048 * TIB + 512, NULL, NULL, &unit_err), ERR_DISK);
    UNIT_OK(make(path, 2048 * TIB, NULL, NULL, &unit_err));
    check_same(path);
    memset(base + 1, 'b', sizeof(base) - 2);
    UNIT_FAILS(make(path, GIB, base, "raw", &unit_err), ERR_DISK);
}

UNIT_TEST(of_qemu_img, "an image of qemu-img is read as qemu-img reads it, of both versions")
{
    static const char *const options[] = {"compat=0.10", "compat=1.1", "extended_l2=on",
                                          "cluster_size=512", "compat=1.1,lazy_refcounts=on"};
    static const char *const names[] = {
        "base", "/somewhere/base", "sub/base", "nbd://host/base", "sub:dir/base", "./sub:dir/base"};
    _cleanup_(str_freep) char *path = in("read");

    for (size_t i = 0; i < ARRAY_LEN(options); i++) {
        const char *const create[] = {"qemu-img", "create",   "-q", "-f", "qcow2",
                                      "-o",       options[i], path, "1M", NULL};
        run(create);
        check_same(path);
    }
    for (size_t i = 0; i < 2 * ARRAY_LEN(names); i++) {
        const char *const create[] = {"qemu-img", "create",     "-q", "-u",
                                      "-f",       "qcow2",      "-o", options[i % 2],
                                      "-b",       names[i / 2], "-F", i % 3 ? "raw" : "qcow2",
                                      path,       "1M",         NULL};
        run(create);
        check_same(path);
    }
}

UNIT_TEST(cut,
          "extensions that reach beyond the name of the base, or too long a format, are an error")
{
    static const unsigned char lengths[] = {16, 200};
    _cleanup_(str_freep) char *path = in("cut");
    struct image_info info = {0};

    for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
        UNIT_OK(make(path, GIB, "/base", "raw", &unit_err));
        _cleanup_(fd_closep) int fd = open(path, O_RDWR | O_CLOEXEC);
        UNIT_EQ(pwrite(fd, &lengths[i], 1, 112 + 7), 1);
        UNIT_FAILS(image_read(path, "qcow2", &info, &unit_err), ERR_DISK);
        UNIT_HAS(unit_err.text, "extensions");
    }
}

UNIT_TEST(no_format, "a base whose format is empty has none, as QEMU reads it")
{
    static const unsigned char none;
    _cleanup_(str_freep) char *path = in("no-format");
    struct image_info info = {0};

    UNIT_OK(make(path, GIB, "/base", "raw", &unit_err));
    _cleanup_(fd_closep) int fd = open(path, O_RDWR | O_CLOEXEC);
    UNIT_EQ(pwrite(fd, &none, 1, 112 + 7), 1);
    UNIT_OK(image_read(path, "qcow2", &info, &unit_err));
    UNIT_STR(info.backing_file, "/base");
    UNIT_TRUE(info.backing_format == NULL);
    image_info_clear(&info);
}
