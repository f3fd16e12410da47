/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The libvirt provider's own header: what its files share. Nobody else includes it, except unit tests.
 *
 * Theory of operation.
 *
 * Threads. The loop runs libvirt's descriptors and timers (libvirt_loop.h): it reads events, and sends
 * and answers keepalive. It never makes a libvirt call, because every call is an RPC that waits for
 * libvirtd: registering for events, closing a connection and freeing the last reference of a domain
 * or connection included. One thread of the provider (libvirt_connection.c) owns the connection
 * for events: it opens, registers, waits, takes leave and opens again, for ever, with back-off. Callers'
 * workers make all other calls.
 *
 * Connections. One for events alone, and one for each call under way, borrowed from a few idle ones or
 * opened when none is idle (1-2 ms). So no call ever waits for another:
 * - on a shared connection one thread reads for all, and when keepalive ends the connection libvirt 9.0
 *   wakes that one only; the others may wait on (libvirt_loop.h);
 * - libvirtd reads no more from a connection that has max_client_requests (5) calls under way, nor
 *   answers its keepalive: five calls that hang behind one QEMU's monitor would cost us the events
 *   and the running migration's call. So the long migrate call has its own connection too, and an
 *   abort never stands in a queue behind a hung query;
 * - the events' connection carries no calls, so nothing delays or drops them.
 *
 * Bounds. A call on a server that hangs ends when keepalive gives up its connection: interval * (count
 * + 1) seconds after the last sign of life. Opening is bounded by the guard of libvirt_loop.h. When the
 * events' connection is given up the provider is down, and new calls fail at once; it comes up again
 * with a new connection that has its events registered.
 *
 * What a callback on the loop may still touch. libvirt's dispatch holds references of the connection
 * while it calls us. The reference that is dropped last closes the connection, which is an RPC; therefore
 * the owner thread deregisters, waits until a running dispatch is over (libvirt_loop_barrier), and only
 * then drops its own.
 *
 * What was seen when libvirtd is killed during a peer-to-peer migration (libvirt 9.0, QEMU 7.2): see
 * libvirt_migrate.c.
 */
#pragma once

#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <pthread.h>

#include "virt/virt_provider.h"

enum { LIBVIRT_IDLE_MAX = 2, LIBVIRT_CAPS_MAX = 16, LIBVIRT_WHY_SIZE = ERR_TEXT_SIZE };

/* A migration under way, so that an abort and a new speed find its call. */
struct libvirt_running {
    const char *uuid;
    bool aborted;        /* virt_migration_abort() was called for it */
    bool raise;          /* RAM gets another limit than the disks had, once its phase begins */
    bool memory_started; /* first iteration seen */
    bool over;
    int64_t bandwidth_mib; /* of RAM */
    pthread_cond_t changed;
    struct libvirt_running *next;
};

/* A worker that waits for a guest to let a device go. */
struct libvirt_detach {
    const char *uuid, *alias;
    bool removed, refused;
    pthread_cond_t changed;
    struct libvirt_detach *next;
};

struct libvirt_caps {
    char *key, *xml;
};

struct libvirt {
    struct virt base;
    char *uri;

    pthread_mutex_t lock; /* never held during a libvirt call */
    pthread_cond_t wake;
    /* under the lock: */
    struct conf *conf;
    bool stopping, broken, thread_runs;
    uint64_t generation; /* of the events' connection; 0 = never was one */
    char why[LIBVIRT_WHY_SIZE];
    virConnectPtr idle[LIBVIRT_IDLE_MAX];
    unsigned idle_count;
    struct libvirt_running *running;
    struct libvirt_detach *detaching;
    char *type, *hostname, *capabilities;
    int64_t hypervisor_version, libvirt_version;
    struct libvirt_caps caps[LIBVIRT_CAPS_MAX];
    unsigned caps_count;
    bool told_up;
    bool failure_news, failure_told; /* the first failure after start is told too */
    uint64_t told_generation;

    pthread_t thread;
    int notify_fd; /* eventfd: the loop has connection news to tell */
    struct loop_source *notify;
};

static inline struct libvirt *libvirt_of(struct virt *virt)
{
    return (struct libvirt *)virt;
}

/* --- libvirt_error.c --- */

/* The thread's last libvirt error as ours: "<text>: <libvirt's words>". Call right after the failure. */
int libvirt_error_at(struct err *e, const char *file, int line, const char *format, ...)
    _printf_(4, 5);
#define libvirt_error(e, ...) libvirt_error_at(e, __FILE__, __LINE__, __VA_ARGS__)
enum err_code libvirt_error_code(int libvirt_number);
/* Silences libvirt's default handler, which prints to standard error. */
void libvirt_error_silence(void);

/* --- libvirt_connection.c --- */

int libvirt_connection_start(struct libvirt *lv, struct err *e); /* loop thread */
void libvirt_connection_stop(struct libvirt *lv);                /* loop thread */
/* A connection for the caller's call alone. Not on the loop. ERR_HYPERVISOR. */
virConnectPtr libvirt_borrow(struct libvirt *lv, struct err *e);
void libvirt_give_back(struct libvirt *lv, virConnectPtr connection);
/* True if the connection is gone: what a call on it did is not known. */
bool libvirt_is_broken(virConnectPtr connection);

/* A borrowed connection and the domain that the call is about. */
struct libvirt_call {
    struct libvirt *lv;
    virConnectPtr connection;
    virDomainPtr domain;
};
/* uuid NULL: no domain. ERR_NO_INSTANCE when there is none. A name is accepted too when by_name. */
int libvirt_call_begin(struct libvirt_call *call, struct virt *virt, const char *uuid, bool by_name,
                       struct err *e);
void libvirt_call_end(struct libvirt_call *call);
#define LIBVIRT_CALL(name) _cleanup_(libvirt_call_end) struct libvirt_call name = {0}

/* libvirt_error() for a failed call; ERR_HYPERVISOR when its connection is gone. */
#define libvirt_call_error(call, e, ...)                                                           \
    (libvirt_error(e, __VA_ARGS__), libvirt_call_judge(call, e))
int libvirt_call_judge(const struct libvirt_call *call, struct err *e); /* -1 */

/* --- libvirt_events.c --- */

enum { LIBVIRT_EVENTS = 5 };
int libvirt_events_register(struct libvirt *lv, virConnectPtr connection, int ids[LIBVIRT_EVENTS],
                            struct err *e);
void libvirt_events_deregister(virConnectPtr connection, const int ids[LIBVIRT_EVENTS]);
/* True and *out when the event concerns us. Pure. */
bool libvirt_event_map(int event, int detail, enum virt_event *out);

/* --- libvirt.c --- */

enum virt_state libvirt_state_of(int libvirt_state);
/* libvirt_call_begin() where a missing domain is no error: *absent. */
int libvirt_begin_or_absent(struct libvirt_call *call, struct virt *virt, const char *uuid,
                            bool *absent, struct err *e);
int libvirt_power_off_now(const struct libvirt_call *call, const char *uuid, struct err *e);
int libvirt_get_xml(const struct libvirt_call *call, const char *uuid, unsigned flags, char **out,
                    struct err *e);

/* --- libvirt_life.c, libvirt_devices.c, libvirt_copy.c, libvirt_diagnostics.c --- */

int libvirt_create(struct virt *virt, const char *xml, bool paused, struct err *e);
int libvirt_define(struct virt *virt, const char *xml, struct err *e);
int libvirt_start(struct virt *virt, const char *uuid, struct err *e);
int libvirt_shutdown(struct virt *virt, const char *uuid, struct err *e);
int libvirt_reboot(struct virt *virt, const char *uuid, struct err *e);
int libvirt_power_off(struct virt *virt, const char *uuid, struct err *e);
int libvirt_save(struct virt *virt, const char *uuid, struct err *e);
int libvirt_save_remove(struct virt *virt, const char *uuid, struct err *e);
int libvirt_xml(struct virt *virt, const char *uuid, char **out, struct err *e);
int libvirt_attach(struct virt *virt, const char *uuid, const char *device_xml, struct err *e);
int libvirt_detach(struct virt *virt, const char *uuid, const char *device_xml, int64_t timeout_us,
                   struct err *e);
/* News of a device that a guest let go, or would not; loop thread. */
void libvirt_device_removed(struct libvirt *lv, const char *uuid, const char *alias, bool refused);
int libvirt_copy_disk(struct virt *virt, const char *uuid, const char *target, const char *path,
                      const char *format, struct err *e);
int libvirt_diagnostics(struct virt *virt, const char *uuid, struct json_object **out,
                        struct err *e);
/* The counters of virDomainListGetStats() as Nova's diagnostics. Pure. */
struct json_object *libvirt_diagnostics_map(const virTypedParameter *params, int count,
                                            const struct virt_guest *guest);

/* --- libvirt_resources.c --- */

int libvirt_resources(struct virt *virt, struct virt_resources *out, struct err *e);

/* --- libvirt_job.c --- */

/* The value of an integer parameter; Nova's integers are signed, a counter beyond that is as good as full. */
bool libvirt_parameter_number(const virTypedParameter *parameter, int64_t *out);
/* Typed parameters of virDomainGetJobStats or of the JOB_COMPLETED event. Pure. */
void libvirt_job_map(int type, virTypedParameterPtr params, int count, struct virt_job *out);
int libvirt_sample(struct virt *virt, const char *uuid, bool completed, struct virt_job *out,
                   struct err *e);

/* By the domain's state: no job is asked about, which the destination's may keep locked. */
/* Pure. Of a virDomainState and its reason: paused at the source, running at the destination. */
enum virt_post_copy libvirt_post_copy_map(int state, int reason);
int libvirt_post_copy(struct virt *virt, const char *uuid, enum virt_post_copy *out, struct err *e);

/* The figure of virDomainListGetStats() once it was measured, bytes a second; -1 before. Pure. */
/* Bytes a second; -1 = not measured, or not over `seconds`. */
int64_t libvirt_dirty_rate_map(const virTypedParameter *params, int count, int seconds);
int libvirt_dirty_rate_begin(struct virt *virt, const char *uuid, int seconds, struct err *e);
int libvirt_dirty_rate_look(struct virt *virt, const char *uuid, int seconds, int64_t *bytes_per_s,
                            struct err *e);
int libvirt_processor_ns(struct virt *virt, const char *uuid, int64_t *ns, struct err *e);

/* --- libvirt_migrate.c --- */

int libvirt_migrate(struct virt *virt, const struct virt_migration *migration,
                    enum virt_outcome *outcome, struct err *e);
int libvirt_set_downtime(struct virt *virt, const char *uuid, int64_t downtime_ms, struct err *e);
int libvirt_set_bandwidth(struct virt *virt, const char *uuid, int64_t mib, struct err *e);
int libvirt_start_post_copy(struct virt *virt, const char *uuid, struct err *e);
int libvirt_abort(struct virt *virt, const char *uuid, struct err *e);
/* The RAM phase of that domain's migration began; loop thread. */
void libvirt_memory_started(struct libvirt *lv, const char *uuid);
/* Flags and typed parameters of the call; `paused` = the guest does not run. Pure. */
int libvirt_migration_flags(const struct virt_migration *migration, bool paused,
                            int64_t hypervisor_version, unsigned *flags, struct err *e);
int libvirt_migration_params(const struct virt_migration *migration, unsigned flags,
                             virTypedParameterPtr *params, int *count, struct err *e);

/* --- libvirt_host.c --- */

int libvirt_host_read(struct virt *virt, struct virt_host *out, struct err *e);
int libvirt_host_facts(struct virt *virt, const struct virt_guest *guest,
                       struct virt_host_facts *out, struct err *e);
struct json_object *libvirt_status(struct virt *virt);
/* Facts of the host that just connected; capabilities of before are forgotten. */
int libvirt_host_learn(struct libvirt *lv, virConnectPtr connection, struct err *e);
void libvirt_host_forget(struct libvirt *lv);
/* The host's capabilities, kept for as long as the connection lasts; the caller frees. */
int libvirt_host_capabilities(const struct libvirt_call *call, char **out, struct err *e);
/* MemTotal and MemAvailable in bytes. */
int libvirt_host_memory(int64_t *total, int64_t *available, struct err *e);
