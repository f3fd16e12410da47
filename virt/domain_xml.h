/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Domain XML for the destination, rewritten through libxml2's DOM (nova-contract 5.3). Pure; any thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "lib/err.h"
#include "virt/guest.h"

/* A volume's disk element on the destination (LibvirtLiveMigrateBDMInfo). */
struct virt_volume {
    const char *serial, *bus, *device_type, *target, *format; /* format may be NULL */
    const char *source_type;                                  /* "file", "block" or "network" */
    const char *source;                                       /* path or network name */
    const char *boot_order;                                   /* NULL */
};

struct virt_path_change {
    const char *from, *to;
};

/* What differs on the destination. NULL or count 0 leaves a part as it is. */
struct virt_destination {
    const char *vnc_address, *spice_address;
    bool serial_address_set; /* serial_address may be NULL: leave */
    const char *serial_address;
    const int *serial_ports;
    size_t serial_port_count;
    const struct virt_volume *volumes;
    size_t volume_count;
    bool perf_events_set;
    const char *const *perf_events;
    size_t perf_event_count;
    bool file_backed_memory; /* dst_wants_file_backed_memory */
    bool keep_cpu_shares;    /* flavor quota:cpu_shares is given */
    bool interfaces_set;     /* then every <interface> must have its match by MAC */
    const struct virt_interface *interfaces;
    size_t interface_count;
    bool cpuset_set;                     /* dst_cpu_shared_set_info is present */
    const char *cpuset;                  /* ranges; "" = remove */
    struct virt_path_change *disk_paths; /* files whose path differs on the destination */
    size_t disk_path_count;
};

/*
 * Rewrites the source's migratable XML. Guest-visible facts (addresses, models, machine, serials) never
 * change; the result is parsed again and compared, and any other difference is an error. Caller frees.
 */
int virt_domain_xml_for_destination(const char *xml, const struct virt_destination *destination,
                                    char **out, struct err *e);
/* The XML with passwords and secrets taken out, for the log. */
int virt_domain_xml_redact(const char *xml, char **out, struct err *e);
