/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compiler attributes and scope cleanup.
 *
 * Ownership in the whole tree: `const char *` is borrowed for the call, `char **out` makes the caller
 * the owner, what is kept longer is copied. A local that owns something says so:
 *
 *     _cleanup_(str_freep) char *xml = NULL;
 *     ...
 *     *out = STEAL(xml);
 */
#pragma once

#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

#define _cleanup_(f)        __attribute__((cleanup(f)))
#define _printf_(fmt, args) __attribute__((format(printf, fmt, args)))
#define _nonnull_           __attribute__((nonnull))
#define _must_check_        __attribute__((warn_unused_result))
#define _unused_            __attribute__((unused))

/* Hands a pointer out of its scope: the variable becomes NULL, the value is returned. */
#define STEAL(p)                                                                                   \
    __extension__({                                                                                \
        __typeof__(p) steal_value_ = (p);                                                          \
        (p) = NULL;                                                                                \
        steal_value_;                                                                              \
    })

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

/*
 * Defines `name##p`, the cleanup function of a pointer type that `name` frees.
 * Every `x_free()` of the tree accepts NULL.
 */
#define DEFINE_CLEANUP(type, name)                                                                 \
    static inline void name##p(type *p)                                                            \
    {                                                                                              \
        if (*p)                                                                                    \
            name(*p);                                                                              \
    }

static inline void str_freep(char **p)
{
    free(*p);
}

static inline void mem_freep(void *p)
{
    free(*(void **)p);
}

static inline void fd_closep(const int *fd)
{
    if (*fd >= 0)
        (void)close(*fd);
}
