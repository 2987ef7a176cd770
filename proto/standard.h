/* Standard input, output and error, which whoever starts a program may have closed.

   This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#ifndef PEACH_STANDARD_H
#define PEACH_STANDARD_H

/* What becomes of a closed one. */
typedef enum {
    STANDARD_EMPTY,  /* nothing is read, what is written is dropped: for programs that serve */
    STANDARD_BROKEN, /* reading 0 and writing to 1 goes on failing with EBADF: for a program
                        whose user would take no output for an empty one */
} standard_t;

/* Opens /dev/null for what is closed among 0, 1 and 2: otherwise the next descriptor of the
   program, a socket perhaps, takes its number, and what is printed is written into it. The first
   thing that a main does. */
void standard_open(standard_t how);

#endif
