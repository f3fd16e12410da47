/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by virt/build_options*.c. Nobody else includes it. */
#pragma once

#include "virt/build_options.h"

struct build_source {
    const struct virt_build_request *request;
    const struct conf *conf;
    struct virt_build_options *out;
};

/* Values as text that lives as long as the options; NULL when absent, null or "". */
const char *build_spec(const struct build_source *s, const char *key);
const char *build_property(const struct build_source *s, const char *key);
const char *build_keep(const struct build_source *s, char *text); /* takes it */

const char *build_lower(const struct build_source *s,
                        const char *text); /* in lower case; NULL is NULL */

/* Whole numbers; absent leaves *out as it is. ERR_INVALID names key and value. */
int build_spec_int(const struct build_source *s, const char *key, int64_t min, int64_t max,
                   int64_t *out, struct err *e);
int build_property_int(const struct build_source *s, const char *key, int64_t min, int64_t max,
                       int64_t *out, struct err *e);
/* strutils.bool_from_string: what is not a word for true is false. */
bool build_is_true(const char *text);
/* "hw:NAME" and "hw_NAME" as booleans, which must agree (FlavorImageConflict): 1, 0, or -1 = neither. */
int build_both_bool(const struct build_source *s, const char *name, int *out, struct err *e);

/* ERR_INVALID with one of Nova's own exceptions as the wire class. */
#define build_refuse(e, wire_class, ...)                                                           \
    ((void)err_set(e, ERR_INVALID, __VA_ARGS__), err_set_class(e, wire_class, NULL))

int build_cpu_topology(const struct build_source *s, struct err *e);
int build_cpu_model(const struct build_source *s, bool emulated, struct err *e);
int build_storage_options(const struct build_source *s, struct err *e);
int build_port_options(const struct build_source *s, struct err *e);
