/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The peer of the message bus's benchmark (rpc.py): bare AMQP by librabbitmq, with nothing of the project in it.
 *
 *     rpc_echo HOST PORT USER PASSWORD echo QUEUE           sends each message back as it is, until it is ended
 *     rpc_echo HOST PORT USER PASSWORD ask QUEUE CALLS AT-ONCE
 *
 * `ask` sends pings as oslo.messaging does, so many calls at once, and prints the microseconds of each, one a line, and
 * then "total MICROSECONDS". The echo answers with the call itself, so that both are asked by the same bytes.
 */
#include <inttypes.h>
#include <amqp.h>
#include <amqp_tcp_socket.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { CHANNEL = 1, PREFETCH = 64, TIMEOUT_S = 20, TEXT_MAX = 1024 };
/* Of a message: which client and which call, 32 hexadecimal digits. A server does not answer one that it has had. */
#define ID "%024" PRIx64 "%08" PRIx32

_Noreturn static void end(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    exit(1);
}

static int64_t now_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void check(amqp_rpc_reply_t reply, const char *what)
{
    if (reply.reply_type != AMQP_RESPONSE_NORMAL)
        end("%s: %s", what,
            reply.reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION
                ? amqp_error_string2(reply.library_error)
                : "the broker refuses");
}

static amqp_connection_state_t connect_to(char **where)
{
    amqp_connection_state_t c = amqp_new_connection();
    amqp_socket_t *socket = amqp_tcp_socket_new(c);

    if (!socket || amqp_socket_open(socket, where[0], atoi(where[1])) != AMQP_STATUS_OK)
        end("%s:%s: no connection", where[0], where[1]);
    check(amqp_login(c, "/", 0, 131072, 0, AMQP_SASL_METHOD_PLAIN, where[2], where[3]), "login");
    amqp_channel_open(c, CHANNEL);
    check(amqp_get_rpc_reply(c), "channel");
    amqp_basic_qos(c, CHANNEL, 0, PREFETCH, 0);
    check(amqp_get_rpc_reply(c), "prefetch");
    return c;
}

static void consume(amqp_connection_state_t c, const char *queue, bool acknowledge)
{
    amqp_queue_declare(c, CHANNEL, amqp_cstring_bytes(queue), 0, 0, 0, 1, amqp_empty_table);
    check(amqp_get_rpc_reply(c), queue);
    amqp_basic_consume(c, CHANNEL, amqp_cstring_bytes(queue), amqp_empty_bytes, 0, !acknowledge, 0,
                       amqp_empty_table);
    check(amqp_get_rpc_reply(c), queue);
}

static void publish(amqp_connection_state_t c, amqp_bytes_t queue, amqp_bytes_t reply_to,
                    amqp_bytes_t body)
{
    amqp_basic_properties_t p = {
        ._flags = AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_CONTENT_ENCODING_FLAG,
        .content_type = amqp_cstring_bytes("application/json"),
        .content_encoding = amqp_cstring_bytes("utf-8"),
    };

    if (reply_to.len > 0) {
        p._flags |= AMQP_BASIC_REPLY_TO_FLAG;
        p.reply_to = reply_to;
    }
    int status = amqp_basic_publish(c, CHANNEL, amqp_empty_bytes, queue, 0, 0, &p, body);
    if (status != AMQP_STATUS_OK)
        end("publish: %s", amqp_error_string2(status));
}

static void receive(amqp_connection_state_t c, amqp_envelope_t *envelope)
{
    struct timeval timeout = {.tv_sec = TIMEOUT_S};

    amqp_maybe_release_buffers(c);
    check(amqp_consume_message(c, envelope, &timeout, 0), "receive");
}

static void echo(amqp_connection_state_t c, const char *queue)
{
    consume(c, queue, true);
    puts("ready");
    fflush(stdout);
    for (;;) {
        amqp_envelope_t e;
        receive(c, &e);
        publish(c, e.message.properties.reply_to, amqp_empty_bytes, e.message.body);
        amqp_basic_ack(c, CHANNEL, e.delivery_tag, 0);
        amqp_destroy_envelope(&e);
    }
}

static void ask(amqp_connection_state_t c, const char *queue, const char *replies, uint64_t client,
                uint32_t call)
{
    char text[TEXT_MAX];

    int length = snprintf(
        text, sizeof(text),
        "{\"oslo.version\":\"2.0\",\"oslo.message\":\"{\\\"method\\\":\\\"ping\\\","
        "\\\"namespace\\\":\\\"baseapi\\\",\\\"version\\\":\\\"1.1\\\",\\\"args\\\":{\\\"arg\\\":1}"
        ","
        "\\\"_msg_id\\\":\\\"" ID "\\\",\\\"_reply_q\\\":\\\"%s\\\",\\\"_unique_id\\\":\\\"" ID
        "\\\",\\\"_timeout\\\":null}\"}",
        client, call, replies, client, call);
    publish(c, amqp_cstring_bytes(queue), amqp_cstring_bytes(replies),
            (amqp_bytes_t){.len = (size_t)length, .bytes = text});
}

/* Which call this answers. */
static uint32_t answered(const amqp_bytes_t *body)
{
    static const char key[] = "_msg_id";
    char text[TEXT_MAX];
    size_t length = body->len < sizeof(text) ? body->len : sizeof(text) - 1;

    memcpy(text, body->bytes, length);
    text[length] = '\0';
    const char *at = strstr(text, key);
    at = at ? at + strlen(key) + strcspn(at + strlen(key), "0123456789abcdef") : NULL;
    if (!at || strspn(at, "0123456789abcdef") != 32 || strstr(text, "\"failure\\\": {"))
        end("no answer: %s", text);
    char digits[33];
    memcpy(digits, at, 32);
    digits[32] = '\0';
    return (uint32_t)strtoul(digits + 24, NULL, 16);
}

static void ask_all(amqp_connection_state_t c, const char *queue, uint32_t calls, uint32_t at_once)
{
    int64_t *sent = calloc(calls, sizeof(*sent)), begun = now_us();
    char replies[64];
    uint64_t client = (uint64_t)begun << 22 | (uint64_t)getpid();
    uint32_t asked = 0;

    if (!sent)
        end("no memory for %" PRIu32 " calls", calls);
    snprintf(replies, sizeof(replies), "reply_" ID, client, UINT32_C(0));
    consume(c, replies, false);
    for (uint32_t done = 0; done < calls; done++) {
        for (; asked < calls && asked - done < at_once; asked++) {
            sent[asked] = now_us();
            ask(c, queue, replies, client, asked);
        }
        amqp_envelope_t e;
        receive(c, &e);
        int64_t at = now_us();
        uint32_t call = answered(&e.message.body);
        if (call >= asked)
            end("an answer to call %" PRIu32 " of %" PRIu32, call, asked);
        printf("%" PRId64 "\n", at - sent[call]);
        amqp_destroy_envelope(&e);
    }
    printf("total %" PRId64 "\n", now_us() - begun);
    free(sent);
}

int main(int argc, char **argv)
{
    if (argc < 7)
        end("rpc_echo HOST PORT USER PASSWORD echo QUEUE | ask QUEUE CALLS AT-ONCE");
    amqp_connection_state_t c = connect_to(argv + 1);
    if (strcmp(argv[5], "echo") == 0)
        echo(c, argv[6]);
    if (argc != 9)
        end("ask QUEUE CALLS AT-ONCE");
    ask_all(c, argv[6], (uint32_t)strtoul(argv[7], NULL, 10), (uint32_t)strtoul(argv[8], NULL, 10));
    amqp_destroy_connection(c);
    return 0;
}
