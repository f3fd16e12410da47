/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's end of a tap, shared with the process that holds it (QEMU): a copy of its descriptor
 * (pidfd_getfd(2)). As long as the copy is open the kernel keeps the tap, also after QEMU has gone: the same
 * interface with the same place in its bridge or switch, the same table entries, and the same rules of others
 * that name it. What is put in enters the host as if the guest had sent it, and passes those rules.
 *
 * A process that ends closes its copy: nothing is left behind by an agent that dies.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/err.h"

struct tap_end;
/*
 * BLOCKS: looks through the processes of this host for the one that holds the tap of that name in this network
 * namespace. ERR_NET_PLUG: nobody holds it, or its descriptor may not be had.
 */
int tap_end_open(struct tap_end **out, const char *tap, struct err *e);
/* Makes a tap that lasts as long as this end, up, silent, with room for `frames`. Some netlink requests. */
int tap_end_make(struct tap_end **out, const char *tap, int frames, struct err *e);
void tap_end_close(struct tap_end *end); /* NULL is accepted */
DEFINE_CLEANUP(struct tap_end *, tap_end_close)
int tap_end_fd(const struct tap_end *end); /* readable when a frame for the guest waits */

/* Puts a frame as net/capture.h gives it into the host. False if the kernel did not take it. Does not block. */
bool tap_end_put(const struct tap_end *end, const uint8_t *frame, size_t length);
/*
 * The next frame that the host sent to the tap, in the form of net/capture.h, CAPTURE_FRAME_MAX bytes at most; only
 * for one that was made here. False if none waits.
 */
bool tap_end_get(const struct tap_end *end, uint8_t *frame, size_t *length);
/* Throws away up to `count` frames that wait; for an end whose guest has gone. */
void tap_end_discard(const struct tap_end *end, unsigned count);
