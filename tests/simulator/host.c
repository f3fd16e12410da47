/* SPDX-License-Identifier: Apache-2.0 */
/* One host's agent: its life, its death at any fault point or between two steps, its next life. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/fault.h"
#include "tests/simulator/simulator.h"

/* ---- files ---- */

static char *below(const char *directory, const char *name)
{
    return text_format("%s/%s", directory, name);
}

static bool is_dot(const char *name)
{
    return text_equal(name, ".") || text_equal(name, "..");
}

/* Calls fn for each entry of a directory. */
static void each(const char *directory, void (*fn)(const char *path, const char *name, void *aux),
                 void *aux)
{
    DIR *dir = opendir(directory);

    for (struct dirent *d = dir ? readdir(dir) : NULL; d; d = readdir(dir)) {
        _cleanup_(str_freep) char *path = below(directory, d->d_name);
        if (!is_dot(d->d_name))
            fn(path, d->d_name, aux);
    }
    if (dir)
        closedir(dir);
}

static void remove_tree(const char *path, const char *name, void *aux)
{
    if (unlink(path) < 0 && (errno == EISDIR || errno == EPERM)) {
        each(path, remove_tree, NULL);
        (void)rmdir(path);
    }
    (void)name;
    (void)aux;
}

/* Disks here are empty: their sizes are enough. */
static void copy_file(const char *from, const char *to, const struct stat *st)
{
    _cleanup_(str_freep) char *text = NULL;
    size_t length = 0;
    _cleanup_(fd_closep) int fd =
        open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, st->st_mode & 0777);

    if (st->st_size < 100000)
        text = unit_read_file(from, &length);
    if (fd < 0 || (text && write(fd, text, length) != (ssize_t)length) ||
        ftruncate(fd, st->st_size) < 0)
        sim_violation("the simulator cannot copy %s to %s", from, to);
}

static void copy_tree(const char *path, const char *name, void *aux)
{
    _cleanup_(str_freep) char *to = below(aux, name);
    struct stat st;

    if (stat(path, &st) < 0)
        return;
    if (!S_ISDIR(st.st_mode)) {
        copy_file(path, to, &st);
        return;
    }
    (void)mkdir(to, st.st_mode & 0777);
    each(path, copy_tree, to);
}

static const char *const folders[] = {"journal", "instances"};

/* What the agent writes from here on did not happen. */
static void keep_files(struct host *host)
{
    (void)mkdir(host->kept, 0700);
    for (size_t i = 0; i < ARRAY_LEN(folders); i++) {
        _cleanup_(str_freep) char *from = below(host->files, folders[i]);
        _cleanup_(str_freep) char *to = below(host->kept, folders[i]);
        (void)mkdir(to, 0700);
        each(from, copy_tree, to);
    }
}

static void put_files_back(struct host *host)
{
    for (size_t i = 0; i < ARRAY_LEN(folders); i++) {
        _cleanup_(str_freep) char *from = below(host->kept, folders[i]);
        _cleanup_(str_freep) char *to = below(host->files, folders[i]);
        each(to, remove_tree, NULL);
        each(from, copy_tree, to);
    }
    remove_tree(host->kept, NULL, NULL);
}

bool host_has_file(const struct host *host, const char *name)
{
    return world_has_file(host->world, name);
}

/* ---- life ---- */

static int gate(void *aux, struct err *e)
{
    (void)aux;
    if (sim && sim->acting && sim->acting->dead)
        return err_set(e, ERR_SYSTEM, "this agent is dead");
    return 0;
}

void host_open(struct host *host, const char *name)
{
    struct world_options options = {
        .host = name, .standalone = sim->standalone, .quiet = true, .threads = 4};

    if (sim->post_copy) {
        options.settings[0] = "libvirt.live_migration_permit_post_copy";
        options.settings[1] = "true";
        options.settings[2] = "libvirt.live_migration_timeout_action";
        options.settings[3] = "force_complete";
        options.settings[4] = "libvirt.live_migration_completion_timeout_hard_limit";
        options.settings[5] = sim->by_policy ? "2" : "0";
    }
    host->name = name;
    host->world = world_open(&options);
    host->files = text_dup(host->world->directory);
    host->kept = text_format("%s/kept", host->files);
    host->up = true;
    world_gate(gate, NULL);
    broker_watch(host);
    hypervisor_attach(host);
}

void host_close(struct host *host)
{
    if (!host->world)
        return;
    remove_tree(host->files, NULL, NULL);
    world_close(host->world);
    free(host->files);
    free(host->kept);
}

void host_turn(struct host *host)
{
    struct err e = ERR_INIT;

    if (!host->up || host->dead)
        return;
    sim->acting = host;
    if (loop_turn(host->world->agent.loop, 0, &e) < 0)
        sim_violation("%s", e.text);
    sim->acting = NULL;
}

void host_die(struct host *host)
{
    if (host->dead)
        return;
    host->dead = true;
    host->crashes++;
    sim->coverage->crashes++;
    keep_files(host);
    broker_host_died(host);
}

void host_bury(struct host *host)
{
    sim->acting = host;
    sim_trace("%s: the agent is dead", host->name);
    world_crash(host->world);
    hypervisor_host_gone(host);
    put_files_back(host);
    host->dead = host->up = false;
    sim->acting = NULL;
}

void host_start(struct host *host)
{
    bool libvirt_up = host->libvirt_up;

    sim_trace("%s: an agent starts", host->name);
    sim->acting = host;
    host->up = true;
    world_start(host->world);
    broker_watch(host);
    if (!libvirt_up)
        virt_fake_set_up(host->world->agent.virt, false, "not connected yet");
    sim->acting = NULL;
}

/* ---- fault points ---- */

/* What breaks for longer than a moment. */
static const char *const breakable[] = {
    "journal.fsync",  "journal.remove", "net.plug",     "net.unplug",  "storage.make",
    "storage.remove", "storage.settle", "virt.destroy", "virt.resume", "virt.guest_state"};

/* An agent counts its tries whatever fails: what breaks before the former is mended is the same trouble to it. */
void host_break(struct host *host)
{
    int64_t since_us = host->broken ? host->broken_since_us : sim->now_us;

    host->broken = breakable[sim_below(ARRAY_LEN(breakable))];
    if (hypervisor_has_paused_by_force() && sim_below(2) == 0)
        host->broken = "virt.resume";
    host->broken_since_us = since_us;
    sim_trace("%s: %s is broken", host->name, host->broken);
}

void host_mend(struct host *host)
{
    static const int64_t patience_us = INT64_C(200) * 1000000;

    if (host->broken && sim->now_us - host->broken_since_us > patience_us)
        host->gave_up = true;
    host->broken = NULL;
}

int __wrap_fault_point(const char *name, struct err *e);

int __wrap_fault_point(const char *name, struct err *e)
{
    struct host *host = sim ? sim->acting : NULL;

    if (!host)
        return 0;
    if (host->dead)
        return err_set(e, ERR_SYSTEM, "this agent is dead");
    if (sim->plan)
        return matrix_pass(host, name, e);
    bool crashes = sim_happens(sim->rates.fault_crash);
    bool fails = !crashes && (sim_happens(sim->rates.fault_error) ||
                              (host->broken && text_starts_with(name, host->broken)));
    coverage_pass(name, fails, crashes);
    if (!crashes && !fails)
        return 0;
    sim_trace("%s: fault point %s: %s", host->name, name, crashes ? "death" : "failure");
    if (crashes) {
        sim->coverage->crashes_at_points++;
        host_die(host);
    }
    sim->coverage->faults += fails;
    return err_set(e, ERR_SYSTEM, "the fault point %s fails", name);
}
