/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/checks.h"

#include <stdarg.h>
#include <stdio.h>

#include "agent/carrying.h"
#include "lib/json.h"
#include "virt/storage.h"

/* A rule: 0, or -1 with why not. *found (the caller frees) gets what was found; found may be NULL. */
typedef int (*rule_fn)(const struct check_subject *s, char **found, struct err *e);

static int say(char **found, const char *format, ...) _printf_(2, 3);
static int say(char **found, const char *format, ...)
{
    char text[ERR_TEXT_SIZE];
    va_list args;

    if (!found)
        return 0;
    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    *found = text_dup(text);
    return 0;
}

/* ---- the source ---- */

static int rule_source_goes_on(const struct check_subject *s, char **found, struct err *e)
{
    if (s->agent->draining)
        return err_set(e, ERR_MIGRATION, "%s is stopping and takes no new migration", s->host);
    return say(found, "it takes migrations");
}

static int rule_destination_name(const struct check_subject *s, char **found, struct err *e)
{
    if (text_check_hostname(s->destination, "destination", e) < 0)
        return -1;
    if (text_equal(s->destination, s->host))
        return err_set(e, ERR_PRECHECK,
                       "instance %s is on %s already: destination and source are the same",
                       instance_uuid(s->instance), s->destination);
    return say(found, "%s is another host", s->destination);
}

static int other_migration(const struct check_subject *s, enum migration_role role, char **found,
                           struct err *e)
{
    const struct migration *other =
        migration_find_instance(s->agent, role, instance_uuid(s->instance));

    if (other)
        return err_set(e, ERR_INSTANCE_STATE, "instance %s: migration %s is %s on %s already",
                       instance_uuid(s->instance), other->uuid, machine_state_text(other->state),
                       s->host);
    return say(found, "none is under way");
}

static int rule_no_other_from_here(const struct check_subject *s, char **found, struct err *e)
{
    const struct migration *arrival =
        migration_find_instance(s->agent, MIGRATION_DESTINATION, instance_uuid(s->instance));

    if (arrival && carrying_is_on(arrival))
        return err_set(e, ERR_INSTANCE_STATE,
                       "instance %s: its network has not followed it from %s to %s yet (migration "
                       "%s)",
                       instance_uuid(s->instance), arrival->source_host, s->host, arrival->uuid);
    return other_migration(s, MIGRATION_SOURCE, found, e);
}

static int rule_state(const struct check_subject *s, char **found, struct err *e)
{
    if (s->guest->state != VIRT_STATE_RUNNING && s->guest->state != VIRT_STATE_PAUSED)
        return err_set(e, ERR_INSTANCE_STATE,
                       "instance %s is %s on %s; only a running or paused guest can be moved live",
                       s->guest->uuid, virt_state_name(s->guest->state), s->host);
    return say(found, "%s", virt_state_name(s->guest->state));
}

/* Nobody would connect the volume on the destination: that is the Nova control plane's work. A network
 * disk without a volume's serial is an image that every host reaches by itself. */
static int rule_volumes(const struct check_subject *s, char **found, struct err *e)
{
    const struct virt_guest *guest = s->guest;

    for (size_t i = 0; i < guest->disk_count; i++)
        if (guest->disks[i].is_volume &&
            (guest->disks[i].serial || !text_equal(guest->disks[i].kind, "network")))
            return err_set(e, ERR_PRECHECK,
                           "instance %s has volume %s attached as %s; this agent moves guests "
                           "with local disks",
                           guest->uuid, guest->disks[i].serial ? guest->disks[i].serial : "?",
                           guest->disks[i].target);
    return say(found, "none is attached");
}

static int rule_interfaces(const struct check_subject *s, char **found, struct err *e)
{
    const struct virt_guest *guest = s->guest;

    for (size_t i = 0; i < guest->interface_count; i++)
        if (!guest->interfaces[i].bridge)
            return err_set(e, ERR_PRECHECK,
                           "interface %s of instance %s is of type %s and on no bridge, so that no "
                           "other host could have it",
                           guest->interfaces[i].mac, guest->name, guest->interfaces[i].type);
    return say(found, "%zu, each on a bridge", guest->interface_count);
}

/* ---- the destination, before the guest is known ---- */

static int rule_names(const struct check_subject *s, char **found, struct err *e)
{
    if (text_check_uuid(instance_uuid(s->instance), "instance uuid", e) < 0 ||
        text_check_hostname(instance_host(s->instance), "host of the instance", e) < 0)
        return -1;
    return say(found, "instance %s of %s", instance_uuid(s->instance), instance_host(s->instance));
}

static int rule_instance_name(const struct check_subject *s, char **found, struct err *e)
{
    if (text_check_uuid(instance_uuid(s->instance), "instance uuid", e) < 0)
        return -1;
    return say(found, "instance %s", instance_uuid(s->instance));
}

static int rule_destination_goes_on(const struct check_subject *s, char **found, struct err *e)
{
    if (s->agent->draining)
        return err_set(e, ERR_PRECHECK, "%s is stopping and takes no guests", s->host);
    return say(found, "it takes guests");
}

static int rule_other_host(const struct check_subject *s, char **found, struct err *e)
{
    if (text_equal(instance_host(s->instance), s->host))
        return err_set(e, ERR_PRECHECK,
                       "instance %s is on %s already: destination and source are the same",
                       instance_uuid(s->instance), s->host);
    return say(found, "%s is another host", instance_host(s->instance));
}

static int rule_pci(const struct check_subject *s, char **found, struct err *e)
{
    if (instance_has_pci_requests(s->instance))
        return err_set(e, ERR_PRECHECK,
                       "instance %s has PCI devices of its flavor; this agent does not move them",
                       instance_uuid(s->instance));
    return say(found, "the flavor asks for none");
}

static int rule_numa(const struct check_subject *s, char **found, struct err *e)
{
    if (instance_numa_topology(s->instance))
        return err_set(e, ERR_PRECHECK,
                       "instance %s has a NUMA topology; this agent does not move such guests yet",
                       instance_uuid(s->instance));
    return say(found, "the instance has none");
}

static int rule_no_other_to_here(const struct check_subject *s, char **found, struct err *e)
{
    return other_migration(s, MIGRATION_DESTINATION, found, e);
}

/* ---- the destination and the guest ---- */

static int rule_host(const struct check_subject *s, char **found _unused_, struct err *e)
{
    return virt_check_destination(s->virt, s->guest, s->warning, e);
}

struct telling {
    struct json_object *list;
    const char *host;
};

static void tell_finding(void *aux, const char *check, enum virt_finding finding, const char *text)
{
    static const enum check_result results[] = {
        [VIRT_FINDING_FITS] = CHECK_PASSED,
        [VIRT_FINDING_WARNS] = CHECK_WARNED,
        [VIRT_FINDING_REFUSES] = CHECK_REFUSED,
        [VIRT_FINDING_UNKNOWN] = CHECK_UNKNOWN,
    };
    const struct telling *telling = aux;

    checks_add(telling->list, telling->host, check, results[finding], text);
}

static void tell_host(const struct check_subject *s, struct json_object *list)
{
    struct telling telling = {list, s->host};
    struct err e = ERR_INIT;

    if (virt_check_destination_each(s->virt, s->guest, tell_finding, &telling, &e) < 0)
        checks_add_outcome(list, s->host, "hypervisor", &e, NULL);
}

static int rule_room(const struct check_subject *s, char **found, struct err *e)
{
    int64_t need = virt_storage_need(s->guest, s->over_commit);
    char need_text[32], free_text[32];

    if (!s->block_migration)
        return say(found, "no disk is copied");
    text_bytes((double)need, need_text, sizeof(need_text));
    text_bytes((double)s->disk_free, free_text, sizeof(free_text));
    if (need > s->disk_free)
        return err_set(e, ERR_NO_SPACE, "instance %s needs %s of disk on %s, %s are free",
                       instance_uuid(s->instance), need_text, s->host, free_text);
    return say(found, "needs %s; %s are free", need_text, free_text);
}

static int rule_directory(const struct check_subject *s, char **found _unused_, struct err *e)
{
    if (!s->own_directory)
        return 0;
    return virt_storage_check_directory(s->conf, instance_uuid(s->instance), false, e);
}

/* The check of a migration takes a leftover away; a plan only sees it. */
static void tell_directory(const struct check_subject *s, struct json_object *list)
{
    const char *found = "it is on storage that both hosts share";
    struct err e = ERR_INIT;

    if (s->own_directory)
        (void)virt_storage_look_directory(s->conf, instance_uuid(s->instance), &found, &e);
    checks_add_outcome(list, s->host, "directory", &e, found);
}

static int rule_ports(const struct check_subject *s, char **found _unused_, struct err *e)
{
    for (size_t i = 0; i < s->ports->count; i++)
        if (net_check(s->net, s->ports->items[i], e) < 0)
            return -1;
    return 0;
}

static void tell_ports(const struct check_subject *s, struct json_object *list)
{
    for (size_t i = 0; i < s->ports->count; i++) {
        const struct net_port *port = s->ports->items[i];
        struct err e = ERR_INIT;
        (void)net_check(s->net, port, &e);
        _cleanup_(str_freep) char *found =
            text_format("port %s: bridge %s can be used", port->port_id, port->bridge);
        checks_add_outcome(list, s->host, "network", &e, found);
    }
}

/* ---- the table ---- */

/* In the order in which they are made. `tell`: for those that have more than one thing to say; NULL = the rule's. */
static const struct {
    unsigned phases;
    const char *check;
    rule_fn rule;
    void (*tell)(const struct check_subject *s, struct json_object *list);
} rows[] = {
    {CHECK_SOURCE_TAKES, "agent", rule_source_goes_on, NULL},
    {CHECK_SOURCE_TAKES, "destination", rule_destination_name, NULL},
    {CHECK_SOURCE_TAKES, "other migration", rule_no_other_from_here, NULL},
    {CHECK_SOURCE_GUEST, "state", rule_state, NULL},
    {CHECK_SOURCE_GUEST, "volumes", rule_volumes, NULL},
    {CHECK_SOURCE_COMMAND, "interfaces", rule_interfaces, NULL},
    {CHECK_DESTINATION_ASKED, "names", rule_names, NULL},
    {CHECK_DESTINATION_TAKES, "instance", rule_instance_name, NULL},
    {CHECK_DESTINATION_ASKED | CHECK_DESTINATION_TAKES, "agent", rule_destination_goes_on, NULL},
    {CHECK_DESTINATION_ASKED, "source", rule_other_host, NULL},
    {CHECK_DESTINATION_ASKED, "PCI devices", rule_pci, NULL},
    {CHECK_DESTINATION_ASKED, "NUMA topology", rule_numa, NULL},
    {CHECK_DESTINATION_TAKES, "other migration", rule_no_other_to_here, NULL},
    {CHECK_DESTINATION_FITS, "hypervisor", rule_host, tell_host},
    {CHECK_DESTINATION_FITS, "disk", rule_room, NULL},
    {CHECK_DESTINATION_FITS, "directory", rule_directory, tell_directory},
    {CHECK_DESTINATION_FITS, "network", rule_ports, tell_ports},
};

int checks_run(enum check_phase phase, const struct check_subject *subject, struct err *e)
{
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if ((rows[i].phases & phase) && rows[i].rule(subject, NULL, e) < 0)
            return -1;
    return 0;
}

static void tell_row(size_t i, const struct check_subject *subject, struct json_object *list)
{
    _cleanup_(str_freep) char *found = NULL;
    struct err e = ERR_INIT;

    if (rows[i].tell) {
        rows[i].tell(subject, list);
        return;
    }
    (void)rows[i].rule(subject, &found, &e);
    checks_add_outcome(list, subject->host, rows[i].check, &e, found);
}

void checks_tell(unsigned phases, const struct check_subject *subject, struct json_object *list)
{
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (rows[i].phases & phases)
            tell_row(i, subject, list);
}

/* ---- what is told ---- */

void checks_add(struct json_object *list, const char *host, const char *check,
                enum check_result result, const char *text)
{
    static const char *const words[] = {
        [CHECK_PASSED] = "passed",
        [CHECK_WARNED] = "warning",
        [CHECK_REFUSED] = "refused",
        [CHECK_UNKNOWN] = "unknown",
    };
    struct json_object *o = json_object_new_object();

    json_add_string(o, "at", host);
    json_add_string(o, "check", check);
    json_add_string(o, "result", words[result]);
    json_add_string(o, "text", text);
    json_object_array_add(list, o);
}

void checks_add_outcome(struct json_object *list, const char *host, const char *check,
                        const struct err *failure, const char *found)
{
    bool refused = err_is_set(failure);

    checks_add(list, host, check, refused ? CHECK_REFUSED : CHECK_PASSED,
               refused ? failure->text : found);
}
