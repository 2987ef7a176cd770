/* The command lines of all programs: what is an option and what is not, and help on options.

   A word that begins with - is an option unless it is a number (-5), a range (-3..3), a lone -,
   the value of the option before it, or behind --.

   This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#ifndef PEACH_ARGUMENTS_H
#define PEACH_ARGUMENTS_H

#include <argp.h>
#include <stddef.h>

/* A child for the argp of a program that parses with ARGP_NO_HELP: -h and --help, --usage, and -V
   and --version, which print argp_program_version. They are known below without being listed. */
extern const struct argp arguments_help;

/* The first word of argv[1..] that is an option and none of known; NULL when there is none. */
const char *arguments_unknown(const struct argp_option *known, int argc, char **argv);

/* A sentence about such a word: what was meant, if something is near. */
void arguments_explain(const struct argp_option *known, const char *word, char *text, size_t size);

/* argv with the options, and their values, in front, then -- and all else in its order: so argp
   takes options wherever they stood and -5 for a number. argc becomes its length. It is the
   caller's to free, the words are argv's. NULL when memory is out. */
char **arguments_sort(const struct argp_option *known, int *argc, char **argv);

#endif
