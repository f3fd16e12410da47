/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hypervisor in memory for tests: the test scripts domains, statistics, outcomes, events, errors and
 * calls that hang, and reads what was asked of it. Use the object through virt/virt.h as any other.
 *
 * All functions may be called from any thread; events are told at once on the loop's thread, else
 * posted to it. `op` is a call's name: host_read host_facts describe state list migratable_xml metadata
 * migrate sample completed set_downtime set_bandwidth start_post_copy post_copy abort suspend resume destroy
 * destroy_incoming undefine create define start shutdown reboot power_off save save_remove attach detach
 * xml diagnostics copy_disk resources dirty_rate_begin dirty_rate_look processor_ns.
 *
 * Calls of a guest's life tell the events that libvirt would: DEFINED, STARTED, PAUSED (create); STARTED
 * (start); STOPPED (shutdown, power_off, save). Attached devices stand in the domain's XML until they are
 * detached; a copied disk is a file with the text "copy of <target>".
 */
#pragma once

#include "virt/virt.h"
#include "virt/virt_provider.h"

/* Up from the start; the first `connection` callback is posted to the loop. */
int virt_fake_new(struct virt **out, struct loop *loop, const struct virt_callbacks *callbacks,
                  void *aux, struct err *e);

/* --- domains --- */

/* xml NULL = a small one with that uuid, name and no disks. Persistent. */
void virt_fake_add(struct virt *virt, const char *uuid, const char *name, const char *xml,
                   enum virt_state state);
void virt_fake_remove(struct virt *virt, const char *uuid);
void virt_fake_set_state(struct virt *virt, const char *uuid, enum virt_state state);
/* An unfinished arrival: paused, never ran. virt_fake_set_state() ends that. */
void virt_fake_set_incoming(struct virt *virt, const char *uuid);
void virt_fake_set_metadata(struct virt *virt, const char *uuid, const char *text);
/* It does as if it heard nothing: a shutdown has no effect, detach ends with ERR_TIMEOUT (at once). */
void virt_fake_set_stubborn(struct virt *virt, const char *uuid, bool stubborn);
/* True if it has a saved memory image (virt_guest_save()). */
bool virt_fake_saved(struct virt *virt, const char *uuid);
/* The domain's XML as it is now; the caller frees; NULL = no such domain. */
char *virt_fake_xml(struct virt *virt, const char *uuid);
enum virt_state virt_fake_state(struct virt *virt, const char *uuid);

/* --- the host --- */

/* Down: calls fail with ERR_HYPERVISOR, a migrate call under way ends as UNKNOWN. */
void virt_fake_set_up(struct virt *virt, bool up, const char *why);
/* Edits the facts that virt_check_destination() judges; by default every guest fits. */
void virt_fake_set_facts(struct virt *virt,
                         void (*edit)(void *aux, const struct virt_guest *guest,
                                      struct virt_host_facts *facts),
                         void *aux);
void virt_fake_set_memory(struct virt *virt, int64_t total, int64_t available); /* bytes */
/* Edits what virt_resources_read() gives: a host of 2 CPUs, 64 GiB of memory, 100 GB of disk. */
void virt_fake_set_resources(struct virt *virt,
                             void (*edit)(void *aux, struct virt_resources *resources), void *aux);

/* --- a migration --- */

/* Statistics: each sample call takes the next, the last repeats. Copied. */
void virt_fake_samples(struct virt *virt, const char *uuid, const struct virt_job *jobs,
                       size_t count);
/* What is measured, at once; 0 at the beginning, -1 = it takes its time. */
void virt_fake_set_dirty_rate(struct virt *virt, const char *uuid, int64_t bytes_per_s);
/* What virt_guest_processor_ns() tells; 0 at the beginning. */
void virt_fake_set_processor_ns(struct virt *virt, const char *uuid, int64_t ns);
void virt_fake_completed(struct virt *virt, const char *uuid, const struct virt_job *job);
/*
 * Ends the migrate call of that domain, now or as soon as it begins. COMPLETED takes the domain away;
 * `text` is the error of the others. Without it the call lasts until virt_migration_abort(), which ends
 * it as CANCELLED.
 */
void virt_fake_finish(struct virt *virt, const char *uuid, enum virt_outcome outcome,
                      const char *text);
/* Waits until the migrate call of that domain is under way; false after timeout_ms. */
bool virt_fake_wait_migrating(struct virt *virt, const char *uuid, int timeout_ms);

/* What the last migrate call of that domain asked for; strings are owned by the fake, and stay until
 * the next one or until it is freed. NULL when there was none. */
const struct virt_migration *virt_fake_migration(struct virt *virt, const char *uuid);

/*
 * In place of the script, for a test that plays the hypervisor itself. `enter` comes first in every call; -1 = the
 * call ends with *e and has no effect. `migrate` is the whole call: on the caller's thread, without a lock; whether
 * the domain has a job is said by virt_fake_set_job(), and nothing else is done to it. `abort` is told of
 * virt_migration_abort(). NULL members: the script.
 */
struct virt_fake_player {
    int (*enter)(void *aux, const char *op, const char *uuid, struct err *e);
    enum virt_outcome (*migrate)(void *aux, const struct virt_migration *migration);
    void (*abort)(void *aux, const char *uuid);
    void *aux;
};
void virt_fake_play(struct virt *virt, const struct virt_fake_player *player);
void virt_fake_set_job(struct virt *virt, const char *uuid, bool active);

/* --- events --- */

void virt_fake_event(struct virt *virt, const char *uuid, enum virt_event event);
void virt_fake_iteration(struct virt *virt, const char *uuid, int iteration);
void virt_fake_job_completed(struct virt *virt, const char *uuid, const struct virt_job *job);

/* --- trouble --- */

/* The next `times` calls of `op` fail with that (-1 = for ever, 0 = no more). */
void virt_fake_fail(struct virt *virt, const char *op, enum err_code code, const char *text,
                    int times);
/* Calls of `op` hang until it is set to false, or the fake is freed. */
void virt_fake_hang(struct virt *virt, const char *op, bool hang);

/* --- what was asked --- */

/* "set_downtime <uuid> 50", in order; NULL-terminated, caller frees with text_vector_free(). */
char **virt_fake_calls(struct virt *virt);
unsigned virt_fake_count(struct virt *virt, const char *op);
void virt_fake_forget_calls(struct virt *virt);
