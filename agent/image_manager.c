/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/image_manager.h"

#include "cloud/instances.h"
#include "lib/clock.h"
#include "lib/json.h"
#include "lib/log.h"
#include "lib/text.h"
#include "virt/instance_disks.h"

LOG_MODULE(images);

enum { IDS_OF_INSTANCE = 3 };

struct image_manager {
    struct agent *agent;
    struct loop_timer *timer;
};

/* A look's own: a worker that is stuck keeps it. */
struct prune {
    struct agent *agent;
    struct conf *conf;
    char **in_use;
    unsigned removed;
    int result;
    struct err e;
};

static void rest(struct agent *agent)
{
    int64_t seconds = conf_int(agent->conf, CONF_image_cache_manager_interval);

    if (agent->image_manager && seconds > 0)
        loop_timer_arm(agent->image_manager->timer, seconds * USEC_PER_SEC);
}

static void prune_run(void *aux)
{
    struct prune *prune = aux;

    prune->result = image_cache_prune(prune->conf, (const char *const *)prune->in_use,
                                      &prune->removed, &prune->e);
}

static void prune_done(void *aux, enum work_end end)
{
    const struct prune *prune = aux;

    if (end != WORK_DONE || prune->agent->closing)
        return;
    if (prune->result < 0)
        log_err(LOG_LEVEL_WARNING, &prune->e, "unused images stay in the cache");
    else if (prune->removed > 0)
        log_info("%u unused image(s) left the cache", prune->removed);
    rest(prune->agent);
}

static void prune_release(void *aux)
{
    struct prune *prune = aux;

    conf_unref(prune->conf);
    text_vector_free(prune->in_use);
    free(prune);
}

/* Image, kernel and ramdisk of each instance. */
static char **ids_in_use(struct json_object *instances)
{
    static const char *const fields[IDS_OF_INSTANCE] = {"image_ref", "kernel_id", "ramdisk_id"};
    size_t n = 0, count = json_object_array_length(instances);
    char **ids = NEW_ARRAY(char *, count *IDS_OF_INSTANCE + 1);

    for (size_t i = 0; i < count; i++) {
        struct json_object *data =
            json_get(json_object_array_get_idx(instances, i), "nova_object.data");
        for (size_t k = 0; k < IDS_OF_INSTANCE; k++) {
            const char *id = json_get_string(data, fields[k], NULL);
            if (id && *id)
                ids[n++] = text_dup(id);
        }
    }
    return ids;
}

static void listed(void *aux, struct json_object *instances, const struct err *failure)
{
    struct agent *agent = aux;
    struct work work = {.name = "prune the image cache",
                        .run = prune_run,
                        .done = prune_done,
                        .release = prune_release};

    if (agent->closing)
        return;
    if (failure) {
        log_err(LOG_LEVEL_INFO, failure, "the image cache is not looked at");
        rest(agent);
        return;
    }
    struct prune *prune = NEW(struct prune);
    prune->agent = agent;
    prune->conf = conf_ref(agent->conf);
    prune->in_use = ids_in_use(instances);
    work.aux = prune;
    workers_submit(agent->workers, &work);
}

static void due(void *aux)
{
    struct image_manager *manager = aux;

    cloud_instances(manager->agent->cloud, listed, manager->agent);
}

void image_manager_open(struct agent *agent)
{
    struct image_manager *manager;

    if (!agent->node) /* standalone has no list of instances */
        return;
    manager = NEW(struct image_manager);
    manager->agent = agent;
    manager->timer = loop_timer_new(agent->loop, "image cache", due, manager);
    agent->image_manager = manager;
    rest(agent);
}

void image_manager_close(struct agent *agent)
{
    struct image_manager *manager = STEAL(agent->image_manager);

    if (!manager)
        return;
    loop_timer_free(manager->timer);
    free(manager);
}
