/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Announcement frames: what a guest's host says to the fabric when a guest appears behind another port.
 * Pure functions; no frame depends on anything but a MAC and an IP address. Any thread.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "lib/attributes.h"
#include "lib/err.h"

enum { FRAME_MAC_SIZE = 6, FRAME_SIZE_MIN = 60, FRAME_SIZE_MAX = 90, FRAME_ADDRESSES_MAX = 32 };

/* One Ethernet frame without its check sequence, padded to the minimum length. */
struct frame {
    uint8_t data[FRAME_SIZE_MAX];
    size_t length;
};

/* "aa:bb:cc:dd:ee:ff" to bytes; ERR_INVALID for anything else or a multicast address. */
int frame_parse_mac(const char *text, uint8_t mac[FRAME_MAC_SIZE], struct err *e);

/* Reverse ARP request, as QEMU announces itself (RFC 903; QEMU net/announce.c): teaches switches. */
void frame_rarp(struct frame *out, const uint8_t mac[FRAME_MAC_SIZE]);

/*
 * Two frames that teach a switch where the guest is. A switch learns from a frame when it has decided where that
 * goes, so the first is from a made-up address to itself, and is flooded if nobody knows it yet; the second, from the
 * guest to that address, would have to go out of the port that it came in by, and goes nowhere. The made-up address
 * is the guest's with another first byte, which neither Neutron (fa) nor libvirt (52, and fe for taps) uses. EtherType
 * 0x88b6, which IEEE 802 keeps for local experiments.
 */
enum { FRAME_LESSONS = 2 };
void frames_of_lesson(struct frame out[FRAME_LESSONS], const uint8_t mac[FRAME_MAC_SIZE]);
/* The same frame in a VLAN (IEEE 802.1Q 9.6, priority 0). `out` may be `frame`. */
void frame_tag(struct frame *out, const struct frame *frame, int vlan);

/*
 * Gratuitous ARP of one IPv4 address (network order). The request form is what Linux sends on
 * NETDEV_NOTIFY_PEERS (target hardware address zero), the reply form that of RFC 5944 4.6 (target
 * hardware address the sender's own).
 */
void frame_arp_request(struct frame *out, const uint8_t mac[FRAME_MAC_SIZE],
                       const uint8_t address[4]);
void frame_arp_reply(struct frame *out, const uint8_t mac[FRAME_MAC_SIZE],
                     const uint8_t address[4]);

/* Unsolicited neighbour advertisement to all nodes, override set (RFC 4861 4.4 and 7.2.6). */
void frame_neighbour_advertisement(struct frame *out, const uint8_t mac[FRAME_MAC_SIZE],
                                   const uint8_t address[16]);

/*
 * All frames of a guest's port in sending order: RARP, then for each address ARP request and reply or the
 * advertisement. `addresses` (NULL-terminated, may be NULL) takes IPv4 and IPv6. *out is the caller's.
 * ERR_INVALID for a MAC or address that is none, or more than FRAME_ADDRESSES_MAX.
 */
int frames_for_port(const char *mac, char *const *addresses, struct frame **out, size_t *count,
                    struct err *e);
