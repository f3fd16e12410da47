/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Request contexts: `_context_<key>` members of an inner request, kept verbatim (nova-contract 1.5).
 * Pure functions; any thread. rpc_context_admin() of rpc/rpc.h is defined here too.
 */
#pragma once

#include <json-c/json_object.h>

/* All `_context_*` members as one object, without the prefix, in their order. New reference. */
struct json_object *context_unpack(struct json_object *inner);
/* Adds each member of `context` (may be NULL) to the message, with the prefix. */
void context_pack(struct json_object *inner, struct json_object *context);
/* The context's request_id; "" when it has none that is a string. Borrowed. */
const char *context_request_id(struct json_object *context);
