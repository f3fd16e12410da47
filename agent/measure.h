/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is measured of a guest before it is moved, or before somebody is told what would become of it: how fast it
 * dirties memory, how much of its memory it ever wrote to, how busy its processors are. The guest is not slowed
 * down, and what cannot be had is left out.
 *
 * In two steps, because a measurement takes a second and goes on in QEMU by itself: it is begun as early as possible,
 * and waited for only where the figure is worth it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "lib/err.h"

struct json_object;
struct virt;

enum { MEASURE_S = 1 };

struct measurement {
    int64_t dirty_rate;    /* bytes a second, over MEASURE_S; -1 = not measured */
    int64_t touched_bytes; /* at most all of its memory; 0 = unknown */
    int busy_percent;      /* of its busiest processor meanwhile; 0 = unknown */
};

/* A measurement under way. */
struct measure_begun {
    int64_t at_us;
    int64_t touched_bytes;           /* as in struct measurement */
    int64_t processor_ns;            /* that the guest had used up to then; -1 = unknown */
    struct json_object *diagnostics; /* of then; NULL = unknown */
};

/*
 * Who waits for one. `hurry_fd` (-1 = none) becomes readable when something waits for the end, and from then on
 * `needless` is asked again and again whether it is still worth it: `processors` is the time that the guest used since
 * the begin, at most, as a number of processors that ran all the time; -1 = unknown, as it is too early.
 */
struct measure_watch {
    int hurry_fd;
    bool (*needless)(double processors, void *aux);
    void *aux;
};

/* BLOCKS, quick. Fills in *out in any case; -1 with *e when the measurement did not begin (virt_dirty_rate_begin()). */
int measure_begin(struct virt *virt, const char *uuid, int64_t memory_bytes,
                  struct measure_begun *out, struct err *e);
void measure_begun_clear(struct measure_begun *begun);
/*
 * BLOCKS until MEASURE_S after the begin and at most 3 s more, or until it is needless: then the dirty rate stays -1,
 * and the measurement goes on in QEMU. Fills in what could be had; -1 with *e when that is not the dirty rate.
 */
int measure_end(struct virt *virt, const char *uuid, const struct measure_begun *begun,
                const struct measure_watch *watch, struct measurement *out, struct err *e);
/* BLOCKS. Both, for one who has the time. */
int measure_guest(struct virt *virt, const char *uuid, int64_t memory_bytes,
                  struct measurement *out, struct err *e);
/* BLOCKS, quick. Bytes of memory that the guest ever wrote to; 0 = unknown. */
int64_t measure_touched(struct virt *virt, const char *uuid, int64_t memory_bytes);
