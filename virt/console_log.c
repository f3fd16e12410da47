/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The serial console's log. virtlogd writes it and moves it away when it is full (max_size, 2 MiB by its
 * own default): console.log, console.log.0, console.log.1 ... from new to old.
 */
#include "virt/instance_disks.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/text.h"
#include "virt/paths.h"

enum { ROTATIONS_MAX = 16 };
#define CONSOLE_BYTES_MAX (INT64_C(4) << 20)

/* How many bytes of the file's end were read, before those that are there; 0 when there is no file. */
static ssize_t read_tail(int directory_fd, const char *name, char *out, size_t size)
{
    _cleanup_(fd_closep) int fd = -1;
    struct stat st;
    off_t from = 0;

    if (!paths_exists(directory_fd, name) ||
        paths_open_file(directory_fd, "instance", name, O_RDONLY, 0, &fd, NULL) < 0 ||
        fstat(fd, &st) < 0)
        return 0;
    from = st.st_size > (off_t)size ? st.st_size - (off_t)size : 0;
    return pread(fd, out, size, from);
}

/* Older files are put before newer ones, as far as there is room. `tail` is filled from its end. */
static size_t read_all(int directory_fd, char *tail, size_t size)
{
    size_t filled = 0;

    for (int i = -1; i < ROTATIONS_MAX && filled < size; i++) {
        _cleanup_(str_freep) char *name =
            i < 0 ? text_dup("console.log") : text_format("console.log.%d", i);
        _cleanup_(str_freep) char *part = mem_new(size - filled);
        ssize_t n = read_tail(directory_fd, name, part, size - filled);

        if (n <= 0 && i >= 0)
            break;
        if (n > 0) {
            filled += (size_t)n;
            memcpy(tail + size - filled, part, (size_t)n);
        }
    }
    return filled;
}

/* Bytes of one UTF-8 character at s; 0 for what is none, and for NUL. */
static size_t character(const char *s, size_t length)
{
    for (size_t n = 1; n <= 4 && n <= length; n++)
        if (text_is_utf8(s, n))
            return *s ? n : 0;
    return 0;
}

static char *clean(const char *s, size_t length)
{
    struct text_buffer out = TEXT_BUFFER_INIT;

    for (size_t at = 0; at < length;) {
        size_t n = character(s + at, length - at);

        if (n > 0)
            text_buffer_add_n(&out, s + at, n);
        else
            text_buffer_add(&out, "\xef\xbf\xbd");
        at += n > 0 ? n : 1;
    }
    return text_buffer_take(&out);
}

int instance_console_tail(const struct conf *conf, const char *instance_uuid, int64_t bytes,
                          char **out, struct err *e)
{
    size_t size = (size_t)(bytes < 0 ? 0 : bytes > CONSOLE_BYTES_MAX ? CONSOLE_BYTES_MAX : bytes);
    _cleanup_(str_freep) char *tail = NULL;
    _cleanup_(fd_closep) int fd = -1;
    struct err reason = ERR_INIT;
    size_t filled = 0;

    if (text_check_uuid(instance_uuid, "instance", e) < 0)
        return -1;
    if (paths_open_directory(conf, instance_uuid, false, &fd, &reason) < 0 &&
        reason.sys != ENOENT) {
        if (e)
            *e = reason;
        return -1;
    }
    tail = mem_new(size + 1);
    if (fd >= 0 && size > 0)
        filled = read_all(fd, tail, size);
    *out = clean(tail + size - filled, filled);
    return 0;
}
