/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `takeover check`: the look itself needs libvirt, the message bus and the control plane, which are the
 * agent's rooms; so it is a run of the agent's program that reports and ends.
 */
#include "ctl/ctl.h"

#include <stdlib.h>
#include <string.h>

#include "ctl/handlers.h"
#include "ctl/screen.h"
#include "lib/clock.h"
#include "lib/json.h"
#include "lib/process.h"

enum { OUTPUT_MAX = 8 * 1024 * 1024, ARGUMENTS_MAX = 64 };

#define TIMEOUT_US (60 * USEC_PER_SEC)

/* Where it is installed; a build tree says where its own one is. */
static const char *program(void)
{
    const char *path = getenv("COMPUTED_PROGRAM");

    return path && *path ? path : COMPUTED_PROGRAM;
}

static int add_files(const char **argv, size_t *count, const char *option, const char *const *files,
                     struct err *e)
{
    for (; files && *files; files++) {
        if (*count + 3 > ARGUMENTS_MAX)
            return err_set(e, ERR_USAGE, "there are too many configuration files");
        argv[(*count)++] = option;
        argv[(*count)++] = *files;
    }
    return 0;
}

static int look(struct ctl *ctl, struct json_object **report, struct err *e)
{
    const char *argv[ARGUMENTS_MAX + 1] = {program(), "--takeover-check"};
    struct process_limits limits = {.timeout_us = TIMEOUT_US, .output_max = OUTPUT_MAX};
    _cleanup_(str_freep) char *out = NULL;
    size_t count = 2;

    if (add_files(argv, &count, "--config-file", ctl->lists[CTL_OPTION_CONFIG_FILE], e) < 0 ||
        add_files(argv, &count, "--config-dir", ctl->lists[CTL_OPTION_CONFIG_DIR], e) < 0)
        return -1;
    argv[count] = NULL;
    if (process_run(argv, &limits, &out, e) < 0)
        return -1;
    if (json_parse(out, strlen(out), report, e) < 0)
        return err_prefix(e, "the report of %s", program());
    return 0;
}

static void show(struct text_buffer *text, struct json_object *report)
{
    static const char *const head[] = {"RESULT", "CHECK"};
    struct json_object *checks = json_get(report, "checks");
    size_t count =
        json_object_is_type(checks, json_type_array) ? json_object_array_length(checks) : 0;

    text_buffer_printf(text, "%-9s%-16s%s\n", head[0], head[1], "WHAT WAS FOUND");
    for (size_t i = 0; i < count; i++) {
        struct json_object *row = json_object_array_get_idx(checks, i);
        _cleanup_(str_freep) char *result = text_escape(json_get_string(row, "result", "-"), 20);
        _cleanup_(str_freep) char *check = text_escape(json_get_string(row, "check", "-"), 40);
        _cleanup_(str_freep) char *found = text_escape(json_get_string(row, "text", "-"), 900);
        text_buffer_printf(text, "%-9s%-16s%s\n", result, check, found);
    }
}

int ctl_run_takeover_check(struct ctl *ctl, struct err *e)
{
    _cleanup_(json_putp) struct json_object *report = NULL;
    struct text_buffer text = TEXT_BUFFER_INIT;
    int result;

    if (look(ctl, &report, e) < 0)
        return -1;
    if (ctl_wants_json(ctl)) {
        result = ctl_print_json(ctl, report, e);
    } else {
        show(&text, report);
        result = ctl_print(ctl, &text, e);
    }
    int64_t problems = json_get_int(report, "problems", 0);
    if (result == 0 && problems > 0)
        return err_set(e, ERR_PRECHECK, "%lld problem(s) stand against a take-over of this host",
                       (long long)problems);
    return result;
}
