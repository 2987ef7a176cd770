/* The scheduler core: who runs what, and when.

   It is pure. Events come in as calls, orders go out through sched_ops_t; it has
   no socket, no clock (every event brings the time) and no randomness but the
   seed of its tables, so the same events give the same orders. The shell around
   it (broker.c) owns sockets and time; a simulation can own them instead.

   The words: a client submits tasks of a job. A task is one or more items of one
   function. A worker holds leases: each is a part of a task, the items that this
   worker is to run. A part is split only when one of its items killed its
   executor. A lane is all the work for one function and one set of required
   labels; the part of a lane that belongs to one client is a flow.

   Cost: an event is O(1) in tasks and workers, O(log n) in the clients that
   compete for a lane, and linear in the lanes that a worker serves.

   Orders must not call back into the core.

   This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#ifndef PEACH_SCHED_H
#define PEACH_SCHED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ranges.h"
#include "table.h"
#include <peach/status.h>

typedef struct sched sched_t;
typedef struct sched_worker sched_worker_t;
typedef struct sched_client sched_client_t;

typedef struct {
    const char *key, *value;
} sched_label_t;

/* What the client says of a job; the strings are copied. */
typedef struct {
    uint64_t id;
    const char *function;
    const sched_label_t *require;
    size_t require_count;
    uint32_t priority;    /* 0 to 7, 7 first */
    uint32_t retries;     /* per item, after its executor or worker was lost */
    bool retry_errors;    /* and after it raised */
    uint32_t weight;      /* the client's share against others while this runs; 0: 1 */
    uint64_t deadline_ms; /* from now: what is unfinished then fails; 0: never */
    uint64_t queue_ms;    /* a task that was not begun after this time fails; 0: never */
    uint32_t depth;       /* how deep it is nested: the deepest go first */
} sched_job_spec_t;

/* The function of all jobs that bring theirs: workers that take them have it. Nobody can
   name one of his own like this. */
#define SCHED_BY_VALUE "a Python function by value"

/* A task as its client submitted it. */
typedef struct {
    uint64_t number; /* unique in the client's session */
    uint64_t first_item;
    uint32_t items;
    const range_t *todo; /* those that are to run, ascending; none means all */
    size_t todo_count;
    size_t bytes;  /* that the payload takes */
    void *payload; /* the shell's; given back through ops.release_payload */
} sched_task_spec_t;

/* Many tasks of one item each, of one job. */
typedef struct {
    size_t count;
    const uint64_t *numbers, *items;
    const uint32_t *sizes; /* of the payloads, which are one behind the other in payload */
    void *payload;
} sched_run_spec_t;

/* A lost attempt to run an item. */
typedef struct {
    const char *host; /* lent */
    uint32_t pid;     /* of the executor; 0 when it is not known */
    const char *cause;
} sched_attempt_t;

/* Whose a task is. */
typedef struct {
    void *client, *job; /* the shell's, from sched_client_add and sched_job */
    uint64_t number;    /* of the task, in its client's session */
} sched_owner_t;

/* An order to run items. Everything is lent for the call. */
typedef struct {
    uint64_t lease;
    void *job;       /* the shell's, from sched_job */
    uint64_t number; /* of the task */
    uint64_t first_item;
    uint32_t items;
    void *payload;
    const range_t *todo; /* the items of the task that are to run */
    size_t todo_count;
} sched_order_t;

typedef struct {
    void (*assign)(void *shell, void *worker, const sched_order_t *order);
    /* The lease is not wanted any more; the worker still reports its end. */
    void (*cancel)(void *shell, void *worker, uint64_t lease);
    /* The lease is to end after the item that runs; what is left is queued again. */
    void (*give_back)(void *shell, void *worker, uint64_t lease);
    /* Items of a client's task end without a result. */
    void (*fail)(void *shell, const sched_owner_t *owner, uint32_t first, uint32_t count,
                 int status, const char *message, const sched_attempt_t *attempts,
                 size_t attempt_count);
    /* A draining worker has nothing left. */
    void (*drained)(void *shell, void *worker);
    /* A payload of its own for a part of one; NULL when memory is out. */
    void *(*slice)(void *shell, void *payload, size_t offset, size_t size);
    void (*release_payload)(void *shell, void *payload);
    void (*release_job)(void *shell, void *job);
    /* No worker has the function: appends to text what its client may have meant. */
    void (*suggest)(void *shell, const char *function, char *text, size_t size);
} sched_ops_t;

typedef struct {
    uint32_t window_tasks; /* unfinished tasks a client may have */
    uint64_t window_bytes; /* and the bytes of their payloads, one task apart */
    uint64_t settle_ms;    /* how long a function may be unknown before its tasks fail */
    uint64_t absence_ms;   /* the same for one that workers had and that is gone */
    uint64_t loading_ms;   /* and how long, at most, while workers that may have it load */
    uint64_t prefetch_ns;  /* expected work a slot may hold ahead */
    uint64_t first_lease;  /* leases are numbered from here; random, so that no broker
                              takes a predecessor's for its own */
    table_seed_t seed;
} sched_config_t;

/* The values that sched_new uses where config has 0. */
extern const sched_config_t sched_defaults;

/* NULL when memory is out. shell is handed to every order. */
sched_t *sched_new(const sched_config_t *config, const sched_ops_t *ops, void *shell);

/* Releases all payloads and jobs; gives no other order. */
void sched_destroy(sched_t **self_p);

/* Time passes: tasks whose function nobody has fail, held ones are looked at
   again. Call it every 100 ms or so. Milliseconds of any monotonic clock. */
void sched_tick(sched_t *self, uint64_t now_ms);

/* ---- workers ---- */

typedef struct {
    uint32_t slots, window; /* window: leases at a time, at least slots */
    uint64_t window_bytes;  /* payloads that it takes ahead of what runs; 0: no limit */
    const char *host;
    const sched_label_t *labels;
    size_t label_count;
    const char *const *functions;
    size_t function_count;
    bool loading; /* preloads are under way: what it lacks now it may have soon */
} sched_worker_spec_t;

/* A worker joins; user is what orders name it by. All strings are copied. NULL
   when memory is out. */
sched_worker_t *sched_worker_add(sched_t *self, const sched_worker_spec_t *spec, void *user);

/* The worker's slots, functions or loading changed. 0 or PEACH_E_MEMORY (then
   nothing changed). */
int sched_worker_update(sched_t *self, sched_worker_t *worker, const sched_worker_spec_t *spec);

void sched_worker_loading(sched_t *self, sched_worker_t *worker, bool loading);

/* Its connection was lost (false) or is back (true): its leases stay, it gets no
   new ones meanwhile. */
void sched_worker_connected(sched_t *self, sched_worker_t *worker, bool connected);

/* It is back, what it had to report has been reported, and it holds these leases (the
   array is sorted in place). The others that it had never came to it: queued again,
   uncharged. Those that are not its any more, or whose job is over, are cancelled. */
void sched_worker_reconcile(sched_t *self, sched_worker_t *worker, uint64_t *held, size_t count);

/* It gets no new leases; ops.drained follows when it has none left. */
void sched_worker_drain(sched_t *self, sched_worker_t *worker);

/* It is gone, its leases with it: their items are queued again. The oldest leases, one
   a slot, were running. A lease of one item is charged with the attempt. Which item of
   several ran is not known: they are given out in pieces from then on, 64 of them and
   none ahead of what runs, uncharged; so a few losses find the item that caused them,
   and no other is charged. Frees worker. */
void sched_worker_remove(sched_t *self, sched_worker_t *worker, const char *cause);

/* It leaves and has said all: what it did not report it did not begin, and is queued
   again, uncharged. Frees worker. */
void sched_worker_leave(sched_t *self, sched_worker_t *worker);

uint32_t sched_worker_leases(const sched_worker_t *worker);
bool sched_worker_draining(const sched_worker_t *worker);

/* ---- clients ---- */

/* NULL when memory is out. */
sched_client_t *sched_client_add(sched_t *self, void *user);

/* It is gone: what it had queued is dropped, what runs is cancelled. Frees client. */
void sched_client_remove(sched_t *self, sched_client_t *client);

/* Holds its tasks back (true) while it does not read its results; what runs is given
   back after the item that runs. */
void sched_client_hold(sched_t *self, sched_client_t *client, bool hold);

/* Finds the client's job of that id, or makes it. *job_p gets the slot for the
   shell's own pointer (NULL in a new one; given back through ops.release_job).
   0 or PEACH_E_MEMORY. */
int sched_job(sched_t *self, sched_client_t *client, const sched_job_spec_t *spec, void ***job_p);

/* Queues a task of the client's job of that id. Takes the payload, also when it
   fails. A number that the client has unfinished is a duplicate and is ignored.
   0, PEACH_E_LIMIT when it is outside the client's window, PEACH_E_ARGUMENT when
   there is no such job or todo is not ascending, PEACH_E_MEMORY. */
int sched_submit(sched_t *self, sched_client_t *client, uint64_t job,
                 const sched_task_spec_t *spec);

/* Whether these tasks can be submitted as a run: they are many, their numbers ascend and
   are larger than all before, and their job is there and waits for no clock. */
bool sched_run_suits(const sched_client_t *client, uint64_t job, const uint64_t *numbers,
                     size_t count);

/* Queues them: the same as one by one, with less time and a tenth of the memory. Takes the
   payload, also when it fails. 0, PEACH_E_LIMIT when not all are inside the client's
   window, PEACH_E_MEMORY. */
int sched_submit_run(sched_t *self, sched_client_t *client, uint64_t job,
                     const sched_run_spec_t *spec);

/* Cancels the job: queued items fail with PEACH_E_CANCELLED at once, running
   ones are cancelled at their workers. */
void sched_cancel(sched_t *self, sched_client_t *client, uint64_t job);

void sched_client_counts(const sched_client_t *client, uint64_t *queued, uint64_t *running);

/* The same of the client's job of that id; both are 0 when it has no tasks. */
void sched_job_counts(const sched_client_t *client, uint64_t job, uint64_t *queued,
                      uint64_t *running);

/* ---- what workers report. A lease that the worker does not hold, or items that
   are not its, are answered with false and change nothing ---- */

/* Items of a lease ended, with a result (status 0) or an error of their own. true when
   they go to *owner; false when there is nobody to have them. */
bool sched_items_done(sched_t *self, sched_worker_t *worker, uint64_t lease, uint32_t first,
                      uint32_t count, int status, sched_owner_t *owner);

/* Whose the lease is; false when nobody waits for it. */
bool sched_lease_owner(sched_t *self, const sched_worker_t *worker, uint64_t lease,
                       sched_owner_t *owner);

/* The function raised on one item. true when the job wants that to be retried and the
   item has attempts left: it runs again, and the error is forgotten. false: go on with
   sched_items_done. */
bool sched_item_raised(sched_t *self, sched_worker_t *worker, uint64_t lease, uint32_t item,
                       const sched_attempt_t *attempt);

/* The executor died on one item. It runs again, elsewhere if possible, while it
   has attempts left; otherwise ops.fail ends it with the list of its attempts. */
bool sched_item_lost(sched_t *self, sched_worker_t *worker, uint64_t lease, uint32_t item,
                     const sched_attempt_t *attempt);

/* The lease is over. Items of it that were not reported are queued again at the
   front, uncharged. A worker on which eight leases in a row ended with errors only,
   while other workers did the same work without, rests for a time that doubles. elapsed_ns: the
   time its reported items took to run. */
bool sched_lease_end(sched_t *self, sched_worker_t *worker, uint64_t lease, uint64_t elapsed_ns);

/* ---- the view ---- */

typedef struct {
    uint64_t queued_tasks, leases;
    uint64_t done_items, failed_items, retried_items;
    uint64_t payload_bytes;
    uint32_t slots; /* of all connected workers that are not draining */
} sched_counts_t;

void sched_counts(const sched_t *self, sched_counts_t *counts);

/* Walks every structure and returns NULL, or what is wrong (static storage). For
   tests and the simulation; linear in everything. */
const char *sched_verify(const sched_t *self);

#endif
