/* The supervisor's inside, shared by worker.c (the loop) and the files that ARCHITECTURE.md
   names: what each gives the others stands under its name.

   This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#ifndef PEACH_INSIDE_H
#define PEACH_INSIDE_H

#include "awake.h"
#include "list.h"
#include "log.h"
#include "outbox.h"
#include "pool.h"
#include "preload.h"
#include "ranges.h"
#include "resolve.h"
#include "slot.h"
#include "store.h"
#include "worker.h"

enum { MAX_SLOTS = 1024, MAX_SEATS = 2048, LOOK_MS = 20 };
enum { DEFAULT_BEAT_MS = 1000, DEFAULT_SESSION_MS = 10000 }; /* until a broker tells */

typedef struct link link_t;

/* Orders that share the copy of a job. */
typedef struct {
    size_t orders;
    uint64_t shelf; /* changes of the shelf when it was last seen to have its function; 0 */
} job_use_t;

/* A lease: some items of a task that a broker gave us. */
typedef struct {
    node_t node;  /* in waiting, or in its slot's orders */
    link_t *link; /* NULL when that broker has gone: nobody wants it */
    uint64_t lease;
    Peach__Job *job; /* a copy; shared through job_uses */
    job_use_t *job_uses;
    uint64_t first_item;
    uint32_t items;
    payload_t *payload;
    range_t *todo;
    size_t todo_count;
    bool once;         /* it is to run at most once */
    uint64_t task;     /* of such a one: its client's number, */
    ranges_t left;     /* and the items that have not begun, as far as was told */
    uint32_t number;   /* at its slot */
    uint64_t since_ms; /* when it came */
    bool cancelled;
    bool expiring; /* this item of it was interrupted because its time is over */
    uint32_t expired_item;
    uint64_t again_ms; /* when it is interrupted once more if it has not heard */
    uint64_t kill_ms;  /* when its executor is killed if it still runs; 0: never */
} order_t;

/* A broker and our session with it. */
struct link {
    char *endpoint;
    void *socket, *monitor; /* NULL while the host's address is not known */
    resolve_t *resolve;     /* NULL: it is, or it is asked for again at resolve_ms */
    uint64_t resolve_ms;
    char complaint[640]; /* the last one that was logged, so that it is logged once */
    bool welcomed;
    bool known; /* we have a session there, also while it is not reached */
    uint8_t token[WIRE_SESSION_BYTES];
    uint64_t attempt;                  /* Hellos so far */
    uint64_t hello_ms, beat_ms;        /* when the last one was sent */
    uint64_t heard_ms, lost_ms;        /* something came; the connection was lost */
    uint64_t heartbeat_ms, session_ms; /* as the broker wants them */
    wire_batch_t batch;                /* Results */
    outbox_t outbox;                   /* those that it has not acknowledged */
    uint64_t told;                     /* the registration that it knows */
    bool losing;                       /* lines of output, which it does not take */
    bool drained;
};

/* A set of seats. */
typedef struct {
    uint8_t bits[MAX_SEATS / 8];
} seat_set_t;

static inline bool seat_set_has(const seat_set_t *self, unsigned i)
{
    return self->bits[i / 8] >> i % 8 & 1;
}

static inline void seat_set_add(seat_set_t *self, unsigned i)
{
    self->bits[i / 8] |= (uint8_t)(1u << i % 8);
}

static inline void seat_set_remove(seat_set_t *self, unsigned i)
{
    self->bits[i / 8] &= (uint8_t) ~(1u << i % 8);
}

/* What a seat's tasks print, as far as it is not passed on. */
typedef struct {
    char *line; /* that has not ended */
    size_t length, capacity;
    bool marked;
    uint32_t number, item; /* task and item whose the lines are */
    size_t bytes;          /* of that item so far */
} printed_t;

typedef struct {
    slot_t process;
    printed_t printed;
    list_t orders; /* sent to it, oldest first */
    size_t order_count;
    bool sending;                /* its channel has something to write */
    uint64_t begun;              /* tasks, for all that we have seen */
    uint32_t taken_back;         /* tasks below this that were not begun were taken back */
    uint32_t copy;               /* the request for it, while a template has not answered; 0 */
    uint64_t asked_ms;           /* when that was sent */
    size_t lacking;              /* preloads that it was sent and has not answered for */
    uint64_t restart_ms;         /* when the next process is started; 0: one is there */
    unsigned failures;           /* in a row, without running anything */
    uint64_t sent_items;         /* to this process, and not taken back */
    bool retiring;               /* it is to be replaced once it has nothing to do, */
    uint64_t ending_ms;          /* and has had nothing to do since then; 0 */
    uint64_t bytes, weighed_ms;  /* of memory, when it was weighed last */
    uint64_t rest_ms;            /* before it is weighed again: that takes time */
    char killed[96];             /* why we killed it */
    wire_batch_t batch;          /* Assign */
    const Peach__Job *batch_job; /* the last job in it; it is number batch_jobs - 1 */
    uint32_t batch_jobs;
    bool batch_single; /* it has tasks of one item only */
    bool template;     /* it runs nothing: the others are copies of it */
    bool waits;        /* its task waits for tasks of its own: another seat runs meanwhile */
} seat_t;

/* A version of a preload. */
typedef struct {
    preload_source_t source; /* path NULL: there is none */
    uint64_t pushed_us;      /* see PreloadItem; 0: our own */
} version_t;

/* A preload and what the executors say of it. */
typedef struct {
    version_t now, before; /* before: what counts again if this one fails everywhere */
    uint32_t request;      /* executors know it by this: it changes with each load */
    Peach__PreloadState state;
    bool offered; /* its functions are registered: it was ready, or a version before was */
    bool refused; /* by --no-push: it is only reported */
    char *error;
    char **functions;
    size_t function_count;
    seat_set_t asked, has; /* seats that were sent this version; that have loaded it */
    seat_set_t stuck;      /* seats whose process has a version that it cannot replace */
    size_t ready;          /* seats that have it, without the template */
    char *files;           /* in lines: what Python imported for it, */
    uint8_t files_digest[WIRE_DIGEST_BYTES]; /* and what was in them */
} shelf_item_t;

/* Of an order of a task that is to run at most once: which of its items had not begun. */
typedef struct {
    node_t node;
    const link_t *link; /* while its session goes on */
    uint8_t origin[WIRE_SESSION_BYTES];
    uint64_t task, at_ms;
    range_t *unbegun;
    size_t unbegun_count;
} verdict_t;

struct worker {
    worker_options_t options;
    char host[WIRE_MAX_NAME + 1];
    uint8_t session[WIRE_SESSION_BYTES];
    void *context;
    link_t *links;
    size_t link_count;
    uint64_t last_monitor;
    seat_t *seats;         /* the template, if there is one; one a slot; and behind them those */
    unsigned seat_count;   /* that run while tasks wait for tasks of their own */
    unsigned waiting_told; /* slots that brokers were told of as waiting */
    uint64_t spare_ms;     /* since when the last seat is not needed; 0: it is */
    int control;           /* of the template; -1: there is none */
    uint32_t last_copy;    /* request to it */
    list_t waiting;        /* orders for the next free executor */
    size_t order_count;    /* waiting and with executors */
    pool_t orders;         /* that are not in use */
    shelf_item_t *shelf;   /* in the order in which functions are defined */
    size_t shelf_count;
    uint32_t last_request;
    uint64_t shelf_changes; /* of what is registered */
    store_t store;
    list_t verdicts, ended; /* of sessions that are over; of orders that ended just now. Both the */
    size_t verdict_count, ended_count; /* oldest first */
    list_t blobs;                      /* values that clients put, those used last behind */
    uint64_t last_blob, blob_bytes;
    block_pool_t *pool;    /* for those that came as frames */
    uint64_t registration; /* counts its changes */
    Peach__Label *labels;
    Peach__Label **label_pointers;
    awake_t clock;
    uint64_t now_ms, looked_ms;
    uint64_t lost_ms;  /* since when no broker is there */
    uint64_t order_ns; /* running mean of an order's time; 0: not known */
    bool draining, failed;
    bool by_value; /* Python is here, and jobs may bring their functions */
};

/* ---- link.c ---- */

int link_open(worker_t *w, link_t *link, const char *endpoint);
void link_close(link_t *link);

/* Sends a message in its turn; true unless it is lost. */
bool link_send(link_t *link, const Peach__Envelope *envelope, const wire_frames_t *frames);

/* Whether lines of output for it may be kept until it takes them. */
bool link_takes_lines(const link_t *link);
void link_receive(worker_t *w, link_t *link);

/* Something happened to its connection. */
void link_watch(worker_t *w, link_t *link);

/* What time asks for: Hello, heartbeats, results that wait. */
void link_keep(worker_t *w, link_t *link);

/* Adds a result under the lease's id. It is kept until the broker acknowledged it. host and
   pid: of the executor that it is from. */
void link_result(link_t *link, wire_message_t *message, const Peach__Result *result, uint64_t lease,
                 const char *host, uint32_t pid);

/* Items of the lease fail; what it has else goes on. */
void link_failure(link_t *link, uint64_t lease, Peach__Failure *failure);

/* Makes room in the message for so many single results. */
void link_reserve(link_t *link, size_t rows);

/* Adds the good result of a task of one item. */
void link_single(link_t *link, const wire_single_t *result, uint64_t lease);

/* Whether a broker that is there has everything that was for it. */
bool link_settled(const link_t *link);

/* Whether so many results wait for it that executors that work for it are not read. */
bool link_full(const link_t *link);
void link_register(worker_t *w, link_t *link);
void link_goodbye(worker_t *w, link_t *link);

/* ---- orders.c ---- */

void order_free(worker_t *w, order_t *order);

/* Reports the end of an order without results; the broker queues what is missing. */
void order_end(worker_t *w, order_t *order);
uint64_t order_items(const order_t *order);

/* Of an order that is to run at most once: these have begun. */
void order_note_begun(order_t *order, uint32_t first, uint32_t count);

/* Says that the items are lost with their executor; what the order has else goes on. */
void order_lose(worker_t *w, order_t *order, uint32_t item, uint32_t count, pid_t pid,
                const char *cause);

/* The order of that number that the seat has; NULL when it has none. */
order_t *orders_at(const seat_t *seat, uint64_t number);

void orders_take(worker_t *w, link_t *link, wire_message_t *message);

/* Nothing is in the seat's batch any more. */
void orders_clear_batch(seat_t *seat);

/* Gives waiting orders to executors. */
void orders_pump(worker_t *w);

/* The executor's results go to their brokers. */
void orders_results(worker_t *w, seat_t *seat, wire_message_t *message);

/* The worker stops at once: what runs is charged, the rest goes back. */
void orders_abandon(worker_t *w);

void orders_clear(worker_t *w);

/* ---- stops.c ---- */

void orders_cancel(worker_t *w, link_t *link, const Peach__Cancel *cancel);

/* The broker's session is over: its orders are nobody's. What had begun of those that are to
   run at most once is remembered. */
void orders_forget(worker_t *w, link_t *link);

/* Takes back what waits behind a long order; gives back what waits too long; interrupts
   items whose time is over, and kills what does not stop. */
void orders_look(worker_t *w);

/* ---- claims.c ---- */

/* Whether the page can be believed: its token is as we made it, only we say what is taken back,
   and tasks begin in their order and once. */
bool claims_are_sane(const seat_t *seat);

/* Notes how far the executor is, and whether it has moved since the last look. false when the
   page cannot be believed. */
bool claims_look(seat_t *seat, bool *moved);

/* A result of the task of that number came: it had begun. */
static inline void claims_note(seat_t *seat, uint64_t number)
{
    if (seat->begun < number + 1) seat->begun = number + 1;
}

/* The executor's orders that it has not begun wait again. false when the page cannot be
   believed. */
bool claims_take_back(worker_t *w, seat_t *seat);

/* The seat's executor died: the order that it ran is charged, the others wait again. */
void orders_lost(worker_t *w, seat_t *seat, pid_t pid, const char *cause);

/* ---- verdicts.c: what had begun at brokers that are lost ---- */

/* The session that the order belongs to is over, and the order is, too. */
void verdicts_add(worker_t *w, const order_t *order);

/* The order ended: if its session is over soon its results may not have got through. */
void verdicts_note_end(worker_t *w, const order_t *order);

/* That session is over. */
void verdicts_session_over(worker_t *w, const link_t *link);

/* Tells a broker all of them. */
void verdicts_send(worker_t *w, link_t *link);
void verdicts_clear(worker_t *w);

/* ---- blobs.c ---- */

/* A broker sent a value; dropped some; its session is over. */
void blobs_take(worker_t *w, link_t *link, wire_message_t *message);
void blobs_drop(worker_t *w, link_t *link, const Peach__Drop *drop);
void blobs_forget(worker_t *w, const link_t *link);
void blobs_clear(worker_t *w);

/* A large payload that came as a frame, in shared memory, so that executors need no copy.
   Takes the payload, which may be NULL; what comes back may be the same one. */
payload_t *blobs_share(worker_t *w, payload_t *payload);

/* An order's job needs its values: writes our numbers into its references. false when one
   is missing that the broker has: it is told, and the order is to go back. */
bool blobs_hold(worker_t *w, link_t *link, Peach__Job *job);
void blobs_release(worker_t *w, const Peach__Job *job);

/* Gives the seat's executor what the job needs and it has not got. */
int blobs_send(worker_t *w, seat_t *seat, const Peach__Job *job);

/* The seat's process is gone, and what it had. */
void blobs_unseat(worker_t *w, const seat_t *seat);

/* ---- prints.c ---- */

/* Passes on what the seat's tasks have printed: to their clients, or to our standard error.
   last: nothing follows. */
void prints_read(worker_t *w, seat_t *seat, bool last);
void prints_clear(seat_t *seat);

/* ---- crew.c ---- */

/* The first seat that runs tasks. */
static inline unsigned crew_first(const worker_t *w) { return w->options.fork; }

/* Most seats: each task of every slot may wait for tasks of its own. */
static inline unsigned crew_most(const worker_t *w)
{
    unsigned most = crew_first(w) + w->options.slots * (1 + WIRE_MAX_DEPTH);
    return most < MAX_SEATS ? most : MAX_SEATS;
}

/* Opens seats for those whose tasks wait, closes what is not needed any more, and tells
   the brokers how many more tasks may run. */
void crew_balance(worker_t *w);

/* Of the slots, so many wait and have a seat in their place. */
unsigned crew_waiting(const worker_t *w);

/* Starts the seat's process. With a template it may be too early: then it is tried again
   when that is ready. On failure errno says why, too. */
int crew_start(worker_t *w, seat_t *seat, char *error, size_t error_size);

/* The template has answered requests for copies. */
void crew_answer(worker_t *w);

/* The seat's process is replaced by a new one once it has nothing to do. */
void crew_retire(worker_t *w, seat_t *seat);
void crew_receive(worker_t *w, seat_t *seat);
void crew_died(worker_t *w, seat_t *seat);

/* Ends its executor at once; why is what its item and the log are told. */
void crew_kill(seat_t *seat, const char *why, ...) __attribute__((format(printf, 2, 3)));

/* Notices executors that have ended; restarts what is due. */
void crew_keep(worker_t *w);
bool crew_ready(const worker_t *w, const seat_t *seat);

/* ---- shelf.c ---- */

/* The registration has changed. */
void shelf_tell(worker_t *w);

/* Reads the preloads of the command line. */
int shelf_fill(worker_t *w, char *error, size_t error_size);
void shelf_clear(worker_t *w);

/* What a broker says of preloads: names that go, go back, and versions that come. */
void shelf_take(worker_t *w, wire_message_t *message, const Peach__Preload *preload);

/* The item has no functions. */
void shelf_item_unload(shelf_item_t *item);

/* Whether a function of that name is registered. */
bool shelf_offers(const worker_t *w, const char *function);

void shelf_register(worker_t *w, Peach__Registration *registration);
void shelf_register_free(Peach__Registration *registration);

/* Gives a broker sources that it asked for. */
void shelf_tell_sources(worker_t *w, link_t *link, const Peach__SourceRequest *request);

/* ---- loads.c: preloads on their way to the executors ---- */

/* Gives a new process all preloads; copy: it has them, and will say so. */
int loads_send(worker_t *w, seat_t *seat, bool copy);

/* Gives the item to all executors; those that cannot take another version are replaced. */
void loads_offer(worker_t *w, shelf_item_t *item);

/* Tells the executors which preloads count, and in which order. */
void loads_order(worker_t *w);

/* It is not waited for any more, and nobody has it; drop: nor may anybody keep it. */
void loads_forget(worker_t *w, shelf_item_t *item);
void loads_drop(worker_t *w, shelf_item_t *item);

/* It cannot be loaded: this worker does not have it. */
void loads_fail(worker_t *w, shelf_item_t *item, const char *error);

/* An executor's word on a preload; or that it died in one. */
void loads_report(worker_t *w, seat_t *seat, const Peach__Registration *report);
void loads_died(worker_t *w, seat_t *seat, const char *cause);

/* The seat's process is gone and with it what it had loaded. */
void loads_unload(worker_t *w, seat_t *seat);

#endif
