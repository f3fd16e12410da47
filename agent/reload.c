/* SPDX-License-Identifier: Apache-2.0 */
/* Reading the configuration again: parsed and validated as a whole, then swapped, or nothing changes. */
#include "agent/migration.h"

#include "conf/load.h"
#include "lib/json.h"
#include "lib/log.h"
#include "lib/text.h"

LOG_MODULE(reload);

static struct json_object *names_of(const bool flags[CONF_COUNT])
{
    struct json_object *names = json_object_new_array();

    for (unsigned id = 0; id < CONF_COUNT; id++) {
        if (!flags[id])
            continue;
        const struct conf_row *row = conf_row((enum conf_id)id);
        _cleanup_(str_freep) char *name = text_format("%s.%s", row->group, row->name);
        json_object_array_add(names, json_object_new_string(name));
    }
    return names;
}

static void log_names(const char *what, struct json_object *names)
{
    for (size_t i = 0; i < json_object_array_length(names); i++)
        log_info("%s: %s", what, json_object_get_string(json_object_array_get_idx(names, i)));
}

int agent_reload(struct agent *agent, struct json_object **report, struct err *e)
{
    bool changed[CONF_COUNT], restart[CONF_COUNT];
    _cleanup_(conf_unrefp) struct conf *fresh = NULL;

    if (conf_load(agent->sources, &fresh, NULL, e) < 0)
        return err_prefix(e, "nothing was changed: ");
    struct conf *merged = conf_reload_merge(agent->conf, fresh, changed, restart);
    virt_set_conf(agent->virt, merged);
    net_set_conf(agent->net, merged);
    rpc_reload(agent->rpc, merged);
    cloud_reload(agent->cloud, merged);
    if (changed[CONF_DEFAULT_debug]) /* else, what `computectl log-level` set stays */
        log_set_level(NULL,
                      conf_bool(merged, CONF_DEFAULT_debug) ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO);
    conf_unref(agent->conf);
    agent->conf = merged;
    source_next(agent); /* there may be more places now */
    struct err line = ERR_INIT;
    if (agent_switchover_open(agent, &line) < 0) /* everything else has been taken over */
        log_err(LOG_LEVEL_ERROR, &line, "net.switchover has no effect");
    struct json_object *o = json_object_new_object();
    json_add(o, "changed", names_of(changed));
    json_add(o, "needs_restart", names_of(restart));
    log_names("changed", json_get(o, "changed"));
    log_names("changed in the file, but only a restart takes it", json_get(o, "needs_restart"));
    *report = o;
    return 0;
}
