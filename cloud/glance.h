/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Glance for the control plane `nova`: its rows of cloud/cloud_provider.h; contracts in cloud/images.h.
 * Data moves on a worker of struct nova's pool, with its digest taken on the way; a transfer that breaks
 * is begun anew [glance] num_retries times.
 */
#pragma once

#include "cloud/nova.h"

void glance_image_get(struct cloud *cloud, struct json_object *context, const char *image_id,
                      cloud_result_fn done, void *aux);
void glance_image_download(struct cloud *cloud, struct json_object *context, const char *image_id,
                           int fd, cloud_result_fn done, void *aux);
void glance_image_upload(struct cloud *cloud, struct json_object *context, const char *image_id,
                         struct json_object *fields, int fd, cloud_done_fn done, void *aux);
void glance_image_delete(struct cloud *cloud, struct json_object *context, const char *image_id);
void glance_image_backups(struct cloud *cloud, struct json_object *context,
                          const char *instance_uuid, const char *backup_type, cloud_result_fn done,
                          void *aux);
