/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client of the OVSDB management protocol (RFC 7047): JSON-RPC over a stream, to the database that
 * ovs-vswitchd lives by. Transactions block and are for workers; watching a port is for the loop.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <json-c/json_object.h>

#include "lib/err.h"

enum { OVSDB_MESSAGE_MAX = 8 * 1024 * 1024, OVSDB_TIMEOUT_US = 10000000 };

/* Finds where one JSON text ends in a stream that has no other marks. Pure; bytes come in any pieces. */
struct json_frame {
    unsigned depth;
    bool in_string, escaped;
};
/* Bytes up to and including the end of the first value; 0 if it does not end in here. */
size_t json_frame_end(struct json_frame *frame, const char *data, size_t length);

struct ovsdb;
/* "unix:PATH" or "tcp:ADDRESS:PORT" (IPv6 in brackets). ERR_NET_PLUG if nobody listens; blocks briefly. */
int ovsdb_open(struct ovsdb **out, const char *connection, struct err *e);
void ovsdb_free(struct ovsdb *db);
DEFINE_CLEANUP(struct ovsdb *, ovsdb_free)
int ovsdb_fd(const struct ovsdb *db);

/*
 * BLOCKS. Runs operations (an array, consumed) on the Open_vSwitch database; *results is the array of
 * their results, the caller's. A refused operation is an error with the database's own words.
 */
int ovsdb_transact(struct ovsdb *db, struct json_object *operations, struct json_object **results,
                   struct err *e);

/* Asks to be told of changes of the Port and Interface rows of that name. Does not wait for the answer. */
int ovsdb_watch_port(struct ovsdb *db, const char *name, struct err *e);
/*
 * Takes what came in without waiting: answers the server's echo requests, sets *changed if a watched row
 * changed (the first look included). -1: the connection is of no more use.
 */
int ovsdb_drain(struct ovsdb *db, bool *changed, struct err *e);
/* The VLAN of the watched port by what was taken in so far; -1 if it has none. */
int ovsdb_watched_tag(const struct ovsdb *db);
