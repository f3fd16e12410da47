/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stream of messages over TLS; see channel.h. Who connects is here too, who accepts is in
 * channel_listener.c.
 *
 * OpenSSL reads ahead, so bytes may wait in it, or here, while the socket is empty: whenever a turn's
 * share was used up, the timer `again` goes on in the next turn. Writing stops when the socket is full,
 * and is tried again only when it is writable, so that sending costs no system call meanwhile.
 */
#include "net/channel_internal.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "lib/log.h"
#include "lib/metrics.h"
#include "lib/text.h"
#include "net/channel_frame.h"

LOG_MODULE(channel);

enum {
    RECORD_SIZE = 16 * 1024, /* the most that one TLS record carries */
    IN_SIZE = CHANNEL_FRAME_HEADER + CHANNEL_MESSAGE_MAX + RECORD_SIZE,
    MESSAGES_A_TURN = 1024,
    BYTES_A_TURN = 256 * 1024,
    KEEPALIVE_IDLE_S = 30,
    KEEPALIVE_INTERVAL_S = 5,
    KEEPALIVE_COUNT = 2,
    USER_TIMEOUT_MS = 5000
};

/* --- ending ---------------------------------------------------------------------------------- */

static void close_socket(struct channel *channel)
{
    loop_source_free(channel->source);
    loop_timer_free(channel->deadline);
    loop_timer_free(channel->again);
    SSL_free(channel->ssl);
    fd_closep(&channel->fd);
    channel->source = NULL;
    channel->deadline = channel->again = NULL;
    channel->ssl = NULL;
    channel->fd = -1;
    OPENSSL_cleanse(channel->psk, sizeof(channel->psk));
}

static void enter(struct channel *channel)
{
    channel->in_use++;
}

static void leave(struct channel *channel)
{
    if (--channel->in_use > 0 || channel->state != CHANNEL_GONE)
        return;
    channel_queue_free(&channel->queue);
    free(channel->in);
    free(channel);
}

void channel_stream_free(struct channel *channel)
{
    enter(channel);
    if (channel->state == CHANNEL_OPEN && channel->queue.bytes == 0) {
        (void)SSL_shutdown(channel->ssl); /* tells the peer that this end is meant */
        ERR_clear_error();
    }
    close_socket(channel);
    channel->state = CHANNEL_GONE;
    leave(channel);
}

/* Ends the stream and tells the owner, who may free it. */
static void end(struct channel *channel, const struct err *why)
{
    channel->state = CHANNEL_ENDED;
    close_socket(channel);
    channel_queue_free(&channel->queue);
    channel->owner->ended(channel, why);
}

static void end_by_tls(struct channel *channel, int result)
{
    struct err why = ERR_INIT;

    (void)channel_tls_error(channel->ssl, result, &why);
    end(channel, &why);
}

/* --- what to wait for ------------------------------------------------------------------------ */

static void watch(struct channel *channel)
{
    uint32_t wanted =
        EPOLLIN | (channel->blocked || channel->state == CHANNEL_CONNECTING ? EPOLLOUT : 0U);
    struct err why = ERR_INIT;

    if (channel->state > CHANNEL_OPEN || wanted == channel->watched)
        return;
    if (loop_source_set_events(channel->source, wanted, &why) == 0) {
        channel->watched = wanted;
        return;
    }
    channel->state = CHANNEL_FAILED;
    channel->why = why;
    loop_timer_arm(channel->again, 0);
}

/* --- sending --------------------------------------------------------------------------------- */

/* Writes what the socket takes, a turn's share at most. */
static void flush(struct channel *channel)
{
    size_t written = 0, total = 0, run = 0;

    while (channel->queue.bytes > 0 && !channel->blocked && total < BYTES_A_TURN) {
        const uint8_t *bytes = channel_queue_front(&channel->queue, &run);

        ERR_clear_error();
        int rc = SSL_write_ex(channel->ssl, bytes, run < RECORD_SIZE ? run : RECORD_SIZE, &written);
        if (rc != 1 && SSL_get_error(channel->ssl, rc) != SSL_ERROR_WANT_WRITE) {
            (void)channel_tls_error(channel->ssl, rc, &channel->why);
            channel->state = CHANNEL_FAILED;
            loop_timer_arm(channel->again, 0);
            return;
        }
        channel->blocked = rc != 1;
        if (rc == 1)
            channel_queue_remove(&channel->queue, written);
        total += rc == 1 ? written : 0;
    }
    if (channel->queue.bytes > 0 && !channel->blocked)
        loop_timer_arm(channel->again, 0);
    watch(channel);
}

static bool length_of(const struct iovec *parts, size_t count, size_t *out)
{
    size_t length = 0;

    for (size_t i = 0; i < count; i++) {
        if (parts[i].iov_len > CHANNEL_MESSAGE_MAX - length)
            return false;
        length += parts[i].iov_len;
    }
    *out = length;
    return true;
}

bool channel_send(struct channel *channel, uint8_t type, const struct iovec *parts, size_t count)
{
    uint8_t header[CHANNEL_FRAME_HEADER];
    size_t length = 0;

    if (channel->state != CHANNEL_OPEN || !length_of(parts, count, &length) ||
        channel->queue.bytes + CHANNEL_FRAME_HEADER + length > CHANNEL_QUEUE_MAX) {
        metric_inc(METRIC_CHANNEL_DROPPED);
        return false;
    }
    channel_frame_header(header, type, length);
    channel_queue_add(&channel->queue, header, sizeof(header));
    for (size_t i = 0; i < count; i++)
        channel_queue_add(&channel->queue, parts[i].iov_base, parts[i].iov_len);
    if (!channel->blocked)
        flush(channel);
    return channel->state == CHANNEL_OPEN;
}

size_t channel_queued(const struct channel *channel)
{
    return channel->queue.bytes;
}

bool channel_is_open(const struct channel *channel)
{
    return channel->state == CHANNEL_OPEN;
}

/* --- receiving ------------------------------------------------------------------------------- */

/* Reads what one record brings. False: nothing more is there now, or the stream ended. */
static bool fill(struct channel *channel, size_t *total)
{
    size_t n = 0;

    if (channel->in_start > 0) {
        memmove(channel->in, channel->in + channel->in_start, channel->in_end - channel->in_start);
        channel->in_end -= channel->in_start;
        channel->in_start = 0;
    }
    ERR_clear_error();
    int rc =
        SSL_read_ex(channel->ssl, channel->in + channel->in_end, IN_SIZE - channel->in_end, &n);
    if (rc == 1) {
        channel->in_end += n;
        *total += n;
        return true;
    }
    int kind = SSL_get_error(channel->ssl, rc);
    if (kind == SSL_ERROR_WANT_WRITE)
        channel->blocked = true; /* an answer to a change of keys does not fit */
    else if (kind != SSL_ERROR_WANT_READ)
        end_by_tls(channel, rc);
    return false;
}

/* Hands out the messages that are there, a turn's share at most. */
static void receive(struct channel *channel)
{
    struct channel_frame frame;
    size_t messages = 0, bytes = 0;

    while (channel->state == CHANNEL_OPEN) {
        if (messages >= MESSAGES_A_TURN || bytes >= BYTES_A_TURN) {
            loop_timer_arm(channel->again, 0);
            return;
        }
        int rc = channel_frame_next(channel->in + channel->in_start,
                                    channel->in_end - channel->in_start, &frame);
        if (rc < 0) {
            struct err why = ERR_INIT;
            (void)err_set(&why, ERR_PARSE,
                          "the peer sent a message of a length that is not allowed");
            end(channel, &why);
            return;
        }
        if (rc == 0 && !fill(channel, &bytes))
            return;
        if (rc > 0) {
            messages++;
            channel->in_start += frame.size;
            channel->fns.message(channel->aux, frame.type, frame.data, frame.length);
        }
    }
}

/* --- the handshake --------------------------------------------------------------------------- */

static void end_unconnected(struct channel *channel, int number)
{
    struct err why = ERR_INIT;

    (void)err_set_errno(&why, ERR_SYSTEM, number, "the destination cannot be connected to");
    end(channel, &why);
}

static void finish_connect(struct channel *channel, uint32_t epoll_events)
{
    int number = 0;
    socklen_t length = sizeof(number);

    if (!(epoll_events & (EPOLLOUT | EPOLLERR | EPOLLHUP)))
        return;
    if (getsockopt(channel->fd, SOL_SOCKET, SO_ERROR, &number, &length) < 0)
        number = errno;
    if (number != 0)
        end_unconnected(channel, number);
    else
        channel->state = CHANNEL_SHAKING_HANDS;
}

static void shake_hands(struct channel *channel)
{
    ERR_clear_error();
    int rc = SSL_do_handshake(channel->ssl);
    int kind = rc == 1 ? SSL_ERROR_NONE : SSL_get_error(channel->ssl, rc);

    if (kind == SSL_ERROR_WANT_READ || kind == SSL_ERROR_WANT_WRITE) {
        channel->blocked = kind == SSL_ERROR_WANT_WRITE;
        return;
    }
    if (rc != 1) {
        end_by_tls(channel, rc);
        return;
    }
    if (SSL_session_reused(channel->ssl) != 1) { /* what OpenSSL says of a pre-shared key */
        struct err why = ERR_INIT;
        (void)err_set(&why, ERR_DENIED, "the peer has not used the migration's key");
        end(channel, &why);
        return;
    }
    loop_timer_disarm(channel->deadline);
    OPENSSL_cleanse(channel->psk, sizeof(channel->psk));
    channel->in = mem_new(IN_SIZE);
    channel->state = CHANNEL_OPEN;
    metric_inc(METRIC_CHANNEL_OPENED);
    channel->owner->proven(channel);
}

static void on_deadline(void *aux)
{
    struct channel *channel = aux;
    struct err why = ERR_INIT;

    enter(channel);
    (void)err_set(&why, ERR_TIMEOUT, "the stream was not opened within %d s",
                  (int)(CHANNEL_HANDSHAKE_US / 1000000));
    end(channel, &why);
    leave(channel);
}

/* --- turns ----------------------------------------------------------------------------------- */

static void proceed(struct channel *channel)
{
    if (channel->state == CHANNEL_SHAKING_HANDS)
        shake_hands(channel);
    if (channel->state == CHANNEL_OPEN)
        receive(channel);
    if (channel->state == CHANNEL_OPEN)
        flush(channel);
    watch(channel);
}

static void on_socket(void *aux, uint32_t epoll_events)
{
    struct channel *channel = aux;

    enter(channel);
    if (epoll_events & (EPOLLOUT | EPOLLERR | EPOLLHUP))
        channel->blocked = false;
    if (channel->state == CHANNEL_CONNECTING)
        finish_connect(channel, epoll_events);
    proceed(channel);
    leave(channel);
}

static void on_again(void *aux)
{
    struct channel *channel = aux;

    enter(channel);
    if (channel->state == CHANNEL_FAILED)
        end(channel, &channel->why);
    else
        proceed(channel);
    leave(channel);
}

/* --- a stream -------------------------------------------------------------------------------- */

static int set_options(int fd)
{
    const struct {
        int level, name, value;
    } options[] = {
        {IPPROTO_TCP, TCP_NODELAY, 1},
        {SOL_SOCKET, SO_KEEPALIVE, 1},
        {IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_S},
        {IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S},
        {IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_COUNT},
        {IPPROTO_TCP, TCP_USER_TIMEOUT, USER_TIMEOUT_MS},
    };

    for (size_t i = 0; i < ARRAY_LEN(options); i++)
        if (setsockopt(fd, options[i].level, options[i].name, &options[i].value, sizeof(int)) < 0)
            return -1;
    return 0;
}

struct channel *channel_stream_new(struct loop *loop, int fd, SSL_CTX *context,
                                   const struct channel_owner *owner, enum channel_state state,
                                   struct err *e)
{
    struct channel *channel = NEW(struct channel);

    channel->loop = loop;
    channel->owner = owner;
    channel->state = state;
    channel->fd = fd;
    channel->watched = EPOLLIN | (state == CHANNEL_CONNECTING ? EPOLLOUT : 0U);
    channel_queue_init(&channel->queue);
    channel->deadline = loop_timer_new(loop, "channel deadline", on_deadline, channel);
    channel->again = loop_timer_new(loop, "channel", on_again, channel);
    channel->ssl = SSL_new(context);
    if (!channel->ssl || SSL_set_fd(channel->ssl, fd) != 1)
        (void)err_set(e, ERR_NOMEM, "OpenSSL cannot make a connection");
    else if (set_options(fd) < 0)
        (void)err_set_errno(e, ERR_SYSTEM, errno, "a TCP socket cannot be set up");
    else
        channel->source = loop_add_fd(loop, fd, channel->watched, "channel", on_socket, channel, e);
    if (!channel->source) {
        channel_stream_free(channel);
        return NULL;
    }
    SSL_set_app_data(channel->ssl, channel);
    loop_timer_arm(channel->deadline, CHANNEL_HANDSHAKE_US);
    return channel;
}

/* --- connecting ------------------------------------------------------------------------------ */

static void connected(struct channel *channel)
{
    channel->fns.opened(channel->aux, channel);
}

static void connection_ended(struct channel *channel, const struct err *why)
{
    channel->fns.closed(channel->aux, why);
}

static const struct channel_owner connecting = {.proven = connected, .ended = connection_ended};

static int give_key(SSL *ssl, const EVP_MD *digest _unused_, const unsigned char **identity,
                    size_t *length, SSL_SESSION **session)
{
    const struct channel *channel = SSL_get_app_data(ssl);

    *session = channel_tls_session(ssl, channel->psk);
    *identity = (const unsigned char *)channel->uuid;
    *length = DIRECT_UUID_TEXT - 1;
    return *session != NULL;
}

static int connect_to(const char *address, int port, struct err *e)
{
    _cleanup_(addrinfo_freep) struct addrinfo *a = NULL;

    if (port == 0)
        return err_set(e, ERR_INVALID, "switch-over port 0 cannot be connected to");
    if (direct_resolve(address, port, SOCK_STREAM, false, &a, e) < 0)
        return -1;
    _cleanup_(fd_closep) int fd =
        socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return err_set_errno(e, ERR_SYSTEM, errno, "a TCP socket cannot be opened");
    if (connect(fd, a->ai_addr, a->ai_addrlen) < 0 && errno != EINPROGRESS)
        return err_set_errno(e, ERR_SYSTEM, errno, "switch-over address %s port %d", address, port);
    int connecting_fd = fd;
    fd = -1;
    return connecting_fd;
}

static int begin(struct loop *loop, const char *address, int port, SSL_CTX *context,
                 struct channel **out, struct err *e)
{
    int fd = connect_to(address, port, e);

    if (fd < 0)
        return -1;
    SSL_CTX_set_psk_use_session_callback(context, give_key);
    *out = channel_stream_new(loop, fd, context, &connecting, CHANNEL_CONNECTING, e);
    if (!*out)
        return -1;
    SSL_set_connect_state((*out)->ssl);
    return 0;
}

int channel_connect(struct channel **out, struct loop *loop, const char *address, int port,
                    const char *migration_uuid, const char *key_hex, const struct channel_fns *fns,
                    void *aux, struct err *e)
{
    uint8_t uuid[DIRECT_UUID_SIZE], key[DIRECT_KEY_SIZE], psk[CHANNEL_PSK_SIZE];
    struct channel *channel = NULL;
    SSL_CTX *context = NULL;

    if (direct_read_uuid(migration_uuid, uuid, e) < 0 || direct_read_key(key_hex, key, e) < 0)
        return -1;
    int rc = channel_tls_derive(key, psk, e);
    OPENSSL_cleanse(key, sizeof(key));
    if (rc == 0 && channel_tls_context(false, &context, e) == 0)
        (void)begin(loop, address, port, context, &channel, e);
    SSL_CTX_free(context);
    if (channel) {
        direct_format_uuid(uuid, channel->uuid);
        memcpy(channel->psk, psk, sizeof(psk));
        channel->fns = *fns;
        channel->aux = aux;
        *out = channel;
    }
    OPENSSL_cleanse(psk, sizeof(psk));
    return channel ? 0 : -1;
}

void channel_free(struct channel *channel)
{
    if (!channel)
        return;
    assert(channel->owner == &connecting);
    channel_stream_free(channel);
}
