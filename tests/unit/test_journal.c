/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/unit.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/journal.h"
#include "lib/fault.h"
#include "lib/json.h"
#include "lib/log.h"
#include "lib/text.h"

#define ONE "11111111-1111-4111-8111-111111111111"
#define TWO "22222222-2222-4222-8222-222222222222"

static struct journal *journal;
static char *directory;
static unsigned serial;

static void setup(void)
{
    log_close();
    log_set_level(NULL, LOG_LEVEL_ERROR);
    directory = text_format("%s/journal%u", unit_directory(), serial++);
    UNIT_OK(journal_open(&journal, directory, &unit_err));
}

static void teardown(void)
{
    fault_disarm_all();
    journal_free(journal);
    free(directory);
    log_close();
}

UNIT_FIXTURE(setup, teardown)

/* What the load found: "uuid.role=n " in no order, so tests look for parts. */
static struct text_buffer found;

static void take(void *aux, const char *uuid, const char *role, struct json_object *record)
{
    UNIT_TRUE(aux == &found);
    text_buffer_printf(&found, "%s.%s=%lld ", uuid, role, (long long)json_get_int(record, "n", -1));
}

static void load(size_t good, size_t bad)
{
    size_t loaded = 99, parked = 99;

    text_buffer_free(&found);
    text_buffer_add(&found, "");
    UNIT_OK(journal_load(journal, take, &found, &loaded, &parked, &unit_err));
    UNIT_EQ(loaded, good);
    UNIT_EQ(parked, bad);
}

static int write_record(const char *uuid, const char *role, int64_t n)
{
    _cleanup_(json_putp) struct json_object *record = json_object_new_object();

    json_add_int(record, "n", n);
    err_clear(&unit_err);
    return journal_write(journal, uuid, role, record, &unit_err);
}

static void put_file(const char *name, const char *content)
{
    _cleanup_(str_freep) char *path = text_format("%s/%s", directory, name);

    unit_write_file(path, content);
}

static bool is_there(const char *name)
{
    _cleanup_(str_freep) char *path = text_format("%s/%s", directory, name);
    struct stat st;

    return lstat(path, &st) == 0;
}

UNIT_TEST(kept, "what is written is loaded, the newest of each migration and role")
{
    UNIT_OK(write_record(ONE, "source", 1));
    UNIT_OK(write_record(ONE, "source", 2));
    UNIT_OK(write_record(ONE, "destination", 3));
    UNIT_OK(write_record(TWO, "source", 4));
    journal_free(journal);
    UNIT_OK(journal_open(&journal, directory, &unit_err));
    load(3, 0);
    UNIT_HAS(found.data, ONE ".source=2 ");
    UNIT_HAS(found.data, ONE ".destination=3 ");
    UNIT_HAS(found.data, TWO ".source=4 ");
    text_buffer_free(&found);
}

UNIT_TEST(removed, "what is removed is gone, and removing what is not there is success")
{
    UNIT_OK(write_record(ONE, "source", 1));
    UNIT_OK(journal_remove(journal, ONE, "source", &unit_err));
    UNIT_OK(journal_remove(journal, ONE, "source", &unit_err));
    load(0, 0);
    text_buffer_free(&found);
}

UNIT_TEST(private, "directory and records are for their owner alone")
{
    _cleanup_(str_freep) char *path = text_format("%s/" ONE ".source.json", directory);
    struct stat st;

    UNIT_OK(write_record(ONE, "source", 1));
    UNIT_TRUE(stat(directory, &st) == 0 && (st.st_mode & 0777) == 0700);
    UNIT_TRUE(stat(path, &st) == 0 && (st.st_mode & 0777) == 0600);
}

UNIT_TEST(torn,
          "a record that cannot be read is parked with a word in the log, the others are loaded")
{
    static const char *const torn[] = {"", "{\"n\":1", "[1]", "null", "{}x"};
    _cleanup_(str_freep) char *log_path = text_format("%s/log", directory);

    UNIT_OK(write_record(TWO, "source", 4));
    for (size_t i = 0; i < ARRAY_LEN(torn); i++) {
        put_file(ONE ".destination.json", torn[i]);
        (void)unlink(log_path);
        UNIT_OK(log_open(log_path, LOG_FORMAT_TEXT, &unit_err));
        load(1, 1);
        log_close();
        UNIT_HAS(found.data, TWO ".source=4 ");
        UNIT_TRUE(!is_there(ONE ".destination.json"));
        UNIT_TRUE(is_there("parked/" ONE ".destination.json"));
        _cleanup_(str_freep) char *log = unit_read_file(log_path, NULL);
        UNIT_HAS(log, ONE ".destination.json");
        load(1, 0);
    }
    text_buffer_free(&found);
}

UNIT_TEST(no_file, "what stands in a record's place and is no file is never followed")
{
    _cleanup_(str_freep) char *outside = text_format("%s/outside.json", unit_directory());
    _cleanup_(str_freep) char *link_path = text_format("%s/" ONE ".source.json", directory);
    _cleanup_(str_freep) char *dir_path = text_format("%s/" TWO ".source.json", directory);
    _cleanup_(str_freep) char *content = NULL;

    unit_write_file(outside, "{\"n\":5}");
    UNIT_EQ(symlink(outside, link_path), 0);
    UNIT_EQ(mkdir(dir_path, 0700), 0);
    load(0, 2);
    UNIT_STR(found.data, "");
    content = unit_read_file(outside, NULL);
    UNIT_STR(content, "{\"n\":5}");
    text_buffer_free(&found);
}

UNIT_TEST(unfinished, "a write that was cut off never counts, and its rest goes")
{
    UNIT_OK(write_record(ONE, "source", 1));
    put_file(ONE ".source.json.new", "{\"n\":2");
    put_file(TWO ".source.json.new", "{\"n\":3}");
    load(1, 0);
    UNIT_STR(found.data, ONE ".source=1 ");
    UNIT_TRUE(!is_there(ONE ".source.json.new") && !is_there(TWO ".source.json.new"));
    text_buffer_free(&found);
}

UNIT_TEST(strangers, "files of other names stay as they are and are not loaded")
{
    static const char *const names[] = {"README",
                                        ".json",
                                        ONE ".json",
                                        ONE ".observer.json",
                                        "x" ONE ".source.json",
                                        ONE "-source.json",
                                        "11111111-1111-4111-8111-11111111111g.source.json",
                                        ONE ".sourcesourcesourcesource.json",
                                        ONE ".source.json.old"};

    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        put_file(names[i], "{\"n\":1}");
    load(0, 0);
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        unit_check(is_there(names[i]), __LINE__, __FILE__, "%s is gone", names[i]);
    text_buffer_free(&found);
}

UNIT_TEST(hostile, "a name that is no UUID writes and removes nothing")
{
    static const char *const names[] = {"",
                                        "x",
                                        "../../etc/passwd",
                                        "../11111111-1111-4111-8111-111111111111",
                                        "11111111-1111-4111-8111-11111111111/",
                                        "11111111111111111111111111111111",
                                        ONE "/../x",
                                        ONE "\n"};

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        UNIT_FAILS(write_record(names[i], "source", 1), ERR_INVALID);
        UNIT_FAILS(journal_remove(journal, names[i], "source", &unit_err), ERR_INVALID);
    }
    load(0, 0);
    text_buffer_free(&found);
}

UNIT_TEST(failed_write, "a write that fails leaves the record that was there")
{
    static const char *const faults[] = {"journal.write=error", "journal.fsync=error"};

    UNIT_OK(write_record(ONE, "source", 1));
    for (size_t i = 0; i < ARRAY_LEN(faults); i++) {
        UNIT_OK(fault_arm(faults[i], &unit_err));
        UNIT_EQ(write_record(ONE, "source", 2), -1);
        UNIT_TRUE(err_is_set(&unit_err));
        fault_disarm_all();
        UNIT_TRUE(!is_there(ONE ".source.json.new"));
        load(1, 0);
        UNIT_STR(found.data, ONE ".source=1 ");
    }
    text_buffer_free(&found);
}

UNIT_TEST(failed_rename, "a rename that fails leaves what was there, and no other file")
{
    _cleanup_(str_freep) char *path = text_format("%s/" ONE ".source.json", directory);

    UNIT_EQ(mkdir(path, 0700), 0);
    UNIT_EQ(write_record(ONE, "source", 1), -1);
    UNIT_EQ(unit_err.code, ERR_JOURNAL);
    UNIT_TRUE(!is_there(ONE ".source.json.new"));
}

UNIT_TEST(nth_failure, "whichever step of whichever write fails, a whole record is what is left")
{
    static const char *const faults[] = {"journal.write", "journal.fsync", "journal.written"};

    for (size_t i = 0; i < 3 * ARRAY_LEN(faults); i++) {
        _cleanup_(str_freep) char *spec = text_format("%s=error@%zu", faults[i / 3], i % 3 + 1);
        int64_t last = 0, fails = (int64_t)(i % 3) + 1;
        UNIT_OK(journal_remove(journal, ONE, "source", &unit_err));
        UNIT_OK(fault_arm(spec, &unit_err));
        for (int64_t n = 1; n <= 4; n++) {
            UNIT_EQ(write_record(ONE, "source", n) < 0, n == fails);
            if (n != fails || i / 3 == 2) /* the last point is after the rename */
                last = n;
            _cleanup_(str_freep) char *expected = text_format(ONE ".source=%lld ", (long long)last);
            UNIT_TRUE(!is_there(ONE ".source.json.new"));
            load(last > 0, 0);
            UNIT_STR(found.data, last > 0 ? expected : "");
        }
        fault_disarm_all();
    }
    text_buffer_free(&found);
}

UNIT_TEST(failed_after, "a failure told after the rename is told, and the new record is there")
{
    UNIT_OK(write_record(ONE, "source", 1));
    UNIT_OK(fault_arm("journal.written=error", &unit_err));
    UNIT_EQ(write_record(ONE, "source", 2), -1);
    fault_disarm_all();
    load(1, 0);
    UNIT_STR(found.data, ONE ".source=2 ");
    text_buffer_free(&found);
}

UNIT_TEST(failed_remove, "a removal that fails leaves the record")
{
    UNIT_OK(write_record(ONE, "source", 1));
    UNIT_OK(fault_arm("journal.remove=error", &unit_err));
    err_clear(&unit_err);
    UNIT_EQ(journal_remove(journal, ONE, "source", &unit_err), -1);
    fault_disarm_all();
    load(1, 0);
    text_buffer_free(&found);
}

UNIT_TEST(no_directory, "a directory that cannot be made is an error that names it")
{
    struct journal *other = NULL;
    _cleanup_(str_freep) char *path = text_format("%s/a/b", directory);

    UNIT_FAILS(journal_open(&other, path, &unit_err), ERR_JOURNAL);
    UNIT_HAS(unit_err.text, path);
    put_file("a", "x");
    _cleanup_(str_freep) char *file = text_format("%s/a", directory);
    UNIT_FAILS(journal_open(&other, file, &unit_err), ERR_JOURNAL);
    UNIT_TRUE(other == NULL);
}
