/* SPDX-License-Identifier: Apache-2.0 */
#include "cloud/store_file.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "lib/text.h"

LOG_MODULE(store);

enum { BUSY_MS = 5000 };

/* Step i leads from schema i to i + 1. The first is also what files without a version have. */
static const char *const steps[STORE_SCHEMA] = {
    "CREATE TABLE IF NOT EXISTS migrations ("
    " uuid TEXT NOT NULL, role TEXT NOT NULL, id INTEGER, instance_uuid TEXT, name TEXT, status "
    "TEXT,"
    " created_at TEXT, updated_us INTEGER NOT NULL, account TEXT NOT NULL, PRIMARY KEY (uuid, "
    "role));"
    "CREATE INDEX IF NOT EXISTS migrations_by_instance ON migrations (instance_uuid);"
    "CREATE TABLE IF NOT EXISTS events ("
    " at_us INTEGER NOT NULL, instance_uuid TEXT, request_id TEXT, event TEXT, finished INTEGER,"
    " failure TEXT);"
    "CREATE TABLE IF NOT EXISTS faults ("
    " at_us INTEGER NOT NULL, instance_uuid TEXT, class TEXT, text TEXT);"
    "CREATE TABLE IF NOT EXISTS numbers (last INTEGER NOT NULL);"
    "INSERT INTO numbers (last) SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM numbers);",

    /* what happened during a migration; the key is the whole row: what is told twice is kept once */
    "CREATE TABLE story ("
    " uuid TEXT NOT NULL, role TEXT NOT NULL, kind TEXT NOT NULL, at_us INTEGER NOT NULL,"
    " entry TEXT NOT NULL, PRIMARY KEY (uuid, role, kind, at_us, entry)) WITHOUT ROWID;"
    "CREATE INDEX migrations_by_time ON migrations (updated_us);",
};

bool store_file_is_damage(int code)
{
    return (code & 0xff) == SQLITE_CORRUPT || (code & 0xff) == SQLITE_NOTADB;
}

static int run(sqlite3 *db, const char *sql)
{
    return sqlite3_exec(db, sql, NULL, NULL, NULL);
}

static int read_version(sqlite3 *db, int64_t *out)
{
    sqlite3_stmt *statement = NULL;
    int code = sqlite3_prepare_v2(db, "PRAGMA user_version", -1, &statement, NULL);

    if (code == SQLITE_OK && (code = sqlite3_step(statement)) == SQLITE_ROW) {
        *out = sqlite3_column_int64(statement, 0);
        code = SQLITE_OK;
    }
    sqlite3_finalize(statement);
    return code;
}

static int upgrade_from(sqlite3 *db, int64_t version)
{
    _cleanup_(str_freep) char *mark = text_format("PRAGMA user_version = %d", STORE_SCHEMA);
    int code = SQLITE_OK;

    for (; code == SQLITE_OK && version < STORE_SCHEMA; version++)
        code = run(db, steps[version]);
    return code == SQLITE_OK ? run(db, mark) : code;
}

/* 0 and SQLite's code in *code, or -1 with the error for a schema that is not ours. */
static int upgrade(sqlite3 *db, const char *path, int *code, struct err *e)
{
    int64_t version = 0;

    *code = run(db, "BEGIN IMMEDIATE");
    if (*code == SQLITE_OK)
        *code = read_version(db, &version);
    if (*code == SQLITE_OK && (version < 0 || version > STORE_SCHEMA)) {
        (void)run(db, "ROLLBACK");
        return err_set(e, ERR_SYSTEM,
                       "database %s has schema %lld and this program knows schemas up to %d: a "
                       "newer release wrote it; run that one, or move the file away",
                       path, (long long)version, STORE_SCHEMA);
    }
    if (*code == SQLITE_OK)
        *code = upgrade_from(db, version);
    if (*code == SQLITE_OK)
        *code = run(db, "COMMIT");
    return 0;
}

/* 0 with *out or, for a file that is damaged, without; -1 on failure. */
static int try_open(const char *path, sqlite3 **out, struct err *e)
{
    sqlite3 *db = NULL;
    mode_t before = umask(0077);
    int code = sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL);

    (void)umask(before);
    if (code == SQLITE_OK)
        code = sqlite3_busy_timeout(db, BUSY_MS);
    if (code == SQLITE_OK)
        code =
            run(db, "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA cache_size=-256;");
    if (code == SQLITE_OK && upgrade(db, path, &code, e) < 0) {
        sqlite3_close(db);
        return -1;
    }
    if (code == SQLITE_OK) {
        *out = db;
        return 0;
    }
    err_set(e, ERR_SYSTEM, "database %s: %s", path, db ? sqlite3_errmsg(db) : sqlite3_errstr(code));
    sqlite3_close(db);
    return store_file_is_damage(code) ? 0 : -1;
}

int store_file_set_aside(const char *path, const char *why, struct err *e)
{
    static const char *const parts[] = {"-wal", "-shm"};
    char at[CLOCK_TEXT_SIZE];

    clock_format_object(clock_realtime_us(), at);
    _cleanup_(str_freep) char *aside = text_format("%s.damaged-%s", path, at);
    if (rename(path, aside) < 0)
        return err_set_errno(e, ERR_SYSTEM, errno, "database %s is damaged (%s); renaming it", path,
                             why);
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        _cleanup_(str_freep) char *from = text_format("%s%s", path, parts[i]);
        _cleanup_(str_freep) char *to = text_format("%s%s", aside, parts[i]);
        (void)rename(from, to); /* there may be none */
    }
    log_warning("the history of migrations cannot be read (%s): it is set aside as %s, and a new "
                "one begins",
                why, aside);
    return 0;
}

int store_file_open(const char *path, sqlite3 **out, struct err *e)
{
    struct err damage = ERR_INIT;
    sqlite3 *db = NULL;
    int result = try_open(path, &db, &damage);

    if (result == 0 && !db) {
        if (store_file_set_aside(path, damage.text, e) < 0)
            return -1;
        err_clear(&damage);
        result = try_open(path, &db, &damage);
    }
    if (result == 0 && db) {
        *out = db;
        return 0;
    }
    if (e)
        *e = damage;
    return -1;
}
