/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by virt/fake*.c. Nobody else includes it. */
#pragma once

#include <pthread.h>

#include "lib/vector.h"
#include "virt/fake.h"

struct domain {
    char *uuid, *name, *xml, *metadata;
    enum virt_state state;
    bool incoming, here;
    bool saved, stubborn;
    struct virt_job *samples;
    size_t sample_count, sample_next;
    struct virt_job completed;
    int64_t dirty_rate, processor_ns;
    int dirty_seconds; /* of the measurement that was begun; 0 = none */
    bool migrating, finished, aborted;
    enum virt_outcome outcome;
    char *outcome_text;
    struct virt_migration migration; /* owned strings */
    bool has_migration;
};

struct trouble {
    char *op, *text;
    enum err_code code;
    int times;
    bool hang;
};

DEFINE_VECTOR(domains, struct domain *)
DEFINE_VECTOR(troubles, struct trouble)
DEFINE_VECTOR(lines, char *)

struct fake {
    struct virt base;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool stopping;
    char *why;
    int64_t memory_total, memory_available;
    void (*edit)(void *aux, const struct virt_guest *guest, struct virt_host_facts *facts);
    void *edit_aux;
    void (*edit_resources)(void *aux, struct virt_resources *resources);
    void *edit_resources_aux;
    struct domains domains;
    struct troubles troubles;
    struct lines calls;
    struct virt_fake_player player;
};

static inline struct fake *fake_of(struct virt *virt)
{
    return (struct fake *)virt;
}

struct news {
    struct virt *virt;
    enum { NEWS_CONNECTION, NEWS_EVENT, NEWS_ITERATION, NEWS_JOB } kind;
    char *uuid, *why;
    bool up;
    enum virt_event event;
    int iteration;
    struct virt_job job;
    int64_t at_us;
};

void fake_lock(struct fake *fake);
void fake_unlock(struct fake *fake); /* and wakes whoever waits for a change */
struct domain *fake_find(struct fake *fake, const char *uuid);
struct domain *fake_need(struct fake *fake,
                         const char *uuid); /* scripts may come before the domain */
/* Takes the lock for a call, records it, and lets scripted trouble happen. With -1 the lock is free. */
int fake_enter(struct fake *fake, const char *op, const char *uuid, const char *rest,
               struct err *e);
/* fake_enter() for a call about a domain that must be here. */
int fake_enter_domain(struct fake *fake, const char *op, const char *uuid, const char *rest,
                      struct domain **out, struct err *e);
/* News for the loop: at once on its own thread unless `later`. Takes what->why. */
void fake_post(struct virt *virt, const struct news *what, const char *uuid, bool later);

/* --- fake_life.c --- */

int fake_create(struct virt *virt, const char *xml, bool paused, struct err *e);
int fake_define(struct virt *virt, const char *xml, struct err *e);
int fake_start(struct virt *virt, const char *uuid, struct err *e);
int fake_shutdown(struct virt *virt, const char *uuid, struct err *e);
int fake_reboot(struct virt *virt, const char *uuid, struct err *e);
int fake_power_off(struct virt *virt, const char *uuid, struct err *e);
int fake_save(struct virt *virt, const char *uuid, struct err *e);
int fake_save_remove(struct virt *virt, const char *uuid, struct err *e);
int fake_attach(struct virt *virt, const char *uuid, const char *device_xml, struct err *e);
int fake_detach(struct virt *virt, const char *uuid, const char *device_xml, int64_t timeout_us,
                struct err *e);
int fake_xml(struct virt *virt, const char *uuid, char **out, struct err *e);
int fake_diagnostics(struct virt *virt, const char *uuid, struct json_object **out, struct err *e);
int fake_copy_disk(struct virt *virt, const char *uuid, const char *target, const char *path,
                   const char *format, struct err *e);
int fake_resources(struct virt *virt, struct virt_resources *out, struct err *e);
