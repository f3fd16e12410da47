/* SPDX-License-Identifier: Apache-2.0 */
/* Facts about this host: for status, for the resource record, and for virt/host_check.h. */
#include "virt/libvirt_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "lib/json.h"
#include "lib/text.h"

enum { MIB = 1024 * 1024 };

/* --- what is kept between connections, and what is not --- */

int libvirt_host_learn(struct libvirt *lv, virConnectPtr connection, struct err *e)
{
    unsigned long hypervisor = 0, library = 0;
    const char *type = virConnectGetType(connection);
    if (!type || virConnectGetLibVersion(connection, &library) < 0 ||
        virConnectGetVersion(connection, &hypervisor) < 0)
        return libvirt_error(e, "libvirt at %s does not say what it is", lv->uri);
    char *hostname = virConnectGetHostname(connection);
    pthread_mutex_lock(&lv->lock);
    free(lv->type);
    free(lv->hostname);
    lv->type = text_dup(type);
    lv->hostname = hostname;
    lv->hypervisor_version = (int64_t)hypervisor;
    lv->libvirt_version = (int64_t)library;
    pthread_mutex_unlock(&lv->lock);
    return 0;
}

void libvirt_host_forget(struct libvirt *lv)
{
    pthread_mutex_lock(&lv->lock);
    free(lv->capabilities);
    free(lv->type);
    free(lv->hostname);
    lv->capabilities = lv->type = lv->hostname = NULL;
    for (unsigned i = 0; i < lv->caps_count; i++) {
        free(lv->caps[i].key);
        free(lv->caps[i].xml);
        lv->caps[i] = (struct libvirt_caps){0};
    }
    lv->caps_count = 0;
    pthread_mutex_unlock(&lv->lock);
}

static int meminfo_value(const char *text, const char *name, int64_t *bytes)
{
    const char *line = strstr(text, name);
    uintmax_t kib;
    if (!line || sscanf(line + strlen(name), ": %ju kB", &kib) != 1)
        return -1;
    *bytes = (int64_t)kib * 1024;
    return 0;
}

int libvirt_host_memory(int64_t *total, int64_t *available, struct err *e)
{
    char text[4096];
    FILE *file = fopen("/proc/meminfo", "re");
    if (!file)
        return err_set_errno(e, ERR_SYSTEM, errno, "/proc/meminfo cannot be read");
    size_t length = fread(text, 1, sizeof(text) - 1, file);
    (void)fclose(file);
    text[length] = '\0';
    if (meminfo_value(text, "MemTotal", total) < 0 ||
        meminfo_value(text, "MemAvailable", available) < 0)
        return err_set(e, ERR_SYSTEM, "/proc/meminfo has no MemTotal and MemAvailable");
    return 0;
}

int libvirt_host_read(struct virt *virt, struct virt_host *out, struct err *e)
{
    struct libvirt *lv = libvirt_of(virt);
    LIBVIRT_CALL(call);
    virNodeInfo node;
    int64_t total, available;
    if (libvirt_host_memory(&total, &available, e) < 0 ||
        libvirt_call_begin(&call, virt, NULL, false, e) < 0)
        return -1;
    if (virNodeGetInfo(call.connection, &node) < 0)
        return libvirt_call_error(&call, e, "this host's CPUs are not known");
    pthread_mutex_lock(&lv->lock);
    *out = (struct virt_host){.hostname = text_dup(lv->hostname),
                              .uri = text_dup(lv->uri),
                              .type = text_dup(lv->type),
                              .hypervisor_version = lv->hypervisor_version,
                              .libvirt_version = lv->libvirt_version,
                              .memory_total = total,
                              .memory_available = available,
                              .cpus = (int)node.cpus};
    pthread_mutex_unlock(&lv->lock);
    return 0;
}

struct json_object *libvirt_status(struct virt *virt)
{
    struct libvirt *lv = libvirt_of(virt);
    struct json_object *status = json_object_new_object();
    pthread_mutex_lock(&lv->lock);
    bool up = virt_is_up(virt);
    json_object_object_add(status, "up", json_object_new_boolean(up));
    json_add_string(status, "uri", lv->uri);
    json_add_string(status, "type", lv->type);
    json_add_int(status, "version", lv->hypervisor_version);
    json_add_int(status, "libvirt_version", lv->libvirt_version);
    if (!up)
        json_add_string(status, "why", lv->why);
    pthread_mutex_unlock(&lv->lock);
    return status;
}

/* --- capabilities, kept for as long as the connection lasts --- */

int libvirt_host_capabilities(const struct libvirt_call *call, char **out, struct err *e)
{
    struct libvirt *lv = call->lv;
    pthread_mutex_lock(&lv->lock);
    char *known = text_dup(lv->capabilities);
    pthread_mutex_unlock(&lv->lock);
    if (!known) {
        known = virConnectGetCapabilities(call->connection);
        if (!known)
            return libvirt_call_error(call, e, "the host's capabilities are not known");
        pthread_mutex_lock(&lv->lock);
        if (!lv->capabilities)
            lv->capabilities = text_dup(known);
        pthread_mutex_unlock(&lv->lock);
    }
    *out = known;
    return 0;
}

static bool recall_caps(struct libvirt *lv, const char *key, struct virt_host_facts *out)
{
    bool found = false;
    pthread_mutex_lock(&lv->lock);
    for (unsigned i = 0; i < lv->caps_count && !found; i++) {
        found = strcmp(lv->caps[i].key, key) == 0;
        if (found)
            out->domain_capabilities_xml = text_dup(lv->caps[i].xml);
    }
    pthread_mutex_unlock(&lv->lock);
    return found;
}

/* A full table starts anew: a host has few kinds of guests. */
static void remember_caps(struct libvirt *lv, const char *key, const char *xml)
{
    pthread_mutex_lock(&lv->lock);
    unsigned slot = lv->caps_count < LIBVIRT_CAPS_MAX ? lv->caps_count++ : 0;
    struct libvirt_caps *caps = &lv->caps[slot];
    free(caps->key);
    free(caps->xml);
    *caps = (struct libvirt_caps){text_dup(key), text_dup(xml)};
    pthread_mutex_unlock(&lv->lock);
}

static int domain_capabilities(const struct libvirt_call *call, const struct virt_guest *guest,
                               struct virt_host_facts *out, struct err *e)
{
    _cleanup_(str_freep) char *key =
        text_format("%s|%s|%s|%s", guest->emulator ? guest->emulator : "", guest->arch,
                    guest->machine ? guest->machine : "", guest->domain_type);
    if (recall_caps(call->lv, key, out))
        return 0;
    out->domain_capabilities_xml = virConnectGetDomainCapabilities(
        call->connection, guest->emulator, guest->arch, guest->machine, guest->domain_type, 0);
    if (!out->domain_capabilities_xml) {
        const virError *last = virGetLastError();
        int number = last ? last->code : 0;
        const char *words = last && last->message ? last->message : "no reason given";
        _cleanup_(str_freep) char *error = text_dup(words);
        if (libvirt_is_broken(call->connection))
            return err_set(e, ERR_HYPERVISOR, "the host's domain capabilities are not known: %s",
                           error);
        if (number != VIR_ERR_NO_SUPPORT)
            out->domain_capabilities_error = STEAL(error);
        return 0; /* not kept: a package installed since then mends it */
    }
    remember_caps(call->lv, key, out->domain_capabilities_xml);
    return 0;
}

/* Without a named model (host-passthrough, maximum) there is nothing to compare. */
static bool comparable(const struct virt_guest *guest)
{
    return guest->cpu_xml && strstr(guest->cpu_xml, "<model") != NULL;
}

static int compare_cpu(const struct libvirt_call *call, const struct virt_guest *guest,
                       struct virt_host_facts *out, struct err *e)
{
    if (out->skip_cpu || !comparable(guest) || out->domain_capabilities_error)
        return 0;
    int result =
        virConnectCompareHypervisorCPU(call->connection, guest->emulator, guest->arch,
                                       guest->machine, guest->domain_type, guest->cpu_xml, 0);
    if (result == VIR_CPU_COMPARE_INCOMPATIBLE)
        out->cpu_match = VIRT_CPU_DIFFERS;
    else if (result != VIR_CPU_COMPARE_ERROR)
        out->cpu_match = VIRT_CPU_FITS;
    if (result != VIR_CPU_COMPARE_ERROR)
        return 0;
    const virError *last = virGetLastError();
    if (last && last->code == VIR_ERR_NO_SUPPORT)
        return 0;
    _cleanup_(str_freep) char *words =
        text_dup(last && last->message ? last->message : "no reason given");
    if (libvirt_is_broken(call->connection))
        return err_set(e, ERR_HYPERVISOR, "the guest's CPU cannot be compared: %s", words);
    out->cpu_match = VIRT_CPU_DIFFERS;
    out->cpu_error = STEAL(words);
    return 0;
}

static int duplicates(const struct libvirt_call *call, const struct virt_guest *guest,
                      struct virt_host_facts *out, struct err *e)
{
    char uuid[VIR_UUID_STRING_BUFLEN] = "";
    if (virt_guest_state(&call->lv->base, guest->uuid, &out->uuid_here, e) < 0)
        return -1;
    virDomainPtr domain = guest->name ? virDomainLookupByName(call->connection, guest->name) : NULL;
    if (!domain)
        return 0;
    if (virDomainGetUUIDString(domain, uuid) == 0 && strcasecmp(uuid, guest->uuid) != 0)
        out->name_here_uuid = text_dup(uuid);
    virDomainFree(domain);
    return 0;
}

int libvirt_host_facts(struct virt *virt, const struct virt_guest *guest,
                       struct virt_host_facts *out, struct err *e)
{
    struct libvirt *lv = libvirt_of(virt);
    LIBVIRT_CALL(call);
    int64_t total;
    if (libvirt_host_memory(&total, &out->memory_available, e) < 0 ||
        libvirt_call_begin(&call, virt, NULL, false, e) < 0)
        return -1;
    pthread_mutex_lock(&lv->lock);
    out->hostname = text_dup(lv->hostname);
    out->hypervisor_version = lv->hypervisor_version;
    out->libvirt_version = lv->libvirt_version;
    out->memory_reserved = conf_int(lv->conf, CONF_DEFAULT_reserved_host_memory_mb) * MIB;
    out->skip_cpu = conf_bool(lv->conf, CONF_workarounds_skip_cpu_compare_on_dest);
    out->skip_version = conf_bool(lv->conf, CONF_workarounds_skip_hypervisor_version_check_on_lm);
    pthread_mutex_unlock(&lv->lock);
    out->firmware_readable = guest->firmware && access(guest->firmware, R_OK) == 0;
    if (libvirt_host_capabilities(&call, &out->capabilities_xml, e) < 0 ||
        domain_capabilities(&call, guest, out, e) < 0 || compare_cpu(&call, guest, out, e) < 0)
        return -1;
    return duplicates(&call, guest, out, e);
}
