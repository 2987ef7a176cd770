/* Results on standard output, failures there or in a file of their own.

   This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#ifndef PEACH_RESULTS_H
#define PEACH_RESULTS_H

#include <peach/peach.h>
#include <stdio.h>

typedef struct {
    FILE *errors; /* NULL: failures stand in the place of the result */
    const char *errors_path;
    bool raw; /* strings are printed as they are */
} results_t;

/* A line: the result as JSON, or {"error": {...}}; in the file of errors {"item": number, "error":
   {...}}. false when the value has no JSON: then the line is an error that says so, and *why gets
   a sentence (static). What cannot be written shows in results_flush. */
bool results_print(const results_t *self, const peach_result_t *result, uint64_t number,
                   const char **why);

/* Writes what was printed so far. false when it cannot be: after a complaint about the file of
   errors; of standard output main tells at the end, for all commands. */
bool results_flush(const results_t *self);

/* Standard output: 0, or the errno of the first failure. */
int output_flush(void);

#endif
