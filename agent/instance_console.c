/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/instance_console.h"

#include <errno.h>
#include <string.h>

#include "agent/instance_ask.h"
#include "cloud/instances.h"
#include "lib/json.h"
#include "virt/instance_disks.h"

enum { CONSOLE_BYTES = 100 * 1024 }; /* MAX_CONSOLE_BYTES of the libvirt driver */

/* An instance that is still built has no domain: "not ready" instead of "not found". */
static int refuse_absent(const struct instance_ask *ask, struct err *e)
{
    if (text_equal(instance_vm_state(ask->instance), "building"))
        return instance_refuse(e, ERR_INSTANCE_STATE, "InstanceNotReady",
                               "Instance %s is not ready", ask->uuid);
    return err_set(e, ERR_NO_INSTANCE, "Instance %s could not be found.", ask->uuid);
}

static int need_domain(struct instance_ask *ask, struct err *e)
{
    if (virt_guest_state(ask->virt, ask->uuid, &ask->state, e) < 0)
        return -1;
    return ask->state == VIRT_STATE_NONE ? refuse_absent(ask, e) : 0;
}

/* ---- output ---- */

/* The last `lines` lines; what follows the last line end counts as one (manager._tail_log). */
static const char *last_lines(const char *text, int64_t lines)
{
    const char *p = text + strlen(text);

    if (lines <= 0)
        return p;
    while (p > text && (p[-1] != '\n' || --lines > 0))
        p--;
    return p;
}

static int output_run(struct instance_ask *ask, struct err *e)
{
    struct err failure = ERR_INIT;

    if (need_domain(ask, e) < 0)
        return -1;
    if (instance_console_tail(ask->conf, ask->uuid, CONSOLE_BYTES, &ask->text, &failure) == 0)
        return 0;
    if (failure.sys != ENOENT) {
        *e = failure;
        return -1;
    }
    ask->text = text_dup(""); /* it has not written anything yet */
    return 0;
}

/* The argument is a number, or, from old clients, one as text; null is everything. */
static bool wanted_lines(struct json_object *arg, int64_t *lines)
{
    if (!arg)
        return false;
    *lines = 0;
    if (json_object_is_type(arg, json_type_string))
        (void)text_to_int64(json_object_get_string(arg), INT64_MIN, INT64_MAX, lines, NULL);
    else
        *lines = json_object_get_int64(arg);
    return true;
}

static void output_reply(struct instance_ask *ask)
{
    int64_t lines;
    const char *text = ask->text;

    if (wanted_lines(rpc_request_arg(ask->request, "tail_length"), &lines))
        text = last_lines(text, lines);
    instance_ask_reply(ask, json_object_new_string(text));
}

void instance_console_output(struct agent *agent, struct rpc_request *request)
{
    struct instance_ask *ask = instance_ask_new(agent, request, true);

    if (!ask)
        return;
    ask->run = output_run;
    ask->then = output_reply;
    instance_ask_submit(ask, "read the console's log");
}

/* ---- ways to a console ---- */

static const struct console {
    const char *type; /* console_type of the request */
    const char *kind; /* for messages */
    enum conf_id enabled, host, url;
} consoles[] = {
    {"novnc", "vnc", CONF_vnc_enabled, CONF_vnc_server_proxyclient_address,
     CONF_vnc_novncproxy_base_url},
    {"spice-html5", "spice", CONF_spice_enabled, CONF_spice_server_proxyclient_address,
     CONF_spice_html5proxy_base_url},
    {"serial", "serial", CONF_serial_console_enabled, CONF_serial_console_proxyclient_address,
     CONF_serial_console_base_url},
};

static const struct console *find_console(const char *kind)
{
    for (size_t i = 0; i < ARRAY_LEN(consoles); i++)
        if (text_equal(consoles[i].kind, kind))
            return &consoles[i];
    return NULL;
}

static int port_of(const struct virt_consoles *c, const struct console *console)
{
    if (text_equal(console->kind, "vnc"))
        return c->vnc_port;
    if (text_equal(console->kind, "spice"))
        return c->spice_port;
    return c->serial_count > 0 ? c->serial_ports[0] : -1;
}

static int consoles_run(struct instance_ask *ask, struct err *e)
{
    if (need_domain(ask, e) < 0)
        return -1;
    if (ask->state != VIRT_STATE_RUNNING && ask->state != VIRT_STATE_PAUSED) {
        ask->consoles = (struct virt_consoles){.vnc_port = -1, .spice_port = -1};
        return 0;
    }
    return virt_guest_consoles(ask->virt, ask->uuid, &ask->consoles, e);
}

static int refuse_type(struct err *e, const char *class, const char *what, const char *type)
{
    _cleanup_(str_freep) char *shown = text_escape(type ? type : "null", 40);

    return instance_refuse(e, ERR_INVALID, class, "%s console type %s", what, shown);
}

static void token_made(void *aux, struct json_object *result, const struct err *failure)
{
    struct instance_ask *ask = aux;

    if (failure)
        instance_ask_fail(ask, failure);
    else
        instance_ask_reply(ask, json_object_get(result));
}

static void make_token(struct instance_ask *ask, const struct console *row)
{
    struct cloud_console console = {
        .instance_uuid = ask->uuid,
        .type = json_object_get_string(rpc_request_arg(ask->request, "console_type")),
        .host = conf_string(ask->conf, row->host),
        .port = port_of(&ask->consoles, row),
        .access_url_base = conf_string(ask->conf, row->url),
    };
    struct err e = ERR_INIT;

    if (console.port <= 0) {
        refuse_type(&e, "ConsoleTypeUnavailable", "Unavailable", row->kind);
        instance_ask_fail(ask, &e);
        return;
    }
    cloud_console_token(ask->agent->cloud, rpc_request_context(ask->request), &console, token_made,
                        ask);
}

static void vnc_found(struct instance_ask *ask)
{
    make_token(ask, find_console("vnc"));
}

static void spice_found(struct instance_ask *ask)
{
    make_token(ask, find_console("spice"));
}

static void serial_found(struct instance_ask *ask)
{
    make_token(ask, find_console("serial"));
}

static void ask_for_console(struct agent *agent, struct rpc_request *request, const char *kind,
                            void (*then)(struct instance_ask *ask))
{
    const struct console *row = find_console(kind);
    struct instance_ask *ask = instance_ask_new(agent, request, true);
    struct err e = ERR_INIT;

    if (!ask)
        return;
    const char *type = json_object_get_string(rpc_request_arg(request, "console_type"));
    if (!conf_bool(ask->conf, row->enabled))
        refuse_type(&e, "ConsoleTypeUnavailable", "Unavailable", type);
    else if (!text_equal(type, row->type))
        refuse_type(&e, "ConsoleTypeInvalid", "Invalid", type);
    if (err_is_set(&e)) {
        instance_ask_fail(ask, &e);
        return;
    }
    ask->run = consoles_run;
    ask->then = then;
    instance_ask_submit(ask, "look at the consoles");
}

void instance_vnc_console(struct agent *agent, struct rpc_request *request)
{
    ask_for_console(agent, request, "vnc", vnc_found);
}

void instance_spice_console(struct agent *agent, struct rpc_request *request)
{
    ask_for_console(agent, request, "spice", spice_found);
}

void instance_serial_console(struct agent *agent, struct rpc_request *request)
{
    ask_for_console(agent, request, "serial", serial_found);
}

/* ---- the proxy asks whether a token's port is still the guest's ---- */

static const struct console *console_of_type(const char *type)
{
    if (text_starts_with(type ? type : "", "spice"))
        return find_console("spice");
    return find_console(text_equal(type, "serial") ? "serial" : "vnc");
}

static void port_found(struct instance_ask *ask)
{
    const char *type = json_object_get_string(rpc_request_arg(ask->request, "console_type"));
    struct json_object *arg = rpc_request_arg(ask->request, "port");
    int port = port_of(&ask->consoles, console_of_type(type));
    struct err e = ERR_INIT;

    if (port <= 0) {
        refuse_type(&e, "ConsoleTypeUnavailable", "Unavailable", type);
        instance_ask_fail(ask, &e);
        return;
    }
    _cleanup_(str_freep) char *text = text_format("%d", port);
    bool same = text_equal(json_object_get_string(arg), text);
    instance_ask_reply(ask, json_object_new_boolean(same));
}

void instance_validate_console_port(struct agent *agent, struct rpc_request *request)
{
    struct instance_ask *ask = instance_ask_new(agent, request, true);

    if (!ask)
        return;
    ask->run = consoles_run;
    ask->then = port_found;
    instance_ask_submit(ask, "look at the consoles");
}
