/* SPDX-License-Identifier: Apache-2.0 */
/* libvirt's events: which concern us, and on to the agent. Callbacks run on the loop. */
#include "virt/libvirt_internal.h"

#include "lib/clock.h"

enum { ANY = -1 };

/* First match counts. A crash and a shutdown come with a STOPPED event or are one. */
static const struct {
    int event, detail;
    enum virt_event ours;
} event_rows[] = {
    {VIR_DOMAIN_EVENT_STARTED, ANY, VIRT_EVENT_STARTED},
    {VIR_DOMAIN_EVENT_SUSPENDED, VIR_DOMAIN_EVENT_SUSPENDED_MIGRATED, VIRT_EVENT_PAUSED_MIGRATION},
    {VIR_DOMAIN_EVENT_SUSPENDED, VIR_DOMAIN_EVENT_SUSPENDED_POSTCOPY, VIRT_EVENT_PAUSED_POSTCOPY},
    {VIR_DOMAIN_EVENT_SUSPENDED, VIR_DOMAIN_EVENT_SUSPENDED_POSTCOPY_FAILED,
     VIRT_EVENT_POSTCOPY_FAILED},
    {VIR_DOMAIN_EVENT_SUSPENDED, VIR_DOMAIN_EVENT_SUSPENDED_IOERROR, VIRT_EVENT_PAUSED_IO_ERROR},
    {VIR_DOMAIN_EVENT_SUSPENDED, ANY, VIRT_EVENT_PAUSED},
    {VIR_DOMAIN_EVENT_PMSUSPENDED, ANY, VIRT_EVENT_PAUSED},
    {VIR_DOMAIN_EVENT_RESUMED, VIR_DOMAIN_EVENT_RESUMED_MIGRATED, VIRT_EVENT_RESUMED_MIGRATION},
    {VIR_DOMAIN_EVENT_RESUMED, VIR_DOMAIN_EVENT_RESUMED_POSTCOPY, VIRT_EVENT_RESUMED_POSTCOPY},
    {VIR_DOMAIN_EVENT_RESUMED, VIR_DOMAIN_EVENT_RESUMED_POSTCOPY_FAILED,
     VIRT_EVENT_POSTCOPY_FAILED},
    {VIR_DOMAIN_EVENT_RESUMED, ANY, VIRT_EVENT_RESUMED},
    {VIR_DOMAIN_EVENT_STOPPED, VIR_DOMAIN_EVENT_STOPPED_MIGRATED, VIRT_EVENT_STOPPED_MIGRATION},
    {VIR_DOMAIN_EVENT_STOPPED, ANY, VIRT_EVENT_STOPPED},
    {VIR_DOMAIN_EVENT_CRASHED, ANY, VIRT_EVENT_STOPPED},
    {VIR_DOMAIN_EVENT_DEFINED, ANY, VIRT_EVENT_DEFINED},
    {VIR_DOMAIN_EVENT_UNDEFINED, ANY, VIRT_EVENT_UNDEFINED},
};

bool libvirt_event_map(int event, int detail, enum virt_event *out)
{
    for (size_t i = 0; i < ARRAY_LEN(event_rows); i++) {
        if (event_rows[i].event != event ||
            (event_rows[i].detail != ANY && event_rows[i].detail != detail))
            continue;
        *out = event_rows[i].ours;
        return true;
    }
    return false;
}

static int on_lifecycle(virConnectPtr connection _unused_, virDomainPtr domain, int event,
                        int detail, void *aux)
{
    int64_t now = clock_monotonic_us();
    char uuid[VIR_UUID_STRING_BUFLEN];
    enum virt_event ours;
    if (libvirt_event_map(event, detail, &ours) && virDomainGetUUIDString(domain, uuid) == 0)
        virt_tell_event(aux, uuid, ours, now);
    return 0;
}

static void on_iteration(virConnectPtr connection _unused_, virDomainPtr domain, int iteration,
                         void *aux)
{
    int64_t now = clock_monotonic_us();
    char uuid[VIR_UUID_STRING_BUFLEN];
    if (virDomainGetUUIDString(domain, uuid) < 0)
        return;
    libvirt_memory_started(aux, uuid);
    virt_tell_iteration(aux, uuid, iteration, now);
}

static void on_job_completed(virConnectPtr connection _unused_, virDomainPtr domain,
                             virTypedParameterPtr params, int count, void *aux)
{
    int64_t now = clock_monotonic_us();
    char uuid[VIR_UUID_STRING_BUFLEN];
    struct virt_job job;
    if (virDomainGetUUIDString(domain, uuid) < 0)
        return;
    libvirt_job_map(VIR_DOMAIN_JOB_COMPLETED, params, count, &job);
    virt_tell_job_completed(aux, uuid, &job, now);
}

static void on_device_removed(virConnectPtr connection _unused_, virDomainPtr domain,
                              const char *alias, void *aux)
{
    char uuid[VIR_UUID_STRING_BUFLEN];
    if (virDomainGetUUIDString(domain, uuid) == 0)
        libvirt_device_removed(aux, uuid, alias, false);
}

static void on_device_refused(virConnectPtr connection _unused_, virDomainPtr domain,
                              const char *alias, void *aux)
{
    char uuid[VIR_UUID_STRING_BUFLEN];
    if (virDomainGetUUIDString(domain, uuid) == 0)
        libvirt_device_removed(aux, uuid, alias, true);
}

static const struct {
    int id;
    virConnectDomainEventGenericCallback callback;
} registrations[LIBVIRT_EVENTS] = {
    {VIR_DOMAIN_EVENT_ID_LIFECYCLE, VIR_DOMAIN_EVENT_CALLBACK(on_lifecycle)},
    {VIR_DOMAIN_EVENT_ID_MIGRATION_ITERATION, VIR_DOMAIN_EVENT_CALLBACK(on_iteration)},
    {VIR_DOMAIN_EVENT_ID_JOB_COMPLETED, VIR_DOMAIN_EVENT_CALLBACK(on_job_completed)},
    {VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, VIR_DOMAIN_EVENT_CALLBACK(on_device_removed)},
    {VIR_DOMAIN_EVENT_ID_DEVICE_REMOVAL_FAILED, VIR_DOMAIN_EVENT_CALLBACK(on_device_refused)},
};

int libvirt_events_register(struct libvirt *lv, virConnectPtr connection, int ids[LIBVIRT_EVENTS],
                            struct err *e)
{
    for (int i = 0; i < LIBVIRT_EVENTS; i++)
        ids[i] = -1;
    for (int i = 0; i < LIBVIRT_EVENTS; i++) {
        ids[i] = virConnectDomainEventRegisterAny(connection, NULL, registrations[i].id,
                                                  registrations[i].callback, lv, NULL);
        if (ids[i] < 0)
            return libvirt_error(e, "no events from libvirt at %s", lv->uri);
    }
    return 0;
}

/* On a broken connection the RPC fails, but libvirt has let go of the callback before. */
void libvirt_events_deregister(virConnectPtr connection, const int ids[LIBVIRT_EVENTS])
{
    for (int i = 0; i < LIBVIRT_EVENTS; i++)
        if (ids[i] >= 0)
            (void)virConnectDomainEventDeregisterAny(connection, ids[i]);
}
