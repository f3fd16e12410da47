/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The standalone control plane's database: one SQLite file with migrations, action events and faults.
 * One thread does all writing and reading in the order of the calls, so nothing here blocks the loop and
 * a later save never overtakes an earlier one. All functions belong to the loop's thread.
 */
#pragma once

#include <json-c/json_object.h>

#include "cloud/cloud.h"
#include "lib/err.h"
#include "lib/loop.h"

struct store;

/*
 * Opens or makes the file (mode 0600) and its tables; what becomes of old, newer and damaged files:
 * cloud/store_file.h. A file that turns out to be damaged later is set aside likewise. Blocks shortly;
 * at start-up only.
 */
int store_open(struct store **out, struct loop *loop, const char *path, struct err *e);
/* Waits at most 2 s for what is queued. */
void store_close(struct store *store);

/* Next migration number of this host's database. */
void store_next_id(struct store *store, cloud_result_fn done, void *aux); /* a JSON integer */
/* Inserts or replaces the account of (uuid, role); `account` is borrowed. */
void store_save_migration(struct store *store, const char *uuid, const char *role,
                          struct json_object *account, cloud_done_fn done, void *aux);
void store_add_event(struct store *store, const char *instance_uuid, const char *request_id,
                     const char *event, bool finished, const char *failure);
void store_add_fault(struct store *store, const char *instance_uuid, const char *wire_class,
                     const char *text);
/* Newest first: array of accounts; filters may be NULL. `key` is a uuid or name of the instance, or a uuid
 * or number of the migration. */
void store_migrations(struct store *store, const char *key, const char *status, int limit,
                      cloud_result_fn done, void *aux);

/* ---- what happened during a migration: notes, stamps, samples ---- */

/* Keeps an entry (borrowed) of the migration; the same one at the same time is kept once. */
void store_story_add(struct store *store, const char *uuid, const char *role, const char *kind,
                     int64_t at_us, struct json_object *entry);
/* Of that kind, only the first of each `every_s` seconds, counted from `from_us`, stays. */
void store_story_thin(struct store *store, const char *uuid, const char *role, const char *kind,
                      int64_t from_us, int64_t every_s);
/* In the order of time: array of entries, each with "kind" and "at_us" added. */
void store_story(struct store *store, const char *uuid, const char *role, cloud_result_fn done,
                 void *aux);

/* ---- retention ---- */

/* From now on, and at once: what was written last more than so many days ago goes, and of migrations
 * what is beyond the newest `count`; looked at each hour. */
void store_keep(struct store *store, int64_t days, int64_t count);
