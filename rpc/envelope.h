/* SPDX-License-Identifier: Apache-2.0 */
/*
 * oslo.messaging's message forms: envelope 2.0 (a JSON object that holds the inner message as JSON
 * text), the inner request and the inner reply (nova-contract 1.4 to 1.6). Pure functions; any thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <json-c/json_object.h>

#include "lib/err.h"

enum {
    ENVELOPE_MAJOR = 2,
    ENVELOPE_MINOR = 0,
    ENVELOPE_ID_MAX = 255, /* bytes of an id or queue name: an AMQP short string */
    ENVELOPE_MONITOR_MAX_S = 86400,
};

/*
 * Opens a message body. A bare (un-enveloped) object is accepted as it is; so is any envelope 2.x with
 * x <= ENVELOPE_MINOR. *inner is a new reference to an object. ERR_PARSE otherwise.
 */
int envelope_decode(const char *body, size_t length, struct json_object **inner, struct err *e);
/* The body of a message: `inner` in an envelope. The caller frees it. */
char *envelope_encode(struct json_object *inner, size_t *length);

/* An inner request. Everything is borrowed from the message, except `context`. */
struct envelope_request {
    const char *method;
    const char *namespace_name;  /* NULL = the null namespace */
    const char *version;         /* "1.0" when absent */
    const char *unique_id;       /* NULL when absent */
    const char *msg_id;          /* NULL = a cast */
    const char *reply_queue;     /* NULL = a cast */
    int64_t monitor_s;           /* call-monitor period that the caller asked for, 0 = none */
    struct json_object *args;    /* an object, or NULL when absent */
    struct json_object *context; /* the `_context_*` members without their prefix; owned */
};
void envelope_request_clear(struct envelope_request *request);

/*
 * Reads the way back (`msg_id`, `reply_queue`) of any object, so that an unreadable call can still be
 * answered. False when there is none that can be used.
 */
bool envelope_read_return(struct json_object *inner, const char **msg_id, const char **reply_queue);
/* ERR_PARSE names the member that is missing or of a wrong type. */
int envelope_read_request(struct json_object *inner, struct envelope_request *out, struct err *e);
/* The inner message of a request. New reference. */
struct json_object *envelope_make_request(const struct envelope_request *request);

struct envelope_reply {
    const char *msg_id;
    const char *unique_id;      /* NULL when absent */
    const char *failure;        /* JSON text, NULL = none */
    struct json_object *result; /* borrowed; NULL = None */
    bool ending;                /* false: a call-monitor heartbeat, or an old peer's first half */
};
int envelope_read_reply(struct json_object *inner, struct envelope_reply *out, struct err *e);
/* The inner message of a reply. New reference; `result` is borrowed. */
struct json_object *envelope_make_reply(const struct envelope_reply *reply);

/* Gives an inner message a fresh `_unique_id`, as each publishing needs. */
void envelope_renew_unique_id(struct json_object *inner);

/* "major.minor[.revision]" of decimal numbers up to 9999; the revision is ignored. False if malformed. */
bool envelope_parse_version(const char *text, int *major, int *minor);
