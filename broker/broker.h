/* The broker: one ROUTER socket, the scheduler core behind it.

   This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#ifndef PEACH_BROKER_H
#define PEACH_BROKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct broker broker_t;

typedef struct {
    const char *bind;           /* endpoint; port * for any free one */
    bool insecure;              /* allow addresses other than loopback */
    uint64_t heartbeat_ms;      /* between two heartbeats; 0: 1000 */
    uint64_t session_ms;        /* silence after which a session is forgotten; 0: 10000 */
    uint64_t memory_bytes;      /* for tasks and results that wait; 0: 1 GiB */
    uint64_t max_payload_bytes; /* 0: 256 MiB */
} broker_options_t;

/* Binds. On failure NULL, *status is negative and error says what to do. */
broker_t *broker_new(const broker_options_t *options, int *status, char *error, size_t error_size);

/* The endpoint that it is bound to, with the real port. */
const char *broker_endpoint(const broker_t *self);

/* Serves until it is told to stop: by a client's Drain, or by a byte that can be
   read from stop_fd. Then it refuses new work, finishes what it has and returns;
   a second byte makes it return at once. 0, or PEACH_E_SYSTEM. */
int broker_run(broker_t *self, int stop_fd);

void broker_destroy(broker_t **self_p);

#endif
