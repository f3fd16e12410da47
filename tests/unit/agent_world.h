/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One host for tests of the agent: a real loop, workers and journal, the fake hypervisor and wiring
 * (Linux bridges are the fake's too), an RPC whose peers the test plays, and a control plane that writes
 * down what it is asked (or the real standalone one). Time stands still unless the test moves it.
 *
 * Its messages are the recorded ones of a real cloud: instance cap2 goes from os-hosta to os-hostb.
 */
#pragma once

#include "agent/migration.h"
#include "net/fake.h"
#include "tests/unit/fake_rpc.h"
#include "tests/unit/unit.h"
#include "virt/fake.h"

#define WORLD_INSTANCE  "fa70925f-2d0d-4024-871f-903f3c94d32b"
#define WORLD_MIGRATION "34082c59-a44b-4000-9999-43a9a0767be2"
#define WORLD_OTHER     "11111111-2222-4333-8444-555555555555" /* another migration */
#define WORLD_PORT      "9cf193f1-870b-4829-8081-1945ddc3e3fc"
#define WORLD_TAP       "tap9cf193f1-87"

struct world_options {
    const char *host;         /* NULL = os-hosta */
    bool standalone;          /* the real control plane, in a file */
    bool switchover;          /* the direct line, on 127.0.0.1 */
    bool quiet;               /* no log of its own */
    unsigned threads;         /* 0 = 1: jobs run in order of submission */
    const char *settings[13]; /* further "group.name", "value", ..., NULL */
};

struct world {
    struct agent agent;
    struct world_options options;
    char *directory; /* its own, below unit_directory() */
    char *instances; /* instances_path */
    char **lines;    /* what happened, oldest first: see world_lines() */
    size_t line_count;
    unsigned bindings_fail;           /* so many calls on port bindings fail */
    struct json_object *network_info; /* what the network service has; NULL until a test sets it */
    const char *image_format;         /* what the image service says of its data; NULL = raw */
    struct json_object *backups;      /* what the image service has */
    struct json_object *places; /* {instance: what the API says of its place}; others are busy */
    bool knows_instance;        /* the control plane: that of the recorded requests */
    const char *task_state;     /* of the instance, as the control plane tells it */
    struct json_object *rescheduled; /* arguments of the last build_instances */
};

/* The world of the running test; world_close() is safe without one. */
struct world *world_open(const struct world_options *options);
void world_close(struct world *w);
/* The agent ends as at a power cut, and another one begins on the same journal, hypervisor gone on. */
void world_restart(struct world *w);
/* Its two halves, for tests that turn the loop themselves: with the first the agent's memory and its connection
 * to the hypervisor are gone, the second begins with the look at the journal. */
void world_crash(struct world *w);
void world_start(struct world *w);
/* Called before each effect on the wiring and the control plane of the agent; -1 = it has none, and fails with *e.
 * One of the program; NULL = none. */
void world_gate(int (*gate)(void *aux, struct err *e), void *aux);

/* --- time and work --- */

/* Lets everything that was begun come to its end: several rounds of all jobs and posts. */
void world_settle(struct world *w);
/* Moves the clock and lets due timers run and settle, in steps of at most step_us. */
void world_pass(struct world *w, int64_t us, int64_t step_us);
/* Turns the loop until the condition holds; a failure after 5 s of real time. */
#define WORLD_UNTIL(w, condition)                                                                  \
    __extension__({                                                                                \
        int world_turns = 0;                                                                       \
        while (!(condition) && world_turns++ < 5000)                                               \
            world_turn(w);                                                                         \
        UNIT_TRUE(condition);                                                                      \
    })
void world_turn(struct world *w); /* one turn of at most 1 ms */

/* --- what happened --- */

/*
 * Lines: "status <role> <word>", "counters", "event <name>", "event <name> done", "event <name> failed:
 * <text>", "bindings <activate|delete|announce> <host>", "allocations <revert|drop>", "fault <text>",
 * "call|cast <method> <server> [<state in the journal>]",
 * "instance saved on <host>: <field>=<value> ..., expecting <task state>", "instance destroyed",
 * "info cache of <n>", "block device saved|destroyed <name>", "vif <port> <mac>", "vifs deleted",
 * "reschedule: <why>", "allocation deleted", "allocation of this host left", "migration context dropped",
 * "ports allocated|released|read|moved here", "server group <hint>|of the instance looked at",
 * "image <id> read|downloaded|uploaded as <format>|deleted", "backups of type <type> read", "move <uuid> to
 * <host|any>", "whereabouts <uuid>", "service <enabled|disabled>", "instance read". Each of these
 * calls fails at the fault point "world.<call>".
 */
unsigned world_count(const struct world *w, const char *beginning);
/* Is it one of the fake hypervisor's calls, word for word? */
bool world_hypervisor_was_told(const struct world *w, const char *call);
/* The place of the first line that begins so; SIZE_MAX if none does. */
size_t world_place(const struct world *w, const char *beginning);
/* There are lines that begin so, in this order; NULL-terminated. */
void world_in_order(const struct world *w, const char *const *beginnings);
/* As if nothing had happened so far: lines, and what the fakes were asked. */
void world_forget(struct world *w);
void world_print(const struct world *w); /* as TAP comments, when a test is written */
/* Is there such a part in the log? */
bool world_logged(struct world *w, const char *part);
/* The status words of a role so far, joined by spaces; the caller frees. */
char *world_words(const struct world *w, const char *role);

/* The journal's record of the migration; NULL if there is none. New reference. */
struct json_object *world_record(struct world *w, const char *uuid, const char *role);
/* The state in that record; "-" if there is none. Static until the next call. */
const char *world_state(struct world *w, const char *uuid, const char *role);
/* Writes that record as if a former agent had left it. */
void world_leave_record(struct world *w, const char *uuid, const char *role,
                        struct json_object *record);
/* The migration in memory; NULL. */
struct migration *world_migration(struct world *w, enum migration_role role);

/* --- messages --- */

/* Arguments of a recorded request, "030" for live_migration and so on. New reference. */
struct json_object *world_args(const char *number);
/* The same of the recorded boot and deletion: "008" is build_and_run_instance. */
struct json_object *world_boot_args(const char *number);
/* The result of a recorded reply. */
struct json_object *world_result(const char *number);
/* A primitive's data: data(args.instance) */
struct json_object *world_data(struct json_object *args, const char *object);
struct fake_asked *world_ask(struct world *w, enum rpc_method_id method, struct json_object *args);

/* --- scenes --- */

/* The guest runs here, with its interface. */
void world_add_guest(struct world *w, enum virt_state state);
/* Its directory with a file of that name. */
void world_add_file(struct world *w, const char *name);
bool world_has_file(struct world *w, const char *name); /* below instances_path */

/* live_migration as recorded; up to the question to the destination. */
struct fake_asked *world_begin_source(struct world *w);
/* The recorded answer to it; up to libvirt's call. */
void world_run_source(struct world *w);
/* pre_live_migration with a nested migration of that uuid (NULL = none, as a Python source). */
struct json_object *world_pre_args(const char *uuid);
struct fake_asked *world_prepare_destination(struct world *w);
