/* The stream between a supervisor and one executor: the messages of the wire
   protocol over a Unix socket pair, each with the sizes of its frames in front.
   Both ends are of one build, so it has no version.

   This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#ifndef PEACH_CHANNEL_H
#define PEACH_CHANNEL_H

#include "batch.h"

typedef struct channel channel_t;

/* The largest message from an executor: a result of the largest size behind a full batch. */
#define CHANNEL_FROM_EXECUTOR (WIRE_DEFAULT_MAX_PAYLOAD + 96 * ((size_t)1 << 20))

/* Takes the socket. most: bytes that a message that comes may have; 0: any number. NULL when
   memory is out. */
channel_t *channel_new(int fd, size_t most);
void channel_destroy(channel_t **self_p);
int channel_fd(const channel_t *self);

/* Queues a message; nothing is written yet. 0 or PEACH_E_MEMORY. */
int channel_put(channel_t *self, const Peach__Envelope *envelope, const wire_frames_t *frames);
int channel_put_batch(channel_t *self, unsigned body, wire_batch_t *batch);

/* Writes what is queued, as far as the socket takes it (all of it if the socket
   blocks). 0, or PEACH_E_LOST when the other end is gone. */
int channel_flush(channel_t *self);
bool channel_pending(const channel_t *self);

/* Reads the next message. 0; PEACH_E_TIMEOUT when there is no whole one and the
   socket does not block; PEACH_E_LOST at the end of the stream; another status
   when the stream is broken: somebody else wrote into it. */
int channel_get(channel_t *self, wire_message_t **message_p);

/* Whether a message can be got without waiting, now or within timeout_ms. */
bool channel_ready(channel_t *self, int timeout_ms);

#endif
