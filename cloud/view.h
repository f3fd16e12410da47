/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How typed views are made. A view is a thin handle on a received versioned object: named accessors that
 * read the JSON in place, setters that enter the change set, and everything that we do not understand
 * kept for the way back. A view is one struct with one member, so that the compiler tells an instance
 * from a migration.
 *
 * Views belong to one thread at a time, as rpc/object.h says.
 */
#pragma once

#include <json-c/json_object.h>

#include "lib/attributes.h"
#include "lib/err.h"
#include "lib/text.h"
#include "rpc/object.h"

/* struct view; view_from_json (takes a reference), view_to_json (new reference), view_copy, view_free. */
#define VIEW_DEFINE(view, class_name, class_major)                                                 \
    struct view {                                                                                  \
        struct object *object;                                                                     \
    };                                                                                             \
    static inline _unused_ void view##_free(struct view *v)                                        \
    {                                                                                              \
        if (!v)                                                                                    \
            return;                                                                                \
        object_free(v->object);                                                                    \
        free(v);                                                                                   \
    }                                                                                              \
    DEFINE_CLEANUP(struct view *, view##_free)                                                     \
    static inline struct view *view##_made(struct object *object)                                  \
    {                                                                                              \
        struct view *v = NEW(struct view);                                                         \
        v->object = object;                                                                        \
        return v;                                                                                  \
    }                                                                                              \
    static inline _unused_ struct view *view##_wrap(struct object *object)                         \
    {                                                                                              \
        return object ? view##_made(object) : NULL;                                                \
    }                                                                                              \
    static inline _unused_ int view##_from_json(struct json_object *primitive, struct view **out,  \
                                                struct err *e)                                     \
    {                                                                                              \
        struct object *object = NULL;                                                              \
        if (object_from_json(primitive, class_name, class_major, &object, e) < 0)                  \
            return -1;                                                                             \
        *out = view##_made(object);                                                                \
        return 0;                                                                                  \
    }                                                                                              \
    static inline _unused_ struct json_object *view##_to_json(const struct view *v)                \
    {                                                                                              \
        return object_to_json(v->object);                                                          \
    }                                                                                              \
    static inline _unused_ struct view *view##_copy(const struct view *v)                          \
    {                                                                                              \
        return view##_made(object_copy(v->object));                                                \
    }                                                                                              \
    static inline _unused_ bool view##_has(const struct view *v, const char *field)                \
    {                                                                                              \
        return object_has(v->object, field);                                                       \
    }

/* One accessor and one setter a field. */
#define VIEW_STRING(view, field)                                                                   \
    static inline _unused_ const char *view##_##field(const struct view *v)                        \
    {                                                                                              \
        return object_string(v->object, #field, NULL);                                             \
    }                                                                                              \
    static inline _unused_ void view##_set_##field(struct view *v, const char *value)              \
    {                                                                                              \
        object_set_string(v->object, #field, value);                                               \
    }
#define VIEW_INT(view, field, fallback)                                                            \
    static inline _unused_ int64_t view##_##field(const struct view *v)                            \
    {                                                                                              \
        return object_int(v->object, #field, fallback);                                            \
    }                                                                                              \
    static inline _unused_ void view##_set_##field(struct view *v, int64_t value)                  \
    {                                                                                              \
        object_set_int(v->object, #field, value);                                                  \
    }
#define VIEW_BOOL(view, field)                                                                     \
    static inline _unused_ bool view##_##field(const struct view *v)                               \
    {                                                                                              \
        return object_bool(v->object, #field, false);                                              \
    }                                                                                              \
    static inline _unused_ void view##_set_##field(struct view *v, bool value)                     \
    {                                                                                              \
        object_set_bool(v->object, #field, value);                                                 \
    }
#define VIEW_JSON(view, field)                                                                     \
    static inline _unused_ struct json_object *view##_##field(const struct view *v)                \
    {                                                                                              \
        return object_json(v->object, #field);                                                     \
    }                                                                                              \
    static inline _unused_ void view##_set_##field(struct view *v, struct json_object *value)      \
    {                                                                                              \
        object_set_json(v->object, #field, value);                                                 \
    }
