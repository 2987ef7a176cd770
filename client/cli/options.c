/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "cli.h"

#include "config.h"

#include <stdlib.h>
#include <string.h>

enum {
    KEY_CONNECT = 'c',
    KEY_TIMEOUT = 't',
    KEY_JSON = 'j',
    KEY_CHUNK = 512,
    KEY_RETRIES,
    KEY_SEED,
    KEY_PRIORITY,
    KEY_REQUIRE,
    KEY_RETRY_ERRORS,
    KEY_ITEM_TIMEOUT,
    KEY_QUEUE_TIMEOUT,
    KEY_DEADLINE,
    KEY_WEIGHT,
    KEY_UNORDERED,
    KEY_SOURCE,
    KEY_LOGS,
    KEY_QUIET = 'q'
};
enum { CONNECT_MS = 3000, PUT_MS = 30000 };

unsigned long option_number(struct argp_state *state, const char *text, unsigned long min,
                            unsigned long max, const char *what)
{
    char *end;
    unsigned long value = strtoul(text, &end, 10);
    if (*end || end == text || strchr(text, '-') || value < min || value > max)
        argp_error(state, "%s: '%s' is not a whole number from %lu to %lu", what, text, min, max);
    return value;
}

uint64_t option_time(struct argp_state *state, const char *text, const char *what)
{
    char *end;
    double seconds = strtod(text, &end);
    if (*end || end == text || !(seconds >= 0.001 && seconds <= 1e6))
        argp_error(state, "%s: '%s' is not a number of seconds from 0.001 to 1000000", what, text);
    return (uint64_t)(seconds * 1000 + 0.5);
}

static error_t parse_connect(int key, char *arg, struct argp_state *state)
{
    connect_options_t *o = state->input;
    char *end;
    double seconds;
    switch (key) {
    case KEY_CONNECT: o->endpoints = arg; break;
    case KEY_JSON: o->json = true; break;
    case KEY_TIMEOUT:
        seconds = strtod(arg, &end);
        if (*end || end == arg || !(seconds >= 0 && seconds < 1e6))
            argp_error(state, "--timeout: '%s' is not a number of seconds", arg);
        o->timeout_ms = (int)(seconds * 1000);
        break;
    default: return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static const struct argp_option connect_entries[] = {
    {"connect", KEY_CONNECT, "ENDPOINTS", 0,
     "Brokers to try in turn, commas between (default $PEACH_BROKER or tcp://127.0.0.1:5001)", 90},
    {"timeout", KEY_TIMEOUT, "SECONDS", 0, "Give up after this time (exit status 3)", 90},
    {"json", KEY_JSON, NULL, 0, "Print JSON, for programs", 90},
    {0}};

const struct argp connect_argp = {connect_entries, parse_connect, NULL, NULL, NULL, NULL, NULL};

void job_options_init(job_options_t *options)
{
    *options = (job_options_t){.job = peach_job_defaults};
    options->job.require = options->require;
    options->job.progress = print_progress;
}

static const char source_name[] = "the source";

static error_t parse_job(int key, char *arg, struct argp_state *state)
{
    job_options_t *o = state->input;
    switch (key) {
    case KEY_CHUNK:
        o->job.chunk = (uint32_t)option_number(state, arg, 1, 1 << 20, "--chunk");
        break;
    case KEY_RETRIES: o->job.retries = (int)option_number(state, arg, 0, 1000, "--retries"); break;
    case KEY_PRIORITY:
        o->job.priority = (uint32_t)option_number(state, arg, 0, 7, "--priority");
        break;
    case KEY_SEED:
        o->job.seed = option_number(state, arg, 0, UINT64_MAX, "--seed");
        o->job.seeded = true;
        break;
    case KEY_REQUIRE:
        if (o->job.require_count == 64) argp_error(state, "more than 64 requirements");
        o->require[o->job.require_count++] = arg;
        break;
    case KEY_RETRY_ERRORS: o->job.retry_errors = true; break;
    case KEY_ITEM_TIMEOUT:
        o->job.item_timeout_ms = (unsigned)option_time(state, arg, "--item-timeout");
        break;
    case KEY_QUEUE_TIMEOUT:
        o->job.queue_timeout_ms = (unsigned)option_time(state, arg, "--queue-timeout");
        break;
    case KEY_DEADLINE: o->job.deadline_ms = option_time(state, arg, "--deadline"); break;
    case KEY_WEIGHT:
        o->job.weight = (unsigned)option_number(state, arg, 1, 1000, "--weight");
        break;
    case KEY_LOGS: o->job.log = print_line; break;
    case KEY_SOURCE: o->source = arg; break;
    case KEY_UNORDERED: o->job.unordered = true; break;
    case KEY_QUIET: o->quiet = true; break;
    case ARGP_KEY_ARG: /* FUNC, unless the source is in its place, and all that follows */
        o->function = o->source ? source_name : arg;
        o->items = state->argv + state->next - (o->source != NULL);
        o->item_count = (int)(state->argv + state->argc - o->items);
        state->next = state->argc;
        break;
    case ARGP_KEY_END:
        if (o->source) o->function = source_name;
        if (!o->function) argp_error(state, "FUNC is missing");
        o->job.progress_arg = &o->quiet;
        break;
    default: return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static const struct argp_option job_entries[] = {
    {"chunk", KEY_CHUNK, "ITEMS", 0, "Items a task (default: chosen by the time they take)", 50},
    {"retries", KEY_RETRIES, "N", 0,
     "Further attempts for an item whose executor or worker was lost (default 2; 0 runs each item "
     "at most once)",
     50},
    {"retry-errors", KEY_RETRY_ERRORS, NULL, 0, "Retry items that raised, too", 50},
    {"item-timeout", KEY_ITEM_TIMEOUT, "SECONDS", 0,
     "How long an item may run; then it is interrupted, and killed if it does not stop", 50},
    {"queue-timeout", KEY_QUEUE_TIMEOUT, "SECONDS", 0, "How long a task may wait for a worker", 50},
    {"deadline", KEY_DEADLINE, "SECONDS", 0, "Items that are unfinished after this time fail", 50},
    {"weight", KEY_WEIGHT, "1..1000", 0, "Share of the fleet against other clients (default 1)",
     50},
    {"seed", KEY_SEED, "N", 0,
     "Give each item a random state of its own: the same results for the same seed, whatever "
     "runs it",
     50},
    {"priority", KEY_PRIORITY, "0..7", 0, "Among this client's jobs; 7 goes first", 50},
    {"require", KEY_REQUIRE, "KEY=VALUE", 0, "Run on workers with this label only; may be repeated",
     50},
    {"source", KEY_SOURCE, "TEXT", 0,
     "Run this Python function, an expression ('lambda x: x*x') or statements with a def, in "
     "place of FUNC",
     50},
    {"logs", KEY_LOGS, NULL, 0,
     "Show what the tasks print, on standard error: HOST/SLOT ITEM: LINE", 50},
    {"unordered", KEY_UNORDERED, NULL, 0, "Print results as they finish", 50},
    {"quiet", KEY_QUIET, NULL, 0, "No progress bar", 50},
    {0}};

const struct argp job_argp = {job_entries, parse_job, NULL, NULL, NULL, NULL, NULL};

bool put_source(peach_t *fleet, job_options_t *options)
{
    if (!options->source) return true;
    peach_value_t *text = peach_value_string(options->source);
    options->code = peach_put(fleet, &text, PUT_MS);
    options->job.code = options->code;
    return options->code != NULL;
}

void parse_options(const struct argp *argp, int argc, char **argv, void *input)
{
    bool connects = false;
    char error[1024];
    for (const struct argp_child *c = argp->children; c && c->argp; c++)
        connects |= c->argp == &connect_argp;
    if (connects)
        argv = config_arguments("client", connect_entries, &argc, argv, error, sizeof error);
    if (!argv) {
        complain("%s", error);
        exit(EXIT_USAGE);
    }
    /* In order: what follows FUNC is items, also when it looks like an option (-5). */
    argp_parse(argp, argc, argv, ARGP_IN_ORDER, NULL, input);
}

peach_t *connect_fleet(const connect_options_t *options, int *code)
{
    peach_error_t error;
    int timeout_ms = options->timeout_ms >= 0 && options->timeout_ms < CONNECT_MS
                         ? options->timeout_ms
                         : CONNECT_MS;
    peach_t *fleet = peach_connect(options->endpoints, timeout_ms, &error);
    if (!fleet) {
        complain("%s", error.message);
        *code = exit_code_of(error.status);
    }
    return fleet;
}
