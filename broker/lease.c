/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "sched_core.h"

#include <stdio.h>

/* A lost lease of several items goes on in so many pieces. */
enum { PIECES = 64 };

static const uint64_t avoid_ms = 1000; /* how long a lost part waits for another worker */

/* A worker with so many bad leases in a row rests, if others had some good ones and few
   bad ones meanwhile. */
enum { STRIKES = 8, OTHERS_GOOD = 3, OTHERS_GOOD_TO_BAD = 4 };
static const uint64_t rest_ms = 500, longest_rest_ms = 10000;

const char *job_over_text(const job_t *job)
{
    return job->over == PEACH_E_TIMEOUT ? "the deadline of the job has passed"
                                        : "the job was cancelled";
}

void worker_tell_drained(sched_t *s, sched_worker_t *w)
{
    if (!w->draining || w->drained || w->lease_count > 0 || !w->connected) return;
    w->drained = true;
    s->ops.drained(s->shell, w->user);
}

/* ---- how leases end ---- */

/* Takes the lease away from its worker; the part is neither queued nor leased then. */
static void lease_close(sched_t *s, part_t *part)
{
    sched_worker_t *w = part->worker;
    idmap_remove(s->leases, part->lease);
    list_remove(&part->lease_node);
    w->lease_count--;
    w->load_ns -= part->cost_ns;
    w->bytes -= part->task->bytes;
    s->counts.leases--;
    part->task->job->running--;
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
    else if (job->over)
        part_fail(s, part, job->over, job_over_text(job));
    else if (lane_queue(s, part, true) != 0)
        part_fail(s, part, PEACH_E_MEMORY, "the broker is out of memory");
}

/* Charges a part that is neither queued nor leased with a lost attempt and queues
   it again, or fails it when it has none left. */
static void charge(sched_t *s, part_t *part, const sched_worker_t *w,
                   const sched_attempt_t *attempt, int status)
{
    char message[512];
    const job_t *job = part->task->job;
    if (!job->client || job->over) {
        requeue(s, part);
        return;
    }
    if (part_charge(part, attempt) != 0 || part->attempt_count > job->retries) {
        snprintf(message, sizeof message, "%s on %s (attempt %u of %u)", attempt->cause,
                 attempt->host, part->attempt_count, job->retries + 1);
        part_fail(s, part, status, message);
        return;
    }
    part->avoid = w->serial;
    part->avoid_until_ms = s->now_ms + avoid_ms;
    s->counts.retried_items += ranges_items(&part->todo);
    requeue(s, part);
}

/* The item leaves its mates, with its history if it was alone already: they are not
   charged and need not wait for it. NULL when it is not in the part. */
static part_t *isolate(part_t *part, uint32_t item)
{
    part_t *alone = part_split(part, item, 1);
    if (!alone) return NULL;
    alone->attempts = part->attempts;
    alone->attempt_count = part->attempt_count;
    part->attempts = NULL;
    part->attempt_count = 0;
    return alone;
}

void lease_lost(sched_t *s, part_t *part, sched_worker_t *w, const char *cause, bool ran)
{
    const job_t *job = part->task->job;
    sched_attempt_t attempt = {w->spec.host, 0, cause};
    lease_close(s, part);
    uint32_t left = ranges_items(&part->todo);
    /* At most once is at most once: what may have started does not start again. */
    if (left > 0 && (job->retries == 0 || (ran && left == 1))) {
        charge(s, part, w, &attempt, PEACH_E_LOST);
        return;
    }
    if (ran) part->piece = (left + PIECES - 1) / PIECES;
    requeue(s, part);
}

void lease_undelivered(sched_t *s, part_t *part)
{
    lease_close(s, part);
    requeue(s, part);
}

/* ---- what workers report ---- */

static part_t *lease_find(sched_t *s, const sched_worker_t *w, uint64_t lease)
{
    part_t *part = idmap_get(s->leases, lease);
    return part && part->worker == w ? part : NULL;
}

static void note(part_t *part, int status)
{
    part->good |= status == 0;
    part->bad |= status == PEACH_E_RAISED || status == PEACH_E_DIED;
}

bool sched_items_done(sched_t *s, sched_worker_t *w, uint64_t lease, uint32_t first, uint32_t count,
                      int status, sched_owner_t *owner)
{
    part_t *part = lease_find(s, w, lease);
    if (!part || !ranges_remove(&part->todo, first, count)) return false;
    note(part, status);
    job_t *job = part->task->job;
    if (!job->client) return false;
    s->counts.done_items += count;
    *owner = task_owner(part->task);
    return true;
}

bool sched_lease_owner(sched_t *s, const sched_worker_t *w, uint64_t lease, sched_owner_t *owner)
{
    const part_t *part = lease_find(s, w, lease);
    if (!part || !part->task->job->client) return false;
    *owner = task_owner(part->task);
    return true;
}

bool sched_item_raised(sched_t *s, sched_worker_t *w, uint64_t lease, uint32_t item,
                       const sched_attempt_t *attempt)
{
    part_t *part = lease_find(s, w, lease);
    if (!part) return false;
    const job_t *job = part->task->job;
    if (!job->retry_errors || part->attempt_count >= job->retries) return false;
    part_t *alone = isolate(part, item);
    if (!alone) return false;
    note(part, PEACH_E_RAISED);
    charge(s, alone, w, attempt, PEACH_E_RAISED);
    return true;
}

bool sched_item_lost(sched_t *s, sched_worker_t *w, uint64_t lease, uint32_t item,
                     const sched_attempt_t *attempt)
{
    part_t *part = lease_find(s, w, lease);
    part_t *alone = part ? isolate(part, item) : NULL;
    if (!alone) return false;
    note(part, PEACH_E_DIED);
    charge(s, alone, w, attempt, PEACH_E_DIED);
    return true;
}

/* ---- what is learned from leases ---- */

static void learn(lane_t *lane, uint32_t items, uint64_t elapsed_ns)
{
    uint64_t item_ns = elapsed_ns / items + 1;
    lane->item_ns = lane->item_ns ? (lane->item_ns * 7 + item_ns) / 8 : item_ns;
}

/* A lease ended with errors only: is it the worker? */
static void strike(sched_t *s, sched_worker_t *w, lane_t *lane)
{
    if (w->struck != lane) w->strikes = 0;
    w->struck = lane;
    if (w->strikes++ == 0) {
        w->good_before = lane->good;
        w->bad_before = lane->bad;
    }
    lane->bad++;
    uint64_t others_good = lane->good - w->good_before;
    uint64_t others_bad = lane->bad - w->bad_before - w->strikes;
    if (w->strikes < STRIKES || others_good < OTHERS_GOOD ||
        others_bad * OTHERS_GOOD_TO_BAD > others_good)
        return;
    uint32_t doublings = w->strikes - STRIKES;
    uint64_t rest = doublings < 8 ? rest_ms << doublings : longest_rest_ms;
    w->rest_ms = s->now_ms + (rest < longest_rest_ms ? rest : longest_rest_ms);
}

static void judge(sched_t *s, sched_worker_t *w, const part_t *part)
{
    lane_t *lane = part->task->job->lane;
    if (part->good) {
        lane->good++;
        w->strikes = 0;
    } else if (part->bad) {
        strike(s, w, lane);
    }
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
        job->client->time += (elapsed_ns - expected) / job->weight;
    judge(s, w, part);
    lease_close(s, part);
    part->returned = left > 0;
    requeue(s, part);
    worker_sort(s, w);
    worker_dispatch(s, w);
    if (left > 0) lane_dispatch(s, lane);
    worker_tell_drained(s, w);
    return true;
}
