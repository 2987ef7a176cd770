/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "shell.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Half of the memory is for tasks, half for results; each client has an even share. A
   client that has more results waiting than its share gets nothing new run until it
   has taken half of them. */
static const uint64_t least_bytes = 1 << 20, most_result_bytes = 16 << 20;
static const uint64_t least_line_bytes = 2 << 20, most_line_bytes = 16 << 20;
static const uint64_t most_tasks = 1 << 20, least_tasks = 64;

static uint64_t share(const broker_t *b, uint64_t least, uint64_t most)
{
    uint64_t bytes = b->options.memory_bytes / 2 / (b->client_count + 1);
    return bytes < least ? least : bytes > most ? most : bytes;
}

void work_hold(broker_t *b, peer_t *client)
{
    uint64_t limit = share(b, least_bytes, most_result_bytes);
    if (client->outbox.bytes > limit)
        sched_client_hold(b->sched, client->client, true);
    else if (client->outbox.bytes <= limit / 2)
        sched_client_hold(b->sched, client->client, false);
}

/* ---- from the client ---- */

static int make_job(broker_t *b, peer_t *client, const Peach__Job *job)
{
    sched_label_t require[WIRE_MAX_NAME];
    for (size_t i = 0; i < job->n_require; i++)
        require[i] = (sched_label_t){job->require[i]->key, job->require[i]->value};
    sched_job_spec_t spec = {.id = job->id,
                             .function = job->code ? SCHED_BY_VALUE : job->function,
                             .require = require,
                             .require_count = job->n_require,
                             .priority = job->priority,
                             .depth = job->depth,
                             .retries = job->retries,
                             .retry_errors = job->retry_errors,
                             .weight = job->weight,
                             .deadline_ms = job->deadline_ms,
                             .queue_ms = job->queue_ms};
    void **user;
    if (jobs_is_cancelled(&client->jobs, job->id)) return PEACH_E_CANCELLED;
    int rc = sched_job(b->sched, client->client, &spec, &user);
    if (job->depth > client->depth) client->depth = job->depth;
    if (rc == 0 && !*user) {
        blob_resolve(client, job);
        if (!(*user = jobs_obtain(&client->jobs, job, &b->seed, &b->last_job, b->now_ms)))
            return PEACH_E_MEMORY;
    }
    if (rc == 0) jobs_note(*user, job);
    return rc;
}

static void fail_task(void *shell, const sched_owner_t *owner, uint32_t first, uint32_t count,
                      int status, const char *message, const sched_attempt_t *attempts,
                      size_t attempt_count);

/* Takes the spec's payload, which may be NULL with errno. */
static void submit(broker_t *b, peer_t *client, const Peach__Job *job, sched_task_spec_t *spec)
{
    payload_t *payload = spec->payload;
    const sched_owner_t owner = {client, NULL, spec->number};
    if (!payload) {
        char why[96];
        int rc = errno == ENOMEM ? PEACH_E_MEMORY : PEACH_E_SYSTEM;
        snprintf(why, sizeof why, "the items cannot be taken: %s", strerror(errno));
        fail_task(b, &owner, 0, spec->items, rc, why, NULL, 0);
        return;
    }
    spec->bytes = payload_size(payload);
    int rc = spec->bytes > b->options.max_payload_bytes ? PEACH_E_LIMIT : make_job(b, client, job);
    if (rc)
        payload_unref(&payload);
    else
        rc = sched_submit(b->sched, client->client, job->id, spec);
    if (rc) fail_task(b, &owner, 0, spec->items, rc, peach_status_text(rc), NULL, 0);
}

static void submit_task(broker_t *b, peer_t *client, wire_message_t *message, const Peach__Job *job,
                        const Peach__Task *task)
{
    range_t *todo = task->n_todo ? calloc(task->n_todo, sizeof *todo) : NULL;
    for (size_t i = 0; todo && i < task->n_todo; i++)
        todo[i] = (range_t){task->todo[i]->first, task->todo[i]->count};
    sched_task_spec_t spec = {.number = task->id,
                              .first_item = task->first_item,
                              .items = task->items,
                              .todo = todo,
                              .todo_count = task->n_todo};
    if (todo || task->n_todo == 0) spec.payload = wire_payload(message, task->payload);
    submit(b, client, job, &spec);
    free(todo);
}

/* As a run if they suit; false when they are to be submitted one by one. */
static bool submit_run(broker_t *b, peer_t *client, const Peach__Job *job,
                       const Peach__Singles *singles)
{
    if (make_job(b, client, job) != 0 ||
        !sched_run_suits(client->client, job->id, singles->ids, singles->n_ids))
        return false;
    sched_run_spec_t spec = {singles->n_ids, singles->ids, singles->items, singles->sizes,
                             payload_new(singles->payloads.data, singles->payloads.len)};
    return spec.payload && sched_submit_run(b->sched, client->client, job->id, &spec) == 0;
}

static void submit_singles(broker_t *b, peer_t *client, const Peach__Job *job,
                           const Peach__Singles *singles)
{
    size_t offset = 0;
    if (submit_run(b, client, job, singles)) return;
    for (size_t row = 0; row < singles->n_ids; row++) {
        wire_single_t task = wire_single(singles, row, &offset);
        sched_task_spec_t spec = {.number = task.id,
                                  .first_item = task.item,
                                  .items = 1,
                                  .payload = payload_new(task.payload, task.size)};
        submit(b, client, job, &spec);
    }
}

void work_submit(broker_t *b, peer_t *client, wire_message_t *message)
{
    const Peach__Submit *m = wire_envelope(message)->submit;
    for (size_t i = 0; i < m->n_tasks; i++)
        submit_task(b, client, message, m->jobs[m->tasks[i]->job], m->tasks[i]);
    for (size_t i = 0; i < m->n_singles; i++)
        submit_singles(b, client, m->jobs[m->singles[i]->job], m->singles[i]);
}

void work_cancel(broker_t *b, peer_t *client, const Peach__Cancel *cancel)
{
    for (size_t i = 0; i < cancel->n_jobs; i++) {
        sched_cancel(b->sched, client->client, cancel->jobs[i]);
        jobs_forget(&client->jobs, cancel->jobs[i]);
    }
}

void work_credit(const broker_t *b, Peach__Credit *credit)
{
    sched_counts_t counts;
    sched_counts(b->sched, &counts);
    peach__credit__init(credit);
    /* A broker that is drained takes what was on its way, and asks for no more. */
    uint64_t tasks = most_tasks / (b->client_count + 1);
    if (tasks > sched_defaults.window_tasks) tasks = sched_defaults.window_tasks;
    if (tasks < least_tasks) tasks = least_tasks;
    credit->window_tasks = b->draining ? 0 : (uint32_t)tasks;
    credit->window_bytes = share(b, least_bytes, sched_defaults.window_bytes);
    credit->slots = counts.slots;
}

static bool is_named(const Peach__CancelJobs *cancel, uint64_t id)
{
    for (size_t i = 0; i < cancel->n_jobs; i++)
        if (cancel->jobs[i] == id) return true;
    return cancel->all;
}

void work_cancel_jobs(broker_t *b, peer_t *watcher, const Peach__CancelJobs *cancel)
{
    Peach__Envelope envelope = PEACH__ENVELOPE__INIT;
    Peach__CancelJobsReply reply = PEACH__CANCEL_JOBS_REPLY__INIT;
    for (node_t *n = list_first(&b->peers); n; n = list_next(&b->peers, n)) {
        peer_t *peer = LIST_ITEM(n, peer_t, node);
        if (!peer->client) continue;
        node_t *next;
        for (node_t *j = list_first(&peer->jobs.list); j; j = next) {
            next = list_next(&peer->jobs.list, j);
            shell_job_t *job = LIST_ITEM(j, shell_job_t, node);
            if (!is_named(cancel, job->id) || !jobs_cancel(job)) continue;
            sched_cancel(b->sched, peer->client, job->message->id);
            reply.jobs++;
        }
    }
    reply.request = cancel->request;
    envelope.body_case = PEACH__ENVELOPE__BODY_CANCEL_JOBS_REPLY;
    envelope.cancel_jobs_reply = &reply;
    shell_send(b, watcher, &envelope, NULL);
}

/* ---- orders of the core ---- */

static void assign(void *shell, void *worker, const sched_order_t *order)
{
    broker_t *b = shell;
    peer_t *peer = worker;
    shell_job_t *job = order->job;
    blob_push(b, peer, job->message);
    if (peer_make_room(peer, b->router, 1) != 0) return;
    shell_dirty(b, peer);
    Peach__Task task = PEACH__TASK__INIT;
    Peach__Payload payload;
    Peach__Range one = PEACH__RANGE__INIT, *pointers = &one, *ranges = NULL, **all = &pointers;
    if (peer_batch_job(peer, job, &task.job) != 0) return;
    bool once = job->message->origin.len > 0; /* then its worker has to know the number */
    if (order->items == 1 && !once && payload_size(order->payload) <= WIRE_INLINE_BYTES) {
        wire_batch_task(&peer->batch, task.job, order->lease, order->first_item,
                        payload_bytes(order->payload), payload_size(order->payload));
        return;
    }
    if (wire_attach(&peer->batch.frames, order->payload, &payload) != 0) return;
    task.id = order->lease;
    task.first_item = order->first_item;
    task.items = order->items;
    task.payload = &payload;
    task.number = once ? order->number : 0;
    bool whole = order->todo_count == 1 && order->todo[0].count == order->items;
    if (!whole && order->todo_count > 1) {
        ranges = calloc(order->todo_count, sizeof *ranges);
        all = calloc(order->todo_count, sizeof *all);
    }
    for (size_t i = 0; !whole && all && i < order->todo_count; i++) {
        if (ranges) all[i] = &ranges[i];
        peach__range__init(all[i]);
        all[i]->first = order->todo[i].first;
        all[i]->count = order->todo[i].count;
    }
    task.n_todo = whole ? 0 : order->todo_count;
    task.todo = all;
    /* What does not get out is missing at the worker and comes back by its lease. */
    if (all && (ranges || all == &pointers)) wire_batch_add(&peer->batch, 2, &task.base);
    if (all != &pointers) free(all);
    free(ranges);
}

static void send_cancel(broker_t *b, peer_t *worker, Peach__Cancel *message)
{
    Peach__Envelope envelope = PEACH__ENVELOPE__INIT;
    envelope.body_case = PEACH__ENVELOPE__BODY_CANCEL;
    envelope.cancel = message;
    shell_send(b, worker, &envelope, NULL);
}

static void cancel(void *shell, void *worker, uint64_t lease)
{
    Peach__Cancel message = PEACH__CANCEL__INIT;
    message.leases = &lease;
    message.n_leases = 1;
    send_cancel(shell, worker, &message);
}

static void give_back(void *shell, void *worker, uint64_t lease)
{
    Peach__Cancel message = PEACH__CANCEL__INIT;
    message.give_back = &lease;
    message.n_give_back = 1;
    send_cancel(shell, worker, &message);
}

/* Adds one result to what the client gets. */
static void add_result(broker_t *b, peer_t *client, const Peach__Result *result)
{
    wire_batch_add(&client->batch, 1, &result->base);
    shell_dirty(b, client);
}

static void fail_task(void *shell, const sched_owner_t *owner, uint32_t first, uint32_t count,
                      int status, const char *message, const sched_attempt_t *attempts,
                      size_t attempt_count)
{
    broker_t *b = shell;
    peer_t *peer = owner->client;
    jobs_count(owner->job, count, true);
    Peach__Attempt tried[32], *pointers[32];
    if (attempt_count > 32) attempt_count = 32;
    for (size_t i = 0; i < attempt_count; i++) {
        peach__attempt__init(&tried[i]);
        tried[i].host = (char *)attempts[i].host;
        tried[i].pid = attempts[i].pid;
        tried[i].cause = (char *)attempts[i].cause;
        pointers[i] = &tried[i];
    }
    Peach__Failure failure = PEACH__FAILURE__INIT, *failures = &failure;
    failure.item = first;
    failure.count = count;
    failure.status = status;
    failure.message = (char *)message;
    failure.attempts = pointers;
    failure.n_attempts = attempt_count;
    if (attempt_count > 0) {
        failure.host = tried[attempt_count - 1].host;
        failure.pid = tried[attempt_count - 1].pid;
    }
    Peach__Result result = PEACH__RESULT__INIT;
    result.id = owner->number;
    result.failures = &failures;
    result.n_failures = 1;
    if (peer_make_room(peer, b->router, 0) == 0) add_result(b, peer, &result);
}

static void drained(void *shell, void *worker)
{
    Peach__Envelope envelope = PEACH__ENVELOPE__INIT;
    Peach__Goodbye goodbye = PEACH__GOODBYE__INIT;
    goodbye.reason = "drained";
    envelope.body_case = PEACH__ENVELOPE__BODY_GOODBYE;
    envelope.goodbye = &goodbye;
    shell_send(shell, worker, &envelope, NULL);
}

static void *slice(void *shell, void *payload, size_t offset, size_t size)
{
    (void)shell;
    const uint8_t *bytes = payload_bytes(payload);
    return payload_new(bytes + offset, size);
}

static void release_payload(void *shell, void *payload)
{
    (void)shell;
    payload_t *p = payload;
    payload_unref(&p);
}

static void release_job(void *shell, void *job)
{
    (void)shell;
    shell_job_t *j = job;
    shell_job_unref(&j);
}

const sched_ops_t shell_ops = {assign, cancel,          give_back,   fail_task,    drained,
                               slice,  release_payload, release_job, names_suggest};

/* ---- from the worker ---- */

static void lose_items(broker_t *b, peer_t *worker, uint64_t lease, uint32_t first, uint32_t count,
                       const sched_attempt_t *attempt)
{
    for (uint32_t i = 0; i < count; i++)
        sched_item_lost(b->sched, worker->worker, lease, first + i, attempt);
}

/* The result is gone with the memory that it was in, and nobody has seen it: its items run again,
   unless they may run once only. */
static void lose_segment(broker_t *b, peer_t *worker, uint64_t lease, const Peach__Segment *segment)
{
    sched_owner_t owner;
    const sched_attempt_t attempt = {worker->host, worker->pid,
                                     "it ended before its result was taken"};
    if (!sched_lease_owner(b->sched, worker->worker, lease, &owner)) return;
    const shell_job_t *job = owner.job;
    if (job->message->retries == 0)
        lose_items(b, worker, lease, segment->first, segment->count, &attempt);
}

/* Whether the item runs again, so that nobody is told of its failure. */
static bool retried(broker_t *b, peer_t *worker, uint64_t lease, const Peach__Failure *failure)
{
    sched_attempt_t attempt = {failure->host, failure->pid, failure->message};
    if (failure->status == PEACH_E_DIED) {
        session_end_of(b, failure->host, failure->pid); /* what its task had submitted */
        lose_items(b, worker, lease, failure->item, failure->count ? failure->count : 1, &attempt);
        return true; /* or the core has told it already */
    }
    return failure->status == PEACH_E_RAISED && failure->count <= 1 &&
           sched_item_raised(b->sched, worker->worker, lease, failure->item, &attempt);
}

/* The parts of a result that somebody waits for, under the client's number. */
static void pass_on(broker_t *b, peer_t *worker, wire_message_t *message,
                    const Peach__Result *result)
{
    Peach__Result out = PEACH__RESULT__INIT;
    out.elapsed_us = result->elapsed_us;
    out.segments = calloc(result->n_segments + 1, sizeof *out.segments);
    out.failures = calloc(result->n_failures + 1, sizeof *out.failures);
    bool there = out.segments && out.failures;
    sched_owner_t owner = {0};
    for (size_t i = 0; there && i < result->n_segments; i++) {
        Peach__Segment *segment = result->segments[i];
        if (!wire_at_hand(message, segment->payload)) {
            lose_segment(b, worker, result->id, segment);
            continue;
        }
        if (!sched_items_done(b->sched, worker->worker, result->id, segment->first, segment->count,
                              0, &owner))
            continue;
        worker->done_items += segment->count;
        jobs_count(owner.job, segment->count, false);
        out.segments[out.n_segments++] = segment;
    }
    for (size_t i = 0; there && i < result->n_failures; i++) {
        Peach__Failure *failure = result->failures[i];
        uint32_t count = failure->count ? failure->count : 1;
        worker->failed_items += count;
        if (!retried(b, worker, result->id, failure) &&
            sched_items_done(b->sched, worker->worker, result->id, failure->item, count,
                             failure->status, &owner)) {
            jobs_count(owner.job, count, true);
            out.failures[out.n_failures++] = failure;
        }
    }
    peer_t *client = owner.client;
    out.id = owner.number;
    if (client && out.n_segments + out.n_failures > 0 &&
        peer_make_room(client, b->router, out.n_segments) == 0) {
        wire_batch_forward(&client->batch, message, &out, worker->host, worker->pid);
        shell_dirty(b, client);
    }
    free(out.segments);
    free(out.failures);
}

static void pass_single(broker_t *b, peer_t *worker, const wire_single_t *result)
{
    sched_owner_t owner;
    if (sched_items_done(b->sched, worker->worker, result->id, 0, 1, 0, &owner)) {
        peer_t *client = owner.client;
        worker->done_items++;
        jobs_count(owner.job, 1, false);
        if (peer_make_room(client, b->router, 0) == 0) {
            wire_batch_result(&client->batch, owner.number, result->elapsed_us, result->payload,
                              result->size);
            shell_dirty(b, client);
        }
    }
    sched_lease_end(b->sched, worker->worker, result->id, (uint64_t)result->elapsed_us * 1000);
}

/* ---- what tasks print ---- */

static void send_lines(broker_t *b, peer_t *client, Peach__Line **lines, size_t count)
{
    Peach__Envelope envelope = PEACH__ENVELOPE__INIT;
    Peach__Logs logs = PEACH__LOGS__INIT;
    logs.lines = lines;
    logs.n_lines = count;
    envelope.body_case = PEACH__ENVELOPE__BODY_LOGS;
    envelope.logs = &logs;
    shell_send(b, client, &envelope, NULL);
}

static void say_of_lines(broker_t *b, peer_t *client, const Peach__Line *near, const char *text)
{
    Peach__Line note = *near, *notes = &note;
    note.text = (char *)text;
    note.notice = false;
    send_lines(b, client, &notes, 1);
}

/* Lines of one client are sent as one message. One that does not read loses what is above
   its share of the memory; it is told where that begins, and how many they were. */
static void pass_lines(broker_t *b, peer_t *client, Peach__Line **lines, size_t count)
{
    char text[96];
    uint64_t most = share(b, least_line_bytes, most_line_bytes);
    bool reads = client->outbox.loose_bytes <= (client->unread_lines ? most / 2 : most);
    if (!reads && client->unread_lines == 0)
        say_of_lines(b, client, lines[0], "(output is lost from here: it is not read in time)");
    if (!reads) {
        client->unread_lines += (uint32_t)count;
        return;
    }
    if (client->unread_lines > 0) {
        snprintf(text, sizeof text, "(%u lines of output were lost: they were not read in time)",
                 client->unread_lines);
        client->unread_lines = 0;
        say_of_lines(b, client, lines[0], text);
    }
    send_lines(b, client, lines, count);
}

void work_logs(broker_t *b, peer_t *worker, const Peach__Logs *logs)
{
    peer_t *client = NULL;
    Peach__Line **first = logs->lines;
    size_t count = 0;
    for (size_t i = 0; i < logs->n_lines; i++) {
        sched_owner_t owner;
        bool wanted = sched_lease_owner(b->sched, worker->worker, logs->lines[i]->id, &owner);
        if (count > 0 && (!wanted || owner.client != client)) {
            pass_lines(b, client, first, count);
            count = 0;
        }
        if (!wanted) continue;
        if (count++ == 0) first = &logs->lines[i];
        client = owner.client;
        logs->lines[i]->id = owner.number;
    }
    if (count > 0) pass_lines(b, client, first, count);
}

void work_results(broker_t *b, peer_t *worker, wire_message_t *message)
{
    const Peach__Results *results = wire_envelope(message)->results;
    for (size_t i = 0; i < results->n_singles; i++) {
        size_t offset = 0;
        for (size_t row = 0; row < results->singles[i]->n_ids; row++) {
            wire_single_t result = wire_single(results->singles[i], row, &offset);
            pass_single(b, worker, &result);
        }
    }
    for (size_t i = 0; i < results->n_results; i++) {
        const Peach__Result *result = results->results[i];
        pass_on(b, worker, message, result);
        if (result->ended)
            sched_lease_end(b->sched, worker->worker, result->id, result->elapsed_us * 1000);
    }
}
