/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames to messages. What a broker may send, and when, is checked here: a frame on a channel that is not
 * open, a body that is longer than announced or content in the wrong order ends the session. Messages
 * beyond JSON_SIZE_MAX are skipped frame by frame, never collected.
 */
#include "rpc/session_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "lib/json.h"
#include "lib/text.h"

void session_content_clear(struct content *content)
{
    free(content->message.body);
    *content = (struct content){0};
}

static int out_of_order(struct session *s, const amqp_frame_t *frame, struct err *e)
{
    return session_dies(s, ERR_UNREACHABLE, e, "sent a frame of type %u out of order on channel %u",
                        frame->frame_type, frame->channel);
}

/* --- content ------------------------------------------------------------------------------------ */

static void finish(struct session *s, uint16_t channel, struct content *c)
{
    struct session_message message = c->message;
    bool is_return = c->is_return;

    *c = (struct content){0};
    if (message.body)
        message.body[message.length] = '\0';
    (is_return ? s->handler->returned : s->handler->deliver)(s->aux, channel, &message);
    free(message.body); /* NULL when it was taken */
}

static void begin_delivery(struct content *c, const amqp_basic_deliver_t *deliver)
{
    *c = (struct content){
        .state = CONTENT_HEADER,
        .message = {.delivery_tag = deliver->delivery_tag, .redelivered = deliver->redelivered}};
}

static void begin_return(struct content *c, const amqp_basic_return_t *returned)
{
    size_t length = returned->routing_key.len;

    *c = (struct content){.state = CONTENT_HEADER, .is_return = true};
    if (length >= sizeof(c->message.routing_key))
        length = sizeof(c->message.routing_key) - 1;
    if (length)
        memcpy(c->message.routing_key, returned->routing_key.bytes, length);
}

static void read_headers(struct session_message *m, const amqp_basic_properties_t *properties)
{
    const amqp_table_t *headers = &properties->headers;

    if (!(properties->_flags & AMQP_BASIC_HEADERS_FLAG))
        return;
    for (int i = 0; i < headers->num_entries; i++) {
        const amqp_table_entry_t *h = &headers->entries[i];

        if (h->key.len == 15 && memcmp(h->key.bytes, "x-stream-offset", 15) == 0 &&
            (h->value.kind == AMQP_FIELD_KIND_I64 || h->value.kind == AMQP_FIELD_KIND_U64)) {
            m->has_offset = true;
            m->stream_offset = h->value.value.i64;
        }
        if (h->key.len == 11 && memcmp(h->key.bytes, "compression", 11) == 0 &&
            h->value.kind == AMQP_FIELD_KIND_UTF8)
            m->refused = "it is compressed; kombu_compression must be off";
    }
}

static void take_header(struct session *s, uint16_t channel, struct content *c,
                        const amqp_frame_t *frame)
{
    c->left = frame->payload.properties.body_size;
    read_headers(&c->message, frame->payload.properties.decoded);
    if (c->left > JSON_SIZE_MAX)
        c->message.refused = "it is larger than 16 MiB";
    if (!c->message.refused)
        c->message.body = mem_new(c->left + 1);
    c->state = CONTENT_BODY;
    if (c->left == 0)
        finish(s, channel, c);
}

static int take_body(struct session *s, const amqp_frame_t *frame, struct content *c, struct err *e)
{
    amqp_bytes_t part = frame->payload.body_fragment;

    if (part.len > c->left)
        return session_dies(s, ERR_UNREACHABLE, e,
                            "sent %zu bytes of a message of which %" PRIu64 " were left", part.len,
                            c->left);
    if (c->message.body && part.len) {
        memcpy(c->message.body + c->message.length, part.bytes, part.len);
        c->message.length += part.len;
    }
    c->left -= part.len;
    if (c->left == 0)
        finish(s, frame->channel, c);
    return 0;
}

static int dispatch_content(struct session *s, const amqp_frame_t *frame, struct err *e)
{
    struct content *c = &s->channels[frame->channel].content;

    if (frame->frame_type == AMQP_FRAME_HEADER && c->state == CONTENT_HEADER &&
        frame->payload.properties.class_id == AMQP_BASIC_CLASS) {
        take_header(s, frame->channel, c, frame);
        return 0;
    }
    if (frame->frame_type == AMQP_FRAME_BODY && c->state == CONTENT_BODY)
        return take_body(s, frame, c, e);
    return out_of_order(s, frame, e);
}

/* --- methods ------------------------------------------------------------------------------------ */

static int connection_closed(struct session *s, const amqp_connection_close_t *method,
                             struct err *e)
{
    amqp_connection_close_ok_t ok = {0};
    char words[SESSION_TEXT_MAX];
    bool denied = method->reply_code == AMQP_ACCESS_REFUSED;

    session_words(method->reply_text, words);
    s->code = method->reply_code;
    (void)session_send(s, 0, AMQP_CONNECTION_CLOSE_OK_METHOD, &ok, NULL);
    return session_dies(s, denied ? ERR_DENIED : ERR_UNREACHABLE, e,
                        "closed the connection with %d: %s", s->code, words);
}

static int connection_method(struct session *s, const amqp_frame_t *frame, struct err *e)
{
    char words[SESSION_TEXT_MAX];

    switch (frame->payload.method.id) {
    case AMQP_CONNECTION_CLOSE_METHOD:
        return connection_closed(s, frame->payload.method.decoded, e);
    case AMQP_CONNECTION_BLOCKED_METHOD:
        session_words(((amqp_connection_blocked_t *)frame->payload.method.decoded)->reason, words);
        s->handler->blocked(s->aux, true, words);
        return 0;
    case AMQP_CONNECTION_UNBLOCKED_METHOD:
        s->handler->blocked(s->aux, false, NULL);
        return 0;
    default:
        return out_of_order(s, frame, e);
    }
}

static int channel_closed(struct session *s, uint16_t channel, const amqp_channel_close_t *method,
                          struct err *e)
{
    amqp_channel_close_ok_t ok = {0};
    char words[SESSION_TEXT_MAX];
    int code = method->reply_code;

    session_words(method->reply_text, words);
    s->channels[channel].open = false;
    session_content_clear(&s->channels[channel].content);
    if (session_send(s, channel, AMQP_CHANNEL_CLOSE_OK_METHOD, &ok, e) != SESSION_OK)
        return -1;
    s->handler->channel_lost(s->aux, channel, code, words);
    return 0;
}

static int channel_method(struct session *s, const amqp_frame_t *frame, struct err *e)
{
    uint16_t channel = frame->channel;
    struct content *c = &s->channels[channel].content;
    const void *method = frame->payload.method.decoded;
    const amqp_basic_ack_t *ack = method;
    const amqp_basic_nack_t *nack = method;

    if (c->state != CONTENT_NONE && frame->payload.method.id != AMQP_CHANNEL_CLOSE_METHOD)
        return out_of_order(s, frame, e);
    switch (frame->payload.method.id) {
    case AMQP_BASIC_DELIVER_METHOD:
        begin_delivery(c, method);
        return 0;
    case AMQP_BASIC_RETURN_METHOD:
        begin_return(c, method);
        return 0;
    case AMQP_BASIC_ACK_METHOD:
        s->handler->confirm(s->aux, channel, ack->delivery_tag, ack->multiple, true);
        return 0;
    case AMQP_BASIC_NACK_METHOD:
        s->handler->confirm(s->aux, channel, nack->delivery_tag, nack->multiple, false);
        return 0;
    case AMQP_BASIC_CANCEL_METHOD:
        s->handler->channel_lost(s->aux, channel, 0, "the broker cancelled the consumer");
        return 0;
    case AMQP_CHANNEL_CLOSE_METHOD:
        return channel_closed(s, channel, method, e);
    default:
        return out_of_order(s, frame, e);
    }
}

int session_dispatch(struct session *s, const amqp_frame_t *frame, struct err *e)
{
    if (frame->channel > SESSION_CHANNEL_MAX || !s->channels[frame->channel].open)
        return session_dies(s, ERR_UNREACHABLE, e, "sent a frame on channel %u, which is not open",
                            frame->channel);
    if (frame->frame_type == AMQP_FRAME_METHOD)
        return frame->channel == 0 ? connection_method(s, frame, e) : channel_method(s, frame, e);
    if (frame->channel == 0)
        return out_of_order(s, frame, e);
    return dispatch_content(s, frame, e);
}
