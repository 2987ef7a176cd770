/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "connection.h"
#include "loading.h"

#include <errno.h>
#include <stdlib.h>

enum { ANSWER_MS = 5000, READY_MS = 60000 };

/* ---- init and preload ---- */

/* Where libpeach has the log of the workers that it starts. */
static void say_started(unsigned started)
{
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    const char *folder = state && *state ? state : home && *home ? "~/.local/state" : NULL;
    fprintf(stderr, "peach: started %u %s (their log: %s%s/worker.log)\n", started,
            started == 1 ? "slot" : "slots", folder ? folder : "/tmp", folder ? "/peach" : "");
}

static int fill(const options_t *options, const texts_t *preloads)
{
    int code;
    unsigned started, slots = options->slots ? (unsigned)strtoul(options->slots, NULL, 10) : 0;
    peach_t *fleet = fleet_connect(options, &code);
    if (!fleet) return code;
    loading_t *loading = loading_show(options);
    int rc = peach_init(fleet, slots, preloads->items, preloads->count,
                        fleet_time_left(options, READY_MS), &started);
    loading_end(&loading);
    if (rc)
        complain("%s", peach_error(fleet));
    else if (options->json)
        printf("{\"started\":%u}\n", started);
    else if (started > 0)
        say_started(started);
    peach_close(&fleet);
    return exit_code_of(rc);
}

/* Preloads are named by -l and without it. */
static int init(const options_t *options)
{
    texts_t preloads = options->preloads;
    for (size_t i = 0; i < options->argument_count; i++) {
        if (preloads.count == MAX_TEXTS)
            return usage_error(options, "more than %d preloads", MAX_TEXTS);
        preloads.items[preloads.count++] = options->arguments[i];
    }
    if (preloads.count == 0 && !options->slots)
        return usage_error(options, "nothing to do: say -n SLOTS, or name preloads");
    return fill(options, &preloads);
}

static int preload(const options_t *options)
{
    if (options->argument_count == 0)
        return usage_error(options,
                           "nothing to preload: name a Python file, module:NAME, or a .so");
    return init(options);
}

const command_t init_command = {
    .name = "init",
    .bit = INIT,
    .summary = "grow the local fleet to N slots and preload all of it",
    .arguments = "[PRELOAD...]",
    .about =
        "Grows the local fleet to N slots and loads the preloads on all workers; returns when all "
        "are ready, or says why not.\v"
        "The broker must be there (peach broker). Workers that are started run in the background "
        "and end a minute after their broker; their log is ~/.local/state/peach/worker.log.",
    .run = init,
};

const command_t preload_command = {
    .name = "preload",
    .bit = PRELOAD,
    .summary = "load preloads on all workers, now and later",
    .arguments = "PRELOAD...",
    .about = "Loads preloads on all workers that there are and that will come; returns when all "
             "have them, or says why not.",
    .run = preload,
};

/* ---- unload ---- */

static int unload(const options_t *options)
{
    int code;
    unsigned workers = 0;
    if (options->argument_count == 0)
        return usage_error(options, "nothing to unload: name preloads (peach workers lists them)");
    peach_t *fleet = fleet_connect(options, &code);
    if (!fleet) return code;
    const char *const *names = (const char *const *)options->arguments;
    int rc = peach_unload(fleet, names, options->argument_count, fleet_time_left(options, READY_MS),
                          &workers);
    if (rc)
        complain("%s", peach_error(fleet));
    else if (options->json)
        printf("{\"workers\":%u}\n", workers);
    peach_close(&fleet);
    return exit_code_of(rc);
}

const command_t unload_command = {
    .name = "unload",
    .bit = UNLOAD,
    .summary = "forget preloads, on all workers",
    .arguments = "NAME...",
    .about =
        "Forgets preloads by their names (peach workers: multip.py, math:sqrt), on all workers "
        "that there are and that will come; returns when all have.\v"
        "A worker that was started with one (-l) has it again when it is started again.",
    .run = unload,
};

/* ---- cancel ---- */

/* The jobs that are named; EXIT_USAGE after a complaint. */
static int read_jobs(const options_t *options, uint64_t *jobs)
{
    for (size_t i = 0; i < options->argument_count; i++) {
        char *end;
        const char *text = options->arguments[i];
        errno = 0;
        jobs[i] = strtoull(text, &end, 10);
        if (errno || *end || end == text || *text == '-')
            return usage_error(options, "'%s' is no job: peach status shows their numbers", text);
    }
    return EXIT_DONE;
}

static int cancel_jobs(const options_t *options, const peach_cancel_t *what)
{
    int code;
    unsigned jobs = 0;
    peach_t *fleet = fleet_connect(options, &code);
    if (!fleet) return code;
    int rc = peach_cancel(fleet, what, fleet_time_left(options, ANSWER_MS), &jobs);
    bool missing = rc == 0 && !what->all && jobs < what->count;
    if (rc)
        complain("%s", peach_error(fleet));
    else if (options->json)
        printf("{\"jobs\":%u}\n", jobs);
    else if (!missing || jobs > 0)
        printf("cancelled %u %s\n", jobs, jobs == 1 ? "job" : "jobs");
    if (missing) complain("no such job, or it has ended (peach status lists them)");
    peach_close(&fleet);
    return missing ? EXIT_FAILED : exit_code_of(rc);
}

static int cancel(const options_t *options)
{
    if (options->all ? options->argument_count > 0 : options->argument_count == 0)
        return usage_error(options, "say which jobs to cancel: their numbers, or --all");
    uint64_t *jobs = calloc(options->argument_count + 1, sizeof *jobs);
    int code = jobs ? read_jobs(options, jobs) : EXIT_FAILED;
    if (!jobs) complain("out of memory");
    const peach_cancel_t what = {jobs, options->argument_count, options->all};
    if (code == EXIT_DONE) code = cancel_jobs(options, &what);
    free(jobs);
    return code;
}

const command_t cancel_command = {
    .name = "cancel",
    .bit = CANCEL,
    .summary = "cancel jobs, whoever's they are",
    .arguments = "[JOB...]",
    .about = "Cancels jobs by their numbers (peach status): their clients are told so, and what "
             "runs of them is interrupted.",
    .run = cancel,
};

/* ---- drain ---- */

static int drain(const options_t *options)
{
    int code;
    unsigned workers = 0;
    peach_drain_t what = {options->worker, options->host, options->all, options->broker};
    if (options->argument_count > 0) what.worker = options->arguments[0];
    if (options->argument_count + (options->worker != NULL) > 1)
        return usage_error(options, "one worker at a time, or --host, --all");
    if (!what.worker && !what.host && !what.all && !what.broker)
        return usage_error(options, "say what to drain: a worker's ID, --host, --all or --broker");
    peach_t *fleet = fleet_connect(options, &code);
    if (!fleet) return code;
    int rc = peach_drain(fleet, &what, fleet_time_left(options, ANSWER_MS), &workers);
    bool none = rc == 0 && workers == 0 && !what.broker;
    if (rc)
        complain("%s", peach_error(fleet));
    else if (options->json)
        printf("{\"workers\":%u}\n", workers);
    else if (none)
        complain("no such worker (peach workers lists them)");
    else
        printf("draining %u %s%s\n", workers, workers == 1 ? "worker" : "workers",
               what.broker ? " and the broker" : "");
    peach_close(&fleet);
    return none ? EXIT_FAILED : exit_code_of(rc);
}

const command_t drain_command = {
    .name = "drain",
    .bit = DRAIN,
    .summary = "let workers or the broker finish and go",
    .arguments = "[ID]",
    .about = "Lets workers finish what they run and exit; nothing new is sent to them.",
    .run = drain,
};
