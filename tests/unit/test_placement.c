/* SPDX-License-Identifier: Apache-2.0 */
/* This host's provider and the allocations, against a scripted Placement. */
#include "tests/unit/rest_world.h"

#include "cloud/placement.h"
#include "cloud/views.h"
#include "lib/clock.h"
#include "lib/json.h"
#include "lib/text.h"

#define NODE      "11111111-1111-1111-1111-111111111111"
#define OTHER     "22222222-2222-2222-2222-222222222222"
#define INSTANCE  "33333333-3333-3333-3333-333333333333"
#define MIGRATION "44444444-4444-4444-4444-444444444444"
#define PROVIDER  "/resource_providers/" NODE
#define CONFLICT                                                                                   \
    "{\"errors\": [{\"code\": \"placement.concurrent_update\", \"detail\": \"generation\"}]}"
#define INVENTORY(total, reserved, ratio)                                                          \
    "{\"total\": " #total ", \"reserved\": " #reserved ", \"min_unit\": 1, \"max_unit\": " #total  \
    ", \"step_size\": 1, \"allocation_ratio\": " #ratio "}"
#define INVENTORIES(vcpu, memory, disk)                                                            \
    "{\"resource_provider_generation\": 7, \"inventories\": {\"VCPU\": " vcpu                      \
    ", \"MEMORY_MB\": " memory ", \"DISK_GB\": " disk "}}"
#define AS_IT_IS                                                                                   \
    INVENTORIES(INVENTORY(4, 0, 16.0), INVENTORY(8000, 512, 1.5), INVENTORY(100, 0, 1.0))

static struct rest_world *w;
static enum err_code instance_error; /* of the instance that is asked for */
static const char *instance_state;

static void instance_get(struct cloud *of, struct json_object *context, const char *uuid,
                         cloud_result_fn done, void *aux)
{
    _cleanup_(json_putp) struct json_object *instance = json_object_new_object();
    struct json_object *data = json_object_new_object();
    struct err e = ERR_INIT;

    (void)of;
    (void)context;
    UNIT_STR(uuid, INSTANCE);
    json_add_string(data, "task_state", instance_state);
    json_add(instance, "nova_object.data", data);
    if (instance_error)
        err_set(&e, instance_error, "as the test says");
    done(aux, instance_error ? NULL : instance, instance_error ? &e : NULL);
}

static const struct cloud_ops ops = {.name = "test", .instance_get = instance_get};

static void open_with(const char *name, const char *value)
{
    rest_world_open(w, SERVICE_PLACEMENT, "placement", "placement.status_code_retries", "0", name,
                    value);
    w->cloud.ops = &ops;
    w->nova.placement = placement_new(&w->cloud, w->nova.services[SERVICE_PLACEMENT]);
}

static void close_cloud(void)
{
    placement_free(STEAL(w->nova.placement));
    rest_world_close(w);
}

static void setup(void)
{
    w = rest_world_new();
    instance_error = ERR_NONE;
    instance_state = NULL;
    open_with(NULL, NULL);
}

static void teardown(void)
{
    close_cloud();
    rest_world_free(w);
}

UNIT_FIXTURE(setup, teardown)

static void begin(void)
{
    json_object_put(w->end.result);
    w->end = (struct rest_end){0};
}

static void ok(void)
{
    rest_world_run(w, 1);
    UNIT_STR(w->end.e.text, "");
}

static void add(const char *method, const char *where, int status, const char *body)
{
    rest_world_answer(w, method, where, status, body);
}

static void add_traits(const char *of_provider)
{
    fake_http_add(w->server, &(struct fake_answer){
                                 "GET", "/traits", 200,
                                 "{\"traits\": [\"COMPUTE_NODE\", \"COMPUTE_STATUS_DISABLED\", "
                                 "\"HW_CPU_X86_AVX\", \"CUSTOM_GOLD\", \"OWNER_NOVA\"]}"});
    if (of_provider)
        fake_http_add(w->server,
                      &(struct fake_answer){"GET", PROVIDER "/traits", 200, of_provider});
}

static void add_found(void)
{
    add("GET", "/resource_providers?in_tree=" NODE, 200,
        "{\"resource_providers\": [{\"uuid\": \"" NODE "\", \"name\": \"hosta\"}]}");
}

static const char *const traits[] = {"COMPUTE_NODE", "HW_CPU_X86_AVX", "COMPUTE_NOT_YET", NULL};
static const struct cloud_node_facts facts = {
    .hypervisor_hostname = "hosta",
    .vcpus = 4,
    .memory_mb = 8000,
    .local_gb = 100,
    .traits = traits,
};

static void begin_update(void)
{
    begin();
    placement_update(w->nova.placement, NODE, &facts, rest_done, &w->end);
}

static struct json_object *written(const char *method, const char *path, size_t n)
{
    const struct fake_request *request = fake_http_request(w->server, method, path, n);

    return request ? request->json : NULL;
}

static void is_json(struct json_object *value, const char *expected)
{
    _cleanup_(str_freep) char *text = json_text(value);

    UNIT_STR(text, expected);
}

/* ---- the provider ---- */

UNIT_TEST(unchanged, "when nothing changed nothing is written")
{
    add_traits("{\"traits\": [\"OWNER_NOVA\", \"CUSTOM_GOLD\", \"COMPUTE_NODE\", "
               "\"HW_CPU_X86_AVX\"], \"resource_provider_generation\": 7}");
    add_found();
    add("GET", PROVIDER "/inventories", 200, AS_IT_IS);
    begin_update();
    ok();
    UNIT_EQ(fake_http_count(w->server, "PUT", NULL), 0);
    UNIT_EQ(fake_http_count(w->server, "POST", "/resource*"), 0);
    const struct fake_request *get = fake_http_request(w->server, "GET", "/traits", 0);
    _cleanup_(str_freep) char *version =
        get ? fake_http_header(get, "OpenStack-API-Version") : NULL;
    UNIT_STR(version, "placement 1.28");
}

UNIT_TEST(new_provider, "a new provider is made with all three inventories and the known traits")
{
    add_traits("{\"traits\": [], \"resource_provider_generation\": 1}");
    add("GET", "/resource_providers?in_tree=" NODE, 200, "{\"resource_providers\": []}");
    add("POST", "/resource_providers", 200, "{\"uuid\": \"" NODE "\", \"generation\": 0}");
    add("GET", PROVIDER "/inventories", 200,
        "{\"resource_provider_generation\": 0, \"inventories\": {}}");
    add("PUT", PROVIDER "/inventories", 200, "{}");
    add("PUT", PROVIDER "/traits", 200, "{}");
    begin_update();
    ok();
    is_json(written("POST", "/resource_providers", 0),
            "{\"uuid\":\"" NODE "\",\"name\":\"hosta\"}");
    struct json_object *put = written("PUT", PROVIDER "/inventories", 0);
    is_json(put, "{\"inventories\":{"
                 "\"VCPU\":{\"total\":4,\"reserved\":0,\"min_unit\":1,\"max_unit\":4,"
                 "\"step_size\":1,\"allocation_ratio\":4.0},"
                 "\"MEMORY_MB\":{\"total\":8000,\"reserved\":512,\"min_unit\":1,\"max_unit\":8000,"
                 "\"step_size\":1,\"allocation_ratio\":1.0},"
                 "\"DISK_GB\":{\"total\":100,\"reserved\":0,\"min_unit\":1,\"max_unit\":100,"
                 "\"step_size\":1,\"allocation_ratio\":1.0}},\"resource_provider_generation\":0}");
    is_json(written("PUT", PROVIDER "/traits", 0),
            "{\"traits\":[\"OWNER_NOVA\",\"COMPUTE_NODE\",\"HW_CPU_X86_AVX\"],"
            "\"resource_provider_generation\":1}");
    UNIT_TRUE(placement_knows_trait(w->nova.placement, "OWNER_NOVA"));
    UNIT_TRUE(!placement_knows_trait(w->nova.placement, "COMPUTE_NOT_YET"));
}

UNIT_TEST(ratios,
          "a ratio that is there stays, unless the configuration has one; so do other classes")
{
    close_cloud();
    open_with("DEFAULT.ram_allocation_ratio", "1.25");
    add_traits("{\"traits\": [\"OWNER_NOVA\", \"COMPUTE_NODE\", \"HW_CPU_X86_AVX\"], "
               "\"resource_provider_generation\": 7}");
    add_found();
    add("GET", PROVIDER "/inventories", 200,
        "{\"resource_provider_generation\": 7, \"inventories\": {\"CUSTOM_X\": {\"total\": 3}, "
        "\"VCPU\": " INVENTORY(2, 0, 9.0) ", \"MEMORY_MB\": " INVENTORY(8000, 512, 1.5) "}}");
    add("PUT", PROVIDER "/inventories", 200, "{}");
    begin_update();
    ok();
    struct json_object *all = json_get(written("PUT", PROVIDER "/inventories", 0), "inventories");
    UNIT_TRUE(json_get_double(json_get(all, "VCPU"), "allocation_ratio", 0) == 9.0);
    UNIT_EQ(json_get_int(json_get(all, "VCPU"), "total", 0), 4);
    UNIT_TRUE(json_get_double(json_get(all, "MEMORY_MB"), "allocation_ratio", 0) == 1.25);
    UNIT_EQ(json_get_int(json_get(all, "CUSTOM_X"), "total", 0), 3);
    UNIT_EQ(json_get_int(json_get(all, "DISK_GB"), "total", 0), 100);
}

UNIT_TEST(traits_kept, "operators' traits stay, hypervisor traits that are not true any more go")
{
    add_traits("{\"traits\": [\"CUSTOM_GOLD\", \"STORAGE_DISK_SSD\", \"COMPUTE_RESCUE_BFV\", "
               "\"COMPUTE_STATUS_DISABLED\"], \"resource_provider_generation\": 9}");
    add_found();
    add("GET", PROVIDER "/inventories", 200, AS_IT_IS);
    add("PUT", PROVIDER "/traits", 200, "{}");
    begin_update();
    ok();
    is_json(json_get(written("PUT", PROVIDER "/traits", 0), "traits"),
            "[\"CUSTOM_GOLD\",\"STORAGE_DISK_SSD\",\"COMPUTE_STATUS_DISABLED\",\"OWNER_NOVA\","
            "\"COMPUTE_NODE\",\"HW_CPU_X86_AVX\"]");
}

UNIT_TEST(conflicts, "a generation conflict is read again and written again, four times in all")
{
    add_traits(NULL);
    add_found();
    add_found();
    add("GET", PROVIDER "/inventories", 200, INVENTORIES(INVENTORY(2, 0, 16.0), "{}", "{}"));
    add("PUT", PROVIDER "/inventories", 409, CONFLICT);
    add("GET", PROVIDER "/inventories", 200, AS_IT_IS);
    add("GET", PROVIDER "/traits", 200,
        "{\"traits\": [\"OWNER_NOVA\", \"COMPUTE_NODE\", \"HW_CPU_X86_AVX\"]}");
    begin_update();
    ok();
    for (int i = 0; i < 4; i++) {
        add_found();
        add("GET", PROVIDER "/inventories", 200, INVENTORIES(INVENTORY(2, 0, 16.0), "{}", "{}"));
        add("PUT", PROVIDER "/inventories", 409, CONFLICT);
    }
    begin_update();
    rest_world_run(w, 1);
    UNIT_HAS(w->end.e.text, "409");
    UNIT_EQ(fake_http_count(w->server, "PUT", PROVIDER "/inventories"), 5);
}

UNIT_TEST(orphan, "a provider of our name with another uuid is an error that names it")
{
    add_traits(NULL);
    add("GET", "/resource_providers?in_tree=" NODE, 200, "{\"resource_providers\": []}");
    add("POST", "/resource_providers", 409, "{\"errors\": [{\"code\": \"x\"}]}");
    add("GET", "/resource_providers?name=hosta", 200,
        "{\"resource_providers\": [{\"uuid\": \"" OTHER "\", \"name\": \"hosta\"}]}");
    begin_update();
    rest_world_run(w, 1);
    UNIT_EQ(w->end.e.code, ERR_CONFIG);
    UNIT_HAS(w->end.e.text, OTHER);
    UNIT_EQ(fake_http_count(w->server, "DELETE", NULL), 0);
}

UNIT_TEST(disabled,
          "a disabled host gets the trait now and keeps it in updates, an enabled one loses it")
{
    static const char with[] =
        "{\"traits\": [\"OWNER_NOVA\", \"COMPUTE_NODE\", \"HW_CPU_X86_AVX\", "
        "\"COMPUTE_STATUS_DISABLED\"], \"resource_provider_generation\": 8}";

    begin();
    placement_set_enabled(w->nova.placement, false, rest_done,
                          &w->end); /* not known yet: remembered */
    ok();
    add_traits("{\"traits\": [\"OWNER_NOVA\", \"COMPUTE_NODE\", \"HW_CPU_X86_AVX\"], "
               "\"resource_provider_generation\": 7}");
    add_found();
    add("GET", PROVIDER "/inventories", 200, AS_IT_IS);
    add("PUT", PROVIDER "/traits", 200, "{}");
    begin_update();
    ok();
    UNIT_EQ(json_object_array_length(json_get(written("PUT", PROVIDER "/traits", 0), "traits")), 4);
    add("GET", PROVIDER "/traits", 200, with);
    begin();
    placement_set_enabled(w->nova.placement, false, rest_done, &w->end);
    ok();
    UNIT_EQ(fake_http_count(w->server, "PUT", NULL), 1);
    add("GET", PROVIDER "/traits", 200, with);
    add("PUT", PROVIDER "/traits", 409, CONFLICT);
    add("GET", PROVIDER "/traits", 200, with);
    add("PUT", PROVIDER "/traits", 200, "{}");
    begin();
    placement_set_enabled(w->nova.placement, true, rest_done, &w->end);
    ok();
    is_json(json_get(written("PUT", PROVIDER "/traits", 2), "traits"),
            "[\"OWNER_NOVA\",\"COMPUTE_NODE\",\"HW_CPU_X86_AVX\"]");
}

UNIT_TEST(one_writer, "updates at the same time run one after the other")
{
    struct rest_end other = {0};

    add_traits("{\"traits\": [\"OWNER_NOVA\", \"COMPUTE_NODE\", \"HW_CPU_X86_AVX\"]}");
    add_found();
    fake_http_add(w->server, &(struct fake_answer){"GET", PROVIDER "/inventories", 200, AS_IT_IS,
                                                   .delay_ms = 100});
    add("GET", PROVIDER "/traits", 200, "{\"traits\": [\"COMPUTE_STATUS_DISABLED\"]}");
    add("PUT", PROVIDER "/traits", 200, "{}");
    begin_update();
    placement_set_enabled(w->nova.placement, true, rest_done, &other);
    ok();
    UNIT_EQ(other.calls, 0);
    for (int i = 0; i < REST_TURNS_MAX && !other.calls; i++)
        (void)loop_turn(w->loop, REST_TURN_MS, NULL);
    UNIT_EQ(other.calls, 1);
    UNIT_EQ(fake_http_count(w->server, "PUT", PROVIDER "/traits"), 1);
}

UNIT_TEST(closing, "what is under way or waits ends when the provider is closed")
{
    struct rest_end other = {0};

    fake_http_add(w->server, &(struct fake_answer){"GET", "/traits", .silent = true});
    begin_update();
    placement_update(w->nova.placement, NODE, &facts, rest_done, &other);
    for (int i = 0; i < REST_TURNS_MAX && !fake_http_count(w->server, "GET", "/traits"); i++)
        (void)loop_turn(w->loop, REST_TURN_MS, NULL);
    placement_free(STEAL(w->nova.placement));
    UNIT_EQ(w->end.e.code, ERR_CANCELLED);
    UNIT_EQ(other.e.code, ERR_CANCELLED);
}

/* ---- allocations ---- */

#define HELD(provider, cpus, generation)                                                           \
    "{\"allocations\": {\"" provider "\": {\"generation\": 3, \"resources\": {\"VCPU\": " #cpus    \
    "}}}, \"project_id\": \"p\", \"user_id\": \"u\", \"consumer_generation\": " #generation "}"
#define NOTHING "{\"allocations\": {}}"

static void begin_allocations(bool revert)
{
    _cleanup_(json_putp) struct json_object *context = json_object_new_object();
    struct object *i = object_new("Instance", "2.7"), *m = object_new("Migration", "1.7");
    struct instance instance = {i};
    struct migration_record record = {m};

    begin();
    json_add_string(context, "request_id", "req-7");
    object_set_string(i, "uuid", INSTANCE);
    object_set_string(m, "uuid", MIGRATION);
    placement_allocations(&w->cloud, context, revert ? &instance : NULL, &record, rest_done,
                          &w->end);
    object_free(i);
    object_free(m);
}

UNIT_TEST(reverts, "a revert gives the migration's allocations to the instance in one request")
{
    add("GET", "/allocations/" MIGRATION, 200, HELD(NODE, 2, 1));
    add("GET", "/allocations/" INSTANCE, 200, HELD(OTHER, 2, 5));
    add("POST", "/allocations", 204, NULL);
    begin_allocations(true);
    ok();
    is_json(written("POST", "/allocations", 0),
            "{\"" MIGRATION "\":{\"allocations\":{},\"project_id\":\"p\",\"user_id\":\"u\","
            "\"consumer_generation\":1},\"" INSTANCE "\":{\"allocations\":{\"" NODE
            "\":{\"resources\":{\"VCPU\":2}}},\"project_id\":\"p\",\"user_id\":\"u\","
            "\"consumer_generation\":5}}");
    const struct fake_request *post = fake_http_request(w->server, "POST", "/allocations", 0);
    _cleanup_(str_freep) char *id = post ? fake_http_header(post, "X-Openstack-Request-Id") : NULL;
    UNIT_STR(id, "req-7");
}

UNIT_TEST(reverted_before, "a revert that was done already is success and writes nothing")
{
    add("GET", "/allocations/" MIGRATION, 200, NOTHING);
    begin_allocations(true);
    ok();
    UNIT_EQ(fake_http_count(w->server, "POST", "/allocations"), 0);
}

UNIT_TEST(revert_conflict,
          "a conflict of a revert is read again; the answer may be that it is done")
{
    add("GET", "/allocations/" MIGRATION, 200, HELD(NODE, 2, 1));
    add("GET", "/allocations/" INSTANCE, 200, HELD(OTHER, 2, 5));
    add("POST", "/allocations", 409, CONFLICT);
    add("GET", "/allocations/" MIGRATION, 200, NOTHING);
    begin_allocations(true);
    ok();
}

UNIT_TEST(revert_deleted,
          "of an instance that was deleted meanwhile the migration's allocations go")
{
    instance_error = ERR_NO_INSTANCE;
    add("GET", "/allocations/" MIGRATION, 200, HELD(NODE, 2, 1));
    add("GET", "/allocations/" INSTANCE, 200, NOTHING);
    add("DELETE", "/allocations/" MIGRATION, 204, NULL);
    begin_allocations(true);
    ok();
    UNIT_EQ(fake_http_count(w->server, "POST", "/allocations"), 0);
}

UNIT_TEST(revert_new_consumer, "an instance that has none yet becomes a new consumer")
{
    add("GET", "/allocations/" MIGRATION, 200, HELD(NODE, 2, 1));
    add("GET", "/allocations/" INSTANCE, 200, NOTHING);
    add("POST", "/allocations", 204, NULL);
    begin_allocations(true);
    ok();
    struct json_object *entry = json_get(written("POST", "/allocations", 0), INSTANCE);
    UNIT_TRUE(json_has(entry, "consumer_generation"));
    UNIT_TRUE(json_get(entry, "consumer_generation") == NULL);
}

UNIT_TEST(drops, "a drop deletes the migration's allocations; none is fine")
{
    add("DELETE", "/allocations/" MIGRATION, 204, NULL);
    begin_allocations(false);
    ok();
    add("DELETE", "/allocations/" MIGRATION, 404, "{}");
    begin_allocations(false);
    ok();
}

UNIT_TEST(persists,
          "a revert that failed is told, and done in the background when Placement is back")
{
    int64_t now = clock_monotonic_us();

    fake_http_add(w->server, &(struct fake_answer){"GET", "/allocations/" MIGRATION, 503});
    begin_allocations(true);
    rest_world_run(w, 1);
    UNIT_TRUE(err_is_set(&w->end.e));
    add("GET", "/allocations/" MIGRATION, 200, HELD(NODE, 2, 1));
    add("GET", "/allocations/" INSTANCE, 200, HELD(OTHER, 2, 5));
    add("POST", "/allocations", 204, NULL);
    instance_state = "migrating"; /* another migration began: it is not disturbed */
    clock_fake_set(now + 40 * USEC_PER_SEC);
    for (int i = 0; i < 5; i++)
        (void)loop_turn(w->loop, REST_TURN_MS, NULL);
    UNIT_EQ(fake_http_count(w->server, "GET", "/allocations/*"), 1);
    instance_state = NULL;
    clock_fake_set(now + 60 * USEC_PER_SEC);
    for (int i = 0; i < REST_TURNS_MAX && !fake_http_count(w->server, "POST", "/allocations"); i++)
        (void)loop_turn(w->loop, REST_TURN_MS, NULL);
    clock_fake_stop();
    UNIT_EQ(fake_http_count(w->server, "POST", "/allocations"), 1);
    UNIT_EQ(w->end.calls, 1);
}

UNIT_TEST(deletes, "an instance's allocations are deleted; in the background only if they are ours")
{
    add_traits("{\"traits\": [\"OWNER_NOVA\", \"COMPUTE_NODE\", \"HW_CPU_X86_AVX\"]}");
    add_found();
    add("GET", PROVIDER "/inventories", 200, AS_IT_IS);
    begin_update();
    ok();
    add("DELETE", "/allocations/" INSTANCE, 503, NULL);
    begin();
    placement_allocations_delete(&w->cloud, NULL, INSTANCE, rest_done, &w->end);
    rest_world_run(w, 1);
    UNIT_TRUE(err_is_set(&w->end.e));
    add("GET", "/allocations/" INSTANCE, 200, HELD(OTHER, 2, 5)); /* built elsewhere by now */
    clock_fake_set(clock_monotonic_us() + 40 * USEC_PER_SEC);
    for (int i = 0; i < REST_TURNS_MAX && !fake_http_count(w->server, "GET", "/allocations/*"); i++)
        (void)loop_turn(w->loop, REST_TURN_MS, NULL);
    for (int i = 0; i < 5; i++)
        (void)loop_turn(w->loop, REST_TURN_MS, NULL);
    clock_fake_stop();
    UNIT_EQ(fake_http_count(w->server, "DELETE", NULL), 1);
    add("DELETE", "/allocations/" INSTANCE, 204, NULL);
    begin();
    placement_allocations_delete(&w->cloud, NULL, INSTANCE, rest_done, &w->end);
    ok();
    add("GET", PROVIDER "/allocations", 200,
        "{\"allocations\": {\"" INSTANCE "\": {\"resources\": {\"VCPU\": 1}}}}");
    begin();
    placement_allocations_here(&w->cloud, rest_result, &w->end);
    ok();
    is_json(w->end.result, "{\"" INSTANCE "\":{\"VCPU\":1}}");
}
