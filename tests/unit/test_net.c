/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The room's front (net/net.h) over the fake wiring, reading of ports, framing of OVSDB, and what a look
 * at this machine's own links can prove without rights. What needs rights is in tests/lab/test_net.py.
 */
#include "net/net.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "conf/load.h"
#include "lib/clock.h"
#include "lib/fault.h"
#include "lib/json.h"
#include "lib/metrics.h"
#include "lib/text.h"
#include "net/fake.h"
#include "net/netlink.h"
#include "net/ovsdb.h"
#include "tests/unit/unit.h"

#define INSTANCE "11111111-2d1e-4a8b-9c0d-1e2f3a4b5c6d"

static struct loop *loop;
static struct conf *conf;
static struct net *net;
static struct undo *undo;

static char *no_addresses[] = {NULL};
static struct net_port port;

static void setup(void)
{
    conf = conf_for_test("net.physical_interface_mappings", "physnet1:nosuch0", "net.mtu", "1450",
                         "net.bridge_without_uplink", "no", NULL);
    if (loop_new(&loop, &unit_err) < 0 || net_new(&net, loop, conf, &unit_err) < 0)
        abort();
    undo = undo_new(net_undo_handlers(net), NULL, NULL);
    port = (struct net_port){.kind = NET_KIND_FAKE,
                             .port_id = (char *)"aaaaaaaa-0000-4000-8000-000000000001",
                             .instance_uuid = (char *)INSTANCE,
                             .mac = (char *)"fa:16:3e:00:00:01",
                             .addresses = no_addresses,
                             .bridge = (char *)"brqtest-unit",
                             .tap = (char *)"tapaaaaaaaa-00"};
}

static void teardown(void)
{
    fault_disarm_all();
    undo_free(undo);
    net_free(net);
    loop_free(loop);
    conf_unref(conf);
}

UNIT_FIXTURE(setup, teardown)

UNIT_TEST(undone, "what was plugged is unplugged by its undo steps, and once more without harm")
{
    UNIT_EQ(net_plug(net, &port, undo, &unit_err), 0);
    UNIT_EQ(net_fake_plugged(net), 1);
    UNIT_EQ(undo_length(undo), 1);
    _cleanup_(json_putp) struct json_object *steps = undo_to_json(undo);
    UNIT_EQ(undo_run(undo, &unit_err), 0);
    UNIT_EQ(net_fake_plugged(net), 0);
    UNIT_EQ(undo_from_json(undo, steps, &unit_err), 0);
    UNIT_EQ(undo_run(undo, &unit_err), 0);
    UNIT_EQ(net_unplug(net, &port, &unit_err), 0);
}

static int refuse_save(void *aux _unused_, struct json_object *steps _unused_, struct err *e)
{
    return err_set(e, ERR_JOURNAL, "the disk is full");
}

UNIT_TEST(journal_first, "nothing is plugged when the undo step cannot be written")
{
    _cleanup_(undo_freep) struct undo *bad = undo_new(net_undo_handlers(net), refuse_save, NULL);

    UNIT_FAILS(net_plug(net, &port, bad, &unit_err), ERR_JOURNAL);
    UNIT_EQ(net_fake_plugged(net), 0);
}

UNIT_TEST(failing_plug, "a plug that fails after its effect is taken back by the undo steps")
{
    UNIT_EQ(fault_arm("net.plugged=error", &unit_err), 0);
    UNIT_TRUE(net_plug(net, &port, undo, &unit_err) < 0);
    UNIT_EQ(net_fake_plugged(net), 1);
    err_clear(&unit_err);
    UNIT_EQ(undo_run(undo, &unit_err), 0);
    UNIT_EQ(net_fake_plugged(net), 0);
}

UNIT_TEST(missing, "a missing bridge that cannot be made is refused with its name")
{
    net_fake_bridge_missing(net, "brqtest-unit", false);
    UNIT_FAILS(net_check(net, &port, &unit_err), ERR_NET_PLUG);
    UNIT_HAS(unit_err.text, "brqtest-unit");
    UNIT_FAILS(net_plug(net, &port, undo, &unit_err), ERR_NET_PLUG);
}

UNIT_TEST(real_missing, "a Linux bridge is refused with its name and what is configured")
{
    struct net_port p = port;

    p.kind = NET_KIND_BRIDGE;
    UNIT_FAILS(net_check(net, &p, &unit_err), ERR_NET_PLUG);
    UNIT_HAS(unit_err.text, "brqtest-unit");
    UNIT_HAS(unit_err.text, "physnet1:nosuch0");
    p.physical_network = (char *)"physnet1";
    UNIT_FAILS(net_check(net, &p, &unit_err), ERR_NET_PLUG);
    UNIT_HAS(unit_err.text, "nosuch0");
    UNIT_HAS(unit_err.text, "does not exist");
    p.bridge = (char *)"lo";
    UNIT_FAILS(net_check(net, &p, &unit_err), ERR_NET_PLUG);
    UNIT_HAS(unit_err.text, "no Linux bridge");
    UNIT_EQ(net_unplug(net, &port, &unit_err), 0);
}

UNIT_TEST(tagged, "the bridge of a network with VLAN tags does not get the interface itself")
{
    struct net_port p = port;

    p.kind = NET_KIND_BRIDGE;
    p.physical_network = (char *)"physnet1";
    p.is_tagged = true;
    UNIT_FAILS(net_check(net, &p, &unit_err), ERR_NET_PLUG);
    UNIT_HAS(unit_err.text, "no interface is known");
}

/* Neutron's agent has the loopback interface, which has an address and cannot be taken. */
static struct net *net_beside_neutron(struct conf **loaded)
{
    _cleanup_(str_freep) char *neutron = text_format("%s/linuxbridge_agent.ini", unit_directory());
    _cleanup_(str_freep) char *file = text_format("%s/net.yaml", unit_directory());
    _cleanup_(str_freep) char *text =
        text_format("agent:\n  control_plane: nova\nnet:\n  linuxbridge_agent_file: %s\n", neutron);
    const char *const files[] = {file, NULL};
    const struct conf_sources sources = {.config_files = files, .no_permission_check = true};
    struct net *made = NULL;

    unit_write_file(neutron, "[linux_bridge]\nphysical_interface_mappings = physnet1:lo\n");
    unit_write_file(file, text);
    UNIT_OK(conf_load(&sources, loaded, NULL, &unit_err));
    UNIT_OK(net_new(&made, loop, *loaded, &unit_err));
    return made;
}

UNIT_TEST(left, "an interface of Neutron's file that cannot be taken is left to its agent")
{
    struct conf *beside = NULL;
    struct net *other = net_beside_neutron(&beside);
    struct net_port p = port;
    size_t count = 0;

    p.kind = NET_KIND_BRIDGE;
    p.physical_network = (char *)"physnet1";
    p.is_flat = true;
    (void)conf_list(beside, CONF_net_physical_interface_mappings, &count);
    UNIT_EQ(count, 1);
    UNIT_OK(net_check(other, &p, &unit_err));
    net_free(other);
    conf_unref(beside);
}

UNIT_TEST(hostile,
          "hostile names of taps, bridges, ports and addresses are refused before anything is done")
{
    static const char *const names[] = {
        "", "..", "a/b", "tap0;reboot", "tap\nline", "tap $x", "0123456789abcdef", NULL};
    char *bad_address[] = {(char *)"198.51.100.1 ; x", NULL};
    struct net_port p;

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        p = port;
        p.tap = (char *)names[i];
        UNIT_FAILS(net_plug(net, &p, undo, &unit_err), ERR_INVALID);
        p = port;
        p.bridge = (char *)names[i];
        UNIT_FAILS(net_unplug(net, &p, &unit_err), ERR_INVALID);
    }
    p = port;
    p.mac = (char *)"01:00:5e:00:00:01";
    UNIT_FAILS(net_check(net, &p, &unit_err), ERR_INVALID);
    p = port;
    p.port_id = (char *)"../../x";
    UNIT_FAILS(net_check(net, &p, &unit_err), ERR_INVALID);
    p = port;
    p.mtu = 67;
    UNIT_FAILS(net_check(net, &p, &unit_err), ERR_INVALID);
    p = port;
    p.addresses = bad_address;
    UNIT_FAILS(net_check(net, &p, &unit_err), ERR_INVALID);
    UNIT_EQ(undo_length(undo), 0);
    _cleanup_(str_freep) char *calls = net_fake_calls(net);
    UNIT_STR(calls, "");
}

UNIT_TEST(
    held,
    "a hold is made after its undo step was written, and undone without harm when there is none")
{
    _cleanup_(undo_freep) struct undo *bad = undo_new(net_undo_handlers(net), refuse_save, NULL);

    UNIT_FAILS(net_hold_make(net, &port, bad, &unit_err), ERR_JOURNAL);
    _cleanup_(str_freep) char *none = net_fake_calls(net);
    UNIT_STR(none, "");
    UNIT_EQ(fault_arm("net.hold.make=error@1", &unit_err), 0);
    UNIT_TRUE(net_hold_make(net, &port, undo, &unit_err) < 0);
    UNIT_EQ(undo_length(undo), 1);
    err_clear(&unit_err);
    UNIT_OK(net_hold_make(net, &port, undo, &unit_err));
    _cleanup_(str_freep) char *calls = net_fake_calls(net);
    UNIT_STR(calls, "hold tapaaaaaaaa-00");
    UNIT_OK(undo_run(undo, &unit_err));
}

UNIT_TEST(bad_hold, "a hold of a hostile name is neither made nor undone")
{
    struct json_object *args = json_object_new_object();
    struct net_port p = port;

    p.tap = (char *)"../x";
    UNIT_FAILS(net_hold_make(net, &p, undo, &unit_err), ERR_INVALID);
    UNIT_EQ(undo_length(undo), 0);
    json_add_string(args, "tap", "tap0;reboot");
    UNIT_EQ(undo_push(undo, "net.unhold", args, &unit_err), 0);
    UNIT_TRUE(undo_run(undo, &unit_err) < 0);
    UNIT_HAS(unit_err.text, "net.unhold");
}

UNIT_TEST(round_trip, "a port survives the way through JSON")
{
    char *addresses[] = {(char *)"198.51.100.7", (char *)"2001:db8::7", NULL};
    _cleanup_(net_port_freep) struct net_port *back = NULL;

    port.addresses = addresses;
    port.physical_network = (char *)"physnet1";
    port.is_flat = true;
    port.mtu = 9000;
    port.create_tap = port.plugged_by_libvirt = true;
    port.kind = NET_KIND_OVS;
    _cleanup_(json_putp) struct json_object *o = net_port_to_json(&port);
    if (!UNIT_EQ(net_port_from_json(o, &back, &unit_err), 0))
        return;
    _cleanup_(json_putp) struct json_object *again = net_port_to_json(back);
    _cleanup_(str_freep) char *a = json_text(o), *b = json_text(again);
    UNIT_STR(a, b);
    UNIT_HAS(a, "\"kind\":\"ovs\"");
}

UNIT_TEST(bad_json, "a port from a damaged journal is refused")
{
    static const char *const changes[][2] = {
        {"kind", "\"vhost\""}, {"tap", "\"../x\""},      {"mac", "5"},
        {"mtu", "-1"},         {"addresses", "[\"x\"]"}, {"addresses", "[7,null]"},
        {"bridge", "null"},    {"mtu", "4294968796"}};

    for (size_t i = 0; i < ARRAY_LEN(changes); i++) {
        struct net_port *back = NULL;
        struct json_object *value = NULL;
        _cleanup_(json_putp) struct json_object *o = net_port_to_json(&port);
        if (json_parse(changes[i][1], strlen(changes[i][1]), &value, &unit_err) < 0)
            abort();
        json_object_object_add(o, changes[i][0], value);
        UNIT_TRUE(net_port_from_json(o, &back, &unit_err) < 0);
        UNIT_TRUE(back == NULL);
        err_clear(&unit_err);
    }
}

UNIT_TEST(ready, "waiting ends when the port is ready, and tells after its time why it is not")
{
    net_fake_fail(net, "ready", 2, ERR_NET_PLUG, "uplink eth1 is down");
    UNIT_EQ(net_wait_ready(net, &port, 2 * USEC_PER_SEC, &unit_err), 0);
    net_fake_fail(net, "ready", 1000000, ERR_NET_PLUG, "uplink eth1 is down");
    UNIT_FAILS(net_wait_ready(net, &port, 30 * USEC_PER_MSEC, &unit_err), ERR_NET_PLUG);
    UNIT_HAS(unit_err.text, "30 ms");
    UNIT_HAS(unit_err.text, "uplink eth1 is down");
}

UNIT_TEST(announced, "a port is announced at once, repeated, and no more once it is disarmed")
{
    struct net_port *ports[] = {&port};
    struct net_armed *armed = NULL;
    uint64_t before = metric_get(METRIC_ANNOUNCEMENTS);

    UNIT_EQ(net_arm(net, ports, 1, &armed, &unit_err), 0);
    UNIT_EQ(net_fake_announced(net, port.tap), 0);
    UNIT_EQ(net_announce(armed), 1);
    UNIT_EQ(net_fake_announced(net, port.tap), 1);
    UNIT_EQ(metric_get(METRIC_ANNOUNCEMENTS), before + 1);
    int64_t end = clock_monotonic_us() + 5 * USEC_PER_SEC;
    while (net_fake_announced(net, port.tap) < 4 && clock_monotonic_us() < end)
        (void)loop_turn(loop, 100, NULL);
    UNIT_EQ(net_fake_announced(net, port.tap), 4);
    net_disarm(armed);
    (void)loop_turn(loop, 0, NULL);
    UNIT_EQ(net_fake_announced(net, port.tap), 4);
}

static void note_left(void *aux)
{
    ++*(unsigned *)aux;
}

UNIT_TEST(taught,
          "a switch that learns late is taught several times before the fabric is told once")
{
    static const char lesson[] = "teach tapaaaaaaaa-00\n";
    struct net_port *ports[] = {&port};
    struct net_armed *armed = NULL;
    unsigned left = 0;

    net_fake_set_teachable(net, port.tap, true);
    UNIT_EQ(net_arm(net, ports, 1, &armed, &unit_err), 0);
    net_fake_forget_calls(net);
    int64_t start = clock_monotonic_us(), end = start + 5 * USEC_PER_SEC;
    UNIT_EQ(net_teach_and_announce(armed, note_left, &left), 1);
    while (left == 0 && clock_monotonic_us() < end) {
        UNIT_EQ(net_fake_announced(net, port.tap), 0);
        (void)loop_turn(loop, 100, NULL);
    }
    UNIT_TRUE(clock_monotonic_us() - start >= 5000);
    UNIT_EQ(net_fake_announced(net, port.tap), 1);
    _cleanup_(str_freep) char *calls = net_fake_calls(net);
    const char *rest = calls;
    unsigned lessons = 0;
    for (; text_starts_with(rest, lesson); rest += strlen(lesson))
        lessons++;
    UNIT_TRUE(lessons >= 2 && lessons <= 5); /* fewer than five if the machine kept us waiting */
    UNIT_STR(rest, "announce tapaaaaaaaa-00");
    while (net_fake_announced(net, port.tap) < 4 && clock_monotonic_us() < end)
        (void)loop_turn(loop, 100, NULL);
    UNIT_EQ(net_fake_announced(net, port.tap), 4);
    UNIT_EQ(left, 1);
    net_disarm(armed);
}

UNIT_TEST(held_up,
          "a loop that was held up during the lessons gives one more, then the fabric is told")
{
    const struct timespec pause = {.tv_nsec = 20000000};
    struct net_port *ports[] = {&port};
    struct net_armed *armed = NULL;
    unsigned left = 0;

    net_fake_set_teachable(net, port.tap, true);
    UNIT_EQ(net_arm(net, ports, 1, &armed, &unit_err), 0);
    net_fake_forget_calls(net);
    UNIT_TRUE(!net_is_teaching(armed));
    UNIT_EQ(net_teach_and_announce(armed, note_left, &left), 1);
    UNIT_TRUE(net_is_teaching(armed));
    (void)nanosleep(&pause, NULL);
    (void)loop_turn(loop, 100, NULL);
    _cleanup_(str_freep) char *calls = net_fake_calls(net);
    UNIT_STR(calls, "teach tapaaaaaaaa-00\nteach tapaaaaaaaa-00\nannounce tapaaaaaaaa-00");
    UNIT_TRUE(!net_is_teaching(armed));
    UNIT_EQ(left, 1);
    net_disarm(armed);
}

UNIT_TEST(mixed, "that the fabric was told is said when the last port is through with its lessons")
{
    struct net_port other = port;
    struct net_port *ports[] = {&port, &other};
    struct net_armed *armed = NULL;
    unsigned left = 0;

    other.tap = (char *)"tapbbbbbbbb-00";
    net_fake_set_teachable(net, other.tap, true);
    UNIT_EQ(net_arm(net, ports, 2, &armed, &unit_err), 0);
    UNIT_EQ(net_teach_and_announce(armed, note_left, &left), 2);
    UNIT_EQ(net_fake_announced(net, port.tap), 1);
    UNIT_EQ(net_fake_announced(net, other.tap), 0);
    UNIT_EQ(left, 0);
    int64_t end = clock_monotonic_us() + 5 * USEC_PER_SEC;
    while (net_is_teaching(armed) && clock_monotonic_us() < end)
        (void)loop_turn(loop, 100, NULL);
    UNIT_EQ(net_fake_announced(net, other.tap), 1);
    UNIT_EQ(left, 1);
    net_disarm(armed);
}

UNIT_TEST(
    not_taught,
    "what cannot be taught is announced at once, and so is what is asked for during the lessons")
{
    struct net_port *ports[] = {&port};
    struct net_armed *armed = NULL;
    unsigned left = 0;

    UNIT_EQ(net_arm(net, ports, 1, &armed, &unit_err), 0);
    UNIT_EQ(net_teach_and_announce(armed, note_left, &left), 1);
    UNIT_EQ(net_fake_announced(net, port.tap), 1);
    UNIT_EQ(left, 1);
    net_fake_set_teachable(net, port.tap, true);
    UNIT_EQ(net_teach_and_announce(armed, note_left, &left), 1);
    UNIT_EQ(net_fake_announced(net, port.tap), 1);
    UNIT_EQ(net_announce(armed), 1);
    UNIT_EQ(net_fake_announced(net, port.tap), 2);
    UNIT_EQ(left, 2);
    net_disarm(armed);
    UNIT_TRUE(!net_kind_is_taught(NET_KIND_BRIDGE));
    UNIT_TRUE(net_kind_is_taught(NET_KIND_OVS));
}

UNIT_TEST(unwired, "a port whose tap is not wired is not counted as announced")
{
    struct net_port *ports[] = {&port};
    struct net_armed *armed = NULL;

    net_fake_set_unwired(net, port.tap, true);
    UNIT_EQ(net_arm(net, ports, 1, &armed, &unit_err), 0);
    UNIT_EQ(net_announce(armed), 0);
    net_disarm(armed);
}

UNIT_TEST(limited, "however often it is asked, a port sends a bounded number of rounds a second")
{
    struct net_port *ports[] = {&port};
    struct net_armed *armed = NULL;

    UNIT_EQ(net_arm(net, ports, 1, &armed, &unit_err), 0);
    clock_fake_set(clock_monotonic_us());
    for (int i = 0; i < 1000; i++)
        (void)net_announce(armed);
    clock_fake_stop();
    UNIT_TRUE(net_fake_announced(net, port.tap) <= 30);
    net_disarm(armed);
}

UNIT_TEST(arm_fails, "when one of several ports cannot be armed none stays armed")
{
    struct net_port second = port;
    struct net_port *ports[] = {&port, &second};
    struct net_armed *armed = NULL;

    second.mac = (char *)"nonsense";
    UNIT_FAILS(net_arm(net, ports, 2, &armed, &unit_err), ERR_INVALID);
    UNIT_TRUE(armed == NULL);
    _cleanup_(str_freep) char *calls = net_fake_calls(net);
    UNIT_HAS(calls, "disarm tapaaaaaaaa-00");
}

UNIT_TEST(audit, "an audit names what is left of instances that are not here")
{
    static const char *const here[] = {INSTANCE, NULL}, *const nobody[] = {NULL};
    _cleanup_(json_putp) struct json_object *known = NULL, *unknown = NULL;

    UNIT_EQ(net_plug(net, &port, undo, &unit_err), 0);
    UNIT_EQ(net_audit(net, here, &known, &unit_err), 0);
    UNIT_EQ(net_audit(net, nobody, &unknown, &unit_err), 0);
    UNIT_EQ(json_object_array_length(unknown), json_object_array_length(known) + 1);
    _cleanup_(str_freep) char *text = json_text(unknown);
    UNIT_HAS(text, "tapaaaaaaaa-00");
}

UNIT_TEST(bad_bridge_step, "a step to remove a bridge with a hostile name is refused")
{
    struct json_object *args = json_object_new_object();

    json_add_string(args, "bridge", "br/../0");
    UNIT_EQ(undo_push(undo, "net.remove_bridge", args, &unit_err), 0);
    UNIT_FAILS(undo_run(undo, &unit_err), ERR_INVALID);
}

UNIT_TEST(no_ovs, "without Open vSwitch a port of it is refused with the place that was tried")
{
    struct net_port p = port;
    _cleanup_(conf_unrefp) struct conf *elsewhere =
        conf_for_test("net.ovs_database", "unix:/nonexistent/db.sock", NULL);

    net_set_conf(net, elsewhere);
    p.kind = NET_KIND_OVS;
    UNIT_FAILS(net_check(net, &p, &unit_err), ERR_NET_PLUG);
    UNIT_HAS(unit_err.text, "/nonexistent/db.sock");
}

UNIT_TEST(bad_database, "a place of the database that is none is refused")
{
    static const char *const bad[] = {"",
                                      "unix:",
                                      "tcp:",
                                      "tcp:127.0.0.1",
                                      "tcp:localhost:1",
                                      "tcp:127.0.0.1:0",
                                      "ssl:127.0.0.1:6640",
                                      "tcp:[::1]"};
    struct ovsdb *db = NULL;

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        UNIT_TRUE(ovsdb_open(&db, bad[i], &unit_err) < 0);
        UNIT_TRUE(unit_err.code == ERR_CONFIG || unit_err.code == ERR_INVALID);
        err_clear(&unit_err);
    }
}

struct served {
    struct ovsdb *db;
    int fd; /* the server's end */
};

static void serve(struct served *s)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    _cleanup_(str_freep) char *connection = text_format("unix:%s/db.sock", unit_directory());
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", connection + 5);
    UNIT_EQ(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
    UNIT_EQ(listen(listener, 1), 0);
    UNIT_EQ(ovsdb_open(&s->db, connection, &unit_err), 0);
    s->fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    (void)close(listener);
    (void)unlink(address.sun_path);
}

/* The watched port's tag after this message. */
static int tag_after(struct served *s, const char *message)
{
    bool changed = false;

    UNIT_EQ(send(s->fd, message, strlen(message), MSG_NOSIGNAL), (ssize_t)strlen(message));
    UNIT_EQ(ovsdb_drain(s->db, &changed, &unit_err), 0);
    UNIT_TRUE(changed);
    return ovsdb_watched_tag(s->db);
}

UNIT_TEST(watched_tag, "a watched port has the VLAN of the last message that tells one")
{
    static const char update[] = "{\"id\":null,\"method\":\"update2\",\"params\":";
    static const char *const odd[] = {"[]}",
                                      "null}",
                                      "[\"port\",null]}",
                                      "[\"port\",{\"Port\":[1]}]}",
                                      "[\"port\",{\"Port\":{\"u\":null}}]}",
                                      "[\"port\",{\"Port\":{\"u\":{\"modify\":{}}}}]}",
                                      "[\"port\",{\"Port\":{\"u\":{\"delete\":null}}}]}"};
    struct served s = {.fd = -1};

    serve(&s);
    UNIT_EQ(ovsdb_watched_tag(s.db), -1);
    UNIT_EQ(tag_after(&s, "{\"id\":1,\"error\":null,\"result\":"
                          "{\"Port\":{\"u\":{\"initial\":{\"tag\":7}}}}}"),
            7);
    for (size_t i = 0; i < ARRAY_LEN(odd); i++) {
        _cleanup_(str_freep) char *message = text_format("%s%s", update, odd[i]);
        UNIT_EQ(tag_after(&s, message), 7);
    }
    _cleanup_(str_freep) char *other =
        text_format("%s[\"port\",{\"Port\":{\"u\":{\"modify\":{\"tag\":9}}}}]}", update);
    UNIT_EQ(tag_after(&s, other), 9);
    _cleanup_(str_freep) char *none =
        text_format("%s[\"port\",{\"Port\":{\"u\":{\"modify\":{\"tag\":[\"set\",[]]}}}}]}", update);
    UNIT_EQ(tag_after(&s, none), -1);
    UNIT_EQ(tag_after(&s, other), 9);
    _cleanup_(str_freep) char *again =
        text_format("%s[\"port\",{\"Port\":{\"v\":{\"insert\":{\"name\":\"tap\"}}}}]}", update);
    UNIT_EQ(tag_after(&s, again), -1);
    ovsdb_free(s.db);
    (void)close(s.fd);
}

UNIT_TEST(framing, "the end of a JSON text in a stream is found in pieces of any size")
{
    static const char text[] = "{\"a\":[\"}\\\"]\",{}],\"b\":\"\\\\\"}{\"next\":1}";
    size_t expected = strlen(text) - strlen("{\"next\":1}");

    for (size_t piece = 1; piece < sizeof(text); piece++) {
        struct json_frame f = {0};
        size_t at = 0, end = 0;
        while (at < sizeof(text) - 1 && !end) {
            size_t n = at + piece < sizeof(text) - 1 ? piece : sizeof(text) - 1 - at;
            end = json_frame_end(&f, text + at, n);
            at += end ? end : n;
        }
        UNIT_EQ(at, expected);
    }
}

UNIT_TEST(links, "the machine's own links are read: lo is there, up and in no bridge")
{
    _cleanup_(netlink_freep) struct netlink *nl = NULL;
    _cleanup_(mem_freep) struct link *links = NULL;
    struct link lo;
    bool found = false;
    size_t n = 0;

    UNIT_EQ(netlink_open(&nl, &unit_err), 0);
    UNIT_EQ(netlink_link(nl, "lo", &lo, &found, &unit_err), 0);
    UNIT_TRUE(found && lo.index > 0 && lo.master == 0 && lo.port_state == LINK_STATE_NONE);
    UNIT_EQ(netlink_link(nl, "nosuchlink0", &lo, &found, &unit_err), 0);
    UNIT_TRUE(!found);
    UNIT_EQ(netlink_link(nl, "a-name-that-no-interface-can-have", &lo, &found, &unit_err), 0);
    UNIT_TRUE(!found);
    UNIT_EQ(netlink_links(nl, 0, &links, &n, &unit_err), 0);
    UNIT_TRUE(n >= 1);
}

static void *plug_and_unplug(void *aux)
{
    const struct net_port *mine = aux;
    _cleanup_(undo_freep) struct undo *steps = undo_new(net_undo_handlers(net), NULL, NULL);
    intptr_t failures = 0;

    for (int i = 0; i < 50; i++) {
        bool present = false;
        failures += net_check(net, mine, NULL) < 0 || net_plug(net, mine, steps, NULL) < 0 ||
                    net_port_present(net, mine, &present, NULL) < 0 || !present ||
                    undo_run(steps, NULL) < 0;
    }
    return (void *)failures;
}

UNIT_TEST(workers, "workers plug and unplug at the same time while the configuration is changed")
{
    static const char *const taps[] = {"tap-0", "tap-1", "tap-2"};
    struct net_port ports[ARRAY_LEN(taps)];
    pthread_t threads[ARRAY_LEN(taps)];
    void *failures;

    for (size_t i = 0; i < ARRAY_LEN(taps); i++) {
        ports[i] = port;
        ports[i].tap = (char *)taps[i];
        if (pthread_create(&threads[i], NULL, plug_and_unplug, &ports[i]) != 0)
            abort();
    }
    for (int i = 0; i < 50; i++) {
        _cleanup_(conf_unrefp) struct conf *fresh = conf_for_test("net.mtu", "1400", NULL);
        net_set_conf(net, fresh);
    }
    for (size_t i = 0; i < ARRAY_LEN(taps); i++) {
        (void)pthread_join(threads[i], &failures);
        UNIT_EQ((intptr_t)failures, 0);
    }
    UNIT_EQ(net_fake_plugged(net), 0);
}
