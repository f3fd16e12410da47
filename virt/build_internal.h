/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by virt/build*.c. Nobody else includes it, except unit tests. */
#pragma once

#include <libxml/tree.h>

#include "virt/build.h"

/* All values of a guest, by kind. ERR_INVALID names the first that is not allowed. */
int build_check(const struct virt_build *build, struct err *e);
int build_check_interface(const struct virt_build_interface *interface, struct err *e);
/* True if `word` is one of the words, which are divided by "|". */
bool build_is_word(const char *words, const char *word);

/* The words that a value may be; the scheduler's traits are made from the same lists. */
#define BUILD_DISK_BUSES   "virtio|scsi|ide|sata|usb|fdc"
#define BUILD_VIF_MODELS   "virtio|ne2k_pci|pcnet|rtl8139|e1000|e1000e|igb|vmxnet3|lan9118|spapr-vlan"
#define BUILD_VIDEO_MODELS "virtio|cirrus|vga|qxl|vmvga|bochs|gop|none|xen"
#define BUILD_CACHE_MODES  "default|none|writethrough|writeback|directsync|unsafe"
#define BUILD_SCSI_MODELS  "virtio-scsi|lsilogic|lsisas1068|lsisas1078|buslogic|ibmvscsi|vmpvscsi"
#define BUILD_WATCHDOGS    "reset|poweroff|pause|none|disabled"
#define BUILD_CPU_MODES    "none|custom|host-model|host-passthrough"

/*
 * An element with attributes: name, value pairs, ended by NULL. An attribute whose value is NULL is left
 * out.
 */
xmlNode *build_add(xmlNode *parent, const char *name, ...) __attribute__((sentinel));
/* An element with text; nothing when the text is NULL. */
xmlNode *build_add_text(xmlNode *parent, const char *name, const char *text);
void build_set_number(xmlNode *node, const char *name, int64_t value);
void build_add_number(xmlNode *parent, const char *name, int64_t value);

/* <disk>; unit < 0 = no address of its own. */
void build_disk(xmlNode *devices, const struct virt_build_disk *disk, int unit);
void build_interface(xmlNode *parent, const struct virt_build_interface *interface);
/* All below <devices>, in Nova's order. */
void build_devices(xmlNode *devices, const struct virt_build *build);
