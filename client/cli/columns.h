/* A table whose columns are as wide as what is in them.

   This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#ifndef PEACH_COLUMNS_H
#define PEACH_COLUMNS_H

#include <stddef.h>

typedef struct columns columns_t;

/* Titles of the columns with blanks between; those that begin with > are for numbers, which stand
   on the right. NULL when memory is out; the functions below take NULL and do nothing. */
columns_t *columns_new(const char *titles);

/* Adds to the cell of the next column, after next, or of the first. */
void columns_add(columns_t *self, const char *format, ...) __attribute__((format(printf, 2, 3)));
void columns_next(columns_t *self);
void columns_end_row(columns_t *self);

/* Prints the table to standard output and destroys it. */
void columns_print(columns_t **self_p);

#endif
