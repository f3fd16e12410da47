/* SPDX-License-Identifier: Apache-2.0 */
/* The page of `plan`, as it stands on the screen, and what its verdict means. */
#include "tests/unit/unit.h"

#include "ctl/ctl.h"
#include "ctl/view.h"
#include "lib/json.h"

static const char whole[] =
    "{\"name\":\"vm1\",\"source\":\"hosta\",\"dest\":\"hostb\",\"checks\":["
    "{\"at\":\"hosta\",\"check\":\"state\",\"result\":\"passed\",\"text\":\"running\"},"
    "{\"at\":\"hostb\",\"check\":\"memory\",\"result\":\"refused\",\"text\":"
    "\"guest 1b0e needs 2.0 GiB of memory, and host hostb has 1.0 GiB available\"}],"
    "\"to_move\":{\"memory\":{\"total\":2147483648,\"touched\":1073741824},\"disks\":["
    "{\"target\":\"vda\",\"format\":\"qcow2\",\"virtual_size\":10737418240,"
    "\"allocated\":1048576,\"how\":\"copied\",\"bytes\":1048576,"
    "\"base\":{\"name\":\"abc\",\"here\":true,\"local\":false,\"bytes\":0}},"
    "{\"target\":\"hdd\",\"format\":\"raw\",\"virtual_size\":524288,\"allocated\":524288,"
    "\"how\":\"file\",\"bytes\":524288,\"base\":null}],"
    "\"disk_bytes\":1572864,\"base_bytes\":0,\"total_bytes\":1075314688},"
    "\"expected\":{\"dirty_rate_bytes_s\":3145728,\"dirty_rate_text\":\"measured now, over 1 s\","
    "\"bandwidth_bytes_s\":104857600,\"bandwidth_text\":\"its limit, 100 "
    "MiB/s\",\"time_s\":12,\"time_low_s\":9,\"time_high_s\":null,"
    "\"pause_ms\":92,\"pause_low_ms\":70,\"pause_high_ms\":140,\"overhead_ms\":60,\"overhead_"
    "learned\":false},"
    "\"policy\":{\"sentences\":[\"adaptive: one\",\"no deadline\"]},"
    "\"switchover\":{\"source\":\"hold\",\"destination\":\"forward\",\"mode\":\"forward\"},"
    "\"queue\":{\"places\":1,\"in_use\":1,\"ahead\":2,\"at_once\":false},"
    "\"verdict\":\"refused\",\"reasons\":[\"guest 1b0e needs 2.0 GiB of memory\"]}";

static struct json_object *parsed(const char *text)
{
    struct json_object *o = NULL;

    UNIT_OK(json_parse(text, strlen(text), &o, &unit_err));
    return o;
}

static char *page(const char *text, unsigned width)
{
    _cleanup_(json_putp) struct json_object *o = parsed(text);
    struct text_buffer out = TEXT_BUFFER_INIT;

    view_plan(&out, o, width);
    return text_buffer_take(&out);
}

UNIT_TEST(sections, "the page has its sections, with figures and reasons")
{
    _cleanup_(str_freep) char *text = page(whole, 0);

    UNIT_STR(text,
             "vm1 from hosta to hostb; nothing was changed\n"
             "\nChecks\n"
             "  passed   hosta  state   running\n"
             "  refused  hostb  memory  guest 1b0e needs 2.0 GiB of memory, and host hostb has 1.0 "
             "GiB available\n"
             "\nTo move\n"
             "  memory          2.00 GiB, of which 1.00 GiB are in use\n"
             "  disk vda        1.0 MiB of 10.00 GiB used, qcow2, copied; its image base abc is "
             "there\n"
             "  disk hdd        512.0 KiB of 512.0 KiB used, raw, copied as a file\n"
             "  together        1.00 GiB\n"
             "\nExpected\n"
             "  dirty rate      3.0 MiB/s, measured now, over 1 s\n"
             "  bandwidth       100.0 MiB/s, its limit, 100 MiB/s\n"
             "  time            00:00:12 (00:00:09 or more)\n"
             "  pause           about 92 ms (70 ms to 140 ms), of which 60 ms do not depend on "
             "memory (assumed)\n"
             "\nPolicy\n"
             "  rules           adaptive: one\n"
             "                  no deadline\n"
             "  switch-over     forward (the source does hold, the destination forward)\n"
             "  start           it waits: 1 of 1 place(s) in use, 2 before it\n"
             "\nVerdict\n"
             "  It would be refused.\n"
             "  - guest 1b0e needs 2.0 GiB of memory\n");
}

UNIT_TEST(wrapped, "on a terminal long sentences are set below one another, none is cut")
{
    _cleanup_(str_freep) char *text = page(whole, 72);

    UNIT_HAS(text, "  refused  hostb  memory  guest 1b0e needs 2.0 GiB of memory, and host\n"
                   "                          hostb has 1.0 GiB available\n");
    for (const char *line = text; line && *line; line = strchr(line, '\n')) {
        line += *line == '\n';
        UNIT_TRUE(strcspn(line, "\n") <= 72);
    }
}

UNIT_TEST(hostile, "a document that is none, or holds what a terminal would obey, is harmless")
{
    static const char *const odd[] = {
        "{}",
        "[]",
        "{\"checks\":\"all\",\"to_move\":[],\"expected\":3,\"policy\":null,\"reasons\":{}}",
        "{\"checks\":[1,null,{\"at\":5}],\"to_move\":{\"disks\":[null,[]]},\"reasons\":[1,null]}",
        "{\"name\":\"\\u001b[2J\",\"checks\":[{\"text\":\"\\u001b[1mx\"}],\"reasons\":"
        "[\"\\u0007\"]}",
    };

    for (size_t i = 0; i < ARRAY_LEN(odd); i++) {
        _cleanup_(str_freep) char *text = page(odd[i], i % 2 ? 40 : 0);
        UNIT_HAS(text, "Verdict");
        UNIT_TRUE(!strchr(text, '\x1b') && !strchr(text, '\a'));
    }
}

UNIT_TEST(unknown, "what is not known is said to be so")
{
    _cleanup_(str_freep) char *text =
        page("{\"verdict\":\"unknown\",\"expected\":{\"time_s\":null,\"dirty_rate_bytes_s\":null},"
             "\"queue\":{\"at_once\":true},\"switchover\":{\"source\":\"hold\"}}",
             0);

    UNIT_HAS(text, "  time            unknown\n");
    UNIT_HAS(text, "  pause           unknown\n");
    UNIT_HAS(text, "  start           at once\n");
    UNIT_HAS(text, "unknown (the source does hold, the destination does not tell)");
    UNIT_HAS(text, "Nothing that is known speaks against it.");
}

static void outcome(const char *verdict, int status)
{
    _cleanup_(str_freep) char *text = text_format("{\"verdict\":\"%s\"}", verdict);
    _cleanup_(json_putp) struct json_object *o = parsed(text);
    struct err e = ERR_INIT;
    int result = view_plan_outcome(o, &e);

    UNIT_EQ(result < 0 ? err_exit_code(e.code) : 0, status);
}

UNIT_TEST(outcomes, "the exit status is 0 for go, 65 for refused, 69 for what could not be asked")
{
    outcome("go", 0);
    outcome("refused", 65);
    outcome("unknown", 69);
    outcome("", 69);
}

/* ---- the command line ---- */

static void ends(const char *line, int status, const char *part)
{
    _cleanup_(str_freep) char *out_text = NULL;
    _cleanup_(str_freep) char *err_text = NULL;
    size_t out_size, err_size;
    char **argv = text_split(line, ' ');
    FILE *out = open_memstream(&out_text, &out_size), *err = open_memstream(&err_text, &err_size);

    UNIT_EQ(ctl_main((int)text_vector_length(argv), argv, out, err), status);
    (void)fclose(out);
    (void)fclose(err);
    text_vector_free(argv);
    UNIT_HAS(err_text, part);
}

UNIT_TEST(usage, "a wrong command line asks no agent; a missing agent is told as ever")
{
    ends("computectl --socket /nonexistent/control plan vm1", 64, "--to is missing");
    ends("computectl plan vm1 --to hostb cheese=1", 64, "\"cheese\" is not a setting");
    ends("computectl plan vm1 --to hostb --block --shared", 64, "exclude each other");
    ends("computectl --socket /nonexistent/control plan vm1 --to hostb", 69, "no agent listens");
}
