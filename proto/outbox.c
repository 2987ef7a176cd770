/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "outbox.h"

#include <stdlib.h>

enum { SERIAL_FIELD = 2 }; /* Results.serial */

typedef struct {
    node_t node;
    unsigned body;
    uint64_t serial; /* 0: not kept */
    wire_batch_t batch;
} letter_t;

static letter_t *letter_of(node_t *node) { return LIST_ITEM(node, letter_t, node); }

static void letter_destroy(outbox_t *self, letter_t *letter)
{
    size_t bytes = wire_batch_bytes(&letter->batch);
    self->bytes -= bytes;
    if (!letter->serial) self->loose_bytes -= bytes;
    if (self->next == &letter->node) self->next = list_next(&self->letters, &letter->node);
    list_remove(&letter->node);
    wire_batch_free(&letter->batch);
    free(letter);
}

void outbox_init(outbox_t *self)
{
    *self = (outbox_t){0};
    list_init(&self->letters);
}

void outbox_clear(outbox_t *self)
{
    for (node_t *n; (n = list_first(&self->letters)) != NULL;) letter_destroy(self, letter_of(n));
}

int outbox_add(outbox_t *self, unsigned body, wire_batch_t *batch, bool keep)
{
    letter_t *letter = calloc(1, sizeof *letter);
    if (!letter) return PEACH_E_MEMORY;
    if (wire_batch_close(batch) != 0 ||
        (keep && wire_batch_number(batch, SERIAL_FIELD, self->serial + 1) != 0)) {
        free(letter);
        return PEACH_E_MEMORY;
    }
    letter->body = body;
    letter->serial = keep ? ++self->serial : 0;
    letter->batch = *batch;
    letter->batch.run = (wire_run_t){0};
    /* Its columns are for the next one. */
    *batch = (wire_batch_t){.run = batch->run, .frames.shares = batch->frames.shares};
    size_t bytes = wire_batch_bytes(&letter->batch);
    self->bytes += bytes;
    if (!keep) self->loose_bytes += bytes;
    list_append(&self->letters, &letter->node);
    if (!self->next) self->next = &letter->node;
    return 0;
}

int outbox_add_envelope(outbox_t *self, const Peach__Envelope *envelope,
                        const wire_frames_t *frames)
{
    /* It is kept as what a batch sends: its body's field and bytes. */
    size_t size = peach__envelope__get_packed_size(envelope);
    wire_batch_t whole = {.bytes = malloc(size + 1), .size = size, .capacity = size + 1};
    int rc = 0;
    if (!whole.bytes) return PEACH_E_MEMORY;
    peach__envelope__pack(envelope, whole.bytes);
    for (size_t i = 0; frames && i < frames->count && rc == 0; i++) {
        Peach__Payload field;
        rc = wire_attach(&whole.frames, frames->payloads[i], &field);
    }
    whole.frames.shares = true;
    for (size_t i = 0; frames && i < frames->shared_count && rc == 0; i++) {
        Peach__Payload field;
        rc = wire_attach(&whole.frames, frames->shared[i], &field);
    }
    if (rc == 0) rc = outbox_add(self, 0, &whole, false);
    wire_batch_free(&whole);
    return rc;
}

int outbox_send(outbox_t *self, void *socket, zmq_msg_t *route)
{
    while (self->next) {
        letter_t *letter = letter_of(self->next);
        int rc = wire_batch_send(socket, route, letter->body, &letter->batch);
        if (rc) return rc;
        self->next = list_next(&self->letters, &letter->node);
        if (!letter->serial) letter_destroy(self, letter);
    }
    return 0;
}

bool outbox_pending(const outbox_t *self) { return self->next != NULL; }

bool outbox_acknowledge(outbox_t *self, uint64_t received)
{
    if (received > self->serial) return false;
    if (received > self->acknowledged) self->acknowledged = received;
    for (node_t *n; (n = list_first(&self->letters)) != NULL && n != self->next;) {
        if (letter_of(n)->serial > received) break;
        letter_destroy(self, letter_of(n));
    }
    return true;
}

bool outbox_rewind(outbox_t *self, uint64_t received)
{
    if (received > self->serial || received < self->acknowledged) return false;
    node_t *next;
    for (node_t *n = list_first(&self->letters); n; n = next) {
        next = list_next(&self->letters, n);
        if (letter_of(n)->serial <= received) letter_destroy(self, letter_of(n));
    }
    self->acknowledged = received;
    self->next = list_first(&self->letters);
    return true;
}

inbox_verdict_t inbox_judge(uint64_t *received, uint64_t serial)
{
    if (serial == 0) return INBOX_TAKE;
    if (serial <= *received) return INBOX_DUPLICATE;
    if (serial > *received + 1) return INBOX_GAP;
    *received = serial;
    return INBOX_TAKE;
}
