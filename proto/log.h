/* What a program says on its standard error while it serves: a line with time, host and level.

       2026-11-25T03:28:33.123Z hosta peach-worker[71] info: connected to tcp://a:5001

   Nothing here waits. Whoever reads the log may stall (a paused pager, a parent that does not
   read its pipe) or be gone, and the fleet must go on: a line that does not get out is lost,
   and the next one that does says how many were.

   This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#ifndef PEACH_LOG_H
#define PEACH_LOG_H

#include <stdbool.h>
#include <stddef.h>

typedef enum {
    LOG_DETAIL_ONLY, /* with --verbose */
    LOG_NOTE,        /* what an operator wants to know */
    LOG_WARN,
    LOG_FAIL
} log_level_t;

/* least: what is below it is not said. dated: lines have all of the above; otherwise they are
   "PROGRAM: text", for programs that a command started on its user's terminal. */
void log_open(const char *program, log_level_t least, bool dated);

/* Says a line (of a traceback more than one). Before log_open nothing is said. */
void log_say(log_level_t level, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Passes on lines of others as they are. */
void log_pass(const char *lines, size_t size);

#endif
