/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an agent keeps of migrations that have ended: with the real history and journal, what is allocated does not grow
 * from one to the next. (A sanitizer has a heap of its own, which mem_in_use() does not see, and finds leaks itself.)
 */
#include "tests/unit/agent_world.h"

#include <sqlite3.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/json.h"

#define BEGUN "COMPUTED_TEST_MEMORY_BEGUN"

/* Blocks that a thread keeps for its next allocation count as in use: there shall be none, from the program's start.
 * What is preloaded, as by valgrind, has a heap of its own, and need not bear to be left. */
__attribute__((constructor)) static void without_thread_caches(int argc, char **argv)
{
    (void)argc;
    if (getenv(BEGUN) || getenv("LD_PRELOAD"))
        return;
    (void)setenv(BEGUN, "1", 1);
    (void)setenv("GLIBC_TUNABLES", "glibc.malloc.tcache_count=0", 1);
    (void)execv("/proc/self/exe", argv);
}

static struct world *w;

static void close_world(void)
{
    world_close(w);
    w = NULL;
}

static void open_world(void)
{
    w = world_open(&(struct world_options){.standalone = true});
}
UNIT_FIXTURE(open_world, close_world)

enum { FIRST = 30, ALL = 130, BYTES_EACH = 32, HISTORY_MAX = 384 * 1024 };

/* The answer to what the agent asks meanwhile; then all that lingers has gone. */
static void end(enum rpc_method_id method)
{
    if (fake_rpc_waiting(w->agent.rpc, method))
        fake_rpc_answer(fake_rpc_waiting(w->agent.rpc, method), NULL);
    world_pass(w, 3 * USEC_PER_SEC, USEC_PER_SEC);
    UNIT_TRUE(w->agent.migrations == NULL);
    virt_fake_remove(w->agent.virt, WORLD_INSTANCE);
    world_forget(w);
}

static void leave(const char *uuid, enum virt_outcome outcome)
{
    struct json_object *args = world_args("030");

    json_add_string(world_data(args, "migration"), "uuid", uuid);
    world_add_guest(w, VIRT_STATE_RUNNING);
    virt_fake_samples(w->agent.virt, WORLD_INSTANCE,
                      &(struct virt_job){.active = true,
                                         .memory_total = 1000,
                                         .memory_processed = 600,
                                         .memory_remaining = 400,
                                         .iteration = 1,
                                         .downtime_ms = -1},
                      1);
    world_ask(w, RPC_METHOD_live_migration, args);
    world_run_source(w);
    world_pass(w, 2 * USEC_PER_SEC, USEC_PER_SEC);
    virt_fake_finish(w->agent.virt, WORLD_INSTANCE, outcome, "the connection broke");
    WORLD_UNTIL(
        w, fake_rpc_waiting(w->agent.rpc, RPC_METHOD_post_live_migration_at_destination) ||
               fake_rpc_waiting(w->agent.rpc, RPC_METHOD_rollback_live_migration_at_destination));
}

static void completes(const char *uuid)
{
    leave(uuid, VIRT_OUTCOME_COMPLETED);
    end(RPC_METHOD_post_live_migration_at_destination);
}

static void fails(const char *uuid)
{
    leave(uuid, VIRT_OUTCOME_FAILED);
    end(RPC_METHOD_rollback_live_migration_at_destination);
}

/* Prepared for, and taken back. */
static void is_called_off(const char *uuid)
{
    struct json_object *args = world_pre_args(uuid);

    json_object_object_del(args, "disk");
    json_add(args, "destroy_disks", json_object_new_boolean(1));
    world_ask(w, RPC_METHOD_pre_live_migration, world_pre_args(uuid));
    world_settle(w);
    world_ask(w, RPC_METHOD_rollback_live_migration_at_destination, args);
    end(RPC_METHOD_COUNT);
}

/* Without the history's, which grows until its page cache is full. */
static int64_t in_use(void)
{
    return (int64_t)mem_in_use() - sqlite3_memory_used();
}

static void stays_flat(void (*move)(const char *uuid))
{
    int64_t first = 0;

    for (int i = 0; i < ALL; i++) {
        char uuid[37];
        text_new_uuid(uuid);
        move(uuid);
        if (i == FIRST - 1)
            first = in_use();
    }
    int64_t more = in_use() - first, history = sqlite3_memory_used();
    printf("# %" PRId64 " bytes after %d migrations, %+" PRId64
           " after %d; the history takes %" PRId64 "\n",
           first, FIRST, more, ALL, history);
    UNIT_TRUE(more <= (ALL - FIRST) * BYTES_EACH);
    UNIT_TRUE(history <= HISTORY_MAX);
}

UNIT_TEST(completed, "a hundred migrations that complete leave nothing in memory")
{
    stays_flat(completes);
}

UNIT_TEST(failed, "a hundred migrations that fail leave nothing in memory")
{
    stays_flat(fails);
}

UNIT_TEST(called_off,
          "a hundred guests that were prepared for and taken back leave nothing in memory")
{
    stays_flat(is_called_off);
}
