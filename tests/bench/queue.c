/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */

/* Fills the broker's queue: bench-queue CLIENTS TASKS FUNCTION; each client submits so
   many tasks of one item. Prints "queued" and holds them until standard input ends. */
#include <peach/peach.h>

#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    int clients = argc > 3 ? atoi(argv[1]) : 0, tasks = argc > 3 ? atoi(argv[2]) : 0;
    peach_t **fleets = calloc((size_t)clients + 1, sizeof *fleets);
    peach_job_options_t options = peach_job_defaults;
    peach_error_t error;
    options.chunk = 1;
    for (int i = 0; fleets && i < clients; i++) {
        fleets[i] = peach_connect(NULL, 5000, &error);
        peach_value_t *items = peach_value_range(1, tasks);
        if (!fleets[i] || !items || !peach_map(fleets[i], argv[3], &items, &options)) {
            fprintf(stderr, "client %d: %s\n", i, fleets[i] ? "out of memory" : error.message);
            return 1;
        }
        for (int turn = 0; turn < 50; turn++) peach_poll(fleets[i], 2);
    }
    for (int turn = 0; turn < 10; turn++)
        for (int i = 0; i < clients; i++) peach_poll(fleets[i], 0);
    puts("queued");
    fflush(stdout);
    while (getchar() != EOF) {
    }
    _Exit(0); /* the broker notices; nothing is to be said */
}
