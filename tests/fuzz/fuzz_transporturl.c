/* SPDX-License-Identifier: Apache-2.0 */
/* A transport_url: what was understood is whole, and its text for logs is one that can be read again. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lib/text.h"
#include "rpc/transport_url.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define VHOST_PLAIN "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."

static void expect(int condition)
{
    if (!condition)
        abort();
}

static void check(const struct transport_url *url)
{
    char text[64];

    expect(url->host_count >= 1 && url->host_count <= TRANSPORT_URL_HOSTS_MAX);
    expect(url->option_count <= TRANSPORT_URL_OPTIONS_MAX);
    expect(url->vhost && url->vhost[0]);
    for (size_t i = 0; i < url->host_count; i++) {
        const struct transport_host *host = &url->hosts[i];
        expect(host->name && host->name[0] && host->user && host->password && host->port > 0);
        transport_host_text(host, text, sizeof(text));
    }
    for (size_t i = 0; i < url->option_count; i++)
        expect(url->options[i].name && url->options[i].value);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    _cleanup_(str_freep) char *text = text_dup_n((const char *)data, size);
    _cleanup_(transport_url_freep) struct transport_url *url = NULL, *again = NULL;
    struct err e = ERR_INIT;

    if (transport_url_parse(text, &url, &e) < 0) {
        expect(e.code == ERR_CONFIG && e.text[0]);
        return 0;
    }
    check(url);
    _cleanup_(str_freep) char *shown = transport_url_text(url);
    if (url->vhost[strspn(url->vhost, VHOST_PLAIN)])
        return 0; /* shown as people read it, not as a URL has it */
    expect(transport_url_parse(shown, &again, &e) == 0);
    expect(again->host_count == url->host_count && text_equal(again->vhost, url->vhost));
    for (size_t i = 0; i < url->host_count; i++)
        expect(text_equal(again->hosts[i].name, url->hosts[i].name) &&
               again->hosts[i].port == url->hosts[i].port);
    return 0;
}
