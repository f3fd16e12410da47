/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/takeover.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cloud/instances.h"
#include "cloud/node.h"
#include "lib/clock.h"
#include "lib/json.h"
#include "lib/loop.h"
#include "lib/text.h"
#include "lib/workers.h"
#include "rpc/object.h"
#include "virt/take_over.h"
#include "virt/virt.h"

enum {
    CONNECT_US = 6000000,
    WHOLE_US = 25000000,
    STOP_US = 1000000,
    VERSION_WITH_IDENTITY = 65, /* services from here on have the file compute_id */
};

struct check {
    const struct conf *conf;
    const struct conf_sources *sources;
    struct json_object *report, *instances, *domains;
    struct loop *loop;
    struct workers *workers;
    struct virt *virt;
    struct rpc *rpc;
    struct cloud *cloud;
    struct loop_timer *connect_timer, *whole_timer;
    char *file_uuid; /* of the file compute_id; NULL = there is none */
    int64_t version; /* of the service record; 0 = none */
    bool asked_domains, asked_cloud;
    unsigned open; /* questions under way */
};

static void answered(struct check *c)
{
    if (--c->open == 0)
        loop_quit(c->loop);
}

/* ---- the hypervisor and the disks ---- */

/* On the worker: into lists of its own, taken over when it is done. */
struct domain_look {
    struct check *check;
    const struct conf *conf;
    struct virt *virt;
    struct json_object *domains, *disks, *findings; /* findings: a report of its own */
    int result;
    struct err e, disk_err;
};

static void look_one(struct domain_look *look, const char *uuid)
{
    struct virt_guest *guest = NULL;
    char *xml = NULL;
    struct err e = ERR_INIT;

    if (virt_guest_read(look->virt, uuid, &guest, &e) < 0 ||
        virt_guest_xml(look->virt, uuid, &xml, &e) < 0) {
        takeover_add(look->findings, "domain", "problem", "%s cannot be read: %s", uuid, e.text);
        virt_guest_free(guest);
        return;
    }
    _cleanup_(json_putp) struct json_object *details = virt_guest_to_json(guest);
    struct json_object *row = json_object_new_object();
    json_add_string(row, "uuid", guest->uuid);
    json_add_string(row, "name", guest->name);
    json_add_string(row, "state", virt_state_name(guest->state));
    json_object_array_add(look->domains, row);
    takeover_look_domain(look->findings, guest->name, details, xml);
    virt_guest_free(guest);
    free(xml);
}

static void domains_run(void *aux)
{
    struct domain_look *look = aux;
    struct virt_guest **list = NULL;
    size_t count = 0;

    look->result = virt_guest_list(look->virt, &list, &count, &look->e);
    for (size_t i = 0; look->result == 0 && i < count; i++)
        look_one(look, list[i]->uuid);
    if (list)
        virt_guest_list_free(list, count);
    (void)virt_takeover_look(look->conf, &look->disks, &look->disk_err);
}

static void add_texts(struct check *c, struct json_object *list, const char *result)
{
    size_t count = json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;

    for (size_t i = 0; i < count; i++)
        takeover_add(c->report, "disks", result, "%s",
                     json_object_get_string(json_object_array_get_idx(list, i)));
}

static void take_disks(struct check *c, struct domain_look *look)
{
    if (err_is_set(&look->disk_err)) {
        takeover_add(c->report, "disks", "problem", "%s", look->disk_err.text);
        return;
    }
    add_texts(c, json_get(look->disks, "problems"), "problem");
    add_texts(c, json_get(look->disks, "notes"), "note");
    if (json_object_array_length(json_get(look->disks, "problems")) == 0)
        takeover_add(c->report, "disks", "good", "%s can be taken over",
                     json_get_string(look->disks, "instances_path", "instances_path"));
    json_add(c->report, "disks", json_object_get(look->disks));
}

static void take_findings(struct check *c, struct json_object *findings)
{
    struct json_object *rows = json_get(findings, "checks");
    size_t count = rows ? json_object_array_length(rows) : 0;

    for (size_t i = 0; i < count; i++) {
        struct json_object *row = json_object_array_get_idx(rows, i);
        takeover_add(c->report, json_get_string(row, "check", ""),
                     json_get_string(row, "result", ""), "%s", json_get_string(row, "text", ""));
    }
}

static void domains_done(void *aux, enum work_end end)
{
    struct domain_look *look = aux;
    struct check *c = look->check;

    if (end != WORK_DONE)
        return;
    if (look->result < 0) {
        takeover_add(c->report, "libvirt", "problem", "%s", look->e.text);
    } else {
        takeover_add(c->report, "libvirt", "good", "%zu domain(s) here",
                     json_object_array_length(look->domains));
        c->domains = json_object_get(look->domains);
        take_findings(c, look->findings);
    }
    take_disks(c, look);
    answered(c);
}

static void domains_release(void *aux)
{
    struct domain_look *look = aux;

    json_object_put(look->domains);
    json_object_put(look->findings);
    json_object_put(look->disks);
    free(look);
}

static void virt_connected(void *aux, bool up, const char *why)
{
    struct check *c = aux;

    (void)why;
    if (!up || c->asked_domains)
        return;
    struct domain_look *look = NEW(struct domain_look);
    struct work work = {.name = "look at the domains",
                        .run = domains_run,
                        .done = domains_done,
                        .release = domains_release,
                        .aux = look};
    c->asked_domains = true;
    look->check = c;
    look->conf = c->conf;
    look->virt = c->virt;
    look->domains = json_object_new_array();
    look->findings = json_object_new_object();
    workers_submit(c->workers, &work);
}

/* The check looks at a moment, not at what happens. */
static void ignore_event(void *aux, const char *uuid, enum virt_event event, int64_t at_us)
{
    (void)aux;
    (void)uuid;
    (void)event;
    (void)at_us;
}

static void ignore_iteration(void *aux, const char *uuid, int iteration, int64_t at_us)
{
    (void)aux;
    (void)uuid;
    (void)iteration;
    (void)at_us;
}

static void ignore_job(void *aux, const char *uuid, const struct virt_job *job, int64_t at_us)
{
    (void)aux;
    (void)uuid;
    (void)job;
    (void)at_us;
}

/* ---- the control plane ---- */

static struct json_object *data_of(struct json_object *primitive)
{
    return json_get(primitive, "nova_object.data");
}

static void service_read(void *aux, struct json_object *result, const struct err *failure)
{
    struct check *c = aux;
    struct json_object *data = data_of(result);

    if (failure) {
        takeover_add(c->report, "service", "problem", "the service record cannot be read: %s",
                     failure->text);
    } else if (!data) {
        takeover_add(c->report, "service", "note",
                     "no service nova-compute is known for host %s: it would be a new host",
                     conf_string(c->conf, CONF_DEFAULT_host));
    } else {
        c->version = json_get_int(data, "version", 0);
        takeover_add(c->report, "service", "good",
                     "service %lld of host %s, version %lld, %s; it is taken over",
                     (long long)json_get_int(data, "id", 0),
                     conf_string(c->conf, CONF_DEFAULT_host), (long long)c->version,
                     json_get_bool(data, "disabled", false) ? "disabled" : "enabled");
    }
    answered(c);
}

static void judge_identity(struct check *c, const char *node_uuid)
{
    if (c->file_uuid && !text_equal(c->file_uuid, node_uuid))
        takeover_add(c->report, "node", "problem",
                     "the file compute_id has %s, but the compute node of this host is %s",
                     c->file_uuid, node_uuid);
    else if (!c->file_uuid && c->version >= VERSION_WITH_IDENTITY)
        takeover_add(c->report, "node", "problem",
                     "the file compute_id is missing, which a service of version %lld has; write "
                     "%s into it",
                     (long long)c->version, node_uuid);
    else
        takeover_add(c->report, "node", "good", "compute node %s%s", node_uuid,
                     c->file_uuid ? "" : "; its file compute_id will be written");
}

static void nodes_read(void *aux, struct json_object *result, const struct err *failure)
{
    struct check *c = aux;
    size_t count = result ? json_object_array_length(result) : 0;

    if (failure)
        takeover_add(c->report, "node", "problem", "the compute node cannot be read: %s",
                     failure->text);
    else if (count == 0)
        takeover_add(c->report, "node", c->file_uuid ? "problem" : "note",
                     "no compute node is known for this host%s",
                     c->file_uuid ? ", but there is a file compute_id" : "");
    else if (count > 1)
        takeover_add(c->report, "node", "problem",
                     "%zu compute nodes are known for this host; there must be one", count);
    else
        judge_identity(c,
                       json_get_string(data_of(json_object_array_get_idx(result, 0)), "uuid", ""));
    answered(c);
}

static void instances_read(void *aux, struct json_object *result, const struct err *failure)
{
    static const char *const fields[] = {"uuid", "display_name", "vm_state", "task_state"};
    struct check *c = aux;

    if (failure || !json_object_is_type(result, json_type_array)) {
        takeover_add(c->report, "instances", "problem", "they cannot be asked for: %s",
                     failure ? failure->text : "no list came");
        answered(c);
        return;
    }
    c->instances = json_object_new_array();
    for (size_t i = 0; i < json_object_array_length(result); i++) {
        struct json_object *data = data_of(json_object_array_get_idx(result, i));
        struct json_object *row = json_object_new_object();
        for (size_t k = 0; k < ARRAY_LEN(fields); k++)
            json_add_string(row, fields[k], json_get_string(data, fields[k], NULL));
        json_object_array_add(c->instances, row);
    }
    answered(c);
}

static void bus_connected(void *aux, bool up, const char *why)
{
    struct check *c = aux;

    (void)why;
    if (!up || c->asked_cloud || !c->cloud)
        return;
    c->asked_cloud = true;
    takeover_add(c->report, "message bus", "good", "connected");
    c->open += 3;
    cloud_node_service_read(c->cloud, service_read, c);
    cloud_node_records_read(c->cloud, nodes_read, c);
    cloud_instances(c->cloud, instances_read, c);
    answered(c); /* the connection */
}

/* ---- the file compute_id ---- */

static char *read_identity(const char *directory)
{
    _cleanup_(str_freep) char *path = text_format("%s/compute_id", directory);
    _cleanup_(fd_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    char text[40] = "";
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

    if (n < 36)
        return NULL;
    text[36] = '\0';
    return text_check_uuid(text, "compute_id", NULL) == 0 ? text_dup(text) : NULL;
}

static void look_identity(struct check *c, const char *directory)
{
    _cleanup_(str_freep) char *uuid = read_identity(directory);

    if (!uuid)
        return;
    if (c->file_uuid && !text_equal(c->file_uuid, uuid))
        takeover_add(c->report, "node", "problem",
                     "two files compute_id differ: %s and %s (the latter in %s)", c->file_uuid,
                     uuid, directory);
    else if (!c->file_uuid)
        c->file_uuid = STEAL(uuid);
}

static void look_identities(struct check *c)
{
    const char *const *files = c->sources ? c->sources->config_files : NULL;

    for (; files && *files; files++) {
        _cleanup_(str_freep) char *directory = text_dup(*files);
        char *slash = strrchr(directory, '/');
        if (!slash)
            continue;
        *slash = '\0';
        look_identity(c, directory);
    }
    if (!files)
        look_identity(c, "/etc/nova");
    look_identity(c, conf_string(c->conf, CONF_DEFAULT_state_path));
}

/* ---- the run ---- */

static void connect_due(void *aux)
{
    struct check *c = aux;

    if (!c->asked_domains) {
        c->asked_domains = true; /* too late now */
        takeover_add(c->report, "libvirt", "problem", "no connection to libvirt within %d s",
                     (int)(CONNECT_US / USEC_PER_SEC));
        answered(c);
    }
    if (c->cloud && !c->asked_cloud) {
        c->asked_cloud = true;
        takeover_add(c->report, "message bus", "problem", "no connection within %d s",
                     (int)(CONNECT_US / USEC_PER_SEC));
        answered(c);
    }
}

static void whole_due(void *aux)
{
    struct check *c = aux;

    takeover_add(c->report, "check", "problem", "%u question(s) were not answered in time",
                 c->open);
    loop_quit(c->loop);
}

static int open_check(struct check *c, struct err *e)
{
    static const struct virt_callbacks virt_callbacks = {.connection = virt_connected,
                                                         .event = ignore_event,
                                                         .iteration = ignore_iteration,
                                                         .job_completed = ignore_job};
    static const struct rpc_callbacks rpc_callbacks = {.state = bus_connected};
    const char *host = conf_string(c->conf, CONF_DEFAULT_host);
    struct err cloud_err = ERR_INIT;

    if (loop_new(&c->loop, e) < 0 || workers_new(&c->workers, c->loop, 2, e) < 0 ||
        virt_new(&c->virt, c->loop, c->conf, &virt_callbacks, c, e) < 0)
        return -1;
    c->open++; /* libvirt */
    c->connect_timer = loop_timer_new(c->loop, "connect", connect_due, c);
    c->whole_timer = loop_timer_new(c->loop, "check", whole_due, c);
    loop_timer_arm(c->connect_timer, CONNECT_US);
    loop_timer_arm(c->whole_timer, WHOLE_US);
    if (text_equal(conf_string(c->conf, CONF_agent_control_plane), "standalone")) {
        takeover_add(c->report, "control plane", "problem",
                     "agent.control_plane is standalone: set it to nova to take over a host");
        return 0;
    }
    takeover_look_bus(c->report, c->conf);
    if (rpc_new(&c->rpc, c->loop, c->conf, host, &rpc_callbacks, c, &cloud_err) < 0) {
        takeover_add(c->report, "control plane", "problem",
                     "it cannot be asked, for the message bus cannot be used: %s", cloud_err.text);
        return 0;
    }
    if (cloud_new(&c->cloud, c->loop, c->conf, c->rpc, host, &cloud_err) < 0) {
        takeover_add(c->report, "control plane", "problem", "%s", cloud_err.text);
        return 0;
    }
    c->open++; /* the bus */
    return 0;
}

static void close_check(struct check *c)
{
    if (c->rpc)
        rpc_free(c->rpc, STOP_US);
    workers_free(c->workers, STOP_US);
    cloud_free(c->cloud);
    virt_free(c->virt);
    loop_timer_free(c->connect_timer);
    loop_timer_free(c->whole_timer);
    loop_free(c->loop);
    json_object_put(c->instances);
    json_object_put(c->domains);
    json_object_put(c->report);
    free(c->file_uuid);
}

int takeover_check(const struct conf *conf, const struct conf_sources *sources,
                   const struct conf_report *conf_report, struct json_object **out, struct err *e)
{
    struct check c = {.conf = conf, .sources = sources};

    c.report = json_object_new_object();
    json_add_string(c.report, "host", conf_string(conf, CONF_DEFAULT_host));
    json_add_string(c.report, "control_plane", conf_string(conf, CONF_agent_control_plane));
    json_add_int(c.report, "problems", 0);
    takeover_look_processes(c.report, "/proc");
    takeover_look_options(c.report, conf, conf_report);
    look_identities(&c);
    int result = open_check(&c, e);
    if (result == 0)
        result = loop_run(c.loop, e);
    if (result == 0 && c.instances && c.domains)
        takeover_compare(c.report, c.instances, c.domains);
    if (result == 0) {
        json_add(c.report, "instances", json_object_get(c.instances));
        json_add(c.report, "domains", json_object_get(c.domains));
        *out = json_object_get(c.report);
    }
    close_check(&c);
    return result;
}

int takeover_main(const struct conf *conf, const struct conf_sources *sources,
                  const struct conf_report *conf_report)
{
    _cleanup_(json_putp) struct json_object *report = NULL;
    struct err e = ERR_INIT;

    if (takeover_check(conf, sources, conf_report, &report, &e) < 0) {
        fprintf(stderr, "computed: %s\n", e.text);
        return err_exit_code(e.code);
    }
    _cleanup_(str_freep) char *text = json_text(report);
    printf("%s\n", text);
    return 0;
}
