/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshots: references, typed reading, comparing and merging. Making one is conf/resolve.c's. */
#include "conf/conf.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "conf/internal.h"
#include "lib/text.h"

struct conf *conf_new(void)
{
    struct conf *conf = NEW(struct conf);
    atomic_init(&conf->references, 1);
    return conf;
}

struct conf *conf_ref(const struct conf *conf)
{
    /* Only the counter changes; readers see a const snapshot. */
    struct conf *shared = (struct conf *)(uintptr_t)conf;
    if (shared)
        atomic_fetch_add(&shared->references, 1);
    return shared;
}

void conf_value_clear(struct conf_value *value)
{
    free(value->text);
    free(value->origin);
    text_vector_free(value->list);
    *value = (struct conf_value){0};
}

void conf_value_copy(struct conf_value *to, const struct conf_value *from)
{
    struct conf_value copy = *from;

    copy.text = text_dup(from->text);
    copy.origin = text_dup(from->origin);
    if (from->list) {
        copy.list = NEW_ARRAY(char *, from->count + 1);
        for (size_t i = 0; i < from->count; i++)
            copy.list[i] = text_dup(from->list[i]);
    }
    conf_value_clear(to);
    *to = copy;
}

void conf_unref(struct conf *conf)
{
    if (!conf || atomic_fetch_sub(&conf->references, 1) != 1)
        return;
    for (unsigned i = 0; i < CONF_COUNT; i++)
        conf_value_clear(&conf->values[i]);
    free(conf);
}

static const struct conf_value *value_of(const struct conf *conf, enum conf_id id)
{
    assert(conf && (unsigned)id < CONF_COUNT);
    return &conf->values[id];
}

int64_t conf_int(const struct conf *conf, enum conf_id id)
{
    assert(conf_row(id)->type == CONF_TYPE_INT || conf_row(id)->type == CONF_TYPE_ENUM);
    return value_of(conf, id)->number;
}

double conf_double(const struct conf *conf, enum conf_id id)
{
    assert(conf_row(id)->type == CONF_TYPE_FLOAT || conf_row(id)->type == CONF_TYPE_INT);
    return value_of(conf, id)->real;
}

bool conf_bool(const struct conf *conf, enum conf_id id)
{
    assert(conf_row(id)->type == CONF_TYPE_BOOL);
    return value_of(conf, id)->number != 0;
}

const char *conf_string(const struct conf *conf, enum conf_id id)
{
    enum conf_type type = conf_row(id)->type;

    assert(type == CONF_TYPE_STRING || type == CONF_TYPE_ENUM || type == CONF_TYPE_IP ||
           type == CONF_TYPE_HOST || type == CONF_TYPE_PATH || type == CONF_TYPE_URL);
    (void)type;
    return value_of(conf, id)->text;
}

const char *const *conf_list(const struct conf *conf, enum conf_id id, size_t *count)
{
    static const char *const none[] = {NULL};
    const struct conf_value *value = value_of(conf, id);

    assert(conf_row(id)->type == CONF_TYPE_LIST);
    if (count)
        *count = value->count;
    return value->list ? (const char *const *)value->list : none;
}

bool conf_is_set(const struct conf *conf, enum conf_id id)
{
    return value_of(conf, id)->set;
}

const char *conf_origin(const struct conf *conf, enum conf_id id)
{
    return value_of(conf, id)->origin;
}

char *conf_text_secret(const struct conf *conf, enum conf_id id)
{
    const char *text = value_of(conf, id)->text;
    return text_dup(text ? text : "");
}

char *conf_text(const struct conf *conf, enum conf_id id)
{
    const char *text = value_of(conf, id)->text;

    if (text && *text && (conf_row(id)->flags & CONF_SECRET))
        return text_dup("***");
    return text_dup(text ? text : "");
}

bool conf_equal(const struct conf *a, const struct conf *b, enum conf_id id)
{
    return text_equal(value_of(a, id)->text, value_of(b, id)->text);
}

char *conf_log_path(const struct conf *conf)
{
    const char *file = conf_string(conf, CONF_DEFAULT_log_file);
    const char *directory = conf_string(conf, CONF_DEFAULT_log_dir);

    if (conf_bool(conf, CONF_DEFAULT_use_journal))
        return NULL;
    if (!file || !*file)
        return directory ? text_format("%s/computed.log", directory) : NULL;
    return directory && file[0] != '/' ? text_format("%s/%s", directory, file) : text_dup(file);
}

struct conf *conf_reload_merge(const struct conf *old, const struct conf *fresh,
                               bool changed[CONF_COUNT], bool restart[CONF_COUNT])
{
    struct conf *merged = conf_new();

    for (unsigned i = 0; i < CONF_COUNT; i++) {
        bool live = conf_row((enum conf_id)i)->flags & CONF_RELOAD;
        bool differs = !conf_equal(old, fresh, (enum conf_id)i);
        conf_value_copy(&merged->values[i], live ? &fresh->values[i] : &old->values[i]);
        if (changed)
            changed[i] = live && differs;
        if (restart)
            restart[i] = !live && differs;
    }
    return merged;
}

/* Tests must not depend on the machine: what is found at start-up otherwise is fixed here. */
static void test_defaults(struct conf_raw raw[CONF_COUNT])
{
    raw[CONF_DEFAULT_host].text = text_dup("testhost");
    raw[CONF_DEFAULT_my_ip].text = text_dup("127.0.0.1");
    raw[CONF_oslo_messaging_rabbit_hostname].text = text_dup("testhost");
    raw[CONF_net_physical_interface_mappings].text = text_dup("");
}

struct conf *conf_for_test(const char *first_name, ...)
{
    struct conf_raw raw[CONF_COUNT] = {0};
    struct conf_report report = {0};
    va_list args;

    test_defaults(raw);
    va_start(args, first_name);
    for (const char *name = first_name; name; name = va_arg(args, const char *)) {
        enum conf_id id = conf_find_dotted(name);
        assert(id != CONF_COUNT);
        free(raw[id].text);
        raw[id].text = text_dup(va_arg(args, const char *));
    }
    va_end(args);
    struct conf *conf = conf_resolve(raw, false, &report);
    for (size_t i = 0; i < report.length; i++)
        (void)fprintf(stderr, "conf_for_test: %s\n", report.items[i].text);
    assert(report.errors == 0);
    conf_report_clear(&report);
    for (unsigned i = 0; i < CONF_COUNT; i++)
        free(raw[i].text);
    return conf;
}
