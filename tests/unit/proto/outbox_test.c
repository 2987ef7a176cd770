/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */

/* Two ends of a connection that breaks: what is kept arrives once, in order. */
#include "awake.h"
#include "outbox.h"
#include "unit.h"

#include <stdio.h>
#include <stdlib.h>

typedef struct {
    void *context, *out, *in;
    outbox_t box;
    uint64_t received;
} ends_t;

static void reconnect(ends_t *e)
{
    static int number;
    char endpoint[64];
    const int none = 0, few = 3;
    if (e->out) zmq_close(e->out);
    if (e->in) zmq_close(e->in);
    snprintf(endpoint, sizeof endpoint, "inproc://outbox-%d", ++number);
    e->out = zmq_socket(e->context, ZMQ_PAIR);
    e->in = zmq_socket(e->context, ZMQ_PAIR);
    zmq_setsockopt(e->out, ZMQ_LINGER, &none, sizeof none);
    zmq_setsockopt(e->out, ZMQ_SNDHWM, &few, sizeof few);
    zmq_setsockopt(e->in, ZMQ_RCVHWM, &few, sizeof few);
    assert_int_equal(zmq_bind(e->in, endpoint), 0);
    assert_int_equal(zmq_connect(e->out, endpoint), 0);
}

static void setup_ends(ends_t *e)
{
    *e = (ends_t){.context = zmq_ctx_new()};
    outbox_init(&e->box);
    reconnect(e);
}

static void destroy_ends(ends_t *e)
{
    outbox_clear(&e->box);
    zmq_close(e->out);
    zmq_close(e->in);
    zmq_ctx_term(e->context);
}

static void put(ends_t *e, uint64_t id, bool keep)
{
    wire_batch_t batch = {0};
    Peach__Result result = PEACH__RESULT__INIT;
    result.id = id;
    result.ended = true;
    assert_int_equal(wire_batch_add(&batch, 1, &result.base), 0);
    assert_int_equal(outbox_add(&e->box, PEACH__ENVELOPE__BODY_RESULTS, &batch, keep), 0);
    assert_null(batch.bytes);
}

/* Takes up to so many messages; ids of those that are new go to got. */
static size_t take(ends_t *e, size_t most, uint64_t *got)
{
    size_t count = 0;
    wire_message_t *message;
    const char *why;
    while (most-- > 0 && wire_receive(e->in, NULL, &message, &why) == 0) {
        const Peach__Results *results = wire_envelope(message)->results;
        if (inbox_judge(&e->received, results->serial) == INBOX_TAKE)
            got[count++] = results->results[0]->id;
        wire_message_destroy(&message);
    }
    return count;
}

static void what_is_kept_arrives_once_and_in_order_whenever_the_connection_breaks(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 200; seed++) {
        ends_t e;
        uint64_t got[256], next = 0;
        size_t count = 0;
        setup_ends(&e);
        srand(seed);
        while (count < 60) {
            switch (rand() % 5) {
            case 0:
                if (next < 60) put(&e, next++, true);
                break;
            case 1: outbox_send(&e.box, e.out, NULL); break;
            case 2: count += take(&e, 2, got + count); break;
            case 3: assert_true(outbox_acknowledge(&e.box, e.received)); break;
            default:
                if (rand() % 4) break;
                reconnect(&e); /* what was on its way is lost */
                assert_true(outbox_rewind(&e.box, e.received));
            }
        }
        for (uint64_t i = 0; i < 60; i++) assert_int_equal(got[i], i);
        outbox_acknowledge(&e.box, e.received);
        assert_int_equal(e.box.bytes, 0);
        destroy_ends(&e);
    }
}

static void what_is_not_kept_goes_with_the_connection(void **state)
{
    (void)state;
    ends_t e;
    uint64_t got[8];
    setup_ends(&e);
    put(&e, 1, false);
    put(&e, 2, true);
    put(&e, 3, false);
    assert_int_equal(outbox_send(&e.box, e.out, NULL), 0);
    assert_true(e.box.bytes > 0); /* the kept one */
    assert_int_equal(e.box.loose_bytes, 0);
    reconnect(&e);
    assert_true(outbox_rewind(&e.box, 0));
    assert_int_equal(outbox_send(&e.box, e.out, NULL), 0);
    assert_int_equal(take(&e, 8, got), 1);
    assert_int_equal(got[0], 2);
    destroy_ends(&e);
}

static void what_waits_and_may_be_lost_is_counted(void **state)
{
    (void)state;
    ends_t e;
    setup_ends(&e);
    put(&e, 1, true);
    assert_int_equal(e.box.loose_bytes, 0);
    put(&e, 2, false);
    size_t one = e.box.loose_bytes;
    assert_true(one > 0 && one < e.box.bytes);
    put(&e, 3, false);
    assert_int_equal(e.box.loose_bytes, 2 * one);
    reconnect(&e);
    assert_true(outbox_rewind(&e.box, 0));
    assert_int_equal(e.box.loose_bytes, 0);
    destroy_ends(&e);
}

static void a_number_that_cannot_be_is_refused(void **state)
{
    (void)state;
    ends_t e;
    setup_ends(&e);
    put(&e, 1, true);
    put(&e, 2, true);
    outbox_send(&e.box, e.out, NULL);
    assert_false(outbox_acknowledge(&e.box, 3));
    assert_true(outbox_acknowledge(&e.box, 2));
    assert_false(outbox_rewind(&e.box, 1)); /* it had acknowledged more */
    assert_false(outbox_rewind(&e.box, 3));
    uint64_t received = 5;
    assert_int_equal(inbox_judge(&received, 5), INBOX_DUPLICATE);
    assert_int_equal(inbox_judge(&received, 7), INBOX_GAP);
    assert_int_equal(inbox_judge(&received, 6), INBOX_TAKE);
    assert_int_equal(inbox_judge(&received, 0), INBOX_TAKE);
    assert_int_equal(received, 6);
    destroy_ends(&e);
}

static void time_in_which_a_process_was_stopped_does_not_count(void **state)
{
    (void)state;
    awake_t clock = {0};
    assert_int_equal(awake_at(&clock, 5000), 5000);
    assert_int_equal(awake_at(&clock, 5100), 5100);
    assert_int_equal(awake_at(&clock, 25100), 5100 + AWAKE_TURN_MS); /* SIGSTOP */
    assert_int_equal(awake_at(&clock, 25200), 5200 + AWAKE_TURN_MS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_kept_arrives_once_and_in_order_whenever_the_connection_breaks),
        cmocka_unit_test(what_is_not_kept_goes_with_the_connection),
        cmocka_unit_test(what_waits_and_may_be_lost_is_counted),
        cmocka_unit_test(a_number_that_cannot_be_is_refused),
        cmocka_unit_test(time_in_which_a_process_was_stopped_does_not_count),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
