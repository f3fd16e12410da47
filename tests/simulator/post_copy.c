/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Post-copy, as libvirt from 8.5 on and QEMU have it. The guest stops at the source, libvirt's Finish starts it at
 * the destination, and its pages follow over one connection. From the stop on neither QEMU can go without the
 * other.
 *
 * Three things can say that the connection is lost, each when it wants: libvirt's own connection between the hosts
 * (the call ends, the source is "paused (post-copy failed)", QEMU goes on all the same), QEMU's end at the source,
 * and QEMU's end at the destination, which may hear of it never: a guest that waits for a page sends nothing. With
 * both ends lost and libvirt knowing it on both hosts the resuming call makes another connection. Earlier it is
 * refused, and where QEMU at the destination has not noticed, libvirt 9.0 is spoilt by it (virt/libvirt_migrate.c),
 * so that nobody may ask for it then.
 *
 * A libvirtd that is started again finds a post-copy that is nobody's: "failed", and QEMU ends it by itself.
 * Between the stop and the start, when the libvirtds lose each other, the one at the destination destroys what it
 * had not started, or leaves it paused; nobody can start it then.
 */
#include <json-c/json.h>

#include "net/streams.h"
#include "tests/simulator/hypervisor_internal.h"

static const int64_t guest_bytes = INT64_C(268435456);
enum { POST_PASSES_MAX = 6 };

static struct host *source(void)
{
    return &sim->hosts[SOURCE];
}

static struct host *destination(void)
{
    return &sim->hosts[DESTINATION];
}

static unsigned side_of(const struct host *host)
{
    return host == source() ? SOURCE : DESTINATION;
}

static bool exists(const struct host *host)
{
    enum virt_state state = hypervisor_state(host);

    return state == VIRT_STATE_RUNNING || state == VIRT_STATE_PAUSED;
}

/* What a look at the domains tells. */
static void show(void)
{
    const struct hypervisor *h = sim->hypervisor;
    struct virt_job job = {
        .active = true,
        .memory_total = guest_bytes,
        .memory_remaining = guest_bytes / POST_PASSES_MAX * (int64_t)h->left,
        .memory_bps = 100000000,
        .page_size = 4096,
        .iteration = (int)h->passes + 1,
        .downtime_ms = 300,
        .post_copy = true,
        .post_copy_failed = h->failed[SOURCE],
    };
    struct virt_job arrival = {.post_copy = true, .post_copy_failed = h->failed[DESTINATION]};

    job.memory_processed = guest_bytes - job.memory_remaining;
    virt_fake_samples(hypervisor_virt_of(source()), WORLD_INSTANCE, &job, 1);
    virt_fake_samples(hypervisor_virt_of(destination()), WORLD_INSTANCE, &arrival, 1);
}

/* ---- its network is lost ---- */

static void fail(unsigned side)
{
    struct hypervisor *h = sim->hypervisor;
    struct host *host = &sim->hosts[side];

    if (h->failed[side] || !exists(host))
        return;
    if (side == DESTINATION && (h->stranded || h->unheard))
        return;
    sim_trace("%s: libvirt says that post-copy failed", host->name);
    sim->coverage->post_copy[side == SOURCE ? POST_COPY_LOST_SOURCE : POST_COPY_LOST_DESTINATION]++;
    h->failed[side] = true;
    show();
    hypervisor_tell(host, VIRT_EVENT_POSTCOPY_FAILED, 0);
    if (side == SOURCE)
        hypervisor_call_ends(VIRT_OUTCOME_UNKNOWN);
}

static void lose_end(unsigned side)
{
    struct hypervisor *h = sim->hypervisor;

    if (!h->ends[side])
        return;
    sim_trace("%s: QEMU gives its connection up", sim->hosts[side].name);
    h->ends[side] = false;
    fail(side);
}

static void cut_off(void)
{
    switch (sim_below(4)) {
    case 0:
        fail(SOURCE);
        return;
    case 1:
        lose_end(SOURCE);
        return;
    case 2:
        if (!sim->hypervisor->deaf)
            lose_end(DESTINATION);
        return;
    default:
        return; /* it lasts */
    }
}

/* ---- its steps ---- */

void post_copy_leave(void)
{
    struct hypervisor *h = sim->hypervisor;

    sim_trace("libvirt: the guest stops at the source for post-copy");
    sim->coverage->post_copy[POST_COPY_BEGUN]++;
    sim->calm = false;
    h->phase = LEAVING;
    h->left = 1 + (unsigned)sim_below(POST_PASSES_MAX);
    h->ends[SOURCE] = h->ends[DESTINATION] = true;
    h->connections++;
    h->deaf = sim_below(2) == 0;
    h->unheard = sim_below(20) == 0;
    virt_fake_set_state(hypervisor_virt_of(source()), WORLD_INSTANCE, VIRT_STATE_PAUSED);
    hypervisor_tell(source(), VIRT_EVENT_PAUSED_POSTCOPY, 0);
    show();
}

static void start(void)
{
    sim_trace("libvirt: the guest runs at the destination, a part of its memory follows");
    sim->hypervisor->phase = POST_COPY;
    virt_fake_set_state(hypervisor_virt_of(destination()), WORLD_INSTANCE, VIRT_STATE_RUNNING);
    hypervisor_tell(destination(), VIRT_EVENT_RESUMED_POSTCOPY, 0);
}

/* One of the two is gone for good. */
static void tear(struct host *host)
{
    struct hypervisor *h = sim->hypervisor;

    sim->coverage->post_copy[POST_COPY_TORN]++;
    h->torn = true;
    h->ends[side_of(host)] = false;
    h->phase = POST_COPY;
    if (sim_below(2) == 0)
        virt_fake_remove(hypervisor_virt_of(host), WORLD_INSTANCE);
    else
        virt_fake_set_state(hypervisor_virt_of(host), WORLD_INSTANCE, VIRT_STATE_SHUTOFF);
    hypervisor_tell(host, VIRT_EVENT_STOPPED, 0);
    if (host == source())
        hypervisor_call_ends(VIRT_OUTCOME_UNKNOWN);
}

/* The libvirtds lost each other: Finish was under way to the destination, or had come. */
static void lose_on_the_way(void)
{
    fail(SOURCE);
    switch (sim_below(3)) {
    case 0:
        start();
        return;
    case 1:
        sim_trace("%s: libvirt destroys what it had not started", destination()->name);
        tear(destination());
        return;
    default:
        sim_trace("%s: libvirt leaves it as it came, not started", destination()->name);
        sim->coverage->post_copy[POST_COPY_STRANDED]++;
        sim->hypervisor->stranded = true;
    }
}

static void send(void)
{
    struct hypervisor *h = sim->hypervisor;

    if (h->left > 0) {
        h->left--;
        show();
        return;
    }
    sim_trace("libvirt: all of the guest is at the destination");
    sim->coverage->post_copy[h->failed[SOURCE] ? POST_COPY_BY_ITSELF : POST_COPY_COMPLETED]++;
    h->phase = ARRIVED;
    virt_fake_samples(hypervisor_virt_of(destination()), WORLD_INSTANCE, NULL, 0);
    hypervisor_tell(destination(), VIRT_EVENT_RESUMED_MIGRATION, 0);
}

void post_copy_advance(void)
{
    const struct hypervisor *h = sim->hypervisor;

    if (h->phase == LEAVING && !h->stranded) {
        if (h->network_is_cut)
            lose_on_the_way();
        else
            start();
    } else if (h->network_is_cut) {
        cut_off();
    } else if (!h->ends[DESTINATION]) {
        lose_end(SOURCE);
    } else if (!h->ends[SOURCE]) {
        lose_end(DESTINATION);
    } else if (!h->stranded) {
        send();
    }
}

bool post_copy_can_advance(void)
{
    const struct hypervisor *h = sim->hypervisor;
    bool notices = h->ends[DESTINATION] && !h->deaf;

    if (h->phase == LEAVING && !h->stranded)
        return true;
    if (h->stranded && h->ends[SOURCE] && h->ends[DESTINATION])
        return h->network_is_cut;
    return h->ends[SOURCE] || notices;
}

/* ---- it goes on ---- */

bool post_copy_resume(struct host *host)
{
    struct hypervisor *h = sim->hypervisor;

    if (host != source() || h->phase != POST_COPY || h->network_is_cut || h->torn) {
        sim_trace("libvirt: post-copy cannot go on now");
        return false;
    }
    if (!h->failed[DESTINATION])
        sim_violation("post-copy is to go on before the destination knows that it failed");
    if (h->ends[SOURCE] || h->ends[DESTINATION]) {
        sim_trace("libvirt: post-copy is not asked to go on: it has not failed");
        return false;
    }
    sim_trace("libvirt: post-copy goes on");
    sim->coverage->post_copy[POST_COPY_RECOVERED]++;
    h->ends[SOURCE] = h->ends[DESTINATION] = true;
    h->failed[SOURCE] = h->failed[DESTINATION] = false;
    h->connections++;
    h->deaf = sim_below(2) == 0;
    show();
    hypervisor_tell(source(), VIRT_EVENT_PAUSED_POSTCOPY, 0);
    hypervisor_tell(destination(), VIRT_EVENT_RESUMED_POSTCOPY, 0);
    return true;
}

/* ---- daemons and deaths ---- */

void post_copy_restart(const struct host *host)
{
    if (sim->hypervisor->phase == LEAVING && !sim->hypervisor->stranded)
        lose_on_the_way();
    if (sim->hypervisor->phase != POST_COPY)
        return;
    fail(side_of(host));
    fail(SOURCE); /* its call went to the other libvirtd */
}

/* Its peer hears of that, but for a network that is away. */
void post_copy_guest_dies(void)
{
    struct hypervisor *h = sim->hypervisor;
    struct host *host = &sim->hosts[sim_below(HOSTS)];

    if (h->torn || h->phase == LEAVING)
        return;
    sim_trace("%s: the guest's QEMU dies", host->name);
    h->guest_died = true;
    sim->coverage->guests_died++;
    tear(host);
    if (!h->network_is_cut)
        lose_end(host == source() ? DESTINATION : SOURCE);
}

/* Nobody but libvirt and QEMU themselves took a half of it. */
bool hypervisor_is_whole(void)
{
    const struct hypervisor *h = sim->hypervisor;

    if (h->torn)
        return true;
    if (h->phase == LEAVING)
        return hypervisor_state(source()) == VIRT_STATE_PAUSED &&
               hypervisor_state(destination()) == VIRT_STATE_PAUSED;
    return h->phase != POST_COPY || (hypervisor_state(source()) == VIRT_STATE_PAUSED &&
                                     hypervisor_state(destination()) == VIRT_STATE_RUNNING);
}

bool hypervisor_is_in_post_copy(void)
{
    return sim->hypervisor->phase == LEAVING || sim->hypervisor->phase == POST_COPY;
}

bool hypervisor_cannot_go_on(void)
{
    return sim->hypervisor->torn || sim->hypervisor->stranded;
}

bool hypervisor_is_unheard(void)
{
    return sim->hypervisor->unheard;
}

/* ---- the network ---- */

bool hypervisor_network_is_cut(void)
{
    return sim->hypervisor->network_is_cut;
}

void hypervisor_cut_network(bool cut)
{
    if (sim->hypervisor->network_is_cut == cut)
        return;
    sim->hypervisor->network_is_cut = cut;
    sim->coverage->post_copy[POST_COPY_NETWORK_CUT] += cut;
    sim_trace("the migrations' network is %s", cut ? "cut" : "whole again");
}

static const char own_address[] = "198.51.100.1";

static char *stream_name(void)
{
    return text_format("198.51.100.2 49152 %s %u", own_address,
                       40000 + sim->hypervisor->connections);
}

int __wrap_net_streams(bool listened, struct json_object **out, struct err *e);
int __wrap_net_stream_break(const char *stream, struct err *e);
int __wrap_net_own_addresses(struct json_object **out, struct err *e);

int __wrap_net_streams(bool listened, struct json_object **out, struct err *e)
{
    unsigned side = listened ? DESTINATION : SOURCE;
    _cleanup_(str_freep) char *name = stream_name();

    (void)e;
    *out = json_object_new_array();
    if (hypervisor_is_in_post_copy() && sim->hypervisor->ends[side])
        json_object_array_add(*out, json_object_new_string(name));
    return 0;
}

int __wrap_net_stream_break(const char *stream, struct err *e)
{
    _cleanup_(str_freep) char *name = stream_name();

    (void)e;
    if (!hypervisor_is_in_post_copy() || !text_equal(stream, name))
        return 0;
    if (sim->hypervisor->ends[SOURCE])
        sim_violation("a connection that lives is broken");
    lose_end(DESTINATION);
    return 0;
}

int __wrap_net_own_addresses(struct json_object **out, struct err *e)
{
    (void)e;
    *out = json_object_new_array();
    json_object_array_add(*out, json_object_new_string(own_address));
    return 0;
}
