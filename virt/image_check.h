/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Is a file that a tenant uploaded what its record says? Everything that QEMU would follow to other files
 * of this host is refused (CVE-2015-5162, CVE-2022-47951, CVE-2024-32498), by looking at a few bytes, before
 * any program opens it.
 */
#pragma once

#include <stdbool.h>

#include "lib/err.h"

/*
 * `disk_format` is Glance's: raw, qcow2, iso, ami, aki, ari. *format is QEMU's then: "raw" or "qcow2", static.
 * `path` names the file `fd` for qemu-img, `image` is its id for messages, which tenants read. `kernel`: it is
 * loaded by QEMU as a kernel or ramdisk and may look as it likes. What is refused is ERR_DISK with the wire
 * class ImageUnacceptable.
 */
int image_check_upload(int fd, const char *path, const char *image, const char *disk_format,
                       bool kernel, const char **format, struct err *e);

/*
 * The format of a file of the image cache: "raw" or "qcow2", static. Bases are written by agents alone,
 * after the check above, and by no guest, so this one may be found out; what has a backing or a data file
 * is ERR_DISK all the same.
 */
int image_base_format(int fd, const char *path, const char **format, struct err *e);
