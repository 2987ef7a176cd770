/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "shell.h"

#include "log.h"
#include "version.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>

static void say(const peer_t *peer, const char *what)
{
    const char *role = peer->role == PEACH__ROLE__ROLE_WORKER ? "worker" : "client";
    log_say(LOG_DETAIL_ONLY, "%s %s:%u %s", role, peer->host, peer->pid, what);
}

/* ---- ends ---- */

uint64_t session_return_ms(const broker_t *b) { return b->options.session_ms * 3 / 10; }

static void unroute(broker_t *b, peer_t *peer)
{
    list_remove(&peer->lost_node);
    if (!peer->connected) return;
    table_remove(b->routes, zmq_msg_data(&peer->route), zmq_msg_size(&peer->route));
    peer_disconnect(peer);
    list_remove(&peer->dirty_node);
}

void session_leave(broker_t *b, peer_t *worker)
{
    sched_worker_leave(b->sched, worker->worker);
    worker->worker = NULL;
    session_end(b, worker, "the worker left");
}

void session_end(broker_t *b, peer_t *peer, const char *cause)
{
    say(peer, cause);
    unroute(b, peer);
    table_remove(b->sessions, peer->session, sizeof peer->session);
    waiters_forget(b, peer);
    blob_forget(b, peer);
    if (peer->worker) sched_worker_remove(b->sched, peer->worker, cause);
    if (peer->client) {
        sched_client_remove(b->sched, peer->client);
        b->client_count--;
    }
    bool loads = peer->role == PEACH__ROLE__ROLE_WORKER;
    peer_destroy(&peer);
    if (loads) library_judge(b);
}

/* Its work goes on meanwhile, and its results are kept. */
void session_detach(broker_t *b, peer_t *peer)
{
    say(peer, "lost its connection");
    unroute(b, peer);
    peer->gone_ms = b->now_ms + session_return_ms(b);
    if (peer->worker) sched_worker_connected(b->sched, peer->worker, false);
}

void session_end_of(broker_t *b, const char *host, uint32_t pid)
{
    node_t *next;
    for (node_t *n = list_first(&b->peers); n; n = next) {
        next = list_next(&b->peers, n);
        peer_t *peer = LIST_ITEM(n, peer_t, node);
        if (peer->client && peer->depth > 0 && peer->pid == pid && strcmp(peer->host, host) == 0)
            session_end(b, peer, "ended with its task");
    }
}

/* ---- beginnings ---- */

static void welcome(broker_t *b, peer_t *peer, bool resumed)
{
    Peach__Envelope envelope = PEACH__ENVELOPE__INIT;
    Peach__Welcome message = PEACH__WELCOME__INIT;
    Peach__Credit credit;
    wire_frames_t frames = {0};
    message.version = WIRE_VERSION;
    message.token = (ProtobufCBinaryData){sizeof peer->token, peer->token};
    message.heartbeat_ms = (uint32_t)b->options.heartbeat_ms;
    message.session_ms = (uint32_t)b->options.session_ms;
    message.max_payload_bytes = b->options.max_payload_bytes;
    message.max_batch = WIRE_MAX_BATCH;
    message.resumed = resumed;
    message.place = (char *)block_place();
    message.received = peer->told_received = peer->received;
    int rc = 0;
    if (peer->role == PEACH__ROLE__ROLE_CLIENT) {
        work_credit(b, &credit);
        message.credit = &credit;
    } else {
        rc = library_items(b, &frames, &message.preloads, &message.n_preloads);
    }
    envelope.body_case = PEACH__ENVELOPE__BODY_WELCOME;
    envelope.welcome = &message;
    if (rc == 0) rc = peer_greet(peer, b->router, &envelope, &frames);
    if (rc) shell_lost(b, peer); /* it comes again */
    library_items_free(message.preloads, message.n_preloads);
    wire_frames_clear(&frames);
    if (peer_pending(peer)) shell_dirty(b, peer);
}

/* Puts the session where its Hello came from. Takes the route. */
static int session_route(broker_t *b, peer_t *peer, zmq_msg_t *route, const Peach__Hello *hello)
{
    int rc = peer_hello(peer, hello);
    if (rc == 0) rc = table_put(b->routes, zmq_msg_data(route), zmq_msg_size(route), peer);
    if (rc == 0) peer_connect(peer, route);
    peer->heard_ms = b->now_ms;
    return rc;
}

static peer_t *session_new(broker_t *b, const Peach__Hello *hello)
{
    peer_t *peer = peer_new(hello);
    if (peer && table_put(b->sessions, peer->session, sizeof peer->session, peer) != 0)
        peer_destroy(&peer);
    if (peer) list_append(&b->peers, &peer->node);
    return peer;
}

/* The core may give a worker orders as soon as it knows it: the Welcome goes first. */
static int session_admit(broker_t *b, peer_t *peer, const Peach__Hello *hello, bool resumed)
{
    welcome(b, peer, resumed);
    say(peer, resumed ? "is back" : "joined");
    if (peer->role == PEACH__ROLE__ROLE_CLIENT) {
        verdicts_send(b, peer);
        if (resumed) return 0;
        if (!(peer->client = sched_client_add(b->sched, peer))) return PEACH_E_MEMORY;
        b->client_count++;
        return 0;
    }
    /* One that is back gets nothing before it said what it holds. */
    peer->settling = resumed;
    if (resumed) sched_worker_connected(b->sched, peer->worker, false);
    return library_register(b, peer, hello->registration);
}

bool session_settle(broker_t *b, peer_t *worker, const Peach__Leases *leases)
{
    if (!worker->settling) return false;
    worker->settling = false;
    sched_worker_reconcile(b->sched, worker->worker, leases->leases, leases->n_leases);
    sched_worker_connected(b->sched, worker->worker, true);
    return true;
}

/* The session that this Hello wants to go on with, if it can. One that cannot ends. */
static peer_t *session_resume(broker_t *b, const Peach__Hello *hello)
{
    peer_t *peer = table_get(b->sessions, hello->session.data, hello->session.len);
    if (!peer) return NULL;
    /* It has our Welcome: without it the session that it means is an earlier one. */
    bool ours = hello->token.len == sizeof peer->token &&
                memcmp(hello->token.data, peer->token, sizeof peer->token) == 0;
    unroute(b, peer);
    if (ours && peer->role == hello->role && peer_resume(peer, hello->received)) return peer;
    session_end(b, peer, "began anew");
    return NULL;
}

static bool refused(broker_t *b, zmq_msg_t *route, const Peach__Hello *hello)
{
    if (hello->version != WIRE_VERSION) {
        char message[160];
        snprintf(message, sizeof message,
                 "this broker (%s) speaks version %d of the protocol and the peer version %u: "
                 "install the same peach on both",
                 PEACH_VERSION, WIRE_VERSION, hello->version);
        shell_answer_stranger(b, route, PEACH_E_VERSION, message);
        return true;
    }
    const peer_t *known = table_get(b->sessions, hello->session.data, hello->session.len);
    if (known && hello->attempt > 0 && hello->attempt <= known->attempt) return true; /* old */
    if (!b->draining || hello->role != PEACH__ROLE__ROLE_CLIENT || known) return false;
    shell_answer_stranger(b, route, PEACH_E_REFUSED, "the broker is being drained");
    return true;
}

void session_hello(broker_t *b, zmq_msg_t *route, const Peach__Hello *hello)
{
    if (refused(b, route, hello)) return;
    /* A connection has one session: what it had before is left behind. */
    peer_t *before = table_get(b->routes, zmq_msg_data(route), zmq_msg_size(route));
    if (before && memcmp(before->session, hello->session.data, sizeof before->session) != 0)
        session_detach(b, before);
    peer_t *peer = session_resume(b, hello);
    bool resumed = peer != NULL;
    if (!peer) peer = session_new(b, hello);
    if (!peer)
        shell_answer_stranger(b, route, PEACH_E_MEMORY, peach_status_text(PEACH_E_MEMORY));
    else if (session_route(b, peer, route, hello) != 0 ||
             session_admit(b, peer, hello, resumed) != 0)
        session_end(b, peer, "out of memory");
}

/* ---- time ---- */

void session_heartbeat(broker_t *b, peer_t *peer)
{
    Peach__Envelope envelope = PEACH__ENVELOPE__INIT;
    Peach__Heartbeat message = PEACH__HEARTBEAT__INIT;
    message.received = peer->told_received = peer->received;
    peer->unacknowledged_bytes = 0;
    envelope.body_case = PEACH__ENVELOPE__BODY_HEARTBEAT;
    envelope.heartbeat = &message;
    shell_send(b, peer, &envelope, NULL);
}

void sessions_keep(broker_t *b)
{
    for (node_t *n = list_first(&b->peers); n; n = list_next(&b->peers, n)) {
        peer_t *peer = LIST_ITEM(n, peer_t, node);
        if (peer->worker && peer->connected && peer->received != peer->told_received)
            session_heartbeat(b, peer);
    }
}

/* A message to everybody shows whose connection is gone (ROUTER_MANDATORY). */
void sessions_beat(broker_t *b)
{
    node_t *next;
    for (node_t *n = list_first(&b->peers); n; n = next) {
        next = list_next(&b->peers, n);
        peer_t *peer = LIST_ITEM(n, peer_t, node);
        if (!peer->connected && b->now_ms >= peer->gone_ms)
            session_end(b, peer, peer->worker ? "the worker is gone" : "is gone");
        else if (peer->worker && b->now_ms - peer->heard_ms > b->options.session_ms)
            session_end(b, peer, "the worker was silent for too long");
        else if (peer->connected && !peer_pending(peer))
            session_heartbeat(b, peer);
    }
}
