/* SPDX-License-Identifier: Apache-2.0 */
/* The libvirt provider: its row of functions, its life, and the calls about one domain. */
#include "virt/libvirt_internal.h"

#include <string.h>
#include <time.h>

#include "lib/text.h"
#include "virt/libvirt_loop.h"
#include "virt/xml.h"

#define METADATA_NAMESPACE "https://computed.invalid/settings/1"

enum virt_state libvirt_state_of(int libvirt_state)
{
    static const enum virt_state states[] = {
        [VIR_DOMAIN_NOSTATE] = VIRT_STATE_NONE,     [VIR_DOMAIN_RUNNING] = VIRT_STATE_RUNNING,
        [VIR_DOMAIN_BLOCKED] = VIRT_STATE_RUNNING,  [VIR_DOMAIN_PAUSED] = VIRT_STATE_PAUSED,
        [VIR_DOMAIN_SHUTDOWN] = VIRT_STATE_RUNNING, [VIR_DOMAIN_SHUTOFF] = VIRT_STATE_SHUTOFF,
        [VIR_DOMAIN_CRASHED] = VIRT_STATE_CRASHED,  [VIR_DOMAIN_PMSUSPENDED] = VIRT_STATE_SUSPENDED,
    };
    return libvirt_state >= 0 && (size_t)libvirt_state < ARRAY_LEN(states) ? states[libvirt_state]
                                                                           : VIRT_STATE_NONE;
}

/* A missing domain is what was asked for, not an error. */
int libvirt_begin_or_absent(struct libvirt_call *call, struct virt *virt, const char *uuid,
                            bool *absent, struct err *e)
{
    struct err local = ERR_INIT;
    *absent = false;
    if (libvirt_call_begin(call, virt, uuid, false, &local) == 0)
        return 0;
    *absent = local.code == ERR_NO_INSTANCE;
    if (*absent)
        return 0;
    if (e)
        *e = local;
    return -1;
}

static int domain_state(const struct libvirt_call *call, const char *uuid, int *state, int *reason,
                        struct err *e)
{
    if (virDomainGetState(call->domain, state, reason, 0) == 0)
        return 0;
    return libvirt_call_error(call, e, "the state of domain %s is not known", uuid);
}

static int get_state(struct virt *virt, const char *uuid, enum virt_state *out, struct err *e)
{
    LIBVIRT_CALL(call);
    bool absent;
    int state = VIR_DOMAIN_NOSTATE, reason = 0;
    if (libvirt_begin_or_absent(&call, virt, uuid, &absent, e) < 0)
        return -1;
    if (!absent && domain_state(&call, uuid, &state, &reason, e) < 0) {
        /* It may have gone between the two calls, as migrated domains do. */
        if (!e || e->code != ERR_NO_INSTANCE)
            return -1;
        err_clear(e);
        absent = true;
    }
    *out = absent ? VIRT_STATE_NONE : libvirt_state_of(state);
    return 0;
}

int libvirt_get_xml(const struct libvirt_call *call, const char *uuid, unsigned flags, char **out,
                    struct err *e)
{
    char *xml = virDomainGetXMLDesc(call->domain, flags);
    if (!xml)
        return libvirt_call_error(call, e, "no XML of domain %s", uuid);
    *out = xml;
    return 0;
}

static int describe(struct virt *virt, const char *uuid_or_name, struct virt_domain_facts *out,
                    struct err *e)
{
    struct libvirt *lv = libvirt_of(virt);
    LIBVIRT_CALL(call);
    int state, reason;
    _cleanup_(str_freep) char *xml = NULL;
    if (libvirt_call_begin(&call, virt, uuid_or_name, true, e) < 0 ||
        domain_state(&call, uuid_or_name, &state, &reason, e) < 0 ||
        libvirt_get_xml(&call, uuid_or_name, 0, &xml, e) < 0)
        return -1;
    out->state = libvirt_state_of(state);
    out->persistent = virDomainIsPersistent(call.domain) == 1;
    pthread_mutex_lock(&lv->lock);
    out->hypervisor_version = lv->hypervisor_version;
    out->libvirt_version = lv->libvirt_version;
    pthread_mutex_unlock(&lv->lock);
    out->xml = STEAL(xml);
    return 0;
}

static int migratable_xml(struct virt *virt, const char *uuid, char **out, struct err *e)
{
    LIBVIRT_CALL(call);
    if (libvirt_call_begin(&call, virt, uuid, false, e) < 0)
        return -1;
    return libvirt_get_xml(&call, uuid, VIR_DOMAIN_XML_MIGRATABLE, out, e);
}

static int metadata(struct virt *virt, const char *uuid, char **out, struct err *e)
{
    LIBVIRT_CALL(call);
    if (libvirt_call_begin(&call, virt, uuid, false, e) < 0)
        return -1;
    char *text = virDomainGetMetadata(call.domain, VIR_DOMAIN_METADATA_ELEMENT, METADATA_NAMESPACE,
                                      VIR_DOMAIN_AFFECT_CURRENT);
    const virError *last = text ? NULL : virGetLastError();
    if (last && last->code != VIR_ERR_NO_DOMAIN_METADATA)
        return libvirt_call_error(&call, e, "no metadata of domain %s", uuid);
    if (!text) {
        *out = NULL;
        return 0;
    }
    /* libvirt gives the element with its tags; its text is what was asked for */
    _cleanup_(str_freep) char *element = text;
    _cleanup_(xml_doc_freep) xmlDoc *doc = NULL;
    if (xml_parse(element, "metadata of the domain", NULL, &doc, e) < 0)
        return -1;
    *out = xml_content(xmlDocGetRootElement(doc));
    return 0;
}

static struct virt_guest *short_form(virDomainPtr domain)
{
    char uuid[VIR_UUID_STRING_BUFLEN];
    virDomainInfo info;
    if (virDomainGetUUIDString(domain, uuid) < 0 || virDomainGetInfo(domain, &info) < 0)
        return NULL;
    struct virt_guest *guest = NEW(struct virt_guest);
    guest->uuid = text_dup(uuid);
    guest->name = text_dup(virDomainGetName(domain));
    guest->state = libvirt_state_of(info.state);
    guest->memory_kib = (int64_t)info.maxMem;
    guest->vcpus = info.nrVirtCpu;
    guest->persistent = virDomainIsPersistent(domain) == 1;
    return guest;
}

/* Domains that leave while we look are left out. */
static int list(struct virt *virt, struct virt_guest ***out, size_t *count, struct err *e)
{
    LIBVIRT_CALL(call);
    virDomainPtr *domains = NULL;
    if (libvirt_call_begin(&call, virt, NULL, false, e) < 0)
        return -1;
    int found = virConnectListAllDomains(call.connection, &domains, 0);
    if (found < 0)
        return libvirt_call_error(&call, e, "the domains of this host cannot be listed");
    struct virt_guest **guests = NEW_ARRAY(struct virt_guest *, (size_t)found + 1);
    size_t used = 0;
    for (int i = 0; i < found; i++) {
        struct virt_guest *guest = short_form(domains[i]);
        if (guest)
            guests[used++] = guest;
        virDomainFree(domains[i]);
    }
    free(domains);
    *out = guests;
    *count = used;
    return 0;
}

static int suspend(struct virt *virt, const char *uuid, struct err *e)
{
    LIBVIRT_CALL(call);
    if (libvirt_call_begin(&call, virt, uuid, false, e) < 0)
        return -1;
    if (virDomainSuspend(call.domain) < 0)
        return libvirt_call_error(&call, e, "domain %s cannot be paused", uuid);
    return 0;
}

static int resume(struct virt *virt, const char *uuid, struct err *e)
{
    LIBVIRT_CALL(call);
    if (libvirt_call_begin(&call, virt, uuid, false, e) < 0)
        return -1;
    if (virDomainResume(call.domain) < 0)
        return libvirt_call_error(&call, e, "domain %s cannot be resumed", uuid);
    return 0;
}

static bool gone(void)
{
    const virError *last = virGetLastError();
    return last && last->code == VIR_ERR_NO_DOMAIN;
}

int libvirt_power_off_now(const struct libvirt_call *call, const char *uuid, struct err *e)
{
    if (virDomainIsActive(call->domain) == 0 || virDomainDestroy(call->domain) == 0 || gone())
        return 0;
    return libvirt_call_error(call, e, "domain %s cannot be powered off", uuid);
}

/* A transient domain has gone with its power; the flags are those of QEMU, other drivers know fewer. */
static int drop_definition(const struct libvirt_call *call, const char *uuid, struct err *e)
{
    static const unsigned flags[] = {
        VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | VIR_DOMAIN_UNDEFINE_NVRAM |
            VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA | VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA,
        0,
    };
    for (size_t i = 0; i < ARRAY_LEN(flags); i++)
        if (virDomainUndefineFlags(call->domain, flags[i]) == 0 || gone())
            return 0;
    return libvirt_call_error(call, e, "domain %s cannot be undefined", uuid);
}

static int destroy(struct virt *virt, const char *uuid, struct err *e)
{
    LIBVIRT_CALL(call);
    bool absent;
    if (libvirt_begin_or_absent(&call, virt, uuid, &absent, e) < 0)
        return -1;
    if (absent)
        return 0;
    bool persistent = virDomainIsPersistent(call.domain) == 1;
    if (libvirt_power_off_now(&call, uuid, e) < 0)
        return -1;
    return persistent ? drop_definition(&call, uuid, e) : 0;
}

/* Paused by the migration itself, and never anything else: it has not run here. */
static bool never_ran(int state, int reason)
{
    return state == VIR_DOMAIN_PAUSED &&
           (reason == VIR_DOMAIN_PAUSED_MIGRATION || reason == VIR_DOMAIN_PAUSED_STARTING_UP);
}

/*
 * libvirt has no "destroy only if it never ran": between the look and the act the source could hand the
 * guest over. The caller comes here only when the source's job is known to be over.
 */
static int destroy_incoming(struct virt *virt, const char *uuid, struct err *e)
{
    LIBVIRT_CALL(call);
    bool absent;
    int state, reason;
    if (libvirt_begin_or_absent(&call, virt, uuid, &absent, e) < 0)
        return -1;
    if (absent)
        return 0;
    if (domain_state(&call, uuid, &state, &reason, e) < 0)
        return -1;
    if (!never_ran(state, reason))
        return err_set(
            e, ERR_INSTANCE_STATE,
            "domain %s is %s on this host, so it is not removed as an unfinished arrival", uuid,
            virt_state_name(libvirt_state_of(state)));
    return libvirt_power_off_now(&call, uuid, e);
}

static int undefine(struct virt *virt, const char *uuid, struct err *e)
{
    LIBVIRT_CALL(call);
    bool absent;
    if (libvirt_begin_or_absent(&call, virt, uuid, &absent, e) < 0)
        return -1;
    if (absent)
        return 0;
    if (virDomainIsActive(call.domain) == 1)
        return err_set(e, ERR_INSTANCE_STATE, "domain %s runs on this host, so it is not undefined",
                       uuid);
    return drop_definition(&call, uuid, e);
}

/* --- life --- */

static char *uri_of(const struct conf *conf)
{
    const char *given = conf_string(conf, CONF_libvirt_connection_uri);
    const char *type = conf_string(conf, CONF_libvirt_virt_type);
    static const char *const uris[][2] = {
        {"lxc", "lxc:///"},
        {"parallels", "parallels:///system"},
    };
    if (given && *given)
        return text_dup(given);
    for (size_t i = 0; i < ARRAY_LEN(uris); i++)
        if (text_equal(type, uris[i][0]))
            return text_dup(uris[i][1]);
    return text_dup("qemu:///system");
}

static void set_conf(struct virt *virt, const struct conf *conf)
{
    struct libvirt *lv = libvirt_of(virt);
    pthread_mutex_lock(&lv->lock);
    struct conf *old = lv->conf;
    lv->conf = conf_ref(conf);
    pthread_mutex_unlock(&lv->lock);
    conf_unref(old);
}

static void stop(struct virt *virt)
{
    libvirt_connection_stop(libvirt_of(virt));
    libvirt_loop_unbind();
}

static void release(struct virt *virt)
{
    struct libvirt *lv = libvirt_of(virt);
    libvirt_host_forget(lv);
    conf_unref(lv->conf);
    free(lv->uri);
    if (lv->notify_fd >= 0)
        close(lv->notify_fd);
    pthread_cond_destroy(&lv->wake);
    pthread_mutex_destroy(&lv->lock);
    free(lv);
}

static const struct virt_provider provider = {
    .name = "libvirt",
    .stop = stop,
    .destroy = release,
    .set_conf = set_conf,
    .host_read = libvirt_host_read,
    .host_facts = libvirt_host_facts,
    .describe = describe,
    .state = get_state,
    .list = list,
    .migratable_xml = migratable_xml,
    .metadata = metadata,
    .migrate = libvirt_migrate,
    .sample = libvirt_sample,
    .dirty_rate_begin = libvirt_dirty_rate_begin,
    .dirty_rate_look = libvirt_dirty_rate_look,
    .processor_ns = libvirt_processor_ns,
    .set_downtime = libvirt_set_downtime,
    .set_bandwidth = libvirt_set_bandwidth,
    .start_post_copy = libvirt_start_post_copy,
    .abort = libvirt_abort,
    .post_copy = libvirt_post_copy,
    .suspend = suspend,
    .resume = resume,
    .guest_destroy = destroy,
    .destroy_incoming = destroy_incoming,
    .undefine = undefine,
    .create = libvirt_create,
    .define = libvirt_define,
    .start = libvirt_start,
    .shutdown = libvirt_shutdown,
    .reboot = libvirt_reboot,
    .power_off = libvirt_power_off,
    .save = libvirt_save,
    .save_remove = libvirt_save_remove,
    .attach = libvirt_attach,
    .detach = libvirt_detach,
    .xml = libvirt_xml,
    .diagnostics = libvirt_diagnostics,
    .copy_disk = libvirt_copy_disk,
    .resources = libvirt_resources,
    .status = libvirt_status,
};

static void init_wake(struct libvirt *lv)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&lv->wake, &attributes);
    pthread_condattr_destroy(&attributes);
}

int virt_new(struct virt **out, struct loop *loop, const struct conf *conf,
             const struct virt_callbacks *callbacks, void *aux, struct err *e)
{
    libvirt_error_silence();
    if (virInitialize() < 0)
        return libvirt_error(e, "libvirt cannot be used");
    if (libvirt_loop_bind(loop, e) < 0)
        return -1;
    struct libvirt *lv = NEW(struct libvirt);
    virt_init(&lv->base, &provider, loop, callbacks, aux);
    lv->uri = uri_of(conf);
    lv->conf = conf_ref(conf);
    lv->notify_fd = -1;
    pthread_mutex_init(&lv->lock, NULL);
    init_wake(lv);
    if (libvirt_connection_start(lv, e) < 0) {
        virt_free(&lv->base);
        return -1;
    }
    *out = &lv->base;
    return 0;
}
