/* The supervisor of one host: it holds the connections to the brokers and one
   executor process a slot, and never runs user code itself.

   This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#ifndef PEACH_WORKER_H
#define PEACH_WORKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct worker worker_t;

typedef struct {
    const char *endpoints;       /* of the brokers, commas between */
    unsigned slots;              /* executors */
    unsigned threads;            /* for numerical libraries in each; 0: leave them alone */
    const char *const *preloads; /* as the user named them */
    size_t preload_count;
    const char *const *labels; /* KEY=VALUE */
    size_t label_count;
    uint64_t memory_bytes;  /* resident memory an executor may take; 0: no limit */
    uint64_t cache_bytes;   /* values that clients put, kept for orders to come */
    bool fork;              /* executors are copies of one that has loaded the preloads */
    unsigned recycle;       /* items after which an executor is replaced; 0: never */
    unsigned item_ms;       /* how long an item may run at most; 0: as its job says */
    unsigned grace_ms;      /* from the interrupt to the kill */
    const char *executor;   /* path of peach-executor */
    bool insecure;          /* allow brokers that are not on loopback */
    bool strict;            /* end when a preload fails */
    bool no_push;           /* refuse code that clients send */
    unsigned leave_after_s; /* end when no broker was there so long; 0: never */
} worker_options_t;

/* Reads the preloads and starts the executors. On failure NULL, *status is
   negative and error says what to do. */
worker_t *worker_new(const worker_options_t *options, int *status, char *error, size_t error_size);

/* Serves until a byte can be read from stop_fd (then it takes nothing new, finishes
   what runs and says goodbye; a second byte ends it at once), a broker drained it,
   or a strict one's preload failed. 0 or a negative status. */
int worker_run(worker_t *self, int stop_fd);

void worker_destroy(worker_t **self_p);

#endif
