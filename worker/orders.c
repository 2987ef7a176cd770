/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "inside.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

static const uint64_t ahead_ns = 2000000; /* work that an executor may hold ahead */
static const unsigned max_ahead = 1024;   /* and orders */
static const uint64_t worth_ns = 100000;  /* work for which it is worth waking an executor */

/* ---- life of an order ---- */

static void free_job(worker_t *w, Peach__Job *job, job_use_t *uses)
{
    if (job) {
        blobs_release(w, job);
        peach__job__free_unpacked(job, NULL);
    }
    free(uses);
}

void order_free(worker_t *w, order_t *order)
{
    list_remove(&order->node);
    w->order_count--;
    if (order->once) ranges_clear(&order->left);
    if (--order->job_uses->orders == 0) free_job(w, order->job, order->job_uses);
    payload_unref(&order->payload);
    free(order->todo);
    pool_put(&w->orders, order);
}

void order_end(worker_t *w, order_t *order)
{
    Peach__Result result = PEACH__RESULT__INIT;
    result.ended = true;
    if (order->link)
        link_result(order->link, NULL, &result, order->lease, "", 0);
    else
        verdicts_add(w, order);
    order_free(w, order);
}

void order_note_begun(order_t *order, uint32_t first, uint32_t count)
{
    if (order->once) ranges_remove(&order->left, first, count);
}

/* The set of the items that the lease has. */
static void init_left(order_t *order)
{
    uint32_t next = 0;
    ranges_init(&order->left, 0, order->items);
    for (size_t i = 0; i < order->todo_count; i++) {
        if (order->todo[i].first > next) order_note_begun(order, next, order->todo[i].first - next);
        next = order->todo[i].first + order->todo[i].count;
    }
    if (order->todo_count > 0 && next < order->items)
        order_note_begun(order, next, order->items - next);
}

uint64_t order_items(const order_t *order)
{
    uint64_t items = 0;
    for (size_t i = 0; i < order->todo_count; i++) items += order->todo[i].count;
    return order->todo_count ? items : order->items;
}

/* A job of an Assign, copied when its first order comes. */
typedef struct {
    Peach__Job *job;
    job_use_t *uses;
    bool lacking; /* values that it refers to */
} copy_t;

/* Whether orders of the job can be taken. */
static bool copy_job(worker_t *w, link_t *link, const Peach__Job *job, copy_t *copy)
{
    if (!copy->uses && !(copy->uses = calloc(1, sizeof *copy->uses))) return false;
    if (!copy->job && (copy->job = wire_copy(&job->base)) != NULL)
        copy->lacking = !blobs_hold(w, link, copy->job);
    return copy->job && !copy->lacking;
}

/* Another worker would fare no better with these items. */
static void refuse(worker_t *w, link_t *link, uint64_t lease, range_t items, const char *why)
{
    Peach__Failure failure = PEACH__FAILURE__INIT;
    failure.item = items.first;
    failure.count = items.count;
    failure.status = PEACH_E_SYSTEM;
    failure.message = (char *)why;
    failure.host = w->host;
    link_failure(link, lease, &failure);
}

/* Puts an order behind the others; takes its payload and todo. Without memory, or when
   its payload is gone, the broker gets the lease back and may give it to another worker;
   refused (or NULL) says why its payload cannot be had at all. */
static void take(worker_t *w, link_t *link, const Peach__Job *job, copy_t *copy,
                 const order_t *model, const char *refused)
{
    order_t *order = pool_get(&w->orders, sizeof *order);
    if (!order || !copy_job(w, link, job, copy) || !model->payload) {
        Peach__Result result = PEACH__RESULT__INIT;
        payload_t *payload = model->payload;
        range_t whole = {0, model->items};
        const range_t *ranges = model->todo_count ? model->todo : &whole;
        for (size_t i = 0; refused && i < (model->todo_count ? model->todo_count : 1); i++)
            refuse(w, link, model->lease, ranges[i], refused);
        result.ended = true;
        link_result(link, NULL, &result, model->lease, "", 0);
        payload_unref(&payload);
        free(model->todo);
        if (order) pool_put(&w->orders, order);
        return;
    }
    *order = *model;
    order->link = link;
    order->job = copy->job;
    order->job_uses = copy->uses;
    order->job_uses->orders++;
    order->since_ms = w->now_ms;
    order->once = job->origin.len > 0;
    if (order->once) init_left(order);
    list_append(&w->waiting, &order->node);
    w->order_count++;
}

static void take_task(worker_t *w, link_t *link, wire_message_t *message, const Peach__Job *job,
                      copy_t *copy, const Peach__Task *task)
{
    order_t order = {.lease = task->id,
                     .task = task->number,
                     .first_item = task->first_item,
                     .items = task->items};
    if (task->n_todo > 0) order.todo = calloc(task->n_todo, sizeof *order.todo);
    if (order.todo || task->n_todo == 0) order.payload = wire_payload(message, task->payload);
    char why[96];
    bool refused = !order.payload && errno != ENOMEM && errno != ENOENT;
    if (refused) snprintf(why, sizeof why, "the items cannot be taken: %s", strerror(errno));
    order.payload = blobs_share(w, order.payload);
    order.todo_count = order.todo ? task->n_todo : 0;
    for (size_t i = 0; i < order.todo_count; i++)
        order.todo[i] = (range_t){task->todo[i]->first, task->todo[i]->count};
    take(w, link, job, copy, &order, refused ? why : NULL);
}

void orders_take(worker_t *w, link_t *link, wire_message_t *message)
{
    const Peach__Assign *assign = wire_envelope(message)->assign;
    copy_t *copies = calloc(assign->n_jobs + 1, sizeof *copies);
    for (size_t i = 0; copies && i < assign->n_tasks; i++) {
        uint32_t job = assign->tasks[i]->job;
        take_task(w, link, message, assign->jobs[job], &copies[job], assign->tasks[i]);
    }
    for (size_t i = 0; copies && i < assign->n_singles; i++) {
        const Peach__Singles *singles = assign->singles[i];
        size_t offset = 0;
        for (size_t row = 0; row < singles->n_ids; row++) {
            wire_single_t task = wire_single(singles, row, &offset);
            order_t order = {.lease = task.id,
                             .first_item = task.item,
                             .items = 1,
                             .payload = payload_new(task.payload, task.size)};
            take(w, link, assign->jobs[singles->job], &copies[singles->job], &order, NULL);
        }
    }
    for (size_t i = 0; copies && i < assign->n_jobs; i++)
        if (!copies[i].uses || copies[i].uses->orders == 0)
            free_job(w, copies[i].job, copies[i].uses);
    free(copies);
}

/* ---- to the executors ---- */

static void flush_seat(seat_t *seat)
{
    if (seat->batch.elements > 0)
        channel_put_batch(seat->process.channel, PEACH__ENVELOPE__BODY_ASSIGN, &seat->batch);
    orders_clear_batch(seat);
    channel_flush(seat->process.channel); /* an end that is gone shows when it is read */
}

void orders_clear_batch(seat_t *seat)
{
    wire_batch_clear(&seat->batch);
    seat->batch_job = NULL;
    seat->batch_jobs = 0;
}

static int put_task(seat_t *seat, const order_t *order, uint32_t job)
{
    Peach__Task task = PEACH__TASK__INIT;
    Peach__Payload payload;
    Peach__Range *ranges = calloc(order->todo_count + 1, sizeof *ranges);
    Peach__Range **pointers = calloc(order->todo_count + 1, sizeof *pointers);
    int rc = ranges && pointers ? 0 : PEACH_E_MEMORY;
    for (size_t i = 0; rc == 0 && i < order->todo_count; i++) {
        pointers[i] = &ranges[i];
        peach__range__init(&ranges[i]);
        ranges[i].first = order->todo[i].first;
        ranges[i].count = order->todo[i].count;
    }
    task.job = job;
    task.id = order->number;
    task.first_item = order->first_item;
    task.items = order->items;
    task.payload = &payload;
    task.todo = pointers;
    task.n_todo = order->todo_count;
    if (rc == 0) rc = wire_attach(&seat->batch.frames, order->payload, &payload);
    if (rc == 0) rc = wire_batch_add(&seat->batch, 2, &task.base);
    free(ranges);
    free(pointers);
    return rc;
}

/* Whether the executors have its function. They may not any more: its preload was unloaded, or
   a new version of it failed. */
static bool can_run(const worker_t *w, const order_t *order)
{
    job_use_t *uses = order->job_uses;
    if (uses->shelf == w->shelf_changes) return true;
    if (!order->job->code && !shelf_offers(w, order->job->function)) return false;
    uses->shelf = w->shelf_changes;
    return true;
}

static int put_order(worker_t *w, seat_t *seat, order_t *order)
{
    size_t size = payload_size(order->payload);
    bool single = order->items == 1 && size <= WIRE_INLINE_BYTES;
    int rc = 0;
    /* The executor takes orders by their numbers: no message has both kinds. */
    if (seat->batch_single != single || wire_batch_full(&seat->batch)) flush_seat(seat);
    seat->batch_single = single;
    order->number = seat->process.sent;
    if (seat->batch_job != order->job) {
        if (!can_run(w, order)) return PEACH_E_NO_FUNCTION;
        if ((rc = blobs_send(w, seat, order->job)) != 0) return rc;
        rc = wire_batch_add(&seat->batch, 1, &order->job->base);
        if (rc) return rc;
        seat->batch_job = order->job;
        seat->batch_jobs++;
    }
    if (!single) return put_task(seat, order, seat->batch_jobs - 1);
    return wire_batch_task(&seat->batch, seat->batch_jobs - 1, order->number, order->first_item,
                           payload_bytes(order->payload), size);
}

/* How many orders an executor may hold: more than one only of very short ones. */
static size_t seat_room(const worker_t *w)
{
    if (w->order_ns == 0 || w->order_ns > ahead_ns) return 1;
    uint64_t ahead = ahead_ns / w->order_ns;
    return ahead > max_ahead ? max_ahead : (size_t)ahead;
}

/* Whether the executor has had so many items that it is to be replaced. */
static bool seat_worn(const worker_t *w, const seat_t *seat)
{
    return w->options.recycle && seat->sent_items >= w->options.recycle;
}

/* The ready executor that is to get the next order, or NULL: the one with the fewest;
   but one that has something gets more of very short ones, before another is woken. */
static seat_t *seat_free(const worker_t *w, size_t room)
{
    seat_t *best = NULL;
    /* With seats in the place of those that wait there are more seats than slots. */
    bool more = w->seat_count > crew_first(w) + w->options.slots;
    unsigned busy = 0;
    for (unsigned i = crew_first(w); more && i < w->seat_count; i++)
        busy += w->seats[i].order_count > 0 && !w->seats[i].waits;
    bool full = busy >= w->options.slots;
    for (unsigned i = crew_first(w); i < w->seat_count; i++) {
        seat_t *seat = &w->seats[i];
        if (seat->order_count >= room || !crew_ready(w, seat) || seat_worn(w, seat) ||
            seat->waits || (full && seat->order_count == 0))
            continue;
        if (seat->order_count > 0 && seat->order_count * w->order_ns < worth_ns) return seat;
        if (!best || seat->order_count < best->order_count) best = seat;
    }
    return best;
}

void orders_pump(worker_t *w)
{
    size_t room = seat_room(w);
    while (!list_empty(&w->waiting)) {
        seat_t *seat = seat_free(w, room);
        if (!seat) break;
        order_t *order = LIST_ITEM(list_first(&w->waiting), order_t, node);
        if (put_order(w, seat, order) != 0) {
            order_end(w, order);
            continue;
        }
        seat->process.sent++;
        seat->sent_items += order_items(order);
        list_remove(&order->node);
        list_append(&seat->orders, &order->node);
        seat->order_count++;
    }
    for (unsigned i = crew_first(w); i < w->seat_count; i++)
        if (w->seats[i].process.channel) flush_seat(&w->seats[i]);
}

/* ---- from the executors ---- */

order_t *orders_at(const seat_t *seat, uint64_t number)
{
    for (node_t *n = list_first(&seat->orders); n; n = list_next(&seat->orders, n))
        if (LIST_ITEM(n, order_t, node)->number == number) return LIST_ITEM(n, order_t, node);
    return NULL;
}

static void tell_end(worker_t *w, const order_t *order)
{
    if (order->link)
        verdicts_note_end(w, order);
    else
        verdicts_add(w, order);
}

static inline void order_done(worker_t *w, seat_t *seat, order_t *order, uint64_t elapsed_us)
{
    uint64_t ns = elapsed_us * 1000 + 1;
    w->order_ns = w->order_ns ? (w->order_ns * 7 + ns) / 8 : ns;
    seat->order_count--;
    seat->failures = 0;
    if (!order->link || order->once) tell_end(w, order);
    order_free(w, order);
}

/* Of what may run once only: items whose results are gone with the executor's memory are lost. */
static void drop_gone(worker_t *w, seat_t *seat, order_t *order, wire_message_t *message,
                      Peach__Result *result)
{
    size_t kept = 0;
    for (size_t i = 0; i < result->n_segments; i++) {
        Peach__Segment *segment = result->segments[i];
        if (wire_at_hand(message, segment->payload))
            result->segments[kept++] = segment;
        else
            order_lose(w, order, segment->first, segment->count, seat->process.pid,
                       "the executor ended before its result was taken");
    }
    result->n_segments = kept;
}

static void take_result(worker_t *w, seat_t *seat, wire_message_t *message, Peach__Result *result)
{
    order_t *order = orders_at(seat, result->id);
    if (!order) return;
    claims_note(seat, order->number);
    for (size_t j = 0; j < result->n_segments; j++)
        order_note_begun(order, result->segments[j]->first, result->segments[j]->count);
    for (size_t j = 0; j < result->n_failures; j++) {
        Peach__Failure *failure = result->failures[j];
        failure->host = w->host;
        failure->pid = (uint32_t)seat->process.pid;
        order_note_begun(order, failure->item, failure->count ? failure->count : 1);
    }
    if (order->once) drop_gone(w, seat, order, message, result);
    if (order->link)
        link_result(order->link, message, result, order->lease, w->host,
                    (uint32_t)seat->process.pid);
    if (result->ended) order_done(w, seat, order, result->elapsed_us);
}

void orders_results(worker_t *w, seat_t *seat, wire_message_t *message)
{
    const Peach__Results *results = wire_envelope(message)->results;
    for (size_t i = 0; i < results->n_results; i++)
        take_result(w, seat, message, results->results[i]);
    for (size_t i = 0; i < results->n_singles; i++) {
        size_t offset = 0, rows = results->singles[i]->n_ids;
        for (size_t k = 0; k < w->link_count; k++) link_reserve(&w->links[k], rows);
        for (size_t row = 0; row < rows; row++) {
            wire_single_t result = wire_single(results->singles[i], row, &offset);
            order_t *order = orders_at(seat, result.id);
            if (!order) continue;
            claims_note(seat, order->number);
            order_note_begun(order, 0, 1);
            if (order->link) link_single(order->link, &result, order->lease);
            order_done(w, seat, order, result.elapsed_us);
        }
    }
    if (seat->order_count == 0 && seat_worn(w, seat)) crew_retire(w, seat);
}

/* What it reported before it was killed counts. */
static void abandon(worker_t *w, seat_t *seat)
{
    char cause[256];
    siginfo_t ended;
    pid_t pid = seat->process.pid;
    snprintf(seat->killed, sizeof seat->killed, "the worker was told to stop at once");
    slot_kill(&seat->process);
    while (waitid(P_PID, (id_t)pid, &ended, WEXITED | WNOWAIT) != 0 && errno == EINTR) {
    }
    crew_receive(w, seat);
    if (list_empty(&seat->orders)) return;
    slot_reap(&seat->process, cause, sizeof cause); /* a child of its task holds the channel */
    orders_lost(w, seat, pid, seat->killed);
}

void orders_abandon(worker_t *w)
{
    for (unsigned i = crew_first(w); i < w->seat_count; i++)
        if (!list_empty(&w->seats[i].orders)) abandon(w, &w->seats[i]);
    for (node_t *n; (n = list_first(&w->waiting)) != NULL;)
        order_end(w, LIST_ITEM(n, order_t, node));
}

void orders_clear(worker_t *w)
{
    for (node_t *n; (n = list_first(&w->waiting)) != NULL;)
        order_free(w, LIST_ITEM(n, order_t, node));
    for (unsigned i = 0; i < w->seat_count && w->seats; i++)
        for (node_t *n; (n = list_first(&w->seats[i].orders)) != NULL;)
            order_free(w, LIST_ITEM(n, order_t, node));
    pool_clear(&w->orders);
}
