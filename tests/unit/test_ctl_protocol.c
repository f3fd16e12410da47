/* SPDX-License-Identifier: Apache-2.0 */
/* The control protocol: framing, messages, and the client against sockets that misbehave. */
#include "tests/unit/unit.h"

#include <sys/socket.h>
#include <sys/un.h>

#include "lib/clock.h"
#include "lib/control.h"
#include "lib/json.h"
#include "lib/text.h"

static struct json_object *parsed(const char *text)
{
    struct json_object *o = NULL;
    UNIT_OK(json_parse(text, strlen(text), &o, &unit_err));
    return o;
}

UNIT_TEST(lines_in_pieces, "messages come out whole, however the bytes come in")
{
    static const char bytes[] = "{\"id\":1}\n{\"id\":2}\n";

    for (size_t step = 1; step < sizeof(bytes); step++) {
        struct control_buffer b = {.limit = 100};
        int64_t next = 1;
        for (size_t i = 0; i < sizeof(bytes) - 1; i += step) {
            size_t length = sizeof(bytes) - 1 - i < step ? sizeof(bytes) - 1 - i : step;
            struct json_object *m = NULL;
            UNIT_OK(control_buffer_add(&b, bytes + i, length, &unit_err));
            while (control_buffer_next(&b, &m, &unit_err) == 1) {
                UNIT_EQ(json_get_int(m, "id", 0), next++);
                json_object_put(m);
            }
        }
        UNIT_EQ(next, 3);
        control_buffer_free(&b);
    }
}

UNIT_TEST(line_too_long, "a line longer than the limit is refused before it is kept")
{
    struct control_buffer b = {.limit = 16};
    char bytes[64];

    memset(bytes, 'x', sizeof(bytes));
    UNIT_FAILS(control_buffer_add(&b, bytes, 16, &unit_err), ERR_PARSE);
    UNIT_OK(control_buffer_add(&b, bytes, 15, &unit_err));
    UNIT_FAILS(control_buffer_add(&b, bytes, 1, &unit_err), ERR_PARSE);
    bytes[1] = '\n';
    UNIT_FAILS(control_buffer_add(&b, bytes, 2, &unit_err), ERR_PARSE);
    control_buffer_free(&b);
    control_buffer_free(&b);
}

UNIT_TEST(not_an_object, "what is no JSON object is refused")
{
    static const char *const lines[] = {"[1]\n", "nonsense\n", "\n",
                                        "1\n",   "null\n",     "{\"a\":1,\"a\":2}\n"};

    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        struct control_buffer b = {.limit = 100};
        struct json_object *m = NULL;
        UNIT_OK(control_buffer_add(&b, lines[i], strlen(lines[i]), &unit_err));
        UNIT_FAILS(control_buffer_next(&b, &m, &unit_err), ERR_PARSE);
        UNIT_TRUE(m == NULL);
        control_buffer_free(&b);
    }
}

UNIT_TEST(request_round_trip, "a request goes out and comes back with all its parts")
{
    struct json_object *args = json_object_new_object();
    struct control_request request = {0};
    json_add_string(args, "instance", "guest1");
    _cleanup_(json_putp) struct json_object *message =
        control_request_new(7, "show", args, "hostb");

    UNIT_OK(control_request_parse(message, &request, &unit_err));
    UNIT_EQ(request.id, 7);
    UNIT_STR(request.command, "show");
    UNIT_STR(request.host, "hostb");
    UNIT_STR(json_get_string(request.args, "instance", ""), "guest1");
    control_request_clear(&request);
}

UNIT_TEST(bad_requests, "a request without id or command, or with parts of other types, is refused")
{
    static const char *const bad[] = {
        "{\"command\":\"list\"}",
        "{\"id\":\"1\",\"command\":\"list\"}",
        "{\"id\":1}",
        "{\"id\":1,\"command\":5}",
        "{\"id\":1,\"command\":\"list\",\"args\":[]}",
        "{\"id\":1,\"command\":\"list\",\"host\":5}",
        "{\"id\":1,\"command\":\"a-command-name-that-is-far-too-long\"}",
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        _cleanup_(json_putp) struct json_object *message = parsed(bad[i]);
        struct control_request request = {0};
        UNIT_FAILS(control_request_parse(message, &request, &unit_err), ERR_PARSE);
        UNIT_TRUE(request.args == NULL);
    }
    _cleanup_(json_putp) struct json_object *message = parsed("{\"id\":9}");
    struct control_request request = {0};
    UNIT_FAILS(control_request_parse(message, &request, &unit_err), ERR_PARSE);
    UNIT_EQ(request.id, 9);
}

UNIT_TEST(errors_carried, "an error crosses with its code, wire class and text")
{
    struct err e = ERR_INIT;
    struct json_object *result = NULL;

    err_set(&e, ERR_NO_INSTANCE, "no instance guest9 here");
    _cleanup_(json_putp) struct json_object *message = control_error_new(3, &e);
    UNIT_FAILS(control_reply_parse(message, 3, &result, &unit_err), ERR_NO_INSTANCE);
    UNIT_STR(unit_err.text, "no instance guest9 here");
    UNIT_STR(err_wire_class(&unit_err), "InstanceNotFound");
    _cleanup_(json_putp) struct json_object *odd = parsed("{\"id\":3,\"error\":{\"code\":5}}");
    UNIT_FAILS(control_reply_parse(odd, 3, &result, &unit_err), ERR_REMOTE);
    UNIT_STR(unit_err.text, "the agent gave no reason");
}

UNIT_TEST(bad_replies, "a reply to another request, or without an outcome, is refused")
{
    static const char *const bad[] = {"{\"id\":4,\"result\":1}", "{\"id\":3}",
                                      "{\"id\":3,\"error\":\"x\"}", "{\"result\":1}"};
    struct json_object *result = NULL;

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        _cleanup_(json_putp) struct json_object *message = parsed(bad[i]);
        UNIT_FAILS(control_reply_parse(message, 3, &result, &unit_err), ERR_PARSE);
    }
    _cleanup_(json_putp) struct json_object *none = control_reply_new(3, NULL);
    UNIT_OK(control_reply_parse(none, 3, &result, &unit_err));
    UNIT_TRUE(result == NULL);
}

static int listener(const char *path, int backlog)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    (void)unlink(path);
    UNIT_EQ(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    UNIT_EQ(listen(fd, backlog), 0);
    return fd;
}

UNIT_TEST(nobody_there, "a socket that is not there, or that nobody serves, is told at once")
{
    _cleanup_(str_freep) char *path = text_format("%s/none", unit_directory());
    struct control_client *client = NULL;
    char longer[300];

    UNIT_FAILS(control_connect(&client, path, clock_monotonic_us() + USEC_PER_SEC, &unit_err),
               ERR_UNREACHABLE);
    UNIT_HAS(unit_err.text, path);
    close(listener(path, 1));
    UNIT_FAILS(control_connect(&client, path, clock_monotonic_us() + USEC_PER_SEC, &unit_err),
               ERR_UNREACHABLE);
    memset(longer, 'x', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = '\0';
    UNIT_FAILS(control_connect(&client, longer, clock_monotonic_us() + USEC_PER_SEC, &unit_err),
               ERR_PARSE);
    UNIT_TRUE(client == NULL);
}

UNIT_TEST(silent_agent,
          "an agent that accepts nothing or says nothing costs the deadline and no more")
{
    _cleanup_(str_freep) char *path = text_format("%s/silent", unit_directory());
    int fd = listener(path, 0);
    struct control_client *client = NULL, *more[4] = {NULL};
    struct json_object *result = NULL;
    int64_t start = clock_monotonic_us();

    UNIT_OK(control_connect(&client, path, start + USEC_PER_SEC, &unit_err));
    UNIT_FAILS(
        control_call(client, "list", NULL, NULL, start + 50 * USEC_PER_MSEC, &result, &unit_err),
        ERR_TIMEOUT);
    control_close(client);
    int failed = 0;
    for (size_t i = 0; i < ARRAY_LEN(more); i++)
        failed +=
            control_connect(&more[i], path, clock_monotonic_us() + 30 * USEC_PER_MSEC, NULL) < 0;
    UNIT_TRUE(failed > 0);
    UNIT_TRUE(clock_monotonic_us() - start < 2 * USEC_PER_SEC);
    for (size_t i = 0; i < ARRAY_LEN(more); i++)
        control_close(more[i]);
    close(fd);
}

UNIT_TEST(request_too_long, "a request that no agent would take is not sent")
{
    _cleanup_(str_freep) char *path = text_format("%s/long", unit_directory());
    _cleanup_(str_freep) char *huge = mem_new(CONTROL_REQUEST_MAX + 1);
    int fd = listener(path, 1);
    _cleanup_(control_closep) struct control_client *client = NULL;
    struct json_object *args = json_object_new_object(), *result = NULL;

    memset(huge, 'x', CONTROL_REQUEST_MAX);
    json_add_string(args, "instance", huge);
    UNIT_OK(control_connect(&client, path, clock_monotonic_us() + USEC_PER_SEC, &unit_err));
    UNIT_FAILS(control_call(client, "show", args, NULL, clock_monotonic_us() + USEC_PER_SEC,
                            &result, &unit_err),
               ERR_USAGE);
    close(fd);
}
