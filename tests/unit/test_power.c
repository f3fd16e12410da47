/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Power of instances by request, by event and at the agent's start. The control plane is the world's, with rows
 * of this file in place of some of its own: one instance, whose saves it applies and writes down.
 */
#include "agent/instance_power.h"

#include "agent/power_sync.h"
#include "cloud/cloud_provider.h"
#include "lib/clock.h"
#include "lib/json.h"
#include "tests/unit/agent_world.h"

static struct world *w;
static struct cloud_ops ops;
static struct json_object *record; /* the instance as the control plane has it */
static char saves[1024];           /* "<vm_state>/<task_state>/<power_state> if <expected>; " */
static char calls[1024];           /* "<class>.<method>; " */
static const char *refuse_save;    /* expected_task_state of a save that fails; NULL = none */

/* ---- the control plane ---- */

static struct json_object *data(void)
{
    return json_get(record, "nova_object.data");
}

static void append(char *text, size_t size, const char *part)
{
    size_t length = strlen(text);

    snprintf(text + length, size - length, "%s; ", part);
}

static void take(struct instance *instance, const char *field)
{
    if (object_changed(instance->object, field))
        json_add(data(), field, json_copy(object_json(instance->object, field)));
}

static void save(struct cloud *cloud, struct json_object *context, struct instance *instance,
                 const char *expected, cloud_done_fn done, void *aux)
{
    struct err e = ERR_INIT;

    (void)cloud;
    (void)context;
    if (refuse_save && text_equal(refuse_save, expected)) {
        err_set(&e, ERR_INSTANCE_STATE, "unexpected task state");
        done(aux, &e);
        return;
    }
    take(instance, "vm_state");
    take(instance, "task_state");
    take(instance, "power_state");
    take(instance, "system_metadata");
    object_clear_changes(instance->object);
    _cleanup_(str_freep) char *line =
        text_format("%s/%s/%d if %s", json_get_string(data(), "vm_state", "-"),
                    json_get_string(data(), "task_state", "-"),
                    (int)json_get_int(data(), "power_state", -1), expected ? expected : "any");
    append(saves, sizeof(saves), line);
    done(aux, NULL);
}

static void get(struct cloud *cloud, struct json_object *context, const char *uuid,
                cloud_result_fn done, void *aux)
{
    struct err e = ERR_INIT;

    (void)cloud;
    (void)context;
    if (text_equal(uuid, WORLD_INSTANCE)) {
        done(aux, record, NULL);
        return;
    }
    err_set(&e, ERR_NO_INSTANCE, "no such instance");
    done(aux, NULL, &e);
}

static void list(struct cloud *cloud, cloud_result_fn done, void *aux)
{
    _cleanup_(json_putp) struct json_object *all = json_object_new_array();

    (void)cloud;
    json_object_array_add(all, json_object_get(record));
    done(aux, all, NULL);
}

static void action_start(struct cloud *cloud, struct json_object *context,
                         const char *instance_uuid, const char *action, cloud_done_fn done,
                         void *aux)
{
    (void)cloud;
    (void)context;
    UNIT_STR(instance_uuid, WORLD_INSTANCE);
    append(calls, sizeof(calls), action);
    done(aux, NULL);
}

static void ports(struct cloud *cloud, struct json_object *context, const struct instance *instance,
                  cloud_result_fn done, void *aux)
{
    struct err e = ERR_INIT;

    (void)cloud;
    (void)context;
    (void)instance;
    err_set(&e, ERR_UNREACHABLE, "neutron is away");
    done(aux, NULL, &e);
}

static void prepare(const struct world_options *options)
{
    w = world_open(options);
    ops = *w->agent.cloud->ops;
    ops.instance_save = save;
    ops.instance_get = get;
    ops.instances = list;
    ops.action_start = action_start;
    ops.ports_refresh = ports;
    w->agent.cloud->ops = &ops;
    _cleanup_(json_putp) struct json_object *args = world_args("030");
    record = json_copy(json_get(args, "instance"));
    json_add_string(data(), "host", "os-hosta");
    json_add_string(data(), "vm_state", "active");
    json_add(data(), "task_state", NULL);
    json_add_int(data(), "power_state", 1);
    saves[0] = calls[0] = '\0';
    refuse_save = NULL;
}

static void setup(void)
{
    prepare(NULL);
}

static void teardown(void)
{
    power_sync_close(&w->agent);
    world_close(w);
    json_object_put(record);
    w = NULL;
}

UNIT_FIXTURE(setup, teardown)

static struct fake_asked *ask(enum rpc_method_id method, const char *task, const char *key,
                              struct json_object *value)
{
    struct json_object *args = json_object_new_object();

    json_add_string(data(), "task_state", task);
    json_add(args, "instance", json_copy(record));
    if (method == RPC_METHOD_stop_instance && !key)
        json_add(args, "clean_shutdown", NULL);
    if (method == RPC_METHOD_reboot_instance)
        json_add(args, "block_device_info", NULL);
    if (key)
        json_add(args, key, value);
    return world_ask(w, method, args);
}

/* ---- requests ---- */

UNIT_TEST(stop_asks_first,
          "a stop asks the guest, waits for libvirt's word and saves it as stopped")
{
    world_add_guest(w, VIRT_STATE_RUNNING);
    (void)ask(RPC_METHOD_stop_instance, "powering-off", "clean_shutdown",
              json_object_new_boolean(true));
    world_pass(w, USEC_PER_SEC, 100000);
    UNIT_EQ(virt_fake_count(w->agent.virt, "shutdown"), 1);
    UNIT_EQ(virt_fake_count(w->agent.virt, "power_off"), 0);
    UNIT_STR(saves, "stopped/-/4 if powering-off|-; ");
    UNIT_EQ(world_count(w, "event compute_stop_instance done"), 1);
}

UNIT_TEST(stop_forces,
          "a guest that cannot be asked is asked again, and powered off when its time is over")
{
    world_add_guest(w, VIRT_STATE_RUNNING);
    virt_fake_fail(w->agent.virt, "shutdown", ERR_VIRT, "no ACPI", -1);
    (void)ask(RPC_METHOD_stop_instance, "powering-off", "clean_shutdown",
              json_object_new_boolean(true));
    world_pass(w, 55 * USEC_PER_SEC, 5 * USEC_PER_SEC);
    UNIT_EQ(virt_fake_count(w->agent.virt, "power_off"), 0);
    UNIT_TRUE(virt_fake_count(w->agent.virt, "shutdown") >= 4);
    world_pass(w, 10 * USEC_PER_SEC, USEC_PER_SEC);
    UNIT_EQ(virt_fake_count(w->agent.virt, "power_off"), 1);
    UNIT_STR(saves, "stopped/-/4 if powering-off|-; ");
}

UNIT_TEST(stop_hard, "a stop without a clean shutdown powers off at once")
{
    world_add_guest(w, VIRT_STATE_RUNNING);
    (void)ask(RPC_METHOD_stop_instance, "powering-off", "clean_shutdown",
              json_object_new_boolean(false));
    world_pass(w, USEC_PER_SEC, 100000);
    UNIT_EQ(virt_fake_count(w->agent.virt, "shutdown"), 0);
    UNIT_EQ(virt_fake_count(w->agent.virt, "power_off"), 1);
}

UNIT_TEST(stop_of_nothing, "a stop of a guest that is not there saves it as stopped")
{
    (void)ask(RPC_METHOD_stop_instance, "powering-off", NULL, NULL);
    world_pass(w, USEC_PER_SEC, 100000);
    UNIT_STR(saves, "stopped/-/0 if powering-off|-; ");
}

UNIT_TEST(image_timeout, "the image's os_shutdown_timeout goes before the configuration's")
{
    struct json_object *meta = json_object_new_object();

    json_add_string(meta, "image_os_shutdown_timeout", "5");
    json_add(data(), "system_metadata", meta);
    world_add_guest(w, VIRT_STATE_RUNNING);
    virt_fake_fail(w->agent.virt, "shutdown", ERR_VIRT, "no ACPI", -1);
    (void)ask(RPC_METHOD_stop_instance, "powering-off", NULL, NULL);
    world_pass(w, 7 * USEC_PER_SEC, USEC_PER_SEC);
    UNIT_EQ(virt_fake_count(w->agent.virt, "power_off"), 1);
}

UNIT_TEST(stop_fails, "a stop that libvirt refuses leaves a fault and no task state")
{
    world_add_guest(w, VIRT_STATE_RUNNING);
    virt_fake_fail(w->agent.virt, "power_off", ERR_VIRT, "the domain is stuck", -1);
    (void)ask(RPC_METHOD_stop_instance, "powering-off", "clean_shutdown",
              json_object_new_boolean(false));
    world_pass(w, USEC_PER_SEC, 100000);
    UNIT_EQ(world_count(w, "fault the domain is stuck"), 1);
    UNIT_EQ(world_count(w, "event compute_stop_instance failed: the domain is stuck"), 1);
    UNIT_STR(saves, "active/-/1 if any; ");
}

UNIT_TEST(pause_and_back, "pause and unpause save what nova-compute saves")
{
    world_add_guest(w, VIRT_STATE_RUNNING);
    (void)ask(RPC_METHOD_pause_instance, "pausing", NULL, NULL);
    world_settle(w);
    UNIT_EQ(virt_fake_state(w->agent.virt, WORLD_INSTANCE), VIRT_STATE_PAUSED);
    (void)ask(RPC_METHOD_unpause_instance, "unpausing", NULL, NULL);
    world_settle(w);
    UNIT_EQ(virt_fake_state(w->agent.virt, WORLD_INSTANCE), VIRT_STATE_RUNNING);
    UNIT_STR(saves, "paused/-/3 if pausing; active/-/1 if unpausing; ");
}

UNIT_TEST(suspend_remembers, "suspend keeps the former state for resume")
{
    world_add_guest(w, VIRT_STATE_RUNNING);
    (void)ask(RPC_METHOD_suspend_instance, "suspending", NULL, NULL);
    world_settle(w);
    UNIT_EQ(virt_fake_count(w->agent.virt, "save"), 1);
    UNIT_STR(json_get_string(data(), "vm_state", ""), "suspended");
    UNIT_STR(json_get_string(json_get(data(), "system_metadata"), "old_vm_state", ""), "active");
}

UNIT_TEST(soft_delete, "soft delete powers off and says soft-delete")
{
    world_add_guest(w, VIRT_STATE_RUNNING);
    (void)ask(RPC_METHOD_soft_delete_instance, "soft-deleting", NULL, NULL);
    world_settle(w);
    UNIT_EQ(virt_fake_state(w->agent.virt, WORLD_INSTANCE), VIRT_STATE_SHUTOFF);
    UNIT_STR(saves, "soft-delete/-/4 if soft-deleting; ");
}

UNIT_TEST(soft_reboot, "a soft reboot shuts the guest down and starts the same domain again")
{
    world_add_guest(w, VIRT_STATE_RUNNING);
    (void)ask(RPC_METHOD_reboot_instance, "rebooting", "reboot_type",
              json_object_new_string("SOFT"));
    world_pass(w, USEC_PER_SEC, 100000);
    UNIT_EQ(virt_fake_count(w->agent.virt, "shutdown"), 1);
    UNIT_EQ(virt_fake_count(w->agent.virt, "start"), 1);
    UNIT_EQ(virt_fake_count(w->agent.virt, "create"), 0);
    UNIT_STR(saves, "active/reboot_pending/1 if rebooting|reboot_pending|reboot_started; "
                    "active/reboot_started/1 if reboot_pending; active/-/1 if any; ");
}

UNIT_TEST(hard_reboot_first, "a hard reboot ends a soft one that waits for the guest")
{
    world_add_guest(w, VIRT_STATE_RUNNING);
    virt_fake_fail(w->agent.virt, "shutdown", ERR_VIRT, "no ACPI", -1);
    (void)ask(RPC_METHOD_reboot_instance, "rebooting", "reboot_type",
              json_object_new_string("SOFT"));
    world_pass(w, USEC_PER_SEC, 100000);
    UNIT_STR(operation_running(&w->agent, WORLD_INSTANCE), "soft reboot");
    (void)ask(RPC_METHOD_reboot_instance, "rebooting_hard", "reboot_type",
              json_object_new_string("HARD"));
    world_pass(w, USEC_PER_SEC, 100000);
    UNIT_TRUE(strstr(saves, "reboot_started_hard/1 if reboot_pending_hard; ") != NULL);
    UNIT_TRUE(operation_running(&w->agent, WORLD_INSTANCE) == NULL);
}

UNIT_TEST(reboot_fails_running, "a reboot that fails while the guest runs leaves it active")
{
    world_add_guest(w, VIRT_STATE_RUNNING);
    refuse_save = "reboot_pending_hard";
    (void)ask(RPC_METHOD_reboot_instance, "rebooting_hard", "reboot_type",
              json_object_new_string("HARD"));
    world_pass(w, USEC_PER_SEC, 100000);
    UNIT_STR(json_get_string(data(), "vm_state", ""), "active");
    UNIT_TRUE(json_get(data(), "task_state") == NULL);
    UNIT_EQ(world_count(w, "fault "), 1);
}

UNIT_TEST(start_without_files, "a start without the instance's disks fails and clears the task")
{
    json_add_string(data(), "vm_state", "stopped");
    json_add_int(data(), "power_state", 4);
    world_add_guest(w, VIRT_STATE_SHUTOFF);
    (void)ask(RPC_METHOD_start_instance, "powering-on", NULL, NULL);
    world_pass(w, USEC_PER_SEC, 100000);
    UNIT_EQ(world_count(w, "fault "), 1);
    UNIT_STR(saves, "stopped/-/4 if any; ");
    UNIT_EQ(virt_fake_state(w->agent.virt, WORLD_INSTANCE), VIRT_STATE_SHUTOFF);
}

/* ---- the hypervisor changes by itself ---- */

UNIT_TEST(guest_stops_itself, "a guest that shuts itself down is stopped in Nova, as an action")
{
    world_add_guest(w, VIRT_STATE_RUNNING);
    power_sync_open(&w->agent);
    world_settle(w);
    UNIT_STR(saves, "");
    virt_fake_set_state(w->agent.virt, WORLD_INSTANCE, VIRT_STATE_SHUTOFF);
    virt_fake_event(w->agent.virt, WORLD_INSTANCE, VIRT_EVENT_STOPPED);
    world_pass(w, USEC_PER_SEC, 100000);
    UNIT_STR(calls, "stop; ");
    UNIT_STR(saves, "active/powering-off/4 if -; stopped/-/4 if powering-off|-; ");
    UNIT_EQ(world_count(w, "event compute_stop_instance done"), 1);
}

UNIT_TEST(task_is_left_alone, "an instance with a task is left alone by the power sync")
{
    world_add_guest(w, VIRT_STATE_RUNNING);
    power_sync_open(&w->agent);
    world_settle(w);
    json_add_string(data(), "task_state", "rebuilding");
    virt_fake_set_state(w->agent.virt, WORLD_INSTANCE, VIRT_STATE_SHUTOFF);
    virt_fake_event(w->agent.virt, WORLD_INSTANCE, VIRT_EVENT_STOPPED);
    world_pass(w, USEC_PER_SEC, 100000);
    UNIT_STR(saves, "");
}

UNIT_TEST(other_host, "an instance of another host is left alone by the power sync")
{
    json_add_string(data(), "host", "os-hostb");
    world_add_guest(w, VIRT_STATE_SHUTOFF);
    power_sync_open(&w->agent);
    world_pass(w, USEC_PER_SEC, 100000);
    UNIT_STR(saves, "");
}

UNIT_TEST(task_taken_meanwhile,
          "a task that the API sets first is not taken away by the power sync")
{
    world_add_guest(w, VIRT_STATE_SHUTOFF);
    refuse_save = "-";
    power_sync_open(&w->agent);
    world_pass(w, USEC_PER_SEC, 100000);
    UNIT_STR(saves, "");
    UNIT_EQ(world_count(w, "fault "), 0);
}

UNIT_TEST(stopped_but_runs, "an instance that is stopped in Nova and runs is stopped by the round")
{
    json_add_string(data(), "vm_state", "stopped");
    json_add_int(data(), "power_state", 4);
    world_add_guest(w, VIRT_STATE_RUNNING);
    power_sync_open(&w->agent);
    world_pass(w, 2 * USEC_PER_SEC, 100000);
    UNIT_EQ(virt_fake_state(w->agent.virt, WORLD_INSTANCE), VIRT_STATE_SHUTOFF);
    UNIT_STR(json_get_string(data(), "vm_state", ""), "stopped");
}

UNIT_TEST(paused_is_noted, "a guest that somebody paused is only noted")
{
    world_add_guest(w, VIRT_STATE_PAUSED);
    power_sync_open(&w->agent);
    world_pass(w, USEC_PER_SEC, 100000);
    UNIT_STR(saves, "active/-/3 if -; ");
    UNIT_EQ(virt_fake_state(w->agent.virt, WORLD_INSTANCE), VIRT_STATE_PAUSED);
}

UNIT_TEST(round_again, "the round comes back after sync_power_state_interval")
{
    world_add_guest(w, VIRT_STATE_RUNNING);
    power_sync_open(&w->agent);
    world_settle(w);
    virt_fake_set_state(w->agent.virt, WORLD_INSTANCE, VIRT_STATE_CRASHED); /* no event came */
    world_pass(w, 590 * USEC_PER_SEC, 295 * USEC_PER_SEC);
    UNIT_STR(saves, "");
    world_pass(w, 20 * USEC_PER_SEC, 5 * USEC_PER_SEC);
    UNIT_STR(json_get_string(data(), "vm_state", ""), "stopped");
}

/* ---- at the agent's start ---- */

static void repair(const char *vm_state, const char *task, int power_state, enum virt_state state)
{
    _cleanup_(json_putp) struct json_object *all = json_object_new_array();

    json_add_string(data(), "vm_state", vm_state);
    json_add_string(data(), "task_state", task);
    json_add_int(data(), "power_state", power_state);
    if (state != VIRT_STATE_NONE)
        world_add_guest(w, state);
    json_object_array_add(all, json_object_get(record));
    power_repair(&w->agent, all);
    world_pass(w, 2 * USEC_PER_SEC, 100000);
}

UNIT_TEST(stop_is_finished, "a stop that was cut off is finished at the start")
{
    repair("active", "powering-off", 1, VIRT_STATE_RUNNING);
    UNIT_STR(saves, "stopped/-/4 if powering-off|-; ");
}

UNIT_TEST(pause_is_forgotten, "a pause that was cut off before it paused is forgotten")
{
    repair("active", "pausing", 1, VIRT_STATE_RUNNING);
    UNIT_STR(saves, "active/-/1 if any; ");
}

UNIT_TEST(snapshot_is_forgotten, "a snapshot that was cut off leaves no task")
{
    repair("active", "image_uploading", 1, VIRT_STATE_RUNNING);
    UNIT_STR(saves, "active/-/1 if any; ");
}

UNIT_TEST(reboot_is_repeated, "a soft reboot that waits is done at the start")
{
    repair("active", "reboot_pending", 1, VIRT_STATE_RUNNING);
    UNIT_EQ(virt_fake_count(w->agent.virt, "shutdown"), 1);
    UNIT_STR(json_get_string(data(), "vm_state", ""), "active");
    UNIT_TRUE(json_get(data(), "task_state") == NULL);
}

UNIT_TEST(errors_are_left, "an instance in error is left alone at the start")
{
    repair("error", "powering-off", 1, VIRT_STATE_RUNNING);
    UNIT_STR(saves, "");
}

UNIT_TEST(no_boot_unasked, "guests are not started after the host unless that is configured")
{
    repair("active", NULL, 1, VIRT_STATE_SHUTOFF);
    UNIT_EQ(operation_running(&w->agent, WORLD_INSTANCE) != NULL, false);
    UNIT_STR(saves, "");
}
