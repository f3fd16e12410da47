/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a flavor's extra specs, an image's properties and the configuration decide of a new guest, with
 * Nova's precedence and refusals (nova/virt/hardware.py and the libvirt driver of Zed). Pure but for one
 * look at files: the RNG's device, and whether instances_path knows O_DIRECT (that one call of a disk
 * blocks; use a worker). Any thread.
 *
 *     virt_build_options_make(&request, &options, e);
 *     struct virt_build guest = options->build;          (strings belong to `options`)
 *     struct virt_build_disk root = options->disk;       then path, format, target, boot_order
 *     struct virt_build_interface port = options->interface;   then mac, tap, bridge, mtu ...
 *
 * Left to the caller: uuid, name, metadata, kernel and initrd, the lists of disks and interfaces, console_log,
 * serial_ports (serial_port_count says how many), and the addresses of [vnc] and [spice], which are filled.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <json-c/json_object.h>

#include "conf/conf.h"
#include "lib/err.h"
#include "virt/build.h"

struct virt_build_request {
    const struct conf *conf;
    struct json_object *extra_specs; /* of the flavor: {"hw:cpu_sockets": "2"}; NULL = none */
    struct json_object
        *image_properties; /* {"hw_disk_bus": "virtio"}: strings, numbers and booleans,
                                             names as in ImageMetaProps; null and "" count as absent */
    const char *host_arch; /* "x86_64"; NULL = this machine's */
    const char *os_type;   /* instance.os_type; NULL = the image's */
    int vcpus;
    int64_t memory_mb;
    bool is_iso;               /* the root disk is a CD-ROM */
    bool has_kernel;           /* direct boot: command_line is filled */
    const char *root_device;   /* "/dev/vda", for the command line; NULL = the first of disk_bus */
    const char *instance_uuid; /* for sysinfo_serial = unique; may be NULL */
};

struct virt_build_options {
    struct virt_build build;
    struct virt_build_disk disk;           /* cache, io, discard, quotas, bus = disk_bus */
    struct virt_build_interface interface; /* model, driver, queues, packed, quotas */
    const char *disk_bus, *cdrom_bus;
    const char *disk_prefix, *cdrom_prefix; /* of target names: "vd", "hd", "sd" */
    /* what the pointers above point to */
    char **strings;
    size_t string_count;
    const char **pointers;
    struct conf *conf;
};

/*
 * ERR_INVALID names the key, the value and what is allowed; where Nova has an exception of its own for it the
 * error's wire class is that one (FlavorImageConflict, ImageVCPULimitsRangeExceeded,
 * ImageVCPUTopologyRangeExceeded, ImageVCPULimitsRangeImpossible, UnsupportedHardware, InvalidVideoMode,
 * RequestedVRamTooHigh, InvalidWatchdogAction, ImageSerialPortNumberExceedFlavorValue, ...).
 * ERR_NOT_IMPLEMENTED for what this agent does not build: NUMA topology and pinning, huge pages, vTPM,
 * memory encryption, secure boot, vIOMMU, realtime; never silently left out.
 */
int virt_build_options_make(const struct virt_build_request *request,
                            struct virt_build_options **out, struct err *e);
void virt_build_options_free(struct virt_build_options *options);
DEFINE_CLEANUP(struct virt_build_options *, virt_build_options_free)
