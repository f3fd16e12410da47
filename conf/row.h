/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rows of conf/options.def.h as data: what the loader, computectl, the generators and the tests read
 * about an option besides its value. All functions may be called from any thread; everything returned is
 * static storage.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "conf/conf.h"

enum conf_type {
    CONF_TYPE_BOOL,   /* true/false, yes/no, on/off, 1/0, any case (oslo.config's words) */
    CONF_TYPE_INT,    /* decimal integer */
    CONF_TYPE_FLOAT,  /* decimal number */
    CONF_TYPE_STRING, /* any text of one line */
    CONF_TYPE_ENUM,   /* one word of the row's list */
    CONF_TYPE_LIST,   /* texts divided by commas (INI) or a sequence (YAML) */
    CONF_TYPE_IP,     /* IPv4 or IPv6 address */
    CONF_TYPE_HOST,   /* host name, underscores permitted as in Nova */
    CONF_TYPE_PATH,   /* absolute path without "." and ".." */
    CONF_TYPE_URL,    /* scheme://..., schemes are the row's words */
    CONF_TYPE_COUNT
};

enum conf_flag {
    CONF_RELOAD = 1u << 0,
    CONF_SECRET = 1u << 1,
    CONF_DEPRECATED = 1u << 2,
    CONF_IDLE = 1u << 3,
};

#define CONF_NO_MAX 9007199254740992.0 /* 2^53: every integer below is exact in a double */

struct conf_row {
    const char *group, *name;
    enum conf_type type;
    const char *default_text; /* before interpolation; NULL = unset */
    const char *nova_default; /* used instead when a nova.conf is read; NULL = the same */
    double min, max;          /* both 0: any */
    const char *unit, *words, *alias, *automatic;
    unsigned flags;
    const char *help, *more, *nova, *since;
};

const struct conf_row *conf_row(enum conf_id id);
/* The row "group.name", spelt as in the table or by an alias. CONF_COUNT if there is none. */
enum conf_id conf_find(const char *group, const char *name);
/* The same from "group.name"; a name without a group is looked for in DEFAULT. */
enum conf_id conf_find_dotted(const char *dotted);

/* Groups in table order. NULL past the end. */
const char *conf_group_name(size_t index);
const char *conf_group_help(const char *group); /* NULL for a group that is not ours */

const char *conf_type_name(enum conf_type type);
/* "an integer from 3 to 1000 (s)": what a value may be, for messages and documents. */
void conf_row_allowed(const struct conf_row *row, char *out, size_t size);

/* The known name (option, or group when `group` is NULL) nearest to a mistyped one; NULL if none is near. */
const char *conf_nearest(const char *group, const char *name);

/* True if Nova, oslo or a library of theirs reads this option and we have no use for it. */
bool conf_is_known_to_nova(const char *group, const char *name);
