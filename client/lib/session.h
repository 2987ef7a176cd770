/* A client's session with a broker, and what hangs on it: the socket, requests,
   and the jobs with their tasks. Inside of libpeach.

   This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#ifndef PEACH_SESSION_H
#define PEACH_SESSION_H

#include "awake.h"
#include "endpoint.h"
#include "idmap.h"
#include "list.h"
#include "pool.h"
#include "ranges.h"
#include "ready.h"
#include "resolve.h"
#include "batch.h"
#include <peach/peach.h>

#include <stdarg.h>

enum { DEFAULT_BEAT_MS = 1000, DEFAULT_SESSION_MS = 10000 }; /* until a broker tells */

/* A question to the broker and its answer. */
typedef struct {
    uint64_t id;
    wire_message_t *answer;
} request_t;

struct peach {
    endpoints_t endpoints;
    size_t endpoint;                  /* the one in use */
    size_t failed_endpoints;          /* in a row: nobody is there */
    resolve_t *resolve;               /* of its host; NULL: that is known */
    char unreached[640];              /* why the last one that failed did; "": it is not known */
    void *context, *socket, *monitor; /* monitor: tells when the connection is lost */
    ready_t ready;                    /* of these, for event loops */
    uint64_t last_monitor;
    uint8_t session[WIRE_SESSION_BYTES];
    bool welcomed, known;              /* known: it was welcomed once */
    uint8_t token[WIRE_SESSION_BYTES]; /* of the broker's Welcome, if known */
    uint64_t attempt;                  /* Hellos so far */
    uint64_t welcomes;                 /* counts them: a question is asked again after each */
    uint64_t received;                 /* serial of the last Results that came, */
    uint64_t told_received;            /* and of the last one that the broker was told of */
    uint64_t submitted;                /* serial of the last Submit that was sent */
    bool batch_numbered;               /* the batch has its serial */
    unsigned gone_tries;               /* to get results whose memory was gone */
    uint64_t unacknowledged_bytes;
    uint64_t now_ms, hello_ms, beat_ms;
    awake_t clock;
    uint64_t heard_ms; /* from a broker, of anything; by that clock */
    uint64_t heartbeat_ms, session_ms;
    uint8_t origin[WIRE_SESSION_BYTES]; /* of this session: names it to workers */
    list_t doubts;
    uint64_t *cancels; /* jobs whose cancellation is still to be sent */
    size_t cancel_count;
    uint64_t opened_ms; /* when the socket was opened, or was to be */
    int patience_ms;    /* negative: for ever */
    uint64_t max_payload_bytes;
    uint32_t window_tasks, slots;
    uint64_t window_bytes;
    int refused; /* a status: the broker does not want us, and will not */
    bool busy;   /* inside a callback */
    list_t jobs;
    uint64_t last_job, last_number, last_request;
    pool_t free_tasks; /* not in use */
    idmap_t *tasks;    /* number -> task_t, of all jobs */
    uint64_t flying_tasks, flying_bytes;
    uint64_t unsent;    /* flying tasks that are in no batch */
    block_pool_t *pool; /* for large payloads */
    list_t puts;        /* values that were put */
    bool puts_missing;  /* some are to be sent again */
    uint64_t last_put;
    wire_batch_t batch;    /* Submit */
    uint64_t batch_serial; /* changes when the batch is emptied */
    uint32_t batch_jobs;
    request_t request;
    char *error;
    int error_status;
};

/* What is to run at most once and was at a broker that was lost with it. */
typedef struct {
    node_t node; /* in doubts, the oldest first */
    uint8_t origin[WIRE_SESSION_BYTES];
    uint64_t until_ms; /* then what nobody spoke of is lost */
    size_t tasks;
} doubt_t;

/* Sets the message of peach_error and returns status. */
int session_fail(peach_t *self, int status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Sends and receives, waiting up to timeout_ms for something to come; reconnects
   when it is time. */
int session_turn(peach_t *self, int timeout_ms);

/* Sends an envelope now. 0 or a negative status. */
int session_send(peach_t *self, const Peach__Envelope *envelope, const wire_frames_t *frames);

/* Sends what the batch has, as far as ZeroMQ takes it. */
void session_flush(peach_t *self);

/* Sends a question (with self->request.id in it) and waits for the answer; on 0 it is
   in self->request.answer, the caller's. */
int session_ask(peach_t *self, const Peach__Envelope *envelope, const wire_frames_t *frames,
                int timeout_ms);

/* Tells the broker, now or when it can be told, that a job is cancelled. */
int session_cancel(peach_t *self, uint64_t job);

/* A point in time to wait for, from a timeout; and what is left of it for a turn. */
uint64_t session_deadline(int timeout_ms);
int session_left(uint64_t deadline, uint64_t now_ms);

/* ---- connection.c ---- */

/* A new socket to the broker in use, now or once its host's address is known. 0 or a negative
   status. */
int connection_open(peach_t *self);
void connection_close(peach_t *self);

/* The broker is going, or gone: the next one of the list, or this one again. */
void connection_move_on(peach_t *self);

enum { CHANGE_MS = 1000 }; /* an endpoint of several that is silent for so long is left */

/* There is no socket: opens one when why that was has passed. 0 or a negative status. */
int connection_reopen(peach_t *self);

/* Looks at what happened to the connection. When it is lost the session goes on if the broker
   is there; if it is not another one is tried soon. The socket is a new one, so that nothing of
   the old connection is read after what the new one brings. */
void connection_watch(peach_t *self);

/* ---- put.c ---- */

/* After a Welcome: which of the values that were put the broker has, and which are missing.
   received: the serial of the last Submit that came to it. */
void puts_judge(peach_t *self, bool resumed, uint64_t received);

/* Sends those that are missing, before what may refer to them. false when the broker does
   not take them all now. */
bool puts_send(peach_t *self);
void puts_clear(peach_t *self);

/* Whether the value that was put under that number is equal to this one. */
bool puts_hold(const peach_t *self, uint64_t number, const peach_value_t *value);

/* ---- doubt.c ---- */

/* A session begins: what is put in doubt from now on was in the one before. */
void doubts_begin(peach_t *self);

/* The task was in the session before. false when memory is out. */
struct task;
bool doubts_add(peach_t *self, struct task *task);

/* It is not in doubt any more, whatever became of it. */
void doubts_remove(struct task *task);

/* A worker says what had begun. */
void doubts_take(peach_t *self, const Peach__Unbegun *message);
void doubts_keep_time(peach_t *self);

/* The origins of all doubts, and of the session that may be lost, for a Hello; their number. */
size_t doubts_origins(const peach_t *self, ProtobufCBinaryData origins[WIRE_MAX_DOUBTS]);
void doubts_clear(peach_t *self);

/* ---- job.c ---- */

void jobs_results(peach_t *self, wire_message_t *message);
void jobs_logs(peach_t *self, const Peach__Logs *logs);

/* ---- feed.c ---- */

/* Cuts and submits as much as credit and buffers allow. */
void jobs_feed(peach_t *self);

/* What is unfinished is submitted again: to a broker that does not know the session; or,
   when it goes on with it, what it missed: all behind the Submit of serial received. sent: the
   serial of the last one that left before. */
void jobs_resubmit(peach_t *self, bool resumed, uint64_t received, uint64_t sent);

/* Ends jobs whose deadline has passed. */
void jobs_keep_time(peach_t *self);

#endif
