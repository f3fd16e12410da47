/* SPDX-License-Identifier: Apache-2.0 */
/* Ends that are told later, in order, from the loop: what cloud.c and forward.c share. */
#pragma once

#include "cloud/cloud_provider.h"

struct cloud_end *later_new(struct cloud *cloud, cloud_done_fn done, cloud_result_fn result_done,
                            void *aux);
/* result is borrowed. */
void later_end(struct cloud_end *end, struct json_object *result, const struct err *failure);
/* Success with an empty array. */
void later_empty(struct cloud_end *end);
/* As callbacks of providers; aux is the end. */
void later_done(void *aux, const struct err *failure);
void later_result(void *aux, struct json_object *result, const struct err *failure);
