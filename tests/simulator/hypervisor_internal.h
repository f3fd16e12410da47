/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by hypervisor.c and post_copy.c: the one migration that both play. */
#pragma once

#include "tests/simulator/simulator.h"

enum phase {
    NO_JOB,
    COPYING,
    SWITCHING,
    ARRIVED,
    LEAVING,  /* stopped at the source for post-copy, and not started at the destination */
    POST_COPY /* it runs at the destination, and a part of its memory is at the source */
};
enum { NEWS_MAX = 64, PASSES_MAX = 12 };

struct news {
    struct host *host;
    enum virt_event event;
    int iteration; /* 0 = an event */
};

struct hypervisor {
    enum phase phase;
    unsigned passes, left;
    bool aborted, suspended_before, guest_died, last_word_missing, forced;
    bool call_waits, call_over; /* the agent's own call */
    enum virt_outcome call_outcome;
    struct news news[NEWS_MAX];
    unsigned news_count;

    /* post-copy */
    bool may_post_copy, post_copy_asked; /* the call's flag; somebody wants it */
    bool network_is_cut;                 /* between the QEMUs and between the libvirtds */
    bool failed[HOSTS];                  /* libvirt's word there: post-copy failed */
    bool ends[HOSTS];                    /* QEMU has its end of the connection */
    bool deaf;     /* the guest asks for nothing more: that end notices nothing */
    bool stranded; /* libvirt will not start it at the destination any more */
    bool unheard;  /* that end holds QEMU's main loop: libvirt there never hears that it was lost */
    bool torn;     /* one of the QEMUs is gone, and with it the guest */
    unsigned connections; /* so far */
};

/* ---- hypervisor.c ---- */
struct virt *hypervisor_virt_of(const struct host *host);
void hypervisor_tell(struct host *host, enum virt_event event, int iteration);
/* The agent's call returns; nothing if there is none. */
void hypervisor_call_ends(enum virt_outcome outcome);

/* ---- post_copy.c ---- */
/* The last step of the copying: the guest stops at the source. */
void post_copy_leave(void);
/* One step of the phases LEAVING and POST_COPY; can there be one? */
void post_copy_advance(void);
bool post_copy_can_advance(void);
/* The call with VIR_MIGRATE_POSTCOPY_RESUME; false = it is refused. */
bool post_copy_resume(struct host *host);
/* A libvirtd ended while the guest leaves or is in post-copy. */
void post_copy_restart(const struct host *host);
void post_copy_guest_dies(void);
