/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/transport_url.h"

#include "conf/conf.h"
#include "lib/text.h"
#include "rpc/rabbit_options.h"
#include "tests/unit/unit.h"

#define SECRET "s3cret-marker"

/* How a URL is read, in one line: scheme gone, "user|password|host|port" for each host, vhost, options. */
static char *read_back(const char *text)
{
    _cleanup_(transport_url_freep) struct transport_url *url = NULL;
    struct text_buffer b = TEXT_BUFFER_INIT;

    if (!UNIT_OK(transport_url_parse(text, &url, &unit_err)))
        return text_dup("");
    for (size_t i = 0; i < url->host_count; i++)
        text_buffer_printf(&b, "%s|%s|%s|%u ", url->hosts[i].user, url->hosts[i].password,
                           url->hosts[i].name, url->hosts[i].port);
    text_buffer_printf(&b, "vhost=%s", url->vhost);
    for (size_t i = 0; i < url->option_count; i++)
        text_buffer_printf(&b, " %s=%s", url->options[i].name, url->options[i].value);
    return text_buffer_take(&b);
}

static const struct {
    const char *url, *expected;
} good[] = {
    {"rabbit://h", "guest|guest|h|5672 vhost=/"},
    {"rabbit://h/", "guest|guest|h|5672 vhost=/"},
    {"rabbit://h//", "guest|guest|h|5672 vhost=/"},
    {"rabbit://h/%2F", "guest|guest|h|5672 vhost=/"},
    {"rabbit://h/%2f", "guest|guest|h|5672 vhost=/"},
    {"rabbit://h/nova", "guest|guest|h|5672 vhost=nova"},
    {"rabbit://h//nova", "guest|guest|h|5672 vhost=/nova"},
    {"rabbit://h/a/b", "guest|guest|h|5672 vhost=a/b"},
    {"rabbit://h/a%40b%3F", "guest|guest|h|5672 vhost=a@b?"},
    {"rabbit://h:1", "guest|guest|h|1 vhost=/"},
    {"rabbit://h:65535/v", "guest|guest|h|65535 vhost=v"},
    {"rabbit://u:p@h", "u|p|h|5672 vhost=/"},
    {"rabbit://u@h", "u||h|5672 vhost=/"},
    {"rabbit://u:@h", "u||h|5672 vhost=/"},
    {"rabbit://u:p:q@h", "u|p:q|h|5672 vhost=/"},
    {"rabbit://u:p@q@h", "u|p@q|h|5672 vhost=/"},
    {"rabbit://us%65r:p%40%2F%3A%23%3F%25%2C@h:5673/v", "user|p@/:#?%,|h|5673 vhost=v"},
    {"rabbit://u:%C3%A9@h", "u|\xc3\xa9|h|5672 vhost=/"},
    {"rabbit://u:p+q@h", "u|p+q|h|5672 vhost=/"},
    {"rabbit://a:1@h1,b:2@h2:5673,h3/v", "a|1|h1|5672 b|2|h2|5673 guest|guest|h3|5672 vhost=v"},
    {"rabbit://h1,h2", "guest|guest|h1|5672 guest|guest|h2|5672 vhost=/"},
    {"rabbit://[::1]", "guest|guest|::1|5672 vhost=/"},
    {"rabbit://u:p@[2001:db8::1]:5673/v", "u|p|2001:db8::1|5673 vhost=v"},
    {"rabbit://u:p@[::ffff:192.0.2.1],u:p@192.0.2.2:1",
     "u|p|::ffff:192.0.2.1|5672 u|p|192.0.2.2|1 vhost=/"},
    {"rabbit://rabbit_1.example-2.org", "guest|guest|rabbit_1.example-2.org|5672 vhost=/"},
    {"kombu+amqp://u:p@h", "u|p|h|5672 vhost=/"},
    {"kombu+pyamqp://u:p@h", "u|p|h|5672 vhost=/"},
    {"kombu+rabbit://u:p@h", "u|p|h|5672 vhost=/"},
    {"kombu+amqps://u:p@h", "u|p|h|5672 vhost=/ ssl=true"},
    {"kombu://u:p@h", "u|p|h|5672 vhost=/"},
    {"RABBIT://u:p@h", "u|p|h|5672 vhost=/"},
    {"rabbit://h?ssl=1", "guest|guest|h|5672 vhost=/ ssl=1"},
    {"rabbit://h/?ssl=1", "guest|guest|h|5672 vhost=/ ssl=1"},
    {"rabbit://h/v?ssl=1&rabbit_quorum_queue=true",
     "guest|guest|h|5672 vhost=v ssl=1 rabbit_quorum_queue=true"},
    {"rabbit://h/v?ssl_ca_file=%2Fetc%2Fca.pem",
     "guest|guest|h|5672 vhost=v ssl_ca_file=/etc/ca.pem"},
    {"rabbit://h/v?ssl_ca_file=/etc/ca.pem", "guest|guest|h|5672 vhost=v ssl_ca_file=/etc/ca.pem"},
    {"rabbit://h/v?", "guest|guest|h|5672 vhost=v"},
    {"rabbit://h/v?a=", "guest|guest|h|5672 vhost=v a="},
};

UNIT_TEST(reads_good_forms, "every good form of transport_url is read as oslo.messaging reads it")
{
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        _cleanup_(str_freep) char *got = read_back(good[i].url);

        UNIT_STR(got, good[i].expected);
    }
}

static const struct {
    const char *url, *part;
} bad[] = {
    {"", "not set"},
    {NULL, "not set"},
    {"u:" SECRET "@h:5672/", "no scheme"},
    {"amqp://u:" SECRET "@h", "scheme"},
    {"rabbits://u:" SECRET "@h", "scheme"},
    {"kombu+memory://u:" SECRET "@h", "scheme"},
    {"://u:" SECRET "@h", "scheme"},
    {"rabbit://", "no broker"},
    {"rabbit:///v", "no broker"},
    {"rabbit://?ssl=1", "no broker"},
    {"rabbit://u:" SECRET "@", "broker 1 has no host name"},
    {"rabbit://u:" SECRET "@:5672", "broker 1 has no host name"},
    {"rabbit://u:" SECRET "@h,", "broker 2 has no host name"},
    {"rabbit://u:" SECRET "@h,,h2", "broker 2 has no host name"},
    {"rabbit://:" SECRET "@h", "broker 1 has an empty user name"},
    {"rabbit://@h", "empty user name"},
    {"rabbit://u:" SECRET, "port of broker 1"},
    {"rabbit://u:" SECRET "@h:0", "port of broker 1"},
    {"rabbit://u:" SECRET "@h:65536", "port of broker 1"},
    {"rabbit://u:" SECRET "@h:", "port of broker 1"},
    {"rabbit://u:" SECRET "@h:+1", "port of broker 1"},
    {"rabbit://u:" SECRET "@h:56 72", "blank"},
    {"rabbit://u:" SECRET "@h1,u:" SECRET "@h2:x", "port of broker 2"},
    {"rabbit://u:" SECRET "@2001:db8::1", "brackets"},
    {"rabbit://u:" SECRET "@[2001:db8::1", "no \"]\""},
    {"rabbit://u:" SECRET "@[h]", "not an IPv6 address"},
    {"rabbit://u:" SECRET "@[192.0.2.1]", "not an IPv6 address"},
    {"rabbit://u:" SECRET "@[::1]x", "only \":port\""},
    {"rabbit://u:" SECRET "@h!x", "host name of broker 1"},
    {"rabbit://u:" SECRET "@h%41", "host name of broker 1"},
    {"rabbit://u:" SECRET "%@h", "password of broker 1"},
    {"rabbit://u:" SECRET "%00@h", "password of broker 1"},
    {"rabbit://u:" SECRET "%GG@h", "password of broker 1"},
    {"rabbit://u:" SECRET "%ff@h", "UTF-8"},
    {"rabbit://u%:" SECRET "@h", "user name of broker 1"},
    {"rabbit://u:" SECRET "/x@h", "%2F"},
    {"rabbit://u:" SECRET "?x@h", "%3F"},
    {"rabbit://u:" SECRET "#x@h", "%23"},
    {"rabbit://u:" SECRET "@h#x", "%23"},
    {"rabbit://u:" SECRET "@h/v%", "virtual host"},
    {"rabbit://u:" SECRET "@h/v%00", "virtual host"},
    {"rabbit://u:" SECRET "@h/v?ssl", "option 1"},
    {"rabbit://u:" SECRET "@h/v?=1", "option 1"},
    {"rabbit://u:" SECRET "@h/v?a=1&&b=2", "option 2"},
    {"rabbit://u:" SECRET "@h/v?a=" SECRET "&a=2", "\"a\" twice"},
    {"rabbit://u:" SECRET "@h/v?a=%z", "value of an option"},
    {"rabbit://u:" SECRET "@h/v\n", "control character"},
    {" rabbit://u:" SECRET "@h/v", "blank"},
};

UNIT_TEST(refuses_bad_forms,
          "every bad form is refused by a sentence that names the part, not the secret")
{
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct transport_url *url = NULL;

        UNIT_FAILS(transport_url_parse(bad[i].url, &url, &unit_err), ERR_CONFIG);
        UNIT_HAS(unit_err.text, bad[i].part);
        UNIT_TRUE(!strstr(unit_err.text, SECRET));
        UNIT_TRUE(!url);
    }
}

UNIT_TEST(refuses_too_long,
          "a URL beyond its size, too many brokers and a too long vhost are refused")
{
    _cleanup_(str_freep) char *longest = NEW_ARRAY(char, TRANSPORT_URL_SIZE_MAX + 2);
    struct text_buffer many = TEXT_BUFFER_INIT, vhost = TEXT_BUFFER_INIT;
    struct transport_url *url = NULL;

    memset(longest, 'a', TRANSPORT_URL_SIZE_MAX + 1);
    memcpy(longest, "rabbit://", 9);
    UNIT_FAILS(transport_url_parse(longest, &url, &unit_err), ERR_CONFIG);
    UNIT_HAS(unit_err.text, "longer than 8192");
    text_buffer_add(&many, "rabbit://h0");
    for (int i = 1; i <= TRANSPORT_URL_HOSTS_MAX; i++)
        text_buffer_printf(&many, ",h%d", i);
    UNIT_FAILS(transport_url_parse(many.data, &url, &unit_err), ERR_CONFIG);
    UNIT_HAS(unit_err.text, "more than 64 brokers");
    text_buffer_add(&vhost, "rabbit://h/");
    for (int i = 0; i < 256; i++)
        text_buffer_add(&vhost, "v");
    UNIT_FAILS(transport_url_parse(vhost.data, &url, &unit_err), ERR_CONFIG);
    UNIT_HAS(unit_err.text, "virtual host");
    text_buffer_free(&many);
    text_buffer_free(&vhost);
}

UNIT_TEST(prints_no_secret,
          "a URL is printed with brokers and vhost, without credentials and options")
{
    _cleanup_(transport_url_freep) struct transport_url *url = NULL;
    _cleanup_(str_freep) char *shown = NULL;
    char host[64];

    UNIT_OK(transport_url_parse("rabbit://user:" SECRET "@h:1,user:" SECRET "@[::1]/v?a=" SECRET,
                                &url, &unit_err));
    if (!url)
        return;
    shown = transport_url_text(url);
    UNIT_STR(shown, "rabbit://h:1,[::1]:5672/v");
    transport_host_text(&url->hosts[1], host, sizeof(host));
    UNIT_STR(host, "[::1]:5672");
}

/* --- options ------------------------------------------------------------------------------------ */

static int options_of(const char *text, const struct conf *conf, struct rabbit_options **out)
{
    _cleanup_(transport_url_freep) struct transport_url *url = NULL;

    if (transport_url_parse(text, &url, &unit_err) < 0)
        return -1;
    return rabbit_options_new(out, conf, url, &unit_err);
}

UNIT_TEST(query_overrides, "options of the query override those of the file, the others stay")
{
    _cleanup_(conf_unrefp) struct conf *conf =
        conf_for_test("oslo_messaging_rabbit.rabbit_retry_interval", "7",
                      "oslo_messaging_rabbit.amqp_auto_delete", "true", NULL);
    _cleanup_(rabbit_options_freep) struct rabbit_options *o = NULL;

    if (!UNIT_OK(options_of("rabbit://h/?ssl=1&rabbit_quorum_queue=True&ssl_ca_file=/a%20b&"
                            "rabbit_transient_queues_ttl=0&kombu_reconnect_delay=0.5&"
                            "rabbit_login_method=PLAIN&rpc_conn_pool_size=5&amqp_auto_delete=off",
                            conf, &o)))
        return;
    UNIT_TRUE(o->ssl);
    UNIT_TRUE(o->rabbit_quorum_queue);
    UNIT_TRUE(!o->amqp_auto_delete);
    UNIT_STR(o->ssl_ca_file, "/a b");
    UNIT_EQ(o->rabbit_transient_queues_ttl, 0);
    UNIT_EQ(o->rabbit_retry_interval, 7);
    UNIT_TRUE(o->kombu_reconnect_delay > 0.49 && o->kombu_reconnect_delay < 0.51);
    UNIT_STR(o->rabbit_login_method, "PLAIN");
    UNIT_STR(o->control_exchange, "nova");
}

UNIT_TEST(defaults_are_oslos, "without options everything has oslo.messaging's default")
{
    _cleanup_(conf_unrefp) struct conf *conf = conf_for_test("DEFAULT.debug", "false", NULL);
    _cleanup_(rabbit_options_freep) struct rabbit_options *o = NULL;

    if (!UNIT_OK(options_of("rabbit://h", conf, &o)))
        return;
    UNIT_TRUE(!o->ssl && !o->amqp_durable_queues && !o->amqp_auto_delete &&
              !o->rabbit_quorum_queue);
    UNIT_TRUE(!o->rabbit_ha_queues && !o->rabbit_transient_quorum_queue &&
              !o->rabbit_stream_fanout);
    UNIT_EQ(o->rabbit_transient_queues_ttl, 1800);
    UNIT_EQ(o->heartbeat_timeout_threshold, 60);
    UNIT_EQ(o->rabbit_qos_prefetch_count, 0);
    UNIT_STR(o->rabbit_login_method, "AMQPLAIN");
    UNIT_TRUE(o->ssl_verify_peer && o->ssl_enforce_hostname_verification);
}

static const struct {
    const char *url, *part;
} bad_options[] = {
    {"rabbit://h/?no_such=1", "\"no_such\" is not an option"},
    {"rabbit://h/?libvirt.virt_type=kvm", "is not an option"},
    {"rabbit://h/?ssl=maybe", "ssl"},
    {"rabbit://h/?rabbit_retry_interval=0", "rabbit_retry_interval"},
    {"rabbit://h/?rabbit_retry_interval=1x", "rabbit_retry_interval"},
    {"rabbit://h/?rabbit_qos_prefetch_count=65536", "rabbit_qos_prefetch_count"},
    {"rabbit://h/?kombu_reconnect_delay=9", "kombu_reconnect_delay"},
    {"rabbit://h/?rabbit_login_method=MAGIC", "rabbit_login_method"},
    {"rabbit://h/?rabbit_login_method=RABBIT-CR-DEMO", "RABBIT-CR-DEMO"},
    {"rabbit://h/?rabbit_login_method=EXTERNAL", "client certificate"},
    {"rabbit://h/?ssl_version=SSLv3", "ssl_version"},
    {"rabbit://h/?rabbit_quorum_queue=1&rabbit_ha_queues=1", "both on"},
    {"rabbit://h/?rabbit_transient_quorum_queue=1&rabbit_ha_queues=1", "both on"},
    {"rabbit://h/?rabbit_stream_fanout=1", "rabbit_transient_quorum_queue"},
    {"rabbit://h/?rabbit_stream_fanout=1&rabbit_transient_quorum_queue=1", "prefetch"},
    {"rabbit://h/?ssl_key_file=/k", "ssl_cert_file"},
};

UNIT_TEST(refuses_bad_options, "unknown, ill-typed and contradicting options are refused by name")
{
    _cleanup_(conf_unrefp) struct conf *conf = conf_for_test("DEFAULT.debug", "false", NULL);

    for (size_t i = 0; i < ARRAY_LEN(bad_options); i++) {
        struct rabbit_options *o = NULL;

        UNIT_FAILS(options_of(bad_options[i].url, conf, &o), ERR_CONFIG);
        UNIT_HAS(unit_err.text, bad_options[i].part);
    }
}
