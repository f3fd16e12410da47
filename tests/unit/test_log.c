/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/unit.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/json.h"
#include "lib/log.h"
#include "lib/text.h"

LOG_MODULE(tests);

static char *file, *content;

static void setup(void)
{
    setenv("TZ", "UTC", 1);
    tzset();
    file = text_format("%s/test.log", unit_directory());
    (void)unlink(file);
    UNIT_OK(log_open(file, LOG_FORMAT_TEXT, &unit_err));
    log_set_level(NULL, LOG_LEVEL_INFO);
    clock_fake_set(INT64_C(1795262400123456));
}

static void teardown(void)
{
    log_close();
    clock_fake_stop();
    free(file);
    free(content);
    content = NULL;
}

UNIT_FIXTURE(setup, teardown)

static const char *lines(void)
{
    free(content);
    content = unit_read_file(file, NULL);
    return content ? content : "";
}

UNIT_TEST(text_lines, "a line has time, level, module and text; with a scope also what it is about")
{
    struct log_scope outer, inner;

    log_info("one");
    outer = log_scope_begin("req-1", "7f");
    log_warning("two %d", 2);
    inner = log_scope_begin(NULL, "8f");
    log_error("three");
    log_scope_end(&inner);
    log_info("four");
    log_scope_end(&outer);
    log_info("five");
    UNIT_STR(lines(), "2026-11-21 12:00:00.123 INFO tests one\n"
                      "2026-11-21 12:00:00.123 WARNING tests [req-1 7f] two 2\n"
                      "2026-11-21 12:00:00.123 ERROR tests [8f] three\n"
                      "2026-11-21 12:00:00.123 INFO tests [req-1 7f] four\n"
                      "2026-11-21 12:00:00.123 INFO tests five\n");
}

UNIT_TEST(full_request_id, "a whole request id and a whole UUID fit a scope")
{
    const char *id = "req-a3b6c1d0-0000-4000-8000-00000000000f";
    struct log_scope scope = log_scope_begin(id, id + 4);

    log_info("x");
    log_scope_end(&scope);
    UNIT_HAS(lines(), "[req-a3b6c1d0-0000-4000-8000-00000000000f "
                      "a3b6c1d0-0000-4000-8000-00000000000f] x");
}

UNIT_TEST(hostile, "values from outside cannot forge a line or drive the terminal")
{
    struct log_scope scope = log_scope_begin("req\n\x1b", "x\r");

    log_info("name %s", "a\n2026-11-21 12:00:00.123 ERROR tests forged\x1b[2J\xff\x7f");
    log_scope_end(&scope);
    UNIT_STR(lines(), "2026-11-21 12:00:00.123 INFO tests [req\\x0a\\x1b x\\x0d] name "
                      "a\\x0a2026-11-21 12:00:00.123 ERROR tests forged\\x1b[2J\\xff\\x7f\n");
}

UNIT_TEST(errors, "an error is told with its sentence and code, an empty one with its summary")
{
    struct err e = ERR_INIT;

    err_set(&e, ERR_DISK, "no room on %s", "vda");
    log_err(LOG_LEVEL_ERROR, &e, "migration %d failed", 7);
    UNIT_HAS(lines(), "ERROR tests migration 7 failed: no room on vda (DISK)\n");
}

UNIT_TEST(overlong, "an overlong text is cut, and its line still ends")
{
    _cleanup_(str_freep) char *text = mem_new(100001);
    const char *got;

    memset(text, 'x', 100000);
    log_info("%s", text);
    log_info("next");
    got = lines();
    UNIT_TRUE(strlen(got) < 10000);
    UNIT_HAS(got, "xxx...\n2026-11-21 12:00:00.123 INFO tests next\n");
}

UNIT_TEST(levels, "levels hold for all modules, or for one of its own")
{
    log_debug("hidden");
    log_set_level("tests", LOG_LEVEL_DEBUG);
    log_debug("shown");
    UNIT_TRUE(!log_enabled(LOG_LEVEL_DEBUG, "other") && log_enabled(LOG_LEVEL_DEBUG, "tests"));
    log_set_level("tests", LOG_LEVEL_ERROR);
    log_warning("hidden");
    UNIT_EQ(log_get_level("tests"), LOG_LEVEL_ERROR);
    UNIT_EQ(log_get_level("other"), LOG_LEVEL_INFO);
    log_set_level(NULL, LOG_LEVEL_WARNING);
    log_warning("all");
    UNIT_EQ(log_get_level("tests"), LOG_LEVEL_WARNING);
    UNIT_STR(lines(), "2026-11-21 12:00:00.123 DEBUG tests shown\n"
                      "2026-11-21 12:00:00.123 WARNING tests all\n");
}

UNIT_TEST(level_words, "level names are four words, all others are refused")
{
    enum log_level level = LOG_LEVEL_ERROR;

    for (int i = 0; i < LOG_LEVEL_COUNT; i++) {
        UNIT_EQ(log_level_parse(log_level_name((enum log_level)i), &level), 0);
        UNIT_EQ(level, i);
    }
    UNIT_EQ(log_level_parse("INFO", &level), -1);
    UNIT_EQ(log_level_parse("", &level), -1);
    UNIT_EQ(log_level_parse(NULL, &level), -1);
    UNIT_EQ(level, LOG_LEVEL_ERROR);
}

UNIT_TEST(json_lines, "in JSON each line is one strict object, whatever the text holds")
{
    _cleanup_(json_putp) struct json_object *o = NULL;
    struct log_scope scope = log_scope_begin("req-1", NULL);
    const char *got;

    UNIT_OK(log_open(file, LOG_FORMAT_JSON, &unit_err));
    log_info("a \"quote\" \n \xff %s", "caf\xc3\xa9");
    log_scope_end(&scope);
    got = lines();
    UNIT_TRUE(strchr(got, '\n') == got + strlen(got) - 1);
    UNIT_OK(json_parse(got, strlen(got), &o, &unit_err));
    UNIT_STR(json_get_string(o, "time", ""), "2026-11-21T12:00:00.123Z");
    UNIT_STR(json_get_string(o, "level", ""), "INFO");
    UNIT_STR(json_get_string(o, "module", ""), "tests");
    UNIT_STR(json_get_string(o, "request_id", ""), "req-1");
    UNIT_TRUE(!json_has(o, "instance"));
    UNIT_STR(json_get_string(o, "message", ""), "a \"quote\" \\x0a \\xff caf\xc3\xa9");
}

UNIT_TEST(rotation, "after a rotation, reopening writes to a new file with safe permissions")
{
    _cleanup_(str_freep) char *moved = text_format("%s.1", file);
    _cleanup_(str_freep) char *old = NULL;
    struct stat st;

    log_info("before");
    UNIT_EQ(rename(file, moved), 0);
    log_info("still before");
    UNIT_OK(log_reopen(&unit_err));
    log_info("after");
    old = unit_read_file(moved, NULL);
    UNIT_HAS(old, "still before\n");
    UNIT_STR(lines(), "2026-11-21 12:00:00.123 INFO tests after\n");
    UNIT_EQ(stat(file, &st), 0);
    UNIT_EQ(st.st_mode & 0137, 0);
}

UNIT_TEST(bad_target, "a file that cannot be opened is an error, and the old target stays")
{
    UNIT_FAILS(log_open("/nonexistent/x/y.log", LOG_FORMAT_JSON, &unit_err), ERR_SYSTEM);
    UNIT_HAS(unit_err.text, "/nonexistent/x/y.log");
    log_info("here");
    UNIT_HAS(lines(), "INFO tests here\n");
}

/* Standard error is this file while the function runs. */
static void with_stderr(void (*run)(void))
{
    int saved = dup(STDERR_FILENO), fd = open(file, O_WRONLY | O_APPEND | O_CREAT, 0600);

    dup2(fd, STDERR_FILENO);
    run();
    dup2(saved, STDERR_FILENO);
    close(saved);
    close(fd);
}

static void log_to_journal(void)
{
    _cleanup_(str_freep) char *stream = NULL;
    struct stat st;

    if (fstat(STDERR_FILENO, &st) == 0)
        stream = text_format("%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
    setenv("JOURNAL_STREAM", stream, 1);
    log_open(NULL, LOG_FORMAT_TEXT, NULL);
    log_info("for journald");
    log_error("bad");
    setenv("JOURNAL_STREAM", "1:1", 1);
    log_open(NULL, LOG_FORMAT_TEXT, NULL);
    log_info("redirected");
    unsetenv("JOURNAL_STREAM");
}

UNIT_TEST(journal, "lines carry journald's priority only where standard error is its stream")
{
    with_stderr(log_to_journal);
    UNIT_STR(lines(), "<6>2026-11-21 12:00:00.123 INFO tests for journald\n"
                      "<3>2026-11-21 12:00:00.123 ERROR tests bad\n"
                      "2026-11-21 12:00:00.123 INFO tests redirected\n");
}

UNIT_TEST(rate, "above the rate lines are held back, and the next one tells how many")
{
    struct log_rate rate = LOG_RATE_INIT(1000, 2);
    int passed = 0;

    for (int i = 0; i < 5; i++)
        passed += log_rate_ok(&rate, "tests");
    UNIT_EQ(passed, 2);
    UNIT_STR(lines(), "");
    clock_fake_set(clock_monotonic_us() + 1000);
    UNIT_TRUE(log_rate_ok(&rate, "tests"));
    UNIT_HAS(lines(), "INFO tests 3 lines like the next one were suppressed\n");
    UNIT_TRUE(log_rate_ok(&rate, "tests"));
    UNIT_TRUE(!log_rate_ok(&rate, "tests"));
}

enum { THREADS = 4, LINES = 500 };

static void *write_many(void *aux)
{
    struct log_scope scope = log_scope_begin(aux, NULL);

    for (int i = 0; i < LINES; i++)
        log_info("line %d of %s", i, (const char *)aux);
    log_scope_end(&scope);
    return NULL;
}

UNIT_TEST(threads, "lines of several threads never mix, and each keeps its thread's scope")
{
    static char names[THREADS][4] = {"t-a", "t-b", "t-c", "t-d"};
    pthread_t threads[THREADS];
    char **all;
    int bad = 0;

    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, write_many, names[i]);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    all = text_split(lines(), '\n');
    UNIT_EQ(text_vector_length(all), THREADS * LINES + 1);
    for (int i = 0; i < THREADS * LINES; i++) {
        char scope[4] = "", name[4] = "";
        int n = -1;

        bad += sscanf(all[i], "2026-11-21 12:00:00.123 INFO tests [%3s] line %d of %3s", scope, &n,
                      name) != 3 ||
               strcmp(scope, name) != 0;
    }
    UNIT_EQ(bad, 0);
    text_vector_free(all);
}
