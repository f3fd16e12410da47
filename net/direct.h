/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the agents' two direct lines (switchover.h, channel.h) have in common: a migration's uuid and its
 * key as bytes, numeric addresses, ports. Internal to net/. Any thread.
 */
#pragma once

#include <netdb.h>
#include <stdbool.h>
#include <stdint.h>

#include "lib/err.h"

enum {
    DIRECT_UUID_SIZE = 16,
    DIRECT_UUID_TEXT = 37, /* with the final NUL */
    DIRECT_KEY_SIZE = 32
};

/* 8-4-4-4-12 hexadecimal digits; ERR_INVALID names the value. */
int direct_read_uuid(const char *text, uint8_t uuid[DIRECT_UUID_SIZE], struct err *e);
/* Lower case. */
void direct_format_uuid(const uint8_t uuid[DIRECT_UUID_SIZE], char out[DIRECT_UUID_TEXT]);
/* 64 hexadecimal digits; ERR_INVALID does not show what was given. */
int direct_read_key(const char *text, uint8_t key[DIRECT_KEY_SIZE], struct err *e);

/*
 * The socket address of a numeric IPv4 or IPv6 address and a port, 0 to 65535; no name is looked up.
 * socket_type: SOCK_DGRAM or SOCK_STREAM; passive: to be bound. ERR_INVALID names what is wrong.
 */
int direct_resolve(const char *address, int port, int socket_type, bool passive,
                   struct addrinfo **out, struct err *e);
static inline void addrinfo_freep(struct addrinfo **a)
{
    if (*a)
        freeaddrinfo(*a);
}

/* The port that a socket is bound to; 0 if it is not. */
int direct_bound_port(int fd);
