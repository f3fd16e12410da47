/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/base64.h"

#include <ctype.h>
#include <stdint.h>
#include <string.h>

#include "lib/text.h"

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* Letters, then "=" up to a multiple of four; `bits` left over from an unfinished group are dropped. */
char *base64_decode(const char *text, size_t *length)
{
    char *out = mem_new(strlen(text) / 4 * 3 + 4);
    size_t written = 0, letters = 0, padding = 0;
    uint32_t bits = 0;

    for (const char *c = text; *c; c++) {
        const char *letter = strchr(alphabet, *c);

        if (isspace((unsigned char)*c))
            continue;
        padding += *c == '=';
        if (*c == '=')
            continue;
        if (!letter || padding > 0) {
            free(out);
            return NULL;
        }
        bits = bits << 6 | (uint32_t)(letter - alphabet);
        if (letters++ % 4 != 0)
            out[written++] = (char)(bits >> (6 - 2 * ((letters - 1) % 4)));
    }
    if ((letters + padding) % 4 != 0 || padding > 2 || letters % 4 == 1) {
        free(out);
        return NULL;
    }
    out[written] = '\0';
    *length = written;
    return out;
}

char *base64_encode(const void *data, size_t length)
{
    const unsigned char *in = data;
    char *out = mem_new((length + 2) / 3 * 4 + 1), *at = out;

    for (size_t i = 0; i < length; i += 3) {
        size_t n = length - i < 3 ? length - i : 3;
        uint32_t bits = (uint32_t)in[i] << 16 | (n > 1 ? (uint32_t)in[i + 1] << 8 : 0) |
                        (n > 2 ? (uint32_t)in[i + 2] : 0);

        *at++ = alphabet[bits >> 18 & 63];
        *at++ = alphabet[bits >> 12 & 63];
        at[0] = at[1] = '=';
        if (n > 1)
            at[0] = alphabet[bits >> 6 & 63];
        if (n > 2)
            at[1] = alphabet[bits & 63];
        at += 2;
    }
    *at = '\0';
    return out;
}
