/* SPDX-License-Identifier: Apache-2.0 */
#include "virt/image.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/json.h"
#include "lib/process.h"
#include "lib/text.h"
#include "virt/image_qcow2.h"

/* Nova's limits of a qemu-img run, which hostile images made necessary. */
static const struct process_limits qemu_img_limits = {
    .timeout_us = 60 * USEC_PER_SEC,
    .output_max = (size_t)1024 * 1024,
    .cpu_seconds = 30,
    .address_space = UINT64_C(2) << 30,
};

/* Work that grows with the image. */
static const struct process_limits convert_limits = {
    .timeout_us = 7200 * USEC_PER_SEC,
    .address_space = UINT64_C(4) << 30,
};

void image_info_clear(struct image_info *info)
{
    free(info->backing_file);
    free(info->backing_format);
    *info = (struct image_info){0};
}

int image_check_format(const char *format, const char *path, struct err *e)
{
    _cleanup_(str_freep) char *shown = NULL;

    if (text_equal(format, "raw") || text_equal(format, "qcow2"))
        return 0;
    shown = text_escape(format ? format : "(none)", 32);
    return err_set(e, ERR_DISK, "%s has the format %s, which cannot be moved: raw and qcow2 can",
                   path, shown);
}

/* --- reading ---------------------------------------------------------------------------------- */

static int read_raw(int fd, const char *path, const struct stat *st, struct image_info *out,
                    struct err *e)
{
    off_t end = lseek(fd, 0, SEEK_END);

    if (end < 0)
        return err_set_errno(e, ERR_DISK, errno, "the size of %s cannot be read", path);
    out->virtual_size = out->file_size = end;
    out->allocated = S_ISBLK(st->st_mode) ? (int64_t)end : (int64_t)st->st_blocks * 512;
    return 0;
}

static int check_data_file(const struct image_header *header, const char *path, struct err *e)
{
    if (!header->has_data_file)
        return 0;
    return err_set(e, ERR_DISK, "%s keeps its data in another file, which is not allowed", path);
}

/* How QEMU takes a name: "protocol:..." and what begins with a slash stand for themselves. */
static char *resolve(const char *path, const char *name)
{
    const char *slash = strrchr(path, '/');

    if (*name == '/' || !slash || name[strcspn(name, ":/")] == ':')
        return text_dup(name);
    return text_format("%.*s/%s", (int)(slash - path), path, name);
}

static int read_qcow2(int fd, const char *path, const struct stat *st, struct image_info *out,
                      struct err *e)
{
    _cleanup_(str_freep) char *name = NULL;
    struct image_header header;

    if (image_read_header(fd, path, &header, e) < 0 || check_data_file(&header, path, e) < 0 ||
        image_qcow2_backing(fd, path, &name, &out->backing_format, e) < 0)
        return -1;
    out->virtual_size = header.virtual_size;
    out->allocated = (int64_t)st->st_blocks * 512;
    out->backing_file = name ? resolve(path, name) : NULL;
    return 0;
}

int image_read(const char *path, const char *format, struct image_info *out, struct err *e)
{
    _cleanup_(fd_closep) int fd = -1;
    struct image_info info = {0};
    struct stat st;

    if (image_check_format(format, path, e) < 0)
        return -1;
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_set_errno(e, ERR_DISK, errno, "%s cannot be opened", path);
    if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
        return err_set(e, ERR_DISK, "%s is neither a file nor a block device", path);
    if (text_equal(format, "raw") ? read_raw(fd, path, &st, &info, e)
                                  : read_qcow2(fd, path, &st, &info, e))
        return -1;
    info.file_size = S_ISREG(st.st_mode) ? (int64_t)st.st_size : info.file_size;
    *out = info;
    return 0;
}

static int parse_info(const char *text, struct image_info *out, struct err *e)
{
    _cleanup_(json_putp) struct json_object *o = NULL;
    const char *backing = NULL, *format = NULL;

    if (json_parse(text, strlen(text), &o, e) < 0 ||
        json_need_int(o, "virtual-size", &out->virtual_size, e) < 0 ||
        json_need_int(o, "actual-size", &out->allocated, e) < 0)
        return -1;
    backing = json_get_string(o, "full-backing-filename", NULL);
    if (!backing)
        backing = json_get_string(o, "backing-filename", NULL);
    format = json_get_string(o, "backing-filename-format", NULL);
    out->backing_file = text_dup(backing);
    out->backing_format = text_dup(format);
    return 0;
}

int image_read_by_qemu(const char *path, struct image_info *out, struct err *e)
{
    const char *const argv[] = {"qemu-img", "info", "--output=json", "-U", "-f", "qcow2",
                                path,       NULL};
    _cleanup_(fd_closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    _cleanup_(str_freep) char *text = NULL;
    struct image_header header;
    struct image_info info = {0};

    if (fd < 0)
        return err_set_errno(e, ERR_DISK, errno, "%s cannot be opened", path);
    if (image_read_header(fd, path, &header, e) < 0 || check_data_file(&header, path, e) < 0)
        return -1;
    if (process_run(argv, &qemu_img_limits, &text, e) < 0 || parse_info(text, &info, e) < 0) {
        image_info_clear(&info);
        return err_prefix(e, "qemu-img info of %s: ", path);
    }
    *out = info;
    return 0;
}

int64_t image_growth(int fd, const char *format)
{
    struct image_header header;
    struct stat st;
    int64_t full = 0, used = 0;

    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return 0;
    full = st.st_size;
    used = (int64_t)st.st_blocks * 512;
    if (text_equal(format, "qcow2")) {
        if (image_read_header(fd, "image", &header, NULL) < 0)
            return 0;
        full = header.virtual_size;
    }
    return full > used ? full - used : 0;
}

/* --- making ----------------------------------------------------------------------------------- */

int image_no_space(int fd, const char *path, int64_t needed, struct err *e)
{
    struct statvfs fs = {0};

    (void)fstatvfs(fd, &fs);
    return err_set(e, ERR_NO_SPACE, "%s needs %jd bytes, but its file system has only %jd free",
                   path, (intmax_t)needed, (intmax_t)((int64_t)fs.f_bavail * (int64_t)fs.f_frsize));
}

static int reserve(int fd, const struct image_spec *spec, struct err *e)
{
    int reason = posix_fallocate(fd, 0, spec->virtual_size);

    if (reason == ENOSPC)
        return image_no_space(fd, spec->path, spec->virtual_size, e);
    if (reason != 0)
        return err_set_errno(e, ERR_DISK, reason, "%s cannot get its %jd bytes", spec->path,
                             (intmax_t)spec->virtual_size);
    return 0;
}

static int create_raw(int fd, const struct image_spec *spec, struct err *e)
{
    if (spec->backing_file)
        return err_set(e, ERR_DISK, "%s is raw and cannot have the backing file %s", spec->path,
                       spec->backing_file);
    if (ftruncate(fd, spec->virtual_size) < 0)
        return err_set_errno(e, ERR_DISK, errno, "%s cannot be made %jd bytes long", spec->path,
                             (intmax_t)spec->virtual_size);
    if (spec->preallocate && spec->virtual_size > 0)
        return reserve(fd, spec, e);
    return 0;
}

static int create_qcow2(int fd, const struct image_spec *spec, struct err *e)
{
    if (image_qcow2_make(fd, spec, e) < 0)
        return -1;
    return spec->preallocate ? reserve(fd, spec, e) : 0;
}

int image_create(int fd, const struct image_spec *spec, struct err *e)
{
    if (image_check_format(spec->format, spec->path, e) < 0)
        return -1;
    if (spec->backing_file && image_check_format(spec->backing_format, spec->backing_file, e) < 0)
        return -1;
    if (text_equal(spec->format, "raw") ? create_raw(fd, spec, e) : create_qcow2(fd, spec, e))
        return -1;
    if (fsync(fd) == 0)
        return 0;
    if (errno == ENOSPC || errno == EDQUOT)
        return image_no_space(fd, spec->path, spec->virtual_size, e);
    return err_set_errno(e, ERR_DISK, errno, "%s cannot be flushed", spec->path);
}

/* --- copying ---------------------------------------------------------------------------------- */

static int flush(const char *path, struct err *e)
{
    _cleanup_(fd_closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

    if (fd < 0 || fsync(fd) < 0)
        return err_set_errno(e, ERR_DISK, errno, "%s cannot be flushed", path);
    return 0;
}

static int convert_failed(const struct image_conversion *c, struct err *e)
{
    _cleanup_(fd_closep) int fd = open(c->target, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    struct stat st = {0};

    if (e && strstr(e->text, "No space left") && fd >= 0) {
        (void)fstat(fd, &st);
        return image_no_space(fd, c->target, st.st_size, e);
    }
    return err_prefix(e, "qemu-img convert of %s: ", c->source);
}

int image_convert(const struct image_conversion *c, struct err *e)
{
    const char *argv[14] = {"qemu-img", "convert", "-q", "-U", "-t", "writeback"};
    size_t n = 6;

    if (image_check_format(c->source_format, c->source, e) < 0)
        return -1;
    argv[n++] = "-f";
    argv[n++] = c->source_format;
    argv[n++] = "-O";
    argv[n++] = c->target_format;
    if (c->compress && strcmp(c->target_format, "qcow2") == 0)
        argv[n++] = "-c";
    argv[n++] = c->source;
    argv[n++] = c->target;
    if (process_run(argv, &convert_limits, NULL, e) < 0)
        return convert_failed(c, e);
    return flush(c->target, e);
}
