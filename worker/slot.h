/* A slot: one executor process at a time, the channel and the page to it. It is
   started, watched and killed here; what it runs is the supervisor's business.

   Each executor leads a process group, in which are the processes that its tasks start:
   they go with it.

   This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#ifndef PEACH_SLOT_H
#define PEACH_SLOT_H

#include "channel.h"
#include "shared.h"

#include <sys/types.h>

typedef struct {
    pid_t pid;          /* 0: no process, or a template is asked for it */
    channel_t *channel; /* non-blocking */
    int print_fd;       /* what its tasks print; non-blocking; -1: nothing more comes */
    shared_t *shared;
    uint64_t token; /* the page's, as it was made */
    uint32_t sent;  /* tasks sent to this process so far */
} slot_t;

/* Starts an executor; threads goes into OMP_NUM_THREADS and its like. With control_p it is
   a template, which runs no tasks: *control_p gets the socket on which slot_ask asks it for
   copies of itself. 0, or PEACH_E_SYSTEM with errno and a sentence in error. */
int slot_start(slot_t *self, const char *executor, unsigned index, unsigned threads, int *control_p,
               char *error, size_t error_size);

/* Asks a template for an executor that is a copy of it: with all that it has loaded, and our
   child (we must be a subreaper). Its answer (slot_answer) has the number; what is sent to the
   slot meanwhile waits in its channel. As slot_start. */
int slot_ask(slot_t *self, int control, uint32_t number, char *error, size_t error_size);

/* The next answer of a template: the number of a request and the copy's pid, 0 when it could
   not make one. false when there is none. */
bool slot_answer(int control, uint32_t *number, pid_t *pid);

/* Whether the process has ended. Its channel ends then too, unless something that a
   task forked holds it open. */
bool slot_ended(const slot_t *self);

/* Ends the process and its group now. */
void slot_kill(const slot_t *self);

/* Collects the process, which has ended or is ended now with its group, and says how it ended
   ("killed by signal 9 (Killed)", "exited with code 3"). */
void slot_reap(slot_t *self, char *cause, size_t cause_size);

/* Releases channel and page of a process that was reaped. */
void slot_clear(slot_t *self);

/* Lets the process end: it finds the end of its channel when it has nothing to do. */
void slot_dismiss(slot_t *self);

/* Asks the executor to interrupt that item of task number if it is running it, or
   with SHARED_WHOLE all of the task. */
void slot_interrupt(slot_t *self, uint32_t number, uint32_t item);

/* It may not have heard: it waits for a process of its own, and ignores the signal meanwhile.
   Then its group is interrupted. */
void slot_interrupt_again(slot_t *self, uint32_t number);

#endif
