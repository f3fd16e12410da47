/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/unit.h"

#include <math.h>

#include "lib/text.h"
#include "lib/vector.h"

DEFINE_VECTOR(number_vector, int)

/* Frees what a call under test gave and tells whether it was that text. */
static bool gives(char *got, const char *expected)
{
    bool same = UNIT_STR(got, expected);

    free(got);
    return same;
}

UNIT_TEST(formats, "formatted and duplicated texts are the caller's own")
{
    gives(text_format("%d-%s", 7, "x"), "7-x");
    gives(text_dup("abc"), "abc");
    gives(text_dup_n("abcdef", 3), "abc");
    gives(text_dup_n("", 0), "");
    UNIT_TRUE(text_dup(NULL) == NULL);
}

UNIT_TEST(replace, "a text is replaced by a copy, also of a part of itself")
{
    char *place = NULL;

    text_replace(&place, "computed");
    UNIT_TRUE(text_equal(place, "computed"));
    text_replace(&place, place + 4);
    UNIT_TRUE(text_equal(place, "uted"));
    text_replace(&place, NULL);
    UNIT_TRUE(!place);
}

UNIT_TEST(compares, "comparing accepts NULL, and prefixes and suffixes longer than the text")
{
    UNIT_TRUE(text_equal(NULL, NULL));
    UNIT_TRUE(!text_equal(NULL, "") && !text_equal("", NULL));
    UNIT_TRUE(text_equal("a", "a") && !text_equal("a", "b"));
    UNIT_TRUE(text_starts_with("abc", "ab") && !text_starts_with("a", "ab"));
    UNIT_TRUE(text_ends_with("abc", "bc") && !text_ends_with("c", "bc"));
}

UNIT_TEST(among, "a word is among a list's or not, and NULL is in none")
{
    static const char *const words[] = {"paused", "stopped", NULL}, *const none[] = {NULL};

    UNIT_TRUE(text_is_one_of("paused", words) && text_is_one_of("stopped", words));
    UNIT_TRUE(!text_is_one_of("stop", words) && !text_is_one_of(NULL, words));
    UNIT_TRUE(!text_is_one_of("paused", none));
}

UNIT_TEST(buffer, "a buffer grows, takes bytes with NULs, and is empty after it was taken")
{
    struct text_buffer b = TEXT_BUFFER_INIT;

    gives(text_buffer_take(&b), "");
    for (int i = 0; i < 1000; i++)
        text_buffer_printf(&b, "%03d,", i);
    UNIT_EQ(b.length, 4000);
    UNIT_EQ(strlen(b.data), 4000);
    UNIT_STR(b.data + 3996, "999,");
    text_buffer_add_n(&b, "a\0b", 3);
    UNIT_EQ(b.length, 4003);
    UNIT_EQ(b.data[4003], '\0');
    free(text_buffer_take(&b));
    UNIT_TRUE(b.data == NULL && b.length == 0);
    text_buffer_add(&b, "x");
    text_buffer_free(&b);
    text_buffer_free(&b);
}

UNIT_TEST(splits, "splitting keeps empty parts")
{
    char **v = text_split(",a,,b,", ',');

    UNIT_EQ(text_vector_length(v), 5);
    UNIT_STR(v[0], "");
    UNIT_STR(v[1], "a");
    UNIT_STR(v[2], "");
    UNIT_STR(v[3], "b");
    UNIT_STR(v[4], "");
    text_vector_free(v);
    v = text_split("", ',');
    UNIT_EQ(text_vector_length(v), 1);
    text_vector_free(v);
    text_vector_free(NULL);
    UNIT_EQ(text_vector_length(NULL), 0);
}

UNIT_TEST(vector, "a vector keeps its items while it grows, and new items are zero")
{
    struct number_vector v = {0};

    for (int i = 0; i < 100; i++) {
        int *item = number_vector_add(&v);

        UNIT_EQ(*item, 0);
        *item = i;
    }
    UNIT_EQ(v.length, 100);
    UNIT_EQ(v.items[99], 99);
    free(v.items);
}

UNIT_TEST(integers, "only whole decimal numbers within the bounds are integers")
{
    static const char *const bad[] = {"",     " 1",  "1 ",  "+1",       "-",   "--1", "1.0",
                                      "0x10", "1e3", "12a", "\xd9\xa1", "nan", NULL};
    int64_t n = 77;

    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        UNIT_FAILS(text_to_int64(bad[i], INT64_MIN, INT64_MAX, &n, &unit_err), ERR_INVALID);
    UNIT_FAILS(text_to_int64("9223372036854775808", INT64_MIN, INT64_MAX, &n, &unit_err),
               ERR_INVALID);
    UNIT_FAILS(text_to_int64("-1", 0, 9, &n, &unit_err), ERR_INVALID);
    UNIT_FAILS(text_to_int64("10", 0, 9, &n, &unit_err), ERR_INVALID);
    UNIT_STR(unit_err.text, "10 is out of range, allowed is 0 to 9");
    UNIT_EQ(n, 77);
    UNIT_OK(text_to_int64("-9223372036854775808", INT64_MIN, INT64_MAX, &n, &unit_err));
    UNIT_EQ(n, INT64_MIN);
    UNIT_OK(text_to_int64("007", 0, 9, &n, &unit_err));
    UNIT_EQ(n, 7);
}

UNIT_TEST(doubles, "numbers with a fraction are decimal and finite")
{
    static const char *const bad[] = {"",     ".",    "inf", "nan",   "0x1p3", "1,5",
                                      " 1.5", "1.5 ", "1e",  "1.5.2", "1e999", NULL};
    double d = 7;

    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        UNIT_FAILS(text_to_double(bad[i], -HUGE_VAL, HUGE_VAL, &d, &unit_err), ERR_INVALID);
    UNIT_FAILS(text_to_double("1.5", 0, 1, &d, &unit_err), ERR_INVALID);
    UNIT_TRUE(d == 7);
    UNIT_OK(text_to_double("-1.5e2", -1000, 1000, &d, &unit_err));
    UNIT_TRUE(d == -150);
}

UNIT_TEST(utf8, "UTF-8 is valid only in its shortest form, without surrogates, below U+110000")
{
    static const char *const good[] = {"",
                                       "a",
                                       "\xc3\xa9",
                                       "\xe2\x82\xac",
                                       "\xf0\x9f\x98\x80",
                                       "\xf4\x8f\xbf\xbf",
                                       "\xef\xbf\xbf"};
    static const char *const bad[] = {"\x80",         "\xc0\x80",         "\xc1\xbf",
                                      "\xe0\x80\x80", "\xed\xa0\x80",     "\xf0\x80\x80\x80",
                                      "\xc3",         "\xe2\x82",         "\xf4\x90\x80\x80",
                                      "\xff",         "\xf8\x88\x80\x80", "a\xc3("};

    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        UNIT_TRUE(text_is_utf8(good[i], strlen(good[i])));
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        UNIT_TRUE(!text_is_utf8(bad[i], strlen(bad[i])));
    UNIT_TRUE(!text_is_utf8("\xe2\x82\xac", 2));
}

UNIT_TEST(escapes, "escaping shows what a terminal would obey, and is cut between characters")
{
    gives(text_escape("a\\b\n\x1b[2J\x7f", 100), "a\\x5cb\\x0a\\x1b[2J\\x7f");
    gives(text_escape("\xc2\x9b\xe2\x80\xae", 100), "\\xc2\\x9b\\xe2\\x80\\xae");
    gives(text_escape("caf\xc3\xa9 \xff", 100), "caf\xc3\xa9 \\xff");
    gives(text_escape("caf\xc3\xa9", 4), "caf...");
    gives(text_escape("abc", 3), "abc");
    gives(text_escape("\n\n", 4), "\\x0a...");
}

UNIT_TEST(escapes_line, "a fixed line takes what fits, whole characters only, in every size")
{
    static const char text[] = "a\xc3\xa9\nb\xe2\x82\xac\x1bz";
    char line[64], small[64];
    size_t whole = text_escape_line(text, sizeof(text) - 1, line, sizeof(line));

    UNIT_STR(line, "a\xc3\xa9\\x0ab\xe2\x82\xac\\x1bz");
    for (size_t size = 4; size <= whole + 1; size++) {
        size_t n = text_escape_line(text, sizeof(text) - 1, small, size);

        UNIT_EQ(strlen(small), n);
        UNIT_TRUE(n < size);
        UNIT_TRUE(text_is_utf8(small, n));
        UNIT_TRUE(size > whole ? strcmp(small, line) == 0 : text_ends_with(small, "..."));
        UNIT_TRUE(size > whole || strncmp(small, line, n - 3) == 0);
    }
}

UNIT_TEST(percent, "percent escapes decode; NUL, short and wrong ones are refused")
{
    static const char *const bad[] = {"%", "%4", "a%4", "%zz", "%4g", "%00", "a%00b", "%%41"};

    gives(text_percent_decode("a%2Fb%3a%C3%A9", 14, &unit_err), "a/b:\xc3\xa9");
    gives(text_percent_decode("%41", 3, &unit_err), "A");
    gives(text_percent_decode("x%41%42", 4, &unit_err), "xA");
    gives(text_percent_decode("", 0, &unit_err), "");
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        UNIT_TRUE(!text_percent_decode(bad[i], strlen(bad[i]), &unit_err) &&
                  unit_err.code == ERR_INVALID);
    UNIT_TRUE(!text_percent_decode("%41", 2, &unit_err)); /* the length counts, not the NUL */
    UNIT_TRUE(!text_percent_decode("a\0b", 3, &unit_err));
}

UNIT_TEST(bytes, "sizes are told in the unit that fits")
{
    static const struct {
        double bytes;
        const char *text;
    } rows[] = {{0, "0 B"},
                {1023, "1023 B"},
                {1024, "1.0 KiB"},
                {12.34 * 1048576, "12.3 MiB"},
                {1048575, "1.0 MiB"},
                {-2048, "-2.0 KiB"},
                {4.0 * (1LL << 40), "4.0 TiB"}};
    char text[32];

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        text_bytes(rows[i].bytes, text, sizeof(text));
        UNIT_STR(text, rows[i].text);
    }
}

UNIT_TEST(expected_figures, "a figure is told with its ends, as far as they are known")
{
    char text[TEXT_EXPECTED_SIZE];

    text_expected(90, 70, 120, text_ms, text);
    UNIT_STR(text, "90 ms (70 ms to 120 ms)");
    text_expected(0, 0, -1, text_ms, text);
    UNIT_STR(text, "0 ms (0 ms or more)");
    text_expected(90, -1, 120, text_ms, text);
    UNIT_STR(text, "90 ms");
    text_expected(-1, 70, 120, text_ms, text);
    UNIT_STR(text, "unknown");
}

UNIT_TEST(random_names, "random names have the right form and differ")
{
    char a[37], b[37], hex[17];

    text_new_uuid(a);
    text_new_uuid(b);
    UNIT_OK(text_check_uuid(a, "uuid", &unit_err));
    UNIT_TRUE(strcmp(a, b) != 0);
    UNIT_EQ(a[14], '4');
    UNIT_TRUE(strchr("89ab", a[19]) != NULL);
    text_random_hex(8, hex);
    UNIT_EQ(strspn(hex, "0123456789abcdef"), 16);
}

/* --- names ----------------------------------------------------------------------------------- */

typedef int (*check_fn)(const char *s, const char *what, struct err *e);

static void check_rows(check_fn check, const char *const *good, const char *const *bad)
{
    for (; *good; good++)
        UNIT_OK(check(*good, "name", &unit_err));
    for (; *bad; bad++) {
        if (!UNIT_FAILS(check(*bad, "name", &unit_err), ERR_INVALID))
            printf("# accepted: %s\n", *bad);
        UNIT_TRUE(text_starts_with(unit_err.text, "name "));
    }
    UNIT_FAILS(check(NULL, "name", &unit_err), ERR_INVALID);
    UNIT_FAILS(check("", "name", &unit_err), ERR_INVALID);
}

#define L63 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

UNIT_TEST(uuid, "a UUID is 8-4-4-4-12 hexadecimal digits and nothing else")
{
    static const char *const good[] = {"a3b6c1d0-0000-4000-8000-00000000000f",
                                       "A3B6C1D0-0000-4000-8000-00000000000F", NULL};
    static const char *const bad[] = {
        "a3b6c1d0-0000-4000-8000-00000000000",   "a3b6c1d0-0000-4000-8000-00000000000f ",
        "a3b6c1d0-0000-4000-8000-00000000000g",  "a3b6c1d00000-4000-8000-00000000000f-",
        "../../../../../../../../../etc/passw",  "a3b6c1d0000040008000000000000000f",
        "a3b6c1d0-0000-4000-8000-0000000\n000f", NULL};

    check_rows(text_check_uuid, good, bad);
}

UNIT_TEST(hostname, "a host name has labels of letters, digits and inner hyphens")
{
    static const char *const good[] = {"h",
                                       "compute-1",
                                       "a.b.c",
                                       "10.0.0.1",
                                       L63 ".x",
                                       L63 "." L63 "." L63 "."
                                           "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
                                           "aaaaaaaaaaaaaaaaaaaaaaaaaa",
                                       NULL};
    static const char *const bad[] = {"-a",
                                      "a-",
                                      "a..b",
                                      ".a",
                                      "a.",
                                      "a_b",
                                      "a b",
                                      "a/b",
                                      "a\n",
                                      L63 "a",
                                      L63 "." L63 "." L63 "." L63,
                                      "h\xc3\xa9",
                                      "-oProxyCommand=x",
                                      "a;b",
                                      NULL};

    check_rows(text_check_hostname, good, bad);
}

UNIT_TEST(ip, "an IP address is a whole IPv4 or IPv6 address")
{
    static const char *const good[] = {"198.51.100.1", "::1", "2001:db8::7", NULL};
    static const char *const bad[] = {"198.51.100", "198.51.100.256", "1",
                                      "::1%eth0",   "[::1]",          "198.51.100.1/24",
                                      " ::1",       "localhost",      NULL};

    check_rows(text_check_ip, good, bad);
}

UNIT_TEST(mac, "a MAC address is six bytes, unicast and not zero")
{
    static const char *const good[] = {"fa:16:3e:00:00:01", "FA:16:3E:AA:BB:CC", NULL};
    static const char *const bad[] = {
        "01:00:5e:00:00:01", "ff:ff:ff:ff:ff:ff",    "00:00:00:00:00:00",
        "fa:16:3e:00:00",    "fa:16:3e:00:00:01:02", "fa-16-3e-00-00-01",
        "fa:16:3e:00:00:0g", "fa163e0000010000a",    NULL};

    check_rows(text_check_mac, good, bad);
}

UNIT_TEST(ifname, "an interface name has at most 15 harmless characters")
{
    static const char *const good[] = {"tap0123-abcd-ef", "br.1", "a", "_x", NULL};
    static const char *const bad[] = {".",     "..", "sixteencharslong", "a/b", "a b", "a:1", "a\n",
                                      "tap%d", NULL};

    check_rows(text_check_ifname, good, bad);
}

UNIT_TEST(filename, "a file name is one component that no tool takes for an option")
{
    static const char *const good[] = {"disk", "disk.config", "a@b+c-1_2", NULL};
    static const char *const bad[] = {".",   "..",   ".hidden", "-rf", "a/b",         "/",
                                      "a b", "a\\b", "a\x01",   "a:b", "caf\xc3\xa9", NULL};
    char longest[257];

    check_rows(text_check_filename, good, bad);
    memset(longest, 'a', 256);
    longest[256] = '\0';
    UNIT_FAILS(text_check_filename(longest, "name", &unit_err), ERR_INVALID);
    longest[255] = '\0';
    UNIT_OK(text_check_filename(longest, "name", &unit_err));
}

UNIT_TEST(names_escape, "a refusal shows the hostile value escaped and says what is allowed")
{
    text_check_ifname("tap\x1b[2J", "the interface of port 1", &unit_err);
    UNIT_STR(unit_err.text,
             "the interface of port 1 \"tap\\x1b[2J\" is not an interface name (1 to 15 "
             "letters, digits, \"_\", \".\" or \"-\")");
}
