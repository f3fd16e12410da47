/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files of _base while they are made: an image, a blank file system, a copy of the source's. Each has a name of
 * its own, "computed-<...>.part", until it is whole. All of it blocks.
 */
#pragma once

#include <stdbool.h>

#include "lib/err.h"
#include "lib/undo.h"

/* "computed-<middle>.part"; the caller frees. */
char *base_part_name(const char *middle);
/* True for such names. */
bool base_part_is(const char *name);
/* A new name that nobody else has; the caller frees *part. Undo: "storage.remove_file", pushed first. */
int base_part_begin(struct undo *undo, char **part, struct err *e);
/*
 * Gives the file its final name, without replacing: if somebody was faster, theirs (also
 * nova-compute's) is as good and may be in use.
 * The name .part stays, for the caller to remove. ERR_DISK.
 */
int base_part_publish(int directory_fd, const char *part, const char *name, struct err *e);
