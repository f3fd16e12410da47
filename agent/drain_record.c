/* SPDX-License-Identifier: Apache-2.0 */
/* The drain as a record of the journal, back, and as people see it. */
#include "agent/drain_internal.h"

#include "lib/clock.h"
#include "lib/json.h"
#include "lib/text.h"

enum { RECORD_VERSION = 1, GUESTS_MAX = 100000 };

static const char *const states[] = {
#define X(id, word) [DRAIN_##id] = (word),
    DRAIN_STATES(X)
#undef X
};

static const char *const guest_states[] = {
#define X(id, word) [DRAIN_GUEST_##id] = (word),
    DRAIN_GUEST_STATES(X)
#undef X
};

static const char *const orders[] = {
    [DRAIN_LARGEST] = "largest", [DRAIN_SMALLEST] = "smallest", [DRAIN_NAME] = "name"};

static int find_word(const char *const *words, size_t count, const char *word)
{
    for (size_t i = 0; i < count; i++)
        if (text_equal(words[i], word))
            return (int)i;
    return -1;
}

int drain_order_parse(const char *word)
{
    return find_word(orders, ARRAY_LEN(orders), word);
}

const char *drain_state_word(enum drain_state state)
{
    return states[state];
}

size_t drain_count(const struct drain *d, enum drain_guest_state state)
{
    size_t count = 0;

    for (size_t i = 0; i < d->count; i++)
        count += d->guests[i].state == state;
    return count;
}

void drain_guests_clear(struct drain *d)
{
    for (size_t i = 0; i < d->count; i++) {
        struct drain_guest *g = &d->guests[i];
        free(g->uuid);
        free(g->name);
        free(g->at);
        free(g->attempt);
        free(g->reason);
    }
    free(d->guests);
    d->guests = NULL;
    d->count = 0;
}

/* ---- out ---- */

static struct json_object *guest_to_json(const struct drain_guest *g)
{
    struct json_object *o = json_object_new_object();

    json_add_string(o, "uuid", g->uuid);
    json_add_string(o, "name", g->name);
    json_add_string(o, "state", guest_states[g->state]);
    json_add_string(o, "at", g->at);
    json_add_string(o, "attempt", g->attempt);
    json_add_string(o, "reason", g->reason);
    json_add_int(o, "memory_mb", g->memory_mb);
    json_add_int(o, "asked_us", g->asked_us);
    json_add_int(o, "attempts", g->attempts);
    json_add_int(o, "size_bytes", g->size);
    json_add_int(o, "left_bytes", g->left);
    json_add_int(o, "moved_bytes", g->moved);
    json_add_int(o, "time_left_s", g->time_left_s);
    return o;
}

struct json_object *drain_to_record(const struct drain *d)
{
    struct json_object *o = json_object_new_object(), *list = json_object_new_array();

    json_add_int(o, "version", RECORD_VERSION);
    json_add_string(o, "uuid", d->uuid);
    json_add_string(o, "role", "drain");
    json_add_string(o, "state", states[d->state]);
    json_add_bool(o, "undoing", d->undoing);
    json_add_string(o, "to", d->destination);
    json_add_string(o, "order", orders[d->order]);
    json_add_int(o, "parallel", d->parallel);
    json_add_bool(o, "disable", d->disable);
    json_add_bool(o, "disabled", d->disabled);
    json_add_string(o, "reason", d->reason);
    json_add_int(o, "started_us", d->started_us);
    json_add_int(o, "ended_us", d->ended_us);
    for (size_t i = 0; i < d->count; i++)
        json_object_array_add(list, guest_to_json(&d->guests[i]));
    json_add(o, "guests", list);
    return o;
}

static void add_counts(struct json_object *o, const struct drain *d)
{
    struct json_object *counts = json_object_new_object();

    for (size_t i = 0; i < ARRAY_LEN(guest_states); i++)
        json_add_int(counts, guest_states[i], (int64_t)drain_count(d, (enum drain_guest_state)i));
    json_add(o, "counts", counts);
}

/* What the guests take that this job moves, has moved or is to move. */
static bool is_work(const struct drain_guest *g)
{
    return g->state == DRAIN_GUEST_WAITING || g->state == DRAIN_GUEST_ASKED ||
           g->state == DRAIN_GUEST_MOVING || g->state == DRAIN_GUEST_MOVED ||
           g->state == DRAIN_GUEST_RETURNED;
}

/* The rest takes as long, by its size, as what is done took. */
static int64_t time_left_s(const struct drain *d, int64_t elapsed_us, int64_t done, int64_t left)
{
    if (d->ended_us)
        return 0;
    if (done <= 0 || elapsed_us < USEC_PER_SEC)
        return -1;
    return (int64_t)((double)elapsed_us / (double)done * (double)left) / USEC_PER_SEC;
}

static void add_figures(struct json_object *o, const struct drain *d)
{
    int64_t size = 0, left = 0, moved = 0;
    int64_t elapsed_us = (d->ended_us ? d->ended_us : clock_realtime_us()) - d->started_us;

    for (size_t i = 0; i < d->count; i++) {
        if (!is_work(&d->guests[i]))
            continue;
        size += d->guests[i].size;
        left += d->guests[i].left;
        moved += d->guests[i].moved;
    }
    json_add_int(o, "size_bytes", size);
    json_add_int(o, "left_bytes", left);
    json_add_int(o, "moved_bytes", moved);
    json_add_int(o, "elapsed_s", elapsed_us / USEC_PER_SEC);
    json_add_int(o, "time_left_s", time_left_s(d, elapsed_us, size - left, left));
}

struct json_object *drain_status(const struct agent *agent)
{
    const struct drain *d = agent->drain;

    if (!d)
        return NULL;
    struct json_object *o = drain_to_record(d);
    json_add_string(o, "host", agent->host);
    add_counts(o, d);
    add_figures(o, d);
    return o;
}

/* ---- in ---- */

static int guest_from_json(struct drain_guest *g, struct json_object *o, struct err *e)
{
    const char *uuid, *name, *state;

    if (json_need_string(o, "uuid", &uuid, e) < 0 || json_need_string(o, "name", &name, e) < 0 ||
        json_need_string(o, "state", &state, e) < 0 || text_check_uuid(uuid, "guest", e) < 0)
        return -1;
    int number = find_word(guest_states, ARRAY_LEN(guest_states), state);
    if (number < 0)
        return err_set(e, ERR_JOURNAL, "a guest of the drain has the unknown state %s", state);
    *g = (struct drain_guest){
        .uuid = text_dup(uuid),
        .name = text_dup(name),
        .memory_mb = json_get_int(o, "memory_mb", 0),
        .state = (enum drain_guest_state)number,
        .at = text_dup(json_get_string(o, "at", NULL)),
        .attempt = text_dup(json_get_string(o, "attempt", NULL)),
        .reason = text_dup(json_get_string(o, "reason", NULL)),
        .asked_us = json_get_int(o, "asked_us", 0),
        .attempts = json_get_int(o, "attempts", 0),
        .size = json_get_int(o, "size_bytes", 0),
        .left = json_get_int(o, "left_bytes", 0),
        .moved = json_get_int(o, "moved_bytes", 0),
        .time_left_s = -1,
    };
    return 0;
}

static int read_guests(struct drain *d, struct json_object *record, struct err *e)
{
    struct json_object *list;

    if (json_need_array(record, "guests", &list, e) < 0)
        return -1;
    size_t count = json_object_array_length(list);
    if (count > GUESTS_MAX)
        return err_set(e, ERR_JOURNAL, "the drain has %zu guests; %d is the most", count,
                       GUESTS_MAX);
    d->guests = NEW_ARRAY(struct drain_guest, count + 1);
    for (; d->count < count; d->count++)
        if (guest_from_json(&d->guests[d->count], json_object_array_get_idx(list, d->count), e) < 0)
            return -1;
    return 0;
}

int drain_from_record(struct drain *d, struct json_object *record, struct err *e)
{
    const char *uuid, *state, *order;
    int64_t version;

    if (json_need_int(record, "version", &version, e) < 0 ||
        json_need_string(record, "uuid", &uuid, e) < 0 ||
        json_need_string(record, "state", &state, e) < 0 ||
        json_need_string(record, "order", &order, e) < 0)
        return -1;
    int number = find_word(states, ARRAY_LEN(states), state);
    if (version != RECORD_VERSION || number < 0 || drain_order_parse(order) < 0)
        return err_set(e, ERR_JOURNAL,
                       "the drain's record is of version %lld, state %s and order %s, which this "
                       "agent does not know",
                       (long long)version, state, order);
    d->uuid = text_dup(uuid);
    d->state = (enum drain_state)number;
    d->order = (enum drain_order)drain_order_parse(order);
    d->undoing = json_get_bool(record, "undoing", false);
    d->destination = text_dup(json_get_string(record, "to", NULL));
    d->parallel = json_get_int(record, "parallel", 0);
    d->disable = json_get_bool(record, "disable", false);
    d->disabled = json_get_bool(record, "disabled", false);
    d->reason = text_dup(json_get_string(record, "reason", NULL));
    d->started_us = json_get_int(record, "started_us", 0);
    d->ended_us = json_get_int(record, "ended_us", 0);
    return read_guests(d, record, e);
}
