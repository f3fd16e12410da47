/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The drain's job. One step does all that can be done now: begins moves up to the limit, looks at those under
 * way, ends the job when nothing is left; it runs when a timer is due, when an answer came and when a
 * migration of this host changed its status. A move is asked for only when the journal has it: after a
 * restart it is looked for before it is asked for again.
 */
#include "agent/drain_internal.h"

#include <stdlib.h>
#include <string.h>

#include "agent/guest_list.h"
#include "agent/migration.h"
#include "cloud/moves.h"
#include "lib/clock.h"
#include "lib/json.h"
#include "lib/log.h"

LOG_MODULE(drain);

#define MIB        (INT64_C(1) << 20)
#define RESUME_US  (3 * USEC_PER_SEC)   /* requests that waited for the start are taken up first */
#define UNKNOWN_US (600 * USEC_PER_SEC) /* then a guest that cannot be looked at is given up */
#define REASON     "computectl drain"   /* of the disabled service */
enum { ATTEMPTS_MAX = 3 };

static void step(void *aux);
static void start(struct drain *d);
static void save(struct drain *d);

/* ---- the object ---- */

static struct drain *drain_ref(struct drain *d)
{
    d->references++;
    return d;
}

static void drain_unref(struct drain *d)
{
    if (--d->references > 0)
        return;
    drain_guests_clear(d);
    free(d->uuid);
    free(d->destination);
    free(d->reason);
    free(d);
}

static void unref(void *aux)
{
    drain_unref(aux);
}

static struct drain *drain_new(struct agent *agent)
{
    struct drain *d = NEW(struct drain);

    d->references = 1;
    d->agent = agent;
    d->state = DRAIN_DONE;
    d->way = cloud_has_api(agent->cloud) ? &drain_way_api : &drain_way_agents;
    d->timer = loop_timer_new(agent->loop, "drain", step, d);
    return d;
}

void drain_close(struct agent *agent)
{
    struct drain *d = STEAL(agent->drain);

    if (!d)
        return;
    d->closed = true;
    loop_timer_free(STEAL(d->timer));
    drain_unref(d);
}

static bool is_dead(const struct drain *d)
{
    return d->closed || d->agent->closing;
}

static void replace_text(char **place, const char *text)
{
    char *copy = text_dup(text);

    free(*place);
    *place = copy;
}

static bool is_under_way(const struct drain *d)
{
    return d->state == DRAIN_STARTING || d->state == DRAIN_MOVING || d->state == DRAIN_STOPPING;
}

/* Soon, and not from within what happens now. */
static void soon(struct drain *d)
{
    if (!is_dead(d) && (d->state == DRAIN_MOVING || d->state == DRAIN_STOPPING))
        loop_timer_arm(d->timer, 0);
}

/* ---- the end ---- */

static void drain_log(const struct drain *d, const char *what)
{
    log_info("drain%s: %s; %zu moved, %zu returned, %zu stay, %zu skipped, %zu gone, %zu wait",
             d->undoing ? " undone" : "", what, drain_count(d, DRAIN_GUEST_MOVED),
             drain_count(d, DRAIN_GUEST_RETURNED), drain_count(d, DRAIN_GUEST_STAYS),
             drain_count(d, DRAIN_GUEST_SKIPPED), drain_count(d, DRAIN_GUEST_GONE),
             drain_count(d, DRAIN_GUEST_WAITING));
}

static void finish(struct drain *d, enum drain_state state)
{
    d->state = state;
    d->ended_us = clock_realtime_us();
    d->dirty = true;
    drain_log(d, drain_state_word(state));
}

static void fail(struct drain *d, const struct err *failure)
{
    log_err(LOG_LEVEL_ERROR, failure, "drain of %s", d->agent->host);
    replace_text(&d->reason, failure->text);
    finish(d, DRAIN_FAILED);
    save(d);
}

/* ---- one guest ---- */

static void settle(struct drain *d, struct drain_guest *g, enum drain_guest_state state,
                   const char *reason)
{
    g->state = state;
    g->unknown_since_us = 0;
    g->time_left_s = -1;
    replace_text(&g->reason, reason);
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

    if (!is_dead(d)) {
        bool denied = failure && failure->code == ERR_DENIED && d->way == &drain_way_api;
        if (denied &&
            d->state == DRAIN_MOVING) { /* the account: no other guest would fare better */
            d->state = DRAIN_STOPPING;
            replace_text(&d->reason, failure->text);
        }
        if (!failure || perhaps) {
            g->state = DRAIN_GUEST_MOVING;
            replace_text(&g->attempt, failure ? NULL : attempt);
            d->dirty = true;
        } else {
            settle(d, g, failure->code == ERR_NO_INSTANCE ? DRAIN_GUEST_GONE : DRAIN_GUEST_STAYS,
                   failure->text);
        }
        soon(d);
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
            settle(d, &d->guests[i], DRAIN_GUEST_STAYS, failure->text);
    d->dirty = false; /* the next change tries again */
}

static void write_done(void *aux, enum work_end end)
{
    struct write *w = aux;
    struct drain *d = w->drain;

    d->saving = false;
    if (end != WORK_DONE || is_dead(d))
        return;
    if (w->result < 0) {
        log_err(LOG_LEVEL_ERROR, &w->e, "drain: the journal does not have its state");
        give_up_recorded(d, &w->e);
    } else {
        send_recorded(d);
    }
    if (d->dirty)
        save(d);
    soon(d);
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

static void save(struct drain *d)
{
    struct work work = {
        .name = "drain's record", .run = write_run, .done = write_done, .release = write_release};

    d->dirty = true;
    if (d->saving || is_dead(d))
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

    replace_text(&g->at, home ? NULL : host);
    g->left = 0;
    if (d->undoing && !home)
        settle(d, g, DRAIN_GUEST_STAYS, "it was moved to yet another host");
    else
        settle(d, g, home ? DRAIN_GUEST_RETURNED : DRAIN_GUEST_MOVED, NULL);
}

static void never_asked(struct drain *d, struct drain_guest *g, const char *reason)
{
    if (g->attempts < ATTEMPTS_MAX)
        settle(d, g, DRAIN_GUEST_WAITING, reason);
    else
        settle(d, g, DRAIN_GUEST_STAYS, reason ? reason : "it was asked for several times in vain");
}

static void unknown(struct drain *d, struct drain_guest *g, const char *reason)
{
    int64_t now_us = clock_monotonic_us();

    if (g->unknown_since_us == 0)
        g->unknown_since_us = now_us;
    if (now_us - g->unknown_since_us > UNKNOWN_US)
        settle(d, g, DRAIN_GUEST_STAYS, reason);
    else
        replace_text(&g->reason, reason);
}

static void take_sight(struct drain *d, struct drain_guest *g, enum drain_sight sight,
                       const char *host, const char *reason)
{
    switch (sight) {
    case DRAIN_GOES_ON:
        g->unknown_since_us = 0;
        replace_text(&g->reason, NULL);
        return;
    case DRAIN_ARRIVED:
        arrived(d, g, host);
        return;
    case DRAIN_REFUSED:
        settle(d, g, DRAIN_GUEST_STAYS,
               reason ? reason : "no reason is known; the log may have it");
        return;
    case DRAIN_LOST:
        settle(d, g, DRAIN_GUEST_GONE, reason);
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
    if (!is_dead(d) && g->state == DRAIN_GUEST_MOVING) {
        take_figures(g, account);
        take_sight(d, g, sight, host, reason);
        if (g->state != DRAIN_GUEST_MOVING)
            soon(d);
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
        replace_text(&g->attempt, NULL);
        replace_text(&g->reason, NULL);
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

static void step(void *aux)
{
    struct drain *d = aux;

    if (is_dead(d) || !is_under_way(d))
        return;
    if (d->state == DRAIN_STARTING) {
        start(d);
        return;
    }
    /* without libvirt guests could not leave, which is no reason to leave them out */
    bool can_begin = !d->agent->draining && (d->undoing || virt_is_up(d->agent->virt));
    if (d->state == DRAIN_MOVING && can_begin)
        begin_moves(d);
    look_at_moving(d);
    if (is_over(d))
        finish(d, d->state == DRAIN_STOPPING ? DRAIN_STOPPED : DRAIN_DONE);
    if (d->dirty)
        save(d);
    if (is_under_way(d))
        loop_timer_arm(d->timer, d->way->period_us);
}

void drain_wake(struct agent *agent)
{
    if (agent->drain)
        soon(agent->drain);
}

/* ---- the list of guests ---- */

static int compare_size(const void *a, const void *b)
{
    const struct drain_guest *x = a, *y = b;

    if (x->memory_mb != y->memory_mb)
        return x->memory_mb < y->memory_mb ? -1 : 1;
    return strcmp(x->name, y->name);
}

static int compare_largest(const void *a, const void *b)
{
    const struct drain_guest *x = a, *y = b;

    return x->memory_mb != y->memory_mb ? compare_size(b, a) : strcmp(x->name, y->name);
}

static int compare_name(const void *a, const void *b)
{
    return strcmp(((const struct drain_guest *)a)->name, ((const struct drain_guest *)b)->name);
}

static struct drain_guest guest_of(const struct drain *d, const struct virt_guest *v)
{
    const struct migration *m = migration_find_instance(d->agent, MIGRATION_SOURCE, v->uuid);
    bool runs = v->state == VIRT_STATE_RUNNING || v->state == VIRT_STATE_PAUSED;
    struct drain_guest g = {
        .uuid = text_dup(v->uuid),
        .name = text_dup(v->name),
        .memory_mb = v->memory_kib / 1024,
        .size = v->memory_kib * 1024,
        .left = v->memory_kib * 1024,
        .time_left_s = -1,
    };

    if (m) { /* somebody moves it already: it is looked at */
        g.state = DRAIN_GUEST_MOVING;
        g.attempt = text_dup(m->uuid);
    } else if (!runs) {
        g.state = DRAIN_GUEST_SKIPPED;
        g.reason = text_format("it is %s; only a running or paused guest is moved live",
                               virt_state_name(v->state));
    }
    return g;
}

static bool is_listed(const struct guest_list *list, const char *uuid)
{
    for (size_t i = 0; i < list->count; i++)
        if (text_equal(list->guests[i]->uuid, uuid))
            return true;
    return false;
}

/* The guests of the host; before them, what a job that is continued has moved. */
static void take_list(struct drain *d, const struct guest_list *list)
{
    static int (*const compare[])(const void *, const void *) = {
        [DRAIN_LARGEST] = compare_largest,
        [DRAIN_SMALLEST] = compare_size,
        [DRAIN_NAME] = compare_name,
    };
    struct drain before = {.guests = d->guests, .count = d->count};

    d->guests = NEW_ARRAY(struct drain_guest, before.count + list->count + 1);
    d->count = 0;
    for (size_t i = 0; i < before.count; i++) {
        struct drain_guest *g = &before.guests[i];
        if (!g->at || is_listed(list, g->uuid))
            continue;
        g->state = DRAIN_GUEST_MOVED;
        d->guests[d->count++] = *g;
        *g = (struct drain_guest){0};
    }
    size_t first = d->count;
    for (size_t i = 0; i < list->count; i++)
        d->guests[d->count++] = guest_of(d, list->guests[i]);
    qsort(d->guests + first, d->count - first, sizeof(*d->guests), compare[d->order]);
    drain_guests_clear(&before);
}

static void listed(void *aux, const struct guest_list *list, const struct err *failure)
{
    struct drain *d = aux;

    if (is_dead(d) || d->state != DRAIN_STARTING)
        return;
    if (failure &&
        !virt_is_up(d->agent->virt)) { /* as migrations do, it waits until libvirt is back */
        replace_text(&d->reason, failure->text);
        loop_timer_arm(d->timer, RESUME_US);
        return;
    }
    if (failure) {
        fail(d, failure);
        return;
    }
    replace_text(&d->reason, NULL);
    take_list(d, list);
    d->state = DRAIN_MOVING;
    log_info("drain of %s: %zu guests to %s", d->agent->host, list->count,
             d->destination ? d->destination : "where the scheduler chooses");
    step(d);
}

/* ---- the start ---- */

static void begin_list(struct drain *d)
{
    guest_list_read(d->agent, "guests to drain", listed, unref, drain_ref(d));
}

static void begin_undo(struct drain *d)
{
    d->state = DRAIN_MOVING;
    log_info("drain undone: %zu guests come back to %s", drain_count(d, DRAIN_GUEST_WAITING),
             d->agent->host);
    step(d);
}

static void service_changed(void *aux, struct json_object *result, const struct err *failure)
{
    struct drain *d = aux;

    if (!is_dead(d) && d->state == DRAIN_STARTING) {
        if (failure) {
            fail(d, failure);
        } else if (d->undoing) {
            d->disabled = false;
            begin_undo(d);
        } else {
            d->disabled = d->disabled || json_get_bool(result, "changed", false);
            begin_list(d);
        }
    }
    drain_unref(d);
}

/* Of the job as it stands in the record: also after a restart. */
static void start(struct drain *d)
{
    if (d->undoing ? d->disabled : d->disable)
        cloud_service_enable(d->agent->cloud, d->undoing, REASON, service_changed, drain_ref(d));
    else if (d->undoing)
        begin_undo(d);
    else
        begin_list(d);
}

static void restart_clock(struct drain *d)
{
    d->state = DRAIN_STARTING;
    d->started_us = clock_realtime_us();
    d->ended_us = 0;
    replace_text(&d->reason, NULL);
}

static int check_request(const struct agent *agent, const struct drain_request *r, struct err *e)
{
    bool api = cloud_has_api(agent->cloud);

    if (agent->draining)
        return err_set(e, ERR_MIGRATION, "%s is stopping and takes no new migration", agent->host);
    if (!r->destination && !api)
        return err_set(
            e, ERR_USAGE,
            "no destination is given; standalone has no scheduler, so --to must name the "
            "host to which the guests shall move");
    if (r->destination && text_check_hostname(r->destination, "destination", e) < 0)
        return -1;
    if (text_equal(r->destination, agent->host))
        return err_set(e, ERR_USAGE, "%s is the host that is to be drained; name another one",
                       r->destination);
    if (r->disable && !api)
        return err_set(e, ERR_USAGE,
                       "standalone has no scheduler, and so no compute service to disable");
    return 0;
}

/* It left something to do. */
static bool is_continued(const struct drain *d)
{
    return !d->undoing &&
           (d->state == DRAIN_STOPPED || d->state == DRAIN_FAILED ||
            drain_count(d, DRAIN_GUEST_STAYS) > 0 || drain_count(d, DRAIN_GUEST_SKIPPED) > 0);
}

/* The same again: it is joined, and goes on if it was about to stop. */
static void join(struct drain *d, const struct drain_request *r)
{
    if (r->parallel > 0)
        d->parallel = r->parallel;
    if (d->state == DRAIN_STOPPING) {
        d->state = DRAIN_MOVING;
        replace_text(&d->reason, NULL);
    }
    save(d);
    soon(d);
}

/* Nothing of the job before is under way: its place and its record are taken. */
static void begin(struct drain *d, const struct drain_request *r)
{
    char uuid[37];

    if (!is_continued(d))
        drain_guests_clear(d);
    text_new_uuid(uuid);
    if (!d->uuid)
        d->uuid = text_dup(uuid);
    replace_text(&d->destination, r->destination);
    d->order = r->order;
    d->parallel = r->parallel;
    d->disable = r->disable;
    d->undoing = false;
    restart_clock(d);
    save(d);
    start(d);
}

int drain_begin(struct agent *agent, const struct drain_request *r, struct err *e)
{
    if (check_request(agent, r, e) < 0)
        return -1;
    if (!agent->drain)
        agent->drain = drain_new(agent);
    struct drain *d = agent->drain;
    if (!is_under_way(d)) {
        begin(d, r);
        return 0;
    }
    if (d->undoing || !text_equal(d->destination, r->destination))
        return err_set(e, ERR_INSTANCE_STATE,
                       "a drain of %s is %s already%s; stop it first (computectl drain stop)",
                       agent->host, drain_state_word(d->state),
                       d->undoing ? " (it is being undone)" : "");
    join(d, r);
    return 0;
}

int drain_stop(struct agent *agent, struct err *e)
{
    struct drain *d = agent->drain;

    if (!d || !is_under_way(d))
        return err_set(e, ERR_INSTANCE_STATE, "no drain of %s is under way", agent->host);
    if (d->state == DRAIN_STARTING) {
        finish(d, DRAIN_STOPPED);
    } else {
        d->state = DRAIN_STOPPING;
        soon(d);
    }
    replace_text(&d->reason, "stopped by computectl drain stop");
    save(d);
    return 0;
}

static size_t mark_to_return(struct drain *d)
{
    size_t count = 0;

    for (size_t i = 0; i < d->count; i++) {
        struct drain_guest *g = &d->guests[i];
        if (!g->at || g->state == DRAIN_GUEST_GONE)
            continue;
        g->state = DRAIN_GUEST_WAITING;
        g->left = g->size;
        g->moved = g->attempts = 0;
        replace_text(&g->reason, NULL);
        count++;
    }
    return count;
}

/* Those that never went are at home. */
static void drop_waiting(struct drain *d)
{
    for (size_t i = 0; i < d->count; i++)
        if (d->guests[i].state == DRAIN_GUEST_WAITING && !d->guests[i].at)
            settle(d, &d->guests[i], DRAIN_GUEST_SKIPPED, "it was never moved");
}

int drain_undo(struct agent *agent, struct err *e)
{
    struct drain *d = agent->drain;

    if (!d)
        return err_set(e, ERR_INSTANCE_STATE, "%s was not drained", agent->host);
    if (is_under_way(d) && d->undoing)
        return 0;
    if (is_under_way(d))
        return err_set(e, ERR_INSTANCE_STATE,
                       "the drain of %s is %s; stop it first (computectl drain stop) and wait "
                       "until it has stopped",
                       agent->host, drain_state_word(d->state));
    if (agent->draining)
        return err_set(e, ERR_MIGRATION, "%s is stopping and begins nothing", agent->host);
    drop_waiting(d);
    if (mark_to_return(d) == 0 && !d->disabled)
        return err_set(e, ERR_INSTANCE_STATE, "the drain of %s has moved nothing that could return",
                       agent->host);
    d->undoing = true;
    restart_clock(d);
    save(d);
    start(d);
    return 0;
}

/* ---- after a restart ---- */

void drain_resume(struct agent *agent, struct json_object *record)
{
    struct drain *d = drain_new(agent);
    struct err e = ERR_INIT;

    if (agent->drain || drain_from_record(d, record, &e) < 0) {
        if (err_is_set(&e))
            log_err(LOG_LEVEL_ERROR, &e, "the drain before the restart is forgotten");
        loop_timer_free(STEAL(d->timer));
        drain_unref(d);
        return;
    }
    agent->drain = d;
    for (size_t i = 0; i < d->count; i++)
        if (d->guests[i].state == DRAIN_GUEST_ASKED)
            d->guests[i].state = DRAIN_GUEST_MOVING; /* perhaps: a look tells */
    if (is_under_way(d))
        log_warning("the drain of %s goes on after a restart: it was %s", agent->host,
                    drain_state_word(d->state));
    if (is_under_way(d))
        loop_timer_arm(d->timer, RESUME_US);
}
