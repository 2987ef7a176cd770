/* The items of a command line: JSON, ranges, - and @FILE.

   This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#ifndef PEACH_CLI_ITEMS_H
#define PEACH_CLI_ITEMS_H

#include "joblog.h"
#include "options.h"

#include <sys/stat.h>

typedef struct items items_t;

/* Checks all that is not read while the job runs. lines: what is read is text, each line a
   string. NULL after a complaint; what is wrong is wrong usage. */
items_t *items_new(char **args, size_t count, bool lines);
void items_destroy(items_t **self_p);

/* Items that log (lent, may be NULL) says are done are left out, the others noted in it. */
void items_set_log(items_t *self, joblog_t *log);

/* A job over the items; NULL with peach_error set. one_by_one: they are made when the job wants
   them, so that items_stop can end them. */
peach_job_t *items_map(items_t *self, peach_t *fleet, const char *function,
                       const peach_job_options_t *options, bool one_by_one);

/* How many there will be; 0 when only the end of what is read will tell. */
uint64_t items_total(const items_t *self);

/* Whether standard input or a file of items is that one. */
bool items_read_file(const items_t *self, const struct stat *file);

/* There are no more, as if they had ended here. */
void items_stop(items_t *self);

/* What waits for input has its descriptor here; -1: nothing waits. */
int items_fd(const items_t *self);

/* Whether what was read had a line that is no item, or could not be read, or was not what the
   joblog says; a complaint was printed. */
bool items_broken(const items_t *self);

/* One JSON argument; NULL after a complaint. */
peach_value_t *item_parse(const char *text, const char *what);

#endif
