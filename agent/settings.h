/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What one migration may do: the configuration, overridden by the flavor's extra specs, then by image
 * properties, then by instance metadata (the most specific wins), each value held within the operator's
 * hard limits; and the changes that an operator makes while it runs.
 *
 * Keys, the same everywhere: `computed:<name>` in extra specs and metadata, `image_computed_<name>` in
 * system metadata (image property computed_<name>), `<name>` in `computectl set`. One table lists them.
 * A completion timeout that is given for one instance is that of the whole migration; the configuration's
 * may be for each GiB.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <json-c/json_object.h>

#include "agent/policy.h"
#include "cloud/views.h"
#include "conf/conf.h"
#include "lib/err.h"

#define SETTINGS_LIST(X)                                                                           \
    X(downtime_ms, INT, "longest pause, milliseconds")                                             \
    X(completion_timeout_s, INT, "time for the whole migration, seconds; 0 = no limit")            \
    X(timeout_action, ACTION, "abort or force_complete")                                           \
    X(auto_converge, BOOL, "the guest may be slowed down")                                         \
    X(post_copy, BOOL, "post-copy may be used")                                                    \
    X(bandwidth_mib, INT, "MiB a second; 0 = no limit")                                            \
    X(policy, KIND, "adaptive or stepped")

struct settings {
    int64_t downtime_ms;
    int64_t completion_timeout_s;
    bool timeout_is_total; /* for the whole migration, else for each GiB */
    enum policy_timeout_action timeout_action;
    bool auto_converge, post_copy;
    int64_t bandwidth_mib;
    enum policy_kind policy;
};

/*
 * Settings of an instance's migration. Values that cannot be read or that a hard limit holds back are
 * no errors: they are left out or cut, and one warning each is logged with key, value and limit.
 */
void settings_for_instance(const struct conf *conf, const struct instance *instance,
                           struct settings *out);

/*
 * Applies an operator's changes ({"downtime_ms": 800, ...}) all or nothing: an unknown key, a wrong type
 * or a value outside the hard limits is ERR_INVALID naming key, value and what is allowed.
 */
int settings_change(const struct conf *conf, struct settings *settings, struct json_object *changes,
                    struct err *e);

/* The policy's limits out of settings and configuration. */
struct policy_limits settings_limits(const struct settings *settings, const struct conf *conf);
struct json_object *settings_to_json(const struct settings *settings);
int settings_from_json(struct json_object *o, struct settings *out, struct err *e); /* journal */
const char *settings_action_name(enum policy_timeout_action action);
const char *settings_policy_name(enum policy_kind kind);
