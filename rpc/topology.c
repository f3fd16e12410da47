/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/topology.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "lib/text.h"

static void add_number(struct topology_queue *q, const char *key, int64_t number)
{
    q->arguments[q->argument_count++] = (struct topology_argument){.key = key, .number = number};
}

static void add_text(struct topology_queue *q, const char *key, const char *text)
{
    struct topology_argument *a = &q->arguments[q->argument_count++];

    *a = (struct topology_argument){.key = key};
    snprintf(a->text, sizeof(a->text), "%s", text);
}

static void add_quorum(struct topology_queue *q, const struct rabbit_options *o)
{
    add_text(q, "x-queue-type", "quorum");
    if (o->rabbit_quorum_delivery_limit)
        add_number(q, "x-delivery-limit", o->rabbit_quorum_delivery_limit);
    if (o->rabbit_quorum_max_memory_length)
        add_number(q, "x-max-in-memory-length", o->rabbit_quorum_max_memory_length);
    if (o->rabbit_quorum_max_memory_bytes)
        add_number(q, "x-max-in-memory-bytes", o->rabbit_quorum_max_memory_bytes);
}

static void add_stream(struct topology_queue *q, const struct rabbit_options *o)
{
    char age[32];

    add_text(q, "x-queue-type", "stream");
    if (o->rabbit_transient_queues_ttl == 0)
        return;
    snprintf(age, sizeof(age), "%llds", (long long)o->rabbit_transient_queues_ttl);
    add_text(q, "x-max-age", age);
}

static void make_lasting(struct topology_queue *q, const struct rabbit_options *o)
{
    q->durable = o->amqp_durable_queues || o->rabbit_quorum_queue;
    q->auto_delete = o->amqp_auto_delete;
    if (o->rabbit_ha_queues)
        add_text(q, "x-ha-policy", "all");
    if (o->rabbit_quorum_queue)
        add_quorum(q, o);
}

static void make_transient(struct topology_queue *q, const struct rabbit_options *o)
{
    q->durable = o->rabbit_transient_quorum_queue;
    if (o->rabbit_ha_queues)
        add_text(q, "x-ha-policy", "all");
    if (o->rabbit_transient_quorum_queue)
        add_quorum(q, o);
    if (o->rabbit_transient_queues_ttl)
        add_number(q, "x-expires", o->rabbit_transient_queues_ttl * 1000);
}

static int set_name(char out[TOPOLOGY_NAME_SIZE], struct err *e, const char *format, ...)
    _printf_(3, 4);
static int set_name(char out[TOPOLOGY_NAME_SIZE], struct err *e, const char *format, ...)
{
    va_list args;
    int length;

    va_start(args, format);
    length = vsnprintf(out, TOPOLOGY_NAME_SIZE, format, args);
    va_end(args);
    if (length >= TOPOLOGY_NAME_SIZE)
        return err_set(e, ERR_CONFIG, "the queue name \"%.60s...\" has %d bytes; AMQP allows 255",
                       out, length);
    return 0;
}

static struct topology_exchange control_exchange(const struct rabbit_options *o)
{
    struct topology_exchange x = {.type = "topic",
                                  .durable = o->amqp_durable_queues || o->rabbit_quorum_queue,
                                  .auto_delete = o->amqp_auto_delete};

    snprintf(x.name, sizeof(x.name), "%s", o->control_exchange);
    return x;
}

static void fanout_exchange(const struct rabbit_options *o, struct topology_exchange *x)
{
    x->type = "fanout";
    x->durable = o->rabbit_transient_quorum_queue;
    x->auto_delete = true;
}

static int fill_topic(const struct rabbit_options *o, const char *topic, const char *host,
                      struct topology_queue *q, struct err *e)
{
    q->kind = host ? TOPOLOGY_HOST : TOPOLOGY_TOPIC;
    q->cancel_on_failover = o->enable_cancel_on_failover;
    q->exchange = control_exchange(o);
    make_lasting(q, o);
    if (set_name(q->name, e, host ? "%s.%s" : "%s", topic, host) < 0)
        return -1;
    memcpy(q->binding_key, q->name, sizeof(q->name));
    return set_name(q->topic, e, "%s", topic);
}

static int fill_fanout(const struct rabbit_options *o, const char *topic, const char *suffix,
                       struct topology_queue *q, struct err *e)
{
    q->kind = TOPOLOGY_FANOUT;
    q->cancel_on_failover = o->enable_cancel_on_failover;
    q->is_stream = o->rabbit_stream_fanout;
    q->delete_at_close = !o->rabbit_stream_fanout && !o->use_queue_manager;
    fanout_exchange(o, &q->exchange);
    if (set_name(q->exchange.name, e, "%s_fanout", topic) < 0 ||
        set_name(q->binding_key, e, "%s", topic) < 0 || set_name(q->topic, e, "%s", topic) < 0)
        return -1;
    if (q->is_stream) {
        q->durable = true;
        add_stream(q, o);
        return set_name(q->name, e, "%s_fanout", topic);
    }
    make_transient(q, o);
    return set_name(q->name, e, "%s_fanout_%s", topic, suffix);
}

int topology_server(const struct rabbit_options *options, const char *topic, const char *host,
                    const char *suffix, struct topology_queue out[3], struct err *e)
{
    struct topology_queue queues[3] = {0};

    if (fill_topic(options, topic, NULL, &queues[0], e) < 0 ||
        fill_topic(options, topic, host, &queues[1], e) < 0 ||
        fill_fanout(options, topic, suffix, &queues[2], e) < 0)
        return -1;
    memcpy(out, queues, sizeof(queues));
    return 0;
}

int topology_reply(const struct rabbit_options *options, const char *suffix,
                   struct topology_queue *out, struct err *e)
{
    struct topology_queue q = {.kind = TOPOLOGY_REPLY};

    q.cancel_on_failover = options->enable_cancel_on_failover;
    /* With a TTL the broker removes it; a name that never comes again would else stay for ever. */
    q.delete_at_close = options->rabbit_transient_queues_ttl == 0 && !options->use_queue_manager;
    make_transient(&q, options);
    if (set_name(q.name, e, "reply_%s", suffix) < 0)
        return -1;
    *out = q;
    return 0;
}

bool topology_publish_exchange(const struct rabbit_options *options, const char *name,
                               struct topology_exchange *out)
{
    if (text_equal(name, options->control_exchange)) {
        *out = control_exchange(options);
        return true;
    }
    if (!text_ends_with(name, "_fanout") || strlen(name) >= TOPOLOGY_NAME_SIZE)
        return false;
    *out = (struct topology_exchange){0};
    fanout_exchange(options, out);
    snprintf(out->name, sizeof(out->name), "%s", name);
    return true;
}
