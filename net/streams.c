/* SPDX-License-Identifier: Apache-2.0 */
#include "net/streams.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <net/if.h>
#include <netinet/in.h>
#include <string.h>

#include "lib/json.h"
#include "lib/text.h"
#include "net/netlink_message.h"

enum { PORT_FIRST = 49152, PORT_LAST = 49215, ESTABLISHED = 1 /* TCP_ESTABLISHED of the kernel */ };

/* IPv4 in IPv6's clothes is IPv4 at the other end. */
static void format_address(int family, const void *address, char out[INET6_ADDRSTRLEN])
{
    const struct in6_addr *six = address;

    if (family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(six))
        (void)inet_ntop(AF_INET, &six->s6_addr[12], out, INET6_ADDRSTRLEN);
    else
        (void)inet_ntop(family, address, out, INET6_ADDRSTRLEN);
}

static char *stream_of(const struct inet_diag_msg *m, bool listened)
{
    char here[INET6_ADDRSTRLEN] = "", there[INET6_ADDRSTRLEN] = "";
    int port_here = ntohs(m->id.idiag_sport), port_there = ntohs(m->id.idiag_dport);

    format_address(m->idiag_family, m->id.idiag_src, here);
    format_address(m->idiag_family, m->id.idiag_dst, there);
    return listened ? text_format("%s %d %s %d", here, port_here, there, port_there)
                    : text_format("%s %d %s %d", there, port_there, here, port_here);
}

/* Gets each connection of that range; the text is the callee's to look at only. */
typedef void (*stream_fn)(void *aux, const struct inet_diag_msg *m, const char *stream);

struct walk {
    bool listened;
    stream_fn fn;
    void *aux;
};

static void take(void *aux, struct nlmsghdr *h)
{
    const struct walk *walk = aux;

    if (h->nlmsg_type != SOCK_DIAG_BY_FAMILY ||
        h->nlmsg_len < NLMSG_LENGTH(sizeof(struct inet_diag_msg)))
        return;
    const struct inet_diag_msg *m = NLMSG_DATA(h);
    int port = ntohs(walk->listened ? m->id.idiag_sport : m->id.idiag_dport);
    if (port < PORT_FIRST || port > PORT_LAST)
        return;
    _cleanup_(str_freep) char *stream = stream_of(m, walk->listened);
    walk->fn(walk->aux, m, stream);
}

static int walk_streams(struct netlink *nl, const struct walk *walk, struct err *e)
{
    static const uint8_t families[] = {AF_INET, AF_INET6};

    for (size_t i = 0; i < ARRAY_LEN(families); i++) {
        const struct inet_diag_req_v2 request = {.sdiag_family = families[i],
                                                 .sdiag_protocol = IPPROTO_TCP,
                                                 .idiag_states = 1U << ESTABLISHED};
        _cleanup_(nl_message_freep) struct nl_msg *m =
            netlink_message(SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, &request, sizeof(request));
        int rc = netlink_exchange(nl, m, take, (void *)walk);
        if (rc < 0 && rc != -EINTR) /* a table that changed meanwhile is looked at again */
            return netlink_refused(nl, rc, e, "cannot list the", "TCP connections");
    }
    return 0;
}

static void add_stream(void *aux, const struct inet_diag_msg *m, const char *stream)
{
    (void)m;
    json_object_array_add(aux, json_object_new_string(stream));
}

int net_streams(bool listened, struct json_object **out, struct err *e)
{
    _cleanup_(netlink_freep) struct netlink *nl = NULL;
    _cleanup_(json_putp) struct json_object *streams = json_object_new_array();
    const struct walk walk = {listened, add_stream, streams};

    if (netlink_open_protocol(&nl, NETLINK_SOCK_DIAG, e) < 0 || walk_streams(nl, &walk, e) < 0)
        return -1;
    *out = STEAL(streams);
    return 0;
}

struct wanted {
    const char *stream;
    bool found;
    struct inet_diag_req_v2 request;
};

static void find(void *aux, const struct inet_diag_msg *m, const char *stream)
{
    struct wanted *wanted = aux;

    if (!text_equal(stream, wanted->stream))
        return;
    wanted->found = true;
    wanted->request = (struct inet_diag_req_v2){.sdiag_family = m->idiag_family,
                                                .sdiag_protocol = IPPROTO_TCP,
                                                .idiag_states = 1U << ESTABLISHED,
                                                .id = m->id};
}

int net_stream_break(const char *stream, struct err *e)
{
    _cleanup_(netlink_freep) struct netlink *nl = NULL;
    struct wanted wanted = {.stream = stream};
    const struct walk walk = {true, find, &wanted};

    if (netlink_open_protocol(&nl, NETLINK_SOCK_DIAG, e) < 0 || walk_streams(nl, &walk, e) < 0)
        return -1;
    if (!wanted.found)
        return 0;
    _cleanup_(nl_message_freep) struct nl_msg *m =
        netlink_message(SOCK_DESTROY, NLM_F_ACK, &wanted.request, sizeof(wanted.request));
    int rc = netlink_exchange(nl, m, NULL, NULL);
    return rc == -ENOENT ? 0 : netlink_refused(nl, rc, e, "cannot break the connection", stream);
}

int net_own_addresses(struct json_object **out, struct err *e)
{
    struct ifaddrs *all = NULL;

    if (getifaddrs(&all) < 0)
        return err_set_errno(e, ERR_SYSTEM, errno, "this host's addresses cannot be read");
    struct json_object *found = json_object_new_array();
    for (const struct ifaddrs *a = all; a; a = a->ifa_next) {
        char text[INET6_ADDRSTRLEN] = "";
        if (!a->ifa_addr || (a->ifa_flags & IFF_LOOPBACK))
            continue;
        if (a->ifa_addr->sa_family == AF_INET)
            format_address(
                AF_INET, &((const struct sockaddr_in *)(const void *)a->ifa_addr)->sin_addr, text);
        else if (a->ifa_addr->sa_family == AF_INET6)
            format_address(AF_INET6,
                           &((const struct sockaddr_in6 *)(const void *)a->ifa_addr)->sin6_addr,
                           text);
        if (*text)
            json_object_array_add(found, json_object_new_string(text));
    }
    freeifaddrs(all);
    *out = found;
    return 0;
}

static bool has(struct json_object *array, const char *text)
{
    for (size_t i = 0; i < json_array_length(array); i++) {
        struct json_object *item = json_object_array_get_idx(array, i);
        if (json_object_is_type(item, json_type_string) &&
            text_equal(json_object_get_string(item), text))
            return true;
    }
    return false;
}

bool net_stream_is_half(const char *stream, struct json_object *addresses,
                        struct json_object *streams)
{
    const char *second = strchr(stream, ' ');
    const char *address = second ? strchr(second + 1, ' ') : NULL;
    const char *end = address ? strchr(address + 1, ' ') : NULL;

    if (!end || !json_object_is_type(streams, json_type_array) || has(streams, stream))
        return false;
    _cleanup_(str_freep) char *from = text_format("%.*s", (int)(end - address - 1), address + 1);
    return has(addresses, from);
}
