/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control socket and its commands: a real socket, loop, history and RPC client; the bus and the
 * hypervisor are fakes.
 */
#include "tests/unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/commands.h"
#include "agent/control.h"
#include "agent/migration.h"
#include "lib/clock.h"
#include "lib/control.h"
#include "lib/json.h"
#include "lib/log.h"
#include "lib/metrics.h"
#include "tests/unit/fake_bus.h"
#include "virt/fake.h"

#define VM      "11111111-1111-4111-8111-111111111111"
#define OTHER   "22222222-2222-4222-8222-222222222222"
#define MOVE    "33333333-3333-4333-8333-333333333333"
#define MOVE_2  "44444444-4444-4444-8444-444444444444"
#define UNKNOWN "99999999-9999-4999-8999-999999999999"

enum { TURNS_MAX = 400, TURN_MS = 10 };

static struct agent agent;
static char *socket_path;
static struct control_buffer input; /* of the newest client */

/* ---- the agent ---- */

static void open_agent(const char *allow_remote)
{
    static const struct rpc_callbacks rpc_callbacks = {.request = agent_rpc_request};
    const char *directory = unit_directory();

    agent = (struct agent){.host = text_dup("hosta"), .recovered = true};
    UNIT_OK(loop_new(&agent.loop, &unit_err));
    agent.conf = conf_for_test("agent.state_directory", directory, "standalone.project_id", "lab",
                               "standalone.allow_remote_commands", allow_remote, NULL);
    UNIT_OK(workers_new(&agent.workers, agent.loop, 4, &unit_err));
    UNIT_OK(workers_new(&agent.migrators, agent.loop, 4, &unit_err));
    UNIT_OK(virt_fake_new(&agent.virt, agent.loop, NULL, NULL, &unit_err));
    UNIT_OK(
        rpc_new(&agent.rpc, agent.loop, agent.conf, "hosta", &rpc_callbacks, &agent, &unit_err));
    UNIT_OK(cloud_new(&agent.cloud, agent.loop, agent.conf, agent.rpc, "hosta", &unit_err));
    agent.started_us = clock_monotonic_us();
    UNIT_OK(control_new(&agent.control, &agent, socket_path, "", &unit_err));
    virt_fake_add(agent.virt, VM, "vm-a", NULL, VIRT_STATE_RUNNING);
}

static void close_agent(void)
{
    control_free(agent.control);
    virt_fake_hang(agent.virt, "list", false);
    virt_fake_hang(agent.virt, "describe", false);
    cloud_free(agent.cloud);
    rpc_free(agent.rpc, 0);
    workers_free(agent.workers, USEC_PER_SEC);
    workers_free(agent.migrators, USEC_PER_SEC);
    while (agent.migrations)
        migration_forget(agent.migrations);
    virt_free(agent.virt);
    for (int i = 0; i < 3; i++) /* what was posted has owners */
        UNIT_OK(loop_turn(agent.loop, 0, &unit_err));
    conf_unref(agent.conf);
    loop_free(agent.loop);
    free(agent.host);
}

static void setup(void)
{
    _cleanup_(str_freep) char *history = text_format("%s/migrations.sqlite", unit_directory());

    log_set_level(NULL, LOG_LEVEL_ERROR);
    (void)unlink(history);
    socket_path = text_format("%s/run/control.sock", unit_directory());
    input = (struct control_buffer){.limit = CONTROL_REPLY_MAX};
    open_agent("true");
}

static void teardown(void)
{
    close_agent();
    control_buffer_free(&input);
    free(socket_path);
    clock_fake_stop();
}

UNIT_FIXTURE(setup, teardown)

static void turn(void)
{
    UNIT_OK(loop_turn(agent.loop, TURN_MS, &unit_err));
}

static struct json_object *parse(const char *text)
{
    struct json_object *o = NULL;

    UNIT_OK(json_parse(text, strlen(text), &o, &unit_err));
    return o;
}

/* ---- a client ---- */

static int client_new(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    memcpy(address.sun_path, socket_path, strlen(socket_path) + 1);
    UNIT_EQ(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    control_buffer_free(&input);
    return fd;
}

static void say(int fd, const char *text)
{
    UNIT_EQ(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

/* The next message; NULL when the other side closed the connection or nothing comes. */
static struct json_object *hear(int fd)
{
    struct json_object *message = NULL;
    char bytes[4096];

    for (int i = 0; i < TURNS_MAX; i++) {
        ssize_t n = recv(fd, bytes, sizeof(bytes), 0);
        if (n > 0)
            UNIT_OK(control_buffer_add(&input, bytes, (size_t)n, &unit_err));
        if (control_buffer_next(&input, &message, &unit_err) == 1)
            return message;
        if (n == 0 || (n < 0 && errno != EAGAIN))
            return NULL;
        if (n < 0)
            turn();
    }
    UNIT_TRUE(!"no answer");
    return NULL;
}

static bool is_closed(int fd)
{
    char byte;

    for (int i = 0; i < 20; i++) {
        ssize_t n = recv(fd, &byte, 1, 0);
        if (n == 0 || (n < 0 && errno != EAGAIN))
            return true;
        turn();
    }
    return false;
}

/* One command on a connection of its own; the whole reply. */
static struct json_object *ask_host(const char *host, const char *command, const char *args)
{
    int fd = client_new();
    _cleanup_(json_putp) struct json_object *request =
        control_request_new(1, command, args ? parse(args) : NULL, host);
    _cleanup_(str_freep) char *line = control_line(request);

    say(fd, line);
    struct json_object *reply = hear(fd);
    (void)close(fd);
    return reply;
}

static struct json_object *ask(const char *command, const char *args)
{
    struct json_object *result = NULL;
    _cleanup_(json_putp) struct json_object *reply = ask_host(NULL, command, args);

    UNIT_OK(control_reply_parse(reply, 1, &result, &unit_err));
    return result;
}

/* The command fails with that code, and a sentence with these words. */
static void refused(const char *command, const char *args, enum err_code code, const char *words)
{
    struct json_object *result = NULL;
    _cleanup_(json_putp) struct json_object *reply = ask_host(NULL, command, args);

    UNIT_FAILS(control_reply_parse(reply, 1, &result, &unit_err), code);
    UNIT_HAS(unit_err.text, words);
}

static struct migration *add_migration(enum migration_role role, const char *uuid, int64_t id,
                                       const char *instance_uuid_, enum machine_state state,
                                       const char *status)
{
    struct cloud_instance_facts facts = {
        .uuid = instance_uuid_, .name = "vm-a", .host = "hosta", .memory_mb = 64, .vcpus = 1};
    _cleanup_(instance_freep) struct instance *instance = cloud_instance_from_facts(&facts);
    struct migration *m = migration_new(&agent, role, uuid, instance);

    m->id = id;
    m->state = state;
    m->source_host = text_dup(role == MIGRATION_SOURCE ? "hosta" : "hostb");
    m->destination_host = text_dup(role == MIGRATION_SOURCE ? "hostb" : "hosta");
    snprintf(m->status, sizeof(m->status), "%s", status);
    settings_for_instance(agent.conf, instance, &m->settings);
    return m;
}

static size_t length(struct json_object *o, const char *key)
{
    struct json_object *array = json_get(o, key);

    return json_object_is_type(array, json_type_array) ? json_object_array_length(array) : 0;
}

static struct json_object *item(struct json_object *o, const char *key, size_t i)
{
    return json_object_array_get_idx(json_get(o, key), i);
}

/* ---- the socket ---- */

UNIT_TEST(socket_mode,
          "without a group the socket is the owner's alone, in a directory made for it")
{
    struct stat st;

    UNIT_EQ(lstat(socket_path, &st), 0);
    UNIT_TRUE(S_ISSOCK(st.st_mode));
    UNIT_EQ(st.st_mode & 0777, 0600);
}

/* A second control socket, made and freed. */
static int second(const char *name, const char *group, mode_t *mode)
{
    _cleanup_(str_freep) char *path = text_format("%s/%s", unit_directory(), name);
    struct control *control = NULL;
    struct stat st;

    err_clear(&unit_err);
    if (control_new(&control, &agent, path, group, &unit_err) < 0)
        return -1;
    if (mode && lstat(path, &st) == 0)
        *mode = st.st_mode & 0777;
    control_free(control);
    UNIT_TRUE(lstat(path, &st) < 0 && errno == ENOENT);
    return 0;
}

UNIT_TEST(socket_group, "with a group its members may use the socket; an unknown group is refused")
{
    mode_t mode = 0;
    char buffer[4096];
    struct group row, *group = NULL;

    UNIT_FAILS(second("g.sock", "no-such-group-here", NULL), ERR_CONFIG);
    UNIT_HAS(unit_err.text, "no such group");
    if (getgrgid_r(getegid(), &row, buffer, sizeof(buffer), &group) != 0 || !group)
        return;
    UNIT_OK(second("g.sock", group->gr_name, &mode));
    UNIT_EQ(mode, 0660);
}

UNIT_TEST(socket_directory, "the directory lets others through to the socket, whatever the umask")
{
    _cleanup_(str_freep) char *directory = text_format("%s/new", unit_directory());
    struct stat st = {0};
    mode_t before = umask(077);

    UNIT_OK(second("new/control.sock", "", NULL));
    (void)umask(before);
    UNIT_EQ(stat(directory, &st), 0);
    UNIT_EQ(st.st_mode & 0777, 0755);
}

UNIT_TEST(socket_taken, "a socket that is answered and a file of another kind stay where they are")
{
    _cleanup_(str_freep) char *file = text_format("%s/file", unit_directory());
    struct stat st;

    UNIT_FAILS(second("run/control.sock", "", NULL), ERR_CONFIG);
    UNIT_HAS(unit_err.text, "another agent answers");
    UNIT_EQ(lstat(socket_path, &st), 0);
    unit_write_file(file, "x");
    UNIT_FAILS(second("file", "", NULL), ERR_CONFIG);
    UNIT_EQ(lstat(file, &st), 0);
    (void)unlink(file);
}

UNIT_TEST(socket_stale, "a socket that a dead agent left behind is replaced")
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(address.sun_path, sizeof(address.sun_path), "%s/stale.sock", unit_directory());
    UNIT_EQ(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    (void)close(fd);
    UNIT_OK(second("stale.sock", "", NULL));
}

UNIT_TEST(socket_long, "a path that no socket can have is refused and named")
{
    char name[200];

    memset(name, 'x', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    UNIT_FAILS(second(name, "", NULL), ERR_CONFIG);
    UNIT_HAS(unit_err.text, "control_socket");
}

/* ---- connections ---- */

UNIT_TEST(pipelined, "requests that come together are all answered, each by its number")
{
    int fd = client_new();
    bool seen[41] = {false};

    for (int i = 1; i <= 40; i++) {
        _cleanup_(str_freep) char *line = text_format("{\"id\":%d,\"command\":\"stats\"}\n", i);
        say(fd, line);
    }
    for (int i = 1; i <= 40; i++) {
        _cleanup_(json_putp) struct json_object *reply = hear(fd);
        int64_t id = json_get_int(reply, "id", 0);
        if (!UNIT_TRUE(id >= 1 && id <= 40 && !seen[id] && json_has(reply, "result")))
            break;
        seen[id] = true;
    }
    (void)close(fd);
}

UNIT_TEST(garbage, "a line that cannot be read is answered and ends its connection, no other")
{
    static const char *const lines[] = {"nonsense\n", "[1]\n", "{\"id\":1,\"id\":2}\n", "\n"};

    int other = client_new();
    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        int fd = client_new();
        say(fd, lines[i]);
        say(fd, "{\"id\":7,\"command\":\"stats\"}\n");
        _cleanup_(json_putp) struct json_object *reply = hear(fd);
        UNIT_EQ(json_get_int(reply, "id", -1), 0);
        UNIT_STR(json_get_string(json_get(reply, "error"), "code", NULL), "PARSE");
        UNIT_TRUE(is_closed(fd));
        (void)close(fd);
    }
    control_buffer_free(&input);
    say(other, "{\"id\":1,\"command\":\"stats\"}\n");
    _cleanup_(json_putp) struct json_object *reply = hear(other);
    UNIT_TRUE(json_has(reply, "result"));
    (void)close(other);
}

UNIT_TEST(endless, "a line without an end is cut off at the limit")
{
    char piece[4096];
    int fd = client_new();

    memset(piece, 'a', sizeof(piece));
    for (int i = 0; i < 64 * 1024 / 4096; i++) {
        ssize_t n = send(fd, piece, sizeof(piece), MSG_NOSIGNAL);
        if (n <= 0)
            break;
        turn();
    }
    _cleanup_(json_putp) struct json_object *reply = hear(fd);
    UNIT_HAS(json_get_string(json_get(reply, "error"), "text", NULL), "longer than");
    UNIT_TRUE(is_closed(fd));
    (void)close(fd);
}

UNIT_TEST(bad_member,
          "a request with a wrong member is answered by its number, and more may follow")
{
    int fd = client_new();

    say(fd, "{\"id\":5,\"command\":7}\n{\"id\":6,\"command\":\"stats\",\"args\":[]}\n"
            "{\"id\":7,\"command\":\"stats\"}\n");
    for (int id = 5; id <= 7; id++) {
        _cleanup_(json_putp) struct json_object *reply = hear(fd);
        UNIT_EQ(json_get_int(reply, "id", 0), id);
        UNIT_EQ(json_has(reply, "error"), id < 7);
    }
    (void)close(fd);
}

UNIT_TEST(half_closed, "who asks and ends its side gets the answer before the connection ends")
{
    int fd = client_new();

    say(fd, "{\"id\":1,\"command\":\"list\"}\n");
    (void)shutdown(fd, SHUT_WR);
    _cleanup_(json_putp) struct json_object *reply = hear(fd);
    UNIT_EQ(length(json_get(reply, "result"), "instances"), 1);
    UNIT_TRUE(is_closed(fd));
    (void)close(fd);
}

UNIT_TEST(gone, "a command runs to its end when the asker has gone")
{
    int fd = client_new();

    virt_fake_hang(agent.virt, "list", true);
    say(fd, "{\"id\":1,\"command\":\"list\"}\n");
    for (int i = 0; i < TURNS_MAX && virt_fake_count(agent.virt, "list") == 0; i++)
        turn();
    (void)close(fd);
    turn();
    virt_fake_hang(agent.virt, "list", false);
    for (int i = 0; i < TURNS_MAX && workers_running(agent.workers) > 0; i++)
        turn();
    _cleanup_(json_putp) struct json_object *result = ask("list", NULL);
    UNIT_EQ(length(result, "instances"), 1);
}

UNIT_TEST(bounded, "a connection has at most 16 requests under way, others are served meanwhile")
{
    int fd = client_new();
    uint64_t before = metric_get(METRIC_CONTROL_REQUESTS);

    virt_fake_hang(agent.virt, "list", true);
    for (int i = 1; i <= 40; i++) {
        _cleanup_(str_freep) char *line = text_format("{\"id\":%d,\"command\":\"list\"}\n", i);
        say(fd, line);
    }
    for (int i = 0; i < 10; i++)
        turn();
    UNIT_EQ(metric_get(METRIC_CONTROL_REQUESTS) - before, 16);
    _cleanup_(json_putp) struct json_object *status = ask("status", NULL);
    UNIT_TRUE(json_has(status, "agent"));
    control_buffer_free(&input);
    virt_fake_hang(agent.virt, "list", false);
    for (int i = 1; i <= 40; i++) {
        _cleanup_(json_putp) struct json_object *reply = hear(fd);
        if (!UNIT_TRUE(json_has(reply, "result")))
            break;
    }
    (void)close(fd);
}

UNIT_TEST(slow_reader, "who does not read his answers gets no more made, and is cut off in the end")
{
    int fd = client_new();
    struct text_buffer lines = TEXT_BUFFER_INIT;
    uint64_t before = metric_get(METRIC_CONTROL_REQUESTS);

    for (int i = 1; i <= 400; i++)
        text_buffer_printf(&lines, "{\"id\":%d,\"command\":\"conf-list\"}\n", i);
    say(fd, lines.data);
    text_buffer_free(&lines);
    for (int i = 0; i < 50; i++)
        turn();
    UNIT_TRUE(metric_get(METRIC_CONTROL_REQUESTS) - before < 100);
    clock_fake_set(clock_monotonic_us() + 11 * USEC_PER_SEC);
    turn();
    char bytes[65536];
    ssize_t n;
    while ((n = recv(fd, bytes, sizeof(bytes), 0)) > 0)
        ;
    UNIT_TRUE(n == 0 || errno != EAGAIN);
    (void)close(fd);
}

UNIT_TEST(places, "the 65th connection takes the place of the one idle for longest")
{
    int fds[65];

    for (int i = 0; i < 65; i++) {
        fds[i] = client_new();
        turn();
    }
    say(fds[1], "{\"id\":1,\"command\":\"stats\"}\n");
    _cleanup_(json_putp) struct json_object *reply = hear(fds[1]);
    UNIT_TRUE(json_has(reply, "result"));
    UNIT_TRUE(is_closed(fds[0]));
    for (int i = 0; i < 65; i++)
        (void)close(fds[i]);
}

/* ---- arguments ---- */

UNIT_TEST(bad_arguments, "each bad argument is refused with one sentence that names it")
{
    static const struct {
        const char *command, *args, *words;
        enum err_code code;
    } rows[] = {
        {"nothing", NULL, "no command \"nothing\"", ERR_USAGE},
        {"status", "{\"x\\u0007y\":1}", "no argument \"x\\x07y\"", ERR_USAGE},
        {"status", "{\"methods\":1}", "methods must be true, false or null", ERR_USAGE},
        {"list", "{\"all\":true}", "it takes none", ERR_USAGE},
        {"show", NULL, "instance is missing", ERR_USAGE},
        {"show", "{\"instance\":5}", "instance must be a text", ERR_USAGE},
        {"show", "{\"instance\":\"vm-x\"}", "vm-x", ERR_NO_INSTANCE},
        {"show", "{\"instance\":\"vm-x\",\"timeline\":true}", "vm-x", ERR_NO_INSTANCE},
        {"show", "{\"instance\":\"vm-a\",\"timeline\":1}", "timeline must be true", ERR_USAGE},
        {"migration", "{\"migration\":7,\"story\":\"x\"}", "story must be true", ERR_USAGE},
        {"migrations", "{\"limit\":0}", "limit must be a number from 1 to 1000", ERR_USAGE},
        {"migrations", "{\"limit\":\"5\"}", "limit must be a number", ERR_USAGE},
        {"migration", "{\"migration\":\"7\"}", "migration", ERR_INVALID},
        {"migration", "{\"migration\":-7}", "a number or a UUID", ERR_USAGE},
        {"migration", "{\"migration\":7,\"instance\":\"vm-a\"}", "not both", ERR_USAGE},
        {"migration", "{\"migration\":7}", "migration 7 is not known on hosta", ERR_NO_MIGRATION},
        {"migration", NULL, "no migration is under way on hosta", ERR_NO_MIGRATION},
        {"abort", "{\"instance\":\"vm-a\"}", "a migration of vm-a is not under way",
         ERR_NO_MIGRATION},
        {"force-complete", NULL, "no migration is under way", ERR_NO_MIGRATION},
        {"set", "{\"migration\":7}", "settings must be an object", ERR_USAGE},
        {"set", "{\"migration\":7,\"settings\":{\"downtime_ms\":50}}", "migration 7",
         ERR_NO_MIGRATION},
        {"migrate", "{\"dest\":\"hostb\"}", "instance is missing", ERR_USAGE},
        {"migrate", "{\"instance\":\"vm-a\"}", "dest must name the host", ERR_USAGE},
        {"migrate", "{\"instance\":\"vm-a\",\"dest\":\"-oProxy\"}", "-oProxy", ERR_INVALID},
        {"migrate", "{\"instance\":\"vm-a\",\"dest\":\"hosta\"}", "on hosta already", ERR_USAGE},
        {"migrate", "{\"instance\":\"vm-a\",\"dest\":\"hostb\",\"block_migration\":1}",
         "block_migration must be true, false or null", ERR_USAGE},
        {"migrate", "{\"instance\":\"vm-a\",\"dest\":\"hostb\",\"settings\":[]}",
         "settings must be an object", ERR_USAGE},
        {"migrate", "{\"instance\":\"vm-a\",\"dest\":\"hostb\",\"settings\":{\"x\":1}}",
         "\"x\" is not known", ERR_INVALID},
        {"migrate", "{\"instance\":\"vm-x\",\"dest\":\"hostb\"}", "vm-x", ERR_NO_INSTANCE},
        {"conf-get", NULL, "name is missing", ERR_USAGE},
        {"conf-get", "{\"name\":\"agent.nothing\"}", "no option \"agent.nothing\"", ERR_USAGE},
        {"conf-reload", NULL, "without configuration files", ERR_NOT_IMPLEMENTED},
        {"log-level", "{\"level\":\"loud\"}", "\"loud\" is not a level", ERR_USAGE},
        {"log-level", "{\"module\":\"\"}", "module", ERR_USAGE},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        refused(rows[i].command, rows[i].args, rows[i].code, rows[i].words);
    UNIT_EQ(fake_bus.sent_count, 0);
}

UNIT_TEST(writes, "what changes something is told apart, and an unknown command counts as such")
{
    static const char *const writing[] = {"migrate",     "abort",     "force-complete", "set",
                                          "conf-reload", "log-level", "nothing"};
    static const char *const reading[] = {"status",   "stats",      "list",
                                          "show",     "migrations", "migration",
                                          "conf-get", "conf-list",  "debug-machine"};

    for (size_t i = 0; i < ARRAY_LEN(writing); i++)
        UNIT_TRUE(commands_writes(writing[i]));
    for (size_t i = 0; i < ARRAY_LEN(reading); i++)
        UNIT_TRUE(!commands_writes(reading[i]));
}

/* ---- the agent ---- */

UNIT_TEST(status, "status tells of agent, bus, hypervisor, migrations and stuck calls")
{
    add_migration(MIGRATION_SOURCE, MOVE, 1, VM, MACHINE_SOURCE_RUNNING, "running");
    add_migration(MIGRATION_SOURCE, MOVE_2, 2, OTHER, MACHINE_SOURCE_QUEUED, "queued");
    _cleanup_(json_putp) struct json_object *o = ask("status", "{\"methods\":true}");
    struct json_object *a = json_get(o, "agent");

    UNIT_STR(json_get_string(a, "host", NULL), "hosta");
    UNIT_STR(json_get_string(a, "control_plane", NULL), "standalone");
    UNIT_EQ(json_get_int(a, "pid", 0), getpid());
    UNIT_TRUE(json_get_string(a, "version", NULL) != NULL);
    UNIT_EQ(json_get_int(a, "uptime_s", -1), 0);
    UNIT_TRUE(json_get_bool(json_get(o, "rpc"), "up", false));
    UNIT_TRUE(json_get_bool(json_get(o, "hypervisor"), "up", false));
    UNIT_EQ(json_get_int(json_get(o, "migrations"), "running", 0), 1);
    UNIT_EQ(json_get_int(json_get(o, "migrations"), "queued", 0), 1);
    UNIT_EQ(json_get_int(o, "stuck_workers", -1), 0);
    UNIT_EQ(length(o, "methods"), RPC_METHOD_COUNT);
    UNIT_TRUE(json_get_string(item(o, "methods", 0), "version", NULL) != NULL);
}

UNIT_TEST(stats, "stats tells counters, callbacks and memory")
{
    _cleanup_(json_putp) struct json_object *o = ask("stats", NULL);

    UNIT_TRUE(json_get_int(json_get(o, "counters"), "control_requests", 0) > 0);
    UNIT_EQ(json_object_object_length(json_get(o, "counters")), METRIC_COUNT);
    UNIT_TRUE(length(o, "loop") > 0);
    UNIT_TRUE(json_get_int(o, "memory_kib", 0) > 100);
    UNIT_TRUE(json_get_int(o, "allocated_kib", -1) >= 0);
}

/* libvirt is being asked already: an abort is noted, no more. */
static void add_running(void)
{
    add_migration(MIGRATION_SOURCE, MOVE, 1, VM, MACHINE_SOURCE_RUNNING, "running")
        ->abort_outstanding = true;
}

UNIT_TEST(awake, "while libvirt hangs everything that does not need it is answered at once")
{
    static const char *const commands[] = {"status", "stats", "migrations", "conf-list",
                                           "log-level"};
    int fd = client_new();

    add_running();
    virt_fake_hang(agent.virt, "list", true);
    for (int i = 0; i < 8; i++)
        say(fd, "{\"id\":1,\"command\":\"list\"}\n");
    for (int i = 0; i < TURNS_MAX && virt_fake_count(agent.virt, "list") < 4; i++)
        turn();
    int64_t start_us = clock_monotonic_us();
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        _cleanup_(json_putp) struct json_object *o = ask(commands[i], NULL);
        UNIT_TRUE(o != NULL);
    }
    _cleanup_(json_putp) struct json_object *aborted = ask("abort", NULL);
    UNIT_STR(json_get_string(json_get(aborted, "migration"), "uuid", NULL), MOVE);
    UNIT_TRUE(clock_monotonic_us() - start_us < 5 * USEC_PER_SEC); /* and the list hangs still */
    (void)close(fd);
}

UNIT_TEST(overdue, "who asks what libvirt does not answer is told so after 8 s")
{
    int fd = client_new();

    virt_fake_hang(agent.virt, "list", true);
    say(fd, "{\"id\":1,\"command\":\"list\"}\n");
    for (int i = 0; i < TURNS_MAX && virt_fake_count(agent.virt, "list") == 0; i++)
        turn();
    clock_fake_set(clock_monotonic_us() + 9 * USEC_PER_SEC);
    _cleanup_(json_putp) struct json_object *reply = hear(fd);
    UNIT_STR(json_get_string(json_get(reply, "error"), "code", NULL), "TIMEOUT");
    UNIT_HAS(json_get_string(json_get(reply, "error"), "text", NULL), "libvirt on hosta");
    (void)close(fd);
    clock_fake_stop();
    _cleanup_(json_putp) struct json_object *status = ask("status", NULL);
    UNIT_EQ(json_get_int(status, "stuck_workers", 0), 1);
    virt_fake_hang(agent.virt, "list", false);
    for (int i = 0; i < TURNS_MAX && workers_stuck(agent.workers) > 0; i++)
        turn();
    UNIT_EQ(workers_stuck(agent.workers), 0);
}

UNIT_TEST(levels, "log-level shows and changes the levels")
{
    _cleanup_(json_putp) struct json_object *one =
        ask("log-level", "{\"module\":\"rpc\",\"level\":\"warning\"}");
    _cleanup_(json_putp) struct json_object *all = ask("log-level", NULL);

    UNIT_STR(json_get_string(json_get(one, "levels"), "rpc", NULL), "warning");
    UNIT_STR(json_get_string(json_get(all, "levels"), "all", NULL), "error");
    UNIT_STR(json_get_string(json_get(all, "levels"), "rpc", NULL), "warning");
    UNIT_EQ(log_get_level("rpc"), LOG_LEVEL_WARNING);
    _cleanup_(json_putp) struct json_object *reset = ask("log-level", "{\"level\":\"error\"}");
    UNIT_EQ(json_object_object_length(json_get(reset, "levels")), 1);
}

UNIT_TEST(machine_picture, "debug-machine gives the table as a graph")
{
    _cleanup_(json_putp) struct json_object *o = ask("debug-machine", NULL);

    UNIT_HAS(json_get_string(o, "dot", NULL), "digraph");
    UNIT_HAS(json_get_string(o, "dot", NULL), "SOURCE_RUNNING -> SOURCE_FINISHING");
}

/* ---- configuration ---- */

UNIT_TEST(options, "options are shown with value, default and origin, and no secret is")
{
    _cleanup_(json_putp) struct json_object *one =
        ask("conf-get", "{\"name\":\"standalone.project_id\"}");
    _cleanup_(json_putp) struct json_object *list = ask("conf-list", NULL);
    struct conf *secret = conf_for_test("DEFAULT.transport_url", "rabbit://u:hidden@h:5672/", NULL);

    UNIT_STR(json_get_string(one, "name", NULL), "standalone.project_id");
    UNIT_STR(json_get_string(one, "value", NULL), "lab");
    UNIT_STR(json_get_string(one, "default", NULL), "standalone");
    UNIT_TRUE(json_has(one, "source") && json_has(one, "reload"));
    UNIT_EQ(length(list, "options"), CONF_COUNT);
    conf_unref(agent.conf);
    agent.conf = secret;
    _cleanup_(json_putp) struct json_object *hidden = ask("conf-list", NULL);
    _cleanup_(str_freep) char *text = json_text(hidden);
    UNIT_TRUE(strstr(text, "hidden") == NULL);
}

static int reload(struct agent *a, struct json_object **report, struct err *e)
{
    if (a->draining)
        return err_set(e, ERR_CONFIG, "line 3 cannot be read");
    *report = parse("{\"changed\":[\"DEFAULT.debug\"],\"needs_restart\":[]}");
    return 0;
}

UNIT_TEST(reloaded, "conf-reload tells what changed, or why nothing did")
{
    agent.reload = reload;
    _cleanup_(json_putp) struct json_object *o = ask("conf-reload", NULL);
    UNIT_EQ(length(o, "changed"), 1);
    agent.draining = true;
    refused("conf-reload", NULL, ERR_CONFIG, "line 3");
}

/* ---- instances ---- */

UNIT_TEST(listed, "list gives all guests, with the task of those that move")
{
    virt_fake_add(agent.virt, OTHER, "vm-b", NULL, VIRT_STATE_SHUTOFF);
    add_migration(MIGRATION_SOURCE, MOVE, 1, VM, MACHINE_SOURCE_RUNNING, "running");
    add_migration(MIGRATION_SOURCE, MOVE_2, 2, OTHER, MACHINE_SOURCE_FAILED, "failed");
    _cleanup_(json_putp) struct json_object *o = ask("list", NULL);

    if (!UNIT_EQ(length(o, "instances"), 2))
        return;
    for (size_t i = 0; i < 2; i++) {
        struct json_object *row = item(o, "instances", i);
        bool first = text_equal(json_get_string(row, "uuid", NULL), VM);
        UNIT_STR(json_get_string(row, "name", NULL), first ? "vm-a" : "vm-b");
        UNIT_STR(json_get_string(row, "task", NULL), first ? "migrating" : NULL);
        UNIT_STR(json_get_string(row, "state", NULL), first ? "running" : "shutoff");
    }
}

UNIT_TEST(shown, "show gives the guest by name or uuid, with its newest migration or null")
{
    _cleanup_(json_putp) struct json_object *before = ask("show", "{\"instance\":\"vm-a\"}");
    add_migration(MIGRATION_SOURCE, MOVE, 1, VM, MACHINE_SOURCE_RUNNING, "running");
    _cleanup_(json_putp) struct json_object *after = ask("show", "{\"instance\":\"" VM "\"}");

    UNIT_STR(json_get_string(before, "uuid", NULL), VM);
    UNIT_TRUE(json_has(before, "disks") && json_has(before, "interfaces"));
    UNIT_TRUE(json_has(before, "migration") && !json_get(before, "migration"));
    UNIT_STR(json_get_string(after, "task", NULL), "migrating");
    UNIT_EQ(json_get_int(json_get(after, "migration"), "id", 0), 1);
}

/* ---- migrations ---- */

static void saved(void *aux, const struct err *failure)
{
    UNIT_TRUE(failure == NULL);
    *(bool *)aux = true;
}

/* Into the history, as the agent itself would. */
static void remember_at(const char *uuid, int64_t id, const char *instance, const char *name,
                        const char *status, const char *created_at)
{
    bool done = false;
    _cleanup_(migration_record_freep) struct migration_record *record =
        migration_record_wrap(object_new("Migration", "1.7"));
    _cleanup_(json_putp) struct json_object *account = json_object_new_object();

    migration_record_set_uuid(record, uuid);
    migration_record_set_id(record, id);
    migration_record_set_instance_uuid(record, instance);
    migration_record_set_status(record, status);
    json_add_int(account, "id", id);
    json_add_string(account, "uuid", uuid);
    json_add_string(account, "instance", instance);
    json_add_string(account, "name", name);
    json_add_string(account, "role", "source");
    json_add_string(account, "status", status);
    json_add_string(account, "created_at", created_at);
    cloud_migration_save(agent.cloud, NULL, record, "source", account, saved, &done);
    for (int i = 0; i < TURNS_MAX && !done; i++)
        turn();
}

static void remember(const char *uuid, int64_t id, const char *instance, const char *name,
                     const char *status)
{
    remember_at(uuid, id, instance, name, status, NULL);
}

UNIT_TEST(history, "migrations gives those in memory, then the history, none twice, filtered")
{
    remember(MOVE, 1, VM, "vm-a", "running"); /* older than what is in memory */
    remember(MOVE_2, 2, OTHER, "vm-b", "completed");
    add_migration(MIGRATION_SOURCE, MOVE, 1, VM, MACHINE_SOURCE_CANCELLED, "cancelled");
    static const struct {
        const char *args;
        size_t count;
        int64_t first;
    } rows[] = {
        {NULL, 2, 1},
        {"{\"limit\":1}", 1, 1},
        {"{\"status\":\"running\"}", 0, 0},
        {"{\"status\":\"cancelled\"}", 1, 1},
        {"{\"instance\":\"vm-b\"}", 1, 2},
        {"{\"instance\":\"" OTHER "\"}", 1, 2},
        {"{\"instance\":\"vm-c\"}", 0, 0},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        _cleanup_(json_putp) struct json_object *o = ask("migrations", rows[i].args);
        UNIT_EQ(length(o, "migrations"), rows[i].count);
        if (rows[i].count && length(o, "migrations"))
            UNIT_EQ(json_get_int(item(o, "migrations", 0), "id", 0), rows[i].first);
    }
}

/* Two stamps and a note, as the agent itself would keep them. */
static void remember_story(const char *uuid)
{
    _cleanup_(json_putp) struct json_object *stamp = json_object_new_object();
    _cleanup_(json_putp) struct json_object *note = json_object_new_object();

    json_add_string(stamp, "name", "accepted");
    cloud_story_add(agent.cloud, uuid, "source", "stamp", 1000000, stamp);
    json_add_string(stamp, "name", "paused");
    cloud_story_add(agent.cloud, uuid, "source", "stamp", 3000000, stamp);
    json_add_string(note, "text", "raised");
    cloud_story_add(agent.cloud, uuid, "source", "note", 2000000, note);
}

UNIT_TEST(timeline, "show tells the timeline when it is asked for, of a guest that has left too")
{
    remember(MOVE, 1, VM, "vm-a", "completed");
    remember_story(MOVE);
    remember(MOVE_2, 2, OTHER, "vm-gone", "completed");
    remember_story(MOVE_2);
    _cleanup_(json_putp) struct json_object *plain = ask("show", "{\"instance\":\"vm-a\"}");
    UNIT_TRUE(!json_has(json_get(plain, "migration"), "timeline"));
    static const char *const ways[] = {"{\"instance\":\"vm-a\",\"timeline\":true}",
                                       "{\"instance\":\"vm-gone\",\"timeline\":true}",
                                       "{\"instance\":\"" OTHER "\",\"timeline\":true}"};
    for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
        _cleanup_(json_putp) struct json_object *o = ask("show", ways[i]);
        struct json_object *m = json_get(o, "migration");
        UNIT_EQ(json_get_int(m, "id", 0), i == 0 ? 1 : 2);
        UNIT_EQ(json_has(o, "disks"), i == 0);
        struct json_object *paused = item(json_get(m, "timeline"), "stamps", 1);
        UNIT_TRUE(json_get_double(paused, "since_start_ms", 0) == 2000.0);
        UNIT_TRUE(!json_has(m, "samples"));
    }
}

UNIT_TEST(
    story,
    "a migration is told with its story only when that is asked for, an old one by number too")
{
    remember(MOVE, 1, VM, "vm-a", "completed");
    remember_story(MOVE);
    _cleanup_(json_putp) struct json_object *plain = ask("migration", "{\"migration\":1}");
    UNIT_TRUE(!json_has(plain, "notes"));
    _cleanup_(json_putp) struct json_object *o =
        ask("migration", "{\"migration\":1,\"story\":true}");
    UNIT_EQ(length(o, "notes"), 1);
    UNIT_EQ(length(o, "samples"), 0);
    UNIT_TRUE(json_get_double(item(o, "notes", 0), "since_start_ms", 0) == 1000.0);
}

UNIT_TEST(newest_migration,
          "of a guest's migrations the one that began last is told, not one that lingers")
{
    struct migration *m = add_migration(MIGRATION_DESTINATION, MOVE, 1, VM,
                                        MACHINE_DESTINATION_COMPLETED, "completed");

    m->created_us = 1000000; /* the one in the history has no time, and so counts as older */
    remember(MOVE_2, 2, VM, "vm-a", "failed");
    _cleanup_(json_putp) struct json_object *here = ask("migration", "{\"instance\":\"vm-a\"}");
    UNIT_STR(json_get_string(here, "uuid", NULL), MOVE);
    remember_at(MOVE_2, 2, VM, "vm-a", "failed", "1970-01-01T00:00:02.000000");
    _cleanup_(json_putp) struct json_object *later = ask("migration", "{\"instance\":\"vm-a\"}");
    UNIT_STR(json_get_string(later, "uuid", NULL), MOVE_2);
    _cleanup_(json_putp) struct json_object *named = ask("migration", "{\"migration\":1}");
    UNIT_STR(json_get_string(named, "uuid", NULL), MOVE);
    m->state = MACHINE_DESTINATION_PREPARED;
    _cleanup_(json_putp) struct json_object *under_way =
        ask("migration", "{\"instance\":\"vm-a\"}");
    UNIT_STR(json_get_string(under_way, "uuid", NULL), MOVE);
}

UNIT_TEST(one_migration, "a migration is found by number, uuid, instance, or as the one under way")
{
    static const char *const ways[] = {"{\"migration\":1}", "{\"migration\":\"" MOVE "\"}",
                                       "{\"instance\":\"vm-a\"}", "{\"instance\":\"" VM "\"}",
                                       NULL};

    remember(MOVE_2, 2, OTHER, "vm-b", "completed");
    add_migration(MIGRATION_SOURCE, MOVE, 1, VM, MACHINE_SOURCE_RUNNING, "running");
    for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
        _cleanup_(json_putp) struct json_object *o = ask("migration", ways[i]);
        UNIT_STR(json_get_string(o, "uuid", NULL), MOVE);
        UNIT_STR(json_get_string(o, "status", NULL), "running");
    }
    _cleanup_(json_putp) struct json_object *old = ask("migration", "{\"instance\":\"vm-b\"}");
    UNIT_STR(json_get_string(old, "status", NULL), "completed");
    add_migration(MIGRATION_SOURCE, UNKNOWN, 3, OTHER, MACHINE_SOURCE_QUEUED, "queued");
    refused("migration", NULL, ERR_USAGE, "2 migrations are under way");
}

UNIT_TEST(steered, "abort and set act on the source's migration and give it back")
{
    add_running();
    _cleanup_(json_putp) struct json_object *set =
        ask("set", "{\"settings\":{\"downtime_ms\":77,\"bandwidth_mib\":5}}");
    _cleanup_(json_putp) struct json_object *aborted = ask("abort", "{\"migration\":1}");

    UNIT_EQ(json_get_int(set, "bandwidth_mib", 0), 5);
    UNIT_EQ(agent.migrations->settings.downtime_ms, 77);
    UNIT_EQ(json_get_int(json_get(aborted, "migration"), "id", 0), 1);
    UNIT_TRUE(agent.migrations->abort_requested);
    refused("set", "{\"migration\":1,\"settings\":{\"downtime_ms\":1}}", ERR_INVALID,
            "downtime_ms is 1");
    refused("force-complete", "{\"migration\":1}", ERR_MIGRATION_STATE, "is being aborted");
}

UNIT_TEST(steered_there, "a migration that comes here is steered at its source, which is named")
{
    add_migration(MIGRATION_DESTINATION, MOVE, 1, VM, MACHINE_DESTINATION_PREPARED, "preparing");
    refused("abort", NULL, ERR_MIGRATION_STATE, "its source hostb");
    refused("set", "{\"migration\":1,\"settings\":{\"downtime_ms\":50}}", ERR_MIGRATION_STATE,
            "its source hostb");
}

/* ---- over the bus ---- */

static struct json_object *sent(size_t i)
{
    for (int n = 0; n < TURNS_MAX && fake_bus.sent_count <= i; n++)
        turn();
    UNIT_TRUE(fake_bus.sent_count > i);
    return fake_bus.sent_count > i ? fake_bus.sent[i].inner : NULL;
}

/* The other side's answer to the n-th published call. Consumes the result; failure is JSON text or NULL. */
static void answer(size_t i, struct json_object *result, const char *failure)
{
    _cleanup_(json_putp) struct json_object *reply = json_object_new_object();

    json_add_string(reply, "_msg_id", json_get_string(sent(i), "_msg_id", NULL));
    json_add_string(reply, "_unique_id", UNKNOWN);
    json_add(reply, "result", result);
    json_add_string(reply, "failure", failure);
    json_add_bool(reply, "ending", true);
    fake_bus_tell(i, BUS_CONFIRMED);
    fake_bus_deliver(reply, true, false);
}

#define NOT_FOUND                                                                                  \
    "{\"class\":\"InstanceNotFound\",\"module\":\"nova.exception\",\"message\":\"vm-z is not "     \
    "here\",\"tb\":[],\"args\":[],\"kwargs\":{}}"

UNIT_TEST(relayed, "a command for another host goes over the bus, and its answer comes back")
{
    int fd = client_new();

    say(fd, "{\"id\":4,\"command\":\"show\",\"args\":{\"instance\":\"vm-z\"},\"host\":\"hostb\"}\n"
            "{\"id\":5,\"command\":\"list\",\"host\":\"hostb\"}\n");
    struct json_object *call = sent(0);
    UNIT_STR(fake_bus.sent[0].routing_key, "compute.hostb");
    UNIT_STR(json_get_string(call, "method", NULL), "control");
    UNIT_STR(json_get_string(call, "namespace", NULL), "computed");
    UNIT_STR(json_get_string(call, "_context_project_id", NULL), "lab");
    UNIT_TRUE(json_get_bool(call, "_context_is_admin", false));
    struct json_object *args = json_get(call, "args");
    UNIT_STR(json_get_string(args, "command", NULL), "show");
    UNIT_STR(json_get_string(json_get(args, "args"), "instance", NULL), "vm-z");
    UNIT_EQ(json_object_object_length(json_get(json_get(sent(1), "args"), "args")), 0);

    answer(1, parse("{\"instances\":[]}"), NULL);
    _cleanup_(json_putp) struct json_object *good = hear(fd);
    UNIT_EQ(json_get_int(good, "id", 0), 5);
    UNIT_TRUE(json_has(json_get(good, "result"), "instances"));
    answer(0, NULL, NOT_FOUND);
    _cleanup_(json_putp) struct json_object *bad = hear(fd);
    struct json_object *error = json_get(bad, "error");
    UNIT_EQ(json_get_int(bad, "id", 0), 4);
    UNIT_STR(json_get_string(error, "code", NULL), "NO_INSTANCE");
    UNIT_STR(json_get_string(error, "class", NULL), "InstanceNotFound");
    UNIT_HAS(json_get_string(error, "text", NULL), "hostb");
    UNIT_HAS(json_get_string(error, "text", NULL), "vm-z is not here");
    (void)close(fd);
}

UNIT_TEST(relayed_nowhere, "our own name is no relay, and what is no host name goes nowhere")
{
    _cleanup_(json_putp) struct json_object *own = ask_host("hosta", "stats", NULL);
    _cleanup_(json_putp) struct json_object *hostile = ask_host("host b;rm", "stats", NULL);

    UNIT_TRUE(json_has(own, "result"));
    UNIT_STR(json_get_string(json_get(hostile, "error"), "code", NULL), "INVALID");
    UNIT_EQ(fake_bus.sent_count, 0);
}

#define REMOTE_STATS                                                                               \
    "{\"method\":\"control\",\"namespace\":\"computed\",\"version\":\"1.0\","                      \
    "\"args\":{\"command\":\"log-level\",\"args\":{}},\"_unique_id\":\"u1\",\"_msg_id\":\"m1\","   \
    "\"_reply_q\":\"reply_q1\",\"_timeout\":null}"

UNIT_TEST(served, "a command that another host relays is answered over the bus")
{
    _cleanup_(json_putp) struct json_object *call = parse(REMOTE_STATS);

    fake_bus_deliver(call, false, false);
    UNIT_STR(fake_bus.sent[0].routing_key, "reply_q1");
    UNIT_TRUE(json_has(json_get(sent(0), "result"), "levels"));
}

UNIT_TEST(served_not, "with allow_remote_commands off no other host's command is run")
{
    _cleanup_(json_putp) struct json_object *call = parse(REMOTE_STATS);

    close_agent();
    open_agent("false");
    fake_bus_deliver(call, false, false);
    UNIT_HAS(json_get_string(sent(0), "failure", NULL), "Forbidden");
    UNIT_HAS(json_get_string(sent(0), "failure", NULL), "allow_remote_commands");
    UNIT_TRUE(json_get(sent(0), "result") == NULL);
}

/* ---- migrate ---- */

UNIT_TEST(migrate_refused, "what cannot be moved is refused before anybody else hears of it")
{
    add_migration(MIGRATION_SOURCE, MOVE, 1, VM, MACHINE_SOURCE_RUNNING, "running");
    refused("migrate", "{\"instance\":\"vm-a\",\"dest\":\"hostb\"}", ERR_INSTANCE_STATE,
            "being migrated to hostb already");
    virt_fake_add(agent.virt, OTHER, "vm-b", NULL, VIRT_STATE_SHUTOFF);
    refused("migrate", "{\"instance\":\"vm-b\",\"dest\":\"hostb\"}", ERR_INSTANCE_STATE,
            "vm-b is shutoff");
    agent.draining = true;
    refused("migrate", "{\"instance\":\"vm-a\",\"dest\":\"hostb\"}", ERR_MIGRATION, "is stopping");
    UNIT_EQ(fake_bus.sent_count, 0);
}

static struct json_object *member(struct json_object *o, const char *field)
{
    return json_get(json_get(o, "nova_object.data"), field);
}

UNIT_TEST(migrate_failed, "the destination's refusal is the answer, and the history has it")
{
    int fd = client_new();

    say(fd, "{\"id\":1,\"command\":\"migrate\",\"args\":{\"instance\":\"vm-a\",\"dest\":\"hostb\","
            "\"block_migration\":null,\"disk_over_commit\":null,"
            "\"settings\":{\"downtime_ms\":90}}}\n");
    struct json_object *args = json_get(sent(0), "args");
    UNIT_STR(fake_bus.sent[0].routing_key, "compute.hostb");
    UNIT_STR(json_get_string(sent(0), "method", NULL), "check_can_live_migrate_destination");
    UNIT_TRUE(json_has(args, "block_migration") && !json_get(args, "block_migration"));
    struct json_object *flavor = member(json_get(args, "instance"), "flavor");
    UNIT_STR(json_get_string(member(flavor, "extra_specs"), "computed:downtime_ms", NULL), "90");

    answer(0, NULL,
           "{\"class\":\"MigrationPreCheckError\",\"module\":\"nova.exception\",\"message\":"
           "\"Migration pre-check error: too small\",\"tb\":[],\"args\":[],\"kwargs\":{}}");
    _cleanup_(json_putp) struct json_object *reply = hear(fd);
    UNIT_STR(json_get_string(json_get(reply, "error"), "code", NULL), "PRECHECK");
    UNIT_HAS(json_get_string(json_get(reply, "error"), "text", NULL), "too small");
    (void)close(fd);
    _cleanup_(json_putp) struct json_object *o = ask("migrations", "{\"status\":\"failed\"}");
    UNIT_EQ(length(o, "migrations"), 1);
    UNIT_HAS(json_get_string(item(o, "migrations", 0), "message", NULL), "too small");
}

UNIT_TEST(migrate_started, "a migration that both hosts accept is told with its number")
{
    int fd = client_new();
    _cleanup_(migrate_data_freep) struct migrate_data *data = migrate_data_new();

    say(fd, "{\"id\":1,\"command\":\"migrate\",\"args\":{\"instance\":\"vm-a\",\"dest\":\"hostb\","
            "\"block_migration\":true}}\n");
    UNIT_TRUE(json_object_get_boolean(json_get(json_get(sent(0), "args"), "block_migration")));
    migrate_data_set_block_migration(data, true);
    answer(0, migrate_data_to_json(data), NULL);
    UNIT_STR(json_get_string(sent(1), "method", NULL), "live_migration");
    UNIT_HAS(fake_bus.sent[1].routing_key, ".hosta");
    fake_bus_tell(1, BUS_CONFIRMED);
    _cleanup_(json_putp) struct json_object *reply = hear(fd);
    struct json_object *m = json_get(reply, "result");
    UNIT_TRUE(json_get_int(m, "id", 0) > 0);
    UNIT_STR(json_get_string(m, "name", NULL), "vm-a");
    UNIT_STR(json_get_string(m, "source", NULL), "hosta");
    UNIT_STR(json_get_string(m, "dest", NULL), "hostb");
    UNIT_STR(json_get_string(m, "status", NULL), "accepted");
    (void)close(fd);
}
