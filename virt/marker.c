/* SPDX-License-Identifier: Apache-2.0 */
#include "virt/marker.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/json.h"
#include "lib/text.h"
#include "virt/paths.h"

enum { MARKER_SIZE_MAX = 4096 };

static char *marker_text(const char *instance_uuid, const char *migration_uuid)
{
    _cleanup_(json_putp) struct json_object *o = json_object_new_object();
    _cleanup_(str_freep) char *json = NULL;
    char when[CLOCK_TEXT_SIZE];

    clock_format_object(clock_realtime_us(), when);
    json_add_string(o, "instance", instance_uuid);
    json_add_string(o, "migration", migration_uuid);
    json_add_string(o, "made", when);
    json = json_text(o);
    return text_format("%s\n", json);
}

static int write_all(int fd, const char *text)
{
    size_t length = strlen(text);

    while (length > 0) {
        ssize_t n = write(fd, text, length);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        text += n;
        length -= (size_t)n;
    }
    return 0;
}

int marker_write(int directory_fd, const char *directory, const char *instance_uuid,
                 const char *migration_uuid, struct err *e)
{
    _cleanup_(str_freep) char *text = marker_text(instance_uuid, migration_uuid);
    _cleanup_(fd_closep) int fd = -1;

    if (paths_open_file(directory_fd, directory, PATHS_MARKER, O_WRONLY | O_CREAT | O_EXCL, 0600,
                        &fd, e) < 0) {
        if (e && e->sys == EEXIST)
            return err_set(e, ERR_DISK_EXISTS, "directory %s belongs to another migration",
                           directory);
        return -1;
    }
    if (write_all(fd, text) < 0 || fsync(fd) < 0)
        return err_set_errno(e, errno == ENOSPC ? ERR_NO_SPACE : ERR_SYSTEM, errno,
                             "marker %s/%s cannot be written", directory, PATHS_MARKER);
    return paths_sync(directory_fd, directory, e);
}

static void parse_marker(const char *text, size_t length, char migration_uuid[MARKER_UUID_SIZE])
{
    _cleanup_(json_putp) struct json_object *o = NULL;
    const char *uuid = NULL;

    if (json_parse(text, length, &o, NULL) < 0)
        return;
    uuid = json_get_string(o, "migration", NULL);
    if (uuid && text_check_uuid(uuid, "migration", NULL) == 0)
        memcpy(migration_uuid, uuid, MARKER_UUID_SIZE);
}

int marker_read(int directory_fd, const char *directory, bool *found,
                char migration_uuid[MARKER_UUID_SIZE], struct err *e)
{
    _cleanup_(fd_closep) int fd = -1;
    char text[MARKER_SIZE_MAX];
    ssize_t length = 0;

    migration_uuid[0] = '\0';
    if (!paths_exists(directory_fd, PATHS_MARKER)) {
        *found = false;
        return 0;
    }
    if (paths_open_file(directory_fd, directory, PATHS_MARKER, O_RDONLY, 0, &fd, e) < 0)
        return -1;
    length = pread(fd, text, sizeof(text), 0);
    if (length < 0)
        return err_set_errno(e, ERR_SYSTEM, errno, "marker %s/%s cannot be read", directory,
                             PATHS_MARKER);
    parse_marker(text, (size_t)length, migration_uuid);
    *found = true;
    return 0;
}

int marker_remove(int directory_fd, const char *directory, struct err *e)
{
    if (unlinkat(directory_fd, PATHS_MARKER, 0) < 0 && errno != ENOENT)
        return err_set_errno(e, ERR_SYSTEM, errno, "marker %s/%s cannot be removed", directory,
                             PATHS_MARKER);
    return paths_sync(directory_fd, directory, e);
}
