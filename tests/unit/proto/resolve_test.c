/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */

/* Names are looked up beside the loop. */
#include "resolve.h"
#include "unit.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>

static resolve_state_t resolve(const char *endpoint, char *told, size_t size)
{
    const char *why = "";
    resolve_t *r = resolve_new(endpoint);
    assert_non_null(r);
    int fd = resolve_fd(r);
    if (fd >= 0) {
        struct pollfd item = {fd, POLLIN, 0};
        assert_int_equal(poll(&item, 1, 30000), 1);
    }
    resolve_state_t state = resolve_state(r, &why);
    snprintf(told, size, "%s", why ? why : "");
    resolve_destroy(&r);
    assert_null(r);
    return state;
}

static void addresses_need_no_question(void **state)
{
    (void)state;
    const char *why;
    resolve_t *r = resolve_new("tcp://127.0.0.1:1");
    assert_int_equal(resolve_fd(r), -1);
    assert_int_equal(resolve_state(r, &why), RESOLVE_IPV4);
    resolve_destroy(&r);
    r = resolve_new("tcp://[::1]:1");
    assert_int_equal(resolve_state(r, &why), RESOLVE_IPV6);
    resolve_destroy(&r);
}

static void names_are_told_by_their_addresses(void **state)
{
    (void)state;
    char why[300];
    if (knows_localhost())
        assert_int_equal(resolve("tcp://localhost:1", why, sizeof why), RESOLVE_IPV4);
    assert_int_equal(resolve("tcp://no-such-host.invalid:1", why, sizeof why), RESOLVE_FAILED);
    assert_non_null(strstr(why, "no-such-host.invalid"));
}

static void who_does_not_wait_for_the_answer_may_go(void **state)
{
    (void)state;
    for (int i = 0; i < 50; i++) {
        resolve_t *r = resolve_new("tcp://no-such-host.invalid:1");
        resolve_destroy(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_need_no_question),
        cmocka_unit_test(names_are_told_by_their_addresses),
        cmocka_unit_test(who_does_not_wait_for_the_answer_may_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
