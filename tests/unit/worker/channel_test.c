/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */

/* channel.c and shared.h: what a supervisor and an executor say to each other. */
#include "channel.h"
#include "shared.h"
#include "unit.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void open_channels(channel_t *ends[2])
{
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    for (int i = 0; i < 2; i++) {
        fcntl(fds[i], F_SETFL, O_NONBLOCK);
        ends[i] = channel_new(fds[i], CHANNEL_FROM_EXECUTOR);
    }
}

static void messages_of_any_size_arrive_in_order(void **state)
{
    (void)state;
    enum { MESSAGES = 40 };
    channel_t *ends[2];
    open_channels(ends);
    for (uint64_t i = 0; i < MESSAGES; i++) {
        size_t size = (size_t)i * i * 1000;
        char *bytes = malloc(size + 1);
        memset(bytes, (int)i, size);
        payload_t *payload = payload_new_taking(bytes, size);
        Peach__Job job = PEACH__JOB__INIT;
        Peach__Task task = PEACH__TASK__INIT;
        Peach__Payload field;
        wire_batch_t batch = {0};
        job.function = "f";
        task.id = i;
        task.items = 1;
        task.payload = &field;
        assert_int_equal(wire_attach(&batch.frames, payload, &field), 0);
        wire_batch_add(&batch, 1, &job.base);
        wire_batch_add(&batch, 2, &task.base);
        assert_int_equal(channel_put_batch(ends[0], PEACH__ENVELOPE__BODY_ASSIGN, &batch), 0);
        wire_batch_free(&batch);
        payload_unref(&payload);
    }
    for (uint64_t i = 0; i < MESSAGES;) {
        wire_message_t *message;
        assert_int_equal(channel_flush(ends[0]), 0); /* in pieces: the socket is small */
        int rc = channel_get(ends[1], &message);
        if (rc == PEACH_E_TIMEOUT) continue;
        assert_int_equal(rc, 0);
        const Peach__Task *task = wire_envelope(message)->assign->tasks[0];
        payload_t *payload = wire_payload(message, task->payload);
        assert_int_equal(task->id, i);
        assert_int_equal(payload_size(payload), i * i * 1000);
        const char *bytes = payload_bytes(payload);
        for (size_t j = 0; j < payload_size(payload); j += 997) assert_int_equal(bytes[j], i);
        payload_unref(&payload);
        wire_message_destroy(&message);
        i++;
    }
    assert_false(channel_pending(ends[0]));
    channel_destroy(&ends[0]);
    wire_message_t *message;
    assert_int_equal(channel_get(ends[1], &message), PEACH_E_LOST);
    channel_destroy(&ends[1]);
}

static void refuses(const void *noise, size_t size)
{
    channel_t *ends[2];
    wire_message_t *message;
    open_channels(ends);
    assert_int_equal(write(channel_fd(ends[0]), noise, size), size);
    assert_int_equal(channel_get(ends[1], &message), PEACH_E_PROTOCOL);
    channel_destroy(&ends[0]);
    channel_destroy(&ends[1]);
}

static void a_stream_that_is_none_is_refused(void **state)
{
    (void)state;
    /* As soon as eight bytes are there: more may never come, and what comes is a message. */
    refuses("this is no message at all, somebody printed into the socket", 58);
    refuses("12345678", 8);
    const uint64_t huge[] = {1, (uint64_t)1 << 40}, many[] = {(uint64_t)1 << 60, 1}, none[2] = {0};
    refuses(huge, sizeof huge);
    refuses(many, sizeof many);
    refuses(none, sizeof none);
}

/* A head that is right but for what it announces. */
static void a_message_that_would_be_too_large_is_refused(void **state)
{
    (void)state;
    channel_t *ends[2];
    open_channels(ends);
    Peach__Envelope envelope = PEACH__ENVELOPE__INIT;
    Peach__Heartbeat heartbeat = PEACH__HEARTBEAT__INIT;
    envelope.body_case = PEACH__ENVELOPE__BODY_HEARTBEAT;
    envelope.heartbeat = &heartbeat;
    assert_int_equal(channel_put(ends[0], &envelope, NULL), 0);
    assert_int_equal(channel_flush(ends[0]), 0);
    uint64_t head[3];
    assert_int_equal(read(channel_fd(ends[1]), head, sizeof head), sizeof head);
    channel_destroy(&ends[0]);
    channel_destroy(&ends[1]);
    head[2] = (uint64_t)1 << 40;
    refuses(head, sizeof head);
    head[2] = UINT64_MAX;
    refuses(head, sizeof head);
    head[1] = (uint64_t)1 << 32;
    refuses(head, sizeof head);
}

static void a_task_is_begun_or_taken_back_never_both(void **state)
{
    (void)state;
    shared_t page = {0};
    assert_true(shared_begin(&page, 0));
    assert_true(shared_begin(&page, 1));
    /* 2 to 4 were sent and not begun. */
    assert_int_equal(shared_take_back(&page, 5), 2);
    assert_int_equal(shared_claimed(&page), 2);
    for (uint32_t n = 2; n < 5; n++) assert_false(shared_begin(&page, n));
    assert_int_equal(shared_take_back(&page, 5), 5); /* nothing twice */
    assert_true(shared_begin(&page, 5));
    assert_int_equal(shared_take_back(&page, 6), 6);
    assert_true(shared_begin(&page, 6));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_of_any_size_arrive_in_order),
        cmocka_unit_test(a_stream_that_is_none_is_refused),
        cmocka_unit_test(a_message_that_would_be_too_large_is_refused),
        cmocka_unit_test(a_task_is_begun_or_taken_back_never_both),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
