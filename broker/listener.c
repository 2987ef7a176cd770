/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "shell.h"

#include "descriptors.h"
#include "endpoint.h"
#include "log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>

enum { SAY_MS = 10000 }; /* between two lines of the log about connections that are refused */

/* ---- connections without a descriptor for them ---- */

/* The last descriptors are for what the broker itself opens, and for connections that are
   accepted only to be closed: libzmq's listener would otherwise try and try. */
static int first_spare(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur > INT32_MAX) return INT32_MAX;
    rlim_t spare = limit.rlim_cur / 8 < 32 ? limit.rlim_cur / 8 : 32;
    return (int)(limit.rlim_cur - spare);
}

static void say_refused(broker_t *b)
{
    uint32_t open, limit;
    if (b->scarce_ms && b->now_ms - b->scarce_ms < SAY_MS) return;
    b->scarce_ms = b->now_ms;
    descriptors_count(&open, &limit);
    log_say(LOG_WARN,
            "connections are refused: of %u descriptors hardly any is free (%" PRIu64
            " refused so far; raise the limit: ulimit -n, LimitNOFILE= of systemd)",
            limit, b->refused_connections);
}

/* libzmq owns the connection and notices that the peer seems to have ended it. */
static void refuse(broker_t *b, int connection)
{
    shutdown(connection, SHUT_RDWR);
    b->refused_connections++;
    say_refused(b);
}

/* ---- what the monitor of the socket tells ---- */

static void on_event(broker_t *b, const void *frame, size_t size)
{
    uint16_t event;
    uint32_t value; /* of ZMQ_EVENT_ACCEPTED: the descriptor */
    if (size < sizeof event + sizeof value) return;
    memcpy(&event, frame, sizeof event);
    memcpy(&value, (const char *)frame + sizeof event, sizeof value);
    switch (event) {
    case ZMQ_EVENT_ACCEPTED:
        if ((int)value >= first_spare()) refuse(b, (int)value);
        break;
    case ZMQ_EVENT_ACCEPT_FAILED: say_refused(b); break;
    /* Who does not speak ZeroMQ never reaches the socket. */
    default: b->bad_connections++;
    }
}

void listener_events(broker_t *b)
{
    for (;;) {
        zmq_msg_t frame;
        zmq_msg_init(&frame);
        if (zmq_msg_recv(&frame, b->monitor, ZMQ_DONTWAIT) < 0) break;
        /* A second frame, with the address, ends each event. */
        if (zmq_msg_more(&frame)) on_event(b, zmq_msg_data(&frame), zmq_msg_size(&frame));
        zmq_msg_close(&frame);
    }
}

/* ---- life ---- */

int listener_open(broker_t *b, char *error, size_t size)
{
    const int mandatory = 1, linger = 500, beat_ms = (int)b->options.heartbeat_ms;
    const int patience_ms = (int)(b->options.session_ms - session_return_ms(b));
    const int queue = 200, backlog = 1024, ipv6 = endpoint_is_ipv6(b->options.bind);
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
                           ZMQ_EVENT_ACCEPTED | ZMQ_EVENT_ACCEPT_FAILED |
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
