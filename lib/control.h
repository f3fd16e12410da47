/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control protocol between computectl and an agent: JSON objects, one a line, over a stream socket in
 * the file system. This file has what both sides share (framing, messages) and the client.
 *
 *     request  {"id": 1, "command": "show", "args": {...}, "host": "hostb"}      host is optional
 *     reply    {"id": 1, "result": ...}
 *              {"id": 1, "error": {"code": "NO_INSTANCE", "class": "InstanceNotFound", "text": "..."}}
 *
 * Replies come in any order; the id ties them to requests. A line that cannot be read ends the connection.
 * Nothing here has state of its own: any thread, each object one thread at a time.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <json-c/json_object.h>

#include "lib/attributes.h"
#include "lib/err.h"

enum {
    CONTROL_REQUEST_MAX = 64 * 1024,     /* bytes of a request's line, with its end */
    CONTROL_REPLY_MAX = 8 * 1024 * 1024, /* bytes of a reply's line */
    CONTROL_COMMAND_SIZE = 33,
    CONTROL_HOST_SIZE = 256
};

/* ---- framing ---- */

/* Bytes as they come in, lines as they go out. Zeroed with .limit set is ready for use. */
struct control_buffer {
    char *data;
    size_t length, capacity;
    size_t scanned; /* bytes in which no line end was found */
    size_t limit;   /* longest line */
};
/* Adds bytes. ERR_PARSE when a line gets longer than the limit; the connection must be closed then. */
int control_buffer_add(struct control_buffer *buffer, const void *bytes, size_t length,
                       struct err *e);
/*
 * Takes the next complete line: 1 and *out (new reference, always an object), 0 if there is none yet,
 * -1 with ERR_PARSE if it is no JSON object.
 */
int control_buffer_next(struct control_buffer *buffer, struct json_object **out, struct err *e);
void control_buffer_free(struct control_buffer *buffer);

/* The message as one line with its end, ready to send; the caller frees. */
char *control_line(struct json_object *message);

/* ---- messages ---- */

struct control_request {
    int64_t id;
    char command[CONTROL_COMMAND_SIZE];
    char host[CONTROL_HOST_SIZE]; /* "" = this one */
    struct json_object *args;     /* an object, never NULL; own reference */
};
/* Checks and takes a request apart. ERR_PARSE names the member; *out->id is set if it could be read. */
int control_request_parse(struct json_object *message, struct control_request *out, struct err *e);
void control_request_clear(struct control_request *request);

/* New messages; args and result are consumed, NULL args is {}, NULL result is null, NULL host is none. */
struct json_object *control_request_new(int64_t id, const char *command, struct json_object *args,
                                        const char *host);
struct json_object *control_reply_new(int64_t id, struct json_object *result);
struct json_object *control_error_new(int64_t id, const struct err *e);

/*
 * The outcome in a reply to request `id`: 0 and *result (new reference, may be NULL for null), or -1 with
 * the error that it carries (code, wire class and text), or ERR_PARSE if it is no reply to `id`.
 */
int control_reply_parse(struct json_object *message, int64_t id, struct json_object **result,
                        struct err *e);

/* ---- client; blocks, bounded by deadlines on the monotonic clock ---- */

struct control_client;
/* ERR_UNREACHABLE if nobody listens, ERR_DENIED if the socket may not be used, ERR_TIMEOUT. */
int control_connect(struct control_client **out, const char *path, int64_t deadline_us,
                    struct err *e);
void control_close(struct control_client *client);
DEFINE_CLEANUP(struct control_client *, control_close)
/* One request and its reply. `args` is consumed. After ERR_TIMEOUT or ERR_PARSE close the connection. */
int control_call(struct control_client *client, const char *command, struct json_object *args,
                 const char *host, int64_t deadline_us, struct json_object **result, struct err *e);
