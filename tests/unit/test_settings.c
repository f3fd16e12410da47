/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/unit.h"

#include "agent/settings.h"
#include "cloud/cloud.h"
#include "lib/json.h"
#include "lib/log.h"
#include "lib/text.h"

#define VM "11111111-1111-4111-8111-111111111111"

static struct conf *conf;
static char *log_path;

static void setup(void)
{
    log_path = text_format("%s/log", unit_directory());
    (void)unlink(log_path);
    log_set_level(NULL, LOG_LEVEL_WARNING);
    UNIT_OK(log_open(log_path, LOG_FORMAT_TEXT, &unit_err));
    conf = conf_for_test("libvirt.live_migration_downtime", "400",
                         "libvirt.live_migration_completion_timeout", "180",
                         "libvirt.live_migration_permit_auto_converge", "false",
                         "libvirt.live_migration_permit_post_copy", "false",
                         "libvirt.live_migration_bandwidth", "0", NULL);
}

static void teardown(void)
{
    log_close();
    conf_unref(conf);
    free(log_path);
}

UNIT_FIXTURE(setup, teardown)

static void use(struct conf *fresh)
{
    conf_unref(conf);
    conf = fresh;
}

static struct json_object *parse(const char *text)
{
    struct json_object *o = NULL;

    UNIT_OK(json_parse(text, strlen(text), &o, &unit_err));
    return o;
}

/* Settings of an instance with these extra specs (keys without "computed:"), image properties, metadata. */
static struct settings settings_of(const char *specs, const char *image, const char *metadata)
{
    struct settings out;
    _cleanup_(json_putp) struct json_object *flavor = specs ? parse(specs) : NULL;
    struct cloud_instance_facts facts = {
        .uuid = VM, .name = "vm-a", .host = "hosta", .settings = flavor};
    _cleanup_(instance_freep) struct instance *instance = cloud_instance_from_facts(&facts);

    if (image)
        instance_set_system_metadata(instance, parse(image));
    if (metadata)
        instance_set_metadata(instance, parse(metadata));
    memset(&out, 0xff, sizeof(out));
    settings_for_instance(conf, instance, &out);
    return out;
}

static void logged(const char *words)
{
    _cleanup_(str_freep) char *log = unit_read_file(log_path, NULL);

    UNIT_HAS(log, words);
}

static void logged_nothing(void)
{
    _cleanup_(str_freep) char *log = unit_read_file(log_path, NULL);

    UNIT_STR(log, "");
}

UNIT_TEST(configured, "without overrides the configuration holds")
{
    struct settings s = settings_of(NULL, NULL, NULL);

    UNIT_EQ(s.downtime_ms, 400);
    UNIT_EQ(s.completion_timeout_s, 180);
    UNIT_TRUE(!s.auto_converge && !s.post_copy);
    UNIT_EQ(s.bandwidth_mib, 0);
    UNIT_EQ(s.timeout_action, POLICY_ABORT);
    logged_nothing();
}

UNIT_TEST(precedence, "flavor goes over configuration, image over flavor, metadata over image")
{
    struct settings s = settings_of("{\"downtime_ms\":\"101\",\"bandwidth_mib\":\"7\","
                                    "\"completion_timeout_s\":\"50\",\"timeout_action\":"
                                    "\"force_complete\"}",
                                    "{\"image_computed_downtime_ms\":\"102\","
                                    "\"image_computed_bandwidth_mib\":\"8\"}",
                                    "{\"computed:downtime_ms\":\"103\"}");

    UNIT_EQ(s.downtime_ms, 103);
    UNIT_EQ(s.bandwidth_mib, 8);
    UNIT_EQ(s.completion_timeout_s, 50);
    UNIT_EQ(s.timeout_action, POLICY_FORCE_COMPLETE);
    logged_nothing();
}

UNIT_TEST(other_keys, "keys of others are left alone without a word")
{
    struct settings s =
        settings_of(NULL, "{\"image_downtime_ms\":\"1\",\"image_computed_nothing\":\"1\"}",
                    "{\"downtime_ms\":\"1\",\"computed:\":\"1\",\"hw:cpu_policy\":\"shared\"}");

    UNIT_EQ(s.downtime_ms, 400);
    logged_nothing();
}

UNIT_TEST(tenant, "a tenant cannot permit what neither configuration nor flavor permits")
{
    struct settings s = settings_of(NULL, "{\"image_computed_post_copy\":\"true\"}",
                                    "{\"computed:auto_converge\":\"true\"}");

    UNIT_TRUE(!s.post_copy && !s.auto_converge);
    logged("post_copy is true; neither the configuration nor the flavor permits it");
    logged("auto_converge is true");
    logged(VM);
    s = settings_of("{\"post_copy\":\"true\"}", NULL, "{\"computed:post_copy\":\"yes\"}");
    UNIT_TRUE(s.post_copy);
}

UNIT_TEST(tenant_forbids,
          "a tenant may forbid what is permitted, and an image's no is not undone by metadata")
{
    use(conf_for_test("libvirt.live_migration_permit_auto_converge", "true",
                      "libvirt.live_migration_permit_post_copy", "true", NULL));
    struct settings s = settings_of(NULL, "{\"image_computed_post_copy\":\"no\"}",
                                    "{\"computed:auto_converge\":\"off\"}");
    UNIT_TRUE(!s.post_copy && !s.auto_converge);
}

UNIT_TEST(unreadable, "a value that cannot be read is left out with a warning that names it")
{
    static const char *const values[] = {"", "x", "-5", "1.5", "5 ms", "99999999999999999999"};

    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        _cleanup_(str_freep) char *metadata = text_format(
            "{\"computed:downtime_ms\":\"%s\",\"computed:bandwidth_mib\":\"9\"}", values[i]);
        struct settings s = settings_of(NULL, NULL, metadata);
        UNIT_EQ(s.downtime_ms, 400);
        UNIT_EQ(s.bandwidth_mib, 9);
        _cleanup_(str_freep) char *words = text_format("downtime_ms is \"%s\"", values[i]);
        logged(words);
    }
    struct settings s = settings_of(NULL, NULL,
                                    "{\"computed:timeout_action\":\"explode\","
                                    "\"computed:auto_converge\":\"perhaps\"}");
    UNIT_EQ(s.timeout_action, POLICY_ABORT);
    logged("abort or force_complete is allowed");
    logged("true or false is allowed");
}

UNIT_TEST(hard_limits,
          "no override goes beyond the operator's hard limits, nor does the configuration")
{
    use(conf_for_test("libvirt.live_migration_downtime", "900",
                      "libvirt.live_migration_downtime_hard_limit", "800",
                      "libvirt.live_migration_bandwidth", "0",
                      "libvirt.live_migration_bandwidth_hard_limit", "100", NULL));
    struct settings s = settings_of(NULL, NULL, NULL);
    UNIT_EQ(s.downtime_ms, 800);
    UNIT_EQ(s.bandwidth_mib, 100);
    s = settings_of("{\"downtime_ms\":\"801\"}", "{\"image_computed_bandwidth_mib\":\"0\"}",
                    "{\"computed:bandwidth_mib\":\"101\"}");
    UNIT_EQ(s.downtime_ms, 800);
    UNIT_EQ(s.bandwidth_mib, 100);
    logged("live_migration_downtime_hard_limit allows 800 at most");
    logged("live_migration_bandwidth_hard_limit allows 100 at most");
    s = settings_of("{\"downtime_ms\":\"700\"}", NULL, "{\"computed:bandwidth_mib\":\"99\"}");
    UNIT_EQ(s.downtime_ms, 700);
    UNIT_EQ(s.bandwidth_mib, 99);
}

/* ---- an operator's changes ---- */

static int change(struct settings *s, const char *text)
{
    _cleanup_(json_putp) struct json_object *changes = parse(text);

    err_clear(&unit_err);
    return settings_change(conf, s, changes, &unit_err);
}

UNIT_TEST(changed, "an operator's changes are taken as numbers, booleans and words, or as text")
{
    struct settings s = settings_of(NULL, NULL, NULL);

    UNIT_OK(change(&s, "{\"downtime_ms\":800,\"auto_converge\":true,\"post_copy\":\"on\","
                       "\"timeout_action\":\"force_complete\",\"bandwidth_mib\":\"12\","
                       "\"completion_timeout_s\":0}"));
    UNIT_EQ(s.downtime_ms, 800);
    UNIT_TRUE(s.auto_converge && s.post_copy);
    UNIT_EQ(s.timeout_action, POLICY_FORCE_COMPLETE);
    UNIT_EQ(s.bandwidth_mib, 12);
    UNIT_EQ(s.completion_timeout_s, 0);
}

UNIT_TEST(all_or_nothing, "a change of which one part is wrong changes nothing, and says which")
{
    static const struct {
        const char *changes, *words;
    } rows[] = {
        {"{}", "no settings"},
        {"[]", "no settings"},
        {"{\"bandwidth_mib\":5,\"speed\":1}", "\"speed\" is not known"},
        {"{\"bandwidth_mib\":5,\"a\\nb\":1}", "a\\x0Ab"},
        {"{\"bandwidth_mib\":5,\"downtime_ms\":19}", "downtime_ms is 19; at least 20"},
        {"{\"bandwidth_mib\":5,\"downtime_ms\":-1}", "downtime_ms is \"-1\""},
        {"{\"bandwidth_mib\":5,\"downtime_ms\":null}", "downtime_ms is \"null\""},
        {"{\"bandwidth_mib\":5,\"downtime_ms\":[1]}", "downtime_ms is"},
        {"{\"bandwidth_mib\":5,\"downtime_ms\":801}", "hard_limit allows 800"},
        {"{\"bandwidth_mib\":5,\"post_copy\":2}", "post_copy is \"2\""},
        {"{\"bandwidth_mib\":5,\"timeout_action\":1}", "abort or force_complete"},
        {"{\"post_copy\":true,\"bandwidth_mib\":101}", "hard_limit allows 100"},
        {"{\"post_copy\":true,\"bandwidth_mib\":0}", "hard_limit allows 100"},
    };

    use(conf_for_test("libvirt.live_migration_downtime_hard_limit", "800",
                      "libvirt.live_migration_bandwidth_hard_limit", "100", NULL));
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct settings s = settings_of(NULL, NULL, NULL), before = s;
        UNIT_FAILS(change(&s, rows[i].changes), ERR_INVALID);
        if (!strstr(rows[i].words, "\\x"))
            UNIT_HAS(unit_err.text, rows[i].words);
        UNIT_TRUE(strchr(unit_err.text, '\n') == NULL);
        UNIT_EQ(s.bandwidth_mib, before.bandwidth_mib);
        UNIT_EQ(s.post_copy, before.post_copy);
        UNIT_EQ(s.downtime_ms, before.downtime_ms);
    }
    struct settings s = settings_of(NULL, NULL, NULL);
    UNIT_FAILS(settings_change(conf, &s, NULL, &unit_err), ERR_INVALID);
}

/* ---- what others are given ---- */

UNIT_TEST(limits, "the policy's limits are the settings, with scale and caps of the configuration")
{
    use(conf_for_test("libvirt.live_migration_downtime_steps", "4",
                      "libvirt.live_migration_downtime_delay", "30",
                      "libvirt.live_migration_timeout_scale", "total",
                      "libvirt.live_migration_completion_timeout_hard_limit", "900",
                      "libvirt.live_migration_post_copy_after_iterations", "6", NULL));
    struct settings s = {.downtime_ms = 77,
                         .completion_timeout_s = 88,
                         .timeout_is_total = true,
                         .post_copy = true,
                         .timeout_action = POLICY_FORCE_COMPLETE};
    struct policy_limits l = settings_limits(&s, conf);

    UNIT_EQ(l.downtime_limit_ms, 77);
    UNIT_EQ(l.downtime_steps, 4);
    UNIT_EQ(l.downtime_delay_s, 30);
    UNIT_EQ(l.completion_timeout_s, 88);
    UNIT_TRUE(l.timeout_is_total && l.post_copy);
    UNIT_EQ(l.timeout_cap_s, 900);
    UNIT_EQ(l.timeout_action, POLICY_FORCE_COMPLETE);
    UNIT_EQ(l.post_copy_after_iterations, 6);
    s.timeout_is_total = false;
    UNIT_TRUE(!settings_limits(&s, conf).timeout_is_total);
}

UNIT_TEST(action_words, "the configured action has the policy's meaning")
{
    use(conf_for_test("libvirt.live_migration_timeout_action", "force_complete", NULL));
    UNIT_EQ(settings_of(NULL, NULL, NULL).timeout_action, POLICY_FORCE_COMPLETE);
    UNIT_STR(settings_action_name(POLICY_FORCE_COMPLETE), "force_complete");
    UNIT_STR(settings_action_name(POLICY_ABORT), "abort");
}

UNIT_TEST(journaled, "settings come out of the journal as they went in, and a part is no whole")
{
    struct settings s = {.downtime_ms = 5,
                         .completion_timeout_s = 6,
                         .auto_converge = true,
                         .timeout_action = POLICY_FORCE_COMPLETE,
                         .bandwidth_mib = 7};
    struct settings back = {0};
    _cleanup_(json_putp) struct json_object *o = settings_to_json(&s);

    UNIT_OK(settings_from_json(o, &back, &unit_err));
    UNIT_EQ(back.downtime_ms, 5);
    UNIT_EQ(back.completion_timeout_s, 6);
    UNIT_TRUE(back.auto_converge && !back.post_copy);
    UNIT_EQ(back.timeout_action, POLICY_FORCE_COMPLETE);
    UNIT_EQ(back.bandwidth_mib, 7);
    json_object_object_del(o, "bandwidth_mib");
    UNIT_FAILS(settings_from_json(o, &back, &unit_err), ERR_JOURNAL);
    UNIT_HAS(unit_err.text, "bandwidth_mib");
    UNIT_EQ(back.bandwidth_mib, 7);
    UNIT_FAILS(settings_from_json(NULL, &back, &unit_err), ERR_JOURNAL);
}

UNIT_TEST(policy_kind,
          "the policy is chosen by configuration, instance and operator, adaptive or stepped")
{
    struct settings s = settings_of(NULL, NULL, NULL);

    UNIT_EQ(s.policy, POLICY_ADAPTIVE);
    UNIT_EQ(settings_limits(&s, conf).kind, POLICY_ADAPTIVE);
    s = settings_of("{\"policy\":\"stepped\"}", NULL, NULL);
    UNIT_EQ(s.policy, POLICY_STEPPED);
    UNIT_OK(change(&s, "{\"policy\":\"adaptive\"}"));
    UNIT_EQ(s.policy, POLICY_ADAPTIVE);
    UNIT_FAILS(change(&s, "{\"policy\":\"nova\"}"), ERR_INVALID);
    UNIT_HAS(unit_err.text, "policy is \"nova\"; adaptive or stepped is allowed");
}

UNIT_TEST(record_without_policy,
          "a record of an agent that had no other policy than the stepped one is read")
{
    struct settings s = settings_of(NULL, NULL, NULL), back;
    _cleanup_(json_putp) struct json_object *o = settings_to_json(&s);

    json_object_object_del(o, "policy");
    UNIT_OK(settings_from_json(o, &back, &unit_err));
    UNIT_EQ(back.policy, POLICY_STEPPED);
    UNIT_EQ(back.downtime_ms, s.downtime_ms);
}
