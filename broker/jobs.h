/* Jobs as they are seen from outside: how far they are, whoever's they are. The core knows a
   job while it has tasks of it; a client that cuts its work bit by bit has jobs of which the
   broker holds nothing for a moment.

   This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#ifndef PEACH_JOBS_H
#define PEACH_JOBS_H

#include "idmap.h"
#include "list.h"
#include "wire.h"

typedef struct jobs jobs_t;

/* A job as its client described it, shared by the orders that run it. */
typedef struct {
    size_t references;
    Peach__Job *message;
    jobs_t *jobs; /* its client's; NULL: it is not seen any more */
    node_t node;  /* in it; those that were touched last are behind */
    uint64_t id;  /* the broker's */
    uint64_t since_ms, items, done, failed;
    bool final;     /* items are all that it will have */
    bool cancelled; /* by somebody else than its client */
} shell_job_t;

/* Of one client. */
struct jobs {
    list_t list;
    idmap_t *by_id; /* the client's numbers; NULL: there was none yet */
    size_t count, cancelled;
};

void jobs_init(jobs_t *self);
void jobs_clear(jobs_t *self);

/* The client's job of that message, made when it is not there; a reference is the caller's.
   last_id counts the broker's. NULL when memory is out. */
shell_job_t *jobs_obtain(jobs_t *self, const Peach__Job *message, const table_seed_t *seed,
                         uint64_t *last_id, uint64_t now_ms);

/* The client says how many items it has so far. */
void jobs_note(shell_job_t *job, const Peach__Job *message);

/* Items of it ended; one that has ended is not seen any more. job may be NULL. */
void jobs_count(shell_job_t *job, uint32_t items, bool failed);

/* Somebody else ends it: what its client submits of it from now on is cancelled. False when it
   had been. */
bool jobs_cancel(shell_job_t *job);
bool jobs_is_cancelled(const jobs_t *self, uint64_t number);

/* The client's job of that number is not seen any more. */
void jobs_forget(jobs_t *self, uint64_t number);

void shell_job_ref(shell_job_t *self);
void shell_job_unref(shell_job_t **self_p);

#endif
