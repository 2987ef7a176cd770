/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "items.h"
#include "value_tree.h"
#include "peach.pb-c.h"
#include "unit.h"
#include <peach/value.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* One of everything. */
static peach_value_t *sample(void)
{
    peach_value_t *map = peach_value_map(), *list = peach_value_list(), *v;
    const uint64_t shape[] = {2, 3};
    const double numbers[] = {0, .5, 1, -1, 1e300, -0.0};
    v = peach_value_null();
    peach_value_append(list, &v);
    v = peach_value_bool(true);
    peach_value_append(list, &v);
    v = peach_value_bool(false);
    peach_value_append(list, &v);
    v = peach_value_int(INT64_MIN);
    peach_value_append(list, &v);
    v = peach_value_int(INT64_MAX);
    peach_value_append(list, &v);
    v = peach_value_int(0);
    peach_value_append(list, &v);
    v = peach_value_double(0.1);
    peach_value_append(list, &v);
    v = peach_value_string("p\xC3\xAA"
                           "che");
    peach_value_append(list, &v);
    v = peach_value_string("");
    peach_value_append(list, &v);
    v = peach_value_bytes("\0\1\2\xFF", 4);
    peach_value_append(list, &v);
    v = peach_value_list();
    peach_value_append(list, &v);
    v = peach_value_map();
    peach_value_append(list, &v);
    v = peach_value_array(PEACH_DTYPE_FLOAT64, 2, shape, numbers);
    peach_value_append(list, &v);
    v = peach_value_range(-2, 2);
    peach_value_append(list, &v);
    v = peach_value_array(PEACH_DTYPE_BOOL, 0, NULL, "\1");
    peach_value_append(list, &v);
    peach_value_set(map, "all", &list);
    v = peach_value_int(1);
    peach_value_set(map, "", &v);
    return map;
}

static void what_is_packed_is_unpacked_the_same(void **state)
{
    (void)state;
    peach_value_t *value = sample(), *back, *copy = peach_value_copy(value);
    void *bytes;
    size_t size;
    assert_true(peach_value_equal(value, copy));
    assert_int_equal(peach_value_pack(value, &bytes, &size), 0);
    assert_int_equal(peach_value_unpack(bytes, size, &back), 0);
    assert_true(peach_value_equal(value, back));
    free(bytes);
    peach_value_destroy(&value);
    peach_value_destroy(&back);
    peach_value_destroy(&copy);
    assert_null(value);
}

static void the_encoding_is_what_protobuf_c_makes_of_the_schema(void **state)
{
    (void)state;
    peach_value_t *value = sample();
    void *bytes;
    size_t size;
    assert_int_equal(peach_value_pack(value, &bytes, &size), 0);
    Peach__Value *message = peach__value__unpack(NULL, size, bytes);
    assert_non_null(message);
    assert_int_equal(message->kind_case, PEACH__VALUE__KIND_MAP_VALUE);
    Peach__List *list = message->map_value->entries[0]->value->list_value;
    assert_int_equal(list->values[3]->int_value, INT64_MIN);
    assert_int_equal(list->values[12]->array_value->shape[1], 3);
    assert_int_equal(peach__value__get_packed_size(message), size);
    uint8_t *theirs = malloc(size);
    peach__value__pack(message, theirs);
    assert_memory_equal(theirs, bytes, size);
    peach__value__free_unpacked(message, NULL);
    free(theirs);
    free(bytes);
    peach_value_destroy(&value);
}

static void every_truncation_and_every_flipped_byte_is_survived(void **state)
{
    (void)state;
    peach_value_t *value = sample(), *back;
    void *packed;
    size_t size;
    assert_int_equal(peach_value_pack(value, &packed, &size), 0);
    uint8_t *bytes = packed;
    for (size_t i = 0; i < size; i++) {
        uint8_t *cut = malloc(i ? i : 1); /* exactly, so that sanitizers see an overrun */
        memcpy(cut, bytes, i);
        assert_true(peach_value_unpack(cut, i, &back) < 0);
        assert_null(back);
        free(cut);
        for (int bit = 0; bit < 8; bit++) {
            bytes[i] ^= (uint8_t)(1 << bit);
            if (peach_value_unpack(bytes, size, &back) == 0) peach_value_destroy(&back);
            bytes[i] ^= (uint8_t)(1 << bit);
        }
    }
    free(packed);
    peach_value_destroy(&value);
}

static peach_value_t *nested(int depth)
{
    peach_value_t *value = peach_value_int(1);
    for (int i = 0; i < depth; i++) {
        peach_value_t *list = peach_value_list();
        peach_value_append(list, &value);
        value = list;
    }
    return value;
}

static void nesting_is_limited_both_ways(void **state)
{
    (void)state;
    void *bytes;
    size_t size;
    peach_value_t *value = nested(PEACH_MAX_DEPTH), *back;
    assert_int_equal(peach_value_pack(value, &bytes, &size), 0);
    assert_int_equal(peach_value_unpack(bytes, size, &back), 0);
    free(bytes);
    peach_value_destroy(&back);
    peach_value_destroy(&value);
    value = nested(PEACH_MAX_DEPTH + 1);
    assert_int_equal(peach_value_pack(value, &bytes, &size), PEACH_E_LIMIT);
    assert_null(bytes);
    peach_value_destroy(&value);
    /* A bomb: lists in lists, 100 deep, by hand. */
    uint8_t bomb[2000];
    size_t n = 0;
    for (int i = 0; i < 100; i++) {
        uint8_t inner[2000];
        memcpy(inner, bomb, n);
        size_t value_size = n, at = 0;
        uint8_t list[2000];
        list[at++] = 1 << 3 | 2;
        if (value_size >= 0x80) list[at++] = (uint8_t)(value_size | 0x80);
        list[at++] = (uint8_t)(value_size >= 0x80 ? value_size >> 7 : value_size);
        memcpy(list + at, inner, n);
        size_t list_size = at + n;
        n = 0;
        bomb[n++] = 7 << 3 | 2;
        if (list_size >= 0x80) bomb[n++] = (uint8_t)(list_size | 0x80);
        bomb[n++] = (uint8_t)(list_size >= 0x80 ? list_size >> 7 : list_size);
        memcpy(bomb + n, list, list_size);
        n += list_size;
    }
    assert_int_equal(peach_value_unpack(bomb, n, &back), PEACH_E_LIMIT);
}

static void bad_text_keys_and_shapes_are_refused(void **state)
{
    (void)state;
    peach_value_t *back;
    static const struct {
        const char *bytes;
        size_t size;
    } bad[] = {
        {"\x2A\x01\x80", 3},                     /* a string that is not UTF-8 */
        {"\x2A\x03\xED\xA0\x80", 5},             /* a surrogate */
        {"\x42\x06\x0A\x04\x0A\x02\x61\x00", 8}, /* an entry without a value */
        {"\x42\x12\x0A\x07\x0A\x01\x61\x12\x02\x0A\x00\x0A\x07\x0A\x01\x61\x12\x02\x0A\x00", 20},
        {"\x4A\x06\x08\x08\x12\x01\x02\x1A\x00", 9}, /* two int64, no data */
        {"\x4A\x06\x08\x0C\x12\x01\x01\x1A\x00", 9}, /* no such dtype */
        {"\x0B\x0C", 2},                             /* groups */
        {"\x08\x01", 2},                             /* null as a varint */
        {"", 0},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(peach_value_unpack(bad[i].bytes, bad[i].size, &back), PEACH_E_PROTOCOL);
    const uint64_t huge[] = {UINT64_MAX, 2}, empty[] = {UINT64_MAX, 0};
    assert_null(peach_value_array(PEACH_DTYPE_INT64, 2, huge, NULL));
    assert_null(peach_value_array(PEACH_DTYPE_INT64, 2, empty, NULL));
    assert_null(peach_value_array(99, 1, huge, NULL));
    assert_null(peach_value_string("\xC0\x80"));
}

/* worker.C10: a table without rows has as many columns as it likes. */
static void behind_a_dimension_of_0_there_is_no_limit(void **state)
{
    (void)state;
    const uint64_t table[] = {0, 5000}, far[] = {4096, 0, UINT64_MAX}, rows[] = {4097, 0};
    peach_value_t *empty = peach_value_array(PEACH_DTYPE_FLOAT64, 2, table, NULL), *back;
    void *bytes;
    size_t size;
    assert_non_null(empty);
    assert_int_equal(peach_value_pack(empty, &bytes, &size), 0);
    assert_int_equal(peach_value_unpack(bytes, size, &back), 0);
    assert_true(peach_value_equal(empty, back));
    char *json = peach_value_to_json(back);
    assert_string_equal(json, "[]");
    free(json);
    free(bytes);
    peach_value_destroy(&back);
    peach_value_destroy(&empty);
    empty = peach_value_array(PEACH_DTYPE_INT8, 3, far, NULL);
    assert_non_null(empty);
    peach_value_destroy(&empty);
    assert_null(peach_value_array(PEACH_DTYPE_FLOAT64, 2, rows, NULL));
}

static void check_json(const char *in, const char *out)
{
    peach_value_t *value;
    char error[200];
    assert_int_equal(peach_value_from_json(in, strlen(in), &value, error, sizeof error), 0);
    char *text = peach_value_to_json(value);
    assert_string_equal(text, out);
    free(text);
    peach_value_destroy(&value);
}

static void json_goes_in_and_out(void **state)
{
    (void)state;
    check_json("3", "3");
    check_json(" [1, 2.5, \"a\", null, true, {\"x\": {}}] ", "[1,2.5,\"a\",null,true,{\"x\":{}}]");
    check_json("0.1", "0.1");
    check_json("[0.1, 0.30000000000000004]", "[0.10000000000000001,0.30000000000000004]");
    check_json("9223372036854775807", "9223372036854775807");
    check_json("1.8446744073709552e19", "1.8446744073709552e19");
    check_json("{\"$bytes\":\"AAEC\"}", "{\"$bytes\":\"AAEC\"}");
    check_json("[{\"$float\":\"nan\"},{\"$float\":\"-inf\"}]",
               "[{\"$float\":\"nan\"},{\"$float\":\"-inf\"}]");
    const uint64_t shape[] = {2, 2};
    const int32_t data[] = {1, -2, 3, 4};
    peach_value_t *array = peach_value_array(PEACH_DTYPE_INT32, 2, shape, data);
    char *text = peach_value_to_json(array);
    assert_string_equal(text, "[[1,-2],[3,4]]");
    free(text);
    peach_value_destroy(&array);
}

static void broken_json_is_told_with_its_place(void **state)
{
    (void)state;
    static const char *const bad[] = {"",    "{",       "[1,]", "abc", "{\"a\":1,\"a\":2}",
                                      "1 2", "\"\x80\""};
    char error[200];
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        peach_value_t *value;
        assert_int_equal(peach_value_from_json(bad[i], strlen(bad[i]), &value, error, sizeof error),
                         PEACH_E_JSON);
        assert_null(value);
        assert_non_null(strstr(error, "column"));
    }
}

static void an_integer_beyond_64_bits_is_an_error_that_names_it(void **state)
{
    (void)state;
    static const char *const bad[] = {"12345678901234567890", "[1, -9223372036854775809]",
                                      "{\"id\": 18446744073709551616}"};
    static const char *const named[] = {" 12345678901234567890 ", " -9223372036854775809 ",
                                        " 18446744073709551616 "};
    char error[300];
    peach_value_t *value;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(peach_value_from_json(bad[i], strlen(bad[i]), &value, error, sizeof error),
                         PEACH_E_LIMIT);
        assert_null(value);
        assert_non_null(strstr(error, named[i]));
        assert_int_equal(peach_value_from_json(bad[i], strlen(bad[i]), &value, NULL, 0),
                         PEACH_E_LIMIT);
    }
    const char *ends = "[9223372036854775807,-9223372036854775808]";
    assert_int_equal(peach_value_from_json(ends, strlen(ends), &value, NULL, 0), 0);
    char *text = peach_value_to_json(value);
    assert_string_equal(text, ends);
    free(text);
    peach_value_destroy(&value);
}

static void a_uint64_is_read_back_as_it_was_written(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "{\"$uint\":\"18446744073709551615\"}", "{\"$uint\":\"9223372036854775808\"}",
        /* these are maps */
        "{\"$uint\":\"18446744073709551616\"}", "{\"$uint\":\"-1\"}", "{\"$uint\":7}"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        peach_value_t *value;
        assert_int_equal(peach_value_from_json(texts[i], strlen(texts[i]), &value, NULL, 0), 0);
        assert_int_equal(peach_value_kind(value), i < 2 ? PEACH_ARRAY : PEACH_MAP);
        char *text = peach_value_to_json(value);
        assert_string_equal(text, texts[i]);
        free(text);
        peach_value_destroy(&value);
    }
}

static void getters_say_no_to_other_kinds(void **state)
{
    (void)state;
    peach_value_t *v = peach_value_int(3), *list = peach_value_list();
    int64_t i = 7;
    double d;
    bool b = true;
    assert_int_equal(peach_value_as_double(v, &d), 0);
    assert_true(d == 3);
    assert_int_equal(peach_value_as_bool(v, &b), PEACH_E_TYPE);
    assert_int_equal(peach_value_as_int(list, &i), PEACH_E_TYPE);
    assert_int_equal(i, 7);
    assert_null(peach_value_as_string(v, NULL));
    assert_null(peach_value_at(list, 0));
    assert_null(peach_value_get(v, "x"));
    peach_value_t *taken = peach_value_int(1);
    assert_int_equal(peach_value_append(v, &taken), PEACH_E_TYPE);
    assert_null(taken); /* taken also when it fails */
    peach_value_destroy(&v);
    peach_value_destroy(&list);
}

static peach_value_t *unpack(payload_t **payload_p)
{
    peach_value_t *value;
    assert_int_equal(
        peach_value_unpack(payload_bytes(*payload_p), payload_size(*payload_p), &value), 0);
    payload_unref(payload_p);
    return value;
}

static void items_travel_as_a_block_when_they_are_numbers(void **state)
{
    (void)state;
    peach_value_t *items = peach_value_range(0, 999), *back;
    int64_t n;
    int status;
    payload_t *payload = items_pack(items, 100, 50, NULL, &status);
    assert_true(payload_size(payload) < 50 * 8 + 20);
    back = unpack(&payload);
    for (size_t i = 0; i < 50; i++) {
        peach_value_t *item = items_take(back, i);
        assert_int_equal(peach_value_as_int(item, &n), 0);
        assert_int_equal(n, 100 + i);
        peach_value_destroy(&item);
    }
    peach_value_destroy(&back);
    peach_value_destroy(&items);
    /* ints alone are an array, doubles alone too, mixed they are a list */
    peach_value_t *values[2] = {peach_value_int(1), peach_value_int(2)};
    payload = items_pack_values(values, 2, NULL, &status);
    back = unpack(&payload);
    assert_int_equal(peach_value_kind(back), PEACH_ARRAY);
    peach_value_destroy(&back);
    peach_value_destroy(&values[1]);
    values[1] = peach_value_double(2);
    payload = items_pack_values(values, 2, NULL, &status);
    back = unpack(&payload);
    assert_int_equal(peach_value_kind(back), PEACH_LIST);
    peach_value_destroy(&back);
    peach_value_destroy(&values[0]);
    peach_value_destroy(&values[1]);
}

static void elements_of_arrays_are_numbers_and_rows(void **state)
{
    (void)state;
    const uint64_t three = 3, big[] = {1, UINT64_MAX, 2};
    const float reals[] = {0.5f, -1, 2};
    peach_value_t *v = peach_value_array(PEACH_DTYPE_UINT64, 1, &three, big);
    peach_value_t *e = peach_value_element(v, 1);
    double d;
    assert_int_equal(peach_value_array_dtype(e), PEACH_DTYPE_UINT64);
    assert_int_equal(peach_value_array_ndim(e), 0);
    assert_memory_equal(peach_value_array_bytes(e, NULL), &big[1], sizeof big[1]);
    peach_value_destroy(&e);
    assert_null(peach_value_element(v, 3));
    char *text = peach_value_to_json(v);
    assert_string_equal(text, "[1,{\"$uint\":\"18446744073709551615\"},2]");
    free(text);
    peach_value_destroy(&v);
    v = peach_value_array(PEACH_DTYPE_FLOAT32, 1, &three, reals);
    e = peach_value_element(v, 0);
    assert_int_equal(peach_value_as_double(e, &d), 0);
    assert_true(d == 0.5);
    peach_value_destroy(&e);
    peach_value_destroy(&v);
    v = peach_value_array(PEACH_DTYPE_UINT64, 0, NULL, &big[1]);
    text = peach_value_to_json(v);
    assert_string_equal(text, "{\"$uint\":\"18446744073709551615\"}");
    free(text);
    peach_value_destroy(&v);
}

static void rows_of_a_matrix_are_items(void **state)
{
    (void)state;
    const uint64_t shape[] = {3, 2};
    const double data[] = {1, 2, 3, 4, 5, 6};
    peach_value_t *matrix = peach_value_array(PEACH_DTYPE_FLOAT64, 2, shape, data), *back;
    int status;
    assert_true(items_valid(matrix));
    payload_t *payload = items_pack(matrix, 1, 2, NULL, &status);
    back = unpack(&payload);
    peach_value_t *row = items_take(back, 1);
    assert_int_equal(peach_value_array_ndim(row), 1);
    assert_memory_equal(peach_value_array_bytes(row, NULL), data + 4, 16);
    peach_value_destroy(&row);
    peach_value_destroy(&back);
    peach_value_destroy(&matrix);
}

static void a_pickle_has_bytes_and_buffers(void **state)
{
    (void)state;
    peach_value_t *pickle = peach_value_pickle(), *part = peach_value_bytes("abc", 3), *back;
    uint64_t shape = 5000;
    assert_int_equal(peach_value_append(pickle, &part), 0);
    part = peach_value_array(PEACH_DTYPE_UINT8, 1, &shape, NULL);
    assert_int_equal(peach_value_append(pickle, &part), 0);
    void *bytes;
    size_t size;
    assert_int_equal(peach_value_pack(pickle, &bytes, &size), 0);
    assert_int_equal(peach_value_unpack(bytes, size, &back), 0);
    assert_int_equal(peach_value_kind(back), PEACH_PICKLE);
    assert_true(peach_value_equal(pickle, back));
    assert_int_equal(peach_value_length(back), 2);
    peach_value_t *copy = peach_value_copy(back);
    assert_true(peach_value_equal(copy, pickle));
    char *json = peach_value_to_json(peach_value_at(back, 0));
    assert_string_equal(json, "{\"$bytes\":\"YWJj\"}");
    free(json);
    peach_value_destroy(&part);
    part = peach_value_null();
    peach_value_t *map = peach_value_map();
    assert_int_equal(peach_value_append(map, &part), PEACH_E_TYPE);
    peach_value_destroy(&map);
    /* every cut of it is refused, or is a value */
    for (size_t i = 0; i < 40; i++) {
        peach_value_t *cut;
        if (peach_value_unpack(bytes, i, &cut) == 0) peach_value_destroy(&cut);
    }
    free(bytes);
    peach_value_destroy(&copy);
    peach_value_destroy(&back);
    peach_value_destroy(&pickle);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_packed_is_unpacked_the_same),
        cmocka_unit_test(the_encoding_is_what_protobuf_c_makes_of_the_schema),
        cmocka_unit_test(every_truncation_and_every_flipped_byte_is_survived),
        cmocka_unit_test(nesting_is_limited_both_ways),
        cmocka_unit_test(bad_text_keys_and_shapes_are_refused),
        cmocka_unit_test(a_pickle_has_bytes_and_buffers),
        cmocka_unit_test(behind_a_dimension_of_0_there_is_no_limit),
        cmocka_unit_test(json_goes_in_and_out),
        cmocka_unit_test(broken_json_is_told_with_its_place),
        cmocka_unit_test(an_integer_beyond_64_bits_is_an_error_that_names_it),
        cmocka_unit_test(a_uint64_is_read_back_as_it_was_written),
        cmocka_unit_test(getters_say_no_to_other_kinds),
        cmocka_unit_test(items_travel_as_a_block_when_they_are_numbers),
        cmocka_unit_test(elements_of_arrays_are_numbers_and_rows),
        cmocka_unit_test(rows_of_a_matrix_are_items),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
