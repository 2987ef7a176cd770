/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */

/* Lines that nobody reads are lost, and told of; nobody waits for them. */
#include "log.h"
#include "unit.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int reader;

static void redirect(void)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    dup2(ends[1], 2);
    close(ends[1]);
    reader = ends[0];
}

/* What came, as a string. */
static const char *read_all(void)
{
    static char text[1 << 20];
    ssize_t n = read(reader, text, sizeof text - 1);
    text[n < 0 ? 0 : n] = 0;
    return text;
}

static void levels_are_kept_and_lines_are_dated(void **state)
{
    char program[64], host[64], level[64], rest[64];
    int year, pid;
    (void)state;
    redirect();
    log_say(LOG_FAIL, "before it is open");
    assert_string_equal(read_all(), "");
    log_open("peach-test", LOG_WARN, true);
    log_say(LOG_NOTE, "not said");
    log_say(LOG_WARN, "said %d", 5);
    const char *text = read_all();
    assert_int_equal(sscanf(text,
                            "%4d-%*2d-%*2dT%*2d:%*2d:%*2d.%*3dZ %63s %63[a-z-][%d] %63s %63[^\n]",
                            &year, host, program, &pid, level, rest),
                     6);
    assert_true(year > 2020 && pid == getpid());
    assert_string_equal(program, "peach-test");
    assert_string_equal(level, "warning:");
    assert_string_equal(rest, "said 5");
    log_open("peach-test", LOG_NOTE, false);
    log_say(LOG_NOTE, "short");
    assert_string_equal(read_all(), "peach-test: short\n");
}

static void a_reader_that_stalls_costs_lines_and_no_time(void **state)
{
    (void)state;
    redirect();
    log_open("t", LOG_NOTE, false);
    alarm(20); /* for who would wait */
    for (int i = 0; i < 10000; i++) log_say(LOG_NOTE, "line %d", i);
    const char *text = read_all();
    int lines = 0, number;
    for (const char *at = text; *at; at = strchr(at, '\n') + 1) {
        assert_int_equal(sscanf(at, "t: line %d", &number), 1); /* whole ones */
        assert_int_equal(number, lines++);
    }
    assert_true(lines > 10 && lines < 10000);
    log_say(LOG_NOTE, "after");
    text = read_all();
    char told[64];
    snprintf(told, sizeof told, "%d", 10000 - lines);
    assert_non_null(strstr(text, told)); /* so many were lost */
    assert_non_null(strstr(text, "t: after\n"));
    alarm(0);
}

static void a_reader_that_is_gone_ends_nobody(void **state)
{
    (void)state;
    signal(SIGPIPE, SIG_IGN); /* as all our programs do */
    redirect();
    close(reader);
    log_open("t", LOG_NOTE, false);
    for (int i = 0; i < 10; i++) log_say(LOG_NOTE, "nobody hears it");
    log_pass("nor this\n", 9);
}

static void output_of_others_is_passed_as_it_is(void **state)
{
    (void)state;
    redirect();
    log_open("t", LOG_FAIL, true);
    log_pass("50%\r100%\r", 9);
    log_pass("\nraw \x01\xff\n", 8);
    assert_string_equal(read_all(), "50%\r100%\r\nraw \x01\xff\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(levels_are_kept_and_lines_are_dated),
        cmocka_unit_test(a_reader_that_stalls_costs_lines_and_no_time),
        cmocka_unit_test(output_of_others_is_passed_as_it_is),
        cmocka_unit_test(a_reader_that_is_gone_ends_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
