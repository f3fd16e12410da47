/* SPDX-License-Identifier: Apache-2.0 */
/* Announcing on a Linux bridge: the rows of net_bridge_ops that run on the loop (net_provider.h). */
#pragma once

#include "net/net_provider.h"

int bridge_arm(struct net_armed_port *p, struct err *e);
void bridge_disarm(struct net_armed_port *p);
unsigned bridge_announce(struct net_armed_port *p, struct err *e);
void bridge_link_changed(struct net_armed_port *p, const struct link *link);
void bridge_link_lost(struct net_armed_port *p);
