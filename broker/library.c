/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "shell.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- what is remembered ---- */

static void preload_destroy(preload_t *preload)
{
    list_remove(&preload->node);
    if (preload->item) peach__preload_item__free_unpacked(preload->item, NULL);
    payload_unref(&preload->source);
    free(preload);
}

static preload_t *find(const broker_t *b, const char *name)
{
    for (node_t *n = list_first(&b->preloads); n; n = list_next(&b->preloads, n)) {
        preload_t *preload = LIST_ITEM(n, preload_t, node);
        if (strcmp(preload->item->name, name) == 0) return preload;
    }
    return NULL;
}

/* Remembers a preload; one of the same name is replaced and goes to the end. */
static int remember(broker_t *b, wire_message_t *message, Peach__PreloadItem *item)
{
    preload_t *preload = calloc(1, sizeof *preload);
    if (!preload) return PEACH_E_MEMORY;
    Peach__Payload *source = item->source;
    item->source = NULL;
    preload->item = wire_copy(&item->base);
    item->source = source;
    preload->source = wire_payload(message, source);
    if (!preload->item || !preload->source) {
        preload_destroy(preload);
        return PEACH_E_MEMORY;
    }
    preload_t *old = find(b, item->name);
    if (old) preload_destroy(old);
    list_append(&b->preloads, &preload->node);
    return 0;
}

int library_items(broker_t *b, wire_frames_t *frames, Peach__PreloadItem ***items, size_t *count)
{
    size_t total = 0;
    for (node_t *n = list_first(&b->preloads); n; n = list_next(&b->preloads, n)) total++;
    *count = 0;
    *items = calloc(total + 1, sizeof **items);
    if (!*items) return PEACH_E_MEMORY;
    for (node_t *n = list_first(&b->preloads); n; n = list_next(&b->preloads, n)) {
        preload_t *preload = LIST_ITEM(n, preload_t, node);
        Peach__PreloadItem *item = malloc(sizeof *item + sizeof *item->source);
        if (!item) return PEACH_E_MEMORY;
        *item = *preload->item; /* its strings are lent */
        item->source = (Peach__Payload *)(item + 1);
        (*items)[(*count)++] = item;
        int rc = wire_attach(frames, preload->source, item->source);
        if (rc) return rc;
    }
    return 0;
}

void library_items_free(Peach__PreloadItem **items, size_t count)
{
    for (size_t i = 0; i < count; i++) free(items[i]);
    free(items);
}

void library_clear(broker_t *b)
{
    while (!list_empty(&b->preloads))
        preload_destroy(LIST_ITEM(list_first(&b->preloads), preload_t, node));
}

/* ---- what workers say of it ---- */

static const Peach__PreloadReport *report_of(const peer_t *worker, const char *name,
                                             ProtobufCBinaryData digest)
{
    const Peach__Registration *r = worker->registration;
    for (size_t i = 0; r && i < r->n_preloads; i++)
        if (strcmp(r->preloads[i]->name, name) == 0 &&
            memcmp(r->preloads[i]->digest.data, digest.data, WIRE_DIGEST_BYTES) == 0)
            return r->preloads[i];
    return NULL;
}

bool library_loading(const broker_t *b, const peer_t *worker)
{
    const Peach__Registration *r = worker->registration;
    for (size_t i = 0; i < r->n_preloads; i++)
        if (r->preloads[i]->state == PEACH__PRELOAD_STATE__PRELOAD_LOADING) return true;
    for (node_t *n = list_first(&b->preloads); n; n = list_next(&b->preloads, n)) {
        const Peach__PreloadItem *item = LIST_ITEM(n, preload_t, node)->item;
        if (!report_of(worker, item->name, item->digest)) return true;
    }
    return false;
}

/* A preload that failed on every worker that tried is not given to those that come. */
static void forget_failed(broker_t *b)
{
    node_t *next;
    for (node_t *n = list_first(&b->preloads); n; n = next) {
        next = list_next(&b->preloads, n);
        preload_t *preload = LIST_ITEM(n, preload_t, node);
        bool failed = false, hope = false;
        for (node_t *p = list_first(&b->peers); p; p = list_next(&b->peers, p)) {
            peer_t *peer = LIST_ITEM(p, peer_t, node);
            if (!peer->worker) continue;
            const Peach__PreloadReport *report =
                report_of(peer, preload->item->name, preload->item->digest);
            if (report && report->state == PEACH__PRELOAD_STATE__PRELOAD_FAILED)
                failed = true;
            else
                hope = true;
        }
        if (failed && !hope) preload_destroy(preload);
    }
}

/* ---- who waits for it ---- */

static void waiter_destroy(waiter_t *waiter)
{
    list_remove(&waiter->node);
    if (waiter->message) peach__preload__free_unpacked(waiter->message, NULL);
    free(waiter);
}

static void reply(broker_t *b, const waiter_t *waiter, Peach__PreloadReply *message)
{
    Peach__Envelope envelope = PEACH__ENVELOPE__INIT;
    message->request = waiter->request;
    envelope.body_case = PEACH__ENVELOPE__BODY_PRELOAD_REPLY;
    envelope.preload_reply = message;
    shell_send(b, waiter->client, &envelope, NULL);
}

/* The worker's report of a preload that the waiter asked for and that failed; or
   NULL, and *ready says whether it has all of them, and what others asked for. */
static const Peach__PreloadReport *look(const broker_t *b, const waiter_t *waiter,
                                        const peer_t *worker, bool *ready)
{
    *ready = !library_loading(b, worker);
    for (size_t i = 0; i < waiter->message->n_preloads; i++) {
        const Peach__PreloadItem *item = waiter->message->preloads[i];
        const Peach__PreloadReport *report = report_of(worker, item->name, item->digest);
        if (report && report->state == PEACH__PRELOAD_STATE__PRELOAD_FAILED) return report;
        if (!report || report->state != PEACH__PRELOAD_STATE__PRELOAD_READY) *ready = false;
    }
    return NULL;
}

/* Answers the waiter if it can be answered. */
static void settle(broker_t *b, waiter_t *waiter)
{
    Peach__PreloadReply message = PEACH__PRELOAD_REPLY__INIT;
    uint32_t ready_slots = 0;
    bool waiting = false;
    for (node_t *n = list_first(&b->peers); n; n = list_next(&b->peers, n)) {
        peer_t *peer = LIST_ITEM(n, peer_t, node);
        bool ready;
        if (!peer->worker || !peer->connected || sched_worker_draining(peer->worker)) continue;
        const Peach__PreloadReport *failed = look(b, waiter, peer, &ready);
        if (failed) {
            message.status = PEACH_E_PRELOAD;
            message.message = failed->error;
            message.name = failed->name;
            message.host = peer->host;
            message.pid = peer->pid;
            reply(b, waiter, &message);
            waiter_destroy(waiter);
            return;
        }
        if (ready)
            ready_slots += peer->registration->slots;
        else
            waiting = true;
    }
    uint32_t wanted = waiter->message->slots;
    if (wanted ? ready_slots < wanted : waiting) return;
    message.slots = ready_slots;
    reply(b, waiter, &message);
    waiter_destroy(waiter);
}

void library_settle(broker_t *b)
{
    node_t *next;
    for (node_t *n = list_first(&b->waiters); n; n = next) {
        next = list_next(&b->waiters, n);
        settle(b, LIST_ITEM(n, waiter_t, node));
    }
}

/* ---- events ---- */

static void send_to_workers(broker_t *b, wire_message_t *message, const Peach__Preload *preload)
{
    Peach__Envelope envelope = PEACH__ENVELOPE__INIT;
    wire_frames_t frames = {0};
    envelope.body_case = PEACH__ENVELOPE__BODY_PRELOAD;
    envelope.preload = (Peach__Preload *)preload;
    Peach__Payload *fields = calloc(preload->n_preloads + 1, sizeof *fields);
    if (!fields) return;
    for (size_t i = 0; i < preload->n_preloads; i++) {
        payload_t *source = wire_payload(message, preload->preloads[i]->source);
        if (!source || wire_attach(&frames, source, &fields[i]) != 0)
            peach__payload__init(&fields[i]);
        if (fields[i].frame == 0 && preload->preloads[i]->source)
            fields[i] = *preload->preloads[i]->source; /* inline: lent by the message */
        preload->preloads[i]->source = &fields[i];
        payload_unref(&source);
    }
    for (node_t *n = list_first(&b->peers); n; n = list_next(&b->peers, n)) {
        peer_t *peer = LIST_ITEM(n, peer_t, node);
        if (!peer->worker) continue;
        shell_send(b, peer, &envelope, &frames);
        sched_worker_loading(b->sched, peer->worker, library_loading(b, peer));
    }
    wire_frames_clear(&frames);
    free(fields);
}

void library_preload(broker_t *b, peer_t *client, wire_message_t *message)
{
    const Peach__Preload *preload = wire_envelope(message)->preload;
    waiter_t *waiter = calloc(1, sizeof *waiter);
    int rc = waiter ? 0 : PEACH_E_MEMORY;
    for (size_t i = 0; i < preload->n_preloads && rc == 0; i++)
        rc = remember(b, message, preload->preloads[i]);
    if (rc) {
        free(waiter);
        shell_error(b, client, rc, "the preloads cannot be kept");
        return;
    }
    waiter->client = client;
    waiter->request = preload->request;
    if (preload->n_preloads > 0) send_to_workers(b, message, preload);
    for (size_t i = 0; i < preload->n_preloads; i++) preload->preloads[i]->source = NULL;
    waiter->message = wire_copy(&preload->base);
    if (!waiter->message) {
        free(waiter);
        shell_error(b, client, PEACH_E_MEMORY, "the request cannot be kept");
        return;
    }
    list_append(&b->waiters, &waiter->node);
    settle(b, waiter);
}

static int tell_core(broker_t *b, peer_t *worker)
{
    const Peach__Registration *r = worker->registration;
    sched_label_t *labels = calloc(r->n_labels + 1, sizeof *labels);
    const char **functions = calloc(r->n_functions + 1, sizeof *functions);
    size_t function_count = r->n_functions;
    int rc = PEACH_E_MEMORY;
    if (labels && functions) {
        for (size_t i = 0; i < r->n_labels; i++)
            labels[i] = (sched_label_t){r->labels[i]->key, r->labels[i]->value};
        for (size_t i = 0; i < r->n_functions; i++) functions[i] = r->functions[i]->name;
        if (r->by_value) functions[function_count++] = SCHED_BY_VALUE;
        sched_worker_spec_t spec = {.slots = r->slots + r->waiting,
                                    .window = r->window,
                                    .window_bytes = r->window_bytes,
                                    .host = worker->host,
                                    .labels = labels,
                                    .label_count = r->n_labels,
                                    .functions = functions,
                                    .function_count = function_count,
                                    .loading = library_loading(b, worker)};
        if (worker->worker)
            rc = sched_worker_update(b->sched, worker->worker, &spec);
        else if ((worker->worker = sched_worker_add(b->sched, &spec, worker)) != NULL)
            rc = 0;
    }
    free(labels);
    free(functions);
    return rc;
}

int library_register(broker_t *b, peer_t *worker, const Peach__Registration *registration)
{
    Peach__Registration *copy = wire_copy(&registration->base);
    if (!copy) return PEACH_E_MEMORY;
    if (worker->registration) peach__registration__free_unpacked(worker->registration, NULL);
    worker->registration = copy;
    int rc = tell_core(b, worker);
    if (rc == 0) {
        library_settle(b);
        forget_failed(b);
    }
    return rc;
}

void library_forget(broker_t *b, peer_t *peer)
{
    node_t *next;
    for (node_t *n = list_first(&b->waiters); n; n = next) {
        next = list_next(&b->waiters, n);
        waiter_t *waiter = LIST_ITEM(n, waiter_t, node);
        if (waiter->client == peer) waiter_destroy(waiter);
    }
}
