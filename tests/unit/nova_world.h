/* SPDX-License-Identifier: Apache-2.0 */
/* The control plane `nova` with a conductor that the test plays, and without REST services. */
#pragma once

#include "cloud/nova.h"
#include "tests/unit/capture.h"
#include "tests/unit/fake_rpc.h"
#include "tests/unit/unit.h"

struct nova_world {
    struct loop *loop;
    struct conf *conf;
    struct rpc *rpc;
    struct cloud *cloud;
    char *directory; /* state_path and the agent's own */
};
struct nova_world *nova_world_open(void);
void nova_world_close(struct nova_world *w);
/* Time passes; what is due runs. */
void nova_world_pass(struct nova_world *w, int64_t us);

/* The oldest waiting object call "Class.method"; its absence is a failure of the test. */
struct fake_call *nova_world_call(struct nova_world *w, const char *what);
/* Answers it with the recorded reply of that file: result or failure. */
void nova_world_answer(struct nova_world *w, const char *what, const char *reply);
/* Answers an object action: [updates, result]; both are consumed. */
void nova_world_acted(struct nova_world *w, const char *what, struct json_object *updates,
                      struct json_object *result);
/* Data of the object of an object action; borrowed. */
struct json_object *nova_world_data(const struct fake_call *call);
/* True if the change set is exactly these names, divided by blanks, in any order. */
bool nova_world_changed(const struct fake_call *call, const char *names);
