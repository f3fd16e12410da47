/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A REST service of the control plane `nova`, as the code behind cloud/cloud_provider.h uses it: a loop, a
 * server that the test scripts (tests/unit/fake_http.h), a session with it, and the end of a call.
 */
#pragma once

#include "cloud/nova.h"
#include "tests/unit/fake_http.h"
#include "tests/unit/unit.h"

enum { REST_TURNS_MAX = 600, REST_TURN_MS = 20 };

/* What a call was told: the last of `calls`. */
struct rest_end {
    unsigned calls;
    struct err e;
    struct json_object *result;
};

struct rest_world {
    struct loop *loop;
    struct fake_http *server; /* with a Keystone */
    struct conf *conf;
    struct nova nova;
    struct cloud cloud; /* host "here" */
    enum service_kind kind;
    struct json_object *context; /* of request req-1 */
    struct rest_end end;
};

/* Loop and server, no session yet. */
struct rest_world *rest_world_new(void);
void rest_world_free(struct rest_world *w);
/* A session with the service of that group of options, and two options more; names may be NULL. */
void rest_world_open(struct rest_world *w, enum service_kind kind, const char *group,
                     const char *option, const char *value, const char *option2,
                     const char *value2);
/* The session ends; what the test made of it must have gone. */
void rest_world_close(struct rest_world *w);
/* An answer that is given once. */
void rest_world_answer(struct rest_world *w, const char *method, const char *path, int status,
                       const char *body);
/* Until w->end was told so often. */
void rest_world_run(struct rest_world *w, unsigned calls);

/* As cloud_done_fn and cloud_result_fn; aux is a rest_end. */
void rest_done(void *aux, const struct err *failure);
void rest_result(void *aux, struct json_object *result, const struct err *failure);
