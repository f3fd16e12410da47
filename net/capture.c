/* SPDX-License-Identifier: Apache-2.0 */
#include "net/capture.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>

#include "lib/clock.h"
#include "lib/text.h"
#include "net/netlink.h"

enum { RECEIVE_BUFFER = 16 * 1024 * 1024, TAG_SIZE = 4, TAG_OFFSET = CAPTURE_HEADER_SIZE + 12 };

_Static_assert(sizeof(struct virtio_net_hdr) == CAPTURE_HEADER_SIZE,
               "the header of a packet socket");

struct capture {
    int fd;
    int index;
    struct netlink *nl;
    bool gone;
    uint64_t seen; /* by the kernel's own count */
};

struct injector {
    int fd;
};

/* Only what the host sends to the link, not what its other end sends to the host. */
static struct sock_filter outgoing[] = {
    BPF_STMT(BPF_LD | BPF_B | BPF_ABS, (uint32_t)(SKF_AD_OFF + SKF_AD_PKTTYPE)),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PACKET_OUTGOING, 0, 1),
    BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
    BPF_STMT(BPF_RET | BPF_K, 0),
};
static struct sock_filter nothing[] = {BPF_STMT(BPF_RET | BPF_K, 0)};

static int set_filter(int fd, bool paused, struct err *e)
{
    struct sock_fprog program = {.len = ARRAY_LEN(outgoing), .filter = outgoing};

    if (paused)
        program = (struct sock_fprog){.len = ARRAY_LEN(nothing), .filter = nothing};
    if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) < 0)
        return err_set_errno(e, ERR_SYSTEM, errno, "a packet filter");
    return 0;
}

/* Before there is a socket: closing one takes the kernel some milliseconds, and taps are often not there yet. */
static int find_tap(const char *tap, int *index, struct err *e)
{
    *index = (int)if_nametoindex(tap);
    if (*index == 0)
        return err_set(e, ERR_SYSTEM, "interface %s is not there", tap);
    return 0;
}

static int bind_to(int fd, int index, const char *tap, int protocol, struct err *e)
{
    const struct sockaddr_ll address = {
        .sll_family = AF_PACKET, .sll_protocol = htons((uint16_t)protocol), .sll_ifindex = index};

    if (bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
        return err_set_errno(e, ERR_SYSTEM, errno, "a packet socket on %s", tap);
    return 0;
}

static int switch_on(int fd, int level, int option, struct err *e)
{
    int one = 1;

    if (setsockopt(fd, level, option, &one, sizeof(one)) < 0)
        return err_set_errno(e, ERR_SYSTEM, errno, "option %d of a packet socket", option);
    return 0;
}

static int packet_socket(int *fd, struct err *e)
{
    *fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (*fd < 0)
        return err_set_errno(e, ERR_SYSTEM, errno, "a packet socket cannot be opened");
    return switch_on(*fd, SOL_PACKET, PACKET_VNET_HDR, e);
}

int capture_open(struct capture **out, const char *tap, struct err *e)
{
    _cleanup_(capture_closep) struct capture *c = NEW(struct capture);
    int size = RECEIVE_BUFFER;

    c->fd = -1;
    /* filter and options first: from bind on, frames come */
    if (find_tap(tap, &c->index, e) < 0 || packet_socket(&c->fd, e) < 0 ||
        switch_on(c->fd, SOL_PACKET, PACKET_AUXDATA, e) < 0 ||
        switch_on(c->fd, SOL_SOCKET, SO_TIMESTAMPNS, e) < 0 || set_filter(c->fd, false, e) < 0)
        return -1;
    (void)setsockopt(c->fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
    if (netlink_open(&c->nl, e) < 0 || bind_to(c->fd, c->index, tap, ETH_P_ALL, e) < 0)
        return -1;
    *out = STEAL(c);
    return 0;
}

void capture_close(struct capture *capture)
{
    if (!capture)
        return;
    netlink_free(capture->nl);
    fd_closep(&capture->fd);
    free(capture);
}

int capture_fd(const struct capture *capture)
{
    return capture->fd;
}

int capture_set_paused(struct capture *capture, bool paused, struct err *e)
{
    return set_filter(capture->fd, paused, e);
}

/* ---- reading ---- */

struct ancillary {
    bool tagged;
    uint16_t tag, tag_protocol;
    int64_t at_us;
};

static void read_ancillary(struct msghdr *message, struct ancillary *out)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_TIMESTAMPNS) {
            struct timespec at;
            memcpy(&at, CMSG_DATA(c), sizeof(at));
            out->at_us = at.tv_sec * USEC_PER_SEC + at.tv_nsec / 1000;
        } else if (c->cmsg_level == SOL_PACKET && c->cmsg_type == PACKET_AUXDATA) {
            struct tpacket_auxdata aux;
            memcpy(&aux, CMSG_DATA(c), sizeof(aux));
            out->tagged = aux.tp_status & TP_STATUS_VLAN_VALID;
            out->tag = aux.tp_vlan_tci;
            out->tag_protocol =
                aux.tp_status & TP_STATUS_VLAN_TPID_VALID ? aux.tp_vlan_tpid : ETH_P_8021Q;
        }
    }
}

/* The kernel takes the tag out of the frame; whoever gets the frame needs it back, and places in it shift. */
static void put_tag_back(uint8_t *buffer, size_t *length, const struct ancillary *a)
{
    struct virtio_net_hdr header;
    uint8_t tag[TAG_SIZE] = {(uint8_t)(a->tag_protocol >> 8), (uint8_t)a->tag_protocol,
                             (uint8_t)(a->tag >> 8), (uint8_t)a->tag};

    memmove(buffer + TAG_OFFSET + TAG_SIZE, buffer + TAG_OFFSET, *length - TAG_OFFSET);
    memcpy(buffer + TAG_OFFSET, tag, TAG_SIZE);
    *length += TAG_SIZE;
    memcpy(&header, buffer, sizeof(header));
    if (header.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM)
        header.csum_start = (uint16_t)(header.csum_start + TAG_SIZE);
    if (header.gso_type != VIRTIO_NET_HDR_GSO_NONE)
        header.hdr_len = (uint16_t)(header.hdr_len + TAG_SIZE);
    memcpy(buffer, &header, sizeof(header));
}

int capture_read(struct capture *capture, uint8_t *buffer, size_t *length, int64_t *at_us)
{
    union {
        struct cmsghdr aligned;
        char
            bytes[CMSG_SPACE(sizeof(struct timespec)) + CMSG_SPACE(sizeof(struct tpacket_auxdata))];
    } control;

    for (;;) {
        struct iovec part = {buffer, CAPTURE_FRAME_MAX - TAG_SIZE};
        struct msghdr message = {.msg_iov = &part,
                                 .msg_iovlen = 1,
                                 .msg_control = &control,
                                 .msg_controllen = sizeof(control)};
        struct ancillary a = {0};
        ssize_t n = recvmsg(capture->fd, &message, MSG_DONTWAIT);
        if (n < 0 && errno == ENETDOWN) {
            capture->gone = true; /* told once; what was seen before can still be read */
            continue;
        }
        if (n < 0)
            return capture->gone ? -1 : 0;
        if (n < CAPTURE_FRAME_MIN || message.msg_flags & MSG_TRUNC)
            continue;
        read_ancillary(&message, &a);
        *length = (size_t)n;
        *at_us = a.at_us;
        if (a.tagged)
            put_tag_back(buffer, length, &a);
        return 1;
    }
}

uint64_t capture_seen(struct capture *capture)
{
    struct tpacket_stats fresh = {0};
    socklen_t size = sizeof(fresh);

    /* reading it sets the kernel's count back; those that were dropped are in tp_packets too */
    if (getsockopt(capture->fd, SOL_PACKET, PACKET_STATISTICS, &fresh, &size) == 0)
        capture->seen += fresh.tp_packets;
    return capture->seen;
}

int capture_taken(struct capture *capture, uint64_t *packets, uint64_t *dropped, struct err *e)
{
    return netlink_sent(capture->nl, capture->index, packets, dropped, e);
}

/* ---- writing ---- */

int injector_open(struct injector **out, const char *tap, struct err *e)
{
    _cleanup_(injector_closep) struct injector *i = NEW(struct injector);
    int index;

    i->fd = -1;
    if (find_tap(tap, &index, e) < 0 || packet_socket(&i->fd, e) < 0 ||
        switch_on(i->fd, SOL_PACKET, PACKET_QDISC_BYPASS, e) < 0 ||
        bind_to(i->fd, index, tap, 0, e) < 0)
        return -1;
    *out = STEAL(i);
    return 0;
}

void injector_close(struct injector *injector)
{
    if (!injector)
        return;
    fd_closep(&injector->fd);
    free(injector);
}

bool injector_put(struct injector *injector, const uint8_t *frame, size_t length)
{
    if (length < CAPTURE_FRAME_MIN || length > CAPTURE_FRAME_MAX) {
        errno = EMSGSIZE;
        return false;
    }
    ssize_t n = send(injector->fd, frame, length, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0 && errno == ENETDOWN) /* the socket tells it once more after the tap is up again */
        n = send(injector->fd, frame, length, MSG_DONTWAIT | MSG_NOSIGNAL);
    return n == (ssize_t)length;
}
