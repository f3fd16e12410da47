/* SPDX-License-Identifier: Apache-2.0 */
/* The libvirt provider over libvirt's own test driver, which needs no server. */
#include "tests/unit/unit.h"

#include <libvirt/libvirt.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/fault.h"
#include "lib/json.h"
#include "lib/text.h"
#include "tests/unit/worker.h"
#include "virt/libvirt_loop.h"
#include "virt/virt.h"

static struct loop *loop;
static struct virt *virt;
static struct conf *conf;
static struct {
    unsigned up, down, events;
    enum virt_event last;
    char why[256];
} seen;

static void on_connection(void *aux _unused_, bool up, const char *why)
{
    seen.up += up;
    seen.down += !up;
    snprintf(seen.why, sizeof(seen.why), "%s", why);
}

static void on_event(void *aux _unused_, const char *uuid _unused_, enum virt_event event,
                     int64_t at_us)
{
    UNIT_TRUE(at_us <= clock_monotonic_us());
    seen.events++;
    seen.last = event;
}

static const struct virt_callbacks callbacks = {.connection = on_connection, .event = on_event};

static void start(const char *uri)
{
    struct err e = ERR_INIT;
    memset(&seen, 0, sizeof(seen));
    conf = conf_for_test("libvirt.connection_uri", uri, NULL);
    if (loop_new(&loop, &e) < 0 || virt_new(&virt, loop, conf, &callbacks, NULL, &e) < 0)
        abort();
}

static void stop(void)
{
    fault_disarm_all();
    virt_free(virt);
    loop_free(loop);
    conf_unref(conf);
}

/* Turns the loop until the counter moves, for five seconds at most. */
static bool turn_until(const unsigned *counter, unsigned value)
{
    int64_t until = clock_monotonic_us() + 5 * USEC_PER_SEC;
    while (*counter < value && clock_monotonic_us() < until)
        (void)loop_turn(loop, 100, NULL);
    return *counter >= value;
}

/* --- calls are made by workers --- */

static char uuid[40];

static void find_test_domain(void)
{
    struct virt_guest **list = NULL;
    size_t count = 0;
    if (!UNIT_OK(virt_guest_list(virt, &list, &count, &unit_err)) || !UNIT_EQ(count, 1))
        return;
    UNIT_STR(list[0]->name, "test");
    UNIT_EQ(list[0]->state, VIRT_STATE_RUNNING);
    snprintf(uuid, sizeof(uuid), "%s", list[0]->uuid);
    virt_guest_list_free(list, count);
}

static void pause_and_resume(void)
{
    enum virt_state state;
    UNIT_OK(virt_guest_suspend(virt, uuid, &unit_err));
    UNIT_OK(virt_guest_state(virt, uuid, &state, &unit_err));
    UNIT_EQ(state, VIRT_STATE_PAUSED);
    UNIT_FAILS(virt_guest_undefine(virt, uuid, &unit_err), ERR_INSTANCE_STATE);
    UNIT_FAILS(virt_guest_destroy_incoming(virt, uuid, &unit_err), ERR_INSTANCE_STATE);
    UNIT_OK(virt_guest_resume(virt, uuid, &unit_err));
}

UNIT_TEST(connects, "it connects in the background, lists domains and tells events")
{
    start("test:///default");
    UNIT_EQ(seen.up, 0); /* the connection may be there by now, but only a turn of the loop tells */
    if (UNIT_TRUE(turn_until(&seen.up, 1))) {
        worker_run(loop, find_test_domain);
        worker_run(loop, pause_and_resume);
        UNIT_TRUE(turn_until(&seen.events, 2));
        UNIT_EQ(seen.last, VIRT_EVENT_RESUMED);
    }
    stop();
}

static void read_guest_and_host(void)
{
    struct virt_host *host = NULL;
    char *text = NULL;
    enum virt_state state;
    UNIT_OK(virt_host_read(virt, &host, &unit_err));
    if (host) {
        UNIT_STR(host->type, "TEST");
        UNIT_TRUE(host->memory_available > 0);
        virt_host_free(host);
    }
    UNIT_OK(virt_guest_state(virt, "00000000-1111-4222-8333-444444444444", &state, &unit_err));
    UNIT_EQ(state, VIRT_STATE_NONE);
    UNIT_FAILS(
        virt_guest_migratable_xml(virt, "00000000-1111-4222-8333-444444444444", &text, &unit_err),
        ERR_NO_INSTANCE);
    UNIT_HAS(unit_err.text, "00000000-1111-4222-8333-444444444444");
    UNIT_OK(virt_guest_metadata(virt, uuid, &text, &unit_err));
    UNIT_TRUE(text == NULL);
}

static void destroy_it(void)
{
    enum virt_state state;
    UNIT_OK(virt_guest_destroy(virt, uuid, &unit_err));
    UNIT_OK(virt_guest_state(virt, uuid, &state, &unit_err));
    UNIT_EQ(state, VIRT_STATE_NONE);
    UNIT_OK(virt_guest_destroy(virt, uuid, &unit_err));
}

UNIT_TEST(reads_and_removes, "it reads host and guests, and removes a domain with its definition")
{
    start("test:///default");
    if (UNIT_TRUE(turn_until(&seen.up, 1))) {
        worker_run(loop, find_test_domain);
        worker_run(loop, read_guest_and_host);
        worker_run(loop, destroy_it);
        UNIT_TRUE(turn_until(&seen.events, 2));
        UNIT_EQ(seen.last, VIRT_EVENT_UNDEFINED);
    }
    stop();
}

static void state_fails(void)
{
    enum virt_state state;
    int64_t begun = clock_monotonic_us();
    UNIT_FAILS(virt_guest_state(virt, uuid, &state, &unit_err), ERR_HYPERVISOR);
    UNIT_TRUE(clock_monotonic_us() - begun < 100 * USEC_PER_MSEC);
}

UNIT_TEST(unreachable, "where nobody listens it says so once, and calls fail at once")
{
    start("qemu+unix:///system?socket=/nonexistent/libvirt-sock");
    UNIT_TRUE(turn_until(&seen.down, 1));
    UNIT_HAS(seen.why, "/nonexistent/libvirt-sock");
    worker_run(loop, state_fails);
    UNIT_EQ(seen.up, 0);
    UNIT_EQ(seen.down, 1);
    struct json_object *status = virt_status(virt);
    UNIT_TRUE(!json_get_bool(status, "up", true));
    json_object_put(status);
    stop();
}

UNIT_TEST(comes_up_later, "a connection that fails first is tried again until it comes")
{
    UNIT_OK(fault_arm("virt.connect=error@1", &unit_err));
    start("test:///default");
    UNIT_TRUE(turn_until(&seen.down, 1));
    UNIT_TRUE(turn_until(&seen.up, 1));
    UNIT_TRUE(virt_is_up(virt));
    stop();
}

/* --- the event implementation by itself --- */

static struct {
    unsigned timer, handle, freed, freed_in_remove;
    bool removing;
} fired;

static void on_timer(int timer _unused_, void *aux _unused_)
{
    fired.timer++;
}

static void on_handle(int watch, int fd, int events, void *aux _unused_)
{
    char byte;
    UNIT_TRUE(events & VIR_EVENT_HANDLE_READABLE);
    UNIT_EQ(read(fd, &byte, 1), 1);
    fired.handle++;
    fired.removing = true;
    UNIT_EQ(virEventRemoveHandle(watch), 0);
    fired.removing = false;
}

static void on_free(void *aux _unused_)
{
    fired.freed++;
    fired.freed_in_remove += fired.removing;
}

static void *arm_from_thread(void *aux)
{
    virEventUpdateTimeout(*(int *)aux, 0);
    return NULL;
}

UNIT_TEST(timers_cross_threads, "a timer that another thread arms fires on the loop")
{
    memset(&fired, 0, sizeof(fired));
    if (loop_new(&loop, &unit_err) < 0 || libvirt_loop_bind(loop, &unit_err) < 0)
        abort();
    int timer = virEventAddTimeout(-1, on_timer, NULL, on_free);
    UNIT_TRUE(timer > 0);
    (void)loop_turn(loop, 0, NULL);
    UNIT_EQ(fired.timer, 0);
    pthread_t thread;
    UNIT_EQ(pthread_create(&thread, NULL, arm_from_thread, &timer), 0);
    UNIT_TRUE(turn_until(&fired.timer, 1));
    pthread_join(thread, NULL);
    virEventRemoveTimeout(timer);
    UNIT_EQ(fired.freed, 0);
    UNIT_TRUE(turn_until(&fired.freed, 1));
    UNIT_EQ(virEventRemoveTimeout(timer), -1);
    libvirt_loop_unbind();
    loop_free(loop);
}

UNIT_TEST(frees_later, "a handle removed in its own callback is freed afterwards, once")
{
    int fds[2];
    memset(&fired, 0, sizeof(fired));
    if (loop_new(&loop, &unit_err) < 0 || libvirt_loop_bind(loop, &unit_err) < 0 || pipe(fds) < 0)
        abort();
    UNIT_TRUE(virEventAddHandle(fds[0], VIR_EVENT_HANDLE_READABLE, on_handle, NULL, on_free) > 0);
    UNIT_EQ(write(fds[1], "ab", 2), 2);
    UNIT_TRUE(turn_until(&fired.freed, 1));
    (void)loop_turn(loop, 0, NULL);
    UNIT_EQ(fired.handle, 1);
    UNIT_EQ(fired.freed, 1);
    UNIT_EQ(fired.freed_in_remove, 0);
    libvirt_loop_unbind();
    loop_free(loop);
    close(fds[0]);
    close(fds[1]);
}

/* A server that accepts and says nothing. */
UNIT_TEST(guard_ends_open, "opening a connection to a silent server ends at the guard's time")
{
    _cleanup_(str_freep) char *path = text_format("%s/silent", unit_directory());
    _cleanup_(str_freep) char *uri = text_format("qemu+unix:///system?socket=%s", path);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    UNIT_TRUE(fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0 &&
              listen(fd, 4) == 0);
    memset(&seen, 0, sizeof(seen));
    conf = conf_for_test("libvirt.connection_uri", uri, "libvirt.live_migration_keepalive_interval",
                         "1", "libvirt.live_migration_keepalive_count", "1", NULL);
    if (loop_new(&loop, &unit_err) < 0 ||
        virt_new(&virt, loop, conf, &callbacks, NULL, &unit_err) < 0)
        abort();
    int64_t begun = clock_monotonic_us();
    UNIT_TRUE(turn_until(&seen.down, 1));
    int64_t took = clock_monotonic_us() - begun;
    UNIT_TRUE(took > 1 * USEC_PER_SEC && took < 4 * USEC_PER_SEC);
    begun = clock_monotonic_us();
    stop();
    UNIT_TRUE(clock_monotonic_us() - begun < USEC_PER_SEC);
    close(fd);
}
