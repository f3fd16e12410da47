/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/settings.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <json-c/linkhash.h>

#include "lib/json.h"
#include "lib/log.h"
#include "lib/text.h"

LOG_MODULE(settings);

enum setting {
#define X(name, type, help) SETTING_##name,
    SETTINGS_LIST(X)
#undef X
        SETTING_COUNT
};
enum setting_type { TYPE_INT, TYPE_BOOL, TYPE_ACTION, TYPE_KIND };

static const struct {
    const char *name;
    enum setting_type type;
} rows[] = {
#define X(name, type, help) {#name, TYPE_##type},
    SETTINGS_LIST(X)
#undef X
};

/* Who asks: the operator may do all within the hard limits, a tenant may not permit what is not permitted. */
enum asker { ASKER_OPERATOR, ASKER_TENANT };

enum { DOWNTIME_MIN_MS = 20 };

const char *settings_action_name(enum policy_timeout_action action)
{
    return action == POLICY_ABORT ? "abort" : "force_complete";
}

const char *settings_policy_name(enum policy_kind kind)
{
    return kind == POLICY_ADAPTIVE ? "adaptive" : "stepped";
}

/* ---- one value ---- */

struct value {
    int64_t number; /* int, bool, action, kind */
};

static int parse_bool(const char *text, int64_t *out)
{
    static const char *const words[2][4] = {{"false", "no", "off", "0"},
                                            {"true", "yes", "on", "1"}};

    for (int v = 0; v < 2; v++)
        for (int i = 0; i < 4; i++)
            if (strcasecmp(text, words[v][i]) == 0) {
                *out = v;
                return 0;
            }
    return -1;
}

static int parse_action(const char *text, int64_t *out)
{
    for (int64_t v = POLICY_ABORT; v <= POLICY_FORCE_COMPLETE; v++)
        if (text_equal(text, settings_action_name((enum policy_timeout_action)v))) {
            *out = v;
            return 0;
        }
    return -1;
}

static int parse_kind(const char *text, int64_t *out)
{
    for (int64_t v = POLICY_STEPPED; v <= POLICY_ADAPTIVE; v++)
        if (text_equal(text, settings_policy_name((enum policy_kind)v))) {
            *out = v;
            return 0;
        }
    return -1;
}

/* Extra specs and metadata are strings; computectl sends JSON's own types. Both are taken. */
static int read_value(enum setting id, struct json_object *o, struct value *out, struct err *e)
{
    const char *text = json_object_is_type(o, json_type_null) ? "null" : json_object_get_string(o);
    _cleanup_(str_freep) char *shown = text_escape(text, 60);

    switch (rows[id].type) {
    case TYPE_INT:
        if (text_to_int64(text, 0, INT64_C(1) << 42, &out->number, NULL) == 0)
            return 0;
        return err_set(e, ERR_INVALID, "%s is \"%s\"; a whole number from 0 is allowed",
                       rows[id].name, shown);
    case TYPE_BOOL:
        if (parse_bool(text, &out->number) == 0)
            return 0;
        return err_set(e, ERR_INVALID, "%s is \"%s\"; true or false is allowed", rows[id].name,
                       shown);
    case TYPE_ACTION:
        if (parse_action(text, &out->number) == 0)
            return 0;
        return err_set(e, ERR_INVALID, "%s is \"%s\"; abort or force_complete is allowed",
                       rows[id].name, shown);
    case TYPE_KIND:
        if (parse_kind(text, &out->number) == 0)
            return 0;
        return err_set(e, ERR_INVALID, "%s is \"%s\"; adaptive or stepped is allowed",
                       rows[id].name, shown);
    }
    return -1;
}

/* ---- limits ---- */

static int over(struct err *e, const char *name, int64_t value, int64_t limit, const char *option)
{
    return err_set(e, ERR_INVALID, "%s is %lld; the operator's limit %s allows %lld at most", name,
                   (long long)value, option, (long long)limit);
}

static int check_limit(const struct conf *conf, enum setting id, int64_t value, struct err *e)
{
    int64_t limit;

    switch (id) {
    case SETTING_downtime_ms:
        if (value < DOWNTIME_MIN_MS)
            return err_set(e, ERR_INVALID, "downtime_ms is %lld; at least %d is allowed",
                           (long long)value, DOWNTIME_MIN_MS);
        limit = conf_int(conf, CONF_libvirt_live_migration_downtime_hard_limit);
        if (limit > 0 && value > limit)
            return over(e, rows[id].name, value, limit, "live_migration_downtime_hard_limit");
        return 0;
    case SETTING_bandwidth_mib:
        limit = conf_int(conf, CONF_libvirt_live_migration_bandwidth_hard_limit);
        if (limit > 0 && (value > limit || value == 0))
            return over(e, rows[id].name, value, limit, "live_migration_bandwidth_hard_limit");
        return 0;
    case SETTING_completion_timeout_s: /* the cap on the whole migration is in the policy's limits */
    default:
        return 0;
    }
}

static int check_tenant(const struct settings *s, enum setting id, int64_t value, struct err *e)
{
    bool permitted = id == SETTING_auto_converge ? s->auto_converge : s->post_copy;

    if ((id != SETTING_auto_converge && id != SETTING_post_copy) || value == 0 || permitted)
        return 0;
    return err_set(e, ERR_INVALID,
                   "%s is true; neither the configuration nor the flavor permits it",
                   rows[id].name);
}

static void assign(struct settings *s, enum setting id, int64_t value)
{
    switch (id) {
    case SETTING_downtime_ms:
        s->downtime_ms = value;
        return;
    case SETTING_completion_timeout_s:
        s->completion_timeout_s = value;
        s->timeout_is_total = true;
        return;
    case SETTING_timeout_action:
        s->timeout_action = (enum policy_timeout_action)value;
        return;
    case SETTING_auto_converge:
        s->auto_converge = value != 0;
        return;
    case SETTING_post_copy:
        s->post_copy = value != 0;
        return;
    case SETTING_bandwidth_mib:
        s->bandwidth_mib = value;
        return;
    case SETTING_policy:
        s->policy = (enum policy_kind)value;
        return;
    case SETTING_COUNT:
        return;
    }
}

static int set_value(const struct conf *conf, struct settings *s, enum setting id,
                     struct json_object *o, enum asker asker, struct err *e)
{
    struct value value;

    if (read_value(id, o, &value, e) < 0 || check_limit(conf, id, value.number, e) < 0)
        return -1;
    if (asker == ASKER_TENANT && check_tenant(s, id, value.number, e) < 0)
        return -1;
    assign(s, id, value.number);
    return 0;
}

/* ---- an instance's ---- */

static void from_configuration(const struct conf *conf, struct settings *out)
{
    int64_t hard_ms = conf_int(conf, CONF_libvirt_live_migration_downtime_hard_limit);
    int64_t hard_mib = conf_int(conf, CONF_libvirt_live_migration_bandwidth_hard_limit);

    *out = (struct settings){
        .downtime_ms = conf_int(conf, CONF_libvirt_live_migration_downtime),
        .completion_timeout_s = conf_int(conf, CONF_libvirt_live_migration_completion_timeout),
        .timeout_is_total = conf_int(conf, CONF_libvirt_live_migration_timeout_scale) == 1,
        .timeout_action =
            (enum policy_timeout_action)conf_int(conf, CONF_libvirt_live_migration_timeout_action),
        .auto_converge = conf_bool(conf, CONF_libvirt_live_migration_permit_auto_converge),
        .post_copy = conf_bool(conf, CONF_libvirt_live_migration_permit_post_copy),
        .bandwidth_mib = conf_int(conf, CONF_libvirt_live_migration_bandwidth),
        .policy = (enum policy_kind)conf_int(conf, CONF_libvirt_live_migration_policy),
    };
    if (hard_ms > 0 && out->downtime_ms > hard_ms)
        out->downtime_ms = hard_ms;
    if (hard_mib > 0 && (out->bandwidth_mib == 0 || out->bandwidth_mib > hard_mib))
        out->bandwidth_mib = hard_mib;
}

static void override(const struct conf *conf, struct settings *s, struct json_object *values,
                     const char *prefix, enum asker asker, const char *from,
                     const struct instance *instance)
{
    for (unsigned id = 0; id < SETTING_COUNT; id++) {
        char key[80];
        struct err e = ERR_INIT;
        snprintf(key, sizeof(key), "%s%s", prefix, rows[id].name);
        struct json_object *o = json_get(values, key);
        if (o && set_value(conf, s, (enum setting)id, o, asker, &e) < 0)
            log_warning("instance %s, %s: %s; left out", instance_uuid(instance), from, e.text);
    }
}

void settings_for_instance(const struct conf *conf, const struct instance *instance,
                           struct settings *out)
{
    from_configuration(conf, out);
    override(conf, out, instance_extra_specs(instance), "computed:", ASKER_OPERATOR,
             "flavor extra specs", instance);
    override(conf, out, instance_system_metadata(instance), "image_computed_", ASKER_TENANT,
             "image properties", instance);
    override(conf, out, instance_metadata(instance), "computed:", ASKER_TENANT, "metadata",
             instance);
}

/* ---- an operator's changes ---- */

static int find_row(const char *name, enum setting *out)
{
    for (unsigned id = 0; id < SETTING_COUNT; id++) {
        if (text_equal(name, rows[id].name)) {
            *out = (enum setting)id;
            return 0;
        }
    }
    return -1;
}

int settings_change(const struct conf *conf, struct settings *settings, struct json_object *changes,
                    struct err *e)
{
    struct settings fresh = *settings;

    if (!json_object_is_type(changes, json_type_object) || json_object_object_length(changes) == 0)
        return err_set(e, ERR_INVALID, "no settings are given");
    json_object_object_foreach (changes, key, value) {
        enum setting id;
        _cleanup_(str_freep) char *shown = text_escape(key, 40);
        if (find_row(key, &id) < 0)
            return err_set(e, ERR_INVALID,
                           "setting \"%s\" is not known; allowed are downtime_ms, "
                           "completion_timeout_s, timeout_action, auto_converge, post_copy, "
                           "bandwidth_mib, policy",
                           shown);
        if (set_value(conf, &fresh, id, value, ASKER_OPERATOR, e) < 0)
            return -1;
    }
    *settings = fresh;
    return 0;
}

struct policy_limits settings_limits(const struct settings *settings, const struct conf *conf)
{
    return (struct policy_limits){
        .kind = settings->policy,
        .downtime_limit_ms = settings->downtime_ms,
        .downtime_steps = (int)conf_int(conf, CONF_libvirt_live_migration_downtime_steps),
        .downtime_delay_s = conf_int(conf, CONF_libvirt_live_migration_downtime_delay),
        .completion_timeout_s = settings->completion_timeout_s,
        .timeout_is_total = settings->timeout_is_total,
        .timeout_cap_s = conf_int(conf, CONF_libvirt_live_migration_completion_timeout_hard_limit),
        .timeout_action = settings->timeout_action,
        .auto_converge = settings->auto_converge,
        .post_copy = settings->post_copy,
        .post_copy_after_iterations =
            (int)conf_int(conf, CONF_libvirt_live_migration_post_copy_after_iterations),
    };
}

struct json_object *settings_to_json(const struct settings *s)
{
    struct json_object *o = json_object_new_object();

    json_add_int(o, "downtime_ms", s->downtime_ms);
    json_add_int(o, "completion_timeout_s", s->completion_timeout_s);
    json_add_bool(o, "timeout_is_total", s->timeout_is_total);
    json_add_string(o, "timeout_action", settings_action_name(s->timeout_action));
    json_add_bool(o, "auto_converge", s->auto_converge);
    json_add_bool(o, "post_copy", s->post_copy);
    json_add_int(o, "bandwidth_mib", s->bandwidth_mib);
    json_add_string(o, "policy", settings_policy_name(s->policy));
    return o;
}

int settings_from_json(struct json_object *o, struct settings *out, struct err *e)
{
    struct settings s = {0};

    for (unsigned id = 0; id < SETTING_COUNT; id++) {
        struct value value;
        struct json_object *member = json_get(o, rows[id].name);
        if (!member && id == SETTING_policy)
            continue; /* an agent wrote it that had the stepped one alone */
        if (!member)
            return err_set(e, ERR_JOURNAL, "setting %s is missing in the record", rows[id].name);
        if (read_value((enum setting)id, member, &value, e) < 0)
            return -1;
        assign(&s, (enum setting)id, value.number);
    }
    s.timeout_is_total = json_get_bool(o, "timeout_is_total", true);
    *out = s;
    return 0;
}
