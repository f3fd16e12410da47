/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The story of a migration: its timeline, the notes of what policy and operators did, and samples of its
 * progress. Each entry goes to the history as it comes (cloud_story_add()), so that a restart loses none of
 * it; in memory are only the timeline and the newest account's notes. All on the loop's thread.
 */
#pragma once

#include <stdint.h>
#include <json-c/json_object.h>

#include "agent/timeline.h"

struct migration;

enum {
    STORY_NOTES_MAX = 100,
    STORY_SAMPLES_MAX = 600 /* one a second; a longer migration keeps every 2nd, 4th, ... second */
};

/* This host saw it now, or at that time of the monotonic clock; `value` is an iteration's number. Nothing
 * is written from the guest's pause to its resume: what was stamped there follows with the next entry. */
void migration_stamp(struct migration *migration, enum timeline_name name);
void migration_stamp_at(struct migration *migration, enum timeline_name name, int64_t at_us,
                        int value);
/* The other host's stamps, as an answer of it brought them (NULL and anything else is left out). */
void migration_stamp_peer(struct migration *migration, struct json_object *stamps);
/* What was stamped and is not in the history yet. */
void migration_story_flush(struct migration *migration);

void migration_story_note(struct migration *migration, const char *text);
/* The newest sample of the progress; at most one a second is kept. */
void migration_story_sample(struct migration *migration);

/* After a restart: the timeline and the notes of before come back, later than this call. */
void migration_story_restore(struct migration *migration);

/*
 * Adds to the account of a migration, from the entries of its story (cloud_story()): "timeline" (see
 * agent/timeline.h), "notes": [{"at", "since_start_ms", "text"}] and, with_samples, "samples":
 * [{"since_start_ms", "memory_remaining", "disk_remaining", "throughput_bytes_s", "dirty_rate_bytes_s",
 * "throttle_percent", "expected_downtime_ms", "expected_downtime_low_ms", "expected_downtime_high_ms",
 * "downtime_limit_ms", "iteration"}]; null is what was not
 * known then: an expectation, the rest of what had not begun.
 */
void story_tell(struct json_object *account, struct json_object *entries, bool with_samples);
