/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event loop. epoll tells descriptors; a timerfd is set to the earliest deadline of a heap of
 * timers, because epoll's own timeout counts whole milliseconds; one signalfd and one eventfd are
 * sources like any other.
 *
 * A turn takes a batch of events from epoll, so a callback can free a source that is later in the batch.
 * Freed sources are therefore kept on `dead` until the turn ends.
 */
#include "lib/loop.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "lib/text.h"

LOG_MODULE(loop);

enum { BATCH = 64, NAMES_MAX = 128, SIGNALS_MAX = 65, INBOX_BATCH = 256 };

struct loop_source {
    LIST_ENTRY(loop_source) link;
    struct loop *loop;
    int fd;
    loop_fd_fn fn; /* NULL = freed in this turn */
    void *aux;
    struct loop_slow *slow; /* NULL: it calls others, which are measured one by one */
};

struct loop_timer {
    LIST_ENTRY(loop_timer) link;
    struct loop *loop;
    int64_t due_us;
    uint64_t sequence; /* of arming: order among equal deadlines */
    size_t place;      /* in the heap from 1; 0 = not armed */
    loop_fn fn;
    void *aux;
    struct loop_slow *slow;
};

struct post {
    STAILQ_ENTRY(post) link;
    const char *name;
    loop_fn fn;
    void *aux;
};
STAILQ_HEAD(post_list, post);
LIST_HEAD(source_list, loop_source);
LIST_HEAD(timer_list, loop_timer);

struct loop {
    int epoll_fd, timer_fd, event_fd, signal_fd;
    _Atomic pthread_t thread;
    atomic_bool quit;
    bool in_turn;

    struct source_list sources, dead;
    struct timer_list timers;
    struct loop_timer **heap; /* [1] is the earliest */
    size_t armed, heap_capacity;
    uint64_t sequence;
    int64_t timer_fd_due_us; /* what the timerfd is set to, 0 = off */

    sigset_t signals;
    struct {
        loop_signal_fn fn;
        void *aux;
    } handlers[SIGNALS_MAX];

    pthread_mutex_t inbox_lock; /* for inbox alone */
    struct post_list inbox;

    struct loop_slow slow[NAMES_MAX];
    unsigned slow_count;
    struct log_rate slow_rate;
};

/* --- how long callbacks take ----------------------------------------------------------------- */

static struct loop_slow *slow_by_name(struct loop *loop, const char *name)
{
    for (unsigned i = 0; i < loop->slow_count; i++)
        if (loop->slow[i].name == name || text_equal(loop->slow[i].name, name))
            return &loop->slow[i];
    if (loop->slow_count == NAMES_MAX - 1)
        name = "other";
    if (loop->slow_count == NAMES_MAX)
        return &loop->slow[NAMES_MAX - 1];
    loop->slow[loop->slow_count].name = name;
    return &loop->slow[loop->slow_count++];
}

static void measure(struct loop *loop, struct loop_slow *slow, int64_t start_us)
{
    int64_t took_us = clock_monotonic_us() - start_us;

    if (!slow)
        return;
    slow->calls++;
    if (took_us > slow->longest_us)
        slow->longest_us = took_us;
    if (took_us > LOOP_SLOW_US && log_rate_ok(&loop->slow_rate, log_module_name_))
        log_warning("%s held the loop for %d ms", slow->name, (int)(took_us / USEC_PER_MSEC));
}

unsigned loop_slowest(const struct loop *loop, struct loop_slow *out, unsigned capacity)
{
    unsigned n = 0;

    for (unsigned i = 0; i < loop->slow_count; i++) {
        unsigned at = n < capacity ? n++ : n;

        while (at > 0 && out[at - 1].longest_us < loop->slow[i].longest_us) {
            if (at < capacity)
                out[at] = out[at - 1];
            at--;
        }
        if (at < capacity)
            out[at] = loop->slow[i];
    }
    return n;
}

/* --- descriptors ----------------------------------------------------------------------------- */

static struct loop_source *add_source(struct loop *loop, int fd, uint32_t epoll_events,
                                      struct loop_slow *slow, loop_fd_fn fn, void *aux)
{
    struct loop_source *source = NEW(struct loop_source);
    struct epoll_event event = {.events = epoll_events, .data.ptr = source};

    if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
        free(source);
        return NULL;
    }
    *source = (struct loop_source){.loop = loop, .fd = fd, .fn = fn, .aux = aux, .slow = slow};
    LIST_INSERT_HEAD(&loop->sources, source, link);
    return source;
}

struct loop_source *loop_add_fd(struct loop *loop, int fd, uint32_t epoll_events, const char *name,
                                loop_fd_fn fn, void *aux, struct err *e)
{
    struct loop_slow *slow = slow_by_name(loop, name);
    struct loop_source *source = add_source(loop, fd, epoll_events, slow, fn, aux);

    if (!source)
        err_set_errno(e, ERR_SYSTEM, errno, "cannot watch descriptor %d (%s)", fd, name);
    return source;
}

int loop_source_set_events(struct loop_source *source, uint32_t epoll_events, struct err *e)
{
    struct epoll_event event = {.events = epoll_events, .data.ptr = source};

    if (epoll_ctl(source->loop->epoll_fd, EPOLL_CTL_MOD, source->fd, &event) < 0)
        return err_set_errno(e, ERR_SYSTEM, errno, "cannot watch descriptor %d (%s)", source->fd,
                             source->slow->name);
    return 0;
}

void loop_source_free(struct loop_source *source)
{
    struct loop *loop;

    if (!source || !source->fn)
        return;
    loop = source->loop;
    (void)epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, source->fd, NULL);
    LIST_REMOVE(source, link);
    source->fn = NULL;
    if (loop->in_turn)
        LIST_INSERT_HEAD(&loop->dead, source, link);
    else
        free(source);
}

static void bury_dead(struct loop *loop)
{
    struct loop_source *source;

    while ((source = LIST_FIRST(&loop->dead))) {
        LIST_REMOVE(source, link);
        free(source);
    }
}

/* --- timers: a binary heap ------------------------------------------------------------------- */

static bool earlier(const struct loop_timer *a, const struct loop_timer *b)
{
    return a->due_us != b->due_us ? a->due_us < b->due_us : a->sequence < b->sequence;
}

static void put_at(struct loop *loop, size_t place, struct loop_timer *timer)
{
    loop->heap[place] = timer;
    timer->place = place;
}

/* Puts the timer where `place` is free, moving others until the heap is in order. */
static void settle(struct loop *loop, size_t place, struct loop_timer *timer)
{
    while (place > 1 && earlier(timer, loop->heap[place / 2])) {
        put_at(loop, place, loop->heap[place / 2]);
        place /= 2;
    }
    for (size_t child = 2 * place; child <= loop->armed; child = 2 * place) {
        if (child < loop->armed && earlier(loop->heap[child + 1], loop->heap[child]))
            child++;
        if (!earlier(loop->heap[child], timer))
            break;
        put_at(loop, place, loop->heap[child]);
        place = child;
    }
    put_at(loop, place, timer);
}

struct loop_timer *loop_timer_new(struct loop *loop, const char *name, loop_fn fn, void *aux)
{
    struct loop_timer *timer = NEW(struct loop_timer);

    timer->loop = loop;
    timer->fn = fn;
    timer->aux = aux;
    timer->slow = slow_by_name(loop, name);
    LIST_INSERT_HEAD(&loop->timers, timer, link);
    return timer;
}

void loop_timer_arm(struct loop_timer *timer, int64_t delay_us)
{
    struct loop *loop = timer->loop;

    loop_timer_disarm(timer);
    if (__builtin_add_overflow(clock_monotonic_us(), delay_us > 0 ? delay_us : 0, &timer->due_us))
        timer->due_us = INT64_MAX;
    timer->sequence = loop->sequence++;
    if (loop->armed + 2 > loop->heap_capacity) {
        loop->heap_capacity = loop->heap_capacity ? 2 * loop->heap_capacity : 16;
        /* NOLINTNEXTLINE(bugprone-sizeof-expression): an array of pointers */
        loop->heap = mem_resize(loop->heap, loop->heap_capacity * sizeof(*loop->heap));
    }
    loop->armed++;
    settle(loop, loop->armed, timer);
}

void loop_timer_disarm(struct loop_timer *timer)
{
    struct loop *loop = timer->loop;
    size_t place = timer->place;
    struct loop_timer *last;

    if (!place)
        return;
    timer->place = 0;
    last = loop->heap[loop->armed--];
    if (last != timer)
        settle(loop, place, last);
}

bool loop_timer_armed(const struct loop_timer *timer)
{
    return timer->place != 0;
}

int64_t loop_next_due_us(const struct loop *loop)
{
    return loop->armed ? loop->heap[1]->due_us : INT64_MAX;
}

void loop_timer_free(struct loop_timer *timer)
{
    if (!timer)
        return;
    loop_timer_disarm(timer);
    LIST_REMOVE(timer, link);
    free(timer);
}

static void run_timers(struct loop *loop)
{
    uint64_t before = loop->sequence; /* what is armed by these calls waits for the next turn */

    while (loop->armed) {
        struct loop_timer *timer = loop->heap[1];
        struct loop_slow *slow = timer->slow;
        int64_t now = clock_monotonic_us();

        if (timer->due_us > now || timer->sequence >= before)
            return;
        loop_timer_disarm(timer);
        timer->fn(timer->aux); /* may free the timer */
        measure(loop, slow, now);
    }
}

/* Sets the timerfd to the first deadline. Returns whether something is due already. */
static bool prepare_timer_fd(struct loop *loop)
{
    int64_t due_us = loop->armed ? loop->heap[1]->due_us : 0;
    int64_t delay_us = due_us - clock_monotonic_us();
    struct itimerspec when = {0};

    if (loop->armed && delay_us <= 0)
        return true;
    if (due_us == loop->timer_fd_due_us)
        return false;
    if (loop->armed) {
        when.it_value.tv_sec = delay_us / USEC_PER_SEC;
        when.it_value.tv_nsec = delay_us % USEC_PER_SEC * 1000;
    }
    (void)timerfd_settime(loop->timer_fd, 0, &when, NULL);
    loop->timer_fd_due_us = due_us;
    return false;
}

static void on_timer_fd(void *aux, uint32_t epoll_events)
{
    struct loop *loop = aux;
    uint64_t expirations;

    (void)epoll_events;
    (void)!read(loop->timer_fd, &expirations, sizeof(expirations));
    loop->timer_fd_due_us = 0;
}

/* --- signals --------------------------------------------------------------------------------- */

static void on_signal_fd(void *aux, uint32_t epoll_events)
{
    struct loop *loop = aux;
    struct signalfd_siginfo info;

    (void)epoll_events;
    while (read(loop->signal_fd, &info, sizeof(info)) == sizeof(info))
        if (info.ssi_signo < SIGNALS_MAX && loop->handlers[info.ssi_signo].fn)
            loop->handlers[info.ssi_signo].fn(loop->handlers[info.ssi_signo].aux,
                                              (int)info.ssi_signo);
}

int loop_add_signal(struct loop *loop, int signal_number, loop_signal_fn fn, void *aux,
                    struct err *e)
{
    bool first = loop->signal_fd < 0;
    int fd;

    assert(signal_number > 0 && signal_number < SIGNALS_MAX);
    sigaddset(&loop->signals, signal_number);
    if (pthread_sigmask(SIG_BLOCK, &loop->signals, NULL) != 0)
        return err_set(e, ERR_SYSTEM, "cannot block signal %d", signal_number);
    fd = signalfd(loop->signal_fd, &loop->signals, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0)
        return err_set_errno(e, ERR_SYSTEM, errno, "cannot take signal %d", signal_number);
    loop->signal_fd = fd;
    loop->handlers[signal_number].fn = fn;
    loop->handlers[signal_number].aux = aux;
    if (first && !loop_add_fd(loop, fd, EPOLLIN, "signal", on_signal_fd, loop, e))
        return -1;
    return 0;
}

/* --- the inbox ------------------------------------------------------------------------------- */

static void wake(struct loop *loop)
{
    uint64_t one = 1;

    /* It can fail only when the counter is full, and then the loop wakes anyway. */
    (void)!write(loop->event_fd, &one, sizeof(one));
}

void loop_post(struct loop *loop, const char *name, loop_fn fn, void *aux)
{
    struct post *post = NEW(struct post);
    bool was_empty;

    *post = (struct post){.name = name, .fn = fn, .aux = aux};
    pthread_mutex_lock(&loop->inbox_lock);
    was_empty = STAILQ_EMPTY(&loop->inbox);
    STAILQ_INSERT_TAIL(&loop->inbox, post, link);
    /* Under the lock, so that a loop that takes the last post and is freed is not touched later. */
    if (was_empty)
        wake(loop);
    pthread_mutex_unlock(&loop->inbox_lock);
}

static struct post *take_post(struct loop *loop)
{
    struct post *post;

    pthread_mutex_lock(&loop->inbox_lock);
    post = STAILQ_FIRST(&loop->inbox);
    if (post)
        STAILQ_REMOVE_HEAD(&loop->inbox, link);
    pthread_mutex_unlock(&loop->inbox_lock);
    return post;
}

/* Bounded, so that a callback that posts itself again leaves descriptors and timers their turn. */
static void on_event_fd(void *aux, uint32_t epoll_events)
{
    struct loop *loop = aux;
    struct post *post = NULL;
    uint64_t count;

    (void)epoll_events;
    (void)!read(loop->event_fd, &count, sizeof(count));
    for (int i = 0; i < INBOX_BATCH && (post = take_post(loop)); i++) {
        int64_t start = clock_monotonic_us();

        post->fn(post->aux);
        measure(loop, slow_by_name(loop, post->name), start);
        free(post);
    }
    if (post)
        wake(loop);
}

/* --- the loop itself ------------------------------------------------------------------------- */

int loop_new(struct loop **out, struct err *e)
{
    _cleanup_(loop_freep) struct loop *loop = NEW(struct loop);

    loop->signal_fd = -1;
    loop->slow_rate = (struct log_rate)LOG_RATE_INIT(10 * USEC_PER_SEC, 5);
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    loop->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    loop->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    atomic_store(&loop->thread, pthread_self());
    sigemptyset(&loop->signals);
    STAILQ_INIT(&loop->inbox);
    pthread_mutex_init(&loop->inbox_lock, NULL);
    if (loop->epoll_fd < 0 || loop->timer_fd < 0 || loop->event_fd < 0)
        return err_set_errno(e, ERR_SYSTEM, errno, "cannot make an event loop");
    if (!add_source(loop, loop->timer_fd, EPOLLIN, NULL, on_timer_fd, loop) ||
        !add_source(loop, loop->event_fd, EPOLLIN, NULL, on_event_fd, loop))
        return err_set_errno(e, ERR_SYSTEM, errno, "cannot make an event loop");
    *out = STEAL(loop);
    return 0;
}

void loop_free(struct loop *loop)
{
    struct loop_source *source;
    struct loop_timer *timer;
    struct post *post;

    if (!loop)
        return;
    assert(!loop->in_turn);
    while ((source = LIST_FIRST(&loop->sources)))
        loop_source_free(source);
    while ((timer = LIST_FIRST(&loop->timers)))
        loop_timer_free(timer);
    while ((post = take_post(loop)))
        free(post);
    pthread_mutex_destroy(&loop->inbox_lock);
    free(loop->heap);
    fd_closep(&loop->signal_fd);
    fd_closep(&loop->event_fd);
    fd_closep(&loop->timer_fd);
    fd_closep(&loop->epoll_fd);
    free(loop);
}

static void dispatch(struct loop *loop, struct loop_source *source, uint32_t epoll_events)
{
    struct loop_slow *slow = source->slow;
    int64_t start = clock_monotonic_us();

    if (!source->fn)
        return;
    source->fn(source->aux, epoll_events);
    measure(loop, slow, start);
}

int loop_turn(struct loop *loop, int timeout_ms, struct err *e)
{
    struct epoll_event events[BATCH];
    int n;

    assert(!loop->in_turn);
    atomic_store(&loop->thread, pthread_self());
    if (prepare_timer_fd(loop))
        timeout_ms = 0;
    n = epoll_wait(loop->epoll_fd, events, BATCH, timeout_ms);
    if (n < 0 && errno != EINTR)
        return err_set_errno(e, ERR_SYSTEM, errno, "the event loop cannot wait");
    loop->in_turn = true;
    for (int i = 0; i < n; i++)
        dispatch(loop, events[i].data.ptr, events[i].events);
    run_timers(loop);
    loop->in_turn = false;
    bury_dead(loop);
    return 0;
}

int loop_run(struct loop *loop, struct err *e)
{
    while (!atomic_exchange(&loop->quit, false))
        if (loop_turn(loop, -1, e) < 0)
            return -1;
    return 0;
}

void loop_quit(struct loop *loop)
{
    atomic_store(&loop->quit, true);
    wake(loop);
}

bool loop_is_current(const struct loop *loop)
{
    return pthread_equal(atomic_load(&loop->thread), pthread_self());
}
