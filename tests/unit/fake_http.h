/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An HTTP server for tests, in the test's process on 127.0.0.1: it answers by a script and remembers what
 * was asked. Threads of its own; its functions are called on the test's thread.
 *
 *     struct fake_http *server = fake_http_new(NULL);
 *     fake_http_add(server, &(struct fake_answer){"GET", "/a?b=c", 200, .body = "{}"});
 *     ... run the loop ...
 *     UNIT_EQ(fake_http_count(server, "GET", "/a?b=c"), 1);
 *     fake_http_free(server);
 *
 * An answer is used once, `times` times, or for ever (times < 0); of several that match, the first that is
 * not used up. What nothing matches is answered 404 and fails the test when the server is freed.
 */
#pragma once

#include <json-c/json_object.h>
#include <stdbool.h>
#include <stddef.h>

struct fake_answer {
    const char *method, *path; /* with query; a path that ends in "*" matches any rest; NULL: any */
    int status;
    const char *body;    /* NULL = none; JSON unless `headers` has a Content-Type */
    const char *headers; /* "Name: value\r\n..."; NULL = none */
    int times;           /* 0 = once */
    int delay_ms;        /* before the answer */
    bool drop;           /* close the connection instead */
    bool silent;         /* never answer, until the client leaves */
    size_t pad;          /* that many bytes more in the body */
};

struct fake_request {
    char *method, *path, *headers, *body;
    struct json_object *json; /* the body; NULL when it is none */
    unsigned connection;      /* from 1 */
};

struct fake_http;

/* tls_directory: NULL = plain; else a CA (ca.pem) is made there that signs this server's certificate. */
struct fake_http *fake_http_new(const char *tls_directory);
void fake_http_free(struct fake_http *server);
/* "http://127.0.0.1:<port>" */
const char *fake_http_url(const struct fake_http *server);
/* Strings are copied. */
void fake_http_add(struct fake_http *server, const struct fake_answer *answer);
/* Takes all answers back that were given for this path (NULL: all at all). */
void fake_http_forget(struct fake_http *server, const char *path);
/* A Keystone for ever: POST /v3/auth/tokens gives "token-1" with a catalogue of placement, network and image
 * at this server, internal, region RegionOne. */
void fake_http_keystone(struct fake_http *server);
/* The n-th request of method and path (as in answers; NULL: any), from 0; NULL if there were not so many. */
const struct fake_request *fake_http_request(struct fake_http *server, const char *method,
                                             const char *path, size_t n);
size_t fake_http_count(struct fake_http *server, const char *method, const char *path);
unsigned fake_http_connections(struct fake_http *server);
/* Value of a header of a request; the caller frees; NULL when it is not there. */
char *fake_http_header(const struct fake_request *request, const char *name);
