/* SPDX-License-Identifier: Apache-2.0 */
/*
 * probe: sends requests at a fixed rate to one address and says what came back, as JSON, at the end.
 *
 *   probe [--icmp] [--one-way] [--interval-us N] [--count N] [--size N] [--linger-ms N] [--ticks PORT]
 *         [--trace FILE] ADDRESS
 *
 * Each request is due at an absolute time (CLOCK_MONOTONIC), so an answer that stays away never slows the
 * sender down, as it does ping. UDP to the echo port by default, ICMP echo with --icmp; with --one-way UDP
 * to the port whose datagrams the guest counts and does not answer (all are "lost" then). It ends after
 * --count requests or at SIGINT/SIGTERM, waits --linger-ms for what is still under way, and prints.
 *
 * Receive times are the kernel's, so a probe that is scheduled late does not see a gap; how late its own
 * sending was is reported (late_ms). With --ticks it also receives the guest's 1 ms ticks: their largest gap is
 * the guest's blackout as such, since a guest that runs can always send.
 * --trace writes "sequence sent_us received_us" (microseconds since the start, -1: lost), one line a request.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MAX_SIZE = 1400, N_GAPS = 5, ECHO_PORT = 7, COUNT_PORT = 9 };

struct request {
    int64_t sent_ns, received_ns; /* since the start; received_ns < 0: not (yet) */
};

struct gap {
    int64_t ns, at_ns;
};

struct probe {
    int fd, tick_fd;
    bool icmp, one_way;
    uint16_t echo_id;
    size_t size;
    int64_t interval_ns, linger_ns;
    uint64_t count;
    int64_t start_ns;         /* CLOCK_MONOTONIC */
    int64_t realtime_offset;  /* CLOCK_REALTIME - CLOCK_MONOTONIC at the start */
    struct request *requests; /* by sequence number */
    uint64_t sent, capacity, received, duplicated, reordered, highest, send_errors;
    int64_t last_arrival_ns, late_ns;
    struct gap gaps[N_GAPS]; /* the largest, first the largest */
    uint64_t tick_last, tick_received, tick_lost;
    int64_t tick_last_ns;
    struct gap tick_gap;
};

struct payload {
    uint64_t magic, sequence;
};
static const uint64_t MAGIC = 0x45424f5250424f4c;
static volatile sig_atomic_t stopped;

static void on_signal(int sig)
{
    (void)sig;
    stopped = 1;
}

static int64_t clock_ns(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int64_t elapsed_ns(const struct probe *p)
{
    return clock_ns(CLOCK_MONOTONIC) - p->start_ns;
}

static void die(const char *what)
{
    fprintf(stderr, "probe: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint16_t internet_checksum(const uint8_t *data, size_t len)
{
    uint32_t sum = 0;
    for (size_t i = 0; i + 1 < len; i += 2)
        sum += (uint32_t)data[i] << 8 | data[i + 1];
    if (len & 1)
        sum += (uint32_t)data[len - 1] << 8;
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return htons((uint16_t)~sum);
}

static size_t build(const struct probe *p, uint8_t *buf, uint64_t sequence)
{
    size_t head = p->icmp ? sizeof(struct icmphdr) : 0;
    struct payload body = {.magic = MAGIC, .sequence = sequence};
    memset(buf, 0, head + p->size);
    memcpy(buf + head, &body, sizeof body);
    if (p->icmp) {
        struct icmphdr h = {.type = ICMP_ECHO};
        h.un.echo.id = p->echo_id;
        h.un.echo.sequence = htons((uint16_t)sequence);
        memcpy(buf, &h, sizeof h);
        h.checksum = internet_checksum(buf, head + p->size);
        memcpy(buf, &h, sizeof h);
    }
    return head + p->size;
}

static void send_request(struct probe *p)
{
    uint8_t buf[MAX_SIZE + sizeof(struct icmphdr)];
    if (p->sent == p->capacity) {
        p->capacity = p->capacity ? p->capacity * 2 : 65536;
        p->requests = realloc(p->requests, p->capacity * sizeof *p->requests);
        if (!p->requests)
            die("memory");
    }
    size_t len = build(p, buf, p->sent);
    struct request *r = &p->requests[p->sent];
    r->received_ns = -1;
    r->sent_ns = elapsed_ns(p);
    int64_t late = r->sent_ns - (int64_t)p->sent * p->interval_ns;
    if (late > p->late_ns)
        p->late_ns = late;
    if (send(p->fd, buf, len, MSG_DONTWAIT) < 0)
        p->send_errors++;
    p->sent++;
}

/* Receives one datagram; its arrival (since the start) in *at_ns. Returns its length or -1 when there is none. */
static ssize_t receive(const struct probe *p, int fd, uint8_t *buf, size_t len, int64_t *at_ns)
{
    char control[256];
    struct iovec iov = {.iov_base = buf, .iov_len = len};
    struct msghdr m = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    ssize_t n = recvmsg(fd, &m, MSG_DONTWAIT);
    if (n < 0)
        return -1;
    *at_ns = elapsed_ns(p);
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_TIMESTAMPNS) {
            struct timespec t;
            memcpy(&t, CMSG_DATA(c), sizeof t);
            *at_ns = (int64_t)t.tv_sec * 1000000000 + t.tv_nsec - p->realtime_offset - p->start_ns;
        }
    }
    return n;
}

static void note_gap(struct probe *p, int64_t at_ns)
{
    struct gap g = {.ns = at_ns - p->last_arrival_ns, .at_ns = p->last_arrival_ns};
    for (unsigned i = 0; i < N_GAPS; i++) {
        if (g.ns > p->gaps[i].ns) {
            struct gap smaller = p->gaps[i];
            p->gaps[i] = g;
            g = smaller;
        }
    }
    p->last_arrival_ns = at_ns;
}

static void note_reply(struct probe *p, uint64_t sequence, int64_t at_ns)
{
    if (sequence >= p->sent)
        return;
    struct request *r = &p->requests[sequence];
    if (r->received_ns >= 0) {
        p->duplicated++;
        return;
    }
    r->received_ns = at_ns;
    if (p->received && sequence < p->highest)
        p->reordered++;
    else
        p->highest = sequence;
    if (p->received++)
        note_gap(p, at_ns);
    p->last_arrival_ns = at_ns;
}

static void receive_replies(struct probe *p)
{
    uint8_t buf[2048];
    int64_t at_ns;
    ssize_t n;
    for (int i = 0; i < 64 && (n = receive(p, p->fd, buf, sizeof buf, &at_ns)) >= 0; i++) {
        size_t head = 0;
        struct payload body;
        if (p->icmp) {
            struct icmphdr h;
            head = (size_t)(buf[0] & 15) * 4;
            if (n < (ssize_t)(head + sizeof h))
                continue;
            memcpy(&h, buf + head, sizeof h);
            if (h.type != ICMP_ECHOREPLY || h.un.echo.id != p->echo_id)
                continue;
            head += sizeof h;
        }
        if (n < (ssize_t)(head + sizeof body))
            continue;
        memcpy(&body, buf + head, sizeof body);
        if (body.magic == MAGIC)
            note_reply(p, body.sequence, at_ns);
    }
}

static void receive_ticks(struct probe *p)
{
    uint64_t tick[3];
    int64_t at_ns;
    ssize_t n;
    for (int i = 0;
         i < 64 && (n = receive(p, p->tick_fd, (uint8_t *)tick, sizeof tick, &at_ns)) >= 0; i++) {
        if (n != sizeof tick || tick[1] <= p->tick_last)
            continue;
        if (p->tick_received) {
            p->tick_lost += tick[1] - p->tick_last - 1;
            if (at_ns - p->tick_last_ns > p->tick_gap.ns)
                p->tick_gap = (struct gap){.ns = at_ns - p->tick_last_ns, .at_ns = p->tick_last_ns};
        }
        p->tick_received++;
        p->tick_last = tick[1];
        p->tick_last_ns = at_ns;
    }
}

/* Waits until `until_ns` (since the start) or until something arrived, and takes what arrived. */
static void wait_until(struct probe *p, int64_t until_ns)
{
    int64_t left = until_ns - elapsed_ns(p);
    if (left < 0)
        left = 0;
    struct timespec t = {.tv_sec = left / 1000000000, .tv_nsec = left % 1000000000};
    struct pollfd fds[2] = {{.fd = p->fd, .events = POLLIN}, {.fd = p->tick_fd, .events = POLLIN}};
    if (ppoll(fds, 2, &t, NULL) <= 0)
        return;
    if (fds[0].revents)
        receive_replies(p);
    if (fds[1].revents)
        receive_ticks(p);
}

static void run(struct probe *p)
{
    while (!stopped && (!p->count || p->sent < p->count)) {
        int64_t due = (int64_t)p->sent * p->interval_ns;
        if (elapsed_ns(p) >= due)
            send_request(p);
        else
            wait_until(p, due);
    }
    int64_t end = elapsed_ns(p) + (p->one_way ? 0 : p->linger_ns);
    while (elapsed_ns(p) < end && p->received < p->sent)
        wait_until(p, end);
}

static int by_value(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

static void print_rtt(const struct probe *p)
{
    int64_t *rtt = malloc((p->received + 1) * sizeof *rtt);
    uint64_t n = 0;
    if (!rtt)
        die("memory");
    for (uint64_t i = 0; i < p->sent; i++)
        if (p->requests[i].received_ns >= 0)
            rtt[n++] = p->requests[i].received_ns - p->requests[i].sent_ns;
    qsort(rtt, n, sizeof *rtt, by_value);
    printf("\"rtt_median_ms\":%.3f,\"rtt_p99_ms\":%.3f,\"rtt_max_ms\":%.3f",
           n ? (double)rtt[n / 2] / 1e6 : 0, n ? (double)rtt[n * 99 / 100] / 1e6 : 0,
           n ? (double)rtt[n - 1] / 1e6 : 0);
    free(rtt);
}

/* The longest run of lost requests, and the time its first one was sent. */
static void print_loss(const struct probe *p)
{
    uint64_t run_length = 0, longest = 0, first = 0;
    for (uint64_t i = 0; i < p->sent; i++) {
        run_length = p->requests[i].received_ns < 0 ? run_length + 1 : 0;
        if (run_length > longest) {
            longest = run_length;
            first = i + 1 - run_length;
        }
    }
    printf("\"lost_run\":%" PRIu64 ",\"lost_run_at_s\":%.4f,", longest,
           longest ? (double)p->requests[first].sent_ns / 1e9 : 0);
}

static void report(const struct probe *p)
{
    printf("{\"sent\":%" PRIu64 ",\"received\":%" PRIu64 ",\"lost\":%" PRIu64
           ",\"duplicated\":%" PRIu64 ",\"reordered\":%" PRIu64 ",\"send_errors\":%" PRIu64 ",",
           p->sent, p->received, p->sent - p->received, p->duplicated, p->reordered,
           p->send_errors);
    print_loss(p);
    printf("\"start_unix\":%.6f,\"late_ms\":%.3f,\"gap_ms\":%.3f,\"gap_at_s\":%.4f,\"gaps\":[",
           (double)(p->start_ns + p->realtime_offset) / 1e9, (double)p->late_ns / 1e6,
           (double)p->gaps[0].ns / 1e6, (double)p->gaps[0].at_ns / 1e9);
    for (unsigned i = 0; i < N_GAPS && p->gaps[i].ns; i++)
        printf("%s[%.3f,%.4f]", i ? "," : "", (double)p->gaps[i].ns / 1e6,
               (double)p->gaps[i].at_ns / 1e9);
    printf("],");
    print_rtt(p);
    if (p->tick_fd >= 0)
        printf(",\"ticks\":%" PRIu64 ",\"ticks_lost\":%" PRIu64
               ",\"tick_gap_ms\":%.3f,\"tick_gap_at_s\":%.4f",
               p->tick_received, p->tick_lost, (double)p->tick_gap.ns / 1e6,
               (double)p->tick_gap.at_ns / 1e9);
    printf("}\n");
}

static void write_trace(const struct probe *p, const char *path)
{
    FILE *f = fopen(path, "we");
    if (!f)
        die(path);
    for (uint64_t i = 0; i < p->sent; i++) {
        const struct request *r = &p->requests[i];
        fprintf(f, "%" PRIu64 " %" PRId64 " %" PRId64 "\n", i, r->sent_ns / 1000,
                r->received_ns < 0 ? -1 : r->received_ns / 1000);
    }
    if (fclose(f) != 0)
        die(path);
}

static void set_options(int fd)
{
    int on = 1, bytes = 1 << 20;
    /* no UDP checksums: see guestd's udp_open() */
    setsockopt(fd, SOL_SOCKET, SO_NO_CHECK, &on, sizeof on);
    if (setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes) < 0)
        die("socket options");
}

static void open_sockets(struct probe *p, const char *address, unsigned tick_port)
{
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons(p->icmp      ? 0
                                               : p->one_way ? COUNT_PORT
                                                            : ECHO_PORT)};
    if (inet_pton(AF_INET, address, &to.sin_addr) != 1) {
        fprintf(stderr, "probe: %s is not an IPv4 address\n", address);
        exit(2);
    }
    p->fd = p->icmp ? socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP)
                    : socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (p->fd < 0 || connect(p->fd, (struct sockaddr *)&to, sizeof to) < 0)
        die(address);
    set_options(p->fd);
    p->tick_fd = -1;
    if (tick_port) {
        struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons((uint16_t)tick_port)};
        p->tick_fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        if (p->tick_fd < 0 || bind(p->tick_fd, (struct sockaddr *)&here, sizeof here) < 0)
            die("tick port");
        set_options(p->tick_fd);
    }
}

static int64_t number(const char *name, const char *text, int64_t least, int64_t most)
{
    char *end;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    if (errno || *end || end == text || v < least || v > most) {
        fprintf(stderr, "probe: --%s %s: a number from %" PRId64 " to %" PRId64 " is needed\n",
                name, text, least, most);
        exit(2);
    }
    return v;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"icmp", no_argument, NULL, 'i'},
                                            {"one-way", no_argument, NULL, 'o'},
                                            {"interval-us", required_argument, NULL, 'u'},
                                            {"count", required_argument, NULL, 'c'},
                                            {"size", required_argument, NULL, 's'},
                                            {"ticks", required_argument, NULL, 't'},
                                            {"linger-ms", required_argument, NULL, 'l'},
                                            {"trace", required_argument, NULL, 'f'},
                                            {NULL, 0, NULL, 0}};
    struct probe p = {
        .interval_ns = 1000000, .linger_ns = 500000000, .size = 64, .echo_id = (uint16_t)getpid()};
    const char *trace = NULL;
    unsigned tick_port = 0;
    int opt;
    while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (opt) {
        case 'i':
            p.icmp = true;
            break;
        case 'o':
            p.one_way = true;
            break;
        case 'u':
            p.interval_ns = number("interval-us", optarg, 20, 10000000) * 1000;
            break;
        case 'c':
            p.count = (uint64_t)number("count", optarg, 1, 100000000);
            break;
        case 's':
            p.size = (size_t)number("size", optarg, sizeof(struct payload), MAX_SIZE);
            break;
        case 't':
            tick_port = (unsigned)number("ticks", optarg, 1, 65535);
            break;
        case 'l':
            p.linger_ns = number("linger-ms", optarg, 0, 60000) * 1000000;
            break;
        case 'f':
            trace = optarg;
            break;
        default:
            return 2;
        }
    }
    if (optind + 1 != argc) {
        fprintf(stderr,
                "usage: probe [--icmp] [--one-way] [--interval-us N] [--count N] [--size N] "
                "[--linger-ms N] [--ticks PORT] [--trace FILE] ADDRESS\n");
        return 2;
    }
    struct sigaction sa = {.sa_handler = on_signal};
    sigaction(SIGINT, &sa, NULL);
    sigaction(SIGTERM, &sa, NULL);
    open_sockets(&p, argv[optind], tick_port);
    p.start_ns = clock_ns(CLOCK_MONOTONIC);
    p.realtime_offset = clock_ns(CLOCK_REALTIME) - p.start_ns;
    run(&p);
    report(&p);
    if (trace)
        write_trace(&p, trace);
    free(p.requests);
    return fflush(stdout) == 0 ? 0 : 1;
}
