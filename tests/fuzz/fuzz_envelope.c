/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A message body of any kind: envelope, request with dispatch and argument checks, reply, failure. What
 * was understood must survive being written and read again.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lib/json.h"
#include "lib/text.h"
#include "rpc/envelope.h"
#include "rpc/failure.h"
#include "rpc/methods.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(int condition)
{
    if (!condition)
        abort();
}

static void round_trip(struct json_object *inner)
{
    size_t length;
    _cleanup_(str_freep) char *body = envelope_encode(inner, &length);
    _cleanup_(json_putp) struct json_object *again = NULL;
    struct err e = ERR_INIT;
    /* A message that was just below the depth limit in its bare form still is in an envelope. */
    expect(envelope_decode(body, length, &again, &e) == 0);
    expect(json_same(inner, again));
}

static void as_request(struct json_object *inner)
{
    struct envelope_request request;
    const struct method *method = NULL;
    struct err e = ERR_INIT;
    int major = 0, minor = 0;
    if (envelope_read_request(inner, &request, &e)) {
        expect(e.code != ERR_NONE && e.text[0]);
        return;
    }
    if (!methods_find(request.namespace_name, request.version, request.method, true, &method, &e)) {
        expect(envelope_parse_version(request.version, &major, &minor));
        if (method)
            (void)methods_check_args(method, major, request.args, &e);
    }
    _cleanup_(json_putp) struct json_object *made = envelope_make_request(&request);
    struct envelope_request again;
    expect(envelope_read_request(made, &again, NULL) == 0);
    expect(text_equal(request.method, again.method) &&
           json_same(request.args, again.args) + !request.args);
    expect(json_same(request.context, again.context));
    envelope_request_clear(&again);
    envelope_request_clear(&request);
}

static void as_reply(struct json_object *inner)
{
    struct envelope_reply reply;
    struct err e = ERR_INIT;
    if (envelope_read_reply(inner, &reply, &e))
        return;
    if (reply.failure) {
        failure_decode(reply.failure, &e);
        expect(e.code != ERR_NONE);
        _cleanup_(str_freep) char *failure = failure_encode(&e);
        struct err again = ERR_INIT;
        failure_decode(failure, &again);
        expect(text_equal(err_wire_class(&e), err_wire_class(&again)));
    }
    _cleanup_(json_putp) struct json_object *made = envelope_make_reply(&reply);
    expect(json_same(json_get(made, "result"), reply.result));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    _cleanup_(json_putp) struct json_object *inner = NULL;
    struct err e = ERR_INIT;
    if (envelope_decode((const char *)data, size, &inner, &e)) {
        expect(e.code == ERR_PARSE && e.text[0]);
        return 0;
    }
    round_trip(inner);
    as_request(inner);
    as_reply(inner);
    return 0;
}
