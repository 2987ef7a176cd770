/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */

/* Values that clients put: kept until they are dropped or their client is gone, and sent
   to a worker once, before the first order that refers to them. */
#include "shell.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct blob {
    node_t node;         /* in its client's list */
    uint64_t id, number; /* ours; its client's */
    payload_t *payload;
};

static blob_t *find(const peer_t *client, uint64_t number)
{
    for (node_t *n = list_first(&client->blobs); n; n = list_next(&client->blobs, n))
        if (LIST_ITEM(n, blob_t, node)->number == number) return LIST_ITEM(n, blob_t, node);
    return NULL;
}

/* ---- from clients ---- */

/* Keeps it, or says why not. */
static int keep(broker_t *b, peer_t *client, wire_message_t *message, char *why, size_t size)
{
    const Peach__Put *put = wire_envelope(message)->put;
    if (find(client, put->number)) return 0; /* it comes again after a lost answer */
    payload_t *payload = wire_payload(message, put->payload);
    snprintf(why, size, "the value cannot be taken: %s", strerror(errno));
    if (!payload) return errno == ENOMEM ? PEACH_E_MEMORY : PEACH_E_SYSTEM;
    size_t bytes = payload_size(payload);
    int rc = PEACH_E_LIMIT;
    if (bytes > b->options.max_payload_bytes)
        snprintf(why, size,
                 "the value is %zu bytes encoded, over the broker's limit of %llu (see "
                 "peach broker --max-payload)",
                 bytes, (unsigned long long)b->options.max_payload_bytes);
    else if (client->blob_count >= WIRE_MAX_REFS)
        snprintf(why, size, "this client has put %d values already: drop some", WIRE_MAX_REFS);
    else if (b->blob_bytes + bytes > b->options.memory_bytes)
        snprintf(why, size,
                 "the values that were put take %llu MiB already, and the broker keeps "
                 "no more than %llu (see peach broker --memory)",
                 (unsigned long long)(b->blob_bytes >> 20),
                 (unsigned long long)(b->options.memory_bytes >> 20));
    else
        rc = PEACH_E_MEMORY;
    blob_t *blob = rc == PEACH_E_MEMORY ? calloc(1, sizeof *blob) : NULL;
    if (!blob || idmap_put(b->blobs, b->last_blob + 1, blob) != 0) {
        if (rc == PEACH_E_MEMORY) snprintf(why, size, "the broker is out of memory");
        payload_unref(&payload);
        free(blob);
        return rc;
    }
    blob->id = ++b->last_blob;
    blob->number = put->number;
    blob->payload = payload;
    list_append(&client->blobs, &blob->node);
    client->blob_count++;
    b->blob_bytes += bytes;
    return 0;
}

void blob_put(broker_t *b, peer_t *client, wire_message_t *message)
{
    char why[256] = "";
    Peach__Envelope envelope = PEACH__ENVELOPE__INIT;
    Peach__PutReply reply = PEACH__PUT_REPLY__INIT;
    reply.request = wire_envelope(message)->put->request;
    reply.status = keep(b, client, message, why, sizeof why);
    if (reply.status) reply.message = why;
    envelope.body_case = PEACH__ENVELOPE__BODY_PUT_REPLY;
    envelope.put_reply = &reply;
    if (reply.request) shell_send(b, client, &envelope, NULL);
}

/* Whoever has it is told to forget it. */
static void destroy(broker_t *b, peer_t *client, blob_t *blob)
{
    wire_kept_t drop;
    wire_drop(&drop, &blob->id);
    for (node_t *n = list_first(&b->peers); n; n = list_next(&b->peers, n)) {
        peer_t *worker = LIST_ITEM(n, peer_t, node);
        if (worker->has && idmap_remove(worker->has, blob->id))
            shell_send(b, worker, &drop.envelope, NULL);
    }
    idmap_remove(b->blobs, blob->id);
    list_remove(&blob->node);
    client->blob_count--;
    b->blob_bytes -= payload_size(blob->payload);
    payload_unref(&blob->payload);
    free(blob);
}

void blob_drop(broker_t *b, peer_t *peer, const Peach__Drop *drop)
{
    for (size_t i = 0; i < drop->n_numbers; i++) {
        blob_t *blob = peer->client ? find(peer, drop->numbers[i]) : NULL;
        if (blob) destroy(b, peer, blob);
        if (peer->has) idmap_remove(peer->has, drop->numbers[i]);
    }
}

void blob_forget(broker_t *b, peer_t *peer)
{
    while (!list_empty(&peer->blobs))
        destroy(b, peer, LIST_ITEM(list_first(&peer->blobs), blob_t, node));
    idmap_destroy(&peer->has);
}

/* ---- to workers ---- */

void blob_resolve(peer_t *client, const Peach__Job *job)
{
    for (size_t i = 0; i < job->n_refs; i++) {
        const blob_t *blob = find(client, job->refs[i]->put);
        job->refs[i]->blob = blob ? blob->id : 0;
    }
}

static void push(broker_t *b, peer_t *worker, const blob_t *blob)
{
    static char present;
    wire_kept_t put;
    wire_frames_t frames = {.shares = worker->batch.frames.shares};
    if (idmap_put(worker->has, blob->id, &present) != 0) return; /* it says that it lacks it */
    if (wire_put(&put, blob->id, blob->payload, &frames) == 0)
        shell_send(b, worker, &put.envelope, &frames);
    wire_frames_clear(&frames);
}

void blob_push(broker_t *b, peer_t *worker, const Peach__Job *job)
{
    if (job->n_refs == 0) return;
    if (!worker->has && !(worker->has = idmap_new(&b->seed))) return;
    for (size_t i = 0; i < job->n_refs; i++) {
        const blob_t *blob = idmap_get(b->blobs, job->refs[i]->blob);
        if (!blob)
            job->refs[i]->blob = 0; /* it was dropped: who refers to it still is told */
        else if (!idmap_get(worker->has, blob->id))
            push(b, worker, blob);
    }
}
