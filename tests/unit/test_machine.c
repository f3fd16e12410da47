/* SPDX-License-Identifier: Apache-2.0 */
/* The table of the migration machine, walked as a graph; actions and guards are the test's. */
#include "tests/unit/unit.h"

#include "agent/machine.h"
#include "agent/migration.h"
#include "lib/log.h"

/* ---- what the table names ---- */

static const struct migration *acted_on;
static unsigned acted;

#define X(name)                                                                                    \
    void name(struct migration *migration)                                                         \
    {                                                                                              \
        acted_on = migration;                                                                      \
        acted++;                                                                                   \
    }
MACHINE_ACTIONS(X)
#undef X

static bool abort_asked, destination_asked, ports_awaited, ends_failed, ends_cancelled;

bool source_abort_is_requested(const struct migration *migration)
{
    (void)migration;
    return abort_asked;
}
bool source_destination_is_asked(const struct migration *migration)
{
    (void)migration;
    return destination_asked;
}
bool source_awaits_ports(const struct migration *migration)
{
    (void)migration;
    return ports_awaited;
}
bool source_ends_failed(const struct migration *migration)
{
    (void)migration;
    return ends_failed;
}
bool source_ends_cancelled(const struct migration *migration)
{
    (void)migration;
    return ends_cancelled;
}
struct migration *migration_ref(struct migration *migration)
{
    migration->references++;
    return migration;
}
void migration_unref(struct migration *migration)
{
    migration->references--;
}

/* ---- the graph ---- */

static const struct machine_row *rows;
static size_t row_count;

static void setup(void)
{
    rows = machine_table(&row_count);
    acted = 0;
    abort_asked = destination_asked = ports_awaited = ends_failed = ends_cancelled = false;
    log_set_level(NULL, LOG_LEVEL_ERROR);
}

UNIT_FIXTURE(setup, NULL)

static bool is_start(enum machine_state state)
{
    return state == MACHINE_SOURCE_ACCEPTED || state == MACHINE_DESTINATION_ACCEPTED;
}

/* Where a restarted agent puts a migration without an event (agent/recovery.c). */
static bool is_entered_by_recovery(enum machine_state state)
{
    return state == MACHINE_SOURCE_OBSERVING;
}

static bool is_parked(enum machine_state state)
{
    return state == MACHINE_SOURCE_PARKED || state == MACHINE_DESTINATION_PARKED;
}

static bool has_row(enum machine_state state, enum machine_event event)
{
    for (size_t i = 0; i < row_count; i++)
        if (rows[i].state == state && rows[i].event == event)
            return true;
    return false;
}

/* All states from which a state of `set` can be reached by rows that `usable` permits. */
static void reach_back(bool set[MACHINE_STATE_COUNT], bool (*usable)(const struct machine_row *row))
{
    for (unsigned round = 0; round < MACHINE_STATE_COUNT; round++)
        for (size_t i = 0; i < row_count; i++)
            if (set[rows[i].next] && (!usable || usable(&rows[i])))
                set[rows[i].state] = true;
}

static void all_reach(const bool set[MACHINE_STATE_COUNT], const char *what)
{
    for (unsigned s = 0; s < MACHINE_STATE_COUNT; s++)
        unit_check(set[s], __LINE__, __FILE__, "state %s %s",
                   machine_state_name((enum machine_state)s), what);
}

UNIT_TEST(reachable, "every state can be reached from a beginning")
{
    bool seen[MACHINE_STATE_COUNT] = {false};

    for (unsigned s = 0; s < MACHINE_STATE_COUNT; s++)
        seen[s] = is_start((enum machine_state)s) || is_entered_by_recovery((enum machine_state)s);
    for (unsigned round = 0; round < MACHINE_STATE_COUNT; round++)
        for (size_t i = 0; i < row_count; i++)
            if (seen[rows[i].state])
                seen[rows[i].next] = true;
    all_reach(seen, "is never reached");
}

/* An end, or the hands of an operator. */
static void ends(bool set[MACHINE_STATE_COUNT])
{
    for (unsigned s = 0; s < MACHINE_STATE_COUNT; s++)
        set[s] = machine_state_is_final((enum machine_state)s) || is_parked((enum machine_state)s);
}

UNIT_TEST(terminates, "from every state an end can be reached")
{
    bool set[MACHINE_STATE_COUNT];

    ends(set);
    reach_back(set, NULL);
    all_reach(set, "leads to no end");
}

/* What happens when all goes wrong: each thing that was asked of others is refused or late. */
static bool is_refusal(const struct machine_row *row)
{
    switch (row->event) {
    case MACHINE_EVENT_REFUSED:
    case MACHINE_EVENT_PREPARE_FAILED:
    case MACHINE_EVENT_PORTS_LATE:
    case MACHINE_EVENT_START_FAILED:
    case MACHINE_EVENT_NOT_MOVED:
    case MACHINE_EVENT_UNKNOWN:
    case MACHINE_EVENT_AMBIGUOUS:
    case MACHINE_EVENT_LOST:
    case MACHINE_EVENT_UNCONFIRMED:
    case MACHINE_EVENT_DENIED:
    case MACHINE_EVENT_SETTLE_FAILED:
    case MACHINE_EVENT_ROLLBACK:
    case MACHINE_EVENT_ROLLBACK_FAILED:
    case MACHINE_EVENT_ABORT:
        return true;
    default:
        return false;
    }
}

/* What our own work brings in any case: places, cleaning, the journal, libvirt's end after an abort. */
static bool is_own_progress(const struct machine_row *row)
{
    switch (row->event) {
    case MACHINE_EVENT_PLACE:
    case MACHINE_EVENT_CLEANED:
    case MACHINE_EVENT_ROLLED_BACK:
        return true;
    default:
        return false;
    }
}

static bool goes_wrong(const struct machine_row *row)
{
    return is_refusal(row) || is_own_progress(row);
}

UNIT_TEST(fails_to_an_end,
          "when everything is refused, late or aborted, an end is reached all the same")
{
    bool set[MACHINE_STATE_COUNT];

    ends(set);
    reach_back(set, goes_wrong);
    all_reach(set, "has no way out when all goes wrong");
}

static bool without_denial(const struct machine_row *row)
{
    return row->event != MACHINE_EVENT_ABORT && row->event != MACHINE_EVENT_ROLLBACK &&
           !is_refusal(row);
}

UNIT_TEST(succeeds, "the way to success is open from each beginning without any refusal")
{
    bool set[MACHINE_STATE_COUNT] = {false};

    set[MACHINE_SOURCE_COMPLETED] = set[MACHINE_DESTINATION_COMPLETED] = true;
    reach_back(set, without_denial);
    UNIT_TRUE(set[MACHINE_SOURCE_ACCEPTED]);
    UNIT_TRUE(set[MACHINE_DESTINATION_ACCEPTED]);
}

UNIT_TEST(ends_stay, "nothing leads out of an end, and something out of every other state")
{
    for (unsigned s = 0; s < MACHINE_STATE_COUNT; s++) {
        enum machine_state state = (enum machine_state)s;
        size_t out = 0;
        for (size_t i = 0; i < row_count; i++)
            out += rows[i].state == state;
        bool closed = machine_state_is_final(state) || state == MACHINE_SOURCE_PARKED;
        unit_check(closed == (out == 0), __LINE__, __FILE__, "state %s has %zu rows",
                   machine_state_name(state), out);
    }
}

UNIT_TEST(no_mixing, "no row leads from one side of a migration to the other")
{
    for (size_t i = 0; i < row_count; i++)
        UNIT_EQ(rows[i].state >= MACHINE_DESTINATION_ACCEPTED,
                rows[i].next >= MACHINE_DESTINATION_ACCEPTED);
}

UNIT_TEST(determined,
          "of the rows of one state and event all but the last have a guard, no two the same")
{
    for (size_t i = 0; i < row_count; i++) {
        for (size_t k = i + 1; k < row_count; k++) {
            if (rows[k].state != rows[i].state || rows[k].event != rows[i].event)
                continue;
            unit_check(rows[i].guard && rows[i].guard != rows[k].guard, __LINE__, __FILE__,
                       "%s, \"%s\": row %zu hides row %zu", machine_state_name(rows[i].state),
                       machine_event_name(rows[i].event), i, k);
        }
    }
}

UNIT_TEST(complete, "whatever the guards say, an event that a state knows has a row")
{
    for (size_t i = 0; i < row_count; i++) {
        bool open = !rows[i].guard;
        for (size_t k = i + 1; k < row_count && !open; k++)
            open =
                rows[k].state == rows[i].state && rows[k].event == rows[i].event && !rows[k].guard;
        unit_check(open, __LINE__, __FILE__, "%s, \"%s\" has guarded rows alone",
                   machine_state_name(rows[i].state), machine_event_name(rows[i].event));
    }
}

/*
 * Where an abort means nothing: not begun in earnest (a few milliseconds), past the point of no return,
 * or on the way back already. source_abort() refuses it there, with the state in its sentence.
 */
static bool is_beyond_abort(enum machine_state state)
{
    return state == MACHINE_SOURCE_ACCEPTED || state == MACHINE_SOURCE_FINISHING ||
           state == MACHINE_SOURCE_CLEANING || state == MACHINE_SOURCE_ROLLING_BACK ||
           state == MACHINE_SOURCE_RECOVERING || is_parked(state) || machine_state_is_final(state);
}

UNIT_TEST(abortable, "each state of the source takes an abort, or is one where it means nothing")
{
    for (unsigned s = 0; s < MACHINE_DESTINATION_ACCEPTED; s++) {
        enum machine_state state = (enum machine_state)s;
        unit_check(has_row(state, MACHINE_EVENT_ABORT) != is_beyond_abort(state), __LINE__,
                   __FILE__, "abort in state %s", machine_state_name(state));
    }
}

UNIT_TEST(taken_back, "a destination that holds something takes the source's word to take it back")
{
    static const enum machine_state states[] = {
        MACHINE_DESTINATION_PREPARING, MACHINE_DESTINATION_PREPARED, MACHINE_DESTINATION_HERE,
        MACHINE_DESTINATION_ROLLING_BACK, MACHINE_DESTINATION_PARKED};

    for (size_t i = 0; i < ARRAY_LEN(states); i++)
        unit_check(has_row(states[i], MACHINE_EVENT_ROLLBACK), __LINE__, __FILE__,
                   "rollback in state %s", machine_state_name(states[i]));
}

UNIT_TEST(late_arrival, "libvirt's word that the guest came is no fault wherever it can come")
{
    for (unsigned s = MACHINE_DESTINATION_PREPARED; s < MACHINE_STATE_COUNT; s++)
        if (!machine_state_is_final((enum machine_state)s))
            unit_check(has_row((enum machine_state)s, MACHINE_EVENT_ARRIVED), __LINE__, __FILE__,
                       "arrival in state %s", machine_state_name((enum machine_state)s));
}

UNIT_TEST(cleaning_needs_proof, "the source's files go only after the destination's word")
{
    for (size_t i = 0; i < row_count; i++)
        if (rows[i].next == MACHINE_SOURCE_CLEANING)
            UNIT_EQ(rows[i].event, MACHINE_EVENT_CONFIRMED);
}

/* ---- names ---- */

UNIT_TEST(named, "states and events have names, different ones, and states are read back by them")
{
    for (unsigned s = 0; s < MACHINE_STATE_COUNT; s++) {
        enum machine_state state = (enum machine_state)s, read = MACHINE_STATE_COUNT;
        const char *name = machine_state_name(state);
        UNIT_TRUE(strlen(name) > 0 && strlen(machine_state_text(state)) > 0);
        UNIT_EQ(machine_state_parse(name, &read), 0);
        UNIT_EQ(read, state);
    }
    for (unsigned a = 0; a < MACHINE_EVENT_COUNT; a++)
        for (unsigned b = 0; b < a; b++)
            UNIT_TRUE(strcmp(machine_event_name((enum machine_event)a),
                             machine_event_name((enum machine_event)b)) != 0);
    enum machine_state untouched = MACHINE_SOURCE_QUEUED;
    UNIT_EQ(machine_state_parse("SOURCE_NOWHERE", &untouched), -1);
    UNIT_EQ(machine_state_parse(NULL, &untouched), -1);
    UNIT_EQ(untouched, MACHINE_SOURCE_QUEUED);
}

UNIT_TEST(picture, "the picture has every row")
{
    _cleanup_(str_freep) char *dot = machine_dot();
    size_t arrows = 0;

    for (const char *p = strstr(dot, " -> "); p; p = strstr(p + 1, " -> "))
        arrows++;
    UNIT_EQ(arrows, row_count);
    UNIT_HAS(dot, "if source_awaits_ports");
}

/* ---- running ---- */

static void run(enum machine_state state, enum machine_event event, enum machine_state next,
                unsigned actions)
{
    struct agent agent = {0};
    struct migration m = {.references = 1, .agent = &agent, .state = state, .uuid = (char *)"u"};

    UNIT_OK(loop_new(&agent.loop, &unit_err));
    acted = 0;
    machine_event(&m, event);
    unit_check(m.state == next, __LINE__, __FILE__, "%s, \"%s\" gives %s, not %s",
               machine_state_name(state), machine_event_name(event), machine_state_name(m.state),
               machine_state_name(next));
    UNIT_EQ(acted, actions);
    UNIT_TRUE(actions == 0 || acted_on == &m);
    UNIT_EQ(m.references, 1);
    loop_free(agent.loop);
}

UNIT_TEST(guards_choose, "the first row whose guard holds is taken")
{
    run(MACHINE_SOURCE_PREPARING, MACHINE_EVENT_PREPARED, MACHINE_SOURCE_STARTING, 1);
    ports_awaited = true;
    run(MACHINE_SOURCE_PREPARING, MACHINE_EVENT_PREPARED, MACHINE_SOURCE_WAITING_VIFS, 1);
    abort_asked = true;
    run(MACHINE_SOURCE_PREPARING, MACHINE_EVENT_PREPARED, MACHINE_SOURCE_ROLLING_BACK, 1);
    run(MACHINE_SOURCE_ROLLING_BACK, MACHINE_EVENT_ROLLED_BACK, MACHINE_SOURCE_ERROR, 1);
    ends_failed = true;
    run(MACHINE_SOURCE_ROLLING_BACK, MACHINE_EVENT_ROLLED_BACK, MACHINE_SOURCE_FAILED, 1);
    ends_cancelled = true;
    run(MACHINE_SOURCE_ROLLING_BACK, MACHINE_EVENT_ROLLED_BACK, MACHINE_SOURCE_CANCELLED, 1);
}

UNIT_TEST(all_events, "every state takes every event: by its row, or by leaving all as it is")
{
    log_close();
    for (unsigned s = 0; s < MACHINE_STATE_COUNT; s++) {
        for (unsigned v = 0; v < MACHINE_EVENT_COUNT; v++) {
            const struct machine_row *row = NULL;
            for (size_t i = 0; i < row_count && !row; i++)
                if (rows[i].state == s && rows[i].event == v && !rows[i].guard)
                    row = &rows[i];
            if (row)
                run((enum machine_state)s, (enum machine_event)v, row->next, row->action != NULL);
        }
    }
    _cleanup_(str_freep) char *path = text_format("%s/log", unit_directory());
    UNIT_OK(log_open(path, LOG_FORMAT_TEXT, &unit_err));
    run(MACHINE_SOURCE_COMPLETED, MACHINE_EVENT_ABORT, MACHINE_SOURCE_COMPLETED, 0);
    log_close();
    _cleanup_(str_freep) char *log = unit_read_file(path, NULL);
    UNIT_HAS(log, "event \"abort\" has no row in state SOURCE_COMPLETED");
}
