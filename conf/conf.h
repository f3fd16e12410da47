/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The configuration as the rooms see it: an immutable snapshot of typed values, one for each row of
 * conf/options.def.h. A snapshot is shared by reference; a reload makes a new one and swaps it, so no
 * reader ever sees half of a change. Rooms read options by id, never by name.
 *
 * Reading functions may be called from any thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/err.h"

enum conf_id {
#define GROUP(group, help)
#define OPT(group, name, ...) CONF_##group##_##name,
#include "conf/options.def.h"
#undef GROUP
#undef OPT
    CONF_COUNT
};

struct conf;

struct conf *conf_ref(const struct conf *conf); /* another reference to the same snapshot */
void conf_unref(struct conf *conf);
DEFINE_CLEANUP(struct conf *, conf_unref)

/* Values; asking for another type than the row's is a programming error (assert). */
int64_t conf_int(const struct conf *conf,
                 enum conf_id id); /* integers, sizes, durations in the row's unit, enum index */
double conf_double(const struct conf *conf, enum conf_id id);
bool conf_bool(const struct conf *conf, enum conf_id id);
const char *conf_string(const struct conf *conf,
                        enum conf_id id); /* NULL when unset; also the word of an enum */
const char *const *conf_list(const struct conf *conf, enum conf_id id, size_t *count);
/* True if a file or the command line gave a value (even one equal to the default). */
bool conf_is_set(const struct conf *conf, enum conf_id id);

/* A snapshot of defaults with some values replaced, for tests: "group.name", "text", ..., NULL. */
struct conf *conf_for_test(const char *first_name, ...) __attribute__((sentinel));
