/* Messages <-> frames (batch.h has those that grow by one element at a time). A message is one
Envelope and the payloads it points to; on the wire it is one ZeroMQ frame for the envelope and one
for each payload over WIRE_INLINE_BYTES. PROTOCOL.md is the specification.

This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#ifndef PEACH_WIRE_H
#define PEACH_WIRE_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>

#include "payload.h"
#include "peach.pb-c.h"
#include <peach/status.h>

enum {
    WIRE_VERSION = 4,
    WIRE_SESSION_BYTES = 16,
    WIRE_DIGEST_BYTES = 32,
    WIRE_INLINE_BYTES = 4096,         /* larger payloads are frames of their own */
    WIRE_MAX_ENVELOPE = 16 << 20,     /* bytes of the first frame */
    WIRE_BATCH_BYTES = 1 << 20,       /* a sender's batch is sent at this size, */
    WIRE_BATCH_FRAMES = 64 << 20,     /* or when its frames have these bytes */
    WIRE_MAX_BATCH = 4096,            /* tasks, results, … in one message */
    WIRE_MAX_FRAMES = WIRE_MAX_BATCH, /* payload frames in one message */
    WIRE_MAX_NAME = 255,              /* bytes of a function's, host's, label's name */
    WIRE_MAX_TEXT = 1 << 20,          /* bytes of a message or traceback */
    WIRE_MAX_NAMES = 65536,           /* functions, ranges and the like in one message */
    WIRE_MAX_PRIORITY = 7,
    WIRE_LOGS_ALL = 1, /* Job.logs */
    WIRE_LOGS_NOTICES = 2,
    WIRE_MAX_DEPTH = 16,      /* of jobs of tasks of jobs */
    WIRE_MAX_ITEMS = 1 << 20, /* items in one task */
    WIRE_MAX_WEIGHT = 1000,   /* of a client against others */
    WIRE_MAX_REFS = 4096,     /* values that were put, in one job */
    WIRE_MAX_DOUBTS = 64,     /* brokers whose loss left a client in doubt */
};
#define WIRE_DEFAULT_MAX_PAYLOAD ((uint64_t)256 << 20) /* bytes of one payload */
#define WIRE_DEFAULT_ENDPOINT "tcp://127.0.0.1:5001"

/* ---- receiving ---- */

typedef struct wire_message wire_message_t;

/* Decodes an envelope and takes its payload frames (they are moved out of frames
   and empty afterwards). Everything that PROTOCOL.md bounds has been checked
   when this returns 0. Otherwise *message_p is NULL, the result is
   PEACH_E_PROTOCOL, PEACH_E_LIMIT or PEACH_E_MEMORY, and *why says what is wrong
   (static storage). */
int wire_decode(const void *envelope, size_t size, zmq_msg_t *frames, size_t frame_count,
                wire_message_t **message_p, const char **why);

/* Receives the frames of one message from a socket without blocking and decodes
   it. PEACH_E_TIMEOUT when none is there; PEACH_E_SYSTEM when the socket fails.
   route gets the routing id (a ROUTER's first frame), and may be NULL for a
   DEALER. A message that cannot be decoded was consumed whole. */
int wire_receive(void *socket, zmq_msg_t *route, wire_message_t **message_p, const char **why);

const Peach__Envelope *wire_envelope(const wire_message_t *self);

/* Bytes of its frames, and of its shared memory that was opened. */
size_t wire_message_bytes(const wire_message_t *self);

/* The payload of a field of this message, as a new reference. A field that is absent
   is an empty payload. NULL with errno: ENOMEM, or what block_open says of shared
   memory (it is opened here: before the message is acknowledged). */
payload_t *wire_payload(wire_message_t *self, const Peach__Payload *field);

/* False when it was in the memory of a process that is gone. */
bool wire_at_hand(wire_message_t *self, const Peach__Payload *field);

void wire_message_destroy(wire_message_t **self_p);

/* ---- sending ---- */

/* The payload frames of a message that is being built. */
typedef struct {
    payload_t **payloads; /* references of its own: those that are frames, */
    size_t count, capacity;
    size_t bytes;       /* of these */
    payload_t **shared; /* and those that are shared memory */
    size_t shared_count, shared_capacity;
    bool shares; /* the receiver can open shared memory */
} wire_frames_t;

/* Makes *field point to the payload: inline, as the next frame, or as shared memory. The
   payload must live until the message was sent; shared memory until it was taken.
   PEACH_E_MEMORY, or PEACH_E_LIMIT when the message has WIRE_MAX_FRAMES already. */
int wire_attach(wire_frames_t *frames, payload_t *payload, Peach__Payload *field);
void wire_frames_clear(wire_frames_t *frames); /* all but shares */

/* Sends without blocking; route (a ROUTER's first frame) may be NULL. 0,
   PEACH_E_TIMEOUT when the peer's queue is full, PEACH_E_LOST when a ROUTER has
   no such peer, PEACH_E_MEMORY, PEACH_E_SYSTEM. Nothing was sent unless 0. */
int wire_send(void *socket, zmq_msg_t *route, const Peach__Envelope *envelope,
              const wire_frames_t *frames);

/* The same of a message whose first frame is ready; takes first. */
int wire_send_frames(void *socket, zmq_msg_t *route, zmq_msg_t *first, const wire_frames_t *frames);

/* What is said of a value that is kept: its envelope, and what that points to. */
typedef struct {
    Peach__Envelope envelope;
    Peach__Put put;
    Peach__Drop drop;
    Peach__Payload payload;
} wire_kept_t;

/* Keep it under this number; as wire_attach, which the payload goes through. */
int wire_put(wire_kept_t *self, uint64_t number, payload_t *payload, wire_frames_t *frames);

/* It is not needed any more. The number is lent. */
void wire_drop(wire_kept_t *self, uint64_t *number);

/* The descriptor that becomes readable when something happens to the socket: to be
   polled by whoever reads the socket until it has no more, and did so once before.
   Polling the socket itself costs system calls each time. */
int wire_fd(void *socket);

/* Whether a message can be taken from the socket now: 1, 0, or -1 with errno. */
int wire_has_message(void *socket);

/* As poll, for descriptors and sockets: where sockets[i] is not NULL, item i is that
   socket, its fd is filled in, and POLLIN says that it may have a message. zmq_poll does
   the same with three times the system calls. */
int wire_poll(void *const *sockets, struct pollfd *items, size_t count, int timeout_ms);

/* A deep copy of a protobuf message, to be freed with its free_unpacked; NULL when
   memory is out. */
void *wire_copy(const ProtobufCMessage *message);

/* Text of any origin as valid UTF-8 of at most WIRE_MAX_TEXT bytes, with a '?' for each byte
   that is none, in memory to be freed; NULL when memory is out. */
char *wire_text(const char *text);

#endif
