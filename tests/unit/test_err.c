/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/unit.h"

#include <errno.h>
#include <fcntl.h>

UNIT_TEST(one_sentence, "an error holds the code, the sentence and the place where it was set")
{
    struct err e = ERR_INIT;

    UNIT_TRUE(!err_is_set(&e));
    UNIT_EQ(err_set(&e, ERR_NO_INSTANCE, "no instance %s here", "7f"), -1);
    UNIT_TRUE(err_is_set(&e));
    UNIT_EQ(e.code, ERR_NO_INSTANCE);
    UNIT_STR(e.text, "no instance 7f here");
    UNIT_HAS(e.file, "test_err.c");
    UNIT_EQ(e.line, __LINE__ - 5);
    err_clear(&e);
    UNIT_TRUE(!err_is_set(&e));
}

UNIT_TEST(null_error, "a caller that wants no error text gets -1 all the same")
{
    UNIT_EQ(err_set(NULL, ERR_SYSTEM, "lost"), -1);
    UNIT_EQ(err_prefix(NULL, "x"), -1);
    err_clear(NULL);
    UNIT_TRUE(!err_is_set(NULL));
}

UNIT_TEST(errno_text, "an errno is kept as a number and told in words")
{
    struct err e = ERR_INIT;

    err_set_errno(&e, ERR_SYSTEM, ENOSPC, "cannot write %s", "disk");
    UNIT_EQ(e.sys, ENOSPC);
    UNIT_STR(e.text, "cannot write disk: No space left on device");
    err_set_sys(&e, ERR_VIRT, 42, "libvirt refused");
    UNIT_EQ(e.sys, 42);
    UNIT_STR(e.text, "libvirt refused");
}

UNIT_TEST(hostile_text,
          "control characters, terminal escapes and invalid UTF-8 do not reach the text")
{
    struct err e = ERR_INIT;

    err_set(&e, ERR_INVALID, "name %s",
            "a\x1b[31mb\nc\xff\xc2\x9b"
            "d\xe2\x80\xae"
            "e\xc3\xa9");
    UNIT_STR(e.text, "name a\\x1b[31mb\\x0ac\\xff\\xc2\\x9bd\\xe2\\x80\\xaee\xc3\xa9");
}

UNIT_TEST(overlong, "an overlong text is cut on a character's edge and ends in dots")
{
    struct err e = ERR_INIT;
    char text[4000];

    for (size_t i = 0; i + 2 < sizeof(text); i += 2)
        memcpy(text + i, "\xc3\xa9", 3);
    for (size_t shift = 0; shift < 4; shift++) {
        size_t n;

        err_set(&e, ERR_INVALID, "%s%s", &"xxx"[3 - shift], text);
        n = strlen(e.text);
        UNIT_TRUE(n < sizeof(e.text) && n > sizeof(e.text) - 8);
        UNIT_STR(e.text + n - 5, "\xc3\xa9...");
    }
}

UNIT_TEST(exact_fit, "a text that just fits is not cut")
{
    struct err e = ERR_INIT;
    char text[ERR_TEXT_SIZE + 1];

    memset(text, 'x', sizeof(text));
    text[ERR_TEXT_SIZE - 1] = '\0';
    err_set(&e, ERR_INVALID, "%s", text);
    UNIT_STR(e.text, text);
    text[ERR_TEXT_SIZE - 1] = 'x';
    text[ERR_TEXT_SIZE] = '\0';
    err_set(&e, ERR_INVALID, "%s", text);
    UNIT_EQ(strlen(e.text), ERR_TEXT_SIZE - 1);
    UNIT_STR(e.text + ERR_TEXT_SIZE - 4, "...");
}

UNIT_TEST(prefixes, "prefixes stack from the outside in, with one separator")
{
    struct err e = ERR_INIT;

    err_prefix(&e, "nothing is set");
    UNIT_TRUE(!err_is_set(&e));
    err_set(&e, ERR_DISK, "no room");
    UNIT_EQ(err_prefix(&e, "disk %s", "vda"), -1);
    err_prefix(&e, "instance %s: ", "7f");
    UNIT_STR(e.text, "instance 7f: disk vda: no room");
    UNIT_EQ(e.code, ERR_DISK);
    for (int i = 0; i < 200; i++)
        err_prefix(&e, "again and again");
    UNIT_STR(e.text + strlen(e.text) - 3, "...");
}

UNIT_TEST(own_text, "a text may be made from the one that it replaces")
{
    struct err e = ERR_INIT;

    err_set(&e, ERR_DISK, "no room");
    err_set(&e, ERR_MIGRATION, "the copy failed (%s)", e.text);
    UNIT_STR(e.text, "the copy failed (no room)");
}

UNIT_TEST(wire_classes, "the wire class is the table's unless a peer's is passed on")
{
    struct err e = ERR_INIT;

    err_set(&e, ERR_NO_METHOD, "x");
    UNIT_STR(err_wire_class(&e), "NoSuchMethod");
    UNIT_STR(err_wire_module(&e), "oslo_messaging.rpc.dispatcher");
    UNIT_EQ(err_set_class(&e, "NoValidHost", NULL), -1);
    UNIT_STR(err_wire_class(&e), "NoValidHost");
    UNIT_STR(err_wire_module(&e), "oslo_messaging.rpc.dispatcher");
    UNIT_EQ(err_set_class(&e, "NoValidHost", "nova.exception"), -1);
    UNIT_EQ(err_set_class(NULL, "NoValidHost", "nova.exception"), -1);
    UNIT_STR(err_wire_module(&e), "nova.exception");
}

UNIT_TEST(table_round_trip, "each code is found by its name, and has a summary and an exit code")
{
    for (int i = ERR_NONE + 1; i < ERR_CODE_COUNT; i++) {
        enum err_code code = (enum err_code)i;

        UNIT_EQ(err_code_by_name(err_name(code)), code);
        UNIT_TRUE(err_summary(code)[0] != '\0');
        UNIT_TRUE(err_exit_code(code) >= 64 && err_exit_code(code) <= 78);
        UNIT_TRUE(err_http_code(code) >= 400 && err_http_code(code) < 600);
    }
    UNIT_EQ(err_code_by_wire_class("InstanceNotFound"), ERR_NO_INSTANCE);
    UNIT_EQ(err_code_by_wire_class("MigrationPreCheckError"), ERR_PRECHECK);
    UNIT_EQ(err_code_by_wire_class("NovaException"), ERR_REMOTE);
    UNIT_EQ(err_code_by_wire_class("SomethingNew"), ERR_REMOTE);
    UNIT_EQ(err_code_by_wire_class(NULL), ERR_REMOTE);
    UNIT_EQ(err_code_by_name("nothing"), ERR_REMOTE);
    UNIT_TRUE(err_may_retry(ERR_TIMEOUT));
    UNIT_TRUE(!err_may_retry(ERR_DENIED));
    UNIT_EQ(err_exit_code(ERR_NONE), 0);
}
