/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Images into the cache, for a guest that is made: the image itself, its kernel, its ramdisk. One round for
 * each: look (here, somebody else fetches it, or ours to fetch), download, put in place.
 */
#include "agent/instance_make.h"

#include "cloud/images.h"

#include "lib/json.h"
#include "lib/log.h"

LOG_MODULE(build);

enum { BUSY_PAUSE_US = 500000 };

static void next_image(struct operation *op);

static struct instance_make *make_of(const struct operation *op)
{
    return op->data;
}

static void image_done(struct operation *op)
{
    struct instance_make *make = make_of(op);

    make->image_index++;
    next_image(op);
}

/* ---- put in place ---- */

static int run_put(struct agent *agent, void *data, struct err *e)
{
    struct instance_make *make = data;
    _cleanup_(str_freep) char *format = STEAL(make->image_format);

    (void)agent;
    return image_cache_put(STEAL(make->fetch), format, make->image_is_kernel, e);
}

static void downloaded(void *aux, struct json_object *record, const struct err *failure)
{
    struct operation *op = aux;
    struct instance_make *make = make_of(op);
    const char *format = json_get_string(record, "disk_format", NULL);

    if (failure) {
        operation_fail(op, failure);
        return;
    }
    make->image_format = text_dup(format ? format : instance_spec_disk_format(make->spec));
    if (!make->image_format)
        make->image_format = text_dup("raw");
    operation_job(op, "put the image in place", run_put, image_done);
}

/* ---- look ---- */

static int run_look(struct agent *agent, void *data, struct err *e)
{
    struct instance_make *make = data;

    (void)agent;
    if (make->fetch) /* of a download that failed */
        image_cache_abandon(STEAL(make->fetch));
    return image_cache_look(make->conf, make->image_id, &make->image_state, &make->fetch, e);
}

static void looked(struct operation *op)
{
    struct instance_make *make = make_of(op);

    switch (make->image_state) {
    case IMAGE_CACHE_HERE:
        image_done(op);
        return;
    case IMAGE_CACHE_BUSY:
        log_debug("image %s is being fetched for another instance", make->image_id);
        operation_again(op, BUSY_PAUSE_US);
        return;
    case IMAGE_CACHE_TO_FETCH:
        log_info("image %s is fetched", make->image_id);
        cloud_image_download(op->agent->cloud, op->context, make->image_id,
                             image_cache_fd(make->fetch), downloaded, op);
        return;
    }
}

static void next_image(struct operation *op)
{
    struct instance_make *make = make_of(op);
    const struct instance_disks_plan *plan = instance_spec_disks(make->spec);
    const char *const ids[] = {plan->image_id, plan->kernel_id, plan->ramdisk_id};

    while (make->image_index < ARRAY_LEN(ids) && !ids[make->image_index])
        make->image_index++;
    if (make->image_index >= ARRAY_LEN(ids)) {
        operation_next(op);
        return;
    }
    make->image_id = ids[make->image_index];
    make->image_is_kernel = make->image_index > 0;
    operation_job(op, "look for the image", run_look, looked);
}

void instance_make_images(struct operation *op)
{
    if (make_of(op)->keep_disks)
        operation_next(op);
    else
        next_image(op);
}
