/* SPDX-License-Identifier: Apache-2.0 */
/* The fake hypervisor: the life of a guest, and the host's resources. */
#include "virt/fake_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "lib/json.h"
#include "lib/text.h"
#include "virt/device_match.h"
#include "virt/xml.h"

static void tell(struct virt *virt, const char *uuid, enum virt_event event)
{
    fake_post(virt, &(struct news){.kind = NEWS_EVENT, .event = event}, uuid, false);
}

/* --- made and started --- */

/* Puts the XML in; the lock is held afterwards, as with fake_enter(). *uuid is the caller's. */
static int put(struct fake *fake, const char *op, const char *xml, const char *rest, char **uuid,
               struct domain **out, struct err *e)
{
    _cleanup_(virt_guest_freep) struct virt_guest *guest = NULL;
    if (virt_guest_from_xml(xml, &guest, e) < 0 || fake_enter(fake, op, guest->uuid, rest, e) < 0)
        return -1;
    struct domain *domain = fake_need(fake, guest->uuid);
    if (!domain->here)
        domain->state = VIRT_STATE_SHUTOFF;
    free(domain->name);
    free(domain->xml);
    domain->name = text_dup(guest->name);
    domain->xml = text_dup(xml);
    domain->here = true;
    domain->incoming = false;
    *uuid = text_dup(guest->uuid);
    *out = domain;
    return 0;
}

int fake_define(struct virt *virt, const char *xml, struct err *e)
{
    struct fake *fake = fake_of(virt);
    struct domain *domain;
    _cleanup_(str_freep) char *uuid = NULL;
    if (put(fake, "define", xml, NULL, &uuid, &domain, e) < 0)
        return -1;
    fake_unlock(fake);
    tell(virt, uuid, VIRT_EVENT_DEFINED);
    return 0;
}

int fake_create(struct virt *virt, const char *xml, bool paused, struct err *e)
{
    struct fake *fake = fake_of(virt);
    struct domain *domain;
    _cleanup_(str_freep) char *uuid = NULL;
    if (put(fake, "create", xml, paused ? "paused" : NULL, &uuid, &domain, e) < 0)
        return -1;
    domain->state = paused ? VIRT_STATE_PAUSED : VIRT_STATE_RUNNING;
    fake_unlock(fake);
    tell(virt, uuid, VIRT_EVENT_DEFINED);
    tell(virt, uuid, VIRT_EVENT_STARTED);
    if (paused)
        tell(virt, uuid, VIRT_EVENT_PAUSED);
    return 0;
}

static bool is_off(const struct domain *domain)
{
    return domain->state == VIRT_STATE_SHUTOFF || domain->state == VIRT_STATE_CRASHED;
}

int fake_start(struct virt *virt, const char *uuid, struct err *e)
{
    struct fake *fake = fake_of(virt);
    struct domain *domain;
    if (fake_enter_domain(fake, "start", uuid, NULL, &domain, e) < 0)
        return -1;
    bool off = is_off(domain);
    if (off)
        domain->state = VIRT_STATE_RUNNING;
    domain->saved = domain->saved && !off;
    fake_unlock(fake);
    if (off)
        tell(virt, uuid, VIRT_EVENT_STARTED);
    return 0;
}

/* --- stopped --- */

static int need_running(struct fake *fake, const struct domain *domain, struct err *e)
{
    if (!is_off(domain))
        return 0;
    err_set(e, ERR_INSTANCE_STATE, "domain %s is not running", domain->uuid);
    fake_unlock(fake);
    return -1;
}

static int stop_guest(struct virt *virt, const char *op, const char *uuid, bool may_refuse,
                      bool save, struct err *e)
{
    struct fake *fake = fake_of(virt);
    struct domain *domain;
    if (fake_enter_domain(fake, op, uuid, NULL, &domain, e) < 0 ||
        need_running(fake, domain, e) < 0)
        return -1;
    bool stops = !may_refuse || !domain->stubborn;
    if (stops)
        domain->state = VIRT_STATE_SHUTOFF;
    domain->saved = domain->saved || save;
    fake_unlock(fake);
    if (stops)
        tell(virt, uuid, VIRT_EVENT_STOPPED);
    return 0;
}

int fake_shutdown(struct virt *virt, const char *uuid, struct err *e)
{
    return stop_guest(virt, "shutdown", uuid, true, false, e);
}

int fake_save(struct virt *virt, const char *uuid, struct err *e)
{
    return stop_guest(virt, "save", uuid, false, true, e);
}

int fake_power_off(struct virt *virt, const char *uuid, struct err *e)
{
    struct fake *fake = fake_of(virt);
    if (fake_enter(fake, "power_off", uuid, NULL, e) < 0)
        return -1;
    struct domain *domain = fake_find(fake, uuid);
    bool stops = domain && domain->here && !is_off(domain);
    if (stops)
        domain->state = VIRT_STATE_SHUTOFF;
    fake_unlock(fake);
    if (stops)
        tell(virt, uuid, VIRT_EVENT_STOPPED);
    return 0;
}

int fake_reboot(struct virt *virt, const char *uuid, struct err *e)
{
    struct fake *fake = fake_of(virt);
    struct domain *domain;
    if (fake_enter_domain(fake, "reboot", uuid, NULL, &domain, e) < 0 ||
        need_running(fake, domain, e) < 0)
        return -1;
    fake_unlock(fake);
    return 0;
}

int fake_save_remove(struct virt *virt, const char *uuid, struct err *e)
{
    struct fake *fake = fake_of(virt);
    if (fake_enter(fake, "save_remove", uuid, NULL, e) < 0)
        return -1;
    struct domain *domain = fake_find(fake, uuid);
    if (domain)
        domain->saved = false;
    fake_unlock(fake);
    return 0;
}

/* --- devices --- */

static int add_device(struct domain *domain, const char *device_xml, struct err *e)
{
    _cleanup_(xml_doc_freep) xmlDoc *doc = NULL, *device = NULL;
    if (xml_parse(device_xml, "device XML", NULL, &device, e) < 0 ||
        xml_parse(domain->xml, "domain XML", "domain", &doc, e) < 0)
        return -1;
    xmlNode *devices = xml_child(xmlDocGetRootElement(doc), "devices");
    if (!devices)
        devices = xml_add_child(xmlDocGetRootElement(doc), "devices");
    (void)xmlAddChild(devices, xmlDocCopyNode(xmlDocGetRootElement(device), doc, 1));
    free(domain->xml);
    domain->xml = xml_text_of(doc, xmlDocGetRootElement(doc));
    return 0;
}

/* All that are of that kind and have the same key. */
static int remove_device(struct domain *domain, const char *device_xml, struct err *e)
{
    _cleanup_(xml_doc_freep) xmlDoc *doc = NULL, *device = NULL;
    if (xml_parse(device_xml, "device XML", NULL, &device, e) < 0 ||
        xml_parse(domain->xml, "domain XML", "domain", &doc, e) < 0)
        return -1;
    const char *kind = (const char *)xmlDocGetRootElement(device)->name;
    xmlNode *next, *devices = xml_child(xmlDocGetRootElement(doc), "devices");
    for (xmlNode *d = xml_child(devices, kind); d; d = next) {
        next = xml_next(d, kind);
        _cleanup_(str_freep) char *one = xml_text_of(doc, d);
        _cleanup_(str_freep) char *alone =
            text_format("<domain><devices>%s</devices></domain>", one);
        if (virt_device_find(alone, device_xml, NULL, NULL) == 1)
            xml_remove(d);
    }
    free(domain->xml);
    domain->xml = xml_text_of(doc, xmlDocGetRootElement(doc));
    return 0;
}

int fake_attach(struct virt *virt, const char *uuid, const char *device_xml, struct err *e)
{
    struct fake *fake = fake_of(virt);
    struct domain *domain;
    if (fake_enter_domain(fake, "attach", uuid, device_xml, &domain, e) < 0)
        return -1;
    int rc = add_device(domain, device_xml, e);
    fake_unlock(fake);
    return rc;
}

int fake_detach(struct virt *virt, const char *uuid, const char *device_xml,
                int64_t timeout_us _unused_, struct err *e)
{
    struct fake *fake = fake_of(virt);
    if (fake_enter(fake, "detach", uuid, device_xml, e) < 0)
        return -1;
    struct domain *domain = fake_find(fake, uuid);
    int rc = 0;
    if (domain && domain->here && domain->stubborn && !is_off(domain))
        rc = err_set(e, ERR_TIMEOUT, "domain %s did not let its device go in time", uuid);
    else if (domain && domain->here)
        rc = remove_device(domain, device_xml, e);
    fake_unlock(fake);
    return rc;
}

/* --- looked at --- */

int fake_xml(struct virt *virt, const char *uuid, char **out, struct err *e)
{
    struct fake *fake = fake_of(virt);
    struct domain *domain;
    if (fake_enter_domain(fake, "xml", uuid, NULL, &domain, e) < 0)
        return -1;
    *out = text_dup(domain->xml);
    fake_unlock(fake);
    return 0;
}

int fake_diagnostics(struct virt *virt, const char *uuid, struct json_object **out, struct err *e)
{
    static const char text[] =
        "{\"driver\": \"libvirt\", \"hypervisor\": \"fake\", \"hypervisor_os\": \"linux\", "
        "\"memory_details\": {\"maximum\": 64, \"used\": 64}, "
        "\"num_cpus\": 1, \"cpu_details\": [{\"id\": 0, \"time\": 1, \"utilisation\": null}], "
        "\"num_disks\": 1, \"disk_details\": [{\"name\": \"vda\", \"read_bytes\": 7, "
        "\"errors_count\": -1}], \"memory_statistics\": {\"actual\": 65536, \"rss\": 98304}, "
        "\"num_nics\": 0, \"nic_details\": []}";
    struct fake *fake = fake_of(virt);
    struct domain *domain;
    if (fake_enter_domain(fake, "diagnostics", uuid, NULL, &domain, e) < 0)
        return -1;
    bool running = !is_off(domain);
    fake_unlock(fake);
    if (json_parse(text, strlen(text), out, e) < 0)
        return -1;
    json_add_string(*out, "state", running ? "running" : "shutdown");
    return 0;
}

int fake_copy_disk(struct virt *virt, const char *uuid, const char *target, const char *path,
                   const char *format, struct err *e)
{
    struct fake *fake = fake_of(virt);
    struct domain *domain;
    _cleanup_(str_freep) char *rest = text_format("%s %s %s", target, path, format);
    if (fake_enter_domain(fake, "copy_disk", uuid, rest, &domain, e) < 0)
        return -1;
    fake_unlock(fake);
    _cleanup_(fd_closep) int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || dprintf(fd, "copy of %s", target) < 0)
        return err_set_errno(e, ERR_DISK, errno, "%s cannot be written", path);
    return 0;
}

static size_t count_here(const struct fake *fake)
{
    size_t count = 0;
    for (size_t i = 0; i < fake->domains.length; i++)
        count += fake->domains.items[i]->here;
    return count;
}

int fake_resources(struct virt *virt, struct virt_resources *out, struct err *e)
{
    static const char cpu[] =
        "{\"arch\": \"x86_64\", \"model\": \"Fake\", \"vendor\": \"Nobody\", \"features\": "
        "[\"sse2\"], "
        "\"topology\": {\"cells\": 1, \"sockets\": 1, \"cores\": 2, \"threads\": 1}}";
    static const char instances[] = "[[\"x86_64\", \"qemu\", \"hvm\"]]";
    struct fake *fake = fake_of(virt);
    if (fake_enter(fake, "resources", NULL, NULL, e) < 0)
        return -1;
    *out = (struct virt_resources){
        .hostname = text_dup("fake"),
        .type = text_dup("FAKE"),
        .hypervisor_version = 7002000,
        .libvirt_version = 9000000,
        .cpus = 2,
        .memory_mb = fake->memory_total >> 20,
        .memory_used_mb = (fake->memory_total - fake->memory_available) >> 20,
        .local_gb = 100,
        .disk_available_least_gb = 100,
        .traits = text_split("COMPUTE_NODE HW_CPU_X86_SSE2", ' '),
        .guests = count_here(fake),
        .uptime = text_dup(" 00:00:00 up 1 day,  0 users,  load average: 0.00, 0.00, 0.00"),
    };
    (void)json_parse(cpu, strlen(cpu), &out->cpu_info, NULL);
    (void)json_parse(instances, strlen(instances), &out->supported_instances, NULL);
    if (fake->edit_resources)
        fake->edit_resources(fake->edit_resources_aux, out);
    fake_unlock(fake);
    return 0;
}

/* --- the script --- */

void virt_fake_set_stubborn(struct virt *virt, const char *uuid, bool stubborn)
{
    struct fake *fake = fake_of(virt);
    fake_lock(fake);
    fake_need(fake, uuid)->stubborn = stubborn;
    fake_unlock(fake);
}

bool virt_fake_saved(struct virt *virt, const char *uuid)
{
    struct fake *fake = fake_of(virt);
    fake_lock(fake);
    const struct domain *domain = fake_find(fake, uuid);
    bool saved = domain && domain->here && domain->saved;
    fake_unlock(fake);
    return saved;
}

char *virt_fake_xml(struct virt *virt, const char *uuid)
{
    struct fake *fake = fake_of(virt);
    fake_lock(fake);
    const struct domain *domain = fake_find(fake, uuid);
    char *xml = domain && domain->here ? text_dup(domain->xml) : NULL;
    fake_unlock(fake);
    return xml;
}

void virt_fake_set_resources(struct virt *virt,
                             void (*edit)(void *aux, struct virt_resources *resources), void *aux)
{
    struct fake *fake = fake_of(virt);
    fake_lock(fake);
    fake->edit_resources = edit;
    fake->edit_resources_aux = aux;
    fake_unlock(fake);
}
