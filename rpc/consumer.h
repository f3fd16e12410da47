/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The consuming role of a connection: declares its queues, each on a channel of its own, takes messages
 * and hands them to the loop, sends acknowledgements. A queue that the broker refuses (406: other flags
 * than ours) or loses (deleted, 404) is tried again for ever with growing pauses, while the others go on.
 */
#pragma once

#include "rpc/connection.h"

struct consumer;
extern const struct connection_role consumer_requests_role, consumer_replies_role;

/* Queues are copied. The consumer is the `aux` of the role; the connection frees it. */
struct consumer *consumer_new(enum bus_role role, struct bus_setup *setup, struct mailbox *inbox,
                              const struct topology_queue *queues, size_t count);
