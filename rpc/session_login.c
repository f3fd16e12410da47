/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Logging in, by the methods of AMQP 0-9-1 one by one: the library's own amqp_login() knows neither
 * AMQPLAIN (oslo.messaging's default) nor bounds for what a broker wants to tune.
 */
#include "config.h"

#include "rpc/session_internal.h"

#include <string.h>

#include "lib/clock.h"
#include "lib/text.h"

enum {
    FRAME_MAX_LEAST = 4096,
    RESPONSE_SIZE = 2048,
    PROTOCOL_HEADER_FRAME = 'A', /* how the library shows "AMQP" and a version as an answer */
};

static amqp_table_entry_t text_entry(const char *key, const char *value)
{
    return (amqp_table_entry_t){
        .key = amqp_cstring_bytes(key),
        .value = {.kind = AMQP_FIELD_KIND_UTF8, .value.bytes = amqp_cstring_bytes(value)}};
}

static amqp_table_entry_t flag_entry(const char *key)
{
    return (amqp_table_entry_t){.key = amqp_cstring_bytes(key),
                                .value = {.kind = AMQP_FIELD_KIND_BOOLEAN, .value.boolean = 1}};
}

/* Waits for one method of the connection's own channel; everything else ends the session. */
static int await(struct session *s, amqp_method_number_t id, int64_t deadline_us,
                 amqp_method_t *out, struct err *e)
{
    amqp_frame_t frame;
    int r = session_next_frame(s, &frame, deadline_us, e);

    if (r < 0)
        return -1;
    if (r == 0)
        return session_dies(s, ERR_UNREACHABLE, e, "did not finish the login within %d s",
                            SESSION_CONNECT_TIMEOUT_S);
    if (frame.frame_type == PROTOCOL_HEADER_FRAME)
        return session_dies(s, ERR_UNREACHABLE, e, "does not speak AMQP 0-9-1");
    if (frame.channel == 0 && frame.frame_type == AMQP_FRAME_METHOD &&
        frame.payload.method.id == id) {
        *out = frame.payload.method;
        return 0;
    }
    if (session_dispatch(s, &frame, e) < 0)
        return -1;
    return session_dies(s, ERR_UNREACHABLE, e, "broke the login protocol");
}

/* Does the blank-separated list have the word? */
static bool offers(amqp_bytes_t list, const char *word)
{
    const char *at = list.bytes, *end = at + list.len;
    size_t length = strlen(word);

    while (at < end) {
        const char *blank = memchr(at, ' ', (size_t)(end - at));
        const char *stop = blank ? blank : end;

        if ((size_t)(stop - at) == length && memcmp(at, word, length) == 0)
            return true;
        at = stop + 1;
    }
    return false;
}

/* AMQPLAIN's response is a table without its length: what follows the first four bytes of `out`. */
/* NOLINTNEXTLINE(readability-non-const-parameter): it is written through the buffer */
static int amqplain(const struct transport_host *host, char out[RESPONSE_SIZE],
                    amqp_bytes_t *response)
{
    amqp_table_entry_t entries[] = {text_entry("LOGIN", host->user),
                                    text_entry("PASSWORD", host->password)};
    amqp_table_t table = {.num_entries = ARRAY_LEN(entries), .entries = entries};
    amqp_bytes_t buffer = {.len = RESPONSE_SIZE, .bytes = out};
    size_t used = 0;

    if (amqp_encode_table(buffer, &table, &used) != AMQP_STATUS_OK || used < 4)
        return -1;
    *response = (amqp_bytes_t){.bytes = out + 4, .len = used - 4};
    return 0;
}

static int plain(const struct transport_host *host, char out[RESPONSE_SIZE], size_t *length)
{
    size_t user = strlen(host->user), password = strlen(host->password);

    if (user + password + 2 > RESPONSE_SIZE)
        return -1;
    out[0] = '\0';
    memcpy(out + 1, host->user, user + 1);
    memcpy(out + 2 + user, host->password, password);
    *length = user + password + 2;
    return 0;
}

/* A broker that offers only one of the two password mechanisms gets that one. */
static const char *choose(const struct session *s, amqp_bytes_t mechanisms)
{
    const char *wanted = s->options->rabbit_login_method;

    if (offers(mechanisms, wanted))
        return wanted;
    if (text_equal(wanted, "EXTERNAL"))
        return NULL;
    return offers(mechanisms, "PLAIN")      ? "PLAIN"
           : offers(mechanisms, "AMQPLAIN") ? "AMQPLAIN"
                                            : NULL;
}

static int send_start_ok(struct session *s, const char *mechanism, const char *name, struct err *e)
{
    amqp_table_entry_t capabilities[] = {
        flag_entry("authentication_failure_close"), flag_entry("connection.blocked"),
        flag_entry("consumer_cancel_notify"), flag_entry("basic.nack"),
        flag_entry("publisher_confirms")};
    amqp_table_entry_t properties[] = {
        text_entry("product", PACKAGE_NAME),
        text_entry("version", PACKAGE_VERSION),
        text_entry("platform", "C"),
        text_entry("connection_name", name),
        {.key = amqp_cstring_bytes("capabilities"),
         .value = {
             .kind = AMQP_FIELD_KIND_TABLE,
             .value.table = {.num_entries = ARRAY_LEN(capabilities), .entries = capabilities}}}};
    char response[RESPONSE_SIZE];
    amqp_connection_start_ok_t ok = {
        .client_properties = {.num_entries = ARRAY_LEN(properties), .entries = properties},
        .mechanism = amqp_cstring_bytes(mechanism),
        .response = {.bytes = response},
        .locale = amqp_cstring_bytes("en_US")};
    int r = 0;

    if (text_equal(mechanism, "PLAIN"))
        r = plain(s->host, response, &ok.response.len);
    else if (text_equal(mechanism, "AMQPLAIN"))
        r = amqplain(s->host, response, &ok.response);
    if (r < 0)
        session_dies(s, ERR_CONFIG, e, "user and password are too long together");
    else
        r = session_send(s, 0, AMQP_CONNECTION_START_OK_METHOD, &ok, e) == SESSION_OK ? 0 : -1;
    explicit_bzero(response, sizeof(response));
    return r;
}

static int lower(int ours, int64_t theirs)
{
    return theirs == 0 || theirs > ours ? ours : (int)theirs;
}

static int tune(struct session *s, const amqp_connection_tune_t *wanted, struct err *e)
{
    int64_t threshold = s->options->heartbeat_timeout_threshold;
    amqp_connection_tune_ok_t ok = {
        .channel_max = (uint16_t)lower(SESSION_CHANNEL_MAX, wanted->channel_max),
        .frame_max = (uint32_t)lower(SESSION_FRAME_MAX, wanted->frame_max),
        .heartbeat = threshold ? (uint16_t)lower((int)threshold, wanted->heartbeat) : 0};

    if (ok.frame_max < FRAME_MAX_LEAST)
        return session_dies(s, ERR_UNREACHABLE, e,
                            "wants frames of at most %u bytes; AMQP demands %d or more",
                            ok.frame_max, FRAME_MAX_LEAST);
    if (ok.channel_max < SESSION_CHANNEL_MAX)
        return session_dies(s, ERR_UNREACHABLE, e, "allows only %u channels; %d are needed",
                            ok.channel_max, SESSION_CHANNEL_MAX);
    if (amqp_tune_connection(s->amqp, ok.channel_max, (int)ok.frame_max, ok.heartbeat) !=
        AMQP_STATUS_OK)
        return session_dies(s, ERR_NOMEM, e, "has frames for which there is no memory");
    s->heartbeat_s = ok.heartbeat;
    return session_send(s, 0, AMQP_CONNECTION_TUNE_OK_METHOD, &ok, e) == SESSION_OK ? 0 : -1;
}

static int start(struct session *s, const amqp_connection_start_t *offer, const char *name,
                 struct err *e)
{
    const char *mechanism =
        choose(s, offer->mechanisms); /* NOLINT(clang-analyzer-core.*): await() gave it */

    if (offer->version_major != AMQP_PROTOCOL_VERSION_MAJOR ||
        offer->version_minor != AMQP_PROTOCOL_VERSION_MINOR)
        return session_dies(s, ERR_UNREACHABLE, e, "speaks AMQP %u.%u instead of 0-9-1",
                            offer->version_major, offer->version_minor);
    if (!mechanism)
        return session_dies(s, ERR_DENIED, e, "does not offer the login method %s",
                            s->options->rabbit_login_method);
    return send_start_ok(s, mechanism, name, e);
}

int session_login(struct session *s, const char *vhost, const char *name, struct err *e)
{
    int64_t deadline_us = clock_monotonic_us() + SESSION_CONNECT_TIMEOUT_S * USEC_PER_SEC;
    amqp_connection_open_t open = {.virtual_host = amqp_cstring_bytes(vhost)};
    amqp_method_t method = {0};
    int status = amqp_send_header(s->amqp);

    if (status != AMQP_STATUS_OK)
        return session_dies(s, ERR_UNREACHABLE, e, "%s", amqp_error_string2(status));
    if (await(s, AMQP_CONNECTION_START_METHOD, deadline_us, &method, e) < 0 ||
        start(s, method.decoded, name, e) < 0)
        return -1;
    if (await(s, AMQP_CONNECTION_TUNE_METHOD, deadline_us, &method, e) < 0 ||
        tune(s, method.decoded, e) < 0)
        return -1;
    if (session_send(s, 0, AMQP_CONNECTION_OPEN_METHOD, &open, e) != SESSION_OK)
        return -1;
    return await(s, AMQP_CONNECTION_OPEN_OK_METHOD, deadline_us, &method, e);
}
