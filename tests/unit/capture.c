/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/capture.h"

#include <dirent.h>

#include "lib/json.h"
#include "lib/text.h"
#include "tests/unit/unit.h"

struct json_object *capture_load(const char *name)
{
    _cleanup_(str_freep) char *relative = text_format("tests/data/capture/%s", name);
    _cleanup_(str_freep) char *path = unit_source_path(relative);
    size_t length;
    _cleanup_(str_freep) char *text = unit_read_file(path, &length);
    _cleanup_(json_putp) struct json_object *file = NULL;
    if (!text || json_parse(text, length, &file, NULL))
        return NULL;
    return json_object_get(json_get(file, "oslo.message"));
}

static unsigned each_of(const char *folder, void (*each)(const char *, struct json_object *))
{
    _cleanup_(str_freep) char *relative = text_format("tests/data/capture/%s", folder);
    _cleanup_(str_freep) char *path = unit_source_path(relative);
    DIR *directory = opendir(path);
    unsigned count = 0;
    for (struct dirent *entry; directory && (entry = readdir(directory));) {
        if (!text_ends_with(entry->d_name, ".json"))
            continue;
        _cleanup_(str_freep) char *name = text_format("%s/%s", folder, entry->d_name);
        _cleanup_(json_putp) struct json_object *inner = capture_load(name);
        if (!unit_check(inner != NULL, __LINE__, __FILE__, "%s cannot be read", name))
            continue;
        each(name, inner);
        count++;
    }
    if (directory)
        closedir(directory);
    return count;
}

unsigned capture_each(void (*each)(const char *name, struct json_object *inner))
{
    static const char *const folders[] = {"boot-delete", "live-migration", "startup-again",
                                          "startup-fresh"};
    unsigned count = 0;
    for (size_t i = 0; i < ARRAY_LEN(folders); i++)
        count += each_of(folders[i], each);
    return count;
}
