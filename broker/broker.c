/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "shell.h"

#include "endpoint.h"
#include "version.h"

#include <errno.h>
#include <malloc.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const uint64_t default_session_ms = 10000, default_heartbeat_ms = 1000;
static const uint64_t default_memory_bytes = (uint64_t)1 << 30;

enum { MESSAGES_A_TURN = 256, RETRY_MS = 2 };
enum { GOODBYE_MS = 1000 };

/* ---- sending ---- */

void shell_lost(broker_t *b, peer_t *peer)
{
    if (!node_listed(&peer->lost_node)) list_append(&b->lost, &peer->lost_node);
}

void shell_send(broker_t *b, peer_t *peer, const Peach__Envelope *envelope,
                const wire_frames_t *frames)
{
    if (!peer->connected) return;
    int rc = peer_send(peer, b->router, envelope, frames);
    if (rc == PEACH_E_LOST) shell_lost(b, peer);
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

void shell_answer_stranger(broker_t *b, zmq_msg_t *route, int status, const char *message)
{
    Peach__Envelope envelope;
    Peach__Error error;
    error_envelope(&envelope, &error, status, message);
    wire_send(b->router, route, &envelope, NULL);
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
    library_judge(b);
    if (drain->broker) b->draining = true;
    Peach__Envelope envelope = PEACH__ENVELOPE__INIT;
    envelope.body_case = PEACH__ENVELOPE__BODY_DRAIN_REPLY;
    envelope.drain_reply = &reply;
    shell_send(b, client, &envelope, NULL);
}

/* ---- the table of state x message: what a session of each role may say. What is
   not in it is answered with an error and changes nothing. ---- */

static void refuse(broker_t *b, peer_t *peer, const char *why)
{
    b->bad_messages++;
    shell_error(b, peer, PEACH_E_PROTOCOL, why);
}

static void on_acknowledgement(broker_t *b, peer_t *client, const Peach__Heartbeat *heartbeat)
{
    if (outbox_acknowledge(&client->outbox, heartbeat->received))
        work_hold(b, client);
    else
        refuse(b, client, "it acknowledges what was not sent");
}

/* Whether the message is to be taken. After one that is missing the peer says Hello
   again, and sends what is missing. */
static bool is_next(broker_t *b, peer_t *peer, uint64_t serial)
{
    inbox_verdict_t verdict = inbox_judge(&peer->received, serial);
    if (verdict == INBOX_GAP)
        shell_error(b, peer, PEACH_E_NO_SESSION, "a message is missing: say Hello again");
    return verdict == INBOX_TAKE;
}

static void on_results(broker_t *b, peer_t *worker, wire_message_t *message)
{
    if (!is_next(b, worker, wire_envelope(message)->results->serial)) return;
    work_results(b, worker, message);
    worker->unacknowledged_bytes += wire_message_bytes(message); /* and what it opened */
    if (worker->unacknowledged_bytes > ACKNOWLEDGE_BYTES) session_heartbeat(b, worker);
}

static void on_client(broker_t *b, peer_t *peer, wire_message_t *message)
{
    const Peach__Envelope *e = wire_envelope(message);
    switch (e->body_case) {
    case PEACH__ENVELOPE__BODY_SUBMIT:
        if (is_next(b, peer, e->submit->serial)) work_submit(b, peer, message);
        break;
    case PEACH__ENVELOPE__BODY_CANCEL: work_cancel(b, peer, e->cancel); break;
    case PEACH__ENVELOPE__BODY_PUT: blob_put(b, peer, message); break;
    case PEACH__ENVELOPE__BODY_DROP: blob_drop(b, peer, e->drop); break;
    case PEACH__ENVELOPE__BODY_PRELOAD: library_preload(b, peer, message); break;
    case PEACH__ENVELOPE__BODY_STATUS_REQUEST:
        view_status(b, peer, e->status_request->request);
        break;
    case PEACH__ENVELOPE__BODY_DRAIN: on_drain(b, peer, e->drain); break;
    case PEACH__ENVELOPE__BODY_CANCEL_JOBS: work_cancel_jobs(b, peer, e->cancel_jobs); break;
    case PEACH__ENVELOPE__BODY_HEARTBEAT: on_acknowledgement(b, peer, e->heartbeat); break;
    case PEACH__ENVELOPE__BODY_GOODBYE: session_end(b, peer, "said goodbye"); break;
    default: refuse(b, peer, "a client may not send this message");
    }
}

static void on_worker(broker_t *b, peer_t *peer, wire_message_t *message)
{
    const Peach__Envelope *e = wire_envelope(message);
    switch (e->body_case) {
    case PEACH__ENVELOPE__BODY_RESULTS: on_results(b, peer, message); break;
    case PEACH__ENVELOPE__BODY_LOGS: work_logs(b, peer, e->logs); break;
    case PEACH__ENVELOPE__BODY_LEASES:
        if (!session_settle(b, peer, e->leases)) refuse(b, peer, "nobody asked for its leases");
        break;
    case PEACH__ENVELOPE__BODY_REGISTRATION: library_register(b, peer, e->registration); break;
    case PEACH__ENVELOPE__BODY_PRELOAD: library_restore(b, peer, message); break;
    case PEACH__ENVELOPE__BODY_DRAIN:
        sched_worker_drain(b->sched, peer->worker);
        library_judge(b);
        break;
    case PEACH__ENVELOPE__BODY_DROP: blob_drop(b, peer, e->drop); break;
    case PEACH__ENVELOPE__BODY_UNBEGUN: verdicts_take(b, e->unbegun); break;
    case PEACH__ENVELOPE__BODY_HEARTBEAT: break;
    case PEACH__ENVELOPE__BODY_GOODBYE: session_leave(b, peer); break;
    default: refuse(b, peer, "a worker may not send this message");
    }
}

void broker_message(broker_t *b, zmq_msg_t *route, wire_message_t *message)
{
    const Peach__Envelope *e = wire_envelope(message);
    if (e->body_case == PEACH__ENVELOPE__BODY_HELLO) {
        session_hello(b, route, e->hello);
        return;
    }
    peer_t *peer = table_get(b->routes, zmq_msg_data(route), zmq_msg_size(route));
    if (!peer) {
        if (e->body_case != PEACH__ENVELOPE__BODY_GOODBYE)
            shell_answer_stranger(b, route, PEACH_E_NO_SESSION, "say Hello first");
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
        broker_message(b, &route, message);
        wire_message_destroy(&message);
    } else if (rc != PEACH_E_TIMEOUT && rc != PEACH_E_SYSTEM) {
        b->bad_messages++;
        shell_answer_stranger(b, &route, rc, why);
    }
    zmq_msg_close(&route);
    return rc != PEACH_E_TIMEOUT && rc != PEACH_E_SYSTEM;
}

/* ---- time ---- */

void shell_flush(broker_t *b)
{
    /* What is still pending after this is tried again: the list's next turn. */
    list_t again;
    list_init(&again);
    for (node_t *n; (n = list_first(&b->dirty)) != NULL;) {
        peer_t *peer = LIST_ITEM(n, peer_t, dirty_node);
        list_remove(n);
        if (peer_flush(peer, b->router) == PEACH_E_LOST && peer->connected)
            shell_lost(b, peer);
        else if (peer_pending(peer))
            list_append(&again, &peer->dirty_node);
        if (peer->client) work_hold(b, peer);
    }
    for (node_t *n; (n = list_first(&again)) != NULL;) {
        list_remove(n);
        list_append(&b->dirty, n);
    }
    for (node_t *n; (n = list_first(&b->lost)) != NULL;)
        session_detach(b, LIST_ITEM(n, peer_t, lost_node));
}

/* Clients cut their work by the slots that there are, and stop when the window closes. */
static void tell_credit(broker_t *b)
{
    Peach__Envelope envelope = PEACH__ENVELOPE__INIT;
    Peach__Credit credit;
    work_credit(b, &credit);
    if (credit.slots == b->told.slots && credit.window_tasks == b->told.window_tasks &&
        credit.window_bytes == b->told.window_bytes)
        return;
    b->told = credit;
    envelope.body_case = PEACH__ENVELOPE__BODY_CREDIT;
    envelope.credit = &credit;
    for (node_t *n = list_first(&b->peers); n; n = list_next(&b->peers, n)) {
        peer_t *peer = LIST_ITEM(n, peer_t, node);
        if (peer->client) shell_send(b, peer, &envelope, NULL);
    }
}

/* Thousands of connections that have gone, or a burst of payloads, leave free memory
   in the allocator: the system gets it back. */
static void keep_memory(broker_t *b)
{
    enum { TRIM_MS = 2000, TRIM_BYTES = 8 << 20 };
    if (b->now_ms - b->trimmed_ms < TRIM_MS) return;
    b->trimmed_ms = b->now_ms;
    if (mallinfo2().fordblks > TRIM_BYTES) malloc_trim(0);
}

static void keep_time(broker_t *b)
{
    keep_memory(b);

    if (b->now_ms - b->ticked_ms >= TICK_MS) {
        b->ticked_ms = b->now_ms;
        sched_tick(b->sched, b->now_ms);
        sessions_keep(b);
    }
    if (b->now_ms - b->beat_ms >= b->options.heartbeat_ms) {
        b->beat_ms = b->now_ms;
        sessions_beat(b);
    }
}

/* Whether it is a client that the broker waits for: one that was a task has ended with it. */
static bool is_awaited(const peer_t *peer) { return peer->client && peer->depth == 0; }

static bool finished(const broker_t *b)
{
    sched_counts_t counts;
    sched_counts(b->sched, &counts);
    if (!b->draining || counts.queued_tasks || counts.leases || !list_empty(&b->dirty))
        return false;
    for (node_t *n = list_first(&b->peers); n; n = list_next(&b->peers, n)) {
        const peer_t *peer = LIST_ITEM(n, peer_t, node);
        if (is_awaited(peer) && !peer->connected && peer->outbox.bytes > 0)
            return false; /* it comes */
    }
    return true;
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
        b->now_ms = awake_ms(&b->clock);
        while (receive(b)) {
        }
        keep_time(b);
        shell_flush(b);
        waiting = false;
        for (node_t *n = list_first(&b->peers); n; n = list_next(&b->peers, n))
            waiting |= is_awaited(LIST_ITEM(n, peer_t, node));
    }
}

int broker_run(broker_t *b, int stop_fd)
{
    void *const sockets[] = {b->router, NULL, NULL};
    struct pollfd items[] = {
        {-1, POLLIN, 0}, {stop_fd, POLLIN, 0}, {wire_fd(b->monitor), POLLIN, 0}};
    int stops = 0;
    listener_events(b); /* so that the descriptor tells of the next one */
    while (!finished(b)) {
        uint64_t due = b->ticked_ms + TICK_MS;
        int wait = due > b->now_ms ? (int)(due - b->now_ms) : 0;
        if (!list_empty(&b->dirty) && wait > RETRY_MS) wait = RETRY_MS;
        if (wire_poll(sockets, items, 3, wait) < 0 && errno != EINTR) return PEACH_E_SYSTEM;
        b->now_ms = awake_ms(&b->clock);
        char byte;
        if (items[1].revents && read(stop_fd, &byte, 1) == 1) {
            if (++stops > 1) break;
            b->draining = true;
        }
        if (items[2].revents) listener_events(b);
        for (int i = 0; i < MESSAGES_A_TURN && receive(b); i++) {
        }
        keep_time(b);
        tell_credit(b);
        shell_flush(b);
    }
    say_goodbye(b);
    return 0;
}

/* ---- life ---- */

int shell_init(broker_t *b)
{
    sched_config_t config = {0};
    if (!b->options.session_ms) b->options.session_ms = default_session_ms;
    if (!b->options.heartbeat_ms) b->options.heartbeat_ms = default_heartbeat_ms;
    if (!b->options.memory_bytes) b->options.memory_bytes = default_memory_bytes;
    if (!b->options.max_payload_bytes) b->options.max_payload_bytes = WIRE_DEFAULT_MAX_PAYLOAD;
    list_init(&b->peers);
    list_init(&b->dirty);
    list_init(&b->lost);
    list_init(&b->preloads);
    list_init(&b->unloaded);
    list_init(&b->waiters);
    list_init(&b->verdicts);
    randombytes_buf(&config.seed, sizeof config.seed);
    randombytes_buf(&config.first_lease, sizeof config.first_lease);
    b->started_ms = b->now_ms = awake_ms(&b->clock);
    b->seed = config.seed;
    b->blobs = idmap_new(&config.seed);
    b->routes = table_new(&config.seed);
    b->sessions = table_new(&config.seed);
    b->sched = sched_new(&config, &shell_ops, b);
    if (!b->routes || !b->sessions || !b->sched || !b->blobs) return PEACH_E_MEMORY;
    sched_tick(b->sched, b->now_ms);
    return 0;
}

/* The one endpoint that is to be bound, as ZeroMQ can bind it. */
static int read_bind(endpoints_t *bind, const broker_options_t *options, char *error, size_t size)
{
    int rc = endpoints_parse(bind, options->bind, error, size);
    if (rc == 0 && bind->count > 1) {
        snprintf(error, size, "'%s': a broker listens on one endpoint", options->bind);
        rc = PEACH_E_ARGUMENT;
    }
    if (rc == 0) rc = endpoint_for_bind(bind->text[0], error, size);
    return rc ? rc : endpoints_check_exposure(bind, options->insecure, error, size);
}

broker_t *broker_new(const broker_options_t *options, int *status, char *error, size_t error_size)
{
    endpoints_t bind;
    if ((*status = read_bind(&bind, options, error, error_size)) != 0) return NULL;
    broker_t *b = calloc(1, sizeof *b);
    *status = PEACH_E_MEMORY;
    snprintf(error, error_size, "out of memory");
    if (!b) return NULL;
    b->options = *options;
    b->options.bind = bind.text[0];
    if ((*status = shell_init(b)) != 0 || (*status = listener_open(b, error, error_size)) != 0)
        broker_destroy(&b);
    else
        b->options.bind = b->endpoint;
    return b;
}

const char *broker_endpoint(const broker_t *b) { return b->endpoint; }

void shell_clear(broker_t *b)
{
    sched_destroy(&b->sched);
    for (node_t *n; (n = list_first(&b->peers)) != NULL;) {
        peer_t *peer = LIST_ITEM(n, peer_t, node);
        waiters_forget(b, peer);
        blob_forget(b, peer);
        peer_destroy(&peer);
    }
    library_clear(b);
    verdicts_clear(b);
    table_destroy(&b->routes);
    table_destroy(&b->sessions);
    idmap_destroy(&b->blobs);
}

void broker_destroy(broker_t **self_p)
{
    broker_t *b = *self_p;
    *self_p = NULL;
    if (!b) return;
    shell_clear(b);
    if (b->router) zmq_socket_monitor(b->router, NULL, 0); /* before who reads its events */
    if (b->monitor) zmq_close(b->monitor);
    if (b->router) zmq_close(b->router);
    if (b->context) zmq_ctx_term(b->context);
    free(b);
}
