/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Call-through from virt/virt.h to the provider: arguments are asserted, calls and errors counted, fault
 * points passed before and, where something is changed, after the call, and a reference held meanwhile.
 */
#include "virt/virt.h"

#include <assert.h>

#include "lib/fault.h"
#include "lib/text.h"
#include "virt/host_check.h"
#include "virt/virt_call.h"

const char *virt_event_name(enum virt_event event)
{
    static const char *const names[] = {
        [VIRT_EVENT_STARTED] = "started",
        [VIRT_EVENT_PAUSED] = "paused",
        [VIRT_EVENT_PAUSED_MIGRATION] = "paused-migration",
        [VIRT_EVENT_PAUSED_POSTCOPY] = "paused-postcopy",
        [VIRT_EVENT_PAUSED_IO_ERROR] = "paused-io-error",
        [VIRT_EVENT_RESUMED] = "resumed",
        [VIRT_EVENT_RESUMED_MIGRATION] = "resumed-migration",
        [VIRT_EVENT_RESUMED_POSTCOPY] = "resumed-postcopy",
        [VIRT_EVENT_POSTCOPY_FAILED] = "postcopy-failed",
        [VIRT_EVENT_STOPPED] = "stopped",
        [VIRT_EVENT_STOPPED_MIGRATION] = "stopped-migration",
        [VIRT_EVENT_DEFINED] = "defined",
        [VIRT_EVENT_UNDEFINED] = "undefined",
    };
    assert((size_t)event < ARRAY_LEN(names));
    return names[event];
}

void virt_init(struct virt *virt, const struct virt_provider *provider, struct loop *loop,
               const struct virt_callbacks *callbacks, void *aux)
{
    virt->provider = provider;
    virt->loop = loop;
    virt->callbacks = *callbacks;
    virt->aux = aux;
    atomic_init(&virt->references, 1);
    atomic_init(&virt->up, false);
}

struct virt *virt_ref(struct virt *virt)
{
    atomic_fetch_add(&virt->references, 1);
    return virt;
}

void virt_unref(struct virt *virt)
{
    if (virt && atomic_fetch_sub(&virt->references, 1) == 1)
        virt->provider->destroy(virt);
}

void virt_free(struct virt *virt)
{
    if (!virt)
        return;
    virt->callbacks = (struct virt_callbacks){0};
    virt->provider->stop(virt);
    virt_unref(virt);
}

bool virt_is_up(const struct virt *virt)
{
    return atomic_load(&virt->up);
}

void virt_set_conf(struct virt *virt, const struct conf *conf)
{
    virt->provider->set_conf(virt, conf);
}

void virt_tell_connection(struct virt *virt, bool up, const char *why)
{
    if (virt->callbacks.connection)
        virt->callbacks.connection(virt->aux, up, why);
}

void virt_tell_event(struct virt *virt, const char *uuid, enum virt_event event, int64_t at_us)
{
    if (virt->callbacks.event)
        virt->callbacks.event(virt->aux, uuid, event, at_us);
}

void virt_tell_iteration(struct virt *virt, const char *uuid, int iteration, int64_t at_us)
{
    if (virt->callbacks.iteration)
        virt->callbacks.iteration(virt->aux, uuid, iteration, at_us);
}

void virt_tell_job_completed(struct virt *virt, const char *uuid, const struct virt_job *job,
                             int64_t at_us)
{
    if (virt->callbacks.job_completed)
        virt->callbacks.job_completed(virt->aux, uuid, job, at_us);
}

typedef int (*number_fn)(struct virt *virt, const char *uuid, int64_t value, struct err *e);

static int change_number(struct virt *virt, number_fn fn, struct virt_change points,
                         const char *uuid, int64_t value, struct err *e)
{
    assert(virt && uuid && value >= 0);
    _cleanup_(virt_unrefp) struct virt *held = virt_ref(virt);
    if (fault_point(points.before, e) < 0 || virt_counted(fn(held, uuid, value, e)) < 0)
        return -1;
    return fault_point(points.after, e);
}

void virt_host_free(struct virt_host *host)
{
    if (!host)
        return;
    free(host->hostname);
    free(host->uri);
    free(host->type);
    free(host);
}

int virt_host_read(struct virt *virt, struct virt_host **out, struct err *e)
{
    assert(virt && out);
    _cleanup_(virt_unrefp) struct virt *held = virt_ref(virt);
    _cleanup_(virt_host_freep) struct virt_host *host = NEW(struct virt_host);
    if (fault_point("virt.host_read", e) < 0 ||
        virt_counted(virt->provider->host_read(held, host, e)) < 0)
        return -1;
    *out = STEAL(host);
    return 0;
}

int virt_guest_read(struct virt *virt, const char *uuid_or_name, struct virt_guest **out,
                    struct err *e)
{
    assert(virt && uuid_or_name && out);
    _cleanup_(virt_unrefp) struct virt *held = virt_ref(virt);
    struct virt_domain_facts facts = {0};
    if (fault_point("virt.guest_read", e) < 0 ||
        virt_counted(virt->provider->describe(held, uuid_or_name, &facts, e)) < 0)
        return -1;
    _cleanup_(str_freep) char *xml = facts.xml;
    _cleanup_(virt_guest_freep) struct virt_guest *guest = NULL;
    if (virt_guest_from_xml(xml, &guest, e) < 0)
        return err_prefix(e, "domain %s: ", uuid_or_name);
    guest->state = facts.state;
    guest->persistent = facts.persistent;
    guest->hypervisor_version = facts.hypervisor_version;
    guest->libvirt_version = facts.libvirt_version;
    *out = STEAL(guest);
    return 0;
}

int virt_guest_state(struct virt *virt, const char *uuid, enum virt_state *out, struct err *e)
{
    assert(virt && uuid && out);
    _cleanup_(virt_unrefp) struct virt *held = virt_ref(virt);
    if (fault_point("virt.guest_state", e) < 0)
        return -1;
    return virt_counted(virt->provider->state(held, uuid, out, e));
}

int virt_guest_list(struct virt *virt, struct virt_guest ***out, size_t *count, struct err *e)
{
    assert(virt && out && count);
    _cleanup_(virt_unrefp) struct virt *held = virt_ref(virt);
    if (fault_point("virt.guest_list", e) < 0)
        return -1;
    return virt_counted(virt->provider->list(held, out, count, e));
}

void virt_guest_list_free(struct virt_guest **list, size_t count)
{
    for (size_t i = 0; list && i < count; i++)
        virt_guest_free(list[i]);
    free(list);
}

int virt_guest_migratable_xml(struct virt *virt, const char *uuid, char **out, struct err *e)
{
    assert(virt && uuid && out);
    _cleanup_(virt_unrefp) struct virt *held = virt_ref(virt);
    if (fault_point("virt.guest_xml", e) < 0)
        return -1;
    return virt_counted(virt->provider->migratable_xml(held, uuid, out, e));
}

int virt_guest_metadata(struct virt *virt, const char *uuid, char **out, struct err *e)
{
    assert(virt && uuid && out);
    _cleanup_(virt_unrefp) struct virt *held = virt_ref(virt);
    if (fault_point("virt.guest_metadata", e) < 0)
        return -1;
    return virt_counted(virt->provider->metadata(held, uuid, out, e));
}

int virt_check_destination(struct virt *virt, const struct virt_guest *guest, char **warning,
                           struct err *e)
{
    assert(virt && guest && guest->uuid && warning);
    _cleanup_(virt_unrefp) struct virt *held = virt_ref(virt);
    _cleanup_(virt_host_facts_clear) struct virt_host_facts facts = {0};
    *warning = NULL;
    if (fault_point("virt.check_destination", e) < 0 ||
        virt_counted(virt->provider->host_facts(held, guest, &facts, e)) < 0)
        return -1;
    return virt_host_check(guest, &facts, warning, e);
}

int virt_check_destination_each(struct virt *virt, const struct virt_guest *guest,
                                virt_tell_fn tell, void *aux, struct err *e)
{
    assert(virt && guest && guest->uuid && tell);
    _cleanup_(virt_unrefp) struct virt *held = virt_ref(virt);
    _cleanup_(virt_host_facts_clear) struct virt_host_facts facts = {0};
    if (fault_point("virt.check_destination", e) < 0 ||
        virt_counted(virt->provider->host_facts(held, guest, &facts, e)) < 0)
        return -1;
    return virt_host_check_each(guest, &facts, tell, aux, e);
}

int virt_migrate(struct virt *virt, const struct virt_migration *migration,
                 enum virt_outcome *outcome, struct err *e)
{
    assert(virt && migration && outcome);
    assert(migration->uuid && migration->destination_uri);
    assert(migration->destination_xml || migration->resume_post_copy);
    _cleanup_(virt_unrefp) struct virt *held = virt_ref(virt);
    *outcome = VIRT_OUTCOME_FAILED;
    if (fault_point("virt.migrate.before", e) < 0 ||
        virt_counted(virt->provider->migrate(held, migration, outcome, e)) < 0)
        return -1;
    if (fault_point("virt.migrate.after", e) < 0) {
        *outcome = VIRT_OUTCOME_UNKNOWN;
        return -1;
    }
    return 0;
}

static int sample(struct virt *virt, const char *uuid, bool completed, struct virt_job *out,
                  struct err *e)
{
    assert(virt && uuid && out);
    _cleanup_(virt_unrefp) struct virt *held = virt_ref(virt);
    if (fault_point(completed ? "virt.completed" : "virt.sample", e) < 0)
        return -1;
    return virt_counted(virt->provider->sample(held, uuid, completed, out, e));
}

int virt_migration_sample(struct virt *virt, const char *uuid, struct virt_job *out, struct err *e)
{
    return sample(virt, uuid, false, out, e);
}

int virt_migration_completed(struct virt *virt, const char *uuid, struct virt_job *out,
                             struct err *e)
{
    return sample(virt, uuid, true, out, e);
}

int virt_dirty_rate_begin(struct virt *virt, const char *uuid, int seconds, struct err *e)
{
    assert(virt && uuid && seconds >= 1 && seconds <= 60);
    _cleanup_(virt_unrefp) struct virt *held = virt_ref(virt);
    if (fault_point("virt.dirty_rate_begin", e) < 0)
        return -1;
    return virt_counted(virt->provider->dirty_rate_begin(held, uuid, seconds, e));
}

int virt_dirty_rate_look(struct virt *virt, const char *uuid, int seconds, int64_t *bytes_per_s,
                         struct err *e)
{
    assert(virt && uuid && bytes_per_s);
    _cleanup_(virt_unrefp) struct virt *held = virt_ref(virt);
    if (fault_point("virt.dirty_rate_look", e) < 0)
        return -1;
    return virt_counted(virt->provider->dirty_rate_look(held, uuid, seconds, bytes_per_s, e));
}

int virt_guest_processor_ns(struct virt *virt, const char *uuid, int64_t *ns, struct err *e)
{
    assert(virt && uuid && ns);
    _cleanup_(virt_unrefp) struct virt *held = virt_ref(virt);
    if (fault_point("virt.processor_ns", e) < 0)
        return -1;
    return virt_counted(virt->provider->processor_ns(held, uuid, ns, e));
}

int virt_migration_set_downtime(struct virt *virt, const char *uuid, int64_t downtime_ms,
                                struct err *e)
{
    return change_number(virt, virt->provider->set_downtime, VIRT_CHANGE("set_downtime"), uuid,
                         downtime_ms, e);
}

int virt_migration_set_bandwidth(struct virt *virt, const char *uuid, int64_t mib, struct err *e)
{
    return change_number(virt, virt->provider->set_bandwidth, VIRT_CHANGE("set_bandwidth"), uuid,
                         mib, e);
}

int virt_migration_start_post_copy(struct virt *virt, const char *uuid, struct err *e)
{
    return virt_change_guest(virt, virt->provider->start_post_copy, VIRT_CHANGE("start_post_copy"),
                             uuid, e);
}

int virt_migration_post_copy(struct virt *virt, const char *uuid, enum virt_post_copy *out,
                             struct err *e)
{
    assert(virt && uuid && out);
    _cleanup_(virt_unrefp) struct virt *held = virt_ref(virt);
    if (fault_point("virt.post_copy", e) < 0)
        return -1;
    return virt_counted(virt->provider->post_copy(held, uuid, out, e));
}

int virt_migration_abort(struct virt *virt, const char *uuid, struct err *e)
{
    return virt_change_guest(virt, virt->provider->abort, VIRT_CHANGE("abort"), uuid, e);
}

int virt_guest_suspend(struct virt *virt, const char *uuid, struct err *e)
{
    return virt_change_guest(virt, virt->provider->suspend, VIRT_CHANGE("suspend"), uuid, e);
}

int virt_guest_resume(struct virt *virt, const char *uuid, struct err *e)
{
    return virt_change_guest(virt, virt->provider->resume, VIRT_CHANGE("resume"), uuid, e);
}

int virt_guest_destroy(struct virt *virt, const char *uuid, struct err *e)
{
    return virt_change_guest(virt, virt->provider->guest_destroy, VIRT_CHANGE("destroy"), uuid, e);
}

int virt_guest_destroy_incoming(struct virt *virt, const char *uuid, struct err *e)
{
    return virt_change_guest(virt, virt->provider->destroy_incoming,
                             VIRT_CHANGE("destroy_incoming"), uuid, e);
}

int virt_guest_undefine(struct virt *virt, const char *uuid, struct err *e)
{
    return virt_change_guest(virt, virt->provider->undefine, VIRT_CHANGE("undefine"), uuid, e);
}

struct json_object *virt_status(const struct virt *virt)
{
    return virt->provider->status((struct virt *)virt);
}
