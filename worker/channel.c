/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "channel.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Each message: a mark, the number of frames, the size of each, then their bytes. The
   first frame is the envelope. The mark shows at once that something else was written into
   the stream: by a task, say. */
static const uint64_t mark = 0x68636165706b726d;
enum { HEAD_WORDS = 2 }; /* in front of the sizes */

typedef struct {
    uint8_t *bytes;
    size_t begin, end, capacity; /* what is in it: bytes[begin, end) */
} buffer_t;

struct channel {
    int fd;
    size_t most; /* bytes of a message that comes */
    buffer_t in, out;
};

channel_t *channel_new(int fd, size_t most)
{
    channel_t *self = calloc(1, sizeof *self);
    if (!self) return NULL;
    self->fd = fd;
    self->most = most ? most : SIZE_MAX / 2;
    return self;
}

void channel_destroy(channel_t **self_p)
{
    channel_t *self = *self_p;
    *self_p = NULL;
    if (!self) return;
    close(self->fd);
    free(self->in.bytes);
    free(self->out.bytes);
    free(self);
}

int channel_fd(const channel_t *self) { return self->fd; }

/* Makes room for size more bytes behind the end. */
static bool reserve(buffer_t *b, size_t size)
{
    enum { KEEP = 1 << 20 };
    if (b->begin == b->end) {
        b->begin = b->end = 0;
        if (b->capacity > KEEP && size <= KEEP) { /* give back what one large message took */
            free(b->bytes);
            *b = (buffer_t){0};
        }
    }
    if (b->capacity - b->end >= size) return true;
    if (b->begin > 0) {
        memmove(b->bytes, b->bytes + b->begin, b->end - b->begin);
        b->end -= b->begin;
        b->begin = 0;
        if (b->capacity - b->end >= size) return true;
    }
    size_t capacity = b->end + size > 2 * b->capacity ? b->end + size : 2 * b->capacity;
    uint8_t *bytes = realloc(b->bytes, capacity);
    if (!bytes) return false;
    b->bytes = bytes;
    b->capacity = capacity;
    return true;
}

static void append(buffer_t *b, const void *bytes, size_t size)
{
    if (size) memcpy(b->bytes + b->end, bytes, size);
    b->end += size;
}

/* Head and frames of a message whose envelope of that size is appended next. */
static bool put_head(buffer_t *out, size_t envelope, const wire_frames_t *frames)
{
    uint64_t head[HEAD_WORDS + 1] = {mark, 1 + (frames ? frames->count : 0), envelope};
    size_t total = sizeof head + envelope;
    for (size_t i = 0; frames && i < frames->count; i++)
        total += sizeof(uint64_t) + payload_size(frames->payloads[i]);
    if (!reserve(out, total)) return false;
    append(out, head, sizeof head);
    for (size_t i = 0; frames && i < frames->count; i++) {
        uint64_t size = payload_size(frames->payloads[i]);
        append(out, &size, sizeof size);
    }
    return true;
}

static void put_frames(buffer_t *out, const wire_frames_t *frames)
{
    for (size_t i = 0; frames && i < frames->count; i++)
        append(out, payload_bytes(frames->payloads[i]), payload_size(frames->payloads[i]));
}

int channel_put(channel_t *self, const Peach__Envelope *envelope, const wire_frames_t *frames)
{
    size_t size = peach__envelope__get_packed_size(envelope);
    if (!put_head(&self->out, size, frames)) return PEACH_E_MEMORY;
    peach__envelope__pack(envelope, self->out.bytes + self->out.end);
    self->out.end += size;
    put_frames(&self->out, frames);
    return 0;
}

int channel_put_batch(channel_t *self, unsigned body, wire_batch_t *batch)
{
    uint8_t head[WIRE_BATCH_HEAD];
    if (wire_batch_close(batch) != 0) return PEACH_E_MEMORY;
    size_t head_size = wire_batch_head(head, body, batch);
    if (!put_head(&self->out, head_size + batch->size, &batch->frames)) return PEACH_E_MEMORY;
    append(&self->out, head, head_size);
    append(&self->out, batch->bytes, batch->size);
    put_frames(&self->out, &batch->frames);
    return 0;
}

bool channel_pending(const channel_t *self) { return self->out.begin < self->out.end; }

int channel_flush(channel_t *self)
{
    buffer_t *out = &self->out;
    while (out->begin < out->end) {
        ssize_t n = send(self->fd, out->bytes + out->begin, out->end - out->begin, MSG_NOSIGNAL);
        if (n >= 0)
            out->begin += (size_t)n;
        else if (errno == EAGAIN || errno == EWOULDBLOCK)
            return 0;
        else if (errno != EINTR)
            return PEACH_E_LOST;
    }
    return 0;
}

/* Bytes of the message at the front of the buffer as far as its head is there; 0
   when its head is not. PEACH_E_PROTOCOL in *status if it cannot be one. */
static size_t message_size(const channel_t *self, int *status)
{
    const buffer_t *in = &self->in;
    size_t have = in->end - in->begin;
    uint64_t head[HEAD_WORDS], size;
    if (have == 0) return 0;
    if (memcmp(in->bytes + in->begin, &mark, have < sizeof mark ? have : sizeof mark) != 0)
        *status = PEACH_E_PROTOCOL;
    if (*status || have < sizeof head) return 0;
    memcpy(head, in->bytes + in->begin, sizeof head);
    uint64_t count = head[1];
    if (count == 0 || count > WIRE_MAX_FRAMES + 1) {
        *status = PEACH_E_PROTOCOL;
        return 0;
    }
    size_t total = sizeof count * (size_t)(HEAD_WORDS + count), left = self->most;
    if (have < total) return 0;
    for (size_t i = 0; i < count; i++) {
        memcpy(&size, in->bytes + in->begin + sizeof size * (HEAD_WORDS + i), sizeof size);
        if (size > left) {
            *status = PEACH_E_PROTOCOL;
            return 0;
        }
        left -= (size_t)size;
        total += (size_t)size;
    }
    return total;
}

/* Decodes the message that is whole at the front of the buffer. */
static int decode(buffer_t *in, wire_message_t **message_p)
{
    const uint8_t *head = in->bytes + in->begin;
    uint64_t count, size;
    memcpy(&count, head + sizeof mark, sizeof count);
    const uint8_t *at = head + sizeof count * (HEAD_WORDS + count), *envelope = at;
    uint64_t envelope_size = 0;
    zmq_msg_t *frames = calloc(count, sizeof *frames);
    int rc = frames ? 0 : PEACH_E_MEMORY;
    size_t made = 0;
    for (size_t i = 0; i < count && rc == 0; i++) {
        memcpy(&size, head + sizeof size * (HEAD_WORDS + i), sizeof size);
        if (i == 0) {
            envelope_size = size;
        } else if (zmq_msg_init_size(&frames[made], size) != 0) {
            rc = PEACH_E_MEMORY;
        } else {
            if (size) memcpy(zmq_msg_data(&frames[made]), at, size);
            made++;
        }
        at += size;
    }
    const char *why;
    if (rc == 0) rc = wire_decode(envelope, envelope_size, frames, made, message_p, &why);
    for (size_t i = 0; i < made; i++) zmq_msg_close(&frames[i]);
    free(frames);
    in->begin += (size_t)(at - head);
    return rc;
}

int channel_get(channel_t *self, wire_message_t **message_p)
{
    enum { READ_AHEAD = 64 << 10, STEP = 1 << 20 };
    buffer_t *in = &self->in;
    int status = 0;
    *message_p = NULL;
    for (;;) {
        size_t size = message_size(self, &status);
        if (status) return status;
        size_t have = in->end - in->begin;
        if (size > 0 && have >= size) return decode(in, message_p);
        /* Room for what a head announces is made as it comes: it may be a lie. */
        size_t want = size > have ? size - have : 0, most = have > STEP ? have : STEP;
        if (want > most) want = most;
        if (want < READ_AHEAD) want = READ_AHEAD;
        if (!reserve(in, want)) return PEACH_E_MEMORY;
        ssize_t n = recv(self->fd, in->bytes + in->end, in->capacity - in->end, 0);
        if (n > 0)
            in->end += (size_t)n;
        else if (n == 0)
            return PEACH_E_LOST;
        else if (errno == EAGAIN || errno == EWOULDBLOCK)
            return PEACH_E_TIMEOUT;
        else if (errno != EINTR)
            return PEACH_E_LOST;
    }
}

bool channel_ready(channel_t *self, int timeout_ms)
{
    int status = 0;
    size_t size = message_size(self, &status);
    if (status || (size > 0 && self->in.end - self->in.begin >= size)) return true;
    struct pollfd item = {self->fd, POLLIN, 0};
    return poll(&item, 1, timeout_ms) > 0;
}
