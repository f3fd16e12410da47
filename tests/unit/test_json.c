/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/unit.h"

#include <math.h>

#include "lib/clock.h"
#include "lib/json.h"
#include "lib/text.h"

static int parse(const char *text, struct json_object **out)
{
    err_clear(&unit_err);
    return json_parse(text, strlen(text), out, &unit_err);
}

/* Refused, and the sentence has this part. */
static void refuses(const char *text, const char *part)
{
    struct json_object *o = (struct json_object *)&unit_err;

    UNIT_EQ(parse(text, &o), -1);
    UNIT_EQ(unit_err.code, ERR_PARSE);
    UNIT_HAS(unit_err.text, part);
    UNIT_TRUE(o == (struct json_object *)&unit_err); /* out-parameters are set on success only */
}

static void round_trip(const char *text)
{
    _cleanup_(json_putp) struct json_object *o = NULL;
    _cleanup_(str_freep) char *again = NULL;

    if (!UNIT_EQ(parse(text, &o), 0))
        return;
    again = json_text(o);
    UNIT_STR(again, text);
}

UNIT_TEST(keeps_values, "values come out as they went in")
{
    round_trip("{\"a\":[1,-2,true,false,null,\"x\"],\"b\":{}}");
    round_trip("0.1");
    round_trip("1.50");
    round_trip("1e-7");
    round_trip("-9223372036854775808");
    round_trip("18446744073709551615");
    round_trip("\"http://x/y\"");
    round_trip("\"caf\xc3\xa9 \xf0\x9f\x98\x80\"");
    round_trip("\"a\\u0000b\"");
    round_trip("\"\"");
    round_trip("[[[]]]");
}

UNIT_TEST(null_value, "JSON null is no error and no object")
{
    struct json_object *o = (struct json_object *)&unit_err;

    UNIT_EQ(parse(" null\n", &o), 0);
    UNIT_TRUE(o == NULL);
}

UNIT_TEST(duplicate_keys, "a key given twice is refused, however it is spelled and wherever it is")
{
    refuses("{\"a\":1,\"a\":2}", "\"a\" twice");
    refuses("{\"a\":1,\"\\u0061\":2}", "\"a\" twice");
    refuses("{\"\xc3\xa9\":1,\"\\u00e9\":2}", "twice");
    refuses("{\"\xf0\x9f\x98\x80\":1,\"\\ud83d\\ude00\":2}", "twice");
    refuses("{\"/\":1,\"\\/\":2}", "\"/\" twice");
    refuses("{\"\":1,\"\":2}", "twice");
    refuses("[{\"x\":{\"b\":1,\"c\":{\"b\":0},\"b\":2}}]", "\"b\" twice");
    refuses("{\"a\":{\"z\":1,\"y\":2},\"b\":[{\"q\":1}],\"a\":3}", "\"a\" twice");
    refuses("{\"a\\n\":1,\"a\\n\":2}", "\"a\\x0a\" twice");
}

UNIT_TEST(similar_keys, "keys that only look alike, or are in different objects, are accepted")
{
    round_trip("{\"a\":{\"a\":{\"a\":1}},\"b\":{\"a\":1},\"aa\":1,\"A\":1,\"\":1}");
    round_trip("[{\"a\":1},{\"a\":1}]");
    round_trip("{\"a\":\"a\",\"b\":[\"a\",\"a\"]}");
    round_trip("{\"b\":{\"d\":1,\"c\":1},\"a\":1,\"d\":1,\"c\":1}");
}

UNIT_TEST(depth, "nesting up to the limit is read, one more is refused, a million too")
{
    enum { BOMB = 1000000 };
    _cleanup_(json_putp) struct json_object *o = NULL;
    _cleanup_(str_freep) char *text = mem_new(BOMB + 1);

    memset(text, '[', JSON_DEPTH_MAX);
    memset(text + JSON_DEPTH_MAX, ']', JSON_DEPTH_MAX);
    UNIT_EQ(parse(text, &o), 0);
    memset(text, '[', JSON_DEPTH_MAX + 1);
    memset(text + JSON_DEPTH_MAX + 1, ']', JSON_DEPTH_MAX + 1);
    refuses(text, "deeper than 32");
    memset(text, '[', BOMB);
    refuses(text, "deeper than 32");
}

UNIT_TEST(size, "a text above the size limit is refused before it is read")
{
    struct json_object *o = NULL;

    UNIT_FAILS(json_parse("", (size_t)JSON_SIZE_MAX + 1, &o, &unit_err), ERR_PARSE);
    UNIT_HAS(unit_err.text, "allowed are 16777216");
}

UNIT_TEST(value_bomb, "a short text of very many values is refused")
{
    struct text_buffer b = TEXT_BUFFER_INIT;

    text_buffer_add(&b, "[0");
    for (int i = 0; i < JSON_VALUES_MAX; i++)
        text_buffer_add_n(&b, ",0", 2);
    text_buffer_add(&b, "]");
    refuses(b.data, "more than 500000 values");
    text_buffer_free(&b);
}

UNIT_TEST(many_keys, "a hundred thousand keys, and a deep text of escapes, take no time")
{
    struct text_buffer b = TEXT_BUFFER_INIT;
    struct json_object *o = NULL;
    int64_t start = clock_monotonic_us();

    text_buffer_add(&b, "{\"s\":\"");
    for (int i = 0; i < 200000; i++)
        text_buffer_add(&b, "\\\"");
    text_buffer_add(&b, "\"");
    for (int i = 0; i < 100000; i++)
        text_buffer_printf(&b, ",\"k%d\":%d", i, i);
    text_buffer_add(&b, "}");
    UNIT_EQ(parse(b.data, &o), 0);
    UNIT_EQ(json_object_object_length(o), 100001);
    UNIT_TRUE(clock_monotonic_us() - start < 10 * USEC_PER_SEC); /* quadratic would take minutes */
    json_object_put(o);
    text_buffer_free(&b);
}

UNIT_TEST(numbers, "numbers that json-c would change silently are refused")
{
    static const char *const malformed[] = {"01",  "-",    "1.",   ".5",  "1e",  "1e+", "+1",
                                            "-01", "1.e3", "0x10", "1-2", "--1", "00",  "1.2.3"};

    refuses("18446744073709551616", "more than 64 bits");
    refuses("[-9223372036854775809]", "more than 64 bits");
    refuses("1e999", "no double");
    refuses("{\"a\":-1e999}", "no double");
    refuses("NaN", "no JSON value");
    refuses("[Infinity]", "no JSON value");
    refuses("-Infinity", "malformed number");
    for (size_t i = 0; i < ARRAY_LEN(malformed); i++) {
        struct json_object *o = NULL;

        if (!UNIT_EQ(parse(malformed[i], &o), -1))
            printf("# accepted: %s\n", malformed[i]);
    }
}

UNIT_TEST(long_number, "a number of a thousand digits is refused")
{
    char text[1001];

    memset(text, '1', 1000);
    text[1000] = '\0';
    refuses(text, "too many digits");
}

UNIT_TEST(strings,
          "strings with raw control characters, bad escapes or half characters are refused")
{
    refuses("\"a\nb\"", "control character");
    refuses("\"a\tb\"", "control character");
    refuses("\"abc", "without end");
    refuses("\"abc\\", "unknown escape");
    refuses("\"\\x41\"", "unknown escape");
    refuses("\"\\u12g4\"", "four hexadecimal");
    refuses("\"\\u12", "four hexadecimal");
    refuses("\"\\ud83d\"", "surrogate");
    refuses("\"\\ud83dx\"", "surrogate");
    refuses("\"\\ud83d\\ud83d\"", "surrogate");
    refuses("\"\\ude00\"", "surrogate");
    refuses("{\"a\\u0000b\":1}", "NUL in a key");
    refuses("\"\xff\"", "UTF-8");
    refuses("\"\xed\xa0\x80\"", "UTF-8");
    refuses("{\"\xc3\":1}", "UTF-8");
}

UNIT_TEST(nul_bytes, "a raw NUL anywhere is refused")
{
    static const struct {
        const char *text;
        size_t length;
    } rows[] = {{"\0", 1}, {"1\0", 2}, {"{}\0", 3}, {"\"a\0b\"", 5}, {"[1,\0 2]", 7}, {"\0{}", 3}};
    struct json_object *o = NULL;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        UNIT_FAILS(json_parse(rows[i].text, rows[i].length, &o, &unit_err), ERR_PARSE);
}

UNIT_TEST(length_counts, "the length counts, not a terminator that comes later")
{
    struct json_object *o = NULL;

    UNIT_OK(json_parse("12345", 2, &o, &unit_err));
    UNIT_EQ(json_object_get_int(o), 12);
    json_object_put(o);
    UNIT_FAILS(json_parse("[1]", 2, &o, &unit_err), ERR_PARSE);
}

UNIT_TEST(grammar, "what is not JSON is refused")
{
    static const char *const bad[] = {"",
                                      " ",
                                      "{",
                                      "[",
                                      "}",
                                      "]",
                                      "[}",
                                      "{]",
                                      "[1,]",
                                      "{\"a\":1,}",
                                      "{\"a\"}",
                                      "{\"a\":}",
                                      "{a:1}",
                                      "{1:2}",
                                      "'a'",
                                      "[1 2]",
                                      "tru",
                                      "nul",
                                      "True",
                                      "truefalse",
                                      "// x\n1",
                                      "/*x*/1",
                                      "1 1",
                                      "{}{}",
                                      "{} x",
                                      "[1],",
                                      ",",
                                      ":",
                                      "{\"a\" 1}",
                                      "[\"a\":1]",
                                      "{\"a\",\"b\"}",
                                      "{,}",
                                      "[,1]",
                                      "\"a\"\"b\"",
                                      "{\"a\":1 \"b\":2}",
                                      "[1,,2]",
                                      "{\"a\"::1}",
                                      "\xef\xbb\xbf{}",
                                      "1 null",
                                      "{\"a\":1:2}",
                                      "nullx"};

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct json_object *o = NULL;

        if (!UNIT_EQ(parse(bad[i], &o), -1))
            printf("# accepted: %s\n", bad[i]);
        UNIT_EQ(unit_err.code, ERR_PARSE);
        json_object_put(o);
    }
}

UNIT_TEST(cut_anywhere, "a message cut at any byte is refused, never read as something else")
{
    static const char text[] = "{\"oslo.version\":\"2.0\",\"oslo.message\":\"{\\\"args\\\": [1, "
                               "-2.5e3, null, true]}\",\"n\":[{\"a\":false}],\"u\":\"\\u00e9\"}";
    struct json_object *o = NULL;

    for (size_t n = 0; n + 1 < sizeof(text); n++)
        if (n < sizeof(text) - 1 && !UNIT_EQ(json_parse(text, n, &o, NULL), -1))
            printf("# accepted: %.*s\n", (int)n, text);
    UNIT_EQ(json_parse(text, sizeof(text) - 1, &o, NULL), 0);
    json_object_put(o);
}

/* --- members --------------------------------------------------------------------------------- */

static struct json_object *sample(void)
{
    struct json_object *o = NULL;

    parse("{\"s\":\"text\",\"i\":7,\"neg\":-1,\"big\":18446744073709551615,\"d\":1.5,\"b\":true,"
          "\"o\":{},\"a\":[],\"n\":null,\"nul\":\"a\\u0000b\"}",
          &o);
    return o;
}

UNIT_TEST(needs, "a needed member is of its type, or the error names the key and both types")
{
    _cleanup_(json_putp) struct json_object *o = sample();
    struct json_object *part = NULL;
    const char *s = NULL;
    int64_t i = 0;
    bool b = false;

    UNIT_OK(json_need_string(o, "s", &s, &unit_err));
    UNIT_STR(s, "text");
    UNIT_OK(json_need_int(o, "i", &i, &unit_err));
    UNIT_EQ(i, 7);
    UNIT_OK(json_need_int(o, "neg", &i, &unit_err));
    UNIT_EQ(i, -1);
    UNIT_OK(json_need_bool(o, "b", &b, &unit_err));
    UNIT_TRUE(b);
    UNIT_OK(json_need_object(o, "o", &part, &unit_err));
    UNIT_OK(json_need_array(o, "a", &part, &unit_err));
    UNIT_FAILS(json_need_int(o, "s", &i, &unit_err), ERR_PARSE);
    UNIT_STR(unit_err.text, "\"s\" is a string, it must be an integer");
    UNIT_FAILS(json_need_int(o, "d", &i, &unit_err), ERR_PARSE);
    UNIT_FAILS(json_need_int(o, "b", &i, &unit_err), ERR_PARSE);
    UNIT_FAILS(json_need_bool(o, "i", &b, &unit_err), ERR_PARSE);
    UNIT_FAILS(json_need_string(o, "n", &s, &unit_err), ERR_PARSE);
    UNIT_STR(unit_err.text, "\"n\" is null, it must be a string");
    UNIT_FAILS(json_need_string(o, "gone", &s, &unit_err), ERR_PARSE);
    UNIT_STR(unit_err.text, "\"gone\" is missing, it must be a string");
    UNIT_FAILS(json_need_object(o, "a", &part, &unit_err), ERR_PARSE);
    UNIT_FAILS(json_need_array(NULL, "a", &part, &unit_err), ERR_PARSE);
    UNIT_EQ(i, -1);
    UNIT_STR(s, "text");
}

UNIT_TEST(needs_honest, "a string with a NUL inside and an integer above int64 are refused")
{
    _cleanup_(json_putp) struct json_object *o = sample();
    const char *s = "before";
    int64_t i = 5;

    UNIT_FAILS(json_need_string(o, "nul", &s, &unit_err), ERR_PARSE);
    UNIT_FAILS(json_opt_string(o, "nul", "x", &s, &unit_err), ERR_PARSE);
    UNIT_STR(json_get_string(o, "nul", "x"), "x");
    UNIT_STR(s, "before");
    UNIT_FAILS(json_need_int(o, "big", &i, &unit_err), ERR_PARSE);
    UNIT_HAS(unit_err.text, "18446744073709551615");
    UNIT_EQ(json_get_int(o, "big", 3), 3);
    UNIT_EQ(i, 5);
}

UNIT_TEST(options, "an optional member falls back when missing or null, not when of another type")
{
    _cleanup_(json_putp) struct json_object *o = sample();
    const char *s;
    int64_t i;
    bool b;

    UNIT_OK(json_opt_string(o, "gone", NULL, &s, &unit_err));
    UNIT_TRUE(s == NULL);
    UNIT_OK(json_opt_int(o, "n", 9, &i, &unit_err));
    UNIT_EQ(i, 9);
    UNIT_OK(json_opt_bool(o, "gone", true, &b, &unit_err));
    UNIT_TRUE(b);
    UNIT_OK(json_opt_int(o, "i", 9, &i, &unit_err));
    UNIT_EQ(i, 7);
    UNIT_FAILS(json_opt_int(o, "s", 9, &i, &unit_err), ERR_PARSE);
    UNIT_FAILS(json_opt_string(o, "i", "", &s, &unit_err), ERR_PARSE);
    UNIT_FAILS(json_opt_bool(o, "s", true, &b, &unit_err), ERR_PARSE);
}

UNIT_TEST(lenient, "lenient reads fall back on anything else")
{
    _cleanup_(json_putp) struct json_object *o = sample();
    struct json_object *text = json_object_new_string("no object");

    UNIT_STR(json_get_string(o, "s", "x"), "text");
    UNIT_STR(json_get_string(o, "i", "x"), "x");
    UNIT_EQ(json_get_int(o, "i", 0), 7);
    UNIT_TRUE(json_get_double(o, "d", 0) == 1.5 && json_get_double(o, "i", 0) == 7);
    UNIT_TRUE(json_get_double(o, "s", 2) == 2);
    UNIT_TRUE(json_get_bool(o, "b", false) && json_get_bool(o, "s", true));
    UNIT_TRUE(json_get(NULL, "a") == NULL && json_get(text, "a") == NULL);
    UNIT_TRUE(json_has(o, "n") && !json_has(o, "gone") && !json_has(text, "a"));
    json_object_put(text);
}

UNIT_TEST(adds, "what is added is printed as strict JSON, infinities as null")
{
    _cleanup_(json_putp) struct json_object *o = json_object_new_object();
    _cleanup_(str_freep) char *text = NULL;

    json_add_string(o, "s", "a/\"\n");
    json_add_string(o, "n", NULL);
    json_add_int(o, "i", INT64_MIN);
    json_add_double(o, "d", 0.5);
    json_add_double(o, "inf", INFINITY);
    json_add_double(o, "nan", NAN);
    json_add_bool(o, "b", false);
    json_add(o, "o", json_object_new_array());
    text = json_text(o);
    UNIT_STR(text, "{\"s\":\"a/\\\"\\n\",\"n\":null,\"i\":-9223372036854775808,\"d\":0.5,"
                   "\"inf\":null,\"nan\":null,\"b\":false,\"o\":[]}");
}

UNIT_TEST(copies, "a copy is equal and independent, and keeps the spelling of numbers")
{
    _cleanup_(json_putp) struct json_object *o = NULL;
    _cleanup_(json_putp) struct json_object *copy = NULL;
    _cleanup_(str_freep) char *text = NULL;

    parse("{\"a\":[1,2.50],\"b\":{\"c\":null}}", &o);
    copy = json_copy(o);
    UNIT_TRUE(json_same(o, copy));
    json_add_int(json_get(copy, "b"), "c", 1);
    UNIT_TRUE(!json_same(o, copy));
    text = json_text(copy);
    UNIT_STR(text, "{\"a\":[1,2.50],\"b\":{\"c\":1}}");
    UNIT_TRUE(json_copy(NULL) == NULL);
    UNIT_TRUE(json_same(NULL, NULL) && !json_same(o, NULL));
}
