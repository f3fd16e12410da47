/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fault matrix: a migration without any other trouble, again and again, and at each pass of each fault point on
 * either side one deed. The passes are counted in a run without a deed, whose order the seed chooses (even: without a
 * Nova); up to its pass each run is the same.
 */
#include <string.h>

#include "tests/simulator/simulator.h"

enum { AWAY_STEPS = 60 };

static const char *const way_names[WAYS] = {[WAY_MOVE] = "move",
                                            [WAY_ABORT] = "abort",
                                            [WAY_FORCE] = "force",
                                            [WAY_POST_COPY] = "post-copy"};
static const char *const deed_names[DEEDS] = {
    [DEED_NOTHING] = "nothing",
    [DEED_DEATH] = "death",
    [DEED_OTHER_DEATH] = "other-death",
    [DEED_FAILURE] = "failure",
    [DEED_LIBVIRT_SOURCE] = "libvirt-source",
    [DEED_LIBVIRT_DESTINATION] = "libvirt-destination",
    [DEED_BUS] = "bus",
    [DEED_CONTROL_PLANE] = "control-plane",
    [DEED_NETWORK] = "network",
};

/* ---- the deed ---- */

int matrix_pass(struct host *host, const char *point, struct err *e)
{
    const struct plan *plan = sim->plan;
    bool now = ++sim->passes == plan->pass;
    bool dies = now && plan->deed == DEED_DEATH;
    bool fails = (now && plan->deed == DEED_FAILURE) ||
                 (host->broken && text_starts_with(point, host->broken));

    coverage_pass(point, fails, dies);
    if (now) {
        sim_trace("%s: fault point %s: %s", host->name, point, deed_names[plan->deed]);
        sim->deed_host = host;
        sim->deed_due = !dies && !fails;
    }
    if (dies) {
        sim->coverage->crashes_at_points++;
        host_die(host);
    }
    sim->coverage->faults += fails;
    return dies || fails ? err_set(e, ERR_SYSTEM, "the fault point %s fails", point) : 0;
}

static void act(void)
{
    switch (sim->plan->deed) {
    case DEED_OTHER_DEATH:
        host_die(sim->deed_host == &sim->hosts[SOURCE] ? &sim->hosts[DESTINATION]
                                                       : &sim->hosts[SOURCE]);
        return;
    case DEED_LIBVIRT_SOURCE:
        sim->coverage->libvirt_restarts++;
        hypervisor_restart(&sim->hosts[SOURCE]);
        return;
    case DEED_LIBVIRT_DESTINATION:
        sim->coverage->libvirt_restarts++;
        hypervisor_restart(&sim->hosts[DESTINATION]);
        return;
    case DEED_BUS:
        sim->coverage->bus_cuts++;
        sim->bus_is_cut = true;
        break;
    case DEED_CONTROL_PLANE: /* the conductor and all that is behind it */
        for (int i = 0; i < HOSTS; i++) {
            sim->hosts[i].broken = "world.";
            sim->hosts[i].broken_since_us = sim->now_us;
        }
        break;
    case DEED_NETWORK:
        hypervisor_cut_network(true);
        break;
    default:
        return;
    }
    sim->back_at_step = sim->steps + AWAY_STEPS;
}

static void come_back(void)
{
    sim_trace("what was away is back");
    sim->back_at_step = 0;
    sim->bus_is_cut = false;
    hypervisor_cut_network(false);
    for (int i = 0; i < HOSTS; i++)
        host_mend(&sim->hosts[i]);
}

bool matrix_trouble(void)
{
    if (sim->deed_due) {
        sim->deed_due = false;
        act();
    } else if (sim->back_at_step && sim->steps >= sim->back_at_step) {
        come_back();
    } else if (sim->plan->way != WAY_MOVE && !sim->operator_asked && hypervisor_has_job()) {
        sim->operator_asked = true;
        sim_operator_asks(sim->plan->way != WAY_ABORT);
    } else {
        return false;
    }
    return true;
}

/* ---- all of them ---- */

static bool run_one(uint64_t seed, const struct plan *plan, struct coverage *coverage)
{
    if (schedule_run_plan(seed, plan, false, coverage, NULL))
        return true;
    printf("# again, with its trace: tests/simulator/simulate --seed %" PRIu64
           " --plan %s/%s/%u --trace\n",
           seed, way_names[plan->way], deed_names[plan->deed], plan->pass);
    return false;
}

/* What does not touch an agent's own memory is the same whatever an operator asked for, but in post-copy. */
static bool is_worth_it(enum way way, enum deed deed)
{
    bool post_copy =
        deed == DEED_NETWORK || deed == DEED_LIBVIRT_SOURCE || deed == DEED_LIBVIRT_DESTINATION;

    if (way == WAY_POST_COPY && post_copy)
        return true;
    if (deed == DEED_NETWORK) /* in pre-copy it is a migration that fails */
        return false;
    return way == WAY_MOVE || deed == DEED_DEATH || deed == DEED_OTHER_DEATH ||
           deed == DEED_FAILURE;
}

void matrix_run(uint64_t seed, unsigned share, unsigned shares, struct coverage *coverage)
{
    unsigned n = 0, runs = 0, counts[WAYS];

    for (enum way way = 0; way < WAYS; way++) {
        struct plan plan = {.way = way};
        (void)schedule_run_plan(seed, &plan, false, coverage, &counts[way]);
        for (plan.deed = DEED_DEATH; plan.deed < DEEDS; plan.deed++) {
            if (!is_worth_it(way, plan.deed))
                continue;
            for (plan.pass = 1; plan.pass <= counts[way]; plan.pass++, runs++)
                if (n++ % shares == share)
                    (void)run_one(seed, &plan, coverage);
        }
    }
    if (share == 0)
        printf("# the matrix of seed %" PRIu64 ": %u, %u, %u and %u passes of a move, one that "
               "is aborted, one that is forced and one by post-copy; %u runs\n",
               seed, counts[WAY_MOVE], counts[WAY_ABORT], counts[WAY_FORCE], counts[WAY_POST_COPY],
               runs);
}

static int index_of(const char *const *names, unsigned count, const char *name, size_t length)
{
    for (unsigned i = 0; i < count; i++)
        if (strlen(names[i]) == length && strncmp(names[i], name, length) == 0)
            return (int)i;
    return -1;
}

int matrix_parse(const char *text, struct plan *plan, struct err *e)
{
    const char *deed = strchr(text, '/'), *pass = strrchr(text, '/');
    int64_t number;

    if (deed && pass > deed) {
        int way = index_of(way_names, WAYS, text, (size_t)(deed - text));
        int what = index_of(deed_names, DEEDS, deed + 1, (size_t)(pass - deed - 1));
        if (way >= 0 && what >= 0 && text_to_int64(pass + 1, 0, 1000000, &number, e) == 0) {
            *plan = (struct plan){(enum way)way, (enum deed)what, (unsigned)number};
            return 0;
        }
    }
    return err_set(e, ERR_USAGE, "the plan \"%s\" is not WAY/DEED/PASS, as move/death/57", text);
}
