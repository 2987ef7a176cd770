/* A page that a supervisor and one executor share, for what must be known of an
   executor that cannot answer: because it computes, or because it is dead.

   This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#ifndef PEACH_SHARED_H
#define PEACH_SHARED_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* An executor's descriptors: the channel, this page, the pipe for what tasks print (which is
   its standard output and error, too), and a template's control socket. */
enum { CHANNEL_FD = 3, SHARED_FD = 4, PRINT_FD = 5, CONTROL_FD = 6 };

/* On the control socket: a request for a copy (pid: the supervisor's), and its answer (pid:
   the copy's, 0: there is none). */
typedef struct {
    pid_t pid;
    uint32_t number;
} shared_request_t;

/* In that pipe a mark, to the end of its line, says whose the following lines are: the page's
   token, task number and item. With PRINT_NOBODY they are nobody's in particular. Tasks may
   write any bytes there, but do not know the token. */
#define PRINT_MARK "\x01%016llx %u %u\n"
enum { PRINT_MARK_BYTES = 1 + 16 + 1 }; /* up to the task number */
#define PRINT_NOBODY UINT32_MAX
/* With this in place of the numbers the rest of the line is what the executor itself says. */
#define PRINT_NOTICE '!'
#define PRINT_NOTICE_LINE "\x01%016llx !%s\n"

/* Set in the environment of executors that take no pickles. */
#define NO_PUSH_VARIABLE "PEACH_NO_PUSH"

/* Tasks are numbered in the order in which they are sent to the executor. */
typedef struct {
    /* High half: tasks claimed so far (the executor begins task n by raising it to
       n + 1). Low half: tasks below it that were not claimed were taken back. */
    _Atomic uint64_t claim;
    _Atomic uint32_t item;     /* of the claimed task, that is being run or was last */
    _Atomic uint64_t began_ms; /* when it began, by the coarse monotonic clock; set before
                                  item */
    /* What is to be interrupted. High half: number + 1 of the task. Low half: the item of
       it, or SHARED_WHOLE. */
    _Atomic uint64_t stop;
    _Atomic uint32_t heard;    /* number + 1 of the task that was interrupted and knows it */
    _Atomic uint32_t limit_ms; /* that the item to be interrupted ran over */
    _Atomic uint32_t yield;    /* number + 1 of the task that is to end after its item */
    _Atomic uint32_t preload;  /* that is being loaded (its request), 0: none */
    _Atomic uint32_t waiting;  /* its task has submitted tasks of its own that have not ended */
    _Atomic uint32_t taken;    /* messages with results that the supervisor has read */
    uint64_t token;            /* the page's: nobody else writes it by chance */
} shared_t;

#define SHARED_WHOLE UINT32_MAX

enum { SHARED_COARSE_MS = 10 }; /* that the coarse clock may be behind */

/* Whether this item of the task is to be interrupted; or all of the task. */
static inline bool shared_stops_task(const shared_t *s, uint32_t number)
{
    return atomic_load(&s->stop) == (((uint64_t)number + 1) << 32 | SHARED_WHOLE);
}

static inline bool shared_stops(const shared_t *s, uint32_t number, uint32_t item)
{
    uint64_t stop = atomic_load(&s->stop);
    return stop >> 32 == (uint64_t)number + 1 &&
           ((uint32_t)stop == SHARED_WHOLE || (uint32_t)stop == item);
}

static inline uint64_t shared_claimed(const shared_t *s) { return atomic_load(&s->claim) >> 32; }

/* Executor: begins task number; false if it was taken back. */
static inline bool shared_begin(shared_t *s, uint32_t number)
{
    uint64_t old = atomic_load(&s->claim);
    do {
        if (number < (uint32_t)old) return false;
    } while (!atomic_compare_exchange_weak(&s->claim, &old,
                                           (uint64_t)(number + 1) << 32 | (uint32_t)old));
    return true;
}

/* Supervisor: takes back all tasks below end that are not claimed; the first one of
   them is returned (end if there is none). */
static inline uint32_t shared_take_back(shared_t *s, uint32_t end)
{
    uint64_t old = atomic_load(&s->claim);
    while (!atomic_compare_exchange_weak(&s->claim, &old, (old & 0xFFFFFFFF00000000) | end)) {
    }
    /* Claimed tasks are below the high half; a number can be taken back once. */
    uint32_t first = (uint32_t)(old >> 32);
    if (first < (uint32_t)old) first = (uint32_t)old;
    return first < end ? first : end;
}

#endif
