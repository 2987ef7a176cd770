/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "results.h"

#include "cli.h"
#include "progress.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void set(peach_value_t *map, const char *key, peach_value_t *value)
{
    if (value) peach_value_set(map, key, &value);
}

static peach_value_t *attempts_of(const peach_failure_t *f)
{
    peach_value_t *attempts = peach_value_list();
    for (size_t i = 0; attempts && i < f->attempt_count; i++) {
        peach_value_t *attempt = peach_value_map();
        if (!attempt) break;
        set(attempt, "host", peach_value_string(f->attempts[i].host));
        if (f->attempts[i].pid) set(attempt, "pid", peach_value_int(f->attempts[i].pid));
        set(attempt, "cause", peach_value_string(f->attempts[i].cause));
        peach_value_append(attempts, &attempt);
    }
    return attempts;
}

/* {"error": {...}}; NULL when memory is out. */
static peach_value_t *error_of(const peach_failure_t *f)
{
    peach_value_t *error = peach_value_map(), *outer = peach_value_map();
    if (error && outer) {
        set(error, "status", peach_value_string(peach_status_name(f->status)));
        if (*f->type) set(error, "type", peach_value_string(f->type));
        set(error, "message", peach_value_string(f->message));
        if (*f->traceback) set(error, "traceback", peach_value_string(f->traceback));
        if (*f->host) set(error, "host", peach_value_string(f->host));
        if (f->pid) set(error, "pid", peach_value_int(f->pid));
        if (f->attempt_count > 0) set(error, "attempts", attempts_of(f));
        peach_value_set(outer, "error", &error);
    } else {
        peach_value_destroy(&outer);
    }
    peach_value_destroy(&error);
    return outer;
}

/* The errno of the first failure of standard output; 0 while there is none. */
static int broken;

static void check(bool written)
{
    if (!written && !broken) broken = errno ? errno : EIO;
}

static void print_failure(const results_t *self, const peach_failure_t *failure, uint64_t number)
{
    peach_value_t *error = error_of(failure);
    char *json = error ? peach_value_to_json(error) : NULL;
    const char *line = json ? json : "{\"error\":{\"status\":\"PEACH_E_MEMORY\"}}";
    if (self->errors)
        fprintf(self->errors, "{\"item\":%llu,%s\n", (unsigned long long)number, line + 1);
    else
        check(puts(line) >= 0);
    free(json);
    peach_value_destroy(&error);
}

bool results_print(const results_t *self, const peach_result_t *result, uint64_t number,
                   const char **why)
{
    static const peach_failure_t formless = {.status = PEACH_E_JSON,
                                             .type = "",
                                             .message = "the result cannot be written as JSON",
                                             .traceback = "",
                                             .host = ""};
    static int terminal = -1;
    if (terminal < 0) terminal = isatty(STDOUT_FILENO);
    if (terminal) progress_clear();
    if (result->failure) {
        print_failure(self, result->failure, number);
        return true;
    }
    size_t size;
    const char *string = self->raw ? peach_value_as_string(result->value, &size) : NULL;
    if (string) {
        check(fwrite(string, 1, size, stdout) == size && putchar('\n') >= 0);
        return true;
    }
    char *json = peach_value_to_json(result->value);
    if (json) {
        check(puts(json) >= 0);
    } else {
        print_failure(self, &formless, number);
        *why = formless.message;
    }
    free(json);
    return json != NULL;
}

int output_flush(void)
{
    errno = 0;
    check(fflush(stdout) == 0 && !ferror(stdout));
    return broken;
}

bool results_flush(const results_t *self)
{
    errno = 0;
    if (self->errors && (fflush(self->errors) != 0 || ferror(self->errors))) {
        complain("%s cannot be written: %s", self->errors_path, strerror(errno ? errno : EIO));
        return false;
    }
    return output_flush() == 0;
}
