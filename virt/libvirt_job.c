/* SPDX-License-Identifier: Apache-2.0 */
/* libvirt's job statistics as a struct virt_job; the dirty rate and the processor time of a guest. */
#include "virt/libvirt_internal.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

enum kind { KIND_NUMBER, KIND_INT };

static const struct {
    const char *name;
    size_t offset;
    enum kind kind;
} job_rows[] = {
    {VIR_DOMAIN_JOB_TIME_ELAPSED, offsetof(struct virt_job, elapsed_ms), KIND_NUMBER},
    {VIR_DOMAIN_JOB_SETUP_TIME, offsetof(struct virt_job, setup_ms), KIND_NUMBER},
    {VIR_DOMAIN_JOB_DOWNTIME, offsetof(struct virt_job, downtime_ms), KIND_NUMBER},
    {VIR_DOMAIN_JOB_MEMORY_TOTAL, offsetof(struct virt_job, memory_total), KIND_NUMBER},
    {VIR_DOMAIN_JOB_MEMORY_PROCESSED, offsetof(struct virt_job, memory_processed), KIND_NUMBER},
    {VIR_DOMAIN_JOB_MEMORY_REMAINING, offsetof(struct virt_job, memory_remaining), KIND_NUMBER},
    {VIR_DOMAIN_JOB_MEMORY_BPS, offsetof(struct virt_job, memory_bps), KIND_NUMBER},
    {VIR_DOMAIN_JOB_MEMORY_DIRTY_RATE, offsetof(struct virt_job, dirty_rate), KIND_NUMBER},
    {VIR_DOMAIN_JOB_MEMORY_PAGE_SIZE, offsetof(struct virt_job, page_size), KIND_NUMBER},
    {VIR_DOMAIN_JOB_MEMORY_POSTCOPY_REQS, offsetof(struct virt_job, postcopy_requests),
     KIND_NUMBER},
    {VIR_DOMAIN_JOB_MEMORY_ITERATION, offsetof(struct virt_job, iteration), KIND_INT},
    {VIR_DOMAIN_JOB_DISK_TOTAL, offsetof(struct virt_job, disk_total), KIND_NUMBER},
    {VIR_DOMAIN_JOB_DISK_PROCESSED, offsetof(struct virt_job, disk_processed), KIND_NUMBER},
    {VIR_DOMAIN_JOB_DISK_REMAINING, offsetof(struct virt_job, disk_remaining), KIND_NUMBER},
    {VIR_DOMAIN_JOB_DISK_BPS, offsetof(struct virt_job, disk_bps), KIND_NUMBER},
    {VIR_DOMAIN_JOB_AUTO_CONVERGE_THROTTLE, offsetof(struct virt_job, throttle_percent), KIND_INT},
};

bool libvirt_parameter_number(const virTypedParameter *parameter, int64_t *out)
{
    switch (parameter->type) {
    case VIR_TYPED_PARAM_INT:
        *out = parameter->value.i;
        return true;
    case VIR_TYPED_PARAM_UINT:
        *out = parameter->value.ui;
        return true;
    case VIR_TYPED_PARAM_LLONG:
        *out = parameter->value.l;
        return true;
    case VIR_TYPED_PARAM_ULLONG:
        *out = parameter->value.ul > INT64_MAX ? INT64_MAX : (int64_t)parameter->value.ul;
        return true;
    default:
        return false;
    }
}

static void store(struct virt_job *job, size_t offset, enum kind kind, int64_t value)
{
    char *place = (char *)job + offset;
    int small = value > INT32_MAX ? INT32_MAX : (int)value;
    if (kind == KIND_INT)
        memcpy(place, &small, sizeof(small));
    else
        memcpy(place, &value, sizeof(value));
}

static void map_number(const virTypedParameter *param, struct virt_job *out)
{
    int64_t value;
    if (!libvirt_parameter_number(param, &value))
        return;
    for (size_t i = 0; i < ARRAY_LEN(job_rows); i++)
        if (strcmp(job_rows[i].name, param->field) == 0)
            store(out, job_rows[i].offset, job_rows[i].kind, value);
}

static bool is_outgoing(virTypedParameterPtr params, int count)
{
    int operation = VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT;
    (void)virTypedParamsGetInt(params, count, VIR_DOMAIN_JOB_OPERATION, &operation);
    return operation == VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT;
}

void libvirt_job_map(int type, virTypedParameterPtr params, int count, struct virt_job *out)
{
    *out = (struct virt_job){.downtime_ms = -1};
    out->active = (type == VIR_DOMAIN_JOB_BOUNDED || type == VIR_DOMAIN_JOB_UNBOUNDED) &&
                  is_outgoing(params, count);
    out->completed = type == VIR_DOMAIN_JOB_COMPLETED;
    for (int i = 0; i < count; i++)
        map_number(&params[i], out);
    if (out->page_size > 0 && out->dirty_rate > INT64_MAX / out->page_size)
        out->dirty_rate = INT64_MAX;
    else
        out->dirty_rate *= out->page_size;
    const char *text = NULL;
    if (virTypedParamsGetString(params, count, VIR_DOMAIN_JOB_ERRMSG, &text) == 1 && text)
        snprintf(out->error, sizeof(out->error), "%s", text);
}

static void look_at_post_copy(const struct libvirt_call *call, struct virt_job *job)
{
    int state = VIR_DOMAIN_NOSTATE, reason = 0;
    if (!job->active || virDomainGetState(call->domain, &state, &reason, 0) < 0 ||
        state != VIR_DOMAIN_PAUSED)
        return;
    job->post_copy_failed = reason == VIR_DOMAIN_PAUSED_POSTCOPY_FAILED;
    job->post_copy = job->post_copy_failed || reason == VIR_DOMAIN_PAUSED_POSTCOPY;
}

enum virt_post_copy libvirt_post_copy_map(int state, int reason)
{
    if ((state == VIR_DOMAIN_PAUSED && reason == VIR_DOMAIN_PAUSED_POSTCOPY_FAILED) ||
        (state == VIR_DOMAIN_RUNNING && reason == VIR_DOMAIN_RUNNING_POSTCOPY_FAILED))
        return VIRT_POST_COPY_FAILED;
    if ((state == VIR_DOMAIN_PAUSED && reason == VIR_DOMAIN_PAUSED_POSTCOPY) ||
        (state == VIR_DOMAIN_RUNNING && reason == VIR_DOMAIN_RUNNING_POSTCOPY))
        return VIRT_POST_COPY_RUNS;
    return VIRT_POST_COPY_NONE;
}

int libvirt_post_copy(struct virt *virt, const char *uuid, enum virt_post_copy *out, struct err *e)
{
    LIBVIRT_CALL(call);
    int state = VIR_DOMAIN_NOSTATE, reason = 0;
    if (libvirt_call_begin(&call, virt, uuid, false, e) < 0)
        return -1;
    if (virDomainGetState(call.domain, &state, &reason, 0) < 0)
        return libvirt_call_error(&call, e, "the state of domain %s is not known", uuid);
    *out = libvirt_post_copy_map(state, reason);
    return 0;
}

int libvirt_sample(struct virt *virt, const char *uuid, bool completed, struct virt_job *out,
                   struct err *e)
{
    LIBVIRT_CALL(call);
    if (libvirt_call_begin(&call, virt, uuid, false, e) < 0)
        return -1;
    int type = VIR_DOMAIN_JOB_NONE, count = 0;
    virTypedParameterPtr params = NULL;
    unsigned flags =
        completed ? VIR_DOMAIN_JOB_STATS_COMPLETED | VIR_DOMAIN_JOB_STATS_KEEP_COMPLETED : 0;
    if (virDomainGetJobStats(call.domain, &type, &params, &count, flags) < 0) {
        const virError *last = virGetLastError();
        /* An incoming migration has no statistics; outgoing is what we were asked about. */
        if (!completed && last && last->code == VIR_ERR_OPERATION_UNSUPPORTED) {
            libvirt_job_map(VIR_DOMAIN_JOB_NONE, NULL, 0, out);
            return 0;
        }
        return libvirt_call_error(&call, e, "no statistics of domain %s", uuid);
    }
    libvirt_job_map(type, params, count, out);
    virTypedParamsFree(params, count);
    if (!completed)
        look_at_post_copy(&call, out);
    return 0;
}

/* ---- the dirty rate ---- */

static int64_t number_of(const virTypedParameter *params, int count, const char *name)
{
    int64_t value = -1;
    for (int i = 0; i < count; i++)
        if (strcmp(params[i].field, name) == 0)
            (void)libvirt_parameter_number(&params[i], &value);
    return value;
}

int64_t libvirt_dirty_rate_map(const virTypedParameter *params, int count, int seconds)
{
    int64_t status = number_of(params, count, "dirtyrate.calc_status");
    int64_t mib = number_of(params, count, "dirtyrate.megabytes_per_second");
    if (status != VIR_DOMAIN_DIRTYRATE_MEASURED || mib < 0 ||
        number_of(params, count, "dirtyrate.calc_period") != seconds)
        return -1;
    return mib > INT64_MAX >> 20 ? INT64_MAX : mib << 20;
}

int libvirt_dirty_rate_begin(struct virt *virt, const char *uuid, int seconds, struct err *e)
{
    LIBVIRT_CALL(call);
    if (libvirt_call_begin(&call, virt, uuid, false, e) < 0)
        return -1;
    if (virDomainStartDirtyRateCalc(call.domain, seconds, VIR_DOMAIN_DIRTYRATE_MODE_PAGE_SAMPLING) <
        0)
        return libvirt_call_error(&call, e, "the dirty rate of domain %s cannot be measured", uuid);
    return 0;
}

/* Whoever holds the domain at this moment is not waited for: there is a next look. */
static int statistics(const struct libvirt_call *call, const char *uuid, unsigned which,
                      virDomainStatsRecordPtr **records, struct err *e)
{
    virDomainPtr domains[] = {call->domain, NULL};
    int count =
        virDomainListGetStats(domains, which, records, VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT);
    return count < 0 ? libvirt_call_error(call, e, "no statistics of domain %s", uuid) : count;
}

int libvirt_dirty_rate_look(struct virt *virt, const char *uuid, int seconds, int64_t *bytes_per_s,
                            struct err *e)
{
    LIBVIRT_CALL(call);
    virDomainStatsRecordPtr *records = NULL;
    if (libvirt_call_begin(&call, virt, uuid, false, e) < 0)
        return -1;
    int count = statistics(&call, uuid, VIR_DOMAIN_STATS_DIRTYRATE, &records, e);
    if (count < 0)
        return -1;
    *bytes_per_s =
        count > 0 ? libvirt_dirty_rate_map(records[0]->params, records[0]->nparams, seconds) : -1;
    virDomainStatsRecordListFree(records);
    return 0;
}

int libvirt_processor_ns(struct virt *virt, const char *uuid, int64_t *ns, struct err *e)
{
    LIBVIRT_CALL(call);
    virDomainStatsRecordPtr *records = NULL;
    if (libvirt_call_begin(&call, virt, uuid, false, e) < 0)
        return -1;
    int count = statistics(&call, uuid, VIR_DOMAIN_STATS_CPU_TOTAL, &records, e);
    if (count < 0)
        return -1;
    int64_t found = count > 0 ? number_of(records[0]->params, records[0]->nparams, "cpu.time") : -1;
    virDomainStatsRecordListFree(records);
    if (found < 0)
        return err_set(e, ERR_VIRT, "libvirt does not tell the processor time of domain %s", uuid);
    *ns = found;
    return 0;
}
