/* The peach command: its subcommands and what they share.

   This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#ifndef PEACH_CLI_H
#define PEACH_CLI_H

#include <argp.h>
#include <peach/peach.h>
#include <stdbool.h>
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

enum { MAX_PRELOADS = 256 };

int exit_code_of(int status);

/* Prints "peach: ..." to standard error. */
void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* ---- subcommands; argv[0] is "peach NAME" ---- */

int command_broker(int argc, char **argv);
int command_worker(int argc, char **argv);
int command_run(int argc, char **argv);
int command_map(int argc, char **argv);
int command_call(int argc, char **argv);
int command_init(int argc, char **argv);
int command_preload(int argc, char **argv);
int command_status(int argc, char **argv);
int command_workers(int argc, char **argv);
int command_functions(int argc, char **argv);
int command_drain(int argc, char **argv);
int command_bench(int argc, char **argv);

/* ---- options.c ---- */

/* --connect, --timeout, and --json where a program may read. */
typedef struct {
    const char *endpoints;
    int timeout_ms; /* -1: for ever */
    bool json;
} connect_options_t;

extern const struct argp connect_argp; /* a child; its input is a connect_options_t */

/* What map, call and run share: FUNC, what it is given, and how; the input is a job_options_t. */
typedef struct {
    peach_job_options_t job;
    const char *function; /* as messages call it, where it is a source */
    char **items;         /* as on the command line */
    int item_count;
    const char *require[64];
    bool quiet;
    const char *source;  /* of the function; NULL: it goes by name */
    peach_value_t *code; /* the same, once it was put */
} job_options_t;

extern const struct argp job_argp;

void job_options_init(job_options_t *options);

/* Gives the fleet the source; false with peach_error set. */
bool put_source(peach_t *fleet, job_options_t *options);

/* A time in seconds as milliseconds, at least 1. */
uint64_t option_time(struct argp_state *state, const char *text, const char *what);
unsigned long option_number(struct argp_state *state, const char *text, unsigned long min,
                            unsigned long max, const char *what);

/* Parses, with this usage for wrong arguments; exits with EXIT_USAGE itself. */
void parse_options(const struct argp *argp, int argc, char **argv, void *input);

/* Connects, or complains and returns NULL with the exit code in *code. */
peach_t *connect_fleet(const connect_options_t *options, int *code);

/* ---- items.c ---- */

/* The items of a command line: JSON, ranges, - for JSON lines. */
typedef struct items items_t;

/* Checks all that is not standard input. NULL after a complaint. */
items_t *items_new(char **args, int count);
void items_destroy(items_t **self_p);

/* A job over the items; NULL with peach_error set. */
peach_job_t *items_map(items_t *self, peach_t *fleet, const char *function,
                       const peach_job_options_t *options);

/* Whether standard input had a line that is no item; a complaint was printed. */
bool items_broken(const items_t *self);

/* One JSON argument; NULL after a complaint. */
peach_value_t *item_parse(const char *text, const char *what);

/* ---- output.c ---- */

/* Reads the job to its end: a line a result, progress on a terminal. The exit code.
   alive (may be NULL) says whether it is worth going on while nothing comes. */
int print_job(peach_t *fleet, peach_job_t *job, const connect_options_t *options,
              bool (*alive)(void));
void print_line(void *unused, const peach_line_t *line);
void print_progress(void *quiet, const peach_progress_t *progress);

/* Ctrl-C is noticed from here on. */
void watch_interrupts(void);
bool interrupted(void);

/* ---- exec.c ---- */

/* The program of that name next to this one, or on PATH. */
void exec_program(const char *name, char **argv);

#endif
