/* SPDX-License-Identifier: Apache-2.0 */
/* computectl as a whole, against an agent that answers from a list. */
#include "tests/unit/unit.h"

#include <pthread.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "ctl/ctl.h"
#include "lib/json.h"

/* --- the agent of the test: one answer for each request, in order ------------------------------ */

enum { ANSWERS_MAX = 16, REQUESTS_SIZE = 4096 };
#define CLOSE                                                                                      \
    "close" /* instead of an answer: the connection is closed, the next request comes on a new one */

static struct {
    int fd;
    pthread_t thread;
    char *path;
    const char *answers[ANSWERS_MAX + 1]; /* %d is the id; NULL ends: the connection is closed */
    char requests[REQUESTS_SIZE];         /* what came in, "command args" joined by ";" */
} agent;

static void note(const struct control_request *request)
{
    _cleanup_(str_freep) char *args = json_text(request->args);
    size_t used = strlen(agent.requests);
    (void)snprintf(agent.requests + used, sizeof(agent.requests) - used, "%s%s%s%s %s",
                   used ? ";" : "", request->host, *request->host ? ":" : "", request->command,
                   args);
}

/* Answers one request; false when the list has ended. */
static bool answer(int fd, struct json_object *message, size_t *next)
{
    struct control_request request = {0};
    const char *text = agent.answers[*next];

    if (control_request_parse(message, &request, NULL) == 0)
        note(&request);
    if (text && strcmp(text, CLOSE) == 0) {
        ++*next;
        text = NULL;
    }
    if (text) {
        const char *place = strstr(text, "%d");
        _cleanup_(str_freep) char *line = place
                                              ? text_format("%.*s%lld%s\n", (int)(place - text),
                                                            text, (long long)request.id, place + 2)
                                              : text_format("%s\n", text);
        (void)send(fd, line, strlen(line), MSG_NOSIGNAL);
        ++*next;
    }
    control_request_clear(&request);
    return text != NULL;
}

static void serve(int fd, size_t *next)
{
    struct control_buffer buffer = {.limit = CONTROL_REQUEST_MAX};
    char bytes[4096];

    for (ssize_t n; (n = recv(fd, bytes, sizeof(bytes), 0)) > 0;) {
        struct json_object *message = NULL;
        if (control_buffer_add(&buffer, bytes, (size_t)n, NULL) < 0)
            break;
        int found = control_buffer_next(&buffer, &message, NULL);
        if (found < 0)
            break;
        bool more = !found || answer(fd, message, next);
        json_object_put(message);
        if (!more)
            break;
    }
    control_buffer_free(&buffer);
}

static void *agent_thread(void *aux)
{
    size_t next = 0;

    (void)aux;
    for (int fd; (fd = accept(agent.fd, NULL, NULL)) >= 0;) {
        serve(fd, &next);
        close(fd);
    }
    return NULL;
}

static void agent_start(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    agent.path = text_format("%s/control", unit_directory());
    agent.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", agent.path);
    UNIT_EQ(bind(agent.fd, (struct sockaddr *)&address, sizeof(address)), 0);
    UNIT_EQ(listen(agent.fd, 4), 0);
    agent.requests[0] = '\0';
    UNIT_EQ(pthread_create(&agent.thread, NULL, agent_thread, NULL), 0);
}

static void agent_stop(void)
{
    (void)shutdown(agent.fd, SHUT_RDWR);
    (void)pthread_join(agent.thread, NULL);
    close(agent.fd);
    (void)unlink(agent.path);
    free(agent.path);
}

/* --- one run ----------------------------------------------------------------------------------- */

static char *out_text, *err_text;

static void clear(void)
{
    free(out_text);
    free(err_text);
    out_text = err_text = NULL;
}

UNIT_FIXTURE(NULL, clear)

/* Runs "computectl <line>" with the socket given; words are divided by single blanks. */
static int run_with(const char *socket_path, const char *line)
{
    size_t out_size, err_size;
    _cleanup_(str_freep) char *whole = text_format("computectl --socket %s %s", socket_path, line);
    char **argv = text_split(whole, ' ');

    clear();
    FILE *out = open_memstream(&out_text, &out_size), *err = open_memstream(&err_text, &err_size);
    int status = ctl_main((int)text_vector_length(argv), argv, out, err);
    (void)fclose(out);
    (void)fclose(err);
    text_vector_free(argv);
    return status;
}

/* The same with an agent that gives these answers. */
static int run(const char *line, const char *const *answers)
{
    size_t count = 0;

    for (; answers && answers[count]; count++)
        agent.answers[count] = answers[count];
    agent.answers[count] = NULL;
    agent_start();
    int status = run_with(agent.path, line);
    agent_stop();
    return status;
}
#define RUN(line, ...) run(line, (const char *const[]){__VA_ARGS__, NULL})

#define RUNNING                                                                                    \
    "{\"id\":%d,\"result\":{\"id\":12,\"name\":\"guest1\",\"source\":\"hosta\",\"dest\":"          \
    "\"hostb\",\"status\":\"running\"}}"
#define COMPLETED                                                                                  \
    "{\"id\":%d,\"result\":{\"id\":12,\"name\":\"guest1\",\"source\":\"hosta\",\"dest\":"          \
    "\"hostb\",\"status\":\"completed\","                                                          \
    "\"result\":{\"total_time_ms\":900,\"downtime_ms\":41,\"switchover_announced\":false,"         \
    "\"actions\":[]}}}"
#define FAILED                                                                                     \
    "{\"id\":%d,\"result\":{\"id\":12,\"name\":\"guest1\",\"status\":\"failed\",\"message\":"      \
    "\"the disk is full\"}}"

/* --- tests ------------------------------------------------------------------------------------- */

UNIT_TEST(table_sound, "each row of the command table is complete and its names are told apart")
{
    for (const struct ctl_command *c = ctl_commands; c->name; c++) {
        unit_check(c->run && c->help[0] && text_ends_with(c->help, "."), __LINE__, __FILE__,
                   "%s is not complete", c->name);
        unit_check(!*c->more || text_ends_with(c->more, "."), __LINE__, __FILE__, "%s: more",
                   c->name);
        for (const struct ctl_command *d = c + 1; d->name; d++)
            UNIT_TRUE(strcmp(c->name, d->name) != 0);
        UNIT_EQ(c->options & ctl_common_options(), 0);
    }
    UNIT_TRUE(CTL_OPTION_COUNT <= 32);
}

UNIT_TEST(documents, "help, man page and completion name every command, option and setting")
{
    struct text_buffer man = TEXT_BUFFER_INIT, completion = TEXT_BUFFER_INIT,
                       help = TEXT_BUFFER_INIT;

    ctl_man(&man, "0");
    ctl_completion(&completion);
    ctl_help(&help, NULL);
    for (const struct ctl_command *c = ctl_commands; c->name; c++) {
        _cleanup_(str_freep) char *quoted = text_format("'%s')", c->name);
        struct text_buffer own = TEXT_BUFFER_INIT;
        UNIT_HAS(completion.data, quoted);
        UNIT_HAS(help.data, c->name);
        UNIT_HAS(man.data, c->help[0] ? "\n" : "");
        ctl_help(&own, c);
        UNIT_HAS(own.data, c->help);
        text_buffer_free(&own);
    }
    for (const struct ctl_setting *s = ctl_settings; s->word; s++) {
        _cleanup_(str_freep) char *word = text_format(" %s=", s->word),
                                  *entry = text_format("\\fB%s\\fR=VALUE", s->word);
        UNIT_HAS(completion.data, word);
        UNIT_HAS(man.data, entry);
    }
    for (int i = 0; ctl_options[i].name; i++) {
        _cleanup_(str_freep) char *word = text_format(" --%s", ctl_options[i].name);
        UNIT_HAS(completion.data, word);
    }
    text_buffer_free(&man);
    text_buffer_free(&completion);
    text_buffer_free(&help);
}

UNIT_TEST(usage_errors,
          "a wrong command line says what is wrong and exits with 64, without asking the agent")
{
    static const struct {
        const char *line, *text;
    } bad[] = {
        {"", "is not a command"},
        {"dance", "\"dance\" is not a command"},
        {"conf dance", "\"conf dance\" is not a command"},
        {"migrate", "an argument is missing: computectl migrate INSTANCE"},
        {"list x", "\"x\" is one argument too many"},
        {"list --to hostb", "list takes no --to"},
        {"list --cheese", "--cheese is not an option"},
        {"list -x", "-x is not an option"},
        {"list --json=yes", "--json takes no value"},
        {"migrate guest1 --to", "--to needs a value: HOST"},
        {"migrate guest1 --block --shared", "exclude each other"},
        {"migrate guest1 downtime", "it must be written SETTING=VALUE"},
        {"migrate guest1 cheese=1", "\"cheese\" is not a setting"},
        {"migrate guest1 action=stepped", "action=stepped: it must be abort or force_complete"},
        {"migrate guest1 policy=abort", "policy=abort: it must be adaptive or stepped"},
        {"set guest1", "a setting is missing"},
        {"set guest1 downtime=19", "it must be an integer from 20 to 2000000"},
        {"set guest1 downtime=fast", "it must be an integer from 20 to 2000000"},
        {"set guest1 action=explode", "it must be abort or force_complete"},
        {"set guest1 post_copy=perhaps", "it must be true or false"},
        {"abort guest1 --migration 5", "exclude each other"},
        {"migrations --limit 0", "--limit 0: it must be"},
        {"watch 5 --interval 0", "--interval 0: it must be"},
        {"list --timeout never", "--timeout never: it must be"},
        {"conf get libvirt.live_migration_downtme",
         "did you mean libvirt.live_migration_downtime?"},
        {"conf list cheese", "is not a group"},
        {"conf diff --host hostb", "--host makes no sense"},
        {"log-level rpc loud", "\"loud\" is not a level"},
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        UNIT_EQ(run_with("/nonexistent/control", bad[i].line), 64);
        UNIT_HAS(err_text, bad[i].text);
        UNIT_HAS(err_text, "(USAGE)");
        UNIT_STR(out_text, "");
    }
}

UNIT_TEST(no_agent, "without an agent the error says so and the status is 69")
{
    UNIT_EQ(run_with("/nonexistent/control", "list"), 69);
    UNIT_STR(err_text, "computectl: no agent listens at /nonexistent/control; is computed running? "
                       "(UNREACHABLE)\n");
}

UNIT_TEST(help_and_version, "help and version need no agent")
{
    UNIT_EQ(run_with("/nonexistent/control", "--help"), 0);
    UNIT_HAS(out_text, "force-complete");
    UNIT_EQ(run_with("/nonexistent/control", "migrate --help"), 0);
    UNIT_HAS(out_text, "Usage: computectl migrate");
    UNIT_HAS(out_text, "bandwidth");
    UNIT_EQ(run_with("/nonexistent/control", "--version"), 0);
    UNIT_HAS(out_text, "computectl ");
}

UNIT_TEST(list_table, "list shows the instances as a table")
{
    UNIT_EQ(RUN("list", "{\"id\":%d,\"result\":{\"instances\":[{\"uuid\":\"1b0e\",\"name\":"
                        "\"guest1\",\"state\":\"running\","
                        "\"memory_mb\":512,\"vcpus\":2,\"task\":null}]}}"),
            0);
    UNIT_STR(out_text, "UUID  NAME    STATE     MEMORY  VCPUS  TASK\n"
                       "1b0e  guest1  running  512 MiB      2  -\n");
    UNIT_STR(agent.requests, "list {}");
}

UNIT_TEST(json_passthrough, "--json prints the agent's answer as it is, one line")
{
    UNIT_EQ(
        RUN("list --json", "{\"id\":%d,\"result\":{\"instances\":[],\"new\":{\"x\":[1,null]}}}"),
        0);
    UNIT_STR(out_text, "{\"instances\":[],\"new\":{\"x\":[1,null]}}\n");
    UNIT_EQ(RUN("status --json --methods", "{\"id\":%d,\"result\":{\"agent\":{}}}"), 0);
    UNIT_STR(out_text, "{\"agent\":{}}\n");
    UNIT_STR(agent.requests, "status {\"methods\":true}");
}

UNIT_TEST(error_codes,
          "an error of the agent gives its text, its code and the exit status of the table")
{
    UNIT_EQ(RUN("show guest9", "{\"id\":%d,\"error\":{\"code\":\"NO_INSTANCE\",\"class\":"
                               "\"InstanceNotFound\",\"text\":\"no instance guest9\"}}"),
            66);
    UNIT_STR(err_text, "computectl: no instance guest9 (NO_INSTANCE)\n");
    UNIT_EQ(RUN("abort 7", "{\"id\":%d,\"error\":{\"code\":\"MIGRATION_STATE\",\"class\":\"\","
                           "\"text\":\"has ended\"}}"),
            75);
    UNIT_EQ(
        RUN("list --json",
            "{\"id\":%d,\"error\":{\"code\":\"DENIED\",\"class\":\"Forbidden\",\"text\":\"no\"}}"),
        77);
    UNIT_STR(err_text, "{\"code\":\"DENIED\",\"class\":\"Forbidden\",\"text\":\"no\"}\n");
}

UNIT_TEST(hostile_answers,
          "answers that are no answers are refused, and nothing of them reaches the terminal raw")
{
    UNIT_EQ(RUN("list", "nonsense"), 65);
    UNIT_EQ(RUN("list", "[]"), 65);
    UNIT_EQ(RUN("list", "{\"id\":999,\"result\":{}}"), 65);
    UNIT_EQ(RUN("list", "{\"id\":%d}"), 65);
    UNIT_EQ(run("list", NULL), 69);
    UNIT_HAS(err_text, "closed the connection");
    UNIT_EQ(RUN("list", "{\"id\":%d,\"result\":{\"instances\":\"none\"}}"), 0);
    UNIT_EQ(RUN("list", "{\"id\":%d,\"result\":[5]}"), 0);
    UNIT_EQ(RUN("list", "{\"id\":%d,\"error\":{\"code\":\"x\",\"text\":\"\\u001b[2J\"}}"), 69);
    UNIT_TRUE(!strchr(err_text, '\x1b'));
    UNIT_EQ(
        RUN("show x", "{\"id\":%d,\"result\":{\"\\u001b[2J\":\"\\u001b[31m\",\"migration\":5}}"),
        0);
    UNIT_TRUE(!strchr(out_text, '\x1b'));
    UNIT_EQ(RUN("watch 5", "{\"id\":%d,\"result\":[]}"), 65);
}

UNIT_TEST(timeline_shown,
          "show --timeline asks for it and prints it below, also of a guest that has left")
{
    UNIT_EQ(
        RUN("show guest1 --timeline",
            "{\"id\":%d,\"result\":{\"migration\":{\"id\":12,\"name\":\"guest1\",\"status\":"
            "\"completed\",\"timeline\":{\"stamps\":[{\"text\":\"guest paused\",\"host\":\"hosta\","
            "\"since_start_ms\":812.25,\"since_pause_ms\":0}]}}}}"),
        0);
    UNIT_STR(agent.requests, "show {\"instance\":\"guest1\",\"timeline\":true}");
    UNIT_HAS(out_text, "guest1");
    UNIT_HAS(out_text, "+812.2");
    UNIT_HAS(out_text, "guest paused");
}

UNIT_TEST(reported,
          "report writes the page to the standard output or to a new file, or the answer as JSON")
{
    _cleanup_(str_freep) char *file = text_format("%s/report.html", unit_directory());
    _cleanup_(str_freep) char *line = text_format("report 12 --output %s", file);
    UNIT_EQ(RUN("report guest1", COMPLETED), 0);
    UNIT_STR(agent.requests, "migration {\"instance\":\"guest1\",\"story\":true}");
    UNIT_HAS(out_text, "<!DOCTYPE html>");
    UNIT_HAS(out_text, "moved to hostb in 900 ms and stood still for 41.0 ms");
    _cleanup_(str_freep) char *page = text_dup(out_text);
    UNIT_EQ(RUN(line, COMPLETED), 0);
    UNIT_STR(out_text, "");
    _cleanup_(str_freep) char *written = unit_read_file(file, NULL);
    UNIT_EQ(strlen(written) > 4000, true);
    UNIT_EQ(RUN(line, COMPLETED), 71); /* never over another file */
    UNIT_HAS(err_text, "report.html");
    UNIT_EQ(RUN("report --json 12", COMPLETED), 0);
    UNIT_HAS(out_text, "\"status\":\"completed\"");
}

UNIT_TEST(huge_answer, "an endless answer is cut off")
{
    char *huge = mem_new(CONTROL_REPLY_MAX + 2);
    memset(huge, 'x', CONTROL_REPLY_MAX + 1);
    UNIT_EQ(RUN("list", huge), 65);
    UNIT_HAS(err_text, "longer than");
    free(huge);
}

UNIT_TEST(migrate_request, "migrate sends what the options say, unknown ones as null")
{
    UNIT_EQ(RUN("migrate guest1", RUNNING), 0);
    UNIT_STR(agent.requests,
             "migrate {\"instance\":\"guest1\",\"dest\":null,\"block_migration\":null,"
             "\"disk_over_commit\":null,\"settings\":{}}");
    UNIT_STR(out_text,
             "migration 12 of guest1 to hostb has started; computectl watch 12 shows it\n");
    UNIT_EQ(RUN("migrate guest1 --to hostb --block --disk-over-commit downtime=300 timeout=0 "
                "action=force_complete "
                "auto_converge=no post_copy=true bandwidth=100 --json",
                RUNNING),
            0);
    UNIT_STR(agent.requests, "migrate "
                             "{\"instance\":\"guest1\",\"dest\":\"hostb\",\"block_migration\":true,"
                             "\"disk_over_commit\":true,"
                             "\"settings\":{\"downtime_ms\":300,\"completion_timeout_s\":0,"
                             "\"timeout_action\":\"force_complete\","
                             "\"auto_converge\":false,\"post_copy\":true,\"bandwidth_mib\":100}}");
    UNIT_EQ(RUN("migrate guest1 --shared --host hostc", RUNNING), 0);
    UNIT_HAS(agent.requests, "hostc:migrate ");
    UNIT_HAS(agent.requests, "\"block_migration\":false");
}

UNIT_TEST(
    migrate_watch,
    "migrate --watch follows to the end, writes lines and a result, and exits with the outcome")
{
    UNIT_EQ(RUN("migrate guest1 --watch --interval 0.05", RUNNING, RUNNING, COMPLETED), 0);
    UNIT_STR(
        agent.requests,
        "migrate "
        "{\"instance\":\"guest1\",\"dest\":null,\"block_migration\":null,\"disk_over_commit\":null,"
        "\"settings\":{}};migration {\"migration\":12};migration {\"migration\":12}");
    UNIT_HAS(out_text, "guest1 running");
    UNIT_HAS(
        out_text,
        "migration 12 of guest1 from hosta to hostb: completed\n  total time          900 ms\n");
    UNIT_HAS(out_text, "not announced");
    UNIT_TRUE(!strchr(out_text, '\x1b'));
    UNIT_EQ(RUN("migrate guest1 --wait --interval 0.05", RUNNING, RUNNING, FAILED), 74);
    UNIT_STR(out_text, "");
    UNIT_HAS(err_text, "status failed: the disk is full (MIGRATION)");
}

UNIT_TEST(watch_only_one, "watch without a name follows the one migration that runs")
{
    UNIT_EQ(RUN("watch --interval 0.05",
                "{\"id\":%d,\"result\":{\"migrations\":[{\"id\":13,\"status\":\"completed\"},{"
                "\"id\":12,\"status\":\"running\"}]}}",
                COMPLETED),
            0);
    UNIT_STR(agent.requests, "migrations {};migration {\"migration\":12}");
    UNIT_EQ(RUN("watch", "{\"id\":%d,\"result\":{\"migrations\":[]}}"), 66);
    UNIT_EQ(RUN("abort", "{\"id\":%d,\"result\":{\"migrations\":[{\"id\":1,\"status\":\"running\"},"
                         "{\"id\":2,\"status\":\"queued\"}]}}"),
            64);
    UNIT_HAS(err_text, "2 migrations are running");
}

UNIT_TEST(watch_by_name, "a name is pinned to its migration, so that a later one is not followed")
{
    UNIT_EQ(RUN("watch guest1 --interval 0.05", RUNNING, RUNNING, COMPLETED), 0);
    UNIT_STR(agent.requests, "migration {\"instance\":\"guest1\"};migration "
                             "{\"migration\":12};migration {\"migration\":12}");
}

UNIT_TEST(watch_json, "watch --json prints one value for each look")
{
    UNIT_EQ(RUN("watch 12 --json --interval 0.05", RUNNING, COMPLETED), 0);
    char **lines = text_split(out_text, '\n');
    UNIT_EQ(text_vector_length(lines), 3);
    UNIT_HAS(lines[0], "\"status\":\"running\"");
    UNIT_HAS(lines[1], "\"status\":\"completed\"");
    text_vector_free(lines);
}

UNIT_TEST(set_and_abort,
          "set, abort and force-complete name the migration by number, UUID or instance")
{
    UNIT_EQ(RUN("set 12 downtime=1000", "{\"id\":%d,\"result\":{\"id\":12,\"name\":\"guest1\","
                                        "\"downtime_limit_ms\":1000,\"auto_converge\":true}}"),
            0);
    UNIT_STR(agent.requests, "set {\"migration\":12,\"settings\":{\"downtime_ms\":1000}}");
    UNIT_HAS(out_text, "downtime, ms        1000\n");
    UNIT_HAS(out_text, "auto_converge       yes\n");
    UNIT_EQ(RUN("abort guest1", "{\"id\":%d,\"result\":{\"migration\":{\"id\":12,\"name\":"
                                "\"guest1\",\"status\":\"running\"}}}"),
            0);
    UNIT_STR(agent.requests, "abort {\"instance\":\"guest1\"}");
    UNIT_STR(out_text, "migration 12 of guest1 is being aborted; its status is running\n");
    UNIT_EQ(RUN("force-complete --migration 7f3c-x", "{\"id\":%d,\"result\":{\"migration\":{}}}"),
            0);
    UNIT_STR(agent.requests, "force-complete {\"migration\":\"7f3c-x\"}");
}

UNIT_TEST(conf_of_agent, "conf get, list and reload show what the agent says")
{
    UNIT_EQ(RUN("conf get my_ip",
                "{\"id\":%d,\"result\":{\"name\":\"DEFAULT.my_ip\",\"value\":\"192.0.2.7\"}}"),
            0);
    UNIT_STR(out_text, "192.0.2.7\n");
    UNIT_STR(agent.requests, "conf-get {\"name\":\"DEFAULT.my_ip\"}");
    UNIT_EQ(RUN("conf list libvirt",
                "{\"id\":%d,\"result\":{\"options\":[{\"name\":\"libvirt.virt_type\",\"value\":"
                "\"qemu\",\"source\":\"a.conf:2\",\"reload\":false},"
                "{\"name\":\"DEFAULT.debug\",\"value\":\"true\",\"source\":\"default\",\"reload\":"
                "true}]}}"),
            0);
    UNIT_STR(
        out_text,
        "OPTION             VALUE  FROM      RELOAD\nlibvirt.virt_type  qemu   a.conf:2  no\n");
    UNIT_EQ(RUN("conf reload", "{\"id\":%d,\"result\":{\"changed\":[\"DEFAULT.debug\"],\"needs_"
                               "restart\":[\"DEFAULT.host\"]}}"),
            0);
    UNIT_STR(out_text, "DEFAULT.debug has changed\nDEFAULT.host needs a restart of the agent\n");
    UNIT_EQ(RUN("conf reload", "{\"id\":%d,\"result\":{\"changed\":[],\"needs_restart\":[]}}"), 0);
    UNIT_STR(out_text, "nothing has changed\n");
}

static char *written(const char *name, const char *content, mode_t mode)
{
    char *file = text_format("%s/%s", unit_directory(), name);
    unit_write_file(file, content);
    (void)chmod(file, mode);
    return file;
}

UNIT_TEST(conf_check, "conf check works without an agent, tells all problems and exits with 78")
{
    _cleanup_(str_freep) char *bad =
        written("bad.yaml", "libvirt:\n  virt_type: xen\n  cheese: 1\n", 0600);
    _cleanup_(str_freep) char *good = written("good.yaml", "libvirt:\n  virt_type: qemu\n", 0600);
    _cleanup_(str_freep) char *line = text_format("conf check %s", bad),
                              *json = text_format("conf check --json %s", bad);
    _cleanup_(str_freep) char *fine = text_format("conf check --config-file %s", good);

    UNIT_EQ(run_with("/nonexistent/control", line), 78);
    UNIT_HAS(out_text, "bad.yaml:2: error: libvirt.virt_type: \"xen\" is not allowed");
    UNIT_HAS(out_text, "bad.yaml:3: error: libvirt.cheese is not an option");
    UNIT_HAS(out_text, "2 errors, 0 warnings");
    UNIT_EQ(run_with("/nonexistent/control", json), 78);
    UNIT_HAS(out_text, "\"errors\":2");
    UNIT_EQ(run_with("/nonexistent/control", fine), 0);
    UNIT_HAS(out_text, "0 errors, 0 warnings");
}

UNIT_TEST(conf_diff, "conf diff compares the files with the agent that runs, without secrets")
{
    _cleanup_(str_freep) char *file =
        written("diff.yaml",
                "libvirt:\n  virt_type: qemu\n  live_migration_downtime: 300\nDEFAULT:\n  "
                "transport_url: rabbit://u:hush@h/\n",
                0600);
    _cleanup_(str_freep) char *line = text_format("conf diff %s", file);
    _cleanup_(str_freep) char *json = text_format("conf diff --json %s", file);
    static const char options[] =
        "{\"id\":%d,\"result\":{\"options\":[{\"name\":\"libvirt.virt_type\",\"value\":\"kvm\"},"
        "{\"name\":\"libvirt.live_migration_downtime\",\"value\":\"300\"}]}}";

    UNIT_EQ(RUN(line, options), 0);
    UNIT_HAS(out_text, "libvirt.virt_type");
    UNIT_HAS(out_text, "on restart");
    UNIT_TRUE(!strstr(out_text, "libvirt.live_migration_downtime "));
    UNIT_TRUE(!strstr(out_text, "hush") && !strstr(out_text, "transport_url"));
    UNIT_EQ(RUN(json, options), 0);
    UNIT_HAS(
        out_text,
        "{\"name\":\"libvirt.virt_type\",\"running\":\"kvm\",\"files\":\"qemu\",\"reload\":false}");
}

UNIT_TEST(conf_import,
          "conf import writes only what differs, and secrets only into a file of its own")
{
    _cleanup_(str_freep) char *nova =
        written("nova.conf",
                "[DEFAULT]\ntransport_url = rabbit://u:hush@192.0.2.1/\nmy_ip = 192.0.2.7\n"
                "state_path = /srv\ninstances_path = $state_path/inst\ncompute_driver = x\n"
                "[libvirt]\nlive_migration_downtime = "
                "500\nvirt_type=qemu\n[net]\nphysical_interface_mappings=a:b,c:d\n",
                0644);
    _cleanup_(str_freep) char *output = text_format("%s/new.yaml", unit_directory());
    _cleanup_(str_freep) char *show = text_format("conf import %s", nova);
    _cleanup_(str_freep) char *write = text_format("conf import %s --output %s", nova, output);
    _cleanup_(str_freep) char *check = text_format("conf check %s", output);
    struct stat st;

    UNIT_EQ(run_with("/nonexistent/control", show), 0);
    UNIT_HAS(out_text, "\nDEFAULT:\n  my_ip: 192.0.2.7\n  # transport_url: left out, it is a "
                       "secret; use --output\n"
                       "  state_path: /srv\n  instances_path: $state_path/inst\n");
    UNIT_HAS(out_text, "  physical_interface_mappings: [a:b, c:d]\n");
    UNIT_HAS(out_text,
             "live_migration_completion_timeout: 800  # Nova's default; that of computed is 180\n");
    UNIT_HAS(out_text, "#   DEFAULT.compute_driver (line 6)\n");
    UNIT_TRUE(!strstr(out_text, "live_migration_downtime:") && !strstr(out_text, "hush"));
    (void)unlink(output);
    UNIT_EQ(run_with("/nonexistent/control", write), 0);
    _cleanup_(str_freep) char *content = unit_read_file(output, NULL);
    UNIT_HAS(content, "transport_url: ");
    UNIT_HAS(content, "hush");
    UNIT_EQ(stat(output, &st), 0);
    UNIT_EQ(st.st_mode & 0777, 0600);
    UNIT_EQ(run_with("/nonexistent/control", check), 0);
    UNIT_EQ(run_with("/nonexistent/control", write), 71);
}

UNIT_TEST(log_levels, "log-level tells modules and levels apart")
{
    static const char levels[] = "{\"id\":%d,\"result\":{\"levels\":{\"rpc\":\"debug\"}}}";

    UNIT_EQ(RUN("log-level", levels), 0);
    UNIT_STR(agent.requests, "log-level {}");
    UNIT_EQ(RUN("log-level rpc", levels), 0);
    UNIT_STR(agent.requests, "log-level {\"module\":\"rpc\"}");
    UNIT_EQ(RUN("log-level debug", levels), 0);
    UNIT_STR(agent.requests, "log-level {\"level\":\"debug\"}");
    UNIT_EQ(RUN("log-level rpc debug", levels), 0);
    UNIT_STR(agent.requests, "log-level {\"module\":\"rpc\",\"level\":\"debug\"}");
    UNIT_HAS(out_text, "rpc  debug");
}

UNIT_TEST(agent_restarts, "watch waits for an agent that goes away and comes back")
{
    UNIT_EQ(RUN("watch 12 --interval 0.05", RUNNING, CLOSE, CLOSE, COMPLETED), 0);
    UNIT_HAS(out_text, "from hosta to hostb: completed\n");
    UNIT_EQ(RUN("watch 12 --interval 0.05", CLOSE), 69);
}

/* ---- drain ---- */

#define DRAIN(state, counts, guests)                                                               \
    "{\"id\":%d,\"result\":{\"host\":\"hosta\",\"state\":\"" state "\",\"to\":null,\"undoing\":"   \
    "false,\"reason\":null,\"counts\":{" counts "},\"size_bytes\":1000,\"left_bytes\":500,"        \
    "\"moved_bytes\":1048576,\"elapsed_s\":65,\"time_left_s\":65,\"guests\":[" guests "]}}"
#define STAYS                                                                                      \
    "{\"name\":\"guest2\",\"memory_mb\":512,\"state\":\"stays\",\"at\":null,\"size_bytes\":100,"   \
    "\"left_bytes\":100,\"reason\":\"no room on hostb\"}"

UNIT_TEST(drain_request, "drain sends what the options say and shows the job")
{
    UNIT_EQ(RUN("drain --to hostb --order name --parallel 3 --disable",
                DRAIN("moving", "\"moving\":1,\"asked\":1,\"waiting\":2,\"moved\":1", STAYS)),
            0);
    UNIT_STR(agent.requests, "drain {\"dest\":\"hostb\",\"order\":\"name\",\"parallel\":3,"
                             "\"disable\":true}");
    UNIT_HAS(out_text, "drain of hosta to anywhere: moving, 00:01:05");
    UNIT_HAS(out_text, "1 moved, 2 moving, 2 waiting, 0 stay, 0 left alone; 1.0 MiB sent, time "
                       "left 00:01:05");
    UNIT_HAS(out_text, "no room on hostb");
    UNIT_EQ(RUN("drain --parallel none", DRAIN("moving", "", "")), 64);
}

UNIT_TEST(drain_waits, "drain --wait follows the job, and its status tells whether all have gone")
{
    UNIT_EQ(RUN("drain --wait --interval 0.05", DRAIN("starting", "", ""),
                DRAIN("moving", "\"moving\":1", ""), DRAIN("done", "\"moved\":1", "")),
            0);
    UNIT_STR(out_text, "");
    UNIT_HAS(agent.requests, ";drain-status {}");
    UNIT_EQ(RUN("drain --watch --interval 0.05", DRAIN("starting", "", ""),
                DRAIN("done", "\"moved\":1,\"stays\":1", STAYS)),
            74);
    UNIT_HAS(err_text, "1 guest(s) did not move");
    UNIT_HAS(out_text, "no room on hostb");
}

UNIT_TEST(drain_others, "drain status, stop and undo are commands of their own")
{
    UNIT_EQ(RUN("drain status", DRAIN("stopped", "", "")), 0);
    UNIT_STR(agent.requests, "drain-status {}");
    UNIT_EQ(RUN("drain stop", DRAIN("stopping", "", "")), 0);
    UNIT_STR(agent.requests, "drain-stop {}");
    UNIT_EQ(RUN("--host hostb drain undo --json", DRAIN("moving", "", "")), 0);
    UNIT_STR(agent.requests, "hostb:drain-undo {}");
    UNIT_HAS(out_text, "\"state\":\"moving\"");
}
