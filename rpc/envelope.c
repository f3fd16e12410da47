/* SPDX-License-Identifier: Apache-2.0 */
/* Envelope 2.0 and the inner messages: see the header. */
#include "rpc/envelope.h"

#include <stdlib.h>
#include <string.h>
#include <json-c/json_util.h>

#include "lib/json.h"
#include "lib/text.h"
#include "rpc/context.h"

#define KEY_VERSION "oslo.version"
#define KEY_MESSAGE "oslo.message"

static bool read_number(const char **text, int *out)
{
    int value = 0, digits = 0;
    for (; **text >= '0' && **text <= '9'; (*text)++) {
        if (++digits > 4)
            return false;
        value = value * 10 + (**text - '0');
    }
    *out = value;
    return digits > 0;
}

bool envelope_parse_version(const char *text, int *major, int *minor)
{
    int first, second, revision;
    const char *p = text;
    if (!p || !read_number(&p, &first) || *p++ != '.' || !read_number(&p, &second))
        return false;
    if (*p == '.') {
        p++;
        if (!read_number(&p, &revision))
            return false;
    }
    if (*p)
        return false;
    *major = first;
    *minor = second;
    return true;
}

static int require_object(struct json_object *o, const char *what, struct err *e)
{
    if (json_object_is_type(o, json_type_object))
        return 0;
    return err_set(e, ERR_PARSE, "%s is of JSON type %s; allowed is an object", what,
                   json_type_to_name(json_object_get_type(o)));
}

static int check_version(struct json_object *outer, struct err *e)
{
    const char *version;
    int major, minor;
    if (json_need_string(outer, KEY_VERSION, &version, e))
        return err_prefix(e, "envelope: ");
    if (!envelope_parse_version(version, &major, &minor))
        return err_set(e, ERR_PARSE, "envelope version '%.32s' is not a version; allowed is %d.%d",
                       version, ENVELOPE_MAJOR, ENVELOPE_MINOR);
    if (major != ENVELOPE_MAJOR || minor > ENVELOPE_MINOR)
        return err_set(e, ERR_PARSE, "envelope version %d.%d is unknown; allowed is %d.%d", major,
                       minor, ENVELOPE_MAJOR, ENVELOPE_MINOR);
    return 0;
}

int envelope_decode(const char *body, size_t length, struct json_object **inner, struct err *e)
{
    _cleanup_(json_putp) struct json_object *outer = NULL;
    if (json_parse(body, length, &outer, e))
        return err_prefix(e, "message body: ");
    if (require_object(outer, "message body", e))
        return -1;
    if (!json_has(outer, KEY_VERSION) || !json_has(outer, KEY_MESSAGE)) {
        *inner = STEAL(outer);
        return 0;
    }
    if (check_version(outer, e))
        return -1;

    struct json_object *text = json_get(outer, KEY_MESSAGE);
    if (!json_object_is_type(text, json_type_string))
        return err_set(e, ERR_PARSE, KEY_MESSAGE " is of JSON type %s; allowed is JSON text",
                       json_type_to_name(json_object_get_type(text)));
    _cleanup_(json_putp) struct json_object *message = NULL;
    if (json_parse(json_object_get_string(text), (size_t)json_object_get_string_len(text), &message,
                   e))
        return err_prefix(e, KEY_MESSAGE ": ");
    if (require_object(message, KEY_MESSAGE, e))
        return -1;
    *inner = STEAL(message);
    return 0;
}

char *envelope_encode(struct json_object *inner, size_t *length)
{
    _cleanup_(str_freep) char *text = json_text(inner);
    _cleanup_(json_putp) struct json_object *outer = json_object_new_object();
    json_add_string(outer, KEY_VERSION, "2.0");
    json_add_string(outer, KEY_MESSAGE, text);
    char *body = json_text(outer);
    *length = strlen(body);
    return body;
}

/* A member that must be a string when it is there; NULL when absent or null. */
static int optional_string(struct json_object *o, const char *key, const char **out, struct err *e)
{
    if (json_opt_string(o, key, NULL, out, e))
        return -1;
    if (*out && strlen(*out) > ENVELOPE_ID_MAX)
        return err_set(e, ERR_PARSE, "%s has %zu bytes; allowed are %d", key, strlen(*out),
                       ENVELOPE_ID_MAX);
    return 0;
}

bool envelope_read_return(struct json_object *inner, const char **msg_id, const char **reply_queue)
{
    const char *id, *queue;
    if (optional_string(inner, "_msg_id", &id, NULL) ||
        optional_string(inner, "_reply_q", &queue, NULL))
        return false;
    if (!id || !queue || !*id || !*queue)
        return false;
    *msg_id = id;
    *reply_queue = queue;
    return true;
}

/* oslo.messaging takes int(value) and ignores what does not give one; so do we. */
static int64_t read_monitor(struct json_object *inner)
{
    struct json_object *value = json_get(inner, "_timeout");
    double seconds = 0;
    if (json_object_is_type(value, json_type_int) || json_object_is_type(value, json_type_double))
        seconds = json_object_get_double(value);
    else if (json_object_is_type(value, json_type_string) &&
             text_to_double(json_object_get_string(value), 0, ENVELOPE_MONITOR_MAX_S, &seconds,
                            NULL))
        return 0;
    if (!(seconds >= 1 && seconds <= ENVELOPE_MONITOR_MAX_S))
        return 0;
    return (int64_t)seconds;
}

int envelope_read_request(struct json_object *inner, struct envelope_request *out, struct err *e)
{
    struct envelope_request r = {0};
    if (json_need_string(inner, "method", &r.method, e) ||
        optional_string(inner, "method", &r.method, e) ||
        optional_string(inner, "namespace", &r.namespace_name, e) ||
        optional_string(inner, "version", &r.version, e) ||
        optional_string(inner, "_unique_id", &r.unique_id, e) ||
        optional_string(inner, "_msg_id", &r.msg_id, e) ||
        optional_string(inner, "_reply_q", &r.reply_queue, e))
        return err_prefix(e, "request: ");
    if (r.msg_id && !envelope_read_return(inner, &r.msg_id, &r.reply_queue))
        return err_set(e, ERR_PARSE, "request %s: _msg_id without a _reply_q to answer to",
                       r.method);
    if (json_has(inner, "args")) {
        r.args = json_get(inner, "args");
        if (require_object(r.args, "request: args", e))
            return -1;
    }
    if (!r.version)
        r.version = "1.0";
    if (!r.msg_id)
        r.reply_queue = NULL;
    r.monitor_s = r.msg_id ? read_monitor(inner) : 0;
    r.context = context_unpack(inner);
    *out = r;
    return 0;
}

void envelope_request_clear(struct envelope_request *request)
{
    json_object_put(request->context);
    *request = (struct envelope_request){0};
}

struct json_object *envelope_make_request(const struct envelope_request *request)
{
    struct json_object *inner = json_object_new_object();
    json_add_string(inner, "method", request->method);
    json_add(inner, "args",
             request->args ? json_object_get(request->args) : json_object_new_object());
    if (request->namespace_name)
        json_add_string(inner, "namespace", request->namespace_name);
    json_add_string(inner, "version", request->version);
    if (request->msg_id) {
        json_add_string(inner, "_msg_id", request->msg_id);
        json_add_string(inner, "_reply_q", request->reply_queue);
        json_add(inner, "_timeout",
                 request->monitor_s ? json_object_new_int64(request->monitor_s) : NULL);
    }
    if (request->unique_id)
        json_add_string(inner, "_unique_id", request->unique_id);
    context_pack(inner, request->context);
    return inner;
}

int envelope_read_reply(struct json_object *inner, struct envelope_reply *out, struct err *e)
{
    struct envelope_reply r = {0};
    if (json_need_string(inner, "_msg_id", &r.msg_id, e) ||
        optional_string(inner, "_msg_id", &r.msg_id, e) ||
        optional_string(inner, "_unique_id", &r.unique_id, e) ||
        json_opt_string(inner, "failure", NULL, &r.failure, e) ||
        json_opt_bool(inner, "ending", false, &r.ending, e))
        return err_prefix(e, "reply: ");
    if (r.failure && !*r.failure)
        r.failure = NULL;
    r.result = json_get(inner, "result");
    *out = r;
    return 0;
}

struct json_object *envelope_make_reply(const struct envelope_reply *reply)
{
    struct json_object *inner = json_object_new_object();
    json_add(inner, "result", json_object_get(reply->result));
    json_add_string(inner, "failure", reply->failure);
    json_add_bool(inner, "ending", reply->ending);
    json_add_string(inner, "_msg_id", reply->msg_id);
    if (reply->unique_id)
        json_add_string(inner, "_unique_id", reply->unique_id);
    return inner;
}

void envelope_renew_unique_id(struct json_object *inner)
{
    char id[33];
    text_random_hex(16, id);
    json_add_string(inner, "_unique_id", id);
}
