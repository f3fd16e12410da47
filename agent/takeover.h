/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A look at a host before computed takes it over from nova-compute, or gives it back: what the control plane
 * knows of it, what runs and lies here, how it is configured, and what would not work. Nothing is changed, no
 * request is taken: nova-compute may run meanwhile.
 *
 * The report, a JSON object:
 *     host, control_plane
 *     checks      [{"check", "result": "good"|"note"|"problem", "text"}] in order
 *     problems    how many
 *     nova_compute   [{"pid", "command"}] that run
 *     node, instances, domains, disks: what was found, as far as it could be
 */
#pragma once

#include <json-c/json_object.h>

#include "conf/conf.h"
#include "conf/load.h"
#include "lib/err.h"

/* Runs a loop of its own for at most about half a minute. `report` as conf_load() filled it. */
int takeover_check(const struct conf *conf, const struct conf_sources *sources,
                   const struct conf_report *conf_report, struct json_object **out, struct err *e);
/* The same as a program's run: prints the report as one line of JSON; the exit status. */
int takeover_main(const struct conf *conf, const struct conf_sources *sources,
                  const struct conf_report *conf_report);

/* ---- parts, for tests ---- */

void takeover_add(struct json_object *report, const char *check, const char *result,
                  const char *format, ...) _printf_(4, 5);
/* Processes below `proc` ("/proc") that are nova-compute. */
void takeover_look_processes(struct json_object *report, const char *proc);
/* Options that are set and do nothing here; the files' own warnings. */
void takeover_look_options(struct json_object *report, const struct conf *conf,
                           const struct conf_report *conf_report);
/* Options of the message bus that mean something else here than to nova-compute, and what queues they make. */
void takeover_look_bus(struct json_object *report, const struct conf *conf);
/* Instances of the control plane against domains here: both [{"uuid", ...}]. */
void takeover_compare(struct json_object *report, struct json_object *instances,
                      struct json_object *domains);
/* One domain, as virt_guest_to_json() tells it, with its XML: what this agent refuses. */
void takeover_look_domain(struct json_object *report, const char *name, struct json_object *guest,
                          const char *xml);
