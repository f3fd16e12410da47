/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/measure.h"

#include <json-c/json_object.h>
#include <poll.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/json.h"
#include "lib/text.h"
#include "virt/virt.h"

enum {
    PROCESSORS_MAX = 4096,
    NSEC_PER_USEC = 1000,
    TICK_NS = 10000000, /* that the kernel counts a process's time in, where no cgroup does */
    PATIENCE_US = 3000000,
    LOOK_MS = 100,       /* between two looks, while it cannot have ended */
    LOOK_AGAIN_MS = 20,  /* once it should have */
    WINDOW_US = 100000,  /* a shorter time tells nothing of how busy the guest is, */
    BUSIEST_US = 300000, /* or how much its busiest processor runs */
};

/* Huge pages are not counted in what the emulator holds. */
static bool has_huge_pages(struct virt *virt, const char *uuid)
{
    _cleanup_(str_freep) char *xml = NULL;

    return virt_guest_xml(virt, uuid, &xml, NULL) < 0 || strstr(xml, "<hugepages");
}

/* What the emulator holds in memory is, but for its own part, what the guest has written to. */
static int64_t touched(struct virt *virt, const char *uuid, struct json_object *diagnostics,
                       int64_t memory_bytes)
{
    int64_t kib = json_get_int(json_get(diagnostics, "memory_statistics"), "rss", 0);

    if (kib <= 0 || has_huge_pages(virt, uuid))
        return 0;
    return kib < memory_bytes / 1024 ? kib * 1024 : memory_bytes;
}

int64_t measure_touched(struct virt *virt, const char *uuid, int64_t memory_bytes)
{
    _cleanup_(json_putp) struct json_object *o = NULL;

    if (virt_guest_diagnostics(virt, uuid, &o, NULL) < 0)
        return 0;
    return touched(virt, uuid, o, memory_bytes);
}

/* ---- how busy it is ---- */

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

static int busiest(struct virt *virt, const char *uuid, const struct measure_begun *begun)
{
    _cleanup_(json_putp) struct json_object *after = NULL;

    if (!begun->diagnostics || clock_monotonic_us() - begun->at_us < BUSIEST_US ||
        virt_guest_diagnostics(virt, uuid, &after, NULL) < 0)
        return 0;
    return busy_percent(begun->diagnostics, after, clock_monotonic_us() - begun->at_us);
}

/* Times in whole ticks, of the user's part and the system's, may be short by one of each. */
static double processors_at_most(struct virt *virt, const char *uuid,
                                 const struct measure_begun *begun)
{
    int64_t now_ns = 0, passed_us = clock_monotonic_us() - begun->at_us;

    if (begun->processor_ns < 0 || passed_us < WINDOW_US ||
        virt_guest_processor_ns(virt, uuid, &now_ns, NULL) < 0)
        return -1.0;
    int64_t used_ns = now_ns - begun->processor_ns;
    if (now_ns % TICK_NS == 0 && begun->processor_ns % TICK_NS == 0)
        used_ns += 2 * TICK_NS;
    return (double)used_ns / (double)(passed_us * NSEC_PER_USEC);
}

/* ---- the dirty rate ---- */

void measure_begun_clear(struct measure_begun *begun)
{
    json_object_put(begun->diagnostics);
    *begun = (struct measure_begun){.processor_ns = -1};
}

int measure_begin(struct virt *virt, const char *uuid, int64_t memory_bytes,
                  struct measure_begun *out, struct err *e)
{
    *out = (struct measure_begun){.processor_ns = -1};
    if (virt_guest_diagnostics(virt, uuid, &out->diagnostics, NULL) == 0)
        out->touched_bytes = touched(virt, uuid, out->diagnostics, memory_bytes);
    (void)virt_guest_processor_ns(virt, uuid, &out->processor_ns, NULL);
    out->at_us = clock_monotonic_us();
    return virt_dirty_rate_begin(virt, uuid, MEASURE_S, e);
}

/* Until the next look. */
static void rest(const struct measure_begun *begun, const struct measure_watch *watch, bool *hurry)
{
    int64_t left_ms =
        (begun->at_us + MEASURE_S * USEC_PER_SEC - clock_monotonic_us()) / USEC_PER_MSEC;
    int ms = left_ms <= 0 ? LOOK_AGAIN_MS : left_ms < LOOK_MS ? (int)left_ms : LOOK_MS;
    struct pollfd hurry_fd = {.fd = *hurry ? -1 : watch->hurry_fd, .events = POLLIN};

    if (poll(&hurry_fd, 1, ms) > 0)
        *hurry = true;
}

int measure_end(struct virt *virt, const char *uuid, const struct measure_begun *begun,
                const struct measure_watch *watch, struct measurement *out, struct err *e)
{
    int64_t late_us = begun->at_us + MEASURE_S * USEC_PER_SEC + PATIENCE_US;
    bool hurry = false;

    *out = (struct measurement){.dirty_rate = -1, .touched_bytes = begun->touched_bytes};
    while (virt_dirty_rate_look(virt, uuid, MEASURE_S, &out->dirty_rate, e) == 0) {
        if (out->dirty_rate >= 0 ||
            (hurry && watch->needless(processors_at_most(virt, uuid, begun), watch->aux))) {
            out->busy_percent = busiest(virt, uuid, begun);
            return 0;
        }
        if (clock_monotonic_us() >= late_us)
            return err_set(e, ERR_TIMEOUT,
                           "the dirty rate of domain %s was not measured within %d s", uuid,
                           MEASURE_S + (int)(PATIENCE_US / USEC_PER_SEC));
        rest(begun, watch, &hurry);
    }
    return -1;
}

int measure_guest(struct virt *virt, const char *uuid, int64_t memory_bytes,
                  struct measurement *out, struct err *e)
{
    static const struct measure_watch nobody = {.hurry_fd = -1};
    _cleanup_(measure_begun_clear) struct measure_begun begun;

    if (measure_begin(virt, uuid, memory_bytes, &begun, e) < 0) {
        *out = (struct measurement){.dirty_rate = -1, .touched_bytes = begun.touched_bytes};
        return -1;
    }
    return measure_end(virt, uuid, &begun, &nobody, out, e);
}
