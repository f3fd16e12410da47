/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Before a take-over: what the options of the message bus mean here, where that is something else than what they
 * mean to nova-compute. All flags of queues are honoured (rpc/topology.c); TLS is stricter on purpose.
 */
#include "agent/takeover.h"

#include "lib/text.h"
#include "rpc/rabbit_options.h"
#include "rpc/topology.h"

static const char *kind_of(const struct topology_queue *queue)
{
    for (size_t i = 0; i < queue->argument_count; i++)
        if (text_equal(queue->arguments[i].key, "x-queue-type"))
            return queue->arguments[i].text;
    return "classic";
}

/* "durable quorum queues", with what else makes a broker refuse them. */
static char *describe(const struct topology_queue *queue)
{
    return text_format("%s%s %s", queue->durable ? "durable" : "transient",
                       queue->auto_delete ? ", auto-deleted" : "", kind_of(queue));
}

static void tell_queues(struct json_object *report, const struct rabbit_options *options,
                        const char *host)
{
    struct topology_queue queues[3];
    struct err e = ERR_INIT;

    if (topology_server(options, "compute", host, "suffix", queues, &e) < 0) {
        takeover_add(report, "queues", "problem", "%s", e.text);
        return;
    }
    _cleanup_(str_freep) char *lasting = describe(&queues[1]);
    _cleanup_(str_freep) char *fanout = describe(&queues[2]);
    takeover_add(report, "queues", "good",
                 "topic queues are %s ones, the fanout queue is a %s one%s, as the configuration "
                 "says; they must be so in the whole cloud",
                 lasting, fanout, options->rabbit_ha_queues ? ", all with x-ha-policy" : "");
}

/* What oslo.messaging learned after Zed: an older cloud passes over it, and declares its exchange otherwise. */
static void look_newer(struct json_object *report, const struct rabbit_options *options)
{
    if (!options->rabbit_transient_quorum_queue)
        return;
    takeover_add(report, "queues", "note",
                 "%s is set: Zed's oslo.messaging does not know it and declares the exchange "
                 "compute_fanout transient; in such a cloud the broker refuses ours, so leave the "
                 "option out there",
                 options->rabbit_stream_fanout
                     ? "rabbit_stream_fanout, with rabbit_transient_quorum_queue,"
                     : "rabbit_transient_quorum_queue");
}

static void look_tls(struct json_object *report, const struct conf *conf,
                     const struct rabbit_options *options)
{
    if (!options->ssl || !options->ssl_verify_peer)
        return;
    if (!*options->ssl_ca_file)
        takeover_add(report, "tls", "note",
                     "ssl is set without ssl_ca_file: nova-compute then trusts every broker, here "
                     "the system's authorities must have signed its certificate; set ssl_ca_file "
                     "(or ssl_verify_peer to false, which lets anybody on the path read along)");
    if (options->ssl_enforce_hostname_verification &&
        !conf_is_set(conf, CONF_oslo_messaging_rabbit_ssl_enforce_hostname_verification))
        takeover_add(report, "tls", "note",
                     "the broker's certificate must name the host of transport_url, which "
                     "nova-compute up to 2025.1 does not check by itself; "
                     "ssl_enforce_hostname_verification = false switches it off");
}

static bool is_given(const struct transport_url *url, const char *name)
{
    for (size_t i = 0; i < url->option_count; i++)
        if (text_equal(url->options[i].name, name))
            return *url->options[i].value;
    return false;
}

static void look_compression(struct json_object *report, const struct conf *conf,
                             const struct transport_url *url)
{
    const char *set = conf_string(conf, CONF_oslo_messaging_rabbit_kombu_compression);

    if ((set && *set) || is_given(url, "kombu_compression"))
        takeover_add(report, "message bus", "problem",
                     "kombu_compression is set: compressed messages are not understood here; a "
                     "cloud whose controllers set it cannot drive this agent");
}

void takeover_look_bus(struct json_object *report, const struct conf *conf)
{
    _cleanup_(transport_url_freep) struct transport_url *url = NULL;
    _cleanup_(rabbit_options_freep) struct rabbit_options *options = NULL;
    struct err e = ERR_INIT;

    if (transport_url_parse(conf_string(conf, CONF_DEFAULT_transport_url), &url, &e) < 0 ||
        rabbit_options_new(&options, conf, url, &e) < 0) {
        takeover_add(report, "message bus", "problem", "%s", e.text);
        return;
    }
    tell_queues(report, options, conf_string(conf, CONF_DEFAULT_host));
    look_newer(report, options);
    look_tls(report, conf, options);
    look_compression(report, conf, url);
}
