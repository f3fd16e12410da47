/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nova-conductor's object calls (contract 3): topic `conductor`, version 3.0. Objects are stamped and
 * asked for at Zed's versions; answers are read by field. Loop thread only.
 *
 * A call that finds no conductor (no broker, no queue, no reply), or one whose database is away, is tried
 * again until [agent] conductor_patience is over. An attempt whose reply was lost may have been done:
 * callers whose method must not run twice treat the second one's refusal (it exists, it is gone) as done.
 * Calls on the same object, and events of the same action, run one after another in the order in which
 * they were made, whatever attempts they take.
 */
#pragma once

#include "cloud/cloud.h"

struct conductor;

struct conductor *conductor_new(struct loop *loop, const struct conf *conf, struct rpc *rpc);
/* Calls under way end with ERR_CANCELLED. NULL is accepted. */
void conductor_free(struct conductor *conductor);
/* Another patience, if it changed. */
void conductor_reload(struct conductor *conductor, const struct conf *conf);

/*
 * All that follow consume args, kwargs and objinst (NULL = empty); context is borrowed, NULL = an
 * admin's of our own. `done` may be NULL; it never runs before the call returned.
 */

/* object_class_action_versions. The manifest of versions comes from cloud/conductor_objects.c; a class
 * that is not there is a programming error. */
void conductor_class_action(struct conductor *conductor, struct json_object *context,
                            const char *class_name, const char *method, struct json_object *args,
                            struct json_object *kwargs, cloud_result_fn done, void *aux);
/* object_action: done gets {"updates": {...}, "result": ...}. objinst is stamped with Zed's version. */
void conductor_object_action(struct conductor *conductor, struct json_object *context,
                             struct json_object *objinst, const char *method,
                             struct json_object *args, struct json_object *kwargs,
                             cloud_result_fn done, void *aux);
/* The same, one attempt of at most timeout_us: for what is repeated anyway. */
void conductor_object_try(struct conductor *conductor, struct json_object *objinst,
                          const char *method, int64_t timeout_us, cloud_result_fn done, void *aux);
/* baseapi.ping with a deadline; one attempt. */
void conductor_ping(struct conductor *conductor, int64_t timeout_us, cloud_done_fn done, void *aux);
/* A cast to a method of namespace compute_task; tried until the broker has it or patience is over. */
void conductor_task_cast(struct conductor *conductor, struct json_object *context,
                         const char *method, const char *version, struct json_object *args,
                         cloud_result_fn done, void *aux);

/* ---- conductor_objects.c ---- */

/* Zed's version of a class; NULL for one that is not in the table. */
const char *conductor_class_version(const char *class_name);
/* {class: version} of the class and of all that it may hold. New reference. */
struct json_object *conductor_manifest(const char *class_name);
/* A new object of a class of the table, stamped as it must be. */
struct object *conductor_object_new(const char *class_name);
/* The primitive with Zed's stamp; a class that is not in the table keeps its own. Consumes. */
struct json_object *conductor_stamp(struct json_object *primitive);
/* True if the failure is of that class of Nova's exceptions. */
bool conductor_failed_with(const struct err *failure, const char *wire_class);
