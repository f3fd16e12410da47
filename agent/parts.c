/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/parts.h"

#include "lib/clock.h"
#include "lib/log.h"

LOG_MODULE(parts);

#define FIRST_PAUSE_US (1 * USEC_PER_SEC)
#define LAST_PAUSE_US  (15 * USEC_PER_SEC)
#define PATIENCE_US    (300 * USEC_PER_SEC)

struct parts {
    struct migration *migration;
    enum machine_state state; /* in which they began */
    enum machine_event event;
    unsigned open;
    struct part *waiting; /* for another try */
};

struct part {
    struct parts *parts;
    struct part *next;
    const char *name;
    part_fn begin;
    struct loop_timer *timer;
    int64_t began_us, pause_us;
};

struct parts *parts_open(struct migration *m, enum machine_event when_all_ended)
{
    struct parts *parts = m->parts = NEW(struct parts);

    parts->migration = migration_ref(m);
    parts->state = m->state;
    parts->event = when_all_ended;
    parts->open = 1;
    return parts;
}

void parts_hold(struct parts *parts)
{
    parts->open++;
}

void parts_end(struct parts *parts)
{
    struct migration *m = parts->migration;

    if (--parts->open > 0)
        return;
    if (m->parts == parts)
        m->parts = NULL;
    if (m->state == parts->state && !m->agent->closing)
        machine_event(m, parts->event);
    migration_unref(m);
    free(parts);
}

void parts_close(struct parts *parts)
{
    parts_end(parts);
}

static void part_over(struct part *part)
{
    struct parts *parts = part->parts;

    loop_timer_free(part->timer);
    free(part);
    parts_end(parts);
}

/* What is not there, or not there to be done, does not come by waiting. */
static bool is_of_no_use(const struct err *failure)
{
    return failure->code == ERR_NOT_IMPLEMENTED || failure->code == ERR_NO_INSTANCE ||
           failure->code == ERR_NO_MIGRATION || failure->code == ERR_CANCELLED ||
           failure->code == ERR_INSTANCE_STATE || failure->code == ERR_TASK_STATE ||
           failure->code == ERR_DELETING;
}

static void ended(void *aux, const struct err *failure)
{
    struct part *part = aux;
    struct migration *m = part->parts->migration;

    if (!failure || m->agent->closing) {
        part_over(part);
        return;
    }
    if (is_of_no_use(failure) || clock_monotonic_us() - part->began_us > PATIENCE_US) {
        log_err(LOG_LEVEL_ERROR, failure, "migration %s: %s", m->uuid, part->name);
        migration_note(m, "%s: given up: %s", part->name, failure->text);
        part_over(part);
        return;
    }
    log_err(LOG_LEVEL_WARNING, failure, "migration %s: %s, to be tried again in %lld s", m->uuid,
            part->name, (long long)(part->pause_us / USEC_PER_SEC));
    part->next = part->parts->waiting;
    part->parts->waiting = part;
    loop_timer_arm(part->timer, part->pause_us);
    part->pause_us *= 2;
    if (part->pause_us > LAST_PAUSE_US)
        part->pause_us = LAST_PAUSE_US;
}

static void begin(struct part *part)
{
    part->begin(part->parts->migration, ended, part);
}

static void begin_again(void *aux)
{
    struct part *part = aux;
    struct part **link = &part->parts->waiting;

    while (*link != part)
        link = &(*link)->next;
    *link = part->next;
    begin(part);
}

void parts_drop_waiting(struct migration *m)
{
    struct parts *parts = m->parts;

    while (parts && parts->waiting) {
        struct part *part = parts->waiting;
        parts->waiting = part->next;
        if (parts->open == 1)
            parts = NULL; /* the last one takes the set with it */
        part_over(part);
    }
    if (parts && m->parts_held) {
        m->parts_held = false;
        parts_end(parts);
    }
}

void parts_add(struct parts *parts, const char *name, part_fn begin_part)
{
    struct part *part = NEW(struct part);

    parts_hold(parts);
    part->parts = parts;
    part->name = name;
    part->begin = begin_part;
    part->began_us = clock_monotonic_us();
    part->pause_us = FIRST_PAUSE_US;
    part->timer = loop_timer_new(parts->migration->agent->loop, "part again", begin_again, part);
    begin(part);
}
