/* SPDX-License-Identifier: Apache-2.0 */
/* The commands about the configuration that the agent runs with. */
#include "agent/commands_internal.h"

#include "conf/load.h"
#include "lib/json.h"

/* One option as people read it; a secret stays "***" (conf_text). */
static struct json_object *option_to_json(const struct conf *conf, enum conf_id id)
{
    const struct conf_row *row = conf_row(id);
    struct json_object *o = json_object_new_object();
    _cleanup_(str_freep) char *name = text_format("%s.%s", row->group, row->name);
    _cleanup_(str_freep) char *value = conf_text(conf, id);

    json_add_string(o, "name", name);
    json_add_string(o, "value", value);
    json_add_string(o, "default", row->default_text);
    json_add_string(o, "source", conf_origin(conf, id));
    json_add_bool(o, "reload", (row->flags & CONF_RELOAD) != 0);
    return o;
}

static int find_option(const struct command *command, enum conf_id *out, struct err *e)
{
    const char *name;

    if (command_need_string(command, "name", &name, e) < 0)
        return -1;
    enum conf_id id = conf_find_dotted(name);
    _cleanup_(str_freep) char *shown = text_escape(name, 80);
    if (id == CONF_COUNT)
        return err_set(e, ERR_USAGE, "there is no option \"%s\"; conf-list tells all", shown);
    *out = id;
    return 0;
}

void command_conf_get(struct command *command)
{
    struct err e = ERR_INIT;
    enum conf_id id = CONF_COUNT;

    if (find_option(command, &id, &e) < 0)
        command_fail(command, &e);
    else
        command_reply(command, option_to_json(command->agent->conf, id));
}

void command_conf_list(struct command *command)
{
    struct json_object *o = json_object_new_object(), *list = json_object_new_array();

    for (unsigned id = 0; id < CONF_COUNT; id++)
        json_object_array_add(list, option_to_json(command->agent->conf, (enum conf_id)id));
    json_add(o, "options", list);
    command_reply(command, o);
}

void command_conf_reload(struct command *command)
{
    struct agent *agent = command->agent;
    struct json_object *report = NULL;
    struct err e = ERR_INIT;

    if (!agent->reload)
        err_set(&e, ERR_NOT_IMPLEMENTED, "this agent was started without configuration files");
    if (!agent->reload || agent->reload(agent, &report, &e) < 0)
        command_fail(command, &e);
    else
        command_reply(command, report);
}
