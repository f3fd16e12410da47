/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The timeline of a migration: named moments, each with the microsecond at which it happened on the host
 * that saw it. A bounded list of plain numbers without I/O: a stamp costs nothing in the pause.
 *
 * Times run at the pace of CLOCK_MONOTONIC from an anchor on CLOCK_REALTIME that is read once, so that a
 * clock that is set during a migration does not bend its differences. Each host stamps with its own
 * clock. The destination's stamps travel to the source in the answers that it gives anyway (member
 * `computed_timeline`); the clocks of two hosts may differ, so the destination's are laid beside the
 * source's by the signal that both saw (sent, received; off by the datagram's way, far below a
 * millisecond on one network) and only without it by the clocks.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <json-c/json_object.h>

/* constant, name, may come again, sentence for people */
#define TIMELINE_STAMPS(X)                                                                         \
    X(ACCEPTED, "accepted", false, "request received")                                             \
    X(PLACE, "place", false, "left the queue")                                                     \
    X(PREPARE_ASKED, "prepare_asked", false, "destination asked to prepare")                       \
    X(PREPARED, "prepared", false, "destination prepared")                                         \
    X(CALLED, "called", false, "libvirt called")                                                   \
    X(FIRST_BYTE, "first_byte", false, "first data seen on the way")                               \
    X(ITERATION, "iteration", true, "pass over memory began")                                      \
    X(PAUSED, "paused", true, "guest paused")                                                      \
    X(SIGNAL_SENT, "signal_sent", true, "signal sent to the destination")                          \
    X(SIGNAL_RECEIVED, "signal_received", true, "signal received")                                 \
    X(ANNOUNCED, "announced", true, "network turned to this host and announced")                   \
    X(BINDINGS_ASKED, "bindings_asked", true, "activation of the port bindings asked for")         \
    X(BINDINGS_ACTIVE, "bindings_active", true, "port bindings active")                            \
    X(JOB_COMPLETED, "job_completed", false, "libvirt's job completed")                            \
    X(RESUMED, "resumed", true, "guest runs")                                                      \
    X(POST_COPY_LOST, "post_copy_lost", true, "post-copy lost its connection")                     \
    X(POST_COPY_RECOVERED, "post_copy_recovered", true, "post-copy goes on")                       \
    X(REVERTED, "reverted", true, "guest runs on the source again")                                \
    X(ABORT_ASKED, "abort_asked", false, "abort asked for")                                        \
    X(ABORT_TAKEN, "abort_taken", false, "libvirt took the abort")                                 \
    X(RETURNED, "returned", false, "libvirt's call returned")                                      \
    X(NETWORK_TURNED, "network_turned", true,                                                      \
      "network turned, late: frames are not carried any more")                                     \
    X(CONFIRMED, "confirmed", false, "destination confirmed")                                      \
    X(BACK_ASKED, "back_asked", false, "destination to take back what it prepared")                \
    X(TAKEN_BACK, "taken_back", false, "taken back")                                               \
    X(CLEANED, "cleaned", false, "source cleaned up")                                              \
    X(ENDED, "ended", false, "end")

enum timeline_name {
#define X(constant, name, again, text) TIMELINE_##constant,
    TIMELINE_STAMPS(X)
#undef X
        TIMELINE_NAMES
};

enum {
    TIMELINE_MAX = 96,           /* stamps of both hosts; what comes later is not kept */
    TIMELINE_ITERATIONS_MAX = 48 /* of them */
};

struct timeline_stamp {
    enum timeline_name name;
    bool peer;     /* of the other host */
    int value;     /* ITERATION: its number; else 0 */
    int64_t at_us; /* since 1970, as the host's anchor says */
};

/* Zeroed is empty; timeline_begin() makes it ready. One thread at a time. */
struct timeline {
    int64_t anchor_us; /* realtime at monotonic 0 */
    unsigned count;
    struct timeline_stamp stamps[TIMELINE_MAX]; /* in the order in which they came */
};

void timeline_begin(struct timeline *timeline, int64_t monotonic_us, int64_t realtime_us);
/* Adds a stamp of this host; false if it was there already (those that come once) or the list is full. */
bool timeline_stamp(struct timeline *timeline, enum timeline_name name, int64_t monotonic_us,
                    int value);
/* The last of that name, NULL if there is none. Borrowed. */
const struct timeline_stamp *timeline_last(const struct timeline *timeline, enum timeline_name name,
                                           bool peer);

/* When this host's (without a stamp of it, the other's) first stamp was; 0 = there is none. */
int64_t timeline_start_us(const struct timeline *timeline);

/* This host's stamps for the other one: [{"name", "at_us", "value"}]. New reference. */
struct json_object *timeline_to_peer(const struct timeline *timeline);
/* Takes the other host's stamps; what is known already, not understood or too much is left out. */
void timeline_add_peer(struct timeline *timeline, struct json_object *stamps);

/* One stamp as it is kept: {"name", "peer", "value"}; its time beside it. New reference. */
struct json_object *timeline_stamp_to_json(const struct timeline_stamp *stamp);
/* Adds a kept one, of either host, unless it is there; false if it cannot be read or there is no room. */
bool timeline_add(struct timeline *timeline, struct json_object *stamp, int64_t at_us);

/*
 * For people, in the order of time: {"aligned_by": "signal" or "clocks", "stamps": [{"name", "text",
 * "host", "at", "at_us", "iteration", "since_start_ms", "since_pause_ms"}]}. `at` is what the host's own
 * clock said. The start is this host's first stamp; the pause is the last one (at a destination without
 * stamps of the source: the signal that tells of it), null without one. New reference.
 */
struct json_object *timeline_to_json(const struct timeline *timeline, const char *host,
                                     const char *peer_host);
