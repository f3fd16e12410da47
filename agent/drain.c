/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The drain's life: begun, joined, stopped, undone, gone on with after a restart. Its moves are in
 * agent/drain_moves.c, the list of its guests in agent/drain_list.c.
 */
#include "agent/drain_internal.h"

#include <stdlib.h>

#include "cloud/moves.h"
#include "lib/clock.h"
#include "lib/json.h"
#include "lib/log.h"

LOG_MODULE(drain);

#define RESUME_US (3 * USEC_PER_SEC) /* requests that waited for the start are taken up first */
#define REASON    "computectl drain" /* of the disabled service */
/* ---- the object ---- */

struct drain *drain_ref(struct drain *d)
{
    d->references++;
    return d;
}

void drain_unref(struct drain *d)
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
    d->timer = loop_timer_new(agent->loop, "drain", drain_step, d);
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

bool drain_is_dead(const struct drain *d)
{
    return d->closed || d->agent->closing;
}

bool drain_is_under_way(const struct drain *d)
{
    return d->state == DRAIN_STARTING || d->state == DRAIN_MOVING || d->state == DRAIN_STOPPING;
}

void drain_soon(struct drain *d)
{
    if (!drain_is_dead(d) && (d->state == DRAIN_MOVING || d->state == DRAIN_STOPPING))
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

void drain_finish(struct drain *d, enum drain_state state)
{
    d->state = state;
    d->ended_us = clock_realtime_us();
    d->dirty = true;
    drain_log(d, drain_state_word(state));
}

static void fail(struct drain *d, const struct err *failure)
{
    log_err(LOG_LEVEL_ERROR, failure, "drain of %s", d->agent->host);
    text_replace(&d->reason, failure->text);
    drain_finish(d, DRAIN_FAILED);
    drain_save(d);
}

void drain_wake(struct agent *agent)
{
    if (agent->drain)
        drain_soon(agent->drain);
}

static void listed(void *aux, const struct guest_list *list, const struct err *failure)
{
    struct drain *d = aux;

    if (drain_is_dead(d) || d->state != DRAIN_STARTING)
        return;
    if (failure &&
        !virt_is_up(d->agent->virt)) { /* as migrations do, it waits until libvirt is back */
        text_replace(&d->reason, failure->text);
        loop_timer_arm(d->timer, RESUME_US);
        return;
    }
    if (failure) {
        fail(d, failure);
        return;
    }
    text_replace(&d->reason, NULL);
    drain_take_list(d, list);
    d->state = DRAIN_MOVING;
    log_info("drain of %s: %zu guests to %s", d->agent->host, list->count,
             d->destination ? d->destination : "where the scheduler chooses");
    drain_step(d);
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
    drain_step(d);
}

static void service_changed(void *aux, struct json_object *result, const struct err *failure)
{
    struct drain *d = aux;

    if (!drain_is_dead(d) && d->state == DRAIN_STARTING) {
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

void drain_start(struct drain *d)
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
    text_replace(&d->reason, NULL);
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
        text_replace(&d->reason, NULL);
    }
    drain_save(d);
    drain_soon(d);
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
    text_replace(&d->destination, r->destination);
    d->order = r->order;
    d->parallel = r->parallel;
    d->disable = r->disable;
    d->undoing = false;
    restart_clock(d);
    drain_save(d);
    drain_start(d);
}

int drain_begin(struct agent *agent, const struct drain_request *r, struct err *e)
{
    if (check_request(agent, r, e) < 0)
        return -1;
    if (!agent->drain)
        agent->drain = drain_new(agent);
    struct drain *d = agent->drain;
    if (!drain_is_under_way(d)) {
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

    if (!d || !drain_is_under_way(d))
        return err_set(e, ERR_INSTANCE_STATE, "no drain of %s is under way", agent->host);
    if (d->state == DRAIN_STARTING) {
        drain_finish(d, DRAIN_STOPPED);
    } else {
        d->state = DRAIN_STOPPING;
        drain_soon(d);
    }
    text_replace(&d->reason, "stopped by computectl drain stop");
    drain_save(d);
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
        text_replace(&g->reason, NULL);
        count++;
    }
    return count;
}

/* Those that never went are at home. */
static void drop_waiting(struct drain *d)
{
    for (size_t i = 0; i < d->count; i++)
        if (d->guests[i].state == DRAIN_GUEST_WAITING && !d->guests[i].at)
            drain_settle(d, &d->guests[i], DRAIN_GUEST_SKIPPED, "it was never moved");
}

int drain_undo(struct agent *agent, struct err *e)
{
    struct drain *d = agent->drain;

    if (!d)
        return err_set(e, ERR_INSTANCE_STATE, "%s was not drained", agent->host);
    if (drain_is_under_way(d) && d->undoing)
        return 0;
    if (drain_is_under_way(d))
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
    drain_save(d);
    drain_start(d);
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
    if (drain_is_under_way(d))
        log_warning("the drain of %s goes on after a restart: it was %s", agent->host,
                    drain_state_word(d->state));
    if (drain_is_under_way(d))
        loop_timer_arm(d->timer, RESUME_US);
}
