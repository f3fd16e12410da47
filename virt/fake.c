/* SPDX-License-Identifier: Apache-2.0 */
#include "virt/fake_internal.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

#include "lib/clock.h"
#include "lib/json.h"
#include "lib/text.h"

void fake_lock(struct fake *fake)
{
    pthread_mutex_lock(&fake->lock);
}

void fake_unlock(struct fake *fake)
{
    pthread_cond_broadcast(&fake->changed);
    pthread_mutex_unlock(&fake->lock);
}

struct domain *fake_find(struct fake *fake, const char *uuid)
{
    for (size_t i = 0; i < fake->domains.length; i++)
        if (strcmp(fake->domains.items[i]->uuid, uuid) == 0)
            return fake->domains.items[i];
    return NULL;
}

/* Scripts may come before the domain. */
struct domain *fake_need(struct fake *fake, const char *uuid)
{
    struct domain *domain = fake_find(fake, uuid);
    if (domain)
        return domain;
    domain = NEW(struct domain);
    domain->uuid = text_dup(uuid);
    domain->completed.downtime_ms = -1;
    *domains_add(&fake->domains) = domain;
    return domain;
}

static void forget_migration(struct domain *domain)
{
    struct virt_migration *m = &domain->migration;
    free((char *)m->uuid);
    free((char *)m->destination_uri);
    free((char *)m->migrate_uri);
    free((char *)m->destination_xml);
    free((char *)m->listen_address);
    text_vector_free((char **)m->copy_disks);
    *m = (struct virt_migration){0};
    domain->has_migration = false;
}

static char **dup_vector(char *const *v)
{
    if (!v)
        return NULL;
    size_t length = text_vector_length(v);
    char **copy = NEW_ARRAY(char *, length + 1);
    for (size_t i = 0; i < length; i++)
        copy[i] = text_dup(v[i]);
    return copy;
}

static void keep_migration(struct domain *domain, const struct virt_migration *m)
{
    forget_migration(domain);
    domain->migration = *m;
    domain->migration.uuid = text_dup(m->uuid);
    domain->migration.destination_uri = text_dup(m->destination_uri);
    domain->migration.migrate_uri = text_dup(m->migrate_uri);
    domain->migration.destination_xml = text_dup(m->destination_xml);
    domain->migration.listen_address = text_dup(m->listen_address);
    domain->migration.copy_disks = dup_vector(m->copy_disks);
    domain->has_migration = true;
}

static struct trouble *find_trouble(struct fake *fake, const char *op)
{
    for (size_t i = 0; i < fake->troubles.length; i++)
        if (strcmp(fake->troubles.items[i].op, op) == 0)
            return &fake->troubles.items[i];
    return NULL;
}

static struct trouble *need_trouble(struct fake *fake, const char *op)
{
    struct trouble *trouble = find_trouble(fake, op);
    if (trouble)
        return trouble;
    trouble = troubles_add(&fake->troubles);
    trouble->op = text_dup(op);
    return trouble;
}

static bool hangs(struct fake *fake, const char *op)
{
    const struct trouble *trouble = find_trouble(fake, op);
    return trouble && trouble->hang && !fake->stopping;
}

/* Takes the lock for a call, records it, and lets scripted trouble happen. With -1 the lock is free. */
int fake_enter(struct fake *fake, const char *op, const char *uuid, const char *rest, struct err *e)
{
    fake_lock(fake);
    *lines_add(&fake->calls) = text_format("%s%s%s%s%s", op, uuid ? " " : "", uuid ? uuid : "",
                                           rest ? " " : "", rest ? rest : "");
    pthread_cond_broadcast(&fake->changed);
    while (hangs(fake, op))
        pthread_cond_wait(&fake->changed, &fake->lock);
    struct trouble *trouble = find_trouble(fake, op);
    int rc = 0;
    if (fake->player.enter) {
        fake_unlock(fake);
        rc = fake->player.enter(fake->player.aux, op, uuid, e);
        if (rc < 0)
            return rc;
        fake_lock(fake);
    }
    if (!atomic_load(&fake->base.up) || fake->stopping) {
        rc = err_set(e, ERR_HYPERVISOR, "the fake hypervisor is down: %s",
                     fake->why ? fake->why : "stopped");
    } else if (trouble && trouble->times != 0) {
        trouble->times -= trouble->times > 0;
        rc = err_set(e, trouble->code, "%s", trouble->text);
    }
    if (rc < 0)
        fake_unlock(fake);
    return rc;
}

/* fake_enter() for a call about a domain that must be here. */
int fake_enter_domain(struct fake *fake, const char *op, const char *uuid, const char *rest,
                      struct domain **out, struct err *e)
{
    if (fake_enter(fake, op, uuid, rest, e) < 0)
        return -1;
    struct domain *domain = fake_find(fake, uuid);
    if (domain && domain->here) {
        *out = domain;
        return 0;
    }
    fake_unlock(fake);
    return err_set(e, ERR_NO_INSTANCE, "there is no domain %s on this host", uuid);
}

/* --- the provider's row --- */

static int host_read(struct virt *virt, struct virt_host *out, struct err *e)
{
    struct fake *fake = fake_of(virt);
    if (fake_enter(fake, "host_read", NULL, NULL, e) < 0)
        return -1;
    *out = (struct virt_host){.hostname = text_dup("fake"),
                              .uri = text_dup("fake:///"),
                              .type = text_dup("FAKE"),
                              .hypervisor_version = 7002000,
                              .libvirt_version = 9000000,
                              .memory_total = fake->memory_total,
                              .memory_available = fake->memory_available,
                              .cpus = 2};
    fake_unlock(fake);
    return 0;
}

static const char *or_word(const char *text, const char *other)
{
    return text ? text : other;
}

static int host_facts(struct virt *virt, const struct virt_guest *guest,
                      struct virt_host_facts *out, struct err *e)
{
    struct fake *fake = fake_of(virt);
    if (fake_enter(fake, "host_facts", guest->uuid, NULL, e) < 0)
        return -1;
    const struct domain *same = fake_find(fake, guest->uuid);
    out->hostname = text_dup("fake");
    out->hypervisor_version = guest->hypervisor_version;
    out->libvirt_version = guest->libvirt_version;
    out->capabilities_xml = text_format(
        "<capabilities><host><cpu><arch>%s</arch><model>Fake</model></cpu></host><guest>"
        "<os_type>hvm</os_type><arch name='%s'><machine>%s</machine><domain type='%s'/></arch>"
        "</guest></capabilities>",
        or_word(guest->arch, "x86_64"), or_word(guest->arch, "x86_64"),
        or_word(guest->machine, "pc"), or_word(guest->domain_type, "qemu"));
    out->cpu_match = VIRT_CPU_FITS;
    out->memory_available = fake->memory_available;
    out->uuid_here = same && same->here ? same->state : VIRT_STATE_NONE;
    out->firmware_readable = true;
    if (fake->edit)
        fake->edit(fake->edit_aux, guest, out);
    fake_unlock(fake);
    return 0;
}

static struct domain *find_by_name(struct fake *fake, const char *name)
{
    for (size_t i = 0; i < fake->domains.length; i++)
        if (fake->domains.items[i]->here && text_equal(fake->domains.items[i]->name, name))
            return fake->domains.items[i];
    return NULL;
}

static int describe(struct virt *virt, const char *uuid_or_name, struct virt_domain_facts *out,
                    struct err *e)
{
    struct fake *fake = fake_of(virt);
    if (fake_enter(fake, "describe", uuid_or_name, NULL, e) < 0)
        return -1;
    const struct domain *domain = fake_find(fake, uuid_or_name);
    if (!domain || !domain->here)
        domain = find_by_name(fake, uuid_or_name);
    if (domain)
        *out = (struct virt_domain_facts){.xml = text_dup(domain->xml),
                                          .state = domain->state,
                                          .persistent = !domain->incoming,
                                          .hypervisor_version = 7002000,
                                          .libvirt_version = 9000000};
    fake_unlock(fake);
    return domain ? 0
                  : err_set(e, ERR_NO_INSTANCE, "there is no domain %s on this host", uuid_or_name);
}

static int get_state(struct virt *virt, const char *uuid, enum virt_state *out, struct err *e)
{
    struct fake *fake = fake_of(virt);
    if (fake_enter(fake, "state", uuid, NULL, e) < 0)
        return -1;
    const struct domain *domain = fake_find(fake, uuid);
    *out = domain && domain->here ? domain->state : VIRT_STATE_NONE;
    fake_unlock(fake);
    return 0;
}

static int list(struct virt *virt, struct virt_guest ***out, size_t *count, struct err *e)
{
    struct fake *fake = fake_of(virt);
    if (fake_enter(fake, "list", NULL, NULL, e) < 0)
        return -1;
    struct virt_guest **guests = NEW_ARRAY(struct virt_guest *, fake->domains.length + 1);
    size_t used = 0;
    for (size_t i = 0; i < fake->domains.length; i++) {
        const struct domain *domain = fake->domains.items[i];
        if (!domain->here)
            continue;
        struct virt_guest *guest = NEW(struct virt_guest);
        guest->uuid = text_dup(domain->uuid);
        guest->name = text_dup(domain->name);
        guest->state = domain->state;
        guest->memory_kib = 65536;
        guest->vcpus = 1;
        guest->persistent = !domain->incoming;
        guests[used++] = guest;
    }
    fake_unlock(fake);
    *out = guests;
    *count = used;
    return 0;
}

static int migratable_xml(struct virt *virt, const char *uuid, char **out, struct err *e)
{
    struct fake *fake = fake_of(virt);
    struct domain *domain;
    if (fake_enter_domain(fake, "migratable_xml", uuid, NULL, &domain, e) < 0)
        return -1;
    *out = text_dup(domain->xml);
    fake_unlock(fake);
    return 0;
}

static int metadata(struct virt *virt, const char *uuid, char **out, struct err *e)
{
    struct fake *fake = fake_of(virt);
    struct domain *domain;
    if (fake_enter_domain(fake, "metadata", uuid, NULL, &domain, e) < 0)
        return -1;
    *out = text_dup(domain->metadata);
    fake_unlock(fake);
    return 0;
}

static void end_migrate(struct domain *domain, enum virt_outcome *outcome)
{
    *outcome = domain->finished  ? domain->outcome
               : domain->aborted ? VIRT_OUTCOME_CANCELLED
                                 : VIRT_OUTCOME_UNKNOWN;
    if (*outcome == VIRT_OUTCOME_COMPLETED)
        domain->here = false;
    domain->migrating = domain->finished = domain->aborted = false;
}

static int migrate(struct virt *virt, const struct virt_migration *migration,
                   enum virt_outcome *outcome, struct err *e)
{
    static const enum err_code codes[] = {
        [VIRT_OUTCOME_COMPLETED] = ERR_NONE,
        [VIRT_OUTCOME_FAILED] = ERR_MIGRATION,
        [VIRT_OUTCOME_CANCELLED] = ERR_CANCELLED,
        [VIRT_OUTCOME_UNKNOWN] = ERR_HYPERVISOR,
    };
    struct fake *fake = fake_of(virt);
    struct domain *domain;
    *outcome = VIRT_OUTCOME_FAILED;
    if (fake_enter_domain(fake, "migrate", migration->uuid, migration->destination_uri, &domain,
                          e) < 0)
        return -1;
    keep_migration(domain, migration);
    if (fake->player.migrate) {
        fake_unlock(fake);
        *outcome = fake->player.migrate(fake->player.aux, migration);
        return *outcome == VIRT_OUTCOME_COMPLETED
                   ? 0
                   : err_set(e, codes[*outcome], "domain %s was not migrated to %s",
                             migration->uuid, migration->destination_uri);
    }
    domain->migrating = true;
    domain->aborted = false;
    pthread_cond_broadcast(&fake->changed);
    while (!domain->finished && !domain->aborted && atomic_load(&fake->base.up) && !fake->stopping)
        pthread_cond_wait(&fake->changed, &fake->lock);
    end_migrate(domain, outcome);
    _cleanup_(str_freep) char *text = STEAL(domain->outcome_text);
    fake_unlock(fake);
    if (*outcome == VIRT_OUTCOME_COMPLETED)
        return 0;
    return err_set(e, codes[*outcome], "domain %s was not migrated to %s: %s", migration->uuid,
                   migration->destination_uri, or_word(text, "the call ended"));
}

static int sample(struct virt *virt, const char *uuid, bool completed, struct virt_job *out,
                  struct err *e)
{
    struct fake *fake = fake_of(virt);
    if (fake_enter(fake, completed ? "completed" : "sample", uuid, NULL, e) < 0)
        return -1;
    struct domain *domain = fake_find(fake, uuid);
    int rc = 0;
    if (!domain || (!domain->here && !completed)) {
        rc = err_set(e, ERR_NO_INSTANCE, "there is no domain %s on this host", uuid);
    } else if (completed) {
        *out = domain->completed;
    } else if (domain->sample_count) {
        *out = domain->samples[domain->sample_next];
        domain->sample_next += domain->sample_next + 1 < domain->sample_count;
    } else {
        *out = (struct virt_job){.active = domain->migrating, .downtime_ms = -1};
    }
    fake_unlock(fake);
    return rc;
}

static int dirty_rate_begin(struct virt *virt, const char *uuid, int seconds, struct err *e)
{
    struct fake *fake = fake_of(virt);
    struct domain *domain;
    _cleanup_(str_freep) char *number = text_format("%d", seconds);
    if (fake_enter_domain(fake, "dirty_rate_begin", uuid, number, &domain, e) < 0)
        return -1;
    domain->dirty_seconds = seconds;
    fake_unlock(fake);
    return 0;
}

/* It has measured as soon as it is asked. */
static int dirty_rate_look(struct virt *virt, const char *uuid, int seconds, int64_t *bytes_per_s,
                           struct err *e)
{
    struct fake *fake = fake_of(virt);
    struct domain *domain;
    _cleanup_(str_freep) char *number = text_format("%d", seconds);
    if (fake_enter_domain(fake, "dirty_rate_look", uuid, number, &domain, e) < 0)
        return -1;
    *bytes_per_s = seconds == domain->dirty_seconds ? domain->dirty_rate : -1;
    fake_unlock(fake);
    return 0;
}

static int processor_ns(struct virt *virt, const char *uuid, int64_t *ns, struct err *e)
{
    struct fake *fake = fake_of(virt);
    struct domain *domain;
    if (fake_enter_domain(fake, "processor_ns", uuid, NULL, &domain, e) < 0)
        return -1;
    *ns = domain->processor_ns;
    fake_unlock(fake);
    return 0;
}

static int tune(struct virt *virt, const char *op, const char *uuid, int64_t value, struct err *e)
{
    struct fake *fake = fake_of(virt);
    struct domain *domain;
    _cleanup_(str_freep) char *number = text_format("%lld", (long long)value);
    if (fake_enter_domain(fake, op, uuid, number, &domain, e) < 0)
        return -1;
    fake_unlock(fake);
    return 0;
}

static int set_downtime(struct virt *virt, const char *uuid, int64_t downtime_ms, struct err *e)
{
    return tune(virt, "set_downtime", uuid, downtime_ms, e);
}

static int set_bandwidth(struct virt *virt, const char *uuid, int64_t mib, struct err *e)
{
    return tune(virt, "set_bandwidth", uuid, mib, e);
}

static int need_migrating(struct fake *fake, const struct domain *domain, struct err *e)
{
    if (domain->migrating)
        return 0;
    err_set(e, ERR_INSTANCE_STATE, "no job is active on domain %s", domain->uuid);
    fake_unlock(fake);
    return -1;
}

static int start_post_copy(struct virt *virt, const char *uuid, struct err *e)
{
    struct fake *fake = fake_of(virt);
    struct domain *domain;
    if (fake_enter_domain(fake, "start_post_copy", uuid, NULL, &domain, e) < 0 ||
        need_migrating(fake, domain, e) < 0)
        return -1;
    fake_unlock(fake);
    return 0;
}

static int post_copy(struct virt *virt, const char *uuid, enum virt_post_copy *out, struct err *e)
{
    struct fake *fake = fake_of(virt);
    struct domain *domain;
    if (fake_enter_domain(fake, "post_copy", uuid, NULL, &domain, e) < 0)
        return -1;
    *out = VIRT_POST_COPY_NONE;
    if (domain->sample_count && domain->samples[domain->sample_next].post_copy_failed)
        *out = VIRT_POST_COPY_FAILED;
    else if (domain->sample_count && domain->samples[domain->sample_next].post_copy)
        *out = VIRT_POST_COPY_RUNS;
    fake_unlock(fake);
    return 0;
}

static int abort_job(struct virt *virt, const char *uuid, struct err *e)
{
    struct fake *fake = fake_of(virt);
    struct domain *domain;
    if (fake_enter_domain(fake, "abort", uuid, NULL, &domain, e) < 0 ||
        need_migrating(fake, domain, e) < 0)
        return -1;
    domain->aborted = true;
    fake_unlock(fake);
    if (fake->player.abort)
        fake->player.abort(fake->player.aux, uuid);
    return 0;
}

static int change_state(struct virt *virt, const char *op, const char *uuid, enum virt_state state,
                        struct err *e)
{
    struct fake *fake = fake_of(virt);
    struct domain *domain;
    if (fake_enter_domain(fake, op, uuid, NULL, &domain, e) < 0)
        return -1;
    domain->state = state;
    fake_unlock(fake);
    return 0;
}

static int suspend(struct virt *virt, const char *uuid, struct err *e)
{
    return change_state(virt, "suspend", uuid, VIRT_STATE_PAUSED, e);
}

static int resume(struct virt *virt, const char *uuid, struct err *e)
{
    return change_state(virt, "resume", uuid, VIRT_STATE_RUNNING, e);
}

static int destroy(struct virt *virt, const char *uuid, struct err *e)
{
    struct fake *fake = fake_of(virt);
    if (fake_enter(fake, "destroy", uuid, NULL, e) < 0)
        return -1;
    struct domain *domain = fake_find(fake, uuid);
    if (domain)
        domain->here = false;
    fake_unlock(fake);
    return 0;
}

static int destroy_incoming(struct virt *virt, const char *uuid, struct err *e)
{
    struct fake *fake = fake_of(virt);
    if (fake_enter(fake, "destroy_incoming", uuid, NULL, e) < 0)
        return -1;
    struct domain *domain = fake_find(fake, uuid);
    bool refused = domain && domain->here && !domain->incoming;
    if (domain && domain->here && domain->incoming)
        domain->here = false;
    fake_unlock(fake);
    return refused ? err_set(e, ERR_INSTANCE_STATE,
                             "domain %s is not an unfinished arrival on this host", uuid)
                   : 0;
}

static int undefine(struct virt *virt, const char *uuid, struct err *e)
{
    struct fake *fake = fake_of(virt);
    if (fake_enter(fake, "undefine", uuid, NULL, e) < 0)
        return -1;
    struct domain *domain = fake_find(fake, uuid);
    bool active = domain && domain->here && domain->state != VIRT_STATE_SHUTOFF;
    if (domain && !active)
        domain->here = false;
    fake_unlock(fake);
    return active ? err_set(e, ERR_INSTANCE_STATE, "domain %s runs on this host", uuid) : 0;
}

static struct json_object *status(struct virt *virt)
{
    struct json_object *o = json_object_new_object();
    json_object_object_add(o, "up", json_object_new_boolean(virt_is_up(virt)));
    json_add_string(o, "uri", "fake:///");
    json_add_string(o, "type", "FAKE");
    json_add_int(o, "version", 7002000);
    json_add_int(o, "libvirt_version", 9000000);
    return o;
}

static void stop(struct virt *virt)
{
    struct fake *fake = fake_of(virt);
    fake_lock(fake);
    fake->stopping = true;
    atomic_store(&virt->up, false);
    fake_unlock(fake);
}

static void release(struct virt *virt)
{
    struct fake *fake = fake_of(virt);
    for (size_t i = 0; i < fake->domains.length; i++) {
        struct domain *domain = fake->domains.items[i];
        forget_migration(domain);
        free(domain->uuid);
        free(domain->name);
        free(domain->xml);
        free(domain->metadata);
        free(domain->samples);
        free(domain->outcome_text);
        free(domain);
    }
    for (size_t i = 0; i < fake->troubles.length; i++) {
        free(fake->troubles.items[i].op);
        free(fake->troubles.items[i].text);
    }
    for (size_t i = 0; i < fake->calls.length; i++)
        free(fake->calls.items[i]);
    free(fake->domains.items);
    free(fake->troubles.items);
    free(fake->calls.items);
    free(fake->why);
    pthread_cond_destroy(&fake->changed);
    pthread_mutex_destroy(&fake->lock);
    free(fake);
}

static void set_conf(struct virt *virt _unused_, const struct conf *conf _unused_)
{
}

static const struct virt_provider provider = {
    .name = "fake",
    .stop = stop,
    .destroy = release,
    .set_conf = set_conf,
    .host_read = host_read,
    .host_facts = host_facts,
    .describe = describe,
    .state = get_state,
    .list = list,
    .migratable_xml = migratable_xml,
    .metadata = metadata,
    .migrate = migrate,
    .sample = sample,
    .dirty_rate_begin = dirty_rate_begin,
    .dirty_rate_look = dirty_rate_look,
    .processor_ns = processor_ns,
    .set_downtime = set_downtime,
    .set_bandwidth = set_bandwidth,
    .start_post_copy = start_post_copy,
    .abort = abort_job,
    .post_copy = post_copy,
    .suspend = suspend,
    .resume = resume,
    .guest_destroy = destroy,
    .destroy_incoming = destroy_incoming,
    .undefine = undefine,
    .create = fake_create,
    .define = fake_define,
    .start = fake_start,
    .shutdown = fake_shutdown,
    .reboot = fake_reboot,
    .power_off = fake_power_off,
    .save = fake_save,
    .save_remove = fake_save_remove,
    .attach = fake_attach,
    .detach = fake_detach,
    .xml = fake_xml,
    .diagnostics = fake_diagnostics,
    .copy_disk = fake_copy_disk,
    .resources = fake_resources,
    .status = status,
};

/* --- news for the loop --- */

static void tell(void *aux)
{
    struct news *news = aux;
    switch (news->kind) {
    case NEWS_CONNECTION:
        virt_tell_connection(news->virt, news->up, news->why);
        break;
    case NEWS_EVENT:
        virt_tell_event(news->virt, news->uuid, news->event, news->at_us);
        break;
    case NEWS_ITERATION:
        virt_tell_iteration(news->virt, news->uuid, news->iteration, news->at_us);
        break;
    case NEWS_JOB:
        virt_tell_job_completed(news->virt, news->uuid, &news->job, news->at_us);
        break;
    }
    virt_unref(news->virt);
    free(news->uuid);
    free(news->why);
    free(news);
}

void fake_post(struct virt *virt, const struct news *what, const char *uuid, bool later)
{
    struct news *news = NEW(struct news);
    *news = *what;
    news->virt = virt_ref(virt);
    news->uuid = text_dup(uuid);
    news->at_us = clock_monotonic_us();
    if (!later && loop_is_current(virt->loop))
        tell(news);
    else
        loop_post(virt->loop, "virt-fake", tell, news);
}

int virt_fake_new(struct virt **out, struct loop *loop, const struct virt_callbacks *callbacks,
                  void *aux, struct err *e)
{
    static const struct virt_callbacks none;
    struct fake *fake = NEW(struct fake);
    (void)e;
    virt_init(&fake->base, &provider, loop, callbacks ? callbacks : &none, aux);
    pthread_mutex_init(&fake->lock, NULL);
    pthread_cond_init(&fake->changed, NULL);
    fake->memory_total = fake->memory_available = INT64_C(64) << 30;
    atomic_store(&fake->base.up, true);
    fake_post(&fake->base, &(struct news){.kind = NEWS_CONNECTION, .up = true, .why = text_dup("")},
              NULL, true);
    *out = &fake->base;
    return 0;
}

/* --- the script --- */

void virt_fake_add(struct virt *virt, const char *uuid, const char *name, const char *xml,
                   enum virt_state state)
{
    struct fake *fake = fake_of(virt);
    fake_lock(fake);
    struct domain *domain = fake_need(fake, uuid);
    free(domain->name);
    free(domain->xml);
    domain->name = text_dup(name);
    domain->xml = xml ? text_dup(xml)
                      : text_format("<domain type='qemu'><name>%s</name><uuid>%s</uuid>"
                                    "<memory unit='KiB'>65536</memory><vcpu>1</vcpu><os>"
                                    "<type arch='x86_64' machine='pc-i440fx-7.2'>hvm</type></os>"
                                    "<devices><emulator>/usr/bin/qemu-system-x86_64</emulator>"
                                    "</devices></domain>",
                                    name, uuid);
    domain->state = state;
    domain->here = true;
    domain->incoming = false;
    fake_unlock(fake);
}

void virt_fake_remove(struct virt *virt, const char *uuid)
{
    struct fake *fake = fake_of(virt);
    fake_lock(fake);
    fake_need(fake, uuid)->here = false;
    fake_unlock(fake);
}

void virt_fake_set_state(struct virt *virt, const char *uuid, enum virt_state state)
{
    struct fake *fake = fake_of(virt);
    fake_lock(fake);
    struct domain *domain = fake_need(fake, uuid);
    domain->state = state;
    domain->incoming = false;
    fake_unlock(fake);
}

void virt_fake_set_incoming(struct virt *virt, const char *uuid)
{
    struct fake *fake = fake_of(virt);
    fake_lock(fake);
    struct domain *domain = fake_need(fake, uuid);
    domain->state = VIRT_STATE_PAUSED;
    domain->incoming = domain->here = true;
    fake_unlock(fake);
}

void virt_fake_set_metadata(struct virt *virt, const char *uuid, const char *text)
{
    struct fake *fake = fake_of(virt);
    fake_lock(fake);
    struct domain *domain = fake_need(fake, uuid);
    text_replace(&domain->metadata, text);
    fake_unlock(fake);
}

enum virt_state virt_fake_state(struct virt *virt, const char *uuid)
{
    struct fake *fake = fake_of(virt);
    fake_lock(fake);
    const struct domain *domain = fake_find(fake, uuid);
    enum virt_state state = domain && domain->here ? domain->state : VIRT_STATE_NONE;
    fake_unlock(fake);
    return state;
}

void virt_fake_set_up(struct virt *virt, bool up, const char *why)
{
    struct fake *fake = fake_of(virt);
    fake_lock(fake);
    text_replace(&fake->why, why);
    atomic_store(&virt->up, up);
    fake_unlock(fake);
    fake_post(virt,
              &(struct news){.kind = NEWS_CONNECTION, .up = up, .why = text_dup(why ? why : "")},
              NULL, false);
}

void virt_fake_set_facts(struct virt *virt,
                         void (*edit)(void *aux, const struct virt_guest *guest,
                                      struct virt_host_facts *facts),
                         void *aux)
{
    struct fake *fake = fake_of(virt);
    fake_lock(fake);
    fake->edit = edit;
    fake->edit_aux = aux;
    fake_unlock(fake);
}

void virt_fake_set_memory(struct virt *virt, int64_t total, int64_t available)
{
    struct fake *fake = fake_of(virt);
    fake_lock(fake);
    fake->memory_total = total;
    fake->memory_available = available;
    fake_unlock(fake);
}

void virt_fake_samples(struct virt *virt, const char *uuid, const struct virt_job *jobs,
                       size_t count)
{
    struct fake *fake = fake_of(virt);
    fake_lock(fake);
    struct domain *domain = fake_need(fake, uuid);
    free(domain->samples);
    domain->samples = count ? NEW_ARRAY(struct virt_job, count) : NULL;
    for (size_t i = 0; i < count; i++)
        domain->samples[i] = jobs[i];
    domain->sample_count = count;
    domain->sample_next = 0;
    fake_unlock(fake);
}

void virt_fake_set_dirty_rate(struct virt *virt, const char *uuid, int64_t bytes_per_s)
{
    struct fake *fake = fake_of(virt);
    fake_lock(fake);
    fake_need(fake, uuid)->dirty_rate = bytes_per_s;
    fake_unlock(fake);
}

void virt_fake_set_processor_ns(struct virt *virt, const char *uuid, int64_t ns)
{
    struct fake *fake = fake_of(virt);
    fake_lock(fake);
    fake_need(fake, uuid)->processor_ns = ns;
    fake_unlock(fake);
}

void virt_fake_completed(struct virt *virt, const char *uuid, const struct virt_job *job)
{
    struct fake *fake = fake_of(virt);
    fake_lock(fake);
    fake_need(fake, uuid)->completed = *job;
    fake_unlock(fake);
}

void virt_fake_finish(struct virt *virt, const char *uuid, enum virt_outcome outcome,
                      const char *text)
{
    struct fake *fake = fake_of(virt);
    fake_lock(fake);
    struct domain *domain = fake_need(fake, uuid);
    domain->finished = true;
    domain->outcome = outcome;
    text_replace(&domain->outcome_text, text);
    fake_unlock(fake);
}

bool virt_fake_wait_migrating(struct virt *virt, const char *uuid, int timeout_ms)
{
    struct fake *fake = fake_of(virt);
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    int64_t ns = until.tv_nsec + (int64_t)(timeout_ms % 1000) * 1000000;
    until.tv_sec += timeout_ms / 1000 + ns / INT64_C(1000000000);
    until.tv_nsec = ns % INT64_C(1000000000);
    fake_lock(fake);
    const struct domain *domain = fake_need(fake, uuid);
    int rc = 0;
    while (!domain->migrating && rc != ETIMEDOUT)
        rc = pthread_cond_timedwait(&fake->changed, &fake->lock, &until);
    bool migrating = domain->migrating;
    fake_unlock(fake);
    return migrating;
}

void virt_fake_play(struct virt *virt, const struct virt_fake_player *player)
{
    struct fake *fake = fake_of(virt);
    fake_lock(fake);
    fake->player = *player;
    fake_unlock(fake);
}

void virt_fake_set_job(struct virt *virt, const char *uuid, bool active)
{
    struct fake *fake = fake_of(virt);
    fake_lock(fake);
    fake_need(fake, uuid)->migrating = active;
    fake_unlock(fake);
}

const struct virt_migration *virt_fake_migration(struct virt *virt, const char *uuid)
{
    struct fake *fake = fake_of(virt);
    fake_lock(fake);
    const struct domain *domain = fake_find(fake, uuid);
    const struct virt_migration *migration =
        domain && domain->has_migration ? &domain->migration : NULL;
    fake_unlock(fake);
    return migration;
}

void virt_fake_event(struct virt *virt, const char *uuid, enum virt_event event)
{
    fake_post(virt, &(struct news){.kind = NEWS_EVENT, .event = event}, uuid, false);
}

void virt_fake_iteration(struct virt *virt, const char *uuid, int iteration)
{
    fake_post(virt, &(struct news){.kind = NEWS_ITERATION, .iteration = iteration}, uuid, false);
}

void virt_fake_job_completed(struct virt *virt, const char *uuid, const struct virt_job *job)
{
    fake_post(virt, &(struct news){.kind = NEWS_JOB, .job = *job}, uuid, false);
}

void virt_fake_fail(struct virt *virt, const char *op, enum err_code code, const char *text,
                    int times)
{
    struct fake *fake = fake_of(virt);
    fake_lock(fake);
    struct trouble *trouble = need_trouble(fake, op);
    trouble->code = code;
    trouble->times = times;
    text_replace(&trouble->text, text ? text : "scripted");
    fake_unlock(fake);
}

void virt_fake_hang(struct virt *virt, const char *op, bool hang)
{
    struct fake *fake = fake_of(virt);
    fake_lock(fake);
    need_trouble(fake, op)->hang = hang;
    fake_unlock(fake);
}

char **virt_fake_calls(struct virt *virt)
{
    struct fake *fake = fake_of(virt);
    fake_lock(fake);
    char **copy = NEW_ARRAY(char *, fake->calls.length + 1);
    for (size_t i = 0; i < fake->calls.length; i++)
        copy[i] = text_dup(fake->calls.items[i]);
    fake_unlock(fake);
    return copy;
}

void virt_fake_forget_calls(struct virt *virt)
{
    struct fake *fake = fake_of(virt);
    fake_lock(fake);
    for (size_t i = 0; i < fake->calls.length; i++)
        free(fake->calls.items[i]);
    fake->calls.length = 0;
    fake_unlock(fake);
}

unsigned virt_fake_count(struct virt *virt, const char *op)
{
    struct fake *fake = fake_of(virt);
    size_t length = strlen(op);
    unsigned count = 0;
    fake_lock(fake);
    for (size_t i = 0; i < fake->calls.length; i++)
        count += strncmp(fake->calls.items[i], op, length) == 0 &&
                 (fake->calls.items[i][length] == ' ' || !fake->calls.items[i][length]);
    fake_unlock(fake);
    return count;
}
