/* The yardstick: plain libzmq over TCP on loopback. A DEALER sends to a ROUTER process
   that forwards round robin to four DEALER processes that echo; one message a task, no
   protobuf, no tracking, no retries.

   This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#ifndef PEACH_BENCH_RAW_H
#define PEACH_BENCH_RAW_H

#include <stddef.h>
#include <sys/types.h>

enum { RAW_WORKERS = 4 };

typedef struct {
    void *context, *socket;
    pid_t workers[RAW_WORKERS], router;
} raw_t;

/* Starts the processes; they end with this one. Exits when it cannot. */
void raw_start(raw_t *self);
void raw_stop(raw_t *self);

/* Tasks a second of that many, each a message of 10 bytes, with a window of messages
   under way. */
double raw_rate(raw_t *self, int tasks, int window);

/* Seconds of one round trip with a message of size bytes, which are copied into it. */
double raw_trip(raw_t *self, const void *bytes, size_t size);

double clock_s(void);

/* CPU seconds of a process so far. */
double cpu_s(pid_t pid);

#endif
