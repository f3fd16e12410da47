/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/topology.h"

#include <sys/stat.h>
#include <unistd.h>

#include "conf/load.h"
#include "lib/text.h"
#include "rpc/queue_manager.h"
#include "tests/unit/unit.h"

static struct rabbit_options plain_options(void)
{
    static char exchange[] = "nova", empty[] = "";

    return (struct rabbit_options){.control_exchange = exchange,
                                   .rabbit_transient_queues_ttl = 1800,
                                   .hostname = empty,
                                   .processname = empty};
}

/* A queue in one line: name flags {arguments} <- exchange(type flags) key. */
static void show(const struct topology_queue *q, char *out, size_t size)
{
    struct text_buffer b = TEXT_BUFFER_INIT;

    text_buffer_printf(&b, "%s%s%s {", q->name, q->durable ? " durable" : "",
                       q->auto_delete ? " auto_delete" : "");
    for (size_t i = 0; i < q->argument_count; i++) {
        const struct topology_argument *a = &q->arguments[i];

        text_buffer_printf(&b, "%s%s=", i ? " " : "", a->key);
        if (*a->text)
            text_buffer_add(&b, a->text);
        else
            text_buffer_printf(&b, "%" PRId64, a->number);
    }
    text_buffer_add(&b, "}");
    if (*q->exchange.name)
        text_buffer_printf(&b, " <- %s(%s%s%s) %s", q->exchange.name, q->exchange.type,
                           q->exchange.durable ? " durable" : "",
                           q->exchange.auto_delete ? " auto_delete" : "", q->binding_key);
    snprintf(out, size, "%s", b.data);
    text_buffer_free(&b);
}

static void check_server(const struct rabbit_options *o, const char *topic, const char *host,
                         const char *fanout)
{
    struct topology_queue q[3];
    char line[600];

    if (!UNIT_OK(topology_server(o, "compute", "h1", "00ff", q, &unit_err)))
        return;
    show(&q[0], line, sizeof(line));
    UNIT_STR(line, topic);
    show(&q[1], line, sizeof(line));
    UNIT_STR(line, host);
    show(&q[2], line, sizeof(line));
    UNIT_STR(line, fanout);
}

static void check_reply(const struct rabbit_options *o, const char *expected)
{
    struct topology_queue q;
    char line[600];

    if (!UNIT_OK(topology_reply(o, "00ff", &q, &unit_err)))
        return;
    show(&q, line, sizeof(line));
    UNIT_STR(line, expected);
}

UNIT_TEST(defaults,
          "by default queues are classic, not durable, and transient ones expire after 1800 s")
{
    struct rabbit_options o = plain_options();

    check_server(
        &o, "compute {} <- nova(topic) compute", "compute.h1 {} <- nova(topic) compute.h1",
        "compute_fanout_00ff {x-expires=1800000} <- compute_fanout(fanout auto_delete) compute");
    check_reply(&o, "reply_00ff {x-expires=1800000}");
}

UNIT_TEST(alt_topic, "compute-alt has the same three queues under its own name")
{
    struct rabbit_options o = plain_options();
    struct topology_queue q[3];

    UNIT_OK(topology_server(&o, "compute-alt", "h1", "00ff", q, &unit_err));
    UNIT_STR(q[0].name, "compute-alt");
    UNIT_STR(q[1].name, "compute-alt.h1");
    UNIT_STR(q[1].binding_key, "compute-alt.h1");
    UNIT_STR(q[2].name, "compute-alt_fanout_00ff");
    UNIT_STR(q[2].exchange.name, "compute-alt_fanout");
    UNIT_STR(q[2].binding_key, "compute-alt");
    UNIT_STR(q[2].topic, "compute-alt");
}

UNIT_TEST(durable,
          "amqp_durable_queues makes topic queues and their exchange durable, nothing else")
{
    struct rabbit_options o = plain_options();

    o.amqp_durable_queues = true;
    check_server(
        &o, "compute durable {} <- nova(topic durable) compute",
        "compute.h1 durable {} <- nova(topic durable) compute.h1",
        "compute_fanout_00ff {x-expires=1800000} <- compute_fanout(fanout auto_delete) compute");
    check_reply(&o, "reply_00ff {x-expires=1800000}");
}

UNIT_TEST(auto_delete, "amqp_auto_delete concerns topic queues and their exchange only")
{
    struct rabbit_options o = plain_options();

    o.amqp_auto_delete = true;
    check_server(
        &o, "compute auto_delete {} <- nova(topic auto_delete) compute",
        "compute.h1 auto_delete {} <- nova(topic auto_delete) compute.h1",
        "compute_fanout_00ff {x-expires=1800000} <- compute_fanout(fanout auto_delete) compute");
    check_reply(&o, "reply_00ff {x-expires=1800000}");
}

UNIT_TEST(mirrored, "rabbit_ha_queues adds x-ha-policy to all queues")
{
    struct rabbit_options o = plain_options();

    o.rabbit_ha_queues = true;
    check_server(&o, "compute {x-ha-policy=all} <- nova(topic) compute",
                 "compute.h1 {x-ha-policy=all} <- nova(topic) compute.h1",
                 "compute_fanout_00ff {x-ha-policy=all x-expires=1800000} <- "
                 "compute_fanout(fanout auto_delete) compute");
    check_reply(&o, "reply_00ff {x-ha-policy=all x-expires=1800000}");
}

UNIT_TEST(quorum,
          "rabbit_quorum_queue makes topic queues quorum and durable, transient ones stay classic")
{
    struct rabbit_options o = plain_options();

    o.rabbit_quorum_queue = true;
    check_server(
        &o, "compute durable {x-queue-type=quorum} <- nova(topic durable) compute",
        "compute.h1 durable {x-queue-type=quorum} <- nova(topic durable) compute.h1",
        "compute_fanout_00ff {x-expires=1800000} <- compute_fanout(fanout auto_delete) compute");
    check_reply(&o, "reply_00ff {x-expires=1800000}");
}

UNIT_TEST(quorum_limits, "limits of quorum queues are arguments when they are not 0")
{
    struct rabbit_options o = plain_options();
    struct topology_queue q[3];
    char line[600];

    o.rabbit_quorum_queue = true;
    o.rabbit_quorum_delivery_limit = 5;
    o.rabbit_quorum_max_memory_length = 10;
    o.rabbit_quorum_max_memory_bytes = 1048576;
    UNIT_OK(topology_server(&o, "compute", "h1", "00ff", q, &unit_err));
    show(&q[0], line, sizeof(line));
    UNIT_STR(line,
             "compute durable {x-queue-type=quorum x-delivery-limit=5 x-max-in-memory-length=10 "
             "x-max-in-memory-bytes=1048576} <- nova(topic durable) compute");
}

UNIT_TEST(transient_quorum,
          "rabbit_transient_quorum_queue makes reply and fanout quorum, expiring and durable")
{
    struct rabbit_options o = plain_options();

    o.rabbit_transient_quorum_queue = true;
    check_server(&o, "compute {} <- nova(topic) compute", "compute.h1 {} <- nova(topic) compute.h1",
                 "compute_fanout_00ff durable {x-queue-type=quorum x-expires=1800000} <- "
                 "compute_fanout(fanout durable auto_delete) compute");
    check_reply(&o, "reply_00ff durable {x-queue-type=quorum x-expires=1800000}");
}

UNIT_TEST(no_ttl, "a TTL of 0 leaves x-expires out and the queues are deleted at the end instead")
{
    struct rabbit_options o = plain_options();
    struct topology_queue q;

    o.rabbit_transient_queues_ttl = 0;
    check_server(&o, "compute {} <- nova(topic) compute", "compute.h1 {} <- nova(topic) compute.h1",
                 "compute_fanout_00ff {} <- compute_fanout(fanout auto_delete) compute");
    check_reply(&o, "reply_00ff {}");
    UNIT_OK(topology_reply(&o, "00ff", &q, &unit_err));
    UNIT_TRUE(q.delete_at_close);
}

UNIT_TEST(stream,
          "rabbit_stream_fanout makes one durable stream of the fanout queue, shared and kept")
{
    struct rabbit_options o = plain_options();
    struct topology_queue q[3];

    o.rabbit_stream_fanout = o.rabbit_transient_quorum_queue = true;
    check_server(&o, "compute {} <- nova(topic) compute", "compute.h1 {} <- nova(topic) compute.h1",
                 "compute_fanout durable {x-queue-type=stream x-max-age=1800s} <- "
                 "compute_fanout(fanout durable auto_delete) compute");
    UNIT_OK(topology_server(&o, "compute", "h1", "00ff", q, &unit_err));
    UNIT_TRUE(q[2].is_stream && !q[2].delete_at_close);
    UNIT_TRUE(!q[0].is_stream && !q[1].is_stream);
    o.rabbit_transient_queues_ttl = 0;
    UNIT_OK(topology_server(&o, "compute", "h1", "00ff", q, &unit_err));
    UNIT_EQ(q[2].argument_count, 1);
}

UNIT_TEST(closing,
          "only the random fanout queue is deleted at the end; the broker expires the reply queue")
{
    struct rabbit_options o = plain_options();
    struct topology_queue q[3], reply;

    UNIT_OK(topology_server(&o, "compute", "h1", "00ff", q, &unit_err));
    UNIT_OK(topology_reply(&o, "00ff", &reply, &unit_err));
    UNIT_TRUE(!q[0].delete_at_close && !q[1].delete_at_close && q[2].delete_at_close);
    UNIT_TRUE(!reply.delete_at_close);
    o.use_queue_manager = true;
    UNIT_OK(topology_server(&o, "compute", "h1", "h:p:1", q, &unit_err));
    UNIT_STR(q[2].name, "compute_fanout_h:p:1");
    UNIT_TRUE(!q[2].delete_at_close);
}

UNIT_TEST(failover, "enable_cancel_on_failover concerns every queue's consumer")
{
    struct rabbit_options o = plain_options();
    struct topology_queue q[3], reply;

    o.enable_cancel_on_failover = true;
    UNIT_OK(topology_server(&o, "compute", "h1", "00ff", q, &unit_err));
    UNIT_OK(topology_reply(&o, "00ff", &reply, &unit_err));
    UNIT_TRUE(q[0].cancel_on_failover && q[1].cancel_on_failover && q[2].cancel_on_failover &&
              reply.cancel_on_failover);
}

/* What a host with these lines in its nova.conf declares: the option's text, whichever group it stands in. */
static void check_nova_conf(const char *lines, const char *topic, const char *fanout)
{
    _cleanup_(str_freep) char *file = text_format("%s/nova.conf", unit_directory());
    _cleanup_(str_freep) char *text = text_format("[DEFAULT]\nhost = h1\n%s\n", lines);
    _cleanup_(rabbit_options_freep) struct rabbit_options *options = NULL;
    _cleanup_(transport_url_freep) struct transport_url *url = NULL;
    const char *const files[] = {file, NULL};
    const struct conf_sources sources = {.config_files = files};
    struct topology_queue q[3];
    struct conf *conf = NULL;
    char line[600];

    unit_write_file(file, text);
    UNIT_EQ(chmod(file, 0600), 0);
    UNIT_OK(transport_url_parse("rabbit://h", &url, &unit_err));
    if (!UNIT_OK(conf_load(&sources, &conf, NULL, &unit_err)))
        return;
    if (UNIT_OK(rabbit_options_new(&options, conf, url, &unit_err)) &&
        UNIT_OK(topology_server(options, "compute", "h1", "00ff", q, &unit_err))) {
        show(&q[0], line, sizeof(line));
        UNIT_STR(line, topic);
        show(&q[2], line, sizeof(line));
        UNIT_STR(line, fanout);
    }
    conf_unref(conf);
}

UNIT_TEST(nova_conf, "every option of a nova.conf that changes a queue's flags is honoured")
{
    static const char classic[] =
        "compute_fanout_00ff {x-expires=1800000} <- compute_fanout(fanout auto_delete) compute";
    static const char mirrored[] = "compute_fanout_00ff {x-ha-policy=all x-expires=1800000} <- "
                                   "compute_fanout(fanout auto_delete) compute";

    check_nova_conf("[oslo_messaging_rabbit]\namqp_durable_queues = True",
                    "compute durable {} <- nova(topic durable) compute", classic);
    check_nova_conf("[oslo_messaging_rabbit]\namqp_auto_delete = True",
                    "compute auto_delete {} <- nova(topic auto_delete) compute", classic);
    check_nova_conf("amqp_auto_delete = True",
                    "compute auto_delete {} <- nova(topic auto_delete) compute", classic);
    check_nova_conf("rabbit_ha_queues = True", "compute {x-ha-policy=all} <- nova(topic) compute",
                    mirrored);
    check_nova_conf("[oslo_messaging_rabbit]\nrabbit_ha_queues = True",
                    "compute {x-ha-policy=all} <- nova(topic) compute", mirrored);
    check_nova_conf("[oslo_messaging_rabbit]\nrabbit_quorum_queue = True\n"
                    "rabbit_quorum_delivery_limit = 3\nrabbit_quroum_max_memory_length = 4\n"
                    "rabbit_quroum_max_memory_bytes = 5",
                    "compute durable {x-queue-type=quorum x-delivery-limit=3 "
                    "x-max-in-memory-length=4 x-max-in-memory-bytes=5} <- nova(topic durable) "
                    "compute",
                    classic);
    check_nova_conf("[oslo_messaging_rabbit]\nrabbit_transient_queues_ttl = 60",
                    "compute {} <- nova(topic) compute",
                    "compute_fanout_00ff {x-expires=60000} <- compute_fanout(fanout auto_delete) "
                    "compute");
    check_nova_conf("control_exchange = other", "compute {} <- other(topic) compute", classic);
}

UNIT_TEST(publishing,
          "a publisher declares the control exchange and fanout exchanges as their consumers do")
{
    struct rabbit_options o = plain_options();
    struct topology_exchange x;

    o.rabbit_quorum_queue = true;
    UNIT_TRUE(topology_publish_exchange(&o, "nova", &x));
    UNIT_STR(x.type, "topic");
    UNIT_TRUE(x.durable && !x.auto_delete);
    UNIT_TRUE(topology_publish_exchange(&o, "conductor_fanout", &x));
    UNIT_STR(x.type, "fanout");
    UNIT_STR(x.name, "conductor_fanout");
    UNIT_TRUE(!x.durable && x.auto_delete);
    UNIT_TRUE(!topology_publish_exchange(&o, "", &x));
    UNIT_TRUE(!topology_publish_exchange(&o, "other", &x));
}

UNIT_TEST(long_names, "names beyond AMQP's 255 bytes are refused")
{
    struct rabbit_options o = plain_options();
    struct topology_queue q[3];
    char host[300];

    memset(host, 'h', sizeof(host) - 1);
    host[sizeof(host) - 1] = '\0';
    UNIT_FAILS(topology_server(&o, "compute", host, "00ff", q, &unit_err), ERR_CONFIG);
    UNIT_HAS(unit_err.text, "255");
}

UNIT_TEST(random_suffix,
          "without the queue manager a name's own part is 32 hex digits, new each time")
{
    struct rabbit_options o = plain_options();
    char a[QUEUE_SUFFIX_SIZE], b[QUEUE_SUFFIX_SIZE];

    UNIT_OK(queue_suffix(&o, unit_directory(), a, &unit_err));
    UNIT_OK(queue_suffix(&o, unit_directory(), b, &unit_err));
    UNIT_EQ(strspn(a, "0123456789abcdef"), 32);
    UNIT_EQ(strlen(a), 32);
    UNIT_TRUE(strcmp(a, b) != 0);
}

UNIT_TEST(managed_suffix,
          "the queue manager counts within a process group and starts over in another one")
{
    struct rabbit_options o = plain_options();
    _cleanup_(str_freep) char *path = text_format("%s/h1_nova-compute_qmanager", unit_directory());
    char suffix[QUEUE_SUFFIX_SIZE], host[] = "h1", process[] = "nova-compute";

    o.use_queue_manager = true;
    o.hostname = host;
    o.processname = process;
    UNIT_OK(queue_suffix(&o, unit_directory(), suffix, &unit_err));
    UNIT_STR(suffix, "h1:nova-compute:1");
    UNIT_OK(queue_suffix(&o, unit_directory(), suffix, &unit_err));
    UNIT_STR(suffix, "h1:nova-compute:2");
    unit_write_file(path, "1:40:12345");
    UNIT_OK(queue_suffix(&o, unit_directory(), suffix, &unit_err));
    UNIT_STR(suffix, "h1:nova-compute:1");
    unit_write_file(path, "rubbish that is no counter at all");
    UNIT_OK(queue_suffix(&o, unit_directory(), suffix, &unit_err));
    UNIT_STR(suffix, "h1:nova-compute:1");
}

UNIT_TEST(hostile_counter,
          "the queue manager follows no symbolic link and makes no path of a hostile name")
{
    struct rabbit_options o = plain_options();
    _cleanup_(str_freep) char *link = text_format("%s/h2_p_qmanager", unit_directory());
    char suffix[QUEUE_SUFFIX_SIZE], host[] = "h2", evil[] = "../h2", process[] = "p";

    o.use_queue_manager = true;
    o.processname = process;
    o.hostname = evil;
    UNIT_FAILS(queue_suffix(&o, unit_directory(), suffix, &unit_err), ERR_INVALID);
    o.hostname = host;
    UNIT_EQ(symlink("/dev/null", link), 0);
    UNIT_FAILS(queue_suffix(&o, unit_directory(), suffix, &unit_err), ERR_SYSTEM);
    UNIT_EQ(unlink(link), 0);
}
