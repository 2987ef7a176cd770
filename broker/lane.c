/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "sched_core.h"

#include <stdlib.h>
#include <string.h>

/* Before a function's time is known its items are taken to last this long. */
static const uint64_t assumed_item_ns = 1000000;

/* ---- lanes ---- */

/* function NUL key NUL value NUL …, labels in the client's order: two orders make
   two lanes, which costs a little and changes nothing. */
static char *make_key(const char *function, const sched_label_t *require, size_t count,
                      size_t *size)
{
    *size = strlen(function) + 1;
    for (size_t i = 0; i < count; i++)
        *size += strlen(require[i].key) + strlen(require[i].value) + 2;
    char *key = malloc(*size), *p = key;
    if (!key) return NULL;
    p = stpcpy(p, function) + 1;
    for (size_t i = 0; i < count; i++) {
        p = stpcpy(p, require[i].key) + 1;
        p = stpcpy(p, require[i].value) + 1;
    }
    return key;
}

static lane_t *lane_new(sched_t *s, char **key_p, size_t key_size, size_t labels)
{
    lane_t *lane = calloc(1, sizeof *lane);
    label_t *require = calloc(labels + 1, sizeof *require);
    if (!lane || !require || table_put(s->lanes, *key_p, key_size, lane) != 0) {
        free(lane);
        free(require);
        return NULL;
    }
    lane->key = *key_p;
    lane->key_size = key_size;
    *key_p = NULL;
    lane->function = lane->key; /* its first string; the labels follow */
    lane->require = require;
    lane->require_count = labels;
    char *p = lane->key + strlen(lane->key) + 1;
    for (size_t i = 0; i < labels; i++) {
        require[i].key = p;
        p += strlen(p) + 1;
        require[i].value = p;
        p += strlen(p) + 1;
    }
    list_init(&lane->serves);
    list_init(&lane->idle);
    list_init(&lane->spare);
    list_append(&s->lane_list, &lane->sched_node);
    return lane;
}

lane_t *lane_obtain(sched_t *s, const char *function, const sched_label_t *require, size_t count)
{
    size_t size;
    char *key = make_key(function, require, count, &size);
    if (!key) return NULL;
    lane_t *lane = table_get(s->lanes, key, size);
    if (!lane && (lane = lane_new(s, &key, size, count)) != NULL) {
        for (node_t *n = list_first(&s->workers); n; n = list_next(&s->workers, n)) {
            sched_worker_t *worker = LIST_ITEM(n, sched_worker_t, sched_node);
            if (lane_match(lane, worker) != 0) {
                lane_destroy(s, lane);
                lane = NULL;
                break;
            }
            worker_sort(s, worker);
        }
    }
    free(key);
    return lane;
}

void serve_destroy(serve_t *serve)
{
    list_remove(&serve->ready_node);
    list_remove(&serve->lane_node);
    list_remove(&serve->worker_node);
    serve->lane->workers--;
    free(serve);
}

void lane_destroy(sched_t *s, lane_t *lane)
{
    table_remove(s->lanes, lane->key, lane->key_size);
    while (!list_empty(&lane->serves))
        serve_destroy(LIST_ITEM(list_first(&lane->serves), serve_t, lane_node));
    list_remove(&lane->sched_node);
    free(lane->heap);
    free(lane->require);
    free(lane->key);
    free(lane);
}

static bool has_label(const sched_worker_t *worker, const label_t *label)
{
    for (size_t i = 0; i < worker->spec.label_count; i++)
        if (strcmp(worker->spec.labels[i].key, label->key) == 0 &&
            strcmp(worker->spec.labels[i].value, label->value) == 0)
            return true;
    return false;
}

bool lane_labels_match(const lane_t *lane, const sched_worker_t *worker)
{
    for (size_t i = 0; i < lane->require_count; i++)
        if (!has_label(worker, &lane->require[i])) return false;
    return true;
}

bool lane_admits(const lane_t *lane, const sched_worker_t *worker)
{
    return table_get(worker->functions, lane->function, strlen(lane->function)) != NULL &&
           lane_labels_match(lane, worker);
}

int lane_match(lane_t *lane, sched_worker_t *worker)
{
    serve_t *serve = NULL;
    for (node_t *n = list_first(&worker->serves); n && !serve; n = list_next(&worker->serves, n)) {
        serve_t *known = LIST_ITEM(n, serve_t, worker_node);
        if (known->lane == lane) serve = known;
    }
    bool admits = lane_admits(lane, worker);
    if (admits && !serve) {
        if (!(serve = calloc(1, sizeof *serve))) return PEACH_E_MEMORY;
        serve->worker = worker;
        serve->lane = lane;
        list_append(&lane->serves, &serve->lane_node);
        list_append(&worker->serves, &serve->worker_node);
        lane->workers++;
        lane->served = true;
        lane->starved_ms = 0;
    } else if (!admits && serve) {
        serve_destroy(serve);
    }
    return 0;
}

/* ---- the heap of flows: the deepest first, then least client time ---- */

static void heap_set(lane_t *lane, size_t i, flow_t *flow)
{
    lane->heap[i] = flow;
    flow->heap_index = i;
}

static void heap_up(lane_t *lane, size_t i)
{
    flow_t *flow = lane->heap[i];
    for (; i > 0 && flow_before(flow, lane->heap[(i - 1) / 2]); i = (i - 1) / 2)
        heap_set(lane, i, lane->heap[(i - 1) / 2]);
    heap_set(lane, i, flow);
}

static void heap_down(lane_t *lane, size_t i)
{
    flow_t *flow = lane->heap[i];
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= lane->heap_count) break;
        if (child + 1 < lane->heap_count && flow_before(lane->heap[child + 1], lane->heap[child]))
            child++;
        if (!flow_before(lane->heap[child], flow)) break;
        heap_set(lane, i, lane->heap[child]);
        i = child;
    }
    heap_set(lane, i, flow);
}

static int heap_add(lane_t *lane, flow_t *flow)
{
    if (lane->heap_count == lane->heap_capacity) {
        size_t capacity = lane->heap_capacity ? lane->heap_capacity * 2 : 8;
        flow_t **heap = realloc(lane->heap, capacity * sizeof *heap);
        if (!heap) return PEACH_E_MEMORY;
        lane->heap = heap;
        lane->heap_capacity = capacity;
    }
    flow->key = flow->client->time;
    flow->depth = flow->client->depth;
    heap_set(lane, lane->heap_count++, flow);
    heap_up(lane, flow->heap_index);
    return 0;
}

static void heap_remove(lane_t *lane, flow_t *flow)
{
    size_t i = flow->heap_index;
    flow_t *last = lane->heap[--lane->heap_count];
    flow->heap_index = SIZE_MAX;
    if (last == flow) return;
    heap_set(lane, i, last);
    heap_up(lane, i);
    heap_down(lane, last->heap_index);
}

/* The flow that is next, or NULL. A client's time only grows, so a key that is
   behind its client's time is brought forward when it comes up. */
static flow_t *heap_first(lane_t *lane)
{
    while (lane->heap_count > 0) {
        flow_t *flow = lane->heap[0];
        if (flow->key >= flow->client->time) return flow;
        flow->key = flow->client->time;
        heap_down(lane, 0);
    }
    return NULL;
}

/* ---- flows ---- */

flow_t *flow_obtain(sched_client_t *client, lane_t *lane)
{
    for (node_t *n = list_first(&client->flows); n; n = list_next(&client->flows, n)) {
        flow_t *flow = LIST_ITEM(n, flow_t, client_node);
        if (flow->lane == lane) return flow;
    }
    flow_t *flow = calloc(1, sizeof *flow);
    if (!flow) return NULL;
    flow->client = client;
    flow->lane = lane;
    flow->heap_index = SIZE_MAX;
    for (int p = 0; p < PRIORITIES; p++) list_init(&flow->queues[p]);
    list_append(&client->flows, &flow->client_node);
    return flow;
}

void flow_destroy(flow_t *flow)
{
    if (flow->heap_index != SIZE_MAX) heap_remove(flow->lane, flow);
    list_remove(&flow->client_node);
    free(flow);
}

int flows_deepen(sched_client_t *client, uint32_t depth)
{
    client->depth = depth;
    for (node_t *n = list_first(&client->flows); n; n = list_next(&client->flows, n)) {
        flow_t *flow = LIST_ITEM(n, flow_t, client_node);
        if (flow->heap_index == SIZE_MAX) continue;
        heap_remove(flow->lane, flow);
        if (heap_add(flow->lane, flow) != 0) return PEACH_E_MEMORY;
    }
    return 0;
}

int flow_hold(flow_t *flow, bool hold)
{
    if (hold && flow->heap_index != SIZE_MAX) heap_remove(flow->lane, flow);
    if (!hold && flow->mask && flow->heap_index == SIZE_MAX) return heap_add(flow->lane, flow);
    return 0;
}

/* The flow is to have an entry of that priority: it competes then. */
static int flow_enter(const sched_t *s, flow_t *flow, uint32_t priority)
{
    sched_client_t *client = flow->client;
    if (flow->mask == 0 && !client->hold) {
        /* One that comes back after a pause has not saved up time. */
        if (client->queued == 0 && client->running == 0 && client->time < s->time)
            client->time = s->time;
        if (heap_add(flow->lane, flow) != 0) return PEACH_E_MEMORY;
    }
    flow->mask |= 1u << priority;
    return 0;
}

static void flow_leave(flow_t *flow, entry_t *entry, uint32_t priority)
{
    list_remove(&entry->node);
    if (list_empty(&flow->queues[priority])) flow->mask &= ~(1u << priority);
    if (flow->mask == 0 && flow->heap_index != SIZE_MAX) heap_remove(flow->lane, flow);
}

int lane_queue(sched_t *s, part_t *part, bool front)
{
    job_t *job = part->task->job;
    flow_t *flow = job->flow;
    if (flow_enter(s, flow, job->priority) != 0) return PEACH_E_MEMORY;
    list_t *queue = &flow->queues[job->priority];
    (front ? list_prepend : list_append)(queue, &part->entry.node);
    job->queued++;
    job->client->queued++;
    s->counts.queued_tasks++;
    return 0;
}

void lane_unqueue(sched_t *s, part_t *part)
{
    job_t *job = part->task->job;
    flow_leave(job->flow, &part->entry, job->priority);
    job->queued--;
    job->client->queued--;
    s->counts.queued_tasks--;
}

int lane_queue_run(sched_t *s, run_t *run)
{
    job_t *job = run->job;
    if (flow_enter(s, job->flow, job->priority) != 0) return PEACH_E_MEMORY;
    list_append(&job->flow->queues[job->priority], &run->entry.node);
    job->queued += run->count;
    job->client->queued += run->count;
    s->counts.queued_tasks += run->count;
    return 0;
}

void lane_unqueue_run(run_t *run) { flow_leave(run->job->flow, &run->entry, run->job->priority); }

/* ---- dispatch ---- */

static uint64_t item_cost(const lane_t *lane)
{
    return lane->item_ns ? lane->item_ns : assumed_item_ns;
}

static uint64_t part_cost(const part_t *part)
{
    return item_cost(part->task->job->lane) * ranges_items(&part->todo);
}

static bool worker_idle(const sched_worker_t *w) { return w->lease_count < w->spec.slots; }

/* Nothing is sent ahead to a worker that fails so often in a row. */
enum { DOUBTFUL = 4 };

/* Whether the worker may hold more than it can run at once: only of work that is
   known to be short, so that nothing waits here while another worker is free. */
static bool worker_spare(const sched_t *s, const sched_worker_t *w)
{
    return w->lease_count < w->spec.window && w->strikes < DOUBTFUL &&
           (!w->spec.window_bytes || w->bytes < w->spec.window_bytes) &&
           w->load_ns < (uint64_t)w->spec.slots * s->config.prefetch_ns;
}

bool worker_open(const sched_worker_t *w) { return w->connected && !w->draining && !w->rest_ms; }

void worker_sort(sched_t *s, sched_worker_t *worker)
{
    bool open = worker_open(worker);
    for (node_t *n = list_first(&worker->serves); n; n = list_next(&worker->serves, n)) {
        serve_t *serve = LIST_ITEM(n, serve_t, worker_node);
        list_remove(&serve->ready_node);
        list_t *idle = &serve->lane->idle;
        if (open && worker->lease_count == 0 && worker->strikes == 0)
            list_prepend(idle, &serve->ready_node); /* what it needs is still in its caches */
        else if (open && worker_idle(worker))
            list_append(idle, &serve->ready_node);
        else if (open && worker_spare(s, worker))
            list_append(&serve->lane->spare, &serve->ready_node);
    }
}

/* Whether this worker may have this part now. */
static bool part_suits(const sched_t *s, const part_t *part, const sched_worker_t *worker)
{
    const lane_t *lane = part->task->job->lane;
    if (part->avoid == worker->serial && lane->workers > 1 && s->now_ms < part->avoid_until_ms)
        return false;
    return worker_idle(worker) || (lane->item_ns > 0 && !part->returned && !part->piece &&
                                   part_cost(part) <= s->config.prefetch_ns);
}

/* The same of the next task of a run. */
static bool run_suits(const sched_t *s, const lane_t *lane, const sched_worker_t *worker)
{
    return worker_idle(worker) || (lane->item_ns > 0 && item_cost(lane) <= s->config.prefetch_ns);
}

/* The flow's next entry for this worker, or NULL. Parts that were lost and wait for
   another worker are passed over; they are few. */
static entry_t *flow_next(const sched_t *s, const flow_t *flow, const sched_worker_t *worker)
{
    int looks = 8;
    for (uint32_t mask = flow->mask; mask != 0;) {
        int p = 31 - __builtin_clz(mask);
        mask &= ~(1u << p);
        const list_t *queue = &flow->queues[p];
        for (node_t *n = list_first(queue); n && looks-- > 0; n = list_next(queue, n)) {
            entry_t *entry = LIST_ITEM(n, entry_t, node);
            bool suits = entry->is_run ? run_suits(s, flow->lane, worker)
                                       : part_suits(s, LIST_ITEM(entry, part_t, entry), worker);
            if (suits) return entry;
        }
    }
    return NULL;
}

/* The next piece of a part that is given out in pieces; the rest stays in the queue. */
static part_t *take_piece(part_t *part)
{
    size_t count;
    const range_t first = *ranges_all(&part->todo, &count);
    if (!part->piece || ranges_items(&part->todo) <= part->piece) return NULL;
    return part_split(part, first.first, first.count < part->piece ? first.count : part->piece);
}

/* What a worker gets of the entry: out of the queue. NULL when there is no memory for it. */
static part_t *entry_take(sched_t *s, entry_t *entry)
{
    if (entry->is_run) return run_take(s, LIST_ITEM(entry, run_t, entry));
    part_t *part = LIST_ITEM(entry, part_t, entry), *piece = take_piece(part);
    if (piece) return piece;
    lane_unqueue(s, part);
    return part;
}

static void grant(sched_t *s, flow_t *flow, entry_t *entry, sched_worker_t *worker)
{
    sched_client_t *client = flow->client;
    part_t *part = entry_take(s, entry);
    if (!part) return;
    task_t *task = part->task;
    part->lease = ++s->last_lease;
    if (idmap_put(s->leases, part->lease, part) != 0) {
        part->lease = 0;
        part_fail(s, part, PEACH_E_MEMORY, "the broker is out of memory");
        return;
    }
    part->worker = worker;
    part->cost_ns = part_cost(part);
    part->granted = ranges_items(&part->todo);
    part->good = part->bad = false;
    list_remove(&task->unbegun_node);
    list_append(&worker->leases, &part->lease_node);
    worker->lease_count++;
    worker->load_ns += part->cost_ns;
    worker->bytes += task->bytes;
    task->job->running++;
    client->running++;
    s->counts.leases++;
    s->time = client->time;
    client->time += part->cost_ns / task->job->weight + 1;
    worker_sort(s, worker);
    size_t count;
    const range_t *todo = ranges_all(&part->todo, &count);
    sched_order_t order = {part->lease, task->job->user, task->number, task->first_item,
                           task->items, task->payload,   todo,         count};
    s->ops.assign(s->shell, worker->user, &order);
}

void lane_dispatch(sched_t *s, lane_t *lane)
{
    flow_t *flow;
    while ((flow = heap_first(lane)) != NULL) {
        const list_t *list = !list_empty(&lane->idle) ? &lane->idle : &lane->spare;
        /* More than one worker is asked only when a lost part avoids the first. */
        int looks = 4;
        sched_worker_t *worker = NULL;
        entry_t *entry = NULL;
        for (node_t *n = list_first(list); n && !entry && looks-- > 0; n = list_next(list, n)) {
            worker = LIST_ITEM(n, serve_t, ready_node)->worker;
            entry = flow_next(s, flow, worker);
        }
        if (!entry) return;
        grant(s, flow, entry, worker);
    }
}

void worker_dispatch(sched_t *s, sched_worker_t *worker)
{
    while (worker_open(worker) && (worker_idle(worker) || worker_spare(s, worker))) {
        flow_t *best = NULL;
        entry_t *best_entry = NULL;
        for (node_t *n = list_first(&worker->serves); n; n = list_next(&worker->serves, n)) {
            flow_t *flow = heap_first(LIST_ITEM(n, serve_t, worker_node)->lane);
            if (!flow || (best && !flow_before(flow, best) &&
                          (flow_before(best, flow) || flow->mask <= best->mask)))
                continue;
            entry_t *entry = flow_next(s, flow, worker);
            if (entry) {
                best = flow;
                best_entry = entry;
            }
        }
        if (!best) return;
        grant(s, best, best_entry, worker);
    }
}
