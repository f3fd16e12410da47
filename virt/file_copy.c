/* SPDX-License-Identifier: Apache-2.0 */
#include "virt/file_copy.h"

#include <errno.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/attributes.h"
#include "lib/text.h"
#include "virt/image.h"

enum { COPY_SIZE = 1 << 20 };

static int write_at(int fd, const char *data, size_t length, off_t at)
{
    while (length > 0) {
        ssize_t n = pwrite(fd, data, length, at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        data += n;
        at += n;
        length -= (size_t)n;
    }
    return 0;
}

/* Where the kernel cannot copy between these two (EXDEV, ENOSYS, EINVAL): through memory. */
static ssize_t copy_some(int in_fd, int out_fd, off_t at, size_t length, char **block)
{
    loff_t in = at, out = at;
    ssize_t n = copy_file_range(in_fd, &in, out_fd, &out, length, 0);

    if (n >= 0 || errno == ENOSPC || errno == EDQUOT || errno == EIO)
        return n;
    if (!*block)
        *block = mem_new(COPY_SIZE);
    n = pread(in_fd, *block, length < COPY_SIZE ? length : COPY_SIZE, at);
    return n > 0 && write_at(out_fd, *block, (size_t)n, at) < 0 ? -1 : n;
}

static int copy_range(int in_fd, int out_fd, off_t at, off_t end, char **block)
{
    while (at < end) {
        ssize_t n = copy_some(in_fd, out_fd, at, (size_t)(end - at), block);

        if (n < 0 && errno != EINTR)
            return -1;
        if (n == 0) {
            errno = EIO; /* it was longer a moment ago */
            return -1;
        }
        at += n > 0 ? n : 0;
    }
    return 0;
}

/* A file system that knows no holes says that all is data. */
static int copy_data(int in_fd, int out_fd, off_t size)
{
    _cleanup_(str_freep) char *block = NULL;
    off_t at = 0;

    while (at < size) {
        off_t data = lseek(in_fd, at, SEEK_DATA);
        off_t hole = data < 0 ? -1 : lseek(in_fd, data, SEEK_HOLE);

        if (data < 0 && errno == ENXIO)
            return 0;
        if (data < 0 || hole < 0) {
            data = at;
            hole = size;
        }
        if (copy_range(in_fd, out_fd, data, hole < size ? hole : size, &block) < 0)
            return -1;
        at = hole;
    }
    return 0;
}

static int copy_all(int in_fd, int out_fd, off_t size)
{
    if (ioctl(out_fd, FICLONE, in_fd) < 0 &&
        (ftruncate(out_fd, size) < 0 || copy_data(in_fd, out_fd, size) < 0))
        return -1;
    return fsync(out_fd);
}

int file_copy(int in_fd, int out_fd, const char *path, struct err *e)
{
    struct stat st;

    if (fstat(in_fd, &st) < 0)
        return err_set_errno(e, ERR_DISK, errno, "what is copied to %s cannot be read", path);
    if (copy_all(in_fd, out_fd, st.st_size) == 0)
        return 0;
    if (errno == ENOSPC || errno == EDQUOT)
        return image_no_space(out_fd, path, st.st_size, e);
    return err_set_errno(e, ERR_DISK, errno, "%s cannot be written", path);
}
