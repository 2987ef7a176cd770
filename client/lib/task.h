/* A task at its client: the items that were submitted together, and what came back
   for them. Inside of libpeach.

   This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#ifndef PEACH_TASK_H
#define PEACH_TASK_H

#include "session.h"

/* A failure with everything it points to. */
typedef struct {
    peach_failure_t failure;
    Peach__Failure *message;
    peach_attempt_t *attempts;
    size_t uses;
} told_t;

/* What came back for some consecutive items: values, or one failure of all. */
typedef struct {
    uint32_t first, count; /* in the task */
    payload_t *payload;    /* NULL once decoded */
    peach_value_t *items;
    peach_kind_t kind; /* PEACH_INT or PEACH_DOUBLE: it is one number, its bits: */
    int64_t number;
    told_t *told;
    size_t bytes; /* that it takes while it is kept */
} piece_t;

typedef struct task {
    node_t node; /* in its job, in the order of the items */
    peach_job_t *job;
    uint64_t number, first_item;
    uint32_t items;
    payload_t *payload;  /* for submitting again; NULL when all items have ended, */
    peach_kind_t kind;   /* or when the one item is a number: PEACH_INT or PEACH_DOUBLE, */
    int64_t number_bits; /* and its bits */
    size_t payload_bytes;
    ranges_t todo;   /* items that have not ended */
    piece_t one;     /* most tasks have one piece: */
    piece_t *pieces; /* this one, or an array; sorted by first */
    size_t piece_count, piece_capacity;
    bool unordered;      /* the reader takes pieces as they come */
    bool unsent;         /* it waits for room in a batch, or at the workers */
    uint64_t serial;     /* of the Submit that it was last in */
    doubt_t *doubt;      /* it was at a broker that was lost; NULL: it was not */
    size_t bytes;        /* of all pieces that are kept */
    size_t result_bytes; /* of all that came */
    uint32_t given;      /* items that the reader has */
    size_t next_piece;   /* where the reader is: this piece, so many items into it */
    uint32_t read_in_piece;
} task_t;

/* Takes *payload_p; payload_p is NULL for a task of one number, which the caller writes
   into it. NULL when memory is out. */
task_t *task_new(peach_job_t *job, uint64_t number, uint64_t first_item, uint32_t items,
                 payload_t **payload_p, bool unordered);
void task_destroy(task_t **self_p);

/* Takes the values of items, or a failure, if they are still to end; already ended
   ones are left out. The items that ended now. failed: values that cannot be taken are
   a failure. */
uint32_t task_take_segment(task_t *self, wire_message_t *message, const Peach__Segment *segment,
                           bool *failed);
uint32_t task_take_single(task_t *self, const void *bytes, size_t size);
uint32_t task_take_failure(task_t *self, const Peach__Failure *failure);

/* Whether the next item that the reader wants is there. Unordered: any item. */
bool task_readable(const task_t *self);

/* Gives the reader its next item. 0 or a negative status. */
int task_read(task_t *self, peach_result_t *result);

/* The next piece of a task, when it is numbers and nothing of it was read: their bits (8
   bytes each, lent), their kind and count. task_end_piece then reads all of it, and
   returns its items. */
const void *task_numbers(task_t *self, peach_kind_t *kind, size_t *count);
uint32_t task_end_piece(task_t *self);

bool task_all_read(const task_t *self);

#endif
