/* SPDX-License-Identifier: Apache-2.0 */
/*
 * guestd: the whole user space of the lab's guest (it is process 1, linked statically).
 *
 * It loads the virtio modules, gives every network card 203.0.113.<last octet of its MAC>/25 and then
 * works so that a migration which loses or repeats anything is found out:
 *
 *  - memory: a hot set of pages is rewritten round robin at a given rate. Page p carries its index,
 *    its sequence number and a check value. One counter of all writes says which sequence number each
 *    page must have, so a page that is old by a single write is found, not only a damaged one.
 *  - disks: the same in 64 KiB blocks, read back past the page cache.
 *  - network: UDP echo on port 7 (and the kernel's ICMP), 1 ms ticks to a given address on demand; what
 *    the probe sends to port 9 is counted and not answered, which an emulated guest can do more often.
 *
 * UDP port 9000 takes commands "<id> <verb> [key=value ...]", one datagram each; a repeated id gets the
 * former answer again, so that a client may resend. Answers are "<id> <JSON object>".
 *   status              counters and rates
 *   rate [dirty=MiB/s] [hot=MiB] [fill=MiB] [disk=MiB/s] [diskhot=MiB] [sync=0|1]
 *   verify              reads memory and disks back
 *   ticks addr=A port=P | ticks port=0
 *   count [reset=1] [from=A to=B]  what came to port 9: received, duplicated, reordered; of [A, B) missing
 * The same keys are taken from the kernel command line (it reaches us as environment).
 *
 * On the development host "guestd header FILE" writes a disk's header and known first blocks.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <net/route.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    PAGE = 4096,
    BLOCK = 65536,
    MIB = 1 << 20,
    MAX_DISKS = 8,
    ECHO_PORT = 7,
    COUNT_PORT = 9,
    COUNT_MAX = 1 << 22, /* sequence numbers; what has a higher one is not counted */
    COUNT_BATCH = 64,
    CONTROL_PORT = 9000
};
static const uint64_t DISK_MAGIC = 0x314b534944424144; /* "DABDISK1" */
/* A disk with a header holds known blocks in [1 MiB, 17 MiB); blocks are written from 24 MiB on. */
static const uint64_t KNOWN_START = 1 * MIB, KNOWN_BYTES = 16 * MIB, WRITE_START = 24 * MIB;

struct region {
    pthread_mutex_t lock;
    uint8_t *fill; /* written once */
    uint64_t fill_pages;
    uint8_t *hot; /* rewritten round robin */
    uint64_t hot_pages;
    uint64_t
        writes;    /* pages of the hot set written since it was made, the first fill not counted */
    unsigned rate; /* MiB/s */
};

struct disk {
    pthread_mutex_t lock;
    char path[32];
    int fd;
    bool has_header;
    uint64_t id;
    uint64_t size;
    uint64_t hot_blocks;
    uint64_t writes;
    unsigned rate; /* MiB/s */
    bool sync;
    int write_errno;
    uint8_t *buffer;
};

struct ticks {
    pthread_mutex_t lock;
    struct sockaddr_in to;
    bool on;
    uint64_t count;
    uint64_t largest_gap_ns; /* on the guest's own clock, which stands while the guest is stopped */
};

struct count {
    pthread_mutex_t lock;
    uint64_t received, duplicated, reordered, next;
    uint8_t seen[COUNT_MAX / 8];
};

static struct region memory = {.lock = PTHREAD_MUTEX_INITIALIZER};
static struct disk disks[MAX_DISKS];
static unsigned n_disks;
static struct ticks ticks = {.lock = PTHREAD_MUTEX_INITIALIZER};
static struct count counted = {.lock = PTHREAD_MUTEX_INITIALIZER};
static uint64_t echoes;

static void say(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vdprintf(1, fmt, ap);
    va_end(ap);
}

static uint64_t mix(uint64_t x) /* splitmix64's finalizer */
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void sleep_until(uint64_t ns)
{
    struct timespec t = {.tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
        ;
}

/* How often unit `i` of `n`, written round robin, has been written after `writes` writes. */
static uint64_t expected_seq(uint64_t writes, uint64_t n, uint64_t i)
{
    return writes / n + (i < writes % n ? 1 : 0);
}

/* --- memory -------------------------------------------------------------------------------------- */

static void page_stamp(uint8_t *base, uint64_t page, uint64_t seq)
{
    uint64_t *w = (uint64_t *)(void *)(base + page * PAGE);
    w[0] = page;
    w[1] = seq;
    w[2] = mix(page ^ (seq << 20));
    w[511] = seq;
}

static void page_make(uint8_t *base, uint64_t page, uint64_t seed)
{
    uint64_t *w = (uint64_t *)(void *)(base + page * PAGE);
    uint64_t x = mix(seed + page);
    for (unsigned i = 3; i < 511; i++)
        w[i] = x += 0x9e3779b97f4a7c15u;
    page_stamp(base, page, 0);
}

static bool page_good(const uint8_t *base, uint64_t page, uint64_t seed, uint64_t seq)
{
    const uint64_t *w = (const uint64_t *)(const void *)(base + page * PAGE);
    uint64_t x = mix(seed + page), bad = 0;
    for (unsigned i = 3; i < 511; i++)
        bad |= w[i] ^ (x += 0x9e3779b97f4a7c15u);
    return !bad && w[0] == page && w[1] == seq && w[2] == mix(page ^ (seq << 20)) && w[511] == seq;
}

static uint8_t *pages_new(uint64_t pages, uint64_t seed)
{
    uint8_t *p =
        mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
    for (uint64_t i = 0; i < pages; i++)
        page_make(p, i, seed);
    return p;
}

/* Makes one of the two sets anew when its size changes. Returns an error text or NULL. */
static const char *pages_resize(uint8_t **set, uint64_t *pages, unsigned mib, uint64_t seed)
{
    uint64_t n = (uint64_t)mib * MIB / PAGE;
    if (n == *pages)
        return NULL;
    if (*set)
        munmap(*set, *pages * PAGE);
    *set = NULL;
    *pages = 0;
    if (n && !(*set = pages_new(n, seed)))
        return "no memory";
    *pages = n;
    return NULL;
}

static void *memory_thread(void *arg)
{
    (void)arg;
    uint64_t last = now_ns(), owed = 0;
    for (;;) {
        sleep_until(last + 4000000);
        uint64_t now = now_ns();
        pthread_mutex_lock(&memory.lock);
        if (memory.rate && memory.hot_pages) {
            owed += (now - last) * memory.rate * 256 / 1000;     /* millionths of a page */
            uint64_t cap = (uint64_t)memory.rate * 256 * 100000; /* at most 0.1 s behind */
            if (owed > cap)
                owed = cap;
            for (; owed >= 1000000; owed -= 1000000) {
                uint64_t p = memory.writes % memory.hot_pages;
                page_stamp(memory.hot, p, memory.writes / memory.hot_pages + 1);
                memory.writes++;
            }
        }
        pthread_mutex_unlock(&memory.lock);
        last = now;
    }
    return NULL;
}

static uint64_t memory_check(char *what, size_t len)
{
    uint64_t bad = 0;
    for (uint64_t i = 0; i < memory.fill_pages; i++)
        if (!page_good(memory.fill, i, 1, 0) && !bad++)
            snprintf(what, len, "memory: filled page %" PRIu64, i);
    for (uint64_t i = 0; i < memory.hot_pages; i++) {
        uint64_t seq = expected_seq(memory.writes, memory.hot_pages, i);
        if (!page_good(memory.hot, i, 2, seq) && !bad++)
            snprintf(what, len,
                     "memory: hot page %" PRIu64 " has sequence %" PRIu64 ", expected %" PRIu64, i,
                     ((const uint64_t *)(const void *)(memory.hot + i * PAGE))[1], seq);
    }
    return bad;
}

/* --- disks --------------------------------------------------------------------------------------- */

static void block_make(uint8_t *buf, uint64_t id, uint64_t block, uint64_t seq)
{
    uint64_t *w = (uint64_t *)(void *)buf;
    uint64_t x = mix(mix(id << 48 ^ block) ^ seq);
    for (unsigned i = 0; i < BLOCK / 8; i++)
        w[i] = x += 0x9e3779b97f4a7c15u;
    w[0] = block;
    w[1] = seq;
}

static void disk_open(struct disk *d, char letter)
{
    snprintf(d->path, sizeof d->path, "/dev/vd%c", letter);
    d->fd = open(d->path, O_RDWR | O_DIRECT | O_CLOEXEC);
    if (d->fd < 0)
        d->fd = open(d->path, O_RDONLY | O_DIRECT | O_CLOEXEC);
    off_t end = d->fd < 0 ? 0 : lseek(d->fd, 0, SEEK_END);
    d->size = end > 0 ? (uint64_t)end : 0;
    d->buffer = mmap(NULL, 2 * BLOCK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint64_t *w = (uint64_t *)(void *)d->buffer;
    if (d->fd >= 0 && pread(d->fd, d->buffer, PAGE, 0) == PAGE && w[0] == DISK_MAGIC) {
        d->has_header = true;
        d->id = w[1];
    } else {
        d->id = (uint64_t)(unsigned char)letter;
    }
    pthread_mutex_init(&d->lock, NULL);
}

static void disk_write_one(struct disk *d)
{
    uint64_t b = d->writes % d->hot_blocks;
    block_make(d->buffer, d->id, b, d->writes / d->hot_blocks + 1);
    ssize_t n = pwrite(d->fd, d->buffer, BLOCK, (off_t)(WRITE_START + b * BLOCK));
    if (n != BLOCK) {
        d->write_errno = n < 0 ? errno : EIO;
        return;
    }
    d->writes++;
    if (d->sync && fdatasync(d->fd) < 0)
        d->write_errno = errno;
}

static void *disk_thread(void *arg)
{
    struct disk *d = arg;
    uint64_t last = now_ns(), owed = 0;
    for (;;) {
        sleep_until(last + 5000000);
        uint64_t now = now_ns();
        pthread_mutex_lock(&d->lock);
        if (d->rate && d->hot_blocks && !d->write_errno) {
            owed += (now - last) * d->rate * 16 / 1000; /* millionths of a block */
            if (owed > 8000000)
                owed = 8000000;
            for (; owed >= 1000000 && !d->write_errno; owed -= 1000000)
                disk_write_one(d);
        }
        pthread_mutex_unlock(&d->lock);
        last = now;
    }
    return NULL;
}

static bool disk_block_good(struct disk *d, uint64_t at, uint64_t block, uint64_t seq)
{
    block_make(d->buffer, d->id, block, seq);
    uint8_t *read_back = d->buffer + BLOCK;
    return pread(d->fd, read_back, BLOCK, (off_t)at) == BLOCK &&
           memcmp(read_back, d->buffer, BLOCK) == 0;
}

static uint64_t disk_check(struct disk *d, char *what, size_t len)
{
    uint64_t bad = 0;
    if (d->write_errno && !bad++)
        snprintf(what, len, "%s: write failed: %s", d->path, strerror(d->write_errno));
    for (uint64_t b = 0; d->has_header && b < KNOWN_BYTES / BLOCK; b++)
        if (!disk_block_good(d, KNOWN_START + b * BLOCK, 1u << 20 | b, 0) && !bad++)
            snprintf(what, len, "%s: known block %" PRIu64, d->path, b);
    for (uint64_t b = 0; b < d->hot_blocks; b++) {
        uint64_t seq = expected_seq(d->writes, d->hot_blocks, b);
        if (seq && !disk_block_good(d, WRITE_START + b * BLOCK, b, seq) && !bad++)
            snprintf(what, len, "%s: block %" PRIu64 " is not as written, sequence %" PRIu64,
                     d->path, b, seq);
    }
    return bad;
}

static int disk_header(const char *path, uint64_t id)
{
    static uint8_t buf[BLOCK];
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        perror(path);
        return 1;
    }
    uint64_t *w = (uint64_t *)(void *)buf;
    w[0] = DISK_MAGIC;
    w[1] = id;
    bool good = pwrite(fd, buf, PAGE, 0) == PAGE;
    for (uint64_t b = 0; b < KNOWN_BYTES / BLOCK; b++) {
        block_make(buf, id, 1u << 20 | b, 0);
        good = good && pwrite(fd, buf, BLOCK, (off_t)(KNOWN_START + b * BLOCK)) == BLOCK;
    }
    if (!good)
        perror(path);
    return close(fd) == 0 && good ? 0 : 1;
}

/* --- network ------------------------------------------------------------------------------------- */

static void set_addr(struct sockaddr *sa, uint32_t host_order)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(host_order)};
    memcpy(sa, &in, sizeof in);
}

/* The probing side has a fixed neighbour entry here, so no ARP timer falls into what is measured. */
static void fixed_neighbour(int s, uint32_t ip, unsigned network)
{
    struct arpreq r = {.arp_flags = ATF_PERM | ATF_COM, .arp_ha.sa_family = ARPHRD_ETHER};
    const uint8_t mac[6] = {2, 0, 0, 0, (uint8_t)network, 0xfe};
    memcpy(r.arp_ha.sa_data, mac, sizeof mac);
    set_addr(&r.arp_pa, ip);
    ioctl(s, SIOCSARP, &r);
}

static void nic_up(int s, const char *name)
{
    struct ifreq r = {0};
    snprintf(r.ifr_name, sizeof r.ifr_name, "%s", name);
    if (ioctl(s, SIOCGIFHWADDR, &r) < 0)
        return;
    uint8_t octet = (uint8_t)r.ifr_hwaddr.sa_data[5];
    uint32_t ip = 0xcb007100u | octet; /* 203.0.113.x */
    set_addr(&r.ifr_addr, ip);
    ioctl(s, SIOCSIFADDR, &r);
    set_addr(&r.ifr_netmask, 0xffffff80u);
    ioctl(s, SIOCSIFNETMASK, &r);
    r.ifr_flags = IFF_UP | IFF_RUNNING;
    ioctl(s, SIOCSIFFLAGS, &r);
    fixed_neighbour(s, octet < 128 ? 0xcb00717eu : 0xcb0071feu, octet < 128 ? 0 : 1);
    say("GUEST-UP %s 203.0.113.%u\n", name, octet);
}

/*
 * UDP without checksums: Open vSwitch's userspace datapath hands on frames whose checksum was left to the
 * card as they are, and the receiver would drop them. With room for all that comes at once after a pause.
 */
static int udp_open(void)
{
    int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), on = 1, room = 8 << 20;
    setsockopt(s, SOL_SOCKET, SO_NO_CHECK, &on, sizeof on);
    setsockopt(s, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room);
    return s;
}

static int udp_socket(uint16_t port)
{
    int s = udp_open();
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
    if (s < 0 || bind(s, (struct sockaddr *)&a, sizeof a) < 0)
        say("guestd: port %u: %s\n", port, strerror(errno));
    return s;
}

static void *echo_thread(void *arg)
{
    int s = *(int *)arg;
    char buf[2048];
    for (;;) {
        struct sockaddr_in from;
        socklen_t len = sizeof from;
        ssize_t n = recvfrom(s, buf, sizeof buf, 0, (struct sockaddr *)&from, &len);
        if (n >= 0 && sendto(s, buf, (size_t)n, 0, (struct sockaddr *)&from, len) == n)
            __atomic_add_fetch(&echoes, 1, __ATOMIC_RELAXED);
    }
    return NULL;
}

static void count_one(uint64_t sequence)
{
    if (sequence >= COUNT_MAX)
        return;
    uint8_t *byte = &counted.seen[sequence / 8], bit = (uint8_t)(1 << sequence % 8);
    if (*byte & bit) {
        counted.duplicated++;
        return;
    }
    *byte |= bit;
    counted.received++;
    if (sequence < counted.next)
        counted.reordered++;
    else
        counted.next = sequence + 1;
}

/* A datagram is the probe's: a magic number, then its sequence number. */
static void *count_thread(void *arg)
{
    int s = *(int *)arg;
    uint64_t body[COUNT_BATCH][2];
    struct iovec parts[COUNT_BATCH];
    struct mmsghdr messages[COUNT_BATCH] = {0};
    for (unsigned i = 0; i < COUNT_BATCH; i++) {
        parts[i] = (struct iovec){.iov_base = body[i], .iov_len = sizeof body[i]};
        messages[i].msg_hdr.msg_iov = &parts[i];
        messages[i].msg_hdr.msg_iovlen = 1;
    }
    for (;;) {
        int n = recvmmsg(s, messages, COUNT_BATCH, MSG_WAITFORONE, NULL);
        pthread_mutex_lock(&counted.lock);
        for (int i = 0; i < n; i++)
            if (messages[i].msg_len == sizeof body[i])
                count_one(body[i][1]);
        pthread_mutex_unlock(&counted.lock);
    }
    return NULL;
}

static void *tick_thread(void *arg)
{
    (void)arg;
    int s = udp_open();
    uint64_t next = now_ns(), last = 0;
    for (;;) {
        uint64_t now = now_ns();
        pthread_mutex_lock(&ticks.lock);
        bool on = ticks.on;
        if (on) {
            if (last && now - last > ticks.largest_gap_ns)
                ticks.largest_gap_ns = now - last;
            uint64_t packet[3] = {0x4b434954 /* "TICK" */, ++ticks.count, now};
            (void)!sendto(s, packet, sizeof packet, 0, (struct sockaddr *)&ticks.to,
                          sizeof ticks.to);
        }
        pthread_mutex_unlock(&ticks.lock);
        last = on ? now : 0;
        next = (next + 1000000 > now ? next : now) + (on ? 1000000 : 50000000);
        sleep_until(next);
    }
    return NULL;
}

/* --- commands ------------------------------------------------------------------------------------ */

/* The value of "key=" in a command line of words, or NULL. */
static const char *word_value(const char *line, const char *key, char *out, size_t len)
{
    size_t k = strlen(key);
    for (const char *p = line; p; p = strchr(p, ' ')) {
        p += strspn(p, " ");
        if (strncmp(p, key, k) == 0 && p[k] == '=') {
            snprintf(out, len, "%.*s", (int)strcspn(p + k + 1, " \n"), p + k + 1);
            return out;
        }
    }
    return NULL;
}

static unsigned word_number(const char *line, const char *key, unsigned otherwise)
{
    char v[32];
    return word_value(line, key, v, sizeof v) ? (unsigned)strtoul(v, NULL, 10) : otherwise;
}

static const char *do_rate(const char *line)
{
    const char *problem = NULL;
    pthread_mutex_lock(&memory.lock);
    unsigned hot = word_number(line, "hot", (unsigned)(memory.hot_pages * PAGE / MIB));
    unsigned fill = word_number(line, "fill", (unsigned)(memory.fill_pages * PAGE / MIB));
    if (hot != memory.hot_pages * PAGE / MIB)
        memory.writes = 0;
    problem = pages_resize(&memory.hot, &memory.hot_pages, hot, 2);
    if (!problem)
        problem = pages_resize(&memory.fill, &memory.fill_pages, fill, 1);
    memory.rate = word_number(line, "dirty", memory.rate);
    pthread_mutex_unlock(&memory.lock);
    for (unsigned i = 0; i < n_disks; i++) {
        struct disk *d = &disks[i];
        pthread_mutex_lock(&d->lock);
        uint64_t blocks =
            (uint64_t)word_number(line, "diskhot", (unsigned)(d->hot_blocks * BLOCK / MIB)) * MIB /
            BLOCK;
        uint64_t room = d->size > WRITE_START ? (d->size - WRITE_START) / BLOCK : 0;
        if (blocks > room)
            blocks = room;
        if (blocks != d->hot_blocks)
            d->writes = 0;
        d->hot_blocks = blocks;
        d->rate = word_number(line, "disk", d->rate);
        d->sync = word_number(line, "sync", d->sync);
        pthread_mutex_unlock(&d->lock);
    }
    return problem;
}

static void do_verify(char *out, size_t len)
{
    char what[200] = "";
    uint64_t t0 = now_ns(), bad, disk_bad = 0, disk_bytes = 0;
    pthread_mutex_lock(&memory.lock);
    bad = memory_check(what, sizeof what);
    uint64_t bytes = (memory.fill_pages + memory.hot_pages) * PAGE;
    pthread_mutex_unlock(&memory.lock);
    for (unsigned i = 0; i < n_disks; i++) {
        struct disk *d = &disks[i];
        char first[200] = "";
        pthread_mutex_lock(&d->lock);
        disk_bad += disk_check(d, first, sizeof first);
        disk_bytes += (d->has_header ? KNOWN_BYTES : 0) +
                      (d->writes < d->hot_blocks ? d->writes : d->hot_blocks) * BLOCK;
        pthread_mutex_unlock(&d->lock);
        if (!what[0])
            memcpy(what, first, sizeof what);
    }
    snprintf(out, len,
             "{\"ok\":%s,\"bad_pages\":%" PRIu64 ",\"bad_blocks\":%" PRIu64
             ",\"first\":\"%s\",\"memory_bytes\":%" PRIu64 ",\"disk_bytes\":%" PRIu64
             ",\"ms\":%" PRIu64 "}",
             bad || disk_bad ? "false" : "true", bad, disk_bad, what, bytes, disk_bytes,
             (now_ns() - t0) / 1000000);
}

static void do_status(char *out, size_t len)
{
    int n = 0;
    pthread_mutex_lock(&memory.lock);
    n += snprintf(out, len,
                  "{\"ok\":true,\"uptime_ms\":%" PRIu64 ",\"dirty_rate\":%u,\"hot_mib\":%" PRIu64
                  ",\"fill_mib\":%" PRIu64 ",\"page_writes\":%" PRIu64 ",\"echoes\":%" PRIu64,
                  now_ns() / 1000000, memory.rate, memory.hot_pages * PAGE / MIB,
                  memory.fill_pages * PAGE / MIB, memory.writes,
                  __atomic_load_n(&echoes, __ATOMIC_RELAXED));
    pthread_mutex_unlock(&memory.lock);
    pthread_mutex_lock(&ticks.lock);
    n += snprintf(out + n, len - (size_t)n,
                  ",\"ticks\":%" PRIu64 ",\"tick_gap_us\":%" PRIu64 ",\"disks\":[", ticks.count,
                  ticks.largest_gap_ns / 1000);
    pthread_mutex_unlock(&ticks.lock);
    for (unsigned i = 0; i < n_disks; i++) {
        struct disk *d = &disks[i];
        pthread_mutex_lock(&d->lock);
        n += snprintf(out + n, len - (size_t)n,
                      "%s{\"path\":\"%s\",\"bytes\":%" PRIu64
                      ",\"known\":%s,\"rate\":%u,\"hot_mib\":%" PRIu64 ",\"block_writes\":%" PRIu64
                      ",\"errno\":%d}",
                      i ? "," : "", d->path, d->size, d->has_header ? "true" : "false", d->rate,
                      d->hot_blocks * BLOCK / MIB, d->writes, d->write_errno);
        pthread_mutex_unlock(&d->lock);
    }
    snprintf(out + n, len - (size_t)n, "]}");
}

static void do_ticks(const char *line)
{
    char addr[32];
    pthread_mutex_lock(&ticks.lock);
    unsigned port = word_number(line, "port", 0);
    ticks.on = port != 0 && word_value(line, "addr", addr, sizeof addr) &&
               inet_aton(addr, &ticks.to.sin_addr);
    ticks.to.sin_family = AF_INET;
    ticks.to.sin_port = htons((uint16_t)port);
    ticks.count = 0;
    ticks.largest_gap_ns = 0;
    pthread_mutex_unlock(&ticks.lock);
}

static unsigned count_missing(unsigned from, unsigned to)
{
    unsigned missing = 0;
    for (unsigned i = from; i < to && i < COUNT_MAX; i++)
        missing += !(counted.seen[i / 8] & 1 << i % 8);
    return missing;
}

static void do_count(const char *line, char *out, size_t len)
{
    pthread_mutex_lock(&counted.lock);
    if (word_number(line, "reset", 0)) {
        counted.received = counted.duplicated = counted.reordered = counted.next = 0;
        memset(counted.seen, 0, sizeof counted.seen);
    }
    snprintf(out, len,
             "{\"ok\":true,\"received\":%" PRIu64 ",\"duplicated\":%" PRIu64
             ",\"reordered\":%" PRIu64 ",\"missing\":%u}",
             counted.received, counted.duplicated, counted.reordered,
             count_missing(word_number(line, "from", 0), word_number(line, "to", 0)));
    pthread_mutex_unlock(&counted.lock);
}

static void command(const char *line, char *out, size_t len)
{
    const char *problem = NULL;
    if (strncmp(line, "status", 6) == 0) {
        do_status(out, len);
        return;
    }
    if (strncmp(line, "verify", 6) == 0) {
        do_verify(out, len);
        return;
    }
    if (strncmp(line, "count", 5) == 0) {
        do_count(line, out, len);
        return;
    }
    if (strncmp(line, "rate", 4) == 0)
        problem = do_rate(line);
    else if (strncmp(line, "ticks", 5) == 0)
        do_ticks(line);
    else
        problem = "no such command";
    snprintf(out, len, "{\"ok\":%s,\"first\":\"%s\"}", problem ? "false" : "true",
             problem ? problem : "");
}

static void control_loop(int s)
{
    char in[512], last_id[32] = "", out[4096];
    int out_len = 0;
    for (;;) {
        struct sockaddr_in from;
        socklen_t len = sizeof from;
        ssize_t n = recvfrom(s, in, sizeof in - 1, 0, (struct sockaddr *)&from, &len);
        if (n <= 0)
            continue;
        in[n] = 0;
        char id[32];
        snprintf(id, sizeof id, "%.*s", (int)strcspn(in, " "), in);
        if (strcmp(id, last_id) != 0) {
            const char *rest = strchr(in, ' ');
            out_len = snprintf(out, sizeof out, "%s ", id);
            command(rest ? rest + 1 : "", out + out_len, sizeof out - (size_t)out_len);
            out_len += (int)strlen(out + out_len);
            memcpy(last_id, id, sizeof last_id);
        }
        (void)!sendto(s, out, (size_t)out_len, 0, (struct sockaddr *)&from, len);
    }
}

/* --- process 1 ----------------------------------------------------------------------------------- */

static void load_module(const char *name)
{
    char path[64];
    snprintf(path, sizeof path, "/mod/%s.ko", name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    if (syscall(SYS_finit_module, fd, "", 0) < 0)
        say("guestd: module %s: %s\n", name, strerror(errno));
    close(fd);
}

static void boot(void)
{
    static const char *const modules[] = {"failover",
                                          "net_failover",
                                          "virtio_ring",
                                          "virtio",
                                          "virtio_pci_legacy_dev",
                                          "virtio_pci_modern_dev",
                                          "virtio_pci",
                                          "virtio_net",
                                          "virtio_blk"};
    mkdir("/proc", 0755);
    mkdir("/sys", 0755);
    mkdir("/dev", 0755);
    mount("proc", "/proc", "proc", 0, NULL);
    mount("sysfs", "/sys", "sysfs", 0, NULL);
    mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
    for (int fd = 0; fd < 3; fd++) {
        int console = open("/dev/console", O_RDWR);
        if (console >= 0 && console != fd) {
            dup2(console, fd);
            close(console);
        }
    }
    for (unsigned i = 0; i < sizeof modules / sizeof *modules; i++)
        load_module(modules[i]);
    int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    for (unsigned i = 0; i < 4; i++) {
        char name[IFNAMSIZ];
        snprintf(name, sizeof name, "eth%u", i);
        nic_up(s, name);
    }
    close(s);
}

static void start(void *(*fn)(void *), void *arg, int priority)
{
    pthread_t t;
    if (pthread_create(&t, NULL, fn, arg) != 0) {
        say("guestd: thread: %s\n", strerror(errno));
        return;
    }
    struct sched_param p = {.sched_priority = priority};
    if (priority)
        pthread_setschedparam(t, SCHED_FIFO, &p);
    pthread_detach(t);
}

static void *reaper_thread(void *arg)
{
    (void)arg;
    for (;;)
        if (waitpid(-1, NULL, 0) < 0)
            sleep(5);
    return NULL;
}

int main(int argc, char **argv)
{
    if (argc >= 3 && strcmp(argv[1], "header") == 0)
        return disk_header(argv[2], argc > 3 ? strtoul(argv[3], NULL, 10) : 1);
    if (getpid() != 1) {
        fprintf(stderr,
                "usage: guestd header FILE [ID]  (anything else only as process 1 of the guest)\n");
        return 2;
    }
    boot();
    for (char c = 'a'; c < 'a' + MAX_DISKS; c++) {
        char path[32];
        snprintf(path, sizeof path, "/sys/block/vd%c", c);
        if (access(path, F_OK) == 0)
            disk_open(&disks[n_disks++], c);
    }
    static int echo_fd, count_fd;
    echo_fd = udp_socket(ECHO_PORT);
    count_fd = udp_socket(COUNT_PORT);
    int control_fd = udp_socket(CONTROL_PORT);
    start(reaper_thread, NULL, 0);
    start(tick_thread, NULL, 60);
    start(echo_thread, &echo_fd, 50);
    start(count_thread, &count_fd, 50);

    char line[512] = "rate";
    static const char *const keys[] = {"dirty", "hot", "fill", "disk", "diskhot", "sync"};
    for (unsigned i = 0; i < sizeof keys / sizeof *keys; i++) {
        const char *v = getenv(keys[i]);
        size_t n = strlen(line);
        if (v)
            snprintf(line + n, sizeof line - n, " %s=%s", keys[i], v);
    }
    const char *problem = do_rate(line);
    if (problem)
        say("guestd: %s\n", problem);
    start(memory_thread, NULL, 0);
    for (unsigned i = 0; i < n_disks; i++)
        start(disk_thread, &disks[i], 0);
    say("GUEST-READY %u disks\n", n_disks);
    control_loop(control_fd);
    return 0;
}
