/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The journal: one small file per migration and role, and per instance that is built, written before each
 * external effect by write, fsync, rename, fsync of the directory (reliability.md 3.2). What is in it is
 * enough to take back or to finish what was begun after a crash.
 *
 * Everything BLOCKS: call it on a worker; writers of one record are one job at a time.
 */
#pragma once

#include <stddef.h>
#include <json-c/json_object.h>

#include "lib/err.h"

struct journal;

/* Opens (makes, mode 0700) the directory. */
int journal_open(struct journal **out, const char *directory, struct err *e);
void journal_free(struct journal *journal);

/* Writes the record of <uuid>.<role>: "source" or "destination" of a migration, "build" of an instance,
 * "drain" of the host.
 * `record` is borrowed. */
int journal_write(struct journal *journal, const char *uuid, const char *role,
                  struct json_object *record, struct err *e);
/* Removes it; missing is success. */
int journal_remove(struct journal *journal, const char *uuid, const char *role, struct err *e);

/* Calls fn for each readable record; unreadable ones are moved to "parked/" with a warning, and the
 * number of both is returned through the pointers (may be NULL). */
int journal_load(struct journal *journal,
                 void (*fn)(void *aux, const char *uuid, const char *role,
                            struct json_object *record),
                 void *aux, size_t *loaded, size_t *parked, struct err *e);
