/* SPDX-License-Identifier: Apache-2.0 */
/* Copying a file on this host: shared blocks where the file system can (reflink), holes stay holes. */
#pragma once

#include "lib/err.h"

/*
 * Fills the empty file `out_fd`, known as `path`, with all of `in_fd` and flushes it. ERR_NO_SPACE, ERR_DISK.
 * Blocks; any thread.
 */
int file_copy(int in_fd, int out_fd, const char *path, struct err *e);
