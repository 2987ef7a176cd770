/* The broker's inside, shared by broker.c (the loop) and the files that ARCHITECTURE.md names:
   what each gives the others stands under its name.

   This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#ifndef PEACH_SHELL_H
#define PEACH_SHELL_H

#include "awake.h"
#include "broker.h"
#include "peer.h"

enum { TICK_MS = 100, ACKNOWLEDGE_BYTES = 1 << 20 };

/* What a preload was when it was pushed. */
typedef struct {
    Peach__PreloadItem *item; /* without its source */
    payload_t *source;
} version_t;

/* A preload that every worker is to load, now or when it comes. */
typedef struct {
    node_t node;      /* in the order of pushing */
    version_t now;    /* the one that counts */
    version_t before; /* kept until a worker has loaded it; may be empty */
    bool proven;      /* a worker has */
} preload_t;

/* A name that was unloaded: who was away then may still have it. */
typedef struct {
    node_t node;
    uint64_t at_us;
    char name[WIRE_MAX_NAME + 1];
} gone_t;

/* A client that waits for preloads to be ready. */
typedef struct {
    node_t node;
    peer_t *client;
    uint64_t request;
    Peach__Preload *message;
} waiter_t;

typedef struct blob blob_t;

struct broker {
    broker_options_t options;
    char endpoint[256];
    void *context, *router, *monitor;
    sched_t *sched;
    table_t *routes, *sessions; /* routing id, session -> peer_t */
    list_t peers, dirty;
    list_t preloads, unloaded, waiters, verdicts;
    size_t verdict_bytes;
    uint64_t last_push_us; /* time of the last push by any broker that we know of */
    awake_t clock;
    uint64_t started_ms, now_ms, ticked_ms, beat_ms, trimmed_ms; /* awake */
    uint64_t bad_messages, bad_connections;
    uint64_t refused_connections; /* for which there was no descriptor */
    uint64_t scarce_ms;           /* when that was said last; 0: never */
    size_t client_count;
    Peach__Credit told; /* to the clients */
    table_seed_t seed;
    idmap_t *blobs; /* values that clients put, by our number */
    uint64_t last_blob, blob_bytes, last_job;
    bool draining;
    list_t lost; /* peers that could not be sent to: orders must not call the core */
};

/* ---- broker.c ---- */

/* All but the sockets: what a fuzzer needs, too. The options are filled in before. 0 or
   PEACH_E_MEMORY; clear it in either case. */
int shell_init(broker_t *b);
void shell_clear(broker_t *b);

/* Sends what waits, and lets connections go that are gone. */
void shell_flush(broker_t *b);

/* Sends now or later; a lost connection is noticed and handled afterwards. */
void shell_send(broker_t *b, peer_t *peer, const Peach__Envelope *envelope,
                const wire_frames_t *frames);

/* Notes that the peer cannot be sent to. */
void shell_lost(broker_t *b, peer_t *peer);

/* Answers whoever is behind the route, who has no session. */
void shell_answer_stranger(broker_t *b, zmq_msg_t *route, int status, const char *message);

/* What to do with a message that was decoded; takes it out of *route if it likes. */
void broker_message(broker_t *b, zmq_msg_t *route, wire_message_t *message);

/* Notes that the peer has something in its batch. */
void shell_dirty(broker_t *b, peer_t *peer);

/* Tells the peer that its message was refused. */
void shell_error(broker_t *b, peer_t *peer, int status, const char *message);

/* ---- listener.c ---- */

/* Opens the socket and listens. 0 or PEACH_E_SYSTEM, with the reason in error. */
int listener_open(broker_t *b, char *error, size_t size);

/* Takes what the socket's monitor tells: connections that are none, and those for which
   there is no descriptor. */
void listener_events(broker_t *b);

/* ---- session.c ---- */

/* How long a session whose connection is gone may take to come back. */
uint64_t session_return_ms(const broker_t *b);

/* Begins a session, or lets one go on. */
void session_hello(broker_t *b, zmq_msg_t *route, const Peach__Hello *hello);

/* A worker whose session goes on says what it holds; false when it was not asked. */
bool session_settle(broker_t *b, peer_t *worker, const Peach__Leases *leases);

/* Its connection is gone; it may come back. */
void session_detach(broker_t *b, peer_t *peer);
void session_end(broker_t *b, peer_t *peer, const char *cause);

/* The process is gone: clients that its tasks were end. */
void session_end_of(broker_t *b, const char *host, uint32_t pid);

/* The worker said Goodbye: it has reported all that it began. */
void session_leave(broker_t *b, peer_t *worker);

/* Tells the peer that we are here, and a worker which of its results are, too. */
void session_heartbeat(broker_t *b, peer_t *peer);

/* Every tick: acknowledgements. Every heartbeat: who is gone is found out. */
void sessions_keep(broker_t *b);
void sessions_beat(broker_t *b);

/* ---- work.c ---- */

extern const sched_ops_t shell_ops;

void work_submit(broker_t *b, peer_t *client, wire_message_t *message);
void work_logs(broker_t *b, peer_t *worker, const Peach__Logs *logs);
void work_results(broker_t *b, peer_t *worker, wire_message_t *message);
void work_cancel(broker_t *b, peer_t *client, const Peach__Cancel *cancel);

/* Cancels jobs of any client, for somebody who watches. */
void work_cancel_jobs(broker_t *b, peer_t *watcher, const Peach__CancelJobs *cancel);
void work_credit(const broker_t *b, Peach__Credit *credit);

/* Holds the client's tasks back while too many of its results wait for it. */
void work_hold(broker_t *b, peer_t *client);

/* ---- blob.c ---- */

/* Keeps a value for its client, or says why not. */
void blob_put(broker_t *b, peer_t *client, wire_message_t *message);

/* From a client: not needed any more. From a worker: it has forgotten them. */
void blob_drop(broker_t *b, peer_t *peer, const Peach__Drop *drop);

/* The peer goes, and what it put. */
void blob_forget(broker_t *b, peer_t *peer);

/* Writes our numbers into the references of a client's job. */
void blob_resolve(peer_t *client, const Peach__Job *job);

/* Sends the worker those that an order of the job needs and it has not got. */
void blob_push(broker_t *b, peer_t *worker, const Peach__Job *job);

/* ---- library.c: the preloads that clients have pushed ---- */

/* Remembers the client's preloads, or forgets them, tells the workers, and answers when all
   have them or one failed. */
void library_preload(broker_t *b, peer_t *client, wire_message_t *message);

/* A worker's answer to our question for sources. */
void library_restore(broker_t *b, peer_t *worker, wire_message_t *message);

/* The Welcome's list; free it with library_items_free. */
int library_items(broker_t *b, wire_frames_t *frames, Peach__PreloadItem ***items, size_t *count);
void library_items_free(Peach__PreloadItem **items, size_t count);

/* A worker came, went or said something: who waits is answered, and a version that fails on
   every worker is dropped. */
void library_judge(broker_t *b);

/* Takes a worker's new registration over, tells the core, and judges. */
int library_register(broker_t *b, peer_t *worker, const Peach__Registration *registration);

/* Forgets all preloads. */
void library_clear(broker_t *b);

/* Whether the worker has not yet said of a preload whether it has it. */
bool library_loading(const broker_t *b, const peer_t *worker);

/* What the worker says of a preload; with a digest of that version. NULL: nothing. */
Peach__PreloadReport *library_report(const peer_t *worker, const char *name,
                                     const ProtobufCBinaryData *digest);

/* ---- waiters.c: clients that wait for preloads ---- */

/* The client is answered when the workers have done what the message asks for. */
void waiters_add(broker_t *b, peer_t *client, const Peach__Preload *message);

/* Answers those who can be answered: workers came, went, or said something. */
void waiters_settle(broker_t *b);

/* The peer goes: it does not wait. */
void waiters_forget(broker_t *b, peer_t *peer);

/* ---- names.c ---- */

/* No worker has this function: appends to text which ones there are, and what was meant
   perhaps. An order of the core. */
void names_suggest(void *shell, const char *function, char *text, size_t size);

/* The names of all preloads, with commas between. */
void names_of_preloads(const broker_t *b, char *text, size_t size);

/* ---- verdicts.c: tasks that are to run at most once ---- */

/* Passes on, and keeps for a client that is to come, what had begun of them. */
void verdicts_take(broker_t *b, const Peach__Unbegun *message);

/* Tells the client what is there about its doubts. */
void verdicts_send(broker_t *b, peer_t *client);
void verdicts_clear(broker_t *b);

/* ---- view.c ---- */

void view_status(broker_t *b, peer_t *peer, uint64_t request);

#endif
