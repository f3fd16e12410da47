/* SPDX-License-Identifier: Apache-2.0 */
#include "virt/disk_info.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "lib/json.h"
#include "lib/text.h"
#include "virt/paths.h"

enum { DISK_INFO_SIZE_MAX = 256 * 1024 };

struct json_object *disk_info_read(int directory_fd)
{
    _cleanup_(str_freep) char *text = mem_new(DISK_INFO_SIZE_MAX);
    _cleanup_(fd_closep) int fd = -1;
    struct json_object *o = NULL;
    ssize_t length = 0;

    if (paths_open_file(directory_fd, "instance", "disk.info", O_RDONLY, 0, &fd, NULL) < 0)
        return NULL;
    length = pread(fd, text, DISK_INFO_SIZE_MAX, 0);
    if (length <= 0 || length == DISK_INFO_SIZE_MAX ||
        json_parse(text, (size_t)length, &o, NULL) < 0)
        return NULL;
    if (!json_object_is_type(o, json_type_object)) {
        json_object_put(o);
        return NULL;
    }
    return o;
}

int disk_info_write(int directory_fd, const char *instance, struct json_object *formats,
                    struct err *e)
{
    _cleanup_(str_freep) char *json = json_text(formats);
    _cleanup_(str_freep) char *text = text_format("%s\n", json);
    _cleanup_(fd_closep) int fd = -1;
    size_t length = strlen(text);

    if (paths_open_file(directory_fd, instance, "disk.info", O_RDWR | O_CREAT | O_EXCL, 0644, &fd,
                        e) < 0)
        return -1;
    if (write(fd, text, length) != (ssize_t)length || fsync(fd) < 0)
        return err_set_errno(e, errno == ENOSPC ? ERR_NO_SPACE : ERR_SYSTEM, errno,
                             "disk.info of instance %s cannot be written", instance);
    return 0;
}
