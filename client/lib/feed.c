/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "items.h"
#include "job.h"
#include "value_tree.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_CHUNK = 65536, CHUNK_BYTES = 1 << 20 };
enum { AHEAD_NS = 10000000, MOST_AHEAD = 1024 }; /* work and tasks that a slot takes ahead */

/* Chunks are to take this long: long against the cost of a message, short against
   what a user waits for. */
static const uint64_t chunk_ns = 20000000;

/* Puts the job into the batch, as it is now. */
static int batch_job(peach_job_t *job)
{
    peach_t *self = job->session;
    Peach__Job *m = &job->message;
    if (job->deadline_ms) /* what is left of it: no two hosts have one clock */
        m->deadline_ms = job->deadline_ms > self->now_ms ? job->deadline_ms - self->now_ms : 1;
    if (job->options.retries == 0)
        m->origin = (ProtobufCBinaryData){sizeof self->origin, self->origin};
    m->known_items = job->total;
    m->known_final = job->total_final;
    int rc = wire_batch_add(&self->batch, 1, &m->base);
    job->known |= rc == 0;
    job->known_final |= rc == 0 && job->total_final;
    return rc;
}

/* Puts the task's unfinished items into the batch. */
static int batch_task(peach_job_t *job, task_t *task)
{
    peach_t *self = job->session;
    if (wire_batch_full(&self->batch)) session_flush(self);
    if (wire_batch_full(&self->batch)) return PEACH_E_TIMEOUT;
    if (job->batch_serial != self->batch_serial || self->batch_jobs == 0) {
        int rc = batch_job(job);
        if (rc) return rc;
        job->batch_serial = self->batch_serial;
        job->batch_index = self->batch_jobs++;
    }
    if (task->items == 1 && task->payload_bytes <= WIRE_INLINE_BYTES) {
        uint8_t bytes[ITEMS_NUMBER_BYTES];
        peach_value_t number = {.kind = task->kind, .integer = task->number_bits};
        if (task->kind) items_put_number(bytes, &number);
        int rc =
            wire_batch_task(&self->batch, job->batch_index, task->number, task->first_item,
                            task->kind ? bytes : payload_bytes(task->payload), task->payload_bytes);
        if (rc == 0) task->serial = self->submitted + 1;
        return rc;
    }
    size_t count;
    const range_t *todo = ranges_all(&task->todo, &count);
    bool whole = count == 1 && todo[0].count == task->items;
    Peach__Task message = PEACH__TASK__INIT;
    Peach__Payload payload;
    Peach__Range *ranges = whole ? NULL : calloc(count, sizeof *ranges);
    Peach__Range **pointers = whole ? NULL : calloc(count, sizeof *pointers);
    int rc = whole || (ranges && pointers) ? 0 : PEACH_E_MEMORY;
    for (size_t i = 0; rc == 0 && !whole && i < count; i++) {
        pointers[i] = &ranges[i];
        peach__range__init(&ranges[i]);
        ranges[i].first = todo[i].first;
        ranges[i].count = todo[i].count;
    }
    message.id = task->number;
    message.job = job->batch_index;
    message.first_item = task->first_item;
    message.items = task->items;
    message.payload = &payload;
    message.todo = pointers;
    message.n_todo = whole ? 0 : count;
    if (rc == 0) rc = wire_attach(&self->batch.frames, task->payload, &payload);
    if (rc == 0) rc = wire_batch_add(&self->batch, 2, &message.base);
    if (rc == 0) task->serial = self->submitted + 1;
    free(ranges);
    free(pointers);
    return rc;
}

void job_end_task(task_t *task, int status, const char *message)
{
    Peach__Failure failure = PEACH__FAILURE__INIT;
    failure.count = task->items;
    failure.status = status;
    failure.message = (char *)message;
    job_fail_items(task, &failure);
    task->job->astray = true;
    job_forget_task(task->job, task);
}

static void note_unsent(task_t *task, bool unsent)
{
    uint64_t more = (uint64_t)unsent - (uint64_t)task->unsent;
    task->job->unsent += more;
    task->job->session->unsent += more;
    task->unsent = unsent;
}

static uint64_t target_once(const peach_job_t *job);

/* What is to run at most once and waits at a broker that is lost is lost, too, since nobody can
   say that it had not begun: it waits here until it would be given out. */
static bool may_be_given_out(const task_t *task)
{
    const peach_job_t *job = task->job;
    uint64_t others = job->unsent - (uint64_t)task->unsent;
    return job->options.retries > 0 || job->flying - job->doubted - others <= target_once(job);
}

void job_submit_task(task_t *task)
{
    int rc = may_be_given_out(task) ? batch_task(task->job, task) : PEACH_E_TIMEOUT;
    if (rc == PEACH_E_MEMORY) job_end_task(task, rc, peach_status_text(rc));
    note_unsent(task, rc == PEACH_E_TIMEOUT);
}

/* Submits the next items of the job, as a new task; task is NULL when memory is out. */
static int submit_task(peach_job_t *job, task_t *task)
{
    peach_t *self = job->session;
    if (!task || idmap_put(self->tasks, task->number, task) != 0) {
        task_destroy(&task);
        return PEACH_E_MEMORY;
    }
    size_t size = task->payload_bytes;
    list_append(&job->tasks, &task->node);
    job->cut += task->items;
    job->flying++;
    self->flying_tasks++;
    self->flying_bytes += size;
    if (size > self->max_payload_bytes) {
        char message[160];
        snprintf(message, sizeof message,
                 "the item is %zu bytes encoded, over the broker's limit of %llu (see "
                 "peach broker --max-payload)",
                 size, (unsigned long long)self->max_payload_bytes);
        job_end_task(task, PEACH_E_LIMIT, message);
        return 0;
    }
    job_submit_task(task);
    return 0;
}

/* Takes the payload of that many items, which may be NULL: memory is out. */
static int submit(peach_job_t *job, payload_t *payload, uint32_t items)
{
    task_t *task = payload ? task_new(job, ++job->session->last_number, job->cut, items, &payload,
                                      job->options.unordered)
                           : NULL;
    payload_unref(&payload);
    return submit_task(job, task);
}

static int submit_number(peach_job_t *job, const peach_value_t *number)
{
    task_t *task =
        task_new(job, ++job->session->last_number, job->cut, 1, NULL, job->options.unordered);
    if (task) {
        task->kind = number->kind;
        task->number_bits = number->integer; /* or real's bits */
    }
    return submit_task(job, task);
}

/* ---- chunks ---- */

/* One, while there is none: so much waits for the first worker. */
static uint64_t slots_of(const peach_job_t *job)
{
    return job->session->slots ? job->session->slots : 1;
}

/* Guided self-scheduling: a share of what is left, so that chunks shrink as the
   work runs out; never more than takes chunk_ns, once the items' time is known. */
static uint64_t chunk_size(const peach_job_t *job)
{
    if (job->options.chunk) return job->options.chunk;
    if (job->item_ns == 0) return 1;
    uint64_t slots = slots_of(job);
    uint64_t by_time = chunk_ns / job->item_ns;
    uint64_t growth = (uint64_t)job->largest * 8;
    uint64_t size = by_time < growth ? by_time : growth;
    if (!job->next) {
        uint64_t guided = (job->total - job->cut + 2 * slots - 1) / (2 * slots);
        if (guided < size) size = guided;
    }
    if (size > MAX_CHUNK) size = MAX_CHUNK;
    return size ? size : 1;
}

/* Tasks that workers take at a time. */
static uint64_t target_once(const peach_job_t *job)
{
    uint64_t task_ns = job->item_ns * chunk_size(job), ahead = task_ns ? AHEAD_NS / task_ns : 0;
    uint64_t slots = slots_of(job);
    return slots * (1 + (ahead < MOST_AHEAD ? ahead : MOST_AHEAD));
}

/* Tasks that the job keeps under way: enough that no slot waits for a message. */
static uint64_t target(const peach_job_t *job)
{
    if (job->options.retries == 0) return target_once(job);
    uint64_t slots = slots_of(job);
    /* Not more than the buffer will hold of their results. */
    if (job->buffered + job->flying * job->result_bytes >= job->options.buffer_bytes) return slots;
    if (job->options.chunk) return job->session->window_tasks;
    return 2 + 3 * slots;
}

/* Collects up to count items from the generator. */
static peach_value_t *collect(peach_job_t *job, uint64_t count)
{
    peach_value_t *list = peach_value_list();
    size_t bytes = 0;
    for (uint64_t i = 0; list && i < count && bytes < CHUNK_BYTES; i++) {
        int status = 0;
        peach_value_t *item = job->next(job->next_arg, &status);
        if (!item) {
            job->total_final = status != PEACH_E_TIMEOUT;
            job->source_status = job->total_final ? status : 0;
            break;
        }
        size_t size = 0;
        if (!peach_value_as_string(item, &size) && !peach_value_as_bytes(item, &size))
            peach_value_array_bytes(item, &size);
        bytes += size + 16;
        job->total++;
        if (peach_value_append(list, &item) != 0) peach_value_destroy(&list);
    }
    if (!list) {
        job->total_final = true;
        job->source_status = PEACH_E_MEMORY;
    }
    return list;
}

/* Items of an open job that were cut are let go of. */
static void let_go(peach_job_t *job, size_t count)
{
    peach_value_t *list = job->source;
    for (size_t i = 0; i < count; i++) peach_value_destroy(&list->sequence.values[job->spent + i]);
    job->spent += count;
    size_t left = list->sequence.count - job->spent;
    if (left > job->spent) return;
    memmove(list->sequence.values, list->sequence.values + job->spent,
            left * sizeof *list->sequence.values);
    list->sequence.count = left;
    job->base += job->spent;
    job->spent = 0;
}

/* Encodes the next chunk from the list of items that are there; smaller when it would
   be large. */
static int cut_from_source(peach_job_t *job, uint64_t count)
{
    uint64_t left = job->total - job->cut;
    size_t first = (size_t)(job->cut - job->base);
    if (count > left) count = left;
    peach_value_t number;
    if (count == 1 && items_number(job->source, first, &number)) return submit_number(job, &number);
    for (;;) {
        int rc;
        payload_t *payload = items_pack(job->source, first, (size_t)count, job->session->pool, &rc);
        if (!payload) return rc;
        size_t size = payload_size(payload);
        if (size <= CHUNK_BYTES || count == 1 || job->options.chunk) {
            if (job->source->kind == PEACH_LIST && (job->open || job->base + job->spent > 0))
                let_go(job, (size_t)count);
            return submit(job, payload, (uint32_t)count);
        }
        payload_unref(&payload);
        count = count * CHUNK_BYTES / size / 2 + 1;
    }
}

static int cut_from_generator(peach_job_t *job, uint64_t count)
{
    peach_value_t *list = collect(job, count);
    if (!list) return PEACH_E_MEMORY;
    size_t length = peach_value_length(list);
    payload_t *payload = NULL;
    peach_value_t **values = calloc(length + 1, sizeof *values);
    int rc = values ? 0 : PEACH_E_MEMORY;
    for (size_t i = 0; values && i < length; i++) values[i] = items_take(list, i);
    if (rc == 0 && length > 0) payload = items_pack_values(values, length, job->session->pool, &rc);
    for (size_t i = 0; values && i < length; i++) peach_value_destroy(&values[i]);
    free(values);
    peach_value_destroy(&list);
    return payload ? submit(job, payload, (uint32_t)length) : rc;
}

static bool wants(const peach_job_t *job)
{
    if (job->cancelled) return false;
    if (job->next ? job->total_final : job->cut == job->total) return false;
    return job->flying - job->doubted < target(job) &&
           (job->keep_all || job->buffered < job->options.buffer_bytes);
}

static bool has_credit(const peach_t *self)
{
    return self->welcomed && self->flying_tasks < self->window_tasks &&
           (self->flying_tasks == 0 || self->flying_bytes < self->window_bytes) &&
           !wire_batch_full(&self->batch);
}

static void feed(peach_job_t *job)
{
    while (wants(job) && has_credit(job->session)) {
        uint64_t size = chunk_size(job);
        uint64_t before = job->cut;
        int rc = job->next ? cut_from_generator(job, size) : cut_from_source(job, size);
        if (wire_batch_full(&job->session->batch)) session_flush(job->session);
        if (rc == 0 && job->cut == before) return; /* the generator has nothing now */
        if (rc == 0) continue;
        /* An item that cannot be encoded ends the job's input; the others still end. */
        job->source_status = rc;
        peach_job_finish(job);
        job->total = job->cut;
    }
}

/* What may have begun at the broker that was lost, and may not begin again, is in doubt. What
   was in a Submit behind serial sent never left. */
static void doubt_tasks(peach_t *self, uint64_t sent)
{
    for (node_t *n = list_first(&self->jobs); n; n = list_next(&self->jobs, n)) {
        peach_job_t *job = (peach_job_t *)n;
        node_t *next;
        for (node_t *t = list_first(&job->tasks); t && job->options.retries == 0; t = next) {
            next = list_next(&job->tasks, t);
            task_t *task = LIST_ITEM(t, task_t, node);
            if (ranges_empty(&task->todo) || task->unsent || task->serial > sent) continue;
            if (!doubts_add(self, task))
                job_end_task(task, PEACH_E_LOST, "the broker was lost while it had the item");
        }
    }
}

void jobs_resubmit(peach_t *self, bool resumed, uint64_t received, uint64_t sent)
{
    if (!resumed) {
        doubt_tasks(self, sent);
        doubts_begin(self);
    }
    for (node_t *n = list_first(&self->jobs); n; n = list_next(&self->jobs, n)) {
        peach_job_t *job = (peach_job_t *)n;
        job->astray |= !resumed && job->done + job->failed > 0;
        node_t *next; /* one that fails here may move to the front */
        for (node_t *t = list_first(&job->tasks); t; t = next) {
            next = list_next(&job->tasks, t);
            task_t *task = LIST_ITEM(t, task_t, node);
            if (ranges_empty(&task->todo) || task->doubt) continue;
            if (resumed && task->serial <= received) continue; /* it has it */
            if (job_is_cancelled(job) && !resumed)
                job_end_task(task, PEACH_E_CANCELLED, "the job was cancelled");
            else
                job_submit_task(task);
        }
    }
    session_flush(self);
}

/* ---- deadlines ---- */

/* Items that were not cut yet fail as one. */
static void fail_uncut(peach_job_t *job, const Peach__Failure *model)
{
    peach_t *self = job->session;
    while (!job->next && job->cut < job->total) {
        uint64_t left = job->total - job->cut;
        uint32_t items = left < UINT32_MAX ? (uint32_t)left : UINT32_MAX;
        payload_t *payload = payload_new(NULL, 0);
        task_t *task = payload ? task_new(job, ++self->last_number, job->cut, items, &payload,
                                          job->options.unordered)
                               : NULL;
        if (!task) {
            job->source_status = PEACH_E_MEMORY;
            job->total = job->cut;
            return;
        }
        list_append(&job->tasks, &task->node);
        job->cut += items;
        Peach__Failure failure = *model;
        failure.item = 0;
        failure.count = items;
        job_fail_items(task, &failure);
    }
}

void job_fail_rest(peach_job_t *job, const Peach__Failure *failure)
{
    fail_uncut(job, failure);
    if (!job->next || job->total_final) return;
    job->total_final = true;
    job->source_status = failure->status;
}

/* The broker ends it, too, but may not be there, or be late. */
static void expire(peach_job_t *job)
{
    char why[96];
    Peach__Failure failure = PEACH__FAILURE__INIT;
    snprintf(why, sizeof why, "the deadline of the job (%g s) has passed",
             (double)job->options.deadline_ms / 1000);
    job->deadline_ms = 0;
    node_t *next;
    for (node_t *t = list_first(&job->tasks); t; t = next) {
        next = list_next(&job->tasks, t);
        task_t *task = LIST_ITEM(t, task_t, node);
        if (!ranges_empty(&task->todo)) job_end_task(task, PEACH_E_TIMEOUT, why);
    }
    failure.status = PEACH_E_TIMEOUT;
    failure.message = why;
    fail_uncut(job, &failure);
    peach_job_finish(job);
    session_cancel(job->session, job->id);
}

void jobs_keep_time(peach_t *self)
{
    for (node_t *n = list_first(&self->jobs); n; n = list_next(&self->jobs, n)) {
        peach_job_t *job = (peach_job_t *)n;
        if (job->deadline_ms && self->now_ms >= job->deadline_ms) expire(job);
    }
}

/* ---- feeding ---- */

/* Tasks for which there was no room, here or at the workers. */
static void feed_unsent(peach_t *self)
{
    for (node_t *n = list_first(&self->jobs); n; n = list_next(&self->jobs, n)) {
        peach_job_t *job = (peach_job_t *)n;
        node_t *next;
        for (node_t *t = list_first(&job->tasks); t; t = next) {
            next = list_next(&job->tasks, t);
            task_t *task = LIST_ITEM(t, task_t, node);
            if (task->unsent && job_is_cancelled(job))
                job_end_task(task, PEACH_E_CANCELLED, "the job was cancelled");
            else if (task->unsent)
                job_submit_task(task);
        }
    }
}

void jobs_feed(peach_t *self)
{
    if (self->unsent > 0 && self->welcomed) feed_unsent(self);
    if (self->busy) return; /* a generator that calls us */
    self->busy = true;
    for (node_t *n = list_first(&self->jobs); n; n = list_next(&self->jobs, n))
        feed((peach_job_t *)n);
    self->busy = false;
}
