/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the records of evacuations from this host mean for one instance. Pure, no I/O. The rule is Nova's
 * (nova/compute/manager.py, _destroy_evacuated_instances), with one difference: a guest whose evacuation is
 * still under way is powered off here and keeps its disks, its allocation and its records until it is known how
 * the evacuation ended; Nova destroys it at once.
 */
#pragma once

#include "cloud/views.h"

enum evacuation_verdict {
    EVACUATION_REMOVE,         /* on another host: nothing of it belongs here */
    EVACUATION_REMOVE_DELETED, /* nowhere any more */
    EVACUATION_CLOSE_RECORDS,  /* it left, and is back on this host by now */
    EVACUATION_UNDER_WAY,      /* it must not run here, and nothing of it is removed */
    EVACUATION_OWN, /* of this host; an operator took it back from an evacuation that never ended */
};
/*
 * `instance` as it is after the records were read (NULL = its row is gone), `records` an array of Migration
 * primitives with the status accepted, pre-migrating or done, `host` ours.
 */
enum evacuation_verdict evacuation_judge(const struct instance *instance,
                                         struct json_object *records, const char *host);
/* The records that are done: those of a guest that is back; others may still become so. New reference. */
struct json_object *evacuation_done(struct json_object *records);
