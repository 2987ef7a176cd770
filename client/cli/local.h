/* A broker and a worker on this host that end with the command that started them.

   This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#ifndef PEACH_LOCAL_H
#define PEACH_LOCAL_H

#include "options.h"

#include <sys/types.h>

typedef struct {
    pid_t broker, worker;
    char endpoint[256];
} local_t;

/* Starts both, as slots, port, memory, recycle, start and preloads of the options say, and waits
   until all slots have their preloads. NULL after a complaint, with the exit code in *code; call
   local_stop in any case. */
peach_t *local_start(local_t *self, const options_t *options, int *code);
void local_stop(local_t *self);

/* Whether the programs that were started are there. */
bool local_alive(void);

#endif
