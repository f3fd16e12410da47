/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the drain share: the job in memory, and how guests are moved and looked at. */
#pragma once

#include "agent/drain.h"
#include "agent/guest_list.h"

#define DRAIN_STATES(X)                                                                            \
    X(STARTING, "starting") /* the service, the list of guests */                                  \
    X(MOVING, "moving")                                                                            \
    X(STOPPING, "stopping") /* those that move end, no others begin */                             \
    X(STOPPED, "stopped")                                                                          \
    X(DONE, "done")                                                                                \
    X(FAILED, "failed") /* it could not begin */
enum drain_state {
#define X(id, word) DRAIN_##id,
    DRAIN_STATES(X)
#undef X
};

#define DRAIN_GUEST_STATES(X)                                                                      \
    X(WAITING, "waiting")                                                                          \
    X(ASKED, "asked")   /* in the journal, or being asked for */                                   \
    X(MOVING, "moving") /* taken up; or perhaps, after a restart: a look tells */                  \
    X(MOVED, "moved")                                                                              \
    X(STAYS, "stays")     /* it could not; reason */                                               \
    X(SKIPPED, "skipped") /* it does not run; reason */                                            \
    X(GONE, "gone")       /* deleted, or moved by somebody else; reason */                         \
    X(RETURNED, "returned")
enum drain_guest_state {
#define X(id, word) DRAIN_GUEST_##id,
    DRAIN_GUEST_STATES(X)
#undef X
};

struct drain_guest {
    char *uuid, *name;
    int64_t memory_mb;
    enum drain_guest_state state;
    char *at;         /* where the job put it; NULL = nowhere else */
    char *attempt;    /* a migration's uuid, or Nova's request id; NULL = not known */
    char *reason;     /* NULL */
    int64_t asked_us; /* realtime */
    int64_t attempts;
    int64_t size, left, moved; /* bytes: to move in all, still to move, sent */
    int64_t time_left_s;       /* -1 = not known */
    /* not in the record */
    int64_t unknown_since_us; /* monotonic; 0 = the last look told something */
    bool recorded;            /* the journal has, or gets, that it is asked for */
    bool sent, looking;
};

struct drain {
    unsigned references; /* the agent's, and one for each call */
    bool closed;         /* what comes back is about nothing any more */
    struct agent *agent;
    const struct drain_way *way;
    char *uuid;
    enum drain_state state;
    bool undoing;
    char *destination; /* NULL = any */
    enum drain_order order;
    int64_t parallel;
    bool disable;                 /* wanted */
    bool disabled;                /* done by this job */
    char *reason;                 /* why it failed or was stopped; NULL */
    int64_t started_us, ended_us; /* realtime; 0 = not yet */
    struct drain_guest *guests;
    size_t count;
    struct loop_timer *timer;
    bool saving, dirty;
};

/* ---- ways (agent/drain_ways.c) ---- */

/* A question about one guest, from the asking to the answer. */
struct drain_call {
    struct drain *drain;
    size_t index;
    char *from, *to; /* hosts; to may be NULL */
};
struct drain_guest *drain_call_guest(const struct drain_call *call);

struct drain_way {
    int64_t period_us;                     /* between two looks */
    void (*ask)(struct drain_call *call);  /* ends in drain_asked() */
    void (*look)(struct drain_call *call); /* ends in drain_looked() */
};
extern const struct drain_way drain_way_api, drain_way_agents;

/* The move was taken up under this name (copied; NULL = it has none); or it was refused; or, with
 * `perhaps`, that is not known. The call is consumed. */
void drain_asked(struct drain_call *call, const char *attempt, const struct err *failure,
                 bool perhaps);

enum drain_sight {
    DRAIN_GOES_ON,
    DRAIN_ARRIVED, /* on `host` */
    DRAIN_REFUSED, /* it is where it was; reason */
    DRAIN_LOST,    /* it is not there any more */
    DRAIN_NEVER,   /* nobody ever asked for it */
    DRAIN_UNKNOWN  /* could not be looked at now; reason */
};
/* account: of the migration, if there is one, for the figures. The call is consumed. */
void drain_looked(struct drain_call *call, enum drain_sight sight, const char *host,
                  const char *reason, struct json_object *account);

/* ---- the job (agent/drain.c) ---- */

struct drain *drain_ref(struct drain *drain);
void drain_unref(struct drain *drain);
/* Nothing may be done any more: the job is closed, or the agent ends. */
bool drain_is_dead(const struct drain *drain);
bool drain_is_under_way(const struct drain *drain);
/* A step soon, and not from within what happens now. */
void drain_soon(struct drain *drain);
/* Of the job as it stands in the record: also after a restart. */
void drain_start(struct drain *drain);
/* It ends in this state; the caller saves it. */
void drain_finish(struct drain *drain, enum drain_state state);

/* ---- the moves (agent/drain_moves.c) ---- */

/* All that can be done now; the timer's call, aux is the job. */
void drain_step(void *aux);
/* Into the journal: at once, or when the write under way has ended. */
void drain_save(struct drain *drain);
/* The guest's state is this from now on, for this reason (copied; NULL = none). */
void drain_settle(struct drain *drain, struct drain_guest *guest, enum drain_guest_state state,
                  const char *reason);

/* ---- the list (agent/drain_list.c) ---- */

/* The guests of the host in the job's order; before them, what a job that is continued has moved. */
void drain_take_list(struct drain *drain, const struct guest_list *list);

/* ---- the record (agent/drain_record.c) ---- */

/* The job as a record of the journal. New reference. */
struct json_object *drain_to_record(const struct drain *drain);
/* Fills an empty job. ERR_JOURNAL. */
int drain_from_record(struct drain *drain, struct json_object *record, struct err *e);
void drain_guests_clear(struct drain *drain);
const char *drain_state_word(enum drain_state state);
size_t drain_count(const struct drain *drain, enum drain_guest_state state);
