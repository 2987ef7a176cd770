/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */

/* An envelope with some frames behind it: what passes the checks can be used as the
   code behind them uses it. The first byte says how many frames there are. */
#include "batch.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use(wire_message_t *message, const Peach__Payload *field)
{
    payload_t *payload = wire_payload(message, field);
    if (!payload && !field->shared) abort(); /* shared memory may be gone */
    payload_unref(&payload);
}

/* All rows of all columns. */
static void use_singles(Peach__Singles **singles, size_t count)
{
    volatile uint64_t sum = 0;
    for (size_t i = 0; i < count; i++) {
        size_t offset = 0;
        for (size_t row = 0; row < singles[i]->n_ids; row++) {
            wire_single_t single = wire_single(singles[i], row, &offset);
            sum += single.id + single.item + single.elapsed_us;
            for (size_t k = 0; k < single.size; k++) sum += single.payload[k];
        }
        if (offset != singles[i]->payloads.len) abort();
    }
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
        if (e->body_case == PEACH__ENVELOPE__BODY_SUBMIT)
            use_singles(e->submit->singles, e->submit->n_singles);
        if (e->body_case == PEACH__ENVELOPE__BODY_RESULTS)
            use_singles(e->results->singles, e->results->n_singles);
        if (e->body_case == PEACH__ENVELOPE__BODY_RESULTS)
            for (size_t i = 0; i < e->results->n_results; i++)
                for (size_t j = 0; j < e->results->results[i]->n_segments; j++)
                    use(message, e->results->results[i]->segments[j]->payload);
        if (e->body_case == PEACH__ENVELOPE__BODY_PUT) use(message, e->put->payload);
        if (e->body_case == PEACH__ENVELOPE__BODY_PRELOAD)
            for (size_t i = 0; i < e->preload->n_preloads; i++)
                use(message, e->preload->preloads[i]->source);
    }
    wire_message_destroy(&message);
    for (size_t i = 0; i < count; i++) zmq_msg_close(&frames[i]);
    return 0;
}
