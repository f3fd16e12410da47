/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is measured of a guest before it is moved, or before somebody is told what would become of it: how fast it
 * dirties memory, how much of its memory it ever wrote to, how busy its processors are. The guest is not slowed
 * down, and what cannot be had is left out.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "lib/err.h"

struct virt;

enum { MEASURE_S = 1 };

struct measurement {
    int64_t dirty_rate;    /* bytes a second, over MEASURE_S; -1 = not measured */
    int64_t touched_bytes; /* at most all of its memory; 0 = unknown */
    int busy_percent;      /* of its busiest processor meanwhile; 0 = unknown */
};

/*
 * BLOCKS for MEASURE_S and at most 3 s more. Fills in what could be had; -1 with *e when that is not the dirty rate
 * (virt_dirty_rate()).
 */
int measure_guest(struct virt *virt, const char *uuid, int64_t memory_bytes,
                  struct measurement *out, struct err *e);
/* BLOCKS, quick. Bytes of memory that the guest ever wrote to; 0 = unknown. */
int64_t measure_touched(struct virt *virt, const char *uuid, int64_t memory_bytes);
