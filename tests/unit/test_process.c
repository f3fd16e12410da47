/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/process.h"
#include "lib/text.h"

static char *output;

static void teardown(void)
{
    free(output);
    output = NULL;
}

static void setup(void)
{
}

UNIT_FIXTURE(setup, teardown)

static int shell(const char *script, const struct process_limits *limits)
{
    const char *const argv[] = {"sh", "-c", script, "name", "an argument", NULL};

    err_clear(&unit_err);
    return process_run(argv, limits, &output, &unit_err);
}

UNIT_TEST(output_kept, "standard output is the result, standard error is not mixed in")
{
    UNIT_EQ(shell("echo one; echo bad >&2; printf '%s' \"$1\"", NULL), 0);
    UNIT_STR(output, "one\nan argument");
}

UNIT_TEST(no_output, "a program that writes nothing gives an empty text; the text may be unwanted")
{
    const char *const argv[] = {"true", NULL};

    UNIT_OK(process_run(argv, NULL, &output, &unit_err));
    UNIT_STR(output, "");
    UNIT_OK(process_run(argv, NULL, NULL, &unit_err));
}

UNIT_TEST(exit_codes, "another exit code than 0 is an error with the code and what was said")
{
    UNIT_EQ(shell("echo 'no such image' >&2; exit 3", NULL), -1);
    UNIT_EQ(unit_err.code, ERR_SYSTEM);
    UNIT_STR(unit_err.text, "sh exited with 3: no such image");
    UNIT_EQ(shell("exit 1", NULL), -1);
    UNIT_STR(unit_err.text, "sh exited with 1");
    UNIT_TRUE(output == NULL);
}

UNIT_TEST(error_tail, "of a long complaint the end is kept, escaped")
{
    UNIT_EQ(shell("i=0; while [ $i -lt 2000 ]; do echo line $i >&2; i=$((i+1)); done;"
                  "printf '\\033[2Jlast\\n' >&2; exit 1",
                  NULL),
            -1);
    UNIT_HAS(unit_err.text, "last");
    UNIT_HAS(unit_err.text, "\\x1b[2J");
    UNIT_TRUE(!strstr(unit_err.text, "line 1000"));
    UNIT_TRUE(text_starts_with(unit_err.text, "sh exited with 1: "));
}

UNIT_TEST(signals, "a program ended by a signal is an error with the signal")
{
    UNIT_EQ(shell("kill -TERM $$", NULL), -1);
    UNIT_STR(unit_err.text, "sh was ended by signal 15 (Terminated)");
}

UNIT_TEST(missing, "a program that is not there is an error with its name and where it was sought")
{
    const char *const argv[] = {"no-such-program-at-all", NULL};
    const char *const relative[] = {"./sh", NULL};

    UNIT_FAILS(process_run(argv, NULL, &output, &unit_err), ERR_SYSTEM);
    UNIT_HAS(unit_err.text, "no-such-program-at-all");
    UNIT_HAS(unit_err.text, "/usr/sbin:/usr/bin:/sbin:/bin");
    UNIT_FAILS(process_run(relative, NULL, &output, &unit_err), ERR_SYSTEM);
}

/* True once nothing of that number runs; a zombie of somebody else's has been killed as well. */
static bool is_dead(pid_t pid)
{
    for (int i = 0; i < 2000; i++) {
        _cleanup_(str_freep) char *path = text_format("/proc/%d/stat", (int)pid);
        _cleanup_(str_freep) char *stat = unit_read_file(path, NULL);
        const char *state = stat ? strrchr(stat, ')') : NULL;

        if (!state || state[2] == 'Z')
            return true;
        usleep(1000);
    }
    return false;
}

UNIT_TEST(timeout, "a program past its time is killed with all that it started")
{
    struct process_limits limits = {.timeout_us = 200000};
    _cleanup_(str_freep) char *file = text_format("%s/pid", unit_directory());
    _cleanup_(str_freep) char *script =
        text_format("sleep 1000 & echo $! >%s; trap '' TERM; wait", file);
    _cleanup_(str_freep) char *pid = NULL;
    int64_t start = clock_monotonic_us();

    UNIT_EQ(shell(script, &limits), -1);
    UNIT_STR(unit_err.text, "sh was stopped: it took longer than 0.2 s");
    UNIT_TRUE(clock_monotonic_us() - start < 20 * USEC_PER_SEC);
    pid = unit_read_file(file, NULL);
    UNIT_TRUE(pid && atoi(pid) > 1 && is_dead(atoi(pid)));
}

UNIT_TEST(leftovers, "a child left in the background neither holds the call up nor outlives it")
{
    int64_t start = clock_monotonic_us();

    UNIT_EQ(shell("sleep 1000 & echo $!", NULL), 0);
    UNIT_TRUE(clock_monotonic_us() - start < 20 * USEC_PER_SEC);
    UNIT_TRUE(output && atoi(output) > 1 && is_dead(atoi(output)));
}

UNIT_TEST(output_cap, "more output than allowed is an error, exactly as much is not")
{
    struct process_limits limits = {.output_max = 1000, .timeout_us = 30 * USEC_PER_SEC};

    UNIT_EQ(shell("head -c 1000 /dev/zero | tr '\\0' x", &limits), 0);
    UNIT_EQ(strlen(output), 1000);
    teardown();
    UNIT_EQ(shell("yes", &limits), -1);
    UNIT_STR(unit_err.text, "sh was stopped: it wrote more than 1000 bytes");
    UNIT_TRUE(output == NULL);
}

UNIT_TEST(large_output, "output larger than a pipe is read while the program runs")
{
    UNIT_EQ(shell("head -c 900000 /dev/zero | tr '\\0' x; head -c 200000 /dev/zero >&2", NULL), 0);
    UNIT_EQ(strlen(output), 900000);
}

UNIT_TEST(error_flood, "a flood of errors does not outrun the time limit")
{
    struct process_limits limits = {.timeout_us = 200000};

    UNIT_EQ(shell("yes >&2", &limits), -1);
    UNIT_STR(unit_err.text, "sh was stopped: it took longer than 0.2 s");
}

UNIT_TEST(environment, "nothing of our environment, descriptors or blocked signals is inherited")
{
    int leak = open("/dev/null", O_RDONLY); /* without O_CLOEXEC, as a careless library would */
    sigset_t usr1, before;

    setenv("SECRET_TOKEN", "s3cret", 1);
    sigemptyset(&usr1);
    sigaddset(&usr1, SIGUSR1);
    sigprocmask(SIG_BLOCK, &usr1, &before);
    UNIT_EQ(shell("env; n=3; while [ $n -lt 10 ]; do [ ! -e /proc/$$/fd/$n ] || echo leaked $n;"
                  "n=$((n+1)); done; grep SigBlk /proc/self/status; cat",
                  NULL),
            0);
    sigprocmask(SIG_SETMASK, &before, NULL);
    UNIT_TRUE(output && !strstr(output, "SECRET_TOKEN"));
    UNIT_HAS(output, "PATH=/usr/sbin:/usr/bin:/sbin:/bin");
    UNIT_HAS(output, "LC_ALL=C");
    UNIT_TRUE(output && !strstr(output, "leaked"));
    UNIT_HAS(output, "SigBlk:\t0000000000000000");
    close(leak);
    unsetenv("SECRET_TOKEN");
}

UNIT_TEST(limits_hold, "memory and CPU limits hold in the program")
{
    struct process_limits limits = {.address_space = 64 << 20, .timeout_us = 30 * USEC_PER_SEC};

    /* The limits are set right after the start, so the script waits until it sees them. */
    UNIT_EQ(shell("while [ $(ulimit -v) = unlimited ]; do :; done; ulimit -v", &limits), 0);
    UNIT_STR(output, "65536\n");
    teardown();
    limits = (struct process_limits){.cpu_seconds = 1, .timeout_us = 60 * USEC_PER_SEC};
    UNIT_EQ(shell("while :; do :; done", &limits), -1);
    UNIT_HAS(unit_err.text, "CPU time limit exceeded");
}

UNIT_TEST(no_leaks, "no descriptor stays open, however the program ended")
{
    struct process_limits limits = {.timeout_us = 1000, .output_max = 10};
    int before = open("/dev/null", O_RDONLY | O_CLOEXEC), after;

    close(before);
    (void)shell("exit 3", NULL);
    (void)shell("sleep 1000", &limits);
    (void)shell("yes", &limits);
    UNIT_EQ(shell("true", NULL), 0);
    after = open("/dev/null", O_RDONLY | O_CLOEXEC);
    UNIT_EQ(after, before);
    close(after);
}
