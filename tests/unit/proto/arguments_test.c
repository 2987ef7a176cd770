/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */

#include "arguments.h"
#include "unit.h"

#include <stdlib.h>
#include <string.h>

static const struct argp_option known[] = {{"chunk", 512, "ITEMS", 0, "", 0},
                                           {"connect", 'c', "ENDPOINTS", 0, "", 0},
                                           {"quiet", 'q', NULL, 0, "", 0},
                                           {"slots", 'n', "N", 0, "", 0},
                                           {"secret", 513, NULL, OPTION_HIDDEN, "", 0},
                                           {0}};

enum { MOST = 16 };

/* Splits at blanks; argv[0] is the program. */
static int words_of(char *line, char **argv)
{
    int argc = 1;
    argv[0] = "peach map";
    for (char *word = strtok(line, " "); word; word = strtok(NULL, " ")) argv[argc++] = word;
    argv[argc] = NULL;
    return argc;
}

static void check_sorted(const char *line, const char *expected)
{
    char copy[128], *argv[MOST], found[128] = "";
    strcpy(copy, line);
    int argc = words_of(copy, argv);
    char **sorted = arguments_sort(known, &argc, argv);
    assert_non_null(sorted);
    for (int i = 1; i < argc; i++) {
        if (i > 1) strcat(found, " ");
        strcat(found, sorted[i]);
    }
    assert_null(sorted[argc]);
    assert_string_equal(sorted[0], "peach map");
    assert_string_equal(found, expected);
    free(sorted);
}

static void options_may_stand_anywhere(void **state)
{
    (void)state;
    check_sorted("fnc 0..9 --chunk 3", "--chunk 3 -- fnc 0..9");
    check_sorted("--chunk=3 fnc -q 1 -n 4 2", "--chunk=3 -q -n 4 -- fnc 1 2");
    check_sorted("fnc -qn4 1 -qn 4 2", "-qn4 -qn 4 -- fnc 1 2");
    check_sorted("fnc --chu 3 1", "--chu 3 -- fnc 1"); /* as getopt, which takes beginnings */
    check_sorted("-q", "-q");
    check_sorted("", "");
}

static void negative_numbers_and_ranges_are_no_options(void **state)
{
    (void)state;
    check_sorted("fnc -5 -3..3 -.5 - -q", "-q -- fnc -5 -3..3 -.5 -");
    check_sorted("fnc --chunk -5 1", "--chunk -5 -- fnc 1"); /* a value, which argp refuses */
}

static void two_dashes_end_the_options(void **state)
{
    (void)state;
    check_sorted("-q -- fnc --chunk -x", "-q -- fnc --chunk -x");
    check_sorted("fnc -q -- -- 1", "-q -- fnc -- 1");
}

static void an_option_without_its_value_does_not_take_the_dashes(void **state)
{
    (void)state;
    check_sorted("-q --chunk", "-q --chunk");
}

static void check_unknown(const char *line, const char *word, const char *sentence)
{
    char copy[128], *argv[MOST], text[256];
    strcpy(copy, line);
    int argc = words_of(copy, argv);
    const char *found = arguments_unknown(known, argc, argv);
    if (!word) {
        assert_null(found);
        return;
    }
    assert_string_equal(found ? found : "(none)", word);
    arguments_explain(known, found, text, sizeof text);
    assert_string_equal(text, sentence);
}

static void an_unknown_option_is_named_with_the_nearest(void **state)
{
    (void)state;
    check_unknown("fnc 1 --chnuk 3", "--chnuk",
                  "'--chnuk' is not an option: did you mean --chunk?");
    check_unknown("--hlep", "--hlep", "'--hlep' is not an option: did you mean --help?");
    check_unknown("--slot5=3", "--slot5=3", "'--slot5=3' is not an option: did you mean --slots?");
    check_unknown("-x", "-x", "'-x' is not an option (--help lists them)");
    check_unknown("-qx", "-qx", "'-qx' is not an option (--help lists them)");
    check_unknown("--secrat", "--secrat", "'--secrat' is not an option (--help lists them)");
}

static void what_is_known_or_no_option_is_not_complained_about(void **state)
{
    (void)state;
    check_unknown("fnc -5 -3..3 - --chunk 3 -qc x --secret", NULL, NULL);
    check_unknown("-h --help --usage -V --version", NULL, NULL);
    check_unknown("--chunk --whatever", NULL, NULL); /* its value */
    check_unknown("-- --whatever -x", NULL, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_may_stand_anywhere),
        cmocka_unit_test(negative_numbers_and_ranges_are_no_options),
        cmocka_unit_test(two_dashes_end_the_options),
        cmocka_unit_test(an_option_without_its_value_does_not_take_the_dashes),
        cmocka_unit_test(an_unknown_option_is_named_with_the_nearest),
        cmocka_unit_test(what_is_known_or_no_option_is_not_complained_about),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
