/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "runtime.h"

#include <peach/plugin.h>

#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

typedef struct {
    runtime_t base;
    const shared_t *shared;
} native_t;

/* What a plugin gets while it registers its functions. */
struct peach_plugin {
    define_fn define;
    void *executor;
    const char *stem; /* mathx of mathx.so */
};

struct peach_call {
    const call_t *call;
    const shared_t *shared;
    failure_t *failure;
};

void failure_set(failure_t *self, int status, const char *format, ...)
{
    failure_clear(self);
    self->status = status;
    va_list args;
    va_start(args, format);
    if (vasprintf(&self->message, format, args) < 0) self->message = NULL;
    va_end(args);
}

void failure_clear(failure_t *self)
{
    free(self->type);
    free(self->message);
    free(self->traceback);
    free(self->exception);
    *self = (failure_t){0};
}

/* ---- plugin.h ---- */

int peach_plugin_function(peach_plugin_t *plugin, const char *name, peach_function_t function)
{
    char qualified[2 * WIRE_MAX_NAME + 2];
    if (!name || !*name || strlen(name) > WIRE_MAX_NAME || !function) return PEACH_E_ARGUMENT;
    void *handle;
    memcpy(&handle, &function, sizeof handle); /* ISO C has no cast for this */
    plugin->define(plugin->executor, name, handle);
    snprintf(qualified, sizeof qualified, "%s.%s", plugin->stem, name);
    if (strlen(qualified) <= WIRE_MAX_NAME) plugin->define(plugin->executor, qualified, handle);
    return 0;
}

peach_value_t *peach_call_fail(peach_call_t *call, const char *format, ...)
{
    failure_clear(call->failure);
    call->failure->status = PEACH_E_RAISED;
    va_list args;
    va_start(args, format);
    if (vasprintf(&call->failure->message, format, args) < 0) call->failure->message = NULL;
    va_end(args);
    return NULL;
}

bool peach_call_cancelled(const peach_call_t *call)
{
    return call_stopped(call->shared, call->call);
}

uint64_t peach_call_item(const peach_call_t *call) { return call->call->item; }

uint64_t peach_call_seed(const peach_call_t *call)
{
    uint64_t seed = call->call->seed;
    if (!call->call->seeded && getrandom(&seed, sizeof seed, 0) != sizeof seed)
        seed = (uint64_t)(uintptr_t)call ^ call->call->item;
    return seed;
}

/* ---- the runtime ---- */

static int native_load(runtime_t *base, const Peach__PreloadItem *item, ProtobufCBinaryData source,
                       define_fn define, void *executor, char **files_p, failure_t *failure)
{
    (void)base, (void)source, (void)files_p;
    void *library = dlopen(item->path, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        failure_set(failure, PEACH_E_PRELOAD, "%s", dlerror());
        return PEACH_E_PRELOAD;
    }
    int (*init)(peach_plugin_t *);
    void *symbol = dlsym(library, "peach_plugin_init");
    if (!symbol) {
        failure_set(failure, PEACH_E_PRELOAD,
                    "%s exports no peach_plugin_init (see peach/plugin.h)", item->name);
        return PEACH_E_PRELOAD; /* it stays loaded: its threads may run */
    }
    memcpy(&init, &symbol, sizeof init);
    char stem[WIRE_MAX_NAME + 1];
    snprintf(stem, sizeof stem, "%s", item->name);
    char *dot = strrchr(stem, '.');
    if (dot) *dot = 0;
    peach_plugin_t plugin = {define, executor, stem};
    int rc = init(&plugin);
    if (rc) failure_set(failure, PEACH_E_PRELOAD, "peach_plugin_init returned %d", rc);
    return rc ? PEACH_E_PRELOAD : 0;
}

static peach_value_t *native_call(runtime_t *base, void *handle, const call_t *call,
                                  peach_value_t *scratch, failure_t *failure)
{
    (void)scratch;
    native_t *self = (native_t *)base;
    peach_function_t function;
    memcpy(&function, &handle, sizeof function);
    peach_call_t frame = {call, self->shared, failure};
    size_t count = call->arg_count - (size_t)call->keywords;
    if (call->keywords && peach_value_length(call->args[count]) > 0)
        return peach_call_fail(&frame, "a native function takes no keyword arguments");
    if (call->seeded) srand((unsigned)call->seed);
    peach_value_t *result = function(&frame, call->args, count);
    if (!result && !failure->status)
        failure_set(failure, PEACH_E_RAISED, "the function returned no value and no error");
    return result;
}

static void native_destroy(runtime_t **self_p)
{
    free(*self_p);
    *self_p = NULL;
}

runtime_t *native_runtime_new(const shared_t *shared)
{
    native_t *self = calloc(1, sizeof *self);
    if (!self) return NULL;
    self->base = (runtime_t){.load = native_load, .call = native_call, .destroy = native_destroy};
    self->shared = shared;
    return &self->base;
}
