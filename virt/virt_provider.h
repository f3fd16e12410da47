/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The implementers' side of virt/virt.h: what a hypervisor provider brings. Users include virt/virt.h.
 *
 * A provider's object begins with a `struct virt`. virt.c counts the calls, checks arguments, passes the
 * fault points and holds a reference of the object while a call runs, so that a call which outlives
 * virt_free() (a stuck worker) never touches freed memory.
 */
#pragma once

#include <stdatomic.h>
#include <json-c/json_object.h>

#include "virt/virt.h"

/* What a provider knows of one domain; parsing is done by virt/guest.h. */
struct virt_domain_facts {
    char *xml; /* of the running domain, with security-sensitive parts left out */
    enum virt_state state;
    bool persistent;
    int64_t hypervisor_version, libvirt_version; /* of the host */
};

/* What the host says about one kind of guest, for virt/host_check.h. Strings are owned. */
struct virt_host_facts {
    char *hostname;
    int64_t hypervisor_version, libvirt_version;
    char *capabilities_xml; /* virConnectGetCapabilities */
    char *
        domain_capabilities_xml; /* virConnectGetDomainCapabilities for the guest's machine; NULL when
                                      the hypervisor has none for it */
    char *domain_capabilities_error; /* the hypervisor's words when it has none; else NULL */
    int cpu_match;                   /* enum virt_cpu_match */
    char *cpu_error;           /* the hypervisor's words when the comparison failed; else NULL */
    int64_t memory_available;  /* bytes, MemAvailable */
    int64_t memory_reserved;   /* bytes, reserved_host_memory_mb */
    enum virt_state uuid_here; /* a domain of the guest's uuid on this host */
    char *name_here_uuid;      /* uuid of the domain that has the guest's name here; NULL = none */
    bool firmware_readable;
    bool skip_cpu, skip_version; /* Nova's [workarounds] */
};
void virt_host_facts_clear(struct virt_host_facts *facts);

enum virt_cpu_match {
    VIRT_CPU_NOT_ASKED, /* the guest has no CPU of its own, or the hypervisor cannot compare */
    VIRT_CPU_FITS,
    VIRT_CPU_DIFFERS,
};

struct virt_provider {
    const char *name;
    /* Stops threads and events; loop thread, not inside a callback. Calls under way end soon after. */
    void (*stop)(struct virt *virt);
    /* Frees the object; any thread, when the last reference is gone. */
    void (*destroy)(struct virt *virt);
    void (*set_conf)(struct virt *virt, const struct conf *conf);

    int (*host_read)(struct virt *virt, struct virt_host *out, struct err *e);
    int (*host_facts)(struct virt *virt, const struct virt_guest *guest,
                      struct virt_host_facts *out, struct err *e);
    int (*describe)(struct virt *virt, const char *uuid_or_name, struct virt_domain_facts *out,
                    struct err *e);
    int (*state)(struct virt *virt, const char *uuid, enum virt_state *out, struct err *e);
    int (*list)(struct virt *virt, struct virt_guest ***out, size_t *count, struct err *e);
    int (*migratable_xml)(struct virt *virt, const char *uuid, char **out, struct err *e);
    int (*metadata)(struct virt *virt, const char *uuid, char **out, struct err *e);

    int (*migrate)(struct virt *virt, const struct virt_migration *migration,
                   enum virt_outcome *outcome, struct err *e);
    int (*sample)(struct virt *virt, const char *uuid, bool completed, struct virt_job *out,
                  struct err *e);
    int (*set_downtime)(struct virt *virt, const char *uuid, int64_t downtime_ms, struct err *e);
    int (*set_bandwidth)(struct virt *virt, const char *uuid, int64_t mib, struct err *e);
    int (*start_post_copy)(struct virt *virt, const char *uuid, struct err *e);
    int (*abort)(struct virt *virt, const char *uuid, struct err *e);
    int (*post_copy)(struct virt *virt, const char *uuid, enum virt_post_copy *out, struct err *e);
    int (*dirty_rate_begin)(struct virt *virt, const char *uuid, int seconds, struct err *e);
    int (*dirty_rate_look)(struct virt *virt, const char *uuid, int seconds, int64_t *bytes_per_s,
                           struct err *e);
    int (*processor_ns)(struct virt *virt, const char *uuid, int64_t *ns, struct err *e);

    int (*suspend)(struct virt *virt, const char *uuid, struct err *e);
    int (*resume)(struct virt *virt, const char *uuid, struct err *e);
    int (*guest_destroy)(struct virt *virt, const char *uuid, struct err *e);
    int (*destroy_incoming)(struct virt *virt, const char *uuid, struct err *e);
    int (*undefine)(struct virt *virt, const char *uuid, struct err *e);

    /* the life of a guest; xml and paths are the caller's */
    int (*create)(struct virt *virt, const char *xml, bool paused, struct err *e);
    int (*define)(struct virt *virt, const char *xml, struct err *e);
    int (*start)(struct virt *virt, const char *uuid, struct err *e);
    int (*shutdown)(struct virt *virt, const char *uuid, struct err *e);
    int (*reboot)(struct virt *virt, const char *uuid, struct err *e);
    int (*power_off)(struct virt *virt, const char *uuid, struct err *e);
    int (*save)(struct virt *virt, const char *uuid, struct err *e);
    int (*save_remove)(struct virt *virt, const char *uuid, struct err *e);
    int (*attach)(struct virt *virt, const char *uuid, const char *device_xml, struct err *e);
    int (*detach)(struct virt *virt, const char *uuid, const char *device_xml, int64_t timeout_us,
                  struct err *e);
    int (*xml)(struct virt *virt, const char *uuid, char **out, struct err *e);
    int (*diagnostics)(struct virt *virt, const char *uuid, struct json_object **out,
                       struct err *e);
    int (*copy_disk)(struct virt *virt, const char *uuid, const char *target, const char *path,
                     const char *format, struct err *e);
    int (*resources)(struct virt *virt, struct virt_resources *out, struct err *e);

    struct json_object *(*status)(struct virt *virt);
};

struct virt {
    const struct virt_provider *provider;
    struct loop *loop;
    struct virt_callbacks callbacks; /* cleared by virt_free(): no call after it */
    void *aux;
    atomic_uint references;
    atomic_bool up;
};

/* Fills the common part; one reference. */
void virt_init(struct virt *virt, const struct virt_provider *provider, struct loop *loop,
               const struct virt_callbacks *callbacks, void *aux);
struct virt *virt_ref(struct virt *virt);
void virt_unref(struct virt *virt); /* any thread */
DEFINE_CLEANUP(struct virt *, virt_unref)

/* Calls the agent's callback; loop thread. */
void virt_tell_connection(struct virt *virt, bool up, const char *why);
void virt_tell_event(struct virt *virt, const char *uuid, enum virt_event event, int64_t at_us);
void virt_tell_iteration(struct virt *virt, const char *uuid, int iteration, int64_t at_us);
void virt_tell_job_completed(struct virt *virt, const char *uuid, const struct virt_job *job,
                             int64_t at_us);
