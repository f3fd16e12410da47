/* SPDX-License-Identifier: Apache-2.0 */
/* A migration as a journal record and back: what a restarted agent needs to finish it or take it back. */
#include "agent/migration.h"

#include <stdio.h>

#include "lib/json.h"

enum { RECORD_VERSION = 1 };

static void add_objects(struct json_object *o, const struct migration *m)
{
    json_add(o, "context", json_copy(m->context));
    json_add(o, "instance", instance_to_json(m->instance));
    json_add(o, "migration", m->record ? migration_record_to_json(m->record) : NULL);
    json_add(o, "migrate_data", m->data ? migrate_data_to_json(m->data) : NULL);
    json_add(o, "guest", m->guest ? virt_guest_to_json(m->guest) : NULL);
}

static void add_flags(struct json_object *o, const struct migration *m)
{
    json_add_bool(o, "block_migration", m->block_migration);
    json_add_bool(o, "initially_paused", m->initially_paused);
    json_add_bool(o, "destination_prepared", m->destination_prepared);
    json_add_bool(o, "abort_requested", m->abort_requested);
    json_add_bool(o, "suspended_by_us", m->suspended_by_us);
    json_add_bool(o, "post_copy_running", m->post_copy_running);
    json_add_bool(o, "post_copy_possible", m->post_copy_possible);
    json_add_bool(o, "peer_is_ours", m->peer_is_ours);
    json_add_string(o, "final_state", machine_state_name(m->final_state));
}

struct json_object *migration_to_record(const struct migration *m)
{
    struct json_object *o = json_object_new_object();

    json_add_int(o, "version", RECORD_VERSION);
    json_add_string(o, "uuid", m->uuid);
    json_add_string(o, "role", migration_role_name(m->role));
    json_add_string(o, "state", machine_state_name(m->state));
    json_add_int(o, "id", m->id);
    json_add_int(o, "created_us", m->created_us);
    json_add_string(o, "status", m->status);
    json_add_string(o, "message", m->message);
    json_add_string(o, "source_host", m->source_host);
    json_add_string(o, "destination_host", m->destination_host);
    json_add_string(o, "switchover_key", m->switchover_key);
    json_add(o, "settings", settings_to_json(&m->settings));
    json_add(o, "undo", m->undo ? undo_to_json(m->undo) : NULL);
    add_flags(o, m);
    add_objects(o, m);
    return o;
}

static void read_flags(struct migration *m, struct json_object *o)
{
    m->block_migration = json_get_bool(o, "block_migration", false);
    m->initially_paused = json_get_bool(o, "initially_paused", false);
    m->destination_prepared = json_get_bool(o, "destination_prepared", false);
    m->abort_requested = json_get_bool(o, "abort_requested", false);
    m->suspended_by_us = json_get_bool(o, "suspended_by_us", false);
    m->post_copy_running = json_get_bool(o, "post_copy_running", false);
    m->post_copy_possible = json_get_bool(o, "post_copy_possible", false);
    m->peer_is_ours = json_get_bool(o, "peer_is_ours", false);
    if (machine_state_parse(json_get_string(o, "final_state", ""), &m->final_state) < 0)
        m->final_state = MACHINE_SOURCE_ERROR;
}

static int read_objects(struct migration *m, struct json_object *o, struct err *e)
{
    struct json_object *record = json_get(o, "migration");
    struct json_object *data = json_get(o, "migrate_data");
    struct json_object *guest = json_get(o, "guest");

    m->context = json_object_get(json_get(o, "context"));
    if (record && migration_record_from_json(record, &m->record, e) < 0)
        return -1;
    if (data && migrate_data_from_json(data, &m->data, e) < 0)
        return -1;
    if (guest && virt_guest_from_json(guest, &m->guest, e) < 0)
        return -1;
    if (!json_object_is_type(m->context, json_type_object) || !m->data ||
        (m->role == MIGRATION_SOURCE && !m->record))
        return err_set(e, ERR_JOURNAL, "the journal record of migration %s is not whole", m->uuid);
    return 0;
}

/* The undo steps that were saved; they are run from a list without a way to save. */
static int read_undo(struct migration *m, struct json_object *o, struct err *e)
{
    struct json_object *steps = json_get(o, "undo");

    if (!steps)
        return 0;
    m->undo = undo_new(m->agent->undo_handlers, NULL, NULL);
    return undo_from_json(m->undo, steps, e);
}

static int read_texts(struct migration *m, struct json_object *o, struct err *e)
{
    const char *state, *key = json_get_string(o, "switchover_key", "");

    if (json_need_string(o, "state", &state, e) < 0)
        return -1;
    if (machine_state_parse(state, &m->state) < 0)
        return err_set(e, ERR_JOURNAL,
                       "the journal record of migration %s has the unknown state %s", m->uuid,
                       state);
    if ((m->state >= MACHINE_DESTINATION_ACCEPTED) != (m->role == MIGRATION_DESTINATION))
        return err_set(e, ERR_JOURNAL,
                       "the journal record of migration %s has the role %s and the state %s",
                       m->uuid, migration_role_name(m->role), state);
    m->id = json_get_int(o, "id", 0);
    m->created_us = json_get_int(o, "created_us", m->created_us);
    snprintf(m->status, sizeof(m->status), "%s", json_get_string(o, "status", ""));
    snprintf(m->switchover_key, sizeof(m->switchover_key), "%s", key);
    m->message = text_dup(json_get_string(o, "message", NULL));
    m->source_host = text_dup(json_get_string(o, "source_host", NULL));
    m->destination_host = text_dup(json_get_string(o, "destination_host", NULL));
    if (settings_from_json(json_get(o, "settings"), &m->settings, e) < 0)
        return -1;
    m->bandwidth_mib = m->settings.bandwidth_mib; /* at most: a share is made anew */
    return 0;
}

int migration_from_record(struct agent *agent, struct json_object *record, struct migration **out,
                          struct err *e)
{
    const char *uuid, *role;
    int64_t version;
    _cleanup_(instance_freep) struct instance *instance = NULL;

    if (json_need_int(record, "version", &version, e) < 0 ||
        json_need_string(record, "uuid", &uuid, e) < 0 ||
        json_need_string(record, "role", &role, e) < 0 ||
        text_check_uuid(uuid, "migration uuid", e) < 0 ||
        instance_from_json(json_get(record, "instance"), &instance, e) < 0)
        return -1;
    if (version != RECORD_VERSION)
        return err_set(e, ERR_JOURNAL,
                       "journal record of version %lld; this agent reads version %d",
                       (long long)version, RECORD_VERSION);
    if (!text_equal(role, "source") && !text_equal(role, "destination"))
        return err_set(e, ERR_JOURNAL,
                       "the journal record of migration %s has a role that is neither source nor "
                       "destination",
                       uuid);
    struct migration *m =
        migration_new(agent, text_equal(role, "source") ? MIGRATION_SOURCE : MIGRATION_DESTINATION,
                      uuid, instance);
    if (read_texts(m, record, e) < 0 || read_objects(m, record, e) < 0 ||
        read_undo(m, record, e) < 0) {
        migration_forget(m);
        return -1;
    }
    read_flags(m, record);
    m->bindings.active = BINDINGS_UNKNOWN; /* the former agent may have asked for either */
    if (m->guest)
        text_replace(&m->instance_name, m->guest->name);
    *out = m;
    return 0;
}
