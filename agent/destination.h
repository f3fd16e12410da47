/* SPDX-License-Identifier: Apache-2.0 */
/* What the destination's files share, and what recovery and events need of them; nothing for others. */
#pragma once

#include "agent/migration.h"

/* Ports armed (again): what an earlier set had still to announce is dropped. */
void destination_arm(struct migration *migration);
/* After a restart, in PREPARED: ports armed again, the direct line open with the key of the record. */
void destination_rearm(struct migration *migration);

/* agent/destination_wiring.c: waits on a worker until the ports are wired, once Neutron knows that they move and this
 * host that they are here; calls destination_answer_prepared() then. Where there is nothing to wait for, it does
 * nothing. */
void destination_wait_for_wiring(struct migration *migration);
/* Answers the request if all that it waits for is done, else does nothing. */
void destination_answer_prepared(struct migration *migration);

/* Is the source an agent of ours? Nova's own would not understand what we add for it. */
bool destination_peer_is_ours(const struct migration *migration);

/* agent/destination_post_copy.c: the source's post-copy lost its connection, and this is what it has now ("addresses",
 * "streams"; source_add_streams()). Looks whether it is known here too, and breaks the half of it that may be left. */
void destination_post_copy_look(struct migration *migration, struct json_object *source);

/* agent/destination_settle.c */
/* The word that the source deletes its disks on: read back from libvirt, now. The guest runs here with all its memory
 * (or is paused, where that is right), and its directory is its own from here on. BLOCKS. */
int destination_confirm(struct virt *virt, const struct conf *conf, const char *uuid,
                        bool may_be_paused, struct err *e);
/* The guest was paused at the source already. */
bool destination_may_be_paused(const struct instance *instance);
/* The guest is here, and the source may go on: answers the open request, if there is one. */
void destination_answer_source(struct migration *migration);

/* Ends the open request, if there is one, with the first failure. */
void destination_refuse_request(struct migration *migration);

/* ---- undo steps in the journal (agent/destination_undo.c) ---- */

/* What the preparation needs to write its undo steps: the migration's record as it was at submission. Nothing more is
 * written, and so nothing more is made, once it is called off. */
struct destination_saver {
    struct journal *journal;
    const atomic_bool *called_off;
    char *uuid;
    struct json_object *record;
};
void destination_saver_fill(struct destination_saver *saver, struct migration *migration);
void destination_saver_clear(struct destination_saver *saver);
/* The undo list of one job: the steps that are known so far, saved through the job's saver; NULL = only in memory. */
struct undo *destination_undo_of(struct migration *migration, struct destination_saver *saver);
/* The job is over: its list becomes the migration's, without a way to save. */
void destination_take_undo(struct migration *migration, struct undo *undo);
