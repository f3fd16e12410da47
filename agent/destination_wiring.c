/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The destination's wait for those whose network it is: Neutron's Open vSwitch agent wires a port some seconds after
 * it is there. The source is answered when it has, or when [net] wiring_timeout is over; the guest runs on there.
 */
#include "agent/destination.h"

#include <unistd.h>

#include "agent/parts.h"
#include "lib/clock.h"
#include "lib/json.h"
#include "lib/log.h"
#include "lib/text.h"

LOG_MODULE(destination);

#define WIRING_TOLD_US (4 * USEC_PER_SEC) /* a wait that takes longer is told */

enum { SLICE_US = 200000 };

struct wiring {
    struct net *net;
    struct port_list ports;
    int64_t timeout_us;
    char *uuid;
    struct json_object *unwired; /* at the source */
    const atomic_bool *ends;     /* the migration's, which the job has a reference to */
};

static void wiring_release(struct migration_job *job)
{
    struct wiring *wiring = job->aux;

    port_list_clear(&wiring->ports);
    json_object_put(wiring->unwired);
    free(wiring->uuid);
    free(wiring);
}

static bool is_unwired_there(const struct wiring *wiring, const struct net_port *port)
{
    struct json_object *list = wiring->unwired;

    for (size_t i = 0; json_object_is_type(list, json_type_array) && i < json_array_length(list);
         i++)
        if (text_equal(json_object_get_string(json_object_array_get_idx(list, i)), port->port_id))
            return true;
    return false;
}

static bool is_over(const struct wiring *wiring)
{
    return atomic_load(wiring->ends);
}

/*
 * Until the port is wired or the time is over, in slices: a wait whose migration has ended ends as well, and one that
 * the agent's end overtakes does not touch the network again. A look that fails is not the last one.
 */
static bool wait_until(const struct wiring *wiring, const struct net_port *port,
                       int64_t deadline_us, struct err *last)
{
    bool wired = false;

    for (;;) {
        int64_t left_us = deadline_us - clock_monotonic_us();
        if (is_over(wiring))
            return false;
        err_clear(last);
        int result = net_wait_wired(wiring->net, port, left_us < SLICE_US ? left_us : SLICE_US,
                                    &wired, last);
        if (result == 0 && wired)
            return true;
        if (left_us <= 0)
            return false;
        if (result < 0)
            (void)usleep(SLICE_US);
    }
}

/* A wait that somebody could wonder about is told. */
static bool wait_for_port(const struct wiring *wiring, const struct net_port *port,
                          int64_t started_us, struct err *last)
{
    int64_t told_us = started_us + WIRING_TOLD_US, deadline_us = started_us + wiring->timeout_us;

    if (told_us >= deadline_us || clock_monotonic_us() >= told_us)
        return wait_until(wiring, port, deadline_us, last);
    if (wait_until(wiring, port, told_us, last))
        return true;
    if (is_over(wiring))
        return false;
    log_warning("migration %s: port %s is not wired by Neutron's agent yet; the copy waits %lld s "
                "more at most ([net] wiring_timeout)",
                wiring->uuid, port->port_id,
                (long long)((deadline_us - told_us + USEC_PER_SEC - 1) / USEC_PER_SEC));
    return wait_until(wiring, port, deadline_us, last);
}

static int wiring_run(struct migration_job *job, struct err *e)
{
    const struct wiring *wiring = job->aux;
    int64_t started_us = clock_monotonic_us();

    for (size_t i = 0; i < wiring->ports.count; i++) {
        const struct net_port *port = wiring->ports.items[i];
        struct err last = ERR_INIT;
        if (is_unwired_there(wiring, port) || wait_for_port(wiring, port, started_us, &last))
            continue;
        if (is_over(wiring))
            return 0;
        return err_set(e, ERR_TIMEOUT,
                       "port %s has no way out of this host after %lld ms ([net] wiring_timeout), "
                       "the guest comes all the same: %.200s",
                       port->port_id, (long long)(wiring->timeout_us / USEC_PER_MSEC),
                       err_is_set(&last) ? last.text : "is Neutron's agent running here?");
    }
    return 0;
}

/* A guest can come all the same: its network follows, as it does without this wait. */
static void wiring_done(struct migration_job *job)
{
    struct migration *m = job->migration;

    m->wiring = false;
    if (job->result < 0 && m->request && m->state == MACHINE_DESTINATION_PREPARED)
        log_err(LOG_LEVEL_WARNING, &job->e, "migration %s", m->uuid);
    destination_answer_prepared(m);
}

void destination_wait_for_wiring(struct migration *m)
{
    const struct conf *conf = m->agent->conf;
    int64_t timeout_us = conf_int(conf, CONF_net_wiring_timeout) * USEC_PER_MSEC;
    struct err e = ERR_INIT;

    if (m->announcing || !m->request || !m->destination_prepared || timeout_us == 0 ||
        !text_equal(conf_string(conf, CONF_agent_control_plane), "nova"))
        return;
    struct wiring *wiring = NEW(struct wiring);
    struct migration_job job = {.name = "wait for the network",
                                .run = wiring_run,
                                .done = wiring_done,
                                .release = wiring_release,
                                .aux = wiring};
    wiring->net = m->agent->net;
    wiring->timeout_us = timeout_us;
    wiring->ends = &m->wiring_ends;
    wiring->uuid = text_dup(m->uuid);
    wiring->unwired = json_copy(migrate_data_computed_unwired(m->data));
    if (ports_of_destination(m->instance, m->data, &wiring->ports, &e) < 0)
        log_err(LOG_LEVEL_WARNING, &e, "migration %s: its ports are not waited for", m->uuid);
    m->wiring = true;
    migration_submit(m, &job, true, false);
}
