/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */

/* peach-executor: runs what its supervisor sends, one item after another. It is
   started by peach-worker only, with the channel and the shared page open. */
#include "channel.h"
#include "idmap.h"
#include "items.h"
#include "runtime.h"
#include "value_tree.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { FLUSH_NS = 10000000, MAX_PENDING = 65536, TRIM_MS = 1000 };

typedef struct {
    char *name;
    runtime_t *runtime;
    void *handle;
} function_t;

/* Results of a task's items that were not sent yet: one run of successes. Its buffers
   are kept for the next task. */
typedef struct {
    uint32_t number; /* of the task */
    bool whole;      /* it is all of a task of one item */
    uint32_t first;
    size_t count;
    peach_kind_t kind; /* PEACH_INT or PEACH_DOUBLE: of all, in numbers; else in values */
    int64_t *numbers;
    peach_value_t **values;
    size_t capacity;
} pending_t;

typedef struct {
    channel_t *channel;
    shared_t *shared;
    runtime_t *native, *python;
    function_t *functions; /* the last one of a name counts */
    size_t function_count;
    /* of the preload that is being loaded */
    runtime_t *loading;
    size_t loaded_from;
    uint64_t flushed_ns, begun_ns; /* of the batch; of the task */
    uint64_t now_ns;               /* the last reading of the clock */
    wire_batch_t batch;
    pending_t pending;
    idmap_t *blobs;     /* values that were put, by the supervisor's number */
    block_pool_t *pool; /* for large results; */
    payload_t **sent;   /* those that the supervisor has not opened yet, */
    size_t sent_count;
    uint32_t flushes, sent_flush; /* messages sent; the last one that had some */
    bool template;
    wire_batch_t *loaded; /* of a template: what its copies say of its preloads */
    size_t loaded_count;
} executor_t;

static uint64_t read_clock(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* The coarse one costs a few nanoseconds: it is read for every item. */
static uint64_t clock_ns(void) { return read_clock(CLOCK_MONOTONIC); }
static uint64_t coarse_ns(void) { return read_clock(CLOCK_MONOTONIC_COARSE); }

static void seed_unlike_siblings(void)
{
    unsigned seed;
    if (getrandom(&seed, sizeof seed, 0) == sizeof seed) srand(seed);
}

static void die(const char *why)
{
    fprintf(stderr, "peach-executor: %s\n", why);
    exit(1);
}

/* ---- functions ---- */

static function_t *find(const executor_t *x, const char *name)
{
    for (size_t i = x->function_count; i-- > 0;)
        if (strcmp(x->functions[i].name, name) == 0) return &x->functions[i];
    return NULL;
}

static void define(void *executor, const char *name, void *handle)
{
    executor_t *x = executor;
    function_t *grown = realloc(x->functions, (x->function_count + 1) * sizeof *grown);
    char *copy = strdup(name);
    if (!grown || !copy) die("out of memory");
    x->functions = grown;
    x->functions[x->function_count++] = (function_t){copy, x->loading, handle};
}

/* ---- preloads ---- */

/* peach_python.so is next to the executor in the build, in lib/peach/ when installed. */
static void *open_python_module(failure_t *failure)
{
    char self[PATH_MAX], path[PATH_MAX + 64];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n < 0) n = 0;
    self[n] = 0;
    char *slash = strrchr(self, '/');
    if (slash) *slash = 0;
    snprintf(path, sizeof path, "%s/peach_python.so", self);
    /* Global: extension modules expect libpython's symbols to be there. */
    void *module = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
    if (!module) failure_set(failure, PEACH_E_UNSUPPORTED, "no Python here: %s", dlerror());
    return module;
}

static runtime_t *python_runtime(executor_t *x, failure_t *failure)
{
    if (x->python) return x->python;
    void *module = open_python_module(failure);
    if (!module) return NULL;
    runtime_t *(*make)(const shared_t *, failure_t *);
    void *symbol = dlsym(module, "peach_python_runtime_new");
    if (!symbol) die("peach_python.so is of another version");
    memcpy(&make, &symbol, sizeof make);
    return x->python = make(x->shared, failure);
}

/* What is wrong in the first line, the traceback behind it; to be freed. */
static char *describe(const failure_t *failure)
{
    char *text = NULL, *valid = NULL;
    const char *type = failure->type ? failure->type : "";
    const char *message = failure->message ? failure->message : peach_status_text(failure->status);
    const char *traceback = failure->traceback ? failure->traceback : "";
    if (asprintf(&text, "%s%s%s%s%s", type, *type ? ": " : "", message, *traceback ? "\n" : "",
                 traceback) >= 0)
        valid = wire_text(text);
    free(text);
    return valid;
}

/* A copy of this process says the same of itself. */
static void remember(executor_t *x, const Peach__Envelope *envelope)
{
    wire_batch_t *grown = realloc(x->loaded, (x->loaded_count + 1) * sizeof *grown);
    size_t size = peach__envelope__get_packed_size(envelope);
    if (!grown) die("out of memory");
    x->loaded = grown;
    wire_batch_t *copy = &x->loaded[x->loaded_count++];
    *copy = (wire_batch_t){.bytes = malloc(size + 1), .size = size, .capacity = size + 1};
    if (!copy->bytes) die("out of memory");
    peach__envelope__pack(envelope, copy->bytes);
}

static void report_preload(executor_t *x, const Peach__PreloadItem *item, const failure_t *failure)
{
    Peach__Envelope envelope = PEACH__ENVELOPE__INIT;
    Peach__Registration registration = PEACH__REGISTRATION__INIT;
    Peach__PreloadReport report = PEACH__PRELOAD_REPORT__INIT, *reports = &report;
    size_t count = x->function_count - x->loaded_from;
    Peach__Function *functions = calloc(count + 1, sizeof *functions);
    Peach__Function **pointers = calloc(count + 1, sizeof *pointers);
    char *error = NULL;
    if (!functions || !pointers) die("out of memory");
    for (size_t i = 0; i < count; i++) {
        peach__function__init(&functions[i]);
        functions[i].name = x->functions[x->loaded_from + i].name;
        pointers[i] = &functions[i];
    }
    report.name = item->name;
    report.digest = item->digest;
    report.state = PEACH__PRELOAD_STATE__PRELOAD_READY;
    if (failure->status) {
        report.state = PEACH__PRELOAD_STATE__PRELOAD_FAILED;
        error = describe(failure);
        if (error) report.error = error;
        count = 0;
    }
    registration.slots = registration.window = 1;
    registration.preloads = &reports;
    registration.n_preloads = 1;
    registration.functions = pointers;
    registration.n_functions = count;
    envelope.body_case = PEACH__ENVELOPE__BODY_REGISTRATION;
    envelope.registration = &registration;
    if (channel_put(x->channel, &envelope, NULL) != 0 || channel_flush(x->channel) != 0) exit(1);
    if (x->template && !failure->status) remember(x, &envelope);
    free(error);
    free(functions);
    free(pointers);
}

static void load(executor_t *x, const Peach__PreloadItem *item)
{
    failure_t failure = {0};
    bool plugin = item->kind == PEACH__PRELOAD_KIND__PRELOAD_PLUGIN;
    x->loaded_from = x->function_count;
    x->loading = plugin ? x->native : python_runtime(x, &failure);
    if (x->loading) x->loading->load(x->loading, item, define, x, &failure);
    report_preload(x, item, &failure);
    failure_clear(&failure);
}

/* ---- results ---- */

/* Shared memory is ours until the supervisor has opened it. */
static void release_sent(executor_t *x)
{
    if (x->sent_count == 0 || atomic_load(&x->shared->taken) < x->sent_flush) return;
    for (size_t i = 0; i < x->sent_count; i++) payload_unref(&x->sent[i]);
    x->sent_count = 0;
}

static void keep_sent(executor_t *x)
{
    wire_frames_t *frames = &x->batch.frames;
    if (frames->shared_count == 0) return;
    payload_t **grown = realloc(x->sent, (x->sent_count + frames->shared_count) * sizeof *grown);
    if (!grown) die("out of memory");
    x->sent = grown;
    for (size_t i = 0; i < frames->shared_count; i++)
        x->sent[x->sent_count++] = payload_ref(frames->shared[i]);
    x->sent_flush = x->flushes;
}

static void flush_batch(executor_t *x)
{
    release_sent(x);
    if (x->batch.elements > 0) {
        if (channel_put_batch(x->channel, PEACH__ENVELOPE__BODY_RESULTS, &x->batch) != 0 ||
            channel_flush(x->channel) != 0)
            exit(1); /* the supervisor is gone */
        x->flushes++;
        keep_sent(x);
    }
    wire_batch_clear(&x->batch);
    x->flushed_ns = x->now_ns;
}

static uint64_t elapsed_us(executor_t *x)
{
    x->now_ns = clock_ns();
    return (x->now_ns - x->begun_ns) / 1000 + 1;
}

static void add_result(executor_t *x, Peach__Result *result)
{
    result->elapsed_us = elapsed_us(x);
    if (wire_batch_add(&x->batch, 1, &result->base) != 0) die("out of memory");
    if (wire_batch_full(&x->batch)) flush_batch(x);
}

/* The result of a task of one item: all of the task. */
static void add_single(executor_t *x, uint32_t number, const void *bytes, size_t size)
{
    uint64_t us = elapsed_us(x);
    if (wire_batch_result(&x->batch, number, us < UINT32_MAX ? (uint32_t)us : UINT32_MAX, bytes,
                          size) != 0)
        die("out of memory");
    if (wire_batch_full(&x->batch)) flush_batch(x);
}

static void add_failure(executor_t *x, uint32_t number, uint32_t item, uint32_t count,
                        const failure_t *failure)
{
    Peach__Failure message = PEACH__FAILURE__INIT, *messages = &message;
    Peach__Result result = PEACH__RESULT__INIT;
    char *type = wire_text(failure->type ? failure->type : "");
    char *text = wire_text(failure->message ? failure->message : "");
    char *traceback = wire_text(failure->traceback ? failure->traceback : "");
    if (!type || !text || !traceback) die("out of memory");
    if (strlen(type) > WIRE_MAX_NAME) type[0] = 0;
    message.item = item;
    message.count = count;
    message.status = failure->status;
    message.type = type;
    message.message = text;
    message.traceback = traceback;
    result.id = number;
    result.failures = &messages;
    result.n_failures = 1;
    add_result(x, &result);
    free(type);
    free(text);
    free(traceback);
}

static payload_t *pack_pending(executor_t *x, int *rc)
{
    pending_t *p = &x->pending;
    release_sent(x);
    if (p->kind != PEACH_LIST)
        return items_pack_numbers(p->kind, p->numbers, p->count, x->pool, rc);
    payload_t *payload = items_pack_values(p->values, p->count, x->pool, rc);
    for (size_t i = 0; i < p->count; i++) peach_value_destroy(&p->values[i]);
    return payload;
}

/* Moves the pending successes into the batch as one segment; end, if it is not NULL,
   is the task's last result and carries them. */
static void finish_segment(executor_t *x, Peach__Result *end)
{
    pending_t *p = &x->pending;
    size_t count = p->count, size;
    if (count == 0) {
        if (end) add_result(x, end);
        return;
    }
    if (count == 1 && end && p->whole && p->kind != PEACH_LIST) {
        uint8_t bytes[ITEMS_NUMBER_BYTES];
        peach_value_t number = {.kind = p->kind, .integer = p->numbers[0]};
        items_put_number(bytes, &number);
        p->count = 0;
        add_single(x, p->number, bytes, sizeof bytes);
        return;
    }
    int rc;
    payload_t *payload = pack_pending(x, &rc);
    p->count = 0;
    size = payload ? payload_size(payload) : 0;
    if (payload && end && p->whole && size <= WIRE_INLINE_BYTES) {
        add_single(x, p->number, payload_bytes(payload), size);
        payload_unref(&payload);
        return;
    }
    if (rc == 0 && size > WIRE_DEFAULT_MAX_PAYLOAD && count == 1) rc = PEACH_E_LIMIT;
    if (rc == 0) {
        Peach__Segment segment = PEACH__SEGMENT__INIT, *segments = &segment;
        Peach__Result only = PEACH__RESULT__INIT, *result = end ? end : &only;
        Peach__Payload field;
        segment.first = p->first;
        segment.count = (uint32_t)count;
        segment.payload = &field;
        if (wire_attach(&x->batch.frames, payload, &field) != 0) die("out of memory");
        result->id = p->number;
        result->segments = &segments;
        result->n_segments = 1;
        add_result(x, result);
    } else {
        failure_t failure = {0};
        failure_set(&failure, rc, "the result cannot be sent: %s", peach_status_text(rc));
        add_failure(x, p->number, p->first, (uint32_t)count, &failure);
        failure_clear(&failure);
        if (end) add_result(x, end);
    }
    payload_unref(&payload);
}

static void close_segment(executor_t *x) { finish_segment(x, NULL); }

/* Numbers of one kind are kept as numbers; when another kind comes, as values. */
static void keep_as_values(pending_t *p)
{
    for (size_t i = 0; i < p->count && p->kind != PEACH_LIST; i++) {
        double real;
        memcpy(&real, &p->numbers[i], sizeof real);
        p->values[i] =
            p->kind == PEACH_INT ? peach_value_int(p->numbers[i]) : peach_value_double(real);
        if (!p->values[i]) die("out of memory");
    }
    p->kind = PEACH_LIST;
}

/* Takes the value unless it is lent: then it is a number. */
static void keep_value(executor_t *x, uint32_t item, peach_value_t *value, bool lent)
{
    pending_t *p = &x->pending;
    peach_kind_t kind = value->kind, group = kind;
    if (kind != PEACH_INT && kind != PEACH_DOUBLE) group = PEACH_LIST;
    if (p->count > 0 && item != p->first + p->count) close_segment(x);
    if (p->count == p->capacity) {
        p->capacity = p->capacity ? p->capacity * 2 : 16;
        p->values = realloc(p->values, p->capacity * sizeof *p->values);
        p->numbers = realloc(p->numbers, p->capacity * sizeof *p->numbers);
        if (!p->values || !p->numbers) die("out of memory");
    }
    if (p->count == 0) {
        p->first = item;
        p->kind = group;
    } else if (p->kind != group) {
        keep_as_values(p);
    }
    if (p->kind == PEACH_LIST) {
        p->values[p->count++] = lent ? peach_value_copy(value) : value;
        if (!p->values[p->count - 1]) die("out of memory");
    } else {
        p->numbers[p->count++] = value->integer; /* or real's bits */
        if (!lent) peach_value_destroy(&value);
    }
    /* Arrays and long texts go one by one: a segment of them would be copied once more. */
    if ((kind == PEACH_ARRAY || kind == PEACH_BYTES || p->count == MAX_PENDING) && !p->whole)
        close_segment(x);
}

/* ---- values that were put ---- */

typedef struct {
    payload_t *payload;
    peach_value_t *value; /* NULL: not decoded yet */
} blob_t;

static void blob_destroy(blob_t *blob)
{
    if (!blob) return;
    peach_value_destroy(&blob->value);
    payload_unref(&blob->payload);
    free(blob);
}

static void take_blob(executor_t *x, wire_message_t *message, const Peach__Put *put)
{
    blob_t *blob = calloc(1, sizeof *blob);
    if (!blob) die("out of memory");
    blob->payload = wire_payload(message, put->payload);
    blob_destroy(idmap_remove(x->blobs, put->number));
    if (!blob->payload) /* who refers to it is told */
        blob_destroy(blob);
    else if (idmap_put(x->blobs, put->number, blob) != 0)
        die("out of memory");
}

static const peach_value_t *blob_value(const executor_t *x, const Peach__Job *job, uint64_t number)
{
    blob_t *blob = NULL;
    for (size_t i = 0; i < job->n_refs && !blob; i++)
        if (job->refs[i]->put == number) blob = idmap_get(x->blobs, job->refs[i]->blob);
    if (blob && !blob->value) peach_value_unpack_lent(blob->payload, &blob->value);
    return blob ? blob->value : NULL;
}

/* Puts values in the places of references to them. */
static bool resolve(const executor_t *x, const Peach__Job *job, peach_value_t **value_p,
                    failure_t *failure)
{
    peach_value_t *value = *value_p;
    if (value->kind == PEACH_REF) {
        const peach_value_t *found = blob_value(x, job, (uint64_t)value->integer);
        if (!found) {
            failure_set(failure, PEACH_E_ARGUMENT,
                        "value %llu, which was put, is not there: it was dropped, or the broker "
                        "that had it was lost",
                        (unsigned long long)value->integer);
            return false;
        }
        peach_value_destroy(value_p);
        if (!(*value_p = peach_value_alias(found))) die("out of memory");
        return true;
    }
    if (value->kind != PEACH_LIST && value->kind != PEACH_MAP) return true;
    bool all = true;
    for (size_t i = 0; i < value->sequence.count && all; i++)
        all = resolve(x, job, &value->sequence.values[i], failure);
    return all;
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
        if (!(args = calloc(count + 1, sizeof *args))) die("out of memory");
        for (size_t i = 0; i < count; i++) args[i] = peach_value_at(item, i);
    }
    uint64_t in_job = first_item + index;
    call_t call = {.args = args,
                   .arg_count = count,
                   .item = in_job,
                   .seeded = job->seeded,
                   .seed = job->seeded ? item_seed(job->seed, in_job) : 0,
                   .task = number,
                   .index = index};
    peach_value_t *value =
        function->runtime->call(function->runtime, function->handle, &call, scratch, failure);
    if (!value && failure->status == PEACH_E_RAISED && call_stopped(x->shared, &call)) {
        if (shared_stops_task(x->shared, number))
            failure->status = PEACH_E_CANCELLED;
        else
            failure_set(failure, PEACH_E_TIMEOUT, "the item ran longer than its limit of %g s",
                        atomic_load(&x->shared->limit_ms) / 1000.0);
    }
    if (args != one) free(args);
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
            close_segment(x);
            add_failure(x, number, i, first + count - i, &failure);
            failure_clear(&failure);
            return false;
        }
        peach_value_t argument, result, *item = &argument;
        if (!items_number(items, i, &argument) && !(item = items_take(items, i)))
            die("out of memory");
        peach_value_t *value = NULL;
        if (item == &argument || job->n_refs == 0 || resolve(x, job, &item, &failure))
            value =
                run_item(x, job, function, item, task->first_item, i, number, &result, &failure);
        if (item != &argument) peach_value_destroy(&item);
        x->now_ns = coarse_ns();
        if (value) {
            keep_value(x, i, value, value == &result);
        } else {
            close_segment(x);
            add_failure(x, number, i, 1, &failure);
            failure_clear(&failure);
        }
        /* Who may run once only is reported before the next one begins. */
        if ((job->retries == 0 && !x->pending.whole) || x->now_ns > x->flushed_ns + FLUSH_NS) {
            close_segment(x);
            flush_batch(x);
        }
    }
    return true;
}

/* The items of a task; large arrays lend from its payload. NULL with failure set. */
static peach_value_t *decode_items(wire_message_t *message, const Peach__Task *task,
                                   const Peach__Job *job, failure_t *failure)
{
    peach_value_t *items = NULL;
    payload_t *payload = wire_payload(message, task->payload);
    if (!payload) {
        failure_set(failure, PEACH_E_SYSTEM, "the items cannot be taken: %s", strerror(errno));
        return NULL;
    }
    int rc = job->codec != 0 ? PEACH_E_UNSUPPORTED : peach_value_unpack_lent(payload, &items);
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
static bool one_number(const Peach__Task *task, const Peach__Job *job, peach_value_t *items,
                       peach_value_t *number)
{
    static uint64_t one = 1;
    const ProtobufCBinaryData *bytes = &task->payload->inline_;
    if (task->items != 1 || job->codec != 0 || !items_get_number(bytes->data, bytes->len, number))
        return false;
    *items = (peach_value_t){.kind = PEACH_ARRAY};
    items->array.dtype = number->kind == PEACH_INT ? PEACH_DTYPE_INT64 : PEACH_DTYPE_FLOAT64;
    items->array.ndim = 1;
    items->array.shape = &one;
    items->array.data = &number->integer;
    items->array.size = sizeof number->integer;
    return true;
}

static void run_task(executor_t *x, wire_message_t *message, const Peach__Task *task,
                     const Peach__Job *job, const function_t *function)
{
    uint32_t number = (uint32_t)task->id;
    x->begun_ns = x->now_ns;
    atomic_store_explicit(&x->shared->began_ms, x->now_ns / 1000000, memory_order_relaxed);
    atomic_store_explicit(&x->shared->item, task->n_todo ? task->todo[0]->first : 0,
                          memory_order_relaxed);
    if (!shared_begin(x->shared, number)) return;
    if (x->begun_ns > x->flushed_ns + FLUSH_NS) flush_batch(x);
    failure_t failure = {0};
    x->pending.number = number;
    x->pending.whole = task->items == 1;
    peach_value_t scratch, bits, *items = NULL;
    if (!function)
        failure_set(&failure, PEACH_E_NO_FUNCTION, "%s is not loaded here", job->function);
    else if (one_number(task, job, &scratch, &bits))
        items = &scratch;
    else
        items = decode_items(message, task, job, &failure);
    Peach__Range all = PEACH__RANGE__INIT, *pointer = &all, **ranges = task->todo;
    all.count = task->items;
    size_t range_count = task->n_todo;
    if (range_count == 0) {
        ranges = &pointer;
        range_count = 1;
    }
    for (size_t i = 0; i < range_count; i++) {
        if (items)
            run_range(x, task, job, function, items, ranges[i]->first, ranges[i]->count);
        else
            add_failure(x, number, ranges[i]->first, ranges[i]->count, &failure);
    }
    Peach__Result end = PEACH__RESULT__INIT;
    end.id = number;
    end.ended = true;
    finish_segment(x, &end);
    if (job->retries == 0) flush_batch(x); /* before the next one begins */
    failure_clear(&failure);
    if (items != &scratch) peach_value_destroy(&items);
}

/* Tasks of one item, one after another. */
static void run_singles(executor_t *x, wire_message_t *message, const Peach__Singles *singles,
                        const Peach__Job *job)
{
    const function_t *function = find(x, job->function);
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
        run_task(x, message, &task, job, function);
    }
}

static void run_assign(executor_t *x, wire_message_t *message, const Peach__Assign *assign)
{
    x->now_ns = clock_ns();
    for (size_t i = 0; i < assign->n_tasks; i++) {
        const Peach__Job *job = assign->jobs[assign->tasks[i]->job];
        run_task(x, message, assign->tasks[i], job, find(x, job->function));
    }
    for (size_t i = 0; i < assign->n_singles; i++)
        run_singles(x, message, assign->singles[i], assign->jobs[assign->singles[i]->job]);
}

/* ---- templates ---- */

static void tell_runtimes(executor_t *x, fork_phase_t phase)
{
    if (x->python) x->python->forks(x->python, phase);
}

/* In a copy: its own channel and page, in the places of the template's. */
static void become_copy(executor_t *x, pid_t supervisor, const int theirs[2])
{
    /* Whatever kills the supervisor kills its executors; the process in between goes now. */
    while (getppid() != supervisor) usleep(100);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != supervisor) _exit(127);
    setpgid(0, 0);
    close(CONTROL_FD);
    channel_destroy(&x->channel);
    x->channel = dup2(theirs[0], CHANNEL_FD) < 0 ? NULL : channel_new(CHANNEL_FD);
    void *page = mmap(x->shared, sizeof *x->shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
                      theirs[1], 0);
    if (!x->channel || page == MAP_FAILED) die("out of memory");
    close(theirs[0]);
    close(theirs[1]);
    x->template = false;
    tell_runtimes(x, FORK_CHILD);
    seed_unlike_siblings();
    for (size_t i = 0; i < x->loaded_count; i++)
        if (channel_put_batch(x->channel, 0, &x->loaded[i]) != 0) die("out of memory");
    if (channel_flush(x->channel) != 0) exit(1);
}

/* Copies this process; true in the copy. The process in between makes the copy the
   supervisor's child. */
static bool copy_process(executor_t *x, pid_t supervisor, const int theirs[2])
{
    int told[2];
    pid_t copy = 0;
    if (pipe2(told, O_CLOEXEC) != 0) told[0] = told[1] = -1;
    tell_runtimes(x, FORK_BEFORE);
    pid_t between = told[0] < 0 ? -1 : fork();
    if (between == 0) {
        copy = fork();
        if (copy == 0) {
            close(told[0]);
            close(told[1]);
            become_copy(x, supervisor, theirs);
            return true;
        }
        _exit(write(told[1], &copy, sizeof copy) < 0);
    }
    tell_runtimes(x, FORK_PARENT);
    close(told[1]);
    if (between < 0 || read(told[0], &copy, sizeof copy) != sizeof copy) copy = 0;
    close(told[0]);
    while (between > 0 && waitpid(between, NULL, 0) < 0 && errno == EINTR) {
    }
    if (send(CONTROL_FD, &copy, sizeof copy, MSG_NOSIGNAL) < 0) exit(0);
    return false;
}

/* Serves requests for copies until there is a message; false in a copy. */
static bool wait_as_template(executor_t *x)
{
    while (!channel_ready(x->channel, 0)) {
        struct pollfd items[] = {{CHANNEL_FD, POLLIN, 0}, {CONTROL_FD, POLLIN, 0}};
        if (poll(items, 2, -1) < 0 || !items[1].revents) continue;
        pid_t supervisor;
        int theirs[2];
        union {
            char bytes[CMSG_SPACE(sizeof theirs)];
            struct cmsghdr aligned;
        } room;
        struct iovec part = {&supervisor, sizeof supervisor};
        struct msghdr message = {.msg_iov = &part,
                                 .msg_iovlen = 1,
                                 .msg_control = room.bytes,
                                 .msg_controllen = sizeof room.bytes};
        if (recvmsg(CONTROL_FD, &message, MSG_CMSG_CLOEXEC) != sizeof supervisor ||
            !CMSG_FIRSTHDR(&message))
            exit(0);
        memcpy(theirs, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof theirs);
        if (copy_process(x, supervisor, theirs)) return false;
        close(theirs[0]);
        close(theirs[1]);
    }
    return true;
}

/* ---- the loop ---- */

static void on_sigint(int signal) { (void)signal; }

static void serve(executor_t *x)
{
    for (;;) {
        if (x->template && !wait_as_template(x)) continue;
        /* Results are sent when there is nothing else to do, or often enough. */
        if (x->batch.elements > 0 && !channel_ready(x->channel, 0)) flush_batch(x);
        while ((x->sent_count > 0 || !block_pool_empty(x->pool)) &&
               !channel_ready(x->channel, TRIM_MS)) {
            release_sent(x);
            block_pool_trim(x->pool);
        }
        wire_message_t *message;
        int rc = channel_get(x->channel, &message);
        if (rc) exit(rc == PEACH_E_LOST ? 0 : 1);
        const Peach__Envelope *e = wire_envelope(message);
        if (e->body_case == PEACH__ENVELOPE__BODY_ASSIGN) {
            run_assign(x, message, e->assign);
        } else if (e->body_case == PEACH__ENVELOPE__BODY_PRELOAD) {
            flush_batch(x);
            atomic_store(&x->shared->preload, (uint32_t)e->preload->request + 1);
            for (size_t i = 0; i < e->preload->n_preloads; i++) load(x, e->preload->preloads[i]);
        } else if (e->body_case == PEACH__ENVELOPE__BODY_PUT) {
            take_blob(x, message, e->put);
        } else if (e->body_case == PEACH__ENVELOPE__BODY_DROP) {
            for (size_t i = 0; i < e->drop->n_numbers; i++)
                blob_destroy(idmap_remove(x->blobs, e->drop->numbers[i]));
        }
        wire_message_destroy(&message);
    }
}

int main(int argc, char **argv)
{
    executor_t x = {0};
    void *page = mmap(NULL, sizeof(shared_t), PROT_READ | PROT_WRITE, MAP_SHARED, SHARED_FD, 0);
    if (argc != 2 || page == MAP_FAILED)
        die("this program is started by peach-worker; see peach worker --help");
    close(SHARED_FD);
    x.shared = page;
    x.channel = channel_new(CHANNEL_FD);
    x.native = native_runtime_new(x.shared);
    static const table_seed_t no_seed; /* the supervisor's numbers are nobody's choice */
    x.pool = block_pool_new();
    x.blobs = idmap_new(&no_seed);
    x.batch.frames.shares = block_local();
    x.template = strcmp(argv[1], "template") == 0;
    if (!x.channel || !x.native || !x.pool || !x.blobs) die("out of memory");
    seed_unlike_siblings();
    struct sigaction action = {.sa_handler = on_sigint, .sa_flags = SA_RESTART};
    sigaction(SIGINT, &action, NULL);
    serve(&x);
}
