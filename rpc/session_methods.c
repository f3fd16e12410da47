/* SPDX-License-Identifier: Apache-2.0 */
/* The methods of AMQP that the bus uses, each as one function of its session. */
#include "rpc/session_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "lib/clock.h"

#define CONSUMER_TAG "1" /* one consumer a channel */

enum session_end session_channel_open(struct session *session, uint16_t channel, struct err *e)
{
    amqp_channel_open_t open = {0};
    enum session_end end = session_call(session, channel, AMQP_CHANNEL_OPEN_METHOD, &open,
                                        AMQP_CHANNEL_OPEN_OK_METHOD, e);

    session->channels[channel].open = end == SESSION_OK;
    return end;
}

enum session_end session_confirm_select(struct session *session, uint16_t channel, struct err *e)
{
    amqp_confirm_select_t select = {0};

    return session_call(session, channel, AMQP_CONFIRM_SELECT_METHOD, &select,
                        AMQP_CONFIRM_SELECT_OK_METHOD, e);
}

enum session_end session_qos(struct session *session, uint16_t channel, uint16_t prefetch,
                             struct err *e)
{
    amqp_basic_qos_t qos = {.prefetch_count = prefetch};

    return session_call(session, channel, AMQP_BASIC_QOS_METHOD, &qos, AMQP_BASIC_QOS_OK_METHOD, e);
}

enum session_end session_declare_exchange(struct session *session, uint16_t channel,
                                          const struct topology_exchange *exchange, struct err *e)
{
    amqp_exchange_declare_t declare = {.exchange = amqp_cstring_bytes(exchange->name),
                                       .type = amqp_cstring_bytes(exchange->type),
                                       .durable = exchange->durable,
                                       .auto_delete = exchange->auto_delete};

    return session_call(session, channel, AMQP_EXCHANGE_DECLARE_METHOD, &declare,
                        AMQP_EXCHANGE_DECLARE_OK_METHOD, e);
}

static amqp_field_value_t argument_value(const struct topology_argument *a)
{
    if (*a->text)
        return (amqp_field_value_t){.kind = AMQP_FIELD_KIND_UTF8,
                                    .value.bytes = amqp_cstring_bytes(a->text)};
    return (amqp_field_value_t){.kind = AMQP_FIELD_KIND_I64, .value.i64 = a->number};
}

enum session_end session_declare_queue(struct session *session, uint16_t channel,
                                       const struct topology_queue *queue, struct err *e)
{
    amqp_table_entry_t entries[TOPOLOGY_ARGUMENTS_MAX];
    amqp_queue_declare_t declare = {
        .queue = amqp_cstring_bytes(queue->name),
        .durable = queue->durable,
        .auto_delete = queue->auto_delete,
        .arguments = {.num_entries = (int)queue->argument_count, .entries = entries}};

    for (size_t i = 0; i < queue->argument_count; i++)
        entries[i] = (amqp_table_entry_t){.key = amqp_cstring_bytes(queue->arguments[i].key),
                                          .value = argument_value(&queue->arguments[i])};
    return session_call(session, channel, AMQP_QUEUE_DECLARE_METHOD, &declare,
                        AMQP_QUEUE_DECLARE_OK_METHOD, e);
}

enum session_end session_bind(struct session *session, uint16_t channel,
                              const struct topology_queue *queue, struct err *e)
{
    amqp_queue_bind_t bind = {.queue = amqp_cstring_bytes(queue->name),
                              .exchange = amqp_cstring_bytes(queue->exchange.name),
                              .routing_key = amqp_cstring_bytes(queue->binding_key)};

    return session_call(session, channel, AMQP_QUEUE_BIND_METHOD, &bind, AMQP_QUEUE_BIND_OK_METHOD,
                        e);
}

enum session_end session_consume(struct session *session, uint16_t channel,
                                 const struct topology_queue *queue, int64_t stream_offset,
                                 struct err *e)
{
    amqp_table_entry_t entries[2];
    amqp_basic_consume_t consume = {.queue = amqp_cstring_bytes(queue->name),
                                    .consumer_tag = amqp_cstring_bytes(CONSUMER_TAG),
                                    .arguments = {.entries = entries}};

    if (queue->cancel_on_failover)
        entries[consume.arguments.num_entries++] =
            (amqp_table_entry_t){.key = amqp_cstring_bytes("x-cancel-on-ha-failover"),
                                 .value = {.kind = AMQP_FIELD_KIND_BOOLEAN, .value.boolean = 1}};
    if (queue->is_stream && stream_offset >= 0)
        entries[consume.arguments.num_entries++] = (amqp_table_entry_t){
            .key = amqp_cstring_bytes("x-stream-offset"),
            .value = {.kind = AMQP_FIELD_KIND_I64, .value.i64 = stream_offset}};
    else if (queue->is_stream)
        entries[consume.arguments.num_entries++] = (amqp_table_entry_t){
            .key = amqp_cstring_bytes("x-stream-offset"),
            .value = {.kind = AMQP_FIELD_KIND_UTF8, .value.bytes = amqp_cstring_bytes("last")}};
    return session_call(session, channel, AMQP_BASIC_CONSUME_METHOD, &consume,
                        AMQP_BASIC_CONSUME_OK_METHOD, e);
}

enum session_end session_cancel(struct session *session, uint16_t channel, struct err *e)
{
    amqp_basic_cancel_t cancel = {.consumer_tag = amqp_cstring_bytes(CONSUMER_TAG)};

    return session_call(session, channel, AMQP_BASIC_CANCEL_METHOD, &cancel,
                        AMQP_BASIC_CANCEL_OK_METHOD, e);
}

enum session_end session_delete_queue(struct session *session, uint16_t channel, const char *queue,
                                      struct err *e)
{
    amqp_queue_delete_t delete = {.queue = amqp_cstring_bytes(queue)};

    return session_call(session, channel, AMQP_QUEUE_DELETE_METHOD, &delete,
                        AMQP_QUEUE_DELETE_OK_METHOD, e);
}

enum session_end session_ack(struct session *session, uint16_t channel, uint64_t tag, struct err *e)
{
    amqp_basic_ack_t ack = {.delivery_tag = tag};

    return session_send(session, channel, AMQP_BASIC_ACK_METHOD, &ack, e);
}

enum session_end session_requeue(struct session *session, uint16_t channel, uint64_t tag,
                                 struct err *e)
{
    amqp_basic_reject_t reject = {.delivery_tag = tag, .requeue = 1};

    return session_send(session, channel, AMQP_BASIC_REJECT_METHOD, &reject, e);
}

enum session_end session_publish(struct session *session, uint16_t channel, const char *exchange,
                                 const char *routing_key, bool mandatory, int64_t expiration_ms,
                                 const char *body, size_t length, struct err *e)
{
    char expiration[24];
    amqp_basic_properties_t properties = {
        ._flags = AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_CONTENT_ENCODING_FLAG |
                  AMQP_BASIC_DELIVERY_MODE_FLAG | AMQP_BASIC_PRIORITY_FLAG,
        .content_type = amqp_cstring_bytes("application/json"),
        .content_encoding = amqp_cstring_bytes("utf-8"),
        .delivery_mode = AMQP_DELIVERY_PERSISTENT};
    amqp_bytes_t bytes = amqp_empty_bytes;
    int status;

    bytes.len = length;
    bytes.bytes = (void *)(uintptr_t)body; /* the library does not write to it */
    if (expiration_ms > 0) {
        snprintf(expiration, sizeof(expiration), "%" PRId64, expiration_ms);
        properties._flags |= AMQP_BASIC_EXPIRATION_FLAG;
        properties.expiration = amqp_cstring_bytes(expiration);
    }
    status = amqp_basic_publish(session->amqp, channel, amqp_cstring_bytes(exchange),
                                amqp_cstring_bytes(routing_key), mandatory, 0, &properties, bytes);
    if (status != AMQP_STATUS_OK) {
        session_dies(session, ERR_UNREACHABLE, e, "does not take messages: %s",
                     amqp_error_string2(status));
        return SESSION_DEAD;
    }
    session->sent_us = clock_monotonic_us();
    return SESSION_OK;
}
