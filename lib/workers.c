/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The worker pool. All jobs that are not yet told to the loop stand in one list, in order of submission;
 * threads take the first that is queued. A thread tells the loop by an eventfd that something changed,
 * and the loop goes through the list: returned jobs are told, overdue ones written off. So `done` and
 * `release` run in one place, and workers_free() can do the same without a running loop.
 *
 * A thread that is written off keeps its job and the pool alive (`references`) until its call returns.
 */
#include "lib/workers.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <time.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "lib/metrics.h"
#include "lib/text.h"

LOG_MODULE(workers);

enum { IDLE_SECONDS = 10 };

enum job_state { JOB_QUEUED, JOB_RUNNING, JOB_RETURNED };

struct job {
    TAILQ_ENTRY(job) link;
    struct work work;
    int64_t due_us; /* INT64_MAX = never */
    enum job_state state;
    bool written_off;
};
TAILQ_HEAD(job_list, job);

struct workers {
    pthread_mutex_t lock;
    pthread_cond_t work_ready, returned;
    struct job_list jobs;
    unsigned queued, running, stuck; /* jobs; running without stuck */
    unsigned threads, idle;          /* threads without those that are stuck */
    unsigned threads_max;
    unsigned references; /* the owner and each thread */
    bool closing;        /* workers_free() has begun: no more jobs */
    bool closed;         /* the loop side is gone */

    /* The loop's thread only. */
    struct loop *loop;
    struct loop_source *source;
    struct loop_timer *timer;
    int event_fd;
    bool in_service;
};

static void unlockp(pthread_mutex_t **lock)
{
    pthread_mutex_unlock(*lock);
}

#define LOCKED(pool)                                                                               \
    _cleanup_(unlockp) _unused_ pthread_mutex_t *locked_ = &(pool)->lock;                          \
    pthread_mutex_lock(locked_)

static void pool_destroy(struct workers *pool)
{
    pthread_cond_destroy(&pool->work_ready);
    pthread_cond_destroy(&pool->returned);
    pthread_mutex_destroy(&pool->lock);
    fd_closep(&pool->event_fd);
    free(pool);
}

/* Tells the loop to look at the list. Locked. */
static void notify(struct workers *pool)
{
    uint64_t one = 1;

    if (!pool->closed)
        (void)!write(pool->event_fd, &one, sizeof(one));
}

/* --- on a pool thread ------------------------------------------------------------------------ */

/* Waits for a queued job; NULL when the thread shall leave. Locked. */
static struct job *next_job(struct workers *pool)
{
    struct timespec until;
    struct job *job;
    int waited = 0;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += IDLE_SECONDS;
    while (!pool->queued && !pool->closed && waited == 0) {
        pool->idle++;
        waited = pthread_cond_timedwait(&pool->work_ready, &pool->lock, &until);
        pool->idle--;
    }
    if (!pool->queued || pool->closed)
        return NULL;
    TAILQ_FOREACH(job, &pool->jobs, link)
    if (job->state == JOB_QUEUED)
        break;
    return job;
}

/* Runs one job; false if the thread was written off meanwhile. Locked. */
static bool run_job(struct workers *pool, struct job *job)
{
    job->state = JOB_RUNNING;
    pool->queued--;
    pool->running++;
    pthread_mutex_unlock(&pool->lock);
    job->work.run(job->work.aux);
    pthread_mutex_lock(&pool->lock);
    job->state = JOB_RETURNED;
    if (job->written_off) {
        pool->stuck--;
        if (pool->closed)
            free(job);
        notify(pool);
        return false;
    }
    pool->running--;
    pthread_cond_broadcast(&pool->returned);
    notify(pool);
    return true;
}

static void *thread_main(void *aux)
{
    struct workers *pool = aux;
    struct job *job;
    bool counted = true, last;

    pthread_setname_np(pthread_self(), "worker");
    pthread_mutex_lock(&pool->lock);
    while (counted && (job = next_job(pool)))
        counted = run_job(pool, job);
    if (counted)
        pool->threads--;
    last = --pool->references == 0;
    pthread_mutex_unlock(&pool->lock);
    if (last)
        pool_destroy(pool);
    return NULL;
}

/* --- how a job ends, on the loop, unlocked ---------------------------------------------------- */

static void tell(struct job *job, enum work_end end)
{
    if (job->work.done)
        job->work.done(job->work.aux, end);
}

static void release(struct job *job)
{
    if (job->work.release)
        job->work.release(job->work.aux);
    free(job);
}

static void tell_dropped(struct job_list *dropped)
{
    struct job *job;

    while ((job = TAILQ_FIRST(dropped))) {
        TAILQ_REMOVE(dropped, job, link);
        tell(job, WORK_DROPPED);
        release(job);
    }
}

/* --- starting threads ------------------------------------------------------------------------ */

static int create_thread(struct workers *pool)
{
    sigset_t all, before;
    pthread_attr_t attributes;
    pthread_t thread;
    int error;

    /* Signals belong to the loop's signalfd: no pool thread may take one. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    error = pthread_create(&thread, &attributes, thread_main, pool);
    pthread_attr_destroy(&attributes);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error;
}

/* One more thread if jobs wait that no idle one takes. Locked. */
static void start_threads(struct workers *pool)
{
    while (pool->queued > pool->idle && pool->threads < pool->threads_max) {
        pool->threads++;
        pool->references++;
        if (create_thread(pool) == 0)
            return;
        /* Jobs go to the threads that there are; with none, the deadline tells the owner. */
        pool->threads--;
        pool->references--;
        log_debug("cannot start a worker thread, %u are running", pool->threads);
        return;
    }
}

void workers_submit(struct workers *pool, const struct work *work)
{
    struct job *job = NEW(struct job);

    job->work = *work;
    job->due_us = INT64_MAX;
    if (work->deadline_us > 0 &&
        __builtin_add_overflow(clock_monotonic_us(), work->deadline_us, &job->due_us))
        job->due_us = INT64_MAX;
    LOCKED(pool);
    /* Only what a job's end calls on the loop may still submit then; it learns the answer at once. */
    if (pool->closing) {
        struct job_list dropped = TAILQ_HEAD_INITIALIZER(dropped);

        assert(loop_is_current(pool->loop));
        TAILQ_INSERT_TAIL(&dropped, job, link);
        pthread_mutex_unlock(&pool->lock);
        tell_dropped(&dropped);
        pthread_mutex_lock(&pool->lock);
        return;
    }
    TAILQ_INSERT_TAIL(&pool->jobs, job, link);
    pool->queued++;
    start_threads(pool);
    pthread_cond_signal(&pool->work_ready);
    if (job->due_us != INT64_MAX)
        notify(pool);
}

/* --- on the loop ----------------------------------------------------------------------------- */

/* Writes a job off. Its thread no longer counts, so another may start. Locked. */
static void write_off(struct workers *pool, struct job *job)
{
    job->written_off = true;
    pool->running--;
    pool->stuck++;
    pool->threads--;
    metric_inc(METRIC_WORK_STUCK);
    log_debug("%s did not return within %d ms and is written off", job->work.name,
              (int)(job->work.deadline_us / USEC_PER_MSEC));
    start_threads(pool);
}

/* Takes the next job about which something is to be told, with what; NULL if there is none. */
static struct job *next_news(struct workers *pool, enum work_end *end, bool *told, bool *finished)
{
    int64_t now = clock_monotonic_us(), next_us = INT64_MAX;
    struct job *job;

    LOCKED(pool);
    TAILQ_FOREACH(job, &pool->jobs, link)
    {
        bool overdue = !job->written_off && now >= job->due_us;

        *finished = job->state == JOB_RETURNED || (overdue && job->state == JOB_QUEUED);
        if (*finished || overdue)
            break;
        if (!job->written_off && job->due_us < next_us)
            next_us = job->due_us;
    }
    if (!job) {
        if (next_us == INT64_MAX)
            loop_timer_disarm(pool->timer);
        else
            loop_timer_arm(pool->timer, next_us - now);
        return NULL;
    }
    *told = job->written_off;
    *end = job->state == JOB_RETURNED ? WORK_DONE : WORK_OVERDUE;
    if (job->state == JOB_QUEUED)
        pool->queued--;
    if (job->state == JOB_RUNNING)
        write_off(pool, job);
    if (*finished)
        TAILQ_REMOVE(&pool->jobs, job, link);
    return job;
}

static void service(void *aux)
{
    struct workers *pool = aux;
    bool told, finished;
    enum work_end end;
    struct job *job;

    pool->in_service = true;
    while ((job = next_news(pool, &end, &told, &finished))) {
        if (!told)
            tell(job, end);
        if (finished)
            release(job);
    }
    pool->in_service = false;
}

static void on_event(void *aux, uint32_t epoll_events)
{
    struct workers *pool = aux;
    uint64_t count;

    (void)epoll_events;
    (void)!read(pool->event_fd, &count, sizeof(count));
    service(pool);
}

int workers_new(struct workers **out, struct loop *loop, unsigned threads_max, struct err *e)
{
    struct workers *pool = NEW(struct workers);
    pthread_condattr_t monotonic;

    pool->loop = loop;
    pool->threads_max = threads_max;
    pool->references = 1;
    TAILQ_INIT(&pool->jobs);
    pthread_mutex_init(&pool->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&pool->work_ready, &monotonic);
    pthread_cond_init(&pool->returned, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pool->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (pool->event_fd < 0) {
        err_set_errno(e, ERR_SYSTEM, errno, "cannot make a worker pool");
        pool_destroy(pool);
        return -1;
    }
    pool->source = loop_add_fd(loop, pool->event_fd, EPOLLIN, "workers", on_event, pool, e);
    if (!pool->source) {
        pool_destroy(pool);
        return -1;
    }
    pool->timer = loop_timer_new(loop, "workers", service, pool);
    *out = pool;
    return 0;
}

/* Takes queued jobs off, so that no thread starts them. Locked. */
static void take_queued(struct workers *pool, struct job_list *dropped)
{
    struct job *job, *next;

    for (job = TAILQ_FIRST(&pool->jobs); job; job = next) {
        next = TAILQ_NEXT(job, link);
        if (job->state != JOB_QUEUED)
            continue;
        TAILQ_REMOVE(&pool->jobs, job, link);
        TAILQ_INSERT_TAIL(dropped, job, link);
    }
    pool->queued = 0;
}

/* Waits for running jobs. Locked. */
static void wait_running(struct workers *pool, int64_t wait_us)
{
    struct timespec until;
    int waited = 0;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += (time_t)(wait_us / USEC_PER_SEC);
    until.tv_nsec += (long)(wait_us % USEC_PER_SEC * 1000);
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    while (pool->running && waited == 0)
        waited = pthread_cond_timedwait(&pool->returned, &pool->lock, &until);
}

/*
 * Empties the list for good and gives what is to be told. A job whose call has not returned stays with
 * its thread, which frees it in the end; a copy stands for it here. Locked.
 */
static void close_list(struct workers *pool, struct job_list *ended)
{
    struct job *job;

    pool->closed = true;
    pthread_cond_broadcast(&pool->work_ready);
    while ((job = TAILQ_FIRST(&pool->jobs))) {
        TAILQ_REMOVE(&pool->jobs, job, link);
        if (job->state != JOB_RETURNED) {
            struct job *copy = NEW(struct job);

            *copy = *job;
            if (!job->written_off)
                write_off(pool, job);
            job = copy;
        }
        TAILQ_INSERT_TAIL(ended, job, link);
    }
}

static void tell_ended(struct job_list *ended)
{
    struct job *job;

    while ((job = TAILQ_FIRST(ended))) {
        bool returned = job->state == JOB_RETURNED;

        TAILQ_REMOVE(ended, job, link);
        if (!job->written_off)
            tell(job, returned ? WORK_DONE : WORK_OVERDUE);
        if (returned)
            release(job);
        else
            free(job);
    }
}

void workers_free(struct workers *pool, int64_t wait_us)
{
    struct job_list dropped = TAILQ_HEAD_INITIALIZER(dropped);
    struct job_list ended = TAILQ_HEAD_INITIALIZER(ended);
    bool last;

    if (!pool)
        return;
    assert(!pool->in_service);
    pthread_mutex_lock(&pool->lock);
    pool->closing = true;
    take_queued(pool, &dropped);
    wait_running(pool, wait_us);
    close_list(pool, &ended);
    pthread_mutex_unlock(&pool->lock);
    loop_source_free(pool->source);
    loop_timer_free(pool->timer);
    tell_ended(&ended);
    tell_dropped(&dropped);
    pthread_mutex_lock(&pool->lock);
    last = --pool->references == 0;
    pthread_mutex_unlock(&pool->lock);
    if (last)
        pool_destroy(pool);
}

unsigned workers_stuck(const struct workers *workers)
{
    struct workers *pool = (struct workers *)workers;

    LOCKED(pool);
    return pool->stuck;
}

unsigned workers_running(const struct workers *workers)
{
    struct workers *pool = (struct workers *)workers;

    LOCKED(pool);
    return pool->running;
}
