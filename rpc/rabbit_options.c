/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/rabbit_options.h"

#include <float.h>
#include <string.h>
#include <strings.h>

#include "conf/row.h"
#include "lib/text.h"

/* What oslo.messaging's driver knows and this one has no use for: accepted, so that a URL is kept as it is. */
static const char *const unused_names[] = {
    "conn_pool_min_size",   "conn_pool_ttl",         "direct_mandatory_flag",
    "heartbeat_in_pthread", "kombu_compression",     "kombu_missing_consumer_retry_timeout",
    "rpc_conn_pool_size",   "ssl_enforce_fips_mode",
};

enum kind { KIND_BOOL, KIND_INT, KIND_FLOAT, KIND_TEXT };

struct member {
    const char *name;
    enum kind kind;
    enum conf_id id;
    size_t offset;
};

#define MEMBER(name, kind)                                                                         \
    {#name, kind, CONF_oslo_messaging_rabbit_##name, offsetof(struct rabbit_options, name)},
#define MEMBER_BOOL(name)  MEMBER(name, KIND_BOOL)
#define MEMBER_INT(name)   MEMBER(name, KIND_INT)
#define MEMBER_FLOAT(name) MEMBER(name, KIND_FLOAT)
#define MEMBER_TEXT(name)  MEMBER(name, KIND_TEXT)
static const struct member members[] = {
    RABBIT_OPTIONS(MEMBER_BOOL, MEMBER_INT, MEMBER_FLOAT, MEMBER_TEXT)};

static void *at(struct rabbit_options *options, const struct member *m)
{
    return (char *)options + m->offset;
}

static void take_from_conf(struct rabbit_options *options, const struct member *m,
                           const struct conf *conf)
{
    const char *text;

    switch (m->kind) {
    case KIND_BOOL:
        *(bool *)at(options, m) = conf_bool(conf, m->id);
        break;
    case KIND_INT:
        *(int64_t *)at(options, m) = conf_int(conf, m->id);
        break;
    case KIND_FLOAT:
        *(double *)at(options, m) = conf_double(conf, m->id);
        break;
    case KIND_TEXT:
        text = conf_string(conf, m->id);
        *(char **)at(options, m) = text_dup(text ? text : "");
        break;
    }
}

static int bad_value(const char *name, const struct conf_row *row, struct err *e)
{
    char allowed[200];

    conf_row_allowed(row, allowed, sizeof(allowed));
    return err_set(e, ERR_CONFIG, "transport_url: the value of the option %s is not %s", name,
                   allowed);
}

static int parse_bool(const char *text, bool *out)
{
    static const char *const words[] = {"false", "true", "0", "1", "no", "yes", "off", "on"};

    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (strcasecmp(text, words[i]) == 0) {
            *out = i & 1;
            return 0;
        }
    return -1;
}

static bool in_words(const char *words, const char *text)
{
    size_t length = strlen(text);

    for (const char *w = words; w; w = strchr(w, '|') ? strchr(w, '|') + 1 : NULL)
        if (strcspn(w, "|") == length && strncmp(w, text, length) == 0)
            return true;
    return false;
}

static int take_from_text(struct rabbit_options *options, const struct member *m, const char *text,
                          struct err *e)
{
    const struct conf_row *row = conf_row(m->id);
    bool bounded = row->min < row->max;
    int64_t low = bounded ? (int64_t)row->min : INT64_MIN;
    int64_t high = bounded ? (int64_t)row->max : INT64_MAX;
    double real_low = bounded ? row->min : -DBL_MAX, real_high = bounded ? row->max : DBL_MAX;
    int r = 0;

    switch (m->kind) {
    case KIND_BOOL:
        r = parse_bool(text, at(options, m));
        break;
    case KIND_INT:
        r = text_to_int64(text, low, high, at(options, m), NULL);
        break;
    case KIND_FLOAT:
        r = text_to_double(text, real_low, real_high, at(options, m), NULL);
        break;
    case KIND_TEXT:
        if (row->words && !in_words(row->words, text))
            return bad_value(m->name, row, e);
        free(*(char **)at(options, m));
        *(char **)at(options, m) = text_dup(text);
        break;
    }
    return r < 0 ? bad_value(m->name, row, e) : 0;
}

static int override(struct rabbit_options *options, const struct transport_option *given,
                    struct err *e)
{
    _cleanup_(str_freep) char *shown = NULL;
    enum conf_id id = conf_find("oslo_messaging_rabbit", given->name);

    for (size_t i = 0; i < ARRAY_LEN(members); i++)
        if (members[i].id == id)
            return take_from_text(options, &members[i], given->value, e);
    for (size_t i = 0; i < ARRAY_LEN(unused_names); i++)
        if (text_equal(given->name, unused_names[i]))
            return 0;
    shown = text_escape(given->name, 60);
    return err_set(e, ERR_CONFIG,
                   "transport_url: \"%s\" is not an option of [oslo_messaging_rabbit]", shown);
}

static int check_queues(const struct rabbit_options *o, struct err *e)
{
    if (o->rabbit_ha_queues && (o->rabbit_quorum_queue || o->rabbit_transient_quorum_queue))
        return err_set(
            e, ERR_CONFIG,
            "rabbit_ha_queues and %s are both on; a queue is mirrored or a quorum queue, "
            "not both",
            o->rabbit_quorum_queue ? "rabbit_quorum_queue" : "rabbit_transient_quorum_queue");
    if (o->rabbit_stream_fanout && !o->rabbit_transient_quorum_queue)
        return err_set(e, ERR_CONFIG,
                       "rabbit_stream_fanout needs rabbit_transient_quorum_queue, which is off");
    if (o->rabbit_stream_fanout && o->rabbit_qos_prefetch_count < 1)
        return err_set(e, ERR_CONFIG,
                       "rabbit_stream_fanout needs rabbit_qos_prefetch_count above 0, which is 0");
    return 0;
}

static int check_login(const struct rabbit_options *o, struct err *e)
{
    if (text_equal(o->rabbit_login_method, "RABBIT-CR-DEMO"))
        return err_set(e, ERR_CONFIG,
                       "rabbit_login_method RABBIT-CR-DEMO is not supported; AMQPLAIN, PLAIN and "
                       "EXTERNAL are");
    if (text_equal(o->rabbit_login_method, "EXTERNAL") && (!o->ssl || !*o->ssl_cert_file))
        return err_set(e, ERR_CONFIG,
                       "rabbit_login_method EXTERNAL needs ssl and a client certificate in "
                       "ssl_cert_file");
    if (*o->ssl_key_file && !*o->ssl_cert_file)
        return err_set(e, ERR_CONFIG, "ssl_key_file is set without ssl_cert_file");
    return 0;
}

int rabbit_options_new(struct rabbit_options **out, const struct conf *conf,
                       const struct transport_url *url, struct err *e)
{
    _cleanup_(rabbit_options_freep) struct rabbit_options *o = NEW(struct rabbit_options);

    o->control_exchange = text_dup(conf_string(conf, CONF_DEFAULT_control_exchange));
    for (size_t i = 0; i < ARRAY_LEN(members); i++)
        take_from_conf(o, &members[i], conf);
    for (size_t i = 0; i < url->option_count; i++)
        if (override(o, &url->options[i], e) < 0)
            return -1;
    if (check_queues(o, e) < 0 || check_login(o, e) < 0)
        return -1;
    *out = STEAL(o);
    return 0;
}

void rabbit_options_free(struct rabbit_options *options)
{
    if (!options)
        return;
    for (size_t i = 0; i < ARRAY_LEN(members); i++)
        if (members[i].kind == KIND_TEXT)
            free(*(char **)at(options, &members[i]));
    free(options->control_exchange);
    free(options);
}
