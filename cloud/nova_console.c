/* SPDX-License-Identifier: Apache-2.0 */
#include "cloud/nova_console.h"

#include <stdlib.h>

#include "lib/json.h"
#include "lib/text.h"

struct console {
    struct object *token;
    cloud_result_fn done;
    void *aux;
};

/* As ConsoleAuthToken.access_url makes it: noVNC takes the token inside its path. */
static char *access_url(const struct object *token, const char *text)
{
    const char *base = object_string(token, "access_url_base", "");

    if (text_equal(object_string(token, "console_type", NULL), "novnc"))
        return text_format("%s?path=%%3Ftoken%%3D%s", base, text);
    return text_format("%s?token=%s", base, text);
}

static void authorized(void *aux, struct json_object *result, const struct err *failure)
{
    struct console console = *(struct console *)aux;
    const char *text = json_get_string(result, "result", NULL);
    struct err e = ERR_INIT;

    free(aux);
    if (!failure && !text) {
        err_set(&e, ERR_PARSE, "nova-conductor's answer has no console token");
        failure = &e;
    }
    if (!failure) {
        _cleanup_(json_putp) struct json_object *o = json_object_new_object();
        _cleanup_(str_freep) char *url = access_url(console.token, text);
        json_add_string(o, "host", object_string(console.token, "host", NULL));
        json_add_int(o, "port", object_int(console.token, "port", 0));
        json_add_string(o, "internal_access_path", NULL);
        json_add_string(o, "token", text);
        json_add_string(o, "access_url", url);
        console.done(console.aux, o, NULL);
    } else {
        console.done(console.aux, NULL, failure);
    }
    object_free(console.token);
}

void nova_console_token(struct cloud *cloud, struct json_object *context,
                        const struct cloud_console *request, cloud_result_fn done, void *aux)
{
    struct console *console = NEW(struct console);
    struct object *token = conductor_object_new("ConsoleAuthToken");
    struct json_object *args = json_object_new_array();

    object_set_string(token, "console_type", request->type);
    object_set_string(token, "host", request->host);
    object_set_int(token, "port", request->port);
    object_set_string(token, "internal_access_path", NULL);
    object_set_string(token, "instance_uuid", request->instance_uuid);
    object_set_string(token, "access_url_base", request->access_url_base);
    json_object_array_add(args,
                          json_object_new_int64(conf_int(cloud->conf, CONF_consoleauth_token_ttl)));
    console->token = token;
    console->done = done;
    console->aux = aux;
    conductor_object_action(nova_of(cloud)->conductor, context, object_to_json(token), "authorize",
                            args, NULL, authorized, console);
}

void nova_console_tokens_clean(struct cloud *cloud, struct json_object *context,
                               const char *instance_uuid)
{
    struct json_object *args = json_object_new_array();

    json_object_array_add(args, json_object_new_string(instance_uuid));
    conductor_class_action(nova_of(cloud)->conductor, context, "ConsoleAuthToken",
                           "clean_console_auths_for_instance", args, NULL, NULL, NULL);
}
