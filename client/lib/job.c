/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "items.h"
#include "task.h"

#include <stdlib.h>
#include <string.h>

enum { DEFAULT_BUFFER = 64 << 20, MAX_CHUNK = 65536, CHUNK_BYTES = 1 << 20, PROGRESS_MS = 100 };

/* Chunks are to take this long: long against the cost of a message, short against
   what a user waits for. */
static const uint64_t chunk_ns = 20000000;

const peach_job_options_t peach_job_defaults = {.retries = 2};

struct peach_job {
    node_t node; /* first: peach_close relies on it */
    peach_t *session;
    uint64_t id;
    char *function;
    peach_job_options_t options;
    Peach__Job message;
    Peach__Label *labels;
    Peach__Label **label_pointers;

    peach_value_t *source; /* items to cut from, or NULL with next */
    peach_items_fn next;
    void *next_arg;
    uint64_t cut;   /* items cut so far */
    uint64_t total; /* items; of a generator, so far */
    bool total_final;
    int source_status; /* why the generator stopped */

    list_t tasks;    /* with something to read or to wait for, in order */
    uint64_t flying; /* tasks that have not ended */
    uint64_t done, failed, read;
    size_t buffered; /* bytes of results that were not read */
    bool keep_all, cancelled;
    uint64_t item_ns;      /* running mean; 0: not known */
    uint32_t largest;      /* the largest chunk that came back */
    uint64_t batch_serial; /* the batch that has our job under batch_index */
    uint32_t batch_index;
    uint64_t told_ms, told_ended;
};

/* ---- life ---- */

static int set_labels(peach_job_t *job)
{
    size_t count = job->options.require_count;
    job->labels = calloc(count + 1, sizeof *job->labels);
    job->label_pointers = calloc(count + 1, sizeof *job->label_pointers);
    if (!job->labels || !job->label_pointers) return PEACH_E_MEMORY;
    for (size_t i = 0; i < count; i++) {
        const char *text = job->options.require[i], *equals = strchr(text, '=');
        if (!equals || equals == text || strlen(text) > WIRE_MAX_NAME)
            return session_fail(job->session, PEACH_E_ARGUMENT,
                                "requirement '%s': a label is KEY=VALUE", text);
        peach__label__init(&job->labels[i]);
        job->labels[i].key = strndup(text, (size_t)(equals - text));
        job->labels[i].value = strdup(equals + 1);
        job->label_pointers[i] = &job->labels[i];
        if (!job->labels[i].key || !job->labels[i].value) return PEACH_E_MEMORY;
    }
    return 0;
}

static int set_message(peach_job_t *job)
{
    peach__job__init(&job->message);
    int rc = set_labels(job);
    if (rc) return rc;
    job->message.id = job->id;
    job->message.function = job->function;
    job->message.spread = job->options.spread;
    job->message.priority = job->options.priority;
    job->message.retries = (uint32_t)job->options.retries;
    job->message.seeded = job->options.seeded;
    job->message.seed = job->options.seed;
    job->message.require = job->label_pointers;
    job->message.n_require = job->options.require_count;
    return 0;
}

static int check_options(peach_t *self, const char *function, const peach_job_options_t *options)
{
    size_t length = strlen(function);
    if (length == 0 || length > WIRE_MAX_NAME)
        return session_fail(self, PEACH_E_ARGUMENT, "a function's name has 1 to %d bytes",
                            WIRE_MAX_NAME);
    if (options->priority > WIRE_MAX_PRIORITY)
        return session_fail(self, PEACH_E_ARGUMENT, "priority %u is over 7", options->priority);
    if (options->retries < 0 || options->retries > 1000)
        return session_fail(self, PEACH_E_ARGUMENT, "retries must be 0 to 1000");
    if (options->chunk > WIRE_MAX_ITEMS)
        return session_fail(self, PEACH_E_ARGUMENT, "chunk %u is over %d", options->chunk,
                            (int)WIRE_MAX_ITEMS);
    return 0;
}

static peach_job_t *job_new(peach_t *self, const char *function, const peach_job_options_t *options)
{
    if (!options) options = &peach_job_defaults;
    if (check_options(self, function, options) != 0) return NULL;
    peach_job_t *job = calloc(1, sizeof *job);
    session_fail(self, PEACH_E_MEMORY, "%s", peach_status_text(PEACH_E_MEMORY));
    if (!job) return NULL;
    job->session = self;
    job->id = ++self->last_job;
    job->options = *options;
    if (!job->options.buffer_bytes) job->options.buffer_bytes = DEFAULT_BUFFER;
    list_init(&job->tasks);
    list_append(&self->jobs, &job->node);
    job->function = strdup(function);
    if (!job->function || set_message(job) != 0) peach_job_destroy(&job);
    return job;
}

peach_job_t *peach_map(peach_t *self, const char *function, peach_value_t **items_p,
                       const peach_job_options_t *options)
{
    peach_job_t *job = NULL;
    if (!items_valid(*items_p))
        session_fail(self, PEACH_E_ARGUMENT, "the items must be a list or an array");
    else
        job = job_new(self, function, options);
    if (job) {
        job->source = *items_p;
        job->total = peach_value_length(*items_p);
        job->total_final = true;
        *items_p = NULL;
    }
    peach_value_destroy(items_p);
    if (job) jobs_feed(self);
    return job;
}

peach_job_t *peach_map_from(peach_t *self, const char *function, peach_items_fn next, void *arg,
                            const peach_job_options_t *options)
{
    peach_job_t *job = job_new(self, function, options);
    if (!job) return NULL;
    job->next = next;
    job->next_arg = arg;
    return job;
}

peach_job_t *peach_submit(peach_t *self, const char *function, peach_value_t **args_p,
                          const peach_job_options_t *options)
{
    peach_job_options_t spread = options ? *options : peach_job_defaults;
    spread.spread = true;
    peach_value_t *items = peach_value_list();
    if (!items) {
        peach_value_destroy(args_p);
        return NULL;
    }
    if (peach_value_append(items, args_p) != 0) peach_value_destroy(&items);
    return items ? peach_map(self, function, &items, &spread) : NULL;
}

static void forget_task(peach_job_t *job, task_t *task)
{
    peach_t *self = job->session;
    if (task->unsent) self->unsent--;
    task->unsent = false;
    table_remove(self->tasks, &task->number, sizeof task->number);
    self->flying_tasks--;
    self->flying_bytes -= task->payload_bytes;
    job->flying--;
}

void peach_job_destroy(peach_job_t **job_p)
{
    peach_job_t *job = *job_p;
    *job_p = NULL;
    if (!job) return;
    if (job->flying > 0) {
        peach_job_cancel(job);
        session_flush(job->session);
    }
    while (!list_empty(&job->tasks)) {
        task_t *task = LIST_ITEM(list_first(&job->tasks), task_t, node);
        if (!ranges_empty(&task->todo)) forget_task(job, task);
        task_destroy(&task);
    }
    list_remove(&job->node);
    for (size_t i = 0; job->labels && i < job->options.require_count; i++) {
        free(job->labels[i].key);
        free(job->labels[i].value);
    }
    free(job->labels);
    free(job->label_pointers);
    peach_value_destroy(&job->source);
    free(job->function);
    free(job);
}

/* ---- submitting ---- */

/* Puts the task's unfinished items into the batch. */
static int batch_task(peach_job_t *job, task_t *task)
{
    peach_t *self = job->session;
    if (wire_batch_full(&self->batch)) session_flush(self);
    if (wire_batch_full(&self->batch)) return PEACH_E_TIMEOUT;
    if (job->batch_serial != self->batch_serial || self->batch_jobs == 0) {
        int rc = wire_batch_add(&self->batch, 1, &job->message.base);
        if (rc) return rc;
        job->batch_serial = self->batch_serial;
        job->batch_index = self->batch_jobs++;
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
    free(ranges);
    free(pointers);
    return rc;
}

/* Ends items of a task here, without the broker. */
static void fail_here(task_t *task, int status, const char *message)
{
    Peach__Failure failure = PEACH__FAILURE__INIT;
    failure.count = task->items;
    failure.status = status;
    failure.message = (char *)message;
    task->job->failed += task_take_failure(task, &failure);
    forget_task(task->job, task);
}

/* Puts the task into the batch, now or when there is room. */
static void batch_or_wait(peach_job_t *job, task_t *task)
{
    int rc = batch_task(job, task);
    if (rc == PEACH_E_MEMORY) fail_here(task, rc, peach_status_text(rc));
    bool unsent = rc == PEACH_E_TIMEOUT;
    job->session->unsent += (uint64_t)unsent - (uint64_t)task->unsent;
    task->unsent = unsent;
}

/* Makes a task of the encoded items and submits it. Takes bytes. */
static int submit(peach_job_t *job, void *bytes, size_t size, uint32_t items)
{
    peach_t *self = job->session;
    payload_t *payload = payload_new_taking(bytes, size);
    task_t *task = payload ? task_new(job, ++self->last_number, job->cut, items, &payload,
                                      job->options.unordered)
                           : NULL;
    if (!task || table_put(self->tasks, &task->number, sizeof task->number, task) != 0) {
        payload_unref(&payload);
        task_destroy(&task);
        return PEACH_E_MEMORY;
    }
    list_append(&job->tasks, &task->node);
    job->cut += items;
    job->flying++;
    self->flying_tasks++;
    self->flying_bytes += size;
    if (size > self->max_payload_bytes) {
        char message[160];
        snprintf(message, sizeof message,
                 "the item is %zu bytes encoded, over the broker's limit of %llu (see "
                 "peach broker --max-payload)",
                 size, (unsigned long long)self->max_payload_bytes);
        fail_here(task, PEACH_E_LIMIT, message);
        return 0;
    }
    batch_or_wait(job, task);
    return 0;
}

/* ---- chunks ---- */

/* Guided self-scheduling: a share of what is left, so that chunks shrink as the
   work runs out; never more than takes chunk_ns, once the items' time is known. */
static uint64_t chunk_size(const peach_job_t *job)
{
    if (job->options.chunk) return job->options.chunk;
    if (job->item_ns == 0) return 1;
    uint64_t slots = job->session->slots ? job->session->slots : 1;
    uint64_t by_time = chunk_ns / job->item_ns;
    uint64_t growth = (uint64_t)job->largest * 8;
    uint64_t size = by_time < growth ? by_time : growth;
    if (job->total_final) {
        uint64_t guided = (job->total - job->cut + 2 * slots - 1) / (2 * slots);
        if (guided < size) size = guided;
    }
    if (size > MAX_CHUNK) size = MAX_CHUNK;
    return size ? size : 1;
}

/* Tasks that the job keeps under way: enough that no slot waits for a message. */
static uint64_t target(const peach_job_t *job)
{
    uint64_t slots = job->session->slots ? job->session->slots : 1;
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
            job->total_final = true;
            job->source_status = status;
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

/* Encodes the next chunk from the list of items that are there; smaller when it would
   be large. */
static int cut_from_source(peach_job_t *job, uint64_t count)
{
    uint64_t left = job->total - job->cut;
    if (count > left) count = left;
    for (;;) {
        void *bytes;
        size_t size;
        int rc = items_pack(job->source, (size_t)job->cut, (size_t)count, &bytes, &size);
        if (rc) return rc;
        if (size <= CHUNK_BYTES || count == 1 || job->options.chunk)
            return submit(job, bytes, size, (uint32_t)count);
        free(bytes);
        count = count * CHUNK_BYTES / size / 2 + 1;
    }
}

static int cut_from_generator(peach_job_t *job, uint64_t count)
{
    peach_value_t *list = collect(job, count);
    if (!list) return PEACH_E_MEMORY;
    size_t length = peach_value_length(list);
    void *bytes = NULL;
    size_t size = 0;
    peach_value_t **values = calloc(length + 1, sizeof *values);
    int rc = values ? 0 : PEACH_E_MEMORY;
    for (size_t i = 0; values && i < length; i++) values[i] = items_take(list, i);
    if (rc == 0 && length > 0) rc = items_pack_values(values, length, &bytes, &size);
    for (size_t i = 0; values && i < length; i++) peach_value_destroy(&values[i]);
    free(values);
    peach_value_destroy(&list);
    return rc || length == 0 ? rc : submit(job, bytes, size, (uint32_t)length);
}

static bool wants(const peach_job_t *job)
{
    if (job->cancelled) return false;
    if (job->next ? job->total_final : job->cut == job->total) return false;
    return job->flying < target(job) &&
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
        int rc = job->next ? cut_from_generator(job, size) : cut_from_source(job, size);
        if (wire_batch_full(&job->session->batch)) session_flush(job->session);
        if (rc == 0) continue;
        /* An item that cannot be encoded ends the job's input; the others still end. */
        job->source_status = rc;
        job->total_final = true;
        job->total = job->cut;
    }
}

void jobs_resubmit(peach_t *self)
{
    for (node_t *n = list_first(&self->jobs); n; n = list_next(&self->jobs, n)) {
        peach_job_t *job = (peach_job_t *)n;
        for (node_t *t = list_first(&job->tasks); t; t = list_next(&job->tasks, t)) {
            task_t *task = LIST_ITEM(t, task_t, node);
            if (ranges_empty(&task->todo)) continue;
            if (job->cancelled)
                fail_here(task, PEACH_E_CANCELLED, "the job was cancelled");
            else
                batch_or_wait(job, task);
        }
    }
    session_flush(self);
}

/* Tasks that found no room when they were to be submitted. */
static void feed_unsent(peach_t *self)
{
    for (node_t *n = list_first(&self->jobs); n; n = list_next(&self->jobs, n)) {
        peach_job_t *job = (peach_job_t *)n;
        for (node_t *t = list_first(&job->tasks); t; t = list_next(&job->tasks, t)) {
            task_t *task = LIST_ITEM(t, task_t, node);
            if (task->unsent) batch_or_wait(job, task);
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

/* ---- results ---- */

static void learn(peach_job_t *job, const task_t *task, uint64_t elapsed_us)
{
    if (elapsed_us == 0) return; /* it ended without having run */
    uint64_t item_ns = elapsed_us * 1000 / task->items + 1;
    job->item_ns = job->item_ns ? (job->item_ns * 3 + item_ns) / 4 : item_ns;
    if (task->items > job->largest) job->largest = task->items;
}

static void take_result(peach_t *self, wire_message_t *message, const Peach__Result *result)
{
    task_t *task = table_get(self->tasks, &result->id, sizeof result->id);
    if (!task) return; /* of a job that was destroyed, or delivered before */
    peach_job_t *job = task->job;
    size_t before = task->bytes;
    for (size_t i = 0; i < result->n_segments; i++)
        job->done += task_take_segment(task, message, result->segments[i]);
    for (size_t i = 0; i < result->n_failures; i++)
        job->failed += task_take_failure(task, result->failures[i]);
    job->buffered += task->bytes - before;
    if (job->options.unordered && task_readable(task)) {
        list_remove(&task->node); /* what can be read is in front */
        list_prepend(&job->tasks, &task->node);
    }
    if (ranges_empty(&task->todo)) {
        learn(job, task, result->elapsed_us);
        forget_task(job, task);
    }
}

void jobs_results(peach_t *self, wire_message_t *message)
{
    const Peach__Results *results = wire_envelope(message)->results;
    for (size_t i = 0; i < results->n_results; i++) take_result(self, message, results->results[i]);
}

void peach_job_progress(const peach_job_t *job, peach_progress_t *progress)
{
    *progress = (peach_progress_t){job->total, job->total_final, job->done, job->failed,
                                   job->session->slots};
}

static void tell_progress(peach_job_t *job, bool last)
{
    uint64_t ended = job->done + job->failed, now_ms = job->session->now_ms;
    if (!job->options.progress || (!last && now_ms - job->told_ms < PROGRESS_MS)) return;
    if (last && ended == job->told_ended) return;
    job->told_ms = now_ms;
    job->told_ended = ended;
    peach_progress_t progress;
    peach_job_progress(job, &progress);
    job->options.progress(job->options.progress_arg, &progress);
}

static bool all_ended(const peach_job_t *job)
{
    bool all_cut = job->cancelled || (job->next ? job->total_final : job->cut == job->total);
    return all_cut && job->flying == 0;
}

/* The task that the reader reads from, if it has something. */
static task_t *readable(peach_job_t *job)
{
    node_t *first = list_first(&job->tasks);
    task_t *task = first ? LIST_ITEM(first, task_t, node) : NULL;
    return task && task_readable(task) ? task : NULL;
}

static int read_one(peach_job_t *job, task_t *task, peach_result_t *result)
{
    size_t before = task->bytes;
    int rc = task_read(task, result);
    if (rc)
        return session_fail(job->session, rc, "a result of %s cannot be decoded: %s", job->function,
                            peach_status_text(rc));
    job->buffered -= before - task->bytes;
    job->read++;
    if (task_all_read(task)) {
        task_destroy(&task);
    } else if (job->options.unordered && !task_readable(task)) {
        list_remove(&task->node);
        list_append(&job->tasks, &task->node);
    }
    return 0;
}

int peach_job_next(peach_job_t *job, peach_result_t *result, int timeout_ms)
{
    peach_t *self = job->session;
    uint64_t deadline = session_deadline(timeout_ms);
    *result = (peach_result_t){0};
    for (;;) {
        task_t *task = readable(job);
        if (task) {
            /* Every so often even a reader that is behind looks at the network. */
            int rc = (job->read & 1023) == 1023 ? session_turn(self, 0) : 0;
            (void)rc; /* what is there can be read whatever the network says */
            tell_progress(job, false);
            return read_one(job, task, result);
        }
        if (all_ended(job)) {
            tell_progress(job, true);
            if (job->source_status == 0 || job->cancelled) return PEACH_END;
            return session_fail(self, job->source_status, "the items ended early: %s",
                                peach_status_text(job->source_status));
        }
        tell_progress(job, false);
        int left = session_left(deadline, self->now_ms = session_clock_ms());
        int rc = session_turn(self, left);
        if (rc) return rc;
        if (left == 0 && !readable(job) && !all_ended(job))
            return session_fail(self, PEACH_E_TIMEOUT, "no result of %s within %d ms",
                                job->function, timeout_ms);
    }
}

int peach_job_wait(peach_job_t *job, int timeout_ms)
{
    uint64_t deadline = session_deadline(timeout_ms);
    job->keep_all = true;
    while (!all_ended(job)) {
        int left = session_left(deadline, session_clock_ms());
        int rc = session_turn(job->session, left);
        tell_progress(job, false);
        if (rc) return rc;
        if (left == 0 && !all_ended(job))
            return session_fail(job->session, PEACH_E_TIMEOUT, "%s is not done within %d ms",
                                job->function, timeout_ms);
    }
    tell_progress(job, true);
    return 0;
}

int peach_job_cancel(peach_job_t *job)
{
    peach_t *self = job->session;
    if (job->cancelled) return 0;
    job->cancelled = true;
    job->total_final = true;
    if (!self->welcomed) return 0; /* it is not submitted again */
    Peach__Envelope envelope = PEACH__ENVELOPE__INIT;
    Peach__Cancel cancel = PEACH__CANCEL__INIT;
    cancel.jobs = &job->id;
    cancel.n_jobs = 1;
    envelope.body_case = PEACH__ENVELOPE__BODY_CANCEL;
    envelope.cancel = &cancel;
    return session_send(self, &envelope, NULL);
}

int peach_call(peach_t *self, const char *function, peach_value_t **args_p, int timeout_ms,
               peach_value_t **value_p)
{
    *value_p = NULL;
    peach_job_t *job = peach_submit(self, function, args_p, NULL);
    if (!job) return PEACH_E_ARGUMENT;
    peach_result_t result;
    int rc = peach_job_next(job, &result, timeout_ms);
    if (rc == 0 && result.failure) {
        const peach_failure_t *f = result.failure;
        rc = session_fail(self, f->status, "%s%s%s%s%s", f->type, *f->type ? ": " : "", f->message,
                          *f->traceback ? "\n" : "", f->traceback);
    } else if (rc == 0) {
        *value_p = result.value;
        result.value = NULL;
    }
    peach_result_clear(&result);
    peach_job_destroy(&job);
    return rc;
}
