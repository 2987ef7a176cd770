/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */

/* Runs: many tasks of one item that came together and wait as columns, a task 20 bytes
   and its payload. One becomes a task when a worker gets it. */
#include "sched_core.h"

#include <stdlib.h>
#include <string.h>

enum { LEAST = 16 }; /* fewer are no run: a client's runs are searched one by one */

bool sched_run_suits(const sched_client_t *c, uint64_t id, const uint64_t *numbers, size_t count)
{
    const job_t *job = job_find(c, id);
    if (count < LEAST || !job || job->over || job->queue_ms || numbers[0] <= c->highest)
        return false;
    for (size_t i = 1; i < count; i++)
        if (numbers[i] <= numbers[i - 1]) return false;
    return true;
}

static run_t *run_new(job_t *job, const sched_run_spec_t *spec)
{
    size_t count = spec->count, offset = 0;
    run_t *run = malloc(sizeof *run + count * (2 * sizeof *run->numbers + sizeof *run->ends));
    if (!run) return NULL;
    *run = (run_t){.job = job, .count = count, .payload = spec->payload, .entry.is_run = true};
    run->numbers = (uint64_t *)(run + 1);
    run->items = run->numbers + count;
    run->ends = (uint32_t *)(run->items + count);
    memcpy(run->numbers, spec->numbers, count * sizeof *run->numbers);
    memcpy(run->items, spec->items, count * sizeof *run->items);
    for (size_t i = 0; i < count; i++) run->ends[i] = (uint32_t)(offset += spec->sizes[i]);
    return run;
}

/* Bytes of the payloads that wait. */
static size_t run_bytes(const run_t *run)
{
    return run->ends[run->count - 1] - (run->next ? run->ends[run->next - 1] : 0);
}

int sched_submit_run(sched_t *s, sched_client_t *c, uint64_t id, const sched_run_spec_t *spec)
{
    job_t *job = job_find(c, id);
    int rc = task_room(s, c, spec->count);
    run_t *run = rc == 0 ? run_new(job, spec) : NULL;
    if (!run) {
        s->ops.release_payload(s->shell, spec->payload);
        return rc ? rc : PEACH_E_MEMORY;
    }
    if (lane_queue_run(s, run) != 0) {
        free(run);
        s->ops.release_payload(s->shell, spec->payload);
        return PEACH_E_MEMORY;
    }
    job->tasks++;
    list_append(&c->runs, &run->client_node);
    c->highest = spec->numbers[spec->count - 1];
    c->task_count += spec->count;
    c->bytes += run_bytes(run);
    s->counts.payload_bytes += run_bytes(run);
    lane_dispatch(s, job->lane);
    return 0;
}

/* The next task leaves the run; its payload is bytes begin.. of the run's. */
static sched_task_spec_t run_next(sched_t *s, run_t *run, size_t *begin_p)
{
    size_t i = run->next++, begin = i ? run->ends[i - 1] : 0;
    sched_client_t *c = run->job->client;
    sched_task_spec_t spec = {.number = run->numbers[i],
                              .first_item = run->items[i],
                              .items = 1,
                              .bytes = run->ends[i] - begin};
    c->task_count--;
    c->queued--;
    run->job->queued--;
    c->bytes -= spec.bytes;
    s->counts.payload_bytes -= spec.bytes;
    s->counts.queued_tasks--;
    *begin_p = begin;
    return spec;
}

/* Frees a run that has nothing left, or that nobody wants. */
static void run_free(sched_t *s, run_t *run)
{
    job_t *job = run->job;
    list_remove(&run->client_node);
    s->ops.release_payload(s->shell, run->payload);
    free(run);
    if (--job->tasks == 0) job_end(s, job);
}

/* Tells the client that a task of a run fails. */
static void run_tell(sched_t *s, const job_t *job, uint64_t number, int status, const char *message)
{
    const sched_owner_t owner = {job->client->user, job->user, number};
    s->counts.failed_items++;
    s->ops.fail(s->shell, &owner, 0, 1, status, message, NULL, 0);
}

part_t *run_take(sched_t *s, run_t *run)
{
    size_t begin;
    sched_task_spec_t spec = run_next(s, run, &begin);
    job_t *job = run->job;
    task_t *task = NULL;
    spec.payload = s->ops.slice(s->shell, run->payload, begin, spec.bytes);
    int rc = spec.payload ? task_new(s, job, &spec, &task) : PEACH_E_MEMORY;
    if (rc) {
        run_tell(s, job, spec.number, rc, "the broker is out of memory");
        if (spec.payload) s->ops.release_payload(s->shell, spec.payload);
    } else {
        s->counts.payload_bytes += spec.bytes;
    }
    if (run->next == run->count) {
        lane_unqueue_run(run);
        run_free(s, run);
    }
    return task ? &task->whole : NULL;
}

void run_fail(sched_t *s, run_t *run, int status, const char *message)
{
    lane_unqueue_run(run);
    while (run->next < run->count) {
        size_t begin;
        sched_task_spec_t spec = run_next(s, run, &begin);
        run_tell(s, run->job, spec.number, status, message);
    }
    run_free(s, run);
}

void run_drop(sched_t *s, run_t *run)
{
    sched_client_t *c = run->job->client;
    size_t left = run->count - run->next;
    lane_unqueue_run(run);
    c->task_count -= left;
    c->queued -= left;
    run->job->queued -= left;
    c->bytes -= run_bytes(run);
    s->counts.payload_bytes -= run_bytes(run);
    s->counts.queued_tasks -= left;
    run_free(s, run);
}

bool run_has(const sched_client_t *c, uint64_t number)
{
    if (number > c->highest) return false;
    for (node_t *n = list_first(&c->runs); n; n = list_next(&c->runs, n)) {
        const run_t *run = LIST_ITEM(n, run_t, client_node);
        if (number < run->numbers[run->next] || number > run->numbers[run->count - 1]) continue;
        size_t low = run->next, high = run->count;
        while (low < high) {
            size_t middle = (low + high) / 2;
            if (run->numbers[middle] == number) return true;
            if (run->numbers[middle] < number)
                low = middle + 1;
            else
                high = middle;
        }
    }
    return false;
}
