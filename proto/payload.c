/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "payload.h"

#include <peach/status.h>

#include <stdlib.h>
#include <string.h>

struct payload {
    size_t references;
    zmq_msg_t message;
};

payload_t *payload_new_frame(zmq_msg_t *frame)
{
    payload_t *self = malloc(sizeof *self);
    if (!self) return NULL;
    self->references = 1;
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

payload_t *payload_ref(payload_t *self)
{
    self->references++;
    return self;
}

void payload_unref(payload_t **self_p)
{
    payload_t *self = *self_p;
    *self_p = NULL;
    if (!self || --self->references > 0) return;
    zmq_msg_close(&self->message);
    free(self);
}

/* zmq_msg_data takes a pointer that is not const, and changes nothing. */
const void *payload_bytes(const payload_t *self)
{
    return zmq_msg_data((zmq_msg_t *)&self->message);
}
size_t payload_size(const payload_t *self) { return zmq_msg_size(&self->message); }

int payload_frame(payload_t *self, zmq_msg_t *frame)
{
    zmq_msg_init(frame);
    return zmq_msg_copy(frame, &self->message) == 0 ? 0 : PEACH_E_MEMORY;
}
