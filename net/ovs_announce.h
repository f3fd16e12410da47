/* SPDX-License-Identifier: Apache-2.0 */
/* Announcing on Open vSwitch: the rows of net_ovs_ops that run on the loop (net_provider.h). */
#pragma once

#include "net/net_provider.h"

int ovs_arm(struct net_armed_port *p, struct err *e);
void ovs_disarm(struct net_armed_port *p);
unsigned ovs_announce(struct net_armed_port *p, struct err *e);
bool ovs_teach(struct net_armed_port *p, struct err *e);
