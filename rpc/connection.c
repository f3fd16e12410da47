/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/connection.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "lib/clock.h"
#include "lib/metrics.h"
#include "lib/text.h"

enum {
    READ_BUDGET = 256,            /* frames, before the inbox is looked at again */
    PAUSE_MS = 50,                /* between looks at a loop that is behind */
    INTERNAL_ERROR_PAUSE_S = 2,   /* after 541, as oslo.messaging does (contract 1.1) */
    CUT_PATIENCE_US = 1500 * 1000 /* for a thread whose socket was cut */
};

struct connection {
    const struct connection_role *role;
    void *aux;
    struct bus_setup *setup;
    struct mailbox *inbox;
    pthread_t thread;

    pthread_mutex_t lock; /* of everything below */
    pthread_cond_t left;
    unsigned references; /* the owner's and the thread's */
    bool has_left;
    int fd; /* the session's socket, for cutting it; -1 */

    atomic_bool stop;
    _Atomic int64_t stop_deadline_us;

    /* The thread's: */
    size_t *order; /* of hosts */
    size_t at;
    int64_t delay_s;
};

/* --- life --------------------------------------------------------------------------------------- */

static void unref(struct connection *c)
{
    bool last;

    pthread_mutex_lock(&c->lock);
    last = --c->references == 0;
    pthread_mutex_unlock(&c->lock);
    if (!last)
        return;
    mailbox_unref(c->inbox);
    bus_setup_unref(c->setup);
    pthread_cond_destroy(&c->left);
    pthread_mutex_destroy(&c->lock);
    free(c->order);
    free(c);
}

/* A descriptor of our own: the library may close its one at any time. fd -1: forget it. */
static void publish_fd(struct connection *c, int fd)
{
    int copy = fd >= 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 0) : -1;

    pthread_mutex_lock(&c->lock);
    if (c->fd >= 0)
        (void)close(c->fd);
    c->fd = copy;
    pthread_mutex_unlock(&c->lock);
}

static bool is_over(struct connection *c)
{
    return atomic_load(&c->stop) &&
           (c->role->idle(c->aux) || clock_monotonic_us() >= atomic_load(&c->stop_deadline_us));
}

/* --- waiting ------------------------------------------------------------------------------------ */

static int timeout_ms(int64_t until_us)
{
    int64_t left_us = until_us - clock_monotonic_us();

    if (until_us == INT64_MAX)
        return -1;
    if (left_us <= 0)
        return 0;
    if (left_us > INT64_C(3600) * USEC_PER_SEC)
        left_us = INT64_C(3600) * USEC_PER_SEC;
    return (int)((left_us + USEC_PER_MSEC - 1) / USEC_PER_MSEC);
}

static int64_t earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* The deadline of a stop is one more thing to wake up for. */
static int64_t with_stop(struct connection *c, int64_t until_us)
{
    return atomic_load(&c->stop) ? earlier(until_us, atomic_load(&c->stop_deadline_us)) : until_us;
}

/* Waits without a session: letters are taken, so that the role's queue knows them. */
static void wait_offline(struct connection *c, int64_t until_us)
{
    while (!is_over(c) && clock_monotonic_us() < until_us) {
        struct pollfd p = {.fd = mailbox_fd(c->inbox), .events = POLLIN};
        int64_t next_us = INT64_MAX;

        (void)c->role->work(c->aux, NULL, clock_monotonic_us(), &next_us, NULL);
        (void)poll(&p, 1, timeout_ms(with_stop(c, earlier(until_us, next_us))));
    }
}

static int64_t splay_us(const struct connection *c)
{
    char hex[9];

    text_random_hex(4, hex);
    return (int64_t)(c->setup->options->kombu_reconnect_splay * (double)USEC_PER_SEC *
                     (double)strtoul(hex, NULL, 16) / 4294967296.0);
}

/* --- a session ---------------------------------------------------------------------------------- */

/* One look at socket and inbox. SESSION_DEAD when the session is over. */
static int turn(struct connection *c, struct session *s, bool *more, struct err *e)
{
    int64_t next_us = INT64_MAX, tick_us, now_us = clock_monotonic_us();
    bool paused = c->role->paused(c->aux);
    struct pollfd p[2] = {{.fd = mailbox_fd(c->inbox), .events = POLLIN}, {.fd = session_fd(s)}};

    if (session_tick(s, now_us, &tick_us, e) < 0 ||
        c->role->work(c->aux, s, now_us, &next_us, e) != SESSION_OK)
        return -1;
    next_us = with_stop(c, earlier(next_us, tick_us));
    if (paused) {
        session_heard(s, now_us);
        next_us = earlier(next_us, now_us + PAUSE_MS * USEC_PER_MSEC);
    } else {
        p[1].events = POLLIN;
        *more = *more || session_pending(s);
    }
    p[1].fd = session_fd(s); /* the library may have closed it meanwhile */
    if (poll(p, 2, *more && !paused ? 0 : timeout_ms(next_us)) < 0 && errno != EINTR)
        return err_set_errno(e, ERR_SYSTEM, errno, "poll fails");
    if (paused || (!p[1].revents && !*more))
        return 0;
    if (p[1].revents)
        session_heard(s, clock_monotonic_us());
    return session_read(s, READ_BUDGET, more, e);
}

static void serve(struct connection *c, struct session *s, struct err *e)
{
    bool more = false;

    if (c->role->ready(c->aux, s, e) != SESSION_OK)
        return;
    c->delay_s = 0;
    while (!is_over(c))
        if (turn(c, s, &more, e) < 0)
            return;
}

/* Connects to the next host and serves until the session ends. */
static void attempt(struct connection *c, struct err *e)
{
    const struct transport_url *url = c->setup->url;
    _cleanup_(str_freep) char *name = text_format("%s:%s", c->setup->name, c->role->name);
    struct session *s;
    int64_t pause_us = 0;

    if (session_open(&s, c->setup->options, &url->hosts[c->order[c->at]], url->vhost, name,
                     c->role->handler, c->aux, e) < 0) {
        c->role->lost(c->aux, e->text);
        return;
    }
    publish_fd(c, session_fd(s));
    serve(c, s, e);
    if (session_code(s) == AMQP_INTERNAL_ERROR)
        pause_us = INTERNAL_ERROR_PAUSE_S * USEC_PER_SEC;
    publish_fd(c, -1);
    if (err_is_set(e)) {
        session_free(s);
        c->role->lost(c->aux, e->text);
        metric_inc(METRIC_RPC_RECONNECT);
        wait_offline(c, clock_monotonic_us() + pause_us + splay_us(c));
    } else {
        c->role->leaving(c->aux, s);
        session_close(s);
        c->role->lost(c->aux, "the bus is closed");
    }
}

/* After the last host of a round: rabbit_retry_interval, then longer by _backoff each time. */
static void next_host(struct connection *c)
{
    const struct rabbit_options *o = c->setup->options;

    c->at = (c->at + 1) % c->setup->url->host_count;
    if (c->at != 0)
        return;
    c->delay_s = c->delay_s == 0 ? o->rabbit_retry_interval : c->delay_s + o->rabbit_retry_backoff;
    if (c->delay_s > o->rabbit_interval_max)
        c->delay_s = o->rabbit_interval_max;
    wait_offline(c, clock_monotonic_us() + c->delay_s * USEC_PER_SEC);
}

static void *run(void *argument)
{
    struct connection *c = argument;

    while (!is_over(c)) {
        struct err e = ERR_INIT;

        attempt(c, &e);
        if (!err_is_set(&e))
            break;
        next_host(c);
    }
    c->role->free(c->aux);
    pthread_mutex_lock(&c->lock);
    c->has_left = true;
    pthread_cond_signal(&c->left);
    pthread_mutex_unlock(&c->lock);
    unref(c);
    return NULL;
}

/* --- the owner's side --------------------------------------------------------------------------- */

static void make_order(struct connection *c)
{
    size_t n = c->setup->url->host_count;

    c->order = NEW_ARRAY(size_t, n);
    for (size_t i = 0; i < n; i++)
        c->order[i] = i;
    if (!text_equal(c->setup->options->kombu_failover_strategy, "shuffle"))
        return;
    for (size_t i = n; i > 1; i--) {
        char hex[9];
        size_t j, kept = c->order[i - 1];

        text_random_hex(4, hex);
        j = strtoul(hex, NULL, 16) % i;
        c->order[i - 1] = c->order[j];
        c->order[j] = kept;
    }
}

static int start_thread(struct connection *c, struct err *e)
{
    sigset_t all, before;
    char name[16];
    int r;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    r = pthread_create(&c->thread, NULL, run, c);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (r != 0)
        return err_set_errno(e, ERR_SYSTEM, r, "cannot start a thread");
    snprintf(name, sizeof(name), "amqp-%s", c->role->name);
    (void)pthread_setname_np(c->thread, name);
    return 0;
}

int connection_new(struct connection **out, const struct connection_role *role, void *aux,
                   struct bus_setup *setup, struct mailbox *inbox, struct err *e)
{
    struct connection *c = NEW(struct connection);
    pthread_condattr_t monotonic;

    pthread_mutex_init(&c->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&c->left, &monotonic);
    pthread_condattr_destroy(&monotonic);
    c->role = role;
    c->aux = aux;
    c->setup = bus_setup_ref(setup);
    c->inbox = mailbox_ref(inbox);
    c->references = 2;
    c->fd = -1;
    make_order(c);
    if (start_thread(c, e) < 0) {
        role->free(aux);
        unref(c);
        unref(c);
        return -1;
    }
    *out = c;
    return 0;
}

void connection_stop(struct connection *connection, int64_t deadline_us)
{
    if (!connection)
        return;
    atomic_store(&connection->stop_deadline_us, deadline_us);
    atomic_store(&connection->stop, true);
    mailbox_wake(connection->inbox);
}

/* With the lock held. */
static bool wait_left(struct connection *c, int64_t deadline_us)
{
    struct timespec at = {.tv_sec = deadline_us / USEC_PER_SEC,
                          .tv_nsec = deadline_us % USEC_PER_SEC * 1000};

    while (!c->has_left && pthread_cond_timedwait(&c->left, &c->lock, &at) == 0)
        ;
    return c->has_left;
}

void connection_join(struct connection *connection, int64_t deadline_us)
{
    bool left;

    if (!connection)
        return;
    pthread_mutex_lock(&connection->lock);
    left = wait_left(connection, deadline_us);
    if (!left) {
        if (connection->fd >= 0)
            (void)shutdown(connection->fd, SHUT_RDWR);
        left = wait_left(connection, clock_monotonic_us() + CUT_PATIENCE_US);
    }
    pthread_mutex_unlock(&connection->lock);
    if (left)
        pthread_join(connection->thread, NULL);
    else
        pthread_detach(connection->thread);
    unref(connection);
}
