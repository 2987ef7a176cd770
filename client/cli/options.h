/* The options of all subcommands: what they are is one table in options.c, what was given is
   one struct.

   This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#ifndef PEACH_OPTIONS_H
#define PEACH_OPTIONS_H

#include "cli.h"

enum { MAX_TEXTS = 256 };

/* Of an option that may be repeated. */
typedef struct {
    const char *items[MAX_TEXTS];
    size_t count;
} texts_t;

/* Texts are NULL and numbers 0 where an option was not given. */
struct options {
    const command_t *command;
    char **arguments; /* what is no option */
    size_t argument_count;
    uint64_t started_ms; /* by clock_ms: --timeout counts from here */

    /* the broker */
    const char *endpoints;
    unsigned timeout_ms;  /* 0: none */
    unsigned patience_ms; /* 0: the library's */
    bool insecure, json;

    /* a job */
    peach_job_options_t job; /* without its callbacks */
    texts_t require;
    const char *source, *seed;
    const char *halt, *joblog, *errors;
    bool lines, raw, resume, resume_failed, logs, quiet;

    /* a fleet */
    const char *slots, *port, *memory, *recycle, *start;
    texts_t preloads;

    /* workers */
    const char *worker, *host;
    bool all, broker;

    /* bench */
    unsigned runs;
    const char *only;
};

/* Parses what follows the name of the command, with the configuration's section "client" before
   it. argv[0] is "peach NAME". The words live in *options and argv. Exits with EXIT_USAGE after a
   complaint, and after --help and the like. */
void options_parse(options_t *options, const command_t *command, int argc, char **argv);

/* Says what is wrong with the arguments, and where help is. EXIT_USAGE. */
int usage_error(const options_t *options, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Names of the commands that have an option of this name (without dashes, up to a =), commas
   between; false when none has. */
bool options_find_commands(const char *name, char *text, size_t size);

#endif
