/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */

/* Values that clients put, as far as orders here need them: a bounded store. Executors
   get each once, in shared memory. */
#include "inside.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    node_t node;        /* the one that was used last comes last */
    link_t *link;       /* NULL: its broker has dropped it */
    uint64_t id, local; /* its broker's; ours, which executors know */
    payload_t *payload;
    size_t uses;      /* by jobs of orders */
    seat_set_t seats; /* that have it */
} blob_t;

static blob_t *find(const worker_t *w, const link_t *link, uint64_t id)
{
    for (node_t *n = list_first(&w->blobs); n; n = list_next(&w->blobs, n)) {
        blob_t *blob = LIST_ITEM(n, blob_t, node);
        if (blob->link == link && blob->id == id) return blob;
    }
    return NULL;
}

static blob_t *find_local(const worker_t *w, uint64_t local)
{
    for (node_t *n = list_first(&w->blobs); n; n = list_next(&w->blobs, n))
        if (LIST_ITEM(n, blob_t, node)->local == local) return LIST_ITEM(n, blob_t, node);
    return NULL;
}

static void destroy(worker_t *w, blob_t *blob)
{
    wire_kept_t drop;
    wire_drop(&drop, &blob->local);
    for (unsigned i = 0; w->seats && i < w->seat_count; i++) {
        channel_t *channel = w->seats[i].process.channel;
        if (!channel || !seat_set_has(&blob->seats, i)) continue;
        channel_put(channel, &drop.envelope, NULL);
        channel_flush(channel);
    }
    list_remove(&blob->node);
    w->blob_bytes -= payload_size(blob->payload);
    payload_unref(&blob->payload);
    free(blob);
}

static void tell_broker(link_t *link, uint64_t id)
{
    wire_kept_t drop;
    wire_drop(&drop, &id);
    if (link->welcomed) wire_send(link->socket, NULL, &drop.envelope, NULL);
}

/* What was not used for the longest time goes while there is too much. */
static void make_room(worker_t *w)
{
    node_t *next;
    for (node_t *n = list_first(&w->blobs); n && w->blob_bytes > w->options.cache_bytes; n = next) {
        next = list_next(&w->blobs, n);
        blob_t *blob = LIST_ITEM(n, blob_t, node);
        if (blob->uses > 0) continue;
        tell_broker(blob->link, blob->id);
        destroy(w, blob);
    }
}

payload_t *blobs_share(worker_t *w, payload_t *payload)
{
    size_t size = payload ? payload_size(payload) : 0;
    if (size < BLOCK_LEAST || payload_shared(payload) || !block_local()) return payload;
    if (!w->pool && !(w->pool = block_pool_new())) return payload;
    block_t *block = block_new(w->pool, size);
    if (!block) return payload;
    memcpy(block_data(block), payload_bytes(payload), size);
    payload_t *shared = payload_new_block(block);
    if (shared) payload_unref(&payload);
    return shared ? shared : payload;
}

void blobs_take(worker_t *w, link_t *link, wire_message_t *message)
{
    const Peach__Put *put = wire_envelope(message)->put;
    if (find(w, link, put->number)) return;
    payload_t *payload = wire_payload(message, put->payload);
    blob_t *blob = payload ? calloc(1, sizeof *blob) : NULL;
    if (!blob) { /* orders that need it go back, and it may come again */
        payload_unref(&payload);
        tell_broker(link, put->number);
        return;
    }
    blob->link = link;
    blob->id = put->number;
    blob->local = ++w->last_blob;
    blob->payload = blobs_share(w, payload);
    w->blob_bytes += payload_size(blob->payload);
    list_append(&w->blobs, &blob->node);
    blob->uses++; /* it is to stay for the orders that come behind it */
    make_room(w);
    blob->uses--;
}

static void drop(worker_t *w, blob_t *blob)
{
    blob->link = NULL;
    if (blob->uses == 0) destroy(w, blob);
}

void blobs_drop(worker_t *w, link_t *link, const Peach__Drop *message)
{
    for (size_t i = 0; i < message->n_numbers; i++) {
        blob_t *blob = find(w, link, message->numbers[i]);
        if (blob) drop(w, blob);
    }
}

void blobs_forget(worker_t *w, const link_t *link)
{
    node_t *next;
    for (node_t *n = list_first(&w->blobs); n; n = next) {
        next = list_next(&w->blobs, n);
        if (LIST_ITEM(n, blob_t, node)->link == link) drop(w, LIST_ITEM(n, blob_t, node));
    }
}

void blobs_clear(worker_t *w)
{
    for (node_t *n; (n = list_first(&w->blobs)) != NULL;) destroy(w, LIST_ITEM(n, blob_t, node));
    block_pool_destroy(&w->pool);
}

/* ---- for orders ---- */

bool blobs_hold(worker_t *w, link_t *link, Peach__Job *job)
{
    bool all = true;
    for (size_t i = 0; i < job->n_refs; i++) {
        Peach__Ref *ref = job->refs[i];
        blob_t *blob = ref->blob ? find(w, link, ref->blob) : NULL;
        if (!blob) {
            if (ref->blob) tell_broker(link, ref->blob);
            all &= ref->blob == 0; /* the executor says that it is nowhere */
            ref->blob = 0;
            continue;
        }
        ref->blob = blob->local;
        blob->uses++;
        list_remove(&blob->node);
        list_append(&w->blobs, &blob->node);
    }
    return all;
}

void blobs_release(worker_t *w, const Peach__Job *job)
{
    for (size_t i = 0; i < job->n_refs; i++) {
        blob_t *blob = job->refs[i]->blob ? find_local(w, job->refs[i]->blob) : NULL;
        if (blob && --blob->uses == 0 && !blob->link) destroy(w, blob);
    }
}

int blobs_send(worker_t *w, seat_t *seat, const Peach__Job *job)
{
    unsigned index = (unsigned)(seat - w->seats);
    for (size_t i = 0; i < job->n_refs; i++) {
        blob_t *blob = job->refs[i]->blob ? find_local(w, job->refs[i]->blob) : NULL;
        if (!blob || seat_set_has(&blob->seats, index)) continue;
        wire_kept_t put;
        wire_frames_t frames = {.shares = seat->batch.frames.shares};
        int rc = wire_put(&put, blob->local, blob->payload, &frames);
        if (rc == 0) rc = channel_put(seat->process.channel, &put.envelope, &frames);
        wire_frames_clear(&frames);
        if (rc) return rc;
        seat_set_add(&blob->seats, index);
    }
    return 0;
}

void blobs_unseat(worker_t *w, const seat_t *seat)
{
    unsigned index = (unsigned)(seat - w->seats);
    for (node_t *n = list_first(&w->blobs); n; n = list_next(&w->blobs, n))
        seat_set_remove(&LIST_ITEM(n, blob_t, node)->seats, index);
}
