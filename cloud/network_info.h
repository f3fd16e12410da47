/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One VIF of Nova's info cache from Neutron's records, key by key as Nova's network model writes it
 * (contract 2.3; nova/network/model.py and neutron.py of Zed). Pure functions, any thread.
 */
#pragma once

#include <stdbool.h>
#include <json-c/json_object.h>

#include "lib/err.h"

/* All borrowed. The arrays may hold records of other ports and networks; each may be NULL. */
struct network_info_facts {
    struct json_object *port;
    struct json_object *cached; /* the VIF as it was known before; NULL = it was not */
    struct json_object *networks, *subnets;
    struct json_object *dhcp_ports;   /* ports with the owner network:dhcp */
    struct json_object *floating_ips; /* with port_id and fixed_ip_address */
    const char *ovs_bridge;           /* [neutron] ovs_bridge: where the binding names none */
    bool preserve;                    /* the user's port: not deleted with the instance */
};

/* New reference; NULL with ERR_PARSE when the port lacks what makes it one (id, MAC, network). */
struct json_object *network_info_vif(const struct network_info_facts *facts, struct err *e);

/* The VIF with that port id in an array of VIFs, or NULL; borrowed. */
struct json_object *network_info_find(struct json_object *vifs, const char *port_id);

/* Member of an array whose `key` is `value`; NULL when there is none. Borrowed. */
struct json_object *network_info_record(struct json_object *array, const char *key,
                                        const char *value);
