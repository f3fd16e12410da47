/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What bus.c (the loop's side) and the connections' threads share: the setup, which nobody changes after
 * the start, and the letters that they send each other.
 *
 * Ownership: a letter belongs to whoever took it last. An `outgoing` goes to the publisher's thread with
 * LETTER_PUBLISH and always comes back with LETTER_OUTCOME; meanwhile the loop may only set `expired`.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "rpc/bus.h"
#include "rpc/mailbox.h"
#include "rpc/rabbit_options.h"
#include "rpc/topology.h"
#include "rpc/transport_url.h"

struct bus_setup {
    atomic_uint references;
    struct rabbit_options *options;
    struct transport_url *url;
    struct mailbox *outbox; /* to the loop */
    char *name;             /* what a broker's management shows, before the role's */
};
struct bus_setup *bus_setup_ref(struct bus_setup *setup);
void bus_setup_unref(struct bus_setup *setup);

enum bus_role { BUS_REQUESTS, BUS_REPLIES, BUS_PUBLISHER, BUS_ROLE_COUNT };

enum letter_kind {
    /* to the loop */
    LETTER_DELIVERY,
    LETTER_OUTCOME,
    LETTER_STATE,
    /* to a consumer */
    LETTER_ACK,
    LETTER_STOP_TOPIC,
    /* to the publisher */
    LETTER_PUBLISH,
};

struct delivery_letter {
    struct letter letter;
    struct bus_delivery *delivery;
};

struct ack_letter {
    struct letter letter;
    uint64_t epoch, tag;
};

struct stop_letter {
    struct letter letter;
    char topic[TOPOLOGY_NAME_SIZE];
};

struct state_letter {
    struct letter letter;
    enum bus_role role;
    bool up;
    char why[ERR_TEXT_SIZE]; /* "" when up */
    char broker[300];        /* "" when not connected */
};

struct outgoing {
    struct letter letter;
    struct outgoing *previous, *next; /* the loop's list of what is not told yet */
    struct bus_message message;       /* exchange, routing_key and body are owned */
    bool told;                        /* the loop's */
    atomic_bool expired;
    int64_t queued_us;
    /* The publisher's: */
    uint64_t sequence; /* of the channel, while unconfirmed */
    bool returned, tried_twice;
    enum bus_outcome outcome;
};

/* Frees a letter that is one allocation. */
void letter_free(struct letter *letter);
void outgoing_drop(struct letter *letter);

/* Tells the loop the state of one role, if it differs from what was told last. */
struct state_reporter {
    struct bus_setup *setup; /* borrowed */
    enum bus_role role;
    bool told, up;
    char why[ERR_TEXT_SIZE];
};
void state_report(struct state_reporter *reporter, bool up, const char *broker, const char *why);
