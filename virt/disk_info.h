/* SPDX-License-Identifier: Apache-2.0 */
/*
 * disk.info: Nova's record of its disks' formats in an instance's directory, {"<path>": "qcow2", ...} on
 * one line (nova.virt.libvirt.imagebackend). It exists so that nobody has to look into what a guest wrote.
 */
#pragma once

#include <json-c/json_object.h>

#include "lib/err.h"

/* The record; NULL when there is none or it cannot be read. The caller puts it. */
struct json_object *disk_info_read(int directory_fd);
/* Makes the file, which must not exist, and flushes it. `instance` is for messages. */
int disk_info_write(int directory_fd, const char *instance, struct json_object *formats,
                    struct err *e);
