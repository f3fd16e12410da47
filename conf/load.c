/* SPDX-License-Identifier: Apache-2.0 */
/* Sources to raw texts: finding and reading files, matching entries with rows, collecting problems. */
#include "conf/load.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "conf/internal.h"
#include "lib/text.h"

/* --- report ----------------------------------------------------------------------------------- */

void conf_report_add(struct conf_report *report, enum conf_level level, const char *file, int line,
                     const char *format, ...)
{
    enum { PROBLEMS_MAX = 200 };
    va_list args;
    char *text = NULL;

    if (level == CONF_ERROR)
        report->errors++;
    else if (level == CONF_WARNING)
        report->warnings++;
    if (report->length >= PROBLEMS_MAX)
        return;
    if (report->length == report->capacity) {
        report->capacity = report->capacity ? report->capacity * 2 : 8;
        report->items = mem_resize(report->items, report->capacity * sizeof(*report->items));
    }
    va_start(args, format);
    if (vasprintf(&text, format, args) < 0)
        abort();
    va_end(args);
    report->items[report->length++] =
        (struct conf_problem){.level = level, .file = text_dup(file), .line = line, .text = text};
}

void conf_report_clear(struct conf_report *report)
{
    for (size_t i = 0; i < report->length; i++) {
        free(report->items[i].file);
        free(report->items[i].text);
    }
    free(report->items);
    *report = (struct conf_report){0};
}

const char *conf_level_name(enum conf_level level)
{
    static const char *const names[] = {"note", "warning", "error"};
    return names[level];
}

char *conf_problem_text(const struct conf_problem *p)
{
    if (!p->file)
        return text_format("%s: %s", conf_level_name(p->level), p->text);
    if (!p->line)
        return text_format("%s: %s: %s", p->file, conf_level_name(p->level), p->text);
    return text_format("%s:%d: %s: %s", p->file, p->line, conf_level_name(p->level), p->text);
}

/* --- one file --------------------------------------------------------------------------------- */

struct conf_entry *conf_entries_add(struct conf_entries *entries)
{
    if (entries->length == entries->capacity) {
        entries->capacity = entries->capacity ? entries->capacity * 2 : 32;
        entries->items = mem_resize(entries->items, entries->capacity * sizeof(*entries->items));
    }
    entries->items[entries->length] = (struct conf_entry){.values = NEW_ARRAY(char *, 1)};
    return &entries->items[entries->length++];
}

void conf_entries_clear(struct conf_entries *entries)
{
    for (size_t i = 0; i < entries->length; i++) {
        free(entries->items[i].group);
        free(entries->items[i].name);
        text_vector_free(entries->items[i].values);
    }
    free(entries->items);
    *entries = (struct conf_entries){0};
}

/* The first line that is neither empty nor a comment decides. */
static enum conf_syntax guess_syntax(const char *text)
{
    for (const char *line = text; line && *line;) {
        const char *p = line + strspn(line, " \t\r");
        size_t word = strcspn(p, "=:\n");
        if (*p == '[' || *p == ';')
            return CONF_SYNTAX_INI;
        if (*p && *p != '\n' && *p != '#')
            return p[word] == '=' ? CONF_SYNTAX_INI : CONF_SYNTAX_YAML;
        line = strchr(line, '\n');
        line = line ? line + 1 : NULL;
    }
    return CONF_SYNTAX_YAML;
}

/* The whole file, bounded; a FIFO or device is refused before anything could block. */
static char *slurp(const char *file, size_t *length, unsigned *mode, struct err *e)
{
    _cleanup_(fd_closep) int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0) {
        (void)err_set_errno(e, ERR_CONFIG, errno, "%s cannot be read", file);
        return NULL;
    }
    if (!S_ISREG(st.st_mode)) {
        (void)err_set(e, ERR_CONFIG, "%s is not a regular file", file);
        return NULL;
    }
    if (st.st_size > CONF_FILE_MAX) {
        (void)err_set(e, ERR_CONFIG, "%s is larger than 1 MiB", file);
        return NULL;
    }
    _cleanup_(str_freep) char *text = mem_new(CONF_FILE_MAX + 1);
    size_t used = 0;
    for (ssize_t got; used < CONF_FILE_MAX; used += (size_t)got) {
        got = read(fd, text + used, CONF_FILE_MAX - used);
        if (got < 0) {
            (void)err_set_errno(e, ERR_CONFIG, errno, "%s cannot be read", file);
            return NULL;
        }
        if (got == 0)
            break;
    }
    text[used] = '\0';
    *length = used;
    *mode = st.st_mode & 07777;
    return STEAL(text);
}

int conf_read_entries(const char *file, struct conf_entries *out, struct conf_report *report,
                      struct err *e)
{
    static const char byte_order_mark[] = "\xef\xbb\xbf";
    size_t length = 0;
    unsigned mode = 0;
    struct err own = ERR_INIT;
    _cleanup_(str_freep) char *text = slurp(file, &length, &mode, &own);

    if (!text) {
        conf_report_add(report, CONF_ERROR, NULL, 0, "%s", own.text);
        return err_set(e, ERR_CONFIG, "%s", own.text);
    }
    if (memchr(text, '\0', length) || !text_is_utf8(text, length)) {
        conf_report_add(report, CONF_ERROR, file, 0, "the file is not text in UTF-8");
        return err_set(e, ERR_PARSE, "%s is not text in UTF-8", file);
    }
    const char *start = text_starts_with(text, byte_order_mark) ? text + 3 : text;
    length -= (size_t)(start - text);
    *out = (struct conf_entries){.syntax = guess_syntax(start), .mode = mode};
    size_t before = report->length;
    int result = out->syntax == CONF_SYNTAX_YAML ? conf_yaml_read(file, start, length, out, report)
                                                 : conf_ini_read(file, start, length, out, report);
    if (result < 0 && before < report->length) {
        _cleanup_(str_freep) char *first = conf_problem_text(&report->items[before]);
        (void)err_set(e, ERR_PARSE, "%s", first);
    }
    return result;
}

/* --- entries to rows -------------------------------------------------------------------------- */

struct loader {
    const struct conf_sources *sources;
    struct conf_report *report;
    struct conf_raw raw[CONF_COUNT];
    bool nova_conf; /* one of the files was INI */
};

static void unknown_option(struct loader *l, const char *file, const struct conf_entries *entries,
                           const struct conf_entry *entry)
{
    bool ini = entries->syntax == CONF_SYNTAX_INI;

    if (conf_is_known_to_nova(entry->group, entry->name)) {
        l->report->ignored++;
        return;
    }
    _cleanup_(str_freep) char *group = text_escape(entry->group, 60);
    _cleanup_(str_freep) char *name = text_escape(entry->name, 60);
    const char *near_group =
        conf_group_help(entry->group) ? NULL : conf_nearest(NULL, entry->group);
    const char *use_group = near_group ? near_group : entry->group;
    const char *near = conf_find(use_group, entry->name) != CONF_COUNT
                           ? entry->name
                           : conf_nearest(use_group, entry->name);
    _cleanup_(str_freep) char *hint =
        near ? text_format("; did you mean %s.%s?", use_group, near) : text_dup("");
    conf_report_add(l->report, ini ? CONF_WARNING : CONF_ERROR, file, entry->line,
                    "%s.%s is not an option%s", group, name, hint);
}

/* One text for the row: the last repeat, or all elements of a list joined. */
static char *entry_text(const struct conf_row *row, const struct conf_entry *entry)
{
    struct text_buffer b = TEXT_BUFFER_INIT;
    size_t count = text_vector_length(entry->values);

    if (row->type != CONF_TYPE_LIST)
        return text_dup(count ? entry->values[count - 1] : "");
    for (size_t i = 0; i < count; i++)
        text_buffer_printf(&b, "%s%s", i ? "," : "", entry->values[i]);
    return text_buffer_take(&b);
}

static void take_entry(struct loader *l, const char *file, const struct conf_entries *entries,
                       const struct conf_entry *entry)
{
    enum conf_id id = conf_find(entry->group, entry->name);

    if (id == CONF_COUNT) {
        unknown_option(l, file, entries, entry);
        return;
    }
    const struct conf_row *row = conf_row(id);
    struct conf_raw *raw = &l->raw[id];
    if (raw->file && strcmp(raw->file, file) == 0)
        conf_report_add(l->report, entries->syntax == CONF_SYNTAX_INI ? CONF_WARNING : CONF_ERROR,
                        file, entry->line, "%s.%s is given twice in this file, first in line %d",
                        row->group, row->name, raw->line);
    if (entry->sequence && row->type != CONF_TYPE_LIST) {
        char allowed[256];
        conf_row_allowed(row, allowed, sizeof(allowed));
        conf_report_add(l->report, CONF_ERROR, file, entry->line,
                        "%s.%s: a list is not allowed, it must be %s", row->group, row->name,
                        allowed);
        return;
    }
    if (row->flags & CONF_DEPRECATED)
        conf_report_add(l->report, CONF_WARNING, file, entry->line, "%s.%s is deprecated: %s",
                        row->group, row->name, row->help);
    free(raw->text);
    free(raw->file);
    *raw = (struct conf_raw){entry_text(row, entry), text_dup(file), entry->line};
}

/* Names of secrets in the file: ours, and those of Nova that hold passwords. */
static const char *secret_in(const struct conf_entries *entries)
{
    for (size_t i = 0; i < entries->length; i++) {
        const struct conf_entry *entry = &entries->items[i];
        enum conf_id id = conf_find(entry->group, entry->name);
        bool value = entry->values[0] && entry->values[0][0];
        if (value && ((id != CONF_COUNT && (conf_row(id)->flags & CONF_SECRET)) ||
                      strstr(entry->name, "password")))
            return entry->name;
    }
    return NULL;
}

static void check_permissions(struct loader *l, const char *file,
                              const struct conf_entries *entries)
{
    const char *secret = secret_in(entries);

    if (l->sources->no_permission_check)
        return;
    if (entries->mode & 0022)
        conf_report_add(
            l->report, CONF_ERROR, file, 0,
            "the file's mode is %04o, others than its owner may write it; at most 0644 is allowed",
            entries->mode);
    if (secret && (entries->mode & 0004)) {
        _cleanup_(str_freep) char *shown = text_escape(secret, 60);
        conf_report_add(l->report, CONF_ERROR, file, 0,
                        "the file's mode is %04o, everybody may read %s; at most 0640 is allowed",
                        entries->mode, shown);
    }
}

static void load_file(struct loader *l, const char *file)
{
    struct conf_entries entries = {0};

    (void)conf_read_entries(file, &entries, l->report, NULL);
    check_permissions(l, file, &entries);
    l->nova_conf |= entries.syntax == CONF_SYNTAX_INI && entries.length > 0;
    for (size_t i = 0; i < entries.length; i++)
        take_entry(l, file, &entries, &entries.items[i]);
    conf_entries_clear(&entries);
}

static int is_config_name(const struct dirent *entry)
{
    return entry->d_name[0] != '.' &&
           (text_ends_with(entry->d_name, ".conf") || text_ends_with(entry->d_name, ".yaml") ||
            text_ends_with(entry->d_name, ".yml"));
}

static void load_directory(struct loader *l, const char *directory)
{
    struct dirent **names = NULL;
    int count = scandir(directory, &names, is_config_name, alphasort);

    if (count < 0) {
        conf_report_add(l->report, CONF_ERROR, NULL, 0, "directory %s cannot be read: %s",
                        directory, strerror(errno));
        return;
    }
    for (int i = 0; i < count; i++) {
        _cleanup_(str_freep) char *file = text_format("%s/%s", directory, names[i]->d_name);
        load_file(l, file);
        free(names[i]);
    }
    free(names);
}

static void load_default_file(struct loader *l)
{
    static const char *const files[] = {COMPUTED_SYSCONFDIR "/computed/computed.conf",
                                        "/etc/computed/computed.conf", "/etc/nova/nova.conf"};

    for (size_t i = 0; i < ARRAY_LEN(files); i++)
        if (access(files[i], F_OK) == 0) {
            load_file(l, files[i]);
            return;
        }
}

static void command_line(struct loader *l, enum conf_id id, const char *text)
{
    free(l->raw[id].text);
    free(l->raw[id].file);
    l->raw[id] = (struct conf_raw){.text = text_dup(text)};
}

static void load_sources(struct loader *l)
{
    const struct conf_sources *s = l->sources;
    bool given = (s->config_files && *s->config_files) || (s->config_dirs && *s->config_dirs);

    if (!given && !s->no_default_files)
        load_default_file(l);
    for (size_t i = 0; s->config_files && s->config_files[i]; i++)
        load_file(l, s->config_files[i]);
    for (size_t i = 0; s->config_dirs && s->config_dirs[i]; i++)
        load_directory(l, s->config_dirs[i]);
    if (s->log_file)
        command_line(l, CONF_DEFAULT_log_file, s->log_file);
    if (s->debug)
        command_line(l, CONF_DEFAULT_debug, "true");
}

static int first_error(const struct conf_report *report, struct err *e)
{
    for (size_t i = 0; i < report->length; i++) {
        if (report->items[i].level != CONF_ERROR)
            continue;
        _cleanup_(str_freep) char *text = conf_problem_text(&report->items[i]);
        if (report->errors > 1)
            return err_set(e, ERR_CONFIG, "%u errors in the configuration, the first: %s",
                           report->errors, text);
        return err_set(e, ERR_CONFIG, "%s", text);
    }
    return err_set(e, ERR_CONFIG, "%u errors in the configuration", report->errors);
}

int conf_load(const struct conf_sources *sources, struct conf **out, struct conf_report *report,
              struct err *e)
{
    struct conf_report own = {0};
    struct conf_report *all = report ? report : &own;
    struct loader l = {.sources = sources, .report = all};
    int result = 0;

    load_sources(&l);
    _cleanup_(conf_unrefp) struct conf *conf = conf_resolve(l.raw, l.nova_conf, all);
    if (all->errors == 0)
        conf_rules(conf, all);
    for (unsigned i = 0; i < CONF_COUNT; i++) {
        free(l.raw[i].text);
        free(l.raw[i].file);
    }
    if (all->errors > 0)
        result = first_error(all, e);
    else
        *out = STEAL(conf);
    conf_report_clear(&own);
    return result;
}

/* --- command line ----------------------------------------------------------------------------- */

static void add_name(const char *const **vector, const char *name)
{
    size_t count = 0;
    char **v = (char **)(uintptr_t)*vector;

    while (v && v[count])
        count++;
    v = mem_resize(v, (count + 2) * sizeof(char *));
    v[count] = text_dup(name);
    v[count + 1] = NULL;
    *vector = (const char *const *)v;
}

/* The argument of option `name` at argv[*i], if it is that option: 1 and *value, 0 if not, -1 if missing. */
static int option_value(const char *name, int argc, char **argv, int *i, const char **value)
{
    size_t length = strlen(name);

    if (strncmp(argv[*i], name, length) != 0)
        return 0;
    if (argv[*i][length] == '=') {
        *value = argv[*i] + length + 1;
        return 1;
    }
    if (argv[*i][length])
        return 0;
    if (*i + 1 >= argc)
        return -1;
    *value = argv[++*i];
    return 1;
}

static int take_argument(struct conf_sources *s, int argc, char **argv, int *i, struct err *e)
{
    const char *value = NULL, *option = argv[*i];
    int found;

    if (strcmp(option, "--debug") == 0 || strcmp(option, "-d") == 0) {
        s->debug = true;
        return 1;
    }
    if ((found = option_value("--config-file", argc, argv, i, &value)) > 0)
        add_name(&s->config_files, value);
    else if (!found && (found = option_value("--config-dir", argc, argv, i, &value)) > 0)
        add_name(&s->config_dirs, value);
    else if (!found && (found = option_value("--log-file", argc, argv, i, &value)) > 0)
        s->log_file = value;
    if (found < 0)
        return err_set(e, ERR_USAGE, "%s needs an argument", option);
    return found;
}

int conf_sources_from_argv(struct conf_sources *sources, int *argc, char **argv, struct err *e)
{
    int kept = 1;

    for (int i = 1; i < *argc; i++) {
        int first = i;
        int taken = take_argument(sources, *argc, argv, &i, e);
        if (taken < 0)
            return -1;
        if (!taken)
            argv[kept++] = argv[first];
    }
    *argc = kept;
    argv[kept] = NULL;
    return 0;
}

void conf_sources_clear(struct conf_sources *s)
{
    text_vector_free((char **)(uintptr_t)s->config_files);
    text_vector_free((char **)(uintptr_t)s->config_dirs);
    *s = (struct conf_sources){0};
}
