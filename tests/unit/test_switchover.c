/* SPDX-License-Identifier: Apache-2.0 */
/* The line between two agents (net/switchover.h), over this host's loopback. */
#include "net/switchover.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include "lib/clock.h"
#include "lib/metrics.h"
#include "tests/unit/unit.h"

#define MIGRATION "6c5ba3f7-2d1e-4a8b-9c0d-1e2f3a4b5c6d"
#define STRANGER  "00000000-2d1e-4a8b-9c0d-1e2f3a4b5c6d"

enum { SIZE = 72 };

static struct loop *loop;
static struct switchover *receiver;
static char key[SWITCHOVER_KEY_HEX];
static unsigned calls;
static enum switchover_signal last;
static char last_uuid[40];

static void on_signal(void *aux _unused_, const char *uuid, enum switchover_signal signal,
                      int64_t at_us _unused_)
{
    calls++;
    last = signal;
    (void)snprintf(last_uuid, sizeof(last_uuid), "%s", uuid);
}

static void setup(void)
{
    calls = 0;
    if (loop_new(&loop, &unit_err) < 0 ||
        switchover_new(&receiver, loop, "127.0.0.1", 0, on_signal, NULL, &unit_err) < 0 ||
        switchover_expect(receiver, MIGRATION, key, &unit_err) < 0)
        abort();
}

static void teardown(void)
{
    switchover_free(receiver);
    loop_free(loop);
}

UNIT_FIXTURE(setup, teardown)

/* Turns the loop until nothing came for a while or the time is over. */
static void turn(int64_t at_most_us)
{
    int64_t end = clock_monotonic_us() + at_most_us;

    while (clock_monotonic_us() < end)
        (void)loop_turn(loop, 1, NULL);
}

static struct switchover_peer *peer_for(const char *uuid)
{
    struct switchover_peer *peer = NULL;

    if (switchover_peer_new(receiver, "127.0.0.1", switchover_port(receiver), uuid, key, &peer,
                            &unit_err) < 0)
        abort();
    return peer;
}

/* A socket that takes what a peer sends, so that a test can change and replay it. */
static int tap_socket(int *port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(a);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 ||
        getsockname(fd, (struct sockaddr *)&a, &length) < 0)
        abort();
    *port = ntohs(a.sin_port);
    return fd;
}

static void record(int signal, uint8_t datagram[SIZE])
{
    struct switchover_peer *peer = NULL;
    int port;
    _cleanup_(fd_closep) int fd = tap_socket(&port);

    if (switchover_peer_new(receiver, "127.0.0.1", port, MIGRATION, key, &peer, &unit_err) < 0)
        abort();
    switchover_peer_send(peer, (enum switchover_signal)signal);
    struct pollfd p = {.fd = fd, .events = POLLIN};
    if (poll(&p, 1, 1000) != 1 || recv(fd, datagram, SIZE, 0) != SIZE)
        abort();
    switchover_peer_free(peer);
}

static void inject(const uint8_t *datagram, size_t length)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                            .sin_port = htons((uint16_t)switchover_port(receiver))};
    _cleanup_(fd_closep) int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (sendto(fd, datagram, length, 0, (struct sockaddr *)&a, sizeof(a)) != (ssize_t)length)
        abort();
    (void)loop_turn(loop, 1000, NULL);
}

UNIT_TEST(once, "a signal is sent three times and acted on once")
{
    struct switchover_peer *peer = peer_for(MIGRATION);
    uint64_t refused = metric_get(METRIC_SWITCHOVER_REFUSED);

    switchover_peer_send(peer, SWITCHOVER_PAUSED);
    turn(60 * USEC_PER_MSEC);
    UNIT_EQ(calls, 1);
    UNIT_EQ(last, SWITCHOVER_PAUSED);
    UNIT_STR(last_uuid, MIGRATION);
    switchover_peer_send(peer, SWITCHOVER_REVERTED);
    turn(60 * USEC_PER_MSEC);
    UNIT_EQ(calls, 2);
    UNIT_EQ(last, SWITCHOVER_REVERTED);
    UNIT_EQ(metric_get(METRIC_SWITCHOVER_REFUSED), refused);
    switchover_peer_free(peer);
}

UNIT_TEST(sent_at_once, "a signal leaves within the call that sends it")
{
    uint8_t d[SIZE];

    record(SWITCHOVER_PAUSED, d); /* no turn of the loop in between */
    UNIT_EQ(memcmp(d, "CSWO\1\1\0\0", 8), 0);
}

UNIT_TEST(replay, "a recorded signal does not work a second time, nor after a newer one")
{
    uint8_t first[SIZE], second[SIZE];

    record(SWITCHOVER_PAUSED, first);
    record(SWITCHOVER_REVERTED, second);
    inject(first, SIZE);
    inject(first, SIZE);
    UNIT_EQ(calls, 1);
    inject(second, SIZE);
    UNIT_EQ(calls, 2);
    uint64_t refused = metric_get(METRIC_SWITCHOVER_REFUSED);
    inject(first, SIZE);
    UNIT_EQ(calls, 2);
    UNIT_EQ(metric_get(METRIC_SWITCHOVER_REFUSED), refused + 1);
}

UNIT_TEST(old,
          "a signal recorded more than a minute ago is refused, also by a receiver that restarted")
{
    uint8_t d[SIZE];
    int64_t now = clock_realtime_us();

    clock_fake_set(now - 61 * USEC_PER_SEC);
    record(SWITCHOVER_PAUSED, d);
    clock_fake_stop();
    UNIT_EQ(switchover_expect_key(receiver, MIGRATION, key, &unit_err), 0);
    inject(d, SIZE);
    UNIT_EQ(calls, 0);
}

UNIT_TEST(each_bit, "a signal with any one byte changed is refused and counted")
{
    uint8_t d[SIZE];
    uint64_t refused = metric_get(METRIC_SWITCHOVER_REFUSED);

    record(SWITCHOVER_PAUSED, d);
    for (size_t i = 0; i < SIZE; i++) {
        d[i] ^= 1;
        inject(d, SIZE);
        d[i] ^= 1;
    }
    UNIT_EQ(calls, 0);
    UNIT_EQ(metric_get(METRIC_SWITCHOVER_REFUSED), refused + SIZE);
    inject(d, SIZE);
    UNIT_EQ(calls, 1);
}

UNIT_TEST(sizes, "a datagram of another size is refused")
{
    uint8_t d[SIZE + 64] = {0};
    static const size_t sizes[] = {0, 1, SIZE - 1, SIZE + 1, SIZE + 64};

    record(SWITCHOVER_PAUSED, d);
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++)
        inject(d, sizes[i]);
    UNIT_EQ(calls, 0);
}

UNIT_TEST(stranger, "a signal of a migration that nobody expects here is refused")
{
    struct switchover_peer *peer = peer_for(STRANGER);

    switchover_peer_send(peer, SWITCHOVER_PAUSED);
    turn(40 * USEC_PER_MSEC);
    UNIT_EQ(calls, 0);
    switchover_peer_free(peer);
}

UNIT_TEST(forgotten, "after a migration is forgotten its key opens nothing")
{
    struct switchover_peer *peer = peer_for(MIGRATION);

    switchover_forget(receiver, MIGRATION);
    switchover_forget(receiver, MIGRATION);
    switchover_forget(receiver, "no uuid");
    switchover_peer_send(peer, SWITCHOVER_PAUSED);
    turn(40 * USEC_PER_MSEC);
    UNIT_EQ(calls, 0);
    switchover_peer_free(peer);
}

UNIT_TEST(wrong_key, "a signal made with another migration's key is refused")
{
    char own[SWITCHOVER_KEY_HEX], other[SWITCHOVER_KEY_HEX];

    memcpy(own, key, sizeof(own));
    UNIT_EQ(switchover_expect(receiver, STRANGER, other, &unit_err), 0);
    UNIT_TRUE(strcmp(own, other) != 0);
    memcpy(key, other, sizeof(key));
    struct switchover_peer *peer = peer_for(MIGRATION);
    switchover_peer_send(peer, SWITCHOVER_PAUSED);
    turn(40 * USEC_PER_MSEC);
    UNIT_EQ(calls, 0);
    switchover_peer_free(peer);
}

UNIT_TEST(flood,
          "in a flood of datagrams each turn of the loop ends, and the rest is refused unread")
{
    uint8_t d[SIZE];
    uint64_t refused = metric_get(METRIC_SWITCHOVER_REFUSED);

    record(SWITCHOVER_PAUSED, d);
    clock_fake_set(clock_monotonic_us()); /* one window of the rate for the whole test */
    d[SIZE - 1] ^= 1;
    for (int i = 0; i < 2100; i++)
        inject(d, SIZE);
    d[SIZE - 1] ^= 1;
    inject(d, SIZE);
    clock_fake_stop();
    UNIT_EQ(calls, 0);
    UNIT_TRUE(metric_get(METRIC_SWITCHOVER_REFUSED) >= refused + 2000);
}

UNIT_TEST(ipv6, "the line works over IPv6")
{
    struct switchover *s = NULL;
    struct switchover_peer *peer = NULL;

    if (switchover_new(&s, loop, "::1", 0, on_signal, NULL, &unit_err) < 0) {
        err_clear(&unit_err);
        UNIT_SKIP("this machine has no IPv6 loopback");
    }
    UNIT_EQ(switchover_expect_key(s, MIGRATION, key, &unit_err), 0);
    UNIT_EQ(switchover_peer_new(s, "::1", switchover_port(s), MIGRATION, key, &peer, &unit_err), 0);
    switchover_peer_send(peer, SWITCHOVER_PAUSED);
    turn(40 * USEC_PER_MSEC);
    UNIT_EQ(calls, 1);
    switchover_peer_free(peer);
    switchover_free(s);
}

UNIT_TEST(nobody, "sending to where nobody listens harms nothing")
{
    struct switchover_peer *peer = NULL;
    int port;
    int fd = tap_socket(&port);

    fd_closep(&fd);
    UNIT_EQ(switchover_peer_new(receiver, "127.0.0.1", port, MIGRATION, key, &peer, &unit_err), 0);
    switchover_peer_send(peer, SWITCHOVER_PAUSED);
    turn(40 * USEC_PER_MSEC);
    switchover_peer_free(peer);
}

UNIT_TEST(bad_arguments, "addresses, ports, uuids and keys that are none are refused and named")
{
    struct switchover *s = NULL;
    struct switchover_peer *peer = NULL;

    UNIT_FAILS(switchover_new(&s, loop, "localhost", 0, on_signal, NULL, &unit_err), ERR_INVALID);
    UNIT_HAS(unit_err.text, "localhost");
    UNIT_FAILS(switchover_new(&s, loop, "127.0.0.1", 70000, on_signal, NULL, &unit_err),
               ERR_INVALID);
    UNIT_FAILS(switchover_new(&s, loop, "198.51.100.250", 0, on_signal, NULL, &unit_err),
               ERR_SYSTEM);
    UNIT_FAILS(switchover_expect_key(receiver, "../etc", key, &unit_err), ERR_INVALID);
    UNIT_FAILS(switchover_expect_key(receiver, MIGRATION, "12", &unit_err), ERR_INVALID);
    UNIT_FAILS(switchover_peer_new(receiver, "evil.example", 1, MIGRATION, key, &peer, &unit_err),
               ERR_INVALID);
    UNIT_FAILS(switchover_peer_new(receiver, "127.0.0.1", 0, MIGRATION, key, &peer, &unit_err),
               ERR_INVALID);
    UNIT_TRUE(s == NULL && peer == NULL);
}
