/* The peach command: its subcommands and what all of them share.

   This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#ifndef PEACH_CLI_H
#define PEACH_CLI_H

#include <peach/peach.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* Exit codes, as the manual promises them. */
enum {
    EXIT_DONE = 0,
    EXIT_FAILED = 1,
    EXIT_USAGE = 2,
    EXIT_NO_BROKER = 3,
    EXIT_REFUSED = 4,
    EXIT_INTERRUPTED = 130
};

int exit_code_of(int status);

/* Prints "peach: ..." to standard error, in the place of the progress bar if there is one. */
void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* ---- subcommands ---- */

typedef struct options options_t; /* options.h */

/* Bits, for the options that several of them have. */
enum {
    RUN = 1 << 0,
    MAP = 1 << 1,
    CALL = 1 << 2,
    INIT = 1 << 3,
    PRELOAD = 1 << 4,
    STATUS = 1 << 5,
    WORKERS = 1 << 6,
    FUNCTIONS = 1 << 7,
    DRAIN = 1 << 8,
    BENCH = 1 << 9,
    UNLOAD = 1 << 10,
    CANCEL = 1 << 11,
};

typedef struct {
    const char *name;
    unsigned bit;
    const char *summary;                  /* a line of peach --help */
    const char *arguments;                /* a line a usage; NULL: options only */
    const char *about;                    /* for its --help; behind a \v what follows the options */
    int (*run)(const options_t *options); /* the exit code; NULL: it is a program of its own */
    const char *program;
} command_t;

extern const command_t run_command, broker_command, worker_command, map_command, call_command,
    init_command, preload_command, unload_command, status_command, workers_command,
    functions_command, cancel_command, drain_command, bench_command;

/* All of them, as peach --help lists them; *count gets their number. */
const command_t *const *all_commands(size_t *count);

/* ---- exec.c ---- */

/* Becomes the program of that name next to this one, or on PATH. Returns after a complaint. */
void exec_program(const char *name, char **argv);

#endif
