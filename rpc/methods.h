/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The method table as data (rows of rpc/methods.def.h), the choice of a row for a request, and the
 * check of its arguments. Pure functions; any thread.
 *
 * Dispatch is oslo.messaging's (nova-contract 1.8): an endpoint must have the request's namespace, the
 * same major and at least its minor; when one has but no such method exists, that is NoSuchMethod, when
 * none has, UnsupportedVersion.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <json-c/json_object.h>

#include "lib/err.h"
#include "rpc/rpc.h"

/* Versions of the null namespace that are served: 5.x needs only controllers pinned to it. */
enum {
    METHODS_MAJOR = 6,
    METHODS_MINOR = 5,
    METHODS_OLD_MAJOR = 5,
    METHODS_OLD_MINOR = 13,
};

enum method_type {
    METHOD_TYPE_ANY,
    METHOD_TYPE_OBJECT,
    METHOD_TYPE_OBJECTS,
    METHOD_TYPE_STRING,
    METHOD_TYPE_INT,
    METHOD_TYPE_BOOL,
    METHOD_TYPE_DICT,
    METHOD_TYPE_LIST,
    METHOD_TYPE_JSON_TEXT,
};

enum method_need {
    METHOD_NEED_REQUIRED,
    METHOD_NEED_NULLABLE,
    METHOD_NEED_OPTIONAL,
    METHOD_NEED_BEFORE_6,
};

struct method_arg {
    const char *name; /* NULL ends the list */
    enum method_type type;
    const char *class_name; /* of OBJECT and OBJECTS, else NULL */
    enum method_need need;
};

struct method {
    const char *name;
    enum rpc_method_id id;
    enum rpc_namespace name_space;
    int major, minor; /* newest form */
    enum rpc_kind kind;
    bool alt;    /* sent to compute-alt of peers that have it */
    bool served; /* the agent has a handler for it */
    const struct method_arg *args;
};

const struct method *method_by_id(enum rpc_method_id id);
/* The namespace's name on the wire; NULL for the null namespace. */
const char *method_namespace_name(enum rpc_namespace name_space);

/*
 * The row for a request. ERR_NO_METHOD or ERR_RPC_VERSION with the very text of oslo.messaging. With
 * `ping`, method oslo_rpc_server_ping is known too: *out is NULL then. `version` as in the request.
 */
int methods_find(const char *namespace_name, const char *version, const char *method, bool ping,
                 const struct method **out, struct err *e);
/*
 * Checks presence, type, class and major version of all arguments. `args` may be NULL (none). `major` is the
 * request's. ERR_INVALID (ERR_OBJECT_VERSION for a major version) names method, argument, what came and
 * what is allowed.
 */
int methods_check_args(const struct method *method, int major, struct json_object *args,
                       struct err *e);
