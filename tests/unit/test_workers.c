/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/unit.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>

#include "lib/clock.h"
#include "lib/loop.h"
#include "lib/metrics.h"
#include "lib/workers.h"

/* A job that waits in its call until the test opens the gate. */
struct probe {
    atomic_bool entered, gate, left;
    bool on_loop; /* done and release ran on the loop */
    int done, released;
    enum work_end end;
    struct workers *resubmit; /* done submits once more to it */
};

static struct loop *loop;
static struct workers *workers;

static void setup(void)
{
    loop_new(&loop, &unit_err);
    workers_new(&workers, loop, 2, &unit_err);
}

static void teardown(void)
{
    workers_free(workers, 10 * USEC_PER_SEC);
    loop_free(loop);
    clock_fake_stop();
    workers = NULL;
    loop = NULL;
}

UNIT_FIXTURE(setup, teardown)

static void run(void *aux)
{
    struct probe *probe = aux;
    sigset_t blocked;

    pthread_sigmask(SIG_BLOCK, NULL, &blocked);
    atomic_store(&probe->entered, sigismember(&blocked, SIGTERM) == 1);
    while (!atomic_load(&probe->gate))
        sched_yield();
    atomic_store(&probe->left, true);
}

static void done(void *aux, enum work_end end)
{
    struct probe *probe = aux;
    struct workers *again = probe->resubmit;
    struct work work = {.name = "again", .run = run, .done = done, .aux = aux};

    probe->on_loop = loop_is_current(loop);
    probe->done++;
    probe->end = end;
    probe->resubmit = NULL;
    if (again)
        workers_submit(again, &work);
}

static void released(void *aux)
{
    struct probe *probe = aux;

    probe->on_loop &= loop_is_current(loop) && probe->done == 1;
    probe->released++;
}

static void submit(struct probe *probe, int64_t deadline_us)
{
    struct work work = {.name = "probe",
                        .deadline_us = deadline_us,
                        .run = run,
                        .done = done,
                        .release = released,
                        .aux = probe};

    workers_submit(workers, &work);
}

/* Turns the loop until the condition holds; the runner's alarm ends a test that never gets there. */
#define TURN_UNTIL(condition)                                                                      \
    while (!(condition))                                                                           \
    loop_turn(loop, 1, NULL)
#define WAIT_FOR(flag)                                                                             \
    while (!atomic_load(&(flag)))                                                                  \
    sched_yield()

UNIT_TEST(runs_and_tells,
          "a job runs on a thread without signals; its end is told once, on the loop")
{
    struct probe probe = {.gate = true};

    submit(&probe, 0);
    TURN_UNTIL(probe.released);
    UNIT_TRUE(probe.entered && probe.left && probe.on_loop);
    UNIT_EQ(probe.done, 1);
    UNIT_EQ(probe.end, WORK_DONE);
    loop_turn(loop, 0, NULL);
    UNIT_EQ(probe.released, 1);
    UNIT_EQ(workers_running(workers), 0);
}

UNIT_TEST(limit, "no more jobs run at a time than there may be threads")
{
    struct probe probes[3] = {0};

    for (int i = 0; i < 3; i++)
        submit(&probes[i], 0);
    WAIT_FOR(probes[0].entered);
    WAIT_FOR(probes[1].entered);
    UNIT_EQ(workers_running(workers), 2);
    UNIT_TRUE(!probes[2].entered);
    probes[0].gate = probes[2].gate = true;
    TURN_UNTIL(probes[2].released);
    UNIT_TRUE(!probes[1].done);
    probes[1].gate = true;
    TURN_UNTIL(probes[1].released);
}

UNIT_TEST(overdue, "an overdue call is written off at its deadline and released when it returns")
{
    struct probe probe = {0};
    uint64_t before = metric_get(METRIC_WORK_STUCK);

    clock_fake_set(1000);
    submit(&probe, 500);
    WAIT_FOR(probe.entered);
    clock_fake_set(1499);
    loop_turn(loop, 0, NULL);
    UNIT_EQ(probe.done, 0);
    clock_fake_set(1500);
    loop_turn(loop, 0, NULL);
    UNIT_EQ(probe.done, 1);
    UNIT_EQ(probe.end, WORK_OVERDUE);
    UNIT_EQ(probe.released, 0);
    UNIT_EQ(workers_stuck(workers), 1);
    UNIT_EQ(workers_running(workers), 0);
    UNIT_EQ(metric_get(METRIC_WORK_STUCK), before + 1);
    probe.gate = true;
    TURN_UNTIL(probe.released);
    UNIT_EQ(probe.done, 1);
    UNIT_EQ(workers_stuck(workers), 0);
}

UNIT_TEST(stuck_threads_make_room, "when all threads are stuck, new ones take the jobs that wait")
{
    struct probe stuck[2] = {0}, next = {.gate = true};

    clock_fake_set(0);
    submit(&stuck[0], 100);
    submit(&stuck[1], 100);
    WAIT_FOR(stuck[0].entered);
    WAIT_FOR(stuck[1].entered);
    submit(&next, 0);
    UNIT_TRUE(!next.entered);
    clock_fake_set(100);
    TURN_UNTIL(next.released);
    UNIT_EQ(next.end, WORK_DONE);
    UNIT_EQ(workers_stuck(workers), 2);
    stuck[0].gate = stuck[1].gate = true;
    TURN_UNTIL(stuck[0].released && stuck[1].released);
    UNIT_EQ(workers_stuck(workers), 0);
}

UNIT_TEST(overdue_in_queue, "a job whose deadline passes in the queue never runs")
{
    struct probe busy[2] = {0}, late = {.gate = true};

    clock_fake_set(0);
    submit(&busy[0], 0);
    submit(&busy[1], 0);
    WAIT_FOR(busy[0].entered);
    WAIT_FOR(busy[1].entered);
    submit(&late, 100);
    clock_fake_set(200);
    TURN_UNTIL(late.released);
    UNIT_EQ(late.end, WORK_OVERDUE);
    UNIT_TRUE(!late.entered);
    UNIT_EQ(workers_stuck(workers), 0);
    busy[0].gate = busy[1].gate = true;
    TURN_UNTIL(busy[0].released && busy[1].released);
    UNIT_TRUE(!late.entered);
}

UNIT_TEST(returned_wins, "a call that returned before the loop looked is done, not overdue")
{
    struct probe probe = {.gate = true};

    clock_fake_set(0);
    submit(&probe, 100);
    WAIT_FOR(probe.left);
    while (workers_running(workers))
        sched_yield();
    clock_fake_set(5000);
    TURN_UNTIL(probe.released);
    UNIT_EQ(probe.end, WORK_DONE);
}

UNIT_TEST(closing, "closing drops what waits, waits for what runs, and tells both")
{
    struct probe running[2] = {0}, waiting = {.resubmit = workers};

    submit(&running[0], 0);
    submit(&running[1], 0);
    WAIT_FOR(running[0].entered);
    WAIT_FOR(running[1].entered);
    submit(&waiting, 0);
    running[0].gate = running[1].gate = true;
    workers_free(workers, 10 * USEC_PER_SEC);
    workers = NULL;
    for (int i = 0; i < 2; i++) {
        UNIT_EQ(running[i].end, WORK_DONE);
        UNIT_EQ(running[i].released, 1);
    }
    UNIT_EQ(waiting.end, WORK_DROPPED);
    UNIT_EQ(waiting.done, 2); /* its own end, and the one of what it submitted while closing */
    UNIT_TRUE(!waiting.entered);
}

UNIT_TEST(leaves_stuck, "closing leaves a stuck call behind, which may return at any time later")
{
    static struct probe probe; /* the thread outlives the test's frame */

    submit(&probe, 0);
    WAIT_FOR(probe.entered);
    workers_free(workers, 1000);
    workers = NULL;
    UNIT_EQ(probe.done, 1);
    UNIT_EQ(probe.end, WORK_OVERDUE);
    UNIT_EQ(probe.released, 0);
    probe.gate = true;
    WAIT_FOR(probe.left);
    UNIT_EQ(probe.released, 0);
}

static atomic_uint ran;
static unsigned told;

static void count_run(void *aux)
{
    (void)aux;
    atomic_fetch_add(&ran, 1);
}

static void count_done(void *aux, enum work_end end)
{
    (void)aux;
    told += end == WORK_DONE;
}

static void *submit_many(void *aux)
{
    struct work work = {
        .name = "count", .deadline_us = 60 * USEC_PER_SEC, .run = count_run, .done = count_done};

    (void)aux;
    for (int i = 0; i < 500; i++)
        workers_submit(workers, &work);
    return NULL;
}

UNIT_TEST(many_submitters, "jobs of several threads all run and are all told")
{
    pthread_t threads[4];

    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, submit_many, NULL);
    TURN_UNTIL(told == 4 * 500);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    UNIT_EQ(ran, 4 * 500);
    UNIT_EQ(told, 4 * 500);
}
