/* The executor's inside: executor.c (the loop and what it shares), loading.c (preloads and
   functions), running.c (tasks), results.c (on their way up), output.c (what is printed),
   template.c (copies).

   This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#ifndef PEACH_EXECUTOR_H
#define PEACH_EXECUTOR_H

#include "channel.h"
#include "idmap.h"
#include "items.h"
#include "runtime.h"
#include "value_tree.h"

#include <signal.h>

enum { FLUSH_NS = 10000000 }; /* results wait no longer */

typedef struct {
    char *name;
    runtime_t *runtime;
    void *handle;
    uint32_t request; /* the preload that defined it */
} function_t;

/* What a template's copy says of a preload. */
typedef struct {
    uint32_t request;
    wire_batch_t message; /* packed */
} loaded_t;

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
    uint32_t request;
    size_t loaded_from;
    uint64_t flushed_ns, begun_ns; /* of the batch; of the task */
    uint64_t now_ns;               /* the last reading of the clock */
    wire_batch_t batch;
    pending_t pending;
    idmap_t *blobs;     /* values that were put, by the supervisor's number */
    block_pool_t *pool; /* for large results; */
    payload_t **sent;   /* those that the supervisor has not opened yet, */
    size_t sent_count;
    uint32_t flushes, sent_flush;        /* messages sent; the last one that had some */
    uint64_t channel_inode, print_inode; /* of our descriptors, which a task may close */
    bool template;
    loaded_t *loaded; /* of a template: what its copies say of its preloads */
    size_t loaded_count;
} executor_t;

/* ---- executor.c ---- */

/* Nanoseconds of the monotonic clock. The coarse one costs a few of them: it is read for
   every item. */
uint64_t executor_clock(void);
uint64_t executor_coarse_clock(void);

void executor_seed(void); /* random numbers unlike its siblings' */
_Noreturn void executor_die(const char *why);

/* User code has returned: in a child that it forked, which is no executor, the process ends. */
extern volatile sig_atomic_t executor_forked;
void executor_end_fork(void);
static inline void executor_check_fork(void)
{
    if (executor_forked) executor_end_fork();
}
void executor_clear_fork(void); /* a template's copy is one */

/* Standard descriptors that a task closed are opened again; without its channel the executor
   ends. Called before something is written into that. */
void executor_check_descriptors(executor_t *x);

/* The descriptors are as they are to be. */
void executor_note_descriptors(executor_t *x);

/* ---- loading.c ---- */

/* The function of that name; NULL when it is not loaded. */
function_t *loading_find(const executor_t *x, const char *name);

/* The Python runtime, which is started with its first use. NULL with failure set. */
runtime_t *loading_python(executor_t *x, failure_t *failure);

/* Loads a preload, one of the message's, and tells the supervisor of it. */
void loading_load(executor_t *x, wire_message_t *message, uint32_t request,
                  const Peach__PreloadItem *item);

/* Only the functions of these preloads count, and of those of one name the last one's. */
void loading_order(executor_t *x, const uint64_t *requests, size_t count);

/* ---- running.c ---- */

void running_assign(executor_t *x, wire_message_t *message, const Peach__Assign *assign);

/* Values that were put, which items refer to. */
void running_put(executor_t *x, wire_message_t *message, const Peach__Put *put);
void running_drop(executor_t *x, const Peach__Drop *drop);

/* ---- results.c ---- */

/* A good result; taken unless it is lent: then it is a number. */
void results_keep(executor_t *x, uint32_t item, peach_value_t *value, bool lent);

/* Items of task number failed, or were cancelled. */
void results_fail(executor_t *x, uint32_t number, uint32_t item, uint32_t count,
                  const failure_t *failure);

/* Moves the pending successes into the batch as one segment; end, if it is not NULL,
   is the task's last result and carries them. */
void results_finish(executor_t *x, Peach__Result *end);

/* Sends the batch. */
void results_flush(executor_t *x);

/* Lets go of memory that the supervisor has opened meanwhile. */
void results_release(executor_t *x);

/* ---- output.c ---- */

/* What is printed from here on is that item's; and nobody's any more. */
void output_item(const executor_t *x, uint32_t number, uint32_t item);
void output_end(const executor_t *x);

/* ---- template.c ---- */

/* Makes copies of this process while nothing else is to be done; false in a copy. */
bool template_wait(executor_t *x);

#endif
