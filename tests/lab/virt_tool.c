/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The hypervisor interface by itself, for the lab: reads commands, "<id> <command> <uuid> [key=value ...]",
 * one a line, runs each on a worker, and prints one JSON object a line, with the monotonic time in
 * microseconds: connection news, events, and one answer for each id. Arguments are option=value pairs of
 * the configuration. `slow` answers with the loop's longest callbacks, `quit` ends.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "conf/conf.h"
#include "lib/clock.h"
#include "lib/json.h"
#include "lib/log.h"
#include "lib/loop.h"
#include "lib/metrics.h"
#include "lib/text.h"
#include "lib/workers.h"
#include "virt/build_options.h"
#include "virt/virt.h"

enum { WORDS_MAX = 32, SLOW_MAX = 8 };

struct tool {
    struct loop *loop;
    struct workers *workers;
    struct virt *virt;
    struct text_buffer input;
};

struct request {
    struct tool *tool;
    char *words[WORDS_MAX + 1]; /* id, command, uuid, key=value ... */
    char *line;
    struct json_object *answer;
    struct err error;
    int rc;
    int64_t begun_us;
};

static void print_line(struct json_object *o)
{
    _cleanup_(str_freep) char *text = json_text(o);
    printf("%s\n", text);
    (void)fflush(stdout);
    json_object_put(o);
}

static struct json_object *news(const char *what, int64_t at_us)
{
    struct json_object *o = json_object_new_object();
    json_add_int(o, "t", at_us);
    json_add_string(o, "news", what);
    json_add_int(o, "told", clock_monotonic_us());
    return o;
}

static void add_job(struct json_object *o, const struct virt_job *job)
{
    const struct {
        const char *name;
        int64_t value;
    } rows[] = {
        {"active", job->active},
        {"completed", job->completed},
        {"elapsed_ms", job->elapsed_ms},
        {"memory_total", job->memory_total},
        {"memory_remaining", job->memory_remaining},
        {"memory_bps", job->memory_bps},
        {"dirty_rate", job->dirty_rate},
        {"iteration", job->iteration},
        {"disk_total", job->disk_total},
        {"disk_processed", job->disk_processed},
        {"disk_remaining", job->disk_remaining},
        {"disk_bps", job->disk_bps},
        {"throttle_percent", job->throttle_percent},
        {"downtime_ms", job->downtime_ms},
        {"postcopy_requests", job->postcopy_requests},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        json_add_int(o, rows[i].name, rows[i].value);
    json_add_string(o, "job_error", job->error);
}

static void on_connection(void *aux _unused_, bool up, const char *why)
{
    struct json_object *o = news(up ? "up" : "down", clock_monotonic_us());
    json_add_string(o, "why", why);
    print_line(o);
}

static void on_event(void *aux _unused_, const char *uuid, enum virt_event event, int64_t at_us)
{
    struct json_object *o = news("event", at_us);
    json_add_string(o, "uuid", uuid);
    json_add_string(o, "event", virt_event_name(event));
    print_line(o);
}

static void on_iteration(void *aux _unused_, const char *uuid, int iteration, int64_t at_us)
{
    struct json_object *o = news("iteration", at_us);
    json_add_string(o, "uuid", uuid);
    json_add_int(o, "iteration", iteration);
    print_line(o);
}

static void on_job(void *aux _unused_, const char *uuid, const struct virt_job *job, int64_t at_us)
{
    struct json_object *o = news("job-completed", at_us);
    json_add_string(o, "uuid", uuid);
    add_job(o, job);
    print_line(o);
}

/* --- commands; each runs on a worker --- */

static const char *option(const struct request *r, const char *key)
{
    size_t length = strlen(key);
    for (size_t i = 3; r->words[i]; i++)
        if (strncmp(r->words[i], key, length) == 0 && r->words[i][length] == '=')
            return r->words[i] + length + 1;
    return NULL;
}

static int64_t number(const struct request *r, const char *key)
{
    const char *text = option(r, key);
    int64_t value = 0;
    if (text)
        (void)text_to_int64(text, 0, INT64_MAX, &value, NULL);
    return value;
}

static const char *outcome_name(enum virt_outcome outcome)
{
    static const char *const names[] = {[VIRT_OUTCOME_COMPLETED] = "completed",
                                        [VIRT_OUTCOME_FAILED] = "failed",
                                        [VIRT_OUTCOME_CANCELLED] = "cancelled",
                                        [VIRT_OUTCOME_UNKNOWN] = "unknown"};
    return names[outcome];
}

static int do_migrate(struct request *r)
{
    _cleanup_(str_freep) char *xml = NULL;
    char **disks = option(r, "disks") ? text_split(option(r, "disks"), ',') : NULL;
    struct virt_migration m = {
        .uuid = r->words[2],
        .destination_uri = option(r, "uri"),
        .migrate_uri = option(r, "migrate_uri"),
        .block_migration = disks != NULL,
        .copy_disks = disks,
        .auto_converge = number(r, "auto_converge") != 0,
        .post_copy = number(r, "post_copy") != 0,
        .synchronous_writes = number(r, "synchronous_writes") != 0,
        .tls = number(r, "tls") != 0,
        .parallel_connections = (int)number(r, "parallel"),
        .bandwidth_mib = number(r, "bandwidth"),
        .disk_bandwidth_mib = number(r, "disk_bandwidth"),
    };
    enum virt_outcome outcome = VIRT_OUTCOME_FAILED;
    int rc = virt_guest_migratable_xml(r->tool->virt, m.uuid, &xml, &r->error);
    m.destination_xml = xml;
    if (rc == 0)
        rc = virt_migrate(r->tool->virt, &m, &outcome, &r->error);
    json_add_string(r->answer, "outcome", outcome_name(outcome));
    text_vector_free(disks);
    return rc;
}

static int do_state(struct request *r)
{
    enum virt_state state;
    if (virt_guest_state(r->tool->virt, r->words[2], &state, &r->error) < 0)
        return -1;
    json_add_string(r->answer, "state", virt_state_name(state));
    return 0;
}

static int do_guest(struct request *r)
{
    struct virt_guest *guest;
    if (virt_guest_read(r->tool->virt, r->words[2], &guest, &r->error) < 0)
        return -1;
    json_object_object_add(r->answer, "guest", virt_guest_to_json(guest));
    virt_guest_free(guest);
    return 0;
}

/* words[2] is the guest's JSON, without blanks. */
static int do_check(struct request *r)
{
    _cleanup_(json_putp) struct json_object *o = NULL;
    _cleanup_(virt_guest_freep) struct virt_guest *guest = NULL;
    _cleanup_(str_freep) char *warning = NULL;
    if (json_parse(r->words[2], strlen(r->words[2]), &o, &r->error) < 0 ||
        virt_guest_from_json(o, &guest, &r->error) < 0 ||
        virt_check_destination(r->tool->virt, guest, &warning, &r->error) < 0)
        return -1;
    json_add_string(r->answer, "warning", warning);
    return 0;
}

static int do_sample(struct request *r)
{
    struct virt_job job;
    if (virt_migration_sample(r->tool->virt, r->words[2], &job, &r->error) < 0)
        return -1;
    add_job(r->answer, &job);
    return 0;
}

static int do_dirty_rate_begin(struct request *r)
{
    return virt_dirty_rate_begin(r->tool->virt, r->words[2], (int)number(r, "seconds"), &r->error);
}

static int do_dirty_rate_look(struct request *r)
{
    int64_t rate;
    if (virt_dirty_rate_look(r->tool->virt, r->words[2], (int)number(r, "seconds"), &rate,
                             &r->error) < 0)
        return -1;
    json_add_int(r->answer, "dirty_rate", rate);
    return 0;
}

static int do_processor_ns(struct request *r)
{
    int64_t ns;
    if (virt_guest_processor_ns(r->tool->virt, r->words[2], &ns, &r->error) < 0)
        return -1;
    json_add_int(r->answer, "processor_ns", ns);
    return 0;
}

static int do_completed(struct request *r)
{
    struct virt_job job;
    if (virt_migration_completed(r->tool->virt, r->words[2], &job, &r->error) < 0)
        return -1;
    add_job(r->answer, &job);
    return 0;
}

static int do_downtime(struct request *r)
{
    return virt_migration_set_downtime(r->tool->virt, r->words[2], number(r, "ms"), &r->error);
}

static int do_bandwidth(struct request *r)
{
    return virt_migration_set_bandwidth(r->tool->virt, r->words[2], number(r, "mib"), &r->error);
}

static int do_slow(struct request *r)
{
    struct loop_slow slow[SLOW_MAX];
    struct json_object *list = json_object_new_object();
    unsigned count = loop_slowest(r->tool->loop, slow, SLOW_MAX);
    for (unsigned i = 0; i < count; i++)
        json_add_int(list, slow[i].name, slow[i].longest_us);
    json_object_object_add(r->answer, "slow", list);
    json_add_int(r->answer, "reconnects", (int64_t)metric_get(METRIC_VIRT_RECONNECT));
    return 0;
}

/* --- the life of a guest; XML comes and goes by files of this host --- */

enum { FILE_MAX_BYTES = 1 << 20 };

static char *read_text(const char *path)
{
    FILE *file = path ? fopen(path, "re") : NULL;
    if (!file)
        return text_dup("");
    char *text = mem_new(FILE_MAX_BYTES);
    size_t length = fread(text, 1, FILE_MAX_BYTES - 1, file);
    text[length] = '\0';
    (void)fclose(file);
    return text;
}

/* A guest of one disk and one port, as flavor and image without wishes make it. */
static int do_build(struct request *r)
{
    struct conf *conf = conf_for_test("libvirt.virt_type", "qemu", "libvirt.cpu_mode", "none",
                                      "DEFAULT.instances_path", option(r, "instances"), NULL);
    const struct virt_build_request request = {
        .conf = conf, .vcpus = 1, .memory_mb = number(r, "memory"), .has_kernel = true};
    _cleanup_(virt_build_options_freep) struct virt_build_options *options = NULL;
    _cleanup_(str_freep) char *xml = NULL;
    int rc = virt_build_options_make(&request, &options, &r->error);
    conf_unref(conf);
    if (rc < 0)
        return -1;
    struct virt_build build = options->build;
    struct virt_build_disk disk = options->disk;
    struct virt_build_interface port = options->interface;
    build.uuid = r->words[2];
    build.name = option(r, "name");
    build.emulator = option(r, "emulator");
    build.kernel = option(r, "kernel");
    build.initrd = option(r, "initrd");
    build.console_log = option(r, "log");
    build.command_line = "console=ttyS0 quiet panic=1";
    disk.path = option(r, "disk");
    disk.format = "qcow2";
    disk.target = "vda";
    port.mac = option(r, "mac");
    port.tap = option(r, "tap");
    port.bridge = option(r, "bridge");
    port.mtu = 1450;
    build.disks = &disk;
    build.interfaces = &port;
    build.disk_count = build.interface_count = 1;
    if (virt_build_xml(&build, &xml, &r->error) < 0)
        return -1;
    json_add_string(r->answer, "xml", xml);
    return 0;
}

static int do_build_port(struct request *r)
{
    const struct virt_build_interface port = {.mac = option(r, "mac"),
                                              .model = "virtio",
                                              .driver = "qemu",
                                              .tap = option(r, "tap"),
                                              .bridge = option(r, "bridge")};
    _cleanup_(str_freep) char *xml = NULL;
    if (virt_build_interface_xml(&port, &xml, &r->error) < 0)
        return -1;
    json_add_string(r->answer, "xml", xml);
    return 0;
}

static int do_create(struct request *r)
{
    _cleanup_(str_freep) char *xml = read_text(option(r, "file"));
    return virt_guest_create(r->tool->virt, xml, number(r, "paused") != 0, &r->error);
}

static int do_define(struct request *r)
{
    _cleanup_(str_freep) char *xml = read_text(option(r, "file"));
    return virt_guest_define(r->tool->virt, xml, &r->error);
}

static int do_attach(struct request *r)
{
    _cleanup_(str_freep) char *xml = read_text(option(r, "file"));
    return virt_guest_attach(r->tool->virt, r->words[2], xml, &r->error);
}

static int do_detach(struct request *r)
{
    _cleanup_(str_freep) char *xml = read_text(option(r, "file"));
    return virt_guest_detach(r->tool->virt, r->words[2], xml, number(r, "within") * USEC_PER_SEC,
                             &r->error);
}

static int do_xml(struct request *r)
{
    _cleanup_(str_freep) char *xml = NULL;
    if (virt_guest_xml(r->tool->virt, r->words[2], &xml, &r->error) < 0)
        return -1;
    json_add_string(r->answer, "xml", xml);
    return 0;
}

static int do_consoles(struct request *r)
{
    struct virt_consoles consoles;
    if (virt_guest_consoles(r->tool->virt, r->words[2], &consoles, &r->error) < 0)
        return -1;
    json_add_int(r->answer, "vnc", consoles.vnc_port);
    json_add_int(r->answer, "serial", consoles.serial_count);
    return 0;
}

static int do_diagnostics(struct request *r)
{
    struct json_object *o;
    if (virt_guest_diagnostics(r->tool->virt, r->words[2], &o, &r->error) < 0)
        return -1;
    json_add(r->answer, "diagnostics", o);
    return 0;
}

static int do_copy_disk(struct request *r)
{
    return virt_guest_copy_disk(r->tool->virt, r->words[2], option(r, "target"), option(r, "path"),
                                option(r, "format"), &r->error);
}

static int do_resources(struct request *r)
{
    _cleanup_(virt_resources_freep) struct virt_resources *found = NULL;
    if (virt_resources_read(r->tool->virt, &found, &r->error) < 0)
        return -1;
    const struct {
        const char *name;
        int64_t value;
    } rows[] = {
        {"cpus", found->cpus},
        {"memory_mb", found->memory_mb},
        {"memory_used_mb", found->memory_used_mb},
        {"local_gb", found->local_gb},
        {"local_used_gb", found->local_used_gb},
        {"disk_available_least_gb", found->disk_available_least_gb},
        {"guests", (int64_t)found->guests},
        {"hypervisor_version", found->hypervisor_version},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        json_add_int(r->answer, rows[i].name, rows[i].value);
    struct json_object *traits = json_object_new_array();
    for (size_t i = 0; found->traits[i]; i++)
        json_object_array_add(traits, json_object_new_string(found->traits[i]));
    json_add(r->answer, "traits", traits);
    json_add(r->answer, "cpu_info", json_object_get(found->cpu_info));
    json_add(r->answer, "supported_instances", json_object_get(found->supported_instances));
    json_add_string(r->answer, "uptime", found->uptime);
    json_add_string(r->answer, "type", found->type);
    return 0;
}

#define PLAIN(name, function)                                                                      \
    static int name(struct request *r)                                                             \
    {                                                                                              \
        return function(r->tool->virt, r->words[2], &r->error);                                    \
    }
PLAIN(do_abort, virt_migration_abort)
PLAIN(do_post_copy, virt_migration_start_post_copy)
PLAIN(do_suspend, virt_guest_suspend)
PLAIN(do_resume, virt_guest_resume)
PLAIN(do_destroy, virt_guest_destroy)
PLAIN(do_destroy_incoming, virt_guest_destroy_incoming)
PLAIN(do_undefine, virt_guest_undefine)
PLAIN(do_start, virt_guest_start)
PLAIN(do_shutdown, virt_guest_shutdown)
PLAIN(do_reboot, virt_guest_reboot)
PLAIN(do_power_off, virt_guest_power_off)
PLAIN(do_save, virt_guest_save)
PLAIN(do_save_remove, virt_guest_save_remove)

static const struct {
    const char *name;
    int (*run)(struct request *r);

} commands[] = {
    {"migrate", do_migrate},
    {"state", do_state},
    {"guest", do_guest},
    {"check", do_check},
    {"sample", do_sample},
    {"dirty_rate_begin", do_dirty_rate_begin},
    {"dirty_rate_look", do_dirty_rate_look},
    {"processor_ns", do_processor_ns},
    {"completed", do_completed},
    {"downtime", do_downtime},
    {"bandwidth", do_bandwidth},
    {"abort", do_abort},
    {"post_copy", do_post_copy},
    {"suspend", do_suspend},
    {"resume", do_resume},
    {"destroy", do_destroy},
    {"destroy_incoming", do_destroy_incoming},
    {"undefine", do_undefine},
    {"slow", do_slow},
    {"build", do_build},
    {"build_port", do_build_port},
    {"create", do_create},
    {"define", do_define},
    {"attach", do_attach},
    {"detach", do_detach},
    {"xml", do_xml},
    {"consoles", do_consoles},
    {"start", do_start},
    {"shutdown", do_shutdown},
    {"reboot", do_reboot},
    {"power_off", do_power_off},
    {"save", do_save},
    {"save_remove", do_save_remove},
    {"copy_disk", do_copy_disk},
    {"diagnostics", do_diagnostics},
    {"resources", do_resources},
};

static void run_request(void *aux)
{
    struct request *r = aux;
    r->rc = err_set(&r->error, ERR_USAGE, "no such command");
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        if (strcmp(commands[i].name, r->words[1]) != 0)
            continue;
        err_clear(&r->error);
        r->rc = commands[i].run(r);
    }
}

static void release_request(void *aux)
{
    struct request *r = aux;
    json_object_put(r->answer);
    free(r->line);
    free(r);
}

static void end_request(void *aux, enum work_end end)
{
    struct request *r = aux;
    struct json_object *o =
        end == WORK_DONE ? json_object_get(r->answer) : json_object_new_object();
    int64_t now = clock_monotonic_us();
    json_add_int(o, "t", now);
    json_add_string(o, "id", r->words[0]);
    json_add_int(o, "took_us", now - r->begun_us);
    if (end != WORK_DONE)
        json_add_string(o, "error", "overdue");
    else if (r->rc < 0) {
        json_add_string(o, "error", r->error.text);
        json_add_string(o, "code", err_name(r->error.code));
    }
    print_line(o);
}

static void split(struct request *r)
{
    char *save = NULL;
    size_t count = 0;
    for (char *word = strtok_r(r->line, " ", &save); word && count < WORDS_MAX;
         word = strtok_r(NULL, " ", &save))
        r->words[count++] = word;
    while (count < 3)
        r->words[count++] = (char *)"";
}

static void take_line(struct tool *tool, const char *line, size_t length)
{
    struct request *r = NEW(struct request);
    r->tool = tool;
    r->line = text_dup_n(line, length);
    r->answer = json_object_new_object();
    r->begun_us = clock_monotonic_us();
    split(r);
    if (strcmp(r->words[1], "quit") == 0) {
        loop_quit(tool->loop);
        release_request(r);
    } else if (strcmp(r->words[1], "slow") == 0) {
        run_request(r);
        end_request(r, WORK_DONE);
        release_request(r);
    } else {
        workers_submit(tool->workers, &(struct work){.name = "tool",
                                                     .run = run_request,
                                                     .done = end_request,
                                                     .release = release_request,
                                                     .aux = r});
    }
}

static void on_input(void *aux, uint32_t events _unused_)
{
    struct tool *tool = aux;
    char chunk[65536];
    ssize_t got = read(STDIN_FILENO, chunk, sizeof(chunk));
    if (got <= 0) {
        loop_quit(tool->loop);
        return;
    }
    text_buffer_add_n(&tool->input, chunk, (size_t)got);
    char *end;
    while ((end = strchr(tool->input.data, '\n'))) {
        take_line(tool, tool->input.data, (size_t)(end - tool->input.data));
        _cleanup_(str_freep) char *rest = text_dup(end + 1);
        text_buffer_free(&tool->input);
        text_buffer_add(&tool->input, rest);
    }
}

static const char *argument(int argc, char **argv, const char *key, const char *fallback)
{
    size_t length = strlen(key);
    for (int i = 1; i < argc; i++)
        if (strncmp(argv[i], key, length) == 0 && argv[i][length] == '=')
            return argv[i] + length + 1;
    return fallback;
}

int main(int argc, char **argv)
{
    static const struct virt_callbacks callbacks = {on_connection, on_event, on_iteration, on_job};
    struct err e = ERR_INIT;
    struct tool tool = {.input = TEXT_BUFFER_INIT};
    struct conf *conf = conf_for_test(
        "libvirt.connection_uri", argument(argc, argv, "uri", "qemu:///system"),
        "libvirt.live_migration_keepalive_interval", argument(argc, argv, "interval", "5"),
        "libvirt.live_migration_keepalive_count", argument(argc, argv, "count", "3"),
        "libvirt.virt_type", argument(argc, argv, "virt_type", "qemu"), "libvirt.cpu_mode",
        argument(argc, argv, "cpu_mode", "host-model"), "DEFAULT.instances_path",
        argument(argc, argv, "instances", "/var/lib/nova/instances"), NULL);
    if (loop_new(&tool.loop, &e) < 0 || workers_new(&tool.workers, tool.loop, 16, &e) < 0 ||
        !loop_add_fd(tool.loop, STDIN_FILENO, EPOLLIN, "input", on_input, &tool, &e) ||
        virt_new(&tool.virt, tool.loop, conf, &callbacks, NULL, &e) < 0 ||
        loop_run(tool.loop, &e) < 0) {
        fprintf(stderr, "virt_tool: %s\n", e.text);
        return 1;
    }
    virt_free(tool.virt);
    workers_free(tool.workers, USEC_PER_SEC);
    loop_free(tool.loop);
    conf_unref(conf);
    text_buffer_free(&tool.input);
    return 0;
}
