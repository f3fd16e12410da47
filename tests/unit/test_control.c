/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/unit.h"

#include <pthread.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/control.h"
#include "lib/json.h"
#include "lib/text.h"

static struct control_buffer buffer;

static void setup(void)
{
    buffer = (struct control_buffer){.limit = 64};
}

static void teardown(void)
{
    control_buffer_free(&buffer);
}

UNIT_FIXTURE(setup, teardown)

static struct json_object *parse(const char *text)
{
    struct json_object *o = NULL;

    UNIT_OK(json_parse(text, strlen(text), &o, &unit_err));
    return o;
}

static int add(const char *text)
{
    err_clear(&unit_err);
    return control_buffer_add(&buffer, text, strlen(text), &unit_err);
}

UNIT_TEST(byte_by_byte,
          "a message is found whatever pieces it comes in, and only when it is complete")
{
    static const char text[] = "{\"id\":1}\n{\"id\":2}\n";
    struct json_object *message = NULL;
    int found = 0;

    for (const char *p = text; *p; p++) {
        UNIT_OK(control_buffer_add(&buffer, p, 1, &unit_err));
        UNIT_EQ(control_buffer_next(&buffer, &message, &unit_err), *p == '\n');
        if (*p == '\n')
            UNIT_EQ(json_get_int(message, "id", 0), ++found);
        json_object_put(message);
        message = NULL;
    }
    UNIT_EQ(add(text), 0);
    for (int i = 1; i <= 2; i++) {
        UNIT_EQ(control_buffer_next(&buffer, &message, &unit_err), 1);
        UNIT_EQ(json_get_int(message, "id", 0), i);
        json_object_put(message);
    }
    UNIT_EQ(control_buffer_next(&buffer, &message, &unit_err), 0);
}

UNIT_TEST(long_line,
          "a line above the limit is refused, with or without its end, in one piece or many")
{
    _cleanup_(str_freep) char *text = mem_new(101);
    int result = 0;

    memset(text, ' ', 100);
    UNIT_EQ(add(text), -1);
    UNIT_EQ(unit_err.code, ERR_PARSE);
    text[99] = '\n';
    UNIT_EQ(add(text), -1);
    for (int i = 0; i < 100 && result == 0; i++)
        result = add("x");
    UNIT_EQ(result, -1);
    UNIT_TRUE(buffer.length < 64);
}

UNIT_TEST(not_an_object, "a line that is no JSON object is an error")
{
    static const char *const bad[] = {"\n", "7\n", "[]\n", "null\n", "{\n", "{\"a\":1,\"a\":2}\n"};

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct json_object *message = NULL;

        UNIT_EQ(add(bad[i]), 0);
        UNIT_FAILS(control_buffer_next(&buffer, &message, &unit_err), ERR_PARSE);
    }
}

UNIT_TEST(requests, "a request comes out as it was made, with what it may lack filled in")
{
    struct json_object *args = parse("{\"instance\":\"a\\nb\"}");
    _cleanup_(json_putp) struct json_object *message =
        control_request_new(7, "show", args, "hostb");
    _cleanup_(str_freep) char *line = control_line(message);
    _cleanup_(json_putp) struct json_object *bare = parse("{\"id\":8,\"command\":\"list\"}");
    struct control_request request = {0};

    UNIT_STR(line, "{\"id\":7,\"command\":\"show\",\"args\":{\"instance\":\"a\\nb\"},"
                   "\"host\":\"hostb\"}\n");
    UNIT_OK(control_request_parse(message, &request, &unit_err));
    UNIT_EQ(request.id, 7);
    UNIT_STR(request.command, "show");
    UNIT_STR(request.host, "hostb");
    UNIT_STR(json_get_string(request.args, "instance", ""), "a\nb");
    control_request_clear(&request);
    UNIT_OK(control_request_parse(bare, &request, &unit_err));
    UNIT_STR(request.host, "");
    UNIT_EQ(json_object_object_length(request.args), 0);
    control_request_clear(&request);
}

UNIT_TEST(bad_requests, "a request with a wrong, missing or overlong member is refused by its name")
{
    static const struct {
        const char *text, *named;
    } rows[] = {
        {"{}", "id"},
        {"{\"id\":\"1\",\"command\":\"x\"}", "id"},
        {"{\"id\":1}", "command"},
        {"{\"id\":1,\"command\":7}", "command"},
        {"{\"id\":1,\"command\":\"x\",\"args\":[]}", "args"},
        {"{\"id\":1,\"command\":\"x\",\"host\":1}", "host"},
        {"{\"id\":1,\"command\":\"a234567890123456789012345678901234\"}", "command"},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        _cleanup_(json_putp) struct json_object *message = parse(rows[i].text);
        struct control_request request = {0};

        UNIT_FAILS(control_request_parse(message, &request, &unit_err), ERR_PARSE);
        UNIT_HAS(unit_err.text, rows[i].named);
        UNIT_TRUE(request.args == NULL);
    }
}

UNIT_TEST(replies, "a result arrives as a result, an error with its code, class and text")
{
    _cleanup_(json_putp) struct json_object *good = control_reply_new(1, json_object_new_int(5));
    _cleanup_(json_putp) struct json_object *none = control_reply_new(2, NULL);
    _cleanup_(json_putp) struct json_object *bad = NULL;
    struct err e = ERR_INIT;
    struct json_object *result = NULL;

    UNIT_OK(control_reply_parse(good, 1, &result, &unit_err));
    UNIT_EQ(json_object_get_int(result), 5);
    json_object_put(result);
    UNIT_OK(control_reply_parse(none, 2, &result, &unit_err));
    UNIT_TRUE(result == NULL);
    err_set(&e, ERR_NO_INSTANCE, "no instance x");
    bad = control_error_new(3, &e);
    UNIT_FAILS(control_reply_parse(bad, 3, &result, &unit_err), ERR_NO_INSTANCE);
    UNIT_STR(unit_err.text, "no instance x");
    UNIT_STR(err_wire_class(&unit_err), "InstanceNotFound");
    UNIT_FAILS(control_reply_parse(good, 2, &result, &unit_err), ERR_PARSE);
}

UNIT_TEST(bad_replies,
          "a reply with neither result nor error, or with a strange error, is no success")
{
    static const char *const bad[] = {"{\"id\":1}", "{\"result\":1}", "{\"id\":1,\"error\":\"x\"}"};
    _cleanup_(json_putp) struct json_object *unknown =
        parse("{\"id\":1,\"error\":{\"code\":\"NEW_CODE\",\"text\":\"a\\u001b[2Jb\"}}");
    struct json_object *result = NULL;

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        _cleanup_(json_putp) struct json_object *message = parse(bad[i]);

        UNIT_FAILS(control_reply_parse(message, 1, &result, &unit_err), ERR_PARSE);
    }
    UNIT_FAILS(control_reply_parse(unknown, 1, &result, &unit_err), ERR_REMOTE);
    UNIT_STR(unit_err.text, "a\\x1b[2Jb");
}

/* --- the client against a listener that answers with fixed bytes ----------------------------- */

struct server {
    int fd;
    char path[108];
    const char *answer; /* NULL = none, the connection stays open */
    pthread_t thread;
};

static void *serve(void *aux)
{
    struct server *server = aux;
    int fd = accept(server->fd, NULL, NULL);
    char bytes[4096];

    if (read(fd, bytes, sizeof(bytes)) > 0 && server->answer)
        (void)!write(fd, server->answer, strlen(server->answer));
    if (!server->answer)
        (void)!read(fd, bytes, sizeof(bytes)); /* until the client goes */
    close(fd);
    return NULL;
}

static void listen_at(struct server *server, const char *answer)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    snprintf(server->path, sizeof(server->path), "%s/control.sock", unit_directory());
    (void)unlink(server->path);
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", server->path);
    server->answer = answer;
    server->fd = socket(AF_UNIX, SOCK_STREAM, 0);
    UNIT_EQ(bind(server->fd, (struct sockaddr *)&address, sizeof(address)), 0);
    UNIT_EQ(listen(server->fd, 1), 0);
    pthread_create(&server->thread, NULL, serve, server);
}

/* One call to a server that answers so; the result in *result, the error in unit_err. */
static int call(const char *answer, int64_t timeout_us, struct json_object **result)
{
    struct control_client *client = NULL;
    struct server server = {.fd = -1};
    int64_t due_us = clock_monotonic_us() + timeout_us;
    int outcome;

    listen_at(&server, answer);
    UNIT_OK(control_connect(&client, server.path, due_us, &unit_err));
    err_clear(&unit_err);
    outcome = control_call(client, "status", NULL, NULL, due_us, result, &unit_err);
    control_close(client);
    pthread_join(server.thread, NULL);
    close(server.fd);
    return outcome;
}

UNIT_TEST(calls, "a call gives the result that the agent sends")
{
    _cleanup_(json_putp) struct json_object *result = NULL;

    UNIT_EQ(call("{\"id\":1,\"result\":{\"up\":true}}\n", 30 * USEC_PER_SEC, &result), 0);
    UNIT_TRUE(json_get_bool(result, "up", false));
}

UNIT_TEST(bad_answers, "silence, a closed connection and nonsense are errors that say which")
{
    struct json_object *result = NULL;

    UNIT_EQ(call(NULL, 50000, &result), -1);
    UNIT_EQ(unit_err.code, ERR_TIMEOUT);
    UNIT_EQ(call("", 30 * USEC_PER_SEC, &result), -1);
    UNIT_EQ(unit_err.code, ERR_UNREACHABLE);
    UNIT_EQ(call("{\"id\":1,\"res", 30 * USEC_PER_SEC, &result), -1);
    UNIT_EQ(unit_err.code, ERR_UNREACHABLE);
    UNIT_EQ(call("hello\n", 30 * USEC_PER_SEC, &result), -1);
    UNIT_EQ(unit_err.code, ERR_PARSE);
    UNIT_EQ(call("{\"id\":9,\"result\":1}\n", 30 * USEC_PER_SEC, &result), -1);
    UNIT_EQ(unit_err.code, ERR_PARSE);
}

UNIT_TEST(nobody, "where nobody listens the error says so, and an overlong path is refused")
{
    _cleanup_(str_freep) char *path = text_format("%s/none.sock", unit_directory());
    char longest[200];
    struct control_client *client = NULL;
    int64_t due_us = clock_monotonic_us() + USEC_PER_SEC;

    UNIT_FAILS(control_connect(&client, path, due_us, &unit_err), ERR_UNREACHABLE);
    UNIT_HAS(unit_err.text, "is computed running?");
    memset(longest, 'x', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    UNIT_EQ(control_connect(&client, longest, due_us, &unit_err), -1);
    UNIT_TRUE(client == NULL);
}
