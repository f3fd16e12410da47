/* SPDX-License-Identifier: Apache-2.0 */
/* Names seen lately: see the header. A hash table with chains, and a list from oldest to newest end. */
#include "rpc/recent.h"

#include <string.h>
#include <sys/queue.h>

#include "lib/clock.h"
#include "lib/text.h"

enum { BUCKETS = 1024 };

struct entry {
    SLIST_ENTRY(entry) chain; /* same bucket */
    TAILQ_ENTRY(entry) order; /* among the ended ones, when work is NULL */
    void *work;
    int64_t ended_us;
    unsigned bucket;
    char name[];
};

struct recent {
    SLIST_HEAD(bucket, entry) buckets[BUCKETS];
    TAILQ_HEAD(ended, entry) ended; /* oldest first */
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
    TAILQ_INIT(&recent->ended);
    recent->count_max = count_max;
    recent->keep_us = keep_us;
    return recent;
}

void recent_free(struct recent *recent)
{
    if (!recent)
        return;
    for (unsigned i = 0; i < BUCKETS; i++) {
        for (struct entry *entry; (entry = SLIST_FIRST(&recent->buckets[i]));) {
            SLIST_REMOVE_HEAD(&recent->buckets[i], chain);
            free(entry);
        }
    }
    free(recent);
}

static void drop_old(struct recent *recent)
{
    int64_t now_us = clock_monotonic_us();
    for (struct entry *entry; (entry = TAILQ_FIRST(&recent->ended));) {
        if (recent->count <= recent->count_max && now_us - entry->ended_us < recent->keep_us)
            return;
        TAILQ_REMOVE(&recent->ended, entry, order);
        SLIST_REMOVE(&recent->buckets[entry->bucket], entry, entry, chain);
        recent->count--;
        free(entry);
    }
}

static struct entry *find(const struct recent *recent, const char *name)
{
    struct entry *entry;
    SLIST_FOREACH(entry, &recent->buckets[bucket_of(name)], chain)
    {
        if (text_equal(entry->name, name))
            break;
    }
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
    if (entry && !entry->work) {
        TAILQ_REMOVE(&recent->ended, entry, order);
    } else if (!entry) {
        size_t size = strlen(name) + 1;
        entry = mem_new(sizeof(*entry) + size);
        memcpy(entry->name, name, size);
        entry->bucket = bucket_of(name);
        SLIST_INSERT_HEAD(&recent->buckets[entry->bucket], entry, chain);
        recent->count++;
    }
    entry->work = work;
    entry->ended_us = clock_monotonic_us();
    if (!work)
        TAILQ_INSERT_TAIL(&recent->ended, entry, order);
    drop_old(recent);
}

size_t recent_count(const struct recent *recent)
{
    return recent->count;
}
