/* The broker's inside, shared by broker.c (the loop and sessions), work.c (tasks
   and results), library.c (preloads) and view.c (status).

   This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#ifndef PEACH_SHELL_H
#define PEACH_SHELL_H

#include "broker.h"
#include "peer.h"

enum { HEARTBEAT_MS = 1000, TICK_MS = 100 };

/* A preload that every worker is to load, now or when it comes. */
typedef struct {
    node_t node;
    Peach__PreloadItem *item; /* without its source */
    payload_t *source;
} preload_t;

/* A client that waits for preloads to be ready. */
typedef struct {
    node_t node;
    peer_t *client;
    uint64_t request;
    Peach__Preload *message;
} waiter_t;

struct broker {
    broker_options_t options;
    char endpoint[256];
    uint8_t id[WIRE_SESSION_BYTES];
    void *context, *router, *monitor;
    sched_t *sched;
    table_t *routes, *sessions; /* routing id, session -> peer_t */
    list_t peers, dirty;
    list_t preloads, waiters;
    uint64_t started_ms, now_ms, ticked_ms, beat_ms;
    uint64_t bad_messages, bad_connections;
    uint32_t told_slots, told_window; /* to the clients */
    bool draining;
    list_t lost; /* peers that could not be sent to: orders must not call the core */
};

/* ---- broker.c ---- */

/* Sends now or later; a lost connection is noticed and handled afterwards. */
void shell_send(broker_t *b, peer_t *peer, const Peach__Envelope *envelope,
                const wire_frames_t *frames);

/* Notes that the peer has something in its batch. */
void shell_dirty(broker_t *b, peer_t *peer);

/* Tells the peer that its message was refused. */
void shell_error(broker_t *b, peer_t *peer, int status, const char *message);

/* ---- work.c ---- */

extern const sched_ops_t shell_ops;

void work_submit(broker_t *b, peer_t *client, wire_message_t *message);
void work_results(broker_t *b, peer_t *worker, wire_message_t *message);
void work_cancel(broker_t *b, peer_t *client, const Peach__Cancel *cancel);
void work_credit(const broker_t *b, Peach__Credit *credit);

/* ---- library.c ---- */

/* Remembers the client's preloads, sends them to the workers, and answers when
   they are ready or one failed. */
void library_preload(broker_t *b, peer_t *client, wire_message_t *message);

/* The Welcome's list; free it with library_items_free. */
int library_items(broker_t *b, wire_frames_t *frames, Peach__PreloadItem ***items, size_t *count);
void library_items_free(Peach__PreloadItem **items, size_t count);

/* Takes a worker's new registration over, tells the core, and answers who waits. */
int library_register(broker_t *b, peer_t *worker, const Peach__Registration *registration);

/* Answers those who wait and can be answered: workers came or went. */
void library_settle(broker_t *b);

/* Forgets all preloads. */
void library_clear(broker_t *b);

/* The peer goes: nobody waits for it, it does not wait. */
void library_forget(broker_t *b, peer_t *peer);

/* Whether the worker has not yet said of a preload whether it has it. */
bool library_loading(const broker_t *b, const peer_t *worker);

/* ---- view.c ---- */

void view_status(broker_t *b, peer_t *peer, uint64_t request);

#endif
