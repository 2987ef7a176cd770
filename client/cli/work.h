/* The job of a command (map, call, run): from its arguments to its exit code.

   This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#ifndef PEACH_WORK_H
#define PEACH_WORK_H

#include "items.h"
#include "options.h"
#include "progress.h"
#include "results.h"

/* --halt: when to stop. */
typedef struct {
    uint64_t failures; /* after so many; 0: never */
    bool soon;         /* what was given out still ends */
} halt_t;

typedef struct {
    const options_t *options;
    const char *function; /* as messages call it, where it is a source */
    items_t *items;       /* NULL: it is a call */
    peach_value_t *args;  /* of a call */
    halt_t halt;
    joblog_t *log; /* may be NULL */
    results_t results;
    progress_t progress;
    uint64_t deadline_ms;     /* by clock_ms; UINT64_MAX: none */
    bool (*is_alive)(void);   /* of a fleet of our own; may be NULL */
    const char *missing_hint; /* what to do when the function is not there; may be NULL */

    /* so far */
    peach_t *fleet;
    peach_job_t *job;
    bool halted;
    bool stopped;   /* what is cancelled from here on is our own doing */
    bool unwritten; /* a complaint was printed, or will be by main: it is standard output */
    uint64_t ended, failed, flushed_ms;
    char first[512];  /* what failed first */
    char whole[1024]; /* why the job failed as a whole; empty: it did not */
} work_t;

/* What --help of map and run says of items. */
#define ITEM_HELP                                                                                \
    "ITEM is JSON (3, '\"a\"', '[1,2]', '{\"x\":1}'), a range 0..9 (both ends included), - for " \
    "JSON "                                                                                      \
    "lines on standard input, or @FILE for those of a file. A failed item prints "               \
    "{\"error\": {...}} in its place. Options may stand anywhere; after -- there are none."

/* Takes FUNC, what it is given and the files from the options. EXIT_DONE, or another code after a
   complaint; work_clear in any case. */
int work_prepare(work_t *self, const options_t *options);

/* The job on this fleet, to its end: prints results, says what failed. The exit code. */
int work_run(work_t *self, peach_t *fleet);

/* Reads the job to its end; a part of work_run (reading.c). */
int work_read(work_t *self);

void work_clear(work_t *self);

#endif
