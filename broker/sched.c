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
    .loading_ms = 60000,
    .prefetch_ns = 10 * 1000000,
};

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
    DEFAULT(loading_ms);
    DEFAULT(prefetch_ns);
    s->ops = *ops;
    s->shell = shell;
    s->last_lease = config->first_lease;
    list_init(&s->lane_list);
    list_init(&s->workers);
    list_init(&s->clients);
    list_init(&s->timed);
    s->leases = idmap_new(&config->seed);
    s->lanes = table_new(&config->seed);
    if (!s->leases || !s->lanes) {
        idmap_destroy(&s->leases);
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
    if (connected) w->drained = false; /* what it was told may be lost with the connection */
    worker_tell_drained(s, w);
}

void sched_worker_drain(sched_t *s, sched_worker_t *w)
{
    set_open(s, w, w->connected, true);
    worker_tell_drained(s, w);
}

uint32_t sched_worker_leases(const sched_worker_t *w) { return w->lease_count; }
bool sched_worker_draining(const sched_worker_t *w) { return w->draining; }

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
            lease_undelivered(s, part);
    }
    for (size_t i = 0; i < count; i++) {
        const part_t *part = idmap_get(s->leases, held[i]);
        bool wanted =
            part && part->worker == w && part->task->job->client && !part->task->job->over;
        if (!wanted) s->ops.cancel(s->shell, w->user, held[i]);
    }
    worker_sort(s, w);
    worker_dispatch(s, w);
    worker_tell_drained(s, w);
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

void sched_worker_leave(sched_t *s, sched_worker_t *w)
{
    set_open(s, w, false, w->draining);
    while (!list_empty(&w->leases))
        lease_undelivered(s, LIST_ITEM(list_first(&w->leases), part_t, lease_node));
    sched_worker_remove(s, w, "");
}

/* ---- clients ---- */

sched_client_t *sched_client_add(sched_t *s, void *user)
{
    sched_client_t *c = calloc(1, sizeof *c);
    if (!c) return NULL;
    c->user = user;
    c->time = s->time;
    c->jobs = idmap_new(&s->config.seed);
    c->numbers = idmap_new(&s->config.seed);
    if (!c->jobs || !c->numbers) {
        idmap_destroy(&c->jobs);
        idmap_destroy(&c->numbers);
        free(c);
        return NULL;
    }
    list_init(&c->tasks);
    list_init(&c->runs);
    list_init(&c->flows);
    list_append(&s->clients, &c->sched_node);
    return c;
}

/* Every queued part of the task goes to drop, its leases to stop. The task may be gone
   afterwards. */
static void task_cancel(sched_t *s, task_t *task, void (*drop)(sched_t *, part_t *),
                        void (*stop)(sched_t *, part_t *))
{
    node_t *next;
    for (node_t *n = list_first(&task->parts); n; n = next) {
        next = list_next(&task->parts, n);
        part_t *part = LIST_ITEM(n, part_t, task_node);
        if (part->lease) {
            stop(s, part);
            continue;
        }
        lane_unqueue(s, part);
        drop(s, part);
    }
}

static void part_stop(sched_t *s, part_t *part)
{
    s->ops.cancel(s->shell, part->worker->user, part->lease);
}

void sched_client_remove(sched_t *s, sched_client_t *c)
{
    list_remove(&c->sched_node);
    while (!list_empty(&c->runs)) run_drop(s, LIST_ITEM(list_first(&c->runs), run_t, client_node));
    node_t *next;
    for (node_t *n = list_first(&c->tasks); n; n = next) {
        next = list_next(&c->tasks, n);
        task_cancel(s, LIST_ITEM(n, task_t, client_node), part_end, part_stop);
    }
    /* What is left runs out at its workers, without a client. */
    size_t cursor = 0;
    for (job_t *job; (job = idmap_next(c->jobs, &cursor)) != NULL;) {
        job->client = NULL;
        job->flow = NULL;
        list_remove(&job->timed_node);
        if (job->tasks == 0) job_end(s, job);
    }
    while (!list_empty(&c->flows))
        flow_destroy(LIST_ITEM(list_first(&c->flows), flow_t, client_node));
    idmap_destroy(&c->jobs);
    idmap_destroy(&c->numbers);
    free(c);
}

static void give_back(sched_t *s, sched_client_t *c)
{
    for (node_t *n = list_first(&c->tasks); n; n = list_next(&c->tasks, n)) {
        const task_t *task = LIST_ITEM(n, task_t, client_node);
        for (node_t *p = list_first(&task->parts); p; p = list_next(&task->parts, p)) {
            const part_t *part = LIST_ITEM(p, part_t, task_node);
            if (part->lease) s->ops.give_back(s->shell, part->worker->user, part->lease);
        }
    }
}

void sched_client_hold(sched_t *s, sched_client_t *c, bool hold)
{
    if (c->hold == hold) return;
    c->hold = hold;
    if (hold) give_back(s, c);
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

void sched_job_counts(const sched_client_t *c, uint64_t id, uint64_t *queued, uint64_t *running)
{
    const job_t *job = job_find(c, id);
    *queued = job ? job->queued : 0;
    *running = job ? job->running : 0;
}

/* ---- work ---- */

int sched_job(sched_t *s, sched_client_t *c, const sched_job_spec_t *spec, void ***job_p)
{
    job_t *job = job_find(c, spec->id);
    if (!job) {
        lane_t *lane = lane_obtain(s, spec->function, spec->require, spec->require_count);
        flow_t *flow = lane ? flow_obtain(c, lane) : NULL;
        if (!flow || (c->depth != spec->depth && flows_deepen(c, spec->depth) != 0) ||
            !(job = calloc(1, sizeof *job)))
            return PEACH_E_MEMORY;
        *job = (job_t){.client = c,
                       .id = spec->id,
                       .priority = spec->priority,
                       .retries = spec->retries,
                       .retry_errors = spec->retry_errors,
                       .weight = spec->weight ? spec->weight : 1,
                       .over_ms = spec->deadline_ms ? s->now_ms + spec->deadline_ms : 0,
                       .queue_ms = spec->queue_ms,
                       .lane = lane,
                       .flow = flow};
        list_init(&job->unbegun);
        if (idmap_put(c->jobs, job->id, job) != 0) {
            free(job);
            return PEACH_E_MEMORY;
        }
        if (job->over_ms || job->queue_ms) list_append(&s->timed, &job->timed_node);
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
    else if (spec->number <= c->highest &&
             (idmap_get(c->numbers, spec->number) || run_has(c, spec->number)))
        ; /* a duplicate */
    else if ((rc = task_room(s, c, 1)) == 0)
        rc = task_new(s, job, spec, &task);
    if (!task) {
        s->ops.release_payload(s->shell, spec->payload);
        if (job && job->tasks == 0) job_end(s, job);
        return rc;
    }
    s->counts.payload_bytes += spec->bytes;
    if (job->over) {
        part_fail(s, &task->whole, job->over, job_over_text(job));
        return 0;
    }
    task->queued_ms = s->now_ms;
    list_append(&job->unbegun, &task->unbegun_node);
    if (lane_queue(s, &task->whole, false) != 0) {
        part_fail(s, &task->whole, PEACH_E_MEMORY, "the broker is out of memory");
        return 0;
    }
    lane_dispatch(s, job->lane);
    return 0;
}

static void drop_over(sched_t *s, part_t *part)
{
    part_fail(s, part, part->task->job->over, job_over_text(part->task->job));
}

/* Nobody waits for what a job past its deadline still runs. */
static void part_abandon(sched_t *s, part_t *part)
{
    part_tell(s, part, part->task->job->over, job_over_text(part->task->job));
    part_stop(s, part);
}

/* The job takes nothing more: its queued tasks fail, its leases go to stop. */
static void job_stop(sched_t *s, job_t *job, int over, void (*stop)(sched_t *, part_t *))
{
    sched_client_t *c = job->client;
    job->over = over;
    job->tasks++; /* it would go with its last task */
    node_t *next;
    for (node_t *n = list_first(&c->tasks); n; n = next) {
        next = list_next(&c->tasks, n);
        task_t *task = LIST_ITEM(n, task_t, client_node);
        if (task->job == job) task_cancel(s, task, drop_over, stop);
    }
    for (node_t *n = list_first(&c->runs); n; n = next) {
        next = list_next(&c->runs, n);
        run_t *run = LIST_ITEM(n, run_t, client_node);
        if (run->job == job) run_fail(s, run, over, job_over_text(job));
    }
    if (--job->tasks == 0) job_end(s, job);
}

void sched_cancel(sched_t *s, sched_client_t *c, uint64_t id)
{
    job_t *job = job_find(c, id);
    if (job && !job->over) job_stop(s, job, PEACH_E_CANCELLED, part_stop);
}

/* ---- time ---- */

/* Which of the required labels no worker has, or that none has the function too. */
static void lane_complaint(const sched_t *s, const lane_t *lane, char *text, size_t size)
{
    bool labelled = lane->require_count == 0;
    char labels[512] = "";
    for (size_t i = 0; i < lane->require_count; i++)
        snprintf(labels + strlen(labels), sizeof labels - strlen(labels), "%s%s=%s", i ? ", " : "",
                 lane->require[i].key, lane->require[i].value);
    for (node_t *n = list_first(&s->workers); n && !labelled; n = list_next(&s->workers, n))
        labelled = lane_labels_match(lane, LIST_ITEM(n, sched_worker_t, sched_node));
    if (!labelled)
        snprintf(text, size, "%s: no worker has the required label%s %s (peach worker --label)",
                 lane->function, lane->require_count > 1 ? "s" : "", labels);
    else if (strcmp(lane->function, SCHED_BY_VALUE) == 0)
        snprintf(text, size, "no worker%s%s takes %s%s (it needs Python, and no --no-push)",
                 *labels ? " with the label " : "", labels, SCHED_BY_VALUE,
                 lane->served ? " any more" : "");
    else
        snprintf(text, size, "%s: no worker%s%s has this function%s", lane->function,
                 *labels ? " with the label " : "", labels, lane->served ? " any more" : "");
    if (labelled && strcmp(lane->function, SCHED_BY_VALUE) != 0)
        s->ops.suggest(s->shell, lane->function, text + strlen(text), size - strlen(text));
}

static void lane_fail(sched_t *s, lane_t *lane)
{
    char message[1024];
    lane_complaint(s, lane, message, sizeof message);
    while (lane->heap_count > 0) {
        flow_t *flow = lane->heap[0];
        int p = 31 - __builtin_clz(flow->mask);
        entry_t *entry = LIST_ITEM(list_first(&flow->queues[p]), entry_t, node);
        if (entry->is_run) {
            run_fail(s, LIST_ITEM(entry, run_t, entry), PEACH_E_NO_FUNCTION, message);
            continue;
        }
        part_t *part = LIST_ITEM(entry, part_t, entry);
        lane_unqueue(s, part);
        part_fail(s, part, PEACH_E_NO_FUNCTION, message);
    }
}

/* Ends what waited for too long, and jobs whose deadline has come. */
static void jobs_keep_time(sched_t *s)
{
    node_t *next;
    for (node_t *n = list_first(&s->timed); n; n = next) {
        next = list_next(&s->timed, n);
        job_t *job = LIST_ITEM(n, job_t, timed_node);
        if (job->over) continue;
        if (job->over_ms && s->now_ms >= job->over_ms) {
            job_stop(s, job, PEACH_E_TIMEOUT, part_abandon);
            continue;
        }
        job->tasks++; /* it would go with its last task */
        for (node_t *t; job->queue_ms && (t = list_first(&job->unbegun)) != NULL;) {
            task_t *task = LIST_ITEM(t, task_t, unbegun_node);
            if (s->now_ms - task->queued_ms < job->queue_ms) break;
            lane_unqueue(s, &task->whole);
            part_fail(s, &task->whole, PEACH_E_TIMEOUT,
                      "no worker began the item within its time in the queue");
        }
        if (--job->tasks == 0) job_end(s, job);
    }
}

static void worker_keep_time(sched_t *s, sched_worker_t *w)
{
    if (!w->rest_ms || s->now_ms < w->rest_ms) return;
    w->rest_ms = 0;
    worker_sort(s, w);
    worker_dispatch(s, w);
}

/* Whether a worker is loading that may come to serve the lane. */
static bool lane_has_hope(const sched_t *s, const lane_t *lane)
{
    for (node_t *n = list_first(&s->workers); n; n = list_next(&s->workers, n)) {
        const sched_worker_t *w = LIST_ITEM(n, sched_worker_t, sched_node);
        if (w->spec.loading && lane_labels_match(lane, w)) return true;
    }
    return false;
}

/* It has parts and nobody serves it. While the fleet is empty that is no reason to fail. */
static void lane_starves(sched_t *s, lane_t *lane, bool fleet)
{
    uint64_t wait = lane->served ? s->config.absence_ms : s->config.settle_ms;
    bool hope = lane_has_hope(s, lane);
    if (lane->starved_ms == 0 || (!fleet && !hope))
        lane->starved_ms = lane->hopeless_ms = s->now_ms;
    if (hope) lane->hopeless_ms = s->now_ms;
    if (s->now_ms - lane->hopeless_ms >= wait ||
        s->now_ms - lane->starved_ms >= wait + s->config.loading_ms)
        lane_fail(s, lane);
}

void sched_tick(sched_t *s, uint64_t now_ms)
{
    s->now_ms = now_ms;
    bool fleet = false; /* somebody is there and has what it will have */
    for (node_t *n = list_first(&s->workers); n; n = list_next(&s->workers, n)) {
        sched_worker_t *w = LIST_ITEM(n, sched_worker_t, sched_node);
        fleet |= !w->spec.loading;
        worker_keep_time(s, w);
    }
    jobs_keep_time(s);
    node_t *next;
    for (node_t *n = list_first(&s->lane_list); n; n = next) {
        next = list_next(&s->lane_list, n);
        lane_t *lane = LIST_ITEM(n, lane_t, sched_node);
        if (lane->workers == 0 && lane->heap_count > 0)
            lane_starves(s, lane, fleet);
        else if (lane->heap_count > 0)
            lane_dispatch(s, lane);
        else if (lane->jobs == 0 && (!lane->served || now_ms - lane->quiet_ms > lane_quiet_ms))
            lane_destroy(s, lane);
    }
}

void sched_counts(const sched_t *s, sched_counts_t *counts) { *counts = s->counts; }

static void ignore_assign(void *shell, void *worker, const sched_order_t *order)
{
    (void)shell, (void)worker, (void)order;
}

static void ignore_suggest(void *shell, const char *function, char *text, size_t size)
{
    (void)shell, (void)function, (void)text, (void)size;
}

static void ignore_lease(void *shell, void *worker, uint64_t lease)
{
    (void)shell, (void)worker, (void)lease;
}

static void ignore_fail(void *shell, const sched_owner_t *owner, uint32_t first, uint32_t count,
                        int status, const char *message, const sched_attempt_t *attempts,
                        size_t attempt_count)
{
    (void)shell, (void)owner, (void)first, (void)count, (void)status;
    (void)message, (void)attempts, (void)attempt_count;
}

void sched_destroy(sched_t **self_p)
{
    sched_t *s = *self_p;
    *self_p = NULL;
    if (!s) return;
    s->ops.assign = ignore_assign;
    s->ops.cancel = s->ops.give_back = ignore_lease;
    s->ops.fail = ignore_fail;
    s->ops.suggest = ignore_suggest;
    while (!list_empty(&s->clients))
        sched_client_remove(s, LIST_ITEM(list_first(&s->clients), sched_client_t, sched_node));
    while (!list_empty(&s->workers))
        sched_worker_remove(s, LIST_ITEM(list_first(&s->workers), sched_worker_t, sched_node), "");
    while (!list_empty(&s->lane_list))
        lane_destroy(s, LIST_ITEM(list_first(&s->lane_list), lane_t, sched_node));
    idmap_destroy(&s->leases);
    table_destroy(&s->lanes);
    pool_clear(&s->tasks);
    free(s);
}
