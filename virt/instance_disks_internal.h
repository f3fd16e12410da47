/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of virt/instance_disks.h share: a plan while it is carried out or looked for. */
#pragma once

#include "virt/instance_base.h"
#include "virt/instance_disks.h"

struct disks_base {
    int fd; /* holds a shared lock while an overlay is made on it, so that no one prunes it */
    char *path;
    const char *format;
    int64_t virtual_size, allocated;
};
void disks_base_clear(struct disks_base *base);

struct disks_work {
    const struct conf *conf;
    const struct instance_disks_plan *plan;
    struct undo *undo;
    bool flat;
    int directory_fd, cache_fd;
    struct disks_base root, kernel, ramdisk;
    struct blank ephemeral, swap;
    struct json_object *formats; /* disk.info */
    struct instance_disks disks;
};
struct disks_work disks_work_init(const struct conf *conf, const struct instance_disks_plan *plan);
void disks_work_clear(struct disks_work *work);
/* Checks the plan and fills flat, ephemeral and swap. */
int disks_work_check(struct disks_work *work, struct err *e);
/* One more disk of the result, with the next free device name of its bus. */
int disks_work_add(struct disks_work *work, const char *name, const char *format,
                   int64_t virtual_size, bool cdrom, struct err *e);

bool disks_drive_is_cdrom(const struct conf *conf);
/* -1 if there is no regular file of that name. */
int64_t disks_file_size(int directory_fd, const char *name);
