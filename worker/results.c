/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */

#include "executor.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_PENDING = 65536 }; /* results in one segment */

/* Shared memory is ours until the supervisor has opened it. */
void results_release(executor_t *x)
{
    if (x->sent_count == 0 || atomic_load(&x->shared->taken) < x->sent_flush) return;
    for (size_t i = 0; i < x->sent_count; i++) payload_unref(&x->sent[i]);
    x->sent_count = 0;
}

static void keep_sent(executor_t *x)
{
    wire_frames_t *frames = &x->batch.frames;
    if (frames->shared_count == 0) return;
    payload_t **grown = realloc(x->sent, (x->sent_count + frames->shared_count) * sizeof *grown);
    if (!grown) executor_die("out of memory");
    x->sent = grown;
    for (size_t i = 0; i < frames->shared_count; i++)
        x->sent[x->sent_count++] = payload_ref(frames->shared[i]);
    x->sent_flush = x->flushes;
}

void results_flush(executor_t *x)
{
    results_release(x);
    if (x->batch.elements > 0) {
        executor_check_descriptors(x);
        if (channel_put_batch(x->channel, PEACH__ENVELOPE__BODY_RESULTS, &x->batch) != 0 ||
            channel_flush(x->channel) != 0)
            exit(1); /* the supervisor is gone */
        x->flushes++;
        keep_sent(x);
    }
    wire_batch_clear(&x->batch);
    x->flushed_ns = x->now_ns;
}

static uint64_t elapsed_us(executor_t *x)
{
    x->now_ns = executor_clock();
    return (x->now_ns - x->begun_ns) / 1000 + 1;
}

static void add_result(executor_t *x, Peach__Result *result)
{
    result->elapsed_us = elapsed_us(x);
    if (wire_batch_add(&x->batch, 1, &result->base) != 0) executor_die("out of memory");
    if (wire_batch_full(&x->batch)) results_flush(x);
}

/* The result of a task of one item: all of the task. */
static void add_single(executor_t *x, uint32_t number, const void *bytes, size_t size)
{
    uint64_t us = elapsed_us(x);
    if (wire_batch_result(&x->batch, number, us < UINT32_MAX ? (uint32_t)us : UINT32_MAX, bytes,
                          size) != 0)
        executor_die("out of memory");
    if (wire_batch_full(&x->batch)) results_flush(x);
}

/* To that many bytes, between characters. */
static void shorten(char *text, size_t most)
{
    if (strlen(text) <= most) return;
    while (most > 0 && ((unsigned char)text[most] & 0xC0) == 0x80) most--;
    text[most] = 0;
}

void results_fail(executor_t *x, uint32_t number, uint32_t item, uint32_t count,
                  const failure_t *failure)
{
    Peach__Failure message = PEACH__FAILURE__INIT, *messages = &message;
    Peach__Result result = PEACH__RESULT__INIT;
    char *type = wire_text(failure->type ? failure->type : "");
    char *text = wire_text(failure->message ? failure->message : "");
    char *traceback = wire_text(failure->traceback ? failure->traceback : "");
    if (!type || !text || !traceback) executor_die("out of memory");
    shorten(type, WIRE_MAX_NAME);
    message.item = item;
    message.count = count;
    message.status = failure->status;
    message.type = type;
    message.message = text;
    message.traceback = traceback;
    message.exception = (ProtobufCBinaryData){failure->exception_size, failure->exception};
    result.id = number;
    result.failures = &messages;
    result.n_failures = 1;
    add_result(x, &result);
    free(type);
    free(text);
    free(traceback);
}

static payload_t *pack_pending(executor_t *x, int *rc)
{
    pending_t *p = &x->pending;
    results_release(x);
    if (p->kind != PEACH_LIST)
        return items_pack_numbers(p->kind, p->numbers, p->count, x->pool, rc);
    payload_t *payload = items_pack_values(p->values, p->count, x->pool, rc);
    for (size_t i = 0; i < p->count; i++) peach_value_destroy(&p->values[i]);
    return payload;
}

/* Moves the pending successes into the batch as one segment; end, if it is not NULL,
   is the task's last result and carries them. */
void results_finish(executor_t *x, Peach__Result *end)
{
    pending_t *p = &x->pending;
    size_t count = p->count, size;
    if (count == 0) {
        if (end) add_result(x, end);
        return;
    }
    if (count == 1 && end && p->whole && p->kind != PEACH_LIST) {
        uint8_t bytes[ITEMS_NUMBER_BYTES];
        peach_value_t number = {.kind = p->kind, .integer = p->numbers[0]};
        items_put_number(bytes, &number);
        p->count = 0;
        add_single(x, p->number, bytes, sizeof bytes);
        return;
    }
    int rc;
    payload_t *payload = pack_pending(x, &rc);
    p->count = 0;
    size = payload ? payload_size(payload) : 0;
    if (payload && end && p->whole && size <= WIRE_INLINE_BYTES) {
        add_single(x, p->number, payload_bytes(payload), size);
        payload_unref(&payload);
        return;
    }
    if (rc == 0 && size > WIRE_DEFAULT_MAX_PAYLOAD && count == 1) rc = PEACH_E_LIMIT;
    if (rc == 0) {
        Peach__Segment segment = PEACH__SEGMENT__INIT, *segments = &segment;
        Peach__Result only = PEACH__RESULT__INIT, *result = end ? end : &only;
        Peach__Payload field;
        segment.first = p->first;
        segment.count = (uint32_t)count;
        segment.payload = &field;
        if (wire_attach(&x->batch.frames, payload, &field) != 0) executor_die("out of memory");
        result->id = p->number;
        result->segments = &segments;
        result->n_segments = 1;
        add_result(x, result);
    } else {
        failure_t failure = {0};
        failure_set(&failure, rc, "the result cannot be sent: %s", peach_status_text(rc));
        results_fail(x, p->number, p->first, (uint32_t)count, &failure);
        failure_clear(&failure);
        if (end) add_result(x, end);
    }
    payload_unref(&payload);
}

/* Numbers of one kind are kept as numbers; when another kind comes, as values. */
static void keep_as_values(pending_t *p)
{
    for (size_t i = 0; i < p->count && p->kind != PEACH_LIST; i++) {
        double real;
        memcpy(&real, &p->numbers[i], sizeof real);
        p->values[i] =
            p->kind == PEACH_INT ? peach_value_int(p->numbers[i]) : peach_value_double(real);
        if (!p->values[i]) executor_die("out of memory");
    }
    p->kind = PEACH_LIST;
}

/* Bytes in the value that are the function's: it may write to them when the next item runs. */
static size_t borrowed(const peach_value_t *value)
{
    size_t bytes = 0;
    if (value->kind == PEACH_ARRAY) return value->array.drop ? value->array.size : 0;
    if (!peach_value_is_sequence(value)) return 0;
    for (size_t i = 0; i < value->sequence.count; i++) bytes += borrowed(value->sequence.values[i]);
    return bytes;
}

/* Copies them, so that the value can wait. */
static void copy_borrowed(peach_value_t *value)
{
    if (value->kind == PEACH_ARRAY && value->array.drop) {
        void *copy = malloc(value->array.size + 1);
        if (!copy) executor_die("out of memory");
        memcpy(copy, value->array.data, value->array.size);
        value->array.drop(value->array.owner);
        value->array.data = copy;
        value->array.drop = NULL;
    }
    for (size_t i = 0; peach_value_is_sequence(value) && i < value->sequence.count; i++)
        copy_borrowed(value->sequence.values[i]);
}

/* Whether the value is to be sent at once; otherwise nothing in it is borrowed any more. */
static bool settle(const pending_t *p, peach_value_t *value)
{
    enum { LARGE = 256 << 10 }; /* a copy costs more than a segment */
    /* Arrays and long texts go one by one: a segment of them would be copied once more. */
    if (value->kind == PEACH_ARRAY || value->kind == PEACH_BYTES) return true;
    size_t bytes = borrowed(value);
    if (bytes >= LARGE) return true;
    if (bytes > 0 && !p->whole) copy_borrowed(value);
    return false;
}

/* Takes the value unless it is lent: then it is a number. */
void results_keep(executor_t *x, uint32_t item, peach_value_t *value, bool lent)
{
    pending_t *p = &x->pending;
    peach_kind_t kind = value->kind, group = kind;
    if (kind != PEACH_INT && kind != PEACH_DOUBLE) group = PEACH_LIST;
    bool now = group == PEACH_LIST && settle(p, value);
    if (p->count > 0 && item != p->first + p->count) results_finish(x, NULL);
    if (p->count == p->capacity) {
        p->capacity = p->capacity ? p->capacity * 2 : 16;
        p->values = realloc(p->values, p->capacity * sizeof *p->values);
        p->numbers = realloc(p->numbers, p->capacity * sizeof *p->numbers);
        if (!p->values || !p->numbers) executor_die("out of memory");
    }
    if (p->count == 0) {
        p->first = item;
        p->kind = group;
    } else if (p->kind != group) {
        keep_as_values(p);
    }
    if (p->kind == PEACH_LIST) {
        p->values[p->count++] = lent ? peach_value_copy(value) : value;
        if (!p->values[p->count - 1]) executor_die("out of memory");
    } else {
        p->numbers[p->count++] = value->integer; /* or real's bits */
        if (!lent) peach_value_destroy(&value);
    }
    if ((now || p->count == MAX_PENDING) && !p->whole) results_finish(x, NULL);
}
