/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "wire.h"

#include "value_tree.h"
#include "wire_check.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- an arena for what protobuf-c allocates while it unpacks: one envelope is
   thousands of small blocks with one lifetime ---- */

enum { ARENA_BLOCK = 16 << 10 };
/* An envelope of WIRE_MAX_ENVELOPE cannot legally need more than this; an
   illegal one (millions of empty submessages) fails here. */
static const size_t arena_limit = (size_t)WIRE_MAX_ENVELOPE * 8;

typedef struct block {
    struct block *next;
    size_t used, size;
    max_align_t memory[];
} block_t;

typedef struct {
    block_t *blocks;
    size_t total;
} arena_t;

static void *arena_alloc(void *data, size_t size)
{
    arena_t *arena = data;
    size = (size + sizeof(max_align_t) - 1) & ~(sizeof(max_align_t) - 1);
    block_t *block = arena->blocks;
    if (!block || block->size - block->used < size) {
        size_t room = size > ARENA_BLOCK ? size : ARENA_BLOCK;
        if (arena->total + room > arena_limit) return NULL;
        block = malloc(sizeof *block + room);
        if (!block) return NULL;
        *block = (block_t){arena->blocks, 0, room};
        arena->blocks = block;
        arena->total += room;
    }
    void *memory = (char *)block->memory + block->used;
    block->used += size;
    return memory;
}

static void arena_free(void *data, void *memory)
{
    (void)data;
    (void)memory;
}

static void arena_clear(arena_t *arena)
{
    for (block_t *next; arena->blocks; arena->blocks = next) {
        next = arena->blocks->next;
        free(arena->blocks);
    }
}

/* ---- receiving ---- */

struct wire_message {
    arena_t arena;
    Peach__Envelope *envelope;
    payload_t **payloads; /* of the frames; NULL entries were an error */
    size_t count;
    struct opened *opened; /* shared memory */
    size_t opened_count;
    size_t bytes; /* of the envelope, its frames, and what was opened */
};

struct opened {
    const Peach__Payload *field;
    payload_t *payload;
};

static int take_frames(wire_message_t *self, zmq_msg_t *frames, size_t count)
{
    if (count == 0) return 0;
    self->payloads = calloc(count, sizeof *self->payloads);
    if (!self->payloads) return PEACH_E_MEMORY;
    for (; self->count < count; self->count++) {
        payload_t *payload = payload_new_frame(&frames[self->count]);
        if (!payload) return PEACH_E_MEMORY;
        self->payloads[self->count] = payload;
    }
    return 0;
}

int wire_decode(const void *envelope, size_t size, zmq_msg_t *frames, size_t frame_count,
                wire_message_t **message_p, const char **why)
{
    assert(message_p && why);
    *message_p = NULL;
    *why = "the envelope is larger than the limit";
    if (size > WIRE_MAX_ENVELOPE) return PEACH_E_LIMIT;
    *why = "too many frames";
    if (frame_count > WIRE_MAX_FRAMES) return PEACH_E_LIMIT;
    *why = "out of memory";
    wire_message_t *self = calloc(1, sizeof *self);
    if (!self) return PEACH_E_MEMORY;
    self->bytes = size;
    for (size_t i = 0; i < frame_count; i++) self->bytes += zmq_msg_size(&frames[i]);
    ProtobufCAllocator allocator = {arena_alloc, arena_free, &self->arena};
    self->envelope = peach__envelope__unpack(&allocator, size, envelope);
    int rc = PEACH_E_PROTOCOL;
    if (!self->envelope)
        *why = "the first frame is no peach envelope";
    else if ((rc = wire_check(self->envelope, frame_count, why)) == 0)
        rc = take_frames(self, frames, frame_count);
    if (rc) wire_message_destroy(&self);
    *message_p = self;
    return rc;
}

static int receive_frame(void *socket, zmq_msg_t *frame)
{
    int rc;
    do rc = zmq_msg_recv(frame, socket, ZMQ_DONTWAIT);
    while (rc < 0 && errno == EINTR);
    if (rc >= 0) return 0;
    return errno == EAGAIN ? PEACH_E_TIMEOUT : PEACH_E_SYSTEM;
}

int wire_receive(void *socket, zmq_msg_t *route, wire_message_t **message_p, const char **why)
{
    *message_p = NULL;
    *why = "";
    if (route) {
        int rc = receive_frame(socket, route);
        if (rc) return rc;
        if (!zmq_msg_more(route)) {
            *why = "the message is empty";
            return PEACH_E_PROTOCOL;
        }
    }
    zmq_msg_t envelope, *frames = NULL;
    size_t count = 0, capacity = 0;
    zmq_msg_init(&envelope);
    int rc = receive_frame(socket, &envelope);
    bool more = rc == 0 && zmq_msg_more(&envelope);
    bool dropped = false;
    while (more) {
        zmq_msg_t frame;
        zmq_msg_init(&frame);
        if ((rc = receive_frame(socket, &frame)) != 0) break;
        more = zmq_msg_more(&frame);
        if (count == capacity && count <= WIRE_MAX_FRAMES) {
            zmq_msg_t *grown = realloc(frames, (capacity = capacity * 2 + 4) * sizeof *frames);
            if (grown)
                frames = grown;
            else
                capacity = count;
        }
        if (count < capacity) {
            zmq_msg_init(&frames[count]);
            zmq_msg_move(&frames[count++], &frame);
        } else {
            dropped = true;
        }
        zmq_msg_close(&frame);
    }
    if (rc == 0 && dropped) {
        *why = "too many frames";
        rc = PEACH_E_LIMIT;
    } else if (rc == 0) {
        rc = wire_decode(zmq_msg_data(&envelope), zmq_msg_size(&envelope), frames, count, message_p,
                         why);
    }
    for (size_t i = 0; i < count; i++) zmq_msg_close(&frames[i]);
    free(frames);
    zmq_msg_close(&envelope);
    return rc;
}

const Peach__Envelope *wire_envelope(const wire_message_t *self) { return self->envelope; }

size_t wire_message_bytes(const wire_message_t *self) { return self->bytes; }

static payload_t *open_shared(wire_message_t *self, const Peach__Payload *field)
{
    for (size_t i = 0; i < self->opened_count; i++)
        if (self->opened[i].field == field) return payload_ref(self->opened[i].payload);
    block_t *block = block_open(field->shared);
    payload_t *payload = block ? payload_new_block(block) : NULL;
    struct opened *grown = NULL;
    if (payload) grown = realloc(self->opened, (self->opened_count + 1) * sizeof *grown);
    if (!grown) {
        int why = block ? ENOMEM : errno;
        payload_unref(&payload);
        errno = why;
        return NULL;
    }
    self->opened = grown;
    self->opened[self->opened_count++] = (struct opened){field, payload_ref(payload)};
    self->bytes += payload_size(payload);
    return payload;
}

payload_t *wire_payload(wire_message_t *self, const Peach__Payload *field)
{
    errno = ENOMEM;
    if (!field) return payload_new(NULL, 0);
    if (field->frame) return payload_ref(self->payloads[field->frame - 1]);
    if (field->shared) return open_shared(self, field);
    return payload_new(field->inline_.data, field->inline_.len);
}

bool wire_at_hand(wire_message_t *self, const Peach__Payload *field)
{
    if (!field || !field->shared) return true;
    payload_t *payload = open_shared(self, field);
    bool gone = !payload && errno == ENOENT;
    payload_unref(&payload);
    return !gone;
}

void wire_message_destroy(wire_message_t **self_p)
{
    wire_message_t *self = *self_p;
    *self_p = NULL;
    if (!self) return;
    for (size_t i = 0; i < self->count; i++) payload_unref(&self->payloads[i]);
    free(self->payloads);
    for (size_t i = 0; i < self->opened_count; i++) payload_unref(&self->opened[i].payload);
    free(self->opened);
    arena_clear(&self->arena);
    free(self);
}

/* ---- sending ---- */

static int keep(payload_t ***list, size_t *count, size_t *capacity, payload_t *payload)
{
    if (*count == WIRE_MAX_FRAMES) return PEACH_E_LIMIT;
    if (*count == *capacity) {
        size_t grown_to = *capacity ? *capacity * 2 : 8;
        payload_t **grown = realloc(*list, grown_to * sizeof *grown);
        if (!grown) return PEACH_E_MEMORY;
        *list = grown;
        *capacity = grown_to;
    }
    (*list)[(*count)++] = payload_ref(payload);
    return 0;
}

int wire_attach(wire_frames_t *frames, payload_t *payload, Peach__Payload *field)
{
    peach__payload__init(field);
    size_t size = payload_size(payload);
    Peach__Shared *shared = frames->shares ? payload_shared(payload) : NULL;
    if (shared) {
        field->shared = shared;
        return keep(&frames->shared, &frames->shared_count, &frames->shared_capacity, payload);
    }
    if (size <= WIRE_INLINE_BYTES) {
        field->inline_.data = (uint8_t *)payload_bytes(payload);
        field->inline_.len = size;
        return 0;
    }
    if (!payload_bytes(payload)) return PEACH_E_MEMORY; /* it cannot be mapped */
    int rc = keep(&frames->payloads, &frames->count, &frames->capacity, payload);
    if (rc == 0) field->frame = (uint32_t)frames->count;
    if (rc == 0) frames->bytes += size;
    return rc;
}

void wire_frames_clear(wire_frames_t *frames)
{
    for (size_t i = 0; i < frames->count; i++) payload_unref(&frames->payloads[i]);
    for (size_t i = 0; i < frames->shared_count; i++) payload_unref(&frames->shared[i]);
    free(frames->payloads);
    free(frames->shared);
    *frames = (wire_frames_t){.shares = frames->shares};
}

static int send_frame(void *socket, zmq_msg_t *frame, bool more)
{
    int rc;
    do rc = zmq_msg_send(frame, socket, ZMQ_DONTWAIT | (more ? ZMQ_SNDMORE : 0));
    while (rc < 0 && errno == EINTR);
    if (rc >= 0) return 0;
    int status = errno == EAGAIN         ? PEACH_E_TIMEOUT
                 : errno == EHOSTUNREACH ? PEACH_E_LOST
                                         : PEACH_E_SYSTEM;
    zmq_msg_close(frame);
    return status;
}

int wire_send_frames(void *socket, zmq_msg_t *route, zmq_msg_t *first, const wire_frames_t *frames)
{
    if (route) {
        zmq_msg_t head;
        zmq_msg_init(&head);
        zmq_msg_copy(&head, route);
        int rc = send_frame(socket, &head, true);
        if (rc) {
            zmq_msg_close(first);
            return rc;
        }
    }
    /* Once the first frame is accepted ZeroMQ accepts the rest of the message. */
    size_t count = frames ? frames->count : 0;
    int rc = send_frame(socket, first, count > 0);
    for (size_t i = 0; rc == 0 && i < count; i++) {
        zmq_msg_t frame;
        rc = payload_frame(frames->payloads[i], &frame);
        if (rc == 0) rc = send_frame(socket, &frame, i + 1 < count);
    }
    return rc;
}

int wire_send(void *socket, zmq_msg_t *route, const Peach__Envelope *envelope,
              const wire_frames_t *frames)
{
    zmq_msg_t first;
    if (zmq_msg_init_size(&first, peach__envelope__get_packed_size(envelope)) != 0)
        return PEACH_E_MEMORY;
    peach__envelope__pack(envelope, zmq_msg_data(&first));
    return wire_send_frames(socket, route, &first, frames);
}

int wire_put(wire_kept_t *self, uint64_t number, payload_t *payload, wire_frames_t *frames)
{
    peach__envelope__init(&self->envelope);
    peach__put__init(&self->put);
    self->put.number = number;
    self->put.payload = &self->payload;
    self->envelope.body_case = PEACH__ENVELOPE__BODY_PUT;
    self->envelope.put = &self->put;
    return wire_attach(frames, payload, &self->payload);
}

void wire_drop(wire_kept_t *self, uint64_t *number)
{
    peach__envelope__init(&self->envelope);
    peach__drop__init(&self->drop);
    self->drop.numbers = number;
    self->drop.n_numbers = 1;
    self->envelope.body_case = PEACH__ENVELOPE__BODY_DROP;
    self->envelope.drop = &self->drop;
}

int wire_fd(void *socket)
{
    int fd = -1;
    size_t size = sizeof fd;
    zmq_getsockopt(socket, ZMQ_FD, &fd, &size);
    return fd;
}

int wire_has_message(void *socket)
{
    int events = 0;
    size_t size = sizeof events;
    if (zmq_getsockopt(socket, ZMQ_EVENTS, &events, &size) != 0) return -1;
    return events & ZMQ_POLLIN ? 1 : 0;
}

int wire_poll(void *const *sockets, struct pollfd *items, size_t count, int timeout_ms)
{
    for (size_t i = 0; i < count; i++) {
        items[i].revents = 0;
        if (!sockets[i]) continue;
        /* Asking takes in what has come; what comes from then on wakes poll. */
        int there = wire_has_message(sockets[i]);
        if (there < 0) return -1;
        items[i].fd = there ? -1 : wire_fd(sockets[i]);
        if (there) timeout_ms = 0;
    }
    int rc = poll(items, (nfds_t)count, timeout_ms);
    for (size_t i = 0; i < count; i++)
        if (sockets[i] && items[i].fd < 0) items[i].revents = POLLIN;
    return rc;
}

void *wire_copy(const ProtobufCMessage *message)
{
    size_t size = protobuf_c_message_get_packed_size(message);
    uint8_t *bytes = malloc(size + 1);
    if (!bytes) return NULL;
    protobuf_c_message_pack(message, bytes);
    void *copy = protobuf_c_message_unpack(message->descriptor, NULL, size, bytes);
    free(bytes);
    return copy;
}

char *wire_text(const char *text)
{
    size_t size = strlen(text);
    if (size > WIRE_MAX_TEXT) size = WIRE_MAX_TEXT;
    while (size > 0 && ((unsigned char)text[size] & 0xC0) == 0x80)
        size--; /* cut between characters */
    char *copy = malloc(size + 1);
    if (!copy) return NULL;
    memcpy(copy, text, size);
    copy[size] = 0;
    for (size_t i = 0; i < size;) {
        size_t length = peach_utf8_sequence(copy + i, size - i);
        if (length == 0) copy[i] = '?';
        i += length ? length : 1;
    }
    return copy;
}
