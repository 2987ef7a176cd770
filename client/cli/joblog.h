/* The joblog: a line about each item that ended, from which a job can be resumed.

       Item  Ended           Host  Pid   Status          Function  Value
       0     1732503000.123  -     -     ok              fnc       3
       1     1732503000.125  b     4711  PEACH_E_RAISED  fnc       "x"

   with tabs between, Value being the item as JSON. A line is written after the result of its
   item was, so that whatever kills the command in between, an item may run twice, and none is
   taken for done whose result is not there. A last line that was torn is dropped.

   This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#ifndef PEACH_JOBLOG_H
#define PEACH_JOBLOG_H

#include "cli.h"

typedef struct joblog joblog_t;

typedef enum {
    JOBLOG_NEW,           /* what the file had is replaced */
    JOBLOG_RESUME,        /* items that it names are done */
    JOBLOG_RESUME_FAILED, /* but for those that failed */
} joblog_start_t;

/* Opens the file, which one command at a time may write to. A function without a name of its own
   is known by its source; source is NULL else. NULL after a complaint; its exit code is
   EXIT_USAGE. */
joblog_t *joblog_open(const char *path, const char *function, const char *source,
                      joblog_start_t start);

/* Drops the lines that were not written. */
void joblog_close(joblog_t **self_p);

/* The next item of the command line, in their order. 0: it is to be submitted. PEACH_END: it is
   done. PEACH_E_ARGUMENT after a complaint: the log has another one in its place. PEACH_E_MEMORY.
 */
int joblog_item(joblog_t *self, const peach_value_t *item);

/* The number in the order of the command line of the item that was submitted as that one. */
uint64_t joblog_number(const joblog_t *self, uint64_t submitted);

/* The result was printed; what was cancelled has not ended. */
void joblog_end(joblog_t *self, const peach_result_t *result);

/* Writes the lines that there are; call it after the output was. false after a complaint: then
   nothing more will be written. */
bool joblog_flush(joblog_t *self);

/* How many items were left out so far. */
uint64_t joblog_skipped(const joblog_t *self);

#endif
