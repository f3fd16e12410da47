/* SPDX-License-Identifier: Apache-2.0 */
/*
 * computectl: what its files share. One run is one `struct ctl`: the command line taken apart by
 * ctl/arguments.c, then one handler of the command table, which talks to the agent through
 * ctl_call() and prints to ctl->out.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <json-c/json_object.h>

#include "lib/control.h"
#include "lib/err.h"
#include "lib/text.h"

enum ctl_option {
#define OPTION(id, ...) CTL_OPTION_##id,
#include "ctl/commands.def.h"
#undef OPTION
    CTL_OPTION_COUNT
};

enum ctl_complete {
    CTL_COMPLETE_NONE,
    CTL_COMPLETE_INSTANCES,
    CTL_COMPLETE_SETTINGS,
    CTL_COMPLETE_OPTIONS,
    CTL_COMPLETE_FILES,
    CTL_COMPLETE_LEVELS
};

enum ctl_setting_type { CTL_SETTING_INT, CTL_SETTING_BOOL, CTL_SETTING_WORD };

struct ctl;

struct ctl_command {
    const char *name; /* one or two words */
    const char *arguments;
    int least, most;
    uint32_t options; /* bits of enum ctl_option */
    enum ctl_complete complete;
    const char *help, *more;
    int (*run)(struct ctl *ctl, struct err *e);
};

struct ctl_option_row {
    const char *name, *argument, *help;
};

struct ctl_setting {
    const char *word, *key;
    enum ctl_setting_type type;
    const char *words; /* "one|another", of CTL_SETTING_WORD */
    int64_t min, max;
    const char *help;
};

/* The tables; ended by a row whose first member is NULL. */
extern const struct ctl_command ctl_commands[];
extern const struct ctl_option_row ctl_options[];
extern const struct ctl_setting ctl_settings[];
/* Options that every command takes. */
uint32_t ctl_common_options(void);

struct ctl {
    FILE *out, *err;
    bool terminal;  /* out is a terminal: `watch` draws in place */
    unsigned width; /* of the terminal */
    const struct ctl_command *command;
    const char
        *values[CTL_OPTION_COUNT]; /* argument of an option, "" for one without; NULL = not given */
    const char *const *lists[CTL_OPTION_COUNT]; /* all arguments of a repeated option */
    const char **arguments;                     /* NULL-terminated */
    int argument_count;
    double patience_s; /* how long this command waits for its answer; 0 = as others do */
    struct control_client *client;
};

/* Takes argv apart. ERR_USAGE says what is wrong. The texts stay argv's. */
int ctl_parse(struct ctl *ctl, int argc, char **argv, struct err *e);
void ctl_clear(struct ctl *ctl);

/* The whole program: what main() returns. The streams stay the caller's. */
int ctl_main(int argc, char **argv, FILE *out, FILE *err);

/* One request to the agent (connecting when needed). `args` is consumed. */
int ctl_call(struct ctl *ctl, const char *command, struct json_object *args,
             struct json_object **result, struct err *e);
/* Prints and empties the buffer. -1 with ERR_SYSTEM if it cannot be written. */
int ctl_print(struct ctl *ctl, struct text_buffer *text, struct err *e);
/* conf.c: makes a file that was not there (mode 0600) with the text. ERR_SYSTEM names it. */
int ctl_write_new_file(const char *file, const char *text, struct err *e);
/* Prints the value as one line of JSON. */
int ctl_print_json(struct ctl *ctl, struct json_object *value, struct err *e);
static inline bool ctl_wants_json(const struct ctl *ctl)
{
    return ctl->values[CTL_OPTION_JSON] != NULL;
}

/* Help of the program (command NULL) or of one command; the man page and the completion script. */
void ctl_help(struct text_buffer *out, const struct ctl_command *command);
void ctl_man(struct text_buffer *out, const char *version);
void ctl_completion(struct text_buffer *out);

/* arguments.c: "SETTING=VALUE" texts from position `first` on, to an object of the protocol's keys. */
int ctl_parse_settings(struct ctl *ctl, int first, struct json_object **out, struct err *e);

/*
 * migration.c: what --migration or the argument at `position` means, as {"migration": ...} or
 * {"instance": ...}; without either, the one migration that runs (asked from the agent). New reference.
 */
int ctl_target(struct ctl *ctl, const char *argument, struct json_object **out, struct err *e);
/* migration.c: the arguments of `migrate` and `plan`: instance, destination, how disks go, settings. */
int ctl_move_args(struct ctl *ctl, struct json_object **out, struct err *e);
/* watch.c: what can be followed: the command that looks at it, and how it is shown (the sense of each is
 * in ctl/view.h). */
struct ctl_job {
    const char *command;
    bool (*is_active)(struct json_object *job);
    void (*screen)(struct text_buffer *out, struct json_object *job, unsigned width);
    void (*line)(struct text_buffer *out, struct json_object *job);
    void (*result)(struct text_buffer *out, struct json_object *job);
    int (*outcome)(struct json_object *job, struct err *e);
};
/* Follows it to its end; target: the command's arguments; quiet = print nothing. */
int ctl_follow_job(struct ctl *ctl, const struct ctl_job *job, struct json_object *target,
                   bool quiet, struct err *e);
/* The same for a migration (an object of the protocol). */
int ctl_follow(struct ctl *ctl, struct json_object *target, bool quiet, struct err *e);
