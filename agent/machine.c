/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/machine.h"

#include <assert.h>
#include <string.h>

#include "agent/migration.h"
#include "lib/clock.h"
#include "lib/fault.h"
#include "lib/json.h"
#include "lib/log.h"

LOG_MODULE(machine);

/* ROW: always; ROW_IF: when the guard holds. Rows of one {state, event} are tried in order. */
#define ROW(from, happening, act, to)                                                              \
    {                                                                                              \
        .state = MACHINE_##from, .event = MACHINE_EVENT_##happening, .action = act,                \
        .next = MACHINE_##to, .action_name = #act                                                  \
    }
#define ROW_IF(from, happening, condition, act, to)                                                \
    {                                                                                              \
        .state = MACHINE_##from, .event = MACHINE_EVENT_##happening, .guard = condition,           \
        .action = act, .next = MACHINE_##to, .guard_name = #condition, .action_name = #act         \
    }
#define STAY(state, happening) ROW(state, happening, NULL, state)

/* clang-format off */
static const struct machine_row table[] = {
    ROW(SOURCE_ACCEPTED, JOURNALED, source_enqueue, SOURCE_QUEUED),
    ROW(SOURCE_ACCEPTED, REFUSED, source_refuse, SOURCE_ERROR),

    ROW(SOURCE_QUEUED, PLACE, source_prepare, SOURCE_PREPARING),
    ROW(SOURCE_QUEUED, ABORT, source_roll_back, SOURCE_ROLLING_BACK),

    ROW_IF(SOURCE_PREPARING, PREPARED, source_abort_is_requested, source_roll_back, SOURCE_ROLLING_BACK),
    ROW_IF(SOURCE_PREPARING, PREPARED, source_awaits_ports, source_wait_ports, SOURCE_WAITING_VIFS),
    ROW(SOURCE_PREPARING, PREPARED, source_start, SOURCE_STARTING),
    ROW(SOURCE_PREPARING, PREPARE_FAILED, source_roll_back, SOURCE_ROLLING_BACK),
    ROW_IF(SOURCE_PREPARING, ABORT, source_destination_is_asked, source_call_off, SOURCE_PREPARING),
    ROW(SOURCE_PREPARING, ABORT, source_roll_back, SOURCE_ROLLING_BACK),

    ROW(SOURCE_WAITING_VIFS, PORTS_PLUGGED, source_start, SOURCE_STARTING),
    ROW(SOURCE_WAITING_VIFS, PORTS_LATE, source_roll_back, SOURCE_ROLLING_BACK),
    ROW(SOURCE_WAITING_VIFS, ABORT, source_roll_back, SOURCE_ROLLING_BACK),

    ROW(SOURCE_STARTING, STARTED, source_run, SOURCE_RUNNING),
    ROW(SOURCE_STARTING, START_FAILED, source_roll_back, SOURCE_ROLLING_BACK),
    ROW(SOURCE_STARTING, ABORT, source_roll_back, SOURCE_ROLLING_BACK),

    ROW(SOURCE_RUNNING, ABORT, source_abort_running, SOURCE_RUNNING),
    ROW(SOURCE_RUNNING, MOVED, source_finish, SOURCE_FINISHING),
    ROW(SOURCE_RUNNING, NOT_MOVED, source_roll_back, SOURCE_ROLLING_BACK),
    ROW(SOURCE_RUNNING, UNKNOWN, source_observe, SOURCE_OBSERVING),

    ROW(SOURCE_OBSERVING, ABORT, source_abort_running, SOURCE_OBSERVING),
    ROW(SOURCE_OBSERVING, MOVED, source_finish, SOURCE_FINISHING),
    ROW(SOURCE_OBSERVING, NOT_MOVED, source_roll_back, SOURCE_ROLLING_BACK),
    ROW(SOURCE_OBSERVING, AMBIGUOUS, source_ask_destination, SOURCE_OBSERVING),
    ROW(SOURCE_OBSERVING, LOST, source_recover, SOURCE_RECOVERING),
    ROW(SOURCE_OBSERVING, CONFIRMED, source_clean, SOURCE_CLEANING),
    ROW(SOURCE_OBSERVING, DENIED, source_park, SOURCE_PARKED),
    ROW(SOURCE_OBSERVING, UNCONFIRMED, source_park, SOURCE_PARKED),

    ROW(SOURCE_RECOVERING, MOVED, source_finish, SOURCE_FINISHING),
    ROW(SOURCE_RECOVERING, UNKNOWN, source_look_again, SOURCE_OBSERVING),
    ROW(SOURCE_RECOVERING, DENIED, source_park, SOURCE_PARKED),

    ROW(SOURCE_FINISHING, CONFIRMED, source_clean, SOURCE_CLEANING),
    ROW(SOURCE_FINISHING, DENIED, source_park, SOURCE_PARKED),
    ROW(SOURCE_FINISHING, UNCONFIRMED, source_park, SOURCE_PARKED),

    ROW(SOURCE_CLEANING, CLEANED, source_end, SOURCE_COMPLETED),

    ROW_IF(SOURCE_ROLLING_BACK, ROLLED_BACK, source_ends_cancelled, source_end, SOURCE_CANCELLED),
    ROW_IF(SOURCE_ROLLING_BACK, ROLLED_BACK, source_ends_failed, source_end, SOURCE_FAILED),
    ROW(SOURCE_ROLLING_BACK, ROLLED_BACK, source_end, SOURCE_ERROR),
    ROW(SOURCE_ROLLING_BACK, ROLLBACK_FAILED, source_park, SOURCE_PARKED),

    ROW(DESTINATION_ACCEPTED, JOURNALED, destination_prepare, DESTINATION_PREPARING),
    ROW(DESTINATION_ACCEPTED, REFUSED, destination_refuse, DESTINATION_FAILED),
    ROW(DESTINATION_ACCEPTED, ROLLBACK, destination_call_off, DESTINATION_ACCEPTED),

    ROW_IF(DESTINATION_PREPARING, PREPARED, source_abort_is_requested, destination_roll_back, DESTINATION_ROLLING_BACK),
    ROW(DESTINATION_PREPARING, PREPARED, destination_ready, DESTINATION_PREPARED),
    ROW(DESTINATION_PREPARING, PREPARE_FAILED, destination_roll_back, DESTINATION_ROLLING_BACK),
    ROW(DESTINATION_PREPARING, ROLLBACK, destination_call_off, DESTINATION_PREPARING),

    ROW(DESTINATION_PREPARED, ARRIVED, destination_arrived, DESTINATION_HERE),
    ROW(DESTINATION_PREPARED, POST, destination_settle, DESTINATION_SETTLING),
    ROW(DESTINATION_PREPARED, ROLLBACK, destination_roll_back, DESTINATION_ROLLING_BACK),

    STAY(DESTINATION_HERE, ARRIVED),
    ROW(DESTINATION_HERE, POST, destination_settle, DESTINATION_SETTLING),
    ROW(DESTINATION_HERE, ROLLBACK, destination_roll_back, DESTINATION_ROLLING_BACK),

    STAY(DESTINATION_SETTLING, ARRIVED),
    ROW(DESTINATION_SETTLING, SETTLED, destination_end, DESTINATION_COMPLETED),
    ROW(DESTINATION_SETTLING, SETTLE_FAILED, destination_unsettled, DESTINATION_PREPARED),

    STAY(DESTINATION_ROLLING_BACK, ARRIVED),
    STAY(DESTINATION_ROLLING_BACK, ROLLBACK),
    ROW(DESTINATION_ROLLING_BACK, ROLLED_BACK, destination_end, DESTINATION_FAILED),
    ROW(DESTINATION_ROLLING_BACK, ROLLBACK_FAILED, destination_park, DESTINATION_PARKED),

    STAY(DESTINATION_PARKED, ARRIVED),
    ROW(DESTINATION_PARKED, POST, destination_settle, DESTINATION_SETTLING),
    ROW(DESTINATION_PARKED, ROLLBACK, destination_roll_back, DESTINATION_ROLLING_BACK),
};

static const char *const state_names[] = {
#define X(id, text) #id,
    MACHINE_STATES(X)
#undef X
};
static const char *const state_texts[] = {
#define X(id, text) text,
    MACHINE_STATES(X)
#undef X
};
/* A state is in memory and not yet on the disk. */
static const char *const state_points[] = {
#define X(id, text) "machine." #id,
    MACHINE_STATES(X)
#undef X
};
static const char *const event_names[] = {
#define X(id, text) text,
    MACHINE_EVENTS(X)
#undef X
};
/* clang-format on */

const struct machine_row *machine_table(size_t *count)
{
    *count = ARRAY_LEN(table);
    return table;
}

static const struct machine_row *find_row(const struct migration *m, enum machine_event event)
{
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        const struct machine_row *row = &table[i];
        if (row->state == m->state && row->event == event && (!row->guard || row->guard(m)))
            return row;
    }
    return NULL;
}

void machine_event(struct migration *migration, enum machine_event event)
{
    assert(loop_is_current(migration->agent->loop));
    assert(event < MACHINE_EVENT_COUNT);
    const struct machine_row *row = find_row(migration, event);

    _cleanup_(log_scope_end) struct log_scope scope = log_scope_begin(
        json_get_string(migration->context, "request_id", NULL), migration->instance_uuid);
    if (!row) {
        log_error("migration %s: event \"%s\" has no row in state %s; it is left out",
                  migration->uuid, machine_event_name(event), machine_state_name(migration->state));
        return;
    }
    log_debug("migration %s: %s, \"%s\" -> %s", migration->uuid,
              machine_state_name(migration->state), machine_event_name(event),
              machine_state_name(row->next));
    /* the action may drop the last reference of others */
    migration_ref(migration);
    migration->state = row->next;
    migration->updated_us = clock_realtime_us();
    (void)fault_point(state_points[row->next], NULL);
    if (row->action)
        row->action(migration);
    migration_unref(migration);
}

const char *machine_state_name(enum machine_state state)
{
    assert(state < MACHINE_STATE_COUNT);
    return state_names[state];
}

const char *machine_state_text(enum machine_state state)
{
    assert(state < MACHINE_STATE_COUNT);
    return state_texts[state];
}

const char *machine_event_name(enum machine_event event)
{
    assert(event < MACHINE_EVENT_COUNT);
    return event_names[event];
}

int machine_state_parse(const char *name, enum machine_state *out)
{
    for (unsigned i = 0; i < MACHINE_STATE_COUNT; i++) {
        if (text_equal(name, state_names[i])) {
            *out = (enum machine_state)i;
            return 0;
        }
    }
    return -1;
}

bool machine_state_is_final(enum machine_state state)
{
    switch (state) {
    case MACHINE_SOURCE_COMPLETED:
    case MACHINE_SOURCE_FAILED:
    case MACHINE_SOURCE_CANCELLED:
    case MACHINE_SOURCE_ERROR:
    case MACHINE_DESTINATION_COMPLETED:
    case MACHINE_DESTINATION_FAILED:
        return true;
    default:
        return false;
    }
}

char *machine_dot(void)
{
    struct text_buffer b = TEXT_BUFFER_INIT;

    text_buffer_add(&b, "digraph machine {\n    rankdir=LR;\n    node [shape=box];\n");
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        const struct machine_row *row = &table[i];
        text_buffer_printf(&b, "    %s -> %s [label=\"%s%s%s\"];\n", machine_state_name(row->state),
                           machine_state_name(row->next), machine_event_name(row->event),
                           row->guard_name ? "\\nif " : "", row->guard_name ? row->guard_name : "");
    }
    text_buffer_add(&b, "}\n");
    return text_buffer_take(&b);
}
