/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "batch.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VARINT = 0, LENGTH = 2 }; /* protobuf's wire types */
enum { SINGLES = 4 };            /* its field in Submit, Assign and Results */
enum { JOB = 1, IDS, ITEMS, ELAPSED, SIZES, PAYLOADS }; /* fields of Singles */
enum { MOST_SHARED = 16 };       /* blocks: they are large, and take descriptors */
enum { HEAD = WIRE_BATCH_HEAD }; /* what a field takes before its bytes, at most */

/* A field's tag, and the number that follows it. */
static size_t put_field(uint8_t *p, unsigned field, unsigned type, uint64_t number)
{
    size_t n = 0;
    p[n++] = (uint8_t)(field << 3 | type);
    for (; number >= 0x80; number >>= 7) p[n++] = (uint8_t)(number | 0x80);
    p[n++] = (uint8_t)number;
    return n;
}

/* Makes room for size bytes behind those that are used. */
static int reserve(uint8_t **bytes, size_t used, size_t *capacity, size_t size)
{
    if (*capacity - used >= size) return 0;
    size_t grown_to = (used + size) * 2;
    uint8_t *grown = realloc(*bytes, grown_to);
    if (!grown) return PEACH_E_MEMORY;
    *bytes = grown;
    *capacity = grown_to;
    return 0;
}

int wire_batch_add(wire_batch_t *batch, unsigned field, const ProtobufCMessage *element)
{
    size_t size = protobuf_c_message_get_packed_size(element);
    if (reserve(&batch->bytes, batch->size, &batch->capacity, size + HEAD) != 0)
        return PEACH_E_MEMORY;
    batch->size += put_field(batch->bytes + batch->size, field, LENGTH, size);
    batch->size += protobuf_c_message_pack(element, batch->bytes + batch->size);
    batch->elements++;
    return 0;
}

int wire_batch_number(wire_batch_t *batch, unsigned field, uint64_t number)
{
    if (reserve(&batch->bytes, batch->size, &batch->capacity, HEAD) != 0) return PEACH_E_MEMORY;
    batch->size += put_field(batch->bytes + batch->size, field, VARINT, number);
    return 0;
}

/* The field of a message that is being built for what field is in one that came. */
static int forward(wire_batch_t *batch, wire_message_t *message, const Peach__Payload *field,
                   Peach__Payload *out)
{
    *out = *field;
    if (!field->frame && !field->shared) return 0; /* inline: lent by the message */
    payload_t *payload = wire_payload(message, field);
    if (!payload) return PEACH_E_SYSTEM;
    int rc = wire_attach(&batch->frames, payload, out);
    payload_unref(&payload);
    return rc;
}

int wire_batch_forward(wire_batch_t *batch, wire_message_t *message, const Peach__Result *result,
                       const char *host, uint32_t pid)
{
    size_t count = result->n_segments;
    struct copy {
        Peach__Segment segment;
        Peach__Payload payload;
        Peach__Failure failure;
        char why[96];
    } *copies = calloc(count + 1, sizeof *copies);
    Peach__Result out = *result;
    out.n_segments = 0;
    out.segments = calloc(count + 1, sizeof *out.segments);
    out.failures = calloc(count + result->n_failures + 1, sizeof *out.failures);
    int rc = copies && out.segments && out.failures ? 0 : PEACH_E_MEMORY;
    for (size_t i = 0; rc == 0 && i < result->n_failures; i++)
        out.failures[i] = result->failures[i];
    for (size_t i = 0; rc == 0 && i < count; i++) {
        struct copy *copy = &copies[i];
        copy->segment = *result->segments[i];
        copy->segment.payload = &copy->payload;
        if (forward(batch, message, result->segments[i]->payload, &copy->payload) == 0) {
            out.segments[out.n_segments++] = &copy->segment;
            continue;
        }
        bool gone = errno == ENOENT;
        if (gone && copy->segment.count > 1) continue;
        snprintf(copy->why, sizeof copy->why, "%s%s",
                 gone ? "the executor ended before its result was taken"
                      : "the result cannot be passed on: ",
                 gone ? "" : strerror(errno));
        peach__failure__init(&copy->failure);
        copy->failure.item = copy->segment.first;
        copy->failure.count = copy->segment.count;
        copy->failure.status = gone ? PEACH_E_DIED : PEACH_E_SYSTEM;
        copy->failure.message = copy->why;
        copy->failure.host = (char *)host;
        copy->failure.pid = pid;
        out.failures[out.n_failures++] = &copy->failure;
    }
    if (rc == 0) rc = wire_batch_add(batch, 1, &out.base);
    free(copies);
    free(out.segments);
    free(out.failures);
    return rc;
}

/* ---- columns ---- */

static bool grow_column(void *column_p, size_t rows, size_t width)
{
    void *column, *grown;
    memcpy(&column, column_p, sizeof column);
    if (!(grown = realloc(column, rows * width))) return false;
    memcpy(column_p, &grown, sizeof grown);
    return true;
}

static int run_reserve(wire_run_t *run, size_t size)
{
    if (reserve(&run->bytes, run->size, &run->room, size) != 0) return PEACH_E_MEMORY;
    if (run->count < run->capacity) return 0;
    size_t rows = run->capacity ? run->capacity * 2 : 64;
    if (!grow_column(&run->ids, rows, sizeof *run->ids) ||
        !grow_column(&run->items, rows, sizeof *run->items) ||
        !grow_column(&run->elapsed_us, rows, sizeof *run->elapsed_us) ||
        !grow_column(&run->sizes, rows, sizeof *run->sizes))
        return PEACH_E_MEMORY;
    run->capacity = rows;
    return 0;
}

static uint8_t *put_column(uint8_t *p, unsigned field, const void *column, size_t size)
{
    p += put_field(p, field, LENGTH, size);
    if (size) memcpy(p, column, size);
    return p + size;
}

int wire_batch_close(wire_batch_t *batch)
{
    wire_run_t *run = &batch->run;
    if (run->count == 0) return 0;
    size_t rows = run->count, wide = rows * sizeof *run->ids, narrow = rows * sizeof *run->sizes;
    size_t columns = wide + (run->results ? narrow : wide) + narrow + run->size;
    /* The length of the whole is known when its parts are written: they are, behind room
       for it, and moved. */
    if (reserve(&batch->bytes, batch->size, &batch->capacity, columns + 6 * HEAD) != 0)
        return PEACH_E_MEMORY;
    uint8_t *begin = batch->bytes + batch->size, *body = begin + HEAD, *p = body;
    if (!run->results) p += put_field(p, JOB, VARINT, run->job);
    p = put_column(p, IDS, run->ids, wide);
    p = run->results ? put_column(p, ELAPSED, run->elapsed_us, narrow)
                     : put_column(p, ITEMS, run->items, wide);
    p = put_column(p, SIZES, run->sizes, narrow);
    p = put_column(p, PAYLOADS, run->bytes, run->size);
    size_t head = put_field(begin, SINGLES, LENGTH, (size_t)(p - body));
    memmove(begin + head, body, (size_t)(p - body));
    batch->size += head + (size_t)(p - body);
    run->count = run->size = 0;
    return 0;
}

/* A new row in columns of that kind; NULL when memory is out. */
static wire_run_t *add_row(wire_batch_t *batch, bool results, uint32_t job, uint64_t id,
                           const void *payload, size_t size)
{
    wire_run_t *run = &batch->run;
    assert(size <= WIRE_INLINE_BYTES);
    if (run->count > 0 && (run->results != results || run->job != job) &&
        wire_batch_close(batch) != 0)
        return NULL;
    if (run_reserve(run, size) != 0) return NULL;
    run->results = results;
    run->job = job;
    run->ids[run->count] = id;
    run->sizes[run->count] = (uint32_t)size;
    if (size) memcpy(run->bytes + run->size, payload, size);
    run->size += size;
    batch->elements++;
    return run;
}

int wire_batch_task(wire_batch_t *batch, uint32_t job, uint64_t id, uint64_t item,
                    const void *payload, size_t size)
{
    wire_run_t *run = add_row(batch, false, job, id, payload, size);
    if (!run) return PEACH_E_MEMORY;
    run->items[run->count++] = item;
    return 0;
}

int wire_batch_result(wire_batch_t *batch, uint64_t id, uint32_t elapsed_us, const void *payload,
                      size_t size)
{
    wire_run_t *run = add_row(batch, true, 0, id, payload, size);
    if (!run) return PEACH_E_MEMORY;
    run->elapsed_us[run->count++] = elapsed_us;
    return 0;
}

/* ---- the whole ---- */

size_t wire_batch_bytes(const wire_batch_t *batch)
{
    size_t bytes = batch->size + batch->run.size + batch->run.count * 24 + batch->frames.bytes;
    for (size_t i = 0; i < batch->frames.shared_count; i++)
        bytes += payload_size(batch->frames.shared[i]);
    return bytes;
}

bool wire_batch_full(const wire_batch_t *batch)
{
    return batch->size + batch->run.size >= WIRE_BATCH_BYTES || batch->elements >= WIRE_MAX_BATCH ||
           batch->frames.shared_count >= MOST_SHARED ||
           (batch->frames.count > 0 &&
            (batch->frames.count >= WIRE_MAX_FRAMES || batch->frames.bytes >= WIRE_BATCH_FRAMES));
}

bool wire_batch_has_room(const wire_batch_t *batch, size_t frames)
{
    return !wire_batch_full(batch) && batch->frames.count + frames <= WIRE_MAX_FRAMES;
}

size_t wire_batch_head(uint8_t head[WIRE_BATCH_HEAD], unsigned body, const wire_batch_t *batch)
{
    assert(body < 16 && batch->run.count == 0); /* the tag is one byte */
    return body ? put_field(head, body, LENGTH, batch->size) : 0;
}

int wire_batch_send(void *socket, zmq_msg_t *route, unsigned body, wire_batch_t *batch)
{
    uint8_t head[WIRE_BATCH_HEAD];
    zmq_msg_t first;
    if (wire_batch_close(batch) != 0) return PEACH_E_MEMORY;
    size_t head_size = wire_batch_head(head, body, batch);
    if (zmq_msg_init_size(&first, head_size + batch->size) != 0) return PEACH_E_MEMORY;
    uint8_t *p = zmq_msg_data(&first);
    memcpy(p, head, head_size);
    if (batch->size) memcpy(p + head_size, batch->bytes, batch->size);
    return wire_send_frames(socket, route, &first, &batch->frames);
}

static void run_free(wire_run_t *run)
{
    free(run->ids);
    free(run->items);
    free(run->elapsed_us);
    free(run->sizes);
    free(run->bytes);
    *run = (wire_run_t){0};
}

void wire_batch_clear(wire_batch_t *batch)
{
    /* The buffers stay for the next batch unless they grew out of proportion. */
    wire_frames_clear(&batch->frames);
    batch->size = batch->elements = 0;
    batch->run.count = batch->run.size = 0;
    if (batch->capacity + batch->run.room <= 4 * WIRE_BATCH_BYTES) return;
    wire_batch_free(batch);
}

void wire_batch_free(wire_batch_t *batch)
{
    wire_frames_clear(&batch->frames);
    run_free(&batch->run);
    free(batch->bytes);
    *batch = (wire_batch_t){.frames.shares = batch->frames.shares};
}
