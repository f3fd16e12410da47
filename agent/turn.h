/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whose turn it is to switch over, among migrations to one host. The one whose turn it is gets the link for its last
 * pass and its pause; the others give way meanwhile: source_turn.c slows them down, which also keeps their own last
 * pass from ending. Pure functions on numbers.
 *
 * A turn goes to the one with the least left of those that are near their end. It lasts until that one has switched
 * over, or is not near any more, or TURN_NEAR_US after it was given; one that did not stop by then rests, and one that
 * is not near any more rests in proportion. So each one slows the others down in a small part of the time; turns of
 * several follow one another. A guest that was stopped has the turn whatever was
 * decided, for TURN_PAUSE_US: hypervisors do not ask.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TURN_NEAR_US  INT64_C(2000000)
#define TURN_PAUSE_US INT64_C(5000000)
#define TURN_REST_US  INT64_C(20000000)

enum turn { TURN_NOBODYS, TURN_ITS_OWN, TURN_ANOTHERS };

struct turn_claim {
    const char *destination;
    bool near;         /* it is expected to stop for the switch-over in about a second */
    int64_t paused_us; /* it stopped, and has not arrived yet; 0 = it runs */
    bool yields;       /* it may be slowed down now */
    int64_t left;      /* bytes of memory */
    int64_t given_us;  /* when it got the turn that it has; 0 = it has none. In and out. */
    int64_t rests_us;  /* until then it gets none; 0 = it may. In and out. */
    enum turn turn;    /* out: TURN_ANOTHERS = it gives way */
};

/* Decides for all destinations at once. An only migration to a host has no turn, and nobody to wait for. Any thread. */
void turn_decide(int64_t now_us, struct turn_claim *claims, size_t count);
/* Nobody has a turn, or ever had one. */
void turn_forget(struct turn_claim *claims, size_t count);
