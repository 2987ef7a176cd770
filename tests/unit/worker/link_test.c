/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "inside.h"
#include "unit.h"

/* What comes from many executors in one turn goes off as messages that a broker takes. */
static void a_message_holds_no_more_than_one_may(void **state)
{
    (void)state;
    enum { ROWS = 100, COUNT = 5 * WIRE_MAX_BATCH / 2 };
    link_t link = {0};
    outbox_init(&link.outbox);
    for (uint64_t i = 0; i < COUNT; i++) {
        const wire_single_t single = {.id = i, .payload = (const uint8_t *)"r", .size = 1};
        if (i % ROWS == 0) link_reserve(&link, ROWS);
        link_single(&link, &single, i);
        assert_true(link.batch.elements <= WIRE_MAX_BATCH);
    }
    assert_true(link.outbox.serial >= 2); /* so many are on their way */
    wire_batch_free(&link.batch);
    outbox_clear(&link.outbox);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_message_holds_no_more_than_one_may)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
