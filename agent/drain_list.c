/* SPDX-License-Identifier: Apache-2.0 */
/* Which guests a drain moves, and in which order. */
#include "agent/drain_internal.h"

#include <stdlib.h>
#include <string.h>

#include "agent/migration.h"

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

void drain_take_list(struct drain *d, const struct guest_list *list)
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
