/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What nova-compute left on this host's disk, looked at before computed takes the host over: nothing is
 * changed. Names and counts only; what guests wrote is never looked into.
 */
#pragma once

#include <json-c/json_object.h>

#include "conf/conf.h"
#include "lib/err.h"

/*
 * *report: a new JSON object
 *
 *     instances_path   the directory
 *     instances        [{uuid, disks: [{name, format}], files: [...], problems: [...]}]
 *     bases            {images, resized, ephemeral, swap, unfinished, other: counts; bytes allocated}
 *     others           directories and files that are neither, e.g. "<uuid>_resize"
 *     problems         [one sentence each, with the value and what to do]: what this agent could not
 *                      handle; empty = nothing
 *     notes            the same for what is only worth knowing
 *
 * Blocks: worker. ERR_SYSTEM when instances_path cannot be read.
 */
int virt_takeover_look(const struct conf *conf, struct json_object **report, struct err *e);
