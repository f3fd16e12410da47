/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The TCP connections that libvirt's migrations run over, as the kernel knows them. For one case only: the network
 * between two hosts was away, one end gave its connection up, and the other end has nothing to send and so never
 * learns of it. What one host has and the other has not is such a half; breaking it takes nothing from anybody.
 *
 * A connection is a text, the same on both hosts: "<address> <port> <address> <port>", first the end that listened.
 * That end's port tells what it is: libvirt's own range of 49152 to 49215, unless qemu.conf names another one.
 */
#pragma once

#include <json-c/json_object.h>
#include <stdbool.h>

#include "lib/err.h"

/* BLOCKS, hardly: those that are established and begin (listened) or end here, as an array. New reference. */
int net_streams(bool listened, struct json_object **out, struct err *e);
/* BLOCKS, hardly. Ends one that was listened for here, as a reset from the other end would; needs CAP_NET_ADMIN. One
 * that is gone is success. */
int net_stream_break(const char *stream, struct err *e);
/* The addresses of this host without the loopback's, as an array. New reference. */
int net_own_addresses(struct json_object **out, struct err *e);

/* Pure. True if the stream comes from one of the addresses and is not one of the streams that are there. */
bool net_stream_is_half(const char *stream, struct json_object *addresses,
                        struct json_object *streams);
