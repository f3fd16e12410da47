/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What image.c does with qcow2 by itself (QEMU docs/interop/qcow2.txt), as a run of qemu-img takes longer than
 * all the rest of what a host prepares for a guest. An existing image's data and tables are not looked at.
 *
 * Functions block; any thread.
 */
#pragma once

#include "virt/image.h"

/* The backing file as the header names it, not resolved, and its format if an extension tells one; both NULL = none.
 * ERR_DISK. */
int image_qcow2_backing(int fd, const char *path, char **name, char **format, struct err *e);

/*
 * Writes an empty image of version 3 with clusters of 64 KiB, as `qemu-img create` does, into `fd`, an empty file. The
 * backing file is not looked at. ERR_DISK, ERR_NO_SPACE.
 */
int image_qcow2_make(int fd, const struct image_spec *spec, struct err *e);
