/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The storage part of the virt room by hand, for the lab's tests: reads from standard input, answers with
 * one object of JSON, {"ok": true, ...} or {"ok": false, "code", "error"}.
 *
 *     storage_tool disk-info                   domain XML -> {"disk", "copy", "need", "need_full"}
 *     storage_tool prepare PATH INSTANCE MIGRATION URI    disk -> {"paths", "ms"}; undone when it fails
 *     storage_tool settle|remove PATH INSTANCE
 */
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>

#include "lib/clock.h"
#include "lib/json.h"
#include "lib/text.h"
#include "virt/storage.h"

static void silent(void *aux _unused_, virErrorPtr error _unused_)
{
}

static void *turn(void *aux _unused_)
{
    while (virEventRunDefaultImpl() == 0)
        continue;
    return NULL;
}

/* An event implementation on a thread of its own, as the agent's loop is one: without it libvirt has no
 * keepalive, and with it the client behaves as it does in the agent. */
static int start_events(void)
{
    pthread_t thread;

    virSetErrorFunc(NULL, silent);
    if (virEventRegisterDefaultImpl() < 0 || pthread_create(&thread, NULL, turn, NULL) != 0)
        return -1;
    return pthread_detach(thread);
}

static char *read_input(void)
{
    struct text_buffer b = TEXT_BUFFER_INIT;
    char block[4096];

    for (size_t n = fread(block, 1, sizeof(block), stdin); n > 0;
         n = fread(block, 1, sizeof(block), stdin))
        text_buffer_add_n(&b, block, n);
    return text_buffer_take(&b);
}

static int do_disk_info(struct json_object *answer, struct err *e)
{
    _cleanup_(str_freep) char *xml = read_input();
    _cleanup_(virt_guest_freep) struct virt_guest *guest = NULL;
    struct json_object *names = json_object_new_array();
    char **targets = NULL;

    json_add(answer, "copy", names);
    if (virt_guest_from_xml(xml, &guest, e) < 0 || virt_storage_measure(guest, e) < 0)
        return -1;
    targets = virt_guest_disks_to_copy(guest);
    for (size_t i = 0; targets[i]; i++)
        json_object_array_add(names, json_object_new_string(targets[i]));
    text_vector_free(targets);
    json_add(answer, "disk", virt_storage_disk_info(guest));
    json_add_int(answer, "need", virt_storage_need(guest, true));
    json_add_int(answer, "need_full", virt_storage_need(guest, false));
    return 0;
}

static int do_prepare(char **argv, struct json_object *answer, struct err *e)
{
    _cleanup_(conf_unrefp) struct conf *conf =
        conf_for_test("DEFAULT.instances_path", argv[0], NULL);
    struct undo_handler *handlers = virt_storage_undo_handlers(conf);
    struct undo *undo = undo_new(handlers, NULL, NULL);
    _cleanup_(str_freep) char *text = read_input();
    _cleanup_(json_putp) struct json_object *disk = NULL;
    struct json_object *paths = NULL;
    struct virt_storage_plan plan = {.instance_uuid = argv[1],
                                     .migration_uuid = argv[2],
                                     .source_uri = argv[3],
                                     .paths = &paths};
    int64_t start = clock_monotonic_us();
    int result = json_parse(text, strlen(text), &disk, e);

    if (result == 0) {
        plan.disk_info = disk;
        result = virt_storage_prepare(NULL, conf, &plan, undo, e);
        if (result < 0)
            json_add_bool(answer, "undone", undo_run(undo, NULL) == 0);
        else
            json_add(answer, "paths", paths);
    }
    json_add_int(answer, "ms", (clock_monotonic_us() - start) / USEC_PER_MSEC);
    undo_free(undo);
    free(handlers);
    return result;
}

static int do_directory(char **argv, int (*act)(const struct conf *, const char *, struct err *),
                        struct err *e)
{
    _cleanup_(conf_unrefp) struct conf *conf =
        conf_for_test("DEFAULT.instances_path", argv[0], NULL);

    return act(conf, argv[1], e);
}

static int run(int argc, char **argv, struct json_object *answer, struct err *e)
{
    if (argc == 2 && strcmp(argv[1], "disk-info") == 0)
        return do_disk_info(answer, e);
    if (argc == 6 && strcmp(argv[1], "prepare") == 0)
        return do_prepare(argv + 2, answer, e);
    if (argc == 4 && strcmp(argv[1], "settle") == 0)
        return do_directory(argv + 2, virt_storage_settle, e);
    if (argc == 4 && strcmp(argv[1], "remove") == 0)
        return do_directory(argv + 2, virt_storage_remove, e);
    return err_set(e, ERR_USAGE, "unknown command");
}

int main(int argc, char **argv)
{
    _cleanup_(json_putp) struct json_object *answer = json_object_new_object();
    _cleanup_(str_freep) char *text = NULL;
    struct err e = ERR_INIT;
    int result = start_events();

    if (result == 0)
        result = run(argc, argv, answer, &e);
    json_add_bool(answer, "ok", result == 0);
    if (result < 0) {
        json_add_string(answer, "code", err_name(e.code));
        json_add_string(answer, "error", e.text);
    }
    text = json_text(answer);
    (void)printf("%s\n", text);
    return 0;
}
