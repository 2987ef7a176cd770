/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */

#include "config.h"
#include "unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct argp_option known[] = {{"slots", 's', "N", 0, "", 0},
                                           {"preload", 'l', "PRELOAD", 0, "", 0},
                                           {"insecure", 1, NULL, 0, "", 0},
                                           {"connect", 'c', "ENDPOINTS", 0, "", 0},
                                           {0}};

static void a_section_becomes_options(void **state)
{
    (void)state;
    const char *text =
        "{\"worker\": {\"slots\": 4, \"preload\": [\"a.py\", \"b.so\"], \"insecure\": true},"
        " \"broker\": {\"nothing\": \"of ours\"}}";
    char error[256];
    char **options = config_parse(text, strlen(text), "worker", known, error, sizeof error);
    assert_non_null(options);
    assert_string_equal(options[0], "--slots=4");
    assert_string_equal(options[1], "--preload=a.py");
    assert_string_equal(options[2], "--preload=b.so");
    assert_string_equal(options[3], "--insecure");
    assert_null(options[4]);
    config_free(&options);
    options = config_parse(text, strlen(text), "client", known, error, sizeof error);
    assert_non_null(options);
    assert_null(options[0]);
    config_free(&options);
}

static void what_is_wrong_is_told_with_its_place(void **state)
{
    (void)state;
    static const struct {
        const char *text, *told;
    } cases[] = {
        {"{\"worker\": {\n  \"slots\": }}", "line 2"},
        {"[]", "not an object"},
        {"{\"worker\": 3}", "worker"},
        {"{\"worker\": {\"slot\": 3}}", "'slot' is not an option"},
        {"{\"worker\": {\"insecure\": \"yes\"}}", "'insecure' must be true or false"},
        {"{\"worker\": {\"slots\": {}}}", "'slots' must be"},
        {"{\"worker\": {\"slots\": [1, null]}}", "'slots' must be"},
        {"", "line 1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char error[256];
        assert_null(config_parse(cases[i].text, strlen(cases[i].text), "worker", known, error,
                                 sizeof error));
        assert_non_null(strstr(error, cases[i].told));
    }
}

static void the_command_line_comes_last_and_the_environment_beats_the_file(void **state)
{
    (void)state;
    char path[] = "/tmp/peach-config-XXXXXX", error[512];
    char *argv[] = {"peach-worker", "--slots=8", NULL};
    int argc = 2, fd = mkstemp(path);
    dprintf(fd, "{\"worker\": {\"slots\": 4, \"connect\": \"tcp://a:1\"}}");
    setenv("PEACH_CONFIG", path, 1);
    unsetenv("PEACH_BROKER");
    char **all = config_arguments("worker", known, &argc, argv, error, sizeof error);
    assert_int_equal(argc, 4);
    assert_string_equal(all[1], "--slots=4");
    assert_string_equal(all[2], "--connect=tcp://a:1");
    assert_string_equal(all[3], "--slots=8");
    assert_null(all[4]);
    setenv("PEACH_BROKER", "tcp://b:1", 1);
    argc = 2;
    all = config_arguments("worker", known, &argc, argv, error, sizeof error);
    assert_int_equal(argc, 3);
    setenv("PEACH_CONFIG", "/nowhere/peach.json", 1);
    assert_null(config_arguments("worker", known, &argc, argv, error, sizeof error));
    assert_non_null(strstr(error, "/nowhere/peach.json"));
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_section_becomes_options),
        cmocka_unit_test(what_is_wrong_is_told_with_its_place),
        cmocka_unit_test(the_command_line_comes_last_and_the_environment_beats_the_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
