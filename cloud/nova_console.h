/* SPDX-License-Identifier: Apache-2.0 */
/* Tokens of consoles: rows of the control plane `nova` (cloud/instances.h). */
#pragma once

#include "cloud/nova.h"

void nova_console_token(struct cloud *cloud, struct json_object *context,
                        const struct cloud_console *request, cloud_result_fn done, void *aux);
void nova_console_tokens_clean(struct cloud *cloud, struct json_object *context,
                               const char *instance_uuid);
