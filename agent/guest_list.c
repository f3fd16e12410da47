/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/guest_list.h"

#include <stdlib.h>

#include "lib/text.h"
#include "lib/workers.h"

struct read {
    struct agent *agent;
    struct virt *virt;
    struct guest_list list;
    int result;
    struct err e;
    guest_list_fn done;
    void (*release)(void *aux);
    void *aux;
};

static void read_run(void *aux)
{
    struct read *r = aux;

    r->result = virt_guest_list(r->virt, &r->list.guests, &r->list.count, &r->e);
}

static void read_done(void *aux, enum work_end end)
{
    struct read *r = aux;

    if (end == WORK_DONE && !r->agent->closing)
        r->done(r->aux, &r->list, r->result < 0 ? &r->e : NULL);
}

static void read_release(void *aux)
{
    struct read *r = aux;

    if (r->list.guests)
        virt_guest_list_free(r->list.guests, r->list.count);
    if (r->release)
        r->release(r->aux);
    free(r);
}

void guest_list_read(struct agent *agent, const char *name, guest_list_fn done,
                     void (*release)(void *aux), void *aux)
{
    struct read *r = NEW(struct read);
    struct work work = {
        .name = name, .run = read_run, .done = read_done, .release = read_release, .aux = r};

    r->agent = agent;
    r->virt = agent->virt;
    r->done = done;
    r->release = release;
    r->aux = aux;
    workers_submit(agent->workers, &work);
}

enum virt_state guest_list_state(const struct guest_list *list, const char *uuid)
{
    for (size_t i = 0; i < list->count; i++)
        if (text_equal(list->guests[i]->uuid, uuid))
            return list->guests[i]->state;
    return VIRT_STATE_NONE;
}
