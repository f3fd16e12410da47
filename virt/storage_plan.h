/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The peer's list of disks, read and checked: from here on there are names and numbers, no paths of the
 * peer except for comparing and for asking the peer.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <json-c/json_object.h>

#include "lib/attributes.h"
#include "lib/err.h"

struct storage_disk {
    char *source_path; /* as the peer says; only a key of the list of paths */
    char *name;        /* file in the instance's directory here */
    char *root;        /* the source's instances_path, NULL if the disk lies elsewhere */
    char *format;
    int64_t virtual_size, used;
    bool read_only;  /* content is copied from the source, libvirt does not */
    char *base;      /* file in _base; NULL = none */
    char *base_path; /* on the source; NULL */
    char *base_format;
    bool base_format_told;
    int64_t base_size; /* -1 = not told */
};

struct storage_disks {
    struct storage_disk *items;
    size_t count;
    char **files; /* other files to copy from the instance's directory; NULL-terminated */
    char *root;   /* the source's instances_path; NULL if no disk lies there */
};

int storage_disks_parse(struct json_object *disk_info, const char *instance_uuid,
                        struct storage_disks **out, struct err *e);
void storage_disks_free(struct storage_disks *disks);
DEFINE_CLEANUP(struct storage_disks *, storage_disks_free)

/* Names that each host makes for itself: equal names do not mean equal content. */
bool storage_base_is_local(const char *base);
