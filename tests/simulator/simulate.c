/* SPDX-License-Identifier: Apache-2.0 */
/*
 * simulate [--seed N] [--count N] [--processes N] [--matrix | --plan WAY/DEED/PASS] [--trace] [--memory]: runs the
 * schedules of `count` seeds from N on, and tells what they reached. With --matrix the fault matrices of these seeds
 * instead, with --plan one run of them. With --trace each step is told, and the agents' log. With --memory it is told
 * what stays allocated from schedule to schedule. Exit code 1: a promise was broken.
 */
#include <getopt.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/machine.h"
#include "lib/log.h"
#include "lib/text.h"
#include "tests/simulator/simulator.h"

struct err unit_err;

/* The checks of the world and its fakes. */
bool unit_check(bool good, unsigned line, const char *file, const char *format, ...)
{
    char text[400];
    va_list args;

    if (good)
        return true;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (!sim) {
        fprintf(stderr, "%s:%u: %s\n", file, line, text);
        exit(2);
    }
    sim_violation("%s:%u: %s", file, line, text);
    return false;
}

struct options {
    int64_t seed, count, processes;
    bool tracing, matrix, planned, memory;
    struct plan plan;
};

enum { PROCESSES_MAX = 16, HASH_ONLY_MAX = 4 };

static struct coverage *shared(void)
{
    struct coverage *c = mmap(NULL, sizeof(struct coverage) * PROCESSES_MAX, PROT_READ | PROT_WRITE,
                              MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (c == MAP_FAILED) {
        perror("mmap");
        exit(2);
    }
    return c;
}

/* The least of the second quarter and of the last: in the first all that is made once is made, and some answers are
 * kept until the next schedule. */
static void look_at_memory(const struct options *o, int64_t done)
{
    static size_t least[4] = {SIZE_MAX, SIZE_MAX, SIZE_MAX, SIZE_MAX};
    size_t now = mem_in_use(), *quarter = &least[(done - 1) * 4 / o->count];

    if (now < *quarter)
        *quarter = now;
    if (done == o->count)
        printf("# memory: %+" PRId64 " bytes in %" PRId64 " schedules\n",
               (int64_t)least[3] - (int64_t)least[1], o->count / 2);
}

static void run_share(const struct options *o, int64_t share, struct coverage *coverage)
{
    for (int64_t i = 0; o->matrix && i < o->count; i++)
        matrix_run((uint64_t)(o->seed + i), (unsigned)share, (unsigned)o->processes, coverage);
    for (int64_t i = share; !o->matrix && i < o->count; i += o->processes) {
        uint64_t hash;
        if (o->planned) {
            (void)schedule_run_plan((uint64_t)(o->seed + i), &o->plan, o->tracing, coverage, NULL);
            continue;
        }
        (void)schedule_run((uint64_t)(o->seed + i), o->tracing, coverage, &hash);
        if (o->count <= HASH_ONLY_MAX)
            printf("# seed %" PRId64 ": trace %016" PRIx64 "\n", o->seed + i, hash);
        if (o->memory)
            look_at_memory(o, i + 1);
    }
    fflush(stdout);
}

static int run_all(const struct options *o, struct coverage *all)
{
    int crashed = 0;

    if (o->processes == 1) {
        run_share(o, 0, all);
        return 0;
    }
    fflush(stdout);
    for (int64_t i = 0; i < o->processes; i++) {
        pid_t child = fork();
        if (child < 0)
            exit(2);
        if (child == 0) {
            run_share(o, i, &all[i]);
            exit(0);
        }
    }
    for (int64_t i = 0; i < o->processes; i++) {
        int status;
        (void)wait(&status);
        crashed += status != 0;
    }
    return crashed;
}

static void add_points(struct coverage *to, const struct coverage *from)
{
    for (unsigned i = 0; i < POINTS_MAX && from->points[i].name[0]; i++) {
        unsigned at = 0;
        while (at + 1 < POINTS_MAX && to->points[at].name[0] &&
               !text_equal(to->points[at].name, from->points[i].name))
            at++;
        snprintf(to->points[at].name, POINT_NAME, "%s", from->points[i].name);
        to->points[at].passed += from->points[i].passed;
        to->points[at].failed += from->points[i].failed;
        to->points[at].crashed += from->points[i].crashed;
    }
}

static void add_numbers(uint64_t *to, const uint64_t *from, size_t count)
{
    for (size_t i = 0; i < count; i++)
        to[i] += from[i];
}

static void sum_up(struct coverage *to, const struct coverage *from)
{
    add_numbers(&to->schedules, &from->schedules, 3 + ENDINGS + 13);
    add_numbers(to->rows, from->rows, ROWS_MAX);
    add_numbers(to->post_copy, from->post_copy, POST_COPY_COUNTS);
    add_numbers(to->parked_why, from->parked_why, ARRAY_LEN(to->parked_why));
    to->parked_source += from->parked_source;
    to->parked_destination += from->parked_destination;
    add_points(to, from);
}

static void parse(int argc, char **argv, struct options *o)
{
    static const struct option table[] = {
        {"seed", required_argument, NULL, 's'},      {"count", required_argument, NULL, 'c'},
        {"processes", required_argument, NULL, 'p'}, {"matrix", no_argument, NULL, 'm'},
        {"plan", required_argument, NULL, 'l'},      {"trace", no_argument, NULL, 't'},
        {"memory", no_argument, NULL, 'y'},          {NULL, 0, NULL, 0}};
    struct err e = ERR_INIT;
    int c, result = 0;

    while (result == 0 && (c = getopt_long(argc, argv, "", table, NULL)) >= 0) {
        if (c == 's')
            result = text_to_int64(optarg, 0, INT64_MAX / 2, &o->seed, &e);
        else if (c == 'c')
            result = text_to_int64(optarg, 1, 100000000, &o->count, &e);
        else if (c == 'p')
            result = text_to_int64(optarg, 1, PROCESSES_MAX, &o->processes, &e);
        else if (c == 'm')
            o->matrix = true;
        else if (c == 'l')
            result = matrix_parse(optarg, &o->plan, &e);
        else if (c == 't')
            o->tracing = true;
        else if (c == 'y')
            o->memory = true;
        else
            result = err_set(&e, ERR_USAGE,
                             "usage: simulate [--seed N] [--count N] [--processes N] [--matrix | "
                             "--plan WAY/DEED/PASS] [--trace] [--memory]");
        o->planned = o->planned || c == 'l';
    }
    if (result == 0)
        return;
    fprintf(stderr, "%s\n", e.text);
    exit(2);
}

int main(int argc, char **argv)
{
    struct options o = {.seed = 1, .count = 1, .processes = 1};
    struct coverage *all = shared();
    struct err e = ERR_INIT;

    parse(argc, argv, &o);
    (void)setenv("top_srcdir", SIMULATOR_SOURCES, 0); /* the recorded messages */
    if (access("/dev/shm", W_OK) == 0)
        (void)setenv("TMPDIR", "/dev/shm", 1); /* nothing here shall wait for a disk */
    log_set_level(NULL, o.tracing ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERROR);
    if (log_open(o.tracing ? "/dev/stdout" : "/dev/null", LOG_FORMAT_TEXT, &e) < 0) {
        fprintf(stderr, "%s\n", e.text);
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    int crashed = run_all(&o, all);
    for (int64_t i = 1; i < o.processes; i++)
        sum_up(all, &all[i]);
    coverage_print(all);
    if (all->violations == 0 && crashed == 0)
        return 0;
    for (int64_t p = 0; p < o.processes; p++)
        for (size_t i = 0; i < ARRAY_LEN(all[p].failed_seeds) && all[p].failed_seeds[i]; i++)
            printf("# again, with its trace: tests/simulator/simulate --seed %" PRIu64 " --trace\n",
                   all[p].failed_seeds[i]);
    return 1;
}
