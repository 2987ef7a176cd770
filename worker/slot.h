/* A slot: one executor process at a time, the channel and the page to it. It is
   started, watched and killed here; what it runs is the supervisor's business.

   This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#ifndef PEACH_SLOT_H
#define PEACH_SLOT_H

#include "channel.h"
#include "shared.h"

#include <sys/types.h>

typedef struct {
    pid_t pid;          /* 0: no process */
    channel_t *channel; /* non-blocking */
    int print_fd;       /* what its tasks print, if their job wants it; non-blocking */
    shared_t *shared;
    uint32_t sent;     /* tasks sent to this process so far */
    uint32_t preloads; /* preloads it has answered for */
} slot_t;

/* Starts an executor; threads goes into OMP_NUM_THREADS and its like. With control_p it is
   a template, which runs no tasks: *control_p gets the socket on which slot_fork asks it for
   copies of itself. 0, or PEACH_E_SYSTEM with a sentence in error. */
int slot_start(slot_t *self, const char *executor, unsigned index, unsigned threads, int *control_p,
               char *error, size_t error_size);

/* Starts an executor as a copy of a template: with all that it has loaded. It is our
   child (we must be a subreaper). */
int slot_fork(slot_t *self, int control, char *error, size_t error_size);

/* Whether the process has ended. Its channel ends then too, unless something that a
   task forked holds it open. */
bool slot_ended(const slot_t *self);

/* Collects the process, which has ended or is ended now, and says how it ended
   ("killed by signal 9 (Killed)", "exited with code 3"). */
void slot_reap(slot_t *self, char *cause, size_t cause_size);

/* Releases channel and page of a process that was reaped. */
void slot_clear(slot_t *self);

/* Resident memory of the process; 0 when it is not known. */
uint64_t slot_memory_bytes(const slot_t *self);

/* Lets the process end: it finds the end of its channel when it has nothing to do. */
void slot_dismiss(slot_t *self);

/* Asks the executor to interrupt that item of task number if it is running it, or
   with SHARED_WHOLE all of the task. */
void slot_interrupt(slot_t *self, uint32_t number, uint32_t item);

#endif
