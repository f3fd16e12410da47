/* SPDX-License-Identifier: Apache-2.0 */
/* The file of the history: its versions, its damage, what is kept and for how long. */
#include "tests/unit/unit.h"

#include <dirent.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cloud/store.h"
#include "cloud/store_file.h"
#include "lib/clock.h"
#include "lib/json.h"
#include "lib/log.h"
#include "lib/text.h"

#define DAY (86400 * USEC_PER_SEC)

static char *directory, *path;
static struct loop *loop;
static struct store *store;
static int64_t now_us;

static void set_now(int64_t us)
{
    now_us = us;
    clock_fake_set(us);
}

static void setup(void)
{
    static unsigned number;

    log_set_level(NULL, LOG_LEVEL_ERROR);
    directory = text_format("%s/%u", unit_directory(), number++);
    UNIT_EQ(mkdir(directory, 0700), 0);
    path = text_format("%s/migrations.sqlite", directory);
    UNIT_OK(loop_new(&loop, &unit_err));
    set_now(1000 * DAY);
}

static void close_store(void)
{
    clock_fake_stop();
    store_close(store);
    store = NULL;
    clock_fake_set(now_us);
}

static void teardown(void)
{
    close_store();
    clock_fake_stop();
    loop_free(loop);
    free(path);
    free(directory);
}
UNIT_FIXTURE(setup, teardown)

static void open_store(void)
{
    UNIT_OK(store_open(&store, loop, path, &unit_err));
}

/* ---- shorthand ---- */

static struct answer {
    bool done;
    struct json_object *result;
    struct err e;
} last;

static void answered(void *aux, struct json_object *result, const struct err *failure)
{
    (void)aux;
    json_object_put(last.result);
    last = (struct answer){true, json_object_get(result), failure ? *failure : ERR_INIT};
}

static void saved(void *aux, const struct err *failure)
{
    answered(aux, NULL, failure);
}

static struct json_object *wait_answer(void)
{
    for (int i = 0; i < 5000 && !last.done; i++)
        UNIT_EQ(loop_turn(loop, 1, &unit_err) < 0, false);
    UNIT_TRUE(last.done);
    last.done = false;
    return last.result;
}

static void save(const char *uuid, int64_t id)
{
    _cleanup_(json_putp) struct json_object *account = json_object_new_object();

    json_add_string(account, "uuid", uuid);
    json_add_int(account, "id", id);
    json_add_string(account, "status", "completed");
    store_save_migration(store, uuid, "source", account, saved, NULL);
    (void)wait_answer();
    UNIT_TRUE(!err_is_set(&last.e));
}

static size_t count_of(const char *key)
{
    store_migrations(store, key, NULL, 1000, answered, NULL);
    struct json_object *list = wait_answer();
    return list ? json_object_array_length(list) : SIZE_MAX;
}

static void tell(const char *uuid, const char *kind, int64_t at_us, const char *text)
{
    _cleanup_(json_putp) struct json_object *entry = json_object_new_object();

    json_add_string(entry, "text", text);
    store_story_add(store, uuid, "source", kind, at_us, entry);
}

static struct json_object *story(const char *uuid)
{
    store_story(store, uuid, "source", answered, NULL);
    return wait_answer();
}

static void sql(const char *text)
{
    sqlite3 *db = NULL;

    UNIT_EQ(sqlite3_open(path, &db), SQLITE_OK);
    UNIT_EQ(sqlite3_exec(db, text, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
}

static unsigned set_aside(void)
{
    DIR *d = opendir(directory);
    unsigned count = 0;

    for (struct dirent *entry = d ? readdir(d) : NULL; entry; entry = readdir(d))
        count += strstr(entry->d_name, "migrations.sqlite.damaged-") != NULL &&
                 !text_ends_with(entry->d_name, "-wal") && !text_ends_with(entry->d_name, "-shm");
    if (d)
        closedir(d);
    return count;
}

/* ---- versions ---- */

/* As release 0.1 made it. */
static const char first_schema[] =
    "CREATE TABLE migrations (uuid TEXT NOT NULL, role TEXT NOT NULL, id INTEGER, instance_uuid "
    "TEXT,"
    " name TEXT, status TEXT, created_at TEXT, updated_us INTEGER NOT NULL, account TEXT NOT NULL,"
    " PRIMARY KEY (uuid, role));"
    "CREATE INDEX migrations_by_instance ON migrations (instance_uuid);"
    "CREATE TABLE events (at_us INTEGER NOT NULL, instance_uuid TEXT, request_id TEXT, event TEXT,"
    " finished INTEGER, failure TEXT);"
    "CREATE TABLE faults (at_us INTEGER NOT NULL, instance_uuid TEXT, class TEXT, text TEXT);"
    "CREATE TABLE numbers (last INTEGER NOT NULL); INSERT INTO numbers (last) VALUES (41);"
    "INSERT INTO migrations VALUES ('old', 'source', 41, 'i', 'vm', 'completed', '', "
    "86400000000000,"
    " '{\"uuid\": \"old\", \"id\": 41}');";

UNIT_TEST(upgraded, "the file of an earlier release is upgraded in place, with all that it has")
{
    sql(first_schema);
    open_store();
    UNIT_EQ(count_of(NULL), 1);
    UNIT_EQ(count_of("41"), 1);
    store_next_id(store, answered, NULL);
    UNIT_EQ(json_object_get_int64(wait_answer()), 42);
    tell("old", "note", 5, "new");
    UNIT_EQ(json_object_array_length(story("old")), 1);
    close_store();
    open_store(); /* and once is enough */
    UNIT_EQ(json_object_array_length(story("old")), 1);
    UNIT_EQ(set_aside(), 0);
}

UNIT_TEST(newer, "a file of a newer release is refused with both versions, and not touched")
{
    open_store();
    save("a", 1);
    close_store();
    sql("PRAGMA user_version = 77");
    UNIT_FAILS(store_open(&store, loop, path, &unit_err), ERR_SYSTEM);
    UNIT_HAS(unit_err.text, "schema 77");
    UNIT_HAS(unit_err.text, "up to 2");
    UNIT_HAS(unit_err.text, path);
    UNIT_EQ(set_aside(), 0);
    sql("PRAGMA user_version = 2");
    open_store();
    UNIT_EQ(count_of(NULL), 1);
}

/* ---- damage ---- */

UNIT_TEST(no_database, "a file that is no database is set aside and a new one begun")
{
    unit_write_file(path, "this is no database, but long enough to be looked at as one .........");
    open_store();
    UNIT_EQ(set_aside(), 1);
    save("a", 1);
    UNIT_EQ(count_of(NULL), 1);
}

static void spoil(void)
{
    struct stat st;
    char noise[512];

    memset(noise, 0xa5, sizeof(noise));
    UNIT_EQ(stat(path, &st), 0);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    for (off_t at = 4096; at < st.st_size; at += (off_t)sizeof(noise))
        UNIT_EQ(pwrite(fd, noise, sizeof(noise), at), sizeof(noise));
    close(fd);
}

UNIT_TEST(damaged_later,
          "damage that shows only when it is read costs the history and not the agent")
{
    open_store();
    for (int i = 0; i < 50; i++) {
        _cleanup_(str_freep) char *uuid = text_format("uuid-%d", i);
        save(uuid, i);
    }
    close_store();
    spoil();
    open_store();
    UNIT_EQ(set_aside(), 0); /* nobody has looked yet */
    UNIT_EQ(count_of(NULL), 0);
    UNIT_EQ(set_aside(), 1);
    save("after", 1);
    UNIT_EQ(count_of(NULL), 1);
}

UNIT_TEST(no_place, "a directory that is not there is refused with the path")
{
    _cleanup_(str_freep) char *nowhere = text_format("%s/no/such.sqlite", directory);
    UNIT_FAILS(store_open(&store, loop, nowhere, &unit_err), ERR_SYSTEM);
    UNIT_HAS(unit_err.text, nowhere);
}

UNIT_TEST(private_file, "only the owner reads the file")
{
    struct stat st;
    open_store();
    UNIT_EQ(stat(path, &st), 0);
    UNIT_EQ(st.st_mode & 0777, 0600);
}

/* ---- the story ---- */

UNIT_TEST(told, "a story comes back in the order of time, after a restart too, and once each")
{
    open_store();
    save("a", 1);
    tell("a", "note", 30, "third");
    tell("a", "note", 10, "first");
    tell("a", "stamp", 20, "second");
    tell("a", "note", 10, "first");
    tell("b", "note", 15, "of another");
    close_store();
    open_store();
    struct json_object *list = story("a");
    UNIT_EQ(json_object_array_length(list), 3);
    struct json_object *second = json_object_array_get_idx(list, 1);
    UNIT_STR(json_get_string(second, "text", ""), "second");
    UNIT_STR(json_get_string(second, "kind", ""), "stamp");
    UNIT_EQ(json_get_int(second, "at_us", 0), 20);
}

UNIT_TEST(thinned, "thinning keeps the first of each stretch, of that kind and migration alone")
{
    open_store();
    for (int second = 0; second < 10; second++) {
        tell("a", "sample", (100 + second) * USEC_PER_SEC + 7, "x");
        tell("a", "note", (100 + second) * USEC_PER_SEC + 7, "x");
        tell("b", "sample", (100 + second) * USEC_PER_SEC + 7, "x");
    }
    store_story_thin(store, "a", "source", "sample", 100 * USEC_PER_SEC, 4);
    struct json_object *list = story("a");
    UNIT_EQ(json_object_array_length(list), 13);
    int64_t kept[3] = {0};
    for (size_t i = 0, k = 0; i < 13; i++) {
        struct json_object *entry = json_object_array_get_idx(list, i);
        if (text_equal(json_get_string(entry, "kind", ""), "sample") && k < 3)
            kept[k++] = json_get_int(entry, "at_us", 0) / USEC_PER_SEC;
    }
    UNIT_TRUE(kept[0] == 100 && kept[1] == 104 && kept[2] == 108);
    UNIT_EQ(json_object_array_length(story("b")), 10);
}

/* ---- retention ---- */

UNIT_TEST(old_ones_go,
          "after its days a migration goes, with its story, within an hour and unasked")
{
    open_store();
    store_keep(store, 10, 1000);
    save("old", 1);
    tell("old", "note", now_us, "x");
    set_now(now_us + 9 * DAY);
    save("young", 2);
    tell("young", "note", now_us, "x");
    UNIT_EQ(count_of(NULL), 2);
    set_now(now_us + DAY + 2 * 3600 * USEC_PER_SEC); /* the timer is due */
    for (int i = 0; i < 3; i++)
        UNIT_EQ(loop_turn(loop, 1, &unit_err) < 0, false);
    UNIT_EQ(count_of(NULL), 1);
    UNIT_EQ(count_of("2"), 1);
    UNIT_EQ(json_object_array_length(story("old")), 0);
    UNIT_EQ(json_object_array_length(story("young")), 1);
}

UNIT_TEST(too_many, "of more than the option allows the oldest go")
{
    open_store();
    for (int i = 0; i < 8; i++) {
        _cleanup_(str_freep) char *uuid = text_format("uuid-%d", i);
        set_now(now_us + USEC_PER_SEC);
        save(uuid, i);
    }
    store_keep(store, 10, 5);
    UNIT_EQ(count_of(NULL), 5);
    UNIT_EQ(count_of("2"), 0);
    UNIT_EQ(count_of("7"), 1);
    store_keep(store, 10, 3); /* the option was changed: at once */
    UNIT_EQ(count_of(NULL), 3);
}

UNIT_TEST(being_made, "a story whose account is about to be written is not taken for a leftover")
{
    open_store();
    tell("soon", "note", now_us, "x");
    store_keep(store, 1, 10);
    UNIT_EQ(json_object_array_length(story("soon")), 1);
}

UNIT_TEST(forget, "at the end nothing is owed")
{
    json_object_put(last.result);
    last = (struct answer){0};
}
