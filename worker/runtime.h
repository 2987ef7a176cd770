/* What an executor can run: native plugins and Python, behind one interface.

   The Python runtime is a module of its own (peach_python.so) that is loaded with
   the first Python preload, so that a fleet of plugins never loads libpython.

   This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#ifndef PEACH_RUNTIME_H
#define PEACH_RUNTIME_H

#include "shared.h"
#include "wire.h"
#include <peach/value.h>

typedef struct runtime runtime_t;

/* Why a preload or an item failed; the strings are the owner's to free. */
typedef struct {
    int status;
    char *type, *message, *traceback; /* may be NULL */
    void *exception;                  /* its pickle; may be NULL */
    size_t exception_size;
} failure_t;

PEACH_EXPORT void failure_clear(failure_t *self);

/* Sets status and message (printf). */
PEACH_EXPORT void failure_set(failure_t *self, int status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* One item that is to be run. */
typedef struct {
    const peach_value_t *const *args; /* lent */
    size_t arg_count;
    bool keywords;        /* the last argument is a map of keyword arguments */
    bool pickles;         /* the result, or its exception, may be a pickle */
    const char *function; /* its name; lent */
    uint32_t depth;       /* of its job */
    uint64_t item;        /* in its job */
    bool seeded;
    uint64_t seed;  /* of this item */
    uint32_t task;  /* its number at this executor, */
    uint32_t index; /* and the item's in it */
} call_t;

/* Told of each function that a preload defines; handle is the runtime's. */
typedef void (*define_fn)(void *executor, const char *name, void *handle);

typedef enum { FORK_BEFORE, FORK_PARENT, FORK_CHILD } fork_phase_t;

struct runtime {
    /* Loads a preload and defines its functions. source: what is in a Python file, which
       may be another by now. *files_p, if it is set, are the files that Python imported
       for it, in lines, to be freed. 0 or a negative status. */
    int (*load)(runtime_t *self, const Peach__PreloadItem *item, ProtobufCBinaryData source,
                define_fn define, void *executor, char **files_p, failure_t *failure);
    /* The function that a value is: a pickle or source text; forget ends its use. NULL with
       failure set. Both are NULL in a runtime that has no such functions. */
    void *(*define)(runtime_t *self, const peach_value_t *code, bool pickles, failure_t *failure);
    void (*forget)(runtime_t *self, void *handle);
    /* Runs a function. The result is the caller's; a number may be put into scratch, which
       is the result then. NULL with failure set. */
    peach_value_t *(*call)(runtime_t *self, void *handle, const call_t *call,
                           peach_value_t *scratch, failure_t *failure);
    /* This process is copied: told before, and after in the one and in the other. NULL:
       nothing needs to be done. */
    void (*forks)(runtime_t *self, fork_phase_t phase);
    void (*destroy)(runtime_t **self_p);
};

runtime_t *native_runtime_new(const shared_t *shared);

/* Exported by peach_python.so. */
runtime_t *peach_python_runtime_new(shared_t *shared, failure_t *failure);

/* Whether the call is to be interrupted. */
static inline bool call_stopped(const shared_t *shared, const call_t *call)
{
    return shared_stops(shared, call->task, call->index);
}

#endif
