/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A thin layer over libnl-3: one request or dump at a time, its replies matched by sequence number, the
 * kernel's extended acknowledgement (NETLINK_EXT_ACK) kept for the error's sentence, dumps repeated when
 * the table changed under them.
 */
#include "net/netlink.h"

#include <errno.h>
#include <linux/if_bridge.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <netlink/attr.h>
#include <netlink/errno.h>
#include <netlink/socket.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "lib/text.h"
#include "lib/vector.h"
#include "net/netlink_message.h"

enum { DUMP_ATTEMPTS = 5, ACK_TEXT_SIZE = 160 };

struct netlink {
    struct nl_sock *socket;
    char ack_text[ACK_TEXT_SIZE]; /* what the kernel said to the last request; "" */
};

DEFINE_VECTOR(link_vector, struct link)

/* --- reading a link -------------------------------------------------------------------------- */

bool link_is_tap(const struct link *link)
{
    return strcmp(link->kind, "tun") == 0;
}

bool link_is_uplink(const struct link *link)
{
    /* Neutron's DHCP and router ports are veths whose end in the bridge is named as a guest's tap is. */
    return !link_is_tap(link) && strncmp(link->name, "tap", 3) != 0;
}

static const struct nla_policy link_policy[IFLA_MAX + 1] = {
    [IFLA_IFNAME] = {.type = NLA_STRING, .maxlen = IFNAMSIZ},
    [IFLA_MASTER] = {.type = NLA_U32},
    [IFLA_MTU] = {.type = NLA_U32},
    [IFLA_TXQLEN] = {.type = NLA_U32},
    [IFLA_LINKINFO] = {.type = NLA_NESTED},
};
static const struct nla_policy info_policy[IFLA_INFO_MAX + 1] = {
    [IFLA_INFO_KIND] = {.type = NLA_STRING},
    [IFLA_INFO_SLAVE_KIND] = {.type = NLA_STRING},
    [IFLA_INFO_SLAVE_DATA] = {.type = NLA_NESTED},
};
static const struct nla_policy port_policy[IFLA_BRPORT_MAX + 1] = {
    [IFLA_BRPORT_STATE] = {.type = NLA_U8},
};

static void parse_port(struct nlattr *data, struct link *out)
{
    struct nlattr *port[IFLA_BRPORT_MAX + 1];

    if (nla_parse_nested(port, IFLA_BRPORT_MAX, data, port_policy) == 0 && port[IFLA_BRPORT_STATE])
        out->port_state = nla_get_u8(port[IFLA_BRPORT_STATE]);
}

static void parse_info(struct nlattr *info, struct link *out)
{
    struct nlattr *a[IFLA_INFO_MAX + 1];

    if (nla_parse_nested(a, IFLA_INFO_MAX, info, info_policy) < 0)
        return;
    if (a[IFLA_INFO_KIND])
        nla_strlcpy(out->kind, a[IFLA_INFO_KIND], sizeof(out->kind));
    if (a[IFLA_INFO_SLAVE_KIND] && a[IFLA_INFO_SLAVE_DATA] &&
        strcmp(nla_get_string(a[IFLA_INFO_SLAVE_KIND]), "bridge") == 0)
        parse_port(a[IFLA_INFO_SLAVE_DATA], out);
}

/*
 * False for a message that is no link. One of the bridge's own family tells nothing but where a port is and
 * whether it forwards; its "delete" means that the port left the bridge.
 */
static bool parse_link(struct nlmsghdr *h, struct link *out)
{
    struct nlattr *a[IFLA_MAX + 1];

    if (h->nlmsg_type != RTM_NEWLINK && h->nlmsg_type != RTM_DELLINK)
        return false;
    if (nlmsg_parse(h, sizeof(struct ifinfomsg), a, IFLA_MAX, link_policy) < 0)
        return false;
    const struct ifinfomsg *m = nlmsg_data(h);
    if (!a[IFLA_IFNAME])
        return false;
    bool port_only = m->ifi_family == AF_BRIDGE, deleted = h->nlmsg_type == RTM_DELLINK;
    *out = (struct link){.index = m->ifi_index,
                         .gone = deleted && !port_only,
                         .port_only = port_only,
                         .up = m->ifi_flags & IFF_UP,
                         .running = (m->ifi_flags & IFF_UP) && (m->ifi_flags & IFF_LOWER_UP),
                         .port_state = LINK_STATE_NONE};
    nla_strlcpy(out->name, a[IFLA_IFNAME], sizeof(out->name));
    if (a[IFLA_MASTER] && !(port_only && deleted))
        out->master = (int)nla_get_u32(a[IFLA_MASTER]);
    if (a[IFLA_MTU])
        out->mtu = (int)nla_get_u32(a[IFLA_MTU]);
    if (a[IFLA_TXQLEN])
        out->tx_queue_length = (int)nla_get_u32(a[IFLA_TXQLEN]);
    if (a[IFLA_LINKINFO])
        parse_info(a[IFLA_LINKINFO], out);
    if (a[IFLA_PROTINFO] && port_only && !deleted)
        parse_port(a[IFLA_PROTINFO], out);
    return true;
}

/* --- requests -------------------------------------------------------------------------------- */

int netlink_open_protocol(struct netlink **out, int protocol, struct err *e)
{
    _cleanup_(netlink_freep) struct netlink *nl = NEW(struct netlink);
    const struct timeval timeout = {.tv_sec = NETLINK_TIMEOUT_MS / 1000};
    const int on = 1;

    nl->socket = nl_socket_alloc();
    if (!nl->socket)
        return err_set(e, ERR_NOMEM, "no memory for a netlink socket");
    int rc = nl_connect(nl->socket, protocol);
    if (rc < 0)
        return err_set(e, ERR_SYSTEM, "a netlink socket cannot be opened: %s", nl_geterror(rc));
    int fd = nl_socket_get_fd(nl->socket);
    /* All but the time limit are comforts that an old kernel may not know. */
    (void)setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof(on));
    (void)setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof(on));
    (void)setsockopt(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, &on, sizeof(on));
    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) < 0)
        return err_set_errno(e, ERR_SYSTEM, errno, "a netlink socket takes no time limit");
    *out = STEAL(nl);
    return 0;
}

int netlink_open(struct netlink **out, struct err *e)
{
    return netlink_open_protocol(out, NETLINK_ROUTE, e);
}

void netlink_free(struct netlink *nl)
{
    if (!nl)
        return;
    if (nl->socket)
        nl_socket_free(nl->socket);
    free(nl);
}

static void keep_ack_text(struct netlink *nl, const struct nlmsghdr *h)
{
    size_t offset = NLMSG_HDRLEN + sizeof(struct nlmsgerr);

    if (!(h->nlmsg_flags & NLM_F_ACK_TLVS) || h->nlmsg_len <= offset)
        return;
    if (!(h->nlmsg_flags & NLM_F_CAPPED))
        return; /* the request is repeated in between; every kernel with texts knows CAP_ACK */
    const struct nlattr *text = nla_find((const struct nlattr *)((const char *)h + offset),
                                         (int)(h->nlmsg_len - offset), NLMSGERR_ATTR_MSG);
    if (text)
        nla_strlcpy(nl->ack_text, text, sizeof(nl->ack_text));
}

struct exchange {
    uint32_t sequence;
    netlink_message_fn fn;
    void *aux;
    bool done, interrupted;
    int result; /* -errno of the kernel */
};

static void take_message(struct netlink *nl, struct exchange *x, struct nlmsghdr *h)
{
    if (h->nlmsg_seq != x->sequence || x->done)
        return; /* the late answer to a request that was given up */
    x->interrupted |= h->nlmsg_flags & NLM_F_DUMP_INTR;
    if (h->nlmsg_type == NLMSG_DONE) {
        x->done = true;
    } else if (h->nlmsg_type == NLMSG_ERROR) {
        x->done = true;
        x->result = ((const struct nlmsgerr *)nlmsg_data(h))->error;
        keep_ack_text(nl, h);
    } else if (x->fn) {
        x->fn(x->aux, h);
    }
}

/* Receives until the exchange is over. 0, the kernel's -errno, or that of the socket. */
static int receive(struct netlink *nl, struct exchange *x)
{
    while (!x->done) {
        _cleanup_(mem_freep) unsigned char *buffer = NULL;
        struct sockaddr_nl from;
        int n = nl_recv(nl->socket, &from, &buffer, NULL);

        if (n <= 0)
            return n == -NLE_NOMEM ? -ENOBUFS : -ETIMEDOUT;
        for (struct nlmsghdr *h = (struct nlmsghdr *)buffer; nlmsg_ok(h, n); h = nlmsg_next(h, &n))
            take_message(nl, x, h);
    }
    return x->interrupted ? -EINTR : x->result;
}

int netlink_exchange(struct netlink *nl, struct nl_msg *m, netlink_message_fn fn, void *aux)
{
    nl->ack_text[0] = '\0';
    nl_complete_msg(nl->socket, m);
    struct exchange x = {.sequence = nlmsg_hdr(m)->nlmsg_seq, .fn = fn, .aux = aux};
    int sent = nl_send(nl->socket, m);
    return sent < 0 ? -EIO : receive(nl, &x);
}

struct nl_msg *netlink_message(int type, int flags, const void *head, size_t size)
{
    struct nl_msg *m = nlmsg_alloc_simple(type, NLM_F_REQUEST | flags);

    if (!m || nlmsg_append(m, (void *)head, size, NLMSG_ALIGNTO) < 0)
        abort();
    return m;
}

void netlink_put(struct nl_msg *m, int attribute, const void *data, size_t size)
{
    if (nla_put(m, attribute, (int)size, data) < 0)
        abort(); /* a message has room for a page, what is put into it is a few words */
}

void netlink_put_u32(struct nl_msg *m, int attribute, uint32_t value)
{
    netlink_put(m, attribute, &value, sizeof(value));
}

void netlink_put_string(struct nl_msg *m, int attribute, const char *value)
{
    netlink_put(m, attribute, value, strlen(value) + 1);
}

/* The kernel's answer as an error: "<what>: <strerror> (<what the kernel added>)". */
int netlink_refused(struct netlink *nl, int result, struct err *e, const char *what,
                    const char *name)
{
    if (result == 0)
        return 0;
    if (nl->ack_text[0])
        return err_set_errno(e, ERR_NET_PLUG, -result, "%s %s: the kernel says \"%s\"", what, name,
                             nl->ack_text);
    return err_set_errno(e, ERR_NET_PLUG, -result, "%s %s", what, name);
}

/* --- looking --------------------------------------------------------------------------------- */

static void take_one(void *aux, struct nlmsghdr *h)
{
    (void)parse_link(h, aux);
}

int netlink_link(struct netlink *nl, const char *name, struct link *out, bool *found, struct err *e)
{
    const struct ifinfomsg head = {.ifi_family = AF_UNSPEC};
    struct link link = {0};

    *found = false;
    if (strlen(name) >= IFNAMSIZ || !name[0])
        return 0;
    _cleanup_(nl_message_freep) struct nl_msg *m =
        netlink_message(RTM_GETLINK, NLM_F_ACK, &head, sizeof(head));
    netlink_put_string(m, IFLA_IFNAME, name);
    int rc = netlink_exchange(nl, m, take_one, &link);
    if (rc == -ENODEV)
        return 0;
    if (rc < 0)
        return netlink_refused(nl, rc, e, "cannot look at interface", name);
    *found = link.index > 0;
    if (*found)
        *out = link;
    return 0;
}

struct sent {
    bool found;
    uint64_t packets, dropped;
};

static void take_sent(void *aux, struct nlmsghdr *h)
{
    struct sent *sent = aux;
    struct nlattr *stats = h->nlmsg_type == RTM_NEWLINK
                               ? nlmsg_find_attr(h, sizeof(struct ifinfomsg), IFLA_STATS64)
                               : NULL;
    const size_t needed = offsetof(struct rtnl_link_stats64, multicast);
    struct rtnl_link_stats64 values;

    if (!stats || nla_len(stats) < (int)needed)
        return;
    memcpy(&values, nla_data(stats), needed);
    *sent = (struct sent){true, values.tx_packets, values.tx_dropped};
}

int netlink_sent(struct netlink *nl, int index, uint64_t *packets, uint64_t *dropped, struct err *e)
{
    const struct ifinfomsg head = {.ifi_family = AF_UNSPEC, .ifi_index = index};
    struct sent sent = {0};
    _cleanup_(nl_message_freep) struct nl_msg *m =
        netlink_message(RTM_GETLINK, NLM_F_ACK, &head, sizeof(head));
    int rc = netlink_exchange(nl, m, take_sent, &sent);

    if (rc == 0 && !sent.found)
        rc = -ENODATA;
    if (rc < 0)
        return netlink_refused(nl, rc, e, "cannot read the statistics of", "an interface");
    *packets = sent.packets;
    *dropped = sent.dropped;
    return 0;
}

static void take_many(void *aux, struct nlmsghdr *h)
{
    struct link link;

    if (parse_link(h, &link))
        *link_vector_add(aux) = link;
}

int netlink_links(struct netlink *nl, int master, struct link **out, size_t *count, struct err *e)
{
    const struct ifinfomsg head = {.ifi_family = AF_UNSPEC};
    int rc = -EINTR;

    for (int i = 0; i < DUMP_ATTEMPTS && rc == -EINTR; i++) {
        struct link_vector links = {0};
        _cleanup_(nl_message_freep) struct nl_msg *m =
            netlink_message(RTM_GETLINK, NLM_F_DUMP, &head, sizeof(head));
        if (master)
            netlink_put_u32(m, IFLA_MASTER, (uint32_t)master);
        rc = netlink_exchange(nl, m, take_many, &links);
        if (rc == 0) {
            *out = links.items;
            *count = links.length;
            return 0;
        }
        free(links.items);
    }
    return netlink_refused(nl, rc, e, "cannot list",
                           master ? "the ports of a bridge" : "the interfaces");
}

struct address_search {
    int index;
    bool found;
};

static void take_address(void *aux, struct nlmsghdr *h)
{
    struct address_search *search = aux;

    if (h->nlmsg_type != RTM_NEWADDR || nlmsg_datalen(h) < (int)sizeof(struct ifaddrmsg))
        return;
    const struct ifaddrmsg *m = nlmsg_data(h);
    bool automatic = m->ifa_family == AF_INET6 && m->ifa_scope == RT_SCOPE_LINK;
    if ((int)m->ifa_index == search->index && !automatic)
        search->found = true;
}

int netlink_has_address(struct netlink *nl, const struct link *link, bool *has, struct err *e)
{
    const struct ifaddrmsg head = {.ifa_index = (uint32_t)link->index};
    int rc = -EINTR;

    for (int i = 0; i < DUMP_ATTEMPTS && rc == -EINTR; i++) {
        struct address_search search = {.index = link->index};
        _cleanup_(nl_message_freep) struct nl_msg *m =
            netlink_message(RTM_GETADDR, NLM_F_DUMP, &head, sizeof(head));
        rc = netlink_exchange(nl, m, take_address, &search);
        if (rc == 0)
            *has = search.found;
    }
    return netlink_refused(nl, rc, e, "cannot list the addresses of", link->name);
}

/* --- changing -------------------------------------------------------------------------------- */

int netlink_add_bridge(struct netlink *nl, const char *name, struct err *e)
{
    const struct ifinfomsg head = {.ifi_family = AF_UNSPEC};
    _cleanup_(nl_message_freep) struct nl_msg *m =
        netlink_message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK, &head, sizeof(head));

    netlink_put_string(m, IFLA_IFNAME, name);
    struct nlattr *info = nla_nest_start(m, IFLA_LINKINFO);
    netlink_put_string(m, IFLA_INFO_KIND, "bridge");
    struct nlattr *data = nla_nest_start(m, IFLA_INFO_DATA);
    netlink_put_u32(m, IFLA_BR_FORWARD_DELAY, 0);
    netlink_put_u32(m, IFLA_BR_STP_STATE, 0);
    nla_nest_end(m, data);
    nla_nest_end(m, info);
    return netlink_refused(nl, netlink_exchange(nl, m, NULL, NULL), e, "cannot make bridge", name);
}

int netlink_delete(struct netlink *nl, const struct link *link, struct err *e)
{
    const struct ifinfomsg head = {.ifi_family = AF_UNSPEC, .ifi_index = link->index};
    _cleanup_(nl_message_freep) struct nl_msg *m =
        netlink_message(RTM_DELLINK, NLM_F_ACK, &head, sizeof(head));
    int rc = netlink_exchange(nl, m, NULL, NULL);

    return rc == -ENODEV ? 0 : netlink_refused(nl, rc, e, "cannot remove interface", link->name);
}

int netlink_set_up(struct netlink *nl, const struct link *link, struct err *e)
{
    const struct ifinfomsg head = {.ifi_family = AF_UNSPEC,
                                   .ifi_index = link->index,
                                   .ifi_flags = IFF_UP,
                                   .ifi_change = IFF_UP};
    _cleanup_(nl_message_freep) struct nl_msg *m =
        netlink_message(RTM_NEWLINK, NLM_F_ACK, &head, sizeof(head));

    return netlink_refused(nl, netlink_exchange(nl, m, NULL, NULL), e, "cannot bring up",
                           link->name);
}

static int set_number(struct netlink *nl, const struct link *link, int attribute, int value,
                      const char *what, struct err *e)
{
    const struct ifinfomsg head = {.ifi_family = AF_UNSPEC, .ifi_index = link->index};
    _cleanup_(nl_message_freep) struct nl_msg *m =
        netlink_message(RTM_NEWLINK, NLM_F_ACK, &head, sizeof(head));

    netlink_put_u32(m, attribute, (uint32_t)value);
    return netlink_refused(nl, netlink_exchange(nl, m, NULL, NULL), e, what, link->name);
}

int netlink_set_mtu(struct netlink *nl, const struct link *link, int mtu, struct err *e)
{
    char what[48];

    (void)snprintf(what, sizeof(what), "cannot set MTU %d of", mtu);
    return set_number(nl, link, IFLA_MTU, mtu, what, e);
}

int netlink_set_tx_queue_length(struct netlink *nl, const struct link *link, int frames,
                                struct err *e)
{
    return set_number(nl, link, IFLA_TXQLEN, frames, "cannot lengthen the transmit queue of", e);
}

int netlink_set_master(struct netlink *nl, const struct link *link, const struct link *master,
                       struct err *e)
{
    char what[64];

    if (!master)
        return set_number(nl, link, IFLA_MASTER, 0, "cannot take out of its bridge interface", e);
    (void)snprintf(what, sizeof(what), "cannot put into bridge %s interface", master->name);
    return set_number(nl, link, IFLA_MASTER, master->index, what, e);
}

int netlink_point_fdb(struct netlink *nl, int port_index, const uint8_t mac[FRAME_MAC_SIZE],
                      struct err *e)
{
    const struct ndmsg head = {.ndm_family = AF_BRIDGE,
                               .ndm_ifindex = port_index,
                               .ndm_state = NUD_REACHABLE, /* neither local nor static: it ages */
                               .ndm_flags = NTF_MASTER};
    _cleanup_(nl_message_freep) struct nl_msg *m = netlink_message(
        RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE | NLM_F_ACK, &head, sizeof(head));

    netlink_put(m, NDA_LLADDR, mac, FRAME_MAC_SIZE);
    return netlink_refused(nl, netlink_exchange(nl, m, NULL, NULL), e,
                           "cannot point the bridge's table at", "the tap");
}

/* --- events ---------------------------------------------------------------------------------- */

struct link_events {
    struct nl_sock *socket;
    struct loop_source *source;
    struct link_events_fns fns;
    void *aux;
};

static void events_pass_on(struct link_events *events, unsigned char *buffer, int n)
{
    struct link link;

    for (struct nlmsghdr *h = (struct nlmsghdr *)buffer; nlmsg_ok(h, n); h = nlmsg_next(h, &n))
        if (parse_link(h, &link))
            events->fns.changed(events->aux, &link);
}

static void events_readable(void *aux, uint32_t epoll_events _unused_)
{
    enum { READS_A_TURN = 32 }; /* then others of the loop have their turn */
    struct link_events *events = aux;

    for (int i = 0; i < READS_A_TURN; i++) {
        _cleanup_(mem_freep) unsigned char *buffer = NULL;
        struct sockaddr_nl from;
        int n = nl_recv(events->socket, &from, &buffer, NULL);

        if (n == 0 || n == -NLE_AGAIN)
            break;
        if (n < 0)
            events->fns.lost(events->aux); /* ENOBUFS: what follows is only what is new */
        else
            events_pass_on(events, buffer, n);
    }
}

int link_events_new(struct link_events **out, struct loop *loop, const struct link_events_fns *fns,
                    void *aux, struct err *e)
{
    _cleanup_(link_events_freep) struct link_events *events = NEW(struct link_events);

    events->fns = *fns;
    events->aux = aux;
    events->socket = nl_socket_alloc();
    if (!events->socket)
        return err_set(e, ERR_NOMEM, "no memory for a netlink socket");
    int rc = nl_connect(events->socket, NETLINK_ROUTE);
    if (rc == 0)
        rc = nl_socket_set_nonblocking(events->socket);
    if (rc == 0)
        rc = nl_socket_add_memberships(events->socket, RTNLGRP_LINK, 0);
    if (rc < 0)
        return err_set(e, ERR_SYSTEM, "link events cannot be received: %s", nl_geterror(rc));
    events->source = loop_add_fd(loop, nl_socket_get_fd(events->socket), EPOLLIN, "link events",
                                 events_readable, events, e);
    if (!events->source)
        return -1;
    *out = STEAL(events);
    return 0;
}

void link_events_free(struct link_events *events)
{
    if (!events)
        return;
    loop_source_free(events->source);
    if (events->socket)
        nl_socket_free(events->socket);
    free(events);
}
