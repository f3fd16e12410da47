/* SPDX-License-Identifier: Apache-2.0 */
/* A typed growing array by macro: fields `items` and `length` are used directly. */
#pragma once

#include <stddef.h>

#include "lib/text.h"

#define DEFINE_VECTOR(name, type)                                                                  \
    struct name {                                                                                  \
        type *items;                                                                               \
        size_t length, capacity;                                                                   \
    };                                                                                             \
    static inline _unused_ type *name##_add(struct name *v)                                        \
    {                                                                                              \
        if (v->length == v->capacity) {                                                            \
            v->capacity = v->capacity ? v->capacity * 2 : 8;                                       \
            v->items = mem_resize(v->items, v->capacity * sizeof(type));                           \
        }                                                                                          \
        v->items[v->length] = (type){0};                                                           \
        return &v->items[v->length++];                                                             \
    }
