/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/queue_manager.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/text.h"

enum { START_TIME_FIELD = 22, RECORD_SIZE = 128 };

struct counter {
    int64_t group, n, start;
};

/* Start time of a process in clock ticks since boot: field 22 of proc_pid_stat(5); 0 if unknown. */
static int64_t start_time(pid_t pid)
{
    char path[64], line[1024] = "", *at;
    _cleanup_(fd_closep) int fd = -1;
    ssize_t n;

    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    n = read(fd, line, sizeof(line) - 1);
    at = n > 0 ? strrchr(line, ')') : NULL; /* the name before may hold anything */
    for (int field = 2; at && field < START_TIME_FIELD; field++)
        at = strchr(at + 1, ' ');
    return at ? strtoll(at, NULL, 10) : 0;
}

/* The group that a service's processes share; in a container its leader may be unknown (0). */
static struct counter this_group(void)
{
    pid_t group = getpgrp();

    return (struct counter){.group = group, .start = start_time(group ? group : getpid())};
}

static int open_counter(const char *path, struct err *e)
{
    int fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    struct stat st;

    if (fd >= 0 && flock(fd, LOCK_EX) == 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
        st.st_uid == geteuid())
        return fd;
    err_set_errno(e, ERR_SYSTEM, fd < 0 || errno ? errno : EPERM,
                  "use_queue_manager: the counter \"%s\" cannot be used (it must be a file of our "
                  "own)",
                  path);
    if (fd >= 0)
        (void)close(fd);
    return -1;
}

static int count(int fd, int64_t *n)
{
    struct counter now = this_group(), kept = {0};
    char record[RECORD_SIZE] = "";
    int length;

    if (pread(fd, record, sizeof(record) - 1, 0) < 0)
        return -1;
    if (sscanf(record, "%" SCNd64 ":%" SCNd64 ":%" SCNd64, &kept.group, &kept.n, &kept.start) !=
            3 ||
        kept.group != now.group || kept.start != now.start || kept.n < 0 || kept.n > INT32_MAX)
        kept.n = 0;
    length = snprintf(record, sizeof(record), "%" PRId64 ":%" PRId64 ":%" PRId64, now.group,
                      kept.n + 1, now.start);
    if (ftruncate(fd, 0) < 0 || pwrite(fd, record, (size_t)length, 0) != length)
        return -1;
    *n = kept.n + 1;
    return 0;
}

static int managed_suffix(const char *hostname, const char *processname, const char *directory,
                          char out[QUEUE_SUFFIX_SIZE], struct err *e)
{
    _cleanup_(str_freep) char *path =
        text_format("%s/%s_%s_qmanager", directory, hostname, processname);
    _cleanup_(fd_closep) int fd = -1;
    int64_t n = 0;

    fd = open_counter(path, e);
    if (fd < 0)
        return -1;
    if (count(fd, &n) < 0)
        return err_set_errno(e, ERR_SYSTEM, errno, "use_queue_manager: cannot count in \"%s\"",
                             path);
    if (snprintf(out, QUEUE_SUFFIX_SIZE, "%s:%s:%" PRId64, hostname, processname, n) >=
        QUEUE_SUFFIX_SIZE)
        return err_set(e, ERR_CONFIG, "hostname and processname are too long for a queue's name");
    return 0;
}

int queue_suffix(const struct rabbit_options *options, const char *directory,
                 char out[QUEUE_SUFFIX_SIZE], struct err *e)
{
    char machine[65] = "";
    const char *hostname = options->hostname;

    if (!options->use_queue_manager) {
        text_random_hex(16, out);
        return 0;
    }
    if (!*hostname) {
        if (gethostname(machine, sizeof(machine) - 1) < 0)
            return err_set_errno(e, ERR_SYSTEM, errno, "the machine's name cannot be read");
        hostname = machine;
    }
    if (text_check_filename(hostname, "[oslo_messaging_rabbit] hostname", e) < 0 ||
        text_check_filename(options->processname, "[oslo_messaging_rabbit] processname", e) < 0)
        return -1;
    return managed_suffix(hostname, options->processname, directory, out, e);
}
