/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/story.h"

#include "agent/migration.h"
#include "lib/clock.h"
#include "lib/json.h"
#include "lib/log.h"

LOG_MODULE(migration);

static void keep(struct migration *m, const char *kind, int64_t at_us, struct json_object *entry)
{
    cloud_story_add(m->agent->cloud, m->uuid, migration_role_name(m->role), kind, at_us, entry);
    json_object_put(entry);
}

static int64_t now_us(const struct migration *m)
{
    return m->timeline.anchor_us + clock_monotonic_us();
}

/* ---- stamps ---- */

void migration_story_flush(struct migration *m)
{
    for (; m->stamps_kept < m->timeline.count; m->stamps_kept++) {
        const struct timeline_stamp *stamp = &m->timeline.stamps[m->stamps_kept];
        keep(m, "stamp", stamp->at_us, timeline_stamp_to_json(stamp));
    }
}

void migration_stamp_at(struct migration *m, enum timeline_name name, int64_t at_us, int value)
{
    bool in_pause = name >= TIMELINE_PAUSED && name <= TIMELINE_BINDINGS_ACTIVE;

    if (timeline_stamp(&m->timeline, name, at_us, value) && !in_pause)
        migration_story_flush(m);
}

void migration_stamp(struct migration *m, enum timeline_name name)
{
    migration_stamp_at(m, name, clock_monotonic_us(), 0);
}

void migration_stamp_peer(struct migration *m, struct json_object *stamps)
{
    timeline_add_peer(&m->timeline, stamps);
    migration_story_flush(m);
}

/* ---- notes and samples ---- */

void migration_story_note(struct migration *m, const char *text)
{
    struct json_object *entry;

    if (json_object_array_length(m->progress.actions) >= STORY_NOTES_MAX)
        return;
    json_object_array_add(m->progress.actions, json_object_new_string(text));
    entry = json_object_new_object();
    json_add_string(entry, "text", text);
    keep(m, "note", now_us(m), entry);
}

/* Disks go first, memory after them: what has not begun yet is not known. */
static void add_remaining(struct json_object *o, const char *key, int64_t total, int64_t remaining)
{
    json_add(o, key, total > 0 ? json_object_new_int64(remaining) : NULL);
}

static void add_told(struct json_object *o, const char *key, int64_t value)
{
    json_add(o, key, value < 0 ? NULL : json_object_new_int64(value));
}

static struct json_object *sample(const struct migration_progress *p)
{
    const struct virt_job *j = &p->job;
    struct json_object *o = json_object_new_object();

    add_remaining(o, "memory_remaining", j->memory_total, j->memory_remaining);
    add_remaining(o, "disk_remaining", j->disk_total, j->disk_remaining);
    json_add_int(o, "throughput_bytes_s", (int64_t)p->throughput);
    json_add_int(o, "dirty_rate_bytes_s", j->dirty_rate);
    json_add_int(o, "throttle_percent", j->throttle_percent);
    add_told(o, "expected_downtime_ms", p->told.pause_ms);
    add_told(o, "expected_downtime_low_ms", p->told.pause_low_ms);
    add_told(o, "expected_downtime_high_ms", p->told.pause_high_ms);
    json_add_int(o, "downtime_limit_ms", p->downtime_limit_ms);
    json_add_int(o, "iteration", j->iteration);
    return o;
}

/* Seconds between two samples: by the time alone, so that a restart goes on as before. */
static int64_t sample_stride_s(int64_t second)
{
    int64_t stride_s = 1;

    while (second / stride_s >= STORY_SAMPLES_MAX)
        stride_s *= 2;
    return stride_s;
}

void migration_story_sample(struct migration *m)
{
    const struct virt_job *j = &m->progress.job;
    const struct timeline_stamp *called = timeline_last(&m->timeline, TIMELINE_CALLED, false);
    int64_t from_us = called ? called->at_us : m->created_us;
    int64_t second = (now_us(m) - from_us) / USEC_PER_SEC, stride_s = sample_stride_s(second);

    if (j->memory_processed + j->disk_processed > 0)
        migration_stamp(m, TIMELINE_FIRST_BYTE);
    if (second < m->sample_due_s || j->memory_total + j->disk_total == 0)
        return;
    keep(m, "sample", now_us(m), sample(&m->progress));
    m->sample_due_s = (second / stride_s + 1) * stride_s;
    if (stride_s != m->sample_stride_s && stride_s > 1)
        cloud_story_thin(m->agent->cloud, m->uuid, migration_role_name(m->role), "sample", from_us,
                         stride_s);
    m->sample_stride_s = stride_s;
}

/* ---- after a restart ---- */

static const char *kind_of(struct json_object *entry)
{
    return json_get_string(entry, "kind", "");
}

static void restored(void *aux, struct json_object *entries, const struct err *failure)
{
    struct migration *m = aux;

    if (m->agent->closing) { /* the history is closed, or being closed */
        migration_unref(m);
        return;
    }
    struct json_object *notes = json_object_new_array();
    size_t count = failure ? 0 : json_object_array_length(entries);
    migration_story_flush(m);
    for (size_t i = 0; i < count; i++) {
        struct json_object *entry = json_object_array_get_idx(entries, i);
        if (text_equal(kind_of(entry), "stamp"))
            (void)timeline_add(&m->timeline, entry, json_get_int(entry, "at_us", 0));
        else if (text_equal(kind_of(entry), "note"))
            json_object_array_add(notes,
                                  json_object_new_string(json_get_string(entry, "text", "")));
    }
    m->stamps_kept = m->timeline.count;
    for (size_t i = 0; i < json_object_array_length(m->progress.actions); i++)
        json_object_array_add(notes,
                              json_object_get(json_object_array_get_idx(m->progress.actions, i)));
    json_object_put(m->progress.actions);
    m->progress.actions = notes;
    if (failure)
        log_err(LOG_LEVEL_WARNING, failure, "migration %s: what was noted before the restart",
                m->uuid);
    migration_unref(m);
}

void migration_story_restore(struct migration *m)
{
    cloud_story(m->agent->cloud, m->uuid, migration_role_name(m->role), restored, migration_ref(m));
}

/* ---- telling it ---- */

static void add_since(struct json_object *o, int64_t at_us, int64_t start_us)
{
    json_add_double(o, "since_start_ms", (double)(at_us - start_us) / USEC_PER_MSEC);
}

static struct json_object *note(struct json_object *entry, int64_t start_us)
{
    struct json_object *o = json_object_new_object();
    int64_t at_us = json_get_int(entry, "at_us", 0);
    char at[CLOCK_TEXT_SIZE];

    clock_format_context(at_us, at);
    json_add_string(o, "at", at);
    add_since(o, at_us, start_us);
    json_add_string(o, "text", json_get_string(entry, "text", ""));
    return o;
}

static struct json_object *told_sample(struct json_object *entry, int64_t start_us)
{
    struct json_object *o = json_copy(entry);

    json_object_object_del(o, "kind");
    json_object_object_del(o, "at_us");
    add_since(o, json_get_int(entry, "at_us", 0), start_us);
    return o;
}

/* Without a stamp of this host (an account of an older release): the first entry. */
static int64_t start_of(const struct timeline *timeline, struct json_object *entries)
{
    int64_t start_us = timeline_start_us(timeline);

    if (start_us == 0 && json_object_array_length(entries) > 0)
        start_us = json_get_int(json_object_array_get_idx(entries, 0), "at_us", 0);
    return start_us;
}

void story_tell(struct json_object *account, struct json_object *entries, bool with_samples)
{
    struct json_object *notes = json_object_new_array(), *samples = json_object_new_array();
    const char *source = json_get_string(account, "source", NULL);
    const char *dest = json_get_string(account, "dest", NULL);
    bool here_is_source = !text_equal(json_get_string(account, "role", NULL), "destination");
    size_t count = json_object_array_length(entries);
    struct timeline timeline = {0};

    for (size_t i = 0; i < count; i++) {
        struct json_object *entry = json_object_array_get_idx(entries, i);
        if (text_equal(kind_of(entry), "stamp"))
            (void)timeline_add(&timeline, entry, json_get_int(entry, "at_us", 0));
    }
    int64_t start_us = start_of(&timeline, entries);
    for (size_t i = 0; i < count; i++) {
        struct json_object *entry = json_object_array_get_idx(entries, i);
        if (text_equal(kind_of(entry), "note"))
            json_object_array_add(notes, note(entry, start_us));
        else if (with_samples && text_equal(kind_of(entry), "sample"))
            json_object_array_add(samples, told_sample(entry, start_us));
    }
    json_add(account, "timeline",
             timeline_to_json(&timeline, here_is_source ? source : dest,
                              here_is_source ? dest : source));
    json_add(account, "notes", notes);
    if (with_samples)
        json_add(account, "samples", samples);
    else
        json_object_put(samples);
}
