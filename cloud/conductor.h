/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nova-conductor's object calls (contract 3): topic `conductor`, version 3.0. Objects are stamped and
 * asked for at Zed's versions; answers are read by field. Calls that find no conductor are tried again until
 * their deadline. Loop thread only.
 */
#pragma once

#include "cloud/cloud.h"

struct conductor;

struct conductor *conductor_new(struct loop *loop, const struct conf *conf, struct rpc *rpc);
/* Calls under way end with ERR_CANCELLED. NULL is accepted. */
void conductor_free(struct conductor *conductor);

/* object_class_action_versions. The manifest of versions comes from the table in conductor.c; a class
 * that is not there is a programming error. args and kwargs are consumed; NULL = empty. */
void conductor_class_action(struct conductor *conductor, struct json_object *context,
                            const char *class_name, const char *method, struct json_object *args,
                            struct json_object *kwargs, cloud_result_fn done, void *aux);
/* object_action: done gets {"updates": {...}, "result": ...}. objinst is consumed. */
void conductor_object_action(struct conductor *conductor, struct json_object *context,
                             struct json_object *objinst, const char *method,
                             struct json_object *args, struct json_object *kwargs,
                             cloud_result_fn done, void *aux);
/* baseapi.ping with a deadline. */
void conductor_ping(struct conductor *conductor, int64_t timeout_us, cloud_done_fn done, void *aux);
