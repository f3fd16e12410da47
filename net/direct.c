/* SPDX-License-Identifier: Apache-2.0 */
/* What the direct lines share; see direct.h. */
#include "net/direct.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "lib/text.h"

enum { KEY_DIGITS = 2 * DIRECT_KEY_SIZE };

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Exactly `size` bytes from hex digits; dashes are passed over. */
static bool read_hex(const char *text, uint8_t *out, size_t size)
{
    size_t digits = 0;

    for (; *text; text++) {
        if (*text == '-')
            continue;
        int digit = hex_digit(*text);
        if (digit < 0 || digits == 2 * size)
            return false;
        out[digits / 2] = (uint8_t)(digits % 2 ? out[digits / 2] << 4 | digit : digit);
        digits++;
    }
    return digits == 2 * size;
}

int direct_read_uuid(const char *text, uint8_t uuid[DIRECT_UUID_SIZE], struct err *e)
{
    if (text_check_uuid(text, "migration", e) < 0)
        return -1;
    (void)read_hex(text, uuid, DIRECT_UUID_SIZE);
    return 0;
}

int direct_read_key(const char *text, uint8_t key[DIRECT_KEY_SIZE], struct err *e)
{
    if (text && strlen(text) == KEY_DIGITS && read_hex(text, key, DIRECT_KEY_SIZE))
        return 0;
    return err_set(e, ERR_INVALID, "a switch-over key is not %d hexadecimal digits", KEY_DIGITS);
}

void direct_format_uuid(const uint8_t uuid[DIRECT_UUID_SIZE], char out[DIRECT_UUID_TEXT])
{
    static const char digits[] = "0123456789abcdef";
    size_t at = 0;

    for (size_t i = 0; i < DIRECT_UUID_SIZE; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            out[at++] = '-';
        out[at++] = digits[uuid[i] >> 4];
        out[at++] = digits[uuid[i] & 0xf];
    }
    out[at] = '\0';
}

int direct_resolve(const char *address, int port, int socket_type, bool passive,
                   struct addrinfo **out, struct err *e)
{
    const struct addrinfo hints = {.ai_socktype = socket_type,
                                   .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV |
                                               (passive ? AI_PASSIVE : 0)};
    char service[16];

    if (port < 0 || port > 65535)
        return err_set(e, ERR_INVALID, "switch-over port %d is not between 0 and 65535", port);
    (void)snprintf(service, sizeof(service), "%d", port);
    int rc = getaddrinfo(address, service, &hints, out);
    if (rc != 0)
        return err_set(e, ERR_INVALID, "switch-over address '%s' is no IPv4 or IPv6 address",
                       address);
    return 0;
}

int direct_bound_port(int fd)
{
    struct sockaddr_storage address = {0};
    socklen_t length = sizeof(address);
    char service[16];

    if (getsockname(fd, (struct sockaddr *)&address, &length) < 0 ||
        getnameinfo((struct sockaddr *)&address, length, NULL, 0, service, sizeof(service),
                    NI_NUMERICSERV) != 0)
        return 0;
    return (int)strtol(service, NULL, 10);
}
