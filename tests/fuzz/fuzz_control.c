/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes at the control socket: lines out of pieces of any size, requests and replies out of lines, the
 * arguments of `set`. The first byte is the size of the pieces.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/settings.h"
#include "lib/control.h"
#include "lib/json.h"
#include "lib/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { LIMIT = 4096 };

static void expect(int condition)
{
    if (!condition)
        abort();
}

/* What the parser took is what the other side's maker makes. */
static void as_request(struct json_object *message)
{
    struct control_request request, again;
    struct err e = ERR_INIT;

    if (control_request_parse(message, &request, &e) < 0) {
        expect(e.code == ERR_PARSE && e.text[0]);
        return;
    }
    expect(json_object_is_type(request.args, json_type_object));
    _cleanup_(json_putp) struct json_object *made =
        control_request_new(request.id, request.command, json_object_get(request.args),
                            request.host[0] ? request.host : NULL);
    expect(control_request_parse(made, &again, &e) == 0);
    expect(again.id == request.id && text_equal(again.command, request.command) &&
           text_equal(again.host, request.host) && json_same(again.args, request.args));
    control_request_clear(&again);
    control_request_clear(&request);
}

static void as_reply(struct json_object *message)
{
    _cleanup_(json_putp) struct json_object *result = NULL;
    struct err e = ERR_INIT;

    if (control_reply_parse(message, json_get_int(message, "id", 0), &result, &e) == 0)
        return;
    expect(e.code != ERR_NONE && e.text[0]);
    _cleanup_(json_putp) struct json_object *made = control_error_new(1, &e);
    _cleanup_(str_freep) char *line = control_line(made);
    expect(line && strchr(line, '\n') == line + strlen(line) - 1);
}

static void as_settings(struct json_object *message)
{
    static struct conf *conf;
    struct settings settings = {.downtime_ms = 500}, before = settings;
    struct err e = ERR_INIT;

    if (!conf)
        conf = conf_for_test("DEFAULT.debug", "false", NULL);
    if (settings_change(conf, &settings, json_get(message, "args"), &e) == 0)
        return;
    expect(e.code != ERR_NONE && e.text[0]);
    expect(memcmp(&before, &settings, sizeof(before)) == 0);
}

static bool take_line(struct control_buffer *buffer, bool *bad)
{
    _cleanup_(json_putp) struct json_object *message = NULL;
    struct err e = ERR_INIT;
    int r = control_buffer_next(buffer, &message, &e);

    *bad = r < 0;
    if (r <= 0)
        return false;
    expect(json_object_is_type(message, json_type_object));
    as_request(message);
    as_reply(message);
    as_settings(message);
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct control_buffer buffer = {.limit = LIMIT};
    struct err e = ERR_INIT;
    size_t piece = size > 0 ? 1 + data[0] : 1;
    bool bad = false;

    for (size_t at = 1; at < size && !bad; at += piece) {
        size_t n = size - at < piece ? size - at : piece;
        if (control_buffer_add(&buffer, data + at, n, &e) < 0) {
            expect(e.code == ERR_PARSE && e.text[0]);
            break;
        }
        while (take_line(&buffer, &bad))
            ;
    }
    control_buffer_free(&buffer);
    return 0;
}
