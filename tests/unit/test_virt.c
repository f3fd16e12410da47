/* SPDX-License-Identifier: Apache-2.0 */
/* virt/virt.h over the fake: what the agent's tests rely on. */
#include "tests/unit/unit.h"

#include <pthread.h>

#include "lib/fault.h"
#include "lib/text.h"
#include "virt/fake.h"

#define UUID "8d6e0e9a-6f0a-4b8a-9c55-0f3a1b2c3d4e"

static struct loop *loop;
static struct virt *virt;
static struct {
    unsigned connections, events, iterations, jobs;
    bool up;
    enum virt_event event;
    int iteration;
    int64_t downtime_ms, at_us;
} seen;

static void on_connection(void *aux _unused_, bool up, const char *why _unused_)
{
    seen.connections++;
    seen.up = up;
}

static void on_event(void *aux _unused_, const char *uuid, enum virt_event event, int64_t at_us)
{
    UNIT_STR(uuid, UUID);
    seen.events++;
    seen.event = event;
    seen.at_us = at_us;
}

static void on_iteration(void *aux _unused_, const char *uuid _unused_, int iteration,
                         int64_t at_us _unused_)
{
    seen.iterations++;
    seen.iteration = iteration;
}

static void on_job(void *aux _unused_, const char *uuid _unused_, const struct virt_job *job,
                   int64_t at_us _unused_)
{
    seen.jobs++;
    seen.downtime_ms = job->downtime_ms;
}

static void turn(void)
{
    (void)loop_turn(loop, 0, NULL);
}

static void setup(void)
{
    static const struct virt_callbacks callbacks = {on_connection, on_event, on_iteration, on_job};
    struct err e = ERR_INIT;
    if (loop_new(&loop, &e) < 0 || virt_fake_new(&virt, loop, &callbacks, NULL, &e) < 0)
        abort();
    memset(&seen, 0, sizeof(seen));
    virt_fake_add(virt, UUID, "instance-00000001", NULL, VIRT_STATE_RUNNING);
    turn();
}

static void teardown(void)
{
    fault_disarm_all();
    virt_free(virt);
    turn();
    loop_free(loop);
}

UNIT_FIXTURE(setup, teardown)

UNIT_TEST(tells_connection, "a connection is told once, and again when it goes and comes")
{
    UNIT_EQ(seen.connections, 1);
    UNIT_TRUE(seen.up && virt_is_up(virt));
    virt_fake_set_up(virt, false, "stopped");
    UNIT_EQ(seen.connections, 2);
    UNIT_TRUE(!seen.up && !virt_is_up(virt));
}

UNIT_TEST(fails_while_down, "every call fails at once while the hypervisor is away")
{
    enum virt_state state;
    virt_fake_set_up(virt, false, "libvirtd gave no sign of life");
    UNIT_FAILS(virt_guest_state(virt, UUID, &state, &unit_err), ERR_HYPERVISOR);
    UNIT_HAS(unit_err.text, "no sign of life");
}

UNIT_TEST(tells_events, "events, iterations and completed jobs are told on the loop")
{
    struct virt_job job = {.completed = true, .downtime_ms = 42};
    virt_fake_event(virt, UUID, VIRT_EVENT_PAUSED_MIGRATION);
    virt_fake_iteration(virt, UUID, 2);
    virt_fake_job_completed(virt, UUID, &job);
    turn();
    UNIT_EQ(seen.events, 1);
    UNIT_EQ(seen.event, VIRT_EVENT_PAUSED_MIGRATION);
    UNIT_TRUE(seen.at_us > 0);
    UNIT_EQ(seen.iteration, 2);
    UNIT_EQ(seen.downtime_ms, 42);
}

UNIT_TEST(no_calls_after_free, "nothing is told after the object was freed")
{
    struct virt *other;
    static const struct virt_callbacks callbacks = {on_connection, on_event, on_iteration, on_job};
    UNIT_OK(virt_fake_new(&other, loop, &callbacks, NULL, &unit_err));
    virt_free(other);
    turn();
    UNIT_EQ(seen.connections, 1);
}

UNIT_TEST(absent_is_none, "a missing domain has the state none, and removing it is success")
{
    enum virt_state state = VIRT_STATE_RUNNING;
    virt_fake_remove(virt, UUID);
    UNIT_OK(virt_guest_state(virt, UUID, &state, &unit_err));
    UNIT_EQ(state, VIRT_STATE_NONE);
    UNIT_OK(virt_guest_destroy(virt, UUID, &unit_err));
    UNIT_OK(virt_guest_destroy_incoming(virt, UUID, &unit_err));
    UNIT_OK(virt_guest_undefine(virt, UUID, &unit_err));
    UNIT_FAILS(virt_guest_suspend(virt, UUID, &unit_err), ERR_NO_INSTANCE);
}

UNIT_TEST(keeps_running_arrival, "an arrival that runs is never destroyed as unfinished")
{
    UNIT_FAILS(virt_guest_destroy_incoming(virt, UUID, &unit_err), ERR_INSTANCE_STATE);
    UNIT_EQ(virt_fake_state(virt, UUID), VIRT_STATE_RUNNING);
    virt_fake_set_incoming(virt, UUID);
    UNIT_OK(virt_guest_destroy_incoming(virt, UUID, &unit_err));
    UNIT_EQ(virt_fake_state(virt, UUID), VIRT_STATE_NONE);
}

UNIT_TEST(reads_guest, "a guest is read with its state and the host's versions")
{
    struct virt_guest *guest = NULL;
    if (!UNIT_OK(virt_guest_read(virt, "instance-00000001", &guest, &unit_err)))
        return;
    UNIT_STR(guest->uuid, UUID);
    UNIT_EQ(guest->state, VIRT_STATE_RUNNING);
    UNIT_EQ(guest->hypervisor_version, 7002000);
    UNIT_TRUE(guest->persistent);
    char *warning = NULL;
    virt_fake_remove(virt, UUID);
    UNIT_OK(virt_check_destination(virt, guest, &warning, &unit_err));
    UNIT_TRUE(warning == NULL);
    virt_guest_free(guest);
}

/* --- a migrate call on a thread of its own --- */

static struct {
    pthread_t thread;
    enum virt_outcome outcome;
    struct err error;
    int rc;
} call;

static void *migrate(void *aux _unused_)
{
    static char *disks[] = {(char *)"vda", NULL};
    struct virt_migration migration = {.uuid = UUID,
                                       .destination_uri = "qemu+tcp://198.51.100.12/system",
                                       .destination_xml = "<domain/>",
                                       .block_migration = true,
                                       .copy_disks = disks};
    call.error = ERR_INIT;
    call.rc = virt_migrate(virt, &migration, &call.outcome, &call.error);
    return NULL;
}

static bool begin(void)
{
    return UNIT_EQ(pthread_create(&call.thread, NULL, migrate, NULL), 0) &&
           UNIT_TRUE(virt_fake_wait_migrating(virt, UUID, 5000));
}

static void end(void)
{
    pthread_join(call.thread, NULL);
}

UNIT_TEST(completes, "a migration completes and the domain is gone here")
{
    if (!begin())
        return;
    UNIT_STR(virt_fake_migration(virt, UUID)->copy_disks[0], "vda");
    virt_fake_finish(virt, UUID, VIRT_OUTCOME_COMPLETED, NULL);
    end();
    UNIT_EQ(call.rc, 0);
    UNIT_EQ(call.outcome, VIRT_OUTCOME_COMPLETED);
    UNIT_EQ(virt_fake_state(virt, UUID), VIRT_STATE_NONE);
}

UNIT_TEST(cancels, "an abort ends the call as cancelled and the guest stays")
{
    if (!begin())
        return;
    UNIT_OK(virt_migration_abort(virt, UUID, &unit_err));
    end();
    UNIT_EQ(call.rc, -1);
    UNIT_EQ(call.outcome, VIRT_OUTCOME_CANCELLED);
    UNIT_EQ(call.error.code, ERR_CANCELLED);
    UNIT_EQ(virt_fake_state(virt, UUID), VIRT_STATE_RUNNING);
    UNIT_FAILS(virt_migration_abort(virt, UUID, &unit_err), ERR_INSTANCE_STATE);
}

UNIT_TEST(unknown_when_down, "a broken connection leaves the outcome unknown")
{
    if (!begin())
        return;
    virt_fake_set_up(virt, false, "libvirtd closed the connection");
    end();
    UNIT_EQ(call.outcome, VIRT_OUTCOME_UNKNOWN);
    UNIT_EQ(call.error.code, ERR_HYPERVISOR);
}

UNIT_TEST(freed_under_call, "a call that outlives the object touches nothing freed")
{
    struct virt *held = virt_ref(virt);
    if (!begin())
        return;
    virt_free(virt);
    end();
    UNIT_EQ(call.outcome, VIRT_OUTCOME_UNKNOWN);
    virt = held;
    virt_unref(virt);
    struct err e = ERR_INIT;
    if (virt_fake_new(&virt, loop, NULL, NULL, &e) < 0)
        abort();
}

UNIT_TEST(samples_in_order, "statistics come in the order of the script and the last repeats")
{
    const struct virt_job jobs[] = {{.active = true, .iteration = 1},
                                    {.active = true, .iteration = 2}};
    struct virt_job job;
    virt_fake_samples(virt, UUID, jobs, 2);
    for (int i = 1; i <= 3; i++) {
        UNIT_OK(virt_migration_sample(virt, UUID, &job, &unit_err));
        UNIT_EQ(job.iteration, i < 2 ? i : 2);
    }
}

UNIT_TEST(processor_time, "a guest's processor time is told, or the error")
{
    int64_t ns = 7;
    virt_fake_set_processor_ns(virt, UUID, 1500000000);
    UNIT_OK(virt_guest_processor_ns(virt, UUID, &ns, &unit_err));
    UNIT_EQ(ns, 1500000000);
    virt_fake_fail(virt, "processor_ns", ERR_VIRT, "no figure", 1);
    UNIT_FAILS(virt_guest_processor_ns(virt, UUID, &ns, &unit_err), ERR_VIRT);
    UNIT_EQ(ns, 1500000000);
}

UNIT_TEST(dirty_rate_later,
          "a measurement that was begun is found by the seconds that it was begun for")
{
    int64_t rate = 0;
    virt_fake_set_dirty_rate(virt, UUID, 7 << 20);
    UNIT_OK(virt_dirty_rate_look(virt, UUID, 20, &rate, &unit_err));
    UNIT_EQ(rate, -1);
    UNIT_OK(virt_dirty_rate_begin(virt, UUID, 20, &unit_err));
    UNIT_OK(virt_dirty_rate_look(virt, UUID, 20, &rate, &unit_err));
    UNIT_EQ(rate, 7 << 20);
    UNIT_OK(virt_dirty_rate_look(virt, UUID, 1, &rate, &unit_err));
    UNIT_EQ(rate, -1);
}

UNIT_TEST(scripted_errors, "a scripted error comes as often as told")
{
    virt_fake_fail(virt, "set_downtime", ERR_VIRT, "no", 1);
    UNIT_FAILS(virt_migration_set_downtime(virt, UUID, 50, &unit_err), ERR_VIRT);
    UNIT_OK(virt_migration_set_downtime(virt, UUID, 60, &unit_err));
    UNIT_EQ(virt_fake_count(virt, "set_downtime"), 2);
    char **calls = virt_fake_calls(virt);
    UNIT_STR(calls[1], "set_downtime " UUID " 60");
    text_vector_free(calls);
}

UNIT_TEST(fault_before, "a fault point before a change keeps it from happening")
{
    UNIT_OK(fault_arm("virt.suspend.before=error", &unit_err));
    struct err e = ERR_INIT;
    UNIT_EQ(virt_guest_suspend(virt, UUID, &e), -1);
    UNIT_EQ(virt_fake_state(virt, UUID), VIRT_STATE_RUNNING);
}

UNIT_TEST(fault_after, "a fault point after a change comes when it has happened")
{
    UNIT_OK(fault_arm("virt.suspend.after=error", &unit_err));
    struct err e = ERR_INIT;
    UNIT_EQ(virt_guest_suspend(virt, UUID, &e), -1);
    UNIT_EQ(virt_fake_state(virt, UUID), VIRT_STATE_PAUSED);
}
