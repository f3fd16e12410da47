/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/timeline.h"

#include <stdlib.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/json.h"
#include "lib/text.h"

static const struct {
    const char *name;
    bool again;
    const char *text;
} names[TIMELINE_NAMES] = {
#define X(constant, name, again, text) {name, again, text},
    TIMELINE_STAMPS(X)
#undef X
};

/* 2100 in microseconds: what is later is no time. */
#define TIME_MAX_US (INT64_C(4102444800) * USEC_PER_SEC)

void timeline_begin(struct timeline *t, int64_t monotonic_us, int64_t realtime_us)
{
    t->anchor_us = realtime_us - monotonic_us;
    t->count = 0;
}

const struct timeline_stamp *timeline_last(const struct timeline *t, enum timeline_name name,
                                           bool peer)
{
    const struct timeline_stamp *last = NULL;

    for (unsigned i = 0; i < t->count; i++) {
        const struct timeline_stamp *s = &t->stamps[i];
        if (s->name == name && s->peer == peer && (!last || s->at_us >= last->at_us))
            last = s;
    }
    return last;
}

static bool has_room(const struct timeline *t, const struct timeline_stamp *stamp)
{
    unsigned iterations = 0;

    if (t->count == TIMELINE_MAX)
        return false;
    for (unsigned i = 0; i < t->count; i++)
        iterations += t->stamps[i].name == TIMELINE_ITERATION;
    return stamp->name != TIMELINE_ITERATION || iterations < TIMELINE_ITERATIONS_MAX;
}

static bool is_known(const struct timeline *t, const struct timeline_stamp *stamp)
{
    if (!names[stamp->name].again)
        return timeline_last(t, stamp->name, stamp->peer) != NULL;
    for (unsigned i = 0; i < t->count; i++) {
        const struct timeline_stamp *s = &t->stamps[i];
        if (s->name == stamp->name && s->peer == stamp->peer && s->at_us == stamp->at_us)
            return true;
    }
    return false;
}

static bool add(struct timeline *t, const struct timeline_stamp *stamp)
{
    if (is_known(t, stamp) || !has_room(t, stamp))
        return false;
    t->stamps[t->count++] = *stamp;
    return true;
}

bool timeline_stamp(struct timeline *t, enum timeline_name name, int64_t monotonic_us, int value)
{
    return add(t, &(struct timeline_stamp){
                      .name = name, .value = value, .at_us = t->anchor_us + monotonic_us});
}

/* ---- to and from JSON ---- */

static bool read_stamp(struct json_object *o, int64_t at_us, bool peer, struct timeline_stamp *out)
{
    const char *name = json_get_string(o, "name", NULL);
    int64_t value = json_get_int(o, "value", 0);

    if (at_us <= 0 || at_us > TIME_MAX_US || value < 0 || value > INT32_MAX)
        return false;
    for (int i = 0; i < TIMELINE_NAMES; i++) {
        if (!text_equal(name, names[i].name))
            continue;
        *out = (struct timeline_stamp){
            .name = (enum timeline_name)i, .peer = peer, .value = (int)value, .at_us = at_us};
        return true;
    }
    return false;
}

struct json_object *timeline_to_peer(const struct timeline *t)
{
    struct json_object *list = json_object_new_array();

    for (unsigned i = 0; i < t->count; i++) {
        const struct timeline_stamp *s = &t->stamps[i];
        if (s->peer)
            continue;
        struct json_object *o = json_object_new_object();
        json_add_string(o, "name", names[s->name].name);
        json_add_int(o, "at_us", s->at_us);
        json_add_int(o, "value", s->value);
        json_object_array_add(list, o);
    }
    return list;
}

void timeline_add_peer(struct timeline *t, struct json_object *stamps)
{
    size_t count =
        json_object_is_type(stamps, json_type_array) ? json_object_array_length(stamps) : 0;

    for (size_t i = 0; i < count && i < TIMELINE_MAX; i++) {
        struct json_object *o = json_object_array_get_idx(stamps, i);
        struct timeline_stamp stamp;
        if (read_stamp(o, json_get_int(o, "at_us", 0), true, &stamp))
            (void)add(t, &stamp);
    }
}

struct json_object *timeline_stamp_to_json(const struct timeline_stamp *stamp)
{
    struct json_object *o = json_object_new_object();

    json_add_string(o, "name", names[stamp->name].name);
    json_add_bool(o, "peer", stamp->peer);
    json_add_int(o, "value", stamp->value);
    return o;
}

bool timeline_add(struct timeline *t, struct json_object *o, int64_t at_us)
{
    struct timeline_stamp stamp;

    return read_stamp(o, at_us, json_get_bool(o, "peer", false), &stamp) && add(t, &stamp);
}

/* ---- for people ---- */

/* What is added to the other host's times to lay them beside ours. */
struct alignment {
    bool by_signal;
    int64_t peer_shift_us, start_us, pause_us; /* pause_us 0 = none */
};

static const struct timeline_stamp *first_of(const struct timeline *t, bool peer)
{
    const struct timeline_stamp *first = NULL;

    for (unsigned i = 0; i < t->count; i++)
        if (t->stamps[i].peer == peer && (!first || t->stamps[i].at_us < first->at_us))
            first = &t->stamps[i];
    return first;
}

int64_t timeline_start_us(const struct timeline *t)
{
    const struct timeline_stamp *first = first_of(t, false);

    if (!first)
        first = first_of(t, true);
    return first ? first->at_us : 0;
}

static struct alignment align(const struct timeline *t)
{
    const struct timeline_stamp *sent = timeline_last(t, TIMELINE_SIGNAL_SENT, false);
    const struct timeline_stamp *received = timeline_last(t, TIMELINE_SIGNAL_RECEIVED, true);
    const struct timeline_stamp *paused = timeline_last(t, TIMELINE_PAUSED, false);
    struct alignment a = {.by_signal = sent && received, .start_us = timeline_start_us(t)};

    if (!paused)
        paused = timeline_last(t, TIMELINE_SIGNAL_RECEIVED, false);
    if (a.by_signal)
        a.peer_shift_us = sent->at_us - received->at_us;
    a.pause_us = paused ? paused->at_us : 0;
    return a;
}

static int64_t laid(const struct alignment *a, const struct timeline_stamp *s)
{
    return s->at_us + (s->peer ? a->peer_shift_us : 0);
}

static struct json_object *row(const struct alignment *a, const struct timeline_stamp *s,
                               const char *host)
{
    struct json_object *o = json_object_new_object();
    char at[CLOCK_TEXT_SIZE];
    int64_t us = laid(a, s);

    clock_format_context(s->at_us, at);
    json_add_string(o, "name", names[s->name].name);
    json_add_string(o, "text", names[s->name].text);
    json_add_string(o, "host", host);
    json_add_string(o, "at", at);
    json_add_int(o, "at_us", s->at_us);
    json_add(o, "iteration", s->name == TIMELINE_ITERATION ? json_object_new_int(s->value) : NULL);
    json_add_double(o, "since_start_ms", (double)(us - a->start_us) / USEC_PER_MSEC);
    json_add(o, "since_pause_ms",
             a->pause_us ? json_object_new_double((double)(us - a->pause_us) / USEC_PER_MSEC)
                         : NULL);
    return o;
}

struct json_object *timeline_to_json(const struct timeline *t, const char *host,
                                     const char *peer_host)
{
    struct json_object *o = json_object_new_object(), *list = json_object_new_array();
    struct alignment a = align(t);
    unsigned order[TIMELINE_MAX];

    /* few and nearly in order: insertion keeps those of one time as they came */
    for (unsigned i = 0; i < t->count; i++) {
        unsigned k = i;
        for (; k > 0 && laid(&a, &t->stamps[order[k - 1]]) > laid(&a, &t->stamps[i]); k--)
            order[k] = order[k - 1];
        order[k] = i;
    }
    for (unsigned i = 0; i < t->count; i++) {
        const struct timeline_stamp *s = &t->stamps[order[i]];
        json_object_array_add(list, row(&a, s, s->peer ? peer_host : host));
    }
    json_add_string(o, "aligned_by", a.by_signal ? "signal" : "clocks");
    json_add(o, "stamps", list);
    return o;
}
