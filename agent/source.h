/* SPDX-License-Identifier: Apache-2.0 */
/* What the source's files share among themselves; nothing for others. */
#pragma once

#include "agent/migration.h"

/* agent/source_start.c: pure helpers of the start. */
/* The destination's XML out of the source's, with what the destination answered (nova-contract 5.3). */
int source_destination_xml(const struct instance *instance, const struct migrate_data *data,
                           const char *xml, char **out, struct err *e);
/* libvirt's URI of the destination and the address of the data streams (5.4). Callers free;
 * *migrate_uri is NULL when none is to be given. */
void source_uris(const struct conf *conf, const char *host, const char *address,
                 char **destination_uri, char **migrate_uri);
/* libvirt applies the limit to each disk's stream apart: the operator's limit is shared among them. */
int64_t source_disk_bandwidth(int64_t bandwidth_mib, size_t disks);

/* agent/source_measure.c */
/* What the outlook of a migration that may begin is made of; all borrowed. */
struct outlook_facts {
    const struct instance *instance;
    const struct virt_guest *guest; /* NULL = not looked at */
    const char *destination;
    bool block_migration;
    int64_t bandwidth_mib; /* in force: its own limit, or its share of the host's; 0 = none */
    struct measurement measured;
};
struct policy_outlook source_outlook_of(const struct agent *agent,
                                        const struct outlook_facts *facts);
/* Sets the refusal of what nothing that is permitted can end. Returns -1. */
int source_hopeless(const char *instance_uuid, const char *destination, int64_t downtime_ms,
                    const struct policy_outlook *outlook, struct err *e);
/* Begins to measure the guest's dirty rate beside the destination's preparation, where the policy wants it. */
void source_measure(struct migration *migration);
/* All is ready for libvirt's call: waits for the rest of the measurement, lets the policy choose the start,
 * and goes on (STARTED, or START_FAILED where it is hopeless and to be refused). */
void source_ready(struct migration *migration);

/* agent/source_bandwidth.c: what a migration of that limit (MiB/s, 0 = none) would have in force if it had a place
 * beside those that have one now; 0 = no limit. */
int64_t source_bandwidth_foreseen(const struct agent *agent, int64_t limit_mib);
/* MiB as bytes, at most what an int64_t holds. */
int64_t source_bandwidth_bytes(int64_t mib);

/* agent/source_turn.c: it gives way to nobody for a while: what an operator asked for is done first. */
void source_turn_spare(struct migration *migration);

/* agent/source.c: what a migration that came now would find. */
struct source_queue {
    int64_t places;         /* 0 = any number */
    unsigned in_use, ahead; /* those queued that go before it */
    bool at_once;
};
struct source_queue source_queue_foreseen(struct agent *agent, int64_t memory_mb);

/* agent/source_run.c: libvirt's call for a post-copy that lost its connection. */
void source_call_again(struct migration *migration);

/* agent/source_post_copy.c */
/* Into the account that the destination asks for, while post-copy is to be recovered: this host's "addresses" and its
 * "streams" (net/streams.h). */
void source_add_streams(const struct migration *migration, struct json_object *account);
/* The guest was stopped for post-copy: it is the other host's now, and is not called back. */
void source_post_copy_began(struct migration *migration);
/* Its connection is gone; again and again the same until it is there. */
void source_post_copy_lost(struct migration *migration, int64_t at_us);
void source_post_copy_recovered(struct migration *migration, int64_t at_us);
/* Something happened to the domain: in RECOVERING, while nothing is tried, it is looked at now. */
void source_post_copy_look(struct migration *migration);

/* agent/source.c: lets the next queued migration run. */
void source_give_up_place(struct migration *migration);

/* agent/source_tune.c: what libvirt is told while it moves the guest; each returns at once. */
/* Between libvirt's call and its outcome, as far as this agent knows. */
bool source_is_running(const struct migration *migration);
/* Another bandwidth_mib: libvirt is told, if the migration runs. */
void source_bandwidth_changed(struct migration *migration);
/* Libvirt answers: it is told again if it may not know the bandwidth in force, so that nobody stays slowed down. */
void source_make_bandwidth_sure(struct migration *migration);
/* For a guest that is paused by force: what is left goes as fast as it may. */
void source_lift_bandwidth(struct migration *migration);
void source_set_downtime(struct migration *migration, int64_t downtime_ms);
/* `why` is for the account. */
void source_start_post_copy(struct migration *migration, const char *why);
/* By post-copy where it is possible, by a pause otherwise; waits for libvirt's job (force_waits). */
void source_force(struct migration *migration, const char *why);
void source_force_waiting(struct migration *migration);
/* Wanted, and libvirt has not said yes: it had no job yet, or was away. */
bool source_abort_is_due(const struct migration *migration);
/* Asks libvirt if it is due. */
void source_abort_again(struct migration *migration);
/* After how long that is next; each time longer. */
int64_t source_abort_pause_us(struct migration *migration);

/* agent/source_roll_back.c: the call that pauses the guest by force has ended: taking back may go on. */
void source_forcing_ended(struct migration *migration);

/* agent/source_end.c: libvirt's call came back, or observation told the end. */
void source_outcome(struct migration *migration, enum virt_outcome outcome, const struct err *e);

/* agent/bindings.c. At the pause, and when the guest runs here again: asked at once, answered later. */
void bindings_switch(struct migration *migration);
void bindings_return(struct migration *migration);
/* As parts (agent/parts.h): the destination's are active; the source's are, and the destination's gone. */
void bindings_part_switch(struct migration *migration, cloud_done_fn done, void *aux);
void bindings_part_return(struct migration *migration, cloud_done_fn done, void *aux);
