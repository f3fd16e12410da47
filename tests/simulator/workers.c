/* SPDX-License-Identifier: Apache-2.0 */
/*
 * In place of lib/workers.c: a job runs when the schedule says so, on the loop's thread, and its end is
 * told when the schedule says so. Pools of one thread keep the order, others do not. The one call that
 * lasts, libvirt's migration, has a thread of its own, which runs only while everything else waits.
 */
#include "lib/workers.h"

#include <pthread.h>

#include "tests/simulator/simulator.h"

enum state { QUEUED, PAUSED, RETURNED };

struct job {
    struct work work;
    struct workers *pool;
    enum state state;
    /* the thread of a call that lasts */
    bool has_thread, its_turn, thread_ended;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
};
DEFINE_VECTOR(jobs, struct job *)

struct workers {
    struct loop *loop;
    unsigned threads_max;
    bool closing;
    struct jobs jobs;
};
DEFINE_VECTOR(pools, struct workers *)

static struct pools pools;
static _Thread_local struct job *own_job;

/* ---- the thread of a call that lasts ---- */

static void give_turn(struct job *job, bool to_thread)
{
    pthread_mutex_lock(&job->lock);
    job->its_turn = to_thread;
    pthread_cond_broadcast(&job->changed);
    while (job->its_turn == to_thread && !(to_thread && job->thread_ended))
        pthread_cond_wait(&job->changed, &job->lock);
    pthread_mutex_unlock(&job->lock);
}

void sim_job_pause(void)
{
    give_turn(own_job, false);
}

static void *thread_main(void *aux)
{
    struct job *job = aux;

    own_job = job;
    pthread_mutex_lock(&job->lock);
    while (!job->its_turn)
        pthread_cond_wait(&job->changed, &job->lock);
    pthread_mutex_unlock(&job->lock);
    job->work.run(job->work.aux);
    pthread_mutex_lock(&job->lock);
    job->thread_ended = true;
    job->its_turn = false;
    pthread_cond_broadcast(&job->changed);
    pthread_mutex_unlock(&job->lock);
    return NULL;
}

static void start_thread(struct job *job)
{
    pthread_mutex_init(&job->lock, NULL);
    pthread_cond_init(&job->changed, NULL);
    job->has_thread = true;
    if (pthread_create(&job->thread, NULL, thread_main, job) != 0)
        abort();
}

/* Lets the thread run until it pauses or ends. */
static void run_thread(struct job *job)
{
    if (!job->has_thread)
        start_thread(job);
    give_turn(job, true);
    if (!job->thread_ended) {
        job->state = PAUSED;
        return;
    }
    pthread_join(job->thread, NULL);
    pthread_mutex_destroy(&job->lock);
    pthread_cond_destroy(&job->changed);
    job->state = RETURNED;
}

/* ---- jobs ---- */

static bool lasts(const struct job *job)
{
    return text_equal(job->work.name, "migrate");
}

static void run(struct job *job)
{
    if (lasts(job)) {
        run_thread(job);
        return;
    }
    job->work.run(job->work.aux);
    job->state = RETURNED;
}

static void end(struct job *job, enum work_end how)
{
    struct jobs *jobs = &job->pool->jobs;
    size_t place = 0;

    while (jobs->items[place] != job)
        place++;
    memmove(&jobs->items[place], &jobs->items[place + 1],
            (jobs->length - place - 1) * sizeof(struct job *));
    jobs->length--;
    if (job->work.done)
        job->work.done(job->work.aux, how);
    if (job->work.release)
        job->work.release(job->work.aux);
    free(job);
}

static bool may_go_on(const struct workers *pool, size_t place)
{
    return pool->jobs.items[place]->state != PAUSED && (pool->threads_max > 1 || place == 0);
}

static struct job *nth(unsigned n)
{
    for (size_t i = 0; i < pools.length; i++)
        for (size_t j = 0; j < pools.items[i]->jobs.length; j++)
            if (may_go_on(pools.items[i], j) && n-- == 0)
                return pools.items[i]->jobs.items[j];
    return NULL;
}

unsigned sim_jobs(void)
{
    unsigned n = 0;

    for (size_t i = 0; i < pools.length; i++)
        for (size_t j = 0; j < pools.items[i]->jobs.length; j++)
            n += may_go_on(pools.items[i], j);
    return n;
}

static struct host *owner(const struct workers *pool)
{
    for (int i = 0; i < HOSTS; i++)
        if (sim->hosts[i].world && sim->hosts[i].world->agent.loop == pool->loop)
            return &sim->hosts[i];
    return NULL;
}

void sim_job_step(unsigned n)
{
    struct job *job = nth(n);
    struct host *host = owner(job->pool);

    sim->acting = host;
    sim_trace("%s: %s: %s", host->name, job->work.name, job->state == QUEUED ? "runs" : "is told");
    if (job->state != QUEUED) {
        end(job, WORK_DONE);
    } else {
        run(job);
        if (job->pool->threads_max == 1) /* nothing comes between: the history's writer */
            end(job, WORK_DONE);
    }
    sim->acting = NULL;
}

void sim_jobs_resume(struct loop *loop)
{
    for (size_t i = 0; i < pools.length; i++)
        for (size_t j = 0; j < pools.items[i]->jobs.length; j++)
            if (pools.items[i]->loop == loop && pools.items[i]->jobs.items[j]->state == PAUSED)
                run_thread(pools.items[i]->jobs.items[j]);
}

/* ---- lib/workers.h ---- */

int workers_new(struct workers **out, struct loop *loop, unsigned threads_max, struct err *e)
{
    struct workers *pool = NEW(struct workers);

    (void)e;
    pool->loop = loop;
    pool->threads_max = threads_max;
    *pools_add(&pools) = pool;
    *out = pool;
    return 0;
}

void workers_submit(struct workers *pool, const struct work *work)
{
    struct job *job = NEW(struct job);

    job->work = *work;
    job->pool = pool;
    *jobs_add(&pool->jobs) = job;
    if (pool->closing)
        end(job, WORK_DROPPED);
    else if (!work->done) /* nobody is told: the end of a queue that is waited for */
        run(job);
}

void workers_free(struct workers *pool, int64_t wait_us)
{
    size_t place = 0;

    (void)wait_us;
    if (!pool)
        return;
    pool->closing = true;
    while (pool->jobs.length > 0) {
        struct job *job = pool->jobs.items[0];
        if (job->state == PAUSED)
            run_thread(job);
        end(job, job->state == RETURNED ? WORK_DONE : WORK_DROPPED);
    }
    while (pools.items[place] != pool)
        place++;
    pools.items[place] = pools.items[--pools.length];
    free(pool->jobs.items);
    free(pool);
    if (pools.length == 0) {
        free(pools.items);
        pools = (struct pools){0};
    }
}

unsigned workers_stuck(const struct workers *pool)
{
    (void)pool;
    return 0;
}

unsigned workers_running(const struct workers *pool)
{
    (void)pool;
    return 0;
}
