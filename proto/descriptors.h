/* How many files and connections a program of ours may have open.

   This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#ifndef PEACH_DESCRIPTORS_H
#define PEACH_DESCRIPTORS_H

#include <stdbool.h>
#include <stdint.h>

/* As many as the system lets us have: the usual soft limit of 1,024 is for programs that use
   select. */
void descriptors_raise(void);

/* The limit that was there before, for a program of others that this process becomes. */
void descriptors_restore(void);

/* Whether this process may have so many more open (up to 64). */
bool descriptors_spare(unsigned count);

/* How many this process has open, and may have. 0 where it is not known. */
void descriptors_count(uint32_t *open, uint32_t *limit);

#endif
