/* SPDX-License-Identifier: Apache-2.0 */
/* The control protocol: framing and messages for both sides, and the client with its deadlines. */
#include "lib/control.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "lib/clock.h"
#include "lib/json.h"
#include "lib/text.h"

/* --- framing ---------------------------------------------------------------------------------- */

int control_buffer_add(struct control_buffer *b, const void *bytes, size_t length, struct err *e)
{
    const char *start = bytes;
    const char *last = memrchr(start, '\n', length);
    size_t tail = last ? length - (size_t)(last + 1 - start) : b->length + length;
    const char *first = last ? memchr(start, '\n', length) : NULL;

    if (tail >= b->limit || (first && b->length + (size_t)(first - start) >= b->limit))
        return err_set(e, ERR_PARSE, "a control message is longer than %zu bytes", b->limit);
    if (b->length + length > b->capacity) {
        b->capacity = (b->length + length) * 2;
        b->data = mem_resize(b->data, b->capacity);
    }
    if (length)
        memcpy(b->data + b->length, bytes, length);
    b->length += length;
    return 0;
}

int control_buffer_next(struct control_buffer *b, struct json_object **out, struct err *e)
{
    char *end =
        b->length > b->scanned ? memchr(b->data + b->scanned, '\n', b->length - b->scanned) : NULL;
    _cleanup_(json_putp) struct json_object *message = NULL;

    if (!end) {
        b->scanned = b->length;
        return 0;
    }
    size_t line = (size_t)(end - b->data);
    int result = json_parse(b->data, line, &message, e);
    b->length -= line + 1;
    b->scanned = 0;
    memmove(b->data, end + 1, b->length);
    if (result < 0)
        return err_prefix(e, "control message: ");
    if (!json_object_is_type(message, json_type_object))
        return err_set(e, ERR_PARSE, "a control message must be a JSON object");
    *out = STEAL(message);
    return 1;
}

void control_buffer_free(struct control_buffer *b)
{
    free(b->data);
    *b = (struct control_buffer){.limit = b->limit};
}

char *control_line(struct json_object *message)
{
    _cleanup_(str_freep) char *text = json_text(message);
    return text_format("%s\n", text);
}

/* --- messages --------------------------------------------------------------------------------- */

/* Copies a short text; longer ones are refused, never cut. */
static int copy_text(char *out, size_t size, const char *text, const char *what, struct err *e)
{
    if (strlen(text) >= size)
        return err_set(e, ERR_PARSE, "control message: %s is longer than %zu bytes", what,
                       size - 1);
    (void)snprintf(out, size, "%s", text);
    return 0;
}

int control_request_parse(struct json_object *message, struct control_request *out, struct err *e)
{
    struct control_request request = {0};
    const char *command, *host;
    struct json_object *args = json_get(message, "args");

    if (json_need_int(message, "id", &request.id, e) < 0)
        return err_prefix(e, "control request: ");
    out->id = request.id;
    if (json_need_string(message, "command", &command, e) < 0 ||
        json_opt_string(message, "host", "", &host, e) < 0)
        return err_prefix(e, "control request: ");
    if (args && !json_object_is_type(args, json_type_object))
        return err_set(e, ERR_PARSE, "control request: args must be an object");
    if (copy_text(request.command, sizeof(request.command), command, "command", e) < 0 ||
        copy_text(request.host, sizeof(request.host), host, "host", e) < 0)
        return -1;
    request.args = args ? json_object_get(args) : json_object_new_object();
    *out = request;
    return 0;
}

void control_request_clear(struct control_request *request)
{
    json_object_put(request->args);
    *request = (struct control_request){0};
}

struct json_object *control_request_new(int64_t id, const char *command, struct json_object *args,
                                        const char *host)
{
    struct json_object *message = json_object_new_object();

    json_add_int(message, "id", id);
    json_add_string(message, "command", command);
    json_add(message, "args", args ? args : json_object_new_object());
    if (host && *host)
        json_add_string(message, "host", host);
    return message;
}

struct json_object *control_reply_new(int64_t id, struct json_object *result)
{
    struct json_object *message = json_object_new_object();

    json_add_int(message, "id", id);
    json_add(message, "result", result);
    return message;
}

struct json_object *control_error_new(int64_t id, const struct err *e)
{
    struct json_object *message = json_object_new_object(), *error = json_object_new_object();

    json_add_string(error, "code", err_name(e->code));
    json_add_string(error, "class", err_wire_class(e));
    json_add_string(error, "text", e->text);
    json_add_int(message, "id", id);
    json_add(message, "error", error);
    return message;
}

static int carried_error(struct json_object *error, struct err *e)
{
    const char *name = json_get_string(error, "code", "");
    const char *class_name = json_get_string(error, "class", "");
    const char *text = json_get_string(error, "text", "");

    (void)err_set(e, err_code_by_name(name), "%s", *text ? text : "the agent gave no reason");
    return strlen(class_name) < ERR_CLASS_SIZE ? err_set_class(e, class_name, NULL) : -1;
}

int control_reply_parse(struct json_object *message, int64_t id, struct json_object **result,
                        struct err *e)
{
    int64_t got;
    struct json_object *error = json_get(message, "error");

    if (json_need_int(message, "id", &got, e) < 0)
        return err_prefix(e, "control reply: ");
    if (got != id)
        return err_set(e, ERR_PARSE, "control reply: id %lld does not answer request %lld",
                       (long long)got, (long long)id);
    if (error && !json_object_is_type(error, json_type_object))
        return err_set(e, ERR_PARSE, "control reply: error must be an object");
    if (error)
        return carried_error(error, e);
    if (!json_has(message, "result"))
        return err_set(e, ERR_PARSE, "control reply: neither result nor error is there");
    *result = json_object_get(json_get(message, "result"));
    return 0;
}

/* --- client ----------------------------------------------------------------------------------- */

struct control_client {
    int fd;
    int64_t last_id;
    char *path;
    struct control_buffer input;
};

/* Waits until the socket is ready or the deadline is over. */
static int wait_for(int fd, short events, int64_t deadline_us, const char *what, struct err *e)
{
    for (;;) {
        int64_t left = deadline_us - clock_monotonic_us();
        struct pollfd poll_fd = {.fd = fd, .events = events};
        if (left <= 0)
            return err_set(e, ERR_TIMEOUT, "the agent did not %s in time", what);
        int milliseconds = left / 1000 > 60000 ? 60000 : (int)(left / 1000) + 1;
        int ready = poll(&poll_fd, 1, milliseconds);
        if (ready > 0)
            return 0;
        if (ready < 0 && errno != EINTR)
            return err_set_errno(e, ERR_SYSTEM, errno, "the control socket cannot be waited for");
    }
}

static int connect_refused(const char *path, int number, struct err *e)
{
    if (number == EACCES || number == EPERM)
        return err_set(
            e, ERR_DENIED,
            "the control socket %s may not be used by this user; root and the members of "
            "the control group may",
            path);
    if (number == ENOENT || number == ECONNREFUSED)
        return err_set(e, ERR_UNREACHABLE, "no agent listens at %s; is computed running?", path);
    return err_set_errno(e, ERR_UNREACHABLE, number, "the control socket %s cannot be used", path);
}

int control_connect(struct control_client **out, const char *path, int64_t deadline_us,
                    struct err *e)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    _cleanup_(control_closep) struct control_client *client = NULL;

    if (copy_text(address.sun_path, sizeof(address.sun_path), path, "the socket's path", e) < 0)
        return -1;
    client = NEW(struct control_client);
    client->path = text_dup(path);
    client->input.limit = CONTROL_REPLY_MAX;
    client->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (client->fd < 0)
        return err_set_errno(e, ERR_SYSTEM, errno, "no socket can be made");
    /* EAGAIN: the listener's queue is full; there is nothing to poll for, so try again shortly. */
    while (connect(client->fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
        if (errno != EAGAIN && errno != EINTR)
            return connect_refused(path, errno, e);
        if (clock_monotonic_us() >= deadline_us)
            return err_set(e, ERR_TIMEOUT, "the agent did not take the connection in time");
        (void)poll(NULL, 0, 10);
    }
    *out = STEAL(client);
    return 0;
}

void control_close(struct control_client *client)
{
    if (!client)
        return;
    if (client->fd >= 0)
        (void)close(client->fd);
    control_buffer_free(&client->input);
    free(client->path);
    free(client);
}

static int lost(const struct control_client *client, int number, struct err *e)
{
    if (number)
        return err_set_errno(e, ERR_UNREACHABLE, number, "the connection to %s is lost",
                             client->path);
    return err_set(e, ERR_UNREACHABLE, "the agent at %s closed the connection", client->path);
}

static int send_line(struct control_client *client, const char *line, int64_t deadline_us,
                     struct err *e)
{
    for (size_t length = strlen(line), sent = 0; sent < length;) {
        ssize_t n = send(client->fd, line + sent, length - sent, MSG_NOSIGNAL);
        if (n >= 0)
            sent += (size_t)n;
        else if (errno == EAGAIN) {
            if (wait_for(client->fd, POLLOUT, deadline_us, "take the request", e) < 0)
                return -1;
        } else if (errno != EINTR)
            return lost(client, errno, e);
    }
    return 0;
}

/* The next message, whatever it answers. */
static int receive(struct control_client *client, int64_t deadline_us, struct json_object **out,
                   struct err *e)
{
    char bytes[16 * 1024];

    for (;;) {
        int found = control_buffer_next(&client->input, out, e);
        if (found)
            return found < 0 ? -1 : 0;
        ssize_t n = recv(client->fd, bytes, sizeof(bytes), 0);
        if (n > 0) {
            if (control_buffer_add(&client->input, bytes, (size_t)n, e) < 0)
                return -1;
        } else if (n == 0) {
            return lost(client, 0, e);
        } else if (errno == EAGAIN) {
            if (wait_for(client->fd, POLLIN, deadline_us, "answer", e) < 0)
                return -1;
        } else if (errno != EINTR) {
            return lost(client, errno, e);
        }
    }
}

int control_call(struct control_client *client, const char *command, struct json_object *args,
                 const char *host, int64_t deadline_us, struct json_object **result, struct err *e)
{
    int64_t id = ++client->last_id;
    _cleanup_(json_putp) struct json_object *request = control_request_new(id, command, args, host);
    _cleanup_(str_freep) char *line = control_line(request);
    _cleanup_(json_putp) struct json_object *reply = NULL;

    if (strlen(line) > CONTROL_REQUEST_MAX)
        return err_set(e, ERR_USAGE, "the request is longer than %d bytes", CONTROL_REQUEST_MAX);
    if (send_line(client, line, deadline_us, e) < 0 || receive(client, deadline_us, &reply, e) < 0)
        return -1;
    return control_reply_parse(reply, id, result, e);
}
