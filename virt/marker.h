/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The marker: a small file that stands in an instance's directory from the moment when a migration makes
 * it until the migration has ended here. A directory with a marker is ours and may be removed when the
 * migration failed; one without a marker is somebody's guest and is never touched. It is the first file
 * of the directory, on the disk before any other.
 */
#pragma once

#include <stdbool.h>

#include "lib/err.h"

enum { MARKER_UUID_SIZE = 37 };

/* Makes the marker and flushes it and its name. ERR_DISK_EXISTS if there is one. `directory` is for
 * messages. */
int marker_write(int directory_fd, const char *directory, const char *instance_uuid,
                 const char *migration_uuid, struct err *e);
/*
 * *found tells if there is one; migration_uuid gets whose it is, or "" when the file was cut short by a
 * crash (it is still ours: nobody else makes files of this name).
 */
int marker_read(int directory_fd, const char *directory, bool *found,
                char migration_uuid[MARKER_UUID_SIZE], struct err *e);
/* Removes it and flushes the directory; none is success. */
int marker_remove(int directory_fd, const char *directory, struct err *e);
