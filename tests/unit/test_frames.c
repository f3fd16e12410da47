/* SPDX-License-Identifier: Apache-2.0 */
/* Announcement frames (net/frames.h), byte for byte, and the OpenFlow messages that carry them. */
#include "net/frames.h"

#include "net/openflow.h"
#include "tests/unit/unit.h"

static const uint8_t mac[FRAME_MAC_SIZE] = {0x52, 0x54, 0x00, 0xab, 0xcd, 0xef};
static const uint8_t ipv4[4] = {198, 51, 100, 7};

static void same_bytes(const struct frame *f, const uint8_t *expected, size_t length)
{
    UNIT_EQ(f->length, length);
    for (size_t i = 0; i < length && i < f->length; i++)
        if (f->data[i] != expected[i] && !UNIT_EQ(f->data[i], expected[i]))
            (void)printf("# at byte %zu\n", i);
}

UNIT_TEST(rarp, "a reverse ARP request is what QEMU sends, padded to 60 bytes")
{
    static const uint8_t expected[60] = {
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x52, 0x54, 0x00, 0xab, 0xcd, 0xef, 0x80, 0x35,
        0x00, 0x01, 0x08, 0x00, 0x06, 0x04, 0x00, 0x03, 0x52, 0x54, 0x00, 0xab, 0xcd, 0xef,
        0x00, 0x00, 0x00, 0x00, 0x52, 0x54, 0x00, 0xab, 0xcd, 0xef, 0x00, 0x00, 0x00, 0x00};
    struct frame f;

    frame_rarp(&f, mac);
    same_bytes(&f, expected, sizeof(expected));
}

UNIT_TEST(arp_request,
          "a gratuitous ARP request has target hardware address zero, as Linux sends it")
{
    static const uint8_t expected[60] = {
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x52, 0x54, 0x00, 0xab, 0xcd, 0xef, 0x08, 0x06,
        0x00, 0x01, 0x08, 0x00, 0x06, 0x04, 0x00, 0x01, 0x52, 0x54, 0x00, 0xab, 0xcd, 0xef,
        198,  51,   100,  7,    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 198,  51,   100,  7};
    struct frame f;

    frame_arp_request(&f, mac, ipv4);
    same_bytes(&f, expected, sizeof(expected));
}

UNIT_TEST(arp_reply, "a gratuitous ARP reply has the sender's own address as target")
{
    static const uint8_t expected[60] = {
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x52, 0x54, 0x00, 0xab, 0xcd, 0xef, 0x08, 0x06,
        0x00, 0x01, 0x08, 0x00, 0x06, 0x04, 0x00, 0x02, 0x52, 0x54, 0x00, 0xab, 0xcd, 0xef,
        198,  51,   100,  7,    0x52, 0x54, 0x00, 0xab, 0xcd, 0xef, 198,  51,   100,  7};
    struct frame f;

    frame_arp_reply(&f, mac, ipv4);
    same_bytes(&f, expected, sizeof(expected));
}

/* Checksum 0xda30, computed by an independent implementation over the pseudo-header and message. */
UNIT_TEST(advertisement,
          "an unsolicited neighbour advertisement goes to all nodes with override set")
{
    static const uint8_t address[16] = {0x20, 0x01, 0x0d, 0xb8, [15] = 0x07};
    static const uint8_t expected[86] = {
        0x33, 0x33, 0x00, 0x00, 0x00, 0x01, 0x52, 0x54, 0x00, 0xab, 0xcd, 0xef, 0x86, 0xdd, 0x60,
        0x00, 0x00, 0x00, 0x00, 0x20, 0x3a, 0xff, 0x20, 0x01, 0x0d, 0xb8, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x07, 0xff, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x88, 0x00, 0xda, 0x30, 0x20, 0x00,
        0x00, 0x00, 0x20, 0x01, 0x0d, 0xb8, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x07, 0x02, 0x01, 0x52, 0x54, 0x00, 0xab, 0xcd, 0xef};
    struct frame f;

    frame_neighbour_advertisement(&f, mac, address);
    same_bytes(&f, expected, sizeof(expected));
}

UNIT_TEST(order,
          "a port's frames are RARP first, then two of each IPv4 and one of each IPv6 address")
{
    char *addresses[] = {(char *)"198.51.100.7", (char *)"2001:db8::7", NULL};
    _cleanup_(mem_freep) struct frame *frames = NULL;
    size_t n = 0;

    if (!UNIT_EQ(frames_for_port("52:54:00:AB:cd:ef", addresses, &frames, &n, &unit_err), 0))
        return;
    if (!UNIT_EQ(n, 4))
        return;
    UNIT_EQ(frames[0].data[12], 0x80);
    UNIT_EQ(frames[1].data[21], 1);
    UNIT_EQ(frames[2].data[21], 2);
    UNIT_EQ(frames[3].data[12], 0x86);
    UNIT_EQ(frames[3].length, 86);
    UNIT_EQ(frames[0].data[9], 0xab);
}

UNIT_TEST(lesson, "a switch is taught by a made-up address and by what the guest sends to it")
{
    static const uint8_t first[60] = {0xf6, 0x54, 0x00, 0xab, 0xcd, 0xef, 0xf6,
                                      0x54, 0x00, 0xab, 0xcd, 0xef, 0x88, 0xb6};
    static const uint8_t second[60] = {0xf6, 0x54, 0x00, 0xab, 0xcd, 0xef, 0x52,
                                       0x54, 0x00, 0xab, 0xcd, 0xef, 0x88, 0xb6};
    static const uint8_t like_made_up[FRAME_MAC_SIZE] = {0xf6, 0x54, 0x00, 0xab, 0xcd, 0xef};
    struct frame f[FRAME_LESSONS];

    frames_of_lesson(f, mac);
    same_bytes(&f[0], first, sizeof(first));
    same_bytes(&f[1], second, sizeof(second));
    frames_of_lesson(f, like_made_up);
    UNIT_TRUE(memcmp(f[0].data, like_made_up, FRAME_MAC_SIZE) != 0);
    UNIT_EQ(f[0].data[0] & 3, 2); /* of one station, given locally */
}

UNIT_TEST(tagged, "a frame in a VLAN has its tag behind the addresses and all else behind that")
{
    struct frame f[FRAME_LESSONS], t;

    frames_of_lesson(f, mac);
    frame_tag(&t, &f[1], 0x123);
    UNIT_EQ(t.length, f[1].length + 4);
    UNIT_EQ(memcmp(t.data, f[1].data, 12), 0);
    UNIT_EQ(memcmp(t.data + 12, "\x81\x00\x01\x23\x88\xb6", 6), 0);
    frame_tag(&f[1], &f[1], 0x123);
    UNIT_EQ(f[1].length, t.length);
    UNIT_EQ(memcmp(f[1].data, t.data, t.length), 0);
}

UNIT_TEST(no_addresses, "a port without addresses is still announced by RARP")
{
    _cleanup_(mem_freep) struct frame *frames = NULL;
    size_t n = 0;

    UNIT_EQ(frames_for_port("52:54:00:ab:cd:ef", NULL, &frames, &n, &unit_err), 0);
    UNIT_EQ(n, 1);
}

UNIT_TEST(bad_input, "what is no unicast MAC or no address is refused and named")
{
    static const char *const macs[] = {"",
                                       "52:54:00:ab:cd",
                                       "52-54-00-ab-cd-ef",
                                       "53:54:00:ab:cd:ef",
                                       "00:00:00:00:00:00",
                                       "52:54:00:ab:cd:ef;reboot"};
    char *evil[] = {(char *)"198.51.100.300", NULL}, *name[] = {(char *)"fe80::1%eth0", NULL};
    char *many[FRAME_ADDRESSES_MAX + 2] = {NULL};
    struct frame *frames = NULL;
    size_t n = 0;

    for (size_t i = 0; i < ARRAY_LEN(macs); i++)
        UNIT_FAILS(frames_for_port(macs[i], NULL, &frames, &n, &unit_err), ERR_INVALID);
    UNIT_FAILS(frames_for_port("52:54:00:ab:cd:ef", evil, &frames, &n, &unit_err), ERR_INVALID);
    UNIT_HAS(unit_err.text, "198.51.100.300");
    UNIT_FAILS(frames_for_port("52:54:00:ab:cd:ef", name, &frames, &n, &unit_err), ERR_INVALID);
    for (size_t i = 0; i <= FRAME_ADDRESSES_MAX; i++)
        many[i] = (char *)"198.51.100.1";
    UNIT_FAILS(frames_for_port("52:54:00:ab:cd:ef", many, &frames, &n, &unit_err), ERR_INVALID);
    UNIT_TRUE(frames == NULL);
}

/* --- OpenFlow -------------------------------------------------------------------------------- */

UNIT_TEST(packet_out_10, "a packet-out of OpenFlow 1.0 is as its specification lays it out")
{
    static const uint8_t head[24] = {1,    13,   0, 84, 'c', 'o', 'm', 'p', 0xff, 0xff, 0xff, 0xff,
                                     0x01, 0x02, 0, 8,  0,   0,   0,   8,   0xff, 0xfa, 0,    0};
    struct text_buffer b = TEXT_BUFFER_INIT;
    struct frame f;

    frame_rarp(&f, mac);
    openflow_put_packet_out(&b, OPENFLOW_10, 0x0102, OPENFLOW_NORMAL, &f);
    UNIT_EQ(b.length, sizeof(head) + 60);
    UNIT_EQ(memcmp(b.data, head, sizeof(head)), 0);
    UNIT_EQ(memcmp(b.data + sizeof(head), f.data, 60), 0);
    text_buffer_free(&b);
}

UNIT_TEST(packet_out_to, "a packet-out may be for one port instead")
{
    struct text_buffer b = TEXT_BUFFER_INIT;
    struct frame f;

    frame_rarp(&f, mac);
    openflow_put_packet_out(&b, OPENFLOW_10, 1, 0x0304, &f);
    UNIT_EQ(memcmp(b.data + 20, "\x03\x04", 2), 0);
    text_buffer_free(&b);
    openflow_put_packet_out(&b, OPENFLOW_13, 1, 0x01020304, &f);
    UNIT_EQ(memcmp(b.data + 28, "\x01\x02\x03\x04", 4), 0);
    text_buffer_free(&b);
}

UNIT_TEST(packet_out_13, "a packet-out of OpenFlow 1.3 is as its specification lays it out")
{
    static const uint8_t head[40] = {4,    13, 0, 100,  'c',  'o', 'm',  'p',  0xff, 0xff, 0xff,
                                     0xff, 0,  0, 0x01, 0x02, 0,   16,   0,    0,    0,    0,
                                     0,    0,  0, 0,    0,    16,  0xff, 0xff, 0xff, 0xfa};
    struct text_buffer b = TEXT_BUFFER_INIT;
    struct frame f;

    frame_rarp(&f, mac);
    openflow_put_packet_out(&b, OPENFLOW_13, 0x0102, OPENFLOW_NORMAL, &f);
    UNIT_EQ(b.length, sizeof(head) + 60);
    UNIT_EQ(memcmp(b.data, head, sizeof(head)), 0);
    text_buffer_free(&b);
}

UNIT_TEST(messages,
          "a message is taken only when it is whole, and refused when its length is not possible")
{
    static const uint8_t good[] = {4, 2, 0, 10, 0, 0, 0, 9, 'a', 'b'},
                         bad[] = {4, 2, 0, 7, 0, 0, 0, 9};
    struct openflow_message m;

    for (size_t n = 0; n < sizeof(good); n++)
        UNIT_EQ(openflow_next(good, n, &m, &unit_err), 0);
    UNIT_EQ(openflow_next(good, sizeof(good), &m, &unit_err), 1);
    UNIT_EQ(m.type, OPENFLOW_ECHO_REQUEST);
    UNIT_EQ(m.xid, 9);
    UNIT_FAILS(openflow_next(bad, sizeof(bad), &m, &unit_err), ERR_PARSE);
}

UNIT_TEST(hellos, "the newest version that both sides speak is taken, by number or by bitmap")
{
    static const uint8_t old[] = {1, 0, 0, 8, 0, 0, 0, 0}, newest[] = {6, 0, 0, 8, 0, 0, 0, 0};
    static const uint8_t only_10_14[] = {5, 0, 0, 16, 0, 0, 0, 0, 0, 1, 0, 8, 0, 0, 0, 0x22};
    static const uint8_t only_14[] = {5, 0, 0, 16, 0, 0, 0, 0, 0, 1, 0, 8, 0, 0, 0, 0x20};
    static const uint8_t cut[] = {5, 0, 0, 16, 0, 0, 0, 0, 0, 1, 0, 99, 0, 0, 0, 0x20};
    struct openflow_message m;
    uint8_t version = 0;

    (void)openflow_next(old, sizeof(old), &m, NULL);
    UNIT_EQ(openflow_negotiate(&m, &version, &unit_err), 0);
    UNIT_EQ(version, OPENFLOW_10);
    (void)openflow_next(newest, sizeof(newest), &m, NULL);
    UNIT_EQ(openflow_negotiate(&m, &version, &unit_err), 0);
    UNIT_EQ(version, OPENFLOW_13);
    (void)openflow_next(only_10_14, sizeof(only_10_14), &m, NULL);
    UNIT_EQ(openflow_negotiate(&m, &version, &unit_err), 0);
    UNIT_EQ(version, OPENFLOW_10);
    (void)openflow_next(only_14, sizeof(only_14), &m, NULL);
    UNIT_FAILS(openflow_negotiate(&m, &version, &unit_err), ERR_NET_PLUG);
    (void)openflow_next(cut, sizeof(cut), &m, NULL);
    UNIT_EQ(openflow_negotiate(&m, &version, &unit_err), 0);
    UNIT_EQ(version, OPENFLOW_13);
}

struct seen {
    unsigned n;
    struct openflow_port last;
};

static void note(void *aux, const struct openflow_port *port)
{
    struct seen *s = aux;
    s->n++;
    s->last = *port;
}

UNIT_TEST(ports, "ports are read from lists and changes, and a list with a wrong length is refused")
{
    uint8_t status[80] = {4, OPENFLOW_PORT_STATUS, 0, 80},
            list[144] = {4, OPENFLOW_MULTIPART_REPLY_13, 0, 144};
    uint8_t features[80] = {1, OPENFLOW_FEATURES_REPLY, 0, 80};
    struct openflow_message m;
    struct seen s = {0};

    status[8] = 1;
    status[19] = 7;
    memset(status + 32, 'x', 16); /* a name that is not terminated */
    (void)openflow_next(status, sizeof(status), &m, NULL);
    UNIT_EQ(openflow_ports(&m, note, &s, &unit_err), 0);
    UNIT_EQ(s.n, 1);
    UNIT_EQ(s.last.number, 7);
    UNIT_TRUE(s.last.gone);
    UNIT_EQ(strlen(s.last.name), 15);
    list[9] = 13;
    list[16 + 64 + 3] = 9;
    memcpy(list + 16 + 64 + 16, "tap1", 5);
    (void)openflow_next(list, sizeof(list), &m, NULL);
    UNIT_EQ(openflow_ports(&m, note, &s, &unit_err), 0);
    UNIT_EQ(s.n, 3);
    UNIT_STR(s.last.name, "tap1");
    UNIT_EQ(s.last.number, 9);
    features[33] = 5;
    memcpy(features + 40, "tap2", 5);
    (void)openflow_next(features, sizeof(features), &m, NULL);
    UNIT_EQ(openflow_ports(&m, note, &s, &unit_err), 0);
    UNIT_STR(s.last.name, "tap2");
    UNIT_EQ(s.last.number, 5);
    features[3] = 79;
    (void)openflow_next(features, sizeof(features), &m, NULL);
    UNIT_FAILS(openflow_ports(&m, note, &s, &unit_err), ERR_PARSE);
}
