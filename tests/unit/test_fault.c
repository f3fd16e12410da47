/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/unit.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/fault.h"
#include "lib/text.h"

static void nothing(void)
{
}

UNIT_FIXTURE(nothing, fault_disarm_all)

UNIT_TEST(unarmed, "a point that is not armed does nothing")
{
    UNIT_OK(fault_point("disk.before_copy", &unit_err));
    UNIT_OK(fault_arm("other=error", &unit_err));
    UNIT_OK(fault_point("disk.before_copy", &unit_err));
}

UNIT_TEST(fails, "a point armed with error fails each time, until it is disarmed")
{
    UNIT_OK(fault_arm("a=error", &unit_err));
    UNIT_FAILS(fault_point("a", &unit_err), ERR_SYSTEM);
    UNIT_HAS(unit_err.text, "fault point a");
    UNIT_FAILS(fault_point("a", &unit_err), ERR_SYSTEM);
    UNIT_EQ(fault_point("a", NULL), -1);
    fault_disarm_all();
    UNIT_OK(fault_point("a", &unit_err));
}

UNIT_TEST(nth, "a point armed for the n-th time fails then and only then")
{
    UNIT_OK(fault_arm("a=error@3", &unit_err));
    UNIT_OK(fault_point("a", &unit_err));
    UNIT_OK(fault_point("a", &unit_err));
    UNIT_FAILS(fault_point("a", &unit_err), ERR_SYSTEM);
    UNIT_OK(fault_point("a", &unit_err));
}

UNIT_TEST(delays, "a delay lasts at least as long as it says, and is no failure")
{
    int64_t start = clock_monotonic_us();

    UNIT_OK(fault_arm("a=delay(20)", &unit_err));
    UNIT_OK(fault_point("a", &unit_err));
    UNIT_TRUE(clock_monotonic_us() - start >= 20000);
}

static atomic_int hung;

static void *hang(void *aux)
{
    atomic_store(&hung, 1);
    fault_point("a", NULL);
    atomic_store(&hung, 2);
    return aux;
}

UNIT_TEST(hangs, "a hanging point goes on when it is disarmed, and not before")
{
    pthread_t thread;

    UNIT_OK(fault_arm("a=hang", &unit_err));
    pthread_create(&thread, NULL, hang, NULL);
    usleep(20000);
    UNIT_TRUE(atomic_load(&hung) != 2);
    fault_disarm_all();
    pthread_join(thread, NULL);
    UNIT_EQ(hung, 2);
}

UNIT_TEST(crashes, "a crash is a kill, so that nothing is tidied up")
{
    int status = 0;
    pid_t pid = fork();

    if (pid == 0) {
        fault_arm("a=crash", NULL);
        fault_point("a", NULL);
        _exit(0);
    }
    UNIT_EQ(waitpid(pid, &status, 0), pid);
    UNIT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

UNIT_TEST(bad_specs, "a malformed line is refused with the reason")
{
    static const char *const bad[] = {
        "",           "a",           "=error",     "a=",        "a=fail",    "a=delay",
        "a=delay(x)", "a=delay(-1)", "a=error@",   "a=error@0", "a=error@x", "a=delay(600001)",
        "a=delay()",  "a=delay(5",   "a=error@1@2"};

    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (!UNIT_TRUE(fault_arm(bad[i], &unit_err) < 0))
            printf("# accepted: %s\n", bad[i]);
    UNIT_OK(fault_point("a", &unit_err));
}

UNIT_TEST(bad_file, "a file that others can write, or that is a link, is refused")
{
    _cleanup_(str_freep) char *file = text_format("%s/faults", unit_directory());
    _cleanup_(str_freep) char *link = text_format("%s/link", unit_directory());

    unit_write_file(file, "a=error\n");
    UNIT_EQ(chmod(file, 0622), 0);
    UNIT_FAILS(fault_load(file, &unit_err), ERR_CONFIG);
    UNIT_EQ(chmod(file, 0600), 0);
    UNIT_EQ(symlink(file, link), 0);
    UNIT_FAILS(fault_load(link, &unit_err), ERR_CONFIG);
    UNIT_FAILS(fault_load("/nonexistent", &unit_err), ERR_CONFIG);
    UNIT_FAILS(fault_load(unit_directory(), &unit_err), ERR_CONFIG);
    UNIT_OK(fault_point("a", &unit_err));
}

UNIT_TEST(loads, "root's file arms its lines, all or none")
{
    _cleanup_(str_freep) char *file = text_format("%s/faults", unit_directory());

    unit_write_file(file, "# comment\n\na=error\nb=delay(1)@2\n");
    UNIT_EQ(chmod(file, 0600), 0);
    if (geteuid() != 0) {
        UNIT_FAILS(fault_load(file, &unit_err), ERR_CONFIG);
        UNIT_SKIP("needs root: the file must be root's");
    }
    UNIT_OK(fault_load(file, &unit_err));
    UNIT_FAILS(fault_point("a", &unit_err), ERR_SYSTEM);
    unit_write_file(file, "c=error\nd=nonsense\n");
    UNIT_FAILS(fault_load(file, &unit_err), ERR_CONFIG);
    UNIT_HAS(unit_err.text, "faults:2: ");
    UNIT_OK(fault_point("c", &unit_err));
    UNIT_FAILS(fault_point("a", &unit_err), ERR_SYSTEM);
    UNIT_OK(fault_load(NULL, &unit_err));
    UNIT_OK(fault_point("a", &unit_err));
}

UNIT_TEST(loads_again, "a file that is read again replaces what was armed and ends what hangs")
{
    _cleanup_(str_freep) char *file = text_format("%s/faults", unit_directory());
    pthread_t thread;

    if (geteuid() != 0)
        UNIT_SKIP("needs root: the file must be root's");
    unit_write_file(file, "a=hang\n");
    UNIT_EQ(chmod(file, 0600), 0);
    UNIT_OK(fault_load(file, &unit_err));
    atomic_store(&hung, 0);
    pthread_create(&thread, NULL, hang, NULL);
    while (atomic_load(&hung) == 0)
        usleep(1000);
    unit_write_file(file, "b=error\n");
    UNIT_OK(fault_load(file, &unit_err));
    pthread_join(thread, NULL);
    UNIT_EQ(hung, 2);
    UNIT_FAILS(fault_point("b", &unit_err), ERR_SYSTEM);
}
