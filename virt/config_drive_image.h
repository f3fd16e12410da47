/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The config drive: a small file system with the label config-2 that cloud-init finds
 * (nova/virt/configdrive.py).
 *
 * ISO 9660 is made by genisoimage, as Nova does it (same options), not by a library: libisofs and libburn are
 * GPL and would bind the whole agent to it. vfat is made by mkfs.vfat and mcopy, without mounting anything.
 */
#pragma once

#include <json-c/json_object.h>

#include "conf/conf.h"
#include "lib/err.h"

#define CONFIG_DRIVE_NAME "disk.config"

/*
 * Makes disk.config in the open directory of the instance, in the format of [DEFAULT] config_drive_format,
 * readable by its owner alone, since it may hold a password. `files` is {"openstack/latest/user_data": bytes,
 * ...}: relative names of [A-Za-z0-9_.@+-] components, at most 8 deep; ERR_INVALID names one that is not.
 * The files lie in a directory of mode 0700 beside it meanwhile, which goes in any case. Blocks.
 */
int config_drive_image_make(const struct conf *conf, const char *instance_uuid, int directory_fd,
                            struct json_object *files, struct err *e);
