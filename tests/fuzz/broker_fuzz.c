/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */

/* The broker's shell and the core behind it, given any frames from any of four
   connections, in any order: it answers, and its structures hold.

   The input is a list of records: a byte that says whose connection (0 to 3), or that
   time passes (above), a byte of options, two bytes of length, the envelope. */
#include "shell.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* How the network takes what is sent: well, not now, not at all. */
static int network;

int __wrap_wire_send(void *socket, zmq_msg_t *route, const Peach__Envelope *envelope,
                     const wire_frames_t *frames);
int __wrap_wire_batch_send(void *socket, zmq_msg_t *route, unsigned body, wire_batch_t *batch);
void __wrap_randombytes_buf(void *bytes, size_t size);

int __wrap_wire_send(void *socket, zmq_msg_t *route, const Peach__Envelope *envelope,
                     const wire_frames_t *frames)
{
    (void)socket, (void)route;
    size_t size = peach__envelope__get_packed_size(envelope);
    uint8_t *bytes = malloc(size + 1);
    if (!bytes || peach__envelope__pack(envelope, bytes) != size) abort();
    free(bytes);
    for (size_t i = 0; frames && i < frames->count; i++)
        if (!payload_bytes(frames->payloads[i])) abort();
    return network;
}

int __wrap_wire_batch_send(void *socket, zmq_msg_t *route, unsigned body, wire_batch_t *batch)
{
    (void)socket, (void)route, (void)body;
    if (batch->size > batch->capacity) abort();
    return network;
}

void __wrap_randombytes_buf(void *bytes, size_t size) { memset(bytes, 0, size); }

static void take(broker_t *b, const uint8_t *envelope, size_t size, unsigned who, unsigned frames)
{
    zmq_msg_t route, payloads[3];
    wire_message_t *message;
    const char *why;
    char name[5] = {0, 'r', 'o', 'u', (char)who};
    zmq_msg_init_size(&route, sizeof name);
    memcpy(zmq_msg_data(&route), name, sizeof name);
    for (unsigned i = 0; i < frames; i++) {
        zmq_msg_init_size(&payloads[i], 5000 * i);
        if (i > 0) memset(zmq_msg_data(&payloads[i]), 0, 5000 * i);
    }
    if (wire_decode(envelope, size, payloads, frames, &message, &why) == 0) {
        broker_message(b, &route, message);
        wire_message_destroy(&message);
    }
    for (unsigned i = 0; i < frames; i++) zmq_msg_close(&payloads[i]);
    zmq_msg_close(&route);
}

static void pass_time(broker_t *b, uint64_t ms)
{
    b->now_ms += ms;
    sched_tick(b->sched, b->now_ms);
    sessions_keep(b);
    sessions_beat(b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const int answers[] = {0, 0, PEACH_E_TIMEOUT, PEACH_E_LOST};
    broker_t b = {.options = {.memory_bytes = 8 << 20}};
    if (shell_init(&b) != 0) abort();
    b.now_ms = 1000;
    while (size >= 4) {
        size_t length = data[2] | (size_t)data[3] << 8;
        unsigned who = data[0], options = data[1];
        data += 4;
        size -= 4;
        network = answers[options >> 2 & 3];
        if (who > 3) {
            pass_time(&b, length);
            length = 0;
        } else {
            if (length > size) length = size;
            take(&b, data, length, who, options & 3);
        }
        shell_flush(&b);
        if (sched_verify(b.sched)) abort();
        data += length;
        size -= length;
    }
    shell_clear(&b);
    return 0;
}
