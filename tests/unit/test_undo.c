/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/unit.h"

#include <fcntl.h>
#include <unistd.h>

#include "lib/json.h"
#include "lib/log.h"
#include "lib/text.h"
#include "lib/undo.h"

static char trace[256], saved[1024];
static bool save_fails, disk_fails;

static int undo_port(void *aux, struct json_object *args, struct err *e)
{
    size_t n = strlen(trace);

    (void)e;
    snprintf(trace + n, sizeof(trace) - n, "%s%s;", (const char *)aux,
             json_get_string(args, "id", "-"));
    return 0;
}

static int undo_disk(void *aux, struct json_object *args, struct err *e)
{
    undo_port(aux, args, e);
    return disk_fails ? err_set(e, ERR_DISK, "disk %s is busy", json_get_string(args, "id", "-"))
                      : 0;
}

static char port[] = "port ", disk[] = "disk ";
static const struct undo_handler handlers[] = {
    {"net.unplug", undo_port, port}, {"disk.remove", undo_disk, disk}, {NULL}};

static int save(void *aux, struct json_object *steps, struct err *e)
{
    _cleanup_(str_freep) char *text = json_text(steps);

    (void)aux;
    if (save_fails)
        return err_set(e, ERR_JOURNAL, "the disk is full");
    snprintf(saved, sizeof(saved), "%s", text);
    return 0;
}

static struct undo *undo;

static void setup(void)
{
    trace[0] = saved[0] = '\0';
    save_fails = disk_fails = false;
    undo = undo_new(handlers, save, NULL);
    log_set_level(NULL, LOG_LEVEL_ERROR);
}

static void teardown(void)
{
    undo_free(undo);
    undo = NULL;
}

UNIT_FIXTURE(setup, teardown)

static struct json_object *id(const char *text)
{
    struct json_object *o = json_object_new_object();

    json_add_string(o, "id", text);
    return o;
}

static void push_three(void)
{
    UNIT_OK(undo_push(undo, "net.unplug", id("1"), &unit_err));
    UNIT_OK(undo_push(undo, "disk.remove", id("2"), &unit_err));
    UNIT_OK(undo_push(undo, "net.unplug", id("3"), &unit_err));
}

UNIT_TEST(saved_first, "a step is on disk before push returns")
{
    UNIT_OK(undo_push(undo, "net.unplug", id("1"), &unit_err));
    UNIT_STR(saved, "[[\"net.unplug\",{\"id\":\"1\"}]]");
    UNIT_OK(undo_push(undo, "disk.remove", NULL, &unit_err));
    UNIT_STR(saved, "[[\"net.unplug\",{\"id\":\"1\"}],[\"disk.remove\",null]]");
    UNIT_EQ(undo_length(undo), 2);
}

UNIT_TEST(newest_first, "steps are undone newest first, and the list on disk ends empty")
{
    push_three();
    UNIT_OK(undo_run(undo, &unit_err));
    UNIT_STR(trace, "port 3;disk 2;port 1;");
    UNIT_STR(saved, "[]");
    UNIT_EQ(undo_length(undo), 0);
    UNIT_OK(undo_run(undo, &unit_err));
    UNIT_STR(trace, "port 3;disk 2;port 1;");
}

UNIT_TEST(keeps_failed, "a failing step is kept, the others run, and the error names it")
{
    push_three();
    disk_fails = true;
    UNIT_FAILS(undo_run(undo, &unit_err), ERR_DISK);
    UNIT_STR(unit_err.text, "undo step disk.remove: disk 2 is busy");
    UNIT_STR(trace, "port 3;disk 2;port 1;");
    UNIT_STR(saved, "[[\"disk.remove\",{\"id\":\"2\"}]]");
    disk_fails = false;
    UNIT_OK(undo_run(undo, &unit_err));
    UNIT_STR(trace, "port 3;disk 2;port 1;disk 2;");
    UNIT_EQ(undo_length(undo), 0);
}

UNIT_TEST(first_error,
          "of several failures the first is returned, also to a caller without an error")
{
    UNIT_OK(undo_push(undo, "disk.remove", id("old"), &unit_err));
    UNIT_OK(undo_push(undo, "disk.remove", id("new"), &unit_err));
    disk_fails = true;
    UNIT_FAILS(undo_run(undo, &unit_err), ERR_DISK);
    UNIT_HAS(unit_err.text, "disk new");
    UNIT_EQ(undo_run(undo, NULL), -1);
    UNIT_EQ(undo_length(undo), 2);
}

UNIT_TEST(push_unsaved, "a step that cannot be saved is not in the list")
{
    push_three();
    save_fails = true;
    UNIT_FAILS(undo_push(undo, "disk.remove", id("4"), &unit_err), ERR_JOURNAL);
    UNIT_EQ(undo_length(undo), 3);
    save_fails = false;
    UNIT_OK(undo_run(undo, &unit_err));
    UNIT_STR(trace, "port 3;disk 2;port 1;");
}

UNIT_TEST(unknown, "a step without a handler is refused when pushed")
{
    UNIT_FAILS(undo_push(undo, "no.such", id("1"), &unit_err), ERR_INTERNAL);
    UNIT_EQ(undo_length(undo), 0);
    UNIT_STR(saved, "");
}

UNIT_TEST(pops, "a popped step is never undone; an unsaved pop and an empty list are errors")
{
    push_three();
    save_fails = true;
    UNIT_FAILS(undo_pop(undo, &unit_err), ERR_JOURNAL);
    UNIT_EQ(undo_length(undo), 3);
    save_fails = false;
    UNIT_OK(undo_pop(undo, &unit_err));
    UNIT_OK(undo_run(undo, &unit_err));
    UNIT_STR(trace, "disk 2;port 1;");
    UNIT_FAILS(undo_pop(undo, &unit_err), ERR_INTERNAL);
}

UNIT_TEST(commits, "a commit forgets all steps, but only once that is on disk")
{
    push_three();
    save_fails = true;
    UNIT_FAILS(undo_commit(undo, &unit_err), ERR_JOURNAL);
    UNIT_EQ(undo_length(undo), 3);
    save_fails = false;
    UNIT_OK(undo_commit(undo, &unit_err));
    UNIT_STR(saved, "[]");
    UNIT_OK(undo_run(undo, &unit_err));
    UNIT_STR(trace, "");
}

UNIT_TEST(unsaved_run, "steps that were undone are not kept because the disk is full")
{
    push_three();
    save_fails = true;
    UNIT_FAILS(undo_run(undo, &unit_err), ERR_JOURNAL);
    UNIT_STR(trace, "port 3;disk 2;port 1;");
    UNIT_EQ(undo_length(undo), 0);
}

UNIT_TEST(recovers, "the list read back after a crash undoes the same steps")
{
    _cleanup_(json_putp) struct json_object *steps = NULL;
    _cleanup_(undo_freep) struct undo *later = undo_new(handlers, NULL, NULL);

    push_three();
    UNIT_OK(json_parse(saved, strlen(saved), &steps, &unit_err));
    UNIT_OK(undo_from_json(later, steps, &unit_err));
    UNIT_EQ(undo_length(later), 3);
    UNIT_OK(undo_run(later, &unit_err));
    UNIT_STR(trace, "port 3;disk 2;port 1;");
    UNIT_EQ(json_object_array_length(steps), 3);
}

UNIT_TEST(bad_records, "a malformed record is refused whole and changes nothing")
{
    static const char *const bad[] = {"{}",
                                      "7",
                                      "[7]",
                                      "[[]]",
                                      "[[\"net.unplug\"]]",
                                      "[[\"net.unplug\",{},1]]",
                                      "[[7,{}]]",
                                      "[[\"net.unplug\",{}],[\"future.step\\u001b\",{}]]"};

    push_three();
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        _cleanup_(json_putp) struct json_object *steps = NULL;

        UNIT_OK(json_parse(bad[i], strlen(bad[i]), &steps, &unit_err));
        UNIT_FAILS(undo_from_json(undo, steps, &unit_err), ERR_JOURNAL);
        UNIT_EQ(undo_length(undo), 3);
    }
    UNIT_HAS(unit_err.text, "future.step\\x1b");
    UNIT_FAILS(undo_from_json(undo, NULL, &unit_err), ERR_JOURNAL);
}

UNIT_TEST(copy, "the list as JSON is a copy that later steps do not change")
{
    _cleanup_(json_putp) struct json_object *steps = NULL;

    push_three();
    steps = undo_to_json(undo);
    UNIT_OK(undo_commit(undo, &unit_err));
    UNIT_EQ(json_object_array_length(steps), 3);
}
