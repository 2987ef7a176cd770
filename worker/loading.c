/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */

#include "executor.h"

#include "preload.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- functions ---- */

function_t *loading_find(const executor_t *x, const char *name)
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
    if (!grown || !copy) executor_die("out of memory");
    x->functions = grown;
    x->functions[x->function_count++] = (function_t){copy, x->loading, handle, x->request};
}

/* Moves the functions of that preload to the end of kept; their number. */
static size_t keep_functions(executor_t *x, uint32_t request, function_t *kept)
{
    size_t count = 0;
    for (size_t i = 0; i < x->function_count; i++) {
        if (!x->functions[i].name || x->functions[i].request != request) continue;
        kept[count++] = x->functions[i];
        x->functions[i].name = NULL;
    }
    return count;
}

/* A copy of this template is not to speak of preloads that do not count any more. */
static void keep_loaded(executor_t *x, const uint64_t *requests, size_t count)
{
    size_t kept = 0;
    for (size_t i = 0; i < x->loaded_count; i++) {
        bool counts = false;
        for (size_t k = 0; k < count; k++) counts |= x->loaded[i].request == requests[k];
        if (counts)
            x->loaded[kept++] = x->loaded[i];
        else
            wire_batch_free(&x->loaded[i].message);
    }
    x->loaded_count = kept;
}

void loading_order(executor_t *x, const uint64_t *requests, size_t count)
{
    function_t *kept = calloc(x->function_count + 1, sizeof *kept);
    size_t used = 0;
    if (!kept) executor_die("out of memory");
    for (size_t i = 0; i < count; i++)
        used += keep_functions(x, (uint32_t)requests[i], kept + used);
    for (size_t i = 0; i < x->function_count; i++) free(x->functions[i].name);
    free(x->functions);
    x->functions = kept;
    x->function_count = used;
    keep_loaded(x, requests, count);
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

runtime_t *loading_python(executor_t *x, failure_t *failure)
{
    if (x->python) return x->python;
    void *module = open_python_module(failure);
    if (!module) return NULL;
    runtime_t *(*make)(const shared_t *, failure_t *);
    void *symbol = dlsym(module, "peach_python_runtime_new");
    if (!symbol) executor_die("peach_python.so is of another version");
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
    loaded_t *grown = realloc(x->loaded, (x->loaded_count + 1) * sizeof *grown);
    size_t size = peach__envelope__get_packed_size(envelope);
    if (!grown) executor_die("out of memory");
    x->loaded = grown;
    x->loaded[x->loaded_count].request = x->request;
    wire_batch_t *copy = &x->loaded[x->loaded_count++].message;
    *copy = (wire_batch_t){.bytes = malloc(size + 1), .size = size, .capacity = size + 1};
    if (!copy->bytes) executor_die("out of memory");
    peach__envelope__pack(envelope, copy->bytes);
}

/* Says what the preload has from files that Python imported, and what is in them. */
static void report_files(Peach__PreloadReport *report, const char *files, uint8_t *digest)
{
    if (!files || !*files || strlen(files) > WIRE_MAX_TEXT) return;
    preload_digest_files(files, digest);
    report->files = (char *)files;
    report->files_digest = (ProtobufCBinaryData){WIRE_DIGEST_BYTES, digest};
}

static void report_preload(executor_t *x, const Peach__PreloadItem *item, const char *files,
                           const failure_t *failure)
{
    uint8_t digest[WIRE_DIGEST_BYTES];
    Peach__Envelope envelope = PEACH__ENVELOPE__INIT;
    Peach__Registration registration = PEACH__REGISTRATION__INIT;
    Peach__PreloadReport report = PEACH__PRELOAD_REPORT__INIT, *reports = &report;
    size_t count = x->function_count - x->loaded_from;
    Peach__Function *functions = calloc(count + 1, sizeof *functions);
    Peach__Function **pointers = calloc(count + 1, sizeof *pointers);
    char *error = NULL;
    if (!functions || !pointers) executor_die("out of memory");
    for (size_t i = 0; i < count; i++) {
        peach__function__init(&functions[i]);
        functions[i].name = x->functions[x->loaded_from + i].name;
        pointers[i] = &functions[i];
    }
    report.name = item->name;
    report.digest = item->digest;
    report.request = x->request;
    report_files(&report, files, digest);
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

void loading_load(executor_t *x, wire_message_t *message, uint32_t request,
                  const Peach__PreloadItem *item)
{
    failure_t failure = {0};
    char *files = NULL;
    x->request = request;
    payload_t *source = wire_payload(message, item->source);
    bool plugin = item->kind == PEACH__PRELOAD_KIND__PRELOAD_PLUGIN;
    x->loaded_from = x->function_count;
    x->loading = plugin ? x->native : loading_python(x, &failure);
    if (!source)
        failure_set(&failure, PEACH_E_SYSTEM, "its source cannot be had: %s", strerror(errno));
    else if (x->loading)
        x->loading->load(
            x->loading, item,
            (ProtobufCBinaryData){payload_size(source), (uint8_t *)payload_bytes(source)}, define,
            x, &files, &failure);
    executor_check_fork();
    report_preload(x, item, files, &failure);
    free(files);
    payload_unref(&source);
    failure_clear(&failure);
}
