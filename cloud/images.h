/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Images of Glance. Standalone has none: ERR_NOT_IMPLEMENTED. Threads and ends: as cloud/cloud.h says.
 */
#pragma once

#include "cloud/cloud.h"

/* The image's record as Glance's v2 API gives it. ERR_INVALID (ImageNotFound) when there is none. */
void cloud_image_get(struct cloud *cloud, struct json_object *context, const char *image_id,
                     cloud_result_fn done, void *aux);
/*
 * Its data into `fd` (an empty file, the caller's; not touched on the loop's thread), then fsync. The data
 * is checked against os_hash_value, or `checksum` where an old image has only that; a difference is
 * ERR_DISK. Result: the record.
 */
void cloud_image_download(struct cloud *cloud, struct json_object *context, const char *image_id,
                          int fd, cloud_result_fn done, void *aux);
/* Sets fields of the record (disk_format, container_format, properties; JSON object, borrowed), then
 * uploads `fd` from its beginning to its end. */
void cloud_image_upload(struct cloud *cloud, struct json_object *context, const char *image_id,
                        struct json_object *fields, int fd, cloud_done_fn done, void *aux);
/* A snapshot that failed: the queued image goes. Best effort. */
void cloud_image_delete(struct cloud *cloud, struct json_object *context, const char *image_id);
/* Images of an instance made by backup, newest first (backup_instance's rotation): array. */
void cloud_image_backups(struct cloud *cloud, struct json_object *context,
                         const char *instance_uuid, const char *backup_type, cloud_result_fn done,
                         void *aux);
