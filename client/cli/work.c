/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "work.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { PUT_MS = 30000 };

/* ---- arguments ---- */

/* now|soon[,fail=N] */
static int parse_halt(const options_t *options, halt_t *halt)
{
    const char *text = options->halt;
    size_t length = strcspn(text, ",");
    bool now = length == 3 && strncmp(text, "now", 3) == 0;
    halt->soon = length == 4 && strncmp(text, "soon", 4) == 0;
    halt->failures = 1;
    const char *why = text + length + (text[length] == ',');
    if (*why && strncmp(why, "fail=", 5) == 0) {
        char *end;
        halt->failures = strtoul(why + 5, &end, 10);
        if (*end || why[5] == '-') halt->failures = 0;
    } else if (text[length]) {
        halt->failures = 0;
    }
    if ((now || halt->soon) && halt->failures > 0) return EXIT_DONE;
    return usage_error(options, "--halt: '%s' is not now, soon, now,fail=N or soon,fail=N", text);
}

/* No function is called so, and items are written so. */
static bool looks_like_item(const char *text) { return strchr("0123456789-\"[{@.", *text); }

static int prepare_items(work_t *self, char **args, size_t count)
{
    const options_t *o = self->options;
    if (count == 0 && !o->lines)
        return usage_error(o,
                           "no items: name some, as in peach %s %s 0..9, or - for standard input",
                           o->command->name, o->source ? "--source ..." : self->function);
    self->items = items_new(args, count, o->lines);
    return self->items ? EXIT_DONE : EXIT_USAGE;
}

static int prepare_arguments(work_t *self, char **args, size_t count)
{
    self->args = peach_value_list();
    for (size_t i = 0; i < count && self->args; i++) {
        peach_value_t *arg = item_parse(args[i], "argument");
        if (!arg || peach_value_append(self->args, &arg) != 0) peach_value_destroy(&self->args);
    }
    return self->args ? EXIT_DONE : EXIT_USAGE;
}

/* Files that would lose what is read from them, or be written to twice. */
static int check_files(const work_t *self)
{
    const options_t *o = self->options;
    const char *const paths[] = {o->errors, o->joblog};
    struct stat files[2];
    bool known[2];
    for (int i = 0; i < 2; i++) {
        known[i] = paths[i] && stat(paths[i], &files[i]) == 0 && S_ISREG(files[i].st_mode);
        if (known[i] && items_read_file(self->items, &files[i]))
            return usage_error(o, "items are read from %s: it cannot be the file of --%s, too",
                               paths[i], i == 0 ? "errors" : "joblog");
    }
    bool same = paths[0] && paths[1] && strcmp(paths[0], paths[1]) == 0;
    same |= known[0] && known[1] && files[0].st_dev == files[1].st_dev &&
            files[0].st_ino == files[1].st_ino;
    return same ? usage_error(o, "--errors and --joblog need a file each") : EXIT_DONE;
}

static int open_files(work_t *self)
{
    const options_t *o = self->options;
    int code = check_files(self);
    if (code) return code;
    if ((o->resume || o->resume_failed) && !o->joblog)
        return usage_error(o, "--resume needs the --joblog that tells what is done");
    if (o->joblog) {
        joblog_start_t start = o->resume_failed ? JOBLOG_RESUME_FAILED
                               : o->resume      ? JOBLOG_RESUME
                                                : JOBLOG_NEW;
        self->log = joblog_open(o->joblog, self->function, o->source, start);
        if (!self->log) return EXIT_USAGE;
        items_set_log(self->items, self->log);
    }
    self->results.errors_path = o->errors;
    if (o->errors &&
        !(self->results.errors = fopen(o->errors, o->resume || o->resume_failed ? "ae" : "we"))) {
        complain("%s cannot be written: %s", o->errors, strerror(errno));
        return EXIT_USAGE;
    }
    return EXIT_DONE;
}

int work_prepare(work_t *self, const options_t *options)
{
    char **args = options->arguments;
    size_t count = options->argument_count;
    *self = (work_t){.options = options,
                     .function = "the source",
                     .results = {.raw = options->raw},
                     .progress = {.quiet = options->quiet},
                     .deadline_ms = options->timeout_ms ? options->started_ms + options->timeout_ms
                                                        : UINT64_MAX};
    int code = options->halt ? parse_halt(options, &self->halt) : EXIT_DONE;
    if (code) return code;
    if (!options->source) {
        if (count == 0) return usage_error(options, "FUNC is missing");
        self->function = *args++;
        count--;
        if (looks_like_item(self->function))
            return usage_error(options, "FUNC is missing: '%.60s' is an item, no function",
                               self->function);
    }
    if (options->command->bit == CALL) return prepare_arguments(self, args, count);
    code = prepare_items(self, args, count);
    return code ? code : open_files(self);
}

void work_clear(work_t *self)
{
    items_destroy(&self->items);
    peach_value_destroy(&self->args);
    joblog_close(&self->log);
    if (self->results.errors) fclose(self->results.errors);
}

/* ---- running ---- */

static void show_line(void *arg, const peach_line_t *line)
{
    const work_t *self = arg;
    uint64_t number = self->log ? joblog_number(self->log, line->item) : line->item;
    progress_clear();
    fprintf(stderr, "%s/%u %llu: %s\n", line->host, line->slot, (unsigned long long)number,
            line->text);
}

static peach_job_t *begin(work_t *self, const peach_job_options_t *job)
{
    return self->items ? items_map(self->items, self->fleet, self->function, job, self->halt.soon)
                       : peach_submit(self->fleet, self->function, &self->args, job);
}

int work_run(work_t *self, peach_t *fleet)
{
    peach_job_options_t job = self->options->job;
    peach_value_t *text = NULL, *code = NULL;
    int exit_code = EXIT_FAILED;
    self->fleet = fleet;
    job.progress = progress_show;
    job.progress_arg = &self->progress;
    job.log = self->options->logs ? show_line : NULL;
    job.log_arg = self;
    if (self->options->source) {
        text = peach_value_string(self->options->source);
        job.code = code = peach_put(fleet, &text, PUT_MS);
    }
    if (!self->options->source || code) {
        self->job = begin(self, &job);
        exit_code = self->job ? work_read(self) : EXIT_USAGE;
    }
    if (!self->job) complain("%s", peach_error(fleet));
    peach_job_destroy(&self->job);
    peach_value_destroy(&code);
    return exit_code;
}
