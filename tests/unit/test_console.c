/* SPDX-License-Identifier: Apache-2.0 */
/* Consoles and what is told of a guest, by request. */
#include "cloud/cloud_provider.h"
#include "lib/clock.h"
#include "lib/json.h"
#include "tests/unit/agent_world.h"

static struct world *w;
static struct cloud_ops ops;
static struct cloud_console asked_console; /* port and nothing else is kept */
static char asked_type[32], asked_url[128];

static void token(struct cloud *cloud, struct json_object *context,
                  const struct cloud_console *console, cloud_result_fn done, void *aux)
{
    _cleanup_(json_putp) struct json_object *o = json_object_new_object();

    (void)cloud;
    (void)context;
    asked_console = *console;
    snprintf(asked_type, sizeof(asked_type), "%s", console->type);
    snprintf(asked_url, sizeof(asked_url), "%s", console->access_url_base);
    json_add_string(o, "token", "t");
    done(aux, o, NULL);
}

static void setup(void)
{
    static const struct world_options options = {
        .settings = {"vnc.novncproxy_base_url", "http://cloud/vnc"}};

    w = world_open(&options);
    ops = *w->agent.cloud->ops;
    ops.console_token = token;
    w->agent.cloud->ops = &ops;
    asked_type[0] = asked_url[0] = '\0';
}

static void teardown(void)
{
    world_close(w);
    w = NULL;
}

UNIT_FIXTURE(setup, teardown)

static const struct fake_asked *ask(enum rpc_method_id method, const char *key,
                                    struct json_object *value)
{
    _cleanup_(json_putp) struct json_object *recorded = world_args("030");
    struct json_object *args = json_object_new_object();

    json_add(args, "instance", json_copy(json_get(recorded, "instance")));
    json_add(args, key, value);
    const struct fake_asked *asked = world_ask(w, method, args);
    world_settle(w);
    return asked;
}

UNIT_TEST(no_domain, "the console's log of a guest that is not there is InstanceNotFound")
{
    const struct fake_asked *asked = ask(RPC_METHOD_get_console_output, "tail_length", NULL);

    UNIT_EQ(asked->end, FAKE_FAILED);
    UNIT_STR(err_wire_class(&asked->e), "InstanceNotFound");
}

UNIT_TEST(last_lines, "the last lines of the console's log are given, as many as are asked for")
{
    _cleanup_(str_freep) char *path =
        text_format("%s/%s/console.log", w->instances, WORLD_INSTANCE);

    world_add_guest(w, VIRT_STATE_RUNNING);
    world_add_file(w, "console.log");
    unit_write_file(path, "one\ntwo\nthree");
    const struct fake_asked *asked =
        ask(RPC_METHOD_get_console_output, "tail_length", json_object_new_int(2));
    UNIT_STR(json_object_get_string(asked->result), "two\nthree");
    asked = ask(RPC_METHOD_get_console_output, "tail_length", json_object_new_string("1"));
    UNIT_STR(json_object_get_string(asked->result), "three");
    asked = ask(RPC_METHOD_get_console_output, "tail_length", NULL);
    UNIT_STR(json_object_get_string(asked->result), "one\ntwo\nthree");
}

UNIT_TEST(wrong_type, "a console type that there is not is ConsoleTypeInvalid")
{
    world_add_guest(w, VIRT_STATE_RUNNING);
    const struct fake_asked *asked =
        ask(RPC_METHOD_get_vnc_console, "console_type", json_object_new_string("xvpvnc"));
    UNIT_STR(err_wire_class(&asked->e), "ConsoleTypeInvalid");
    UNIT_STR(asked_type, "");
}

UNIT_TEST(disabled_type, "a console that the configuration switches off is ConsoleTypeUnavailable")
{
    world_add_guest(w, VIRT_STATE_RUNNING);
    const struct fake_asked *asked =
        ask(RPC_METHOD_get_serial_console, "console_type", json_object_new_string("serial"));
    UNIT_STR(err_wire_class(&asked->e), "ConsoleTypeUnavailable");
}

UNIT_TEST(guest_off, "a guest that is off has no port for VNC")
{
    world_add_guest(w, VIRT_STATE_SHUTOFF);
    const struct fake_asked *asked =
        ask(RPC_METHOD_get_vnc_console, "console_type", json_object_new_string("novnc"));
    UNIT_STR(err_wire_class(&asked->e), "ConsoleTypeUnavailable");
}

UNIT_TEST(diagnostics_off, "diagnostics of a guest that is off are InstanceInvalidState")
{
    world_add_guest(w, VIRT_STATE_SHUTOFF);
    _cleanup_(json_putp) struct json_object *recorded = world_args("030");
    struct json_object *args = json_object_new_object();
    json_add(args, "instance", json_copy(json_get(recorded, "instance")));
    const struct fake_asked *asked = world_ask(w, RPC_METHOD_get_instance_diagnostics, args);
    world_settle(w);
    UNIT_STR(err_wire_class(&asked->e), "InstanceInvalidState");
}

static const struct fake_asked *diagnose(enum rpc_method_id method, const char *launched_at)
{
    _cleanup_(json_putp) struct json_object *recorded = world_args("030");
    struct json_object *args = json_object_new_object();

    world_add_guest(w, VIRT_STATE_RUNNING);
    json_add_string(world_data(recorded, "instance"), "launched_at", launched_at);
    json_add(args, "instance", json_copy(json_get(recorded, "instance")));
    const struct fake_asked *asked = world_ask(w, method, args);
    world_settle(w);
    return asked;
}

UNIT_TEST(diagnostics,
          "diagnostics are Nova's objects, with the seconds since the instance was launched")
{
    char launched[CLOCK_TEXT_SIZE];

    clock_format_object(clock_realtime_us() - 90 * USEC_PER_SEC, launched);
    const struct fake_asked *asked = diagnose(RPC_METHOD_get_instance_diagnostics, launched);
    struct json_object *data = world_data(asked->result, NULL);
    UNIT_EQ(json_get_int(data, "uptime", -1), 90);
    UNIT_EQ(json_get_int(data, "num_disks", -1), 1);
    UNIT_TRUE(!json_has(data, "memory_statistics"));
    struct json_object *disk =
        world_data(json_object_array_get_idx(json_get(data, "disk_details"), 0), NULL);
    UNIT_EQ(json_get_int(disk, "read_bytes", -1), 7);
    UNIT_TRUE(!json_has(disk, "name"));
}

UNIT_TEST(not_launched, "without a time of launch the uptime is null, and the rest is told")
{
    const struct fake_asked *asked = diagnose(RPC_METHOD_get_instance_diagnostics, NULL);

    UNIT_TRUE(json_has(world_data(asked->result, NULL), "uptime"));
    UNIT_TRUE(json_get(world_data(asked->result, NULL), "uptime") == NULL);
}

UNIT_TEST(flat, "the older form names disks as the guest has them, and has the memory's figures")
{
    const struct fake_asked *asked = diagnose(RPC_METHOD_get_diagnostics, NULL);

    UNIT_EQ(json_get_int(asked->result, "vda_read", -1), 7);
    UNIT_EQ(json_get_int(asked->result, "vda_errors", 0), -1);
    UNIT_EQ(json_get_int(asked->result, "cpu0_time", -1), 1);
    UNIT_EQ(json_get_int(asked->result, "memory", -1), 65536);
    UNIT_EQ(json_get_int(asked->result, "memory-actual", -1), 65536);
}

UNIT_TEST(enabled_word, "set_host_enabled answers with the word of its argument")
{
    struct json_object *args = json_object_new_object();

    json_add_bool(args, "enabled", false);
    const struct fake_asked *asked = world_ask(w, RPC_METHOD_set_host_enabled, args);
    world_settle(w);
    UNIT_STR(json_object_get_string(asked->result), "disabled");
}
