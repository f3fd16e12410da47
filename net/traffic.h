/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel's traffic control, as far as net/hold.h needs it: an intermediate device (IFB) with a token
 * bucket (TBF), and one filter on the way out of a tap that sends every frame there. Any thread, with a
 * netlink socket of its own; each call is one request unless it says more. Failures are ERR_NET_PLUG.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "lib/err.h"
#include "net/netlink.h"

/* A device of our own gets no IPv6 address, with which it would speak by itself. One request; before it is up. */
void traffic_keep_silent(struct netlink *nl, const char *name);
/* Makes an IFB, down, to which IPv6 gives no address (it would speak by itself). Two requests. */
int traffic_add_ifb(struct netlink *nl, const char *name, struct err *e);
/*
 * Frames that an IFB took (what was redirected to it) and has not put back yet, besides those in its
 * queueing discipline.
 */
int traffic_ifb_in_flight(struct netlink *nl, const struct link *ifb, int64_t *frames,
                          struct err *e);

struct traffic_bucket {
    uint64_t rate;  /* bytes a second, at least 1 */
    uint32_t burst; /* bytes; also the largest frame that goes whole, a larger GSO frame is split */
    uint16_t surcharge; /* bytes that each frame costs on top of its length */
    uint32_t limit;     /* bytes that may wait; what comes then is dropped */
};
/* Makes or changes the link's root TBF. A change keeps what waits; the bucket is full afterwards. */
int traffic_set_bucket(struct netlink *nl, const struct link *link,
                       const struct traffic_bucket *bucket, struct err *e);
/* What waits in the root TBF, and its limit. ERR_NET_PLUG if there is none. */
struct traffic_queue {
    uint32_t frames, bytes, limit;
};
int traffic_queue(struct netlink *nl, const struct link *link, struct traffic_queue *out,
                  struct err *e);

/*
 * The hook that filters hang at. There already is success; an "ingress" hook in its place is refused. Making it
 * and taking it away, the kernel drops what passes a link that is up (0.35 ms, measured with 6.18).
 */
int traffic_add_hook(struct netlink *nl, const struct link *link, struct err *e);
/* Takes the hook away unless it has filters or is another's "ingress". Nothing there is success. */
int traffic_remove_hook(struct netlink *nl, const struct link *link, struct err *e);

/* Every frame that leaves by the link goes to `to` instead. Needs the hook. Loses no frame. */
int traffic_redirect(struct netlink *nl, const struct link *link, const struct link *to,
                     struct err *e);
/* Takes that filter away; *was tells whether it was there. Loses no frame. */
int traffic_direct(struct netlink *nl, const struct link *link, bool *was, struct err *e);
