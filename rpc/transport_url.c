/* SPDX-License-Identifier: Apache-2.0 */
/*
 * transport_url is cut from the left: scheme, authority up to the first of "/?#", path, query. A password
 * with such a character that is not escaped moves the "@" out of the authority, which is recognised and
 * said, instead of taking half of a password for a host or a virtual host.
 */
#include "rpc/transport_url.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "lib/text.h"

#define HOST_CHARACTERS                                                                            \
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"                               \
    "._-"

/* A part of the text given, never a copy: secrets are copied only to where they are wiped. */
struct slice {
    const char *data;
    size_t length;
};

static struct slice slice_until(const char *s, const char *stops)
{
    return (struct slice){s, strcspn(s, stops)};
}

static void wipe(char *s)
{
    if (s)
        explicit_bzero(s, strlen(s));
    free(s);
}

void transport_url_free(struct transport_url *url)
{
    if (!url)
        return;
    for (size_t i = 0; i < url->host_count; i++) {
        free(url->hosts[i].name);
        wipe(url->hosts[i].user);
        wipe(url->hosts[i].password);
    }
    for (size_t i = 0; i < url->option_count; i++) {
        free(url->options[i].name);
        wipe(url->options[i].value);
    }
    free(url->hosts);
    free(url->options);
    free(url->vhost);
    free(url);
}

static char *decode(struct slice part, const char *what, size_t place, struct err *e)
{
    char *text = text_percent_decode(part.data, part.length, NULL);

    if (text && text_is_utf8(text, strlen(text)))
        return text;
    wipe(text);
    if (place)
        err_set(e, ERR_CONFIG,
                "transport_url: the %s of broker %zu has a percent-escape that is not %%01 to %%FF "
                "or does not make UTF-8",
                what, place);
    else
        err_set(e, ERR_CONFIG,
                "transport_url: the %s has a percent-escape that is not %%01 to %%FF or does not "
                "make UTF-8",
                what);
    return NULL;
}

/* --- authority ---------------------------------------------------------------------------------- */

static int read_port(struct slice text, size_t place, uint16_t *out, struct err *e)
{
    _cleanup_(str_freep) char *copy = text_dup_n(text.data, text.length);
    int64_t port = 0;

    /* Not shown: without an "@" this may be the password. */
    if (text.length > 5 || strspn(copy, "0123456789") != text.length ||
        text_to_int64(copy, 1, 65535, &port, NULL) < 0)
        return err_set(e, ERR_CONFIG,
                       "transport_url: the port of broker %zu is not a number from 1 to 65535",
                       place);
    *out = (uint16_t)port;
    return 0;
}

static int read_address(struct slice *rest, size_t place, struct transport_host *host,
                        struct err *e)
{
    const char *end = memchr(rest->data, ']', rest->length);
    unsigned char binary[16];

    if (!end)
        return err_set(e, ERR_CONFIG, "transport_url: the \"[\" of broker %zu has no \"]\"", place);
    host->name = text_dup_n(rest->data + 1, (size_t)(end - rest->data) - 1);
    if (inet_pton(AF_INET6, host->name, binary) != 1)
        return err_set(
            e, ERR_CONFIG,
            "transport_url: what stands in brackets at broker %zu is not an IPv6 address", place);
    rest->length -= (size_t)(end + 1 - rest->data);
    rest->data = end + 1;
    return 0;
}

static int read_name(struct slice *rest, size_t place, struct transport_host *host, struct err *e)
{
    const char *colon = memchr(rest->data, ':', rest->length);
    size_t length = colon ? (size_t)(colon - rest->data) : rest->length;

    if (colon && memchr(colon + 1, ':', rest->length - length - 1))
        return err_set(
            e, ERR_CONFIG,
            "transport_url: broker %zu has more than one \":\"; an IPv6 address must stand "
            "in brackets, a \":\" of a password must be written %%3A",
            place);
    host->name = text_dup_n(rest->data, length);
    if (length == 0)
        return err_set(e, ERR_CONFIG, "transport_url: broker %zu has no host name", place);
    if (length > 253 || strspn(host->name, HOST_CHARACTERS) != length)
        return err_set(e, ERR_CONFIG,
                       "transport_url: the host name of broker %zu is not made of letters, digits, "
                       "dots, hyphens and underscores (at most 253)",
                       place);
    rest->data += length;
    rest->length -= length;
    return 0;
}

static int read_user(struct slice part, size_t place, struct transport_host *host, struct err *e)
{
    const char *colon = memchr(part.data, ':', part.length);
    size_t length = colon ? (size_t)(colon - part.data) : part.length;

    host->user = decode((struct slice){part.data, length}, "user name", place, e);
    if (!host->user)
        return -1;
    if (colon) {
        host->password =
            decode((struct slice){colon + 1, part.length - length - 1}, "password", place, e);
        if (!host->password)
            return -1;
    } else {
        host->password = text_dup("");
    }
    if (!*host->user)
        return err_set(e, ERR_CONFIG, "transport_url: broker %zu has an empty user name", place);
    return 0;
}

/* One "user:password@host:port"; the last "@" divides. */
static int read_host(struct slice part, size_t place, struct transport_host *host, struct err *e)
{
    const char *at = memrchr(part.data, '@', part.length);

    host->port = TRANSPORT_URL_PORT;
    if (at) {
        struct slice user = {part.data, (size_t)(at - part.data)};

        if (read_user(user, place, host, e) < 0)
            return -1;
        part = (struct slice){at + 1, part.length - user.length - 1};
    } else {
        host->user = text_dup("guest");
        host->password = text_dup("guest");
    }
    if ((part.length && *part.data == '[' ? read_address : read_name)(&part, place, host, e) < 0)
        return -1;
    if (part.length == 0)
        return 0;
    if (*part.data != ':')
        return err_set(e, ERR_CONFIG,
                       "transport_url: after the address of broker %zu only \":port\" may follow",
                       place);
    return read_port((struct slice){part.data + 1, part.length - 1}, place, &host->port, e);
}

static int read_authority(struct slice authority, struct transport_url *url, struct err *e)
{
    const char *end = authority.data + authority.length;

    if (authority.length == 0)
        return err_set(e, ERR_CONFIG,
                       "transport_url names no broker: rabbit://user:password@host:port/vhost is "
                       "expected");
    url->hosts = NEW_ARRAY(struct transport_host, TRANSPORT_URL_HOSTS_MAX);
    for (const char *at = authority.data; at <= end;) {
        const char *comma = memchr(at, ',', (size_t)(end - at));
        struct slice part = {at, (size_t)((comma ? comma : end) - at)};

        if (url->host_count == TRANSPORT_URL_HOSTS_MAX)
            return err_set(e, ERR_CONFIG, "transport_url names more than %d brokers",
                           TRANSPORT_URL_HOSTS_MAX);
        url->host_count++;
        if (read_host(part, url->host_count, &url->hosts[url->host_count - 1], e) < 0)
            return -1;
        at = comma ? comma + 1 : end + 1;
    }
    return 0;
}

/* --- path and query ----------------------------------------------------------------------------- */

static int read_vhost(struct slice path, struct transport_url *url, struct err *e)
{
    if (path.length > 0) { /* the first "/" only divides */
        path.data++;
        path.length--;
    }
    url->vhost = decode(path, "virtual host", 0, e);
    if (!url->vhost)
        return -1;
    if (!*url->vhost) {
        free(url->vhost);
        url->vhost = text_dup("/");
    }
    if (strlen(url->vhost) > 255)
        return err_set(e, ERR_CONFIG, "transport_url: the virtual host is longer than 255 bytes");
    return 0;
}

static int read_option(struct slice part, struct transport_url *url, struct err *e)
{
    const char *equals = memchr(part.data, '=', part.length);
    struct transport_option *option = &url->options[url->option_count];
    size_t length = equals ? (size_t)(equals - part.data) : 0;

    if (length == 0)
        return err_set(e, ERR_CONFIG, "transport_url: option %zu after \"?\" is not name=value",
                       url->option_count + 1);
    url->option_count++;
    option->name = decode((struct slice){part.data, length}, "name of an option", 0, e);
    if (!option->name)
        return -1;
    option->value =
        decode((struct slice){equals + 1, part.length - length - 1}, "value of an option", 0, e);
    if (!option->value)
        return -1;
    for (size_t i = 0; i + 1 < url->option_count; i++)
        if (text_equal(url->options[i].name, option->name)) {
            _cleanup_(str_freep) char *shown = text_escape(option->name, 60);

            return err_set(e, ERR_CONFIG, "transport_url gives the option \"%s\" twice", shown);
        }
    return 0;
}

static int read_query(struct slice query, struct transport_url *url, struct err *e)
{
    const char *end = query.data + query.length;

    /* One more for what the scheme implies. */
    url->options = NEW_ARRAY(struct transport_option, TRANSPORT_URL_OPTIONS_MAX + 1);
    for (const char *at = query.data; at < end;) {
        const char *next = memchr(at, '&', (size_t)(end - at));
        struct slice part = {at, (size_t)((next ? next : end) - at)};

        if (url->option_count == TRANSPORT_URL_OPTIONS_MAX)
            return err_set(e, ERR_CONFIG, "transport_url has more than %d options",
                           TRANSPORT_URL_OPTIONS_MAX);
        if (read_option(part, url, e) < 0)
            return -1;
        at = next ? next + 1 : end;
    }
    return 0;
}

/* --- the whole ---------------------------------------------------------------------------------- */

static bool same_word(struct slice s, const char *word)
{
    return s.length == strlen(word) && strncasecmp(s.data, word, s.length) == 0;
}

/* What follows "scheme://", or NULL. */
static const char *read_scheme(const char *text, bool *tls, struct err *e)
{
    static const char *const schemes[] = {"rabbit",     "kombu",        "kombu+rabbit",
                                          "kombu+amqp", "kombu+pyamqp", "kombu+librabbitmq",
                                          "kombu+amqps"};
    const char *end = strstr(text, "://");
    struct slice scheme = {text, end ? (size_t)(end - text) : 0};

    if (!end) {
        err_set(e, ERR_CONFIG,
                "transport_url has no scheme: rabbit://user:password@host:port/vhost is expected");
        return NULL;
    }
    *tls = same_word(scheme, "kombu+amqps");
    for (size_t i = 0; i < ARRAY_LEN(schemes); i++)
        if (same_word(scheme, schemes[i]))
            return end + 3;
    err_set(e, ERR_CONFIG, "transport_url has a scheme that is not \"rabbit\" or \"kombu+amqp\"");
    return NULL;
}

static int check_characters(const char *text, struct err *e)
{
    size_t length = strlen(text);

    if (length > TRANSPORT_URL_SIZE_MAX)
        return err_set(e, ERR_CONFIG, "transport_url is longer than %d bytes",
                       TRANSPORT_URL_SIZE_MAX);
    for (size_t i = 0; i < length; i++)
        if ((unsigned char)text[i] <= ' ' || text[i] == 0x7f)
            return err_set(e, ERR_CONFIG,
                           "transport_url has a blank or control character at byte %zu; it must be "
                           "percent-escaped",
                           i + 1);
    return 0;
}

static int check_rest(struct slice authority, struct err *e)
{
    const char *rest = authority.data + authority.length;

    if (strchr(rest, '@'))
        return err_set(
            e, ERR_CONFIG,
            "transport_url has an \"@\" after the brokers: a \"/\", \"?\", \"#\" or \"@\" in "
            "a user name, password or virtual host must be written %%2F, %%3F, %%23 or "
            "%%40");
    if (strchr(rest, '#'))
        return err_set(e, ERR_CONFIG, "transport_url has a \"#\", which must be written %%23");
    return 0;
}

static int parse(const char *text, struct transport_url *url, struct err *e)
{
    struct slice authority, path, query = {"", 0};
    const char *rest;
    bool tls = false;

    if (!text || !*text)
        return err_set(e, ERR_CONFIG, "transport_url is not set");
    if (check_characters(text, e) < 0)
        return -1;
    rest = read_scheme(text, &tls, e);
    if (!rest)
        return -1;
    authority = slice_until(rest, "/?#");
    path = slice_until(authority.data + authority.length, "?");
    if (path.data[path.length] == '?')
        query = slice_until(path.data + path.length + 1, "");
    if (check_rest(authority, e) < 0 || read_authority(authority, url, e) < 0 ||
        read_vhost(path, url, e) < 0 || read_query(query, url, e) < 0)
        return -1;
    if (tls)
        url->options[url->option_count++] =
            (struct transport_option){text_dup("ssl"), text_dup("true")};
    return 0;
}

int transport_url_parse(const char *text, struct transport_url **out, struct err *e)
{
    _cleanup_(transport_url_freep) struct transport_url *url = NEW(struct transport_url);

    if (parse(text, url, e) < 0)
        return -1;
    *out = STEAL(url);
    return 0;
}

void transport_host_text(const struct transport_host *host, char *out, size_t size)
{
    snprintf(out, size, strchr(host->name, ':') ? "[%s]:%u" : "%s:%u", host->name, host->port);
}

char *transport_url_text(const struct transport_url *url)
{
    struct text_buffer b = TEXT_BUFFER_INIT;
    _cleanup_(str_freep) char *vhost = text_escape(url->vhost, 255);
    char host[300];

    text_buffer_add(&b, "rabbit://");
    for (size_t i = 0; i < url->host_count; i++) {
        transport_host_text(&url->hosts[i], host, sizeof(host));
        text_buffer_printf(&b, "%s%s", i ? "," : "", host);
    }
    text_buffer_printf(&b, "/%s", vhost);
    return text_buffer_take(&b);
}
