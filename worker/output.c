/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */

/* The executor's end of what tasks print: into the pipe, if their job wants it. */
#include "executor.h"

#include <stdio.h>
#include <unistd.h>

void output_begin(executor_t *x)
{
    fflush(NULL);
    for (int fd = 1; fd <= 2; fd++) {
        x->output[fd - 1] = dup(fd);
        dup2(PRINT_FD, fd);
    }
}

void output_item(uint32_t number, uint32_t item)
{
    fflush(NULL);
    dprintf(PRINT_FD, PRINT_MARK, number, item);
}

void output_end(executor_t *x)
{
    fflush(NULL);
    for (int fd = 1; fd <= 2; fd++) {
        dup2(x->output[fd - 1], fd);
        close(x->output[fd - 1]);
    }
}
