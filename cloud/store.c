/* SPDX-License-Identifier: Apache-2.0 */
#include "cloud/store.h"

#include <errno.h>
#include <semaphore.h>
#include <sqlite3.h>
#include <string.h>
#include <time.h>

#include "cloud/store_file.h"
#include "lib/clock.h"
#include "lib/json.h"
#include "lib/log.h"
#include "lib/text.h"
#include "lib/workers.h"

LOG_MODULE(store);

enum { CLOSE_WAIT_S = 1 };
#define PRUNE_PERIOD_US (3600 * USEC_PER_SEC)

struct store {
    char *path;
    sqlite3 *db; /* used by the one worker thread only, once open; NULL = it could not be renewed */
    struct workers *worker;
    struct loop_timer *prune_timer;
    int64_t keep_days, keep_count;
    bool failing; /* what nobody waits for could not be written, which was said */
};

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

/* SQLite's code of the end. */
static int run_once(struct query *query)
{
    sqlite3_stmt *statement = NULL;
    int step;

    json_object_put(query->result);
    query->result = query->rows == ROWS_JSON_ARRAY ? json_object_new_array() : NULL;
    step = sqlite3_prepare_v2(query->store->db, query->sql, -1, &statement, NULL);
    if (step == SQLITE_OK) {
        bind_all(statement, query);
        while ((step = sqlite3_step(statement)) == SQLITE_ROW)
            if (query->rows != ROWS_NONE)
                take_row(query, statement);
    }
    if (step != SQLITE_DONE)
        db_error(query->store->db, &query->e, "statement");
    sqlite3_finalize(statement);
    return step;
}

/* The history is lost, the agent is not. */
static int renew(struct store *store, struct err *e)
{
    struct err why = *e;

    sqlite3_close_v2(STEAL(store->db));
    if (store_file_set_aside(store->path, why.text, e) < 0 ||
        store_file_open(store->path, &store->db, e) < 0)
        return -1;
    err_clear(e);
    return 0;
}

static void query_run(void *aux)
{
    struct query *query = aux;
    struct store *store = query->store;

    query->code = -1;
    if (!store->db && store_file_open(store->path, &store->db, &query->e) < 0)
        return;
    int code = run_once(query);
    if (store_file_is_damage(code) && renew(store, &query->e) == 0)
        code = run_once(query);
    query->code = code == SQLITE_DONE ? 0 : -1;
}

/* What nobody waits for fails in rows when the disk is full: the first is told. */
static void unheard(struct store *store, const struct err *failure)
{
    if (failure && !store->failing)
        log_err(LOG_LEVEL_WARNING, failure, "the history of migrations has gaps from now on");
    store->failing = failure != NULL;
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
    else
        unheard(query->store, end == WORK_DONE ? failure : NULL);
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

static void prune_again(void *aux);

int store_open(struct store **out, struct loop *loop, const char *path, struct err *e)
{
    struct store *store = NEW(struct store);

    store->path = text_dup(path);
    if (store_file_open(path, &store->db, e) < 0 || workers_new(&store->worker, loop, 1, e) < 0) {
        store_close(store);
        return -1;
    }
    store->prune_timer = loop_timer_new(loop, "prune the history", prune_again, store);
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
    loop_timer_free(store->prune_timer);
    if (store->worker) {
        wait_for_queued(store);
        workers_free(store->worker, CLOSE_WAIT_S * USEC_PER_SEC);
    }
    sqlite3_close_v2(store->db);
    free(store->path);
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

void store_migrations(struct store *store, const char *key, const char *status, int limit,
                      cloud_result_fn done, void *aux)
{
    struct query *query = query_new(
        store, "SELECT account FROM migrations WHERE (?1 IS NULL OR instance_uuid = ?1 OR"
               " uuid = ?1 OR name = ?1 OR CAST(id AS TEXT) = ?1) AND (?2 IS NULL OR status = ?2)"
               " ORDER BY updated_us DESC, id DESC LIMIT ?3");

    add_text(query, key);
    add_text(query, status);
    add_number(query, limit);
    query->rows = ROWS_JSON_ARRAY;
    query->result_done = done;
    query->aux = aux;
    query_submit(query);
}

/* ---- what happened during a migration ---- */

void store_story_add(struct store *store, const char *uuid, const char *role, const char *kind,
                     int64_t at_us, struct json_object *entry)
{
    struct query *query =
        query_new(store, "INSERT OR IGNORE INTO story (uuid, role, kind, at_us, entry)"
                         " VALUES (?, ?, ?, ?, ?)");
    _cleanup_(str_freep) char *text = json_text(entry);

    add_text(query, uuid);
    add_text(query, role);
    add_text(query, kind);
    add_number(query, at_us);
    add_text(query, text);
    query_submit(query);
}

void store_story_thin(struct store *store, const char *uuid, const char *role, const char *kind,
                      int64_t from_us, int64_t every_s)
{
    struct query *query =
        query_new(store, "DELETE FROM story WHERE uuid = ?1 AND role = ?2 AND kind = ?3 AND at_us"
                         " NOT IN (SELECT min(at_us) FROM story WHERE uuid = ?1 AND role = ?2 AND"
                         " kind = ?3 GROUP BY (at_us - ?4) / 1000000 / ?5)");

    add_text(query, uuid);
    add_text(query, role);
    add_text(query, kind);
    add_number(query, from_us);
    add_number(query, every_s);
    query_submit(query);
}

void store_story(struct store *store, const char *uuid, const char *role, cloud_result_fn done,
                 void *aux)
{
    struct query *query =
        query_new(store, "SELECT json_insert(entry, '$.kind', kind, '$.at_us', at_us) FROM story"
                         " WHERE uuid = ? AND role = ? ORDER BY at_us");

    add_text(query, uuid);
    add_text(query, role);
    query->rows = ROWS_JSON_ARRAY;
    query->result_done = done;
    query->aux = aux;
    query_submit(query);
}

/* ---- retention ---- */

static void prune(struct store *store, const char *sql, int64_t number)
{
    struct query *query = query_new(store, sql);

    add_number(query, number);
    query_submit(query);
}

static void prune_again(void *aux)
{
    struct store *store = aux;
    int64_t now_us = clock_realtime_us();
    int64_t before_us = now_us - store->keep_days * 86400 * USEC_PER_SEC;

    loop_timer_arm(store->prune_timer, PRUNE_PERIOD_US);
    prune(store, "DELETE FROM migrations WHERE updated_us < ?", before_us);
    prune(store, "DELETE FROM events WHERE at_us < ?", before_us);
    prune(store, "DELETE FROM faults WHERE at_us < ?", before_us);
    prune(store,
          "DELETE FROM migrations WHERE (uuid, role) IN (SELECT uuid, role FROM migrations"
          " ORDER BY updated_us DESC LIMIT -1 OFFSET ?)",
          store->keep_count);
    /* one that is just being made may have a story before its account */
    prune(store,
          "DELETE FROM story WHERE at_us < ? AND NOT EXISTS (SELECT 1 FROM migrations AS m"
          " WHERE m.uuid = story.uuid AND m.role = story.role)",
          now_us - PRUNE_PERIOD_US);
}

void store_keep(struct store *store, int64_t days, int64_t count)
{
    store->keep_days = days;
    store->keep_count = count;
    prune_again(store);
}
