/* A session of a client or worker at the broker, and the way to it: where its
   connection is now, what is on its way out.

   Nothing that is sent blocks: what ZeroMQ does not take waits in the outbox. Results
   for a client stay there until it has acknowledged them, so that they survive the
   connection.

   This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#ifndef PEACH_PEER_H
#define PEACH_PEER_H

#include "jobs.h"
#include "outbox.h"
#include "sched.h"

enum { PEER_JOBS = 16 }; /* jobs that a batch is searched for before one is repeated */

typedef struct peer {
    uint8_t session[WIRE_SESSION_BYTES]; /* its name for it, and ours */
    uint8_t token[WIRE_SESSION_BYTES];
    Peach__Role role;
    char *host;
    uint32_t pid;
    uint32_t unread_lines; /* of a client: that were dropped, because it does not read */
    uint32_t depth;        /* of a client: how deep its jobs were nested at most */
    zmq_msg_t route;       /* of its connection; valid while connected */
    bool connected;
    uint64_t attempt;  /* of its last Hello */
    uint64_t heard_ms; /* when something last came from it */
    uint64_t gone_ms;  /* not connected: when its session ends */
    bool settling;     /* a worker that is back and has not yet said what it holds */
    uint64_t received; /* serial of the last Results from a worker, Submit from a client */
    uint64_t told_received, unacknowledged_bytes; /* and what it was told of them */
    node_t node;                                  /* in the broker's list of peers */

    sched_worker_t *worker; /* one of the two */
    sched_client_t *client;
    Peach__Registration *registration; /* of a worker */
    uint64_t done_items, failed_items;

    wire_batch_t batch;                 /* Assign to a worker, Results to a client */
    shell_job_t *batch_jobs[PEER_JOBS]; /* references */
    size_t batch_job_count;
    node_t dirty_node; /* in the broker's list of peers with a batch or an outbox */
    node_t lost_node;  /* in its list of peers whose connection is gone */

    jobs_t jobs;                           /* of a client */
    uint8_t (*doubts)[WIRE_SESSION_BYTES]; /* of a client: Hello.doubts */
    size_t doubt_count;
    list_t blobs; /* values that a client put */
    size_t blob_count;
    idmap_t *has; /* of a worker: those that it was sent; NULL: none */

    outbox_t outbox;
} peer_t;

/* NULL when memory is out. */
peer_t *peer_new(const Peach__Hello *hello);

/* Does not know of sched_worker_t and sched_client_t: they must be gone. */
void peer_destroy(peer_t **self_p);

/* Takes over of a new Hello what it says of the peer. PEACH_E_MEMORY, and the peer is as
   before. */
int peer_hello(peer_t *self, const Peach__Hello *hello);

/* Ways to it. connect takes the routing id out of *route. */
void peer_connect(peer_t *self, zmq_msg_t *route);
void peer_disconnect(peer_t *self);

/* It came back and has all numbered messages up to received; those behind come again.
   false when that cannot be: its session cannot go on. */
bool peer_resume(peer_t *self, uint64_t received);

/* Sends the Welcome, before everything that waits. As wire_send. */
int peer_greet(peer_t *self, void *router, const Peach__Envelope *envelope,
               const wire_frames_t *frames);

/* Sends one message after what is on its way already; payloads as in wire.h. It
   is queued if ZeroMQ does not take it. 0, PEACH_E_LOST if the peer's connection
   is gone (nothing was queued), PEACH_E_MEMORY. */
int peer_send(peer_t *self, void *router, const Peach__Envelope *envelope,
              const wire_frames_t *frames);

/* Sends what can be sent of outbox and batch. 0, also when something is left (see
   peer_pending); PEACH_E_LOST. */
int peer_flush(peer_t *self, void *router);
bool peer_pending(const peer_t *self);

/* Makes room in the batch for one more element with this many frames, by sending it
   or putting it into the outbox. PEACH_E_MEMORY. */
int peer_make_room(peer_t *self, void *router, size_t frames);

/* The index of the job in the batch, added to it if it is not there. Negative:
   PEACH_E_MEMORY. */
int peer_batch_job(peer_t *self, shell_job_t *job, uint32_t *index);

#endif
