/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/measure.h"

#include <json-c/json_object.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/json.h"
#include "lib/text.h"
#include "virt/virt.h"

enum { PROCESSORS_MAX = 4096, NSEC_PER_USEC = 1000 };

/* Huge pages are not counted in what the emulator holds. */
static bool has_huge_pages(struct virt *virt, const char *uuid)
{
    _cleanup_(str_freep) char *xml = NULL;

    return virt_guest_xml(virt, uuid, &xml, NULL) < 0 || strstr(xml, "<hugepages");
}

/* What the emulator holds in memory is, but for its own part, what the guest has written to. */
int64_t measure_touched(struct virt *virt, const char *uuid, int64_t memory_bytes)
{
    _cleanup_(json_putp) struct json_object *o = NULL;

    if (has_huge_pages(virt, uuid) || virt_guest_diagnostics(virt, uuid, &o, NULL) < 0)
        return 0;
    int64_t kib = json_get_int(json_get(o, "memory_statistics"), "rss", 0);
    return kib <= 0 ? 0 : kib < memory_bytes / 1024 ? kib * 1024 : memory_bytes;
}

static int64_t processor_ns(struct json_object *diagnostics, size_t processor)
{
    struct json_object *list = json_get(diagnostics, "cpu_details");

    if (!json_object_is_type(list, json_type_array) || processor >= json_object_array_length(list))
        return -1;
    return json_get_int(json_object_array_get_idx(list, processor), "time", -1);
}

/* The share of `passed_us` that the busiest processor ran; 0 = unknown. */
static int busy_percent(struct json_object *before, struct json_object *after, int64_t passed_us)
{
    int64_t most_ns = 0;

    for (size_t i = 0; i < PROCESSORS_MAX; i++) {
        int64_t from_ns = processor_ns(before, i), to_ns = processor_ns(after, i);
        if (from_ns < 0 || to_ns < 0)
            break;
        if (to_ns - from_ns > most_ns)
            most_ns = to_ns - from_ns;
    }
    if (passed_us <= 0)
        return 0;
    int64_t percent = most_ns / NSEC_PER_USEC * 100 / passed_us;
    return percent < 100 ? (int)percent : 100;
}

int measure_guest(struct virt *virt, const char *uuid, int64_t memory_bytes,
                  struct measurement *out, struct err *e)
{
    _cleanup_(json_putp) struct json_object *before = NULL, *after = NULL;

    *out = (struct measurement){.dirty_rate = -1};
    out->touched_bytes = measure_touched(virt, uuid, memory_bytes);
    bool seen = virt_guest_diagnostics(virt, uuid, &before, NULL) == 0;
    int64_t begun_us = clock_monotonic_us();
    int result = virt_dirty_rate(virt, uuid, MEASURE_S, &out->dirty_rate, e);
    int64_t passed_us = clock_monotonic_us() - begun_us;
    if (seen && result == 0 && virt_guest_diagnostics(virt, uuid, &after, NULL) == 0)
        out->busy_percent = busy_percent(before, after, passed_us);
    return result;
}
