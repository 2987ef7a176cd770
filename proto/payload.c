/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "payload.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct payload {
    _Atomic size_t references;
    block_t *block; /* NULL: message has the bytes */
    zmq_msg_t message;
};

payload_t *payload_new_frame(zmq_msg_t *frame)
{
    payload_t *self = malloc(sizeof *self);
    if (!self) return NULL;
    atomic_init(&self->references, 1);
    self->block = NULL;
    zmq_msg_init(&self->message);
    zmq_msg_move(&self->message, frame);
    return self;
}

payload_t *payload_new(const void *bytes, size_t size)
{
    zmq_msg_t frame;
    if (zmq_msg_init_size(&frame, size) != 0) return NULL;
    if (size) memcpy(zmq_msg_data(&frame), bytes, size);
    payload_t *self = payload_new_frame(&frame);
    zmq_msg_close(&frame);
    return self;
}

static void free_bytes(void *bytes, void *hint)
{
    (void)hint;
    free(bytes);
}

payload_t *payload_new_taking(void *bytes, size_t size)
{
    zmq_msg_t frame;
    if (zmq_msg_init_data(&frame, bytes, size, free_bytes, NULL) != 0) {
        free(bytes);
        return NULL;
    }
    payload_t *self = payload_new_frame(&frame);
    zmq_msg_close(&frame);
    return self;
}

payload_t *payload_new_block(block_t *block)
{
    payload_t *self = malloc(sizeof *self);
    if (!self) {
        block_unref(block);
        return NULL;
    }
    atomic_init(&self->references, 1);
    self->block = block;
    return self;
}

payload_t *payload_ref(payload_t *self)
{
    atomic_fetch_add_explicit(&self->references, 1, memory_order_relaxed);
    return self;
}

void payload_unref(payload_t **self_p)
{
    payload_t *self = *self_p;
    *self_p = NULL;
    if (!self) return;
    /* Nobody can add a reference to the last one meanwhile. */
    if (atomic_load_explicit(&self->references, memory_order_acquire) != 1 &&
        atomic_fetch_sub(&self->references, 1) != 1)
        return;
    if (self->block)
        block_unref(self->block);
    else
        zmq_msg_close(&self->message);
    free(self);
}

void payload_drop(void *self)
{
    payload_t *payload = self;
    payload_unref(&payload);
}

/* zmq_msg_data takes a pointer that is not const, and changes nothing. */
const void *payload_bytes(const payload_t *self)
{
    return self->block ? block_data(self->block) : zmq_msg_data((zmq_msg_t *)&self->message);
}

size_t payload_size(const payload_t *self)
{
    return self->block ? block_size(self->block) : zmq_msg_size(&self->message);
}

void payload_settle(payload_t *self)
{
    if (self->block) block_settle(self->block);
}

Peach__Shared *payload_shared(const payload_t *self)
{
    return self->block ? block_name(self->block) : NULL;
}

static void drop_block(void *bytes, void *block)
{
    (void)bytes;
    block_unref(block);
}

int payload_frame(payload_t *self, zmq_msg_t *frame)
{
    if (!self->block) {
        zmq_msg_init(frame);
        return zmq_msg_copy(frame, &self->message) == 0 ? 0 : PEACH_E_MEMORY;
    }
    void *bytes = block_data(self->block);
    if (!bytes || zmq_msg_init_data(frame, bytes, block_size(self->block), drop_block,
                                    block_ref(self->block)) != 0) {
        if (bytes) block_unref(self->block);
        return PEACH_E_MEMORY;
    }
    return 0;
}
