/* Submit, Assign and Results as they are built: element by element, packed as they
   grow, so that nothing of an element has to be kept. Tasks of one item, and their
   results, are collected in columns (message Singles).

   This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#ifndef PEACH_BATCH_H
#define PEACH_BATCH_H

#include "wire.h"

/* The columns of the Singles that are being collected. */
typedef struct {
    uint32_t job;
    size_t count, capacity; /* rows */
    uint64_t *ids, *items;
    uint32_t *elapsed_us, *sizes;
    bool results; /* elapsed_us counts, and items does not */
    uint8_t *bytes;
    size_t size, room; /* of bytes */
} wire_run_t;

typedef struct {
    uint8_t *bytes; /* the body of the message so far */
    size_t size, capacity;
    size_t elements;
    wire_run_t run; /* behind it */
    wire_frames_t frames;
} wire_batch_t;

/* Appends a message as an element of repeated field number field. PEACH_E_MEMORY,
   and the batch is as before. Payloads are attached to batch->frames first. */
int wire_batch_add(wire_batch_t *batch, unsigned field, const ProtobufCMessage *element);

/* Appends a task of one item, or the good result of one. The payload has up to
   WIRE_INLINE_BYTES and is copied. PEACH_E_MEMORY, and the batch is as before. */
int wire_batch_task(wire_batch_t *batch, uint32_t job, uint64_t id, uint64_t item,
                    const void *payload, size_t size);
int wire_batch_result(wire_batch_t *batch, uint64_t id, uint32_t elapsed_us, const void *payload,
                      size_t size);

/* Appends a result that came in a message; its payloads go on as they are. Values that
   cannot be taken become failures; those that were in the memory of a process that is gone
   were lost with it (PEACH_E_DIED), or are left out when there are several in one payload:
   their items run again. host and pid: of that process. PEACH_E_MEMORY. */
int wire_batch_forward(wire_batch_t *batch, wire_message_t *message, const Peach__Result *result,
                       const char *host, uint32_t pid);

/* Whether the batch should be sent before more is added; and whether it takes a message's
   element with so many frames, within what one message may hold. */
bool wire_batch_full(const wire_batch_t *batch);
bool wire_batch_has_room(const wire_batch_t *batch, size_t frames);

/* Packs what is in columns still; senders do. PEACH_E_MEMORY, and the batch is as
   before. */
int wire_batch_close(wire_batch_t *batch);

/* What stands before the bytes of a closed batch in an envelope with that body; its
   size. */
enum { WIRE_BATCH_HEAD = 11 };
size_t wire_batch_head(uint8_t head[WIRE_BATCH_HEAD], unsigned body, const wire_batch_t *batch);

/* Sends the batch as the given body of an Envelope; 0 says that its bytes are a
   packed Envelope already. As wire_send; the batch keeps what it has and can be sent
   again or cleared. */
int wire_batch_send(void *socket, zmq_msg_t *route, unsigned body, wire_batch_t *batch);

/* Appends a number as field number field of the body. PEACH_E_MEMORY. */
int wire_batch_number(wire_batch_t *batch, unsigned field, uint64_t number);

/* Bytes that it and its payloads take. */
size_t wire_batch_bytes(const wire_batch_t *batch);

/* Empties the batch and keeps its buffers; frees them too. */
void wire_batch_clear(wire_batch_t *batch);
void wire_batch_free(wire_batch_t *batch);

/* ---- reading ---- */

/* One row of Singles that were checked. */
typedef struct {
    uint64_t id, item;
    uint32_t elapsed_us;
    const uint8_t *payload; /* lent by the message */
    size_t size;
} wire_single_t;

/* The rows one after another: start with *offset = 0 and i = 0, then each next i. */
static inline wire_single_t wire_single(const Peach__Singles *s, size_t i, size_t *offset)
{
    wire_single_t row = {.id = s->ids[i], .payload = s->payloads.data + *offset};
    row.size = s->sizes[i];
    if (s->n_items) row.item = s->items[i];
    if (s->n_elapsed_us) row.elapsed_us = s->elapsed_us[i];
    *offset += row.size;
    return row;
}

#endif
