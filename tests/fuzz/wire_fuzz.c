/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */

/* An envelope with some frames behind it: what passes the checks can be used as the
   code behind them uses it. The first byte says how many frames there are. */
#include "wire.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use(wire_message_t *message, const Peach__Payload *field)
{
    payload_t *payload = wire_payload(message, field);
    if (!payload) abort();
    payload_unref(&payload);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum { MAX = 4 };
    zmq_msg_t frames[MAX];
    wire_message_t *message;
    const char *why;
    if (size == 0) return 0;
    size_t count = data[0] % (MAX + 1);
    for (size_t i = 0; i < count; i++) zmq_msg_init_size(&frames[i], i);
    int rc = wire_decode(data + 1, size - 1, frames, count, &message, &why);
    if ((rc == 0) != (message != NULL) || !why) abort();
    if (message) {
        const Peach__Envelope *e = wire_envelope(message);
        if (e->body_case == PEACH__ENVELOPE__BODY_SUBMIT)
            for (size_t i = 0; i < e->submit->n_tasks; i++) {
                if (!*e->submit->jobs[e->submit->tasks[i]->job]->function) abort();
                use(message, e->submit->tasks[i]->payload);
            }
        if (e->body_case == PEACH__ENVELOPE__BODY_RESULTS)
            for (size_t i = 0; i < e->results->n_results; i++)
                for (size_t j = 0; j < e->results->results[i]->n_segments; j++)
                    use(message, e->results->results[i]->segments[j]->payload);
        if (e->body_case == PEACH__ENVELOPE__BODY_PRELOAD)
            for (size_t i = 0; i < e->preload->n_preloads; i++)
                use(message, e->preload->preloads[i]->source);
    }
    wire_message_destroy(&message);
    for (size_t i = 0; i < count; i++) zmq_msg_close(&frames[i]);
    return 0;
}
