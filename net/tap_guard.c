/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A new tap is down until its maker has put it up; only one that was seen up is put up again. Events that were lost
 * may have hidden that: then every tap that is down is put up, which its maker would do as well.
 */
#include "net/tap_guard.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "lib/text.h"
#include "lib/vector.h"
#include "net/netlink.h"

LOG_MODULE(net);

struct guarded_tap {
    char name[IFNAMSIZ];
    int index; /* of the tap seen last; 0 = none yet */
    int64_t appeared_us;
    bool was_up;
};
DEFINE_VECTOR(guarded_taps, struct guarded_tap)

struct tap_guard {
    struct link_events *events;
    pthread_mutex_t lock; /* workers watch and forget */
    struct guarded_taps taps;
};

static struct guarded_tap *find_locked(struct tap_guard *guard, const char *name)
{
    for (size_t i = 0; i < guard->taps.length; i++)
        if (text_equal(guard->taps.items[i].name, name))
            return &guard->taps.items[i];
    return NULL;
}

/* A tap that is taken away goes down as well, before it is gone. */
static void put_up(const struct link *tap, int64_t age_us)
{
    _cleanup_(netlink_freep) struct netlink *nl = NULL;
    struct err e = ERR_INIT;

    if (netlink_open(&nl, &e) < 0 || netlink_set_up(nl, tap, &e) < 0)
        log_err(e.sys == ENODEV ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARNING, &e,
                "tap %s, which was taken down", tap->name);
    else if (age_us >= 0)
        log_info("tap %s was taken down %lld ms after it was made, as two programs set its flags "
                 "at the same time; it is up again",
                 tap->name, (long long)(age_us / USEC_PER_MSEC));
    else
        log_info("tap %s was down, it is up again", tap->name);
}

/* Notes what the event tells; the age of a tap that is to be put up, -1 for all others. */
static int64_t note_locked(struct guarded_tap *tap, const struct link *link, int64_t now)
{
    if (link->gone || link->index != tap->index) {
        tap->index = link->gone ? 0 : link->index;
        tap->appeared_us = now;
        tap->was_up = false;
    }
    bool fell = tap->was_up && !link->up && !link->gone && now - tap->appeared_us < TAP_GUARD_US;
    tap->was_up = link->up;
    return fell ? now - tap->appeared_us : -1;
}

static void link_changed(void *aux, const struct link *link)
{
    struct tap_guard *guard = aux;
    int64_t age_us = -1;

    if (link->port_only)
        return;
    (void)pthread_mutex_lock(&guard->lock);
    struct guarded_tap *tap = find_locked(guard, link->name);
    if (tap)
        age_us = note_locked(tap, link, clock_monotonic_us());
    (void)pthread_mutex_unlock(&guard->lock);
    if (age_us >= 0)
        put_up(link, age_us);
}

/* The name of the tap with that number; false if there are not so many. */
static bool name_at(struct tap_guard *guard, size_t i, char name[IFNAMSIZ])
{
    bool there;

    (void)pthread_mutex_lock(&guard->lock);
    there = i < guard->taps.length;
    if (there)
        memcpy(name, guard->taps.items[i].name, IFNAMSIZ);
    (void)pthread_mutex_unlock(&guard->lock);
    return there;
}

static void link_lost(void *aux)
{
    char name[IFNAMSIZ];

    for (size_t i = 0; name_at(aux, i, name); i++)
        tap_guard_check(name);
}

void tap_guard_check(const char *tap)
{
    _cleanup_(netlink_freep) struct netlink *nl = NULL;
    struct err e = ERR_INIT;
    struct link link;
    bool found;

    if (netlink_open(&nl, &e) < 0 || netlink_link(nl, tap, &link, &found, &e) < 0)
        log_err(LOG_LEVEL_DEBUG, &e, "tap %s", tap);
    else if (found && link_is_tap(&link) && !link.up)
        put_up(&link, -1);
}

int tap_guard_new(struct tap_guard **out, struct loop *loop, struct err *e)
{
    static const struct link_events_fns fns = {link_changed, link_lost};
    _cleanup_(tap_guard_freep) struct tap_guard *guard = NEW(struct tap_guard);

    (void)pthread_mutex_init(&guard->lock, NULL);
    if (link_events_new(&guard->events, loop, &fns, guard, e) < 0)
        return -1;
    *out = STEAL(guard);
    return 0;
}

void tap_guard_free(struct tap_guard *guard)
{
    if (!guard)
        return;
    link_events_free(guard->events);
    free(guard->taps.items);
    (void)pthread_mutex_destroy(&guard->lock);
    free(guard);
}

void tap_guard_watch(struct tap_guard *guard, const char *tap)
{
    (void)pthread_mutex_lock(&guard->lock);
    struct guarded_tap *t = find_locked(guard, tap);
    if (!t && strlen(tap) < IFNAMSIZ) {
        t = guarded_taps_add(&guard->taps);
        memcpy(t->name, tap, strlen(tap) + 1);
    }
    (void)pthread_mutex_unlock(&guard->lock);
}

void tap_guard_forget(struct tap_guard *guard, const char *tap)
{
    (void)pthread_mutex_lock(&guard->lock);
    struct guarded_tap *t = find_locked(guard, tap);
    if (t)
        *t = guard->taps.items[--guard->taps.length];
    (void)pthread_mutex_unlock(&guard->lock);
}
