/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "shell.h"

#include "endpoint.h"
#include "version.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const uint64_t default_session_ms = 10000;

enum { MESSAGES_A_TURN = 256, RETRY_MS = 2 };
enum { GOODBYE_MS = 1000 };
enum { RETURN_MS = 3000 }; /* for a worker whose connection closed to come back */

static uint64_t clock_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void say(const broker_t *b, const peer_t *peer, const char *what)
{
    if (!b->options.verbose) return;
    const char *role = peer->role == PEACH__ROLE__ROLE_WORKER ? "worker" : "client";
    fprintf(stderr, "peach-broker: %s %s:%u %s\n", role, peer->host, peer->pid, what);
}

/* ---- sending ---- */

static void note_lost(broker_t *b, peer_t *peer)
{
    if (!node_listed(&peer->lost_node)) list_append(&b->lost, &peer->lost_node);
}

void shell_send(broker_t *b, peer_t *peer, const Peach__Envelope *envelope,
                const wire_frames_t *frames)
{
    if (!peer->connected) return;
    int rc = peer_send(peer, b->router, envelope, frames);
    if (rc == PEACH_E_LOST) note_lost(b, peer);
    if (peer_pending(peer)) shell_dirty(b, peer);
}

void shell_dirty(broker_t *b, peer_t *peer)
{
    if (!node_listed(&peer->dirty_node)) list_append(&b->dirty, &peer->dirty_node);
}

static void error_envelope(Peach__Envelope *envelope, Peach__Error *error, int status,
                           const char *message)
{
    peach__envelope__init(envelope);
    peach__error__init(error);
    error->status = status;
    error->message = (char *)message;
    envelope->body_case = PEACH__ENVELOPE__BODY_ERROR;
    envelope->error = error;
}

void shell_error(broker_t *b, peer_t *peer, int status, const char *message)
{
    Peach__Envelope envelope;
    Peach__Error error;
    error_envelope(&envelope, &error, status, message);
    shell_send(b, peer, &envelope, NULL);
}

/* To whoever is behind the route, who has no session. */
static void answer_stranger(broker_t *b, zmq_msg_t *route, int status, const char *message)
{
    Peach__Envelope envelope;
    Peach__Error error;
    error_envelope(&envelope, &error, status, message);
    wire_send(b->router, route, &envelope, NULL);
}

/* ---- sessions ---- */

static void unroute(broker_t *b, peer_t *peer)
{
    if (!peer->connected) return;
    table_remove(b->routes, zmq_msg_data(&peer->route), zmq_msg_size(&peer->route));
    peer_disconnect(peer);
    list_remove(&peer->dirty_node);
}

static void session_end(broker_t *b, peer_t *peer, const char *cause)
{
    say(b, peer, cause);
    unroute(b, peer);
    table_remove(b->sessions, peer->session, sizeof peer->session);
    library_forget(b, peer);
    if (peer->worker) sched_worker_remove(b->sched, peer->worker, cause);
    if (peer->client) sched_client_remove(b->sched, peer->client);
    peer_destroy(&peer);
}

/* The connection is gone. A worker may come back to its leases; a client submits
   again what it still wants, so nothing is kept for it. */
static void session_detach(broker_t *b, peer_t *peer)
{
    list_remove(&peer->lost_node);
    if (peer->client) {
        session_end(b, peer, "the connection was closed");
        return;
    }
    say(b, peer, "lost its connection");
    unroute(b, peer);
    sched_worker_connected(b->sched, peer->worker, false);
}

static void welcome(broker_t *b, peer_t *peer)
{
    Peach__Envelope envelope = PEACH__ENVELOPE__INIT;
    Peach__Welcome message = PEACH__WELCOME__INIT;
    Peach__Credit credit;
    wire_frames_t frames = {0};
    message.version = WIRE_VERSION;
    message.broker = (ProtobufCBinaryData){sizeof b->id, b->id};
    message.heartbeat_ms = HEARTBEAT_MS;
    message.session_ms = (uint32_t)b->options.session_ms;
    message.max_payload_bytes = b->options.max_payload_bytes;
    message.max_batch = WIRE_MAX_BATCH;
    if (peer->role == PEACH__ROLE__ROLE_CLIENT) {
        work_credit(b, &credit);
        message.credit = &credit;
    } else if (library_items(b, &frames, &message.preloads, &message.n_preloads) != 0) {
        note_lost(b, peer); /* it comes again */
    }
    envelope.body_case = PEACH__ENVELOPE__BODY_WELCOME;
    envelope.welcome = &message;
    shell_send(b, peer, &envelope, &frames);
    library_items_free(message.preloads, message.n_preloads);
    wire_frames_clear(&frames);
}

/* Puts the session where its Hello came from. Takes the route. */
static int session_route(broker_t *b, peer_t *peer, zmq_msg_t *route)
{
    unroute(b, peer);
    list_remove(&peer->lost_node);
    int rc = table_put(b->routes, zmq_msg_data(route), zmq_msg_size(route), peer);
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
static int session_admit(broker_t *b, peer_t *peer, const Peach__Hello *hello)
{
    bool back = peer->worker != NULL;
    welcome(b, peer);
    say(b, peer, back ? "is back" : "joined");
    if (peer->role == PEACH__ROLE__ROLE_CLIENT) {
        peer->client = sched_client_add(b->sched, peer, 1);
        return peer->client ? 0 : PEACH_E_MEMORY;
    }
    int rc = library_register(b, peer, hello->registration);
    if (rc) return rc;
    if (back) sched_worker_reconcile(b->sched, peer->worker, hello->leases, hello->n_leases);
    sched_worker_connected(b->sched, peer->worker, true);
    return 0;
}

static void on_hello(broker_t *b, zmq_msg_t *route, const Peach__Hello *hello)
{
    if (hello->version != WIRE_VERSION) {
        char message[160];
        snprintf(message, sizeof message,
                 "this broker (%s) speaks version %d of the protocol and the peer version %u: "
                 "install the same peach on both",
                 PEACH_VERSION, WIRE_VERSION, hello->version);
        answer_stranger(b, route, PEACH_E_VERSION, message);
        return;
    }
    if (b->draining && hello->role == PEACH__ROLE__ROLE_CLIENT) {
        answer_stranger(b, route, PEACH_E_REFUSED, "the broker is being drained");
        return;
    }
    peer_t *peer = table_get(b->sessions, hello->session.data, hello->session.len);
    if (peer && (peer->client || peer->role != hello->role)) {
        session_end(b, peer, "came back"); /* a client submits again what it wants */
        peer = NULL;
    }
    if (!peer) peer = session_new(b, hello);
    if (!peer)
        answer_stranger(b, route, PEACH_E_MEMORY, peach_status_text(PEACH_E_MEMORY));
    else if (session_route(b, peer, route) != 0 || session_admit(b, peer, hello) != 0)
        session_end(b, peer, "out of memory");
}

static void on_drain(broker_t *b, peer_t *client, const Peach__Drain *drain)
{
    Peach__DrainReply reply = PEACH__DRAIN_REPLY__INIT;
    reply.request = drain->request;
    for (node_t *n = list_first(&b->peers); n; n = list_next(&b->peers, n)) {
        peer_t *peer = LIST_ITEM(n, peer_t, node);
        if (!peer->worker) continue;
        char id[2 * WIRE_SESSION_BYTES + 1];
        sodium_bin2hex(id, sizeof id, peer->session, sizeof peer->session);
        bool named = *drain->worker && strncmp(id, drain->worker, strlen(drain->worker)) == 0;
        bool hosted = *drain->host && strcmp(peer->host, drain->host) == 0;
        if (!named && !hosted && !drain->all) continue;
        sched_worker_drain(b->sched, peer->worker);
        reply.workers++;
    }
    if (drain->broker) b->draining = true;
    Peach__Envelope envelope = PEACH__ENVELOPE__INIT;
    envelope.body_case = PEACH__ENVELOPE__BODY_DRAIN_REPLY;
    envelope.drain_reply = &reply;
    shell_send(b, client, &envelope, NULL);
}

/* ---- the table of state x message: what a session of each role may say. What is
   not in it is answered with an error and changes nothing. ---- */

static void on_client(broker_t *b, peer_t *peer, wire_message_t *message)
{
    const Peach__Envelope *e = wire_envelope(message);
    switch (e->body_case) {
    case PEACH__ENVELOPE__BODY_SUBMIT: work_submit(b, peer, message); break;
    case PEACH__ENVELOPE__BODY_CANCEL: work_cancel(b, peer, e->cancel); break;
    case PEACH__ENVELOPE__BODY_PRELOAD: library_preload(b, peer, message); break;
    case PEACH__ENVELOPE__BODY_STATUS_REQUEST:
        view_status(b, peer, e->status_request->request);
        break;
    case PEACH__ENVELOPE__BODY_DRAIN: on_drain(b, peer, e->drain); break;
    case PEACH__ENVELOPE__BODY_HEARTBEAT: break;
    case PEACH__ENVELOPE__BODY_GOODBYE: session_end(b, peer, "said goodbye"); break;
    default:
        b->bad_messages++;
        shell_error(b, peer, PEACH_E_PROTOCOL, "a client may not send this message");
    }
}

static void on_worker(broker_t *b, peer_t *peer, wire_message_t *message)
{
    const Peach__Envelope *e = wire_envelope(message);
    switch (e->body_case) {
    case PEACH__ENVELOPE__BODY_RESULTS: work_results(b, peer, message); break;
    case PEACH__ENVELOPE__BODY_REGISTRATION: library_register(b, peer, e->registration); break;
    case PEACH__ENVELOPE__BODY_DRAIN: sched_worker_drain(b->sched, peer->worker); break;
    case PEACH__ENVELOPE__BODY_HEARTBEAT: break;
    case PEACH__ENVELOPE__BODY_GOODBYE: session_end(b, peer, "the worker left"); break;
    default:
        b->bad_messages++;
        shell_error(b, peer, PEACH_E_PROTOCOL, "a worker may not send this message");
    }
}

static void on_message(broker_t *b, zmq_msg_t *route, wire_message_t *message)
{
    const Peach__Envelope *e = wire_envelope(message);
    if (e->body_case == PEACH__ENVELOPE__BODY_HELLO) {
        on_hello(b, route, e->hello);
        return;
    }
    peer_t *peer = table_get(b->routes, zmq_msg_data(route), zmq_msg_size(route));
    if (!peer) {
        if (e->body_case != PEACH__ENVELOPE__BODY_GOODBYE)
            answer_stranger(b, route, PEACH_E_NO_SESSION, "say Hello first");
        return;
    }
    peer->heard_ms = b->now_ms;
    if (peer->client)
        on_client(b, peer, message);
    else
        on_worker(b, peer, message);
}

/* One message, if there is one. */
static bool receive(broker_t *b)
{
    zmq_msg_t route;
    wire_message_t *message;
    const char *why;
    zmq_msg_init(&route);
    int rc = wire_receive(b->router, &route, &message, &why);
    if (rc == 0) {
        on_message(b, &route, message);
        wire_message_destroy(&message);
    } else if (rc != PEACH_E_TIMEOUT && rc != PEACH_E_SYSTEM) {
        b->bad_messages++;
        answer_stranger(b, &route, rc, why);
    }
    zmq_msg_close(&route);
    return rc != PEACH_E_TIMEOUT && rc != PEACH_E_SYSTEM;
}

/* Connections that do not speak ZeroMQ never reach the socket; its monitor sees
   them. */
static void count_bad_connections(broker_t *b)
{
    for (;;) {
        zmq_msg_t frame;
        zmq_msg_init(&frame);
        if (zmq_msg_recv(&frame, b->monitor, ZMQ_DONTWAIT) < 0) break;
        bool event = zmq_msg_more(&frame);
        if (event) b->bad_connections++;
        zmq_msg_close(&frame);
    }
}

/* ---- time ---- */

static void flush(broker_t *b)
{
    /* What is still pending after this is tried again: the list's next turn. */
    list_t again;
    list_init(&again);
    for (node_t *n; (n = list_first(&b->dirty)) != NULL;) {
        peer_t *peer = LIST_ITEM(n, peer_t, dirty_node);
        list_remove(n);
        if (peer_flush(peer, b->router) == PEACH_E_LOST)
            note_lost(b, peer);
        else if (peer_pending(peer))
            list_append(&again, &peer->dirty_node);
        if (peer->client && list_empty(&peer->outbox))
            sched_client_hold(b->sched, peer->client, false);
    }
    for (node_t *n; (n = list_first(&again)) != NULL;) {
        list_remove(n);
        list_append(&b->dirty, n);
    }
    for (node_t *n; (n = list_first(&b->lost)) != NULL;)
        session_detach(b, LIST_ITEM(n, peer_t, lost_node));
}

/* A message to everybody shows whose connection is gone (ROUTER_MANDATORY); who
   has been silent for too long is gone. */
static void beat(broker_t *b)
{
    Peach__Envelope envelope = PEACH__ENVELOPE__INIT;
    Peach__Heartbeat heartbeat = PEACH__HEARTBEAT__INIT;
    envelope.body_case = PEACH__ENVELOPE__BODY_HEARTBEAT;
    envelope.heartbeat = &heartbeat;
    node_t *next;
    for (node_t *n = list_first(&b->peers); n; n = next) {
        next = list_next(&b->peers, n);
        peer_t *peer = LIST_ITEM(n, peer_t, node);
        uint64_t silent_ms = b->now_ms - peer->heard_ms;
        if (peer->worker && silent_ms > b->options.session_ms)
            session_end(b, peer, "the worker was silent for too long");
        else if (peer->worker && !peer->connected && silent_ms > RETURN_MS)
            session_end(b, peer, "the worker is gone");
        else if (list_empty(&peer->outbox))
            shell_send(b, peer, &envelope, NULL);
    }
}

/* Clients cut their work by the slots that there are, and stop when the window closes. */
static void tell_credit(broker_t *b)
{
    Peach__Envelope envelope = PEACH__ENVELOPE__INIT;
    Peach__Credit credit;
    work_credit(b, &credit);
    if (credit.slots == b->told_slots && credit.window_tasks == b->told_window) return;
    b->told_slots = credit.slots;
    b->told_window = credit.window_tasks;
    envelope.body_case = PEACH__ENVELOPE__BODY_CREDIT;
    envelope.credit = &credit;
    for (node_t *n = list_first(&b->peers); n; n = list_next(&b->peers, n)) {
        peer_t *peer = LIST_ITEM(n, peer_t, node);
        if (peer->client) shell_send(b, peer, &envelope, NULL);
    }
}

static void keep_time(broker_t *b)
{
    if (b->now_ms - b->ticked_ms >= TICK_MS) {
        b->ticked_ms = b->now_ms;
        sched_tick(b->sched, b->now_ms);
    }
    if (b->now_ms - b->beat_ms >= HEARTBEAT_MS) {
        b->beat_ms = b->now_ms;
        beat(b);
    }
}

static bool finished(const broker_t *b)
{
    sched_counts_t counts;
    sched_counts(b->sched, &counts);
    return b->draining && counts.queued_tasks == 0 && counts.leases == 0 && list_empty(&b->dirty);
}

/* Tells the clients, and waits a little until they have read what was for them: a
   connection that closes takes with it what its owner has not read. */
static void say_goodbye(broker_t *b)
{
    Peach__Envelope envelope = PEACH__ENVELOPE__INIT;
    Peach__Goodbye goodbye = PEACH__GOODBYE__INIT;
    goodbye.reason = "the broker stops";
    envelope.body_case = PEACH__ENVELOPE__BODY_GOODBYE;
    envelope.goodbye = &goodbye;
    for (node_t *n = list_first(&b->peers); n; n = list_next(&b->peers, n)) {
        peer_t *peer = LIST_ITEM(n, peer_t, node);
        if (peer->client) shell_send(b, peer, &envelope, NULL);
    }
    bool waiting = true;
    for (uint64_t end_ms = b->now_ms + GOODBYE_MS; waiting && b->now_ms < end_ms;) {
        zmq_pollitem_t item = {b->router, 0, ZMQ_POLLIN, 0};
        zmq_poll(&item, 1, RETRY_MS);
        b->now_ms = clock_ms();
        while (receive(b)) {
        }
        keep_time(b);
        flush(b);
        waiting = false;
        for (node_t *n = list_first(&b->peers); n; n = list_next(&b->peers, n))
            waiting |= LIST_ITEM(n, peer_t, node)->client != NULL;
    }
}

int broker_run(broker_t *b, int stop_fd)
{
    zmq_pollitem_t items[] = {{b->router, 0, ZMQ_POLLIN, 0},
                              {NULL, stop_fd, ZMQ_POLLIN, 0},
                              {b->monitor, 0, ZMQ_POLLIN, 0}};
    int stops = 0;
    while (!finished(b)) {
        uint64_t due = b->ticked_ms + TICK_MS;
        long wait = due > b->now_ms ? (long)(due - b->now_ms) : 0;
        if (!list_empty(&b->dirty) && wait > RETRY_MS) wait = RETRY_MS;
        if (zmq_poll(items, 3, wait) < 0 && errno != EINTR) return PEACH_E_SYSTEM;
        b->now_ms = clock_ms();
        char byte;
        if (items[1].revents && read(stop_fd, &byte, 1) == 1) {
            if (++stops > 1) break;
            b->draining = true;
        }
        if (items[2].revents) count_bad_connections(b);
        for (int i = 0; i < MESSAGES_A_TURN && receive(b); i++) {
        }
        keep_time(b);
        tell_credit(b);
        flush(b);
    }
    say_goodbye(b);
    return 0;
}

/* ---- life ---- */

static int open_socket(broker_t *b, char *error, size_t size)
{
    const int mandatory = 1, linger = 500, beat_ms = HEARTBEAT_MS, patience_ms = 3 * HEARTBEAT_MS;
    const int queue = 200, backlog = 1024, ipv6 = strchr(b->options.bind, '[') != NULL;
    const int64_t largest =
        (int64_t)(b->options.max_payload_bytes > WIRE_MAX_ENVELOPE ? b->options.max_payload_bytes
                                                                   : WIRE_MAX_ENVELOPE);
    b->context = zmq_ctx_new();
    b->router = b->context ? zmq_socket(b->context, ZMQ_ROUTER) : NULL;
    if (!b->router) {
        snprintf(error, size, "ZeroMQ: %s", zmq_strerror(errno));
        return PEACH_E_SYSTEM;
    }
    zmq_setsockopt(b->router, ZMQ_ROUTER_MANDATORY, &mandatory, sizeof mandatory);
    zmq_setsockopt(b->router, ZMQ_LINGER, &linger, sizeof linger);
    zmq_setsockopt(b->router, ZMQ_HEARTBEAT_IVL, &beat_ms, sizeof beat_ms);
    zmq_setsockopt(b->router, ZMQ_HEARTBEAT_TIMEOUT, &patience_ms, sizeof patience_ms);
    zmq_setsockopt(b->router, ZMQ_SNDHWM, &queue, sizeof queue);
    zmq_setsockopt(b->router, ZMQ_RCVHWM, &queue, sizeof queue);
    zmq_setsockopt(b->router, ZMQ_BACKLOG, &backlog, sizeof backlog);
    zmq_setsockopt(b->router, ZMQ_IPV6, &ipv6, sizeof ipv6);
    zmq_setsockopt(b->router, ZMQ_MAXMSGSIZE, &largest, sizeof largest);
    if (zmq_socket_monitor(b->router, "inproc://monitor",
                           ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL |
                               ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL) != 0 ||
        !(b->monitor = zmq_socket(b->context, ZMQ_PAIR)) ||
        zmq_connect(b->monitor, "inproc://monitor") != 0 ||
        zmq_bind(b->router, b->options.bind) != 0) {
        snprintf(error, size, "cannot bind '%s': %s%s", b->options.bind, zmq_strerror(errno),
                 errno == EADDRINUSE ? " (another broker is there? peach status tells; or choose "
                                       "another port with --bind)"
                                     : "");
        return PEACH_E_SYSTEM;
    }
    size_t length = sizeof b->endpoint;
    zmq_getsockopt(b->router, ZMQ_LAST_ENDPOINT, b->endpoint, &length);
    return 0;
}

broker_t *broker_new(const broker_options_t *options, char *error, size_t error_size)
{
    endpoints_t bind;
    if (endpoints_parse(&bind, options->bind, error, error_size) != 0 ||
        endpoints_check_exposure(&bind, options->insecure, error, error_size) != 0)
        return NULL;
    broker_t *b = calloc(1, sizeof *b);
    snprintf(error, error_size, "out of memory");
    if (!b) return NULL;
    b->options = *options;
    if (!b->options.session_ms) b->options.session_ms = default_session_ms;
    if (!b->options.max_payload_bytes) b->options.max_payload_bytes = WIRE_DEFAULT_MAX_PAYLOAD;
    list_init(&b->peers);
    list_init(&b->dirty);
    list_init(&b->lost);
    list_init(&b->preloads);
    list_init(&b->waiters);
    sched_config_t config = {0};
    randombytes_buf(b->id, sizeof b->id);
    randombytes_buf(&config.seed, sizeof config.seed);
    randombytes_buf(&config.first_lease, sizeof config.first_lease);
    b->started_ms = b->now_ms = clock_ms();
    b->routes = table_new(&config.seed);
    b->sessions = table_new(&config.seed);
    b->sched = sched_new(&config, &shell_ops, b);
    if (!b->routes || !b->sessions || !b->sched || open_socket(b, error, error_size) != 0)
        broker_destroy(&b);
    else
        sched_tick(b->sched, b->now_ms);
    return b;
}

const char *broker_endpoint(const broker_t *b) { return b->endpoint; }

void broker_destroy(broker_t **self_p)
{
    broker_t *b = *self_p;
    *self_p = NULL;
    if (!b) return;
    sched_destroy(&b->sched);
    for (node_t *n; (n = list_first(&b->peers)) != NULL;) {
        peer_t *peer = LIST_ITEM(n, peer_t, node);
        library_forget(b, peer);
        peer_destroy(&peer);
    }
    library_clear(b);
    table_destroy(&b->routes);
    table_destroy(&b->sessions);
    if (b->router) zmq_socket_monitor(b->router, NULL, 0); /* before who reads its events */
    if (b->monitor) zmq_close(b->monitor);
    if (b->router) zmq_close(b->router);
    if (b->context) zmq_ctx_term(b->context);
    free(b);
}
