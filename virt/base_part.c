/* SPDX-License-Identifier: Apache-2.0 */
#include "virt/base_part.h"

#include <errno.h>
#include <unistd.h>

#include "lib/json.h"
#include "lib/text.h"
#include "virt/paths.h"

#define PREFIX "computed-"
#define SUFFIX ".part"

char *base_part_name(const char *middle)
{
    return text_format(PREFIX "%s" SUFFIX, middle);
}

bool base_part_is(const char *name)
{
    return text_starts_with(name, PREFIX) && text_ends_with(name, SUFFIX);
}

int base_part_begin(struct undo *undo, char **part, struct err *e)
{
    struct json_object *args = json_object_new_object();
    char random[33];

    text_random_hex(16, random);
    _cleanup_(str_freep) char *name = base_part_name(random);
    json_add_string(args, "directory", PATHS_BASE);
    json_add_string(args, "name", name);
    if (undo_push(undo, "storage.remove_file", args, e) < 0)
        return -1;
    *part = STEAL(name);
    return 0;
}

int base_part_publish(int directory_fd, const char *part, const char *name, struct err *e)
{
    if (linkat(directory_fd, part, directory_fd, name, 0) < 0 && errno != EEXIST)
        return err_set_errno(e, ERR_DISK, errno, "image base %s cannot get its name", name);
    return paths_sync(directory_fd, PATHS_BASE, e);
}
