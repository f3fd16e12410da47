/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simulator: two agents in one process, and all that is around them played from one seed. The agents are the real
 * ones, each in a world of tests/unit/agent_world.h; what they ask of the hypervisor, the bus and the clock is answered
 * by the parts below, and a schedule (schedule.c) decides at each step which of all the things that could happen next
 * does happen. No real time passes, no thread runs beside another: the same seed gives the same trace.
 *
 *     workers.c     stands in for lib/workers.c: jobs wait until the schedule runs them, and tells their ends
 *     broker.c      requests and replies between the hosts: late, twice, in another order, never
 *     hypervisor.c  libvirt's peer-to-peer migration, which goes on without the agents
 *     post_copy.c   the guest runs at the destination before its memory is there, and its network is lost
 *     host.c        the death of an agent and its next life; fault points
 *     promises.c    what must hold at each step and at the end (promises S1 to S3, invariants I1, I3, I4)
 *     matrix.c      instead of chance: one deed at each pass of each fault point, and nothing else
 *     coverage.c    which rows of the machine and which fault points were reached
 *
 * A death at a fault point: from there on the agent has no effect any more (all fault points fail, wiring, hypervisor,
 * bus and control plane take nothing of it); its files are put back to what they were at that point, and when the step
 * is over its memory goes.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "lib/vector.h"
#include "tests/unit/agent_world.h"

enum { SOURCE = 0, DESTINATION = 1, HOSTS = 2 };

/* ---- what a seed decides ---- */

/* Of a thousand steps (or passes, messages), in so many that happens. */
struct rates {
    unsigned crash, libvirt_lost, libvirt_restart, job_fails, guest_dies, operators, broken,
        bus_cut;
    unsigned fault_error, fault_crash;
    unsigned letter_lost, letter_twice, letter_late, cast_fails, reply_lost;
    unsigned bindings_fail, time_jump, mended, network_cut;
    unsigned come_back; /* one of so many steps */
};

struct host {
    const char *name;
    struct world *world;
    bool up;            /* an agent runs */
    bool dead;          /* it died within this step */
    bool libvirt_up;    /* its connection to libvirt */
    const char *broken; /* fault points that begin so fail, until it is mended */
    int64_t broken_since_us;
    bool gave_up;       /* that lasted longer than an agent tries */
    unsigned crashes;   /* so far */
    char *files, *kept; /* its directories, and their copy of the moment of death */
};

/* ---- matrix.c ---- */

enum way {
    WAY_MOVE,
    WAY_ABORT,
    WAY_FORCE,
    WAY_POST_COPY,
    WAYS
}; /* what an operator asks for meanwhile */
enum deed {
    DEED_NOTHING,
    DEED_DEATH,       /* of the agent that passes, there and then */
    DEED_OTHER_DEATH, /* the rest as soon as the step is over */
    DEED_FAILURE,
    DEED_LIBVIRT_SOURCE, /* its libvirtd is restarted */
    DEED_LIBVIRT_DESTINATION,
    DEED_BUS, /* away for a while */
    DEED_CONTROL_PLANE,
    DEED_NETWORK, /* that of the migrations, for a while */
    DEEDS
};
struct plan {
    enum way way;
    enum deed deed;
    unsigned pass; /* of all fault points on both hosts, from 1 on */
};

/* ---- coverage.c ---- */

enum { ROWS_MAX = 128, POINTS_MAX = 96, POINT_NAME = 40 };
enum ending {
    ENDED_COMPLETED,
    ENDED_FAILED,
    ENDED_CANCELLED,
    ENDED_ERROR,
    ENDED_UNTAKEN, /* the request was lost, or refused */
    ENDED_PARKED,
    ENDINGS
};
enum post_copy_count {
    POST_COPY_BEGUN,
    POST_COPY_BY_POLICY,
    POST_COPY_NETWORK_CUT,
    POST_COPY_LOST_SOURCE, /* libvirt there says that it failed */
    POST_COPY_LOST_DESTINATION,
    POST_COPY_RECOVERED, /* by the agents */
    POST_COPY_BY_ITSELF, /* ended, although libvirt had said that it failed */
    POST_COPY_COMPLETED, /* otherwise */
    POST_COPY_TORN,      /* one of the QEMUs ended, by itself or by libvirt */
    POST_COPY_STRANDED,  /* not started at the destination */
    POST_COPY_UNHEARD,   /* waits for ever: libvirt at the destination does not hear of the loss */
    POST_COPY_COUNTS
};
/* Shared by all processes that run schedules. */
struct coverage {
    uint64_t schedules, violations, steps, endings[ENDINGS];
    uint64_t crashes, crashes_at_points, faults, lost, repeated, libvirt_lost, libvirt_restarts,
        job_failures, guests_died, aborts, forced, bus_cuts, left_behind;
    uint64_t rows[ROWS_MAX];
    struct {
        char name[POINT_NAME];
        uint64_t passed, failed, crashed;
    } points[POINTS_MAX];
    uint64_t parked_source, parked_destination;
    uint64_t post_copy[POST_COPY_COUNTS];
    uint64_t parked_why[4]; /* the guest died, libvirt's last word, no answer, broken for long */
    uint64_t failed_seeds[16];
};

struct sim {
    uint64_t seed, random;
    uint64_t hash; /* of the trace */
    bool tracing;
    bool healing; /* nothing goes wrong any more */
    unsigned steps;
    int64_t now_us, began_us;
    struct rates rates;
    const struct plan *plan; /* NULL: chance rules */
    unsigned passes, back_at_step;
    struct host *deed_host;
    bool deed_due, operator_asked;
    bool standalone, bus_is_cut;
    bool post_copy, force_asked; /* it is permitted; by an operator */
    bool calm, by_policy;        /* until it is in post-copy; which nobody asks for */
    bool heals_late;             /* what is broken and cut stays so for half an hour */
    bool unconfirmed;            /* a source asked for the destination's word in vain */
    bool mended;
    struct host hosts[HOSTS];
    struct host *acting; /* whose code runs; NULL */
    struct broker *broker;
    struct hypervisor *hypervisor;
    struct promises *promises;
    struct coverage *coverage;
    char *violation; /* the first; the schedule is over */
};
/* The one of this process: what is linked in place of the agent's parts has no other way to it. */
extern struct sim *sim;

/* ---- schedule.c ---- */
/* Runs the schedule of a seed; false: a promise was broken, and it was told. */
bool schedule_run(uint64_t seed, bool tracing, struct coverage *coverage, uint64_t *hash);
/* The same without trouble but the plan's. `passes` (may be NULL): of fault points that there were. */
bool schedule_run_plan(uint64_t seed, const struct plan *plan, bool tracing,
                       struct coverage *coverage, unsigned *passes);
void sim_operator_asks(bool force);
uint64_t sim_below(uint64_t limit);
bool sim_happens(unsigned of_thousand);
void sim_trace(const char *format, ...) _printf_(1, 2);
void sim_violation(const char *format, ...) _printf_(1, 2);

/* ---- matrix.c ---- */
/* A fault point of a run with a plan. */
int matrix_pass(struct host *host, const char *point, struct err *e);
/* A step's trouble: the plan's, when it is due. */
bool matrix_trouble(void);
/* Every deed at every pass of the seed's order; the share-th of so many shares of it. */
void matrix_run(uint64_t seed, unsigned share, unsigned shares, struct coverage *coverage);
int matrix_parse(const char *text, struct plan *plan, struct err *e);

/* ---- workers.c ---- */
/* Jobs that could begin, and those that have returned and wait to be told. */
unsigned sim_jobs(void);
/* Runs or tells the n-th of them. */
void sim_job_step(unsigned n);
/* On a job's thread: gives the turn back until sim_jobs_resume(). */
void sim_job_pause(void);
void sim_jobs_resume(struct loop *loop);

/* ---- broker.c ---- */
struct broker *broker_new(void);
void broker_free(struct broker *broker);
void broker_watch(struct host *host);
/* Things that can happen to letters now; does the n-th of them. */
unsigned broker_count(void);
bool broker_is_idle(void);
/* One of the former letters comes again, however late. */
void broker_repeat_former(void);
/* The same of one method, if there was one. */
void broker_repeat(enum rpc_method_id method);
void broker_step(unsigned n);
/* What is to be done at once: answers that were given, times that are over. */
void broker_look(void);
int64_t broker_next_due_us(void);
/* The agent of that host is dead: its calls are forgotten, what it has not taken comes again. */
void broker_host_died(struct host *host);
void broker_host_gone(struct host *host);
/* From the conductor. Arguments are consumed. */
void broker_send(struct host *to, enum rpc_method_id method, struct json_object *args);

/* ---- hypervisor.c ---- */
bool hypervisor_has_paused_by_force(void);
struct hypervisor *hypervisor_new(void);
void hypervisor_free(struct hypervisor *hypervisor);
void hypervisor_attach(struct host *host);
unsigned hypervisor_count(void);
void hypervisor_step(unsigned n);
bool hypervisor_has_job(void);
void hypervisor_job_fails(void);
/* The guest's QEMU ends, wherever it is. */
void hypervisor_guest_dies(void);
bool hypervisor_switches(void); /* between the guest's stop at the source and the end */
bool hypervisor_guest_died(void);
bool hypervisor_last_word_missing(void);
void hypervisor_lose_connection(struct host *host);
void hypervisor_restart(struct host *host);
void hypervisor_back(struct host *host);
void hypervisor_host_gone(struct host *host);
enum virt_state hypervisor_state(const struct host *host);

/* ---- post_copy.c ---- */
/* The guest stopped at the source for it, and its memory is not all at the destination. */
bool hypervisor_is_in_post_copy(void);
/* In post-copy: both QEMUs are there, but for what libvirt and QEMU did themselves. */
bool hypervisor_is_whole(void);
/* One of them is gone, by their doing, or was never started. */
bool hypervisor_cannot_go_on(void);
/* Libvirt at the destination never hears of a loss. */
bool hypervisor_is_unheard(void);
bool hypervisor_network_is_cut(void);
void hypervisor_cut_network(bool cut);

/* ---- host.c ---- */
void host_open(struct host *host, const char *name);
void host_close(struct host *host);
void host_turn(struct host *host); /* its loop, as far as there is something */
void host_die(struct host *host);  /* within a step, or between two */
void host_bury(struct host *host); /* after the step */
void host_start(struct host *host);
void host_break(struct host *host); /* something of its fails from now on */
void host_mend(struct host *host);
bool host_has_file(const struct host *host, const char *name); /* below instances_path */

/* ---- promises.c ---- */
struct promises *promises_new(void);
void promises_free(struct promises *promises);
void promises_read(const struct host *host); /* an agent reads the guest's state */
void promises_step(void);
enum ending promises_end(void);

/* ---- coverage.c ---- */
void coverage_pass(const char *point, bool failed, bool crashed);
void coverage_print(const struct coverage *coverage);
/* Rows without a reason to be left out that were never taken: 0 = none. */
unsigned coverage_missing(const struct coverage *coverage);
