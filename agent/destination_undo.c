/* SPDX-License-Identifier: Apache-2.0 */
/* Undo steps of the destination's jobs in its journal record. */
#include "agent/destination.h"

#include "lib/json.h"
#include "lib/log.h"

LOG_MODULE(destination);

static int save_steps(void *aux, struct json_object *steps, struct err *e)
{
    struct destination_saver *saver = aux;

    if (atomic_load(saver->called_off))
        return err_set(e, ERR_CANCELLED, "the preparation was called off");
    json_add(saver->record, "undo", json_copy(steps));
    return journal_write(saver->journal, saver->uuid, "destination", saver->record, e);
}

void destination_saver_fill(struct destination_saver *saver, struct migration *m)
{
    saver->journal = m->agent->journal;
    saver->called_off = &m->called_off;
    saver->uuid = text_dup(m->uuid);
    saver->record = migration_to_record(m);
}

void destination_saver_clear(struct destination_saver *saver)
{
    free(saver->uuid);
    json_object_put(saver->record);
}

struct undo *destination_undo_of(struct migration *m, struct destination_saver *saver)
{
    struct undo *undo = undo_new(m->agent->undo_handlers, saver ? save_steps : NULL, saver);
    _cleanup_(json_putp) struct json_object *steps = m->undo ? undo_to_json(m->undo) : NULL;
    struct err e = ERR_INIT;

    if (steps && undo_from_json(undo, steps, &e) < 0)
        log_err(LOG_LEVEL_ERROR, &e, "migration %s: undo steps", m->uuid);
    return undo;
}

void destination_take_undo(struct migration *m, struct undo *undo)
{
    _cleanup_(json_putp) struct json_object *steps = undo_to_json(undo);

    undo_free(m->undo);
    m->undo = undo_new(m->agent->undo_handlers, NULL, NULL);
    (void)undo_from_json(m->undo, steps, NULL); /* its own output */
}
