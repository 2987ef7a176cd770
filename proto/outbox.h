/* What is on its way to a peer. A message waits here until ZeroMQ takes it; one that
   is kept waits on until the peer acknowledged it, and is sent again when the peer
   comes back on another connection. Kept messages are numbered 1, 2, ... (field
   serial of Results), and a receiver takes each number once: that is how results
   survive a lost connection without being delivered twice.

   This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#ifndef PEACH_OUTBOX_H
#define PEACH_OUTBOX_H

#include "batch.h"
#include "list.h"

typedef struct {
    list_t letters;     /* oldest first: sent ones that are kept, then those to be sent */
    node_t *next;       /* the first one to be sent; NULL: none */
    size_t bytes;       /* of all letters, */
    size_t loose_bytes; /* and of those that are not kept */
    uint64_t serial;    /* the last number given */
    uint64_t acknowledged;
} outbox_t;

void outbox_init(outbox_t *self);
void outbox_clear(outbox_t *self);

/* Puts the batch behind the others, as the given body (see wire_batch_send), and
   empties it. keep: it is numbered, and kept until it is acknowledged; its body must
   be Results. 0 or PEACH_E_MEMORY (the batch is as before). */
int outbox_add(outbox_t *self, unsigned body, wire_batch_t *batch, bool keep);

/* Puts one message behind the others, not kept. 0, PEACH_E_MEMORY, PEACH_E_LIMIT. */
int outbox_add_envelope(outbox_t *self, const Peach__Envelope *envelope,
                        const wire_frames_t *frames);

/* Hands to ZeroMQ what it takes. 0 when all is sent, else as wire_send. */
int outbox_send(outbox_t *self, void *socket, zmq_msg_t *route);

bool outbox_pending(const outbox_t *self);

/* The peer has all numbers up to received. A number that was not sent yet is
   answered with false and changes nothing. */
bool outbox_acknowledge(outbox_t *self, uint64_t received);

/* The peer is on a new connection and has all numbers up to received: what is kept
   and not there is sent again, everything else is dropped. */
bool outbox_rewind(outbox_t *self, uint64_t received);

/* The receiver's side: what to do with a message of that number. */
typedef enum {
    INBOX_TAKE,      /* it is the next one, or has no number */
    INBOX_DUPLICATE, /* it came before */
    INBOX_GAP        /* one before it is missing: the session cannot go on */
} inbox_verdict_t;
inbox_verdict_t inbox_judge(uint64_t *received, uint64_t serial);

#endif
