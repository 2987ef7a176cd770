/* What an executor takes: its own memory and that of the processes that its tasks started.
   What it shares with others (values that were put, arguments in shared memory, what a copy
   has in common with its template) is not its own.

   This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#ifndef PEACH_MEMORY_H
#define PEACH_MEMORY_H

#include <stdint.h>
#include <sys/types.h>

/* Bytes of pages that are no file's, of the process and all below it; pages that several of
   them share are counted once where that is needed to tell whether it is more than most. 0
   when the process is gone. */
uint64_t memory_bytes(pid_t pid, uint64_t most);

#endif
