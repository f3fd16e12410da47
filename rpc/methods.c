/* SPDX-License-Identifier: Apache-2.0 */
/* The method table: see the header. */
#include "rpc/methods.h"

#include <assert.h>
#include <string.h>
#include <json-c/linkhash.h>
#include <json-c/json_util.h>

#include "lib/json.h"
#include "lib/text.h"
#include "rpc/envelope.h"
#include "rpc/object.h"

/* Argument lists: one array a method. */
#define OBJECT(class)         METHOD_TYPE_OBJECT, #class
#define OBJECTS(class)        METHOD_TYPE_OBJECTS, #class
#define STRING                METHOD_TYPE_STRING, NULL
#define INT                   METHOD_TYPE_INT, NULL
#define BOOL                  METHOD_TYPE_BOOL, NULL
#define DICT                  METHOD_TYPE_DICT, NULL
#define LIST                  METHOD_TYPE_LIST, NULL
#define ANY                   METHOD_TYPE_ANY, NULL
#define JSON_TEXT             METHOD_TYPE_JSON_TEXT, NULL
#define ARG(name, type, need) {#name, type, METHOD_NEED_##need},
#define METHOD(name, name_space, major, minor, kind, topic, handler, arguments)                    \
    static const struct method_arg args_of_##name[] = {                                            \
        arguments{NULL, METHOD_TYPE_ANY, NULL, METHOD_NEED_OPTIONAL}};
#include "rpc/methods.def.h"
#undef METHOD
#undef ARG
#undef OBJECT
#undef OBJECTS
#undef STRING
#undef INT
#undef BOOL
#undef DICT
#undef LIST
#undef ANY
#undef JSON_TEXT

enum { TOPIC_MAIN, TOPIC_ALT };

static const struct method methods[] = {
#define SERVED(handler) true
#define UNSERVED        false
#define METHOD(name, name_space, major, minor, kind, topic, handler, ...)                          \
    {#name,         RPC_METHOD_##name, RPC_NAMESPACE_##name_space, major,                          \
     minor,         RPC_KIND_##kind,   TOPIC_##topic == TOPIC_ALT, handler,                        \
     args_of_##name},
#include "rpc/methods.def.h"
#undef METHOD
#undef SERVED
#undef UNSERVED
};

/* What oslo.messaging calls endpoints. */
static const struct {
    enum rpc_namespace name_space;
    const char *name;
    int major, minor;
} endpoints[] = {
    {RPC_NAMESPACE_COMPUTE, NULL, METHODS_MAJOR, METHODS_MINOR},
    {RPC_NAMESPACE_COMPUTE, NULL, METHODS_OLD_MAJOR, METHODS_OLD_MINOR},
    {RPC_NAMESPACE_BASEAPI, "baseapi", 1, 1},
    {RPC_NAMESPACE_COMPUTED, "computed", 1, 0},
};

/* Major versions of object classes that are not 1. */
static const struct {
    const char *name;
    int major;
} object_majors[] = {{"Instance", 2}};

const struct method *method_by_id(enum rpc_method_id id)
{
    assert((unsigned)id < RPC_METHOD_COUNT);
    return &methods[id];
}

const char *rpc_method_name(enum rpc_method_id id)
{
    return method_by_id(id)->name;
}

bool rpc_method_is_alt(enum rpc_method_id id)
{
    return method_by_id(id)->alt;
}

const char *method_namespace_name(enum rpc_namespace name_space)
{
    for (size_t i = 0; i < ARRAY_LEN(endpoints); i++)
        if (endpoints[i].name_space == name_space)
            return endpoints[i].name;
    return NULL;
}

static const struct method *find_row(enum rpc_namespace name_space, const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(methods); i++)
        if (methods[i].name_space == name_space && text_equal(methods[i].name, name))
            return &methods[i];
    return NULL;
}

int methods_find(const char *namespace_name, const char *version, const char *method, bool ping,
                 const struct method **out, struct err *e)
{
    int major, minor;
    bool compatible = false;
    if (!envelope_parse_version(version, &major, &minor))
        return err_set(e, ERR_RPC_VERSION, "RPC version '%.32s' of method %.64s is not major.minor",
                       version, method);
    for (size_t i = 0; i < ARRAY_LEN(endpoints); i++) {
        if (!text_equal(endpoints[i].name, namespace_name) || endpoints[i].major != major ||
            minor > endpoints[i].minor)
            continue;
        compatible = true;
        const struct method *row = find_row(endpoints[i].name_space, method);
        if (row) {
            *out = row;
            return 0;
        }
    }
    if (ping && !namespace_name && major == 1 && minor == 0) {
        compatible = true;
        if (text_equal(method, "oslo_rpc_server_ping")) {
            *out = NULL;
            return 0;
        }
    }
    if (compatible)
        return err_set(e, ERR_NO_METHOD, "Endpoint does not support RPC method %.128s", method);
    return err_set(e, ERR_RPC_VERSION,
                   "Endpoint does not support RPC version %.32s. Attempted method: %.128s", version,
                   method);
}

/* ---- arguments ---- */

static const char *type_words(const struct method_arg *arg)
{
    switch (arg->type) {
    case METHOD_TYPE_ANY:
        return "any value";
    case METHOD_TYPE_OBJECT:
    case METHOD_TYPE_OBJECTS:
        return arg->class_name;
    case METHOD_TYPE_STRING:
        return "string";
    case METHOD_TYPE_INT:
        return "integer";
    case METHOD_TYPE_BOOL:
        return "boolean";
    case METHOD_TYPE_DICT:
        return "dict";
    case METHOD_TYPE_LIST:
        return "list";
    case METHOD_TYPE_JSON_TEXT:
        return "string of JSON";
    }
    return "";
}

static enum json_type json_type_of(enum method_type type)
{
    switch (type) {
    case METHOD_TYPE_OBJECT:
    case METHOD_TYPE_DICT:
        return json_type_object;
    case METHOD_TYPE_OBJECTS:
    case METHOD_TYPE_LIST:
        return json_type_array;
    case METHOD_TYPE_STRING:
    case METHOD_TYPE_JSON_TEXT:
        return json_type_string;
    case METHOD_TYPE_INT:
        return json_type_int;
    case METHOD_TYPE_BOOL:
        return json_type_boolean;
    case METHOD_TYPE_ANY:
        break;
    }
    return json_type_null;
}

static int check_object(const struct method_arg *arg, struct json_object *value, struct err *e)
{
    int major = 1;
    for (size_t i = 0; i < ARRAY_LEN(object_majors); i++)
        if (text_equal(object_majors[i].name, arg->class_name))
            major = object_majors[i].major;
    _cleanup_(object_freep) struct object *object = NULL;
    struct err cause = ERR_INIT;
    if (!object_from_json(value, arg->class_name, major, &object, &cause))
        return 0;
    if (cause.code == ERR_OBJECT_VERSION)
        return err_set(e, ERR_OBJECT_VERSION, "%s", cause.text);
    return err_set(e, ERR_INVALID, "%s", cause.text);
}

static int check_string(const struct method_arg *arg, struct json_object *value, struct err *e)
{
    const char *text = json_object_get_string(value);
    size_t length = (size_t)json_object_get_string_len(value);
    if (strlen(text) != length)
        return err_set(e, ERR_INVALID, "it has a NUL byte");
    if (arg->type == METHOD_TYPE_STRING)
        return 0;
    _cleanup_(json_putp) struct json_object *tree = NULL;
    struct err cause = ERR_INIT;
    if (json_parse(text, length, &tree, &cause))
        return err_set(e, ERR_INVALID, "%s", cause.text);
    return 0;
}

static int check_value(const struct method_arg *arg, struct json_object *value, struct err *e)
{
    if (arg->type != METHOD_TYPE_ANY && !json_object_is_type(value, json_type_of(arg->type)))
        return err_set(e, ERR_INVALID, "it is of JSON type %s; allowed is %s%s%s",
                       json_type_to_name(json_object_get_type(value)),
                       arg->type == METHOD_TYPE_OBJECTS ? "a list of " : "", type_words(arg),
                       arg->need == METHOD_NEED_REQUIRED ? "" : " or null");
    if (arg->type == METHOD_TYPE_OBJECT)
        return check_object(arg, value, e);
    if (arg->type == METHOD_TYPE_STRING || arg->type == METHOD_TYPE_JSON_TEXT)
        return check_string(arg, value, e);
    for (size_t i = 0; arg->type == METHOD_TYPE_OBJECTS && i < json_object_array_length(value); i++)
        if (check_object(arg, json_object_array_get_idx(value, i), e))
            return err_prefix(e, "item %zu: ", i);
    return 0;
}

/* True when the argument exists in the form of that major version. */
static bool arg_exists(const struct method_arg *arg, int major)
{
    return arg->need != METHOD_NEED_BEFORE_6 || major < METHODS_MAJOR;
}

static int check_arg(const struct method *method, const struct method_arg *arg,
                     struct json_object *args, struct err *e)
{
    bool optional = arg->need == METHOD_NEED_OPTIONAL || arg->need == METHOD_NEED_BEFORE_6;
    if (!json_has(args, arg->name)) {
        if (optional)
            return 0;
        return err_set(e, ERR_INVALID, "%s() misses its argument %s (%s)", method->name, arg->name,
                       type_words(arg));
    }
    struct json_object *value = json_get(args, arg->name);
    if (!value && (optional || arg->need == METHOD_NEED_NULLABLE))
        return 0;
    if (check_value(arg, value, e))
        return err_prefix(e, "%s() argument %s: ", method->name, arg->name);
    return 0;
}

static int check_known(const struct method *method, int major, const char *name, struct err *e)
{
    for (const struct method_arg *arg = method->args; arg->name; arg++)
        if (arg_exists(arg, major) && text_equal(arg->name, name))
            return 0;

    struct text_buffer allowed = TEXT_BUFFER_INIT;
    for (const struct method_arg *arg = method->args; arg->name; arg++)
        if (arg_exists(arg, major))
            text_buffer_printf(&allowed, "%s%s", allowed.length ? ", " : "", arg->name);
    _cleanup_(str_freep) char *list = text_buffer_take(&allowed);
    return err_set(e, ERR_INVALID,
                   "%s() got an unexpected keyword argument '%.64s'; allowed are: %s", method->name,
                   name, *list ? list : "none");
}

int methods_check_args(const struct method *method, int major, struct json_object *args,
                       struct err *e)
{
    if (args) {
        json_object_object_foreach (args, name, value) {
            (void)value;
            if (check_known(method, major, name, e))
                return -1;
        }
    }
    for (const struct method_arg *arg = method->args; arg->name; arg++)
        if (arg_exists(arg, major) && check_arg(method, arg, args, e))
            return -1;
    return 0;
}
