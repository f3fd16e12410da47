/* SPDX-License-Identifier: Apache-2.0 */
/* Fault points. The table is small and locked; unarmed, only `fault_armed` is read. */
#include "lib/fault.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "lib/log.h"
#include "lib/text.h"

LOG_MODULE(fault);

enum { FAULTS_MAX = 32, NAME_SIZE = 64, FILE_MAX = 16384, DELAY_MAX_MS = 600000 };
enum fault_action { FAULT_ERROR, FAULT_CRASH, FAULT_DELAY, FAULT_HANG };

struct fault {
    char name[NAME_SIZE];
    enum fault_action action;
    int64_t delay_ms;
    int64_t only; /* the how many-th pass; 0 = each */
    int64_t passed;
};

struct fault_table {
    struct fault faults[FAULTS_MAX];
    unsigned count;
};

static pthread_mutex_t fault_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t fault_changed = PTHREAD_COND_INITIALIZER;
static struct fault_table fault_table;
static uint64_t fault_generation; /* counts changes of the table, which end hangs */
static atomic_uint fault_armed;

static const char *const words[] = {
    [FAULT_ERROR] = "error",
    [FAULT_CRASH] = "crash",
    [FAULT_DELAY] = "delay",
    [FAULT_HANG] = "hang",
};

static int parse_action(char *text, struct fault *fault, struct err *e)
{
    char *at = strchr(text, '@');

    if (at) {
        *at++ = '\0';
        if (text_to_int64(at, 1, 1000000, &fault->only, e) < 0)
            return -1;
    }
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (i != FAULT_DELAY && text_equal(words[i], text)) {
            fault->action = (enum fault_action)i;
            return 0;
        }
    if (!text_starts_with(text, "delay(") || !text_ends_with(text, ")"))
        return err_set(e, ERR_CONFIG,
                       "fault action \"%s\" is none of error, crash, delay(ms), hang", text);
    text[strlen(text) - 1] = '\0';
    fault->action = FAULT_DELAY;
    return text_to_int64(text + strlen("delay("), 0, DELAY_MAX_MS, &fault->delay_ms, e);
}

static int add_spec(struct fault_table *table, const char *spec, struct err *e)
{
    _cleanup_(str_freep) char *action = NULL;
    const char *equals = strchr(spec, '=');
    struct fault fault = {0};

    if (!equals || equals == spec || equals - spec >= NAME_SIZE)
        return err_set(e, ERR_CONFIG, "fault \"%s\" is not name=action", spec);
    if (table->count == FAULTS_MAX)
        return err_set(e, ERR_CONFIG, "more than %d faults", FAULTS_MAX);
    memcpy(fault.name, spec, (size_t)(equals - spec));
    action = text_dup(equals + 1);
    if (parse_action(action, &fault, e) < 0)
        return err_prefix(e, "fault point %s", fault.name);
    table->faults[table->count++] = fault;
    return 0;
}

static void install(const struct fault_table *table)
{
    pthread_mutex_lock(&fault_lock);
    fault_table = *table;
    fault_generation++;
    atomic_store(&fault_armed, table->count);
    pthread_cond_broadcast(&fault_changed);
    pthread_mutex_unlock(&fault_lock);
}

void fault_disarm_all(void)
{
    static const struct fault_table none;

    install(&none);
}

int fault_arm(const char *spec, struct err *e)
{
    struct fault_table table;

    pthread_mutex_lock(&fault_lock);
    table = fault_table;
    pthread_mutex_unlock(&fault_lock);
    if (add_spec(&table, spec, e) < 0)
        return -1;
    install(&table);
    return 0;
}

/* Opens the file only if what is in it is what root wants. */
static FILE *open_trusted(const char *file, struct err *e)
{
    _cleanup_(fd_closep) int fd = open(file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    struct stat st;
    FILE *f;

    if (fd < 0 || fstat(fd, &st) < 0) {
        err_set_errno(e, ERR_CONFIG, errno, "cannot open the fault file %s", file);
        return NULL;
    }
    if (!S_ISREG(st.st_mode) || st.st_uid != 0 || (st.st_mode & 022) || st.st_size > FILE_MAX) {
        err_set(
            e, ERR_CONFIG,
            "the fault file %s has owner %u, mode %04o and %jd bytes, it must be a regular file "
            "that root owns, nobody else may write, and at most %d bytes",
            file, st.st_uid, st.st_mode & 07777, (intmax_t)st.st_size, FILE_MAX);
        return NULL;
    }
    f = fdopen(fd, "r");
    if (f)
        fd = -1;
    else
        err_set_errno(e, ERR_SYSTEM, errno, "cannot read the fault file %s", file);
    return f;
}

int fault_load(const char *file, struct err *e)
{
    struct fault_table table = {0};
    char line[256];
    int result = 0, number = 0;
    FILE *f;

    if (!file) {
        fault_disarm_all();
        return 0;
    }
    f = open_trusted(file, e);
    if (!f)
        return -1;
    while (result == 0 && fgets(line, sizeof(line), f)) {
        number++;
        line[strcspn(line, "\r\n")] = '\0';
        if (line[0] && line[0] != '#')
            result = add_spec(&table, line, e);
    }
    fclose(f);
    if (result < 0)
        return err_prefix(e, "%s:%d", file, number);
    install(&table);
    log_warning("%u fault point(s) are armed by %s", table.count, file);
    return 0;
}

static void sleep_ms(int64_t ms)
{
    struct timespec left = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

    while (nanosleep(&left, &left) < 0 && errno == EINTR)
        ;
}

/* Finds the armed fault of this pass and copies it; *generation is the table's that it was found in. */
static bool take(const char *name, struct fault *out, uint64_t *generation)
{
    bool found = false;

    pthread_mutex_lock(&fault_lock);
    for (unsigned i = 0; i < fault_table.count && !found; i++) {
        struct fault *fault = &fault_table.faults[i];

        if (!text_equal(fault->name, name))
            continue;
        fault->passed++;
        found = !fault->only || fault->only == fault->passed;
        *out = *fault;
    }
    *generation = fault_generation;
    pthread_mutex_unlock(&fault_lock);
    return found;
}

static void wait_for_change(uint64_t generation)
{
    pthread_mutex_lock(&fault_lock);
    while (generation == fault_generation)
        pthread_cond_wait(&fault_changed, &fault_lock);
    pthread_mutex_unlock(&fault_lock);
}

int fault_point(const char *name, struct err *e)
{
    struct fault fault;
    uint64_t generation;

    if (!atomic_load_explicit(&fault_armed, memory_order_relaxed) ||
        !take(name, &fault, &generation))
        return 0;
    log_warning("fault point %s: %s", name, words[fault.action]);
    switch (fault.action) {
    case FAULT_CRASH:
        (void)raise(SIGKILL);
        break;
    case FAULT_DELAY:
        sleep_ms(fault.delay_ms);
        break;
    case FAULT_HANG:
        wait_for_change(generation);
        break;
    case FAULT_ERROR:
        return err_set(e, ERR_SYSTEM, "the fault point %s is armed to fail", name);
    }
    return 0;
}
