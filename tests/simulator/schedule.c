/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One schedule: the conductor asks the source to move its guest, and for a while things go on in an order
 * that the seed chooses, with all the trouble that its rates have. Then everything is healed, and what is
 * left is let come to rest.
 */
#include <stdarg.h>

#include "lib/clock.h"
#include "lib/fault.h"
#include "lib/json.h"
#include "lib/undo.h"
#include "tests/simulator/simulator.h"

#define BEGIN_US INT64_C(1795000000000000)
enum { TROUBLE_STEPS_MAX = 600, PLAN_STEPS_MAX = 2000, REST_STEPS_MAX = 40000, DEATHS_MAX = 6 };
static const int64_t late_us = INT64_C(1800) * 1000000;
static const int64_t rest_us = INT64_C(7200) * 1000000; /* what is parked waits for ever */

struct sim *sim;

/* ---- chance ---- */

/* splitmix64 */
static uint64_t next_random(void)
{
    uint64_t z = sim->random += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

uint64_t sim_below(uint64_t limit)
{
    return next_random() % limit;
}

bool sim_happens(unsigned of_thousand)
{
    return of_thousand > 0 && !sim->healing && !sim->calm && sim_below(1000) < of_thousand;
}

/* ---- what is told ---- */

void sim_trace(const char *format, ...)
{
    char line[600];
    va_list args;
    int n = snprintf(line, sizeof(line), "%u %.3f ", sim->steps,
                     (double)(sim->now_us - BEGIN_US) / USEC_PER_SEC);

    va_start(args, format);
    vsnprintf(line + n, sizeof(line) - (size_t)n, format, args);
    va_end(args);
    for (const char *c = line; *c; c++) /* FNV-1a */
        sim->hash = (sim->hash ^ (unsigned char)*c) * UINT64_C(0x100000001b3);
    if (sim->tracing)
        printf("%s\n", line);
}

void sim_violation(const char *format, ...)
{
    char text[500];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    sim_trace("VIOLATION: %s", text);
    if (!sim->violation)
        sim->violation = text_dup(text);
}

/* ---- the scene ---- */

static struct json_object *request;

static void add_guest(struct host *host)
{
    _cleanup_(str_freep) char *directory =
        text_format("%s/" WORLD_INSTANCE, host->world->instances);
    _cleanup_(str_freep) char *file = text_format("%s/disk", directory);
    _cleanup_(str_freep) char *xml = text_format(
        "<domain type='qemu'><name>instance-00000001</name><uuid>" WORLD_INSTANCE "</uuid>"
        "<memory unit='KiB'>262144</memory><vcpu>1</vcpu><os>"
        "<type arch='x86_64' machine='pc-i440fx-7.2'>hvm</type></os><devices>"
        "<emulator>/usr/bin/qemu-system-x86_64</emulator>"
        "<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='%s'/>"
        "<target dev='vda' bus='virtio'/></disk><interface type='bridge'>"
        "<mac address='fa:16:3e:00:00:3d'/><source bridge='brq83fa7b67-c9'/>"
        "<target dev='" WORLD_TAP "'/><model type='virtio'/></interface></devices></domain>",
        file);

    world_add_file(host->world, "disk");
    virt_fake_add(host->world->agent.virt, WORLD_INSTANCE, "instance-00000001", xml,
                  VIRT_STATE_RUNNING);
}

static void plug_port(struct host *host)
{
    struct agent *agent = &host->world->agent;
    struct instance *instance = NULL;
    struct port_list ports = {0};
    struct undo *undo = undo_new(agent->undo_handlers, NULL, NULL);
    struct err e = ERR_INIT;

    if (instance_from_json(json_get(request, "instance"), &instance, &e) < 0 ||
        ports_of_instance(instance, &ports, &e) < 0 ||
        net_plug(agent->net, ports.items[0], undo, &e) < 0)
        sim_violation("the scene: %s", e.text);
    undo_free(undo);
    port_list_clear(&ports);
    instance_free(instance);
}

/* Most schedules have one or two kinds of trouble, so that what follows them is reached. */
static unsigned choose_rate(unsigned most)
{
    switch (sim_below(4)) {
    case 0:
        return 1 + (unsigned)sim_below(most);
    case 1:
        return 1 + (unsigned)sim_below(most / 4 + 1);
    default:
        return 0;
    }
}

static void choose_rates(void)
{
    sim->rates = (struct rates){
        .crash = choose_rate(30),
        .libvirt_lost = choose_rate(20),
        .libvirt_restart = choose_rate(20),
        .job_fails = choose_rate(30),
        .guest_dies = choose_rate(4),
        .operators = choose_rate(30),
        .broken = choose_rate(20),
        .bus_cut = choose_rate(8),
        .fault_error = choose_rate(60),
        .fault_crash = choose_rate(60),
        .letter_lost = choose_rate(150),
        .letter_twice = choose_rate(200),
        .letter_late = choose_rate(20),
        .cast_fails = choose_rate(200),
        .reply_lost = choose_rate(200),
        .bindings_fail = choose_rate(200),
        .time_jump = choose_rate(40),
        .mended = sim_below(2) == 0 ? 20 : 3,
        .come_back = sim_below(6) == 0 ? 400 : 20,
    };
    if (!sim->post_copy)
        return;
    sim->calm = sim_below(4) > 0;
    sim->rates.network_cut = sim_below(3) == 0 ? 0 : 10 + (unsigned)sim_below(60);
    sim->rates.operators += 10;
}

static void open_scene(uint64_t seed, const struct plan *plan, bool tracing,
                       struct coverage *coverage)
{
    sim = NEW(struct sim);
    sim->seed = seed;
    sim->random = seed * UINT64_C(0xd1342543de82ef95) + 1;
    sim->hash = UINT64_C(0xcbf29ce484222325);
    sim->tracing = tracing;
    sim->plan = plan;
    sim->coverage = coverage;
    sim->broker = broker_new();
    sim->hypervisor = hypervisor_new();
    sim->promises = promises_new();
    sim->standalone = plan ? seed % 2 == 0 : sim_below(2) == 0;
    sim->post_copy = plan ? plan->way == WAY_POST_COPY : seed % 4 == 0;
    sim->by_policy = !plan && seed % 16 == 0;
    host_open(&sim->hosts[SOURCE], "os-hosta");
    host_open(&sim->hosts[DESTINATION], "os-hostb");
    sim->now_us = BEGIN_US;
    clock_fake_set(sim->now_us);
    if (!request)
        request = world_args("030");
    if (!request)
        abort(); /* told already */
    add_guest(&sim->hosts[SOURCE]);
    plug_port(&sim->hosts[SOURCE]);
    if (plan)
        sim->rates.come_back = 20;
    else
        choose_rates();
    broker_send(&sim->hosts[SOURCE], RPC_METHOD_live_migration, json_copy(request));
    if (!plan && sim_below(20) == 0) /* so that it has to queue */
        hypervisor_lose_connection(&sim->hosts[SOURCE]);
}

static void close_scene(void)
{
    for (int i = 0; i < HOSTS; i++)
        host_close(&sim->hosts[i]);
    broker_free(sim->broker);
    hypervisor_free(sim->hypervisor);
    promises_free(sim->promises);
    free(sim->violation);
    free(sim);
    sim = NULL;
}

/* ---- trouble ---- */

static struct host *any_host(void)
{
    return &sim->hosts[sim_below(HOSTS)];
}

/* A guest that is paused by force, and cannot be resumed for as long as its agent tries. */
static void break_resume(void)
{
    host_break(&sim->hosts[SOURCE]);
    sim->hosts[SOURCE].broken = "virt.resume";
    sim->rates.mended = 0;
    sim->rates.job_fails += 100;
    sim->heals_late = true;
}

void sim_operator_asks(bool force)
{
    struct json_object *args = json_object_new_object();

    json_add(args, "instance", json_copy(json_get(request, "instance")));
    if (force) {
        sim->force_asked = true;
        sim->coverage->forced++;
        broker_send(&sim->hosts[SOURCE], RPC_METHOD_live_migration_force_complete, args);
        return;
    }
    sim->coverage->aborts++;
    struct json_object *record = json_get(json_get(request, "migration"), "nova_object.data");
    json_add_int(args, "migration_id", json_get_int(record, "id", 0));
    broker_send(&sim->hosts[SOURCE], RPC_METHOD_live_migration_abort, args);
}

static void operator_asks(void)
{
    bool force = sim->post_copy ? sim_below(4) > 0 : sim_below(3) == 0;

    if (force && !sim->post_copy && sim_below(6) == 0)
        break_resume();
    sim_operator_asks(force);
}

static void begin_or_end(struct host *host)
{
    if (host->broken)
        host_mend(host);
    else
        host_break(host);
}

static bool trouble_of_host(struct host *host)
{
    if (host->up && host->crashes < DEATHS_MAX && sim_happens(sim->rates.crash)) {
        host_die(host);
    } else if (host->up && host->libvirt_up && sim_happens(sim->rates.libvirt_lost)) {
        sim->coverage->libvirt_lost++;
        hypervisor_lose_connection(host);
    } else if (host->up && sim_happens(sim->rates.libvirt_restart)) {
        sim->coverage->libvirt_restarts++;
        hypervisor_restart(host);
    } else if (sim_happens(host->broken ? sim->rates.mended : sim->rates.broken)) {
        begin_or_end(host);
    } else if (sim_happens(sim->rates.bindings_fail)) {
        host->world->bindings_fail = 1 + (unsigned)sim_below(3);
    } else {
        return false;
    }
    return true;
}

static bool trouble_between(void)
{
    if (hypervisor_has_job() && sim_happens(sim->rates.job_fails)) {
        sim->coverage->job_failures++;
        hypervisor_job_fails();
    } else if (sim_happens(sim->rates.operators)) {
        operator_asks();
    } else if (sim_happens(sim->rates.letter_late)) {
        broker_repeat_former();
    } else if (sim_happens(sim->rates.guest_dies)) {
        hypervisor_guest_dies();
    } else if (sim_happens(sim->bus_is_cut ? 15 : sim->rates.bus_cut)) {
        sim->bus_is_cut = !sim->bus_is_cut;
        sim->coverage->bus_cuts += sim->bus_is_cut;
        sim_trace("the bus is %s", sim->bus_is_cut ? "cut" : "whole again");
    } else if (hypervisor_is_in_post_copy() &&
               sim_happens(hypervisor_network_is_cut() ? 25 : sim->rates.network_cut)) {
        hypervisor_cut_network(!hypervisor_network_is_cut());
        sim->bus_is_cut = sim->bus_is_cut || (hypervisor_network_is_cut() && sim_below(3) == 0);
    } else {
        return false;
    }
    return true;
}

/* Until it is in post-copy nothing goes wrong; that is for the operator, or the policy, to bring about. */
static bool reach_post_copy(void)
{
    if (!hypervisor_has_job() || sim->by_policy || sim_below(10) > 0)
        return false;
    sim_operator_asks(true);
    return true;
}

/* The switch-over is short, and the most delicate time: it gets its share. */
static bool trouble(void)
{
    if (sim->calm)
        return reach_post_copy();
    unsigned rolls = hypervisor_switches() ? 5 : 1;

    for (unsigned i = 0; i < rolls; i++)
        if (trouble_of_host(any_host()) || trouble_between())
            return true;
    return false;
}

/* ---- one step ---- */

static int64_t next_due_us(void)
{
    int64_t due = broker_next_due_us();

    for (int i = 0; i < HOSTS; i++) {
        if (!sim->hosts[i].up)
            continue;
        int64_t own = loop_next_due_us(sim->hosts[i].world->agent.loop);
        if (own < due)
            due = own;
    }
    return due;
}

static void pass_time(int64_t due_us)
{
    if (due_us > sim->now_us)
        sim->now_us = due_us;
    if (sim_happens(sim->rates.time_jump))
        sim->now_us += (int64_t)sim_below(90) * USEC_PER_SEC;
    clock_fake_set(sim->now_us);
}

/* A host that is down, a libvirt that is away: they come back. */
static bool come_back(bool at_once)
{
    for (int i = 0; i < HOSTS; i++) {
        struct host *host = &sim->hosts[i];
        if (!host->up && (at_once || sim_below(sim->rates.come_back) == 0)) {
            host_start(host);
            return true;
        }
        if (host->up && !host->libvirt_up && (at_once || sim_below(sim->rates.come_back) == 0)) {
            hypervisor_back(host);
            return true;
        }
    }
    return false;
}

static void after_step(void)
{
    for (int i = 0; i < HOSTS; i++) {
        if (sim->hosts[i].dead)
            host_bury(&sim->hosts[i]);
        host_turn(&sim->hosts[i]);
        if (sim->hosts[i].dead)
            host_bury(&sim->hosts[i]);
    }
    broker_look();
    for (int i = 0; i < HOSTS; i++)
        if (sim->hosts[i].dead)
            host_bury(&sim->hosts[i]);
    promises_step();
    sim->steps++;
}

/* Takes one of the things that can happen; false if there is none but what time brings. */
static bool something_happens(void)
{
    unsigned jobs = sim_jobs(), letters = broker_count(), libvirt = hypervisor_count();
    /* jobs are quicker than what crosses the network */
    unsigned total = 4 * jobs + 2 * letters + libvirt;

    if (total == 0)
        return false;
    unsigned n = (unsigned)sim_below(total);
    if (n < 4 * jobs)
        sim_job_step(n / 4);
    else if (n < 4 * jobs + 2 * letters)
        broker_step((n - 4 * jobs) / 2);
    else
        hypervisor_step(n - 4 * jobs - 2 * letters);
    return true;
}

/* All is over: what time brings are an agent's own habits. */
static bool is_at_rest(void)
{
    for (int i = 0; i < HOSTS; i++)
        if (!sim->hosts[i].up || !sim->hosts[i].libvirt_up ||
            !sim->hosts[i].world->agent.recovered || sim->hosts[i].world->agent.migrations)
            return false;
    return broker_is_idle() && sim_jobs() == 0 && hypervisor_count() == 0;
}

/* False when nothing will happen any more. */
static bool step(void)
{
    if (is_at_rest())
        return false;
    int64_t due_us = next_due_us();
    bool done = !sim->healing && (sim->plan ? matrix_trouble() : trouble());

    if (!done)
        done = come_back(sim->healing);
    if (!done && due_us != INT64_MAX && sim_below(8) == 0) {
        int64_t soon_us = sim->now_us + (INT64_C(1) << sim_below(21));
        pass_time(due_us < soon_us ? due_us : soon_us);
        done = true;
    }
    if (!done)
        done = something_happens();
    if (!done && due_us != INT64_MAX) {
        pass_time(due_us);
        done = true;
    }
    if (!done && come_back(true))
        done = true;
    if (done)
        after_step();
    return done;
}

static void heal(void)
{
    sim_trace("healed");
    bool breaks = sim_below(6) == 0;

    if (breaks && sim_below(2) == 0)
        host_break(any_host());
    if (breaks && sim_below(3) == 0)
        sim->bus_is_cut = true;
    if (!breaks)
        hypervisor_cut_network(false);
    sim->heals_late = sim->heals_late || breaks;
    sim->healing = true;
    for (int i = 0; i < HOSTS; i++)
        sim->hosts[i].world->bindings_fail = 0;
}

/* False: there was nothing (more) to mend. */
static bool mend(void)
{
    if (sim->mended)
        return false;
    sim_trace("mended");
    sim->mended = true;
    sim->bus_is_cut = false;
    hypervisor_cut_network(false);
    for (int i = 0; i < HOSTS; i++)
        host_mend(&sim->hosts[i]);
    return true;
}

/* Of a loss that libvirt never hears of there is no end; after ten minutes it is as it stays. */
static bool waits_for_ever(void)
{
    return hypervisor_is_unheard() && hypervisor_is_in_post_copy() && sim->mended &&
           sim->now_us - sim->began_us >
               (sim->heals_late ? late_us : 0) + INT64_C(600) * USEC_PER_SEC;
}

static void come_to_rest(void)
{
    unsigned steps = 0;

    while (!sim->violation && (step() || mend())) {
        if (!sim->heals_late || sim->now_us - sim->began_us > late_us)
            (void)mend();
        if (sim->now_us - sim->began_us > rest_us || waits_for_ever())
            return;
        if (++steps > REST_STEPS_MAX)
            sim_violation("L1: after %d steps it is still not over", REST_STEPS_MAX);
    }
}

/* What could not be taken back waits for the source to ask again. */
static bool destination_is_parked(void)
{
    for (struct migration *m = sim->hosts[DESTINATION].world->agent.migrations; m; m = m->next)
        if (m->state == MACHINE_DESTINATION_PARKED)
            return true;
    return false;
}

static void run(void)
{
    unsigned trouble_steps =
        sim->plan ? PLAN_STEPS_MAX : 20 + (unsigned)sim_below(TROUBLE_STEPS_MAX);

    while (!sim->violation && sim->steps < trouble_steps && step())
        continue;
    if (sim->plan)
        sim->healing = true;
    else
        heal();
    sim->began_us = sim->now_us;
    come_to_rest();
    if (!sim->violation && destination_is_parked()) {
        sim->began_us = sim->now_us;
        broker_repeat(RPC_METHOD_rollback_live_migration_at_destination);
        come_to_rest();
    }
    if (sim->violation)
        return;
    enum ending ending = promises_end();
    sim->coverage->endings[ending]++;
}

/* Runs it and counts; true if all promises were kept. */
static bool run_and_count(struct coverage *coverage)
{
    run();
    bool good = !sim->violation;

    coverage->schedules++;
    coverage->steps += sim->steps;
    coverage->violations += !good;
    if (!good)
        printf("# seed %" PRIu64 " breaks a promise: %s\n", sim->seed, sim->violation);
    return good;
}

bool schedule_run(uint64_t seed, bool tracing, struct coverage *coverage, uint64_t *hash)
{
    open_scene(seed, NULL, tracing, coverage);
    bool good = run_and_count(coverage);

    if (!good && coverage->violations <= ARRAY_LEN(coverage->failed_seeds))
        coverage->failed_seeds[coverage->violations - 1] = seed;
    if (hash)
        *hash = sim->hash;
    close_scene();
    return good;
}

bool schedule_run_plan(uint64_t seed, const struct plan *plan, bool tracing,
                       struct coverage *coverage, unsigned *passes)
{
    open_scene(seed, plan, tracing, coverage);
    bool good = run_and_count(coverage);

    if (passes)
        *passes = sim->passes;
    close_scene();
    return good;
}
