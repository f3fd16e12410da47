/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One migration in the agent's memory, source or destination: what it is about, where it stands, what was
 * measured. Belongs to the loop's thread. It is reference-counted because jobs, calls and timers outlive
 * states; the list of the agent holds one reference until the end.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "agent/agent.h"
#include "agent/machine.h"
#include "agent/measure.h"
#include "agent/policy.h"
#include "agent/settings.h"
#include "agent/story.h"
#include "agent/turn.h"

struct parts;

enum migration_role { MIGRATION_SOURCE, MIGRATION_DESTINATION };

/* What the monitor measured and did (agent/monitor.c). */
struct migration_progress {
    int64_t started_us; /* libvirt's call; 0 = not yet */
    int64_t ended_us;
    struct virt_job job; /* newest sample */
    int64_t sampled_us;  /* when that was */
    bool has_job;
    double throughput;           /* bytes a second, smoothed */
    int64_t downtime_limit_ms;   /* in force */
    struct policy_told told;     /* by the newest sample */
    int64_t told_us;             /* when that was */
    bool last_pass;              /* the guest is to be stopped at the end of the pass that runs */
    int64_t paused_us;           /* the guest stopped for the switch-over; 0 */
    int64_t resumed_us;          /* destination, or source after a failure; 0 */
    int64_t downtime_ms;         /* measured; -1 = not known */
    int64_t average_throughput;  /* bytes a second, at the end */
    int announced;               /* ports announced at the switch-over */
    struct json_object *actions; /* array of sentences: what the policy and operators did */
};

/* agent/bindings.c: the host that Neutron wires the ports on, as far as the source knows. */
enum bindings_host { BINDINGS_SOURCE, BINDINGS_DESTINATION, BINDINGS_UNKNOWN };
struct bindings {
    enum bindings_host active, wanted, asked_for;
    bool asked; /* a request is under way */
    cloud_done_fn done;
    void *aux;
};

/* [net] switchover, in the order of what they do (agent/forwarding.h). */
enum switchover_mode {
    SWITCHOVER_MODE_OFF,
    SWITCHOVER_MODE_ANNOUNCE,
    SWITCHOVER_MODE_FORWARD,
    SWITCHOVER_MODE_HOLD
};

struct migration {
    unsigned references;
    struct agent *agent;
    struct migration *next;
    enum migration_role role;
    enum machine_state state;

    char *uuid; /* the migration's; fencing token everywhere */
    int64_t id; /* Nova's number */
    char *instance_uuid, *instance_name;
    char *source_host, *destination_host;
    struct json_object *context; /* of the request, verbatim */
    struct instance *instance;
    struct migration_record
        *record; /* Nova's Migration; NULL at a destination of a Python source */
    struct migrate_data *data;
    struct virt_guest *guest;      /* source: measured facts */
    struct json_object *disk_info; /* source: Nova's `disk` argument */
    bool block_migration;
    bool initially_paused;          /* the guest was paused before, and stays so */
    char status[40];                /* Nova's word, as last written */
    char *message;                  /* why it ended as it did; NULL */
    struct err failure;             /* first error; code ERR_NONE = none */
    enum machine_state final_state; /* what ROLLING_BACK ends in */

    struct settings settings;
    /* source, MiB/s, 0 = no limit: of memory, in force or from the start on; the same as libvirt's call got
     * it; of all disks together while they are copied, else 0 (source_bandwidth.c) */
    int64_t bandwidth_mib, bandwidth_given_mib, disks_bandwidth_mib;
    struct migration_turn { /* source: to switch over (agent/source_turn.c) */
        enum turn turn;
        int64_t given_us, rests_us; /* as in struct turn_claim */
        int64_t spared_us;          /* until then it gives way to nobody */
        bool disturbed;             /* since the newest sample that taught the policy */
        unsigned notes;             /* that were told of it */
    } turn;
    struct policy policy;
    struct policy_start start;   /* source: what the policy chose before libvirt's call */
    struct measurement measured; /* source: before libvirt's call */
    int long_measure_s; /* source: over which QEMU still measures the dirty rate; 0 = none */
    int64_t long_measure_due_us; /* when that ends */
    struct migration_progress progress;
    struct timeline timeline;
    unsigned stamps_kept; /* of the timeline, in the history */
    int64_t sample_due_s; /* since libvirt's call: before it no sample is kept */
    int64_t sample_stride_s;
    struct undo *undo; /* destination: journaled undo steps; used by one job at a time */
    struct net_armed *armed;
    struct switchover_peer *peer;            /* source */
    char switchover_key[SWITCHOVER_KEY_HEX]; /* destination */
    enum switchover_mode switchover_mode;    /* that both sides do */
    struct forward_source *forward_source;
    struct forward_destination *forward_destination;
    struct forward_counts forwarded; /* once it has ended */
    struct carrying_state {          /* agent/carrying.h */
        bool permitted;              /* destination */
        bool looking, look_again;
        bool binds_late; /* source: the bindings wait for the turn */
        bool lasts;      /* from the turn to the end */
        struct loop_timer *timer;
        cloud_done_fn done; /* who waits for the end */
        void *aux;
    } carrying;

    /* source */
    bool holds_place;
    bool destination_prepared; /* source: there may be something to take back there;
                                  destination: the answer was given, a guest may have come */
    bool abort_requested;
    bool abort_outstanding, abort_taken,
        abort_again;              /* libvirt is being asked; said yes; said no at first */
    int64_t abort_pause_us;       /* until it is asked again; 0 = at first */
    int64_t bandwidth_wanted_mib; /* that libvirt was told, or will be */
    bool bandwidth_outstanding;   /* it is being told; one call at a time, or they overtake */
    bool bandwidth_unsure;        /* it may have another one: it is told once more */
    atomic_bool switching;        /* between the pause and its outcome: no samples, no tuning */
    bool suspended_by_us;         /* force-complete paused the guest */
    bool force_waits;             /* for libvirt's job */
    bool memory_begun;            /* the disks, if any, are copied */
    bool forcing;                 /* and the call to libvirt is under way */
    atomic_bool suspending;       /* and has come to the pause; set by its worker */
    bool back_waits;              /* taking back waits for that call */
    bool post_copy_running, post_copy_possible;
    bool post_copy_lost;   /* its connection: the guest waits until it is recovered (both sides) */
    bool post_copy_gone;   /* the destination has no guest that could go on (both sides) */
    bool post_copy_unseen; /* source: the destination has not told that it saw that, for long */
    int64_t post_copy_lost_us; /* source: since then */
    bool post_copy_unstarted;  /* destination: it was found paused */
    bool peer_is_ours; /* the destination's agent: it asks while it waits for the guest's memory */
    bool recovery_waits;       /* for the next try */
    int recovery_tries;        /* since it was lost */
    int64_t recovery_tried_us; /* the last one; 0 = none yet */
    int64_t lost_period_us;    /* between the last sample and the next, while it is lost; else 0 */
    bool sample_outstanding;
    struct measure *measuring; /* the dirty rate, beside the preparation; NULL = not */
    bool start_held;           /* all is ready but that */
    struct bindings bindings;
    struct parts *parts; /* what the present state waits for (agent/parts.h); NULL */
    bool parts_held;     /* wait_timer, or a call to libvirt, holds one of them */
    int confirm_attempts;
    int tries;                                 /* of what the present state does, while it fails */
    void (*then)(struct migration *migration); /* migration_end() */
    struct json_object *ports_awaited; /* {port id: true}: network-vif-plugged still to come */
    struct loop_timer *monitor_timer, *log_timer, *wait_timer;
    int64_t last_saved_us; /* counters */
    bool save_outstanding;
    char *destination_xml;

    /* destination */
    atomic_bool called_off;  /* its preparation, which asks for it on its worker */
    bool announcing;         /* the ports' migrating_to is being written; the answer waits for it */
    bool journaling;         /* and for the record */
    bool wiring;             /* and for the networks' owner */
    atomic_bool wiring_ends; /* that wait is in vain: it asks for it on its worker */
    bool task_ended; /* Nova is told, or being told, that the instance has no task any more */
    bool told_back;  /* the source said so: an action event is open */
    struct json_object *streams; /* connections of migrations here when the source was last asked */

    bool writer_runs;                      /* a job that writes the record */
    struct migration_job *writers_waiting; /* further ones, oldest first */

    struct rpc_request *request;    /* the request that the present state answers; NULL */
    int64_t created_us, updated_us; /* realtime */
};

/* ---- list ---- */
struct migration *migration_new(struct agent *agent, enum migration_role role, const char *uuid,
                                const struct instance *instance);
struct migration *migration_ref(struct migration *migration);
void migration_unref(struct migration *migration);
/* Takes it out of the agent's list (its reference goes). */
void migration_forget(struct migration *migration);
/* The same after a while, by migration_wait(). */
void migration_forget_in(struct migration *migration, int64_t us);
/* `then` gets the migration after a while, unless another wait, or its end, comes first: there is one at a time.
 * `what` is for the log. */
void migration_wait(struct migration *migration, const char *what, int64_t us,
                    void (*then)(void *aux));
void migration_wait_end(struct migration *migration);
/* By the migration's uuid; NULL if none. */
struct migration *migration_find(struct agent *agent, enum migration_role role, const char *uuid);
/* The newest of an instance that is not at its end. */
struct migration *migration_find_instance(struct agent *agent, enum migration_role role,
                                          const char *instance_uuid);

/* The instance is about to leave: earlier migrations of it, ended but still repeating that it is here,
 * fall silent. Their announcements would turn the network back to this host. */
void migration_silence_others(struct migration *migration);

/* ---- status and account (agent/account.c) ---- */
/* Sets Nova's status word and saves record and account. */
void migration_set_status(struct migration *migration, const char *status);
/* The last status. Only when it is saved, or cannot be, the journal's record goes: a crash before tells it again.
 * `then` runs when both are done. */
void migration_end(struct migration *migration, const char *status,
                   void (*then)(struct migration *migration));
/* Saves the counters when they moved by a percent and the last save is live_migration_monitor_interval
 * ago; never two saves at once. */
void migration_save_counters(struct migration *migration);
/* Keeps the first failure, and a message for people. */
void migration_fail(struct migration *migration, const struct err *failure);
/* Notes an action of policy or operator: log line, account. */
void migration_note(struct migration *migration, const char *format, ...) _printf_(2, 3);
/* What is told of it now: samples are half a second apart, and the time goes on between them. */
struct policy_told migration_told(const struct migration *migration);
/* The record that computectl shows (lib/control.h says what is in it). New reference. */
struct json_object *migration_account(const struct migration *migration);

/* ---- journal (agent/record.c) ---- */
/* The journal's record of this migration as it stands. New reference. */
struct json_object *migration_to_record(const struct migration *migration);
/* A migration out of a record, put into the agent's list. */
int migration_from_record(struct agent *agent, struct json_object *record, struct migration **out,
                          struct err *e);
const char *migration_role_name(enum migration_role role);

/*
 * A job of a migration: runs on a worker with its own copy of everything (aux), ends on the loop. The
 * migration is referenced until the end. `journal_first`: the present record is written (on the worker)
 * before run is called; if that fails, run is not called and e is set.
 */
struct migration_job {
    struct migration *migration;
    const char *name;
    int (*run)(struct migration_job *job, struct err *e); /* worker */
    void (*done)(struct migration_job *job);              /* loop; failure in e */
    void (*release)(struct migration_job *job); /* loop; frees input, output; may be NULL */
    void *aux;
    bool removes_record;         /* it ends what the journal has of the migration */
    bool goes_on_without_record; /* taking back must not depend on a disk that is full */
    struct err e;
    int result;
    /* filled at submission */
    struct journal *journal;
    struct json_object *record;
    char *uuid;
    const char *role;
    bool long_call, writes;
    struct migration_job *next; /* waits for the writer before it */
};
/* Jobs that write or remove the record run one after the other, in order of submission. */
void migration_submit(struct migration *migration, const struct migration_job *job, bool long_call,
                      bool journal_first);
/* Takes the record away, again and again while that fails: one that stays would act on the instance at a later
 * start, wherever it is by then. `then` runs on the loop when it is gone. */
void migration_remove_record(struct migration *migration,
                             void (*then)(struct migration *migration));
/* Is what failed in the present state worth another try? While libvirtd is away always, otherwise a few times; what
 * the guest's state forbids is not. Counts in `tries`. */
bool migration_tries_again(struct migration *migration, const struct err *failure);
enum {
    MIGRATION_TRY_PAUSE_US = 3000000, /* until then */
    MIGRATION_LINGER_US = 2500000,    /* after the end: net_announce() repeats for so long */
};
/* At the agent's end: forgets jobs that wait, and their references. */
void migration_drop_waiting(struct migration *migration);

/* ---- actions of the machine ---- */
#define MACHINE_ACTIONS(X)                                                                         \
    X(source_enqueue)                                                                              \
    X(source_refuse)                                                                               \
    X(source_prepare)                                                                              \
    X(source_wait_ports)                                                                           \
    X(source_start)                                                                                \
    X(source_run)                                                                                  \
    X(source_observe)                                                                              \
    X(source_look_again)                                                                           \
    X(source_recover)                                                                              \
    X(source_call_off)                                                                             \
    X(source_abort_running)                                                                        \
    X(source_finish)                                                                               \
    X(source_ask_destination)                                                                      \
    X(source_clean)                                                                                \
    X(source_roll_back)                                                                            \
    X(source_end)                                                                                  \
    X(source_park)                                                                                 \
    X(destination_prepare)                                                                         \
    X(destination_refuse)                                                                          \
    X(destination_call_off)                                                                        \
    X(destination_ready)                                                                           \
    X(destination_arrived)                                                                         \
    X(destination_settle)                                                                          \
    X(destination_unsettled)                                                                       \
    X(destination_roll_back)                                                                       \
    X(destination_end)                                                                             \
    X(destination_park)
#define X(name) void name(struct migration *migration);
MACHINE_ACTIONS(X)
#undef X
/* Guards. */
bool source_abort_is_requested(const struct migration *migration);
bool source_destination_is_asked(const struct migration *migration);
bool source_awaits_ports(const struct migration *migration);
bool source_ends_completed(const struct migration *migration);
bool source_ends_failed(const struct migration *migration);
bool source_ends_cancelled(const struct migration *migration);

/* ---- source and destination, from outside the machine ---- */
/* live_migration: makes the migration and starts its machine. Owns the request. */
void source_accept(struct agent *agent, struct rpc_request *request);
/* Gives free places to queued migrations, in live_migration_order. */
void source_next(struct agent *agent);
/* agent/source_bandwidth.c: makes the shares of live_migration_host_bandwidth anew and tells libvirt what
 * changed. Cheap; after anything that they depend on. */
void source_share_bandwidth(struct agent *agent);
/* agent/source_turn.c: looks anew whose turn it is to switch over, and makes the shares anew if that changed. Cheap;
 * after anything that it depends on, and now and then. */
void source_turns(struct agent *agent);
int source_abort(struct migration *migration, struct err *e);
int source_force_complete(struct migration *migration, struct err *e);
int source_change_settings(struct migration *migration, struct json_object *changes, struct err *e);
void source_port_plugged(struct migration *migration, const char *port_id);
/* The destination says that it lost post-copy's connection too: the next try, unless the last one was just now. */
void source_post_copy_ready(struct migration *migration);
/* It says that its guest is gone, or was never started: there is nothing to recover. */
void source_post_copy_gone(struct migration *migration);

void destination_accept(struct agent *agent, struct rpc_request *request); /* pre_live_migration */
void destination_post(struct agent *agent, struct rpc_request *request);
void destination_rollback(struct agent *agent, struct rpc_request *request);

/* agent/source_bandwidth.c: of memory, in force: bytes a second; 0 = none. */
int64_t migration_bandwidth_limit(const struct migration *migration);
/* agent/source_measure.c: what is known of a migration before it starts, for the policy. */
struct policy_outlook source_outlook(const struct migration *migration);

/* agent/monitor.c */
void monitor_start(struct migration *migration);
void monitor_stop(struct migration *migration);
void monitor_limits_changed(struct migration *migration);
/* What stood still goes on: samples come at their usual pace again. */
void monitor_look_now(struct migration *migration);
/* libvirt says that a new pass over memory began: the best moment to look. */
void monitor_iteration(struct migration *migration, int iteration);
/* Final figures from the completed job's statistics. */
void monitor_completed(struct migration *migration, const struct virt_job *job);

/* agent/ports.c: VIFs -> ports and interfaces of the rooms net and virt */
struct port_list {
    struct net_port **items;
    size_t count;
};
void port_list_clear(struct port_list *list);
int ports_of_destination(const struct instance *instance, const struct migrate_data *data,
                         struct port_list *out, struct err *e);
int ports_of_instance(const struct instance *instance, struct port_list *out, struct err *e);
/* From an array of VIFs. */
int ports_of_network_info(struct json_object *network_info, const char *uuid, struct port_list *out,
                          struct err *e);
/* Those of the array that can be unplugged, appended to the list: one that was never bound is logged, and keeps
 * nothing of the others. */
void ports_to_unplug(struct json_object *network_info, const char *uuid, struct port_list *out);
struct json_object *port_list_to_json(const struct port_list *list);
int port_list_from_json(struct json_object *array, struct port_list *out, struct err *e);

/* agent/events.c: the guest that was paused runs at the source again; turns the network back, once. */
void source_reverted(struct migration *migration, int64_t at_us);

/* agent/recovery.c: looks at the journal after the start. */
void recovery_start(struct agent *agent);
/* Destination, in PREPARED or HERE: asks the source in a while what became of the migration, and again
 * for as long as it stays so. A destination whose source is gone must not stay prepared for ever. */
void recovery_watch(struct migration *migration, int64_t delay_us);
