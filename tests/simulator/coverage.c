/* SPDX-License-Identifier: Apache-2.0 */
/* What all schedules together reached. The machine is looked at where its events come in. */
#include "agent/machine.h"
#include "tests/simulator/simulator.h"

/* ---- the machine's rows ---- */

void __real_machine_event(struct migration *migration, enum machine_event event);
void __wrap_machine_event(struct migration *migration, enum machine_event event);

void __wrap_machine_event(struct migration *migration, enum machine_event event)
{
    size_t count;
    const struct machine_row *rows = machine_table(&count);
    size_t at = 0;

    while (at < count && (rows[at].state != migration->state || rows[at].event != event ||
                          (rows[at].guard && !rows[at].guard(migration))))
        at++;
    sim_trace("%s: %s, \"%s\" -> %s", migration->agent->host, machine_state_name(migration->state),
              machine_event_name(event), at < count ? machine_state_name(rows[at].next) : "no row");
    if (sim->acting && sim->acting->dead) {
        __real_machine_event(migration, event);
        return;
    }
    sim->unconfirmed = sim->unconfirmed || event == MACHINE_EVENT_UNCONFIRMED;
    if (at < count)
        sim->coverage->rows[at]++;
    else
        sim_violation("no row for \"%s\" in %s", machine_event_name(event),
                      machine_state_name(migration->state));
    __real_machine_event(migration, event);
}

/* Why rows cannot be reached by two agents of this kind in this simulator. */
static const struct {
    enum machine_state state;
    enum machine_event event;
    const char *reason;
} left_out[] = {
    {MACHINE_SOURCE_PREPARING, MACHINE_EVENT_PREPARED,
     "awaiting ports: only a nova-compute asks for it"},
    {MACHINE_SOURCE_WAITING_VIFS, MACHINE_EVENT_PORTS_PLUGGED,
     "only with a nova-compute destination"},
    {MACHINE_SOURCE_WAITING_VIFS, MACHINE_EVENT_PORTS_LATE, "only with a nova-compute destination"},
    {MACHINE_SOURCE_WAITING_VIFS, MACHINE_EVENT_ABORT, "only with a nova-compute destination"},
    {MACHINE_DESTINATION_HERE, MACHINE_EVENT_ROLLBACK,
     "only if libvirt says of a guest that came that it stayed"},
    {MACHINE_DESTINATION_ROLLING_BACK, MACHINE_EVENT_ARRIVED,
     "only if a guest comes that was taken back"},
    {MACHINE_DESTINATION_PARKED, MACHINE_EVENT_ARRIVED,
     "only if a guest comes that was taken back"},
    {MACHINE_DESTINATION_PARKED, MACHINE_EVENT_POST, "only if a guest comes that was taken back"},
};

static const char *reason_of(const struct machine_row *row)
{
    for (size_t i = 0; i < ARRAY_LEN(left_out); i++)
        if (left_out[i].state == row->state && left_out[i].event == row->event &&
            (left_out[i].event != MACHINE_EVENT_PREPARED ||
             row->next == MACHINE_SOURCE_WAITING_VIFS))
            return left_out[i].reason;
    return NULL;
}

unsigned coverage_missing(const struct coverage *coverage)
{
    size_t count;
    const struct machine_row *rows = machine_table(&count);
    unsigned missing = 0;

    for (size_t i = 0; i < count; i++)
        missing += coverage->rows[i] == 0 && !reason_of(&rows[i]);
    return missing;
}

static void print_rows(const struct coverage *coverage)
{
    size_t count, reached = 0;
    const struct machine_row *rows = machine_table(&count);

    for (size_t i = 0; i < count; i++)
        reached += coverage->rows[i] > 0;
    printf("# rows of the machine: %zu of %zu reached\n", reached, count);
    for (size_t i = 0; i < count; i++) {
        const char *reason = reason_of(&rows[i]);
        if (coverage->rows[i] == 0)
            printf("#   not reached: %s, \"%s\" -> %s: %s\n", machine_state_name(rows[i].state),
                   machine_event_name(rows[i].event), machine_state_name(rows[i].next),
                   reason ? reason : "no reason is known");
    }
}

/* ---- fault points ---- */

void coverage_pass(const char *point, bool failed, bool crashed)
{
    for (unsigned i = 0; i < POINTS_MAX; i++) {
        char *name = sim->coverage->points[i].name;
        if (!name[0])
            snprintf(name, POINT_NAME, "%s", point);
        if (!text_equal(name, point))
            continue;
        sim->coverage->points[i].passed++;
        sim->coverage->points[i].failed += failed;
        sim->coverage->points[i].crashed += crashed;
        return;
    }
}

static void print_points(const struct coverage *coverage)
{
    unsigned count = 0;

    while (count < POINTS_MAX && coverage->points[count].name[0])
        count++;
    printf("# fault points: %u passed (failed, died at):\n", count);
    for (unsigned i = 0; i < count; i++)
        printf("#   %s (%" PRIu64 ", %" PRIu64 ")\n", coverage->points[i].name,
               coverage->points[i].failed, coverage->points[i].crashed);
}

static void print_post_copy(const struct coverage *c)
{
    static const char *const words[POST_COPY_COUNTS] = {
        [POST_COPY_BEGUN] = "begun",
        [POST_COPY_BY_POLICY] = "asked for by the policy",
        [POST_COPY_NETWORK_CUT] = "network cut",
        [POST_COPY_LOST_SOURCE] = "failed at the source",
        [POST_COPY_LOST_DESTINATION] = "failed at the destination",
        [POST_COPY_RECOVERED] = "recovered",
        [POST_COPY_BY_ITSELF] = "went on by itself",
        [POST_COPY_COMPLETED] = "completed",
        [POST_COPY_TORN] = "torn",
        [POST_COPY_STRANDED] = "stranded",
        [POST_COPY_UNHEARD] = "unheard of"};

    printf("# post-copy:");
    for (unsigned i = 0; i < POST_COPY_COUNTS; i++)
        printf("%s %s %" PRIu64, i > 0 ? "," : "", words[i], c->post_copy[i]);
    printf("\n");
}

void coverage_print(const struct coverage *c)
{
    static const char *const words[ENDINGS] = {
        [ENDED_COMPLETED] = "completed", [ENDED_FAILED] = "failed",
        [ENDED_CANCELLED] = "cancelled", [ENDED_ERROR] = "error",
        [ENDED_UNTAKEN] = "never begun", [ENDED_PARKED] = "parked"};

    printf("# %" PRIu64 " schedules, %" PRIu64 " steps, %" PRIu64 " violations\n", c->schedules,
           c->steps, c->violations);
    printf("# ended:");
    for (unsigned i = 0; i < ENDINGS; i++)
        printf(" %s %" PRIu64, words[i], c->endings[i]);
    printf("\n# parked at the source %" PRIu64 ", at the destination %" PRIu64
           ": the guest died %" PRIu64 ", libvirt's last word is missing %" PRIu64
           ", no answer for long %" PRIu64 ", broken for long %" PRIu64 "\n",
           c->parked_source, c->parked_destination, c->parked_why[0], c->parked_why[1],
           c->parked_why[2], c->parked_why[3]);
    printf("# deaths %" PRIu64 " (at fault points %" PRIu64 "), faults %" PRIu64
           ", messages lost %" PRIu64 ", repeated %" PRIu64 "\n",
           c->crashes, c->crashes_at_points, c->faults, c->lost, c->repeated);
    printf("# libvirt: connections lost %" PRIu64 ", restarts %" PRIu64
           ", failed migrations %" PRIu64 ", dead guests %" PRIu64 "; operators: aborts %" PRIu64
           ", forced %" PRIu64 "\n",
           c->libvirt_lost, c->libvirt_restarts, c->job_failures, c->guests_died, c->aborts,
           c->forced);
    printf("# the bus was cut %" PRIu64 " times; left behind after all tries %" PRIu64 "\n",
           c->bus_cuts, c->left_behind);
    print_post_copy(c);
    print_rows(c);
    print_points(c);
}
