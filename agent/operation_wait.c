/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a step of an operation waits for: a while, a place among its kind, external events. The first event of
 * a key counts; whatever ends a wait comes out as the end of the step (operation.c).
 */
#include "agent/operation_internal.h"

#include <assert.h>

#include "lib/clock.h"
#include "lib/log.h"

LOG_MODULE(operation);

enum { PLACE_PAUSE_US = 250000 };

struct event_wait {
    struct event_wait *next;
    char *key;
    bool came, given_up;
    char *failure; /* status of an event that says that it failed; NULL */
};

void operation_waits_free(struct operation *op)
{
    while (op->waits) {
        struct event_wait *wait = op->waits;
        op->waits = wait->next;
        free(wait->key);
        free(wait->failure);
        free(wait);
    }
}

void operation_stop_waiting(struct operation *op)
{
    op->waiting = op->pausing = false;
    if (op->timer)
        loop_timer_disarm(op->timer);
}

static bool all_came(const struct operation *op)
{
    for (const struct event_wait *wait = op->waits; wait; wait = wait->next)
        if (!wait->came && !wait->given_up)
            return false;
    return true;
}

static char *missing_keys(const struct operation *op)
{
    struct text_buffer b = TEXT_BUFFER_INIT;

    for (const struct event_wait *wait = op->waits; wait; wait = wait->next)
        if (!wait->came && !wait->given_up)
            text_buffer_printf(&b, "%s%s", b.length ? ", " : "", wait->key);
    return text_buffer_take(&b);
}

static void give_up_waits(struct operation *op)
{
    for (struct event_wait *wait = op->waits; wait; wait = wait->next)
        wait->given_up = !wait->came;
}

static void waited_long(struct operation *op)
{
    struct err e = ERR_INIT;
    _cleanup_(str_freep) char *missing = missing_keys(op);

    give_up_waits(op);
    err_set(&e, ERR_TIMEOUT, "%s of instance %s: the event did not come in time: %s",
            op->kind->name, op->uuid, missing);
    if (op->wait_fatal) {
        operation_fail(op, &e);
        return;
    }
    log_info("%s", e.text);
    operation_next(op);
}

static void due(void *aux)
{
    struct operation *op = aux;

    if (op->agent->closing)
        return;
    _cleanup_(log_scope_end) struct log_scope scope = operation_scope(op);
    if (op->waiting) {
        waited_long(op);
        return;
    }
    operation_stop_waiting(op);
    operation_run_step(op);
}

static void arm(struct operation *op, int64_t delay_us)
{
    assert(op->phase == OPERATION_STEPS);
    if (!op->timer)
        op->timer = loop_timer_new(op->agent->loop, "operation", due, op);
    loop_timer_arm(op->timer, delay_us);
}

void operation_again(struct operation *op, int64_t delay_us)
{
    op->pausing = op->repeats = true;
    arm(op, delay_us);
    if (op->cancelled)
        operation_interrupt(op);
}

static int64_t count_places(const struct operation *op)
{
    int64_t count = 0;

    for (const struct operation *other = op->agent->operations; other; other = other->next)
        count += other->kind == op->kind && other->step > 0 && other->phase >= OPERATION_STEPS;
    return count;
}

void operation_wait_for_place(struct operation *op, int64_t limit)
{
    assert(op->step == 0);
    if (limit > 0 && count_places(op) >= limit)
        operation_again(op, PLACE_PAUSE_US);
    else
        operation_next(op);
}

static struct event_wait *find_wait(const struct operation *op, const char *key)
{
    for (struct event_wait *wait = op->waits; wait; wait = wait->next)
        if (text_equal(wait->key, key))
            return wait;
    return NULL;
}

void operation_expect(struct operation *op, const char *key)
{
    struct event_wait *wait = find_wait(op, key);

    if (!wait) {
        wait = NEW(struct event_wait);
        wait->key = text_dup(key);
        wait->next = op->waits;
        op->waits = wait;
    }
    wait->came = wait->given_up = false;
    free(STEAL(wait->failure));
}

static const struct event_wait *failed_wait(const struct operation *op)
{
    for (const struct event_wait *wait = op->waits; wait; wait = wait->next)
        if (wait->failure)
            return wait;
    return NULL;
}

/* Ends the wait if there is nothing more to wait for. */
static bool wait_is_over(struct operation *op)
{
    const struct event_wait *failed = failed_wait(op);
    struct err e = ERR_INIT;

    if (failed && op->wait_fatal) {
        err_set(&e, ERR_NET_PLUG, "%s of instance %s: event %s came with status %s", op->kind->name,
                op->uuid, failed->key, failed->failure);
        operation_fail(op, &e);
        return true;
    }
    if (!all_came(op))
        return false;
    operation_next(op);
    return true;
}

void operation_wait(struct operation *op, int64_t timeout_us, bool fatal)
{
    op->wait_fatal = fatal;
    if (wait_is_over(op))
        return;
    op->waiting = true;
    arm(op, timeout_us);
    if (op->cancelled)
        operation_interrupt(op);
}

bool operation_event_came(const struct operation *op, const char *key)
{
    const struct event_wait *wait = find_wait(op, key);

    return wait && wait->came;
}

bool operation_event(struct agent *agent, const char *uuid, const char *key, const char *status)
{
    struct operation *op = operation_first(agent, uuid);
    struct event_wait *wait = op ? find_wait(op, key) : NULL;

    if (!wait || wait->came)
        return false;
    wait->came = true;
    if (text_equal(status, "failed"))
        wait->failure = text_dup(status);
    if (op->waiting)
        (void)wait_is_over(op);
    return true;
}
