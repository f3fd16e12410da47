/* SPDX-License-Identifier: Apache-2.0 */
/* The document of a plan: what is to be moved and expected, what the policy would do, the verdict. */
#include "agent/plan.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "agent/forwarding.h"
#include "agent/host_pair.h"
#include "agent/source.h"
#include "lib/json.h"

enum { MIB = 1 << 20 };

static int64_t memory_bytes(const struct plan *plan)
{
    return plan->guest->memory_kib * 1024;
}

static int64_t memory_to_move(const struct plan *plan)
{
    return plan->touched > 0 ? plan->touched : memory_bytes(plan);
}

/* -1 is null: nobody knows. */
static void add_known(struct json_object *o, const char *key, int64_t value)
{
    json_add(o, key, value < 0 ? NULL : json_object_new_int64(value));
}

/* ---- what is to be moved ---- */

static bool is_copied(char *const *targets, const struct virt_disk *disk)
{
    for (; targets && *targets; targets++)
        if (text_equal(*targets, disk->target))
            return true;
    return false;
}

/* The preparation takes those along that lie in the instance's directory: a config drive. */
static bool is_file_of_instance(const struct plan *plan, const struct virt_disk *disk)
{
    _cleanup_(str_freep) char *part = text_format("/%s/", plan->guest->uuid);

    return (disk->read_only || text_equal(disk->device, "cdrom")) && disk->path &&
           strstr(disk->path, part);
}

static const char *how_it_goes(const struct plan *plan, const struct plan_sums *sums,
                               char *const *targets, const struct virt_disk *disk)
{
    if (disk->is_volume)
        return "volume";
    if (sums->shared == 1)
        return "shared";
    if (is_file_of_instance(plan, disk))
        return "file";
    return sums->block && is_copied(targets, disk) ? "copied" : "stays";
}

static struct json_object *tell_disk(const struct plan *plan, struct plan_sums *sums,
                                     char *const *targets, const struct virt_disk *disk)
{
    struct json_object *o = json_object_new_object();
    struct json_object *base =
        json_get(json_get(plan->answer, "bases"), disk->path ? disk->path : "");
    const char *how = how_it_goes(plan, sums, targets, disk);
    bool moves = text_equal(how, "copied") || text_equal(how, "file");
    int64_t bytes = !moves ? 0 : text_equal(how, "file") ? disk->virtual_size : disk->allocated;

    json_add_string(o, "target", disk->target);
    json_add_string(o, "format", disk->format);
    add_known(o, "virtual_size", disk->virtual_size);
    add_known(o, "allocated", disk->allocated);
    json_add_string(o, "how", how);
    add_known(o, "bytes", bytes);
    json_add_string(o, "backing_file", disk->backing_file);
    json_add(o, "base", moves ? json_copy(base) : NULL);
    if (bytes > 0)
        sums->disk_bytes += bytes;
    if (moves && json_get_int(base, "bytes", 0) > 0)
        sums->base_bytes += json_get_int(base, "bytes", 0);
    return o;
}

static struct json_object *tell_to_move(const struct plan *plan, struct plan_sums *sums)
{
    struct json_object *o = json_object_new_object(), *memory = json_object_new_object();
    struct json_object *disks = json_object_new_array();
    char **targets = virt_guest_disks_to_copy(plan->guest);

    json_add_int(memory, "total", memory_bytes(plan));
    add_known(memory, "touched", plan->touched > 0 ? plan->touched : -1);
    for (size_t i = 0; i < plan->guest->disk_count; i++)
        json_object_array_add(disks, tell_disk(plan, sums, targets, &plan->guest->disks[i]));
    text_vector_free(targets);
    json_add(o, "memory", memory);
    json_add(o, "disks", disks);
    json_add(o, "shared", sums->shared < 0 ? NULL : json_object_new_boolean(sums->shared == 1));
    json_add_int(o, "disk_bytes", sums->disk_bytes);
    json_add_int(o, "base_bytes", sums->base_bytes);
    json_add_int(o, "total_bytes", memory_to_move(plan) + sums->disk_bytes + sums->base_bytes);
    return o;
}

/* ---- what is to be expected ---- */

/* A guest that stands still writes nothing, though nobody measured it. */
static struct measurement measured(const struct plan *plan)
{
    struct measurement found = plan->measured;

    found.touched_bytes = plan->touched;
    if (plan->guest->state == VIRT_STATE_PAUSED)
        found.dirty_rate = 0;
    return found;
}

static void foresee(const struct plan *plan, struct plan_sums *sums)
{
    const struct agent *agent = plan->agent;

    sums->limits = settings_limits(&plan->settings, agent->conf);
    sums->post_copy = plan->settings.post_copy && plan->guest->state != VIRT_STATE_PAUSED;
    sums->limits.post_copy = sums->post_copy;
    sums->bandwidth_mib = source_bandwidth_foreseen(agent, plan->settings.bandwidth_mib);
    const struct outlook_facts facts = {
        .instance = plan->instance,
        .guest = plan->guest,
        .destination = plan->destination,
        .block_migration = sums->block,
        .bandwidth_mib = sums->bandwidth_mib,
        .measured = measured(plan),
    };
    sums->outlook = source_outlook_of(agent, &facts);
    sums->start = policy_start(&sums->limits, &sums->outlook);
    const struct policy policy = policy_begin(&sums->outlook, &sums->start);
    sums->timeout_s = policy_timeout_s(&policy, &sums->limits);
}

/* Where the bandwidth that is reckoned with comes from. */
static const char *bandwidth_from(const struct plan *plan, const struct plan_sums *sums)
{
    int64_t seen = host_pair_known(plan->agent, plan->destination).bandwidth;

    if (sums->outlook.bandwidth <= 0)
        return "unknown";
    if (seen > 0 && sums->outlook.bandwidth == seen)
        return "learned";
    return sums->bandwidth_mib == plan->settings.bandwidth_mib ? "limit" : "share";
}

static char *bandwidth_text(const struct plan *plan, const struct plan_sums *sums)
{
    const char *from = bandwidth_from(plan, sums);

    if (text_equal(from, "learned"))
        return text_format("learned from earlier migrations to %s", plan->destination);
    if (text_equal(from, "limit"))
        return text_format("its limit, %" PRId64 " MiB/s", sums->bandwidth_mib);
    if (text_equal(from, "share"))
        return text_format("its share of the host's %" PRId64
                           " MiB/s (live_migration_host_bandwidth)",
                           conf_int(plan->agent->conf, CONF_libvirt_live_migration_host_bandwidth));
    return text_format(
        "no limit is set and no migration to %s has taught it since this agent began",
        plan->destination);
}

static char *dirty_text(const struct plan *plan)
{
    if (plan->guest->state == VIRT_STATE_PAUSED)
        return text_dup("the guest is paused");
    if (plan->measured.dirty_rate >= 0)
        return text_dup("measured now, over 1 s");
    return text_format("not measured: %.300s", plan->no_rate.text);
}

static void add_forecast(struct json_object *o, const struct plan_sums *sums)
{
    const struct policy_start *start = &sums->start;
    bool known = sums->outlook.bandwidth > 0;

    add_known(o, "time_s", known ? start->time_s : -1);
    add_known(o, "time_low_s", known ? start->time_low_s : -1);
    add_known(o, "time_high_s", known ? start->time_high_s : -1);
    add_known(o, "pause_ms", known ? start->pause_ms : -1);
    add_known(o, "pause_low_ms", known ? start->pause_low_ms : -1);
    add_known(o, "pause_high_ms", known ? start->pause_high_ms : -1);
}

static struct json_object *tell_expected(const struct plan *plan, const struct plan_sums *sums)
{
    struct json_object *o = json_object_new_object();
    _cleanup_(str_freep) char *dirty = dirty_text(plan), *bandwidth = bandwidth_text(plan, sums);
    int64_t overhead_ms = sums->outlook.overhead_ms;

    add_known(o, "dirty_rate_bytes_s", sums->outlook.dirty_rate);
    json_add_string(o, "dirty_rate_text", dirty);
    add_known(o, "bandwidth_bytes_s", sums->outlook.bandwidth > 0 ? sums->outlook.bandwidth : -1);
    json_add_string(o, "bandwidth_from", bandwidth_from(plan, sums));
    json_add_string(o, "bandwidth_text", bandwidth);
    add_forecast(o, sums);
    json_add_int(o, "overhead_ms", overhead_ms > 0 ? overhead_ms : POLICY_OVERHEAD_MS);
    json_add_bool(o, "overhead_learned", overhead_ms > 0);
    json_add_bool(o, "ends_by_itself", sums->start.in_time);
    return o;
}

/* ---- the policy ---- */

static void sentence(struct json_object *list, const char *format, ...) _printf_(2, 3);
static void sentence(struct json_object *list, const char *format, ...)
{
    char text[ERR_TEXT_SIZE];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    json_object_array_add(list, json_object_new_string(text));
}

static void tell_downtime(const struct plan_sums *sums, struct json_object *list)
{
    int64_t most_ms = sums->limits.downtime_limit_ms;

    if (sums->limits.kind == POLICY_ADAPTIVE)
        sentence(list,
                 "adaptive: the downtime limit begins at %" PRId64 " ms and rises on evidence, to "
                 "%" PRId64 " ms at most",
                 most_ms < POLICY_DOWNTIME_FLOOR_MS ? most_ms : (int64_t)POLICY_DOWNTIME_FLOOR_MS,
                 most_ms);
    else
        sentence(list,
                 "stepped: the downtime limit rises with the time in %d steps, to %" PRId64 " ms",
                 sums->limits.downtime_steps, most_ms);
}

static void tell_throttle(const struct plan_sums *sums, struct json_object *list)
{
    int initial = sums->start.throttle_initial, increment = sums->start.throttle_increment;

    if (!sums->limits.auto_converge)
        sentence(list, "auto-converge is not permitted: the guest is not slowed down");
    else if (initial <= 0)
        sentence(list, "auto-converge, if two passes show that it is needed, in QEMU's own steps");
    else if (increment <= 0)
        sentence(list,
                 "auto-converge, if two passes show that it is needed, begins with %d %% and goes "
                 "on in QEMU's own steps",
                 initial);
    else
        sentence(list,
                 "auto-converge, if two passes show that it is needed, begins with %d %%, then %d "
                 "%% more",
                 initial, increment);
}

static void tell_post_copy(const struct plan *plan, const struct plan_sums *sums,
                           struct json_object *list)
{
    int after = sums->limits.post_copy_after_iterations;

    if (!sums->post_copy)
        sentence(list, plan->settings.post_copy
                           ? "no post-copy: the guest is paused, so that nothing would fetch pages"
                           : "post-copy is not permitted");
    else if (after > 0)
        sentence(list, "post-copy after %d passes without progress", after);
    else if (sums->limits.kind == POLICY_ADAPTIVE)
        sentence(list, "post-copy as the last resort: without progress at the highest limit, or "
                       "just before the deadline");
    else
        sentence(list, "post-copy by force alone, or at the deadline");
}

static void tell_deadline(const struct plan_sums *sums, struct json_object *list)
{
    const char *what = sums->limits.timeout_action == POLICY_ABORT
                           ? "it is aborted, and the guest runs on where it is"
                       : sums->post_copy ? "it is switched to post-copy"
                                         : "the guest is paused until it has moved";

    if (sums->timeout_s == 0)
        sentence(list, "there is no deadline");
    else
        sentence(list, "deadline after %" PRId64 " s: %s", sums->timeout_s, what);
    if (sums->timeout_s > 0 && sums->outlook.bandwidth > 0 && !sums->start.in_time)
        sentence(list, "by what is known it does not end by itself before the deadline");
}

static struct json_object *tell_policy(const struct plan *plan, const struct plan_sums *sums)
{
    struct json_object *o = json_object_new_object(), *list = json_object_new_array();

    json_add_string(o, "kind", settings_policy_name(sums->limits.kind));
    json_add_int(o, "downtime_limit_ms", sums->limits.downtime_limit_ms);
    json_add_bool(o, "auto_converge", sums->limits.auto_converge);
    json_add_int(o, "throttle_initial", sums->start.throttle_initial);
    json_add_int(o, "throttle_increment", sums->start.throttle_increment);
    json_add_bool(o, "post_copy", sums->post_copy);
    json_add_int(o, "deadline_s", sums->timeout_s);
    json_add_string(o, "timeout_action", settings_action_name(sums->limits.timeout_action));
    json_add_bool(o, "hopeless", sums->start.hopeless);
    tell_downtime(sums, list);
    tell_throttle(sums, list);
    tell_post_copy(plan, sums, list);
    tell_deadline(sums, list);
    json_add(o, "sentences", list);
    return o;
}

/* ---- the switch-over and the queue ---- */

static struct json_object *tell_switchover(const struct plan *plan)
{
    struct json_object *o = json_object_new_object();
    const char *told = json_get_string(plan->answer, "switchover", NULL);
    enum switchover_mode here = switchover_mode_wanted(plan->agent->conf);
    enum switchover_mode there = told ? switchover_mode_named(told) : SWITCHOVER_MODE_OFF;

    json_add_string(o, "source", switchover_mode_name(here));
    json_add_string(o, "destination", told);
    json_add_string(o, "mode", told ? switchover_mode_name(here < there ? here : there) : NULL);
    json_add_bool(o, "carries",
                  here >= SWITCHOVER_MODE_FORWARD && there >= SWITCHOVER_MODE_FORWARD &&
                      text_equal(conf_string(plan->agent->conf, CONF_net_late_wiring), "carry") &&
                      text_equal(json_get_string(plan->answer, "late_wiring", "wait"), "carry"));
    return o;
}

static struct json_object *tell_queue(const struct plan *plan)
{
    struct json_object *o = json_object_new_object();
    struct source_queue queue =
        source_queue_foreseen(plan->agent, instance_flavor_memory_mb(plan->instance));

    json_add_int(o, "places", queue.places);
    json_add_int(o, "in_use", queue.in_use);
    json_add_int(o, "ahead", queue.ahead);
    json_add_bool(o, "at_once", queue.at_once);
    return o;
}

/* ---- the verdict ---- */

static void tell_verdict(struct json_object *o, struct json_object *checks)
{
    struct json_object *reasons = json_object_new_array();
    bool unknown = false;

    for (size_t i = 0; i < json_object_array_length(checks); i++) {
        struct json_object *row = json_object_array_get_idx(checks, i);
        const char *result = json_get_string(row, "result", "unknown");
        unknown |= text_equal(result, "unknown");
        if (text_equal(result, "refused"))
            json_object_array_add(reasons,
                                  json_object_new_string(json_get_string(row, "text", "-")));
    }
    bool refused = json_object_array_length(reasons) > 0;
    json_add_string(o, "verdict", refused ? "refused" : unknown ? "unknown" : "go");
    json_add(o, "reasons", reasons);
}

struct json_object *plan_document(const struct plan *plan)
{
    struct json_object *o = json_object_new_object(), *checks = json_object_new_array();
    struct plan_sums sums = {.shared = plan_shared_path(plan)};

    json_add_string(o, "instance", plan->guest->uuid);
    json_add_string(o, "name", plan->guest->name);
    json_add_string(o, "source", plan->agent->host);
    json_add_string(o, "dest", plan->destination);
    json_add_string(o, "control_plane", cloud_provider_name(plan->agent->cloud));
    plan_check_source(plan, checks);
    plan_check_destination(plan, checks);
    plan_check_storage(plan, &sums, checks);
    plan_check_images(plan, &sums, checks);
    foresee(plan, &sums);
    plan_check_end(plan, &sums, checks);
    json_add(o, "checks", checks);
    json_add(o, "to_move", tell_to_move(plan, &sums));
    json_add(o, "expected", tell_expected(plan, &sums));
    json_add(o, "policy", tell_policy(plan, &sums));
    json_add(o, "switchover", tell_switchover(plan));
    json_add(o, "queue", tell_queue(plan));
    tell_verdict(o, checks);
    return o;
}
