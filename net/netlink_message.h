/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages to the kernel, for the files of the room that speak more of rtnetlink than net/netlink.h
 * offers. Everything here belongs to the thread that has the socket.
 */
#pragma once

#include <netlink/msg.h>
#include <stddef.h>
#include <stdint.h>

#include "net/netlink.h"

static inline void nl_message_freep(struct nl_msg **m)
{
    if (*m)
        nlmsg_free(*m);
}

/* netlink_open() for another family than NETLINK_ROUTE. */
int netlink_open_protocol(struct netlink **out, int protocol, struct err *e);

/* A request with its fixed head; `flags` beside NLM_F_REQUEST. The caller frees it. Never NULL. */
struct nl_msg *netlink_message(int type, int flags, const void *head, size_t size);
/* A message has room for a page; what is put into it is a few words. */
void netlink_put(struct nl_msg *m, int attribute, const void *data, size_t size);
void netlink_put_u32(struct nl_msg *m, int attribute, uint32_t value);
void netlink_put_string(struct nl_msg *m, int attribute, const char *value);

/*
 * Sends the request and waits for its end (NLM_F_ACK or NLM_F_DUMP must be set); `fn` gets each message
 * of the answer, NULL = there is none. 0, or the kernel's -errno (-EINTR: a dump that must be repeated).
 */
typedef void (*netlink_message_fn)(void *aux, struct nlmsghdr *h);
int netlink_exchange(struct netlink *nl, struct nl_msg *m, netlink_message_fn fn, void *aux);

/* What netlink_exchange() gave as an error, "<what> <name>: <the kernel's own words>"; 0 stays 0. */
int netlink_refused(struct netlink *nl, int result, struct err *e, const char *what,
                    const char *name);
