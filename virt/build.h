/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A new guest: what the agent wants, and the domain XML that comes of it (libxml2, pure, any thread). The
 * layout is Nova's (libvirt driver of Zed), so that nova-compute can take the guest over: names, file
 * names, <metadata>, device order, serial console with its log file.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "lib/err.h"

/* Strings are borrowed; NULL or 0 = not given, unless said otherwise. */
struct virt_build_disk {
    const char *path, *format; /* "raw", "qcow2" */
    const char *target, *bus;  /* "vda", "virtio" */
    const char *device;        /* "disk", "cdrom", "floppy", "lun"; NULL = "disk" */
    bool block;                /* path is a block device, not a file */
    const char *cache;         /* "none", "writeback", ...; NULL = none where the file system can */
    const char *io, *discard;
    const char *serial;
    int boot_order; /* 0 = none; without a kernel they decide the order of <os><boot> */
    bool read_only;
    /* quota:disk_*: bytes and requests a second; 0 = no limit */
    int64_t read_bytes_sec, write_bytes_sec, total_bytes_sec;
    int64_t read_iops_sec, write_iops_sec, total_iops_sec;
};

struct virt_build_interface {
    const char *mac, *model; /* "virtio", "e1000", ...; NULL = the hypervisor's choice */
    const char *driver;      /* "qemu", "vhost"; NULL = not said, "vhost" with queues */
    const char *tap, *bridge;
    bool openvswitch; /* <virtualport type='openvswitch'> with interface_id */
    bool ethernet;    /* <interface type='ethernet'>: the port is made by us (delegated) */
    bool unmanaged;   /* <target managed='no'/> */
    const char *interface_id;
    int mtu;
    int queues;        /* virtio multiqueue; 0, 1 = off */
    int rx_queue_size; /* 0 = the hypervisor's */
    bool packed;
    /* quota:vif_*: KiB/s and KiB */
    int64_t inbound_average, inbound_peak, inbound_burst;
    int64_t outbound_average, outbound_peak, outbound_burst;
};

struct virt_build {
    const char *uuid, *name;  /* instance-%08x */
    const char *title;        /* display name; what is not printable becomes "?" */
    const char *metadata_xml; /* Nova's <nova:instance> element, well-formed; NULL */
    const char *virt_type;    /* "kvm", "qemu" */
    const char *arch, *machine, *emulator;
    int64_t memory_mb;
    int vcpus, sockets, cores, threads; /* 0 = vcpus sockets of one core, as Nova */
    const char *cpu_mode;               /* "none", "custom", "host-model", "host-passthrough" */
    const char *const *cpu_models;      /* of mode custom; NULL-terminated */
    const char *const *cpu_flags;       /* "+name" or "-name"; NULL-terminated */
    const char *cpuset;                 /* host CPUs: "0-3,6"; NULL = all */
    int64_t cpu_shares, cpu_period, cpu_quota;
    bool memory_locked;

    const char *kernel, *initrd, *command_line;
    const char *firmware; /* "bios", "uefi" */
    const char *os_type;  /* "linux", "windows": clock and timers */
    bool acpi;            /* x86 default true; with it goes the APIC */
    bool no_apic;
    bool hpet, hide_hypervisor, boot_menu;
    int pmu; /* 1 = on, -1 = off, 0 = the hypervisor's choice */

    const struct virt_build_disk *disks;
    size_t disk_count;
    const struct virt_build_interface *interfaces;
    size_t interface_count;

    const char *console_log; /* file of the serial console's log */
    bool serial_tcp;         /* [serial_console]: TCP ports instead of a pty */
    const char *serial_host;
    const int *serial_ports;
    size_t serial_port_count;
    const char *vnc_listen, *spice_listen; /* NULL = none */
    bool spice_agent;
    const char *keymap;
    const char *video; /* model; NULL = as Nova: virtio/cirrus/... by arch; none without graphics */
    int64_t video_ram_mb;
    const char *pointer;   /* "usbtablet", "ps2mouse"; NULL = none is added */
    const char *input_bus; /* "usb", "virtio": a tablet and a keyboard there; NULL = by pointer */
    bool rng;              /* virtio RNG */
    const char *rng_path;
    int64_t rng_bytes, rng_period_ms;
    const char
        *watchdog;    /* action: "reset", "poweroff", "pause", "none"; NULL, "disabled" = none */
    bool guest_agent; /* hw_qemu_guest_agent */
    int balloon_period_s; /* memory statistics; 0 = no balloon statistics */
    const char *scsi_model;
    int pcie_ports;            /* root ports of a q35 or virt machine; 0 = as libvirt does */
    const char *system_serial; /* SMBIOS; NULL = the uuid, "" = none */
};

/*
 * Every value is checked by its kind first: ERR_INVALID names it and what is allowed. The XML is indented; the
 * caller frees it. VIRT_DISKS_MAX and VIRT_INTERFACES_MAX hold.
 */
int virt_build_xml(const struct virt_build *build, char **xml, struct err *e);
/* XML of one interface, for attach and detach. */
int virt_build_interface_xml(const struct virt_build_interface *interface, char **xml,
                             struct err *e);
