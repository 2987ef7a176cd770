/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "inside.h"

#include "version.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FULL_BYTES = 32 << 20, LINES_BYTES = 4 << 20, RESOLVE_MS = 1000, QUIET_MS = 3000 };

/* Hello is to be said again; on a new connection. */
static void link_lost(worker_t *w, link_t *link)
{
    if (link->welcomed) link->lost_ms = w->now_ms;
    link->welcomed = false;
    link->hello_ms = 0;
}

static void close_sockets(void *socket, void *monitor)
{
    /* First the events, then who reads them: ZeroMQ's I/O thread would wait for ever to
       tell of one that nobody reads. */
    if (socket) zmq_socket_monitor(socket, NULL, 0);
    if (monitor) zmq_close(monitor);
    if (socket) zmq_close(socket);
}

/* Says what is wrong with the link, once. */
static void complain(link_t *link, const char *text)
{
    if (strncmp(link->complaint, text, sizeof link->complaint - 1) == 0) return;
    snprintf(link->complaint, sizeof link->complaint, "%s", text);
    log_say(LOG_WARN, "%s: %s", link->endpoint, text);
}

/* A new connection, on sockets of its own: nothing of the one before is read after what
   it brings. When it cannot be made the old one stays, and ZeroMQ reconnects. */
static int open_sockets(worker_t *w, link_t *link, bool ipv6)
{
    /* Immediate: nothing is queued for a broker that is not there, so what it gets
       after a reconnect is what is true then. */
    const int immediate = 1, linger = 500, beat_ms = DEFAULT_BEAT_MS, six = ipv6;
    const int patience_ms = DEFAULT_SESSION_MS / 2;
    const int soon_ms = 50, late_ms = 1000, queue = 1000;
    char name[64];
    void *socket = zmq_socket(w->context, ZMQ_DEALER);
    void *monitor = zmq_socket(w->context, ZMQ_PAIR);
    snprintf(name, sizeof name, "inproc://link-%llu", (unsigned long long)++w->last_monitor);
    if (!socket || !monitor) {
        close_sockets(socket, monitor);
        return PEACH_E_SYSTEM;
    }
    zmq_setsockopt(socket, ZMQ_IMMEDIATE, &immediate, sizeof immediate);
    zmq_setsockopt(socket, ZMQ_LINGER, &linger, sizeof linger);
    zmq_setsockopt(socket, ZMQ_HEARTBEAT_IVL, &beat_ms, sizeof beat_ms);
    zmq_setsockopt(socket, ZMQ_HEARTBEAT_TIMEOUT, &patience_ms, sizeof patience_ms);
    zmq_setsockopt(socket, ZMQ_RECONNECT_IVL, &soon_ms, sizeof soon_ms);
    zmq_setsockopt(socket, ZMQ_RECONNECT_IVL_MAX, &late_ms, sizeof late_ms);
    zmq_setsockopt(socket, ZMQ_RCVHWM, &queue, sizeof queue);
    zmq_setsockopt(socket, ZMQ_SNDHWM, &queue, sizeof queue);
    zmq_setsockopt(socket, ZMQ_IPV6, &six, sizeof six);
    if (zmq_socket_monitor(socket, name, ZMQ_EVENT_DISCONNECTED) != 0 ||
        zmq_connect(monitor, name) != 0 || zmq_connect(socket, link->endpoint) != 0) {
        close_sockets(socket, monitor);
        return PEACH_E_SYSTEM;
    }
    zmq_recv(monitor, NULL, 0, ZMQ_DONTWAIT); /* so that its descriptor tells of an event */
    close_sockets(link->socket, link->monitor);
    link->socket = socket;
    link->monitor = monitor;
    return 0;
}

/* Goes on once the host's address is known. */
static int connect_resolved(worker_t *w, link_t *link)
{
    const char *why;
    resolve_state_t state = resolve_state(link->resolve, &why);
    if (state == RESOLVE_PENDING) return 0;
    int rc = 0;
    if (state == RESOLVE_FAILED) {
        complain(link, why);
        link->resolve_ms = w->now_ms + RESOLVE_MS;
    } else {
        rc = open_sockets(w, link, state == RESOLVE_IPV6);
        /* What the old one heard while the name was looked up does not count. */
        link_lost(w, link);
        link->heard_ms = w->now_ms;
    }
    resolve_destroy(&link->resolve);
    return rc;
}

static int link_connect(worker_t *w, link_t *link)
{
    link_lost(w, link);
    link->heard_ms = w->now_ms;
    link->resolve_ms = 0;
    resolve_destroy(&link->resolve);
    if (!(link->resolve = resolve_new(link->endpoint))) return PEACH_E_MEMORY;
    return connect_resolved(w, link);
}

int link_open(worker_t *w, link_t *link, const char *endpoint)
{
    *link = (link_t){.endpoint = strdup(endpoint),
                     .heartbeat_ms = DEFAULT_BEAT_MS,
                     .session_ms = DEFAULT_SESSION_MS,
                     .lost_ms = w->now_ms};
    outbox_init(&link->outbox);
    return link->endpoint ? link_connect(w, link) : PEACH_E_MEMORY;
}

void link_close(link_t *link)
{
    resolve_destroy(&link->resolve);
    close_sockets(link->socket, link->monitor);
    wire_batch_free(&link->batch);
    if (link->endpoint) outbox_clear(&link->outbox);
    free(link->endpoint);
    *link = (link_t){0};
}

static int send_body(link_t *link, const Peach__Envelope *envelope)
{
    return wire_send(link->socket, NULL, envelope, NULL);
}

bool link_send(link_t *link, const Peach__Envelope *envelope, const wire_frames_t *frames)
{
    if (!link->known) return false;
    int rc = PEACH_E_TIMEOUT;
    if (link->welcomed && !outbox_pending(&link->outbox))
        rc = wire_send(link->socket, NULL, envelope, frames);
    return rc == 0 || outbox_add_envelope(&link->outbox, envelope, frames) == 0;
}

bool link_takes_lines(const link_t *link) { return link->outbox.loose_bytes < LINES_BYTES; }

/* ---- what we say ---- */

static uint64_t *held_leases(const worker_t *w, const link_t *link, size_t *count)
{
    uint64_t *leases = calloc(w->order_count + 1, sizeof *leases);
    *count = 0;
    if (!leases) return NULL;
    for (node_t *n = list_first(&w->waiting); n; n = list_next(&w->waiting, n))
        if (LIST_ITEM(n, order_t, node)->link == link)
            leases[(*count)++] = LIST_ITEM(n, order_t, node)->lease;
    for (unsigned i = crew_first(w); i < w->seat_count; i++) {
        const list_t *orders = &w->seats[i].orders;
        for (node_t *n = list_first(orders); n; n = list_next(orders, n))
            if (LIST_ITEM(n, order_t, node)->link == link)
                leases[(*count)++] = LIST_ITEM(n, order_t, node)->lease;
    }
    return leases;
}

static void say_hello(worker_t *w, link_t *link)
{
    Peach__Envelope envelope = PEACH__ENVELOPE__INIT;
    Peach__Hello hello = PEACH__HELLO__INIT;
    Peach__Registration registration;
    shelf_register(w, &registration);
    hello.version = WIRE_VERSION;
    hello.role = PEACH__ROLE__ROLE_WORKER;
    hello.session = (ProtobufCBinaryData){sizeof w->session, w->session};
    hello.host = w->host;
    hello.pid = (uint32_t)getpid();
    hello.software = "peach-worker " PEACH_VERSION;
    hello.registration = &registration;
    hello.attempt = ++link->attempt;
    hello.place = (char *)block_place();
    if (link->known) hello.token = (ProtobufCBinaryData){sizeof link->token, link->token};
    envelope.body_case = PEACH__ENVELOPE__BODY_HELLO;
    envelope.hello = &hello;
    if (send_body(link, &envelope) == 0) {
        link->hello_ms = w->now_ms;
        link->told = w->registration;
    }
    shelf_register_free(&registration);
}

void link_register(worker_t *w, link_t *link)
{
    if (!link->welcomed || link->told == w->registration) return;
    Peach__Envelope envelope = PEACH__ENVELOPE__INIT;
    Peach__Registration registration;
    link->told = w->registration;
    shelf_register(w, &registration);
    envelope.body_case = PEACH__ENVELOPE__BODY_REGISTRATION;
    envelope.registration = &registration;
    /* When it does not get through, a new Hello says the same and more. */
    if (send_body(link, &envelope) != 0) link_lost(w, link);
    shelf_register_free(&registration);
}

/* Puts what was added behind the messages that wait. */
static void queue(link_t *link)
{
    if (link->batch.elements > 0)
        outbox_add(&link->outbox, PEACH__ENVELOPE__BODY_RESULTS, &link->batch, true);
}

void link_result(link_t *link, wire_message_t *message, const Peach__Result *result, uint64_t lease,
                 const char *host, uint32_t pid)
{
    Peach__Result out = *result;
    out.id = lease;
    if (!wire_batch_has_room(&link->batch, result->n_segments)) queue(link);
    wire_batch_forward(&link->batch, message, &out, host, pid);
}

void link_failure(link_t *link, uint64_t lease, Peach__Failure *failure)
{
    Peach__Result result = PEACH__RESULT__INIT;
    result.failures = &failure;
    result.n_failures = 1;
    link_result(link, NULL, &result, lease, "", 0);
}

void link_reserve(link_t *link, size_t rows)
{
    if (link->batch.elements + rows > WIRE_MAX_BATCH) queue(link);
}

void link_single(link_t *link, const wire_single_t *result, uint64_t lease)
{
    wire_batch_result(&link->batch, lease, result->elapsed_us, result->payload, result->size);
}

static void flush(link_t *link)
{
    queue(link);
    if (link->welcomed) outbox_send(&link->outbox, link->socket, NULL);
}

void link_goodbye(worker_t *w, link_t *link)
{
    (void)w;
    if (!link->welcomed) return;
    flush(link); /* what it does not take runs again */
    if (outbox_pending(&link->outbox)) return;
    Peach__Envelope envelope = PEACH__ENVELOPE__INIT;
    Peach__Goodbye goodbye = PEACH__GOODBYE__INIT;
    envelope.body_case = PEACH__ENVELOPE__BODY_GOODBYE;
    envelope.goodbye = &goodbye;
    send_body(link, &envelope);
}

bool link_full(const link_t *link)
{
    return link->outbox.bytes + wire_batch_bytes(&link->batch) > FULL_BYTES ||
           wire_batch_full(&link->batch);
}

bool link_settled(const link_t *link)
{
    return !link->welcomed || (link->batch.elements == 0 && link->outbox.bytes == 0);
}

/* The session is over on one side: nobody waits for what we hold. */
static void forget(worker_t *w, link_t *link)
{
    link->known = false;
    orders_forget(w, link);
    blobs_forget(w, link);
    wire_batch_clear(&link->batch);
    outbox_clear(&link->outbox);
    outbox_init(&link->outbox);
}

/* What it does not have comes again, and behind it the leases that we hold. */
static void settle(worker_t *w, link_t *link)
{
    Peach__Envelope envelope = PEACH__ENVELOPE__INIT;
    Peach__Leases leases = PEACH__LEASES__INIT;
    flush(link);
    leases.leases = held_leases(w, link, &leases.n_leases);
    envelope.body_case = PEACH__ENVELOPE__BODY_LEASES;
    envelope.leases = &leases;
    if (leases.leases && outbox_add_envelope(&link->outbox, &envelope, NULL) == 0)
        outbox_send(&link->outbox, link->socket, NULL);
    free(leases.leases);
}

/* ---- what we hear ---- */

static void on_welcome(worker_t *w, link_t *link, wire_message_t *message)
{
    const Peach__Welcome *welcome = wire_envelope(message)->welcome;
    if (welcome->version != WIRE_VERSION) return; /* an Error says so in words */
    if (!link->welcomed) log_say(LOG_NOTE, "connected to %s", link->endpoint);
    *link->complaint = 0;
    bool resumed = welcome->resumed && link->known &&
                   memcmp(link->token, welcome->token.data, sizeof link->token) == 0 &&
                   outbox_rewind(&link->outbox, welcome->received);
    if (!resumed) forget(w, link);
    if (!resumed && welcome->resumed) {
        link->hello_ms = 0; /* it goes on with what we do not know: begin anew */
        return;
    }
    memcpy(link->token, welcome->token.data, sizeof link->token);
    link->welcomed = link->known = true;
    link->batch.frames.shares = *welcome->place && strcmp(welcome->place, block_place()) == 0;
    if (welcome->heartbeat_ms > 0) link->heartbeat_ms = welcome->heartbeat_ms;
    if (welcome->session_ms > 0) link->session_ms = welcome->session_ms;
    if (resumed) settle(w, link);
    verdicts_send(w, link); /* also those of another broker, which ended meanwhile */
    Peach__Preload preload = PEACH__PRELOAD__INIT;
    preload.preloads = welcome->preloads;
    preload.n_preloads = welcome->n_preloads;
    if (welcome->n_preloads > 0) shelf_take(w, message, &preload);
    link_register(w, link); /* what changed since the Hello */
}

static void link_reconnect(worker_t *w, link_t *link, const char *why)
{
    if (link->welcomed) log_say(LOG_NOTE, "%s %s", link->endpoint, why);
    link_lost(w, link);
    link_connect(w, link);
}

static void on_error(worker_t *w, link_t *link, const Peach__Error *error)
{
    if (error->status == PEACH_E_NO_SESSION) {
        if (link->welcomed) link_lost(w, link); /* else it answers what came before Hello */
        return;
    }
    log_say(LOG_FAIL, "%s: %s", link->endpoint, error->message);
    if (error->status == PEACH_E_VERSION) w->failed = w->draining = true;
}

static void on_message(worker_t *w, link_t *link, wire_message_t *message)
{
    const Peach__Envelope *e = wire_envelope(message);
    switch (e->body_case) {
    case PEACH__ENVELOPE__BODY_WELCOME: on_welcome(w, link, message); break;
    case PEACH__ENVELOPE__BODY_ASSIGN: orders_take(w, link, message); break;
    case PEACH__ENVELOPE__BODY_CANCEL: orders_cancel(w, link, e->cancel); break;
    case PEACH__ENVELOPE__BODY_PUT: blobs_take(w, link, message); break;
    case PEACH__ENVELOPE__BODY_DROP: blobs_drop(w, link, e->drop); break;
    case PEACH__ENVELOPE__BODY_PRELOAD: shelf_take(w, message, e->preload); break;
    case PEACH__ENVELOPE__BODY_SOURCE_REQUEST:
        shelf_tell_sources(w, link, e->source_request);
        break;
    case PEACH__ENVELOPE__BODY_GOODBYE:
        log_say(LOG_NOTE, "%s drained this worker", link->endpoint);
        link->drained = true;
        break;
    case PEACH__ENVELOPE__BODY_ERROR: on_error(w, link, e->error); break;
    case PEACH__ENVELOPE__BODY_HEARTBEAT:
        outbox_acknowledge(&link->outbox, e->heartbeat->received);
        break;
    default: break; /* what a worker has no use for */
    }
}

void link_watch(worker_t *w, link_t *link)
{
    bool lost = false;
    for (int rc = 0; rc >= 0;) {
        zmq_msg_t frame;
        zmq_msg_init(&frame);
        rc = zmq_msg_recv(&frame, link->monitor, ZMQ_DONTWAIT);
        zmq_msg_close(&frame);
        lost |= rc >= 0;
    }
    if (lost) link_reconnect(w, link, "is lost");
}

void link_receive(worker_t *w, link_t *link)
{
    enum { MESSAGES_A_TURN = 64 };
    for (int i = 0; i < MESSAGES_A_TURN && link->socket; i++) {
        wire_message_t *message;
        const char *why;
        int rc = wire_receive(link->socket, NULL, &message, &why);
        if (rc == PEACH_E_TIMEOUT || rc == PEACH_E_SYSTEM) return;
        link->heard_ms = w->now_ms;
        if (rc) {
            log_say(LOG_WARN, "%s sent what is no message: %s", link->endpoint, why);
            continue;
        }
        on_message(w, link, message);
        wire_message_destroy(&message);
    }
}

void link_keep(worker_t *w, link_t *link)
{
    if (link->resolve)
        connect_resolved(w, link);
    else if (link->resolve_ms && w->now_ms >= link->resolve_ms)
        link_connect(w, link);
    flush(link);
    link_register(w, link);
    /* Half open, or the broker hangs: a new connection shows which. */
    bool silent = w->now_ms - link->heard_ms > link->session_ms / 2;
    if (silent && !link->resolve) link_reconnect(w, link, "is silent");
    if (!link->welcomed) {
        if (!link->known && w->now_ms - link->lost_ms > QUIET_MS)
            complain(link, "no broker there yet");
        if (link->hello_ms == 0 && link->socket && !link->resolve) say_hello(w, link);
        /* The broker has given us up by now: so do we, and the slots are free for others. */
        if (link->known && w->now_ms - link->lost_ms > link->session_ms) forget(w, link);
        return;
    }
    if (w->now_ms - link->beat_ms < link->heartbeat_ms) return;
    Peach__Envelope envelope = PEACH__ENVELOPE__INIT;
    Peach__Heartbeat heartbeat = PEACH__HEARTBEAT__INIT;
    envelope.body_case = PEACH__ENVELOPE__BODY_HEARTBEAT;
    envelope.heartbeat = &heartbeat;
    link->beat_ms = w->now_ms;
    send_body(link, &envelope);
}
