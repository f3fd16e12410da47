/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file of the migrations' database (cloud/store.h): its tables, their version and their upgrade, and
 * what becomes of a file that is damaged.
 */
#pragma once

#include <sqlite3.h>

#include "lib/err.h"

/* The newest schema that this program reads and writes; kept in the file's user_version. */
enum { STORE_SCHEMA = 2 };

/*
 * Opens or makes the file (mode 0600) and brings its tables to STORE_SCHEMA, all in one transaction: a
 * file of release 0.1 or 0.2 has no version and is upgraded in place. ERR_SYSTEM for a newer schema (the
 * file is left as it is) and for what the system refuses. A file that is no database, or is damaged, is
 * set aside with a WARNING (store_file_set_aside()) and a new one begun. Of its pages at most 256 KiB are
 * kept in memory. BLOCKS.
 */
int store_file_open(const char *path, sqlite3 **out, struct err *e);
/* Renames the file and its log to PATH.damaged-<time>; a failure is logged. BLOCKS. */
int store_file_set_aside(const char *path, const char *why, struct err *e);
/* Does SQLite's result mean that the file is damaged? */
bool store_file_is_damage(int code);
