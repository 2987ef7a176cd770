/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "sched_core.h"

#define CHECK(condition) \
    if (!(condition)) return #condition

static const char *verify_heap(const lane_t *lane)
{
    for (size_t i = 0; i < lane->heap_count; i++) {
        const flow_t *flow = lane->heap[i];
        CHECK(flow->heap_index == i);
        CHECK(flow->mask != 0);
        CHECK(!flow->client->hold);
        CHECK(i == 0 || !flow_before(flow, lane->heap[(i - 1) / 2]));
    }
    return NULL;
}

static const char *verify_lane(const lane_t *lane)
{
    size_t workers = 0;
    for (node_t *n = list_first(&lane->serves); n; n = list_next(&lane->serves, n)) {
        const serve_t *serve = LIST_ITEM(n, serve_t, lane_node);
        const sched_worker_t *w = serve->worker;
        CHECK(serve->lane == lane);
        CHECK(lane_admits(lane, w));
        bool open = worker_open(w);
        /* No work waits while somebody is free for it, unless it was just lost there. */
        CHECK(open || !node_listed(&serve->ready_node));
        CHECK(!open || w->lease_count >= w->spec.slots || node_listed(&serve->ready_node));
        workers++;
    }
    CHECK(workers == lane->workers);
    return verify_heap(lane);
}

static const char *verify_worker(const sched_worker_t *w)
{
    uint32_t leases = 0;
    uint64_t load = 0, bytes = 0;
    for (node_t *n = list_first(&w->leases); n; n = list_next(&w->leases, n)) {
        const part_t *part = LIST_ITEM(n, part_t, lease_node);
        CHECK(part->worker == w);
        CHECK(part->lease != 0);
        CHECK(!node_listed(&part->entry.node));
        leases++;
        load += part->cost_ns;
        bytes += part->task->bytes;
    }
    CHECK(leases == w->lease_count);
    CHECK(load == w->load_ns);
    CHECK(bytes == w->bytes);
    CHECK(leases <= w->spec.window);
    return NULL;
}

static const char *verify_task(const task_t *task, uint64_t *queued, uint64_t *running)
{
    uint32_t items = 0;
    CHECK(!list_empty(&task->parts));
    for (node_t *n = list_first(&task->parts); n; n = list_next(&task->parts, n)) {
        const part_t *part = LIST_ITEM(n, part_t, task_node);
        CHECK(part->task == task);
        CHECK((part->lease != 0) != node_listed(&part->entry.node));
        items += ranges_items(&part->todo);
        ++*(part->lease ? running : queued);
    }
    CHECK(items <= task->items);
    return NULL;
}

/* Its jobs' tasks are all of its tasks. */
static const char *verify_jobs(const sched_client_t *c)
{
    uint64_t queued = 0, running = 0;
    size_t cursor = 0;
    for (const job_t *job; (job = idmap_next(c->jobs, &cursor)) != NULL;) {
        queued += job->queued;
        running += job->running;
    }
    CHECK(queued == c->queued);
    CHECK(running == c->running);
    return NULL;
}

static const char *verify_client(const sched_client_t *c)
{
    uint64_t tasks = 0, bytes = 0, queued = 0, running = 0;
    for (node_t *n = list_first(&c->tasks); n; n = list_next(&c->tasks, n)) {
        const task_t *task = LIST_ITEM(n, task_t, client_node);
        CHECK(task->job->client == c);
        CHECK(idmap_get(c->numbers, task->number) == task);
        const char *wrong = verify_task(task, &queued, &running);
        if (wrong) return wrong;
        tasks++;
        bytes += task->bytes;
    }
    CHECK(idmap_count(c->numbers) == tasks);
    for (node_t *n = list_first(&c->runs); n; n = list_next(&c->runs, n)) {
        const run_t *run = LIST_ITEM(n, run_t, client_node);
        CHECK(run->next < run->count);
        CHECK(run->job->client == c && !run->job->over);
        CHECK(node_listed(&run->entry.node));
        CHECK(run_has(c, run->numbers[run->next]));
        tasks += run->count - run->next;
        queued += run->count - run->next;
        bytes += run->ends[run->count - 1] - (run->next ? run->ends[run->next - 1] : 0);
    }
    CHECK(tasks == c->task_count);
    CHECK(bytes == c->bytes);
    CHECK(queued == c->queued);
    CHECK(running == c->running);
    return verify_jobs(c);
}

const char *sched_verify(const sched_t *s)
{
    const char *wrong = NULL;
    uint64_t leases = 0, queued = 0;
    uint32_t slots = 0;
    for (node_t *n = list_first(&s->lane_list); n && !wrong; n = list_next(&s->lane_list, n))
        wrong = verify_lane(LIST_ITEM(n, lane_t, sched_node));
    for (node_t *n = list_first(&s->workers); n && !wrong; n = list_next(&s->workers, n)) {
        const sched_worker_t *w = LIST_ITEM(n, sched_worker_t, sched_node);
        wrong = verify_worker(w);
        leases += w->lease_count;
        if (w->connected && !w->draining) slots += w->spec.slots;
    }
    for (node_t *n = list_first(&s->clients); n && !wrong; n = list_next(&s->clients, n)) {
        const sched_client_t *c = LIST_ITEM(n, sched_client_t, sched_node);
        wrong = verify_client(c);
        queued += c->queued;
    }
    if (wrong) return wrong;
    CHECK(leases == s->counts.leases);
    CHECK(leases == idmap_count(s->leases));
    CHECK(queued == s->counts.queued_tasks);
    CHECK(slots == s->counts.slots);
    return NULL;
}
