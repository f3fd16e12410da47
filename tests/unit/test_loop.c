/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/unit.h"

#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "lib/loop.h"
#include "lib/text.h"

static struct loop *loop;
static int pipes[3][2];
static char trace[256]; /* what ran, a letter each */

static void setup(void)
{
    loop_new(&loop, &unit_err);
    trace[0] = '\0';
    for (int i = 0; i < 3; i++)
        if (pipe(pipes[i]) < 0)
            abort();
}

static void teardown(void)
{
    loop_free(loop);
    loop = NULL;
    clock_fake_stop();
    log_close();
    for (int i = 0; i < 3; i++) {
        close(pipes[i][0]);
        close(pipes[i][1]);
    }
}

UNIT_FIXTURE(setup, teardown)

static void note(const char *letter)
{
    size_t n = strlen(trace);

    snprintf(trace + n, sizeof(trace) - n, "%s", letter);
}

static void turn(void)
{
    UNIT_OK(loop_turn(loop, 0, &unit_err));
}

static void noting(void *aux)
{
    note(aux);
}

static struct loop_source *sources[3];

static void free_all_sources(void *aux, uint32_t events)
{
    (void)events;
    note(aux);
    for (int i = 0; i < 3; i++) {
        loop_source_free(sources[i]);
        sources[i] = NULL;
    }
}

UNIT_TEST(frees_in_batch,
          "a source that frees itself and the others of its batch is the last called")
{
    for (int i = 0; i < 3; i++) {
        sources[i] = loop_add_fd(loop, pipes[i][0], EPOLLIN, "pipe", free_all_sources,
                                 (void *)(uintptr_t) "s", &unit_err);
        UNIT_EQ(write(pipes[i][1], "x", 1), 1);
    }
    turn();
    UNIT_STR(trace, "s");
    turn();
    UNIT_STR(trace, "s");
    loop_source_free(NULL);
}

static void replace_source(void *aux, uint32_t events)
{
    (void)events;
    note("r");
    loop_source_free(*(struct loop_source **)aux);
    *(struct loop_source **)aux =
        loop_add_fd(loop, pipes[0][0], EPOLLIN, "pipe", replace_source, aux, NULL);
}

UNIT_TEST(replaces_itself, "a source can replace itself on the same descriptor in its own callback")
{
    struct loop_source *source =
        loop_add_fd(loop, pipes[0][0], EPOLLIN, "pipe", replace_source, &source, &unit_err);

    UNIT_EQ(write(pipes[0][1], "x", 1), 1);
    turn();
    turn();
    UNIT_STR(trace, "rr");
}

static void note_fd(void *aux, uint32_t events)
{
    (void)events;
    note(aux);
}

UNIT_TEST(changes_events, "a source with no events is quiet until it has some again")
{
    char name[] = "f";
    struct loop_source *source =
        loop_add_fd(loop, pipes[0][0], 0, "pipe", note_fd, name, &unit_err);

    UNIT_EQ(write(pipes[0][1], "x", 1), 1);
    turn();
    UNIT_STR(trace, "");
    UNIT_OK(loop_source_set_events(source, EPOLLIN, &unit_err));
    turn();
    UNIT_STR(trace, "f");
}

UNIT_TEST(bad_descriptor, "a descriptor that cannot be watched is an error with its number")
{
    UNIT_TRUE(!loop_add_fd(loop, 9999, EPOLLIN, "nothing", note_fd, NULL, &unit_err));
    UNIT_EQ(unit_err.code, ERR_SYSTEM);
    UNIT_HAS(unit_err.text, "9999");
}

UNIT_TEST(timers_in_order, "timers run in order of deadline, equal ones in order of arming")
{
    static const struct {
        char name[2];
        int delay;
    } rows[] = {{"c", 30}, {"a", 10}, {"d", 30}, {"b", 20}, {"e", 30}, {"x", 25}, {"f", 31}};
    struct loop_timer *timers[ARRAY_LEN(rows)];

    clock_fake_set(1000);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        timers[i] = loop_timer_new(loop, "t", noting, (void *)(uintptr_t)rows[i].name);
        loop_timer_arm(timers[i], rows[i].delay);
    }
    loop_timer_disarm(timers[5]);
    UNIT_TRUE(!loop_timer_armed(timers[5]));
    clock_fake_set(1009);
    turn();
    UNIT_STR(trace, "");
    clock_fake_set(1010);
    turn();
    UNIT_STR(trace, "a");
    clock_fake_set(1030);
    turn();
    UNIT_STR(trace, "abcde");
    UNIT_TRUE(loop_timer_armed(timers[6]));
    loop_timer_arm(timers[6], 100);
    clock_fake_set(1031);
    turn();
    UNIT_STR(trace, "abcde");
}

UNIT_TEST(many_timers, "a thousand timers armed, moved and disarmed at random run in order")
{
    enum { N = 1000 };
    static struct loop_timer *timers[N];
    static int64_t due[N];
    uint64_t seed = 42;
    int64_t ran = 0, expected = 0;
    char letter[] = "";

    clock_fake_set(0);
    for (int i = 0; i < N; i++)
        timers[i] = loop_timer_new(loop, "t", noting, letter);
    for (int step = 0; step < 5 * N; step++) {
        size_t i;

        seed = seed * 6364136223846793005u + 1442695040888963407u;
        i = (seed >> 33) % N;
        due[i] = (int64_t)(seed >> 20) % 5000;
        if (due[i] % 4)
            loop_timer_arm(timers[i], due[i]);
        else
            loop_timer_disarm(timers[i]);
    }
    for (int i = 0; i < N; i++)
        expected += loop_timer_armed(timers[i]);
    for (int64_t now = 0; now <= 5000; now += 50) {
        clock_fake_set(now);
        turn();
        for (int i = 0; i < N; i++)
            if (loop_timer_armed(timers[i]) && due[i] <= now)
                ran = -1000000;
    }
    for (int i = 0; i < N; i++)
        ran += !loop_timer_armed(timers[i]) && due[i] % 4 && due[i];
    UNIT_EQ(ran, expected);
    for (int i = 0; i < N; i++)
        loop_timer_free(timers[i]);
}

static struct loop_timer *self;

static void free_itself(void *aux)
{
    (void)aux;
    note("t");
    loop_timer_free(self);
}

static void arm_itself(void *aux)
{
    (void)aux;
    note("t");
    loop_timer_arm(self, 0);
}

UNIT_TEST(next_due, "the loop tells when its first timer is due, and that none is")
{
    char letter[] = "a";
    struct loop_timer *early = loop_timer_new(loop, "early", noting, letter);
    struct loop_timer *late = loop_timer_new(loop, "late", noting, letter);

    UNIT_EQ(loop_next_due_us(loop), INT64_MAX);
    loop_timer_arm(late, 2000000);
    int64_t due_us = loop_next_due_us(loop);
    loop_timer_arm(early, 1000000);
    UNIT_TRUE(loop_next_due_us(loop) < due_us);
    loop_timer_disarm(early);
    UNIT_EQ(loop_next_due_us(loop), due_us);
    loop_timer_free(early);
    loop_timer_free(late);
}

UNIT_TEST(timer_frees_itself, "a timer may free itself in its own function")
{
    clock_fake_set(1);
    self = loop_timer_new(loop, "t", free_itself, NULL);
    loop_timer_arm(self, 0);
    turn();
    turn();
    UNIT_STR(trace, "t");
    loop_timer_free(NULL);
}

UNIT_TEST(timer_rearms, "a timer that arms itself for now leaves the turn to others")
{
    clock_fake_set(1);
    self = loop_timer_new(loop, "t", arm_itself, NULL);
    loop_timer_arm(self, 0);
    turn();
    UNIT_STR(trace, "t");
    turn();
    UNIT_STR(trace, "tt");
}

UNIT_TEST(far_timer, "a delay beyond all time is no overflow, a negative one is now")
{
    char far[] = "f", past[] = "p";
    struct loop_timer *timer = loop_timer_new(loop, "t", noting, far);

    clock_fake_set(1000);
    loop_timer_arm(timer, INT64_MAX);
    loop_timer_arm(loop_timer_new(loop, "t", noting, past), -5);
    turn();
    UNIT_STR(trace, "p");
}

static void quit(void *aux)
{
    note("q");
    loop_quit(aux);
}

UNIT_TEST(real_timer, "a timer wakes a sleeping loop to the fraction of a millisecond")
{
    struct loop_timer *timer = loop_timer_new(loop, "t", quit, loop);
    int64_t start = clock_monotonic_us();

    loop_timer_arm(timer, 1500);
    UNIT_OK(loop_run(loop, &unit_err));
    UNIT_TRUE(clock_monotonic_us() - start >= 1500);
    UNIT_STR(trace, "q");
}

UNIT_TEST(quits, "a loop told to quit beforehand does not wait, and can run again")
{
    loop_quit(loop);
    UNIT_OK(loop_run(loop, &unit_err));
    loop_post(loop, "quit", quit, loop);
    UNIT_OK(loop_run(loop, &unit_err));
    UNIT_STR(trace, "q");
}

/* --- posts ----------------------------------------------------------------------------------- */

enum { POSTERS = 4, POSTS = 5000 };

struct poster {
    pthread_t thread;
    unsigned number, next;
};
static struct poster posters[POSTERS];
static unsigned posts_left, out_of_order, off_thread;

struct message {
    struct poster *from;
    unsigned sequence;
};

static void receive(void *aux)
{
    struct message *message = aux;

    out_of_order += message->sequence != message->from->next++;
    off_thread += !loop_is_current(loop);
    free(message);
    if (!--posts_left)
        loop_quit(loop);
}

static void *post_many(void *aux)
{
    for (unsigned i = 0; i < POSTS; i++) {
        struct message *message = NEW(struct message);

        *message = (struct message){aux, i};
        loop_post(loop, "receive", receive, message);
    }
    return loop_is_current(loop) ? aux : NULL;
}

UNIT_TEST(posts_from_threads,
          "posts of several threads all run on the loop, each thread's in order")
{
    posts_left = POSTERS * POSTS;
    out_of_order = off_thread = 0;
    memset(posters, 0, sizeof(posters));
    for (int i = 0; i < POSTERS; i++)
        pthread_create(&posters[i].thread, NULL, post_many, &posters[i]);
    UNIT_OK(loop_run(loop, &unit_err));
    for (int i = 0; i < POSTERS; i++) {
        void *believed_current;

        pthread_join(posters[i].thread, &believed_current);
        UNIT_TRUE(!believed_current);
        UNIT_EQ(posters[i].next, POSTS);
    }
    UNIT_EQ(out_of_order, 0);
    UNIT_EQ(off_thread, 0);
}

static unsigned posts_run;

static void post_again(void *aux)
{
    if (++posts_run < 100000)
        loop_post(loop, "again", post_again, aux);
}

UNIT_TEST(endless_posts, "a post that posts itself again and again does not starve a timer")
{
    char name[] = "t";
    struct loop_timer *timer = loop_timer_new(loop, "t", noting, name);

    posts_run = 0;
    loop_timer_arm(timer, 0);
    loop_post(loop, "again", post_again, NULL);
    turn();
    UNIT_STR(trace, "t");
    UNIT_TRUE(posts_run > 0 && posts_run < 100000);
    turn();
    UNIT_TRUE(posts_run < 100000);
}

UNIT_TEST(dropped_posts, "posts that did not run are dropped with the loop")
{
    char name[] = "d";

    loop_post(loop, "d", noting, name);
    loop_free(loop);
    loop = NULL;
    UNIT_STR(trace, "");
}

/* --- signals, slow callbacks ----------------------------------------------------------------- */

static void on_signal(void *aux, int number)
{
    (void)aux;
    note(number == SIGUSR1 ? "1" : number == SIGHUP ? "h" : "?");
}

UNIT_TEST(signals, "signals are told on the loop, each to its own function")
{
    UNIT_OK(loop_add_signal(loop, SIGUSR1, on_signal, NULL, &unit_err));
    UNIT_OK(loop_add_signal(loop, SIGHUP, on_signal, NULL, &unit_err));
    raise(SIGHUP);
    UNIT_STR(trace, "");
    turn();
    UNIT_STR(trace, "h");
    raise(SIGUSR1);
    turn();
    UNIT_STR(trace, "h1");
}

static void take_long(void *aux)
{
    clock_fake_set(clock_monotonic_us() + *(int64_t *)aux);
}

UNIT_TEST(slow_callbacks, "a callback that holds the loop is logged by name and shown, worst first")
{
    _cleanup_(str_freep) char *file = text_format("%s/slow.log", unit_directory());
    _cleanup_(str_freep) char *text = NULL;
    int64_t times[] = {5000, 70000, 20001};
    struct loop_slow slowest[2];

    UNIT_OK(log_open(file, LOG_FORMAT_TEXT, &unit_err));
    clock_fake_set(1000);
    loop_post(loop, "quick", take_long, &times[0]);
    loop_post(loop, "terrible", take_long, &times[1]);
    loop_post(loop, "slow", take_long, &times[2]);
    loop_post(loop, "slow", take_long, &times[0]);
    turn();
    UNIT_EQ(loop_slowest(loop, slowest, 2), 2);
    UNIT_STR(slowest[0].name, "terrible");
    UNIT_EQ(slowest[0].longest_us, 70000);
    UNIT_STR(slowest[1].name, "slow");
    UNIT_EQ(slowest[1].calls, 2);
    text = unit_read_file(file, NULL);
    UNIT_HAS(text, "terrible held the loop for 70 ms");
    UNIT_HAS(text, "slow held the loop for 20 ms");
    UNIT_TRUE(!strstr(text, "quick") && !strstr(text, "inbox"));
}
