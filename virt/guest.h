/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the agent knows of one guest: read from libvirt's live XML and from its disks' images, carried to
 * the other host as JSON (an extra field of the migrate data that Python peers ignore). Plain data; the
 * functions are pure and may be called from any thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <json-c/json_object.h>

#include "lib/err.h"

enum virt_state {
    VIRT_STATE_NONE, /* no such domain */
    VIRT_STATE_RUNNING,
    VIRT_STATE_PAUSED,
    VIRT_STATE_SHUTOFF,
    VIRT_STATE_CRASHED,
    VIRT_STATE_SUSPENDED,
};
const char *virt_state_name(enum virt_state state); /* "running", ... */
int virt_state_nova(enum virt_state state);         /* Nova's power_state: 0 1 3 4 6 7 */

struct virt_disk {
    char *target; /* "vda" */
    char *bus;    /* "virtio" */
    char *kind;   /* libvirt disk type: "file", "block", "network", ... */
    char *device; /* "disk", "cdrom", "floppy", "lun" */
    char *path;   /* file or block device on the host; NULL for others */
    char *format; /* driver type as the XML says ("raw", "qcow2"); never probed */
    char *serial; /* volume id of attached volumes; NULL */
    bool read_only, shareable;
    /*
     * An attached volume, not to be copied: its <serial> is a UUID or its alias begins with "ua-" (what
     * Nova gives to volumes), or it is a network disk.
     */
    bool is_volume;
    char *backing_file; /* path of the backing image as libvirt's backingStore says; NULL = none */
    char *backing_format;
    bool deep_chain;                 /* the backing image has a backing image itself */
    int64_t virtual_size, allocated; /* bytes; -1 = not known yet */
    int64_t backing_size;            /* length of the backing file in bytes; -1 = not known */
};

struct virt_interface {
    char *mac;
    char *type;            /* "bridge", "ethernet", ... */
    char *bridge;          /* source bridge; NULL */
    char *target;          /* tap name */
    char *model;           /* "virtio" */
    char *virtualport;     /* "openvswitch" or NULL */
    char *interface_id;    /* of the virtualport; NULL */
    int mtu;               /* 0 = none given */
    bool target_unmanaged; /* <target managed='no'/> */
};

struct virt_guest {
    char *uuid, *name, *title;
    char *arch, *machine, *emulator,
        *domain_type;      /* "x86_64", "pc-i440fx-7.2", path, "qemu"/"kvm" */
    char *firmware;        /* path of the loader; NULL = the machine's own */
    char *kernel, *initrd; /* files of a direct boot; NULL */
    char *cpu_xml;         /* <cpu> of the live XML; NULL when the guest has the default CPU */
    int64_t memory_kib;
    int vcpus;
    enum virt_state state;
    bool persistent;
    bool has_mdev, has_pci_device, has_vtpm, has_vnc, has_spice;
    int tcp_serial_ports;
    struct virt_disk *disks;
    size_t disk_count;
    struct virt_interface *interfaces;
    size_t interface_count;
    /* of the host where it runs */
    int64_t hypervisor_version; /* QEMU, major*1000000 + minor*1000 + micro */
    int64_t libvirt_version;
};

enum { VIRT_DISKS_MAX = 256, VIRT_INTERFACES_MAX = 256 };

/*
 * Parses domain XML (no network, no entities, bounded). The XML does not tell `state` (left at
 * VIRT_STATE_NONE), `persistent`, versions and disk sizes. Values are checked for form: ERR_PARSE when it
 * cannot be read, ERR_INVALID for a value that is not allowed.
 */
int virt_guest_from_xml(const char *xml, struct virt_guest **out, struct err *e);
struct json_object *virt_guest_to_json(const struct virt_guest *guest);
/* Values from a peer: every name is validated by type. */
int virt_guest_from_json(struct json_object *o, struct virt_guest **out, struct err *e);
void virt_guest_free(struct virt_guest *guest);
DEFINE_CLEANUP(struct virt_guest *, virt_guest_free)

/*
 * Target names of the disks that a block migration copies: file or block, not read-only, not shareable,
 * no volume (nova-contract 5.4); with config drives on a cdrom left out (they are copied apart).
 * NULL-terminated, caller frees with text_vector_free(); may be empty, never NULL.
 */
char **virt_guest_disks_to_copy(const struct virt_guest *guest);
