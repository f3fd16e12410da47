/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Devices that come and go while a guest runs.
 *
 * Unplugging is a request: the guest's system lets the device go when it likes, or never, as one that still
 * boots does not even hear of it. libvirt tells the end by an event (DEVICE_REMOVED, or
 * DEVICE_REMOVAL_FAILED where the guest said no). So the caller's worker waits for the event, asks again
 * every RETRY_US, and looks into the domain's XML at each turn, because an event may be lost with its
 * connection. The configuration is changed first: whatever the guest does, it comes up without the device.
 */
#include "virt/libvirt_internal.h"

#include <errno.h>
#include <strings.h>
#include <time.h>

#include "lib/clock.h"
#include "lib/text.h"
#include "virt/device_match.h"

#define RETRY_US (5 * USEC_PER_SEC)

/* --- attach --- */

static unsigned scope_of(const struct libvirt_call *call)
{
    unsigned scope = 0;
    if (virDomainIsActive(call->domain) == 1)
        scope |= VIR_DOMAIN_AFFECT_LIVE;
    if (virDomainIsPersistent(call->domain) == 1)
        scope |= VIR_DOMAIN_AFFECT_CONFIG;
    return scope;
}

int libvirt_attach(struct virt *virt, const char *uuid, const char *device_xml, struct err *e)
{
    LIBVIRT_CALL(call);
    if (libvirt_call_begin(&call, virt, uuid, false, e) < 0)
        return -1;
    if (virDomainAttachDeviceFlags(call.domain, device_xml, scope_of(&call)) < 0)
        return libvirt_call_error(&call, e, "a device cannot be attached to domain %s", uuid);
    return 0;
}

/* --- waiting for the guest --- */

void libvirt_device_removed(struct libvirt *lv, const char *uuid, const char *alias, bool refused)
{
    pthread_mutex_lock(&lv->lock);
    for (struct libvirt_detach *d = lv->detaching; d; d = d->next) {
        if (strcasecmp(d->uuid, uuid) != 0 || !text_equal(d->alias, alias))
            continue;
        d->refused = refused;
        d->removed = d->removed || !refused;
        pthread_cond_broadcast(&d->changed);
    }
    pthread_mutex_unlock(&lv->lock);
}

static void wait_enter(struct libvirt *lv, struct libvirt_detach *wait)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&wait->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_lock(&lv->lock);
    wait->next = lv->detaching;
    lv->detaching = wait;
    pthread_mutex_unlock(&lv->lock);
}

static void wait_leave(struct libvirt *lv, struct libvirt_detach *wait)
{
    pthread_mutex_lock(&lv->lock);
    struct libvirt_detach **at = &lv->detaching;
    while (*at != wait)
        at = &(*at)->next;
    *at = wait->next;
    pthread_mutex_unlock(&lv->lock);
    pthread_cond_destroy(&wait->changed);
}

/* True when the event came. A stop of the agent ends the wait at the next turn. */
static bool wait_event(struct libvirt *lv, struct libvirt_detach *wait, int64_t until_us)
{
    const struct timespec until = {.tv_sec = until_us / USEC_PER_SEC,
                                   .tv_nsec = until_us % USEC_PER_SEC * 1000};
    int rc = 0;
    pthread_mutex_lock(&lv->lock);
    while (!wait->removed && !wait->refused && !lv->stopping && rc != ETIMEDOUT)
        rc = pthread_cond_timedwait(&wait->changed, &lv->lock, &until);
    bool removed = wait->removed;
    wait->refused = false; /* it is asked again */
    pthread_mutex_unlock(&lv->lock);
    return removed;
}

/* --- detach --- */

/* 1 and *alias when the running domain has it; 0 when it has not, or does not run. */
static int find_live(const struct libvirt_call *call, const char *uuid, const char *device_xml,
                     char **alias, struct err *e)
{
    _cleanup_(str_freep) char *xml = NULL;
    if (virDomainIsActive(call->domain) != 1)
        return 0;
    if (libvirt_get_xml(call, uuid, 0, &xml, e) < 0)
        return -1;
    return virt_device_find(xml, device_xml, alias, e);
}

static int detach_config(const struct libvirt_call *call, const char *uuid, const char *device_xml,
                         struct err *e)
{
    _cleanup_(str_freep) char *xml = NULL;
    if (virDomainIsPersistent(call->domain) != 1)
        return 0;
    if (libvirt_get_xml(call, uuid, VIR_DOMAIN_XML_INACTIVE, &xml, e) < 0)
        return -1;
    int found = virt_device_find(xml, device_xml, NULL, e);
    if (found <= 0)
        return found;
    if (virDomainDetachDeviceFlags(call->domain, device_xml, VIR_DOMAIN_AFFECT_CONFIG) == 0)
        return 0;
    return libvirt_call_error(call, e,
                              "a device of domain %s cannot be taken out of its definition", uuid);
}

/* Asks, waits and looks, until it is gone or the time is over. */
static int detach_live(struct libvirt_call *call, const char *uuid, const char *device_xml,
                       struct libvirt_detach *wait, int64_t timeout_us, struct err *e)
{
    int64_t end_us = clock_monotonic_us() + timeout_us;
    struct err refusal = ERR_INIT;
    for (;;) {
        if (virDomainDetachDeviceFlags(call->domain, device_xml, VIR_DOMAIN_AFFECT_LIVE) < 0)
            (void)libvirt_call_error(call, &refusal, "domain %s does not let its device go", uuid);
        int64_t now_us = clock_monotonic_us();
        int64_t turn_us = now_us + RETRY_US < end_us ? now_us + RETRY_US : end_us;
        if (wait_event(call->lv, wait, turn_us))
            return 0;
        int found = find_live(call, uuid, device_xml, NULL, e);
        if (found <= 0)
            return found;
        if (clock_monotonic_us() >= end_us)
            break;
    }
    if (err_is_set(&refusal))
        return err_set(e, ERR_TIMEOUT, "%s", refusal.text);
    return err_set(e, ERR_TIMEOUT, "domain %s did not let its device %s go within %lld s", uuid,
                   wait->alias, (long long)(timeout_us / USEC_PER_SEC));
}

int libvirt_detach(struct virt *virt, const char *uuid, const char *device_xml, int64_t timeout_us,
                   struct err *e)
{
    LIBVIRT_CALL(call);
    _cleanup_(str_freep) char *alias = NULL;
    bool absent;
    if (libvirt_begin_or_absent(&call, virt, uuid, &absent, e) < 0)
        return -1;
    if (absent)
        return 0;
    if (detach_config(&call, uuid, device_xml, e) < 0)
        return -1;
    int found = find_live(&call, uuid, device_xml, &alias, e);
    if (found <= 0)
        return found;
    struct libvirt_detach wait = {.uuid = uuid, .alias = alias ? alias : ""};
    wait_enter(call.lv, &wait);
    int rc = detach_live(&call, uuid, device_xml, &wait, timeout_us, e);
    wait_leave(call.lv, &wait);
    return rc;
}
