/* The structures of the scheduler core, shared by its own files only: task.c
   (jobs, tasks, parts), run.c (tasks that wait as columns), lane.c (queues and dispatch),
   lease.c (what workers report and lose) and sched.c (workers, clients, time).

   This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#ifndef PEACH_SCHED_CORE_H
#define PEACH_SCHED_CORE_H

#include "idmap.h"
#include "list.h"
#include "pool.h"
#include "sched.h"

enum { PRIORITIES = 8 };

typedef struct lane lane_t;
typedef struct flow flow_t;
typedef struct task task_t;
typedef struct attempt attempt_t;

typedef struct {
    char *key, *value;
} label_t;

typedef struct {
    sched_client_t *client; /* NULL when it has gone */
    uint64_t id;
    size_t tasks; /* unfinished; the job goes with its last one */
    uint64_t queued, running;
    int over; /* why it takes nothing more: a status, 0 while it goes on */
    uint32_t priority, retries, weight;
    bool retry_errors;
    uint64_t over_ms;  /* its deadline; 0: none */
    uint64_t queue_ms; /* how long a task may wait; 0: for ever */
    list_t unbegun;    /* its tasks of which nothing was given out, oldest first */
    node_t timed_node; /* in the core's list of jobs with a deadline or a limit */
    lane_t *lane;
    flow_t *flow; /* NULL when the client has gone */
    void *user;
} job_t;

/* What waits in a flow: a part, or a run. */
typedef struct {
    node_t node;
    bool is_run;
} entry_t;

/* What is queued and leased: some items of a task. */
typedef struct {
    task_t *task;
    ranges_t todo;
    uint64_t lease;         /* 0: queued */
    sched_worker_t *worker; /* that holds the lease */
    entry_t entry;          /* in its flow, while queued */
    node_t lease_node;      /* in its worker, oldest first, while leased */
    node_t task_node;       /* in its task */
    uint32_t granted;       /* items in the lease when it was given */
    uint64_t cost_ns;       /* expected time, as charged to client and worker */
    attempt_t *attempts;    /* lost ones, newest first */
    uint32_t attempt_count;
    uint64_t avoid; /* the worker (its serial) that lost it last; 0: none */
    uint64_t avoid_until_ms;
    bool returned;  /* a worker gave it back: not sent ahead again */
    uint32_t piece; /* it was on a worker that was lost: at most so many items a lease; 0 */
    bool good, bad; /* of its lease: an item has a result, has an error */
} part_t;

struct task {
    job_t *job;
    uint64_t number, first_item;
    uint32_t items;
    size_t bytes;
    void *payload;
    list_t parts;
    node_t client_node;
    node_t unbegun_node; /* in its job */
    uint64_t queued_ms;
    part_t whole; /* the first part, so that a usual task is one allocation */
    bool whole_used;
};

/* Tasks of one item that wait; those before next have gone. */
typedef struct {
    entry_t entry;
    job_t *job;
    node_t client_node;
    size_t next, count;
    uint64_t *numbers, *items;
    uint32_t *ends; /* of each payload, in payload */
    void *payload;
} run_t;

/* One client's parts and runs in one lane. */
struct flow {
    sched_client_t *client;
    lane_t *lane;
    list_t queues[PRIORITIES];
    uint32_t mask;     /* bit p: queues[p] is not empty */
    uint64_t key;      /* of the heap: the client's time when it was sifted, */
    uint32_t depth;    /* and how deep its jobs are nested */
    size_t heap_index; /* SIZE_MAX: not in the heap */
    size_t jobs;       /* that refer to it */
    node_t client_node;
};

/* The order of the heap. */
static inline bool flow_before(const flow_t *a, const flow_t *b)
{
    return a->depth != b->depth ? a->depth > b->depth : a->key < b->key;
}

/* A worker that can run a lane's parts. */
typedef struct {
    sched_worker_t *worker;
    lane_t *lane;
    node_t ready_node; /* in lane->idle or lane->spare */
    node_t lane_node, worker_node;
} serve_t;

struct lane {
    char *function;
    label_t *require;
    size_t require_count;
    flow_t **heap; /* flows with parts: the deepest first, then least client time */
    size_t heap_count, heap_capacity;
    list_t serves; /* the workers that can run it */
    list_t idle;   /* those with a free slot */
    list_t spare;  /* those that may hold more ahead */
    size_t workers;
    uint64_t item_ns;     /* running mean of an item's time; 0: not known yet */
    uint64_t starved_ms;  /* since when it has parts and no worker; 0: it is served */
    uint64_t hopeless_ms; /* since when no worker loads that may come to serve it */
    bool served;          /* a worker had it once */
    uint64_t good, bad;   /* leases that ended with a result; with errors only */
    size_t jobs;          /* that refer to it */
    uint64_t quiet_ms;    /* since when no job refers to it */
    node_t sched_node;
    char *key;
    size_t key_size;
};

struct sched_worker {
    void *user;
    uint64_t serial;
    sched_worker_spec_t spec; /* owns its strings */
    table_t *functions;
    bool connected, draining, drained;
    list_t leases;
    uint32_t lease_count;
    uint64_t load_ns; /* expected time of its leases */
    uint64_t bytes;   /* of their payloads */
    /* Leases in a row that ended with errors only, in one lane, and its counts before. */
    uint32_t strikes;
    const lane_t *struck;
    uint64_t good_before, bad_before;
    uint64_t rest_ms; /* it gets nothing until then; 0: it does not rest */
    list_t serves;
    node_t sched_node;
};

struct sched_client {
    void *user;
    bool hold;
    uint64_t time;  /* virtual: work received / weight */
    uint32_t depth; /* of its last job */
    idmap_t *jobs, *numbers;
    list_t tasks, runs, flows;
    uint64_t highest; /* number of its tasks so far */
    uint64_t task_count, queued, running, bytes;
    node_t sched_node;
};

/* Of a task whose client is there. */
static inline sched_owner_t task_owner(const task_t *task)
{
    return (sched_owner_t){task->job->client->user, task->job->user, task->number};
}

struct sched {
    sched_config_t config;
    sched_ops_t ops;
    void *shell;
    uint64_t now_ms;
    uint64_t time; /* virtual time of the last flow served */
    uint64_t last_lease, last_serial;
    idmap_t *leases;
    table_t *lanes;
    list_t lane_list, workers, clients, timed;
    pool_t tasks;
    sched_counts_t counts;
};

/* ---- task.c ---- */

job_t *job_find(const sched_client_t *client, uint64_t id);

/* Frees a job that has no tasks. */
void job_end(sched_t *s, job_t *job);

/* A part of its own for items first..first+count-1 of from; NULL when they are not all in
   it, or memory is out. */
part_t *part_split(part_t *from, uint32_t first, uint32_t count);

/* Frees the part; the task too when it was the last one. */
void part_end(sched_t *s, part_t *part);

/* Whether the client may have so many tasks more: 0 or PEACH_E_LIMIT. */
int task_room(const sched_t *s, const sched_client_t *client, size_t count);

/* 0, PEACH_E_ARGUMENT or PEACH_E_MEMORY. */
int task_new(sched_t *s, job_t *job, const sched_task_spec_t *spec, task_t **task_p);

/* Records a lost attempt. */
int part_charge(part_t *part, const sched_attempt_t *attempt);

/* Tells the client that what is left of the part fails; nothing is left of it then. */
void part_tell(sched_t *s, part_t *part, int status, const char *message);

/* The same, and frees the part, which must be neither queued nor leased. */
void part_fail(sched_t *s, part_t *part, int status, const char *message);

/* ---- run.c ---- */

/* The next task of the run, as a part that is neither queued nor leased; NULL when there
   is no memory for it (it has failed then). The run may be gone afterwards. */
part_t *run_take(sched_t *s, run_t *run);

/* All tasks of the run that wait fail; or go, and nobody is told. Frees the run. */
void run_fail(sched_t *s, run_t *run, int status, const char *message);
void run_drop(sched_t *s, run_t *run);

/* Whether a task of that number waits in a run of the client. */
bool run_has(const sched_client_t *client, uint64_t number);

/* ---- lease.c ---- */

/* A lease that ended without its worker's word: with the worker (ran: it may have been
   running), or on the way to it. */
void lease_lost(sched_t *s, part_t *part, sched_worker_t *worker, const char *cause, bool ran);
void lease_undelivered(sched_t *s, part_t *part);

/* What the client is told of items of a job that is over. */
const char *job_over_text(const job_t *job);

/* A draining worker that has nothing left is told. */
void worker_tell_drained(sched_t *s, sched_worker_t *worker);

/* ---- lane.c ---- */

/* The lane for a function and labels; made when it is not there. */
lane_t *lane_obtain(sched_t *s, const char *function, const sched_label_t *require, size_t count);
void lane_destroy(sched_t *s, lane_t *lane);

/* Whether the worker has the labels; and the function, too. */
bool lane_labels_match(const lane_t *lane, const sched_worker_t *worker);
bool lane_admits(const lane_t *lane, const sched_worker_t *worker);

/* Makes the worker serve the lane, or stop serving it, as it admits it. */
int lane_match(lane_t *lane, sched_worker_t *worker);
void serve_destroy(serve_t *serve);

/* Puts a part into its client's flow; at the front when it was taken before. */
int lane_queue(sched_t *s, part_t *part, bool front);
void lane_unqueue(sched_t *s, part_t *part);

/* The same of a run; its tasks leave the counts as they leave the run. */
int lane_queue_run(sched_t *s, run_t *run);
void lane_unqueue_run(run_t *run);

/* The client's flow in the lane; made when it is not there. */
flow_t *flow_obtain(sched_client_t *client, lane_t *lane);
void flow_destroy(flow_t *flow);

/* Jobs of the client are nested so deep from now on. 0 or PEACH_E_MEMORY. */
int flows_deepen(sched_client_t *client, uint32_t depth);

/* Lets a flow with parts compete, or not. */
int flow_hold(flow_t *flow, bool hold);

/* Whether it gets leases at all. */
bool worker_open(const sched_worker_t *worker);

/* Moves the worker between the lists of the lanes that it serves, after its
   leases, load or state changed. */
void worker_sort(sched_t *s, sched_worker_t *worker);

/* Gives out what can be given: for one lane, or to one worker. */
void lane_dispatch(sched_t *s, lane_t *lane);
void worker_dispatch(sched_t *s, sched_worker_t *worker);

#endif
