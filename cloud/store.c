/* SPDX-License-Identifier: Apache-2.0 */
#include "cloud/store.h"

#include <errno.h>
#include <semaphore.h>
#include <sqlite3.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "lib/clock.h"
#include "lib/json.h"
#include "lib/log.h"
#include "lib/text.h"
#include "lib/workers.h"

LOG_MODULE(store);

enum { CLOSE_WAIT_S = 1, BUSY_MS = 5000 };

struct store {
    sqlite3 *db; /* used by the one worker thread only, once open */
    struct workers *worker;
};

static const char schema[] =
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
    "INSERT INTO numbers (last) SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM numbers);";

static int db_error(sqlite3 *db, struct err *e, const char *what)
{
    return err_set(e, ERR_SYSTEM, "%s of the migrations' database: %s", what, sqlite3_errmsg(db));
}

/* ---- one query ---- */

/* A parameter: text (NULL = SQL NULL) or, with is_number, a number. */
struct parameter {
    char *text;
    int64_t number;
    bool is_number;
};

enum { PARAMETERS_MAX = 9 };

/* What a job does: a statement, its parameters, and what becomes of the rows' first column. */
struct query {
    struct store *store;
    const char *sql;
    struct parameter parameters[PARAMETERS_MAX];
    int count;
    enum { ROWS_NONE, ROWS_NUMBER, ROWS_JSON_ARRAY } rows;
    struct json_object *result;
    cloud_done_fn done;
    cloud_result_fn result_done;
    void *aux;
    int code;
    struct err e;
};

static struct query *query_new(struct store *store, const char *sql)
{
    struct query *query = NEW(struct query);

    query->store = store;
    query->sql = sql;
    return query;
}

static void add_text(struct query *query, const char *text)
{
    query->parameters[query->count++].text = text_dup(text);
}

static void add_number(struct query *query, int64_t number)
{
    query->parameters[query->count++] = (struct parameter){.number = number, .is_number = true};
}

static void bind_all(sqlite3_stmt *statement, const struct query *query)
{
    for (int i = 0; i < query->count; i++) {
        const struct parameter *p = &query->parameters[i];
        if (p->is_number)
            sqlite3_bind_int64(statement, i + 1, p->number);
        else if (p->text)
            sqlite3_bind_text(statement, i + 1, p->text, -1, SQLITE_STATIC);
        else
            sqlite3_bind_null(statement, i + 1);
    }
}

static void take_row(struct query *query, sqlite3_stmt *statement)
{
    if (query->rows == ROWS_NUMBER) {
        json_object_put(query->result);
        query->result = json_object_new_int64(sqlite3_column_int64(statement, 0));
        return;
    }
    const char *text = (const char *)sqlite3_column_text(statement, 0);
    struct json_object *account = NULL;
    struct err e = ERR_INIT;
    if (text && json_parse(text, strlen(text), &account, &e) == 0)
        json_object_array_add(query->result, account);
    else
        log_err(LOG_LEVEL_WARNING, &e, "an account in the migrations' database cannot be read");
}

static void query_run(void *aux)
{
    struct query *query = aux;
    sqlite3_stmt *statement = NULL;

    query->code = -1;
    if (query->rows == ROWS_JSON_ARRAY)
        query->result = json_object_new_array();
    if (sqlite3_prepare_v2(query->store->db, query->sql, -1, &statement, NULL) != SQLITE_OK) {
        db_error(query->store->db, &query->e, "statement");
        return;
    }
    bind_all(statement, query);
    int step;
    while ((step = sqlite3_step(statement)) == SQLITE_ROW)
        if (query->rows != ROWS_NONE)
            take_row(query, statement);
    if (step == SQLITE_DONE)
        query->code = 0;
    else
        db_error(query->store->db, &query->e, "statement");
    sqlite3_finalize(statement);
}

static void query_done(void *aux, enum work_end end)
{
    struct query *query = aux;
    const struct err *failure = query->code < 0 ? &query->e : NULL;

    if (end != WORK_DONE) {
        query->e = ERR_INIT;
        err_set(&query->e, ERR_CANCELLED, "the agent stops");
        failure = &query->e;
    }
    if (query->done)
        query->done(query->aux, failure);
    else if (query->result_done)
        query->result_done(query->aux, failure ? NULL : query->result, failure);
    else if (failure)
        log_err(LOG_LEVEL_WARNING, failure, "left out");
}

static void query_release(void *aux)
{
    struct query *query = aux;

    for (int i = 0; i < query->count; i++)
        free(query->parameters[i].text);
    json_object_put(query->result);
    free(query);
}

static void query_submit(struct query *query)
{
    struct work work = {.name = "migrations' database",
                        .run = query_run,
                        .done = query_done,
                        .release = query_release,
                        .aux = query};

    workers_submit(query->store->worker, &work);
}

/* ---- opening ---- */

static int open_database(const char *path, sqlite3 **out, struct err *e)
{
    sqlite3 *db = NULL;
    char *message = NULL;
    mode_t before = umask(0077);
    int code = sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL);

    (void)umask(before);
    if (code == SQLITE_OK)
        code = sqlite3_exec(db, "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;", NULL, NULL,
                            &message);
    if (code == SQLITE_OK)
        code = sqlite3_exec(db, schema, NULL, NULL, &message);
    if (code != SQLITE_OK) {
        err_set(e, ERR_SYSTEM, "database %s: %s", path, message ? message : sqlite3_errstr(code));
        sqlite3_free(message);
        sqlite3_close(db);
        return -1;
    }
    sqlite3_busy_timeout(db, BUSY_MS);
    *out = db;
    return 0;
}

int store_open(struct store **out, struct loop *loop, const char *path, struct err *e)
{
    struct store *store = NEW(struct store);

    if (open_database(path, &store->db, e) < 0 || workers_new(&store->worker, loop, 1, e) < 0) {
        store_close(store);
        return -1;
    }
    *out = store;
    return 0;
}

/* The last of all jobs: when it has run, all that were queued have. */
static void last_run(void *aux)
{
    (void)sem_post(aux);
}

static void last_release(void *aux)
{
    (void)sem_destroy(aux);
    free(aux);
}

/* workers_free() would drop what is queued: the accounts of how migrations ended. */
static void wait_for_queued(struct store *store)
{
    sem_t *done = NEW(sem_t);
    struct work work = {
        .name = "migrations' database", .run = last_run, .release = last_release, .aux = done};
    struct timespec until;

    (void)sem_init(done, 0, 0);
    workers_submit(store->worker, &work);
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += CLOSE_WAIT_S;
    while (sem_clockwait(done, CLOCK_MONOTONIC, &until) < 0 && errno == EINTR)
        continue;
}

void store_close(struct store *store)
{
    if (!store)
        return;
    if (store->worker) {
        wait_for_queued(store);
        workers_free(store->worker, CLOSE_WAIT_S * USEC_PER_SEC);
    }
    sqlite3_close_v2(store->db);
    free(store);
}

/* ---- what is kept ---- */

void store_next_id(struct store *store, cloud_result_fn done, void *aux)
{
    struct query *query = query_new(store, "UPDATE numbers SET last = last + 1 RETURNING last");

    query->rows = ROWS_NUMBER;
    query->result_done = done;
    query->aux = aux;
    query_submit(query);
}

void store_save_migration(struct store *store, const char *uuid, const char *role,
                          struct json_object *account, cloud_done_fn done, void *aux)
{
    struct query *query = query_new(
        store, "INSERT OR REPLACE INTO migrations (uuid, role, id, instance_uuid, name, status,"
               " created_at, updated_us, account) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)");
    _cleanup_(str_freep) char *text = json_text(account);

    add_text(query, uuid);
    add_text(query, role);
    add_number(query, json_get_int(account, "id", 0));
    add_text(query, json_get_string(account, "instance", NULL));
    add_text(query, json_get_string(account, "name", NULL));
    add_text(query, json_get_string(account, "status", NULL));
    add_text(query, json_get_string(account, "created_at", NULL));
    add_number(query, clock_realtime_us());
    add_text(query, text);
    query->done = done;
    query->aux = aux;
    query_submit(query);
}

void store_add_event(struct store *store, const char *instance_uuid, const char *request_id,
                     const char *event, bool finished, const char *failure)
{
    struct query *query = query_new(
        store, "INSERT INTO events (at_us, instance_uuid, request_id, event, finished, failure)"
               " VALUES (?, ?, ?, ?, ?, ?)");

    add_number(query, clock_realtime_us());
    add_text(query, instance_uuid);
    add_text(query, request_id);
    add_text(query, event);
    add_number(query, finished);
    add_text(query, failure);
    query_submit(query);
}

void store_add_fault(struct store *store, const char *instance_uuid, const char *wire_class,
                     const char *text)
{
    struct query *query = query_new(
        store, "INSERT INTO faults (at_us, instance_uuid, class, text) VALUES (?, ?, ?, ?)");

    add_number(query, clock_realtime_us());
    add_text(query, instance_uuid);
    add_text(query, wire_class);
    add_text(query, text);
    query_submit(query);
}

void store_migrations(struct store *store, const char *instance_uuid, const char *status, int limit,
                      cloud_result_fn done, void *aux)
{
    struct query *query =
        query_new(store, "SELECT account FROM migrations WHERE (?1 IS NULL OR instance_uuid = ?1 OR"
                         " uuid = ?1 OR name = ?1) AND (?2 IS NULL OR status = ?2)"
                         " ORDER BY updated_us DESC, id DESC LIMIT ?3");

    add_text(query, instance_uuid);
    add_text(query, status);
    add_number(query, limit);
    query->rows = ROWS_JSON_ARRAY;
    query->result_done = done;
    query->aux = aux;
    query_submit(query);
}

void store_prune(struct store *store, int64_t days)
{
    static const char *const statements[] = {"DELETE FROM migrations WHERE updated_us < ?",
                                             "DELETE FROM events WHERE at_us < ?",
                                             "DELETE FROM faults WHERE at_us < ?"};
    int64_t before_us = clock_realtime_us() - days * 86400 * USEC_PER_SEC;

    for (size_t i = 0; i < ARRAY_LEN(statements); i++) {
        struct query *query = query_new(store, statements[i]);
        add_number(query, before_us);
        query_submit(query);
    }
}
