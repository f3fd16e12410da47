/* SPDX-License-Identifier: Apache-2.0 */
#include "net/barrier.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <netlink/attr.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "lib/log.h"
#include "lib/text.h"
#include "net/netlink_message.h"
#include "net/tap_end.h"

LOG_MODULE(net);

enum {
    FRAMES_MAX = 4096, /* of the guest that wait for us */
    BATCH_SIZE = 4096,
    NAME_SIZE = 16 + IFNAMSIZ,
    ANSWER_US = 500000
};

static const char prefix[] = "cry", chain[] = "from-guest";

struct barrier {
    char tap[IFNAMSIZ], table[NAME_SIZE];
    int fd; /* netlink; the table lives as long */
    bool up;
    struct tap_end *end;
};

/* ---- nftables: a batch of messages, taken up as a whole or not at all ---- */

struct batch {
    uint8_t data[BATCH_SIZE];
    size_t length;
    uint32_t messages;
};

static void batch_add(struct batch *b, struct nl_msg *m)
{
    struct nlmsghdr *h = nlmsg_hdr(m);

    h->nlmsg_seq = ++b->messages;
    if (b->length + NLMSG_ALIGN(h->nlmsg_len) > sizeof(b->data))
        abort(); /* a handful of short messages */
    memcpy(b->data + b->length, h, h->nlmsg_len);
    b->length += NLMSG_ALIGN(h->nlmsg_len);
    nlmsg_free(m);
}

static struct nl_msg *message(int type, int flags)
{
    const struct nfgenmsg head = {.nfgen_family = NFPROTO_NETDEV, .version = NFNETLINK_V0};

    return netlink_message((NFNL_SUBSYS_NFTABLES << 8) | type, flags | NLM_F_ACK, &head,
                           sizeof(head));
}

static void batch_mark(struct batch *b, int type)
{
    const struct nfgenmsg head = {
        .nfgen_family = AF_UNSPEC, .version = NFNETLINK_V0, .res_id = htons(NFNL_SUBSYS_NFTABLES)};

    batch_add(b, netlink_message(type, 0, &head, sizeof(head)));
}

static void put_number(struct nl_msg *m, int attribute, uint32_t value)
{
    netlink_put_u32(m, attribute, htonl(value));
}

static void add_table(struct batch *b, const char *table)
{
    struct nl_msg *m = message(NFT_MSG_NEWTABLE, NLM_F_CREATE | NLM_F_EXCL);

    netlink_put_string(m, NFTA_TABLE_NAME, table);
    put_number(m, NFTA_TABLE_FLAGS, NFT_TABLE_F_OWNER);
    batch_add(b, m);
}

static void add_chain(struct batch *b, const char *table, const char *tap)
{
    struct nl_msg *m = message(NFT_MSG_NEWCHAIN, NLM_F_CREATE);

    netlink_put_string(m, NFTA_CHAIN_TABLE, table);
    netlink_put_string(m, NFTA_CHAIN_NAME, chain);
    struct nlattr *hook = nla_nest_start(m, NFTA_CHAIN_HOOK);
    put_number(m, NFTA_HOOK_HOOKNUM, NF_NETDEV_INGRESS);
    put_number(m, NFTA_HOOK_PRIORITY, 0);
    netlink_put_string(m, NFTA_HOOK_DEV, tap);
    nla_nest_end(m, hook);
    put_number(m, NFTA_CHAIN_POLICY, NF_ACCEPT);
    netlink_put_string(m, NFTA_CHAIN_TYPE, "filter");
    batch_add(b, m);
}

/* "immediate" puts the interface's index into a register. */
static void put_immediate(struct nl_msg *m, uint32_t index)
{
    struct nlattr *element = nla_nest_start(m, NFTA_LIST_ELEM);

    netlink_put_string(m, NFTA_EXPR_NAME, "immediate");
    struct nlattr *expression = nla_nest_start(m, NFTA_EXPR_DATA);
    put_number(m, NFTA_IMMEDIATE_DREG, NFT_REG_1);
    struct nlattr *data = nla_nest_start(m, NFTA_IMMEDIATE_DATA);
    netlink_put_u32(m, NFTA_DATA_VALUE, index); /* in this host's order */
    nla_nest_end(m, data);
    nla_nest_end(m, expression);
    nla_nest_end(m, element);
}

/* "fwd" sends the frame there. */
static void put_forward(struct nl_msg *m)
{
    struct nlattr *element = nla_nest_start(m, NFTA_LIST_ELEM);

    netlink_put_string(m, NFTA_EXPR_NAME, "fwd");
    struct nlattr *expression = nla_nest_start(m, NFTA_EXPR_DATA);
    put_number(m, NFTA_FWD_SREG_DEV, NFT_REG_1);
    nla_nest_end(m, expression);
    nla_nest_end(m, element);
}

static void add_rule(struct batch *b, const char *table, int index)
{
    struct nl_msg *m = message(NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND);

    netlink_put_string(m, NFTA_RULE_TABLE, table);
    netlink_put_string(m, NFTA_RULE_CHAIN, chain);
    struct nlattr *expressions = nla_nest_start(m, NFTA_RULE_EXPRESSIONS);
    put_immediate(m, (uint32_t)index);
    put_forward(m);
    nla_nest_end(m, expressions);
    batch_add(b, m);
}

static void delete_table(struct batch *b, const char *table)
{
    struct nl_msg *m = message(NFT_MSG_DELTABLE, 0);

    netlink_put_string(m, NFTA_TABLE_NAME, table);
    batch_add(b, m);
}

/* Takes the answers of one datagram: the first refusal, and how many there were. */
static int take_answers(uint8_t *data, size_t size, unsigned *answers)
{
    int refusal = 0, left = (int)size;

    for (struct nlmsghdr *h = (struct nlmsghdr *)data; nlmsg_ok(h, left);
         h = nlmsg_next(h, &left)) {
        if (h->nlmsg_type != NLMSG_ERROR)
            continue;
        const struct nlmsgerr *error = nlmsg_data(h);
        ++*answers;
        if (refusal == 0)
            refusal = error->error;
    }
    return refusal;
}

/* `expected`: answers if all is taken up. 0 or the kernel's -errno. */
static int batch_send(int fd, const struct batch *b, unsigned expected)
{
    union {
        struct nlmsghdr aligned;
        uint8_t bytes[2 * BATCH_SIZE];
    } answer;
    unsigned answers = 0;

    if (send(fd, b->data, b->length, 0) != (ssize_t)b->length)
        return -errno;
    while (answers < expected) {
        ssize_t n = recv(fd, answer.bytes, sizeof(answer.bytes), 0);
        if (n < 0)
            return -errno;
        int refusal = take_answers(answer.bytes, (size_t)n, &answers);
        if (refusal)
            return refusal;
    }
    return 0;
}

/* ---- from and to ---- */

static int open_socket(int *fd, struct err *e)
{
    const struct timeval patience = {.tv_usec = ANSWER_US};
    const struct sockaddr_nl address = {.nl_family = AF_NETLINK};

    *fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
    if (*fd < 0 || setsockopt(*fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) < 0 ||
        bind(*fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
        return err_set_errno(e, ERR_NET_PLUG, errno, "a socket to nftables cannot be opened");
    return 0;
}

static int put_rule(struct barrier *b, const char *own_tap, struct err *e)
{
    _cleanup_(netlink_freep) struct netlink *nl = NULL;
    struct batch batch = {.length = 0};
    struct link own;
    bool found;

    if (netlink_open(&nl, e) < 0 || netlink_link(nl, own_tap, &own, &found, e) < 0)
        return -1;
    if (!found)
        return err_set(e, ERR_NET_PLUG, "tap %s went away while it was made", own_tap);
    batch_mark(&batch, NFNL_MSG_BATCH_BEGIN);
    add_table(&batch, b->table);
    add_chain(&batch, b->table, b->tap);
    add_rule(&batch, b->table, own.index);
    batch_mark(&batch, NFNL_MSG_BATCH_END);
    int rc = batch_send(b->fd, &batch, 3);
    if (rc < 0)
        return err_set_errno(e, ERR_NET_PLUG, -rc, "a rule of nftables at tap %s", b->tap);
    b->up = true;
    return 0;
}

int barrier_raise(struct barrier **out, const char *tap, struct err *e)
{
    _cleanup_(barrier_freep) struct barrier *b = NEW(struct barrier);
    char own_tap[IFNAMSIZ];

    b->fd = -1;
    if (text_check_ifname(tap, "tap", e) < 0)
        return -1;
    if (strlen(tap) < sizeof(prefix) || strncmp(tap, prefix, sizeof(prefix) - 1) == 0)
        return err_set(e, ERR_NET_PLUG, "tap %s: no name can be made of it", tap);
    (void)snprintf(b->tap, sizeof(b->tap), "%s", tap);
    (void)snprintf(b->table, sizeof(b->table), "computed-%s", tap);
    (void)snprintf(own_tap, sizeof(own_tap), "%s%.12s", prefix, tap + sizeof(prefix) - 1);
    if (tap_end_make(&b->end, own_tap, FRAMES_MAX, e) < 0 || open_socket(&b->fd, e) < 0 ||
        put_rule(b, own_tap, e) < 0)
        return -1;
    *out = STEAL(b);
    return 0;
}

int barrier_fd(const struct barrier *b)
{
    return tap_end_fd(b->end);
}

bool barrier_read(const struct barrier *b, uint8_t *frame, size_t *length)
{
    return tap_end_get(b->end, frame, length);
}

void barrier_lower(struct barrier *b)
{
    struct batch batch = {.length = 0};

    if (!b->up)
        return;
    b->up = false;
    batch_mark(&batch, NFNL_MSG_BATCH_BEGIN);
    delete_table(&batch, b->table);
    batch_mark(&batch, NFNL_MSG_BATCH_END);
    int rc = batch_send(b->fd, &batch, 1);
    /* without the socket there is no table; a tap that went away took its rule along */
    if (rc < 0 && rc != -ENOENT)
        log_debug("the table of tap %s ends with its socket: %s", b->tap, strerror(-rc));
    fd_closep(&b->fd);
    b->fd = -1;
}

void barrier_free(struct barrier *b)
{
    if (!b)
        return;
    barrier_lower(b);
    fd_closep(&b->fd);
    tap_end_close(b->end);
    free(b);
}
