/* SPDX-License-Identifier: Apache-2.0 */
/* OpenFlow 1.0 and 1.3 messages, byte by byte; see openflow.h. */
#include "net/openflow.h"

#include <string.h>

enum {
    SET_CONFIG = 9,
    FEATURES_REQUEST = 5,
    PACKET_OUT = 13,
    MULTIPART_REQUEST_13 = 18,
    SET_ASYNC_13 = 28,
    MULTIPART_PORT_DESC = 13,
    HELLO_VERSION_BITMAP = 1,
    PORT_DELETED = 1,
    PORT_SIZE_10 = 48,
    PORT_SIZE_13 = 64,
    PORTS_OFFSET_FEATURES_10 = 32,
    PORTS_OFFSET_MULTIPART = 16,
    PORT_OFFSET_STATUS = 16,
    PORT_NORMAL_10 = 0xfffa
};
static const uint32_t port_normal_13 = 0xfffffffa;
static const uint32_t no_buffer = 0xffffffff;
/* Any transaction id does: no answer is matched by it. */
static const uint32_t our_xid = 0x636f6d70;

static unsigned get16(const uint8_t *p)
{
    return (unsigned)p[0] << 8 | p[1];
}

static uint32_t get32(const uint8_t *p)
{
    return (uint32_t)get16(p) << 16 | get16(p + 2);
}

static void put8(struct text_buffer *b, unsigned value)
{
    char c = (char)value;
    text_buffer_add_n(b, &c, 1);
}

static void put16(struct text_buffer *b, unsigned value)
{
    put8(b, value >> 8 & 0xff);
    put8(b, value & 0xff);
}

static void put32(struct text_buffer *b, uint32_t value)
{
    put16(b, value >> 16);
    put16(b, value & 0xffff);
}

static void put_zeros(struct text_buffer *b, size_t n)
{
    static const char zeros[16];
    text_buffer_add_n(b, zeros, n);
}

static void put_header(struct text_buffer *b, uint8_t version, unsigned type, size_t length,
                       uint32_t xid)
{
    put8(b, version);
    put8(b, type);
    put16(b, (unsigned)length);
    put32(b, xid);
}

/* --- reading --------------------------------------------------------------------------------- */

int openflow_next(const uint8_t *data, size_t length, struct openflow_message *out, struct err *e)
{
    if (length < OPENFLOW_HEADER_SIZE)
        return 0;
    unsigned whole = get16(data + 2);
    if (whole < OPENFLOW_HEADER_SIZE)
        return err_set(e, ERR_PARSE, "an OpenFlow message says it is %u bytes long", whole);
    if (length < whole)
        return 0;
    *out = (struct openflow_message){.version = data[0],
                                     .type = data[1],
                                     .length = (uint16_t)whole,
                                     .xid = get32(data + 4),
                                     .data = data};
    return 1;
}

/* The bitmap of versions in a hello; 0 if it carries none. */
static uint32_t version_bitmap(const struct openflow_message *hello)
{
    for (size_t at = OPENFLOW_HEADER_SIZE; at + 4 <= hello->length;) {
        unsigned type = get16(hello->data + at), length = get16(hello->data + at + 2);
        if (length < 4 || at + length > hello->length)
            return 0;
        if (type == HELLO_VERSION_BITMAP && length >= 8)
            return get32(hello->data + at + 4);
        at += (length + (size_t)7) / 8 * 8;
    }
    return 0;
}

int openflow_negotiate(const struct openflow_message *hello, uint8_t *version, struct err *e)
{
    uint32_t bitmap = version_bitmap(hello);

    if (bitmap ? bitmap & 1U << OPENFLOW_13 : hello->version >= OPENFLOW_13)
        *version = OPENFLOW_13;
    else if (bitmap ? bitmap & 1U << OPENFLOW_10 : hello->version == OPENFLOW_10)
        *version = OPENFLOW_10;
    else
        return err_set(e, ERR_NET_PLUG,
                       "the bridge speaks neither OpenFlow 1.0 nor 1.3 (version %u, bitmap %#x)",
                       hello->version, bitmap);
    return 0;
}

static void read_port(const struct openflow_message *m, size_t at, bool gone, openflow_port_fn fn,
                      void *aux)
{
    bool is_13 = m->version == OPENFLOW_13;
    const uint8_t *p = m->data + at;
    struct openflow_port port = {.number = is_13 ? get32(p) : get16(p), .gone = gone};

    memcpy(port.name, p + (is_13 ? 16 : 8), sizeof(port.name));
    port.name[sizeof(port.name) - 1] = '\0';
    fn(aux, &port);
}

static int read_ports(const struct openflow_message *m, size_t at, openflow_port_fn fn, void *aux,
                      struct err *e)
{
    size_t size = m->version == OPENFLOW_13 ? PORT_SIZE_13 : PORT_SIZE_10;

    if (m->length < at || (m->length - at) % size)
        return err_set(e, ERR_PARSE, "an OpenFlow message of type %u has a wrong length %u",
                       m->type, m->length);
    for (; at < m->length; at += size)
        read_port(m, at, false, fn, aux);
    return 0;
}

int openflow_ports(const struct openflow_message *m, openflow_port_fn fn, void *aux, struct err *e)
{
    size_t size = m->version == OPENFLOW_13 ? PORT_SIZE_13 : PORT_SIZE_10;

    if (m->version != OPENFLOW_10 && m->version != OPENFLOW_13)
        return err_set(e, ERR_PARSE, "an OpenFlow message has version %u", m->version);
    if (m->type == OPENFLOW_FEATURES_REPLY && m->version == OPENFLOW_10)
        return read_ports(m, PORTS_OFFSET_FEATURES_10, fn, aux, e);
    if (m->type == OPENFLOW_MULTIPART_REPLY_13 && m->version == OPENFLOW_13 &&
        m->length >= PORTS_OFFSET_MULTIPART &&
        get16(m->data + OPENFLOW_HEADER_SIZE) == MULTIPART_PORT_DESC)
        return read_ports(m, PORTS_OFFSET_MULTIPART, fn, aux, e);
    if (m->type != OPENFLOW_PORT_STATUS)
        return 0;
    if (m->length != PORT_OFFSET_STATUS + size)
        return err_set(e, ERR_PARSE, "an OpenFlow port status has a wrong length %u", m->length);
    read_port(m, PORT_OFFSET_STATUS, m->data[OPENFLOW_HEADER_SIZE] == PORT_DELETED, fn, aux);
    return 0;
}

/* --- writing --------------------------------------------------------------------------------- */

void openflow_put_hello(struct text_buffer *b)
{
    put_header(b, OPENFLOW_13, OPENFLOW_HELLO, OPENFLOW_HEADER_SIZE + 8, our_xid);
    put16(b, HELLO_VERSION_BITMAP);
    put16(b, 8);
    put32(b, 1U << OPENFLOW_10 | 1U << OPENFLOW_13);
}

/*
 * A connection to a bridge's management socket gets no asynchronous messages until it sets a length for
 * packet-ins that is not zero (Open vSwitch, "Asynchronous Messages" in its design document). Packet-ins
 * themselves are switched off where the version allows it, else dropped by the reader.
 */
void openflow_put_watch_ports(struct text_buffer *b, uint8_t version)
{
    put_header(b, version, SET_CONFIG, 12, our_xid);
    put16(b, 0);
    put16(b, 1);
    if (version == OPENFLOW_10) {
        put_header(b, version, FEATURES_REQUEST, OPENFLOW_HEADER_SIZE, our_xid);
        return;
    }
    put_header(b, version, SET_ASYNC_13, 32, our_xid);
    put_zeros(b, 8); /* packet-in as master, as slave */
    put32(b, 7);     /* port added, deleted, modified */
    put32(b, 7);
    put_zeros(b, 8); /* flow removed */
    put_header(b, version, MULTIPART_REQUEST_13, 16, our_xid);
    put16(b, MULTIPART_PORT_DESC);
    put_zeros(b, 6);
}

void openflow_put_echo_reply(struct text_buffer *b, const struct openflow_message *request)
{
    put_header(b, request->version, OPENFLOW_ECHO_REPLY, request->length, request->xid);
    text_buffer_add_n(b, (const char *)request->data + OPENFLOW_HEADER_SIZE,
                      request->length - (size_t)OPENFLOW_HEADER_SIZE);
}

void openflow_put_packet_out(struct text_buffer *b, uint8_t version, uint32_t in_port,
                             uint32_t out_port, const struct frame *frame)
{
    enum { HEAD_10 = 16, ACTION_10 = 8, HEAD_13 = 24, ACTION_13 = 16 };
    bool is_13 = version == OPENFLOW_13;

    put_header(b, version, PACKET_OUT,
               (is_13 ? HEAD_13 + ACTION_13 : HEAD_10 + ACTION_10) + frame->length, our_xid);
    put32(b, no_buffer);
    if (is_13) {
        put32(b, in_port);
        put16(b, ACTION_13);
        put_zeros(b, 6);
        put16(b, 0); /* output */
        put16(b, ACTION_13);
        put32(b, out_port == OPENFLOW_NORMAL ? port_normal_13 : out_port);
        put_zeros(b, 8);
    } else {
        put16(b, in_port & 0xffff);
        put16(b, ACTION_10);
        put16(b, 0);
        put16(b, ACTION_10);
        put16(b, out_port == OPENFLOW_NORMAL ? PORT_NORMAL_10 : out_port & 0xffff);
        put16(b, 0);
    }
    text_buffer_add_n(b, (const char *)frame->data, frame->length);
}
