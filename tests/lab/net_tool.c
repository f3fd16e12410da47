/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The net room by hand, for the lab's tests: reads commands from standard input, one a line, and answers each
 * with one line of JSON {"ok", "us", "at", "result" or "error"}; "us" is how long the call took, "at" the
 * real-time clock in microseconds when it began.
 *
 *     net_tool 'PORT AS JSON' [group.name=value]...
 *     check | plug | ready MS | wired MS | unplug | present | audit [INSTANCE] | undo | arm | announce | teach |
 *     disarm |
 *     block MS (keeps the loop from turning) |
 *     hold_make [BYTES] (without BYTES as the agent makes it, with an undo step) | hold_remove |
 *     hold_open | hold_begin | hold_release | hold_backlog | hold_end | hold_close |
 *     expect ADDRESS (after arm; gives a TCP port: the destination, which may carry frames) |
 *     connect ADDRESS PORT (the source, which offers it) | paused | carried (what became of it) | part | quit
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>

#include "lib/clock.h"
#include "lib/json.h"
#include "lib/log.h"
#include "lib/text.h"
#include "net/forward.h"
#include "net/hold.h"
#include "net/net.h"
#include "net/tap_end.h"

enum { OPTIONS_MAX = 4, LINE_MAX_SIZE = 256 };

struct tool {
    struct loop *loop;
    struct net *net;
    struct net_port *port;
    struct undo *undo;
    struct net_armed *armed;
    struct hold *hold;
    struct channel_listener *listener;
    struct forward_destination *destination;
    struct forward_source *source;
    struct loop_timer *timer;
    bool turned, wired, ended;
    char line[LINE_MAX_SIZE];
    size_t length;
};

/* Each command gives 0 or -1; `argument` is the rest of the line; *result may be set. */
typedef int (*command_fn)(struct tool *t, const char *argument, struct json_object **result,
                          struct err *e);

static int do_check(struct tool *t, const char *argument _unused_,
                    struct json_object **result _unused_, struct err *e)
{
    return net_check(t->net, t->port, e);
}

static int do_plug(struct tool *t, const char *argument _unused_,
                   struct json_object **result _unused_, struct err *e)
{
    return net_plug(t->net, t->port, t->undo, e);
}

static int do_ready(struct tool *t, const char *argument, struct json_object **result _unused_,
                    struct err *e)
{
    return net_wait_ready(t->net, t->port, strtol(argument, NULL, 10) * USEC_PER_MSEC, e);
}

static int do_wired(struct tool *t, const char *argument, struct json_object **result,
                    struct err *e)
{
    bool wired;

    if (net_wait_wired(t->net, t->port, strtol(argument, NULL, 10) * USEC_PER_MSEC, &wired, e) < 0)
        return -1;
    *result = json_object_new_boolean(wired);
    return 0;
}

static int do_unplug(struct tool *t, const char *argument _unused_,
                     struct json_object **result _unused_, struct err *e)
{
    return net_unplug(t->net, t->port, e);
}

static int do_present(struct tool *t, const char *argument _unused_, struct json_object **result,
                      struct err *e)
{
    bool present;

    if (net_port_present(t->net, t->port, &present, e) < 0)
        return -1;
    *result = json_object_new_boolean(present);
    return 0;
}

static int do_audit(struct tool *t, const char *argument, struct json_object **result,
                    struct err *e)
{
    const char *const instances[] = {argument[0] ? argument : NULL, NULL};

    return net_audit(t->net, instances, result, e);
}

static int do_undo(struct tool *t, const char *argument _unused_,
                   struct json_object **result _unused_, struct err *e)
{
    return undo_run(t->undo, e);
}

static int do_arm(struct tool *t, const char *argument _unused_,
                  struct json_object **result _unused_, struct err *e)
{
    return net_arm(t->net, &t->port, 1, &t->armed, e);
}

static int do_announce(struct tool *t, const char *argument _unused_, struct json_object **result,
                       struct err *e)
{
    if (!t->armed)
        return err_set(e, ERR_USAGE, "nothing is armed");
    *result = json_object_new_int64(net_announce(t->armed));
    return 0;
}

static int do_teach(struct tool *t, const char *argument _unused_, struct json_object **result,
                    struct err *e)
{
    if (!t->armed)
        return err_set(e, ERR_USAGE, "nothing is armed");
    *result = json_object_new_int64(net_teach_and_announce(t->armed, NULL, NULL));
    return 0;
}

static int do_disarm(struct tool *t, const char *argument _unused_,
                     struct json_object **result _unused_, struct err *e _unused_)
{
    net_disarm(t->armed);
    t->armed = NULL;
    return 0;
}

static int do_block(struct tool *t _unused_, const char *argument,
                    struct json_object **result _unused_, struct err *e _unused_)
{
    long ms = strtol(argument, NULL, 10);
    const struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

    (void)nanosleep(&pause, NULL);
    return 0;
}

static int do_hold_make(struct tool *t, const char *argument, struct json_object **result _unused_,
                        struct err *e)
{
    if (!argument[0])
        return net_hold_make(t->net, t->port, t->undo, e);
    return hold_make(t->port->tap, t->port->mtu, strtoll(argument, NULL, 10), e);
}

static int do_hold_remove(struct tool *t, const char *argument _unused_,
                          struct json_object **result _unused_, struct err *e)
{
    return hold_remove(t->port->tap, e);
}

static int do_hold_open(struct tool *t, const char *argument _unused_,
                        struct json_object **result _unused_, struct err *e)
{
    return hold_open(&t->hold, t->port->tap, e);
}

static int do_hold_close(struct tool *t, const char *argument _unused_,
                         struct json_object **result _unused_, struct err *e _unused_)
{
    hold_close(t->hold);
    t->hold = NULL;
    return 0;
}

static int need_hold(const struct tool *t, struct err *e)
{
    return t->hold ? 0 : err_set(e, ERR_USAGE, "no hold is open");
}

static int do_hold_begin(struct tool *t, const char *argument _unused_,
                         struct json_object **result _unused_, struct err *e)
{
    return need_hold(t, e) < 0 ? -1 : hold_begin(t->hold, e);
}

static int do_hold_release(struct tool *t, const char *argument _unused_,
                           struct json_object **result _unused_, struct err *e)
{
    return need_hold(t, e) < 0 ? -1 : hold_release(t->hold, e);
}

static int do_hold_end(struct tool *t, const char *argument _unused_,
                       struct json_object **result _unused_, struct err *e)
{
    return need_hold(t, e) < 0 ? -1 : hold_end(t->hold, e);
}

static int do_hold_backlog(struct tool *t, const char *argument _unused_,
                           struct json_object **result, struct err *e)
{
    int64_t bytes, frames;

    if (need_hold(t, e) < 0 || hold_backlog(t->hold, &bytes, &frames, e) < 0)
        return -1;
    *result = json_object_new_object();
    json_add_int(*result, "bytes", bytes);
    json_add_int(*result, "frames", frames);
    return 0;
}

/* --- frames between two of these programs ------------------------------------------------------ */

enum { CARRY_LIMIT_US = 30000000, LOOK_AGAIN_US = 100000 };
static const char migration[] = "5c0ffee5-0000-4000-8000-000000000001",
                  key[] = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

static void carried(void *aux, enum forward_carry_event event, bool wired, const char *why _unused_)
{
    struct tool *t = aux;

    t->ended = event == FORWARD_CARRY_ENDED;
    if (event != FORWARD_CARRY_TURNED)
        return;
    t->turned = true;
    t->wired = wired;
    if (t->destination)
        (void)net_announce(t->armed);
}

static void look(void *aux)
{
    struct tool *t = aux;
    bool way = false;

    if (t->destination && net_has_way(t->net, t->port, &way, NULL) == 0)
        forward_destination_way(t->destination, way);
    loop_timer_arm(t->timer, LOOK_AGAIN_US);
}

static int do_expect(struct tool *t, const char *argument, struct json_object **result,
                     struct err *e)
{
    if (!t->armed)
        return err_set(e, ERR_USAGE, "nothing is armed");
    if (channel_listener_new(&t->listener, t->loop, argument, 0, e) < 0 ||
        forward_destination_new(&t->destination, t->loop, t->listener, &t->port, 1, FORWARD_HELD,
                                migration, key, e) < 0)
        return -1;
    forward_destination_may_carry(t->destination, CARRY_LIMIT_US, carried, t);
    t->timer = loop_timer_new(t->loop, "way of the port", look, t);
    net_armed_watch(t->armed, look, t);
    *result = json_object_new_int(channel_listener_port(t->listener));
    return 0;
}

static int do_connect(struct tool *t, const char *argument, struct json_object **result _unused_,
                      struct err *e)
{
    _cleanup_(tap_end_closep) struct tap_end *end = NULL;
    char address[64];
    int port;

    if (sscanf(argument, "%63s %d", address, &port) != 2)
        return err_set(e, ERR_USAGE, "an address and a port are needed");
    if (net_share_tap(t->net, t->port, &end, e) < 0 ||
        forward_source_new(&t->source, t->loop, &t->port, 1, FORWARD_HELD, address, port, migration,
                           key, e) < 0)
        return -1;
    forward_source_keep(t->source, &t->port, &end, 1, CARRY_LIMIT_US, carried, t);
    return 0;
}

static int do_paused(struct tool *t, const char *argument _unused_, struct json_object **result,
                     struct err *e _unused_)
{
    if (t->source)
        forward_source_paused(t->source);
    if (t->destination)
        forward_destination_paused(t->destination);
    *result = json_object_new_boolean(
        t->source ? forward_source_is_carrying(t->source)
                  : t->destination && forward_destination_is_carrying(t->destination));
    return 0;
}

static int do_carried(struct tool *t, const char *argument _unused_, struct json_object **result,
                      struct err *e _unused_)
{
    struct forward_counts counts = {0};

    if (t->source)
        forward_source_counts(t->source, &counts);
    if (t->destination)
        forward_destination_counts(t->destination, &counts);
    *result = json_object_new_object();
    json_add_int(*result, "forwarded", (int64_t)counts.forwarded);
    json_add_int(*result, "carried", (int64_t)counts.carried);
    json_add_int(*result, "foreign", (int64_t)counts.foreign);
    json_add_int(*result, "dropped", (int64_t)counts.dropped);
    json_add_bool(*result, "turned", t->turned);
    json_add_bool(*result, "wired", t->wired);
    json_add_bool(*result, "ended", t->ended);
    return 0;
}

static int do_part(struct tool *t, const char *argument _unused_,
                   struct json_object **result _unused_, struct err *e _unused_)
{
    loop_timer_free(STEAL(t->timer));
    net_disarm(STEAL(t->armed));
    forward_source_free(STEAL(t->source));
    forward_destination_free(STEAL(t->destination));
    channel_listener_free(STEAL(t->listener));
    return 0;
}

static const struct {
    const char *name;
    command_fn run;
} commands[] = {{"expect", do_expect},
                {"connect", do_connect},
                {"paused", do_paused},
                {"carried", do_carried},
                {"part", do_part},
                {"hold_make", do_hold_make},
                {"hold_remove", do_hold_remove},
                {"hold_open", do_hold_open},
                {"hold_close", do_hold_close},
                {"hold_begin", do_hold_begin},
                {"hold_release", do_hold_release},
                {"hold_end", do_hold_end},
                {"hold_backlog", do_hold_backlog},
                {"check", do_check},
                {"plug", do_plug},
                {"ready", do_ready},
                {"wired", do_wired},
                {"unplug", do_unplug},
                {"present", do_present},
                {"audit", do_audit},
                {"undo", do_undo},
                {"arm", do_arm},
                {"announce", do_announce},
                {"teach", do_teach},
                {"disarm", do_disarm},
                {"block", do_block}};

static int run(struct tool *t, const char *name, const char *argument, struct json_object **result,
               struct err *e)
{
    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        if (text_equal(commands[i].name, name))
            return commands[i].run(t, argument, result, e);
    return err_set(e, ERR_USAGE, "no command '%s'", name);
}

static void answer(struct tool *t, char *line)
{
    struct json_object *result = NULL;
    struct err e = ERR_INIT;
    char *argument = strchr(line, ' ');

    if (argument)
        *argument++ = '\0';
    _cleanup_(json_putp) struct json_object *o = json_object_new_object();
    int64_t at = clock_realtime_us(), start = clock_monotonic_us();
    int rc = run(t, line, argument ? argument : "", &result, &e);
    json_add_int(o, "us", clock_monotonic_us() - start);
    json_add_int(o, "at", at);
    json_object_object_add(o, "ok", json_object_new_boolean(rc == 0));
    json_object_object_add(o, "result", result);
    json_add_string(o, "error", rc < 0 ? e.text : NULL);
    _cleanup_(str_freep) char *text = json_text(o);
    (void)printf("%s\n", text);
    (void)fflush(stdout);
}

static void input(void *aux, uint32_t epoll_events _unused_)
{
    struct tool *t = aux;
    char *end;
    ssize_t n = read(STDIN_FILENO, t->line + t->length, sizeof(t->line) - 1 - t->length);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        loop_quit(t->loop);
        return;
    }
    t->length += (size_t)n;
    t->line[t->length] = '\0';
    while ((end = strchr(t->line, '\n'))) {
        *end = '\0';
        if (text_equal(t->line, "quit"))
            loop_quit(t->loop);
        else
            answer(t, t->line);
        t->length -= (size_t)(end + 1 - t->line);
        memmove(t->line, end + 1, t->length + 1);
    }
}

static struct conf *configure(int n, char **options)
{
    static char empty[] = "";
    const char *pair[2 * OPTIONS_MAX + 1] = {NULL};

    for (int i = 0; i < n && i < OPTIONS_MAX; i++) {
        char *equals = strchr(options[i], '=');
        pair[2 * i] = options[i];
        pair[2 * i + 1] = equals ? equals + 1 : empty;
        if (equals)
            *equals = '\0';
    }
    return conf_for_test(pair[0], pair[1], pair[2], pair[3], pair[4], pair[5], pair[6], pair[7],
                         NULL);
}

static int start(struct tool *t, const char *port, const struct conf *conf, struct err *e)
{
    _cleanup_(json_putp) struct json_object *o = NULL;

    if (json_parse(port, strlen(port), &o, e) < 0 || net_port_from_json(o, &t->port, e) < 0 ||
        loop_new(&t->loop, e) < 0 || net_new(&t->net, t->loop, conf, e) < 0)
        return -1;
    t->undo = undo_new(net_undo_handlers(t->net), NULL, NULL);
    if (fcntl(STDIN_FILENO, F_SETFL, O_NONBLOCK) < 0)
        return err_set_errno(e, ERR_SYSTEM, errno, "standard input");
    return loop_add_fd(t->loop, STDIN_FILENO, EPOLLIN, "input", input, t, e) ? 0 : -1;
}

int main(int argc, char **argv)
{
    struct tool t = {0};
    struct err e = ERR_INIT;

    if (argc < 2) {
        (void)fprintf(stderr, "net_tool: a port as JSON is needed\n");
        return 64;
    }
    log_set_level(NULL, getenv("NET_TOOL_DEBUG") ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERROR);
    _cleanup_(conf_unrefp) struct conf *conf = configure(argc - 2, argv + 2);
    int rc = start(&t, argv[1], conf, &e);
    if (rc == 0)
        rc = loop_run(t.loop, &e);
    if (rc < 0)
        (void)fprintf(stderr, "net_tool: %s\n", e.text);
    (void)do_part(&t, "", NULL, NULL);
    hold_close(t.hold);
    net_disarm(t.armed);
    undo_free(t.undo);
    net_free(t.net);
    loop_free(t.loop);
    net_port_free(t.port);
    return rc < 0 ? err_exit_code(e.code) : 0;
}
