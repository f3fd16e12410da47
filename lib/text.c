/* SPDX-License-Identifier: Apache-2.0 */
/* Strings: memory, building, splitting, numbers and escaping. The checks by type are in names.c. */
#include "lib/text.h"

#include <errno.h>
#include <inttypes.h>
#include <locale.h>
#include <malloc.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

/* --- memory ---------------------------------------------------------------------------------- */

enum { LARGE_BLOCK = 128 * 1024 }; /* from here on a block is a mapping of its own */

void *mem_new(size_t size)
{
    void *p = calloc(1, size ? size : 1);

    if (!p)
        abort();
    return p;
}

void *mem_resize(void *p, size_t size)
{
    void *q = realloc(p, size ? size : 1);

    if (!q)
        abort();
    return q;
}

void mem_one_heap(void)
{
    (void)mallopt(M_ARENA_MAX, 1);
    (void)mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK); /* set, it does not grow to what was freed */
}

void mem_give_back(void)
{
    (void)malloc_trim(0);
}

size_t mem_in_use(void)
{
    struct mallinfo2 all = mallinfo2();

    return all.uordblks + all.hblkhd;
}

_printf_(1, 0) static char *format_v(const char *format, va_list args)
{
    char *s = NULL;

    if (vasprintf(&s, format, args) < 0)
        abort();
    return s;
}

char *text_format(const char *format, ...)
{
    va_list args;
    char *s;

    va_start(args, format);
    s = format_v(format, args);
    va_end(args);
    return s;
}

char *text_dup(const char *s)
{
    return s ? text_dup_n(s, strlen(s)) : NULL;
}

void text_replace(char **place, const char *s)
{
    char *copy = text_dup(s);

    free(*place);
    *place = copy;
}

char *text_dup_n(const char *s, size_t length)
{
    char *copy = mem_new(length + 1);

    if (length)
        memcpy(copy, s, length);
    return copy;
}

/* --- comparing ------------------------------------------------------------------------------- */

bool text_equal(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

bool text_is_one_of(const char *word, const char *const *words)
{
    for (; word && *words; words++)
        if (text_equal(word, *words))
            return true;
    return false;
}

bool text_starts_with(const char *s, const char *prefix)
{
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

bool text_ends_with(const char *s, const char *suffix)
{
    size_t n = strlen(s), m = strlen(suffix);

    return n >= m && memcmp(s + n - m, suffix, m) == 0;
}

/* --- the growing string ---------------------------------------------------------------------- */

void text_buffer_add_n(struct text_buffer *b, const char *s, size_t length)
{
    if (b->length + length + 1 > b->capacity) {
        size_t capacity = b->capacity ? b->capacity : 64;

        while (capacity < b->length + length + 1)
            capacity *= 2;
        b->data = mem_resize(b->data, capacity);
        b->capacity = capacity;
    }
    if (length)
        memcpy(b->data + b->length, s, length);
    b->length += length;
    b->data[b->length] = '\0';
}

void text_buffer_add(struct text_buffer *b, const char *s)
{
    text_buffer_add_n(b, s, strlen(s));
}

void text_buffer_printf(struct text_buffer *b, const char *format, ...)
{
    _cleanup_(str_freep) char *s = NULL;
    va_list args;

    va_start(args, format);
    s = format_v(format, args);
    va_end(args);
    text_buffer_add(b, s);
}

char *text_buffer_take(struct text_buffer *b)
{
    char *s = b->data ? b->data : text_dup("");

    *b = (struct text_buffer)TEXT_BUFFER_INIT;
    return s;
}

void text_buffer_free(struct text_buffer *b)
{
    free(b->data);
    *b = (struct text_buffer)TEXT_BUFFER_INIT;
}

/* --- splitting ------------------------------------------------------------------------------- */

char **text_split(const char *s, char separator)
{
    size_t parts = 1;
    char **v;

    for (const char *p = s; *p; p++)
        parts += *p == separator;
    v = NEW_ARRAY(char *, parts + 1);
    for (size_t i = 0; i < parts; i++) {
        const char *end = strchrnul(s, separator);

        v[i] = text_dup_n(s, (size_t)(end - s));
        s = end + 1;
    }
    return v;
}

void text_vector_free(char **v)
{
    if (!v)
        return;
    for (size_t i = 0; v[i]; i++)
        free(v[i]);
    free(v);
}

size_t text_vector_length(char *const *v)
{
    size_t n = 0;

    while (v && v[n])
        n++;
    return n;
}

/* --- numbers --------------------------------------------------------------------------------- */

static int number_refused(const char *s, const char *kind, struct err *e)
{
    _cleanup_(str_freep) char *shown = text_escape(s ? s : "", 60);

    return err_set(e, ERR_INVALID, "\"%s\" is not %s", shown, kind);
}

int text_to_int64(const char *s, int64_t min, int64_t max, int64_t *out, struct err *e)
{
    long long value;
    const char *digits;

    if (!s)
        return number_refused(s, "a whole number", e);
    digits = s + (*s == '-');
    if (!*digits || strspn(digits, "0123456789") != strlen(digits))
        return number_refused(s, "a whole number", e);
    errno = 0;
    value = strtoll(s, NULL, 10);
    if (errno == ERANGE || value < min || value > max) {
        _cleanup_(str_freep) char *shown = text_escape(s, 60);

        return err_set(e, ERR_INVALID, "%s is out of range, allowed is %" PRId64 " to %" PRId64,
                       shown, min, max);
    }
    *out = value;
    return 0;
}

int text_to_double(const char *s, double min, double max, double *out, struct err *e)
{
    locale_t c_locale;
    double value;
    char *end;

    /* strtod() would also take white space, hexadecimal, "inf" and "nan". */
    if (!s || !*s || strspn(s, "+-.0123456789eE") != strlen(s))
        return number_refused(s, "a number", e);
    c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (c_locale == (locale_t)0)
        return err_set(e, ERR_NOMEM, "no memory for a locale");
    value = strtod_l(s, &end, c_locale);
    freelocale(c_locale);
    if (*end)
        return number_refused(s, "a number", e);
    if (!isfinite(value) || value < min || value > max) {
        _cleanup_(str_freep) char *shown = text_escape(s, 60);

        return err_set(e, ERR_INVALID, "%s is out of range, allowed is %g to %g", shown, min, max);
    }
    *out = value;
    return 0;
}

/* --- bytes that came from outside ------------------------------------------------------------ */

/* Length of the well-formed sequence at s (RFC 3629, table of section 4) and its code point, or 0. */
static size_t utf8_decode(const unsigned char *s, size_t length, uint32_t *point)
{
    static const struct {
        unsigned char mask, lead;
        uint32_t least;
    } forms[] = {{0x80, 0x00, 0}, {0xe0, 0xc0, 0x80}, {0xf0, 0xe0, 0x800}, {0xf8, 0xf0, 0x10000}};

    for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
        uint32_t value;

        if ((s[0] & forms[i].mask) != forms[i].lead)
            continue;
        if (length < i + 1)
            return 0;
        value = s[0] & (unsigned char)~forms[i].mask;
        for (size_t k = 1; k <= i; k++) {
            if ((s[k] & 0xc0) != 0x80)
                return 0;
            value = value << 6 | (s[k] & 0x3f);
        }
        if (value < forms[i].least || value > 0x10ffff || (value >= 0xd800 && value <= 0xdfff))
            return 0;
        *point = value;
        return i + 1;
    }
    return 0;
}

bool text_is_utf8(const char *s, size_t length)
{
    for (size_t i = 0; i < length;) {
        uint32_t point;
        size_t n = utf8_decode((const unsigned char *)s + i, length - i, &point);

        if (!n)
            return false;
        i += n;
    }
    return true;
}

size_t text_printable(const char *s, size_t length)
{
    uint32_t point = 0;
    size_t n = length ? utf8_decode((const unsigned char *)s, length, &point) : 0;
    bool control = point < 0x20 || (point >= 0x7f && point <= 0x9f);
    bool direction = (point >= 0x202a && point <= 0x202e) || (point >= 0x2066 && point <= 0x2069);
    bool separator = point == 0x2028 || point == 0x2029;

    return control || direction || separator ? 0 : n;
}

/* Next piece of the escaped text: its length; `used` is what was taken from s. */
static size_t escape_next(const char *s, size_t length, bool backslash, char out[5], size_t *used)
{
    size_t n = text_printable(s, length);

    if (n && !(backslash && *s == '\\')) {
        memcpy(out, s, n);
        *used = n;
        return n;
    }
    snprintf(out, 5, "\\x%02x", (unsigned char)*s);
    *used = 1;
    return 4;
}

char *text_escape(const char *s, size_t limit)
{
    struct text_buffer b = TEXT_BUFFER_INIT;
    size_t left = strlen(s);

    while (left) {
        char piece[5];
        size_t used, n = escape_next(s, left, true, piece, &used);

        if (b.length + n > limit) {
            text_buffer_add(&b, "...");
            break;
        }
        text_buffer_add_n(&b, piece, n);
        s += used;
        left -= used;
    }
    return text_buffer_take(&b);
}

size_t text_escape_line(const char *s, size_t length, char *out, size_t size)
{
    size_t at = 0, fits = 0; /* fits: the last place from which "..." still has room */

    while (length) {
        char piece[5];
        size_t used, n = escape_next(s, length, false, piece, &used);

        if (at + n + 1 > size) {
            memcpy(out + fits, "...", 4);
            return fits + 3;
        }
        if (at + 4 <= size)
            fits = at;
        memcpy(out + at, piece, n);
        at += n;
        s += used;
        length -= used;
    }
    out[at] = '\0';
    return at;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* The byte at s, decoded; 0 or -1 is refused. `used` is what was taken. */
static int percent_byte(const char *s, size_t length, size_t *used)
{
    int high, low;

    *used = 1;
    if (*s != '%')
        return (unsigned char)*s;
    if (length < 3)
        return -1;
    *used = 3;
    high = hex_digit(s[1]);
    low = hex_digit(s[2]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

char *text_percent_decode(const char *s, size_t length, struct err *e)
{
    _cleanup_(str_freep) char *out = mem_new(length + 1);
    size_t n = 0, used;

    for (size_t i = 0; i < length; i += used) {
        int value = percent_byte(s + i, length - i, &used);

        if (value <= 0) {
            _cleanup_(str_freep) char *all = text_dup_n(s, length);
            _cleanup_(str_freep) char *shown = text_escape(all, 60);

            err_set(e, ERR_INVALID,
                    "\"%s\" has an escape that is not %%01 to %%ff in two hexadecimal digits",
                    shown);
            return NULL;
        }
        out[n++] = (char)value;
    }
    return STEAL(out);
}

/* --- for people, and random names ------------------------------------------------------------ */

void text_bytes(double bytes, char *out, size_t size)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    size_t unit = 0;

    while (fabs(bytes) >= 1023.95 && unit + 1 < ARRAY_LEN(units)) {
        bytes /= 1024;
        unit++;
    }
    snprintf(out, size, unit ? "%.1f %s" : "%.0f %s", bytes, units[unit]);
}

void text_ms(int64_t ms, char *out, size_t size)
{
    snprintf(out, size, "%lld ms", (long long)ms);
}

void text_expected(int64_t value, int64_t low, int64_t high,
                   void (*words)(int64_t value, char *out, size_t size),
                   char out[TEXT_EXPECTED_SIZE])
{
    char middle[48], from[48], to[48];

    if (value < 0) {
        snprintf(out, TEXT_EXPECTED_SIZE, "unknown");
        return;
    }
    words(value, middle, sizeof(middle));
    words(low, from, sizeof(from));
    words(high, to, sizeof(to));
    if (low < 0)
        snprintf(out, TEXT_EXPECTED_SIZE, "%s", middle);
    else if (high < 0)
        snprintf(out, TEXT_EXPECTED_SIZE, "%s (%s or more)", middle, from);
    else
        snprintf(out, TEXT_EXPECTED_SIZE, "%s (%s to %s)", middle, from, to);
}

static void random_bytes(unsigned char *out, size_t size)
{
    size_t at = 0;

    while (at < size) {
        ssize_t n = getrandom(out + at, size - at, 0);

        if (n > 0)
            at += (size_t)n;
        else if (errno != EINTR)
            abort();
    }
}

void text_random_hex(size_t bytes, char *out)
{
    for (size_t i = 0; i < bytes; i++) {
        unsigned char byte;

        random_bytes(&byte, 1);
        snprintf(out + 2 * i, 3, "%02x", byte);
    }
    out[2 * bytes] = '\0';
}

void text_new_uuid(char out[37])
{
    unsigned char b[16];
    size_t at = 0;

    random_bytes(b, sizeof(b));
    b[6] = (unsigned char)((b[6] & 0x0f) | 0x40); /* version 4, RFC 9562 section 5.4 */
    b[8] = (unsigned char)((b[8] & 0x3f) | 0x80);
    for (size_t i = 0; i < sizeof(b); i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            out[at++] = '-';
        snprintf(out + at, 3, "%02x", b[i]);
        at += 2;
    }
}
