/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The runner of unit tests: CUnit runs them, TAP tells the results, one line a test, so that
 * `make check` counts and names each. A test program is nothing but this header and tests:
 *
 *     UNIT_TEST(refuses_nul, "a text with a NUL inside is refused")
 *     {
 *         UNIT_FAILS(json_parse(...), ERR_PARSE);
 *     }
 *
 * They run in the order in which they stand. The program takes a part of a sentence to run only
 * matching tests. Building: see tests/unit/module.am.
 */
#pragma once

#include <CUnit/CUnit.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/attributes.h"
#include "lib/err.h"

void unit_register(const char *sentence, void (*run)(void));
void unit_fixture(void (*setup)(void), void (*teardown)(void));
void unit_skip(const char *reason);
bool unit_check(bool good, unsigned line, const char *file, const char *format, ...) _printf_(4, 5);
/* A directory of this program's own below $TMPDIR, removed with its files at the end. */
const char *unit_directory(void);
/* The file below the source tree, e.g. "tests/data/x.json"; the caller frees. */
char *unit_source_path(const char *relative);
/* The whole content, terminated; the caller frees. NULL if it cannot be read. */
char *unit_read_file(const char *path, size_t *length);
void unit_write_file(const char *path, const char *content);

/* The error object of the running test, empty at its start; the macros below use it. */
extern struct err unit_err;

#define UNIT_TEST(name, sentence)                                                                  \
    static void name(void);                                                                        \
    __attribute__((constructor)) static void name##_register(void)                                 \
    {                                                                                              \
        unit_register(sentence, name);                                                             \
    }                                                                                              \
    static void name(void)

/* Functions that run before and after each test of the program. */
#define UNIT_FIXTURE(setup, teardown)                                                              \
    __attribute__((constructor)) static void unit_fixture_register(void)                           \
    {                                                                                              \
        unit_fixture(setup, teardown);                                                             \
    }

#define UNIT_SKIP(reason)                                                                          \
    do {                                                                                           \
        unit_skip(reason);                                                                         \
        return;                                                                                    \
    } while (0)

/* Checks; each gives true when it holds, so that a test can leave where going on makes no sense. */
#define UNIT_TRUE(condition) unit_check((condition), __LINE__, __FILE__, "%s", #condition)
#define UNIT_EQ(value, expected)                                                                   \
    __extension__({                                                                                \
        intmax_t unit_v = (intmax_t)(value), unit_x = (intmax_t)(expected);                        \
        unit_check(unit_v == unit_x, __LINE__, __FILE__, "%s is %jd, not %jd", #value, unit_v,     \
                   unit_x);                                                                        \
    })
#define UNIT_STR(value, expected)                                                                  \
    __extension__({                                                                                \
        const char *unit_v = (value), *unit_x = (expected);                                        \
        unit_check(unit_v &&unit_x ? strcmp(unit_v, unit_x) == 0 : unit_v == unit_x, __LINE__,     \
                   __FILE__, "%s is \"%s\", not \"%s\"", #value, unit_v ? unit_v : "(null)",       \
                   unit_x ? unit_x : "(null)");                                                    \
    })
#define UNIT_HAS(value, part)                                                                      \
    __extension__({                                                                                \
        const char *unit_v = (value), *unit_x = (part);                                            \
        unit_check(unit_v &&strstr(unit_v, unit_x), __LINE__, __FILE__,                            \
                   "%s is \"%s\", without \"%s\"", #value, unit_v ? unit_v : "(null)", unit_x);    \
    })
/* A call that takes &unit_err and returns 0, or -1 with that code. */
#define UNIT_OK(call)                                                                              \
    __extension__({                                                                                \
        err_clear(&unit_err);                                                                      \
        int unit_r = (call);                                                                       \
        unit_check(unit_r == 0, __LINE__, __FILE__, "%s gave %d: %s", #call, unit_r,               \
                   unit_err.text);                                                                 \
    })
#define UNIT_FAILS(call, error)                                                                    \
    __extension__({                                                                                \
        err_clear(&unit_err);                                                                      \
        int unit_r = (call);                                                                       \
        unit_check(unit_r == -1 && unit_err.code == (error), __LINE__, __FILE__,                   \
                   "%s gave %d with %s (%s), not -1 with %s", #call, unit_r,                       \
                   err_name(unit_err.code), unit_err.text, #error);                                \
    })
