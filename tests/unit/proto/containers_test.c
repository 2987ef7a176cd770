/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */

/* table.c, ranges.c and endpoint.c against plain models. */
#include "endpoint.h"
#include "ranges.h"
#include "idmap.h"
#include "table.h"
#include "unit.h"

#include <peach/status.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void a_table_keeps_what_was_put_and_loses_what_was_removed(void **state)
{
    (void)state;
    enum { KEYS = 500, STEPS = 50000 };
    static int values[KEYS];
    bool there[KEYS] = {false};
    size_t count = 0;
    uint32_t dice = 1;
    table_seed_t seed = {{0}};
    table_t *table = table_new(&seed);
    for (int step = 0; step < STEPS; step++) {
        dice = dice * 1664525 + 1013904223;
        uint64_t key = (dice >> 8) % KEYS;
        char text[40]; /* longer than what fits into an entry */
        memset(text, 'k', sizeof text);
        memcpy(text, &key, sizeof key);
        size_t size = key % 2 ? sizeof text : sizeof key;
        if (dice >> 31) {
            assert_int_equal(table_put(table, text, size, &values[key]), 0);
            count += !there[key];
            there[key] = true;
        } else {
            assert_ptr_equal(table_remove(table, text, size), there[key] ? &values[key] : NULL);
            count -= there[key];
            there[key] = false;
        }
        assert_ptr_equal(table_get(table, text, size), there[key] ? &values[key] : NULL);
        assert_int_equal(table_count(table), count);
    }
    size_t cursor = 0, seen = 0;
    while (table_next(table, &cursor, NULL, NULL)) seen++;
    assert_int_equal(seen, count);
    table_destroy(&table);
}

static void an_idmap_keeps_what_was_put_and_loses_what_was_removed(void **state)
{
    (void)state;
    enum { IDS = 500, STEPS = 50000 };
    static int values[IDS];
    bool there[IDS] = {false};
    size_t count = 0, cursor = 0, seen = 0;
    uint32_t dice = 1;
    table_seed_t seed = {{0}};
    idmap_t *map = idmap_new(&seed);
    for (int step = 0; step < STEPS; step++) {
        dice = dice * 1664525 + 1013904223;
        uint64_t i = (dice >> 8) % IDS, id = i << 32; /* alike in what a weak hash looks at */
        if (dice >> 31) {
            assert_int_equal(idmap_put(map, id, &values[i]), 0);
            count += !there[i];
            there[i] = true;
        } else {
            assert_ptr_equal(idmap_remove(map, id), there[i] ? &values[i] : NULL);
            count -= there[i];
            there[i] = false;
        }
        assert_ptr_equal(idmap_get(map, id), there[i] ? &values[i] : NULL);
        assert_int_equal(idmap_count(map), count);
    }
    while (idmap_next(map, &cursor)) seen++;
    assert_int_equal(seen, count);
    idmap_destroy(&map);
}

static void ranges_behave_as_a_set_of_items(void **state)
{
    (void)state;
    enum { ITEMS = 60 };
    uint32_t dice = 7;
    for (int round = 0; round < 500; round++) {
        bool there[ITEMS];
        memset(there, true, sizeof there);
        ranges_t set;
        ranges_init(&set, 0, ITEMS);
        for (int step = 0; step < 60; step++) {
            dice = dice * 1664525 + 1013904223;
            uint32_t first = (dice >> 8) % ITEMS, count = (dice >> 20) % 8;
            bool all = count > 0 && first + count <= ITEMS;
            for (uint32_t i = first; all && i < first + count; i++) all = there[i];
            assert_int_equal(ranges_remove(&set, first, count), all);
            for (uint32_t i = first; all && i < first + count; i++) there[i] = false;
            uint32_t left = 0, told = 0;
            for (int i = 0; i < ITEMS; i++) left += there[i];
            size_t n;
            const range_t *r = ranges_all(&set, &n);
            for (size_t i = 0; i < n; i++)
                for (uint32_t j = r[i].first; j < r[i].first + r[i].count; j++, told++)
                    assert_true(there[j]);
            assert_int_equal(told, left);
            assert_int_equal(ranges_items(&set), left);
            assert_int_equal(ranges_empty(&set), left == 0);
            ranges_t copy; /* is a set of its own */
            assert_true(ranges_copy(&copy, &set));
            for (uint32_t i = 0; i < ITEMS; i++)
                assert_int_equal(ranges_remove(&copy, i, 1), there[i]);
            assert_true(ranges_empty(&copy));
            ranges_clear(&copy);
            assert_int_equal(ranges_items(&set), left);
        }
        ranges_clear(&set);
    }
}

static void endpoints_are_checked_with_a_sentence(void **state)
{
    (void)state;
    static endpoints_t e;
    char error[600];
    assert_int_equal(endpoints_parse(&e, "tcp://a:5001,tcp://[::1]:5002", error, sizeof error), 0);
    assert_int_equal(e.count, 2);
    assert_string_equal(e.text[1], "tcp://[::1]:5002");
    static const char *const bad[] = {"",
                                      "::1",
                                      "a b",
                                      "/tmp/socket",
                                      ":5001",
                                      "a:",
                                      "70000",
                                      "tcp://a",
                                      "tcp://:5001",
                                      "tcp://a:0",
                                      "tcp://a:70000",
                                      "tcp://a:x",
                                      "tcp://::1:5001",
                                      "[::1",
                                      "tcp://[zz]:1",
                                      "udp://a:1"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(endpoints_parse(&e, bad[i], error, sizeof error), PEACH_E_ARGUMENT);
        assert_non_null(strstr(error, "endpoint"));
    }
}

static void short_endpoints_are_written_in_full(void **state)
{
    (void)state;
    static endpoints_t e;
    char error[600];
    const char *list = "a,a:7,5003,[::1],[::1]:7,a-b.example,127.0.0.1:*,"
                       "localhost,tcp://localhost:7,localhost.example";
    static const char *const full[] = {"tcp://a:5001",         "tcp://a:7",
                                       "tcp://127.0.0.1:5003", "tcp://[::1]:5001",
                                       "tcp://[::1]:7",        "tcp://a-b.example:5001",
                                       "tcp://127.0.0.1:*",    "tcp://127.0.0.1:5001",
                                       "tcp://127.0.0.1:7",    "tcp://localhost.example:5001"};
    assert_int_equal(endpoints_parse(&e, list, error, sizeof error), 0);
    assert_int_equal(e.count, sizeof full / sizeof *full);
    for (size_t i = 0; i < e.count; i++) assert_string_equal(e.text[i], full[i]);
}

static void names_are_told_from_addresses_and_bound_as_addresses(void **state)
{
    (void)state;
    char host[ENDPOINT_BYTES], error[600], endpoint[ENDPOINT_BYTES] = "tcp://localhost:5001";
    assert_true(endpoint_host_name(endpoint, host));
    assert_string_equal(host, "localhost");
    assert_false(endpoint_host_name("tcp://127.0.0.1:1", host));
    assert_false(endpoint_host_name("tcp://[::1]:1", host));
    assert_false(endpoint_host_name("tcp://*:1", host));
    assert_false(endpoint_host_name("ipc:///tmp/x", host));
    if (knows_localhost()) {
        assert_int_equal(endpoint_for_bind(endpoint, error, sizeof error), 0);
        assert_true(endpoint_is_loopback(endpoint) && !endpoint_host_name(endpoint, host));
    }
    snprintf(endpoint, sizeof endpoint, "tcp://no-such-host.invalid:1");
    assert_int_equal(endpoint_for_bind(endpoint, error, sizeof error), PEACH_E_ARGUMENT);
    assert_non_null(strstr(error, "no-such-host.invalid"));
}

static void only_loopback_is_allowed_without_a_word(void **state)
{
    (void)state;
    static const char *const loopback[] = {"tcp://127.0.0.1:1", "tcp://127.9.9.9:1",
                                           "tcp://localhost:1", "tcp://[::1]:1", "ipc:///tmp/x"};
    static const char *const open[] = {
        "tcp://0.0.0.0:1",           "tcp://*:1",          "tcp://10.0.0.1:1", "tcp://[::]:1",
        "tcp://localhost.example:1", "tcp://1270.0.0.1:1", "tcp://eth0:1"};
    for (size_t i = 0; i < sizeof loopback / sizeof *loopback; i++)
        assert_true(endpoint_is_loopback(loopback[i]));
    for (size_t i = 0; i < sizeof open / sizeof *open; i++)
        assert_false(endpoint_is_loopback(open[i]));
    static endpoints_t e;
    char error[600];
    endpoints_parse(&e, "tcp://127.0.0.1:1,tcp://10.0.0.1:1", error, sizeof error);
    assert_int_equal(endpoints_check_exposure(&e, false, error, sizeof error), PEACH_E_REFUSED);
    assert_non_null(strstr(error, "--insecure"));
    assert_int_equal(endpoints_check_exposure(&e, true, error, sizeof error), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_table_keeps_what_was_put_and_loses_what_was_removed),
        cmocka_unit_test(an_idmap_keeps_what_was_put_and_loses_what_was_removed),
        cmocka_unit_test(ranges_behave_as_a_set_of_items),
        cmocka_unit_test(endpoints_are_checked_with_a_sentence),
        cmocka_unit_test(short_endpoints_are_written_in_full),
        cmocka_unit_test(names_are_told_from_addresses_and_bound_as_addresses),
        cmocka_unit_test(only_loopback_is_allowed_without_a_word),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
