/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "awake.h"

#include <time.h>

uint64_t clock_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

uint64_t awake_at(awake_t *self, uint64_t real_ms)
{
    uint64_t turn = real_ms - self->real_ms;
    if (self->real_ms == 0)
        self->awake_ms = real_ms;
    else
        self->awake_ms += turn < AWAKE_TURN_MS ? turn : AWAKE_TURN_MS;
    self->real_ms = real_ms;
    return self->awake_ms;
}

uint64_t awake_ms(awake_t *self) { return awake_at(self, clock_ms()); }
