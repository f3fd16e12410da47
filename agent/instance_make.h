/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest made from an instance's spec: what build and rebuild have in common, as steps of an operation
 * (agent/operation.h) whose data begins with struct instance_make. In this order:
 *
 *     instance_make_spec      the spec, on a worker
 *     instance_make_images    images into the cache: looked for, fetched, put in place, one after the other
 *     instance_make_parts     journal record, disks, config drive, ports; undo: instance_make_undo
 *     instance_make_start     the domain, paused while ports are not wired; undo: instance_make_nothing
 *     instance_make_wait      network-vif-plugged of those ports (nova's _get_neutron_events)
 *     instance_make_resume
 *     instance_make_keep      all of it is the instance's now: nothing is taken back by undo steps any more
 *
 * Each effect has its undo step in the journal before it ("<uuid>.build.json"): what a crash leaves is
 * taken back at the next start (instance_make_recover()). Loop thread, but for the jobs.
 */
#pragma once

#include "agent/instance_spec.h"
#include "agent/operation.h"

struct instance_make {
    struct conf *conf;
    struct instance *instance;          /* the workers' copy */
    struct json_object *image;          /* record of the image; NULL = what system_metadata keeps */
    struct json_object *network_info;   /* array of VIFs; NULL = the info cache's */
    struct json_object *block_devices;  /* array of primitives */
    struct json_object *injected_files; /* [[path, base64]]; NULL */
    char *admin_password;
    bool keep_disks; /* they are here already: rebuilt on shared storage */
    bool power_off;  /* the guest is defined and not started */
    bool waits;      /* the wait for ports has begun: its failure is the network's */
    struct instance_spec *spec;
    struct undo *undo;
    struct instance_disks disks;
    /* images */
    unsigned image_index;
    bool image_is_kernel;
    const char *image_id;
    char *image_format;
    enum image_cache_state image_state;
    struct image_cache_fetch *fetch;
    const struct undo_handler *undo_handlers;
};

/* Takes what it needs of the operation's instance and of the agent. */
void instance_make_begin(struct operation *operation);
/* The workers' copy of the instance again, after the operation's changed. */
void instance_make_renew(struct operation *operation);
void instance_make_clear(struct instance_make *make);
/* network_info into both copies of the instance (its info cache; no change that is saved). */
void instance_make_set_network(struct operation *operation, struct json_object *network_info);

void instance_make_spec(struct operation *operation);
void instance_make_images(struct operation *operation);
void instance_make_parts(struct operation *operation);
void instance_make_undo(struct operation *operation);
void instance_make_start(struct operation *operation);
void instance_make_wait(struct operation *operation);
void instance_make_resume(struct operation *operation);
void instance_make_keep(struct operation *operation);
/* An undo that is done by the steps before it. */
void instance_make_nothing(struct operation *operation);

/* BLOCKS. The row "guest.destroy" of the undo table: the domain that a build made goes. */
struct undo_handler instance_make_undo_handler(struct virt *virt);
/* BLOCKS. Takes back what a record of the journal says. */
int instance_make_recover(struct journal *journal, const struct undo_handler *handlers,
                          struct json_object *record, struct err *e);

/*
 * BLOCKS. Nothing of the guest is left on this host: domain, ports, files (unless `keep_files`). Goes on when a
 * part fails; the first failure is returned. What is not there is success.
 */
int instance_tear_down(struct agent *agent, const struct conf *conf, const char *uuid,
                       const struct port_list *ports, bool keep_files, struct err *e);
