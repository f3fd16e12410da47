/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Counters and gauges, shown by `computectl stats`. The table is the only list. Increments are atomic:
 * any thread.
 */
#pragma once

#include <stdint.h>

#define METRICS_LIST(X)                                                                            \
    X(RPC_RECEIVED, "rpc_received", "messages taken from the broker")                              \
    X(RPC_DUPLICATE, "rpc_duplicate", "messages dropped because they were seen before")            \
    X(RPC_REFUSED, "rpc_refused", "messages that could not be read or were not allowed")           \
    X(RPC_REPLIED, "rpc_replied", "replies sent")                                                  \
    X(RPC_REPLY_LOST, "rpc_reply_lost", "replies whose queue was gone")                            \
    X(RPC_SENT, "rpc_sent", "requests sent")                                                       \
    X(RPC_TIMEOUT, "rpc_timeout", "requests that were not answered in time")                       \
    X(RPC_RECONNECT, "rpc_reconnect", "connections to a broker made again")                        \
    X(RPC_BLOCKED, "rpc_blocked", "times that a broker blocked publishing")                        \
    X(VIRT_CALLS, "virt_calls", "libvirt calls made")                                              \
    X(VIRT_ERRORS, "virt_errors", "libvirt calls that failed")                                     \
    X(VIRT_RECONNECT, "virt_reconnect", "connections to libvirt made again")                       \
    X(WORK_STUCK, "work_stuck", "calls written off because they did not return")                   \
    X(MIGRATIONS_OUT, "migrations_out", "migrations started from here")                            \
    X(MIGRATIONS_IN, "migrations_in", "migrations prepared for here")                              \
    X(MIGRATIONS_COMPLETED, "migrations_completed", "migrations completed")                        \
    X(MIGRATIONS_FAILED, "migrations_failed", "migrations failed")                                 \
    X(MIGRATIONS_CANCELLED, "migrations_cancelled", "migrations cancelled")                        \
    X(ANNOUNCEMENTS, "announcements", "announcement frames sent")                                  \
    X(SWITCHOVER_SIGNALS, "switchover_signals", "pause signals taken from a source")               \
    X(SWITCHOVER_REFUSED, "switchover_refused", "pause signals refused")                           \
    X(CHANNEL_OPENED, "channel_opened", "streams between agents opened")                           \
    X(CHANNEL_REFUSED, "channel_refused", "connections that did not prove a migration's key")      \
    X(CHANNEL_DROPPED, "channel_dropped", "messages that a stream did not take")                   \
    X(CONTROL_REQUESTS, "control_requests", "requests on the control socket")

enum metric {
#define X(id, name, help) METRIC_##id,
    METRICS_LIST(X)
#undef X
        METRIC_COUNT
};

void metric_add(enum metric metric, uint64_t n);
static inline void metric_inc(enum metric metric)
{
    metric_add(metric, 1);
}
uint64_t metric_get(enum metric metric);
const char *metric_name(enum metric metric);
const char *metric_help(enum metric metric);
