/* Opaque bytes on their way through a process: a task's items, a segment of
   results, a preload. Immutable and counted, so that a task that is queued again
   sends the same memory again; large ones are never copied: they are a ZeroMQ
   message, or shared memory. References may be dropped by any thread.

This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#ifndef PEACH_PAYLOAD_H
#define PEACH_PAYLOAD_H

#include "block.h"
#include <peach/status.h>

#include <stddef.h>
#include <zmq.h>

typedef struct payload payload_t;

/* Copies the bytes. NULL when memory is out. */
payload_t *payload_new(const void *bytes, size_t size);

/* Takes bytes that came from malloc, also when it fails. */
payload_t *payload_new_taking(void *bytes, size_t size);

/* Moves the message out of *frame, which is empty afterwards. */
payload_t *payload_new_frame(zmq_msg_t *frame);

/* Takes the block, also when it fails. */
payload_t *payload_new_block(block_t *block);

PEACH_EXPORT payload_t *payload_ref(payload_t *self);

/* Drops one reference and sets *self_p to NULL. *self_p may be NULL. */
PEACH_EXPORT void payload_unref(payload_t **self_p);

/* The same for who has no pointer to set. */
PEACH_EXPORT void payload_drop(void *self);

const void *payload_bytes(const payload_t *self);
size_t payload_size(const payload_t *self);

/* This process is the last that reads it: shared memory keeps no descriptor open. */
void payload_settle(payload_t *self);

/* What this process calls its shared memory; NULL when it is none. Lent. */
Peach__Shared *payload_shared(const payload_t *self);

/* Makes *frame share the payload's memory. 0 or PEACH_E_MEMORY. */
int payload_frame(payload_t *self, zmq_msg_t *frame);

#endif
