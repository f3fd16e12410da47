/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/rest_world.h"

#include "lib/json.h"
#include "lib/text.h"

struct rest_world *rest_world_new(void)
{
    static char host[] = "here";
    struct rest_world *w = NEW(struct rest_world);

    if (loop_new(&w->loop, &unit_err) < 0)
        abort();
    w->server = fake_http_new(NULL);
    fake_http_keystone(w->server);
    w->nova.cloud = &w->cloud;
    w->cloud = (struct cloud){.loop = w->loop, .host = host, .state = &w->nova};
    w->context = json_object_new_object();
    json_add_string(w->context, "request_id", "req-1");
    return w;
}

void rest_world_free(struct rest_world *w)
{
    rest_world_close(w);
    fake_http_free(w->server);
    json_object_put(w->context);
    json_object_put(w->end.result);
    loop_free(w->loop);
    free(w);
}

void rest_world_open(struct rest_world *w, enum service_kind kind, const char *group,
                     const char *option, const char *value, const char *option2, const char *value2)
{
    _cleanup_(str_freep) char *type = text_format("%s.auth_type", group);
    _cleanup_(str_freep) char *url = text_format("%s.auth_url", group);
    _cleanup_(str_freep) char *user = text_format("%s.username", group);
    _cleanup_(str_freep) char *password = text_format("%s.password", group);
    _cleanup_(str_freep) char *project = text_format("%s.project_name", group);

    w->kind = kind;
    w->conf = conf_for_test(type, "password", url, fake_http_url(w->server), user, "nova", password,
                            "hush", project, "service", option, value, option2, value2, NULL);
    w->cloud.conf = w->conf;
    UNIT_OK(http_new(&w->nova.http, w->loop, &unit_err));
    UNIT_OK(service_new(&w->nova.services[kind], kind, w->nova.http, w->loop, w->conf, &unit_err));
}

void rest_world_close(struct rest_world *w)
{
    service_free(STEAL(w->nova.services[w->kind]));
    http_free(STEAL(w->nova.http));
    conf_unref(STEAL(w->conf));
    w->cloud.conf = NULL;
}

void rest_world_answer(struct rest_world *w, const char *method, const char *path, int status,
                       const char *body)
{
    const struct fake_answer answer = {
        .method = method, .path = path, .status = status, .body = body};

    fake_http_add(w->server, &answer);
}

void rest_world_run(struct rest_world *w, unsigned calls)
{
    for (int i = 0; i < REST_TURNS_MAX && w->end.calls < calls; i++)
        if (loop_turn(w->loop, REST_TURN_MS, &unit_err) < 0)
            break;
    UNIT_EQ(w->end.calls, calls);
}

void rest_result(void *aux, struct json_object *result, const struct err *failure)
{
    struct rest_end *end = aux;

    end->calls++;
    json_object_put(end->result);
    end->result = json_object_get(result);
    if (failure)
        end->e = *failure;
}

void rest_done(void *aux, const struct err *failure)
{
    rest_result(aux, NULL, failure);
}
