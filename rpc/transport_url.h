/* SPDX-License-Identifier: Apache-2.0 */
/*
 * [DEFAULT] transport_url of oslo.messaging (nova-contract 1.3):
 *
 *     rabbit://user:password@host:5672,user:password@[2001:db8::1]:5672/vhost?name=value&...
 *
 * Users, passwords, virtual host and option values are percent-encoded. Each host has credentials of its
 * own; without any it is guest:guest, as in oslo.messaging. No path or "/" means the broker's virtual host
 * "/", and so does "//". The schemes are rabbit and kombu+(rabbit|amqp|pyamqp|librabbitmq|amqps).
 *
 * Neither errors nor transport_url_text() ever contain what stands between "//" and "@", nor the value
 * of an option: hosts are named by their place in the list. Pure functions; any thread.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "lib/err.h"

enum {
    TRANSPORT_URL_SIZE_MAX = 8192,
    TRANSPORT_URL_HOSTS_MAX = 64,
    TRANSPORT_URL_OPTIONS_MAX = 64,
    TRANSPORT_URL_PORT = 5672, /* of every scheme, with TLS too, as in oslo.messaging */
};

struct transport_host {
    char *name; /* name or address, without brackets */
    uint16_t port;
    char *user, *password;
};

struct transport_option {
    char *name, *value;
};

struct transport_url {
    struct transport_host *hosts; /* at least one, in the order of the URL */
    size_t host_count;
    char *vhost;                      /* never empty */
    struct transport_option *options; /* of the query, in order, no name twice */
    size_t option_count;
};

/* ERR_CONFIG with one sentence that names the bad part. */
int transport_url_parse(const char *text, struct transport_url **out, struct err *e);
void transport_url_free(struct transport_url *url); /* wipes the passwords */
DEFINE_CLEANUP(struct transport_url *, transport_url_free)

/* "rabbit://host:port,[address]:port/vhost": without credentials and options. The caller frees it. */
char *transport_url_text(const struct transport_url *url);
/* "host:port" or "[address]:port" of one host. */
void transport_host_text(const struct transport_host *host, char *out, size_t size);
