/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From files and command line to a snapshot: YAML or oslo.config's INI, told apart by content.
 *
 * Sources in order of weight, the later wins: defaults of the table, `--config-file` in the order given,
 * `--config-dir` (*.conf, *.yaml, *.yml by name), `--log-file` and `--debug`. Without any of the first
 * two, /etc/computed/computed.conf is read if it exists, else /etc/nova/nova.conf.
 *
 * Where a nova.conf (INI) is among the files, defaults are Nova's own, so that a host that is moved over
 * behaves as before; a file in YAML alone gets ours (column nova_default of the table).
 *
 * All problems of all files are collected; a snapshot is made only if none of them is an error. In YAML
 * an unknown key is an error; in an INI file, which may be any nova.conf, it is a warning, and what Nova
 * knows and we have no use for is only counted.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <json-c/json_object.h>

#include "conf/conf.h"
#include "conf/row.h"

enum conf_level { CONF_NOTE, CONF_WARNING, CONF_ERROR };

struct conf_problem {
    enum conf_level level;
    char *file; /* as given; NULL for the command line or a rule over several options */
    int line;   /* 0 = none */
    char *text; /* one sentence: the value (never a secret's) and what is allowed */
};

struct conf_report {
    struct conf_problem *items;
    size_t length, capacity;
    unsigned errors, warnings;
    unsigned ignored; /* options of Nova that we have no use for */
};
void conf_report_clear(struct conf_report *report);
/* "file:line: error: text", the caller frees. */
char *conf_problem_text(const struct conf_problem *problem);
const char *conf_level_name(enum conf_level level);

struct conf_sources {
    const char *const *config_files; /* NULL-terminated; NULL = none given */
    const char *const *config_dirs;  /* likewise */
    const char *log_file;            /* --log-file */
    bool debug;                      /* --debug */
    bool no_permission_check;        /* for `computectl conf check` of a copy */
    bool no_default_files;           /* for tests: nothing given means no file */
};

/*
 * Reads everything. 0 and *out (one reference) if there was no error; -1 with ERR_CONFIG that says how
 * many there were and the first. `report` (zeroed by the caller, cleared by it) has all; it may be NULL.
 */
int conf_load(const struct conf_sources *sources, struct conf **out, struct conf_report *report,
              struct err *e);

/*
 * Parses --config-file, --config-dir, --log-file and --debug ("--x=y" and "--x y") out of argv into
 * *sources; what it does not know stays in argv. The vectors are the caller's: conf_sources_clear().
 * ERR_USAGE when an argument is missing.
 */
int conf_sources_from_argv(struct conf_sources *sources, int *argc, char **argv, struct err *e);
void conf_sources_clear(struct conf_sources *sources);

/* The value of "file:line", "default", "automatic", "--debug"...: where it came from. */
const char *conf_origin(const struct conf *conf, enum conf_id id);
/* The value as text for people: "***" for secrets that are set, "" when unset. The caller frees. */
char *conf_text(const struct conf *conf, enum conf_id id);
/* The same with the secret, for the one who needs it (conf import). The caller frees. */
char *conf_text_secret(const struct conf *conf, enum conf_id id);
/* True if both snapshots have the same value. */
bool conf_equal(const struct conf *a, const struct conf *b, enum conf_id id);

/*
 * Where the log goes, by oslo.log's rule: log_file, below log_dir unless it is absolute; log_dir alone
 * means "computed.log" in it; NULL = standard error (neither is set, or use_journal). The caller frees.
 */
char *conf_log_path(const struct conf *conf);

/*
 * A reload: a new snapshot that has `fresh`'s values in RELOAD rows and `old`'s in all others.
 * changed[id] tells RELOAD rows that differ, restart[id] other rows that differ (both arrays of
 * CONF_COUNT, may be NULL). Never fails.
 */
struct conf *conf_reload_merge(const struct conf *old, const struct conf *fresh,
                               bool changed[CONF_COUNT], bool restart[CONF_COUNT]);

/*
 * One file as it is written, for `conf import` and tools: every entry, known or not, in file order.
 * 0, or -1 with ERR_PARSE of the first thing that cannot be read; what could be read is in *out then too,
 * so it is cleared by the caller in both cases (zero it first).
 */
enum conf_syntax { CONF_SYNTAX_YAML, CONF_SYNTAX_INI };
struct conf_entry {
    char *group, *name;
    char **values; /* NULL-terminated; one for scalars, each repeat or element for lists */
    int line;
    bool sequence; /* written as a YAML sequence */
};
struct conf_entries {
    struct conf_entry *items;
    size_t length, capacity;
    enum conf_syntax syntax;
    unsigned mode; /* permission bits of the file */
};
int conf_read_entries(const char *file, struct conf_entries *out, struct conf_report *report,
                      struct err *e);
void conf_entries_clear(struct conf_entries *entries);
