/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/node_internal.h"
#include "cloud/node.h"
#include "lib/log.h"

LOG_MODULE(node);

struct node_service {
    struct node *node;
    bool wanted; /* enabled */
    char *why;
    bool settled; /* the control plane knows it */
    bool busy;
    bool changed; /* wanted changed while busy */
};

struct node_service *node_service_new(struct node *node)
{
    struct node_service *s = NEW(struct node_service);

    s->node = node;
    s->wanted = s->settled = true;
    return s;
}

void node_service_free(struct node_service *s)
{
    if (!s)
        return;
    free(s->why);
    free(s);
}

static void told(void *aux, const struct err *failure)
{
    struct node_service *s = aux;

    if (failure)
        log_err(LOG_LEVEL_WARNING, failure, "Nova could not be told whether this host works");
    s->busy = false;
    s->settled = !failure && !s->changed;
    if (s->changed)
        node_service_settle(s);
}

void node_service_settle(struct node_service *s)
{
    struct agent *agent = s->node->agent;
    _cleanup_(str_freep) char *reason =
        s->wanted ? NULL : text_format("Connection to libvirt lost: %s", s->why);

    if (s->settled || s->busy || !s->node->registered || agent->closing)
        return;
    s->busy = true;
    s->changed = false;
    cloud_node_set_fault(agent->cloud, reason, told, s);
}

void node_service_want(struct node_service *s, bool enabled, const char *why)
{
    s->wanted = enabled;
    text_replace(&s->why, why ? why : "no reason given");
    s->settled = false;
    s->changed = s->busy;
    node_service_settle(s);
}
