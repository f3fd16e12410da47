/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The RPC room as a program, for tests against the real oslo.messaging: a server whose answers the
 * caller chooses, and a client that is told what to call.
 *
 *     rpc_tool CONFIG-FILE [HOST]        with HOST it serves compute and compute-alt
 *
 * Standard input takes commands, standard output tells events, both one JSON object a line:
 *     {"op":"call","id":1,"topic":"compute","server":"h","method":"ping","namespace":"baseapi",
 *      "version":"1.0","args":{},"context":{},"timeout":60,"monitor":0}
 *     {"op":"cast","id":2,"topic":"compute","server":"h" | "fanout":true,"method":...}
 *     {"op":"cancel","id":1}   {"op":"status"}   {"op":"drain"}   {"op":"quit"}
 *     {"event":"state","up":true}   {"event":"reply","id":1,"result":...}
 *     {"event":"failure","id":1,"code":"TIMEOUT","class":...,"module":...,"text":...,"raw":...}
 *     {"event":"request","method":...,"kind":"call","version":"6.0","args":{},"context":{}}
 *
 * As a server it knows what to do by the method `control` of namespace "computed": commands echo, sleep,
 * fail, big, count, null; all other methods of the table are told as events and answered with a
 * versioned object where nova expects one, else null.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "conf/load.h"
#include "lib/clock.h"
#include "lib/json.h"
#include "lib/log.h"
#include "lib/metrics.h"
#include "lib/text.h"
#include "rpc/object.h"
#include "rpc/rpc.h"

struct tool {
    struct loop *loop;
    struct rpc *rpc;
    struct loop_source *input;
    struct text_buffer line;
    int64_t served;
};

struct pending {
    struct tool *tool;
    int64_t id;
    struct rpc_call *call;
    struct pending *next;
};
static struct pending *first_pending; /* of calls that can be cancelled */

static void emit(struct json_object *taken)
{
    _cleanup_(str_freep) char *text = json_text(taken);
    json_object_put(taken);
    puts(text);
    fflush(stdout);
}

static struct json_object *event(const char *name)
{
    struct json_object *o = json_object_new_object();
    json_add_string(o, "event", name);
    return o;
}

/* ---- serving ---- */

struct sleeper {
    struct rpc_request *request;
    struct loop_timer *timer;
    struct sleeper *next;
};
static struct sleeper *first_sleeper;

static void sleeper_free(struct sleeper *sleeper)
{
    struct sleeper **link = &first_sleeper;
    while (*link != sleeper)
        link = &(*link)->next;
    *link = sleeper->next;
    loop_timer_free(sleeper->timer);
    free(sleeper);
}

static void on_awake(void *aux)
{
    struct sleeper *sleeper = aux;
    rpc_reply(sleeper->request, json_object_new_string("slept"));
    sleeper_free(sleeper);
}

/* After rpc_free(): the requests are still ours, but nobody hears of their end. */
static void drop_sleepers(void)
{
    while (first_sleeper) {
        rpc_request_free(first_sleeper->request);
        sleeper_free(first_sleeper);
    }
}

static void do_sleep(struct tool *tool, struct rpc_request *request, struct json_object *args)
{
    struct sleeper *sleeper = NEW(struct sleeper);
    sleeper->request = request;
    sleeper->next = first_sleeper;
    first_sleeper = sleeper;
    sleeper->timer = loop_timer_new(tool->loop, "sleep", on_awake, sleeper);
    if (json_get_bool(args, "accept", false))
        rpc_request_accept(request);
    loop_timer_arm(sleeper->timer, (int64_t)(json_get_double(args, "seconds", 0) * USEC_PER_SEC));
}

static void do_echo(struct rpc_request *request, struct json_object *args)
{
    struct json_object *result = json_object_new_object();
    json_add(result, "args", json_object_get(args));
    json_add(result, "context", json_object_get(rpc_request_context(request)));
    rpc_reply(request, result);
}

static void do_fail(struct rpc_request *request, struct json_object *args)
{
    struct err e = ERR_INIT;
    err_set(&e, err_code_by_name(json_get_string(args, "code", "INTERNAL")), "%s",
            json_get_string(args, "text", ""));
    rpc_fail(request, &e);
}

static void do_big(struct rpc_request *request, struct json_object *args)
{
    size_t size = (size_t)json_get_int(args, "size", 0);
    _cleanup_(str_freep) char *text = mem_new(size + 1);
    memset(text, 'x', size);
    rpc_reply(request, json_object_new_string(text));
}

static void control(struct tool *tool, struct rpc_request *request)
{
    const char *command = json_object_get_string(rpc_request_arg(request, "command"));
    struct json_object *args = rpc_request_arg(request, "args");
    if (text_equal(command, "echo"))
        do_echo(request, args);
    else if (text_equal(command, "sleep"))
        do_sleep(tool, request, args);
    else if (text_equal(command, "fail"))
        do_fail(request, args);
    else if (text_equal(command, "big"))
        do_big(request, args);
    else if (text_equal(command, "count"))
        rpc_reply(request, json_object_new_int64(tool->served));
    else
        rpc_reply(request, NULL);
}

static struct json_object *migrate_data(void)
{
    _cleanup_(object_freep) struct object *data = object_new("LibvirtLiveMigrateData", "1.10");
    object_set_string(data, "serial_listen_addr", NULL);
    object_set_bool(data, "block_migration", true);
    return object_to_json(data);
}

static void on_request(void *aux, struct rpc_request *request)
{
    struct tool *tool = aux;
    enum rpc_method_id id = rpc_request_method(request);
    int major, minor;
    tool->served++;
    if (id == RPC_METHOD_control) {
        control(tool, request);
        return;
    }
    rpc_request_version(request, &major, &minor);
    _cleanup_(str_freep) char *version = text_format("%d.%d", major, minor);
    struct json_object *o = event("request");
    json_add_string(o, "method", rpc_method_name(id));
    json_add_string(o, "kind", rpc_request_kind(request) == RPC_KIND_CALL ? "call" : "cast");
    json_add_string(o, "version", version);
    json_add(o, "context", json_object_get(rpc_request_context(request)));
    emit(o);
    rpc_reply(request, id == RPC_METHOD_check_can_live_migrate_destination ||
                               id == RPC_METHOD_pre_live_migration
                           ? migrate_data()
                           : NULL);
}

static void on_state(void *aux, bool up, const char *why)
{
    (void)aux;
    struct json_object *o = event("state");
    json_add_bool(o, "up", up);
    json_add_string(o, "why", why);
    emit(o);
}

/* ---- calling ---- */

static void forget_pending(struct pending *pending)
{
    struct pending **link = &first_pending;
    while (*link != pending)
        link = &(*link)->next;
    *link = pending->next;
    free(pending);
}

static void on_done(void *aux, struct json_object *result, const struct err *failure)
{
    struct pending *pending = aux;
    struct json_object *o = event(failure ? "failure" : "reply");
    json_add_int(o, "id", pending->id);
    if (failure) {
        json_add_string(o, "code", err_name(failure->code));
        json_add_string(o, "class", err_wire_class(failure));
        json_add_string(o, "module", err_wire_module(failure));
        json_add_string(o, "text", failure->text);
        json_add_string(o, "raw", rpc_failure_raw(pending->tool->rpc));
    } else {
        json_add(o, "result", json_object_get(result));
    }
    emit(o);
    forget_pending(pending);
}

static struct pending *pending_new(struct tool *tool, struct json_object *command)
{
    struct pending *pending = NEW(struct pending);
    pending->tool = tool;
    pending->id = json_get_int(command, "id", 0);
    pending->next = first_pending;
    first_pending = pending;
    return pending;
}

static enum rpc_method_id method_id(const char *name)
{
    for (int id = 0; id < RPC_METHOD_COUNT; id++)
        if (text_equal(rpc_method_name((enum rpc_method_id)id), name))
            return (enum rpc_method_id)id;
    fprintf(stderr, "no method %s\n", name);
    exit(2);
}

static void send_request(struct tool *tool, struct json_object *command, bool cast)
{
    const char *method = json_get_string(command, "method", "");
    struct rpc_target target = {
        .topic = json_get_string(command, "topic", "compute"),
        .server = json_get_string(command, "server", NULL),
        .fanout = json_get_bool(command, "fanout", false),
    };
    struct rpc_options options = {
        .version = json_get_string(command, "version", NULL),
        .timeout_us = (int64_t)(json_get_double(command, "timeout", 0) * USEC_PER_SEC),
        .monitor_us = (int64_t)(json_get_double(command, "monitor", 0) * USEC_PER_SEC),
    };
    struct json_object *args = json_object_get(json_get(command, "args"));
    struct json_object *context = json_get(command, "context");
    struct pending *pending = pending_new(tool, command);
    if (cast)
        rpc_cast(tool->rpc, &target, method_id(method), args, context, &options, on_done, pending);
    else
        pending->call =
            rpc_call_named(tool->rpc, &target, method, json_get_string(command, "namespace", NULL),
                           args, context, &options, on_done, pending);
}

static void cancel(int64_t id)
{
    for (struct pending *pending = first_pending; pending; pending = pending->next)
        if (pending->id == id && pending->call) {
            rpc_call_cancel(pending->call);
            return;
        }
}

static void tell_status(struct tool *tool)
{
    struct json_object *o = event("status");
    json_add(o, "rpc", rpc_status(tool->rpc));
    json_add_int(o, "served", tool->served);
    for (int m = 0; m < METRIC_COUNT; m++)
        json_add_int(o, metric_name((enum metric)m), (int64_t)metric_get((enum metric)m));
    emit(o);
}

static void obey(struct tool *tool, const char *line)
{
    _cleanup_(json_putp) struct json_object *command = NULL;
    struct err e = ERR_INIT;
    if (json_parse(line, strlen(line), &command, &e)) {
        fprintf(stderr, "%s\n", e.text);
        exit(2);
    }
    const char *op = json_get_string(command, "op", "");
    if (text_equal(op, "call") || text_equal(op, "cast"))
        send_request(tool, command, text_equal(op, "cast"));
    else if (text_equal(op, "cancel"))
        cancel(json_get_int(command, "id", 0));
    else if (text_equal(op, "status"))
        tell_status(tool);
    else if (text_equal(op, "drain"))
        rpc_drain(tool->rpc);
    else
        loop_quit(tool->loop);
}

static void on_input(void *aux, uint32_t epoll_events)
{
    struct tool *tool = aux;
    char block[65536];
    (void)epoll_events;
    ssize_t n = read(STDIN_FILENO, block, sizeof(block));
    if (n <= 0) {
        loop_quit(tool->loop);
        return;
    }
    text_buffer_add_n(&tool->line, block, (size_t)n);
    for (char *end; tool->line.length && (end = strchr(tool->line.data, '\n'));) {
        size_t used = (size_t)(end - tool->line.data) + 1;
        *end = '\0';
        _cleanup_(str_freep) char *line = text_dup(tool->line.data);
        memmove(tool->line.data, tool->line.data + used, tool->line.length - used + 1);
        tool->line.length -= used;
        obey(tool, line);
    }
}

static int run(const char *config, const char *host, struct err *e)
{
    static const struct rpc_callbacks server = {.request = on_request, .state = on_state};
    static const struct rpc_callbacks client = {.state = on_state};
    const char *const files[] = {config, NULL};
    const struct conf_sources sources = {.config_files = files};
    _cleanup_(conf_unrefp) struct conf *conf = NULL;
    _cleanup_(loop_freep) struct loop *loop = NULL;
    struct tool tool = {.line = TEXT_BUFFER_INIT};
    if (conf_load(&sources, &conf, NULL, e) || loop_new(&loop, e))
        return -1;
    tool.loop = loop;
    if (rpc_new(&tool.rpc, loop, conf, host, host ? &server : &client, &tool, e))
        return -1;
    tool.input = loop_add_fd(loop, STDIN_FILENO, EPOLLIN, "commands", on_input, &tool, e);
    int r = tool.input ? loop_run(loop, e) : -1;
    rpc_free(tool.rpc, 2 * USEC_PER_SEC);
    drop_sleepers();
    text_buffer_free(&tool.line);
    loop_source_free(tool.input);
    return r;
}

int main(int argc, char **argv)
{
    struct err e = ERR_INIT;
    if (argc < 2 || argc > 3) {
        fprintf(stderr, "usage: rpc_tool CONFIG-FILE [HOST]\n");
        return 64;
    }
    if (run(argv[1], argc > 2 ? argv[2] : NULL, &e)) {
        fprintf(stderr, "rpc_tool: %s\n", e.text);
        return err_exit_code(e.code);
    }
    return 0;
}
