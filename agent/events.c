/* SPDX-License-Identifier: Apache-2.0 */
/* What the rooms tell the agent: libvirt's events, the direct line, the bus. */
#include "agent/carrying.h"
#include "agent/destination.h"
#include "agent/forwarding.h"
#include "agent/instance_build.h"
#include "agent/migration.h"
#include "agent/node.h"
#include "agent/power_sync.h"
#include "agent/operation.h"
#include "agent/source.h"

#include "lib/clock.h"
#include "lib/log.h"
#include "lib/metrics.h"
#include "lib/text.h"

LOG_MODULE(events);

/* POST_COPY_LOST: libvirt has let go of the transfer by then. */
enum { POST_COPY_WATCH_US = 5000000, POST_COPY_LOST_US = 1000000 };

const char *agent_direct_address(const struct conf *conf)
{
    const char *address = conf_string(conf, CONF_agent_migration_address);

    if (!address)
        address = conf_string(conf, CONF_libvirt_live_migration_inbound_addr);
    /* Nova allows a name there; a datagram needs a number */
    if (!address || text_check_ip(address, "address", NULL) < 0)
        address = conf_string(conf, CONF_DEFAULT_my_ip);
    return address;
}

void agent_virt_connection(void *aux, bool up, const char *why)
{
    struct agent *agent = aux;

    node_connection(agent, up, why);
    if (!up) {
        log_warning("libvirt is away: %s", why ? why : "no reason given");
        return;
    }
    log_info("libvirt is connected");
    instance_builds_take_back(agent, NULL);
    source_next(agent);
}

/* ---- the source ---- */

/* Not by force, which libvirt tells in the same way: a guest may have stopped by itself before it came to that. */
static bool stopped_to_switch(const struct migration *m)
{
    return !m->suspended_by_us || (m->forcing && !m->suspending);
}

/* The pause: first of all the destination hears of it, everything else can wait. A guest that was paused
 * by force may have much to send yet: the figures go on. */
static void source_paused(struct migration *m, int64_t at_us)
{
    if (m->peer)
        switchover_peer_send(m->peer, SWITCHOVER_PAUSED);
    (void)forwarding_paused(m);
    migration_stamp_at(m, TIMELINE_PAUSED, at_us, 0);
    if (m->peer)
        migration_stamp(m, TIMELINE_SIGNAL_SENT);
    if (!carrying_holds_bindings(m))
        bindings_switch(m);
    m->switching = stopped_to_switch(m);
    m->progress.paused_us = at_us;
    m->progress.resumed_us = 0;
    source_turns(m->agent);
    log_debug("migration %s: the guest stopped for the switch-over", m->uuid);
}

void source_reverted(struct migration *m, int64_t at_us)
{
    m->switching = false;
    if (m->progress.paused_us == 0 || m->progress.resumed_us != 0)
        return;
    m->progress.resumed_us = at_us;
    if (m->peer)
        switchover_peer_send(m->peer, SWITCHOVER_REVERTED);
    forwarding_reverted(m);
    migration_stamp_at(m, TIMELINE_REVERTED, at_us, 0);
    bindings_return(m);
    if (m->armed)
        net_announce(m->armed);
    migration_note(m, "the switch-over failed, the guest runs on %s again", m->source_host);
    source_turns(m->agent);
}

/* The news may come later than the call's answer: what is taken back already does not switch over. */
static bool may_switch(const struct migration *m)
{
    return m->state == MACHINE_SOURCE_RUNNING || m->state == MACHINE_SOURCE_OBSERVING ||
           m->state == MACHINE_SOURCE_RECOVERING || m->state == MACHINE_SOURCE_FINISHING ||
           m->state == MACHINE_SOURCE_CLEANING;
}

static void source_event(struct migration *m, enum virt_event event, int64_t at_us)
{
    switch (event) {
    case VIRT_EVENT_PAUSED_MIGRATION:
        if (may_switch(m))
            source_paused(m, at_us);
        return;
    case VIRT_EVENT_PAUSED_POSTCOPY:
        if (!may_switch(m))
            return;
        if (m->post_copy_lost) { /* not another pause: it goes on */
            source_post_copy_recovered(m, at_us);
            return;
        }
        source_paused(m, at_us);
        m->switching = false; /* pages are still sent: the figures go on */
        source_post_copy_began(m);
        return;
    case VIRT_EVENT_RESUMED:
    case VIRT_EVENT_RESUMED_MIGRATION:
        source_reverted(m, at_us);
        return;
    case VIRT_EVENT_POSTCOPY_FAILED:
        if (may_switch(m))
            source_post_copy_lost(m, at_us);
        return;
    case VIRT_EVENT_STOPPED:
    case VIRT_EVENT_STOPPED_MIGRATION:
        source_post_copy_look(m);
        return;
    default:
        return;
    }
}

/* ---- the destination ---- */

static void watch_soon(struct migration *m, int64_t delay_us)
{
    if (m->state == MACHINE_DESTINATION_PREPARED || m->state == MACHINE_DESTINATION_HERE)
        recovery_watch(m, delay_us);
}

static void destination_event(struct migration *m, enum virt_event event, int64_t at_us)
{
    if (event == VIRT_EVENT_POSTCOPY_FAILED) {
        m->post_copy_lost = true;
        log_warning("migration %s: post-copy lost its connection; the guest waits here for the "
                    "rest of its memory",
                    m->uuid);
        watch_soon(m, POST_COPY_LOST_US);
    }
    if (event != VIRT_EVENT_RESUMED_MIGRATION && event != VIRT_EVENT_RESUMED_POSTCOPY)
        return;
    m->post_copy_lost = false;
    if (event == VIRT_EVENT_RESUMED_POSTCOPY)
        watch_soon(m, POST_COPY_WATCH_US); /* a connection that is lost is not seen here */
    m->progress.resumed_us = at_us;
    forwarding_resumed(m);
    /* again: for a Python source this is the first, for ours it repairs what came too early */
    bool announces = m->armed && !carrying_is_on(m);
    if (announces)
        m->progress.announced = (int)net_announce(m->armed);
    migration_stamp_at(m, TIMELINE_RESUMED, at_us, 0);
    if (announces)
        migration_stamp(m, TIMELINE_ANNOUNCED);
    machine_event(m, MACHINE_EVENT_ARRIVED);
}

void agent_virt_event(void *aux, const char *uuid, enum virt_event event, int64_t at_us)
{
    struct agent *agent = aux;
    struct migration *m;

    if ((m = migration_find_instance(agent, MIGRATION_SOURCE, uuid)))
        source_event(m, event, at_us);
    if ((m = migration_find_instance(agent, MIGRATION_DESTINATION, uuid)))
        destination_event(m, event, at_us);
    power_sync_event(agent, uuid, event);
    _cleanup_(str_freep) char *key = text_format("virt-%s", virt_event_name(event));
    (void)operation_event(agent, uuid, key, NULL);
    log_debug("libvirt: %s %s", uuid, virt_event_name(event));
}

void agent_virt_iteration(void *aux, const char *uuid, int iteration, int64_t at_us)
{
    struct agent *agent = aux;
    struct migration *m = migration_find_instance(agent, MIGRATION_SOURCE, uuid);

    if (!m)
        return;
    migration_stamp_at(m, TIMELINE_ITERATION, at_us, iteration);
    monitor_iteration(m, iteration);
}

void agent_virt_job_completed(void *aux, const char *uuid, const struct virt_job *job,
                              int64_t at_us)
{
    struct agent *agent = aux;
    struct migration *m = migration_find_instance(agent, MIGRATION_SOURCE, uuid);

    if (!m || !job->completed)
        return;
    m->progress.ended_us = at_us;
    migration_stamp_at(m, TIMELINE_JOB_COMPLETED, at_us, 0);
    monitor_completed(m, job);
}

bool agent_switchover_is_on(const struct agent *agent)
{
    return agent->switchover && switchover_mode_wanted(agent->conf) != SWITCHOVER_MODE_OFF;
}

int agent_switchover_open(struct agent *agent, struct err *e)
{
    const struct conf *conf = agent->conf;

    if (switchover_mode_wanted(conf) == SWITCHOVER_MODE_OFF)
        return 0;
    if (!agent->switchover &&
        switchover_new(&agent->switchover, agent->loop, agent_direct_address(conf),
                       (int)conf_int(conf, CONF_agent_migration_port), agent_switchover_signal,
                       agent, e) < 0)
        return -1;
    return forwarding_open(agent, e);
}

static void announced(void *aux)
{
    struct migration *m = aux;

    migration_stamp(m, TIMELINE_ANNOUNCED);
    forwarding_told(m);
}

/* `forwards`: what still reaches the source is not lost, so that there is time for lessons. A second signal, as of the
 * switch to post-copy, does not cut them short. */
static void turn_network(struct migration *m, bool forwards)
{
    if (!m->armed || carrying_is_on(m)) {
        forwarding_told(m);
    } else if (forwards) {
        m->progress.announced = (int)net_teach_and_announce(m->armed, announced, m);
    } else if (!net_is_teaching(m->armed)) {
        m->progress.announced = (int)net_announce(m->armed);
        announced(m);
    }
}

void agent_switchover_signal(void *aux, const char *migration_uuid, enum switchover_signal signal,
                             int64_t at_us)
{
    struct agent *agent = aux;
    struct migration *m = migration_find(agent, MIGRATION_DESTINATION, migration_uuid);

    if (!m || machine_state_is_final(m->state))
        return;
    if (signal == SWITCHOVER_REVERTED) {
        log_warning("migration %s: the guest runs on %s again", m->uuid, m->source_host);
        forwarding_reverted(m);
        destination_arm(m); /* what was to be repeated here is not */
        return;
    }
    m->progress.paused_us = at_us;
    migration_stamp_at(m, TIMELINE_SIGNAL_RECEIVED, at_us, 0);
    bool forwards = forwarding_paused(m); /* first: from the announcement on, newer frames come */
    turn_network(m, forwards);
    log_debug("migration %s: the source paused the guest %lld us ago; %d port(s) turned", m->uuid,
              (long long)(clock_monotonic_us() - at_us), m->progress.announced);
}

void agent_rpc_state(void *aux, bool up, const char *why)
{
    (void)aux;
    if (up)
        log_info("the message bus is connected");
    else
        log_warning("the message bus is away: %s", why ? why : "no reason given");
}
