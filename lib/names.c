/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checks by type of names that came over the wire. Each is a whitelist: what is not named as allowed is
 * refused, so that a value that passed is safe in a path, a command or an XML document.
 */
#include "lib/text.h"

#include <arpa/inet.h>
#include <string.h>

#define DIGITS  "0123456789"
#define HEX     DIGITS "abcdefABCDEF"
#define LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

static int refused(const char *s, const char *what, const char *allowed, struct err *e)
{
    _cleanup_(str_freep) char *shown = NULL;

    if (!s)
        return err_set(e, ERR_INVALID, "%s is missing, it must be %s", what, allowed);
    shown = text_escape(s, 80);
    return err_set(e, ERR_INVALID, "%s \"%s\" is not %s", what, shown, allowed);
}

static bool all_of(const char *s, size_t length, const char *set)
{
    return strspn(s, set) >= length;
}

int text_check_uuid(const char *s, const char *what, struct err *e)
{
    static const size_t groups[] = {8, 4, 4, 4, 12};
    bool good = s && strlen(s) == 36;

    for (size_t i = 0, at = 0; good && i < ARRAY_LEN(groups); at += groups[i] + 1, i++)
        good = strspn(s + at, HEX) == groups[i] && s[at + groups[i]] == (i < 4 ? '-' : '\0');
    return good ? 0 : refused(s, what, "a UUID (8-4-4-4-12 hexadecimal digits)", e);
}

static bool is_label(const char *s, size_t length)
{
    return length >= 1 && length <= 63 && all_of(s, length, LETTERS DIGITS "-") && s[0] != '-' &&
           s[length - 1] != '-';
}

int text_check_hostname(const char *s, const char *what, struct err *e)
{
    bool good = s && *s && strlen(s) <= 253;
    const char *label = s;

    while (good) {
        size_t length = strcspn(label, ".");

        good = is_label(label, length);
        if (!label[length])
            break;
        label += length + 1;
    }
    return good ? 0
                : refused(s, what,
                          "a host name (labels of letters, digits and inner hyphens, each at most "
                          "63 characters, 253 in all)",
                          e);
}

int text_check_ip(const char *s, const char *what, struct err *e)
{
    unsigned char address[16];

    if (s && (inet_pton(AF_INET, s, address) == 1 || inet_pton(AF_INET6, s, address) == 1))
        return 0;
    return refused(s, what, "an IPv4 or IPv6 address", e);
}

int text_check_mac(const char *s, const char *what, struct err *e)
{
    bool good = s && strlen(s) == 17;

    for (size_t i = 0; good && i < 17; i += 3)
        good = strspn(s + i, HEX) == 2 && s[i + 2] == (i < 15 ? ':' : '\0');
    /* The lowest bit of the first byte means multicast; it is the parity of the second digit. */
    if (good && strchr("02468aceACE", s[1]) && !text_equal(s, "00:00:00:00:00:00"))
        return 0;
    return refused(s, what, "a unicast MAC address (aa:bb:cc:dd:ee:ff)", e);
}

int text_check_ifname(const char *s, const char *what, struct err *e)
{
    size_t length = s ? strlen(s) : 0;

    if (length >= 1 && length <= 15 && all_of(s, length, LETTERS DIGITS "_.-") &&
        !text_equal(s, ".") && !text_equal(s, ".."))
        return 0;
    return refused(s, what, "an interface name (1 to 15 letters, digits, \"_\", \".\" or \"-\")",
                   e);
}

int text_check_filename(const char *s, const char *what, struct err *e)
{
    size_t length = s ? strlen(s) : 0;

    if (length >= 1 && length <= 255 && all_of(s, length, LETTERS DIGITS "_.@+-") && s[0] != '.' &&
        s[0] != '-')
        return 0;
    return refused(
        s, what,
        "a file name (1 to 255 letters, digits, \"_\", \".\", \"@\", \"+\" or \"-\", not "
        "beginning with \".\" or \"-\")",
        e);
}
