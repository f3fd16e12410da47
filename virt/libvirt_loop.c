/* SPDX-License-Identifier: Apache-2.0 */
#include "virt/libvirt_loop.h"

#include <errno.h>
#include <libvirt/libvirt.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

#include "lib/clock.h"
#include "lib/text.h"
#include "lib/vector.h"

enum { TIMER_TAG = 0, FIRST_ID = 1, BATCH = 32 };

struct handle {
    int id, fd, events; /* events as libvirt gives them */
    bool removed, polled;
    int64_t expires_us; /* 0 = never */
    pthread_t guard;    /* who opens it, while expires_us is set */
    virEventHandleCallback callback;
    void *opaque;
    virFreeCallback release;
};

struct timeout {
    int id, interval_ms; /* -1 = off */
    bool removed;
    int64_t due_us;
    virEventTimeoutCallback callback;
    void *opaque;
    virFreeCallback release;
};

DEFINE_VECTOR(handles, struct handle *)
DEFINE_VECTOR(timeouts, struct timeout *)

static struct {
    pthread_mutex_t lock;
    pthread_cond_t turned;
    bool registered, dispatching;
    uint64_t turns;
    int epoll_fd, timer_fd;
    int next_id;
    struct handles handles;
    struct timeouts timeouts;
    struct loop_source *source;
} state = {.lock = PTHREAD_MUTEX_INITIALIZER,
           .turned = PTHREAD_COND_INITIALIZER,
           .epoll_fd = -1,
           .timer_fd = -1,
           .next_id = FIRST_ID};

static _Thread_local int64_t guard_until_us;

/* Each direction of the mapping is a row. */
static const struct {
    int libvirt;
    uint32_t epoll;
} event_bits[] = {
    {VIR_EVENT_HANDLE_READABLE, EPOLLIN},
    {VIR_EVENT_HANDLE_WRITABLE, EPOLLOUT},
    {VIR_EVENT_HANDLE_ERROR, EPOLLERR},
    {VIR_EVENT_HANDLE_HANGUP, EPOLLHUP},
};

static uint32_t to_epoll(int events)
{
    uint32_t bits = 0;
    for (size_t i = 0; i < ARRAY_LEN(event_bits); i++)
        bits |= events & event_bits[i].libvirt ? event_bits[i].epoll : 0;
    return bits;
}

static int from_epoll(uint32_t bits)
{
    int events = 0;
    for (size_t i = 0; i < ARRAY_LEN(event_bits); i++)
        events |= bits & event_bits[i].epoll ? event_bits[i].libvirt : 0;
    return events;
}

static struct handle *find_handle(int id)
{
    for (size_t i = 0; i < state.handles.length; i++)
        if (state.handles.items[i]->id == id && !state.handles.items[i]->removed)
            return state.handles.items[i];
    return NULL;
}

static struct timeout *find_timeout(int id)
{
    for (size_t i = 0; i < state.timeouts.length; i++)
        if (state.timeouts.items[i]->id == id && !state.timeouts.items[i]->removed)
            return state.timeouts.items[i];
    return NULL;
}

/* A handle without events leaves the set, because epoll would still report a hang-up, for ever. */
static int poll_handle(struct handle *handle)
{
    struct epoll_event event = {.events = to_epoll(handle->events), .data.u64 = 0};
    event.data.u64 = (uint64_t)handle->id;
    bool want = handle->events != 0 && !handle->removed;
    int operation = want ? (handle->polled ? EPOLL_CTL_MOD : EPOLL_CTL_ADD) : EPOLL_CTL_DEL;
    if (!want && !handle->polled)
        return 0;
    handle->polled = want;
    return epoll_ctl(state.epoll_fd, operation, handle->fd, &event);
}

static void earlier(int64_t *first, int64_t at)
{
    if (at && (!*first || at < *first))
        *first = at;
}

/* Sets the timerfd to the next thing that is due; `soon` = something waits to be freed. */
static void arm_timer(bool soon)
{
    int64_t first = 0;
    for (size_t i = 0; i < state.timeouts.length; i++) {
        const struct timeout *timeout = state.timeouts.items[i];
        if (timeout->interval_ms >= 0 && !timeout->removed)
            earlier(&first, timeout->due_us);
        soon = soon || timeout->removed;
    }
    for (size_t i = 0; i < state.handles.length; i++) {
        earlier(&first, state.handles.items[i]->removed ? 0 : state.handles.items[i]->expires_us);
        soon = soon || state.handles.items[i]->removed;
    }
    struct itimerspec when = {0};
    if (first || soon) {
        int64_t wait = first ? first - clock_monotonic_us() : 1;
        wait = soon || wait < 1 ? 1 : wait;
        when.it_value.tv_sec = wait / USEC_PER_SEC;
        when.it_value.tv_nsec = wait % USEC_PER_SEC * 1000;
    }
    (void)timerfd_settime(state.timer_fd, 0, &when, NULL);
}

static int add_handle(int fd, int events, virEventHandleCallback callback, void *opaque,
                      virFreeCallback release)
{
    struct handle *handle = NEW(struct handle);
    *handle = (struct handle){.fd = fd,
                              .events = events,
                              .expires_us = guard_until_us,
                              .guard = pthread_self(),
                              .callback = callback,
                              .opaque = opaque,
                              .release = release};
    pthread_mutex_lock(&state.lock);
    handle->id = state.next_id++;
    int id = handle->id;
    if (poll_handle(handle) < 0) {
        free(handle);
        id = -1;
    } else {
        *handles_add(&state.handles) = handle;
        if (handle->expires_us)
            arm_timer(false);
    }
    pthread_mutex_unlock(&state.lock);
    return id;
}

static void update_handle(int id, int events)
{
    pthread_mutex_lock(&state.lock);
    struct handle *handle = find_handle(id);
    if (handle && handle->events != events) {
        handle->events = events;
        (void)poll_handle(handle);
    }
    pthread_mutex_unlock(&state.lock);
}

static int remove_handle(int id)
{
    pthread_mutex_lock(&state.lock);
    struct handle *handle = find_handle(id);
    if (handle) {
        handle->removed = true;
        (void)poll_handle(handle);
        (void)shutdown(handle->fd, SHUT_RDWR);
        arm_timer(true);
    }
    pthread_mutex_unlock(&state.lock);
    return handle ? 0 : -1;
}

static void set_interval(struct timeout *timeout, int interval_ms)
{
    timeout->interval_ms = interval_ms;
    timeout->due_us =
        interval_ms < 0 ? 0 : clock_monotonic_us() + (int64_t)interval_ms * USEC_PER_MSEC;
}

static int add_timeout(int interval_ms, virEventTimeoutCallback callback, void *opaque,
                       virFreeCallback release)
{
    struct timeout *timeout = NEW(struct timeout);
    *timeout = (struct timeout){.callback = callback, .opaque = opaque, .release = release};
    set_interval(timeout, interval_ms);
    pthread_mutex_lock(&state.lock);
    int id = timeout->id = state.next_id++;
    *timeouts_add(&state.timeouts) = timeout;
    if (interval_ms >= 0)
        arm_timer(false);
    pthread_mutex_unlock(&state.lock);
    return id;
}

static void update_timeout(int id, int interval_ms)
{
    pthread_mutex_lock(&state.lock);
    struct timeout *timeout = find_timeout(id);
    if (timeout) {
        bool matters = interval_ms >= 0 || timeout->interval_ms >= 0;
        set_interval(timeout, interval_ms);
        if (matters)
            arm_timer(false);
    }
    pthread_mutex_unlock(&state.lock);
}

static int remove_timeout(int id)
{
    pthread_mutex_lock(&state.lock);
    struct timeout *timeout = find_timeout(id);
    if (timeout) {
        timeout->removed = true;
        arm_timer(true);
    }
    pthread_mutex_unlock(&state.lock);
    return timeout ? 0 : -1;
}

static void run_handle(int id, uint32_t bits)
{
    pthread_mutex_lock(&state.lock);
    const struct handle *handle = find_handle(id);
    struct handle copy = handle ? *handle : (struct handle){0};
    pthread_mutex_unlock(&state.lock);
    if (handle)
        copy.callback(id, copy.fd, from_epoll(bits), copy.opaque);
}

/* Takes the next timer that is due and moves it on, as libvirt's timers repeat. */
static bool take_due(int64_t now, struct timeout *out)
{
    bool found = false;
    pthread_mutex_lock(&state.lock);
    for (size_t i = 0; i < state.timeouts.length && !found; i++) {
        struct timeout *timeout = state.timeouts.items[i];
        if (timeout->removed || timeout->interval_ms < 0 || timeout->due_us > now)
            continue;
        *out = *timeout;
        timeout->due_us = now + (int64_t)timeout->interval_ms * USEC_PER_MSEC + 1;
        found = true;
    }
    pthread_mutex_unlock(&state.lock);
    return found;
}

static void shut_expired(int64_t now)
{
    pthread_mutex_lock(&state.lock);
    for (size_t i = 0; i < state.handles.length; i++) {
        struct handle *handle = state.handles.items[i];
        if (handle->removed || !handle->expires_us || handle->expires_us > now)
            continue;
        handle->expires_us = 0;
        (void)shutdown(handle->fd, SHUT_RDWR);
    }
    pthread_mutex_unlock(&state.lock);
}

static struct handle *take_removed_handle(void)
{
    for (size_t i = 0; i < state.handles.length; i++) {
        struct handle *handle = state.handles.items[i];
        if (!handle->removed)
            continue;
        state.handles.items[i] = state.handles.items[--state.handles.length];
        return handle;
    }
    return NULL;
}

static struct timeout *take_removed_timeout(void)
{
    for (size_t i = 0; i < state.timeouts.length; i++) {
        struct timeout *timeout = state.timeouts.items[i];
        if (!timeout->removed)
            continue;
        state.timeouts.items[i] = state.timeouts.items[--state.timeouts.length];
        return timeout;
    }
    return NULL;
}

static void free_removed(void)
{
    for (;;) {
        pthread_mutex_lock(&state.lock);
        struct handle *handle = take_removed_handle();
        struct timeout *timeout = take_removed_timeout();
        pthread_mutex_unlock(&state.lock);
        if (!handle && !timeout)
            return;
        if (handle && handle->release)
            handle->release(handle->opaque);
        if (timeout && timeout->release)
            timeout->release(timeout->opaque);
        free(handle);
        free(timeout);
    }
}

static void set_dispatching(bool on)
{
    pthread_mutex_lock(&state.lock);
    state.dispatching = on;
    if (!on) {
        state.turns++;
        arm_timer(false);
        pthread_cond_broadcast(&state.turned);
    }
    pthread_mutex_unlock(&state.lock);
}

static void dispatch(void *aux _unused_, uint32_t events _unused_)
{
    struct epoll_event ready[BATCH];
    int count = epoll_wait(state.epoll_fd, ready, BATCH, 0);
    set_dispatching(true);
    for (int i = 0; i < count; i++) {
        uint64_t expirations;
        if (ready[i].data.u64 != TIMER_TAG)
            run_handle((int)ready[i].data.u64, ready[i].events);
        else if (read(state.timer_fd, &expirations, sizeof(expirations)) < 0)
            continue; /* re-armed since */
    }
    /* A handle's callback queues events behind a timer of 0 ms: they go out in the same turn. The
     * batch bounds a turn against a timer that is always due. */
    int64_t now = clock_monotonic_us();
    struct timeout due;
    for (int i = 0; i < BATCH && take_due(now, &due); i++)
        due.callback(due.id, due.opaque);
    shut_expired(now);
    free_removed();
    set_dispatching(false);
}

static int create(struct err *e)
{
    if (state.registered)
        return 0;
    _cleanup_(fd_closep) int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    _cleanup_(fd_closep) int timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = TIMER_TAG};
    if (epoll_fd < 0 || timer_fd < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, timer_fd, &event) < 0)
        return err_set_errno(e, ERR_SYSTEM, errno, "libvirt's events cannot be watched");
    state.epoll_fd = epoll_fd;
    state.timer_fd = timer_fd;
    epoll_fd = timer_fd = -1;
    /* libvirt writes to sockets that may have been shut, without MSG_NOSIGNAL. */
    (void)signal(SIGPIPE, SIG_IGN);
    virEventRegisterImpl(add_handle, update_handle, remove_handle, add_timeout, update_timeout,
                         remove_timeout);
    state.registered = true;
    return 0;
}

int libvirt_loop_bind(struct loop *loop, struct err *e)
{
    if (state.source)
        return err_set(e, ERR_INTERNAL, "libvirt's events are bound to a loop already");
    if (create(e) < 0)
        return -1;
    state.source = loop_add_fd(loop, state.epoll_fd, EPOLLIN, "libvirt", dispatch, NULL, e);
    return state.source ? 0 : -1;
}

void libvirt_loop_unbind(void)
{
    loop_source_free(state.source);
    state.source = NULL;
    free_removed();
}

void libvirt_loop_guard_begin(int64_t timeout_us)
{
    guard_until_us = clock_monotonic_us() + timeout_us;
}

void libvirt_loop_guard_end(void)
{
    guard_until_us = 0;
    pthread_mutex_lock(&state.lock);
    for (size_t i = 0; i < state.handles.length; i++)
        if (pthread_equal(state.handles.items[i]->guard, pthread_self()))
            state.handles.items[i]->expires_us = 0;
    pthread_mutex_unlock(&state.lock);
}

void libvirt_loop_break_all(void)
{
    pthread_mutex_lock(&state.lock);
    for (size_t i = 0; i < state.handles.length; i++)
        if (!state.handles.items[i]->removed)
            (void)shutdown(state.handles.items[i]->fd, SHUT_RDWR);
    pthread_mutex_unlock(&state.lock);
}

void libvirt_loop_barrier(void)
{
    pthread_mutex_lock(&state.lock);
    uint64_t turn = state.turns;
    while (state.dispatching && state.turns == turn)
        pthread_cond_wait(&state.turned, &state.lock);
    pthread_mutex_unlock(&state.lock);
}
