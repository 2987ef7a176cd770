/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "cli.h"

#include "version.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *what;
} command_t;

static const command_t commands[] = {
    {"run", command_run, "start a broker and workers here, map a function, stop them"},
    {"broker", command_broker, "run the broker of a fleet"},
    {"worker", command_worker, "run a worker: one process a slot on this host"},
    {"map", command_map, "run a function over items, one JSON result a line"},
    {"call", command_call, "call a function once"},
    {"init", command_init, "grow the local fleet to N slots and preload all of it"},
    {"preload", command_preload, "load preloads on all workers, now and later"},
    {"status", command_status, "what the broker does"},
    {"workers", command_workers, "the workers and their state"},
    {"functions", command_functions, "the functions that can be called, and where"},
    {"bench", command_bench, "what the fleet can do: tasks a second, latency, bulk data"},
    {"drain", command_drain, "let workers or the broker finish and go"},
};

void complain(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fputs("peach: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
}

int exit_code_of(int status)
{
    switch (status) {
    case PEACH_OK: return EXIT_DONE;
    case PEACH_E_ARGUMENT:
    case PEACH_E_JSON: return EXIT_USAGE;
    case PEACH_E_NO_BROKER:
    case PEACH_E_TIMEOUT: return EXIT_NO_BROKER;
    case PEACH_E_REFUSED:
    case PEACH_E_VERSION: return EXIT_REFUSED;
    default: return EXIT_FAILED;
    }
}

static void usage(FILE *file)
{
    fputs("Usage: peach COMMAND [OPTION...] [ARG...]\n"
          "Parallel each across processes and hosts.\n\n",
          file);
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        fprintf(file, "  %-11s%s\n", commands[i].name, commands[i].what);
    fputs("\npeach COMMAND --help tells more. For a start:\n"
          "  peach run -n 4 -l multip.py func 1..3\n\n"
          "Exit status: 0 all done, 1 a task failed, 2 wrong usage, 3 no broker or no answer in\n"
          "time, 4 refused.\n",
          file);
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        usage(stdout);
        return EXIT_DONE;
    }
    if (strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0) {
        puts("peach " PEACH_VERSION);
        return EXIT_DONE;
    }
    if (!*name) {
        usage(stderr);
        return EXIT_USAGE;
    }
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        if (strcmp(commands[i].name, name) != 0) continue;
        char full[64];
        snprintf(full, sizeof full, "peach %s", name);
        argv[1] = full;
        argp_err_exit_status = EXIT_USAGE;
        return commands[i].run(argc - 1, argv + 1);
    }
    complain("'%s' is not a command (peach --help lists them)", name);
    return EXIT_USAGE;
}
