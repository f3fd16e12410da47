/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log. A line is: time, level, module, request id and instance of the scope, text. Values from
 * outside are escaped here, once, for every caller: control characters, escape sequences and invalid
 * UTF-8 never reach the terminal or the file. Library rooms log at most at debug; a message is given
 * exactly once, by the top-most function that knows it.
 *
 * All functions may be called from any thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "lib/attributes.h"
#include "lib/err.h"

enum log_level {
    LOG_LEVEL_DEBUG,
    LOG_LEVEL_INFO,
    LOG_LEVEL_WARNING,
    LOG_LEVEL_ERROR,
    LOG_LEVEL_COUNT
};
enum log_format { LOG_FORMAT_TEXT, LOG_FORMAT_JSON };

/* One per source file that logs, at its top: the module's name in lines and in `log-level`. */
#define LOG_MODULE(name) static const char log_module_name_[] _unused_ = #name

#define log_debug(...)   log_write(LOG_LEVEL_DEBUG, log_module_name_, __VA_ARGS__)
#define log_info(...)    log_write(LOG_LEVEL_INFO, log_module_name_, __VA_ARGS__)
#define log_warning(...) log_write(LOG_LEVEL_WARNING, log_module_name_, __VA_ARGS__)
#define log_error(...)   log_write(LOG_LEVEL_ERROR, log_module_name_, __VA_ARGS__)
/* Logs "<text>: <error's sentence> (CODE)" at the level. */
#define log_err(level, e, ...) log_write_err(level, log_module_name_, e, __VA_ARGS__)

void log_write(enum log_level level, const char *module, const char *format, ...) _printf_(3, 4);
void log_write_err(enum log_level level, const char *module, const struct err *e,
                   const char *format, ...) _printf_(4, 5);

/*
 * Where lines go: `file` NULL = standard error (with journald's <N> prefixes when JOURNAL_STREAM is
 * set), else appended to it (mode 0640). log_reopen() after a rotation. Errors leave the old target.
 */
int log_open(const char *file, enum log_format format, struct err *e);
int log_reopen(struct err *e);
void log_close(void);

/* Level of one module, or of all (module NULL). Unknown names are remembered for later. */
void log_set_level(const char *module, enum log_level level);
enum log_level log_get_level(const char *module);
/* Calls fn for the general level (module NULL), then for each module that was given its own. */
void log_each_level(void (*fn)(void *aux, const char *module, enum log_level level), void *aux);
bool log_enabled(enum log_level level, const char *module);
/* "debug", "info", "warning", "error"; -1 for another word. */
int log_level_parse(const char *text, enum log_level *out);
const char *log_level_name(enum log_level level);

/*
 * What the lines of this thread are about: put into each line until the scope ends. Values are copied
 * (cut at 40 bytes); NULL leaves a part empty. Scopes nest.
 *
 *     _cleanup_(log_scope_end) struct log_scope s = log_scope_begin(request_id, instance_uuid);
 */
struct log_scope {
    char request_id[44];
    char instance[40];
};
struct log_scope log_scope_begin(const char *request_id, const char *instance);
void log_scope_end(struct log_scope *previous);

/* At most `burst` lines a `period_us`; the number suppressed is told with the next line that passes. */
struct log_rate {
    int64_t period_us;
    unsigned burst;
    int64_t window_start_us;
    unsigned seen, suppressed;
};
#define LOG_RATE_INIT(period, count)                                                               \
    {                                                                                              \
        .period_us = (period), .burst = (count)                                                    \
    }
/* True if the line may be written now. The struct belongs to one thread. */
bool log_rate_ok(struct log_rate *rate, const char *module);
