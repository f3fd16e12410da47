/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/forwarding.h"

#include "agent/carrying.h"
#include "agent/destination.h"
#include "lib/clock.h"
#include "lib/json.h"
#include "lib/log.h"
#include "lib/text.h"
#include "net/hold.h"

LOG_MODULE(forwarding);

static const char *const mode_names[] = {"off", "announce", "forward", "hold"};

enum switchover_mode switchover_mode_named(const char *word)
{
    for (size_t i = 0; i < ARRAY_LEN(mode_names); i++)
        if (text_equal(word, mode_names[i]))
            return (enum switchover_mode)i;
    return SWITCHOVER_MODE_ANNOUNCE;
}

enum switchover_mode switchover_mode_wanted(const struct conf *conf)
{
    return (enum switchover_mode)conf_int(conf, CONF_net_switchover); /* the word's place */
}

const char *switchover_mode_name(enum switchover_mode mode)
{
    return mode_names[mode];
}

enum switchover_mode switchover_mode_here(const struct agent *agent)
{
    enum switchover_mode wanted = switchover_mode_wanted(agent->conf);

    if (!agent_switchover_is_on(agent))
        return SWITCHOVER_MODE_OFF;
    return wanted >= SWITCHOVER_MODE_FORWARD && !agent->streams ? SWITCHOVER_MODE_ANNOUNCE : wanted;
}

int forwarding_open(struct agent *agent, struct err *e)
{
    const struct conf *conf = agent->conf;

    if (agent->streams || switchover_mode_wanted(conf) < SWITCHOVER_MODE_FORWARD)
        return 0;
    return channel_listener_new(&agent->streams, agent->loop, agent_direct_address(conf),
                                (int)conf_int(conf, CONF_agent_migration_port), e);
}

static enum forward_mode to_net(enum switchover_mode mode)
{
    return mode == SWITCHOVER_MODE_HOLD ? FORWARD_HELD : FORWARD_LIVE;
}

/* ---- the destination ---- */

static void expect(struct migration *m, enum switchover_mode mode)
{
    struct port_list ports = {0};
    struct err e = ERR_INIT;

    m->switchover_mode = SWITCHOVER_MODE_ANNOUNCE;
    if (ports_of_destination(m->instance, m->data, &ports, &e) < 0 ||
        forward_destination_new(&m->forward_destination, m->agent->loop, m->agent->streams,
                                ports.items, ports.count, to_net(mode), m->uuid, m->switchover_key,
                                &e) < 0)
        log_err(LOG_LEVEL_WARNING, &e, "migration %s: no frames are forwarded", m->uuid);
    else
        m->switchover_mode = mode;
    port_list_clear(&ports);
}

void forwarding_expect(struct migration *m, struct json_object *facts)
{
    enum switchover_mode mode = switchover_mode_wanted(m->agent->conf);

    m->switchover_mode = SWITCHOVER_MODE_ANNOUNCE;
    /* a source that says nothing of itself cannot open a stream */
    if (mode < SWITCHOVER_MODE_FORWARD || !m->agent->streams || !destination_peer_is_ours(m))
        return;
    expect(m, mode);
    json_add_string(facts, "mode", switchover_mode_name(m->switchover_mode));
    if (m->forward_destination)
        json_add_int(facts, "stream_port", channel_listener_port(m->agent->streams));
    carrying_permit(m, facts);
}

/* What takes the kernel a while to give back. */
struct leftovers {
    struct forward_source *source;
    struct forward_destination *destination;
    struct port_list holds;
    void (*then)(struct migration *m);
};

static void close_ends(struct leftovers *left)
{
    forward_source_free(STEAL(left->source));
    forward_destination_free(STEAL(left->destination));
}

static int clear_up(struct migration_job *job, struct err *e _unused_)
{
    struct leftovers *left = job->aux;
    struct err one = ERR_INIT;

    close_ends(left);
    for (size_t i = 0; i < left->holds.count; i++)
        if (hold_remove(left->holds.items[i]->tap, &one) < 0)
            log_err(LOG_LEVEL_WARNING, &one, "migration %s", job->migration->uuid);
    return 0;
}

static void cleared_up(struct migration_job *job)
{
    struct leftovers *left = job->aux;

    if (left->then)
        left->then(job->migration);
}

static void release_leftovers(struct migration_job *job)
{
    struct leftovers *left = job->aux;

    close_ends(left);
    port_list_clear(&left->holds);
    free(left);
}

/* On a worker: the loop has other guests to look after. */
static void let_go(struct migration *m, bool holds, void (*then)(struct migration *m))
{
    struct leftovers *left = NEW(struct leftovers);
    struct migration_job job = {.name = "end the forwarding of frames",
                                .run = clear_up,
                                .done = cleared_up,
                                .release = release_leftovers,
                                .aux = left};
    struct err e = ERR_INIT;

    left->then = then;
    left->source = STEAL(m->forward_source);
    left->destination = STEAL(m->forward_destination);
    if (left->source)
        forward_source_detach(left->source);
    if (left->destination)
        forward_destination_detach(left->destination);
    if (holds && ports_of_destination(m->instance, m->data, &left->holds, &e) < 0)
        log_err(LOG_LEVEL_WARNING, &e, "migration %s: its holding devices stay", m->uuid);
    migration_submit(m, &job, false, false);
}

void forwarding_expect_again(struct migration *m)
{
    if (!m->agent->streams || !m->switchover_key[0] ||
        switchover_mode_wanted(m->agent->conf) < SWITCHOVER_MODE_FORWARD)
        return;
    let_go(m, true, NULL);
    expect(m, SWITCHOVER_MODE_FORWARD);
}

/* ---- the source ---- */

void forwarding_connect(struct migration *m, struct json_object *facts)
{
    enum switchover_mode mode = switchover_mode_named(json_get_string(facts, "mode", "announce"));
    enum switchover_mode wanted = switchover_mode_wanted(m->agent->conf);
    int port = (int)json_get_int(facts, "stream_port", 0);
    struct port_list ports = {0};
    struct err e = ERR_INIT;

    m->switchover_mode = SWITCHOVER_MODE_ANNOUNCE;
    mode = mode < wanted ? mode : wanted;
    if (mode < SWITCHOVER_MODE_FORWARD || port <= 0 || port > 65535)
        return;
    if (ports_of_instance(m->instance, &ports, &e) < 0 ||
        forward_source_new(&m->forward_source, m->agent->loop, ports.items, ports.count,
                           to_net(mode), json_get_string(facts, "address", ""), port, m->uuid,
                           json_get_string(facts, "key", ""), &e) < 0)
        log_err(LOG_LEVEL_WARNING, &e, "migration %s: no frames are forwarded", m->uuid);
    else
        m->switchover_mode = mode;
    port_list_clear(&ports);
    carrying_offer(m, facts);
}

/* ---- both ---- */

bool forwarding_paused(struct migration *m)
{
    if (m->forward_source)
        forward_source_paused(m->forward_source);
    return m->forward_destination && forward_destination_paused(m->forward_destination);
}

void forwarding_told(struct migration *m)
{
    if (m->forward_destination)
        forward_destination_told(m->forward_destination);
}

void forwarding_resumed(struct migration *m)
{
    if (m->forward_destination)
        forward_destination_resumed(m->forward_destination);
}

void forwarding_reverted(struct migration *m)
{
    if (m->forward_source)
        forward_source_reverted(m->forward_source);
    if (m->forward_destination)
        forward_destination_reverted(m->forward_destination);
}

void forwarding_counts(const struct migration *m, struct forward_counts *out)
{
    *out = m->forwarded;
    if (m->forward_source)
        forward_source_counts(m->forward_source, out);
    if (m->forward_destination)
        forward_destination_counts(m->forward_destination, out);
}

void forwarding_free(struct migration *m)
{
    forwarding_counts(m, &m->forwarded);
    forward_source_free(STEAL(m->forward_source));
    forward_destination_free(STEAL(m->forward_destination));
}

void forwarding_end(struct migration *m)
{
    forwarding_end_then(m, NULL);
}

void forwarding_end_then(struct migration *m, void (*then)(struct migration *m))
{
    bool held = m->forward_destination && m->switchover_mode == SWITCHOVER_MODE_HOLD;

    if (!m->forward_source && !m->forward_destination)
        return;
    forwarding_counts(m, &m->forwarded);
    let_go(m, held && m->state == MACHINE_DESTINATION_COMPLETED, then);
    if (m->forwarded.forwarded || m->forwarded.dropped || m->forwarded.returned)
        log_info("migration %s: %llu frame(s) forwarded at the switch-over, %llu of them from "
                 "before it was known; %llu given back, %llu lost",
                 m->uuid, (unsigned long long)m->forwarded.forwarded,
                 (unsigned long long)m->forwarded.held, (unsigned long long)m->forwarded.returned,
                 (unsigned long long)m->forwarded.dropped);
}

struct json_object *forwarding_account(const struct migration *m)
{
    struct json_object *o = json_object_new_object();
    struct forward_counts counts;

    forwarding_counts(m, &counts);
    json_add_string(o, "mode", switchover_mode_name(m->switchover_mode));
    json_add_int(o, "forwarded", (int64_t)counts.forwarded);
    json_add_int(o, "held", (int64_t)counts.held);
    json_add_int(o, "dropped", (int64_t)counts.dropped);
    json_add_int(o, "returned", (int64_t)counts.returned);
    json_add_int(o, "carried", (int64_t)counts.carried);
    json_add_int(o, "carried_ms", counts.carried_us ? counts.carried_us / USEC_PER_MSEC : -1);
    return o;
}
