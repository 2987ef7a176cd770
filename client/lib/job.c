/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "items.h"
#include "job.h"
#include "value_tree.h"

#include <stdlib.h>
#include <string.h>

enum { DEFAULT_BUFFER = 64 << 20, PROGRESS_MS = 100 };

const peach_job_options_t peach_job_defaults = {.retries = 2};

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
    job->message.retry_errors = job->options.retry_errors;
    job->message.item_ms = job->options.item_timeout_ms;
    job->message.queue_ms = job->options.queue_timeout_ms;
    job->message.weight = job->options.weight;
    if (job->options.deadline_ms) job->deadline_ms = clock_ms() + job->options.deadline_ms;
    job->message.seeded = job->options.seeded;
    job->message.seed = job->options.seed;
    job->message.codec = job->options.pickles;
    job->message.keywords = job->options.keywords;
    job->message.depth = job->options.depth;
    if (job->options.log)
        job->message.logs = job->options.notices_only ? WIRE_LOGS_NOTICES : WIRE_LOGS_ALL;
    job->message.require = job->label_pointers;
    job->message.n_require = job->options.require_count;
    const peach_value_t *code = job->options.code;
    if (!code) return 0;
    if (code->kind != PEACH_REF)
        return session_fail(job->session, PEACH_E_ARGUMENT,
                            "the function is to be a reference to a value that was put");
    job->message.code = (uint64_t)code->integer;
    return job_find_refs(job, code);
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
    if (options->weight > WIRE_MAX_WEIGHT)
        return session_fail(self, PEACH_E_ARGUMENT, "weight %u is over %d", options->weight,
                            WIRE_MAX_WEIGHT);
    if (options->depth > WIRE_MAX_DEPTH)
        return session_fail(self, PEACH_E_LIMIT,
                            "tasks are nested %d deep: one that waits for tasks of its own, that "
                            "wait for theirs, and so on, goes no further",
                            WIRE_MAX_DEPTH);
    if (options->keywords && !options->spread)
        return session_fail(self, PEACH_E_ARGUMENT,
                            "keyword arguments need a list of arguments (spread)");
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
    if (job && job_find_refs(job, *items_p) != 0) peach_job_destroy(&job);
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
    if (job && job_all_refs(job) != 0) peach_job_destroy(&job);
    if (!job) return NULL;
    job->next = next;
    job->next_arg = arg;
    return job;
}

peach_job_t *peach_map_open(peach_t *self, const char *function, const peach_job_options_t *options)
{
    peach_job_t *job = job_new(self, function, options);
    if (!job) return NULL;
    job->source = peach_value_list();
    job->open = true;
    if (!job->source) peach_job_destroy(&job);
    return job;
}

int peach_job_add(peach_job_t *job, peach_value_t **item_p)
{
    if (!job->open) {
        peach_value_destroy(item_p);
        return session_fail(job->session, PEACH_E_CANCELLED, "the job takes no more items");
    }
    size_t refs = job->message.n_refs;
    int rc = job_find_refs(job, *item_p);
    if (rc == 0 && job->message.n_refs > refs && job->cut > 0)
        rc = session_fail(job->session, PEACH_E_ARGUMENT,
                          "the item refers to a value that no earlier item of its job referred to: "
                          "it needs a job of its own");
    if (rc) {
        peach_value_destroy(item_p);
        return rc;
    }
    rc = peach_value_append(job->source, item_p);
    if (rc) return session_fail(job->session, rc, "%s", peach_status_text(rc));
    job->total++;
    return 0;
}

void peach_job_finish(peach_job_t *job)
{
    job->open = false;
    job->total_final = true;
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

void job_forget_task(peach_job_t *job, task_t *task)
{
    peach_t *self = job->session;
    if (task->unsent) {
        self->unsent--;
        job->unsent--;
    }
    task->unsent = false;
    if (task->doubt) doubts_remove(task);
    idmap_remove(self->tasks, task->number);
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
    } else if (job->known && (!job->known_final || job->astray) && !job->cancelled) {
        session_cancel(job->session, job->id); /* who watches is to see that it is over */
    }
    while (!list_empty(&job->tasks)) {
        task_t *task = LIST_ITEM(list_first(&job->tasks), task_t, node);
        if (!ranges_empty(&task->todo)) job_forget_task(job, task);
        task_destroy(&task);
    }
    list_remove(&job->node);
    for (size_t i = 0; job->labels && i < job->options.require_count; i++) {
        free(job->labels[i].key);
        free(job->labels[i].value);
    }
    free(job->labels);
    free(job->label_pointers);
    job_free_refs(job);
    peach_value_destroy(&job->source);
    free(job->function);
    free(job);
}

/* ---- results ---- */

static void learn(peach_job_t *job, const task_t *task, uint64_t elapsed_us)
{
    if (elapsed_us == 0) return; /* it ended without having run */
    uint64_t item_ns = elapsed_us * 1000 / task->items + 1;
    job->item_ns = job->item_ns ? (job->item_ns * 3 + item_ns) / 4 : item_ns;
    if (task->items > job->largest) job->largest = task->items;
}

/* The task has more to read than the bytes that it had before. */
static void note_arrival(task_t *task, size_t before)
{
    peach_job_t *job = task->job;
    job->buffered += task->bytes - before;
    task->result_bytes += task->bytes - before;
    if (job->options.unordered && task_readable(task)) {
        list_remove(&task->node); /* what can be read is in front */
        list_prepend(&job->tasks, &task->node);
    }
}

void job_fail_items(task_t *task, const Peach__Failure *failure)
{
    size_t before = task->bytes;
    task->job->failed += task_take_failure(task, failure);
    note_arrival(task, before);
}

/* What follows when something came for a task: it had so many bytes before. */
static void take_in(task_t *task, size_t before, uint64_t elapsed_us)
{
    peach_job_t *job = task->job;
    note_arrival(task, before);
    if (ranges_empty(&task->todo)) {
        learn(job, task, elapsed_us);
        job->result_bytes = (job->result_bytes * 3 + task->result_bytes) / 4;
        job_forget_task(job, task);
    }
}

/* Whether the job can go on: nobody has its function, or somebody else cancelled it. */
static void judge_failure(peach_job_t *job, const Peach__Failure *failure)
{
    bool outside = failure->status == PEACH_E_CANCELLED && !job->cancelled;
    if (!outside && failure->status != PEACH_E_NO_FUNCTION) return;
    job_fail_rest(job, failure);
    if (outside && job->flying > 0) session_cancel(job->session, job->id);
    job->stopped |= outside;
}

static void take_result(peach_t *self, wire_message_t *message, const Peach__Result *result)
{
    task_t *task = idmap_get(self->tasks, result->id);
    if (!task) return; /* of a job that was destroyed, or delivered before */
    peach_job_t *job = task->job;
    size_t before = task->bytes;
    for (size_t i = 0; i < result->n_segments; i++) {
        bool failed;
        uint32_t ended = task_take_segment(task, message, result->segments[i], &failed);
        *(failed ? &job->failed : &job->done) += ended;
    }
    for (size_t i = 0; i < result->n_failures; i++)
        job->failed += task_take_failure(task, result->failures[i]);
    take_in(task, before, result->elapsed_us);
    for (size_t i = 0; i < result->n_failures; i++) judge_failure(job, result->failures[i]);
}

static void take_single(peach_t *self, const wire_single_t *result)
{
    task_t *task = idmap_get(self->tasks, result->id);
    if (!task) return;
    size_t before = task->bytes;
    task->job->done += task_take_single(task, result->payload, result->size);
    take_in(task, before, result->elapsed_us);
}

void jobs_logs(peach_t *self, const Peach__Logs *logs)
{
    for (size_t i = 0; i < logs->n_lines; i++) {
        const Peach__Line *line = logs->lines[i];
        const task_t *task = idmap_get(self->tasks, line->id);
        if (!task || !task->job->options.log) continue;
        peach_line_t told = {task->first_item + line->item,
                             line->host,
                             line->pid,
                             line->slot,
                             line->text,
                             line->notice};
        task->job->options.log(task->job->options.log_arg, &told);
    }
}

void jobs_results(peach_t *self, wire_message_t *message)
{
    const Peach__Results *results = wire_envelope(message)->results;
    for (size_t i = 0; i < results->n_results; i++) take_result(self, message, results->results[i]);
    for (size_t i = 0; i < results->n_singles; i++) {
        size_t offset = 0;
        for (size_t row = 0; row < results->singles[i]->n_ids; row++) {
            wire_single_t result = wire_single(results->singles[i], row, &offset);
            take_single(self, &result);
        }
    }
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
    bool all_cut = job->cancelled || (job->total_final && (job->next || job->cut == job->total));
    return all_cut && job->flying == 0;
}

task_t *job_readable(peach_job_t *job)
{
    node_t *first = list_first(&job->tasks);
    task_t *task = first ? LIST_ITEM(first, task_t, node) : NULL;
    return task && task_readable(task) ? task : NULL;
}

/* After something of the task was read: it had so many bytes before. */
static void was_read(peach_job_t *job, task_t *task, size_t before)
{
    job->buffered -= before - task->bytes;
    if (task_all_read(task)) {
        task_destroy(&task);
    } else if (job->options.unordered && !task_readable(task)) {
        list_remove(&task->node);
        list_append(&job->tasks, &task->node);
    }
}

int job_read(peach_job_t *job, task_t *task, peach_result_t *result)
{
    size_t before = task->bytes;
    int rc = task_read(task, result);
    if (rc)
        return session_fail(job->session, rc, "a result of %s cannot be given: %s", job->function,
                            peach_status_text(rc));
    job->read++;
    was_read(job, task, before);
    return 0;
}

void job_end_piece(peach_job_t *job, task_t *task)
{
    size_t before = task->bytes;
    job->read += task_end_piece(task);
    was_read(job, task, before);
}

int job_turn(peach_job_t *job, uint64_t deadline, int timeout_ms)
{
    peach_t *self = job->session;
    if (all_ended(job)) {
        tell_progress(job, true);
        if (job->source_status == 0 || job->cancelled) return PEACH_END;
        return session_fail(self, job->source_status, "the items ended early: %s",
                            peach_status_text(job->source_status));
    }
    tell_progress(job, false);
    int left = session_left(deadline, self->now_ms = clock_ms());
    int rc = session_turn(self, left);
    if (rc) return rc;
    if (left == 0 && !job_readable(job) && !all_ended(job))
        return session_fail(self, PEACH_E_TIMEOUT, "no result of %s within %d ms", job->function,
                            timeout_ms);
    return 0;
}

int peach_job_next(peach_job_t *job, peach_result_t *result, int timeout_ms)
{
    uint64_t deadline = session_deadline(timeout_ms);
    int rc = 0;
    *result = (peach_result_t){0};
    for (task_t *task; rc == 0; rc = job_turn(job, deadline, timeout_ms)) {
        if (!(task = job_readable(job))) continue;
        /* Every so often even a reader that is behind looks at the network; what is there
           can be read whatever the network says. */
        if ((job->read & 1023) == 1023) session_turn(job->session, 0);
        tell_progress(job, false);
        return job_read(job, task, result);
    }
    return rc;
}

int peach_job_wait(peach_job_t *job, int timeout_ms)
{
    uint64_t deadline = session_deadline(timeout_ms);
    job->keep_all = true;
    while (!all_ended(job)) {
        int left = session_left(deadline, clock_ms());
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
    peach_job_finish(job);
    return session_cancel(self, job->id);
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
