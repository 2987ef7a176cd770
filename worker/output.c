/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */

/* The executor's end of what tasks print: marks in the pipe that say whose it is. */
#include "executor.h"

#include <stdio.h>

void output_item(const executor_t *x, uint32_t number, uint32_t item)
{
    fflush(NULL);
    dprintf(PRINT_FD, PRINT_MARK, (unsigned long long)x->shared->token, number, item);
}

void output_end(const executor_t *x) { output_item(x, PRINT_NOBODY, 0); }
