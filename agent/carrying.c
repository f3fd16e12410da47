/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/carrying.h"

#include <string.h>

#include "agent/forwarding.h"
#include "agent/source.h"
#include "lib/clock.h"
#include "lib/json.h"
#include "lib/log.h"
#include "lib/text.h"
#include "net/tap_end.h"

LOG_MODULE(forwarding);

/* Beside the events: a database knows of a way before it is taken up, and says nothing when it is. */
enum {
    LOOK_AGAIN_US = 300000,         /* while the guest is copied */
    LOOK_AGAIN_CARRYING_US = 100000 /* while it waits for it */
};

static bool is_wanted(const struct migration *m)
{
    return text_equal(conf_string(m->agent->conf, CONF_net_late_wiring), "carry");
}

static int64_t limit_us(const struct migration *m)
{
    return conf_int(m->agent->conf, CONF_net_carry_timeout) * USEC_PER_SEC;
}

static void call_waiter(struct migration *m)
{
    struct carrying_state *c = &m->carrying;
    cloud_done_fn done = c->done;

    c->done = NULL;
    if (done)
        done(c->aux, NULL);
}

static void tell_turned(struct migration *m, bool wired, const char *why)
{
    struct forward_counts counts;

    forwarding_counts(m, &counts);
    migration_stamp(m, TIMELINE_NETWORK_TURNED);
    migration_note(m,
                   "the network of the guest was carried between the hosts for %lld ms: %llu "
                   "frame(s) to the guest, %llu from it; %s%s",
                   (long long)(counts.carried_us / USEC_PER_MSEC),
                   (unsigned long long)counts.forwarded, (unsigned long long)counts.carried, why,
                   wired ? "" : ": it has no network until its port is wired");
    if (counts.foreign)
        log_warning("migration %s: %llu frame(s) of the guest with another source address than its "
                    "own were not carried",
                    m->uuid, (unsigned long long)counts.foreign);
}

bool carrying_is_on(const struct migration *m)
{
    return (m->forward_source && forward_source_is_carrying(m->forward_source)) ||
           (m->forward_destination && forward_destination_is_carrying(m->forward_destination));
}

bool carrying_holds_bindings(const struct migration *m)
{
    return m->carrying.binds_late && carrying_is_on(m);
}

static void let_go(struct migration *m)
{
    m->carrying.lasts = false;
    call_waiter(m);
}

/* Taps that were kept and not needed go first, too: as long as they are held, their ports cannot be taken away. */
void carrying_wait(struct migration *m, cloud_done_fn done, void *aux)
{
    bool lasts = m->carrying.lasts || carrying_is_on(m);
    bool keeps = m->forward_source && forward_source_keeps_taps(m->forward_source);

    if (!lasts && !keeps) {
        done(aux, NULL);
        return;
    }
    m->carrying.done = done;
    m->carrying.aux = aux;
    if (!lasts)
        forwarding_end_then(m, let_go);
}

void carrying_drop_waiting(struct migration *m)
{
    call_waiter(m);
}

void carrying_give_up(struct migration *m)
{
    if (m->forward_source)
        forward_source_give_up(m->forward_source);
    if (m->forward_destination)
        forward_destination_give_up(m->forward_destination);
}

/* ---- the destination ---- */

struct look {
    struct net *net;
    struct port_list ports;
    bool has_way;
};

static void look_release(struct migration_job *job)
{
    struct look *look = job->aux;

    port_list_clear(&look->ports);
    free(look);
}

static int look_run(struct migration_job *job, struct err *e)
{
    struct look *look = job->aux;

    look->has_way = true;
    for (size_t i = 0; i < look->ports.count && look->has_way; i++)
        if (net_has_way(look->net, look->ports.items[i], &look->has_way, e) < 0)
            return -1;
    return 0;
}

static void look(void *aux);

static void looked(struct migration_job *job)
{
    struct migration *m = job->migration;
    const struct look *look_done = job->aux;
    struct carrying_state *c = &m->carrying;
    bool has_way = job->result == 0 && look_done->has_way;

    c->looking = false;
    if (!m->forward_destination || !c->permitted)
        return;
    if (job->result < 0)
        log_err(LOG_LEVEL_DEBUG, &job->e, "migration %s: the ways of its ports", m->uuid);
    else
        forward_destination_way(m->forward_destination, has_way);
    if (c->look_again)
        look(m);
    else if (carrying_is_on(m))
        loop_timer_arm(c->timer, LOOK_AGAIN_CARRYING_US);
    else if (!has_way && !m->agent->closing && m->state != MACHINE_DESTINATION_PARKED &&
             !machine_state_is_final(m->state))
        loop_timer_arm(c->timer, LOOK_AGAIN_US);
}

/* One look at a time; what changes meanwhile is looked at after it. */
static void look(void *aux)
{
    struct migration *m = aux;
    struct carrying_state *c = &m->carrying;
    struct err e = ERR_INIT;

    if (!m->forward_destination || !c->permitted)
        return;
    c->look_again = c->looking;
    if (c->looking)
        return;
    struct look *fresh = NEW(struct look);
    struct migration_job job = {.name = "look for the way of ports",
                                .run = look_run,
                                .done = looked,
                                .release = look_release,
                                .aux = fresh};
    fresh->net = m->agent->net;
    if (ports_of_destination(m->instance, m->data, &fresh->ports, &e) < 0)
        log_err(LOG_LEVEL_DEBUG, &e, "migration %s", m->uuid);
    c->looking = true;
    migration_submit(m, &job, false, false);
}

void carrying_watch(struct migration *m)
{
    if (m->armed && is_wanted(m))
        net_armed_watch(m->armed, look, m);
}

static void arrived_turned(void *aux, enum forward_carry_event event, bool wired, const char *why)
{
    struct migration *m = aux;

    if (event == FORWARD_CARRY_TURNED) {
        m->carrying.lasts = true;
        if (m->armed) {
            m->progress.announced = (int)net_announce(m->armed);
            migration_stamp(m, TIMELINE_ANNOUNCED);
        }
        tell_turned(m, wired, why);
        return;
    }
    m->carrying.lasts = false;
    call_waiter(m);
}

void carrying_permit(struct migration *m, struct json_object *facts)
{
    if (!m->forward_destination || !is_wanted(m))
        return;
    m->carrying.permitted = true;
    if (!m->carrying.timer)
        m->carrying.timer = loop_timer_new(m->agent->loop, "way of ports", look, m);
    forward_destination_may_carry(m->forward_destination, limit_us(m), arrived_turned, m);
    json_object_object_add(facts, "carries", json_object_new_boolean(true));
}

/* ---- the source ---- */

struct share {
    struct net *net;
    struct virt *virt;
    char *instance_uuid;
    struct port_list ports;
    struct tap_end **ends;
};

static void share_release(struct migration_job *job)
{
    struct share *share = job->aux;

    for (size_t i = 0; i < share->ports.count; i++)
        tap_end_close(share->ends[i]);
    free(share->ends);
    free(share->instance_uuid);
    port_list_clear(&share->ports);
    free(share);
}

/* libvirt takes its own filters off with the domain: what is carried then would go around them. */
static int check_filters(const struct share *share, struct err *e)
{
    _cleanup_(str_freep) char *xml = NULL;

    if (virt_guest_xml(share->virt, share->instance_uuid, &xml, e) < 0)
        return -1;
    if (strstr(xml, "<filterref"))
        return err_set(e, ERR_NET_PLUG,
                       "instance %s has network filters of libvirt, which end with it here",
                       share->instance_uuid);
    return 0;
}

static int share_run(struct migration_job *job, struct err *e)
{
    struct share *share = job->aux;

    if (check_filters(share, e) < 0)
        return -1;
    for (size_t i = 0; i < share->ports.count; i++)
        if (net_share_tap(share->net, share->ports.items[i], &share->ends[i], e) < 0)
            return -1;
    return 0;
}

static void left_turned(void *aux, enum forward_carry_event event, bool wired, const char *why)
{
    struct migration *m = aux;

    if (event == FORWARD_CARRY_TURNED) {
        m->carrying.lasts = true;
        tell_turned(m, wired, why);
        bindings_switch(m);
        return;
    }
    forwarding_end_then(m, let_go); /* the taps go before their ports are taken away */
}

static void shared(struct migration_job *job)
{
    struct migration *m = job->migration;
    struct share *share = job->aux;

    if (job->result < 0)
        log_err(LOG_LEVEL_WARNING, &job->e,
                "migration %s: frames cannot be carried if the network follows late", m->uuid);
    else if (m->forward_source && !machine_state_is_final(m->state))
        forward_source_keep(m->forward_source, share->ports.items, share->ends, share->ports.count,
                            limit_us(m), left_turned, m);
}

void carrying_offer(struct migration *m, struct json_object *facts)
{
    struct err e = ERR_INIT;

    if (!m->forward_source || !is_wanted(m) || !json_get_bool(facts, "carries", false))
        return;
    struct share *share = NEW(struct share);
    struct migration_job job = {.name = "share the guest's taps",
                                .run = share_run,
                                .done = shared,
                                .release = share_release,
                                .aux = share};
    share->net = m->agent->net;
    share->virt = m->agent->virt;
    share->instance_uuid = text_dup(m->instance_uuid);
    if (ports_of_instance(m->instance, &share->ports, &e) < 0)
        log_err(LOG_LEVEL_DEBUG, &e, "migration %s", m->uuid);
    for (size_t i = 0; i < share->ports.count; i++)
        m->carrying.binds_late |= share->ports.items[i]->kind == NET_KIND_OVS;
    share->ends = NEW_ARRAY(struct tap_end *, share->ports.count);
    migration_submit(m, &job, false, false);
}
