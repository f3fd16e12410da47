/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The direct line between two agents; see switchover.h. A datagram has one size and one form:
 *
 *     0  "CSWO"           magic
 *     4  1                version
 *     5  kind             enum switchover_signal
 *     6  0 0
 *     8  migration uuid   16 bytes
 *    24  sequence         64 bits, big-endian; grows with every signal of the migration
 *    32  time             64 bits, big-endian; microseconds since 1970, sender's clock
 *    40  HMAC-SHA256      of all before, 32 bytes
 *
 * Accepted is what carries a known migration's MAC, a sequence above the last one accepted and a time
 * within TIME_WINDOW_US of ours. The sequence starts at the sender's clock, so that it grows over restarts
 * of the sender too; the time keeps a recorded signal from working after a restart of the receiver.
 * The three copies of one signal are equal, so two of them are too late by sequence: that is no refusal.
 */
#include "net/switchover.h"

#include <assert.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "lib/metrics.h"
#include "lib/text.h"
#include "lib/vector.h"
#include "net/direct.h"

LOG_MODULE(switchover);

enum {
    MAC_SIZE = 32,
    MAC_OFFSET = 40,
    DATAGRAM_SIZE = MAC_OFFSET + MAC_SIZE,
    FORMAT_VERSION = 1,
    TIME_WINDOW_US = 60000000,
    RATE_PER_SECOND = 2000, /* datagrams looked at; a flood must not keep the loop busy */
    READS_A_TURN = 64,
    EXPECTED_MAX = 1024,
    REPEAT_US = 8000,
    REPEATS = 2
};
static const uint8_t magic[4] = {'C', 'S', 'W', 'O'};

struct expected {
    uint8_t uuid[DIRECT_UUID_SIZE];
    uint8_t key[SWITCHOVER_KEY_SIZE];
    uint64_t last_sequence;
};
DEFINE_VECTOR(expected_vector, struct expected)

struct switchover {
    struct loop *loop;
    struct loop_source *source;
    int fd;
    int port;
    switchover_fn fn;
    void *aux;
    struct expected_vector expected;
    int64_t window_start_us;
    unsigned in_window;
};

struct switchover_peer {
    int fd;
    struct loop_timer *timer;
    uint8_t uuid[DIRECT_UUID_SIZE];
    uint8_t key[SWITCHOVER_KEY_SIZE];
    uint64_t sequence;
    uint8_t datagram[DATAGRAM_SIZE];
    unsigned repeats_left;
};

/* --- datagrams ------------------------------------------------------------------------------- */

static void put64(uint8_t *p, uint64_t value)
{
    for (int i = 7; i >= 0; i--, value >>= 8)
        p[i] = (uint8_t)value;
}

static uint64_t get64(const uint8_t *p)
{
    uint64_t value = 0;

    for (int i = 0; i < 8; i++)
        value = value << 8 | p[i];
    return value;
}

static bool authenticate(const uint8_t key[SWITCHOVER_KEY_SIZE], const uint8_t *datagram,
                         uint8_t mac[MAC_SIZE])
{
    size_t length = 0;

    return EVP_Q_mac(NULL, "HMAC", NULL, "SHA256", NULL, key, SWITCHOVER_KEY_SIZE, datagram,
                     MAC_OFFSET, mac, MAC_SIZE, &length) &&
           length == MAC_SIZE;
}

/* --- receiving ------------------------------------------------------------------------------- */

static struct expected *find(struct switchover *s, const uint8_t uuid[DIRECT_UUID_SIZE])
{
    for (size_t i = 0; i < s->expected.length; i++)
        if (memcmp(s->expected.items[i].uuid, uuid, DIRECT_UUID_SIZE) == 0)
            return &s->expected.items[i];
    return NULL;
}

static bool form_is_right(const uint8_t *d, ssize_t length)
{
    return length == DATAGRAM_SIZE && memcmp(d, magic, sizeof(magic)) == 0 &&
           d[4] == FORMAT_VERSION && (d[5] == SWITCHOVER_PAUSED || d[5] == SWITCHOVER_REVERTED) &&
           d[6] == 0 && d[7] == 0;
}

static bool time_is_near(uint64_t sent_us)
{
    int64_t now = clock_realtime_us();

    return sent_us <= INT64_MAX && (int64_t)sent_us >= now - TIME_WINDOW_US &&
           (int64_t)sent_us <= now + TIME_WINDOW_US;
}

/* The migration that the datagram is about, if it is to be believed. */
static struct expected *verify(struct switchover *s, const uint8_t *d, ssize_t length)
{
    uint8_t mac[MAC_SIZE];

    if (!form_is_right(d, length))
        return NULL;
    struct expected *x = find(s, d + 8);
    if (!x || !authenticate(x->key, d, mac) || CRYPTO_memcmp(mac, d + MAC_OFFSET, MAC_SIZE) != 0)
        return NULL;
    return time_is_near(get64(d + 32)) ? x : NULL;
}

static void take(struct switchover *s, const uint8_t *d, ssize_t length, int64_t at_us)
{
    struct expected *x = verify(s, d, length);
    char uuid[DIRECT_UUID_TEXT];

    if (!x) {
        metric_inc(METRIC_SWITCHOVER_REFUSED);
        return;
    }
    uint64_t sequence = get64(d + 24);
    if (sequence == x->last_sequence)
        return; /* another copy */
    if (sequence < x->last_sequence) {
        metric_inc(METRIC_SWITCHOVER_REFUSED);
        return;
    }
    x->last_sequence = sequence;
    metric_inc(METRIC_SWITCHOVER_SIGNALS);
    direct_format_uuid(d + 8, uuid);
    log_debug("migration %s: %s", uuid,
              d[5] == SWITCHOVER_PAUSED ? "paused at the source" : "runs at the source again");
    s->fn(s->aux, uuid, (enum switchover_signal)d[5], at_us);
}

static bool rate_ok(struct switchover *s, int64_t now)
{
    if (now - s->window_start_us >= USEC_PER_SEC) {
        s->window_start_us = now;
        s->in_window = 0;
    }
    return s->in_window++ < RATE_PER_SECOND;
}

static void readable(void *aux, uint32_t epoll_events _unused_)
{
    struct switchover *s = aux;
    uint8_t d[DATAGRAM_SIZE + 1]; /* one more, so that a longer one is seen to be longer */

    for (int i = 0; i < READS_A_TURN; i++) {
        ssize_t n = recv(s->fd, d, sizeof(d), MSG_DONTWAIT);
        int64_t now = clock_monotonic_us();
        if (n < 0)
            return;
        if (rate_ok(s, now))
            take(s, d, n, now);
        else
            metric_inc(METRIC_SWITCHOVER_REFUSED);
    }
}

int switchover_new(struct switchover **out, struct loop *loop, const char *address, int port,
                   switchover_fn fn, void *aux, struct err *e)
{
    _cleanup_(addrinfo_freep) struct addrinfo *a = NULL;

    if (direct_resolve(address, port, SOCK_DGRAM, true, &a, e) < 0)
        return -1;
    _cleanup_(switchover_freep) struct switchover *s = NEW(struct switchover);
    s->loop = loop;
    s->fn = fn;
    s->aux = aux;
    s->fd = socket(a->ai_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (s->fd < 0)
        return err_set_errno(e, ERR_SYSTEM, errno, "a UDP socket cannot be opened");
    if (bind(s->fd, a->ai_addr, a->ai_addrlen) < 0)
        return err_set_errno(e, ERR_SYSTEM, errno, "switch-over address %s port %d", address, port);
    s->port = direct_bound_port(s->fd);
    s->source = loop_add_fd(loop, s->fd, EPOLLIN, "switch-over", readable, s, e);
    if (!s->source)
        return -1;
    *out = STEAL(s);
    return 0;
}

void switchover_free(struct switchover *s)
{
    if (!s)
        return;
    loop_source_free(s->source);
    fd_closep(&s->fd);
    if (s->expected.items)
        OPENSSL_cleanse(s->expected.items, s->expected.length * sizeof(struct expected));
    free(s->expected.items);
    free(s);
}

int switchover_port(const struct switchover *s)
{
    return s->port;
}

/* --- whom to believe ------------------------------------------------------------------------- */

int switchover_expect_key(struct switchover *s, const char *migration_uuid, const char *key_hex,
                          struct err *e)
{
    struct expected fresh = {0};

    if (direct_read_uuid(migration_uuid, fresh.uuid, e) < 0 ||
        direct_read_key(key_hex, fresh.key, e) < 0)
        return -1;
    struct expected *x = find(s, fresh.uuid);
    if (!x && s->expected.length >= EXPECTED_MAX)
        return err_set(e, ERR_INVALID, "more than %d migrations are on their way here",
                       EXPECTED_MAX);
    if (!x)
        x = expected_vector_add(&s->expected);
    *x = fresh;
    OPENSSL_cleanse(&fresh, sizeof(fresh));
    return 0;
}

int switchover_expect(struct switchover *s, const char *migration_uuid,
                      char key_hex[SWITCHOVER_KEY_HEX], struct err *e)
{
    text_random_hex(SWITCHOVER_KEY_SIZE, key_hex);
    return switchover_expect_key(s, migration_uuid, key_hex, e);
}

void switchover_forget(struct switchover *s, const char *migration_uuid)
{
    uint8_t uuid[DIRECT_UUID_SIZE];

    struct expected *x = direct_read_uuid(migration_uuid, uuid, NULL) < 0 ? NULL : find(s, uuid);
    if (!x)
        return;
    *x = s->expected.items[--s->expected.length];
    OPENSSL_cleanse(&s->expected.items[s->expected.length], sizeof(struct expected));
}

/* --- sending --------------------------------------------------------------------------------- */

static void send_copy(const struct switchover_peer *peer)
{
    /* A lost copy is made good by the next one; a lost signal by the ordinary way. */
    if (send(peer->fd, peer->datagram, sizeof(peer->datagram), MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        log_debug("a switch-over signal was not sent: %m");
}

static void repeat(void *aux)
{
    struct switchover_peer *peer = aux;

    send_copy(peer);
    if (--peer->repeats_left)
        loop_timer_arm(peer->timer, REPEAT_US);
}

int switchover_peer_new(struct switchover *s, const char *address, int port,
                        const char *migration_uuid, const char *key_hex,
                        struct switchover_peer **out, struct err *e)
{
    _cleanup_(addrinfo_freep) struct addrinfo *a = NULL;
    _cleanup_(switchover_peer_freep) struct switchover_peer *peer = NEW(struct switchover_peer);

    peer->fd = -1;
    if (direct_read_uuid(migration_uuid, peer->uuid, e) < 0 ||
        direct_read_key(key_hex, peer->key, e) < 0)
        return -1;
    if (port == 0)
        return err_set(e, ERR_INVALID, "switch-over port 0 cannot be sent to");
    if (direct_resolve(address, port, SOCK_DGRAM, false, &a, e) < 0)
        return -1;
    peer->fd = socket(a->ai_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (peer->fd < 0)
        return err_set_errno(e, ERR_SYSTEM, errno, "a UDP socket cannot be opened");
    if (connect(peer->fd, a->ai_addr, a->ai_addrlen) < 0)
        return err_set_errno(e, ERR_SYSTEM, errno, "switch-over address %s", address);
    peer->timer = loop_timer_new(s->loop, "switch-over signal", repeat, peer);
    peer->sequence = (uint64_t)clock_realtime_us();
    *out = STEAL(peer);
    return 0;
}

void switchover_peer_free(struct switchover_peer *peer)
{
    if (!peer)
        return;
    loop_timer_free(peer->timer);
    fd_closep(&peer->fd);
    OPENSSL_cleanse(peer->key, sizeof(peer->key));
    free(peer);
}

void switchover_peer_send(struct switchover_peer *peer, enum switchover_signal signal)
{
    uint8_t *d = peer->datagram;

    assert(signal == SWITCHOVER_PAUSED || signal == SWITCHOVER_REVERTED);
    memset(d, 0, DATAGRAM_SIZE);
    memcpy(d, magic, sizeof(magic));
    d[4] = FORMAT_VERSION;
    d[5] = (uint8_t)signal;
    memcpy(d + 8, peer->uuid, DIRECT_UUID_SIZE);
    put64(d + 24, ++peer->sequence);
    put64(d + 32, (uint64_t)clock_realtime_us());
    if (!authenticate(peer->key, d, d + MAC_OFFSET)) {
        log_debug("a switch-over signal could not be authenticated");
        return;
    }
    send_copy(peer);
    peer->repeats_left = REPEATS;
    loop_timer_arm(peer->timer, REPEAT_US);
}
