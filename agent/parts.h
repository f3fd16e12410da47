/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parts of one state of a migration that run side by side: port bindings, allocations, records, files.
 * Each may be tried again until it succeeds or patience ends; when all have ended, one event goes to the
 * machine, if the migration is still in the state in which they began. What patience could not do is
 * logged and noted: the state goes on, since the guest's truth is elsewhere (source_end.c).
 *
 * Loop thread only.
 */
#pragma once

#include "agent/migration.h"

/* Opens a set with one part of its own, that parts_close() ends. */
struct parts *parts_open(struct migration *migration, enum machine_event when_all_ended);
void parts_close(struct parts *parts);

/* A part that ends by itself, exactly once, by parts_end(). */
void parts_hold(struct parts *parts);
void parts_end(struct parts *parts);

/* Begins a call; its `done` is given with aux. */
typedef void (*part_fn)(struct migration *migration, cloud_done_fn done, void *aux);
/* A call of the control plane that must come to pass: tried again with growing pauses for up to five minutes
 * unless the failure says that trying is of no use. `name` is static: "port bindings". */
void parts_add(struct parts *parts, const char *name, part_fn begin);

/* At the agent's end: what waits for another try waits no more, and no event is told. */
void parts_drop_waiting(struct migration *migration);
