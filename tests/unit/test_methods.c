/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/methods.h"

#include "lib/json.h"
#include "lib/text.h"
#include "rpc/envelope.h"
#include "rpc/recent.h"
#include "lib/clock.h"
#include "tests/unit/capture.h"
#include "tests/unit/unit.h"

static const struct method *found(const char *ns, const char *version, const char *name)
{
    const struct method *method = NULL;
    UNIT_OK(methods_find(ns, version, name, false, &method, &unit_err));
    return method;
}

static int find(const char *ns, const char *version, const char *name, bool ping)
{
    const struct method *method = NULL;
    return methods_find(ns, version, name, ping, &method, &unit_err);
}

UNIT_TEST(table, "every row is found under its own name, namespace and version")
{
    for (int i = 0; i < RPC_METHOD_COUNT; i++) {
        const struct method *row = method_by_id((enum rpc_method_id)i);
        _cleanup_(str_freep) char *version = text_format("%d.%d", row->major, row->minor);
        UNIT_EQ(row->id, i);
        UNIT_TRUE(found(method_namespace_name(row->name_space), version, row->name) == row);
        UNIT_STR(rpc_method_name((enum rpc_method_id)i), row->name);
    }
}

UNIT_TEST(topics, "the methods that newer peers serve on compute-alt are marked")
{
    UNIT_TRUE(rpc_method_is_alt(RPC_METHOD_live_migration));
    UNIT_TRUE(rpc_method_is_alt(RPC_METHOD_pre_live_migration));
    UNIT_TRUE(rpc_method_is_alt(RPC_METHOD_remove_volume_connection));
    UNIT_TRUE(!rpc_method_is_alt(RPC_METHOD_check_can_live_migrate_destination));
    UNIT_TRUE(!rpc_method_is_alt(RPC_METHOD_live_migration_abort));
}

UNIT_TEST(versions, "same major and a minor up to ours is served: 6.0 to 6.5, 5.0 to 5.13")
{
    UNIT_TRUE(found(NULL, "6.0", "live_migration"));
    UNIT_TRUE(found(NULL, "6.5", "live_migration"));
    UNIT_TRUE(found(NULL, "5.0", "live_migration"));
    UNIT_TRUE(found(NULL, "5.13", "live_migration"));
    UNIT_FAILS(find(NULL, "6.6", "live_migration", false), ERR_RPC_VERSION);
    UNIT_STR(unit_err.text,
             "Endpoint does not support RPC version 6.6. Attempted method: live_migration");
    UNIT_FAILS(find(NULL, "5.14", "live_migration", false), ERR_RPC_VERSION);
    UNIT_FAILS(find(NULL, "7.0", "live_migration", false), ERR_RPC_VERSION);
    UNIT_FAILS(find(NULL, "4.0", "live_migration", false), ERR_RPC_VERSION);
    UNIT_FAILS(find(NULL, "1.0", "live_migration", false), ERR_RPC_VERSION);
    UNIT_FAILS(find(NULL, "six", "live_migration", false), ERR_RPC_VERSION);
}

UNIT_TEST(unknown_method, "an unknown method of a served version is NoSuchMethod")
{
    UNIT_FAILS(find(NULL, "6.0", "make_coffee", false), ERR_NO_METHOD);
    UNIT_STR(unit_err.text, "Endpoint does not support RPC method make_coffee");
    UNIT_FAILS(find(NULL, "6.0", "__init__", false), ERR_NO_METHOD);
    UNIT_FAILS(find(NULL, "6.0", "_live_migration", false), ERR_NO_METHOD);
    UNIT_FAILS(find(NULL, "6.0", "", false), ERR_NO_METHOD);
    UNIT_FAILS(find(NULL, "6.0", "ping", false), ERR_NO_METHOD);
    UNIT_FAILS(find("baseapi", "1.1", "live_migration", false), ERR_NO_METHOD);
}

UNIT_TEST(namespaces, "a namespace that nobody serves is an unsupported version")
{
    UNIT_TRUE(found("baseapi", "1.0", "ping"));
    UNIT_TRUE(found("baseapi", "1.1", "get_backdoor_port"));
    UNIT_TRUE(found("computed", "1.0", "control"));
    UNIT_FAILS(find("baseapi", "1.2", "ping", false), ERR_RPC_VERSION);
    UNIT_FAILS(find("compute_task", "1.0", "ping", false), ERR_RPC_VERSION);
    UNIT_FAILS(find("", "6.0", "live_migration", false), ERR_RPC_VERSION);
}

UNIT_TEST(server_ping, "oslo_rpc_server_ping is known only where it is switched on")
{
    UNIT_OK(find(NULL, "1.0", "oslo_rpc_server_ping", true));
    UNIT_FAILS(find(NULL, "1.0", "oslo_rpc_server_ping", false), ERR_RPC_VERSION);
    UNIT_FAILS(find(NULL, "6.0", "oslo_rpc_server_ping", true), ERR_NO_METHOD);
    UNIT_FAILS(find(NULL, "1.0", "live_migration", true), ERR_NO_METHOD);
}

/* ---- arguments ---- */

#define INSTANCE                                                                                   \
    "{\"nova_object.name\":\"Instance\",\"nova_object.namespace\":\"nova\","                       \
    "\"nova_object.version\":\"2.7\",\"nova_object.data\":{}}"
#define INSTANCE_3                                                                                 \
    "{\"nova_object.name\":\"Instance\",\"nova_object.namespace\":\"nova\","                       \
    "\"nova_object.version\":\"3.0\",\"nova_object.data\":{}}"
#define DATA                                                                                       \
    "{\"nova_object.name\":\"LibvirtLiveMigrateData\",\"nova_object.namespace\":\"nova\","         \
    "\"nova_object.version\":\"1.99\",\"nova_object.data\":{}}"

static int check(enum rpc_method_id id, int major, const char *args)
{
    _cleanup_(json_putp) struct json_object *o = NULL;
    if (json_parse(args, strlen(args), &o, &unit_err))
        return -2;
    return methods_check_args(method_by_id(id), major, o, &unit_err);
}

UNIT_TEST(good_args, "arguments as nova sends them pass")
{
    UNIT_OK(check(RPC_METHOD_pre_live_migration, 6,
                  "{\"instance\":" INSTANCE ",\"disk\":null,\"migrate_data\":" DATA "}"));
    UNIT_OK(check(RPC_METHOD_pre_live_migration, 6,
                  "{\"instance\":" INSTANCE ",\"disk\":\"[]\",\"migrate_data\":" DATA "}"));
    UNIT_OK(check(RPC_METHOD_pre_live_migration, 5,
                  "{\"instance\":" INSTANCE ",\"block_migration\":true,\"disk\":null,"
                  "\"migrate_data\":" DATA "}"));
    UNIT_OK(check(RPC_METHOD_external_instance_event, 6,
                  "{\"instances\":[" INSTANCE "],\"events\":[]}"));
    UNIT_OK(check(RPC_METHOD_get_backdoor_port, 1, "{}"));
    UNIT_OK(methods_check_args(method_by_id(RPC_METHOD_get_backdoor_port), 1, NULL, &unit_err));
    UNIT_OK(check(RPC_METHOD_ping, 1, "{\"arg\":[1,{}]}"));
    UNIT_OK(check(RPC_METHOD_ping, 1, "{\"arg\":null}"));
}

/* What is refused, and the words that its sentence must have. */
static void refused(enum rpc_method_id id, const char *args, enum err_code code, const char *words)
{
    err_clear(&unit_err);
    int r = check(id, 6, args);
    unit_check(r == -1 && unit_err.code == code && strstr(unit_err.text, words), __LINE__, __FILE__,
               "%s: %d %s", args, r, unit_err.text);
    UNIT_HAS(unit_err.text, code == ERR_OBJECT_VERSION ? "argument" : rpc_method_name(id));
}

UNIT_TEST(bad_args, "what is missing, unknown or of another type is refused by name")
{
    enum rpc_method_id pre = RPC_METHOD_pre_live_migration,
                       rm = RPC_METHOD_remove_volume_connection;
    refused(pre, "{\"disk\":null,\"migrate_data\":" DATA "}", ERR_INVALID,
            "misses its argument instance");
    refused(pre, "{\"instance\":" INSTANCE ",\"migrate_data\":" DATA "}", ERR_INVALID, "disk");
    refused(pre, "{\"instance\":null,\"disk\":null,\"migrate_data\":" DATA "}", ERR_INVALID,
            "argument instance: it is of JSON type null; allowed is Instance");
    refused(pre, "{\"instance\":" DATA ",\"disk\":null,\"migrate_data\":" DATA "}", ERR_INVALID,
            "LibvirtLiveMigrateData; allowed is Instance");
    refused(pre, "{\"instance\":" INSTANCE_3 ",\"disk\":null,\"migrate_data\":" DATA "}",
            ERR_OBJECT_VERSION, "3.0 of Instance is not supported");
    refused(pre, "{\"instance\":" INSTANCE ",\"disk\":7,\"migrate_data\":" DATA "}", ERR_INVALID,
            "JSON type int; allowed is string of JSON or null");
    refused(pre, "{\"instance\":" INSTANCE ",\"disk\":\"{\",\"migrate_data\":" DATA "}",
            ERR_INVALID, "argument disk");
    refused(pre,
            "{\"instance\":" INSTANCE
            ",\"block_migration\":true,\"disk\":null,\"migrate_data\":" DATA "}",
            ERR_INVALID, "unexpected keyword argument 'block_migration'");
    refused(rm, "{\"instance\":" INSTANCE ",\"volume_id\":\"v\",\"force\":true}", ERR_INVALID,
            "'force'; allowed are: instance, volume_id, delete_attachment");
    refused(rm, "{\"instance\":" INSTANCE ",\"volume_id\":5}", ERR_INVALID, "volume_id");
    refused(rm, "{\"instance\":" INSTANCE ",\"volume_id\":\"a\\u0000b\"}", ERR_INVALID, "NUL");
    refused(rm, "{\"instance\":" INSTANCE ",\"volume_id\":\"v\",\"delete_attachment\":1}",
            ERR_INVALID, "allowed is boolean");
    refused(RPC_METHOD_live_migration_abort, "{\"instance\":" INSTANCE ",\"migration_id\":\"4\"}",
            ERR_INVALID, "allowed is integer");
    refused(RPC_METHOD_external_instance_event, "{\"instances\":{},\"events\":[]}", ERR_INVALID,
            "a list of Instance");
    refused(RPC_METHOD_external_instance_event, "{\"instances\":[" INSTANCE ",4],\"events\":[]}",
            ERR_INVALID, "item 1");
    refused(RPC_METHOD_check_instance_shared_storage, "{\"data\":\"x\"}", ERR_INVALID, "dict");
    refused(RPC_METHOD_get_backdoor_port, "{\"x\":1}", ERR_INVALID, "allowed are: none");
}

static unsigned checked;

/* All recorded requests to a compute host must pass, as far as their methods are served. */
static void check_recorded(const char *name, struct json_object *inner)
{
    struct envelope_request r;
    const struct method *method;
    int major, minor;
    if (!strstr(name, "-compute.os-") || envelope_read_request(inner, &r, &unit_err))
        return;
    if (!methods_find(r.namespace_name, r.version, r.method, false, &method, NULL)) {
        envelope_parse_version(r.version, &major, &minor);
        err_clear(&unit_err);
        unit_check(!methods_check_args(method, major, r.args, &unit_err), __LINE__, __FILE__,
                   "%s: %s", name, unit_err.text);
        checked++;
    }
    envelope_request_clear(&r);
}

UNIT_TEST(recorded, "the recorded requests to compute hosts pass the table's checks")
{
    checked = 0;
    capture_each(check_recorded);
    UNIT_EQ(checked, 13);
}

/* ---- names seen lately ---- */

static void fake_clock_start(void)
{
    clock_fake_set(1000 * USEC_PER_SEC);
}

UNIT_FIXTURE(fake_clock_start, clock_fake_stop)

UNIT_TEST(recent_bound, "of ended names the oldest are forgotten beyond the limit")
{
    _cleanup_(recent_freep) struct recent *recent = recent_new(100, 3600 * USEC_PER_SEC);
    char name[20];
    for (int i = 0; i < 1000; i++) {
        snprintf(name, sizeof(name), "id-%d", i);
        recent_set(recent, name, NULL);
    }
    UNIT_EQ(recent_count(recent), 100);
    UNIT_TRUE(recent_find(recent, "id-999", NULL) && recent_find(recent, "id-900", NULL));
    UNIT_TRUE(!recent_find(recent, "id-899", NULL));
}

UNIT_TEST(recent_time, "ended names are forgotten after their time")
{
    _cleanup_(recent_freep) struct recent *recent = recent_new(100, 60 * USEC_PER_SEC);
    recent_set(recent, "a", NULL);
    clock_fake_set(1059 * USEC_PER_SEC);
    UNIT_TRUE(recent_find(recent, "a", NULL));
    clock_fake_set(1060 * USEC_PER_SEC);
    UNIT_TRUE(!recent_find(recent, "a", NULL));
}

UNIT_TEST(recent_work, "a name whose work goes on is kept whatever comes after it")
{
    _cleanup_(recent_freep) struct recent *recent = recent_new(2, 60 * USEC_PER_SEC);
    int work;
    void *is = NULL;
    recent_set(recent, "long", &work);
    for (int i = 0; i < 50; i++) {
        char name[20];
        snprintf(name, sizeof(name), "id-%d", i);
        recent_set(recent, name, NULL);
    }
    clock_fake_set(5000 * USEC_PER_SEC);
    UNIT_TRUE(recent_find(recent, "long", &is) && is == &work);
    recent_set(recent, "long", NULL);
    UNIT_TRUE(recent_find(recent, "long", &is) && is == NULL);
    clock_fake_set(5061 * USEC_PER_SEC);
    UNIT_TRUE(!recent_find(recent, "long", NULL));
    UNIT_EQ(recent_count(recent), 0);
}
