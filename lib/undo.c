/* SPDX-License-Identifier: Apache-2.0 */
/* Undo steps. The list is kept as the JSON that is saved, so memory and disk cannot differ in form. */
#include "lib/undo.h"

#include "lib/json.h"
#include "lib/log.h"
#include "lib/text.h"

LOG_MODULE(undo);

struct undo {
    const struct undo_handler *handlers;
    int (*save)(void *aux, struct json_object *steps, struct err *e);
    void *aux;
    struct json_object *steps; /* [[name, args], ...], the newest last */
};

static const struct undo_handler *find_handler(const struct undo *undo, const char *name)
{
    for (const struct undo_handler *h = undo->handlers; h->name; h++)
        if (text_equal(h->name, name))
            return h;
    return NULL;
}

static int save(struct undo *undo, struct err *e)
{
    return undo->save ? undo->save(undo->aux, undo->steps, e) : 0;
}

static const char *step_name(const struct undo *undo, size_t index)
{
    struct json_object *step = json_object_array_get_idx(undo->steps, index);

    return json_object_get_string(json_object_array_get_idx(step, 0));
}

struct undo *undo_new(const struct undo_handler *handlers,
                      int (*save_list)(void *aux, struct json_object *steps, struct err *e),
                      void *aux)
{
    struct undo *undo = NEW(struct undo);

    undo->handlers = handlers;
    undo->save = save_list;
    undo->aux = aux;
    undo->steps = json_object_new_array();
    return undo;
}

void undo_free(struct undo *undo)
{
    if (!undo)
        return;
    json_object_put(undo->steps);
    free(undo);
}

int undo_push(struct undo *undo, const char *name, struct json_object *args, struct err *e)
{
    struct json_object *step;

    if (!find_handler(undo, name)) {
        json_object_put(args);
        return err_set(e, ERR_INTERNAL, "there is no undo step \"%s\"", name);
    }
    step = json_object_new_array();
    json_object_array_add(step, json_object_new_string(name));
    json_object_array_add(step, args);
    json_object_array_add(undo->steps, step);
    if (save(undo, e) == 0)
        return 0;
    json_object_array_del_idx(undo->steps, undo_length(undo) - 1, 1);
    return err_prefix(e, "undo step %s", name);
}

int undo_pop(struct undo *undo, struct err *e)
{
    _cleanup_(json_putp) struct json_object *step = NULL;
    size_t length = undo_length(undo);

    if (!length)
        return err_set(e, ERR_INTERNAL, "there is no undo step to take off");
    step = json_object_get(json_object_array_get_idx(undo->steps, length - 1));
    json_object_array_del_idx(undo->steps, length - 1, 1);
    if (save(undo, e) == 0)
        return 0;
    json_object_array_add(undo->steps, STEAL(step));
    return -1;
}

static int run_step(const struct undo *undo, size_t index, struct err *e)
{
    struct json_object *step = json_object_array_get_idx(undo->steps, index);
    const struct undo_handler *handler = find_handler(undo, step_name(undo, index));

    return handler->run(handler->aux, json_object_array_get_idx(step, 1), e);
}

static void keep_first(struct err *first, const struct err *later)
{
    if (!err_is_set(first))
        *first = *later;
}

int undo_run(struct undo *undo, struct err *e)
{
    struct err first = ERR_INIT;

    for (size_t i = undo_length(undo); i-- > 0;) {
        struct err failure = ERR_INIT;

        if (run_step(undo, i, &failure) < 0) {
            log_err(LOG_LEVEL_WARNING, &failure, "undo step %s failed and is kept",
                    step_name(undo, i));
            err_prefix(&failure, "undo step %s", step_name(undo, i));
            keep_first(&first, &failure);
            continue;
        }
        json_object_array_del_idx(undo->steps, i, 1);
        /* What was undone is undone; a step that disk still has will be undone again in vain. */
        if (save(undo, &failure) < 0)
            keep_first(&first, &failure);
    }
    if (!err_is_set(&first))
        return 0;
    if (e)
        *e = first;
    return -1;
}

int undo_commit(struct undo *undo, struct err *e)
{
    struct json_object *before = undo->steps;

    undo->steps = json_object_new_array();
    if (save(undo, e) < 0) {
        json_object_put(undo->steps);
        undo->steps = before;
        return -1;
    }
    json_object_put(before);
    return 0;
}

size_t undo_length(const struct undo *undo)
{
    return json_object_array_length(undo->steps);
}

struct json_object *undo_to_json(const struct undo *undo)
{
    return json_copy(undo->steps);
}

static int check_step(const struct undo *undo, struct json_object *step, struct err *e)
{
    struct json_object *name = NULL;
    _cleanup_(str_freep) char *shown = NULL;

    if (json_object_is_type(step, json_type_array) && json_object_array_length(step) == 2)
        name = json_object_array_get_idx(step, 0);
    if (!json_object_is_type(name, json_type_string))
        return err_set(e, ERR_JOURNAL, "a journal record's undo step is not [name, arguments]");
    if (find_handler(undo, json_object_get_string(name)))
        return 0;
    shown = text_escape(json_object_get_string(name), 60);
    return err_set(e, ERR_JOURNAL, "a journal record has the unknown undo step \"%s\"", shown);
}

int undo_from_json(struct undo *undo, struct json_object *steps, struct err *e)
{
    if (!json_object_is_type(steps, json_type_array))
        return err_set(e, ERR_JOURNAL, "a journal record's undo steps are not an array");
    for (size_t i = 0; i < json_object_array_length(steps); i++)
        if (check_step(undo, json_object_array_get_idx(steps, i), e) < 0)
            return -1;
    json_object_put(undo->steps);
    undo->steps = json_copy(steps);
    return 0;
}
