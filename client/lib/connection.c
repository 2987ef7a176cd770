/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */

/* The way to a broker of the list: its host's address, the socket, and the next broker when
   nobody is there. */
#include "session.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { PAUSE_MS = 200 }; /* before the list of brokers is tried again, when nobody is there */

static void forget_resolve(peach_t *self)
{
    int fd = self->resolve ? resolve_fd(self->resolve) : -1;
    if (fd >= 0) ready_forget(&self->ready, fd);
    resolve_destroy(&self->resolve);
}

void connection_close(peach_t *self)
{
    forget_resolve(self);
    /* First the events, then who reads them: ZeroMQ's I/O thread would wait for ever to
       tell of one that nobody reads. */
    if (self->socket) zmq_socket_monitor(self->socket, NULL, 0);
    if (self->monitor) ready_forget(&self->ready, wire_fd(self->monitor));
    if (self->socket) ready_forget(&self->ready, wire_fd(self->socket));
    if (self->monitor) zmq_close(self->monitor);
    if (self->socket) zmq_close(self->socket);
    self->monitor = self->socket = NULL;
}

static int socket_failed(peach_t *self)
{
    int rc = session_fail(self, errno == EINVAL ? PEACH_E_ARGUMENT : PEACH_E_SYSTEM,
                          "cannot connect to '%s': %s", self->endpoints.text[self->endpoint],
                          zmq_strerror(errno));
    connection_close(self);
    return rc;
}

static int connect_socket(peach_t *self, bool ipv6)
{
    const int immediate = 1, linger = 200, beat_ms = DEFAULT_BEAT_MS;
    const int patience_ms = DEFAULT_SESSION_MS / 2;
    const int soon_ms = 50, late_ms = 1000, queue = 1000, six = ipv6;
    char monitor[48];
    snprintf(monitor, sizeof monitor, "inproc://session-%llu",
             (unsigned long long)++self->last_monitor);
    self->socket = zmq_socket(self->context, ZMQ_DEALER);
    self->monitor = zmq_socket(self->context, ZMQ_PAIR);
    const int unbounded = 0; /* few events come, but nobody may read them for long */
    if (!self->socket || !self->monitor ||
        zmq_setsockopt(self->monitor, ZMQ_RCVHWM, &unbounded, sizeof unbounded) != 0 ||
        zmq_socket_monitor(self->socket, monitor,
                           ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_CONNECT_RETRIED) != 0 ||
        zmq_connect(self->monitor, monitor) != 0 ||
        ready_watch(&self->ready, wire_fd(self->monitor)) != 0 ||
        ready_watch(&self->ready, wire_fd(self->socket)) != 0)
        return socket_failed(self);
    zmq_setsockopt(self->socket, ZMQ_IMMEDIATE, &immediate, sizeof immediate);
    zmq_setsockopt(self->socket, ZMQ_LINGER, &linger, sizeof linger);
    zmq_setsockopt(self->socket, ZMQ_HEARTBEAT_IVL, &beat_ms, sizeof beat_ms);
    zmq_setsockopt(self->socket, ZMQ_HEARTBEAT_TIMEOUT, &patience_ms, sizeof patience_ms);
    zmq_setsockopt(self->socket, ZMQ_RECONNECT_IVL, &soon_ms, sizeof soon_ms);
    zmq_setsockopt(self->socket, ZMQ_RECONNECT_IVL_MAX, &late_ms, sizeof late_ms);
    zmq_setsockopt(self->socket, ZMQ_SNDHWM, &queue, sizeof queue);
    zmq_setsockopt(self->socket, ZMQ_RCVHWM, &queue, sizeof queue);
    zmq_setsockopt(self->socket, ZMQ_IPV6, &six, sizeof six);
    if (zmq_connect(self->socket, self->endpoints.text[self->endpoint]) != 0)
        return socket_failed(self);
    zmq_recv(self->monitor, NULL, 0, ZMQ_DONTWAIT); /* so that its descriptor tells of an event */
    return 0;
}

/* Nobody is at the endpoint: another one may be there. With one it is ZeroMQ that tries
   again, as long as it has an address. */
static void endpoint_failed(peach_t *self, const char *why)
{
    snprintf(self->unreached, sizeof self->unreached, "%s", why);
    if (++self->failed_endpoints < self->endpoints.count)
        connection_move_on(self);
    else if (self->endpoints.count > 1)
        connection_close(self); /* until the pause is over */
}

/* Opens the socket once the host's address is known. 0, also while it is not. */
static int connect_resolved(peach_t *self)
{
    const char *why;
    resolve_state_t state = resolve_state(self->resolve, &why);
    if (state == RESOLVE_PENDING) return 0;
    int rc = 0;
    if (state == RESOLVE_FAILED) {
        char text[sizeof self->unreached];
        snprintf(text, sizeof text, "%s", why);
        forget_resolve(self);
        endpoint_failed(self, text);
    } else {
        forget_resolve(self);
        rc = connect_socket(self, state == RESOLVE_IPV6);
    }
    return rc;
}

int connection_open(peach_t *self)
{
    connection_close(self);
    self->welcomed = false;
    self->hello_ms = 0;
    self->opened_ms = self->now_ms = clock_ms();
    if (!(self->resolve = resolve_new(self->endpoints.text[self->endpoint])))
        return session_fail(self, PEACH_E_MEMORY, "%s", peach_status_text(PEACH_E_MEMORY));
    int fd = resolve_fd(self->resolve);
    if (fd >= 0 && ready_watch(&self->ready, fd) != 0)
        return session_fail(self, PEACH_E_SYSTEM, "%s", strerror(errno));
    return connect_resolved(self);
}

void connection_move_on(peach_t *self)
{
    self->endpoint = (self->endpoint + 1) % self->endpoints.count;
    connection_open(self);
}

int connection_reopen(peach_t *self)
{
    if (self->resolve) {
        int rc = connect_resolved(self);
        bool late = clock_ms() - self->opened_ms >= CHANGE_MS && self->endpoints.count > 1;
        if (self->resolve && late) connection_move_on(self);
        return rc;
    }
    if (clock_ms() - self->opened_ms < PAUSE_MS) return 0;
    self->failed_endpoints = 0;
    self->endpoint = (self->endpoint + 1) % self->endpoints.count;
    return connection_open(self);
}

/* ---- what the monitor tells ---- */

/* The next event of the monitor; 0 when there is none. */
static uint16_t next_event(void *monitor)
{
    uint16_t event = 0;
    zmq_msg_t frame;
    zmq_msg_init(&frame);
    if (zmq_msg_recv(&frame, monitor, ZMQ_DONTWAIT) >= 0) {
        memcpy(&event, zmq_msg_data(&frame), sizeof event);
        zmq_msg_recv(&frame, monitor, ZMQ_DONTWAIT); /* the endpoint */
    }
    zmq_msg_close(&frame);
    return event;
}

void connection_watch(peach_t *self)
{
    bool lost = false, refused = false;
    for (uint16_t event; (event = next_event(self->monitor)) != 0;) {
        lost |= event == ZMQ_EVENT_DISCONNECTED;
        refused |= event == ZMQ_EVENT_CONNECT_RETRIED;
    }
    if (lost && self->welcomed) {
        connection_open(self);
    } else if (lost) {
        self->hello_ms = 0;
        endpoint_failed(self,
                        "whoever listens there ends the connection: it is no broker, or has no "
                        "descriptors left");
    } else if (refused && !self->welcomed) {
        endpoint_failed(self, "nobody listens there");
    }
}
