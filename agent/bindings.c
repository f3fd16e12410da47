/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which host Neutron wires the guest's ports on. The destination's bindings are activated when the guest
 * stops at the source, not after the clean-up: Neutron's agents then work while the last pages travel. If
 * the switch-over fails, the source's bindings are made active again before the destination's go.
 *
 * One request at a time: the next one is begun when the one before it has been answered, so that two hosts
 * are never activated side by side.
 */
#include "agent/source.h"

#include "lib/log.h"

LOG_MODULE(source);

static void next(struct migration *m);

static void answered(void *aux, const struct err *failure)
{
    struct migration *m = aux;
    struct bindings *b = &m->bindings;

    b->asked = false;
    b->active = failure ? BINDINGS_UNKNOWN : b->asked_for;
    if (b->active == BINDINGS_DESTINATION)
        migration_stamp(m, TIMELINE_BINDINGS_ACTIVE);
    if (failure)
        log_err(LOG_LEVEL_WARNING, failure, "migration %s: activation of the port bindings on %s",
                m->uuid, b->asked_for == BINDINGS_SOURCE ? m->source_host : m->destination_host);
    if (b->done && (failure || b->active == b->wanted)) {
        cloud_done_fn done = b->done;
        b->done = NULL;
        done(b->aux, failure);
    } else if (!failure && !m->agent->closing) {
        next(m);
    }
    migration_unref(m);
}

static void next(struct migration *m)
{
    struct bindings *b = &m->bindings;
    const char *host = b->wanted == BINDINGS_SOURCE ? m->source_host : m->destination_host;

    if (b->asked || b->active == b->wanted)
        return;
    b->asked = true;
    b->asked_for = b->wanted;
    if (b->asked_for == BINDINGS_DESTINATION)
        migration_stamp(m, TIMELINE_BINDINGS_ASKED);
    cloud_bindings(m->agent->cloud, m->context, m->instance, m->data, host, CLOUD_BINDING_ACTIVATE,
                   answered, migration_ref(m));
}

void bindings_switch(struct migration *m)
{
    m->bindings.wanted = BINDINGS_DESTINATION;
    next(m);
}

void bindings_return(struct migration *m)
{
    m->bindings.wanted = BINDINGS_SOURCE;
    next(m);
}

/* Waits for what is under way or begins it. */
static void settle(struct migration *m, enum bindings_host wanted, cloud_done_fn done, void *aux)
{
    struct bindings *b = &m->bindings;

    b->wanted = wanted;
    if (!b->asked && b->active == wanted) {
        done(aux, NULL);
        return;
    }
    b->done = done;
    b->aux = aux;
    next(m);
}

void bindings_part_switch(struct migration *m, cloud_done_fn done, void *aux)
{
    settle(m, BINDINGS_DESTINATION, done, aux);
}

struct removal {
    struct migration *migration;
    cloud_done_fn done;
    void *aux;
};

static void returned(void *aux, const struct err *failure)
{
    struct removal *removal = aux;
    struct migration *m = removal->migration;

    if (failure)
        removal->done(removal->aux, failure);
    else
        cloud_bindings(m->agent->cloud, m->context, m->instance, m->data, m->destination_host,
                       CLOUD_BINDING_DELETE, removal->done, removal->aux);
    migration_unref(m);
    free(removal);
}

void bindings_part_return(struct migration *m, cloud_done_fn done, void *aux)
{
    struct removal *removal = NEW(struct removal);

    *removal = (struct removal){migration_ref(m), done, aux};
    settle(m, BINDINGS_SOURCE, returned, removal);
}
