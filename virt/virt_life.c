/* SPDX-License-Identifier: Apache-2.0 */
/* Call-through to the provider, as in virt/virt.c: the life of a guest, and the host's resources. */
#include "virt/virt.h"

#include <assert.h>
#include <string.h>

#include "lib/text.h"
#include "virt/consoles.h"
#include "virt/virt_call.h"

int virt_guest_create(struct virt *virt, const char *xml, bool paused, struct err *e)
{
    assert(virt && xml);
    _cleanup_(virt_unrefp) struct virt *held = virt_ref(virt);
    if (fault_point("virt.create.before", e) < 0 ||
        virt_counted(virt->provider->create(held, xml, paused, e)) < 0)
        return -1;
    return fault_point("virt.create.after", e);
}

int virt_guest_define(struct virt *virt, const char *xml, struct err *e)
{
    return virt_change_guest(virt, virt->provider->define, VIRT_CHANGE("define"), xml, e);
}

int virt_guest_start(struct virt *virt, const char *uuid, struct err *e)
{
    return virt_change_guest(virt, virt->provider->start, VIRT_CHANGE("start"), uuid, e);
}

int virt_guest_shutdown(struct virt *virt, const char *uuid, struct err *e)
{
    return virt_change_guest(virt, virt->provider->shutdown, VIRT_CHANGE("shutdown"), uuid, e);
}

int virt_guest_reboot(struct virt *virt, const char *uuid, struct err *e)
{
    return virt_change_guest(virt, virt->provider->reboot, VIRT_CHANGE("reboot"), uuid, e);
}

int virt_guest_power_off(struct virt *virt, const char *uuid, struct err *e)
{
    return virt_change_guest(virt, virt->provider->power_off, VIRT_CHANGE("power_off"), uuid, e);
}

int virt_guest_save(struct virt *virt, const char *uuid, struct err *e)
{
    return virt_change_guest(virt, virt->provider->save, VIRT_CHANGE("save"), uuid, e);
}

int virt_guest_save_remove(struct virt *virt, const char *uuid, struct err *e)
{
    return virt_change_guest(virt, virt->provider->save_remove, VIRT_CHANGE("save_remove"), uuid,
                             e);
}

int virt_guest_attach(struct virt *virt, const char *uuid, const char *device_xml, struct err *e)
{
    assert(virt && uuid && device_xml);
    _cleanup_(virt_unrefp) struct virt *held = virt_ref(virt);
    if (fault_point("virt.attach.before", e) < 0 ||
        virt_counted(virt->provider->attach(held, uuid, device_xml, e)) < 0)
        return -1;
    return fault_point("virt.attach.after", e);
}

int virt_guest_detach(struct virt *virt, const char *uuid, const char *device_xml,
                      int64_t timeout_us, struct err *e)
{
    assert(virt && uuid && device_xml && timeout_us >= 0);
    _cleanup_(virt_unrefp) struct virt *held = virt_ref(virt);
    if (fault_point("virt.detach.before", e) < 0 ||
        virt_counted(virt->provider->detach(held, uuid, device_xml, timeout_us, e)) < 0)
        return -1;
    return fault_point("virt.detach.after", e);
}

int virt_guest_xml(struct virt *virt, const char *uuid, char **out, struct err *e)
{
    assert(virt && uuid && out);
    _cleanup_(virt_unrefp) struct virt *held = virt_ref(virt);
    if (fault_point("virt.xml", e) < 0)
        return -1;
    return virt_counted(virt->provider->xml(held, uuid, out, e));
}

int virt_guest_consoles(struct virt *virt, const char *uuid, struct virt_consoles *out,
                        struct err *e)
{
    _cleanup_(str_freep) char *xml = NULL;
    if (virt_guest_xml(virt, uuid, &xml, e) < 0)
        return -1;
    return virt_consoles_from_xml(xml, out, e);
}

int virt_guest_diagnostics(struct virt *virt, const char *uuid, struct json_object **out,
                           struct err *e)
{
    assert(virt && uuid && out);
    _cleanup_(virt_unrefp) struct virt *held = virt_ref(virt);
    if (fault_point("virt.diagnostics", e) < 0)
        return -1;
    return virt_counted(virt->provider->diagnostics(held, uuid, out, e));
}

int virt_guest_copy_disk(struct virt *virt, const char *uuid, const char *target, const char *path,
                         const char *format, struct err *e)
{
    assert(virt && uuid && target && path && format);
    _cleanup_(virt_unrefp) struct virt *held = virt_ref(virt);
    if (!text_equal(format, "raw") && !text_equal(format, "qcow2"))
        return err_set(e, ERR_INVALID, "a disk is copied as raw or qcow2, not as \"%s\"", format);
    if (fault_point("virt.copy_disk.before", e) < 0 ||
        virt_counted(virt->provider->copy_disk(held, uuid, target, path, format, e)) < 0)
        return -1;
    return fault_point("virt.copy_disk.after", e);
}

void virt_resources_free(struct virt_resources *resources)
{
    if (!resources)
        return;
    free(resources->hostname);
    free(resources->type);
    free(resources->uptime);
    json_object_put(resources->cpu_info);
    json_object_put(resources->supported_instances);
    text_vector_free(resources->traits);
    free(resources);
}

int virt_resources_read(struct virt *virt, struct virt_resources **out, struct err *e)
{
    assert(virt && out);
    _cleanup_(virt_unrefp) struct virt *held = virt_ref(virt);
    _cleanup_(virt_resources_freep) struct virt_resources *resources = NEW(struct virt_resources);
    if (fault_point("virt.resources", e) < 0 ||
        virt_counted(virt->provider->resources(held, resources, e)) < 0)
        return -1;
    *out = STEAL(resources);
    return 0;
}
