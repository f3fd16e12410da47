/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The few OpenFlow messages (versions 1.0 and 1.3) that announcing on Open vSwitch needs: hello, the list
 * of ports and its changes, packet-out to NORMAL, echo. Pure encoding and decoding; every length is checked.
 * Wire formats: OpenFlow Switch Specification 1.0.0 section 5 and 1.3.5 section 7.
 */
#pragma once

#include <linux/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/err.h"
#include "lib/text.h"
#include "net/frames.h"

enum { OPENFLOW_10 = 1, OPENFLOW_13 = 4, OPENFLOW_HEADER_SIZE = 8 };

enum openflow_type {
    OPENFLOW_HELLO = 0,
    OPENFLOW_ERROR = 1,
    OPENFLOW_ECHO_REQUEST = 2,
    OPENFLOW_ECHO_REPLY = 3,
    OPENFLOW_FEATURES_REPLY = 6,
    OPENFLOW_PORT_STATUS = 12,
    OPENFLOW_MULTIPART_REPLY_13 = 19
};

struct openflow_message {
    uint8_t version, type;
    uint16_t length; /* of the whole message */
    uint32_t xid;
    const uint8_t *data; /* the whole message; borrowed */
};

struct openflow_port {
    uint32_t number;
    bool gone;
    char name[IFNAMSIZ];
};

/* The message at the start of `data`; 0 if it is not complete yet, -1 if it is none. */
int openflow_next(const uint8_t *data, size_t length, struct openflow_message *out, struct err *e);

/* Which of our versions the switch's hello allows; ERR_NET_PLUG if none. */
int openflow_negotiate(const struct openflow_message *hello, uint8_t *version, struct err *e);

/* Calls fn for each port in a features reply (1.0), port description (1.3) or port status; others: none. */
typedef void (*openflow_port_fn)(void *aux, const struct openflow_port *port);
int openflow_ports(const struct openflow_message *m, openflow_port_fn fn, void *aux, struct err *e);

/* Encoders append to a buffer. */
void openflow_put_hello(struct text_buffer *b);
/* Asks for the ports, and for port status messages from now on. */
void openflow_put_watch_ports(struct text_buffer *b, uint8_t version);
void openflow_put_echo_reply(struct text_buffer *b, const struct openflow_message *request);
/*
 * As if the frame had come in by the port: the switch learns, then treats it as its own L2 pipeline does. Or, with
 * another out_port than OPENFLOW_NORMAL, it goes out there and nothing is learned.
 */
enum { OPENFLOW_NORMAL = 0 };
void openflow_put_packet_out(struct text_buffer *b, uint8_t version, uint32_t in_port,
                             uint32_t out_port, const struct frame *frame);
