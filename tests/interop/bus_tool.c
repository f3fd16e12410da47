/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bus by itself, for the tests of tests/interop: one JSON line on standard output for each thing that
 * happens, commands as lines on standard input.
 *
 *     bus_tool CONFIG_FILE HOST [TOPIC...]
 *
 * Commands:
 *     publish EXCHANGE KEY MANDATORY EXPIRATION_MS DEADLINE_MS BODY   ("-" = empty exchange)
 *     burst COUNT EXCHANGE KEY      COUNT messages {"n": i}; one line when all are told
 *     ack on|off                    whether deliveries are acknowledged at once (default on)
 *     stop TOPIC                    drain
 *     describe                      {"describe": "host:port", "up": ..., "reply": ...}
 *     quit WAIT_MS
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "conf/load.h"
#include "lib/clock.h"
#include "lib/json.h"
#include "lib/log.h"
#include "lib/loop.h"
#include "lib/metrics.h"
#include "lib/text.h"
#include "rpc/bus.h"

struct tool {
    struct loop *loop;
    struct bus *bus;
    bool acks, quits;
    int64_t quit_wait_us;
    struct text_buffer input;
    uint64_t burst_left, outcomes[4];
};

struct sent {
    struct tool *tool;
    char *body; /* NULL: one of a burst */
};

static const char *const outcome_names[] = {"confirmed", "unroutable", "expired", "refused"};

static void say(struct json_object *o)
{
    _cleanup_(str_freep) char *text = json_text(o);

    printf("%s\n", text);
    fflush(stdout);
    json_object_put(o);
}

static void on_delivery(void *aux, struct bus_delivery *d)
{
    struct tool *t = aux;
    struct json_object *o = json_object_new_object();

    json_add_string(o, "delivery", d->body);
    json_add_bool(o, "redelivered", d->redelivered);
    json_add_bool(o, "is_reply", d->is_reply);
    say(o);
    if (t->acks)
        bus_ack(t->bus, d);
    bus_delivery_free(d);
}

static void on_state(void *aux, bool up, const char *why)
{
    struct json_object *o = json_object_new_object();

    (void)aux;
    json_add_bool(o, "up", up);
    json_add_string(o, "why", why);
    say(o);
}

static void on_burst(struct tool *t)
{
    struct json_object *o;

    if (--t->burst_left > 0)
        return;
    o = json_object_new_object();
    for (size_t i = 0; i < ARRAY_LEN(outcome_names); i++)
        json_add_int(o, outcome_names[i], (int64_t)t->outcomes[i]);
    say(o);
}

static void on_done(void *aux, enum bus_outcome outcome)
{
    struct sent *s = aux;
    struct json_object *o;

    s->tool->outcomes[outcome]++;
    if (!s->body) {
        on_burst(s->tool);
    } else {
        o = json_object_new_object();
        json_add_string(o, "outcome", outcome_names[outcome]);
        json_add_string(o, "body", s->body);
        say(o);
    }
    free(s->body);
    free(s);
}

static void publish(struct tool *t, struct bus_message m, const char *body, bool is_burst)
{
    struct sent *s = NEW(struct sent);

    s->tool = t;
    s->body = is_burst ? NULL : text_dup(body);
    m.body = text_dup(body);
    m.body_length = strlen(body);
    m.done = on_done;
    m.aux = s;
    bus_publish(t->bus, &m);
}

static const char *exchange_of(const char *word)
{
    return strcmp(word, "-") == 0 ? "" : word;
}

static void command_publish(struct tool *t, char *const *w)
{
    int64_t deadline_ms = strtoll(w[5], NULL, 10);
    struct bus_message m = {.exchange = exchange_of(w[1]),
                            .routing_key = w[2],
                            .mandatory = *w[3] == '1',
                            .expiration_ms = strtoll(w[4], NULL, 10)};

    if (deadline_ms)
        m.deadline_us = clock_monotonic_us() + deadline_ms * USEC_PER_MSEC;
    publish(t, m, w[6], false);
}

static void command_burst(struct tool *t, char *const *w)
{
    struct bus_message m = {.exchange = exchange_of(w[2]), .routing_key = w[3]};

    t->burst_left = strtoull(w[1], NULL, 10);
    memset(t->outcomes, 0, sizeof(t->outcomes));
    for (uint64_t i = 0, n = t->burst_left; i < n; i++) {
        _cleanup_(str_freep) char *body = text_format("{\"n\": %" PRIu64 "}", i);

        publish(t, m, body, true);
    }
}

static void command_describe(struct tool *t)
{
    struct json_object *o = json_object_new_object();
    char broker[300];

    bus_describe(t->bus, broker, sizeof(broker));
    json_add_string(o, "describe", broker);
    json_add_bool(o, "up", bus_is_up(t->bus));
    json_add_string(o, "reply", bus_reply_queue(t->bus));
    json_add_int(o, "blocked", (int64_t)metric_get(METRIC_RPC_BLOCKED));
    json_add_int(o, "reconnects", (int64_t)metric_get(METRIC_RPC_RECONNECT));
    say(o);
}

static void command(struct tool *t, const char *line)
{
    char **w = text_split(line, ' ');
    size_t n = text_vector_length(w);

    if (n == 7 && strcmp(w[0], "publish") == 0)
        command_publish(t, w);
    else if (n == 4 && strcmp(w[0], "burst") == 0)
        command_burst(t, w);
    else if (n == 2 && strcmp(w[0], "ack") == 0)
        t->acks = strcmp(w[1], "on") == 0;
    else if (n == 2 && strcmp(w[0], "stop") == 0)
        bus_stop_consuming(t->bus, w[1]);
    else if (n == 1 && strcmp(w[0], "describe") == 0)
        command_describe(t);
    else if (n == 2 && strcmp(w[0], "quit") == 0) {
        t->quit_wait_us = strtoll(w[1], NULL, 10) * USEC_PER_MSEC;
        loop_quit(t->loop);
    } else
        fprintf(stderr, "bus_tool: cannot understand \"%s\"\n", line);
    text_vector_free(w);
}

static void take_lines(struct tool *t)
{
    char *start = t->input.data, *end;

    while ((end = memchr(start, '\n', t->input.length - (size_t)(start - t->input.data)))) {
        *end = '\0';
        command(t, start);
        start = end + 1;
    }
    t->input.length -= (size_t)(start - t->input.data);
    memmove(t->input.data, start, t->input.length);
}

static void on_input(void *aux, uint32_t events)
{
    struct tool *t = aux;
    char chunk[65536];
    ssize_t n = read(STDIN_FILENO, chunk, sizeof(chunk));

    (void)events;
    if (n <= 0) {
        loop_quit(t->loop);
        return;
    }
    text_buffer_add_n(&t->input, chunk, (size_t)n);
    take_lines(t);
}

static int run(struct tool *t, const struct conf *conf, char **argv, struct err *e)
{
    static const struct bus_callbacks callbacks = {.delivery = on_delivery, .state = on_state};
    const char *const *topics = argv[3] ? (const char *const *)&argv[3] : NULL;

    if (loop_new(&t->loop, e) < 0 ||
        bus_new(&t->bus, t->loop, conf, argv[2], topics, &callbacks, t, e) < 0)
        return -1;
    if (!loop_add_fd(t->loop, STDIN_FILENO, EPOLLIN, "input", on_input, t, e))
        return -1;
    return loop_run(t->loop, e);
}

int main(int argc, char **argv)
{
    const char *files[] = {argc > 1 ? argv[1] : NULL, NULL};
    struct conf_sources sources = {.config_files = files};
    _cleanup_(conf_unrefp) struct conf *conf = NULL;
    struct tool t = {.acks = true};
    struct err e = ERR_INIT;
    int r;

    if (argc < 3) {
        fprintf(stderr, "usage: bus_tool CONFIG_FILE HOST [TOPIC...]\n");
        return 64;
    }
    log_set_level(NULL, LOG_LEVEL_DEBUG);
    r = conf_load(&sources, &conf, NULL, &e);
    if (r == 0)
        r = run(&t, conf, argv, &e);
    if (r < 0)
        fprintf(stderr, "bus_tool: %s\n", e.text);
    bus_free(t.bus, t.quit_wait_us);
    loop_free(t.loop);
    text_buffer_free(&t.input);
    return r < 0 ? err_exit_code(e.code) : 0;
}
