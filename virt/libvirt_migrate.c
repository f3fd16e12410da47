/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The migrate call and what steers it.
 *
 * Bandwidth (read in libvirt 9.0, qemu_migration.c): the parameter `bandwidth` becomes the limit of RAM
 * and, separately, of each disk's mirror, when the call begins. virDomainMigrateSetMaxSpeed() changes
 * RAM's alone, mirrors keep theirs. So when the disks share a limit, the call starts with the disk's share,
 * and RAM's limit is raised when its first iteration begins (the mirrors are ready by then), on a
 * thread that the call brings along. QEMU takes no "unlimited" from SetMaxSpeed but a number; the
 * greatest that libvirt permits is what it uses itself.
 *
 * Outcome. The call's error says what went wrong, not always where the guest is:
 * - no error: it moved;
 * - the connection is gone: not known. A peer-to-peer migration goes on without its client;
 * - OPERATION_ABORTED: somebody cancelled it, the guest runs here;
 * - another error: the domain decides. Running, or paused by somebody: it is here. Gone, shut off, or
 *   still paused for the migration or for post-copy: look at both hosts (promise S1).
 *
 * Post-copy that loses its connection (libvirt 9.0, QEMU 7.2; tests/lab/test_postcopy.py): the call fails, the domain
 * stays paused with the reason POSTCOPY_FAILED, its job stays too. The destination's notices when QEMU there next
 * asks for a page, or when what it sent is not answered: until then a resuming call is refused ("actively
 * monitored by another thread"), and libvirt 9.0 is harmed by it: it lets go of the job that its other thread waits
 * with, and refuses every later one. After it the same call with POSTCOPY_RESUME goes on.
 *
 * Seen when a libvirtd gets SIGKILL, in the disk phase and in the memory phase alike (libvirt 9.0, QEMU
 * 7.2; tests/lab/test_virt_provider.py repeats it):
 * - the source's: the call ends within milliseconds as UNKNOWN ("End of file while reading data"), and
 *   the connection is told down in 3 ms. The guest runs on at home. The destination's libvirtd sees its
 *   peer go and removes the arrival at once (event STOPPED); a started libvirtd takes the guest up
 *   and cancels what is left of the job. No event tells of it on the source.
 * - the destination's: the call ends after 30-120 ms as FAILED ("client socket is closed"), the guest
 *   runs on at home. The arrival's QEMU is left behind until libvirtd starts there, which removes it
 *   without an event.
 * With SIGSTOP on the source's the call ends as UNKNOWN when keepalive gives up; after SIGCONT the
 * migration goes on without its client and completes, so the guest is then at the destination.
 */
#include "virt/libvirt_internal.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "lib/text.h"

#define BANDWIDTH_MAX_MIB INT64_C(8796093022207) /* libvirt's: INT64_MAX / MiB */

/* --- flags: each row is one flag, why it is set, and what it needs or excludes --- */

enum { COPY_FLAGS = VIR_MIGRATE_NON_SHARED_INC };

static const struct {
    unsigned flag;
    ptrdiff_t wanted;   /* offset of a bool of struct virt_migration; ALWAYS */
    unsigned needs;     /* left out unless all of these are set by rows above */
    bool not_if_paused; /* of no use to a guest that does not run */
} flag_rows[] = {
#define ALWAYS       (-1)
#define WANTED(name) (ptrdiff_t) offsetof(struct virt_migration, name)
    {VIR_MIGRATE_LIVE, ALWAYS, 0, false},
    {VIR_MIGRATE_PEER2PEER, ALWAYS, 0, false},
    {VIR_MIGRATE_UNDEFINE_SOURCE, ALWAYS, 0, false},
    {VIR_MIGRATE_PERSIST_DEST, ALWAYS, 0, false},
    {VIR_MIGRATE_TUNNELLED, WANTED(tunnelled), 0, false},
    {VIR_MIGRATE_TLS, WANTED(tls), 0, false},
    {VIR_MIGRATE_NON_SHARED_INC, WANTED(block_migration), 0, false},
    {VIR_MIGRATE_NON_SHARED_SYNCHRONOUS_WRITES, WANTED(synchronous_writes), COPY_FLAGS, false},
    {VIR_MIGRATE_POSTCOPY, WANTED(post_copy), 0, true},
    {VIR_MIGRATE_POSTCOPY_RESUME, WANTED(resume_post_copy), VIR_MIGRATE_POSTCOPY, false},
    {VIR_MIGRATE_AUTO_CONVERGE, WANTED(auto_converge), 0, true},
};

/* What QEMU or libvirt would refuse, told before anything is touched. */
static const struct {
    unsigned both;
    int64_t before; /* of these versions of QEMU; 0 = of all */
    const char *why;
} conflict_rows[] = {
    {VIR_MIGRATE_TUNNELLED | VIR_MIGRATE_NON_SHARED_INC, 0,
     "a tunnelled migration cannot copy a list of disks"},
    {VIR_MIGRATE_TUNNELLED | VIR_MIGRATE_POSTCOPY, 0, "a tunnelled migration cannot use post-copy"},
    {VIR_MIGRATE_TUNNELLED | VIR_MIGRATE_PARALLEL, 0,
     "a tunnelled migration cannot use parallel connections"},
    {VIR_MIGRATE_POSTCOPY | VIR_MIGRATE_PARALLEL, 10001000,
     "post-copy over parallel connections needs QEMU 10.1.0"},
};

static bool bool_at(const struct virt_migration *migration, ptrdiff_t offset)
{
    bool value = true;
    if (offset != ALWAYS)
        memcpy(&value, (const char *)migration + offset, sizeof(value));
    return value;
}

static bool has_disks(const struct virt_migration *migration)
{
    return migration->copy_disks && migration->copy_disks[0];
}

int libvirt_migration_flags(const struct virt_migration *migration, bool paused,
                            int64_t hypervisor_version, unsigned *flags, struct err *e)
{
    unsigned set = 0;
    for (size_t i = 0; i < ARRAY_LEN(flag_rows); i++) {
        bool wanted = bool_at(migration, flag_rows[i].wanted) &&
                      (set & flag_rows[i].needs) == flag_rows[i].needs &&
                      !(paused && flag_rows[i].not_if_paused);
        /* With the flag and no list, libvirt copies every disk, attached volumes included. */
        if (flag_rows[i].flag == VIR_MIGRATE_NON_SHARED_INC && !has_disks(migration))
            wanted = false;
        set |= wanted ? flag_rows[i].flag : 0;
    }
    if (migration->parallel_connections > 1)
        set |= VIR_MIGRATE_PARALLEL;
    for (size_t i = 0; i < ARRAY_LEN(conflict_rows); i++)
        if ((set & conflict_rows[i].both) == conflict_rows[i].both &&
            (!conflict_rows[i].before || hypervisor_version < conflict_rows[i].before))
            return err_set(e, ERR_INVALID, "domain %s cannot be migrated: %s", migration->uuid,
                           conflict_rows[i].why);
    *flags = set;
    return 0;
}

/* --- typed parameters --- */

enum kind { TEXT, TEXTS, WHOLE, LARGE, SPEED };

static const struct {
    const char *name;
    enum kind kind;
    size_t offset;
    unsigned needs, without; /* flags */
} parameter_rows[] = {
#define AT(name) offsetof(struct virt_migration, name)
    {VIR_MIGRATE_PARAM_DEST_XML, TEXT, AT(destination_xml), 0, 0},
    /* Without it PERSIST_DEST would persist the source's configuration (CVE-2020-17376 of Nova). */
    {VIR_MIGRATE_PARAM_PERSIST_XML, TEXT, AT(destination_xml), VIR_MIGRATE_PERSIST_DEST, 0},
    {VIR_MIGRATE_PARAM_URI, TEXT, AT(migrate_uri), 0, VIR_MIGRATE_TUNNELLED},
    {VIR_MIGRATE_PARAM_LISTEN_ADDRESS, TEXT, AT(listen_address), 0, VIR_MIGRATE_TUNNELLED},
    {VIR_MIGRATE_PARAM_MIGRATE_DISKS, TEXTS, AT(copy_disks), VIR_MIGRATE_NON_SHARED_INC, 0},
    {VIR_MIGRATE_PARAM_BANDWIDTH, SPEED, AT(bandwidth_mib), 0, 0},
    {VIR_MIGRATE_PARAM_BANDWIDTH_POSTCOPY, LARGE, AT(post_copy_bandwidth_mib), VIR_MIGRATE_POSTCOPY,
     0},
    {VIR_MIGRATE_PARAM_AUTO_CONVERGE_INITIAL, WHOLE, AT(auto_converge_initial),
     VIR_MIGRATE_AUTO_CONVERGE, 0},
    {VIR_MIGRATE_PARAM_AUTO_CONVERGE_INCREMENT, WHOLE, AT(auto_converge_increment),
     VIR_MIGRATE_AUTO_CONVERGE, 0},
    {VIR_MIGRATE_PARAM_PARALLEL_CONNECTIONS, WHOLE, AT(parallel_connections), VIR_MIGRATE_PARALLEL,
     0},
};

struct typed_params {
    virTypedParameterPtr items;
    int count, capacity;
};

static void typed_params_clear(struct typed_params *params)
{
    virTypedParamsFree(params->items, params->count);
    *params = (struct typed_params){0};
}

static int add_texts(struct typed_params *to, const char *name, char *const *values)
{
    int rc = 0;
    for (size_t i = 0; values && values[i] && rc == 0; i++)
        rc = virTypedParamsAddString(&to->items, &to->count, &to->capacity, name, values[i]);
    return rc;
}

static int64_t speed_of(int64_t mib)
{
    return mib > 0 && mib < BANDWIDTH_MAX_MIB ? mib : BANDWIDTH_MAX_MIB;
}

/* Zero and NULL mean: not given. A speed always is: without it libvirt takes what virDomainMigrateSetMaxSpeed() said
 * last of the domain, in an attempt before this one. */
static int add_parameter(struct typed_params *to, const char *name, enum kind kind,
                         const void *place)
{
    const char *text;
    char *const *texts;
    int whole;
    int64_t large;
    switch (kind) {
    case TEXT:
        memcpy(&text, place, sizeof(text));
        return text ? virTypedParamsAddString(&to->items, &to->count, &to->capacity, name, text)
                    : 0;
    case TEXTS:
        memcpy(&texts, place, sizeof(texts));
        return add_texts(to, name, texts);
    case WHOLE:
        memcpy(&whole, place, sizeof(whole));
        return whole ? virTypedParamsAddInt(&to->items, &to->count, &to->capacity, name, whole) : 0;
    case LARGE:
        memcpy(&large, place, sizeof(large));
        return large > 0 ? virTypedParamsAddULLong(&to->items, &to->count, &to->capacity, name,
                                                   (unsigned long long)large)
                         : 0;
    case SPEED:
        memcpy(&large, place, sizeof(large));
        return virTypedParamsAddULLong(&to->items, &to->count, &to->capacity, name,
                                       (unsigned long long)speed_of(large));
    }
    return -1;
}

int libvirt_migration_params(const struct virt_migration *migration, unsigned flags,
                             virTypedParameterPtr *params, int *count, struct err *e)
{
    _cleanup_(typed_params_clear) struct typed_params made = {0};
    for (size_t i = 0; i < ARRAY_LEN(parameter_rows); i++) {
        if ((flags & parameter_rows[i].needs) != parameter_rows[i].needs ||
            (flags & parameter_rows[i].without))
            continue;
        if (add_parameter(&made, parameter_rows[i].name, parameter_rows[i].kind,
                          (const char *)migration + parameter_rows[i].offset) < 0)
            return libvirt_error(e, "migration parameter %s", parameter_rows[i].name);
    }
    *params = STEAL(made.items);
    *count = made.count;
    made.count = 0;
    return 0;
}

/* --- the call and those who steer it from other threads --- */

static struct libvirt_running *find_running(struct libvirt *lv, const char *uuid)
{
    struct libvirt_running *running = lv->running;
    while (running && strcmp(running->uuid, uuid) != 0)
        running = running->next;
    return running;
}

static int begin_running(struct libvirt *lv, struct libvirt_running *running, struct err *e)
{
    pthread_mutex_lock(&lv->lock);
    bool twice = find_running(lv, running->uuid) != NULL;
    if (!twice) {
        running->next = lv->running;
        lv->running = running;
    }
    pthread_mutex_unlock(&lv->lock);
    return twice ? err_set(e, ERR_INSTANCE_STATE, "domain %s is being migrated already",
                           running->uuid)
                 : 0;
}

static void end_running(struct libvirt *lv, struct libvirt_running *running)
{
    pthread_mutex_lock(&lv->lock);
    struct libvirt_running **place = &lv->running;
    while (*place && *place != running)
        place = &(*place)->next;
    if (*place)
        *place = running->next;
    running->over = true;
    pthread_cond_broadcast(&running->changed);
    pthread_mutex_unlock(&lv->lock);
}

void libvirt_memory_started(struct libvirt *lv, const char *uuid)
{
    pthread_mutex_lock(&lv->lock);
    struct libvirt_running *running = find_running(lv, uuid);
    if (running && !running->memory_started) {
        running->memory_started = true;
        pthread_cond_broadcast(&running->changed);
    }
    pthread_mutex_unlock(&lv->lock);
}

static int set_speed(struct virt *virt, const char *uuid, int64_t mib, struct err *e)
{
    LIBVIRT_CALL(call);
    if (libvirt_call_begin(&call, virt, uuid, false, e) < 0)
        return -1;
    unsigned long speed = (unsigned long)speed_of(mib);
    if (virDomainMigrateSetMaxSpeed(call.domain, speed, 0) < 0)
        return libvirt_call_error(
            &call, e, "domain %s: its migration cannot be limited to %lu MiB/s", uuid, speed);
    return 0;
}

enum { RAISES_MAX = 10 };

struct raiser {
    struct libvirt *lv;
    struct libvirt_running *running;
    pthread_t thread;
    bool runs;
};

static int64_t wanted_speed(struct libvirt *lv, const struct libvirt_running *running)
{
    pthread_mutex_lock(&lv->lock);
    int64_t mib = running->bandwidth_mib;
    pthread_mutex_unlock(&lv->lock);
    return mib;
}

/* libvirt_set_bandwidth() may tell a newer limit meanwhile, before this one arrives. */
static void set_wanted_speed(struct libvirt *lv, const struct libvirt_running *running)
{
    int64_t mib = wanted_speed(lv, running), told_mib = mib;

    for (int i = 0; i < RAISES_MAX && (i == 0 || mib != told_mib); i++) {
        told_mib = mib;
        (void)set_speed(&lv->base, running->uuid, mib, NULL);
        mib = wanted_speed(lv, running);
    }
}

/* Waits for the RAM phase and gives RAM its own limit. A failure leaves the disks' share in force: the
 * migration is slower, no more. */
static void *raise_speed(void *aux)
{
    struct raiser *raiser = aux;
    struct libvirt *lv = raiser->lv;
    struct libvirt_running *running = raiser->running;
    pthread_mutex_lock(&lv->lock);
    while (!running->memory_started && !running->over)
        pthread_cond_wait(&running->changed, &lv->lock);
    bool wanted = running->memory_started && !running->over;
    pthread_mutex_unlock(&lv->lock);
    if (wanted)
        set_wanted_speed(lv, running);
    return NULL;
}

static int raiser_start(struct raiser *raiser, struct libvirt *lv, struct libvirt_running *running,
                        struct err *e)
{
    *raiser = (struct raiser){.lv = lv, .running = running};
    if (!running->raise)
        return 0;
    int rc = pthread_create(&raiser->thread, NULL, raise_speed, raiser);
    if (rc != 0)
        return err_set_errno(e, ERR_SYSTEM, rc, "no thread to limit the migration of domain %s",
                             running->uuid);
    raiser->runs = true;
    return 0;
}

static void raiser_join(struct raiser *raiser)
{
    if (raiser->runs)
        (void)pthread_join(raiser->thread, NULL);
}

/* What domain states mean after a migrate call that failed on a living connection. */
static enum virt_outcome outcome_of_domain(virDomainPtr domain)
{
    int state = VIR_DOMAIN_NOSTATE, reason = 0;
    if (virDomainGetState(domain, &state, &reason, 0) < 0)
        return VIRT_OUTCOME_UNKNOWN;
    if (state == VIR_DOMAIN_RUNNING)
        return reason == VIR_DOMAIN_RUNNING_POSTCOPY_FAILED ? VIRT_OUTCOME_UNKNOWN
                                                            : VIRT_OUTCOME_FAILED;
    if (state != VIR_DOMAIN_PAUSED)
        return VIRT_OUTCOME_UNKNOWN;
    switch (reason) {
    case VIR_DOMAIN_PAUSED_MIGRATION:
    case VIR_DOMAIN_PAUSED_POSTCOPY:
    case VIR_DOMAIN_PAUSED_POSTCOPY_FAILED:
        return VIRT_OUTCOME_UNKNOWN;
    default:
        return VIRT_OUTCOME_FAILED;
    }
}

static enum virt_outcome judge_failure(const struct libvirt_call *call, int number, bool aborted)
{
    if (libvirt_is_broken(call->connection))
        return VIRT_OUTCOME_UNKNOWN;
    enum virt_outcome outcome = outcome_of_domain(call->domain);
    if (outcome == VIRT_OUTCOME_FAILED && (aborted || number == VIR_ERR_OPERATION_ABORTED))
        return VIRT_OUTCOME_CANCELLED;
    return outcome;
}

static bool is_paused(virDomainPtr domain)
{
    int state = VIR_DOMAIN_NOSTATE;
    return virDomainGetState(domain, &state, NULL, 0) == 0 && state == VIR_DOMAIN_PAUSED;
}

static const enum err_code outcome_codes[] = {
    [VIRT_OUTCOME_COMPLETED] = ERR_NONE,
    [VIRT_OUTCOME_FAILED] = ERR_MIGRATION,
    [VIRT_OUTCOME_CANCELLED] = ERR_CANCELLED,
    [VIRT_OUTCOME_UNKNOWN] = ERR_HYPERVISOR,
};

static int run(const struct libvirt_call *call, const struct virt_migration *migration,
               struct libvirt_running *running, enum virt_outcome *outcome, struct err *e)
{
    struct virt_migration start = *migration;
    unsigned flags;
    _cleanup_(typed_params_clear) struct typed_params params = {0};
    if (running->raise)
        start.bandwidth_mib = migration->disk_bandwidth_mib;
    pthread_mutex_lock(&call->lv->lock);
    int64_t version = call->lv->hypervisor_version;
    pthread_mutex_unlock(&call->lv->lock);
    /* a guest whose post-copy failed is paused because of it */
    bool paused = !migration->resume_post_copy && is_paused(call->domain);
    if (libvirt_migration_flags(&start, paused, version, &flags, e) < 0 ||
        libvirt_migration_params(&start, flags, &params.items, &params.count, e) < 0)
        return -1;
    if (virDomainMigrateToURI3(call->domain, migration->destination_uri, params.items,
                               (unsigned)params.count, flags) == 0) {
        *outcome = VIRT_OUTCOME_COMPLETED;
        return 0;
    }
    const virError *last = virGetLastError();
    int number = last ? last->code : 0;
    struct err cause = ERR_INIT;
    libvirt_error(&cause, "domain %s was not migrated to %s", migration->uuid,
                  migration->destination_uri);
    pthread_mutex_lock(&call->lv->lock);
    bool aborted = running->aborted;
    pthread_mutex_unlock(&call->lv->lock);
    *outcome = judge_failure(call, number, aborted);
    cause.code = outcome_codes[*outcome];
    if (e)
        *e = cause;
    return -1;
}

int libvirt_migrate(struct virt *virt, const struct virt_migration *migration,
                    enum virt_outcome *outcome, struct err *e)
{
    struct libvirt *lv = libvirt_of(virt);
    struct raiser raiser;
    LIBVIRT_CALL(call);
    *outcome = VIRT_OUTCOME_FAILED;
    if (libvirt_call_begin(&call, virt, migration->uuid, false, e) < 0)
        return -1;
    struct libvirt_running running = {
        .uuid = migration->uuid,
        .raise = has_disks(migration) && migration->block_migration &&
                 migration->disk_bandwidth_mib > 0 &&
                 migration->disk_bandwidth_mib != migration->bandwidth_mib,
        .bandwidth_mib = migration->bandwidth_mib,
        .changed = PTHREAD_COND_INITIALIZER,
    };
    if (begin_running(lv, &running, e) < 0)
        return -1;
    int rc = raiser_start(&raiser, lv, &running, e);
    if (rc == 0)
        rc = run(&call, migration, &running, outcome, e);
    end_running(lv, &running);
    raiser_join(&raiser);
    pthread_cond_destroy(&running.changed);
    return rc;
}

int libvirt_set_downtime(struct virt *virt, const char *uuid, int64_t downtime_ms, struct err *e)
{
    LIBVIRT_CALL(call);
    if (libvirt_call_begin(&call, virt, uuid, false, e) < 0)
        return -1;
    if (virDomainMigrateSetMaxDowntime(call.domain, (unsigned long long)downtime_ms, 0) < 0)
        return libvirt_call_error(&call, e, "domain %s: downtime limit %lld ms", uuid,
                                  (long long)downtime_ms);
    return 0;
}

/* While the disks are copied RAM's later limit is noted only: the running call will set it. */
int libvirt_set_bandwidth(struct virt *virt, const char *uuid, int64_t mib, struct err *e)
{
    struct libvirt *lv = libvirt_of(virt);
    pthread_mutex_lock(&lv->lock);
    struct libvirt_running *running = find_running(lv, uuid);
    if (running)
        running->bandwidth_mib = mib;
    bool later = running && running->raise && !running->memory_started;
    pthread_mutex_unlock(&lv->lock);
    return later ? 0 : set_speed(virt, uuid, mib, e);
}

int libvirt_start_post_copy(struct virt *virt, const char *uuid, struct err *e)
{
    LIBVIRT_CALL(call);
    if (libvirt_call_begin(&call, virt, uuid, false, e) < 0)
        return -1;
    if (virDomainMigrateStartPostCopy(call.domain, 0) < 0)
        return libvirt_call_error(&call, e, "domain %s cannot be switched to post-copy", uuid);
    return 0;
}

static void note_abort(struct libvirt *lv, const char *uuid, bool aborted)
{
    pthread_mutex_lock(&lv->lock);
    struct libvirt_running *running = find_running(lv, uuid);
    if (running)
        running->aborted = aborted;
    pthread_mutex_unlock(&lv->lock);
}

int libvirt_abort(struct virt *virt, const char *uuid, struct err *e)
{
    struct libvirt *lv = libvirt_of(virt);
    LIBVIRT_CALL(call);
    if (libvirt_call_begin(&call, virt, uuid, false, e) < 0)
        return -1;
    note_abort(lv, uuid, true); /* first, because the migrate call may return before this one */
    if (virDomainAbortJob(call.domain) == 0)
        return 0;
    libvirt_call_error(&call, e, "the migration of domain %s cannot be aborted", uuid);
    note_abort(lv, uuid, false);
    return -1;
}
