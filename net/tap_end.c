/* SPDX-License-Identifier: Apache-2.0 */
#include "net/tap_end.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "lib/text.h"
#include "net/capture.h"
#include "net/netlink.h"
#include "net/traffic.h"

enum { HEADER_MAX = 64, PATH_SIZE = 96, INFO_SIZE = 1024 };

#define TUN_DEVICE "/dev/net/tun"

struct tap_end {
    int fd;
    bool has_header;
    size_t header_size;
};

static inline void directory_closep(DIR **d)
{
    if (*d)
        closedir(*d);
}

/* ---- whose it is ---- */

static bool is_number(const char *name)
{
    return name[0] && strspn(name, "0123456789") == strlen(name);
}

/* Does the descriptor's own text say that it is of this tap? */
static bool names_tap(const char *pid, const char *fd, const char *tap)
{
    char path[PATH_SIZE], info[INFO_SIZE], line[IFNAMSIZ + 8];

    (void)snprintf(path, sizeof(path), "/proc/%.16s/fdinfo/%.16s", pid, fd);
    _cleanup_(fd_closep) int file = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = file < 0 ? -1 : read(file, info, sizeof(info) - 1);
    if (n <= 0)
        return false;
    info[n] = '\0';
    (void)snprintf(line, sizeof(line), "iff:\t%s\n", tap);
    return strstr(info, line) != NULL;
}

static bool is_tun(const char *pid, const char *fd)
{
    char path[PATH_SIZE], target[sizeof(TUN_DEVICE) + 1];

    (void)snprintf(path, sizeof(path), "/proc/%.16s/fd/%.16s", pid, fd);
    ssize_t n = readlink(path, target, sizeof(target));
    return n == sizeof(TUN_DEVICE) - 1 && memcmp(target, TUN_DEVICE, (size_t)n) == 0;
}

/* Two namespaces may have a tap of the same name. */
static bool is_of_this_network(int fd)
{
    struct stat of_tap, of_us;
    _cleanup_(fd_closep) int network = ioctl(fd, TUNGETDEVNETNS);

    return network >= 0 && fstat(network, &of_tap) == 0 &&
           stat("/proc/thread-self/ns/net", &of_us) == 0 && of_tap.st_dev == of_us.st_dev &&
           of_tap.st_ino == of_us.st_ino;
}

/* A copy of the descriptor; -1 if it cannot be had or is of another namespace's tap. */
static int take_copy(const char *pid, const char *fd)
{
    _cleanup_(fd_closep) int process = pidfd_open((pid_t)strtol(pid, NULL, 10), 0);
    int copy = process < 0 ? -1 : pidfd_getfd(process, (int)strtol(fd, NULL, 10), 0);

    if (copy < 0 || is_of_this_network(copy))
        return copy;
    fd_closep(&copy);
    return -1;
}

static int copy_of_process(const char *pid, const char *tap)
{
    char path[PATH_SIZE];
    const struct dirent *entry;
    int copy = -1;

    (void)snprintf(path, sizeof(path), "/proc/%.16s/fd", pid);
    _cleanup_(directory_closep) DIR *fds = opendir(path);
    while (fds && copy < 0 && (entry = readdir(fds)))
        if (is_number(entry->d_name) && is_tun(pid, entry->d_name) &&
            names_tap(pid, entry->d_name, tap))
            copy = take_copy(pid, entry->d_name);
    return copy;
}

static int copy_of_holder(const char *tap, struct err *e)
{
    _cleanup_(directory_closep) DIR *processes = opendir("/proc");
    const struct dirent *entry;
    int copy = -1;

    while (processes && copy < 0 && (entry = readdir(processes)))
        if (is_number(entry->d_name))
            copy = copy_of_process(entry->d_name, tap);
    if (copy < 0)
        return err_set(e, ERR_NET_PLUG,
                       "no process was found that holds tap %s and lets its descriptor be copied "
                       "(CAP_SYS_PTRACE and the system call pidfd_getfd are needed)",
                       tap);
    return copy;
}

/* ---- from and to ---- */

/* How its holder wants frames: with the kernel's offload header in front, and how long that is. */
static int read_form(struct tap_end *end, const char *tap, struct err *e)
{
    struct ifreq request = {0};
    int size = CAPTURE_HEADER_SIZE;

    if (ioctl(end->fd, TUNGETIFF, &request) < 0)
        return err_set_errno(e, ERR_NET_PLUG, errno, "tap %s", tap);
    if (strncmp(request.ifr_name, tap, IFNAMSIZ) !=
        0) /* another process got the number meanwhile */
        return err_set(e, ERR_NET_PLUG, "the holder of tap %s ended", tap);
    end->has_header = (unsigned short)request.ifr_flags & IFF_VNET_HDR;
    if (!end->has_header)
        return 0;
    if (ioctl(end->fd, TUNGETVNETHDRSZ, &size) < 0)
        return err_set_errno(e, ERR_NET_PLUG, errno, "the header of tap %s", tap);
    if (size < CAPTURE_HEADER_SIZE || size > HEADER_MAX)
        return err_set(e, ERR_NET_PLUG, "tap %s has a header of %d bytes, %d to %d are known", tap,
                       size, CAPTURE_HEADER_SIZE, HEADER_MAX);
    end->header_size = (size_t)size;
    return 0;
}

int tap_end_open(struct tap_end **out, const char *tap, struct err *e)
{
    _cleanup_(tap_end_closep) struct tap_end *end = NEW(struct tap_end);

    end->fd = copy_of_holder(tap, e);
    if (end->fd < 0 || read_form(end, tap, e) < 0)
        return -1;
    *out = STEAL(end);
    return 0;
}

static int make(int fd, const char *tap, struct err *e)
{
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};

    if (text_check_ifname(tap, "tap", e) < 0)
        return -1;
    memcpy(request.ifr_name, tap, strlen(tap) + 1);
    if (ioctl(fd, TUNSETIFF, &request) < 0)
        return err_set_errno(e, ERR_NET_PLUG, errno, "cannot make tap %s", tap);
    if (ioctl(fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN) < 0)
        return err_set_errno(e, ERR_NET_PLUG, errno, "the offloads of tap %s", tap);
    return 0;
}

int tap_end_make(struct tap_end **out, const char *tap, int frames, struct err *e)
{
    _cleanup_(tap_end_closep) struct tap_end *end = NEW(struct tap_end);
    _cleanup_(netlink_freep) struct netlink *nl = NULL;
    struct link link;
    bool found = false;

    end->fd = open(TUN_DEVICE, O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (end->fd < 0)
        return err_set_errno(e, ERR_NET_PLUG, errno, "cannot open " TUN_DEVICE " for tap %s", tap);
    if (make(end->fd, tap, e) < 0 || read_form(end, tap, e) < 0 || netlink_open(&nl, e) < 0 ||
        netlink_link(nl, tap, &link, &found, e) < 0)
        return -1;
    if (!found)
        return err_set(e, ERR_NET_PLUG, "tap %s went away while it was made", tap);
    traffic_keep_silent(nl, tap);
    if (netlink_set_tx_queue_length(nl, &link, frames, e) < 0 || netlink_set_up(nl, &link, e) < 0)
        return -1;
    *out = STEAL(end);
    return 0;
}

void tap_end_close(struct tap_end *end)
{
    if (!end)
        return;
    fd_closep(&end->fd);
    free(end);
}

int tap_end_fd(const struct tap_end *end)
{
    return end->fd;
}

/* ---- frames ---- */

/* What its holder did not agree on cannot be put in without it: neither unfinished checksums nor large segments. */
static bool is_plain(const uint8_t *frame)
{
    struct virtio_net_hdr header;

    memcpy(&header, frame, sizeof(header));
    return !(header.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) &&
           header.gso_type == VIRTIO_NET_HDR_GSO_NONE;
}

bool tap_end_put(const struct tap_end *end, const uint8_t *frame, size_t length)
{
    uint8_t header[HEADER_MAX] = {0};

    if (length < CAPTURE_FRAME_MIN || length > CAPTURE_FRAME_MAX ||
        (!end->has_header && !is_plain(frame)))
        return false;
    memcpy(header, frame, CAPTURE_HEADER_SIZE);
    const size_t bytes = length - CAPTURE_HEADER_SIZE;
    const struct iovec parts[] = {{header, end->has_header ? end->header_size : 0},
                                  {(void *)(frame + CAPTURE_HEADER_SIZE), bytes}};
    return writev(end->fd, parts, ARRAY_LEN(parts)) == (ssize_t)(parts[0].iov_len + bytes);
}

bool tap_end_get(const struct tap_end *end, uint8_t *frame, size_t *length)
{
    ssize_t n;

    do {
        n = read(end->fd, frame, CAPTURE_FRAME_MAX);
    } while (n >= 0 && n < CAPTURE_FRAME_MIN);
    if (n < 0)
        return false;
    *length = (size_t)n;
    return true;
}

void tap_end_discard(const struct tap_end *end, unsigned count)
{
    uint8_t start[HEADER_MAX]; /* the rest of a longer frame goes with it */

    /* its holder need not have made it one that does not wait */
    struct pollfd waits = {.fd = end->fd, .events = POLLIN};
    while (count-- > 0 && poll(&waits, 1, 0) > 0 && read(end->fd, start, sizeof(start)) > 0)
        continue;
}
