/* SPDX-License-Identifier: Apache-2.0 */
/* Names seen lately: see the header. A hash table with chains, and a list from oldest to newest end. */
#include "rpc/recent.h"

#include <string.h>

#include "lib/clock.h"
#include "lib/text.h"

enum { BUCKETS = 1024 };

struct entry {
    struct entry *chain;         /* same bucket */
    struct entry *older, *newer; /* list of ended entries only */
    void *work;
    int64_t ended_us;
    unsigned bucket;
    char name[];
};

struct recent {
    struct entry *buckets[BUCKETS];
    struct entry *oldest, *newest;
    size_t count, count_max;
    int64_t keep_us;
};

/* FNV-1a; who can choose names can already fill the queue, so no keyed hash is needed. */
static unsigned bucket_of(const char *name)
{
    uint32_t hash = 2166136261U;
    for (const unsigned char *p = (const unsigned char *)name; *p; p++)
        hash = (hash ^ *p) * 16777619U;
    return hash % BUCKETS;
}

struct recent *recent_new(size_t count_max, int64_t keep_us)
{
    struct recent *recent = NEW(struct recent);
    recent->count_max = count_max;
    recent->keep_us = keep_us;
    return recent;
}

void recent_free(struct recent *recent)
{
    if (!recent)
        return;
    for (unsigned i = 0; i < BUCKETS; i++) {
        for (struct entry *entry = recent->buckets[i], *next; entry; entry = next) {
            next = entry->chain;
            free(entry);
        }
    }
    free(recent);
}

static void list_remove(struct recent *recent, struct entry *entry)
{
    if (entry->older)
        entry->older->newer = entry->newer;
    else if (recent->oldest == entry)
        recent->oldest = entry->newer;
    if (entry->newer)
        entry->newer->older = entry->older;
    else if (recent->newest == entry)
        recent->newest = entry->older;
    entry->older = entry->newer = NULL;
}

static void list_append(struct recent *recent, struct entry *entry)
{
    entry->older = recent->newest;
    if (recent->newest)
        recent->newest->newer = entry;
    else
        recent->oldest = entry;
    recent->newest = entry;
}

static void drop(struct recent *recent, struct entry *entry)
{
    struct entry **link = &recent->buckets[entry->bucket];
    while (*link != entry)
        link = &(*link)->chain;
    *link = entry->chain;
    list_remove(recent, entry);
    recent->count--;
    free(entry);
}

static void drop_old(struct recent *recent)
{
    int64_t now_us = clock_monotonic_us();
    while (recent->oldest && (recent->count > recent->count_max ||
                              now_us - recent->oldest->ended_us >= recent->keep_us))
        drop(recent, recent->oldest);
}

static struct entry *find(const struct recent *recent, const char *name)
{
    struct entry *entry = recent->buckets[bucket_of(name)];
    while (entry && strcmp(entry->name, name) != 0)
        entry = entry->chain;
    return entry;
}

bool recent_find(struct recent *recent, const char *name, void **work)
{
    drop_old(recent);
    const struct entry *entry = find(recent, name);
    if (entry && work)
        *work = entry->work;
    return entry != NULL;
}

void recent_set(struct recent *recent, const char *name, void *work)
{
    struct entry *entry = find(recent, name);
    if (entry) {
        list_remove(recent, entry);
    } else {
        size_t size = strlen(name) + 1;
        entry = mem_new(sizeof(*entry) + size);
        memcpy(entry->name, name, size);
        entry->bucket = bucket_of(name);
        entry->chain = recent->buckets[entry->bucket];
        recent->buckets[entry->bucket] = entry;
        recent->count++;
    }
    entry->work = work;
    entry->ended_us = clock_monotonic_us();
    if (!work)
        list_append(recent, entry);
    drop_old(recent);
}

size_t recent_count(const struct recent *recent)
{
    return recent->count;
}
