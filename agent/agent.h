/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent: the rooms put together, and the list of migrations. One struct, owned by the loop's thread;
 * workers get copies of what they need and give results back, they never look in here.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "agent/journal.h"
#include "cloud/cloud.h"
#include "conf/conf.h"
#include "lib/loop.h"
#include "lib/undo.h"
#include "lib/workers.h"
#include "net/net.h"
#include "net/channel.h"
#include "net/forward.h"
#include "net/switchover.h"
#include "rpc/rpc.h"
#include "virt/virt.h"

struct conf_sources;
struct control;
struct drain;
struct migration;
struct node;
struct power_sync;
struct image_manager;
struct host_pair;
struct measure_early;
struct operation;

struct agent {
    struct loop *loop;
    struct conf *conf;         /* swapped as a whole at reload */
    char *host;                /* our service host name */
    struct workers *workers;   /* short blocking calls */
    struct workers *migrators; /* calls that last as long as a migration */
    struct rpc *rpc;
    struct virt *virt;
    struct net *net;
    struct cloud *cloud;
    struct journal *journal;
    struct switchover *switchover;    /* NULL while the direct line was never wanted */
    struct channel_listener *streams; /* NULL while forwarding was never wanted */
    struct control *control;
    struct conf
        *undo_conf; /* what the undo rows use: the snapshot of the start, whatever is reloaded */
    const struct undo_handler *undo_handlers; /* rows of virt and net, ended by name NULL; owned */
    struct migration *migrations;             /* list, newest first */
    struct json_object *unfinished_builds;    /* records of the journal still to be taken back */
    struct operation *operations;             /* in order of arrival */
    struct host_pair *host_pairs;             /* agent/host_pair.h */
    struct measure_early *measured_early;     /* agent/measure_early.h */
    unsigned running_out;                     /* source migrations that hold a place */
    int64_t started_us;
    bool draining;             /* SIGTERM: no new migrations */
    bool closing;              /* the loop has ended: what comes back begins nothing new */
    bool recovered;            /* unfinished migrations were looked at since the start */
    struct rpc_request **held; /* requests that came before that */
    size_t held_count;
    struct drain *drain;                 /* agent/drain.h; NULL before the first one */
    struct node *node;                   /* agent/node.h; NULL in standalone */
    struct image_manager *image_manager; /* agent/image_manager.h; NULL in standalone */
    struct power_sync *power_sync;       /* agent/power_sync.h; NULL until the host is registered */
    struct err fatal;                    /* why the agent ends though nobody asked it to */
    const struct conf_sources *sources;  /* where the configuration comes from; NULL in tests */
    /* agent_reload(), or a test's own */
    int (*reload)(struct agent *agent, struct json_object **report, struct err *e);
};

/* agent/reload.c: parses, validates and applies all or nothing; report is {"changed", "needs_restart"}. */
int agent_reload(struct agent *agent, struct json_object **report, struct err *e);

/* agent/endpoints.c: an RPC request that passed the method table. Owns the request. Before the journal
 * was looked at nobody may act on a migration, and before the host is registered nobody on an instance:
 * until then requests are held. */
void agent_rpc_request(void *aux, struct rpc_request *request);
/* Takes up what was held when all is ready (agent/recovery.c, agent/node.c), or drops it unanswered at
 * the end. */
void agent_rpc_release(struct agent *agent);
/* agent/events.c: what virt, net's direct line and rpc tell. */
void agent_virt_connection(void *aux, bool up, const char *why);
void agent_virt_event(void *aux, const char *uuid, enum virt_event event, int64_t at_us);
void agent_virt_iteration(void *aux, const char *uuid, int iteration, int64_t at_us);
void agent_virt_job_completed(void *aux, const char *uuid, const struct virt_job *job,
                              int64_t at_us);
/* Opens the direct line, and listens for streams of frames, if [net] switchover wants it and it was not done; again
 * after each reload. */
int agent_switchover_open(struct agent *agent, struct err *e);
/* Whether new migrations use it. */
bool agent_switchover_is_on(const struct agent *agent);
void agent_switchover_signal(void *aux, const char *migration_uuid, enum switchover_signal signal,
                             int64_t at_us);
void agent_rpc_state(void *aux, bool up, const char *why);
/* The IP address of the direct line: [agent] migration_address, else live_migration_inbound_addr, else
 * my_ip. Borrowed from the configuration. */
const char *agent_direct_address(const struct conf *conf);
