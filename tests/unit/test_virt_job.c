/* SPDX-License-Identifier: Apache-2.0 */
/* The pure parts of the libvirt provider: tables of events, statistics, flags, parameters, errors. */
#include "tests/unit/unit.h"
#include "virt/libvirt_internal.h"

static struct virt_migration basic(void)
{
    return (struct virt_migration){.uuid = "8d6e0e9a-6f0a-4b8a-9c55-0f3a1b2c3d4e",
                                   .destination_uri = "qemu+tcp://198.51.100.12/system",
                                   .destination_xml = "<domain/>"};
}

static unsigned flags_of(const struct virt_migration *migration, bool paused)
{
    unsigned flags = 0;
    UNIT_OK(libvirt_migration_flags(migration, paused, 7002000, &flags, &unit_err));
    return flags;
}

/* libvirt keeps its errors in thread-local storage that this makes. */
static void setup(void)
{
    if (virInitialize() < 0)
        abort();
}

UNIT_FIXTURE(setup, NULL)

enum {
    ALWAYS = VIR_MIGRATE_LIVE | VIR_MIGRATE_PEER2PEER | VIR_MIGRATE_UNDEFINE_SOURCE |
             VIR_MIGRATE_PERSIST_DEST
};

UNIT_TEST(plain_flags, "a plain migration is live, peer-to-peer, and moves the definition")
{
    struct virt_migration m = basic();
    UNIT_EQ(flags_of(&m, false), ALWAYS);
}

UNIT_TEST(never_copies_without_list, "disks are never copied without a list of them")
{
    char *none[] = {NULL};
    struct virt_migration m = basic();
    m.block_migration = m.synchronous_writes = true;
    UNIT_EQ(flags_of(&m, false), ALWAYS);
    m.copy_disks = none;
    UNIT_EQ(flags_of(&m, false), ALWAYS);
}

UNIT_TEST(copies_with_list, "disks are copied with a list, synchronously where asked")
{
    char *disks[] = {(char *)"vda", (char *)"vdb", NULL};
    struct virt_migration m = basic();
    m.block_migration = true;
    m.copy_disks = disks;
    UNIT_EQ(flags_of(&m, false), ALWAYS | VIR_MIGRATE_NON_SHARED_INC);
    m.synchronous_writes = true;
    UNIT_EQ(flags_of(&m, false),
            ALWAYS | VIR_MIGRATE_NON_SHARED_INC | VIR_MIGRATE_NON_SHARED_SYNCHRONOUS_WRITES);
    m.block_migration = false;
    UNIT_EQ(flags_of(&m, false), ALWAYS);
}

UNIT_TEST(both_convergences, "post-copy and auto-converge go together, but not for a paused guest")
{
    struct virt_migration m = basic();
    m.post_copy = m.auto_converge = true;
    UNIT_EQ(flags_of(&m, false), ALWAYS | VIR_MIGRATE_POSTCOPY | VIR_MIGRATE_AUTO_CONVERGE);
    UNIT_EQ(flags_of(&m, true), ALWAYS);
}

UNIT_TEST(resumed, "going on with a lost post-copy is a flag beside the same ones")
{
    struct virt_migration m = basic();
    m.resume_post_copy = true;
    UNIT_EQ(flags_of(&m, false),
            ALWAYS); /* of no sense without the other, which libvirt would say */
    m.post_copy = true;
    UNIT_EQ(flags_of(&m, false), ALWAYS | VIR_MIGRATE_POSTCOPY | VIR_MIGRATE_POSTCOPY_RESUME);
}

UNIT_TEST(conflicts, "flags that exclude each other are refused with the reason")
{
    char *disks[] = {(char *)"vda", NULL};
    unsigned flags;
    struct virt_migration m = basic();
    m.tunnelled = m.block_migration = true;
    m.copy_disks = disks;
    UNIT_FAILS(libvirt_migration_flags(&m, false, 7002000, &flags, &unit_err), ERR_INVALID);
    UNIT_HAS(unit_err.text, "tunnelled migration cannot copy");
    m = basic();
    m.post_copy = true;
    m.parallel_connections = 4;
    UNIT_FAILS(libvirt_migration_flags(&m, false, 10000002, &flags, &unit_err), ERR_INVALID);
    UNIT_HAS(unit_err.text, "QEMU 10.1.0");
    UNIT_OK(libvirt_migration_flags(&m, false, 10001000, &flags, &unit_err));
}

static int params_of(const struct virt_migration *migration, virTypedParameterPtr *params)
{
    int count = 0;
    UNIT_OK(
        libvirt_migration_params(migration, flags_of(migration, false), params, &count, &unit_err));
    return count;
}

static const char *text_of(virTypedParameterPtr params, int count, const char *name)
{
    const char *value = NULL;
    (void)virTypedParamsGetString(params, count, name, &value);
    return value;
}

UNIT_TEST(persistent_xml, "the persistent XML always goes with the destination's")
{
    virTypedParameterPtr params = NULL;
    struct virt_migration m = basic();
    int count = params_of(&m, &params);
    UNIT_EQ(count, 3);
    UNIT_STR(text_of(params, count, VIR_MIGRATE_PARAM_DEST_XML), "<domain/>");
    UNIT_STR(text_of(params, count, VIR_MIGRATE_PARAM_PERSIST_XML), "<domain/>");
    virTypedParamsFree(params, count);
}

UNIT_TEST(no_limit, "no limit is told to libvirt, which keeps a limit that it was told before")
{
    virTypedParameterPtr params = NULL;
    struct virt_migration m = basic();
    int count = params_of(&m, &params);
    unsigned long long mib = 0;
    UNIT_EQ(virTypedParamsGetULLong(params, count, VIR_MIGRATE_PARAM_BANDWIDTH, &mib), 1);
    UNIT_EQ(mib, INT64_MAX >> 20);
    virTypedParamsFree(params, count);
}

UNIT_TEST(all_parameters, "every parameter that is given arrives with its value")
{
    char *disks[] = {(char *)"vda", (char *)"vdb", NULL};
    virTypedParameterPtr params = NULL;
    struct virt_migration m = basic();
    m.migrate_uri = "tcp://198.51.100.12";
    m.listen_address = "198.51.100.12";
    m.block_migration = m.auto_converge = m.post_copy = true;
    m.copy_disks = disks;
    m.bandwidth_mib = 100;
    m.post_copy_bandwidth_mib = 200;
    m.auto_converge_initial = 30;
    m.auto_converge_increment = 15;
    int count = params_of(&m, &params);
    UNIT_EQ(count, 10);
    UNIT_STR(text_of(params, count, VIR_MIGRATE_PARAM_URI), "tcp://198.51.100.12");
    UNIT_STR(text_of(params, count, VIR_MIGRATE_PARAM_LISTEN_ADDRESS), "198.51.100.12");
    const char *list[2] = {NULL, NULL};
    int found = 0;
    for (int i = 0; i < count; i++)
        if (strcmp(params[i].field, VIR_MIGRATE_PARAM_MIGRATE_DISKS) == 0 && found < 2)
            list[found++] = params[i].value.s;
    UNIT_STR(list[0], "vda");
    UNIT_STR(list[1], "vdb");
    unsigned long long large = 0;
    int whole = 0;
    UNIT_EQ(virTypedParamsGetULLong(params, count, VIR_MIGRATE_PARAM_BANDWIDTH, &large), 1);
    UNIT_EQ(large, 100);
    UNIT_EQ(virTypedParamsGetULLong(params, count, VIR_MIGRATE_PARAM_BANDWIDTH_POSTCOPY, &large),
            1);
    UNIT_EQ(large, 200);
    UNIT_EQ(virTypedParamsGetInt(params, count, VIR_MIGRATE_PARAM_AUTO_CONVERGE_INITIAL, &whole),
            1);
    UNIT_EQ(whole, 30);
    UNIT_EQ(virTypedParamsGetInt(params, count, VIR_MIGRATE_PARAM_AUTO_CONVERGE_INCREMENT, &whole),
            1);
    UNIT_EQ(whole, 15);
    virTypedParamsFree(params, count);
}

UNIT_TEST(parameters_need_flags, "a parameter whose flag is not set is left out")
{
    virTypedParameterPtr params = NULL;
    struct virt_migration m = basic();
    m.tunnelled = true;
    m.migrate_uri = "tcp://198.51.100.12";
    m.auto_converge_initial = 30;
    m.post_copy_bandwidth_mib = 10;
    m.parallel_connections = 1;
    UNIT_EQ(params_of(&m, &params), 3);
    virTypedParamsFree(params, 3);
}

UNIT_TEST(statistics, "statistics of every type of number are taken, dirty rate in bytes")
{
    virTypedParameterPtr params = NULL;
    int count = 0, capacity = 0;
    virTypedParamsAddInt(&params, &count, &capacity, VIR_DOMAIN_JOB_OPERATION,
                         VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT);
    virTypedParamsAddULLong(&params, &count, &capacity, VIR_DOMAIN_JOB_TIME_ELAPSED, 1500);
    virTypedParamsAddULLong(&params, &count, &capacity, VIR_DOMAIN_JOB_MEMORY_DIRTY_RATE, 10);
    virTypedParamsAddULLong(&params, &count, &capacity, VIR_DOMAIN_JOB_MEMORY_PAGE_SIZE, 4096);
    virTypedParamsAddULLong(&params, &count, &capacity, VIR_DOMAIN_JOB_MEMORY_ITERATION, 3);
    virTypedParamsAddULLong(&params, &count, &capacity, VIR_DOMAIN_JOB_DISK_TOTAL, UINT64_MAX);
    virTypedParamsAddInt(&params, &count, &capacity, VIR_DOMAIN_JOB_AUTO_CONVERGE_THROTTLE, 40);
    virTypedParamsAddString(&params, &count, &capacity, VIR_DOMAIN_JOB_ERRMSG, "no route");
    struct virt_job job;
    libvirt_job_map(VIR_DOMAIN_JOB_UNBOUNDED, params, count, &job);
    UNIT_TRUE(job.active && !job.completed);
    UNIT_EQ(job.elapsed_ms, 1500);
    UNIT_EQ(job.dirty_rate, 40960);
    UNIT_EQ(job.iteration, 3);
    UNIT_EQ(job.disk_total, INT64_MAX);
    UNIT_EQ(job.throttle_percent, 40);
    UNIT_EQ(job.downtime_ms, -1);
    UNIT_STR(job.error, "no route");
    libvirt_job_map(VIR_DOMAIN_JOB_COMPLETED, params, count, &job);
    UNIT_TRUE(!job.active && job.completed);
    virTypedParamsFree(params, count);
}

UNIT_TEST(other_jobs, "an incoming job, a save or no job is no outgoing migration")
{
    virTypedParameterPtr params = NULL;
    int count = 0, capacity = 0;
    struct virt_job job;
    virTypedParamsAddInt(&params, &count, &capacity, VIR_DOMAIN_JOB_OPERATION,
                         VIR_DOMAIN_JOB_OPERATION_SAVE);
    libvirt_job_map(VIR_DOMAIN_JOB_UNBOUNDED, params, count, &job);
    UNIT_TRUE(!job.active);
    virTypedParamsFree(params, count);
    libvirt_job_map(VIR_DOMAIN_JOB_NONE, NULL, 0, &job);
    UNIT_TRUE(!job.active && !job.completed);
}

UNIT_TEST(events, "libvirt's events are told apart by their details")
{
    static const struct {
        int event, detail, ours;
    } rows[] = {
        {VIR_DOMAIN_EVENT_SUSPENDED, VIR_DOMAIN_EVENT_SUSPENDED_MIGRATED,
         VIRT_EVENT_PAUSED_MIGRATION},
        {VIR_DOMAIN_EVENT_SUSPENDED, VIR_DOMAIN_EVENT_SUSPENDED_PAUSED, VIRT_EVENT_PAUSED},
        {VIR_DOMAIN_EVENT_SUSPENDED, VIR_DOMAIN_EVENT_SUSPENDED_POSTCOPY,
         VIRT_EVENT_PAUSED_POSTCOPY},
        {VIR_DOMAIN_EVENT_SUSPENDED, VIR_DOMAIN_EVENT_SUSPENDED_IOERROR,
         VIRT_EVENT_PAUSED_IO_ERROR},
        {VIR_DOMAIN_EVENT_RESUMED, VIR_DOMAIN_EVENT_RESUMED_MIGRATED, VIRT_EVENT_RESUMED_MIGRATION},
        {VIR_DOMAIN_EVENT_RESUMED, VIR_DOMAIN_EVENT_RESUMED_POSTCOPY, VIRT_EVENT_RESUMED_POSTCOPY},
        {VIR_DOMAIN_EVENT_RESUMED, VIR_DOMAIN_EVENT_RESUMED_UNPAUSED, VIRT_EVENT_RESUMED},
        {VIR_DOMAIN_EVENT_STOPPED, VIR_DOMAIN_EVENT_STOPPED_MIGRATED, VIRT_EVENT_STOPPED_MIGRATION},
        {VIR_DOMAIN_EVENT_STOPPED, VIR_DOMAIN_EVENT_STOPPED_CRASHED, VIRT_EVENT_STOPPED},
        {VIR_DOMAIN_EVENT_STARTED, VIR_DOMAIN_EVENT_STARTED_MIGRATED, VIRT_EVENT_STARTED},
    };
    enum virt_event event;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        UNIT_TRUE(libvirt_event_map(rows[i].event, rows[i].detail, &event));
        UNIT_EQ(event, rows[i].ours);
    }
    UNIT_TRUE(!libvirt_event_map(VIR_DOMAIN_EVENT_SHUTDOWN, 0, &event));
    UNIT_TRUE(!libvirt_event_map(4711, 0, &event));
}

UNIT_TEST(errors, "libvirt's error numbers become ours")
{
    UNIT_EQ(libvirt_error_code(VIR_ERR_NO_DOMAIN), ERR_NO_INSTANCE);
    UNIT_EQ(libvirt_error_code(VIR_ERR_OPERATION_INVALID), ERR_INSTANCE_STATE);
    UNIT_EQ(libvirt_error_code(VIR_ERR_OPERATION_ABORTED), ERR_CANCELLED);
    UNIT_EQ(libvirt_error_code(VIR_ERR_NO_CONNECT), ERR_HYPERVISOR);
    UNIT_EQ(libvirt_error_code(VIR_ERR_INTERNAL_ERROR), ERR_VIRT);
}

UNIT_TEST(memory_of_host, "the kernel's estimate of available memory is read in bytes")
{
    int64_t total = 0, available = 0;
    UNIT_OK(libvirt_host_memory(&total, &available, &unit_err));
    UNIT_TRUE(total > available && available > 1 << 20);
}

UNIT_TEST(post_copy, "post-copy is known by the domain's reason, at either side")
{
    UNIT_EQ(libvirt_post_copy_map(VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_POSTCOPY),
            VIRT_POST_COPY_RUNS);
    UNIT_EQ(libvirt_post_copy_map(VIR_DOMAIN_RUNNING, VIR_DOMAIN_RUNNING_POSTCOPY),
            VIRT_POST_COPY_RUNS);
    UNIT_EQ(libvirt_post_copy_map(VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_POSTCOPY_FAILED),
            VIRT_POST_COPY_FAILED);
    UNIT_EQ(libvirt_post_copy_map(VIR_DOMAIN_RUNNING, VIR_DOMAIN_RUNNING_POSTCOPY_FAILED),
            VIRT_POST_COPY_FAILED);
    UNIT_EQ(libvirt_post_copy_map(VIR_DOMAIN_RUNNING, VIR_DOMAIN_RUNNING_MIGRATED),
            VIRT_POST_COPY_NONE);
    UNIT_EQ(libvirt_post_copy_map(VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_MIGRATION),
            VIRT_POST_COPY_NONE);
    UNIT_EQ(libvirt_post_copy_map(VIR_DOMAIN_SHUTOFF, VIR_DOMAIN_PAUSED_POSTCOPY),
            VIRT_POST_COPY_NONE);
}

/* ---- the dirty rate before a migration ---- */

static int64_t rate_over(int period_s, int status, long long mib)
{
    virTypedParameterPtr params = NULL;
    int count = 0, capacity = 0;
    UNIT_EQ(virTypedParamsAddInt(&params, &count, &capacity, "dirtyrate.calc_status", status), 0);
    UNIT_EQ(virTypedParamsAddInt(&params, &count, &capacity, "dirtyrate.calc_period", period_s), 0);
    if (mib >= 0)
        UNIT_EQ(virTypedParamsAddLLong(&params, &count, &capacity, "dirtyrate.megabytes_per_second",
                                       mib),
                0);
    int64_t rate = libvirt_dirty_rate_map(params, count, 1);
    virTypedParamsFree(params, count);
    return rate;
}

static int64_t rate_of(int status, long long mib)
{
    return rate_over(1, status, mib);
}

UNIT_TEST(dirty_rate, "a dirty rate counts once it is measured, MiB a second as bytes")
{
    UNIT_EQ(rate_of(VIR_DOMAIN_DIRTYRATE_MEASURED, 150), INT64_C(150) << 20);
    UNIT_EQ(rate_of(VIR_DOMAIN_DIRTYRATE_MEASURED, 0), 0);
    UNIT_EQ(rate_of(VIR_DOMAIN_DIRTYRATE_MEASURED, INT64_MAX), INT64_MAX);
    UNIT_EQ(rate_of(VIR_DOMAIN_DIRTYRATE_MEASURING, 150), -1); /* that of an earlier look */
    UNIT_EQ(rate_of(VIR_DOMAIN_DIRTYRATE_UNSTARTED, -1), -1);
    UNIT_EQ(rate_of(VIR_DOMAIN_DIRTYRATE_MEASURED, -1), -1);
    UNIT_EQ(rate_over(20, VIR_DOMAIN_DIRTYRATE_MEASURED, 150), -1); /* somebody else's */
    UNIT_EQ(libvirt_dirty_rate_map(NULL, 0, 1), -1);
}
