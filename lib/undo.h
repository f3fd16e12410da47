/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Undo steps: what must be taken back when a multi-step change of the world fails. A step is a name and
 * a JSON object, pushed *before* the effect it undoes, so that the same list on disk is crash recovery.
 * The steps' handlers are rows of a table that the rooms bring (`net.unplug`, `disk.remove`, ...); each
 * is idempotent: undoing what was never done is success.
 *
 * A list belongs to one job at a time (loop or worker); it has no lock.
 */
#pragma once

#include <stddef.h>
#include <json-c/json_object.h>

#include "lib/err.h"

struct undo_handler {
    const char *name;
    /* Takes the step back; blocks, so it runs on a worker. `aux` is the row's room. */
    int (*run)(void *aux, struct json_object *args, struct err *e);
    void *aux;
};

struct undo;

/*
 * `save` writes the list (a JSON array of [name, args]) durably before push returns; it may be NULL in
 * tests. handlers is a table ended by a row with name NULL; it outlives the list.
 */
struct undo *undo_new(const struct undo_handler *handlers,
                      int (*save)(void *aux, struct json_object *steps, struct err *e), void *aux);
void undo_free(struct undo *undo);
DEFINE_CLEANUP(struct undo *, undo_free)

/*
 * Records a step; consumes args (also on failure; NULL is JSON null). When it fails, the step is not in
 * the list and its effect must not be brought about.
 */
int undo_push(struct undo *undo, const char *name, struct json_object *args, struct err *e);
/*
 * Takes the newest step off without running it (its effect did not happen). When saving fails it stays,
 * which does no harm: handlers are idempotent.
 */
int undo_pop(struct undo *undo, struct err *e);
/*
 * Runs all steps, newest first; each that succeeds is taken off and the list saved. A failing step is
 * logged and kept, the others still run; the first error is returned. Blocks: worker.
 */
int undo_run(struct undo *undo, struct err *e);
/* Forgets all steps: the change is final. When saving fails they stay, as they do on disk. */
int undo_commit(struct undo *undo, struct err *e);
size_t undo_length(const struct undo *undo);

/* The list as JSON (a copy that the caller puts). */
struct json_object *undo_to_json(const struct undo *undo);
/* Replaces the list without saving; a malformed list or an unknown name is ERR_JOURNAL, no change. */
int undo_from_json(struct undo *undo, struct json_object *steps, struct err *e);
