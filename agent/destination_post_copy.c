/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Post-copy at the destination, when the source says that its connection is lost. QEMU here learns of that only from an
 * answer to what it sends. A guest whose processors all wait for a page asks for nothing more, so it can wait
 * for ever, and libvirt refuses to go on with a migration that still runs. The source's agent tells which
 * connections it has; what was here before it was asked, comes from that host and is not among them, is the dead
 * half, and is broken. A guest that is not here any more, or was never started, cannot be recovered, and the source is
 * told so.
 */
#include "agent/destination.h"

#include "lib/json.h"
#include "lib/log.h"
#include "lib/text.h"
#include "net/streams.h"

LOG_MODULE(destination);

struct compare {
    struct virt *virt;
    char *uuid;
    struct json_object *before, *addresses, *streams, *now;
    bool failed, gone, paused;
};

static void compare_release(struct migration_job *job)
{
    struct compare *compare = job->aux;

    free(compare->uuid);
    json_object_put(compare->before);
    json_object_put(compare->addresses);
    json_object_put(compare->streams);
    json_object_put(compare->now);
    free(compare);
}

static int compare_run(struct migration_job *job, struct err *e)
{
    struct compare *compare = job->aux;
    size_t count = compare->before ? json_object_array_length(compare->before) : 0;

    enum virt_state state = VIRT_STATE_NONE;
    enum virt_post_copy post_copy;

    if (virt_guest_state(compare->virt, compare->uuid, &state, e) < 0)
        return -1;
    compare->gone = state == VIRT_STATE_NONE || state == VIRT_STATE_SHUTOFF;
    compare->paused = state == VIRT_STATE_PAUSED;
    if (compare->gone)
        return 0;
    if (virt_migration_post_copy(compare->virt, compare->uuid, &post_copy, e) < 0)
        return -1;
    /* so says a libvirt that was started again, whatever QEMU here knows: its end is looked at all the same */
    compare->failed = post_copy == VIRT_POST_COPY_FAILED;
    for (size_t i = 0; i < count; i++) {
        const char *stream = json_object_get_string(json_object_array_get_idx(compare->before, i));
        if (!net_stream_is_half(stream, compare->addresses, compare->streams))
            continue;
        log_warning("migration %s: the connection %s is only a half, the source has none; it is "
                    "broken",
                    job->uuid, stream);
        if (net_stream_break(stream, e) < 0)
            return -1;
    }
    return net_streams(true, &compare->now, e);
}

/* One that was paused at the last look too was never started: the network went away in between. */
static bool cannot_go_on(struct migration *m, const struct compare *compare)
{
    bool paused = compare->paused && m->state == MACHINE_DESTINATION_PREPARED;
    bool stays = paused && m->post_copy_unstarted;

    m->post_copy_unstarted = paused;
    return compare->gone || stays;
}

static void compare_done(struct migration_job *job)
{
    struct migration *m = job->migration;
    struct compare *compare = job->aux;

    if (job->result < 0) {
        log_err(LOG_LEVEL_WARNING, &job->e,
                "migration %s: a lost connection may stay unnoticed here", m->uuid);
        m->post_copy_lost = false; /* it may go on since; the source is not to try on an old word */
    } else {                       /* the next question tells */
        m->post_copy_lost = compare->failed;
        m->post_copy_gone = cannot_go_on(m, compare);
    }
    json_object_put(m->streams);
    m->streams = STEAL(compare->now);
}

void destination_post_copy_look(struct migration *m, struct json_object *source)
{
    struct compare *compare = NEW(struct compare);
    struct migration_job job = {.name = "look for a lost connection",
                                .run = compare_run,
                                .done = compare_done,
                                .release = compare_release,
                                .aux = compare};

    compare->virt = m->agent->virt;
    compare->uuid = text_dup(m->instance_uuid);
    /* copies: another thread counts their references */
    compare->before = STEAL(m->streams);
    compare->addresses = json_copy(json_get(source, "addresses"));
    compare->streams = json_copy(json_get(source, "streams"));
    migration_submit(m, &job, false, false);
}
