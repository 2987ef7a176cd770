/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */

#include "nearest.h"
#include "unit.h"

#include <string.h>

static const char *const words[] = {"map", "call", "status", "workers", "preload", "unload", "fnc"};
enum { COUNT = sizeof words / sizeof *words };

static void check(const char *word, const char *meant)
{
    const char *found = nearest(word, words, COUNT);
    if (meant)
        assert_string_equal(found ? found : "(none)", meant);
    else
        assert_null(found);
}

static void a_word_with_a_slip_is_found(void **state)
{
    (void)state;
    check("mpa", "map"); /* two neighbours exchanged */
    check("fcn", "fnc");
    check("wokers", "workers");   /* one missing */
    check("workerss", "workers"); /* one too many */
    check("prelaod", "preload");
    check("uploed", "unload"); /* two others */
    check("STATUS", "status");
    check("stat", "status");
}

static void a_word_that_is_none_of_them_is_not(void **state)
{
    (void)state;
    check("xyz", NULL);
    check("", NULL);
    check("x", NULL);
    check("frobnicate", NULL);
    check("completely-different", NULL);
}

static void the_nearest_wins_and_of_equals_the_first(void **state)
{
    (void)state;
    static const char *const near[] = {"cold", "call", "calls"};
    assert_string_equal(nearest("calls", near, 3), "calls");
    assert_string_equal(nearest("calt", near, 3), "call");
    static const char *const equal[] = {"load1", "load2"};
    assert_string_equal(nearest("load", equal, 2), "load1");
}

static void words_of_any_length_are_compared(void **state)
{
    (void)state;
    char one[1000], other[1000];
    memset(one, 'a', sizeof one - 1);
    memset(other, 'a', sizeof other - 1);
    one[sizeof one - 1] = other[sizeof other - 1] = 0;
    other[5] = 'b';
    const char *const list[] = {other};
    assert_ptr_equal(nearest(one, list, 1), other);
    assert_null(nearest(one, list, 0));
    assert_null(nearest(one, words, COUNT));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_word_with_a_slip_is_found),
        cmocka_unit_test(a_word_that_is_none_of_them_is_not),
        cmocka_unit_test(the_nearest_wins_and_of_equals_the_first),
        cmocka_unit_test(words_of_any_length_are_compared),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
