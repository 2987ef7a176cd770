/* The process group that an executor leads: itself, and what its tasks started.

   This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#ifndef PEACH_GROUP_H
#define PEACH_GROUP_H

#include <stdint.h>

/* The leader ends the others that were started since then (CLOCK_MONOTONIC): an item's, and not
   those of a preload. The kernel counts in 10 ms. */
void group_end_since(uint64_t began_ns);

#endif
