/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "options.h"

#include "descriptors.h"
#include "nearest.h"
#include "progress.h"
#include "results.h"
#include "standard.h"
#include "version.h"

#include <argp.h>
#include <errno.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *argp_program_version = "peach " PEACH_VERSION;

static const command_t *const commands[] = {
    &run_command,       &broker_command,  &worker_command, &map_command,    &call_command,
    &init_command,      &preload_command, &unload_command, &status_command, &workers_command,
    &functions_command, &bench_command,   &cancel_command, &drain_command,
};
enum { COMMANDS = sizeof commands / sizeof *commands };

const command_t *const *all_commands(size_t *count)
{
    *count = COMMANDS;
    return commands;
}

void complain(const char *format, ...)
{
    va_list args;
    progress_clear();
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

/* ---- help ---- */

static const char usage_line[] = "Usage: peach COMMAND [OPTION...] [ARG...]\n";

static void print_help(FILE *file)
{
    fputs(usage_line, file);
    fputs("Parallel each across processes and hosts.\n\n", file);
    for (size_t i = 0; i < COMMANDS; i++)
        fprintf(file, "  %-11s%s\n", commands[i]->name, commands[i]->summary);
    fputs("\npeach COMMAND --help tells more, and so does man peach. For a start:\n"
          "    peach run -n 4 -l multip.py func 1..3\n\n"
          "Exit status\n"
          "    0  all done\n"
          "    1  an item or a preload failed, or the output could not be written\n"
          "    2  wrong usage, or items, files or a configuration that cannot be read\n"
          "    3  no broker, or not done in time\n"
          "    4  refused: by a broker, or an address that is taken or needs --insecure\n"
          "  130  interrupted: by a signal, or by the end of who reads the output\n",
          file);
}

/* ---- commands ---- */

static const command_t *find_command(const char *name)
{
    for (size_t i = 0; i < COMMANDS; i++)
        if (strcmp(commands[i]->name, name) == 0) return commands[i];
    return NULL;
}

static int no_command(const char *name)
{
    const char *names[COMMANDS];
    char having[256];
    for (size_t i = 0; i < COMMANDS; i++) names[i] = commands[i]->name;
    const char *meant = nearest(name, names, COMMANDS);
    if (*name == '-' && options_find_commands(name + strspn(name, "-"), having, sizeof having))
        complain("'%s' is an option of %s, and stands behind the command", name, having);
    else if (meant)
        complain("'%s' is not a command: did you mean %s? (peach --help lists them)", name, meant);
    else
        complain("'%s' is not a command (peach --help lists them)", name);
    return EXIT_USAGE;
}

/* argv[0] is the name of the command. */
static int run_command_of(const command_t *command, int argc, char **argv)
{
    char full[64];
    options_t options;
    snprintf(full, sizeof full, "peach %s", command->name);
    argv[0] = full;
    argp_err_exit_status = EXIT_USAGE;
    if (!command->run) {
        exec_program(command->program, argv);
        return EXIT_FAILED;
    }
    options_parse(&options, command, argc, argv);
    return command->run(&options);
}

/* What peach itself is asked for: help, the version, or a command. */
static int run(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";
    bool help = strcmp(name, "help") == 0;
    if (help && argc > 2) {
        char *ask[] = {argv[2], "--help", NULL};
        const command_t *command = find_command(argv[2]);
        return command ? run_command_of(command, 2, ask) : no_command(argv[2]);
    }
    if (help || strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) {
        print_help(stdout);
        return EXIT_DONE;
    }
    if (strcmp(name, "--usage") == 0) {
        fputs(usage_line, stdout);
        return EXIT_DONE;
    }
    if (strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0) {
        puts(argp_program_version);
        return EXIT_DONE;
    }
    if (!*name) {
        print_help(stderr);
        return EXIT_USAGE;
    }
    const command_t *command = find_command(name);
    return command ? run_command_of(command, argc - 1, argv + 1) : no_command(name);
}

/* Output that cannot be written is a failure of whatever command, however it ends. */
static void check_output(void)
{
    int error = output_flush();
    if (!error) return;
    if (error == EPIPE) _exit(EXIT_INTERRUPTED); /* its reader has what it wanted */
    complain("standard output cannot be written: %s", strerror(error));
    _exit(EXIT_FAILED);
}

/* jansson does not survive it when memory is out. */
static void *allocate(size_t size)
{
    void *memory = malloc(size);
    if (memory || size == 0) return memory;
    complain("%s", peach_status_text(PEACH_E_MEMORY));
    output_flush();
    _exit(EXIT_FAILED);
}

int main(int argc, char **argv)
{
    static char buffer[1 << 16];
    standard_open(STANDARD_BROKEN);
    descriptors_raise();
    if (!isatty(STDOUT_FILENO)) setvbuf(stdout, buffer, _IOFBF, sizeof buffer);
    atexit(check_output);
    json_set_alloc_funcs(allocate, free);
    return run(argc, argv);
}
