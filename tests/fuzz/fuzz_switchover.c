/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Datagrams at the agents' direct line. The first byte says what is put right in the rest before it is
 * sent: bit 0 the MAC, bit 1 the time. A signal may come out of one datagram only if its MAC is right.
 */
#include <arpa/inet.h>
#include <openssl/evp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "lib/clock.h"
#include "net/switchover.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MIGRATION "6c5ba3f7-2d1e-4a8b-9c0d-1e2f3a4b5c6d"

enum { SIZE = 72, SIGNED = 40, TIME = 32, DATAGRAM_MAX = 128, FIX_MAC = 1, FIX_TIME = 2 };

static struct loop *loop;
static struct switchover *receiver;
static uint8_t key[SWITCHOVER_KEY_SIZE];
static int sender = -1;
static unsigned signals;

static void expect(int condition)
{
    if (!condition)
        abort();
}

static void on_signal(void *aux, const char *uuid, enum switchover_signal signal, int64_t at_us)
{
    (void)aux;
    (void)at_us;
    expect(strcmp(uuid, MIGRATION) == 0);
    expect(signal == SWITCHOVER_PAUSED || signal == SWITCHOVER_REVERTED);
    signals++;
}

static void start(void)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

    expect(loop_new(&loop, NULL) == 0);
    expect(switchover_new(&receiver, loop, "127.0.0.1", 0, on_signal, NULL, NULL) == 0);
    to.sin_port = htons((uint16_t)switchover_port(receiver));
    sender = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    expect(sender >= 0 && connect(sender, (struct sockaddr *)&to, sizeof(to)) == 0);
}

/* A receiver that has seen nothing yet, at a time of its own, so that the limit of datagrams a second
 * and earlier inputs play no part. */
static void expect_anew(void)
{
    static int64_t now_us = INT64_C(1700000000000000);
    char hex[SWITCHOVER_KEY_HEX];

    now_us += 2 * INT64_C(1000000);
    clock_fake_set(now_us);
    signals = 0;
    memset(key, 0x42, sizeof(key));
    memset(hex, '0', sizeof(hex) - 1);
    for (size_t i = 0; i < sizeof(hex) - 1; i++)
        hex[i] = i % 2 ? '2' : '4';
    hex[sizeof(hex) - 1] = '\0';
    switchover_forget(receiver, MIGRATION);
    expect(switchover_expect_key(receiver, MIGRATION, hex, NULL) == 0);
}

static void right_mac(const uint8_t *datagram, uint8_t mac[SIZE - SIGNED])
{
    size_t length = 0;

    expect(EVP_Q_mac(NULL, "HMAC", NULL, "SHA256", NULL, key, sizeof(key), datagram, SIGNED, mac,
                     SIZE - SIGNED, &length) != NULL);
}

static void put_time(uint8_t *datagram)
{
    uint64_t now_us = (uint64_t)clock_realtime_us();

    for (int i = 7; i >= 0; i--, now_us >>= 8)
        datagram[TIME + i] = (uint8_t)now_us;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t datagram[DATAGRAM_MAX] = {0}, mac[SIZE - SIGNED];
    size_t length = size > 0 ? size - 1 : 0;

    if (length > sizeof(datagram))
        return 0;
    if (sender < 0)
        start();
    expect_anew();
    if (length > 0)
        memcpy(datagram, data + 1, length);
    if (size > 0 && (data[0] & FIX_TIME))
        put_time(datagram);
    right_mac(datagram, mac);
    if (size > 0 && (data[0] & FIX_MAC))
        memcpy(datagram + SIGNED, mac, sizeof(mac));
    for (int copy = 0; copy < 2; copy++)
        expect(send(sender, datagram, length, 0) == (ssize_t)length);
    expect(loop_turn(loop, 0, NULL) == 0);
    expect(signals <= 1);
    if (signals > 0)
        expect(length == SIZE && memcmp(datagram + SIGNED, mac, sizeof(mac)) == 0);
    return 0;
}
