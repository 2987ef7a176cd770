/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "histogram.h"
#include "unit.h"

#include <stdlib.h>

static void a_value_is_in_the_bucket_whose_floor_is_below_it(void **state)
{
    (void)state;
    for (uint64_t value = 0; value < UINT64_MAX / 3; value += value / 8 + 1) {
        size_t bucket = histogram_bucket(value);
        assert_true(histogram_floor(bucket) <= value);
        assert_true(histogram_floor(bucket + 1) > value);
        assert_true(value - histogram_floor(bucket) <= value / 32);
    }
    histogram_t *h = calloc(1, sizeof *h);
    histogram_add(h, UINT64_MAX); /* the last bucket is there */
    assert_true(histogram_at(h, 1) > UINT64_MAX / 64 * 63);
    free(h);
}

static void quantiles_are_within_three_percent(void **state)
{
    (void)state;
    histogram_t *h = calloc(1, sizeof *h);
    assert_int_equal(histogram_at(h, 0.5), 0);
    for (uint64_t i = 0; i < 100000; i++) histogram_add(h, i * 37 % 100000);
    static const double parts[] = {0.01, 0.5, 0.9, 0.999};
    for (size_t i = 0; i < 4; i++) {
        double exact = parts[i] * 100000, found = (double)histogram_at(h, parts[i]);
        assert_true(found <= exact && found >= exact * 0.965);
    }
    free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_value_is_in_the_bucket_whose_floor_is_below_it),
        cmocka_unit_test(quantiles_are_within_three_percent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
