/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames on their way to a guest: read as the host gives them to the guest's tap, and put into a tap as if they had
 * just come. Both by packet sockets (packet(7)), so it is the same for a Linux bridge and any Open vSwitch.
 *
 * A frame is carried with the kernel's offload header in front (struct virtio_net_hdr, CAPTURE_HEADER_SIZE bytes) and
 * its VLAN tag in place, so that large segments and unfinished checksums survive. One object, one thread at a time;
 * nothing blocks.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/err.h"

enum {
    CAPTURE_HEADER_SIZE = 10,
    CAPTURE_FRAME_MAX = CAPTURE_HEADER_SIZE + 65535 + 4, /* with a VLAN tag */
    CAPTURE_FRAME_MIN = CAPTURE_HEADER_SIZE + 14         /* an Ethernet header */
};

/* What the host sends to a tap. It sees each frame before the tap's own queue does. */
struct capture;
/* ERR_SYSTEM if there is no such link or no right to a packet socket. Frames are seen from here on. */
int capture_open(struct capture **out, const char *tap, struct err *e);
void capture_close(struct capture *capture);
DEFINE_CLEANUP(struct capture *, capture_close)
int capture_fd(const struct capture *capture); /* readable when a frame waits */
/*
 * The next frame: 1 with its length in *length and the realtime at which the host sent it in *at_us; 0 if none waits;
 * -1 if the link is gone for good and nothing waits any more. `buffer` takes CAPTURE_FRAME_MAX bytes.
 */
int capture_read(struct capture *capture, uint8_t *buffer, size_t *length, int64_t *at_us);
/* Frames seen since the beginning, with those that did not fit into the socket's buffer. */
uint64_t capture_seen(struct capture *capture);
/* Stops and starts seeing frames: what a guest with much traffic costs. They are not counted meanwhile. */
int capture_set_paused(struct capture *capture, bool paused, struct err *e);

/*
 * What the kernel counts of the tap's queue: packets that its holder (QEMU, or vhost for it) has taken out, and those
 * that found it full. One netlink exchange.
 */
int capture_taken(struct capture *capture, uint64_t *packets, uint64_t *dropped, struct err *e);

/* The frame is for all or for a group: each host of the network has its own copy. */
static inline bool capture_is_multicast(const uint8_t *frame)
{
    return frame[CAPTURE_HEADER_SIZE] & 1;
}

/* Puts frames into a tap, past every queue in front of it. */
struct injector;
int injector_open(struct injector **out, const char *tap, struct err *e);
void injector_close(struct injector *injector);
DEFINE_CLEANUP(struct injector *, injector_close)
/* False if the kernel did not take it; errno tells why: ENOBUFS = the tap is full, ENETDOWN, ENXIO = it is gone. */
bool injector_put(struct injector *injector, const uint8_t *frame, size_t length);
