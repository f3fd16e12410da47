/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The publishing role of a connection: sends messages with publisher confirms and keeps each until the
 * broker has confirmed it. What was sent and not confirmed when a session ends is sent again on the next
 * one: the receiver drops the second copy by its `_unique_id`, so nothing is lost and nothing runs twice.
 *
 * A message that the broker answers by closing the channel (no such exchange, not allowed, too large)
 * takes all others in flight with it. They are then sent one at a time until the culprit is alone.
 */
#pragma once

#include "rpc/connection.h"

struct publisher;
extern const struct connection_role publisher_role;

struct publisher *publisher_new(struct bus_setup *setup, struct mailbox *inbox);
/* Some `outgoing` expired: look for them. Any thread, while the connection is not joined. */
void publisher_sweep(struct publisher *publisher);
