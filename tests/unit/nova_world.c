/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/nova_world.h"

#include <sys/stat.h>

#include "cloud/nova_groups.h"
#include "cloud/nova_node.h"
#include "lib/clock.h"
#include "lib/json.h"
#include "rpc/failure.h"

static struct cloud_ops ops;

static int open_bare(struct cloud *cloud, struct err *e)
{
    struct nova *nova = NEW(struct nova);
    _cleanup_(str_freep) char *path =
        text_format("%s/migrations.sqlite", conf_string(cloud->conf, CONF_agent_state_directory));

    cloud->state = nova;
    nova->cloud = cloud;
    nova->conductor = conductor_new(cloud->loop, cloud->conf, cloud->rpc);
    nova->node = nova_node_new(nova);
    nova->groups = nova_groups_new(nova);
    return store_open(&nova->store, cloud->loop, path, e);
}

struct nova_world *nova_world_open(void)
{
    static unsigned number;
    struct nova_world *w = NEW(struct nova_world);

    clock_fake_set(1000 * USEC_PER_SEC);
    w->directory = text_format("%s/%u", unit_directory(), number++);
    UNIT_EQ(mkdir(w->directory, 0700), 0);
    w->conf = conf_for_test("DEFAULT.host", "os-hosta", "DEFAULT.state_path", w->directory,
                            "agent.state_directory", w->directory, NULL);
    UNIT_OK(loop_new(&w->loop, &unit_err));
    w->rpc = fake_rpc_new();
    ops = cloud_nova_ops;
    ops.open = open_bare;
    UNIT_OK(cloud_new_of(&w->cloud, &ops, w->loop, w->conf, w->rpc, "os-hosta", &unit_err));
    return w;
}

void nova_world_close(struct nova_world *w)
{
    if (w->rpc)
        fake_rpc_free(w->rpc);
    clock_fake_stop();
    cloud_free(w->cloud);
    conf_unref(w->conf);
    loop_free(w->loop);
    free(w->directory);
    free(w);
}

void nova_world_pass(struct nova_world *w, int64_t us)
{
    clock_fake_set(clock_monotonic_us() + us);
    /* ends are told by timers, which the ends of others arm */
    for (int i = 0; i < 4; i++)
        UNIT_EQ(loop_turn(w->loop, 0, &unit_err) < 0, false);
}

struct fake_call *nova_world_call(struct nova_world *w, const char *what)
{
    nova_world_pass(w, 0);
    struct fake_call *call = fake_rpc_waiting_object(w->rpc, what);
    struct fake_call *other = fake_rpc_waiting_named(w->rpc, NULL);
    unit_check(call != NULL, __LINE__, __FILE__, "nobody asked for %s; the oldest open call is %s",
               what,
               other ? json_get_string(other->args, "objmethod", other->name) : "none at all");
    return call;
}

void nova_world_answer(struct nova_world *w, const char *what, const char *reply)
{
    _cleanup_(json_putp) struct json_object *inner = capture_load(reply);
    struct fake_call *call = nova_world_call(w, what);
    const char *text = json_get_string(inner, "failure", NULL);
    struct err e = ERR_INIT;

    if (!UNIT_TRUE(inner != NULL) || !call)
        return;
    if (text) {
        failure_decode(text, &e);
        fake_rpc_fail_as(call, err_wire_class(&e), e.text);
    } else {
        fake_rpc_answer(call, json_copy(json_get(inner, "result")));
    }
    nova_world_pass(w, 0);
}

void nova_world_acted(struct nova_world *w, const char *what, struct json_object *updates,
                      struct json_object *result)
{
    struct fake_call *call = nova_world_call(w, what);
    struct json_object *pair = json_object_new_array();

    json_object_array_add(pair, updates ? updates : json_object_new_object());
    json_object_array_add(pair, result);
    if (call)
        fake_rpc_answer(call, json_object_get(pair));
    json_object_put(pair);
    nova_world_pass(w, 0);
}

struct json_object *nova_world_data(const struct fake_call *call)
{
    return call ? json_get(json_get(call->args, "objinst"), "nova_object.data") : NULL;
}

bool nova_world_changed(const struct fake_call *call, const char *names)
{
    struct json_object *changes =
        call ? json_get(json_get(call->args, "objinst"), "nova_object.changes") : NULL;
    char **wanted = text_split(names, ' ');
    size_t count = text_vector_length(wanted), found = 0;

    for (size_t i = 0; changes && i < json_object_array_length(changes); i++)
        for (size_t k = 0; k < count; k++)
            found += text_equal(json_object_get_string(json_object_array_get_idx(changes, i)),
                                wanted[k]);
    text_vector_free(wanted);
    return unit_check(changes && found == count && json_object_array_length(changes) == count,
                      __LINE__, __FILE__, "changes are %s, not %s",
                      changes ? json_object_to_json_string(changes) : "none", names);
}
