/* SPDX-License-Identifier: Apache-2.0 */
/* What a hold (net/hold.h) refuses, and what it does where there is nothing. The rest needs rights and is in
 * tests/lab/test_net.py. */
#include "net/hold.h"

#include "tests/unit/unit.h"

UNIT_TEST(named, "a hold's device is named after its tap, whatever that is called")
{
    static const char *const names[][2] = {{"tapaaaaaaaa-00", "hldaaaaaaaa-00"},
                                           {"vnet0", "hldt0"},
                                           {"0123456789abcde", "hld3456789abcde"},
                                           {"taph", "hldh"}};
    char name[IFNAMSIZ];

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        UNIT_OK(hold_name(names[i][0], name, &unit_err));
        UNIT_STR(name, names[i][1]);
    }
}

UNIT_TEST(unnamed, "names that are none, too long, too short or a hold's own have no hold")
{
    static const char *const names[] = {
        "", "..", "a/b", "tap\nline", "0123456789abcdef", "hldtap0", "tap $x0", "tap", "t"};
    char name[IFNAMSIZ] = "as it was";

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        UNIT_FAILS(hold_name(names[i], name, &unit_err), ERR_INVALID);
        UNIT_FAILS(hold_make(names[i], 1500, HOLD_LIMIT_MIN, &unit_err), ERR_INVALID);
        UNIT_OK(hold_remove(names[i], &unit_err));
    }
    UNIT_STR(name, "as it was");
}

UNIT_TEST(limits, "a limit that cannot be kept is refused with the value and what is allowed")
{
    static const int64_t limits[] = {-1, 0, HOLD_LIMIT_MIN - 1, (int64_t)UINT32_MAX + 1, INT64_MAX};

    for (size_t i = 0; i < ARRAY_LEN(limits); i++) {
        UNIT_FAILS(hold_make("tapunit-none", 0, limits[i], &unit_err), ERR_INVALID);
        UNIT_HAS(unit_err.text, "tapunit-none");
        UNIT_HAS(unit_err.text, "65536");
    }
}

UNIT_TEST(nothing, "where there is neither tap nor hold, removing succeeds")
{
    UNIT_OK(hold_remove("tapunit-none", &unit_err));
    hold_close(NULL);
}
