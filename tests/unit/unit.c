/* SPDX-License-Identifier: Apache-2.0 */
/* The runner: registers what the constructors brought with CUnit and prints TAP. */
#include "tests/unit/unit.h"

#include <CUnit/TestRun.h>
#include <stdarg.h>
#include <unistd.h>

enum { TESTS_MAX = 256, SECONDS_MAX = 120 };

struct err unit_err;

static struct {
    const char *sentence;
    void (*run)(void);
} tests[TESTS_MAX];
static unsigned test_count, done_count;
static void (*test_setup)(void), (*test_teardown)(void);
static const char *skip_reason;

void unit_register(const char *sentence, void (*run)(void))
{
    if (test_count == TESTS_MAX) {
        fprintf(stderr, "more than %d tests in one program\n", TESTS_MAX);
        exit(2);
    }
    tests[test_count].sentence = sentence;
    tests[test_count].run = run;
    test_count++;
}

void unit_fixture(void (*setup)(void), void (*teardown)(void))
{
    test_setup = setup;
    test_teardown = teardown;
}

void unit_skip(const char *reason)
{
    skip_reason = reason;
}

bool unit_check(bool good, unsigned line, const char *file, const char *format, ...)
{
    static char text[2048]; /* CUnit keeps a copy */
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    CU_assertImplementation(good, line, text, file, "", CU_FALSE);
    return good;
}

static void on_start(const CU_pTest test, const CU_pSuite suite)
{
    (void)test;
    (void)suite;
    skip_reason = NULL;
    err_clear(&unit_err);
    alarm(SECONDS_MAX); /* a test that hangs must end as a failure, not hold the suite */
    if (test_setup)
        test_setup();
}

static void on_complete(const CU_pTest test, const CU_pSuite suite, const CU_pFailureRecord first)
{
    (void)suite;
    if (test_teardown)
        test_teardown();
    printf("%s %u - %s%s%s\n", first ? "not ok" : "ok", ++done_count, test->pName,
           skip_reason && !first ? " # SKIP " : "", skip_reason && !first ? skip_reason : "");
    for (CU_pFailureRecord f = first; f && f->pTest == test; f = f->pNext)
        printf("# %s:%u: %s\n", f->strFileName, f->uiLineNumber, f->strCondition);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    const char *part = argc > 1 ? argv[1] : "";
    unsigned selected = 0;
    CU_pSuite suite;

    if (CU_initialize_registry() != CUE_SUCCESS || !(suite = CU_add_suite("tests", NULL, NULL)))
        return 2;
    for (unsigned i = 0; i < test_count; i++) {
        if (!strstr(tests[i].sentence, part))
            continue;
        if (!CU_add_test(suite, tests[i].sentence, tests[i].run)) {
            fprintf(stderr, "cannot add the test \"%s\": %s\n", tests[i].sentence,
                    CU_get_error_msg());
            return 2;
        }
        selected++;
    }
    printf("1..%u\n", selected);
    fflush(stdout);
    CU_set_test_start_handler(on_start);
    CU_set_test_complete_handler(on_complete);
    CU_run_all_tests();
    selected = CU_get_number_of_failures();
    CU_cleanup_registry();
    return selected ? 1 : 0;
}
