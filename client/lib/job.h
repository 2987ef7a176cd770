/* A job: the items still to cut, the tasks under way, what the reader has had. Inside
   of libpeach: job.c (life, results, reading) and feed.c (cutting and submitting).

   This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#ifndef PEACH_JOB_H
#define PEACH_JOB_H

#include "task.h"

struct peach_job {
    node_t node; /* first: peach_close relies on it */
    peach_t *session;
    uint64_t id;
    char *function;
    peach_job_options_t options;
    Peach__Job message;
    Peach__Label *labels;
    Peach__Label **label_pointers;

    peach_value_t *source; /* items to cut from, or NULL with next */
    peach_items_fn next;
    void *next_arg;
    uint64_t base;  /* of an open job: items that are not in source any more, */
    size_t spent;   /* and those in it that were cut */
    bool open;      /* items may still be added */
    uint64_t cut;   /* items cut so far */
    uint64_t total; /* items; of a generator, so far */
    bool total_final;
    int source_status; /* why the generator stopped */

    list_t tasks;     /* with something to read or to wait for, in order */
    uint64_t flying;  /* tasks that have not ended, */
    uint64_t doubted; /* and those of them that are in doubt, */
    uint64_t unsent;  /* and those that wait to be submitted */
    uint64_t done, failed, read;
    size_t buffered; /* bytes of results that were not read */
    bool keep_all, cancelled;
    bool stopped;     /* somebody else cancelled it: what waits here for its turn ends so, too */
    uint64_t item_ns; /* running mean; 0: not known */
    uint32_t largest; /* the largest chunk that came back */
    uint64_t batch_serial; /* the batch that has our job under batch_index */
    uint32_t batch_index;
    uint64_t deadline_ms;  /* by the monotonic clock; 0: none */
    uint64_t result_bytes; /* of a task: running mean */
    uint64_t told_ms, told_ended;
    bool known;       /* to the broker, */
    bool known_final; /* and that it gets no more items */
    bool astray;      /* items of it ended where this broker did not see them */
};

/* By whomever. */
static inline bool job_is_cancelled(const peach_job_t *job)
{
    return job->cancelled || job->stopped;
}

/* The task has ended, or nobody wants it: it does not count as under way any more. */
void job_forget_task(peach_job_t *job, task_t *task);

/* Items of the task end with a failure that is made here, counted and to be read as one that
   came. */
void job_fail_items(task_t *task, const Peach__Failure *failure);

/* What was not cut yet ends with the same failure: the job cannot go on. */
void job_fail_rest(peach_job_t *job, const Peach__Failure *failure);

/* Submits what is unfinished of the task, now or when there is room. */
void job_submit_task(task_t *task);

/* Ends what is unfinished of the task here, without the broker. */
void job_end_task(task_t *task, int status, const char *message);

/* Notes the values that were put and that a value refers to, or all there are. 0 or a
   negative status, told. put.c has them. */
int job_find_refs(peach_job_t *job, const peach_value_t *value);
int job_all_refs(peach_job_t *job);
void job_free_refs(peach_job_t *job);

/* The task that the reader reads from, if it has something. */
task_t *job_readable(peach_job_t *job);

/* Reads one item of it, or ends the piece that task_numbers gave; it may be gone then. */
int job_read(peach_job_t *job, task_t *task, peach_result_t *result);
void job_end_piece(peach_job_t *job, task_t *task);

/* Nothing can be read: waits for something. 0, PEACH_END when all was read, or a negative
   status: PEACH_E_TIMEOUT at the deadline. */
int job_turn(peach_job_t *job, uint64_t deadline, int timeout_ms);

#endif
