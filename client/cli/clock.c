/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "clock.h"

#include <stdio.h>
#include <time.h>

uint64_t clock_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now); /* it is asked before each result */
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

duration_t duration_of(uint64_t ms)
{
    duration_t d;
    unsigned long long s = ms / 1000, days = s / 86400, hours = s / 3600 % 24;
    unsigned minutes = (unsigned)(s / 60 % 60), seconds = (unsigned)(s % 60);
    if (days > 0)
        snprintf(d.text, sizeof d.text, "%llud %llu:%02u:%02u", days, hours, minutes, seconds);
    else if (hours > 0)
        snprintf(d.text, sizeof d.text, "%llu:%02u:%02u", hours, minutes, seconds);
    else
        snprintf(d.text, sizeof d.text, "%u:%02u", minutes, seconds);
    return d;
}
