/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log. Each line is made whole in the caller's thread and written by one write(2) under one lock,
 * so lines never mix, and a file that another process rotates or appends to stays readable. A line that
 * cannot be written is dropped: a full disk must not stop a migration.
 */
#include "lib/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "lib/clock.h"
#include "lib/json.h"
#include "lib/text.h"

enum { TEXT_MAX = 8192, LINE_MAX_SIZE = TEXT_MAX + 512, MODULES_MAX = 64, MODULE_NAME_SIZE = 32 };

static struct {
    pthread_mutex_t lock; /* for all but `lowest` */
    int fd;               /* -1 = standard error */
    char *file;
    enum log_format format;
    bool journal;
    enum log_level level;
    struct {
        char name[MODULE_NAME_SIZE];
        enum log_level level;
    } modules[MODULES_MAX];
    unsigned module_count;
    atomic_int
        lowest; /* the most talkative level of any module, so that debug calls cost one load */
} log_state = {
    .lock = PTHREAD_MUTEX_INITIALIZER, .fd = -1, .level = LOG_LEVEL_INFO, .lowest = LOG_LEVEL_INFO};

static _Thread_local struct log_scope log_current;

static const struct {
    const char *word, *shown;
    int priority; /* of syslog(3), for journald */
} log_levels[LOG_LEVEL_COUNT] = {[LOG_LEVEL_DEBUG] = {"debug", "DEBUG", 7},
                                 [LOG_LEVEL_INFO] = {"info", "INFO", 6},
                                 [LOG_LEVEL_WARNING] = {"warning", "WARNING", 4},
                                 [LOG_LEVEL_ERROR] = {"error", "ERROR", 3}};

static void unlockp(pthread_mutex_t **lock)
{
    pthread_mutex_unlock(*lock);
}

#define LOCKED()                                                                                   \
    _cleanup_(unlockp) _unused_ pthread_mutex_t *locked_ = &log_state.lock;                        \
    pthread_mutex_lock(locked_)

/* --- the target ------------------------------------------------------------------------------ */

/* True if standard error is the stream that journald gave us (systemd.exec(5), JOURNAL_STREAM). */
static bool stderr_is_journal(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    _cleanup_(str_freep) char *mine = NULL;
    struct stat st;

    if (!stream || fstat(STDERR_FILENO, &st) < 0)
        return false;
    mine = text_format("%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
    return text_equal(stream, mine);
}

static int open_file(const char *file, struct err *e)
{
    int fd = open(file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0640);

    if (fd < 0)
        return err_set_errno(e, ERR_SYSTEM, errno, "cannot open the log file %s", file);
    return fd;
}

static void set_fd(int fd)
{
    if (log_state.fd >= 0)
        (void)close(log_state.fd);
    log_state.fd = fd;
}

int log_open(const char *file, enum log_format format, struct err *e)
{
    int fd = file ? open_file(file, e) : -1;

    if (file && fd < 0)
        return -1;
    LOCKED();
    set_fd(fd);
    free(log_state.file);
    log_state.file = text_dup(file);
    log_state.format = format;
    log_state.journal = !file && stderr_is_journal();
    return 0;
}

int log_reopen(struct err *e)
{
    int fd;

    LOCKED();
    if (!log_state.file)
        return 0;
    fd = open_file(log_state.file, e);
    if (fd < 0)
        return -1;
    set_fd(fd);
    return 0;
}

void log_close(void)
{
    LOCKED();
    set_fd(-1);
    free(log_state.file);
    log_state.file = NULL;
    log_state.format = LOG_FORMAT_TEXT;
    log_state.journal = false;
}

/* --- levels ---------------------------------------------------------------------------------- */

static void update_lowest(void)
{
    enum log_level lowest = log_state.level;

    for (unsigned i = 0; i < log_state.module_count; i++)
        if (log_state.modules[i].level < lowest)
            lowest = log_state.modules[i].level;
    atomic_store_explicit(&log_state.lowest, (int)lowest, memory_order_relaxed);
}

static int find_module(const char *module)
{
    for (unsigned i = 0; i < log_state.module_count; i++)
        if (text_equal(log_state.modules[i].name, module))
            return (int)i;
    return -1;
}

void log_set_level(const char *module, enum log_level level)
{
    int at;

    LOCKED();
    if (!module) {
        log_state.level = level;
        log_state.module_count = 0;
        update_lowest();
        return;
    }
    at = find_module(module);
    if (at < 0) {
        if (log_state.module_count == MODULES_MAX || strlen(module) >= MODULE_NAME_SIZE)
            return;
        at = (int)log_state.module_count++;
        snprintf(log_state.modules[at].name, MODULE_NAME_SIZE, "%s", module);
    }
    log_state.modules[at].level = level;
    update_lowest();
}

enum log_level log_get_level(const char *module)
{
    int at;

    LOCKED();
    at = module ? find_module(module) : -1;
    return at < 0 ? log_state.level : log_state.modules[at].level;
}

void log_each_level(void (*fn)(void *aux, const char *module, enum log_level level), void *aux)
{
    LOCKED();
    fn(aux, NULL, log_state.level);
    for (unsigned i = 0; i < log_state.module_count; i++)
        fn(aux, log_state.modules[i].name, log_state.modules[i].level);
}

bool log_enabled(enum log_level level, const char *module)
{
    if ((int)level < atomic_load_explicit(&log_state.lowest, memory_order_relaxed))
        return false;
    return level >= log_get_level(module);
}

int log_level_parse(const char *text, enum log_level *out)
{
    for (int i = 0; i < LOG_LEVEL_COUNT; i++)
        if (text_equal(text, log_levels[i].word)) {
            *out = (enum log_level)i;
            return 0;
        }
    return -1;
}

const char *log_level_name(enum log_level level)
{
    return log_levels[level].word;
}

/* --- scopes ---------------------------------------------------------------------------------- */

struct log_scope log_scope_begin(const char *request_id, const char *instance)
{
    struct log_scope previous = log_current;

    snprintf(log_current.request_id, sizeof(log_current.request_id), "%.40s",
             request_id ? request_id : "");
    snprintf(log_current.instance, sizeof(log_current.instance), "%.39s", instance ? instance : "");
    return previous;
}

void log_scope_end(struct log_scope *previous)
{
    log_current = *previous;
}

/* --- lines ----------------------------------------------------------------------------------- */

static void local_time(char out[CLOCK_TEXT_SIZE])
{
    int64_t now = clock_realtime_us();
    time_t seconds = (time_t)(now / USEC_PER_SEC);
    struct tm tm;
    size_t n;

    localtime_r(&seconds, &tm);
    n = strftime(out, CLOCK_TEXT_SIZE, "%Y-%m-%d %H:%M:%S", &tm);
    snprintf(out + n, CLOCK_TEXT_SIZE - n, ".%03d", (int)(now % USEC_PER_SEC / 1000));
}

static size_t text_line(enum log_level level, const char *module, const char *text, char *line,
                        size_t size)
{
    char now[CLOCK_TEXT_SIZE], request[4 * sizeof(log_current.request_id)],
        instance[4 * sizeof(log_current.instance)];
    bool scope = log_current.request_id[0] || log_current.instance[0];
    int n;

    local_time(now);
    text_escape_line(log_current.request_id, strlen(log_current.request_id), request,
                     sizeof(request));
    text_escape_line(log_current.instance, strlen(log_current.instance), instance,
                     sizeof(instance));
    n = snprintf(line, size, "%s %s %s %s%s%s%s%s%s\n", now, log_levels[level].shown, module,
                 scope ? "[" : "", request, request[0] && instance[0] ? " " : "", instance,
                 scope ? "] " : "", text);
    return n < 0 ? 0 : (size_t)n < size ? (size_t)n : size - 1;
}

static char *json_line(enum log_level level, const char *module, const char *text)
{
    _cleanup_(json_putp) struct json_object *o = json_object_new_object();
    char now[CLOCK_TEXT_SIZE], escaped[4 * sizeof(struct log_scope)];
    struct text_buffer line = TEXT_BUFFER_INIT;
    const struct {
        const char *key, *value;
    } parts[] = {{"request_id", log_current.request_id}, {"instance", log_current.instance}};

    clock_format_context(clock_realtime_us(), now);
    now[strlen(now) - 3] = '\0'; /* milliseconds are enough */
    text_buffer_printf(&line, "%sZ", now);
    json_add_string(o, "time", line.data);
    json_add_string(o, "level", log_levels[level].shown);
    json_add_string(o, "module", module);
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        if (!parts[i].value[0])
            continue;
        text_escape_line(parts[i].value, strlen(parts[i].value), escaped, sizeof(escaped));
        json_add_string(o, parts[i].key, escaped);
    }
    json_add_string(o, "message", text);
    text_buffer_free(&line);
    text_buffer_add(&line, json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN |
                                                                 JSON_C_TO_STRING_NOSLASHESCAPE));
    text_buffer_add(&line, "\n");
    return text_buffer_take(&line);
}

static void write_all(int fd, const char *line, size_t length)
{
    while (length) {
        ssize_t n = write(fd, line, length);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return;
        line += n;
        length -= (size_t)n;
    }
}

/* Text is already escaped. */
static void emit(enum log_level level, const char *module, const char *text)
{
    _cleanup_(str_freep) char *json = NULL;
    char line[LINE_MAX_SIZE];
    size_t n = 0, prefix = 0;
    int fd;

    LOCKED();
    fd = log_state.fd >= 0 ? log_state.fd : STDERR_FILENO;
    if (log_state.format == LOG_FORMAT_JSON) {
        json = json_line(level, module, text);
        write_all(fd, json, strlen(json));
        return;
    }
    if (log_state.journal)
        prefix = (size_t)snprintf(line, sizeof(line), "<%d>", log_levels[level].priority);
    n = prefix + text_line(level, module, text, line + prefix, sizeof(line) - prefix);
    write_all(fd, line, n);
}

_printf_(3, 0) static void escape_and_emit(enum log_level level, const char *module,
                                           const char *format, va_list args, const struct err *e)
{
    struct text_buffer raw = TEXT_BUFFER_INIT;
    char text[TEXT_MAX];
    char *s = NULL;

    if (vasprintf(&s, format, args) < 0)
        return;
    text_buffer_add(&raw, s);
    free(s);
    if (e)
        text_buffer_printf(&raw, ": %s (%s)", e->text[0] ? e->text : err_summary(e->code),
                           err_name(e->code));
    text_escape_line(raw.data, raw.length, text, sizeof(text));
    text_buffer_free(&raw);
    emit(level, module, text);
}

void log_write(enum log_level level, const char *module, const char *format, ...)
{
    va_list args;
    int saved = errno;

    if (!log_enabled(level, module))
        return;
    va_start(args, format);
    escape_and_emit(level, module, format, args, NULL);
    va_end(args);
    errno = saved;
}

void log_write_err(enum log_level level, const char *module, const struct err *e,
                   const char *format, ...)
{
    va_list args;
    int saved = errno;

    if (!log_enabled(level, module))
        return;
    va_start(args, format);
    escape_and_emit(level, module, format, args, e);
    va_end(args);
    errno = saved;
}

bool log_rate_ok(struct log_rate *rate, const char *module)
{
    int64_t now = clock_monotonic_us();
    bool fresh = !rate->seen || now - rate->window_start_us >= rate->period_us;

    if (fresh) {
        unsigned suppressed = rate->suppressed;

        rate->window_start_us = now;
        rate->seen = 0;
        rate->suppressed = 0;
        if (suppressed)
            log_write(LOG_LEVEL_INFO, module, "%u lines like the next one were suppressed",
                      suppressed);
    }
    if (rate->seen >= rate->burst) {
        rate->suppressed++;
        return false;
    }
    rate->seen++;
    return true;
}
