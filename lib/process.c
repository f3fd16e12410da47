/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Running a program. The child leads its own process group, so that whatever it started dies with it;
 * a pidfd tells its end beside the two pipes, so that a grandchild that keeps a pipe open holds nobody up.
 * Where pidfd_open(2) is not permitted (old kernels, seccomp, valgrind) the end is looked for on a tick.
 *
 * posix_spawn() cannot set resource limits; they are set from outside right after the exec. A program is
 * unlimited for that moment, in which it has read none of the input that the limits are for.
 */
#include "lib/process.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "lib/clock.h"
#include "lib/text.h"

enum {
    DEFAULT_TIMEOUT_S = 60,
    DEFAULT_OUTPUT_MAX = 1 << 20,
    ERROR_TAIL = 300,    /* bytes of standard error kept */
    TICK_MS = 10,        /* without a pidfd */
    DEATH_WAIT_MS = 2000 /* after SIGKILL: a process in an uninterruptible call may not die */
};

#define SEARCH_PATH "/usr/sbin:/usr/bin:/sbin:/bin"

struct run {
    const char *program; /* as the caller named it, for messages */
    struct process_limits limits;
    pid_t pid;
    int pid_fd, out_fd, error_fd;
    struct text_buffer out, error;
};

static void run_close_pipes(struct run *run)
{
    fd_closep(&run->out_fd);
    fd_closep(&run->error_fd);
    run->out_fd = run->error_fd = -1;
}

static void run_end(struct run *run)
{
    run_close_pipes(run);
    fd_closep(&run->pid_fd);
    text_buffer_free(&run->out);
    text_buffer_free(&run->error);
}

/* --- starting -------------------------------------------------------------------------------- */

static char *find_program(const char *name, struct err *e)
{
    char **directories = text_split(SEARCH_PATH, ':');
    char *path = NULL;

    for (size_t i = 0; directories[i] && !path && !strchr(name, '/'); i++) {
        path = text_format("%s/%s", directories[i], name);
        if (access(path, X_OK) < 0) {
            free(path);
            path = NULL;
        }
    }
    text_vector_free(directories);
    if (!path && name[0] == '/' && access(name, X_OK) == 0)
        path = text_dup(name);
    if (!path)
        err_set(e, ERR_SYSTEM, "the program %s is not installed (looked in %s)", name, SEARCH_PATH);
    return path;
}

static void set_limit(pid_t pid, __rlimit_resource_t resource, uint64_t value)
{
    /* One more for the hard limit: SIGXCPU then comes first and tells why. */
    struct rlimit limit = {.rlim_cur = value, .rlim_max = value + 1};

    if (value)
        (void)prlimit(pid, resource, &limit, NULL);
}

/* Returns 0 or an errno. */
static int spawn(const char *path, const char *const argv[], int out_fd, int error_fd, pid_t *pid)
{
    char path_variable[] = "PATH=" SEARCH_PATH, locale_variable[] = "LC_ALL=C";
    char *const environment[] = {path_variable, locale_variable, NULL};
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    sigset_t none, all;
    int error;

    sigemptyset(&none);
    sigfillset(&all);
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&files, out_fd, STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&files, error_fd, STDERR_FILENO);
    posix_spawn_file_actions_addclosefrom_np(&files, STDERR_FILENO + 1);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK |
                                              POSIX_SPAWN_SETSIGDEF);
    posix_spawnattr_setpgroup(&attributes, 0);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &all);
    error = posix_spawn(pid, path, &files, &attributes, (char *const *)argv, environment);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&files);
    return error;
}

static int start(struct run *run, const char *const argv[], struct err *e)
{
    _cleanup_(str_freep) char *path = find_program(argv[0], e);
    int out[2] = {-1, -1}, error[2] = {-1, -1}, failure;

    if (!path)
        return -1;
    if (pipe2(out, O_CLOEXEC) < 0)
        return err_set_errno(e, ERR_SYSTEM, errno, "cannot make a pipe for %s", run->program);
    run->out_fd = out[0];
    if (pipe2(error, O_CLOEXEC) < 0) {
        (void)close(out[1]);
        return err_set_errno(e, ERR_SYSTEM, errno, "cannot make a pipe for %s", run->program);
    }
    run->error_fd = error[0];
    failure = spawn(path, argv, out[1], error[1], &run->pid);
    (void)close(out[1]);
    (void)close(error[1]);
    if (failure)
        return err_set_errno(e, ERR_SYSTEM, failure, "cannot start %s", path);
    set_limit(run->pid, RLIMIT_CPU, run->limits.cpu_seconds);
    set_limit(run->pid, RLIMIT_AS, run->limits.address_space);
    (void)fcntl(run->out_fd, F_SETFL, O_NONBLOCK);
    (void)fcntl(run->error_fd, F_SETFL, O_NONBLOCK);
    run->pid_fd = (int)syscall(SYS_pidfd_open, run->pid, 0);
    return 0;
}

/* --- reading and waiting --------------------------------------------------------------------- */

/* Takes what is there; closes the descriptor at its end. */
static ssize_t drain(int *fd, struct text_buffer *into)
{
    char bytes[16384];
    ssize_t n = read(*fd, bytes, sizeof(bytes));

    if (n > 0) {
        text_buffer_add_n(into, bytes, (size_t)n);
    } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        fd_closep(fd);
        *fd = -1;
    }
    return n;
}

static void keep_tail(struct text_buffer *b)
{
    size_t extra = b->length > ERROR_TAIL ? b->length - ERROR_TAIL : 0;

    if (!extra)
        return;
    memmove(b->data, b->data + extra, ERROR_TAIL + 1);
    b->length = ERROR_TAIL;
}

/* One round of both pipes; -1 if there is too much output. */
static int read_pipes(struct run *run, struct err *e)
{
    while (run->out_fd >= 0 && drain(&run->out_fd, &run->out) > 0)
        if (run->out.length > run->limits.output_max)
            return err_set(e, ERR_SYSTEM, "%s was stopped: it wrote more than %zu bytes",
                           run->program, run->limits.output_max);
    /* Bounded: a flood of errors must not keep the time limit from being looked at. */
    for (int i = 0; i < 8 && run->error_fd >= 0 && drain(&run->error_fd, &run->error) > 0; i++)
        keep_tail(&run->error);
    return 0;
}

/* Whether the program has ended; it stays to be reaped. */
static bool has_ended(const struct run *run)
{
    siginfo_t info = {0};

    return waitid(P_PID, (id_t)run->pid, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid;
}

/* Waits for any of the descriptors until the deadline, or a tick; negative ones are left out. */
static int wait_any(const struct run *run, int64_t due_us)
{
    struct pollfd fds[] = {{.fd = run->pid_fd, .events = POLLIN},
                           {.fd = run->out_fd, .events = POLLIN},
                           {.fd = run->error_fd, .events = POLLIN}};
    int64_t left_ms = (due_us - clock_monotonic_us()) / USEC_PER_MSEC + 1;

    if (run->pid_fd < 0 && left_ms > TICK_MS)
        left_ms = TICK_MS;
    if (left_ms > INT_MAX)
        left_ms = INT_MAX;
    return poll(fds, ARRAY_LEN(fds), left_ms > 0 ? (int)left_ms : 0);
}

/* Until the program ends, its time is over or its output too long. */
static int wait_for_end(struct run *run, struct err *e)
{
    int64_t due_us = clock_monotonic_us() + run->limits.timeout_us;

    while (clock_monotonic_us() < due_us) {
        bool ended;

        if (wait_any(run, due_us) < 0 && errno != EINTR)
            return err_set_errno(e, ERR_SYSTEM, errno, "cannot wait for %s", run->program);
        /* Asked before reading: what is read after the end is all there was. */
        ended = has_ended(run);
        if (read_pipes(run, e) < 0)
            return -1;
        if (ended)
            return 0;
    }
    return err_set(e, ERR_SYSTEM, "%s was stopped: it took longer than %g s", run->program,
                   (double)run->limits.timeout_us / USEC_PER_SEC);
}

/* Ends the whole group. The leader is not reaped yet, so the group's number cannot be another's. */
static int kill_and_reap(struct run *run, int *status, struct err *e)
{
    int64_t due_us = clock_monotonic_us() + DEATH_WAIT_MS * USEC_PER_MSEC;

    (void)kill(-run->pid, SIGKILL);
    run_close_pipes(run);
    while (!has_ended(run)) {
        if (clock_monotonic_us() >= due_us)
            return err_set(e, ERR_SYSTEM, "%s was killed but does not end (a hanging disk?)",
                           run->program);
        (void)wait_any(run, due_us);
    }
    while (waitpid(run->pid, status, 0) < 0)
        if (errno != EINTR)
            return err_set_errno(e, ERR_SYSTEM, errno, "cannot learn how %s ended", run->program);
    return 0;
}

static int check_status(struct run *run, int status, struct err *e)
{
    const char *tail = run->error.data ? run->error.data : "";

    while (run->error.data && run->error.length && strchr(" \n\r\t", tail[run->error.length - 1]))
        run->error.data[--run->error.length] = '\0';
    if (WIFSIGNALED(status))
        return err_set(e, ERR_SYSTEM, "%s was ended by signal %d (%s)%s%s", run->program,
                       WTERMSIG(status), strsignal(WTERMSIG(status)), *tail ? ": " : "", tail);
    if (WEXITSTATUS(status) != 0)
        return err_set(e, ERR_SYSTEM, "%s exited with %d%s%s", run->program, WEXITSTATUS(status),
                       *tail ? ": " : "", tail);
    return 0;
}

int process_run(const char *const argv[], const struct process_limits *limits, char **out,
                struct err *e)
{
    _cleanup_(run_end) struct run run = {
        .program = argv[0], .pid_fd = -1, .out_fd = -1, .error_fd = -1};
    struct err late = ERR_INIT;
    int status = 0, result;

    if (limits)
        run.limits = *limits;
    if (!run.limits.timeout_us)
        run.limits.timeout_us = DEFAULT_TIMEOUT_S * USEC_PER_SEC;
    if (!run.limits.output_max)
        run.limits.output_max = DEFAULT_OUTPUT_MAX;
    if (start(&run, argv, e) < 0)
        return -1;
    result = wait_for_end(&run, e);
    /* A first error says more than what killing adds to it. */
    if (kill_and_reap(&run, &status, result < 0 ? &late : e) < 0 || result < 0)
        return -1;
    if (check_status(&run, status, e) < 0)
        return -1;
    if (out)
        *out = text_buffer_take(&run.out);
    return 0;
}
