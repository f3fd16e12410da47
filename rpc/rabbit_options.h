/* SPDX-License-Identifier: Apache-2.0 */
/*
 * [oslo_messaging_rabbit] as the bus uses it: the option table's values, overridden by the query of
 * transport_url (nova-contract 1.3). A plain value, made once at the start, that the connections' threads
 * read without a lock.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "conf/conf.h"
#include "lib/err.h"
#include "rpc/transport_url.h"

/* Rows of conf/options.def.h, by type. */
#define RABBIT_OPTIONS(BOOL, INT, FLOAT, TEXT)                                                     \
    BOOL(ssl)                                                                                      \
    TEXT(ssl_version)                                                                              \
    TEXT(ssl_ca_file)                                                                              \
    TEXT(ssl_cert_file)                                                                            \
    TEXT(ssl_key_file)                                                                             \
    BOOL(ssl_verify_peer)                                                                          \
    BOOL(ssl_enforce_hostname_verification)                                                        \
    BOOL(amqp_durable_queues)                                                                      \
    BOOL(amqp_auto_delete)                                                                         \
    BOOL(rabbit_ha_queues)                                                                         \
    BOOL(rabbit_quorum_queue)                                                                      \
    INT(rabbit_quorum_delivery_limit)                                                              \
    INT(rabbit_quorum_max_memory_length)                                                           \
    INT(rabbit_quorum_max_memory_bytes)                                                            \
    BOOL(rabbit_transient_quorum_queue)                                                            \
    BOOL(rabbit_stream_fanout)                                                                     \
    INT(rabbit_transient_queues_ttl)                                                               \
    BOOL(use_queue_manager)                                                                        \
    TEXT(hostname)                                                                                 \
    TEXT(processname)                                                                              \
    INT(rabbit_qos_prefetch_count)                                                                 \
    TEXT(rabbit_login_method)                                                                      \
    INT(heartbeat_timeout_threshold)                                                               \
    INT(heartbeat_rate)                                                                            \
    FLOAT(kombu_reconnect_delay)                                                                   \
    FLOAT(kombu_reconnect_splay)                                                                   \
    TEXT(kombu_failover_strategy)                                                                  \
    INT(rabbit_retry_interval)                                                                     \
    INT(rabbit_retry_backoff)                                                                      \
    INT(rabbit_interval_max)                                                                       \
    BOOL(enable_cancel_on_failover)

struct rabbit_options {
    char *control_exchange;
#define RABBIT_BOOL(name)  bool name;
#define RABBIT_INT(name)   int64_t name;
#define RABBIT_FLOAT(name) double name;
#define RABBIT_TEXT(name)  char *name; /* never NULL; "" when unset */
    RABBIT_OPTIONS(RABBIT_BOOL, RABBIT_INT, RABBIT_FLOAT, RABBIT_TEXT)
#undef RABBIT_BOOL
#undef RABBIT_INT
#undef RABBIT_FLOAT
#undef RABBIT_TEXT
};

/*
 * The configuration with the URL's options on top. ERR_CONFIG: an option that oslo.messaging does not
 * know either, a value that the row does not allow, or options that exclude each other.
 */
int rabbit_options_new(struct rabbit_options **out, const struct conf *conf,
                       const struct transport_url *url, struct err *e);
void rabbit_options_free(struct rabbit_options *options);
DEFINE_CLEANUP(struct rabbit_options *, rabbit_options_free)
