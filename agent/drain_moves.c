/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The moves of a drain. One step does all that can be done now: begins moves up to the limit, looks at those under
 * way, ends the job when nothing is left; it runs when a timer is due, when an answer came and when a
 * migration of this host changed its status. A move is asked for only when the journal has it: after a
 * restart it is looked for before it is asked for again.
 */
#include "agent/drain_internal.h"

#include <stdlib.h>

#include "lib/clock.h"
#include "lib/json.h"
#include "lib/log.h"

LOG_MODULE(drain);

#define UNKNOWN_US (600 * USEC_PER_SEC) /* then a guest that cannot be looked at is given up */
enum { ATTEMPTS_MAX = 3 };

/* ---- one guest ---- */

void drain_settle(struct drain *d, struct drain_guest *g, enum drain_guest_state state,
                  const char *reason)
{
    g->state = state;
    g->unknown_since_us = 0;
    g->time_left_s = -1;
    text_replace(&g->reason, reason);
    d->dirty = true;
    if (state == DRAIN_GUEST_STAYS)
        log_warning("drain: %s does not move: %s", g->name, reason);
    else if (state == DRAIN_GUEST_MOVED)
        log_info("drain: %s is on %s", g->name, g->at);
    else if (state == DRAIN_GUEST_RETURNED)
        log_info("drain: %s is back", g->name);
    else if (state == DRAIN_GUEST_GONE)
        log_info("drain: %s is left alone: %s", g->name, reason);
}

struct drain_guest *drain_call_guest(const struct drain_call *call)
{
    return &call->drain->guests[call->index];
}

static struct drain_call *call_new(struct drain *d, size_t index)
{
    struct drain_call *call = NEW(struct drain_call);

    call->drain = drain_ref(d);
    call->index = index;
    call->from = text_dup(d->undoing ? d->guests[index].at : d->agent->host);
    call->to = text_dup(d->undoing ? d->agent->host : d->destination);
    return call;
}

static void call_free(struct drain_call *call)
{
    drain_unref(call->drain);
    free(call->from);
    free(call->to);
    free(call);
}

/* ---- asking ---- */

void drain_asked(struct drain_call *call, const char *attempt, const struct err *failure,
                 bool perhaps)
{
    struct drain *d = call->drain;
    struct drain_guest *g = drain_call_guest(call);

    if (!drain_is_dead(d)) {
        bool denied = failure && failure->code == ERR_DENIED && d->way == &drain_way_api;
        if (denied &&
            d->state == DRAIN_MOVING) { /* the account: no other guest would fare better */
            d->state = DRAIN_STOPPING;
            text_replace(&d->reason, failure->text);
        }
        if (!failure || perhaps) {
            g->state = DRAIN_GUEST_MOVING;
            text_replace(&g->attempt, failure ? NULL : attempt);
            d->dirty = true;
        } else {
            drain_settle(d, g,
                         failure->code == ERR_NO_INSTANCE ? DRAIN_GUEST_GONE : DRAIN_GUEST_STAYS,
                         failure->text);
        }
        drain_soon(d);
    }
    call_free(call);
}

static void send_recorded(struct drain *d)
{
    for (size_t i = 0; i < d->count; i++) {
        struct drain_guest *g = &d->guests[i];
        if (g->state != DRAIN_GUEST_ASKED || !g->recorded || g->sent)
            continue;
        g->sent = true;
        d->way->ask(call_new(d, i));
    }
}

/* ---- the journal ---- */

struct write {
    struct drain *drain;
    struct journal *journal;
    char *uuid;
    struct json_object *record; /* NULL: it goes */
    int result;
    struct err e;
};

static void write_run(void *aux)
{
    struct write *w = aux;

    w->result = w->record ? journal_write(w->journal, w->uuid, "drain", w->record, &w->e)
                          : journal_remove(w->journal, w->uuid, "drain", &w->e);
}

static void give_up_recorded(struct drain *d, const struct err *failure)
{
    for (size_t i = 0; i < d->count; i++)
        if (d->guests[i].state == DRAIN_GUEST_ASKED && d->guests[i].recorded && !d->guests[i].sent)
            drain_settle(d, &d->guests[i], DRAIN_GUEST_STAYS, failure->text);
    d->dirty = false; /* the next change tries again */
}

static void write_done(void *aux, enum work_end end)
{
    struct write *w = aux;
    struct drain *d = w->drain;

    d->saving = false;
    if (end != WORK_DONE || drain_is_dead(d))
        return;
    if (w->result < 0) {
        log_err(LOG_LEVEL_ERROR, &w->e, "drain: the journal does not have its state");
        give_up_recorded(d, &w->e);
    } else {
        send_recorded(d);
    }
    if (d->dirty)
        drain_save(d);
    drain_soon(d);
}

static void write_release(void *aux)
{
    struct write *w = aux;

    drain_unref(w->drain);
    free(w->uuid);
    json_object_put(w->record);
    free(w);
}

/* All is as if the host had not been drained. */
static bool is_all_undone(const struct drain *d)
{
    for (size_t i = 0; i < d->count; i++)
        if (d->guests[i].at && d->guests[i].state != DRAIN_GUEST_GONE)
            return false;
    return d->undoing && d->state == DRAIN_DONE;
}

void drain_save(struct drain *d)
{
    struct work work = {
        .name = "drain's record", .run = write_run, .done = write_done, .release = write_release};

    d->dirty = true;
    if (d->saving || drain_is_dead(d))
        return;
    d->dirty = false;
    d->saving = true;
    for (size_t i = 0; i < d->count; i++)
        d->guests[i].recorded = d->guests[i].state == DRAIN_GUEST_ASKED;
    struct write *w = NEW(struct write);
    w->drain = drain_ref(d);
    w->journal = d->agent->journal;
    w->uuid = text_dup(d->uuid);
    w->record = is_all_undone(d) ? NULL : drain_to_record(d);
    work.aux = w;
    workers_submit(d->agent->workers, &work);
}

/* ---- looking ---- */

static void take_figures(struct drain_guest *g, struct json_object *account)
{
    struct json_object *memory = json_get(account, "memory"), *disk = json_get(account, "disk");
    int64_t total = json_get_int(memory, "total", 0) + json_get_int(disk, "total", 0);

    if (total <= 0)
        return;
    g->size = total;
    g->left = json_get_int(memory, "remaining", 0) + json_get_int(disk, "remaining", 0);
    g->moved = json_get_int(memory, "processed", 0) + json_get_int(disk, "processed", 0);
    g->time_left_s = json_get_int(account, "time_left_s", -1);
}

static void arrived(struct drain *d, struct drain_guest *g, const char *host)
{
    bool home = text_equal(host, d->agent->host);

    text_replace(&g->at, home ? NULL : host);
    g->left = 0;
    if (d->undoing && !home)
        drain_settle(d, g, DRAIN_GUEST_STAYS, "it was moved to yet another host");
    else
        drain_settle(d, g, home ? DRAIN_GUEST_RETURNED : DRAIN_GUEST_MOVED, NULL);
}

static void never_asked(struct drain *d, struct drain_guest *g, const char *reason)
{
    if (g->attempts < ATTEMPTS_MAX)
        drain_settle(d, g, DRAIN_GUEST_WAITING, reason);
    else
        drain_settle(d, g, DRAIN_GUEST_STAYS,
                     reason ? reason : "it was asked for several times in vain");
}

static void unknown(struct drain *d, struct drain_guest *g, const char *reason)
{
    int64_t now_us = clock_monotonic_us();

    if (g->unknown_since_us == 0)
        g->unknown_since_us = now_us;
    if (now_us - g->unknown_since_us > UNKNOWN_US)
        drain_settle(d, g, DRAIN_GUEST_STAYS, reason);
    else
        text_replace(&g->reason, reason);
}

static void take_sight(struct drain *d, struct drain_guest *g, enum drain_sight sight,
                       const char *host, const char *reason)
{
    switch (sight) {
    case DRAIN_GOES_ON:
        g->unknown_since_us = 0;
        text_replace(&g->reason, NULL);
        return;
    case DRAIN_ARRIVED:
        arrived(d, g, host);
        return;
    case DRAIN_REFUSED:
        drain_settle(d, g, DRAIN_GUEST_STAYS,
                     reason ? reason : "no reason is known; the log may have it");
        return;
    case DRAIN_LOST:
        drain_settle(d, g, DRAIN_GUEST_GONE, reason);
        return;
    case DRAIN_NEVER:
        never_asked(d, g, reason);
        return;
    case DRAIN_UNKNOWN:
        unknown(d, g, reason);
        return;
    }
}

void drain_looked(struct drain_call *call, enum drain_sight sight, const char *host,
                  const char *reason, struct json_object *account)
{
    struct drain *d = call->drain;
    struct drain_guest *g = drain_call_guest(call);

    g->looking = false;
    if (!drain_is_dead(d) && g->state == DRAIN_GUEST_MOVING) {
        take_figures(g, account);
        take_sight(d, g, sight, host, reason);
        if (g->state != DRAIN_GUEST_MOVING)
            drain_soon(d);
    }
    call_free(call);
}

static void look_at_moving(struct drain *d)
{
    for (size_t i = 0; i < d->count; i++) {
        struct drain_guest *g = &d->guests[i];
        if (g->state != DRAIN_GUEST_MOVING || g->looking)
            continue;
        g->looking = true;
        d->way->look(call_new(d, i));
    }
}

/* ---- a step ---- */

static size_t places(const struct drain *d)
{
    int64_t parallel = d->parallel;

    if (parallel == 0)
        parallel = conf_int(d->agent->conf, CONF_DEFAULT_max_concurrent_live_migrations);
    return parallel == 0 ? SIZE_MAX : (size_t)parallel;
}

static size_t at_work(const struct drain *d)
{
    return drain_count(d, DRAIN_GUEST_ASKED) + drain_count(d, DRAIN_GUEST_MOVING);
}

static void begin_moves(struct drain *d)
{
    size_t busy = at_work(d), most = places(d);

    for (size_t i = 0; i < d->count && busy < most; i++) {
        struct drain_guest *g = &d->guests[i];
        if (g->state != DRAIN_GUEST_WAITING)
            continue;
        g->state = DRAIN_GUEST_ASKED;
        g->recorded = g->sent = false;
        g->attempts++;
        g->asked_us = clock_realtime_us();
        text_replace(&g->attempt, NULL);
        text_replace(&g->reason, NULL);
        d->dirty = true;
        busy++;
    }
}

/* A look may end a guest at once, so that others wait for their turn. */
static bool is_over(const struct drain *d)
{
    return at_work(d) == 0 &&
           (d->state == DRAIN_STOPPING || drain_count(d, DRAIN_GUEST_WAITING) == 0);
}

void drain_step(void *aux)
{
    struct drain *d = aux;

    if (drain_is_dead(d) || !drain_is_under_way(d))
        return;
    if (d->state == DRAIN_STARTING) {
        drain_start(d);
        return;
    }
    /* without libvirt guests could not leave, which is no reason to leave them out */
    bool can_begin = !d->agent->draining && (d->undoing || virt_is_up(d->agent->virt));
    if (d->state == DRAIN_MOVING && can_begin)
        begin_moves(d);
    look_at_moving(d);
    if (is_over(d))
        drain_finish(d, d->state == DRAIN_STOPPING ? DRAIN_STOPPED : DRAIN_DONE);
    if (d->dirty)
        drain_save(d);
    if (drain_is_under_way(d))
        loop_timer_arm(d->timer, d->way->period_us);
}
