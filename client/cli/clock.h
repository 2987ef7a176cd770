/* Time as the command measures and prints it.

   This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#ifndef PEACH_CLOCK_H
#define PEACH_CLOCK_H

#include <stdint.h>

/* Milliseconds of a clock that only goes forward. */
uint64_t clock_ms(void);

/* 0:07, 12:30, 3:00:00, 2d 4:00:00. It has this time, and room for any. */
typedef struct {
    char text[40];
} duration_t;
duration_t duration_of(uint64_t ms);

#endif
