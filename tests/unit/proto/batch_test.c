/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */

/* Tasks of one item travel in columns; a batch is what generated code makes of it. */
#include "batch.h"
#include "unit.h"

#include <stdlib.h>
#include <string.h>

/* The batch as an Envelope of that body, decoded. */
static wire_message_t *decode(wire_batch_t *batch, unsigned body, int expected)
{
    uint8_t head[WIRE_BATCH_HEAD];
    assert_int_equal(wire_batch_close(batch), 0);
    size_t head_size = wire_batch_head(head, body, batch);
    uint8_t *bytes = malloc(head_size + batch->size);
    memcpy(bytes, head, head_size);
    memcpy(bytes + head_size, batch->bytes, batch->size);
    wire_message_t *message;
    const char *why;
    assert_int_equal(wire_decode(bytes, head_size + batch->size, NULL, 0, &message, &why),
                     expected);
    free(bytes);
    return message;
}

static void add_job(wire_batch_t *batch)
{
    Peach__Job job = PEACH__JOB__INIT;
    job.function = "f";
    assert_int_equal(wire_batch_add(batch, 1, &job.base), 0);
}

static void tasks_come_back_row_by_row(void **state)
{
    (void)state;
    enum { ROWS = 300 };
    wire_batch_t batch = {0};
    char text[32];
    add_job(&batch);
    add_job(&batch);
    for (uint64_t i = 0; i < ROWS; i++) {
        int size = snprintf(text, sizeof text, "item %llu", (unsigned long long)i * i);
        /* of two jobs: two runs */
        assert_int_equal(
            wire_batch_task(&batch, i >= 200, i << 40 | 7, 1000 - i, text, (size_t)size), 0);
    }
    assert_int_equal(batch.elements, 2 + ROWS);
    wire_message_t *message = decode(&batch, PEACH__ENVELOPE__BODY_SUBMIT, 0);
    const Peach__Submit *submit = wire_envelope(message)->submit;
    assert_int_equal(submit->n_singles, 2);
    uint64_t i = 0;
    for (size_t run = 0; run < 2; run++) {
        size_t offset = 0;
        assert_int_equal(submit->singles[run]->job, run);
        for (size_t row = 0; row < submit->singles[run]->n_ids; row++, i++) {
            wire_single_t task = wire_single(submit->singles[run], row, &offset);
            size_t size =
                (size_t)snprintf(text, sizeof text, "item %llu", (unsigned long long)i * i);
            assert_int_equal(task.id, i << 40 | 7);
            assert_int_equal(task.item, 1000 - i);
            assert_int_equal(task.size, size);
            assert_memory_equal(task.payload, text, size);
        }
    }
    assert_int_equal(i, ROWS);
    wire_message_destroy(&message);
    wire_batch_clear(&batch); /* and its columns can be used again */
    add_job(&batch);
    assert_int_equal(wire_batch_task(&batch, 0, 1, 2, "", 0), 0);
    message = decode(&batch, PEACH__ENVELOPE__BODY_ASSIGN, 0);
    assert_int_equal(wire_envelope(message)->assign->singles[0]->n_ids, 1);
    wire_message_destroy(&message);
    wire_batch_free(&batch);
}

static void results_stand_beside_other_results(void **state)
{
    (void)state;
    wire_batch_t batch = {0};
    Peach__Result result = PEACH__RESULT__INIT;
    result.id = 9;
    assert_int_equal(wire_batch_result(&batch, 1, 50, "one", 3), 0);
    assert_int_equal(wire_batch_add(&batch, 1, &result.base), 0);
    assert_int_equal(wire_batch_result(&batch, 2, 60, "two", 3), 0);
    assert_int_equal(wire_batch_number(&batch, 2, 77), 0);
    wire_message_t *message = decode(&batch, PEACH__ENVELOPE__BODY_RESULTS, 0);
    const Peach__Results *results = wire_envelope(message)->results;
    size_t offset = 0;
    assert_int_equal(results->serial, 77);
    assert_int_equal(results->n_results, 1);
    assert_int_equal(results->n_singles, 1);
    wire_single(results->singles[0], 0, &offset);
    wire_single_t second = wire_single(results->singles[0], 1, &offset);
    assert_int_equal(second.id, 2);
    assert_int_equal(second.elapsed_us, 60);
    assert_memory_equal(second.payload, "two", 3);
    wire_message_destroy(&message);
    wire_batch_free(&batch);
}

/* Singles with these columns are refused. */
static void refuse(Peach__Singles *singles, int expected)
{
    wire_batch_t batch = {0};
    add_job(&batch);
    assert_int_equal(wire_batch_add(&batch, 4, &singles->base), 0);
    assert_null(decode(&batch, PEACH__ENVELOPE__BODY_SUBMIT, expected));
    wire_batch_free(&batch);
}

static void columns_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    static uint64_t ids[WIRE_MAX_BATCH + 1];
    static uint32_t sizes[WIRE_MAX_BATCH + 1];
    static uint8_t bytes[WIRE_INLINE_BYTES + 1];
    const Peach__Singles good = {.base = PROTOBUF_C_MESSAGE_INIT(&peach__singles__descriptor),
                                 .ids = ids,
                                 .n_ids = 3,
                                 .items = ids,
                                 .n_items = 3,
                                 .sizes = sizes,
                                 .n_sizes = 3};
    Peach__Singles bad = good;
    wire_batch_t batch = {0};
    add_job(&batch);
    assert_int_equal(wire_batch_add(&batch, 4, &bad.base), 0);
    wire_message_t *message = decode(&batch, PEACH__ENVELOPE__BODY_SUBMIT, 0);
    wire_message_destroy(&message);
    wire_batch_free(&batch);
    bad.n_items = 2;
    refuse(&bad, PEACH_E_PROTOCOL);
    bad = good;
    bad.n_sizes = 4;
    refuse(&bad, PEACH_E_PROTOCOL);
    bad = good;
    bad.elapsed_us = sizes;
    bad.n_elapsed_us = 3;
    refuse(&bad, PEACH_E_PROTOCOL);
    bad = good;
    bad.job = 1; /* there is one, number 0 */
    refuse(&bad, PEACH_E_PROTOCOL);
    bad = good;
    bad.payloads = (ProtobufCBinaryData){1, bytes}; /* whose is it? */
    refuse(&bad, PEACH_E_PROTOCOL);
    bad = good;
    sizes[0] = 5; /* not there */
    refuse(&bad, PEACH_E_PROTOCOL);
    sizes[0] = WIRE_INLINE_BYTES + 1;
    bad.payloads = (ProtobufCBinaryData){WIRE_INLINE_BYTES + 1, bytes};
    refuse(&bad, PEACH_E_LIMIT);
    sizes[0] = 0;
    bad = good;
    bad.n_ids = bad.n_items = bad.n_sizes = WIRE_MAX_BATCH + 1;
    refuse(&bad, PEACH_E_LIMIT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tasks_come_back_row_by_row),
        cmocka_unit_test(results_stand_beside_other_results),
        cmocka_unit_test(columns_that_do_not_fit_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
