/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by virt/virt*.c: how a call goes through to the provider. Nobody else includes it. */
#pragma once

#include <assert.h>

#include "lib/fault.h"
#include "lib/metrics.h"
#include "virt/virt_provider.h"

static inline int virt_counted(int result)
{
    metric_inc(METRIC_VIRT_CALLS);
    if (result < 0)
        metric_inc(METRIC_VIRT_ERRORS);
    return result;
}

/* A call that changes something: its effect is between the two fault points. */
struct virt_change {
    const char *before, *after; /* fault points */
};
#define VIRT_CHANGE(name) ((struct virt_change){"virt." name ".before", "virt." name ".after"})

typedef int (*virt_guest_fn)(struct virt *virt, const char *uuid, struct err *e);

static inline int virt_change_guest(struct virt *virt, virt_guest_fn fn, struct virt_change points,
                                    const char *uuid, struct err *e)
{
    assert(virt && uuid);
    _cleanup_(virt_unrefp) struct virt *held = virt_ref(virt);
    if (fault_point(points.before, e) < 0 || virt_counted(fn(held, uuid, e)) < 0)
        return -1;
    return fault_point(points.after, e);
}
