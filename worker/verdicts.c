/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */

/* What had not begun of tasks that are to run at most once when the session with their broker was
   over: their clients are told by way of whatever broker they find. */
#include "inside.h"

#include <stdlib.h>
#include <string.h>

enum { MOST = 16384, KEEP_MS = 3 * DEFAULT_SESSION_MS }; /* verdicts; how long */
enum { ENDED_MOST = 4096, ENDED_MS = 2000 }; /* orders whose results may not have got through */

static void verdict_destroy(verdict_t *verdict)
{
    list_remove(&verdict->node);
    free(verdict->unbegun);
    free(verdict);
}

static range_t *copy_ranges(const ranges_t *set, size_t *count)
{
    const range_t *all = ranges_all(set, count);
    range_t *copy = calloc(*count + 1, sizeof *copy);
    if (copy) memcpy(copy, all, *count * sizeof *copy);
    if (!copy) *count = 0; /* what is not said not to have begun counts as begun */
    return copy;
}

/* The ranges as a message has them; the arrays are the caller's to free. */
static Peach__Range **to_wire(const range_t *ranges, size_t count, Peach__Range **memory)
{
    Peach__Range **pointers = calloc(count + 1, sizeof *pointers);
    *memory = calloc(count + 1, sizeof **memory);
    for (size_t i = 0; pointers && *memory && i < count; i++) {
        peach__range__init(&(*memory)[i]);
        (*memory)[i].first = ranges[i].first;
        (*memory)[i].count = ranges[i].count;
        pointers[i] = &(*memory)[i];
    }
    return pointers;
}

static void send(link_t *link, const verdict_t *verdict)
{
    Peach__Envelope envelope = PEACH__ENVELOPE__INIT;
    Peach__Unbegun message = PEACH__UNBEGUN__INIT;
    Peach__UnbegunTask task = PEACH__UNBEGUN_TASK__INIT, *tasks = &task;
    Peach__Range *unbegun;
    task.number = verdict->task;
    task.unbegun = to_wire(verdict->unbegun, verdict->unbegun_count, &unbegun);
    task.n_unbegun = verdict->unbegun_count;
    message.origin = (ProtobufCBinaryData){sizeof verdict->origin, (uint8_t *)verdict->origin};
    message.tasks = &tasks;
    message.n_tasks = 1;
    envelope.body_case = PEACH__ENVELOPE__BODY_UNBEGUN;
    envelope.unbegun = &message;
    if (task.unbegun && unbegun) link_send(link, &envelope, NULL);
    free(task.unbegun);
    free(unbegun);
}

static verdict_t *verdict_new(const worker_t *w, const order_t *order)
{
    verdict_t *verdict = calloc(1, sizeof *verdict);
    if (!verdict) return NULL; /* the client waits for its patience then */
    memcpy(verdict->origin, order->job->origin.data, sizeof verdict->origin);
    verdict->link = order->link;
    verdict->task = order->task;
    verdict->at_ms = w->now_ms;
    verdict->unbegun = copy_ranges(&order->left, &verdict->unbegun_count);
    return verdict;
}

/* Keeps the list short; the oldest go. */
static void trim(worker_t *w, list_t *list, size_t *count, size_t most, uint64_t keep_ms)
{
    for (node_t *n; (n = list_first(list)) != NULL; --*count) {
        verdict_t *verdict = LIST_ITEM(n, verdict_t, node);
        if (*count <= most && w->now_ms - verdict->at_ms <= keep_ms) break;
        verdict_destroy(verdict);
    }
}

static void tell_all(worker_t *w, verdict_t *verdict)
{
    verdict->at_ms = w->now_ms;
    list_append(&w->verdicts, &verdict->node);
    w->verdict_count++;
    for (size_t i = 0; i < w->link_count; i++)
        if (w->links[i].welcomed) send(&w->links[i], verdict);
    trim(w, &w->verdicts, &w->verdict_count, MOST, KEEP_MS);
}

void verdicts_add(worker_t *w, const order_t *order)
{
    verdict_t *verdict = order->job->origin.len ? verdict_new(w, order) : NULL;
    if (verdict) tell_all(w, verdict);
}

void verdicts_note_end(worker_t *w, const order_t *order)
{
    if (order->job->origin.len == 0 || !order->link || !ranges_empty(&order->left)) return;
    verdict_t *verdict = verdict_new(w, order);
    if (!verdict) return;
    list_append(&w->ended, &verdict->node);
    w->ended_count++;
    trim(w, &w->ended, &w->ended_count, ENDED_MOST, ENDED_MS);
}

void verdicts_session_over(worker_t *w, const link_t *link)
{
    node_t *next;
    for (node_t *n = list_first(&w->ended); n; n = next) {
        next = list_next(&w->ended, n);
        verdict_t *verdict = LIST_ITEM(n, verdict_t, node);
        if (verdict->link != link) continue;
        list_remove(n);
        w->ended_count--;
        tell_all(w, verdict);
    }
}

void verdicts_send(worker_t *w, link_t *link)
{
    trim(w, &w->verdicts, &w->verdict_count, MOST, KEEP_MS);
    for (node_t *n = list_first(&w->verdicts); n; n = list_next(&w->verdicts, n))
        send(link, LIST_ITEM(n, verdict_t, node));
}

void verdicts_clear(worker_t *w)
{
    while (!list_empty(&w->verdicts))
        verdict_destroy(LIST_ITEM(list_first(&w->verdicts), verdict_t, node));
    while (!list_empty(&w->ended))
        verdict_destroy(LIST_ITEM(list_first(&w->ended), verdict_t, node));
}
