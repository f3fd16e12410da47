/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names that were seen lately, bounded in number and in time: `_unique_id`s of requests (to recognise
 * redeliveries) and reply queues that are gone. An entry may hold a pointer while its work goes on; such
 * an entry is never dropped. Not thread-safe.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/attributes.h"

struct recent;

struct recent *recent_new(size_t count_max, int64_t keep_us);
void recent_free(struct recent *recent);
DEFINE_CLEANUP(struct recent *, recent_free)

/* True if the name is known; *work (may be NULL) gets its pointer, NULL when the work has ended. */
bool recent_find(struct recent *recent, const char *name, void **work);
/* Adds a name, or gives a known one the pointer. With NULL it counts as ended now. */
void recent_set(struct recent *recent, const char *name, void *work);
size_t recent_count(const struct recent *recent);
