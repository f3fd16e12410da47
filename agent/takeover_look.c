/* SPDX-License-Identifier: Apache-2.0 */
/* Parts of the look before a take-over that need no connection. */
#include "agent/takeover.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "lib/json.h"
#include "lib/text.h"

void takeover_add(struct json_object *report, const char *check, const char *result,
                  const char *format, ...)
{
    struct json_object *row = json_object_new_object(), *checks = json_get(report, "checks");
    char text[ERR_TEXT_SIZE * 2];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (!checks) {
        checks = json_object_new_array();
        json_add(report, "checks", checks);
    }
    json_add_string(row, "check", check);
    json_add_string(row, "result", result);
    json_add_string(row, "text", text);
    json_object_array_add(checks, row);
    if (text_equal(result, "problem"))
        json_add_int(report, "problems", json_get_int(report, "problems", 0) + 1);
}

/* ---- processes ---- */

/* Arguments divided by blanks; false if there are none (a kernel thread, or gone). */
static bool read_command(const char *proc, const char *pid, char *out, size_t size)
{
    _cleanup_(str_freep) char *path = text_format("%s/%s/cmdline", proc, pid);
    _cleanup_(fd_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, out, size - 1);

    if (n <= 0)
        return false;
    out[n] = '\0';
    for (ssize_t i = 0; i < n - 1; i++)
        if (out[i] == '\0')
            out[i] = ' ';
    return true;
}

/* "nova-compute" as a whole word: the program, or the script that a Python runs. */
static bool is_nova_compute(const char *command)
{
    char **words = text_split(command, ' ');
    bool found = false;

    for (size_t i = 0; i < 3 && words[i] && !found; i++) {
        const char *name = strrchr(words[i], '/');
        found = text_equal(name ? name + 1 : words[i], "nova-compute");
    }
    text_vector_free(words);
    return found;
}

void takeover_look_processes(struct json_object *report, const char *proc)
{
    struct json_object *list = json_object_new_array();
    DIR *dir = opendir(proc);

    for (struct dirent *d = dir ? readdir(dir) : NULL; d; d = readdir(dir)) {
        char command[512];
        if (strspn(d->d_name, "0123456789") != strlen(d->d_name) ||
            !read_command(proc, d->d_name, command, sizeof(command)) || !is_nova_compute(command))
            continue;
        _cleanup_(str_freep) char *shown = text_escape(command, 200);
        struct json_object *row = json_object_new_object();
        json_add_string(row, "pid", d->d_name);
        json_add_string(row, "command", shown);
        json_object_array_add(list, row);
    }
    if (dir)
        (void)closedir(dir);
    size_t count = json_object_array_length(list);
    if (count)
        takeover_add(
            report, "nova-compute", "note",
            "nova-compute runs (%zu process(es)); stop it before computed is started: both "
            "would take requests from the same queue",
            count);
    else
        takeover_add(report, "nova-compute", "good", "no nova-compute runs on this host");
    json_add(report, "nova_compute", list);
}

/* ---- options ---- */

void takeover_look_options(struct json_object *report, const struct conf *conf,
                           const struct conf_report *conf_report)
{
    struct text_buffer idle = TEXT_BUFFER_INIT;
    size_t shown = 0;

    for (int i = 0; i < CONF_COUNT; i++) {
        const struct conf_row *row = conf_row((enum conf_id)i);
        if ((row->flags & CONF_IDLE) && conf_is_set(conf, (enum conf_id)i))
            text_buffer_printf(&idle, "%s%s.%s", idle.length ? ", " : "", row->group, row->name);
    }
    for (size_t i = 0; conf_report && i < conf_report->length && shown < 20; i++) {
        if (conf_report->items[i].level == CONF_NOTE)
            continue;
        _cleanup_(str_freep) char *text = conf_problem_text(&conf_report->items[i]);
        takeover_add(report, "configuration", "note", "%s", text);
        shown++;
    }
    if (idle.length)
        takeover_add(report, "configuration", "note", "set, but without effect here: %s",
                     idle.data);
    if (conf_report && conf_report->ignored)
        takeover_add(report, "configuration", "note",
                     "%u option(s) of Nova are set for which computed has no use",
                     conf_report->ignored);
    if (!idle.length && !shown)
        takeover_add(report, "configuration", "good", "every option that is set is known here");
    text_buffer_free(&idle);
}

/* ---- instances and domains ---- */

static struct json_object *find_uuid(struct json_object *array, const char *uuid)
{
    size_t count =
        json_object_is_type(array, json_type_array) ? json_object_array_length(array) : 0;

    for (size_t i = 0; i < count; i++) {
        struct json_object *o = json_object_array_get_idx(array, i);
        if (text_equal(json_get_string(o, "uuid", ""), uuid))
            return o;
    }
    return NULL;
}

static bool has_no_domain_by_right(const char *vm_state)
{
    return text_equal(vm_state, "building") || text_equal(vm_state, "error") ||
           text_equal(vm_state, "shelved_offloaded") || text_equal(vm_state, "deleted");
}

static void look_instance(struct json_object *report, struct json_object *instance,
                          struct json_object *domains)
{
    const char *uuid = json_get_string(instance, "uuid", "?");
    const char *vm_state = json_get_string(instance, "vm_state", "");
    const char *task = json_get_string(instance, "task_state", NULL);

    if (task)
        takeover_add(report, "instance", "problem",
                     "%s has the task %s; wait for its end before the service is exchanged", uuid,
                     task);
    if (text_equal(vm_state, "resized") || text_equal(vm_state, "rescued"))
        takeover_add(
            report, "instance", "problem",
            "%s is %s, which computed cannot end; %s it with nova-compute first", uuid, vm_state,
            text_equal(vm_state, "resized") ? "confirm or revert the resize of" : "unrescue");
    if (!find_uuid(domains, uuid) && !has_no_domain_by_right(vm_state))
        takeover_add(report, "instance", "problem",
                     "%s is %s in Nova, but there is no domain of it here", uuid, vm_state);
}

void takeover_compare(struct json_object *report, struct json_object *instances,
                      struct json_object *domains)
{
    size_t strangers = 0, count = json_object_array_length(instances);
    int64_t before = json_get_int(report, "problems", 0);

    for (size_t i = 0; i < count; i++)
        look_instance(report, json_object_array_get_idx(instances, i), domains);
    for (size_t i = 0; i < json_object_array_length(domains); i++)
        if (!find_uuid(instances,
                       json_get_string(json_object_array_get_idx(domains, i), "uuid", "")))
            strangers++;
    if (strangers)
        takeover_add(report, "instances", "note",
                     "%zu domain(s) of this host are not Nova's; they are left alone", strangers);
    if (json_get_int(report, "problems", 0) == before)
        takeover_add(report, "instances", "good",
                     "%zu instance(s) of Nova here, each with what belongs to it", count);
}

static void refuse(struct json_object *report, const char *name, const char *what)
{
    takeover_add(report, "domain", "problem",
                 "%s has %s: it runs on, but computed cannot start it anew or move it", name, what);
}

void takeover_look_domain(struct json_object *report, const char *name, struct json_object *guest,
                          const char *xml)
{
    static const struct {
        const char *part, *what;
    } parts[] = {{"<numatune", "a NUMA placement"},
                 {"<hugepages", "huge pages"},
                 {"<vcpupin ", "pinned CPUs"},
                 {"<launchSecurity", "encrypted memory"},
                 {"<tpm ", "a TPM"},
                 {"<iommu ", "an IOMMU"}};
    struct json_object *disks = json_get(guest, "disks");
    size_t count =
        json_object_is_type(disks, json_type_array) ? json_object_array_length(disks) : 0;

    for (size_t i = 0; xml && i < ARRAY_LEN(parts); i++)
        if (strstr(xml, parts[i].part))
            refuse(report, name, parts[i].what);
    if (json_get_bool(guest, "has_pci_device", false))
        refuse(report, name, "a PCI device of the host");
    if (json_get_bool(guest, "has_mdev", false))
        refuse(report, name, "a mediated device");
    for (size_t i = 0; i < count; i++)
        if (json_get_bool(json_object_array_get_idx(disks, i), "is_volume", false)) {
            refuse(report, name, "an attached volume");
            return;
        }
}
