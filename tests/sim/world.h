/* The simulated world around the real scheduler core: clients, workers, the network
   between them, a clock, and faults, all from one seed, in one process.

   What is real: the core (broker/sched.h), and how messages are numbered, kept and sent
   again (proto/outbox.h). What is simulated: everything else, after PROTOCOL.md; shell.c
   does what broker/session.c and broker/work.c do.

   world.c owns the clock, the network and the faults; shell.c, worker.c and client.c the
   peers; judge.c what must hold. Times are milliseconds of simulated time.

   This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#ifndef PEACH_WORLD_H
#define PEACH_WORLD_H

#include "outbox.h"
#include "sched.h"

enum { CLIENTS = 3, WORKERS = 4, PEERS = CLIENTS + WORKERS };
enum { JOBS = 3, TASKS = 12, ITEMS = 6, SLOTS = 3, ORDERS = 32, LEASES = 128, FAULTS = 24 };
enum { HEARTBEAT_MS = 100, SESSION_MS = 1000, RETURN_MS = SESSION_MS * 3 / 10, TICK_MS = 100 };
enum { WINDOW_TASKS = 8, HOLD_BYTES = 1200 };

/* What makes a schedule; two equal ones run the same. */
typedef struct {
    uint64_t seed;
    unsigned clients, workers, tasks; /* at most so many */
    uint32_t without;                 /* faults that are left out, a bit each */
    bool trace;                       /* print what happens */
} schedule_t;

typedef struct {
    uint64_t schedules, events, faults, items, runs;
    uint64_t resumed, restarted; /* sessions */
    char wrong[512];             /* what did not hold; empty if all did */
} verdict_t;

/* Runs one schedule to its end and adds to *verdict. false if something did not hold. */
bool world_run(const schedule_t *schedule, verdict_t *verdict);

/* ---- messages ---- */

typedef enum {
    HELLO,
    WELCOME,
    NO_SESSION,
    HEARTBEAT,
    SUBMIT,
    CANCEL, /* a job to the broker, a lease to a worker */
    ASSIGN,
    GIVE_BACK,
    RESULT,
    HELD, /* a worker's leases */
    DRAIN,
    GOODBYE
} kind_t;

typedef struct {
    kind_t kind;
    uint64_t session, token, received, serial, attempt;
    bool resumed, draining;
    uint64_t lease; /* or the task's number to a client */
    unsigned client, task, job;
    uint32_t first, count, todo; /* todo: a bit an item */
    int status;
    bool ended;
    uint64_t elapsed_ns;
    unsigned held;
    uint64_t leases[ORDERS];
} message_t;

/* ---- what is to be run, and what became of it ---- */

typedef struct {
    bool poison, raises; /* it kills its executor, it raises: the first so many times */
    unsigned mischief;
    unsigned duration_ms;
    bool ended;
    int status;
    uint64_t ended_in;                /* the client's session in which it ended */
    unsigned runs;                    /* begun */
    unsigned excuses;                 /* why it may have been begun again */
    unsigned died, held_lost, raised; /* attempts that were lost */
    bool failed;                      /* the last run raised */
} item_t;

typedef struct {
    unsigned job, items;
    uint64_t at_ms;
    bool submitted;
    uint64_t serial; /* of its last Submit */
    item_t item[ITEMS];
} sim_task_t;

typedef struct {
    sched_job_spec_t spec;
    bool cancelled, cancel_sent;
} sim_job_t;

typedef struct {
    bool alive, welcomed, known, stalled;
    uint64_t stalled_until, slow_ms;
    uint64_t session, token, begun, attempt, received, submits, hello_ms, heard_ms, beat_ms;
    sim_job_t jobs[JOBS];
    sim_task_t tasks[TASKS];
    unsigned task_count;
} client_t;

typedef struct {
    uint64_t lease;
    unsigned client, task;
    uint32_t todo, pending; /* pending: ended and not reported yet */
    bool cancelled, yield, running;
} order_t;

typedef struct {
    order_t *order;
    unsigned item;
    uint64_t serial; /* of the run; an end of another one is void */
} sim_slot_t;

typedef struct {
    bool alive, welcomed, known, draining, leaving;
    uint64_t stalled_until, back_ms;
    uint64_t session, token, attempt, hello_ms, heard_ms, beat_ms, lost_ms;
    unsigned slots;
    bool all_functions;
    outbox_t outbox;
    order_t orders[ORDERS]; /* lease 0: free */
    order_t *queue[ORDERS]; /* in the order of arrival */
    unsigned queued;
    sim_slot_t slot[SLOTS];
} sim_worker_t;

/* A session at the broker. */
typedef struct {
    bool there, connected, settling, lost;
    uint64_t session, token, attempt, heard_ms, gone_ms, received, told;
    uint32_t epoch;
    outbox_t outbox;
    sched_client_t *client;
    sched_worker_t *worker;
} sim_peer_t;

typedef struct {
    uint64_t lease;
    unsigned worker, client, task;
    uint32_t todo;
    bool orphan; /* its client's session is over */
} sim_lease_t;

/* A connection to the broker. */
typedef struct {
    bool up, silent;
    uint32_t epoch;
    uint64_t last[2];    /* when the last message of each direction arrives */
    uint64_t down_until; /* it cannot come up before */
    uint64_t silent_since;
    bool late; /* what is on its way when it breaks still arrives at the broker */
} conn_t;

typedef enum {
    CUT_SHORT,
    CUT_LONG,
    HALF_OPEN,
    KILL_WORKER,
    STALL_WORKER,
    KILL_EXECUTOR,
    DRAIN_WORKER,
    STALL_CLIENT,
    KILL_CLIENT,
    CANCEL_JOB,
    RESTART_BROKER,
    STALL_BROKER,
    FAULT_KINDS
} fault_kind_t;

typedef struct {
    fault_kind_t kind;
    uint64_t at_ms, for_ms;
    uint32_t dice;
} fault_t;

typedef enum {
    AT_BROKER,
    AT_PEER,
    BROKER_TICK,
    PEER_TICK,
    ITEM_END,
    TASK_COMES,
    FAULT
} happening_t;

typedef struct {
    uint64_t at_ms, order;
    happening_t what;
    unsigned who, slot;
    uint32_t epoch;
    uint64_t serial;
    message_t *message;
} event_t;

typedef struct world {
    schedule_t schedule;
    verdict_t *verdict;
    uint64_t now_ms, order, random, serial;
    event_t *events; /* a heap */
    size_t event_count, event_capacity;
    fault_t faults[FAULTS];
    unsigned fault_count;
    uint64_t calm_ms; /* after it nothing goes wrong any more */
    conn_t conn[PEERS];
    client_t clients[CLIENTS];
    sim_worker_t workers[WORKERS];
    unsigned client_count, worker_count;
    /* the broker */
    sched_t *sched;
    uint64_t broker_stalled_until, beat_ms;
    sim_peer_t peers[PEERS];
    sim_lease_t leases[LEASES];
    unsigned lease_count;
} world_t;

/* ---- world.c ---- */

uint32_t world_dice(world_t *w, uint32_t sides);
void world_at(world_t *w, uint64_t at_ms, event_t event);
void world_say(const world_t *w, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Something does not hold: the schedule ends with it. */
void world_wrong(world_t *w, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Sends; false when the connection is not there (to the peer: or is another one). */
bool net_to_broker(world_t *w, unsigned peer, const message_t *message);
bool net_to_peer(world_t *w, unsigned peer, uint32_t epoch, const message_t *message);
void net_break(world_t *w, unsigned peer, uint64_t for_ms);

/* An outbox's way out: the socket that it sends to. */
typedef struct {
    world_t *world;
    unsigned peer;
    bool from_broker;
    uint32_t epoch;
} port_t;

/* Puts a message into an outbox. */
void net_post(outbox_t *outbox, const message_t *message, bool keep);

static inline item_t *world_item(world_t *w, unsigned client, unsigned task, unsigned item)
{
    return &w->clients[client].tasks[task].item[item];
}

/* ---- shell.c: the broker ---- */

void shell_start(world_t *w);
void shell_stop(world_t *w);
void shell_message(world_t *w, unsigned peer, uint32_t epoch, const message_t *message);
void shell_tick(world_t *w);

/* ---- worker.c, client.c ---- */

void worker_start(world_t *w, unsigned i);
void worker_kill(world_t *w, unsigned i);
void worker_kill_executor(world_t *w, unsigned i, unsigned slot);
void worker_message(world_t *w, unsigned i, const message_t *message);
void worker_tick(world_t *w, unsigned i);
void worker_item_end(world_t *w, unsigned i, unsigned slot, uint64_t serial);
void worker_disconnected(world_t *w, unsigned i);

void client_start(world_t *w, unsigned i);
void client_message(world_t *w, unsigned i, const message_t *message);
void client_tick(world_t *w, unsigned i);
void client_cancel(world_t *w, unsigned i, unsigned job);
void client_disconnected(world_t *w, unsigned i);

/* ---- judge.c: what must hold ---- */

/* After each thing that happens at the broker. */
void judge_broker(world_t *w);

/* An item begins. */
void judge_run(world_t *w, unsigned client, unsigned task, unsigned item);

/* A client gets the end of an item. */
void judge_end(world_t *w, unsigned client, unsigned task, unsigned item, int status);

/* Whether every client has everything; and at the end, what else must be so. */
bool judge_complete(const world_t *w);
void judge_rest(world_t *w);

#endif
