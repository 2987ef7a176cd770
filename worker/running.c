/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "executor.h"

#include "group.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- values that were put ---- */

typedef struct {
    payload_t *payload;
    peach_value_t *value; /* NULL: not decoded yet */
    function_t function;  /* that it is, once a job brought it as such */
} blob_t;

static void blob_destroy(blob_t *blob)
{
    if (!blob) return;
    if (blob->function.handle)
        blob->function.runtime->forget(blob->function.runtime, blob->function.handle);
    peach_value_destroy(&blob->value);
    payload_unref(&blob->payload);
    free(blob);
}

void running_put(executor_t *x, wire_message_t *message, const Peach__Put *put)
{
    blob_t *blob = calloc(1, sizeof *blob);
    if (!blob) executor_die("out of memory");
    blob->payload = wire_payload(message, put->payload);
    if (blob->payload) payload_settle(blob->payload);
    blob_destroy(idmap_remove(x->blobs, put->number));
    if (!blob->payload) /* who refers to it is told */
        blob_destroy(blob);
    else if (idmap_put(x->blobs, put->number, blob) != 0)
        executor_die("out of memory");
}

void running_drop(executor_t *x, const Peach__Drop *drop)
{
    for (size_t i = 0; i < drop->n_numbers; i++)
        blob_destroy(idmap_remove(x->blobs, drop->numbers[i]));
}

/* The value of that number; NULL when it is not there. */
static blob_t *blob_find(const executor_t *x, const Peach__Job *job, uint64_t number)
{
    blob_t *blob = NULL;
    for (size_t i = 0; i < job->n_refs && !blob; i++)
        if (job->refs[i]->put == number) blob = idmap_get(x->blobs, job->refs[i]->blob);
    if (blob && !blob->value) peach_value_unpack_lent(blob->payload, &blob->value);
    return blob && blob->value ? blob : NULL;
}

static void fail_missing(uint64_t number, failure_t *failure)
{
    failure_set(failure, PEACH_E_ARGUMENT,
                "value %llu, which was put, is not there: it was dropped, or the broker that had "
                "it was lost",
                (unsigned long long)number);
}

/* Puts values in the places of references to them. */
static bool resolve(const executor_t *x, const Peach__Job *job, peach_value_t **value_p,
                    failure_t *failure)
{
    peach_value_t *value = *value_p;
    if (value->kind == PEACH_REF) {
        const blob_t *found = blob_find(x, job, (uint64_t)value->integer);
        if (!found) {
            fail_missing((uint64_t)value->integer, failure);
            return false;
        }
        peach_value_destroy(value_p);
        if (!(*value_p = peach_value_alias(found->value))) executor_die("out of memory");
        return true;
    }
    if (!peach_value_is_sequence(value)) return true;
    bool all = true;
    for (size_t i = 0; i < value->sequence.count && all; i++)
        all = resolve(x, job, &value->sequence.values[i], failure);
    return all;
}

/* ---- functions ---- */

/* The function that the job brought. NULL with failure set. */
static const function_t *function_by_value(executor_t *x, const Peach__Job *job, uint32_t number,
                                           uint32_t item, failure_t *failure)
{
    blob_t *blob = blob_find(x, job, job->code);
    if (!blob) {
        fail_missing(job->code, failure);
        return NULL;
    }
    if (blob->function.handle) return &blob->function;
    /* Whatever it has to say is about this task. */
    if (job->logs) output_item(x, number, item);
    runtime_t *runtime = loading_python(x, failure);
    if (runtime)
        blob->function.handle = runtime->define(runtime, blob->value, job->codec != 0, failure);
    executor_check_fork();
    blob->function.runtime = runtime;
    return blob->function.handle ? &blob->function : NULL;
}

/* A job's function, once a task looked for it, or why there is none. */
typedef struct {
    bool looked;
    const function_t *function;
    failure_t failure;
} found_t;

/* An item that was stopped failed because of that, whatever it made of it: what it returns may
   be of a child that was interrupted, too. */
static void tell_stop(const executor_t *x, uint32_t number, failure_t *failure)
{
    group_end_since(x->now_ns);
    if (failure->status && failure->status != PEACH_E_RAISED) return;
    if (shared_stops_task(x->shared, number))
        failure_set(failure, PEACH_E_CANCELLED, "%s", peach_status_text(PEACH_E_CANCELLED));
    else
        failure_set(failure, PEACH_E_TIMEOUT, "the item ran longer than its limit of %g s",
                    atomic_load(&x->shared->limit_ms) / 1000.0);
}

/* Within a task that has begun: to unpickle a function may take its time, and be stopped. */
static void find_function(executor_t *x, const Peach__Job *job, uint32_t number, found_t *found)
{
    uint32_t item = atomic_load(&x->shared->item);
    failure_clear(&found->failure);
    found->function = job->code ? function_by_value(x, job, number, item, &found->failure)
                                : loading_find(x, job->function);
    found->looked = true;
    if (found->function) return;
    if (!found->failure.status)
        failure_set(&found->failure, PEACH_E_NO_FUNCTION, "%s is not loaded here", job->function);
    found->looked = !shared_stops(x->shared, number, item); /* the next task may have it */
    if (!found->looked) tell_stop(x, number, &found->failure);
}

/* ---- tasks ---- */

/* A good seed for an item out of its job's seed and its number (splitmix64). */
static uint64_t item_seed(uint64_t seed, uint64_t item)
{
    uint64_t z = seed + (item + 1) * 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

/* The result is the caller's, or in scratch. */
static peach_value_t *run_item(executor_t *x, const Peach__Job *job, const function_t *function,
                               peach_value_t *item, uint64_t first_item, uint32_t index,
                               uint32_t number, peach_value_t *scratch, failure_t *failure)
{
    const peach_value_t *one[1] = {item}, **args = one;
    size_t count = 1;
    if (job->spread) {
        if (peach_value_kind(item) != PEACH_LIST) {
            failure_set(failure, PEACH_E_TYPE, "the arguments of a call must be a list");
            return NULL;
        }
        count = peach_value_length(item);
        if (!(args = calloc(count + 1, sizeof *args))) executor_die("out of memory");
        for (size_t i = 0; i < count; i++) args[i] = peach_value_at(item, i);
    }
    uint64_t in_job = first_item + index;
    call_t call = {.args = args,
                   .arg_count = count,
                   .keywords = job->keywords && count > 0,
                   .pickles = job->codec != 0,
                   .function = job->function,
                   .depth = job->depth,
                   .item = in_job,
                   .seeded = job->seeded,
                   .seed = job->seeded ? item_seed(job->seed, in_job) : 0,
                   .task = number,
                   .index = index};
    peach_value_t *value =
        function->runtime->call(function->runtime, function->handle, &call, scratch, failure);
    executor_check_fork();
    if (args != one) free(args);
    if (shared_stops(x->shared, number, index)) {
        tell_stop(x, number, failure);
        if (value && value != scratch) peach_value_destroy(&value);
        value = NULL;
    }
    return value;
}

/* Runs the items first..first+count-1; false when the task was cancelled, or is to be
   given back. */
static bool run_range(executor_t *x, const Peach__Task *task, const Peach__Job *job,
                      const function_t *function, peach_value_t *items, uint32_t first,
                      uint32_t count)
{
    uint32_t number = (uint32_t)task->id;
    for (uint32_t i = first; i < first + count; i++) {
        failure_t failure = {0};
        if (atomic_load(&x->shared->yield) == number + 1) return false;
        atomic_store_explicit(&x->shared->began_ms, x->now_ns / 1000000, memory_order_relaxed);
        atomic_store_explicit(&x->shared->item, i, memory_order_release);
        if (shared_stops_task(x->shared, number)) {
            failure_set(&failure, PEACH_E_CANCELLED, "%s", peach_status_text(PEACH_E_CANCELLED));
            results_finish(x, NULL);
            results_fail(x, number, i, first + count - i, &failure);
            failure_clear(&failure);
            return false;
        }
        if (job->logs == WIRE_LOGS_ALL) output_item(x, number, i);
        peach_value_t argument, result, *item = &argument;
        if (!items_number(items, i, &argument) && !(item = items_take(items, i)))
            executor_die("out of memory");
        peach_value_t *value = NULL;
        if (item == &argument || job->n_refs == 0 || resolve(x, job, &item, &failure))
            value =
                run_item(x, job, function, item, task->first_item, i, number, &result, &failure);
        if (item != &argument) peach_value_destroy(&item);
        x->now_ns = executor_coarse_clock();
        if (job->logs == WIRE_LOGS_ALL) fflush(NULL); /* before its result */
        if (value) {
            results_keep(x, i, value, value == &result);
        } else {
            results_finish(x, NULL);
            results_fail(x, number, i, 1, &failure);
            failure_clear(&failure);
        }
        /* Who may run once only is reported before the next one begins. */
        if ((job->retries == 0 && !x->pending.whole) || x->now_ns > x->flushed_ns + FLUSH_NS) {
            results_finish(x, NULL);
            results_flush(x);
        }
    }
    return true;
}

/* The items of a task; large arrays lend from its payload. NULL with failure set. */
static peach_value_t *decode_items(wire_message_t *message, const Peach__Task *task,
                                   failure_t *failure)
{
    peach_value_t *items = NULL;
    payload_t *payload = wire_payload(message, task->payload);
    if (!payload) {
        failure_set(failure, PEACH_E_SYSTEM, "the items cannot be taken: %s", strerror(errno));
        return NULL;
    }
    payload_settle(payload);
    int rc = peach_value_unpack_lent(payload, &items);
    payload_unref(&payload);
    if (rc) {
        failure_set(failure, rc, "the items cannot be decoded: %s", peach_status_text(rc));
    } else if (!items_valid(items) || peach_value_length(items) != task->items) {
        failure_set(failure, PEACH_E_PROTOCOL, "the items are not %u values", task->items);
        peach_value_destroy(&items);
    }
    return items;
}

/* A task of one number, without a tree for its items. */
static bool one_number(const Peach__Task *task, peach_value_t *items, peach_value_t *number)
{
    static uint64_t one = 1;
    const ProtobufCBinaryData *bytes = &task->payload->inline_;
    if (task->items != 1 || !items_get_number(bytes->data, bytes->len, number)) return false;
    *items = (peach_value_t){.kind = PEACH_ARRAY};
    items->array.dtype = number->kind == PEACH_INT ? PEACH_DTYPE_INT64 : PEACH_DTYPE_FLOAT64;
    items->array.ndim = 1;
    items->array.shape = &one;
    items->array.data = &number->integer;
    items->array.size = sizeof number->integer;
    return true;
}

static void run_task(executor_t *x, wire_message_t *message, const Peach__Task *task,
                     const Peach__Job *job, found_t *found)
{
    uint32_t number = (uint32_t)task->id;
    x->begun_ns = x->now_ns;
    atomic_store_explicit(&x->shared->began_ms, x->now_ns / 1000000, memory_order_relaxed);
    atomic_store_explicit(&x->shared->item, task->n_todo ? task->todo[0]->first : 0,
                          memory_order_relaxed);
    if (!shared_begin(x->shared, number)) return;
    if (x->begun_ns > x->flushed_ns + FLUSH_NS) results_flush(x);
    failure_t failure = {0};
    x->pending.number = number;
    x->pending.whole = task->items == 1;
    peach_value_t scratch, bits, *items = NULL;
    if (job->logs == WIRE_LOGS_ALL) {
        executor_check_descriptors(x);
        output_item(x, number, atomic_load(&x->shared->item));
    }
    if (!found->looked) find_function(x, job, number, found);
    if (found->function && one_number(task, &scratch, &bits))
        items = &scratch;
    else if (found->function)
        items = decode_items(message, task, &failure);
    Peach__Range all = PEACH__RANGE__INIT, *pointer = &all, **ranges = task->todo;
    all.count = task->items;
    size_t range_count = task->n_todo;
    if (range_count == 0) {
        ranges = &pointer;
        range_count = 1;
    }
    for (size_t i = 0; i < range_count; i++) {
        if (items)
            run_range(x, task, job, found->function, items, ranges[i]->first, ranges[i]->count);
        else
            results_fail(x, number, ranges[i]->first, ranges[i]->count,
                         found->function ? &failure : &found->failure);
    }
    if (job->logs == WIRE_LOGS_ALL) output_end(x);
    Peach__Result end = PEACH__RESULT__INIT;
    end.id = number;
    end.ended = true;
    results_finish(x, &end);
    if (job->retries == 0) results_flush(x); /* before the next one begins */
    failure_clear(&failure);
    if (items != &scratch) peach_value_destroy(&items);
}

/* Tasks of one item, one after another. */
static void run_singles(executor_t *x, wire_message_t *message, const Peach__Singles *singles,
                        const Peach__Job *job)
{
    found_t found = {0};
    Peach__Payload payload = PEACH__PAYLOAD__INIT;
    Peach__Task task = PEACH__TASK__INIT;
    size_t offset = 0;
    task.items = 1;
    task.payload = &payload;
    for (size_t i = 0; i < singles->n_ids; i++) {
        wire_single_t row = wire_single(singles, i, &offset);
        task.id = row.id;
        task.first_item = row.item;
        payload.inline_ = (ProtobufCBinaryData){row.size, (uint8_t *)row.payload};
        run_task(x, message, &task, job, &found);
    }
    failure_clear(&found.failure);
}

void running_assign(executor_t *x, wire_message_t *message, const Peach__Assign *assign)
{
    x->now_ns = executor_clock();
    for (size_t i = 0; i < assign->n_tasks; i++) {
        const Peach__Job *job = assign->jobs[assign->tasks[i]->job];
        found_t found = {0};
        run_task(x, message, assign->tasks[i], job, &found);
        failure_clear(&found.failure);
    }
    for (size_t i = 0; i < assign->n_singles; i++)
        run_singles(x, message, assign->singles[i], assign->jobs[assign->singles[i]->job]);
}
