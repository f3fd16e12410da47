/* SPDX-License-Identifier: Apache-2.0 */
/* The life of a guest through libvirt: made, started, stopped, saved. */
#include "virt/libvirt_internal.h"

#include "lib/text.h"

static virDomainPtr define_on(struct libvirt_call *call, const char *xml, struct err *e)
{
    call->domain = virDomainDefineXML(call->connection, xml);
    if (!call->domain)
        (void)libvirt_call_error(call, e, "the guest cannot be defined");
    return call->domain;
}

int libvirt_define(struct virt *virt, const char *xml, struct err *e)
{
    LIBVIRT_CALL(call);
    if (libvirt_call_begin(&call, virt, NULL, false, e) < 0)
        return -1;
    return define_on(&call, xml, e) ? 0 : -1;
}

/* Somebody else's start in between is as good as ours. The name first: asking for it resets the error. */
static int launch(const struct libvirt_call *call, unsigned flags, struct err *e)
{
    const char *name = virDomainGetName(call->domain);
    if (virDomainCreateWithFlags(call->domain, flags) == 0)
        return 0;
    (void)libvirt_call_error(call, e, "domain %s cannot be started", name);
    if (virDomainIsActive(call->domain) != 1)
        return -1;
    err_clear(e);
    return 0;
}

int libvirt_create(struct virt *virt, const char *xml, bool paused, struct err *e)
{
    LIBVIRT_CALL(call);
    if (libvirt_call_begin(&call, virt, NULL, false, e) < 0 || !define_on(&call, xml, e))
        return -1;
    return launch(&call, paused ? VIR_DOMAIN_START_PAUSED : 0, e);
}

int libvirt_start(struct virt *virt, const char *uuid, struct err *e)
{
    LIBVIRT_CALL(call);
    if (libvirt_call_begin(&call, virt, uuid, false, e) < 0)
        return -1;
    return virDomainIsActive(call.domain) == 1 ? 0 : launch(&call, 0, e);
}

int libvirt_shutdown(struct virt *virt, const char *uuid, struct err *e)
{
    LIBVIRT_CALL(call);
    if (libvirt_call_begin(&call, virt, uuid, false, e) < 0)
        return -1;
    if (virDomainShutdown(call.domain) < 0)
        return libvirt_call_error(&call, e, "domain %s cannot be asked to shut down", uuid);
    return 0;
}

int libvirt_reboot(struct virt *virt, const char *uuid, struct err *e)
{
    LIBVIRT_CALL(call);
    if (libvirt_call_begin(&call, virt, uuid, false, e) < 0)
        return -1;
    if (virDomainReboot(call.domain, 0) < 0)
        return libvirt_call_error(&call, e, "domain %s cannot be asked to reboot", uuid);
    return 0;
}

int libvirt_power_off(struct virt *virt, const char *uuid, struct err *e)
{
    LIBVIRT_CALL(call);
    bool absent;
    if (libvirt_begin_or_absent(&call, virt, uuid, &absent, e) < 0)
        return -1;
    return absent ? 0 : libvirt_power_off_now(&call, uuid, e);
}

int libvirt_save(struct virt *virt, const char *uuid, struct err *e)
{
    LIBVIRT_CALL(call);
    if (libvirt_call_begin(&call, virt, uuid, false, e) < 0)
        return -1;
    if (virDomainManagedSave(call.domain, 0) < 0)
        return libvirt_call_error(&call, e, "domain %s cannot be saved", uuid);
    return 0;
}

int libvirt_save_remove(struct virt *virt, const char *uuid, struct err *e)
{
    LIBVIRT_CALL(call);
    bool absent;
    if (libvirt_begin_or_absent(&call, virt, uuid, &absent, e) < 0)
        return -1;
    if (absent || virDomainHasManagedSaveImage(call.domain, 0) == 0)
        return 0;
    if (virDomainManagedSaveRemove(call.domain, 0) < 0)
        return libvirt_call_error(&call, e, "the saved memory of domain %s cannot be removed",
                                  uuid);
    return 0;
}

int libvirt_xml(struct virt *virt, const char *uuid, char **out, struct err *e)
{
    LIBVIRT_CALL(call);
    if (libvirt_call_begin(&call, virt, uuid, false, e) < 0)
        return -1;
    return libvirt_get_xml(&call, uuid, 0, out, e);
}
