/* libpeach: a function, a list, every worker of a fleet; results in order.

       peach_t *p = peach_connect(NULL, 3000, NULL);
       peach_value_t *items = peach_value_range(0, 9);
       peach_job_t *job = peach_map(p, "fnc", &items, NULL);
       peach_result_t r;
       while (peach_job_next(job, &r, -1) == 0) {
           if (r.value) ...  else ... r.failure->message ...
           peach_result_clear(&r);
       }
       peach_job_destroy(&job);
       peach_close(&p);

   Threads: a peach_t and its jobs belong to one thread at a time; a program with
   several threads opens one peach_t in each, or locks. The library has no threads
   of its own except ZeroMQ's I/O thread (and a short one that looks a host's name up), no
   signal handlers and no global state.

   Nothing is sent or received but inside these functions: a program that does
   other work between two calls loses no result, but feeds its job no further.

   The broker may go away and come back, or another one of the list may take its
   place: what is unfinished is submitted again, every item ends exactly once here.

   Times are in milliseconds; a negative timeout waits for ever, 0 does not wait.

   This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#ifndef PEACH_PEACH_H
#define PEACH_PEACH_H

#include <peach/status.h>
#include <peach/value.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct peach peach_t;
typedef struct peach_job peach_job_t;

/* ---- connecting ---- */

typedef struct {
    int status;         /* a peach_status */
    char message[1024]; /* a sentence for the user */
} peach_error_t;

typedef struct {
    const char *endpoints; /* "tcp://a:5001,tcp://b:5001", or shorter "a:5001,b"; NULL: */
                           /* $PEACH_BROKER, or tcp://127.0.0.1:5001 */
    int timeout_ms;        /* until one has to answer */
    int patience_ms;       /* see peach_set_patience; 0: its default */
    bool insecure;         /* allow addresses other than loopback, although nothing is encrypted */
                           /* or authenticated; so does PEACH_INSECURE=1 in the environment */
} peach_connect_options_t;

/* Connects to the first broker of the list that answers. NULL when none does in time
   (PEACH_E_NO_BROKER), the list is wrong (PEACH_E_ARGUMENT), or an address is not loopback
   (PEACH_E_REFUSED); error (may be NULL) says why. Hosts that are names are looked up in a
   thread, which ends with the answer. */
PEACH_EXPORT peach_t *peach_connect_with(const peach_connect_options_t *options,
                                         peach_error_t *error);

/* The same with a list and a timeout. */
PEACH_EXPORT peach_t *peach_connect(const char *endpoints, int timeout_ms, peach_error_t *error);

/* Says goodbye and frees; unfinished work is cancelled. Destroy the jobs first. */
PEACH_EXPORT void peach_close(peach_t **self_p);

/* The last failure of a call on this handle or its jobs: what, where and what to do.
   Lent until the next call. */
PEACH_EXPORT const char *peach_error(const peach_t *self);

/* And its status, for calls that return a pointer; PEACH_OK when none has failed. */
PEACH_EXPORT int peach_error_status(const peach_t *self);

/* How long calls go on without a broker before they give up with PEACH_E_NO_BROKER
   (default 30000; negative: for ever). The work is not lost: call again. */
PEACH_EXPORT void peach_set_patience(peach_t *self, int patience_ms);

/* For event loops: a descriptor that is readable while peach_poll has something to do;
   it is the same for the life of the handle, over whatever connections, and belongs to
   the handle. Call peach_poll(self, 0) when it is, once after each other call, and at
   least once a second. */
PEACH_EXPORT int peach_fd(peach_t *self);

/* Sends and receives what there is, waiting up to timeout_ms for something. 0, or
   PEACH_E_NO_BROKER, PEACH_E_SYSTEM. */
PEACH_EXPORT int peach_poll(peach_t *self, int timeout_ms);

/* ---- results ---- */

typedef struct {
    const char *host;
    uint32_t pid; /* of the executor; 0 when it is not known */
    const char *cause;
} peach_attempt_t;

/* Why an item has no value. Strings are never NULL, empty where there is nothing. */
typedef struct {
    int status;       /* PEACH_E_RAISED, PEACH_E_DIED, PEACH_E_NO_FUNCTION, ... */
    const char *type; /* the exception's type */
    const char *message;
    const char *traceback; /* remote */
    const char *host;
    uint32_t pid;         /* of the executor; 0 when it ran nowhere */
    size_t attempt_count; /* lost attempts, oldest first */
    const peach_attempt_t *attempts;
    const void *exception; /* its pickle (options.pickles); NULL when there is none */
    size_t exception_size;
} peach_failure_t;

typedef struct {
    uint64_t item;                  /* its number in the job, from 0 */
    peach_value_t *value;           /* the caller's; NULL when it failed */
    const peach_failure_t *failure; /* NULL when it did not; lives until clear */
} peach_result_t;

/* Frees what a result holds; take value before by setting it to NULL. */
PEACH_EXPORT void peach_result_clear(peach_result_t *result);

/* ---- jobs ---- */

typedef struct {
    uint64_t items;   /* that are known of; of a generator, so far */
    bool items_final; /* no more will be known of */
    uint64_t done;    /* that ended with a value */
    uint64_t failed;  /* and with a failure */
    uint32_t slots;   /* slots in the fleet; 0: nobody is there to run it */
} peach_progress_t;

/* A line that a task printed (to standard output or error). Lent for the call. */
typedef struct {
    uint64_t item; /* its number in the job */
    const char *host;
    uint32_t pid, slot;
    const char *text;
    bool notice; /* the executor says it, about the job */
} peach_line_t;

typedef struct {
    bool spread;                /* an item is a list of arguments, not the one argument */
    bool unordered;             /* give results as they finish */
    uint32_t chunk;             /* items a task; 0: chosen by their time */
    uint32_t priority;          /* among this client's jobs: 0 to 7, 7 goes first */
    int retries;                /* of an item whose executor or worker was lost; 0: at most once */
    bool retry_errors;          /* of an item that raised, too */
    unsigned item_timeout_ms;   /* how long an item may run: then it is interrupted, and its */
                                /* executor killed if it does not stop; 0: no limit */
    unsigned queue_timeout_ms;  /* how long a task may wait for a worker; 0: for ever */
    uint64_t deadline_ms;       /* from now: items unfinished then fail; 0: none. All three */
                                /* end items with PEACH_E_TIMEOUT, and are not retried */
    unsigned weight;            /* share of the fleet against other clients, 1 to 1000; 0: 1 */
    bool seeded;                /* give each item a random state of its own, the same for the */
    uint64_t seed;              /* same seed whatever runs it */
    const char *const *require; /* labels a worker must have, KEY=VALUE, lent for the call */
    size_t require_count;
    /* The function itself, which was put (peach_put): Python source as a string, or a pickle.
       The name is for messages then. Lent for the call, and the value may be dropped once the
       job has ended. NULL: the function goes by its name. */
    const peach_value_t *code;
    bool keywords;       /* with spread: the last argument is a map of keyword arguments */
    unsigned depth;      /* for jobs of a task: one more than its own job has, at most 16: the */
                         /* deepest run first, so that none waits for what cannot run */
    bool pickles;        /* results may be PEACH_PICKLE, for callers that are Python */
    size_t buffer_bytes; /* results held for a reader that is slow; 0: 64 MiB */
    /* Called from inside the library's calls when the numbers changed, at most every
       100 ms and at the end. */
    void (*progress)(void *arg, const peach_progress_t *progress);
    void *progress_arg;
    /* Called in the same way with what the tasks print, before the results of the items; at
       most 1 MiB an item. NULL: it goes to the workers' standard error. */
    void (*log)(void *arg, const peach_line_t *line);
    void *log_arg;
    bool notices_only; /* log is for notices: what the tasks print goes where it went */
} peach_job_options_t;

/* retries 2, all else 0. */
PEACH_EXPORT extern const peach_job_options_t peach_job_defaults;

/* Runs function over the items: a list, or an array (its elements along the first
   dimension). Takes *items_p, also when it fails. options may be NULL. NULL with
   peach_error set: PEACH_E_ARGUMENT, PEACH_E_MEMORY. Nothing waits here. */
PEACH_EXPORT peach_job_t *peach_map(peach_t *self, const char *function, peach_value_t **items_p,
                                    const peach_job_options_t *options);

/* The same over items that are made when they are wanted: next returns the next
   item, which is taken; or NULL at the end (*status 0); when it has none now
   (PEACH_E_TIMEOUT: it is asked again in the next call of the library, at least every
   200 ms while one waits); or to stop with an error (another negative status: what was
   submitted still ends, then peach_job_next returns that status). It must not wait: while it
   does nothing is sent or received. Memory does not grow with the number of items. */
typedef peach_value_t *(*peach_items_fn)(void *arg, int *status);
PEACH_EXPORT peach_job_t *peach_map_from(peach_t *self, const char *function, peach_items_fn next,
                                         void *arg, const peach_job_options_t *options);

/* The same over items that come one by one, while the job runs: give them to
   peach_job_add, and end with peach_job_finish. What has been added is submitted by the
   library's calls (peach_poll, peach_job_next) in chunks as large as its time allows. */
PEACH_EXPORT peach_job_t *peach_map_open(peach_t *self, const char *function,
                                         const peach_job_options_t *options);
/* Takes *item_p, also when it fails: PEACH_E_CANCELLED when the job takes no more,
   PEACH_E_ARGUMENT when it refers to a value (peach_put) that no item referred to before
   the first ones were submitted, PEACH_E_MEMORY. Items are numbered from 0. */
PEACH_EXPORT int peach_job_add(peach_job_t *job, peach_value_t **item_p);
PEACH_EXPORT void peach_job_finish(peach_job_t *job);

/* Submits one call with a list of arguments; its one result is item 0. Takes
 *args_p. options->spread is set. */
PEACH_EXPORT peach_job_t *peach_submit(peach_t *self, const char *function, peach_value_t **args_p,
                                       const peach_job_options_t *options);

/* The next result, in the order of the items or, with unordered, as they finish. 0;
   PEACH_END after the last; PEACH_E_TIMEOUT; PEACH_E_NO_BROKER; PEACH_E_LIMIT when an
   item is larger than the broker takes (the others still end). */
PEACH_EXPORT int peach_job_next(peach_job_t *job, peach_result_t *result, int timeout_ms);

/* Waits for the end and gives all results (that were not read yet) as one value, in the
   order of the items: an array of int64 when all are ints, of float64 when all are doubles
   (one dimension, an element an item), otherwise a list. Much faster than reading them one
   by one. 0 with *values_p the caller's; the status of an item that failed, and peach_error
   has its number and message; PEACH_E_TIMEOUT (and what came is gone), PEACH_E_NO_BROKER,
   PEACH_E_MEMORY. timeout_ms is for all of it. */
PEACH_EXPORT int peach_job_collect(peach_job_t *job, peach_value_t **values_p, int timeout_ms);

/* Waits until every item has ended, keeping all results. 0, PEACH_E_TIMEOUT,
   PEACH_E_NO_BROKER. */
PEACH_EXPORT int peach_job_wait(peach_job_t *job, int timeout_ms);

PEACH_EXPORT void peach_job_progress(const peach_job_t *job, peach_progress_t *progress);

/* Submitted items that have not ended end with PEACH_E_CANCELLED: queued ones at once,
   running ones are interrupted; what was not submitted yet is dropped. Go on reading
   until PEACH_END. */
PEACH_EXPORT int peach_job_cancel(peach_job_t *job);

/* Cancels what is unfinished and frees. *job_p may be NULL. */
PEACH_EXPORT void peach_job_destroy(peach_job_t **job_p);

/* One call and its result: submit, wait, destroy. Takes *args_p. 0 with *value_p the
   caller's; otherwise a negative status, and peach_error has the remote message
   and, behind it, the traceback. */
PEACH_EXPORT int peach_call(peach_t *self, const char *function, peach_value_t **args_p,
                            int timeout_ms, peach_value_t **value_p);

/* ---- values that are used many times ---- */

/* Keeps a value in the fleet: the reference that comes back stands for it in items and
   arguments, anywhere in them, and functions get the value itself. It goes to the broker
   now, to each host once when a task there needs it, and its arrays are one memory for all
   executors of a host (read-only in Python). The same value put again is the same one.
   Takes *value_p; the reference is the caller's, and may be copied. It lasts until it is
   dropped as often as it was put, or the handle is closed, and belongs to that handle: with
   another one it is PEACH_E_ARGUMENT. References in a job are to values that were put before
   the job was made. NULL with peach_error set:
   PEACH_E_LIMIT when the broker keeps no more, PEACH_E_TIMEOUT, PEACH_E_NO_BROKER. */
PEACH_EXPORT peach_value_t *peach_put(peach_t *self, peach_value_t **value_p, int timeout_ms);

/* The value is not needed any more but by jobs that refer to it, which keep it until they are
   destroyed. Takes the reference. PEACH_E_ARGUMENT when it is none of this handle. */
PEACH_EXPORT int peach_drop(peach_t *self, peach_value_t **ref_p);

/* ---- the fleet ---- */

/* mproc.init: loads the preloads (Python files, module:NAME, .so plugins) on all
   workers that there are and that will come, starts workers on this host until the
   fleet has slots slots (none when it has them), and returns when all of them are
   ready. 0; PEACH_E_PRELOAD when one failed (peach_error has its traceback);
   PEACH_E_TIMEOUT; PEACH_E_ARGUMENT when a preload cannot be read; PEACH_E_SYSTEM
   when a worker cannot be started. started_p (may be NULL) gets the slots started.
   The workers outlive the caller and end a minute after their broker. Their program is
   the peach-worker in $PEACH_BIN, or beside the caller's own, or on PATH. */
PEACH_EXPORT int peach_init(peach_t *self, unsigned slots, const char *const *preloads,
                            size_t count, int timeout_ms, unsigned *started_p);

/* Forgets preloads, by their names (multip.py, math:sqrt, mathx.so; see the view), on all
   workers that there are and that will come; returns when all have. A worker that was started
   with one (-l) has it again when it is started again. 0; PEACH_E_ARGUMENT when nobody has
   one of them (then nothing is forgotten); PEACH_E_TIMEOUT. workers_p (may be NULL) gets the
   number of workers. */
PEACH_EXPORT int peach_unload(peach_t *self, const char *const *names, size_t count, int timeout_ms,
                              unsigned *workers_p);

/* What goes on: a map with the broker's counts and the lists workers, functions, clients and
   jobs (see peach status --json). */
PEACH_EXPORT int peach_view(peach_t *self, int timeout_ms, peach_value_t **view_p);

/* Workers that finish what they have, get nothing more and exit: the one whose id
   begins with worker, those on host, or all; or the broker itself. */
typedef struct {
    const char *worker, *host; /* may be NULL */
    bool all, broker;
} peach_drain_t;
PEACH_EXPORT int peach_drain(peach_t *self, const peach_drain_t *what, int timeout_ms,
                             unsigned *workers_p);

/* Jobs of any client that are to be cancelled, by their ids in the view; or all. */
typedef struct {
    const uint64_t *jobs;
    size_t count;
    bool all;
} peach_cancel_t;

/* Cancels them, for somebody who watches the fleet: their items end with
   PEACH_E_CANCELLED at their clients. jobs_p (may be NULL) gets how many there were. */
PEACH_EXPORT int peach_cancel(peach_t *self, const peach_cancel_t *what, int timeout_ms,
                              unsigned *jobs_p);

#ifdef __cplusplus
}
#endif
#endif
