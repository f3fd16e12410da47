/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which exchanges and queues an oslo.messaging server and client declare, with every flag and argument
 * (nova-contract 1.1 and 1.2; oslo.messaging's impl_rabbit, 14.0.3 to 18.3.0). A pure function of the
 * options: a broker refuses a declaration that differs in one flag from what the rest of the cloud
 * declared, so nothing here is decided at run time.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/err.h"
#include "rpc/rabbit_options.h"

enum { TOPOLOGY_NAME_SIZE = 256, TOPOLOGY_ARGUMENTS_MAX = 8 };

enum topology_kind {
    TOPOLOGY_TOPIC,  /* "compute": shared by all servers of the topic */
    TOPOLOGY_HOST,   /* "compute.<host>" */
    TOPOLOGY_FANOUT, /* "compute_fanout_<suffix>", bound to the fanout exchange */
    TOPOLOGY_REPLY,  /* "reply_<suffix>", on the default exchange */
};

struct topology_argument {
    const char *key; /* static */
    char text[32];   /* "" = a number */
    int64_t number;
};

struct topology_exchange {
    char name[TOPOLOGY_NAME_SIZE]; /* "" = the default exchange: nothing to declare or bind */
    const char *type;              /* "topic", "fanout" */
    bool durable, auto_delete;
};

struct topology_queue {
    char name[TOPOLOGY_NAME_SIZE];
    char topic[TOPOLOGY_NAME_SIZE]; /* "" for a reply queue */
    enum topology_kind kind;
    bool durable, auto_delete;
    struct topology_argument arguments[TOPOLOGY_ARGUMENTS_MAX];
    size_t argument_count;
    struct topology_exchange exchange;
    char binding_key[TOPOLOGY_NAME_SIZE];
    bool is_stream;          /* consumed with x-stream-offset */
    bool cancel_on_failover; /* consumed with x-cancel-on-ha-failover */
    bool delete_at_close;    /* nobody else uses it and the broker would keep it */
};

/*
 * The three queues of a server of `topic` on `host`, in the order in which oslo.messaging declares them.
 * `suffix` is the fanout queue's own part: 32 hex digits, or the queue manager's name.
 * ERR_CONFIG when a name is longer than AMQP's 255 bytes.
 */
int topology_server(const struct rabbit_options *options, const char *topic, const char *host,
                    const char *suffix, struct topology_queue out[3], struct err *e);
int topology_reply(const struct rabbit_options *options, const char *suffix,
                   struct topology_queue *out, struct err *e);

/*
 * The exchange that a publisher declares before it sends to `name`: the control exchange and fanout
 * exchanges. False for the default exchange and for names that are not ours to declare.
 */
bool topology_publish_exchange(const struct rabbit_options *options, const char *name,
                               struct topology_exchange *out);
