/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The destination of channels; see channel.h. A connection is unproven until its peer has finished the
 * handshake with the key of a migration that is expected: until then it belongs to the listener alone, has no
 * buffers of ours and a deadline. Proven, it belongs to the migration.
 */
#include "net/channel_internal.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "lib/log.h"
#include "lib/metrics.h"
#include "lib/text.h"

LOG_MODULE(channel);

enum {
    EXPECTED_MAX = 1024,
    ACCEPTS_A_TURN = 16,
    BACKLOG = 64,
    PAUSE_US = 100 * 1000 /* when the process has no descriptor left */
};

struct channel_expected {
    LIST_ENTRY(channel_expected) link;
    uint8_t uuid[DIRECT_UUID_SIZE];
    uint8_t psk[CHANNEL_PSK_SIZE];
    struct channel_fns fns;
    void *aux;
    struct channel *stream; /* proven; NULL = none */
};

struct channel_listener {
    struct loop *loop;
    int fd;
    int port;
    struct loop_source *source;
    struct loop_timer *pause;
    SSL_CTX *context;
    LIST_HEAD(expected_list, channel_expected) expected;
    size_t expected_count;
    TAILQ_HEAD(unproven, channel) unproven; /* the oldest first */
    size_t unproven_count;
};

/* --- the unproven ---------------------------------------------------------------------------- */

static void remove_unproven(struct channel *channel)
{
    TAILQ_REMOVE(&channel->listener->unproven, channel, link);
    channel->listener->unproven_count--;
}

static void refuse(struct channel *channel, const char *why)
{
    metric_inc(METRIC_CHANNEL_REFUSED);
    log_debug("a connection was closed before it had proven a key: %s", why);
    remove_unproven(channel);
    channel_stream_free(channel);
}

static struct channel_expected *find(struct channel_listener *l,
                                     const uint8_t uuid[DIRECT_UUID_SIZE])
{
    struct channel_expected *x;

    LIST_FOREACH(x, &l->expected, link)
    {
        if (memcmp(x->uuid, uuid, DIRECT_UUID_SIZE) == 0)
            return x;
    }
    return NULL;
}

/* OpenSSL asks for the key of the migration that the peer names; 0 ends the handshake. */
static int find_key(SSL *ssl, const unsigned char *identity, size_t length, SSL_SESSION **session)
{
    struct channel *channel = SSL_get_app_data(ssl);
    char text[DIRECT_UUID_TEXT] = "";
    uint8_t uuid[DIRECT_UUID_SIZE];

    *session = NULL;
    if (length != DIRECT_UUID_TEXT - 1)
        return 0;
    memcpy(text, identity, length);
    if (direct_read_uuid(text, uuid, NULL) < 0)
        return 0;
    channel->expected = find(channel->listener, uuid);
    if (channel->expected)
        *session = channel_tls_session(ssl, channel->expected->psk);
    return *session != NULL;
}

/* --- the proven ------------------------------------------------------------------------------ */

static void proven(struct channel *channel)
{
    struct channel_expected *x = channel->expected;
    struct channel *before = x->stream;

    remove_unproven(channel);
    x->stream = channel;
    channel->fns = x->fns;
    channel->aux = x->aux;
    if (before) {
        struct err why = ERR_INIT;
        (void)err_set(&why, ERR_REMOTE, "the peer opened a new stream for the migration");
        channel_stream_free(before);
        channel->fns.closed(channel->aux, &why); /* may forget the migration */
    }
    if (channel->state == CHANNEL_OPEN)
        channel->fns.opened(channel->aux, channel);
}

static void ended(struct channel *channel, const struct err *why)
{
    struct channel_fns fns = channel->fns;
    void *aux = channel->aux;

    if (!channel->expected || channel->expected->stream != channel) {
        refuse(channel, why->text);
        return;
    }
    channel->expected->stream = NULL;
    channel_stream_free(channel);
    fns.closed(aux, why);
}

static const struct channel_owner accepting = {.proven = proven, .ended = ended};

/* --- accepting ------------------------------------------------------------------------------- */

static void add(struct channel_listener *l, int fd)
{
    struct err e = ERR_INIT;

    if (l->unproven_count >= CHANNEL_UNPROVEN_MAX)
        refuse(TAILQ_FIRST(&l->unproven), "newer ones came");
    struct channel *channel =
        channel_stream_new(l->loop, fd, l->context, &accepting, CHANNEL_SHAKING_HANDS, &e);
    if (!channel) {
        log_debug("a connection was closed at once: %s", e.text);
        return;
    }
    SSL_set_accept_state(channel->ssl);
    channel->listener = l;
    TAILQ_INSERT_TAIL(&l->unproven, channel, link);
    l->unproven_count++;
}

static void readable(void *aux, uint32_t epoll_events _unused_)
{
    struct channel_listener *l = aux;

    for (int i = 0; i < ACCEPTS_A_TURN; i++) {
        int fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0) {
            add(l, fd);
            continue;
        }
        if (errno == ECONNABORTED || errno == EINTR)
            continue;
        if (errno != EAGAIN && loop_source_set_events(l->source, 0, NULL) == 0)
            loop_timer_arm(l->pause, PAUSE_US);
        return;
    }
}

static void resume(void *aux)
{
    struct channel_listener *l = aux;

    if (loop_source_set_events(l->source, EPOLLIN, NULL) < 0)
        loop_timer_arm(l->pause, PAUSE_US);
}

static int open_socket(struct channel_listener *l, const char *address, int port, struct err *e)
{
    _cleanup_(addrinfo_freep) struct addrinfo *a = NULL;
    const int on = 1;

    if (direct_resolve(address, port, SOCK_STREAM, true, &a, e) < 0)
        return -1;
    l->fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (l->fd < 0)
        return err_set_errno(e, ERR_SYSTEM, errno, "a TCP socket cannot be opened");
    if (setsockopt(l->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
        bind(l->fd, a->ai_addr, a->ai_addrlen) < 0 || listen(l->fd, BACKLOG) < 0)
        return err_set_errno(e, ERR_SYSTEM, errno, "switch-over address %s port %d", address, port);
    l->port = direct_bound_port(l->fd);
    return 0;
}

int channel_listener_new(struct channel_listener **out, struct loop *loop, const char *address,
                         int port, struct err *e)
{
    _cleanup_(channel_listener_freep) struct channel_listener *l = NEW(struct channel_listener);

    l->loop = loop;
    l->fd = -1;
    LIST_INIT(&l->expected);
    TAILQ_INIT(&l->unproven);
    if (open_socket(l, address, port, e) < 0 || channel_tls_context(true, &l->context, e) < 0)
        return -1;
    SSL_CTX_set_psk_find_session_callback(l->context, find_key);
    l->pause = loop_timer_new(loop, "channel listener", resume, l);
    l->source = loop_add_fd(loop, l->fd, EPOLLIN, "channel listener", readable, l, e);
    if (!l->source)
        return -1;
    *out = STEAL(l);
    return 0;
}

int channel_listener_port(const struct channel_listener *l)
{
    return l->port;
}

/* --- whom to believe ------------------------------------------------------------------------- */

static void forget(struct channel_listener *l, struct channel_expected *x)
{
    struct channel *channel, *next;

    LIST_REMOVE(x, link);
    l->expected_count--;
    if (x->stream)
        channel_stream_free(x->stream);
    for (channel = TAILQ_FIRST(&l->unproven); channel; channel = next) {
        next = TAILQ_NEXT(channel, link);
        if (channel->expected == x)
            refuse(channel, "its migration was forgotten");
    }
    OPENSSL_cleanse(x, sizeof(*x));
    free(x);
}

void channel_forget(struct channel_listener *l, const char *migration_uuid)
{
    uint8_t uuid[DIRECT_UUID_SIZE];
    struct channel_expected *x =
        direct_read_uuid(migration_uuid, uuid, NULL) < 0 ? NULL : find(l, uuid);

    if (x)
        forget(l, x);
}

int channel_expect(struct channel_listener *l, const char *migration_uuid, const char *key_hex,
                   const struct channel_fns *fns, void *aux, struct err *e)
{
    struct channel_expected fresh = {.fns = *fns, .aux = aux};
    uint8_t key[DIRECT_KEY_SIZE];

    if (direct_read_uuid(migration_uuid, fresh.uuid, e) < 0 || direct_read_key(key_hex, key, e) < 0)
        return -1;
    int rc = channel_tls_derive(key, fresh.psk, e);
    OPENSSL_cleanse(key, sizeof(key));
    if (rc < 0)
        return -1;
    channel_forget(l, migration_uuid);
    if (l->expected_count >= EXPECTED_MAX)
        rc = err_set(e, ERR_INVALID, "more than %d migrations are on their way here", EXPECTED_MAX);
    if (rc == 0) {
        struct channel_expected *x = NEW(struct channel_expected);
        *x = fresh;
        LIST_INSERT_HEAD(&l->expected, x, link);
        l->expected_count++;
    }
    OPENSSL_cleanse(&fresh, sizeof(fresh));
    return rc;
}

void channel_listener_free(struct channel_listener *l)
{
    struct channel_expected *x;
    struct channel *channel;

    if (!l)
        return;
    while ((x = LIST_FIRST(&l->expected)))
        forget(l, x);
    while ((channel = TAILQ_FIRST(&l->unproven))) {
        remove_unproven(channel);
        channel_stream_free(channel);
    }
    loop_source_free(l->source);
    loop_timer_free(l->pause);
    fd_closep(&l->fd);
    SSL_CTX_free(l->context);
    free(l);
}
