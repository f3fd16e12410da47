/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Traffic control in rtnetlink's own words: libnl-route has no TCA_TBF_BURST, without which a bucket of
 * 1 byte a second cannot be deeper than 274 bytes, and it looks links up in caches.
 */
#include "net/traffic.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/gen_stats.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <linux/tc_act/tc_mirred.h>
#include <netlink/attr.h>
#include <string.h>
#include <sys/socket.h>

#include "lib/text.h"
#include "net/netlink_message.h"

/* Ours among the filters of a hook: few choose a number like this by hand, the kernel's own are higher. */
enum { FILTER_PRIORITY = 77 };

#define HOOK_PARENT   TC_H_CLSACT
#define HOOK_HANDLE   TC_H_MAKE(TC_H_CLSACT, 0)
#define BUCKET_HANDLE TC_H_MAKE(1U << 16, 0)
#define EGRESS        TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_EGRESS)
#define INGRESS       TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS)

static struct nl_msg *traffic_message(int type, int flags, const struct link *link, uint32_t handle,
                                      uint32_t parent, uint32_t info)
{
    const struct tcmsg head = {.tcm_family = AF_UNSPEC,
                               .tcm_ifindex = link->index,
                               .tcm_handle = handle,
                               .tcm_parent = parent,
                               .tcm_info = info};

    return netlink_message(type, flags, &head, sizeof(head));
}

static int change(struct netlink *nl, struct nl_msg *m, struct err *e, const char *what,
                  const struct link *link)
{
    return netlink_refused(nl, netlink_exchange(nl, m, NULL, NULL), e, what, link->name);
}

/* --- the intermediate device ----------------------------------------------------------------- */

void traffic_keep_silent(struct netlink *nl, const char *name)
{
    const struct ifinfomsg head = {.ifi_family = AF_UNSPEC};
    const uint8_t none = IN6_ADDR_GEN_MODE_NONE;
    _cleanup_(nl_message_freep) struct nl_msg *m =
        netlink_message(RTM_NEWLINK, NLM_F_ACK, &head, sizeof(head));

    netlink_put_string(m, IFLA_IFNAME, name);
    struct nlattr *families = nla_nest_start(m, IFLA_AF_SPEC);
    struct nlattr *ipv6 = nla_nest_start(m, AF_INET6);
    netlink_put(m, IFLA_INET6_ADDR_GEN_MODE, &none, sizeof(none));
    nla_nest_end(m, ipv6);
    nla_nest_end(m, families);
    (void)netlink_exchange(nl, m, NULL, NULL); /* a host without IPv6 refuses it and needs it not */
}

int traffic_add_ifb(struct netlink *nl, const char *name, struct err *e)
{
    const struct ifinfomsg head = {.ifi_family = AF_UNSPEC};
    _cleanup_(nl_message_freep) struct nl_msg *m =
        netlink_message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK, &head, sizeof(head));

    netlink_put_string(m, IFLA_IFNAME, name);
    struct nlattr *info = nla_nest_start(m, IFLA_LINKINFO);
    netlink_put_string(m, IFLA_INFO_KIND, "ifb");
    nla_nest_end(m, info);
    int rc = netlink_exchange(nl, m, NULL, NULL);
    if (rc < 0)
        return netlink_refused(nl, rc, e, "cannot make intermediate device (IFB)", name);
    traffic_keep_silent(nl, name);
    return 0;
}

struct stats_answer {
    bool found;
    struct rtnl_link_stats64 stats;
};

static void take_stats(void *aux, struct nlmsghdr *h)
{
    struct stats_answer *answer = aux;
    struct nlattr *a[IFLA_MAX + 1];

    if (h->nlmsg_type != RTM_NEWLINK ||
        nlmsg_parse(h, sizeof(struct ifinfomsg), a, IFLA_MAX, NULL) < 0 || !a[IFLA_STATS64])
        return;
    answer->found = true;
    (void)nla_memcpy(&answer->stats, a[IFLA_STATS64], sizeof(answer->stats));
}

int traffic_ifb_in_flight(struct netlink *nl, const struct link *ifb, int64_t *frames,
                          struct err *e)
{
    const struct ifinfomsg head = {.ifi_family = AF_UNSPEC, .ifi_index = ifb->index};
    struct stats_answer answer = {0};
    _cleanup_(nl_message_freep) struct nl_msg *m =
        netlink_message(RTM_GETLINK, NLM_F_ACK, &head, sizeof(head));
    int rc = netlink_exchange(nl, m, take_stats, &answer);

    if (rc == 0 && !answer.found)
        rc = -ENODATA;
    if (rc < 0)
        return netlink_refused(nl, rc, e, "cannot count the frames of", ifb->name);
    /* It counts as received what its queueing discipline hands it, then drops what was not redirected. */
    *frames =
        (int64_t)(answer.stats.rx_packets - answer.stats.rx_dropped - answer.stats.tx_packets);
    return 0;
}

/* --- the bucket ------------------------------------------------------------------------------ */

int traffic_set_bucket(struct netlink *nl, const struct link *link,
                       const struct traffic_bucket *bucket, struct err *e)
{
    const struct tc_tbf_qopt options = {
        .rate = {.rate = bucket->rate > UINT32_MAX ? UINT32_MAX : (uint32_t)bucket->rate,
                 .linklayer = TC_LINKLAYER_ETHERNET, /* else the kernel wants a table of costs */
                 .overhead = bucket->surcharge},
        .limit = bucket->limit};
    _cleanup_(nl_message_freep) struct nl_msg *m = traffic_message(
        RTM_NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE | NLM_F_ACK, link, BUCKET_HANDLE, TC_H_ROOT, 0);

    netlink_put_string(m, TCA_KIND, "tbf");
    struct nlattr *nest = nla_nest_start(m, TCA_OPTIONS);
    netlink_put(m, TCA_TBF_PARMS, &options, sizeof(options));
    netlink_put_u32(m, TCA_TBF_BURST, bucket->burst);
    if (bucket->rate > UINT32_MAX)
        netlink_put(m, TCA_TBF_RATE64, &bucket->rate, sizeof(bucket->rate));
    nla_nest_end(m, nest);
    return change(nl, m, e, "cannot set the token bucket of", link);
}

struct qdisc_answer {
    char kind[NETLINK_KIND_SIZE];
    struct traffic_queue queue;
};

static void take_queue(struct nlattr *stats, struct traffic_queue *out)
{
    struct nlattr *a[TCA_STATS_MAX + 1];
    struct gnet_stats_queue queue = {0};

    if (nla_parse_nested(a, TCA_STATS_MAX, stats, NULL) < 0 || !a[TCA_STATS_QUEUE])
        return;
    (void)nla_memcpy(&queue, a[TCA_STATS_QUEUE], sizeof(queue));
    out->frames = queue.qlen;
    out->bytes = queue.backlog;
}

static void take_limit(struct nlattr *options, struct traffic_queue *out)
{
    struct nlattr *a[TCA_TBF_MAX + 1];
    struct tc_tbf_qopt tbf = {0};

    if (nla_parse_nested(a, TCA_TBF_MAX, options, NULL) < 0 || !a[TCA_TBF_PARMS])
        return;
    (void)nla_memcpy(&tbf, a[TCA_TBF_PARMS], sizeof(tbf));
    out->limit = tbf.limit;
}

static void take_qdisc(void *aux, struct nlmsghdr *h)
{
    struct qdisc_answer *answer = aux;
    struct nlattr *a[TCA_MAX + 1];

    if (h->nlmsg_type != RTM_NEWQDISC ||
        nlmsg_parse(h, sizeof(struct tcmsg), a, TCA_MAX, NULL) < 0 || !a[TCA_KIND])
        return;
    nla_strlcpy(answer->kind, a[TCA_KIND], sizeof(answer->kind));
    if (a[TCA_STATS2])
        take_queue(a[TCA_STATS2], &answer->queue);
    if (a[TCA_OPTIONS] && strcmp(answer->kind, "tbf") == 0)
        take_limit(a[TCA_OPTIONS], &answer->queue);
}

/* The queueing discipline at `parent`; its kind is "" if there is none. */
static int look_at_qdisc(struct netlink *nl, const struct link *link, uint32_t parent,
                         struct qdisc_answer *out, struct err *e)
{
    /* Without ECHO the kernel answers to those who listen for changes, and not to us. */
    _cleanup_(nl_message_freep) struct nl_msg *m =
        traffic_message(RTM_GETQDISC, NLM_F_ACK | NLM_F_ECHO, link, 0, parent, 0);

    *out = (struct qdisc_answer){0};
    int rc = netlink_exchange(nl, m, take_qdisc, out);
    return rc == -ENOENT ? 0
                         : netlink_refused(nl, rc, e, "cannot look at the queue of", link->name);
}

int traffic_queue(struct netlink *nl, const struct link *link, struct traffic_queue *out,
                  struct err *e)
{
    struct qdisc_answer answer;

    if (look_at_qdisc(nl, link, TC_H_ROOT, &answer, e) < 0)
        return -1;
    if (!text_equal(answer.kind, "tbf"))
        return err_set(e, ERR_NET_PLUG, "the queue of %s is '%s' and no token bucket (tbf)",
                       link->name, answer.kind);
    *out = answer.queue;
    return 0;
}

/* --- the hook -------------------------------------------------------------------------------- */

int traffic_add_hook(struct netlink *nl, const struct link *link, struct err *e)
{
    struct qdisc_answer answer;
    _cleanup_(nl_message_freep) struct nl_msg *m = traffic_message(
        RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK, link, HOOK_HANDLE, HOOK_PARENT, 0);

    netlink_put_string(m, TCA_KIND, "clsact");
    int rc = netlink_exchange(nl, m, NULL, NULL);
    if (rc != -EEXIST)
        return netlink_refused(nl, rc, e, "cannot hook filters (clsact) to", link->name);
    if (look_at_qdisc(nl, link, HOOK_PARENT, &answer, e) < 0)
        return -1;
    if (text_equal(answer.kind, "clsact"))
        return 0;
    return err_set(
        e, ERR_NET_PLUG,
        "interface %s has the filter hook '%s' of another program where 'clsact' is needed",
        link->name, answer.kind);
}

static void count_filter(void *aux, struct nlmsghdr *h)
{
    *(int *)aux += h->nlmsg_type == RTM_NEWTFILTER;
}

static int count_filters(struct netlink *nl, const struct link *link, uint32_t parent, int *count,
                         struct err *e)
{
    _cleanup_(nl_message_freep) struct nl_msg *m =
        traffic_message(RTM_GETTFILTER, NLM_F_DUMP, link, 0, parent, 0);

    return netlink_refused(nl, netlink_exchange(nl, m, count_filter, count), e,
                           "cannot list the filters of", link->name);
}

int traffic_remove_hook(struct netlink *nl, const struct link *link, struct err *e)
{
    struct qdisc_answer answer;
    int filters = 0;

    if (look_at_qdisc(nl, link, HOOK_PARENT, &answer, e) < 0)
        return -1;
    if (!text_equal(answer.kind, "clsact"))
        return 0;
    if (count_filters(nl, link, EGRESS, &filters, e) < 0 ||
        count_filters(nl, link, INGRESS, &filters, e) < 0)
        return -1;
    if (filters)
        return 0;
    _cleanup_(nl_message_freep) struct nl_msg *m =
        traffic_message(RTM_DELQDISC, NLM_F_ACK, link, HOOK_HANDLE, HOOK_PARENT, 0);
    netlink_put_string(m, TCA_KIND, "clsact");
    return change(nl, m, e, "cannot take the filter hook (clsact) off", link);
}

/* --- the filter ------------------------------------------------------------------------------ */

static struct nl_msg *filter_message(int type, int flags, const struct link *link)
{
    struct nl_msg *m =
        traffic_message(type, flags | NLM_F_ACK, link, 0, EGRESS,
                        TC_H_MAKE((uint32_t)FILTER_PRIORITY << 16, htons(ETH_P_ALL)));

    netlink_put_string(m, TCA_KIND, "u32");
    return m;
}

static void put_redirection(struct nl_msg *m, const struct link *to)
{
    const struct tc_mirred parameters = {
        .action = TC_ACT_STOLEN, .eaction = TCA_EGRESS_REDIR, .ifindex = (uint32_t)to->index};
    struct nlattr *actions = nla_nest_start(m, TCA_U32_ACT);
    struct nlattr *first = nla_nest_start(m, 1);

    netlink_put_string(m, TCA_ACT_KIND, "mirred");
    struct nlattr *options = nla_nest_start(m, TCA_ACT_OPTIONS);
    netlink_put(m, TCA_MIRRED_PARMS, &parameters, sizeof(parameters));
    nla_nest_end(m, options);
    nla_nest_end(m, first);
    nla_nest_end(m, actions);
}

int traffic_redirect(struct netlink *nl, const struct link *link, const struct link *to,
                     struct err *e)
{
    /* No key at all: one that compares nothing still wants four bytes to look at. */
    const struct tc_u32_sel everything = {.flags = TC_U32_TERMINAL};
    _cleanup_(nl_message_freep) struct nl_msg *m =
        filter_message(RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL, link);
    struct nlattr *options = nla_nest_start(m, TCA_OPTIONS);

    netlink_put(m, TCA_U32_SEL, &everything, sizeof(everything));
    put_redirection(m, to);
    nla_nest_end(m, options);
    return change(nl, m, e, "cannot redirect what leaves by", link);
}

int traffic_direct(struct netlink *nl, const struct link *link, bool *was, struct err *e)
{
    _cleanup_(nl_message_freep) struct nl_msg *m = filter_message(RTM_DELTFILTER, 0, link);
    int rc = netlink_exchange(nl, m, NULL, NULL);

    *was = rc == 0;
    if (rc == -ENOENT || rc == -EINVAL) /* no such filter; no hook that it could be at */
        return 0;
    return netlink_refused(nl, rc, e, "cannot take the redirection off", link->name);
}
