/* SPDX-License-Identifier: Apache-2.0 */
/* Announcement frames, byte by byte from the RFCs; see frames.h. */
#include "net/frames.h"

#include <arpa/inet.h>
#include <string.h>

#include "lib/text.h"

static const uint8_t broadcast[FRAME_MAC_SIZE] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
static const uint8_t all_nodes_mac[FRAME_MAC_SIZE] = {0x33, 0x33, 0, 0, 0, 1};
static const uint8_t all_nodes[16] = {0xff, 0x02, [15] = 0x01};

enum {
    ETHERTYPE_ARP_ = 0x0806,
    ETHERTYPE_RARP_ = 0x8035,
    ETHERTYPE_IPV6_ = 0x86dd,
    ETHERTYPE_EXPERIMENT_ = 0x88b6,
    ETHERTYPE_VLAN_ = 0x8100,
    VLAN_MASK = 0xfff,
    MADE_UP_FIRST_BYTE = 0xf6,
    OTHER_FIRST_BYTE = 0xf2,
    ARP_REQUEST_ = 1,
    ARP_REPLY_ = 2,
    RARP_REQUEST_ = 3,
    ICMPV6_PROTOCOL = 58,
    ADVERTISEMENT_TYPE = 136,
    ADVERTISEMENT_OVERRIDE = 0x20,
    ADVERTISEMENT_LENGTH = 32, /* 24 and the target link-layer address option */
    OPTION_TARGET_ADDRESS = 2
};

static void put(struct frame *f, const void *data, size_t length)
{
    memcpy(f->data + f->length, data, length);
    f->length += length;
}

static void put8(struct frame *f, unsigned value)
{
    f->data[f->length++] = (uint8_t)value;
}

static void put16(struct frame *f, unsigned value)
{
    put8(f, value >> 8 & 0xff);
    put8(f, value & 0xff);
}

static void begin(struct frame *f, const uint8_t *to, const uint8_t *from, unsigned ethertype)
{
    memset(f, 0, sizeof(*f));
    put(f, to, FRAME_MAC_SIZE);
    put(f, from, FRAME_MAC_SIZE);
    put16(f, ethertype);
}

int frame_parse_mac(const char *text, uint8_t mac[FRAME_MAC_SIZE], struct err *e)
{
    if (text_check_mac(text, "MAC address", e) < 0)
        return -1;
    for (size_t i = 0; i < FRAME_MAC_SIZE; i++) {
        char byte[3] = {text[i * 3], text[i * 3 + 1], 0};
        mac[i] = (uint8_t)strtoul(byte, NULL, 16);
    }
    return 0;
}

/* The body that ARP (RFC 826) and RARP share: Ethernet, IPv4. */
static void arp(struct frame *f, unsigned ethertype, unsigned operation, const uint8_t *mac,
                const uint8_t *address, const uint8_t *target_mac)
{
    begin(f, broadcast, mac, ethertype);
    put16(f, 1);
    put16(f, 0x0800);
    put8(f, FRAME_MAC_SIZE);
    put8(f, 4);
    put16(f, operation);
    put(f, mac, FRAME_MAC_SIZE);
    put(f, address, 4);
    put(f, target_mac, FRAME_MAC_SIZE);
    put(f, address, 4);
    f->length = FRAME_SIZE_MIN;
}

static void lesson(struct frame *out, const uint8_t from[FRAME_MAC_SIZE],
                   const uint8_t to[FRAME_MAC_SIZE])
{
    *out = (struct frame){0};
    put(out, to, FRAME_MAC_SIZE);
    put(out, from, FRAME_MAC_SIZE);
    put16(out, ETHERTYPE_EXPERIMENT_);
    out->length = FRAME_SIZE_MIN;
}

void frames_of_lesson(struct frame out[FRAME_LESSONS], const uint8_t mac[FRAME_MAC_SIZE])
{
    uint8_t made_up[FRAME_MAC_SIZE];

    memcpy(made_up, mac, sizeof(made_up));
    made_up[0] = mac[0] == MADE_UP_FIRST_BYTE ? OTHER_FIRST_BYTE : MADE_UP_FIRST_BYTE;
    lesson(&out[0], made_up, made_up);
    lesson(&out[1], mac, made_up);
}

void frame_tag(struct frame *out, const struct frame *frame, int vlan)
{
    enum { ADDRESSES = 2 * FRAME_MAC_SIZE };
    struct frame tagged = {0};

    put(&tagged, frame->data, ADDRESSES);
    put16(&tagged, ETHERTYPE_VLAN_);
    put16(&tagged, (unsigned)vlan & VLAN_MASK);
    put(&tagged, frame->data + ADDRESSES, frame->length - ADDRESSES);
    *out = tagged;
}

void frame_rarp(struct frame *out, const uint8_t mac[FRAME_MAC_SIZE])
{
    static const uint8_t none[4];
    arp(out, ETHERTYPE_RARP_, RARP_REQUEST_, mac, none, mac);
}

void frame_arp_request(struct frame *out, const uint8_t mac[FRAME_MAC_SIZE],
                       const uint8_t address[4])
{
    static const uint8_t unknown[FRAME_MAC_SIZE];
    arp(out, ETHERTYPE_ARP_, ARP_REQUEST_, mac, address, unknown);
}

void frame_arp_reply(struct frame *out, const uint8_t mac[FRAME_MAC_SIZE], const uint8_t address[4])
{
    arp(out, ETHERTYPE_ARP_, ARP_REPLY_, mac, address, mac);
}

static uint32_t sum_words(const uint8_t *data, size_t length)
{
    uint32_t sum = 0;
    for (size_t i = 0; i + 1 < length; i += 2)
        sum += (uint32_t)data[i] << 8 | data[i + 1];
    return sum;
}

/* RFC 1071 over the IPv6 pseudo-header (RFC 8200 8.1) and the message. */
static unsigned icmpv6_checksum(const uint8_t *from, const uint8_t *message, size_t length)
{
    uint32_t sum = sum_words(from, 16) + sum_words(all_nodes, 16) + (uint32_t)length +
                   ICMPV6_PROTOCOL + sum_words(message, length);
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return ~sum & 0xffff;
}

void frame_neighbour_advertisement(struct frame *out, const uint8_t mac[FRAME_MAC_SIZE],
                                   const uint8_t address[16])
{
    begin(out, all_nodes_mac, mac, ETHERTYPE_IPV6_);
    put16(out, 0x6000); /* version 6, no class, no flow label */
    put16(out, 0);
    put16(out, ADVERTISEMENT_LENGTH);
    put8(out, ICMPV6_PROTOCOL);
    put8(out, 255); /* receivers refuse any other hop limit */
    put(out, address, 16);
    put(out, all_nodes, 16);
    size_t message = out->length;
    put8(out, ADVERTISEMENT_TYPE);
    put8(out, 0);
    put16(out, 0); /* checksum, below */
    put8(out, ADVERTISEMENT_OVERRIDE);
    put8(out, 0);
    put16(out, 0);
    put(out, address, 16);
    put8(out, OPTION_TARGET_ADDRESS);
    put8(out, 1); /* in units of 8 bytes */
    put(out, mac, FRAME_MAC_SIZE);
    unsigned checksum = icmpv6_checksum(address, out->data + message, ADVERTISEMENT_LENGTH);
    out->data[message + 2] = (uint8_t)(checksum >> 8);
    out->data[message + 3] = (uint8_t)checksum;
}

static int add_address(struct frame *frames, size_t *count, const uint8_t *mac, const char *text,
                       struct err *e)
{
    uint8_t address[16];
    if (inet_pton(AF_INET, text, address) == 1) {
        frame_arp_request(&frames[(*count)++], mac, address);
        frame_arp_reply(&frames[(*count)++], mac, address);
        return 0;
    }
    if (inet_pton(AF_INET6, text, address) != 1)
        return text_check_ip(text, "address of the guest", e);
    frame_neighbour_advertisement(&frames[(*count)++], mac, address);
    return 0;
}

int frames_for_port(const char *mac_text, char *const *addresses, struct frame **out, size_t *count,
                    struct err *e)
{
    uint8_t mac[FRAME_MAC_SIZE];
    if (frame_parse_mac(mac_text, mac, e) < 0)
        return -1;
    size_t n_addresses = addresses ? text_vector_length(addresses) : 0, n = 0;
    if (n_addresses > FRAME_ADDRESSES_MAX)
        return err_set(e, ERR_INVALID, "port %s has %zu addresses, at most %d are allowed",
                       mac_text, n_addresses, FRAME_ADDRESSES_MAX);
    _cleanup_(mem_freep) struct frame *frames = NEW_ARRAY(struct frame, 1 + 2 * n_addresses);
    frame_rarp(&frames[n++], mac);
    for (size_t i = 0; i < n_addresses; i++)
        if (add_address(frames, &n, mac, addresses[i], e) < 0)
            return -1;
    *count = n;
    *out = STEAL(frames);
    return 0;
}
