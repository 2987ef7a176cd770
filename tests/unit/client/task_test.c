/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */

/* What comes back for a task, in whatever order and however often, is read once. */
#include "job.h"
#include "unit.h"

#include "items.h"

#include <stdlib.h>
#include <string.h>

static peach_t session;
static peach_job_t job = {.session = &session};

/* A message with one segment of ints first..first+count-1, or of noise. */
static uint32_t take(task_t *task, uint32_t first, uint32_t count, bool noise)
{
    int status;
    bool failed;
    peach_value_t *items = peach_value_range(first, (int64_t)first + count - 1);
    payload_t *packed_items = items_pack(items, 0, count, NULL, &status);
    assert_non_null(packed_items);
    void *bytes = (void *)payload_bytes(packed_items);
    size_t size = payload_size(packed_items);
    peach_value_destroy(&items);
    if (noise) memset(bytes, 0xFF, size);
    Peach__Envelope envelope = PEACH__ENVELOPE__INIT;
    Peach__Results results = PEACH__RESULTS__INIT;
    Peach__Result result = PEACH__RESULT__INIT, *one = &result;
    Peach__Segment segment = PEACH__SEGMENT__INIT, *segments = &segment;
    Peach__Payload payload = PEACH__PAYLOAD__INIT;
    payload.inline_ = (ProtobufCBinaryData){size, bytes};
    segment.first = first;
    segment.count = count;
    segment.payload = &payload;
    result.segments = &segments;
    result.n_segments = 1;
    results.results = &one;
    results.n_results = 1;
    envelope.body_case = PEACH__ENVELOPE__BODY_RESULTS;
    envelope.results = &results;
    size_t packed = peach__envelope__get_packed_size(&envelope);
    uint8_t *whole = malloc(packed);
    peach__envelope__pack(&envelope, whole);
    wire_message_t *message;
    const char *why;
    assert_int_equal(wire_decode(whole, packed, NULL, 0, &message, &why), 0);
    uint32_t ended = task_take_segment(
        task, message, wire_envelope(message)->results->results[0]->segments[0], &failed);
    wire_message_destroy(&message);
    free(whole);
    payload_unref(&packed_items);
    assert_false(failed);
    return ended;
}

static uint32_t refuse(task_t *task, uint32_t first, uint32_t count)
{
    Peach__Failure failure = PEACH__FAILURE__INIT;
    failure.item = first;
    failure.count = count;
    failure.status = PEACH_E_RAISED;
    failure.message = "no";
    return task_take_failure(task, &failure);
}

static task_t *make(uint32_t items, bool unordered)
{
    payload_t *payload = payload_new("x", 1);
    task_t *task = task_new(&job, 7, 100, items, &payload, unordered);
    assert_non_null(task);
    assert_null(payload);
    return task;
}

static void expect(task_t *task, uint32_t item, bool failed)
{
    peach_result_t result;
    int64_t n = -1;
    assert_true(task_readable(task));
    assert_int_equal(task_read(task, &result), 0);
    assert_int_equal(result.item, 100 + item);
    assert_int_equal(result.failure != NULL, failed);
    if (!failed) {
        assert_int_equal(peach_value_as_int(result.value, &n), 0);
        assert_int_equal(n, item);
    }
    peach_result_clear(&result);
}

static void pieces_in_any_order_are_read_in_order(void **state)
{
    (void)state;
    task_t *task = make(10, false);
    assert_int_equal(take(task, 6, 4, false), 4);
    assert_false(task_readable(task));
    assert_int_equal(take(task, 0, 2, false), 2);
    expect(task, 0, false);
    assert_int_equal(refuse(task, 3, 3), 3); /* while the reader is inside a piece */
    expect(task, 1, false);
    assert_false(task_readable(task));
    assert_int_equal(take(task, 2, 1, false), 1);
    for (uint32_t i = 2; i < 10; i++) expect(task, i, i >= 3 && i < 6);
    assert_true(task_all_read(task));
    assert_int_equal(task->bytes, 0);
    task_destroy(&task);
}

static void what_comes_twice_counts_once(void **state)
{
    (void)state;
    task_t *task = make(10, false);
    assert_int_equal(take(task, 0, 5, false), 5);
    assert_int_equal(take(task, 0, 5, false), 0);
    assert_int_equal(refuse(task, 3, 4), 2); /* only what had not ended */
    assert_int_equal(take(task, 4, 6, false), 0);
    assert_int_equal(take(task, 7, 3, false), 3);
    assert_int_equal(take(task, 9, 5, false), 0); /* outside */
    assert_int_equal(refuse(task, 10, 1), 0);
    assert_true(ranges_empty(&task->todo));
    assert_null(task->payload); /* nothing will be submitted again */
    for (uint32_t i = 0; i < 10; i++) expect(task, i, i == 5 || i == 6);
    task_destroy(&task);
}

static void unordered_pieces_are_read_as_they_come(void **state)
{
    (void)state;
    task_t *task = make(6, true);
    assert_int_equal(take(task, 4, 2, false), 2);
    expect(task, 4, false);
    assert_int_equal(take(task, 0, 4, false), 4);
    expect(task, 5, false);
    for (uint32_t i = 0; i < 4; i++) expect(task, i, false);
    assert_true(task_all_read(task));
    task_destroy(&task);
}

static void a_result_that_cannot_be_decoded_is_a_failure_of_its_items(void **state)
{
    (void)state;
    task_t *task = make(3, false);
    assert_int_equal(take(task, 0, 2, true), 2);
    assert_int_equal(take(task, 2, 1, false), 1);
    expect(task, 0, true);
    expect(task, 1, true);
    expect(task, 2, false);
    task_destroy(&task);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_in_any_order_are_read_in_order),
        cmocka_unit_test(what_comes_twice_counts_once),
        cmocka_unit_test(unordered_pieces_are_read_as_they_come),
        cmocka_unit_test(a_result_that_cannot_be_decoded_is_a_failure_of_its_items),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    pool_clear(&session.free_tasks);
    return failed;
}
