/* A clock that counts only the time in which this process could run. One that was
   stopped (SIGSTOP, a suspended machine, a debugger) has not listened meanwhile, so
   it must not count that time as the silence of others.

   This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#ifndef PEACH_AWAKE_H
#define PEACH_AWAKE_H

#include <stdint.h>

typedef struct {
    uint64_t real_ms, awake_ms;
} awake_t;

/* Milliseconds of the monotonic clock. */
uint64_t clock_ms(void);

/* Milliseconds awake. Call it every turn of a loop: a turn that took longer than
   AWAKE_TURN_MS counts as that much. */
enum { AWAKE_TURN_MS = 1000 };
uint64_t awake_ms(awake_t *self);

/* The same with the monotonic clock's reading from outside. */
uint64_t awake_at(awake_t *self, uint64_t real_ms);

#endif
