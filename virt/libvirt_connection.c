/* SPDX-License-Identifier: Apache-2.0 */
/* Connections to libvirtd: the owner of the events' one, and the ones lent to callers. See
 * libvirt_internal.h for the theory of operation. */
#include "virt/libvirt_internal.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>

#include "lib/clock.h"
#include "lib/fault.h"
#include "lib/metrics.h"
#include "lib/text.h"
#include "virt/libvirt_loop.h"

#define BACKOFF_FIRST_US (USEC_PER_SEC / 4)
#define BACKOFF_LAST_US  (5 * USEC_PER_SEC)
#define OPEN_LIMIT_US    (20 * USEC_PER_SEC) /* when keepalive is off */

static void notify_loop(struct libvirt *lv)
{
    uint64_t one = 1;
    if (write(lv->notify_fd, &one, sizeof(one)) < 0)
        return; /* full counter: the loop is told already */
}

static void keepalive_of(struct libvirt *lv, int *interval, unsigned *count)
{
    pthread_mutex_lock(&lv->lock);
    *interval = (int)conf_int(lv->conf, CONF_libvirt_live_migration_keepalive_interval);
    *count = (unsigned)conf_int(lv->conf, CONF_libvirt_live_migration_keepalive_count);
    pthread_mutex_unlock(&lv->lock);
}

static int64_t open_limit_us(int interval, unsigned count)
{
    return interval > 0 ? interval * ((int64_t)count + 1) * USEC_PER_SEC : OPEN_LIMIT_US;
}

static virConnectPtr open_connection(struct libvirt *lv, struct err *e)
{
    int interval;
    unsigned count;
    keepalive_of(lv, &interval, &count);
    if (fault_point("virt.connect", e) < 0)
        return NULL;
    libvirt_loop_guard_begin(open_limit_us(interval, count));
    virConnectPtr connection = virConnectOpen(lv->uri);
    if (!connection)
        libvirt_error(e, "libvirt at %s cannot be reached", lv->uri);
    /* A driver without a server (test:///) has no keepalive and needs none. */
    if (connection && interval > 0)
        (void)virConnectSetKeepAlive(connection, interval, count);
    libvirt_loop_guard_end();
    if (!connection && e)
        e->code = ERR_HYPERVISOR;
    return connection;
}

bool libvirt_is_broken(virConnectPtr connection)
{
    return virConnectIsAlive(connection) != 1;
}

/* --- lending --- */

static virConnectPtr take_idle(struct libvirt *lv, bool *up, struct err *e)
{
    virConnectPtr connection = NULL;
    pthread_mutex_lock(&lv->lock);
    *up = atomic_load(&lv->base.up) && !lv->stopping;
    if (!*up)
        err_set(e, ERR_HYPERVISOR, "libvirt at %s cannot be reached: %s", lv->uri,
                lv->stopping ? "the agent stops" : lv->why);
    else if (lv->idle_count)
        connection = lv->idle[--lv->idle_count];
    pthread_mutex_unlock(&lv->lock);
    return connection;
}

virConnectPtr libvirt_borrow(struct libvirt *lv, struct err *e)
{
    assert(!loop_is_current(lv->base.loop));
    for (;;) {
        bool up;
        virConnectPtr connection = take_idle(lv, &up, e);
        if (!up)
            return NULL;
        if (!connection)
            return open_connection(lv, e);
        if (!libvirt_is_broken(connection))
            return connection;
        virConnectClose(connection);
    }
}

void libvirt_give_back(struct libvirt *lv, virConnectPtr connection)
{
    if (!connection)
        return;
    bool kept = false;
    if (!libvirt_is_broken(connection)) {
        pthread_mutex_lock(&lv->lock);
        kept = lv->idle_count < LIBVIRT_IDLE_MAX && atomic_load(&lv->base.up) && !lv->stopping;
        if (kept)
            lv->idle[lv->idle_count++] = connection;
        pthread_mutex_unlock(&lv->lock);
    }
    if (!kept)
        virConnectClose(connection);
}

static void close_idle(struct libvirt *lv)
{
    for (;;) {
        pthread_mutex_lock(&lv->lock);
        virConnectPtr connection = lv->idle_count ? lv->idle[--lv->idle_count] : NULL;
        pthread_mutex_unlock(&lv->lock);
        if (!connection)
            return;
        virConnectClose(connection);
    }
}

static virDomainPtr look_up(virConnectPtr connection, const char *uuid, bool by_name)
{
    if (by_name && text_check_uuid(uuid, "uuid", NULL) < 0)
        return virDomainLookupByName(connection, uuid);
    return virDomainLookupByUUIDString(connection, uuid);
}

int libvirt_call_begin(struct libvirt_call *call, struct virt *virt, const char *uuid, bool by_name,
                       struct err *e)
{
    struct libvirt *lv = libvirt_of(virt);
    virConnectPtr connection = libvirt_borrow(lv, e);
    if (!connection)
        return -1;
    *call = (struct libvirt_call){.lv = lv, .connection = connection};
    if (!uuid)
        return 0;
    call->domain = look_up(connection, uuid, by_name);
    if (call->domain)
        return 0;
    const virError *last = virGetLastError();
    if (last && last->code == VIR_ERR_NO_DOMAIN)
        return err_set_sys(e, ERR_NO_INSTANCE, VIR_ERR_NO_DOMAIN,
                           "there is no domain %s on this host", uuid);
    return libvirt_call_error(call, e, "domain %s cannot be looked up", uuid);
}

int libvirt_call_judge(const struct libvirt_call *call, struct err *e)
{
    if (e && libvirt_is_broken(call->connection))
        e->code = ERR_HYPERVISOR;
    return -1;
}

void libvirt_call_end(struct libvirt_call *call)
{
    if (call->domain)
        virDomainFree(call->domain);
    if (call->connection)
        libvirt_give_back(call->lv, call->connection);
    *call = (struct libvirt_call){0};
}

/* --- the owner of the events' connection --- */

static const char *close_reason(int reason)
{
    static const char *const words[] = {
        [VIR_CONNECT_CLOSE_REASON_ERROR] = "the connection failed",
        [VIR_CONNECT_CLOSE_REASON_EOF] = "libvirtd closed the connection",
        [VIR_CONNECT_CLOSE_REASON_KEEPALIVE] = "libvirtd gave no sign of life",
        [VIR_CONNECT_CLOSE_REASON_CLIENT] = "the agent closed the connection",
    };
    return reason >= 0 && (size_t)reason < ARRAY_LEN(words) ? words[reason] : "for no known reason";
}

static void mark_down(struct libvirt *lv, const char *why)
{
    pthread_mutex_lock(&lv->lock);
    lv->broken = true;
    atomic_store(&lv->base.up, false);
    snprintf(lv->why, sizeof(lv->why), "%s", why);
    pthread_cond_broadcast(&lv->wake);
    pthread_mutex_unlock(&lv->lock);
    notify_loop(lv);
}

/* libvirt holds a lock of the connection here: note it and leave. */
static void on_close(virConnectPtr connection _unused_, int reason, void *aux)
{
    mark_down(aux, close_reason(reason));
}

static void mark_up(struct libvirt *lv)
{
    pthread_mutex_lock(&lv->lock);
    if (!lv->broken && !lv->stopping) {
        if (lv->generation++)
            metric_inc(METRIC_VIRT_RECONNECT);
        lv->why[0] = '\0';
        atomic_store(&lv->base.up, true);
    }
    pthread_mutex_unlock(&lv->lock);
    notify_loop(lv);
}

static void tell_failure(struct libvirt *lv, const struct err *e)
{
    pthread_mutex_lock(&lv->lock);
    snprintf(lv->why, sizeof(lv->why), "%s", e->text);
    if (!lv->generation && !lv->failure_told)
        lv->failure_news = lv->failure_told = true;
    pthread_mutex_unlock(&lv->lock);
    notify_loop(lv);
}

static bool wait_while_good(struct libvirt *lv)
{
    pthread_mutex_lock(&lv->lock);
    while (!lv->broken && !lv->stopping)
        pthread_cond_wait(&lv->wake, &lv->lock);
    bool stopping = lv->stopping;
    pthread_mutex_unlock(&lv->lock);
    return !stopping;
}

static bool wait_before_retry(struct libvirt *lv, int64_t delay_us)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    int64_t ns = until.tv_nsec + delay_us % USEC_PER_SEC * 1000;
    until.tv_sec += delay_us / USEC_PER_SEC + ns / INT64_C(1000000000);
    until.tv_nsec = ns % INT64_C(1000000000);
    pthread_mutex_lock(&lv->lock);
    int rc = 0;
    while (!lv->stopping && rc != ETIMEDOUT)
        rc = pthread_cond_timedwait(&lv->wake, &lv->lock, &until);
    bool stopping = lv->stopping;
    pthread_mutex_unlock(&lv->lock);
    return !stopping;
}

/* Opens, registers and serves one connection until it breaks. */
static int serve(struct libvirt *lv, struct err *e)
{
    virConnectPtr connection = open_connection(lv, e);
    if (!connection)
        return -1;
    pthread_mutex_lock(&lv->lock);
    lv->broken = false;
    pthread_mutex_unlock(&lv->lock);
    bool watched = virConnectRegisterCloseCallback(connection, on_close, lv, NULL) == 0;
    int ids[LIBVIRT_EVENTS];
    int rc = libvirt_events_register(lv, connection, ids, e);
    if (rc == 0)
        rc = libvirt_host_learn(lv, connection, e);
    if (rc == 0) {
        mark_up(lv);
        (void)wait_while_good(lv);
        atomic_store(&lv->base.up, false);
    }
    libvirt_events_deregister(connection, ids);
    if (watched)
        (void)virConnectUnregisterCloseCallback(connection, on_close);
    libvirt_loop_barrier();
    virConnectClose(connection);
    close_idle(lv);
    libvirt_host_forget(lv);
    return rc;
}

static void *own(void *aux)
{
    struct libvirt *lv = aux;
    int64_t delay_us = BACKOFF_FIRST_US;
    do {
        struct err e = ERR_INIT;
        if (serve(lv, &e) == 0) {
            delay_us = BACKOFF_FIRST_US;
            continue;
        }
        tell_failure(lv, &e);
        delay_us = delay_us * 2 > BACKOFF_LAST_US ? BACKOFF_LAST_US : delay_us * 2;
    } while (wait_before_retry(lv, delay_us));
    return NULL;
}

/* --- news for the loop --- */

static void on_notify(void *aux, uint32_t events _unused_)
{
    struct libvirt *lv = aux;
    uint64_t value;
    char why[LIBVIRT_WHY_SIZE];
    if (read(lv->notify_fd, &value, sizeof(value)) < 0)
        return;
    pthread_mutex_lock(&lv->lock);
    bool up = atomic_load(&lv->base.up);
    bool was_up = lv->told_up;
    bool went = was_up && (!up || lv->told_generation != lv->generation);
    bool first_failure = lv->failure_news && !up;
    bool came = up && (!was_up || went);
    snprintf(why, sizeof(why), "%s", lv->why);
    lv->told_up = up;
    lv->told_generation = up ? lv->generation : lv->told_generation;
    lv->failure_news = false;
    pthread_mutex_unlock(&lv->lock);
    if (went || first_failure)
        virt_tell_connection(&lv->base, false, why[0] ? why : "the connection was made again");
    if (came)
        virt_tell_connection(&lv->base, true, "");
}

int libvirt_connection_start(struct libvirt *lv, struct err *e)
{
    lv->notify_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (lv->notify_fd < 0)
        return err_set_errno(e, ERR_SYSTEM, errno, "no eventfd for libvirt's connection");
    lv->notify =
        loop_add_fd(lv->base.loop, lv->notify_fd, EPOLLIN, "libvirt-connection", on_notify, lv, e);
    if (!lv->notify)
        return -1;
    snprintf(lv->why, sizeof(lv->why), "not connected yet");
    int rc = pthread_create(&lv->thread, NULL, own, lv);
    if (rc != 0)
        return err_set_errno(e, ERR_SYSTEM, rc, "no thread for libvirt's connection");
    lv->thread_runs = true;
    (void)pthread_setname_np(lv->thread, "libvirt");
    return 0;
}

/* Every libvirt call of the process ends soon because its socket is shut, so that the join is short. */
void libvirt_connection_stop(struct libvirt *lv)
{
    pthread_mutex_lock(&lv->lock);
    lv->stopping = true;
    atomic_store(&lv->base.up, false);
    pthread_cond_broadcast(&lv->wake);
    pthread_mutex_unlock(&lv->lock);
    libvirt_loop_break_all();
    if (lv->thread_runs)
        (void)pthread_join(lv->thread, NULL);
    lv->thread_runs = false;
    close_idle(lv);
    loop_source_free(lv->notify);
    lv->notify = NULL;
}
