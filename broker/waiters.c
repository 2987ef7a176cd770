/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */

/* Clients that wait until the workers have loaded preloads, or forgotten them. */
#include "shell.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void waiter_destroy(waiter_t *waiter)
{
    list_remove(&waiter->node);
    if (waiter->message) peach__preload__free_unpacked(waiter->message, NULL);
    free(waiter);
}

static void reply(broker_t *b, peer_t *client, uint64_t request, Peach__PreloadReply *message)
{
    Peach__Envelope envelope = PEACH__ENVELOPE__INIT;
    message->request = request;
    envelope.body_case = PEACH__ENVELOPE__BODY_PRELOAD_REPLY;
    envelope.preload_reply = message;
    shell_send(b, client, &envelope, NULL);
}

/* The worker's report of a preload that the waiter asked for and that failed; or
   NULL, and *ready says whether it has all of them, and what others asked for. */
static const Peach__PreloadReport *look(const broker_t *b, const waiter_t *waiter,
                                        const peer_t *worker, bool *ready)
{
    const Peach__Preload *message = waiter->message;
    *ready = !library_loading(b, worker);
    for (size_t i = 0; i < message->n_unload; i++)
        if (library_report(worker, message->unload[i], NULL)) *ready = false;
    for (size_t i = 0; i < message->n_preloads; i++) {
        const Peach__PreloadItem *item = message->preloads[i];
        const Peach__PreloadReport *report = library_report(worker, item->name, &item->digest);
        if (report && report->state == PEACH__PRELOAD_STATE__PRELOAD_FAILED) return report;
        if (!report || report->state != PEACH__PRELOAD_STATE__PRELOAD_READY) *ready = false;
    }
    return NULL;
}

static void tell_failure(broker_t *b, waiter_t *waiter, const peer_t *worker,
                         const Peach__PreloadReport *failed)
{
    Peach__PreloadReply message = PEACH__PRELOAD_REPLY__INIT;
    message.status = PEACH_E_PRELOAD;
    message.message = failed->error;
    message.name = failed->name;
    message.host = worker->host;
    message.pid = worker->pid;
    reply(b, waiter->client, waiter->request, &message);
    waiter_destroy(waiter);
}

/* Answers the waiter if it can be answered. */
static void settle(broker_t *b, waiter_t *waiter)
{
    Peach__PreloadReply message = PEACH__PRELOAD_REPLY__INIT;
    bool waiting = false;
    for (node_t *n = list_first(&b->peers); n; n = list_next(&b->peers, n)) {
        const peer_t *peer = LIST_ITEM(n, peer_t, node);
        bool ready;
        if (!peer->worker || sched_worker_draining(peer->worker)) continue;
        if (!peer->connected) { /* it comes back, or its session ends */
            waiting = true;
            continue;
        }
        const Peach__PreloadReport *failed = look(b, waiter, peer, &ready);
        if (failed) {
            tell_failure(b, waiter, peer, failed);
            return;
        }
        message.workers += ready;
        if (ready)
            message.slots += peer->registration->slots;
        else
            waiting = true;
    }
    uint32_t wanted = waiter->message->slots;
    if (wanted ? message.slots < wanted : waiting) return;
    reply(b, waiter->client, waiter->request, &message);
    waiter_destroy(waiter);
}

void waiters_settle(broker_t *b)
{
    node_t *next;
    for (node_t *n = list_first(&b->waiters); n; n = next) {
        next = list_next(&b->waiters, n);
        settle(b, LIST_ITEM(n, waiter_t, node));
    }
}

void waiters_add(broker_t *b, peer_t *client, const Peach__Preload *message)
{
    waiter_t *waiter = calloc(1, sizeof *waiter);
    if (waiter) waiter->message = wire_copy(&message->base);
    if (!waiter || !waiter->message) {
        Peach__PreloadReply failed = PEACH__PRELOAD_REPLY__INIT;
        free(waiter);
        failed.status = PEACH_E_MEMORY;
        failed.message = (char *)peach_status_text(PEACH_E_MEMORY);
        reply(b, client, message->request, &failed);
        return;
    }
    waiter->client = client;
    waiter->request = message->request;
    list_append(&b->waiters, &waiter->node);
    settle(b, waiter);
}

void waiters_forget(broker_t *b, peer_t *peer)
{
    node_t *next;
    for (node_t *n = list_first(&b->waiters); n; n = next) {
        next = list_next(&b->waiters, n);
        waiter_t *waiter = LIST_ITEM(n, waiter_t, node);
        if (waiter->client == peer) waiter_destroy(waiter);
    }
}
