/* SPDX-License-Identifier: Apache-2.0 */
/*
 * computed: puts the rooms together, runs the loop, takes them apart again. Order matters at both ends:
 * signals are blocked before the first thread starts, the journal is open before a message can come, and
 * at the end messages stop before what they act on goes.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "agent/agent.h"
#include "agent/control.h"
#include "agent/drain.h"
#include "agent/host_pair.h"
#include "agent/measure_early.h"
#include "agent/image_manager.h"
#include "agent/instance_make.h"
#include "agent/migration.h"
#include "agent/node.h"
#include "agent/power_sync.h"
#include "agent/takeover.h"
#include "agent/operation.h"
#include "conf/load.h"
#include "conf/render.h"
#include "config.h"
#include "lib/clock.h"
#include "lib/fault.h"
#include "lib/json.h"
#include "lib/log.h"
#include "lib/text.h"
#include "virt/storage.h"

LOG_MODULE(main);

enum {
    LOCK_LOOK_US = 20000,
    LOCK_WAIT_US = 3000000,
    STOP_LOOK_US = 200000,
    STOP_WAIT_US = 3000000,
    MIGRATORS_MAX = 64,
    EXIT_CONFIG = 78,
    EXIT_USAGE_ERROR = 64,
};

struct process {
    struct agent agent;
    struct conf_sources sources;
    struct conf_report report; /* of the configuration's files */
    const char *fault_file;
    bool takeover_check; /* look, and do nothing else */
    int lock_fd;
    struct loop_timer *stop_timer, *watchdog_timer;
    int64_t stop_deadline_us;
    uint64_t watchdog_us;
};

/* ---- stopping ---- */

static unsigned unfinished(const struct agent *agent)
{
    unsigned n = 0;

    for (const struct migration *m = agent->migrations; m; m = m->next)
        if (!machine_state_is_final(m->state) && m->state != MACHINE_SOURCE_QUEUED &&
            m->state != MACHINE_SOURCE_PARKED && m->state != MACHINE_DESTINATION_PARKED)
            n++;
    return n;
}

static void look_whether_done(void *aux)
{
    struct process *p = aux;
    unsigned n = unfinished(&p->agent);

    if (n > 0 && clock_monotonic_us() < p->stop_deadline_us) {
        loop_timer_arm(p->stop_timer, STOP_LOOK_US);
        return;
    }
    if (n > 0)
        log_warning("%u migration(s) go on without the agent; the next start takes them over", n);
    loop_quit(p->agent.loop);
}

static void stop(void *aux, int signal_number)
{
    struct process *p = aux;
    struct agent *agent = &p->agent;

    if (agent->draining) {
        log_warning("asked again to stop: leaving at once");
        loop_quit(agent->loop);
        return;
    }
    log_info("stopping (%s): no new migrations, %u under way", strsignal(signal_number),
             unfinished(agent));
    (void)sd_notify(0, "STOPPING=1");
    agent->draining = true;
    rpc_drain(agent->rpc);
    p->stop_deadline_us =
        clock_monotonic_us() +
        conf_int(agent->conf, CONF_DEFAULT_graceful_shutdown_timeout) * USEC_PER_SEC;
    look_whether_done(p);
}

static void reload(void *aux, int signal_number)
{
    struct process *p = aux;
    _cleanup_(json_putp) struct json_object *report = NULL;
    struct err e = ERR_INIT;

    (void)signal_number;
    if (log_reopen(&e) < 0)
        log_err(LOG_LEVEL_WARNING, &e, "the log is not opened anew");
    e = ERR_INIT;
    if (agent_reload(&p->agent, &report, &e) < 0)
        log_err(LOG_LEVEL_ERROR, &e, "the configuration stays as it was");
    e = ERR_INIT;
    if (p->fault_file && fault_load(p->fault_file, &e) < 0)
        log_err(LOG_LEVEL_ERROR, &e, "the fault points stay as they were");
}

static void feed_watchdog(void *aux)
{
    struct process *p = aux;

    (void)sd_notify(0, "WATCHDOG=1");
    loop_timer_arm(p->watchdog_timer, (int64_t)(p->watchdog_us / 2));
}

/* ---- starting ---- */

static int make_directory(const char *path, struct err *e)
{
    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        return err_set_errno(e, ERR_SYSTEM, errno, "directory %s", path);
    return 0;
}

/* Two agents on one journal would undo each other's work. The lock of one that was killed lasts until the last of its
 * threads has left the kernel, which may be after its supervisor has seen it dead. */
static int take_lock(struct process *p, const char *directory, struct err *e)
{
    _cleanup_(str_freep) char *path = text_format("%s/lock", directory);
    int64_t give_up_us = clock_monotonic_us() + LOCK_WAIT_US;

    p->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (p->lock_fd < 0)
        return err_set_errno(e, ERR_SYSTEM, errno, "lock file %s", path);
    while (flock(p->lock_fd, LOCK_EX | LOCK_NB) < 0) {
        if (errno != EWOULDBLOCK && errno != EINTR)
            return err_set_errno(e, ERR_SYSTEM, errno, "lock file %s", path);
        if (clock_monotonic_us() > give_up_us)
            return err_set(e, ERR_SYSTEM, "another computed uses %s already", directory);
        (void)usleep(LOCK_LOOK_US);
    }
    return 0;
}

static int open_state(struct process *p, struct err *e)
{
    const char *directory = conf_string(p->agent.conf, CONF_agent_state_directory);
    _cleanup_(str_freep) char *journal = text_format("%s/journal", directory);

    if (make_directory(directory, e) < 0 || take_lock(p, directory, e) < 0)
        return -1;
    return journal_open(&p->agent.journal, journal, e);
}

static size_t count_rows(const struct undo_handler *rows)
{
    size_t n = 0;

    while (rows[n].name)
        n++;
    return n;
}

/* One table out of the rooms' tables. */
static const struct undo_handler *join_undo_handlers(struct agent *agent)
{
    struct undo_handler *disks = virt_storage_undo_handlers(agent->undo_conf);
    const struct undo_handler *ports = net_undo_handlers(agent->net);
    size_t n = count_rows(disks), k = count_rows(ports);
    struct undo_handler *rows = NEW_ARRAY(struct undo_handler, n + k + 2);

    memcpy(rows, disks, n * sizeof(*rows));
    memcpy(rows + n, ports, k * sizeof(*rows));
    rows[n + k] = instance_make_undo_handler(agent->virt);
    free(disks);
    return rows;
}

static int open_signals(struct process *p, struct err *e)
{
    struct loop *loop = p->agent.loop;

    if (loop_add_signal(loop, SIGTERM, stop, p, e) < 0 ||
        loop_add_signal(loop, SIGINT, stop, p, e) < 0 ||
        loop_add_signal(loop, SIGHUP, reload, p, e) < 0)
        return -1;
    (void)signal(SIGPIPE, SIG_IGN);
    p->stop_timer = loop_timer_new(loop, "stop", look_whether_done, p);
    return 0;
}

static int open_rooms(struct agent *agent, struct err *e)
{
    static const struct virt_callbacks virt_callbacks = {
        .connection = agent_virt_connection,
        .event = agent_virt_event,
        .iteration = agent_virt_iteration,
        .job_completed = agent_virt_job_completed,
    };
    static const struct rpc_callbacks rpc_callbacks = {
        .request = agent_rpc_request,
        .state = agent_rpc_state,
    };
    unsigned threads = (unsigned)conf_int(agent->conf, CONF_agent_worker_threads);

    if (workers_new(&agent->workers, agent->loop, threads, e) < 0 ||
        workers_new(&agent->migrators, agent->loop, MIGRATORS_MAX, e) < 0 ||
        virt_new(&agent->virt, agent->loop, agent->conf, &virt_callbacks, agent, e) < 0 ||
        net_new(&agent->net, agent->loop, agent->conf, e) < 0)
        return -1;
    agent->undo_conf = conf_ref(agent->conf);
    agent->undo_handlers = join_undo_handlers(agent);
    if (agent_switchover_open(agent, e) < 0 ||
        rpc_new(&agent->rpc, agent->loop, agent->conf, agent->host, &rpc_callbacks, agent, e) < 0)
        return -1;
    return cloud_new(&agent->cloud, agent->loop, agent->conf, agent->rpc, agent->host, e);
}

static int open_all(struct process *p, struct err *e)
{
    struct agent *agent = &p->agent;

    agent->host = text_dup(conf_string(agent->conf, CONF_DEFAULT_host));
    agent->sources = &p->sources;
    agent->reload = agent_reload;
    agent->started_us = clock_monotonic_us();
    if (fault_load(p->fault_file, e) < 0 || loop_new(&agent->loop, e) < 0 ||
        open_signals(p, e) < 0 || open_state(p, e) < 0 || open_rooms(agent, e) < 0)
        return -1;
    return control_new(&agent->control, agent, conf_string(agent->conf, CONF_agent_control_socket),
                       conf_string(agent->conf, CONF_agent_control_group), e);
}

static void close_all(struct process *p)
{
    struct agent *agent = &p->agent;

    agent->closing = true;
    for (struct migration *m = agent->migrations; m; m = m->next)
        atomic_store(&m->wiring_ends, true);
    control_free(agent->control);
    drain_close(agent);
    if (agent->rpc)
        rpc_free(agent->rpc, STOP_WAIT_US);
    agent_rpc_release(agent);
    if (agent->workers)
        workers_free(agent->workers, STOP_WAIT_US);
    if (agent->migrators)
        workers_free(agent->migrators, 0); /* libvirt goes on without us */
    while (agent->migrations) {
        migration_drop_waiting(agent->migrations);
        migration_forget(agent->migrations);
    }
    cloud_free(agent->cloud); /* its answers may hold the last references */
    power_sync_close(agent);
    image_manager_close(agent);
    node_close(agent);
    operation_close(agent);
    host_pairs_close(agent);
    measure_early_close(agent);
    json_object_put(agent->unfinished_builds);
    switchover_free(agent->switchover);
    channel_listener_free(agent->streams);
    net_free(agent->net);
    virt_free(agent->virt);
    journal_free(agent->journal);
    loop_timer_free(p->stop_timer);
    loop_timer_free(p->watchdog_timer);
    loop_free(agent->loop);
    free((void *)agent->undo_handlers);
    free(agent->host);
    conf_unref(agent->undo_conf);
    conf_unref(agent->conf);
    conf_sources_clear(&p->sources);
    conf_report_clear(&p->report);
    if (p->lock_fd >= 0)
        close(p->lock_fd);
}

static void start_watchdog(struct process *p)
{
    if (sd_watchdog_enabled(0, &p->watchdog_us) <= 0)
        return;
    p->watchdog_timer = loop_timer_new(p->agent.loop, "watchdog", feed_watchdog, p);
    feed_watchdog(p);
}

static int serve(struct process *p)
{
    struct err e = ERR_INIT;

    if (open_all(p, &e) < 0) {
        log_err(LOG_LEVEL_ERROR, &e, "computed cannot start");
        return err_exit_code(e.code);
    }
    log_info("computed %s on %s, control plane %s", PACKAGE_VERSION, p->agent.host,
             cloud_provider_name(p->agent.cloud));
    node_open(&p->agent);
    image_manager_open(&p->agent);
    recovery_start(&p->agent);
    start_watchdog(p);
    (void)sd_notify(0, "READY=1");
    if (loop_run(p->agent.loop, &e) < 0) {
        log_err(LOG_LEVEL_ERROR, &e, "computed ends");
        return err_exit_code(e.code);
    }
    if (err_is_set(&p->agent.fatal)) {
        log_err(LOG_LEVEL_ERROR, &p->agent.fatal, "computed ends");
        return err_exit_code(p->agent.fatal.code);
    }
    log_info("computed ends");
    return 0;
}

/* ---- command line and configuration ---- */

static int usage(void)
{
    fprintf(stderr, "computed: unknown argument; see computed --help\n");
    return EXIT_USAGE_ERROR;
}

static int print_help(void)
{
    struct text_buffer b = TEXT_BUFFER_INIT;

    text_buffer_add(&b,
                    "computed - OpenStack-compatible compute node agent\n\n"
                    "computed [--config-file FILE]... [--config-dir DIR] [--log-file FILE] "
                    "[--debug]\n"
                    "         [--fault-file FILE] [--takeover-check] [--print-machine] [--version] "
                    "[--help]\n\n");
    conf_render_help(&b);
    fputs(b.data, stdout);
    text_buffer_free(&b);
    return 0;
}

static int print_machine(void)
{
    _cleanup_(str_freep) char *dot = machine_dot();

    fputs(dot, stdout);
    return 0;
}

/* -1: go on; else the exit code. */
static int handle_arguments(struct process *p, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (text_equal(argv[i], "--version")) {
            printf("computed %s\n", PACKAGE_VERSION);
            return 0;
        }
        if (text_equal(argv[i], "--help")) {
            return print_help();
        }
        if (text_equal(argv[i], "--print-machine"))
            return print_machine();
        if (text_equal(argv[i], "--takeover-check"))
            p->takeover_check = true;
        else if (text_equal(argv[i], "--fault-file") && i + 1 < argc)
            p->fault_file = argv[++i];
        else
            return usage();
    }
    return -1;
}

static int load_configuration(struct process *p)
{
    const struct conf_report *report = &p->report;
    struct err e = ERR_INIT;
    int result = conf_load(&p->sources, &p->agent.conf, &p->report, &e);

    for (size_t i = 0; i < report->length; i++) {
        _cleanup_(str_freep) char *text = conf_problem_text(&report->items[i]);
        if (report->items[i].level != CONF_NOTE && !(p->takeover_check && result == 0))
            fprintf(stderr, "%s\n", text);
    }
    if (result < 0)
        fprintf(stderr, "computed: %s\n", e.text);
    return result;
}

static int open_log(const struct conf *conf)
{
    struct err e = ERR_INIT;
    bool json = text_equal(conf_string(conf, CONF_DEFAULT_log_format), "json");

    log_set_level(NULL, conf_bool(conf, CONF_DEFAULT_debug) ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO);
    _cleanup_(str_freep) char *file = conf_log_path(conf);
    if (log_open(file, json ? LOG_FORMAT_JSON : LOG_FORMAT_TEXT, &e) == 0)
        return 0;
    fprintf(stderr, "computed: %s\n", e.text);
    return -1;
}

/* The log is the agent's own; this run has only its report. */
static int look_for_takeover(struct process *p)
{
    struct err e = ERR_INIT;

    log_set_level(NULL, LOG_LEVEL_ERROR);
    if (log_open(NULL, LOG_FORMAT_TEXT, &e) < 0) {
        fprintf(stderr, "computed: %s\n", e.text);
        return err_exit_code(e.code);
    }
    return takeover_main(p->agent.conf, &p->sources, &p->report);
}

int main(int argc, char **argv)
{
    struct process process = {.lock_fd = -1};
    struct err e = ERR_INIT;

    (void)umask(0077);
    mem_one_heap();
    if (conf_sources_from_argv(&process.sources, &argc, argv, &e) < 0) {
        fprintf(stderr, "computed: %s\n", e.text);
        return EXIT_USAGE_ERROR;
    }
    int code = handle_arguments(&process, argc, argv);
    if (code < 0) {
        code = EXIT_CONFIG;
        if (load_configuration(&process) < 0)
            code = EXIT_CONFIG;
        else if (process.takeover_check)
            code = look_for_takeover(&process);
        else if (open_log(process.agent.conf) == 0)
            code = serve(&process);
    }
    close_all(&process);
    log_close();
    return code;
}
