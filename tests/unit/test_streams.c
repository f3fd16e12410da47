/* SPDX-License-Identifier: Apache-2.0 */
/* Connections of migrations (net/streams.h), over this host's loopback. */
#include "net/streams.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/json.h"
#include "lib/text.h"
#include "tests/unit/unit.h"

static struct json_object *list_of(const char *text)
{
    struct json_object *o = NULL;

    UNIT_OK(json_parse(text, strlen(text), &o, &unit_err));
    return o;
}

UNIT_TEST(halves, "only what comes from the source's addresses and is not there any more is a half")
{
    static const char stream[] = "198.51.100.12 49152 198.51.100.11 41978";
    _cleanup_(json_putp) struct json_object *source =
        list_of("[\"203.0.113.1\",\"198.51.100.11\"]");
    _cleanup_(json_putp) struct json_object *stranger = list_of("[\"198.51.100.1\",7]");
    _cleanup_(json_putp) struct json_object *alive =
        list_of("[\"198.51.100.12 49152 198.51.100.11 41978\"]");
    _cleanup_(json_putp) struct json_object *others =
        list_of("[\"198.51.100.12 49152 198.51.100.11 41979\",{}]");

    UNIT_TRUE(net_stream_is_half(stream, source, others));
    UNIT_TRUE(!net_stream_is_half(stream, source, alive));
    UNIT_TRUE(!net_stream_is_half(stream, stranger, others));
    UNIT_TRUE(!net_stream_is_half(stream, source, NULL)); /* not told is not: none */
    UNIT_TRUE(!net_stream_is_half(stream, NULL, others));
    UNIT_TRUE(!net_stream_is_half("nonsense", source, others));
}

/* A listener on a free port of the range, on an address of the loopback that nobody else uses. */
static int listen_there(struct sockaddr_in *at)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    *at = (struct sockaddr_in){.sin_family = AF_INET};
    UNIT_EQ(inet_pton(AF_INET, "127.77.66.55", &at->sin_addr), 1);
    for (int port = 49152; port <= 49215; port++) {
        at->sin_port = htons((uint16_t)port);
        if (bind(fd, (struct sockaddr *)at, sizeof(*at)) == 0 && listen(fd, 1) == 0)
            return fd;
    }
    close(fd);
    return -1;
}

static bool is_among(bool listened, const char *stream)
{
    _cleanup_(json_putp) struct json_object *streams = NULL;

    UNIT_OK(net_streams(listened, &streams, &unit_err));
    for (size_t i = 0; i < json_object_array_length(streams); i++)
        if (text_equal(json_object_get_string(json_object_array_get_idx(streams, i)), stream))
            return true;
    return false;
}

UNIT_TEST(real, "both ends know a connection by the same name, and one can break it")
{
    struct sockaddr_in at, from;
    socklen_t size = sizeof(from);
    char byte;
    int listener = listen_there(&at), near = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    UNIT_TRUE(listener >= 0);
    UNIT_EQ(connect(near, (struct sockaddr *)&at, sizeof(at)), 0);
    int far = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    UNIT_EQ(getsockname(near, (struct sockaddr *)&from, &size), 0);
    char local[INET_ADDRSTRLEN];
    (void)inet_ntop(AF_INET, &from.sin_addr, local, sizeof(local));
    _cleanup_(str_freep) char *stream =
        text_format("127.77.66.55 %d %s %d", ntohs(at.sin_port), local, ntohs(from.sin_port));
    UNIT_TRUE(is_among(true, stream) && is_among(false, stream));

    struct err e = ERR_INIT;
    if (net_stream_break(stream, &e) == 0) {
        UNIT_EQ(recv(far, &byte, 1, MSG_DONTWAIT), -1);
        UNIT_EQ(errno, ECONNABORTED);
        UNIT_TRUE(!is_among(true, stream));
        UNIT_OK(net_stream_break(stream, &unit_err)); /* it is gone already */
    } else { /* not root, or a kernel without it: told in words */
        UNIT_HAS(e.text, "cannot break the connection 127.77.66.55");
    }
    close(far);
    close(near);
    close(listener);
}

UNIT_TEST(addresses, "this host's addresses are numbers, and none is the loopback's")
{
    _cleanup_(json_putp) struct json_object *found = NULL;

    UNIT_OK(net_own_addresses(&found, &unit_err));
    for (size_t i = 0; i < json_object_array_length(found); i++) {
        const char *text = json_object_get_string(json_object_array_get_idx(found, i));
        UNIT_OK(text_check_ip(text, "address", &unit_err));
        UNIT_TRUE(!text_equal(text, "127.0.0.1") && !text_equal(text, "::1"));
    }
}
