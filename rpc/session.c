/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/session.h"

#include <amqp_tcp_socket.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "lib/clock.h"
#include "lib/text.h"
#include "rpc/session_internal.h"

/* --- the end of a session ----------------------------------------------------------------------- */

int session_dies(struct session *s, enum err_code code, struct err *e, const char *format, ...)
{
    char text[ERR_TEXT_SIZE];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    s->dead = true;
    return err_set(e, code, "the broker %s %s", s->broker, text);
}

static int dies_by_status(struct session *s, int status, struct err *e)
{
    switch (status) {
    case AMQP_STATUS_CONNECTION_CLOSED:
    case AMQP_STATUS_SOCKET_CLOSED:
        return session_dies(s, ERR_UNREACHABLE, e, "closed the connection");
    case AMQP_STATUS_SOCKET_ERROR:
    case AMQP_STATUS_TCP_ERROR:
        return session_dies(s, ERR_UNREACHABLE, e, "is not reachable any more");
    case AMQP_STATUS_SSL_ERROR:
        return session_dies(s, ERR_UNREACHABLE, e, "closed the TLS connection: %s",
                            session_tls_reason());
    case AMQP_STATUS_HEARTBEAT_TIMEOUT:
        return session_dies(s, ERR_UNREACHABLE, e, "sends no heartbeats any more");
    case AMQP_STATUS_BAD_AMQP_DATA:
    case AMQP_STATUS_UNKNOWN_CLASS:
    case AMQP_STATUS_UNKNOWN_METHOD:
        return session_dies(s, ERR_UNREACHABLE, e, "sent malformed frames (%s)",
                            amqp_error_string2(status));
    default:
        return session_dies(s, ERR_UNREACHABLE, e, "cannot be used: %s",
                            amqp_error_string2(status));
    }
}

void session_words(amqp_bytes_t text, char out[SESSION_TEXT_MAX])
{
    _cleanup_(str_freep) char *copy = text_dup_n(text.len ? text.bytes : "", text.len);
    _cleanup_(str_freep) char *shown = text_escape(copy, SESSION_TEXT_MAX - 8);

    snprintf(out, SESSION_TEXT_MAX, "%s", shown);
}

/* --- connecting --------------------------------------------------------------------------------- */

static int wait_connected(int fd, int64_t deadline_us)
{
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    int64_t left_us = deadline_us - clock_monotonic_us();
    int error = 0;
    socklen_t size = sizeof(error);

    if (poll(&p, 1, left_us > 0 ? (int)(left_us / USEC_PER_MSEC) : 0) <= 0)
        return ETIMEDOUT;
    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0 ? errno : error;
}

/* A connected socket, or -1 with errno. */
static int dial(const struct addrinfo *address, int64_t deadline_us)
{
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP);
    int error = 0, on = 1;

    if (fd < 0)
        return -1;
    if (connect(fd, address->ai_addr, address->ai_addrlen) < 0)
        error = errno == EINPROGRESS ? wait_connected(fd, deadline_us) : errno;
    if (error == 0 && setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == 0)
        return fd;
    (void)close(fd);
    errno = error;
    return -1;
}

static int dial_any(struct session *s, int *out, struct err *e)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list;
    int64_t deadline_us = clock_monotonic_us() + SESSION_CONNECT_TIMEOUT_S * USEC_PER_SEC;
    char port[8];
    int r, fd = -1, error = 0;

    snprintf(port, sizeof(port), "%u", s->host->port);
    r = getaddrinfo(s->host->name, port, &hints, &list);
    if (r != 0)
        return session_dies(s, ERR_UNREACHABLE, e, "has no address: %s", gai_strerror(r));
    for (const struct addrinfo *a = list; a && fd < 0; a = a->ai_next) {
        fd = dial(a, deadline_us);
        error = errno;
    }
    freeaddrinfo(list);
    if (fd < 0)
        return session_dies(s, ERR_UNREACHABLE, e, "cannot be reached: %s", strerror(error));
    *out = fd;
    return 0;
}

static int connect_plain(struct session *s, struct err *e)
{
    amqp_socket_t *socket;
    int fd = -1;

    if (dial_any(s, &fd, e) < 0)
        return -1;
    socket = amqp_tcp_socket_new(s->amqp);
    if (!socket) {
        (void)close(fd);
        return session_dies(s, ERR_NOMEM, e, "cannot be used: out of memory");
    }
    amqp_tcp_socket_set_sockfd(socket, fd);
    return 0;
}

/* A line that is cut is noticed by what we send not being acknowledged, as oslo.messaging does it. */
static void set_user_timeout(const struct session *s)
{
    int64_t seconds = s->options->heartbeat_timeout_threshold;
    unsigned ms = (unsigned)(seconds ? seconds : 60) * 1000;
    int on = 1;

    (void)setsockopt(session_fd(s), IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof(ms));
    (void)setsockopt(session_fd(s), SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
}

static int establish(struct session *s, const char *vhost, const char *name, struct err *e)
{
    struct timeval timeout = {.tv_sec = SESSION_CONNECT_TIMEOUT_S};

    s->amqp = amqp_new_connection();
    if (!s->amqp)
        return session_dies(s, ERR_NOMEM, e, "cannot be used: out of memory");
    if ((s->options->ssl ? session_tls_connect(s, &timeout, e) : connect_plain(s, e)) < 0)
        return -1;
    set_user_timeout(s);
    s->channels[0].open = true;
    return session_login(s, vhost, name, e);
}

int session_open(struct session **out, const struct rabbit_options *options,
                 const struct transport_host *host, const char *vhost, const char *name,
                 const struct session_handler *handler, void *aux, struct err *e)
{
    _cleanup_(session_freep) struct session *s = NEW(struct session);

    s->options = options;
    s->host = host;
    s->handler = handler;
    s->aux = aux;
    transport_host_text(host, s->broker, sizeof(s->broker));
    if (establish(s, vhost, name, e) < 0)
        return -1;
    s->heard_us = s->sent_us = clock_monotonic_us();
    *out = STEAL(s);
    return 0;
}

void session_free(struct session *session)
{
    if (!session)
        return;
    for (size_t i = 0; i < ARRAY_LEN(session->channels); i++)
        session_content_clear(&session->channels[i].content);
    if (session->amqp)
        amqp_destroy_connection(session->amqp);
    session_tls_free(session->tls);
    free(session);
}

void session_close(struct session *session)
{
    amqp_connection_close_t close_method = {.reply_code = AMQP_REPLY_SUCCESS,
                                            .reply_text = amqp_cstring_bytes("bye")};
    int64_t deadline_us = clock_monotonic_us() + USEC_PER_SEC;
    amqp_frame_t frame;

    if (!session->dead &&
        session_send(session, 0, AMQP_CONNECTION_CLOSE_METHOD, &close_method, NULL) == SESSION_OK)
        while (session_next_frame(session, &frame, deadline_us, NULL) > 0) {
            if (frame.frame_type == AMQP_FRAME_METHOD &&
                frame.payload.method.id == AMQP_CONNECTION_CLOSE_OK_METHOD)
                break;
            amqp_maybe_release_buffers(session->amqp);
        }
    session_free(session);
}

int session_fd(const struct session *session)
{
    return amqp_get_sockfd(session->amqp);
}

int session_code(const struct session *session)
{
    return session->code;
}

const char *session_broker(const struct session *session)
{
    return session->broker;
}

/* --- reading ------------------------------------------------------------------------------------ */

int session_next_frame(struct session *s, amqp_frame_t *frame, int64_t deadline_us, struct err *e)
{
    for (;;) {
        int64_t left_us = deadline_us - clock_monotonic_us();
        struct timeval timeout = {0};
        int status;

        if (left_us > 0) {
            timeout.tv_sec = left_us / USEC_PER_SEC;
            timeout.tv_usec = left_us % USEC_PER_SEC;
        }
        status = amqp_simple_wait_frame_noblock(s->amqp, frame, &timeout);
        if (status == AMQP_STATUS_TIMEOUT)
            return 0;
        if (status != AMQP_STATUS_OK)
            return dies_by_status(s, status, e);
        if (frame->frame_type != AMQP_FRAME_HEARTBEAT)
            return 1;
    }
}

int session_read(struct session *session, unsigned budget, bool *more, struct err *e)
{
    *more = true;
    for (unsigned i = 0; i < budget; i++) {
        amqp_frame_t frame;
        int r = session_next_frame(session, &frame, 0, e);

        if (r < 0 || (r > 0 && session_dispatch(session, &frame, e) < 0))
            return -1;
        amqp_maybe_release_buffers(session->amqp);
        if (r == 0) {
            *more = false;
            return 0;
        }
    }
    return 0;
}

bool session_pending(struct session *session)
{
    return amqp_frames_enqueued(session->amqp) || amqp_data_in_buffer(session->amqp);
}

/* --- heartbeats --------------------------------------------------------------------------------- */

void session_heard(struct session *session, int64_t now_us)
{
    session->heard_us = now_us;
}

/*
 * Ours go out heartbeat_rate times a period. When something else woke the thread shortly before one is
 * due (the broker's own heartbeat, as a rule), it goes out at once: one wake-up for both directions.
 * A broker sends one every half period, but may leave one out after other traffic: it is dead after 1.5.
 */
int session_tick(struct session *session, int64_t now_us, int64_t *next_us, struct err *e)
{
    int64_t period_us = session->heartbeat_s * USEC_PER_SEC;
    int64_t interval_us = period_us / session->options->heartbeat_rate;
    int64_t silent_us = now_us - session->heard_us;
    amqp_frame_t frame = {.frame_type = AMQP_FRAME_HEARTBEAT};

    if (period_us == 0) {
        *next_us = INT64_MAX;
        return 0;
    }
    if (silent_us >= period_us * 3 / 2)
        return session_dies(session, ERR_UNREACHABLE, e, "has been silent for %lld s",
                            (long long)(silent_us / USEC_PER_SEC));
    if (now_us - session->sent_us >= interval_us * 3 / 4) {
        int status = amqp_send_frame(session->amqp, &frame);

        if (status != AMQP_STATUS_OK)
            return dies_by_status(session, status, e);
        session->sent_us = now_us;
    }
    *next_us = session->sent_us + interval_us * 11 / 10;
    if (session->heard_us + period_us * 3 / 2 < *next_us)
        *next_us = session->heard_us + period_us * 3 / 2;
    return 0;
}

/* --- sending ------------------------------------------------------------------------------------ */

enum session_end session_send(struct session *s, uint16_t channel, amqp_method_number_t method,
                              void *decoded, struct err *e)
{
    int status = amqp_send_method(s->amqp, channel, method, decoded);

    if (status != AMQP_STATUS_OK) {
        dies_by_status(s, status, e);
        return SESSION_DEAD;
    }
    s->sent_us = clock_monotonic_us();
    return SESSION_OK;
}

/* The broker closed the channel that an answer was awaited on. */
static enum session_end refused(struct session *s, uint16_t channel,
                                const amqp_channel_close_t *close_method, struct err *e)
{
    amqp_channel_close_ok_t ok = {0};
    char words[SESSION_TEXT_MAX];

    session_words(close_method->reply_text, words);
    s->code = close_method->reply_code;
    s->channels[channel].open = false;
    session_content_clear(&s->channels[channel].content);
    if (session_send(s, channel, AMQP_CHANNEL_CLOSE_OK_METHOD, &ok, e) != SESSION_OK)
        return SESSION_DEAD;
    err_set(e, ERR_UNREACHABLE, "the broker %s refuses with %d: %s", s->broker, s->code, words);
    return SESSION_REFUSED;
}

static bool is_method(const amqp_frame_t *frame, uint16_t channel, amqp_method_number_t method)
{
    return frame->channel == channel && frame->frame_type == AMQP_FRAME_METHOD &&
           frame->payload.method.id == method;
}

enum session_end session_call(struct session *s, uint16_t channel, amqp_method_number_t method,
                              void *decoded, amqp_method_number_t answer, struct err *e)
{
    int64_t deadline_us = clock_monotonic_us() + SESSION_CALL_TIMEOUT_S * USEC_PER_SEC;
    amqp_frame_t frame;
    int r;

    if (session_send(s, channel, method, decoded, e) != SESSION_OK)
        return SESSION_DEAD;
    while ((r = session_next_frame(s, &frame, deadline_us, e)) > 0) {
        if (is_method(&frame, channel, answer)) {
            s->heard_us = clock_monotonic_us();
            return SESSION_OK;
        }
        if (is_method(&frame, channel, AMQP_CHANNEL_CLOSE_METHOD))
            return refused(s, channel, frame.payload.method.decoded, e);
        if (session_dispatch(s, &frame, e) < 0)
            return SESSION_DEAD;
        amqp_maybe_release_buffers(s->amqp);
        if (clock_monotonic_us() >= deadline_us) { /* a flood of other frames counts as no answer */
            r = 0;
            break;
        }
    }
    if (r == 0)
        session_dies(s, ERR_UNREACHABLE, e, "did not answer %s within %d s",
                     amqp_method_name(method), SESSION_CALL_TIMEOUT_S);
    return SESSION_DEAD;
}
