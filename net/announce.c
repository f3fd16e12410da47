/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arming and announcing, the same for every kind of wiring: what can be early is done in net_arm(), so
 * that net_announce() is a few system calls.
 *
 * A port goes through: armed -> (net_announce) announcing -> disarmed. While announcing, a round (all
 * frames of the port) goes out at once, a few times soon after, and then at growing pauses: others
 * (Neutron's agent) may still be at work on the way, and an Open vSwitch credits what the guest sent last
 * at its old place up to half a second later, and learns from it once more. If the port cannot be
 * announced yet, or its way changes, the backend tells by a link or OVS event, and the rounds start anew.
 *
 * Where a switch has to be taught first (net_teach_and_announce()), LESSONS of them come before the first round, a
 * LESSON_US apart: the first lets the switch look through its flows, what it finds there may unteach it, and the next
 * ones repair that while the fabric still sends nothing here.
 *
 * However often events come, a port sends at most ROUNDS_SPARE rounds above announce_count in a second.
 */
#include <assert.h>

#include "lib/clock.h"
#include "lib/fault.h"
#include "lib/log.h"
#include "lib/metrics.h"
#include "net/net_provider.h"

LOG_MODULE(net);

enum {
    LESSONS = 5,
    LESSON_US = 1000,
    ROUNDS_SPARE = 20,
    ROUNDS_WINDOW_US = 1000000,
    PORTS_MAX = 64
};

static const int64_t tail_us[] = {60000, 150000, 300000, 600000, 1200000, 2400000};

struct net_armed {
    struct loop *loop;
    struct link_events *events; /* NULL if no port wants them */
    struct net_armed_port *ports;
    size_t n_ports;
    unsigned count; /* rounds that are interval_us apart */
    int64_t interval_us;
    bool announcing;
    void (*watch)(void *aux);
    void *watch_aux;
    void (*left)(void *aux); /* NULL: nobody waits for it, or it was called */
    void *left_aux;
};

/* --- rounds ---------------------------------------------------------------------------------- */

static bool rate_ok(struct net_armed_port *p, int64_t now)
{
    if (now - p->window_start_us >= ROUNDS_WINDOW_US) {
        p->window_start_us = now;
        p->rounds_in_window = 0;
    }
    return p->rounds_in_window++ < p->set->count + ROUNDS_SPARE;
}

/* All ports that could be taught are through with it, and one at least was announced. */
static void tell_left(struct net_armed *armed)
{
    void (*left)(void *aux) = armed->left;

    if (!left || net_is_teaching(armed))
        return;
    armed->left = NULL;
    left(armed->left_aux);
}

static bool round_of(struct net_armed_port *p, int64_t now)
{
    struct err e = ERR_INIT;

    if (!rate_ok(p, now))
        return false;
    if (fault_point("net.announce", &e) < 0)
        return false;
    unsigned sent = p->ops->announce(p, &e);
    metric_add(METRIC_ANNOUNCEMENTS, sent);
    if (err_is_set(&e))
        log_err(LOG_LEVEL_DEBUG, &e, "port %s", p->port->port_id);
    if (sent > 0)
        tell_left(p->set);
    return sent > 0;
}

/* When the next round after `passed_us` is due, since the start; 0 = no more. */
static int64_t next_step(const struct net_armed *armed, int64_t passed_us)
{
    int64_t last_us = (armed->count - 1) * armed->interval_us;

    if (passed_us < last_us)
        return (passed_us / armed->interval_us + 1) * armed->interval_us;
    for (size_t i = 0; i < ARRAY_LEN(tail_us); i++)
        if (tail_us[i] > passed_us)
            return tail_us[i];
    return 0;
}

static void arm_next(struct net_armed_port *p, int64_t now)
{
    int64_t due_us = next_step(p->set, now - p->start_us);

    if (due_us)
        loop_timer_arm(p->timer, p->start_us + due_us - now);
}

static bool start_rounds(struct net_armed_port *p)
{
    p->teaching = false;
    p->start_us = clock_monotonic_us();
    bool left = round_of(p, p->start_us);
    arm_next(p, p->start_us);
    return left;
}

static bool teach(struct net_armed_port *p)
{
    struct err e = ERR_INIT;

    p->lessons++;
    bool taught = p->ops->teach(p, &e);
    if (err_is_set(&e))
        log_err(LOG_LEVEL_DEBUG, &e, "port %s", p->port->port_id);
    loop_timer_arm(p->timer, LESSON_US);
    return taught;
}

/* A loop that was held up gives one more lesson and then tells the fabric. */
static void teach_again(struct net_armed_port *p, int64_t now)
{
    bool is_over = p->lessons >= LESSONS || now - p->start_us >= (int64_t)LESSONS * LESSON_US;

    if (p->lessons < LESSONS)
        (void)teach(p);
    if (is_over)
        (void)start_rounds(p);
}

static void timer_fired(void *aux)
{
    struct net_armed_port *p = aux;
    int64_t now = clock_monotonic_us();

    if (p->teaching) {
        teach_again(p, now);
    } else {
        (void)round_of(p, now);
        arm_next(p, now);
    }
}

static bool start_lessons(struct net_armed_port *p)
{
    if (!p->teaching)
        return start_rounds(p);
    p->start_us = clock_monotonic_us();
    p->lessons = 0;
    return teach(p) || start_rounds(p);
}

void net_armed_port_wired(struct net_armed_port *p)
{
    log_debug("port %s can be announced now", p->port->port_id);
    if (p->set->watch)
        p->set->watch(p->set->watch_aux);
    if (p->set->announcing && !p->teaching)
        (void)start_rounds(p);
}

/* --- events ---------------------------------------------------------------------------------- */

static void link_changed(void *aux, const struct link *link)
{
    struct net_armed *armed = aux;

    for (size_t i = 0; i < armed->n_ports; i++)
        if (armed->ports[i].ops->link_changed)
            armed->ports[i].ops->link_changed(&armed->ports[i], link);
}

static void link_lost(void *aux)
{
    struct net_armed *armed = aux;

    log_debug("link events were lost, looking at all links again");
    for (size_t i = 0; i < armed->n_ports; i++)
        if (armed->ports[i].ops->link_lost)
            armed->ports[i].ops->link_lost(&armed->ports[i]);
}

/* --- the set --------------------------------------------------------------------------------- */

static int arm_port(struct net *net, struct net_armed *armed, const struct net_port *port,
                    struct err *e)
{
    if (net_port_check(port, e) < 0)
        return -1;
    struct net_armed_port *p = &armed->ports[armed->n_ports++];
    p->net = net;
    p->set = armed;
    p->ops = net_ops_of(port->kind);
    p->port = net_port_copy(port);
    p->timer = loop_timer_new(armed->loop, "announcement", timer_fired, p);
    if (frame_parse_mac(port->mac, p->mac, e) < 0 ||
        frames_for_port(port->mac, port->addresses, &p->frames, &p->n_frames, e) < 0)
        return -1;
    return p->ops->arm(p, e);
}

int net_arm(struct net *net, struct net_port *const *ports, size_t count, struct net_armed **out,
            struct err *e)
{
    static const struct link_events_fns fns = {link_changed, link_lost};
    _cleanup_(net_disarmp) struct net_armed *armed = NEW(struct net_armed);
    bool wants_links = false;

    assert(net && (ports || count == 0) && out);
    _cleanup_(conf_unrefp) struct conf *conf = net_conf(net);
    armed->loop = net_loop(net);
    armed->count = (unsigned)conf_int(conf, CONF_net_announce_count);
    armed->interval_us = conf_int(conf, CONF_net_announce_interval) * USEC_PER_MSEC;
    if (count > PORTS_MAX)
        return err_set(e, ERR_INVALID, "a guest has %zu ports, at most %d are allowed", count,
                       PORTS_MAX);
    armed->ports = NEW_ARRAY(struct net_armed_port, count);
    for (size_t i = 0; i < count; i++)
        wants_links |= net_kind_known(ports[i]->kind) && net_ops_of(ports[i]->kind)->link_changed;
    /* Listening begins before looking, so that nothing falls in between. */
    if (wants_links && link_events_new(&armed->events, armed->loop, &fns, armed, e) < 0)
        return -1;
    for (size_t i = 0; i < count; i++)
        if (arm_port(net, armed, ports[i], e) < 0)
            return -1;
    *out = STEAL(armed);
    return 0;
}

unsigned net_announce(struct net_armed *armed)
{
    unsigned left = 0;

    assert(armed);
    armed->announcing = true;
    for (size_t i = 0; i < armed->n_ports; i++)
        left += start_rounds(&armed->ports[i]);
    return left;
}

unsigned net_teach_and_announce(struct net_armed *armed, void (*fn)(void *aux), void *aux)
{
    unsigned reached = 0;

    assert(armed);
    armed->announcing = true;
    armed->left = fn;
    armed->left_aux = aux;
    for (size_t i = 0; i < armed->n_ports; i++)
        armed->ports[i].teaching = armed->ports[i].ops->teach != NULL;
    for (size_t i = 0; i < armed->n_ports; i++)
        reached += start_lessons(&armed->ports[i]);
    return reached;
}

bool net_is_teaching(const struct net_armed *armed)
{
    for (size_t i = 0; i < armed->n_ports; i++)
        if (armed->ports[i].teaching)
            return true;
    return false;
}

bool net_kind_is_taught(enum net_kind kind)
{
    return net_ops_of(kind)->teach != NULL;
}

void net_armed_watch(struct net_armed *armed, void (*fn)(void *aux), void *aux)
{
    armed->watch = fn;
    armed->watch_aux = aux;
}

void net_disarm(struct net_armed *armed)
{
    if (!armed)
        return;
    link_events_free(armed->events);
    for (size_t i = 0; i < armed->n_ports; i++) {
        struct net_armed_port *p = &armed->ports[i];
        loop_timer_free(p->timer);
        p->ops->disarm(p);
        net_port_free(p->port);
        free(p->frames);
    }
    free(armed->ports);
    free(armed);
}
