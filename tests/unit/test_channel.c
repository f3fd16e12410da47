/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams between two agents (net/channel.h), over this host's loopback. What a channel would never send is
 * sent by a client of the test's own, which also derives the key in another way.
 */
#include "net/channel.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "lib/clock.h"
#include "lib/metrics.h"
#include "lib/text.h"
#include "tests/unit/unit.h"

#define MIGRATION "6c5ba3f7-2d1e-4a8b-9c0d-1e2f3a4b5c6d"
#define OTHER     "7d6cb4f8-2d1e-4a8b-9c0d-1e2f3a4b5c6d"
#define KEY       "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
#define OTHER_KEY "ff0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"

enum { KEY_BYTES = 32, TURNS_MAX = 20000 };

enum act { NOTHING, FREE, FORGET, FREE_LISTENER, EXPECT_AGAIN };

/* One end: what it was told, and what it does inside its callbacks. */
struct end {
    struct channel *channel;
    unsigned opened, closed, messages, wrong;
    size_t last_length;
    uint8_t last_type;
    char order[16]; /* "oc" for opened, closed ... */
    struct err why;
    enum act at_opened, at_message, at_closed;
    bool echo;
};

static struct loop *loop;
static struct channel_listener *listener;
static struct end source, destination;

static const struct channel_fns fns;

static void act(struct end *end, enum act what)
{
    if (what == FREE)
        channel_free(STEAL(end->channel));
    else if (what == FORGET)
        channel_forget(listener, MIGRATION);
    else if (what == FREE_LISTENER)
        channel_listener_free(STEAL(listener));
    else if (what == EXPECT_AGAIN)
        UNIT_EQ(channel_expect(listener, MIGRATION, KEY, &fns, &destination, &unit_err), 0);
}

static void told(struct end *end, char what)
{
    size_t length = strlen(end->order);

    if (length + 1 < sizeof(end->order))
        end->order[length] = what;
}

static void on_opened(void *aux, struct channel *channel)
{
    struct end *end = aux;

    end->opened++;
    told(end, 'o');
    UNIT_TRUE(channel_is_open(channel));
    end->channel = channel;
    act(end, end->at_opened);
}

/* The messages of a test are all made from their number. */
static size_t size_of(unsigned number)
{
    static const size_t sizes[] = {0,     1,     60,    1514,  9000,
                                   16379, 16380, 65535, 65536, CHANNEL_MESSAGE_MAX};

    return sizes[number % ARRAY_LEN(sizes)];
}

static void fill(unsigned number, uint8_t *data, size_t length)
{
    for (size_t i = 0; i < length; i++)
        data[i] = (uint8_t)(number * 31 + i * 7 + (i >> 8));
}

static void on_message(void *aux, uint8_t type, const uint8_t *data, size_t length)
{
    static uint8_t expected[CHANNEL_MESSAGE_MAX];
    struct end *end = aux;

    act(end, end->at_message);
    fill(end->messages, expected, length);
    end->wrong += type != (uint8_t)end->messages || memcmp(data, expected, length) != 0;
    end->messages++;
    end->last_length = length;
    end->last_type = type;
    if (end->echo) {
        struct iovec part = {(void *)(uintptr_t)data, length};
        UNIT_TRUE(channel_send(end->channel, type, &part, 1));
    }
}

static void on_closed(void *aux, const struct err *why)
{
    struct end *end = aux;

    end->closed++;
    told(end, 'c');
    end->why = *why;
    if (end == &destination)
        end->channel = NULL;
    act(end, end->at_closed);
}

static const struct channel_fns fns = {on_opened, on_message, on_closed};

static void setup(void)
{
    (void)signal(SIGPIPE, SIG_IGN);
    memset(&source, 0, sizeof(source));
    memset(&destination, 0, sizeof(destination));
    if (loop_new(&loop, &unit_err) < 0 ||
        channel_listener_new(&listener, loop, "127.0.0.1", 0, &unit_err) < 0 ||
        channel_expect(listener, MIGRATION, KEY, &fns, &destination, &unit_err) < 0)
        abort();
}

static void teardown(void)
{
    clock_fake_stop();
    channel_free(STEAL(source.channel));
    channel_listener_free(STEAL(listener));
    loop_free(loop);
}

UNIT_FIXTURE(setup, teardown)

/* Turns the loop until the condition holds; false if it never does. */
#define TURN_UNTIL(condition)                                                                      \
    __extension__({                                                                                \
        for (int turn_ = 0; turn_ < TURNS_MAX && !(condition); turn_++)                            \
            (void)loop_turn(loop, 1, NULL);                                                        \
        (condition);                                                                               \
    })

static void turn(int times)
{
    for (int i = 0; i < times; i++)
        (void)loop_turn(loop, 1, NULL);
}

static void connect_with(struct end *end, const char *uuid, const char *key)
{
    if (channel_connect(&end->channel, loop, "127.0.0.1", channel_listener_port(listener), uuid,
                        key, &fns, end, &unit_err) < 0)
        abort();
}

static void open_both(void)
{
    connect_with(&source, MIGRATION, KEY);
    if (!TURN_UNTIL(source.opened && destination.opened))
        abort();
}

static bool send_number(struct channel *channel, unsigned number, size_t length)
{
    static uint8_t data[CHANNEL_MESSAGE_MAX];
    size_t half = length / 2;
    struct iovec parts[] = {{data, half}, {data + half, length - half}};

    fill(number, data, length);
    return channel_send(channel, (uint8_t)number, parts, ARRAY_LEN(parts));
}

/* --- a client of the test's own -------------------------------------------------------------- */

static int raw_socket(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                            .sin_port = htons((uint16_t)channel_listener_port(listener))};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0 ||
        fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
        abort();
    return fd;
}

/* True when the other side closed it; what it sent before is passed over. */
static bool is_closed(int fd)
{
    char buffer[512];
    ssize_t n;

    while ((n = recv(fd, buffer, sizeof(buffer), 0)) > 0)
        ;
    return n == 0 || errno != EAGAIN;
}

/* HKDF-SHA256 of KEY, written out from RFC 5869 for one block. */
static void derive(uint8_t out[KEY_BYTES])
{
    static const uint8_t salt[KEY_BYTES];
    uint8_t key[KEY_BYTES], extracted[KEY_BYTES];
    size_t length = 0;

    for (size_t i = 0; i < KEY_BYTES; i++)
        key[i] = (uint8_t)i;
    if (!EVP_Q_mac(NULL, "HMAC", NULL, "SHA256", NULL, salt, sizeof(salt), key, sizeof(key),
                   extracted, sizeof(extracted), &length) ||
        !EVP_Q_mac(NULL, "HMAC", NULL, "SHA256", NULL, extracted, sizeof(extracted),
                   (const uint8_t *)"computed channel\1", 17, out, KEY_BYTES, &length))
        abort();
}

static int raw_key(SSL *ssl, const EVP_MD *digest _unused_, const unsigned char **identity,
                   size_t *length, SSL_SESSION **session)
{
    static const unsigned char aes_128_gcm[] = {0x13, 0x01};
    uint8_t psk[KEY_BYTES];

    derive(psk);
    *session = SSL_SESSION_new();
    if (!*session || !SSL_SESSION_set1_master_key(*session, psk, sizeof(psk)) ||
        !SSL_SESSION_set_cipher(*session, SSL_CIPHER_find(ssl, aes_128_gcm)) ||
        !SSL_SESSION_set_protocol_version(*session, TLS1_3_VERSION))
        abort();
    *identity = (const unsigned char *)MIGRATION;
    *length = strlen(MIGRATION);
    return 1;
}

struct raw {
    int fd;
    SSL_CTX *context;
    SSL *ssl;
};

static struct raw raw_new(int fd, const SSL_METHOD *method)
{
    struct raw raw = {.fd = fd, .context = SSL_CTX_new(method)};

    if (!raw.context || !(raw.ssl = SSL_new(raw.context)) || SSL_set_fd(raw.ssl, raw.fd) != 1)
        abort();
    return raw;
}

static void raw_free(struct raw *raw)
{
    SSL_free(raw->ssl);
    SSL_CTX_free(raw->context);
    fd_closep(&raw->fd);
}

/* 1 when the handshake succeeded, 0 when it failed. */
static int raw_shake_hands(struct raw *raw)
{
    for (int i = 0; i < TURNS_MAX; i++) {
        int rc = SSL_do_handshake(raw->ssl);
        if (rc == 1)
            return 1;
        if (SSL_get_error(raw->ssl, rc) != SSL_ERROR_WANT_READ)
            return 0;
        turn(1);
    }
    return 0;
}

static struct raw raw_open(void)
{
    struct raw raw = raw_new(raw_socket(), TLS_client_method());

    SSL_set_psk_use_session_callback(raw.ssl, raw_key);
    SSL_set_connect_state(raw.ssl);
    if (!raw_shake_hands(&raw) || !TURN_UNTIL(destination.opened))
        abort();
    return raw;
}

static void raw_write(struct raw *raw, const void *data, size_t length)
{
    if (SSL_write(raw->ssl, data, (int)length) != (int)length)
        abort();
}

/* --- what it is for -------------------------------------------------------------------------- */

UNIT_TEST(all_sizes, "messages of all sizes arrive whole and in order, in both directions at once")
{
    enum { COUNT = 60 };

    destination.echo = true;
    open_both();
    for (unsigned i = 0; i < COUNT; i++)
        UNIT_TRUE(send_number(source.channel, i, size_of(i)));
    UNIT_TRUE(TURN_UNTIL(source.messages == COUNT));
    UNIT_EQ(destination.messages, COUNT);
    UNIT_EQ(destination.wrong + source.wrong, 0);
    UNIT_EQ(destination.last_length, CHANNEL_MESSAGE_MAX);
    UNIT_EQ(channel_queued(source.channel) + channel_queued(destination.channel), 0);
    UNIT_EQ(source.closed + destination.closed, 0);
}

UNIT_TEST(many, "twenty thousand messages of 100 bytes arrive in order")
{
    enum { COUNT = 20000 };

    open_both();
    for (unsigned i = 0; i < COUNT; i++) {
        if (!send_number(source.channel, i, 100))
            abort();
        if (i % 64 == 0)
            turn(1);
    }
    UNIT_TRUE(TURN_UNTIL(destination.messages == COUNT));
    UNIT_EQ(destination.wrong, 0);
}

UNIT_TEST(at_once, "a message is with the kernel when the call that sends it returns")
{
    open_both();
    UNIT_TRUE(send_number(source.channel, 0, 1514));
    UNIT_EQ(channel_queued(source.channel), 0);
    UNIT_TRUE(send_number(destination.channel, 0, 1514));
    UNIT_EQ(channel_queued(destination.channel), 0);
    UNIT_TRUE(TURN_UNTIL(source.messages == 1 && destination.messages == 1));
}

UNIT_TEST(ipv6, "a channel works over IPv6")
{
    struct channel_listener *l = NULL;

    if (channel_listener_new(&l, loop, "::1", 0, &unit_err) < 0) {
        err_clear(&unit_err);
        UNIT_SKIP("this machine has no IPv6 loopback");
    }
    channel_listener_free(listener);
    listener = l;
    UNIT_EQ(channel_expect(l, MIGRATION, KEY, &fns, &destination, &unit_err), 0);
    UNIT_EQ(channel_connect(&source.channel, loop, "::1", channel_listener_port(l), MIGRATION, KEY,
                            &fns, &source, &unit_err),
            0);
    UNIT_TRUE(TURN_UNTIL(source.opened && destination.opened));
    UNIT_TRUE(send_number(source.channel, 0, 100));
    UNIT_TRUE(TURN_UNTIL(destination.messages == 1));
}

UNIT_TEST(two_migrations, "streams of two migrations at one listener do not meet")
{
    struct end second_source = {0}, second = {0};

    UNIT_EQ(channel_expect(listener, OTHER, OTHER_KEY, &fns, &second, &unit_err), 0);
    open_both();
    connect_with(&second_source, OTHER, OTHER_KEY);
    UNIT_TRUE(TURN_UNTIL(second.opened && second_source.opened));
    UNIT_TRUE(send_number(source.channel, 0, 10));
    UNIT_TRUE(send_number(second_source.channel, 0, 20));
    UNIT_TRUE(TURN_UNTIL(destination.messages == 1 && second.messages == 1));
    UNIT_EQ(destination.last_length, 10);
    UNIT_EQ(second.last_length, 20);
    channel_forget(listener, OTHER);
    UNIT_TRUE(TURN_UNTIL(second_source.closed == 1));
    UNIT_EQ(second.closed + destination.closed + source.closed, 0);
    UNIT_TRUE(send_number(source.channel, 1, 10));
    UNIT_TRUE(TURN_UNTIL(destination.messages == 2));
    channel_free(second_source.channel);
}

UNIT_TEST(reconnect,
          "the newest stream of a migration replaces the one before, which is closed first")
{
    struct end again = {0};

    open_both();
    connect_with(&again, MIGRATION, KEY);
    UNIT_TRUE(TURN_UNTIL(again.opened && destination.opened == 2 && source.closed));
    UNIT_STR(destination.order, "oco");
    UNIT_STR(source.order, "oc");
    UNIT_TRUE(!channel_is_open(source.channel));
    UNIT_TRUE(send_number(again.channel, 0, 50));
    UNIT_TRUE(TURN_UNTIL(destination.messages == 1));
    channel_free(again.channel);
}

UNIT_TEST(goodbye, "an end that is freed is told to the other one, and the next stream is opened")
{
    open_both();
    UNIT_TRUE(send_number(source.channel, 0, 50));
    channel_free(STEAL(source.channel));
    UNIT_TRUE(TURN_UNTIL(destination.closed));
    UNIT_EQ(destination.messages, 1); /* what was sent before is delivered before */
    UNIT_EQ(destination.why.code, ERR_REMOTE);
    UNIT_EQ(source.closed, 0);
    destination.messages = 0;
    source.opened = 0;
    destination.opened = 0;
    open_both();
    UNIT_STR(destination.order, "oco");
}

/* --- limits ---------------------------------------------------------------------------------- */

UNIT_TEST(queue_limit,
          "what does not fit into the queue is dropped and said so, what was taken arrives")
{
    uint64_t dropped = metric_get(METRIC_CHANNEL_DROPPED);
    unsigned taken = 0;

    open_both();
    while (taken < 4096 && send_number(source.channel, taken, 65536))
        taken++;
    UNIT_TRUE(taken < 4096);
    UNIT_EQ(metric_get(METRIC_CHANNEL_DROPPED), dropped + 1);
    UNIT_TRUE(channel_queued(source.channel) <= CHANNEL_QUEUE_MAX);
    UNIT_TRUE(channel_queued(source.channel) > CHANNEL_QUEUE_MAX - 65536 - 16);
    UNIT_TRUE(channel_is_open(source.channel));
    UNIT_TRUE(TURN_UNTIL(destination.messages == taken));
    UNIT_EQ(destination.wrong, 0);
    UNIT_EQ(channel_queued(source.channel), 0);
    UNIT_TRUE(send_number(source.channel, taken, 100));
    UNIT_TRUE(TURN_UNTIL(destination.messages == taken + 1));
}

UNIT_TEST(turns_end, "a turn of the loop hands out some of the messages that are there, not all")
{
    enum { COUNT = 5000 };

    open_both();
    for (unsigned i = 0; i < COUNT; i++)
        UNIT_TRUE(send_number(source.channel, i, 10));
    turn(1);
    UNIT_TRUE(destination.messages > 0 && destination.messages <= 2048);
    UNIT_TRUE(TURN_UNTIL(destination.messages == COUNT));
    UNIT_EQ(destination.wrong, 0);
}

UNIT_TEST(too_long, "a message longer than a channel carries is not sent, and the stream goes on")
{
    static uint8_t data[CHANNEL_MESSAGE_MAX + 1];
    struct iovec parts[] = {{data, CHANNEL_MESSAGE_MAX}, {data, 1}};
    struct iovec huge[] = {{data, 1}, {data, SIZE_MAX}};

    open_both();
    UNIT_TRUE(!channel_send(source.channel, 1, parts, 2));
    UNIT_TRUE(!channel_send(source.channel, 1, huge, 2));
    UNIT_EQ(channel_queued(source.channel), 0);
    UNIT_TRUE(send_number(source.channel, 0, CHANNEL_MESSAGE_MAX));
    UNIT_TRUE(TURN_UNTIL(destination.messages == 1));
}

UNIT_TEST(not_open, "nothing is sent before the key is proven, nor after the end")
{
    connect_with(&source, MIGRATION, KEY);
    UNIT_TRUE(!channel_is_open(source.channel));
    UNIT_TRUE(!send_number(source.channel, 0, 10));
    UNIT_TRUE(TURN_UNTIL(source.opened && destination.opened));
    channel_forget(listener, MIGRATION);
    UNIT_TRUE(TURN_UNTIL(source.closed));
    UNIT_TRUE(!send_number(source.channel, 0, 10));
    UNIT_EQ(destination.messages, 0);
}

/* --- strangers ------------------------------------------------------------------------------- */

static void refused_with(const char *uuid, const char *key)
{
    uint64_t refused = metric_get(METRIC_CHANNEL_REFUSED);

    connect_with(&source, uuid, key);
    UNIT_TRUE(TURN_UNTIL(source.closed));
    UNIT_EQ(source.why.code, ERR_DENIED);
    UNIT_EQ(source.opened + destination.opened + destination.closed, 0);
    UNIT_TRUE(TURN_UNTIL(metric_get(METRIC_CHANNEL_REFUSED) == refused + 1));
}

UNIT_TEST(wrong_key, "a peer with another key is refused and counted")
{
    refused_with(MIGRATION, OTHER_KEY);
}

UNIT_TEST(unknown, "a peer that names a migration which nobody expects here is refused and counted")
{
    refused_with(OTHER, KEY);
}

UNIT_TEST(forgotten, "after a migration is forgotten its key opens nothing")
{
    channel_forget(listener, MIGRATION);
    channel_forget(listener, MIGRATION);
    channel_forget(listener, "no uuid");
    refused_with(MIGRATION, KEY);
}

UNIT_TEST(forgotten_midway, "a migration that is forgotten during the handshake opens nothing")
{
    uint64_t refused = metric_get(METRIC_CHANNEL_REFUSED);
    struct raw raw = raw_new(raw_socket(), TLS_client_method());

    SSL_set_psk_use_session_callback(raw.ssl, raw_key);
    SSL_set_connect_state(raw.ssl);
    (void)SSL_do_handshake(raw.ssl); /* names the migration */
    turn(20);                        /* the listener has answered */
    UNIT_EQ(channel_expect(listener, MIGRATION, OTHER_KEY, &fns, &destination, &unit_err), 0);
    (void)SSL_do_handshake(raw.ssl); /* the last word, too late */
    UNIT_TRUE(TURN_UNTIL(is_closed(raw.fd)));
    UNIT_EQ(destination.opened, 0);
    UNIT_EQ(metric_get(METRIC_CHANNEL_REFUSED), refused + 1);
    raw_free(&raw);
}

UNIT_TEST(plain_text, "a stranger that speaks no TLS is closed and counted")
{
    uint64_t refused = metric_get(METRIC_CHANNEL_REFUSED);
    _cleanup_(fd_closep) int fd = raw_socket();

    UNIT_EQ(send(fd, "GET / HTTP/1.0\r\n\r\n", 18, 0), 18);
    UNIT_TRUE(TURN_UNTIL(is_closed(fd)));
    UNIT_EQ(metric_get(METRIC_CHANNEL_REFUSED), refused + 1);
}

UNIT_TEST(silent, "a stranger that connects and says nothing is closed after five seconds")
{
    uint64_t refused = metric_get(METRIC_CHANNEL_REFUSED);
    int64_t now = clock_monotonic_us();

    clock_fake_set(now);
    _cleanup_(fd_closep) int fd = raw_socket();
    turn(5);
    clock_fake_set(now + CHANNEL_HANDSHAKE_US - 1);
    turn(2);
    UNIT_TRUE(!is_closed(fd));
    clock_fake_set(now + CHANNEL_HANDSHAKE_US);
    turn(2);
    UNIT_TRUE(is_closed(fd));
    UNIT_EQ(metric_get(METRIC_CHANNEL_REFUSED), refused + 1);
}

UNIT_TEST(crowd, "of more than 64 strangers the oldest goes, and a true peer still gets in")
{
    uint64_t refused = metric_get(METRIC_CHANNEL_REFUSED);
    int fds[CHANNEL_UNPROVEN_MAX];

    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        fds[i] = raw_socket();
        turn(1);
    }
    UNIT_EQ(metric_get(METRIC_CHANNEL_REFUSED), refused);
    open_both();
    UNIT_EQ(metric_get(METRIC_CHANNEL_REFUSED), refused + 1);
    UNIT_TRUE(is_closed(fds[0]));
    UNIT_TRUE(!is_closed(fds[1]));
    for (size_t i = 0; i < ARRAY_LEN(fds); i++)
        fd_closep(&fds[i]);
}

UNIT_TEST(no_descriptors,
          "a listener without descriptors waits without turning, and accepts when there are some")
{
    struct rlimit limit, none;
    struct loop_slow slow[32];
    uint64_t calls = 0;

    connect_with(&source, MIGRATION, KEY);
    int next = dup(0);
    fd_closep(&next);
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        abort();
    none = limit;
    none.rlim_cur = (rlim_t)next;
    UNIT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
    turn(40);
    UNIT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    UNIT_EQ(destination.opened, 0);
    unsigned n = loop_slowest(loop, slow, ARRAY_LEN(slow));
    for (unsigned i = 0; i < n; i++)
        if (text_equal(slow[i].name, "channel listener"))
            calls = slow[i].calls;
    UNIT_TRUE(calls > 0 && calls < 10);
    UNIT_TRUE(TURN_UNTIL(source.opened && destination.opened));
}

static void bad_length(const char *bytes, size_t length)
{
    struct raw raw = raw_open();

    raw_write(&raw, bytes, length);
    UNIT_TRUE(TURN_UNTIL(destination.closed));
    UNIT_EQ(destination.why.code, ERR_PARSE);
    UNIT_EQ(destination.messages, 0);
    UNIT_TRUE(is_closed(raw.fd));
    raw_free(&raw);
}

UNIT_TEST(oversized, "a length above the limit closes the stream before its bytes are there")
{
    bad_length("\x00\x01\x20\x02\x00", 5); /* 72 KiB and one, and the type */
}

UNIT_TEST(zero_length, "a length of zero closes the stream")
{
    bad_length("\0\0\0\0", 4);
}

UNIT_TEST(dies, "a peer that dies in the middle of a message closes the stream without the message")
{
    struct raw raw = raw_open();

    raw_write(&raw, "\0\0\0\x09\1half", 9);
    turn(5);
    fd_closep(&raw.fd);
    raw.fd = -1;
    UNIT_TRUE(TURN_UNTIL(destination.closed));
    UNIT_EQ(destination.messages, 0);
    UNIT_EQ(destination.why.code, ERR_REMOTE);
    raw_free(&raw);
}

UNIT_TEST(byte_by_byte, "a message that comes a byte at a time is put together")
{
    static const char frames[] = "\0\0\0\x01\0\0\0\0\x02\1\x1f";
    struct raw raw = raw_open();

    for (size_t i = 0; i < sizeof(frames) - 1; i++) {
        raw_write(&raw, frames + i, 1);
        turn(1);
    }
    UNIT_TRUE(TURN_UNTIL(destination.messages == 2));
    UNIT_EQ(destination.wrong, 0);
    UNIT_EQ(destination.last_length, 1);
    raw_free(&raw);
}

static int count_ticket(SSL *ssl, SSL_SESSION *session _unused_)
{
    ++*(unsigned *)SSL_get_app_data(ssl);
    return 0;
}

UNIT_TEST(what_is_spoken, "the key is HKDF's, the secret is fresh, and no tickets are given")
{
    unsigned tickets = 0;
    struct raw raw = raw_new(raw_socket(), TLS_client_method());
    EVP_PKEY *ephemeral = NULL;

    SSL_CTX_set_session_cache_mode(raw.context, SSL_SESS_CACHE_CLIENT);
    SSL_CTX_sess_set_new_cb(raw.context, count_ticket);
    SSL_set_app_data(raw.ssl, &tickets);
    SSL_set_options(raw.ssl, SSL_OP_ALLOW_NO_DHE_KEX);
    SSL_set_psk_use_session_callback(raw.ssl, raw_key);
    SSL_set_connect_state(raw.ssl);
    UNIT_EQ(raw_shake_hands(&raw), 1);
    UNIT_TRUE(TURN_UNTIL(destination.opened));
    UNIT_STR(SSL_get_version(raw.ssl), "TLSv1.3");
    UNIT_STR(SSL_get_cipher_name(raw.ssl), "TLS_AES_128_GCM_SHA256");
    UNIT_EQ(SSL_get_peer_tmp_key(raw.ssl, &ephemeral), 1);
    EVP_PKEY_free(ephemeral);
    char byte;
    UNIT_TRUE(SSL_read(raw.ssl, &byte, 1) < 0);
    UNIT_EQ(tickets, 0);
    raw_free(&raw);
}

UNIT_TEST(old_tls, "TLS 1.2 is refused")
{
    uint64_t refused = metric_get(METRIC_CHANNEL_REFUSED);
    struct raw raw = raw_new(raw_socket(), TLS_client_method());

    SSL_set_max_proto_version(raw.ssl, TLS1_2_VERSION);
    SSL_set_connect_state(raw.ssl);
    UNIT_EQ(raw_shake_hands(&raw), 0);
    UNIT_EQ(metric_get(METRIC_CHANNEL_REFUSED), refused + 1);
    raw_free(&raw);
}

static void use_certificate(SSL *ssl)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *certificate = X509_new();

    if (!key || !certificate || !X509_gmtime_adj(X509_getm_notBefore(certificate), 0) ||
        !X509_gmtime_adj(X509_getm_notAfter(certificate), 3600) ||
        !X509_set_pubkey(certificate, key) || !X509_sign(certificate, key, EVP_sha256()) ||
        SSL_use_certificate(ssl, certificate) != 1 || SSL_use_PrivateKey(ssl, key) != 1)
        abort();
    X509_free(certificate);
    EVP_PKEY_free(key);
}

UNIT_TEST(certificate, "a destination that offers a certificate instead of the key is refused")
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(a);
    _cleanup_(fd_closep) int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(fd, 1) < 0 ||
        getsockname(fd, (struct sockaddr *)&a, &length) < 0)
        abort();
    UNIT_EQ(channel_connect(&source.channel, loop, "127.0.0.1", ntohs(a.sin_port), MIGRATION, KEY,
                            &fns, &source, &unit_err),
            0);
    struct raw raw =
        raw_new(accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK), TLS_server_method());
    use_certificate(raw.ssl);
    SSL_set_accept_state(raw.ssl);
    UNIT_EQ(raw_shake_hands(&raw), 0);
    UNIT_TRUE(TURN_UNTIL(source.closed));
    UNIT_EQ(source.opened, 0);
    UNIT_EQ(source.why.code, ERR_DENIED);
    UNIT_HAS(source.why.text, "certificate");
    raw_free(&raw);
}

/* --- connecting ------------------------------------------------------------------------------ */

UNIT_TEST(nobody, "connecting to where nobody listens is told as closed")
{
    int port = channel_listener_port(listener);

    channel_listener_free(STEAL(listener));
    UNIT_EQ(channel_connect(&source.channel, loop, "127.0.0.1", port, MIGRATION, KEY, &fns, &source,
                            &unit_err),
            0);
    UNIT_TRUE(TURN_UNTIL(source.closed));
    UNIT_EQ(source.why.code, ERR_SYSTEM);
    UNIT_EQ(source.opened, 0);
}

UNIT_TEST(mute, "a destination that accepts and says nothing is given up after five seconds")
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(a);
    _cleanup_(fd_closep) int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int64_t now = clock_monotonic_us();

    if (bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(fd, 1) < 0 ||
        getsockname(fd, (struct sockaddr *)&a, &length) < 0)
        abort();
    clock_fake_set(now);
    UNIT_EQ(channel_connect(&source.channel, loop, "127.0.0.1", ntohs(a.sin_port), MIGRATION, KEY,
                            &fns, &source, &unit_err),
            0);
    turn(5);
    UNIT_EQ(source.closed, 0);
    clock_fake_set(now + CHANNEL_HANDSHAKE_US);
    turn(2);
    UNIT_EQ(source.closed, 1);
    UNIT_EQ(source.why.code, ERR_TIMEOUT);
}

UNIT_TEST(lost_while_sending, "a peer that is gone is told from the loop, not from within the call")
{
    struct raw raw = raw_open();
    const struct linger now = {.l_onoff = 1, .l_linger = 0};

    UNIT_EQ(setsockopt(raw.fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now)), 0);
    fd_closep(&raw.fd); /* a reset */
    raw.fd = -1;
    UNIT_TRUE(!send_number(destination.channel, 0, 100));
    UNIT_EQ(destination.closed, 0);
    UNIT_TRUE(!channel_is_open(destination.channel));
    UNIT_TRUE(TURN_UNTIL(destination.closed));
    UNIT_EQ(destination.why.code, ERR_SYSTEM);
    raw_free(&raw);
}

UNIT_TEST(bad_arguments, "addresses, ports, uuids and keys that are none are refused and named")
{
    struct channel_listener *l = NULL;

    UNIT_FAILS(channel_listener_new(&l, loop, "localhost", 0, &unit_err), ERR_INVALID);
    UNIT_HAS(unit_err.text, "localhost");
    UNIT_FAILS(channel_listener_new(&l, loop, "127.0.0.1", 70000, &unit_err), ERR_INVALID);
    UNIT_FAILS(channel_listener_new(&l, loop, "198.51.100.250", 0, &unit_err), ERR_SYSTEM);
    UNIT_FAILS(channel_expect(listener, "../etc", KEY, &fns, NULL, &unit_err), ERR_INVALID);
    UNIT_FAILS(channel_expect(listener, MIGRATION, "12", &fns, NULL, &unit_err), ERR_INVALID);
    UNIT_FAILS(channel_connect(&source.channel, loop, "evil.example", 1, MIGRATION, KEY, &fns, NULL,
                               &unit_err),
               ERR_INVALID);
    UNIT_FAILS(channel_connect(&source.channel, loop, "127.0.0.1", 0, MIGRATION, KEY, &fns, NULL,
                               &unit_err),
               ERR_INVALID);
    UNIT_FAILS(channel_connect(&source.channel, loop, "127.0.0.1", 1, MIGRATION, KEY "0", &fns,
                               NULL, &unit_err),
               ERR_INVALID);
    UNIT_TRUE(l == NULL && source.channel == NULL);
    open_both(); /* what was refused has not touched what was expected */
}

/* --- inside callbacks ------------------------------------------------------------------------ */

static void send_three(struct channel *channel)
{
    for (unsigned i = 0; i < 3; i++)
        UNIT_TRUE(send_number(channel, i, 100));
}

UNIT_TEST(free_at_opened, "a source may free its stream when it is opened")
{
    source.at_opened = FREE;
    connect_with(&source, MIGRATION, KEY);
    UNIT_TRUE(TURN_UNTIL(source.opened && destination.closed));
    UNIT_EQ(source.closed, 0);
}

UNIT_TEST(free_at_message, "a source that frees its stream at a message gets no other, nor an end")
{
    source.at_message = FREE;
    open_both();
    send_three(destination.channel);
    UNIT_TRUE(TURN_UNTIL(source.messages && destination.closed));
    UNIT_EQ(source.messages, 1);
    UNIT_EQ(source.wrong, 0); /* the data outlives the call */
    UNIT_EQ(source.closed, 0);
}

UNIT_TEST(free_at_closed, "a source may free its stream when it ended")
{
    source.at_closed = FREE;
    open_both();
    channel_forget(listener, MIGRATION);
    UNIT_TRUE(TURN_UNTIL(source.closed));
    turn(3);
    UNIT_TRUE(source.channel == NULL);
    UNIT_EQ(source.closed, 1);
}

UNIT_TEST(forget_at_opened, "a destination may forget a migration when its stream is opened")
{
    destination.at_opened = FORGET;
    connect_with(&source, MIGRATION, KEY);
    UNIT_TRUE(TURN_UNTIL(destination.opened && source.closed));
    UNIT_EQ(destination.closed, 0);
}

UNIT_TEST(forget_at_message, "a migration forgotten at a message brings no other, nor an end")
{
    destination.at_message = FORGET;
    open_both();
    send_three(source.channel);
    UNIT_TRUE(TURN_UNTIL(destination.messages && source.closed));
    UNIT_EQ(destination.messages, 1);
    UNIT_EQ(destination.wrong + destination.closed, 0);
}

UNIT_TEST(forget_at_closed, "a migration forgotten at its stream's end stays forgotten")
{
    destination.at_closed = FORGET;
    open_both();
    channel_free(STEAL(source.channel));
    UNIT_TRUE(TURN_UNTIL(destination.closed));
    connect_with(&source, MIGRATION, KEY);
    UNIT_TRUE(TURN_UNTIL(source.closed));
    UNIT_STR(destination.order, "oc");
}

UNIT_TEST(forget_when_replaced,
          "a migration forgotten when its stream is replaced opens the new one not at all")
{
    struct end again = {0};

    destination.at_closed = FORGET;
    open_both();
    connect_with(&again, MIGRATION, KEY);
    UNIT_TRUE(TURN_UNTIL(destination.closed && again.closed));
    UNIT_STR(destination.order, "oc");
    channel_free(again.channel);
}

UNIT_TEST(expect_at_closed, "a migration may be expected anew at its stream's end")
{
    destination.at_closed = EXPECT_AGAIN;
    open_both();
    channel_free(STEAL(source.channel));
    UNIT_TRUE(TURN_UNTIL(destination.closed));
    source.opened = destination.opened = 0;
    open_both();
}

UNIT_TEST(listener_at_message, "the listener itself may be freed inside a callback")
{
    destination.at_message = FREE_LISTENER;
    open_both();
    send_three(source.channel);
    UNIT_TRUE(TURN_UNTIL(source.closed));
    UNIT_EQ(destination.messages, 1);
    UNIT_EQ(destination.closed, 0);
}
