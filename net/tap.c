/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Taps made by us (Neutron's `ovs_create_tap`: the port must be whole before the guest exists) and taps
 * left behind. A tap that a process holds open carries a guest and is never removed.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <string.h>
#include <sys/ioctl.h>

#include "lib/text.h"
#include "net/net_provider.h"

/* As libvirt opens it later: with virtio headers, and queues if the guest asks for them. */
static int make_persistent(const char *name, bool multiqueue, struct err *e)
{
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    _cleanup_(fd_closep) int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0)
        return err_set_errno(e, ERR_NET_PLUG, errno, "cannot open /dev/net/tun for tap %s", name);
    if (multiqueue)
        request.ifr_flags |= IFF_MULTI_QUEUE;
    memcpy(request.ifr_name, name, strlen(name) + 1);
    if (ioctl(fd, TUNSETIFF, &request) < 0)
        return err_set_errno(e, ERR_NET_PLUG, errno, "cannot make tap %s", name);
    if (ioctl(fd, TUNSETPERSIST, 1) < 0)
        return err_set_errno(e, ERR_NET_PLUG, errno, "cannot keep tap %s", name);
    return 0;
}

int tap_create(const char *name, bool multiqueue, int mtu, struct err *e)
{
    _cleanup_(netlink_freep) struct netlink *nl = NULL;
    struct link tap;
    bool found;

    if (text_check_ifname(name, "tap", e) < 0 || netlink_open(&nl, e) < 0 ||
        netlink_link(nl, name, &tap, &found, e) < 0)
        return -1;
    if (found && !link_is_tap(&tap))
        return err_set(e, ERR_NET_PLUG, "interface %s exists and is no tap (%s)", name, tap.kind);
    if (!found &&
        (make_persistent(name, multiqueue, e) < 0 || netlink_link(nl, name, &tap, &found, e) < 0))
        return -1;
    if (!found)
        return err_set(e, ERR_NET_PLUG, "tap %s went away while it was made", name);
    if (mtu && tap.mtu != mtu && netlink_set_mtu(nl, &tap, mtu, e) < 0)
        return -1;
    return netlink_set_up(nl, &tap, e);
}

int tap_remove(struct netlink *nl, const char *name, struct err *e)
{
    struct link tap;
    bool found;

    if (netlink_link(nl, name, &tap, &found, e) < 0)
        return -1;
    if (!found)
        return 0;
    if (!link_is_tap(&tap))
        return err_set(e, ERR_NET_PLUG, "interface %s is no tap (%s), it was left alone", name,
                       tap.kind[0] ? tap.kind : "hardware");
    if (tap.running)
        return err_set(e, ERR_NET_PLUG, "a process still holds tap %s open, it was left alone",
                       name);
    return netlink_delete(nl, &tap, e);
}
