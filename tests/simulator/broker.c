/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bus between the hosts. Each call or cast is a letter: on its way, at its handler, on its way back.
 * What happens to it when is the schedule's to choose; any letter may overtake any other. A letter that its
 * handler has not accepted is given again to the host's next agent, as a broker does with what was not
 * acknowledged. A caller learns of silence by its own time limits: the whole one, and the monitor's while
 * nobody is at work on the letter.
 */
#include "lib/clock.h"
#include "lib/json.h"
#include "tests/simulator/simulator.h"

enum where {
    LEAVING /* a cast that the broker has not confirmed */,
    UNDER_WAY,
    AT_HANDLER,
    COMING_BACK,
    GONE
};

struct letter {
    unsigned number;
    struct host *from, *to; /* from NULL: the conductor */
    enum rpc_method_id method;
    struct json_object *args, *context;
    struct fake_call *call; /* NULL: nobody waits */
    enum where where;
    bool lost, twice;
    struct fake_asked *asked;
    struct json_object *result;
    struct err e;
    bool failed;
    int64_t timeout_us, heard_us, monitor_us; /* INT64_MAX, 0 = none */
};
DEFINE_VECTOR(letters, struct letter *)

enum { FORMER_MAX = 8 };

struct broker {
    struct letters letters;
    unsigned numbers;
    struct letter *former[FORMER_MAX]; /* copies of what was delivered */
    unsigned former_count;
};

struct broker *broker_new(void)
{
    return NEW(struct broker);
}

static void letter_free(struct letter *letter)
{
    json_object_put(letter->args);
    json_object_put(letter->context);
    json_object_put(letter->result);
    free(letter);
}

void broker_free(struct broker *broker)
{
    for (size_t i = 0; i < broker->letters.length; i++)
        letter_free(broker->letters.items[i]);
    for (unsigned i = 0; i < broker->former_count; i++)
        letter_free(broker->former[i]);
    free(broker->letters.items);
    free(broker);
}

static struct letter *add(struct host *from, struct host *to, enum rpc_method_id method,
                          struct json_object *args, struct json_object *context)
{
    struct letter *letter = NEW(struct letter);

    letter->number = ++sim->broker->numbers;
    letter->from = from;
    letter->to = to;
    letter->method = method;
    letter->args = args;
    letter->context = json_object_get(context);
    letter->timeout_us = INT64_MAX;
    letter->where = UNDER_WAY;
    *letters_add(&sim->broker->letters) = letter;
    return letter;
}

static struct host *host_by_name(const char *name)
{
    for (int i = 0; i < HOSTS; i++)
        if (text_equal(sim->hosts[i].name, name))
            return &sim->hosts[i];
    return NULL;
}

/* What becomes of it is decided when it is sent. */
static void choose_fate(struct letter *letter)
{
    letter->lost = sim_happens(sim->rates.letter_lost);
    letter->twice = !letter->lost && sim_happens(sim->rates.letter_twice);
    sim->coverage->lost += letter->lost;
    sim->coverage->repeated += letter->twice;
}

static void called(void *aux, const struct fake_call *call)
{
    struct host *host = aux;
    struct host *to = host_by_name(call->server);

    if (host->dead)
        return;
    if (!to) {
        sim_violation("%s asks %s of %s, which is no host", host->name,
                      rpc_method_name(call->method), call->server);
        return;
    }
    struct letter *letter = add(host, to, call->method, json_copy(call->args), call->context);
    letter->call = (struct fake_call *)call;
    letter->where = call->cast ? LEAVING : UNDER_WAY;
    letter->monitor_us = call->cast ? 0 : call->options.monitor_us;
    letter->heard_us = sim->now_us;
    if (!call->cast)
        letter->timeout_us = sim->now_us + call->options.timeout_us;
    choose_fate(letter);
    sim_trace("%s: %s %u to %s: %s%s", host->name, call->cast ? "cast" : "call", letter->number,
              to->name, rpc_method_name(call->method), letter->lost ? " (lost)" : "");
}

void broker_watch(struct host *host)
{
    fake_rpc_watch(host->world->agent.rpc, called, host);
}

void broker_send(struct host *to, enum rpc_method_id method, struct json_object *args)
{
    struct letter *letter = add(NULL, to, method, args, NULL);

    choose_fate(letter);
    sim_trace("conductor: cast %u to %s: %s%s", letter->number, to->name, rpc_method_name(method),
              letter->lost ? " (lost)" : "");
}

/* ---- what happens to letters ---- */

static bool may_step(const struct letter *letter)
{
    switch (letter->where) {
    case LEAVING:
        return true;
    case UNDER_WAY:
        return letter->lost ? !letter->call : letter->to->up && !sim->bus_is_cut;
    case COMING_BACK:
        return !sim->bus_is_cut;
    default:
        return false;
    }
}

unsigned broker_count(void)
{
    const struct letters *letters = &sim->broker->letters;
    unsigned n = 0;

    for (size_t i = 0; i < letters->length; i++)
        n += may_step(letters->items[i]);
    return n;
}

bool broker_is_idle(void)
{
    return sim->broker->letters.length == 0;
}

/* The caller's side of the letter is over. */
static struct fake_call *take_call(struct letter *letter)
{
    return STEAL(letter->call);
}

static void confirm(struct letter *letter)
{
    struct fake_call *call = take_call(letter);

    letter->where = UNDER_WAY;
    if (!call)
        return;
    sim->acting = letter->from;
    if (sim_happens(sim->rates.cast_fails)) {
        letter->lost = letter->lost || sim_below(2) == 0;
        sim_trace("%s: cast %u is not confirmed", letter->from->name, letter->number);
        fake_rpc_fail(call, ERR_UNREACHABLE, "the broker is away");
    } else {
        sim_trace("%s: cast %u is confirmed", letter->from->name, letter->number);
        fake_rpc_answer(call, NULL);
    }
}

/* Not the conductor's: what starts a migration is acknowledged within milliseconds, and known until its end. */
static void remember(const struct letter *letter)
{
    struct broker *broker = sim->broker;

    if (broker->former_count == FORMER_MAX || !letter->from)
        return;
    struct letter *copy = NEW(struct letter);
    copy->to = letter->to;
    copy->method = letter->method;
    copy->args = json_copy(letter->args);
    /* the one word that is only true now; the bus itself takes no request twice (rpc/recent.h) */
    if (letter->method == RPC_METHOD_control)
        json_object_object_del(json_get(copy->args, "args"), "post_copy_lost");
    copy->context = json_copy(letter->context);
    broker->former[broker->former_count++] = copy;
}

static void repeat(const struct letter *former)
{
    struct letter *letter =
        add(NULL, former->to, former->method, json_copy(former->args), former->context);
    sim->coverage->repeated++;
    sim_trace("bus: %u to %s is a former %s", letter->number, letter->to->name,
              rpc_method_name(letter->method));
}

void broker_repeat_former(void)
{
    const struct broker *broker = sim->broker;

    if (broker->former_count > 0)
        repeat(broker->former[sim_below(broker->former_count)]);
}

void broker_repeat(enum rpc_method_id method)
{
    const struct broker *broker = sim->broker;

    for (unsigned i = 0; i < broker->former_count; i++) {
        if (broker->former[i]->method != method)
            continue;
        repeat(broker->former[i]);
        return;
    }
}

static void deliver(struct letter *letter)
{
    struct agent *agent = &letter->to->world->agent;

    if (letter->lost) {
        letter->where = GONE;
        return;
    }
    remember(letter);
    if (letter->twice) { /* the other one's answer is nobody's */
        letter->twice = false;
        add(NULL, letter->to, letter->method, json_copy(letter->args), letter->context);
    }
    sim_trace("%s: gets %u: %s", letter->to->name, letter->number, rpc_method_name(letter->method));
    letter->where = AT_HANDLER;
    sim->acting = letter->to;
    letter->asked = fake_rpc_ask(agent->rpc, agent_rpc_request, agent, letter->method,
                                 json_copy(letter->args), json_copy(letter->context));
    if (letter->to->dead) { /* at once: taken only if it said so */
        letter->where = letter->asked->accepted ? GONE : UNDER_WAY;
        letter->asked = NULL;
    }
}

/* Over the wire go the class and the text. */
static void answer(struct letter *letter)
{
    struct fake_call *call = take_call(letter);

    letter->where = GONE;
    if (!call || sim_happens(sim->rates.reply_lost)) {
        letter->call = call;
        return;
    }
    sim_trace("%s: %s of %u", letter->from->name, letter->failed ? letter->e.text : "answer",
              letter->number);
    sim->acting = letter->from;
    if (letter->failed)
        fake_rpc_fail_as(call, err_wire_class(&letter->e), letter->e.text);
    else
        fake_rpc_answer(call, json_copy(letter->result));
}

void broker_step(unsigned n)
{
    const struct letters *letters = &sim->broker->letters;
    struct letter *letter = NULL;

    for (size_t i = 0; !letter && i < letters->length; i++)
        if (may_step(letters->items[i]) && n-- == 0)
            letter = letters->items[i];
    if (letter->where == LEAVING)
        confirm(letter);
    else if (letter->where == UNDER_WAY)
        deliver(letter);
    else
        answer(letter);
    sim->acting = NULL;
}

/* ---- what is to be done at once ---- */

static void look_at_handler(struct letter *letter)
{
    struct fake_asked *asked = letter->asked;

    letter->heard_us = sim->now_us;
    if (asked->end == FAKE_OPEN)
        return;
    letter->asked = NULL;
    letter->where = letter->call && asked->end != FAKE_FREED ? COMING_BACK : GONE;
    letter->failed = asked->end == FAKE_FAILED;
    letter->e = asked->e;
    letter->result = json_copy(asked->result);
}

static int64_t due_us(const struct letter *letter)
{
    int64_t due = letter->timeout_us;

    if (!letter->call || letter->where == LEAVING || letter->where == COMING_BACK)
        return INT64_MAX;
    if (letter->monitor_us > 0 && letter->where != AT_HANDLER &&
        letter->heard_us + letter->monitor_us < due)
        due = letter->heard_us + letter->monitor_us;
    return due;
}

static void time_over(struct letter *letter)
{
    struct fake_call *call = take_call(letter);

    sim_trace("%s: no answer to %u", letter->from->name, letter->number);
    sim->acting = letter->from;
    fake_rpc_fail(call, ERR_TIMEOUT, "no answer in time");
    sim->acting = NULL;
}

static void drop_gone(void)
{
    struct letters *letters = &sim->broker->letters;
    size_t kept = 0;

    for (size_t i = 0; i < letters->length; i++) {
        struct letter *letter = letters->items[i];
        if (letter->where == GONE && !letter->call)
            letter_free(letter);
        else
            letters->items[kept++] = letter;
    }
    letters->length = kept;
}

void broker_look(void)
{
    const struct letters *letters = &sim->broker->letters;

    for (size_t i = 0; i < letters->length; i++)
        if (letters->items[i]->where == AT_HANDLER)
            look_at_handler(letters->items[i]);
    for (size_t i = 0; i < letters->length; i++)
        if (due_us(letters->items[i]) <= sim->now_us && !letters->items[i]->from->dead)
            time_over(letters->items[i]);
    drop_gone();
}

int64_t broker_next_due_us(void)
{
    const struct letters *letters = &sim->broker->letters;
    int64_t due = INT64_MAX;

    for (size_t i = 0; i < letters->length; i++)
        if (due_us(letters->items[i]) < due)
            due = due_us(letters->items[i]);
    return due;
}

/* ---- death ---- */

void broker_host_died(struct host *host)
{
    const struct letters *letters = &sim->broker->letters;

    for (size_t i = 0; i < letters->length; i++) {
        struct letter *letter = letters->items[i];
        if (letter->from == host)
            letter->call = NULL;
        if (letter->where == LEAVING && letter->from == host)
            letter->where = UNDER_WAY; /* it may have left */
        if (letter->where == COMING_BACK && letter->from == host)
            letter->where = GONE;
        if (letter->to != host || letter->where != AT_HANDLER || !letter->asked)
            continue;
        letter->where =
            letter->asked->accepted || letter->asked->end != FAKE_OPEN ? GONE : UNDER_WAY;
        letter->asked = NULL;
    }
}
