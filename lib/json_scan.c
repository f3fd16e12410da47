/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The scan before json-c. json-c alone builds trees, but it takes the last of two equal keys, clamps large
 * integers, replaces lone surrogates and bounds neither the number of values nor the text. So the text is
 * first scanned once, without recursion, for exactly these; grammar is left to json-c's strict mode. Keys
 * are compared by sorting the keys of each object when it closes: O(n log n) whatever the sender does.
 */
#include "lib/json_scan.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "lib/json.h"
#include "lib/text.h"
#include "lib/vector.h"

struct key {
    size_t offset, length; /* in scan.key_bytes, unescaped */
};
DEFINE_VECTOR(key_vector, struct key)

struct scan {
    const char *text;
    size_t length, at, values;
    struct {
        bool object, key_next;
        size_t first_key;
    } levels[JSON_DEPTH_MAX + 1]; /* [0] is outside of any object */
    unsigned depth;
    struct key_vector keys; /* of all objects that are open, a stack */
    struct text_buffer key_bytes;
    struct err *e;
};

static void scan_end(struct scan *s)
{
    free(s->keys.items);
    text_buffer_free(&s->key_bytes);
}

static int refused(const struct scan *s, size_t at, const char *why)
{
    return err_set(s->e, ERR_PARSE, "the JSON text has %s at byte %zu of %zu", why, at, s->length);
}

static int by_bytes(const void *a, const void *b, void *bytes)
{
    const struct key *x = a, *y = b;
    size_t common = x->length < y->length ? x->length : y->length;
    int order =
        common ? memcmp((const char *)bytes + x->offset, (const char *)bytes + y->offset, common)
               : 0;

    return order ? order : (x->length > y->length) - (x->length < y->length);
}

static int check_keys_differ(struct scan *s, size_t first)
{
    struct key *keys = s->keys.items + first;
    size_t n = s->keys.length - first;
    /* There is no buffer yet when all keys so far are empty. */
    char *bytes = s->key_bytes.data ? s->key_bytes.data : (char[]){""};

    qsort_r(keys, n, sizeof(*keys), by_bytes, bytes);
    for (size_t i = 1; i < n; i++) {
        _cleanup_(str_freep) char *raw = NULL;
        _cleanup_(str_freep) char *shown = NULL;

        if (by_bytes(&keys[i - 1], &keys[i], bytes) != 0)
            continue;
        raw = text_dup_n(bytes + keys[i].offset, keys[i].length);
        shown = text_escape(raw, 80);
        return err_set(s->e, ERR_PARSE,
                       "the JSON text has the key \"%s\" twice in the object that ends at byte %zu",
                       shown, s->at);
    }
    return 0;
}

static int scan_open(struct scan *s, bool object)
{
    if (s->depth == JSON_DEPTH_MAX)
        return err_set(s->e, ERR_PARSE, "the JSON text is nested deeper than %d at byte %zu",
                       JSON_DEPTH_MAX, s->at);
    s->depth++;
    s->levels[s->depth].object = object;
    s->levels[s->depth].key_next = object;
    s->levels[s->depth].first_key = s->keys.length;
    s->at++;
    return 0;
}

static int scan_close(struct scan *s, bool object)
{
    size_t first = s->levels[s->depth].first_key;

    if (!s->depth || s->levels[s->depth].object != object)
        return refused(s, s->at, "a closing bracket without its opening one");
    if (object && s->keys.length > first) {
        if (check_keys_differ(s, first) < 0)
            return -1;
        /* qsort reordered them: the lowest offset is where this object's bytes begin. */
        for (size_t i = first; i < s->keys.length; i++)
            if (s->keys.items[i].offset < s->key_bytes.length)
                s->key_bytes.length = s->keys.items[i].offset;
        s->keys.length = first;
    }
    s->depth--;
    s->at++;
    return 0;
}

/* Four hexadecimal digits at `at`, or -1. */
static int32_t hex4(const struct scan *s, size_t at)
{
    char digits[5] = {0};

    if (at + 4 > s->length)
        return -1;
    memcpy(digits, s->text + at, 4);
    if (strspn(digits, "0123456789abcdefABCDEF") != 4)
        return -1;
    return (int32_t)strtol(digits, NULL, 16);
}

static size_t utf8_encode(uint32_t point, char out[4])
{
    size_t more = point < 0x80 ? 0 : point < 0x800 ? 1 : point < 0x10000 ? 2 : 3;
    static const unsigned char lead[] = {0x00, 0xc0, 0xe0, 0xf0};

    for (size_t i = more; i > 0; i--, point >>= 6)
        out[i] = (char)(0x80 | (point & 0x3f));
    out[0] = (char)(lead[more] | point);
    return more + 1;
}

/* \uXXXX, or two of them that make one character; s->at is at the backslash. */
static int scan_unicode(struct scan *s, char out[4], size_t *out_length)
{
    int32_t high = hex4(s, s->at + 2), low;
    uint32_t point = (uint32_t)high;
    size_t start = s->at;

    if (high < 0)
        return refused(s, start, "an escape that is not \\u and four hexadecimal digits");
    s->at += 6;
    if (high >= 0xd800 && high <= 0xdfff) {
        low = s->at + 1 < s->length && s->text[s->at] == '\\' && s->text[s->at + 1] == 'u'
                  ? hex4(s, s->at + 2)
                  : -1;
        if (high > 0xdbff || low < 0xdc00 || low > 0xdfff)
            return refused(s, start, "half of a surrogate pair");
        point = 0x10000 + (((uint32_t)high - 0xd800) << 10) + ((uint32_t)low - 0xdc00);
        s->at += 6;
    }
    *out_length = utf8_encode(point, out);
    return 0;
}

static int scan_escape(struct scan *s, bool is_key)
{
    static const char letters[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
    const char *found = NULL;
    size_t length = 1, start = s->at;
    char letter = '\0', bytes[4] = {0};

    if (s->at + 1 < s->length)
        letter = s->text[s->at + 1];
    if (letter)
        found = strchr(letters, letter);
    if (letter == 'u') {
        if (scan_unicode(s, bytes, &length) < 0)
            return -1;
        if (is_key && bytes[0] == '\0')
            return refused(s, start, "a NUL in a key");
    } else if (found) {
        bytes[0] = meant[found - letters];
        s->at += 2;
    } else {
        return refused(s, start, "an unknown escape");
    }
    if (is_key)
        text_buffer_add_n(&s->key_bytes, bytes, length);
    return 0;
}

static int scan_string(struct scan *s, bool is_key)
{
    size_t start = s->at++, key_start = s->key_bytes.length;

    while (s->at < s->length && s->text[s->at] != '"') {
        size_t run = s->at;

        if (s->text[s->at] == '\\') {
            if (scan_escape(s, is_key) < 0)
                return -1;
            continue;
        }
        while (s->at < s->length && (unsigned char)s->text[s->at] >= 0x20 &&
               s->text[s->at] != '"' && s->text[s->at] != '\\')
            s->at++;
        if (s->at == run)
            return refused(s, s->at, "a control character in a string");
        if (is_key)
            text_buffer_add_n(&s->key_bytes, s->text + run, s->at - run);
    }
    if (s->at >= s->length)
        return refused(s, start, "a string without end");
    s->at++;
    if (is_key)
        *key_vector_add(&s->keys) = (struct key){key_start, s->key_bytes.length - key_start};
    return 0;
}

/* RFC 8259 section 6; json-c takes "01" and "1." too. */
static bool is_json_number(const char *n)
{
    static const char digits[] = "0123456789";
    size_t whole, part;

    n += *n == '-';
    whole = strspn(n, digits);
    if (!whole || (whole > 1 && *n == '0'))
        return false;
    n += whole;
    if (*n == '.') { /* NOLINT(clang-analyzer-core.*): strspn() stays within the text */
        part = strspn(n + 1, digits);
        if (!part)
            return false;
        n += part + 1;
    }
    if (*n == 'e' || *n == 'E') {
        n += n[1] == '+' || n[1] == '-' ? 2 : 1;
        part = strspn(n, digits);
        if (!part)
            return false;
        n += part;
    }
    return *n == '\0';
}

static int scan_number(struct scan *s)
{
    char number[JSON_NUMBER_MAX + 1];
    size_t start = s->at, n = 0;

    while (s->at < s->length && s->text[s->at] && strchr("+-.0123456789eE", s->text[s->at])) {
        if (n == JSON_NUMBER_MAX)
            return refused(s, start, "a number of too many digits");
        number[n++] = s->text[s->at++];
    }
    number[n] = '\0';
    if (!is_json_number(number))
        return refused(s, start, "a malformed number");
    if (strpbrk(number, ".eE")) {
        double value;

        if (text_to_double(number, -HUGE_VAL, HUGE_VAL, &value, NULL) < 0)
            return refused(s, start, "a number that no double can hold");
        return 0;
    }
    errno = 0;
    if (number[0] == '-')
        (void)strtoll(number, NULL, 10);
    else
        (void)strtoull(number, NULL, 10);
    return errno == ERANGE ? refused(s, start, "an integer of more than 64 bits") : 0;
}

static int scan_word(struct scan *s)
{
    static const char *const words[] = {"true", "false", "null"};

    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        size_t n = strlen(words[i]);

        if (s->length - s->at >= n && memcmp(s->text + s->at, words[i], n) == 0) {
            s->at += n;
            return 0;
        }
    }
    return refused(s, s->at, "something that is no JSON value");
}

static int scan_value(struct scan *s, char c)
{
    if (!s->depth && s->values)
        return refused(s, s->at, "more text after the value");
    if (++s->values > JSON_VALUES_MAX)
        return err_set(s->e, ERR_PARSE, "the JSON text has more than %d values", JSON_VALUES_MAX);
    if (c == '{' || c == '[')
        return scan_open(s, c == '{');
    if (c == '"')
        return scan_string(s, false);
    if (c == '-' || (c >= '0' && c <= '9'))
        return scan_number(s);
    return scan_word(s);
}

static int scan_token(struct scan *s)
{
    char c = s->text[s->at];

    switch (c) {
    case ' ':
    case '\t':
    case '\r':
    case '\n':
    case ':':
        s->at++;
        return 0;
    case ',':
        s->levels[s->depth].key_next = s->levels[s->depth].object;
        s->at++;
        return 0;
    case '}':
    case ']':
        return scan_close(s, c == '}');
    default:
        if (c == '"' && s->levels[s->depth].key_next) {
            s->levels[s->depth].key_next = false;
            return scan_string(s, true);
        }
        return scan_value(s, c);
    }
}

int json_scan(const char *text, size_t length, struct err *e)
{
    _cleanup_(scan_end) struct scan s = {.text = text, .length = length, .e = e};

    if (!text_is_utf8(text, length))
        return err_set(e, ERR_PARSE, "the JSON text is not valid UTF-8");
    while (s.at < s.length)
        if (scan_token(&s) < 0)
            return -1;
    if (!s.values)
        return err_set(e, ERR_PARSE, "the JSON text is empty");
    return s.depth ? refused(&s, s.at, "no end of an object or array") : 0;
}
