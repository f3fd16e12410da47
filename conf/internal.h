/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of conf/ share. Nobody else includes this. */
#pragma once

#include <stdatomic.h>

#include "conf/conf.h"
#include "conf/load.h"
#include "conf/row.h"

/* Limits on input: a configuration is small, and a file may come from anywhere with `conf check`. */
enum {
    CONF_FILE_MAX = 1024 * 1024,
    CONF_ENTRIES_MAX = 10000,
    CONF_NAME_MAX = 128,
    CONF_VALUE_MAX = 16 * 1024,
    CONF_DEPTH_MAX = 4, /* YAML: document, groups, options, list */
};

struct conf_value {
    bool set;       /* given by a file or the command line */
    char *text;     /* interpolated and normalised; NULL = unset */
    int64_t number; /* BOOL, INT, ENUM */
    double real;    /* INT, FLOAT */
    char **list;    /* LIST; NULL-terminated */
    size_t count;
    char *origin;
};

struct conf {
    atomic_uint references;
    struct conf_value values[CONF_COUNT];
};

struct conf *conf_new(void);
/* Replaces the value of a row by a copy. */
void conf_value_copy(struct conf_value *to, const struct conf_value *from);
void conf_value_clear(struct conf_value *value);

/*
 * value.c: text to typed value by the row's type and bounds. NULL text is "unset". Fills all fields but
 * `set` and `origin`. ERR_INVALID says what the value was (not a secret's) and what is allowed.
 */
int conf_value_parse(const struct conf_row *row, const char *text, struct conf_value *out,
                     struct err *e);

/* load.c: a problem; `file` may be NULL. */
void conf_report_add(struct conf_report *report, enum conf_level level, const char *file, int line,
                     const char *format, ...) _printf_(5, 6);

/* yaml.c, ini.c: one file's text to entries; problems go to the report, -1 if any was an error. */
int conf_yaml_read(const char *file, const char *text, size_t length, struct conf_entries *out,
                   struct conf_report *report);
int conf_ini_read(const char *file, const char *text, size_t length, struct conf_entries *out,
                  struct conf_report *report);
struct conf_entry *conf_entries_add(struct conf_entries *entries);

/*
 * resolve.c: raw texts (NULL = none given) of all rows to a snapshot: defaults (Nova's where a nova.conf
 * was read), interpolation, types.
 */
struct conf_raw {
    char *text; /* NULL = not given */
    char *file;
    int line;
};
struct conf *conf_resolve(struct conf_raw raw[CONF_COUNT], bool nova_defaults,
                          struct conf_report *report);

/*
 * neutron.c: "network:interface,..." as Neutron's Linux bridge agent has it in its file ([linux_bridge]
 * physical_interface_mappings), which the caller frees, and "file:line" in *origin; NULL if it has none.
 * It is another program's file: what is wrong with it is a warning, and a file that is not there is
 * silently none unless somebody `asked` for it.
 */
char *conf_neutron_mappings(const char *file, bool asked, char **origin,
                            struct conf_report *report);

/* rules.c: what must hold between options. */
void conf_rules(const struct conf *conf, struct conf_report *report);
/* "network:interface", and the kernel can have an interface of that name. */
bool conf_is_mapping(const char *text);
