/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The hypervisor as the agent uses it. Behind it is virt/virt_provider.h with two providers: libvirt
 * and fake (tests).
 *
 * Functions marked BLOCKS make hypervisor calls: call them on a worker (lib/workers.h), from any number
 * of threads at once; none of them holds a lock while it waits, so one that hangs never stops another.
 * Events come on the loop, stamped with clock_monotonic_us() when they were received.
 *
 * The connection is made and made again in the background for ever; while it is away BLOCKS functions
 * fail at once with ERR_HYPERVISOR.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "conf/conf.h"
#include "lib/err.h"
#include "lib/loop.h"
#include "virt/guest.h"

struct virt;

enum virt_event {
    VIRT_EVENT_STARTED,          /* a domain began to exist here (incoming ones are paused first) */
    VIRT_EVENT_PAUSED,           /* by somebody */
    VIRT_EVENT_PAUSED_MIGRATION, /* source: stopped for the switch-over (SUSPENDED_MIGRATED) */
    VIRT_EVENT_PAUSED_POSTCOPY,  /* source: post-copy phase began */
    VIRT_EVENT_PAUSED_IO_ERROR,
    VIRT_EVENT_RESUMED,           /* by somebody, or on the source after a failed switch-over */
    VIRT_EVENT_RESUMED_MIGRATION, /* destination: it runs here now (RESUMED_MIGRATED) */
    VIRT_EVENT_RESUMED_POSTCOPY,  /* destination: it runs here, pages still come */
    VIRT_EVENT_POSTCOPY_FAILED,
    VIRT_EVENT_STOPPED,           /* shut off, destroyed, crashed, failed */
    VIRT_EVENT_STOPPED_MIGRATION, /* source: gone because it moved (STOPPED_MIGRATED) */
    VIRT_EVENT_DEFINED,
    VIRT_EVENT_UNDEFINED,
};
const char *virt_event_name(enum virt_event event);

/* One sample of a running job, or the statistics of one that completed (virDomainGetJobStats). */
struct virt_job {
    bool active;    /* an outgoing migration runs */
    bool completed; /* statistics of the last completed job */
    int64_t elapsed_ms, setup_ms;
    int64_t memory_total, memory_processed, memory_remaining; /* bytes */
    int64_t memory_bps;                                       /* bytes a second; 0 = unknown */
    int64_t dirty_rate; /* bytes a second (pages * page size); 0 = unknown */
    int64_t page_size;
    int iteration;
    int64_t disk_total, disk_processed, disk_remaining, disk_bps;
    int throttle_percent; /* auto-converge */
    int64_t downtime_ms;  /* expected while active, real when completed; -1 = not given */
    int64_t postcopy_requests;
    bool post_copy;        /* the guest was paused for post-copy, which goes on or failed */
    bool post_copy_failed; /* its connection was lost: the guest's memory lies on both hosts */
    char error[256];       /* libvirt's errmsg; "" */
};

struct virt_callbacks {
    void (*connection)(void *aux, bool up, const char *why);
    void (*event)(void *aux, const char *uuid, enum virt_event event, int64_t at_us);
    void (*iteration)(void *aux, const char *uuid, int iteration, int64_t at_us);
    void (*job_completed)(void *aux, const char *uuid, const struct virt_job *job, int64_t at_us);
};

/* Registers the event implementation bound to the loop, starts connecting. Loop thread. */
int virt_new(struct virt **out, struct loop *loop, const struct conf *conf,
             const struct virt_callbacks *callbacks, void *aux, struct err *e);
void virt_free(struct virt *virt);
bool virt_is_up(const struct virt *virt);
/* Takes over a reloaded configuration. Loop thread. */
void virt_set_conf(struct virt *virt, const struct conf *conf);

struct virt_host {
    char *hostname, *uri, *type; /* "QEMU" */
    int64_t hypervisor_version, libvirt_version;
    int64_t memory_total, memory_available; /* bytes; available as the kernel estimates it */
    int cpus;
};
int virt_host_read(struct virt *virt, struct virt_host **out, struct err *e); /* BLOCKS */
void virt_host_free(struct virt_host *host);
DEFINE_CLEANUP(struct virt_host *, virt_host_free)

/* BLOCKS. Live facts of a domain by uuid or name; ERR_NO_INSTANCE. Disk sizes are not filled. */
int virt_guest_read(struct virt *virt, const char *uuid_or_name, struct virt_guest **out,
                    struct err *e);
/* BLOCKS. State alone; VIRT_STATE_NONE when there is none (that is no error). */
int virt_guest_state(struct virt *virt, const char *uuid, enum virt_state *out, struct err *e);
/* BLOCKS. All domains of the host, short form (no disks, no interfaces). */
int virt_guest_list(struct virt *virt, struct virt_guest ***out, size_t *count, struct err *e);
void virt_guest_list_free(struct virt_guest **list, size_t count);
/* BLOCKS. The XML of VIR_DOMAIN_XML_MIGRATABLE. */
int virt_guest_migratable_xml(struct virt *virt, const char *uuid, char **out, struct err *e);
/* BLOCKS. Text of the domain's metadata element for this agent: settings as JSON, in the namespace
 * "https://computed.invalid/settings/1"; NULL text when there is none. */
int virt_guest_metadata(struct virt *virt, const char *uuid, char **out, struct err *e);

/*
 * BLOCKS. Everything that must fit before a guest may come here: hypervisor version (older destination
 * refused, newer is one warning in *warning, caller frees, NULL otherwise), machine type and firmware
 * known (domain capabilities), the guest's real CPU against the domain capabilities'
 * (virConnectCompareHypervisorCPU), memory actually free less reserved_host_memory_mb, no domain of
 * that uuid or name here, nothing that we cannot migrate (PCI devices, mdevs, vTPM). ERR_PRECHECK or
 * ERR_NO_SPACE with one sentence that names both values.
 */
int virt_check_destination(struct virt *virt, const struct virt_guest *guest, char **warning,
                           struct err *e);

/* What came of one check, for people: the values that were compared, or why the guest may not come. */
enum virt_finding {
    VIRT_FINDING_FITS,
    VIRT_FINDING_WARNS,
    VIRT_FINDING_REFUSES,
    VIRT_FINDING_UNKNOWN, /* another one refused, without which this cannot be looked at */
};
typedef void (*virt_tell_fn)(void *aux, const char *check, enum virt_finding finding,
                             const char *text);
/* BLOCKS. The same checks, each of them told, also after one that refuses. -1 when the host cannot be asked. */
int virt_check_destination_each(struct virt *virt, const struct virt_guest *guest,
                                virt_tell_fn tell, void *aux, struct err *e);

struct virt_migration {
    const char *uuid;
    const char *destination_uri; /* "qemu+tcp://198.51.100.12/system" */
    const char *migrate_uri;     /* "tcp://198.51.100.12" or NULL */
    const char *destination_xml; /* also the persistent XML: PERSIST_DEST always has one */
    bool block_migration;        /* needs copy_disks; with none the flag is left out, never empty */
    char *const *copy_disks;     /* NULL-terminated target names */
    bool tunnelled, tls, auto_converge, post_copy, synchronous_writes;
    bool resume_post_copy; /* goes on with a post-copy that failed; needs no XML */
    int auto_converge_initial, auto_converge_increment; /* percent; 0 = QEMU's */
    int parallel_connections;                           /* 1 = off */
    int64_t bandwidth_mib;      /* MiB/s; 0 = no limit; divided among disks by the caller's rule */
    int64_t disk_bandwidth_mib; /* per disk; 0 = as bandwidth */
    int64_t post_copy_bandwidth_mib; /* 0 = no limit */
    const char *listen_address;      /* NULL */
};

enum virt_outcome {
    VIRT_OUTCOME_COMPLETED, /* libvirt says it moved */
    VIRT_OUTCOME_FAILED,    /* it did not; the guest is here */
    VIRT_OUTCOME_CANCELLED, /* by virt_migration_abort() */
    VIRT_OUTCOME_UNKNOWN,   /* the connection broke: look at the domain on both hosts */
};
/* BLOCKS for the whole migration (virDomainMigrateToURI3, peer-to-peer). Always tells the outcome;
 * returns -1 with *e for all but COMPLETED. A post-copy that lost its connection is UNKNOWN, and the sample says
 * so; with resume_post_copy the same call goes on with it. */
int virt_migrate(struct virt *virt, const struct virt_migration *migration,
                 enum virt_outcome *outcome, struct err *e);

/* BLOCKS, quick. All of these are for a running outgoing migration of the domain. */
int virt_migration_sample(struct virt *virt, const char *uuid, struct virt_job *out, struct err *e);
int virt_migration_completed(struct virt *virt, const char *uuid, struct virt_job *out,
                             struct err *e);
int virt_migration_set_downtime(struct virt *virt, const char *uuid, int64_t downtime_ms,
                                struct err *e);
int virt_migration_set_bandwidth(struct virt *virt, const char *uuid, int64_t mib, struct err *e);
int virt_migration_start_post_copy(struct virt *virt, const char *uuid, struct err *e);
int virt_migration_abort(struct virt *virt, const char *uuid, struct err *e);
/* BLOCKS, quick. At either side: is a part of the guest's memory on the other host? */
enum virt_post_copy {
    VIRT_POST_COPY_NONE,
    VIRT_POST_COPY_RUNS,
    VIRT_POST_COPY_FAILED /* libvirt saw that it lost its connection */
};
int virt_migration_post_copy(struct virt *virt, const char *uuid, enum virt_post_copy *out,
                             struct err *e);

/*
 * BLOCKS, quick. How fast a running guest dirties its memory over `seconds` (1 to 60), bytes a second
 * (virDomainStartDirtyRateCalc: pages are sampled, the guest is not slowed down). What is measured are distinct
 * pages: a guest that rewrites few of them quickly shows their size over `seconds` at most. It is begun, goes on by
 * itself, and is looked for; *bytes_per_s = -1 while there is no outcome of that many seconds. libvirt begins none
 * while the guest is being moved (the call would wait for 30 s), but one that was begun before goes on and can be
 * looked for. While one goes on no other begins. ERR_NOT_IMPLEMENTED where libvirt or QEMU has no such measurement.
 */
int virt_dirty_rate_begin(struct virt *virt, const char *uuid, int seconds, struct err *e);
int virt_dirty_rate_look(struct virt *virt, const char *uuid, int seconds, int64_t *bytes_per_s,
                         struct err *e);
/* BLOCKS, quick: QEMU is not asked. The processor time that a guest used since it was started, with all that its
 * emulator does for it (virDomainListGetStats, "cpu.time"): exact by a cgroup, otherwise in ticks of 10 ms. */
int virt_guest_processor_ns(struct virt *virt, const char *uuid, int64_t *ns, struct err *e);

/* BLOCKS. Acts on a domain here. destroy/undefine of what does not exist is success. */
int virt_guest_suspend(struct virt *virt, const char *uuid, struct err *e);
int virt_guest_resume(struct virt *virt, const char *uuid, struct err *e);
int virt_guest_destroy(struct virt *virt, const char *uuid,
                       struct err *e); /* power off + undefine */
/* Destination: destroys only an incoming, never-run domain of a migration; ERR_INSTANCE_STATE if it
 * runs (promise S1). */
int virt_guest_destroy_incoming(struct virt *virt, const char *uuid, struct err *e);
/* Undefines a shut-off persistent definition (source, after the move). */
int virt_guest_undefine(struct virt *virt, const char *uuid, struct err *e);

/* ---- the life of a guest (BLOCKS, all of them) ---- */

/* Defines the domain (it need not exist) and starts it; paused if so wanted. ERR_VIRT with libvirt's
 * words; a domain that could not be started stays defined. */
int virt_guest_create(struct virt *virt, const char *xml, bool paused, struct err *e);
int virt_guest_define(struct virt *virt, const char *xml, struct err *e);
/* Starts a defined domain; success when it runs already. */
int virt_guest_start(struct virt *virt, const char *uuid, struct err *e);
/* ACPI shutdown asked for (ERR_VIRT if it cannot be asked); the event VIRT_EVENT_STOPPED tells the end. */
int virt_guest_shutdown(struct virt *virt, const char *uuid, struct err *e);
int virt_guest_reboot(struct virt *virt, const char *uuid, struct err *e);
/* Power off, definition kept; success when it is off already. */
int virt_guest_power_off(struct virt *virt, const char *uuid, struct err *e);
/* Managed save and removal of its image (suspend, resume = start). */
int virt_guest_save(struct virt *virt, const char *uuid, struct err *e);
int virt_guest_save_remove(struct virt *virt, const char *uuid, struct err *e);
/* Device XML on the live domain and its definition. Detach returns when the guest has let it go (event) or
 * after timeout_us: ERR_TIMEOUT. What is not there is success for detach. */
int virt_guest_attach(struct virt *virt, const char *uuid, const char *device_xml, struct err *e);
int virt_guest_detach(struct virt *virt, const char *uuid, const char *device_xml,
                      int64_t timeout_us, struct err *e);
/* XML of the domain as it is, for hard reboot's comparison and for consoles. Caller frees. */
int virt_guest_xml(struct virt *virt, const char *uuid, char **out, struct err *e);
/* Ports of the running domain: VNC, SPICE and TCP serial consoles. -1 = none. */
struct virt_consoles {
    int vnc_port, spice_port, spice_tls_port;
    int serial_ports[4];
    int serial_count;
};
int virt_guest_consoles(struct virt *virt, const char *uuid, struct virt_consoles *out,
                        struct err *e);
/* Nova's diagnostics (get_instance_diagnostics, version 1.0 of its object): {"state", "driver",
 * "hypervisor", "hypervisor_os", "num_cpus", "cpu_details", "nic_details", "disk_details", "memory_details"...}
 * as far as libvirt tells, and for the older form of it "memory_statistics" and each disk's and interface's
 * "name". New reference in *out. */
int virt_guest_diagnostics(struct virt *virt, const char *uuid, struct json_object **out,
                           struct err *e);
/* A consistent copy of a running guest's disk into a new qcow2 or raw file (blockdev copy to `path`, then
 * the job is ended); the guest runs on. */
int virt_guest_copy_disk(struct virt *virt, const char *uuid, const char *target, const char *path,
                         const char *format, struct err *e);

/* ---- the host as Nova's resource tracker wants it ---- */

struct virt_resources {
    char *hostname, *type; /* "QEMU" */
    int64_t hypervisor_version, libvirt_version;
    int cpus;
    int64_t memory_mb, memory_used_mb;
    int64_t local_gb, local_used_gb; /* of the file system of instances_path */
    int64_t disk_available_least_gb; /* less what sparse images may still grow to */
    struct json_object *cpu_info;    /* contract 2.3: arch, model, vendor, topology, features */
    struct json_object *supported_instances; /* [[arch, "qemu"|"kvm", "hvm"], ...] */
    char **
        traits; /* NULL-terminated: HW_CPU_* of the CPU model, COMPUTE_* of what this agent builds */
    size_t guests; /* domains, whatever their state */
    char *uptime;  /* as the program uptime prints it */
};
void virt_resources_free(struct virt_resources *resources);
DEFINE_CLEANUP(struct virt_resources *, virt_resources_free)
/* BLOCKS. */
int virt_resources_read(struct virt *virt, struct virt_resources **out, struct err *e);

/* {"up","type","version","libvirt_version","uri"} for status, from what is cached. New reference. */
struct json_object *virt_status(const struct virt *virt);
