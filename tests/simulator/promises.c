/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What must hold. At each step: the guest runs on one host at most (S1, I1); the source's disk goes only
 * after the destination's agent read that the guest runs there, and its record says so (S2); a host where
 * it runs has its disk. At the end, with all peers back: one host has it, nothing is left on the other, and
 * all accounts say what is true.
 */
#include <dirent.h>

#include "lib/json.h"
#include "tests/simulator/simulator.h"

struct promises {
    bool read_back, disk_gone;
};

static const char disk[] = WORLD_INSTANCE "/disk";

struct promises *promises_new(void)
{
    return NEW(struct promises);
}

void promises_free(struct promises *promises)
{
    free(promises);
}

void promises_read(const struct host *host)
{
    if (host == &sim->hosts[DESTINATION] && hypervisor_state(host) == VIRT_STATE_RUNNING &&
        !hypervisor_is_in_post_copy()) /* a part of it is at the source */
        sim->promises->read_back = true;
}

static bool runs(const struct host *host)
{
    return hypervisor_state(host) == VIRT_STATE_RUNNING;
}

void promises_step(void)
{
    struct host *from = &sim->hosts[SOURCE], *to = &sim->hosts[DESTINATION];
    bool gone = !host_has_file(from, disk);

    if (runs(from) && runs(to))
        sim_violation("S1: the guest runs on both hosts");
    if (!hypervisor_is_whole())
        sim_violation("S1: in post-copy the guest is %s at the source and %s at the destination",
                      virt_state_name(hypervisor_state(from)),
                      virt_state_name(hypervisor_state(to)));
    if (runs(from) && gone)
        sim_violation("S2: the guest runs at the source, and its disk is gone");
    if (runs(to) && !host_has_file(to, disk))
        sim_violation("S2: the guest runs at the destination, and its disk is not there");
    if (gone && !sim->promises->disk_gone && !sim->promises->read_back)
        sim_violation(
            "S2: the source's disk goes before the destination read that the guest runs there");
    if (gone && !sim->promises->disk_gone &&
        !text_equal(world_state(from->world, WORLD_MIGRATION, "source"), "SOURCE_CLEANING"))
        sim_violation("S2: the source's disk goes, and its record is in %s",
                      world_state(from->world, WORLD_MIGRATION, "source"));
    sim->promises->disk_gone = gone;
}

/* ---- the end ---- */

static const char *last_status(const struct world *w, const char *role)
{
    _cleanup_(str_freep) char *beginning = text_format("status %s ", role);

    for (size_t i = w->line_count; i-- > 0;)
        if (text_starts_with(w->lines[i], beginning))
            return w->lines[i] + strlen(beginning);
    return NULL;
}

struct found {
    char status[32], phase[32];
    bool told;
};

static void found_account(void *aux, struct json_object *result, const struct err *failure)
{
    struct found *found = aux;

    found->told = true;
    for (size_t i = 0; !failure && i < json_object_array_length(result); i++) {
        struct json_object *o = json_object_array_get_idx(result, i);
        if (!text_equal(json_get_string(o, "role", ""), "source"))
            continue;
        snprintf(found->status, sizeof(found->status), "%s", json_get_string(o, "status", ""));
        snprintf(found->phase, sizeof(found->phase), "%s", json_get_string(o, "phase", ""));
    }
}

/* Nova's word as it was last written, or the account in the standalone store. */
static void read_status(struct world *w, struct found *found)
{
    if (!sim->standalone) {
        const char *word = last_status(w, "source");
        snprintf(found->status, sizeof(found->status), "%s", word ? word : "");
        return;
    }
    cloud_migrations(w->agent.cloud, WORLD_INSTANCE, NULL, 100, found_account, found);
    for (unsigned i = 0; i < 100 && !found->told; i++) {
        for (unsigned jobs = sim_jobs(); jobs > 0; jobs = sim_jobs())
            sim_job_step(0);
        host_turn(&sim->hosts[SOURCE]);
    }
}

static unsigned parked(struct host *host)
{
    unsigned n = 0;

    for (const struct migration *m = host->world->agent.migrations; m; m = m->next)
        n += m->state == MACHINE_SOURCE_PARKED || m->state == MACHINE_DESTINATION_PARKED ||
             m->state == MACHINE_DESTINATION_PREPARED || m->state == MACHINE_DESTINATION_HERE;
    return n;
}

static unsigned count_records(const struct host *host)
{
    _cleanup_(str_freep) char *path = text_format("%s/journal", host->files);
    DIR *dir = opendir(path);
    unsigned n = 0;

    for (struct dirent *d = dir ? readdir(dir) : NULL; d; d = readdir(dir))
        n += text_ends_with(d->d_name, ".json") || text_ends_with(d->d_name, ".new");
    if (dir)
        closedir(dir);
    return n;
}

static void nothing_is_left(struct host *host, unsigned expected)
{
    const struct agent *agent = &host->world->agent;
    unsigned migrations = 0;

    for (const struct migration *m = agent->migrations; m; m = m->next)
        migrations++;
    if (migrations != expected)
        sim_violation("%s has %u migration(s) in memory at the end, not %u", host->name, migrations,
                      expected);
    if (count_records(host) != expected)
        sim_violation("I4: %s has %u record(s) in its journal at the end, not %u", host->name,
                      count_records(host), expected);
    /* the store of the other control plane looks at its history each hour */
    if (!sim->standalone && loop_next_due_us(agent->loop) != INT64_MAX)
        sim_violation("%s: a timer is armed at the end", host->name);
    if (agent->running_out != 0)
        sim_violation("%s: %u place(s) of the queue are not given back", host->name,
                      agent->running_out);
}

static void here_and_not_there(struct host *here, struct host *there)
{
    if (!runs(here) && !hypervisor_guest_died())
        sim_violation("S3: the guest does not run on %s at the end: it is %s", here->name,
                      virt_state_name(hypervisor_state(here)));
    if (!host_has_file(here, disk))
        sim_violation("S2: the disk is not on %s", here->name);
    if (net_fake_plugged(here->world->agent.net) != 1)
        sim_violation("S3: the guest's port is not plugged on %s", here->name);
    if (there->gave_up) {
        sim->coverage->left_behind++;
        return;
    }
    if (hypervisor_state(there) != VIRT_STATE_NONE)
        sim_violation("S3: %s still has a domain, %s", there->name,
                      virt_state_name(hypervisor_state(there)));
    if (host_has_file(there, WORLD_INSTANCE))
        sim_violation("I3: the guest's directory is left on %s", there->name);
    if (net_fake_plugged(there->world->agent.net) != 0)
        sim_violation("I2: a port is left on %s", there->name);
}

/* Neutron wires the host that has it, as the source said last. */
static void ports_are_here(const struct host *here)
{
    const struct world *w = sim->hosts[SOURCE].world;

    for (size_t i = w->line_count; i-- > 0;) {
        if (!text_starts_with(w->lines[i], "bindings activate "))
            continue;
        if (!text_ends_with(w->lines[i], here->name))
            sim_violation("S3: the ports' bindings are those of the other host: %s", w->lines[i]);
        return;
    }
    if (here == &sim->hosts[DESTINATION])
        sim_violation("S3: the ports' bindings were never activated on %s", here->name);
}

static enum ending ending_of(const char *status)
{
    static const char *const words[] = {[ENDED_COMPLETED] = "completed",
                                        [ENDED_FAILED] = "failed",
                                        [ENDED_CANCELLED] = "cancelled",
                                        [ENDED_ERROR] = "error",
                                        [ENDED_UNTAKEN] = ""};

    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (text_equal(words[i], status))
            return (enum ending)i;
    sim_violation("the account is not final: its status is \"%s\"", status);
    return ENDED_ERROR;
}

static const char *parked_message(void)
{
    for (int i = 0; i < HOSTS; i++)
        for (const struct migration *m = sim->hosts[i].world->agent.migrations; m; m = m->next)
            if (m->message)
                return m->message;
    return "no message";
}

/* There are few reasons to leave it to an operator. */
static bool count_reason(void)
{
    if (hypervisor_is_unheard() && hypervisor_is_in_post_copy()) {
        sim->coverage->post_copy[POST_COPY_UNHEARD]++;
        return true;
    }
    const bool reasons[] = {hypervisor_guest_died() || hypervisor_cannot_go_on(),
                            hypervisor_last_word_missing(), sim->unconfirmed,
                            sim->hosts[SOURCE].gave_up || sim->hosts[DESTINATION].gave_up};

    for (size_t i = 0; i < ARRAY_LEN(reasons); i++) {
        if (!reasons[i])
            continue;
        sim->coverage->parked_why[i]++;
        return true;
    }
    return false;
}

/* docs/CONVERGENCE.md: there the agents can but say what they wait for. */
static bool waits_for_ever(const struct migration *m)
{
    bool looks = m->state == MACHINE_SOURCE_OBSERVING; /* now and then */

    return (looks || m->state == MACHINE_SOURCE_RECOVERING) && hypervisor_is_unheard();
}

/* What is left to an operator says so, and why. */
static void source_is_parked(const struct host *from)
{
    for (const struct migration *m = from->world->agent.migrations; m; m = m->next)
        if (m->state != MACHINE_SOURCE_PARKED && !waits_for_ever(m))
            sim_violation("L1: the source is %s for ever: %s", machine_state_text(m->state),
                          m->message ? m->message : "no message");
        else if (!m->message)
            sim_violation("the source is left to an operator and does not say why");
}

/* Where the guest is cannot be told: nothing was removed, and it does not run twice. */
static enum ending end_parked(void)
{
    struct host *from = &sim->hosts[SOURCE], *to = &sim->hosts[DESTINATION];

    sim->coverage->parked_source += parked(from);
    sim->coverage->parked_destination += parked(to);
    source_is_parked(from);
    if (!count_reason())
        sim_violation("parked without a reason: %s", parked_message());
    if (from->world->agent.running_out != 0)
        sim_violation("a parked migration keeps its place in the queue");
    if (hypervisor_state(from) == VIRT_STATE_NONE && hypervisor_state(to) == VIRT_STATE_NONE)
        sim_violation("S1: the guest is lost");
    if (!host_has_file(hypervisor_state(to) == VIRT_STATE_NONE ? from : to, disk))
        sim_violation("S2: the guest's disk is lost");
    return ENDED_PARKED;
}

enum ending promises_end(void)
{
    struct host *from = &sim->hosts[SOURCE], *to = &sim->hosts[DESTINATION];
    struct found found = {0};

    if (parked(from) + parked(to) > 0)
        return end_parked();
    read_status(from->world, &found);
    enum ending ending = ending_of(found.status);
    bool moved = hypervisor_state(to) != VIRT_STATE_NONE;

    if (moved != (ending == ENDED_COMPLETED))
        sim_violation("the status is \"%s\", and the guest is on %s", found.status,
                      moved ? to->name : from->name);
    here_and_not_there(moved ? to : from, moved ? from : to);
    nothing_is_left(from, 0);
    nothing_is_left(to, 0);
    if (!sim->standalone)
        ports_are_here(moved ? to : from);
    if (sim->standalone && ending != ENDED_UNTAKEN && !text_equal(found.phase, found.status))
        sim_violation("the account is not final: its phase is \"%s\"", found.phase);
    return ending;
}
