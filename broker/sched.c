/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "sched_core.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const sched_config_t sched_defaults = {
    .window_tasks = 8192,
    .window_bytes = 64 << 20,
    .settle_ms = 400,
    .absence_ms = 30000,
    .prefetch_ns = 10 * 1000000,
};

static const uint64_t avoid_ms = 1000;       /* how long a lost part waits for another worker */
static const uint64_t lane_quiet_ms = 60000; /* how long an unused lane is remembered */

sched_t *sched_new(const sched_config_t *config, const sched_ops_t *ops, void *shell)
{
    sched_t *s = calloc(1, sizeof *s);
    if (!s) return NULL;
    s->config = *config;
#define DEFAULT(field) \
    if (!s->config.field) s->config.field = sched_defaults.field
    DEFAULT(window_tasks);
    DEFAULT(window_bytes);
    DEFAULT(settle_ms);
    DEFAULT(absence_ms);
    DEFAULT(prefetch_ns);
    s->ops = *ops;
    s->shell = shell;
    s->last_lease = config->first_lease;
    list_init(&s->lane_list);
    list_init(&s->workers);
    list_init(&s->clients);
    s->leases = table_new(&config->seed);
    s->lanes = table_new(&config->seed);
    if (!s->leases || !s->lanes) {
        table_destroy(&s->leases);
        table_destroy(&s->lanes);
        free(s);
        return NULL;
    }
    return s;
}

/* ---- workers ---- */

static void spec_clear(sched_worker_spec_t *spec)
{
    free((char *)spec->host);
    for (size_t i = 0; i < spec->label_count; i++) {
        free((char *)spec->labels[i].key);
        free((char *)spec->labels[i].value);
    }
    free((sched_label_t *)spec->labels);
    *spec = (sched_worker_spec_t){0};
}

/* Copies all but the functions, which live in a table. */
static int spec_copy(sched_worker_spec_t *to, const sched_worker_spec_t *from)
{
    *to = *from;
    to->functions = NULL;
    to->function_count = to->label_count = 0;
    sched_label_t *labels = calloc(from->label_count + 1, sizeof *labels);
    to->labels = labels;
    to->host = strdup(from->host);
    bool done = labels && to->host;
    for (size_t i = 0; done && i < from->label_count; i++) {
        labels[i].key = strdup(from->labels[i].key);
        labels[i].value = strdup(from->labels[i].value);
        to->label_count++;
        done = labels[i].key && labels[i].value;
    }
    if (!done) spec_clear(to);
    return done ? 0 : PEACH_E_MEMORY;
}

static table_t *function_table(const sched_t *s, const sched_worker_spec_t *spec)
{
    static char present;
    table_t *table = table_new(&s->config.seed);
    for (size_t i = 0; table && i < spec->function_count; i++)
        if (table_put(table, spec->functions[i], strlen(spec->functions[i]), &present) != 0)
            table_destroy(&table);
    return table;
}

static bool slots_count(const sched_worker_t *w) { return w->connected && !w->draining; }

int sched_worker_update(sched_t *s, sched_worker_t *w, const sched_worker_spec_t *spec)
{
    sched_worker_spec_t copy;
    table_t *functions = function_table(s, spec);
    if (!functions || spec_copy(&copy, spec) != 0) {
        table_destroy(&functions);
        return PEACH_E_MEMORY;
    }
    if (slots_count(w)) s->counts.slots += copy.slots - w->spec.slots;
    spec_clear(&w->spec);
    table_destroy(&w->functions);
    w->spec = copy;
    w->functions = functions;
    int rc = 0;
    for (node_t *n = list_first(&s->lane_list); n && rc == 0; n = list_next(&s->lane_list, n))
        rc = lane_match(LIST_ITEM(n, lane_t, sched_node), w);
    worker_sort(s, w);
    worker_dispatch(s, w);
    return rc;
}

sched_worker_t *sched_worker_add(sched_t *s, const sched_worker_spec_t *spec, void *user)
{
    sched_worker_t *w = calloc(1, sizeof *w);
    if (!w) return NULL;
    w->user = user;
    w->serial = ++s->last_serial;
    w->connected = true;
    list_init(&w->leases);
    list_init(&w->serves);
    list_append(&s->workers, &w->sched_node);
    if (sched_worker_update(s, w, spec) != 0) {
        sched_worker_remove(s, w, "");
        return NULL;
    }
    return w;
}

void sched_worker_loading(sched_t *s, sched_worker_t *w, bool loading)
{
    (void)s;
    w->spec.loading = loading;
}

static void set_open(sched_t *s, sched_worker_t *w, bool connected, bool draining)
{
    if (slots_count(w)) s->counts.slots -= w->spec.slots;
    w->connected = connected;
    w->draining = draining;
    if (slots_count(w)) s->counts.slots += w->spec.slots;
    worker_sort(s, w);
    worker_dispatch(s, w);
}

void sched_worker_connected(sched_t *s, sched_worker_t *w, bool connected)
{
    set_open(s, w, connected, w->draining);
}

static void tell_drained(sched_t *s, sched_worker_t *w)
{
    if (!w->draining || w->drained || w->lease_count > 0) return;
    w->drained = true;
    s->ops.drained(s->shell, w->user);
}

void sched_worker_drain(sched_t *s, sched_worker_t *w)
{
    set_open(s, w, w->connected, true);
    tell_drained(s, w);
}

uint32_t sched_worker_leases(const sched_worker_t *w) { return w->lease_count; }
bool sched_worker_draining(const sched_worker_t *w) { return w->draining; }

/* Takes the lease away from its worker; the part is neither queued nor leased then. */
static void lease_close(sched_t *s, part_t *part)
{
    sched_worker_t *w = part->worker;
    table_remove(s->leases, &part->lease, sizeof part->lease);
    list_remove(&part->lease_node);
    w->lease_count--;
    w->load_ns -= part->cost_ns;
    s->counts.leases--;
    if (part->task->job->client) part->task->job->client->running--;
    part->lease = 0;
    part->worker = NULL;
}

/* Queues a part that came back, or ends it when nobody wants it any more. */
static void requeue(sched_t *s, part_t *part)
{
    job_t *job = part->task->job;
    if (ranges_empty(&part->todo) || !job->client)
        part_end(s, part);
    else if (job->cancelled)
        part_fail(s, part, PEACH_E_CANCELLED, "the job was cancelled");
    else if (lane_queue(s, part, true) != 0)
        part_fail(s, part, PEACH_E_MEMORY, "the broker is out of memory");
}

/* Charges a part that is neither queued nor leased with a lost attempt and queues
   it again, or fails it when it has none left. */
static void charge(sched_t *s, part_t *part, const sched_worker_t *w,
                   const sched_attempt_t *attempt, int status)
{
    char message[512];
    if (part_charge(part, attempt) != 0 || part->attempt_count > part->task->job->retries) {
        snprintf(message, sizeof message, "%s on %s (attempt %u of %u)", attempt->cause,
                 attempt->host, part->attempt_count, part->task->job->retries + 1);
        part_fail(s, part, status, message);
        return;
    }
    part->avoid = w->serial;
    part->avoid_until_ms = s->now_ms + avoid_ms;
    s->counts.retried_items += ranges_items(&part->todo);
    requeue(s, part);
}

/* A lease that ended with its worker or on the way to it. */
static void lease_lost(sched_t *s, part_t *part, sched_worker_t *w, const char *cause, bool ran)
{
    job_t *job = part->task->job;
    lease_close(s, part);
    /* At most once is at most once: what may have started does not start again. */
    sched_attempt_t attempt = {w->spec.host, 0, cause};
    if (job->client && !job->cancelled && (ran || job->retries == 0))
        charge(s, part, w, &attempt, PEACH_E_LOST);
    else
        requeue(s, part);
}

static int compare_leases(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

void sched_worker_reconcile(sched_t *s, sched_worker_t *w, uint64_t *held, size_t count)
{
    if (count) qsort(held, count, sizeof *held, compare_leases);
    node_t *next;
    for (node_t *n = list_first(&w->leases); n; n = next) {
        next = list_next(&w->leases, n);
        part_t *part = LIST_ITEM(n, part_t, lease_node);
        if (!count || !bsearch(&part->lease, held, count, sizeof *held, compare_leases))
            lease_lost(s, part, w, "the connection was lost with the order or its result", false);
    }
    worker_sort(s, w);
    worker_dispatch(s, w);
}

void sched_worker_remove(sched_t *s, sched_worker_t *w, const char *cause)
{
    set_open(s, w, false, w->draining);
    list_remove(&w->sched_node);
    while (!list_empty(&w->serves))
        serve_destroy(LIST_ITEM(list_first(&w->serves), serve_t, worker_node));
    uint32_t oldest = w->spec.slots;
    while (!list_empty(&w->leases)) {
        lease_lost(s, LIST_ITEM(list_first(&w->leases), part_t, lease_node), w, cause, oldest > 0);
        if (oldest > 0) oldest--;
    }
    spec_clear(&w->spec);
    table_destroy(&w->functions);
    free(w);
    for (node_t *n = list_first(&s->lane_list); n; n = list_next(&s->lane_list, n))
        lane_dispatch(s, LIST_ITEM(n, lane_t, sched_node));
}

/* ---- clients ---- */

sched_client_t *sched_client_add(sched_t *s, void *user, uint32_t weight)
{
    sched_client_t *c = calloc(1, sizeof *c);
    if (!c) return NULL;
    c->user = user;
    c->weight = weight ? weight : 1;
    c->time = s->time;
    c->jobs = table_new(&s->config.seed);
    c->numbers = table_new(&s->config.seed);
    if (!c->jobs || !c->numbers) {
        table_destroy(&c->jobs);
        table_destroy(&c->numbers);
        free(c);
        return NULL;
    }
    list_init(&c->tasks);
    list_init(&c->flows);
    list_append(&s->clients, &c->sched_node);
    return c;
}

/* Every queued part of the task goes to drop; its leases are cancelled. The task may
   be gone afterwards. */
static void task_cancel(sched_t *s, task_t *task, void (*drop)(sched_t *, part_t *))
{
    node_t *next;
    for (node_t *n = list_first(&task->parts); n; n = next) {
        next = list_next(&task->parts, n);
        part_t *part = LIST_ITEM(n, part_t, task_node);
        if (part->lease) {
            s->ops.cancel(s->shell, part->worker->user, part->lease);
            continue;
        }
        lane_unqueue(s, part);
        drop(s, part);
    }
}

static void drop_cancelled(sched_t *s, part_t *part)
{
    part_fail(s, part, PEACH_E_CANCELLED, "the job was cancelled");
}

void sched_client_remove(sched_t *s, sched_client_t *c)
{
    list_remove(&c->sched_node);
    node_t *next;
    for (node_t *n = list_first(&c->tasks); n; n = next) {
        next = list_next(&c->tasks, n);
        task_cancel(s, LIST_ITEM(n, task_t, client_node), part_end);
    }
    /* What is left runs out at its workers, without a client. */
    size_t cursor = 0;
    for (job_t *job; (job = table_next(c->jobs, &cursor, NULL, NULL)) != NULL;) {
        job->client = NULL;
        job->flow = NULL;
        if (job->tasks == 0) job_end(s, job);
    }
    while (!list_empty(&c->flows))
        flow_destroy(LIST_ITEM(list_first(&c->flows), flow_t, client_node));
    table_destroy(&c->jobs);
    table_destroy(&c->numbers);
    free(c);
}

void sched_client_hold(sched_t *s, sched_client_t *c, bool hold)
{
    if (c->hold == hold) return;
    c->hold = hold;
    for (node_t *n = list_first(&c->flows); n; n = list_next(&c->flows, n)) {
        flow_t *flow = LIST_ITEM(n, flow_t, client_node);
        if (flow_hold(flow, hold) != 0) c->hold = true; /* no memory: tried again next time */
        if (!hold) lane_dispatch(s, flow->lane);
    }
}

void sched_client_counts(const sched_client_t *c, uint64_t *queued, uint64_t *running)
{
    *queued = c->queued;
    *running = c->running;
}

/* ---- work ---- */

int sched_job(sched_t *s, sched_client_t *c, const sched_job_spec_t *spec, void ***job_p)
{
    job_t *job = job_find(c, spec->id);
    if (!job) {
        lane_t *lane = lane_obtain(s, spec->function, spec->require, spec->require_count);
        flow_t *flow = lane ? flow_obtain(c, lane) : NULL;
        if (!flow || !(job = calloc(1, sizeof *job))) return PEACH_E_MEMORY;
        *job = (job_t){.client = c,
                       .id = spec->id,
                       .priority = spec->priority,
                       .retries = spec->retries,
                       .lane = lane,
                       .flow = flow};
        if (table_put(c->jobs, &job->id, sizeof job->id, job) != 0) {
            free(job);
            return PEACH_E_MEMORY;
        }
        lane->jobs++;
        flow->jobs++;
    }
    *job_p = &job->user;
    return 0;
}

int sched_submit(sched_t *s, sched_client_t *c, uint64_t id, const sched_task_spec_t *spec)
{
    job_t *job = job_find(c, id);
    int rc = 0;
    task_t *task = NULL;
    if (!job)
        rc = PEACH_E_ARGUMENT;
    else if (table_get(c->numbers, &spec->number, sizeof spec->number))
        ; /* a duplicate */
    else if (c->queued >= s->config.window_tasks ||
             (c->queued > 0 && c->bytes >= 2 * s->config.window_bytes))
        rc = PEACH_E_LIMIT; /* what it cancelled may still run, and is not in its count */
    else
        rc = task_new(job, spec, &task);
    if (!task) {
        s->ops.release_payload(s->shell, spec->payload);
        if (job && job->tasks == 0) job_end(s, job);
        return rc;
    }
    s->counts.payload_bytes += spec->bytes;
    if (job->cancelled) {
        part_fail(s, &task->whole, PEACH_E_CANCELLED, "the job was cancelled");
        return 0;
    }
    if (lane_queue(s, &task->whole, false) != 0) {
        part_fail(s, &task->whole, PEACH_E_MEMORY, "the broker is out of memory");
        return 0;
    }
    lane_dispatch(s, job->lane);
    return 0;
}

void sched_cancel(sched_t *s, sched_client_t *c, uint64_t id)
{
    job_t *job = job_find(c, id);
    if (!job || job->cancelled) return;
    job->cancelled = true;
    job->tasks++; /* it would go with its last task */
    node_t *next;
    for (node_t *n = list_first(&c->tasks); n; n = next) {
        next = list_next(&c->tasks, n);
        task_t *task = LIST_ITEM(n, task_t, client_node);
        if (task->job == job) task_cancel(s, task, drop_cancelled);
    }
    if (--job->tasks == 0) job_end(s, job);
}

/* ---- reports ---- */

static part_t *lease_find(sched_t *s, const sched_worker_t *w, uint64_t lease)
{
    part_t *part = table_get(s->leases, &lease, sizeof lease);
    return part && part->worker == w ? part : NULL;
}

bool sched_items_done(sched_t *s, sched_worker_t *w, uint64_t lease, uint32_t first, uint32_t count,
                      void **client, uint64_t *number)
{
    part_t *part = lease_find(s, w, lease);
    if (!part || !ranges_remove(&part->todo, first, count)) return false;
    job_t *job = part->task->job;
    if (!job->client) return false;
    s->counts.done_items += count;
    *client = job->client->user;
    *number = part->task->number;
    return true;
}

bool sched_item_lost(sched_t *s, sched_worker_t *w, uint64_t lease, uint32_t item,
                     const sched_attempt_t *attempt)
{
    part_t *part = lease_find(s, w, lease);
    if (!part) return false;
    /* The item leaves its mates: they are not charged and need not wait for it. */
    part_t *alone = part_split(part, item);
    if (!alone) return false;
    if (part->attempt_count > 0 && part->task->job->client) {
        alone->attempts = part->attempts; /* its history, if it was alone already */
        alone->attempt_count = part->attempt_count;
        part->attempts = NULL;
        part->attempt_count = 0;
    }
    if (!alone->task->job->client)
        part_end(s, alone);
    else
        charge(s, alone, w, attempt, PEACH_E_DIED);
    return true;
}

static void learn(lane_t *lane, uint32_t items, uint64_t elapsed_ns)
{
    uint64_t item_ns = elapsed_ns / items + 1;
    lane->item_ns = lane->item_ns ? (lane->item_ns * 7 + item_ns) / 8 : item_ns;
}

bool sched_lease_end(sched_t *s, sched_worker_t *w, uint64_t lease, uint64_t elapsed_ns)
{
    part_t *part = lease_find(s, w, lease);
    if (!part) return false;
    job_t *job = part->task->job;
    lane_t *lane = job->lane;
    uint64_t expected = part->cost_ns;
    uint32_t left = ranges_items(&part->todo);
    if (elapsed_ns > 0 && part->granted > left) learn(lane, part->granted - left, elapsed_ns);
    if (job->client && elapsed_ns > expected)
        job->client->time += (elapsed_ns - expected) / job->client->weight;
    lease_close(s, part);
    part->returned = left > 0;
    requeue(s, part);
    worker_sort(s, w);
    worker_dispatch(s, w);
    if (left > 0) lane_dispatch(s, lane);
    tell_drained(s, w);
    return true;
}

/* ---- time ---- */

static void lane_fail(sched_t *s, lane_t *lane)
{
    char message[1024];
    const char *also = lane->require_count ? " with the required labels" : "";
    snprintf(message, sizeof message, "%s: no worker%s has this function%s", lane->function, also,
             lane->served ? " any more" : "; load it with a preload (peach init -l FILE)");
    while (lane->heap_count > 0) {
        flow_t *flow = lane->heap[0];
        int p = 31 - __builtin_clz(flow->mask);
        part_t *part = LIST_ITEM(list_first(&flow->queues[p]), part_t, queue_node);
        lane_unqueue(s, part);
        part_fail(s, part, PEACH_E_NO_FUNCTION, message);
    }
}

void sched_tick(sched_t *s, uint64_t now_ms)
{
    s->now_ms = now_ms;
    bool ready = false, loading = false;
    for (node_t *n = list_first(&s->workers); n; n = list_next(&s->workers, n)) {
        sched_worker_t *w = LIST_ITEM(n, sched_worker_t, sched_node);
        ready |= !w->spec.loading;
        loading |= w->spec.loading;
    }
    node_t *next;
    for (node_t *n = list_first(&s->lane_list); n; n = next) {
        next = list_next(&s->lane_list, n);
        lane_t *lane = LIST_ITEM(n, lane_t, sched_node);
        if (lane->workers == 0 && lane->heap_count > 0) {
            uint64_t wait = lane->served ? s->config.absence_ms : s->config.settle_ms;
            if (lane->starved_ms == 0 || loading || !ready)
                lane->starved_ms = now_ms;
            else if (now_ms - lane->starved_ms >= wait)
                lane_fail(s, lane);
        } else if (lane->heap_count > 0) {
            lane_dispatch(s, lane);
        } else if (lane->jobs == 0 && (!lane->served || now_ms - lane->quiet_ms > lane_quiet_ms)) {
            lane_destroy(s, lane);
        }
    }
}

void sched_counts(const sched_t *s, sched_counts_t *counts) { *counts = s->counts; }

static void ignore_assign(void *shell, void *worker, const sched_order_t *order)
{
    (void)shell, (void)worker, (void)order;
}

static void ignore_cancel(void *shell, void *worker, uint64_t lease)
{
    (void)shell, (void)worker, (void)lease;
}

static void ignore_fail(void *shell, void *client, uint64_t number, uint32_t first, uint32_t count,
                        int status, const char *message, const sched_attempt_t *attempts,
                        size_t attempt_count)
{
    (void)shell, (void)client, (void)number, (void)first, (void)count, (void)status;
    (void)message, (void)attempts, (void)attempt_count;
}

void sched_destroy(sched_t **self_p)
{
    sched_t *s = *self_p;
    *self_p = NULL;
    if (!s) return;
    s->ops.assign = ignore_assign;
    s->ops.cancel = ignore_cancel;
    s->ops.fail = ignore_fail;
    while (!list_empty(&s->clients))
        sched_client_remove(s, LIST_ITEM(list_first(&s->clients), sched_client_t, sched_node));
    while (!list_empty(&s->workers))
        sched_worker_remove(s, LIST_ITEM(list_first(&s->workers), sched_worker_t, sched_node), "");
    while (!list_empty(&s->lane_list))
        lane_destroy(s, LIST_ITEM(list_first(&s->lane_list), lane_t, sched_node));
    table_destroy(&s->leases);
    table_destroy(&s->lanes);
    free(s);
}
